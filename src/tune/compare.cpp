#include "tune/compare.h"

#include <fmt/core.h>

#include <algorithm>
#include <cmath>
#include <map>

#include "backend/verify.h"
#include "ir/evaluate.h"

namespace sinter {
namespace {

// Compares what each step of the main plan leaves.
class Watcher final : public StepObserver {
 public:
  Watcher(const Module& module, const Evaluation& reference, const std::vector<std::string>& names,
          const Tolerance& tolerance, Comparison& out)
      : reference_(reference), names_(names), tolerance_(tolerance), out_(out) {
    const Graph& graph = *module.main;
    for (ValueId v = 0; v < graph.values.size(); ++v) {
      if (graph[v].name.empty()) continue;
      const auto [at, fresh] = by_name_.emplace(graph[v].name, v);
      if (!fresh) at->second = no_id;  // two values of one name are told apart by nothing
    }
  }

  void after(const Frame& frame, const Step& step, uint32_t choice) override {
    const Target& target = frame.executable().target;
    const std::vector<Step>& steps = target.main.steps;
    if (steps.empty() || &step < steps.data() || &step > &steps.back()) return;  // of a body
    for (uint32_t s : step.results) {
      const std::string& name = s < names_.size() ? names_[s] : std::string();
      const auto at = by_name_.find(name);
      if (name.empty() || at == by_name_.end() || at->second == no_id || !frame.slot(s).layout.has_strides()) continue;
      Compared compared = compare_values(frame.snapshot(s), reference_.value(at->second), tolerance_);
      compared.tensor = name;
      compared.node = sources_text(target, step.sources);
      compared.kernel = target.kernels[step.choices[choice].kernel];
      out_.values.push_back(std::move(compared));
      seen_[name] = true;
    }
  }

  size_t seen() const { return seen_.size(); }

 private:
  const Evaluation& reference_;
  const std::vector<std::string>& names_;
  const Tolerance& tolerance_;
  Comparison& out_;
  std::map<std::string, ValueId> by_name_;
  std::map<std::string, bool> seen_;
};

void compare_tensors(const Tensor& got, const Tensor& expected, const Tolerance& tolerance, Compared& out) {
  out.type = type_text(expected);
  // Builds that allow bf16 hold f32 in it (builder/narrow.cpp), and halves may be held in f32
  // (passes/widen_halves.cpp), which such builds narrow in turn.
  const auto is_half = [](DType d) { return d == DType::f16 || d == DType::bf16; };
  const bool held_narrow = tolerance.bf16_between && got.dtype() == DType::bf16 &&
                           (expected.dtype() == DType::f32 || is_half(expected.dtype()));
  const bool held_wide = got.dtype() == DType::f32 && is_half(expected.dtype());
  if ((got.dtype() != expected.dtype() && !held_narrow && !held_wide) || got.dims() != expected.dims()) {
    out.agrees = false;
    out.note = fmt::format("is {}, expected {}", type_text(got), type_text(expected));
    return;
  }
  if (expected.dtype() == DType::string || is_complex(expected.dtype())) {
    if (got.identical(expected)) return;
    out.agrees = false;
    out.note = "elements differ";
    return;
  }
  double largest = 0, beyond = 0;
  for (int64_t i = 0; i < expected.count(); ++i)
    if (const double e = std::abs(expected.get_real(i)); std::isfinite(e)) largest = std::max(largest, e);
  const double absolute = tolerance.atol * std::max(1.0, largest);
  for (int64_t i = 0; i < expected.count(); ++i) {
    const double e = expected.get_real(i), g = got.get_real(i);
    if (g == e || (std::isnan(g) && std::isnan(e))) continue;
    const double error = std::isfinite(g) && std::isfinite(e) ? std::abs(g - e) : INFINITY;
    const double excess = error - absolute - tolerance.rtol * (std::isfinite(e) ? std::abs(e) : 0);
    if (error > out.max_error && excess <= 0 && out.agrees) {
      out.at = i;
      out.expected = e;
      out.got = g;
    }
    out.max_error = std::max(out.max_error, error);
    if (excess > 0 && (out.agrees || excess > beyond)) {
      out.agrees = false;
      beyond = excess;
      out.at = i;
      out.expected = e;
      out.got = g;
    }
  }
  out.max_relative = largest > 0 ? out.max_error / largest : out.max_error;
}

}  // namespace

const Compared* Comparison::first_difference() const {
  for (const Compared& value : values)
    if (!value.agrees) return &value;
  return nullptr;
}

Compared compare_values(const Box& got, const Box& expected, const Tolerance& tolerance) {
  Compared out;
  if (got.kind != expected.kind || got.items.size() != expected.items.size()) {
    out.agrees = false;
    out.note = "one is a tensor, a sequence, a map or nothing, the other is not, or they differ in length";
    return out;
  }
  if (expected.kind == Box::Kind::tensor) compare_tensors(got.tensor, expected.tensor, tolerance, out);
  for (size_t i = 0; i < expected.items.size(); ++i) {
    Compared item = compare_values(got.items[i], expected.items[i], tolerance);
    const double error = std::max(out.max_error, item.max_error);
    if (!item.agrees && out.agrees) {
      out = std::move(item);
      const std::string where = expected.kind == Box::Kind::map
                                    ? (i == 0 ? "the keys of the map" : "the values of the map")
                                    : fmt::format("element {} of the sequence", i);
      out.note = fmt::format("{}{}{}", where, out.note.empty() ? "" : ": ", out.note);
    }
    out.max_error = error;
  }
  if (expected.kind == Box::Kind::sequence) out.type = fmt::format("sequence of {}", expected.items.size());
  if (expected.kind == Box::Kind::map) out.type = fmt::format("map of {}", expected.keys().count());
  return out;
}

std::shared_ptr<const Engine> make_engine(Target target, int threads) {
  DeviceSpec device = this_machine(threads);
  device.level = target.needs.level;
  verify_target(target, device);
  return std::make_shared<const Engine>(make_executable(std::move(target), device));
}

std::vector<Box> run_once(std::shared_ptr<const Engine> engine, std::span<const Box> inputs, int threads,
                          const Control* control, StepObserver* observer) {
  Context context(engine, threads);
  for (size_t i = 0; i < inputs.size(); ++i) context.set_input(i, inputs[i]);
  context.run(control, observer);
  std::vector<Box> out;
  for (size_t o = 0; o < engine->outputs().size(); ++o) out.push_back(context.output(o));
  return out;
}

std::string sources_text(const Target& target, std::span<const uint32_t> sources) {
  std::string out;
  for (uint32_t s : sources) {
    if (s >= target.sources.size()) continue;
    const SourceNode& node = target.sources[s];
    out += fmt::format("{}{}{}({})", out.empty() ? "" : ", ", node.name, node.name.empty() ? "" : " ", node.op_type);
  }
  return out;
}

Comparison compare(const Module& module, std::span<const Box> inputs, const BuildOptions& options,
                   const Tolerance& tolerance) {
  Comparison out;
  options.control.report("evaluating by reference", 0.0);
  const Evaluation reference(module, inputs, options.control);
  Built built = build(copy(module), options);
  const auto engine = make_engine(std::move(built.target), options.threads);
  Tolerance between = tolerance;
  between.bf16_between = options.passes.allow_bf16;
  Watcher watcher(module, reference, built.report.value_names, between, out);
  const std::vector<Box> got = run_once(engine, inputs, options.threads, &options.control, &watcher);
  size_t named = 0;
  for (const Node& node : module.main->nodes)
    for (ValueId v : node.outputs) named += !(*module.main)[v].name.empty();
  out.hidden = named - std::min(named, watcher.seen());
  const std::vector<Box> expected = reference.outputs();
  for (size_t o = 0; o < expected.size() && o < got.size(); ++o) {
    Compared compared = compare_values(got[o], expected[o], tolerance);
    compared.tensor = engine->outputs()[o].name;
    compared.is_output = true;
    out.values.push_back(std::move(compared));
  }
  return out;
}

}  // namespace sinter
