#include "base/thread_pool.h"

#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <thread>
#include <vector>

namespace sinter {
namespace {

using Clock = std::chrono::steady_clock;
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

// What the calling thread has used of CPUs, and how often it gave one up by itself.
struct Usage {
  Clock::duration time = {};
  int64_t waits = 0;
};
Usage usage() {
  rusage used = {};
  getrusage(RUSAGE_THREAD, &used);
  return {time_of(CLOCK_THREAD_CPUTIME_ID), used.ru_nvcsw};
}

// How many workers a lease had better use where other programs want the CPUs too: a region waits for a worker that lost
// its CPU in the middle of a chunk, a scheduler's slice of some milliseconds each time, and a caller that shares its
// CPU with a worker of its own gains nothing. Each such stall takes workers away for a while, twice as long when the
// last one was not long ago. On a machine with nothing else to do stalls are rare, and one costs two milliseconds.
class Crowd {
 public:
  void leased(unsigned granted) {
    if (granted != granted_) *this = Crowd();
    granted_ = granted;
    begun_ = sampled_ = false;
  }
  // At the beginning of a region: the workers to call.
  unsigned allowed(Clock::time_point now) {
    if (!begun_) {
      begun_ = true;
      since_ = now;
    }
    if (const Clock::duration passed = now - since_; passed > (sampled_ ? sample_time : settled)) {
      // Regions do not sleep: what the caller could not use of its CPU, others have taken.
      const Usage used = usage();
      const Clock::duration lost = passed - (used.time - before_.time);
      if (sampled_ && with_workers_ && used.waits == before_.waits && 3 * lost > passed) stalled(now);
      sampled_ = true;
      with_workers_ = false;
      since_ = now;
      before_ = used;
    }
    if (now >= until_) less_ = 0;
    const unsigned workers = granted_ > less_ ? granted_ - less_ : 0;
    with_workers_ = with_workers_ || workers > 0;
    return workers;
  }
  void stalled(Clock::time_point now) {
    const bool again = now < until_ + std::max<Clock::duration>(2 * pause_, microseconds(10000));
    pause_ = again ? std::min<Clock::duration>(2 * pause_, longest_pause) : least_pause;
    const unsigned left = granted_ > less_ ? granted_ - less_ : 0;
    less_ = std::min(granted_, less_ + std::max(1u, left / 4));
    until_ = now + pause_;
  }

 private:
  static constexpr auto settled = microseconds(200), sample_time = microseconds(2000);
  static constexpr auto least_pause = microseconds(2000), longest_pause = microseconds(512000);

  Clock::time_point until_ = {}, since_ = {};  // since_: the lease's first region, then the last sample
  Clock::duration pause_ = least_pause;
  Usage before_;
  unsigned less_ = 0, granted_ = 0;  // less_: workers that are left out until `until_`
  bool begun_ = false, sampled_ = false, with_workers_ = false;
};

}  // namespace

// One region at a time. `gate` tells whether it is open, for how many workers, and how many are inside; a worker that
// comes late finds the gate shut, and nobody waits for it.
struct Pool::State {
  static constexpr uint32_t open = 1u << 31;
  static constexpr uint32_t count_bits = 12;
  static constexpr uint32_t count_mask = (1u << count_bits) - 1;

  struct alignas(64) Worker {
    // Its part of the region: the next chunk, and the end.
    std::atomic<int64_t> next{0};
    int64_t end = 0;
    std::atomic<uint32_t> signal{0};  // counts what it is called for
    std::atomic<uint32_t> asleep{0};
    std::atomic<uint32_t> inside{0};
    // The caller's, while it waits: the worker's CPU time at the beginning; negative: it was not inside.
    Clock::duration used_before = {};
    clockid_t clock = 0;
  };

  alignas(64) std::atomic<uint32_t> gate{0};
  std::atomic<bool> stop{false};
  // Written by the lease's holder while the gate is shut and nobody is inside.
  void (*fn)(void*, int64_t, unsigned) = nullptr;
  void* user = nullptr;
  alignas(64) std::atomic<uint32_t> leased{0};  // workers of the lease and its holder; 0: there is none
  unsigned spin_microseconds = 0;
  pid_t pid = 0;
  Crowd crowd;                  // the lease's holder's
  std::vector<Worker> workers;  // and the caller, the first
  std::vector<std::thread> threads;

  // A worker's own part, then what others have left of theirs. Parts are the same from region to region, so that a
  // worker finds what it wrote, and its share of the weights, in its own caches.
  void take_chunks(unsigned worker, unsigned count) {
    for (unsigned i = 0; i < count; ++i) {
      Worker& part = workers[(worker + i) % count];
      if (part.next.load(std::memory_order_relaxed) >= part.end) continue;
      for (int64_t chunk = part.next.fetch_add(1, std::memory_order_relaxed); chunk < part.end;
           chunk = part.next.fetch_add(1, std::memory_order_relaxed))
        fn(user, chunk, worker);
    }
  }

  void work(unsigned worker) {
    uint32_t seen = 0;
    while (true) {
      seen = wait_for_change(worker, seen);
      if (stop.load(std::memory_order_relaxed)) return;
      uint32_t now = gate.load(std::memory_order_relaxed);
      bool inside = false;
      while ((now & open) && worker <= (now >> count_bits & count_mask) && !inside)  // workers are numbered from 1
        inside = gate.compare_exchange_weak(now, now + 1, std::memory_order_acquire, std::memory_order_relaxed);
      if (!inside) continue;
      workers[worker].inside.store(1, std::memory_order_relaxed);
      take_chunks(worker, (now >> count_bits & count_mask) + 1);
      workers[worker].inside.store(0, std::memory_order_relaxed);
      gate.fetch_sub(1, std::memory_order_release);
    }
  }

  // While its lease lasts another region is likely to follow soon, and waking takes longer than many regions do.
  uint32_t wait_for_change(unsigned worker, uint32_t seen) {
    Worker& own = workers[worker];
    const auto start = Clock::now();
    const microseconds idle(spin_microseconds), between(10 * spin_microseconds);
    Clock::duration waited;
    do {
      for (int i = 0; i < 64; ++i) {
        const uint32_t now = own.signal.load(std::memory_order_acquire);
        if (now != seen) return now;
        pause_cpu();
      }
      waited = Clock::now() - start;
      if (waited >= idle) sched_yield();  // others may want this CPU, the lease's holder among them
    } while (waited < idle || (waited < between && worker < leased.load(std::memory_order_relaxed)));
    own.asleep.store(1, std::memory_order_seq_cst);
    uint32_t now = own.signal.load(std::memory_order_seq_cst);
    while (now == seen) {
      futex_wait(own.signal, seen);
      now = own.signal.load(std::memory_order_seq_cst);
    }
    own.asleep.store(0, std::memory_order_relaxed);
    return now;
  }

  // The caller waits until nobody is inside. When that takes long, it looks whether those inside had CPUs meanwhile: a
  // long chunk is no stall.
  void wait_for_workers(unsigned called) {
    constexpr auto long_wait = microseconds(200);
    const Clock::time_point begin = Clock::now();
    Clock::time_point looked = {};
    for (unsigned spins = 0; (gate.load(std::memory_order_acquire) & count_mask) != 0; ++spins) {
      if (spins < 4096)
        pause_cpu();
      else
        sched_yield();  // a worker lost its CPU: let it have one
      if (spins % 64 != 63 || looked != Clock::time_point() || Clock::now() - begin < long_wait) continue;
      looked = Clock::now();
      for (unsigned w = 1; w <= called; ++w) {
        Worker& worker = workers[w];
        const bool is_inside = worker.inside.load(std::memory_order_relaxed) != 0;
        worker.used_before = is_inside ? time_of(worker.clock) : Clock::duration(-1);
      }
    }
    if (looked == Clock::time_point()) return;
    const Clock::time_point end = Clock::now();
    for (unsigned w = 1; w <= called; ++w) {
      const Worker& worker = workers[w];
      if (worker.used_before < Clock::duration() || 2 * (time_of(worker.clock) - worker.used_before) > end - looked)
        continue;
      if (end - looked > long_wait) return crowd.stalled(end);
    }
  }

  void call(unsigned worker) {
    Worker& called = workers[worker];
    called.signal.fetch_add(1, std::memory_order_seq_cst);
    if (called.asleep.load(std::memory_order_seq_cst) != 0) futex_wake(called.signal);
  }
};

Pool::Pool(unsigned workers, unsigned spin_microseconds) : state_(std::make_unique<State>()) {
  state_->spin_microseconds = spin_microseconds;
  state_->pid = getpid();
  workers = std::min(workers, State::count_mask - 1);
  state_->workers = std::vector<State::Worker>(workers + 1);
  try {
    for (unsigned i = 0; i < workers; ++i)
      state_->threads.emplace_back([state = state_.get(), i] { state->work(i + 1); });
    for (size_t i = 0; i < state_->threads.size(); ++i)
      pthread_getcpuclockid(state_->threads[i].native_handle(), &state_->workers[i + 1].clock);
  } catch (const std::exception&) {
    // The system gives no more threads: those that started do the work.
  }
}

Pool::~Pool() {
  if (state_->pid != getpid()) {
    // The child of a fork has no such threads; their handles must not be joined.
    for (std::thread& thread : state_->threads) thread.detach();
    return;
  }
  state_->stop.store(true, std::memory_order_relaxed);
  for (unsigned w = 1; w <= state_->threads.size(); ++w) state_->call(w);
  for (std::thread& thread : state_->threads) thread.join();
}

Pool::Lease Pool::lease(unsigned wanted) {
  State& s = *state_;
  const unsigned workers = std::min<unsigned>(wanted > 0 ? wanted - 1 : 0, static_cast<unsigned>(s.threads.size()));
  uint32_t none = 0;
  if (workers == 0 || s.pid != getpid() ||
      !s.leased.compare_exchange_strong(none, workers + 1, std::memory_order_acquire, std::memory_order_relaxed))
    return Lease(nullptr, 0);
  s.crowd.leased(workers);
  return Lease(&s, workers);
}

Pool& Pool::shared() {
  static Pool pool(usable_cpus() - 1);
  return pool;
}

Pool::Lease::Lease(Lease&& other) noexcept : state_(other.state_), granted_(other.granted_) {
  other.state_ = nullptr;
  other.granted_ = 0;
}

Pool::Lease::~Lease() {
  if (state_) state_->leased.store(0, std::memory_order_release);
}

void Pool::Lease::parallel(int64_t chunks, void (*fn)(void*, int64_t, unsigned), void* user) const noexcept {
  unsigned called = 0;
  if (granted_ > 0 && chunks > 1)
    called = static_cast<unsigned>(std::min<int64_t>(state_->crowd.allowed(Clock::now()), chunks - 1));
  if (called == 0) {
    for (int64_t chunk = 0; chunk < chunks; ++chunk) fn(user, chunk, 0);
    return;
  }
  State& s = *state_;
  const int64_t count = called + 1;
  for (int64_t w = 0, first = 0; w < count; ++w) {
    State::Worker& worker = s.workers[static_cast<size_t>(w)];
    worker.next.store(first, std::memory_order_relaxed);
    first += chunks / count + (w < chunks % count ? 1 : 0);
    worker.end = first;
  }
  s.fn = fn;
  s.user = user;
  s.gate.store(State::open | called << State::count_bits, std::memory_order_release);
  for (unsigned w = 1; w <= called; ++w) s.call(w);
  s.take_chunks(0, called + 1);
  s.gate.fetch_and(~State::open, std::memory_order_relaxed);
  if ((s.gate.load(std::memory_order_acquire) & State::count_mask) != 0) s.wait_for_workers(called);
}

unsigned usable_cpus() {
  cpu_set_t set;
  unsigned cpus = 1;
  if (sched_getaffinity(0, sizeof set, &set) == 0) cpus = static_cast<unsigned>(CPU_COUNT(&set));
  // Control group version 2: "quota period" in microseconds, or "max".
  if (FILE* file = std::fopen("/sys/fs/cgroup/cpu.max", "re")) {
    long long quota = 0, period = 0;
    if (std::fscanf(file, "%lld %lld", &quota, &period) == 2 && quota > 0 && period > 0) {
      const auto allowed = static_cast<unsigned>((quota + period - 1) / period);
      if (allowed < cpus) cpus = allowed;
    }
    std::fclose(file);
  }
  return cpus > 0 ? cpus : 1;
}

}  // namespace sinter
