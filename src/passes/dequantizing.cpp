#include "passes/dequantizing.h"

#include <algorithm>
#include <string_view>

#include "ir/rewriter.h"

namespace sinter {
namespace {

bool is_byte(DType d) { return d == DType::u8 || d == DType::i8; }

bool is_number(const Value& value) {
  return value.is_constant() || (value.type.has_shape() && value.type.shape->empty());
}

}  // namespace

std::vector<bool> dequantizing(const Graph& graph) {
  std::vector<bool> out(graph.nodes.size(), false);
  for (NodeId n = 0; n < graph.nodes.size(); ++n) {
    const Node& node = graph.nodes[n];
    const std::string_view name = node.op->name;
    if (node.outputs.size() != 1 || graph[node.outputs[0]].type.dtype != DType::f32) continue;
    const auto of_one = [&](ValueId v) { return graph[v].def != no_id && graph[v].def < n && out[graph[v].def]; };
    if (name == "Cast") {
      out[n] = is_byte(graph[node.inputs[0]].type.dtype);
    } else if (name == "Sub") {
      out[n] = of_one(node.inputs[0]) && is_number(graph[node.inputs[1]]);
    } else if (name == "Mul") {
      for (size_t i = 0; i < 2; ++i)
        out[n] = out[n] || (of_one(node.inputs[i]) && is_number(graph[node.inputs[1 - i]]));
    }
  }
  return out;
}

namespace {

class Divider {
 public:
  explicit Divider(Graph& graph) : graph_(graph), moves_(dequantizing(graph)), reads_(graph.values.size()) {}

  void run() {
    if (std::find(moves_.begin(), moves_.end(), true) == moves_.end()) return;
    const auto count = static_cast<NodeId>(graph_.nodes.size());
    for (NodeId n = 0; n < count; ++n) note_reads(n);
    for (NodeId n = count; n-- > 0;)
      if (moves_[n]) divide(n);
    emitted_.assign(graph_.nodes.size(), false);
    for (NodeId n = count; n-- > 0;)
      if (!moves_[n] || reads_[graph_.nodes[n].outputs[0]].empty()) emit(n);
    std::vector<Node> nodes;
    for (size_t k = order_.size(); k-- > 0;) nodes.push_back(std::move(graph_.nodes[order_[k]]));
    graph_.nodes = std::move(nodes);
    define_values(graph_);
  }

 private:
  void note_reads(NodeId n) {
    for (ValueId v : graph_.nodes[n].inputs)
      if (v != no_id && (reads_[v].empty() || reads_[v].back() != n)) reads_[v].push_back(n);
  }

  // All readers but the first read copies.
  void divide(NodeId n) {
    const ValueId v = graph_.nodes[n].outputs[0];
    for (size_t i = 1; i < reads_[v].size(); ++i) {
      const auto fresh = static_cast<ValueId>(graph_.values.size());
      Value value = graph_[v];
      value.def = static_cast<NodeId>(graph_.nodes.size());
      graph_.values.push_back(std::move(value));
      Node copy = graph_.nodes[n];
      copy.outputs = {fresh};
      for (ValueId& read : graph_.nodes[reads_[v][i]].inputs)
        if (read == v) read = fresh;
      reads_.push_back({reads_[v][i]});
      graph_.nodes.push_back(std::move(copy));
      moves_.push_back(true);
      note_reads(static_cast<NodeId>(graph_.nodes.size() - 1));
    }
    if (reads_[v].size() > 1) reads_[v].resize(1);
  }

  // Last node first: a node, and before it those that move to it.
  void emit(NodeId n) {
    emitted_[n] = true;
    order_.push_back(n);
    const Ids inputs = graph_.nodes[n].inputs;
    for (size_t i = inputs.size(); i-- > 0;) {
      const NodeId def = inputs[i] == no_id ? no_id : graph_[inputs[i]].def;
      if (def != no_id && moves_[def] && !emitted_[def]) emit(def);
    }
  }

  Graph& graph_;
  std::vector<bool> moves_, emitted_;       // by node
  std::vector<std::vector<NodeId>> reads_;  // by value, its readers
  std::vector<NodeId> order_;               // the new one, from the last
};

}  // namespace

void divide_dequantizing(Graph& graph) { Divider(graph).run(); }

}  // namespace sinter
