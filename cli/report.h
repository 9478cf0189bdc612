// The build report: as JSON, and as what a person wants to know first.
#pragma once

#include <string>

#include "builder/pipeline.h"
#include "runtime/memory.h"

namespace sinter::cli {

// Answers why something was not fused (journal and refusals) and why a kernel was chosen (its decision). `target`: what
// was built, or null when it is gone.
std::string report_json(const BuildReport& report, const Target* target, const std::string& model);
// What a run holds at the engine's best extents, as one sentence.
std::string memory_text(const MemoryUse& use);
// Kernels by how many steps they run, most first.
void print_kernel_summary(const BuildReport& report);

}  // namespace sinter::cli
