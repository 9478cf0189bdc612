// Products of bytes without any CPU feature beyond the baseline's.
#ifdef __SSE2__
#include <emmintrin.h>
#endif

#include "backend/cpu/isa/integer.h"

#define SINTER_INLINE [[maybe_unused]] static inline __attribute__((always_inline))

namespace sinter::cpu {
namespace {

constexpr int lanes = 4, vectors = 4, height = 2;
typedef uint32_t Vec __attribute__((vector_size(16)));
typedef uint32_t VecU __attribute__((vector_size(16), aligned(1), may_alias));
typedef int16_t Halves __attribute__((vector_size(16)));
typedef uint16_t Words __attribute__((vector_size(16)));
typedef uint16_t Alias16 __attribute__((may_alias));
typedef uint32_t Alias32 __attribute__((may_alias));
typedef uint32_t Words4 __attribute__((vector_size(16), aligned(1), may_alias));

SINTER_INLINE Vec zero() { return Vec{}; }
SINTER_INLINE Vec splat(uint32_t v) { return Vec{v, v, v, v}; }
SINTER_INLINE Vec load(const void* p) { return *static_cast<const VecU*>(p); }
SINTER_INLINE void store(void* p, Vec v) { *static_cast<VecU*>(p) = v; }
SINTER_INLINE Vec add(Vec a, Vec b) { return a + b; }
SINTER_INLINE Vec sub(Vec a, Vec b) { return a - b; }
SINTER_INLINE Vec mul(Vec a, Vec b) { return a * b; }
SINTER_INLINE Vec pairs(Vec a, Vec b) {
#ifdef __SSE2__
  return reinterpret_cast<Vec>(_mm_madd_epi16(reinterpret_cast<__m128i>(a), reinterpret_cast<__m128i>(b)));
#else
  const Halves x = reinterpret_cast<Halves>(a), y = reinterpret_cast<Halves>(b);
  Vec out;
  for (int i = 0; i < lanes; ++i) out[i] = static_cast<uint32_t>(x[2 * i] * y[2 * i] + x[2 * i + 1] * y[2 * i + 1]);
  return out;
#endif
}

#include "backend/cpu/isa/integer_pairs.inc"

SINTER_INLINE Four load_bytes(const char* p) {
  const Vec v = load(p);
  const Words shifted = reinterpret_cast<Words>(v) << 8;
  return {reinterpret_cast<Vec>(reinterpret_cast<Halves>(shifted) >> 8),
          reinterpret_cast<Vec>(reinterpret_cast<Halves>(v) >> 8)};
}

#include "backend/cpu/isa/integer_loops.inc"

}  // namespace

extern const IntegerTable integer_portable = {12,         row_bytes, plain_rows, takes_plain, pack_row,
                                              pack_panel, multiply,  center,     to_words,    largest};

}  // namespace sinter::cpu
