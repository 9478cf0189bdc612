// Entries of the training domain: gradients and optimizers.

#include <fmt/format.h>

#include <set>

#include "frontends/onnx/entries.h"
#include "ops/generation.h"
#include "wiring/gradient.h"

namespace sinter::onnx {
namespace {

using wiring::add;
using wiring::cast;
using wiring::like;
using wiring::mul;
using wiring::sub;

// ---- Gradient ----

// A part of the model that is computed once more would draw other numbers than it did the first time.
void refuse_draws(NodeContext& c, const sinter::Graph& graph) {
  for (const sinter::Node& node : graph.nodes) {
    for (const sinter::Graph& body : node.bodies) refuse_draws(c, body);
    if (!draws_anew(*node.op, node.attrs)) continue;
    std::string name;
    if (!node.sources.empty()) name = c.b.module.sources[node.sources[0]].name;
    throw Error(Code::unsupported, fmt::format("node '{}' on its path draws random numbers without a seed", name))
        .with_hint("give that node a 'seed', so that the gradient belongs to the numbers that were drawn");
  }
}

// The part of the model from xs and zs to y becomes a graph of its own, at the values that are this node's operands;
// what it shares with the model's own computation simplify computes once.
void import_gradient(NodeContext& c) {
  const std::vector<std::string> xs = c.strings("xs"), zs = c.strings("zs");
  if (xs.empty()) c.fail("attribute 'xs' names no values");
  if (!c.has_attr("y")) c.fail("attribute 'y' is missing");
  const size_t count = xs.size() + zs.size();
  if (c.inputs() != count) c.fail(fmt::format("{} inputs, 'xs' and 'zs' name {} values", c.inputs(), count));
  std::set<std::string> names(xs.begin(), xs.end());
  names.insert(zs.begin(), zs.end());
  if (names.size() != count) c.fail("'xs' and 'zs' name a value twice");
  if (c.outputs() > xs.size()) c.fail(fmt::format("{} outputs, 'xs' names {} values", c.outputs(), xs.size()));
  std::vector<Type> types;
  for (size_t i = 0; i < count; ++i) types.push_back(c.b.type(c.in(i)));
  Ids arguments = c.all(), captures;
  sinter::Graph path = c.path({"xs", "zs"}, "y", types, captures);
  refuse_draws(c, path);
  GraphBuilder inner(c.b.module, path);
  const Ids variables(path.inputs.begin(), path.inputs.begin() + static_cast<int64_t>(xs.size()));
  path.outputs = wiring::gradients(inner, path.outputs[0], variables);
  arguments.insert(arguments.end(), captures.begin(), captures.end());
  Ids results = wiring::inlined(c.b, path, arguments);
  results.resize(c.outputs());
  c.out(std::move(results));
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

constexpr Entry table[] = {
    {"Adagrad", 1, import_adagrad, training_domain},
    {"Adam", 1, import_adam, training_domain},
    {"Gradient", 1, import_gradient, training_domain},
    {"Momentum", 1, import_momentum, training_domain},
};

}  // namespace

std::span<const Entry> training_entries() { return table; }

}  // namespace sinter::onnx
