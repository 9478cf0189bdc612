// Helpers for tests of what runs the chunks of parallel regions.
#pragma once

#include <atomic>
#include <vector>

#include "base/workers.h"

namespace sinter::testing {

template <typename F>
Status parallel(const Workers& workers, int64_t chunks, F& f) {
  return workers.parallel(
      chunks, [](void* user, int64_t chunk, unsigned worker) { (*static_cast<F*>(user))(chunk, worker); }, &f);
}

// Runs a region and tells whether every chunk ran exactly once on one of the workers.
inline bool covers(const Workers& workers, int64_t chunks) {
  std::vector<std::atomic<int>> runs(static_cast<size_t>(chunks));
  std::atomic<bool> in_range = true;
  auto work = [&](int64_t chunk, unsigned worker) {
    if (chunk < 0 || chunk >= chunks || worker >= workers.size()) {
      in_range = false;
      return;
    }
    runs[static_cast<size_t>(chunk)].fetch_add(1);
  };
  if (!parallel(workers, chunks, work).ok()) return false;
  for (const auto& r : runs)
    if (r.load() != 1) return false;
  return in_range;
}

}  // namespace sinter::testing
