// Every problem of a network's plan by itself: the row that was chosen, on random operands, beside oneDNN where that is
// there and has primitives for it. Prints JSON; bench/problems builds and calls it.
//
//   problems_bench MODEL.onnx [--threads N] [--level L] [--strict-fp32|--bf16|--fp16] [--input NAME=1x3x64x64]...
//                 [--rounds N]
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

namespace {

using namespace sinter;
using Json = nlohmann::ordered_json;

struct Options {
  std::string model;
  BuildOptions build;
  std::map<std::string, Dims, std::less<>> inputs;  // extents by name
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
    } else if (a == "--input" && more) {
      const std::string input = argv[++i];
      const size_t at = input.rfind('=');
      if (at == std::string::npos) throw Error(Code::invalid_argument, "--input wants NAME=1x3x64x64");
      Dims& dims = out.inputs[input.substr(0, at)];
      for (const char* from = input.c_str() + at; *from != 0;) {
        char* end = nullptr;
        dims.push_back(std::strtoll(from + 1, &end, 10));
        if (end == from + 1 || (*end != 0 && *end != 'x'))
          throw Error(Code::invalid_argument, "--input wants NAME=1x3x64x64, not " + input);
        from = end;
      }
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

// A field of attributes, enumerations by name.
template <typename T>
const T& member(const Field& field, const Attrs& attrs) {
  return *static_cast<const T*>(field.member(const_cast<void*>(attrs.object())));
}

Json attributes_of(const Attrs& attrs) {
  Json out = Json::object();
  if (attrs.empty()) return out;
  for (const Field& f : attrs.fields()->list) {
    Json& to = out[f.name];
    switch (f.kind) {
      case FieldKind::boolean: to = member<bool>(f, attrs); break;
      case FieldKind::i64: to = member<int64_t>(f, attrs); break;
      case FieldKind::f64: to = member<double>(f, attrs); break;
      case FieldKind::string: to = member<std::string>(f, attrs); break;
      case FieldKind::i64s: to = member<std::vector<int64_t>>(f, attrs); break;
      case FieldKind::f64s: to = member<std::vector<double>>(f, attrs); break;
      case FieldKind::strings: to = member<std::vector<std::string>>(f, attrs); break;
      case FieldKind::enumeration: to = f.names[member<uint8_t>(f, attrs)]; break;
    }
  }
  return out;
}

// Its element type and extents; null for what is no tensor or has extents that only running finds out.
Json type_of(const Type& type, const Entry& entry) {
  std::vector<SymbolId> symbols;
  collect_symbols(type, symbols);
  if (!type.is_plain() || (!symbols.empty() && symbols.back() >= entry.symbols.size())) return nullptr;
  return {{"dtype", dtype_name(type.dtype)}, {"dims", evaluate(*type.shape, entry.symbols)}};
}

// What a tensor holds: its elements where they are known, else the range that they are drawn from.
void describe_elements(const Operand& operand, const Tensor& sample, Json& json) {
  if (is_complex(sample.dtype()) || sample.count() == 0) return;
  const bool known = !std::holds_alternative<std::monostate>(operand.contents);
  double low = INFINITY, high = -INFINITY;
  Json elements = Json::array();
  for (int64_t i = 0; i < sample.count(); ++i) {
    const double x = sample.get_real(i);
    low = std::min(low, x);
    high = std::max(high, x);
    if (known && !is_float(sample.dtype())) elements.push_back(sample.get_integer(i));
    if (known && is_float(sample.dtype())) elements.push_back(x);
  }
  if (known) json["elements"] = std::move(elements);
  json["range"] = {low, high};
}

bool is_contraction(const Stage& stage) {
  const std::string_view op = stage.op->name;
  return numerics_of(stage.attrs) || op == "MatMulInteger";
}

// Products of one result, of one operand where the convolution is transposed.
double products_of(const Problem& problem, size_t s, std::span<const int64_t> symbols) {
  const Stage& stage = problem.stages[s];
  const auto dims = [&](uint16_t value) { return evaluate(*problem.types[value].shape, symbols); };
  const std::string_view op = stage.op->name;
  const Dims left = dims(stage.inputs[0]), weights = dims(stage.inputs[1]);
  double products = 1;
  for (const int64_t d : op == "ConvTranspose" ? left : dims(problem.first_result[s]))
    products *= static_cast<double>(d);
  if (op == "MatMul" || op == "MatMulInteger")
    return products * (left.empty() ? 1.0 : static_cast<double>(left.back()));
  for (size_t i = 1; i < weights.size(); ++i) products *= static_cast<double>(weights[i]);
  return products;
}

// The problem for programs: what models of it are made of.
void describe(const Entry& entry, const std::vector<Tensor>& samples, Json& json) {
  const Problem& problem = *entry.problem;
  json["operands"] = Json::array();
  for (size_t i = 0; i < problem.operands.size(); ++i) {
    const Operand& operand = problem.operands[i];
    Json one = type_of(operand.type, entry);
    if (!one.is_null()) {
      one["constant"] = operand.constant || operand.host;
      describe_elements(operand, samples[i], one);
    }
    json["operands"].push_back(std::move(one));
  }
  json["stages"] = Json::array();
  double products = 0;
  for (size_t s = 0; s < problem.stages.size(); ++s) {
    const Stage& stage = problem.stages[s];
    Json inputs = Json::array(), types = Json::array();
    for (const uint16_t value : stage.inputs) inputs.push_back(value == absent_operand ? Json() : Json(value));
    for (size_t r = 0; r < stage.outputs; ++r)
      types.push_back(type_of(problem.types[problem.first_result[s] + r], entry));
    json["stages"].push_back({{"op", stage.op->name},
                              {"attributes", attributes_of(stage.attrs)},
                              {"inputs", std::move(inputs)},
                              {"results", std::move(types)}});
    if (is_contraction(stage)) products += products_of(problem, s, entry.symbols);
  }
  json["results"] = Json::array();
  for (const Problem::Result& r : problem.results) json["results"].push_back(r.value);
  // Whether images lie otherwise than a model of the problem alone would have them at its borders.
  const auto ordered = [](const auto& value) { return value.layout.has_strides() && !value.layout.order.empty(); };
  json["ordered"] = std::any_of(problem.results.begin(), problem.results.end(), ordered) ||
                    std::any_of(problem.operands.begin(), problem.operands.end(),
                                [&](const Operand& operand) { return !operand.constant && ordered(operand); });
  if (products > 0) json["gflop"] = 2e-9 * products;
}

Json measure(const Entry& entry, const DeviceSpec& device, const Options& options) {
  const Problem& problem = *entry.problem;
  Json json;
  json["kernel"] = entry.kernel->name;
  json["count"] = entry.count;
  json["problem"] = to_text(problem);
  try {
    for (const Operand& operand : problem.operands)
      if (!operand.type.is_plain()) throw Error(Code::unsupported, "an operand is no tensor of known rank");
    const std::vector<Tensor> operands = sample_operands(problem, entry.symbols, 1);
    describe(entry, operands, json);
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

// Names of the model's open extents with the numbers that the inputs give them.
void fix_inputs(const Module& module, Options& options) {
  for (const ValueId input : module.main->inputs) {
    const Value& value = (*module.main)[input];
    const auto given = options.inputs.find(value.name);
    if (given == options.inputs.end() || !value.type.has_shape()) continue;
    if (value.type.shape->size() != given->second.size())
      throw Error(Code::invalid_argument, "--input gives " + value.name + " another rank than the model does");
    for (size_t axis = 0; axis < given->second.size(); ++axis) {
      const auto symbol = (*value.type.shape)[axis].as_symbol();
      const int64_t n = given->second[axis];
      if (symbol) options.build.dims.push_back({module.symbols[*symbol].name, n, n, n});
    }
  }
}

int run(Options options) {
  onnx::ReadOptions reading;
  reading.logger.sink = quiet;
  onnx::ImportOptions importing;
  importing.logger.sink = quiet;
  Module module = onnx::import(onnx::read(options.model, reading), importing);
  fix_inputs(module, options);
  const Built built = build(std::move(module), options.build);
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
