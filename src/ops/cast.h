// Attributes of conversions between element types, quantization among them.
#pragma once

#include "base/fields.h"
#include "tensor/convert.h"

namespace sinter {

struct CastAttrs {  // Cast(x)
  DType to = DType::f32;
  bool saturate = true;             // narrow floats: largest finite value instead of NaN or infinity
  RoundMode round = RoundMode::up;  // to f8e8m0 only
  bool loose = false;               // ends an operator that computes in f32: readers in f32 need not see it rounded
};

struct BitCastAttrs {  // BitCast(x): same bits, dtype of the same size
  DType to = DType::f32;
};

// QuantizeLinear(x, scale, zero_point?): y = saturate(round(x / scale) + zero_point) in `to`.
// scale of one element, or of one axis' extent (axis), or of x's rank with x's extents divided by `block` along axis.
struct QuantizeAttrs {
  int64_t axis = 1;
  int64_t block = 0;  // 0: not blocked
  DType to = DType::u8;
  bool saturate = true;
};

struct DequantizeAttrs {  // DequantizeLinear(x, scale, zero_point?): (x - zero_point) * scale in `to`
  int64_t axis = 1;
  int64_t block = 0;
  DType to = DType::f32;
};

const Fields& fields_of(const CastAttrs*);
const Fields& fields_of(const BitCastAttrs*);
const Fields& fields_of(const QuantizeAttrs*);
const Fields& fields_of(const DequantizeAttrs*);
std::span<const char* const> enum_names(RoundMode);

}  // namespace sinter
