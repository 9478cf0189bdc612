// What is known is not computed: constant operands, a known condition, the same work twice.

#include <fmt/core.h>

#include "passes/rules.h"

namespace sinter {
namespace {

constexpr Rule fold_rule = {"fold constants"};
constexpr Rule inline_if_rule = {"take the known branch of If"};
constexpr Rule common_rule = {"equal work once"};

// Constants up to this size are compared by their bytes, larger ones by where these lie.
constexpr int64_t max_compared_bytes = 256;

// Building the node again folds it when all its operands have become constants.
bool fold(Site& site, NodeId n) {
  const Node& node = site.graph.nodes[n];
  const auto& is = node.op->is;
  if (!node.bodies.empty() || !is.deterministic || is.never_fold || is.compact || node.inputs.empty()) return false;
  Ids inputs;
  for (size_t i = 0; i < node.inputs.size(); ++i) {
    const ValueId v = site.in(n, i);
    if (v != no_id && !site.graph[v].is_constant()) return false;
    inputs.push_back(v);
  }
  const Op& op = *node.op;
  const Attrs attrs = node.attrs;
  const Ids outputs = node.outputs;
  site.at({n});
  const Ids made = site.rw.build.add(op, attrs, std::move(inputs), outputs.size());
  bool changed = false;
  for (size_t o = 0; o < outputs.size(); ++o) {
    if (!site.graph[made[o]].is_constant()) return false;
    if (site.rw.uses(outputs[o]) > 0) changed = site.replace(outputs[o], made[o], fold_rule) || changed;
  }
  return changed;
}

// Extents that a node of a body found out, and what the same node outside of it calls them.
void rename_found(const Module& module, const Type& before, const Type& after, Substitutions& renamed) {
  if (!before.has_shape() || !after.has_shape() || before.shape->size() != after.shape->size()) return;
  for (size_t k = 0; k < before.shape->size(); ++k) {
    const auto id = (*before.shape)[k].as_symbol();
    if (id && module.symbols[*id].bound != Symbol::Bound::input && !(*after.shape)[k].mentions(*id))
      renamed.emplace(*id, (*after.shape)[k]);
  }
}

// Appends a body's nodes; its parameters are these values.
Ids inline_body(Site& site, const Graph& body, const Ids& parameters, Substitutions& renamed) {
  std::vector<ValueId> at(body.values.size(), no_id);
  for (size_t p = 0; p < body.inputs.size(); ++p) at[body.inputs[p]] = parameters[p];
  const auto outer = [&](ValueId v) {
    if (v == no_id || at[v] != no_id) return v == no_id ? no_id : at[v];
    at[v] = static_cast<ValueId>(site.graph.values.size());
    Value copy = body[v];
    copy.def = no_id;
    substitute(copy, renamed);
    site.graph.values.push_back(std::move(copy));
    return at[v];
  };
  for (const Node& node : body.nodes) {
    Ids inputs;
    for (ValueId v : node.inputs) inputs.push_back(outer(v));
    site.rw.build.set_sources(node.sources);
    std::vector<Graph> bodies = node.bodies;
    for (Graph& inner : bodies) substitute(inner, renamed);
    const Ids made = site.rw.build.add(*node.op, node.attrs, std::move(inputs), node.outputs.size(), std::move(bodies));
    for (size_t o = 0; o < made.size(); ++o) {
      at[node.outputs[o]] = made[o];
      rename_found(site.module, body[node.outputs[o]].type, site.graph[made[o]].type, renamed);
      if (site.graph[made[o]].name.empty()) site.graph[made[o]].name = body[node.outputs[o]].name;
    }
  }
  Ids results;
  for (ValueId v : body.outputs) results.push_back(outer(v));
  return results;
}

bool inline_if(Site& site, NodeId n) {
  const Tensor* condition = site.rw.peek(site.in(n, 0));
  if (!condition || condition->count() < 1 || site.graph.nodes[n].bodies.size() != 2) return false;
  const bool taken = condition->get_integer(0) != 0;
  const Graph body = site.graph.nodes[n].bodies[taken ? 0 : 1];
  const Ids outputs = site.graph.nodes[n].outputs;
  Ids parameters;
  for (size_t i = 1; i < site.graph.nodes[n].inputs.size(); ++i) parameters.push_back(site.in(n, i));
  if (parameters.size() != body.inputs.size() || body.outputs.size() != outputs.size()) return false;
  for (size_t o = 0; o < outputs.size(); ++o) {
    const Type &joined = site.type(outputs[o]), &own = body[body.outputs[o]].type;
    if (joined.kind != own.kind || (joined.has_shape() && !own.has_shape())) {
      site.refuse(inline_if_rule, n, "the branch knows less of its results than the node does");
      return false;
    }
  }
  Substitutions renamed;
  const Ids results = inline_body(site, body, parameters, renamed);
  bool changed = false;
  for (size_t o = 0; o < outputs.size(); ++o)
    changed = site.replace(outputs[o], results[o], inline_if_rule, taken ? "then" : "else") || changed;
  // Bodies within the branch speak of them too.
  if (changed) site.substitutions.insert(renamed.begin(), renamed.end());
  return changed;
}

constexpr NodeRule rules[] = {{nullptr, fold}, {"If", inline_if}};

}  // namespace

std::span<const NodeRule> constant_rules() { return rules; }

std::string CommonWork::operand_key(const Site& site, ValueId v) const {
  if (v == no_id) return "_";
  const Value& value = site.graph[v];
  if (!value.weight.empty()) return fmt::format("%{}", v);
  if (const auto* tensor = std::get_if<Tensor>(&value.contents)) {
    const std::string type = to_text(value.type, site.module.symbols);
    if (tensor->dtype() == DType::string) return fmt::format("%{}", v);
    const auto bytes = static_cast<size_t>(tensor->bytes());
    if (tensor->bytes() > max_compared_bytes) return fmt::format("{}@{}", type, tensor->data());
    return bytes == 0 ? type : type + "=" + std::string(tensor->as<char>(), bytes);
  }
  if (const auto* dims = std::get_if<std::vector<Dim>>(&value.contents)) {
    std::string key = to_text(value.type, site.module.symbols) + "=";
    for (const Dim& d : *dims) key += to_string(d, site.module.symbols) + ",";
    return key;
  }
  return fmt::format("%{}", v);
}

bool CommonWork::apply(Site& site, NodeId n) {
  const Node& node = site.graph.nodes[n];
  if (!node.op->is.deterministic || !node.bodies.empty()) return false;
  std::string key = fmt::format("{}/{}{}", node.op->name, node.outputs.size(), node.attrs.to_text());
  for (size_t i = 0; i < node.inputs.size(); ++i) {
    const std::string operand = operand_key(site, site.in(n, i));
    key += fmt::format("|{}:", operand.size());
    key += operand;
  }
  const auto [at, fresh] = seen_.emplace(std::move(key), n);
  if (fresh) return false;
  const Ids from = node.outputs, to = site.graph.nodes[at->second].outputs;
  bool changed = false;
  for (size_t o = 0; o < from.size(); ++o)
    // Types of the first may be those of before its operands became known: then it waits for the next round.
    if (site.rw.uses(from[o]) > 0 && (site.type(to[o]).has_shape() || !site.type(from[o]).has_shape()))
      changed = site.replace(from[o], to[o], common_rule) || changed;
  return changed;
}

}  // namespace sinter
