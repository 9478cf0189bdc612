// Depthwise convolution and pooling without any CPU feature.
#include "backend/cpu/isa/spatial.h"

#define SINTER_STRIP 8
#define SINTER_SPATIAL_TABLE spatial_portable
#define SINTER_VECTOR_FILE "backend/cpu/isa/vector_portable.inc"
#include "backend/cpu/isa/spatial_loops.inc"
