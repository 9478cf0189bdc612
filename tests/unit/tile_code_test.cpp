// Tile programs as machine code beside the interpreter: the same bits for random programs of all that code takes.
#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstring>
#include <random>

#include "backend/cpu/device.h"
#include "backend/cpu/tile_executor.h"
#include "backend/kernel.h"
#include "tensor/convert.h"
#include "tile_programs.h"

namespace sinter::cpu {
namespace {

// Whether this build has code at all.
bool has_code() {
  Writer w;
  w.store(w.compute(ScalarOp::neg, w.load(Spread::full)));
  return describe().level >= avx2 && is_compiled(*make_executor(w.program, avx2));
}

struct Random {
  explicit Random(uint32_t seed) : engine(seed) {}
  std::mt19937 engine;
  int64_t below(int64_t n) { return static_cast<int64_t>(engine() % static_cast<uint32_t>(n)); }
  bool chance(int64_t one_in) { return below(one_in) == 0; }
  template <typename T, size_t N>
  T of(const T (&list)[N]) {
    return list[below(static_cast<int64_t>(N))];
  }
};

constexpr ScalarOp one_argument[] = {ScalarOp::neg,        ScalarOp::abs,    ScalarOp::sign,       ScalarOp::floor,
                                     ScalarOp::ceil,       ScalarOp::trunc,  ScalarOp::round,      ScalarOp::sqrt,
                                     ScalarOp::reciprocal, ScalarOp::exp,    ScalarOp::expm1,      ScalarOp::log,
                                     ScalarOp::log1p,      ScalarOp::tanh,   ScalarOp::erf,        ScalarOp::sigmoid,
                                     ScalarOp::is_nan,     ScalarOp::is_inf, ScalarOp::logical_not};
constexpr ScalarOp two_arguments[] = {
    ScalarOp::add,  ScalarOp::add,        ScalarOp::sub,         ScalarOp::sub,        ScalarOp::mul,
    ScalarOp::mul,  ScalarOp::div,        ScalarOp::min,         ScalarOp::max,        ScalarOp::equal,
    ScalarOp::less, ScalarOp::less_equal, ScalarOp::logical_and, ScalarOp::logical_or, ScalarOp::logical_xor};
constexpr DType loaded[] = {DType::f32,     DType::f32, DType::f32, DType::f32, DType::f32, DType::f16, DType::bf16,
                            DType::boolean, DType::u8,  DType::i8,  DType::u16, DType::i16, DType::i32};
constexpr DType stored[] = {DType::f32, DType::f32, DType::f32, DType::f16, DType::bf16, DType::boolean};
constexpr Spread spreads[] = {Spread::full, Spread::full, Spread::full, Spread::column, Spread::row, Spread::scalar};

TileProgram random_program(Random& random) {
  Writer w;
  std::vector<uint16_t> made;
  std::vector<bool> per_row;  // or scalar
  const auto add = [&](uint16_t v, bool row) { made.push_back(v), per_row.push_back(row); };
  const bool reduces = random.chance(3);
  const int64_t operands = 1 + random.below(5);
  for (int64_t k = 0; k < operands; ++k) {
    const Spread spread = k == 0 ? Spread::full : random.of(spreads);
    if (k > 0 && random.chance(12)) {
      const DType dtype = random.of({DType::i8, DType::u8, DType::i16, DType::u16, DType::i32});
      uint16_t n = w.load(spread, dtype, true);
      if (random.chance(3)) {
        // Sums wrap at once.
        const uint16_t m = w.load(spread, random.of({DType::i8, DType::i32}), true);
        n = w.convert(w.compute(random.of({ScalarOp::add, ScalarOp::sub}), n, m), random.of({DType::i8, DType::i32}));
      }
      if (random.chance(2)) w.store(n, Spread::full, random.of({DType::i8, DType::i32}));
      add(w.convert(n, DType::f32), spread == Spread::row || spread == Spread::scalar);
      continue;
    }
    const uint16_t v = w.load(spread, k == 0 ? DType::f32 : random.of(loaded));
    add(v, spread == Spread::row || spread == Spread::scalar);
  }
  for (int64_t k = random.below(3); k > 0; --k) add(w.constant(random.of({-1.5, 0.0, 0.5, 1.0, 2.0, 6.0})), true);
  const int64_t steps = 1 + random.below(random.chance(4) ? 30 : 9);
  for (int64_t k = 0; k < steps; ++k) {
    const auto pick = [&] {
      const int64_t n = std::ssize(made);
      return static_cast<size_t>(random.chance(2) ? n - 1 - random.below(std::min<int64_t>(n, 3)) : random.below(n));
    };
    const size_t a = pick(), b = pick(), c = pick();
    if (reduces && random.chance(6)) {
      const ScalarOp op = random.of({ScalarOp::add, ScalarOp::add, ScalarOp::max, ScalarOp::min, ScalarOp::mul});
      add(w.reduce(op, made[a], op == ScalarOp::add && random.chance(2)), true);
    } else if (random.chance(12)) {
      add(w.convert(made[a], random.of({DType::f16, DType::bf16, DType::f32})), per_row[a]);
    } else if (random.chance(12)) {
      // Quantized numbers: integers on the way from reals to reals or to memory.
      const DType dtype = random.of({DType::i8, DType::u8, DType::i16, DType::u16, DType::i32});
      uint16_t n = w.convert(made[a], dtype);
      if (random.chance(3)) n = w.convert(n, random.of({DType::i8, DType::u8, DType::i32}));
      const uint16_t back = w.convert(n, DType::f32);
      if (random.chance(2)) w.store(n, per_row[a] && random.chance(2) ? Spread::row : Spread::full, dtype);
      add(back, per_row[a]);
    } else if (random.chance(12)) {
      add(w.compute(ScalarOp::select, made[a], made[b], made[c]), per_row[a] && per_row[b] && per_row[c]);
    } else if (random.chance(3)) {
      add(w.compute(random.of(one_argument), made[a]), per_row[a]);
    } else {
      add(w.compute(random.of(two_arguments), made[a], made[b]), per_row[a] && per_row[b]);
    }
  }
  w.store(made.back());
  for (int64_t k = random.below(3); k > 0; --k) {
    const auto v = static_cast<size_t>(random.below(std::ssize(made)));
    w.store(made[v], per_row[v] && random.chance(2) ? Spread::row : Spread::full, random.of(stored));
  }
  return w.program;
}

// Bytes of an operand that mean numbers of its type, some of them special.
std::vector<std::byte> random_bytes(Random& random, DType dtype, int64_t count, bool specials) {
  constexpr float special[] = {0.0f, -0.0f, INFINITY, -INFINITY, NAN, 1e-40f, 3e38f, -1e-30f, 1.0f, -1.0f, 6.0f};
  const int64_t width = bit_size(dtype) / 8;
  std::vector<std::byte> out(static_cast<size_t>(count * width));
  for (int64_t i = 0; i < count; ++i) {
    float f = static_cast<float>(random.below(1 << 20)) / (1 << 17) - 4;
    if (specials && random.chance(10)) f = random.of(special);
    uint64_t bits =
        is_float(dtype) ? encode_float(dtype, static_cast<double>(f)) : static_cast<uint64_t>(random.below(1 << 16));
    if (dtype == DType::boolean) bits = random.chance(2) ? 0 : 1;
    std::memcpy(out.data() + i * width, &bits, static_cast<size_t>(width));
  }
  return out;
}

struct Outcome {
  std::vector<std::vector<std::byte>> results;
};

struct Shape2 {
  int64_t rows, cols, pad;
  bool in_place;
};

Outcome run(const TileExecutor& executor, const TileProgram& program, std::vector<std::vector<std::byte>> operands,
            const Shape2& shape, int64_t rows_a_call) {
  Outcome out;
  std::vector<TileBuffer> buffers;
  const int64_t stride = shape.cols + shape.pad;
  const auto stride_of = [&](Spread spread) { return spread == Spread::full ? stride : 2; };
  for (size_t k = 0; k < operands.size(); ++k)
    buffers.push_back({operands[k].data(), stride_of(program.operands[k].spread), 1});
  for (const TileOperand& result : program.results) {
    const int64_t count = result.spread == Spread::full ? shape.rows * stride : shape.rows * 2;
    out.results.emplace_back(static_cast<size_t>(count * (bit_size(result.dtype) / 8)), std::byte{0x5a});
    buffers.push_back({out.results.back().data(), stride_of(result.spread), 1});
  }
  if (shape.in_place) buffers[operands.size()].data = operands[0].data();
  const Scratch scratch(tile_scratch(executor, shape.cols));
  for (int64_t r = 0; r < shape.rows; r += rows_a_call)
    run_tile(executor, buffers, r, std::min(shape.rows, r + rows_a_call), shape.cols, scratch.data);
  if (shape.in_place) out.results[0] = operands[0];
  return out;
}

double number_at(DType dtype, const std::byte* at) {
  uint64_t bits = 0;
  std::memcpy(&bits, at, static_cast<size_t>(bit_size(dtype) / 8));
  return is_float(dtype) ? decode_float(dtype, bits) : static_cast<double>(bits);
}

// The same numbers; zeros of either sign and all NaN are the same.
::testing::AssertionResult same(const TileProgram& program, const Outcome& a, const Outcome& b) {
  for (size_t k = 0; k < a.results.size(); ++k) {
    const DType dtype = program.results[k].dtype;
    const int64_t width = bit_size(dtype) / 8;
    for (int64_t i = 0; i < std::ssize(a.results[k]) / width; ++i) {
      const double x = number_at(dtype, a.results[k].data() + i * width);
      const double y = number_at(dtype, b.results[k].data() + i * width);
      if (x == y || (std::isnan(x) && std::isnan(y))) continue;
      return ::testing::AssertionFailure() << "result " << k << " at " << i << ": " << x << " and " << y;
    }
  }
  return ::testing::AssertionSuccess();
}

TEST(TileCode, RandomProgramsGiveWhatTheInterpreterGives) {
  if (!has_code()) GTEST_SKIP() << "no machine code in this build or on this machine";
  constexpr uint32_t seeds = 1500;
  for (uint32_t seed = 0; seed < seeds; ++seed) {
    Random random(seed);
    const TileProgram program = random_program(random);
    const auto level = static_cast<uint8_t>(1 + random.below(describe().level));
    const auto code = make_executor(program, level);
    const auto interpreter = make_executor(program, level, TileMode::interpreted);
    ASSERT_TRUE(is_compiled(*code)) << program.to_text();
    for (int round = 0; round < 3; ++round) {
      Shape2 shape;
      shape.cols = round == 0 ? 1 + random.below(70) : random.chance(4) ? 200 + random.below(1800) : random.below(300);
      // The interpreter cuts longer rows, which shows in sums.
      if (program.has_reductions()) shape.cols = std::min<int64_t>(shape.cols, 512);
      shape.rows = 1 + random.below(12);
      shape.pad = random.chance(2) ? 0 : random.below(9);
      shape.in_place = program.results[0].dtype == DType::f32 && random.chance(3);
      std::vector<std::vector<std::byte>> operands;
      for (const TileOperand& o : program.operands)
        operands.push_back(
            random_bytes(random, o.dtype, shape.rows * (shape.cols + shape.pad) + 2 * shape.rows, round == 2));
      const Outcome expected = run(*interpreter, program, operands, shape, shape.rows);
      const Outcome made = run(*code, program, operands, shape, shape.rows);
      ASSERT_TRUE(same(program, expected, made))
          << "seed " << seed << ", level " << int(level) << ", " << shape.rows << " x " << shape.cols << ", pad "
          << shape.pad << ", in place " << shape.in_place << "\n"
          << program.to_text();
      const Outcome cut = run(*code, program, operands, shape, 1 + random.below(shape.rows));
      for (size_t k = 0; k < made.results.size(); ++k)
        ASSERT_EQ(made.results[k], cut.results[k]) << "cut, seed " << seed;
    }
  }
}

// Rows longer than the interpreter's tile: sums in another order, each within its rounding.
TEST(TileCode, SumsOfLongRows) {
  if (!has_code()) GTEST_SKIP() << "no machine code in this build or on this machine";
  Random random(1);
  for (uint8_t level = avx2; level <= describe().level; ++level)
    for (int64_t cols : {513, 4096, 4097, 20001}) {
      std::vector<float> x(static_cast<size_t>(cols)), y(x.size());
      double sum = 0, top = -INFINITY;
      for (float& v : x) {
        v = static_cast<float>(random.below(1 << 20)) / (1 << 20);
        sum += static_cast<double>(v);
        top = std::max(top, static_cast<double>(v));
      }
      Writer w;
      const uint16_t a = w.load(Spread::full);
      const uint16_t mean = w.reduce(ScalarOp::add, a, true), largest = w.reduce(ScalarOp::max, a);
      w.store(w.compute(ScalarOp::sub, w.compute(ScalarOp::mul, a, largest), mean));
      const auto executor = make_executor(w.program, level);
      ASSERT_TRUE(is_compiled(*executor));
      const Scratch scratch(tile_scratch(*executor, cols));
      const TileBuffer buffers[] = {{x.data(), cols, 1}, {y.data(), cols, 1}};
      run_tile(*executor, buffers, 0, 1, cols, scratch.data);
      for (size_t i = 0; i < x.size(); ++i)
        ASSERT_NEAR(y[i], static_cast<double>(x[i]) * top - sum / static_cast<double>(cols), 1e-6) << cols << " " << i;
    }
}

// Columns that lie apart go to the interpreter, with the same result.
TEST(TileCode, ColumnsApart) {
  Writer w;
  w.store(w.compute(ScalarOp::exp, w.compute(ScalarOp::add, w.load(Spread::full), w.load(Spread::column))));
  const auto executor = make_executor(w.program, describe().level);
  constexpr int64_t rows = 5, cols = 67;
  std::vector<float> x(rows * cols), column(cols), dense(rows * cols), apart(rows * cols);
  for (size_t i = 0; i < x.size(); ++i) x[i] = static_cast<float>(i % 13) * 0.25f - 1;
  for (size_t i = 0; i < column.size(); ++i) column[i] = static_cast<float>(i) * 0.01f;
  const Scratch scratch(tile_scratch(*executor, cols));
  const TileBuffer flat[] = {{x.data(), cols, 1}, {column.data(), 0, 1}, {dense.data(), cols, 1}};
  const TileBuffer turned[] = {{x.data(), cols, 1}, {column.data(), 0, 1}, {apart.data(), 1, rows}};
  run_tile(*executor, flat, 0, rows, cols, scratch.data);
  run_tile(*executor, turned, 0, rows, cols, scratch.data);
  for (int64_t r = 0; r < rows; ++r)
    for (int64_t c = 0; c < cols; ++c)
      ASSERT_EQ(dense[static_cast<size_t>(r * cols + c)], apart[static_cast<size_t>(c * rows + r)]);
}

TEST(TileCode, EqualProgramsShare) {
  const auto program = [](double factor) {
    Writer w;
    w.store(w.compute(ScalarOp::mul, w.load(Spread::full), w.constant(factor)));
    return w.program;
  };
  const auto first = make_executor(program(3), portable);
  EXPECT_EQ(first, make_executor(program(3), portable));
  EXPECT_NE(first, make_executor(program(-3), portable));
  EXPECT_FALSE(is_compiled(*first));
  EXPECT_FALSE(is_compiled(*make_executor(program(3), avx2, TileMode::interpreted)));
  for (int n = 0; n < 2000; ++n) make_executor(program(n), portable);
  // Those that are held are still known, or made anew: the same either way.
  float x = 2, y = 0;
  const TileBuffer buffers[] = {{&x, 1, 1}, {&y, 1, 1}};
  const Scratch scratch(tile_scratch(*first, 1));
  run_tile(*first, buffers, 0, 1, 1, scratch.data);
  EXPECT_EQ(y, 6);
}

}  // namespace
}  // namespace sinter::cpu
