// Conversion of single numbers and of arrays between element types.
//
// Rounding is to nearest even. decode_* give the exact value of a bit pattern. encode_float rounds a double to the
// pattern of a narrow float; `saturate` is ONNX Cast's attribute: where a type of fp8 or fp4 cannot hold the value,
// true gives the largest finite one, false NaN or infinity as the type has it.
#pragma once

#include <cstdint>

#include "tensor/dtype.h"
#include "tensor/tensor.h"

namespace sinter {

float half_to_float(uint16_t bits);
uint16_t float_to_half(float value);
inline float bfloat_to_float(uint16_t bits);
uint16_t float_to_bfloat(float value);

// dtype: any real float. bits: low bit_size(dtype) bits (f64 all 64).
double decode_float(DType dtype, uint64_t bits);
uint64_t encode_float(DType dtype, double value, bool saturate = true);

// Powers of two without sign (f8e8m0): how a value between two of them is rounded.
enum class RoundMode : uint8_t { up, down, nearest };
uint8_t float_to_e8m0(double value, RoundMode mode, bool saturate = true);

// Every element converted as ONNX Cast does (float → integer truncates, out-of-range values wrap in 64 bits then in the
// target; NaN → 0; → bool is != 0; strings parse and print). Throws Error(Code::fault) for text that is no number.
Tensor cast(const Tensor& source, DType to, bool saturate = true, RoundMode mode = RoundMode::up);

inline float bfloat_to_float(uint16_t bits) {
  const uint32_t u = static_cast<uint32_t>(bits) << 16;
  float f;
  __builtin_memcpy(&f, &u, 4);
  return f;
}

}  // namespace sinter
