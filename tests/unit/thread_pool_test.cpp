#include "base/thread_pool.h"

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <optional>
#include <thread>
#include <vector>

#include "base/cpus.h"
#include "regions.h"

namespace sinter {
namespace {

using testing::covers;

template <typename F>
void parallel(const Pool::Lease& lease, int64_t chunks, F& f) {
  EXPECT_TRUE(testing::parallel(lease, chunks, f).ok());
}

// A pool and a lease of all of it.
struct Leased {
  explicit Leased(unsigned workers, unsigned spin_microseconds = 30)
      : pool(workers, spin_microseconds), lease(pool.lease(workers + 1)) {}
  Pool pool;
  const Pool::Lease lease;

  template <typename F>
  void parallel(int64_t chunks, F& f) const {
    sinter::parallel(lease, chunks, f);
  }
};

// How a child process ended.
int end_of(pid_t child) {
  int status = -1;
  EXPECT_EQ(waitpid(child, &status, 0), child);
  return status;
}

TEST(Pool, EveryChunkRunsOnce) {
  for (const unsigned workers : {0u, 1u, 3u}) {
    const Leased all(workers);
    EXPECT_EQ(all.lease.size(), workers + 1);
    for (const int64_t chunks : {0, 1, 2, 3, 7, 64, 1000})
      EXPECT_TRUE(covers(all.lease, chunks)) << workers << " " << chunks;
  }
}

TEST(Pool, OwnPartComesFirstAndInOrder) {
  const Leased all(2);
  for (const int64_t chunks : {2, 3, 10, 100}) {
    std::vector<std::vector<int64_t>> done(3);
    auto work = [&](int64_t chunk, unsigned worker) { done[worker].push_back(chunk); };
    all.parallel(chunks, work);
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

// Threads that work are no more than there are seats, one for each worker and one more.
TEST(Pool, LeasesShareTheSeats) {
  Pool pool(7);
  std::optional<Pool::Lease> a = pool.lease(2), c;
  const Pool::Lease b = pool.lease(3);
  EXPECT_EQ(a->size(), 2u);
  EXPECT_EQ(b.size(), 3u);
  c.emplace(pool.lease(100));
  EXPECT_EQ(c->size(), 3u);
  EXPECT_EQ(pool.lease(2).size(), 1u);
  EXPECT_TRUE(covers(*a, 100) && covers(b, 100) && covers(*c, 100));
  a.reset();
  EXPECT_EQ(pool.lease(100).size(), 2u);
  c.reset();
  const Pool::Lease alone = pool.lease(1);
  EXPECT_EQ(pool.lease(100).size(), 4u);
  EXPECT_TRUE(covers(b, 100));
}

TEST(Pool, LeasesOfMoreThanOneWordOfSeats) {
  Pool pool(150);
  const Pool::Lease first = pool.lease(50), second = pool.lease(80);
  EXPECT_EQ(first.size(), 50u);
  EXPECT_EQ(second.size(), 80u);
  EXPECT_TRUE(covers(second, 1000));
  {
    const Pool::Lease rest = pool.lease(1000);
    EXPECT_EQ(rest.size(), 21u);
    EXPECT_TRUE(covers(rest, 1000));
  }
  EXPECT_TRUE(covers(first, 1000));
  EXPECT_EQ(pool.lease(1000).size(), 21u);
}

// Each lease's regions are its own: one that has not ended does not hold up others.
TEST(Pool, RegionsOfDifferentLeasesRunAtTheSameTime) {
  Pool pool(3);
  const Pool::Lease first = pool.lease(2), second = pool.lease(2);
  std::atomic<bool> begun = false, over = false;
  auto wait = [&](int64_t, unsigned) {
    begun = true;
    while (!over) std::this_thread::yield();
  };
  std::thread other([&] { parallel(first, 2, wait); });
  while (!begun) std::this_thread::yield();
  for (int n = 0; n < 100; ++n) EXPECT_TRUE(covers(second, 10));
  over = true;
  other.join();
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
  Leased all(3);
  std::atomic<int64_t> total = 0;
  std::atomic<bool> alone = true;
  auto outer = [&](int64_t, unsigned) {
    const Pool::Lease inner = all.pool.lease(4);
    if (inner.size() != 1) alone = false;
    auto add = [&](int64_t chunk, unsigned) { total += chunk; };
    parallel(inner, 10, add);
  };
  all.parallel(50, outer);
  EXPECT_TRUE(alone);
  EXPECT_EQ(total.load(), 50 * 45);
}

// Workers go from one lease to the other all the time; no two threads are one worker of a region.
TEST(Pool, FourThreadsHammering) {
  constexpr unsigned seats = 8;
  Pool pool(seats - 1, 5);
  std::atomic<int> wrong = 0, shared = 0;
  std::atomic<unsigned> taken = 0;
  const auto hammer = [&](int64_t salt) {
    for (int64_t n = 0; n < 2000; ++n) {
      const Pool::Lease lease = pool.lease(2 + static_cast<unsigned>((n + salt) % 5));
      if (lease.size() > 1) {
        ++shared;
        if ((taken += lease.size()) > seats) ++wrong;
      }
      const int64_t chunks = (n * 7 + salt) % 40;
      std::atomic<int64_t> sum = 0;
      std::vector<std::atomic<int>> inside(lease.size());
      auto add = [&](int64_t chunk, unsigned worker) {
        if (inside[worker].fetch_add(1) != 0) ++wrong;
        sum += chunk + 1;
        inside[worker].fetch_sub(1);
      };
      parallel(lease, chunks, add);
      if (sum.load() != chunks * (chunks + 1) / 2) ++wrong;
      if (lease.size() > 1) taken -= lease.size();
    }
  };
  std::vector<std::thread> others;
  for (int64_t salt = 1; salt < 4; ++salt) others.emplace_back(hammer, salt);
  hammer(0);
  for (std::thread& other : others) other.join();
  EXPECT_EQ(wrong.load(), 0);
  EXPECT_GT(shared.load(), 100);
  EXPECT_EQ(pool.lease(100).size(), seats);
}

TEST(Pool, WorkersWakeFromSleep) {
  const Leased all(2, 0);
  for (int n = 0; n < 200; ++n) {
    if (n % 20 == 0) std::this_thread::sleep_for(std::chrono::milliseconds(1));
    ASSERT_TRUE(covers(all.lease, 9));
  }
}

// A pool of one worker, a lease of it, and regions of two chunks: the caller's, who gives the worker time to begin, two
// milliseconds at most, and the worker's.
struct Pair : Leased {
  Pair() : Leased(1) {}
  std::atomic<bool> helped = false;

  template <typename F>
  void region(F worker_does, std::chrono::microseconds patience = std::chrono::milliseconds(2)) {
    helped = false;
    auto work = [&](int64_t, unsigned worker) {
      if (worker != 0) {
        helped = true;
        return worker_does();
      }
      const auto end = std::chrono::steady_clock::now() + patience;
      while (!helped && std::chrono::steady_clock::now() < end) std::this_thread::yield();
    };
    parallel(2, work);
  }
};

// A worker whose chunk takes far longer than all the caller's has lost its CPU: it is left out for at least two
// milliseconds, then called again.
TEST(Pool, WorkersThatStallAreLeftOutForAWhile) {
  using Clock = std::chrono::steady_clock;
  Pair pair;
  const auto look = [&] { pair.region([] {}, std::chrono::microseconds(100)); };
  bool seen = false;
  for (int attempt = 0; attempt < 200 && !seen; ++attempt) {
    pair.region([] { std::this_thread::sleep_for(std::chrono::milliseconds(20)); });
    const bool stalled = pair.helped;
    const Clock::time_point begin = Clock::now();
    look();
    // Both only where this thread was not held up itself.
    seen = stalled && Clock::now() - begin < std::chrono::microseconds(1500);
    if (seen) {
      EXPECT_FALSE(pair.helped);
    }
  }
  EXPECT_TRUE(seen) << "no stall in two hundred regions";
  for (int attempt = 0; attempt < 2000 && !pair.helped; ++attempt) {
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
    look();
  }
  EXPECT_TRUE(pair.helped) << "the worker is never called again";
}

// One that computes all the time is just slower: the next region calls it again.
TEST(Pool, LongChunksAreNoStalls) {
  using Clock = std::chrono::steady_clock;
  const auto compute = [] {
    const Clock::time_point end = Clock::now() + std::chrono::milliseconds(1);
    while (Clock::now() < end) {
    }
  };
  bool again = false;
  for (int attempt = 0; attempt < 200 && !again; ++attempt) {
    Pair pair;
    pair.region(compute);
    if (!pair.helped) continue;
    const Clock::time_point begin = Clock::now();
    pair.region(compute);
    // Sooner than the pause after a stall ends; on a busy machine some are true, so one is enough.
    again = pair.helped && Clock::now() - begin < std::chrono::microseconds(1900);
  }
  EXPECT_TRUE(again);
}

TEST(Pool, ResultsAreVisibleAfterTheRegion) {
  const Leased all(3);
  std::vector<int64_t> plain(5000);
  for (int64_t round = 1; round < 50; ++round) {
    auto work = [&](int64_t chunk, unsigned) { plain[static_cast<size_t>(chunk)] += round; };
    all.parallel(static_cast<int64_t>(plain.size()), work);
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
  EXPECT_EQ(end_of(child), 0);
  EXPECT_EQ(pool.lease(3).size(), 3u);
}

// The worker that is inside exists in the parent alone: the child is told, and can use the lease again.
TEST(Pool, AChunkThatForks) {
  const Leased all(1);
  std::atomic<bool> inside = false, forked = false;
  pid_t child = -1;
  auto work = [&](int64_t, unsigned worker) {
    if (worker == 1) {
      inside = true;
      while (!forked) std::this_thread::yield();
    } else if (!forked) {
      while (!inside) std::this_thread::yield();
      child = fork();
      if (child == 0) alarm(20);
      forked = true;
    }
  };
  const Status status = testing::parallel(all.lease, 2, work);
  if (child == 0) _exit(status.code() == Code::internal && covers(all.lease, 10) && covers(all.lease, 0) ? 0 : 1);
  EXPECT_TRUE(status.ok()) << status.message();
  EXPECT_TRUE(covers(all.lease, 10));
  ASSERT_GT(child, 0);
  EXPECT_EQ(end_of(child), 0);
}

TEST(Pool, Shared) {
  EXPECT_EQ(&Pool::shared(), &Pool::shared());
  EXPECT_LE(Pool::shared().lease(1000).size(), usable_cpus());
}

}  // namespace
}  // namespace sinter
