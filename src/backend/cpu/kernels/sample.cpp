// f32 read at computed places, channels last: GridSample with one to three spatial axes, RoiAlign. Places are computed
// in double once and serve all channels. Also LRN, which mixes channels of one place.

#include <cmath>
#include <cstring>

#include "backend/cpu/kernels/common.h"
#include "backend/cpu/kernels/contraction.h"
#include "backend/cpu/kernels/convolution.h"
#include "backend/cpu/kernels/families.h"
#include "backend/cpu/kernels/lines.h"
#include "base/checked.h"
#include "ops/grid_sample.h"
#include "ops/pooling.h"
#include "ops/roi.h"
#include "ops/signal.h"

namespace sinter::cpu {
namespace {

// The first operand is f32 and has its channels last, as the result; other operands are row-major and on the device.
Answer places_supported(const Problem& problem, const char* name) {
  if (problem.stages.size() != 1 || !is_op(problem.stages[0], name)) return Answer::no("another operator");
  if (Answer a = plain_problem(problem); !a) return a;
  const Stage& stage = problem.stages[0];
  for (size_t i = 0; i < stage.inputs.size(); ++i) {
    const uint16_t v = stage.inputs[i];
    if (v >= problem.operands.size() || problem.operands[v].host) return Answer::no("an operand lies on the host");
    if (i > 0 && v == stage.inputs[0]) return Answer::no("an operand stands twice");
    if (i > 0 && !row_major_or_any(problem.operands[v].layout)) return Answer::no("operands must be row-major");
  }
  if (Answer a = device_f32(problem, stage.inputs[0]); !a) return a;
  if (problem.results.size() != 1) return Answer::no("not one result");
  const size_t rank = problem.types[stage.inputs[0]].shape->size();
  if (!channels_last_or_any(problem.operands[stage.inputs[0]].layout, rank) ||
      !channels_last_or_any(problem.results[0].layout, rank))
    return Answer::no("channels must be last");
  return Answer::yes();
}

Needs places_needs(const Kernel&, const Problem& problem, const Config&, const DeviceSpec&) {
  const uint16_t x = problem.stages[0].inputs[0];
  const Layout last = Layout::channels_last(problem.types[x].shape->size());
  return image_needs(problem, x, last);
}

double places_cost(const Kernel&, const Problem& problem, std::span<const int64_t> symbols, const DeviceSpec&) {
  return 1000 + 4 * elements_at(problem.types[problem.first_result[0]], symbols);
}

// ---- GridSample ----

struct GridPlan {
  std::vector<GridAxis> axes;
  Dims strides;  // floats from element to element of each spatial axis
  int64_t channels = 0, positions = 0, image = 0, chunks = 0, total = 0;
};

Answer grid_supports(const Kernel&, const Problem& problem, const DeviceSpec&) {
  if (Answer a = places_supported(problem, "GridSample"); !a) return a;
  const Stage& stage = problem.stages[0];
  if (problem.types[stage.inputs[1]].dtype != DType::f32) return Answer::no("the grid must be f32");
  const size_t rank = problem.types[stage.inputs[0]].shape->size();
  return rank < 3 || rank > 5 ? Answer::no("only one to three spatial axes") : Answer::yes();
}

void grid_bind(const Kernel&, const void*, const BindContext& c, Bound& bound) {
  const Stage& stage = c.problem.stages[0];
  const Dims &x = c.operands[stage.inputs[0]], &grid = c.operands[stage.inputs[1]], &y = c.results[0];
  GridPlan& plan = emplace<GridPlan>(bound);
  bound.chunks[0] = 0;
  if (product(y) == 0) return;
  if (product(x) == 0) throw Error(Code::invalid_argument, "nothing can be sampled from an empty operand");
  const size_t spatial = x.size() - 2;
  bool fits = grid.size() == x.size() && grid[0] == x[0] && y[0] == x[0] && y[1] == x[1] &&
              grid.back() == static_cast<int64_t>(spatial);
  for (size_t k = 0; k < spatial && fits; ++k) fits = grid[k + 1] == y[k + 2];
  if (!fits) throw Error(Code::invalid_argument, "the operands of a GridSample do not fit together");
  plan.channels = x[1];
  plan.positions = product(y, 2, y.size());
  plan.strides.assign(spatial, x[1]);
  for (size_t k = spatial; k-- > 1;) plan.strides[k - 1] = plan.strides[k] * x[k + 2];
  plan.image = plan.strides[0] * x[2];
  for (size_t k = 0; k < spatial; ++k) plan.axes.emplace_back(x[k + 2], stage.attrs.as<GridSampleAttrs>());
  plan.total = checked_mul(plan.positions, x[0], "positions");
  bound.chunks[0] = chunks_for(checked_mul(product(y), 16, "work"), plan.total, c.threads);
}

Status grid_run(const Launch& launch) {
  const GridPlan& plan = launch.bound->as<GridPlan>();
  const Stage& stage = launch.problem->stages[0];
  const auto* x = static_cast<const float*>(launch.operands[stage.inputs[0]]);
  const auto* grid = static_cast<const float*>(launch.operands[stage.inputs[1]]);
  auto* y = static_cast<float*>(launch.operands[launch.problem->operands.size()]);
  const auto spatial = static_cast<int64_t>(plan.axes.size());
  const Range range = part(plan.total, launch.bound->chunks[0], launch.chunk);
  for (int64_t p = range.begin; p < range.end; ++p) {
    int64_t at[64], more_at[64];
    double weight[64], more_weight[64];
    float weights[64];
    int taps = 1;
    at[0] = p / plan.positions * plan.image;
    weight[0] = 1;
    for (int64_t k = 0; k < spatial; ++k) {
      GridTap tap[4];
      const int count = plan.axes[static_cast<size_t>(k)].taps(grid[p * spatial + spatial - 1 - k], tap);
      int made = 0;
      for (int t = 0; t < taps; ++t)
        for (int i = 0; i < count; ++i) {
          if (tap[i].index < 0) continue;
          more_at[made] = at[t] + tap[i].index * plan.strides[static_cast<size_t>(k)];
          more_weight[made++] = weight[t] * tap[i].weight;
        }
      taps = made;
      std::copy_n(more_at, made, at);
      std::copy_n(more_weight, made, weight);
    }
    for (int t = 0; t < taps; ++t) weights[t] = static_cast<float>(weight[t]);
    sum_lines(y + p * plan.channels, x, at, weights, taps, plan.channels);
  }
  return {};
}

// ---- RoiAlign ----

struct RoiPlan {
  int64_t images = 0, channels = 0, height = 0, width = 0, regions = 0;
};

Answer roi_supports(const Kernel&, const Problem& problem, const DeviceSpec&) {
  if (Answer a = places_supported(problem, "RoiAlign"); !a) return a;
  const Stage& stage = problem.stages[0];
  if (problem.types[stage.inputs[1]].dtype != DType::f32) return Answer::no("regions must be f32");
  if (problem.types[stage.inputs[2]].dtype != DType::i64) return Answer::no("numbers of images must be i64");
  return Answer::yes();
}

void roi_bind(const Kernel&, const void*, const BindContext& c, Bound& bound) {
  const Stage& stage = c.problem.stages[0];
  const RoiAlignAttrs& attrs = stage.attrs.as<RoiAlignAttrs>();
  const Dims &x = c.operands[stage.inputs[0]], &rois = c.operands[stage.inputs[1]], &y = c.results[0];
  RoiPlan& plan = emplace<RoiPlan>(bound);
  bound.chunks[0] = 0;
  if (product(y) == 0) return;
  if (rois[1] != 4 || c.operands[stage.inputs[2]][0] != rois[0] || y[0] != rois[0] || y[1] != x[1] ||
      y[2] != attrs.height || y[3] != attrs.width)
    throw Error(Code::invalid_argument, "the operands of a RoiAlign do not fit together");
  plan = {x[0], x[1], x[2], x[3], rois[0]};
  bound.chunks[0] = chunks_for(checked_mul(product(y), 64, "work"), rois[0], c.threads);
}

// The largest of four weighted runs, and of what is there unless it is the first.
void max_lines(float* to, const float* image, const int64_t* at, const float* weight, int64_t n, bool first) {
  for (int64_t c = 0; c < n; ++c) {
    float part[4];
    for (int k = 0; k < 4; ++k) part[k] = weight[k] * image[at[k] + c];
    const float best = std::max(std::max(part[0], part[1]), std::max(part[2], part[3]));
    to[c] = first ? best : std::max(to[c], best);
  }
}

void roi_region(const RoiPlan& plan, const RoiAlignAttrs& attrs, const float* image, const RoiGrid& grid, float* to) {
  const bool average = attrs.mode == RoiMode::average;
  const auto count = static_cast<float>(std::max<int64_t>(grid.ny * grid.nx, 1));
  for (int64_t py = 0; py < attrs.height; ++py)
    for (int64_t px = 0; px < attrs.width; ++px, to += plan.channels) {
      std::memset(to, 0, static_cast<size_t>(plan.channels) * 4);
      if (plan.height * plan.width == 0) continue;
      int64_t at[4];
      float weight[4];
      bool first = true;
      for (int64_t iy = 0; iy < grid.ny; ++iy)
        for (int64_t ix = 0; ix < grid.nx; ++ix) {
          const RoiSample s = grid.sample(py, px, iy, ix, plan.height, plan.width);
          for (int k = 0; k < 4; ++k) {
            at[k] = s.at[k] * plan.channels;
            weight[k] = static_cast<float>(s.weight[k]);
          }
          if (average)
            sum_lines(to, image, at, weight, 4, plan.channels, true);
          else
            max_lines(to, image, at, weight, plan.channels, first);
          first = false;
        }
      for (int64_t c = 0; c < plan.channels && average; ++c) to[c] /= count;
    }
}

Status roi_run(const Launch& launch) {
  const RoiPlan& plan = launch.bound->as<RoiPlan>();
  const Stage& stage = launch.problem->stages[0];
  const RoiAlignAttrs& attrs = stage.attrs.as<RoiAlignAttrs>();
  const auto* x = static_cast<const float*>(launch.operands[stage.inputs[0]]);
  const auto* rois = static_cast<const float*>(launch.operands[stage.inputs[1]]);
  const auto* images = static_cast<const int64_t*>(launch.operands[stage.inputs[2]]);
  auto* y = static_cast<float*>(launch.operands[launch.problem->operands.size()]);
  const int64_t result = attrs.height * attrs.width * plan.channels;
  const Range range = part(plan.regions, launch.bound->chunks[0], launch.chunk);
  for (int64_t r = range.begin; r < range.end; ++r) {
    double region[4];
    std::copy_n(rois + r * 4, 4, region);
    const RoiGrid grid(attrs, region);
    if (images[r] < 0 || images[r] >= plan.images || !grid.sensible) {
      launch.fault->store(index_out_of_range, std::memory_order_relaxed);
      std::memset(y + r * result, 0, static_cast<size_t>(result) * 4);
      continue;
    }
    roi_region(plan, attrs, x + images[r] * plan.height * plan.width * plan.channels, grid, y + r * result);
  }
  return {};
}

// ---- LRN ----

struct LrnPlan {
  int64_t channels = 0, pixels = 0, before = 0, after = 0;
};

Answer lrn_supports(const Kernel&, const Problem& problem, const DeviceSpec&) {
  return places_supported(problem, "LRN");
}

void lrn_bind(const Kernel&, const void*, const BindContext& c, Bound& bound) {
  const Stage& stage = c.problem.stages[0];
  const LRNAttrs& attrs = stage.attrs.as<LRNAttrs>();
  const Dims& x = c.operands[stage.inputs[0]];
  LrnPlan& plan = emplace<LrnPlan>(bound);
  bound.chunks[0] = 0;
  if (c.results[0] != x) throw Error(Code::invalid_argument, "the result of an LRN does not fit its operand");
  if (product(x) == 0) return;
  plan.channels = x[1];
  plan.pixels = product(x) / x[1];
  plan.before = std::min(x[1], (attrs.size - 1) / 2);
  plan.after = std::min(x[1], attrs.size - 1 - (attrs.size - 1) / 2);
  bound.chunks[0] = chunks_for(checked_mul(product(x), 64, "work"), plan.pixels, c.threads);
  bound.scratch = byte_size(DType::f32, checked_mul(x[1], 2, "scratch"));
}

// base^beta for positive bases; networks have 0.75.
float power(float base, float beta) {
  if (beta == 0.75f) return std::sqrt(base) * std::sqrt(std::sqrt(base));
  if (beta == 0.5f) return std::sqrt(base);
  return std::pow(base, beta);
}

Status lrn_run(const Launch& launch) {
  const LrnPlan& plan = launch.bound->as<LrnPlan>();
  const LRNAttrs& attrs = launch.problem->stages[0].attrs.as<LRNAttrs>();
  const auto* x = static_cast<const float*>(launch.operands[launch.problem->stages[0].inputs[0]]);
  auto* y = static_cast<float*>(launch.operands[launch.problem->operands.size()]);
  const Range range = part(plan.pixels, launch.bound->chunks[0], launch.chunk);
  auto* squares = reinterpret_cast<float*>(launch.scratch);
  float* sums = squares + plan.channels;
  const auto alpha = static_cast<float>(attrs.alpha / static_cast<double>(attrs.size));
  const auto bias = static_cast<float>(attrs.bias), beta = static_cast<float>(attrs.beta);
  for (int64_t p = range.begin; p < range.end; ++p) {
    const float* from = x + p * plan.channels;
    float* to = y + p * plan.channels;
    for (int64_t c = 0; c < plan.channels; ++c) squares[c] = from[c] * from[c];
    std::memset(sums, 0, static_cast<size_t>(plan.channels) * 4);
    for (int64_t shift = -plan.before; shift <= plan.after; ++shift) {
      const int64_t first = std::max<int64_t>(0, -shift), last = plan.channels - std::max<int64_t>(0, shift);
      if (first < last) scale_line(sums + first, squares + first + shift, 1, last - first, true);
    }
    for (int64_t c = 0; c < plan.channels; ++c) to[c] = from[c] / power(bias + alpha * sums[c], beta);
  }
  return {};
}

constexpr Kernel rows[] = {
    {.name = "grid_sample_f32",
     .supports = grid_supports,
     .needs = places_needs,
     .cost = places_cost,
     .bind = grid_bind,
     .run = grid_run},
    {.name = "roi_align_f32",
     .supports = roi_supports,
     .needs = places_needs,
     .cost = places_cost,
     .bind = roi_bind,
     .run = roi_run},
    {.name = "lrn_f32",
     .supports = lrn_supports,
     .needs = places_needs,
     .cost = places_cost,
     .bind = lrn_bind,
     .run = lrn_run},
};

}  // namespace

std::span<const Kernel> sample_kernels() { return rows; }

}  // namespace sinter::cpu
