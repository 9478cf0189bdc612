// Activations and normalisations.

#include <fmt/core.h>

#include "base/checked.h"
#include "ops/reduction.h"
#include "wiring/wiring.h"

namespace sinter::wiring {

namespace {

// 1 / sqrt(variance + epsilon)
ValueId inverse_deviation(GraphBuilder& b, ValueId variance, double epsilon) {
  return b.op("Reciprocal", {b.op("Sqrt", {add(b, variance, like(b, variance, epsilon))})});
}

ValueId scaled(GraphBuilder& b, ValueId y, ValueId scale, ValueId bias) {
  if (scale != no_id) y = mul(b, y, cast(b, scale, b.dtype(y)));
  if (bias != no_id) y = add(b, y, cast(b, bias, b.dtype(y)));
  return y;
}

void need_vector(GraphBuilder& b, ValueId x) {
  if (b.rank(x) != 1)
    throw Error(Code::model_invalid, fmt::format("a value per channel has rank {}, it must have rank 1", b.rank(x)));
}

// Per-channel [C] against [N, C, ...] of this rank.
ValueId per_channel(GraphBuilder& b, ValueId x, size_t rank) {
  if (x == no_id) return x;
  need_vector(b, x);
  std::vector<int64_t> axes;
  for (size_t k = 2; k < rank; ++k) axes.push_back(static_cast<int64_t>(k) - 1);
  return unsqueeze(b, x, std::move(axes));
}

void need_rank(GraphBuilder& b, ValueId x, size_t low) {
  if (b.rank(x) < low)
    throw Error(Code::model_invalid, fmt::format("the operand has rank {}, it must be at least {}", b.rank(x), low));
}

// Not negative where the rank is known.
int64_t resolved(GraphBuilder& b, ValueId x, int64_t axis) {
  return b.type(x).has_shape() ? axis_of(axis, b.rank(x)) : axis;
}

// Axes [axis, rank); a negative axis needs no rank.
std::vector<int64_t> trailing(GraphBuilder& b, ValueId x, int64_t axis) {
  if (b.type(x).has_shape() || axis >= 0) {
    const size_t rank = b.rank(x);
    return axis_range(static_cast<size_t>(axis_of(axis, rank)), rank);
  }
  if (axis < -static_cast<int64_t>(max_rank_of_values))
    throw Error(Code::model_invalid, fmt::format("axis {} is outside of every shape", axis));
  std::vector<int64_t> out;
  for (int64_t k = axis; k < 0; ++k) out.push_back(k);
  return out;
}

}  // namespace

ValueId gelu(GraphBuilder& b, ValueId x, bool tanh_form) { return b.op(tanh_form ? "GeluTanh" : "Gelu", {x}); }

ValueId softmax(GraphBuilder& b, ValueId x, std::vector<int64_t> axes) {
  const DType dtype = b.dtype(x);
  const ValueId wide = widened(b, x);
  const ValueId e = b.op("Exp", {sub(b, wide, reduce(b, "Max", wide, axes))});
  return cast(b, div(b, e, reduce(b, "Sum", e, axes)), dtype);
}

ValueId softmax(GraphBuilder& b, ValueId x, int64_t axis) {
  return softmax(b, x, std::vector<int64_t>{resolved(b, x, axis)});
}

ValueId log_softmax(GraphBuilder& b, ValueId x, std::vector<int64_t> axes) {
  const DType dtype = b.dtype(x);
  const ValueId wide = widened(b, x);
  const ValueId s = sub(b, wide, reduce(b, "Max", wide, axes));
  return cast(b, sub(b, s, b.op("Log", {reduce(b, "Sum", b.op("Exp", {s}), axes)})), dtype);
}

ValueId log_softmax(GraphBuilder& b, ValueId x, int64_t axis) {
  return log_softmax(b, x, std::vector<int64_t>{resolved(b, x, axis)});
}

ValueId log_sum_exp(GraphBuilder& b, ValueId x, ValueId axes, bool keep_dims, bool keep_without_axes) {
  const DType dtype = b.dtype(x);
  const ValueId wide = is_float(dtype) ? widened(b, x) : cast(b, x, DType::f64);
  const auto reduced = [&](const char* op, ValueId v, bool keep) {
    return b.op(op, ReduceAttrs{.keep_dims = keep, .keep_without_axes = keep_without_axes}, {v, axes});
  };
  // Infinite maxima are not subtracted: their difference with themselves has no value.
  const auto finite = [&](ValueId m) {
    const ValueId zero = like(b, m, 0);
    return where(b, b.op("IsInf", {m}), zero, m);
  };
  const ValueId high = finite(reduced("ReduceMax", wide, true));
  const ValueId sum = reduced("ReduceSum", b.op("Exp", {sub(b, wide, high)}), keep_dims);
  const ValueId high_out = keep_dims ? high : finite(reduced("ReduceMax", wide, false));
  return cast(b, add(b, b.op("Log", {sum}), high_out), dtype);
}

Moments moments(GraphBuilder& b, ValueId x, std::vector<int64_t> axes) {
  const ValueId mean = reduce(b, "Mean", x, axes);
  const ValueId centered = sub(b, x, mean);
  return {mean, reduce(b, "Mean", mul(b, centered, centered), axes), centered};
}

Normalized layer_norm(GraphBuilder& b, ValueId x, ValueId scale, ValueId bias, int64_t axis, double epsilon) {
  const DType dtype = b.dtype(x);
  const auto axes = trailing(b, x, axis);
  const Moments m = moments(b, widened(b, x), axes);
  const ValueId inverse = inverse_deviation(b, m.variance, epsilon);
  const ValueId y = scaled(b, mul(b, m.centered, inverse), scale, bias);
  return {cast(b, y, dtype), m.mean, inverse};
}

ValueId rms_norm(GraphBuilder& b, ValueId x, ValueId scale, int64_t axis, double epsilon) {
  const DType dtype = b.dtype(x);
  const auto axes = trailing(b, x, axis);
  const ValueId wide = widened(b, x);
  const ValueId inverse = inverse_deviation(b, reduce(b, "Mean", mul(b, wide, wide), axes), epsilon);
  return cast(b, scaled(b, mul(b, wide, inverse), scale, no_id), dtype);
}

ValueId instance_norm(GraphBuilder& b, ValueId x, ValueId scale, ValueId bias, double epsilon) {
  need_rank(b, x, 2);
  const DType dtype = b.dtype(x);
  const size_t rank = b.rank(x);
  const Moments m = moments(b, widened(b, x), axis_range(2, rank));
  const ValueId y = mul(b, m.centered, inverse_deviation(b, m.variance, epsilon));
  return cast(b, scaled(b, y, per_channel(b, scale, rank), per_channel(b, bias, rank)), dtype);
}

ValueId group_norm(GraphBuilder& b, ValueId x, ValueId scale, ValueId bias, int64_t groups, double epsilon,
                   bool per_group_scale) {
  need_rank(b, x, 2);
  const DType dtype = b.dtype(x);
  const Shape shape = b.shape(x);
  if (groups < 1) throw Error(Code::model_invalid, fmt::format("{} groups, there must be at least 1", groups));
  if (shape[1].is_constant() && shape[1].constant() % groups != 0)
    throw Error(Code::model_invalid,
                fmt::format("{} channels are no multiple of {} groups", shape[1].constant(), groups));
  Dim inner = floordiv(shape[1], groups);
  for (size_t k = 2; k < shape.size(); ++k) inner = inner * shape[k];
  const ValueId grouped = reshape(b, widened(b, x), {shape[0], groups, inner});
  const Moments m = moments(b, grouped, {2});
  ValueId y = mul(b, m.centered, inverse_deviation(b, m.variance, epsilon));
  if (per_group_scale) y = scaled(b, y, per_channel(b, scale, 3), per_channel(b, bias, 3));
  y = reshape(b, y, shape);
  if (!per_group_scale) y = scaled(b, y, per_channel(b, scale, shape.size()), per_channel(b, bias, shape.size()));
  return cast(b, y, dtype);
}

ValueId batch_norm(GraphBuilder& b, ValueId x, ValueId scale, ValueId bias, ValueId mean, ValueId variance,
                   double epsilon) {
  need_rank(b, x, 1);
  for (const ValueId v : {scale, bias, mean, variance}) need_vector(b, v);
  const DType dtype = b.dtype(x);
  const ValueId wide = widened(b, x);
  const DType work = b.dtype(wide);
  // x * a + c with a and c per channel, so that constant statistics leave two operations.
  const ValueId a = mul(b, cast(b, scale, work), inverse_deviation(b, cast(b, variance, work), epsilon));
  const ValueId c = sub(b, cast(b, bias, work), mul(b, cast(b, mean, work), a));
  const size_t rank = b.rank(x);
  return cast(b, add(b, mul(b, wide, per_channel(b, a, rank)), per_channel(b, c, rank)), dtype);
}

}  // namespace sinter::wiring
