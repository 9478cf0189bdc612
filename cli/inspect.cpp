// sinter inspect: what is in a model or an engine.

#include <fmt/core.h>

#include <algorithm>
#include <map>

#include "base/file.h"
#include "base/scanner.h"
#include "common.h"
#include "engine/file.h"
#include "engine/plan_text.h"
#include "ir/text.h"
#include "report.h"
#include "tune/compare.h"

namespace sinter::cli {
namespace {

struct Args {
  std::string network;
  BuildFlags build;
  bool json = false, graph = false, plan = false;
};

void print_json(const Json& json) { fmt::print("{}\n", json.dump(2, ' ', false, Json::error_handler_t::replace)); }

void count_nodes(const Graph& graph, std::map<std::string, size_t>& counts, size_t& nodes) {
  for (const Node& node : graph.nodes) {
    ++counts[node.op->name];
    ++nodes;
    for (const Graph& body : node.bodies) count_nodes(body, counts, nodes);
  }
}

template <typename T>
std::vector<std::pair<std::string, T>> by_size(const std::map<std::string, T>& counts) {
  std::vector<std::pair<std::string, T>> out(counts.begin(), counts.end());
  std::stable_sort(out.begin(), out.end(), [](const auto& a, const auto& b) { return a.second > b.second; });
  return out;
}

int inspect_model(const Args& args) {
  const BuildOptions options = args.build.options();
  Module module = read_model(args.network, args.build, options);
  const std::string graph_text = args.graph ? to_text(module) : "";
  std::string plan_text;
  if (args.plan) {
    const Target target = build_model(copy(module), options).target;
    plan_text = to_text(target, WeightOffsets(target.weights.size(), 0));
  }
  if (!args.json && (args.graph || args.plan)) {
    fmt::print("{}{}", graph_text, plan_text);
    return exit_ok;
  }
  const Graph& graph = *module.main;
  std::map<std::string, size_t> ops, exported;
  size_t nodes = 0;
  count_nodes(graph, ops, nodes);
  for (const Source& source : module.sources) ++exported[source.op_type];
  int64_t parameters = 0, bytes = 0;
  for (const Value& value : graph.values)
    if (const auto* tensor = std::get_if<Tensor>(&value.contents)) {
      parameters += tensor->count();
      bytes += tensor->bytes();
    }
  const auto name_of = [&](bool output, size_t i) {
    if (output && i < module.output_names.size()) return module.output_names[i];
    return graph[output ? graph.outputs[i] : graph.inputs[i]].name;
  };
  if (args.json) {
    Json json;
    json["kind"] = "model";
    for (const bool output : {false, true}) {
      Json list = Json::array();
      const Ids& ids = output ? graph.outputs : graph.inputs;
      for (size_t i = 0; i < ids.size(); ++i)
        list.push_back({{"name", name_of(output, i)}, {"type", to_text(graph[ids[i]].type, module.symbols)}});
      json[output ? "outputs" : "inputs"] = std::move(list);
    }
    json["nodes"] = module.sources.size();
    json["core_nodes"] = nodes;
    json["parameters"] = parameters;
    json["parameter_bytes"] = bytes;
    json["op_types"] = exported;
    json["core_operators"] = ops;
    if (args.graph) json["graph"] = graph_text;
    if (args.plan) json["plan"] = plan_text;
    print_json(json);
    return exit_ok;
  }
  fmt::print("{}  {}\n", bold("model"), args.network);
  fmt::print("  {} nodes, {} core operators after import, {} parameters ({})\n\n", module.sources.size(), nodes,
             count_text(static_cast<double>(parameters)), bytes_text(static_cast<double>(bytes)));
  Table values({"", "name", "type"});
  for (const bool output : {false, true}) {
    const Ids& ids = output ? graph.outputs : graph.inputs;
    for (size_t i = 0; i < ids.size(); ++i)
      values.row(
          {output ? "output" : "input", printable(name_of(output, i)), to_text(graph[ids[i]].type, module.symbols)});
  }
  values.print();
  fmt::print("\n");
  Table table({"node", ">count", "core operator", ">count"});
  const auto left = by_size(exported), right = by_size(ops);
  for (size_t i = 0; i < std::max(left.size(), right.size()); ++i)
    table.row({i < left.size() ? left[i].first : "", i < left.size() ? std::to_string(left[i].second) : "",
               i < right.size() ? right[i].first : "", i < right.size() ? std::to_string(right[i].second) : ""});
  if (!table.empty()) table.print();
  return exit_ok;
}

struct KernelUse {
  size_t steps = 0;
  bool operator>(const KernelUse& other) const { return steps > other.steps; }
};

void count_kernels(const Target& target, const Plan& plan, std::map<std::string, KernelUse>& uses, size_t& steps) {
  for (const Step& step : plan.steps) {
    ++steps;
    for (const Choice& choice : step.choices) ++uses[target.kernels[choice.kernel]].steps;
  }
  for (const Plan& body : plan.bodies) count_kernels(target, body, uses, steps);
}

// An engine keeps no graph; its steps say what they compute.
std::string steps_text(const Target& target) {
  std::string out;
  for (size_t i = 0; i < target.main.steps.size(); ++i) {
    const Step& step = target.main.steps[i];
    std::string sources;
    for (uint32_t s : step.sources)
      if (s < target.sources.size()) sources += (sources.empty() ? "" : ", ") + shown(target.sources[s].name);
    out += fmt::format("# {}: {}\n", i, sources);
    for (const Choice& choice : step.choices)
      out += fmt::format("{}  {}\n", target.kernels[choice.kernel], to_text(target.problems[choice.problem]));
    if (step.op) out += fmt::format("{} with {} bodies\n", step.op->name, step.bodies.size());
  }
  return out;
}

int inspect_engine(const Args& args) {
  const auto executable = load_engine(args.network, {args.build.threads, true});
  const Engine engine(executable);
  const Target& target = engine.target();
  const std::string plan_text = args.plan ? to_text(target, WeightOffsets(target.weights.size(), 0)) : "";
  const std::string graph_text = args.graph ? steps_text(target) : "";
  if (!args.json && (args.graph || args.plan)) {
    fmt::print("{}{}", graph_text, plan_text);
    return exit_ok;
  }
  std::map<std::string, KernelUse> uses;
  size_t steps = 0;
  count_kernels(target, target.main, uses, steps);
  const int64_t bytes = weight_bytes(target);
  const auto file_bytes = MappedFile::open(args.network)->bytes().size();
  if (args.json) {
    Json json;
    json["kind"] = "engine";
    for (const bool output : {false, true}) {
      Json list = Json::array();
      for (const Binding& binding : output ? engine.outputs() : engine.inputs())
        list.push_back({{"name", binding.name}, {"type", to_text(binding.type, target.symbols)}});
      for (size_t o = 0; output && o < list.size(); ++o)
        if (const auto under = engine.input_under(o)) list[o]["under"] = engine.inputs()[*under].name;
      json[output ? "outputs" : "inputs"] = std::move(list);
    }
    json["profiles"] = Json::array();
    for (const Profile& p : target.profiles)
      json["profiles"].push_back(
          {{"name", target.symbols[p.symbol].name}, {"min", p.low}, {"opt", p.best}, {"max", p.high}});
    json["device"] = target.needs.name;
    json["level"] = target.needs.level;
    json["bytes"] = file_bytes;
    json["weights"] = target.weights.size();
    json["weight_bytes"] = bytes;
    add_memory(json, *executable);
    json["steps"] = steps;
    json["kernels"] = Json::object();
    for (const auto& [kernel, use] : uses) json["kernels"][kernel] = use.steps;
    if (args.graph) json["graph"] = graph_text;
    if (args.plan) json["plan"] = plan_text;
    print_json(json);
    return exit_ok;
  }
  fmt::print("{}  {}\n", bold("engine"), args.network);
  fmt::print("  {}, of these {} in {} weights; {} steps for {} at level {}\n",
             bytes_text(static_cast<double>(file_bytes)), bytes_text(static_cast<double>(bytes)), target.weights.size(),
             steps, target.needs.name, level_text(target.needs));
  fmt::print("  {}\n\n", memory_text(*executable));
  const auto over = [&](size_t o) {
    const auto under = engine.input_under(o);
    return under ? printable(engine.inputs()[*under].name) : std::string();
  };
  bool any = false;
  for (size_t o = 0; o < engine.outputs().size(); ++o) any = any || engine.input_under(o);
  std::vector<std::string> head = {"", "name", "type"};
  if (any) head.emplace_back("may lie over");
  Table values(head);
  for (const bool output : {false, true}) {
    const auto bindings = output ? engine.outputs() : engine.inputs();
    for (size_t k = 0; k < bindings.size(); ++k) {
      std::vector<std::string> row = {output ? "output" : "input", printable(bindings[k].name),
                                      to_text(bindings[k].type, target.symbols)};
      if (any) row.push_back(output ? over(k) : "");
      values.row(row);
    }
  }
  values.print();
  if (!target.profiles.empty()) {
    fmt::print("\n");
    Table table({"dimension", ">min", ">opt", ">max"});
    for (const Profile& p : target.profiles)
      table.row({target.symbols[p.symbol].name, std::to_string(p.low), std::to_string(p.best),
                 p.high == INT64_MAX ? "any" : std::to_string(p.high)});
    table.print();
  }
  fmt::print("\n");
  Table table({"kernel", ">steps"});
  std::vector<std::pair<std::string, KernelUse>> sorted(uses.begin(), uses.end());
  std::stable_sort(sorted.begin(), sorted.end(), [](const auto& a, const auto& b) { return a.second > b.second; });
  for (const auto& [kernel, use] : sorted) table.row({kernel, std::to_string(use.steps)});
  if (!table.empty()) table.print();
  return exit_ok;
}

}  // namespace

std::function<int()> declare_inspect(Options& o) {
  auto args = std::make_shared<Args>();
  o.positional("NETWORK", args->network, "ONNX model or engine");
  o.flag("--json", args->json, "print as JSON");
  o.flag("--graph", args->graph, "print the graph of a model, or what the steps of an engine compute");
  o.flag("--plan", args->plan, "print the plan (a model is built first)");
  args->build.declare(o);
  o.examples(
      "sinter inspect model.onnx\n"
      "sinter inspect model.onnx --graph\n"
      "sinter inspect model.engine --json");
  return [args] { return is_engine_file(args->network) ? inspect_engine(*args) : inspect_model(*args); };
}

}  // namespace sinter::cli
