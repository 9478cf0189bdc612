// merge projections: products of one operand with constant matrices, read by one attention only, become one product
// with the matrices side by side. The attention reads its parts in place, so cutting them costs nothing, and the
// operand is read and prepared once.

#include <algorithm>

#include "ops/contraction.h"
#include "ops/movement.h"
#include "passes/attention.h"
#include "passes/rules.h"

namespace sinter {
namespace {

constexpr Rule merge_rule = {"projections side by side"};

// x @ w + bias with constants w [K, N] (or [N, K]) and bias [N].
struct Projection {
  ValueId y = no_id, x = no_id, w = no_id, bias = no_id;
  NodeId product = 0;
  bool transposed = false;
  Numerics numerics = Numerics::strict;
  int64_t columns = 0;

  bool joins(const Projection& o) const {
    return x == o.x && transposed == o.transposed && numerics == o.numerics && (bias == no_id) == (o.bias == no_id) &&
           w != o.w;
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

void merge(Site& site, const std::vector<Projection>& parts) {
  GraphBuilder& b = site.rw.build;
  const Projection first = parts[0];
  const Attrs attrs = site.graph.nodes[first.product].attrs;
  site.at({first.product, parts[1].product, parts.back().product});
  Ids weights, biases;
  for (const Projection& p : parts) {
    weights.push_back(p.w);
    biases.push_back(p.bias);
  }
  const ValueId w = b.op("Concat", ConcatAttrs{first.transposed ? 0 : 1}, weights);
  ValueId y = b.op("MatMul", attrs, {first.x, w});
  if (first.bias != no_id) y = b.op("Add", {y, b.op("Concat", ConcatAttrs{0}, biases)});
  int64_t at = 0;
  for (const Projection& p : parts) {
    const ValueId part = b.op("Slice", {y, b.integers({at}), b.integers({at + p.columns}), b.integers({-1})});
    at += p.columns;
    site.replace(p.y, part, merge_rule);
  }
}

void visit(Site& site, void*) {
  for (const std::vector<NodeId>& nodes : find_attentions(site.graph)) {
    std::vector<Projection> all;
    for (ValueId v : own_operands(site, nodes))
      if (const auto p = projection(site, v)) all.push_back(*p);
    std::vector<bool> merged(all.size(), false);
    for (size_t i = 0; i < all.size(); ++i) {
      if (merged[i]) continue;
      std::vector<Projection> parts;
      for (size_t k = i; k < all.size(); ++k)
        if (k == i || (!merged[k] && all[i].joins(all[k]))) {
          parts.push_back(all[k]);
          merged[k] = true;
        }
      if (parts.size() > 1) merge(site, parts);
    }
  }
}

}  // namespace

bool merge_projections(Module& module, const PassContext& context) {
  Rounds rounds(context.journal);
  return rewrite_graphs(module, rounds, visit, nullptr);
}

}  // namespace sinter
