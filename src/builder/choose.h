// choose: which row of which backend runs a problem, at what layouts, and why the others do not.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "backend/kernel.h"
#include "passes/passes.h"

namespace sinter {

// Why a step is run by the kernel that runs it.
struct KernelDecision {
  std::string sources, kernel;
  std::vector<std::string> refusals;  // "kernel: reason"
  double nanoseconds = 0;             // the model's estimate, or measured
  bool measured = false;
};

struct Chosen {
  const Kernel* kernel = nullptr;
  Needs needs;
  KernelDecision decision;
  bool reference = false;
};

class TimingCache;

// Estimated nanoseconds of the best row for a fragment, in layouts of its choice, at likely extents; nothing
// when only the reference takes it.
std::optional<double> cost_of_fragment(Module& module, const Graph& body, std::span<const Type> operand_types,
                                       const std::vector<bool>& constant, const DeviceSpec& device);

// What `device` has fast rows for.
FastRows fast_rows(const DeviceSpec& device);

// The best row for a problem whose layouts may be `any`; none when nothing takes it. The reference row is asked only
// when no other takes the problem. `symbols`: values by problem symbol at which rows are compared. timings: where rows
// are measured; null: the cost model decides.
std::optional<Chosen> choose_kernel(const Problem& problem, std::span<const int64_t> symbols, const DeviceSpec& device,
                                    bool reference_only, TimingCache* timings = nullptr);

}  // namespace sinter
