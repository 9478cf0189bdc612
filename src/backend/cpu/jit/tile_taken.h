// Whether a planned tile program can be compiled, decided before anything is emitted.
//
// Refused, and left to the interpreter: f64, integers that need more than 32 bits or are computed with otherwise than
// by adding, operators without vectors, fp8.
#pragma once

#include "backend/cpu/tile_plan.h"

namespace sinter::cpu::jit {

bool is_taken(const TileExecutor& executor);

// Loops without an operator of one argument convert.
inline bool converts(const TileStep& step) { return step.kind == TileStep::Kind::loop && scalar_arity(step.op) != 1; }

}  // namespace sinter::cpu::jit
