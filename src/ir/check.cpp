#include "ir/check.h"

#include <fmt/core.h>

#include <cmath>
#include <random>

namespace sinter {
namespace {

constexpr int64_t max_elements_checked = 1 << 16;

// How far results may be apart, as a part of the largest.
double precision_of(DType dtype) { return dtype == DType::f16 ? 4e-3 : dtype == DType::bf16 ? 3e-2 : 1e-4; }

// Evaluates one value of a graph from chosen contents of the graph's inputs; memoized by value.
class Evaluator {
 public:
  Evaluator(const Module& module, const Graph& graph, int64_t extent)
      : graph_(graph), values_(graph.values.size()), have_(graph.values.size(), false) {
    symbols_.assign(module.symbols.size(), extent);
  }

  const Box& value(ValueId v) {
    if (have_[v]) return values_[v];
    const Value& value = graph_[v];
    if (const auto* tensor = std::get_if<Tensor>(&value.contents)) {
      values_[v] = Box(*tensor);
    } else if (const auto* dims = std::get_if<std::vector<Dim>>(&value.contents)) {
      Tensor tensor(value.type.dtype, evaluate(*value.type.shape, symbols_));
      for (size_t i = 0; i < dims->size(); ++i)
        tensor.set_integer(static_cast<int64_t>(i), (*dims)[i].evaluate(symbols_));
      values_[v] = Box(std::move(tensor));
    } else if (value.def == no_id) {
      values_[v] = Box(sample(value.type, v));
    } else {
      const Node& node = graph_.nodes[value.def];
      std::vector<const Box*> inputs;
      for (ValueId i : node.inputs)
        if (i != no_id) this->value(i);
      for (ValueId i : node.inputs) inputs.push_back(i == no_id ? nullptr : &values_[i]);
      if (!node.bodies.empty()) throw Error(Code::unsupported, "bodies are not checked");
      std::vector<Box> results = evaluate_op(*node.op, node.attrs, inputs, node.outputs.size());
      for (size_t o = 0; o < node.outputs.size(); ++o) {
        values_[node.outputs[o]] = std::move(results[o]);
        have_[node.outputs[o]] = true;
      }
    }
    have_[v] = true;
    return values_[v];
  }

 private:
  Tensor sample(const Type& type, ValueId v) {
    if (!type.is_plain()) throw Error(Code::unsupported, "only plain tensors are checked");
    const Dims dims = evaluate(*type.shape, symbols_);
    Tensor tensor(type.dtype, dims);
    if (tensor.count() > max_elements_checked) throw Error(Code::limit, "too large to check");
    std::mt19937_64 random(v + 1);
    std::normal_distribution<double> normal;
    for (int64_t i = 0; i < tensor.count(); ++i) {
      if (is_float(type.dtype))
        tensor.set_real(i, normal(random));
      else
        tensor.set_integer(i, static_cast<int64_t>(random() % 2));
    }
    return tensor;
  }

  const Graph& graph_;
  std::vector<int64_t> symbols_;
  std::vector<Box> values_;
  std::vector<bool> have_;
};

void check(void*, Module& module, Graph& graph, ValueId old_value, ValueId new_value, const Rule& rule) {
  if (rule.effect == Effect::changes_meaning || !graph[old_value].type.is_plain()) return;
  for (const int64_t extent : {int64_t{4}, int64_t{1}}) {
    Tensor before, after;
    try {
      Evaluator evaluator(module, graph, extent);
      before = evaluator.value(old_value).tensor;
      after = evaluator.value(new_value).tensor;
    } catch (const Error&) {
      continue;  // these extents or inputs do not fit the graph
    }
    bool same = before.dims() == after.dims() && before.dtype() == after.dtype();
    double scale = 0, worst = 0;
    for (int64_t i = 0; same && i < before.count(); ++i) {
      const double a = before.get_real(i), b = after.get_real(i);
      if (std::isfinite(a)) scale = std::max(scale, std::abs(a));
      if (std::isnan(a) != std::isnan(b))
        worst = INFINITY;
      else if (a != b && !std::isnan(a))
        worst = std::max(worst, std::abs(a - b));
    }
    const double relative = std::max(precision_of(before.dtype()), precision_of(rule.precision));
    const double allowed = is_float(before.dtype()) ? relative * scale + 1e-9 : rule.effect == Effect::exact ? 0 : 1;
    if (!same || worst > allowed)
      throw Error(Code::mismatch, fmt::format("rule '{}' changed a result: {} against {}, largest difference {}",
                                              rule.name, type_text(after), type_text(before), worst));
  }
}

}  // namespace

void check_rewrites(Journal& journal) { journal.check = check; }

}  // namespace sinter
