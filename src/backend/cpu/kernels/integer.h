// What the rows of integer products share: operands of MatMulInteger and ConvInteger, and the layouts of the latter.
#pragma once

#include "backend/cpu/isa/integer.h"
#include "backend/cpu/kernels/common.h"
#include "backend/cpu/kernels/convolution.h"

namespace sinter::cpu {

enum IntegerInput : size_t { in_a, in_b, in_a_zero, in_b_zero };

[[noreturn]] void integer_mismatch();

// The loops over bytes of a machine.
const IntegerTable& integer_table(const DeviceSpec& device);
// `prepare` of rows that use the loops over bytes: a `const IntegerTable*`.
std::shared_ptr<const void> prepare_integer(const Kernel&, const Problem&, const Config&, const DeviceSpec& device);

// An operand's bytes, or null where it is absent.
inline const uint8_t* bytes_of(const Launch& launch, size_t input) {
  const Stage& stage = launch.problem->stages[0];
  return has(stage, input) ? static_cast<const uint8_t*>(launch.operands[stage.inputs[input]]) : nullptr;
}
// What is to be flipped of an operand's bytes so that those of `moved` become those of the other type, 128 away.
inline uint8_t flip_of(const Launch& launch, size_t input, DType moved) {
  return launch.problem->types[launch.problem->stages[0].inputs[input]].dtype == moved ? 0x80 : 0;
}

// ConvInteger with its image and result channels last and its filters as taps, channels, filters.
Answer integer_conv_supports(const Kernel&, const Problem& problem, const DeviceSpec&);
Needs integer_conv_needs(const Kernel&, const Problem& problem, const Config&, const DeviceSpec&);
bool integer_conv_overwrites(const Kernel&, const Problem& problem, size_t operand);

}  // namespace sinter::cpu
