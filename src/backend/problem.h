// Problem: a fragment with canonical names, layouts and numerics; what kernels see instead of the graph.
//
// Values are numbered: operands first, then the results of the stages in order. Only operands and results that leave
// the problem have a layout; inner values exist only as types. Symbols are renumbered by first mention, so equal work
// gives equal text. The text is log entry, cache key, test case and part of the engine file:
//   (f32[s0, 3, 32, 32]@(0, 2, 3, 1), const f32[16, 3, 3, 3]@conv(16, 1)) { Conv{pads=[1, 1, 1, 1]}(0, 1); Relu(2) }
//   -> (3 @(0, 2, 3, 1))
// Contents of host operands are numbers or Dims; bytes of weights are never part of a problem.
#pragma once

#include <string>
#include <vector>

#include "ops/op.h"
#include "tensor/layout.h"

namespace sinter {

struct Operand {
  Type type;
  Layout layout;
  bool constant = false;  // a weight: the same bytes in every run
  bool host = false;      // read when shapes are bound
  Contents contents;      // known contents of a host operand
};

constexpr uint16_t absent_operand = UINT16_MAX;

struct Stage {
  const Op* op = nullptr;
  Attrs attrs;
  std::vector<uint16_t> inputs;  // value numbers or absent_operand
  uint16_t outputs = 1;
};

struct Problem {
  std::vector<Operand> operands;
  std::vector<Stage> stages;
  struct Result {
    uint16_t value;  // of a stage
    Layout layout;
  };
  std::vector<Result> results;
  SymbolTable symbols;

  // Derived by `complete` from the above: types of all values, and where each stage's results start.
  std::vector<Type> types;
  std::vector<uint16_t> first_result;
  std::vector<Fact> facts;
  std::vector<SymbolId> defined;  // symbols that the stages find out, in order of appearance

  size_t inputs() const { return operands.size(); }
  const Type& type(uint16_t value) const { return types[value]; }
};

// Runs inference over the stages; throws Error when the problem is not well formed. Symbols of operand types must be in
// the table already.
void complete(Problem& problem);

std::string to_text(const Problem& problem);
// Parses and completes.
Problem parse_problem(Scanner& scanner);
Problem parse_problem(std::string_view text);

}  // namespace sinter
