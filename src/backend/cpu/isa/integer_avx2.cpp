// Products of bytes with AVX2; entered after a CPUID test.
#include <immintrin.h>

#include "backend/cpu/isa/integer.h"

#define SINTER_INLINE [[maybe_unused]] static inline __attribute__((always_inline))

namespace sinter::cpu {
namespace {

constexpr int lanes = 8, vectors = 2, height = 4;
typedef __m256i Vec;
typedef uint16_t Alias16 __attribute__((may_alias));
typedef uint32_t Alias32 __attribute__((may_alias));
typedef uint32_t Words4 __attribute__((vector_size(16), aligned(1), may_alias));

SINTER_INLINE Vec zero() { return _mm256_setzero_si256(); }
SINTER_INLINE Vec splat(uint32_t v) { return _mm256_set1_epi32(static_cast<int>(v)); }
SINTER_INLINE Vec load(const void* p) { return _mm256_loadu_si256(static_cast<const __m256i_u*>(p)); }
SINTER_INLINE void store(void* p, Vec v) { _mm256_storeu_si256(static_cast<__m256i_u*>(p), v); }
SINTER_INLINE Vec add(Vec a, Vec b) { return _mm256_add_epi32(a, b); }
SINTER_INLINE Vec sub(Vec a, Vec b) { return _mm256_sub_epi32(a, b); }
SINTER_INLINE Vec mul(Vec a, Vec b) { return _mm256_mullo_epi32(a, b); }
SINTER_INLINE Vec pairs(Vec a, Vec b) { return _mm256_madd_epi16(a, b); }

#include "backend/cpu/isa/integer_pairs.inc"

SINTER_INLINE Four load_bytes(const char* p) {
  const Vec v = load(p);
  return {_mm256_srai_epi16(_mm256_slli_epi16(v, 8), 8), _mm256_srai_epi16(v, 8)};
}

#include "backend/cpu/isa/integer_loops.inc"

}  // namespace

extern const IntegerTable integer_avx2 = {12,         row_bytes, plain_rows, takes_plain, pack_row,
                                          pack_panel, multiply,  center,     to_words,    largest};

}  // namespace sinter::cpu
