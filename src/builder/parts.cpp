#include "builder/parts.h"

#include <fmt/core.h>

#include <algorithm>
#include <map>
#include <numeric>
#include <optional>
#include <span>

#include "backend/problem.h"
#include "ops/movement.h"
#include "tensor/symbols.h"

namespace sinter {
namespace {

// Where the elements of a value lie: among those of another one, from element `at` on.
struct Place {
  uint32_t base;
  Dim at;
  int32_t pitch;  // from row to row; 0: one after the other
};

class PartPlacer {
 public:
  PartPlacer(Target& target, const DeviceSpec& device, std::span<const int64_t> likely)
      : target_(target), device_(device), likely_(likely) {
    for (const std::string& name : target.kernels) kernels_.push_back(find_kernel(name));
    for (uint32_t n = 0; n < target.problems.size(); ++n) number_of_.emplace(to_text(target.problems[n]), n);
  }

  void run(Plan& plan) {
    for (Plan& body : plan.bodies) run(body);
    look_at(plan);
    // Later ones first: what is a part of a part is then a part of the whole.
    for (uint32_t i = static_cast<uint32_t>(plan.steps.size()); i-- > 0;) tried([&] { return concat(plan, i); });
    settle(plan);
    look_at(plan);
    look_at_lives(plan);
    for (uint32_t i = 0; i < plan.steps.size(); ++i)
      if (tried([&] { return take_apart(plan, i); })) gone_[i] = true;
    settle(plan);
  }

  // Problems that no step has any more.
  void drop_unused() {
    std::vector<uint32_t> number(target_.problems.size(), no_slot);
    std::vector<Problem> kept;
    each_choice(target_.main, [&](Choice& choice) {
      uint32_t& n = number[choice.problem];
      if (n == no_slot) {
        n = static_cast<uint32_t>(kept.size());
        kept.push_back(std::move(target_.problems[choice.problem]));
      }
      choice.problem = n;
    });
    target_.problems = std::move(kept);
  }

 private:
  struct Use {
    uint32_t step, argument;
  };
  // What touches a slot.
  struct Uses {
    std::vector<Use> read, written;
    bool viewed = false;   // by another slot or by a body
    bool outside = false;  // a result or a parameter of the plan
  };
  // The layout of an operand, or of a result beyond those, becomes another.
  struct Change {
    uint32_t step, argument;
    Layout layout;
  };

  // False where sums of extents have too many terms; nothing has been changed by then.
  template <typename F>
  static bool tried(F go) {
    try {
      return go();
    } catch (const Error& error) {
      if (error.code() != Code::limit) throw;
      return false;
    }
  }

  template <typename F>
  static void each_choice(Plan& plan, F go) {
    for (Step& step : plan.steps)
      for (Choice& choice : step.choices) go(choice);
    for (Plan& body : plan.bodies) each_choice(body, go);
  }

  // Looks at all of the plan once. From then on steps keep their numbers: those that are not needed any more are
  // marked, copies come last and know where they belong.
  void look_at(const Plan& plan) {
    uses_.assign(plan.slots.size(), {});
    position_.clear();
    ends_.assign(1, 0);
    gone_.assign(plan.steps.size(), false);
    for (uint32_t i = 0; i < plan.steps.size(); ++i) {
      position_.push_back(i);
      ends_.push_back(ends_.back() + (plan.steps[i].defines.empty() ? 0 : 1));
      note_uses(plan.steps[i], i);
    }
    for (const Slot& slot : plan.slots)
      if (slot.kind == SlotKind::view) uses_[slot.of].viewed = true;
    for (uint32_t s : plan.results) uses_[s].outside = true;
    for (uint32_t s : plan.parameters) uses_[s].outside = true;
  }

  void note_uses(const Step& step, uint32_t i) {
    const bool plain = step.kind == Step::Kind::kernel;
    const auto operands = static_cast<uint32_t>(step.operands.size());
    for (uint32_t k = 0; k < operands; ++k)
      if (const uint32_t s = step.operands[k]; s != no_slot) {
        uses_[s].read.push_back({i, k});
        uses_[s].viewed |= !plain;
      }
    for (uint32_t r = 0; r < step.results.size(); ++r) {
      uses_[step.results[r]].written.push_back({i, operands + r});
      uses_[step.results[r]].viewed |= !plain;
    }
  }

  // Steps in the order in which they run.
  void settle(Plan& plan) const {
    std::vector<uint32_t> order;
    for (uint32_t i = 0; i < plan.steps.size(); ++i)
      if (!gone_[i]) order.push_back(i);
    std::stable_sort(order.begin(), order.end(), [&](uint32_t a, uint32_t b) { return position_[a] < position_[b]; });
    std::vector<Step> steps;
    steps.reserve(order.size());
    for (uint32_t i : order) steps.push_back(std::move(plan.steps[i]));
    plan.steps = std::move(steps);
  }

  static uint32_t base_of(const Plan& plan, uint32_t s) {
    while (plan.slots[s].kind == SlotKind::view) s = plan.slots[s].of;
    return s;
  }

  void look_at_lives(const Plan& plan) {
    lives_.assign(plan.slots.size(), {});
    for (uint32_t i = 0; i < plan.steps.size(); ++i) {
      const Step& step = plan.steps[i];
      for (uint32_t s : step.operands)
        if (s != no_slot) lives_[base_of(plan, s)].last = i;
      for (uint32_t s : step.results)
        if (plan.slots[s].is_part()) lives_[plan.slots[s].of].in_parts = true;
      if (step.kind == Step::Kind::kernel && step.choices.size() == 1 && taken_apart(step))
        for (uint32_t s : step.results) lives_[base_of(plan, step.operands[0])].taken += likely_bytes(plan.slots[s]);
    }
    for (uint32_t s : plan.results) lives_[base_of(plan, s)].last = no_slot;
  }

  // Whether it is a Slice or Split of one of its operands.
  bool taken_apart(const Step& step) const {
    const Problem& problem = target_.problems[step.choices[0].problem];
    return (is_sole(problem, "Split") || is_sole(problem, "Slice")) && problem.stages[0].inputs[0] == 0 &&
           step.operands[0] != no_slot;
  }

  int64_t likely_bytes(const Slot& slot) const {
    if (!slot.type.is_plain()) return 0;
    try {
      return layout_bytes(slot.layout, slot.type.dtype, evaluate(*slot.type.shape, likely_));
    } catch (const Error&) {
      return 0;  // these extents do not fit together
    }
  }

  // Parts keep all of their base. Where nothing else would keep it so long, and all that is taken of it is a sixteenth
  // of what could be free, copying that costs less than a sixteenth of what making the base cost. For less than a
  // megabyte a step is not worth it.
  bool keeps_too_much(const Plan& plan, const Step& step) const {
    constexpr int64_t much = 1 << 20, times = 16;
    const uint32_t base = base_of(plan, step.operands[0]);
    if (plan.slots[base].kind != SlotKind::arena) return false;
    const bool longer = std::any_of(step.results.begin(), step.results.end(),
                                    [&](uint32_t s) { return lives_[s].last > lives_[base].last; });
    const int64_t kept = likely_bytes(plan.slots[base]) - lives_[base].taken;
    return longer && kept >= much && kept / times >= lives_[base].taken;
  }

  // Segments of a plan end where a step finds out extents: what is placed in one is placed with what is known there.
  bool same_segment(uint32_t first, uint32_t last) const { return ends_[position_[first]] == ends_[position_[last]]; }

  // Makes the changes if every kernel that is concerned takes all of its own.
  bool change(Plan& plan, const std::vector<Change>& changes) {
    struct Made {
      Choice* choice;
      Problem problem;
    };
    std::vector<Made> made;
    std::map<uint32_t, std::vector<const Change*>> by_step;
    for (const Change& c : changes) by_step[c.step].push_back(&c);
    for (const auto& [i, list] : by_step)
      for (Choice& choice : plan.steps[i].choices) {
        Problem problem = target_.problems[choice.problem];
        const size_t operands = problem.operands.size();
        for (const Change* c : list)
          (c->argument < operands ? problem.operands[c->argument].layout
                                  : problem.results[c->argument - operands].layout) = c->layout;
        if (!takes(*kernels_[choice.kernel], choice, problem)) return false;
        made.push_back({&choice, std::move(problem)});
      }
    for (Made& m : made) m.choice->problem = number_of(std::move(m.problem));
    return true;
  }

  bool takes(const Kernel& kernel, const Choice& choice, const Problem& problem) const {
    if (!kernel.supports(kernel, problem, device_)) return false;
    const Needs needs = kernel.needs(kernel, problem, choice.config, device_);
    for (size_t i = 0; i < problem.operands.size(); ++i)
      if (!problem.operands[i].host && !(needs.operands[i] == problem.operands[i].layout)) return false;
    for (size_t r = 0; r < problem.results.size(); ++r)
      if (!(needs.results[r] == problem.results[r].layout)) return false;
    return true;
  }

  uint32_t number_of(Problem problem) {
    const auto [at, fresh] = number_of_.try_emplace(to_text(problem), static_cast<uint32_t>(target_.problems.size()));
    if (fresh) target_.problems.push_back(std::move(problem));
    return at->second;
  }

  static bool is_sole(const Problem& problem, std::string_view op) {
    return problem.stages.size() == 1 && problem.stages[0].op->name == op && !problem.stages[0].inputs.empty();
  }

  // Extent of the innermost axis where the slot may be, or have, parts.
  static std::optional<int32_t> columns(const Slot& slot) {
    if (!slot.type.is_plain() || bit_size(slot.type.dtype) < 8 || !slot.layout.has_strides()) return std::nullopt;
    const Shape& shape = *slot.type.shape;
    if (shape.empty()) return std::nullopt;
    const auto extent = shape[slot.layout.innermost(shape.size())].as_constant();
    if (!extent || *extent < 1 || *extent > INT32_MAX) return std::nullopt;
    return static_cast<int32_t>(*extent);
  }

  // All but the innermost extents are equal, and the order of the axes is.
  static bool differ_in_columns(const Slot& a, const Slot& b) {
    const Shape &x = *a.type.shape, &y = *b.type.shape;
    if (x.size() != y.size() || a.layout.order != b.layout.order) return false;
    const size_t inner = a.layout.innermost(x.size());
    for (size_t k = 0; k < x.size(); ++k)
      if (k != inner && !(x[k] == y[k])) return false;
    return true;
  }

  static size_t axis_of(int64_t axis, const Slot& x) {
    return static_cast<size_t>(axis < 0 ? axis + static_cast<int64_t>(x.type.shape->size()) : axis);
  }

  // The axes of a slot whose elements lie one after the other, outermost first; none for other slots.
  static std::optional<std::vector<size_t>> dense_order(const Slot& slot) {
    if (!slot.type.is_plain() || bit_size(slot.type.dtype) < 8 || !slot.layout.is_strided()) return std::nullopt;
    std::vector<size_t> order(slot.type.shape->size());
    std::iota(order.begin(), order.end(), size_t{0});
    if (!slot.layout.order.empty()) order.assign(slot.layout.order.begin(), slot.layout.order.end());
    return order;
  }

  // Whether pieces of the slot along this axis lie one after the other: nothing is counted outside of the axis.
  static bool leads(size_t axis, const Slot& slot) {
    const auto order = dense_order(slot);
    if (!order) return false;
    for (size_t k : *order) {
      if (k == axis) return true;
      if (!((*slot.type.shape)[k] == Dim(1))) return false;
    }
    return false;
  }

  // The slot whose bytes a dense view, or a part without a pitch, shows, and where it begins there.
  static std::optional<Place> root_of(const Plan& plan, uint32_t s) {
    Dim at = 0;
    for (; plan.slots[s].kind == SlotKind::view; s = plan.slots[s].of) {
      if (!plan.slots[s].layout.is_strided()) return std::nullopt;
      if (plan.slots[s].at) at = at + *plan.slots[s].at;
    }
    if (!plan.slots[s].layout.is_strided()) return std::nullopt;
    return Place{s, std::move(at), 0};
  }

  static bool is_in_part(const Plan& plan, uint32_t s) {
    while (plan.slots[s].kind == SlotKind::view && !plan.slots[s].is_part()) s = plan.slots[s].of;
    return plan.slots[s].is_part();
  }

  // The slot that a view of as many elements shows, whatever the extents are.
  static uint32_t seen_by(const Plan& plan, uint32_t s) {
    const auto same_count = [&](uint32_t a, uint32_t b) {
      return element_count(*plan.slots[a].type.shape) == element_count(*plan.slots[b].type.shape);
    };
    while (plan.slots[s].kind == SlotKind::view && !plan.slots[s].is_part() && same_count(s, plan.slots[s].of))
      s = plan.slots[s].of;
    return s;
  }

  void lie(Slot& slot, const Place& place) {
    uses_[place.base].viewed = true;
    slot.kind = SlotKind::view;
    slot.of = place.base;
    slot.at = place.at;
    slot.layout.pitch = place.pitch;
  }

  // Whether slot s, an operand of the Concat at step `at`, lies there from now on.
  bool place_operand(Plan& plan, uint32_t s, uint32_t at, const Place& place) {
    // Views of what lies without gaps stay views of it.
    if (place.pitch == 0) s = seen_by(plan, s);
    const Uses& uses = uses_[s];
    Slot& slot = plan.slots[s];
    if (slot.kind != SlotKind::arena || slot.layout.pitch || uses.outside || uses.written.size() != 1) return false;
    if (position_[uses.written[0].step] >= position_[at] || !same_segment(uses.written[0].step, at)) return false;
    if (place.pitch == 0) {
      if (!slot.layout.is_strided()) return false;
      lie(slot, place);
      return true;
    }
    if (uses.viewed) return false;
    const Layout layout = slot.layout.with_pitch(place.pitch);
    std::vector<Change> changes = {{uses.written[0].step, uses.written[0].argument, layout}};
    for (const Use& use : uses.read)
      if (use.step != at && !gone_[use.step]) changes.push_back({use.step, use.argument, layout});
    if (!change(plan, changes)) return false;
    lie(slot, place);
    return true;
  }

  // Whether operands of the Concat are made where its result wants them from now on.
  bool concat(Plan& plan, uint32_t at) {
    if (plan.steps[at].kind != Step::Kind::kernel || plan.steps[at].choices.size() != 1) return false;
    const Problem problem = target_.problems[plan.steps[at].choices[0].problem];
    if (!is_sole(problem, "Concat") || problem.results.size() != 1) return false;
    const uint32_t whole = plan.steps[at].results[0];
    const Slot result = plan.slots[whole];
    const bool writable = result.kind == SlotKind::arena || result.is_part() ||
                          (result.kind == SlotKind::binding && target_.bindings[result.of].is_output);
    if (!writable || !result.type.is_plain() || result.type.shape->empty()) return false;
    const size_t axis = axis_of(problem.stages[0].attrs.as<ConcatAttrs>().axis, result);
    Place place{result.is_part() ? result.of : whole, result.at.value_or(0), 0};
    const bool in_runs = leads(axis, result) && problem.facts.empty();
    if (!in_runs) {
      const auto all = columns(result);
      // A base is written in parts of one kind.
      if (!all || axis != result.layout.innermost(result.type.shape->size())) return false;
      if (result.is_part() && result.layout.pitch == 0) return false;
      place.pitch = result.layout.pitch ? result.layout.pitch : *all;
    }
    struct Part {
      uint32_t slot;
      Place place;
      Step copy;
    };
    std::vector<Part> parts;
    for (uint16_t v : problem.stages[0].inputs) {
      const uint32_t s = v < plan.steps[at].operands.size() ? plan.steps[at].operands[v] : no_slot;
      if (s == no_slot || plan.slots[s].kind == SlotKind::boxed) return false;
      const auto own = in_runs ? elements_along(axis, plan.slots[s], result) : columns_as(plan.slots[s], result);
      if (!own) return false;
      const Operand& operand = problem.operands[v];
      auto copy =
          copy_of(plan.steps[at], problem, operand.type, operand.layout, result.layout.dense().with_pitch(place.pitch));
      if (!copy) return false;
      copy->operands = {s};
      parts.push_back({in_runs ? seen_by(plan, s) : s, place, std::move(*copy)});
      place.at = place.at + *own;
    }
    const Dim end = in_runs ? element_count(*result.type.shape) : (*result.type.shape)[axis];
    if (!(place.at == result.at.value_or(0) + end)) return false;
    std::map<uint32_t, int> times;
    for (const Part& part : parts) ++times[part.slot];
    std::vector<Step> copies;
    const size_t slots = plan.slots.size();
    for (Part& part : parts) {
      const bool once = times[part.slot] == 1;
      const uint32_t s = part.copy.operands[0];
      if ((once || in_runs) && plan.slots[s].layout.order == result.layout.order &&
          place_operand(plan, part.slot, at, part.place))
        continue;
      Slot there{plan.slots[s].type, result.layout, SlotKind::view, 0, {}, {}};
      lie(there, part.place);
      part.copy.results = {static_cast<uint32_t>(plan.slots.size())};
      plan.slots.push_back(std::move(there));
      copies.push_back(std::move(part.copy));
    }
    if (copies.size() == parts.size()) {
      plan.slots.resize(slots);
      return false;
    }
    gone_[at] = true;
    uses_.resize(plan.slots.size());
    for (Step& copy : copies) {
      note_uses(copy, static_cast<uint32_t>(plan.steps.size()));
      plan.steps.push_back(std::move(copy));
      position_.push_back(position_[at]);
      gone_.push_back(false);
    }
    return true;
  }

  // Extent of the innermost axis of the whole, of one of its parts.
  static std::optional<Dim> columns_as(Slot part, const Slot& whole) {
    part.layout = whole.layout;
    const auto own = columns(part);
    if (!own || part.type.shape->size() != whole.type.shape->size()) return std::nullopt;
    return Dim(*own);
  }

  // Elements of a slot that differs from the whole along this axis alone and is not known to be empty.
  static std::optional<Dim> elements_along(size_t axis, const Slot& part, const Slot& whole) {
    if (!part.type.is_plain() || part.type.shape->size() != whole.type.shape->size()) return std::nullopt;
    for (size_t k = 0; k < whole.type.shape->size(); ++k)
      if (k != axis && !((*part.type.shape)[k] == (*whole.type.shape)[k])) return std::nullopt;
    const Dim count = element_count(*part.type.shape);
    return count == Dim(0) ? std::nullopt : std::optional(count);
  }

  // A step that copies a value of this type of the problem with the kernel of the step; none where that does not take
  // it.
  std::optional<Step> copy_of(const Step& moving, const Problem& problem, const Type& type, const Layout& from,
                              const Layout& to) {
    Problem copied;
    const Choice& choice = moving.choices[0];
    std::vector<SymbolId> number(problem.symbols.size(), UINT32_MAX), symbols;
    for (const Dim& d : *type.shape) {
      std::vector<SymbolId> ids;
      d.collect_symbols(ids);
      for (SymbolId id : ids) {
        if (number[id] != UINT32_MAX) continue;
        number[id] = copied.symbols.add({.name = fmt::format("s{}", symbols.size()), .bound = Symbol::Bound::input});
        symbols.push_back(choice.symbols[id]);
      }
    }
    copied.operands = {{.type = rename(type, number), .layout = from, .contents = {}}};
    copied.stages.push_back({&op_named("Identity"), {}, {0}, 1});
    copied.results.push_back({1, to});
    complete(copied);
    if (!takes(*kernels_[choice.kernel], choice, copied)) return std::nullopt;
    Step step;
    step.choices = {choice};
    step.choices[0].problem = number_of(std::move(copied));
    step.choices[0].symbols = std::move(symbols);
    step.sources = moving.sources;
    return step;
  }

  // Elements of a known host operand as extents of the plan; none where it is absent.
  static std::optional<std::vector<Dim>> numbers(const Problem& problem, const Choice& choice, size_t input) {
    const Stage& stage = problem.stages[0];
    std::vector<Dim> out;
    if (input >= stage.inputs.size() || stage.inputs[input] == absent_operand) return out;
    if (stage.inputs[input] >= problem.operands.size()) return std::nullopt;
    const Contents& contents = problem.operands[stage.inputs[input]].contents;
    if (const auto* tensor = std::get_if<Tensor>(&contents)) {
      const std::vector<int64_t> known = tensor->to_integers();
      out.assign(known.begin(), known.end());
    } else if (const auto* dims = std::get_if<std::vector<Dim>>(&contents)) {
      for (const Dim& d : *dims) out.push_back(d.rename(choice.symbols));
    } else {
      return std::nullopt;
    }
    return out;
  }

  bool at_least(const Dim& a, const Dim& b) const {
    return prove(target_.symbols, {Fact::Kind::at_least, a, b, {}}) == Proof::yes;
  }

  // Where each axis of a Slice's result begins in the operand, if the result has elements.
  std::optional<std::vector<Dim>> begins_of_slice(const Problem& problem, const Choice& choice, const Slot& x,
                                                  const Slot& y) const {
    const auto starts = numbers(problem, choice, 1), axes = numbers(problem, choice, 3),
               steps = numbers(problem, choice, 4);
    if (!starts || !axes || !steps) return std::nullopt;
    if (std::any_of(steps->begin(), steps->end(), [](const Dim& d) { return !(d == Dim(1)); })) return std::nullopt;
    std::vector<Dim> begins(x.type.shape->size(), 0);
    for (size_t i = 0; i < starts->size(); ++i) {
      const auto axis = axes->empty() ? static_cast<int64_t>(i) : (*axes)[i].as_constant();
      if (!axis) return std::nullopt;
      const size_t k = axis_of(*axis, x);
      const Dim &start = (*starts)[i], &extent = (*x.type.shape)[k];
      const auto number = start.as_constant();
      if (number && extent.is_constant())
        begins[k] = slice_begin(*number, extent.constant(), 1);
      else if ((*y.type.shape)[k] == extent)
        begins[k] = 0;
      else if (number && (*number < INT32_MIN || *number > INT32_MAX))
        return std::nullopt;
      else if (at_least(start, 0))
        begins[k] = start;
      else if (number && at_least(extent + start, 0))
        begins[k] = extent + start;
      else
        return std::nullopt;
    }
    return begins;
  }

  static std::optional<std::vector<Dim>> begins_of_split(const Problem& problem, const Choice& choice, size_t result,
                                                         const Slot& x) {
    const auto sizes = numbers(problem, choice, 1);
    const size_t output = problem.results[result].value - problem.first_result[0];
    if (!sizes || sizes->size() <= output) return std::nullopt;
    std::vector<Dim> begins(x.type.shape->size(), 0);
    Dim& begin = begins[axis_of(problem.stages[0].attrs.as<SplitAttrs>().axis, x)];
    for (size_t k = 0; k < output; ++k) begin = begin + (*sizes)[k];
    return begins;
  }

  // Where the result of a Slice or Split lies as some columns of each row of its operand x.
  static std::optional<Place> columns_at(const Plan& plan, uint32_t x, const Slot& to, const std::vector<Dim>& begins) {
    const Slot& from = plan.slots[x];
    const auto all = columns(from), own = columns(to);
    if (!all || !own || !differ_in_columns(from, to)) return std::nullopt;
    const auto first = begins[from.layout.innermost(begins.size())].as_constant();
    if (!first || *first < 0 || *own > *all - *first) return std::nullopt;
    Place whole{x, 0, 0};
    if (from.layout.pitch)
      whole = {from.of, *from.at, 0};
    else if (is_in_part(plan, x)) {
      if (!plan.slots[seen_by(plan, x)].is_part()) return std::nullopt;
      whole = *root_of(plan, x);
    }
    return Place{whole.base, whole.at + *first, from.layout.pitch ? from.layout.pitch : *all};
  }

  // Where it lies without gaps: its axes have one element up to one of them, and all of the operand's after that.
  std::optional<Place> run_at(const Plan& plan, uint32_t x, const Slot& to, const std::vector<Dim>& begins) const {
    const Slot& from = plan.slots[x];
    const auto order = dense_order(from);
    if (!order || !dense_order(to) || to.layout.order != from.layout.order) return std::nullopt;
    const Shape &all = *from.type.shape, &own = *to.type.shape;
    auto root = root_of(plan, x);
    if (!root || own.size() != all.size()) return std::nullopt;
    const SlotKind kind = plan.slots[root->base].kind;
    if (kind == SlotKind::boxed || kind == SlotKind::known) return std::nullopt;
    size_t axis = 0;
    while (axis < order->size() && own[(*order)[axis]] == Dim(1)) ++axis;
    Dim stride = 1, at = 0;
    for (size_t k = order->size(); k-- > 0;) {
      const size_t a = (*order)[k];
      if (k > axis && !(own[a] == all[a] && begins[a] == Dim(0))) return std::nullopt;
      at = at + begins[a] * stride;
      stride = stride * all[a];
    }
    // Of a part that steps write, they may be read before the rest is there: they must be known to lie within it.
    if (is_in_part(plan, x) && lives_[root->base].in_parts &&
        !(at.is_constant() && to.type.is_static() && from.type.is_static()))
      return std::nullopt;
    root->at = root->at + at;
    return root;
  }

  // Whether the results of the Slice or Split are parts of its operand from now on.
  bool take_apart(Plan& plan, uint32_t at) {
    if (plan.steps[at].kind != Step::Kind::kernel || plan.steps[at].choices.size() != 1) return false;
    if (!taken_apart(plan.steps[at]) || keeps_too_much(plan, plan.steps[at])) return false;
    const Choice choice = plan.steps[at].choices[0];
    const Problem& problem = target_.problems[choice.problem];
    const bool split = is_sole(problem, "Split");
    const uint32_t x = plan.steps[at].operands[0];
    if (plan.slots[x].kind == SlotKind::boxed || plan.slots[x].kind == SlotKind::known) return false;
    const Slot& from = plan.slots[x];
    if (!from.type.is_plain()) return false;
    std::vector<Change> changes;
    std::vector<Place> places;
    for (size_t r = 0; r < problem.results.size(); ++r) {
      const uint32_t y = plan.steps[at].results[r];
      const Slot& to = plan.slots[y];
      if (to.kind != SlotKind::arena || to.layout.pitch || uses_[y].outside || uses_[y].written.size() != 1)
        return false;
      const auto begins =
          split ? begins_of_split(problem, choice, r, from) : begins_of_slice(problem, choice, from, to);
      if (!begins) return false;
      auto place = problem.facts.empty() ? run_at(plan, x, to, *begins) : std::nullopt;
      if (!place && !uses_[y].viewed) {
        place = columns_at(plan, x, to, *begins);
        if (place)
          for (const Use& use : uses_[y].read)
            changes.push_back({use.step, use.argument, to.layout.with_pitch(place->pitch)});
      }
      if (!place) return false;
      places.push_back(std::move(*place));
    }
    if (!change(plan, changes)) return false;
    for (size_t r = 0; r < places.size(); ++r) {
      const uint32_t y = plan.steps[at].results[r];
      uint32_t& last = lives_[places[r].base].last;
      last = std::max(last, lives_[y].last);
      lie(plan.slots[y], places[r]);
      plan.slots[y].sources = plan.steps[at].sources;
    }
    return true;
  }

  Target& target_;
  const DeviceSpec& device_;
  std::vector<const Kernel*> kernels_;
  std::span<const int64_t> likely_;            // extents by symbol
  std::map<std::string, uint32_t> number_of_;  // by text of the problem
  // Of the plan at hand:
  std::vector<Uses> uses_;          // by slot
  std::vector<uint32_t> position_;  // by step: copies have that of their Concat
  std::vector<uint32_t> ends_;      // by position: steps before it that end a segment
  std::vector<bool> gone_;          // by step
  struct Life {
    uint32_t last = 0;      // step that reads it or its views; no_slot: it is read after all of them
    int64_t taken = 0;      // bytes that Slices and Splits take of it
    bool in_parts = false;  // steps write parts of it
  };
  std::vector<Life> lives_;  // by slot that is no view
};

}  // namespace

void place_parts(Target& target, const DeviceSpec& device, std::span<const int64_t> likely) {
  PartPlacer placer(target, device, likely);
  placer.run(target.main);
  placer.drop_unused();
}

}  // namespace sinter
