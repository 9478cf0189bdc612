// The CPU as a device: what this machine can do, and the loops that belong to each instruction set level.
//
// A level is a set of CPUID feature bits together with the operating system's promise to save the registers; model
// numbers are never asked. An engine names the level it was built for and its kernels run at that level, also on a
// machine that could do more: packed weights and bits of results are then the same. What few rows use beside a level
// (VNNI, AMX-INT8, AMX-FP16) is a feature that they ask for: a level of its own would put it before all others.
#pragma once

#include <cstdint>

#include "backend/cpu/isa/contract.h"
#include "backend/cpu/isa/planar.h"
#include "backend/cpu/isa/spatial.h"
#include "backend/cpu/isa/winograd.h"
#include "backend/kernel.h"

namespace sinter::cpu {

enum Level : uint8_t { portable = 0, avx2 = 1, avx512 = 2, avx512_bf16 = 3, amx = 4 };

// Bits of DeviceSpec::features: what CPUID reports and the operating system supports.
enum Feature : uint64_t {
  feature_avx2 = 1 << 0,
  feature_fma = 1 << 1,
  feature_f16c = 1 << 2,
  feature_avx512f = 1 << 3,
  feature_avx512bw = 1 << 4,
  feature_avx512dq = 1 << 5,
  feature_avx512vl = 1 << 6,
  feature_avx512_vnni = 1 << 7,
  feature_avx512_bf16 = 1 << 8,
  feature_avx512_fp16 = 1 << 9,
  feature_avx_vnni = 1 << 10,
  feature_amx_tile = 1 << 11,
  feature_amx_int8 = 1 << 12,
  feature_amx_bf16 = 1 << 13,
  feature_amx_fp16 = 1 << 14,
};

// Name, level and features; one thread. Asked once, then remembered.
DeviceSpec describe();

const char* level_name(uint8_t level);

// The loops of a level; levels that this build does not have give those of the portable one.
const ContractTable& contract_table(uint8_t level);
// The loops of contractions whose weights lie in panels of these numbers; null where the level, or its
// features, have none.
const ContractTable* contract_table(const DeviceSpec& device, PanelNumbers numbers);
const SpatialTable& spatial_table(uint8_t level);
const PlanarTable& planar_table(uint8_t level);
const WinogradTable& winograd_table(uint8_t level);

}  // namespace sinter::cpu
