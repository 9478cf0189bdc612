#include "operators.h"

#include <dirent.h>
#include <fmt/core.h>

#include <algorithm>
#include <map>
#include <set>

#include "backend/cpu/device.h"
#include "backend/kernel.h"
#include "base/file.h"
#include "base/scanner.h"
#include "frontends/onnx/import.h"
#include "frontends/onnx/reader.h"
#include "ops/op.h"

namespace sinter::cli {
namespace {

constexpr size_t largest_text = size_t{1} << 24;

std::vector<std::string> entries_of(const std::string& folder) {
  std::vector<std::string> names;
  DIR* dir = ::opendir(folder.c_str());
  if (!dir) throw Error(Code::io, fmt::format("the folder '{}' cannot be read", folder));
  while (const dirent* entry = ::readdir(dir))
    if (entry->d_name[0] != '.') names.emplace_back(entry->d_name);
  ::closedir(dir);
  std::sort(names.begin(), names.end());
  return names;
}

bool ends_with(std::string_view text, std::string_view end) {
  return text.size() >= end.size() && text.substr(text.size() - end.size()) == end;
}

// What is known of one core operator.
struct Core {
  std::set<std::string> made_from;  // ONNX operators
  std::set<DType> dtypes;           // of first operands
  std::set<std::string> rows, tests;
  size_t cases = 0;  // of the suite
};

// What is known of one ONNX operator, by "name" or "domain.name".
struct Foreign {
  std::vector<int> opsets;
  std::set<std::string> becomes;
  size_t cases = 0;
};

struct Facts {
  std::map<std::string, Core, std::less<>> core;
  std::map<std::string, Foreign, std::less<>> foreign;
};

void look_at_entries(Facts& facts) {
  for (const onnx::Entry& e : onnx::all_entries())
    facts.foreign[e.domain.empty() ? std::string(e.name) : fmt::format("{}.{}", e.domain, e.name)].opsets.push_back(
        e.since);
}

struct Seen {
  std::set<std::string> core, foreign;
};

void look_at_graph(Facts& facts, const Module& module, const Graph& graph, Seen& seen) {
  for (const Node& node : graph.nodes) {
    Core& core = facts.core[node.op->name];
    seen.core.insert(node.op->name);
    if (!node.inputs.empty() && node.inputs[0] != no_id && graph[node.inputs[0]].type.is_tensor())
      core.dtypes.insert(graph[node.inputs[0]].type.dtype);
    for (const uint32_t s : node.sources) {
      const auto at = facts.foreign.find(module.sources[s].op_type);
      if (at == facts.foreign.end()) continue;  // a function of the model
      core.made_from.insert(at->first);
      at->second.becomes.insert(node.op->name);
    }
    for (const Graph& body : node.bodies) look_at_graph(facts, module, body, seen);
  }
}

void look_at_models(Facts& facts, const std::string& folder) {
  Logger quiet;
  quiet.sink = [](void*, LogLevel, std::string_view) {};
  for (const std::string& name : entries_of(folder)) {
    try {
      onnx::ReadOptions reading;
      reading.logger = quiet;
      const auto model = onnx::read(fmt::format("{}/{}/model.onnx", folder, name), reading);
      onnx::ImportOptions importing;
      importing.logger = quiet;
      const Module module = onnx::import(model, importing);
      Seen seen;
      for (const Source& source : module.sources)
        if (facts.foreign.count(source.op_type)) seen.foreign.insert(source.op_type);
      look_at_graph(facts, module, *module.main, seen);
      for (const std::string& op : seen.core) ++facts.core[op].cases;
      for (const std::string& op : seen.foreign) ++facts.foreign[op].cases;
    } catch (const Error&) {
      // A case that cannot be imported covers nothing.
    }
  }
}

// The lines of a file that are no comment.
std::vector<std::string> lines_of(const std::string& path) {
  std::vector<std::string> lines;
  const std::string text = read_text_file(path, largest_text);
  for (size_t at = 0; at < text.size();) {
    const size_t end = std::min(text.find('\n', at), text.size());
    if (text[at] != '#' && end > at) lines.push_back(text.substr(at, end - at));
    at = end + 1;
  }
  return lines;
}

// A case names an operator where its name is a word of its own, followed by operands or attributes.
void look_at_cases(Facts& facts, const std::string& path, const std::string& shown) {
  const auto word = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_';
  };
  for (const std::string& line : lines_of(path))
    for (size_t at = 0; at < line.size();) {
      if (!word(line[at])) {
        ++at;
        continue;
      }
      size_t end = at;
      while (end < line.size() && word(line[end])) ++end;
      const std::string name = line.substr(at, end - at);
      const bool called = end < line.size() && (line[end] == '(' || line[end] == '{' || line[end] == ' ');
      if (called && find_op(name)) facts.core[name].tests.insert(shown);
      at = end;
    }
}

// Every row that takes a problem of the tests has what it takes of each operator there.
void look_at_problems(Facts& facts, const std::string& path, const std::string& shown) {
  DeviceSpec device;  // the newest instruction set, whatever this machine has
  device.level = cpu::amx;
  device.features = ~uint64_t{0};
  for (const std::string& line : lines_of(path)) {
    Scanner scanner(line);
    if (scanner.at_end()) continue;
    for (const char* word : {"reference", "bf16", "f16", "tiles"})
      if (scanner.accept(word)) break;
    const Problem problem = parse_problem(scanner);
    for (const Stage& stage : problem.stages) facts.core[stage.op->name].tests.insert(shown);
    for (const Backend* backend : backends()) {
      if (backend == &reference_backend()) continue;
      for (const Kernel* kernel : backend->kernels())
        if (kernel->supports(*kernel, problem, device))
          for (const Stage& stage : problem.stages)
            facts.core[stage.op->name].rows.insert(fmt::format("{}/{}", backend->name, kernel->name));
    }
  }
}

void look_at_tests(Facts& facts, const std::string& tests) {
  for (const std::string& folder : entries_of(tests)) {
    std::vector<std::string> files;
    try {
      files = entries_of(tests + "/" + folder);
    } catch (const Error&) {
      continue;  // a file
    }
    for (const std::string& file : files) {
      const std::string path = fmt::format("{}/{}/{}", tests, folder, file), shown = fmt::format("{}/{}", folder, file);
      if (ends_with(file, ".case")) look_at_cases(facts, path, shown);
      if (ends_with(file, ".problems")) look_at_problems(facts, path, shown);
    }
  }
}

// ---- text ----

std::string cell(std::string_view text) {
  std::string out;
  for (const char c : text) {
    if (c == '|') out += '\\';
    out += c;
  }
  return out;
}

std::string code(std::string_view text) { return text.empty() ? "" : fmt::format("`{}`", cell(text)); }

template <typename List>
std::string joined(const List& list, std::string_view none = "") {
  std::string out;
  for (const auto& item : list) out += fmt::format("{}{}", out.empty() ? "" : ", ", item);
  return out.empty() ? std::string(none) : out;
}

std::string count_of(const Arity& arity) {
  if (arity.high == Arity::any) return fmt::format("{} or more", arity.low);
  return arity.low == arity.high ? std::to_string(arity.low) : fmt::format("{} to {}", arity.low, arity.high);
}

std::string attributes_of(const Op& op) {
  const std::string text = op.fields ? Attrs::defaults(op.fields()).to_text(true) : "";
  return text.size() > 2 ? text.substr(1, text.size() - 2) : "";
}

std::string operands_of(const Op& op) {
  std::string out = count_of(op.inputs), host;
  for (size_t i = 0; i < 64; ++i)
    if (op.host_inputs >> i & 1) host += fmt::format("{}{}", host.empty() ? "" : ", ", i);
  return host.empty() ? out : fmt::format("{}; host: {}", out, host);
}

// Suffixes of instruction sets aside.
std::set<std::string> families(const std::set<std::string>& rows) {
  std::set<std::string> out;
  for (std::string row : rows) {
    for (const char* set : {"_portable", "_avx2", "_avx512"})
      if (ends_with(row, set)) row.erase(row.size() - std::string_view(set).size());
    out.insert(row);
  }
  return out;
}

std::string core_table(const Facts& facts) {
  std::string out =
      "| operator | operands | results | attributes and defaults | expression | ONNX operators | dtypes | rows | tests "
      "|\n"
      "|---|---|---|---|---|---|---|---|---|\n";
  for (const Op* op : all_ops()) {
    if (std::string_view(op->name) == "Custom") continue;  // the text has it
    const auto at = facts.core.find(op->name);
    const Core core = at == facts.core.end() ? Core() : at->second;
    std::vector<std::string> dtypes, tests(core.tests.begin(), core.tests.end());
    for (const DType d : core.dtypes) dtypes.emplace_back(dtype_name(d));
    if (core.cases > 0) tests.push_back(fmt::format("onnx ({})", core.cases));
    out += fmt::format("| {} | {} | {} | {} | {} | {} | {} | {} | {} |\n", op->name, operands_of(*op),
                       count_of(op->outputs), code(attributes_of(*op)), code(op->pointwise ? op->pointwise : ""),
                       joined(core.made_from), joined(dtypes), joined(families(core.rows), "reference"),
                       joined(tests, "none"));
  }
  return out;
}

std::string foreign_table(const Facts& facts) {
  std::string out = "| operator | forms since opset | core operators | suite cases |\n|---|---|---|---|\n";
  for (const auto& [name, op] : facts.foreign)
    out += fmt::format("| {} | {} | {} | {} |\n", name, joined(op.opsets), joined(op.becomes), op.cases);
  return out;
}

}  // namespace

std::string operators_page(const PageSources& sources) {
  Facts facts;
  look_at_entries(facts);
  for (const std::string& folder : sources.models) look_at_models(facts, folder);
  if (!sources.tests.empty()) look_at_tests(facts, sources.tests);
  return fmt::format(
      "# Operators\n\n"
      "Generated from the code by `sinter list ops --markdown`; `tests/docs/run --fix` writes it anew.\n\n"
      "## ONNX\n\n"
      "{} operators. A form is used from its opset on, until a newer form of the same operator takes over. What an\n"
      "operator becomes, and the number of cases of the ONNX suite that use it, are what importing the suite shows;\n"
      "what folds to a constant at once leaves no operator. Any other operator is imported when the model brings it\n"
      "along as a function or a plugin has it.\n\n{}\n"
      "## Core\n\n"
      "{} operators. Operands marked host are read when shapes are bound, since their contents decide extents. dtypes\n"
      "are those of the first operand in the ONNX suite. Rows are those of fast backends that take a problem of\n"
      "`tests/kernels` with this operator; the reference row takes all operators but If and Loop, which are steps of\n"
      "the plan. One more, Custom, stands for the operators of [plugins](plugins.md).\n\n{}",
      facts.foreign.size(), foreign_table(facts), all_ops().size() - 1, core_table(facts));
}

}  // namespace sinter::cli
