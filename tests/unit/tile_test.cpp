// Tile programs at every level of this machine: elementary functions against their definition, spreads, reductions, and
// the same bits however rows are cut.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <random>

#include "backend/cpu/device.h"
#include "backend/cpu/tile_executor.h"
#include "backend/kernel.h"
#include "tensor/convert.h"
#include "tile_programs.h"

namespace sinter::cpu {
namespace {

using Kind = TileInstruction::Kind;

std::vector<uint8_t> levels() {
  std::vector<uint8_t> out;
  for (uint8_t level = 0; level <= describe().level; ++level) out.push_back(level);
  return out;
}

void run(const TileProgram& program, uint8_t level, std::vector<TileBuffer> buffers, int64_t rows, int64_t cols,
         int64_t rows_a_call = 0) {
  const auto executor = make_executor(program, level);
  const Scratch scratch(tile_scratch(*executor, cols));
  if (rows_a_call == 0) rows_a_call = std::max<int64_t>(rows, 1);
  for (int64_t r = 0; r < rows; r += rows_a_call)
    run_tile(*executor, buffers, r, std::min(rows, r + rows_a_call), cols, scratch.data);
}

// Distance in units of the last place of the exact value's float.
double ulps(float made, double exact) {
  if (std::isnan(exact)) return std::isnan(made) ? 0 : 1e9;
  const auto rounded = static_cast<float>(exact);
  if (std::isinf(rounded) || std::isinf(made)) {
    // A value that rounds to infinity may come out as the largest number.
    if (made == rounded) return 0;
    return std::isinf(made) && std::abs(exact) > 3.402e38 ? 1 : 1e9;
  }
  int exponent = 0;
  std::frexp(exact, &exponent);
  const double unit = std::ldexp(1.0, std::max(exponent, -125) - 24);
  return std::abs(static_cast<double>(made) - exact) / unit;
}

const std::vector<float>& specials() {
  constexpr float inf = std::numeric_limits<float>::infinity();
  static const std::vector<float> list = {
      0.0f,         -0.0f,       1.0f,          -1.0f,       0.5f,    -0.5f,   1.5f,       2.5f,        -2.5f,
      inf,          -inf,        std::nanf(""), 1e-38f,      1e-40f,  -1e-40f, 1.4e-45f,   1e-20f,      1e20f,
      -1e20f,       3.4e38f,     -3.4e38f,      88.7f,       88.73f,  -87.4f,  -88.0f,     -103.f,      -104.5f,
      -150.0f,      9.1f,        -9.1f,         3.9f,        -3.95f,  1e-5f,   -1e-5f,     8388607.5f,  8388609.0f,
      -0.99999994f, 0.99999994f, 1.0000001f,    5999.0f,     6001.0f, 1e6f,    4194304.5f, 16777217.0f, 3.0f,
      -3.0f,        3.56290436f, -87.3365173f,  -70.7385864f};  // where erf and sigmoid are furthest off
  return list;
}

// Numbers of every magnitude, then of a range.
std::vector<float> samples(float low, float high, size_t count = 20000) {
  std::vector<float> out = specials();
  std::mt19937 random(7);
  std::uniform_real_distribution<float> range(low, high);
  std::uniform_int_distribution<uint32_t> bits;
  for (size_t i = 0; i < count; ++i) out.push_back(range(random));
  for (size_t i = 0; i < count; ++i) {
    const uint32_t u = bits(random);
    float f;
    std::memcpy(&f, &u, sizeof f);
    out.push_back(f);
  }
  return out;
}

struct Function {
  ScalarOp op;
  double bound;     // ulp
  double absolute;  // or that near
  float low, high;
};

// What isa/tile_math.inc promises.
const Function functions[] = {
    {ScalarOp::neg, 0, 0, -9, 9},
    {ScalarOp::abs, 0, 0, -9, 9},
    {ScalarOp::sign, 0, 0, -9, 9},
    {ScalarOp::floor, 0, 0, -1e5, 1e5},
    {ScalarOp::ceil, 0, 0, -1e5, 1e5},
    {ScalarOp::trunc, 0, 0, -1e5, 1e5},
    {ScalarOp::round, 0, 0, -1e5, 1e5},
    {ScalarOp::sqrt, 0.5, 0, 0, 9},
    {ScalarOp::reciprocal, 0.5, 0, -9, 9},
    {ScalarOp::exp, 1.5, 0, -104, 89},
    {ScalarOp::expm1, 2, 0, -20, 89},
    {ScalarOp::log, 1.5, 0, 0, 4},
    {ScalarOp::log1p, 2, 0, -1, 4},
    {ScalarOp::sin, 1.5, 1e-7, -6000, 6000},
    {ScalarOp::cos, 1.5, 1e-7, -6000, 6000},
    {ScalarOp::tanh, 6, 0, -10, 10},
    {ScalarOp::erf, 7, 0, -5, 5},
    {ScalarOp::sigmoid, 7, 0x1.0002p-126, -104, 40},  // it may vanish there
    {ScalarOp::is_nan, 0, 0, -9, 9},
    {ScalarOp::is_inf, 0, 0, -9, 9},
    {ScalarOp::logical_not, 0, 0, -1, 1},
    {ScalarOp::tan, 0.51, 0, -9, 9},
    {ScalarOp::asin, 0.51, 0, -1, 1},
    {ScalarOp::atan, 0.51, 0, -9, 9},
};

TEST(Tile, Functions) {
  for (uint8_t level : levels())
    for (const Function& f : functions) {
      const std::vector<float> x = samples(f.low, f.high);
      std::vector<float> y(x.size());
      Writer w;
      w.store(w.compute(f.op, w.load(Spread::full)));
      run(w.program, level, {{const_cast<float*>(x.data()), 0, 1}, {y.data(), 0, 1}}, 1, std::ssize(x));
      double worst = 0;
      float at = 0;
      for (size_t i = 0; i < x.size(); ++i) {
        const double exact = scalar_real(f.op, static_cast<double>(x[i]), 0, 0);
        if (std::abs(static_cast<double>(y[i]) - exact) <= f.absolute) continue;
        const double d = ulps(y[i], exact);
        if (d > worst) worst = d, at = x[i];
        if (exact == 0) {
          EXPECT_EQ(std::signbit(y[i]), std::signbit(exact)) << scalar_op_name(f.op) << " of " << x[i];
        }
      }
      EXPECT_LE(worst, f.bound) << scalar_op_name(f.op) << " at level " << int(level) << ", worst at " << at;
    }
}

// One minus these vanishes exactly, as activations need it.
TEST(Tile, FunctionsSaturate) {
  for (uint8_t level : levels())
    for (const auto& [op, from] : {std::pair(ScalarOp::tanh, 9.03f), {ScalarOp::erf, 3.96f}}) {
      std::vector<float> x, y;
      for (float v = from; v < 100; v *= 1.001f) x.push_back(v), x.push_back(-v);
      y.resize(x.size());
      Writer w;
      w.store(w.compute(op, w.load(Spread::full)));
      run(w.program, level, {{x.data(), 0, 1}, {y.data(), 0, 1}}, 1, std::ssize(x));
      for (size_t i = 0; i < x.size(); ++i) ASSERT_EQ(y[i], x[i] < 0 ? -1.0f : 1.0f) << scalar_op_name(op) << x[i];
    }
}

TEST(Tile, TwoOperands) {
  const std::pair<ScalarOp, double> operators[] = {
      {ScalarOp::add, 0.5},      {ScalarOp::sub, 0.5},       {ScalarOp::mul, 0.5},      {ScalarOp::div, 0.5},
      {ScalarOp::min, 0},        {ScalarOp::max, 0},         {ScalarOp::equal, 0},      {ScalarOp::less, 0},
      {ScalarOp::less_equal, 0}, {ScalarOp::logical_and, 0}, {ScalarOp::logical_or, 0}, {ScalarOp::logical_xor, 0},
      {ScalarOp::pow, 1},        {ScalarOp::fmod, 0.51},     {ScalarOp::mod, 0.51}};
  const std::vector<float> all = samples(-4, 4, 300);
  const size_t n = all.size();
  std::vector<float> y(n);
  for (uint8_t level : levels())
    for (const auto& [op, bound] : operators)
      for (int form = 0; form < 3; ++form)
        for (size_t shift = 0; shift < n; shift += shift < specials().size() ? 1 : 13) {
          // One operand turned against the other, or one number against all.
          std::vector<float> other(all.begin() + static_cast<ptrdiff_t>(shift), all.end());
          other.insert(other.end(), all.begin(), all.begin() + static_cast<ptrdiff_t>(shift));
          Writer w;
          const uint16_t a = w.load(form == 2 ? Spread::scalar : Spread::full);
          const uint16_t b = w.load(form == 1 ? Spread::scalar : Spread::full);
          w.store(w.compute(op, a, b));
          float* first = form == 2 ? other.data() : const_cast<float*>(all.data());
          float* second = form == 2 ? const_cast<float*>(all.data()) : other.data();
          run(w.program, level, {{first, 0, 1}, {second, 0, 1}, {y.data(), 0, 1}}, 1, static_cast<int64_t>(n));
          for (size_t i = 0; i < n; ++i) {
            const double l = static_cast<double>(form == 2 ? other[0] : all[i]);
            const double r = static_cast<double>(form == 1 ? other[0] : form == 2 ? all[i] : other[i]);
            const double exact = scalar_real(op, l, r, 0);
            double allowed = bound;
            if (op == ScalarOp::div && form == 1 && (std::abs(exact) < 0x1p-90 || std::abs(l) < 0x1p-100)) allowed = 2;
            ASSERT_LE(ulps(y[i], exact), allowed)
                << scalar_op_name(op) << "(" << l << ", " << r << ") is " << y[i] << " at level " << int(level);
          }
        }
}

// A program with everything that spreads can do; rows short and long, in any number of calls.
TEST(Tile, SpreadsAndCuts) {
  std::mt19937 random(3);
  std::uniform_real_distribution<float> range(-2, 2);
  for (uint8_t level : levels())
    for (int64_t cols : {1, 3, 8, 31, 64, 100, 768, 5000})
      for (int64_t rows : {1, 2, 17, 70}) {
        const auto make = [&](int64_t n) {
          std::vector<float> v(static_cast<size_t>(n));
          for (float& x : v) x = range(random);
          return v;
        };
        std::vector<float> x = make(rows * (cols + 3)), column = make(cols), row = make(rows * 2), one = make(1);
        Writer w;
        const uint16_t a = w.load(Spread::full), b = w.load(Spread::column), c = w.load(Spread::row),
                       d = w.load(Spread::scalar);
        const uint16_t bc = w.compute(ScalarOp::mul, b, c);
        const uint16_t e = w.compute(ScalarOp::exp, w.compute(ScalarOp::sub, a, c));
        const uint16_t mask = w.compute(ScalarOp::less, c, b);
        const uint16_t chosen = w.compute(ScalarOp::select, mask, e, w.compute(ScalarOp::add, bc, d));
        const uint16_t per_row = w.compute(ScalarOp::select, w.compute(ScalarOp::less, c, d), chosen, d);
        w.store(chosen);
        w.store(w.compute(ScalarOp::max, w.compute(ScalarOp::add, per_row, b), w.constant(0)));
        w.store(c);
        const size_t n = static_cast<size_t>(rows * cols);
        std::vector<std::vector<float>> first;
        for (int64_t each : {rows, int64_t{1}, int64_t{5}}) {
          std::vector<float> y0(n), y1(n), y2(n);
          run(w.program, level,
              {{x.data(), cols + 3, 1},
               {column.data(), 0, 1},
               {row.data(), 2, 1},
               {one.data(), 0, 1},
               {y0.data(), cols, 1},
               {y1.data(), 1, rows},
               {y2.data(), cols, 1}},
              rows, cols, each);
          if (first.empty()) {
            first = {y0, y1, y2};
            for (int64_t r = 0; r < rows; ++r)
              for (int64_t k = 0; k < cols; ++k) {
                const float av = x[static_cast<size_t>(r * (cols + 3) + k)], bv = column[static_cast<size_t>(k)];
                const float cv = row[static_cast<size_t>(2 * r)], dv = one[0];
                const float chosen_v = cv < bv ? std::exp(av - cv) : bv * cv + dv;
                const float per_row_v = cv < dv ? chosen_v : dv;
                const auto at = static_cast<size_t>(r * cols + k);
                ASSERT_NEAR(y0[at], chosen_v, 1e-5f * (1 + std::abs(chosen_v)));
                ASSERT_NEAR(y1[static_cast<size_t>(k * rows + r)], std::max(0.0f, per_row_v + bv),
                            1e-5f * (2 + std::abs(chosen_v)));
                ASSERT_EQ(y2[at], cv);
              }
          } else {
            ASSERT_EQ(std::memcmp(y0.data(), first[0].data(), n * 4), 0);
            ASSERT_EQ(std::memcmp(y1.data(), first[1].data(), n * 4), 0);
            ASSERT_EQ(std::memcmp(y2.data(), first[2].data(), n * 4), 0);
          }
        }
      }
}

// Softmax and a variance: passes, kept values, results on operands.
TEST(Tile, Reductions) {
  std::mt19937 random(5);
  std::uniform_real_distribution<float> range(-3, 3);
  for (uint8_t level : levels())
    for (int64_t cols : {0, 1, 5, 16, 100, 768, 4096, 4097, 20001})
      for (int64_t rows : {1, 3, 40}) {
        if (rows * cols > 200000) continue;
        const auto n = static_cast<size_t>(rows * cols);
        std::vector<float> x(n);
        for (float& v : x) v = range(random);
        Writer w;
        const uint16_t a = w.load(Spread::full);
        const uint16_t e = w.compute(ScalarOp::exp, w.compute(ScalarOp::sub, a, w.reduce(ScalarOp::max, a)));
        const uint16_t sum = w.reduce(ScalarOp::add, e);
        w.store(w.compute(ScalarOp::div, e, sum));
        const uint16_t centred = w.compute(ScalarOp::sub, a, w.reduce(ScalarOp::add, a, true));
        w.store(w.reduce(ScalarOp::add, w.compute(ScalarOp::mul, centred, centred), true), Spread::row);
        w.store(w.reduce(ScalarOp::min, a), Spread::row);
        std::vector<float> y0, v0;
        for (int64_t each : {rows, int64_t{1}, int64_t{7}}) {
          // The first result lies on the operand.
          std::vector<float> y = x, v(static_cast<size_t>(rows)), least(static_cast<size_t>(rows));
          run(w.program, level, {{y.data(), cols, 1}, {y.data(), cols, 1}, {v.data(), 1, 1}, {least.data(), 1, 1}},
              rows, cols, each);
          if (each != rows) {
            ASSERT_TRUE(n == 0 || std::memcmp(y.data(), y0.data(), n * 4) == 0);
            ASSERT_EQ(std::memcmp(v.data(), v0.data(), v.size() * 4), 0);
            continue;
          }
          y0 = y;
          v0 = v;
          for (int64_t r = 0; r < rows; ++r) {
            const float* row = x.data() + r * cols;
            double top = -INFINITY, low = INFINITY, total = 0, mean = 0, variance = 0;
            for (int64_t k = 0; k < cols; ++k) top = std::max(top, double{row[k]}), low = std::min(low, double{row[k]});
            for (int64_t k = 0; k < cols; ++k) total += std::exp(row[k] - top), mean += row[k];
            mean /= static_cast<double>(cols);
            for (int64_t k = 0; k < cols; ++k) variance += (row[k] - mean) * (row[k] - mean);
            variance /= static_cast<double>(cols);
            for (int64_t k = 0; k < cols; ++k)
              ASSERT_NEAR(y[static_cast<size_t>(r * cols + k)], std::exp(row[k] - top) / total, 2e-6);
            ASSERT_EQ(least[static_cast<size_t>(r)], static_cast<float>(low));
            if (cols == 0)
              ASSERT_TRUE(std::isnan(v[static_cast<size_t>(r)]));
            else
              ASSERT_NEAR(v[static_cast<size_t>(r)], variance, 1e-5 * (1 + variance));
          }
        }
      }
}

TEST(Tile, NanInReductions) {
  for (uint8_t level : levels())
    for (int64_t cols : {1, 15, 16, 17, 64, 100, 200})
      for (int64_t at = 0; at < cols; ++at) {
        std::vector<float> x(static_cast<size_t>(cols), 1.0f);
        x[static_cast<size_t>(at)] = std::nanf("");
        float y[4];
        Writer w;
        const uint16_t a = w.load(Spread::full);
        for (ScalarOp op : {ScalarOp::max, ScalarOp::min, ScalarOp::add, ScalarOp::mul})
          w.store(w.reduce(op, a), Spread::row);
        run(w.program, level, {{x.data(), cols, 1}, {y, 1, 1}, {y + 1, 1, 1}, {y + 2, 1, 1}, {y + 3, 1, 1}}, 1, cols);
        for (float v : y) ASSERT_TRUE(std::isnan(v)) << cols << " " << at;
      }
}

// Halves: every pattern to f32 and back, and the rounding of values between. Instructions for bf16 take denormals for
// zero.
TEST(Tile, Halves) {
  for (uint8_t level : levels())
    for (DType dtype : {DType::f16, DType::bf16}) {
      const auto kept = [&](double v) {
        return level >= avx512_bf16 && dtype == DType::bf16 && std::abs(v) < 0x1p-126 ? std::copysign(0.0, v) : v;
      };
      std::vector<uint16_t> h(65536), back(65536);
      for (size_t i = 0; i < h.size(); ++i) h[i] = static_cast<uint16_t>(i);
      std::vector<float> f(h.size());
      Writer w;
      const uint16_t a = w.load(Spread::full, dtype);
      w.store(a);
      w.store(a, Spread::full, dtype);
      run(w.program, level, {{h.data(), 0, 1}, {f.data(), 0, 1}, {back.data(), 0, 1}}, 1, 65536);
      for (size_t i = 0; i < h.size(); ++i) {
        const double exact = decode_float(dtype, i);
        if (std::isnan(exact)) {
          ASSERT_TRUE(std::isnan(f[i]));
          ASSERT_TRUE(std::isnan(decode_float(dtype, back[i])));
          continue;
        }
        ASSERT_EQ(static_cast<double>(f[i]), exact);
        ASSERT_EQ(back[i], encode_float(dtype, kept(exact)));
      }
      std::vector<float> x = samples(-70000, 70000);
      for (size_t i = 0; i + 1 < h.size(); i += 3)  // halfway
        x.push_back(static_cast<float>((decode_float(dtype, i) + decode_float(dtype, i + 1)) / 2));
      std::vector<uint16_t> y(x.size());
      std::vector<float> rounded(x.size());
      Writer n;
      const uint16_t b = n.load(Spread::full);
      n.store(b, Spread::full, dtype);
      n.store(n.convert(b, dtype));
      run(n.program, level, {{x.data(), 0, 1}, {y.data(), 0, 1}, {rounded.data(), 0, 1}}, 1, std::ssize(x));
      for (size_t i = 0; i < x.size(); ++i) {
        const uint64_t expected = encode_float(dtype, kept(static_cast<double>(x[i])));
        const double value = decode_float(dtype, expected);
        if (std::isnan(value)) {
          ASSERT_TRUE(std::isnan(decode_float(dtype, y[i])) && std::isnan(rounded[i]));
          continue;
        }
        ASSERT_EQ(y[i], expected) << x[i];
        ASSERT_EQ(static_cast<double>(rounded[i]), value) << x[i];
      }
    }
}

// Reals to integers wrap as Cast does.
TEST(Tile, Truncation) {
  const std::vector<float> x = samples(-300, 300);
  for (uint8_t level : levels())
    for (DType dtype : {DType::i64, DType::i32, DType::u8, DType::i16, DType::u64}) {
      Tensor source(DType::f32, {std::ssize(x)}), made(dtype, {std::ssize(x)});
      std::memcpy(source.mutable_data(), x.data(), x.size() * 4);
      Writer w;
      w.store(w.convert(w.load(Spread::full), dtype), Spread::full, dtype);
      run(w.program, level, {{source.mutable_data(), 0, 1}, {made.mutable_data(), 0, 1}}, 1, std::ssize(x));
      EXPECT_TRUE(made.identical(cast(source, dtype))) << dtype_name(dtype);
    }
}

TEST(Tile, IntegersWrapAndDivide) {
  const std::vector<int64_t> x = {0, 1, -1, 7, -7, INT64_MAX, INT64_MIN, 12345678901, -3};
  for (uint8_t level : levels())
    for (ScalarOp op : {ScalarOp::add, ScalarOp::sub, ScalarOp::mul, ScalarOp::div, ScalarOp::mod, ScalarOp::fmod,
                        ScalarOp::min, ScalarOp::max, ScalarOp::less, ScalarOp::equal, ScalarOp::bit_xor,
                        ScalarOp::shift_left, ScalarOp::shift_right, ScalarOp::pow})
      for (int64_t one : x) {
        std::vector<int64_t> y(x.size());
        Writer w;
        const uint16_t a = w.load(Spread::full, DType::i64, true), b = w.load(Spread::scalar, DType::i64, true);
        TileInstruction i{.kind = Kind::compute, .op = op, .a = a, .b = b};
        i.integer = true;
        i.dtype = DType::i64;
        w.program.code.push_back(i);
        w.store(static_cast<uint16_t>(w.program.code.size() - 1), Spread::full, DType::i64);
        run(w.program, level, {{const_cast<int64_t*>(x.data()), 0, 1}, {&one, 0, 1}, {y.data(), 0, 1}}, 1,
            std::ssize(x));
        for (size_t k = 0; k < x.size(); ++k)
          EXPECT_EQ(y[k], scalar_integer(op, x[k], one, 0, false, 64)) << scalar_op_name(op) << x[k] << " " << one;
      }
}

TEST(Tile, Text) {
  Writer w;
  const uint16_t a = w.load(Spread::full);
  w.store(w.compute(ScalarOp::div, a, w.reduce(ScalarOp::add, a, true)));
  EXPECT_EQ(w.program.to_text(),
            "%0 f32 = load 0 f32 full\n%1 f32 = reduce mean %0\n%2 f32 = div %0, %1\nstore 0 f32 full %2\n");
  EXPECT_TRUE(w.program.has_reductions());
}

TEST(Tile, RefusesWhatItCannotDo) {
  Writer w;
  w.store(w.load(Spread::full), Spread::row);
  EXPECT_THROW(make_executor(w.program, 0), Error);
  Writer strings;
  strings.store(strings.load(Spread::full, DType::string));
  EXPECT_THROW(make_executor(strings.program, 0), Error);
}

}  // namespace
}  // namespace sinter::cpu
