// Instructions of AMX against plain loops: what the tests of rows at level amx rest on where tiles are emulated
// (tests/tools/amx_emulator.h). Where there are tiles, these tests ask them.
#include "amx_emulator.h"

#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <thread>
#include <vector>

#include "backend/cpu/device.h"
#include "op_testing.h"
#include "tensor/convert.h"

#ifdef SINTER_X86
#include <immintrin.h>
#include <signal.h>

namespace sinter {
namespace {

#define SINTER_INLINE static inline
#include "backend/cpu/isa/amx_unit.inc"

// A tile loads what lies in memory, which some compilers' intrinsics do not say: so it is written elsewhere, before.
#define OUTSIDE __attribute__((noinline)) void

typedef std::vector<uint8_t> Bytes;

class Amx : public ::testing::Test {
 protected:
  void SetUp() override {
    if (testing::machine_with_tiles().level < cpu::amx)
      GTEST_SKIP() << "no tiles, and no AVX-512 BF16, beside which they would be emulated";
  }
};

class AmxEmulatorDeathTest : public Amx {
 protected:
  void SetUp() override {
    Amx::SetUp();
    if (this_machine(1).level >= cpu::amx) GTEST_SKIP() << "tiles do not say what is wrong";
    GTEST_FLAG_SET(death_test_style, "threadsafe");
  }
};

Bytes random_bytes(std::mt19937& random, int64_t count) {
  Bytes out(static_cast<size_t>(count));
  for (uint8_t& byte : out) byte = static_cast<uint8_t>(random());
  return out;
}

void set_shape(TileConfig& config, int tile, int rows, int bytes) {
  config.rows[tile] = static_cast<uint8_t>(rows);
  config.column_bytes[tile] = static_cast<uint16_t>(bytes);
}

// ---- rows

OUTSIDE copy(const TileConfig& config, const uint8_t* from, int64_t from_stride, uint8_t* to, int64_t to_stride) {
  load_config(config);
  _tile_loadd(2, from, from_stride);
  _tile_stored(2, to, to_stride);
  _tile_release();
}

TEST_F(Amx, LoadsAndStoresRowsOfAShape) {
  std::mt19937 random(1);
  for (const int rows : {1, 2, 7, 15, 16})
    for (const int bytes : {4, 20, 60, 64})
      for (const int64_t stride : {64, 68, 200})
        for (const int64_t to_stride : {64, 132}) {
          const Bytes from = random_bytes(random, (rows - 1) * stride + bytes);
          Bytes to(static_cast<size_t>(16 * to_stride), 0xee), wanted = to;
          for (int r = 0; r < rows; ++r) std::memcpy(&wanted[r * to_stride], &from[r * stride], bytes);
          TileConfig config;
          set_shape(config, 2, rows, bytes);
          copy(config, from.data(), stride, to.data(), to_stride);
          EXPECT_EQ(to, wanted) << rows << " rows of " << bytes << " bytes, " << stride << " and " << to_stride
                                << " apart";
        }
}

OUTSIDE load_upwards(const uint8_t* last, uint8_t* to) {
  load_config(TileConfig());
  _tile_stream_loadd(2, last, -64);
  _tile_stored(2, to, 64);
  _tile_release();
}

TEST_F(Amx, StridesMayBeNegative) {
  std::mt19937 random(2);
  const Bytes from = random_bytes(random, 16 * 64);
  Bytes to(16 * 64), wanted(16 * 64);
  for (int r = 0; r < 16; ++r) std::memcpy(&wanted[r * 64], &from[(15 - r) * 64], 64);
  load_upwards(&from[15 * 64], to.data());
  EXPECT_EQ(to, wanted);
}

OUTSIDE store_zeroed(const uint8_t* from, uint8_t* zeroed, uint8_t* configured_again) {
  load_config(TileConfig());
  _tile_loadd(1, from, 64);
  _tile_loadd(6, from, 64);
  _tile_zero(6);
  _tile_stored(6, zeroed, 64);
  load_config(TileConfig());
  _tile_stored(1, configured_again, 64);
  _tile_release();
}

TEST_F(Amx, ZeroAndConfigurationClear) {
  const Bytes from(16 * 64, 0x77), zeros(16 * 64);
  Bytes zeroed(16 * 64, 0xee), again(16 * 64, 0xee);
  store_zeroed(from.data(), zeroed.data(), again.data());
  EXPECT_EQ(zeroed, zeros);
  EXPECT_EQ(again, zeros);
}

TEST_F(Amx, EachThreadHasItsTiles) {
  std::mt19937 random(3);
  const Bytes mine = random_bytes(random, 16 * 64), other = random_bytes(random, 16 * 64);
  Bytes to(16 * 64), theirs(16 * 64);
  load_config(TileConfig());
  _tile_loadd(2, mine.data(), 64);
  std::thread([&] { copy(TileConfig(), other.data(), 64, theirs.data(), 64); }).join();
  _tile_stored(2, to.data(), 64);
  _tile_release();
  EXPECT_EQ(to, mine);
  EXPECT_EQ(theirs, other);
}

// ---- addresses

// Loads tile 3 as `load` says and expects rows from `first` on, `stride` apart.
void expect_rows(const char* how, int64_t first, int64_t stride, void (*load)(const uint8_t*)) {
  std::mt19937 random(4);
  const Bytes from = random_bytes(random, 4096);
  Bytes to(16 * 64), wanted(16 * 64);
  load_config(TileConfig());
  load(from.data());
  _tile_stored(3, to.data(), 64);
  _tile_release();
  for (int r = 0; r < 16; ++r) std::memcpy(&wanted[r * 64], &from[first + r * stride], 64);
  EXPECT_EQ(to, wanted) << how;
}

// RDI points to the bytes; instructions before the load may change any of these registers and RBP.
#define EXPECT_ROWS(first, stride, before, operand)                                                \
  expect_rows(operand, first, stride, [](const uint8_t* bytes) {                                   \
    __asm__ volatile("mov %%rbp, %%r9\n" before "\ntileloadd " operand ", %%tmm3\nmov %%r9, %%rbp" \
                     : "+D"(bytes)                                                                 \
                     :                                                                             \
                     : "rax", "rcx", "rdx", "rsi", "r8", "r9", "r12", "r13", "r15", "memory");     \
  })

TEST_F(Amx, Addresses) {
  EXPECT_ROWS(0, 64, "mov %%rdi, %%rax\n mov $64, %%ecx", "(%%rax, %%rcx)");
  EXPECT_ROWS(0, 144, "mov $72, %%esi", "(%%rdi, %%rsi, 2)");
  EXPECT_ROWS(0, 96, "mov %%rdi, %%r8\n mov $12, %%r15d", "(%%r8, %%r15, 8)");
  EXPECT_ROWS(5, 68, "lea -20(%%rdi), %%rax\n mov $17, %%r12d", "25(%%rax, %%r12, 4)");
  EXPECT_ROWS(36, 64, "lea 100(%%rdi), %%rdx\n mov $64, %%eax", "-64(%%rdx, %%rax)");
  EXPECT_ROWS(1000, 80, "mov $80, %%ecx", "1000(%%rdi, %%rcx)");
  EXPECT_ROWS(44, 64, "lea 1044(%%rdi), %%r12\n mov $64, %%ecx", "-1000(%%r12, %%rcx)");
  EXPECT_ROWS(0, 64, "mov %%rdi, %%r12\n mov $64, %%ecx", "(%%r12, %%rcx)");
  // These bases are always followed by a displacement.
  EXPECT_ROWS(0, 64, "mov %%rdi, %%rbp\n mov $64, %%ecx", "(%%rbp, %%rcx)");
  EXPECT_ROWS(0, 64, "mov %%rdi, %%r13\n mov $64, %%ecx", "(%%r13, %%rcx)");
  EXPECT_ROWS(8, 64, "mov $64, %%ebp\n", "8(%%rdi, %%rbp)");
  // Without an index all rows are one.
  EXPECT_ROWS(0, 0, "", "(%%rdi)");
  EXPECT_ROWS(300, 0, "lea 200(%%rdi), %%r13", "100(%%r13)");
}

TEST_F(Amx, AddressesOnTheStack) {
  TileConfig config;
  set_shape(config, 3, 2, 8);
  const uint64_t value = 0x123456789abcdef;
  uint64_t to[2] = {};
  load_config(config);
  __asm__ volatile("lea -256(%%rsp), %%rsp\n mov %0, 16(%%rsp)\n tileloadd 16(%%rsp), %%tmm3\n lea 256(%%rsp), %%rsp"
                   :
                   : "a"(value)
                   : "memory");
  _tile_stored(3, to, 8);
  _tile_release();
  EXPECT_EQ(to[0], value);
  EXPECT_EQ(to[1], value);
}

TEST_F(Amx, AddressesOfConfigurations) {
  static TileConfig config;  // addressed from the instruction
  set_shape(config, 1, 1, 4);
  const uint8_t from[4] = {1, 2, 3, 4};
  uint8_t to[4] = {};
  const auto expect_configured = [&] {
    _tile_loadd(1, from, 64);
    _tile_stored(1, to, 64);
    _tile_release();
    EXPECT_EQ(std::memcmp(from, to, 4), 0);
    std::memset(to, 0, sizeof to);
  };
  __asm__ volatile("ldtilecfg %0" : : "m"(config) : "memory");
  expect_configured();
  __asm__ volatile("ldtilecfg (%0)" : : "r"(&config) : "memory");
  expect_configured();
  __asm__ volatile("ldtilecfg 8(, %0, 4)" : : "r"((reinterpret_cast<uint64_t>(&config) - 8) / 4) : "memory");
  expect_configured();
  __asm__ volatile("ldtilecfg -1(%0, %1, 2)" : : "r"(reinterpret_cast<uint64_t>(&config) - 39), "r"(20L) : "memory");
  expect_configured();
}

// ---- products

struct Extents {
  int m, n, k;  // rows and columns of C, and groups of four bytes that are summed over
};
constexpr Extents extents[] = {{16, 16, 16}, {1, 1, 1}, {5, 3, 7}, {16, 16, 2}, {3, 16, 16}, {16, 1, 16}};

TileConfig config_of(const Extents& x) {
  TileConfig config;
  set_shape(config, 2, x.m, 4 * x.n);
  set_shape(config, 7, x.m, 4 * x.k);
  set_shape(config, 5, x.k, 4 * x.n);
  return config;
}

#define PRODUCT(name, instruction)                                                 \
  OUTSIDE name(const Extents& x, const uint8_t* a, const uint8_t* b, uint8_t* c) { \
    load_config(config_of(x));                                                     \
    _tile_loadd(2, c, 4 * x.n);                                                    \
    _tile_loadd(7, a, 4 * x.k);                                                    \
    _tile_loadd(5, b, 4 * x.n);                                                    \
    instruction(2, 7, 5);                                                          \
    _tile_stored(2, c, 4 * x.n);                                                   \
    _tile_release();                                                               \
  }
PRODUCT(product_bf16, _tile_dpbf16ps)
// tdpfp16ps tmm2, tmm7, tmm5, which older compilers do not know.
#define MULTIPLY_F16(c, a, b) __asm__ volatile(".byte 0xc4, 0xe2, 0x53, 0x5c, 0xd7")
PRODUCT(product_f16, MULTIPLY_F16)
PRODUCT(product_ss, _tile_dpbssd)
PRODUCT(product_su, _tile_dpbsud)
PRODUCT(product_us, _tile_dpbusd)
PRODUCT(product_uu, _tile_dpbuud)

template <typename T>
T read(const Bytes& bytes, int64_t at) {
  T value;
  std::memcpy(&value, &bytes[static_cast<size_t>(at) * sizeof(T)], sizeof(T));
  return value;
}

template <typename A, typename B>
void expect_product_of_bytes(void (*product)(const Extents&, const uint8_t*, const uint8_t*, uint8_t*)) {
  std::mt19937 random(5);
  for (const Extents& x : extents) {
    const Bytes a = random_bytes(random, 4 * x.m * x.k), b = random_bytes(random, 4 * x.k * x.n);
    const Bytes before = random_bytes(random, 4 * x.m * x.n);
    Bytes c = before;
    product(x, a.data(), b.data(), c.data());
    for (int m = 0; m < x.m; ++m)
      for (int n = 0; n < x.n; ++n) {
        int64_t sum = read<int32_t>(before, m * x.n + n);
        for (int k = 0; k < x.k; ++k)
          for (int i = 0; i < 4; ++i)
            sum += int64_t{read<A>(a, 4 * (m * x.k + k) + i)} * read<B>(b, 4 * (k * x.n + n) + i);
        ASSERT_EQ(read<int32_t>(c, m * x.n + n), static_cast<int32_t>(sum))
            << "element " << m << ", " << n << " of " << x.m << " x " << x.n << " x " << x.k;
      }
  }
}

TEST_F(Amx, ProductsOfBytes) {
  expect_product_of_bytes<int8_t, int8_t>(product_ss);
  expect_product_of_bytes<int8_t, uint8_t>(product_su);
  expect_product_of_bytes<uint8_t, int8_t>(product_us);
  expect_product_of_bytes<uint8_t, uint8_t>(product_uu);
}

float without_denormals(float x) { return std::abs(x) < 0x1p-126f ? std::copysign(0.0f, x) : x; }

// Numbers of 16 bits and the instruction that multiplies them.
struct Halves {
  int fraction_bits;
  float (*value)(uint16_t bits);
  void (*product)(const Extents&, const uint8_t*, const uint8_t*, uint8_t*);
};
constexpr Halves bf16 = {7, [](uint16_t bits) { return without_denormals(bfloat_to_float(bits)); }, product_bf16};
constexpr Halves f16 = {10, half_to_float, product_f16};

// Operands of any sign and fraction, with exponents of these.
Bytes random_halves(std::mt19937& random, int64_t count, std::vector<uint32_t> exponents, int fraction_bits) {
  Bytes out;
  const uint32_t others = 0x8000 | ((1u << fraction_bits) - 1);
  for (int64_t i = 0; i < count; ++i) {
    const auto bits =
        static_cast<uint16_t>((random() & others) | exponents[random() % exponents.size()] << fraction_bits);
    out.push_back(static_cast<uint8_t>(bits));
    out.push_back(static_cast<uint8_t>(bits >> 8));
  }
  return out;
}

// Step by step as the manual has it; NaN only where NaN is due.
void expect_product(const Halves& halves, const std::vector<uint32_t>& exponents,
                    const std::vector<uint32_t>& exponents_of_c) {
  std::mt19937 random(6);
  for (const Extents& x : extents) {
    const Bytes a = random_halves(random, 2 * x.m * x.k, exponents, halves.fraction_bits);
    const Bytes b = random_halves(random, 2 * x.k * x.n, exponents, halves.fraction_bits);
    const Bytes before = random_halves(random, 2 * x.m * x.n, exponents_of_c, 7);  // pairs of which are f32
    Bytes c = before;
    halves.product(x, a.data(), b.data(), c.data());
    for (int m = 0; m < x.m; ++m)
      for (int n = 0; n < x.n; ++n) {
        float sums[2] = {};
        for (int k = 0; k < x.k; ++k)
          for (int i = 0; i < 2; ++i)
            sums[i] = without_denormals(std::fma(halves.value(read<uint16_t>(a, 2 * (m * x.k + k) + i)),
                                                 halves.value(read<uint16_t>(b, 2 * (k * x.n + n) + i)), sums[i]));
        const float sum = without_denormals(without_denormals(read<float>(before, m * x.n + n)) +
                                            without_denormals(sums[0] + sums[1]));
        const float made = read<float>(c, m * x.n + n);
        ASSERT_TRUE(std::isnan(sum) ? std::isnan(made) : std::memcmp(&sum, &made, 4) == 0)
            << made << " for " << sum << ", element " << m << ", " << n << " of " << x.m << " x " << x.n << " x "
            << x.k;
      }
  }
}

TEST_F(Amx, ProductsOfBf16) {
  expect_product(bf16, {127}, {127});
  expect_product(bf16, {100, 120, 125, 127, 130}, {120, 140, 127});
}

TEST_F(Amx, DenormalsAreZero) {
  expect_product(bf16, {0, 127}, {0, 127});
  expect_product(bf16, {63, 64}, {0, 1, 2});  // products around the smallest number
}

TEST_F(Amx, InfinityAndNan) {
  expect_product(bf16, {0, 127, 127, 127, 127, 127, 127, 127, 254, 255}, {127});
  expect_product(bf16, {190, 191, 192}, {254, 255});
}

TEST_F(Amx, ProductsOfF16) {
  if ((testing::machine_with_tiles().features & cpu::feature_amx_fp16) == 0) GTEST_SKIP() << "not of this machine";
  expect_product(f16, {15}, {127});
  expect_product(f16, {1, 10, 13, 15, 18, 30}, {120, 140, 127});
  expect_product(f16, {0, 15}, {0, 127});  // denormals are numbers
  expect_product(f16, {0, 15, 15, 15, 15, 15, 15, 15, 30, 31}, {127});
}

TEST_F(Amx, RoundingIsTheTileUnits) {
  const unsigned mode = _mm_getcsr();
  _mm_setcsr(mode | 0x6000);  // towards zero
  const Extents x = {1, 1, 1};
  const Bytes one = {0x80, 0x3f, 0x80, 0x3f};
  Bytes c = {0xff, 0xff, 0x7f, 0x4b};  // 2^24 - 1
  product_bf16(x, one.data(), one.data(), c.data());
  const unsigned after = _mm_getcsr();
  _mm_setcsr(mode);
  EXPECT_EQ(read<float>(c, 0), 0x1p24f) << "2^24 + 1, to nearest even";
  EXPECT_EQ(after & 0x6000, 0x6000u);
}

// ---- what hardware would refuse

OUTSIDE multiply_unconfigured() { _tile_dpbf16ps(0, 1, 2); }

OUTSIDE multiply_with(const TileConfig& config) {
  load_config(config);
  _tile_dpbusd(0, 1, 2);
}

OUTSIDE multiply_one_tile() {
  load_config(TileConfig());
  __asm__ volatile(".byte 0xc4, 0xe2, 0x5b, 0x5e, 0xdb");  // tdpbssd tmm3, tmm3, tmm4, which assemblers refuse
}

OUTSIDE load_released(const uint8_t* from) {
  load_config(TileConfig());
  _tile_release();
  _tile_loadd(0, from, 64);
}

TEST_F(AmxEmulatorDeathTest, SaysWhatIsWrong) {
  const ::testing::KilledBySignal refused(SIGILL);
  EXPECT_EXIT(multiply_unconfigured(), refused,
              "AMX emulator: tdpbf16ps tmm0 .* tmm1 .* tmm2 .*: tiles are not config");
  EXPECT_EXIT(load_released(nullptr), refused, "AMX emulator: tileloadd tmm0 .*: tiles are not configured");
  EXPECT_EXIT(multiply_one_tile(), refused, "AMX emulator: tdpbssd .*: two operands are one tile");
  TileConfig config;
  set_shape(config, 1, 16, 60);
  EXPECT_EXIT(multiply_with(config), refused, "tmm1 .16 rows of 60 bytes. .*: the shapes do not fit");
  set_shape(config, 1, 15, 64);
  EXPECT_EXIT(multiply_with(config), refused, "tmm1 .15 rows of 64 bytes. .*: the shapes do not fit");
  set_shape(config, 1, 16, 62);
  EXPECT_EXIT(multiply_with(config), refused, "rows are not whole groups of 4 bytes");
  set_shape(config, 1, 0, 0);
  EXPECT_EXIT(multiply_with(config), refused, "a tile is not configured");
}

TEST_F(AmxEmulatorDeathTest, SaysWhatIsWrongWithAConfiguration) {
  const ::testing::KilledBySignal refused(SIGILL);
  TileConfig config;
  config.palette = 2;
  EXPECT_EXIT(load_config(config), refused, "AMX emulator: ldtilecfg: the palette is not 1");
  config = {};
  config.reserved[3] = 1;
  EXPECT_EXIT(load_config(config), refused, "reserved bytes are not zero");
  config = {};
  set_shape(config, 8, 16, 64);
  EXPECT_EXIT(load_config(config), refused, "reserved bytes are not zero");
  config = {};
  set_shape(config, 4, 17, 64);
  EXPECT_EXIT(load_config(config), refused, "a tile has more than 16 rows of 64 bytes");
  set_shape(config, 4, 0, 64);
  EXPECT_EXIT(load_config(config), refused, "a tile has rows without bytes");
}

TEST_F(AmxEmulatorDeathTest, OtherInstructionsEndAsBefore) {
  EXPECT_EXIT(__builtin_trap(), ::testing::KilledBySignal(SIGILL), "^$");
  EXPECT_EXIT(__asm__ volatile("int3"), ::testing::KilledBySignal(SIGTRAP), "^$");
  // One of AMX that no code here uses.
  uint8_t config[64];
  EXPECT_EXIT(_tile_storeconfig(config), ::testing::KilledBySignal(SIGILL), "^$");
}

}  // namespace
}  // namespace sinter
#endif
