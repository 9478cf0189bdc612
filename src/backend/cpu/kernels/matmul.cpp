// MatMul of f32: any ranks, broadcasting batches, B transposed or not, constant (panels) or computed.

#include "ops/contraction.h"

#include <fmt/core.h>

#include "backend/cpu/kernels/common.h"
#include "backend/cpu/kernels/contraction.h"
#include "base/checked.h"

namespace sinter::cpu {
namespace {

// Few rows: B is read once as it lies, packing it would double the traffic.
constexpr int64_t few_rows = 8;

struct View {
  uint16_t a, b;
  size_t a_rank, b_rank, rank;
  bool transpose_b;
  OutputView output;
  bool shared_b;  // one matrix B for the whole batch, and A has all of the batch

  const Dim& n(const Problem& problem) const {
    static const Dim one(1);
    const Shape& shape = *problem.types[b].shape;
    return b_rank < 2 ? one : shape[b_rank - (transpose_b ? 2 : 1)];
  }
  const Dim& k(const Problem& problem) const {
    const Shape& shape = *problem.types[b].shape;
    return b_rank < 2 ? shape[0] : shape[b_rank - (transpose_b ? 1 : 2)];
  }
};

View view_of(const Problem& problem) {
  const Stage& stage = problem.stages[0];
  View v{};
  v.a = stage.inputs[0];
  v.b = stage.inputs[1];
  const Shape& a = *problem.types[v.a].shape;
  const Shape& b = *problem.types[v.b].shape;
  const Shape& c = *problem.types[problem.first_result[0]].shape;
  v.a_rank = a.size();
  v.b_rank = b.size();
  v.rank = c.size();
  v.transpose_b = stage.attrs.as<MatMulAttrs>().transpose_b;
  size_t batch = v.rank;
  if (v.b_rank >= 2) v.output.col = static_cast<int>(--batch);
  if (v.a_rank >= 2) v.output.rows = {--batch};
  for (size_t k = 0; k < batch; ++k) v.output.batch.push_back(k);
  v.output.pitched = true;
  v.shared_b = v.a_rank >= 2 && v.a_rank - 2 == batch;
  for (size_t k = 0; k + 2 < v.b_rank; ++k) v.shared_b = v.shared_b && b[k] == Dim(1);
  for (size_t k = 0; k < batch && v.shared_b; ++k) v.shared_b = a[k] == c[k];
  return v;
}

// Whether B is panels, or becomes so while building.
bool will_be_panels(const Problem& problem, const View& view) {
  const Operand& b = problem.operands[view.b];
  if (b.layout.kind != Layout::Kind::any) return b.layout.kind == Layout::Kind::matrix_panels;
  return view.b != view.a && b.constant && view.b_rank >= 2 && view.n(problem).is_constant() &&
         !in_epilogue(problem, view.b);
}

Answer supports(const Kernel& kernel, const Problem& problem, const DeviceSpec& device) {
  if (problem.stages.empty() || !is_op(problem.stages[0], "MatMul")) return Answer::no("not a MatMul");
  if (Answer a = plain_problem(problem); !a) return a;
  const Stage& stage = problem.stages[0];
  if (stage.inputs.size() != 2) return Answer::no("not two operands");
  if (Answer a = accurate_enough(kernel, device, stage.attrs.as<MatMulAttrs>().numerics); !a) return a;
  for (size_t i = 0; i < 2; ++i)
    if (Answer a = device_f32(problem, stage.inputs[i], i == 0 && takes_bf16(*table_of(kernel, device))); !a) return a;
  const View view = view_of(problem);
  if (view.a_rank == 0 || view.b_rank == 0) return Answer::no("an operand is a scalar");
  if (view.transpose_b && view.b_rank < 2) return Answer::no("a vector cannot be transposed");
  const Layout& a_layout = problem.operands[view.a].layout;
  if (!row_major_or_any(a_layout) && !lies_as(a_layout, Layout())) return Answer::no("A must be row-major");
  const Layout& b = problem.operands[view.b].layout;
  if (!row_major_or_any(b)) {
    const Dim& n = view.n(problem);
    if (view.b_rank < 2 || !n.is_constant() || view.a == view.b || in_epilogue(problem, view.b) ||
        b != matrix_layout(*table_of(kernel, device), n.constant(), view.transpose_b))
      return Answer::no("B has a layout of another kernel");
  }
  if (problem.operands[view.a].type.dtype == DType::bf16 && !will_be_panels(problem, view))
    return Answer::no("an A of bf16 needs a B of panels");
  if (rounds_weights(*table_of(kernel, device)) && !will_be_panels(problem, view))
    return Answer::no("B is no weights that are known while building");
  return epilogue_supported(problem, view.output);
}

Needs needs(const Kernel& kernel, const Problem& problem, const Config&, const DeviceSpec& device) {
  const View view = view_of(problem);
  Needs out;
  for (size_t i = 0; i < problem.operands.size(); ++i) {
    const Operand& operand = problem.operands[i];
    Layout layout = operand.layout;
    if (layout.kind == Layout::Kind::any) {
      layout = i == view.b && will_be_panels(problem, view)
                   ? matrix_layout(*table_of(kernel, device), view.n(problem).constant(), view.transpose_b)
                   : Layout();
    }
    out.operands.push_back(std::move(layout));
  }
  for (const Problem::Result& result : problem.results) out.results.push_back(settled(result.layout));
  return out;
}

double cost(const Kernel& kernel, const Problem& problem, std::span<const int64_t> symbols, const DeviceSpec& device) {
  const View view = view_of(problem);
  const double c = elements_at(problem.types[problem.first_result[0]], symbols);
  const double k = static_cast<double>(std::max<int64_t>(1, view.k(problem).evaluate(symbols)));
  const double bytes =
      4 * (c + elements_at(problem.types[view.a], symbols) + elements_at(problem.types[view.b], symbols));
  const double n = static_cast<double>(std::max<int64_t>(1, view.n(problem).evaluate(symbols)));
  return contraction_cost(*table_of(kernel, device), c / n, n, k, bytes);
}

std::shared_ptr<const void> prepare(const Kernel& kernel, const Problem& problem, const Config&,
                                    const DeviceSpec& device) {
  const View view = view_of(problem);
  auto out = std::make_shared<PreparedContraction>();
  out->table = table_of(kernel, device);
  out->view = view.output;
  out->chain = chain_of(problem.stages[0].attrs.as<MatMulAttrs>().numerics);
  // Loops that take B as it lies can do no more.
  out->epilogue = make_epilogue(problem, view.output, -1, device.level,
                                will_be_panels(problem, view) ? loops_can(*out->table) : LoopsCan());
  return out;
}

[[noreturn]] void mismatch() { throw Error(Code::invalid_argument, "the operands of a MatMul do not fit together"); }

void bind(const Kernel&, const void* prepared_pointer, const BindContext& c, Bound& bound) {
  const auto& prepared = *static_cast<const PreparedContraction*>(prepared_pointer);
  const View view = view_of(c.problem);
  const Dims& a = c.operands[view.a];
  const Dims& b = c.operands[view.b];
  // The extents of the main stage's result; every result of the problem has them.
  const Dims& y = c.results[0];
  Product p;
  p.a_operand = view.a;
  p.b_operand = view.b;
  p.narrow_a = c.problem.types[view.a].dtype == DType::bf16;
  ContractArgs& args = p.args;
  args.k = a.back();
  args.m = view.a_rank >= 2 ? a[view.a_rank - 2] : 1;
  args.n = view.b_rank < 2 ? 1 : b[view.b_rank - (view.transpose_b ? 2 : 1)];
  const int64_t b_k = view.b_rank < 2 ? b[0] : b[view.b_rank - (view.transpose_b ? 1 : 2)];
  if (b_k != args.k || y.size() != view.rank || (view.output.col >= 0 && y[view.output.col] != args.n) ||
      (!view.output.rows.empty() && y[view.output.rows[0]] != args.m))
    mismatch();
  args.lda = row_pitch(c.problem.operands[view.a].layout, args.k);
  args.ldc = row_pitch(c.problem.results[0].layout, args.n);
  const int64_t a_matrix = checked_mul(args.m, args.lda, "A"), b_matrix = checked_mul(args.k, args.n, "B");
  p.b_packed = c.problem.operands[view.b].layout.kind == Layout::Kind::matrix_panels;
  if (view.shared_b && prepared.epilogue.whole_batch) {
    int64_t images = 1;
    for (size_t axis : view.output.batch) {
      if (a[axis] != y[axis]) mismatch();
      images = checked_mul(images, y[axis], "batch");
    }
    args.m = checked_mul(args.m, images, "rows");
  } else {
    // One call per matrix of the batch; axes of extent 1 repeat.
    p.batch_axes = view.output.batch.size();
    const auto strides = [&](const Dims& dims, size_t rank, int64_t matrix) {
      std::vector<int64_t> out(p.batch_axes, 0);
      const size_t own = rank < 2 ? 0 : rank - 2;
      int64_t stride = matrix;
      for (size_t j = 1; j <= own; ++j) {
        const int64_t extent = dims[own - j], whole = y[p.batch_axes - j];
        if (extent != 1 && extent != whole) mismatch();
        if (extent != 1) out[p.batch_axes - j] = stride;
        stride = checked_mul(stride, extent, "batch");
      }
      return out;
    };
    for (size_t axis : view.output.batch) p.call_dims.push_back(y[axis]);
    p.a_strides = strides(a, view.a_rank, a_matrix);
    p.b_strides = strides(b, view.b_rank, 1);
    p.c_strides.assign(p.batch_axes, 0);
    int64_t stride = checked_mul(args.m, args.ldc, "result");
    for (size_t k = p.batch_axes; k-- > 0;) {
      p.c_strides[k] = stride;
      stride = checked_mul(stride, y[k], "result");
    }
  }
  if (!p.b_packed) {
    for (size_t k = 0; k + 2 < view.b_rank; ++k) p.b_matrix_dims.push_back(b[k]);
    p.b_matrix_strides.assign(p.b_matrix_dims.size(), 0);
    int64_t stride = b_matrix;
    for (size_t k = p.b_matrix_dims.size(); k-- > 0;) {
      p.b_matrix_strides[k] = stride;
      stride = checked_mul(stride, p.b_matrix_dims[k], "batch");
      p.b_matrices = checked_mul(p.b_matrices, p.b_matrix_dims[k], "batch");
    }
    p.pack.k = args.k;
    p.pack.n = args.n;
    p.pack.k_stride = view.transpose_b || view.b_rank < 2 ? 1 : args.n;
    p.pack.n_stride = view.transpose_b || view.b_rank < 2 ? args.k : 1;
    p.unpacked = args.m <= few_rows || args.n == 1;
    if (p.unpacked && args.n == 1) {
      // A column is a row of dot products.
      p.pack.k_stride = 1;
      p.pack.n_stride = args.k;
    }
    if (p.unpacked)
      for (int64_t& s : p.b_strides) s = checked_mul(s, b_matrix, "batch");
  }
  bind_product(prepared, c, std::move(p), bound);
}

bool overwrites(const Kernel&, const Problem& problem, size_t operand) {
  return epilogue_overwrites(problem, view_of(problem).output, operand);
}

constexpr Kernel family = {.name = "",
                           .supports = supports,
                           .needs = needs,
                           .cost = cost,
                           .prepare = prepare,
                           .bind = bind,
                           .run = run_product,
                           .may_overwrite = overwrites};

}  // namespace

const Kernel matmul_rows[7] = {row_with(family, "matmul_f32", &row_of<PanelNumbers::plain>),
                               row_with(family, "matmul_bf16", &row_of<PanelNumbers::planes1>),
                               row_with(family, "matmul_bf16x3", &row_of<PanelNumbers::planes2>),
                               row_with(family, "matmul_bf16x6", &row_of<PanelNumbers::planes3>),
                               row_with(family, "matmul_f16", &row_of<PanelNumbers::f16_plane>),
                               row_with(family, "matmul_wbf16", &row_of<PanelNumbers::bf16>),
                               row_with(family, "matmul_wf16", &row_of<PanelNumbers::f16>)};

}  // namespace sinter::cpu
