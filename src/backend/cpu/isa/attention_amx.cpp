// Products of attentions on AMX tiles; entered after a CPUID test and with permission to use tiles.
//
// Sums over few steps of 32 leave the tile unit little to do between stores: results go to their place at once, and the
// operands are in cache already, so nothing is fetched ahead.
#include "backend/cpu/isa/attention.h"

#include <immintrin.h>

#include <type_traits>

#define SINTER_INLINE [[maybe_unused]] static inline __attribute__((always_inline))

namespace sinter::cpu {
namespace {

#include "backend/cpu/isa/vector_avx512.inc"

#include "backend/cpu/isa/amx_tiles.inc"

// ---- products

template <int TERMS, int MT, int NT>
void tiles(const TileProduct& p, const char* a, const char* b, float* c) {
  constexpr int64_t b_step = NT * planes_of<TERMS> * tile_bytes;
  _tile_zero(0);
  if constexpr (NT == 2) _tile_zero(1);
  if constexpr (MT == 2) _tile_zero(2);
  if constexpr (MT == 2 && NT == 2) _tile_zero(3);
  for (int64_t s = 0; s < p.steps; ++s, a += p.step, b += b_step) step_of<TERMS, MT, NT>(a, p.row, p.tile, p.plane, b);
  const int64_t stride = p.ldc * 4;
  _tile_stored(0, c, stride);
  if constexpr (NT == 2) _tile_stored(1, c + 16, stride);
  if constexpr (MT == 2) _tile_stored(2, c + 16 * p.ldc, stride);
  if constexpr (MT == 2 && NT == 2) _tile_stored(3, c + 16 * p.ldc + 16, stride);
}

template <int TERMS>
void product(const TileProduct& p) {
  constexpr int64_t column = planes_of<TERMS> * tile_bytes;  // of a step
  for (int64_t n = 0; n < p.n; n += panel_columns) {
    const char* b = reinterpret_cast<const char*>(p.b) + n / 16 * p.steps * column;
    const bool two = p.n - n > 16;
    for (int64_t r = 0; r < p.rows; r += 32) {
      const char* a = p.a + r / 16 * p.tile;
      float* c = p.c + r * p.ldc + n;
      if (p.rows - r > 16)
        two ? tiles<TERMS, 2, 2>(p, a, b, c) : tiles<TERMS, 2, 1>(p, a, b, c);
      else
        two ? tiles<TERMS, 1, 2>(p, a, b, c) : tiles<TERMS, 1, 1>(p, a, b, c);
    }
  }
}

// ---- rows

template <int PLANES, typename T>
void split_rows(const T* from, int64_t stride, int64_t rows, int64_t k, char* to) {
  const int64_t tile = up_to(k, tile_depth) / tile_depth * PLANES * tile_bytes;
  for (int64_t r = 0; r < rows; ++r)
    split_row<PLANES, false>(from + r * stride, k, to + r / tile_rows * tile + r % tile_rows * 64, tile_bytes);
}

bool has_nan(const float* from, int64_t ld, int64_t rows, int64_t n) {
  __mmask16 nan = 0;
  for (int64_t r = 0; r < rows; ++r, from += ld)
    for (int64_t i = 0; i < n; i += 32) {
      const __m512 x = _mm512_maskz_loadu_ps(first_lanes(n - i), from + i);
      const __m512 y = _mm512_maskz_loadu_ps(first_lanes(n - i - 16), from + i + 16);
      nan = static_cast<__mmask16>(nan | _mm512_cmp_ps_mask(x, y, _CMP_UNORD_Q));
    }
  return nan != 0;
}

template <typename T>
bool finish_rows(const TileFinish& f, T* to) {
  const float* from = f.from;
  __mmask16 nan = 0;
  for (int64_t r = 0; r < f.rows; ++r, from += f.ld, to += f.stride) {
    const __m512 scale = _mm512_set1_ps(f.scale == nullptr ? 1.0f : 1.0f / f.scale[r]);
    for (int64_t i = 0; i < f.n; i += 32) {
      const __mmask16 first = first_lanes(f.n - i), second = first_lanes(f.n - i - 16);
      const __m512 x = _mm512_mul_ps(_mm512_maskz_loadu_ps(first, from + i), scale);
      const __m512 y = _mm512_mul_ps(_mm512_maskz_loadu_ps(second, from + i + 16), scale);
      nan = static_cast<__mmask16>(nan | _mm512_cmp_ps_mask(x, y, _CMP_UNORD_Q));
      if constexpr (std::is_same_v<T, float>) {
        _mm512_mask_storeu_ps(to + i, first, x);
        _mm512_mask_storeu_ps(to + i + 16, second, y);
      } else {
        const __m512bh rounded = _mm512_cvtne2ps_pbh(y, x);
        __m512i both;
        __builtin_memcpy(&both, &rounded, sizeof(both));
        _mm512_mask_storeu_epi16(to + i, first_halves(f.n - i), both);
      }
    }
  }
  return nan != 0;
}

bool finish(const TileFinish& f) { return f.narrow_to != nullptr ? finish_rows(f, f.narrow_to) : finish_rows(f, f.to); }

// ---- tables

void begin(int64_t rows) { configure_tiles(rows); }
void end() { _tile_release(); }

template <int TERMS>
constexpr AttentionTable table_of() {
  constexpr int planes = planes_of<TERMS>;
  AttentionTable t = {planes, begin, end, product<TERMS>, split_rows<planes, float>, nullptr, has_nan, finish};
  if constexpr (TERMS == 1) t.split_narrow = split_rows<planes, uint16_t>;
  return t;
}

}  // namespace

extern const AttentionTable attention_amx_bf16 = table_of<1>();
extern const AttentionTable attention_amx_bf16x3 = table_of<3>();
extern const AttentionTable attention_amx_bf16x6 = table_of<6>();

}  // namespace sinter::cpu
