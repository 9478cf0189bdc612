// Attributes of resampling: Resize(x, roi?, scales?, sizes?) with host operands roi, scales, sizes, and
// GridSample(x, grid).
#pragma once

#include "base/fields.h"
#include "tensor/tensor.h"

namespace sinter {

enum class ResizeMode : uint8_t { nearest, linear, cubic };
enum class Coordinates : uint8_t {
  half_pixel,
  half_pixel_symmetric,
  pytorch_half_pixel,
  align_corners,
  asymmetric,
  tf_crop_and_resize,
  tf_half_pixel,
};
enum class NearestMode : uint8_t {
  round_prefer_floor,
  round_prefer_ceil,
  floor,
  ceil,
  shrink_ceil,  // ceil where elements become fewer, else floor: what opset 10 meant
};
enum class AspectPolicy : uint8_t { stretch, not_larger, not_smaller };
std::span<const char* const> enum_names(ResizeMode);
std::span<const char* const> enum_names(Coordinates);
std::span<const char* const> enum_names(NearestMode);
std::span<const char* const> enum_names(AspectPolicy);

struct ResizeAttrs {
  bool antialias = false;
  AspectPolicy aspect = AspectPolicy::stretch;
  std::vector<int64_t> axes = {};  // that roi, scales and sizes speak of; empty: all
  Coordinates coordinates = Coordinates::half_pixel;
  double cubic_a = -0.75;
  bool exclude_outside = false;
  double extrapolation = 0;
  ResizeMode mode = ResizeMode::nearest;
  NearestMode nearest = NearestMode::round_prefer_floor;
};

// Where element `x` of a resampled axis (from `in` to `out` elements) lies in the operand; unbounded, NaN for hostile
// scales. The region counts for tf_crop_and_resize only.
struct AxisScale {
  double scale, roi_start, roi_end;
};
double source_place(const ResizeAttrs& a, double x, double in, double out, const AxisScale& s);
double nearest_place(NearestMode mode, double x, double scale);

// How one axis is resampled: per result element `taps` source elements and weights; outside: the extrapolation value.
struct Resampling {
  size_t axis = 0;
  int64_t extent = 0, taps = 1;
  std::vector<int64_t> index;
  std::vector<double> weight;
  std::vector<bool> outside;
};
// The resampled axes of Resize from `in` to `out`, in the order of the operands; those that keep everything are left
// out. roi, scales and sizes may be null or empty. No extent is 0. Throws Error when they make no sense.
std::vector<Resampling> resampling_plan(const ResizeAttrs& attrs, std::span<const int64_t> in,
                                        std::span<const int64_t> out, const Tensor* roi, const Tensor* scales,
                                        const Tensor* sizes);

enum class GridPadding : uint8_t { zeros, border, reflection };
std::span<const char* const> enum_names(GridPadding);

struct GridSampleAttrs {
  bool align_corners = false;
  ResizeMode mode = ResizeMode::linear;
  GridPadding padding = GridPadding::zeros;
};

const Fields& fields_of(const ResizeAttrs*);
const Fields& fields_of(const GridSampleAttrs*);

}  // namespace sinter
