#include "passes/attention.h"

#include <algorithm>
#include <functional>
#include <map>
#include <set>

#include "ir/rewriter.h"
#include "ops/reduction.h"
#include "ops/views.h"

namespace sinter {
namespace {

constexpr size_t max_stages = 64;

bool is_named(const Node& node, std::string_view name) { return node.op->name == name; }

class Finder {
 public:
  explicit Finder(const Graph& graph)
      : graph_(graph),
        readers_(graph.values.size()),
        leaves_(graph.values.size(), false),
        constant_(built_values(graph)),
        taken_(graph.nodes.size(), false) {
    for (NodeId n = 0; n < graph.nodes.size(); ++n)
      for (ValueId v : graph.nodes[n].inputs)
        if (v != no_id && (readers_[v].empty() || readers_[v].back() != n)) readers_[v].push_back(n);
    for (ValueId v : graph.outputs) leaves_[v] = true;
  }

  std::vector<std::vector<NodeId>> run() {
    std::vector<std::vector<NodeId>> out;
    for (NodeId n = 0; n < graph_.nodes.size(); ++n) {
      if (taken_[n] || !is_named(graph_.nodes[n], "MatMul")) continue;
      std::set<NodeId> nodes = products(n);
      if (nodes.empty()) continue;
      add_views(nodes);
      add_behind(nodes);
      for (NodeId k : nodes) taken_[k] = true;
      out.emplace_back(nodes.begin(), nodes.end());
    }
    return out;
  }

 private:
  bool is_factor(ValueId v) const {
    const Type& type = graph_[v].type;
    return type.is_plain() && type.dtype == DType::f32 && type.shape->size() >= 2;
  }

  // A product of two values that depend on what is run.
  bool is_product(const Node& node) const {
    return is_named(node, "MatMul") && node.inputs.size() == 2 && is_factor(node.inputs[0]) &&
           is_factor(node.inputs[1]) && is_factor(node.outputs[0]) && !constant_[node.inputs[1]];
  }

  bool is_reduction(const Node& node) const {
    if (std::string_view(node.op->name).substr(0, 6) != "Reduce" || node.inputs.size() != 2) return false;
    const Tensor* axes = graph_.constant(node.inputs[1]);
    if (!axes || axes->count() != 1 || !node.attrs.as<ReduceAttrs>().keep_dims) return false;
    const auto rank = static_cast<int64_t>(graph_[node.inputs[0]].type.shape->size());
    const int64_t axis = axes->get_integer(0);
    return axis == rank - 1 || axis == -1;
  }

  // May stand between the products.
  bool is_between(const Node& node) const {
    if (node.outputs.size() != 1 || !graph_[node.outputs[0]].type.is_plain() || leaves_[node.outputs[0]]) return false;
    for (ValueId v : node.inputs)
      if (v == no_id || !graph_[v].type.is_plain()) return false;
    return node.op->pointwise != nullptr || is_named(node, "Cast") || is_reduction(node);
  }

  // From the first product to the second; nothing where something else reads what is between.
  std::set<NodeId> products(NodeId first) const {
    const Node& start = graph_.nodes[first];
    if (!is_product(start) || leaves_[start.outputs[0]]) return {};
    std::set<ValueId> scored = {start.outputs[0]};
    std::set<NodeId> nodes = {first}, ahead(readers_[start.outputs[0]].begin(), readers_[start.outputs[0]].end());
    bool ends = false, reduces = false;
    while (!ahead.empty()) {
      const NodeId n = *ahead.begin();
      ahead.erase(ahead.begin());
      const Node& node = graph_.nodes[n];
      if (taken_[n] || nodes.size() > max_stages) return {};
      if (is_product(node)) {
        if (ends || !scored.count(node.inputs[0]) || scored.count(node.inputs[1])) return {};
        if (node.inputs[0] == start.outputs[0]) return {};
        ends = true;
        nodes.insert(n);
        continue;
      }
      if (!is_between(node)) return {};
      reduces = reduces || is_reduction(node);
      const ValueId made = node.outputs[0];
      scored.insert(made);
      nodes.insert(n);
      ahead.insert(readers_[made].begin(), readers_[made].end());
    }
    if (!ends || !reduces) return {};
    return nodes;
  }

  // By axis, whether what reads a value takes two strides; ops/views.h.
  using Joinable = std::map<ValueId, std::vector<bool>>;

  void restrict(Joinable& joinable, ValueId v, const std::vector<bool>& by) const {
    auto [at, fresh] = joinable.try_emplace(v, by);
    for (size_t k = 0; !fresh && k < by.size(); ++k) at->second[k] = at->second[k] && by[k];
  }

  // Batch axes of what a node that is no view reads.
  void restrict_operands(Joinable& joinable, const Node& node) const {
    for (ValueId v : node.inputs) {
      if (v == no_id || !graph_[v].type.has_shape()) continue;
      std::vector<bool> batch(graph_[v].type.shape->size(), false);
      for (size_t k = 0; k + 2 < batch.size(); ++k) batch[k] = true;
      restrict(joinable, v, batch);
    }
  }

  bool take_view(const Node& node, Joinable& joinable) const {
    if (!is_movement_view(*node.op) || node.inputs.empty() || node.inputs[0] == no_id) return false;
    std::vector<const Contents*> contents;
    for (ValueId v : node.inputs) contents.push_back(v == no_id ? nullptr : &graph_[v].contents);
    std::vector<std::vector<bool>> before;
    for (ValueId y : node.outputs) {
      const auto at = joinable.find(y);
      if (at == joinable.end()) continue;  // a part that nothing reads
      before.push_back(at->second);
      if (!is_strided_view(*node.op, node.attrs, graph_[node.inputs[0]].type, graph_[y].type, contents, before.back()))
        return false;
    }
    for (const std::vector<bool>& axes : before) restrict(joinable, node.inputs[0], axes);
    return true;
  }

  // Views that only the set reads, nearest first.
  void add_views(std::set<NodeId>& nodes) const {
    std::set<NodeId, std::greater<>> ahead;
    Joinable joinable;
    const auto look = [&](ValueId v) {
      if (v != no_id && graph_[v].def != no_id && !nodes.count(graph_[v].def)) ahead.insert(graph_[v].def);
    };
    for (NodeId n : std::vector<NodeId>(nodes.begin(), nodes.end())) {
      restrict_operands(joinable, graph_.nodes[n]);
      for (ValueId v : graph_.nodes[n].inputs) look(v);
    }
    while (!ahead.empty() && nodes.size() < max_stages) {
      const NodeId n = *ahead.begin();
      ahead.erase(ahead.begin());
      const Node& node = graph_.nodes[n];
      const bool own = std::all_of(node.outputs.begin(), node.outputs.end(), [&](ValueId v) {
        return !leaves_[v] && std::all_of(readers_[v].begin(), readers_[v].end(),
                                          [&](NodeId reader) { return nodes.count(reader) > 0; });
      });
      if (taken_[n] || !own) continue;
      if (is_named(node, "Band")) {
        nodes.insert(n);
        continue;
      }
      if (!take_view(node, joinable)) continue;
      nodes.insert(n);
      look(node.inputs[0]);
    }
  }

  // What only moves the result, up to the last Transpose, or to a result of the graph, which would be a copy: other
  // views behind cost nothing by themselves.
  void add_behind(std::set<NodeId>& nodes) const {
    ValueId y = graph_.nodes[*nodes.rbegin()].outputs[0];
    std::vector<bool> two_strides(graph_[y].type.shape->size(), true);
    two_strides[two_strides.size() - 2] = two_strides.back() = false;
    std::vector<NodeId> behind;
    size_t kept = 0;
    while (!leaves_[y] && readers_[y].size() == 1 && nodes.size() + behind.size() < max_stages) {
      const NodeId n = readers_[y][0];
      const Node& node = graph_.nodes[n];
      if (taken_[n] || node.inputs.empty() || node.inputs[0] != y || node.outputs.size() != 1) break;
      std::vector<const Contents*> contents;
      for (ValueId v : node.inputs) contents.push_back(v == no_id ? nullptr : &graph_[v].contents);
      if (!is_strided_target(*node.op, node.attrs, graph_[y].type, graph_[node.outputs[0]].type, contents, two_strides))
        break;
      behind.push_back(n);
      if (is_named(node, "Transpose") || leaves_[node.outputs[0]]) kept = behind.size();
      y = node.outputs[0];
    }
    nodes.insert(behind.begin(), behind.begin() + static_cast<ptrdiff_t>(kept));
  }

  const Graph& graph_;
  std::vector<std::vector<NodeId>> readers_;  // by value
  std::vector<bool> leaves_;                  // results of the graph
  std::vector<bool> constant_;                // known when the engine is built
  std::vector<bool> taken_;
};

}  // namespace

std::vector<bool> built_values(const Graph& graph) {
  std::vector<bool> built(graph.values.size(), false);
  for (ValueId v = 0; v < graph.values.size(); ++v) built[v] = graph[v].has_contents();
  for (const Node& node : graph.nodes) {
    const bool all =
        !node.inputs.empty() && node.bodies.empty() && node.op->is.deterministic &&
        std::all_of(node.inputs.begin(), node.inputs.end(), [&](ValueId v) { return v == no_id || built[v]; });
    for (ValueId v : node.outputs) built[v] = built[v] || all;
  }
  return built;
}

std::vector<std::vector<NodeId>> find_attentions(const Graph& graph) { return Finder(graph).run(); }

void divide_bands(Graph& graph) {
  std::vector<std::vector<NodeId>> readers(graph.values.size());
  for (NodeId n = 0; n < graph.nodes.size(); ++n)
    for (ValueId v : graph.nodes[n].inputs)
      if (v != no_id && (readers[v].empty() || readers[v].back() != n)) readers[v].push_back(n);
  std::vector<Node> nodes;
  std::vector<std::map<ValueId, ValueId>> renamed(graph.nodes.size());
  std::map<ValueId, std::vector<ValueId>> copies;  // by what they are copies of
  for (NodeId n = 0; n < graph.nodes.size(); ++n) {
    Node& node = graph.nodes[n];
    for (ValueId& v : node.inputs)
      if (const auto at = renamed[n].find(v); at != renamed[n].end()) v = at->second;
    // Extents that are not known yet have one place that finds them out.
    if (is_named(node, "Band") && graph[node.inputs[0]].has_contents())
      for (size_t i = 1; i < readers[node.outputs[0]].size(); ++i) {
        Node copy = node;
        Value value = graph[node.outputs[0]];
        copy.outputs = {static_cast<ValueId>(graph.values.size())};
        renamed[readers[node.outputs[0]][i]].emplace(node.outputs[0], copy.outputs[0]);
        copies[node.outputs[0]].push_back(copy.outputs[0]);
        graph.values.push_back(std::move(value));
        nodes.push_back(std::move(copy));
      }
    nodes.push_back(std::move(node));
  }
  graph.nodes = std::move(nodes);
  define_values(graph);
  if (copies.empty()) return;
  // Those that no attention took are one again.
  std::vector<bool> taken(graph.values.size(), false);
  for (const std::vector<NodeId>& attention : find_attentions(graph))
    for (NodeId n : attention)
      for (ValueId v : graph.nodes[n].outputs) taken[v] = true;
  std::vector<ValueId> shared(graph.values.size(), no_id);
  for (auto& [whole, list] : copies) {
    list.insert(list.begin(), whole);
    list.erase(std::remove_if(list.begin(), list.end(), [&](ValueId v) { return taken[v]; }), list.end());
    for (ValueId v : list) shared[v] = list[0];
  }
  for (Node& node : graph.nodes)
    for (ValueId& v : node.inputs)
      if (v != no_id && shared[v] != no_id) v = shared[v];
  tidy(graph);
}

}  // namespace sinter
