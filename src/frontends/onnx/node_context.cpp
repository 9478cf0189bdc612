// NodeContext: operands and attributes of the node that is being imported.

#include <fmt/core.h>

#include "base/scanner.h"
#include "frontends/onnx/importer.h"
#include "frontends/onnx/wire.h"
#include "tensor/tensor_proto.h"

namespace sinter::onnx {
namespace {

using Kind = Attribute::Kind;

constexpr const char* kind_names[] = {"undefined", "a float",         "an integer",     "a string", "a tensor",
                                      "a graph",   "floats",          "integers",       "strings",  "tensors",
                                      "graphs",    "a sparse tensor", "sparse tensors", "a type",   "types"};

[[noreturn]] void wrong_kind(const NodeContext& c, const Attribute& a, Kind wanted) {
  c.fail(fmt::format("attribute '{}' is {}, it must be {}", shown(a.name), kind_names[static_cast<int>(a.kind)],
                     kind_names[static_cast<int>(wanted)]));
}

}  // namespace

ValueId NodeContext::in(size_t i) const {
  if (!has(i)) fail(fmt::format("input {} is missing", i));
  return inputs_[i];
}

size_t NodeContext::outputs() const { return node.outputs.size(); }

bool NodeContext::wants(size_t output) const { return output < node.outputs.size() && !node.outputs[output].empty(); }

bool NodeContext::has_attr(std::string_view name) const { return importer_.attribute(node, name) != nullptr; }

int64_t NodeContext::integer(std::string_view name, int64_t otherwise) const {
  const auto a = importer_.attribute(node, name);
  if (!a) return otherwise;
  if (a->kind != Kind::integer) wrong_kind(*this, *a, Kind::integer);
  return a->i;
}

double NodeContext::real(std::string_view name, double otherwise) const {
  const auto a = importer_.attribute(node, name);
  if (!a) return otherwise;
  if (a->kind == Kind::integer) return static_cast<double>(a->i);
  if (a->kind != Kind::real) wrong_kind(*this, *a, Kind::real);
  return static_cast<double>(a->f);
}

std::string NodeContext::string(std::string_view name, std::string_view otherwise) const {
  const auto a = importer_.attribute(node, name);
  if (!a) return std::string(otherwise);
  if (a->kind != Kind::string) wrong_kind(*this, *a, Kind::string);
  return std::string(a->s);
}

std::vector<int64_t> NodeContext::integers(std::string_view name, std::vector<int64_t> otherwise) const {
  const auto a = importer_.attribute(node, name);
  if (!a) return otherwise;
  if (a->kind == Kind::integer) return {a->i};
  if (a->kind != Kind::integers) wrong_kind(*this, *a, Kind::integers);
  return a->ints;
}

std::vector<double> NodeContext::reals(std::string_view name, std::vector<double> otherwise) const {
  const auto a = importer_.attribute(node, name);
  if (!a) return otherwise;
  if (a->kind == Kind::real) return {static_cast<double>(a->f)};
  if (a->kind != Kind::reals) wrong_kind(*this, *a, Kind::reals);
  return {a->floats.begin(), a->floats.end()};
}

std::vector<std::string> NodeContext::strings(std::string_view name) const {
  const auto a = importer_.attribute(node, name);
  if (!a) return {};
  if (a->kind == Kind::string) return {std::string(a->s)};
  if (a->kind != Kind::strings) wrong_kind(*this, *a, Kind::strings);
  return {a->strings.begin(), a->strings.end()};
}

const Tensor* NodeContext::tensor(std::string_view name) const {
  const auto a = importer_.attribute(node, name);
  if (!a) return nullptr;
  if ((a->kind != Kind::tensor && a->kind != Kind::sparse_tensor) || a->tensors.empty())
    wrong_kind(*this, *a, Kind::tensor);
  return &a->tensors[0];  // the model keeps it
}

DType NodeContext::dtype(std::string_view name, DType otherwise) const {
  if (!has_attr(name)) return otherwise;
  const int64_t number = integer(name, 0);
  const std::optional<DType> dtype = dtype_from_onnx(number);
  if (!dtype) fail(fmt::format("attribute '{}' is {}, which is no known data type", name, number));
  return *dtype;
}

const Graph* NodeContext::graph(std::string_view name) const {
  const auto a = importer_.attribute(node, name);
  if (!a) return nullptr;
  if (a->kind != Kind::graph || a->graphs.empty()) wrong_kind(*this, *a, Kind::graph);
  return a->graphs[0].get();
}

ValueId NodeContext::axes_operand(std::string_view attribute, size_t input) const {
  if (has(input)) return in(input);
  if (!has_attr(attribute)) return no_id;
  return b.integers(integers(attribute));
}

void NodeContext::out(size_t output, ValueId value) {
  if (output >= results_.size()) results_.resize(output + 1, no_id);
  results_[output] = value;
}

void NodeContext::out(Ids values) { results_ = std::move(values); }

sinter::Graph NodeContext::body(const Graph& graph, std::span<const Type> parameters, Ids& captures) const {
  return importer_.body(graph, parameters, captures);
}

Ids NodeContext::inlined(const Graph& graph, const Ids& parameters) const {
  return importer_.inlined(graph, parameters);
}

void NodeContext::complete_captures(std::vector<sinter::Graph>& bodies, std::span<const size_t> own,
                                    const Ids& captures) const {
  for (size_t i = 0; i < bodies.size(); ++i) {
    GraphBuilder builder(b.module, bodies[i]);
    const size_t known = bodies[i].inputs.size() - own[i];
    for (size_t k = known; k < captures.size(); ++k) builder.input(b.type(captures[k]), b.graph[captures[k]].name);
  }
}

void NodeContext::fail(std::string message) const { throw Error(Code::model_invalid, std::move(message)); }

void NodeContext::unsupported(std::string message) const { throw Error(Code::unsupported, std::move(message)); }

}  // namespace sinter::onnx
