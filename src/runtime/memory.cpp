#include "runtime/memory.h"

namespace sinter {

std::optional<MemoryUse> memory_at_best(const Executable& executable) {
  const Target& target = executable.target;
  RunState state;
  state.symbols.assign(target.symbols.size(), -1);
  state.bindings.assign(target.bindings.size(), nullptr);
  state.threads = executable.device.threads;
  for (const Profile& profile : target.profiles) state.symbols[profile.symbol] = profile.best;
  for (SymbolId id : executable.main.segments[0].depends)
    if (state.symbols[id] < 0) return std::nullopt;
  MemoryUse use;
  for (const Weight& weight : target.weights) use.weights += weight.bytes.bytes();
  try {
    Frame frame(executable, executable.main, state);
    frame.bind_first();
    use.values = frame.arena_bytes();
    for (uint32_t s : target.main.results)
      if (target.main.slots[s].kind == SlotKind::binding) use.outputs += frame.bytes(s);
  } catch (const Error&) {
    return std::nullopt;  // the extents do not fit together
  }
  use.working = state.workspace.size() + state.scratch.size();
  use.complete = executable.main.segments.size() == 1 && target.main.bodies.empty();
  return use;
}

}  // namespace sinter
