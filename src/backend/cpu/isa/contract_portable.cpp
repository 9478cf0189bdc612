// Contractions without any CPU feature.
#include "backend/cpu/isa/contract.h"

#define SINTER_CONTRACT_TABLE contract_portable
#define SINTER_PACE \
  { 4, 0.1, 0, 20, 1, 1 }
#define SINTER_TILE_HEIGHTS \
  { 8, 6 }
#define SINTER_PANEL_ORDER \
  { 2 }
#define SINTER_VECTOR_FILE "backend/cpu/isa/vector_portable.inc"
#include "backend/cpu/isa/contract_loops.inc"
