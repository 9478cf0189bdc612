// Entries of normalisations and of the softmax family.

#include <fmt/core.h>

#include "base/checked.h"
#include "frontends/onnx/entries.h"
#include "ops/indexing.h"
#include "ops/selection.h"
#include "ops/shape.h"
#include "ops/signal.h"

namespace sinter::onnx {
namespace {

using wiring::cast;
using wiring::like;

// Before opset 13 everything from `axis` on is one row.
std::vector<int64_t> softmax_axes(NodeContext& c) {
  if (c.opset >= 13 && !c.b.type(c.in(0)).has_shape()) return {c.integer("axis", -1)};
  const size_t rank = rank_of(c, 0);
  if (rank == 0) return {};
  const int64_t axis = axis_of(c, c.integer("axis", c.opset < 13 ? 1 : -1), c.opset < 13 && rank == 1 ? 2 : rank);
  if (c.opset >= 13) return {axis};
  return wiring::axis_range(static_cast<size_t>(axis), rank);
}

void import_softmax(NodeContext& c) { c.out(0, wiring::softmax(c.b, c.in(0), softmax_axes(c))); }

void import_log_softmax(NodeContext& c) { c.out(0, wiring::log_softmax(c.b, c.in(0), softmax_axes(c))); }

ValueId hardmax(NodeContext& c, ValueId x, int64_t axis) {
  GraphBuilder& b = c.b;
  const ValueId highest = b.op("ArgMax", ArgAttrs{.axis = axis, .keep_dims = false}, {x});
  Tensor values(b.dtype(x), {2});
  values.set_real(1, 1);
  const ValueId depth = b.dims({b.shape(x)[static_cast<size_t>(axis)]});
  return b.op("OneHot", OneHotAttrs{.axis = axis}, {highest, depth, b.constant(std::move(values))});
}

void import_hardmax(NodeContext& c) {
  const size_t rank = rank_of(c, 0, 1);
  const auto axes = softmax_axes(c);
  if (axes.size() == 1) return c.out(0, hardmax(c, c.in(0), axes[0]));
  const auto first = axes.empty() ? static_cast<int64_t>(rank) : axes[0];
  const ValueId rows = c.b.op("Flatten", FlattenAttrs{.axis = first}, {c.in(0)});
  c.out(0, wiring::reshape(c.b, hardmax(c, rows, 1), c.b.shape(c.in(0))));
}

// 1 / sqrt(variance + epsilon) * (x - mean) * scale + bias with everything in the shape of x but for ones.
ValueId normalized(GraphBuilder& b, ValueId x, ValueId mean, ValueId variance, ValueId scale, ValueId bias,
                   double epsilon) {
  const ValueId inverse = b.op("Reciprocal", {b.op("Sqrt", {wiring::add(b, variance, like(b, variance, epsilon))})});
  const ValueId a = wiring::mul(b, scale, inverse);
  return wiring::add(b, wiring::mul(b, x, a), wiring::sub(b, bias, wiring::mul(b, mean, a)));
}

void batch_norm(NodeContext& c, bool training, bool spatial) {
  GraphBuilder& b = c.b;
  const double epsilon = c.real("epsilon", 1e-5), momentum = c.real("momentum", 0.9);
  if (!training && spatial)
    return c.out(0, wiring::batch_norm(b, c.in(0), c.in(1), c.in(2), c.in(3), c.in(4), epsilon));
  const size_t rank = rank_of(c, 0, 2);
  const ValueId x = wiring::widened(b, c.in(0));
  const DType work = b.dtype(x);
  const auto operand = [&](size_t i) {
    const ValueId v = cast(b, c.in(i), work);
    if (!spatial) return wiring::unsqueeze(b, v, {0});
    return wiring::unsqueeze(b, v, wiring::axis_range(1, rank - 1));
  };
  ValueId mean, variance;
  if (training) {
    std::vector<int64_t> axes = {0};
    if (spatial)
      for (size_t k = 2; k < rank; ++k) axes.push_back(static_cast<int64_t>(k));
    const wiring::Moments m = wiring::moments(b, x, axes);
    mean = m.mean;
    variance = m.variance;
  } else {
    mean = operand(3);
    variance = operand(4);
  }
  c.out(0, cast(b, normalized(b, x, mean, variance, operand(1), operand(2), epsilon), b.dtype(c.in(0))));
  if (!training) return;
  const auto as_operand = [&](ValueId v, size_t i) {
    return cast(b, wiring::reshape(b, v, b.shape(c.in(i))), b.dtype(c.in(i)));
  };
  const auto running = [&](ValueId now, size_t i) {
    const ValueId flat = wiring::reshape(b, now, b.shape(c.in(i))), old = cast(b, c.in(i), work);
    return cast(
        b,
        wiring::add(b, wiring::mul(b, old, like(b, old, momentum)), wiring::mul(b, flat, like(b, flat, 1 - momentum))),
        b.dtype(c.in(i)));
  };
  if (c.wants(1)) c.out(1, running(mean, 3));
  if (c.wants(2)) c.out(2, running(variance, 4));
  if (c.wants(3)) c.out(3, as_operand(mean, 3));
  if (c.wants(4)) c.out(4, as_operand(variance, 4));
}

// Before opset 14 the results in the model say whether it is training.
void import_batch_norm_1(NodeContext& c) {
  const bool training = c.wants(1) || c.wants(2) || c.wants(3) || c.wants(4);
  batch_norm(c, training && c.integer("is_test", 0) == 0, c.opset >= 9 || c.integer("spatial", 1) != 0);
}

void import_batch_norm(NodeContext& c) { batch_norm(c, c.integer("training_mode", 0) != 0, true); }

void import_instance_norm(NodeContext& c) {
  c.out(0, wiring::instance_norm(c.b, c.in(0), c.in(1), c.in(2), c.real("epsilon", 1e-5)));
}

void import_layer_norm(NodeContext& c) {
  const auto n = wiring::layer_norm(c.b, c.in(0), c.in(1), c.maybe(2), c.integer("axis", -1), c.real("epsilon", 1e-5));
  c.out(0, n.y);
  const DType stash = c.dtype("stash_type", DType::f32);
  if (c.wants(1)) c.out(1, cast(c.b, n.mean, stash));
  if (c.wants(2)) c.out(2, cast(c.b, n.inverse, stash));
}

void import_rms_norm(NodeContext& c) {
  c.out(0, wiring::rms_norm(c.b, c.in(0), c.in(1), c.integer("axis", -1), c.real("epsilon", 1e-5)));
}

void import_group_norm(NodeContext& c) {
  if (!c.has_attr("num_groups")) c.fail("attribute 'num_groups' is missing");
  c.out(0, wiring::group_norm(c.b, c.in(0), c.in(1), c.in(2), c.integer("num_groups", 1), c.real("epsilon", 1e-5),
                              c.opset < 21));
}

void import_lp_norm(NodeContext& c) {
  GraphBuilder& b = c.b;
  const int64_t axis = axis_of(c, c.integer("axis", -1), rank_of(c, 0, 1)), p = c.integer("p", 2);
  if (p != 1 && p != 2) c.fail(fmt::format("p is {}, it must be 1 or 2", p));
  const ValueId x = wiring::widened(b, c.in(0));
  const ValueId norm = p == 1 ? wiring::reduce(b, "Sum", b.op("Abs", {x}), {axis})
                              : b.op("Sqrt", {wiring::reduce(b, "Sum", wiring::mul(b, x, x), {axis})});
  // A row of zeros stays one.
  const ValueId divisor = wiring::where(b, b.op("Equal", {norm, like(b, norm, 0)}), like(b, norm, 1), norm);
  c.out(0, cast(b, wiring::div(b, x, divisor), b.dtype(c.in(0))));
}

void import_mean_variance(NodeContext& c) {
  GraphBuilder& b = c.b;
  auto axes = c.integers("axes");
  const size_t rank = rank_of(c, 0);
  if (!c.has_attr("axes")) axes = {0, 2, 3};
  for (int64_t& a : axes) a = axis_of(c, a, rank);
  const wiring::Moments m = wiring::moments(b, wiring::widened(b, c.in(0)), axes);
  const ValueId deviation = b.op("Sqrt", {m.variance});
  c.out(0, cast(b, wiring::div(b, m.centered, wiring::add(b, deviation, like(b, deviation, 1e-9))), b.dtype(c.in(0))));
}

void import_lrn(NodeContext& c) {
  if (!c.has_attr("size")) c.fail("attribute 'size' is missing");
  const LRNAttrs a{.alpha = c.real("alpha", 1e-4),
                   .beta = c.real("beta", 0.75),
                   .bias = c.real("bias", 1),
                   .size = c.integer("size", 1)};
  c.out(0, c.b.op("LRN", a, {c.in(0)}));
}

// com.microsoft: layer norm of a sum. Results 1 and 2 (mean, inverse deviation) are for training.
void skip_norm(NodeContext& c, bool rms) {
  GraphBuilder& b = c.b;
  const size_t bias = rms ? 3 : 4;
  ValueId sum = wiring::add(b, c.in(0), c.in(1));
  if (c.has(bias)) sum = wiring::add(b, sum, c.in(bias));
  const double epsilon = c.real("epsilon", 1e-12);
  if (rms) {
    c.out(0, wiring::rms_norm(b, sum, c.in(2), -1, epsilon));
    if (c.wants(1) || c.wants(2)) c.unsupported("results for training are not supported");
  } else {
    const auto n = wiring::layer_norm(b, sum, c.in(2), c.maybe(3), -1, epsilon);
    c.out(0, n.y);
    if (c.wants(1)) c.out(1, n.mean);
    if (c.wants(2)) c.out(2, n.inverse);
  }
  if (c.wants(3)) c.out(3, sum);
}

constexpr const char* microsoft = "com.microsoft";

constexpr Entry table[] = {
    {"BatchNormalization", 1, import_batch_norm_1},
    {"BatchNormalization", 14, import_batch_norm},
    {"GroupNormalization", 18, import_group_norm},
    {"Hardmax", 1, import_hardmax},
    {"InstanceNormalization", 1, import_instance_norm},
    {"LRN", 1, import_lrn},
    // ONNX has it from 17 on; ONNX Runtime writes it into older models.
    {"LayerNormalization", 1, import_layer_norm},
    {"LogSoftmax", 1, import_log_softmax},
    {"LpNormalization", 1, import_lp_norm},
    {"MeanVarianceNormalization", 9, import_mean_variance},
    {"RMSNormalization", 23, import_rms_norm},
    {"Softmax", 1, import_softmax},
    {"SimplifiedLayerNormalization", 1, import_rms_norm},
    {"SkipLayerNormalization", 1, [](NodeContext& c) { skip_norm(c, false); }, microsoft},
    {"SkipSimplifiedLayerNormalization", 1, [](NodeContext& c) { skip_norm(c, true); }, microsoft},
};

}  // namespace

std::span<const Entry> normalization_entries() { return table; }

}  // namespace sinter::onnx
