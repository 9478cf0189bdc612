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

// One region at a time: `signal` holds its number and how many workers take part, so a worker learns both at once.
struct Pool::State {
  static constexpr uint32_t count_bits = 12;
  static constexpr uint32_t count_mask = (1u << count_bits) - 1;

  alignas(64) std::atomic<uint32_t> signal{0};
  std::atomic<uint32_t> sleepers{0};
  std::atomic<bool> stop{false};
  alignas(64) std::atomic<int64_t> next{0};
  alignas(64) std::atomic<uint32_t> done{0};
  // Written by the lease's holder before `signal`, read by taking workers after it.
  int64_t chunks = 0;
  void (*fn)(void*, int64_t, unsigned) = nullptr;
  void* user = nullptr;
  alignas(64) std::atomic<bool> leased{false};
  unsigned spin_microseconds = 0;
  pid_t pid = 0;
  std::vector<std::thread> threads;

  void take_chunks(unsigned worker) {
    for (int64_t chunk = next.fetch_add(1, std::memory_order_relaxed); chunk < chunks;
         chunk = next.fetch_add(1, std::memory_order_relaxed))
      fn(user, chunk, worker);
  }

  void work(unsigned worker) {
    uint32_t seen = 0;
    while (true) {
      const uint32_t now = wait_for_change(seen);
      if (stop.load(std::memory_order_relaxed)) return;
      seen = now;
      if (worker > (now & count_mask)) continue;  // workers are numbered from 1
      take_chunks(worker);
      done.fetch_add(1, std::memory_order_release);
    }
  }

  uint32_t wait_for_change(uint32_t seen) {
    const auto until = std::chrono::steady_clock::now() + std::chrono::microseconds(spin_microseconds);
    do {
      for (int i = 0; i < 64; ++i) {
        const uint32_t now = signal.load(std::memory_order_acquire);
        if (now != seen) return now;
        pause_cpu();
      }
    } while (std::chrono::steady_clock::now() < until);
    sleepers.fetch_add(1, std::memory_order_seq_cst);
    uint32_t now = signal.load(std::memory_order_seq_cst);
    while (now == seen) {
      futex_wait(signal, seen);
      now = signal.load(std::memory_order_seq_cst);
    }
    sleepers.fetch_sub(1, std::memory_order_relaxed);
    return now;
  }

  void raise(uint32_t participants) {
    const uint32_t now = signal.load(std::memory_order_relaxed);
    signal.store((((now >> count_bits) + 1) << count_bits) | participants, std::memory_order_seq_cst);
    if (sleepers.load(std::memory_order_seq_cst) > 0) futex_wake_all(signal);
  }
};

Pool::Pool(unsigned workers, unsigned spin_microseconds) : state_(std::make_unique<State>()) {
  state_->spin_microseconds = spin_microseconds;
  state_->pid = getpid();
  try {
    for (unsigned i = 0; i < std::min(workers, State::count_mask - 1); ++i)
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
  state_->raise(0);
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
  s.chunks = chunks;
  s.fn = fn;
  s.user = user;
  s.next.store(0, std::memory_order_relaxed);
  s.done.store(0, std::memory_order_relaxed);
  s.raise(granted_);
  s.take_chunks(0);
  for (unsigned spins = 0; s.done.load(std::memory_order_acquire) != granted_; ++spins) {
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
