// Convolutions of 3x3 in fewer products: how much they err, and that what is infinite, NaN or too large for the
// transforms changes no neighbour, at every instruction set level.
#include <fmt/core.h>

#include <bit>
#include <cmath>
#include <limits>
#include <random>

#include "backend/accept.h"
#include "backend/cpu/device.h"
#include "op_testing.h"

namespace sinter {
namespace {

constexpr float infinite = std::numeric_limits<float>::infinity();

struct Operands {
  int64_t channels, height, width, columns;
  std::vector<Tensor> values;  // image, weights
  float* image() { return values[0].as_mutable<float>(); }
  float* weights() { return values[1].as_mutable<float>(); }
  int64_t pixel(int64_t c, int64_t y, int64_t x) const { return (c * height + y) * width + x; }
};

Operands normal(int64_t channels, int64_t height, int64_t width, int64_t columns) {
  Operands o{channels, height, width, columns, {}};
  std::mt19937 random(7);
  std::normal_distribution<float> values;
  for (const Dims& dims : {Dims{1, channels, height, width}, Dims{columns, channels, 3, 3}}) {
    Tensor t(DType::f32, dims);
    std::generate_n(t.as_mutable<float>(), t.count(), [&] { return values(random); });
    o.values.push_back(std::move(t));
  }
  return o;
}

Problem problem_of(const Operands& o, std::string_view numerics = "tf32") {
  return parse_problem(
      fmt::format("({5}[1, {0}, {1}, {2}]@any, const f32[{3}, {0}, 3, 3]@any) {{ Conv{{numerics={4}, pads=[1, 1, 1, "
                  "1]}}(0, 1); }} -> (2@any)",
                  o.channels, o.height, o.width, o.columns, numerics, dtype_name(o.values[0].dtype())));
}

// The same with an image of bf16; what is left of its numbers is in `o` then.
Operands rounded(Operands& o) {
  Operands narrow = o;
  narrow.values[0] = Tensor(DType::bf16, o.values[0].dims());
  auto* halves = static_cast<uint16_t*>(narrow.values[0].mutable_data());
  for (int64_t i = 0; i < o.values[0].count(); ++i) {
    halves[i] = static_cast<uint16_t>(std::bit_cast<uint32_t>(o.image()[i]) >> 16);
    o.image()[i] = std::bit_cast<float>(uint32_t{halves[i]} << 16);
  }
  return narrow;
}

// What a row makes of them, channels last; the same on one thread and on several.
std::vector<float> made_by(const char* name, const Operands& o, DeviceSpec device) {
  const Kernel* kernel = find_kernel(name);
  const Problem problem = problem_of(o);
  const Answer answer = kernel->supports(*kernel, problem, device);
  EXPECT_TRUE(answer) << answer.reason();
  const Problem settled = settle(problem, *kernel, device);
  std::vector<Tensor> made;
  for (int threads : {1, 3}) {
    device.threads = threads;
    Tensor result = run_kernel(settled, *kernel, device, {}, o.values)[0];
    if (!made.empty()) {
      EXPECT_TRUE(result.identical(made[0])) << "other bits with other threads";
    }
    made.push_back(std::move(result));
  }
  const auto* floats = made[0].as<float>();
  return {floats, floats + made[0].bytes() / 4};
}

class Winograd : public ::testing::TestWithParam<std::tuple<const char*, const char*>> {
 protected:
  void SetUp() override {
    row = std::get<1>(GetParam());
    try {
      device = restrict_level(this_machine(1), std::get<0>(GetParam()));
    } catch (const Error&) {
      GTEST_SKIP() << "this machine lacks the level";
    }
  }
  std::vector<float> made(const Operands& o) const { return made_by(row, o, device); }
  // The same numbers as the definition's row, up to rounding; infinities and NaN in the same places.
  void expect_as_direct(const Operands& o) const { expect_as_direct(made(o), o); }
  void expect_as_direct(const std::vector<float>& got, const Operands& o) const {
    const std::vector<float> want = made_by("cpu/conv_f32", o, device);
    ASSERT_EQ(got.size(), want.size());
    for (size_t i = 0; i < got.size(); ++i) {
      if (std::isnan(want[i])) {
        ASSERT_TRUE(std::isnan(got[i])) << i << ": " << got[i];
      } else if (std::isinf(want[i])) {
        ASSERT_EQ(got[i], want[i]) << i;
      } else {
        ASSERT_NEAR(got[i], want[i], 1e-4 + 1e-5 * std::abs(want[i])) << i;
      }
    }
  }
  const char* row = nullptr;
  DeviceSpec device;
};

TEST_P(Winograd, ErrsLittle) {
  Operands o = normal(96, 12, 12, 16);
  std::vector<double> want;
  for (int64_t y = 0; y < o.height; ++y)
    for (int64_t x = 0; x < o.width; ++x)
      for (int64_t n = 0; n < o.columns; ++n) {
        double sum = 0;
        for (int64_t c = 0; c < o.channels; ++c)
          for (int64_t t = 0; t < 9; ++t) {
            const int64_t from_y = y + t / 3 - 1, from_x = x + t % 3 - 1;
            if (from_y < 0 || from_y >= o.height || from_x < 0 || from_x >= o.width) continue;
            sum += double{o.image()[o.pixel(c, from_y, from_x)]} * o.weights()[(n * o.channels + c) * 9 + t];
          }
        want.push_back(sum);
      }
  const double error = testing::relative_error(made(o), want);
  const double direct = testing::relative_error(made_by("cpu/conv_f32", o, device), want);
  // Both stay far below what the default class allows.
  EXPECT_LT(error, std::string_view(row) == "cpu/conv_winograd2_f32" ? direct : 2.5 * direct);
  EXPECT_GT(error, 0);
}

TEST_P(Winograd, WhatIsNotFiniteStaysWhereItIs) {
  for (const float special : {infinite, -infinite, std::nanf("")}) {
    Operands o = normal(20, 10, 11, 24);
    o.image()[o.pixel(3, 5, 5)] = special;
    o.image()[o.pixel(19, 0, 10)] = special;
    expect_as_direct(o);
  }
}

TEST_P(Winograd, InfinitiesThatMeet) {
  Operands o = normal(20, 10, 11, 24);
  o.image()[o.pixel(3, 5, 5)] = infinite;
  o.image()[o.pixel(4, 5, 5)] = -infinite;
  o.image()[o.pixel(3, 5, 7)] = infinite;
  expect_as_direct(o);
}

TEST_P(Winograd, WeightsThatAreNotFinite) {
  for (const float special : {infinite, std::nanf("")}) {
    Operands o = normal(20, 7, 9, 24);
    o.weights()[(5 * o.channels + 2) * 9 + 4] = special;
    o.weights()[(17 * o.channels + 19) * 9 + 8] = -special;
    o.weights()[(20 * o.channels + 1) * 9] = 0;
    expect_as_direct(o);
  }
}

TEST_P(Winograd, SumsBeyondTheLargestNumber) {
  Operands o = normal(4, 6, 6, 8);
  std::fill_n(o.image(), o.values[0].count(), 3e38f);
  std::fill_n(o.weights(), o.values[1].count(), 0.25f);
  expect_as_direct(o);
}

TEST_P(Winograd, ImagesOfBf16) {
  const Kernel* kernel = find_kernel(row);
  Operands o = normal(20, 10, 11, 40);
  const Answer answer = kernel->supports(*kernel, problem_of(rounded(o)), device);
  if (device.level < cpu::avx512_bf16) {
    EXPECT_FALSE(answer) << "nothing else leaves bf16 there";
    return;
  }
  ASSERT_TRUE(answer) << answer.reason();
  expect_as_direct(made(rounded(o)), o);
  for (const float special : {infinite, -infinite, std::nanf("")}) {
    o.image()[o.pixel(3, 5, 5)] = special;
    o.image()[o.pixel(19, 0, 10)] = special;
    o.image()[o.pixel(7, 9, 0)] = special;
    expect_as_direct(made(rounded(o)), o);
  }
}

// Their errors are relative to a tile's largest operand, so a result between small ones may lose all its bits.
TEST_P(Winograd, IsNotStrict) {
  const Kernel* kernel = find_kernel(row);
  const Answer answer = kernel->supports(*kernel, problem_of(normal(4, 6, 6, 8), "strict"), device);
  EXPECT_FALSE(answer);
  EXPECT_EQ(answer.reason(), "the contraction must be strict");
}

INSTANTIATE_TEST_SUITE_P(Levels, Winograd,
                         ::testing::Combine(::testing::Values("portable", "avx2", "avx512", "avx512_bf16"),
                                            ::testing::Values("cpu/conv_winograd2_f32", "cpu/conv_winograd4_f32")));

}  // namespace
}  // namespace sinter
