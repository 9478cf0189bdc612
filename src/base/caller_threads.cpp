#include "base/caller_threads.h"

#include <fmt/core.h>
#include <sched.h>

#include <algorithm>
#include <atomic>
#include <bit>
#include <mutex>
#include <string>
#include <vector>

#include "base/chunks.h"
#include "base/cpus.h"
#include "base/thread_pool.h"

namespace sinter {
namespace {

constexpr uint32_t open = 1u << 31;

enum Wrong : uint32_t { twice = 1, out_of_range = 2 };

}  // namespace

// A region's state, taken over by one crew after the other and never freed.
struct Crew::Region {
  struct alignas(64) Member : Part {
    std::atomic<bool> begun{false};
  };

  explicit Region(unsigned capacity) : members(capacity) {}

  alignas(64) std::atomic<uint32_t> gate{0};  // whether it is open, and how many are inside
  std::atomic<uint32_t> wrong{0};             // what was found inside
  std::atomic<int> wrong_worker{0};
  std::atomic<bool> strayed{false};  // the function broke its promise once: no other crew gets this
  // Written while the gate is shut and nobody is inside.
  alignas(64) Work work = nullptr;
  void* user = nullptr;
  unsigned workers = 0;
  std::vector<Member> members;

  // A worker's own part, then what others have left of theirs.
  void take_chunks(unsigned worker) {
    for (unsigned i = 0; i < workers; ++i) members[(worker + i) % workers].take(work, user, worker);
  }

  void note(Wrong what, int worker) {
    if (wrong.fetch_or(what, std::memory_order_relaxed) == 0) wrong_worker.store(worker, std::memory_order_relaxed);
  }

  Status judge(bool threw, const std::string& thrown, bool early) {
    const uint32_t found = wrong.load(std::memory_order_relaxed);
    const auto missing =
        static_cast<unsigned>(std::find_if(members.begin(), members.begin() + workers,
                                           [](const Member& m) { return !m.begun.load(std::memory_order_relaxed); }) -
                              members.begin());
    if (!threw && !early && found == 0 && missing == workers) return {};
    strayed.store(true, std::memory_order_relaxed);
    const char* const promise = "it has to call task(context, worker) once for each worker and return after all have";
    if (threw) return {Code::internal, fmt::format("the caller's threads: their run function threw {}", thrown)};
    std::string what;
    if (found & out_of_range)
      what = fmt::format("called worker {} where there are {}", wrong_worker.load(std::memory_order_relaxed), workers);
    else if (found & twice)
      what = fmt::format("called worker {} of {} twice", wrong_worker.load(std::memory_order_relaxed), workers);
    else if (missing < workers)
      what = fmt::format("returned without calling worker {} of {}", missing, workers);
    else
      what = "returned while workers were still running";
    return {Code::invalid_argument, fmt::format("the caller's threads: their run function {}; {}", what, promise)};
  }
};

// Those that no crew has, by capacity: powers of two.
struct Crew::Regions {
  std::mutex mutex;
  std::vector<std::unique_ptr<Region>> all;
  std::vector<std::pair<size_t, Region*>> idle;

  static Regions& of_process() {
    static Regions& regions = *new Regions;  // tasks may come until the end of the process
    return regions;
  }

  Region* take(unsigned workers) {
    const size_t capacity = std::bit_ceil(workers);
    const std::lock_guard lock(mutex);
    const auto found = std::find_if(idle.begin(), idle.end(), [&](const auto& r) { return r.first == capacity; });
    if (found != idle.end()) {
      Region* region = found->second;
      idle.erase(found);
      return region;
    }
    idle.reserve(all.size() + 1);  // so that giving back never fails
    all.push_back(std::make_unique<Region>(static_cast<unsigned>(capacity)));
    return all.back().get();
  }

  void give_back(Region* region) {
    const std::lock_guard lock(mutex);
    if (!region->strayed.load(std::memory_order_relaxed)) idle.emplace_back(region->members.size(), region);
  }
};

Crew::Crew(const CallerThreads& threads, unsigned wanted)
    : Workers(std::max(1u, std::min(wanted, threads.count))),
      threads_(threads),
      region_(Regions::of_process().take(size_)) {}

Crew::~Crew() { Regions::of_process().give_back(region_); }

void Crew::task(void* context, int worker) noexcept {
  if (!context) return;  // the worker will be missing
  Region& r = *static_cast<Region*>(context);
  uint32_t now = r.gate.load(std::memory_order_relaxed);
  do {
    if (!(now & open)) return r.strayed.store(true, std::memory_order_relaxed);
  } while (!r.gate.compare_exchange_weak(now, now + 1, std::memory_order_acquire, std::memory_order_relaxed));
  if (worker < 0 || static_cast<unsigned>(worker) >= r.workers)
    r.note(out_of_range, worker);
  else if (r.members[static_cast<size_t>(worker)].begun.exchange(true, std::memory_order_relaxed))
    r.note(twice, worker);
  else
    r.take_chunks(static_cast<unsigned>(worker));
  r.gate.fetch_sub(1, std::memory_order_release);
}

Status Crew::parallel(int64_t chunks, Work work, void* user) const {
  Region& r = *region_;
  const int64_t count = std::min<int64_t>(size_, chunks);
  if (count <= 1) {
    for (int64_t chunk = 0; chunk < chunks; ++chunk) work(user, chunk, 0);
    return {};
  }
  for (int64_t w = 0; w < count; ++w) {
    Region::Member& member = r.members[static_cast<size_t>(w)];
    member.begun.store(false, std::memory_order_relaxed);
    member.set(chunks, count, w);
  }
  r.work = work;
  r.user = user;
  r.workers = static_cast<unsigned>(count);
  r.wrong.store(0, std::memory_order_relaxed);
  r.gate.store(open, std::memory_order_release);
  bool threw = false;
  std::string thrown;
  try {
    threads_.run(threads_.user, task, region_, static_cast<int>(count));
  } catch (const std::exception& e) {
    threw = true;
    thrown = e.what();
  } catch (...) {
    threw = true;
    thrown = "something that is no std::exception";
  }
  // Nobody comes in any more; those inside are computing and will come out.
  const bool early = (r.gate.fetch_and(~open, std::memory_order_acquire) & ~open) != 0;
  while (r.gate.load(std::memory_order_acquire) != 0) sched_yield();
  return r.judge(threw, thrown, early);
}

namespace {

struct Default {
  std::mutex mutex;
  CallerThreads threads;
};
Default& process_default() {
  static Default& out = *new Default;
  return out;
}

}  // namespace

void set_default_threads(const CallerThreads& threads) {
  Default& d = process_default();
  const std::lock_guard lock(d.mutex);
  d.threads = threads;
}

CallerThreads default_threads() {
  Default& d = process_default();
  const std::lock_guard lock(d.mutex);
  return d.threads;
}

unsigned default_thread_count() {
  const CallerThreads threads = default_threads();
  return threads.count > 0 ? threads.count : usable_cpus();
}

std::unique_ptr<const Workers> hire(unsigned wanted) {
  if (const CallerThreads threads = default_threads(); threads.count > 0)
    return std::make_unique<Crew>(threads, wanted);
  return std::make_unique<Pool::Lease>(Pool::shared().lease(wanted));
}

}  // namespace sinter
