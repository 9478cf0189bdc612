// Depthwise convolution and pooling without any CPU feature.
#include "backend/cpu/isa/spatial.h"

#define SINTER_STRIP 7
#define SINTER_HEIGHT 1
#define SINTER_ROOM (32 << 10)
#define SINTER_LARGE (1 << 20)
#define SINTER_SPATIAL_TABLE spatial_portable
#define SINTER_VECTOR_FILE "backend/cpu/isa/vector_portable.inc"
#include "backend/cpu/isa/spatial_loops.inc"
