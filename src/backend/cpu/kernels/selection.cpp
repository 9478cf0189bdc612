// TopK, ArgMax, ArgMin, CumSum, CumProd: work along one axis, line by line or for a strip of neighbouring lines at
// once.

#include "ops/selection.h"

#include <cmath>
#include <cstring>
#include <limits>

#include "backend/cpu/kernels/common.h"
#include "backend/cpu/kernels/families.h"
#include "backend/cpu/kernels/ordered.h"
#include "base/checked.h"
#include "tensor/convert.h"

namespace sinter::cpu {
namespace {

constexpr int64_t strip = 256;  // neighbouring lines that are walked together

DType dtype_of(const Problem& problem) { return problem.operands[problem.stages[0].inputs[0]].type.dtype; }

double elements_of(const Problem& problem, std::span<const int64_t> symbols) {
  return elements_at(problem.operands[problem.stages[0].inputs[0]].type, symbols);
}

struct Lines {
  int64_t outer, extent, inner;  // element k of line (o, i) is at (o * extent + k) * inner + i
  int64_t units, chunks;
};

Lines lines_along(const Dims& x, int64_t axis) {
  const auto a = static_cast<size_t>(axis < 0 ? axis + static_cast<int64_t>(x.size()) : axis);
  Lines lines{};
  lines.outer = product(x, 0, a);
  lines.extent = x[a];
  lines.inner = product(x, a + 1, x.size());
  return lines;
}

// ---- TopK ----

// What is sorted: the rank of an element, lowest for the best, then its index. Ranks of 32 bits share a word with
// indices of 32.
struct Keyed {
  uint64_t rank;
  int64_t index;
  bool operator<(const Keyed& other) const { return rank != other.rank ? rank < other.rank : index < other.index; }
  static Keyed of(uint64_t rank, int64_t index) { return {rank, index}; }
};
struct Packed {
  uint64_t word;
  bool operator<(const Packed& other) const { return word < other.word; }
  static Packed of(uint64_t rank, int64_t index) { return {rank << 32 | static_cast<uint64_t>(index)}; }
};
inline int64_t index_of(Keyed k) { return k.index; }
inline int64_t index_of(Packed k) { return static_cast<int64_t>(k.word & UINT32_MAX); }

template <bool largest, typename T>
inline uint64_t rank_of(T v) {
  constexpr uint64_t bits = sizeof(T) > 4 ? ~uint64_t{0} : UINT32_MAX;
  constexpr uint64_t bias = std::is_same_v<T, uint32_t> ? 0 : bits / 2 + 1;
  const uint64_t rank = (static_cast<uint64_t>(sort_key(v)) + bias) & bits;
  return largest ? bits - rank : rank;
}

constexpr int64_t neighbours = 8;  // lines that are gathered together

struct TopLines {
  Lines lines;
  int64_t k, room;  // candidates that are kept at a time
};

Answer top_k_supports(const Kernel&, const Problem& problem, const DeviceSpec&) {
  if (problem.stages.size() != 1 || !is_op(problem.stages[0], "TopK")) return Answer::no("not a TopK");
  if (Answer a = row_major_problem(problem); !a) return a;
  if (!is_number(dtype_of(problem))) return Answer::no("elements of a type that is not sorted here");
  return Answer::yes();
}

double top_k_cost(const Kernel&, const Problem& problem, std::span<const int64_t> symbols, const DeviceSpec&) {
  return 300 + 4 * elements_of(problem, symbols);
}

void top_k_bind(const Kernel&, const void*, const BindContext& c, Bound& bound) {
  const Stage& stage = c.problem.stages[0];
  const int64_t axis = stage.attrs.as<TopKAttrs>().axis;
  TopLines& t = emplace<TopLines>(bound);
  t.lines = lines_along(c.operands[stage.inputs[0]], axis);
  t.k = lines_along(c.results[0], axis).extent;
  t.lines.units = t.k == 0 ? 0 : product({t.lines.outer, t.lines.inner});
  t.lines.chunks = bound.chunks[0] =
      chunks_for(t.lines.units == 0 ? 0 : t.lines.units * t.lines.extent * 32, t.lines.units, c.threads);
  t.room = std::min(t.lines.extent, checked_add(checked_mul(2, t.k, "scratch"), 32, "scratch"));
  if (t.lines.units == 0) return;
  bound.scratch = checked_mul(t.room, static_cast<int64_t>(sizeof(Keyed)), "scratch");
  if (t.lines.inner > 1)
    bound.scratch =
        checked_add(bound.scratch, checked_mul(t.lines.extent, int64_t{8} * neighbours, "scratch"), "scratch");
}

// Whether v cannot stand before `limit`, the last of those kept; false where a look at ranks is needed (NaN).
template <bool largest, typename T>
inline bool stands_behind(T v, T limit) {
  if constexpr (std::is_arithmetic_v<T>)
    return largest ? v <= limit : v >= limit;
  else
    return false;
}

// Whether a block of elements does. Counted, not combined, so that several are compared at once.
constexpr int64_t block = 16;
template <bool largest, typename T>
inline bool block_stands_behind(const T* line, T limit) {
  int32_t behind = 0;
  for (int64_t j = 0; j < block; ++j) behind += stands_behind<largest>(line[j], limit);
  return behind == block;
}

// Up to this many, those kept so far are a sorted list into which better ones are inserted.
constexpr int64_t few = 128;

template <bool largest, typename K, typename T>
void insert_best(const T* line, int64_t extent, int64_t k, K* kept) {
  int64_t size = 0;
  uint64_t worst = 0;
  T limit{};
  for (int64_t first = 0; first < extent; first += block) {
    const int64_t end = std::min(extent, first + block);
    if (size == k && end - first == block && block_stands_behind<largest>(line + first, limit)) continue;
    for (int64_t p = first; p < end; ++p) {
      if (size == k && stands_behind<largest>(line[p], limit)) continue;
      const uint64_t rank = rank_of<largest>(line[p]);
      // An equal one that comes later stands behind.
      if (size == k && rank >= worst) continue;
      const K key = K::of(rank, p);
      size = std::min(size + 1, k);
      K* at = kept + size - 1;
      for (; at != kept && key < at[-1]; --at) *at = at[-1];
      *at = key;
      limit = line[index_of(kept[size - 1])];
      worst = rank_of<largest>(limit);
    }
  }
}

// The k best of a line, best first, to the front of `kept`. Of many, the k best seen so far are found each time that
// the room is full; what stands behind them is left out.
template <bool largest, typename K, typename T>
void select_best(const T* line, int64_t extent, int64_t k, int64_t room, K* kept) {
  if (k <= few && k < extent) return insert_best<largest>(line, extent, k, kept);
  int64_t size = 0;
  bool full = false;
  uint64_t worst = 0;
  T limit{};
  for (int64_t first = 0; first < extent; first += block) {
    const int64_t end = std::min(extent, first + block);
    if (full && end - first == block && block_stands_behind<largest>(line + first, limit)) continue;
    for (int64_t p = first; p < end; ++p) {
      if (full && stands_behind<largest>(line[p], limit)) continue;
      const uint64_t rank = rank_of<largest>(line[p]);
      if (full && rank >= worst) continue;
      kept[size++] = K::of(rank, p);
      if (size < room) continue;
      std::nth_element(kept, kept + k - 1, kept + size);
      size = k;
      limit = line[index_of(kept[k - 1])];
      worst = rank_of<largest>(limit);
      full = true;
    }
  }
  if (k < size) std::nth_element(kept, kept + k, kept + size);
  std::sort(kept, kept + k);
}

template <bool largest, typename K, typename T>
void top_lines(const Launch& launch, const TopLines& t, const T* x, T* values, int64_t* indices) {
  const Lines& lines = t.lines;
  auto* kept = reinterpret_cast<K*>(launch.scratch);
  auto* gathered = reinterpret_cast<T*>(launch.scratch + t.room * static_cast<int64_t>(sizeof(Keyed)));
  const Range range = part(lines.units, lines.chunks, launch.chunk);
  int64_t next = 0, there = 0;  // lines that are gathered already
  for (int64_t n = range.begin; n < range.end; ++n) {
    const int64_t o = n / lines.inner, i = n % lines.inner;
    const T* line = x + o * lines.extent * lines.inner + i;
    if (lines.inner > 1) {
      if (next == there) {
        next = 0;
        there = std::min({neighbours, lines.inner - i, range.end - n});
        for (int64_t p = 0; p < lines.extent; ++p)
          for (int64_t l = 0; l < there; ++l) gathered[l * lines.extent + p] = line[p * lines.inner + l];
      }
      line = gathered + next++ * lines.extent;
    }
    select_best<largest>(line, lines.extent, t.k, t.room, kept);
    for (int64_t p = 0; p < t.k; ++p) {
      const int64_t to = (o * t.k + p) * lines.inner + i, from = index_of(kept[p]);
      if (values) values[to] = line[from];
      if (indices) indices[to] = from;
    }
  }
}

Status top_k_run(const Launch& launch) {
  const TopLines& t = launch.bound->as<TopLines>();
  const Problem& problem = *launch.problem;
  // Either result may be unused.
  void* wanted[2] = {nullptr, nullptr};
  for (size_t r = 0; r < problem.results.size(); ++r)
    wanted[problem.results[r].value - problem.first_result[0]] = launch.operands[problem.operands.size() + r];
  by_number(dtype_of(problem), [&](auto zero) {
    using T = decltype(zero);
    const T* x = static_cast<const T*>(launch.operands[problem.stages[0].inputs[0]]);
    T* values = static_cast<T*>(wanted[0]);
    auto* indices = static_cast<int64_t*>(wanted[1]);
    const bool largest = problem.stages[0].attrs.as<TopKAttrs>().largest;
    const auto go = [&](auto kept) {
      using K = decltype(kept);
      largest ? top_lines<true, K>(launch, t, x, values, indices) : top_lines<false, K>(launch, t, x, values, indices);
    };
    if (sizeof(T) <= 4 && t.lines.extent <= UINT32_MAX)
      go(Packed{});
    else
      go(Keyed{});
  });
  return {};
}

// ---- ArgMax, ArgMin ----

Answer arg_supports(const Kernel&, const Problem& problem, const DeviceSpec&) {
  if (problem.stages.size() != 1 || (!is_op(problem.stages[0], "ArgMax") && !is_op(problem.stages[0], "ArgMin")))
    return Answer::no("not an ArgMax or ArgMin");
  if (Answer a = row_major_problem(problem); !a) return a;
  if (!is_number(dtype_of(problem))) return Answer::no("elements of a type that is not compared here");
  return Answer::yes();
}

double arg_cost(const Kernel&, const Problem& problem, std::span<const int64_t> symbols, const DeviceSpec&) {
  return 200 + elements_of(problem, symbols);
}

void arg_bind(const Kernel&, const void*, const BindContext& c, Bound& bound) {
  const Stage& stage = c.problem.stages[0];
  Lines& lines = emplace<Lines>(bound);
  lines = lines_along(c.operands[stage.inputs[0]], stage.attrs.as<ArgAttrs>().axis);
  const bool any = lines.outer > 0 && lines.inner > 0;
  if (any && lines.extent == 0)
    throw Error(Code::invalid_argument, "ArgMax and ArgMin need at least one element along their axis");
  lines.units = any ? lines.outer * ((lines.inner + strip - 1) / strip) : 0;
  lines.chunks = bound.chunks[0] =
      chunks_for(lines.units == 0 ? 0 : lines.outer * lines.extent * lines.inner * 4, lines.units, c.threads);
}

// A comparable number for ArgMax; NaN is greater than any (ArgMin turns the order of the others around).
inline float comparable(float v) { return v; }
inline double comparable(double v) { return v; }
inline float comparable(Half v) { return half_to_float(v.bits); }
inline float comparable(Brain v) { return bfloat_to_float(v.bits); }
template <typename T>
requires std::is_integral_v<T>
inline T comparable(T v) { return v; }

// Whether v takes the place of best: the first NaN, else a better number. `last`: equal ones do as well. Without
// branches, so that neighbouring lines go side by side.
template <bool largest, bool last, typename C>
inline bool takes(C v, C best) {
  bool better;
  if constexpr (last)
    better = largest ? v >= best : v <= best;
  else
    better = largest ? v > best : v < best;
  if constexpr (std::is_floating_point_v<C>) better = better | ((v != v) & (last || best == best));
  return better;
}

// Whether element i with value v is to be chosen rather than element j with value w.
template <bool largest, bool last, typename C>
bool chosen_before(C v, int64_t i, C w, int64_t j) {
  if constexpr (std::is_floating_point_v<C>)
    if ((v != v) != (w != w)) return v != v;
  if (v < w || v > w) return largest ? v > w : v < w;
  return last ? i > j : i < j;
}

// Indices as wide as what is compared, where they fit.
template <bool largest, bool last, typename At, typename T>
void arg_strip(const T* from, int64_t extent, int64_t inner, int64_t width, int64_t* to) {
  using C = decltype(comparable(T{}));
  C best[strip];
  At at[strip];
  for (int64_t i = 0; i < width; ++i) {
    best[i] = comparable(from[i]);
    at[i] = 0;
  }
  for (int64_t k = 1; k < extent; ++k) {
    const T* row = from + k * inner;
    const auto here = static_cast<At>(k);
    for (int64_t i = 0; i < width; ++i) {
      const C v = comparable(row[i]);
      const bool take = takes<largest, last>(v, best[i]);
      best[i] = take ? v : best[i];
      at[i] = take ? here : at[i];
    }
  }
  for (int64_t i = 0; i < width; ++i) to[i] = static_cast<int64_t>(at[i]);
}

template <bool largest, bool last, typename T>
void arg_lines(const Lines& lines, Range range, const T* x, int64_t* y) {
  using C = decltype(comparable(T{}));
  const int64_t strips = (lines.inner + strip - 1) / strip;
  for (int64_t n = range.begin; n < range.end; ++n) {
    const int64_t o = n / strips, first = n % strips * strip;
    const int64_t width = std::min(strip, lines.inner - first);
    const T* from = x + o * lines.extent * lines.inner + first;
    int64_t* to = y + o * lines.inner + first;
    if (width > 1) {
      if (sizeof(C) <= 4 && lines.extent <= INT32_MAX)
        arg_strip<largest, last, int32_t>(from, lines.extent, lines.inner, width, to);
      else
        arg_strip<largest, last, int64_t>(from, lines.extent, lines.inner, width, to);
      continue;
    }
    // One line is as many short ones side by side, where the instructions compare several at once.
    C best = comparable(from[0]);
    int64_t at = 0, done = 1;
    constexpr int64_t lanes = 32;
    if (sizeof(C) <= 4 && lines.inner == 1 && lines.extent >= 2 * lanes && lines.extent <= INT32_MAX) {
      int64_t of_lane[lanes];
      const int64_t rows = lines.extent / lanes;
      arg_strip<largest, last, int32_t>(from, rows, lanes, lanes, of_lane);
      for (int64_t l = 0; l < lanes; ++l) {
        const int64_t k = of_lane[l] * lanes + l;
        if (l > 0 && !chosen_before<largest, last>(comparable(from[k]), k, best, at)) continue;
        best = comparable(from[k]);
        at = k;
      }
      done = rows * lanes;
    }
    for (int64_t k = done; k < lines.extent; ++k) {
      const C v = comparable(from[k * lines.inner]);
      if (takes<largest, last>(v, best)) [[unlikely]] {
        best = v;
        at = k;
      }
    }
    to[0] = at;
  }
}

Status arg_run(const Launch& launch) {
  const Lines& lines = launch.bound->as<Lines>();
  const Problem& problem = *launch.problem;
  const Stage& stage = problem.stages[0];
  const bool largest = is_op(stage, "ArgMax"), last = stage.attrs.as<ArgAttrs>().select_last;
  const Range range = part(lines.units, lines.chunks, launch.chunk);
  by_number(dtype_of(problem), [&](auto zero) {
    using T = decltype(zero);
    const T* x = static_cast<const T*>(launch.operands[stage.inputs[0]]);
    auto* y = static_cast<int64_t*>(launch.operands[problem.operands.size()]);
    if (largest)
      last ? arg_lines<true, true>(lines, range, x, y) : arg_lines<true, false>(lines, range, x, y);
    else
      last ? arg_lines<false, true>(lines, range, x, y) : arg_lines<false, false>(lines, range, x, y);
  });
  return {};
}

// ---- CumSum, CumProd ----

Answer cumulative_supports(const Kernel&, const Problem& problem, const DeviceSpec&) {
  if (problem.stages.size() != 1 || (!is_op(problem.stages[0], "CumSum") && !is_op(problem.stages[0], "CumProd")))
    return Answer::no("not a CumSum or CumProd");
  if (Answer a = row_major_problem(problem); !a) return a;
  const DType dtype = dtype_of(problem);
  if (dtype != DType::f32 && dtype != DType::f64 && dtype != DType::i32 && dtype != DType::i64)
    return Answer::no("f32, f64, i32 and i64 only");
  // An axis in symbols was not tested by inference.
  if (!std::holds_alternative<Tensor>(problem.operands[problem.stages[0].inputs[1]].contents))
    return Answer::no("the axis must be a constant");
  return Answer::yes();
}

double cumulative_cost(const Kernel&, const Problem& problem, std::span<const int64_t> symbols, const DeviceSpec&) {
  return 200 + 2 * elements_of(problem, symbols);
}

void cumulative_bind(const Kernel&, const void*, const BindContext& c, Bound& bound) {
  const Stage& stage = c.problem.stages[0];
  Lines& lines = emplace<Lines>(bound);
  lines = lines_along(c.operands[stage.inputs[0]], c.host[stage.inputs[1]]->get_integer(0));
  const bool any = lines.outer > 0 && lines.inner > 0 && lines.extent > 0;
  lines.units = any ? lines.outer * ((lines.inner + strip - 1) / strip) : 0;
  lines.chunks = bound.chunks[0] =
      chunks_for(lines.units == 0 ? 0 : lines.outer * lines.extent * lines.inner * 8, lines.units, c.threads);
}

// Sums as wide as the definition's: double, or 64 bits that wrap.
template <typename T, bool product>
void accumulate(const Launch& launch, const Lines& lines, const T* x, T* y) {
  using A = std::conditional_t<std::is_floating_point_v<T>, double, uint64_t>;
  const auto& attrs = launch.problem->stages[0].attrs.as<CumulativeAttrs>();
  const int64_t strips = (lines.inner + strip - 1) / strip;
  const Range range = part(lines.units, lines.chunks, launch.chunk);
  for (int64_t n = range.begin; n < range.end; ++n) {
    const int64_t first = n % strips * strip, width = std::min(strip, lines.inner - first);
    const int64_t base = n / strips * lines.extent * lines.inner + first;
    A sum[strip];
    std::fill(sum, sum + width, product ? A{1} : A{0});
    for (int64_t p = 0; p < lines.extent; ++p) {
      const int64_t at = base + (attrs.reverse ? lines.extent - 1 - p : p) * lines.inner;
      for (int64_t i = 0; i < width; ++i) {
        const A v = static_cast<A>(x[at + i]), next = product ? sum[i] * v : sum[i] + v;
        y[at + i] = static_cast<T>(attrs.exclusive ? sum[i] : next);
        sum[i] = next;
      }
    }
  }
}

Status cumulative_run(const Launch& launch) {
  const Lines& lines = launch.bound->as<Lines>();
  const Problem& problem = *launch.problem;
  const Stage& stage = problem.stages[0];
  const auto go = [&](auto zero) {
    using T = decltype(zero);
    const T* x = static_cast<const T*>(launch.operands[stage.inputs[0]]);
    T* y = static_cast<T*>(launch.operands[problem.operands.size()]);
    is_op(stage, "CumProd") ? accumulate<T, true>(launch, lines, x, y) : accumulate<T, false>(launch, lines, x, y);
  };
  switch (dtype_of(problem)) {
    case DType::f32: go(float{}); break;
    case DType::f64: go(double{}); break;
    case DType::i32: go(int32_t{}); break;
    default: go(int64_t{}); break;
  }
  return {};
}

constexpr Kernel rows[] = {
    {.name = "top_k",
     .supports = top_k_supports,
     .needs = row_major_needs,
     .cost = top_k_cost,
     .bind = top_k_bind,
     .run = top_k_run},
    {.name = "arg_extreme",
     .supports = arg_supports,
     .needs = row_major_needs,
     .cost = arg_cost,
     .bind = arg_bind,
     .run = arg_run},
    {.name = "cumulative",
     .supports = cumulative_supports,
     .needs = row_major_needs,
     .cost = cumulative_cost,
     .bind = cumulative_bind,
     .run = cumulative_run},
};

}  // namespace

std::span<const Kernel> selection_kernels() { return rows; }

}  // namespace sinter::cpu
