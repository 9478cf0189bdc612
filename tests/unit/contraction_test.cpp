#include "ops/contraction.h"

#include <cmath>

#include "op_testing.h"
#include "ops/arrays.h"

namespace sinter {
namespace {

using namespace testing;

Tensor noise(Dims dims, uint64_t seed, DType dtype = DType::f32) {
  Shape shape(dims.begin(), dims.end());
  return sample_uniform(Type::tensor(dtype, shape), seed, -1, 1);
}

void expect_near(const Tensor& t, const std::vector<double>& wanted, double tolerance = 1e-5) {
  ASSERT_EQ(static_cast<size_t>(t.count()), wanted.size());
  for (size_t i = 0; i < wanted.size(); ++i)
    EXPECT_NEAR(t.get_real(static_cast<int64_t>(i)), wanted[i], tolerance) << "element " << i;
}

TEST(MatMul, Small) {
  const Tensor a = reals({2, 3}, {1, 2, 3, 4, 5, 6}), b = reals({3, 2}, {1, 0, 0, 1, 1, 1});
  expect_values(evaluate("MatMul", {}, {a, b})[0], {2, 2}, {4, 5, 10, 11});
  expect_values(evaluate("MatMul", MatMulAttrs{true, Numerics::strict}, {a, reals({2, 3}, {1, 0, 1, 0, 1, 1})})[0],
                {2, 2}, {4, 5, 10, 11});
  const Tensor v = reals({3}, {1, 1, 2});
  expect_values(evaluate("MatMul", {}, {a, v})[0], {2}, {9, 21});
  expect_values(evaluate("MatMul", {}, {v, b})[0], {2}, {3, 3});
  expect_values(evaluate("MatMul", {}, {v, v})[0], {}, {6});
  expect_values(evaluate("MatMul", {}, {Tensor(DType::f32, {2, 0}), Tensor(DType::f32, {0, 2})})[0], {2, 2},
                {0, 0, 0, 0});
  expect_values(evaluate("MatMul", {}, {Tensor(DType::f32, {0, 3}), b})[0], {0, 2}, {});
}

TEST(MatMul, IntegersWrap) {
  const Tensor a = integers({1, 2}, {200, 100}, DType::u8), b = integers({2, 1}, {2, 1}, DType::u8);
  expect_values(evaluate("MatMul", {}, {a, b})[0], {1, 1}, {500 - 256});
  const Tensor big = integers({1, 1}, {INT64_MAX});
  expect_values(evaluate("MatMul", {}, {big, integers({1, 1}, {2})})[0], {1, 1}, {-2});
}

TEST(MatMul, HalvesRoundOnce) {
  // 2048 + 1 + 1: adding in half precision would stay at 2048.
  const Tensor a = reals({1, 3}, {2048, 1, 1}, DType::f16), b = reals({3, 1}, {1, 1, 1}, DType::f16);
  expect_values(evaluate("MatMul", {}, {a, b})[0], {1, 1}, {2050});
}

TEST(MatMul, BatchesAgainstDefinition) {
  const Tensor a = noise({2, 1, 5, 67}, 1), b = noise({3, 67, 70}, 2);
  const Tensor y = evaluate("MatMul", {}, {a, b})[0];
  ASSERT_EQ(y.dims(), (Dims{2, 3, 5, 70}));
  std::vector<double> wanted;
  for (int64_t p = 0; p < 2; ++p)
    for (int64_t q = 0; q < 3; ++q)
      for (int64_t m = 0; m < 5; ++m)
        for (int64_t n = 0; n < 70; ++n) {
          double sum = 0;
          for (int64_t k = 0; k < 67; ++k) sum += a.get_real((p * 5 + m) * 67 + k) * b.get_real((q * 67 + k) * 70 + n);
          wanted.push_back(sum);
        }
  expect_near(y, wanted);
}

TEST(MatMul, Inference) {
  Inference g;
  const Dim b = g.symbol("B"), t = g.symbol("T");
  const Op& op = op_named("MatMul");
  const ValueId x = g.input(DType::f32, {b, t, 64});
  EXPECT_EQ(g.text(g.b.add(op, {}, {x, g.input(DType::f32, {64, 32})}, 1)[0]), "f32[B, T, 32]");
  EXPECT_EQ(g.text(g.b.add(op, MatMulAttrs{true, Numerics::strict}, {x, x}, 1)[0]), "f32[B, T, T]");
  EXPECT_EQ(g.text(g.b.add(op, {}, {x, g.input(DType::f32, {64})}, 1)[0]), "f32[B, T]");
  EXPECT_TRUE(g.module.facts.empty());
  g.b.add(op, {}, {x, g.input(DType::f32, {g.symbol("K"), 2})}, 1);
  EXPECT_EQ(g.module.facts.size(), 1u);
  EXPECT_EQ(error_of("MatMul", {}, {reals({2}, {1, 2}), reals({3}, {1, 2, 3})}), Code::model_invalid);
  EXPECT_EQ(error_of("MatMul", {}, {reals({}, {1}), reals({1}, {1})}), Code::model_invalid);
  EXPECT_EQ(error_of("MatMul", {}, {reals({1}, {1}), reals({1}, {1}, DType::f64)}), Code::model_invalid);
}

// Convolution by its definition, two spatial axes.
std::vector<double> convolve(const Tensor& x, const Tensor& w, const std::vector<int64_t>& pads, int64_t stride,
                             int64_t dilation, int64_t group, int64_t oh, int64_t ow) {
  const int64_t n = x.dims()[0], c = x.dims()[1], h = x.dims()[2], wd = x.dims()[3];
  const int64_t m = w.dims()[0], cg = w.dims()[1], kh = w.dims()[2], kw = w.dims()[3];
  std::vector<double> out;
  for (int64_t b = 0; b < n; ++b)
    for (int64_t o = 0; o < m; ++o)
      for (int64_t i = 0; i < oh; ++i)
        for (int64_t j = 0; j < ow; ++j) {
          double sum = 0;
          for (int64_t k = 0; k < cg; ++k)
            for (int64_t r = 0; r < kh; ++r)
              for (int64_t s = 0; s < kw; ++s) {
                const int64_t y = i * stride + r * dilation - pads[0], z = j * stride + s * dilation - pads[1];
                if (y < 0 || y >= h || z < 0 || z >= wd) continue;
                const int64_t ch = o / (m / group) * cg + k;
                sum += x.get_real(((b * c + ch) * h + y) * wd + z) * w.get_real(((o * cg + k) * kh + r) * kw + s);
              }
          out.push_back(sum);
        }
  return out;
}

TEST(Conv, AgainstDefinition) {
  const Tensor x = noise({2, 4, 9, 11}, 3);
  expect_near(evaluate("Conv", {}, {x, noise({3, 4, 3, 3}, 4)})[0],
              convolve(x, noise({3, 4, 3, 3}, 4), {0, 0}, 1, 1, 1, 7, 9));
  ConvAttrs a;
  a.group = 2;
  a.pads = {2, 1, 0, 3};
  a.strides = {2, 2};
  a.dilations = {2, 2};
  const Tensor w = noise({6, 2, 3, 2}, 5);
  const Tensor y = evaluate("Conv", a, {x, w})[0];
  EXPECT_EQ(y.dims(), (Dims{2, 6, 4, 7}));
  expect_near(y, convolve(x, w, {2, 1}, 2, 2, 2, 4, 7));
}

TEST(Conv, Bias) {
  const Tensor x = counting({1, 1, 4}), w = reals({2, 1, 2}, {1, 1, 1, -1}), b = reals({2}, {10, 20});
  expect_values(evaluate("Conv", {}, {x, w, b})[0], {1, 2, 3}, {11, 13, 15, 19, 19, 19});
  const Tensor i = integers({1, 1, 2}, {100, 100}, DType::i8);
  expect_values(evaluate("Conv", {}, {i, integers({1, 1, 2}, {1, 1}, DType::i8)})[0], {1, 1, 1}, {200 - 256});
}

TEST(Conv, AutomaticPadding) {
  const Tensor x = counting({1, 1, 5}), w = reals({1, 1, 2}, {1, 10});
  ConvAttrs a;
  a.auto_pad = AutoPad::same_upper;
  expect_values(evaluate("Conv", a, {x, w})[0], {1, 1, 5}, {10, 21, 32, 43, 4});
  a.auto_pad = AutoPad::same_lower;
  expect_values(evaluate("Conv", a, {x, w})[0], {1, 1, 5}, {0, 10, 21, 32, 43});
  a.strides = {3};
  expect_values(evaluate("Conv", a, {x, w})[0], {1, 1, 2}, {10, 43});
  a.auto_pad = AutoPad::valid;
  expect_values(evaluate("Conv", a, {x, w})[0], {1, 1, 2}, {10, 43});
}

TEST(Conv, Inference) {
  Inference g;
  const Dim n = g.symbol("N"), h = g.symbol("H");
  const Op& op = op_named("Conv");
  const ValueId x = g.input(DType::f32, {n, 3, h, 224}), w = g.input(DType::f32, {64, 3, 7, 7});
  ConvAttrs a;
  a.pads = {3, 3, 3, 3};
  a.strides = {2, 2};
  EXPECT_EQ(g.text(g.b.add(op, a, {x, w}, 1)[0]), "f32[N, 64, floordiv(H + 1, 2), 112]");
  a.auto_pad = AutoPad::same_upper;
  const Dim same = g.b.shape(g.b.add(op, a, {x, w}, 1)[0])[2];
  EXPECT_EQ(same, ceildiv(h, 2));
  const ValueId kernel = g.input(DType::f32, {8, 3, g.symbol("K"), 1});
  EXPECT_EQ(g.text(g.b.add(op, {}, {x, kernel}, 1)[0]), "f32[N, 8, H - K + 1, 224]");
  const auto bad = [&](ConvAttrs attrs, Dims wd) {
    return error_of("Conv", attrs, {Tensor(DType::f32, {1, 4, 5, 5}), Tensor(DType::f32, std::move(wd))});
  };
  EXPECT_EQ(bad({}, {2, 4, 3, 3}), Code::ok);
  EXPECT_EQ(bad({}, {2, 3, 3, 3}), Code::model_invalid);  // channels
  EXPECT_EQ(bad({}, {2, 4, 3}), Code::model_invalid);     // rank
  EXPECT_EQ(bad({}, {2, 4, 9, 3}), Code::model_invalid);  // larger than the operand
  EXPECT_EQ(bad({}, {2, 4, 0, 3}), Code::model_invalid);  // empty kernel
  ConvAttrs group;
  group.group = 2;
  EXPECT_EQ(bad(group, {3, 2, 3, 3}), Code::model_invalid);
  group.group = 0;
  EXPECT_EQ(bad(group, {2, 4, 3, 3}), Code::model_invalid);
  ConvAttrs strides;
  strides.strides = {0, 1};
  EXPECT_EQ(bad(strides, {2, 4, 3, 3}), Code::model_invalid);
  strides.strides = {INT64_MAX, 1};
  EXPECT_EQ(bad(strides, {2, 4, 3, 3}), Code::model_invalid);
  ConvAttrs pads;
  pads.pads = {1, 1, 1};
  EXPECT_EQ(bad(pads, {2, 4, 3, 3}), Code::model_invalid);
  pads.pads = {-1, 0, 0, 0};
  EXPECT_EQ(bad(pads, {2, 4, 3, 3}), Code::model_invalid);
}

TEST(ConvTranspose, Small) {
  const Tensor x = reals({1, 1, 3}, {1, 2, 3}), w = reals({1, 1, 2}, {1, 10});
  ConvTransposeAttrs a;
  expect_values(evaluate("ConvTranspose", a, {x, w})[0], {1, 1, 4}, {1, 12, 23, 30});
  a.strides = {2};
  expect_values(evaluate("ConvTranspose", a, {x, w})[0], {1, 1, 6}, {1, 10, 2, 20, 3, 30});
  a.pads = {1, 2};
  expect_values(evaluate("ConvTranspose", a, {x, w})[0], {1, 1, 3}, {10, 2, 20});
  a.pads = {};
  a.output_padding = {1};
  expect_values(evaluate("ConvTranspose", a, {x, w, reals({1}, {5})})[0], {1, 1, 7}, {6, 15, 7, 25, 8, 35, 5});
  a.output_padding = {};
  a.output_shape = {5};
  expect_values(evaluate("ConvTranspose", a, {x, w})[0], {1, 1, 5}, {10, 2, 20, 3, 30});
  a.auto_pad = AutoPad::same_upper;
  expect_values(evaluate("ConvTranspose", a, {x, w})[0], {1, 1, 5}, {1, 10, 2, 20, 3});
  a.output_shape = {};
  expect_values(evaluate("ConvTranspose", a, {x, w})[0], {1, 1, 6}, {1, 10, 2, 20, 3, 30});
}

// <conv(x), y> = <x, transposed(y)>, with groups and two axes.
TEST(ConvTranspose, IsTheTranspose) {
  ConvAttrs a;
  a.group = 2;
  a.strides = {2, 1};
  a.pads = {1, 0, 0, 1};
  a.dilations = {1, 2};
  ConvTransposeAttrs t;
  t.group = 2;
  t.strides = a.strides;
  t.pads = a.pads;
  t.dilations = a.dilations;
  const Tensor x = noise({2, 4, 6, 5}, 6, DType::f64), w = noise({6, 2, 3, 2}, 7, DType::f64);
  const Tensor conv = evaluate("Conv", a, {x, w})[0];
  const Tensor y = noise(conv.dims(), 8, DType::f64);
  const Tensor back = evaluate("ConvTranspose", t, {y, w})[0];
  ASSERT_EQ(back.dims(), x.dims());
  double left = 0, right = 0;
  for (int64_t i = 0; i < y.count(); ++i) left += conv.get_real(i) * y.get_real(i);
  for (int64_t i = 0; i < x.count(); ++i) right += back.get_real(i) * x.get_real(i);
  EXPECT_NEAR(left, right, 1e-9);
}

TEST(ConvTranspose, Inference) {
  Inference g;
  const Dim h = g.symbol("H");
  ConvTransposeAttrs a;
  a.strides = {2};
  a.pads = {1, 1};
  a.group = 2;
  const ValueId v =
      g.b.add(op_named("ConvTranspose"), a, {g.input(DType::f32, {1, 4, h}), g.input(DType::f32, {4, 3, 4})}, 1)[0];
  EXPECT_EQ(g.text(v), "f32[1, 6, 2*H]");
  a.output_padding = {-1};
  EXPECT_EQ(error_of("ConvTranspose", a, {Tensor(DType::f32, {1, 4, 4}), Tensor(DType::f32, {4, 3, 4})}),
            Code::model_invalid);
}

Tensor einsum(const char* equation, const Operands& operands) {
  return evaluate("Einsum", EinsumAttrs{equation}, operands)[0];
}

TEST(Einsum, Forms) {
  const Tensor m = counting({2, 3}), s = counting({3, 3});
  expect_values(einsum("ij->ji", {m}), {3, 2}, {0, 3, 1, 4, 2, 5});
  expect_values(einsum("ji", {m}), {3, 2}, {0, 3, 1, 4, 2, 5});  // implied results are sorted
  expect_values(einsum("ii", {s}), {}, {12});
  expect_values(einsum("ii->i", {s}), {3}, {0, 4, 8});
  expect_values(einsum("ij->", {m}), {}, {15});
  expect_values(einsum(" i j , j k -> i k ", {m, s}), {2, 3}, {15, 18, 21, 42, 54, 66});
  expect_values(einsum("i,j->ij", {counting({2}), counting({3})}), {2, 3}, {0, 0, 0, 0, 1, 2});
  expect_values(einsum("i,i,i->", {counting({3}), counting({3}), counting({3})}), {}, {9});
  expect_values(einsum("...j->...", {m}), {2}, {3, 12});
  expect_values(einsum("...,...", {m, counting({3})}), {2, 3}, {0, 1, 4, 0, 4, 10});
  expect_values(einsum("ij,j->ij", {m, reals({1}, {2})}), {2, 3}, {0, 2, 4, 6, 8, 10});
  expect_values(einsum("ij,ik->", {m, m}), {}, {9 + 144});
  expect_values(einsum("ij,jk->ik", {Tensor(DType::f32, {2, 0}), Tensor(DType::f32, {0, 2})}), {2, 2}, {0, 0, 0, 0});
  expect_values(einsum("ij,jk->ki", {integers({1, 1}, {INT64_MAX}), integers({1, 1}, {2})}), {1, 1}, {-2});
}

TEST(Einsum, BatchesAgainstMatMul) {
  const Tensor q = noise({2, 3, 5, 7}, 1), k = noise({2, 3, 6, 7}, 2);
  EXPECT_TRUE(
      einsum("bhqd,bhkd->bhqk", {q, k}).identical(evaluate("MatMul", MatMulAttrs{true, Numerics::strict}, {q, k})[0]));
}

TEST(Einsum, Inference) {
  Inference g;
  const Dim b = g.symbol("B"), t = g.symbol("T");
  const ValueId x = g.input(DType::f16, {b, t, 8, 64});
  EXPECT_EQ(g.text(g.b.add(op_named("Einsum"), EinsumAttrs{"bthd,bshd->bhts"}, {x, x}, 1)[0]), "f16[B, 8, T, T]");
  EXPECT_EQ(g.text(g.b.add(op_named("Einsum"), EinsumAttrs{"b...->..."}, {x}, 1)[0]), "f16[T, 8, 64]");
  const Tensor m = counting({2, 3});
  for (const char* bad : {"ij,jk", "i", "ijk", "ij->ii", "ij->k", "i1->i", "i..", ".ij", "ij->ij->", "...i...", ""})
    EXPECT_EQ(error_of("Einsum", EinsumAttrs{bad}, {m}), Code::model_invalid) << bad;
  EXPECT_EQ(error_of("Einsum", EinsumAttrs{"ij,jk"}, {m, m}), Code::model_invalid);
}

TEST(DeformConv, WithoutOffsetsIsConv) {
  DeformConvAttrs a;
  a.group = 2;
  a.offset_group = 2;
  a.strides = {2, 1};
  a.pads = {1, 0, 1, 1};
  ConvAttrs conv;
  conv.group = 2;
  conv.strides = a.strides;
  conv.pads = a.pads;
  const Tensor x = noise({2, 4, 6, 5}, 1), w = noise({4, 2, 3, 2}, 2), bias = noise({4}, 3);
  const Tensor wanted = evaluate("Conv", conv, {x, w, bias})[0];
  const int64_t h = wanted.dims()[2], wd = wanted.dims()[3];
  const Tensor got = evaluate("DeformConv", a, {x, w, Tensor(DType::f32, {2, 24, h, wd}), bias})[0];
  expect_near(got, wanted.to_reals());
  Tensor mask(DType::f32, {2, 12, h, wd});
  for (int64_t i = 0; i < mask.count(); ++i) mask.set_real(i, 0.5);
  const Tensor half = evaluate("DeformConv", a, {x, w, Tensor(DType::f32, {2, 24, h, wd}), std::nullopt, mask})[0];
  const Tensor plain = evaluate("Conv", conv, {x, w})[0];
  for (int64_t i = 0; i < half.count(); ++i) EXPECT_NEAR(half.get_real(i), plain.get_real(i) / 2, 1e-6);
}

TEST(DeformConv, Offsets) {
  const Tensor x = counting({1, 1, 2, 3}), w = reals({1, 1, 1, 1}, {1});
  // Row offsets, then column offsets; half a pixel interpolates, beyond the edge fades to 0.
  Tensor offset(DType::f32, {1, 2, 2, 3});
  offset.set_real(0, 0.5);       // (0.5, 0) → (0 + 3) / 2
  offset.set_real(6 + 1, 0.25);  // (0, 1.25)
  offset.set_real(6 + 2, 0.5);   // (0, 2.5): half of 2
  offset.set_real(6 + 3, -9);    // outside
  offset.set_real(4, std::nan(""));
  expect_values(evaluate("DeformConv", {}, {x, w, offset})[0], {1, 1, 2, 3}, {1.5, 1.25, 1, 0, 0, 5});
  EXPECT_EQ(error_of("DeformConv", {}, {x, w, Tensor(DType::f32, {1, 3, 2, 3})}), Code::model_invalid);
}

}  // namespace
}  // namespace sinter
