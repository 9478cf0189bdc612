#include "passes/dequantizing.h"

#include <algorithm>
#include <string_view>

#include "ir/rewriter.h"
#include "passes/attention.h"

namespace sinter {
namespace {

bool is_number(const Value& value) {
  return value.is_constant() || (value.type.has_shape() && value.type.shape->empty());
}

}  // namespace

std::vector<bool> dequantizing(const Graph& graph) {
  // A Cast, then at most one Sub, then at most one Mul, of one such operand each: chains stay short.
  enum Level : uint8_t { none, cast, centered, scaled };
  std::vector<Level> level(graph.nodes.size(), none);
  const std::vector<bool> built = built_values(graph);
  for (NodeId n = 0; n < graph.nodes.size(); ++n) {
    const Node& node = graph.nodes[n];
    const std::string_view name = node.op->name;
    if (node.outputs.size() != 1 || built[node.outputs[0]] || graph[node.outputs[0]].type.dtype != DType::f32) continue;
    const auto of = [&](size_t i) {
      const NodeId def = graph[node.inputs[i]].def;
      return def != no_id && def < n ? level[def] : none;
    };
    const auto by_number = [&](size_t i) { return of(i) == none && is_number(graph[node.inputs[i]]); };
    if (name == "Cast") {
      if (is_byte(graph[node.inputs[0]].type.dtype)) level[n] = cast;
    } else if (name == "Sub") {
      if (of(0) == cast && by_number(1)) level[n] = centered;
    } else if (name == "Mul") {
      for (size_t i = 0; i < 2; ++i)
        if ((of(i) == cast || of(i) == centered) && by_number(1 - i)) level[n] = scaled;
    }
  }
  std::vector<bool> out;
  for (Level l : level) out.push_back(l != none);
  return out;
}

namespace {

class Divider {
 public:
  explicit Divider(Graph& graph) : graph_(graph), moves_(dequantizing(graph)), reads_(graph.values.size()) {}

  void run() {
    if (std::find(moves_.begin(), moves_.end(), true) == moves_.end()) return;
    const auto count = static_cast<NodeId>(graph_.nodes.size());
    stays_.assign(count, false);
    std::vector<bool> leaves(graph_.values.size(), false);
    for (ValueId v : graph_.outputs) leaves[v] = true;
    for (NodeId n = 0; n < count; ++n) note_reads(n);
    for (NodeId n = count; n-- > 0;)
      if (moves_[n]) divide(n, leaves[graph_.nodes[n].outputs[0]]);
    stays_.resize(graph_.nodes.size(), false);
    emitted_.assign(graph_.nodes.size(), false);
    for (NodeId n = count; n-- > 0;)
      if (!moves_[n] || stays_[n]) emit(n);
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

  // Whether a reader's program may take it in.
  bool takes(NodeId reader, ValueId v) const {
    const Node& node = graph_.nodes[reader];
    const std::string_view name = node.op->name;
    if (name.substr(0, 6) == "Reduce") return true;
    if (!node.op->pointwise && name != "Cast") return false;
    const Type &made = graph_[node.outputs[0]].type, &type = graph_[v].type;
    return made.has_shape() && type.has_shape() && *made.shape == *type.shape;
  }

  // Readers that take it in have copies, if not all can be the first; others, and results, share the original, which
  // stays where it is.
  void divide(NodeId n, bool leaves) {
    const ValueId v = graph_.nodes[n].outputs[0];
    std::vector<NodeId> taking, sharing;
    for (NodeId reader : reads_[v]) (takes(reader, v) ? taking : sharing).push_back(reader);
    stays_[n] = leaves || !sharing.empty() || taking.empty();
    if (!stays_[n]) {
      sharing.push_back(taking[0]);
      taking.erase(taking.begin());
    }
    for (NodeId reader : taking) {
      const auto fresh = static_cast<ValueId>(graph_.values.size());
      Value value = graph_[v];
      value.def = static_cast<NodeId>(graph_.nodes.size());
      graph_.values.push_back(std::move(value));
      Node copy = graph_.nodes[n];
      copy.outputs = {fresh};
      for (ValueId& read : graph_.nodes[reader].inputs)
        if (read == v) read = fresh;
      reads_.push_back({reader});
      graph_.nodes.push_back(std::move(copy));
      moves_.push_back(true);
      note_reads(static_cast<NodeId>(graph_.nodes.size() - 1));
    }
    reads_[v] = std::move(sharing);
  }

  // Last node first: a node, and before it those that move to it.
  void emit(NodeId n) {
    emitted_[n] = true;
    order_.push_back(n);
    const Ids inputs = graph_.nodes[n].inputs;
    for (size_t i = inputs.size(); i-- > 0;) {
      const NodeId def = inputs[i] == no_id ? no_id : graph_[inputs[i]].def;
      if (def != no_id && moves_[def] && !stays_[def] && !emitted_[def]) emit(def);
    }
  }

  Graph& graph_;
  std::vector<bool> moves_, stays_, emitted_;  // by node
  std::vector<std::vector<NodeId>> reads_;     // by value, its readers
  std::vector<NodeId> order_;                  // the new one, from the last
};

}  // namespace

void divide_dequantizing(Graph& graph) { Divider(graph).run(); }

}  // namespace sinter
