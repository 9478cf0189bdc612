// Products of attentions on AMX tiles; entered after a CPUID test and with permission to use tiles.
#include <immintrin.h>

#include <type_traits>

#include "backend/cpu/isa/attention.h"
#include "backend/cpu/isa/contract.h"

#define SINTER_PLANES_UNIT "backend/cpu/isa/amx_tiles.inc"
#include "backend/cpu/isa/attention_planes.inc"

namespace sinter::cpu {
extern const AttentionTable attention_amx_bf16 = table_of<1>();
extern const AttentionTable attention_amx_bf16x3 = table_of<3>();
extern const AttentionTable attention_amx_bf16x6 = table_of<6>();
}  // namespace sinter::cpu
