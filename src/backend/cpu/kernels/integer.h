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

// ConvInteger with its image and result channels last and its filters as taps, channels, filters.
Answer integer_conv_supports(const Kernel&, const Problem& problem, const DeviceSpec&);
Needs integer_conv_needs(const Kernel&, const Problem& problem, const Config&, const DeviceSpec&);
bool integer_conv_overwrites(const Kernel&, const Problem& problem, size_t operand);

}  // namespace sinter::cpu
