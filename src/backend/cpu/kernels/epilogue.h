// The pointwise stages behind a main stage (contraction, window operator), run on its blocks while they are in cache.
//
// Stages that are just a bias, a residual, bounds and rounding become numbers of the loops themselves; whatever is left
// becomes a tile program over the block. An epilogue knows from the types alone how every operand lies over the
// result's axes: batch axes (a call of the loops each, or all of them together), row axes, one column axis. Left to the
// main row: which axes are which, and that operands lie in that order.
#pragma once

#include <memory>
#include <span>
#include <vector>

#include "backend/cpu/isa/contract.h"
#include "backend/cpu/tile_executor.h"
#include "backend/kernel.h"

namespace sinter::cpu {

// What the axes of the main stage's result are, each list outermost first; stored in the order batch, rows, column.
struct OutputView {
  std::vector<size_t> batch, rows;
  int col = -1;          // -1: one column
  bool pitched = false;  // the row takes values of the result's shape with a pitch from row to row of columns

  // Physical order of the axes of an operand of lower rank, aligned at the last axis.
  Layout layout(size_t result_rank, size_t operand_rank) const;
};

// Whether the stages behind stage 0, which makes `made`, can run on its blocks, with operands and results laid out as
// they are.
Answer epilogue_supported(const Problem& problem, const OutputView& view, DType made = DType::f32);
// Whether stages behind the first read this operand.
bool in_epilogue(const Problem& problem, size_t operand);
// Whether the result may be made over this operand: blocks of it are read as the same blocks are stored.
bool epilogue_overwrites(const Problem& problem, const OutputView& view, size_t operand);
// The layout that the epilogue wants for an operand that it reads and that is given as `any`.
Layout epilogue_layout(const Problem& problem, const OutputView& view, size_t operand);

// Made once per engine.
struct Epilogue {
  int bias = -1;  // operand with a value per column, added by the loops
  float low = -contract_no_bound, high = contract_no_bound;
  int residual = -1;        // operand of the result's shape that the loops add before they apply bounds
  bool narrow = false;      // the loops round the result to bf16
  bool whole_batch = true;  // rows may run through the batch axes in one call
  std::shared_ptr<const TileExecutor> executor;  // null: the loops store the result
  struct Part {
    uint16_t value;  // operand, or number of a result
    bool batch, rows, cols;
    int64_t width;  // bytes of an element
  };
  std::vector<Part> operands, results;  // of the program, in its order behind the block
};
// What loops can do besides bias and bounds.
struct LoopsCan {
  bool add = false;           // a residual of f32
  bool add_narrow = false;    // one of bf16
  bool store_narrow = false;  // round what they store to bf16
};
// main_bias: the operand that the main stage adds to each column, or -1. Precondition: epilogue_supported. Loops that
// make i32 do nothing themselves: all is the program's.
Epilogue make_epilogue(const Problem& problem, const OutputView& view, int main_bias, uint8_t level,
                       const LoopsCan& can = {});

// For one shape.
struct BoundEpilogue {
  const Epilogue* epilogue = nullptr;
  struct Part {
    uint16_t argument;                   // of the launch
    int64_t width;                       // bytes
    bool rows, cols;                     // varies along them
    int64_t row_stride;                  // elements
    std::vector<int64_t> batch_strides;  // elements by axis of the calls
  };
  std::vector<Part> parts;  // operands, then results
  int64_t scratch = 0;
};
// by_call: the calls run over the view's batch axes one by one (then whole_batch does not matter).
BoundEpilogue bind_epilogue(const Epilogue& epilogue, const OutputView& view, const BindContext& c, bool by_call,
                            int64_t block_cols, int64_t last_cols);

// One chunk's state: buffers of the current call. Lives on the stack of run.
class EpilogueRun {
 public:
  static constexpr size_t max_buffers = 64;
  EpilogueRun(const BoundEpilogue& bound, const Launch& launch, void* scratch);
  // Moves to another call: its position on the batch axes, its first column, and its first row.
  void at(std::span<const int64_t> batch, int64_t first_col, int64_t first_row = 0);
  // Rows of blocks are every step-th from now on.
  void spread_rows(int64_t step);
  // block: of what the main stage makes, f32 or i32.
  static void block(void* user, int64_t m, int64_t rows, int64_t n, int64_t cols, float* block, int64_t stride);

 private:
  const BoundEpilogue& bound_;
  const Launch& launch_;
  void* scratch_;
  std::byte* base_[max_buffers];
  TileBuffer buffers_[max_buffers];  // of the executor: the block, then bound_.parts
};

// Bias and bounds for blocks made by loops that do not know them. bias: of the block's first column, or null.
void finish_block(float* block, int64_t rows, int64_t cols, int64_t stride, const float* bias, float low, float high);

}  // namespace sinter::cpu
