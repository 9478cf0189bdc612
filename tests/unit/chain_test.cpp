// How much sums of f32 err that are made of chains of multiply-adds, at every instruction set level.
#include <random>

#include "backend/accept.h"
#include "backend/cpu/device.h"
#include "op_testing.h"

namespace sinter {
namespace {

constexpr int64_t m = 24, k = 960, n = 48;

Tensor normal(Dims dims, unsigned seed) {
  Tensor t(DType::f32, std::move(dims));
  std::mt19937 random(seed);
  std::normal_distribution<float> values;
  std::generate_n(t.as_mutable<float>(), t.count(), [&] { return values(random); });
  return t;
}

class Chain : public ::testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    try {
      device = restrict_level(this_machine(1), GetParam());
    } catch (const Error&) {
      GTEST_SKIP() << "this machine lacks the level";
    }
  }
  std::vector<float> made(const char* text, const std::vector<Tensor>& operands) const {
    const Kernel* kernel = find_kernel("cpu/matmul_f32");
    const Problem problem = parse_problem(text);
    const Answer answer = kernel->supports(*kernel, problem, device);
    EXPECT_TRUE(answer) << answer.reason();
    const Tensor result = run_kernel(settle(problem, *kernel, device), *kernel, device, {}, operands)[0];
    return {result.as<float>(), result.as<float>() + m * n};
  }
  DeviceSpec device;
};

TEST_P(Chain, StrictSumsErrLess) {
  const std::vector<Tensor> operands = {normal({m, k}, 1), normal({k, n}, 2)};
  std::vector<double> wanted;
  for (int64_t r = 0; r < m; ++r)
    for (int64_t c = 0; c < n; ++c) {
      double sum = 0;
      for (int64_t i = 0; i < k; ++i) sum += operands[0].get_real(r * k + i) * operands[1].get_real(i * n + c);
      wanted.push_back(sum);
    }
  const double one = testing::relative_error(
      made("(f32[24, 960]@any, const f32[960, 48]@any) { MatMul{numerics=tf32}(0, 1); } -> (2@any)", operands), wanted);
  const double several = testing::relative_error(
      made("(f32[24, 960]@any, const f32[960, 48]@any) { MatMul(0, 1); } -> (2@any)", operands), wanted);
  // Three chains in the place of one, whose error goes by the root of its length.
  EXPECT_LT(several, 0.7 * one);
  EXPECT_LT(several, 4e-7);
}

INSTANTIATE_TEST_SUITE_P(Levels, Chain, ::testing::Values("portable", "avx2", "avx512", "avx512_bf16", "amx"));

}  // namespace
}  // namespace sinter
