// Checked 64-bit arithmetic for sizes that come from files or users.
//
// Every function throws Error(Code::limit) that names the quantity when the result does not fit. Sizes of untrusted
// origin are never combined with plain operators outside this file.
#pragma once

#include <cstdint>
#include <limits>
#include <span>
#include <type_traits>

#include "base/error.h"

namespace sinter {

[[noreturn]] void throw_overflow(const char* what);

constexpr int64_t max_elements = int64_t{1} << 40;
constexpr size_t max_rank = 64;            // of tensors in files
constexpr size_t max_rank_of_values = 16;  // of tensors that are computed with

inline int64_t checked_add(int64_t a, int64_t b, const char* what = "size") {
  int64_t r;
  if (__builtin_add_overflow(a, b, &r)) throw_overflow(what);
  return r;
}

inline int64_t checked_sub(int64_t a, int64_t b, const char* what = "size") {
  int64_t r;
  if (__builtin_sub_overflow(a, b, &r)) throw_overflow(what);
  return r;
}

inline int64_t checked_mul(int64_t a, int64_t b, const char* what = "size") {
  int64_t r;
  if (__builtin_mul_overflow(a, b, &r)) throw_overflow(what);
  return r;
}

inline int64_t align_up(int64_t value, int64_t alignment, const char* what = "size") {
  return checked_mul(checked_add(value, alignment - 1, what) / alignment, alignment, what);
}

template <typename To, typename From>
To narrow(From value, const char* what = "number") {
  static_assert(std::is_integral_v<To> && std::is_integral_v<From>);
  const To result = static_cast<To>(value);
  if (static_cast<From>(result) != value || ((result < To{}) != (value < From{}))) throw_overflow(what);
  return result;
}

// Range-tested conversion; NaN and values outside [low, high] are errors.
int64_t to_integer(double value, int64_t low, int64_t high, const char* what = "number");

// Product of extents: each must be >= 0 and the product at most max_elements (0 if any extent is 0).
int64_t element_count(std::span<const int64_t> dims);

}  // namespace sinter
