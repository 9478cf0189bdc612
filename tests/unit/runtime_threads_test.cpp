// Contexts on threads of the caller and beside each other in the pool.
#if defined(__x86_64__)
#include <xmmintrin.h>
#endif

#include <algorithm>
#include <atomic>
#include <cfenv>
#include <thread>
#include <vector>

#include "base/caller_threads.h"
#include "base/thread_pool.h"
#include "counted_allocations.h"
#include "engines.h"
#include "ops/contraction.h"
#include "wiring/wiring.h"

namespace sinter {
namespace {

using namespace testing;

constexpr int64_t rows = 400;

// A product, a pointwise operator on large values and a softmax, so that there are steps with several chunks.
std::shared_ptr<const Engine> engine_for(int threads) {
  return engine_of(module_with({Type::tensor(DType::f32, Shape{rows, 128})},
                               [](GraphBuilder& b, const Ids& in) {
                                 const ValueId y = wiring::matmul(b, in[0], b.constant(random_tensor({128, 96}, 2)));
                                 return Ids{wiring::softmax(b, b.op("Swish", {y}), 1)};
                               }),
                   threads);
}

const Tensor& input() {
  static const Tensor x = random_tensor({rows, 128}, 3);
  return x;
}

Tensor run(Context& context) {
  context.set_input(0, input().dims(), input().data(), static_cast<size_t>(input().bytes()));
  context.run();
  return context.output(0).tensor;
}

using Task = void (*)(void* context, int worker);

std::atomic<int> calls{0};
void serially(void*, Task task, void* context, int workers) {
  ++calls;
  for (int w = workers - 1; w >= 0; --w) task(context, w);
}
void elsewhere(void*, Task task, void* context, int workers) {
  ++calls;
  std::vector<std::thread> threads;
  for (int w = 0; w < workers; ++w) threads.emplace_back(task, context, w);
  for (std::thread& thread : threads) thread.join();
}
void nothing(void*, Task, void*, int) { ++calls; }

TEST(RuntimeThreads, ThreadsOfTheCallerGiveTheSameBits) {
  const auto engine = engine_for(4);
  Context alone(engine, 1);
  const Tensor expected = run(alone);
  for (const auto how : {serially, elsewhere})
    for (const unsigned count : {1u, 2u, 4u, 64u}) {
      Context context(engine);
      context.set_threads({count, how, nullptr});
      calls = 0;
      EXPECT_TRUE(run(context).identical(expected)) << count;
      EXPECT_EQ(calls > 0, count > 1);
      context.set_threads({});
      calls = 0;
      EXPECT_TRUE(run(context).identical(expected));
      EXPECT_EQ(calls.load(), 0);
    }
}

// Whether contexts find that threads pay or not.
TEST(RuntimeThreads, RepeatedRunsGiveTheSameBits) {
  const auto engine = engine_for(4);
  Context alone(engine, 1), shared(engine);
  const Tensor expected = run(alone);
  for (int i = 0; i < 40; ++i) EXPECT_TRUE(run(shared).identical(expected)) << i;
}

TEST(RuntimeThreads, RepeatedRunAllocatesNothing) {
#ifdef SINTER_SANITIZE
  GTEST_SKIP() << "the sanitizers bring their own operator new";
#endif
  Context context(engine_for(4));
  context.set_threads({4, serially, nullptr});
  context.set_input(0, input().dims(), input().data(), static_cast<size_t>(input().bytes()));
  context.run();
  const int64_t before = allocations();
  calls = 0;
  for (int i = 0; i < 50; ++i) context.run();
  EXPECT_EQ(allocations(), before);
  EXPECT_GE(calls.load(), 50);
}

TEST(RuntimeThreads, ABrokenPromiseEndsTheRunAndNoMore) {
  const auto engine = engine_for(4);
  Context context(engine), alone(engine, 1);
  context.set_threads({4, nothing, nullptr});
  try {
    run(context);
    ADD_FAILURE() << "nobody did the work";
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), Code::invalid_argument);
    EXPECT_NE(std::string(e.what()).find("without calling worker 0"), std::string::npos) << e.what();
  }
  context.set_threads({4, serially, nullptr});
  EXPECT_TRUE(run(context).identical(run(alone)));
}

// Worker 0 may be any thread: those of the caller flush denormals in their tasks and keep what they had. The calling
// thread has its own setting in the caller's function, before, between and after tasks.
TEST(RuntimeThreads, NumbersBelowTheNormalOnes) {
  constexpr int64_t count = 1 << 20;
  Tensor factor(DType::f32, {});
  factor.as_mutable<float>()[0] = 0.5f;
  const auto engine =
      engine_of(module_with({Type::tensor(DType::f32, Shape{2, 40}), Type::tensor(DType::f32, Shape{count})},
                            [&](GraphBuilder& b, const Ids& in) {
                              return Ids{wiring::matmul(b, in[0], b.constant(random_tensor({40, 24}))),
                                         b.op("Mul", {in[1], b.constant(factor)})};
                            }),
                4);
  const Tensor x = random_tensor({2, 40});
  Tensor tiny(DType::f32, {count});
  for (int64_t i = 0; i < count; ++i) tiny.as_mutable<float>()[i] = 1e-39f;
  Tensor results[2];
  for (const bool alone : {true, false}) {
    Context context(engine, alone ? 1 : 4);
    static std::atomic<int> changed, looked;
    changed = looked = 0;
    static const auto look = [] {
      volatile float kept = 1e-39f;
      if (kept * 0.5f == 0) ++changed;
      ++looked;
    };
    if (!alone)
      context.set_threads({4,
                           [](void*, Task task, void* c, int workers) {
                             look();
                             std::thread([&] {
                               std::fesetenv(FE_DFL_ENV);  // it has the setting of the thread that made it
                               for (int w = 1; w < workers; ++w) task(c, w);
                               look();
                             }).join();
                             task(c, 0);
                             look();
                           },
                           nullptr});
    context.set_input(0, x.dims(), x.data(), static_cast<size_t>(x.bytes()));
    context.set_input(1, tiny.dims(), tiny.data(), static_cast<size_t>(tiny.bytes()));
    context.run();
    results[alone] = context.output(1).tensor;
    EXPECT_EQ(looked > 0, !alone);
    look();
    EXPECT_EQ(changed.load(), 0);
  }
  EXPECT_TRUE(results[0].identical(results[1]));
  EXPECT_EQ(results[0].as<float>()[0], 0.0f);  // so that there is something to keep
}

#if defined(__x86_64__)
// The allocator, the cancel function and taps find the mode that the thread came with, of a run that flushes denormals.
TEST(RuntimeThreads, FunctionsOfTheCallerHaveItsMode) {
  struct Seen final : StepObserver {
    int polls = 0, buffers = 0, steps = 0, flushing = 0;
    std::vector<float> result = std::vector<float>(rows * 96);
    void look(int& calls) {
      ++calls;
      flushing += (_mm_getcsr() & 0x8040) != 0;
    }
    void before(const Frame&, const Step&, uint32_t) override { look(steps); }
    void after(const Frame&, const Step&, uint32_t) override { look(steps); }
  };
  const auto engine = engine_for(4);
  ASSERT_TRUE(engine->executable().flushes_denormals);
  for (const int threads : {1, 4}) {
    Seen seen;
    Context context(engine, threads);
    context.set_allocator({[](void* user, size_t, DType, const Dims&, int64_t) -> void* {
                             Seen& s = *static_cast<Seen*>(user);
                             s.look(s.buffers);
                             return s.result.data();
                           },
                           &seen});
    Control control;
    control.cancelled = [](void* user) {
      Seen& s = *static_cast<Seen*>(user);
      s.look(s.polls);
      return false;
    };
    control.user = &seen;
    context.set_input(0, input().dims(), input().data(), static_cast<size_t>(input().bytes()));
    context.run(&control, &seen);
    EXPECT_EQ(seen.buffers, 1);
    EXPECT_GT(seen.polls, 0);
    EXPECT_GT(seen.steps, 0);
    EXPECT_EQ(seen.flushing, 0);
  }
}
#endif

TEST(RuntimeThreads, TheDefaultOfTheProcessBuildsLoadsAndRuns) {
  const auto workers_asked = [](void* user, Task task, void* context, int workers) {
    *static_cast<int*>(user) = std::max(*static_cast<int*>(user), workers);
    serially(nullptr, task, context, workers);
  };
  int asked = 0;
  set_default_threads({3, workers_asked, &asked});
  const auto engine = engine_for(0);
  EXPECT_EQ(engine->executable().device.threads, 3);
  Context context(engine), narrow(engine, 2);
  set_default_threads({});
  asked = 0;
  const Tensor y = run(context);
  EXPECT_EQ(asked, 3);  // also after the default has gone
  asked = 0;
  EXPECT_TRUE(run(narrow).identical(y));
  EXPECT_EQ(asked, 2);
  Context later(engine);
  asked = 0;
  EXPECT_TRUE(run(later).identical(y));
  EXPECT_EQ(asked, 0);
}

TEST(RuntimeThreads, ContextsBesideEachOther) {
  const auto engine = engine_for(2);
  Context alone(engine, 1);
  const Tensor expected = run(alone);
  std::atomic<int> wrong = 0;
  std::vector<std::thread> users;
  for (int t = 0; t < 4; ++t)
    users.emplace_back([&, t] {
      Context context(engine, 1 + t);
      if (t == 2) context.set_threads({3, elsewhere, nullptr});
      for (int n = 0; n < 30; ++n)
        if (!run(context).identical(expected)) ++wrong;
    });
  for (std::thread& user : users) user.join();
  EXPECT_EQ(wrong.load(), 0);
}

}  // namespace
}  // namespace sinter
