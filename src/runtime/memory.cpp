#include "runtime/memory.h"

#include <algorithm>
#include <new>

namespace sinter {

int64_t weight_bytes(const Target& target) {
  int64_t bytes = 0;
  for (const Weight& weight : target.weights) bytes += weight.bytes.bytes();
  return bytes;
}

bool has_open_extents(const Target& target) {
  return std::any_of(target.profiles.begin(), target.profiles.end(),
                     [](const Profile& profile) { return profile.best != profile.high; });
}

std::optional<MemoryUse> memory_at(const Executable& executable, Extents extents) {
  const Target& target = executable.target;
  RunState state(Memory::Kind::counted);
  state.symbols.assign(target.symbols.size(), -1);
  state.bindings.assign(target.bindings.size(), nullptr);
  state.threads = executable.device.threads;
  for (const Profile& profile : target.profiles) {
    const int64_t extent = extents == Extents::best ? profile.best : profile.high;
    if (extent < INT64_MAX) state.symbols[profile.symbol] = extent;
  }
  for (SymbolId id : executable.main.segments[0].depends)
    if (state.symbols[id] < 0) return std::nullopt;
  MemoryUse use;
  use.weights = weight_bytes(target);
  try {
    Frame frame(executable, executable.main, state);
    frame.bind_first();
    use.values = frame.arena_bytes();
    for (uint32_t s : target.main.results)
      if (target.main.slots[s].kind == SlotKind::binding) use.outputs += frame.bytes(s);
  } catch (const Error&) {
    return std::nullopt;  // the extents do not fit together
  } catch (const std::bad_alloc&) {
    return std::nullopt;  // even what binding notes of such extents does not fit
  }
  use.working = state.workspace.size() + state.scratch.size();
  use.complete = executable.main.segments.size() == 1 && target.main.bodies.empty();
  return use;
}

}  // namespace sinter
