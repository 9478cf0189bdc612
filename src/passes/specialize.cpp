// specialize: what follows an If whose branches have values of different rank moves into the branches.
//
// Exporters write "squeeze if the extent is 1" as an If, and every value behind it would have an unknown rank and run
// by reference. With the continuation inside, each branch knows its ranks, conditions on them fold, and an If with a
// known condition is replaced by its branch. A continuation that is not valid for one of the branches (it may never be
// taken) stays there as it was, with the rank unknown.

#include <fmt/format.h>

#include <algorithm>
#include <map>

#include "ops/control.h"
#include "passes/passes.h"

namespace sinter {
namespace {

// Copies of a continuation cost build time and plan size.
constexpr size_t max_continuation = 500;  // nodes
constexpr int max_splits = 4;             // nested ones

bool is(const Node& node, std::string_view name) { return node.op->name == name; }

bool has_control(const Graph& graph) {
  return std::any_of(graph.nodes.begin(), graph.nodes.end(), [](const Node& node) { return !node.bodies.empty(); });
}

// Where values of the old graph stand in the new one, and what its symbols became there.
struct Env {
  std::vector<ValueId> at;
  std::map<SymbolId, Dim> symbols;
};

class Specializer {
 public:
  explicit Specializer(Module& module) : module_(module) {}

  std::unique_ptr<Graph> run() {
    const Graph& old = *module_.main;
    auto fresh = std::make_unique<Graph>();
    GraphBuilder b(module_, *fresh);
    Env env{std::vector<ValueId>(old.values.size(), no_id), {}};
    for (ValueId v : old.inputs) env.at[v] = b.input(old[v].type, old[v].name);
    fresh->outputs = rebuild(old, 0, std::move(env), b, max_splits);
    for (size_t i = 0; i < old.outputs.size(); ++i) {
      // A result keeps the name of the output that it is; an input or constant may be one as well.
      Value& value = (*fresh)[fresh->outputs[i]];
      if (value.name.empty()) value.name = old[old.outputs[i]].name;
    }
    return fresh;
  }

  int splits() const { return splits_; }
  int inlined() const { return inlined_; }

 private:
  Dim renamed(const Dim& d, const Env& env) const {
    std::vector<SymbolId> ids;
    d.collect_symbols(ids);
    Dim out = d;
    for (SymbolId id : ids)
      if (const auto by = env.symbols.find(id); by != env.symbols.end()) out = out.substitute(id, by->second);
    return out;
  }

  Type renamed(Type type, const Env& env) const {
    if (type.shape)
      for (Dim& d : *type.shape) d = renamed(d, env);
    if (type.element) type.element = std::make_shared<const Type>(renamed(*type.element, env));
    return type;
  }

  ValueId get(const Graph& old, ValueId v, Env& env, GraphBuilder& b) const {
    if (v == no_id || env.at[v] != no_id) return v == no_id ? no_id : env.at[v];
    if (!old[v].has_contents()) throw Error(Code::internal, "specialize reads a value before it is made");
    Value copy = old[v];
    copy.def = no_id;
    copy.type = renamed(copy.type, env);
    if (auto* dims = std::get_if<std::vector<Dim>>(&copy.contents))
      for (Dim& d : *dims) d = renamed(d, env);
    env.at[v] = static_cast<ValueId>(b.graph.values.size());
    b.graph.values.push_back(std::move(copy));
    return env.at[v];
  }

  void place(const Graph& old, std::span<const ValueId> from, std::span<const ValueId> to, Env& env,
             GraphBuilder& b) const {
    for (size_t o = 0; o < from.size(); ++o) {
      env.at[from[o]] = to[o];
      Value& value = b.graph[to[o]];
      if (value.name.empty()) value.name = old[from[o]].name;
      const Type& before = old[from[o]].type;
      if (!before.has_shape() || !value.type.has_shape() || before.shape->size() != value.type.shape->size()) continue;
      for (size_t k = 0; k < before.shape->size(); ++k)
        if (const auto id = (*before.shape)[k].as_symbol(); id && module_.symbols[*id].bound != Symbol::Bound::input)
          env.symbols.insert_or_assign(*id, (*value.type.shape)[k]);
    }
  }

  // Nodes from `first` on, and the results of the graph.
  Ids rebuild(const Graph& old, size_t first, Env env, GraphBuilder& b, int splits) {
    for (size_t n = first; n < old.nodes.size(); ++n) {
      const Node& node = old.nodes[n];
      Ids inputs;
      for (ValueId v : node.inputs) inputs.push_back(get(old, v, env, b));
      b.set_sources(node.sources);
      if (is(node, "If")) {
        if (const Tensor* condition = b.constant_of(inputs[0]); condition && condition->count() > 0) {
          const Graph& taken = node.bodies[condition->get_integer(0) != 0 ? 0 : 1];
          place(old, node.outputs, inlined_body(taken, std::span(inputs).subspan(1), env, b), env, b);
          ++inlined_;
          continue;
        }
        std::vector<Graph> bodies = rebuilt_branches(node, inputs, env, b);
        if (splits > 0 && old.nodes.size() - n <= max_continuation && ranks_differ(bodies))
          return split(old, n, std::move(env), b, splits - 1);
        place(old, node.outputs, b.add(*node.op, node.attrs, inputs, node.outputs.size(), std::move(bodies)), env, b);
      } else if (is(node, "Loop")) {
        std::vector<Graph> bodies;
        bodies.push_back(rebuilt_loop(node, inputs, env, b));
        place(old, node.outputs, b.add(*node.op, node.attrs, inputs, node.outputs.size(), std::move(bodies)), env, b);
      } else {
        place(old, node.outputs, b.add(*node.op, node.attrs, inputs, node.outputs.size(), node.bodies), env, b);
      }
    }
    Ids outputs;
    for (ValueId v : old.outputs) outputs.push_back(get(old, v, env, b));
    return outputs;
  }

  Ids inlined_body(const Graph& body, std::span<const ValueId> parameters, const Env& outer, GraphBuilder& b) {
    Env env{std::vector<ValueId>(body.values.size(), no_id), outer.symbols};
    for (size_t i = 0; i < body.inputs.size(); ++i) env.at[body.inputs[i]] = parameters[i];
    // Without splits: one would take the end of this body for the end of the graph around it.
    return rebuild(body, 0, std::move(env), b, 0);
  }

  std::vector<Graph> rebuilt_branches(const Node& node, const Ids& inputs, const Env& outer, GraphBuilder& b) {
    std::vector<Graph> bodies;
    for (const Graph& body : node.bodies) {
      Graph fresh;
      GraphBuilder inner(module_, fresh);
      Env env{std::vector<ValueId>(body.values.size(), no_id), outer.symbols};
      for (size_t i = 0; i < body.inputs.size(); ++i)
        env.at[body.inputs[i]] = inner.input(b.type(inputs[1 + i]), body[body.inputs[i]].name);
      fresh.outputs = rebuild(body, 0, std::move(env), inner, max_splits);
      bodies.push_back(std::move(fresh));
    }
    return bodies;
  }

  // Carried parameters keep their declared types under symbols of their own, captures take the types they have now.
  Graph rebuilt_loop(const Node& node, const Ids& inputs, const Env& outer, GraphBuilder& b) {
    const Graph& body = node.bodies[0];
    const LoopAttrs& attrs = node.attrs.as<LoopAttrs>();
    const size_t own = 2 + static_cast<size_t>(attrs.carried) + attrs.scan_axes.size();
    Graph fresh;
    GraphBuilder inner(module_, fresh);
    Env env{std::vector<ValueId>(body.values.size(), no_id), outer.symbols};
    for (size_t i = 0; i < body.inputs.size(); ++i) {
      const Value& parameter = body[body.inputs[i]];
      Type type = parameter.type;
      if (i >= own) {
        type = b.type(inputs[i]);
      } else {
        std::vector<SymbolId> ids;
        collect_symbols(type, ids);
        for (SymbolId id : ids) {
          if (module_.symbols[id].bound != Symbol::Bound::body_parameter || env.symbols.count(id)) continue;
          Symbol symbol = module_.symbols[id];
          env.symbols.emplace(id, Dim::symbol(module_.symbols.add(std::move(symbol))));
        }
        type = renamed(std::move(type), env);
      }
      env.at[body.inputs[i]] = inner.input(std::move(type), parameter.name);
    }
    fresh.outputs = rebuild(body, 0, std::move(env), inner, 0);
    return fresh;
  }

  static bool ranks_differ(const std::vector<Graph>& bodies) {
    for (size_t o = 0; o < bodies[0].outputs.size() && o < bodies[1].outputs.size(); ++o) {
      const Type& yes = bodies[0][bodies[0].outputs[o]].type;
      const Type& no = bodies[1][bodies[1].outputs[o]].type;
      if (!yes.is_tensor() || !no.is_tensor() || (!yes.shape && !no.shape)) continue;
      if (!yes.shape || !no.shape || yes.shape->size() != no.shape->size()) return true;
    }
    return false;
  }

  // The If at node n takes all that follows into its branches, which end with the results of the graph.
  Ids split(const Graph& old, size_t n, Env env, GraphBuilder& b, int splits) {
    const Node& node = old.nodes[n];
    // What the branches and the continuation read and what exists already.
    std::vector<bool> wanted(old.values.size(), false);
    for (size_t k = n; k < old.nodes.size(); ++k)
      for (ValueId v : old.nodes[k].inputs)
        if (v != no_id) wanted[v] = true;
    for (ValueId v : old.outputs) wanted[v] = true;
    Ids captures;
    std::vector<ValueId> captured;  // by capture: the old value
    for (ValueId v = 0; v < old.values.size(); ++v) {
      if (!wanted[v] || env.at[v] == no_id || b.graph[env.at[v]].has_contents()) continue;
      captures.push_back(env.at[v]);
      captured.push_back(v);
    }
    std::vector<Graph> bodies;
    for (size_t k = 0; k < 2; ++k) {
      Graph body;
      try {
        body = continued(old, n, k, env, b, captured, splits);
      } catch (const Error&) {
        // This branch's ranks do not suit what follows: there, it follows as it was.
        body = continued(old, n, 2, env, b, captured, 0);
      }
      bodies.push_back(std::move(body));
    }
    ++splits_;
    Ids inputs = {env.at[node.inputs[0]]};
    inputs.insert(inputs.end(), captures.begin(), captures.end());
    b.set_sources(node.sources);
    return b.add(*node.op, node.attrs, std::move(inputs), old.outputs.size(), std::move(bodies));
  }

  // branch 0 or 1 and the continuation, or (2) the whole If and the continuation.
  Graph continued(const Graph& old, size_t n, size_t branch, const Env& outer, GraphBuilder& b,
                  const std::vector<ValueId>& captured, int splits) {
    const Node& node = old.nodes[n];
    Graph fresh;
    GraphBuilder inner(module_, fresh);
    Env env{std::vector<ValueId>(old.values.size(), no_id), outer.symbols};
    for (ValueId v : captured) env.at[v] = inner.input(b.type(outer.at[v]), old[v].name);
    // Known contents that were made on the way.
    for (ValueId v = 0; v < old.values.size(); ++v) {
      if (outer.at[v] == no_id || env.at[v] != no_id || !b.graph[outer.at[v]].has_contents()) continue;
      Value copy = b.graph[outer.at[v]];
      copy.def = no_id;
      env.at[v] = static_cast<ValueId>(fresh.values.size());
      fresh.values.push_back(std::move(copy));
    }
    if (branch == 2) {
      fresh.outputs = rebuild(old, n, std::move(env), inner, 0);
      return fresh;
    }
    Ids parameters;
    for (size_t i = 1; i < node.inputs.size(); ++i) parameters.push_back(get(old, node.inputs[i], env, inner));
    inner.set_sources(node.sources);
    const Ids results = inlined_body(node.bodies[branch], parameters, env, inner);
    place(old, node.outputs, results, env, inner);
    fresh.outputs = rebuild(old, n + 1, std::move(env), inner, splits);
    return fresh;
  }

  Module& module_;
  int splits_ = 0, inlined_ = 0;
};

}  // namespace

bool specialize(Module& module, const PassContext& context) {
  if (!has_control(*module.main)) return false;
  Specializer specializer(module);
  std::unique_ptr<Graph> fresh;
  try {
    fresh = specializer.run();
  } catch (const Error& error) {
    // Types became known that an untaken branch does not allow; the graph stays as it is.
    context.journal.entries.push_back({0, context.journal.pass, "specialize", Effect::exact, {}, error.message()});
    return false;
  }
  if (specializer.splits() == 0 && specializer.inlined() == 0) return false;
  context.journal.entries.push_back(
      {0,
       context.journal.pass,
       "specialize",
       Effect::exact,
       {},
       fmt::format("{} continuations moved into branches, {} branches taken while building", specializer.splits(),
                   specializer.inlined())});
  module.main = std::move(fresh);
  tidy(*module.main);
  return true;
}

}  // namespace sinter
