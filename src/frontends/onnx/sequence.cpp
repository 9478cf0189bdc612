// Entries of sequences and optionals.

#include "ops/sequence.h"

#include <algorithm>

#include "frontends/onnx/entries.h"
#include "ops/control.h"
#include "tensor/tensor_proto.h"

namespace sinter::onnx {
namespace {

DType element_dtype(NodeContext& c, int64_t data_type) {
  const auto dtype = dtype_from_onnx(data_type);
  if (!dtype) c.fail("attribute 'type' names no element type that is known here");
  return *dtype;
}

void import_empty(NodeContext& c) {
  c.out(0, c.b.op("SequenceEmpty", SequenceEmptyAttrs{.dtype = c.dtype("dtype", DType::f32)}, Ids{}));
}

void import_construct(NodeContext& c) {
  Ids values;
  for (size_t i = 0; i < c.inputs(); ++i) values.push_back(c.in(i));
  c.out(0, c.b.op("SequenceConstruct", Attrs(), std::move(values)));
}

void import_concat(NodeContext& c) {
  if (!c.has_attr("axis")) c.fail("attribute 'axis' is missing");
  const ConcatFromSequenceAttrs a{.axis = c.integer("axis", 0), .new_axis = c.integer("new_axis", 0) != 0};
  c.out(0, c.b.op("ConcatFromSequence", a, {c.in(0)}));
}

void import_split(NodeContext& c) {
  const SplitToSequenceAttrs a{.axis = c.integer("axis", 0), .keep_dims = c.integer("keepdims", 1) != 0};
  c.out(0, c.b.op("SplitToSequence", a, {c.in(0), c.maybe(1)}));
}

void import_optional(NodeContext& c) {
  if (c.has(0)) return c.out(0, c.b.op("OptionalSome", {c.in(0)}));
  const Attribute* type = c.node.attribute("type");
  if (!type || type->types.size() != 1) c.fail("it has neither an operand nor attribute 'type'");
  const ValueType& t = type->types[0];
  if (t.kind == ValueType::Kind::sequence && t.element && t.element->kind == ValueType::Kind::tensor) {
    const OptionalNoneAttrs a{.dtype = element_dtype(c, t.element->element_type), .sequence = true};
    return c.out(0, c.b.op("OptionalNone", a, Ids{}));
  }
  if (t.kind != ValueType::Kind::tensor) c.unsupported("an optional of neither a tensor nor a sequence of tensors");
  c.out(0, c.b.op("OptionalNone", OptionalNoneAttrs{.dtype = element_dtype(c, t.element_type)}, Ids{}));
}

void import_has_element(NodeContext& c) {
  if (!c.has(0)) return c.out(0, c.b.scalar(DType::boolean, 0));
  if (c.b.type(c.in(0)).kind != Type::Kind::optional) return c.out(0, c.b.scalar(DType::boolean, 1));
  c.out(0, c.b.op("OptionalHasElement", {c.in(0)}));
}

void import_get_element(NodeContext& c) {
  if (c.b.type(c.in(0)).kind != Type::Kind::optional) return c.out(0, c.in(0));
  c.out(0, c.b.op("OptionalGet", {c.in(0)}));
}

constexpr size_t max_known_items = 256;

// A known position in [0, count), or none.
std::optional<size_t> known_position(const GraphBuilder& b, ValueId position, size_t count) {
  const auto at = b.integers_of(position);
  if (!at || at->size() != 1 || !(*at)[0].is_constant()) return std::nullopt;
  const auto limit = static_cast<int64_t>(count);
  int64_t index = (*at)[0].constant();
  if (index < 0) index += index >= -limit ? limit : 0;
  return index >= 0 && index < limit ? std::optional(static_cast<size_t>(index)) : std::nullopt;
}

// What a short sequence that this graph puts together holds.
std::optional<Ids> known_items(const GraphBuilder& b, ValueId sequence) {
  std::vector<const sinter::Node*> inserted;  // the last first
  while (true) {
    const NodeId def = b.graph[sequence].def;
    if (def == no_id) return std::nullopt;
    const sinter::Node& node = b.graph.nodes[def];
    const std::string_view name = node.op->name;
    Ids items;
    if (name == "SequenceInsert" && inserted.size() < max_known_items) {
      inserted.push_back(&node);
      sequence = node.inputs[0];
      continue;
    }
    if (name == "SequenceConstruct")
      items = node.inputs;
    else if (name != "SequenceEmpty")
      return std::nullopt;
    for (size_t k = inserted.size(); k-- > 0;) {
      const Ids& operands = inserted[k]->inputs;
      std::optional<size_t> at = items.size();
      if (operands.size() > 2 && operands[2] != no_id) at = known_position(b, operands[2], items.size() + 1);
      if (!at) return std::nullopt;
      items.insert(items.begin() + static_cast<int64_t>(*at), operands[1]);
    }
    return items;
  }
}

// PyTorch splits tensors by putting pieces into a sequence and taking them out again: as the pieces themselves they
// keep their ranks.
void import_at(NodeContext& c) {
  if (const auto items = known_items(c.b, c.in(0)))
    if (const auto at = known_position(c.b, c.in(1), items->size())) return c.out(0, (*items)[*at]);
  c.out(0, c.b.op("SequenceAt", {c.in(0), c.in(1)}));
}

// A counted Loop over the samples: what every sample gives is appended to sequences that the loop carries.
void import_map(NodeContext& c) {
  GraphBuilder& b = c.b;
  const Graph* graph = c.graph("body");
  if (!graph) c.fail("attribute 'body' is missing");
  if (b.type(c.in(0)).kind != Type::Kind::sequence) c.fail("its first operand is no sequence");
  std::vector<Type> samples;
  Ids operands;
  for (size_t i = 0; i < c.inputs(); ++i) {
    const Type& type = b.type(c.in(i));
    operands.push_back(c.in(i));
    samples.push_back(type.kind == Type::Kind::sequence && type.element ? *type.element : type);
  }
  Ids captures;
  const sinter::Graph sample = c.body(*graph, samples, captures);
  sinter::Graph body;
  GraphBuilder inner(b.module, body);
  const ValueId number = inner.input(Type::tensor(DType::i64, Shape{}));
  const ValueId again = inner.input(Type::tensor(DType::boolean, Shape{}));
  Ids carried, inputs = {b.op("SequenceLength", {c.in(0)}), no_id};
  for (ValueId v : sample.outputs) {
    if (!sample[v].type.is_tensor()) c.fail("a result of its body is no tensor");
    const DType dtype = sample[v].type.dtype;
    carried.push_back(inner.input(Type::sequence(Type::tensor(dtype, std::nullopt))));
    inputs.push_back(b.op("SequenceEmpty", SequenceEmptyAttrs{.dtype = dtype}, Ids{}));
  }
  Ids arguments;
  for (ValueId v : operands) {
    const ValueId whole = inner.input(b.type(v));
    arguments.push_back(b.type(v).kind == Type::Kind::sequence ? inner.op("SequenceAt", {whole, number}) : whole);
  }
  for (ValueId v : captures) arguments.push_back(inner.input(b.type(v)));
  const Ids results = wiring::inlined(inner, sample, arguments);
  body.outputs.push_back(again);
  for (size_t r = 0; r < results.size(); ++r)
    body.outputs.push_back(inner.op("SequenceInsert", {carried[r], results[r]}));
  const LoopAttrs attrs{.carried = static_cast<int64_t>(results.size()), .counted = true};
  inputs.insert(inputs.end(), operands.begin(), operands.end());
  inputs.insert(inputs.end(), captures.begin(), captures.end());
  std::vector<sinter::Graph> bodies;
  bodies.push_back(std::move(body));
  Ids lists = b.add(op_named("Loop"), attrs, std::move(inputs), results.size(), std::move(bodies));
  lists.resize(std::min(lists.size(), c.outputs()));
  c.out(std::move(lists));
}

constexpr Entry table[] = {
    {"ConcatFromSequence", 11, import_concat},
    {"Optional", 15, import_optional},
    {"OptionalGetElement", 15, import_get_element},
    {"OptionalHasElement", 15, import_has_element},
    {"SequenceAt", 11, import_at},
    {"SequenceConstruct", 11, import_construct},
    {"SequenceEmpty", 11, import_empty},
    {"SequenceErase", 11,
     [](NodeContext& c) {
       c.out(0, c.b.op("SequenceErase", {c.in(0), c.maybe(1)}));
     }},
    {"SequenceInsert", 11,
     [](NodeContext& c) {
       c.out(0, c.b.op("SequenceInsert", {c.in(0), c.in(1), c.maybe(2)}));
     }},
    {"SequenceLength", 11, [](NodeContext& c) { unary(c, "SequenceLength"); }},
    {"SequenceMap", 17, import_map},
    {"SplitToSequence", 11, import_split},
};

}  // namespace

std::span<const Entry> sequence_entries() { return table; }

}  // namespace sinter::onnx
