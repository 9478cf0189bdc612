#include "backend/cpu/device.h"

#include <fmt/core.h>

#ifdef SINTER_X86
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace sinter::cpu {
namespace {

constexpr uint64_t avx2_features = feature_avx2 | feature_fma | feature_f16c;
constexpr uint64_t avx512_features = feature_avx512f | feature_avx512bw | feature_avx512dq | feature_avx512vl;

constexpr uint64_t bf16_features = avx512_features | feature_avx512_bf16;
constexpr uint64_t amx_features = bf16_features | feature_amx_tile | feature_amx_bf16;
constexpr uint64_t tile_features = feature_amx_tile | feature_amx_int8 | feature_amx_bf16 | feature_amx_fp16;

// Features that code of a level may use.
constexpr uint64_t features_up_to(uint8_t level) {
  constexpr uint64_t at_avx2 = avx2_features | feature_avx_vnni;
  if (level == amx) return ~uint64_t{0};
  if (level == avx512_bf16) return ~tile_features;
  if (level == avx512) return ~(tile_features | feature_avx512_bf16);
  return level == avx2 ? at_avx2 : 0;
}

#ifdef SINTER_X86
uint64_t extended_control() {
  uint32_t low, high;
  asm volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return (uint64_t{high} << 32) | low;
}

// Tiles are large: Linux saves them only for processes that asked, once. Refused means that there are none.
bool tiles_allowed() {
  constexpr long request_permission = 0x1023, tile_data = 18;
  return syscall(SYS_arch_prctl, request_permission, tile_data) == 0;
}

uint64_t detect() {
  uint32_t a, b, c, d;
  if (!__get_cpuid(1, &a, &b, &c, &d)) return 0;
  const auto bit = [](uint32_t word, int n) { return (word >> n & 1) != 0; };
  // AVX and OSXSAVE: without them XCR0 may not be read.
  if (!bit(c, 27) || !bit(c, 28)) return 0;
  const uint64_t saved = extended_control();
  const bool ymm = (saved & 0x6) == 0x6, zmm = (saved & 0xe6) == 0xe6;
  if (!ymm) return 0;
  const bool tiles = (saved & 0x60000) == 0x60000 && tiles_allowed();
  uint64_t out = 0;
  const auto add = [&](bool have, uint64_t feature) { out |= have ? feature : 0; };
  add(bit(c, 12), feature_fma);
  add(bit(c, 29), feature_f16c);
  if (!__get_cpuid_count(7, 0, &a, &b, &c, &d)) return out;
  const uint32_t subleaves = a;
  add(bit(b, 5), feature_avx2);
  add(zmm && bit(b, 16), feature_avx512f);
  add(zmm && bit(b, 17), feature_avx512dq);
  add(zmm && bit(b, 30), feature_avx512bw);
  add(zmm && bit(b, 31), feature_avx512vl);
  add(zmm && bit(c, 11), feature_avx512_vnni);
  add(zmm && bit(d, 23), feature_avx512_fp16);
  add(tiles && bit(d, 24), feature_amx_tile);
  add(tiles && bit(d, 25), feature_amx_int8);
  add(tiles && bit(d, 22), feature_amx_bf16);
  if (subleaves < 1 || !__get_cpuid_count(7, 1, &a, &b, &c, &d)) return out;
  add(bit(a, 4), feature_avx_vnni);
  add(zmm && bit(a, 5), feature_avx512_bf16);
  add(tiles && bit(a, 21), feature_amx_fp16);
  return out;
}
#else
uint64_t detect() { return 0; }
#endif

uint8_t level_of(uint64_t features) {
  if ((features & avx2_features) != avx2_features) return portable;
  if ((features & amx_features) == amx_features) return amx;
  if ((features & bf16_features) == bf16_features) return avx512_bf16;
  return (features & avx512_features) == avx512_features ? avx512 : avx2;
}

}  // namespace

const char* level_name(uint8_t level) {
  switch (level) {
    case amx: return "amx";
    case avx512_bf16: return "avx512_bf16";
    case avx512: return "avx512";
    case avx2: return "avx2";
    default: return "portable";
  }
}

DeviceSpec describe() {
  static const uint64_t features = detect();
  DeviceSpec spec;
  spec.name = "cpu";
  spec.features = features;
  spec.level = level_of(features);
  spec.threads = 1;
  return spec;
}

const ContractTable& contract_table(uint8_t level) {
#ifdef SINTER_X86
  if (level >= avx512) return contract_avx512;
  if (level == avx2) return contract_avx2;
#endif
  (void)level;
  return contract_portable;
}

const ContractTable* contract_table(const DeviceSpec& device, PanelNumbers numbers) {
  const uint8_t level = device.level;
  if (numbers == PanelNumbers::plain) return &contract_table(level);
#ifdef SINTER_X86
  const auto from = [&](uint8_t least, const ContractTable& table) { return level >= least ? &table : nullptr; };
  switch (numbers) {
    case PanelNumbers::plain: break;
    case PanelNumbers::bf16: return from(avx2, level >= avx512 ? contract_avx512_wbf16 : contract_avx2_wbf16);
    case PanelNumbers::f16: return from(avx2, level >= avx512 ? contract_avx512_wf16 : contract_avx2_wf16);
    case PanelNumbers::planes1: return from(avx512_bf16, level >= amx ? contract_amx_bf16 : contract_avx512_bf16);
    case PanelNumbers::planes2: return from(amx, contract_amx_bf16x3);
    case PanelNumbers::planes3: return from(amx, contract_amx_bf16x6);
    case PanelNumbers::f16_plane: return device.features & feature_amx_fp16 ? from(amx, contract_amx_f16) : nullptr;
  }
#endif
  return nullptr;
}

const SpatialTable& spatial_table(uint8_t level) {
#ifdef SINTER_X86
  if (level >= avx512_bf16) return spatial_avx512_bf16;
  if (level == avx512) return spatial_avx512;
  if (level == avx2) return spatial_avx2;
#endif
  (void)level;
  return spatial_portable;
}

const PlanarTable& planar_table(uint8_t level) {
#ifdef SINTER_X86
  if (level >= avx512) return planar_avx512;
  if (level == avx2) return planar_avx2;
#endif
  (void)level;
  return planar_portable;
}

const WinogradTable& winograd_table(uint8_t level) {
#ifdef SINTER_X86
  if (level >= avx512) return winograd_avx512;
  if (level == avx2) return winograd_avx2;
#endif
  (void)level;
  return winograd_portable;
}

}  // namespace sinter::cpu

namespace sinter {

std::string level_text(const DeviceSpec& device) {
  return device.level <= cpu::amx ? cpu::level_name(device.level) : fmt::format("{}", device.level);
}

DeviceSpec restrict_level(const DeviceSpec& machine, std::string_view level) {
  for (const uint8_t candidate : {cpu::portable, cpu::avx2, cpu::avx512, cpu::avx512_bf16, cpu::amx}) {
    if (level != cpu::level_name(candidate)) continue;
    if (candidate > machine.level)
      throw Error(Code::invalid_argument, fmt::format("this machine lacks instruction set level '{}'; it has '{}'",
                                                      level, cpu::level_name(machine.level)))
          .with_hint("choose a lower level, or build on a machine that has it");
    DeviceSpec out = machine;
    out.level = candidate;
    out.features &= cpu::features_up_to(candidate);
    return out;
  }
  throw Error(Code::invalid_argument, fmt::format("there is no instruction set level '{}'", level))
      .with_hint("levels are portable, avx2, avx512, avx512_bf16 and amx");
}

}  // namespace sinter
