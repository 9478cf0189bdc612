// Copies between strided arrays of equal extents: what transposes, slices, concatenations, expansions and layout
// changes are made of.
//
// A copy is planned once for its extents (axes of extent 1 dropped, neighbours merged, the best loop order chosen) and
// run in independent chunks. Elements are moved as bytes of 1, 2, 4, 8 or 16; a stride of 0 in the source repeats.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace sinter::cpu {

struct StridedCopy {
  std::vector<int64_t> dims, to, from;     // outermost first, strides in elements
  int64_t width = 4;                       // bytes of an element
  int64_t to_offset = 0, from_offset = 0;  // elements
  int64_t chunks = 1;
  int64_t rows_per_chunk = 1;  // of the outermost axis (product of all but the inner two)

  // Extents with strides by axis; drops, merges and orders them. `threads`: how finely to split.
  static StridedCopy plan(std::vector<int64_t> dims, std::vector<int64_t> to, std::vector<int64_t> from, int64_t width,
                          int threads);
  void run(void* destination, const void* source, int64_t chunk) const;
  int64_t elements() const;

 private:
  template <typename T>
  void run_as(T* destination, const T* source, int64_t begin, int64_t end) const;
};

}  // namespace sinter::cpu
