#include "amx_emulator.h"

#ifdef SINTER_X86
#include <fcntl.h>
#include <immintrin.h>
#include <signal.h>
#include <ucontext.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <cstring>

#include "backend/cpu/device.h"
#endif

namespace sinter::testing {

#ifdef SINTER_X86
namespace {

// Nothing here allocates or locks: it all runs in a handler of signals.

// ---- the tile unit

struct Tile {
  alignas(64) uint8_t row[16][64];  // what lies beyond its shape means nothing
  int rows, bytes;                  // 0: not configured
};

struct TileUnit {
  bool configured;
  Tile tiles[8];
};

// There since the thread is, so that a handler may touch it: no constructor, no storage made at the first use.
__attribute__((tls_model("initial-exec"))) thread_local TileUnit unit;

// ---- products, a row of 16 sums at a time

typedef uint32_t Words __attribute__((vector_size(64), may_alias));
typedef int32_t SignedWords __attribute__((vector_size(64)));
typedef float Floats __attribute__((vector_size(64), may_alias));
#define VECTORS __attribute__((target("avx512f")))  // not for the whole file: it is linked with older code

VECTORS inline Words& row_of(Tile& tile, int row) { return *reinterpret_cast<Words*>(tile.row[row]); }
VECTORS inline const Words& row_of(const Tile& tile, int row) { return *reinterpret_cast<const Words*>(tile.row[row]); }

// Of 16 pairs the first numbers, which are the low halves, and the second ones. Denormals of f16 are numbers.
template <bool F16>
VECTORS inline Floats first_of_pairs(Words pairs) {
  // Masked: of others gcc 12 warns.
  if (F16) return (Floats)_mm512_maskz_cvtph_ps(0xffff, _mm512_maskz_cvtepi32_epi16(0xffff, (__m512i)pairs));
  return (Floats)(pairs << 16);
}
template <bool F16>
VECTORS inline Floats second_of_pairs(Words pairs) {
  return F16 ? first_of_pairs<F16>(pairs >> 16) : (Floats)(pairs & 0xffff0000);
}

// As the manual has it: first and second halves of pairs are summed apart, then together, then to what is there; no
// denormals of f32 go in or come out, whatever MXCSR says.
template <bool F16>
VECTORS __attribute__((noinline)) void add_products_of_halves(Tile& c, const Tile& a, const Tile& b) {
  constexpr uint32_t nearest_without_denormals = 0x9fc0;
  uint32_t mode;
  __asm__ volatile("stmxcsr %0" : "=m"(mode) : : "memory");
  __asm__ volatile("ldmxcsr %0" : : "m"(nearest_without_denormals) : "memory");
  for (int m = 0; m < c.rows; ++m) {
    Floats first = {}, second = {};
    for (int k = 0; k < b.rows; ++k) {
      uint32_t pair;
      std::memcpy(&pair, a.row[m] + 4 * k, 4);
      const Words left = Words{} + pair, right = row_of(b, k);
      first = (Floats)_mm512_fmadd_ps(first_of_pairs<F16>(left), first_of_pairs<F16>(right), first);
      second = (Floats)_mm512_fmadd_ps(second_of_pairs<F16>(left), second_of_pairs<F16>(right), second);
    }
    const Floats sums = (Floats)row_of(c, m) + (first + second);
    row_of(c, m) = (Words)sums;
  }
  __asm__ volatile("ldmxcsr %0" : : "m"(mode) : "memory");
}

template <bool A_SIGNED, bool B_SIGNED>
VECTORS __attribute__((noinline)) void add_products_of_bytes(Tile& c, const Tile& a, const Tile& b) {
  for (int m = 0; m < c.rows; ++m) {
    Words sums = row_of(c, m);
    for (int k = 0; k < b.rows; ++k)
      for (int i = 0; i < 4; ++i) {
        const uint8_t byte = a.row[m][4 * k + i];
        const int factor = A_SIGNED ? static_cast<int8_t>(byte) : byte;
        const Words at_top = row_of(b, k) << (24 - 8 * i);
        const Words factors = B_SIGNED ? (Words)((SignedWords)at_top >> 24) : at_top >> 24;
        sums += factors * static_cast<uint32_t>(factor);
      }
    row_of(c, m) = sums;
  }
}

// ---- instructions: what each does, and why not if it may not

struct Instruction {
  const struct Form* form;
  int tile, left, right;     // C, A and B of a product; else only the first
  uint64_t address, stride;  // of the first row; from one row to the next
  uint64_t length;
};

typedef const char* Refusal;  // null: done

Refusal load_config(const Instruction& i) {
  uint8_t config[64];
  std::memcpy(config, reinterpret_cast<const void*>(i.address + i.stride), sizeof config);
  const auto all_zero = [&](int first, int last) {
    return std::all_of(config + first, config + last, [](uint8_t byte) { return byte == 0; });
  };
  if (config[0] != 1) return "the palette is not 1";
  if (config[1] != 0) return "the emulator starts at row 0";
  if (!all_zero(2, 16) || !all_zero(32, 48) || !all_zero(56, 64)) return "reserved bytes are not zero";
  std::memset(&unit, 0, sizeof unit);
  unit.configured = true;
  for (int t = 0; t < 8; ++t) {
    uint16_t bytes;
    std::memcpy(&bytes, config + 16 + 2 * t, 2);
    const uint8_t rows = config[48 + t];
    if (rows > 16 || bytes > 64) return "a tile has more than 16 rows of 64 bytes";
    if ((rows == 0) != (bytes == 0)) return "a tile has rows without bytes, or bytes without rows";
    unit.tiles[t].rows = rows;
    unit.tiles[t].bytes = bytes;
  }
  return nullptr;
}

Refusal release(const Instruction&) {
  std::memset(&unit, 0, sizeof unit);
  return nullptr;
}

Refusal zero(const Instruction& i) {
  std::memset(unit.tiles[i.tile].row, 0, sizeof unit.tiles[i.tile].row);
  return nullptr;
}

Refusal load(const Instruction& i) {
  Tile& tile = unit.tiles[i.tile];
  for (uint64_t r = 0; r < static_cast<uint64_t>(tile.rows); ++r)
    std::memcpy(tile.row[r], reinterpret_cast<const void*>(i.address + r * i.stride), static_cast<size_t>(tile.bytes));
  return nullptr;
}

Refusal store(const Instruction& i) {
  const Tile& tile = unit.tiles[i.tile];
  for (uint64_t r = 0; r < static_cast<uint64_t>(tile.rows); ++r)
    std::memcpy(reinterpret_cast<void*>(i.address + r * i.stride), tile.row[r], static_cast<size_t>(tile.bytes));
  return nullptr;
}

template <void (*ADD)(Tile&, const Tile&, const Tile&)>
Refusal multiply(const Instruction& i) {
  if (i.tile == i.left || i.tile == i.right || i.left == i.right) return "two operands are one tile";
  Tile& c = unit.tiles[i.tile];
  const Tile &a = unit.tiles[i.left], &b = unit.tiles[i.right];
  if ((a.bytes | b.bytes | c.bytes) % 4 != 0) return "rows are not whole groups of 4 bytes";
  if (c.rows != a.rows || c.bytes != b.bytes || a.bytes != 4 * b.rows) return "the shapes do not fit";
  ADD(c, a, b);
  return nullptr;
}

// ---- reading instructions

enum Prefix : uint8_t { np, p66, pF3, pF2 };  // as VEX numbers them
enum class Takes { memory, nothing, tile, tile_and_rows, three_tiles };

struct Form {
  const char* name;
  Prefix prefix;
  uint8_t opcode;
  Takes takes;
  Refusal (*run)(const Instruction&);
};

constexpr Form forms[] = {
    {"ldtilecfg", np, 0x49, Takes::memory, load_config},
    {"tilerelease", np, 0x49, Takes::nothing, release},
    {"tilezero", pF2, 0x49, Takes::tile, zero},
    {"tileloadd", pF2, 0x4b, Takes::tile_and_rows, load},
    {"tileloaddt1", p66, 0x4b, Takes::tile_and_rows, load},
    {"tilestored", pF3, 0x4b, Takes::tile_and_rows, store},
    {"tdpbf16ps", pF3, 0x5c, Takes::three_tiles, multiply<add_products_of_halves<false>>},
    {"tdpfp16ps", pF2, 0x5c, Takes::three_tiles, multiply<add_products_of_halves<true>>},
    {"tdpbssd", pF2, 0x5e, Takes::three_tiles, multiply<add_products_of_bytes<true, true>>},
    {"tdpbsud", pF3, 0x5e, Takes::three_tiles, multiply<add_products_of_bytes<true, false>>},
    {"tdpbusd", p66, 0x5e, Takes::three_tiles, multiply<add_products_of_bytes<false, true>>},
    {"tdpbuud", np, 0x5e, Takes::three_tiles, multiply<add_products_of_bytes<false, false>>},
};

// General registers as instructions number them.
constexpr int register_at[] = {REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP, REG_RSI, REG_RDI,
                               REG_R8,  REG_R9,  REG_R10, REG_R11, REG_R12, REG_R13, REG_R14, REG_R15};

template <typename T>
uint64_t displacement(const uint8_t* at) {
  T value;
  std::memcpy(&value, at, sizeof value);
  return static_cast<uint64_t>(int64_t{value});
}

// The memory operand whose ModRM byte lies at `at`, and whether it has a SIB byte. Returns what follows it.
const uint8_t* decode_memory(const uint8_t* at, int index_8, int base_8, const greg_t* registers, Instruction& out,
                             bool& has_sib) {
  const auto value = [&](int number) { return static_cast<uint64_t>(registers[register_at[number]]); };
  const int mod = *at >> 6, rm = *at & 7;
  ++at;
  has_sib = rm == 4;
  int base = rm;
  if (has_sib) {
    const int index = (*at >> 3 & 7) | index_8;
    if (index != 4) out.stride = value(index) << (*at >> 6);
    base = *at & 7;
    ++at;
  }
  const bool no_base = base == 5 && mod == 0;
  if (!no_base) out.address = value(base | base_8);
  if (mod == 1) {
    out.address += displacement<int8_t>(at);
    at += 1;
  } else if (mod == 2 || no_base) {
    out.address += displacement<int32_t>(at);
    at += 4;
  }
  if (no_base && !has_sib) out.address += reinterpret_cast<uint64_t>(at);  // from the next instruction
  return at;
}

constexpr uint8_t vex = 0xc4, int3 = 0xcc;  // first bytes: as compiled, and after `trap_sooner`

// Whether the next instruction is one of AMX. Further bytes are read only if the first says so: code may end there.
bool decode(const greg_t* registers, Instruction& out) {
  const auto* const start = reinterpret_cast<const uint8_t*>(registers[REG_RIP]);
  if (start[0] != vex && start[0] != int3) return false;
  // R, X, B and vvvv of a VEX prefix are inverted.
  const int extensions = ~start[1] >> 5 & 7, vvvv = ~start[2] >> 3 & 15;
  const int r_8 = (extensions & 4) * 2, x_8 = (extensions & 2) * 4, b_8 = (extensions & 1) * 8;
  if ((start[1] & 31) != 2 || (start[2] & 0x84) != 0) return false;  // map 0F38, W0, 128 bits
  const int mod = start[4] >> 6, reg = (start[4] >> 3 & 7) | r_8, rm = (start[4] & 7) | b_8;
  for (const Form& form : forms) {
    if (form.prefix != (start[2] & 3) || form.opcode != start[3]) continue;
    out = {&form, reg, rm, vvvv, 0, 0, 5};
    bool has_sib = false;
    if (mod != 3)
      out.length = static_cast<uint64_t>(decode_memory(start + 4, x_8, b_8, registers, out, has_sib) - start);
    const bool in_memory = mod != 3 && vvvv == 0, in_tiles = mod == 3 && vvvv == 0;
    switch (form.takes) {
      case Takes::memory:
        if (in_memory && reg == 0) return true;
        break;
      case Takes::nothing:
        if (in_tiles && reg == 0 && rm == 0) return true;
        break;
      case Takes::tile:
        if (in_tiles && reg < 8 && rm == 0) return true;
        break;
      case Takes::tile_and_rows:
        if (in_memory && reg < 8 && has_sib) return true;
        break;
      case Takes::three_tiles:
        if (mod == 3 && reg < 8 && rm < 8 && vvvv < 8) return true;
        break;
    }
  }
  return false;
}

Refusal run(const Instruction& i) {
  const Takes takes = i.form->takes;
  if (takes != Takes::memory && takes != Takes::nothing) {
    if (!unit.configured) return "tiles are not configured";
    const auto has_shape = [](int t) { return unit.tiles[t].rows > 0; };
    if (!has_shape(i.tile) || (takes == Takes::three_tiles && !(has_shape(i.left) && has_shape(i.right))))
      return "a tile is not configured";
  }
  return i.form->run(i);
}

void say(const Instruction& i, Refusal why) {
  char text[400];
  int size = std::snprintf(text, sizeof text, "AMX emulator: %s", i.form->name);
  const auto add_tile = [&](int t) {
    size += std::snprintf(text + size, sizeof text - static_cast<size_t>(size), " tmm%d (%d rows of %d bytes)", t,
                          unit.tiles[t].rows, unit.tiles[t].bytes);
  };
  if (i.form->takes != Takes::memory) add_tile(i.tile);
  if (i.form->takes == Takes::three_tiles) {
    add_tile(i.left);
    add_tile(i.right);
  }
  size += std::snprintf(text + size, sizeof text - static_cast<size_t>(size), ": %s\n", why);
  (void)!::write(STDERR_FILENO, text, static_cast<size_t>(size));
}

// ---- signals

struct sigaction before_sigill, before_sigtrap;
std::atomic<uint64_t> signals = 0;
int own_memory = -1;  // /proc/self/mem, which writes where code may not

// Under a hypervisor an unknown instruction takes three times as long as a breakpoint (7 us, 2.5 us), so what was met
// once begins with one from then on. Where that is not allowed nothing changes.
void trap_sooner(const greg_t* registers) { (void)!::pwrite(own_memory, &int3, 1, registers[REG_RIP]); }

void hand_on(int signal, siginfo_t* info, void* context) {
  const struct sigaction& before = signal == SIGTRAP ? before_sigtrap : before_sigill;
  if (before.sa_flags & SA_SIGINFO) return before.sa_sigaction(signal, info, context);
  if (before.sa_handler != SIG_DFL && before.sa_handler != SIG_IGN) return before.sa_handler(signal);
  ::signal(signal, SIG_DFL);
  ::raise(signal);
}

void handle(int signal, siginfo_t* info, void* context) {
  greg_t* const registers = static_cast<ucontext_t*>(context)->uc_mcontext.gregs;
  Instruction i;
  if (signal == SIGTRAP) --registers[REG_RIP];  // it has taken place
  if (!decode(registers, i)) {
    if (signal == SIGTRAP) ++registers[REG_RIP];
    return hand_on(signal, info, context);
  }
  signals.fetch_add(1, std::memory_order_relaxed);
  if (signal == SIGILL) trap_sooner(registers);
  // A signal takes longer than what it is for, so those that follow are done along with the first.
  do {
    if (const Refusal why = run(i)) {
      say(i, why);
      return hand_on(SIGILL, info, context);
    }
    registers[REG_RIP] += static_cast<greg_t>(i.length);
  } while (decode(registers, i));
}

}  // namespace

DeviceSpec machine_with_tiles() {
  DeviceSpec machine = this_machine(1);
  if (machine.level != cpu::avx512_bf16 || (machine.features & cpu::feature_amx_tile) != 0) return machine;
  static const bool installed = [] {
    struct sigaction action = {};
    action.sa_sigaction = handle;
    action.sa_flags = SA_SIGINFO;
    own_memory = ::open("/proc/self/mem", O_RDWR | O_CLOEXEC);
    return ::sigaction(SIGTRAP, &action, &before_sigtrap) == 0 && ::sigaction(SIGILL, &action, &before_sigill) == 0;
  }();
  if (!installed) return machine;
  machine.level = cpu::amx;
  machine.features |= cpu::feature_amx_tile | cpu::feature_amx_bf16 | cpu::feature_amx_int8 | cpu::feature_amx_fp16;
  return machine;
}

uint64_t tile_signals() { return signals.load(std::memory_order_relaxed); }
#else
DeviceSpec machine_with_tiles() { return this_machine(1); }
uint64_t tile_signals() { return 0; }
#endif

}  // namespace sinter::testing
