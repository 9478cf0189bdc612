// Products of bytes, exact: C[M x N] of i32 (wrapping) from A[M x K] of unsigned bytes and B[K x N] of signed ones.
//
// One table of functions per instruction set. Four rows of B lie together in a panel of `integer_columns` columns, as
// tensor/layout.h has panels of bytes; four bytes of A in a packed row. Both are packed with signs flipped on the way:
// bytes of the other signedness become these by XOR with 0x80, which moves their zero point by 128. Zero points are
// corrections by row and column. Left to the caller: where rows of A come from, blocks, threads.
#pragma once

#include <cstdint>

namespace sinter::cpu {

// Of a panel: columns, and what K is padded to.
inline constexpr int64_t integer_columns = 64, integer_depth = 64;

struct IntegerProduct {
  int64_t rows = 0, k = 0, cols = 0;  // cols <= integer_columns
  const void* a = nullptr;            // packed rows, or rows that may stay as they lie
  int64_t a_stride = 0;               // bytes from row to row
  const void* b = nullptr;            // one packed panel
  const void* next = nullptr;         // what the next product reads as b: brought nearer on the way
  const uint32_t* start = nullptr;    // integer_columns numbers, what sums of columns begin with
  // What else is taken from sums: all of these or, where `start` says all, none.
  const uint32_t* row_zero = nullptr;  // zero points of A by row
  const uint32_t* row_term = nullptr;  // by row: sum of A's row - k * its zero point
  const uint32_t* col_sum = nullptr;   // sums of B's columns
  const uint32_t* col_zero = nullptr;  // zero points of B by column
  uint32_t* c = nullptr;               // start + A * B - row_zero * col_sum - row_term * col_zero
  int64_t ldc = 0;
};

struct IntegerTable {
  int64_t row_unit;                 // blocks of a multiple of so many rows waste nothing
  int64_t (*row_bytes)(int64_t k);  // of a packed row of A, a multiple of 8
  bool plain_rows;                  // packed rows are their bytes, and zeros up to row_bytes
  // Whether rows of A of unsigned bytes, `stride` bytes apart, may stay as they lie.
  bool (*takes_plain)(int64_t k, int64_t stride);
  // Packs k bytes, each XOR flip; gives their sum.
  uint32_t (*pack_row)(const uint8_t* from, int64_t k, uint8_t flip, void* to);
  // Packs `cols` columns of k rows that lie `stride` bytes apart, each byte XOR flip. Rows that four, and columns
  // that sixteen lack are zeros.
  void (*pack_panel)(const uint8_t* from, int64_t k, int64_t stride, int64_t cols, uint8_t flip, void* to);
  void (*multiply)(const IntegerProduct&);
  // Bytes as floats around their zero point: n times (from ^ flip) - (zero ^ flip).
  void (*center)(const uint8_t* from, int64_t n, uint8_t flip, uint8_t zero, float* to);
  // Whole numbers below 2^31; to may be from.
  void (*to_words)(const float* from, int64_t n, int32_t* to);
  // The largest of each of n bytes at `count` places, compared by byte ^ flip; 0 ^ flip of none.
  void (*largest)(const uint8_t* const* from, int64_t count, int64_t n, uint8_t flip, uint8_t* to);
};

extern const IntegerTable integer_portable;
#ifdef SINTER_X86
extern const IntegerTable integer_avx2;
extern const IntegerTable integer_avx512;
extern const IntegerTable integer_vnni_avx512;
extern const IntegerTable integer_amx;
#endif

}  // namespace sinter::cpu
