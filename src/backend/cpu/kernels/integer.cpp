// Products of 8-bit integers in i32: MatMulInteger of any ranks and ConvInteger with one to three spatial axes,
// channels last. Constant B comes as panels. Other B is read as it lies, row after row (weights of a convolution get
// such a layout): each chunk packs its rows of A, and one panel of such a B after the other, into its scratch. What
// stands behind the product runs on blocks of its sums.

#include <cstring>

#include "backend/cpu/device.h"
#include "backend/cpu/isa/integer.h"
#include "backend/cpu/kernels/common.h"
#include "backend/cpu/kernels/contraction.h"
#include "backend/cpu/kernels/convolution.h"
#include "backend/cpu/kernels/epilogue.h"
#include "backend/cpu/kernels/families.h"
#include "backend/cpu/kernels/gather_bytes.h"
#include "backend/cpu/kernels/integer.h"
#include "base/checked.h"
#include "ops/contraction.h"

namespace sinter::cpu {

void integer_mismatch() {
  throw Error(Code::invalid_argument, "the operands of an integer product do not fit together");
}

const IntegerTable& integer_table(const DeviceSpec& device) {
#ifdef SINTER_X86
  if (device.level >= amx && (device.features & feature_amx_int8)) return integer_amx;
  if (device.level >= avx512 && (device.features & feature_avx512_vnni)) return integer_vnni_avx512;
  if (device.level >= avx512) return integer_avx512;
  if (device.level == avx2) return integer_avx2;
#else
  (void)device;
#endif
  return integer_portable;
}

std::shared_ptr<const void> prepare_integer(const Kernel&, const Problem&, const Config&, const DeviceSpec& device) {
  return std::make_shared<const IntegerTable*>(&integer_table(device));
}

namespace {

// Rows of a block that stages run on: its sums stay in the first cache.
int64_t block_rows(const IntegerTable& table) { return align_up(48, table.row_unit, "rows"); }

// Made once per engine.
struct Prepared {
  const IntegerTable* table;
  OutputView view;
  Epilogue epilogue;
};

// Everything about one shape. Calls are products of one size: matrices of a batch, or groups of a convolution, of each
// image where stages want that.
struct Plan {
  const Prepared* prepared = nullptr;
  const IntegerTable* table;
  int64_t calls = 1, m = 0, n = 0, k = 0;
  Dims call_dims;
  size_t batch_axes = 0;                                 // leading axes of calls that are the view's batch axes
  Dims a_strides, b_strides, c_strides, column_strides;  // bytes, bytes, elements and columns from call to call
  int64_t lda = 0, ldb = 0, ldc = 0;
  bool b_packed = false;
  BytePanels panels;                          // of each B, when packed
  bool row_zeros = false, col_zeros = false;  // one zero point for each row or column, else one for all
  bool windowed = false;
  ByteWindows windows;  // of A then
  int64_t m_step = 1, m_parts = 0, n_step = 1, n_parts = 0;
  bool plain = false;     // rows of A stay as they lie
  bool gathered = false;  // windows are gathered into packed rows at once
  // Bytes into the scratch.
  int64_t row_zero = 0, row_term = 0, ones = 0, ones_at = 0, line = 0, panel = 0, columns = 0, block = 0, tile = 0;
  BoundEpilogue epilogue;
};

Answer operands_supported(const Problem& problem, const char* name) {
  if (problem.stages.empty() || !is_op(problem.stages[0], name)) return Answer::no("another operator");
  if (Answer a = plain_problem(problem); !a) return a;
  const Stage& stage = problem.stages[0];
  for (uint16_t v : stage.inputs) {
    if (v == absent_operand) continue;
    if (v >= problem.operands.size() || problem.operands[v].host) return Answer::no("an operand lies on the host");
  }
  for (size_t i = 2; i < stage.inputs.size(); ++i)
    if (has(stage, i) && !row_major_or_any(problem.operands[stage.inputs[i]].layout))
      return Answer::no("zero points must be row-major");
  return Answer::yes();
}

bool single(const Type& type) {
  return std::all_of(type.shape->begin(), type.shape->end(), [](const Dim& d) { return d == Dim(1); });
}

// One zero point for each column: the last axis is that of the columns, all before it have extent 1.
bool along_columns(const Type& type) {
  const Shape& shape = *type.shape;
  return !shape.empty() && std::all_of(shape.begin(), shape.end() - 1, [](const Dim& d) { return d == Dim(1); });
}

// Constant B is packed while building; one that is two operands at once stays.
bool becomes_panels(const Problem& problem) {
  const Stage& stage = problem.stages[0];
  const Operand& b = problem.operands[stage.inputs[in_b]];
  if (b.layout.kind != Layout::Kind::any || !b.constant) return false;
  return std::count(stage.inputs.begin(), stage.inputs.end(), stage.inputs[in_b]) == 1 &&
         !in_epilogue(problem, stage.inputs[in_b]);
}

std::shared_ptr<const void> prepare_with(const Problem& problem, OutputView view, const DeviceSpec& device) {
  auto out = std::make_shared<Prepared>();
  out->table = &integer_table(device);
  out->epilogue = make_epilogue(problem, view, -1, device.level);
  out->view = std::move(view);
  return out;
}

// ---- MatMulInteger ----

Layout byte_panels() { return Layout::matrix_panels(integer_columns, BytePanels::tile, false); }

OutputView matrix_view(const Problem& problem) {
  const size_t rank = problem.types[problem.first_result[0]].shape->size();
  OutputView view;
  for (size_t k = 0; k + 2 < rank; ++k) view.batch.push_back(k);
  view.rows = {rank - 2};
  view.col = static_cast<int>(rank - 1);
  return view;
}

std::shared_ptr<const void> prepare_matmul(const Kernel&, const Problem& problem, const Config&,
                                           const DeviceSpec& device) {
  return prepare_with(problem, matrix_view(problem), device);
}

bool matmul_overwrites(const Kernel&, const Problem& problem, size_t operand) {
  return epilogue_overwrites(problem, matrix_view(problem), operand);
}

Needs needs_matmul(const Kernel& kernel, const Problem& problem, const Config& config, const DeviceSpec& device) {
  Needs out = settled_needs(kernel, problem, config, device);
  if (becomes_panels(problem)) out.operands[problem.stages[0].inputs[in_b]] = byte_panels();
  return out;
}

Answer supports_matmul(const Kernel&, const Problem& problem, const DeviceSpec&) {
  if (Answer a = operands_supported(problem, "MatMulInteger"); !a) return a;
  const Stage& stage = problem.stages[0];
  const Type &a = problem.types[stage.inputs[in_a]], &b = problem.types[stage.inputs[in_b]];
  if (a.shape->size() < 2 || b.shape->size() < 2) return Answer::no("an operand is a vector");
  if (!row_major_or_any(problem.operands[stage.inputs[in_a]].layout)) return Answer::no("A must be row-major");
  const Layout& b_layout = problem.operands[stage.inputs[in_b]].layout;
  if (!row_major_or_any(b_layout) && (b_layout != byte_panels() || stage.inputs[in_a] == stage.inputs[in_b]))
    return Answer::no("B has a layout of another kernel");
  if (has(stage, in_a_zero)) {
    const Type& zero = problem.types[stage.inputs[in_a_zero]];
    const bool by_row = zero.shape->size() == a.shape->size() && zero.shape->back() == Dim(1) &&
                        std::equal(a.shape->begin(), a.shape->end() - 1, zero.shape->begin());
    if (!single(zero) && !by_row) return Answer::no("zero points of A lie otherwise than by rows");
  }
  if (has(stage, in_b_zero)) {
    const Type& zero = problem.types[stage.inputs[in_b_zero]];
    if (!single(zero) && !along_columns(zero)) return Answer::no("zero points of B lie otherwise than by columns");
  }
  if (!row_major_or_any(b_layout) && in_epilogue(problem, stage.inputs[in_b]))
    return Answer::no("B is read in two layouts");
  return epilogue_supported(problem, matrix_view(problem), DType::i32);
}

double product_cost(const Problem& problem, std::span<const int64_t> symbols, const DeviceSpec& device, double depth) {
  const Stage& stage = problem.stages[0];
  const double c = elements_at(problem.types[problem.first_result[0]], symbols);
  const double bytes = 4 * c + elements_at(problem.types[stage.inputs[in_a]], symbols) +
                       elements_at(problem.types[stage.inputs[in_b]], symbols);
  return contraction_cost(contract_table(device.level), c, depth / 2, 1, bytes);
}

double cost_matmul(const Kernel&, const Problem& problem, std::span<const int64_t> symbols, const DeviceSpec& device) {
  const Dim& k = problem.types[problem.stages[0].inputs[in_a]].shape->back();
  return product_cost(problem, symbols, device, static_cast<double>(std::max<int64_t>(1, k.evaluate(symbols))));
}

// Chunks and scratch.
void finish(Plan& p, const BindContext& c, Bound& bound) {
  const Stage& stage = c.problem.stages[0];
  bound.chunks[0] = 0;
  for (int64_t d : p.call_dims) p.calls = checked_mul(p.calls, d, "calls");
  if (p.calls == 0 || p.m == 0 || p.n == 0) return;
  const auto zeros = [&](size_t input) {
    return has(stage, input) ? product(c.operands[stage.inputs[input]]) : int64_t{1};
  };
  p.row_zeros = zeros(in_a_zero) != 1;
  p.col_zeros = zeros(in_b_zero) != 1;
  // Sums of A's rows are needed where columns have zero points.
  const bool bytes_alone = !has(stage, in_b_zero) && c.problem.types[stage.inputs[in_a]].dtype == DType::u8 &&
                           c.problem.types[stage.inputs[in_b]].dtype == DType::i8 && !p.row_zeros;
  p.plain = bytes_alone && !p.windowed && p.table->takes_plain(p.k, p.lda);
  p.gathered = bytes_alone && p.windowed && p.k > 0 && p.table->plain_rows;
  const int64_t row_bytes = p.table->row_bytes(p.k);
  constexpr int64_t block_bytes = 256 << 10;
  const int64_t unit = p.table->row_unit;
  const int64_t rows = std::clamp<int64_t>(block_bytes / std::max<int64_t>(1, row_bytes), unit, 192) / unit * unit;
  const int64_t work = checked_mul(checked_mul(p.m, p.n, "work"), std::max<int64_t>(p.k, 1), "work");
  const int64_t wanted = c.threads <= 1 ? 1 : std::min<int64_t>(work / (1 << 19) + 1, 4 * int64_t{c.threads});
  const int64_t by_threads = (p.m + wanted - 1) / wanted;
  p.m_step = std::min(rows, std::max<int64_t>(48, (by_threads + unit - 1) / unit * unit));
  p.m_parts = (p.m + p.m_step - 1) / p.m_step;
  const int64_t panels = (p.n + integer_columns - 1) / integer_columns;
  const int64_t parts = std::min(panels, std::max<int64_t>(1, wanted / std::max<int64_t>(1, p.m_parts * p.calls)));
  p.n_step = (panels + parts - 1) / parts * integer_columns;
  p.n_parts = (p.n + p.n_step - 1) / p.n_step;
  bound.chunks[0] = checked_mul(p.calls, checked_mul(p.m_parts, p.n_parts, "chunks"), "chunks");
  int64_t at = 0;
  const auto place = [&](int64_t bytes) {
    const int64_t here = at;
    at = checked_add(at, align_up(bytes, 64, "scratch"), "scratch");
    return here;
  };
  place(p.plain ? 0 : checked_mul(p.m_step, row_bytes, "scratch"));
  p.row_zero = place(p.m_step * 4);
  p.row_term = place(p.m_step * 4);
  p.ones = place(p.k);
  p.ones_at = place(row_bytes);
  p.line = place(p.k);
  p.panel = place(p.b_packed ? 0 : BytePanels{p.k, integer_columns, integer_columns, BytePanels::tile}.bytes());
  p.columns = place(4 * 4 * integer_columns);
  const Epilogue& epilogue = p.prepared->epilogue;
  if (epilogue.executor) {
    const int64_t last = p.n % integer_columns ? p.n % integer_columns : integer_columns;
    p.epilogue = bind_epilogue(epilogue, p.prepared->view, c, p.batch_axes > 0, std::min(integer_columns, p.n), last);
    p.block = place(block_rows(*p.table) * integer_columns * 4);
    p.tile = place(p.epilogue.scratch);
  }
  bound.scratch = at;
}

void bind_matmul(const Kernel&, const void* prepared, const BindContext& c, Bound& bound) {
  Plan& p = emplace<Plan>(bound);
  p.prepared = static_cast<const Prepared*>(prepared);
  p.table = p.prepared->table;
  const Stage& stage = c.problem.stages[0];
  const Dims &a = c.operands[stage.inputs[in_a]], &b = c.operands[stage.inputs[in_b]], &y = c.results[0];
  const size_t batch = y.size() - 2;
  p.m = a[a.size() - 2];
  p.k = a.back();
  p.n = b.back();
  if (b[b.size() - 2] != p.k || y.back() != p.n || y[batch] != p.m) integer_mismatch();
  p.lda = p.k;
  p.ldb = p.ldc = p.n;
  p.b_packed = c.problem.operands[stage.inputs[in_b]].layout.kind == Layout::Kind::matrix_panels && p.k > 0;
  p.panels = {p.k, p.n, integer_columns, BytePanels::tile};
  const auto strides = [&](const Dims& dims, int64_t matrix) {
    Dims out(batch, 0);
    for (size_t j = 1; j + 2 <= dims.size(); ++j) {
      const int64_t extent = dims[dims.size() - 2 - j];
      if (j > batch || (extent != 1 && extent != y[batch - j])) integer_mismatch();
      if (extent != 1) out[batch - j] = matrix;
      matrix = checked_mul(matrix, extent, "batch");
    }
    return out;
  };
  p.a_strides = strides(a, checked_mul(p.m, p.k, "A"));
  p.b_strides = strides(b, p.b_packed ? p.panels.bytes() : checked_mul(p.k, p.n, "B"));
  p.c_strides = strides(y, checked_mul(p.m, p.n, "result"));
  p.column_strides.assign(batch, 0);
  p.call_dims.assign(y.begin(), y.begin() + static_cast<ptrdiff_t>(batch));
  p.batch_axes = batch;
  const bool shared_b = std::all_of(p.b_strides.begin(), p.b_strides.end(), [](int64_t s) { return s == 0; });
  if (shared_b && p.prepared->epilogue.whole_batch && a.size() == y.size() &&
      std::equal(a.begin(), a.end() - 1, y.begin())) {
    for (size_t k = 0; k < batch; ++k) p.m = checked_mul(p.m, y[k], "rows");
    p.call_dims.clear();
    p.batch_axes = 0;
  }
  const auto zero_fits = [&](size_t input, int64_t count) {
    const int64_t have = has(stage, input) ? product(c.operands[stage.inputs[input]]) : 1;
    if (have != 1 && have != count) integer_mismatch();
  };
  zero_fits(in_a_zero, product(a, 0, a.size() - 1));
  zero_fits(in_b_zero, p.n);
  finish(p, c, bound);
}

// ---- ConvInteger ----

}  // namespace

Answer integer_conv_supports(const Kernel&, const Problem& problem, const DeviceSpec&) {
  if (Answer a = operands_supported(problem, "ConvInteger"); !a) return a;
  const Stage& stage = problem.stages[0];
  const ConvAttrs& attrs = stage.attrs.as<ConvAttrs>();
  const uint16_t x = stage.inputs[in_a], w = stage.inputs[in_b];
  const size_t rank = problem.types[x].shape->size();
  if (rank < 3 || problem.types[w].shape->size() != rank) return Answer::no("ranks do not fit");
  if (Answer a = window_known(rank - 2, window_ref(attrs)); !a) return a;
  if (attrs.group < 1 || attrs.group > INT32_MAX) return Answer::no("group out of range");
  for (size_t i = 0; i < stage.inputs.size(); ++i)
    for (size_t j = 0; j < 2; ++j)
      if (i != j && stage.inputs[i] == stage.inputs[j]) return Answer::no("an operand stands twice");
  if (!channels_last_or_any(problem.operands[x].layout, rank)) return Answer::no("channels must be last");
  const Layout& filters = problem.operands[w].layout;
  if (in_epilogue(problem, w)) return Answer::no("filters are read in two layouts");
  if (filters.kind != Layout::Kind::any && filters != taps_first(rank))
    return Answer::no("filters must lie with their columns innermost");
  if (has(stage, in_a_zero) && !single(problem.types[stage.inputs[in_a_zero]]))
    return Answer::no("several zero points of the image");
  if (has(stage, in_b_zero)) {
    const Shape& zero = *problem.types[stage.inputs[in_b_zero]].shape;
    const bool by_filter =
        zero.size() == rank && std::all_of(zero.begin() + 1, zero.end(), [](const Dim& d) { return d == Dim(1); });
    if (!single(problem.types[stage.inputs[in_b_zero]]) && !by_filter)
      return Answer::no("zero points of filters lie otherwise than by filters");
  }
  return epilogue_supported(problem, image_view(rank), DType::i32);
}

Needs integer_conv_needs(const Kernel&, const Problem& problem, const Config&, const DeviceSpec&) {
  const size_t rank = problem.types[problem.stages[0].inputs[in_a]].shape->size();
  return filtered_needs(problem, image_view(rank), taps_first(rank));
}

bool integer_conv_overwrites(const Kernel&, const Problem& problem, size_t operand) {
  return epilogue_overwrites(problem, image_view(problem.types[problem.stages[0].inputs[in_a]].shape->size()), operand);
}

namespace {

Layout filter_panels(const ConvAttrs& attrs) {
  return Layout::conv_panels(integer_columns, BytePanels::tile, static_cast<int32_t>(attrs.group));
}

Answer supports_conv(const Kernel& kernel, const Problem& problem, const DeviceSpec& device) {
  if (problem.stages.empty() || !is_op(problem.stages[0], "ConvInteger")) return Answer::no("another operator");
  const Stage& stage = problem.stages[0];
  const uint16_t w = stage.inputs[in_b];
  if (w >= problem.operands.size() || problem.operands[w].layout.kind != Layout::Kind::conv_panels)
    return integer_conv_supports(kernel, problem, device);
  if (problem.operands[w].layout != filter_panels(stage.attrs.as<ConvAttrs>()))
    return Answer::no("panels of another width");
  Problem open = problem;
  open.operands[w].layout = Layout::any();
  return integer_conv_supports(kernel, open, device);
}

Needs needs_conv(const Kernel& kernel, const Problem& problem, const Config& config, const DeviceSpec& device) {
  Needs out = integer_conv_needs(kernel, problem, config, device);
  const Stage& stage = problem.stages[0];
  const ConvAttrs& attrs = stage.attrs.as<ConvAttrs>();
  const Operand& w = problem.operands[stage.inputs[in_b]];
  if (w.layout.kind != Layout::Kind::any) return out;
  const Dim& filters = (*w.type.shape)[0];
  // Groups of few columns would be mostly padding.
  const bool wide = attrs.group == 1 || (filters.is_constant() && filters.constant() / attrs.group >= BytePanels::tile);
  if (wide && becomes_panels(problem)) out.operands[stage.inputs[in_b]] = filter_panels(attrs);
  return out;
}

double cost_conv(const Kernel&, const Problem& problem, std::span<const int64_t> symbols, const DeviceSpec& device) {
  const Type& w = problem.types[problem.stages[0].inputs[in_b]];
  const double filters = static_cast<double>(std::max<int64_t>(1, (*w.shape)[0].evaluate(symbols)));
  // Each group packs its own rows and fills a part of its panels.
  const double groups = static_cast<double>(problem.stages[0].attrs.as<ConvAttrs>().group);
  const double waste = std::max(1.0, 64.0 * groups / filters);
  return product_cost(problem, symbols, device, waste * elements_at(w, symbols) / filters);
}

std::shared_ptr<const void> prepare_conv(const Kernel&, const Problem& problem, const Config&,
                                         const DeviceSpec& device) {
  return prepare_with(problem, image_view(problem.types[problem.stages[0].inputs[in_a]].shape->size()), device);
}

void bind_conv(const Kernel&, const void* prepared, const BindContext& c, Bound& bound) {
  Plan& p = emplace<Plan>(bound);
  p.prepared = static_cast<const Prepared*>(prepared);
  p.table = p.prepared->table;
  const Stage& stage = c.problem.stages[0];
  const ConvAttrs& attrs = stage.attrs.as<ConvAttrs>();
  const Dims &x = c.operands[stage.inputs[in_a]], &w = c.operands[stage.inputs[in_b]], &y = c.results[0];
  const int64_t groups = attrs.group;
  if (w[0] % groups != 0 || checked_mul(w[1], groups, "channels") != x[1] || y[0] != x[0] || y[1] != w[0])
    integer_mismatch();
  if (has(stage, in_b_zero)) {
    const int64_t have = product(c.operands[stage.inputs[in_b_zero]]);
    if (have != 1 && have != w[0]) integer_mismatch();
  }
  bound.chunks[0] = 0;
  if (product(y) == 0) return;
  p.windows.window = make_window(x, y, std::span(w).subspan(2), window_ref(attrs));
  const int64_t pixels_in = element_count(Dims(x.begin() + 2, x.end()));
  const int64_t pixels_out = element_count(Dims(y.begin() + 2, y.end()));
  const int64_t taps = element_count(Dims(w.begin() + 2, w.end()));
  p.windows.channels = w[1];
  p.k = checked_mul(w[1], taps, "depth");
  const bool by_image = !p.prepared->epilogue.whole_batch;
  p.m = by_image ? pixels_out : checked_mul(x[0], pixels_out, "pixels");
  p.n = w[0] / groups;
  p.lda = p.windows.pixel_stride = x[1];
  p.windows.image_stride = checked_mul(pixels_in, x[1], "image");
  p.ldb = p.ldc = w[0];
  p.b_packed = c.problem.operands[stage.inputs[in_b]].layout.kind == Layout::Kind::conv_panels && p.k > 0;
  p.panels = {p.k, p.n, integer_columns, BytePanels::tile};
  if (by_image) {
    p.batch_axes = 1;
    p.call_dims.push_back(x[0]);
    p.a_strides.push_back(p.windows.image_stride);
    p.b_strides.push_back(0);
    p.c_strides.push_back(checked_mul(pixels_out, p.ldc, "image"));
    p.column_strides.push_back(0);
  }
  p.call_dims.push_back(groups);
  p.a_strides.push_back(w[1]);
  p.b_strides.push_back(p.b_packed ? p.panels.bytes() : p.n);
  p.c_strides.push_back(p.n);
  p.column_strides.push_back(p.n);
  p.windowed = !takes_pixels_alone(p.windows.window);
  finish(p, c, bound);
}

// ---- running ----

Status run(const Launch& launch) {
  const Plan& p = launch.bound->as<Plan>();
  const uint8_t flip_a = flip_of(launch, in_a, DType::i8), flip_b = flip_of(launch, in_b, DType::u8);
  int64_t rest = launch.chunk;
  const int64_t n_part = rest % p.n_parts;
  rest /= p.n_parts;
  const int64_t m_begin = rest % p.m_parts * p.m_step, rows = std::min(p.m, m_begin + p.m_step) - m_begin;
  int64_t call = rest / p.m_parts, a_at = 0, b_at = 0, c_at = 0, first_col = 0;
  int64_t batch[max_rank] = {};
  for (size_t k = p.call_dims.size(); k-- > 0; call /= p.call_dims[k]) {
    const int64_t at = call % p.call_dims[k];
    a_at += at * p.a_strides[k];
    b_at += at * p.b_strides[k];
    c_at += at * p.c_strides[k];
    first_col += at * p.column_strides[k];
    if (k < p.batch_axes) batch[k] = at;
  }
  const auto words = [&](int64_t offset) { return reinterpret_cast<uint32_t*>(launch.scratch + offset); };
  uint32_t *row_zero = words(p.row_zero), *row_term = words(p.row_term);
  const uint8_t *a = bytes_of(launch, in_a), *b = bytes_of(launch, in_b);
  const uint8_t *a_zero = bytes_of(launch, in_a_zero), *b_zero = bytes_of(launch, in_b_zero);
  const int64_t row_bytes = p.table->row_bytes(p.k);
  auto* line = reinterpret_cast<uint8_t*>(launch.scratch + p.line);
  // As a_zero lies, rows of all calls follow one another; by row only without a window.
  const int64_t first_zero = p.row_zeros ? a_at / std::max<int64_t>(1, p.k) + m_begin : 0;
  // By row only without a window. Nothing is read of an empty operand.
  ByteGatherer windows(p.windows, a ? a + a_at : a, m_begin, a_zero ? *a_zero : 0);
  for (int64_t r = 0; r < rows && p.gathered; ++r) {
    auto* to = reinterpret_cast<uint8_t*>(launch.scratch + r * row_bytes);
    windows.next(to);
    std::memset(to + p.k, 0, static_cast<size_t>(row_bytes - p.k));
  }
  for (int64_t r = 0; r < rows && !p.plain && !p.gathered; ++r) {
    const uint8_t zero = a_zero ? a_zero[p.row_zeros ? first_zero + r : 0] : 0;
    const uint8_t* from = line;
    if (p.k == 0)
      ;
    else if (p.windowed)
      windows.next(line);
    else
      from = a + a_at + (m_begin + r) * p.lda;
    const uint32_t sum = p.table->pack_row(from, p.k, flip_a, launch.scratch + r * row_bytes);
    row_zero[r] = static_cast<uint8_t>(zero ^ flip_a);
    row_term[r] = sum - static_cast<uint32_t>(p.k) * row_zero[r];
  }
  std::byte* ones = launch.scratch + p.ones_at;
  if (!p.b_packed) {
    std::memset(launch.scratch + p.ones, 1, static_cast<size_t>(p.k));
    p.table->pack_row(reinterpret_cast<const uint8_t*>(launch.scratch + p.ones), p.k, 0, ones);
  }

  uint32_t *col_sum = words(p.columns), *col_zero = col_sum + integer_columns, *start = col_zero + integer_columns;
  uint32_t* const nothing = start + integer_columns;
  std::memset(nothing, 0, 4 * integer_columns);
  // One zero point for all of A, and none of B, is a number to each column.
  const bool by_column = !p.row_zeros && !b_zero && flip_b == 0;
  const uint32_t zero = static_cast<uint8_t>((a_zero ? *a_zero : 0) ^ flip_a);
  const bool stages = p.prepared->epilogue.executor != nullptr;
  EpilogueRun epilogue(p.epilogue, launch, launch.scratch + p.tile);
  if (stages) epilogue.at(std::span(batch, p.batch_axes), first_col);
  auto* c = static_cast<uint32_t*>(launch.operands[launch.problem->operands.size()]);
  const int64_t n_begin = n_part * p.n_step, n_end = std::min(p.n, n_begin + p.n_step);
  for (int64_t n = n_begin; n < n_end; n += integer_columns) {
    IntegerProduct product;
    product.k = p.k;
    product.cols = std::min(integer_columns, n_end - n);
    if (p.b_packed) {
      product.b = b + b_at + p.panels.panel_at(n);
      // Behind the last panel of weights lies what the next step multiplies by: they are kept in the order of use.
      const bool more = n + integer_columns < n_end || (m_begin + rows == p.m && n_end == p.n);
      product.next = more ? b + b_at + p.panels.panel_at(n + integer_columns) : nullptr;
      product.col_sum = reinterpret_cast<const uint32_t*>(b + b_at + p.panels.sum_at(n));
    } else {
      product.b = launch.scratch + p.panel;
      if (p.k > 0) p.table->pack_panel(b + b_at + n, p.k, p.ldb, product.cols, flip_b, launch.scratch + p.panel);
      product.rows = 1;
      product.a = ones;
      product.start = nothing;
      product.c = col_sum;
      p.table->multiply(product);
      product.col_sum = col_sum;
    }
    const int64_t first = p.col_zeros ? first_col + n : 0;
    product.start = nothing;
    if (by_column) {
      for (int64_t j = 0; j < product.cols; ++j) start[j] = 0u - zero * product.col_sum[j];
      product.start = start;
    } else {
      for (int64_t j = 0; j < product.cols; ++j) {
        const uint8_t own = b_zero ? b_zero[p.col_zeros ? first + j : 0] : 0;
        col_zero[j] = static_cast<uint32_t>(int32_t{static_cast<int8_t>(own ^ flip_b)});
      }
      product.col_zero = col_zero;
    }
    product.a_stride = p.plain ? p.lda : row_bytes;
    product.ldc = stages ? integer_columns : p.ldc;
    const void* const next = product.next;
    const int64_t step = stages ? block_rows(*p.table) : rows;
    for (int64_t r = 0; r < rows; r += step) {
      product.rows = std::min(step, rows - r);
      product.a = p.plain ? static_cast<const void*>(a + a_at + (m_begin + r) * p.lda) : launch.scratch + r * row_bytes;
      if (!by_column) {
        product.row_zero = row_zero + r;
        product.row_term = row_term + r;
      }
      product.c = stages ? words(p.block) : c + c_at + m_begin * p.ldc + n;
      product.next = r + step < rows ? nullptr : next;
      p.table->multiply(product);
      if (stages)
        EpilogueRun::block(&epilogue, m_begin + r, product.rows, n, product.cols, reinterpret_cast<float*>(product.c),
                           product.ldc);
    }
  }
  return {};
}

constexpr Kernel rows[] = {
    {.name = "matmul_integer",
     .supports = supports_matmul,
     .needs = needs_matmul,
     .cost = cost_matmul,
     .prepare = prepare_matmul,
     .bind = bind_matmul,
     .run = run,
     .may_overwrite = matmul_overwrites},
    {.name = "conv_integer",
     .supports = supports_conv,
     .needs = needs_conv,
     .cost = cost_conv,
     .prepare = prepare_conv,
     .bind = bind_conv,
     .run = run,
     .may_overwrite = integer_conv_overwrites},
};

}  // namespace

std::span<const Kernel> integer_kernels() { return rows; }

}  // namespace sinter::cpu
