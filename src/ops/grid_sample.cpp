// GridSample: the operand read at places that a second operand gives in [-1, 1] per spatial axis, last axis first.

#include "ops/grid_sample.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "base/checked.h"
#include "ops/arrays.h"
#include "ops/elements.h"

namespace sinter {
namespace {

// Reflects at both borders as often as it takes.
double reflect(double v, double low, double high) {
  const double range = high - low;
  if (!(range > 0)) return low;
  if (v >= low && v <= high) return v;
  const double distance = v < low ? low - v : v - high;
  const double rest = std::fmod(distance, range);
  const bool turned = std::fmod(std::floor(distance / range), 2) != 0;
  return (v < low) != turned ? low + rest : high - rest;
}

}  // namespace

GridAxis::GridAxis(int64_t extent, const GridSampleAttrs& attrs)
    : extent_(extent),
      low_(attrs.align_corners ? 0 : -0.5),
      high_(static_cast<double>(extent) - (attrs.align_corners ? 1 : 0.5)),
      align_corners_(attrs.align_corners),
      mode_(attrs.mode),
      padding_(attrs.padding) {}

// The element that stands at integer place i.
int64_t GridAxis::element(double i) const {
  const auto last = static_cast<double>(extent_ - 1);
  if (padding_ == GridPadding::zeros) return i >= 0 && i <= last ? static_cast<int64_t>(i) : -1;
  if (padding_ == GridPadding::reflection) i = reflect(i, low_, high_);
  return static_cast<int64_t>(std::clamp(std::trunc(i), 0.0, last));
}

// Place in elements, brought inside as padding wants it. NaN lies outside for zeros, at the start otherwise.
double GridAxis::place_of(double normalized) const {
  const auto extent = static_cast<double>(extent_);
  double v = align_corners_ ? (normalized + 1) / 2 * (extent - 1) : ((normalized + 1) * extent - 1) / 2;
  if (mode_ == ResizeMode::nearest) v = std::nearbyint(v);
  if (v >= low_ && v <= high_) return v;
  // Cubic taps meet the border one by one; beyond 8 elements all of them are its value.
  if (mode_ == ResizeMode::cubic && padding_ == GridPadding::border && v == v) return std::clamp(v, -8.0, extent + 8);
  switch (padding_) {
    case GridPadding::zeros: return v == v ? std::clamp(v, -8.0, extent + 8) : -8.0;
    case GridPadding::border: return v == v ? std::clamp(v, 0.0, extent - 1) : 0.0;
    case GridPadding::reflection: return std::isfinite(v) ? reflect(v, low_, high_) : low_;
  }
  return 0;
}

int GridAxis::taps(double normalized, GridTap* taps) const {
  const double place = place_of(normalized);
  if (mode_ == ResizeMode::nearest) {
    taps[0] = {element(std::trunc(place)), 1};
    return 1;
  }
  const double floor = std::floor(place), ratio = place - floor;
  if (mode_ == ResizeMode::linear) {
    taps[0] = {element(floor), 1 - ratio};
    taps[1] = {element(floor + 1), ratio};
    return 2;
  }
  double weights[4];
  cubic_weights(ratio, -0.75, weights);
  for (int k = 0; k < 4; ++k) taps[k] = {element(floor - 1 + k), weights[k]};
  return 4;
}

void cubic_weights(double ratio, double a, double* weights) {
  const auto near = [a](double t) { return ((a + 2) * t - (a + 3)) * t * t + 1; };
  const auto far = [a](double t) { return ((a * t - 5 * a) * t + 8 * a) * t - 4 * a; };
  weights[0] = far(ratio + 1);
  weights[1] = near(ratio);
  weights[2] = near(1 - ratio);
  weights[3] = far(2 - ratio);
}

void infer_grid_sample(InferContext& c) {
  const auto& a = c.attrs<GridSampleAttrs>();
  const DType dtype = c.dtype(0);
  c.set(0, dtype);
  if (!is_float(c.dtype(1))) c.fail(fmt::format("the grid is {}, it must be a float", dtype_name(c.dtype(1))));
  if (a.mode != ResizeMode::nearest && !is_float(dtype) && !is_integer(dtype))
    c.fail(fmt::format("the operand is {}: only mode nearest takes it", dtype_name(dtype)));
  const Shape &x = c.shape(0), &grid = c.shape(1);
  if (x.size() < 3) c.fail(fmt::format("the operand has rank {}, it must be [N, C, spatial...]", x.size()));
  if (grid.size() != x.size())
    c.fail(fmt::format("the grid has rank {}, it must have the operand's {}", grid.size(), x.size()));
  c.require_equal(grid[0], x[0], "batch of operand and grid");
  c.require_equal(grid.back(), static_cast<int64_t>(x.size() - 2), "coordinates of the grid");
  Shape out{x[0], x[1]};
  out.insert(out.end(), grid.begin() + 1, grid.end() - 1);
  c.set(0, dtype, std::move(out));
}

void eval_grid_sample(EvalContext& c) {
  const auto& a = c.attrs<GridSampleAttrs>();
  const Tensor &x = c.in(0), &grid = c.in(1);
  Tensor& y = c.out(0);
  if (y.count() == 0) return;
  if (x.count() == 0) c.fail("nothing can be sampled from an empty operand");
  const size_t n = x.rank() - 2;
  const int64_t batch = x.dims()[0], channels = x.dims()[1];
  const int64_t plane = x.count() / (batch * channels), positions = y.count() / (batch * channels);
  const std::vector<int64_t> strides = dense_strides(x.dims());
  const bool moves = a.mode == ResizeMode::nearest;
  const std::vector<double> data = moves ? std::vector<double>() : numbers_of<double>(x);
  std::vector<GridAxis> axes;
  for (size_t k = 0; k < n; ++k) axes.emplace_back(x.dims()[k + 2], a);
  std::vector<GridTap> all, next;  // offset in the plane and weight, or -1
  for (int64_t b = 0; b < batch; ++b) {
    for (int64_t p = 0; p < positions; ++p) {
      all.assign(1, {0, 1});
      for (size_t k = 0; k < n; ++k) {
        const auto count = static_cast<int64_t>(n);
        const double normalized = grid.get_real((b * positions + p) * count + (count - 1 - static_cast<int64_t>(k)));
        GridTap taps[4];
        const int used = axes[k].taps(normalized, taps);
        next.clear();
        for (const GridTap& t : all)
          for (int i = 0; i < used; ++i)
            next.push_back({t.index < 0 || taps[i].index < 0 ? -1 : t.index + taps[i].index * strides[k + 2],
                            t.weight * taps[i].weight});
        all.swap(next);
      }
      for (int64_t ch = 0; ch < channels; ++ch) {
        const int64_t from = (b * channels + ch) * plane, to = (b * channels + ch) * positions + p;
        if (moves) {
          if (all[0].index >= 0) copy_element(y, to, x, from + all[0].index);
          continue;
        }
        double sum = 0;
        for (const GridTap& t : all)
          if (t.index >= 0) sum += t.weight * data[static_cast<size_t>(from + t.index)];
        y.set_real(to, sum);
      }
    }
  }
}

Tensor sample_grid_sample(const Op&, const Attrs&, size_t input, std::span<const Type> types, uint64_t seed) {
  // A little outside too, so that padding is met.
  return sample_uniform(types[input], seed, -1.2, 1.2);
}

}  // namespace sinter
