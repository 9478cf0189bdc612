#include "backend/cpu/kernels/epilogue.h"

#include <fmt/core.h>

#include <cmath>
#include <limits>

#include "backend/cpu/kernels/common.h"
#include "backend/cpu/kernels/stages.h"
#include "base/checked.h"
#include "ops/cast.h"

namespace sinter::cpu {
namespace {

// How an operand's extents meet the result's. Axes of extent 1 in both count as either.
struct Meeting {
  bool fits = true;
  bool batch_all = true, batch_none = true, rows_all = true, rows_none = true;
  bool col = false;
  bool is_full() const { return !rows_none && col; }
};

Meeting meet(const Shape& operand, const Shape& result, const OutputView& view) {
  Meeting m;
  if (operand.size() > result.size()) {
    m.fits = false;
    return m;
  }
  const size_t lead = result.size() - operand.size();
  const auto look = [&](size_t axis, bool& all, bool& none) {
    const Dim d = axis < lead ? Dim(1) : operand[axis - lead];
    const bool one = d == Dim(1), same = d == result[axis];
    if (!one && !same) m.fits = false;
    if (!same) all = false;
    if (!one) none = false;
  };
  for (size_t axis : view.batch) look(axis, m.batch_all, m.batch_none);
  for (size_t axis : view.rows) look(axis, m.rows_all, m.rows_none);
  if (view.col >= 0) {
    bool all = true, none = true;
    look(static_cast<size_t>(view.col), all, none);
    m.col = !none;
  }
  if (!m.rows_all && !m.rows_none) m.fits = false;
  return m;
}

// Whether it lies evenly over rows that run through the batch axes.
bool flat(const Meeting& m) { return (m.batch_all && m.rows_all) || (m.batch_none && m.rows_none); }

const Shape& shape_of(const Problem& problem, uint16_t value) { return *problem.types[value].shape; }
uint16_t main_value(const Problem& problem) { return problem.first_result[0]; }

size_t uses(const Problem& problem, uint16_t value) {
  size_t n = 0;
  for (const Stage& stage : problem.stages)
    n += static_cast<size_t>(std::count(stage.inputs.begin(), stage.inputs.end(), value));
  for (const Problem::Result& result : problem.results) n += result.value == value;
  return n;
}

double number_attr(const Stage& stage, std::string_view name, double otherwise) {
  if (!stage.attrs.fields()) return otherwise;
  for (const Field& field : stage.attrs.fields()->list)
    if (field.name == name && field.kind == FieldKind::f64)
      return *static_cast<const double*>(field.member(const_cast<void*>(stage.attrs.object())));
  return otherwise;
}

float to_bound(double v) {
  if (v >= static_cast<double>(std::numeric_limits<float>::max()) * (1 + 1e-7)) return contract_no_bound;
  if (v <= -static_cast<double>(std::numeric_limits<float>::max()) * (1 + 1e-7)) return -contract_no_bound;
  return static_cast<float>(v);
}

// Stages at the front that the loops do themselves.
struct Peeled {
  int bias;
  float low = -contract_no_bound, high = contract_no_bound;
  int residual = -1;
  bool narrow = false;
  size_t next = 1;  // first stage of the program
  uint16_t value;   // what the loops make
};

// The operand with a value per column that a stage adds.
std::optional<uint16_t> bias_of(const Problem& problem, const OutputView& view, const Stage& stage, uint16_t value) {
  if (!is_op(stage, "Add")) return std::nullopt;
  const uint16_t other = stage.inputs[0] == value ? stage.inputs[1] : stage.inputs[0];
  if (other >= problem.operands.size() || problem.types[other].dtype != DType::f32) return std::nullopt;
  const Meeting m = meet(shape_of(problem, other), shape_of(problem, main_value(problem)), view);
  if (!m.fits || !m.batch_none || !m.rows_none || !m.col) return std::nullopt;
  return other;
}

// Where stages from `next` on add a value of the result's shape that the loops can add: an operand of f32, or one of
// bf16 that a stage widens first. `end`: the stage behind.
struct Residual {
  uint16_t operand;
  size_t end;
};
std::optional<Residual> find_residual(const Problem& problem, size_t next, uint16_t value, const LoopsCan& can) {
  const Stage* add = &problem.stages[next];
  uint16_t added = 0;
  const bool widens = can.add_narrow && is_op(*add, "Cast") && next + 1 < problem.stages.size();
  if (widens) {
    added = problem.first_result[next];
    if (uses(problem, added) != 1 || problem.types[added].dtype != DType::f32) return std::nullopt;
    add = &problem.stages[next + 1];
  }
  if (!is_op(*add, "Add") || (add->inputs[0] != value && add->inputs[1] != value)) return std::nullopt;
  const uint16_t other = add->inputs[0] == value ? add->inputs[1] : add->inputs[0];
  if (widens && other != added) return std::nullopt;
  const uint16_t operand = widens ? problem.stages[next].inputs[0] : other;
  if (operand >= problem.operands.size() || shape_of(problem, operand) != shape_of(problem, main_value(problem)))
    return std::nullopt;
  // It goes by the pitch of the result.
  if (problem.operands[operand].layout.pitch != problem.results[0].layout.pitch) return std::nullopt;
  if (problem.types[operand].dtype != (widens ? DType::bf16 : DType::f32) || !(widens || can.add)) return std::nullopt;
  return Residual{operand, next + (widens ? 2 : 1)};
}

Peeled peel(const Problem& problem, const OutputView& view, int main_bias, const LoopsCan& can) {
  Peeled p{.bias = main_bias, .value = main_value(problem)};
  if (problem.types[p.value].dtype != DType::f32) return p;
  bool bounded = false;
  while (p.next < problem.stages.size() && uses(problem, p.value) == 1) {
    const Stage& stage = problem.stages[p.next];
    size_t end = p.next + 1;
    const auto reads = [&](uint16_t v) {
      return std::find(stage.inputs.begin(), stage.inputs.end(), v) != stage.inputs.end();
    };
    if (const auto bias =
            !bounded && p.bias < 0 && reads(p.value) ? bias_of(problem, view, stage, p.value) : std::nullopt) {
      p.bias = *bias;
    } else if (const auto residual =
                   !bounded && p.residual < 0 ? find_residual(problem, p.next, p.value, can) : std::nullopt) {
      p.residual = residual->operand;
      end = residual->end;
    } else if (!reads(p.value)) {
      break;
    } else if (is_op(stage, "Relu") && !bounded) {
      p.low = 0;
      bounded = true;
    } else if (is_op(stage, "Clip") && !bounded) {
      const double low = number_attr(stage, "low", -INFINITY), high = number_attr(stage, "high", INFINITY);
      if (std::isnan(low) || std::isnan(high)) break;
      p.low = to_bound(low);
      p.high = to_bound(high);
      bounded = true;
    } else if (is_op(stage, "Cast") && can.store_narrow && end == problem.stages.size() &&
               problem.results.size() == 1 && stage.attrs.as<CastAttrs>().to == DType::bf16) {
      p.narrow = true;
    } else {
      break;
    }
    p.next = end;
    p.value = problem.first_result[end - 1];
  }
  return p;
}

bool lies_in(const Layout& layout, const Layout& wanted, const OutputView& view) {
  return view.pitched && view.col >= 0 ? lies_as(layout, wanted) : layout == wanted;
}

}  // namespace

Layout OutputView::layout(size_t result_rank, size_t operand_rank) const {
  std::vector<size_t> order = batch;
  order.insert(order.end(), rows.begin(), rows.end());
  if (col >= 0) order.push_back(static_cast<size_t>(col));
  const size_t lead = result_rank - std::min(result_rank, operand_rank);
  std::vector<uint8_t> out;
  for (size_t axis : order)
    if (axis >= lead) out.push_back(static_cast<uint8_t>(axis - lead));
  return Layout::ordered(std::move(out));
}

bool in_epilogue(const Problem& problem, size_t operand) {
  for (size_t s = 1; s < problem.stages.size(); ++s)
    for (uint16_t v : problem.stages[s].inputs)
      if (v == operand) return true;
  return false;
}

Answer epilogue_supported(const Problem& problem, const OutputView& view, DType dtype) {
  if (problem.results.empty()) return Answer::no("no results");
  if (problem.stages[0].outputs != 1) return Answer::no("the main stage has several results");
  const Type& made = problem.types[main_value(problem)];
  if (!made.is_plain() || made.dtype != dtype)
    return Answer::no(fmt::format("the main stage does not make {}", dtype_name(dtype)));
  const Layout result_layout = view.layout(made.shape->size(), made.shape->size());
  for (const Problem::Result& result : problem.results) {
    if (shape_of(problem, result.value) != *made.shape) return Answer::no("a result has another shape");
    if (dtype != DType::f32 && problem.stages.size() > 1 && result.value == main_value(problem))
      return Answer::no("what the main stage makes is a result beside others");
    if (result.layout.kind != Layout::Kind::any && !lies_in(result.layout, result_layout, view))
      return Answer::no(fmt::format("a result must lie as '{}'", to_text(result_layout)));
  }
  if (problem.stages.size() > 1)
    if (Answer a = stages_supported(problem, 1, false); !a) return a;
  size_t buffers = 1 + problem.results.size();
  for (size_t i = 0; i < problem.operands.size(); ++i) {
    if (!in_epilogue(problem, i)) continue;
    ++buffers;
    const Operand& operand = problem.operands[i];
    if (operand.host || !std::holds_alternative<std::monostate>(operand.contents))
      return Answer::no(fmt::format("operand {} lies on the host", i));
    const Meeting m = meet(*operand.type.shape, *made.shape, view);
    if (!m.fits) return Answer::no(fmt::format("operand {} does not lie evenly over the result", i));
    const Layout wanted = view.layout(made.shape->size(), operand.type.shape->size());
    const bool any = operand.layout.kind == Layout::Kind::any;
    if (!any && (m.is_full() ? !lies_in(operand.layout, wanted, view)
                             : operand.layout != wanted && !operand.layout.is_row_major()))
      return Answer::no(fmt::format("operand {} must lie as '{}'", i, to_text(wanted)));
  }
  if (buffers > EpilogueRun::max_buffers) return Answer::no("too many operands");
  return Answer::yes();
}

bool epilogue_overwrites(const Problem& problem, const OutputView& view, size_t operand) {
  // Where rows end within a vector, loads of a row wait for the store of the row before: in place is then slower.
  constexpr int64_t vector = 16;
  const std::vector<uint16_t>& main = problem.stages[0].inputs;
  if (!in_epilogue(problem, operand) || std::find(main.begin(), main.end(), operand) != main.end()) return false;
  const Shape& made = shape_of(problem, main_value(problem));
  if (view.col < 0 || !meet(*problem.operands[operand].type.shape, made, view).is_full()) return false;
  const auto cols = made[static_cast<size_t>(view.col)].as_constant();
  // So they do where the store of two vectors of bf16 reaches, masked, into the next row.
  const bool narrow = problem.types[problem.results[0].value].dtype == DType::bf16;
  return cols && *cols % vector == 0 && !(narrow && *cols < 2 * vector);
}

Layout epilogue_layout(const Problem& problem, const OutputView& view, size_t operand) {
  const Shape& made = shape_of(problem, main_value(problem));
  const Shape& shape = *problem.operands[operand].type.shape;
  return meet(shape, made, view).is_full() ? view.layout(made.size(), shape.size()) : Layout();
}

Epilogue make_epilogue(const Problem& problem, const OutputView& view, int main_bias, uint8_t level,
                       const LoopsCan& can) {
  Epilogue e;
  const Shape& made = shape_of(problem, main_value(problem));
  for (size_t i = 0; i < problem.operands.size(); ++i)
    if (in_epilogue(problem, i) && !flat(meet(*problem.operands[i].type.shape, made, view))) e.whole_batch = false;
  Peeled p = peel(problem, view, main_bias, can);
  const bool whole = p.next == problem.stages.size() && problem.results.size() == 1;
  if (!whole) p = peel(problem, view, main_bias, {});  // programs take blocks of f32 that nothing is added to
  e.bias = p.bias;
  e.low = p.low;
  e.high = p.high;
  e.residual = p.residual;
  e.narrow = p.narrow;
  if (whole) return e;
  StageProgram stages = compile_stages(problem, p.next, p.value, std::vector<bool>(problem.types.size(), false));
  for (size_t i = 0; i < stages.operands.size(); ++i) {
    const uint16_t v = stages.operands[i];
    const Meeting m = meet(shape_of(problem, v), made, view);
    const bool batch = !m.batch_none;
    // Over the rows of a call; in one call for the whole batch those run through the batch axes too.
    const bool rows = !m.rows_none || (e.whole_batch && batch);
    TileOperand& operand = stages.program.operands[1 + i];
    operand.spread = rows ? (m.col ? Spread::full : Spread::row) : (m.col ? Spread::column : Spread::scalar);
    e.operands.push_back({v, batch, rows, m.col, bit_size(problem.types[v].dtype) / 8});
  }
  stages.program.operands[0].spread = Spread::full;
  for (size_t i = 0; i < stages.results.size(); ++i) {
    const uint16_t r = stages.results[i];
    stages.program.results[i].spread = Spread::full;
    e.results.push_back({r, true, true, true, bit_size(problem.types[problem.results[r].value].dtype) / 8});
  }
  e.executor = make_executor(stages.program, level);
  return e;
}

BoundEpilogue bind_epilogue(const Epilogue& epilogue, const OutputView& view, const BindContext& c, bool by_call,
                            int64_t block_cols, int64_t last_cols) {
  BoundEpilogue out;
  out.epilogue = &epilogue;
  if (!epilogue.executor) return out;
  const auto add = [&](const Epilogue::Part& part, const Dims& dims, const Layout& layout, uint16_t argument,
                       size_t rank) {
    BoundEpilogue::Part p{argument, part.width, part.rows, part.cols, 0, {}};
    // An operand that varies along the columns has the axis.
    const int64_t cols = part.cols && view.col >= 0 ? dims[static_cast<size_t>(view.col) - (rank - dims.size())] : 1;
    if (part.rows) p.row_stride = part.cols && layout.pitch ? layout.pitch : cols;
    if (by_call && part.batch) {
      const Dims strides = layout_strides(layout, dims);
      const size_t lead = rank - dims.size();
      for (size_t axis : view.batch)
        p.batch_strides.push_back(axis < lead || dims[axis - lead] == 1 ? 0 : strides[axis - lead]);
    }
    out.parts.push_back(std::move(p));
  };
  const size_t rank = c.results[0].size();
  const auto operands = static_cast<uint16_t>(c.problem.operands.size());
  for (const Epilogue::Part& part : epilogue.operands)
    add(part, c.operands[part.value], c.problem.operands[part.value].layout, part.value, rank);
  for (const Epilogue::Part& part : epilogue.results)
    add(part, c.results[part.value], c.problem.results[part.value].layout, static_cast<uint16_t>(operands + part.value),
        rank);
  out.scratch =
      align_up(std::max(tile_scratch(*epilogue.executor, block_cols), tile_scratch(*epilogue.executor, last_cols)), 64,
               "scratch");
  return out;
}

EpilogueRun::EpilogueRun(const BoundEpilogue& bound, const Launch& launch, void* scratch)
    : bound_(bound), launch_(launch), scratch_(scratch) {
  for (size_t i = 0; i < bound.parts.size(); ++i) {
    base_[i] = static_cast<std::byte*>(launch.operands[bound.parts[i].argument]);
    buffers_[1 + i] = {base_[i], bound.parts[i].row_stride, 1};
  }
}

void EpilogueRun::at(std::span<const int64_t> batch, int64_t first_col, int64_t first_row) {
  for (size_t i = 0; i < bound_.parts.size(); ++i) {
    const BoundEpilogue::Part& part = bound_.parts[i];
    int64_t offset = (part.cols ? first_col : 0) + (part.rows ? first_row * part.row_stride : 0);
    for (size_t k = 0; k < part.batch_strides.size(); ++k) offset += batch[k] * part.batch_strides[k];
    base_[i] = static_cast<std::byte*>(launch_.operands[part.argument]) + offset * part.width;
  }
}

void EpilogueRun::spread_rows(int64_t step) {
  for (size_t i = 0; i < bound_.parts.size(); ++i) buffers_[1 + i].row_stride = bound_.parts[i].row_stride * step;
}

void EpilogueRun::block(void* user, int64_t m, int64_t rows, int64_t n, int64_t cols, float* block, int64_t stride) {
  EpilogueRun& run = *static_cast<EpilogueRun*>(user);
  run.buffers_[0] = {block, stride, 1};
  const size_t count = run.bound_.parts.size();
  for (size_t i = 0; i < count; ++i) {
    const BoundEpilogue::Part& part = run.bound_.parts[i];
    const int64_t offset = (part.rows ? m * part.row_stride : 0) + (part.cols ? n : 0);
    run.buffers_[1 + i].data = run.base_[i] + offset * part.width;
  }
  run_tile(*run.bound_.epilogue->executor, std::span(run.buffers_, count + 1), 0, rows, cols, run.scratch_);
}

void finish_block(float* block, int64_t rows, int64_t cols, int64_t stride, const float* bias, float low, float high) {
  const bool bounded = low > -contract_no_bound || high < contract_no_bound;
  for (int64_t r = 0; r < rows; ++r) {
    float* row = block + r * stride;
    if (bias)
      for (int64_t c = 0; c < cols; ++c) row[c] += bias[c];
    if (!bounded) continue;
    for (int64_t c = 0; c < cols; ++c) {
      float v = row[c];
      v = v < low ? low : v;
      row[c] = v > high ? high : v;
    }
  }
}

}  // namespace sinter::cpu
