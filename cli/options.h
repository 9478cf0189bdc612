// Options of a command, declared once: parsing, help and `sinter list settings` follow from the declaration.
//
// A command declares its options into variables that live as long as what it returns, which runs it after parsing. The
// parser behind this (CLI11) is known to options.cpp and main.cpp only, since it takes long to compile.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

namespace CLI {
class App;
}

namespace sinter::cli {

class Options {
 public:
  explicit Options(CLI::App& app) : app_(app) {}

  void positional(const char* name, std::string& into, const char* help);
  void value(const char* flags, std::string& into, const char* type, const char* help);
  void value(const char* flags, int& into, const char* type, const char* help);
  void value(const char* flags, uint64_t& into, const char* type, const char* help);
  void value(const char* flags, double& into, const char* type, const char* help);
  void choice(const char* flags, std::string& into, std::vector<std::string> allowed, const char* help);
  void several(const char* flags, std::vector<std::string>& into, const char* type, const char* help);   // --x a b c
  void repeated(const char* flags, std::vector<std::string>& into, const char* type, const char* help);  // --x a --x b
  void flag(const char* flags, bool& into, const char* help);
  void examples(const char* text);  // one a line

  struct Entry {
    std::string flags, type, initial, help;
  };
  const std::vector<Entry>& entries() const { return entries_; }

 private:
  CLI::App& app_;
  std::vector<Entry> entries_;
};

struct Command {
  const char* name;
  const char* summary;
  std::function<int()> (*declare)(Options&);
};

// All commands, in the order of the help.
const std::vector<Command>& commands();

std::function<int()> declare_build(Options&);
std::function<int()> declare_run(Options&);
std::function<int()> declare_bench(Options&);
std::function<int()> declare_inspect(Options&);
std::function<int()> declare_compare(Options&);
std::function<int()> declare_bisect(Options&);
std::function<int()> declare_list(Options&);
std::function<int()> declare_doctor(Options&);

// Declares every command without running any, and gives their options.
struct CommandOptions {
  std::string command;
  std::vector<Options::Entry> entries;
};
std::vector<CommandOptions> all_options();

}  // namespace sinter::cli
