// Memory for tensors and runs: aligned to a cache line, and in large pages where it is large, since weights are read
// once a run and every small page of them costs a walk through the page table.
#pragma once

#include <cstddef>

namespace sinter {

constexpr size_t cache_line = 64;

// `bytes` rounded up to cache lines, to be given back with std::free; null when there is no memory. Contents are
// undefined.
void* allocate_aligned(size_t bytes);

}  // namespace sinter
