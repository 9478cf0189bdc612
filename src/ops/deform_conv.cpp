// Deformable convolution: every tap of every position reads the operand at its own displaced place, interpolated
// linearly with zeros outside, and scaled by a mask.

#include "ops/deform_conv.h"

#include <fmt/core.h>

#include <algorithm>
#include <cmath>

#include "base/checked.h"
#include "ops/arrays.h"
#include "ops/contraction.h"
#include "ops/convolution.h"

namespace sinter {
namespace {

WindowRef window_of(const DeformConvAttrs& a, std::span<const int64_t> kernel) {
  return {AutoPad::explicit_pads, kernel, a.strides, a.dilations, a.pads};
}

// Linear interpolation at `at` in a grid; 0 outside.
double interpolate(const double* grid, const Dims& dims, const std::vector<double>& at) {
  const size_t n = dims.size();
  int64_t low[max_rank_of_values];
  double fraction[max_rank_of_values];
  for (size_t k = 0; k < n; ++k) {
    if (!(at[k] > -1 && at[k] < static_cast<double>(dims[k]))) return 0;
    const double floor = std::floor(at[k]);
    low[k] = static_cast<int64_t>(floor);
    fraction[k] = at[k] - floor;
  }
  double sum = 0;
  for (uint32_t corner = 0; corner < (1u << n); ++corner) {
    double weight = 1;
    int64_t offset = 0;
    for (size_t k = 0; k < n && weight != 0; ++k) {
      const bool upper = corner >> k & 1;
      const int64_t i = low[k] + (upper ? 1 : 0);
      weight *= upper ? fraction[k] : 1 - fraction[k];
      if (i < 0 || i >= dims[k]) weight = 0;
      offset = offset * dims[k] + i;
    }
    if (weight != 0) sum += weight * grid[offset];
  }
  return sum;
}

}  // namespace

void infer_deform_conv(InferContext& c) {
  const auto& a = c.attrs<DeformConvAttrs>();
  const DType dtype = c.dtype(0);
  c.set(0, dtype);
  if (!is_float(dtype)) c.fail(fmt::format("the operand is {}, it must be a float", dtype_name(dtype)));
  check_dtypes(c, {1, 2, 3, 4});
  if (a.group < 1 || a.offset_group < 1) c.fail("group and offset_group must be at least 1");
  const Shape &x = c.shape(0), &w = c.shape(1), &offset = c.shape(2);
  if (x.size() < 3) c.fail(fmt::format("the operand has rank {}, it must be [N, C, spatial...]", x.size()));
  if (w.size() != x.size() || offset.size() != x.size()) c.fail("operand, weights and offsets must have equal ranks");
  check_channels(c, a.group, w[1] * a.group, w[0], 3);
  const Fact divides{Fact::Kind::divides, a.offset_group, x[1], "offset groups divide channels"};
  const Proof proof = prove(c.host.symbols(), divides);
  if (proof == Proof::no)
    c.fail(fmt::format("offset_group {} does not divide {} channels", a.offset_group, x[1].constant()));
  if (proof == Proof::unknown) c.host.require(divides);
  const std::vector<Dim> spatial(x.begin() + 2, x.end()), kernel(w.begin() + 2, w.end());
  Shape out{x[0], w[0]};
  for (Dim& d : window_extents(c, spatial, kernel, window_of(a, {}))) out.push_back(std::move(d));
  Dim taps = a.offset_group;
  for (const Dim& d : kernel) taps = taps * d;
  const auto check = [&](const Shape& s, const Dim& channels) {
    c.require_equal(s[0], x[0], "batch of offsets and mask");
    c.require_equal(s[1], channels, "channels of offsets and mask");
    for (size_t k = 2; k < s.size(); ++k) c.require_equal(s[k], out[k], "extents of offsets and mask");
  };
  check(offset, taps * Dim(static_cast<int64_t>(kernel.size())));
  if (c.has(4)) {
    if (c.rank(4) != x.size()) c.fail("the mask must have the operand's rank");
    check(c.shape(4), taps);
  }
  c.set(0, dtype, std::move(out));
}

void eval_deform_conv(EvalContext& c) {
  const auto& a = c.attrs<DeformConvAttrs>();
  const Tensor &x = c.in(0), &w = c.in(1), &offset = c.in(2);
  Tensor& y = c.out(0);
  if (y.count() == 0) return;
  const size_t n = x.rank() - 2;
  const Dims in(x.dims().begin() + 2, x.dims().end()), out(y.dims().begin() + 2, y.dims().end());
  const Dims kernel(w.dims().begin() + 2, w.dims().end());
  const WindowRef window = window_of(a, kernel);
  const std::vector<int64_t> before = resolve_pads(in, window).before;
  const int64_t batch = x.dims()[0], channels = x.dims()[1], depth_channels = w.dims()[1];
  const int64_t rows = w.dims()[0] / a.group, taps = element_count(kernel), depth = depth_channels * taps;
  const int64_t plane = element_count(in), positions = element_count(out);
  const int64_t channels_per_offset = std::max<int64_t>(channels / a.offset_group, 1);
  std::vector<double> image(static_cast<size_t>(channels * plane)), line(64), at(n);
  const std::vector<double> offsets = numbers_of<double>(offset);
  const std::vector<double> mask = c.has(4) ? numbers_of<double>(c.in(4)) : std::vector<double>();
  const std::vector<double> bias =
      c.has(3) ? numbers_of<double>(c.in(3)) : std::vector<double>(static_cast<size_t>(w.dims()[0]), 0);
  for (int64_t g = 0; g < a.group; ++g) {
    const LeftFactor<double> weights(
        rows, depth, [&](int64_t m, double* to) { read_numbers(w, (g * rows + m) * depth, depth, to); });
    for (int64_t b = 0; b < batch; ++b) {
      read_numbers(x, b * channels * plane, channels * plane, image.data());
      const auto fill = [&](int64_t k, int64_t column, int64_t count, double* to) {
        const int64_t channel = g * depth_channels + k / taps, tap = k % taps;
        const int64_t place = (b * a.offset_group + channel / channels_per_offset) * taps + tap;
        const double* grid = image.data() + channel * plane;
        for (int64_t i = 0; i < count; ++i) {
          int64_t position = column + i, tap_rest = tap;
          for (size_t s = n; s-- > 0;) {
            const int64_t o = position % out[s], t = tap_rest % kernel[s];
            position /= out[s];
            tap_rest /= kernel[s];
            const int64_t base = o * window_step(a.strides, s) + t * window_step(a.dilations, s) - before[s];
            const int64_t from = (place * static_cast<int64_t>(n) + static_cast<int64_t>(s)) * positions + column + i;
            at[s] = static_cast<double>(base) + offsets[static_cast<size_t>(from)];
          }
          to[i] = interpolate(grid, in, at);
          if (!mask.empty()) to[i] *= mask[static_cast<size_t>(place * positions + column + i)];
        }
      };
      const auto store = [&](int64_t m, int64_t column, int64_t count, const double* values) {
        const double add = bias[static_cast<size_t>(g * rows + m)];
        for (int64_t i = 0; i < count; ++i) line[static_cast<size_t>(i)] = values[i] + add;
        write_numbers(y, ((b * a.group + g) * rows + m) * positions + column, count, line.data());
      };
      multiply(weights, positions, fill, store);
    }
  }
}

}  // namespace sinter
