// How outputs are compared with the stored ones: the suite's own tolerance, and a stricter rule reported beside it.
//
// Official: |x - y| <= atol + rtol * |y|. Strict: integers, booleans and strings are equal; fp32, complex numbers of it
// and fp64 are within 16 units in fp32's last place or within 1e-6 of the output's range; narrower floats have the
// official rule alone.
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>
#include <sstream>
#include <string>

#include "suite_cases.h"
#include "tensor/tensor.h"

namespace suite {

struct Verdict {
  std::string why;      // it does not pass; empty: it does
  std::string outside;  // of the strict rule; empty: it is inside
};

inline double element(const sinter::Tensor& t, int64_t i) {
  using sinter::DType;
  if (t.dtype() == DType::c64) return t.as<float>()[i];
  if (t.dtype() == DType::c128) return t.as<double>()[i];
  if (t.dtype() == DType::u64) return static_cast<double>(static_cast<uint64_t>(t.get_integer(i)));
  return sinter::is_float(t.dtype()) ? t.get_real(i) : static_cast<double>(t.get_integer(i));
}

inline double last_place(double y) {
  int exponent = 0;
  std::frexp(y, &exponent);
  return std::ldexp(1.0, std::max(exponent, -125) - 24);
}

inline void compare_numbers(const sinter::Tensor& a, const sinter::Tensor& b, const Case& c, Verdict& verdict) {
  using sinter::DType;
  const bool complex = sinter::is_complex(a.dtype());
  const bool wide = complex || a.dtype() == DType::f32 || a.dtype() == DType::f64;
  const bool exact = !complex && !sinter::is_float(a.dtype());
  const int64_t count = a.count() * (complex ? 2 : 1);
  double low = std::numeric_limits<double>::infinity(), high = -low;
  for (int64_t i = 0; i < count; ++i)
    if (const double y = element(b, i); std::isfinite(y)) {
      low = std::min(low, y);
      high = std::max(high, y);
    }
  const double near = high > low ? 1e-6 * (high - low) : 0;
  for (int64_t i = 0; i < count; ++i) {
    const double x = element(a, i), y = element(b, i);
    const bool whole_equal = !exact || a.get_integer(i) == b.get_integer(i);
    if ((x == y && whole_equal) || (std::isnan(x) && std::isnan(y))) continue;
    const double away = std::abs(x - y);
    const auto text = [&] {
      std::ostringstream out;
      out.precision(9);
      out << "element " << i << " is " << x << ", not " << y;
      return out.str();
    };
    if (!(away <= c.atol + c.rtol * std::abs(y))) {
      verdict.why = text();
      return;
    }
    if (verdict.outside.empty() && (exact || (wide && !(away <= near || away <= 16 * last_place(y)))))
      verdict.outside = text();
  }
}

inline void compare(const sinter::Box& got, const sinter::Box& wanted, const Case& c, Verdict& verdict) {
  using sinter::Box;
  if (got.kind != wanted.kind) {
    verdict.why = "another kind of value";
    return;
  }
  if (got.kind == Box::Kind::none) return;
  if (got.kind == Box::Kind::sequence) {
    if (got.items.size() != wanted.items.size())
      verdict.why =
          "a sequence of " + std::to_string(got.items.size()) + ", not " + std::to_string(wanted.items.size());
    for (size_t i = 0; verdict.why.empty() && i < got.items.size(); ++i)
      compare(got.items[i], wanted.items[i], c, verdict);
    return;
  }
  const sinter::Tensor &a = got.tensor, &b = wanted.tensor;
  if (a.dtype() != b.dtype() || a.dims() != b.dims()) {
    verdict.why = sinter::type_text(a) + ", not " + sinter::type_text(b);
  } else if (a.dtype() == sinter::DType::string) {
    for (size_t i = 0; i < a.strings().size() && verdict.why.empty(); ++i)
      if (a.strings()[i] != b.strings()[i]) verdict.why = "'" + a.strings()[i] + "', not '" + b.strings()[i] + "'";
  } else {
    compare_numbers(a, b, c, verdict);
  }
}

}  // namespace suite
