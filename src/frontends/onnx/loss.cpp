// Entries of losses and of the training domain.

#include <fmt/format.h>

#include "frontends/onnx/entries.h"
#include "ops/indexing.h"

namespace sinter::onnx {
namespace {

using wiring::add;
using wiring::cast;
using wiring::like;
using wiring::mul;
using wiring::sub;

// log_prob [N, C, ...] and classes [N, ...] to the loss; ignored classes weigh nothing.
ValueId picked_loss(NodeContext& c, ValueId log_prob, ValueId classes, ValueId weight) {
  GraphBuilder& b = c.b;
  const std::string reduction = c.string("reduction", "mean");
  if (reduction != "none" && reduction != "mean" && reduction != "sum")
    c.fail(fmt::format("reduction '{}' is none of none, mean, sum", reduction));
  ValueId target = cast(b, classes, DType::i64), ignored = no_id;
  if (c.has_attr("ignore_index")) {
    const ValueId index = b.constant(Tensor::scalar_i64(c.integer("ignore_index", 0)));
    ignored = b.op("Equal", {target, index});
    target = wiring::where(b, ignored, b.scalar(DType::i64, 0), target);
  }
  const ValueId at = wiring::unsqueeze(b, target, {1});
  ValueId loss = b.op("Neg", {wiring::squeeze(b, b.op("GatherElements", GatherAttrs{.axis = 1}, {log_prob, at}), {1})});
  ValueId weights = no_id;
  if (weight != no_id) weights = wiring::gather(b, cast(b, weight, b.dtype(loss)), target, 0);
  if (ignored != no_id) {
    const ValueId otherwise = weights != no_id ? weights : like(b, loss, 1);
    weights = wiring::where(b, ignored, like(b, loss, 0), otherwise);
    // What is ignored gives 0 even where the logarithm is infinite.
    loss = wiring::where(b, ignored, like(b, loss, 0), loss);
  }
  if (weights != no_id) loss = mul(b, loss, weights);
  if (reduction == "none") return loss;
  const auto all = wiring::axis_range(0, b.rank(loss));
  if (reduction == "sum") return wiring::reduce(b, "Sum", loss, all, false);
  if (weights == no_id) return wiring::reduce(b, "Mean", loss, all, false);
  return wiring::div(b, wiring::reduce(b, "Sum", loss, all, false), wiring::reduce(b, "Sum", weights, all, false));
}

void import_nll(NodeContext& c) {
  rank_of(c, 0, 2);
  const ValueId x = wiring::widened(c.b, c.in(0));
  c.out(0, cast(c.b, picked_loss(c, x, c.in(1), c.maybe(2)), c.b.dtype(c.in(0))));
}

void import_cross_entropy(NodeContext& c) {
  rank_of(c, 0, 2);
  const DType dtype = c.b.dtype(c.in(0));
  const ValueId log_prob = wiring::log_softmax(c.b, wiring::widened(c.b, c.in(0)), 1);
  c.out(0, cast(c.b, picked_loss(c, log_prob, c.in(1), c.maybe(2)), dtype));
  if (c.wants(1)) c.out(1, cast(c.b, log_prob, dtype));
}

// ---- optimizers: rate, step count, then `groups` groups of tensors, the first being what is optimized ----

struct Step {
  ValueId rate, count;  // count in the rate's dtype
};

// Calls `update` for each tensor with its companions; it gives the new values of what has results.
template <typename Update>
void optimize(NodeContext& c, size_t groups, size_t results, Update update) {
  if (c.inputs() < 2 + groups || (c.inputs() - 2) % groups != 0)
    c.fail(fmt::format("{} operands, they must be 2 and {} for each tensor", c.inputs(), groups));
  const size_t n = (c.inputs() - 2) / groups;
  for (size_t i = 0; i < n; ++i) {
    Ids operands;
    for (size_t g = 0; g < groups; ++g) operands.push_back(c.in(2 + g * n + i));
    const DType dtype = c.b.dtype(operands[0]);
    const Step step{cast(c.b, wiring::scalar_of(c.b, c.in(0)), dtype),
                    cast(c.b, wiring::scalar_of(c.b, c.in(1)), dtype)};
    const Ids values = update(step, operands);
    for (size_t r = 0; r < results; ++r)
      if (c.wants(r * n + i)) c.out(r * n + i, values[r]);
  }
}

// gradient + norm_coefficient * x
ValueId regularized(NodeContext& c, ValueId x, ValueId gradient) {
  const double norm = c.real("norm_coefficient", 0);
  return norm == 0 ? gradient : add(c.b, mul(c.b, x, like(c.b, x, norm)), gradient);
}

void import_adagrad(NodeContext& c) {
  GraphBuilder& b = c.b;
  optimize(c, 3, 2, [&](const Step& step, const Ids& v) -> Ids {
    const ValueId x = v[0], g = regularized(c, x, v[1]);
    const ValueId decay = mul(b, step.count, like(b, x, c.real("decay_factor", 0)));
    const ValueId rate = wiring::div(b, step.rate, add(b, decay, like(b, x, 1)));
    const ValueId squares = add(b, v[2], mul(b, g, g));
    const ValueId adaptive = add(b, b.op("Sqrt", {squares}), like(b, x, c.real("epsilon", 1e-6)));
    return {sub(b, x, wiring::div(b, mul(b, rate, g), adaptive)), squares};
  });
}

void import_adam(NodeContext& c) {
  GraphBuilder& b = c.b;
  const double alpha = c.real("alpha", 0.9), beta = c.real("beta", 0.999), after = c.real("norm_coefficient_post", 0);
  optimize(c, 4, 3, [&](const Step& step, const Ids& v) -> Ids {
    const ValueId x = v[0], g = regularized(c, x, v[1]), one = like(b, x, 1);
    const auto average = [&](ValueId old, ValueId now, double keep) {
      return add(b, mul(b, old, like(b, x, keep)), mul(b, now, like(b, x, 1 - keep)));
    };
    const ValueId first = average(v[2], g, alpha), second = average(v[3], mul(b, g, g), beta);
    const ValueId deviation = add(b, b.op("Sqrt", {second}), like(b, x, c.real("epsilon", 1e-6)));
    // Both averages start at 0; the rate makes up for that from the first step on.
    const auto bias = [&](double keep) { return sub(b, one, b.op("Pow", {like(b, x, keep), step.count})); };
    const ValueId corrected = wiring::div(b, mul(b, step.rate, b.op("Sqrt", {bias(beta)})), bias(alpha));
    const ValueId rate = wiring::where(b, b.op("Less", {like(b, x, 0), step.count}), corrected, step.rate);
    const ValueId moved = sub(b, x, mul(b, rate, wiring::div(b, first, deviation)));
    return {after == 0 ? moved : mul(b, moved, like(b, x, 1 - after)), first, second};
  });
}

void import_momentum(NodeContext& c) {
  GraphBuilder& b = c.b;
  const std::string mode = c.string("mode", "standard");
  if (mode != "standard" && mode != "nesterov") c.fail(fmt::format("mode '{}' is neither standard nor nesterov", mode));
  optimize(c, 3, 2, [&](const Step& step, const Ids& v) -> Ids {
    const ValueId x = v[0], g = regularized(c, x, v[1]), alpha = like(b, x, c.real("alpha", 0));
    const ValueId later = b.op("Less", {like(b, x, 0), step.count});
    const ValueId beta = wiring::where(b, later, like(b, x, c.real("beta", 1)), like(b, x, 1));
    const ValueId velocity = add(b, mul(b, alpha, v[2]), mul(b, beta, g));
    const ValueId direction = mode == "standard" ? velocity : add(b, g, mul(b, alpha, velocity));
    return {sub(b, x, mul(b, step.rate, direction)), velocity};
  });
}

constexpr const char* training = "ai.onnx.preview.training";

constexpr Entry table[] = {
    {"NegativeLogLikelihoodLoss", 12, import_nll}, {"SoftmaxCrossEntropyLoss", 12, import_cross_entropy},
    {"Adagrad", 1, import_adagrad, training},      {"Adam", 1, import_adam, training},
    {"Momentum", 1, import_momentum, training},
};

}  // namespace

std::span<const Entry> loss_entries() { return table; }

}  // namespace sinter::onnx
