// parts: Concat and Slice along the innermost axis of how values lie cost nothing where rows take a pitch.
//
// Runs over an emitted plan. What the operands of a Concat are made by writes into the rows of its result, and what
// reads a Slice reads out of the rows of its operand, wherever every row that is concerned takes such a layout
// (Layout::pitch); other operands are copied as before. Kernels, numerics and the order of the steps stay.
#pragma once

#include "backend/plan.h"

namespace sinter {

void place_parts(Target& target, const DeviceSpec& device);

}  // namespace sinter
