// Element types, down to 2-bit integers and 4-bit floats.
//
// Sub-byte elements are packed low bits first, rows not padded, as ONNX packs them. Strings are held as std::string
// objects and have no byte size.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

namespace sinter {

enum class DType : uint8_t {
  boolean,
  u8,
  i8,
  u16,
  i16,
  u32,
  i32,
  u64,
  i64,
  f16,
  bf16,
  f32,
  f64,
  c64,
  c128,
  f8e4m3fn,
  f8e4m3fnuz,
  f8e5m2,
  f8e5m2fnuz,
  f8e8m0,
  f4e2m1,
  u4,
  i4,
  u2,
  i2,
  string,
};
constexpr int dtype_count = 26;

const char* dtype_name(DType dtype);  // "f32", "bool", ...
std::optional<DType> dtype_from_name(std::string_view name);
std::span<const char* const> enum_names(DType);  // for attributes that hold a dtype
int bit_size(DType dtype);                       // 0 for string
bool is_float(DType dtype);                      // real floating point, fp8 and fp4 included
bool is_integer(DType dtype);                    // signed or unsigned, not bool
bool is_signed(DType dtype);                     // signed integers and floats
inline bool is_byte(DType d) { return d == DType::u8 || d == DType::i8; }
inline bool is_complex(DType d) { return d == DType::c64 || d == DType::c128; }
inline bool is_sub_byte(DType d) {
  const int b = bit_size(d);
  return b > 0 && b < 8;
}
// Bytes of n elements (n >= 0), rounded up; checked. Strings: 0.
int64_t byte_size(DType dtype, int64_t n);

}  // namespace sinter
