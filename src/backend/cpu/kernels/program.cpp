// Pointwise programs over one shape, and programs with reductions over the last axes.
//
// Operands may come through views, as the parts that a rotary embedding turns do (viewed.h). Which operands are full,
// per row, per column or scalar is decided when extents are known: axes over which all operands and results step alike
// become one, the last two are rows and columns of the tile executor, the others a loop around it.

#include <fmt/core.h>

#include <algorithm>

#include "backend/cpu/kernels/common.h"
#include "backend/cpu/kernels/families.h"
#include "backend/cpu/kernels/reduce.h"
#include "backend/cpu/kernels/stages.h"
#include "backend/cpu/kernels/viewed.h"
#include "backend/cpu/tile_executor.h"
#include "base/checked.h"
#include "ops/reduction.h"

namespace sinter::cpu {
namespace {

constexpr size_t max_buffers = 256;

const Shape& shape_of(const Problem& problem, uint16_t value) { return *problem.types[value].shape; }

// Operands that stages read as numbers (not axes).
std::vector<bool> read_operands(const Problem& problem) {
  std::vector<bool> out(problem.operands.size(), false);
  for (const Stage& stage : problem.stages)
    for (uint16_t v : stage.inputs)
      if (v < problem.operands.size() && !problem.operands[v].host) out[v] = true;
  return out;
}

// ---- what a problem is ----

struct Form {
  std::optional<Viewed> viewed;  // where operands are moved first; all below is of the problem without that
  Shape whole;                   // iteration space
  size_t row_axes = 0;           // trailing axes of a row; 0: pointwise
  std::vector<bool> row_valued;

  const Problem& core(const Problem& problem) const { return viewed ? viewed->problem : problem; }
  // The value of the whole problem behind an operand of the core.
  uint16_t value(uint16_t operand) const { return viewed ? viewed->values[operand] : operand; }
  bool is_moved(const Problem& problem, uint16_t operand) const { return value(operand) >= problem.operands.size(); }
};

// Extent of a value's axis where the iteration space has `axis`.
Dim aligned(const Shape& shape, size_t rank, size_t axis) {
  const size_t lead = rank - shape.size();
  return axis < lead ? Dim(1) : shape[axis - lead];
}

// Whether a value has an element for each of the iteration space, as far as its shape tells: extents that are not known
// to differ may be equal. Such values must lie alike, or elements of one would be picked from all over another.
bool may_be_full(const Problem& problem, const Form& form, uint16_t v) {
  const Shape& shape = shape_of(problem, v);
  if (shape.size() != form.whole.size()) return false;
  for (size_t k = 0; k < shape.size(); ++k) {
    const bool known = shape[k].is_constant() && (shape[k] == Dim(1) || form.whole[k].is_constant());
    if (known && shape[k] != form.whole[k]) return false;
  }
  return true;
}

// Stages that only convert an operand for others that compute over the iteration space: of any shape that those
// broadcast.
std::vector<bool> converting_stages(const Problem& problem) {
  std::vector<bool> out(problem.stages.size(), false);
  const auto converts = [&](size_t s) {
    return is_op(problem.stages[s], "Cast") && problem.stages[s].inputs[0] < problem.operands.size();
  };
  for (size_t s = 0; s < problem.stages.size(); ++s) {
    if (!converts(s)) continue;
    const uint16_t v = problem.first_result[s];
    for (size_t later = s + 1; later < problem.stages.size(); ++later) {
      const auto& inputs = problem.stages[later].inputs;
      out[s] = out[s] || (!converts(later) && std::find(inputs.begin(), inputs.end(), v) != inputs.end());
    }
    for (const Problem::Result& result : problem.results)
      if (result.value == v) out[s] = false;
  }
  return out;
}

Answer find_form(const Problem& whole, bool rows, Form& form) {
  if (whole.stages.empty() || whole.results.empty()) return Answer::no("no stages");
  if (moves_operands(whole)) {
    if (Answer a = without_views(whole, form.viewed.emplace()); !a) return a;
  }
  const Problem& problem = form.core(whole);
  if (Answer a = plain_problem(problem); !a) return a;
  if (Answer a = stages_supported(problem, 0, rows); !a) return a;
  if (problem.operands.size() + problem.results.size() > max_buffers) return Answer::no("too many operands");
  form.row_valued.assign(problem.types.size(), false);
  const std::vector<bool> converts = converting_stages(problem);
  if (!rows) {
    bool found = false;
    for (size_t s = 0; s < problem.stages.size(); ++s) {
      if (converts[s]) continue;
      const Shape& shape = shape_of(problem, problem.first_result[s]);
      if (found && shape != form.whole) return Answer::no("stages over several shapes");
      form.whole = shape;
      found = true;
    }
    return found ? Answer::yes() : Answer::no("no stages");
  }
  for (const Stage& stage : problem.stages) {
    const auto axes = reduced_axes(problem, stage);
    if (!axes) continue;
    const Shape& x = shape_of(problem, stage.inputs[0]);
    if (form.row_axes == 0) {
      form.whole = x;
      form.row_axes = axes->size();
    }
    if (x != form.whole || axes->size() != form.row_axes) return Answer::no("reductions over several shapes");
  }
  if (form.row_axes == 0) return Answer::no("no reduction");
  const size_t rank = form.whole.size(), lead = rank - form.row_axes;
  Shape row = form.whole;
  for (size_t k = lead; k < rank; ++k) row[k] = 1;
  for (size_t s = 0; s < problem.stages.size(); ++s) {
    const Stage& stage = problem.stages[s];
    const uint16_t v = problem.first_result[s];
    if (converts[s]) continue;
    if (reduced_axes(problem, stage) && !stage.attrs.as<ReduceAttrs>().keep_dims) {
      for (const Stage& later : problem.stages)
        if (std::find(later.inputs.begin(), later.inputs.end(), v) != later.inputs.end())
          return Answer::no("a reduction that drops its axes is read again");
      form.row_valued[v] = true;
      continue;
    }
    const bool is_row = shape_of(problem, v) == row;
    if (!is_row && shape_of(problem, v) != form.whole) return Answer::no("stages over several shapes");
    form.row_valued[v] = is_row && row != form.whole;
  }
  const std::vector<bool> read = read_operands(problem);
  for (size_t i = 0; i < problem.operands.size(); ++i) {
    if (!read[i]) continue;
    const Shape& shape = *problem.operands[i].type.shape;
    if (shape.size() > rank) return Answer::no("an operand of higher rank than the rows");
    bool all = true, none = true;
    for (size_t k = lead; k < rank; ++k) {
      const Dim d = aligned(shape, rank, k);
      all = all && d == form.whole[k];
      none = none && d == Dim(1);
    }
    if (!all && !none) return Answer::no(fmt::format("operand {} does not lie evenly over the rows", i));
    if (!none && form.row_axes > 1 && form.is_moved(whole, static_cast<uint16_t>(i)))
      return Answer::no(fmt::format("operand {} is moved and rows have several axes", i));
    const Layout& layout = problem.operands[i].layout;
    if (!none && !row_major_or_any(layout)) return Answer::no(fmt::format("operand {} must be row-major", i));
    form.row_valued[i] = none;
  }
  for (size_t s = 0; s < problem.stages.size(); ++s)
    if (converts[s]) form.row_valued[problem.first_result[s]] = form.row_valued[problem.stages[s].inputs[0]];
  return Answer::yes();
}

Answer check_layouts(const Problem& whole, const Form& form) {
  const Problem& problem = form.core(whole);
  const Layout* common = nullptr;
  const auto agrees = [&](const Layout& layout) {
    if (layout.kind == Layout::Kind::any) return true;
    if (!common) common = &layout;
    return common->order == layout.order;
  };
  for (size_t i = 0; i < problem.operands.size(); ++i) {
    const Operand& operand = problem.operands[i];
    if (form.is_moved(whole, static_cast<uint16_t>(i))) continue;
    if (!strides_or_any(operand.layout)) return Answer::no(fmt::format("operand {} is packed", i));
    if (form.row_axes == 0 && !operand.host && may_be_full(problem, form, static_cast<uint16_t>(i)) &&
        !agrees(operand.layout))
      return Answer::no("operands of the full shape lie in several layouts");
  }
  for (const Problem::Result& result : problem.results) {
    if (!strides_or_any(result.layout)) return Answer::no("a result is packed");
    if (form.row_axes && !row_major_or_any(result.layout)) return Answer::no("results must be row-major");
    if (!form.row_axes && !agrees(result.layout)) return Answer::no("a result lies in another layout than operands");
  }
  return Answer::yes();
}

Answer program_supports(const Problem& problem, bool rows) {
  Form form;
  if (Answer a = find_form(problem, rows, form); !a) return a;
  return check_layouts(problem, form);
}

Answer pointwise_supports(const Kernel&, const Problem& problem, const DeviceSpec&) {
  return program_supports(problem, false);
}

Answer rows_supports(const Kernel&, const Problem& problem, const DeviceSpec&) {
  return program_supports(problem, true);
}

Form form_of(const Problem& problem) {
  Form form;
  const bool rows = std::any_of(problem.stages.begin(), problem.stages.end(),
                                [&](const Stage& stage) { return reduced_axes(problem, stage).has_value(); });
  if (Answer a = find_form(problem, rows, form); !a) throw Error(Code::internal, a.reason());
  return form;
}

// The layout of an operand that has the full shape for all that is known: extents that only turn out to be equal when
// bound differ as expressions.
Layout likely_layout(const Problem& whole, const Form& form) {
  const Problem& problem = form.core(whole);
  for (size_t i = 0; i < problem.operands.size(); ++i) {
    const Operand& operand = problem.operands[i];
    if (operand.host || !operand.type.is_plain() || !operand.layout.has_strides() || operand.layout.order.empty() ||
        form.is_moved(whole, static_cast<uint16_t>(i)))
      continue;
    const Shape& shape = *operand.type.shape;
    bool likely = shape.size() == form.whole.size();
    for (size_t k = 0; likely && k < shape.size(); ++k) likely = shape[k] != Dim(1) || form.whole[k] == Dim(1);
    if (likely) return operand.layout;
  }
  return Layout();
}

Needs program_needs(const Kernel&, const Problem& whole, const Config&, const DeviceSpec&) {
  const Form form = form_of(whole);
  const Problem& problem = form.core(whole);
  // Operands that must lie alike.
  std::vector<bool> full(problem.operands.size(), false);
  for (uint16_t i = 0; i < problem.operands.size(); ++i)
    full[i] = problem.operands[i].type.is_plain() && may_be_full(problem, form, i) && !form.is_moved(whole, i);
  Layout common = Layout::any();
  if (form.row_axes == 0) {
    for (const Problem::Result& result : problem.results)
      if (result.layout.kind != Layout::Kind::any) common = result.layout;
    for (size_t i = 0; i < problem.operands.size(); ++i)
      if (problem.operands[i].layout.kind != Layout::Kind::any && full[i]) common = problem.operands[i].layout;
    if (common.kind == Layout::Kind::any) common = likely_layout(whole, form);
  }
  common = settled(common).dense();
  Needs needs;
  for (const Operand& operand : whole.operands) needs.operands.push_back(settled(operand.layout));
  for (uint16_t i = 0; i < problem.operands.size(); ++i)
    if (full[i]) needs.operands[form.value(i)] = settled(problem.operands[i].layout, common);
  for (const Problem::Result& result : problem.results) needs.results.push_back(settled(result.layout, common));
  return needs;
}

double program_cost(const Kernel&, const Problem& whole, std::span<const int64_t> symbols, const DeviceSpec&) {
  const Form form = form_of(whole);
  const Problem& problem = form.core(whole);
  double ns = 300;
  const std::vector<bool> read = read_operands(problem);
  const auto bytes = [&](uint16_t v) {
    return elements_at(problem.types[v], symbols) * bit_size(problem.types[v].dtype) / 8;
  };
  for (size_t i = 0; i < read.size(); ++i)
    if (read[i]) ns += 0.05 * bytes(static_cast<uint16_t>(i));
  for (const Problem::Result& result : problem.results) ns += 0.05 * bytes(result.value);
  for (size_t s = 0; s < problem.stages.size(); ++s) {
    const uint16_t v = reduced_axes(problem, problem.stages[s]) ? problem.stages[s].inputs[0] : problem.first_result[s];
    // Conversions between reals go along with loads and stores.
    const bool converts = is_op(problem.stages[s], "Cast") && is_float(problem.types[v].dtype);
    ns += (converts ? 0.02 : 0.1) * elements_at(problem.types[v], symbols) + 20;
  }
  return ns;
}

// ---- how buffers lie over the iteration space ----

struct Space {
  Dims dims;                  // outermost first
  std::vector<Dims> strides;  // by buffer: operands of the program, then results
};

// Axes [begin, end) of one element vanish; neighbours over which every buffer goes on evenly become one. Returns the
// new end.
size_t collapse(Space& space, size_t begin, size_t end) {
  const auto drop = [&](size_t axis) {
    space.dims.erase(space.dims.begin() + static_cast<ptrdiff_t>(axis));
    for (Dims& s : space.strides) s.erase(s.begin() + static_cast<ptrdiff_t>(axis));
    --end;
  };
  for (size_t k = end; k-- > begin;)
    if (space.dims[k] == 1) drop(k);
  for (size_t k = end; k-- > begin + 1;) {
    const bool even = std::all_of(space.strides.begin(), space.strides.end(),
                                  [&](const Dims& s) { return s[k - 1] == s[k] * space.dims[k]; });
    if (!even) continue;
    space.dims[k] *= space.dims[k - 1];
    drop(k - 1);
  }
  return end;
}

struct Part {
  uint16_t argument;  // of the launch
  int64_t width;      // bytes of an element
  Dims outer;         // strides
  int64_t row, col;
  int64_t offset;  // elements
};

// For one shape.
struct Placement {
  std::shared_ptr<const TileExecutor> executor;
  std::vector<Part> parts;
  std::vector<Spread> spreads;  // of operands
  Dims outer;
  int64_t rows = 1, cols = 1;
  int64_t pieces = 1, piece = 1;  // columns are cut where rows are few and long
  int64_t units = 0, chunks = 0;
};

// The physical order of the space's axes.
std::vector<size_t> order_of(const Problem& problem, const Form& form) {
  const Layout* layout = &problem.results[0].layout;
  std::vector<size_t> order(form.whole.size());
  for (size_t k = 0; k < order.size(); ++k)
    order[k] = form.row_axes || layout->order.empty() ? k : static_cast<size_t>(layout->order[k]);
  return order;
}

// Strides over the space's logical axes, 0 where the value has one element for all.
Dims strides_over(const Dims& whole, const Dims& dims, const Dims& own) {
  Dims out(whole.size(), 0);
  const size_t lead = whole.size() - dims.size();
  for (size_t k = 0; k < dims.size(); ++k)
    if (dims[k] != 1) out[lead + k] = own[k];
  return out;
}

StridedView view_of_operand(uint16_t operand, const Dims& dims, const Layout& layout) {
  StridedView view(operand, dims);
  view.strides = layout_strides(layout, dims);
  return view;
}

// view_of(v): how an operand of the core lies.
template <typename F>
Placement lay_out(const Problem& problem, const Form& form, const StageProgram& stages, const Dims& whole, F view_of) {
  const Problem& core = form.core(problem);
  Placement place;
  Space space;
  const std::vector<size_t> order = order_of(core, form);
  const size_t rank = whole.size(), lead = rank - form.row_axes;
  for (size_t axis : order) space.dims.push_back(whole[axis]);
  const auto add = [&](uint16_t argument, DType dtype, const Dims& strides, int64_t offset) {
    place.parts.push_back({argument, bit_size(dtype) / 8, {}, 0, 0, offset});
    Dims sorted;
    for (size_t axis : order) sorted.push_back(strides[axis]);
    space.strides.push_back(std::move(sorted));
  };
  for (uint16_t v : stages.operands) {
    const StridedView view = view_of(v);
    add(view.operand, core.types[v].dtype, strides_over(whole, view.dims, view.strides), view.offset);
  }
  for (uint16_t r : stages.results) {
    const uint16_t v = core.results[r].value;
    const auto argument = static_cast<uint16_t>(problem.operands.size() + r);
    Dims strides(rank, 0);
    if (form.row_valued[v]) {
      // One element per row, with or without the reduced axes.
      int64_t stride = 1;
      for (size_t k = lead; k-- > 0;) {
        strides[k] = whole[k] == 1 ? 0 : stride;
        stride *= whole[k];
      }
    } else {
      strides = strides_over(whole, whole, layout_strides(core.results[r].layout, whole));
    }
    add(argument, core.types[v].dtype, strides, 0);
  }
  // Rows of a program with reductions are all of the last axes, even if that is one element.
  size_t before_cols;
  if (form.row_axes) {
    collapse(space, lead, rank);
    if (space.dims.size() == lead) {
      space.dims.push_back(1);
      for (Dims& s : space.strides) s.push_back(0);
    }
    before_cols = collapse(space, 0, lead);
  } else {
    const size_t axes = collapse(space, 0, rank);
    if (axes == 0) {
      space.dims.push_back(1);
      for (Dims& s : space.strides) s.push_back(0);
    }
    before_cols = space.dims.size() - 1;
  }
  place.cols = space.dims.back();
  place.rows = before_cols > 0 ? space.dims[before_cols - 1] : 1;
  const size_t outer = before_cols > 0 ? before_cols - 1 : 0;
  place.outer.assign(space.dims.begin(), space.dims.begin() + static_cast<ptrdiff_t>(outer));
  for (size_t i = 0; i < place.parts.size(); ++i) {
    Part& part = place.parts[i];
    const Dims& s = space.strides[i];
    part.outer.assign(s.begin(), s.begin() + static_cast<ptrdiff_t>(outer));
    part.row = before_cols > 0 ? s[before_cols - 1] : 0;
    part.col = s.back();
    if (i >= stages.operands.size()) continue;
    const bool by_col = part.col != 0, by_row = part.row != 0;
    place.spreads.push_back(by_col ? (by_row || place.rows == 1 ? Spread::full : Spread::column)
                                   : (by_row ? Spread::row : Spread::scalar));
  }
  for (Part& part : place.parts)
    if (part.col == 0) part.col = 1;
  return place;
}

// ---- running ----

// Made once per engine: the program, and the executor for the extents that are likely.
struct Prepared {
  Form form;
  StageProgram stages;
  std::shared_ptr<const TileExecutor> executor;
  uint8_t level = 0;
};

std::shared_ptr<const TileExecutor> executor_for(const StageProgram& stages, const std::vector<Spread>& spreads,
                                                 uint8_t level) {
  TileProgram program = stages.program;
  for (size_t i = 0; i < spreads.size(); ++i) program.operands[i].spread = spreads[i];
  return make_executor(program, level);
}

std::shared_ptr<const void> program_prepare(const Kernel&, const Problem& problem, const Config&,
                                            const DeviceSpec& device) {
  auto prepared = std::make_shared<Prepared>();
  prepared->form = form_of(problem);
  const Problem& core = prepared->form.core(problem);
  prepared->stages = compile_stages(core, 0, std::nullopt, prepared->form.row_valued);
  prepared->level = device.level;
  // Symbols are rarely 1. If these values do not fit the extents, binding finds out.
  std::vector<Spread> spreads(prepared->stages.operands.size(), Spread::full);
  try {
    const std::vector<int64_t> symbols(problem.symbols.size(), 8);
    const Dims whole = evaluate(prepared->form.whole, symbols);
    spreads = lay_out(problem, prepared->form, prepared->stages, whole, [&](uint16_t v) {
                return view_of_operand(v, evaluate(shape_of(core, v), symbols), core.operands[v].layout);
              }).spreads;
  } catch (const Error&) {
  }
  prepared->executor = executor_for(prepared->stages, spreads, device.level);
  for (size_t i = 0; i < spreads.size(); ++i) prepared->stages.program.operands[i].spread = spreads[i];
  return prepared;
}

int64_t buffer_bytes(const Placement& place) {
  return align_up(static_cast<int64_t>(place.parts.size() * sizeof(TileBuffer)), 64, "scratch");
}

void program_bind(const Kernel&, const void* prepared_, const BindContext& c, Bound& bound) {
  const Prepared& prepared = *static_cast<const Prepared*>(prepared_);
  const Dims whole = evaluate(prepared.form.whole, c.symbols);
  const Form& form = prepared.form;
  Placement& place =
      emplace<Placement>(bound, lay_out(c.problem, form, prepared.stages, whole, [&](uint16_t v) {
                           if (form.is_moved(c.problem, v)) return strided_view(c, form.value(v));
                           const uint16_t operand = form.value(v);
                           return view_of_operand(operand, c.operands[operand], c.problem.operands[operand].layout);
                         }));
  bool expected = true;
  for (size_t i = 0; i < place.spreads.size(); ++i)
    expected = expected && place.spreads[i] == prepared.stages.program.operands[i].spread;
  place.executor = expected ? prepared.executor : executor_for(prepared.stages, place.spreads, prepared.level);
  const int64_t rows = product(place.outer) * place.rows;
  place.piece = place.cols;
  if (!prepared.form.row_axes && place.cols > (32 << 10)) {
    place.pieces = (place.cols + (16 << 10) - 1) / (16 << 10);
    place.piece = align_up((place.cols + place.pieces - 1) / place.pieces, 64);
    place.pieces = (place.cols + place.piece - 1) / place.piece;
  }
  // Rows without columns still have sums; without results they are as many as they like and nothing to do.
  const bool empty = std::all_of(c.results.begin(), c.results.end(), [](const Dims& d) { return product(d) == 0; });
  place.units = !empty && (prepared.form.row_axes || place.cols > 0) ? rows * place.pieces : 0;
  int64_t width = 0;
  for (const Part& part : place.parts) width += part.width;
  // Elementary functions are worth more than the bytes they move.
  const int64_t work = rows * place.cols * (width + 2 * static_cast<int64_t>(prepared.stages.program.code.size()));
  place.chunks = bound.chunks[0] = chunks_for(work, place.units, c.threads);
  bound.scratch = buffer_bytes(place) + tile_scratch(*place.executor, place.piece);
}

Status program_run(const Launch& launch) {
  const Placement& place = launch.bound->as<Placement>();
  auto* buffers = reinterpret_cast<TileBuffer*>(launch.scratch);
  void* scratch = launch.scratch + buffer_bytes(place);
  auto [unit, end] = part(place.units, place.chunks, launch.chunk);
  while (unit < end) {
    // Rows of one position of the outer axes and one piece of the columns.
    const int64_t piece = unit % place.pieces;
    const int64_t row = unit / place.pieces;
    const int64_t first = row % place.rows;
    const int64_t rows = place.pieces > 1 ? 1 : std::min(place.rows - first, end - unit);
    const int64_t col = piece * place.piece;
    int64_t position = row / place.rows;
    int64_t at[max_rank_of_values];
    for (size_t k = place.outer.size(); k-- > 0;) {
      at[k] = position % place.outer[k];
      position /= place.outer[k];
    }
    for (size_t i = 0; i < place.parts.size(); ++i) {
      const Part& p = place.parts[i];
      const bool by_col =
          i >= place.spreads.size() || place.spreads[i] == Spread::full || place.spreads[i] == Spread::column;
      int64_t offset = p.offset + (place.pieces > 1 && by_col ? col * p.col : 0);
      for (size_t k = 0; k < p.outer.size(); ++k) offset += at[k] * p.outer[k];
      buffers[i] = {static_cast<std::byte*>(launch.operands[p.argument]) + offset * p.width, p.row, p.col};
    }
    run_tile(*place.executor, std::span(buffers, place.parts.size()), first, first + rows,
             std::min(place.piece, place.cols - col), scratch);
    unit += place.pieces > 1 ? 1 : rows;
  }
  return {};
}

// The executor reads each element of a tile before it stores it, and rows are whole where it needs them twice.
bool program_overwrites(const Kernel&, const Problem& whole, size_t operand) {
  const Form form = form_of(whole);
  const Problem& problem = form.core(whole);
  // Of what is moved other elements are read later.
  for (uint16_t i = 0; i < problem.operands.size(); ++i)
    if (form.is_moved(whole, i) && viewed_operand(whole, form.value(i)) == operand) return false;
  const Shape& made = shape_of(problem, problem.results[0].value);
  if (made != form.whole) return false;
  if (made.empty()) return true;
  // Rows that end within a vector make loads wait for stores, unless all of it is one row.
  constexpr int64_t vector = 16;
  const auto row = made[problem.results[0].layout.innermost(made.size())].as_constant();
  if (row && *row % vector == 0) return true;
  const std::vector<bool> read = read_operands(problem);
  for (size_t i = 0; i < problem.operands.size(); ++i) {
    const Shape& shape = *problem.operands[i].type.shape;
    const bool one = std::all_of(shape.begin(), shape.end(), [](const Dim& d) { return d == Dim(1); });
    if (read[i] && !one && shape != made) return false;
  }
  return true;
}

}  // namespace

std::span<const Kernel> program_kernels() {
  static const Kernel table[] = {
      {.name = "pointwise",
       .supports = pointwise_supports,
       .needs = program_needs,
       .cost = program_cost,
       .prepare = program_prepare,
       .bind = program_bind,
       .run = program_run,
       .may_overwrite = program_overwrites},
      {.name = "rows",
       .supports = rows_supports,
       .needs = program_needs,
       .cost = program_cost,
       .prepare = program_prepare,
       .bind = program_bind,
       .run = program_run,
       .may_overwrite = program_overwrites},
      reduce_kernel,
  };
  return table;
}

}  // namespace sinter::cpu
