#include "base/thread_pool.h"

#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <thread>
#include <vector>

#include "base/chunks.h"
#include "base/cpus.h"
#include "base/crowd.h"

namespace sinter {
namespace {

using Clock = Crowd::Clock;
using std::chrono::microseconds;

void pause_cpu() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#endif
}

void futex_wait(std::atomic<uint32_t>& word, uint32_t expected) {
  syscall(SYS_futex, reinterpret_cast<uint32_t*>(&word), FUTEX_WAIT_PRIVATE, expected, nullptr, nullptr, 0);
}

void futex_wake(std::atomic<uint32_t>& word) {
  syscall(SYS_futex, reinterpret_cast<uint32_t*>(&word), FUTEX_WAKE_PRIVATE, 1, nullptr, nullptr, 0);
}

// The CPU time of a thread. (getrusage counts that of the calling thread up to the last tick.)
Clock::duration time_of(clockid_t clock) {
  timespec used = {};
  clock_gettime(clock, &used);
  return std::chrono::seconds(used.tv_sec) + std::chrono::nanoseconds(used.tv_nsec);
}

Crowd::Usage usage() {
  rusage used = {};
  getrusage(RUSAGE_THREAD, &used);
  return {time_of(CLOCK_THREAD_CPUTIME_ID), used.ru_nvcsw};
}

constexpr unsigned most_workers = 4095;
constexpr unsigned no_seat = ~0u, nobody = ~0u;

// What a worker is called with: how often that was, and one of these. Only the lease's holder calls and takes a call
// back, only the worker goes inside and comes out; a worker that comes late finds the call taken back, and nobody waits
// for it.
enum : uint32_t { idle = 0, called = 1, inside = 2, state_mask = 3, one_call = 4 };

}  // namespace

// The workers of one lease. It lies in the pool beside its first worker, so there is one for every lease that has any,
// and what a late worker might touch stays.
struct Pool::Team {
  // Written by the lease's holder while nobody is inside.
  alignas(64) Workers::Work work = nullptr;
  void* user = nullptr;
  unsigned count = 0;  // those of this region and the caller
  unsigned first = 0;  // worker; State::follow has the others
  alignas(64) Part caller{};
  alignas(64) Crowd crowd;
};

struct Pool::State {
  struct alignas(64) Worker : Part {
    std::atomic<uint32_t> call{0};
    std::atomic<uint32_t> asleep{0};
    // The lease's, written while the worker is idle, read by it inside.
    Team* team = nullptr;
    unsigned number = 0;  // in its team, from 1, which is `first`
    clockid_t clock = 0;
    // The caller's, while it waits: the worker's CPU time at the beginning; negative: it was not inside.
    Clock::duration used_before = {};
  };
  static_assert(sizeof(Worker) == 64);

  alignas(64) std::atomic<bool> stop{false};
  unsigned spin_microseconds = 0;
  pid_t pid = 0;
  std::vector<Worker> workers;
  std::vector<Team> teams;  // by the first worker
  std::vector<std::thread> threads;
  // By worker, the next one of its team, or `nobody`: apart from the workers, whose memory goes back and forth in
  // regions.
  std::vector<unsigned> follow;
  // A bit for every seat that is free. Seat 0 has no worker, seat s the worker s - 1: it works for the lease that took
  // the seat, or stays idle where the seat is the caller's.
  std::vector<std::atomic<uint64_t>> free;

  bool is_free(unsigned seat) const { return free[seat / 64].load(std::memory_order_relaxed) >> seat % 64 & 1; }
  // The caller's seat and those of its team, which lie in ascending order behind it.
  void give_back(unsigned seat, const Team* team) {
    size_t word = seat / 64;
    uint64_t bits = uint64_t{1} << seat % 64;
    for (unsigned w = team ? team->first : nobody; w != nobody; w = follow[w]) {
      const unsigned next = w + 1;
      if (next / 64 != word) {
        free[word].fetch_or(bits, std::memory_order_release);
        word = next / 64;
        bits = 0;
      }
      bits |= uint64_t{1} << next % 64;
    }
    free[word].fetch_or(bits, std::memory_order_release);
  }

  // Takes up to `wanted` seats, the first ones that are free: take(seat) for each.
  template <typename F>
  void take_seats(unsigned wanted, F take) {
    for (size_t w = 0; w < free.size() && wanted > 0; ++w) {
      uint64_t now = free[w].load(std::memory_order_relaxed), taken = 0;
      do {
        uint64_t left = now;
        for (unsigned i = 0; i < wanted && left != 0; ++i) left &= left - 1;
        taken = now & ~left;
      } while (taken != 0 &&
               !free[w].compare_exchange_weak(now, now & ~taken, std::memory_order_acquire, std::memory_order_relaxed));
      for (; taken != 0; taken &= taken - 1, --wanted)
        take(static_cast<unsigned>(w * 64) + static_cast<unsigned>(__builtin_ctzll(taken)));
    }
  }

  // A worker's own part, then what others have left of theirs. Parts are the same from region to region, so that a
  // worker finds what it wrote, and its share of the weights, in its own caches.
  void take_chunks(Team& team, unsigned number, unsigned index) {
    for (unsigned i = 0, at = number, w = index; i < team.count; ++i) {
      (at == 0 ? team.caller : workers[w]).take(team.work, team.user, number);
      w = at == 0 ? team.first : follow[w];
      if (++at == team.count) at = 0;
    }
  }

  // f(worker) for those that this region calls.
  template <typename F>
  void for_called(const Team& team, F f) {
    for (unsigned n = 1, w = team.first; n < team.count; ++n, w = follow[w]) f(workers[w]);
  }

  void work(unsigned index) {
    Worker& own = workers[index];
    uint32_t seen = 0;
    while (true) {
      seen = wait_for_change(index, seen);
      if (stop.load(std::memory_order_relaxed)) return;
      bool begun = false;
      while ((seen & state_mask) == called && !begun)
        begun = own.call.compare_exchange_weak(seen, seen ^ called ^ inside, std::memory_order_acquire,
                                               std::memory_order_relaxed);
      if (!begun) continue;
      take_chunks(*own.team, own.number, index);
      seen &= ~uint32_t{state_mask};
      own.call.store(seen, std::memory_order_release);
    }
  }

  // While its lease lasts another region is likely to follow soon, and waking takes longer than many regions do.
  uint32_t wait_for_change(unsigned index, uint32_t seen) {
    Worker& own = workers[index];
    const auto start = Clock::now();
    const microseconds alone(spin_microseconds), between(10 * spin_microseconds);
    Clock::duration waited;
    do {
      for (int i = 0; i < 64; ++i) {
        const uint32_t now = own.call.load(std::memory_order_acquire);
        if (now != seen) return now;
        pause_cpu();
      }
      waited = Clock::now() - start;
      if (waited >= alone) sched_yield();  // others may want this CPU, the lease's holder among them
    } while (waited < alone || (waited < between && !is_free(index + 1)));
    own.asleep.store(1, std::memory_order_seq_cst);
    uint32_t now = own.call.load(std::memory_order_seq_cst);
    while (now == seen) {
      futex_wait(own.call, seen);
      now = own.call.load(std::memory_order_seq_cst);
    }
    own.asleep.store(0, std::memory_order_relaxed);
    return now;
  }

  static void call(Worker& worker) {
    const uint32_t before = worker.call.load(std::memory_order_relaxed);
    worker.call.store(((before & ~uint32_t{state_mask}) + one_call) | called, std::memory_order_seq_cst);
    if (worker.asleep.load(std::memory_order_seq_cst) != 0) futex_wake(worker.call);
  }

  // Takes back the call of a worker that has not begun; whether it is, or has been, inside.
  static bool has_begun(Worker& worker) {
    uint32_t now = worker.call.load(std::memory_order_acquire);
    return (now & state_mask) != called ||
           !worker.call.compare_exchange_strong(now, now & ~uint32_t{state_mask}, std::memory_order_acquire);
  }

  static bool is_inside(const Worker& worker) {
    return (worker.call.load(std::memory_order_acquire) & state_mask) == inside;
  }

  // The caller waits until nobody is inside. When that takes long, it looks whether those inside had CPUs meanwhile: a
  // long chunk is no stall. False: this is the child of a fork that one of the chunks made, and they do not exist here.
  bool wait_for_workers(Team& team) {
    constexpr auto long_wait = microseconds(200);
    const Clock::time_point begin = Clock::now();
    Clock::time_point looked = {};
    unsigned spins = 0;
    bool forked = false;
    for_called(team, [&](const Worker& awaited) {
      for (; is_inside(awaited) && !forked; ++spins) {
        if (spins < 4096)
          pause_cpu();
        else
          sched_yield();  // a worker lost its CPU: let it have one
        if (spins >= 4096 && spins % 64 == 0) forked = pid != getpid();
        if (spins % 64 != 63 || looked != Clock::time_point() || Clock::now() - begin < long_wait) continue;
        looked = Clock::now();
        for_called(team, [](Worker& worker) {
          worker.used_before = is_inside(worker) ? time_of(worker.clock) : Clock::duration(-1);
        });
      }
    });
    if (forked) return false;
    if (looked == Clock::time_point()) return true;
    const Clock::time_point end = Clock::now();
    if (end - looked <= long_wait) return true;
    bool stalled = false;
    for_called(team, [&](const Worker& worker) {
      stalled = stalled || (worker.used_before >= Clock::duration() &&
                            2 * (time_of(worker.clock) - worker.used_before) <= end - looked);
    });
    if (stalled) team.crowd.stalled(end);
    return true;
  }
};

Pool::Pool(unsigned workers, unsigned spin_microseconds) : state_(std::make_unique<State>()) {
  State& s = *state_;
  s.spin_microseconds = spin_microseconds;
  s.pid = getpid();
  workers = std::min(workers, most_workers);
  s.workers = std::vector<State::Worker>(workers);
  s.teams = std::vector<Team>(workers);
  s.follow.assign(workers, nobody);
  s.free = std::vector<std::atomic<uint64_t>>(workers / 64 + 1);
  s.threads.reserve(workers);
  try {
    for (unsigned i = 0; i < workers; ++i) s.threads.emplace_back([state = &s, i] { state->work(i); });
  } catch (const std::exception&) {
    // The system gives no more threads: those that started do the work.
  }
  for (size_t i = 0; i < s.threads.size(); ++i)
    pthread_getcpuclockid(s.threads[i].native_handle(), &s.workers[i].clock);
  for (unsigned seat = 0; seat <= s.threads.size(); ++seat) s.give_back(seat, nullptr);
}

Pool::~Pool() {
  if (state_->pid != getpid()) {
    // The child of a fork has no such threads; their handles must not be joined.
    for (std::thread& thread : state_->threads) thread.detach();
    return;
  }
  state_->stop.store(true, std::memory_order_relaxed);
  for (size_t w = 0; w < state_->threads.size(); ++w) State::call(state_->workers[w]);
  for (std::thread& thread : state_->threads) thread.join();
}

Pool::Lease Pool::lease(unsigned wanted) {
  State& s = *state_;
  if (wanted > 1 && s.pid != getpid()) return Lease(nullptr, nullptr, 0, no_seat);
  unsigned own = no_seat, granted = 0;
  Team* team = nullptr;
  unsigned last = nobody;
  s.take_seats(std::max(wanted, 1u), [&](unsigned seat) {
    if (own == no_seat) {
      own = seat;
      return;
    }
    const unsigned w = seat - 1;
    if (team) {
      s.follow[last] = w;
    } else {
      team = &s.teams[w];
      team->first = w;
    }
    last = w;
    s.follow[w] = nobody;
    s.workers[w].team = team;
    s.workers[w].number = ++granted;
  });
  if (own == no_seat) return Lease(nullptr, nullptr, 0, no_seat);
  if (team) team->crowd.leased(granted);
  return Lease(&s, team, granted, own);
}

namespace {
std::unique_ptr<Pool> shared_pool;
}

// Not a static variable here: where another thread is making it as the process forks, the child would wait for that
// thread for ever. glibc's pthread_once begins anew there.
Pool& Pool::shared() {
  static pthread_once_t once = PTHREAD_ONCE_INIT;
  pthread_once(&once, [] { shared_pool = std::make_unique<Pool>(usable_cpus() - 1); });
  return *shared_pool;
}

Pool::Lease::Lease(Lease&& other) noexcept
    : Workers(other), state_(other.state_), team_(other.team_), seat_(other.seat_) {
  other.state_ = nullptr;
  other.team_ = nullptr;
  other.size_ = 1;
}

Pool::Lease::~Lease() {
  if (state_) state_->give_back(seat_, team_);
}

Status Pool::Lease::parallel(int64_t chunks, Work work, void* user) const noexcept {
  unsigned workers = 0;
  if (team_ && chunks > 1)
    workers = static_cast<unsigned>(std::min<int64_t>(team_->crowd.allowed(Clock::now(), usage), chunks - 1));
  if (workers == 0) {
    for (int64_t chunk = 0; chunk < chunks; ++chunk) work(user, chunk, 0);
    return {};
  }
  State& s = *state_;
  Team& team = *team_;
  team.work = work;
  team.user = user;
  team.count = workers + 1;
  team.caller.set(chunks, team.count, 0);
  int64_t part = 0;
  s.for_called(team, [&](State::Worker& worker) { worker.set(chunks, team.count, ++part); });
  s.for_called(team, State::call);
  s.take_chunks(team, 0, nobody);
  bool some_inside = false;
  s.for_called(team, [&](State::Worker& worker) {
    some_inside = (State::has_begun(worker) && State::is_inside(worker)) || some_inside;
  });
  if (some_inside && !s.wait_for_workers(team))
    return {Code::internal,
            "the process was forked in the middle of parallel work; the threads that did a part of it are not in the "
            "child: run again there"};
  return {};
}

}  // namespace sinter
