// A pool of worker threads that is leased, never waited for.
//
// lease() takes idle workers without blocking and may grant none, so nested and concurrent use cannot deadlock. A lease
// keeps its workers until it goes: they spin between parallel regions, ten times as long as without a lease, and then
// sleep. In parallel() each worker, the caller among them, has a part of the chunks, equal ones from first to last, and
// helps with the others' when its own is done; a worker that has not begun by then is not waited for. Where other
// programs keep the CPUs busy, so that workers lose theirs in the middle of chunks, regions do with fewer for a while.
// Nothing allocates or locks in a region. After a fork the child's pool has no workers and every lease grants the
// caller alone.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>

namespace sinter {

class Pool {
  struct State;

 public:
  explicit Pool(unsigned workers, unsigned spin_microseconds = 30);
  ~Pool();
  Pool(const Pool&) = delete;
  Pool& operator=(const Pool&) = delete;

  class Lease {
   public:
    Lease(Lease&&) noexcept;
    Lease& operator=(Lease&&) = delete;
    ~Lease();
    unsigned size() const { return granted_ + 1; }  // workers granted and the caller
    // fn(user, chunk, worker) for every chunk in [0, chunks), worker in [0, size()); returns when all are done.
    // fn must not throw.
    void parallel(int64_t chunks, void (*fn)(void* user, int64_t chunk, unsigned worker), void* user) const noexcept;

   private:
    friend class Pool;
    Lease(State* state, unsigned granted) : state_(state), granted_(granted) {}
    State* state_;
    unsigned granted_;
  };

  // At most wanted - 1 workers besides the caller.
  Lease lease(unsigned wanted);
  // The process's pool: one worker fewer than usable CPUs.
  static Pool& shared();

 private:
  std::unique_ptr<State> state_;
};

// CPUs that affinity and the control group's quota leave to this process; at least 1.
unsigned usable_cpus();

}  // namespace sinter
