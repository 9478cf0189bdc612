#include "tensor/convert.h"

#include <fmt/core.h>

#include <charconv>
#include <cmath>

#include "base/checked.h"

namespace sinter {
namespace {

// Narrow formats: sign, exponent, mantissa; what the top exponent means differs.
struct Format {
  int exponent_bits, mantissa_bits, bias;
  enum Top : uint8_t { ieee, nan_all_ones, nan_negative_zero, no_specials } top;
  int bits() const { return 1 + exponent_bits + mantissa_bits; }
};

Format format_of(DType dtype) {
  switch (dtype) {
    case DType::f16: return {5, 10, 15, Format::ieee};
    case DType::bf16: return {8, 7, 127, Format::ieee};
    case DType::f8e4m3fn: return {4, 3, 7, Format::nan_all_ones};
    case DType::f8e4m3fnuz: return {4, 3, 8, Format::nan_negative_zero};
    case DType::f8e5m2: return {5, 2, 15, Format::ieee};
    case DType::f8e5m2fnuz: return {5, 2, 16, Format::nan_negative_zero};
    case DType::f4e2m1: return {2, 1, 1, Format::no_specials};
    default: throw Error(Code::internal, fmt::format("{} is no narrow float", dtype_name(dtype)));
  }
}

uint64_t largest_finite(const Format& f) {
  const uint64_t all = (uint64_t{1} << (f.exponent_bits + f.mantissa_bits)) - 1;
  if (f.top == Format::ieee) return all - (uint64_t{1} << f.mantissa_bits);
  return f.top == Format::nan_all_ones ? all - 1 : all;
}

uint64_t encode(const Format& f, double value, bool saturate) {
  const uint64_t sign = uint64_t{1} << (f.exponent_bits + f.mantissa_bits);
  const uint64_t all = sign - 1;
  if (std::isnan(value)) {
    // A type without NaN gives what the common tables give for it: negative zero.
    if (f.top == Format::nan_negative_zero || f.top == Format::no_specials) return sign;
    return f.top == Format::nan_all_ones ? all : all & ~((uint64_t{1} << (f.mantissa_bits - 1)) - 1);
  }
  const uint64_t s = std::signbit(value) ? sign : 0;
  const double magnitude = std::abs(value);
  const auto overflow = [&]() -> uint64_t {
    if (saturate || f.top == Format::no_specials) return s | largest_finite(f);
    if (f.top == Format::nan_negative_zero) return sign;
    return f.top == Format::nan_all_ones ? s | all : s | (all & ~((uint64_t{1} << f.mantissa_bits) - 1));
  };
  if (std::isinf(magnitude)) return overflow();
  int exponent;
  std::frexp(magnitude, &exponent);
  // Unit in the last place at this magnitude; subnormals share the smallest exponent's.
  const int unit = std::max(exponent - 1, 1 - f.bias) - f.mantissa_bits;
  const double scaled = std::nearbyint(std::ldexp(magnitude, -unit));
  const auto steps = static_cast<uint64_t>(scaled);
  if (steps == 0) return f.top == Format::nan_negative_zero ? 0 : s;
  // Steps count from the binade's start: adding the biased exponent carries into the next binade by itself.
  const uint64_t hidden = uint64_t{1} << f.mantissa_bits;
  const uint64_t biased = static_cast<uint64_t>(unit + f.mantissa_bits + f.bias);
  const uint64_t bits = steps >= hidden ? (biased << f.mantissa_bits) + (steps - hidden) : steps;
  if (bits > largest_finite(f)) return overflow();
  return s | bits;
}

double decode(const Format& f, uint64_t bits) {
  const uint64_t sign = uint64_t{1} << (f.exponent_bits + f.mantissa_bits);
  const uint64_t all = sign - 1;
  const uint64_t magnitude = bits & all;
  const bool negative = (bits & sign) != 0;
  if (f.top == Format::nan_negative_zero && bits == sign) return std::nan("");
  if (f.top == Format::nan_all_ones && magnitude == all) return std::nan("");
  if (f.top == Format::ieee && magnitude > largest_finite(f)) {
    if (magnitude != largest_finite(f) + 1) return std::nan("");
    return negative ? -INFINITY : INFINITY;
  }
  const auto exponent = static_cast<int>(magnitude >> f.mantissa_bits);
  const uint64_t mantissa = magnitude & ((uint64_t{1} << f.mantissa_bits) - 1);
  const double value = exponent == 0 ? std::ldexp(static_cast<double>(mantissa), 1 - f.bias - f.mantissa_bits)
                                     : std::ldexp(static_cast<double>(mantissa + (uint64_t{1} << f.mantissa_bits)),
                                                  exponent - f.bias - f.mantissa_bits);
  return negative ? -value : value;
}

std::string text_of(const Tensor& t, int64_t i) {
  if (t.dtype() == DType::boolean) return t.get_integer(i) ? "True" : "False";
  if (is_float(t.dtype())) {
    const double v = t.get_real(i);
    if (std::isnan(v)) return "NaN";
    if (std::isinf(v)) return v < 0 ? "-INF" : "INF";
    char buffer[40];
    const auto r = t.dtype() == DType::f64 ? std::to_chars(buffer, buffer + sizeof buffer, v)
                                           : std::to_chars(buffer, buffer + sizeof buffer, static_cast<float>(v));
    return std::string(buffer, r.ptr);
  }
  if (t.dtype() == DType::u64) return std::to_string(static_cast<uint64_t>(t.get_integer(i)));
  return std::to_string(t.get_integer(i));
}

double number_of(const std::string& text) {
  const char* end = nullptr;
  char* stop = nullptr;
  const double v = std::strtod(text.c_str(), &stop);
  end = stop;
  while (end && *end == ' ') ++end;
  if (text.empty() || stop == text.c_str() || *end != '\0')
    throw Error(Code::fault, fmt::format("Cast: \"{}\" is no number", text.substr(0, 64)));
  return v;
}

}  // namespace

float half_to_float(uint16_t bits) { return static_cast<float>(decode(format_of(DType::f16), bits)); }

uint16_t float_to_half(float value) {
  return static_cast<uint16_t>(encode(format_of(DType::f16), static_cast<double>(value), false));
}

uint16_t float_to_bfloat(float value) {
  uint32_t u;
  __builtin_memcpy(&u, &value, 4);
  if ((u & 0x7fffffff) > 0x7f800000) return static_cast<uint16_t>((u >> 16) | 0x40);
  return static_cast<uint16_t>((u + 0x7fff + ((u >> 16) & 1)) >> 16);
}

double decode_float(DType dtype, uint64_t bits) {
  if (dtype == DType::f64) {
    double v;
    __builtin_memcpy(&v, &bits, 8);
    return v;
  }
  if (dtype == DType::f32) {
    const auto u = static_cast<uint32_t>(bits);
    float v;
    __builtin_memcpy(&v, &u, 4);
    return static_cast<double>(v);
  }
  if (dtype == DType::f8e8m0) return bits == 0xff ? std::nan("") : std::ldexp(1.0, static_cast<int>(bits) - 127);
  return decode(format_of(dtype), bits);
}

uint64_t encode_float(DType dtype, double value, bool saturate) {
  if (dtype == DType::f64) {
    uint64_t bits;
    __builtin_memcpy(&bits, &value, 8);
    return bits;
  }
  if (dtype == DType::f32) {
    const auto v = static_cast<float>(value);
    uint32_t bits;
    __builtin_memcpy(&bits, &v, 4);
    return bits;
  }
  if (dtype == DType::f8e8m0) return float_to_e8m0(value, RoundMode::nearest, saturate);
  const Format f = format_of(dtype);
  return encode(f, value, saturate && f.bits() <= 8);
}

uint8_t float_to_e8m0(double value, RoundMode mode, bool saturate) {
  if (std::isnan(value) || (std::isinf(value) && !saturate)) return 0xff;
  const double magnitude = std::abs(value);
  if (magnitude == 0) return saturate ? 0 : 0xff;
  if (std::isinf(magnitude)) return 0xfe;
  int exponent;
  const double fraction = std::frexp(magnitude, &exponent);  // in [0.5, 1)
  int power = exponent - 1;
  if (mode == RoundMode::up && fraction > 0.5) ++power;
  if (mode == RoundMode::nearest && fraction >= 0.75) ++power;
  if (power > 127) return saturate ? 0xfe : 0xff;
  if (power < -127) return saturate ? 0 : 0xff;
  return static_cast<uint8_t>(power + 127);
}

Tensor cast(const Tensor& source, DType to, bool saturate, RoundMode mode) {
  if (source.dtype() == to) return source;
  Tensor out(to, source.dims());
  const int64_t n = source.count();
  if (to == DType::string) {
    for (int64_t i = 0; i < n; ++i) out.strings()[static_cast<size_t>(i)] = text_of(source, i);
    return out;
  }
  if (source.dtype() == DType::string) {
    for (int64_t i = 0; i < n; ++i) {
      const std::string& text = source.strings()[static_cast<size_t>(i)];
      int64_t integer = 0;
      const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), integer);
      if (is_integer(to) && error == std::errc() && end == text.data() + text.size())
        out.set_integer(i, integer);
      else
        out.set_real(i, number_of(text));
    }
    return out;
  }
  if (to == DType::f8e8m0) {
    for (int64_t i = 0; i < n; ++i) out.as_mutable<uint8_t>()[i] = float_to_e8m0(source.get_real(i), mode, saturate);
    return out;
  }
  if (source.dtype() == DType::f32 && to == DType::f64) {
    for (int64_t i = 0; i < n; ++i) out.as_mutable<double>()[i] = static_cast<double>(source.as<float>()[i]);
    return out;
  }
  if (is_float(to)) {
    if (saturate || bit_size(to) > 8 || bit_size(to) < 8) {
      for (int64_t i = 0; i < n; ++i) out.set_real(i, source.get_real(i));
    } else {
      for (int64_t i = 0; i < n; ++i)
        out.as_mutable<uint8_t>()[i] = static_cast<uint8_t>(encode_float(to, source.get_real(i), false));
    }
    return out;
  }
  if (is_complex(to) || is_float(source.dtype()) || is_complex(source.dtype())) {
    for (int64_t i = 0; i < n; ++i) {
      out.set_real(i, source.get_real(i));
    }
    return out;
  }
  for (int64_t i = 0; i < n; ++i) out.set_integer(i, source.get_integer(i));
  return out;
}

}  // namespace sinter
