// Products of f32 over planes of bf16 and over weights of 16 bits on adversarial operands: any magnitude, special
// values, numbers that bf16 holds.
#include <cmath>
#include <cstring>
#include <limits>
#include <memory>
#include <random>

#include "amx_emulator.h"
#include "backend/cpu/device.h"
#include "backend/cpu/isa/contract.h"
#include "op_testing.h"
#include "tensor/convert.h"
#include "tensor/layout.h"

namespace sinter {
namespace {

using namespace cpu;

constexpr float infinite = std::numeric_limits<float>::infinity();
constexpr float largest = std::numeric_limits<float>::max();

struct Release {
  void operator()(void* p) const { std::free(p); }
};
template <typename T>
std::unique_ptr<T, Release> aligned(int64_t bytes) {
  return std::unique_ptr<T, Release>(
      static_cast<T*>(std::aligned_alloc(64, static_cast<size_t>(bytes + 127) / 64 * 64)));
}

struct Matrices {
  int64_t m, n, k;
  std::vector<float> a, b;
  float& at_a(int64_t r, int64_t i) { return a[static_cast<size_t>(r * k + i)]; }
  float& at_b(int64_t i, int64_t c) { return b[static_cast<size_t>(i * n + c)]; }
};

Matrices filled(int64_t m, int64_t n, int64_t k, float value) {
  return {m, n, k, std::vector<float>(static_cast<size_t>(m * k), value),
          std::vector<float>(static_cast<size_t>(k * n), value)};
}

std::vector<float> product_of(const ContractTable& table, const Matrices& x) {
  const int nr = table.panel_width(x.n);
  const auto packed = aligned<float>(table.packed_size(1, x.k, x.n, nr, 1) * 4);
  PackArgs pack;
  pack.src = x.b.data();
  pack.k_stride = x.n;
  pack.n_stride = 1;
  pack.taps = 1;
  pack.k = x.k;
  pack.n = x.n;
  pack.nr = nr;
  table.pack_b(pack, 0, x.n, packed.get());
  std::vector<float> c(static_cast<size_t>(x.m * x.n), -1);
  ContractArgs args;
  args.m = x.m;
  args.n = x.n;
  args.k = x.k;
  args.a = x.a.data();
  args.lda = x.k;
  args.b = packed.get();
  args.nr = nr;
  args.c = c.data();
  args.ldc = x.n;
  const auto scratch = aligned<char>(table.scratch_size(args, x.m, x.n));
  table.chunk(args, 0, x.m, 0, x.n, scratch.get());
  return c;
}

// Largest part of sum |a| |b| that a class may be off by. A plane leaves 2^-8 of what it is to hold: one of each
// operand 2^-7 in all; two leave 2^-17 of each, and their second ones are not multiplied, 2^-16. Those in bf16 are off
// by 2^-8 and in f16 by 2^-11, weights alone or all. Sums of f32 round.
double allowed(PanelNumbers numbers) {
  switch (numbers) {
    case PanelNumbers::planes1: return 8.0e-3;
    case PanelNumbers::planes2: return 3.1e-5;
    case PanelNumbers::bf16: return 4.0e-3;
    case PanelNumbers::f16: return 5.0e-4;
    case PanelNumbers::f16_plane: return 1.0e-3;
    default: return 2.0e-6;
  }
}

struct Unit {
  Level level;
  PanelNumbers numbers;
};

class Planes : public ::testing::TestWithParam<Unit> {
 protected:
  void SetUp() override {
    if (testing::machine_with_tiles().level < GetParam().level) GTEST_SKIP() << "this machine lacks the level";
    DeviceSpec device = testing::machine_with_tiles();
    device.level = GetParam().level;
    table = contract_table(device, numbers);
    if (numbers == PanelNumbers::f16_plane && (device.features & feature_amx_fp16) == 0)
      GTEST_SKIP() << "the tiles of this machine do not multiply f16";
    ASSERT_NE(table, nullptr);
  }
  const PanelNumbers numbers = GetParam().numbers;
  const bool halves = numbers == PanelNumbers::f16 || numbers == PanelNumbers::f16_plane;
  const ContractTable* table = nullptr;
};

// Exponents of operands, every one as likely as another, so that sums have terms of all magnitudes.
struct Magnitudes {
  int a_low, a_high, b_low, b_high;
};

constexpr Magnitudes magnitudes[] = {
    {0, 0, 0, 0},           {-6, 5, -6, 5},         {-20, 19, -20, 19},
    {-50, 49, -50, 49},     {-149, 127, -149, -10},  // everything there is
    {-149, -10, -149, 127},                          // the other way round
    {127, 127, -30, -10},   {126, 127, -149, -120},  // near the largest number
    {-149, -127, -3, 100},  {-3, 100, -149, -127},   // denormals
    {-130, -118, -8, 8},    {-70, -55, -70, -55},    // products that are denormal
};

// What docs/precision.md says of rounding, of denormals and of the largest numbers.
TEST_P(Planes, AnyMagnitude) {
  std::mt19937_64 random(7);
  std::uniform_real_distribution<double> mantissa(1, 2);
  // Denormals of bf16 are zeros, so an operand's planes lose that much, and so does each of their products.
  constexpr double smallest = 0x1p-126;
  const int planes = plane_count(numbers);
  const double products = planes * (planes + 1) / 2 + 1;
  const bool one_bf16 = numbers == PanelNumbers::planes1 || numbers == PanelNumbers::bf16;
  for (const Magnitudes& range : magnitudes)
    for (const int64_t k : {1, 31, 33, 200}) {
      if (halves && std::min(range.a_low, range.b_low) < -14) continue;  // beyond what f16 holds
      if (halves && std::max(range.a_high, range.b_high) > 14) continue;
      Matrices x = filled(19, 37, k, 0);
      const auto draw = [&](int low, int high) {
        if (one_bf16) high = std::min(high, 126);  // what is larger rounds to infinity
        low = std::min(low, high);
        const int exponent = low + static_cast<int>(random() % static_cast<uint64_t>(high - low + 1));
        const double value = std::ldexp(mantissa(random), exponent);
        return static_cast<float>(std::min<double>(value, largest) * (random() % 2 ? 1 : -1));
      };
      for (float& v : x.a) v = draw(range.a_low, range.a_high);
      for (float& v : x.b) v = draw(range.b_low, range.b_high);
      const std::vector<float> made = product_of(*table, x);
      for (int64_t r = 0; r < x.m; ++r)
        for (int64_t c = 0; c < x.n; ++c) {
          double sum = 0, size = 0, lost = 0;
          for (int64_t i = 0; i < k; ++i) {
            const double a = static_cast<double>(x.at_a(r, i)), b = static_cast<double>(x.at_b(i, c));
            sum += a * b;
            size += std::abs(a * b);
            lost += smallest * (std::abs(a) + std::abs(b) + products);
          }
          ASSERT_LT(size, static_cast<double>(largest) * 0.99) << "the test asks for more than f32 holds";
          ASSERT_LE(std::abs(made[static_cast<size_t>(r * x.n + c)] - sum), allowed(numbers) * size + lost)
              << "exponents " << range.a_low << " to " << range.a_high << ", " << range.b_low << " to " << range.b_high
              << ", k " << k << ", element " << r << ", " << c;
        }
    }
}

// Numbers that one plane holds are multiplied exactly in every class.
TEST_P(Planes, WhatBf16HoldsIsExact) {
  std::mt19937 random(3);
  for (const int64_t m : {1, 2, 15, 16, 17, 31, 33, 49, 50, 64, 65, 97, 200, 270}) {
    Matrices x = filled(m, 49, 64, 0);
    for (float& v : x.a) v = static_cast<float>(static_cast<int>(random() % 255) - 127);
    for (float& v : x.b) v = static_cast<float>(static_cast<int>(random() % 255) - 127);
    const std::vector<float> made = product_of(*table, x);
    for (int64_t r = 0; r < x.m; ++r)
      for (int64_t c = 0; c < x.n; ++c) {
        float sum = 0;
        for (int64_t i = 0; i < x.k; ++i) sum += x.at_a(r, i) * x.at_b(i, c);
        ASSERT_EQ(made[static_cast<size_t>(r * x.n + c)], sum) << m << " rows, element " << r << ", " << c;
      }
  }
}

TEST_P(Planes, InfinitiesAreWhatF32Says) {
  for (const float other : {1.0f, -0.5f, 1.1f, 3e36f}) {
    if (halves && other > 65504) continue;
    Matrices x = filled(20, 40, 50, 0.25f);
    x.at_a(3, 7) = infinite;
    x.at_a(4, 49) = -infinite;
    for (float& v : x.b) v = other;
    x.at_b(7, 5) = 0;
    const std::vector<float> made = product_of(*table, x);
    const float sign = other > 0 ? 1.0f : -1.0f;
    EXPECT_EQ(made[3 * 40 + 4], sign * infinite);
    EXPECT_TRUE(std::isnan(made[3 * 40 + 5])) << "infinity times 0";
    EXPECT_EQ(made[4 * 40 + 4], -sign * infinite);
    EXPECT_TRUE(std::isfinite(made[5 * 40 + 4]));
  }
  Matrices x = filled(20, 40, 50, 0.25f);
  x.at_b(7, 30) = infinite;
  const std::vector<float> made = product_of(*table, x);
  EXPECT_EQ(made[30], infinite);
  EXPECT_EQ(made[29], 0.25f * 0.25f * 50);
}

TEST_P(Planes, NanStaysInItsRow) {
  Matrices x = filled(20, 40, 50, 0.5f);
  x.at_a(6, 1) = std::numeric_limits<float>::quiet_NaN();
  const std::vector<float> made = product_of(*table, x);
  for (int64_t c = 0; c < x.n; ++c) {
    EXPECT_TRUE(std::isnan(made[static_cast<size_t>(6 * 40 + c)]));
    EXPECT_EQ(made[static_cast<size_t>(7 * 40 + c)], 12.5f);
  }
}

// Up to what rounding may push beyond the largest number.
TEST_P(Planes, NearTheLargestNumber) {
  constexpr float high = largest * 0.9999f;
  if (numbers == PanelNumbers::planes1 || numbers == PanelNumbers::f16_plane) return;  // infinite, as documented
  Matrices x = filled(16, 16, 32, 0);
  x.at_a(2, 3) = high;
  x.at_b(3, 4) = 0.5f;
  x.at_b(3, 5) = -1;
  const std::vector<float> made = product_of(*table, x);
  EXPECT_NEAR(made[2 * 16 + 4] / (high / 2), 1, 1e-5);
  EXPECT_NEAR(made[2 * 16 + 5] / high, -1, 1e-5);
}

TEST_P(Planes, ZerosGiveZero) {
  Matrices x = filled(5, 7, 3, -0.0f);
  for (float v : product_of(*table, x)) EXPECT_EQ(v, 0);
}

// Few rows and many, and panels of every width.
TEST_P(Planes, WeightsAreTheNearest) {
  if (plane_count(numbers) > 0) return;
  std::mt19937_64 random(11);
  std::uniform_real_distribution<float> uniform(-1, 1);
  for (const int64_t m : {1, 3, 4, 5, 13, 29})
    for (const int64_t n : {1, 8, 15, 16, 24, 33, 40, 64, 100}) {
      Matrices x = filled(m, n, 70, 0);
      for (float& v : x.a) v = uniform(random);
      for (float& v : x.b) v = uniform(random);
      const std::vector<float> made = product_of(*table, x);
      for (float& v : x.b)
        v = numbers == PanelNumbers::f16 ? half_to_float(float_to_half(v)) : bfloat_to_float(float_to_bfloat(v));
      // The same sums in the same order.
      EXPECT_EQ(made, product_of(contract_table(GetParam().level), x)) << m << " x " << n;
    }
}

TEST_P(Planes, WhatF16CannotHold) {
  if (!halves) return;
  Matrices x = filled(3, 20, 4, 0);
  for (float& v : x.a) v = 1;
  x.at_b(1, 0) = 65504;
  x.at_b(1, 1) = 65519;  // rounds down
  x.at_b(1, 2) = 65520;
  x.at_b(1, 3) = -1e30f;
  x.at_b(1, 4) = 0x1p-24f;
  x.at_b(1, 5) = 0x1.8p-26f;
  x.at_b(1, 6) = std::numeric_limits<float>::quiet_NaN();
  const std::vector<float> made = product_of(*table, x);
  const float expected[] = {65504, 65504, infinite, -infinite, 0x1p-24f, 0};
  for (size_t c = 0; c < std::size(expected); ++c) EXPECT_EQ(made[c], expected[c]) << c;
  EXPECT_TRUE(std::isnan(made[6]));
  x.at_a(2, 0) = 70000;
  x.at_b(0, 7) = 0.5f;
  EXPECT_EQ(product_of(*table, x)[2 * 20 + 7], numbers == PanelNumbers::f16 ? 35000 : infinite);
}

INSTANTIATE_TEST_SUITE_P(Units, Planes,
                         ::testing::Values(Unit{avx512_bf16, PanelNumbers::planes1}, Unit{amx, PanelNumbers::planes1},
                                           Unit{amx, PanelNumbers::planes2}, Unit{amx, PanelNumbers::planes3},
                                           Unit{amx, PanelNumbers::f16_plane}, Unit{avx2, PanelNumbers::bf16},
                                           Unit{avx2, PanelNumbers::f16}, Unit{avx512, PanelNumbers::bf16},
                                           Unit{avx512, PanelNumbers::f16}),
                         [](const auto& info) {
                           const PanelNumbers numbers = info.param.numbers;
                           return std::string(level_name(info.param.level)) + "_" +
                                  (numbers == PanelNumbers::bf16        ? "wbf16"
                                   : numbers == PanelNumbers::f16       ? "wf16"
                                   : numbers == PanelNumbers::f16_plane ? "f16"
                                                                        : std::to_string(plane_count(numbers)));
                         });

}  // namespace
}  // namespace sinter
