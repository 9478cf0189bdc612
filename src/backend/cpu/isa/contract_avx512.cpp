// Contractions with AVX-512 F, BW, DQ, VL; entered after a CPUID test.
#include <immintrin.h>

#include "backend/cpu/isa/contract.h"

#define SINTER_CONTRACT_TABLE contract_avx512
#define SINTER_BF16_TABLE contract_avx512_wbf16
#define SINTER_F16_TABLE contract_avx512_wf16
#define SINTER_PACE \
  { 60, 0.1, 0, 20, 1, 1 }
#define SINTER_TILE_HEIGHTS \
  { 14, 14, 8, 6 }
#define SINTER_PANEL_ORDER \
  { 4, 3 }
#define SINTER_VECTOR_FILE "backend/cpu/isa/vector_avx512.inc"
#include "backend/cpu/isa/contract_loops.inc"
