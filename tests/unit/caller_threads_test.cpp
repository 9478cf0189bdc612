#include "base/caller_threads.h"

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <functional>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "base/cpus.h"
#include "regions.h"

namespace sinter {
namespace {

using testing::covers;
using Task = void (*)(void* context, int worker);
// A caller's function with what it is tested for, and the threads that it stands for.
struct Given {
  std::function<void(Task, void*, int)> run;
  int calls = 0;

  CallerThreads threads(unsigned count) {
    return {count,
            [](void* user, Task task, void* context, int workers) {
              Given& self = *static_cast<Given*>(user);
              ++self.calls;
              self.run(task, context, workers);
            },
            this};
  }
};

void one_after_the_other(Task task, void* context, int workers) {
  for (int w = 0; w < workers; ++w) task(context, w);
}
void backwards(Task task, void* context, int workers) {
  for (int w = workers - 1; w >= 0; --w) task(context, w);
}
void at_once(Task task, void* context, int workers) {
  std::vector<std::thread> threads;
  for (int w = 1; w < workers; ++w) threads.emplace_back(task, context, w);
  task(context, 0);
  for (std::thread& thread : threads) thread.join();
}
void elsewhere(Task task, void* context, int workers) { std::thread(at_once, task, context, workers).join(); }

TEST(CallerThreads, EveryChunkRunsOnce) {
  for (const auto run : {one_after_the_other, backwards, at_once, elsewhere}) {
    Given given{run};
    for (const unsigned count : {1u, 2u, 3u, 16u}) {
      const Crew crew(given.threads(count), 100);
      EXPECT_EQ(crew.size(), count);
      for (const int64_t chunks : {0, 1, 2, 3, 7, 64, 1000})
        EXPECT_TRUE(covers(crew, chunks)) << count << " " << chunks;
    }
  }
}

TEST(CallerThreads, AreAskedForNoMoreWorkersThanWantedThereOrOfUse) {
  int asked = 0;
  Given given{[&](Task task, void* context, int workers) {
    asked = workers;
    one_after_the_other(task, context, workers);
  }};
  EXPECT_EQ(Crew(given.threads(8), 0).size(), 1u);
  EXPECT_EQ(Crew(given.threads(8), 5).size(), 5u);
  EXPECT_EQ(Crew(given.threads(3), 5).size(), 3u);
  const Crew crew(given.threads(8), 5);
  EXPECT_TRUE(covers(crew, 100));
  EXPECT_EQ(asked, 5);
  EXPECT_TRUE(covers(crew, 3));
  EXPECT_EQ(asked, 3);
  const int before = given.calls;
  EXPECT_TRUE(covers(crew, 1));
  EXPECT_TRUE(covers(crew, 0));
  EXPECT_EQ(given.calls, before);
}

TEST(CallerThreads, OneThreadOfManyWorkersIsOneWorkerAtATime) {
  Given given{at_once};
  const Crew crew(given.threads(4), 4);
  for (int round = 0; round < 50; ++round) {
    std::vector<std::atomic<int>> inside(4);
    std::atomic<int> wrong = 0;
    auto work = [&](int64_t, unsigned worker) {
      if (inside[worker].fetch_add(1) != 0) ++wrong;
      inside[worker].fetch_sub(1);
    };
    ASSERT_TRUE(testing::parallel(crew, 200, work).ok());
    EXPECT_EQ(wrong.load(), 0);
  }
}

Status status_of(std::function<void(Task, void*, int)> run) {
  Given given{std::move(run)};
  const Crew crew(given.threads(4), 4);
  std::atomic<int> runs = 0;
  auto work = [&](int64_t, unsigned worker) {
    EXPECT_LT(worker, 4u);
    ++runs;
  };
  const Status status = testing::parallel(crew, 100, work);
  EXPECT_LE(runs.load(), 100);
  // It can be used again; what it did is forgotten.
  given.run = at_once;
  EXPECT_TRUE(covers(crew, 100));
  return status;
}

void expect_told(const Status& status, Code code, const char* part) {
  EXPECT_EQ(status.code(), code) << status.message();
  EXPECT_NE(status.message().find(part), std::string::npos) << status.message();
}

TEST(CallerThreads, BrokenPromisesAreTold) {
  const Code mistake = Code::invalid_argument;
  expect_told(status_of([](Task, void*, int) {}), mistake, "without calling worker 0 of 4");
  expect_told(status_of([](Task task, void* context, int) { task(context, 0); }), mistake, "calling worker 1 of 4");
  expect_told(status_of([](Task task, void* context, int workers) { one_after_the_other(task, context, workers - 1); }),
              mistake, "without calling worker 3 of 4");
  expect_told(status_of([](Task task, void* context, int workers) {
                one_after_the_other(task, context, workers);
                task(context, 2);
              }),
              mistake, "called worker 2 of 4 twice");
  for (const int wrong : {-1, 4, 1 << 30, -(1 << 30)})
    expect_told(status_of([&](Task task, void* context, int workers) {
                  task(context, wrong);
                  one_after_the_other(task, context, workers);
                }),
                mistake, ("called worker " + std::to_string(wrong) + " where there are 4").c_str());
  expect_told(status_of([](Task task, void*, int workers) { one_after_the_other(task, nullptr, workers); }), mistake,
              "without calling worker 0 of 4");
}

TEST(CallerThreads, ExceptionsAreTold) {
  expect_told(status_of([](Task, void*, int) { throw std::runtime_error("no more threads"); }), Code::internal,
              "no more threads");
  expect_told(status_of([](Task task, void* context, int workers) {
                one_after_the_other(task, context, workers);
                throw 5;
              }),
              Code::internal, "no std::exception");
}

// The region waits for who is inside, and says so.
TEST(CallerThreads, WorkersThatStillRunAreWaitedFor) {
  std::thread late;
  std::atomic<bool> inside = false, returned = false;
  Given given{[&](Task task, void* context, int) {
    late = std::thread(task, context, 1);
    while (!inside) std::this_thread::yield();
    task(context, 0);
    returned = true;
  }};
  const Crew crew(given.threads(2), 2);
  std::atomic<int> runs = 0;
  auto work = [&](int64_t, unsigned worker) {
    if (worker == 1) {
      inside = true;
      while (!returned) std::this_thread::yield();
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
    }
    ++runs;
  };
  const Status status = testing::parallel(crew, 10, work);
  EXPECT_EQ(runs.load(), 10);
  late.join();
  expect_told(status, Code::invalid_argument, "while workers were still running");
}

// Calls that come when the region, or even its crew, has gone do nothing.
TEST(CallerThreads, CallsThatComeTooLateDoNothing) {
  Task kept = nullptr;
  void* kept_context = nullptr;
  Given given{[&](Task task, void* context, int workers) {
    kept = task;
    kept_context = context;
    one_after_the_other(task, context, workers);
  }};
  std::atomic<int> runs = 0;
  auto work = [&](int64_t, unsigned) { ++runs; };
  {
    const Crew crew(given.threads(4), 4);
    EXPECT_TRUE(testing::parallel(crew, 10, work).ok());
    kept(kept_context, 1);
    EXPECT_EQ(runs.load(), 10);
  }
  kept(kept_context, 1);
  EXPECT_EQ(runs.load(), 10);
  // Crews that follow have nothing to do with it.
  Given other{at_once};
  const Crew next(other.threads(4), 4);
  std::atomic<bool> over = false;
  std::thread stray([&] {
    while (!over) kept(kept_context, 1);
  });
  for (int n = 0; n < 50; ++n) EXPECT_TRUE(covers(next, 100));
  over = true;
  stray.join();
}

// A call that belongs to a region that is over, while a later one is open, of the same crew or of one that took over
// what it had: it runs nothing there, takes nobody's number and is not told.
TEST(CallerThreads, LateCallsLeaveTheRegionsThatFollowAlone) {
  std::vector<std::pair<Task, void*>> kept;
  int stray = 0;  // calls
  std::atomic<bool> in_stray = false;
  std::atomic<int> wrong = 0;
  Given given{[&](Task task, void* context, int workers) {
    const auto call_late = [&] {
      in_stray = true;
      for (const auto& [late, late_context] : kept)
        for (const int worker : {1, 0, 3, 7, -1}) {
          late(late_context, worker);
          ++stray;
        }
      in_stray = false;
    };
    call_late();
    for (int w = 0; w < workers; ++w) {
      task(context, w);
      call_late();
    }
    kept.emplace_back(task, context);
  }};
  for (int crews = 0; crews < 3; ++crews) {
    const Crew crew(given.threads(4), 4);
    for (int n = 0; n < 5; ++n) {
      std::atomic<int> runs = 0;
      auto work = [&](int64_t, unsigned) {
        ++runs;
        if (in_stray) ++wrong;
      };
      const Status status = testing::parallel(crew, 100, work);
      EXPECT_TRUE(status.ok()) << status.message();
      EXPECT_EQ(runs.load(), 100);
    }
  }
  EXPECT_EQ(wrong.load(), 0);
  EXPECT_EQ(stray, 14 * 15 / 2 * 25);
}

// Contexts that are none of ours touch nothing.
TEST(CallerThreads, ContextsThatAreMadeUp) {
  Given given{[](Task task, void* context, int workers) {
    const auto number = reinterpret_cast<uintptr_t>(context);
    for (const uintptr_t other :
         {uintptr_t{1}, ~uintptr_t{0}, number + 1, number - 1, ~number, number + (uintptr_t{1} << 50)})
      task(reinterpret_cast<void*>(other), 0);
    one_after_the_other(task, context, workers);
  }};
  const Crew crew(given.threads(4), 4);
  for (int n = 0; n < 3; ++n) EXPECT_TRUE(covers(crew, 100));
}

TEST(CallerThreads, CrewsBesideEachOtherAndAfter) {
  const auto hammer = [] {
    for (unsigned n = 0; n < 200; ++n) {
      Given given{one_after_the_other};
      const Crew one(given.threads(4), 2 + n % 3), other(given.threads(4), 4);
      ASSERT_TRUE(covers(one, 20) && covers(other, 20) && covers(one, 7));
    }
  };
  std::vector<std::thread> threads;
  for (int t = 0; t < 3; ++t) threads.emplace_back(hammer);
  for (std::thread& thread : threads) thread.join();
}

// A fork may come while other threads make crews and set the default: none of them leaves a lock to the child.
TEST(CallerThreads, ChildrenOfAForkFindNoLockHeld) {
  std::atomic<bool> over = false;
  Given given{one_after_the_other};
  std::vector<std::thread> busy;
  for (int t = 0; t < 2; ++t)
    busy.emplace_back([&] {
      while (!over) {
        set_default_threads(given.threads(3));
        hire(4);
      }
    });
  int failed = 0;
  for (int n = 0; n < 40; ++n) {
    const pid_t child = fork();
    if (child == 0) {
      alarm(10);
      set_default_threads(given.threads(4));
      const auto workers = hire(4);
      _exit(workers->size() == 4 && covers(*workers, 10) ? 0 : 1);
    }
    int status = -1;
    if (child < 0 || waitpid(child, &status, 0) != child || status != 0) ++failed;
    if (failed > 0) break;
  }
  over = true;
  for (std::thread& thread : busy) thread.join();
  set_default_threads({});
  EXPECT_EQ(failed, 0);
}

TEST(CallerThreads, DefaultOfTheProcess) {
  EXPECT_EQ(default_threads().count, 0u);
  EXPECT_EQ(default_thread_count(), usable_cpus());
  Given given{at_once};
  set_default_threads(given.threads(3));
  EXPECT_EQ(default_thread_count(), 3u);
  const auto workers = hire(8);
  set_default_threads({});
  EXPECT_EQ(workers->size(), 3u);
  EXPECT_TRUE(covers(*workers, 10));
  EXPECT_EQ(given.calls, 1);
  EXPECT_TRUE(covers(*hire(8), 10));
  EXPECT_EQ(given.calls, 1);
}

}  // namespace
}  // namespace sinter
