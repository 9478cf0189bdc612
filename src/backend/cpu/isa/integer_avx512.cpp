// Products of bytes with AVX-512 F, BW; entered after a CPUID test.
#include <immintrin.h>

#include "backend/cpu/isa/integer.h"

#define SINTER_INLINE [[maybe_unused]] static inline __attribute__((always_inline))

namespace sinter::cpu {
namespace {

constexpr int lanes = 16, vectors = 4, height = 4;
typedef __m512i Vec;
typedef uint16_t Alias16 __attribute__((may_alias));
typedef uint32_t Alias32 __attribute__((may_alias));
typedef uint32_t Words4 __attribute__((vector_size(16), aligned(1), may_alias));

SINTER_INLINE Vec zero() { return _mm512_setzero_si512(); }
SINTER_INLINE Vec splat(uint32_t v) { return _mm512_set1_epi32(static_cast<int>(v)); }
SINTER_INLINE Vec load(const void* p) { return _mm512_loadu_si512(p); }
SINTER_INLINE void store(void* p, Vec v) { _mm512_storeu_si512(p, v); }
SINTER_INLINE Vec add(Vec a, Vec b) { return _mm512_add_epi32(a, b); }
SINTER_INLINE Vec sub(Vec a, Vec b) { return _mm512_sub_epi32(a, b); }
SINTER_INLINE Vec mul(Vec a, Vec b) { return _mm512_mullo_epi32(a, b); }
SINTER_INLINE Vec pairs(Vec a, Vec b) { return _mm512_madd_epi16(a, b); }

#include "backend/cpu/isa/integer_pairs.inc"

SINTER_INLINE Four load_bytes(const char* p) {
  const Vec v = load(p);
  return {_mm512_srai_epi16(_mm512_slli_epi16(v, 8), 8), _mm512_srai_epi16(v, 8)};
}

#include "backend/cpu/isa/integer_loops.inc"

}  // namespace

extern const IntegerTable integer_avx512 = {row_bytes, panel_bytes, pack_row, pack_panel, multiply};

}  // namespace sinter::cpu
