// Data movement: transposes, slices, expansions, concatenations, splits, views that need a copy, layout changes,
// padding, triangles, bands and rows picked by index. Everything but Pad, Trilu, Band and Gather is a set of strided
// copies.

#include "ops/movement.h"

#include <fmt/core.h>

#include <cstring>

#include "backend/cpu/kernels/common.h"
#include "backend/cpu/kernels/families.h"
#include "backend/cpu/strided_copy.h"
#include "base/checked.h"
#include "ops/indexing.h"

namespace sinter::cpu {
namespace {

constexpr std::string_view views[] = {"Reshape", "Squeeze", "Unsqueeze", "Flatten"};

bool is_view(const Stage& stage) {
  return std::find(std::begin(views), std::end(views), stage.op->name) != std::end(views);
}

// ---- strided copies ----

struct Piece {
  StridedCopy copy;
  int from, to;  // operand and result numbers
};
struct Pieces {
  std::vector<Piece> list;
  std::vector<int64_t> first_chunk;
  bool together = false;  // a chunk is one of every piece
};

// Axes in symbols were not tested by inference.
bool axes_are_constant(const Problem& problem, size_t input) {
  const Stage& stage = problem.stages[0];
  if (input >= stage.inputs.size() || stage.inputs[input] == absent_operand) return true;
  return std::holds_alternative<Tensor>(problem.operands[stage.inputs[input]].contents);
}

Answer copy_supports(const Kernel&, const Problem& problem, const DeviceSpec&) {
  if (problem.stages.size() != 1) return Answer::no("more than one stage");
  const Stage& stage = problem.stages[0];
  const bool known = is_op(stage, "Transpose") || is_op(stage, "Identity") || is_op(stage, "Expand") ||
                     is_op(stage, "Slice") || is_op(stage, "Concat") || is_op(stage, "Split") || is_op(stage, "Tile") ||
                     is_view(stage);
  if (!known) return Answer::no("not a strided copy");
  if (Answer a = plain_problem(problem); !a) return a;
  if (stage.inputs.empty() || stage.inputs[0] != 0) return Answer::no("the first operand is not what is copied");
  if (problem.results.size() != 1 && !is_op(stage, "Split")) return Answer::no("not one result");
  if (is_op(stage, "Slice") && !axes_are_constant(problem, 3)) return Answer::no("the axes must be constant");
  for (const Operand& operand : problem.operands)
    if (!strides_or_any(operand.layout)) return Answer::no("an operand is packed");
  for (const Problem::Result& result : problem.results)
    if (!strides_or_any(result.layout)) return Answer::no("a result is packed");
  if (is_view(stage) && !row_major_or_any(problem.operands[0].layout))
    return Answer::no("the operand of a view must be row-major");
  return Answer::yes();
}

Needs copy_needs(const Kernel&, const Problem& problem, const Config&, const DeviceSpec&) {
  Needs needs;
  const Stage& stage = problem.stages[0];
  for (const Operand& operand : problem.operands) needs.operands.push_back(settled(operand.layout));
  const bool keeps_axes = !is_view(stage) && !is_op(stage, "Transpose");
  const Layout& source = needs.operands[0];
  for (const Problem::Result& result : problem.results) {
    const bool same_rank = problem.types[result.value].shape->size() == problem.operands[0].type.shape->size();
    needs.results.push_back(result.layout.kind != Layout::Kind::any ? result.layout
                            : keeps_axes && same_rank               ? source.dense()
                                                                    : Layout());
  }
  return needs;
}

double copy_cost(const Kernel&, const Problem& problem, std::span<const int64_t> symbols, const DeviceSpec&) {
  double bytes = 0;
  for (const Problem::Result& result : problem.results)
    bytes += elements_at(problem.types[result.value], symbols) * bit_size(problem.types[result.value].dtype) / 8;
  return 200 + bytes / 4;
}

void add_piece(Pieces& pieces, int from, int to, const Dims& dims, Dims to_strides, Dims from_strides, int64_t width,
               int64_t to_offset, int64_t from_offset, int threads) {
  Piece piece{StridedCopy::plan(dims, std::move(to_strides), std::move(from_strides), width, threads), from, to};
  piece.copy.to_offset = to_offset;
  piece.copy.from_offset = from_offset;
  pieces.list.push_back(std::move(piece));
}

// Pieces that go through the same outer rows do so side by side: what they share is in the cache, and lines of it have
// one writer.
void join_pieces(Pieces& pieces) {
  const auto outer = [](const StridedCopy& copy) { return product(copy.dims, 0, copy.dims.size() - 2); };
  if (pieces.list.size() < 2) return;
  int64_t rows = pieces.list[0].copy.rows_per_chunk;
  const int64_t all = outer(pieces.list[0].copy);
  for (const Piece& piece : pieces.list) {
    if (outer(piece.copy) != all || piece.copy.chunks == 0) return;
    rows = std::min(rows, piece.copy.rows_per_chunk);
  }
  if (all < 2) return;
  for (Piece& piece : pieces.list) {
    piece.copy.rows_per_chunk = rows;
    piece.copy.chunks = (all + rows - 1) / rows;
  }
  pieces.together = true;
}

void bind_slice(const BindContext& c, const Dims& x, const Dims& y, const Dims& from, Dims& from_strides,
                int64_t& offset) {
  const Stage& stage = c.problem.stages[0];
  const auto numbers = [&](size_t i) {
    return i < stage.inputs.size() && stage.inputs[i] != absent_operand ? c.host[stage.inputs[i]]->to_integers()
                                                                        : std::vector<int64_t>();
  };
  const std::vector<int64_t> starts = numbers(1);
  std::vector<int64_t> axes = numbers(3), steps = numbers(4);
  const auto rank = static_cast<int64_t>(x.size());
  for (size_t i = 0; i < starts.size(); ++i) {
    int64_t axis = axes.empty() ? static_cast<int64_t>(i) : axes[i];
    if (axis < 0) axis += rank;
    const auto a = static_cast<size_t>(axis);
    const int64_t step = steps.empty() ? 1 : steps[i];
    offset += slice_begin(starts[i], x[a], step) * from[a];
    from_strides[a] = y[a] > 1 ? from[a] * step : 0;
  }
}

void copy_bind(const Kernel&, const void*, const BindContext& c, Bound& bound) {
  const Problem& problem = c.problem;
  const Stage& stage = problem.stages[0];
  Pieces& pieces = emplace<Pieces>(bound);
  const int64_t width = bit_size(problem.operands[0].type.dtype) / 8;
  const Dims& x = c.operands[0];
  const Dims& y = c.results[0];
  // What several pieces share is cut finer, see join_pieces.
  const bool several = is_op(stage, "Concat") ? stage.inputs.size() > 1 : problem.results.size() > 1;
  const int threads = several ? std::max(c.threads, 8) : c.threads;
  const Dims from = layout_strides(problem.operands[0].layout, x);
  const Dims to = layout_strides(problem.results[0].layout, y);
  if (is_view(stage)) {
    add_piece(pieces, 0, 0, y, to, layout_strides({}, y), width, 0, 0, c.threads);
  } else if (is_op(stage, "Identity")) {
    add_piece(pieces, 0, 0, y, to, from, width, 0, 0, c.threads);
  } else if (is_op(stage, "Transpose")) {
    const std::vector<int64_t>& perm = stage.attrs.as<TransposeAttrs>().perm;
    Dims strides(y.size());
    for (size_t k = 0; k < y.size(); ++k)
      strides[k] = from[perm.empty() ? y.size() - 1 - k : static_cast<size_t>(perm[k])];
    add_piece(pieces, 0, 0, y, to, strides, width, 0, 0, c.threads);
  } else if (is_op(stage, "Expand")) {
    Dims strides(y.size(), 0);
    const size_t lead = y.size() - x.size();
    for (size_t k = 0; k < x.size(); ++k) strides[lead + k] = x[k] == 1 ? 0 : from[k];
    add_piece(pieces, 0, 0, y, to, strides, width, 0, 0, c.threads);
  } else if (is_op(stage, "Tile")) {
    // Each axis becomes (repeats, extent).
    Dims dims, to_strides, from_strides;
    for (size_t k = 0; k < y.size(); ++k) {
      dims.insert(dims.end(), {x[k] == 0 ? 0 : y[k] / x[k], x[k]});
      to_strides.insert(to_strides.end(), {to[k] * x[k], to[k]});
      from_strides.insert(from_strides.end(), {0, from[k]});
    }
    add_piece(pieces, 0, 0, dims, to_strides, from_strides, width, 0, 0, c.threads);
  } else if (is_op(stage, "Slice")) {
    Dims strides = from;
    int64_t offset = 0;
    if (product(y) > 0) bind_slice(c, x, y, from, strides, offset);
    add_piece(pieces, 0, 0, y, to, strides, width, 0, offset, c.threads);
  } else if (is_op(stage, "Concat")) {
    int64_t axis = stage.attrs.as<ConcatAttrs>().axis;
    if (axis < 0) axis += static_cast<int64_t>(y.size());
    int64_t at = 0;
    for (size_t i = 0; i < stage.inputs.size(); ++i) {
      const uint16_t v = stage.inputs[i];
      const Dims& part = c.operands[v];
      add_piece(pieces, v, 0, part, to, layout_strides(problem.operands[v].layout, part), width,
                at * to[static_cast<size_t>(axis)], 0, threads);
      at += part[static_cast<size_t>(axis)];
    }
  } else {  // Split
    int64_t axis = stage.attrs.as<SplitAttrs>().axis;
    if (axis < 0) axis += static_cast<int64_t>(x.size());
    // Results nobody reads are not among the problem's, but they take their part of the axis.
    std::vector<int64_t> starts;
    int64_t at = 0;
    for (int64_t size : c.host[stage.inputs[1]]->to_integers()) {
      starts.push_back(at);
      at += size;
    }
    for (size_t r = 0; r < problem.results.size(); ++r) {
      const size_t output = problem.results[r].value - problem.first_result[0];
      const Dims& part = c.results[r];
      add_piece(pieces, 0, static_cast<int>(r), part, layout_strides(problem.results[r].layout, part), from, width, 0,
                starts[output] * from[static_cast<size_t>(axis)], threads);
    }
  }
  join_pieces(pieces);
  bound.chunks[0] = pieces.together ? pieces.list[0].copy.chunks : 0;
  for (const Piece& piece : pieces.list) {
    if (pieces.together) break;
    pieces.first_chunk.push_back(bound.chunks[0]);
    bound.chunks[0] += piece.copy.chunks;
  }
}

Status copy_run(const Launch& launch) {
  const Pieces& pieces = launch.bound->as<Pieces>();
  const auto run = [&](const Piece& piece, int64_t chunk) {
    piece.copy.run(launch.operands[launch.problem->operands.size() + static_cast<size_t>(piece.to)],
                   launch.operands[piece.from], chunk);
  };
  if (pieces.together) {
    for (const Piece& piece : pieces.list) run(piece, launch.chunk);
    return {};
  }
  const auto after = std::upper_bound(pieces.first_chunk.begin(), pieces.first_chunk.end(), launch.chunk);
  const auto index = static_cast<size_t>(after - pieces.first_chunk.begin()) - 1;
  run(pieces.list[index], launch.chunk - pieces.first_chunk[index]);
  return {};
}

// ---- padding: per axis, where each element of the result comes from ----

struct Padding {
  Dims y, from_strides;
  std::vector<std::vector<int64_t>> source;  // by axis: source index, or -1 for the fill value
  Range run{0, 0};                           // the longest part of the last axis that lies as one in the operand
  int64_t width, rows, chunks;
  bool no_source;  // the operand is empty: everything is filled
};

Range longest_run(const std::vector<int64_t>& source) {
  Range longest{0, 0};
  const auto count = static_cast<int64_t>(source.size());
  for (int64_t begin = 0, end = 0; begin < count; begin = end) {
    const auto at = [&](int64_t i) { return source[static_cast<size_t>(i)]; };
    end = begin + 1;
    while (end < count && at(begin) >= 0 && at(end) == at(end - 1) + 1) ++end;
    if (at(begin) >= 0 && end - begin > longest.end - longest.begin) longest = {begin, end};
  }
  return longest;
}

Answer pad_supports(const Kernel&, const Problem& problem, const DeviceSpec&) {
  if (Answer a = row_major_problem(problem, "Pad"); !a) return a;
  const int bits = bit_size(problem.operands[problem.stages[0].inputs[0]].type.dtype);
  if (bits > 64) return Answer::no("elements wider than 8 bytes");
  if (!axes_are_constant(problem, 3)) return Answer::no("the axes must be constant");
  return Answer::yes();
}

void pad_bind(const Kernel&, const void*, const BindContext& c, Bound& bound) {
  const Stage& stage = c.problem.stages[0];
  Padding& p = emplace<Padding>(bound);
  Dims x = c.operands[stage.inputs[0]];
  p.y = c.results[0];
  p.width = bit_size(c.problem.operands[stage.inputs[0]].type.dtype) / 8;
  const std::vector<int64_t> pads = c.host[stage.inputs[1]]->to_integers();
  const bool some_axes = stage.inputs.size() > 3 && stage.inputs[3] != absent_operand;
  const std::vector<int64_t> axes = some_axes ? c.host[stage.inputs[3]]->to_integers() : std::vector<int64_t>();
  const PadMode mode = stage.attrs.as<PadAttrs>().mode;
  std::vector<int64_t> before(x.size(), 0), after(x.size(), 0);
  const size_t count = some_axes ? axes.size() : x.size();
  for (size_t i = 0; i < count; ++i) {
    const int64_t axis = some_axes ? axes[i] : static_cast<int64_t>(i);
    const auto a = static_cast<size_t>(axis < 0 ? axis + static_cast<int64_t>(x.size()) : axis);
    for (int64_t pad : {pads[i], pads[i + count]})
      if (pad > max_elements || pad < -max_elements)
        throw Error(Code::limit, fmt::format("Pad: a pad of {} elements", pad));
    before[a] = pads[i];
    after[a] = pads[i + count];
  }
  const int64_t elements = product(p.y);
  // Last axes without padding are one with the axis before them, as long as that is no long list of places.
  constexpr int64_t longest_list = 1 << 16;
  int64_t inner = 1;
  while (elements > 0 && x.size() > 1 && before.back() == 0 && after.back() == 0 && p.y.back() == x.back() &&
         product(p.y, p.y.size() - 2, p.y.size()) <= longest_list / inner) {
    inner *= x.back();
    for (auto* list : {&x, &p.y, &before, &after}) list->pop_back();
  }
  if (!x.empty()) p.from_strides = layout_strides({}, x);
  for (int64_t& stride : p.from_strides) stride *= inner;
  for (size_t k = 0; k < x.size(); ++k) {
    std::vector<int64_t> source;
    for (int64_t i = 0; i < p.y[k] && elements > 0; ++i) {
      const int64_t from = pad_source(mode, i, before[k], after[k], x[k]);
      for (int64_t j = 0; j < (k + 1 == x.size() ? inner : 1); ++j)
        source.push_back(from < 0 ? -1 : k + 1 == x.size() ? from * inner + j : from);
    }
    if (mode != PadMode::constant && std::find(source.begin(), source.end(), -1) != source.end())
      throw Error(Code::invalid_argument, fmt::format("Pad: axis {} has no elements to repeat", k));
    p.source.push_back(std::move(source));
  }
  if (!p.y.empty()) p.y.back() *= inner;
  if (!p.source.empty()) p.run = longest_run(p.source.back());
  p.no_source = product(x) == 0;
  p.rows = p.y.empty() ? 1 : product(p.y, 0, p.y.size() - 1);
  p.chunks = bound.chunks[0] = elements == 0 ? 0 : chunks_for(elements * p.width, p.rows, c.threads);
}

template <typename T>
void pad_rows(const Padding& p, const T* x, const T* value, T* y, int64_t begin, int64_t end) {
  const T fill = value ? *value : T{};
  const size_t rank = p.y.size();
  if (rank == 0) {
    *y = *x;
    return;
  }
  const int64_t cols = p.y[rank - 1];
  const std::vector<int64_t>& last = p.source[rank - 1];
  for (int64_t row = begin; row < end; ++row) {
    int64_t rest = row, offset = 0;
    bool outside = p.no_source;
    for (size_t k = rank - 1; k-- > 0;) {
      const int64_t s = p.source[k][static_cast<size_t>(rest % p.y[k])];
      rest /= p.y[k];
      outside = outside || s < 0;
      offset += s * p.from_strides[k];
    }
    T* to = y + row * cols;
    if (outside) {
      std::fill(to, to + cols, fill);
      continue;
    }
    const T* from = x + offset;
    const auto singly = [&](int64_t i, int64_t stop) {
      for (; i < stop; ++i) {
        const int64_t s = last[static_cast<size_t>(i)];
        to[i] = s < 0 ? fill : from[s];
      }
    };
    singly(0, p.run.begin);
    if (p.run.begin < p.run.end)
      std::memcpy(to + p.run.begin, from + last[static_cast<size_t>(p.run.begin)],
                  static_cast<size_t>(p.run.end - p.run.begin) * sizeof(T));
    singly(p.run.end, cols);
  }
}

Status pad_run(const Launch& launch) {
  const Padding& p = launch.bound->as<Padding>();
  const Stage& stage = launch.problem->stages[0];
  const Range rows = part(p.rows, p.chunks, launch.chunk);
  const void* x = launch.operands[stage.inputs[0]];
  const bool valued = stage.inputs.size() > 2 && stage.inputs[2] != absent_operand;
  const void* value = valued ? launch.operands[stage.inputs[2]] : nullptr;
  void* y = launch.operands[launch.problem->operands.size()];
  const auto go = [&](auto zero) {
    using T = decltype(zero);
    pad_rows(p, static_cast<const T*>(x), static_cast<const T*>(value), static_cast<T*>(y), rows.begin, rows.end);
  };
  switch (p.width) {
    case 1: go(uint8_t{}); break;
    case 2: go(uint16_t{}); break;
    case 4: go(uint32_t{}); break;
    default: go(uint64_t{}); break;
  }
  return {};
}

// ---- triangles ----

struct Triangle {
  int64_t rows, cols, diagonal, width, total, chunks;
};

Answer trilu_supports(const Kernel&, const Problem& problem, const DeviceSpec&) {
  return row_major_problem(problem, "Trilu");
}

void trilu_bind(const Kernel&, const void*, const BindContext& c, Bound& bound) {
  const Stage& stage = c.problem.stages[0];
  const Dims& x = c.operands[stage.inputs[0]];
  Triangle& t = emplace<Triangle>(bound);
  t.cols = x[x.size() - 1];
  t.rows = x[x.size() - 2];
  const bool given = stage.inputs.size() > 1 && stage.inputs[1] != absent_operand;
  t.diagonal = given ? std::clamp(c.host[stage.inputs[1]]->get_integer(0), -max_elements, max_elements) : 0;
  t.width = bit_size(c.problem.operands[stage.inputs[0]].type.dtype) / 8;
  t.total = t.cols == 0 ? 0 : product(x, 0, x.size() - 1);
  t.chunks = bound.chunks[0] = chunks_for(t.total * t.cols * t.width, t.total, c.threads);
}

Status trilu_run(const Launch& launch) {
  const Triangle& t = launch.bound->as<Triangle>();
  const Stage& stage = launch.problem->stages[0];
  const bool upper = stage.attrs.as<TriluAttrs>().upper;
  const auto* x = static_cast<const std::byte*>(launch.operands[stage.inputs[0]]);
  auto* y = static_cast<std::byte*>(launch.operands[launch.problem->operands.size()]);
  const auto [begin, end] = part(t.total, t.chunks, launch.chunk);
  const auto bytes = [&](int64_t columns) { return static_cast<size_t>(columns * t.width); };
  for (int64_t row = begin; row < end; ++row) {
    const std::byte* from = x + row * t.cols * t.width;
    std::byte* to = y + row * t.cols * t.width;
    // The first kept column of an upper triangle; the first dropped one of a lower triangle.
    const int64_t border = std::clamp<int64_t>(row % t.rows + t.diagonal + (upper ? 0 : 1), 0, t.cols);
    if (upper) {
      std::memset(to, 0, bytes(border));
      std::memcpy(to + bytes(border), from + bytes(border), bytes(t.cols - border));
    } else {
      std::memcpy(to, from, bytes(border));
      std::memset(to + bytes(border), 0, bytes(t.cols - border));
    }
  }
  return {};
}

// ---- bands ----

struct BandPlan {
  int64_t rows, cols, total, chunks;
  Dims batch;
  Dims strides[2];  // of the bounds, by batch axis
};

Answer band_supports(const Kernel&, const Problem& problem, const DeviceSpec&) {
  return row_major_problem(problem, "Band");
}

void band_bind(const Kernel&, const void*, const BindContext& c, Bound& bound) {
  const Stage& stage = c.problem.stages[0];
  const Dims& y = c.results[0];
  BandPlan& b = emplace<BandPlan>(bound);
  b.batch.assign(y.begin(), y.end() - 2);
  b.rows = y[y.size() - 2];
  b.cols = y[y.size() - 1];
  b.total = product(y) == 0 ? 0 : product(y, 0, y.size() - 1);
  for (size_t i : {size_t{0}, size_t{1}}) {
    b.strides[i].assign(b.batch.size(), 0);
    if (!has(stage, i + 1)) continue;
    const Dims& own = c.operands[stage.inputs[i + 1]];
    int64_t stride = 1;
    for (size_t back = 3; back <= own.size(); ++back) {
      const int64_t extent = own[own.size() - back];
      if (extent != 1) b.strides[i][y.size() - back] = stride;
      stride *= extent;
    }
  }
  b.chunks = bound.chunks[0] = chunks_for(b.total * b.cols, b.total, c.threads);
}

Status band_run(const Launch& launch) {
  const BandPlan& b = launch.bound->as<BandPlan>();
  const Stage& stage = launch.problem->stages[0];
  auto* y = static_cast<uint8_t*>(launch.operands[launch.problem->operands.size()]);
  const auto [begin, end] = part(b.total, b.chunks, launch.chunk);
  int64_t first = 0, last = 0;
  for (int64_t row = begin; row < end; ++row) {
    const int64_t r = row % b.rows;
    if (row == begin || r == 0) {
      int64_t at[2] = {0, 0};
      for (size_t k = b.batch.size(), rest = static_cast<size_t>(row / b.rows); k-- > 0;) {
        const auto extent = static_cast<size_t>(b.batch[k]);
        for (size_t i : {size_t{0}, size_t{1}}) at[i] += static_cast<int64_t>(rest % extent) * b.strides[i][k];
        rest /= extent;
      }
      const auto value = [&](size_t i, int64_t otherwise) {
        if (!has(stage, i + 1)) return otherwise;
        const auto* bounds = static_cast<const int64_t*>(launch.operands[stage.inputs[i + 1]]);
        return std::clamp(bounds[at[i]], -max_elements, max_elements);
      };
      first = value(0, -max_elements);
      last = value(1, max_elements);
    }
    uint8_t* to = y + row * b.cols;
    const int64_t from = std::clamp<int64_t>(r + first, 0, b.cols);
    const int64_t behind = std::clamp<int64_t>(r + last + 1, from, b.cols);
    std::memset(to, 0, static_cast<size_t>(from));
    std::memset(to + from, 1, static_cast<size_t>(behind - from));
    std::memset(to + behind, 0, static_cast<size_t>(b.cols - behind));
  }
  return {};
}

// ---- rows picked by index ----

struct Picking {
  int64_t outer, extent, count, bytes, chunks;  // bytes of one picked block
  bool wide;                                    // 64-bit indices
};

Answer gather_supports(const Kernel&, const Problem& problem, const DeviceSpec&) {
  if (Answer a = row_major_problem(problem, "Gather"); !a) return a;
  const DType index = problem.operands[problem.stages[0].inputs[1]].type.dtype;
  if (index != DType::i64 && index != DType::i32) return Answer::no("indices must be i32 or i64");
  return Answer::yes();
}

void gather_bind(const Kernel&, const void*, const BindContext& c, Bound& bound) {
  const Stage& stage = c.problem.stages[0];
  const Dims& x = c.operands[stage.inputs[0]];
  const Dims& indices = c.operands[stage.inputs[1]];
  int64_t axis = stage.attrs.as<GatherAttrs>().axis;
  if (axis < 0) axis += static_cast<int64_t>(x.size());
  const auto a = static_cast<size_t>(axis);
  Picking& p = emplace<Picking>(bound);
  p.outer = product(x, 0, a);
  p.extent = x[a];
  p.count = product(indices);
  p.bytes = product(x, a + 1, x.size()) * bit_size(c.problem.operands[stage.inputs[0]].type.dtype) / 8;
  p.wide = c.problem.operands[stage.inputs[1]].type.dtype == DType::i64;
  // Blocks without bytes are not copied, but every index is checked once.
  if (p.bytes == 0) p.outer = p.outer == 0 ? 0 : 1;
  p.chunks = bound.chunks[0] = chunks_for(p.outer * p.count * p.bytes, p.outer * p.count, c.threads);
}

// width: bytes of a block that is one element; 0: p.bytes.
template <int width, typename I>
void gather_blocks(const Launch& launch, const Picking& p, const I* indices) {
  const auto* x = static_cast<const std::byte*>(launch.operands[launch.problem->stages[0].inputs[0]]);
  auto* y = static_cast<std::byte*>(launch.operands[launch.problem->operands.size()]);
  const auto [begin, end] = part(p.outer * p.count, p.chunks, launch.chunk);
  if (begin == end) return;
  int64_t n = begin % p.count;
  const std::byte* block = x + begin / p.count * p.extent * p.bytes;
  for (int64_t i = begin; i < end; ++i) {
    int64_t at = indices[n];
    if (at < 0) at += p.extent;
    if (static_cast<uint64_t>(at) >= static_cast<uint64_t>(p.extent)) {
      launch.fault->store(index_out_of_range, std::memory_order_relaxed);
      if (p.extent == 0) return;  // nothing is there to read
      at = std::clamp<int64_t>(at, 0, p.extent - 1);
    }
    if constexpr (width > 0)
      std::memcpy(y + i * width, block + at * width, width);
    else if (p.bytes > 0)
      std::memcpy(y + i * p.bytes, block + at * p.bytes, static_cast<size_t>(p.bytes));
    if (++n == p.count) {
      n = 0;
      block += p.extent * p.bytes;
    }
  }
}

Status gather_run(const Launch& launch) {
  const Picking& p = launch.bound->as<Picking>();
  const auto go = [&](const auto* indices) {
    switch (p.bytes) {
      case 1: return gather_blocks<1>(launch, p, indices);
      case 2: return gather_blocks<2>(launch, p, indices);
      case 4: return gather_blocks<4>(launch, p, indices);
      case 8: return gather_blocks<8>(launch, p, indices);
      default: return gather_blocks<0>(launch, p, indices);
    }
  };
  const void* indices = launch.operands[launch.problem->stages[0].inputs[1]];
  if (p.wide)
    go(static_cast<const int64_t*>(indices));
  else
    go(static_cast<const int32_t*>(indices));
  return {};
}

constexpr Kernel rows[] = {
    {.name = "copy",
     .supports = copy_supports,
     .needs = copy_needs,
     .cost = copy_cost,
     .bind = copy_bind,
     .run = copy_run},
    {.name = "pad",
     .supports = pad_supports,
     .needs = row_major_needs,
     .cost = copy_cost,
     .bind = pad_bind,
     .run = pad_run},
    {.name = "trilu",
     .supports = trilu_supports,
     .needs = row_major_needs,
     .cost = copy_cost,
     .bind = trilu_bind,
     .run = trilu_run},
    {.name = "band",
     .supports = band_supports,
     .needs = row_major_needs,
     .cost = copy_cost,
     .bind = band_bind,
     .run = band_run},
    {.name = "gather",
     .supports = gather_supports,
     .needs = row_major_needs,
     .cost = copy_cost,
     .bind = gather_bind,
     .run = gather_run},
};

}  // namespace

std::span<const Kernel> movement_kernels() { return rows; }

}  // namespace sinter::cpu
