// Convolution of planar images without any CPU feature.
#include "backend/cpu/isa/planar.h"

#define SINTER_PLANAR_REGISTERS 16
#define SINTER_PLANAR_TABLE planar_portable
#define SINTER_VECTOR_FILE "backend/cpu/isa/vector_portable.inc"
#include "backend/cpu/isa/planar_loops.inc"
