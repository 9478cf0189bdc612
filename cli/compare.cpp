// sinter compare and sinter bisect: is an engine right, and what makes it wrong.

#include "tune/compare.h"

#include <fmt/core.h>

#include <algorithm>

#include "base/scanner.h"
#include "common.h"
#include "report.h"
#include "tune/bisect.h"

namespace sinter::cli {
namespace {

struct Args {
  std::string model;
  BuildFlags build;
  InputFlags inputs;
  Tolerance tolerance;
  bool all = false;

  void declare(Options& o) {
    o.positional("MODEL", model, "ONNX model");
    inputs.declare(o);
    o.value("--rtol", tolerance.rtol, "R",
            "error allowed relative to the expected element (bf16 makes it 0.03, f16 0.005)");
    o.value("--atol", tolerance.atol, "A", "error allowed besides (bf16 makes it 0.03, f16 0.005)");
    build.declare(o);
  }

  Tolerance allowed(const Module& module) const {
    if (!(tolerance.rtol >= 0) || !(tolerance.atol >= 0))
      throw Error(Code::invalid_argument, "--rtol and --atol must be 0 or more");
    // A bf16 number is off by 4e-3 at most, one of f16 by 5e-4, and networks magnify that.
    constexpr double with_bf16 = 3e-2, with_f16 = 5e-3;
    const bool bf16 = build.bf16 || has(*module.main, DType::bf16);
    const bool f16 = build.fp16 || has(*module.main, DType::f16);
    Tolerance out = tolerance;
    for (double Tolerance::*part : {&Tolerance::rtol, &Tolerance::atol})
      if ((bf16 || f16) && out.*part == Tolerance().*part) out.*part = bf16 ? with_bf16 : with_f16;
    return out;
  }

  // Bodies of loops and branches included.
  static bool has(const Graph& graph, DType dtype) {
    return std::any_of(graph.values.begin(), graph.values.end(),
                       [&](const Value& value) { return value.type.is_tensor() && value.type.dtype == dtype; }) ||
           std::any_of(graph.nodes.begin(), graph.nodes.end(), [&](const Node& node) {
             return std::any_of(node.bodies.begin(), node.bodies.end(),
                                [&](const Graph& body) { return has(body, dtype); });
           });
  }
};

void refuse_engine(const std::string& path) {
  if (is_engine_file(path))
    throw Error(Code::invalid_argument, fmt::format("'{}' is an engine", path))
        .with_hint("give the ONNX model: an engine keeps no graph to compare with");
}

std::string verdict(const Compared& value) { return value.agrees ? green("ok") : red("differs"); }

std::string error_text(const Compared& value) {
  return value.note.empty() ? fmt::format("{:.3g}", value.max_error) : value.note;
}

void print_difference(const Compared& value) {
  fmt::print("  tensor    {}{}\n", printable(value.tensor), value.is_output ? " (an output)" : "");
  if (!value.node.empty()) fmt::print("  node      {}\n", printable(value.node));
  if (!value.kernel.empty()) fmt::print("  kernel    {}\n", value.kernel);
  if (!value.type.empty()) fmt::print("  type      {}\n", value.type);
  if (!value.note.empty()) {
    fmt::print("  reason    {}\n", value.note);
    return;
  }
  fmt::print("  error     {:.6g} at most, {:.3g} of the largest element\n", value.max_error, value.max_relative);
  fmt::print("  element   {} is {:.9g}, expected {:.9g}\n", value.at, value.got, value.expected);
}

int run_compare(const Args& args) {
  refuse_engine(args.model);
  const BuildOptions options = args.build.options(true);
  const Module module = read_model(args.model, args.build, options);
  const Tolerance allowed = args.allowed(module);
  const std::vector<Box> inputs = read_inputs(inputs_of(module), module.symbols, best_of(module, options), args.inputs);
  Comparison comparison;
  with_values([&] { comparison = compare(module, inputs, options, allowed); });
  end_progress();
  Table table({"tensor", "type", ">max error", ">relative", "", "kernel", "node"});
  size_t differing = 0;
  for (const Compared& value : comparison.values) {
    differing += !value.agrees;
    if (!args.all && !value.is_output && value.agrees) continue;
    if (!args.all && !value.is_output && differing > 10) continue;
    table.row({shortened(printable(value.tensor), 40), value.type, error_text(value),
               fmt::format("{:.2g}", value.max_relative), verdict(value), value.is_output ? "output" : value.kernel,
               shortened(printable(value.node), 40)});
  }
  table.print();
  fmt::print("\n{} values compared, {} differ; {} values are hidden inside fused steps\n", comparison.values.size(),
             differing, comparison.hidden);
  const Compared* first = comparison.first_difference();
  if (!first) return exit_ok;
  fmt::print("\n{}\n", bold("the first that differs"));
  print_difference(*first);
  fmt::print("\nsinter bisect {} looks for the reason\n", args.model);
  return exit_differs;
}

int run_bisect(const Args& args) {
  refuse_engine(args.model);
  const BuildOptions options = args.build.options();
  const Module module = read_model(args.model, args.build, options);
  const Tolerance allowed = args.allowed(module);
  const std::vector<Box> inputs = read_inputs(inputs_of(module), module.symbols, best_of(module, options), args.inputs);
  Bisection found;
  const auto tried = [](void*, uint32_t limit, bool agrees) {
    const std::string rewrites = limit == UINT32_MAX ? "all rewrites" : fmt::format("{} rewrites", limit);
    fmt::print(stderr, "with {}: {}\n", rewrites, agrees ? "agrees" : "differs");
  };
  with_values([&] { found = bisect(module, inputs, options, allowed, tried, nullptr); });
  switch (found.verdict) {
    case Bisection::Verdict::agrees:
      fmt::print("{}: the largest error of output '{}' is {:.3g}\n", green("the results agree"),
                 printable(found.output.tensor), found.output.max_error);
      return exit_ok;
    case Bisection::Verdict::rewrite:
      fmt::print("{}\n", bold("a rewrite changes the results"));
      fmt::print("  rewrite   {} of pass '{}': {} ({})\n", found.entry.number, found.entry.pass, found.entry.rule,
                 effect_name(found.entry.effect));
      if (!found.nodes.empty()) fmt::print("  nodes     {}\n", printable(found.nodes));
      if (!found.entry.note.empty()) fmt::print("  made      {}\n", found.entry.note);
      print_difference(found.output);
      fmt::print("\nsinter build --check evaluates both sides of every rewrite\n");
      break;
    case Bisection::Verdict::step:
      fmt::print("{}\n", bold("a step computes something else than its problem says"));
      fmt::print("  step      {} of {}\n", found.step_number, found.steps);
      print_difference(found.step);
      fmt::print("  problem   {}\n", found.problem);
      break;
    case Bisection::Verdict::unexplained:
      fmt::print("{}\n", bold("the results differ, yet no rewrite and no step does by itself"));
      print_difference(found.output);
      fmt::print(
          "\nsmall errors may add up: --rtol and --atol say what is allowed, --strict-fp32 multiplies as f32 does\n");
      break;
  }
  return exit_differs;
}

}  // namespace

std::function<int()> declare_compare(Options& o) {
  auto args = std::make_shared<Args>();
  args->declare(o);
  o.flag("--all", args->all, "list every value that was compared");
  o.examples(
      "sinter compare model.onnx\n"
      "sinter compare model.onnx --inputs x.npy --rtol 1e-4 --atol 1e-5 --all");
  return [args] { return run_compare(*args); };
}

std::function<int()> declare_bisect(Options& o) {
  auto args = std::make_shared<Args>();
  args->declare(o);
  o.examples("sinter bisect model.onnx --inputs x.npy");
  return [args] { return run_bisect(*args); };
}

}  // namespace sinter::cli
