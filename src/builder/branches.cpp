#include "builder/branches.h"

#include <fmt/core.h>

#include <algorithm>

#include "ir/builder.h"
#include "ir/copy.h"
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

  // Graphs that have nodes of the name that the error blames, in the order of a walk. Names need not be unique.
  std::vector<Graph*> homes() const {
    std::vector<Graph*> out;
    collect(*module_.main, out);
    return out;
  }

  // Gives the nodes of the name in each of these graphs of the module a name of their own.
  void tell_apart(const std::vector<Graph*>& homes) {
    const std::string name = error_.origin().node;
    for (size_t k = 0; k < homes.size(); ++k)
      for (Node& node : homes[k]->nodes)
        if (is_blamed(node, name)) {
          Source own = module_.sources[node.sources[0]];
          own.name = numbered(k);
          node.sources[0] = static_cast<uint32_t>(module_.sources.size());
          module_.sources.push_back(std::move(own));
        }
  }

  // Whether `graph` is `home` or has it in a body. The innermost branch on the way is replaced; an If has to keep one
  // branch, else the fault is of the branch around it.
  bool visit(Graph& graph, const Graph* home) {
    if (&graph == home) return true;
    for (Node& node : graph.nodes)
      for (size_t k = 0; k < node.bodies.size(); ++k) {
        if (!visit(node.bodies[k], home)) continue;
        if (branch_.empty() && is(node, "If") && !is_refused(node.bodies[1 - k])) {
          branch_ = fmt::format("the {} branch of '{}'", k == 0 ? "then" : "else", name_of(node));
          replace(node.bodies[k]);
        }
        return true;
      }
    return false;
  }

  const std::string& branch() const { return branch_; }

  // A name that no node of a model has: theirs hold no control characters.
  static std::string numbered(size_t home) { return "\n" + std::to_string(home); }

 private:
  std::string name_of(const Node& node) const {
    return node.sources.empty() ? std::string() : module_.sources[node.sources[0]].name;
  }

  bool is_blamed(const Node& node, const std::string& name) const {
    return !is(node, "Refuse") && name_of(node) == name;
  }

  void collect(Graph& graph, std::vector<Graph*>& out) const {
    const std::string& name = error_.origin().node;
    if (std::any_of(graph.nodes.begin(), graph.nodes.end(), [&](const Node& node) { return is_blamed(node, name); }))
      out.push_back(&graph);
    for (Node& node : graph.nodes)
      for (Graph& body : node.bodies) collect(body, out);
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

std::string refuse_branch(Module& module, const Error& error, const std::function<std::string(Module)>& blamed) {
  if (error.origin().node.empty()) return {};
  Search search(module, error);
  const std::vector<Graph*> homes = search.homes();
  size_t which = 0;
  if (homes.size() > 1) {
    Module apart = copy(module);
    Search there(apart, error);
    there.tell_apart(there.homes());
    const std::string number = blamed(std::move(apart));
    while (which < homes.size() && Search::numbered(which) != number) ++which;
  }
  if (which >= homes.size()) return {};
  search.visit(*module.main, homes[which]);
  return search.branch();
}

}  // namespace sinter
