// Executable: kernels found and prepared, plans cut into segments.

#include <fmt/core.h>

#include <algorithm>

#include "backend/execute.h"
#include "base/scanner.h"
#include "ops/contraction.h"

namespace sinter {
namespace {

void merge(std::vector<SymbolId>& into, const std::vector<SymbolId>& more) {
  into.insert(into.end(), more.begin(), more.end());
  std::sort(into.begin(), into.end());
  into.erase(std::unique(into.begin(), into.end()), into.end());
}

void symbols_of_slot(const Slot& slot, std::vector<SymbolId>& out) {
  collect_symbols(slot.type, out);
  if (slot.at) slot.at->collect_symbols(out);
  if (const auto* dims = std::get_if<std::vector<Dim>>(&slot.contents))
    for (const Dim& d : *dims) d.collect_symbols(out);
}

// Slots of a segment so that every slot comes after those it lies above and after the slot it views.
std::vector<uint32_t> placement_order(const Plan& plan, const std::vector<uint32_t>& slots) {
  std::vector<uint8_t> state(plan.slots.size(), 0);  // 0: elsewhere, 1: wanted, 2: entered, 3: done
  for (uint32_t s : slots) state[s] = 1;
  std::vector<uint32_t> order;
  std::vector<std::pair<uint32_t, size_t>> stack;
  for (uint32_t root : slots) {
    if (state[root] != 1) continue;
    stack.push_back({root, 0});
    state[root] = 2;
    while (!stack.empty()) {
      auto& [s, next] = stack.back();
      const Slot& slot = plan.slots[s];
      const size_t below = slot.above.size() + (slot.kind == SlotKind::view ? 1 : 0);
      if (next == below) {
        state[s] = 3;
        order.push_back(s);
        stack.pop_back();
        continue;
      }
      const uint32_t t = next < slot.above.size() ? slot.above[next] : slot.of;
      ++next;
      if (state[t] == 2) throw Error(Code::engine_invalid, fmt::format("slot {} lies above itself", s));
      if (state[t] == 1) {
        state[t] = 2;
        stack.push_back({t, 0});
      }
    }
  }
  return order;
}

// outer: what the parameters of bodies around the plan bind.
PlanInfo analyse(const Plan& plan, const Target& target, const std::vector<const Kernel*>& kernels,
                 const DeviceSpec& device, std::vector<SymbolId> outer) {
  PlanInfo info;
  info.plan = &plan;
  for (uint32_t s : plan.parameters) {
    const Type& type = plan.slots[s].type;
    if (!type.has_shape()) continue;
    for (const Dim& d : *type.shape) {
      const auto id = d.as_symbol();
      if (!id || target.symbols[*id].bound != Symbol::Bound::body_parameter) continue;
      if (std::find(outer.begin(), outer.end(), *id) != outer.end()) continue;
      outer.push_back(*id);
      info.binds.push_back(*id);
    }
  }
  std::vector<uint32_t> segment_of(plan.slots.size(), no_slot);
  PlanInfo::Segment segment;
  const auto mention = [&](uint32_t s) {
    while (s != no_slot && segment_of[s] == no_slot) {
      segment_of[s] = static_cast<uint32_t>(info.segments.size());
      segment.slots.push_back(s);
      s = plan.slots[s].kind == SlotKind::view ? plan.slots[s].of : no_slot;
    }
  };
  for (uint32_t s : plan.parameters) mention(s);
  for (uint32_t s = 0; s < plan.slots.size(); ++s)
    if (plan.slots[s].kind == SlotKind::binding && !target.bindings[plan.slots[s].of].is_output) mention(s);
  for (uint32_t i = 0; i < plan.steps.size(); ++i) {
    const Step& step = plan.steps[i];
    for (uint32_t s : step.operands) mention(s);
    for (uint32_t s : step.results) mention(s);
    std::vector<std::shared_ptr<const void>> prepared;
    for (const Choice& choice : step.choices) {
      merge(segment.depends, choice.symbols);
      const Kernel& kernel = *kernels[choice.kernel];
      const Problem& problem = target.problems[choice.problem];
      prepared.push_back(kernel.prepare ? kernel.prepare(kernel, problem, choice.config, device) : nullptr);
    }
    info.prepared.push_back(std::move(prepared));
    segment.has_bodies = segment.has_bodies || step.kind != Step::Kind::kernel;
    segment.end = i + 1;
    if (!step.defines.empty()) {
      info.segments.push_back(std::move(segment));
      segment = {};
      segment.begin = segment.end = i + 1;
    }
  }
  for (uint32_t s : plan.results) mention(s);
  for (uint32_t s = 0; s < plan.slots.size(); ++s) mention(s);
  info.segments.push_back(std::move(segment));
  // Symbols that a segment's own steps define are known only after it.
  std::vector<SymbolId> later;
  for (size_t k = info.segments.size(); k-- > 0;) {
    PlanInfo::Segment& seg = info.segments[k];
    if (seg.end > seg.begin) merge(later, plan.steps[seg.end - 1].defines);
    for (uint32_t s : seg.slots)
      if (plan.slots[s].kind != SlotKind::boxed) symbols_of_slot(plan.slots[s], seg.depends);
    // The size of a view is checked against its base, which may have been sized in an earlier segment.
    for (uint32_t s : seg.slots)
      if (plan.slots[s].kind == SlotKind::view) symbols_of_slot(plan.slots[plan.slots[s].of], seg.depends);
    merge(seg.depends, {});
    std::erase_if(seg.depends, [&](SymbolId id) { return std::binary_search(later.begin(), later.end(), id); });
    seg.slots = placement_order(plan, seg.slots);
    for (uint32_t s : seg.slots)
      if (plan.slots[s].kind == SlotKind::binding && target.bindings[plan.slots[s].of].is_output)
        seg.outputs.push_back(s);
  }
  std::vector<bool> seen(plan.slots.size(), false);
  for (uint32_t r = 0; r < plan.results.size(); ++r) {
    const uint32_t s = plan.results[r];
    const Slot& slot = plan.slots[s];
    const bool again = seen[s];
    seen[s] = true;
    if (slot.kind == SlotKind::arena && !again) {
      info.exits.push_back(PlanInfo::Exit::written);
      info.segments[segment_of[s]].results.push_back(r);
    } else if (slot.kind == SlotKind::boxed && std::holds_alternative<std::monostate>(slot.contents) &&
               std::count(plan.results.begin(), plan.results.end(), s) == 1) {
      info.exits.push_back(PlanInfo::Exit::moved);
    } else {
      info.exits.push_back(PlanInfo::Exit::copied);
    }
  }
  for (const Plan& body : plan.bodies) info.bodies.push_back(analyse(body, target, kernels, device, outer));
  return info;
}

// Executable::over.
std::vector<uint32_t> inputs_under(const Executable& executable) {
  const Target& target = executable.target;
  const Plan& plan = target.main;
  // What each slot is a view of in the end, and whether it is all of that, with its extents.
  std::vector<uint32_t> base(plan.slots.size());
  std::vector<bool> whole(plan.slots.size(), true);
  for (uint32_t s = 0; s < plan.slots.size(); ++s) {
    base[s] = s;
    for (uint32_t v = s; plan.slots[v].kind == SlotKind::view; v = base[s] = plan.slots[v].of)
      whole[s] = whole[s] && !plan.slots[v].is_part() && plan.slots[v].type == plan.slots[plan.slots[v].of].type;
  }
  std::vector<size_t> last(plan.slots.size(), 0), writer(plan.slots.size(), SIZE_MAX);
  for (size_t n = 0; n < plan.steps.size(); ++n) {
    const Step& step = plan.steps[n];
    for (uint32_t s : step.operands)
      if (s != no_slot) last[base[s]] = n;
    if (step.kind == Step::Kind::kernel && step.results.size() == 1 && step.results[0] != no_slot)
      writer[step.results[0]] = n;
  }
  const auto under = [&](uint32_t result) {
    const Slot& made = plan.slots[result];
    if (made.kind != SlotKind::binding || writer[result] == SIZE_MAX) return no_slot;
    const Step& step = plan.steps[writer[result]];
    for (size_t k = 0; k < step.operands.size(); ++k) {
      const uint32_t over = step.operands[k];
      if (over == no_slot || !whole[over] || !(plan.slots[over].layout == made.layout)) continue;
      const Slot& slot = plan.slots[base[over]];
      if (slot.kind != SlotKind::binding || target.bindings[slot.of].is_output) continue;
      const auto reads = std::count_if(step.operands.begin(), step.operands.end(),
                                       [&](uint32_t s) { return s != no_slot && base[s] == base[over]; });
      const bool may = std::all_of(step.choices.begin(), step.choices.end(), [&](const Choice& choice) {
        return may_overwrite(*executable.kernels[choice.kernel], target.problems[choice.problem], k);
      });
      if (reads == 1 && last[base[over]] == writer[result] && may) return slot.of;
    }
    return no_slot;
  };
  std::vector<uint32_t> out;
  for (uint32_t result : plan.results) out.push_back(under(result));
  return out;
}

}  // namespace

std::shared_ptr<const Executable> make_executable(Target target, const DeviceSpec& device) {
  auto executable = std::make_shared<Executable>();
  executable->target = std::move(target);
  executable->device = device;
  for (const std::string& name : executable->target.kernels) {
    const Kernel* kernel = find_kernel(name);
    if (!kernel)
      throw Error(Code::engine_incompatible, fmt::format("this library has no kernel named '{}'", printable(name)));
    executable->kernels.push_back(kernel);
  }
  for (const Problem& problem : executable->target.problems)
    for (const Stage& stage : problem.stages)
      if (numerics_of(stage.attrs).value_or(Numerics::strict) != Numerics::strict) executable->flushes_denormals = true;
  executable->main = analyse(executable->target.main, executable->target, executable->kernels, device, {});
  executable->over = inputs_under(*executable);
  return executable;
}

}  // namespace sinter
