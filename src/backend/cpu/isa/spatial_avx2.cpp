// Depthwise convolution and pooling with AVX2 and FMA; entered after a CPUID test.
#include <immintrin.h>

#include "backend/cpu/isa/spatial.h"

#define SINTER_STRIP 7
#define SINTER_HEIGHT 1
#define SINTER_ROOM (32 << 10)
#define SINTER_LARGE (1 << 20)
#define SINTER_SPATIAL_TABLE spatial_avx2
#define SINTER_VECTOR_FILE "backend/cpu/isa/vector_avx2.inc"
#include "backend/cpu/isa/spatial_loops.inc"
