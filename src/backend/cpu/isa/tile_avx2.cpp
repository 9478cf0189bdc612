// Tile loops with AVX2, FMA and F16C; entered after a CPUID test.
#include <immintrin.h>

#include "backend/cpu/isa/tile.h"
#include "backend/cpu/isa/tile_terms.h"

#define SINTER_TILE_TABLE tile_avx2
#define SINTER_TILE_AVX2 1
#define SINTER_VECTOR_FILE "backend/cpu/isa/vector_avx2.inc"
#include "backend/cpu/isa/tile_loops.inc"
