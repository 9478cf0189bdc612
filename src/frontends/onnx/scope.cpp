// Names to values: lookups through scopes, values brought into bodies, bodies, calls of functions.

#include <fmt/core.h>

#include "base/scanner.h"
#include "frontends/onnx/importer.h"
#include "frontends/onnx/wire.h"

namespace sinter::onnx {
namespace {

constexpr int max_function_depth = 32;
constexpr int max_depth = 64;  // of bodies and calls together

}  // namespace

std::optional<ValueId> Importer::resolve(Scope& scope, std::string_view name) {
  if (const auto found = scope.values.find(name); found != scope.values.end()) return found->second;
  if (const auto found = scope.borrowed.find(name); found != scope.borrowed.end()) return found->second;
  // Constants go straight to where they are read: graphs between stay as they are.
  Scope* holder = &scope;
  while (holder && !holder->values.count(name) && !holder->initializers.count(name)) holder = holder->parent;
  if (!holder) return std::nullopt;
  if (const auto found = holder->initializers.find(name); found != holder->initializers.end()) {
    const ValueId v = scope.building.b.constant(found->second->tensor, holder->prefix + std::string(name));
    scope.borrowed.emplace(name, v);
    return v;
  }
  const std::optional<ValueId> outer = resolve(*scope.parent, name);
  if (!outer || *outer == no_id || &scope.parent->building == &scope.building) return outer;
  return bring(scope.building, *outer);
}

ValueId Importer::bring(Building& inner, ValueId outer) {
  const auto [at, fresh] = inner.brought.try_emplace(outer, no_id);
  if (!fresh) return at->second;
  if (is_poison(*inner.outer, outer)) {
    ++poisonings_;
    return at->second = poison(inner);
  }
  const Value value = inner.outer->b.graph[outer];
  if (value.has_contents()) {
    std::vector<Value>& values = inner.b.graph.values;
    values.push_back(
        {.type = value.type, .contents = value.contents, .def = no_id, .name = value.name, .weight = value.weight});
    return at->second = static_cast<ValueId>(values.size() - 1);
  }
  inner.captures->push_back(outer);
  return at->second = inner.b.input(value.type, value.name);
}

void Importer::check_depth(const Scope& scope) {
  if (scope.depth >= max_depth)
    give_up(Error(Code::limit, fmt::format("bodies and functions nest deeper than {}", max_depth)));
}

std::vector<const ValueInfo*> Importer::own_inputs(Scope& scope, const Graph& graph, size_t count) const {
  // Old files list initializers among the inputs.
  std::vector<const ValueInfo*> own;
  for (const ValueInfo& info : graph.inputs)
    if (graph.inputs.size() == count || !scope.initializers.count(info.name)) own.push_back(&info);
  if (own.size() != count)
    throw Error(Code::model_invalid,
                fmt::format("its body '{}' has {} inputs, {} are needed", shown(graph.name), own.size(), count));
  for (const ValueInfo* info : own) scope.initializers.erase(info->name);
  return own;
}

sinter::Graph Importer::body(const Graph& graph, std::span<const Type> parameters, Ids& captures) {
  Scope& around = *scope_;
  check_depth(around);
  sinter::Graph out;
  Building building{GraphBuilder(module_, out), &around.building, &captures};
  Scope scope{building, &around, around.opsets, around.call, around.prefix, around.functions, around.depth + 1};
  set_initializers(scope, graph);
  const std::vector<const ValueInfo*> own = own_inputs(scope, graph, parameters.size());
  for (size_t i = 0; i < own.size(); ++i) {
    if (parameters[i].kind == Type::Kind::invalid) ++poisonings_;
    define(scope, own[i]->name, building.b.input(parameters[i], scope.prefix + std::string(own[i]->name)));
  }
  // What other bodies of the node captured comes first, in their order.
  for (const ValueId v : captures) {
    const Value& value = around.building.b.graph[v];
    building.brought.emplace(v, building.b.input(value.type, value.name));
  }
  import_nodes(scope, graph.nodes);
  out.outputs = results_of_graph(scope, graph);
  return out;
}

Ids Importer::results_of_graph(Scope& scope, const Graph& graph) {
  Ids results;
  for (const ValueInfo& info : graph.outputs) {
    const std::optional<ValueId> v = resolve(scope, info.name);
    if (!v || *v == no_id) {
      report(Error(Code::model_invalid,
                   fmt::format("output '{}' of body '{}' is made by no node", shown(info.name), shown(graph.name))));
      results.push_back(poison(scope.building));
      continue;
    }
    results.push_back(*v);
  }
  return results;
}

Ids Importer::inlined(const Graph& graph, const Ids& parameters) {
  Scope& around = *scope_;
  check_depth(around);
  Scope scope{around.building, &around, around.opsets, around.call, around.prefix, around.functions, around.depth + 1};
  set_initializers(scope, graph);
  const std::vector<const ValueInfo*> own = own_inputs(scope, graph, parameters.size());
  for (size_t i = 0; i < own.size(); ++i) define(scope, own[i]->name, parameters[i]);
  import_nodes(scope, graph.nodes);
  return results_of_graph(scope, graph);
}

Ids Importer::inline_call(Scope& around, const Node& node, const Function& function, const Ids& inputs) {
  if (around.functions >= max_function_depth || around.depth >= max_depth)
    give_up(Error(Code::limit, fmt::format("function '{}' is called more than {} calls deep; it may call itself",
                                           shown(function.name), max_function_depth)));
  if (inputs.size() > function.inputs.size())
    throw Error(Code::model_invalid,
                fmt::format("{} inputs, the function has {}", inputs.size(), function.inputs.size()));
  if (node.outputs.size() > function.outputs.size())
    throw Error(Code::model_invalid,
                fmt::format("{} outputs, the function has {}", node.outputs.size(), function.outputs.size()));
  Call call;
  for (const auto& a : function.defaults) call.attributes[a->name] = a;
  for (const auto& a : node.attributes)
    if (auto resolved = attribute(node, a->name)) call.attributes[a->name] = std::move(resolved);
  Scope scope{around.building,
              nullptr,
              function.opsets,
              &call,
              fmt::format("{}{}/", around.prefix, shown(node.name.empty() ? function.name : node.name)),
              around.functions + 1,
              around.depth + 1};
  for (size_t i = 0; i < function.inputs.size(); ++i)
    define(scope, function.inputs[i], i < inputs.size() ? inputs[i] : no_id);
  import_nodes(scope, function.nodes);
  Ids results;
  for (size_t i = 0; i < node.outputs.size(); ++i) {
    const std::optional<ValueId> v = resolve(scope, function.outputs[i]);
    if (!v && !node.outputs[i].empty())
      throw Error(Code::model_invalid,
                  fmt::format("output '{}' of the function is made by no node", shown(function.outputs[i])));
    if (v && is_poison(scope.building, *v)) ++poisonings_;
    results.push_back(v.value_or(no_id));
  }
  return results;
}

// The attribute of a node, a reference followed to the call around it; null when there is none.
std::shared_ptr<const Attribute> Importer::attribute(const Node& node, std::string_view name) const {
  for (const auto& a : node.attributes) {
    if (a->name != name) continue;
    if (a->ref.empty()) return a;
    if (!scope_->call) return nullptr;
    const auto found = scope_->call->attributes.find(a->ref);
    return found == scope_->call->attributes.end() ? nullptr : found->second;
  }
  return nullptr;
}

}  // namespace sinter::onnx
