// Products of bytes with AVX-512 VNNI; entered after a CPUID test for it beside the level's.
#include <immintrin.h>

#include "backend/cpu/isa/integer.h"

#define SINTER_INLINE [[maybe_unused]] static inline __attribute__((always_inline))

namespace sinter::cpu {
namespace {

#include "backend/cpu/isa/integer_lanes_avx512.inc"

constexpr int height = 6;
constexpr int64_t quad_bytes = 4;
typedef __m512i Four;
typedef __m512i Quad;

SINTER_INLINE void pack_quad(const uint8_t* four, char* to) {
  for (int j = 0; j < 4; ++j) to[j] = static_cast<char>(four[j]);
}
SINTER_INLINE void pack_quads(Words4 v, char* to) { *reinterpret_cast<Words4*>(to) = v; }
SINTER_INLINE Four load_bytes(const char* p) { return load(p); }
SINTER_INLINE Quad load_quad(const char* p) { return splat(*reinterpret_cast<const Alias32*>(p)); }
SINTER_INLINE Vec dot(Vec sum, Quad a, Four b) { return _mm512_dpbusd_epi32(sum, a, b); }

#include "backend/cpu/isa/integer_loops.inc"

}  // namespace

extern const IntegerTable integer_vnni_avx512 = {12,         row_bytes, plain_rows, takes_plain, pack_row,
                                                 pack_panel, multiply,  center,     to_words,    largest};

}  // namespace sinter::cpu
