// merge projections: products of one operand with constant matrices that one attention reads, directly or through
// rotary embeddings, norms of heads and caches, become one product with the matrices side by side. Attentions and
// pointwise and row programs read its parts in place, so cutting them costs nothing, and the operand is read and
// prepared once. Transposes of leading axes before such products and behind the product of the attention's result move
// to the attention's side, where they cost nothing either.

#include <algorithm>
#include <map>
#include <set>

#include "ops/contraction.h"
#include "ops/movement.h"
#include "ops/views.h"
#include "passes/attention.h"
#include "passes/rules.h"

namespace sinter {
namespace {

constexpr Rule merge_rule = {"projections side by side"};
constexpr Rule behind_rule = {"Transpose behind projection"};
constexpr Rule before_rule = {"Transpose before projection"};

// The order of a Transpose that leaves the last axis where it is; empty for others.
std::vector<int64_t> leading_order(const Site& site, NodeId n) {
  const Type& type = site.type(site.out(n));
  if (!type.has_shape()) return {};
  const auto rank = static_cast<int64_t>(type.shape->size());
  std::vector<int64_t> perm = site.graph.nodes[n].attrs.as<TransposeAttrs>().perm;
  for (int64_t& p : perm) p = p < 0 ? p + rank : p;
  if (static_cast<int64_t>(perm.size()) != rank || rank < 2 || perm.back() != rank - 1) return {};
  return perm;
}

// x @ w + bias, of x with its leading axes in another order, with constants w [K, N] (or [N, K]) and bias [N].
struct Projection {
  ValueId y = no_id, x = no_id, w = no_id, bias = no_id;
  std::vector<int64_t> order;
  NodeId product = 0;
  bool transposed = false;
  Numerics numerics = Numerics::strict;
  int64_t columns = 0;

  bool joins(const Projection& o) const {
    return x == o.x && order == o.order && transposed == o.transposed && numerics == o.numerics &&
           (bias == no_id) == (o.bias == no_id) && w != o.w;
  }
};

std::optional<Projection> projection(const Site& site, ValueId y) {
  Projection p;
  p.y = y;
  auto product = site.def(y, "MatMul");
  if (const auto add = site.def(y, "Add"); add && !product) {
    for (size_t k = 0; k < 2 && !product; ++k) {
      product = site.def(site.in(*add, k), "MatMul");
      p.bias = site.in(*add, 1 - k);
      if (product && !site.single_use(site.in(*add, k))) return std::nullopt;
    }
  }
  if (!product) return std::nullopt;
  p.product = *product;
  p.x = site.in(*product, 0);
  p.w = site.in(*product, 1);
  const auto& attrs = site.graph.nodes[*product].attrs.as<MatMulAttrs>();
  p.transposed = attrs.transpose_b;
  p.numerics = attrs.numerics;
  const Type &x = site.type(p.x), &w = site.type(p.w), &made = site.type(y);
  if (!site.is_built(p.w) || site.is_built(p.x) || !site.single_use(p.w) || !w.has_shape() || w.shape->size() != 2 ||
      !x.has_shape() || x.shape->size() < 2 || !made.is_plain() || made.dtype != DType::f32)
    return std::nullopt;
  const auto columns = (*w.shape)[p.transposed ? 0 : 1].as_constant();
  if (!columns || !(made.shape->back() == Dim(*columns)) || made.shape->size() != x.shape->size()) return std::nullopt;
  p.columns = *columns;
  if (const auto turn = site.def(p.x, "Transpose")) {
    p.order = leading_order(site, *turn);
    if (!p.order.empty()) p.x = site.in(*turn, 0);
  }
  if (p.bias == no_id) return p;
  const Type& bias = site.type(p.bias);
  if (!site.is_built(p.bias) || !bias.has_shape() || bias.shape->size() != 1 || !(bias.shape->back() == Dim(*columns)))
    return std::nullopt;
  return p;
}

// Values from outside that only the set reads.
std::vector<ValueId> own_operands(const Site& site, const std::vector<NodeId>& nodes) {
  std::map<ValueId, size_t> reads;
  for (NodeId n : nodes)
    for (size_t i = 0; i < site.graph.nodes[n].inputs.size(); ++i)
      if (const ValueId v = site.in(n, i); v != no_id) ++reads[v];
  std::vector<ValueId> out;
  for (const auto& [v, count] : reads)
    if (site.rw.uses(v) == count && !std::binary_search(nodes.begin(), nodes.end(), site.graph[v].def))
      out.push_back(v);
  return out;
}

// What queries, keys and values go through on their way from products to an attention.
bool prepares_heads(const Node& node) {
  const std::string_view name = node.op->name;
  return node.op->pointwise || is_movement_view(*node.op) || name == "Cast" || name == "Concat" || name == "Gather" ||
         name == "GatherND" || name == "PutRows" || name.substr(0, 6) == "Reduce";
}

// By value, the nodes that read it; no_id: a result of the graph.
std::vector<std::vector<NodeId>> readers_of(const Site& site) {
  std::vector<std::vector<NodeId>> readers(site.graph.values.size());
  for (NodeId n = 0; n < site.graph.nodes.size(); ++n)
    for (size_t i = 0; i < site.graph.nodes[n].inputs.size(); ++i)
      if (const ValueId v = site.in(n, i); v != no_id) readers[v].push_back(n);
  for (ValueId v : site.graph.outputs) readers[site.rw.resolve(v)].push_back(no_id);
  return readers;
}

// The nearest products before the values that a set of nodes reads, where all that reads them is of it or on the way.
std::vector<Projection> nearest_projections(const Site& site, const std::vector<NodeId>& nodes) {
  const std::vector<std::vector<NodeId>> readers = readers_of(site);
  constexpr size_t max_seen = 256;
  std::vector<ValueId> ahead;
  for (NodeId n : nodes)
    for (size_t i = 0; i < site.graph.nodes[n].inputs.size(); ++i) ahead.push_back(site.in(n, i));
  const auto belongs = [&](NodeId n) {
    return n != no_id && (std::binary_search(nodes.begin(), nodes.end(), n) || prepares_heads(site.graph.nodes[n]));
  };
  std::set<ValueId> seen;
  std::map<ValueId, Projection> found;
  while (!ahead.empty() && seen.size() < max_seen) {
    const ValueId v = ahead.back();
    ahead.pop_back();
    if (v == no_id || site.graph[v].has_contents() || !seen.insert(v).second) continue;
    const NodeId def = site.graph[v].def;
    const bool inside = def != no_id && std::binary_search(nodes.begin(), nodes.end(), def);
    if (def == no_id || inside) continue;
    if (auto p = projection(site, v)) {
      if (std::all_of(readers[v].begin(), readers[v].end(), belongs)) found.emplace(v, std::move(*p));
    } else if (const Node& node = site.graph.nodes[def]; prepares_heads(node)) {
      for (size_t i = 0; i < node.inputs.size(); ++i) ahead.push_back(site.in(def, i));
    }
  }
  std::vector<Projection> out;
  for (auto& [v, p] : found) out.push_back(std::move(p));
  return out;
}

void merge(Site& site, const std::vector<Projection>& parts) {
  GraphBuilder& b = site.rw.build;
  const Projection first = parts[0];
  const Attrs attrs = site.graph.nodes[first.product].attrs;
  const bool several = parts.size() > 1;
  site.at({first.product, parts[several ? 1 : 0].product, parts.back().product});
  Ids weights, biases;
  for (const Projection& p : parts) {
    weights.push_back(p.w);
    biases.push_back(p.bias);
  }
  const auto joined = [&](const Ids& values, int64_t axis) {
    return several ? b.op("Concat", ConcatAttrs{axis}, values) : values[0];
  };
  ValueId y = b.op("MatMul", attrs, {first.x, joined(weights, first.transposed ? 0 : 1)});
  if (first.bias != no_id) y = b.op("Add", {y, joined(biases, 0)});
  int64_t at = 0;
  for (const Projection& p : parts) {
    ValueId part = y;
    if (several) part = b.op("Slice", {y, b.integers({at}), b.integers({at + p.columns}), b.integers({-1})});
    if (!p.order.empty()) part = b.op("Transpose", TransposeAttrs{p.order}, {part});
    at += p.columns;
    if (site.same_type(part, p.y)) site.replace(p.y, part, several ? merge_rule : behind_rule);
  }
}

// Transpose(Reshape(Reshape(z, [rows, K]) @ w + bias, [..., N])) where an attention makes z: rows are put in order
// before they are multiplied.
void turn_before(Site& site, NodeId n, const std::set<NodeId>& attentions) {
  const std::vector<int64_t> order = leading_order(site, n);
  const auto back = site.def(site.in(n, 0), "Reshape");
  if (order.empty() || !back || !site.single_use(site.in(n, 0))) return;
  ValueId made = site.in(*back, 0), bias = no_id;
  if (const auto add = site.def(made, "Add")) {
    for (size_t k = 0; k < 2 && bias == no_id; ++k)
      if (site.is_built(site.in(*add, k)) && site.type(site.in(*add, k)).has_shape() &&
          site.type(site.in(*add, k)).shape->size() == 1) {
        if (!site.single_use(made)) return;
        bias = site.in(*add, k);
        made = site.in(*add, 1 - k);
      }
  }
  const auto product = site.def(made, "MatMul");
  if (!product || !site.single_use(made)) return;
  const auto flat = site.def(site.in(*product, 0), "Reshape");
  const ValueId w = site.in(*product, 1);
  if (!flat || !site.single_use(site.in(*product, 0)) || !site.is_built(w)) return;
  const ValueId z = site.in(*flat, 0);
  const Type &rows = site.type(site.in(*product, 0)), &columns = site.type(w), &result = site.type(site.in(n, 0));
  if (!attentions.count(site.graph[z].def) || !rows.has_shape() || rows.shape->size() != 2 || !columns.has_shape() ||
      columns.shape->size() != 2 || !result.has_shape() || !site.type(made).has_shape() ||
      !(result.shape->back() == site.type(made).shape->back()))
    return;
  Shape shape = *result.shape;
  shape.back() = rows.shape->back();
  const Attrs attrs = site.graph.nodes[*product].attrs;
  site.at({*product, n});
  GraphBuilder& b = site.rw.build;
  ValueId y = b.op("MatMul", attrs, {b.op("Transpose", TransposeAttrs{order}, {site.reshape(z, shape)}), w});
  if (bias != no_id) y = b.op("Add", {y, bias});
  if (site.same_type(y, site.out(n))) site.replace(site.out(n), y, before_rule);
}

void visit(Site& site, void*) {
  const std::vector<std::vector<NodeId>> attentions = find_attentions(site.graph);
  std::set<NodeId> all_nodes;
  for (const std::vector<NodeId>& nodes : attentions) {
    all_nodes.insert(nodes.begin(), nodes.end());
    const std::vector<ValueId> own = own_operands(site, nodes);
    const std::vector<Projection> all = nearest_projections(site, nodes);
    std::vector<bool> merged(all.size(), false);
    for (size_t i = 0; i < all.size(); ++i) {
      if (merged[i]) continue;
      std::vector<Projection> parts;
      for (size_t k = i; k < all.size(); ++k)
        if (k == i || (!merged[k] && all[i].joins(all[k]))) {
          parts.push_back(all[k]);
          merged[k] = true;
        }
      // A Transpose moves where the attention reads the product itself.
      const bool direct = std::find(own.begin(), own.end(), parts[0].y) != own.end();
      if (parts.size() > 1 || (direct && !parts[0].order.empty())) merge(site, parts);
    }
  }
  if (attentions.empty()) return;
  const auto nodes = static_cast<NodeId>(site.graph.nodes.size());
  for (NodeId n = 0; n < nodes; ++n)
    if (std::string_view(site.graph.nodes[n].op->name) == "Transpose" && !all_nodes.count(n) &&
        site.rw.uses(site.out(n)) > 0)
      turn_before(site, n, all_nodes);
}

}  // namespace

bool merge_projections(Module& module, const PassContext& context) {
  Rounds rounds(context.journal);
  return rewrite_graphs(module, rounds, visit, nullptr);
}

}  // namespace sinter
