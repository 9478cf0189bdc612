// Every problem of a network's plan by itself: the row that was chosen, on random operands, beside oneDNN where that is
// there and has primitives for it. Prints JSON; bench/problems builds and calls it.
//
//   problems_bench MODEL.onnx [--threads N] [--level L] [--strict-fp32|--bf16|--fp16] [--dim NAME=N]... [--rounds N]
#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "backend/accept.h"
#include "backend/kernel_run.h"
#include "builder/pipeline.h"
#include "frontends/onnx/import.h"
#include "frontends/onnx/reader.h"
#include "onednn.h"
#include "ops/contraction.h"
#include "ops/pooling.h"

namespace {

using namespace sinter;
using Json = nlohmann::ordered_json;

struct Options {
  std::string model;
  BuildOptions build;
  int rounds = 5;
};

void quiet(void*, LogLevel, std::string_view) {}

Options parse(int argc, char** argv) {
  Options out;
  out.build.threads = 1;
  out.build.logger.sink = quiet;
  for (int i = 1; i < argc; ++i) {
    const std::string a = argv[i];
    const bool more = i + 1 < argc;
    if (a == "--threads" && more) {
      out.build.threads = std::atoi(argv[++i]);
    } else if (a == "--level" && more) {
      out.build.level = argv[++i];
    } else if (a == "--rounds" && more) {
      out.rounds = std::max(1, std::atoi(argv[++i]));
    } else if (a == "--strict-fp32") {
      out.build.passes.allow_tf32 = false;
    } else if (a == "--bf16") {
      out.build.passes.allow_bf16 = true;
    } else if (a == "--fp16") {
      out.build.passes.allow_fp16 = true;
    } else if (a == "--dim" && more) {
      const std::string dim = argv[++i];
      const size_t at = dim.rfind('=');
      if (at == std::string::npos) throw Error(Code::invalid_argument, "--dim wants NAME=N");
      const int64_t n = std::atoll(dim.c_str() + at + 1);
      out.build.dims.push_back({dim.substr(0, at), n, n, n});
    } else {
      out.model = a;
    }
  }
  if (out.model.empty()) throw Error(Code::invalid_argument, "no model is given");
  return out;
}

// One problem with values of its symbols, and how often the plan has it.
struct Entry {
  const Problem* problem;
  const Kernel* kernel;
  std::vector<int64_t> symbols;
  int count = 0;
};

void collect(const Target& target, const Plan& plan, const std::vector<int64_t>& best,
             std::map<std::string, Entry>& entries) {
  for (const Step& step : plan.steps) {
    if (step.kind != Step::Kind::kernel) continue;
    const auto holds = [&](const Choice& choice) {
      return std::all_of(choice.when.begin(), choice.when.end(),
                         [&](const Guard& guard) { return guard.value.evaluate(best) >= 0; });
    };
    const auto choice = std::find_if(step.choices.begin(), step.choices.end(), holds);
    if (choice == step.choices.end()) continue;
    Entry entry{&target.problems[choice->problem], find_kernel(target.kernels[choice->kernel]), {}};
    for (const SymbolId symbol : choice->symbols) entry.symbols.push_back(best[symbol]);
    std::string key = to_text(*entry.problem) + target.kernels[choice->kernel];
    for (const int64_t s : entry.symbols) key += " " + std::to_string(s);
    ++entries.try_emplace(std::move(key), std::move(entry)).first->second.count;
  }
  for (const Plan& body : plan.bodies) collect(target, body, best, entries);
}

// The shortest of the runs of two milliseconds, three at least.
double shortest(const std::function<void()>& run) {
  using Clock = std::chrono::steady_clock;
  const auto end = Clock::now() + std::chrono::milliseconds(2);
  double best = INFINITY;
  for (int i = 0; i < 3 || Clock::now() < end; ++i) {
    const auto start = Clock::now();
    run();
    best = std::min(best, std::chrono::duration<double, std::nano>(Clock::now() - start).count());
  }
  return best;
}

double percentile(std::vector<double> values, double part) {
  std::sort(values.begin(), values.end());
  return values[static_cast<size_t>(part * static_cast<double>(values.size() - 1) + 0.5)];
}

// ONNX's attributes of a stage that a model of it alone can be made of; null for others.
Json attributes_of(const Stage& stage) {
  const std::string_view op = stage.op->name;
  const auto window = [](const auto& a) {
    return Json{{"auto_pad", a.auto_pad == AutoPad::explicit_pads ? "NOTSET"
                             : a.auto_pad == AutoPad::same_upper  ? "SAME_UPPER"
                             : a.auto_pad == AutoPad::same_lower  ? "SAME_LOWER"
                                                                  : "VALID"},
                {"pads", a.pads},
                {"strides", a.strides},
                {"dilations", a.dilations}};
  };
  Json out;
  if (op == "MatMul") {
    out = {{"transpose_b", stage.attrs.as<MatMulAttrs>().transpose_b}};
  } else if (op == "Conv") {
    const auto& a = stage.attrs.as<ConvAttrs>();
    out = window(a);
    out["group"] = a.group;
  } else if (op == "ConvTranspose") {
    const auto& a = stage.attrs.as<ConvTransposeAttrs>();
    out = window(a);
    out["group"] = a.group;
    out["output_padding"] = a.output_padding;
    out["output_shape"] = a.output_shape;
  } else if (op == "MaxPool" && stage.outputs == 1) {
    const auto& a = stage.attrs.as<MaxPoolAttrs>();
    out = window(a);
    out["kernel_shape"] = a.kernel;
    out["ceil_mode"] = static_cast<int>(a.ceil_mode);
  } else if (op == "AveragePool") {
    const auto& a = stage.attrs.as<AveragePoolAttrs>();
    out = window(a);
    out["kernel_shape"] = a.kernel;
    out["ceil_mode"] = static_cast<int>(a.ceil_mode);
    out["count_include_pad"] = static_cast<int>(a.count_pads);
  }
  return out;
}

// What a model of this operator alone would be made of.
void describe(const Entry& entry, Json& json) {
  const Problem& problem = *entry.problem;
  const Stage& stage = problem.stages[0];
  json["op"] = stage.op->name;
  json["stages"] = problem.stages.size();
  const Json attributes = attributes_of(stage);
  if (attributes.is_null()) return;
  json["operands"] = Json::array();
  for (const uint16_t value : stage.inputs) {
    if (value >= problem.operands.size()) return;  // of another stage, or absent: no operator by itself
    const Operand& operand = problem.operands[value];
    json["operands"].push_back(
        {{"dims", evaluate(*operand.type.shape, entry.symbols)}, {"constant", operand.constant}});
  }
  json["attributes"] = attributes;
  if (!numerics_of(stage.attrs)) return;
  // Products of one result, of one operand where the convolution is transposed.
  const std::string_view op = stage.op->name;
  const Dims left = evaluate(*problem.operands[stage.inputs[0]].type.shape, entry.symbols);
  const Dims weights = evaluate(*problem.operands[stage.inputs[1]].type.shape, entry.symbols);
  double products = 1;
  const Dims& each =
      op == "ConvTranspose" ? left : evaluate(*problem.types[problem.first_result[0]].shape, entry.symbols);
  for (const int64_t d : each) products *= static_cast<double>(d);
  if (op == "MatMul") {
    products *= left.empty() ? 1 : static_cast<double>(left.back());
  } else {
    for (size_t i = 1; i < weights.size(); ++i) products *= static_cast<double>(weights[i]);
  }
  json["gflop"] = 2e-9 * products;
}

Json measure(const Entry& entry, const DeviceSpec& device, const Options& options) {
  const Problem& problem = *entry.problem;
  Json json;
  json["kernel"] = entry.kernel->name;
  json["count"] = entry.count;
  json["problem"] = to_text(problem);
  describe(entry, json);
  try {
    const std::vector<Tensor> operands = sample_operands(problem, entry.symbols, 1);
    const KernelRun row(problem, *entry.kernel, device, entry.symbols, operands, KernelRun::Fence::pattern);
    const auto peer = onednn::prepare(problem, entry.symbols, options.build.passes.allow_bf16);
    std::vector<double> ours, theirs, ratios;
    for (int round = 0; round < options.rounds; ++round) {
      if (peer && round % 2 == 1) theirs.push_back(shortest(*peer));
      ours.push_back(shortest([&] { row.run(); }));
      if (!peer) break;
      if (round % 2 == 0) theirs.push_back(shortest(*peer));
      ratios.push_back(theirs.back() / ours.back());
    }
    json["us"] = 1e-3 * percentile(ours, 0.5);
    if (peer) {
      json["onednn_us"] = 1e-3 * percentile(theirs, 0.5);
      json["ratio"] = percentile(ratios, 0.5);
      json["p10"] = percentile(ratios, 0.1);
      json["p90"] = percentile(ratios, 0.9);
    }
  } catch (const Error& error) {
    json["reason"] = error.what();
  }
  return json;
}

int run(const Options& options) {
  onnx::ReadOptions reading;
  reading.logger.sink = quiet;
  onnx::ImportOptions importing;
  importing.logger.sink = quiet;
  const Built built = build(onnx::import(onnx::read(options.model, reading), importing), options.build);
  const Target& target = built.target;
  DeviceSpec device = this_machine(options.build.threads);
  if (options.build.level) device = restrict_level(device, *options.build.level);
  std::vector<int64_t> best(target.symbols.size(), 16);
  for (const Profile& profile : target.profiles) best[profile.symbol] = profile.best;
  std::map<std::string, Entry> entries;
  collect(target, target.main, best, entries);
  Json out = Json::array();
  for (const auto& [key, entry] : entries) out.push_back(measure(entry, device, options));
  std::printf("%s\n", out.dump().c_str());
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  try {
    return run(parse(argc, argv));
  } catch (const std::exception& error) {
    std::fprintf(stderr, "problems_bench: %s\n", error.what());
    return 1;
  }
}
