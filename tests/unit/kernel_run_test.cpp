// A row that touches what it may not is found: what it writes beyond its result by run_kernel, what it reads beyond an
// operand by the end of the process.
#include <csignal>
#include <cstring>

#include "backend/accept.h"
#include "engines.h"

namespace sinter {
namespace {

using namespace testing;

// Copies an operand of f32, and READ elements behind it are read, WRITTEN behind the result are written.
template <int64_t COUNT, int64_t READ, int64_t WRITTEN>
std::vector<Tensor> copy_beyond() {
  Kernel kernel{};
  kernel.name = "copy_beyond";
  kernel.bind = [](const Kernel&, const void*, const BindContext&, Bound& bound) {
    bound.phases = 1;
    bound.chunks[0] = 1;
  };
  kernel.run = [](const Launch& launch) -> Status {
    const auto* from = static_cast<const volatile float*>(launch.operands[0]);
    auto* to = static_cast<volatile float*>(launch.operands[1]);
    float sum = 0;
    for (int64_t i = 0; i < COUNT + READ; ++i) sum += from[i];
    for (int64_t i = 0; i < COUNT + WRITTEN; ++i) to[i] = i < COUNT ? from[i] : sum;
    return {};
  };
  const Problem problem = parse_problem("(f32[" + std::to_string(COUNT) + "]) { Identity(0); } -> (1)");
  const Tensor x = random_tensor({COUNT});
  return run_kernel(problem, kernel, this_machine(1), {}, std::span(&x, 1));
}

TEST(KernelRun, KeepsWhatARowMakes) {
  const Tensor made = copy_beyond<16, 0, 0>()[0];
  ASSERT_EQ(made.bytes(), 64);
  EXPECT_EQ(std::memcmp(made.data(), random_tensor({16}).data(), 64), 0);
}

TEST(KernelRunDeathTest, ReadingBeyondAnOperandEndsTheProcess) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
#ifdef SINTER_SANITIZE
  EXPECT_DEATH((copy_beyond<16, 1, 0>()), "AddressSanitizer");
#else
  EXPECT_EXIT((copy_beyond<16, 1, 0>()), ::testing::KilledBySignal(SIGSEGV), "");
#endif
}

#ifndef SINTER_SANITIZE  // there it ends the process
TEST(KernelRun, WritingBeyondAResultIsAnError) { EXPECT_THROW((copy_beyond<3, 0, 1>()), Error); }
#endif

}  // namespace
}  // namespace sinter
