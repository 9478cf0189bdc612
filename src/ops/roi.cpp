#include "ops/roi.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "base/checked.h"
#include "ops/arrays.h"
#include "ops/pooling.h"

namespace sinter {
namespace {

constexpr int64_t extent_limit = int64_t{1} << 20;

void infer_regions(InferContext& c, int64_t height, int64_t width, int64_t columns) {
  c.set(0, c.dtype(0));
  if (!is_float(c.dtype(0))) c.fail(fmt::format("the operand is {}, it must be a float", dtype_name(c.dtype(0))));
  if (c.dtype(1) != c.dtype(0)) c.fail("the regions must have the operand's element type");
  if (height < 1 || width < 1 || height > extent_limit || width > extent_limit)
    c.fail(fmt::format("result extents {}x{} are outside [1, {}]", height, width, extent_limit));
  const Shape &x = c.shape(0), &rois = c.shape(1);
  if (x.size() != 4) c.fail(fmt::format("the operand has rank {}, it must be [N, C, H, W]", x.size()));
  if (rois.size() != 2) c.fail(fmt::format("the regions have rank {}, they must have 2", rois.size()));
  c.require_equal(rois[1], columns, "numbers per region");
  c.set(0, c.dtype(0), {rois[0], x[1], height, width});
}

int64_t image_number(const EvalContext& c, double value, int64_t images) {
  if (!(value >= 0 && value < static_cast<double>(images)))
    c.fail(fmt::format("a region is of image {}, there are {}", value, images));
  return static_cast<int64_t>(value);
}

RoiSample bilinear(double y, double x, int64_t height, int64_t width) {
  RoiSample s;
  if (!(y >= -1 && y <= static_cast<double>(height) && x >= -1 && x <= static_cast<double>(width))) return s;
  const auto split = [](double v, int64_t extent, int64_t& low, int64_t& high) {
    v = std::max(v, 0.0);
    low = static_cast<int64_t>(v);
    if (low >= extent - 1) {
      low = high = extent - 1;
      return 0.0;
    }
    high = low + 1;
    return v - static_cast<double>(low);
  };
  int64_t y0, y1, x0, x1;
  const double fy = split(y, height, y0, y1), fx = split(x, width, x0, x1);
  const int64_t at[4] = {y0 * width + x0, y0 * width + x1, y1 * width + x0, y1 * width + x1};
  const double weight[4] = {(1 - fy) * (1 - fx), (1 - fy) * fx, fy * (1 - fx), fy * fx};
  std::copy(at, at + 4, s.at);
  std::copy(weight, weight + 4, s.weight);
  return s;
}

// Number of samples per bin along one axis; -1 when there are too many.
int64_t samples(int64_t ratio, double extent, int64_t bins) {
  if (ratio > 0) return ratio;
  const double n = std::ceil(extent / static_cast<double>(bins));
  if (!(n <= 65536)) return -1;
  return n > 0 ? static_cast<int64_t>(n) : 0;
}

Tensor sample_regions(const Attrs&, double scale, int64_t first, std::span<const Type> types, uint64_t seed) {
  const Dims x = constant_dims(*types[0].shape).value();
  Tensor out = sample_uniform(types[1], seed, 0, 1);
  const int64_t columns = first + 4;
  const double sx = static_cast<double>(x[3]) / std::max(scale, 1e-6);
  const double sy = static_cast<double>(x[2]) / std::max(scale, 1e-6);
  for (int64_t r = 0; r < out.count() / columns; ++r) {
    if (first) out.set_real(r * columns, std::floor(out.get_real(r * columns) * static_cast<double>(x[0])));
    const auto at = [&](int64_t k) { return r * columns + first + k; };
    for (int64_t k = 0; k < 2; ++k) {
      const double low = out.get_real(at(k)) * 0.6, high = low + 0.05 + out.get_real(at(k + 2)) * 0.35;
      out.set_real(at(k), low * (k ? sy : sx));
      out.set_real(at(k + 2), high * (k ? sy : sx));
    }
  }
  return out;
}

}  // namespace

RoiGrid::RoiGrid(const RoiAlignAttrs& a, const double* region) {
  const double shift = a.half_pixel ? 0.5 : 0;
  double box[4];
  for (int k = 0; k < 4; ++k) box[k] = region[k] * a.scale - shift;
  double extent_x = box[2] - box[0], extent_y = box[3] - box[1];
  if (!a.half_pixel) {
    extent_x = std::max(extent_x, 1.0);
    extent_y = std::max(extent_y, 1.0);
  }
  start_y = box[1];
  start_x = box[0];
  bin_y = extent_y / static_cast<double>(a.height);
  bin_x = extent_x / static_cast<double>(a.width);
  ny = samples(a.sampling_ratio, extent_y, a.height);
  nx = samples(a.sampling_ratio, extent_x, a.width);
  sensible = ny >= 0 && nx >= 0 && ny * nx <= (int64_t{1} << 20);
}

RoiSample RoiGrid::sample(int64_t py, int64_t px, int64_t iy, int64_t ix, int64_t height, int64_t width) const {
  const double y =
      start_y + static_cast<double>(py) * bin_y + (static_cast<double>(iy) + 0.5) * bin_y / static_cast<double>(ny);
  const double x =
      start_x + static_cast<double>(px) * bin_x + (static_cast<double>(ix) + 0.5) * bin_x / static_cast<double>(nx);
  return bilinear(y, x, height, width);
}

void infer_roi_align(InferContext& c) {
  const auto& a = c.attrs<RoiAlignAttrs>();
  if (!is_integer(c.dtype(2))) c.fail("batch indices must be integers");
  if (a.sampling_ratio < 0 || a.sampling_ratio > 65536)
    c.fail(fmt::format("sampling ratio {} is outside [0, 65536]", a.sampling_ratio));
  infer_regions(c, a.height, a.width, 4);
  if (c.rank(2) != 1) c.fail("batch indices must have rank 1");
  c.require_equal(c.shape(1)[0], c.shape(2)[0], "regions and batch indices");
}

void eval_roi_align(EvalContext& c) {
  const auto& a = c.attrs<RoiAlignAttrs>();
  const Tensor &x = c.in(0), &rois = c.in(1), &images = c.in(2);
  Tensor& y = c.out(0);
  if (y.count() == 0) return;
  const int64_t channels = x.dims()[1], height = x.dims()[2], width = x.dims()[3], plane = height * width;
  const std::vector<double> data = numbers_of<double>(x);
  std::vector<RoiSample> points;
  for (int64_t r = 0; r < rois.dims()[0]; ++r) {
    const int64_t image = image_number(c, static_cast<double>(images.get_integer(r)), x.dims()[0]);
    double region[4];
    for (int64_t k = 0; k < 4; ++k) region[k] = rois.get_real(r * 4 + k);
    const RoiGrid grid(a, region);
    if (!grid.sensible) c.fail("a region is too large to be sampled");
    const int64_t ny = grid.ny, nx = grid.nx;
    for (int64_t py = 0; py < a.height; ++py) {
      for (int64_t px = 0; px < a.width; ++px) {
        points.clear();
        for (int64_t iy = 0; iy < ny && plane > 0; ++iy)
          for (int64_t ix = 0; ix < nx; ++ix) points.push_back(grid.sample(py, px, iy, ix, height, width));
        for (int64_t ch = 0; ch < channels; ++ch) {
          const double* from = data.data() + (image * channels + ch) * plane;
          double value = 0;
          bool first = true;
          for (const RoiSample& s : points) {
            double part[4];
            for (int k = 0; k < 4; ++k) part[k] = s.weight[k] * from[s.at[k]];
            if (a.mode == RoiMode::average) {
              value += part[0] + part[1] + part[2] + part[3];
            } else {
              const double best = std::max(std::max(part[0], part[1]), std::max(part[2], part[3]));
              value = first ? best : std::max(value, best);
              first = false;
            }
          }
          if (a.mode == RoiMode::average) value /= static_cast<double>(std::max<int64_t>(ny * nx, 1));
          y.set_real((r * channels + ch) * a.height * a.width + py * a.width + px, value);
        }
      }
    }
  }
}

Tensor sample_roi_align(const Op&, const Attrs& attrs, size_t input, std::span<const Type> types, uint64_t seed) {
  if (input == 1) return sample_regions(attrs, attrs.as<RoiAlignAttrs>().scale, 0, types, seed);
  if (input == 2) return sample_uniform(types[2], seed, 0, static_cast<double>((*types[0].shape)[0].constant()));
  return sample_uniform(types[input], seed, -1, 1);
}

void infer_max_roi_pool(InferContext& c) {
  const auto& a = c.attrs<MaxRoiPoolAttrs>();
  infer_regions(c, a.height, a.width, 5);
}

void eval_max_roi_pool(EvalContext& c) {
  const auto& a = c.attrs<MaxRoiPoolAttrs>();
  const Tensor &x = c.in(0), &rois = c.in(1);
  Tensor& y = c.out(0);
  if (y.count() == 0) return;
  const int64_t channels = x.dims()[1], height = x.dims()[2], width = x.dims()[3];
  const std::vector<double> data = numbers_of<double>(x);
  // Rounded halves away from zero; clamped so that hostile numbers stay small.
  const auto corner = [&](int64_t i) {
    const double v = std::round(rois.get_real(i) * a.scale);
    return v == v ? std::clamp(v, -1e9, 1e9) : 0.0;
  };
  for (int64_t r = 0; r < rois.dims()[0]; ++r) {
    const int64_t image = image_number(c, rois.get_real(r * 5), x.dims()[0]);
    const double x0 = corner(r * 5 + 1), y0 = corner(r * 5 + 2), x1 = corner(r * 5 + 3), y1 = corner(r * 5 + 4);
    const double bin_y = std::max(y1 - y0 + 1, 1.0) / static_cast<double>(a.height);
    const double bin_x = std::max(x1 - x0 + 1, 1.0) / static_cast<double>(a.width);
    const auto range = [](int64_t bin, double size, double start, int64_t extent, int64_t& low, int64_t& high) {
      const double e = static_cast<double>(extent), b = static_cast<double>(bin);
      low = static_cast<int64_t>(std::clamp(std::floor(b * size) + start, 0.0, e));
      high = static_cast<int64_t>(std::clamp(std::ceil((b + 1) * size) + start, 0.0, e));
    };
    for (int64_t py = 0; py < a.height; ++py) {
      int64_t h0, h1;
      range(py, bin_y, y0, height, h0, h1);
      for (int64_t px = 0; px < a.width; ++px) {
        int64_t w0, w1;
        range(px, bin_x, x0, width, w0, w1);
        for (int64_t ch = 0; ch < channels; ++ch) {
          const double* from = data.data() + (image * channels + ch) * height * width;
          double best = h0 >= h1 || w0 >= w1 ? 0 : -std::numeric_limits<double>::infinity();
          for (int64_t h = h0; h < h1; ++h)
            for (int64_t w = w0; w < w1; ++w) best = std::max(best, from[h * width + w]);
          y.set_real((r * channels + ch) * a.height * a.width + py * a.width + px, best);
        }
      }
    }
  }
}

Tensor sample_max_roi_pool(const Op&, const Attrs& attrs, size_t input, std::span<const Type> types, uint64_t seed) {
  if (input == 1) return sample_regions(attrs, attrs.as<MaxRoiPoolAttrs>().scale, 1, types, seed);
  return sample_uniform(types[input], seed, -1, 1);
}

}  // namespace sinter
