// Products of bytes with AVX-512 F, BW; entered after a CPUID test.
#include <immintrin.h>

#include "backend/cpu/isa/integer.h"

#define SINTER_INLINE [[maybe_unused]] static inline __attribute__((always_inline))

namespace sinter::cpu {
namespace {

#include "backend/cpu/isa/integer_lanes_avx512.inc"

constexpr int height = 4;
typedef uint16_t Alias16 __attribute__((may_alias));

SINTER_INLINE Vec pairs(Vec a, Vec b) { return _mm512_madd_epi16(a, b); }

#include "backend/cpu/isa/integer_pairs.inc"

SINTER_INLINE Four load_bytes(const char* p) {
  const Vec v = load(p);
  return {_mm512_srai_epi16(_mm512_slli_epi16(v, 8), 8), _mm512_srai_epi16(v, 8)};
}

#include "backend/cpu/isa/integer_loops.inc"

}  // namespace

extern const IntegerTable integer_avx512 = {12,         row_bytes, plain_rows, takes_plain, pack_row,
                                            pack_panel, multiply,  center,     to_words,    largest};

}  // namespace sinter::cpu
