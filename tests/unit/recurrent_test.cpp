#include "ops/recurrent.h"

#include <cmath>

#include "op_testing.h"
#include "ops/arrays.h"

namespace sinter {
namespace {

using namespace testing;

Tensor noise(Dims dims, uint64_t seed, DType dtype = DType::f64) {
  Shape shape(dims.begin(), dims.end());
  return sample_uniform(Type::tensor(dtype, shape), seed, -1, 1);
}

double sigmoid(double x) { return 1 / (1 + std::exp(-x)); }

// One direction over one batch entry, by the formulas of ONNX; hidden size 1, so that every weight is a number.
struct Cell {
  std::vector<double> w, r, wb, rb, p;  // per gate
  double h = 0, c = 0;
  void lstm(double x) {
    const auto gate = [&](size_t g) { return w[g] * x + r[g] * h + wb[g] + rb[g]; };
    const double i = sigmoid(gate(0) + p[0] * c), f = sigmoid(gate(2) + p[2] * c), n = std::tanh(gate(3));
    const double next = f * c + i * n, o = sigmoid(gate(1) + p[1] * next);
    c = next;
    h = o * std::tanh(c);
  }
  void gru(double x, bool linear) {
    const auto gate = [&](size_t g) { return sigmoid(w[g] * x + r[g] * h + wb[g] + rb[g]); };
    const double z = gate(0), reset = gate(1);
    const double n = linear ? std::tanh(w[2] * x + reset * (r[2] * h + rb[2]) + wb[2])
                            : std::tanh(w[2] * x + r[2] * (reset * h) + rb[2] + wb[2]);
    h = (1 - z) * n + z * h;
  }
};

TEST(Lstm, BothDirectionsWithLengths) {
  const int64_t steps = 4, batch = 2;
  const Tensor x = noise({steps, batch, 1}, 1), w = noise({2, 4, 1}, 2), r = noise({2, 4, 1}, 3);
  const Tensor b = noise({2, 8}, 4), h0 = noise({2, batch, 1}, 5), c0 = noise({2, batch, 1}, 6), p = noise({2, 3}, 7);
  const std::vector<int64_t> lengths = {4, 2};
  RecurrentAttrs a;
  a.direction = Direction::bidirectional;
  const auto y = evaluate("LSTM", a, {x, w, r, b, integers({2}, {4, 2}, DType::i32), h0, c0, p}, 3);
  ASSERT_EQ(y[0].dims(), (Dims{steps, 2, batch, 1}));
  ASSERT_EQ(y[2].dims(), (Dims{2, batch, 1}));
  for (int64_t d = 0; d < 2; ++d)
    for (int64_t n = 0; n < batch; ++n) {
      Cell cell;
      for (int64_t g = 0; g < 4; ++g) {
        cell.w.push_back(w.get_real(d * 4 + g));
        cell.r.push_back(r.get_real(d * 4 + g));
        cell.wb.push_back(b.get_real(d * 8 + g));
        cell.rb.push_back(b.get_real(d * 8 + 4 + g));
        cell.p.push_back(g < 3 ? p.get_real(d * 3 + g) : 0);
      }
      cell.h = h0.get_real(d * batch + n);
      cell.c = c0.get_real(d * batch + n);
      const int64_t length = lengths[static_cast<size_t>(n)];
      for (int64_t s = 0; s < length; ++s) {
        const int64_t t = d ? length - 1 - s : s;
        cell.lstm(x.get_real(t * batch + n));
        EXPECT_NEAR(y[0].get_real((t * 2 + d) * batch + n), cell.h, 1e-12) << d << n << t;
      }
      for (int64_t t = length; t < steps; ++t) EXPECT_EQ(y[0].get_real((t * 2 + d) * batch + n), 0);
      EXPECT_NEAR(y[1].get_real(d * batch + n), cell.h, 1e-12);
      EXPECT_NEAR(y[2].get_real(d * batch + n), cell.c, 1e-12);
    }
}

TEST(Lstm, InputForget) {
  // Gates of constant activations: i = 0.75, so f = 0.25 when coupled.
  RecurrentAttrs a;
  a.activations = {"affine", "affine", "affine"};
  a.alpha = {0, 0, 1};
  a.beta = {0.75, 2, 0};
  const Tensor x = reals({1, 1, 1}, {0}), w = reals({1, 4, 1}, {0, 0, 0, 0});
  const Tensor c0 = reals({1, 1, 1}, {8}), h0 = reals({1, 1, 1}, {0});
  auto y = evaluate("LSTM", a, {x, w, w, std::nullopt, std::nullopt, h0, c0}, 3);
  expect_values(y[2], {1, 1, 1}, {0.75 * 8 + 0.75 * 2});
  a.input_forget = true;
  y = evaluate("LSTM", a, {x, w, w, std::nullopt, std::nullopt, h0, c0}, 3);
  expect_values(y[2], {1, 1, 1}, {0.25 * 8 + 0.75 * 2});
  expect_values(y[1], {1, 1, 1}, {0.75 * 3.5});
}

TEST(Gru, BothResets) {
  const Tensor x = noise({3, 1, 1}, 1), w = noise({1, 3, 1}, 2), r = noise({1, 3, 1}, 3), b = noise({1, 6}, 4);
  for (const bool linear : {false, true}) {
    RecurrentAttrs a;
    a.linear_before_reset = linear;
    a.direction = Direction::reverse;
    const auto y = evaluate("GRU", a, {x, w, r, b}, 2);
    Cell cell;
    for (int64_t g = 0; g < 3; ++g) {
      cell.w.push_back(w.get_real(g));
      cell.r.push_back(r.get_real(g));
      cell.wb.push_back(b.get_real(g));
      cell.rb.push_back(b.get_real(3 + g));
    }
    for (int64_t t = 2; t >= 0; --t) {
      cell.gru(x.get_real(t), linear);
      EXPECT_NEAR(y[0].get_real(t), cell.h, 1e-12);
    }
    EXPECT_NEAR(y[1].get_real(0), cell.h, 1e-12);
  }
}

TEST(Rnn, Activations) {
  const auto first = [](const char* name, double x, double clip = 0) {
    RecurrentAttrs a;
    a.activations = {name};
    a.clip = clip;
    const Tensor zero(DType::f64, {1, 1, 1});
    return evaluate("RNN", a, {reals({1, 1, 1}, {x}, DType::f64), reals({1, 1, 1}, {1}, DType::f64), zero})[0].get_real(
        0);
  };
  EXPECT_EQ(first("relu", -2), 0);
  EXPECT_EQ(first("tanh", 0.5), std::tanh(0.5));
  EXPECT_EQ(first("sigmoid", 0), 0.5);
  EXPECT_EQ(first("affine", 3), 3);
  EXPECT_EQ(first("leakyrelu", -2), -0.02);
  EXPECT_EQ(first("thresholdedrelu", 0.5), 0);
  EXPECT_EQ(first("thresholdedrelu", 2), 2);
  EXPECT_EQ(first("scaledtanh", 0.5), std::tanh(0.5));
  EXPECT_EQ(first("hardsigmoid", 1), 0.7);
  EXPECT_EQ(first("elu", -1), std::expm1(-1));
  EXPECT_EQ(first("softsign", 3), 0.75);
  EXPECT_EQ(first("softplus", 0), std::log(2.0));
  EXPECT_EQ(first("affine", 3, 0.5), 0.5);
  EXPECT_EQ(first("affine", -3, 0.5), -0.5);
}

TEST(Rnn, WidthsAndStates) {
  // h = x * w + h * r without squashing: two inputs, two hidden units.
  RecurrentAttrs a;
  a.activations = {"affine"};
  const Tensor x = reals({2, 1, 2}, {1, 2, 3, 4}), w = reals({1, 2, 2}, {1, 0, 1, 1}),
               r = reals({1, 2, 2}, {0, 1, 2, 0});
  const auto y = evaluate("RNN", a, {x, w, r, reals({1, 4}, {1, 0, 0, 1}), std::nullopt, reals({1, 1, 2}, {1, 1})}, 2);
  // step 1: [1, 3] + [1, 2] + [1, 1] = [3, 6]; step 2: [3, 7] + [6, 6] + [1, 1] = [10, 14].
  expect_values(y[0], {2, 1, 1, 2}, {3, 6, 10, 14});
  expect_values(y[1], {1, 1, 2}, {10, 14});
  // No step: the state stays.
  const auto none =
      evaluate("RNN", a, {x, w, r, std::nullopt, integers({1}, {0}, DType::i32), reals({1, 1, 2}, {1, 1})}, 2);
  expect_values(none[0], {2, 1, 1, 2}, {0, 0, 0, 0});
  expect_values(none[1], {1, 1, 2}, {1, 1});
  EXPECT_EQ(error_of("RNN", a, {x, w, r, std::nullopt, integers({1}, {3}, DType::i32)}), Code::fault);
  EXPECT_EQ(error_of("RNN", a, {x, w, r, std::nullopt, integers({1}, {-1}, DType::i32)}), Code::fault);
  a.activations = {"affine", "affine"};
  EXPECT_EQ(error_of("RNN", a, {x, w, r}), Code::model_invalid);
  a.activations = {"nothing"};
  EXPECT_EQ(error_of("RNN", a, {x, w, r}), Code::model_invalid);
  a.activations = {};
  a.clip = -1;
  EXPECT_EQ(error_of("RNN", a, {x, w, r}), Code::model_invalid);
  a.clip = 0;
  EXPECT_EQ(error_of("RNN", a, {x, w, reals({1, 2, 1}, {0, 1})}), Code::model_invalid);
}

TEST(Recurrent, Inference) {
  Inference g;
  const Dim t = g.symbol("T"), b = g.symbol("B");
  RecurrentAttrs a;
  a.direction = Direction::bidirectional;
  const Ids out =
      g.b.add(op_named("LSTM"), a,
              {g.input(DType::f32, {t, b, 8}), g.input(DType::f32, {2, 64, 8}), g.input(DType::f32, {2, 64, 16})}, 3);
  EXPECT_EQ(g.text(out[0]), "f32[T, 2, B, 16]");
  EXPECT_EQ(g.text(out[1]), "f32[2, B, 16]");
  EXPECT_EQ(g.text(out[2]), "f32[2, B, 16]");
  EXPECT_TRUE(g.module.facts.empty());
}

}  // namespace
}  // namespace sinter
