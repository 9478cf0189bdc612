// Workers: those that share the chunks of a parallel region, leased of a pool (base/thread_pool.h) or threads that the
// caller of the library gives (base/caller_threads.h).
#pragma once

#include <cstdint>

#include "base/error.h"

namespace sinter {

class Workers {
 public:
  using Work = void (*)(void* user, int64_t chunk, unsigned worker);

  virtual ~Workers() = default;
  unsigned size() const { return size_; }  // with the caller
  // work(user, chunk, worker) for every chunk in [0, chunks), worker in [0, size()) and no two threads with the same
  // one at a time; returns when all are done. `work` must not throw. Used by one thread at a time. A bad status: the
  // threads were not used as they have to be, chunks may be missing.
  virtual Status parallel(int64_t chunks, Work work, void* user) const = 0;

 protected:
  explicit Workers(unsigned size) : size_(size) {}
  Workers(const Workers&) = default;
  unsigned size_;
};

}  // namespace sinter
