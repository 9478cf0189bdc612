#include "base/thread_pool.h"

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <thread>
#include <vector>

namespace sinter {
namespace {

template <typename F>
void parallel(const Pool::Lease& lease, int64_t chunks, F& f) {
  lease.parallel(
      chunks, [](void* user, int64_t chunk, unsigned worker) { (*static_cast<F*>(user))(chunk, worker); }, &f);
}

// Runs a region and tells whether every chunk ran exactly once on a worker of the lease.
bool covers(const Pool::Lease& lease, int64_t chunks) {
  std::vector<std::atomic<int>> runs(static_cast<size_t>(chunks));
  std::atomic<bool> in_range = true;
  auto work = [&](int64_t chunk, unsigned worker) {
    if (chunk < 0 || chunk >= chunks || worker >= lease.size()) {
      in_range = false;
      return;
    }
    runs[static_cast<size_t>(chunk)].fetch_add(1);
  };
  parallel(lease, chunks, work);
  for (const auto& r : runs)
    if (r.load() != 1) return false;
  return in_range;
}

TEST(Pool, EveryChunkRunsOnce) {
  for (const unsigned workers : {0u, 1u, 3u}) {
    Pool pool(workers);
    const Pool::Lease lease = pool.lease(workers + 1);
    EXPECT_EQ(lease.size(), workers + 1);
    for (const int64_t chunks : {0, 1, 2, 3, 7, 64, 1000})
      EXPECT_TRUE(covers(lease, chunks)) << workers << " " << chunks;
  }
}

TEST(Pool, OwnPartComesFirstAndInOrder) {
  Pool pool(2);
  const Pool::Lease lease = pool.lease(3);
  for (const int64_t chunks : {2, 3, 10, 100}) {
    std::vector<std::vector<int64_t>> done(3);
    auto work = [&](int64_t chunk, unsigned worker) { done[worker].push_back(chunk); };
    parallel(lease, chunks, work);
    for (int64_t w = 0; w < 3; ++w) {
      const std::vector<int64_t>& mine = done[static_cast<size_t>(w)];
      const int64_t begin = w * (chunks / 3) + std::min(w, chunks % 3);
      const int64_t end = (w + 1) * (chunks / 3) + std::min(w + 1, chunks % 3);
      for (size_t i = 1; i < mine.size(); ++i) {
        const bool own = mine[i] >= begin && mine[i] < end;
        const bool own_before = mine[i - 1] >= begin && mine[i - 1] < end;
        EXPECT_TRUE(!own || (own_before && mine[i] > mine[i - 1])) << chunks << " " << w << " " << i;
      }
    }
    EXPECT_EQ(static_cast<int64_t>(done[0].size() + done[1].size() + done[2].size()), chunks);
  }
}

TEST(Pool, LeaseGrantsAtMostWhatIsWantedAndThere) {
  Pool pool(3);
  EXPECT_EQ(pool.lease(0).size(), 1u);
  EXPECT_EQ(pool.lease(1).size(), 1u);
  EXPECT_EQ(pool.lease(2).size(), 2u);
  EXPECT_EQ(pool.lease(100).size(), 4u);
  const Pool::Lease two = pool.lease(2);
  EXPECT_TRUE(covers(two, 100));
}

TEST(Pool, LeasedWorkersAreNotGrantedTwice) {
  Pool pool(3);
  {
    const Pool::Lease first = pool.lease(4);
    const Pool::Lease second = pool.lease(4);
    EXPECT_EQ(second.size(), 1u);
    EXPECT_TRUE(covers(second, 10));
    EXPECT_TRUE(covers(first, 10));
  }
  EXPECT_EQ(pool.lease(4).size(), 4u);
}

TEST(Pool, MovedLeaseIsReturnedOnce) {
  Pool pool(2);
  {
    Pool::Lease a = pool.lease(3);
    const Pool::Lease b = std::move(a);
    EXPECT_EQ(b.size(), 3u);
    EXPECT_TRUE(covers(b, 20));
    EXPECT_EQ(pool.lease(3).size(), 1u);
  }
  EXPECT_EQ(pool.lease(3).size(), 3u);
}

TEST(Pool, NestedUseDoesNotWait) {
  Pool pool(3);
  const Pool::Lease lease = pool.lease(4);
  std::atomic<int64_t> total = 0;
  std::atomic<bool> alone = true;
  auto outer = [&](int64_t, unsigned) {
    const Pool::Lease inner = pool.lease(4);
    if (inner.size() != 1) alone = false;
    auto add = [&](int64_t chunk, unsigned) { total += chunk; };
    parallel(inner, 10, add);
  };
  parallel(lease, 50, outer);
  EXPECT_TRUE(alone);
  EXPECT_EQ(total.load(), 50 * 45);
}

TEST(Pool, TwoThreadsHammering) {
  Pool pool(3, 5);
  std::atomic<int> wrong = 0, shared = 0;
  const auto hammer = [&](int64_t salt) {
    for (int64_t n = 0; n < 3000; ++n) {
      const Pool::Lease lease = pool.lease(1 + static_cast<unsigned>((n + salt) % 5));
      if (lease.size() > 1) ++shared;
      const int64_t chunks = (n * 7 + salt) % 40;
      std::atomic<int64_t> sum = 0;
      auto add = [&](int64_t chunk, unsigned) { sum += chunk + 1; };
      parallel(lease, chunks, add);
      if (sum.load() != chunks * (chunks + 1) / 2) ++wrong;
    }
  };
  std::thread other(hammer, 3);
  hammer(0);
  other.join();
  EXPECT_EQ(wrong.load(), 0);
  EXPECT_GT(shared.load(), 100);
}

TEST(Pool, WorkersWakeFromSleep) {
  Pool pool(2, 0);
  const Pool::Lease lease = pool.lease(3);
  for (int n = 0; n < 200; ++n) {
    if (n % 20 == 0) std::this_thread::sleep_for(std::chrono::milliseconds(1));
    ASSERT_TRUE(covers(lease, 9));
  }
}

// Gives a worker time to begin, two milliseconds at most.
void wait_for(const std::atomic<bool>& begun) {
  const auto end = std::chrono::steady_clock::now() + std::chrono::milliseconds(2);
  while (!begun && std::chrono::steady_clock::now() < end) std::this_thread::yield();
}

// A worker whose chunk takes far longer than all the caller's has lost its CPU: it is left out for at least two
// milliseconds, then called again.
TEST(Pool, WorkersThatStallAreLeftOutForAWhile) {
  using Clock = std::chrono::steady_clock;
  Pool pool(1);
  const Pool::Lease lease = pool.lease(2);
  std::atomic<bool> stalled = false;
  auto stall = [&](int64_t, unsigned worker) {
    if (worker == 0) return wait_for(stalled);
    stalled = true;
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  };
  std::atomic<bool> helped = false;
  auto look = [&](int64_t, unsigned worker) {
    if (worker == 1) helped = true;
    // Time for the worker to begin, less than it is left out for.
    const Clock::time_point end = Clock::now() + std::chrono::microseconds(100);
    while (worker == 0 && !helped && Clock::now() < end) std::this_thread::yield();
  };
  bool seen = false;
  for (int attempt = 0; attempt < 200 && !seen; ++attempt) {
    stalled = helped = false;
    parallel(lease, 2, stall);
    const Clock::time_point begin = Clock::now();
    parallel(lease, 2, look);
    // Both only where this thread was not held up itself.
    seen = stalled && Clock::now() - begin < std::chrono::microseconds(1500);
    if (seen) {
      EXPECT_FALSE(helped);
    }
  }
  EXPECT_TRUE(seen) << "no stall in two hundred regions";
  for (int attempt = 0; attempt < 2000 && !helped; ++attempt) {
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
    parallel(lease, 2, look);
  }
  EXPECT_TRUE(helped) << "the worker is never called again";
}

// One that computes all the time is just slower: the next region calls it again.
TEST(Pool, LongChunksAreNoStalls) {
  using Clock = std::chrono::steady_clock;
  bool again = false;
  for (int attempt = 0; attempt < 200 && !again; ++attempt) {
    Pool pool(1);
    const Pool::Lease lease = pool.lease(2);
    std::atomic<bool> helped = false;
    auto work = [&](int64_t, unsigned worker) {
      if (worker == 0) return wait_for(helped);
      helped = true;
      const Clock::time_point end = Clock::now() + std::chrono::milliseconds(1);
      while (Clock::now() < end) {
      }
    };
    parallel(lease, 2, work);
    if (!helped) continue;
    const Clock::time_point begin = Clock::now();
    helped = false;
    parallel(lease, 2, work);
    // Sooner than the pause after a stall ends; on a busy machine some are true, so one is enough.
    again = helped && Clock::now() - begin < std::chrono::microseconds(1900);
  }
  EXPECT_TRUE(again);
}

TEST(Pool, ResultsAreVisibleAfterTheRegion) {
  Pool pool(3);
  const Pool::Lease lease = pool.lease(4);
  std::vector<int64_t> plain(5000);
  for (int64_t round = 1; round < 50; ++round) {
    auto work = [&](int64_t chunk, unsigned) { plain[static_cast<size_t>(chunk)] += round; };
    parallel(lease, static_cast<int64_t>(plain.size()), work);
    for (const int64_t v : plain) ASSERT_EQ(v, round * (round + 1) / 2);
  }
}

TEST(Pool, ChildOfAForkWorksAlone) {
  Pool pool(2);
  ASSERT_TRUE(covers(pool.lease(3), 10));
  const pid_t child = fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    const Pool::Lease lease = pool.lease(3);
    _exit(lease.size() == 1 && covers(lease, 10) ? 0 : 1);
  }
  int status = -1;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_TRUE(WIFEXITED(status));
  EXPECT_EQ(WEXITSTATUS(status), 0);
  EXPECT_EQ(pool.lease(3).size(), 3u);
}

TEST(Pool, Shared) {
  EXPECT_GE(usable_cpus(), 1u);
  EXPECT_EQ(&Pool::shared(), &Pool::shared());
  EXPECT_LE(Pool::shared().lease(1000).size(), usable_cpus());
}

}  // namespace
}  // namespace sinter
