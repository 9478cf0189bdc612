// Convolution of planar images with AVX-512 F, BW, DQ, VL; entered after a CPUID test.
#include <immintrin.h>

#include "backend/cpu/isa/planar.h"

#define SINTER_PLANAR_REGISTERS 32
#define SINTER_PLANAR_TABLE planar_avx512
#define SINTER_VECTOR_FILE "backend/cpu/isa/vector_avx512.inc"
#include "backend/cpu/isa/planar_loops.inc"
