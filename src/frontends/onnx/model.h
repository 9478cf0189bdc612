// Model: an ONNX file as read, before anything is made of it.
//
// Names are views into the file's bytes, which Model::owner keeps alive; contents of tensors stay there too where their
// alignment allows. A Model is immutable, was read under the rules of reader.h, and may still be nonsense: operands
// without producer, cycles, attributes of the wrong type. Domain "ai.onnx" is stored as "".
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "tensor/tensor.h"

namespace sinter::onnx {

struct Graph;

// A TypeProto.
struct ValueType {
  enum class Kind : uint8_t { none, tensor, sparse, sequence, optional, map } kind = Kind::none;
  struct Extent {
    std::optional<int64_t> value;
    std::string_view param;  // dim_param, or empty
  };
  int32_t element_type = 0;                  // TensorProto.DataType of a tensor, 0 when undefined; of a map, its key
  std::optional<std::vector<Extent>> shape;  // none: unknown rank
  std::shared_ptr<const ValueType> element;  // of a sequence, optional or map
};

struct ValueInfo {
  std::string_view name;
  ValueType type;
};

struct Attribute {
  // Numbered as AttributeProto.AttributeType.
  enum class Kind : uint8_t {
    undefined,
    real,
    integer,
    string,
    tensor,
    graph,
    reals,
    integers,
    strings,
    tensors,
    graphs,
    sparse_tensor,
    sparse_tensors,
    type_proto,
    type_protos,
  };
  std::string_view name;
  std::string_view ref;  // name of the attribute of the function around it that gives the value, or empty
  Kind kind = Kind::undefined;
  float f = 0;
  int64_t i = 0;
  std::string_view s;
  std::vector<float> floats;
  std::vector<int64_t> ints;
  std::vector<std::string_view> strings;
  std::vector<Tensor> tensors;  // one for tensor; sparse ones are expanded
  std::vector<std::shared_ptr<const Graph>> graphs;
  std::vector<ValueType> types;
};

struct Node {
  std::string_view name, op_type, domain, overload;
  std::vector<std::string_view> inputs, outputs;  // "" for absent ones
  std::vector<std::shared_ptr<const Attribute>> attributes;
  std::string metadata;  // "key=value" lines of metadata_props

  const Attribute* attribute(std::string_view wanted) const {
    for (const auto& a : attributes)
      if (a->name == wanted) return a.get();
    return nullptr;
  }
};

struct Initializer {
  std::string_view name;
  Tensor tensor;
};

struct Graph {
  std::string_view name;
  std::vector<Node> nodes;
  std::vector<Initializer> initializers;  // sparse ones are expanded
  std::vector<ValueInfo> inputs, outputs, value_info;
};

struct OpsetImport {
  std::string_view domain;
  int64_t version = 0;
};

// A model-local function.
struct Function {
  std::string_view domain, name, overload;
  std::vector<std::string_view> inputs, outputs;
  std::vector<std::string_view> attributes;                // without default
  std::vector<std::shared_ptr<const Attribute>> defaults;  // attributes with default
  std::vector<Node> nodes;
  std::vector<OpsetImport> opsets;
};

struct Model {
  int64_t ir_version = 0;
  std::string_view producer;
  std::vector<OpsetImport> opsets;
  Graph graph;
  std::vector<Function> functions;
  std::vector<std::pair<std::string_view, std::string_view>> metadata;
  std::shared_ptr<const void> owner;  // of the bytes that names point into

  // Imported version of a domain; 0 when it is not imported.
  static int64_t version_of(const std::vector<OpsetImport>& opsets, std::string_view domain) {
    for (const OpsetImport& o : opsets)
      if (o.domain == domain) return o.version;
    return 0;
  }
};

}  // namespace sinter::onnx
