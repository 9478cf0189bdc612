// Contractions of f16 on AMX tiles; entered after a CPUID test for AMX-FP16 and with permission to use tiles.
#include <immintrin.h>

#include <type_traits>

#include "backend/cpu/isa/attention.h"
#include "backend/cpu/isa/contract.h"

#define SINTER_PLANES_F16
#define SINTER_PLANES_UNIT "backend/cpu/isa/amx_tiles.inc"
#include "backend/cpu/isa/contract_planes.inc"

namespace sinter::cpu {
extern const ContractTable contract_amx_f16 = table_of<1>();
}  // namespace sinter::cpu
