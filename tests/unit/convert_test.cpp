// Conversions: all patterns of the narrow formats, judged by arithmetic that does not use the code under test.

#include "tensor/convert.h"

#include <gtest/gtest.h>

#include <cmath>
#include <random>
#include <vector>

#include "base/error.h"

namespace sinter {
namespace {

constexpr DType narrow_floats[] = {DType::f16,    DType::bf16,       DType::f8e4m3fn, DType::f8e4m3fnuz,
                                   DType::f8e5m2, DType::f8e5m2fnuz, DType::f8e8m0,   DType::f4e2m1};

uint64_t patterns(DType dtype) { return uint64_t{1} << bit_size(dtype); }

TEST(Convert, EveryPatternSurvives) {
  for (const DType dtype : narrow_floats) {
    for (uint64_t bits = 0; bits < patterns(dtype); ++bits) {
      const double v = decode_float(dtype, bits);
      for (const bool saturate : {false, true}) {
        if (std::isinf(v) && saturate && bit_size(dtype) <= 8) continue;  // becomes the largest finite value
        const uint64_t back = encode_float(dtype, v, saturate);
        if (std::isnan(v))
          ASSERT_TRUE(std::isnan(decode_float(dtype, back))) << dtype_name(dtype) << " " << bits;
        else
          ASSERT_EQ(back, bits) << dtype_name(dtype) << " " << v;
      }
    }
  }
}

TEST(Convert, RoundsToNearestEven) {
  for (const DType dtype : narrow_floats) {
    if (dtype == DType::f8e8m0) continue;  // has its own rounding modes
    // Neighbouring positive patterns: at every point between them the nearer one, and half way the even one.
    for (uint64_t bits = 0; bits + 1 < patterns(dtype) / 2; ++bits) {
      const double low = decode_float(dtype, bits), high = decode_float(dtype, bits + 1);
      if (!std::isfinite(low) || !std::isfinite(high)) continue;
      ASSERT_LT(low, high) << dtype_name(dtype) << " " << bits;
      const double middle = low + (high - low) / 2;
      ASSERT_EQ(encode_float(dtype, middle), bits % 2 == 0 ? bits : bits + 1) << dtype_name(dtype) << " " << middle;
      ASSERT_EQ(encode_float(dtype, std::nextafter(middle, low)), bits);
      ASSERT_EQ(encode_float(dtype, std::nextafter(middle, high)), bits + 1);
      const double negative = decode_float(dtype, encode_float(dtype, -middle));
      ASSERT_EQ(negative, -decode_float(dtype, encode_float(dtype, middle)));
    }
  }
}

TEST(Convert, KnownValues) {
  EXPECT_EQ(float_to_half(1.0f), 0x3c00);
  EXPECT_EQ(float_to_half(65504.0f), 0x7bff);
  EXPECT_EQ(float_to_half(65520.0f), 0x7c00);
  EXPECT_EQ(float_to_half(-0.0f), 0x8000);
  EXPECT_EQ(half_to_float(0x0001), std::ldexp(1.0f, -24));
  EXPECT_EQ(float_to_bfloat(1.0f), 0x3f80);
  EXPECT_EQ(float_to_bfloat(1.00390625f), 0x3f80);  // half way, to even
  EXPECT_EQ(float_to_bfloat(1.01171875f), 0x3f82);
  EXPECT_EQ(float_to_bfloat(3.4e38f), 0x7f80);
  EXPECT_EQ(decode_float(DType::f8e4m3fn, 0x7e), 448);
  EXPECT_EQ(decode_float(DType::f8e4m3fnuz, 0x7f), 240);
  EXPECT_EQ(decode_float(DType::f8e5m2, 0x7b), 57344);
  EXPECT_EQ(decode_float(DType::f8e5m2fnuz, 0x7f), 57344);
  EXPECT_EQ(decode_float(DType::f4e2m1, 7), 6);
  EXPECT_EQ(decode_float(DType::f8e8m0, 127), 1);
  EXPECT_TRUE(std::isnan(decode_float(DType::f8e4m3fn, 0x7f)));
  EXPECT_TRUE(std::isnan(decode_float(DType::f8e4m3fnuz, 0x80)));
  EXPECT_TRUE(std::isnan(decode_float(DType::f8e8m0, 0xff)));
}

TEST(Convert, BfloatAgreesWithTheGeneralRule) {
  std::mt19937 random(1);
  for (int n = 0; n < 200000; ++n) {
    const auto bits = static_cast<uint32_t>(random());
    float v;
    __builtin_memcpy(&v, &bits, 4);
    if (std::isnan(v)) {
      ASSERT_TRUE(std::isnan(bfloat_to_float(float_to_bfloat(v))));
      continue;
    }
    ASSERT_EQ(float_to_bfloat(v), encode_float(DType::bf16, static_cast<double>(v), false)) << v;
    ASSERT_EQ(float_to_half(v), encode_float(DType::f16, static_cast<double>(v), false)) << v;
  }
}

TEST(Convert, SaturationAndOverflow) {
  for (const double v : {1e9, static_cast<double>(INFINITY)}) {
    EXPECT_EQ(decode_float(DType::f8e4m3fn, encode_float(DType::f8e4m3fn, v, true)), 448);
    EXPECT_EQ(decode_float(DType::f8e4m3fn, encode_float(DType::f8e4m3fn, -v, true)), -448);
    EXPECT_TRUE(std::isnan(decode_float(DType::f8e4m3fn, encode_float(DType::f8e4m3fn, v, false))));
    EXPECT_TRUE(std::isnan(decode_float(DType::f8e5m2fnuz, encode_float(DType::f8e5m2fnuz, -v, false))));
    EXPECT_EQ(decode_float(DType::f8e5m2, encode_float(DType::f8e5m2, v, false)), INFINITY);
    EXPECT_EQ(decode_float(DType::f16, encode_float(DType::f16, -v, true)), -INFINITY);
  }
}

TEST(Convert, SubByteElementsArePackedLowBitsFirst) {
  for (const DType dtype : {DType::u4, DType::i4, DType::u2, DType::i2}) {
    const int bits = bit_size(dtype);
    Tensor t(dtype, {9});
    for (int64_t i = 0; i < 9; ++i) t.set_integer(i, i);
    EXPECT_EQ(t.bytes(), (9 * bits + 7) / 8);
    for (int64_t i = 0; i < 9; ++i) {
      const int64_t low = i & ((1 << bits) - 1);
      const int64_t expected = is_signed(dtype) && low >> (bits - 1) ? low - (1 << bits) : low;
      EXPECT_EQ(t.get_integer(i), expected) << dtype_name(dtype) << " " << i;
      const int byte = t.as<uint8_t>()[i * bits / 8];
      EXPECT_EQ(byte >> (i * bits % 8) & ((1 << bits) - 1), low);
    }
  }
}

TEST(Convert, IntegersWrapAndKeepSigns) {
  const DType integers[] = {DType::u8,  DType::i8,  DType::u16, DType::i16,
                            DType::u32, DType::i32, DType::u64, DType::i64};
  for (const DType dtype : integers) {
    Tensor t(dtype, {1});
    t.set_integer(0, -1);
    const int bits = bit_size(dtype);
    const int64_t expected = is_signed(dtype) || bits == 64 ? -1 : (int64_t{1} << bits) - 1;
    EXPECT_EQ(t.get_integer(0), expected) << dtype_name(dtype);
  }
  Tensor big(DType::u64, {1});
  big.set_integer(0, -1);
  EXPECT_EQ(big.get_real(0), 18446744073709551616.0);
  big.set_real(0, 1.8e19);
  EXPECT_EQ(static_cast<uint64_t>(big.get_integer(0)), 18000000000000000000u);
}

TEST(Convert, CastOfArrays) {
  Tensor x(DType::f64, {4});
  const double values[] = {1e300, -2.5, NAN, 0.1};
  for (int64_t i = 0; i < 4; ++i) x.set_real(i, values[i]);
  const Tensor f = cast(x, DType::f32);
  EXPECT_EQ(f.as<float>()[0], INFINITY);
  EXPECT_EQ(f.as<float>()[3], 0.1f);
  const Tensor i = cast(x, DType::i64);
  EXPECT_EQ(i.get_integer(1), -2);
  EXPECT_EQ(i.get_integer(2), 0);
  const Tensor b = cast(x, DType::boolean);
  EXPECT_EQ(b.to_integers(), (std::vector<int64_t>{1, 1, 1, 1}));
  Tensor text(DType::string, {1});
  text.strings()[0] = "9223372036854775807";
  EXPECT_EQ(cast(text, DType::i64).get_integer(0), INT64_MAX);
  for (const char* bad : {"", "x", "1 2", "1e"}) {
    text.strings()[0] = bad;
    EXPECT_THROW(cast(text, DType::f32), Error) << bad;
  }
}

}  // namespace
}  // namespace sinter
