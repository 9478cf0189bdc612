// What holds of every module between passes. A breach is a bug of the pass that ran last.
#pragma once

#include "ir/graph.h"

namespace sinter {

// Throws Error(Code::internal) naming node and rule: operands are defined before use, every value is defined once,
// types follow inference, bodies are closed and take as many parameters as their node passes, results have types.
void verify(const Module& module);

}  // namespace sinter
