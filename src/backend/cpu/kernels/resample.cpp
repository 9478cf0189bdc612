// Resize of f32 in every mode, in any dense layout: one resampled axis after the other, each a phase over lines of what
// lies behind the axis. What resize.cpp takes it does in one pass over memory and faster.

#include <cstring>

#include "backend/cpu/kernels/common.h"
#include "backend/cpu/kernels/contraction.h"
#include "backend/cpu/kernels/families.h"
#include "backend/cpu/kernels/lines.h"
#include "base/checked.h"
#include "ops/resize.h"

namespace sinter::cpu {
namespace {

Answer supports(const Kernel&, const Problem& problem, const DeviceSpec&) {
  if (problem.stages.size() != 1 || !is_op(problem.stages[0], "Resize")) return Answer::no("not a Resize");
  if (Answer a = plain_problem(problem); !a) return a;
  const Stage& stage = problem.stages[0];
  if (Answer a = device_f32(problem, stage.inputs[0]); !a) return a;
  for (size_t i = 1; i < stage.inputs.size(); ++i)
    if (stage.inputs[i] != absent_operand &&
        (stage.inputs[i] >= problem.operands.size() || !problem.operands[stage.inputs[i]].host))
      return Answer::no("scales or sizes are computed");
  if (problem.results.size() != 1) return Answer::no("not one result");
  const Layout &x = problem.operands[stage.inputs[0]].layout, &y = problem.results[0].layout;
  if (!strided_or_any(x) || !strided_or_any(y)) return Answer::no("the operand or the result is packed");
  if (y.kind != Layout::Kind::any && x.kind != Layout::Kind::any && y != x)
    return Answer::no("the result must lie as the operand");
  return Answer::yes();
}

Needs needs(const Kernel&, const Problem& problem, const Config&, const DeviceSpec&) {
  const uint16_t x = problem.stages[0].inputs[0];
  const Layout &mine = problem.operands[x].layout, &made = problem.results[0].layout;
  const Layout chosen = mine.kind != Layout::Kind::any ? mine : settled(made);
  return image_needs(problem, x, chosen);
}

double cost(const Kernel&, const Problem& problem, std::span<const int64_t> symbols, const DeviceSpec&) {
  return 2000 + 8 * elements_at(problem.types[problem.first_result[0]], symbols) +
         2 * elements_at(problem.types[problem.stages[0].inputs[0]], symbols);
}

// One phase: [outer][in][inner] to [outer][out][inner].
struct Step {
  Resampling how;
  std::vector<float> weights;
  int64_t outer = 1, in = 1, inner = 1;
  int64_t lines = 0;           // outer * out
  int64_t from = -1, to = -1;  // bytes into the workspace; -1: the operand, the result
};

struct Plan {
  std::vector<Step> steps;  // empty: nothing is resampled
  int64_t bytes = 0;
  float extrapolation = 0;
};

void bind(const Kernel&, const void*, const BindContext& c, Bound& bound) {
  const Stage& stage = c.problem.stages[0];
  const ResizeAttrs& attrs = stage.attrs.as<ResizeAttrs>();
  const Dims &x = c.operands[stage.inputs[0]], &y = c.results[0];
  Plan& plan = emplace<Plan>(bound);
  bound.chunks[0] = 0;
  if (product(y) == 0) return;
  if (product(x) == 0)
    throw Error(Code::invalid_argument, "an empty operand cannot be resized to a result with elements");
  const auto given = [&](size_t i) {
    return i < stage.inputs.size() && stage.inputs[i] != absent_operand ? c.host[stage.inputs[i]] : nullptr;
  };
  std::vector<Resampling> axes = resampling_plan(attrs, x, y, given(1), given(2), given(3));
  if (axes.size() > static_cast<size_t>(Bound::max_phases))
    throw Error(Code::limit, "a Resize of more than four axes at once");
  plan.extrapolation = static_cast<float>(attrs.extrapolation);
  plan.bytes = byte_size(DType::f32, element_count(y));
  if (axes.empty()) {
    bound.chunks[0] = 1;
    return;
  }
  const Layout& layout = c.problem.operands[stage.inputs[0]].layout;
  std::vector<size_t> order(layout.order.begin(), layout.order.end());
  for (size_t k = order.size(); k < x.size(); ++k) order.push_back(k);
  Dims now;
  std::vector<size_t> place(x.size());
  for (size_t p = 0; p < order.size(); ++p) {
    now.push_back(x[order[p]]);
    place[order[p]] = p;
  }
  int64_t at = 0;
  bound.phases = static_cast<int>(axes.size());
  for (size_t k = 0; k < axes.size(); ++k) {
    Step step;
    step.how = std::move(axes[k]);
    const size_t p = place[step.how.axis];
    for (double w : step.how.weight) step.weights.push_back(static_cast<float>(w));
    step.in = now[p];
    now[p] = step.how.extent;
    const int64_t count = element_count(now);
    step.outer = product(now, 0, p);
    step.inner = product(now, p + 1, now.size());
    step.lines = checked_mul(step.outer, step.how.extent, "lines");
    if (k > 0) step.from = plan.steps.back().to;
    if (k + 1 < axes.size()) {
      step.to = at;
      at = checked_add(at, align_up(byte_size(DType::f32, count), 64, "workspace"), "workspace");
    }
    const int64_t work = checked_mul(checked_mul(count, 4, "work"), step.how.taps, "work");
    bound.chunks[k] = std::max<int64_t>(1, chunks_for(work, step.lines, c.threads));
    plan.steps.push_back(std::move(step));
  }
  bound.workspace = at;
}

Status run(const Launch& launch) {
  const Plan& plan = launch.bound->as<Plan>();
  const auto* x = static_cast<const float*>(launch.operands[launch.problem->stages[0].inputs[0]]);
  auto* y = static_cast<float*>(launch.operands[launch.problem->operands.size()]);
  if (plan.steps.empty()) {
    std::memcpy(y, x, static_cast<size_t>(plan.bytes));
    return {};
  }
  const Step& step = plan.steps[static_cast<size_t>(launch.phase)];
  const float* from = step.from < 0 ? x : reinterpret_cast<const float*>(launch.workspace + step.from);
  float* to = step.to < 0 ? y : reinterpret_cast<float*>(launch.workspace + step.to);
  const Range lines = part(step.lines, launch.bound->chunks[launch.phase], launch.chunk);
  const Resampling& how = step.how;
  for (int64_t l = lines.begin; l < lines.end; ++l) {
    const int64_t o = l % how.extent;
    const float* source = from + l / how.extent * step.in * step.inner;
    float* line = to + l * step.inner;
    if (how.outside[static_cast<size_t>(o)]) {
      std::fill_n(line, step.inner, plan.extrapolation);
      continue;
    }
    const int64_t* index = how.index.data() + o * how.taps;
    const float* weights = step.weights.data() + o * how.taps;
    if (step.inner == 1) {
      float sum = 0;
      for (int64_t t = 0; t < how.taps; ++t)
        if (weights[t] != 0) sum += weights[t] * source[index[t]];
      *line = sum;
      continue;
    }
    bool add = false;
    for (int64_t t = 0; t < how.taps; ++t) {
      if (weights[t] == 0) continue;
      scale_line(line, source + index[t] * step.inner, weights[t], step.inner, add);
      add = true;
    }
    if (!add) std::memset(line, 0, static_cast<size_t>(step.inner) * 4);
  }
  return {};
}

constexpr Kernel rows[] = {
    {.name = "resample_f32", .supports = supports, .needs = needs, .cost = cost, .bind = bind, .run = run},
};

}  // namespace

std::span<const Kernel> resample_kernels() { return rows; }

}  // namespace sinter::cpu
