// What rules of simplify, quantize and assign precision share: a site is one graph being rewritten in one round.
//
// A rule looks at one node of the graph as it was at the start of the round (and at nodes built since), builds what it
// wants instead, and calls replace. Rules are tried in the order of their lists; the first that replaces a result ends
// the node's turn. Building moves nodes in memory: keep numbers and copies, no references, across a call of rw.build.
#pragma once

#include <map>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "ir/pattern.h"
#include "passes/passes.h"

namespace sinter {

// Extents that had a symbol of their own and are known now.
using Substitutions = std::map<SymbolId, Dim>;

// In types and known contents, those of bodies included.
void substitute(Value& value, const Substitutions& by);
void substitute(Graph& graph, const Substitutions& by);

// What a pass remembers from round to round.
struct Rounds {
  explicit Rounds(Journal& journal);
  Journal& journal;
  std::set<std::string> refused;  // a refusal is said once, also when the pass runs again
};

class Site {
 public:
  Site(Module& module, Graph& graph, Rounds& rounds);

  Rewriter rw;
  Module& module;
  Graph& graph;
  Substitutions substitutions;

  // Operand of a node after the replacements so far; no_id when absent.
  ValueId in(NodeId n, size_t i) const;
  bool has(NodeId n, size_t i) const { return in(n, i) != no_id; }
  ValueId out(NodeId n, size_t o = 0) const { return graph.nodes[n].outputs[o]; }
  // The node that defines v when it is of this operator; its outputs may be several. Not where the rank of v is
  // unknown: then nothing has compared the node's attributes with ranks that its operands may have by now.
  std::optional<NodeId> def(ValueId v, std::string_view op) const;
  const Type& type(ValueId v) const { return graph[v].type; }
  // Kind, dtype, rank and extents are provably equal; unknown ranks are not.
  bool same_type(ValueId a, ValueId b) const;
  bool single_use(ValueId v) const { return rw.uses(rw.resolve(v)) <= 1; }
  // Known when the engine is built: a constant, or computed from constants alone.
  bool is_built(ValueId v) const;
  // Known integer elements, all of them numbers.
  std::optional<std::vector<int64_t>> integers(ValueId v) const;
  // Nodes built from now on descend from all of these.
  void at(std::initializer_list<NodeId> nodes);
  // Reshape to these extents.
  ValueId reshape(ValueId x, const Shape& shape);
  // Whether every extent of the node's result 0 follows from its operands without looking at run-time contents.
  bool extents_known(NodeId n) const;

  // As Rewriter::replace, and remembers what becomes known of extents.
  bool replace(ValueId old_value, ValueId new_value, const Rule& rule, std::string note = {});
  void refuse(const Rule& rule, NodeId n, std::string reason);

 private:
  Rounds& rounds_;
};

struct NodeRule {
  const char* op;  // null: nodes of every operator
  bool (*apply)(Site&, NodeId);
};

std::span<const NodeRule> constant_rules();  // rules_constant.cpp: folding, If with a known condition, equal work once
std::span<const NodeRule> identity_rules();  // rules_identity.cpp: what changes nothing
std::span<const NodeRule> shape_rules();     // rules_shape.cpp: what only renames axes, Transpose, Concat
std::span<const NodeRule> contraction_rules();  // rules_contraction.cpp: scales, biases, transposes, padding
std::span<const NodeRule> einsum_rules();       // rules_einsum.cpp: Einsum as products
std::span<const NodeRule> arithmetic_rules();   // rules_arithmetic.cpp: cheaper spellings of scalar work
std::span<const NodeRule> band_rules();         // rules_bands.cpp: masks of causality and windows
std::span<const NodeRule> rotary_rules();       // rules_rotary.cpp: rotary embeddings
// One-line rules: identities and activations.
std::span<const pattern::PatternRule> pattern_rules();  // rules_patterns.cpp

// Equal computations found so far in one graph; used by simplify's driver (rules_constant.cpp).
class CommonWork {
 public:
  // Replaces the node's results by those of an equal earlier node.
  bool apply(Site& site, NodeId n);

 private:
  std::string operand_key(const Site& site, ValueId v) const;
  std::map<std::string, NodeId> seen_;
};

// Elements [begin, end) of an axis of `whole`.
struct Stretch {
  ValueId whole;
  int64_t begin, end;
};
// What a value is of another one, where a Slice or Split along this axis alone makes it (rules_shape.cpp).
std::optional<Stretch> stretch_of(const Site& site, ValueId v, size_t axis);

// Runs `visit` over every graph of the module, bodies before the graph that holds them; a graph that `visit` changed is
// cleaned up and its types are inferred again, bodies included. Returns whether anything changed.
bool rewrite_graphs(Module& module, Rounds& rounds, void (*visit)(Site& site, void* user), void* user);

// The same until nothing changes. A round works on the nodes that it starts with, so what moves along a chain takes a
// round a node; rounds beyond that are rules that undo each other: Error(Code::internal) names the last one.
bool rewrite_to_the_end(Module& module, Rounds& rounds, void (*visit)(Site& site, void* user), void* user);

}  // namespace sinter
