#include "ir/builder.h"

#include <algorithm>

#include "base/checked.h"

namespace sinter {
namespace {

// Results up to this size are folded when they are made; larger constants are left to the init plan.
constexpr int64_t fold_bytes = 64 << 10;
// Operands of a folded node may be larger than its result (a slice of a table), up to this.
constexpr int64_t fold_operand_bytes = 64 << 20;

bool is_matrix(const Shape& shape) {
  return std::count_if(shape.begin(), shape.end(), [](const Dim& d) { return d != Dim(1); }) >= 2;
}

bool foldable(const Graph& graph, const Op& op, const Ids& inputs, const Inferred& inferred) {
  if (!op.is.deterministic || op.is.never_fold || op.is.compact || inputs.empty()) return false;
  if (!op.eval && !op.pointwise) return false;
  int64_t operands = 0;
  for (ValueId v : inputs) {
    if (v == no_id) continue;
    const Tensor* t = graph.constant(v);
    if (!t || !graph[v].weight.empty()) return false;
    operands += t->bytes();
  }
  if (operands > fold_operand_bytes) return false;
  for (const Type& type : inferred.types) {
    if (!type.is_tensor()) return false;
    if (!type.shape) continue;  // known only by running; its operands are small
    if (op.is.compact_matrices && is_matrix(*type.shape)) return false;
    for (const Dim& d : *type.shape)
      if (!d.is_constant() && !d.as_symbol()) return false;
    const auto dims = constant_dims(*type.shape);
    if (dims && byte_size(type.dtype, element_count(*dims)) > fold_bytes) return false;
  }
  return true;
}

}  // namespace

ValueId GraphBuilder::input(Type type, std::string name) {
  const auto id = static_cast<ValueId>(graph.values.size());
  graph.values.push_back(
      {.type = std::move(type), .contents = {}, .def = no_id, .name = std::move(name), .weight = {}});
  graph.inputs.push_back(id);
  return id;
}

ValueId GraphBuilder::constant(Tensor tensor, std::string name) {
  const auto id = static_cast<ValueId>(graph.values.size());
  Type type = Type::of(tensor);
  graph.values.push_back(
      {.type = std::move(type), .contents = std::move(tensor), .def = no_id, .name = std::move(name), .weight = {}});
  return id;
}

ValueId GraphBuilder::dims(std::vector<Dim> values) {
  bool constant_all = true;
  for (const Dim& d : values) constant_all = constant_all && d.is_constant();
  if (constant_all) {
    std::vector<int64_t> numbers;
    for (const Dim& d : values) numbers.push_back(d.constant());
    return integers(numbers);
  }
  const auto id = static_cast<ValueId>(graph.values.size());
  Type type = Type::tensor(DType::i64, Shape{Dim(static_cast<int64_t>(values.size()))});
  graph.values.push_back(
      {.type = std::move(type), .contents = std::move(values), .def = no_id, .name = {}, .weight = {}});
  return id;
}

namespace {

// Nodes of a body that a composite wires come from the node that it stands for.
void name_unnamed(Graph& body, const Sources& sources) {
  for (Node& node : body.nodes) {
    if (node.sources.empty()) node.sources = sources;
    for (Graph& inner : node.bodies) name_unnamed(inner, sources);
  }
}

}  // namespace

Ids GraphBuilder::add(const Op& op, Attrs attrs, Ids inputs, size_t outputs, std::vector<Graph> bodies) {
  while (!inputs.empty() && inputs.back() == no_id) inputs.pop_back();
  if (attrs.empty() && op.fields) attrs = Attrs::defaults(op.fields());
  Inferred inferred;
  try {
    inferred = infer_node(module, graph, op, attrs, inputs, bodies, {}, outputs);
  } catch (Error& error) {
    if (!sources_.empty()) error.at_node(module.sources[sources_[0]].name);
    throw;
  }
  Ids results;
  if (bodies.empty() && foldable(graph, op, inputs, inferred)) {
    std::vector<Box> boxes(inputs.size());
    std::vector<const Box*> pointers(inputs.size(), nullptr);
    for (size_t i = 0; i < inputs.size(); ++i) {
      if (inputs[i] == no_id) continue;
      boxes[i] = Box(*graph.constant(inputs[i]));
      pointers[i] = &boxes[i];
    }
    // A fault (an index out of range) stays in the graph and is reported by the run that meets it.
    std::vector<Box> values;
    try {
      values = evaluate_op(op, attrs, pointers, outputs);
    } catch (const Error&) {
      values.clear();
    }
    if (!values.empty()) {
      for (Box& box : values) results.push_back(constant(std::move(box.tensor)));
      return results;
    }
  }
  const auto node = static_cast<NodeId>(graph.nodes.size());
  for (size_t o = 0; o < outputs; ++o) {
    results.push_back(static_cast<ValueId>(graph.values.size()));
    graph.values.push_back({.type = std::move(inferred.types[o]),
                            .contents = std::move(inferred.contents[o]),
                            .def = node,
                            .name = {},
                            .weight = {}});
  }
  for (Graph& body : bodies) name_unnamed(body, sources_);
  graph.nodes.push_back({&op, std::move(attrs), std::move(inputs), results, std::move(bodies), sources_});
  return results;
}

ValueId GraphBuilder::op(std::string_view name, Attrs attrs, Ids inputs) {
  return add(op_named(name), std::move(attrs), std::move(inputs), 1)[0];
}

DType GraphBuilder::dtype(ValueId v) const {
  if (!type(v).is_tensor()) throw Error(Code::model_invalid, "a tensor is needed, this is a sequence or optional");
  return type(v).dtype;
}

const Shape& GraphBuilder::shape(ValueId v) const {
  if (!type(v).has_shape()) throw RankNotKnown(v);
  return *type(v).shape;
}

std::optional<std::vector<Dim>> GraphBuilder::integers_of(ValueId v) const {
  if (v == no_id) return std::nullopt;
  if (const auto* dims = std::get_if<std::vector<Dim>>(&graph[v].contents)) return *dims;
  const Tensor* t = graph.constant(v);
  if (!t || !(is_integer(t->dtype()) || t->dtype() == DType::boolean)) return std::nullopt;
  std::vector<Dim> out;
  for (int64_t i = 0; i < t->count(); ++i) out.emplace_back(t->get_integer(i));
  return out;
}

}  // namespace sinter
