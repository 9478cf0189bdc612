// A pool of worker threads that are leased, never waited for.
//
// lease() takes idle workers out of the pool without blocking and may grant none, so nested and concurrent use cannot
// deadlock; any number of leases may be out at once, each with workers of its own. The callers count, too: a pool has
// a seat for each of its workers and one more, and a lease takes a seat for its caller before any for workers, so that
// all the threads that work are no more than the seats while that can be. A lease keeps its workers until it goes: they
// spin between parallel regions, ten times as long as without a lease, and then sleep. In parallel() each worker, the
// caller among them, has a part of the chunks, equal ones from first to last, and helps with the others' when its own
// is done; a worker that has not begun by then is not waited for. Where other programs keep the CPUs busy, so that
// workers lose theirs in the middle of chunks, regions do with fewer for a while (base/crowd.h). Nothing allocates or
// locks in a region or a lease. After a fork the child's pool has no workers: every new lease grants the caller alone,
// and one that was out goes on with the caller alone.
#pragma once

#include <cstdint>
#include <memory>

#include "base/workers.h"

namespace sinter {

class Pool {
  struct State;
  struct Team;

 public:
  explicit Pool(unsigned workers, unsigned spin_microseconds = 30);
  ~Pool();
  Pool(const Pool&) = delete;
  Pool& operator=(const Pool&) = delete;

  class Lease final : public Workers {
   public:
    Lease(Lease&&) noexcept;
    Lease& operator=(Lease&&) = delete;
    ~Lease() override;
    // Bad only in the child of a fork that a chunk of this region made.
    Status parallel(int64_t chunks, Work work, void* user) const noexcept override;

   private:
    friend class Pool;
    Lease(State* state, Team* team, unsigned granted, unsigned seat)
        : Workers(granted + 1), state_(state), team_(team), seat_(seat) {}
    State* state_;   // null: there was no seat
    Team* team_;     // null: the caller is alone
    unsigned seat_;  // the caller's
  };

  // At most wanted - 1 workers besides the caller.
  Lease lease(unsigned wanted);
  // The process's pool: one worker fewer than usable CPUs.
  static Pool& shared();

 private:
  std::unique_ptr<State> state_;
};

}  // namespace sinter
