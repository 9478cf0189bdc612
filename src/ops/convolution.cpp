#include "ops/convolution.h"

#include <fmt/core.h>

#include <algorithm>

#include "base/checked.h"
#include "ops/arrays.h"
#include "ops/contraction.h"
#include "ops/window_map.h"

namespace sinter {
namespace {

std::vector<Dim> spatial_of(const Shape& shape) { return {shape.begin() + 2, shape.end()}; }
Dims spatial_of(const Dims& dims) { return {dims.begin() + 2, dims.end()}; }

void check_ranks(InferContext& c) {
  const size_t rank = c.rank(0);
  if (rank < 3) c.fail(fmt::format("the operand has rank {}, it must be [N, C, spatial...]", rank));
  if (c.rank(1) != rank) c.fail(fmt::format("the weights have rank {}, the operand {}", c.rank(1), rank));
}

template <typename T>
std::vector<T> bias_of(const EvalContext& c, int64_t channels) {
  if (c.has(2)) return numbers_of<T>(c.in(2));
  return std::vector<T>(static_cast<size_t>(channels), T{});
}

template <typename T>
void convolve(EvalContext& c) {
  const auto& a = c.attrs<ConvAttrs>();
  const Tensor &x = c.in(0), &w = c.in(1);
  Tensor& y = c.out(0);
  if (y.count() == 0) return;
  const Dims kernel = spatial_of(w.dims()), in = spatial_of(x.dims()), out = spatial_of(y.dims());
  const WindowRef window{a.auto_pad, kernel, a.strides, a.dilations, a.pads};
  const WindowMap map(out, in, kernel, window, resolve_pads(in, window).before);
  const int64_t batch = x.dims()[0], channels = w.dims()[1], rows = w.dims()[0] / a.group;
  const int64_t positions = map.positions(), taps = map.taps(), depth = channels * taps;
  const std::vector<T> bias = bias_of<T>(c, w.dims()[0]);
  std::vector<T> image(static_cast<size_t>(channels * map.elements())), line(64);
  for (int64_t g = 0; g < a.group; ++g) {
    const LeftFactor<T> weights(rows, depth,
                                [&](int64_t m, T* to) { read_numbers(w, (g * rows + m) * depth, depth, to); });
    for (int64_t n = 0; n < batch; ++n) {
      read_numbers(x, (n * a.group + g) * channels * map.elements(), channels * map.elements(), image.data());
      const auto fill = [&](int64_t k, int64_t column, int64_t count, T* to) {
        const T* from = image.data() + k / taps * map.elements();
        map.visit(k % taps, column, count, [&](int64_t i, int64_t at) { to[i] = at < 0 ? T{} : from[at]; });
      };
      const auto store = [&](int64_t m, int64_t column, int64_t count, const T* values) {
        const T add = bias[static_cast<size_t>(g * rows + m)];
        for (int64_t i = 0; i < count; ++i) line[static_cast<size_t>(i)] = values[i] + add;
        write_numbers(y, ((n * a.group + g) * rows + m) * positions + column, count, line.data());
      };
      multiply(weights, positions, fill, store);
    }
  }
}

}  // namespace

std::vector<int64_t> transposed_before(const ConvTransposeAttrs& a, const Dims& in, const Dims& kernel) {
  const size_t n = in.size();
  std::vector<int64_t> before(n, 0);
  for (size_t k = 0; k < n; ++k) {
    const bool same = a.auto_pad == AutoPad::same_upper || a.auto_pad == AutoPad::same_lower;
    if (a.output_shape.empty() && !same) {
      if (a.auto_pad == AutoPad::explicit_pads && !a.pads.empty()) before[k] = a.pads[k];
      continue;
    }
    const int64_t stride = window_step(a.strides, k);
    const int64_t wanted = a.output_shape.empty() ? checked_mul(in[k], stride) : a.output_shape[k];
    const int64_t reach = (kernel[k] - 1) * window_step(a.dilations, k) + 1;
    const int64_t natural = checked_add(checked_add(checked_mul(in[k] - 1, stride), reach),
                                        a.output_padding.empty() ? 0 : a.output_padding[k]);
    const int64_t total = std::max<int64_t>(0, checked_sub(natural, wanted));
    before[k] = a.auto_pad == AutoPad::same_upper ? total / 2 : total - total / 2;
  }
  return before;
}

namespace {

template <typename T>
void convolve_transposed(EvalContext& c) {
  const auto& a = c.attrs<ConvTransposeAttrs>();
  const Tensor &x = c.in(0), &w = c.in(1);
  Tensor& y = c.out(0);
  if (y.count() == 0) return;
  const Dims kernel = spatial_of(w.dims()), in = spatial_of(x.dims()), out = spatial_of(y.dims());
  const WindowRef window{a.auto_pad, kernel, a.strides, a.dilations, a.pads};
  const WindowMap map(in, out, kernel, window, transposed_before(a, in, kernel));
  const int64_t batch = x.dims()[0], depth = w.dims()[0] / a.group, rows = w.dims()[1];
  const int64_t positions = map.positions(), taps = map.taps();
  const std::vector<T> bias = bias_of<T>(c, rows * a.group);
  std::vector<T> image(static_cast<size_t>(depth * positions)), sums(static_cast<size_t>(rows * map.elements()));
  for (int64_t g = 0; g < a.group; ++g) {
    const std::vector<T> all = [&] {
      std::vector<T> v(static_cast<size_t>(depth * rows * taps));
      read_numbers(w, g * depth * rows * taps, depth * rows * taps, v.data());
      return v;
    }();
    const LeftFactor<T> weights(rows * taps, depth, [&](int64_t m, T* to) {
      for (int64_t k = 0; k < depth; ++k) to[k] = all[static_cast<size_t>(k * rows * taps + m)];
    });
    for (int64_t n = 0; n < batch; ++n) {
      read_numbers(x, (n * a.group + g) * depth * positions, depth * positions, image.data());
      for (int64_t m = 0; m < rows; ++m)
        std::fill_n(sums.begin() + m * map.elements(), map.elements(), bias[static_cast<size_t>(g * rows + m)]);
      const auto fill = [&](int64_t k, int64_t column, int64_t count, T* to) {
        std::copy_n(image.begin() + k * positions + column, count, to);
      };
      const auto store = [&](int64_t m, int64_t column, int64_t count, const T* values) {
        T* to = sums.data() + m / taps * map.elements();
        map.visit(m % taps, column, count, [&](int64_t i, int64_t at) {
          if (at >= 0) to[at] += values[i];
        });
      };
      if (depth > 0) multiply(weights, positions, fill, store);
      write_numbers(y, (n * a.group + g) * rows * map.elements(), rows * map.elements(), sums.data());
    }
  }
}

}  // namespace

void check_dtypes(InferContext& c, std::initializer_list<size_t> operands) {
  const DType dtype = c.dtype(0);
  if (!is_float(dtype) && !is_integer(dtype))
    c.fail(fmt::format("operands are {}, they must be floats or integers", dtype_name(dtype)));
  for (size_t i : operands)
    if (c.has(i) && c.dtype(i) != dtype)
      c.fail(fmt::format("operand {} is {}, operand 0 is {}: they must be equal", i, dtype_name(c.dtype(i)),
                         dtype_name(dtype)));
}

DType check_factors(InferContext& c, std::initializer_list<size_t> others) {
  const DType narrow = c.dtype(0), dtype = c.dtype(1);
  if (dtype != DType::f32 || (narrow != DType::bf16 && narrow != DType::f16)) {
    check_dtypes(c, {1});
    check_dtypes(c, others);
    return narrow;
  }
  for (size_t i : others)
    if (c.has(i) && c.dtype(i) != dtype)
      c.fail(fmt::format("operand {} is {}, operand 1 is f32: they must be equal", i, dtype_name(c.dtype(i))));
  return dtype;
}

void check_channels(InferContext& c, int64_t group, const Dim& w_inputs, const Dim& outputs, size_t bias) {
  c.require_equal(c.shape(0)[1], w_inputs, "channels of operand and weights");
  const Fact divides{Fact::Kind::divides, group, outputs, "groups divide channels"};
  const Proof proof = prove(c.host.symbols(), divides);
  if (proof == Proof::no) c.fail(fmt::format("group {} does not divide {} channels", group, outputs.constant()));
  if (proof == Proof::unknown) c.host.require(divides);
  if (!c.has(bias)) return;
  if (c.rank(bias) != 1) c.fail(fmt::format("the bias has rank {}, it must have 1", c.rank(bias)));
  c.require_equal(c.shape(bias)[0], outputs, "bias and channels");
}

void infer_conv(InferContext& c) {
  const auto& a = c.attrs<ConvAttrs>();
  c.set(0, c.dtype(1));
  const DType dtype = check_factors(c, {2});
  if (a.group < 1) c.fail(fmt::format("group is {}, it must be at least 1", a.group));
  check_ranks(c);
  const Shape &x = c.shape(0), &w = c.shape(1);
  check_channels(c, a.group, w[1] * a.group, w[0], 2);
  Shape out{x[0], w[0]};
  const WindowRef window{a.auto_pad, {}, a.strides, a.dilations, a.pads};
  for (Dim& d : window_extents(c, spatial_of(x), spatial_of(w), window)) out.push_back(std::move(d));
  c.set(0, dtype, std::move(out));
}

void eval_conv(EvalContext& c) {
  if (is_float(c.in(0).dtype()))
    convolve<double>(c);
  else
    convolve<uint64_t>(c);
}

void infer_conv_transpose(InferContext& c) {
  const auto& a = c.attrs<ConvTransposeAttrs>();
  c.set(0, c.dtype(1));
  const DType dtype = check_factors(c, {2});
  if (a.group < 1) c.fail(fmt::format("group is {}, it must be at least 1", a.group));
  check_ranks(c);
  const Shape &x = c.shape(0), &w = c.shape(1);
  const Dim channels = w[1] * a.group;
  check_channels(c, a.group, w[0], channels, 2);
  const Fact divides{Fact::Kind::divides, a.group, w[0], "groups divide channels"};
  const Proof proof = prove(c.host.symbols(), divides);
  if (proof == Proof::no) c.fail(fmt::format("group {} does not divide {} channels", a.group, w[0].constant()));
  if (proof == Proof::unknown) c.host.require(divides);

  const size_t n = x.size() - 2;
  constexpr int64_t limit = int64_t{1} << 31;
  const auto check = [&](const char* name, const std::vector<int64_t>& values, size_t count, int64_t low) {
    if (values.empty()) return;
    if (values.size() != count) c.fail(fmt::format("{} has {} entries, it must have {}", name, values.size(), count));
    for (int64_t v : values)
      if (v < low || v > limit) c.fail(fmt::format("{} contains {}, it must be in [{}, {}]", name, v, low, limit));
  };
  check("strides", a.strides, n, 1);
  check("dilations", a.dilations, n, 1);
  check("output_padding", a.output_padding, n, 0);
  check("output_shape", a.output_shape, n, 0);
  const bool explicit_pads = a.auto_pad == AutoPad::explicit_pads && !a.pads.empty() && a.output_shape.empty();
  if (explicit_pads) check("pads", a.pads, 2 * n, -limit);
  Shape out{x[0], channels};
  for (size_t k = 0; k < n; ++k) {
    const Dim &in = x[k + 2], &kernel = w[k + 2];
    if (kernel.is_constant() && (kernel.constant() < 1 || kernel.constant() > limit))
      c.fail(fmt::format("kernel extent {} on spatial axis {}", kernel.constant(), k));
    c.require_at_least(kernel, 1, "a kernel has one element or more on each spatial axis");
    const int64_t stride = window_step(a.strides, k);
    if (!a.output_shape.empty()) {
      out.emplace_back(a.output_shape[k]);
    } else if (a.auto_pad == AutoPad::same_upper || a.auto_pad == AutoPad::same_lower) {
      out.push_back(in * stride);
    } else {
      const int64_t pads = explicit_pads ? a.pads[k] + a.pads[n + k] : 0;
      const int64_t extra = a.output_padding.empty() ? 0 : a.output_padding[k];
      Dim extent = (in - 1) * stride + (kernel - 1) * window_step(a.dilations, k) + 1 + extra - pads;
      c.require_at_least(extent, 0, "padding must not exceed the result");
      out.push_back(std::move(extent));
    }
  }
  c.set(0, dtype, std::move(out));
}

void eval_conv_transpose(EvalContext& c) {
  if (is_float(c.in(0).dtype()))
    convolve_transposed<double>(c);
  else
    convolve_transposed<uint64_t>(c);
}

Cost conv_cost(const Attrs&, std::span<const Type> inputs, std::span<const Type> outputs,
               std::span<const int64_t> symbols) {
  Cost cost;
  const auto count = [&](const Type& t) {
    return t.has_shape() ? static_cast<double>(element_count(evaluate(*t.shape, symbols))) : 0.0;
  };
  const auto bytes = [&](const Type& t) { return t.is_tensor() ? count(t) * bit_size(t.dtype) / 8 : 0.0; };
  for (const Type& t : inputs) cost.bytes += bytes(t);
  for (const Type& t : outputs) cost.bytes += bytes(t);
  // Each weight meets every position: of the result for Conv, of the operand for ConvTranspose (fewer of the two).
  if (inputs.size() > 1 && inputs[1].has_shape() && inputs[0].has_shape() && inputs[0].shape->size() > 2 &&
      outputs[0].has_shape()) {
    const Dims x = evaluate(*inputs[0].shape, symbols), y = evaluate(*outputs[0].shape, symbols);
    double positions_x = 1, positions_y = 1;
    for (size_t k = 0; k < x.size(); ++k)
      if (k != 1) positions_x *= static_cast<double>(x[k]);
    for (size_t k = 0; k < y.size(); ++k)
      if (k != 1) positions_y *= static_cast<double>(y[k]);
    cost.flops = 2 * count(inputs[1]) * std::min(positions_x, positions_y);
  }
  return cost;
}

}  // namespace sinter
