// Convolution of planar images with AVX2 and FMA; entered after a CPUID test.
#include <immintrin.h>

#include "backend/cpu/isa/planar.h"

#define SINTER_PLANAR_REGISTERS 16
#define SINTER_PLANAR_TABLE planar_avx2
#define SINTER_VECTOR_FILE "backend/cpu/isa/vector_avx2.inc"
#include "backend/cpu/isa/planar_loops.inc"
