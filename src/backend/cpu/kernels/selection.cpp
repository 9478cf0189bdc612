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

constexpr int64_t strip = 64;  // neighbouring lines that are walked together

Needs row_major_needs(const Kernel&, const Problem& problem, const Config&, const DeviceSpec&) {
  return {std::vector<Layout>(problem.operands.size()), std::vector<Layout>(problem.results.size())};
}

Answer lines_supported(const Problem& problem) {
  if (Answer a = plain_problem(problem); !a) return a;
  for (const Operand& operand : problem.operands)
    if (!row_major_or_any(operand.layout)) return Answer::no("operands must be row-major");
  for (const Problem::Result& result : problem.results)
    if (!row_major_or_any(result.layout)) return Answer::no("results must be row-major");
  return Answer::yes();
}

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

struct Keyed {
  int64_t key, index;
};

struct TopLines {
  Lines lines;
  int64_t k;
};

Answer top_k_supports(const Kernel&, const Problem& problem, const DeviceSpec&) {
  if (problem.stages.size() != 1 || !is_op(problem.stages[0], "TopK")) return Answer::no("not a TopK");
  if (Answer a = lines_supported(problem); !a) return a;
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
  if (t.lines.units > 0) bound.scratch = checked_mul(t.lines.extent, static_cast<int64_t>(sizeof(Keyed)), "scratch");
}

// The k best of `count`, best first: largest key, then lowest index.
void select_best(Keyed* all, int64_t count, int64_t k) {
  const auto better = [](const Keyed& a, const Keyed& b) { return a.key != b.key ? a.key > b.key : a.index < b.index; };
  if (k * 16 < count) {
    std::partial_sort(all, all + k, all + count, better);
    return;
  }
  if (k < count) std::nth_element(all, all + k, all + count, better);
  std::sort(all, all + k, better);
}

template <typename T>
void top_lines(const Launch& launch, const TopLines& t, const T* x, T* values, int64_t* indices) {
  const Lines& lines = t.lines;
  const bool largest = launch.problem->stages[0].attrs.as<TopKAttrs>().largest;
  auto* all = reinterpret_cast<Keyed*>(launch.scratch);
  const Range range = part(lines.units, lines.chunks, launch.chunk);
  for (int64_t n = range.begin; n < range.end; ++n) {
    const int64_t o = n / lines.inner, i = n % lines.inner;
    const T* from = x + o * lines.extent * lines.inner + i;
    // ~key turns the order around without overflow.
    for (int64_t p = 0; p < lines.extent; ++p) {
      const int64_t key = sort_key(from[p * lines.inner]);
      all[p] = {largest ? key : ~key, p};
    }
    select_best(all, lines.extent, t.k);
    for (int64_t p = 0; p < t.k; ++p) {
      const int64_t to = (o * t.k + p) * lines.inner + i;
      if (values) values[to] = from[all[p].index * lines.inner];
      if (indices) indices[to] = all[p].index;
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
    top_lines(launch, t, static_cast<const T*>(launch.operands[problem.stages[0].inputs[0]]),
              static_cast<T*>(wanted[0]), static_cast<int64_t*>(wanted[1]));
  });
  return {};
}

// ---- ArgMax, ArgMin ----

Answer arg_supports(const Kernel&, const Problem& problem, const DeviceSpec&) {
  if (problem.stages.size() != 1 || (!is_op(problem.stages[0], "ArgMax") && !is_op(problem.stages[0], "ArgMin")))
    return Answer::no("not an ArgMax or ArgMin");
  if (Answer a = lines_supported(problem); !a) return a;
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

// Whether v takes the place of best. `last`: equal ones do as well.
template <bool largest, bool last, typename C>
inline bool takes(C v, C best) {
  bool better = largest ? v > best : v < best;
  if constexpr (last) better = better || v == best;
  if constexpr (std::is_floating_point_v<C>) better = (v != v) ? (last || best == best) : (better && best == best);
  return better;
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
    if (width == 1) {
      C best = comparable(from[0]);
      int64_t at = 0;
      for (int64_t k = 1; k < lines.extent; ++k) {
        const C v = comparable(from[k * lines.inner]);
        if (takes<largest, last>(v, best)) {
          best = v;
          at = k;
        }
      }
      to[0] = at;
      continue;
    }
    C best[strip];
    int64_t at[strip];
    for (int64_t i = 0; i < width; ++i) {
      best[i] = comparable(from[i]);
      at[i] = 0;
    }
    for (int64_t k = 1; k < lines.extent; ++k) {
      const T* row = from + k * lines.inner;
      for (int64_t i = 0; i < width; ++i) {
        const C v = comparable(row[i]);
        const bool take = takes<largest, last>(v, best[i]);
        best[i] = take ? v : best[i];
        at[i] = take ? k : at[i];
      }
    }
    std::memcpy(to, at, static_cast<size_t>(width) * sizeof(int64_t));
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
  if (Answer a = lines_supported(problem); !a) return a;
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
