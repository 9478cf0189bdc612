#include "builder/in_place.h"

#include <algorithm>

namespace sinter {
namespace {

class InPlace {
 public:
  explicit InPlace(const Target& target) : target_(target) {
    for (const std::string& name : target.kernels) kernels_.push_back(find_kernel(name));
  }

  void run(Plan& plan) {
    for (Plan& body : plan.bodies) run(body);
    // Of memory: the last step that reads it, and whether it is read after the last one.
    last_.assign(plan.slots.size(), 0);
    kept_.assign(plan.slots.size(), false);
    for (uint32_t i = 0; i < plan.steps.size(); ++i)
      for (uint32_t s : plan.steps[i].operands)
        if (s != no_slot) last_[base_of(plan, s)] = i;
    for (uint32_t s : plan.results) kept_[base_of(plan, s)] = true;
    for (uint32_t i = 0; i < plan.steps.size(); ++i) step(plan, i);
  }

 private:
  static uint32_t base_of(const Plan& plan, uint32_t s) {
    while (plan.slots[s].kind == SlotKind::view) s = plan.slots[s].of;
    return s;
  }

  void step(Plan& plan, uint32_t i) {
    const Step& step = plan.steps[i];
    if (step.kind != Step::Kind::kernel || step.results.size() != 1) return;
    const uint32_t result = step.results[0];
    Slot& made = plan.slots[result];
    if (made.kind != SlotKind::arena || kept_[result]) return;
    for (size_t k = 0; k < step.operands.size(); ++k) {
      const uint32_t over = step.operands[k];
      if (over == no_slot) continue;
      const uint32_t base = base_of(plan, over);
      const Slot& slot = plan.slots[over];
      if (plan.slots[base].kind != SlotKind::arena || kept_[base] || last_[base] > i || slot.is_part() ||
          !(slot.type == made.type) || !(slot.layout == made.layout))
        continue;
      const auto here = std::count_if(step.operands.begin(), step.operands.end(),
                                      [&](uint32_t s) { return s != no_slot && base_of(plan, s) == base; });
      const bool may = std::all_of(step.choices.begin(), step.choices.end(), [&](const Choice& choice) {
        return may_overwrite(*kernels_[choice.kernel], target_.problems[choice.problem], k);
      });
      if (here != 1 || !may) continue;
      last_[base] = last_[result];
      made.kind = SlotKind::view;
      made.of = over;
      return;
    }
  }

  const Target& target_;
  std::vector<const Kernel*> kernels_;
  std::vector<uint32_t> last_;
  std::vector<bool> kept_;
};

}  // namespace

void make_in_place(Target& target) { InPlace(target).run(target.main); }

}  // namespace sinter
