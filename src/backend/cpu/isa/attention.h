// The two products of an attention over planes of bf16, a block of rows at a time: scores go from tiles to where they
// are used, rows of weights are read where they lie.
//
// One table per number of bf16 planes. An element's sum goes through the steps of 32 in ascending order with the terms
// of contract_planes.inc, whatever the block. What infinite operands spoil shows as NaN; the caller computes such
// blocks again by contract.h. B comes from pack_b of the contractions with as many planes.
#pragma once

#include <cstdint>

namespace sinter::cpu {

// C = A * B. Rows come 16 at a time: behind the last one there must be room to read A and to write C. Columns of C come
// 16 at a time too.
struct TileProduct {
  int64_t rows = 0, n = 0, steps = 0;  // steps of 32 along the sum, at least one
  // Plane p of row r and step s: 32 numbers at a + r / 16 * tile + r % 16 * row + s * step + p * plane bytes.
  const char* a = nullptr;
  int64_t row = 0, tile = 0, step = 0, plane = 0;
  const float* b = nullptr;
  float* c = nullptr;
  int64_t ldc = 0;  // floats
};

// Rows of sums and what becomes of them: times 1 / scale[row] where there is one.
struct TileFinish {
  int64_t rows = 0, n = 0;
  const float* from = nullptr;
  int64_t ld = 0;
  const float* scale = nullptr;
  float* to = nullptr;
  uint16_t* narrow_to = nullptr;  // bf16 instead; only where there is one plane
  int64_t stride = 0;             // elements
};

struct AttentionTable {
  int planes;
  // Tiles of the calling thread are set up for blocks of so many rows until they are released.
  void (*begin)(int64_t rows);
  void (*end)();
  void (*product)(const TileProduct&);
  // Rows of k numbers as [tile of 16 rows][step][plane][16][32], zeros behind k.
  void (*split)(const float* from, int64_t stride, int64_t rows, int64_t k, char* to);
  void (*split_narrow)(const uint16_t* from, int64_t stride, int64_t rows, int64_t k, char* to);  // one plane alone
  bool (*has_nan)(const float* from, int64_t ld, int64_t rows, int64_t n);
  bool (*finish)(const TileFinish&);  // whether a result is NaN
};

#ifdef SINTER_X86
extern const AttentionTable attention_avx512_bf16;
extern const AttentionTable attention_amx_bf16, attention_amx_bf16x3, attention_amx_bf16x6;
#endif

}  // namespace sinter::cpu
