// What a run of an engine holds, told without running it.
#pragma once

#include <optional>

#include "backend/execute.h"

namespace sinter {

struct MemoryUse {
  int64_t weights = 0;   // mapped from the engine file; contexts share them
  int64_t values = 0;    // between steps
  int64_t working = 0;   // of single steps: packed operands, scratch of every thread
  int64_t outputs = 0;   // where the caller gives no buffers
  bool complete = true;  // nothing is sized later: no bodies, no extents that running finds out
  int64_t total() const { return weights + values + working + outputs; }
};

// At the extents where the engine is fastest; none where it was not told which those are.
std::optional<MemoryUse> memory_at_best(const Executable& executable);

}  // namespace sinter
