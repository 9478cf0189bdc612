// in_place: results are made over operands that nobody reads afterwards, where kernels may (Kernel::may_overwrite).
//
// A residual sum or a pointwise program then writes the lines that it has just read, and the plan needs less memory.
#pragma once

#include "backend/plan.h"

namespace sinter {

void make_in_place(Target& target);

}  // namespace sinter
