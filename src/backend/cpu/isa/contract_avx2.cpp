// Contractions with AVX2 and FMA; entered after a CPUID test.
#include <immintrin.h>

#include "backend/cpu/isa/contract.h"

#define SINTER_CONTRACT_TABLE contract_avx2
#define SINTER_BF16_TABLE contract_avx2_wbf16
#define SINTER_F16_TABLE contract_avx2_wf16
#define SINTER_PACE \
  { 30, 0.1, 0, 20, 1, 1 }
#define SINTER_TILE_HEIGHTS \
  { 12, 6, 4 }
#define SINTER_PANEL_ORDER \
  { 2, 3 }
#define SINTER_VECTOR_FILE "backend/cpu/isa/vector_avx2.inc"
#include "backend/cpu/isa/contract_loops.inc"
