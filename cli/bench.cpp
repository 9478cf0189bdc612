// sinter bench: how long a network takes to load and to run.

#include <fmt/core.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <nlohmann/json.hpp>

#include "base/file.h"
#include "base/scanner.h"
#include "common.h"
#include "report.h"
#include "tune/profile.h"

namespace sinter::cli {
namespace {

struct Args {
  std::string network, json;
  BuildFlags build;
  InputFlags inputs;
  double duration = 3, warm_up = 0.5;
  bool profile = false, in_place = false;
};

double now_ms() {
  return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

// The smallest value that at least this part of the sorted values does not pass.
double percentile(const std::vector<double>& sorted, double part) {
  const auto rank = static_cast<size_t>(std::ceil(part * static_cast<double>(sorted.size())));
  return sorted[std::clamp<size_t>(rank, 1, sorted.size()) - 1];
}

// Steps by what they take of a run, most first.
void print_profile(const StepProfiler& profiler, size_t runs) {
  std::vector<const StepProfiler::Entry*> order;
  double total = 0;
  for (const StepProfiler::Entry& e : profiler.entries()) {
    order.push_back(&e);
    total += e.nanoseconds;
  }
  std::stable_sort(order.begin(), order.end(),
                   [](const auto* a, const auto* b) { return a->nanoseconds > b->nanoseconds; });
  fmt::print("\n");
  Table table({">mean", ">share", ">min", ">calls", "kernel", "nodes"});
  for (const StepProfiler::Entry* e : order) {
    std::string nodes = shown(e->nodes);
    if (nodes.size() > 100) nodes = nodes.substr(0, 97) + "...";
    table.row({time_text(e->nanoseconds / 1e6 / static_cast<double>(runs)),
               fmt::format("{:.1f} %", 100 * e->nanoseconds / std::max(total, 1.0)), time_text(e->shortest / 1e6),
               fmt::format("{:.0f}", static_cast<double>(e->calls) / static_cast<double>(runs)), e->kernel, nodes});
  }
  table.print();
}

nlohmann::ordered_json profile_json(const StepProfiler& profiler, size_t runs) {
  nlohmann::ordered_json steps = nlohmann::ordered_json::array();
  for (const StepProfiler::Entry& e : profiler.entries())
    steps.push_back({{"nodes", e.nodes},
                     {"kernel", e.kernel},
                     {"problem", e.problem},
                     {"calls", static_cast<double>(e.calls) / static_cast<double>(runs)},
                     {"ms", e.nanoseconds / 1e6 / static_cast<double>(runs)},
                     {"min_call_ms", e.shortest / 1e6}});
  return steps;
}

int run(const Args& args) {
  if (!(args.duration > 0) || !(args.warm_up >= 0) || args.duration > 1e6 || args.warm_up > 1e6)
    throw Error(Code::invalid_argument, "--duration and --warm-up are seconds, more than 0 and at most 1e6");
  const std::string report = args.json.empty() || args.json == "-" ? args.json : output_path(args.json);
  Loaded loaded = load(args.network, args.build);
  const Engine& engine = *loaded.engine;
  std::vector<Box> inputs = read_inputs(inputs_of(engine), engine.target().symbols, best_of(engine), args.inputs);
  Context context(loaded.engine, args.build.threads);
  const auto over = set_values(context, inputs, args.in_place);
  const Control interrupt = control();
  const double begin = now_ms();
  with_values([&] { context.run(&interrupt); });
  const double first = now_ms() - begin;
  while (now_ms() - begin < 1e3 * args.warm_up) context.run(&interrupt);
  std::vector<double> times;
  const double start = now_ms(), end = start + 1e3 * args.duration;
  double at = start;
  while (at < end || times.size() < 3) {
    context.run(&interrupt);
    const double now = now_ms();
    times.push_back(now - at);
    at = now;
  }
  // Watched runs are runs of their own: reading clocks would slow the measured ones.
  StepProfiler profiler;
  const size_t watched = args.profile ? std::clamp<size_t>(times.size() / 4, 3, 1000) : 0;
  for (size_t i = 0; i < watched; ++i) context.run(&interrupt, &profiler);
  const double throughput = 1e3 * static_cast<double>(times.size()) / (at - start);
  double sum = 0;
  for (double t : times) sum += t;
  std::sort(times.begin(), times.end());
  const double mean = sum / static_cast<double>(times.size());
  const int threads = args.build.threads > 0 ? args.build.threads : engine.executable().device.threads;

  nlohmann::ordered_json json;
  json["network"] = args.network;
  json["threads"] = threads;
  json["inputs"] = nlohmann::ordered_json::object();
  for (size_t i = 0; i < inputs.size(); ++i) json["inputs"][engine.inputs()[i].name] = type_of(inputs[i]);
  if (args.in_place) json["in_place"] = nlohmann::ordered_json::object();
  for (const auto& [o, i] : over) json["in_place"][engine.outputs()[o].name] = engine.inputs()[i].name;
  if (loaded.built) json["build_ms"] = loaded.build_ms;
  json["load_ms"] = loaded.load_ms;
  json["first_run_ms"] = first;
  json["runs"] = times.size();
  json["throughput"] = throughput;
  json["latency_ms"] = {{"min", times.front()},
                        {"mean", mean},
                        {"median", percentile(times, 0.5)},
                        {"p90", percentile(times, 0.9)},
                        {"p95", percentile(times, 0.95)},
                        {"p99", percentile(times, 0.99)}};
  json["memory_bytes"] = context.memory_bytes();
  json["engine_bytes"] = loaded.file_bytes;
  if (args.profile) json["steps"] = profile_json(profiler, watched);
  const std::string text = json.dump(2, ' ', false, nlohmann::ordered_json::error_handler_t::replace) + "\n";
  if (report == "-") {
    fmt::print("{}", text);
    return exit_ok;
  }
  if (!report.empty()) write_file_atomically(report, text);

  fmt::print("{}  {}\n", bold("network"), args.network);
  for (size_t i = 0; i < inputs.size(); ++i)
    fmt::print("  input  {} {}\n", printable(engine.inputs()[i].name), type_of(inputs[i]));
  for (const auto& [o, i] : over)
    fmt::print("  output {} over {}\n", printable(engine.outputs()[o].name), printable(engine.inputs()[i].name));
  fmt::print("  {} threads, {} runs in {}\n\n", threads, times.size(), time_text(at - start));
  if (loaded.built) fmt::print("build       {:>12}\n", time_text(loaded.build_ms));
  fmt::print("load        {:>12}\n", time_text(loaded.load_ms));
  fmt::print("first run   {:>12}\n", time_text(first));
  fmt::print("throughput  {:>12} per second\n", fmt::format("{:.1f}", throughput));
  fmt::print("memory      {:>12}\n\n", bytes_text(static_cast<double>(context.memory_bytes())));
  Table table({"latency", ">min", ">mean", ">median", ">p90", ">p95", ">p99"});
  table.row({"", time_text(times.front()), time_text(mean), time_text(percentile(times, 0.5)),
             time_text(percentile(times, 0.9)), time_text(percentile(times, 0.95)),
             time_text(percentile(times, 0.99))});
  table.print();
  if (args.profile) print_profile(profiler, watched);
  return exit_ok;
}

}  // namespace

std::function<int()> declare_bench(Options& o) {
  auto args = std::make_shared<Args>();
  o.positional("NETWORK", args->network, "ONNX model or engine");
  args->inputs.declare(o);
  o.value("--duration", args->duration, "SECONDS", "how long to measure");
  o.value("--warm-up", args->warm_up, "SECONDS", "how long to run before measuring");
  o.value("--json", args->json, "FILE", "write the numbers as JSON; -: to stdout instead of text");
  o.flag("--in-place", args->in_place, in_place_help);
  o.flag("--profile", args->profile, "then run again and print the time of every step");
  args->build.declare(o);
  o.examples(
      "sinter bench resnet50.engine --threads 4\n"
      "sinter bench model.onnx --shapes x:1x3x224x224 --duration 10 --json result.json\n"
      "sinter bench model.onnx --threads 1 --profile");
  return [args] { return run(*args); };
}

}  // namespace sinter::cli
