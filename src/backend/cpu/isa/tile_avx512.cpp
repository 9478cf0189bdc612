// Tile loops with AVX-512 F, BW, DQ, VL; entered after a CPUID test.
#if defined(__GNUC__) && !defined(__clang__)
// The compiler's own header reads undefined vectors on purpose.
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif
#include <immintrin.h>

#include "backend/cpu/isa/tile.h"
#include "backend/cpu/isa/tile_terms.h"

#define SINTER_TILE_TABLE tile_avx512
#define SINTER_TILE_FLUSHING_TABLE tile_avx512_bf16
#define SINTER_TILE_AVX512 1
#define SINTER_VECTOR_FILE "backend/cpu/isa/vector_avx512.inc"
#include "backend/cpu/isa/tile_loops.inc"
