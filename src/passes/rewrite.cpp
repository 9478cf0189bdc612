// A site, and the walk over all graphs of a module that rewriting passes share.

#include <fmt/core.h>

#include <algorithm>

#include "ops/control.h"
#include "passes/rules.h"

namespace sinter {
namespace {

// Contents of operands that bodies may rely on: what decides shapes.
constexpr int64_t max_passed_elements = 64;

// More rounds than nests of rules need, and more turns of a refresh than extents that tell of each other.
constexpr size_t max_rounds = 64, max_turns = 256;

bool found_late(const SymbolTable& symbols, SymbolId id) {
  const Symbol::Bound bound = symbols[id].bound;
  return bound != Symbol::Bound::input && bound != Symbol::Bound::body_parameter;
}

// Symbols that the operands of a node speak of.
std::vector<SymbolId> operand_symbols(const Graph& graph, const Node& node, const std::vector<Type>* types) {
  std::vector<SymbolId> out;
  for (ValueId v : node.inputs) {
    if (v == no_id) continue;
    collect_symbols(types && v < types->size() ? (*types)[v] : graph[v].type, out);
    if (const auto* dims = std::get_if<std::vector<Dim>>(&graph[v].contents))
      for (const Dim& d : *dims) d.collect_symbols(out);
  }
  std::sort(out.begin(), out.end());
  return out;
}

// What a refresh learns. Only symbols that were there before it (numbers below `fresh`) are learnt, each at most once:
// `by` grows with every turn of a loop that goes on while something is learnt, and has no more than `fresh` entries, so
// each such loop ends. Nodes that call an extent by ever new names would else be learnt from without end.
struct Learnt {
  Substitutions by;
  SymbolId fresh;
};

// Where a node's result had a symbol that the node itself brought in, and more is known of the extent now.
void learn(const Module& module, const Type& before, const Type& after, std::span<const SymbolId> operands,
           SymbolId fresh, Substitutions& out) {
  if (!before.has_shape() || !after.has_shape() || before.shape->size() != after.shape->size()) return;
  for (size_t k = 0; k < before.shape->size(); ++k) {
    const Dim& now = (*after.shape)[k];
    const auto id = (*before.shape)[k].as_symbol();
    if (id && *id < fresh && !now.mentions(*id) && found_late(module.symbols, *id) &&
        !std::binary_search(operands.begin(), operands.end(), *id))
      out.emplace(*id, now);
  }
}

void substitute(Dim& d, const Substitutions& by) {
  // A later symbol's extent may mention an earlier one.
  for (size_t turn = 0; turn < by.size(); ++turn) {
    bool any = false;
    for (const auto& [id, dim] : by)
      if (d.mentions(id)) {
        d = d.substitute(id, dim);
        any = true;
      }
    if (!any) return;
  }
}

void substitute(Type& type, const Substitutions& by) {
  if (type.shape)
    for (Dim& d : *type.shape) substitute(d, by);
  if (!type.element) return;
  Type element = *type.element;
  substitute(element, by);
  type.element = std::make_shared<const Type>(std::move(element));
}

}  // namespace

void substitute(Value& value, const Substitutions& by) {
  substitute(value.type, by);
  if (auto* dims = std::get_if<std::vector<Dim>>(&value.contents))
    for (Dim& d : *dims) substitute(d, by);
}

void substitute(Graph& graph, const Substitutions& by) {
  if (by.empty()) return;
  for (Value& value : graph.values) substitute(value, by);
  for (Node& node : graph.nodes)
    for (Graph& body : node.bodies) substitute(body, by);
}

namespace {

void refresh(Module& module, Graph& graph, Learnt& known);

size_t captures_of_loop(const Node& node) {
  const LoopAttrs& attrs = node.attrs.as<LoopAttrs>();
  const size_t own = 2 + static_cast<size_t>(std::max<int64_t>(attrs.carried, 0)) + attrs.scan_axes.size();
  return node.inputs.size() - std::min(node.inputs.size(), own);
}

// Parameters of a body from the operands that are passed as they are.
void refresh_body(Module& module, const Graph& outer, const Node& node, Graph& body, size_t first_operand,
                  size_t first_parameter, Learnt& known) {
  for (size_t p = first_parameter; p < body.inputs.size(); ++p) {
    const size_t i = first_operand + p - first_parameter;
    if (i >= node.inputs.size() || node.inputs[i] == no_id) continue;
    const Value& operand = outer[node.inputs[i]];
    Value& parameter = body[body.inputs[p]];
    parameter.type = operand.type;
    const Tensor* tensor = std::get_if<Tensor>(&operand.contents);
    const bool passed = std::holds_alternative<std::vector<Dim>>(operand.contents) ||
                        (tensor && operand.weight.empty() && tensor->count() <= max_passed_elements);
    if (passed) parameter.contents = operand.contents;
  }
  refresh(module, body, known);
}

void refresh_bodies(Module& module, const Graph& graph, Node& node, Learnt& known) {
  const std::string_view name = node.op->name;
  for (Graph& body : node.bodies) substitute(body, known.by);
  for (Graph& body : node.bodies) {
    const Graph before = body;
    Learnt inner = known;
    try {
      const bool branch = name == "If";
      if (!branch && node.inputs.size() != body.inputs.size()) continue;
      // Of a loop, captures are the last operands.
      const size_t first_parameter = branch ? 0 : node.inputs.size() - captures_of_loop(node);
      for (size_t learnt = SIZE_MAX; learnt != inner.by.size();) {
        learnt = inner.by.size();
        refresh_body(module, graph, node, body, branch ? 1 : first_parameter, first_parameter, inner);
        // Known contents that no node gives any more speak of what was learnt, too.
        if (learnt != inner.by.size()) substitute(body, inner.by);
      }
    } catch (const Error&) {
      // What is wrong with a body is said when it runs: it may never do so.
      body = before;
    }
  }
}

void refresh(Module& module, Graph& graph, Learnt& known) {
  std::vector<Type> types;
  for (const Value& value : graph.values) types.push_back(value.type);
  for (NodeId n = 0; n < graph.nodes.size(); ++n) {
    Node& node = graph.nodes[n];
    if (!node.bodies.empty()) refresh_bodies(module, graph, node, known);
    std::vector<Type> before;
    for (ValueId v : node.outputs) before.push_back(graph[v].type);
    Inferred inferred;
    try {
      inferred = infer_node(module, graph, *node.op, node.attrs, node.inputs, node.bodies, before, node.outputs.size());
    } catch (Error& error) {
      if (!node.sources.empty()) error.at_node(module.sources[node.sources[0]].name);
      if (node.bodies.empty()) throw;
      continue;
    }
    const auto symbols = operand_symbols(graph, node, &types);
    for (size_t o = 0; o < node.outputs.size(); ++o) {
      Value& value = graph[node.outputs[o]];
      learn(module, before[o], inferred.types[o], symbols, known.fresh, known.by);
      value.type = std::move(inferred.types[o]);
      if (!value.is_constant()) value.contents = std::move(inferred.contents[o]);
    }
  }
}

size_t count_nodes(const Graph& graph) {
  size_t count = graph.nodes.size();
  for (const Node& node : graph.nodes)
    for (const Graph& body : node.bodies) count += count_nodes(body);
  return count;
}

[[noreturn]] void endless(const Journal& journal, const char* what, size_t rounds) {
  const auto last = std::find_if(journal.entries.rbegin(), journal.entries.rend(),
                                 [](const Journal::Entry& entry) { return entry.number > 0; });
  throw Error(Code::internal, fmt::format("{} in {} rounds; the last rule was '{}'; please report the model", what,
                                          rounds, last == journal.entries.rend() ? "none" : last->rule));
}

std::string refusal_key(std::string_view rule, std::string_view reason, const Sources& sources) {
  std::string key;
  key += rule;
  key += '\n';
  key += reason;
  key += '\n';
  for (uint32_t s : sources) key += std::to_string(s) + ' ';
  return key;
}

// Nobody speaks any more of extents that replaced values had, neither values nor bodies: else the nodes of these values
// would stay to find them out, and they and what replaced them would call the extent by ever new names in turn.
void forget(Site& site) {
  Graph& graph = site.graph;
  for (ValueId v = 0; v < graph.values.size(); ++v)
    if (site.rw.resolve(v) == v) substitute(graph.values[v], site.substitutions);
  for (Node& node : graph.nodes)
    if (std::any_of(node.outputs.begin(), node.outputs.end(), [&](ValueId v) { return site.rw.resolve(v) == v; }))
      for (Graph& body : node.bodies) substitute(body, site.substitutions);
}

bool rewrite_graph(Module& module, Graph& graph, Rounds& rounds, void (*visit)(Site& site, void* user), void* user,
                   Substitutions& known) {
  bool changed = false;
  for (Node& node : graph.nodes)
    for (Graph& body : node.bodies) changed = rewrite_graph(module, body, rounds, visit, user, known) || changed;
  const size_t nodes = graph.nodes.size(), values = graph.values.size();
  Site site(module, graph, rounds);
  visit(site, user);
  changed = site.rw.changed() || changed;
  if (site.rw.changed() || graph.nodes.size() != nodes || graph.values.size() != values) {
    forget(site);
    site.rw.finish();
  }
  known.insert(site.substitutions.begin(), site.substitutions.end());
  return changed;
}

}  // namespace

Site::Site(Module& m, Graph& g, Rounds& rounds) : rw(m, g, rounds.journal), module(m), graph(g), rounds_(rounds) {}

ValueId Site::in(NodeId n, size_t i) const {
  const Node& node = graph.nodes[n];
  return i < node.inputs.size() ? rw.resolve(node.inputs[i]) : no_id;
}

std::optional<NodeId> Site::def(ValueId v, std::string_view op) const {
  v = rw.resolve(v);
  if (v == no_id || graph[v].has_contents() || graph[v].def == no_id) return std::nullopt;
  if (graph[v].type.is_tensor() && !graph[v].type.has_shape()) return std::nullopt;
  if (graph.nodes[graph[v].def].op->name != op) return std::nullopt;
  return graph[v].def;
}

bool Site::same_type(ValueId a, ValueId b) const {
  const Type &x = graph[a].type, &y = graph[b].type;
  if (!x.is_tensor() && x == y) return true;
  if (!x.has_shape() || !y.has_shape() || x.dtype != y.dtype || x.shape->size() != y.shape->size()) return false;
  for (size_t k = 0; k < x.shape->size(); ++k) {
    const Dim &d = (*x.shape)[k], &e = (*y.shape)[k];
    if (!(d == e) && prove(module.symbols, {Fact::Kind::equal, d, e, {}}) != Proof::yes) return false;
  }
  return true;
}

bool Site::is_built(ValueId v) const {
  std::vector<ValueId> stack = {rw.resolve(v)};
  for (size_t seen = 0; !stack.empty(); ++seen) {
    const ValueId at = stack.back();
    stack.pop_back();
    if (at == no_id || graph[at].is_constant()) continue;
    const NodeId def = graph[at].def;
    if (def == no_id || seen > 64) return false;
    const Node& node = graph.nodes[def];
    if (!node.op->is.deterministic || node.op->is.never_fold || !node.bodies.empty()) return false;
    for (ValueId i : node.inputs) stack.push_back(rw.resolve(i));
  }
  return true;
}

std::optional<std::vector<int64_t>> Site::integers(ValueId v) const {
  const auto dims = rw.build.integers_of(rw.resolve(v));
  if (!dims) return std::nullopt;
  std::vector<int64_t> out;
  for (const Dim& d : *dims) {
    if (!d.is_constant()) return std::nullopt;
    out.push_back(d.constant());
  }
  return out;
}

void Site::at(std::initializer_list<NodeId> nodes) {
  Sources sources;
  for (NodeId n : nodes)
    for (uint32_t s : graph.nodes[n].sources)
      if (std::find(sources.begin(), sources.end(), s) == sources.end()) sources.push_back(s);
  rw.build.set_sources(std::move(sources));
}

ValueId Site::reshape(ValueId x, const Shape& shape) {
  // 0 in the shape would copy an extent of the operand, also where a symbol turns out to be 0.
  bool positive = true;
  for (const Dim& d : shape) positive = positive && d.is_constant() && d.constant() > 0;
  const Op& op = op_named("Reshape");
  return rw.build.op("Reshape", pattern::attrs_of(op, positive ? "" : "{allow_zero=true}"), {x, rw.build.dims(shape)});
}

bool Site::extents_known(NodeId n) const {
  const Node& node = graph.nodes[n];
  const Type& result = graph[node.outputs[0]].type;
  if (!result.has_shape()) return false;
  std::vector<SymbolId> ids, operands;
  collect_symbols(result, ids);
  for (ValueId v : node.inputs) {
    if (v == no_id) continue;
    const Value& value = graph[rw.resolve(v)];
    collect_symbols(value.type, operands);
    if (const auto* dims = std::get_if<std::vector<Dim>>(&value.contents))
      for (const Dim& d : *dims) d.collect_symbols(operands);
  }
  return std::all_of(ids.begin(), ids.end(), [&](SymbolId id) {
    return !found_late(module.symbols, id) || std::find(operands.begin(), operands.end(), id) != operands.end();
  });
}

bool Site::replace(ValueId old_value, ValueId new_value, const Rule& rule, std::string note) {
  old_value = rw.resolve(old_value);
  new_value = rw.resolve(new_value);
  if (old_value == new_value) return false;
  const Type before = graph[old_value].type;
  std::vector<SymbolId> symbols;
  if (const NodeId def = graph[old_value].def; def != no_id)
    symbols = operand_symbols(graph, graph.nodes[def], nullptr);
  if (!rw.replace(old_value, new_value, rule, std::move(note))) return false;
  learn(module, before, graph[new_value].type, symbols, no_id, substitutions);
  return true;
}

void Site::refuse(const Rule& rule, NodeId n, std::string reason) {
  const Node& node = graph.nodes[n];
  std::string key = refusal_key(rule.name, reason, node.sources);
  if (node.sources.empty()) key += graph[out(n)].name;
  if (rounds_.refused.insert(std::move(key)).second) rw.refuse(rule, node, std::move(reason));
}

Rounds::Rounds(Journal& j) : journal(j) {
  for (const Journal::Entry& entry : journal.entries)
    if (entry.number == 0 && !entry.sources.empty()) refused.insert(refusal_key(entry.rule, entry.note, entry.sources));
}

bool rewrite_graphs(Module& module, Rounds& rounds, void (*visit)(Site& site, void* user), void* user) {
  Learnt known{{}, no_id};
  if (!rewrite_graph(module, *module.main, rounds, visit, user, known.by)) return false;
  known.fresh = static_cast<SymbolId>(module.symbols.size());
  // What is learnt of one extent may tell more of others.
  for (size_t before = SIZE_MAX, turn = 0; before != known.by.size(); ++turn) {
    if (turn == max_turns) endless(rounds.journal, "extents do not settle", turn);
    before = known.by.size();
    substitute(*module.main, known.by);
    refresh(module, *module.main, known);
  }
  return true;
}

bool rewrite_to_the_end(Module& module, Rounds& rounds, void (*visit)(Site& site, void* user), void* user) {
  const size_t most = max_rounds + count_nodes(*module.main);
  size_t round = 0;
  for (; rewrite_graphs(module, rounds, visit, user); ++round)
    if (round == most) endless(rounds.journal, "rewriting does not end", round);
  return round > 0;
}

}  // namespace sinter
