#include "base/thread_pool.h"

#include <linux/futex.h>
#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <chrono>
#include <climits>
#include <cstdio>
#include <thread>
#include <vector>

namespace sinter {
namespace {

void pause_cpu() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#endif
}

void futex_wait(std::atomic<uint32_t>& word, uint32_t expected) {
  syscall(SYS_futex, reinterpret_cast<uint32_t*>(&word), FUTEX_WAIT_PRIVATE, expected, nullptr, nullptr, 0);
}

void futex_wake_all(std::atomic<uint32_t>& word) {
  syscall(SYS_futex, reinterpret_cast<uint32_t*>(&word), FUTEX_WAKE_PRIVATE, INT_MAX, nullptr, nullptr, 0);
}

}  // namespace

// One region at a time. `signal` counts regions and is what workers wait for; `gate` tells whether the region is open,
// for how many workers, and how many are inside. A worker that comes late finds the gate shut: nobody waits for it.
struct Pool::State {
  static constexpr uint32_t open = 1u << 31;
  static constexpr uint32_t count_bits = 12;
  static constexpr uint32_t count_mask = (1u << count_bits) - 1;

  // The next chunk of a worker's own part of a region, and the part's end.
  struct alignas(64) Part {
    std::atomic<int64_t> next{0};
    int64_t end = 0;
  };

  alignas(64) std::atomic<uint32_t> signal{0};
  std::atomic<uint32_t> sleepers{0};
  std::atomic<bool> stop{false};
  std::atomic<bool> leased{false};
  alignas(64) std::atomic<uint32_t> gate{0};
  // Written by the lease's holder while the gate is shut and nobody is inside.
  void (*fn)(void*, int64_t, unsigned) = nullptr;
  void* user = nullptr;
  std::vector<Part> parts;
  unsigned spin_microseconds = 0;
  pid_t pid = 0;
  std::vector<std::thread> threads;

  // A worker's own part, then what others have left of theirs. Parts are the same from region to region, so that a
  // worker finds what it wrote, and its share of the weights, in its own caches.
  void take_chunks(unsigned worker, unsigned workers) {
    for (unsigned i = 0; i < workers; ++i) {
      Part& part = parts[(worker + i) % workers];
      if (part.next.load(std::memory_order_relaxed) >= part.end) continue;
      for (int64_t chunk = part.next.fetch_add(1, std::memory_order_relaxed); chunk < part.end;
           chunk = part.next.fetch_add(1, std::memory_order_relaxed))
        fn(user, chunk, worker);
    }
  }

  void work(unsigned worker) {
    uint32_t seen = 0;
    while (true) {
      seen = wait_for_change(seen);
      if (stop.load(std::memory_order_relaxed)) return;
      uint32_t now = gate.load(std::memory_order_relaxed);
      bool inside = false;
      while ((now & open) && worker <= (now >> count_bits & count_mask) && !inside)  // workers are numbered from 1
        inside = gate.compare_exchange_weak(now, now + 1, std::memory_order_acquire, std::memory_order_relaxed);
      if (!inside) continue;
      take_chunks(worker, (now >> count_bits & count_mask) + 1);
      gate.fetch_sub(1, std::memory_order_release);
    }
  }

  // While a lease lasts another region is likely to follow soon, and waking takes longer than many regions do.
  uint32_t wait_for_change(uint32_t seen) {
    const auto start = std::chrono::steady_clock::now();
    const std::chrono::microseconds idle(spin_microseconds), between(10 * spin_microseconds);
    std::chrono::steady_clock::duration waited;
    do {
      for (int i = 0; i < 64; ++i) {
        const uint32_t now = signal.load(std::memory_order_acquire);
        if (now != seen) return now;
        pause_cpu();
      }
      waited = std::chrono::steady_clock::now() - start;
    } while (waited < idle || (waited < between && leased.load(std::memory_order_relaxed)));
    sleepers.fetch_add(1, std::memory_order_seq_cst);
    uint32_t now = signal.load(std::memory_order_seq_cst);
    while (now == seen) {
      futex_wait(signal, seen);
      now = signal.load(std::memory_order_seq_cst);
    }
    sleepers.fetch_sub(1, std::memory_order_relaxed);
    return now;
  }

  void raise() {
    signal.fetch_add(1, std::memory_order_seq_cst);
    if (sleepers.load(std::memory_order_seq_cst) > 0) futex_wake_all(signal);
  }
};

Pool::Pool(unsigned workers, unsigned spin_microseconds) : state_(std::make_unique<State>()) {
  state_->spin_microseconds = spin_microseconds;
  state_->pid = getpid();
  workers = std::min(workers, State::count_mask - 1);
  state_->parts = std::vector<State::Part>(workers + 1);
  try {
    for (unsigned i = 0; i < workers; ++i)
      state_->threads.emplace_back([state = state_.get(), i] { state->work(i + 1); });
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
  state_->raise();
  for (std::thread& thread : state_->threads) thread.join();
}

Pool::Lease Pool::lease(unsigned wanted) {
  State& s = *state_;
  const unsigned workers = std::min<unsigned>(wanted > 0 ? wanted - 1 : 0, static_cast<unsigned>(s.threads.size()));
  if (workers == 0 || s.pid != getpid() || s.leased.exchange(true, std::memory_order_acquire)) return Lease(nullptr, 0);
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
  if (state_) state_->leased.store(false, std::memory_order_release);
}

void Pool::Lease::parallel(int64_t chunks, void (*fn)(void*, int64_t, unsigned), void* user) const {
  if (granted_ == 0 || chunks <= 1) {
    for (int64_t chunk = 0; chunk < chunks; ++chunk) fn(user, chunk, 0);
    return;
  }
  State& s = *state_;
  const int64_t workers = granted_ + 1;
  for (int64_t w = 0, begin = 0; w < workers; ++w) {
    State::Part& part = s.parts[static_cast<size_t>(w)];
    part.next.store(begin, std::memory_order_relaxed);
    begin += chunks / workers + (w < chunks % workers ? 1 : 0);
    part.end = begin;
  }
  s.fn = fn;
  s.user = user;
  s.gate.store(State::open | granted_ << State::count_bits, std::memory_order_release);
  s.raise();
  s.take_chunks(0, size());
  s.gate.fetch_and(~State::open, std::memory_order_relaxed);
  for (unsigned spins = 0; (s.gate.load(std::memory_order_acquire) & State::count_mask) != 0; ++spins) {
    if (spins < 4096)
      pause_cpu();
    else
      sched_yield();  // a worker lost its CPU: let it have one
  }
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
