// What the rows of integer products share: operands of MatMulInteger and ConvInteger, and the layouts of the latter.
#pragma once

#include "backend/kernel.h"
#include "ops/contraction.h"

namespace sinter::cpu {

enum IntegerInput : size_t { in_a, in_b, in_a_zero, in_b_zero };

inline bool has(const Stage& stage, size_t input) {
  return input < stage.inputs.size() && stage.inputs[input] != absent_operand;
}
inline WindowRef integer_window(const ConvAttrs& attrs) {
  return {attrs.auto_pad, {}, attrs.strides, attrs.dilations, attrs.pads, false};
}
[[noreturn]] void integer_mismatch();

// ConvInteger with its image and result channels last and its filters as taps, channels, filters.
Answer integer_conv_supports(const Kernel&, const Problem& problem, const DeviceSpec&);
Needs integer_conv_needs(const Kernel&, const Problem& problem, const Config&, const DeviceSpec&);

}  // namespace sinter::cpu
