// Tile loops without any CPU feature.
#include "backend/cpu/isa/tile.h"
#include "backend/cpu/isa/tile_terms.h"

#define SINTER_TILE_TABLE tile_portable
#define SINTER_VECTOR_FILE "backend/cpu/isa/vector_portable.inc"
#include "backend/cpu/isa/tile_loops.inc"
