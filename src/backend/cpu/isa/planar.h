// Convolution of images that lie channel by channel, for few results a pixel: neighbouring pixels lie in the lanes, so
// that one or two output channels waste nothing. One to three spatial axes, any stride, dilation and padding, one
// group.
//
// One table of functions per instruction set. Every element is one chain of multiply-adds in the order (channel, taps),
// whatever the blocks and the split into calls. Nothing outside the operands is touched. Left to the caller: extents,
// threads, the place of each block.
#pragma once

#include "backend/cpu/isa/contract.h"

namespace sinter::cpu {

struct PlanarArgs {
  Window window;
  int64_t channels = 0, results = 0;                         // of a pixel of the input and the output
  const float* in = nullptr;                                 // one image: [channels][pixels]
  const float* weights = nullptr;                            // [results][channels][taps]
  const float* bias = nullptr;                               // [results], or null
  float low = -contract_no_bound, high = contract_no_bound;  // NaN passes
  float* out = nullptr;                                      // [results][pixels]; null: blocks go to `finish`
  // Takes columns [column, column + count) of a row of result `result`, with bias and bounds; may overwrite them.
  void (*finish)(void* user, int64_t result, int64_t row, int64_t column, int64_t count, float* block) = nullptr;
  void* user = nullptr;
  int64_t block = 0;  // columns of a call at most, from block_columns
};

struct PlanarTable {
  // Columns that a call makes at once, given all extents; a multiple of the lanes unless the row is shorter.
  int64_t (*block_columns)(const PlanarArgs&);
  int64_t (*scratch_size)(const PlanarArgs&);  // bytes, 64-byte aligned
  // Columns [column, column + block) of row `row`: depth row / window.out[1], then height.
  void (*block)(const PlanarArgs&, int64_t row, int64_t column, void* scratch);
};

extern const PlanarTable planar_portable;
#ifdef SINTER_X86
extern const PlanarTable planar_avx2;
extern const PlanarTable planar_avx512;
#endif

}  // namespace sinter::cpu
