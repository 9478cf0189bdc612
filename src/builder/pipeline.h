// build: the list of what the compiler does, from a Module to a Target ready to be saved or run.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "backend/execute.h"
#include "builder/emit.h"
#include "builder/options.h"
#include "ir/graph.h"

namespace sinter {

struct BuildReport {
  struct Pass {
    std::string name;
    double milliseconds;
    bool changed;
    size_t nodes;
  };
  std::vector<Pass> passes;
  std::vector<Journal::Entry> journal;
  std::vector<Source> sources;
  std::vector<KernelDecision> kernels;
  std::vector<std::string> value_names;  // the model's value in each slot of the main plan; empty: none has it
  double total_milliseconds = 0;
};

struct Built {
  Target target;
  BuildReport report;
};

// Takes the module apart. Throws Error; nothing else is left behind.
Built build(Module module, const BuildOptions& options);

// The passes by name, in the order in which they run first.
struct PassEntry {
  const char* name;
  bool (*run)(Module&, const PassContext&);
  bool optional;
};
std::span<const PassEntry> pass_list();

}  // namespace sinter
