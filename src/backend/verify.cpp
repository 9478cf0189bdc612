// The walk along a plan: one class, as later checks rest on what earlier ones have found.
#include "backend/verify.h"

#include <fmt/core.h>

#include <algorithm>

#include "backend/verifying.h"
#include "base/checked.h"
#include "base/scanner.h"

namespace sinter {
using verifying::fail;

namespace {

constexpr uint32_t never = UINT32_MAX;

class Verifier {
 public:
  Verifier(const Target& target, const DeviceSpec& device) : target_(target), device_(device) {}

  void run() {
    for (const std::string& name : target_.kernels) {
      const Kernel* kernel = find_kernel(name);
      if (!kernel)
        throw Error(Code::engine_incompatible, fmt::format("this library has no kernel named '{}'", printable(name)))
            .with_hint("build the engine again with this version");
      kernels_.push_back(kernel);
    }
    bool outputs = false;
    for (const Binding& binding : target_.bindings) {
      if (outputs && !binding.is_output) fail("an input binding comes after an output");
      outputs = outputs || binding.is_output;
      if (!binding.is_output && binding.type.kind == Type::Kind::invalid) fail("a binding has no type");
      if (binding.type.has_shape() && binding.type.shape->size() > max_rank_of_values)
        fail("a binding has too many axes");
    }
    for (const Profile& profile : target_.profiles)
      if (profile.symbol >= target_.symbols.size()) fail("a profile names no symbol");
    for (SymbolId k = 0; k < target_.symbols.size(); ++k) extents_.add({.name = target_.symbols[k].name});
    // Symbols that hold when the main plan starts: extents of its inputs that stand alone.
    known_.assign(target_.symbols.size(), false);
    claimed_ = known_;
    size_t inputs = 0;
    for (const Binding& binding : target_.bindings) {
      inputs += !binding.is_output;
      if (!binding.is_output) bind_bare(binding.type);
    }
    claimed_ = known_;
    if (target_.main.parameters.size() != inputs) fail("the main plan does not take every input");
    if (target_.main.results.size() != target_.bindings.size() - inputs)
      fail("the main plan does not give every output");
    for (size_t i = 0; i < inputs; ++i) {
      const uint32_t s = target_.main.parameters[i];
      if (s >= target_.main.slots.size()) fail("a parameter is no slot");
      const Slot& slot = target_.main.slots[s];
      const bool plain = target_.bindings[i].type.is_plain();
      if (slot.kind != (plain ? SlotKind::binding : SlotKind::boxed) || (plain && slot.of != i))
        fail(fmt::format("parameter {} is not its input", i));
      if (!(slot.type == target_.bindings[i].type))
        fail(fmt::format("parameter {} has another type than its input", i));
    }
    plan(target_.main, true, 0);
    for (size_t o = inputs; o < target_.bindings.size(); ++o) {
      const Slot& slot = target_.main.slots[target_.main.results[o - inputs]];
      if (slot.kind == SlotKind::binding ? slot.of != o || !(slot.type == target_.bindings[o].type)
                                         : slot.kind != SlotKind::boxed)
        fail(fmt::format("result {} is not its output", o - inputs));
      if (!slot.layout.is_row_major()) fail(fmt::format("result {} is not row-major", o - inputs));
    }
  }

 private:
  void bind_bare(const Type& type) {
    if (!type.has_shape()) return;
    for (const Dim& d : *type.shape)
      if (const auto id = d.as_symbol()) known_[*id] = true;
  }

  bool symbols_known(const Type& type) const {
    std::vector<SymbolId> ids;
    collect_symbols(type, ids);
    return std::all_of(ids.begin(), ids.end(), [&](SymbolId id) { return id < known_.size() && known_[id]; });
  }

  void slot(const Plan& plan, uint32_t s, bool main) const {
    const Slot& slot = plan.slots[s];
    const auto of = [&](size_t count, const char* what) {
      if (slot.of >= count) fail(fmt::format("slot {} names no {}", s, what));
    };
    if (slot.type.has_shape() &&
        (slot.type.shape->size() > max_rank_of_values || !layout_fits(slot.layout, slot.type.shape->size())))
      fail(fmt::format("slot {} has a layout that does not fit its type", s));
    if (slot.layout.kind == Layout::Kind::any) fail(fmt::format("slot {} has no fixed layout", s));
    if ((!slot.layout.is_row_major() || slot.is_part()) && (!slot.type.is_plain() || bit_size(slot.type.dtype) < 8))
      fail(fmt::format("slot {} has a layout that its dtype does not allow", s));
    if (slot.layout.pitch != 0) {
      const auto row = (*slot.type.shape)[slot.layout.innermost(slot.type.shape->size())].as_constant();
      if (!slot.layout.has_strides() || !row || *row > slot.layout.pitch)
        fail(fmt::format("slot {} has rows that do not fit its pitch", s));
    }
    const bool may_be_part = slot.kind == SlotKind::view,
               may_have_pitch = slot.is_part() || slot.kind == SlotKind::arena;
    if ((slot.is_part() && !may_be_part) || (slot.layout.pitch != 0 && !may_have_pitch))
      fail(fmt::format("slot {} cannot be a part", s));
    const bool plain = slot.type.is_plain();
    switch (slot.kind) {
      case SlotKind::arena:
        if (!plain) fail(fmt::format("slot {} lies in the arena and is no plain tensor", s));
        break;
      case SlotKind::binding:
        of(target_.bindings.size(), "binding");
        if (!main || !plain || !slot.layout.is_row_major()) fail(fmt::format("slot {} cannot be a binding", s));
        // A second slot of another type would see the caller's buffer as larger than it is.
        if (!(slot.type == target_.bindings[slot.of].type))
          fail(fmt::format("slot {} is not the type of its binding", s));
        break;
      case SlotKind::weight: {
        of(target_.weights.size(), "weight");
        const Weight& weight = target_.weights[slot.of];
        if (!(weight.type == slot.type) || !(weight.layout == slot.layout))
          fail(fmt::format("slot {} is not the type of its weight", s));
        break;
      }
      case SlotKind::view: {
        of(plan.slots.size(), "slot");
        const Slot& base = plan.slots[slot.of];
        if (slot.is_part()) {
          // That it lies within its base is tested when the slots are sized.
          const bool strides =
              slot.layout.pitch != 0 ? base.layout.has_strides() : slot.layout.is_strided() && base.layout.is_strided();
          if (!base.type.is_plain() || base.is_part() || !strides || slot.at->as_constant().value_or(0) < 0 ||
              base.type.dtype != slot.type.dtype)
            fail(fmt::format("slot {} is no possible part of slot {}", s, slot.of));
          break;
        }
        // Dense values of as many bytes, which is tested when the slots are sized; or the same value.
        const bool dense = base.layout.is_strided() && slot.layout.is_strided();
        const bool same = base.layout == slot.layout && base.type == slot.type;
        if (!plain || !base.type.is_plain() || slot.of == s || !(dense || same) || base.type.dtype != slot.type.dtype)
          fail(fmt::format("slot {} is no possible view of slot {}", s, slot.of));
        break;
      }
      case SlotKind::boxed:
        // Extents of a plain value are checked where a step makes it; a constant one is a `known` slot.
        if (plain && !std::holds_alternative<std::monostate>(slot.contents))
          fail(fmt::format("slot {} is boxed and has the contents of a plain tensor", s));
        if (const auto* tensor = std::get_if<Tensor>(&slot.contents); tensor && !(slot.type == Type::of(*tensor)))
          fail(fmt::format("slot {} has contents that do not fit its type", s));
        break;
      case SlotKind::known: {
        if (!plain || !slot.layout.is_row_major()) fail(fmt::format("slot {} cannot hold known contents", s));
        const auto* tensor = std::get_if<Tensor>(&slot.contents);
        const auto* dims = std::get_if<std::vector<Dim>>(&slot.contents);
        const auto extents = constant_dims(*slot.type.shape);
        if (!extents || (!tensor && !dims)) fail(fmt::format("slot {} has no known contents", s));
        if (tensor ? tensor->dims() != *extents || tensor->dtype() != slot.type.dtype
                   : static_cast<int64_t>(dims->size()) != element_count(*extents))
          fail(fmt::format("slot {} has contents that do not fit its type", s));
        break;
      }
      case SlotKind::parameter:
        if (main) fail(fmt::format("slot {} is a parameter outside a body", s));
        break;
    }
    if (!slot.above.empty() && slot.kind != SlotKind::arena) fail(fmt::format("slot {} cannot lie above others", s));
    for (uint32_t other : slot.above)
      if (other >= plan.slots.size() || plan.slots[other].kind != SlotKind::arena)
        fail(fmt::format("slot {} lies above something outside the arena", s));
  }

  // Everything a slot's size and contents need must be known.
  void need_symbols(const Plan& plan, uint32_t s) const {
    const Slot& slot = plan.slots[s];
    if (!symbols_known(slot.type) || (slot.at && !symbols_known(Type::tensor(DType::i64, Shape{*slot.at}))))
      fail(fmt::format("slot {} needs a symbol that is not known yet", s));
    if (const auto* dims = std::get_if<std::vector<Dim>>(&slot.contents))
      for (const Dim& d : *dims)
        if (!symbols_known(Type::tensor(DType::i64, Shape{d})))
          fail(fmt::format("slot {} needs a symbol that is not known yet", s));
  }

  void plan(const Plan& plan, bool main, int depth) {
    if (depth > 64) fail("bodies nested deeper than 64");
    const size_t count = plan.slots.size();
    for (uint32_t s = 0; s < count; ++s) slot(plan, s, main);
    views_are_trees(plan);
    bindings_are_single(plan);
    bodies_are_trees(plan);
    std::vector<bool> written(count, false);
    verifying::PartsWritten parts(plan, extents_);
    std::vector<uint32_t> first(count, never), last(count, 0), segment(count, 0);
    const auto base_of = [&](uint32_t s) {
      while (plan.slots[s].kind == SlotKind::view) s = plan.slots[s].of;
      return s;
    };
    std::vector<uint32_t> holder(count);  // of memory: the slot that says what lies there now
    for (uint32_t s = 0; s < count; ++s) holder[s] = s;
    const auto overwritten = [&](uint32_t s) {
      const uint32_t valid = holder[base_of(s)];
      while (s != valid && plan.slots[s].kind == SlotKind::view) s = plan.slots[s].of;
      return s != valid;
    };
    uint32_t now = 0, part = 0;
    const auto touch = [&](uint32_t s) {
      for (;; s = plan.slots[s].of) {
        if (first[s] == never) {
          first[s] = now;
          segment[s] = part;
        }
        last[s] = now;
        if (plan.slots[s].kind != SlotKind::view) return;
      }
    };
    std::vector<bool> is_parameter(count, false);
    for (uint32_t s : plan.parameters) {
      if (s >= count || is_parameter[s]) fail("a parameter is listed twice or is no slot");
      if (!main && plan.slots[s].kind != SlotKind::parameter) fail("a parameter of a body is of another kind");
      is_parameter[s] = true;
      written[s] = true;
      touch(s);
    }
    for (uint32_t s = 0; s < count; ++s) {
      const Slot& slot = plan.slots[s];
      if (slot.kind == SlotKind::parameter && !is_parameter[s])
        fail(fmt::format("slot {} is a parameter of nothing", s));
      if (slot.kind == SlotKind::weight || slot.kind == SlotKind::known) written[s] = true;
      if (slot.kind == SlotKind::binding && !target_.bindings[slot.of].is_output && !is_parameter[s])
        fail(fmt::format("slot {} is an input that is no parameter", s));
      if (slot.kind == SlotKind::boxed && std::holds_alternative<Tensor>(slot.contents)) written[s] = true;
    }
    for (const Step& step : plan.steps) {
      for (uint32_t s : step.operands) {
        if (s == no_slot) continue;
        if (s >= count) fail(fmt::format("step {} reads no slot", now));
        if (!written[base_of(s)] && !parts.is_there(s))
          fail(fmt::format("step {} reads slot {} before it is written", now, s));
        if (overwritten(s)) fail(fmt::format("step {} reads slot {} after it was overwritten", now, s));
        if (plan.slots[s].kind != SlotKind::boxed) need_symbols(plan, s);
        touch(s);
      }
      for (uint32_t s : step.results) {
        if (s >= count) fail(fmt::format("step {} writes no slot", now));
        const Slot& slot = plan.slots[s];
        if (slot.kind == SlotKind::view && !slot.is_part()) {
          need_symbols(plan, s);
          touch(s);
          continue;  // made over an operand, see below
        }
        const uint32_t base = slot.is_part() ? slot.of : s;
        const SlotKind kind = plan.slots[base].kind;
        const bool writable = kind == SlotKind::arena || (kind == SlotKind::boxed && base == s) ||
                              (kind == SlotKind::binding && target_.bindings[plan.slots[base].of].is_output);
        if (!writable) fail(fmt::format("step {} writes slot {}, which cannot be written", now, s));
        if (written[base] || (base == s && parts.any_of(s)))
          fail(fmt::format("step {} writes slot {} a second time", now, s));
        if (base == s) {
          written[s] = true;
        } else {
          need_symbols(plan, base);
          written[base] = parts.write(s, now);
        }
        if (slot.kind != SlotKind::boxed) need_symbols(plan, s);
        touch(s);
      }
      for (SymbolId id : step.defines)
        if (id >= known_.size()) fail(fmt::format("step {} defines no symbol", now));
      if (step.kind == Step::Kind::kernel)
        kernel_step(plan, step, now);
      else
        control_step(plan, step, now, depth);
      for (uint32_t s : step.results)
        if (plan.slots[s].kind == SlotKind::view && !plan.slots[s].is_part()) {
          made_over_operand(plan, step, base_of, now);
          holder[base_of(s)] = s;
        }
      for (SymbolId id : step.defines) {
        claim(id);
        known_[id] = true;
      }
      if (!step.defines.empty()) ++part;
      ++now;
    }
    for (uint32_t s : plan.results) {
      if (s >= count || (!written[base_of(s)] && !parts.is_there(s)) || overwritten(s)) fail("a result is not written");
      if (!plan.slots[s].layout.is_row_major()) fail("a result is not row-major");
      if (plan.slots[s].kind != SlotKind::boxed) need_symbols(plan, s);
      touch(s);
    }
    for (uint32_t s = 0; s < count; ++s)
      if (parts.any_runs_of(s) && !written[s])
        fail(fmt::format("slot {} is written in parts that do not make it up", s));
    lifetimes(plan, first, last, segment);
  }

  // The one result of a step is a view of an operand: nothing else of the step lies there, and its kernels may.
  template <typename F>
  void made_over_operand(const Plan& plan, const Step& step, F base_of, uint32_t now) const {
    const uint32_t s = step.results[0], over = plan.slots[s].of, base = base_of(s);
    size_t operand = step.operands.size();
    bool sound = step.kind == Step::Kind::kernel && step.results.size() == 1 &&
                 plan.slots[base].kind == SlotKind::arena && plan.slots[over].type == plan.slots[s].type &&
                 plan.slots[over].layout == plan.slots[s].layout;
    for (size_t k = 0; k < step.operands.size(); ++k) {
      if (step.operands[k] == no_slot || base_of(step.operands[k]) != base) continue;
      sound = sound && operand == step.operands.size() && step.operands[k] == over;
      operand = k;
    }
    if (sound)
      for (const Choice& choice : step.choices)
        sound = sound && may_overwrite(*kernels_[choice.kernel], target_.problems[choice.problem], operand);
    if (!sound) fail(fmt::format("step {} may not make its result over slot {}", now, over));
  }

  static void views_are_trees(const Plan& plan) {
    for (uint32_t s = 0; s < plan.slots.size(); ++s) {
      uint32_t at = s;
      for (size_t n = 0; plan.slots[at].kind == SlotKind::view; ++n) {
        if (n > plan.slots.size()) fail("views form a circle");
        at = plan.slots[at].of;
      }
    }
  }

  // Two slots of one buffer could be written at different times by different steps.
  void bindings_are_single(const Plan& plan) const {
    std::vector<bool> named(target_.bindings.size(), false);
    for (const Slot& slot : plan.slots) {
      if (slot.kind != SlotKind::binding) continue;
      if (named[slot.of]) fail(fmt::format("two slots are binding {}", slot.of));
      named[slot.of] = true;
    }
  }

  // Every body belongs to one step: one that no step names would not be verified, one of several would be verified (and
  // its symbols bound) again and again.
  static void bodies_are_trees(const Plan& plan) {
    std::vector<bool> named(plan.bodies.size(), false);
    for (const Step& step : plan.steps)
      for (uint32_t body : step.bodies) {
        if (body >= named.size() || step.kind != Step::Kind::control) fail("a step names no body");
        if (named[body]) fail(fmt::format("body {} belongs to two steps", body));
        named[body] = true;
      }
    if (std::find(named.begin(), named.end(), false) != named.end()) fail("a body belongs to no step");
  }

  // Two arena slots of one segment that live at the same time: one lies above the other, directly or through others.
  static void lifetimes(const Plan& plan, const std::vector<uint32_t>& first, const std::vector<uint32_t>& last,
                        const std::vector<uint32_t>& segment) {
    std::vector<uint32_t> arena;
    for (uint32_t s = 0; s < plan.slots.size(); ++s)
      if (plan.slots[s].kind == SlotKind::arena && first[s] != never) arena.push_back(s);
    for (uint32_t s : arena)
      for (uint32_t other : plan.slots[s].above)
        if (first[other] == never || segment[other] != segment[s])
          fail(fmt::format("slot {} lies above a slot of another segment", s));
    std::sort(arena.begin(), arena.end(), [&](uint32_t a, uint32_t b) { return first[a] < first[b]; });
    for (size_t i = 0; i < arena.size(); ++i)
      for (size_t j = i + 1; j < arena.size(); ++j) {
        const uint32_t a = arena[i], b = arena[j];
        if (first[b] > last[a]) break;
        if (segment[a] != segment[b]) continue;
        const auto above = [&](uint32_t x, uint32_t y) {
          return std::binary_search(plan.slots[x].above.begin(), plan.slots[x].above.end(), y);
        };
        if (!above(a, b) && !above(b, a)) fail(fmt::format("slots {} and {} may overlap", a, b));
      }
  }

  void kernel_step(const Plan& plan, const Step& step, uint32_t now) {
    if (step.choices.empty()) fail(fmt::format("step {} has no kernel", now));
    for (const Choice& choice : step.choices) {
      if (choice.kernel >= kernels_.size() || choice.problem >= target_.problems.size())
        fail(fmt::format("step {} names no kernel or problem", now));
      const Problem& problem = target_.problems[choice.problem];
      const Kernel& kernel = *kernels_[choice.kernel];
      if (step.operands.size() != problem.operands.size() || step.results.size() != problem.results.size() ||
          choice.symbols.size() != problem.symbols.size())
        fail(fmt::format("step {} does not fit its problem", now));
      if (choice.config.fields() != (kernel.config ? kernel.config() : nullptr))
        fail(fmt::format("step {} has not the tuning parameters of its kernel", now));
      for (SymbolId id : choice.symbols)
        if (id >= target_.symbols.size()) fail(fmt::format("step {} names no symbol", now));
      for (const Guard& guard : choice.when)
        if (!symbols_known(Type::tensor(DType::i64, Shape{guard.value})))
          fail(fmt::format("a guard of step {} needs an unknown symbol", now));
      for (SymbolId k = 0; k < choice.symbols.size(); ++k) {
        const bool defined = std::find(problem.defined.begin(), problem.defined.end(), k) != problem.defined.end();
        const bool here = std::find(step.defines.begin(), step.defines.end(), choice.symbols[k]) != step.defines.end();
        if (defined != here) fail(fmt::format("step {} does not define what its problem finds out", now));
        if (!defined && !known_[choice.symbols[k]]) fail(fmt::format("step {} needs an unknown symbol", now));
      }
      for (size_t i = 0; i < step.operands.size(); ++i) {
        const Operand& operand = problem.operands[i];
        const bool has_contents = !std::holds_alternative<std::monostate>(operand.contents);
        if (step.operands[i] == no_slot) {
          if (!has_contents) fail(fmt::format("operand {} of step {} is missing", i, now));
          continue;
        }
        const Slot& slot = plan.slots[step.operands[i]];
        if (has_contents || !(slot.type == rename(operand.type, choice.symbols)) || !(slot.layout == operand.layout))
          fail(fmt::format("operand {} of step {} is not what its problem says", i, now));
        if (operand.constant && slot.kind != SlotKind::weight)
          fail(fmt::format("operand {} of step {} must be a weight", i, now));
        if (!kernel.takes_boxes && !slot.type.is_plain()) fail(fmt::format("operand {} of step {} is boxed", i, now));
      }
      // Symbols that its stages find out have no value when such a kernel is bound.
      if (!kernel.takes_boxes && !problem.defined.empty())
        fail(fmt::format("step {} has a kernel that finds out no extents", now));
      for (size_t r = 0; r < step.results.size(); ++r) {
        const Slot& slot = plan.slots[step.results[r]];
        const Problem::Result& result = problem.results[r];
        if (!(slot.type == rename(problem.types[result.value], choice.symbols)) || !(slot.layout == result.layout))
          fail(fmt::format("result {} of step {} is not what its problem says", r, now));
        if (!kernel.takes_boxes && (slot.kind == SlotKind::boxed || !slot.type.is_plain()))
          fail(fmt::format("result {} of step {} is boxed", r, now));
        if (slot.kind != SlotKind::boxed && !symbols_known(slot.type))
          fail(fmt::format("result {} of step {} has no known size", r, now));
        for (size_t q = 0; q < r; ++q)
          if (step.results[q] == step.results[r]) fail(fmt::format("step {} writes a slot twice", now));
      }
      for (const Operand& operand : problem.operands)
        if (!operand.host && operand.type.is_plain() && operand.layout.kind == Layout::Kind::any)
          fail(fmt::format("step {} leaves a layout open", now));
      const Answer answer = kernel.supports(kernel, problem, device_);
      if (!answer) fail(fmt::format("step {}: {} refuses it: {}", now, kernel.name, answer.reason()));
      const Needs needs = kernel.needs(kernel, problem, choice.config, device_);
      if (needs.operands.size() != problem.operands.size() || needs.results.size() != problem.results.size())
        fail(fmt::format("step {} has layouts that its kernel does not take", now));
      for (size_t i = 0; i < needs.operands.size(); ++i)
        if (step.operands[i] != no_slot && !(needs.operands[i] == problem.operands[i].layout))
          fail(fmt::format("operand {} of step {} has a layout that its kernel does not take", i, now));
      for (size_t r = 0; r < needs.results.size(); ++r)
        if (!(needs.results[r] == problem.results[r].layout))
          fail(fmt::format("result {} of step {} has a layout that its kernel does not take", r, now));
    }
  }

  void control_step(const Plan& plan, const Step& step, uint32_t now, int depth) {
    const std::string_view name = step.op->name;
    if (name != "If" && name != "Loop") fail(fmt::format("step {} is no control flow", now));
    if (step.operands.empty() || step.bodies.size() != (name == "If" ? 2u : 1u))
      fail(fmt::format("step {} has the wrong number of bodies or operands", now));
    for (uint32_t s : step.results)
      if (plan.slots[s].kind != SlotKind::boxed) fail(fmt::format("a result of step {} is not boxed", now));
    for (uint32_t s : step.operands)
      if (s != no_slot && !plan.slots[s].layout.is_row_major())
        fail(fmt::format("an operand of step {} is not row-major", now));
    verifying::check_control_form(plan, step, now);
    for (uint32_t body : step.bodies) {
      if (body >= plan.bodies.size()) fail(fmt::format("step {} names no body", now));
      const std::vector<bool> outside = known_;
      for (uint32_t s : plan.bodies[body].parameters) {
        if (s >= plan.bodies[body].slots.size()) fail("a parameter is no slot");
        const Type& type = plan.bodies[body].slots[s].type;
        if (!type.has_shape()) continue;
        for (const Dim& d : *type.shape)
          // What a body around this one has bound is checked when it is passed, not bound again.
          if (const auto id = d.as_symbol();
              id && target_.symbols[*id].bound == Symbol::Bound::body_parameter && !known_[*id]) {
            claim(*id);
            known_[*id] = true;
          }
      }
      this->plan(plan.bodies[body], false, depth + 1);
      known_ = outside;
    }
  }

  // A symbol has one place that binds it: two places could leave sizes of one with extents of the other.
  void claim(SymbolId id) {
    if (claimed_[id]) fail(fmt::format("symbol {} is bound in two places", id));
    claimed_[id] = true;
  }

  const Target& target_;
  const DeviceSpec& device_;
  std::vector<const Kernel*> kernels_;
  std::vector<bool> known_, claimed_;
  SymbolTable
      extents_;  // those of the target, known to be no less than 0: what the engine says of them is not believed
};

}  // namespace

void verify_target(const Target& target, const DeviceSpec& device) { Verifier(target, device).run(); }

}  // namespace sinter
