// Problems that begin with movement: without the stages that only move operands, what those make being operands that
// lie as strided views (views.h).
#pragma once

#include "backend/cpu/kernels/views.h"

namespace sinter::cpu {

struct Viewed {
  Problem problem;               // values of the whole problem stand behind its operands
  std::vector<uint16_t> values;  // by operand
};

// Whether some stage does nothing but move an operand.
bool moves_operands(const Problem& whole);

// Precondition: moves_operands. No where such a stage gives a view with other than one stride an axis, or a result. A
// Cast before such stages comes behind them: elements have the dtype that they have in memory.
Answer without_views(const Problem& whole, Viewed& out);

}  // namespace sinter::cpu
