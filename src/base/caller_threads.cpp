#include "base/caller_threads.h"

#include <fmt/core.h>
#include <sched.h>

#include <algorithm>
#include <atomic>
#include <bit>
#include <exception>
#include <memory>
#include <string>
#include <vector>

#include "base/chunks.h"
#include "base/cpus.h"
#include "base/thread_pool.h"

namespace sinter {
namespace {

// A region's gate: which region that is, whether it is open, and how many are inside. The context that a task gets is
// no pointer but the slot of the region's state and the same number, so a call that belongs to another region is known,
// whatever has become of that. (Numbers come again after 2^44 regions.)
constexpr unsigned number_bits = 44, gate_bits = 64 - number_bits;
constexpr uint64_t open = uint64_t{1} << (gate_bits - 1), inside = open - 1;
constexpr uint64_t numbers = (uint64_t{1} << number_bits) - 1;
constexpr size_t slots = 1 << 16;
static_assert(sizeof(void*) == sizeof(uint64_t));

enum Wrong : uint32_t { twice = 1, out_of_range = 2 };

}  // namespace

// A region's state, taken over by one crew after the other and never freed.
struct Crew::Region {
  struct alignas(64) Member : Part {
    std::atomic<bool> begun{false};
  };

  explicit Region(unsigned capacity) : members(capacity) {}

  alignas(64) std::atomic<uint64_t> gate{0};
  std::atomic<uint32_t> wrong{0};  // what was found inside
  std::atomic<int> wrong_worker{0};
  std::atomic<bool> taken{true};
  size_t slot = 0;
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

// All there are, each in a slot of its own from 1 on: as many as were in use at once, for each capacity. Nothing locks,
// so that the child of a fork finds no lock that is held by nobody.
struct Crew::Regions {
  static inline std::atomic<Region*> all[slots] = {};
  static inline std::atomic<size_t> next{1};

  // Null: there are no more.
  static Region* take(unsigned workers) {
    const size_t capacity = std::bit_ceil(workers);
    const size_t end = next.load(std::memory_order_acquire);
    for (size_t slot = 1; slot < end; ++slot) {
      Region* region = all[slot].load(std::memory_order_acquire);
      if (region && region->members.size() == capacity && !region->taken.load(std::memory_order_relaxed) &&
          !region->taken.exchange(true, std::memory_order_acquire))
        return region;
    }
    auto made = std::make_unique<Region>(static_cast<unsigned>(capacity));
    size_t slot = end;
    do {
      if (slot == slots) return nullptr;
    } while (!next.compare_exchange_weak(slot, slot + 1, std::memory_order_acq_rel, std::memory_order_acquire));
    made->slot = slot;
    all[slot].store(made.get(), std::memory_order_release);
    return made.release();
  }

  static Region* in(size_t slot) { return slot < slots ? all[slot].load(std::memory_order_acquire) : nullptr; }
};

Crew::Crew(const CallerThreads& threads, unsigned wanted)
    : Workers(std::max(1u, std::min(wanted, threads.count))),
      threads_(threads),
      region_(size_ > 1 ? Regions::take(size_) : nullptr) {
  if (!region_) size_ = 1;
}

Crew::~Crew() {
  if (region_) region_->taken.store(false, std::memory_order_release);
}

void Crew::task(void* context, int worker) noexcept {
  const auto ticket = reinterpret_cast<uint64_t>(context);
  Region* const region = Regions::in(ticket >> number_bits);
  if (!region) return;  // no context of ours; the worker will be missing
  Region& r = *region;
  uint64_t now = r.gate.load(std::memory_order_relaxed);
  do {
    if (now >> gate_bits != (ticket & numbers) || !(now & open) || (now & inside) == inside) return;
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
  const int64_t count = std::min<int64_t>(size_, chunks);
  if (count <= 1) {
    for (int64_t chunk = 0; chunk < chunks; ++chunk) work(user, chunk, 0);
    return {};
  }
  Region& r = *region_;
  for (int64_t w = 0; w < count; ++w) {
    Region::Member& member = r.members[static_cast<size_t>(w)];
    member.begun.store(false, std::memory_order_relaxed);
    member.set(chunks, count, w);
  }
  r.work = work;
  r.user = user;
  r.workers = static_cast<unsigned>(count);
  r.wrong.store(0, std::memory_order_relaxed);
  const uint64_t number = ((r.gate.load(std::memory_order_relaxed) >> gate_bits) + 1) & numbers;
  void* const context = reinterpret_cast<void*>(uint64_t{r.slot} << number_bits | number);
  r.gate.store(number << gate_bits | open, std::memory_order_release);
  bool threw = false;
  std::string thrown;
  try {
    threads_.run(threads_.user, task, context, static_cast<int>(count));
  } catch (const std::exception& e) {
    threw = true;
    thrown = e.what();
  } catch (...) {
    threw = true;
    thrown = "something that is no std::exception";
  }
  // Nobody comes in any more; those inside are computing and will come out.
  const bool early = (r.gate.fetch_and(~open, std::memory_order_acquire) & inside) != 0;
  while ((r.gate.load(std::memory_order_acquire) & inside) != 0) sched_yield();
  return r.judge(threw, thrown, early);
}

namespace {

// What was the default once stays, as others may be reading it; what comes again is found again.
struct Default {
  CallerThreads threads;
  const Default* before = nullptr;
};
std::atomic<const Default*> defaults{nullptr};         // the last one that was made
std::atomic<const Default*> process_default{nullptr};  // null: none

}  // namespace

void set_default_threads(const CallerThreads& threads) {
  if (threads.count == 0) return process_default.store(nullptr, std::memory_order_release);
  const Default* all = defaults.load(std::memory_order_acquire);
  for (const Default* d = all; d; d = d->before)
    if (d->threads.count == threads.count && d->threads.run == threads.run && d->threads.user == threads.user)
      return process_default.store(d, std::memory_order_release);
  Default* const made = new Default{threads, all};
  while (!defaults.compare_exchange_weak(made->before, made, std::memory_order_acq_rel, std::memory_order_acquire)) {
  }
  process_default.store(made, std::memory_order_release);
}

CallerThreads default_threads() {
  const Default* d = process_default.load(std::memory_order_acquire);
  return d ? d->threads : CallerThreads();
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
