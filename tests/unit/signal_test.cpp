#include "ops/signal.h"

#include <cmath>
#include <complex>
#include <numbers>

#include "op_testing.h"
#include "ops/arrays.h"

namespace sinter {
namespace {

using namespace testing;

Tensor noise(Dims dims, uint64_t seed, DType dtype = DType::f64) {
  Shape shape(dims.begin(), dims.end());
  return sample_uniform(Type::tensor(dtype, shape), seed, -1, 1);
}

void expect_near(const Tensor& t, const Dims& dims, const std::vector<double>& wanted, double tolerance = 1e-9) {
  ASSERT_EQ(t.dims(), dims);
  for (size_t i = 0; i < wanted.size(); ++i)
    EXPECT_NEAR(t.get_real(static_cast<int64_t>(i)), wanted[i], tolerance) << "element " << i;
}

// By definition; the signal is zero beyond its end.
std::vector<double> spectrum(const std::vector<std::complex<double>>& x, int64_t length, int64_t bins,
                             double sign = -1) {
  std::vector<double> out;
  for (int64_t k = 0; k < bins; ++k) {
    std::complex<double> sum = 0;
    for (int64_t n = 0; n < std::min<int64_t>(length, std::ssize(x)); ++n)
      sum += x[static_cast<size_t>(n)] *
             std::polar(1.0, sign * 2 * std::numbers::pi * static_cast<double>(k * n) / static_cast<double>(length));
    out.push_back(sum.real());
    out.push_back(sum.imag());
  }
  return out;
}

std::vector<std::complex<double>> complex_values(const Tensor& t) {
  std::vector<std::complex<double>> out;
  for (int64_t i = 0; i + 1 < t.count(); i += 2) out.emplace_back(t.get_real(i), t.get_real(i + 1));
  return out;
}

TEST(Dft, AgainstDefinition) {
  for (const int64_t length : {1, 2, 3, 5, 8, 12, 15}) {
    const Tensor x = noise({7, 2}, static_cast<uint64_t>(length));
    const Tensor n = Tensor::scalar_i64(length);
    expect_near(evaluate("DFT", {}, {x, n})[0], {length, 2}, spectrum(complex_values(x), length, length));
    std::vector<double> inverse = spectrum(complex_values(x), length, length, 1);
    for (double& v : inverse) v /= static_cast<double>(length);
    expect_near(evaluate("DFT", DFTAttrs{true, false}, {x, n})[0], {length, 2}, inverse);
    const Tensor real = noise({1, 7, 1}, 9);
    std::vector<std::complex<double>> values;
    for (double v : real.to_reals()) values.emplace_back(v);
    expect_near(evaluate("DFT", DFTAttrs{false, true}, {real, n, Tensor::scalar_i64(1)})[0], {1, length / 2 + 1, 2},
                spectrum(values, length, length / 2 + 1));
  }
}

TEST(Dft, RoundTripsAndAxes) {
  const Tensor x = noise({3, 6, 4, 1}, 1);
  for (const int64_t axis : {0, 1, 2, -2, -3}) {
    const Tensor a = Tensor::scalar_i64(axis);
    const Tensor full = evaluate("DFT", {}, {x, std::nullopt, a})[0];
    const Tensor back = evaluate("DFT", DFTAttrs{true, false}, {full, std::nullopt, a})[0];
    for (int64_t i = 0; i < x.count(); ++i) EXPECT_NEAR(back.get_real(2 * i), x.get_real(i), 1e-12);
    const size_t k = static_cast<size_t>(axis < 0 ? axis + 4 : axis);
    const Tensor half = evaluate("DFT", DFTAttrs{false, true}, {x, std::nullopt, a})[0];
    EXPECT_EQ(half.dims()[k], x.dims()[k] / 2 + 1);
    const Tensor length = Tensor::scalar_i64(x.dims()[k]);
    expect_near(evaluate("DFT", DFTAttrs{true, true}, {half, length, a})[0], x.dims(), x.to_reals());
  }
  EXPECT_EQ(error_of("DFT", {}, {x, std::nullopt, Tensor::scalar_i64(3)}), Code::model_invalid);
  EXPECT_EQ(error_of("DFT", {}, {x, std::nullopt, Tensor::scalar_i64(-1)}), Code::model_invalid);
  EXPECT_EQ(error_of("DFT", {}, {x, Tensor::scalar_i64(0)}), Code::model_invalid);
  EXPECT_EQ(error_of("DFT", {}, {noise({4, 3}, 1)}), Code::model_invalid);
  EXPECT_EQ(error_of("DFT", DFTAttrs{false, true}, {noise({4, 2}, 1)}), Code::model_invalid);
}

TEST(Dft, Inference) {
  Inference g;
  const Dim b = g.symbol("B"), t = g.symbol("T");
  const ValueId x = g.input(DType::f32, {b, t, 1});
  const Op& op = op_named("DFT");
  EXPECT_EQ(g.text(g.b.add(op, {}, {x}, 1)[0]), "f32[B, T, 2]");
  EXPECT_EQ(g.b.shape(g.b.add(op, DFTAttrs{false, true}, {x}, 1)[0])[1], floordiv(t, 2) + 1);
  EXPECT_EQ(g.text(g.b.add(op, {}, {x, g.b.constant(Tensor::scalar_i64(64))}, 1)[0]), "f32[B, 64, 2]");
  EXPECT_EQ(g.b.shape(g.b.add(op, {}, {x, g.input(DType::i64, {})}, 1)[0])[0], b);
  EXPECT_EQ(g.text(g.b.add(op, DFTAttrs{true, true}, {g.input(DType::f32, {b, 5, 2})}, 1)[0]), "f32[B, 8, 1]");
}

TEST(Stft, FramesAgainstDefinition) {
  const Tensor x = noise({2, 11, 1}, 1), window = noise({5}, 2);
  const Tensor y = evaluate("STFT", {}, {x, Tensor::scalar_i64(3), window})[0];
  std::vector<double> wanted;
  for (int64_t b = 0; b < 2; ++b)
    for (int64_t f = 0; f < 3; ++f) {
      std::vector<std::complex<double>> frame;
      for (int64_t k = 0; k < 5; ++k) frame.emplace_back(x.get_real(b * 11 + f * 3 + k) * window.get_real(k));
      for (double v : spectrum(frame, 5, 3)) wanted.push_back(v);
    }
  expect_near(y, {2, 3, 3, 2}, wanted);
  const Tensor whole =
      evaluate("STFT", STFTAttrs{false}, {x, Tensor::scalar_i64(4), std::nullopt, Tensor::scalar_i64(8)})[0];
  EXPECT_EQ(whole.dims(), (Dims{2, 1, 8, 2}));
  EXPECT_EQ(error_of("STFT", {}, {x, Tensor::scalar_i64(0), window}), Code::model_invalid);
  EXPECT_EQ(error_of("STFT", {}, {x, Tensor::scalar_i64(1), std::nullopt, Tensor::scalar_i64(12)}),
            Code::model_invalid);
  Inference g;
  const Dim t = g.symbol("T");
  const ValueId v = g.b.add(
      op_named("STFT"), {},
      {g.input(DType::f32, {1, t, 1}), g.b.constant(Tensor::scalar_i64(160)), g.input(DType::f32, {400})}, 1)[0];
  EXPECT_EQ(g.b.shape(v), (Shape{1, floordiv(t - 400, 160) + 1, 201, 2}));
}

TEST(MelWeightMatrix, Triangles) {
  const auto matrix = [](int64_t bins, int64_t length, int64_t rate, double low, double high) {
    return evaluate("MelWeightMatrix", {},
                    {Tensor::scalar_i64(bins), Tensor::scalar_i64(length), Tensor::scalar_i64(rate),
                     Tensor::scalar(DType::f32, low), Tensor::scalar(DType::f32, high)})[0];
  };
  const Tensor m = matrix(8, 16, 8192, 0, 4096);
  ASSERT_EQ(m.dims(), (Dims{9, 8}));
  // Corner bins 0 0 0 1 1 2 3 4 5 6, from the formula of the mel scale: a peak of 1 in each column.
  const int64_t peaks[] = {0, 0, 1, 1, 2, 3, 4, 5};
  for (int64_t i = 0; i < 8; ++i)
    for (int64_t j = 0; j < 9; ++j) EXPECT_EQ(m.get_real(j * 8 + i), j == peaks[i] ? 1 : 0) << i << " " << j;
  matrix(4, 16, 1, 0, 4096);  // corners far outside are left out
  const Tensor one = Tensor::scalar_i64(1), low = Tensor::scalar(DType::f32, 0);
  EXPECT_EQ(error_of("MelWeightMatrix", {}, {one, one, Tensor::scalar_i64(0), low, low}), Code::fault);
  EXPECT_EQ(error_of("MelWeightMatrix", {}, {one, one, one, low, Tensor::scalar(DType::f32, INFINITY)}), Code::fault);
  EXPECT_EQ(error_of("MelWeightMatrix", {}, {one, one, one, low, Tensor::scalar(DType::f32, -700)}), Code::fault);
}

TEST(Col2Im, Sums) {
  // Blocks of 2 x 1 in an image of 3 x 2, moved by one: the middle row is met twice.
  const Tensor x = counting({1, 2, 4});
  expect_values(evaluate("Col2Im", {}, {x, list({3, 2}), list({2, 1})})[0], {1, 1, 3, 2}, {0, 1, 2 + 4, 3 + 5, 6, 7});
  Col2ImAttrs a;
  a.strides = {1, 2};
  a.pads = {1, 0, 0, 0};
  // Positions 3 x 1: rows -1..1 of one column.
  expect_values(evaluate("Col2Im", a, {counting({1, 4, 3}), list({3, 1}), list({2, 1})})[0], {1, 2, 3, 1},
                {1 + 3, 2 + 4, 5, 7 + 9, 8 + 10, 11});
  EXPECT_EQ(error_of("Col2Im", {}, {x, list({3, 3}), list({2, 1})}), Code::model_invalid);
  EXPECT_EQ(error_of("Col2Im", {}, {x, list({3, 2}), list({3, 1})}), Code::model_invalid);
  EXPECT_EQ(error_of("Col2Im", {}, {x, list({3, 2}), list({0, 1})}), Code::model_invalid);
  EXPECT_EQ(error_of("Col2Im", {}, {x, list({3, 2}), list({INT64_MAX, INT64_MAX})}), Code::limit);
  Inference g;
  const Dim n = g.symbol("N"), c = g.symbol("C");
  EXPECT_EQ(g.text(g.b.add(op_named("Col2Im"), {},
                           {g.input(DType::f32, {n, c * 4, 4}), g.b.integers({3, 3}), g.b.integers({2, 2})}, 1)[0]),
            "f32[N, C, 3, 3]");
}

TEST(Det, Values) {
  expect_values(evaluate("Det", {}, {reals({2, 2}, {1, 2, 3, 4})})[0], {}, {-2});
  expect_values(evaluate("Det", {}, {reals({2, 2, 2}, {0, 1, 1, 0, 2, 4, 1, 2})})[0], {2}, {-1, 0});
  expect_values(evaluate("Det", {}, {reals({3, 3}, {2, 0, 0, 0, 0, 3, 0, 4, 0})})[0], {}, {-24});
  expect_values(evaluate("Det", {}, {Tensor(DType::f32, {2, 0, 0})})[0], {2}, {1, 1});
  EXPECT_EQ(error_of("Det", {}, {reals({1, 2}, {1, 2})}), Code::model_invalid);
}

TEST(Lrn, Window) {
  LRNAttrs a;
  a.alpha = 2;
  a.beta = 1;
  a.bias = 1;
  a.size = 2;
  // An even size reaches further forward: x / (1 + sum of two squares).
  expect_values(evaluate("LRN", a, {reals({1, 3, 1}, {1, 2, 3})})[0], {1, 3, 1}, {1 / 6.0f, 2 / 14.0f, 3 / 10.0f});
  a.size = 0;
  EXPECT_EQ(error_of("LRN", a, {reals({1, 3, 1}, {1, 2, 3})}), Code::model_invalid);
  a.size = INT64_MAX;
  EXPECT_EQ(error_of("LRN", a, {reals({1, 3, 1}, {1, 2, 3})}), Code::model_invalid);
}

}  // namespace
}  // namespace sinter
