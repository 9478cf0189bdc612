#include "base/aligned.h"

#include <sys/mman.h>

#include <cstdlib>

namespace sinter {

void* allocate_aligned(size_t bytes) {
  constexpr size_t large_page = size_t{2} << 20;
  const size_t padded = (bytes + cache_line - 1) / cache_line * cache_line;
  if (padded < bytes) return nullptr;
  if (padded < large_page) return std::aligned_alloc(cache_line, padded);
  const size_t pages = (padded + large_page - 1) / large_page * large_page;
  if (pages < padded) return nullptr;
  void* data = std::aligned_alloc(large_page, pages);
  // Only whole large pages: the rest of the last one would be memory that nobody asked for. A refusal costs speed.
  if (data) ::madvise(data, padded / large_page * large_page, MADV_HUGEPAGE);
  return data;
}

}  // namespace sinter
