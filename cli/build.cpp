// sinter build: a model becomes an engine file.

#include <fmt/core.h>
#include <sys/stat.h>

#include "base/file.h"
#include "common.h"
#include "engine/file.h"
#include "report.h"

namespace sinter::cli {
namespace {

struct Args {
  std::string model, engine, report;
  BuildFlags build;
};

std::string default_engine(const std::string& model) {
  const size_t slash = model.rfind('/') == std::string::npos ? 0 : model.rfind('/') + 1;
  const size_t dot = model.rfind('.');
  return model.substr(0, dot != std::string::npos && dot > slash ? dot : model.size()) + ".engine";
}

bool same_file(const std::string& a, const std::string& b) {
  struct stat first, second;
  return ::stat(a.c_str(), &first) == 0 && ::stat(b.c_str(), &second) == 0 && first.st_dev == second.st_dev &&
         first.st_ino == second.st_ino;
}

int run(const Args& args) {
  const std::string path = args.engine.empty() ? default_engine(args.model) : args.engine;
  if (path == args.model || same_file(path, args.model))
    throw Error(Code::invalid_argument, fmt::format("the engine would overwrite the model '{}'", path));
  if (is_engine_file(args.model))
    throw Error(Code::model_invalid, fmt::format("'{}' is an engine already", args.model))
        .with_hint("give the ONNX model it was built from");
  const std::string file = output_path(path);
  const std::string report = args.report.empty() ? "" : output_path(args.report);
  const BuildOptions options = args.build.options(true);
  const Built built = build_model(read_model(args.model, args.build, options), options);
  const Target* targets[] = {&built.target};
  save_engine(targets, file);
  end_progress();
  const auto executable = make_executable(built.target, built.target.needs);
  if (!report.empty()) write_file_atomically(report, report_json(built.report, *executable, args.model));

  size_t reference = 0, rewrites = 0, refusals = 0;
  for (const KernelDecision& decision : built.report.kernels) reference += decision.kernel.rfind("reference/", 0) == 0;
  for (const Journal::Entry& entry : built.report.journal) ++(entry.number ? rewrites : refusals);
  fmt::print("{} {}\n", bold("engine"), path);
  fmt::print("  {} in {}, {} steps from {} nodes, {} rewrites ({} refused)\n",
             bytes_text(static_cast<double>(MappedFile::open(file)->bytes().size())),
             time_text(built.report.total_milliseconds), built.target.main.steps.size(), built.report.sources.size(),
             rewrites, refusals);
  fmt::print("  {}\n", memory_text(*executable));
  if (reference > 0)
    fmt::print("  {} run by reference, which is slow; the report says why (--report FILE.json)\n",
               reference == 1 ? "1 step is" : fmt::format("{} steps are", reference));
  if (args.build.verbose == "verbose" || args.build.verbose == "debug") {
    fmt::print("\n");
    print_kernel_summary(built.report);
  }
  return exit_ok;
}

}  // namespace

std::function<int()> declare_build(Options& o) {
  auto args = std::make_shared<Args>();
  o.positional("MODEL", args->model, "ONNX model");
  o.value("-o,--output", args->engine, "ENGINE", "engine file to write; default: MODEL with .engine");
  args->build.declare(o);
  o.value("--report", args->report, "FILE.json",
          "write what was fused, refused and chosen, why, and the memory of a run");
  o.examples(
      "sinter build resnet50.onnx -o resnet50.engine\n"
      "sinter build bert.onnx --dim batch=1:8:32 --dim sequence=1:128:512\n"
      "sinter build model.onnx --threads 4 --report report.json");
  return [args] { return run(*args); };
}

}  // namespace sinter::cli
