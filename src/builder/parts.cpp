#include "builder/parts.h"

#include <fmt/core.h>

#include <algorithm>
#include <map>
#include <numeric>
#include <optional>

#include "backend/problem.h"
#include "ops/movement.h"

namespace sinter {
namespace {

// Where the elements of a value lie: some columns of the rows of another one.
struct Place {
  uint32_t base;
  int64_t offset;
  int32_t pitch;
};

class PartPlacer {
 public:
  PartPlacer(Target& target, const DeviceSpec& device) : target_(target), device_(device) {
    for (const std::string& name : target.kernels) kernels_.push_back(find_kernel(name));
    for (uint32_t n = 0; n < target.problems.size(); ++n) number_of_.emplace(to_text(target.problems[n]), n);
  }

  void run(Plan& plan) {
    for (Plan& body : plan.bodies) run(body);
    // Later ones first: what is a part of a part is then a part of the whole.
    for (uint32_t i = static_cast<uint32_t>(plan.steps.size()); i-- > 0;) concat(plan, i);
    for (uint32_t i = 0; i < plan.steps.size();)
      if (take_apart(plan, i))
        plan.steps.erase(plan.steps.begin() + i);
      else
        ++i;
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
    bool elsewhere = false;  // views, results and bodies
  };
  // The layout of an operand, or of a result beyond those, becomes another.
  struct Change {
    uint32_t step, argument;
    Layout layout;
  };

  template <typename F>
  static void each_choice(Plan& plan, F go) {
    for (Step& step : plan.steps)
      for (Choice& choice : step.choices) go(choice);
    for (Plan& body : plan.bodies) each_choice(body, go);
  }

  static std::vector<Uses> uses_of(const Plan& plan) {
    std::vector<Uses> uses(plan.slots.size());
    for (uint32_t i = 0; i < plan.steps.size(); ++i) {
      const Step& step = plan.steps[i];
      const bool plain = step.kind == Step::Kind::kernel;
      const auto operands = static_cast<uint32_t>(step.operands.size());
      for (uint32_t k = 0; k < operands; ++k)
        if (const uint32_t s = step.operands[k]; s != no_slot) {
          uses[s].read.push_back({i, k});
          uses[s].elsewhere |= !plain;
        }
      for (uint32_t r = 0; r < step.results.size(); ++r) {
        uses[step.results[r]].written.push_back({i, operands + r});
        uses[step.results[r]].elsewhere |= !plain;
      }
    }
    for (const Slot& slot : plan.slots)
      if (slot.kind == SlotKind::view) uses[slot.of].elsewhere = true;
    for (uint32_t s : plan.results) uses[s].elsewhere = true;
    for (uint32_t s : plan.parameters) uses[s].elsewhere = true;
    return uses;
  }

  // Segments of a plan end where a step finds out extents: what is placed in one is placed with what is known there.
  static bool same_segment(const Plan& plan, uint32_t first, uint32_t last) {
    for (uint32_t i = first; i < last; ++i)
      if (!plan.steps[i].defines.empty()) return false;
    return true;
  }

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

  static void lie(Slot& slot, const Place& place) {
    slot.kind = SlotKind::view;
    slot.of = place.base;
    slot.offset = place.offset;
    slot.layout.pitch = place.pitch;
  }

  // Whether slot s, an operand of the Concat at step `at`, lies there from now on.
  bool place_operand(Plan& plan, uint32_t s, uint32_t at, const Place& place) {
    const Uses uses = uses_of(plan)[s];
    Slot& slot = plan.slots[s];
    if (slot.kind != SlotKind::arena || slot.layout.pitch || uses.elsewhere || uses.written.size() != 1) return false;
    if (uses.written[0].step >= at || !same_segment(plan, uses.written[0].step, at)) return false;
    const Layout layout = slot.layout.with_pitch(place.pitch);
    std::vector<Change> changes = {{uses.written[0].step, uses.written[0].argument, layout}};
    for (const Use& use : uses.read)
      if (use.step != at) changes.push_back({use.step, use.argument, layout});
    if (!change(plan, changes)) return false;
    lie(slot, place);
    return true;
  }

  void concat(Plan& plan, uint32_t at) {
    if (plan.steps[at].kind != Step::Kind::kernel || plan.steps[at].choices.size() != 1) return;
    const Problem problem = target_.problems[plan.steps[at].choices[0].problem];
    if (!is_sole(problem, "Concat") || problem.results.size() != 1) return;
    const uint32_t whole = plan.steps[at].results[0];
    const Slot result = plan.slots[whole];
    const auto all = columns(result);
    const bool writable = result.kind == SlotKind::arena || result.is_part() ||
                          (result.kind == SlotKind::binding && target_.bindings[result.of].is_output);
    if (!all || !writable) return;
    if (!is_innermost(problem.stages[0].attrs.as<ConcatAttrs>().axis, result)) return;
    Place place{result.is_part() ? result.of : whole, result.offset, result.layout.pitch ? result.layout.pitch : *all};
    struct Part {
      uint32_t slot;
      Place place;
      Step copy;
    };
    std::vector<Part> parts;
    for (uint16_t v : problem.stages[0].inputs) {
      const uint32_t s = v < plan.steps[at].operands.size() ? plan.steps[at].operands[v] : no_slot;
      if (s == no_slot || plan.slots[s].kind == SlotKind::boxed) return;
      Slot as_result = plan.slots[s];
      as_result.layout = result.layout;
      const auto own = columns(as_result);
      if (!own || as_result.type.shape->size() != result.type.shape->size()) return;
      auto copy = copy_of(plan.steps[at], problem, v, result.layout.dense().with_pitch(place.pitch));
      if (!copy) return;
      parts.push_back({s, place, std::move(*copy)});
      place.offset += *own;
    }
    if (place.offset != result.offset + *all) return;
    std::vector<Step> copies;
    for (Part& part : parts) {
      const bool once =
          std::count_if(parts.begin(), parts.end(), [&](const Part& p) { return p.slot == part.slot; }) == 1;
      if (once && plan.slots[part.slot].layout.order == result.layout.order &&
          place_operand(plan, part.slot, at, part.place))
        continue;
      Slot there{plan.slots[part.slot].type, result.layout, SlotKind::view, 0, {}, {}};
      lie(there, part.place);
      part.copy.results = {static_cast<uint32_t>(plan.slots.size())};
      plan.slots.push_back(std::move(there));
      copies.push_back(std::move(part.copy));
    }
    if (copies.size() == parts.size()) {
      plan.slots.resize(plan.slots.size() - copies.size());
      return;
    }
    plan.steps.erase(plan.steps.begin() + at);
    plan.steps.insert(plan.steps.begin() + at, copies.begin(), copies.end());
  }

  // Copies one operand of a Concat, with the same kernel; none where that does not take it.
  std::optional<Step> copy_of(const Step& concat, const Problem& from, uint16_t operand, const Layout& layout) {
    Problem problem;
    const Choice& choice = concat.choices[0];
    std::vector<SymbolId> number(from.symbols.size(), UINT32_MAX), symbols;
    for (const Dim& d : *from.operands[operand].type.shape) {
      std::vector<SymbolId> ids;
      d.collect_symbols(ids);
      for (SymbolId id : ids) {
        if (number[id] != UINT32_MAX) continue;
        number[id] = problem.symbols.add({.name = fmt::format("s{}", symbols.size()), .bound = Symbol::Bound::input});
        symbols.push_back(choice.symbols[id]);
      }
    }
    problem.operands = {from.operands[operand]};
    problem.operands[0].type = rename(from.operands[operand].type, number);
    problem.stages.push_back({&op_named("Identity"), {}, {0}, 1});
    problem.results.push_back({1, layout});
    complete(problem);
    if (!takes(*kernels_[choice.kernel], choice, problem)) return std::nullopt;
    Step step = concat;
    step.choices[0].problem = number_of(std::move(problem));
    step.choices[0].symbols = std::move(symbols);
    step.operands = {concat.operands[operand]};
    return step;
  }

  // Elements of a known host operand; none where it is absent.
  static std::optional<std::vector<int64_t>> numbers(const Problem& problem, size_t input) {
    const Stage& stage = problem.stages[0];
    if (input >= stage.inputs.size() || stage.inputs[input] == absent_operand) return std::vector<int64_t>();
    if (stage.inputs[input] >= problem.operands.size()) return std::nullopt;
    const auto* tensor = std::get_if<Tensor>(&problem.operands[stage.inputs[input]].contents);
    return tensor ? std::optional(tensor->to_integers()) : std::nullopt;
  }
  static bool is_innermost(int64_t axis, const Slot& x) {
    const size_t rank = x.type.shape->size();
    return static_cast<size_t>(axis < 0 ? axis + static_cast<int64_t>(rank) : axis) == x.layout.innermost(rank);
  }

  // First column of a Slice whose result has all of the other axes.
  static std::optional<int64_t> first_of_slice(const Problem& problem, const Slot& x) {
    const auto starts = numbers(problem, 1), axes = numbers(problem, 3), steps = numbers(problem, 4);
    if (!starts || !axes || !steps || std::any_of(steps->begin(), steps->end(), [](int64_t n) { return n != 1; }))
      return std::nullopt;
    int64_t first = 0;
    for (size_t i = 0; i < starts->size(); ++i)
      if (is_innermost(axes->empty() ? static_cast<int64_t>(i) : (*axes)[i], x))
        first = slice_begin((*starts)[i], *columns(x), 1);
    return first;
  }

  static std::optional<int64_t> first_of_split(const Problem& problem, size_t result, const Slot& x) {
    const auto sizes = numbers(problem, 1);
    const size_t output = problem.results[result].value - problem.first_result[0];
    if (!sizes || sizes->size() <= output || !is_innermost(problem.stages[0].attrs.as<SplitAttrs>().axis, x))
      return std::nullopt;
    return std::accumulate(sizes->begin(), sizes->begin() + static_cast<ptrdiff_t>(output), int64_t{0});
  }

  // Whether the results of the Slice or Split are parts of its operand from now on.
  bool take_apart(Plan& plan, uint32_t at) {
    if (plan.steps[at].kind != Step::Kind::kernel || plan.steps[at].choices.size() != 1) return false;
    const Problem& problem = target_.problems[plan.steps[at].choices[0].problem];
    const bool split = is_sole(problem, "Split");
    if ((!split && !is_sole(problem, "Slice")) || problem.stages[0].inputs[0] != 0) return false;
    const uint32_t x = plan.steps[at].operands[0];
    if (x == no_slot || plan.slots[x].kind == SlotKind::boxed || plan.slots[x].kind == SlotKind::known) return false;
    const Slot& from = plan.slots[x];
    const auto all = columns(from);
    if (!all) return false;
    const std::vector<Uses> uses = uses_of(plan);
    std::vector<Change> changes;
    std::vector<Place> places;
    for (size_t r = 0; r < problem.results.size(); ++r) {
      const uint32_t y = plan.steps[at].results[r];
      const Slot& to = plan.slots[y];
      const auto own = columns(to);
      if (!own || !differ_in_columns(from, to) || to.kind != SlotKind::arena || to.layout.pitch) return false;
      const auto first = split ? first_of_split(problem, r, from) : first_of_slice(problem, from);
      if (!first || *first < 0 || *own > *all - *first) return false;
      if (uses[y].elsewhere || uses[y].written.size() != 1) return false;
      places.push_back(
          {from.is_part() ? from.of : x, from.offset + *first, from.layout.pitch ? from.layout.pitch : *all});
      for (const Use& use : uses[y].read)
        changes.push_back({use.step, use.argument, to.layout.with_pitch(places.back().pitch)});
    }
    if (!change(plan, changes)) return false;
    for (size_t r = 0; r < places.size(); ++r) lie(plan.slots[plan.steps[at].results[r]], places[r]);
    return true;
  }

  Target& target_;
  const DeviceSpec& device_;
  std::vector<const Kernel*> kernels_;
  std::map<std::string, uint32_t> number_of_;  // by text of the problem
};

}  // namespace

void place_parts(Target& target, const DeviceSpec& device) {
  PartPlacer placer(target, device);
  placer.run(target.main);
  placer.drop_unused();
}

}  // namespace sinter
