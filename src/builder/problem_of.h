// From a fragment's body to the Problem that kernels see.
#pragma once

#include <vector>

#include "backend/problem.h"
#include "ir/graph.h"

namespace sinter {

struct FragmentProblem {
  Problem problem;                // all layouts row-major
  std::vector<SymbolId> symbols;  // problem symbol → module symbol
};

// `operand_types`: types of the body's parameters. Known host operands become operands after the parameters. Symbols
// that the stages find out are matched with those in the body's own types, or made anew in the module.
FragmentProblem problem_of(Module& module, const Graph& body, std::span<const Type> operand_types,
                           const std::vector<bool>& constant);

// Whether a fragment's results depend on its operands alone and may be made while building.
bool gives_the_same(const Graph& body);

// By value, whether it is known when the engine is built: a constant, or what fragments make of constants alone.
std::vector<bool> known_values(const Graph& graph);

// By problem symbol, the values at which kernels are compared.
std::vector<int64_t> likely_values(const Module& module, const FragmentProblem& made);

}  // namespace sinter
