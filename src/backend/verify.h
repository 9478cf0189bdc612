// Verifies a Target as if an attacker had written it.
//
// After it, running the target touches only memory that belongs to it, whatever extents are bound and whatever the
// weights contain: every index is in range, every operand's type and layout is what its problem says, every kernel
// supports its fixed problem, every value is written before it is read and by one writer, slots that live at the same
// time are ordered by `above`. Sizes and facts are checked again when shapes are bound.
#pragma once

#include "backend/plan.h"

namespace sinter {

// Throws Error(Code::engine_invalid) or, for kernels that this library lacks, Error(Code::engine_incompatible).
void verify_target(const Target& target, const DeviceSpec& device);

}  // namespace sinter
