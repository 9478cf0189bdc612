#include "builder/problem_of.h"

#include <fmt/core.h>

#include <algorithm>

namespace sinter {
namespace {

class Renumbering {
 public:
  explicit Renumbering(Problem& problem, size_t symbols) : problem_(problem), to_problem_(symbols, UINT32_MAX) {}

  void see(const Dim& d) {
    std::vector<SymbolId> ids;
    // Order of first mention within one expression is by symbol number, which is canonical after import.
    d.collect_symbols(ids);
    for (SymbolId id : ids) see(id);
  }
  void see(const Type& type) {
    if (type.shape)
      for (const Dim& d : *type.shape) see(d);
    if (type.element) see(*type.element);
  }
  std::span<const SymbolId> map() const { return to_problem_; }
  std::vector<SymbolId> back;

 private:
  void see(SymbolId id) {
    if (to_problem_[id] != UINT32_MAX) return;
    to_problem_[id] = problem_.symbols.add({.name = fmt::format("s{}", back.size()), .bound = Symbol::Bound::input});
    back.push_back(id);
  }
  Problem& problem_;
  std::vector<SymbolId> to_problem_;
};

}  // namespace

FragmentProblem problem_of(Module& module, const Graph& body, std::span<const Type> operand_types,
                           const std::vector<bool>& constant) {
  FragmentProblem out;
  Problem& problem = out.problem;
  Renumbering numbers(problem, module.symbols.size());
  std::vector<uint16_t> value_of(body.values.size(), absent_operand);
  // Operands: parameters, then known host operands as the stages mention them.
  std::vector<ValueId> operands = body.inputs;
  for (const Node& node : body.nodes)
    for (ValueId v : node.inputs)
      if (v != no_id && body[v].has_contents() && std::find(operands.begin(), operands.end(), v) == operands.end())
        operands.push_back(v);
  for (size_t i = 0; i < operands.size(); ++i) {
    numbers.see(i < operand_types.size() ? operand_types[i] : body[operands[i]].type);
    if (const auto* dims = std::get_if<std::vector<Dim>>(&body[operands[i]].contents))
      for (const Dim& d : *dims) numbers.see(d);
  }
  for (size_t i = 0; i < operands.size(); ++i) {
    const ValueId v = operands[i];
    Operand operand;
    operand.type = rename(i < operand_types.size() ? operand_types[i] : body[v].type, numbers.map());
    operand.constant = i < constant.size() && constant[i];
    if (const auto* dims = std::get_if<std::vector<Dim>>(&body[v].contents)) {
      std::vector<Dim> renamed;
      for (const Dim& d : *dims) renamed.push_back(d.rename(numbers.map()));
      operand.contents = std::move(renamed);
    } else if (const Tensor* tensor = body.constant(v)) {
      operand.contents = *tensor;
    }
    value_of[v] = static_cast<uint16_t>(i);
    problem.operands.push_back(std::move(operand));
  }
  uint16_t next = static_cast<uint16_t>(operands.size());
  for (const Node& node : body.nodes) {
    Stage stage{node.op, node.attrs, {}, static_cast<uint16_t>(node.outputs.size())};
    for (size_t i = 0; i < node.inputs.size(); ++i) {
      const ValueId v = node.inputs[i];
      stage.inputs.push_back(v == no_id ? absent_operand : value_of[v]);
      if (v != no_id && value_of[v] < problem.operands.size() && i < 64 && (node.op->host_inputs >> i & 1))
        problem.operands[value_of[v]].host = true;
    }
    for (ValueId v : node.outputs) value_of[v] = next++;
    problem.stages.push_back(std::move(stage));
  }
  for (ValueId v : body.outputs) problem.results.push_back({value_of[v], {}});
  complete(problem);
  // Symbols found out by the stages: those that stand at the same place of the body's types.
  out.symbols = numbers.back;
  out.symbols.resize(problem.symbols.size(), UINT32_MAX);
  for (ValueId v = 0; v < body.values.size(); ++v) {
    if (value_of[v] == absent_operand || !body[v].type.has_shape()) continue;
    const Type& type = problem.types[value_of[v]];
    if (!type.has_shape() || type.shape->size() != body[v].type.shape->size()) continue;
    for (size_t k = 0; k < type.shape->size(); ++k) {
      const auto inner = (*type.shape)[k].as_symbol();
      const auto outer = (*body[v].type.shape)[k].as_symbol();
      if (inner && outer && out.symbols[*inner] == UINT32_MAX) out.symbols[*inner] = *outer;
    }
  }
  for (size_t k = 0; k < out.symbols.size(); ++k)
    if (out.symbols[k] == UINT32_MAX) {
      Symbol symbol = problem.symbols[static_cast<SymbolId>(k)];
      symbol.name = fmt::format("s{}", module.symbols.size());
      symbol.likely = likely_value(symbol);
      symbol.high.reset();
      out.symbols[k] = module.symbols.add(std::move(symbol));
    }
  return out;
}

bool gives_the_same(const Graph& body) {
  return std::all_of(body.nodes.begin(), body.nodes.end(),
                     [](const Node& stage) { return stage.op->is.deterministic && !stage.op->is.never_fold; });
}

std::vector<bool> known_values(const Graph& graph) {
  std::vector<bool> known;
  for (const Value& value : graph.values) known.push_back(value.is_constant() && value.type.is_plain());
  for (const Node& node : graph.nodes) {
    if (node.inputs.empty() || std::string_view(node.op->name) != "Fragment") continue;
    const bool all = gives_the_same(node.bodies[0]) && std::all_of(node.inputs.begin(), node.inputs.end(),
                                                                   [&](ValueId v) { return v == no_id || known[v]; });
    for (ValueId v : node.outputs) known[v] = known[v] || all;
  }
  return known;
}

std::vector<int64_t> likely_values(const Module& module, const FragmentProblem& made) {
  std::vector<int64_t> out;
  for (SymbolId symbol : made.symbols) out.push_back(likely_value(module.symbols[symbol]));
  return out;
}

}  // namespace sinter
