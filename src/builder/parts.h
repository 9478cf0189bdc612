// parts: Concat, Split and Slice cost nothing where what they move lies in another value as it is.
//
// Runs over an emitted plan. What the operands of a Concat are made by writes into its result, and what reads the
// results of a Split or Slice reads out of their operand. Along an axis that nothing is counted outside of, elements
// lie one after the other, so every row may. Along the innermost axis they are columns, which every row that is
// concerned must take (Layout::pitch). Other operands are copied as before. Kernels, numerics and the order of the
// steps stay.
#pragma once

#include "backend/plan.h"

namespace sinter {

void place_parts(Target& target, const DeviceSpec& device);

}  // namespace sinter
