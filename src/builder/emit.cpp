#include "builder/emit.h"

#include <fmt/core.h>

#include <algorithm>
#include <deque>
#include <map>
#include <set>
#include <string>

#include "base/checked.h"
#include "builder/problem_of.h"
#include "ops/control.h"
#include "ops/movement.h"

namespace sinter {
namespace {

class Emitter {
 public:
  Emitter(Module& module, const BuildOptions& options, const DeviceSpec& device, TimingCache* timings)
      : module_(module), options_(options), device_(device), timings_(timings) {}

  Emitted run() {
    Target& target = out_.target;
    target.needs = device_;
    for (const DimRange& range : options_.dims)
      if (const auto id = module_.symbols.find(range.name))
        target.profiles.push_back({*id, range.low, range.best, range.high});
    const Graph& graph = *module_.main;
    for (ValueId v : graph.inputs) target.bindings.push_back({graph[v].name, graph[v].type, false});
    for (size_t i = 0; i < graph.outputs.size(); ++i) {
      const Value& value = graph[graph.outputs[i]];
      const std::string& name = i < module_.output_names.size() ? module_.output_names[i] : value.name;
      target.bindings.push_back({name, value.type, true});
    }
    Scope init(graph, init_.main, nullptr);
    Scope scope(graph, target.main, &init);
    for (size_t i = 0; i < graph.inputs.size(); ++i) {
      const ValueId v = graph.inputs[i];
      Slot slot{graph[v].type,
                {},
                graph[v].type.is_plain() ? SlotKind::binding : SlotKind::boxed,
                static_cast<uint32_t>(i),
                {},
                {}};
      scope.slot_of[v] = {add_slot(scope, std::move(slot))};
      target.main.parameters.push_back(scope.slot_of[v].natural());
    }
    emit_nodes(scope);
    for (size_t i = 0; i < graph.outputs.size(); ++i) {
      const uint32_t binding = static_cast<uint32_t>(graph.inputs.size() + i);
      const uint32_t slot = output_slot(scope, graph.outputs[i], binding);
      target.main.results.push_back(slot);
      target.bindings[binding].type = target.main.slots[slot].type;
    }
    out_.value_names.resize(target.main.slots.size());
    for (ValueId v = 0; v < graph.values.size(); ++v)
      for (uint32_t s : scope.slot_of[v].slots) out_.value_names[s] = graph[v].name;
    for (const Source& source : module_.sources) target.sources.push_back({source.name, source.op_type});
    target.symbols = module_.symbols;
    finish_init(init);
    return std::move(out_);
  }

 private:
  // Slots that hold a value, in different layouts; the first is where it was made.
  struct Places {
    std::vector<uint32_t> slots;
    Places() = default;
    Places(std::initializer_list<uint32_t> s) : slots(s) {}
    uint32_t natural() const { return slots.front(); }
    bool empty() const { return slots.empty(); }
  };
  // One graph on its way into one plan. What depends on constants alone goes into the init plan through `init`.
  struct Scope {
    const Graph& graph;
    Plan& plan;
    Scope* init;  // null for a scope of the init plan itself
    std::vector<Places> slot_of;
    std::vector<bool> constant;  // known when the engine is built

    Scope(const Graph& g, Plan& p, Scope* i) : graph(g), plan(p), init(i), slot_of(g.values.size()) {
      for (const Value& value : g.values) constant.push_back(value.is_constant() && value.type.is_plain());
    }
  };

  uint32_t add_slot(Scope& scope, Slot slot) {
    scope.plan.slots.push_back(std::move(slot));
    return static_cast<uint32_t>(scope.plan.slots.size() - 1);
  }

  // The slot where a value lies now, made on first use for constants and known contents.
  uint32_t natural_slot(Scope& scope, ValueId v) {
    Places& places = scope.slot_of[v];
    if (!places.empty()) return places.natural();
    const Value& value = scope.graph[v];
    uint32_t slot;
    if (scope.init && scope.constant[v]) {
      slot = add_slot(scope, import_weight(natural_slot(*scope.init, v)));
    } else if (scope.constant[v] && value.is_constant()) {
      slot = add_slot(scope, {value.type, {}, SlotKind::weight, add_weight(init_, *scope.graph.constant(v)), {}, {}});
    } else if (value.has_contents()) {
      slot = add_slot(
          scope, {value.type, {}, value.type.is_plain() ? SlotKind::known : SlotKind::boxed, 0, value.contents, {}});
    } else {
      throw Error(Code::internal, fmt::format("value '{}' is read and never made", value.name));
    }
    places.slots.push_back(slot);
    return slot;
  }

  static uint32_t add_weight(Target& target, const Tensor& tensor) {
    target.weights.push_back({Type::of(tensor), {}, tensor});
    return static_cast<uint32_t>(target.weights.size() - 1);
  }

  // A weight of the engine that holds what the init plan leaves in its slot.
  Slot import_weight(uint32_t init_slot) {
    const Slot source = init_.main.slots[init_slot];
    Slot slot{source.type, source.layout, SlotKind::weight, 0, {}, {}};
    const auto [at, fresh] = imported_.try_emplace(init_slot, static_cast<uint32_t>(out_.target.weights.size()));
    slot.of = at->second;
    if (!fresh) return slot;
    uint32_t base = init_slot;
    while (init_.main.slots[base].kind == SlotKind::view) base = init_.main.slots[base].of;
    if (init_.main.slots[base].kind == SlotKind::weight) {
      const Tensor& raw = init_.weights[init_.main.slots[base].of].bytes;
      // Equal bytes are stored once.
      for (uint32_t w = 0; w < out_.target.weights.size(); ++w) {
        const Weight& other = out_.target.weights[w];
        if (other.bytes.data() == raw.data() && other.type == source.type && other.layout == source.layout &&
            raw.count() > 0) {
          at->second = slot.of = w;
          return slot;
        }
      }
      out_.target.weights.push_back({source.type, source.layout, raw});
      return slot;
    }
    const Dims dims = *constant_dims(*source.type.shape);
    const int64_t bytes = layout_bytes(source.layout, source.type.dtype, dims);
    out_.target.weights.push_back({source.type, source.layout, Tensor(DType::u8, {bytes}, nullptr, nullptr)});
    return slot;
  }

  uint32_t problem_index(Target& target, Problem problem) {
    std::map<std::string, uint32_t>& numbers = &target == &init_ ? init_problems_ : problems_;
    const auto [at, fresh] = numbers.try_emplace(to_text(problem), static_cast<uint32_t>(target.problems.size()));
    if (fresh) target.problems.push_back(std::move(problem));
    return at->second;
  }

  static uint32_t kernel_index(Target& target, const std::string& name) {
    auto& kernels = target.kernels;
    const auto at = std::find(kernels.begin(), kernels.end(), name);
    if (at != kernels.end()) return static_cast<uint32_t>(at - kernels.begin());
    kernels.push_back(name);
    return static_cast<uint32_t>(kernels.size() - 1);
  }

  static bool is_weight(const Scope& scope, ValueId v) { return scope.init && scope.constant[v]; }

  // A slot with the value in this layout, converted where needed; constants are converted while building.
  uint32_t slot_in(Scope& scope, ValueId v, const Layout& layout) {
    // Weights get slots in the layouts that are wanted, and no others.
    const uint32_t natural = is_weight(scope, v) ? no_slot : natural_slot(scope, v);
    for (uint32_t s : scope.slot_of[v].slots)
      if (scope.plan.slots[s].layout == layout) return s;
    uint32_t converted;
    if (is_weight(scope, v)) {
      converted = add_slot(scope, import_weight(slot_in(*scope.init, v, layout)));
    } else {
      converted = add_slot(scope, {scope.plan.slots[natural].type, layout, SlotKind::arena, 0, {}, {}});
      emit_identity(scope, natural, converted);
    }
    scope.slot_of[v].slots.push_back(converted);
    return converted;
  }

  void emit_identity(Scope& scope, uint32_t from, uint32_t to) {
    Graph body;
    const Type& type = scope.plan.slots[from].type;
    body.values.push_back({type, {}, no_id, {}, {}});
    body.values.push_back({type, {}, 0, {}, {}});
    body.nodes.push_back({&op_named("Identity"), {}, {0}, {1}, {}, {}});
    body.inputs = {0};
    body.outputs = {1};
    FragmentProblem made = problem_of(module_, body, std::span(&type, 1), {});
    made.problem.operands[0].layout = scope.plan.slots[from].layout;
    made.problem.results[0].layout = scope.plan.slots[to].layout;
    const auto symbols = likely_values(module_, made);
    auto chosen = choose_kernel(made.problem, symbols, device_, false, timings_);
    if (!chosen) throw Error(Code::internal, fmt::format("no kernel converts {}", to_text(made.problem)));
    add_step(scope, std::move(made), *chosen, {from}, {to}, {});
  }

  void add_step(Scope& scope, FragmentProblem made, const Chosen& chosen, std::vector<uint32_t> operands,
                std::vector<uint32_t> results, const Sources& sources) {
    Target& target = scope.init ? out_.target : init_;
    Step step;
    step.sources = sources;
    Choice choice;
    choice.kernel = kernel_index(target, chosen.decision.kernel);
    choice.symbols = made.symbols;
    for (SymbolId k : made.problem.defined) {
      step.defines.push_back(made.symbols[k]);
      defined_.insert(made.symbols[k]);
    }
    choice.problem = problem_index(target, std::move(made.problem));
    step.choices.push_back(std::move(choice));
    step.operands = std::move(operands);
    step.results = std::move(results);
    scope.plan.steps.push_back(std::move(step));
    if (!scope.init) return;
    KernelDecision decision = chosen.decision;
    for (uint32_t source : sources)
      decision.sources += fmt::format("{}{}", decision.sources.empty() ? "" : ", ", module_.sources[source].name);
    out_.decisions.push_back(std::move(decision));
  }

  Module& module_;
  const BuildOptions& options_;
  const DeviceSpec& device_;
  TimingCache* timings_;
  Emitted out_;
  Target init_;
  std::map<std::string, uint32_t> problems_, init_problems_;  // by their texts
  std::set<SymbolId> defined_;                                // by steps emitted so far
  std::map<uint32_t, uint32_t> imported_;                     // init slot → weight of the engine
  std::deque<Scope> body_inits_;

  void emit_nodes(Scope& scope);
  bool known_when_built(const Scope& scope, const Node& node) const;
  void emit_fragment(Scope& scope, const Node& node);
  void emit_control(Scope& scope, const Node& node);
  bool emit_view(Scope& scope, const Node& node);
  bool emit_transposed(Scope& scope, const Node& node);
  uint32_t output_slot(Scope& scope, ValueId v, uint32_t binding);
  void finish_init(Scope& init);
};

bool mentions_symbols(const Graph& graph) {
  return std::any_of(graph.values.begin(), graph.values.end(), [](const Value& value) {
    const auto* dims = std::get_if<std::vector<Dim>>(&value.contents);
    return !value.type.is_static() ||
           (dims && std::any_of(dims->begin(), dims->end(), [](const Dim& d) { return !d.is_constant(); }));
  });
}

// Whether all a fragment reads is constant and all it makes are plain tensors of constant extents: what it needs of
// extents that are not known yet could not be checked.
bool Emitter::known_when_built(const Scope& scope, const Node& node) const {
  for (ValueId v : node.inputs)
    if (!scope.constant[v]) return false;
  return !node.inputs.empty() && !mentions_symbols(node.bodies[0]) && gives_the_same(node.bodies[0]);
}

void Emitter::emit_nodes(Scope& scope) {
  for (const Node& node : scope.graph.nodes) {
    options_.control.poll();
    try {
      if (std::string_view(node.op->name) == "Fragment") {
        Scope& place = scope.init && known_when_built(scope, node) ? *scope.init : scope;
        if (!emit_view(place, node)) emit_fragment(place, node);
        for (ValueId v : node.outputs) scope.constant[v] = place.constant[v] = &place != &scope;
      } else {
        emit_control(scope, node);
      }
    } catch (Error& error) {
      if (!node.sources.empty()) {
        const Source& source = module_.sources[node.sources[0]];
        error.add_context(fmt::format("compiling node '{}' ({})", source.name, source.op_type)).at_node(source.name);
      }
      throw;
    }
  }
}

// Whether the axes of a value come one after the other in this order, apart from those of extent one.
bool stored_as(const Type& type, std::span<const uint8_t> order, const Layout& layout) {
  const auto long_axes = [&](auto axis_at) {
    std::vector<size_t> out;
    for (size_t k = 0; k < order.size(); ++k)
      if (const size_t axis = axis_at(k); !((*type.shape)[axis] == Dim(1))) out.push_back(axis);
    return out;
  };
  return long_axes([&](size_t k) { return order[k]; }) ==
         long_axes([&](size_t k) { return layout.order.empty() ? k : layout.order[k]; });
}

// A Transpose between row-major and channels last moves nothing. Other orders are made: few rows take them.
bool Emitter::emit_transposed(Scope& scope, const Node& node) {
  const ValueId x = node.inputs[0], y = node.outputs[0];
  // Constants move while building, into the layout that is wanted.
  if (!scope.init || is_weight(scope, x) || node.inputs.size() != 1) return false;
  if (!scope.graph[x].type.is_plain()) return false;
  natural_slot(scope, x);
  for (const uint32_t base : scope.slot_of[x].slots) {
    const Slot& source = scope.plan.slots[base];
    if (source.kind == SlotKind::boxed || !source.type.is_plain() || bit_size(source.type.dtype) < 8 ||
        !source.layout.is_strided())
      continue;
    FragmentProblem made = problem_of(module_, node.bodies[0], std::span(&source.type, 1), {});
    Type type = rename(made.problem.types[made.problem.results[0].value], made.symbols);
    if (!type.is_plain() || !made.problem.defined.empty()) return false;
    const std::vector<int64_t>& perm = node.bodies[0].nodes[0].attrs.as<TransposeAttrs>().perm;
    const size_t rank = type.shape->size();
    std::vector<uint8_t> to(rank), order;  // the result's axis of each axis of the operand
    for (size_t k = 0; k < rank; ++k) {
      const int64_t from = perm.empty() ? static_cast<int64_t>(rank - 1 - k) : perm[k];
      to[static_cast<size_t>(from < 0 ? from + static_cast<int64_t>(rank) : from)] = static_cast<uint8_t>(k);
    }
    for (size_t k = 0; k < rank; ++k) order.push_back(to[source.layout.order.empty() ? k : source.layout.order[k]]);
    for (const Layout& layout : {Layout(), Layout::channels_last(rank)}) {
      if (!stored_as(type, order, layout)) continue;
      scope.slot_of[y] = {add_slot(scope, {std::move(type), layout, SlotKind::view, base, {}, {}, {}, node.sources})};
      return true;
    }
  }
  return false;
}

// Reshape and Identity of a row-major value move nothing.
bool Emitter::emit_view(Scope& scope, const Node& node) {
  const Graph& body = node.bodies[0];
  if (body.nodes.size() != 1) return false;
  const std::string_view name = body.nodes[0].op->name;
  if (name == "Transpose") return emit_transposed(scope, node);
  if (name != "Reshape" && name != "Squeeze" && name != "Unsqueeze" && name != "Flatten" && name != "Identity")
    return false;
  const ValueId x = node.inputs[0], y = node.outputs[0];
  if (!scope.graph[x].type.is_plain() || node.inputs.size() != 1) return false;
  const uint32_t natural = natural_slot(scope, x);
  if (scope.plan.slots[natural].kind == SlotKind::boxed) return false;
  const uint32_t base = name == "Identity" ? natural : slot_in(scope, x, {});
  const Slot& source = scope.plan.slots[base];
  FragmentProblem made = problem_of(module_, body, std::span(&source.type, 1), {});
  if (!made.problem.defined.empty()) return false;
  Type type = rename(made.problem.types[made.problem.results[0].value], made.symbols);
  if (!type.is_plain()) return false;
  scope.slot_of[y] = {
      add_slot(scope, {std::move(type), source.layout, SlotKind::view, base, {}, {}, {}, node.sources})};
  return true;
}

// Nanoseconds from which a fragment is looked at with other layouts, to turn an element, and of the time as things lie
// that other layouts must stay below.
constexpr double worth_turning = 100000, turning_ns = 0.5, clearly_faster = 0.7;

bool begins_with_convolution(const Graph& body) {
  return !body.nodes.empty() && std::string_view(body.nodes[0].op->name) == "Conv";
}

void Emitter::emit_fragment(Scope& scope, const Node& node) {
  const Graph& body = node.bodies[0];
  std::vector<Type> types;
  std::vector<bool> constant;
  for (ValueId v : node.inputs) {
    constant.push_back(is_weight(scope, v));
    types.push_back(constant.back() ? scope.graph[v].type : scope.plan.slots[natural_slot(scope, v)].type);
  }
  FragmentProblem made = problem_of(module_, body, types, constant);
  const auto symbols = likely_values(module_, made);
  // First with operands as they lie, then as the rows want them.
  const auto with_layouts = [&](auto layout_of, TimingCache* timings) {
    for (size_t i = 0; i < made.problem.operands.size(); ++i) {
      Operand& operand = made.problem.operands[i];
      if (!operand.host && operand.type.is_plain()) operand.layout = layout_of(i);
    }
    for (Problem::Result& result : made.problem.results)
      result.layout = made.problem.types[result.value].is_plain() ? Layout::any() : Layout();
    return choose_kernel(made.problem, symbols, device_, options_.reference_only, timings);
  };
  const auto as_it_lies = [&](size_t i) {
    return constant[i] ? Layout::any() : scope.plan.slots[natural_slot(scope, node.inputs[i])].layout;
  };
  const auto as_wanted = [](size_t) { return Layout::any(); };
  std::optional<Layout> common;
  size_t largest = 0;
  for (size_t i = 0; i < node.inputs.size(); ++i) {
    if (constant[i]) continue;
    const Slot& slot = scope.plan.slots[natural_slot(scope, node.inputs[i])];
    if (!slot.type.is_plain() || slot.kind == SlotKind::weight) continue;
    if (slot.type.shape->size() > largest || (slot.type.shape->size() == largest && !slot.layout.is_row_major())) {
      common = slot.layout;
      largest = slot.type.shape->size();
    }
  }
  auto chosen = with_layouts(as_it_lies, timings_);
  if (chosen && !chosen->reference && chosen->decision.nanoseconds > worth_turning && begins_with_convolution(body)) {
    // Rows that want their operands otherwise, where the models call them clearly faster with what turning costs.
    const auto now = timings_ ? with_layouts(as_it_lies, nullptr) : chosen;
    const auto other = with_layouts(as_wanted, nullptr);
    if (now && other && !other->reference) {
      double turned = 0;
      for (size_t i = 0; i < node.inputs.size(); ++i)
        if (!constant[i] && other->needs.operands[i] != as_it_lies(i))
          turned += elements_at(made.problem.operands[i].type, symbols);
      for (size_t i = 0; i < node.outputs.size(); ++i)
        if (common && other->needs.results[i] != *common)
          turned += elements_at(made.problem.types[made.problem.results[i].value], symbols);
      const double with_turning = other->decision.nanoseconds + turned * turning_ns;
      if (with_turning < clearly_faster * now->decision.nanoseconds) {
        const auto turning = timings_ ? with_layouts(as_wanted, timings_) : other;
        if (turning && !turning->reference &&
            turning->decision.nanoseconds + turned * turning_ns < chosen->decision.nanoseconds)
          chosen = turning;
      }
    }
  }
  const auto try_next = [&](auto layout_of) {
    if (chosen && !chosen->reference) return;
    if (auto other = with_layouts(layout_of, timings_); other && !other->reference)
      chosen = std::move(other);
    else if (!chosen)
      chosen = std::move(other);
  };
  if (!options_.reference_only) {
    if (common)
      try_next([&](size_t i) {
        return !constant[i] && made.problem.operands[i].type.shape->size() == largest ? *common : Layout::any();
      });
    try_next(as_wanted);
  }
  if (!chosen || chosen->reference) chosen = with_layouts([&](size_t) { return Layout(); }, timings_);
  if (!chosen) throw Error(Code::internal, fmt::format("no kernel takes {}", to_text(made.problem)));
  for (size_t i = 0; i < made.problem.operands.size(); ++i) made.problem.operands[i].layout = chosen->needs.operands[i];
  for (size_t i = 0; i < made.problem.results.size(); ++i) made.problem.results[i].layout = chosen->needs.results[i];
  std::vector<uint32_t> operands, results;
  for (size_t i = 0; i < node.inputs.size(); ++i)
    operands.push_back(slot_in(scope, node.inputs[i], made.problem.operands[i].layout));
  for (size_t i = node.inputs.size(); i < made.problem.operands.size(); ++i) operands.push_back(no_slot);
  for (size_t i = 0; i < node.outputs.size(); ++i) {
    Type type = rename(made.problem.types[made.problem.results[i].value], made.symbols);
    bool found_by_running = !type.is_plain();
    std::vector<SymbolId> ids;
    collect_symbols(type, ids);
    for (SymbolId k : made.problem.defined)
      found_by_running = found_by_running || std::binary_search(ids.begin(), ids.end(), made.symbols[k]);
    const uint32_t s = add_slot(scope, {std::move(type),
                                        made.problem.results[i].layout,
                                        found_by_running ? SlotKind::boxed : SlotKind::arena,
                                        0,
                                        {},
                                        {}});
    scope.slot_of[node.outputs[i]] = {s};
    results.push_back(s);
  }
  add_step(scope, std::move(made), *chosen, std::move(operands), std::move(results), node.sources);
}

void Emitter::emit_control(Scope& scope, const Node& node) {
  Step step;
  step.kind = Step::Kind::control;
  step.op = node.op;
  step.attrs = node.attrs;
  step.sources = node.sources;
  // Captured weights are no operands: bodies read them as weights of their own, so that what they make of them (packed
  // panels) is made when the engine is built.
  const bool loop = std::string_view(node.op->name) == "Loop";
  const size_t first = loop ? 0 : 1;  // an If's parameters are its operands behind the condition
  size_t captures = 1;
  if (loop) {
    const LoopAttrs& attrs = node.attrs.as<LoopAttrs>();
    captures = 2 + static_cast<size_t>(attrs.carried) + attrs.scan_axes.size();
  }
  std::vector<bool> weight(node.inputs.size(), false);
  for (size_t k = 0; k < node.inputs.size(); ++k) {
    const ValueId v = node.inputs[k];
    weight[k] = k >= captures && v != no_id && is_weight(scope, v);
    // A body that knows less of its type binds extents when it is passed.
    for (const Graph& body : node.bodies)
      weight[k] = weight[k] && body[body.inputs[k - first]].type == scope.graph[v].type;
    if (!weight[k]) step.operands.push_back(v == no_id ? no_slot : slot_in(scope, v, {}));
  }
  if (loop && step.operands.size() < 2) step.operands.resize(2, no_slot);
  for (const Graph& body : node.bodies) {
    step.bodies.push_back(static_cast<uint32_t>(scope.plan.bodies.size()));
    Plan plan;
    body_inits_.emplace_back(body, init_.main, nullptr);
    Scope& inner_init = body_inits_.back();
    Scope inner(body, plan, &inner_init);
    const auto captured = [&](size_t p) { return p + first < weight.size() && weight[p + first]; };
    for (size_t p = 0; p < body.inputs.size(); ++p) {
      const ValueId v = body.inputs[p];
      if (captured(p)) {
        natural_slot(*scope.init, node.inputs[p + first]);
        inner_init.slot_of[v] = scope.init->slot_of[node.inputs[p + first]];
        inner.constant[v] = true;
        continue;
      }
      const Slot slot{body[v].type, {}, SlotKind::parameter, 0, {}, {}};
      plan.parameters.push_back(add_slot(inner, slot));
      // A parameter whose contents are known is read as the constant that it is.
      if (!inner.constant[v]) inner.slot_of[v] = {plan.parameters.back()};
    }
    emit_nodes(inner);
    for (ValueId v : body.outputs) plan.results.push_back(slot_in(inner, v, {}));
    // The next body finds the layouts that this one asked for.
    for (size_t p = 0; p < body.inputs.size(); ++p)
      if (captured(p)) scope.init->slot_of[node.inputs[p + first]] = inner_init.slot_of[body.inputs[p]];
    scope.plan.bodies.push_back(std::move(plan));
  }
  for (ValueId v : node.outputs) {
    const Type& type = scope.graph[v].type;
    if (type.has_shape())
      for (const Dim& d : *type.shape)
        if (const auto id = d.as_symbol(); id &&
                                           (module_.symbols[*id].bound == Symbol::Bound::exit ||
                                            module_.symbols[*id].bound == Symbol::Bound::trip_count) &&
                                           defined_.insert(*id).second)  // others passed through
          step.defines.push_back(*id);
    // Results are boxes: which body made them, and how large, is known only at run time.
    const uint32_t s = add_slot(scope, {type, {}, SlotKind::boxed, 0, {}, {}});
    scope.slot_of[v] = {s};
    step.results.push_back(s);
  }
  scope.plan.steps.push_back(std::move(step));
}

// What the init plan leaves for the engine becomes its results, in the order of Emitted::init_weights.
void Emitter::finish_init(Scope& init) {
  init_.needs = device_;
  for (const auto& [slot, weight] : imported_) {
    uint32_t base = slot;
    while (init_.main.slots[base].kind == SlotKind::view) base = init_.main.slots[base].of;
    if (init_.main.slots[base].kind == SlotKind::weight) continue;  // stored as it is
    uint32_t result = slot;
    if (init_.main.slots[slot].kind == SlotKind::view) {
      result = add_slot(init, {init_.main.slots[slot].type, init_.main.slots[slot].layout, SlotKind::arena, 0, {}, {}});
      emit_identity(init, slot, result);
    }
    Slot& exported = init_.main.slots[result];
    exported.kind = SlotKind::binding;
    exported.of = static_cast<uint32_t>(init_.bindings.size());
    init_.bindings.push_back({{}, exported.type, true});
    init_.main.results.push_back(result);
    out_.init_weights.push_back(weight);
  }
  init_.symbols = module_.symbols;
  out_.init = std::move(init_);
}

uint32_t Emitter::output_slot(Scope& scope, ValueId v, uint32_t binding) {
  const uint32_t natural = slot_in(scope, v, {});
  Slot& slot = scope.plan.slots[natural];
  if (!slot.type.is_plain() || slot.kind == SlotKind::boxed) return natural;
  if (slot.kind == SlotKind::arena) {
    // The kernel writes straight into the caller's buffer.
    slot.kind = SlotKind::binding;
    slot.of = binding;
    return natural;
  }
  const uint32_t to = add_slot(scope, {slot.type, {}, SlotKind::binding, binding, {}, {}});
  emit_identity(scope, natural, to);
  return to;
}

}  // namespace

Emitted emit(Module& module, const BuildOptions& options, const DeviceSpec& device, TimingCache* timings) {
  return Emitter(module, options, device, timings).run();
}

}  // namespace sinter
