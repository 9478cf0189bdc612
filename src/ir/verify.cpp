#include "ir/verify.h"

#include <fmt/core.h>

#include "ir/text.h"

namespace sinter {
namespace {

class Verifier {
 public:
  explicit Verifier(const Module& module) : module_(module) {}

  void graph(const Graph& graph, int depth) {
    if (depth > 64) throw Error(Code::limit, "bodies nested deeper than 64");
    std::vector<bool> defined(graph.values.size(), false);
    for (ValueId v : graph.inputs) {
      if (v >= graph.values.size() || defined[v]) fail("an input is listed twice or does not exist");
      defined[v] = true;
    }
    for (ValueId v = 0; v < graph.values.size(); ++v)
      if (graph[v].has_contents()) defined[v] = true;
    for (NodeId n = 0; n < graph.nodes.size(); ++n) {
      const Node& node = graph.nodes[n];
      for (ValueId v : node.inputs) {
        if (v == no_id) continue;
        if (v >= graph.values.size() || !defined[v]) fail(graph, n, "reads a value before it is defined");
      }
      for (ValueId v : node.outputs) {
        if (v >= graph.values.size()) fail(graph, n, "has a result that does not exist");
        if (graph[v].def != n) fail(graph, n, "has a result that another node defines");
        if (graph[v].type.kind == Type::Kind::invalid) fail(graph, n, "has a result without type");
        defined[v] = true;
      }
      for (const Graph& body : node.bodies) this->graph(body, depth + 1);
    }
    for (ValueId v : graph.outputs)
      if (v >= graph.values.size() || !defined[v]) fail("a result of the graph is not defined");
  }

 private:
  [[noreturn]] void fail(std::string_view rule) { throw Error(Code::internal, fmt::format("graph: {}", rule)); }
  [[noreturn]] void fail(const Graph& graph, NodeId n, std::string_view rule) {
    throw Error(Code::internal, fmt::format("node {}: {}", n, rule) + "\n  " + node_text(graph, n, module_.symbols));
  }
  const Module& module_;
};

}  // namespace

void verify(const Module& module) { Verifier(module).graph(*module.main, 0); }

}  // namespace sinter
