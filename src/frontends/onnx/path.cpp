// A part of a model as a graph of its own: what leads from some values to another.

#include <fmt/format.h>

#include <algorithm>

#include "frontends/onnx/importer.h"

namespace sinter::onnx {

const Importer::Makers& Importer::makers_of(const std::vector<Node>& nodes) {
  const auto [at, fresh] = makers_.try_emplace(&nodes);
  if (fresh)
    for (const Node& node : nodes)
      for (std::string_view name : node.outputs)
        if (!name.empty()) at->second.emplace(name, &node);
  return at->second;
}

const Node* Importer::maker_of(const Scope& scope, std::string_view name) {
  for (const Scope* s = &scope; s; s = s->parent) {
    if (s->nodes) {
      const Makers& makers = makers_of(*s->nodes);
      if (const auto found = makers.find(name); found != makers.end()) return found->second;
    }
    if (s->values.count(name) || s->initializers.count(name)) return nullptr;
  }
  return nullptr;
}

// Nodes that `to` depends on, no further than `from`; producers come first.
std::vector<Node> Importer::upstream(std::string_view to, const Names& from) {
  std::vector<Node> nodes;
  std::unordered_set<const Node*> seen;
  Names asked;
  std::vector<std::string_view> open = {to};
  while (!open.empty()) {
    const std::string_view name = open.back();
    open.pop_back();
    if (name.empty() || from.count(name) || !asked.insert(name).second) continue;
    const Node* maker = maker_of(*scope_, name);
    if (!maker || !seen.insert(maker).second) continue;
    count_nodes(1);
    nodes.push_back(*maker);
    Names read;
    names_read(*maker, read);
    open.insert(open.end(), read.begin(), read.end());
  }
  std::vector<Node> sorted;
  for (const uint32_t n : import_order(nodes)) sorted.push_back(std::move(nodes[n]));
  return sorted;
}

sinter::Graph Importer::path(const std::vector<std::string_view>& from, std::string_view to,
                             std::span<const Type> parameters, Ids& captures) {
  const Names ends(from.begin(), from.end());
  Graph& graph = paths_.emplace_back();
  graph.name = to;
  Names reached = ends;
  for (Node& node : upstream(to, ends)) {
    Names read;
    names_read(node, read);
    // What does not depend on the ends has been computed where it stands.
    if (std::none_of(read.begin(), read.end(), [&](std::string_view name) { return reached.count(name) > 0; }))
      continue;
    reached.insert(node.outputs.begin(), node.outputs.end());
    reached.erase(std::string_view());
    // A node may make one of the ends besides: that result has another name here.
    for (std::string_view& name : node.outputs)
      if (ends.count(name)) name = {};
    graph.nodes.push_back(std::move(node));
  }
  for (std::string_view name : from) graph.inputs.push_back({name, {}});
  graph.outputs.push_back({to, {}});
  sinter::Graph made = body(graph, parameters, captures);
  // Gradients of gradients grow with every order.
  count_nodes(made.nodes.size());
  return made;
}

sinter::Graph NodeContext::path(std::initializer_list<std::string_view> from, std::string_view to,
                                std::span<const Type> parameters, Ids& captures) const {
  std::vector<std::string_view> names;
  for (std::string_view attribute : from)
    if (const auto a = importer_.attribute(node, attribute)) {
      if (a->kind == Attribute::Kind::string) names.push_back(a->s);
      names.insert(names.end(), a->strings.begin(), a->strings.end());
    }
  const auto result = importer_.attribute(node, to);
  if (!result || result->kind != Attribute::Kind::string || result->s.empty())
    fail(fmt::format("attribute '{}' names no value", to));
  return importer_.path(names, result->s, parameters, captures);
}

}  // namespace sinter::onnx
