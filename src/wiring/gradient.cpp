// The walk from results back to the values they are made from.

#include "wiring/gradient.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <string_view>

#include "ops/indexing.h"
#include "ops/shape.h"
#include "wiring/wiring.h"

namespace sinter::wiring {
namespace {

using Rules = std::map<std::string_view, void (*)(Flow&)>;

const Rules& rules() {
  static const Rules all = [] {
    Rules map;
    for (const auto& family : {moving_gradients(), contracting_gradients(), pointwise_gradients()})
      for (const GradientRule& rule : family) map.emplace(rule.op, rule.flow);
    return map;
  }();
  return all;
}

// Values that change steadily: floats, and what may hold them.
bool is_smooth(const Type& type) { return !type.is_tensor() || is_float(type.dtype); }

// Values that depend on xs in a way that could be differentiated.
std::vector<bool> dependents(const Graph& graph, const Ids& xs) {
  std::vector<bool> reached(graph.values.size(), false);
  for (ValueId x : xs) reached[x] = true;
  for (const Node& node : graph.nodes) {
    const bool any =
        std::any_of(node.inputs.begin(), node.inputs.end(), [&](ValueId v) { return v != no_id && reached[v]; });
    if (!any) continue;
    for (ValueId v : node.outputs) reached[v] = reached[v] || (is_smooth(graph[v].type) && !graph[v].has_contents());
  }
  return reached;
}

void flow(Flow& f) {
  const Op& op = *f.node.op;
  if (const auto found = rules().find(op.name); found != rules().end()) return found->second(f);
  if (op.pointwise) return flow_through_expression(f);
  f.refuse("has no rule for gradients", "compute this part with operators that have one, or leave it out of the path");
}

}  // namespace

void Flow::give(size_t i, ValueId cotangent) {
  if (!wants(i) || cotangent == no_id) return;
  cotangent = summed_to(b, cotangent, x(i));
  operands[i] = operands[i] == no_id ? cotangent : add(b, operands[i], cotangent);
}

void Flow::refuse(const std::string& what, const std::string& hint) const {
  std::string where;
  if (!node.sources.empty()) {
    const Source& source = b.module.sources[node.sources[0]];
    where = fmt::format(" of node '{}' ({})", source.name, source.op_type);
  }
  throw Error(Code::unsupported, fmt::format("core operator {}{} {}", node.op->name, where, what)).with_hint(hint);
}

ValueId shaped_like(GraphBuilder& b, ValueId v, ValueId x) {
  if (b.type(v).has_shape() && b.type(v) == b.type(x)) return v;
  return b.op("Reshape", ReshapeAttrs{.allow_zero = true}, {v, shape_of(b, x)});
}

ValueId zeros_like(GraphBuilder& b, ValueId x) { return fill(b, like(b, x, 0), shape_of(b, x)); }

ValueId gathered_back(GraphBuilder& b, ValueId g, ValueId at, ValueId slots) {
  const auto flat = [&](ValueId v) { return b.op("Reshape", {v, b.integers({-1})}); };
  const ValueId zeros = fill(b, like(b, g, 0), unsqueeze(b, slots, {0}));
  return b.op("ScatterElements", ScatterElementsAttrs{.axis = 0, .reduction = Reduction::add},
              {zeros, flat(at), flat(g)});
}

ValueId summed_to(GraphBuilder& b, ValueId g, ValueId x) {
  if (b.type(g) == b.type(x) && b.type(x).has_shape()) return g;
  const Shape wide = b.shape(g), narrow = b.shape(x);
  if (wide.size() < narrow.size()) throw Error(Code::internal, "a cotangent of lower rank than its value");
  const size_t lead = wide.size() - narrow.size();
  std::vector<int64_t> surely = axis_range(0, lead), perhaps;
  for (size_t k = 0; k < narrow.size(); ++k) {
    const Dim& from = wide[lead + k];
    if (from == narrow[k]) continue;
    (narrow[k] == Dim(1) ? surely : perhaps).push_back(static_cast<int64_t>(k + (narrow[k] == Dim(1) ? lead : 0)));
  }
  if (!surely.empty()) g = reduce(b, "Sum", g, surely, true);
  if (lead > 0) g = squeeze(b, g, axis_range(0, lead));
  if (perhaps.empty()) return g;
  // An extent e over an operand's d, which is e or 1: as [d, e / d], summed over the second part.
  Ids extents;
  std::vector<int64_t> parts;
  for (size_t k = 0; k < narrow.size(); ++k) {
    const auto at = static_cast<int64_t>(k);
    const ShapeAttrs one{.start = at, .end = at + 1};
    const ValueId e = b.op("Shape", one, {g});
    if (std::find(perhaps.begin(), perhaps.end(), at) == perhaps.end()) {
      extents.push_back(e);
      continue;
    }
    const ValueId d = b.op("Shape", one, {x});
    extents.push_back(d);
    parts.push_back(static_cast<int64_t>(extents.size()));
    extents.push_back(div(b, e, b.op("Max", {d, b.scalar(DType::i64, 1)})));
  }
  g = b.op("Reshape", ReshapeAttrs{.allow_zero = true}, {g, concat(b, std::move(extents), 0)});
  return reduce(b, "Sum", g, std::move(parts), false);
}

Ids gradients(GraphBuilder& b, const Ids& ys, const Ids& seeds, const Ids& xs) {
  for (ValueId v : xs)
    if (!b.type(v).is_tensor() || !is_float(b.type(v).dtype))
      throw Error(Code::model_invalid,
                  fmt::format("there is no gradient with respect to a value of type {}, only to floats",
                              to_text(b.type(v), b.module.symbols)));
  const std::vector<bool> reached = dependents(b.graph, xs);
  std::vector<ValueId> cotangent(b.graph.values.size(), no_id);
  const auto accumulate = [&](ValueId v, ValueId g) {
    cotangent[v] = cotangent[v] == no_id ? g : add(b, cotangent[v], g);
  };
  for (size_t i = 0; i < ys.size(); ++i)
    if (seeds[i] != no_id && reached[ys[i]]) accumulate(ys[i], seeds[i]);
  for (size_t n = b.graph.nodes.size(); n-- > 0;) {
    const auto has_cotangent = [&](ValueId v) { return cotangent[v] != no_id; };
    const auto is_wanted = [&](ValueId v) { return v != no_id && reached[v]; };
    {
      const Node& at = b.graph.nodes[n];
      if (std::none_of(at.outputs.begin(), at.outputs.end(), has_cotangent)) continue;
      if (std::none_of(at.inputs.begin(), at.inputs.end(), is_wanted)) continue;
    }
    const Node node = b.graph.nodes[n];  // a copy: rules append nodes
    Flow f{b, node, {}, {}, Ids(node.inputs.size(), no_id)};
    for (ValueId v : node.outputs) f.results.push_back(cotangent[v]);
    for (ValueId v : node.inputs) f.wanted.push_back(is_wanted(v));
    for (ValueId v : node.outputs)
      if (!b.type(v).is_tensor()) f.refuse("gives no tensor", "gradients flow through tensors alone");
    flow(f);
    for (size_t i = 0; i < node.inputs.size(); ++i)
      if (f.operands[i] != no_id) accumulate(node.inputs[i], f.operands[i]);
  }
  Ids results;
  for (ValueId x : xs) results.push_back(cotangent[x] == no_id ? zeros_like(b, x) : shaped_like(b, cotangent[x], x));
  return results;
}

Ids gradients(GraphBuilder& b, ValueId y, const Ids& xs) {
  if (!b.type(y).is_tensor() || !is_float(b.type(y).dtype))
    throw Error(Code::model_invalid, fmt::format("a value of type {} has no gradient, only floats have",
                                                 to_text(b.type(y), b.module.symbols)));
  return gradients(b, {y}, {fill(b, like(b, y, 1), shape_of(b, y))}, xs);
}

}  // namespace sinter::wiring
