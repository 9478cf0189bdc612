// Loops of tile programs: one instruction over a block of rows and columns, each compiled once per instruction set.
//
// An argument is read as one value per element (`_col` 1) or one per row (`_col` 0); rows may share their values
// (`_row` 0). Elements are computed independently of their place, so results never depend on how blocks are cut; a
// reduction goes over its row in an order that depends on the number of columns alone. `out` may be exactly an argument
// of the same element size. A null entry: no loop of its own, the executor goes element by element.
#pragma once

#include <cstdint>

namespace sinter::cpu {

// Element types of registers.
enum class Lane : uint8_t { f32, f64, i64 };
constexpr int lane_count = 3;

struct TileArgs {
  void* out = nullptr;
  const void *a = nullptr, *b = nullptr, *c = nullptr, *d = nullptr, *e = nullptr;
  // Elements from row to row and from column to column; only loads and stores know columns that lie apart.
  int64_t out_row = 0, a_row = 0, b_row = 0, c_row = 0, d_row = 0, e_row = 0;
  int64_t out_col = 1, a_col = 1, b_col = 1, c_col = 1, d_col = 1, e_col = 1;
  int64_t rows = 0, cols = 0;
  // Elementary functions take long enough to fetch what the next tile reads: element i fetches near ahead + 4 * i.
  const char* ahead = nullptr;
  int64_t ahead_row = 0;  // bytes
};
using TileLoop = void (*)(const TileArgs&);

enum class TileUnary : uint8_t {
  neg,
  abs,
  sign,
  floor,
  ceil,
  trunc,
  round,
  sqrt,
  reciprocal,
  exp,
  expm1,
  log,
  log1p,
  sin,
  cos,
  tanh,
  erf,
  sigmoid,
  is_nan,
  is_inf,
  logical_not,
  bit_not,
  none
};
constexpr int tile_unary_count = static_cast<int>(TileUnary::none);

enum class TileBinary : uint8_t {
  add,
  sub,
  mul,
  div,
  pow,
  min,
  max,
  equal,
  less,
  less_equal,
  logical_and,
  logical_or,
  logical_xor,
  bit_and,
  bit_or,
  bit_xor,
  none
};
constexpr int tile_binary_count = static_cast<int>(TileBinary::none);

// Which of two arguments is one value per row.
enum TileForm : uint8_t { form_vv, form_vs, form_sv };

// Functions that loops join with the arithmetic around them, and what comes before and behind.
enum class TileFunction : uint8_t { exp, tanh, erf, sigmoid, none };
constexpr int tile_function_count = static_cast<int>(TileFunction::none);
enum TileBefore : uint8_t { before_none, before_mul, before_sub };
enum TileBehind : uint8_t { behind_none, behind_mul, behind_scaled };

enum class TileFold : uint8_t { add, mul, min, max };
constexpr int tile_fold_count = 4;

// Types in memory that loops load and store.
enum class TileMemory : uint8_t { boolean, u8, i8, u16, i16, u32, i32, u64, i64, f16, bf16, f32, f64, none };
constexpr int tile_memory_count = static_cast<int>(TileMemory::none);

struct TileTable {
  TileLoop unary[lane_count][tile_unary_count];
  TileLoop binary[lane_count][tile_binary_count][3];
  // a != 0 ? b : c, a one value per element; first index: b is one value per row, second: c is.
  TileLoop select[lane_count][2][2];
  // (a op1 b) op2 c in f32 with op1 of add, sub, mul and op2 of add, mul, min, max (multiply and add in one rounding
  // where the level has it). Indices: op1, b is one value per row, op2, c is one value per row.
  TileLoop pair[3][2][4][2];
  // f(a, a * b or a - b), then + c if asked for, then * d or * (d * e), in f32; b, c and e are one value per row.
  // Indices: f, before, whether c is added, behind.
  TileLoop function[tile_function_count][3][2][3];
  // ((a - b) * c) * d + e or ((a - b) / c) * d + e, in f32; b and c are one value per row. Indices: whether it divides,
  // d is one value per row, e is.
  TileLoop norm[2][2][2];
  // out[row] = out[row] op a[row, 0] op a[row, 1] ...; out lies densely.
  TileLoop fold[lane_count][tile_fold_count];
  TileLoop fold_product;  // f32: out[row] += sum of a * b
  TileLoop fold_centred;  // f32: out[row] += sum of (a - b)^2, b one value per row
  TileLoop load[tile_memory_count][lane_count];
  TileLoop store[lane_count][tile_memory_count];
  TileLoop convert[lane_count][lane_count];  // to integers: truncated, clamped to 64 bits, NaN 0
  TileLoop unsigned_to_real[2];              // i64 registers that hold u64 to f32 and f64
  TileLoop wrap[tile_memory_count];          // i64 cut to a narrower integer; f32 rounded to f16, bf16
};

extern const TileTable tile_portable;
#ifdef SINTER_X86
extern const TileTable tile_avx2;
extern const TileTable tile_avx512;
extern const TileTable tile_avx512_bf16;  // the same, rounding to bf16 as the instructions of AVX-512 BF16
#endif

}  // namespace sinter::cpu
