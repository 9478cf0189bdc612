// Weights in 16 bits: when builds take them, and that steps are judged by what their panels hold.
#include "backend/cpu/device.h"
#include "engines.h"
#include "ops/contraction.h"
#include "tune/bisect.h"

namespace sinter {
namespace {

using namespace testing;

class Weights : public ::testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    try {
      device_ = restrict_level(this_machine(1), GetParam());
    } catch (const Error&) {
      GTEST_SKIP() << "this machine lacks the level";
    }
  }

  Built product(int64_t m, int64_t k, int64_t n, bool bf16, bool fp16) const {
    BuildOptions options;
    options.threads = 1;
    options.level = GetParam();
    options.passes.allow_bf16 = bf16;
    options.passes.allow_fp16 = fp16;
    return build(module_with({Type::tensor(DType::f32, Shape{Dim(m), Dim(k)})},
                             [&](GraphBuilder& b, const Ids& in) {
                               return Ids{b.op("MatMul", MatMulAttrs(), {in[0], b.constant(random_tensor({k, n}))})};
                             }),
                 options);
  }

  static std::string row_of(const Built& built) { return built.report.kernels.back().kernel; }

  DeviceSpec device_;
};

TEST_P(Weights, FewRowsTakeThem) {
  EXPECT_EQ(row_of(product(1, 2048, 1024, true, false)), "cpu/matmul_wbf16");
  EXPECT_EQ(row_of(product(2, 2048, 1024, false, true)), "cpu/matmul_wf16");
  EXPECT_EQ(row_of(product(1, 2048, 1024, false, false)), "cpu/matmul_f32");
}

// Rounding them gains nothing there.
TEST_P(Weights, ManyRowsDoNot) {
  EXPECT_EQ(row_of(product(400, 256, 256, true, false)),
            device_.level >= cpu::avx512_bf16 ? "cpu/matmul_bf16" : "cpu/matmul_f32");
  EXPECT_EQ(row_of(product(400, 256, 256, false, true)).find("cpu/matmul_w"), std::string::npos);
}

TEST_P(Weights, StepsReadTheirPanels) {
  for (const int64_t m : {1, 40})
    for (const bool bf16 : {true, false}) {
      Built built = product(m, 96, 200, bf16, !bf16);
      const std::string row = row_of(built);
      const auto engine = std::make_shared<const Engine>(make_executable(std::move(built.target), device_));
      const std::vector<Box> inputs{Box(random_tensor({m, 96}, 2))};
      // Sums are about 10; what bf16 leaves of them is 0.03.
      const auto fault = judge_steps(engine, inputs, 1, nullptr, {.rtol = 0, .atol = 0.5});
      EXPECT_FALSE(fault) << row << " of " << m << " rows is off by " << fault->compared.max_error;
    }
}

INSTANTIATE_TEST_SUITE_P(Levels, Weights, ::testing::Values("avx2", "avx512", "avx512_bf16"),
                         [](const auto& info) { return std::string(info.param); });

}  // namespace
}  // namespace sinter
