// The ways in which a case is built and run.
//
//   as-is      the model as it is
//   frozen     inputs whose contents decide extents are constants, with the values of the test data
//   dynamic    every extent of every input is a symbol of its own
//   reloaded   built as it is, saved, and loaded and run by a new process that sees nothing of the model
#pragma once

#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <cstring>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "backend/verify.h"
#include "base/file.h"
#include "builder/pipeline.h"
#include "engine/file.h"
#include "frontends/onnx/import.h"
#include "frontends/onnx/reader.h"
#include "runtime/engine.h"
#include "suite_cases.h"
#include "suite_compare.h"
#include "tensor/tensor_proto.h"

namespace suite {

enum class Mode { as_is, frozen, dynamic, reloaded };
constexpr const char* mode_names[] = {"as-is", "frozen", "dynamic", "reloaded"};
inline const char* name_of(Mode mode) { return mode_names[static_cast<int>(mode)]; }

// Releases before 1.20 stored the bits of bf16 as u16.
inline sinter::Box read_value(const std::string& path, const sinter::Type& type) {
  using sinter::DType, sinter::Tensor;
  const auto bytes = sinter::read_file(path, size_t{1} << 31);
  sinter::Box value = sinter::decode_value(bytes, type);
  if (const Tensor& t = value.tensor; type.is_tensor() && type.dtype == DType::bf16 && t.dtype() == DType::u16)
    value = sinter::Box(Tensor(DType::bf16, t.dims(), t.data(), t.owner()));
  return value;
}

inline std::string file_of(const Case& c, size_t set, const char* what, size_t i) {
  if (c.folder.empty()) return c.model.substr(0, c.model.size() - 5) + "_output_0.pb";
  return c.folder + "/test_data_set_" + std::to_string(set) + "/" + what + "_" + std::to_string(i) + ".pb";
}

inline size_t sets_of(const Case& c) {
  if (c.folder.empty()) return 1;
  size_t sets = 0;
  while (exists(c.folder + "/test_data_set_" + std::to_string(sets))) ++sets;
  return sets;
}

// Which of the graph's inputs decide, by their contents, extents of something: they reach host operands.
inline std::set<sinter::ValueId> deciding(const sinter::Graph& graph) {
  std::vector<bool> decides(graph.values.size(), false);
  for (size_t n = graph.nodes.size(); n-- > 0;) {
    const sinter::Node& node = graph.nodes[n];
    const auto mark = [&](size_t i) {
      if (i < node.inputs.size() && node.inputs[i] != sinter::no_id) decides[node.inputs[i]] = true;
    };
    for (size_t i = 0; i < node.inputs.size() && i < 64; ++i)
      if (node.op->host_inputs >> i & 1) mark(i);
    // A body's last parameters are the node's last operands.
    for (const sinter::Graph& body : node.bodies)
      for (const sinter::ValueId v : deciding(body))
        for (size_t p = 0; p < body.inputs.size(); ++p)
          if (body.inputs[p] == v && node.inputs.size() + p >= body.inputs.size())
            mark(node.inputs.size() + p - body.inputs.size());
    const std::string_view name = node.op->name;
    if (name == "Shape" || name == "Size") continue;  // they read no contents
    bool made = false;
    for (const sinter::ValueId v : node.outputs) made = made || (v != sinter::no_id && decides[v]);
    for (size_t i = 0; made && i < node.inputs.size(); ++i) mark(i);
  }
  std::set<sinter::ValueId> inputs;
  for (const sinter::ValueId v : graph.inputs)
    if (decides[v]) inputs.insert(v);
  return inputs;
}

// What an engine is fed with: for each of its inputs, the number of its data file; for a real model its extents.
struct Feed {
  std::vector<size_t> files;
  std::vector<sinter::Dims> extents;
};

inline void run_set(const std::shared_ptr<const sinter::Engine>& engine, const Case& c, const Feed& feed, size_t set,
                    Verdict& verdict) {
  using namespace sinter;
  Context context(engine);
  for (size_t i = 0; i < engine->inputs().size(); ++i) {
    const Type& type = engine->inputs()[i].type;
    if (!c.folder.empty()) {
      context.set_input(i, read_value(file_of(c, set, "input", feed.files[i]), type));
      continue;
    }
    Tensor x(DType::f32, feed.extents[i]);
    for (int64_t k = 0; k < x.count(); ++k)
      x.as_mutable<float>()[k] = static_cast<float>(k) / static_cast<float>(x.count());
    context.set_input(i, Box(std::move(x)));
  }
  context.run();
  const size_t outputs = c.folder.empty() ? 1 : engine->outputs().size();
  for (size_t o = 0; o < outputs && verdict.why.empty(); ++o) {
    const std::string path = file_of(c, set, "output", o);
    if (!exists(path)) {
      verdict.why = "output " + std::to_string(o) + " is not among the data";
      return;
    }
    const bool inside = verdict.outside.empty();
    compare(context.output(o), read_value(path, engine->outputs()[o].type), c, verdict);
    const std::string which = "output " + std::to_string(o) + ": ";
    if (!verdict.why.empty()) verdict.why = which + verdict.why;
    if (inside && !verdict.outside.empty()) verdict.outside = which + verdict.outside;
  }
}

// For the new process: loads an engine and runs every data set.
inline Verdict run_loaded(const Case& c, const std::string& engine_file) {
  using namespace sinter;
  const auto engine = std::make_shared<const Engine>(load_engine(engine_file, {.threads = 1}));
  Feed feed;
  for (size_t i = 0; i < engine->inputs().size(); ++i) {
    feed.files.push_back(i);
    const Type& type = engine->inputs()[i].type;
    feed.extents.push_back(type.shape ? constant_dims(*type.shape).value_or(Dims{}) : Dims{});
  }
  Verdict verdict;
  for (size_t set = 0; set < sets_of(c) && verdict.why.empty(); ++set) run_set(engine, c, feed, set, verdict);
  return verdict;
}

// Runs this program with --engine; it answers with one line "why\toutside".
inline Verdict run_in_new_process(const Case& c, const std::string& engine_file) {
  int ends[2];
  if (::pipe(ends) != 0) return {"no pipe", ""};
  const pid_t pid = ::fork();
  if (pid == 0) {
    ::dup2(ends[1], 1);
    ::close(ends[0]);
    ::close(ends[1]);
    char rtol[32];
    std::snprintf(rtol, sizeof rtol, "%.17g", c.rtol);
    const char* const args[] = {"onnx_suite", "--engine", engine_file.c_str(), c.model.c_str(), c.folder.c_str(),
                                rtol,         nullptr};
    ::execv("/proc/self/exe", const_cast<char* const*>(args));
    ::_exit(127);
  }
  ::close(ends[1]);
  std::string text;
  char buffer[4096];
  for (ssize_t n; (n = ::read(ends[0], buffer, sizeof buffer)) > 0;) text.append(buffer, static_cast<size_t>(n));
  ::close(ends[0]);
  int status = 0;
  ::waitpid(pid, &status, 0);
  if (WIFSIGNALED(status)) return {std::string("the new process crashed: ") + ::strsignal(WTERMSIG(status)), ""};
  const size_t tab = text.find('\t');
  if (!WIFEXITED(status) || WEXITSTATUS(status) != 0 || tab == std::string::npos)
    return {"the new process gave no answer", ""};
  return {text.substr(0, tab), text.substr(tab + 1)};
}

inline sinter::Target build_target(sinter::Module module) {
  sinter::BuildOptions options;
  options.threads = 1;
  options.logger.sink = [](void*, sinter::LogLevel, std::string_view) {};
  return sinter::build(std::move(module), options).target;
}

// `scratch` is the name of a file that may be written and is removed again.
inline Verdict run_case(const Case& c, Mode mode, const std::string& scratch) {
  using namespace sinter;
  const size_t sets = sets_of(c);
  if (sets == 0) return {"it has no data", ""};
  onnx::ReadOptions reading;
  reading.logger.sink = [](void*, LogLevel, std::string_view) {};
  const auto model = onnx::read(c.model, reading);
  onnx::ImportOptions importing;
  importing.logger = reading.logger;
  importing.open_extents = mode == Mode::dynamic;
  Module module = onnx::import(model, importing);
  if (mode == Mode::reloaded) {
    const Target target = build_target(std::move(module));
    const Target* const targets[] = {&target};
    save_engine(targets, scratch);
    const Verdict verdict = run_in_new_process(c, scratch);
    ::unlink(scratch.c_str());
    return verdict;
  }
  const DeviceSpec device = this_machine(1);
  // A model's inputs by number and name; those of an engine are the ones that are not frozen.
  std::vector<std::string> names;
  std::vector<Type> types;
  std::set<size_t> frozen;
  const std::set<ValueId> contents_decide = mode == Mode::frozen ? deciding(*module.main) : std::set<ValueId>{};
  for (const ValueId v : module.main->inputs) {
    const Type& type = (*module.main)[v].type;
    if (contents_decide.count(v) && type.is_tensor() && !c.folder.empty()) frozen.insert(names.size());
    names.push_back((*module.main)[v].name);
    types.push_back(type);
  }
  Feed feed;
  for (size_t i = 0; i < names.size(); ++i) {
    if (frozen.count(i)) continue;
    feed.files.push_back(i);
    Dims extents;
    for (const onnx::ValueInfo& info : model->graph.inputs)
      if (info.name == names[i] && info.type.shape)
        for (const auto& extent : *info.type.shape) extents.push_back(extent.value.value_or(1));
    feed.extents.push_back(extents);
  }
  Verdict verdict;
  std::shared_ptr<const Engine> engine;
  for (size_t set = 0; set < sets && verdict.why.empty(); ++set) {
    if (!frozen.empty()) {
      for (const size_t i : frozen)
        importing.frozen.insert_or_assign(names[i], read_value(file_of(c, set, "input", i), types[i]).tensor);
      module = onnx::import(model, importing);
    }
    if (set == 0 || !frozen.empty()) {
      Target target = build_target(std::move(module));
      verify_target(target, device);
      engine = std::make_shared<const Engine>(make_executable(std::move(target), device));
      if (engine->inputs().size() != feed.files.size()) return {"the engine has another number of inputs", ""};
    }
    run_set(engine, c, feed, set, verdict);
  }
  return verdict;
}

}  // namespace suite
