// Single reductions over any axes: rows are folded where the reduced axes are innermost, else added onto each other.
#pragma once

#include "backend/kernel.h"

namespace sinter::cpu {

extern const Kernel reduce_kernel;

}  // namespace sinter::cpu
