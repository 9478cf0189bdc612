// Products of attentions with AVX-512 F, BW, DQ, VL, BF16; entered after a CPUID test.
#include <immintrin.h>

#include <type_traits>
#include <utility>

#include "backend/cpu/isa/attention.h"
#include "backend/cpu/isa/contract.h"

#define SINTER_PLANES_UNIT "backend/cpu/isa/vector_tiles.inc"
#include "backend/cpu/isa/attention_planes.inc"

namespace sinter::cpu {
extern const AttentionTable attention_avx512_bf16 = table_of<1>();
}  // namespace sinter::cpu
