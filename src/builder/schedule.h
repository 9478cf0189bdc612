// schedule: memory for a plan. Slots whose lifetimes overlap are ordered by `above`, so that one pass places them at
// any shape.
#pragma once

#include "backend/plan.h"

namespace sinter {

// `symbols`: values at which the packing is good (the profile's best). Fills Slot::above of arena slots, bodies
// included.
void schedule(Plan& plan, std::span<const int64_t> symbols);

}  // namespace sinter
