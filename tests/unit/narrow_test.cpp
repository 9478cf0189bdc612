// Values between fragments in builds that allow bf16: which are held narrow, and that results stay near.
#include <algorithm>
#include <cmath>

#include "backend/cpu/device.h"
#include "engines.h"
#include "ops/contraction.h"
#include "ops/pooling.h"
#include "wiring/wiring.h"

namespace sinter {
namespace {

using namespace testing;

// Convolutions around a residual, pooling, a classifier.
Module network(const Dim& images, int64_t channels) {
  return module_with({Type::tensor(DType::f32, Shape{images, 3, 24, 25})}, [&](GraphBuilder& b, const Ids& in) {
    const auto conv = [&](ValueId x, int64_t from, int64_t to, int64_t taps, uint64_t seed) {
      ConvAttrs attrs;
      attrs.pads.assign(4, taps / 2);
      return b.op("Conv", attrs, {x, b.constant(random_tensor({to, from, taps, taps}, seed))});
    };
    const ValueId first = b.op("Relu", {conv(in[0], 3, channels, 3, 2)});
    const ValueId inner = b.op("Relu", {conv(first, channels, channels, 3, 3)});
    const ValueId sum = b.op("Relu", {b.op("Add", {conv(inner, channels, channels, 1, 4), first})});
    MaxPoolAttrs pool;
    pool.kernel = pool.strides = {2, 2};
    const ValueId means = wiring::reduce(b, "Mean", b.op("MaxPool", pool, {sum}), {2, 3}, false);
    return Ids{wiring::matmul(b, means, b.constant(random_tensor({channels, 10}, 5)))};
  });
}

Target built(Module module, bool bf16, std::vector<DimRange> dims = {}) {
  BuildOptions options;
  options.dims = std::move(dims);
  options.threads = 1;
  options.passes.allow_bf16 = bf16;
  Target target = build(std::move(module), options).target;
  verify_target(target, this_machine(1));
  return target;
}

size_t narrow_slots(const Target& target) {
  return static_cast<size_t>(std::count_if(target.main.slots.begin(), target.main.slots.end(), [](const Slot& slot) {
    return slot.type.is_tensor() && slot.type.dtype == DType::bf16;
  }));
}

bool multiplies_bf16() { return this_machine(1).level >= cpu::avx512_bf16; }

std::vector<float> run(Target target, const Tensor& x) {
  Context context(std::make_shared<const Engine>(make_executable(std::move(target), this_machine(1))));
  context.set_input(0, x.dims(), x.data(), static_cast<size_t>(x.bytes()));
  context.run();
  const auto* y = static_cast<const float*>(context.data(0));
  return {y, y + x.dims()[0] * 10};
}

TEST(Narrow, ValuesOfANetwork) {
  if (!multiplies_bf16()) GTEST_SKIP() << "this machine multiplies f32, which stays f32";
  const Target wide = built(network(2, 48), false), narrow = built(network(2, 48), true);
  EXPECT_EQ(narrow_slots(wide), 0u);
  EXPECT_EQ(narrow_slots(narrow), 5u) << "three convolutions, the pooling and the means";
  for (const Binding& binding : narrow.bindings) EXPECT_EQ(binding.type.dtype, DType::f32);
  const Tensor x = random_tensor({2, 3, 24, 25}, 9);
  const std::vector<float> wanted = run(wide, x), made = run(narrow, x);
  double error = 0, size = 0;
  for (size_t i = 0; i < wanted.size(); ++i) {
    error += std::pow(made[i] - wanted[i], 2);
    size += std::pow(wanted[i], 2);
  }
  EXPECT_LT(std::sqrt(error / size), 2e-2);
  EXPECT_GT(error, 0) << "nothing was rounded";
  EXPECT_EQ(run(narrow, x), made);
}

TEST(Narrow, OpenExtents) {
  if (!multiplies_bf16()) GTEST_SKIP() << "this machine multiplies f32, which stays f32";
  Module open;
  const Dim n = named(open, "N");
  Module module = network(n, 48);
  module.symbols = open.symbols;
  // Rows are compared at two images, as they are where two are all there is.
  const Target target = built(std::move(module), true, {{"N", 1, 2, 3}});
  EXPECT_GE(narrow_slots(target), 4u);
  const Tensor x = random_tensor({2, 3, 24, 25}, 9);
  EXPECT_EQ(run(target, x), run(built(network(2, 48), true), x));
}

// Positions times rates, turned round, and what waves make of them.
TEST(Narrow, AnglesOfPositionsStay) {
  if (!multiplies_bf16()) GTEST_SKIP() << "this machine multiplies f32, which stays f32";
  const auto waves = [](bool bf16) {
    return built(module_with({Type::tensor(DType::i64, Shape{1, 5000})},
                             [&](GraphBuilder& b, const Ids& in) {
                               const ValueId positions = wiring::cast(b, in[0], DType::f32);
                               const ValueId rates = b.constant(random_tensor({1, 8, 1}, 3));
                               const ValueId angles = wiring::mul(b, rates, wiring::unsqueeze(b, positions, {1}));
                               return Ids{b.op("Cos", {wiring::transpose(b, angles, {0, 2, 1})})};
                             }),
                 bf16);
  };
  EXPECT_EQ(narrow_slots(waves(true)), 0u);
}

TEST(Narrow, FewElementsStay) { EXPECT_EQ(narrow_slots(built(network(1, 2), true)), 0u); }

}  // namespace
}  // namespace sinter
