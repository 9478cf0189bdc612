// Depthwise convolution and pooling with AVX-512 F, BW, DQ, VL, BF16; entered after a CPUID test.
#include <immintrin.h>

#include "backend/cpu/isa/spatial.h"

#define SINTER_STRIP 7
#define SINTER_HEIGHT 2
#define SINTER_ROOM (32 << 10)
#define SINTER_LARGE (1 << 20)
#define SINTER_PAIRS
#define SINTER_SPATIAL_TABLE spatial_avx512_bf16
#define SINTER_VECTOR_FILE "backend/cpu/isa/vector_avx512.inc"
#include "backend/cpu/isa/spatial_loops.inc"
