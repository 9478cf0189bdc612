// Resize: every mode, one axis after another. Also the row of GridSample.

#include "ops/resize.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "base/checked.h"
#include "ops/arrays.h"
#include "ops/elements.h"
#include "ops/families.h"
#include "ops/grid_sample.h"
#include "ops/op.h"

namespace sinter {

std::span<const char* const> enum_names(ResizeMode) {
  static constexpr const char* names[] = {"nearest", "linear", "cubic"};
  return names;
}

std::span<const char* const> enum_names(Coordinates) {
  static constexpr const char* names[] = {"half_pixel", "half_pixel_symmetric", "pytorch_half_pixel", "align_corners",
                                          "asymmetric", "tf_crop_and_resize",   "tf_half_pixel"};
  return names;
}

std::span<const char* const> enum_names(NearestMode) {
  static constexpr const char* names[] = {"round_prefer_floor", "round_prefer_ceil", "floor", "ceil", "shrink_ceil"};
  return names;
}

std::span<const char* const> enum_names(AspectPolicy) {
  static constexpr const char* names[] = {"stretch", "not_larger", "not_smaller"};
  return names;
}

std::span<const char* const> enum_names(GridPadding) {
  static constexpr const char* names[] = {"zeros", "border", "reflection"};
  return names;
}

const Fields& fields_of(const ResizeAttrs*) {
  static const Fields f = describe<ResizeAttrs>(
      {field<&ResizeAttrs::antialias>("antialias"), field<&ResizeAttrs::aspect>("aspect"),
       field<&ResizeAttrs::axes>("axes"), field<&ResizeAttrs::coordinates>("coordinates"),
       field<&ResizeAttrs::cubic_a>("cubic_a"), field<&ResizeAttrs::exclude_outside>("exclude_outside"),
       field<&ResizeAttrs::extrapolation>("extrapolation"), field<&ResizeAttrs::mode>("mode"),
       field<&ResizeAttrs::nearest>("nearest")});
  return f;
}

const Fields& fields_of(const GridSampleAttrs*) {
  static const Fields f =
      describe<GridSampleAttrs>({field<&GridSampleAttrs::align_corners>("align_corners"),
                                 field<&GridSampleAttrs::mode>("mode"), field<&GridSampleAttrs::padding>("padding")});
  return f;
}

namespace {

constexpr size_t roi_operand = 1, scales_operand = 2, sizes_operand = 3;

// Axes that the operands speak of, in their order.
std::vector<size_t> axes_of(const ResizeAttrs& a, size_t rank) {
  std::vector<size_t> out;
  if (a.axes.empty())
    for (size_t k = 0; k < rank; ++k) out.push_back(k);
  for (int64_t v : a.axes) out.push_back(static_cast<size_t>(v < 0 ? v + static_cast<int64_t>(rank) : v));
  return out;
}

// An operand may be given with no elements instead of being absent.
bool present(const InferContext& c, size_t input) {
  return c.has(input) && !(c.type(input).has_shape() && c.shape(input).size() == 1 && c.shape(input)[0] == Dim(0));
}

// floor(in * scale), multiplied in float as ONNX does; scales that are a small fraction have an expression, used for
// numbers as well so that both always agree.
std::optional<Dim> scaled_extent(InferContext& c, const Dim& in, double scale) {
  if (!(scale > 0) || !std::isfinite(scale)) c.fail(fmt::format("scale {} must be a positive number", scale));
  if (scale <= 4096)
    for (int64_t denominator = 1; denominator <= 256; denominator *= 2) {
      const double numerator = scale * static_cast<double>(denominator);
      if (numerator == std::floor(numerator) && numerator >= 1)
        return floordiv(in * static_cast<int64_t>(numerator), denominator);
    }
  const double reciprocal = std::round(1 / scale);
  if (reciprocal >= 1 && reciprocal <= 4096 && static_cast<float>(1 / reciprocal) == static_cast<float>(scale))
    return floordiv(in, static_cast<int64_t>(reciprocal));
  if (!in.is_constant()) return std::nullopt;
  const float product = std::floor(static_cast<float>(in.constant()) * static_cast<float>(scale));
  return to_integer(static_cast<double>(product), 0, max_elements, "extent of Resize");
}

// The one scale that keeps the aspect ratio.
double common_scale(AspectPolicy policy, std::span<const int64_t> in, std::span<const int64_t> sizes) {
  double best = 1;
  for (size_t k = 0; k < in.size(); ++k) {
    const double scale = in[k] > 0 ? static_cast<double>(sizes[k]) / static_cast<double>(in[k]) : 0;
    if (k == 0)
      best = scale;
    else
      best = policy == AspectPolicy::not_larger ? std::min(best, scale) : std::max(best, scale);
  }
  return best;
}

void infer_resize(InferContext& c) {
  const auto& a = c.attrs<ResizeAttrs>();
  const DType dtype = c.dtype(0);
  c.set(0, dtype);
  if (a.mode != ResizeMode::nearest && !is_float(dtype) && !is_integer(dtype))
    c.fail(fmt::format("the operand is {}: only mode nearest takes it", dtype_name(dtype)));
  if (a.antialias && a.mode == ResizeMode::nearest) c.fail("mode nearest has no antialiasing");
  const Shape& x = c.shape(0);
  c.axes(a.axes, x.size());
  const std::vector<size_t> axes = axes_of(a, x.size());
  const bool scales = present(c, scales_operand), sizes = present(c, sizes_operand);
  if (scales && sizes) c.fail("scales and sizes are both given");
  if (!scales && !sizes && !axes.empty()) c.fail("it needs scales or sizes");
  if (a.coordinates == Coordinates::tf_crop_and_resize) {
    if (!present(c, roi_operand)) c.fail("tf_crop_and_resize needs a region");
    if (c.rank(roi_operand) != 1) c.fail("the region must have rank 1");
    c.require_equal(c.shape(roi_operand)[0], static_cast<int64_t>(2 * axes.size()), "numbers of the region");
  }
  Shape out = x;
  if (!scales && !sizes) return c.set(0, dtype, std::move(out));
  const size_t given = scales ? scales_operand : sizes_operand;
  if (scales ? !is_float(c.dtype(given)) : !is_integer(c.dtype(given)))
    c.fail(fmt::format("operand {} is {}", given, dtype_name(c.dtype(given))));
  if (c.rank(given) != 1) c.fail(fmt::format("operand {} must have rank 1", given));
  c.require_equal(c.shape(given)[0], static_cast<int64_t>(axes.size()), "one scale or size per axis");
  if (scales) {
    const Tensor* values = c.constant(given);
    for (size_t k = 0; k < axes.size(); ++k) {
      std::optional<Dim> extent;
      if (values) extent = scaled_extent(c, x[axes[k]], values->get_real(static_cast<int64_t>(k)));
      out[axes[k]] = extent ? *extent : c.host_decided(0, axes[k]);
    }
    return c.set(0, dtype, std::move(out));
  }
  const auto values = c.integers(given);
  if (values && a.aspect == AspectPolicy::stretch) {
    for (size_t k = 0; k < axes.size(); ++k) {
      c.require_at_least((*values)[k], 0, "sizes of Resize");
      out[axes[k]] = (*values)[k];
    }
    return c.set(0, dtype, std::move(out));
  }
  std::vector<int64_t> in, wanted;
  if (values)
    for (size_t k = 0; k < axes.size(); ++k)
      if (x[axes[k]].is_constant() && (*values)[k].is_constant()) {
        in.push_back(x[axes[k]].constant());
        wanted.push_back((*values)[k].constant());
        if (wanted.back() < 0) c.fail(fmt::format("size {} is negative", wanted.back()));
      }
  const bool all_known = in.size() == axes.size();
  const double scale = all_known ? common_scale(a.aspect, in, wanted) : 0;
  for (size_t k = 0; k < axes.size(); ++k)
    out[axes[k]] =
        all_known
            ? Dim(to_integer(std::floor(scale * static_cast<double>(in[k]) + 0.5), 0, max_elements, "extent of Resize"))
            : c.host_decided(0, axes[k]);
  c.set(0, dtype, std::move(out));
}

}  // namespace

double source_place(const ResizeAttrs& a, double x, double in, double out, const AxisScale& s) {
  const double fractional = s.scale * in;  // the wanted extent before rounding
  switch (a.coordinates) {
    case Coordinates::half_pixel: return (x + 0.5) / s.scale - 0.5;
    case Coordinates::half_pixel_symmetric: {
      const double adjustment = out / fractional;
      return in / 2 * (1 - adjustment) + (x + 0.5) / s.scale - 0.5;
    }
    case Coordinates::pytorch_half_pixel: return out > 1 ? (x + 0.5) / s.scale - 0.5 : 0;
    case Coordinates::align_corners: return out <= 1 || fractional == 1 ? 0 : x * (in - 1) / (fractional - 1);
    case Coordinates::asymmetric: return x / s.scale;
    case Coordinates::tf_crop_and_resize:
      if (out > 1) return s.roi_start * (in - 1) + x * (s.roi_end - s.roi_start) * (in - 1) / (out - 1);
      return 0.5 * (s.roi_start + s.roi_end) * (in - 1);
    case Coordinates::tf_half_pixel: return (x + 0.5) / s.scale;
  }
  return x;
}

double nearest_place(NearestMode mode, double x, double scale) {
  switch (mode) {
    case NearestMode::round_prefer_floor: return std::ceil(x - 0.5);
    case NearestMode::round_prefer_ceil: return std::floor(x + 0.5);
    case NearestMode::floor: return std::floor(x);
    case NearestMode::ceil: return std::ceil(x);
    case NearestMode::shrink_ceil: return scale < 1 ? std::ceil(x) : std::floor(x);
  }
  return x;
}

namespace {

// Weights of the elements floor(place) + first, ... for the ratio behind it; antialiasing widens the kernel.
void kernel_weights(const ResizeAttrs& a, double ratio, double shrink, int64_t first, std::span<double> weights) {
  const double c = a.cubic_a;
  double sum = 0;
  for (size_t i = 0; i < weights.size(); ++i) {
    const double t = std::abs((static_cast<double>(first + static_cast<int64_t>(i)) - ratio) * shrink);
    double w = 0;
    if (a.mode == ResizeMode::linear)
      w = std::max(0.0, 1 - t);
    else if (t <= 1)
      w = ((c + 2) * t - (c + 3)) * t * t + 1;
    else if (t < 2)
      w = ((c * t - 5 * c) * t + 8 * c) * t - 4 * c;
    weights[i] = w;
    sum += w;
  }
  if (a.antialias && sum != 0)
    for (double& w : weights) w /= sum;
}

[[noreturn]] void no_plan(std::string message) { throw Error(Code::fault, std::move(message)); }

Resampling resample_axis(const ResizeAttrs& a, size_t axis, int64_t in, int64_t out, const AxisScale& s) {
  Resampling r;
  r.axis = axis;
  r.extent = out;
  const double shrink = a.antialias ? std::min(s.scale, 1.0) : 1;
  int64_t first = 0;
  if (a.mode != ResizeMode::nearest) {
    const double reach = (a.mode == ResizeMode::linear ? 1 : 2) / shrink;
    // Weights beyond the operand's own extent twice over would all fall on its edges.
    if (!(reach <= 1e6)) no_plan(fmt::format("scale {} is too small to be antialiased", s.scale));
    first = static_cast<int64_t>(std::floor(-reach)) + 1;
    r.taps = 2 - 2 * first;
  }
  const auto last = static_cast<double>(in - 1);
  r.index.resize(static_cast<size_t>(checked_mul(out, r.taps)));
  r.weight.assign(r.index.size(), 1);
  r.outside.assign(static_cast<size_t>(out), false);
  for (int64_t o = 0; o < out; ++o) {
    double place = source_place(a, static_cast<double>(o), static_cast<double>(in), static_cast<double>(out), s);
    if (place != place) no_plan("the region or scales lead to no place in the operand");
    if (a.coordinates == Coordinates::tf_crop_and_resize && (place < 0 || place > last))
      r.outside[static_cast<size_t>(o)] = true;
    // Far outside every element is the edge.
    place = std::clamp(place, -2e6 - 8, last + 2e6 + 8);
    const auto at = static_cast<size_t>(o * r.taps);
    if (a.mode == ResizeMode::nearest) {
      r.index[at] = static_cast<int64_t>(std::clamp(nearest_place(a.nearest, place, s.scale), 0.0, last));
      continue;
    }
    const double floor = std::floor(place);
    const std::span<double> weights(r.weight.data() + at, static_cast<size_t>(r.taps));
    kernel_weights(a, place - floor, shrink, first, weights);
    double inside = 0;
    for (int64_t t = 0; t < r.taps; ++t) {
      const int64_t i = static_cast<int64_t>(floor) + first + t;
      double& w = weights[static_cast<size_t>(t)];
      if (a.exclude_outside && (i < 0 || i >= in)) w = 0;
      inside += w;
      r.index[at + static_cast<size_t>(t)] = std::clamp<int64_t>(i, 0, in - 1);
    }
    if (a.exclude_outside && inside != 0)
      for (double& w : weights) w /= inside;
  }
  return r;
}

}  // namespace

std::vector<Resampling> resampling_plan(const ResizeAttrs& a, std::span<const int64_t> in, std::span<const int64_t> out,
                                        const Tensor* roi, const Tensor* scales, const Tensor* sizes) {
  const std::vector<size_t> axes = axes_of(a, in.size());
  const auto given = [&](const Tensor* t, size_t count) {
    if (!t || t->count() == 0) return false;
    if (t->count() != static_cast<int64_t>(count)) no_plan("a Resize needs one scale or size for each of its axes");
    return true;
  };
  const bool by_scale = given(scales, axes.size()), by_size = given(sizes, axes.size());
  const bool crops = a.coordinates == Coordinates::tf_crop_and_resize;
  if (crops && !given(roi, 2 * axes.size())) no_plan("tf_crop_and_resize needs a region");
  std::vector<bool> touched(in.size(), false);
  std::vector<int64_t> extents;
  for (size_t k : axes) {
    if (k >= in.size()) no_plan("an axis of a Resize is out of range");
    touched[k] = true;
    extents.push_back(in[k]);
  }
  for (size_t k = 0; k < in.size(); ++k)
    if (!touched[k] && in[k] != out[k]) no_plan("the extents of a Resize do not fit together");
  std::optional<double> common;
  if (by_size && a.aspect != AspectPolicy::stretch) common = common_scale(a.aspect, extents, sizes->to_integers());
  std::vector<Resampling> plan;
  for (size_t k = 0; k < axes.size(); ++k) {
    const size_t axis = axes[k];
    AxisScale s{static_cast<double>(out[axis]) / static_cast<double>(in[axis]), 0, 1};
    if (by_scale)
      s.scale = scales->get_real(static_cast<int64_t>(k));
    else if (common)
      s.scale = *common;
    if (crops) {
      s.roi_start = roi->get_real(static_cast<int64_t>(k));
      s.roi_end = roi->get_real(static_cast<int64_t>(k + axes.size()));
    }
    if (s.scale == 1 && in[axis] == out[axis] && s.roi_start == 0 && s.roi_end == 1) continue;
    plan.push_back(resample_axis(a, axis, in[axis], out[axis], s));
  }
  return plan;
}

namespace {

// Nearest: elements move, whatever they are.
void gather(const Tensor& x, Tensor& y, const std::vector<Resampling>& axes, double extrapolation) {
  const std::vector<int64_t> strides = dense_strides(x.dims());
  std::vector<const Resampling*> by_axis(x.rank(), nullptr);
  for (const Resampling& r : axes) by_axis[r.axis] = &r;
  std::vector<int64_t> at(x.rank(), 0);
  int64_t to = 0;
  do {
    int64_t from = 0;
    bool outside = false;
    for (size_t k = 0; k < at.size(); ++k) {
      const auto i = static_cast<size_t>(at[k]);
      from += (by_axis[k] ? by_axis[k]->index[i] : at[k]) * strides[k];
      outside = outside || (by_axis[k] && by_axis[k]->outside[i]);
    }
    if (outside)
      y.set_real(to, extrapolation);
    else
      copy_element(y, to, x, from);
    ++to;
  } while (next_position(at, y.dims()));
}

// Limits of an integer type, for values that interpolation carries beyond them.
std::pair<double, double> limits_of(DType dtype) {
  const int bits = bit_size(dtype);
  if (is_signed(dtype)) return {-std::ldexp(1, bits - 1), std::ldexp(1, bits - 1) - 1};
  return {0, std::ldexp(1, bits) - 1};
}

void interpolate(const Tensor& x, Tensor& y, const std::vector<Resampling>& axes, double extrapolation) {
  std::vector<double> data = numbers_of<double>(x);
  Dims dims = x.dims();
  for (const Resampling& r : axes) {
    int64_t outer = 1, inner = 1;
    for (size_t k = 0; k < dims.size(); ++k) (k < r.axis ? outer : inner) *= k == r.axis ? 1 : dims[k];
    const int64_t in = dims[r.axis];
    dims[r.axis] = r.extent;
    std::vector<double> next(static_cast<size_t>(element_count(dims)), 0);
    for (int64_t n = 0; n < outer; ++n)
      for (int64_t o = 0; o < r.extent; ++o) {
        double* to = next.data() + (n * r.extent + o) * inner;
        if (r.outside[static_cast<size_t>(o)]) {
          std::fill_n(to, inner, extrapolation);
          continue;
        }
        for (int64_t t = 0; t < r.taps; ++t) {
          const auto k = static_cast<size_t>(o * r.taps + t);
          const double w = r.weight[k];
          if (w == 0) continue;
          const double* from = data.data() + (n * in + r.index[k]) * inner;
          for (int64_t i = 0; i < inner; ++i) to[i] += w * from[i];
        }
      }
    data = std::move(next);
  }
  if (!is_float(y.dtype())) {
    const auto [low, high] = limits_of(y.dtype());
    for (double& v : data) v = std::clamp(v, low, high);
  }
  write_numbers(y, 0, y.count(), data.data());
}

void eval_resize(EvalContext& c) {
  const auto& a = c.attrs<ResizeAttrs>();
  const Tensor& x = c.in(0);
  Tensor& y = c.out(0);
  if (y.count() == 0) return;
  if (x.count() == 0) c.fail("an empty operand cannot be resized to a result with elements");
  const auto operand = [&](size_t i) { return c.has(i) ? &c.in(i) : nullptr; };
  const std::vector<Resampling> plan =
      resampling_plan(a, x.dims(), y.dims(), operand(roi_operand), operand(scales_operand), operand(sizes_operand));
  if (a.mode == ResizeMode::nearest)
    gather(x, y, plan, a.extrapolation);
  else
    interpolate(x, y, plan, a.extrapolation);
}

constexpr Op table[] = {
    {.name = "Resize",
     .fields = fields<ResizeAttrs>,
     .inputs = {1, 4},
     .host_inputs = 0b1110,
     .infer = infer_resize,
     .eval = eval_resize},
    {.name = "GridSample",
     .fields = fields<GridSampleAttrs>,
     .inputs = {2, 2},
     .infer = infer_grid_sample,
     .eval = eval_grid_sample,
     .sample = sample_grid_sample},
};

}  // namespace

std::span<const Op> resize_ops() { return table; }

}  // namespace sinter
