// Depthwise convolution for rows that hold its operand or its result in their scratch, some lines at a time.
#pragma once

#include "backend/cpu/isa/contract.h"
#include "backend/kernel.h"

namespace sinter::cpu {

extern const Kernel depthwise_row;

// Lines of one image of a depthwise convolution of rank 4 that depthwise_row has bound.
struct DepthwiseLines {
  int64_t image = 0, first = 0, count = 0;  // of the result
  int64_t in_first = 0, in_count = 0;       // of the operand: what `count` lines reach, or all of it
  bool held_in = false, held_out = false;   // the launch's operand begins at in_first, its result at first
};
// The window of a convolution that depthwise_row has bound.
const Window& depthwise_window(const Bound& bound);
// part: a launch of the convolution by itself, with scratch for as many lines.
void run_depthwise_lines(const Launch& part, const DepthwiseLines& lines);
// Bytes of scratch for lines that reach `least` to `most` lines of the operand.
int64_t depthwise_lines_scratch(const Bound& bound, int64_t least, int64_t most);

}  // namespace sinter::cpu
