// Module and Graph: the network while it is being compiled, as SSA in topological order.
//
// Semantics that passes rely on: integers wrap in their width; x/0, x mod 0 and over-long shifts give 0; floats follow
// IEEE-754 with round to nearest even, reference values are computed in double and rounded once per operator; NaN is
// preserved but not its payload; nothing aliases unless Graph::aliases says so. A value with constant contents needs no
// definition: whoever reads it reads the contents. Bodies are closed: what they capture is passed as operands, after
// the operator's own. Ids are dense; they are renumbered only by Rewriter::finish. Only the Rewriter changes a graph.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "ops/op.h"

namespace sinter {

using ValueId = uint32_t;
using NodeId = uint32_t;
using Ids = std::vector<ValueId>;
constexpr uint32_t no_id = UINT32_MAX;  // an absent operand; a value without a defining node

// Nodes of the user's model, by number in Module::sources.
using Sources = std::vector<uint32_t>;

struct Source {
  std::string name, op_type, metadata;  // metadata: "key=value" lines that the exporter left
};

struct Value {
  Type type;
  Contents contents;
  NodeId def = no_id;
  std::string name;    // the model's name, or empty; never decides anything
  std::string weight;  // refittable under this name
  bool is_constant() const { return std::holds_alternative<Tensor>(contents); }
  bool has_contents() const { return !std::holds_alternative<std::monostate>(contents); }
};

struct Graph;

struct Node {
  const Op* op = nullptr;
  Attrs attrs;
  Ids inputs, outputs;
  std::vector<Graph> bodies;
  Sources sources;
};

struct Alias {  // output may share the input's buffer
  uint32_t output, input;
};

struct Graph {
  std::vector<Value> values;
  std::vector<Node> nodes;
  Ids inputs, outputs;
  std::vector<Alias> aliases;

  const Value& operator[](ValueId v) const { return values[v]; }
  Value& operator[](ValueId v) { return values[v]; }
  const Tensor* constant(ValueId v) const { return v == no_id ? nullptr : std::get_if<Tensor>(&values[v].contents); }
};

struct Module {
  std::unique_ptr<Graph> main = std::make_unique<Graph>();
  SymbolTable symbols;
  std::vector<Fact> facts;
  std::vector<Source> sources;
  std::vector<std::string> output_names;  // of main's outputs in order; values may serve several, or be inputs too
};

// How often each value is read by nodes and as a result (bodies read through their node's operands).
std::vector<uint32_t> use_counts(const Graph& graph);

// Runs inference of one node again with the present types of its operands; `reuse` gives the node's present result
// types, whose bare symbols are kept for extents that have no other origin.
Inferred infer_node(Module& module, const Graph& graph, const Op& op, const Attrs& attrs,
                    std::span<const ValueId> inputs, std::span<const Graph> bodies, std::span<const Type> reuse,
                    size_t outputs);

// Result types of a closed body for other parameter types; the body's own types are updated.
std::vector<Type> infer_graph(Module& module, Graph& graph, std::span<const Type> parameters);

}  // namespace sinter
