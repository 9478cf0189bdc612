// The forms of If and Loop and of their bodies.

#include <fmt/core.h>

#include "backend/verifying.h"
#include "ops/control.h"

namespace sinter::verifying {
namespace {

constexpr int64_t max_carried = 1 << 16;

// The same apart from extents.
bool alike(const Type& a, const Type& b) {
  if (a.kind != b.kind) return false;
  if (a.is_tensor()) return a.dtype == b.dtype;
  return !a.element || !b.element || alike(*a.element, *b.element);
}

// A value may be passed to a parameter: equal dtype and rank, or boxed. Extents are checked when it is passed.
void same_kind(const Plan& plan, uint32_t from, const Plan& body, uint32_t to, uint32_t now) {
  if (to >= body.slots.size()) fail("a parameter is no slot");
  const Type& a = plan.slots[from].type;
  const Type& b = body.slots[to].type;
  // A parameter of unknown rank takes a plain tensor too: it is wrapped where it is read.
  const bool fits = b.is_plain()   ? a.is_plain() && a.dtype == b.dtype && a.shape->size() == b.shape->size()
                    : a.is_plain() ? b.is_tensor() && !b.shape && a.dtype == b.dtype
                                   : alike(a, b);
  if (!fits) fail(fmt::format("step {} passes a value of another kind to a body", now));
}

void check_loop_form(const Plan& plan, const Step& step, const Plan& body, uint32_t now) {
  const LoopAttrs& attrs = step.attrs.as<LoopAttrs>();
  const size_t operands = step.operands.size(), scanned = attrs.scan_axes.size(), stacked = attrs.stack_axes.size();
  const bool form = attrs.carried >= 0 && attrs.carried <= max_carried && operands >= 2 &&
                    operands >= 2 + static_cast<size_t>(attrs.carried) + scanned &&
                    step.results.size() == static_cast<size_t>(attrs.carried) + stacked &&
                    body.parameters.size() == operands && body.results.size() == 1 + step.results.size();
  if (!form) fail(fmt::format("loop {} and its body have different forms", now));
  const auto carried = static_cast<size_t>(attrs.carried);
  const auto is = [](const Type& type, DType dtype) { return type.is_tensor() && type.dtype == dtype; };
  for (size_t k = 0; k < operands; ++k) {
    if (body.parameters[k] >= body.slots.size()) fail("a parameter is no slot");
    const Type& parameter = body.slots[body.parameters[k]].type;
    if (k < 2) {
      const DType dtype = k == 0 ? DType::i64 : DType::boolean;
      if (step.operands[k] != no_slot && !is(plan.slots[step.operands[k]].type, dtype))
        fail(fmt::format("loop {} has a trip count or condition of another type", now));
      if (!is(parameter, dtype) || !parameter.shape || !parameter.shape->empty())
        fail(fmt::format("the body of loop {} has another form", now));
      continue;
    }
    if (step.operands[k] == no_slot) fail(fmt::format("loop {} passes nothing to its body", now));
    const bool slice = k >= 2 + carried && k < 2 + carried + scanned;
    if (!slice) {
      same_kind(plan, step.operands[k], body, body.parameters[k], now);
      continue;
    }
    const Type& x = plan.slots[step.operands[k]].type;
    if (!x.is_plain() || !parameter.is_plain() || x.dtype != parameter.dtype ||
        x.shape->size() != parameter.shape->size() + 1 || step.operands[0] == no_slot)
      fail(fmt::format("loop {} scans something that has no such slices", now));
  }
  for (size_t r = 0; r < body.results.size(); ++r) {
    if (body.results[r] >= body.slots.size()) fail("a result is no slot");
    const Type& result = body.slots[body.results[r]].type;
    if (r == 0 ? !is(result, DType::boolean) : r > carried && !result.is_tensor())
      fail(fmt::format("result {} of the body of loop {} has another type", r, now));
    // A carried value comes back as the next iteration's parameter.
    if (r > 0 && r <= carried) {
      const Type& parameter = body.slots[body.parameters[1 + r]].type;
      const bool fits = parameter.is_plain() ? result.is_plain() && result.dtype == parameter.dtype &&
                                                   result.shape->size() == parameter.shape->size()
                                             : alike(result, parameter);
      if (!fits) fail(fmt::format("carried value {} of loop {} changes its kind", r - 1, now));
    }
  }
}

}  // namespace

void check_control_form(const Plan& plan, const Step& step, uint32_t now) {
  const bool branch = std::string_view(step.op->name) == "If";
  for (uint32_t b : step.bodies) {
    if (b >= plan.bodies.size()) fail(fmt::format("step {} names no body", now));
    const Plan& body = plan.bodies[b];
    if (branch) {
      const uint32_t condition = step.operands[0];
      if (condition == no_slot || !plan.slots[condition].type.is_tensor() ||
          plan.slots[condition].type.dtype != DType::boolean)
        fail(fmt::format("the condition of step {} is no bool", now));
      if (body.parameters.size() != step.operands.size() - 1 || body.results.size() != step.results.size())
        fail(fmt::format("a body of step {} has another form", now));
      for (size_t k = 1; k < step.operands.size(); ++k) {
        if (step.operands[k] == no_slot) fail(fmt::format("step {} passes nothing to a body", now));
        same_kind(plan, step.operands[k], body, body.parameters[k - 1], now);
      }
    } else {
      check_loop_form(plan, step, body, now);
    }
  }
}

}  // namespace sinter::verifying
