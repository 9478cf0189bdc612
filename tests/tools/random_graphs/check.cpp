#include "random_graphs/check.h"

#include <fmt/core.h>

#include <cmath>
#include <set>

#include "backend/verify.h"
#include "builder/pipeline.h"
#include "engine/file.h"
#include "ir/evaluate.h"
#include "ir/text.h"
#include "ir/verify.h"
#include "ops/shape.h"
#include "runtime/engine.h"

namespace random_graphs {
namespace {

using Kind = Recipe::Item::Kind;

// How far apart numbers may be, relative to the largest one on the way: what roundings add up to, with room.
double allowance(DType dtype) {
  switch (dtype) {
    case DType::f64: return 1e-9;
    case DType::f16: return 1e-2;
    case DType::bf16: return 8e-2;
    default: return is_float(dtype) && bit_size(dtype) <= 8 ? 0 : 1e-4;  // f8 are made of exact values alone
  }
}

double coarsest(const Graph& graph, const Node& node) {
  double out = 0;
  for (ValueId v : node.inputs)
    if (v != no_id && is_float(graph[v].type.dtype)) out = std::max(out, allowance(graph[v].type.dtype));
  for (ValueId v : node.outputs)
    if (is_float(graph[v].type.dtype)) out = std::max(out, allowance(graph[v].type.dtype));
  for (const Graph& body : node.bodies)
    for (const Node& inner : body.nodes) out = std::max(out, coarsest(body, inner));
  return out;
}

double largest(const Box& box) {
  double out = 0;
  for (const Box& item : box.items) out = std::max(out, largest(item));
  if (box.kind != Box::Kind::tensor || !is_float(box.tensor.dtype())) return out;
  for (int64_t i = 0; i < box.tensor.count(); ++i)
    if (const double x = std::abs(box.tensor.get_real(i)); std::isfinite(x)) out = std::max(out, x);
  return out;
}

bool has_loop(const Recipe& recipe) {
  for (const Recipe::Item& item : recipe.items) {
    if (item.op() == "Loop") return true;
    for (const Recipe& body : item.bodies)
      if (has_loop(body)) return true;
  }
  return false;
}

struct Reference {
  std::vector<Box> outputs;
  std::vector<double> tolerance;  // absolute, by output
  bool loops = false;             // in the graph
  bool copies = false;            // a computed shape of Reshape has a 0
};

// A 0 of Reshape's shape copies the operand's extent. Where a computed extent happens to be 0 the definition copies
// too, while an engine with open extents, which has the extent by a formula, leaves it 0.
bool copies_extents(const Graph& graph, const Evaluation& evaluation) {
  for (const Node& node : graph.nodes) {
    if (std::string_view(node.op->name) != "Reshape" || node.attrs.as<ReshapeAttrs>().allow_zero) continue;
    const Box& shape = evaluation.value(node.inputs[1]);
    if (graph.constant(node.inputs[1]) || shape.kind != Box::Kind::tensor) continue;
    for (int64_t i = 0; i < shape.tensor.count(); ++i)
      if (shape.tensor.get_integer(i) == 0) return true;
  }
  return false;
}

Reference reference_of(const Module& module, const std::vector<Box>& inputs) {
  const Evaluation evaluation(module, inputs);
  const Graph& graph = *module.main;
  Reference out{evaluation.outputs(), {}, false, copies_extents(graph, evaluation)};
  for (ValueId result : graph.outputs) {
    std::set<ValueId> seen{result};
    std::vector<ValueId> open{result};
    double high = 1, relative = allowance(DType::f64);
    while (!open.empty()) {
      const ValueId v = open.back();
      open.pop_back();
      high = std::max(high, largest(evaluation.value(v)));
      const Type& type = graph[v].type;
      const DType dtype = type.is_tensor() || !type.element ? type.dtype : type.element->dtype;
      if (is_float(dtype)) relative = std::max(relative, allowance(dtype));
      if (graph[v].def == no_id) continue;
      const Node& node = graph.nodes[graph[v].def];
      relative = std::max(relative, coarsest(graph, node));
      for (ValueId u : node.inputs)
        if (u != no_id && seen.insert(u).second) open.push_back(u);
    }
    out.tolerance.push_back(high * relative);
  }
  return out;
}

[[noreturn]] void differ(const std::string& text) { throw Error(Code::mismatch, text); }

void compare(const std::string& what, const Box& got, const Box& wanted, double tolerance, bool loops) {
  if (got.kind != wanted.kind || got.items.size() != wanted.items.size())
    differ(fmt::format("{} is a value of another kind or length", what));
  for (size_t i = 0; i < wanted.items.size(); ++i)
    compare(fmt::format("{}, item {}", what, i), got.items[i], wanted.items[i], tolerance, loops);
  if (wanted.kind != Box::Kind::tensor) return;
  const Tensor &a = got.tensor, &b = wanted.tensor;
  // Of a loop that did not run: what is built may know more extents than the definition, and a rank where it has none.
  if (loops && a.dtype() == b.dtype() && a.count() == 0 && b.count() == 0) return;
  if (a.dtype() != b.dtype() || a.dims() != b.dims())
    differ(fmt::format("{} is {}, expected {}", what, type_text(a), type_text(b)));
  for (int64_t i = 0; i < b.count(); ++i) {
    if (b.dtype() == DType::string) {
      if (const auto n = static_cast<size_t>(i); a.strings()[n] != b.strings()[n])
        differ(fmt::format("{}, element {} is \"{}\", expected \"{}\"", what, i, a.strings()[n], b.strings()[n]));
    } else if (!is_float(b.dtype())) {
      if (a.get_integer(i) != b.get_integer(i))
        differ(fmt::format("{}, element {} is {}, expected {}", what, i, a.get_integer(i), b.get_integer(i)));
    } else {
      const double x = a.get_real(i), y = b.get_real(i);
      if (x == y || (std::isnan(x) && std::isnan(y)) || std::abs(x - y) <= tolerance) continue;
      differ(fmt::format("{}, element {} is {}, expected {} (within {:.2g})", what, i, x, y, tolerance));
    }
  }
}

void compare(const std::vector<Box>& got, const Reference& wanted) {
  for (size_t o = 0; o < wanted.outputs.size(); ++o)
    compare(fmt::format("result {}", o), got[o], wanted.outputs[o], wanted.tolerance[o], wanted.loops);
}

std::vector<Box> run(Context& context, const std::vector<Box>& inputs) {
  for (size_t i = 0; i < inputs.size(); ++i) context.set_input(i, inputs[i]);
  context.run();
  std::vector<Box> out;
  for (size_t o = 0; o < context.engine().outputs().size(); ++o) out.push_back(context.output(o));
  return out;
}

// The same with outputs over inputs, where they may lie there: the bits of the run before.
void run_in_place(Context& context, std::vector<Box> inputs, const std::vector<Box>& before) {
  const Engine& engine = context.engine();
  std::vector<size_t> placed;
  for (size_t o = 0; o < before.size(); ++o) {
    const auto under = engine.input_under(o);
    if (!under || inputs[*under].tensor.bytes() != before[o].tensor.bytes()) continue;
    Tensor& own = inputs[*under].tensor;
    own = own.clone();
    context.set_output(o, own.mutable_data(), static_cast<size_t>(own.bytes()));
    placed.push_back(o);
  }
  if (placed.empty()) return;
  const std::vector<Box> got = run(context, std::move(inputs));
  for (size_t o = 0; o < before.size(); ++o)
    if (before[o].kind == Box::Kind::tensor && !got[o].tensor.identical(before[o].tensor))
      differ(fmt::format("result {} has other bits where outputs lie over inputs", o));
  for (size_t o : placed) context.set_output(o, nullptr, 0);
}

// Open axes of one extent get another together, so that what must agree mostly still does. Not 0: what a -1 of Reshape
// is then worth depends on which extents are known to be copied.
Recipe with_other_extents(Recipe recipe, uint64_t seed) {
  for (Recipe::Item& item : recipe.items)
    for (size_t k = 0; k < item.open.size(); ++k) {
      const uint64_t drawn = (seed * 77 + static_cast<uint64_t>(item.dims[k])) * 0x9E3779B97F4A7C15u >> 32;
      if (item.open[k] && drawn % 2 == 0) item.dims[k] = 1 + static_cast<int64_t>(drawn / 2 % 9);
    }
  return recipe;
}

// The engine gives what the definition gives. What the definition refuses may run, where what is wrong with it went
// away with a rewrite, but breaks nothing.
void run_other_extents(Context& context, const Module& definition, const Recipe& recipe, uint64_t seed,
                       Others* others) {
  const Recipe other = with_other_extents(recipe, seed);
  const std::vector<Box> inputs = data_for(other, seed);
  std::optional<Reference> wanted;
  try {
    wanted = reference_of(definition, inputs);
    wanted->loops = has_loop(recipe);
  } catch (const Error&) {
  }
  if (others) ++others->tried, others->defined += wanted.has_value();
  std::string extents;
  for (const Box& box : inputs) extents += " " + type_text(box.tensor);
  try {
    const std::vector<Box> got = run(context, inputs);
    if (wanted && !wanted->copies) compare(got, *wanted);
  } catch (Error& error) {
    if ((!wanted || wanted->copies) && error.code() != Code::internal && error.code() != Code::mismatch) return;
    error.add_context("inputs" + extents);
    throw;
  }
}

}  // namespace

bool is_sound(const Recipe& recipe, uint64_t seed) {
  try {
    const Module module = module_of(recipe, false);
    verify(module);
    const std::vector<Box> data = data_for(recipe, seed);
    const Evaluation evaluation(module, data);
    for (ValueId v = 0; v < module.main->values.size(); ++v) {
      const Box& box = evaluation.value(v);
      if (box.kind != Box::Kind::tensor || !is_float(box.tensor.dtype())) continue;
      for (int64_t i = 0; i < box.tensor.count(); ++i)
        if (const double x = box.tensor.get_real(i); !std::isfinite(x) || std::abs(x) > 1e5) return false;
    }
    return true;
  } catch (const std::exception&) {
    return false;
  }
}

std::optional<Failure> check(const Recipe& recipe, uint64_t seed, const Fault& fault, Others* others) {
  std::string phase = "definition";
  bool dynamic = false;
  const auto failure = [&](const char* code, const char* what) {
    return Failure{phase + ", " + code, phase + ": " + what, dynamic};
  };
  try {
    const std::vector<Box> inputs = data_for(recipe, seed), others_data = data_for(recipe, seed + 1);
    std::vector<Box> as_it_is;
    BuildOptions options;
    options.threads = static_cast<int>(1 + seed % 2);
    if (seed % 3 == 0) options.level = "portable";
    options.logger.sink = [](void*, LogLevel, std::string_view) {};
    for (const bool form : {false, true}) {
      dynamic = form;
      const std::string how = form ? " with open extents" : "";
      phase = "definition" + how;
      // What a loop without iterations stacks has extents of 0 where only running would tell, and no rank where types
      // know none: with loops, the definition may differ between the two forms, or refuse.
      Module definition;
      Reference wanted;
      try {
        definition = module_of(recipe, form);
        verify(definition);
        wanted = reference_of(definition, inputs);
        wanted.loops = has_loop(recipe);
      } catch (const Error& error) {
        if (error.code() == Code::internal || !has_loop(recipe)) throw;
        if (others) ++others->refused;
        continue;
      }
      if (!form)
        as_it_is = wanted.outputs;
      else if (!has_loop(recipe))
        compare(as_it_is, wanted);
      // Elements that decide extents may be such that the second run is refused; then it must be refused kindly.
      std::optional<Reference> next;
      try {
        next = reference_of(definition, others_data);
        next->loops = wanted.loops;
      } catch (const Error&) {
      }
      phase = "building" + how;
      Built built = build(module_of(recipe, form, fault), options);
      DeviceSpec device = this_machine(options.threads);
      device.level = built.target.needs.level;
      phase = "verifying" + how;
      verify_target(built.target, device);
      const Target* targets[] = {&built.target};
      auto bytes = std::make_shared<std::vector<std::byte>>(save_engine(targets));
      phase = "built" + how;
      {
        Context direct(std::make_shared<const Engine>(make_executable(std::move(built.target), device)),
                       options.threads);
        compare(run(direct, inputs), wanted);
      }
      phase = "loaded" + how;
      Context loaded(std::make_shared<const Engine>(load_engine(*bytes, bytes, LoadOptions{options.threads, true})),
                     options.threads);
      compare(run(loaded, inputs), wanted);
      phase = "loaded" + how + ", second run";
      try {
        const std::vector<Box> got = run(loaded, others_data);
        if (next && !next->copies) compare(got, *next);
      } catch (const Error& error) {
        if ((next && !next->copies) || error.code() == Code::internal || error.code() == Code::mismatch) throw;
      }
      phase = "loaded" + how + ", third run";
      const std::vector<Box> third = run(loaded, inputs);
      compare(third, wanted);
      phase = "loaded" + how + ", in place";
      run_in_place(loaded, inputs, third);
      phase = "with other extents";
      for (uint64_t k = 0; form && k < 3; ++k) run_other_extents(loaded, definition, recipe, seed + k, others);
    }
  } catch (const Error& error) {
    return failure(code_name(error.code()), error.what());
  } catch (const std::exception& error) {
    return failure("exception", error.what());
  }
  return std::nullopt;
}

}  // namespace random_graphs
