#include "ir/evaluate.h"

#include <fmt/core.h>

#include "ops/control.h"

namespace sinter {
namespace {

std::vector<Box> run_graph(const Graph& graph, std::vector<Box> parameters, std::vector<int64_t>& symbols,
                           const Control& control, std::vector<Box>* keep);

// Symbols that stand bare in a type take the extents that the value turned out to have.
void bind_from(const Type& type, const Dims& dims, std::vector<int64_t>& symbols) {
  if (!type.has_shape() || dims.size() != type.shape->size()) return;
  for (size_t k = 0; k < type.shape->size(); ++k)
    if (const auto id = (*type.shape)[k].as_symbol()) symbols[*id] = dims[k];
}

void bind_from(const Type& type, const Box& box, std::vector<int64_t>& symbols) {
  if (box.kind == Box::Kind::tensor) bind_from(type, box.tensor.dims(), symbols);
}

class GraphBodies final : public BodyRunner {
 public:
  GraphBodies(const Node& node, std::span<const Box* const> inputs, const std::vector<int64_t>& symbols,
              const Control& control)
      : node_(node), inputs_(inputs), symbols_(symbols), control_(control) {}
  std::vector<Box> run(size_t body, std::vector<Box> parameters) override {
    // What a body binds means nothing outside: a loop that does not run later must not find it.
    std::vector<int64_t> symbols = symbols_;
    return run_graph(node_.bodies[body], std::move(parameters), symbols, control_, nullptr);
  }
  // The extents that a first iteration would give, as far as what it starts from says them.
  Tensor without_running(size_t body, size_t result) override {
    const Graph& graph = node_.bodies[body];
    const LoopAttrs& attrs = node_.attrs.as<LoopAttrs>();
    const size_t scanned = 2 + static_cast<size_t>(attrs.carried);
    std::vector<int64_t> symbols = symbols_;
    for (size_t p = 2; p < graph.inputs.size() && p < inputs_.size(); ++p) {
      if (!inputs_[p] || inputs_[p]->kind != Box::Kind::tensor) continue;
      Dims dims = inputs_[p]->tensor.dims();
      if (p >= scanned && p - scanned < attrs.scan_axes.size()) {
        const int64_t axis = attrs.scan_axes[p - scanned];
        dims.erase(dims.begin() + (axis < 0 ? axis + static_cast<int64_t>(dims.size()) : axis));
      }
      bind_from(graph[graph.inputs[p]].type, dims, symbols);
    }
    const Type& type = graph[graph.outputs[result]].type;
    return Tensor(type.dtype, type.shape ? evaluate_or_zero(*type.shape, symbols) : Dims());
  }

 private:
  const Node& node_;
  std::span<const Box* const> inputs_;
  const std::vector<int64_t>& symbols_;
  const Control& control_;
};

Box box_of(const Value& value, std::span<const int64_t> symbols) {
  if (const auto* tensor = std::get_if<Tensor>(&value.contents)) return Box(*tensor);
  const auto& dims = std::get<std::vector<Dim>>(value.contents);
  Tensor tensor(value.type.dtype, evaluate(*value.type.shape, symbols));
  for (size_t i = 0; i < dims.size(); ++i) tensor.set_integer(static_cast<int64_t>(i), dims[i].evaluate(symbols));
  return Box(std::move(tensor));
}

std::vector<Box> run_graph(const Graph& graph, std::vector<Box> parameters, std::vector<int64_t>& symbols,
                           const Control& control, std::vector<Box>* keep) {
  std::vector<Box> values(graph.values.size());
  std::vector<bool> have(graph.values.size(), false);
  for (size_t i = 0; i < graph.inputs.size(); ++i) {
    const ValueId v = graph.inputs[i];
    values[v] = std::move(parameters[i]);
    have[v] = true;
    bind_from(graph[v].type, values[v], symbols);
  }
  const auto get = [&](ValueId v) -> const Box& {
    if (!have[v]) {
      values[v] = box_of(graph[v], symbols);
      have[v] = true;
    }
    return values[v];
  };
  for (const Node& node : graph.nodes) {
    control.poll();
    std::vector<const Box*> inputs;
    for (ValueId v : node.inputs) inputs.push_back(v == no_id ? nullptr : &get(v));
    GraphBodies bodies(node, inputs, symbols, control);
    std::vector<Box> results =
        evaluate_op(*node.op, node.attrs, inputs, node.outputs.size(), node.bodies.empty() ? nullptr : &bodies);
    for (size_t o = 0; o < node.outputs.size(); ++o) {
      const ValueId v = node.outputs[o];
      values[v] = std::move(results[o]);
      have[v] = true;
      bind_from(graph[v].type, values[v], symbols);
    }
  }
  std::vector<Box> out;
  for (ValueId v : graph.outputs) out.push_back(get(v));
  if (keep) *keep = std::move(values);
  return out;
}

}  // namespace

Evaluation::Evaluation(const Module& module, std::span<const Box> inputs, const Control& control) : module_(module) {
  const Graph& graph = *module.main;
  if (inputs.size() != graph.inputs.size())
    throw Error(Code::invalid_argument,
                fmt::format("the graph has {} inputs, {} are given", graph.inputs.size(), inputs.size()));
  std::vector<Type> types;
  std::vector<std::string> names;
  std::vector<Dims> extents;
  for (size_t i = 0; i < inputs.size(); ++i) {
    const Value& value = graph[graph.inputs[i]];
    if (!value.type.has_shape() || inputs[i].kind != Box::Kind::tensor) continue;
    types.push_back(value.type);
    names.push_back(value.name);
    extents.push_back(inputs[i].tensor.dims());
  }
  std::vector<int64_t> symbols = bind_symbols(module.symbols, types, names, extents);
  run_graph(graph, std::vector<Box>(inputs.begin(), inputs.end()), symbols, control, &values_);
}

std::vector<Box> Evaluation::outputs() const {
  std::vector<Box> out;
  for (ValueId v : module_.main->outputs) out.push_back(values_[v]);
  return out;
}

std::vector<int64_t> bind_symbols(const SymbolTable& symbols, std::span<const Type> types,
                                  std::span<const std::string> names, std::span<const Dims> extents) {
  std::vector<int64_t> values(symbols.size(), -1);
  const auto where = [&](size_t i, size_t k) { return fmt::format("input '{}', axis {}", names[i], k); };
  for (size_t i = 0; i < types.size(); ++i) {
    const Shape& shape = *types[i].shape;
    if (extents[i].size() != shape.size())
      throw Error(Code::invalid_argument,
                  fmt::format("input '{}' has rank {}, the model wants {}", names[i], extents[i].size(), shape.size()));
    for (size_t k = 0; k < shape.size(); ++k) {
      const int64_t extent = extents[i][k];
      if (extent < 0) throw Error(Code::invalid_argument, fmt::format("{}: negative extent {}", where(i, k), extent));
      if (const auto id = shape[k].as_symbol()) {
        if (values[*id] >= 0 && values[*id] != extent)
          throw Error(Code::invalid_argument,
                      fmt::format("{}: extent {} differs from {}, which another input gives for '{}'", where(i, k),
                                  extent, values[*id], symbols[*id].name));
        values[*id] = extent;
      } else if (shape[k].is_constant() && shape[k].constant() != extent) {
        throw Error(Code::invalid_argument,
                    fmt::format("{}: extent {}, the model wants {}", where(i, k), extent, shape[k].constant()));
      }
    }
  }
  return values;
}

}  // namespace sinter
