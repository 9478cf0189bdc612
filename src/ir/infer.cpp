// Inference over a graph: symbols go into the module's table, facts into its list, bodies are inferred in place.

#include <fmt/core.h>

#include "ir/graph.h"

namespace sinter {
namespace {

class GraphHost final : public InferHost {
 public:
  GraphHost(Module& module, std::span<const Graph> bodies, std::span<const Type> reuse)
      : module_(module), bodies_(bodies), reuse_(reuse) {}

  Dim symbol(size_t output, size_t position, Symbol::Bound bound, int64_t low, std::optional<Dim> high) override {
    for (const auto& [key, dim] : made_)
      if (key == std::pair(output, position)) return dim;
    Dim dim;
    bool found = false;
    if (output < reuse_.size() && reuse_[output].has_shape() && position < reuse_[output].shape->size()) {
      const Dim& old = (*reuse_[output].shape)[position];
      if (const auto id = old.as_symbol(); id && module_.symbols[*id].bound == bound) {
        dim = old;
        found = true;
      }
    }
    if (!found)
      dim = Dim::symbol(module_.symbols.add(
          {.name = fmt::format("s{}", module_.symbols.size()), .bound = bound, .low = low, .high = std::move(high)}));
    made_.push_back({{output, position}, dim});
    return dim;
  }

  void require(Fact fact) override {
    for (const Fact& old : module_.facts)
      if (old.kind == fact.kind && old.left == fact.left && old.right == fact.right) return;
    module_.facts.push_back(std::move(fact));
  }

  const SymbolTable& symbols() const override { return module_.symbols; }
  size_t bodies() const override { return bodies_.size(); }
  std::vector<Type> body_parameters(size_t body) const override {
    std::vector<Type> types;
    for (ValueId v : bodies_[body].inputs) types.push_back(bodies_[body][v].type);
    return types;
  }

  std::vector<Type> infer_body(size_t body, std::span<const Type> parameters) override {
    // A trial run: the body itself changes only through infer_graph on the node that owns it.
    Graph copy = bodies_[body];
    return infer_graph(module_, copy, parameters);
  }

 private:
  Module& module_;
  std::span<const Graph> bodies_;
  std::span<const Type> reuse_;
  std::vector<std::pair<std::pair<size_t, size_t>, Dim>> made_;
};

}  // namespace

std::vector<uint32_t> use_counts(const Graph& graph) {
  std::vector<uint32_t> uses(graph.values.size(), 0);
  for (const Node& node : graph.nodes)
    for (ValueId v : node.inputs)
      if (v != no_id) ++uses[v];
  for (ValueId v : graph.outputs) ++uses[v];
  return uses;
}

Inferred infer_node(Module& module, const Graph& graph, const Op& op, const Attrs& attrs,
                    std::span<const ValueId> inputs, std::span<const Graph> bodies, std::span<const Type> reuse,
                    size_t outputs) {
  std::vector<const Type*> types;
  std::vector<const Contents*> contents;
  for (ValueId v : inputs) {
    types.push_back(v == no_id ? nullptr : &graph[v].type);
    contents.push_back(v == no_id ? nullptr : &graph[v].contents);
  }
  GraphHost host(module, bodies, reuse);
  return infer_op(op, attrs, types, contents, outputs, host);
}

std::vector<Type> infer_graph(Module& module, Graph& graph, std::span<const Type> parameters) {
  if (parameters.size() != graph.inputs.size())
    throw Error(Code::model_invalid,
                fmt::format("a body takes {} values and is given {}", graph.inputs.size(), parameters.size()));
  for (size_t i = 0; i < parameters.size(); ++i) graph[graph.inputs[i]].type = parameters[i];
  for (Node& node : graph.nodes) {
    std::vector<Type> reuse;
    for (ValueId v : node.outputs) reuse.push_back(graph[v].type);
    Inferred inferred;
    try {
      inferred = infer_node(module, graph, *node.op, node.attrs, node.inputs, node.bodies, reuse, node.outputs.size());
    } catch (Error& error) {
      if (!node.sources.empty()) error.at_node(module.sources[node.sources[0]].name);
      throw;
    }
    for (size_t o = 0; o < node.outputs.size(); ++o) {
      Value& value = graph[node.outputs[o]];
      value.type = std::move(inferred.types[o]);
      if (!value.is_constant()) value.contents = std::move(inferred.contents[o]);
    }
  }
  std::vector<Type> results;
  for (ValueId v : graph.outputs) results.push_back(graph[v].type);
  return results;
}

}  // namespace sinter
