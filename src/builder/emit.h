// emit: a grouped graph with chosen kernels becomes steps, slots and weights.
//
// Choosing and emitting walk the graph together: each fragment asks the rows of the backends in order, with the layouts
// its operands have where a row takes them, else with the layouts the row wants, and conversions are inserted (once per
// value and layout). Work on constants alone is emitted into the init target, whose outputs are weights. Slots have no
// `above` yet: schedule does that.
#pragma once

#include <string>
#include <vector>

#include "backend/plan.h"
#include "builder/choose.h"
#include "builder/options.h"
#include "ir/graph.h"

namespace sinter {

struct Emitted {
  Target target;
  Target init;                         // run once while building
  std::vector<uint32_t> init_weights;  // weights of `target` that the results of `init` fill, in order
  std::vector<KernelDecision> decisions;
  std::vector<std::string> value_names;  // the model's value in each slot of target.main; empty: none has it
};

// Puts the caller's bounds into the module's symbols; throws Error(Code::invalid_argument) for unknown names.
void bind_dims(Module& module, const BuildOptions& options);

// Fragments that no fast row takes are cut into parts that rows do take, down to single stages.
void cut_fragments(Module& module, const DeviceSpec& device);

// Values between fragments become bf16 where the rows on both sides take it.
void narrow_values(Module& module, const DeviceSpec& device);

// timings: where rows are measured; null: the cost model decides.
Emitted emit(Module& module, const BuildOptions& options, const DeviceSpec& device, TimingCache* timings);

}  // namespace sinter
