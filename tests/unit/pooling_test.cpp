#include "ops/pooling.h"

#include <cmath>

#include "op_testing.h"

namespace sinter {
namespace {

using namespace testing;

TEST(MaxPool, ValuesAndIndices) {
  const Tensor x = reals({1, 2, 2, 3}, {1, 5, 2, 4, 3, 6, 0, 0, 0, -1, -2, 7});
  MaxPoolAttrs a;
  a.kernel = {2, 2};
  auto y = evaluate("MaxPool", a, {x}, 2);
  expect_values(y[0], {1, 2, 1, 2}, {5, 6, 0, 7});
  expect_values(y[1], {1, 2, 1, 2}, {1, 5, 6, 11});
  a.column_major = true;
  y = evaluate("MaxPool", a, {x}, 2);
  expect_values(y[1], {1, 2, 1, 2}, {2, 5, 6, 11});
  a.pads = {1, 1, 1, 1};
  a.strides = {2, 2};
  expect_values(evaluate("MaxPool", a, {x})[0], {1, 2, 2, 2}, {1, 5, 4, 6, 0, 0, -1, 7});
  expect_values(evaluate("MaxPool", a, {integers({1, 1, 1, 1}, {-128}, DType::i8)})[0], {1, 1, 1, 1}, {-128});
  // Windows that hold padding only.
  EXPECT_EQ(evaluate("MaxPool", a, {Tensor(DType::f32, {1, 1, 0, 3})}, 2)[1].get_integer(0), 0);
  MaxPoolAttrs line;
  line.kernel = {2};
  expect_values(evaluate("MaxPool", line, {reals({1, 1, 4}, {1, NAN, 2, 3})})[0], {1, 1, 3}, {NAN, NAN, 3});
  expect_values(evaluate("MaxPool", line, {integers({1, 1, 2}, {1, -1}, DType::u64)})[0], {1, 1, 1},
                {18446744073709551615.0});
  line.dilations = {2};
  expect_values(evaluate("MaxPool", line, {reals({1, 1, 4}, {4, 3, 1, 2})})[0], {1, 1, 2}, {4, 3});
}

TEST(MaxPool, CeilMode) {
  MaxPoolAttrs a;
  a.kernel = {2};
  a.strides = {2};
  a.ceil_mode = true;
  expect_values(evaluate("MaxPool", a, {counting({1, 1, 5})})[0], {1, 1, 3}, {1, 3, 4});
  expect_values(evaluate("MaxPool", a, {counting({1, 1, 4})})[0], {1, 1, 2}, {1, 3});
  // A window that would start in the padding behind the operand is left out.
  a.kernel = {1};
  a.pads = {0, 1};
  expect_values(evaluate("MaxPool", a, {counting({1, 1, 4})})[0], {1, 1, 2}, {0, 2});
  a.kernel = {2};
  a.strides = {3};
  a.pads = {};
  expect_values(evaluate("MaxPool", a, {counting({1, 1, 3})})[0], {1, 1, 1}, {1});
}

TEST(MaxPool, Inference) {
  Inference g;
  const Dim h = g.symbol("H");
  const ValueId x = g.input(DType::f32, {1, 8, h, 7});
  MaxPoolAttrs a;
  a.kernel = {2, 2};
  a.strides = {2, 2};
  const Ids out = g.b.add(op_named("MaxPool"), a, {x}, 2);
  EXPECT_EQ(g.text(out[0]), "f32[1, 8, floordiv(H, 2), 3]");
  EXPECT_EQ(g.b.type(out[1]).dtype, DType::i64);
  a.ceil_mode = true;
  const Dim ceil = g.b.shape(g.b.add(op_named("MaxPool"), a, {x}, 1)[0])[2];
  for (int64_t n : {2, 3, 4, 5, 9}) EXPECT_EQ(ceil.evaluate(std::vector<int64_t>{n}), (n + 1) / 2) << n;
  a.kernel = {2};
  EXPECT_EQ(error_of("MaxPool", a, {counting({1, 1, 4, 4})}), Code::model_invalid);
  a.kernel = {INT64_MAX, 1};
  EXPECT_EQ(error_of("MaxPool", a, {counting({1, 1, 4, 4})}), Code::model_invalid);
  EXPECT_EQ(error_of("MaxPool", {}, {counting({1, 1, 4, 4})}), Code::model_invalid);
}

TEST(AveragePool, Padding) {
  AveragePoolAttrs a;
  a.kernel = {3};
  a.pads = {1, 1};
  const Tensor x = reals({1, 1, 3}, {3, 6, 9});
  expect_values(evaluate("AveragePool", a, {x})[0], {1, 1, 3}, {4.5, 6, 7.5});
  a.count_pads = true;
  expect_values(evaluate("AveragePool", a, {x})[0], {1, 1, 3}, {3, 6, 5});
  // What ceil_mode adds behind the padding never counts.
  a.pads = {0, 1};
  a.strides = {3};
  a.ceil_mode = true;
  expect_values(evaluate("AveragePool", a, {reals({1, 1, 4}, {3, 6, 9, 8})})[0], {1, 1, 2}, {6, 4});
  a.count_pads = false;
  expect_values(evaluate("AveragePool", a, {reals({1, 1, 4}, {3, 6, 9, 8})})[0], {1, 1, 2}, {6, 8});
  AveragePoolAttrs same;
  same.kernel = {2, 2};
  same.auto_pad = AutoPad::same_lower;
  expect_values(evaluate("AveragePool", same, {reals({1, 1, 2, 2}, {1, 2, 3, 4})})[0], {1, 1, 2, 2}, {1, 1.5, 2, 2.5});
}

TEST(LpPool, Powers) {
  LpPoolAttrs a;
  a.kernel = {2};
  expect_values(evaluate("LpPool", a, {reals({1, 1, 3}, {3, -4, 0})})[0], {1, 1, 2}, {5, 4});
  a.p = 1;
  expect_values(evaluate("LpPool", a, {reals({1, 1, 3}, {3, -4, 0})})[0], {1, 1, 2}, {7, 4});
  a.p = 0;
  EXPECT_EQ(error_of("LpPool", a, {counting({1, 1, 3})}), Code::model_invalid);
}

TEST(MaxUnpool, Positions) {
  MaxUnpoolAttrs a;
  a.kernel = {2, 2};
  a.strides = {2, 2};
  const Tensor x = reals({1, 1, 1, 2}, {5, 6}), at = integers({1, 1, 1, 2}, {5, 2});
  expect_values(evaluate("MaxUnpool", a, {x, at})[0], {1, 1, 2, 4}, {0, 0, 6, 0, 0, 5, 0, 0});
  expect_values(evaluate("MaxUnpool", a, {x, at, list({1, 1, 3, 5})})[0], {1, 1, 3, 5},
                {0, 0, 6, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0, 0});
  EXPECT_EQ(error_of("MaxUnpool", a, {x, integers({1, 1, 1, 2}, {5, 8})}), Code::fault);
  EXPECT_EQ(error_of("MaxUnpool", a, {x, integers({1, 1, 1, 2}, {-1, 0})}), Code::fault);
  EXPECT_EQ(error_of("MaxUnpool", a, {x, at, list({1, 1, 1, 4})}), Code::model_invalid);
  Inference g;
  const Dim h = g.symbol("H");
  const ValueId v = g.input(DType::f32, {1, 1, h, 2}), i = g.input(DType::i64, {1, 1, h, 2});
  EXPECT_EQ(g.text(g.b.add(op_named("MaxUnpool"), a, {v, i}, 1)[0]), "f32[1, 1, 2*H, 4]");
  EXPECT_EQ(g.b.shape(g.b.add(op_named("MaxUnpool"), a, {v, i, g.input(DType::i64, {4})}, 1)[0]).size(), 4u);
}

TEST(RoiAlign, Modes) {
  // f(y, x) = 4y + x is linear, so averages of samples are its value at the bin's centre.
  const Tensor x = counting({1, 1, 4, 4});
  const Tensor rois = reals({1, 4}, {0.5, 0.5, 2.5, 2.5}), batch = integers({1}, {0});
  RoiAlignAttrs a;
  a.height = a.width = 2;
  a.sampling_ratio = 2;
  a.half_pixel = false;
  expect_values(evaluate("RoiAlign", a, {x, rois, batch})[0], {1, 1, 2, 2}, {5, 6, 9, 10});
  a.half_pixel = true;
  expect_values(evaluate("RoiAlign", a, {x, rois, batch})[0], {1, 1, 2, 2}, {2.5, 3.5, 6.5, 7.5});
  a.sampling_ratio = 0;
  expect_values(evaluate("RoiAlign", a, {x, rois, batch})[0], {1, 1, 2, 2}, {2.5, 3.5, 6.5, 7.5});
  a.mode = RoiMode::max;
  a.half_pixel = false;
  a.height = a.width = 1;
  a.sampling_ratio = 1;
  // One sample at (1.5, 1.5): the largest of the four weighted neighbours 5, 6, 9, 10.
  expect_values(evaluate("RoiAlign", a, {x, rois, batch})[0], {1, 1, 1, 1}, {2.5});
  EXPECT_EQ(error_of("RoiAlign", a, {x, rois, integers({1}, {1})}), Code::fault);
  EXPECT_EQ(error_of("RoiAlign", a, {x, rois, integers({1}, {-1})}), Code::fault);
  a.sampling_ratio = 65536;
  EXPECT_EQ(error_of("RoiAlign", a, {x, rois, batch}), Code::fault);
  a.sampling_ratio = 0;
  EXPECT_EQ(error_of("RoiAlign", a, {x, reals({1, 4}, {0, 0, 1e30, 1}), batch}), Code::fault);
  EXPECT_EQ(error_of("RoiAlign", a, {x, reals({1, 4}, {0, 0, NAN, 1}), batch}), Code::fault);
  expect_values(evaluate("RoiAlign", a, {x, Tensor(DType::f32, {0, 4}), Tensor(DType::i64, {0})})[0], {0, 1, 1, 1}, {});
}

TEST(MaxRoiPool, Bins) {
  const Tensor x = counting({2, 1, 4, 4});
  MaxRoiPoolAttrs a;
  a.height = a.width = 2;
  expect_values(evaluate("MaxRoiPool", a, {x, reals({2, 5}, {0, 0, 0, 3, 3, 1, 1, 1, 2, 2})})[0], {2, 1, 2, 2},
                {5, 7, 13, 15, 21, 22, 25, 26});
  // Nothing of the region inside.
  expect_values(evaluate("MaxRoiPool", a, {x, reals({1, 5}, {0, 8, 8, 9, 9})})[0], {1, 1, 2, 2}, {0, 0, 0, 0});
  EXPECT_EQ(error_of("MaxRoiPool", a, {x, reals({1, 5}, {2, 0, 0, 1, 1})}), Code::fault);
  EXPECT_EQ(error_of("MaxRoiPool", a, {x, reals({1, 5}, {NAN, 0, 0, 1, 1})}), Code::fault);
}

}  // namespace
}  // namespace sinter
