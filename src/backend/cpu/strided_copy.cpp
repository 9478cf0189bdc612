#include "backend/cpu/strided_copy.h"

#include <algorithm>
#include <cstring>
#include <numeric>

namespace sinter::cpu {
namespace {

// Chunks below this many bytes cost more to hand out than to copy.
constexpr int64_t chunk_bytes = 64 << 10;
constexpr int64_t block = 32;  // of a two-dimensional transpose, elements

struct Bytes16 {
  uint64_t a, b;
};

// Two axes where source and destination run along different ones: square blocks keep both in cache.
template <typename T>
void copy_crossed(T* to, const T* from, int64_t rows, int64_t cols, int64_t to_row, int64_t to_col, int64_t from_row,
                  int64_t from_col) {
  for (int64_t r0 = 0; r0 < rows; r0 += block)
    for (int64_t c0 = 0; c0 < cols; c0 += block) {
      const int64_t r1 = std::min(rows, r0 + block), c1 = std::min(cols, c0 + block);
      for (int64_t r = r0; r < r1; ++r)
        for (int64_t c = c0; c < c1; ++c) to[r * to_row + c * to_col] = from[r * from_row + c * from_col];
    }
}

typedef float Four __attribute__((vector_size(16), aligned(4), may_alias));

// copy_crossed for elements of four bytes that lie densely along columns in `to` and along rows in `from`.
void copy_transposed(uint32_t* to, const uint32_t* from, int64_t rows, int64_t cols, int64_t to_row, int64_t from_col) {
  const auto load = [](const uint32_t* p) { return *reinterpret_cast<const Four*>(p); };
  const auto store = [](uint32_t* p, Four v) { *reinterpret_cast<Four*>(p) = v; };
  const int64_t whole_rows = rows / 4 * 4, whole_cols = cols / 4 * 4;
  // A line of `to` is written to its end while it is in the cache.
  for (int64_t r0 = 0; r0 < whole_rows; r0 += block)
    for (int64_t c = 0; c < whole_cols; c += 4)
      for (int64_t r = r0; r < std::min(whole_rows, r0 + block); r += 4) {
        const uint32_t* at = from + r + c * from_col;
        const Four a = load(at), b = load(at + from_col), d = load(at + 2 * from_col), e = load(at + 3 * from_col);
        const Four ab0 = __builtin_shufflevector(a, b, 0, 4, 1, 5), ab1 = __builtin_shufflevector(a, b, 2, 6, 3, 7);
        const Four de0 = __builtin_shufflevector(d, e, 0, 4, 1, 5), de1 = __builtin_shufflevector(d, e, 2, 6, 3, 7);
        uint32_t* out = to + r * to_row + c;
        store(out, __builtin_shufflevector(ab0, de0, 0, 1, 4, 5));
        store(out + to_row, __builtin_shufflevector(ab0, de0, 2, 3, 6, 7));
        store(out + 2 * to_row, __builtin_shufflevector(ab1, de1, 0, 1, 4, 5));
        store(out + 3 * to_row, __builtin_shufflevector(ab1, de1, 2, 3, 6, 7));
      }
  for (int64_t r = 0; r < rows; ++r)
    for (int64_t c = r < whole_rows ? whole_cols : 0; c < cols; ++c) to[r * to_row + c] = from[r + c * from_col];
}

// The same for elements of two bytes, eight by eight.
typedef uint16_t Eight __attribute__((vector_size(16), aligned(2), may_alias));
void copy_transposed(uint16_t* to, const uint16_t* from, int64_t rows, int64_t cols, int64_t to_row, int64_t from_col) {
  const int64_t whole_rows = rows / 8 * 8, whole_cols = cols / 8 * 8;
  // Lines k and k + 4 are woven into lines 2k and 2k + 1: three times is a transpose.
  const auto weave = [](const Eight(&in)[8], Eight(&out)[8]) {
    for (int k = 0; k < 4; ++k) {
      out[2 * k] = __builtin_shufflevector(in[k], in[k + 4], 0, 8, 1, 9, 2, 10, 3, 11);
      out[2 * k + 1] = __builtin_shufflevector(in[k], in[k + 4], 4, 12, 5, 13, 6, 14, 7, 15);
    }
  };
  for (int64_t r0 = 0; r0 < whole_rows; r0 += block)
    for (int64_t c = 0; c < whole_cols; c += 8)
      for (int64_t r = r0; r < std::min(whole_rows, r0 + block); r += 8) {
        alignas(16) Eight a[8], b[8];
        for (int k = 0; k < 8; ++k) a[k] = *reinterpret_cast<const Eight*>(from + r + (c + k) * from_col);
        weave(a, b);
        weave(b, a);
        weave(a, b);
        for (int k = 0; k < 8; ++k) *reinterpret_cast<Eight*>(to + (r + k) * to_row + c) = b[k];
      }
  for (int64_t r = 0; r < rows; ++r)
    for (int64_t c = r < whole_rows ? whole_cols : 0; c < cols; ++c) to[r * to_row + c] = from[r + c * from_col];
}

// Rows of N elements, dense in both.
template <int N, typename T>
void copy_short_rows(T* to, const T* from, int64_t rows, int64_t to_row, int64_t from_row) {
  for (int64_t r = 0; r < rows; ++r, to += to_row, from += from_row) std::memcpy(to, from, N * sizeof(T));
}

template <typename T>
void copy_row(T* to, const T* from, int64_t n, int64_t to_stride, int64_t from_stride) {
  if (to_stride == 1 && from_stride == 1) {
    std::memcpy(to, from, static_cast<size_t>(n) * sizeof(T));
  } else if (to_stride == 1 && from_stride == 0) {
    const T value = *from;
    for (int64_t i = 0; i < n; ++i) to[i] = value;
  } else {
    for (int64_t i = 0; i < n; ++i) to[i * to_stride] = from[i * from_stride];
  }
}

}  // namespace

StridedCopy StridedCopy::plan(std::vector<int64_t> dims, std::vector<int64_t> to, std::vector<int64_t> from,
                              int64_t width, int threads) {
  StridedCopy copy;
  copy.width = width;
  // Destination order, outermost first: writes stay sequential.
  std::vector<size_t> axes(dims.size());
  std::iota(axes.begin(), axes.end(), size_t{0});
  std::erase_if(axes, [&](size_t k) { return dims[k] == 1; });
  std::stable_sort(axes.begin(), axes.end(), [&](size_t a, size_t b) { return to[a] > to[b]; });
  for (size_t k : axes) {
    if (!copy.dims.empty() && copy.to.back() == dims[k] * to[k] && copy.from.back() == dims[k] * from[k]) {
      copy.dims.back() *= dims[k];
      copy.to.back() = to[k];
      copy.from.back() = from[k];
      continue;
    }
    copy.dims.push_back(dims[k]);
    copy.to.push_back(to[k]);
    copy.from.push_back(from[k]);
  }
  while (copy.dims.size() < 2) {
    copy.dims.insert(copy.dims.begin(), 1);
    copy.to.insert(copy.to.begin(), 0);
    copy.from.insert(copy.from.begin(), 0);
  }
  const size_t n = copy.dims.size();
  // Where the source runs along an outer axis, that axis becomes the other one of the inner pair.
  if (copy.from[n - 1] != 1) {
    for (size_t k = 0; k + 1 < n; ++k)
      if (copy.from[k] == 1 && k + 2 != n) {
        std::rotate(copy.dims.begin() + static_cast<int64_t>(k), copy.dims.begin() + static_cast<int64_t>(k) + 1,
                    copy.dims.end() - 1);
        std::rotate(copy.to.begin() + static_cast<int64_t>(k), copy.to.begin() + static_cast<int64_t>(k) + 1,
                    copy.to.end() - 1);
        std::rotate(copy.from.begin() + static_cast<int64_t>(k), copy.from.begin() + static_cast<int64_t>(k) + 1,
                    copy.from.end() - 1);
        break;
      }
  }
  // With a single outer row the second axis is split instead.
  int64_t outer = 1;
  for (size_t k = 0; k + 2 < n; ++k) outer *= copy.dims[k];
  if (outer < threads && copy.dims[n - 2] > 1) {
    const int64_t rows = copy.dims[n - 2];
    int64_t piece = rows;
    while (piece % 2 == 0 && outer * (rows / piece) < 4 * threads && piece > block) piece /= 2;
    if (piece != rows) {
      copy.dims.insert(copy.dims.end() - 1, piece);
      copy.to.insert(copy.to.end() - 1, copy.to[n - 2]);
      copy.from.insert(copy.from.end() - 1, copy.from[n - 2]);
      copy.dims[n - 2] = rows / piece;
      copy.to[n - 2] *= piece;
      copy.from[n - 2] *= piece;
      outer *= rows / piece;
    }
  }
  const int64_t bytes = copy.elements() * width;
  const int64_t wanted = std::clamp<int64_t>(bytes / chunk_bytes, 1, 4 * static_cast<int64_t>(threads));
  copy.rows_per_chunk = std::max<int64_t>(1, (outer + wanted - 1) / wanted);
  copy.chunks = bytes == 0 ? 0 : (outer + copy.rows_per_chunk - 1) / copy.rows_per_chunk;
  return copy;
}

int64_t StridedCopy::elements() const {
  int64_t n = 1;
  for (int64_t d : dims) n *= d;
  return n;
}

template <typename T>
void StridedCopy::run_as(T* destination, const T* source, int64_t begin, int64_t end) const {
  const size_t n = dims.size();
  const int64_t rows = dims[n - 2], cols = dims[n - 1];
  for (int64_t outer = begin; outer < end; ++outer) {
    int64_t rest = outer, d = to_offset, s = from_offset;
    for (size_t k = n - 2; k-- > 0;) {
      d += rest % dims[k] * to[k];
      s += rest % dims[k] * from[k];
      rest /= dims[k];
    }
    if (from[n - 1] != 0 && from[n - 1] != 1 && from[n - 2] == 1 && rows >= 4 && cols >= 4) {
      if constexpr (sizeof(T) == 4 || sizeof(T) == 2) {
        if (to[n - 1] == 1) {
          copy_transposed(destination + d, source + s, rows, cols, to[n - 2], from[n - 1]);
          continue;
        }
      }
      copy_crossed(destination + d, source + s, rows, cols, to[n - 2], to[n - 1], from[n - 2], from[n - 1]);
      continue;
    }
    if (to[n - 1] == 1 && from[n - 1] == 1 && cols <= 4) {
      T* const there = destination + d;
      const T* const here = source + s;
      switch (cols) {
        case 1: copy_short_rows<1>(there, here, rows, to[n - 2], from[n - 2]); break;
        case 2: copy_short_rows<2>(there, here, rows, to[n - 2], from[n - 2]); break;
        case 3: copy_short_rows<3>(there, here, rows, to[n - 2], from[n - 2]); break;
        case 4: copy_short_rows<4>(there, here, rows, to[n - 2], from[n - 2]); break;
        default: break;
      }
      continue;
    }
    for (int64_t r = 0; r < rows; ++r)
      copy_row(destination + d + r * to[n - 2], source + s + r * from[n - 2], cols, to[n - 1], from[n - 1]);
  }
}

void StridedCopy::run(void* destination, const void* source, int64_t chunk) const {
  int64_t outer = 1;
  for (size_t k = 0; k + 2 < dims.size(); ++k) outer *= dims[k];
  const int64_t begin = chunk * rows_per_chunk, end = std::min(outer, begin + rows_per_chunk);
  switch (width) {
    case 1: return run_as(static_cast<uint8_t*>(destination), static_cast<const uint8_t*>(source), begin, end);
    case 2: return run_as(static_cast<uint16_t*>(destination), static_cast<const uint16_t*>(source), begin, end);
    case 4: return run_as(static_cast<uint32_t*>(destination), static_cast<const uint32_t*>(source), begin, end);
    case 8: return run_as(static_cast<uint64_t*>(destination), static_cast<const uint64_t*>(source), begin, end);
    default: return run_as(static_cast<Bytes16*>(destination), static_cast<const Bytes16*>(source), begin, end);
  }
}

}  // namespace sinter::cpu
