#include "ir/rewriter.h"

#include <fmt/core.h>

#include <algorithm>
#include <map>
#include <queue>

namespace sinter {

const char* effect_name(Effect effect) {
  static constexpr const char* names[] = {"exact", "rounding", "reassociates", "changes meaning"};
  return names[static_cast<int>(effect)];
}

Rewriter::Rewriter(Module& module, Graph& graph, Journal& journal)
    : build(module, graph), journal_(journal), uses_(use_counts(graph)) {}

ValueId Rewriter::resolve(ValueId v) const {
  while (v != no_id && v < forward_.size() && forward_[v] != v) v = forward_[v];
  return v;
}

const Tensor* Rewriter::peek(ValueId v) const {
  v = resolve(v);
  if (v == no_id || !build.graph[v].weight.empty()) return nullptr;
  return build.graph.constant(v);
}

const Node* Rewriter::def(ValueId v) const {
  v = resolve(v);
  if (v == no_id || build.graph[v].def == no_id) return nullptr;
  return &build.graph.nodes[build.graph[v].def];
}

bool Rewriter::replace(ValueId old_value, ValueId new_value, const Rule& rule, std::string note) {
  old_value = resolve(old_value);
  new_value = resolve(new_value);
  if (old_value == new_value) return false;
  const Type& before = build.graph[old_value].type;
  const Type& after = build.graph[new_value].type;
  // A rank that was unknown may become known.
  const bool same_rank = !before.shape || (after.shape && before.shape->size() == after.shape->size());
  if (before.kind != after.kind || (before.is_tensor() && (before.dtype != after.dtype || !same_rank)))
    throw Error(Code::internal,
                fmt::format("rule '{}' replaces {} by {}", rule.name, to_text(before, build.module.symbols),
                            to_text(after, build.module.symbols)));
  const NodeId def = build.graph[old_value].def;
  if (rule.effect != Effect::changes_meaning && journal_.count >= journal_.limit) return false;
  if (journal_.check) journal_.check(journal_.check_user, build.module, build.graph, old_value, new_value, rule);
  if (rule.effect != Effect::changes_meaning) ++journal_.count;
  journal_.entries.push_back({journal_.count, journal_.pass, rule.name, rule.effect,
                              def == no_id ? Sources{} : build.graph.nodes[def].sources, std::move(note)});
  while (forward_.size() < build.graph.values.size()) forward_.push_back(static_cast<ValueId>(forward_.size()));
  if (build.graph[new_value].name.empty()) build.graph[new_value].name = build.graph[old_value].name;
  if (old_value < uses_.size()) {
    if (new_value >= uses_.size()) uses_.resize(new_value + 1, 0);
    uses_[new_value] += uses_[old_value];
  }
  forward_[old_value] = new_value;
  changed_ = true;
  return true;
}

void Rewriter::refuse(const Rule& rule, const Node& node, std::string reason) {
  journal_.entries.push_back({0, journal_.pass, rule.name, rule.effect, node.sources, std::move(reason)});
}

void Rewriter::finish() {
  Graph& graph = build.graph;
  for (Node& node : graph.nodes)
    for (ValueId& v : node.inputs) v = resolve(v);
  for (ValueId& v : graph.outputs) v = resolve(v);
  for (Alias& alias : graph.aliases) alias.output = resolve(alias.output);
  tidy(graph);
}

namespace {

void add_symbols(const Value& value, std::vector<SymbolId>& out) {
  collect_symbols(value.type, out);
  if (const auto* dims = std::get_if<std::vector<Dim>>(&value.contents))
    for (const Dim& d : *dims) d.collect_symbols(out);
}

void add_symbols(const Graph& graph, std::vector<SymbolId>& out) {
  for (const Value& value : graph.values) add_symbols(value, out);
  for (const Node& node : graph.nodes)
    for (const Graph& body : node.bodies) add_symbols(body, out);
}

// What known contents within bodies speak of.
void add_known(const Graph& graph, std::vector<SymbolId>& out) {
  for (const Value& value : graph.values)
    if (const auto* dims = std::get_if<std::vector<Dim>>(&value.contents))
      for (const Dim& d : *dims) d.collect_symbols(out);
  for (const Node& node : graph.nodes)
    for (const Graph& body : node.bodies) add_known(body, out);
}

// Extents that nodes find out reach others in types and in known contents, where no value is read.
struct Symbols {
  std::vector<std::vector<SymbolId>> mentioned;     // by node, sorted
  std::vector<SymbolId> by_results;                 // of the graph
  std::map<SymbolId, std::vector<NodeId>> made_by;  // nodes whose results speak of it and whose operands do not

  explicit Symbols(const Graph& graph) {
    std::vector<SymbolId> given;
    for (ValueId v : graph.inputs) add_symbols(graph[v], given);
    for (ValueId v : graph.outputs) add_symbols(graph[v], by_results);
    for (NodeId n = 0; n < graph.nodes.size(); ++n) {
      const Node& node = graph.nodes[n];
      std::vector<SymbolId> read, made;
      for (ValueId v : node.inputs)
        if (v != no_id) add_symbols(graph[v], read);
      for (const Graph& body : node.bodies) add_known(body, read);
      for (ValueId v : node.outputs) collect_symbols(graph[v].type, made);
      for (SymbolId id : made)
        if (!std::binary_search(read.begin(), read.end(), id) && !std::binary_search(given.begin(), given.end(), id))
          made_by[id].push_back(n);
      for (const Graph& body : node.bodies) add_symbols(body, read);
      for (SymbolId id : made) read.push_back(id);
      std::sort(read.begin(), read.end());
      read.erase(std::unique(read.begin(), read.end()), read.end());
      mentioned.push_back(std::move(read));
    }
  }

  // The node that gives the symbol its value: a live one where there is any; no_id when it comes from outside.
  NodeId maker(SymbolId id, const std::vector<bool>& live) const {
    const auto at = made_by.find(id);
    if (at == made_by.end()) return no_id;
    for (NodeId n : at->second)
      if (live[n]) return n;
    return at->second.front();
  }
};

// Kahn's algorithm, smallest old index first.
std::vector<NodeId> in_order(const Graph& graph, const std::vector<bool>& live, const Symbols* symbols) {
  const size_t nodes = graph.nodes.size();
  std::vector<uint32_t> missing(nodes, 0);
  std::vector<std::vector<NodeId>> readers(nodes);
  std::priority_queue<NodeId, std::vector<NodeId>, std::greater<>> ready;
  const auto after = [&](NodeId n, NodeId first) {
    ++missing[n];
    readers[first].push_back(n);
  };
  for (NodeId n = 0; n < nodes; ++n) {
    if (!live[n]) continue;
    for (ValueId v : graph.nodes[n].inputs)
      if (v != no_id && !graph[v].has_contents() && graph[v].def != no_id) after(n, graph[v].def);
    if (symbols)
      for (SymbolId id : symbols->mentioned[n])
        if (const NodeId maker = symbols->maker(id, live); maker != no_id && maker != n) after(n, maker);
    if (missing[n] == 0) ready.push(n);
  }
  std::vector<NodeId> order;
  while (!ready.empty()) {
    const NodeId n = ready.top();
    ready.pop();
    order.push_back(n);
    for (NodeId r : readers[n])
      if (--missing[r] == 0) ready.push(r);
  }
  if (order.size() != static_cast<size_t>(std::count(live.begin(), live.end(), true)))
    return in_order(graph, live, nullptr);  // a symbol that a node and its own operand find out
  return order;
}

}  // namespace

void define_values(Graph& graph) {
  for (Value& value : graph.values) value.def = no_id;
  for (NodeId n = 0; n < graph.nodes.size(); ++n)
    for (ValueId v : graph.nodes[n].outputs) graph[v].def = n;
}

bool tidy(Graph& graph) {
  const size_t nodes = graph.nodes.size();
  for (Node& node : graph.nodes)
    for (Graph& body : node.bodies) tidy(body);
  const Symbols symbols(graph);
  // Live nodes: those whose results are read where contents do not already say what they are.
  std::vector<bool> live(nodes, false);
  std::vector<NodeId> stack;
  const auto reach = [&](ValueId v) {
    if (v == no_id || graph[v].has_contents() || graph[v].def == no_id || live[graph[v].def]) return;
    live[graph[v].def] = true;
    stack.push_back(graph[v].def);
  };
  const auto reach_all = [&] {
    while (!stack.empty()) {
      const NodeId n = stack.back();
      stack.pop_back();
      for (ValueId v : graph.nodes[n].inputs) reach(v);
    }
  };
  for (ValueId v : graph.outputs) reach(v);
  reach_all();
  // Then those that find out an extent of something live.
  const auto reach_symbols = [&](const std::vector<SymbolId>& ids) {
    for (SymbolId id : ids)
      if (const NodeId n = symbols.maker(id, live); n != no_id && !live[n]) {
        live[n] = true;
        stack.push_back(n);
        reach_all();
      }
  };
  for (size_t before = SIZE_MAX, now = 0; now != before;) {
    before = now;
    reach_symbols(symbols.by_results);
    for (NodeId n = 0; n < nodes; ++n)
      if (live[n]) reach_symbols(symbols.mentioned[n]);
    now = static_cast<size_t>(std::count(live.begin(), live.end(), true));
  }
  const std::vector<NodeId> order = in_order(graph, live, &symbols);
  bool changed = order.size() != nodes;
  for (size_t i = 0; i < order.size() && !changed; ++i) changed = order[i] != i;
  // Renumber values: inputs first, then as nodes mention them.
  std::vector<ValueId> renumbered(graph.values.size(), no_id);
  std::vector<Value> values;
  const auto keep = [&](ValueId v) -> ValueId {
    if (v == no_id) return no_id;
    if (renumbered[v] == no_id) {
      renumbered[v] = static_cast<ValueId>(values.size());
      values.push_back(std::move(graph.values[v]));
      values.back().def = no_id;
    }
    return renumbered[v];
  };
  for (ValueId& v : graph.inputs) v = keep(v);
  std::vector<Node> kept;
  for (NodeId n : order) {
    Node node = std::move(graph.nodes[n]);
    for (ValueId& v : node.inputs) v = keep(v);
    for (ValueId& v : node.outputs) {
      v = keep(v);
      values[v].def = static_cast<NodeId>(kept.size());
    }
    kept.push_back(std::move(node));
  }
  for (ValueId& v : graph.outputs) v = keep(v);
  std::vector<Alias> aliases;
  for (const Alias& alias : graph.aliases)
    if (alias.output < renumbered.size() && renumbered[alias.output] != no_id)
      aliases.push_back({renumbered[alias.output], renumbered[alias.input]});
  changed = changed || values.size() != graph.values.size();
  graph.values = std::move(values);
  graph.nodes = std::move(kept);
  graph.aliases = std::move(aliases);
  return changed;
}

}  // namespace sinter
