// Part: what one worker of a region begins with of its chunks, and where others help when theirs is done.
#pragma once

#include <atomic>

#include "base/workers.h"

namespace sinter {

struct Part {
  std::atomic<int64_t> next{0};
  int64_t end = 0;

  // The w-th of `count` parts of [0, chunks), equal ones from first to last. Before workers begin.
  void set(int64_t chunks, int64_t count, int64_t w) {
    const int64_t size = chunks / count, more = chunks % count;
    next.store(size * w + (w < more ? w : more), std::memory_order_relaxed);
    end = size * (w + 1) + (w < more ? w + 1 : more);
  }
  // Does what is left of it.
  void take(Workers::Work work, void* user, unsigned worker) {
    if (next.load(std::memory_order_relaxed) >= end) return;
    for (int64_t chunk = next.fetch_add(1, std::memory_order_relaxed); chunk < end;
         chunk = next.fetch_add(1, std::memory_order_relaxed))
      work(user, chunk, worker);
  }
};

}  // namespace sinter
