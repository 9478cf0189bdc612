// Winograd's transforms with AVX2 and FMA; entered after a CPUID test.
#include <immintrin.h>

#include "backend/cpu/isa/winograd.h"

#define SINTER_WINOGRAD_TABLE winograd_avx2
#define SINTER_VECTOR_FILE "backend/cpu/isa/vector_avx2.inc"
#include "backend/cpu/isa/winograd_loops.inc"
