// The stages of a problem by their operators' definitions: what the reference row runs and what judges compare with.
#pragma once

#include <vector>

#include "backend/problem.h"

namespace sinter {

// values[i] points to the value of operand i (null where a stage may go without) and has room for every value of the
// problem; what the stages make is kept in `made`, by value number, and pointed to. Throws Error as the operators do.
void evaluate_stages(const Problem& problem, std::vector<const Box*>& values, std::vector<Box>& made);

}  // namespace sinter
