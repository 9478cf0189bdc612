// Winograd's transforms with AVX-512 F, BW, DQ, VL; entered after a CPUID test.
#include <immintrin.h>

#include "backend/cpu/isa/winograd.h"

#define SINTER_WINOGRAD_TABLE winograd_avx512
#define SINTER_VECTOR_FILE "backend/cpu/isa/vector_avx512.inc"
#include "backend/cpu/isa/winograd_loops.inc"
