// Tensors made of few numbers: Range, OneHot.

#include "ops/generation.h"

#include <cstring>

#include "backend/cpu/kernels/common.h"
#include "backend/cpu/kernels/families.h"
#include "ops/indexing.h"

namespace sinter::cpu {
namespace {

double made_cost(const Kernel&, const Problem& problem, std::span<const int64_t> symbols, const DeviceSpec&) {
  return 200 + elements_at(problem.types[problem.results[0].value], symbols);
}

// ---- Range ----

struct Progression {
  double start, step;  // of floats
  uint64_t first, by;  // of integers, which wrap
  int64_t count, chunks;
};

Answer range_supports(const Kernel&, const Problem& problem, const DeviceSpec&) {
  if (Answer a = row_major_problem(problem, "Range"); !a) return a;
  switch (problem.types[problem.results[0].value].dtype) {
    case DType::f32:
    case DType::f64:
    case DType::i32:
    case DType::i64: return Answer::yes();
    default: return Answer::no("f32, f64, i32 and i64 only");
  }
}

void range_bind(const Kernel&, const void*, const BindContext& c, Bound& bound) {
  const Stage& stage = c.problem.stages[0];
  const Tensor &start = *c.host[stage.inputs[0]], &step = *c.host[stage.inputs[2]];
  Progression& p = emplace<Progression>(bound);
  p.count = product(c.results[0]);
  if (p.count > 0) {
    p.start = start.get_real(0);
    p.step = step.get_real(0);
    p.first = static_cast<uint64_t>(start.get_integer(0));
    p.by = static_cast<uint64_t>(step.get_integer(0));
  }
  p.chunks = bound.chunks[0] = chunks_for(p.count * 8, p.count, c.threads);
}

Status range_run(const Launch& launch) {
  const Progression& p = launch.bound->as<Progression>();
  const Range range = part(p.count, p.chunks, launch.chunk);
  void* out = launch.operands[launch.problem->operands.size()];
  const auto reals = [&](auto* y) {
    for (int64_t i = range.begin; i < range.end; ++i)
      y[i] = static_cast<std::decay_t<decltype(*y)>>(p.start + static_cast<double>(i) * p.step);
  };
  const auto integers = [&](auto* y) {
    for (int64_t i = range.begin; i < range.end; ++i)
      y[i] = static_cast<std::decay_t<decltype(*y)>>(p.first + static_cast<uint64_t>(i) * p.by);
  };
  switch (launch.problem->types[launch.problem->results[0].value].dtype) {
    case DType::f32: reals(static_cast<float*>(out)); break;
    case DType::f64: reals(static_cast<double*>(out)); break;
    case DType::i32: integers(static_cast<int32_t*>(out)); break;
    default: integers(static_cast<int64_t*>(out)); break;
  }
  return {};
}

// ---- OneHot ----

struct Hot {
  int64_t outer, depth, inner, chunks;
};

Answer one_hot_supports(const Kernel&, const Problem& problem, const DeviceSpec&) {
  if (Answer a = row_major_problem(problem, "OneHot"); !a) return a;
  const DType indices = problem.operands[problem.stages[0].inputs[0]].type.dtype;
  if (indices != DType::i64 && indices != DType::i32) return Answer::no("indices in i64 and i32 only");
  if (bit_size(problem.types[problem.results[0].value].dtype) > 64) return Answer::no("elements of more than 8 bytes");
  return Answer::yes();
}

void one_hot_bind(const Kernel&, const void*, const BindContext& c, Bound& bound) {
  const Stage& stage = c.problem.stages[0];
  const Dims& y = c.results[0];
  const int64_t attribute = stage.attrs.as<OneHotAttrs>().axis;
  const auto axis = static_cast<size_t>(attribute < 0 ? attribute + static_cast<int64_t>(y.size()) : attribute);
  Hot& hot = emplace<Hot>(bound);
  hot.outer = product(y, 0, axis);
  hot.depth = y[axis];
  hot.inner = product(y, axis + 1, y.size());
  const int64_t count = product(y);
  hot.chunks = bound.chunks[0] = count == 0 ? 0 : chunks_for(count * 8, hot.outer, c.threads);
}

template <typename T, typename I>
void write_hot(const Hot& hot, Range range, const I* indices, const T* values, T* y) {
  for (int64_t o = range.begin; o < range.end; ++o) {
    T* to = y + o * hot.depth * hot.inner;
    std::fill_n(to, hot.depth * hot.inner, values[0]);
    for (int64_t i = 0; i < hot.inner; ++i) {
      const int64_t index = indices[o * hot.inner + i], at = index < 0 ? index + hot.depth : index;
      if (at >= 0 && at < hot.depth) to[at * hot.inner + i] = values[1];
    }
  }
}

Status one_hot_run(const Launch& launch) {
  const Hot& hot = launch.bound->as<Hot>();
  const Problem& problem = *launch.problem;
  const Stage& stage = problem.stages[0];
  const Range range = part(hot.outer, hot.chunks, launch.chunk);
  const void *indices = launch.operands[stage.inputs[0]], *values = launch.operands[stage.inputs[2]];
  void* out = launch.operands[problem.operands.size()];
  const auto go = [&](auto zero) {
    using T = decltype(zero);
    const auto* v = static_cast<const T*>(values);
    if (problem.operands[stage.inputs[0]].type.dtype == DType::i64)
      write_hot(hot, range, static_cast<const int64_t*>(indices), v, static_cast<T*>(out));
    else
      write_hot(hot, range, static_cast<const int32_t*>(indices), v, static_cast<T*>(out));
  };
  switch (bit_size(problem.types[problem.results[0].value].dtype)) {
    case 8: go(uint8_t{}); break;
    case 16: go(uint16_t{}); break;
    case 32: go(uint32_t{}); break;
    default: go(uint64_t{}); break;
  }
  return {};
}

constexpr Kernel rows[] = {
    {.name = "range",
     .supports = range_supports,
     .needs = row_major_needs,
     .cost = made_cost,
     .bind = range_bind,
     .run = range_run},
    {.name = "one_hot",
     .supports = one_hot_supports,
     .needs = row_major_needs,
     .cost = made_cost,
     .bind = one_hot_bind,
     .run = one_hot_run},
};

}  // namespace

std::span<const Kernel> generation_kernels() { return rows; }

}  // namespace sinter::cpu
