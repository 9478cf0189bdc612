#include "engine/plan_text.h"

#include <fmt/core.h>

#include <set>

#include "base/scanner.h"
#include "ops/text.h"

namespace sinter {
namespace {

constexpr const char* slot_kinds[] = {"arena", "binding", "weight", "view", "boxed", "known", "parameter"};
constexpr const char* bounds_names[] = {"input", "host_element", "run", "trip_count", "body_parameter", "exit"};
constexpr int64_t max_items = 1'000'000;  // slots, steps, problems ... of one engine
constexpr int max_depth = 64;

std::string slot_text(uint32_t s) { return s == no_slot ? "_" : std::to_string(s); }

std::string list_text(const std::vector<uint32_t>& list) {
  std::string out = "[";
  for (size_t i = 0; i < list.size(); ++i) out += (i ? ", " : "") + slot_text(list[i]);
  return out + "]";
}

class Printer {
 public:
  explicit Printer(const Target& target) : target_(target) {}

  std::string symbol_list(const std::vector<SymbolId>& ids) const {
    std::string out = "[";
    for (size_t i = 0; i < ids.size(); ++i) out += (i ? ", " : "") + target_.symbols[ids[i]].name;
    return out + "]";
  }

  std::string slot(const Slot& slot) const {
    std::string out = slot_kinds[static_cast<int>(slot.kind)];
    if (slot.kind == SlotKind::binding || slot.kind == SlotKind::weight || slot.kind == SlotKind::view)
      out += fmt::format(" {}", slot.of);
    out += " ";
    if (!std::holds_alternative<std::monostate>(slot.contents)) {
      out += literal(slot);
    } else {
      out += to_text(slot.type, target_.symbols) + to_text(slot.layout);
    }
    if (slot.at) out += " at " + to_string(*slot.at, target_.symbols);
    if (!slot.above.empty()) out += " above " + list_text(slot.above);
    if (!slot.sources.empty()) out += " from " + list_text(slot.sources);
    return out;
  }

  // Every element, however many: a plan must read back.
  std::string literal(const Slot& slot) const {
    std::string out = to_text(slot.type, target_.symbols) + "(";
    if (const auto* dims = std::get_if<std::vector<Dim>>(&slot.contents)) {
      for (size_t i = 0; i < dims->size(); ++i) out += (i ? ", " : "") + to_string((*dims)[i], target_.symbols);
    } else {
      const Tensor& tensor = std::get<Tensor>(slot.contents);
      for (int64_t i = 0; i < tensor.count(); ++i) {
        if (i) out += ", ";
        if (tensor.dtype() == DType::string)
          out += quoted(tensor.strings()[static_cast<size_t>(i)]);
        else if (is_float(tensor.dtype()))
          out += number_text(tensor.get_real(i));
        else
          out += std::to_string(tensor.get_integer(i));
      }
    }
    return out + ")";
  }

  std::string step(const Step& step) const {
    std::string out;
    if (step.kind == Step::Kind::control) {
      out = "control " + call_text(*step.op, step.attrs, true) + " bodies " + list_text(step.bodies);
    } else {
      for (size_t i = 0; i < step.choices.size(); ++i) {
        const Choice& choice = step.choices[i];
        out += fmt::format("{}kernel {} problem {} symbols {}", i ? " | " : "", choice.kernel, choice.problem,
                           symbol_list(choice.symbols));
        if (!choice.config.empty()) out += " config " + choice.config.to_text(true);
        if (!choice.when.empty()) {
          out += " when [";
          for (size_t g = 0; g < choice.when.size(); ++g)
            out += (g ? ", " : "") + to_string(choice.when[g].value, target_.symbols);
          out += "]";
        }
      }
    }
    out += " " + list_text(step.operands) + " -> " + list_text(step.results);
    if (!step.defines.empty()) out += " defines " + symbol_list(step.defines);
    if (!step.sources.empty()) out += " from " + list_text(step.sources);
    return out;
  }

  std::string plan(const Plan& plan, const std::string& indent) const {
    const std::string in = indent + "  ";
    std::string out = "plan {\n" + in + "slots {\n";
    for (const Slot& s : plan.slots) out += in + "  " + slot(s) + ";\n";
    out += in + "}\n" + in + "parameters " + list_text(plan.parameters) + " results " + list_text(plan.results) + "\n";
    out += in + "steps {\n";
    for (const Step& s : plan.steps) out += in + "  " + step(s) + ";\n";
    out += in + "}\n";
    for (const Plan& body : plan.bodies) out += in + this->plan(body, in);
    return out + indent + "}\n";
  }

 private:
  const Target& target_;
};

class Parser {
 public:
  Parser(std::string_view text, WeightOffsets& offsets) : s_(text), offsets_(offsets) {}

  Target target() {
    s_.expect("target");
    s_.expect("{");
    s_.expect("needs");
    t_.needs.name = s_.string();
    s_.expect("level");
    t_.needs.level = static_cast<uint8_t>(number(255));
    s_.expect("features");
    t_.needs.features = static_cast<uint64_t>(s_.integer());
    s_.expect("threads");
    t_.needs.threads = static_cast<int>(number(4096));
    items("symbols", [&] {
      Symbol symbol{std::string(s_.identifier()), Symbol::Bound::input};
      if (t_.symbols.find(symbol.name)) s_.fail("symbol named twice");
      symbol.bound = static_cast<Symbol::Bound>(one_of(bounds_names));
      symbol.low = s_.integer();
      t_.symbols.add(std::move(symbol));
    });
    items("bindings", [&] {
      Binding binding;
      binding.is_output = s_.accept("output");
      if (!binding.is_output) s_.expect("input");
      binding.name = s_.string();
      binding.type = parse_type(s_, t_.symbols, false);
      t_.bindings.push_back(std::move(binding));
    });
    items("profiles", [&] {
      Profile profile{};
      profile.symbol = symbol();
      profile.low = s_.integer();
      profile.best = s_.integer();
      profile.high = s_.integer();
      t_.profiles.push_back(profile);
    });
    items("kernels", [&] { t_.kernels.push_back(s_.string()); });
    items("weights", [&] {
      Weight weight;
      weight.type = parse_type(s_, t_.symbols, false);
      weight.layout = parse_layout(s_);
      offsets_.push_back(number(INT64_MAX));
      t_.weights.push_back(std::move(weight));
    });
    // Operators of plugins that are not loaded: all of them in one error.
    std::set<std::string> missing;
    std::string list, hint;
    items("problems", [&] {
      try {
        t_.problems.push_back(parse_problem(s_));
      } catch (const Error& error) {
        if (error.code() != Code::engine_incompatible) throw;
        if (missing.insert(error.message()).second) list += (list.empty() ? "" : "; ") + error.message();
        hint = error.origin().hint;
        t_.problems.emplace_back();
      }
    });
    if (!list.empty()) throw Error(Code::engine_incompatible, list).with_hint(hint);
    items("sources", [&] {
      SourceNode source;
      // Messages quote them, and an engine may come from anywhere.
      source.name = shown(s_.string());
      source.op_type = shown(s_.string());
      t_.sources.push_back(std::move(source));
    });
    t_.main = plan(0);
    s_.expect("}");
    if (!s_.at_end()) s_.fail("text after the target");
    return std::move(t_);
  }

 private:
  int64_t number(int64_t high) {
    const int64_t v = s_.integer();
    if (v < 0 || v > high) s_.fail("number out of range");
    return v;
  }
  uint32_t id() { return static_cast<uint32_t>(number(UINT32_MAX - 1)); }

  template <size_t N>
  size_t one_of(const char* const (&names)[N]) {
    const std::string_view name = s_.identifier();
    for (size_t i = 0; i < N; ++i)
      if (name == names[i]) return i;
    s_.fail("unknown word");
  }

  template <typename F>
  void items(const char* name, F item) {
    s_.expect(name);
    s_.expect("{");
    int64_t n = 0;
    while (!s_.accept("}")) {
      if (++n > max_items) s_.fail("too many items");
      item();
      s_.expect(";");
    }
  }

  SymbolId symbol() {
    const std::string_view name = s_.identifier();
    const auto found = t_.symbols.find(name);
    if (!found) s_.fail("unknown symbol");
    return *found;
  }

  std::vector<SymbolId> symbol_list() {
    std::vector<SymbolId> out;
    s_.expect("[");
    if (s_.accept("]")) return out;
    do {
      out.push_back(symbol());
    } while (s_.accept(","));
    s_.expect("]");
    return out;
  }

  std::vector<uint32_t> list(bool absent_allowed) {
    std::vector<uint32_t> out;
    s_.expect("[");
    if (s_.accept("]")) return out;
    do {
      out.push_back(absent_allowed && s_.accept("_") ? no_slot : id());
    } while (s_.accept(","));
    s_.expect("]");
    return out;
  }

  Slot slot() {
    Slot slot;
    slot.kind = static_cast<SlotKind>(one_of(slot_kinds));
    if (slot.kind == SlotKind::binding || slot.kind == SlotKind::weight || slot.kind == SlotKind::view) slot.of = id();
    const size_t start = s_.position();
    slot.type = parse_type(s_, t_.symbols, false);
    if (s_.peek() == '(') {
      s_.seek(start);
      Literal literal = parse_literal(s_, t_.symbols, false);
      slot.type = std::move(literal.type);
      slot.contents = std::move(literal.contents);
    } else {
      slot.layout = parse_layout(s_);
    }
    if (s_.accept("at")) slot.at = parse_dim(s_, t_.symbols, false);
    if (s_.accept("above")) slot.above = list(false);
    if (s_.accept("from")) slot.sources = list(false);
    return slot;
  }

  Step step() {
    Step step;
    if (s_.accept("control")) {
      step.kind = Step::Kind::control;
      Call call = parse_call(s_);
      step.op = call.op;
      step.attrs = std::move(call.attrs);
      s_.expect("bodies");
      step.bodies = list(false);
    } else {
      do {
        Choice choice;
        s_.expect("kernel");
        choice.kernel = id();
        s_.expect("problem");
        choice.problem = id();
        s_.expect("symbols");
        choice.symbols = symbol_list();
        if (s_.accept("config")) {
          const Kernel* kernel = choice.kernel < t_.kernels.size() ? find_kernel(t_.kernels[choice.kernel]) : nullptr;
          if (!kernel || !kernel->config) s_.fail("tuning parameters for a kernel that has none");
          choice.config = Attrs::parse(kernel->config(), s_);
        }
        if (s_.accept("when")) {
          s_.expect("[");
          do {
            choice.when.push_back({parse_dim(s_, t_.symbols, false)});
          } while (s_.accept(","));
          s_.expect("]");
        }
        step.choices.push_back(std::move(choice));
      } while (s_.accept("|"));
    }
    step.operands = list(true);
    s_.expect("-");
    s_.expect(">");
    step.results = list(false);
    if (s_.accept("defines")) step.defines = symbol_list();
    if (s_.accept("from")) step.sources = list(false);
    return step;
  }

  Plan plan(int depth) {
    if (depth > max_depth) s_.fail("plans nested too deep");
    Plan plan;
    s_.expect("plan");
    s_.expect("{");
    items("slots", [&] { plan.slots.push_back(slot()); });
    s_.expect("parameters");
    plan.parameters = list(false);
    s_.expect("results");
    plan.results = list(false);
    items("steps", [&] { plan.steps.push_back(step()); });
    while (!s_.accept("}")) plan.bodies.push_back(this->plan(depth + 1));
    return plan;
  }

  Scanner s_;
  WeightOffsets& offsets_;
  Target t_;
};

}  // namespace

std::string to_text(const Target& target, const WeightOffsets& offsets) {
  const Printer printer(target);
  std::string out = fmt::format("target {{\n  needs {} level {} features {} threads {}\n", quoted(target.needs.name),
                                target.needs.level, static_cast<int64_t>(target.needs.features), target.needs.threads);
  out += "  symbols {\n";
  for (SymbolId k = 0; k < target.symbols.size(); ++k)
    out += fmt::format("    {} {} {};\n", target.symbols[k].name,
                       bounds_names[static_cast<int>(target.symbols[k].bound)], target.symbols[k].low);
  out += "  }\n  bindings {\n";
  for (const Binding& b : target.bindings)
    out += fmt::format("    {} {} {};\n", b.is_output ? "output" : "input", quoted(b.name),
                       to_text(b.type, target.symbols));
  out += "  }\n  profiles {\n";
  for (const Profile& p : target.profiles)
    out += fmt::format("    {} {} {} {};\n", target.symbols[p.symbol].name, p.low, p.best, p.high);
  out += "  }\n  kernels {\n";
  for (const std::string& name : target.kernels) out += fmt::format("    {};\n", quoted(name));
  out += "  }\n  weights {\n";
  for (size_t w = 0; w < target.weights.size(); ++w)
    out += fmt::format("    {}{} {};\n", to_text(target.weights[w].type, target.symbols),
                       to_text(target.weights[w].layout), offsets[w]);
  out += "  }\n  problems {\n";
  for (const Problem& p : target.problems) out += "    " + to_text(p) + ";\n";
  out += "  }\n  sources {\n";
  for (const SourceNode& s : target.sources) out += fmt::format("    {} {};\n", quoted(s.name), quoted(s.op_type));
  out += "  }\n  " + printer.plan(target.main, "  ") + "}\n";
  return out;
}

Target parse_target(std::string_view text, WeightOffsets& offsets) {
  try {
    return Parser(text, offsets).target();
  } catch (const Error& error) {
    if (error.code() == Code::engine_incompatible) throw;
    throw Error(Code::engine_invalid, fmt::format("the plan of the engine cannot be read: {}", error.what()));
  }
}

}  // namespace sinter
