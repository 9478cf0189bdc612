// Resize of f32 and bf16, nearest and linear, in any strided layout: lines along the last resampled axis are mixed from
// the lines of the other resampled axes, then resampled along it with everything behind it as one run. With channels
// last those runs are channels. Nearest moves numbers as they are; linear works in f32, line by line. Other modes are
// those of resample.cpp.

#include "ops/resize.h"

#include <cmath>
#include <cstring>

#include "backend/cpu/device.h"
#include "backend/cpu/kernels/common.h"
#include "backend/cpu/kernels/convolution.h"
#include "backend/cpu/kernels/families.h"
#include "backend/cpu/kernels/lines.h"
#include "base/checked.h"

namespace sinter::cpu {
namespace {

constexpr size_t scales_operand = 2, sizes_operand = 3;

Answer supports(const Kernel&, const Problem& problem, const DeviceSpec&) {
  if (problem.stages.size() != 1 || !is_op(problem.stages[0], "Resize")) return Answer::no("not a Resize");
  if (Answer a = plain_problem(problem); !a) return a;
  const Stage& stage = problem.stages[0];
  const ResizeAttrs& attrs = stage.attrs.as<ResizeAttrs>();
  if (attrs.mode == ResizeMode::cubic || attrs.antialias) return Answer::no("cubic or antialiased");
  if (attrs.coordinates == Coordinates::tf_crop_and_resize) return Answer::no("crops");
  if (attrs.mode == ResizeMode::linear && attrs.exclude_outside) return Answer::no("excludes the outside");
  if (attrs.aspect != AspectPolicy::stretch) return Answer::no("keeps the aspect ratio");
  if (Answer a = is_image(problem, stage.inputs[0]); !a) return a;
  for (size_t i = 1; i < stage.inputs.size(); ++i)
    if (stage.inputs[i] != absent_operand &&
        (stage.inputs[i] >= problem.operands.size() || !problem.operands[stage.inputs[i]].host))
      return Answer::no("scales or sizes are computed");
  const Operand& x = problem.operands[stage.inputs[0]];
  if (!strides_or_any(x.layout)) return Answer::no("the operand is packed");
  // Lines are mixed as a whole.
  if (x.layout.pitch && attrs.mode != ResizeMode::nearest) return Answer::no("the operand must be dense");
  if (problem.results.size() != 1) return Answer::no("not one result");
  const Layout& y = problem.results[0].layout;
  if (y.kind != Layout::Kind::any && x.layout.kind != Layout::Kind::any && y.order != x.layout.order)
    return Answer::no("the result must lie as the operand");
  if (!strides_or_any(y)) return Answer::no("the result is packed");
  if (y.pitch && attrs.mode != ResizeMode::nearest && x.type.dtype == DType::bf16)
    return Answer::no("the result must be dense");
  return Answer::yes();
}

Needs needs(const Kernel&, const Problem& problem, const Config&, const DeviceSpec&) {
  const uint16_t x = problem.stages[0].inputs[0];
  const size_t rank = problem.types[x].shape->size();
  const Layout &mine = problem.operands[x].layout, &made = problem.results[0].layout;
  const Layout chosen = mine.kind != Layout::Kind::any   ? mine
                        : made.kind != Layout::Kind::any ? made
                        : rank >= 3                      ? Layout::channels_last(rank)
                                                         : Layout();
  Needs needs = image_needs(problem, x, chosen.dense());
  needs.operands[x] = settled(mine, chosen.dense());
  needs.results[0] = settled(made, chosen.dense());
  return needs;
}

double cost(const Kernel&, const Problem& problem, std::span<const int64_t> symbols, const DeviceSpec&) {
  const double width = problem.types[problem.first_result[0]].dtype == DType::bf16 ? 2 : 4;
  return 500 + width / 4 * elements_at(problem.types[problem.first_result[0]], symbols);
}

// One axis: where elements come from, and how much of the second one.
struct Sampling {
  std::vector<int64_t> first, second;
  std::vector<float> weight;  // of the second; empty for nearest
};

struct Axis {
  int64_t in, out;
  int64_t in_stride;
  int sampling = -1;  // of Plan::samplings, -1: kept
};

struct Plan {
  std::vector<Axis> outer;  // physical order, before the last resampled axis
  std::vector<Sampling> samplings;
  std::vector<size_t> mixed;  // positions in outer of resampled axes
  int last = -1;              // sampling of the last resampled axis
  int64_t last_in = 1, last_out = 1, inner = 1;
  int64_t in_step = 1, out_step = 1, out_row = 1;  // from run to run along it, and from row to row of the result
  int64_t rows = 0, rows_per_chunk = 1;
  // Linear over bf16: a line of the operand as floats lies in the scratch behind the mixture, then one of the result.
  const SpatialTable* table = nullptr;
  bool narrow = false;
  int64_t widened = 0, made = 0;  // floats into the scratch
};

// Elements as they are.
Sampling same(const ResizeAttrs& attrs, int64_t extent) {
  Sampling s;
  for (int64_t i = 0; i < extent; ++i) s.first.push_back(i);
  if (attrs.mode != ResizeMode::nearest) {
    s.second = s.first;
    s.weight.assign(s.first.size(), 0);
  }
  return s;
}

Sampling sample(const ResizeAttrs& attrs, int64_t in, int64_t out, double scale) {
  Sampling s;
  const auto last = static_cast<double>(in - 1);
  for (int64_t o = 0; o < out; ++o) {
    double place =
        source_place(attrs, static_cast<double>(o), static_cast<double>(in), static_cast<double>(out), {scale, 0, 1});
    if (std::isnan(place))
      throw Error(Code::invalid_argument, "the scales of a Resize lead to no place in its operand");
    place = std::clamp(place, -2.0, last + 2);
    if (attrs.mode == ResizeMode::nearest) {
      s.first.push_back(static_cast<int64_t>(std::clamp(nearest_place(attrs.nearest, place, scale), 0.0, last)));
      continue;
    }
    const double floor = std::floor(place);
    const auto i = static_cast<int64_t>(floor);
    s.first.push_back(std::clamp<int64_t>(i, 0, in - 1));
    s.second.push_back(std::clamp<int64_t>(i + 1, 0, in - 1));
    s.weight.push_back(static_cast<float>(place - floor));
  }
  return s;
}

void bind(const Kernel&, const void* prepared, const BindContext& c, Bound& bound) {
  const Stage& stage = c.problem.stages[0];
  const ResizeAttrs& attrs = stage.attrs.as<ResizeAttrs>();
  const Dims& x = c.operands[stage.inputs[0]];
  const Dims& y = c.results[0];
  Plan& plan = emplace<Plan>(bound);
  plan.table = *static_cast<const SpatialTable* const*>(prepared);
  plan.narrow = c.problem.types[stage.inputs[0]].dtype == DType::bf16;
  bound.chunks[0] = 0;
  if (product(y) == 0) return;
  if (product(x) == 0)
    throw Error(Code::invalid_argument, "an empty operand cannot be resized to a result with elements");
  const size_t rank = x.size();
  if (rank > max_rank) throw Error(Code::limit, "a Resize of too many axes");
  std::vector<double> scales(rank);
  for (size_t k = 0; k < rank; ++k) scales[k] = static_cast<double>(y[k]) / static_cast<double>(x[k]);
  const auto given = [&](size_t i) -> const Tensor* {
    if (i >= stage.inputs.size() || stage.inputs[i] == absent_operand) return nullptr;
    const Tensor* t = c.host[stage.inputs[i]];
    return t && t->count() > 0 ? t : nullptr;
  };
  const Tensor *by_scale = given(scales_operand), *by_size = given(sizes_operand);
  std::vector<size_t> axes;
  for (int64_t v : attrs.axes) axes.push_back(static_cast<size_t>(v < 0 ? v + static_cast<int64_t>(rank) : v));
  if (attrs.axes.empty())
    for (size_t k = 0; k < rank; ++k) axes.push_back(k);
  for (const Tensor* t : {by_scale, by_size})
    if (t && t->count() != static_cast<int64_t>(axes.size()))
      throw Error(Code::invalid_argument, "a Resize needs one scale or size for each of its axes");
  std::vector<bool> touched(rank, false);
  for (size_t k = 0; k < axes.size(); ++k) {
    if (axes[k] >= rank) throw Error(Code::invalid_argument, "an axis of a Resize is out of range");
    touched[axes[k]] = true;
    if (by_scale) scales[axes[k]] = by_scale->get_real(static_cast<int64_t>(k));
  }
  for (size_t k = 0; k < rank; ++k)
    if (!touched[k] && x[k] != y[k]) throw Error(Code::invalid_argument, "the extents of a Resize do not fit together");

  const Layout& layout = c.problem.operands[stage.inputs[0]].layout;
  const Dims strides = layout_strides(layout, x);
  std::vector<size_t> order(layout.order.begin(), layout.order.end());
  if (order.empty())
    for (size_t k = 0; k < rank; ++k) order.push_back(k);
  const auto resampled = [&](size_t k) { return touched[k] && !(x[k] == y[k] && scales[k] == 1); };
  size_t last = rank;
  for (size_t p = 0; p < rank; ++p)
    if (resampled(order[p])) last = p;
  const Layout& made = c.problem.results[0].layout;
  // Rows that lie apart are runs of their own.
  const bool apart = rank >= 2 && (layout.pitch || made.pitch);
  if (apart && (last == rank || last + 2 < rank)) last = rank - 2;
  plan.rows = 1;
  for (size_t p = 0; p < rank; ++p) {
    const size_t k = order[p];
    if (last != rank && p > last) {
      plan.inner *= x[k];
      continue;
    }
    int sampling = -1;
    if (resampled(k)) {
      sampling = static_cast<int>(plan.samplings.size());
      plan.samplings.push_back(sample(attrs, x[k], y[k], scales[k]));
    } else if (p == last) {
      sampling = static_cast<int>(plan.samplings.size());
      plan.samplings.push_back(same(attrs, x[k]));
    }
    if (p == last) {
      plan.last = sampling;
      plan.last_in = x[k];
      plan.last_out = y[k];
      continue;
    }
    if (sampling >= 0) plan.mixed.push_back(plan.outer.size());
    plan.outer.push_back({x[k], y[k], strides[k], sampling});
    plan.rows = checked_mul(plan.rows, y[k], "rows");
  }
  if (last == rank) {
    // Nothing is resampled: one row.
    plan.outer.clear();
    plan.rows = 1;
    plan.inner = product(x);
  }
  plan.in_step = plan.out_step = plan.inner;
  if (apart && last + 2 == rank) {
    plan.in_step = row_pitch(layout, plan.inner);
    plan.out_step = row_pitch(made, plan.inner);
  }
  plan.out_row = last + 1 == rank ? row_pitch(made, plan.last_out) : checked_mul(plan.last_out, plan.out_step, "row");
  const int64_t line = checked_mul(plan.last_in, plan.inner, "line");
  const int64_t wanted = std::max<int64_t>(1, chunks_for(checked_mul(product(y), 8, "bytes"), plan.rows, c.threads));
  plan.rows_per_chunk = (plan.rows + wanted - 1) / wanted;
  bound.chunks[0] = (plan.rows + plan.rows_per_chunk - 1) / plan.rows_per_chunk;
  if (attrs.mode != ResizeMode::linear) return;
  if (plan.narrow) {
    plan.widened = line;
    plan.made = checked_mul(line, 2, "lines");
    bound.scratch = byte_size(
        DType::f32, checked_add(plan.made, checked_mul(plan.last_out, plan.inner, "line of the result"), "lines"));
  } else if (!plan.mixed.empty()) {
    bound.scratch = byte_size(DType::f32, line);
  }
}

void mix(float* to, const float* a, float wa, const float* b, float wb, int64_t n) {
  int64_t i = 0;
  for (; i + 4 <= n; i += 4)
    *reinterpret_cast<Four*>(to + i) =
        *reinterpret_cast<const Four*>(a + i) * wa + *reinterpret_cast<const Four*>(b + i) * wb;
  for (; i < n; ++i) to[i] = a[i] * wa + b[i] * wb;
}

// The line of the operand behind one row: a mixture over the two neighbours on each resampled outer axis. Weights of 0
// leave their line out, whatever it holds. T: float, or uint16_t that holds bf16.
template <typename T>
const float* mixed_line(const Plan& plan, const T* x, const int64_t* at, float* scratch) {
  const auto floats = [&](const T* from, int64_t n) {
    if constexpr (std::is_same_v<T, float>) {
      return from;
    } else {
      plan.table->widen(from, n, scratch + plan.widened);
      return static_cast<const float*>(scratch + plan.widened);
    }
  };
  int64_t base = 0;
  for (size_t k = 0; k < plan.outer.size(); ++k)
    if (plan.outer[k].sampling < 0) base += at[k] * plan.outer[k].in_stride;
  const int64_t line = plan.last_in * plan.inner;
  bool add = false;
  for (uint32_t corner = 0; corner < 1u << plan.mixed.size(); ++corner) {
    int64_t offset = base;
    float weight = 1;
    for (size_t m = 0; m < plan.mixed.size(); ++m) {
      const Axis& axis = plan.outer[plan.mixed[m]];
      const Sampling& s = plan.samplings[static_cast<size_t>(axis.sampling)];
      const auto i = static_cast<size_t>(at[plan.mixed[m]]);
      const bool second = corner >> m & 1;
      offset += (second ? s.second[i] : s.first[i]) * axis.in_stride;
      weight *= second ? s.weight[i] : 1 - s.weight[i];
    }
    if (weight == 0) continue;
    if (weight == 1) return floats(x + offset, line);
    scale_line(scratch, floats(x + offset, line), weight, line, add);
    add = true;
  }
  return scratch;
}

void linear_row(const Plan& plan, const float* line, float* y) {
  if (plan.last < 0) {
    std::memcpy(y, line, static_cast<size_t>(plan.inner) * 4);
    return;
  }
  const Sampling& s = plan.samplings[static_cast<size_t>(plan.last)];
  if (plan.inner == 1 && plan.out_step == 1) {
    for (size_t i = 0; i < s.weight.size(); ++i) {
      const float a = line[s.first[i]], w = s.weight[i];
      y[i] = w == 0 ? a : a * (1 - w) + line[s.second[i]] * w;
    }
    return;
  }
  for (int64_t o = 0; o < plan.last_out; ++o, y += plan.out_step) {
    const auto i = static_cast<size_t>(o);
    const float* a = line + s.first[i] * plan.inner;
    const float* b = line + s.second[i] * plan.inner;
    const float w = s.weight[i];
    if (w == 0)
      std::memcpy(y, a, static_cast<size_t>(plan.inner) * 4);
    else
      mix(y, a, 1 - w, b, w, plan.inner);
  }
}

template <typename T>
void nearest_row(const Plan& plan, const T* line, T* y) {
  const size_t run = static_cast<size_t>(plan.inner) * sizeof(T);
  if (plan.last < 0) {
    std::memcpy(y, line, run);
    return;
  }
  const Sampling& s = plan.samplings[static_cast<size_t>(plan.last)];
  if (plan.inner == 1 && plan.in_step == 1 && plan.out_step == 1) {
    for (int64_t o = 0; o < plan.last_out; ++o) y[o] = line[s.first[static_cast<size_t>(o)]];
    return;
  }
  for (int64_t o = 0; o < plan.last_out; ++o, y += plan.out_step)
    std::memcpy(y, line + s.first[static_cast<size_t>(o)] * plan.in_step, run);
}

template <typename T>
void run_rows(const Plan& plan, bool linear, int64_t begin, int64_t end, const T* x, T* y, float* scratch) {
  int64_t at[max_rank];
  for (int64_t row = begin; row < end; ++row) {
    int64_t rest = row;
    for (size_t k = plan.outer.size(); k-- > 0;) {
      at[k] = rest % plan.outer[k].out;
      rest /= plan.outer[k].out;
    }
    T* to = y + row * plan.out_row;
    if (linear) {
      const float* line = mixed_line(plan, x, at, scratch);
      if constexpr (std::is_same_v<T, float>) {
        linear_row(plan, line, to);
      } else {
        linear_row(plan, line, scratch + plan.made);
        const int64_t n = plan.last_out * plan.inner;
        plan.table->narrow(scratch + plan.made, n, 1, n, to, n);
      }
      continue;
    }
    int64_t offset = 0;
    for (size_t k = 0; k < plan.outer.size(); ++k) {
      const Axis& axis = plan.outer[k];
      const int64_t i = axis.sampling < 0
                            ? at[k]
                            : plan.samplings[static_cast<size_t>(axis.sampling)].first[static_cast<size_t>(at[k])];
      offset += i * axis.in_stride;
    }
    nearest_row(plan, x + offset, to);
  }
}

Status run(const Launch& launch) {
  const Plan& plan = launch.bound->as<Plan>();
  const bool linear = launch.problem->stages[0].attrs.as<ResizeAttrs>().mode == ResizeMode::linear;
  const void* x = launch.operands[launch.problem->stages[0].inputs[0]];
  void* y = launch.operands[launch.problem->operands.size()];
  auto* scratch = reinterpret_cast<float*>(launch.scratch);
  const int64_t begin = launch.chunk * plan.rows_per_chunk, end = std::min(plan.rows, begin + plan.rows_per_chunk);
  if (plan.narrow)
    run_rows(plan, linear, begin, end, static_cast<const uint16_t*>(x), static_cast<uint16_t*>(y), scratch);
  else
    run_rows(plan, linear, begin, end, static_cast<const float*>(x), static_cast<float*>(y), scratch);
  return {};
}

constexpr Kernel rows[] = {
    {.name = "resize_f32",
     .supports = supports,
     .needs = needs,
     .cost = cost,
     .prepare = prepare_spatial_table,
     .bind = bind,
     .run = run},
};

}  // namespace

std::span<const Kernel> resize_kernels() { return rows; }

}  // namespace sinter::cpu
