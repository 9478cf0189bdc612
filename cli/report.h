// The build report: as JSON, and as what a person wants to know first.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

#include "builder/pipeline.h"
#include "runtime/memory.h"

namespace sinter::cli {

using Json = nlohmann::ordered_json;

// Answers why something was not fused (journal and refusals), why a kernel was chosen (its decision) and what a run
// holds.
std::string report_json(const BuildReport& report, const Executable& executable, const std::string& model);
// What a run holds at the engine's best and at its largest extents: "memory" and "memory_at_largest", where those are
// known.
void add_memory(Json& json, const Executable& executable);
// The same as one sentence.
std::string memory_text(const Executable& executable);
// Kernels by how many steps they run, most first.
void print_kernel_summary(const BuildReport& report);

}  // namespace sinter::cli
