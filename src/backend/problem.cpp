#include "backend/problem.h"

#include <fmt/format.h>

#include "base/checked.h"
#include "base/scanner.h"
#include "ops/text.h"

namespace sinter {
namespace {

class ProblemHost final : public InferHost {
 public:
  explicit ProblemHost(Problem& problem) : problem_(problem) {}
  Dim symbol(size_t output, size_t position, Symbol::Bound bound, int64_t low, std::optional<Dim> high) override {
    for (const Made& m : made_)
      if (m.stage == stage && m.output == output && m.position == position) return Dim::symbol(m.id);
    const SymbolId id = problem_.symbols.add(
        {.name = fmt::format("s{}", problem_.symbols.size()), .bound = bound, .low = low, .high = std::move(high)});
    made_.push_back({stage, output, position, id});
    problem_.defined.push_back(id);
    return Dim::symbol(id);
  }
  void require(Fact fact) override { problem_.facts.push_back(std::move(fact)); }
  const SymbolTable& symbols() const override { return problem_.symbols; }
  std::vector<Type> infer_body(size_t, std::span<const Type>) override {
    throw Error(Code::engine_invalid, "a stage of a problem has no bodies");
  }
  size_t stage = 0;

 private:
  struct Made {
    size_t stage, output, position;
    SymbolId id;
  };
  Problem& problem_;
  std::vector<Made> made_;
};

}  // namespace

void complete(Problem& problem) {
  problem.types.clear();
  problem.first_result.clear();
  problem.facts.clear();
  problem.defined.clear();
  ProblemHost host(problem);
  std::vector<Contents> contents;
  for (const Operand& operand : problem.operands) {
    if (operand.type.has_shape() && !layout_fits(operand.layout, operand.type.shape->size()))
      throw Error(Code::engine_invalid, fmt::format("layout '{}' does not fit its operand", to_text(operand.layout)));
    problem.types.push_back(operand.type);
    contents.push_back(operand.contents);
  }
  for (size_t s = 0; s < problem.stages.size(); ++s) {
    const Stage& stage = problem.stages[s];
    host.stage = s;
    std::vector<const Type*> types;
    std::vector<const Contents*> known;
    for (uint16_t v : stage.inputs) {
      if (v != absent_operand && v >= problem.types.size())
        throw Error(Code::engine_invalid, fmt::format("stage {} reads value {} before it is made", s, v));
      types.push_back(v == absent_operand ? nullptr : &problem.types[v]);
      known.push_back(v == absent_operand ? nullptr : &contents[v]);
    }
    if (stage.op->infer == nullptr && stage.op->pointwise == nullptr)
      throw Error(Code::engine_invalid, fmt::format("{} has no inference", stage.op->name));
    Inferred inferred = infer_op(*stage.op, stage.attrs, types, known, stage.outputs, host);
    problem.first_result.push_back(narrow<uint16_t>(problem.types.size(), "values of a problem"));
    for (size_t o = 0; o < stage.outputs; ++o) {
      problem.types.push_back(std::move(inferred.types[o]));
      contents.push_back(std::move(inferred.contents[o]));
    }
  }
  if (problem.types.size() >= absent_operand) throw Error(Code::limit, "a problem of more than 65,534 values");
  for (const Problem::Result& result : problem.results) {
    if (result.value >= problem.types.size() || result.value < problem.operands.size())
      throw Error(Code::engine_invalid, fmt::format("result {} is no value of a stage", result.value));
    for (const Problem::Result& other : problem.results)
      if (&other != &result && other.value == result.value)
        throw Error(Code::engine_invalid, fmt::format("value {} is a result twice", result.value));
    const Type& type = problem.types[result.value];
    if (type.has_shape() && !layout_fits(result.layout, type.shape->size()))
      throw Error(Code::engine_invalid, fmt::format("layout '{}' does not fit its result", to_text(result.layout)));
  }
}

std::string to_text(const Problem& problem) {
  std::string out = "(";
  for (size_t i = 0; i < problem.operands.size(); ++i) {
    const Operand& operand = problem.operands[i];
    if (i) out += ", ";
    if (operand.host) out += "host ";
    if (!std::holds_alternative<std::monostate>(operand.contents)) {
      out += literal_text(operand.type, operand.contents, problem.symbols, INT64_MAX);
      continue;
    }
    if (operand.constant) out += "const ";
    out += to_text(operand.type, problem.symbols) + to_text(operand.layout);
  }
  out += ") { ";
  for (const Stage& stage : problem.stages) {
    out += call_text(*stage.op, stage.attrs, true) + "(";
    for (size_t i = 0; i < stage.inputs.size(); ++i) {
      if (i) out += ", ";
      out += stage.inputs[i] == absent_operand ? "_" : std::to_string(stage.inputs[i]);
    }
    out += ")";
    if (stage.outputs != 1) out += fmt::format(" x {}", stage.outputs);
    out += "; ";
  }
  out += "} -> (";
  for (size_t i = 0; i < problem.results.size(); ++i)
    out += fmt::format("{}{}{}", i ? ", " : "", problem.results[i].value, to_text(problem.results[i].layout));
  return out + ")";
}

namespace {

void parse_operands(Scanner& scanner, Problem& problem) {
  scanner.expect("(");
  if (!scanner.accept(")")) {
    do {
      Operand operand;
      operand.host = scanner.accept("host");
      operand.constant = scanner.accept("const");
      const size_t start = scanner.position();
      bool literal = scanner.peek() == '[';
      if (!literal) {
        operand.type = parse_type(scanner, problem.symbols, true);
        literal = scanner.peek() == '(';
      }
      if (literal) {
        scanner.seek(start);
        Literal parsed = parse_literal(scanner, problem.symbols, true);
        operand.type = std::move(parsed.type);
        operand.contents = std::move(parsed.contents);
      } else {
        operand.layout = parse_layout(scanner);
      }
      problem.operands.push_back(std::move(operand));
    } while (scanner.accept(","));
    scanner.expect(")");
  }
}

// Symbols are numbered by their names "s0", "s1", ...: an expression may mention a later one first.
void number_symbols(Problem& problem) {
  SymbolTable numbered;
  for (size_t k = 0; k < problem.symbols.size(); ++k) {
    const auto id = problem.symbols.find(fmt::format("s{}", k));
    if (!id) return;
    numbered.add(problem.symbols[*id]);
  }
  problem.symbols = std::move(numbered);
  problem.operands.clear();
}

}  // namespace

Problem parse_problem(Scanner& scanner) {
  Problem problem;
  const auto number = [&] {
    const int64_t v = scanner.integer();
    if (v < 0 || v >= absent_operand) scanner.fail("value number out of range");
    return static_cast<uint16_t>(v);
  };
  const size_t start = scanner.position();
  parse_operands(scanner, problem);
  number_symbols(problem);
  if (problem.operands.empty()) {
    scanner.seek(start);
    parse_operands(scanner, problem);
  }
  scanner.expect("{");
  while (!scanner.accept("}")) {
    Stage stage;
    Call call = parse_call(scanner);
    stage.op = call.op;
    stage.attrs = std::move(call.attrs);
    scanner.expect("(");
    if (!scanner.accept(")")) {
      do {
        stage.inputs.push_back(scanner.accept("_") ? absent_operand : number());
      } while (scanner.accept(","));
      scanner.expect(")");
    }
    if (scanner.accept("x")) stage.outputs = number();
    scanner.expect(";");
    problem.stages.push_back(std::move(stage));
  }
  scanner.expect("-");
  scanner.expect(">");
  scanner.expect("(");
  do {
    const uint16_t value = number();
    problem.results.push_back({value, parse_layout(scanner)});
  } while (scanner.accept(","));
  scanner.expect(")");
  complete(problem);
  return problem;
}

Problem parse_problem(std::string_view text) {
  Scanner scanner(text);
  Problem problem = parse_problem(scanner);
  if (!scanner.at_end()) scanner.fail("text after the problem");
  return problem;
}

}  // namespace sinter
