#include "tensor/dtype.h"

#include <array>

#include "base/checked.h"

namespace sinter {
namespace {

struct Info {
  const char* name;
  int bits;
  enum Kind : uint8_t { other, integer, real } kind;
  bool is_signed;
};

constexpr Info table[dtype_count] = {
    {"bool", 8, Info::other, false},     {"u8", 8, Info::integer, false},     {"i8", 8, Info::integer, true},
    {"u16", 16, Info::integer, false},   {"i16", 16, Info::integer, true},    {"u32", 32, Info::integer, false},
    {"i32", 32, Info::integer, true},    {"u64", 64, Info::integer, false},   {"i64", 64, Info::integer, true},
    {"f16", 16, Info::real, true},       {"bf16", 16, Info::real, true},      {"f32", 32, Info::real, true},
    {"f64", 64, Info::real, true},       {"c64", 64, Info::other, true},      {"c128", 128, Info::other, true},
    {"f8e4m3fn", 8, Info::real, true},   {"f8e4m3fnuz", 8, Info::real, true}, {"f8e5m2", 8, Info::real, true},
    {"f8e5m2fnuz", 8, Info::real, true}, {"f8e8m0", 8, Info::real, false},    {"f4e2m1", 4, Info::real, true},
    {"u4", 4, Info::integer, false},     {"i4", 4, Info::integer, true},      {"u2", 2, Info::integer, false},
    {"i2", 2, Info::integer, true},      {"string", 0, Info::other, false},
};

const Info& info(DType d) { return table[static_cast<int>(d)]; }

}  // namespace

const char* dtype_name(DType dtype) { return info(dtype).name; }

std::span<const char* const> enum_names(DType) {
  static const auto names = [] {
    std::array<const char*, dtype_count> list{};
    for (int i = 0; i < dtype_count; ++i) list[static_cast<size_t>(i)] = table[i].name;
    return list;
  }();
  return names;
}

std::optional<DType> dtype_from_name(std::string_view name) {
  for (int i = 0; i < dtype_count; ++i)
    if (name == table[i].name) return static_cast<DType>(i);
  return std::nullopt;
}

int bit_size(DType dtype) { return info(dtype).bits; }
bool is_float(DType dtype) { return info(dtype).kind == Info::real; }
bool is_integer(DType dtype) { return info(dtype).kind == Info::integer; }
bool is_signed(DType dtype) { return info(dtype).is_signed; }

int64_t byte_size(DType dtype, int64_t n) {
  return checked_add(checked_mul(n, bit_size(dtype), "tensor bits"), 7, "tensor bits") / 8;
}

}  // namespace sinter
