// sinter: the command line tool.

#include <fmt/core.h>

#include <CLI/CLI.hpp>
#include <csignal>

#include "api/plugins.h"
#include "common.h"
#include "options.h"

int main(int argc, char** argv) {
  using namespace sinter;
  CLI::App app("Compiles trained networks (ONNX) into engines and runs them.", "sinter");
  app.require_subcommand(1);
  app.set_version_flag("--version", fmt::format("sinter {}", SINTER_VERSION));
  app.footer(
      "Examples:\n"
      "  sinter build resnet50.onnx -o resnet50.engine\n"
      "  sinter bench resnet50.engine --threads 4\n"
      "  sinter run model.onnx --inputs image.npy --print\n"
      "  sinter compare model.onnx\n"
      "\n"
      "Exit codes: 0 ok, 1 failure, 2 usage, 3 model invalid or unsupported, 4 comparison failed,\n"
      "            5 build failed, 6 engine invalid or incompatible");
  std::vector<std::pair<CLI::App*, std::function<int()>>> declared;
  for (const cli::Command& command : cli::commands()) {
    CLI::App* sub = app.add_subcommand(command.name, command.summary);
    cli::Options options(*sub);
    declared.emplace_back(sub, command.declare(options));
  }
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? cli::exit_ok : cli::exit_usage;
  }
  std::signal(SIGINT, cli::on_interrupt);
  std::signal(SIGPIPE, SIG_DFL);
  for (const auto& [sub, run] : declared)
    if (sub->parsed())
      return cli::guarded([&command = run] {
        for (const std::string& file : cli::plugin_files()) load_plugins(file);
        return command();
      });
  return cli::exit_usage;
}
