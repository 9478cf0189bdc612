// parts: Concat, Split and Slice cost nothing where what they move lies in another value as it is.
//
// Runs over an emitted plan. What the operands of a Concat are made by writes into its result, and what reads the
// results of a Split or Slice reads out of their operand. Along an axis that nothing is counted outside of, elements
// lie one after the other, so every row may. Along the innermost axis they are columns, which every row that is
// concerned must take (Layout::pitch). Other operands are copied as before, and so is what is little beside a base that
// it would keep from being free. Kernels, numerics and the order of the steps stay.
#pragma once

#include <span>

#include "backend/plan.h"

namespace sinter {

// likely: extents by symbol, which decide what is little and nothing else.
void place_parts(Target& target, const DeviceSpec& device, std::span<const int64_t> likely);

}  // namespace sinter
