// If, Loop and Scan. Scan of every version becomes the core Loop with a trip count.

#include "ops/control.h"

#include <fmt/format.h>

#include <algorithm>

#include "frontends/onnx/entries.h"
#include "ops/movement.h"
#include "wiring/wiring.h"

namespace sinter::onnx {
namespace {

const Graph& body_attr(NodeContext& c, std::string_view name) {
  const Graph* graph = c.graph(name);
  if (!graph) c.fail(fmt::format("attribute '{}' is missing", name));
  return *graph;
}

Ids joined(Ids a, const Ids& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

// Operands of another type are for the operator to refuse.
bool has_type(NodeContext& c, ValueId v, DType dtype) { return c.b.type(v).is_tensor() && c.b.type(v).dtype == dtype; }

bool is_optional(const Type& type) { return type.kind == Type::Kind::optional; }

// Makes a result of a body an optional that holds it.
void wrap_result(NodeContext& c, sinter::Graph& body, size_t result) {
  ValueId& v = body.outputs[result];
  v = GraphBuilder(c.b.module, body).op("OptionalSome", {v});
}

void import_if(NodeContext& c) {
  // With a known condition the other branch says nothing, not even about ranks: entries that follow need those.
  const auto condition = c.b.integers_of(c.in(0));
  if (condition && condition->size() == 1 && (*condition)[0].is_constant() && has_type(c, c.in(0), DType::boolean)) {
    Ids results = c.inlined(body_attr(c, (*condition)[0].constant() != 0 ? "then_branch" : "else_branch"));
    if (results.size() < c.outputs())
      c.fail(fmt::format("the branch taken has {} results, the node has {}", results.size(), c.outputs()));
    results.resize(c.outputs());
    c.out(std::move(results));
    return;
  }
  Ids captures;
  std::vector<sinter::Graph> bodies;
  for (const char* name : {"then_branch", "else_branch"}) bodies.push_back(c.body(body_attr(c, name), {}, captures));
  const size_t own[] = {0, 0};
  c.complete_captures(bodies, own, captures);
  for (size_t k = 0; k < bodies.size(); ++k)
    if (bodies[k].outputs.size() < c.outputs())
      c.fail(fmt::format("its {} branch has {} results, the node has {}", k == 0 ? "then" : "else",
                         bodies[k].outputs.size(), c.outputs()));
  for (size_t o = 0; o < c.outputs(); ++o) {
    const auto optional = [&](size_t k) { return is_optional(bodies[k][bodies[k].outputs[o]].type); };
    if (optional(0) != optional(1)) wrap_result(c, bodies[optional(0) ? 1 : 0], o);
  }
  c.out(c.b.add(op_named("If"), {}, joined({c.in(0)}, captures), c.outputs(), std::move(bodies)));
}

// Widens declared types of carried values until what the body makes of them fits; false when nothing changed. `opened`:
// the body's own extents so far (a type may also mention those of a body around it, which stay what they are).
bool widen(Module& module, std::span<Type> declared, std::span<const Type> made, std::vector<SymbolId>& opened) {
  bool changed = false;
  for (size_t j = 0; j < declared.size(); ++j) {
    Type& d = declared[j];
    if (is_optional(d) != is_optional(made[j])) {  // an optional and what it may hold
      const auto held = [](const Type& type) { return is_optional(type) && type.element ? *type.element : type; };
      Type element = join(held(d), held(made[j]), [](size_t) { return Dim(); });
      if (element.is_tensor()) element.shape.reset();
      Type wider = Type::optional(std::move(element));
      changed = changed || !(wider == d);
      d = std::move(wider);
      continue;
    }
    if (d.has_shape() && made[j].has_shape() && d.dtype == made[j].dtype && d.shape->size() == made[j].shape->size()) {
      for (size_t k = 0; k < d.shape->size(); ++k) {
        Dim& extent = (*d.shape)[k];
        const auto id = extent.as_symbol();
        const bool open = id && std::find(opened.begin(), opened.end(), *id) != opened.end();
        if (open || extent == (*made[j].shape)[k]) continue;
        opened.push_back(module.symbols.add(
            {.name = fmt::format("s{}", module.symbols.size()), .bound = Symbol::Bound::body_parameter}));
        extent = Dim::symbol(opened.back());
        changed = true;
      }
      continue;
    }
    Type wider = join(d, made[j], [](size_t) { return Dim(); });
    if (wider.is_tensor()) wider.shape.reset();
    changed = changed || !(wider == d);
    d = std::move(wider);
  }
  return changed;
}

constexpr int max_rounds = 16;  // every round opens an extent or a rank; real bodies settle in two

// Imports a body so that the types of its carried parameters hold for every iteration. `skip`: results before them.
// Where an optional is carried and the body makes what it may hold, the result is wrapped; `wrapped` says so.
sinter::Graph settled_body(NodeContext& c, const Graph& graph, std::vector<Type>& parameters, size_t first,
                           size_t carried, size_t skip, Ids& captures, std::vector<bool>& wrapped) {
  std::vector<SymbolId> opened;
  for (int round = 0; round < max_rounds; ++round) {
    captures.clear();
    sinter::Graph body = c.body(graph, parameters, captures);
    if (body.outputs.size() < skip + carried)
      c.fail(fmt::format("its body has {} results, {} are needed", body.outputs.size(), skip + carried));
    std::vector<Type> made;
    for (size_t j = 0; j < carried; ++j) made.push_back(body[body.outputs[skip + j]].type);
    if (widen(c.b.module, std::span(parameters).subspan(first, carried), made, opened)) continue;
    wrapped.assign(carried, false);
    for (size_t j = 0; j < carried; ++j) {
      wrapped[j] = is_optional(parameters[first + j]) && !is_optional(made[j]);
      if (wrapped[j]) wrap_result(c, body, skip + j);
    }
    return body;
  }
  c.fail("types of its loop-carried values do not settle");
}

bool is_true(const sinter::Graph& graph, ValueId v) {
  const Tensor* t = graph.constant(v);
  return t && t->count() > 0 && t->get_integer(0) != 0;
}

// A loop of one turn is its body: types of what it carries stay as they are.
void import_single_turn(NodeContext& c, const Graph& graph, size_t carried) {
  Ids given = {c.b.constant(Tensor::scalar_i64(0)), c.b.scalar(DType::boolean, 1)};
  for (size_t j = 0; j < carried; ++j) given.push_back(c.in(2 + j));
  Ids results = c.inlined(graph, given);
  if (results.size() < 1 + carried)
    c.fail(fmt::format("its body has {} results, {} are needed", results.size(), 1 + carried));
  if (!has_type(c, results[0], DType::boolean)) c.fail("the condition that its body makes must be bool");
  results.erase(results.begin());
  for (size_t k = carried; k < results.size(); ++k) results[k] = wiring::unsqueeze(c.b, results[k], {0});
  results.resize(std::min(results.size(), c.outputs()));
  c.out(std::move(results));
}

void import_loop(NodeContext& c) {
  const Graph& graph = body_attr(c, "body");
  const size_t carried = c.inputs() > 2 ? c.inputs() - 2 : 0;
  const bool starts = !c.has(1) || (has_type(c, c.in(1), DType::boolean) && is_true(c.b.graph, c.in(1)));
  const auto turns = c.b.integers_of(c.maybe(0));
  if (starts && turns && turns->size() == 1 && (*turns)[0] == Dim(1) && has_type(c, c.in(0), DType::i64))
    return import_single_turn(c, graph, carried);
  std::vector<Type> parameters = {Type::tensor(DType::i64, Shape{}), Type::tensor(DType::boolean, Shape{})};
  Ids inputs = {c.maybe(0), c.maybe(1)};
  for (size_t j = 0; j < carried; ++j) {
    inputs.push_back(c.in(2 + j));
    parameters.push_back(c.b.type(c.in(2 + j)));
  }
  Ids captures;
  std::vector<bool> wrapped;
  sinter::Graph body = settled_body(c, graph, parameters, 2, carried, 1, captures, wrapped);
  for (size_t j = 0; j < carried; ++j)
    if (is_optional(parameters[2 + j]) && !is_optional(c.b.type(inputs[2 + j])))
      inputs[2 + j] = c.b.op("OptionalSome", {inputs[2 + j]});
  LoopAttrs attrs;
  attrs.carried = static_cast<int64_t>(carried);
  const size_t stacked = body.outputs.size() - 1 - carried;
  attrs.stack_axes.assign(stacked, 0);
  const ValueId again = body.outputs[0];
  attrs.counted = c.has(0) && starts && (is_true(body, again) || again == body.inputs[1]);
  std::vector<sinter::Graph> bodies;
  bodies.push_back(std::move(body));
  Ids results =
      c.b.add(op_named("Loop"), attrs, joined(std::move(inputs), captures), carried + stacked, std::move(bodies));
  // The loop's result has the type of the body's, not of what came in.
  for (size_t j = 0; j < carried; ++j)
    if (wrapped[j]) results[j] = c.b.op("OptionalGet", {results[j]});
  results.resize(std::min(results.size(), c.outputs()));
  c.out(std::move(results));
}

// Type of one slice along an axis.
Type slice_type(const Type& type, size_t axis) {
  Shape shape = *type.shape;
  shape.erase(shape.begin() + static_cast<int64_t>(axis));
  return Type::tensor(type.dtype, std::move(shape));
}

// Puts the core Loop's own parameters before a Scan's body: iteration, condition in; condition out.
void add_loop_parameters(sinter::Graph& body) {
  const auto add = [&](Value value) {
    body.values.push_back(std::move(value));
    return static_cast<ValueId>(body.values.size() - 1);
  };
  Tensor yes(DType::boolean, {});
  yes.set_integer(0, 1);
  const Type flag = Type::of(yes);
  const ValueId iteration = add({Type::tensor(DType::i64, Shape{}), {}, no_id, {}, {}});
  const ValueId condition = add({flag, {}, no_id, {}, {}});
  const ValueId again = add({flag, std::move(yes), no_id, {}, {}});
  body.inputs.insert(body.inputs.begin(), {iteration, condition});
  body.outputs.insert(body.outputs.begin(), again);
}

struct ScanForm {
  size_t states, scanned;
  std::vector<int64_t> in_axes, in_reversed, out_axes, out_reversed;
};

ScanForm scan_form(NodeContext& c, const Graph& graph, size_t operands) {
  const int64_t scanned = c.integer("num_scan_inputs", 0);
  if (scanned < 1 || scanned > static_cast<int64_t>(operands))
    c.fail(fmt::format("num_scan_inputs is {}, the node has {} inputs", scanned, operands));
  ScanForm form;
  form.scanned = static_cast<size_t>(scanned);
  form.states = operands - form.scanned;
  if (graph.outputs.size() < form.states) c.fail("its body has fewer results than states");
  const size_t stacked = graph.outputs.size() - form.states;
  const auto list = [&](const char* name, size_t count) {
    std::vector<int64_t> values = c.integers(name);
    if (values.empty()) values.assign(count, 0);
    if (values.size() != count) c.fail(fmt::format("'{}' has {} entries, {} are needed", name, values.size(), count));
    return values;
  };
  form.in_axes = list("scan_input_axes", form.scanned);
  form.in_reversed = list(c.opset < 9 ? "directions" : "scan_input_directions", form.scanned);
  form.out_axes = list("scan_output_axes", stacked);
  form.out_reversed = list("scan_output_directions", stacked);
  return form;
}

// Adds the Loop of one Scan to a builder; operands are states, then scanned values of known rank.
Ids scan(GraphBuilder& b, const Graph& graph, const ScanForm& form, const Ids& operands, Ids captured,
         sinter::Graph body) {
  LoopAttrs attrs;
  attrs.carried = static_cast<int64_t>(form.states);
  attrs.counted = true;
  attrs.scan_axes = form.in_axes;
  attrs.scan_reversed = form.in_reversed;
  attrs.stack_axes = form.out_axes;
  attrs.stack_reversed = form.out_reversed;
  const Shape& first = b.shape(operands[form.states]);
  const ValueId trips = b.dims({first[static_cast<size_t>(form.in_axes[0])]});
  Ids inputs = {trips, no_id};
  inputs.insert(inputs.end(), operands.begin(), operands.end());
  std::vector<sinter::Graph> bodies;
  bodies.push_back(std::move(body));
  return b.add(op_named("Loop"), attrs, joined(std::move(inputs), captured), graph.outputs.size(), std::move(bodies));
}

void count_axes(NodeContext& c, std::vector<int64_t>& axes, size_t index, size_t rank) {
  int64_t& axis = axes[index];
  if (axis < 0) axis += static_cast<int64_t>(rank);
  if (axis < 0 || axis >= static_cast<int64_t>(rank))
    c.fail(fmt::format("scan axis {} of a value of rank {}", axis, rank));
}

void import_scan(NodeContext& c) {
  const Graph& graph = body_attr(c, "body");
  ScanForm form = scan_form(c, graph, c.inputs());
  Ids operands;
  std::vector<Type> parameters;
  for (size_t i = 0; i < c.inputs(); ++i) {
    operands.push_back(c.in(i));
    if (i < form.states) {
      parameters.push_back(c.b.type(c.in(i)));
      continue;
    }
    count_axes(c, form.in_axes, i - form.states, c.b.rank(c.in(i)));
    parameters.push_back(slice_type(c.b.type(c.in(i)), static_cast<size_t>(form.in_axes[i - form.states])));
  }
  Ids captures;
  std::vector<bool> wrapped;
  sinter::Graph body = settled_body(c, graph, parameters, 0, form.states, 0, captures, wrapped);
  add_loop_parameters(body);
  Ids results = scan(c.b, graph, form, operands, captures, std::move(body));
  results.resize(std::min(results.size(), c.outputs()));
  c.out(std::move(results));
}

// Opset 8 has a batch axis in front of everything: a loop over the batch around the scan.
void import_batched_scan(NodeContext& c) {
  const Graph& graph = body_attr(c, "body");
  ScanForm form = scan_form(c, graph, c.inputs() - 1);
  std::vector<Type> outer_types, inner_types;
  Ids operands;
  for (size_t i = 0; i < form.states + form.scanned; ++i) {
    const ValueId v = c.in(1 + i);
    const size_t rank = c.b.rank(v);
    if (rank < (i < form.states ? 1u : 2u)) c.fail(fmt::format("input {} has no batch or sequence axis", 1 + i));
    operands.push_back(v);
    outer_types.push_back(slice_type(c.b.type(v), 0));
    inner_types.push_back(i < form.states ? outer_types.back() : slice_type(outer_types.back(), 0));
  }
  Ids captures;
  std::vector<bool> wrapped;
  sinter::Graph inner = settled_body(c, graph, inner_types, 0, form.states, 0, captures, wrapped);
  add_loop_parameters(inner);
  // The body of the loop over the batch: every operand sliced, captures passed on.
  sinter::Graph outer;
  GraphBuilder b(c.b.module, outer);
  Ids sliced, passed;
  for (const Type& type : outer_types) sliced.push_back(b.input(type));
  const ValueId length = c.has(0) ? b.input(Type::tensor(DType::i64, Shape{})) : no_id;
  for (ValueId v : captures) passed.push_back(b.input(c.b.type(v)));
  const Dim longest = c.b.shape(operands[form.states])[1];
  if (length != no_id) {
    const ValueId end = wiring::unsqueeze(b, length, {0});
    for (size_t i = form.states; i < sliced.size(); ++i)
      sliced[i] = b.op("Slice", {sliced[i], b.integers({0}), end, b.integers({0})});
  }
  outer.outputs = scan(b, graph, form, sliced, passed, std::move(inner));
  if (length != no_id) {  // what is stacked is as long for everybody, zeros at the end
    const ValueId more = wiring::sub(b, wiring::scalar_of(b, b.dims({longest})), length);
    const ValueId pads = wiring::concat(b, {b.integers({0}), wiring::unsqueeze(b, more, {0})}, 0);
    for (size_t i = form.states; i < outer.outputs.size(); ++i) {
      const ValueId y = outer.outputs[i];
      const ValueId padded = b.op("Pad", PadAttrs{}, {y, pads, wiring::like(b, y, 0), b.integers({0})});
      Shape shape = b.shape(y);
      shape[0] = longest;
      outer.outputs[i] = wiring::reshape(b, padded, shape);
    }
  }
  add_loop_parameters(outer);
  LoopAttrs attrs;
  attrs.counted = true;
  Ids batched = operands;
  if (c.has(0)) batched.push_back(wiring::cast(c.b, c.in(0), DType::i64));
  attrs.scan_axes.assign(batched.size(), 0);
  attrs.stack_axes.assign(graph.outputs.size(), 0);
  Ids inputs = {c.b.dims({c.b.shape(operands[0])[0]}), no_id};
  std::vector<sinter::Graph> bodies;
  bodies.push_back(std::move(outer));
  Ids results = c.b.add(op_named("Loop"), attrs, joined(joined(std::move(inputs), batched), captures),
                        graph.outputs.size(), std::move(bodies));
  results.resize(std::min(results.size(), c.outputs()));
  c.out(std::move(results));
}

constexpr Entry table[] = {
    {"If", 1, import_if},
    {"Loop", 1, import_loop},
    {"Scan", 8, import_batched_scan},
    {"Scan", 9, import_scan},
};

}  // namespace

std::span<const Entry> control_entries() { return table; }

}  // namespace sinter::onnx
