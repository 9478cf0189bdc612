#include "counted_allocations.h"

#include <atomic>
#include <cstdlib>
#include <new>

namespace {

std::atomic<int64_t> count{0};

}  // namespace

namespace sinter::testing {

int64_t allocations() { return count; }

}  // namespace sinter::testing

#ifndef SINTER_SANITIZE

// Not inlined: the compiler would see new and free side by side and take them for a mistake.
#define SINTER_APART __attribute__((noinline))

SINTER_APART void* operator new(size_t size) {
  ++count;
  if (void* p = std::malloc(size > 0 ? size : 1)) return p;
  throw std::bad_alloc();
}

SINTER_APART void* operator new(size_t size, std::align_val_t alignment) {
  ++count;
  const auto a = static_cast<size_t>(alignment);
  if (void* p = std::aligned_alloc(a, (size + a) / a * a)) return p;
  throw std::bad_alloc();
}

SINTER_APART void operator delete(void* p) noexcept { std::free(p); }
SINTER_APART void operator delete(void* p, size_t) noexcept { std::free(p); }
SINTER_APART void operator delete(void* p, std::align_val_t) noexcept { std::free(p); }
SINTER_APART void operator delete(void* p, size_t, std::align_val_t) noexcept { std::free(p); }

#endif
