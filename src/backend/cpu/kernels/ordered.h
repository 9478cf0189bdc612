// Element types as numbers that order them: by_number calls with the C++ type of a dtype, sort_key gives what sorts as
// the elements do (NaN above all and equal to itself, -0 as 0). Sorting and selecting rows share them.
#pragma once

#include <cstdint>
#include <cstring>
#include <type_traits>

#include "tensor/dtype.h"

namespace sinter::cpu {

struct Half {
  uint16_t bits;
};
struct Brain {
  uint16_t bits;
};

inline int64_t sort_key(float v) {
  if (v != v) return INT32_MAX;
  if (v == 0) return 0;
  int32_t bits;
  std::memcpy(&bits, &v, 4);
  return bits >= 0 ? bits : bits ^ INT32_MAX;
}
inline int64_t sort_key(double v) {
  if (v != v) return INT64_MAX;
  if (v == 0) return 0;
  int64_t bits;
  std::memcpy(&bits, &v, 8);
  return bits >= 0 ? bits : bits ^ INT64_MAX;
}
template <typename T>
requires std::is_integral_v<T>
inline int64_t sort_key(T v) {
  if constexpr (std::is_same_v<T, uint64_t>)
    return static_cast<int64_t>(v ^ (uint64_t{1} << 63));
  else
    return static_cast<int64_t>(v);
}
// Sign and magnitude; infinity is the largest magnitude that is a number.
inline int64_t sort_key_of_half(uint16_t bits, int64_t infinity) {
  const int64_t magnitude = bits & 0x7fff;
  if (magnitude > infinity) return INT32_MAX;
  return bits >> 15 ? -magnitude : magnitude;
}
inline int64_t sort_key(Half v) { return sort_key_of_half(v.bits, 0x7c00); }
inline int64_t sort_key(Brain v) { return sort_key_of_half(v.bits, 0x7f80); }

inline bool is_number(DType dtype) {
  switch (dtype) {
    case DType::f32:
    case DType::f64:
    case DType::f16:
    case DType::bf16:
    case DType::i8:
    case DType::u8:
    case DType::i16:
    case DType::u16:
    case DType::i32:
    case DType::u32:
    case DType::i64:
    case DType::u64: return true;
    default: return false;
  }
}

// Calls go(zero) with a number of this dtype; the dtype is one of the above, or bool, whose bytes are 0 and 1.
template <typename F>
void by_number(DType dtype, F go) {
  switch (dtype) {
    case DType::f32: return go(float{});
    case DType::f64: return go(double{});
    case DType::f16: return go(Half{});
    case DType::bf16: return go(Brain{});
    case DType::i8: return go(int8_t{});
    case DType::boolean:
    case DType::u8: return go(uint8_t{});
    case DType::i16: return go(int16_t{});
    case DType::u16: return go(uint16_t{});
    case DType::i32: return go(int32_t{});
    case DType::u32: return go(uint32_t{});
    case DType::u64: return go(uint64_t{});
    default: return go(int64_t{});
  }
}

}  // namespace sinter::cpu
