// Elements and blocks that are read or written where indices or lengths say: GatherElements, GatherND, ScatterElements,
// ScatterND, PutRows, ReverseSequence.
//
// Indices are data: every one is tested and held within its axis before it becomes an address. Scatters and PutRows
// copy their operand in phase 0, unless the result lies over it, and apply the updates in phase 1; chunks of phase 1
// own disjoint parts of the result, and each of them goes through the updates in order, so the result does not depend
// on threads.

#include "ops/indexing.h"

#include <algorithm>
#include <cstring>

#include "backend/cpu/kernels/common.h"
#include "backend/cpu/kernels/families.h"
#include "ops/movement.h"

namespace sinter::cpu {
namespace {

double indexed_cost(const Kernel&, const Problem& problem, std::span<const int64_t> symbols, const DeviceSpec&) {
  double bytes = 0;
  for (const Operand& operand : problem.operands)
    bytes += elements_at(operand.type, symbols) * bit_size(operand.type.dtype) / 8;
  return 300 + bytes;
}

int64_t index_at(const void* indices, bool wide, int64_t n) {
  return wide ? static_cast<const int64_t*>(indices)[n] : static_cast<const int32_t*>(indices)[n];
}

// In [0, extent); extent > 0.
inline int64_t held_index(int64_t index, int64_t extent, std::atomic<uint32_t>* fault) {
  const int64_t at = index < 0 ? index + extent : index;
  if (static_cast<uint64_t>(at) < static_cast<uint64_t>(extent)) return at;
  fault->store(index_out_of_range, std::memory_order_relaxed);
  return at < 0 ? 0 : extent - 1;
}

// Combines y with an update; integers wrap, NaN stays. Types that only move have no reduction.
template <Reduction reduction, typename T>
inline T combined(T y, T u) {
  if constexpr (!std::is_arithmetic_v<T> || reduction == Reduction::none) {
    return u;
  } else if constexpr (std::is_floating_point_v<T>) {
    switch (reduction) {
      case Reduction::add: return y + u;
      case Reduction::mul: return y * u;
      case Reduction::max: return y != y || y > u ? y : u;
      default: return y != y || y < u ? y : u;
    }
  } else {
    using U = std::make_unsigned_t<T>;
    switch (reduction) {
      case Reduction::add: return static_cast<T>(static_cast<U>(y) + static_cast<U>(u));
      case Reduction::mul: return static_cast<T>(static_cast<U>(y) * static_cast<U>(u));
      case Reduction::max: return std::max(y, u);
      default: return std::min(y, u);
    }
  }
}

// Where operand 0 of the only stage lies, the result may be made: phase 0 then finds it there. Nothing else may be read
// from there.
bool overwrites_first(const Kernel&, const Problem& problem, size_t operand) {
  const std::vector<uint16_t>& inputs = problem.stages[0].inputs;
  return operand == inputs[0] && std::count(inputs.begin(), inputs.end(), inputs[0]) == 1;
}

Answer reduction_supported(const Problem& problem, Reduction reduction) {
  const DType dtype = problem.operands[problem.stages[0].inputs[0]].type.dtype;
  const bool known = dtype == DType::f32 || dtype == DType::f64 || dtype == DType::i32 || dtype == DType::i64;
  if (reduction != Reduction::none && !known) return Answer::no("reductions of f32, f64, i32 and i64 only");
  return Answer::yes();
}

template <Reduction r>
using Constant = std::integral_constant<Reduction, r>;

// Calls go(zero, reduction) with a number of the element's type, or of its width where elements only move, and with a
// constant.
template <typename F>
void by_update(DType dtype, Reduction reduction, F go) {
  if (reduction == Reduction::none)
    return by_width(bit_size(dtype) / 8, [&](auto zero) { go(zero, Constant<Reduction::none>()); });
  const auto typed = [&](auto constant) {
    switch (dtype) {
      case DType::f32: return go(float{}, constant);
      case DType::f64: return go(double{}, constant);
      case DType::i32: return go(int32_t{}, constant);
      default: return go(int64_t{}, constant);
    }
  };
  switch (reduction) {
    case Reduction::add: return typed(Constant<Reduction::add>());
    case Reduction::mul: return typed(Constant<Reduction::mul>());
    case Reduction::max: return typed(Constant<Reduction::max>());
    default: return typed(Constant<Reduction::min>());
  }
}

// ---- single elements along one axis ----

struct Elements {
  int64_t outer, count, inner;     // of the indices, around the axis
  int64_t extent, stride;          // of the operand's axis
  Dims outer_dims, outer_strides;  // of the indices; strides of the operand
  Dims inner_dims, inner_strides;
  bool same_inner;          // axes behind the one indexed are as long in the operand
  int64_t elements, bytes;  // of the operand
  bool wide, empty;
  bool by_outer;           // chunks are parts of the outer axes, else of the inner ones
  int64_t copies, chunks;  // of the phases
};

int64_t offset_of(int64_t flat, const Dims& dims, const Dims& strides) {
  int64_t offset = 0;
  for (size_t k = dims.size(); k-- > 0;) {
    offset += flat % dims[k] * strides[k];
    flat /= dims[k];
  }
  return offset;
}

void bind_elements(const BindContext& c, int64_t attribute, bool scatters, Bound& bound) {
  const Stage& stage = c.problem.stages[0];
  const Dims& x = c.operands[stage.inputs[0]];
  const Dims& indices = c.operands[stage.inputs[1]];
  const auto axis = static_cast<size_t>(attribute < 0 ? attribute + static_cast<int64_t>(x.size()) : attribute);
  Elements& e = emplace<Elements>(bound);
  const Dims strides = layout_strides({}, x);
  e.outer = product(indices, 0, axis);
  e.count = indices[axis];
  e.inner = product(indices, axis + 1, indices.size());
  e.extent = x[axis];
  e.stride = strides[axis];
  e.same_inner = true;
  for (size_t k = 0; k < x.size(); ++k) {
    if (k == axis) continue;
    (k < axis ? e.outer_dims : e.inner_dims).push_back(indices[k]);
    (k < axis ? e.outer_strides : e.inner_strides).push_back(strides[k]);
    if (k > axis) e.same_inner = e.same_inner && x[k] == indices[k];
  }
  e.wide = c.problem.operands[stage.inputs[1]].type.dtype == DType::i64;
  const int64_t width = bit_size(c.problem.operands[stage.inputs[0]].type.dtype) / 8;
  e.elements = product(x);
  e.bytes = e.elements * width;
  e.empty = e.elements == 0;
  const int64_t named = product(indices);
  e.by_outer = e.outer > 1 || e.inner == 1;
  const int64_t units = named == 0 ? 0 : e.by_outer ? e.outer : e.inner;
  e.chunks = chunks_for(named * (width + 8), units, c.threads);
  e.copies = scatters ? chunks_for(e.bytes, e.elements, c.threads) : 0;
  if (scatters) {
    bound.phases = 2;
    bound.chunks[0] = e.copies;
    bound.chunks[1] = e.chunks;
  } else {
    bound.chunks[0] = e.chunks;
  }
}

template <typename I, typename Visit>
void visit_elements(const Launch& launch, const Elements& e, const I* indices, Visit visit) {
  const Range range = part(e.by_outer ? e.outer : e.inner, e.chunks, launch.chunk);
  const int64_t o0 = e.by_outer ? range.begin : 0, o1 = e.by_outer ? range.end : e.outer;
  const int64_t i0 = e.by_outer ? 0 : range.begin, i1 = e.by_outer ? e.inner : range.end;
  for (int64_t o = o0; o < o1; ++o) {
    const int64_t base = offset_of(o, e.outer_dims, e.outer_strides);
    if (e.inner == 1) {
      for (int64_t k = o * e.count; k < (o + 1) * e.count; ++k)
        visit(k, base + held_index(indices[k], e.extent, launch.fault) * e.stride);
      continue;
    }
    for (int64_t k = 0; k < e.count; ++k)
      for (int64_t i = i0; i < i1; ++i) {
        const int64_t n = (o * e.count + k) * e.inner + i;
        const int64_t at = held_index(indices[n], e.extent, launch.fault);
        visit(n, base + at * e.stride + (e.same_inner ? i : offset_of(i, e.inner_dims, e.inner_strides)));
      }
  }
}

// Calls visit(n, at) for the chunk's indices in order: element n of the indices names element `at` of the operand.
template <typename Visit>
void for_elements(const Launch& launch, const Elements& e, const void* indices, Visit visit) {
  if (e.empty)
    launch.fault->store(index_out_of_range, std::memory_order_relaxed);
  else if (e.wide)
    visit_elements(launch, e, static_cast<const int64_t*>(indices), visit);
  else
    visit_elements(launch, e, static_cast<const int32_t*>(indices), visit);
}

Answer gather_elements_supports(const Kernel&, const Problem& problem, const DeviceSpec&) {
  return row_major_problem(problem, "GatherElements");
}

void gather_elements_bind(const Kernel&, const void*, const BindContext& c, Bound& bound) {
  bind_elements(c, c.problem.stages[0].attrs.as<GatherAttrs>().axis, false, bound);
}

Status gather_elements_run(const Launch& launch) {
  const Elements& e = launch.bound->as<Elements>();
  const Stage& stage = launch.problem->stages[0];
  by_width(bit_size(launch.problem->operands[stage.inputs[0]].type.dtype) / 8, [&](auto zero) {
    using T = decltype(zero);
    const T* x = static_cast<const T*>(launch.operands[stage.inputs[0]]);
    T* y = static_cast<T*>(launch.operands[launch.problem->operands.size()]);
    for_elements(launch, e, launch.operands[stage.inputs[1]], [=](int64_t n, int64_t at) { y[n] = x[at]; });
  });
  return {};
}

// Phase 0 of scatters.
void copy_part(const Launch& launch, int64_t bytes, int64_t elements, int64_t chunks) {
  const Range range = part(elements, chunks, launch.chunk);
  const int64_t width = bytes / elements;
  const auto* x = static_cast<const std::byte*>(launch.operands[launch.problem->stages[0].inputs[0]]);
  auto* y = static_cast<std::byte*>(launch.operands[launch.problem->operands.size()]);
  if (x == y) return;
  std::memcpy(y + range.begin * width, x + range.begin * width, static_cast<size_t>((range.end - range.begin) * width));
}

Answer scatter_elements_supports(const Kernel&, const Problem& problem, const DeviceSpec&) {
  if (Answer a = row_major_problem(problem, "ScatterElements"); !a) return a;
  return reduction_supported(problem, problem.stages[0].attrs.as<ScatterElementsAttrs>().reduction);
}

void scatter_elements_bind(const Kernel&, const void*, const BindContext& c, Bound& bound) {
  bind_elements(c, c.problem.stages[0].attrs.as<ScatterElementsAttrs>().axis, true, bound);
}

Status scatter_elements_run(const Launch& launch) {
  const Elements& e = launch.bound->as<Elements>();
  if (launch.phase == 0) {
    copy_part(launch, e.bytes, e.elements, e.copies);
    return {};
  }
  const Stage& stage = launch.problem->stages[0];
  const Reduction reduction = stage.attrs.as<ScatterElementsAttrs>().reduction;
  by_update(launch.problem->operands[stage.inputs[0]].type.dtype, reduction, [&](auto zero, auto constant) {
    using T = decltype(zero);
    constexpr Reduction how = decltype(constant)::value;
    const T* updates = static_cast<const T*>(launch.operands[stage.inputs[2]]);
    T* y = static_cast<T*>(launch.operands[launch.problem->operands.size()]);
    for_elements(launch, e, launch.operands[stage.inputs[1]],
                 [=](int64_t n, int64_t at) { y[at] = combined<how>(y[at], updates[n]); });
  });
  return {};
}

// ---- blocks named by tuples ----

struct Tuples {
  int64_t batches, each, length;  // tuples of each batch, numbers of a tuple
  Dims dims;                      // axes that tuples index
  int64_t picked, block;          // blocks of a batch, elements of a block
  int64_t elements, bytes;        // of the operand
  bool wide, empty;
  int64_t copies, units, chunks;
};

void bind_tuples(const BindContext& c, size_t batch, bool scatters, Bound& bound) {
  const Stage& stage = c.problem.stages[0];
  const Dims& x = c.operands[stage.inputs[0]];
  const Dims& indices = c.operands[stage.inputs[1]];
  Tuples& t = emplace<Tuples>(bound);
  const auto length = static_cast<size_t>(indices.back());
  t.batches = product(x, 0, batch);
  t.each = product(indices, batch, indices.size() - 1);
  t.length = indices.back();
  t.dims.assign(x.begin() + static_cast<int64_t>(batch), x.begin() + static_cast<int64_t>(batch + length));
  t.picked = product(t.dims);
  t.block = product(x, batch + length, x.size());
  t.wide = c.problem.operands[stage.inputs[1]].type.dtype == DType::i64;
  const int64_t width = bit_size(c.problem.operands[stage.inputs[0]].type.dtype) / 8;
  t.elements = product(x);
  t.bytes = t.elements * width;
  t.empty = t.picked == 0;
  // Gathers deal tuples; scatters deal the elements of a block, so that equal tuples stay in order.
  const int64_t tuples = product({t.batches, t.each});
  t.units = scatters ? (tuples == 0 ? 0 : t.block) : tuples;
  if (t.block == 0 && t.length == 0) t.units = 0;
  t.chunks = chunks_for(t.units == 0 ? 0 : tuples * t.block * width, t.units, c.threads);
  if (scatters && t.block < 64) t.chunks = std::min<int64_t>(t.chunks, 1);
  t.copies = scatters ? chunks_for(t.bytes, t.elements, c.threads) : 0;
  if (scatters) {
    bound.phases = 2;
    bound.chunks[0] = t.copies;
    bound.chunks[1] = t.chunks;
  } else {
    bound.chunks[0] = t.chunks;
  }
}

// Number of the block that a tuple names; t.empty is false.
int64_t block_of(const Tuples& t, const void* indices, int64_t tuple, std::atomic<uint32_t>* fault) {
  int64_t at = 0;
  for (int64_t k = 0; k < t.length; ++k) {
    const int64_t extent = t.dims[static_cast<size_t>(k)];
    at = at * extent + held_index(index_at(indices, t.wide, tuple * t.length + k), extent, fault);
  }
  return at;
}

Answer gather_nd_supports(const Kernel&, const Problem& problem, const DeviceSpec&) {
  return row_major_problem(problem, "GatherND");
}

void gather_nd_bind(const Kernel&, const void*, const BindContext& c, Bound& bound) {
  bind_tuples(c, static_cast<size_t>(c.problem.stages[0].attrs.as<GatherNDAttrs>().batch_dims), false, bound);
}

Status gather_nd_run(const Launch& launch) {
  const Tuples& t = launch.bound->as<Tuples>();
  const Stage& stage = launch.problem->stages[0];
  const auto* x = static_cast<const std::byte*>(launch.operands[stage.inputs[0]]);
  auto* y = static_cast<std::byte*>(launch.operands[launch.problem->operands.size()]);
  if (t.empty) {
    launch.fault->store(index_out_of_range, std::memory_order_relaxed);
    return {};
  }
  const int64_t bytes = t.block * bit_size(launch.problem->operands[stage.inputs[0]].type.dtype) / 8;
  const Range range = part(t.units, t.chunks, launch.chunk);
  for (int64_t n = range.begin; n < range.end; ++n) {
    const int64_t at = block_of(t, launch.operands[stage.inputs[1]], n, launch.fault);
    if (bytes == 0) continue;
    const std::byte* from = x + (n / t.each * t.picked + at) * bytes;
    if (bytes == 4)
      std::memcpy(y + n * 4, from, 4);
    else
      std::memcpy(y + n * bytes, from, static_cast<size_t>(bytes));
  }
  return {};
}

Answer scatter_nd_supports(const Kernel&, const Problem& problem, const DeviceSpec&) {
  if (Answer a = row_major_problem(problem, "ScatterND"); !a) return a;
  // Inference relates x, indices and updates only where it knows how many axes a tuple names.
  if (!problem.operands[problem.stages[0].inputs[1]].type.shape->back().is_constant())
    return Answer::no("tuples of unknown length");
  return reduction_supported(problem, problem.stages[0].attrs.as<ScatterNDAttrs>().reduction);
}

void scatter_nd_bind(const Kernel&, const void*, const BindContext& c, Bound& bound) { bind_tuples(c, 0, true, bound); }

Status scatter_nd_run(const Launch& launch) {
  const Tuples& t = launch.bound->as<Tuples>();
  if (launch.phase == 0) {
    copy_part(launch, t.bytes, t.elements, t.copies);
    return {};
  }
  const Stage& stage = launch.problem->stages[0];
  const Reduction reduction = stage.attrs.as<ScatterNDAttrs>().reduction;
  if (t.empty) {
    launch.fault->store(index_out_of_range, std::memory_order_relaxed);
    return {};
  }
  const Range range = part(t.units, t.chunks, launch.chunk);
  by_update(launch.problem->operands[stage.inputs[0]].type.dtype, reduction, [&](auto zero, auto constant) {
    using T = decltype(zero);
    constexpr Reduction how = decltype(constant)::value;
    const T* updates = static_cast<const T*>(launch.operands[stage.inputs[2]]);
    T* y = static_cast<T*>(launch.operands[launch.problem->operands.size()]);
    for (int64_t n = 0; n < t.each; ++n) {
      T* to = y + block_of(t, launch.operands[stage.inputs[1]], n, launch.fault) * t.block;
      const T* from = updates + n * t.block;
      for (int64_t i = range.begin; i < range.end; ++i) to[i] = combined<how>(to[i], from[i]);
    }
  });
  return {};
}

// ---- rows along one axis ----

struct Put {
  int64_t per;            // rows' outer positions that share one entry of `start`; 0: all do
  int64_t old, all;       // extents of the operand and of the result along the axis
  int64_t given, skip;    // rows of an outer position; those of them that later ones overwrite
  int64_t bytes;          // of a row
  int64_t copied, units;  // rows of the result; rows to be put
  int64_t copies, chunks;
  bool wide, circular, cut;
};

Answer put_rows_supports(const Kernel&, const Problem& problem, const DeviceSpec&) {
  return row_major_problem(problem, "PutRows");
}

void put_rows_bind(const Kernel&, const void*, const BindContext& c, Bound& bound) {
  const Stage& stage = c.problem.stages[0];
  const auto& attrs = stage.attrs.as<PutRowsAttrs>();
  const Dims &x = c.operands[stage.inputs[0]], &rows = c.operands[stage.inputs[1]], &y = c.results[0];
  const auto axis = static_cast<size_t>(attrs.axis < 0 ? attrs.axis + static_cast<int64_t>(x.size()) : attrs.axis);
  Put& p = emplace<Put>(bound);
  const int64_t outer = product(x, 0, axis);
  p.per = c.operands[stage.inputs[2]].empty() ? 0 : product(x, 1, axis);
  p.old = x[axis];
  p.all = y[axis];
  p.given = rows[axis];
  p.circular = attrs.circular;
  p.cut = attrs.cut;
  p.skip = p.circular ? std::max<int64_t>(0, p.given - p.all) : 0;
  p.bytes = product(x, axis + 1, x.size()) * bit_size(c.problem.operands[stage.inputs[0]].type.dtype) / 8;
  p.wide = c.problem.operands[stage.inputs[2]].type.dtype == DType::i64;
  p.copied = product(y) == 0 ? 0 : outer * p.all;
  p.units = product(rows) == 0 ? 0 : outer * (p.given - p.skip);
  // Without places there is something to say once.
  if (p.units == 0 && product(rows) > 0 && p.all == 0) p.units = 1;
  p.copies = bound.chunks[0] = chunks_for(p.copied * p.bytes, p.copied, c.threads);
  p.chunks = bound.chunks[1] = chunks_for(p.units * p.bytes, p.units, c.threads);
  bound.phases = 2;
}

void copy_rows(const Launch& launch, const Put& p) {
  const auto* x = static_cast<const std::byte*>(launch.operands[launch.problem->stages[0].inputs[0]]);
  auto* y = static_cast<std::byte*>(launch.operands[launch.problem->operands.size()]);
  if (x == y && p.old == p.all) return;  // an empty x may lie where y begins
  const Range range = part(p.copied, p.copies, launch.chunk);
  for (int64_t n = range.begin; n < range.end;) {
    const int64_t outer = n / p.all, row = n % p.all, count = std::min(p.all - row, range.end - n);
    const int64_t there = std::clamp<int64_t>(p.old - row, 0, count);
    if (there > 0)
      std::memcpy(y + n * p.bytes, x + (outer * p.old + row) * p.bytes, static_cast<size_t>(there * p.bytes));
    std::memset(y + (n + there) * p.bytes, 0, static_cast<size_t>((count - there) * p.bytes));
    n += count;
  }
}

Status put_rows_run(const Launch& launch) {
  const Put& p = launch.bound->as<Put>();
  if (launch.phase == 0) {
    copy_rows(launch, p);
    return {};
  }
  const Stage& stage = launch.problem->stages[0];
  if (p.all == 0) {
    if (!p.cut) launch.fault->store(index_out_of_range, std::memory_order_relaxed);
    return {};
  }
  const auto* rows = static_cast<const std::byte*>(launch.operands[stage.inputs[1]]);
  auto* y = static_cast<std::byte*>(launch.operands[launch.problem->operands.size()]);
  const int64_t each = p.given - p.skip;
  const Range range = part(p.units, p.chunks, launch.chunk);
  for (int64_t n = range.begin; n < range.end;) {
    const int64_t outer = n / each, row = p.skip + n % each;
    int64_t start = index_at(launch.operands[stage.inputs[2]], p.wide, p.per == 0 ? 0 : outer / p.per);
    // Held where sums do not overflow and rows stay without a place.
    start = p.circular ? (start % p.all + p.all) % p.all : std::clamp(start, -p.given, p.all);
    const int64_t place = p.circular ? (start + row) % p.all : start + row;
    int64_t count = std::min(p.given - row, range.end - n);
    if (place < 0 || place >= p.all) {
      if (!p.cut) launch.fault->store(index_out_of_range, std::memory_order_relaxed);
      count = place < 0 ? std::min(count, -place) : count;
    } else {
      count = std::min(count, p.all - place);
      std::memcpy(y + (outer * p.all + place) * p.bytes, rows + (outer * p.given + row) * p.bytes,
                  static_cast<size_t>(count * p.bytes));
    }
    n += count;
  }
  return {};
}

// ---- ReverseSequence ----

struct Reversal {
  int64_t rows, bytes;  // rows of axes up to the later of the two; bytes of what lies behind them
  int64_t batch_extent, batch_stride, time_extent, time_stride;  // in rows
  int64_t chunks;
  bool wide;
};

Answer reverse_supports(const Kernel&, const Problem& problem, const DeviceSpec&) {
  return row_major_problem(problem, "ReverseSequence");
}

void reverse_bind(const Kernel&, const void*, const BindContext& c, Bound& bound) {
  const Stage& stage = c.problem.stages[0];
  const Dims& x = c.operands[stage.inputs[0]];
  const auto& attrs = stage.attrs.as<ReverseSequenceAttrs>();
  const auto place = [&](int64_t axis) {
    return static_cast<size_t>(axis < 0 ? axis + static_cast<int64_t>(x.size()) : axis);
  };
  const size_t batch = place(attrs.batch_axis), time = place(attrs.time_axis), end = std::max(batch, time) + 1;
  Reversal& r = emplace<Reversal>(bound);
  r.rows = product(x) == 0 ? 0 : product(x, 0, end);
  r.bytes = product(x, end, x.size()) * bit_size(c.problem.operands[stage.inputs[0]].type.dtype) / 8;
  r.batch_extent = x[batch];
  r.batch_stride = product(x, batch + 1, end);
  r.time_extent = x[time];
  r.time_stride = product(x, time + 1, end);
  r.wide = c.problem.operands[stage.inputs[1]].type.dtype == DType::i64;
  r.chunks = bound.chunks[0] = chunks_for(r.rows == 0 ? 0 : r.rows * r.bytes, r.rows, c.threads);
}

Status reverse_run(const Launch& launch) {
  const Reversal& r = launch.bound->as<Reversal>();
  const Stage& stage = launch.problem->stages[0];
  const auto* x = static_cast<const std::byte*>(launch.operands[stage.inputs[0]]);
  const void* lengths = launch.operands[stage.inputs[1]];
  auto* y = static_cast<std::byte*>(launch.operands[launch.problem->operands.size()]);
  const Range range = part(r.rows, r.chunks, launch.chunk);
  for (int64_t n = range.begin; n < range.end; ++n) {
    int64_t length = index_at(lengths, r.wide, n / r.batch_stride % r.batch_extent);
    if (length < 0 || length > r.time_extent) {
      launch.fault->store(index_out_of_range, std::memory_order_relaxed);
      length = 0;
    }
    const int64_t t = n / r.time_stride % r.time_extent;
    const int64_t from = t < length ? n + (length - 1 - 2 * t) * r.time_stride : n;
    std::memcpy(y + n * r.bytes, x + from * r.bytes, static_cast<size_t>(r.bytes));
  }
  return {};
}

constexpr Kernel rows[] = {
    {.name = "gather_elements",
     .supports = gather_elements_supports,
     .needs = row_major_needs,
     .cost = indexed_cost,
     .bind = gather_elements_bind,
     .run = gather_elements_run},
    {.name = "gather_nd",
     .supports = gather_nd_supports,
     .needs = row_major_needs,
     .cost = indexed_cost,
     .bind = gather_nd_bind,
     .run = gather_nd_run},
    {.name = "scatter_elements",
     .supports = scatter_elements_supports,
     .needs = row_major_needs,
     .cost = indexed_cost,
     .bind = scatter_elements_bind,
     .run = scatter_elements_run,
     .may_overwrite = overwrites_first},
    {.name = "scatter_nd",
     .supports = scatter_nd_supports,
     .needs = row_major_needs,
     .cost = indexed_cost,
     .bind = scatter_nd_bind,
     .run = scatter_nd_run,
     .may_overwrite = overwrites_first},
    {.name = "put_rows",
     .supports = put_rows_supports,
     .needs = row_major_needs,
     .cost = indexed_cost,
     .bind = put_rows_bind,
     .run = put_rows_run,
     .may_overwrite = overwrites_first,
     .overwrites_by_size = true},
    {.name = "reverse_sequence",
     .supports = reverse_supports,
     .needs = row_major_needs,
     .cost = indexed_cost,
     .bind = reverse_bind,
     .run = reverse_run},
};

}  // namespace

std::span<const Kernel> indexing_kernels() { return rows; }

}  // namespace sinter::cpu
