#include "base/checked.h"

#include <fmt/core.h>

namespace sinter {

void throw_overflow(const char* what) {
  throw Error(Code::limit, fmt::format("{} does not fit 64 bits or its type", what));
}

int64_t to_integer(double value, int64_t low, int64_t high, const char* what) {
  // The largest bound rounds up to 2^63, which no longer fits.
  if (!(value >= static_cast<double>(low) && value <= static_cast<double>(high) && value < 9223372036854775808.0))
    throw Error(Code::limit, fmt::format("{} is {}, outside [{}, {}]", what, value, low, high));
  return static_cast<int64_t>(value);
}

int64_t element_count(std::span<const int64_t> dims) {
  if (dims.size() > max_rank) throw Error(Code::limit, fmt::format("rank {} exceeds {}", dims.size(), max_rank));
  bool zero = false;
  for (int64_t d : dims) {
    if (d < 0) throw Error(Code::invalid_argument, fmt::format("negative extent {}", d));
    zero = zero || d == 0;
  }
  if (zero) return 0;
  int64_t n = 1;
  for (int64_t d : dims) {
    n = checked_mul(n, d, "element count");
    if (n > max_elements) throw Error(Code::limit, fmt::format("tensor of more than 2^40 elements"));
  }
  return n;
}

}  // namespace sinter
