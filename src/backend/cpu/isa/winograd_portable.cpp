// Winograd's transforms without any CPU feature.
#include "backend/cpu/isa/winograd.h"

#define SINTER_WINOGRAD_TABLE winograd_portable
#define SINTER_VECTOR_FILE "backend/cpu/isa/vector_portable.inc"
#include "backend/cpu/isa/winograd_loops.inc"
