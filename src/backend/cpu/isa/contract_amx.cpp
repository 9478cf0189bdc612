// Contractions of f32 split into bf16 planes, on AMX tiles; entered after a CPUID test and with permission to use
// tiles.
//
// x = h + m + l, each plane the nearest bf16 of what the planes before it leave. Three terms (hm, hh, mh) of two planes
// err less than TF32 does, six of three planes less than a chain of fp32 multiply-adds; one term is plain bf16. All
// terms of an element add up in one fp32 accumulator of the tile unit, in an order that depends on k and the tap alone.
//
// Values that round to infinity are held at the largest bf16 in every plane but the last, so an infinite operand stands
// in the last plane only. What can go wrong with infinities shows as NaN, never as a wrong number: blocks with NaN are
// computed again, exactly. The tile unit takes denormal bf16 as zero; with two or more planes that loses what lies
// below 2^-126 of an operand.
#include <immintrin.h>

#include "backend/cpu/isa/contract.h"

#define SINTER_INLINE [[maybe_unused]] static inline __attribute__((always_inline))

namespace sinter::cpu {
namespace {

#include "backend/cpu/isa/contract_rows.inc"
#include "backend/cpu/isa/vector_avx512.inc"

constexpr int64_t tile_rows = 16, tile_depth = 32, tile_bytes = 1024;
constexpr int panel_columns = 32;  // two tiles

template <int TERMS>
constexpr int planes_of = TERMS == 1   ? 1
                          : TERMS == 3 ? 2
                                       : 3;

struct alignas(64) TileConfig {
  uint8_t palette = 1, start_row = 0, reserved[14] = {};
  uint16_t column_bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
  uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
};
constexpr TileConfig tile_config;

// ---- planes

constexpr float largest_bf16 = 3.3895313892515355e38f;

// Keeps finite what would round to infinity; NaN passes.
SINTER_INLINE __m512 bounded(__m512 x) {
  const __m512 top = _mm512_set1_ps(largest_bf16);
  return _mm512_max_ps(_mm512_set1_ps(-largest_bf16), _mm512_min_ps(top, x));
}

SINTER_INLINE __m512 widen(__m256i halves) {
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(halves), 16));
}

// 32 numbers into the planes' 32 bf16 each.
template <int PLANES>
SINTER_INLINE void split(__m512 x0, __m512 x1, __m512i* planes) {
#pragma GCC unroll 3
  for (int i = 0; i < PLANES; ++i) {
    const bool last = i + 1 == PLANES;
    const __m512bh rounded = last ? _mm512_cvtne2ps_pbh(x1, x0) : _mm512_cvtne2ps_pbh(bounded(x1), bounded(x0));
    __builtin_memcpy(&planes[i], &rounded, sizeof(rounded));
    if (!last) {
      x0 = _mm512_sub_ps(x0, widen(_mm512_castsi512_si256(planes[i])));
      x1 = _mm512_sub_ps(x1, widen(_mm512_extracti64x4_epi64(planes[i], 1)));
    }
  }
}

SINTER_INLINE __mmask16 first_lanes(int64_t n) {
  return n >= 16 ? static_cast<__mmask16>(0xffff) : n <= 0 ? __mmask16{0} : static_cast<__mmask16>((1u << n) - 1);
}

// A row of K numbers into row `r` of its tiles: [step][plane][16][32].
template <int PLANES>
SINTER_INLINE void split_row(const float* row, int64_t k, char* to) {
  __m512i planes[PLANES];
  for (int64_t i = 0; i < k; i += tile_depth, to += PLANES * tile_bytes) {
    const __m512 x0 = _mm512_maskz_loadu_ps(first_lanes(k - i), row + i);
    const __m512 x1 = _mm512_maskz_loadu_ps(first_lanes(k - i - 16), row + i + 16);
    split<PLANES>(x0, x1, planes);
#pragma GCC unroll 3
    for (int p = 0; p < PLANES; ++p) _mm512_store_si512(to + p * tile_bytes, planes[p]);
  }
}

// ---- how one call is cut

struct Shape {
  bool table, merged;
  int64_t k, taps;    // after merging
  int64_t steps;      // of 32, over all taps
  int64_t row_bytes;  // of one row of A in planes
  int64_t m_block, block_rows;
  int64_t zero_bytes, block_bytes, table_bytes, edge_bytes, total_bytes;
};

template <int PLANES>
Shape shape_of(const ContractArgs& p, int64_t rows) {
  constexpr int64_t planes_limit = 768 << 10, block_limit = 16 << 10;
  Shape s = {};
  s.merged = p.run > 1;
  s.k = p.k * p.run;
  s.taps = p.taps / p.run;
  const int64_t tap_steps = up_to(s.k, tile_depth) / tile_depth;
  s.steps = s.taps * tap_steps;
  s.row_bytes = s.steps * PLANES * 64;
  s.table = p.window != nullptr;
  int64_t limit = most(planes_limit / most(s.row_bytes, 1), 32);
  if (p.m_block > 0) limit = p.m_block;
  s.m_block = even(rows, up_to(limit, 32), 32);
  s.block_rows =
      even(s.m_block, p.epilogue_rows > 0 ? up_to(p.epilogue_rows, 32) : block_limit / (4 * panel_columns), 32);
  s.block_bytes = up_to(s.block_rows, 32) * panel_columns * 4;
  s.total_bytes = up_to(s.m_block, tile_rows) * s.row_bytes + s.block_bytes;
  if (s.table) {
    s.zero_bytes = up_to(s.k * 4, 64);
    s.table_bytes = up_to(s.m_block * s.taps * 8, 64);
    s.edge_bytes = s.merged ? s.m_block * s.taps * s.k * 4 : 0;
    s.total_bytes += s.zero_bytes + s.table_bytes + s.edge_bytes;
  }
  return s;
}

template <int PLANES>
int64_t scratch_size(const ContractArgs& p, int64_t rows) {
  return shape_of<PLANES>(p, least(rows, p.m)).total_bytes;
}

// ---- tiles: 0 to 3 accumulate, 4 and 5 hold A, 6 and 7 hold B

template <int MT, int NT>
SINTER_INLINE void load_a(const char* a, int64_t next) {
  _tile_loadd(4, a, 64);
  if constexpr (MT == 2) _tile_loadd(5, a + next, 64);
}

template <int NT>
SINTER_INLINE void load_b(const char* b, int64_t next) {
  _tile_loadd(6, b, 64);
  if constexpr (NT == 2) _tile_loadd(7, b + next, 64);
}

template <int MT, int NT>
SINTER_INLINE void multiply() {
  _tile_dpbf16ps(0, 4, 6);
  if constexpr (NT == 2) _tile_dpbf16ps(1, 4, 7);
  if constexpr (MT == 2) _tile_dpbf16ps(2, 5, 6);
  if constexpr (MT == 2 && NT == 2) _tile_dpbf16ps(3, 5, 7);
}

// MT x NT tiles of C over all steps. a_next: bytes from a tile of A to the one below.
template <int TERMS, int MT, int NT>
void tiles_of(const char* a, int64_t a_next, const char* b, int64_t steps, float* c, const char* ahead,
              int64_t ahead_lines) {
  constexpr int planes = planes_of<TERMS>;
  constexpr int64_t b_next = planes * tile_bytes;
  _tile_zero(0);
  if constexpr (NT == 2) _tile_zero(1);
  if constexpr (MT == 2) _tile_zero(2);
  if constexpr (MT == 2 && NT == 2) _tile_zero(3);
  for (int64_t s = 0; s < steps; ++s) {
    constexpr int64_t m = tile_bytes, l = 2 * tile_bytes;
    for (int64_t i = 0; i < ahead_lines; ++i) _mm_prefetch(ahead + i * 64, _MM_HINT_T1);
    ahead += ahead_lines * 64;
    if constexpr (TERMS == 1) {
      load_a<MT, NT>(a, a_next);
      load_b<NT>(b, b_next);
      multiply<MT, NT>();
    } else if constexpr (TERMS == 3) {
      load_a<MT, NT>(a + m, a_next);
      load_b<NT>(b, b_next);
      multiply<MT, NT>();
      load_a<MT, NT>(a, a_next);
      multiply<MT, NT>();
      load_b<NT>(b + m, b_next);
      multiply<MT, NT>();
    } else {
      load_a<MT, NT>(a + l, a_next);
      load_b<NT>(b, b_next);
      multiply<MT, NT>();
      load_a<MT, NT>(a + m, a_next);
      multiply<MT, NT>();
      load_b<NT>(b + m, b_next);
      multiply<MT, NT>();
      load_a<MT, NT>(a, a_next);
      multiply<MT, NT>();
      load_b<NT>(b + l, b_next);
      multiply<MT, NT>();
      load_b<NT>(b, b_next);
      multiply<MT, NT>();
    }
    a += planes * tile_bytes;
    b += NT * planes * tile_bytes;
  }
  _tile_stored(0, c, panel_columns * 4);
  if constexpr (NT == 2) _tile_stored(1, c + 16, panel_columns * 4);
  if constexpr (MT == 2) _tile_stored(2, c + 16 * panel_columns, panel_columns * 4);
  if constexpr (MT == 2 && NT == 2) _tile_stored(3, c + 16 * panel_columns + 16, panel_columns * 4);
}

// ---- blocks with NaN

struct Rows {
  const float* const* table;  // table[tap * count + r], or null
  int64_t count;
  const float* a;
  int64_t lda;
  const float* at(int64_t tap, int64_t r) const { return table != nullptr ? table[tap * count + r] : a + r * lda; }
};

// Row r of the block again, in fp32 from the operand itself and the sum of B's planes, unless the operand has NaN.
template <int PLANES>
void repair_row(const Shape& s, const Rows& rows, int64_t r, const char* panel, int tiles, float* c) {
  for (int64_t tap = 0; tap < s.taps; ++tap) {
    const float* row = rows.at(tap, r);
    for (int64_t k = 0; k < s.k; ++k) {
      if (row[k] != row[k]) return;
    }
  }
  for (int tile = 0; tile < tiles; ++tile) {
    Vec sum = {};
    const char* b = panel + tile * PLANES * tile_bytes;
    for (int64_t tap = 0; tap < s.taps; ++tap) {
      const float* row = rows.at(tap, r);
      for (int64_t k = 0; k < s.k; ++k) {
        const int64_t in_step = k % tile_depth;
        if (k > 0 && in_step == 0) b += tiles * PLANES * tile_bytes;
        // The number of the pair that k stands in lies in the low or high half of a lane.
        __m512 value = _mm512_setzero_ps();
        for (int plane = PLANES - 1; plane >= 0; --plane) {
          const __m512i pairs = _mm512_loadu_si512(b + plane * tile_bytes + in_step / 2 * 64);
          const __m512i half =
              in_step % 2 == 0 ? _mm512_slli_epi32(pairs, 16) : _mm512_and_si512(pairs, _mm512_set1_epi32(-65536));
          value = _mm512_add_ps(value, _mm512_castsi512_ps(half));
        }
        sum += splat(row[k]) * reinterpret_cast<const Vec&>(value);
      }
      if (s.k > 0) b += tiles * PLANES * tile_bytes;
    }
    store(c + tile * 16, sum);
  }
}

// ---- a call

SINTER_INLINE bool has_nan(const float* c, int64_t rows, int tiles) {
  __mmask16 found = 0;
  for (int64_t i = 0; i < rows; ++i, c += panel_columns) {
    for (int j = 0; j < tiles; ++j) {
      const __m512 v = _mm512_loadu_ps(c + j * 16);
      found = static_cast<__mmask16>(found | _mm512_cmp_ps_mask(v, v, _CMP_UNORD_Q));
    }
  }
  return found != 0;
}

// Adds what the sums start from and the bias, applies bounds; stores to `to` when the block is not for an epilogue.
SINTER_INLINE void finish_rows(const ContractArgs& p, const float* block, int64_t rows, int64_t n, int64_t cols,
                               float* to, int64_t stride) {
  const __m512 low = _mm512_set1_ps(p.low), high = _mm512_set1_ps(p.high);
  for (int64_t j = 0; j < cols; j += 16) {
    const __mmask16 part = first_lanes(cols - j);
    const __m512 bias = p.bias == nullptr ? _mm512_setzero_ps() : _mm512_maskz_loadu_ps(part, p.bias + n + j);
    for (int64_t r = 0; r < rows; ++r) {
      __m512 v = _mm512_add_ps(_mm512_loadu_ps(block + r * panel_columns + j), bias);
      if (p.accumulate) v = _mm512_add_ps(v, _mm512_maskz_loadu_ps(part, to + r * stride + j));
      v = _mm512_min_ps(high, _mm512_max_ps(low, v));
      _mm512_mask_storeu_ps(to + r * stride + j, part, v);
    }
  }
}

template <int TERMS>
void chunk(const ContractArgs& p, int64_t m_begin, int64_t m_end, int64_t n_begin, int64_t n_end, void* scratch) {
  constexpr int planes = planes_of<TERMS>;
  if (m_begin >= m_end || n_begin >= n_end) return;
  const Shape s = shape_of<planes>(p, m_end - m_begin);
  char* at = static_cast<char*>(scratch);
  char* const a_planes = at;
  float* block = reinterpret_cast<float*>(at += up_to(s.m_block, tile_rows) * s.row_bytes);
  float* zero = reinterpret_cast<float*>(at += s.block_bytes);
  const float** table = reinterpret_cast<const float**>(at += s.zero_bytes);
  float* edges = reinterpret_cast<float*>(at += s.table_bytes);
  for (int64_t i = 0; s.table && i < s.k; ++i) zero[i] = 0;
  _tile_loadconfig(&tile_config);
  const int64_t tap_bytes = up_to(s.k, tile_depth) / tile_depth * planes * tile_bytes;
  const int64_t row_tile_bytes = s.row_bytes * tile_rows;
  for (int64_t m = m_begin; m < m_end; m += s.m_block) {
    const int64_t count = least(s.m_block, m_end - m);
    Rows rows = {nullptr, count, p.a + m * p.lda, p.lda};
    if (s.table) {
      gather(p, s.k, s.merged, m, count, zero, table, edges);
      rows.table = table;
    }
    for (int64_t r = 0; r < count; ++r) {
      char* to = a_planes + r / tile_rows * row_tile_bytes + r % tile_rows * 64;
      for (int64_t tap = 0; tap < s.taps; ++tap) split_row<planes>(rows.at(tap, r), s.k, to + tap * tap_bytes);
    }
    for (int64_t n = n_begin; n < n_end; n += panel_columns) {
      const int64_t cols = least(panel_columns, n_end - n);
      const int tiles = cols > 16 ? 2 : 1;
      const int64_t panel_bytes = s.steps * planes * tile_bytes;  // of one tile of columns
      const char* b = reinterpret_cast<const char*>(p.b) + n / 16 * panel_bytes;
      // While this panel is multiplied, the next one comes nearer.
      const char* ahead = b + tiles * panel_bytes;
      const int64_t pairs = (count + 31) / 32;
      const bool more = n + panel_columns < n_end;
      const int64_t lines = more ? (2 * planes * 16 + pairs - 1) / pairs : 0;
      for (int64_t r = 0; r < count; r += s.block_rows) {
        const int64_t r_end = least(count, r + s.block_rows);
        for (int64_t i = r; i < r_end; i += 32) {
          const char* a = a_planes + i / tile_rows * row_tile_bytes;
          float* c = block + (i - r) * panel_columns;
          const bool two = r_end - i > tile_rows;
          if (two && tiles == 2) {
            tiles_of<TERMS, 2, 2>(a, row_tile_bytes, b, s.steps, c, ahead, lines);
          } else if (two) {
            tiles_of<TERMS, 2, 1>(a, row_tile_bytes, b, s.steps, c, ahead, lines);
          } else if (tiles == 2) {
            tiles_of<TERMS, 1, 2>(a, row_tile_bytes, b, s.steps, c, ahead, lines);
          } else {
            tiles_of<TERMS, 1, 1>(a, row_tile_bytes, b, s.steps, c, ahead, lines);
          }
          ahead += lines * 64 * s.steps;
        }
        const int64_t height = r_end - r;
        if (TERMS > 1 && has_nan(block, height, tiles)) {
          for (int64_t i = 0; i < height; ++i) {
            if (has_nan(block + i * panel_columns, 1, tiles))
              repair_row<planes>(s, rows, r + i, b, tiles, block + i * panel_columns);
          }
        }
        if (p.epilogue == nullptr) {
          finish_rows(p, block, height, n, cols, p.c + (m + r) * p.ldc + n, p.ldc);
        } else {
          finish_rows(p, block, height, n, cols, block, panel_columns);
          p.epilogue(p.user, m + r, height, n, cols, block, panel_columns);
        }
      }
    }
  }
  _tile_release();
}

// ---- packing: [panel][tap][step][tile of 16 columns][plane][16 pairs of k][16 columns][2]

int panel_width(int64_t) { return panel_columns; }

void unpacked(int64_t m, int64_t k, const float* a, int64_t lda, const float* b, int64_t k_stride, int64_t n_stride,
              int64_t n_begin, int64_t n_end, float* c, int64_t ldc) {
  contract_avx512.unpacked(m, k, a, lda, b, k_stride, n_stride, n_begin, n_end, c, ldc);
}

void transpose(const void* src, int64_t rows, int64_t cols, int64_t src_stride, void* dst, int64_t dst_stride) {
  contract_avx512.transpose(src, rows, cols, src_stride, dst, dst_stride);
}

template <int PLANES>
int64_t packed_size(int64_t taps, int64_t k, int64_t n, int, int64_t run) {
  return taps / run * up_to(k * run, tile_depth) * up_to(n, 16) * PLANES / 2;
}

template <int PLANES>
void pack_b(const PackArgs& p, int64_t n_begin, int64_t n_end, float* dst) {
  const int64_t k = p.k * p.run, taps = p.taps / p.run;
  const int64_t steps = taps * (up_to(k, tile_depth) / tile_depth);
  // Even numbers of a row of 32 are in the first vector's lanes, odd ones in the second's.
  const __m512i pairs = _mm512_set_epi16(31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8, 23, 7, 22, 6, 21,
                                         5, 20, 4, 19, 3, 18, 2, 17, 1, 16, 0);
  const __m512i lane = _mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
  const __m512i offsets = _mm512_mullo_epi32(lane, _mm512_set1_epi32(static_cast<int32_t>(p.n_stride)));
  for (int64_t n = n_begin; n < n_end; n += 16) {
    const int64_t cols = least(16, p.n - n);
    if (cols <= 0) return;
    const int64_t panel = n / panel_columns * panel_columns;
    const int tiles = p.n - panel > 16 ? 2 : 1;
    char* to = reinterpret_cast<char*>(dst) + panel / 16 * steps * PLANES * tile_bytes +
               (n - panel) / 16 * PLANES * tile_bytes;
    for (int64_t tap = 0; tap < taps; ++tap)
      for (int64_t first = 0; first < k; first += tile_depth, to += tiles * PLANES * tile_bytes)
        for (int64_t i = 0; i < tile_depth; i += 2) {
          alignas(64) float two[2][16] = {};
          for (int64_t odd = 0; odd < 2; ++odd) {
            const int64_t at = first + i + odd;
            if (at >= k) continue;
            const float* from =
                p.src + (tap * p.run + at / p.k) * p.tap_stride + at % p.k * p.k_stride + n * p.n_stride;
            if (p.n_stride == 1) {
              _mm512_store_ps(two[odd], _mm512_maskz_loadu_ps(first_lanes(cols), from));
            } else if (p.n_stride < (1 << 26)) {
              _mm512_store_ps(two[odd],
                              _mm512_mask_i32gather_ps(_mm512_setzero_ps(), first_lanes(cols), offsets, from, 4));
            } else {
              for (int64_t j = 0; j < cols; ++j) two[odd][j] = from[j * p.n_stride];
            }
          }
          __m512i planes[PLANES];
          split<PLANES>(_mm512_load_ps(two[0]), _mm512_load_ps(two[1]), planes);
          for (int plane = 0; plane < PLANES; ++plane)
            _mm512_storeu_si512(to + plane * tile_bytes + i / 2 * 64, _mm512_permutexvar_epi16(pairs, planes[plane]));
        }
  }
}

template <int TERMS>
constexpr ContractTable table_of() {
  constexpr int planes = planes_of<TERMS>;
  return {16,           panel_columns, planes,   panel_width, packed_size<planes>, pack_b<planes>, scratch_size<planes>,
          chunk<TERMS>, unpacked,      transpose};
}

}  // namespace

extern const ContractTable contract_amx_bf16 = table_of<1>();
extern const ContractTable contract_amx_bf16x3 = table_of<3>();
extern const ContractTable contract_amx_bf16x6 = table_of<6>();

}  // namespace sinter::cpu
