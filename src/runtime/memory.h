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

enum class Extents : uint8_t { best, largest };  // of the dimensions with bounds

int64_t weight_bytes(const Target& target);
// None where dimensions have no bounds, or the network takes no inputs of these extents. Reserves nothing.
std::optional<MemoryUse> memory_at(const Executable& executable, Extents extents);
// Whether the two differ.
bool has_open_extents(const Target& target);

}  // namespace sinter
