#include "options.h"

#include <fmt/core.h>

#include <CLI/CLI.hpp>

namespace sinter::cli {
namespace {

std::string text_of(const std::string& v) { return v; }
std::string text_of(int v) { return std::to_string(v); }
std::string text_of(uint64_t v) { return std::to_string(v); }
std::string text_of(double v) { return fmt::format("{}", v); }

template <typename T>
void add_value(CLI::App& app, std::vector<Options::Entry>& entries, const char* flags, T& into, const char* type,
               const char* help) {
  entries.push_back({flags, type, text_of(into), help});
  CLI::Option* option = app.add_option(flags, into, help)->type_name(type);
  if (!entries.back().initial.empty()) option->default_str(entries.back().initial);
}

}  // namespace

void Options::positional(const char* name, std::string& into, const char* help) {
  entries_.push_back({name, "", "", help});
  app_.add_option(name, into, help)->required()->type_name("");
}

void Options::value(const char* flags, std::string& into, const char* type, const char* help) {
  add_value(app_, entries_, flags, into, type, help);
}

void Options::value(const char* flags, int& into, const char* type, const char* help) {
  add_value(app_, entries_, flags, into, type, help);
}

void Options::value(const char* flags, uint64_t& into, const char* type, const char* help) {
  add_value(app_, entries_, flags, into, type, help);
  // Conversion alone would take "-1" and clip what is too large.
  app_.get_option_no_throw(flags)->check([](const std::string& v) {
    const bool good = !v.empty() && v.size() < 20 && v.find_first_not_of("0123456789") == std::string::npos;
    return good ? std::string() : fmt::format("'{}' is not a whole number from 0 to 10^19 - 1", v);
  });
}

void Options::value(const char* flags, double& into, const char* type, const char* help) {
  add_value(app_, entries_, flags, into, type, help);
}

void Options::choice(const char* flags, std::string& into, std::vector<std::string> allowed, const char* help) {
  std::string type;
  for (const std::string& word : allowed) type += (type.empty() ? "" : "|") + word;
  entries_.push_back({flags, type, into, help});
  const bool positional = flags[0] != '-';
  CLI::Option* option =
      app_.add_option(flags, into, help)->type_name(type)->check([allowed, type](const std::string& v) {
        return std::find(allowed.begin(), allowed.end(), v) != allowed.end()
                   ? std::string()
                   : fmt::format("'{}' is none of {}", v, type);
      });
  if (positional) option->required();
  if (!into.empty()) option->default_str(into);
}

void Options::several(const char* flags, std::vector<std::string>& into, const char* type, const char* help) {
  entries_.push_back({flags, type, "", help});
  app_.add_option(flags, into, help)->type_name(type);
}

void Options::repeated(const char* flags, std::vector<std::string>& into, const char* type, const char* help) {
  entries_.push_back({flags, type, "", help});
  app_.add_option(flags, into, help)->type_name(type)->allow_extra_args(false);
}

void Options::flag(const char* flags, bool& into, const char* help) {
  entries_.push_back({flags, "", "", help});
  app_.add_flag(flags, into, help);
}

void Options::examples(const char* text) {
  std::string footer = "Examples:\n";
  for (std::string_view rest = text; !rest.empty();) {
    const size_t end = std::min(rest.find('\n'), rest.size());
    footer += fmt::format("  {}\n", rest.substr(0, end));
    rest.remove_prefix(std::min(end + 1, rest.size()));
  }
  footer.pop_back();
  app_.footer(footer);
}

const std::vector<Command>& commands() {
  static const std::vector<Command> list = {
      {"build", "compile a model into an engine file", declare_build},
      {"run", "run a model or engine once and keep its outputs", declare_run},
      {"bench", "measure latency and throughput", declare_bench},
      {"inspect", "show what is in a model or engine", declare_inspect},
      {"compare", "compare an engine with the model's reference evaluation", declare_compare},
      {"bisect", "find the rewrite or step that changes a model's results", declare_bisect},
      {"list", "list operators, kernels, passes or settings", declare_list},
      {"doctor", "check that this machine and installation work", declare_doctor},
  };
  return list;
}

std::vector<CommandOptions> all_options() {
  std::vector<CommandOptions> out;
  for (const Command& command : commands()) {
    CLI::App app;
    Options options(app);
    command.declare(options);
    out.push_back({command.name, options.entries()});
  }
  return out;
}

}  // namespace sinter::cli
