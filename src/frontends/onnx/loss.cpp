// Entries of losses.

#include <fmt/format.h>

#include "frontends/onnx/entries.h"
#include "ops/indexing.h"

namespace sinter::onnx {
namespace {

using wiring::cast;
using wiring::like;
using wiring::mul;

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

constexpr Entry table[] = {
    {"NegativeLogLikelihoodLoss", 12, import_nll},
    {"SoftmaxCrossEntropyLoss", 12, import_cross_entropy},
};

}  // namespace

std::span<const Entry> loss_entries() { return table; }

}  // namespace sinter::onnx
