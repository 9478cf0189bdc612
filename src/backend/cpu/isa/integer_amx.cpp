// Products of bytes on AMX tiles; entered after a CPUID test for their 8-bit half, with permission to use tiles.
//
// A tile product adds 16 x 16 sums of 64 products; panels lie as tiles of 16 columns, one after the other along K.
#include <immintrin.h>

#include "backend/cpu/isa/integer.h"

#define SINTER_INLINE [[maybe_unused]] static inline __attribute__((always_inline))

namespace sinter::cpu {
namespace {

constexpr int64_t row_depth = 64, quad_bytes = 4;
typedef uint32_t Words4 __attribute__((vector_size(16), aligned(1), may_alias));

SINTER_INLINE void pack_quad(const uint8_t* four, char* to) {
  for (int j = 0; j < 4; ++j) to[j] = static_cast<char>(four[j]);
}
SINTER_INLINE void pack_quads(Words4 v, char* to) { *reinterpret_cast<Words4*>(to) = v; }

#include "backend/cpu/isa/integer_pack.inc"

#include "backend/cpu/isa/ahead.inc"
#include "backend/cpu/isa/amx_unit.inc"

// Tiles 0 and 1 accumulate over the first rows, 2 and 3 over the second; 4 and 5 hold A, 6 and 7 hold B.
SINTER_INLINE void configure_tiles(int64_t first, int64_t second) {
  TileConfig config;
  config.rows[0] = config.rows[1] = config.rows[4] = static_cast<uint8_t>(first);
  config.rows[2] = config.rows[3] = config.rows[5] = static_cast<uint8_t>(second > 0 ? second : 1);
  load_config(config);
}

// 16 x MT rows and 16 x NT columns of sums, those of the second tile of rows 16 rows on.
template <int MT, int NT>
void tiles_of(const char* a, int64_t stride, const char* b, int64_t steps, int64_t next_b, uint32_t* sums,
              Ahead& ahead) {
  constexpr int64_t sum_stride = 32 * 4;
  _tile_zero(0);
  if constexpr (NT == 2) _tile_zero(1);
  if constexpr (MT == 2) _tile_zero(2);
  if constexpr (MT == 2 && NT == 2) _tile_zero(3);
  const char* near = ahead.at;
  const int64_t lines = ahead.lines;
  for (int64_t s = 0; s < steps; ++s, a += 64, b += 1024) {
    for (int64_t i = 0; i < lines; ++i, near += 64) _mm_prefetch(near, _MM_HINT_T1);
    _tile_loadd(4, a, stride);
    if constexpr (MT == 2) _tile_loadd(5, a + 16 * stride, stride);
    _tile_loadd(6, b, 64);
    if constexpr (NT == 2) _tile_loadd(7, b + next_b, 64);
    _tile_dpbusd(0, 4, 6);
    if constexpr (NT == 2) _tile_dpbusd(1, 4, 7);
    if constexpr (MT == 2) _tile_dpbusd(2, 5, 6);
    if constexpr (MT == 2 && NT == 2) _tile_dpbusd(3, 5, 7);
  }
  ahead.at = near;
  _tile_stored(0, sums, sum_stride);
  if constexpr (NT == 2) _tile_stored(1, sums + 16, sum_stride);
  if constexpr (MT == 2) _tile_stored(2, sums + 16 * 32, sum_stride);
  if constexpr (MT == 2 && NT == 2) _tile_stored(3, sums + 16 * 32 + 16, sum_stride);
}

SINTER_INLINE __mmask16 first_lanes(int64_t n) {
  return static_cast<__mmask16>(n >= 16 ? 0xffff : n <= 0 ? 0 : (1 << n) - 1);
}
SINTER_INLINE __m512i splat(uint32_t v) { return _mm512_set1_epi32(static_cast<int>(v)); }

void finish(const IntegerProduct& p, const uint32_t* sums, int64_t first, int64_t rows, int64_t column) {
  for (int64_t c = 0; c < 32 && column + c < p.cols; c += 16) {
    const __mmask16 lanes = first_lanes(p.cols - column - c);
    const __m512i start = _mm512_loadu_si512(p.start + column + c);
    uint32_t* to = p.c + first * p.ldc + column + c;
    for (int64_t r = 0; r < rows; ++r, to += p.ldc) {
      __m512i value = _mm512_add_epi32(_mm512_load_si512(sums + r * 32 + c), start);
      if (p.row_zero != nullptr) {
        const __m512i col_sum = _mm512_maskz_loadu_epi32(lanes, p.col_sum + column + c);
        const __m512i col_zero = _mm512_maskz_loadu_epi32(lanes, p.col_zero + column + c);
        value = _mm512_sub_epi32(value, _mm512_mullo_epi32(splat(p.row_zero[first + r]), col_sum));
        value = _mm512_sub_epi32(value, _mm512_mullo_epi32(splat(p.row_term[first + r]), col_zero));
      }
      _mm512_mask_storeu_epi32(to, lanes, value);
    }
  }
}

void rows_of(const IntegerProduct& p, int64_t first, int64_t rows, Ahead& ahead) {
  alignas(64) uint32_t sums[32 * 32];
  const int64_t steps = (p.k + row_depth - 1) / row_depth, stride = p.a_stride, next = tile_bytes(p.k);
  const char* a = static_cast<const char*>(p.a) + first * stride;
  const char* b = static_cast<const char*>(p.b);
  for (int64_t column = 0; column < p.cols; column += 32, b += 2 * next) {
    const bool wide = p.cols - column > 16;
    if (rows > 16)
      wide ? tiles_of<2, 2>(a, stride, b, steps, next, sums, ahead)
           : tiles_of<2, 1>(a, stride, b, steps, next, sums, ahead);
    else
      wide ? tiles_of<1, 2>(a, stride, b, steps, next, sums, ahead)
           : tiles_of<1, 1>(a, stride, b, steps, next, sums, ahead);
    finish(p, sums, first, rows, column);
  }
}

void multiply(const IntegerProduct& p) {
  Ahead ahead{static_cast<const char*>(p.next), 0};
  if (p.next != nullptr && p.k > 0) {
    const int64_t blocks = (p.rows + 31) / 32 * ((p.cols + 31) / 32) * (tile_bytes(p.k) / 1024);
    ahead.lines = (tile_bytes(p.k) * (integer_columns / 16) / 64 + blocks - 1) / blocks;
  }
  int64_t r = 0;
  if (p.rows >= 32) configure_tiles(16, 16);
  for (; r + 32 <= p.rows; r += 32) rows_of(p, r, 32, ahead);
  if (const int64_t rest = p.rows - r; rest > 0) {
    configure_tiles(rest < 16 ? rest : 16, rest - 16);
    rows_of(p, r, rest, ahead);
  }
  _tile_release();
}

}  // namespace

extern const IntegerTable integer_amx = {32,         row_bytes, plain_rows, takes_plain, pack_row,
                                         pack_panel, multiply,  center,     to_words,    largest};

}  // namespace sinter::cpu
