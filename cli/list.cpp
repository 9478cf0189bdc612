// sinter list: what this build knows.

#include <fmt/core.h>

#include "backend/kernel.h"
#include "base/scanner.h"
#include "common.h"
#include "operators.h"
#include "ops/custom.h"

namespace sinter::cli {
namespace {

std::string arity_text(const Arity& arity) {
  if (arity.high == Arity::any) return fmt::format("{}+", arity.low);
  return arity.low == arity.high ? std::to_string(arity.low) : fmt::format("{}-{}", arity.low, arity.high);
}

int list_ops() {
  Table table({"operator", ">operands", ">results", "attributes (defaults)", "expression"});
  for (const Op* op : all_ops()) {
    std::string attrs = op->fields ? Attrs::defaults(op->fields()).to_text(true) : "";
    if (attrs.size() > 2) attrs = attrs.substr(1, attrs.size() - 2);
    table.row({op->name, arity_text(op->inputs), arity_text(op->outputs), shortened(attrs, 72),
               op->pointwise ? op->pointwise : ""});
  }
  for (const CustomOperator* op : all_custom()) {
    const auto number = [](size_t low, size_t high) {
      if (high == SIZE_MAX) return fmt::format("{}+", low);
      return low == high ? std::to_string(low) : fmt::format("{}-{}", low, high);
    };
    std::string attrs;
    for (const CustomAttribute& a : op->attributes) {
      attrs += (attrs.empty() ? "" : ", ") + a.name;
      if (a.initial) attrs += "=" + custom_text(*a.initial);
    }
    table.row({printable(op->full_name()), number(op->least_inputs, op->most_inputs),
               number(op->least_outputs, op->most_outputs), shortened(attrs, 72),
               fmt::format("version {} of plugin {}", op->version, printable(op->plugin))});
  }
  table.print();
  return exit_ok;
}

int list_kernels() {
  Table table({"kernel", "backend"});
  for (const Backend* backend : backends())
    for (const Kernel* kernel : backend->kernels())
      table.row({fmt::format("{}/{}", backend->name, kernel->name), backend->name});
  table.print();
  return exit_ok;
}

int list_passes() {
  Table table({"pass", "can be left out"});
  for (const PassEntry& pass : pass_list()) table.row({pass.name, pass.optional ? "yes" : "no"});
  table.print();
  return exit_ok;
}

int list_settings() {
  Table table({"command", "option", "value", "default", "meaning"});
  for (const CommandOptions& command : all_options())
    for (const Options::Entry& entry : command.entries)
      table.row({command.command, entry.flags, entry.type, entry.initial, entry.help});
  table.print();
  return exit_ok;
}

}  // namespace

std::function<int()> declare_list(Options& o) {
  auto what = std::make_shared<std::string>();
  o.choice("WHAT", *what, {"ops", "kernels", "passes", "settings"}, "what to list");
  auto markdown = std::make_shared<bool>(false);
  auto sources = std::make_shared<PageSources>();
  o.flag("--markdown", *markdown, "ops: the page docs/operators.md, ONNX's operators included");
  o.value("--tests", sources->tests, "DIR", "with --markdown: tests whose cases and problems are looked through");
  o.repeated("--models", sources->models, "DIR", "with --markdown: a folder of ONNX test cases to import");
  declare_plugins(o);
  o.examples("sinter list ops\nsinter list ops --plugins ./swish_nms.so\nsinter list settings");
  return [what, markdown, sources] {
    if (*markdown) {
      if (*what != "ops") throw Failed{exit_usage, Error(Code::invalid_argument, "--markdown is there for ops only")};
      const std::string page = operators_page(*sources);
      std::fwrite(page.data(), 1, page.size(), stdout);
      return int{exit_ok};
    }
    if (*what == "ops") return list_ops();
    if (*what == "kernels") return list_kernels();
    return *what == "passes" ? list_passes() : list_settings();
  };
}

}  // namespace sinter::cli
