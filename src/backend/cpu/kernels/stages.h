// Pointwise stages of a problem as a tile program: what runs behind a contraction while its block is in cache, and what
// pointwise and row programs are.
//
// Every stage's result is rounded to its dtype, as if it had been stored. Spreads of operands are what their types show
// against the widest operand or result; who knows extents or another order of axes sets them in the program before it
// makes an executor.
#pragma once

#include <optional>
#include <span>
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

// Axes that a reduction takes together, of its operand's; none when they are not known or the stage is no reduction of
// numbers that programs know.
std::optional<std::vector<size_t>> reduced_axes(const Problem& problem, const Stage& stage);

// Some stages, in ascending order, as a problem of their own with one result. What they read and do not make becomes
// its operands, behind the values that `sources` names already; `sources`: the values of the whole problem behind them.
Problem part_of(const Problem& problem, std::span<const size_t> stages, uint16_t result,
                std::vector<uint16_t>& sources);

// `block`: the value that program operand 0 holds, or none. `row_valued[v]`: values with one element per row.
StageProgram compile_stages(const Problem& problem, size_t first, std::optional<uint16_t> block,
                            const std::vector<bool>& row_valued);

}  // namespace sinter::cpu
