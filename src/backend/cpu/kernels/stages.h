// Pointwise stages of a problem as a tile program: what runs behind a contraction while its block is in cache, and what
// pointwise and row programs are.
#pragma once

#include <optional>
#include <vector>

#include "backend/kernel.h"
#include "backend/tile/program.h"

namespace sinter::cpu {

// Operand numbers of the program: 0 is the block that the main stage made (when there is one), then one per problem
// operand that the stages read, then one per result.
struct StageProgram {
  TileProgram program;
  std::vector<uint16_t> operands;  // problem operand behind program operand 1 + i (or i without a main stage)
  std::vector<uint16_t> results;   // problem result numbers, in program order
  std::vector<DType> dtypes;       // of program operands
};

// Whether stages [first, end) can be a program: pointwise operators and casts over supported dtypes; reductions over
// the last axes when `rows` is true.
Answer stages_supported(const Problem& problem, size_t first, bool rows);

// `block`: the value that program operand 0 holds, or none. `row_valued[v]`: values with one element per row.
StageProgram compile_stages(const Problem& problem, size_t first, std::optional<uint16_t> block,
                            const std::vector<bool>& row_valued);

}  // namespace sinter::cpu
