#include "builder/branches.h"

#include <fmt/core.h>

#include <algorithm>
#include <set>

#include "ir/builder.h"
#include "ops/refusal.h"

namespace sinter {
namespace {

bool is(const Node& node, std::string_view name) { return node.op->name == name; }

bool any_branch(const Graph& graph) {
  return std::any_of(graph.nodes.begin(), graph.nodes.end(), [](const Node& node) {
    return is(node, "If") || std::any_of(node.bodies.begin(), node.bodies.end(), any_branch);
  });
}

class Search {
 public:
  Search(Module& module, const Error& error) : module_(module), error_(error) {}

  // Whether the graph, or a body in it, has the node. The innermost branch on the way is replaced; an If has to keep
  // one branch, else the fault is of the branch around it.
  bool visit(Graph& graph) {
    for (Node& node : graph.nodes) {
      for (size_t k = 0; k < node.bodies.size(); ++k) {
        if (!visit(node.bodies[k])) continue;
        if (branch_.empty() && is(node, "If") && !is_refused(node.bodies[1 - k])) {
          branch_ = fmt::format("the {} branch of '{}'", k == 0 ? "then" : "else", name_of(node));
          replace(node.bodies[k]);
        }
        return true;
      }
      if (!is(node, "Refuse") && name_of(node) == error_.origin().node) return true;
    }
    return false;
  }

  const std::string& branch() const { return branch_; }

  // Nodes of the model that have the name; names need not be unique.
  void namesakes(const Graph& graph, std::set<uint32_t>& out) const {
    for (const Node& node : graph.nodes) {
      if (!is(node, "Refuse") && name_of(node) == error_.origin().node) out.insert(node.sources[0]);
      for (const Graph& body : node.bodies) namesakes(body, out);
    }
  }

 private:
  std::string name_of(const Node& node) const {
    return node.sources.empty() ? std::string() : module_.sources[node.sources[0]].name;
  }

  static bool is_refused(const Graph& body) { return body.nodes.size() == 1 && is(body.nodes[0], "Refuse"); }

  void replace(Graph& body) {
    RefuseAttrs attrs{
        .message = fmt::format("this branch cannot be taken: node '{}': {}", error_.origin().node, error_.message()),
        .types = {}};
    for (const ValueId v : body.outputs) attrs.types.push_back(to_text(body[v].type, module_.symbols));
    Graph fresh;
    GraphBuilder b(module_, fresh);
    for (const ValueId v : body.inputs) b.input(body[v].type, body[v].name);
    fresh.outputs = b.add(op_named("Refuse"), attrs, {}, body.outputs.size());
    body = std::move(fresh);
  }

  Module& module_;
  const Error& error_;
  std::string branch_;
};

}  // namespace

bool has_branches(const Module& module) { return any_branch(*module.main); }

std::string refuse_branch(Module& module, const Error& error) {
  if (error.origin().node.empty()) return {};
  Search search(module, error);
  std::set<uint32_t> nodes;
  search.namesakes(*module.main, nodes);
  if (nodes.size() != 1) return {};  // which of them it is cannot be told
  search.visit(*module.main);
  return search.branch();
}

}  // namespace sinter
