// GraphBuilder: appends nodes to a graph. Types are inferred at once, small constant results folded at once.
//
// Frontends, wiring and the Rewriter build through it, so a graph never holds an untyped or unchecked node. Errors are
// thrown as Error; the caller adds where it was.
#pragma once

#include <initializer_list>
#include <span>
#include <string_view>
#include <vector>

#include "ir/graph.h"

namespace sinter {

// A rank must be known that is not: that of a value of the graph under construction.
class RankNotKnown : public Error {
 public:
  explicit RankNotKnown(ValueId value)
      : Error(Code::unsupported, "the rank must be known when the model is built; give the input a fixed rank"),
        value(value) {}
  ValueId value;
};

class GraphBuilder {
 public:
  GraphBuilder(Module& module, Graph& graph) : module(module), graph(graph) {}

  Module& module;
  Graph& graph;

  ValueId input(Type type, std::string name = {});
  ValueId constant(Tensor tensor, std::string name = {});
  ValueId scalar(DType dtype, double value) { return constant(Tensor::scalar(dtype, value)); }
  ValueId integers(std::span<const int64_t> values) { return constant(Tensor::vector_i64(values)); }
  ValueId integers(std::initializer_list<int64_t> values) {
    return integers(std::span<const int64_t>(values.begin(), values.size()));
  }
  // A rank-1 i64 value whose elements are these extents.
  ValueId dims(std::vector<Dim> values);

  // One node; results in order. Inputs may contain no_id for absent operands (trailing ones are dropped).
  Ids add(const Op& op, Attrs attrs, Ids inputs, size_t outputs, std::vector<Graph> bodies = {});
  // The only result of an operator named by name, without or with attributes.
  ValueId op(std::string_view name, std::initializer_list<ValueId> inputs) { return op(name, Attrs(), Ids(inputs)); }
  ValueId op(std::string_view name, Attrs attrs, std::initializer_list<ValueId> inputs) {
    return op(name, std::move(attrs), Ids(inputs));
  }
  ValueId op(std::string_view name, Attrs attrs, Ids inputs);

  const Type& type(ValueId v) const { return graph[v].type; }
  DType dtype(ValueId v) const;         // throws when no tensor
  const Shape& shape(ValueId v) const;  // throws when the rank is unknown
  size_t rank(ValueId v) const { return shape(v).size(); }
  const Tensor* constant_of(ValueId v) const { return graph.constant(v); }
  std::optional<std::vector<Dim>> integers_of(ValueId v) const;  // known small integer contents

  // Nodes added from now on come from these nodes of the user's model.
  void set_sources(Sources sources) { sources_ = std::move(sources); }

 private:
  Sources sources_;
};

}  // namespace sinter
