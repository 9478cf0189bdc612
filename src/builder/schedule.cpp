// Greedy placement by size at the best extents: each slot goes to the lowest free offset, and lies above every slot
// that lives at the same time and ends at or below that offset. Whatever the extents are later, two slots that live at
// the same time are ordered, so they never overlap.

#include "builder/schedule.h"

#include <algorithm>

namespace sinter {
namespace {

struct Life {
  uint32_t slot;
  uint32_t segment;
  uint32_t first, last;
  int64_t size = 0, offset = 0;
};

int64_t size_at(const Slot& slot, std::span<const int64_t> symbols) {
  try {
    return std::max<int64_t>(
        64, (layout_bytes(slot.layout, slot.type.dtype, evaluate(*slot.type.shape, symbols)) + 63) & ~int64_t{63});
  } catch (const Error&) {
    return 64;  // extents that these values do not fit; only packing quality depends on it
  }
}

}  // namespace

void schedule(Plan& plan, std::span<const int64_t> symbols) {
  for (Plan& body : plan.bodies) schedule(body, symbols);
  constexpr uint32_t never = UINT32_MAX;
  const auto steps = static_cast<uint32_t>(plan.steps.size());
  std::vector<Life> lives(plan.slots.size());
  for (uint32_t s = 0; s < lives.size(); ++s) lives[s] = {s, 0, never, 0, 0, 0};
  uint32_t segment = 0;
  const auto touch = [&](uint32_t s, uint32_t step) {
    while (true) {
      Life& life = lives[s];
      if (life.first == never) {
        life.first = step;
        life.segment = segment;
      }
      life.last = std::max(life.last, step);
      if (plan.slots[s].kind != SlotKind::view) return;
      s = plan.slots[s].of;
    }
  };
  for (uint32_t i = 0; i < steps; ++i) {
    for (uint32_t s : plan.steps[i].operands)
      if (s != no_slot) touch(s, i);
    for (uint32_t s : plan.steps[i].results) touch(s, i);
    if (!plan.steps[i].defines.empty()) ++segment;
  }
  for (uint32_t s : plan.results) touch(s, steps);
  std::vector<Life> placed;
  std::vector<Life*> order;
  for (Life& life : lives) {
    if (plan.slots[life.slot].kind != SlotKind::arena || life.first == never) continue;
    life.size = size_at(plan.slots[life.slot], symbols);
    order.push_back(&life);
  }
  std::stable_sort(order.begin(), order.end(), [](const Life* a, const Life* b) { return a->size > b->size; });
  for (Life* life : order) {
    std::vector<const Life*> alive;
    for (const Life& other : placed)
      if (other.segment == life->segment && other.first <= life->last && life->first <= other.last)
        alive.push_back(&other);
    std::sort(alive.begin(), alive.end(), [](const Life* a, const Life* b) { return a->offset < b->offset; });
    int64_t offset = 0;
    for (const Life* other : alive) {
      if (offset + life->size <= other->offset) break;
      offset = std::max(offset, other->offset + other->size);
    }
    life->offset = offset;
    placed.push_back(*life);
  }
  for (const Life& life : placed) {
    std::vector<uint32_t>& above = plan.slots[life.slot].above;
    above.clear();
    for (const Life& other : placed)
      if (other.slot != life.slot && other.segment == life.segment && other.first <= life.last &&
          life.first <= other.last && other.offset + other.size <= life.offset)
        above.push_back(other.slot);
    std::sort(above.begin(), above.end());
  }
}

}  // namespace sinter
