#include "ops/selection.h"

#include <cmath>

#include "op_testing.h"

namespace sinter {
namespace {

using namespace testing;

TEST(Selection, TopK) {
  const Tensor x = reals({2, 4}, {1, 3, 3, 2, -1, NAN, 5, -0.0});
  auto y = evaluate("TopK", {}, {x, list({3})}, 2);
  expect_values(y[0], {2, 3}, {3, 3, 2, NAN, 5, 0});
  expect_values(y[1], {2, 3}, {1, 2, 3, 1, 2, 3});
  y = evaluate("TopK", TopKAttrs{0, false, true}, {x, list({1})}, 2);
  expect_values(y[0], {1, 4}, {-1, 3, 3, -0.0});
  expect_values(y[1], {1, 4}, {1, 0, 0, 1});
  y = evaluate("TopK", TopKAttrs{0, true, true}, {integers({3}, {1, -1, 7}, DType::u64), list({2})}, 2);
  expect_values(y[1], {2}, {1, 2});
  expect_values(evaluate("TopK", {}, {counting({2, 0}), list({0})}, 2)[1], {2, 0}, {});
  expect_values(evaluate("TopK", {}, {counting({2}), list({0})})[0], {0}, {});
  EXPECT_EQ(error_of("TopK", {}, {x, list({5})}), Code::model_invalid);
  EXPECT_EQ(error_of("TopK", {}, {x, list({-1})}), Code::model_invalid);
  EXPECT_EQ(error_of("TopK", TopKAttrs{2, true, true}, {x, list({1})}), Code::model_invalid);
  Inference g;
  const Dim n = g.symbol("N");
  const ValueId v = g.input(DType::f32, {n, n + 3});
  Ids out = g.b.add(op_named("TopK"), {}, {v, g.b.dims({n})}, 2);
  EXPECT_EQ(g.text(out[0]), "f32[N, N]");
  EXPECT_EQ(g.text(out[1]), "i64[N, N]");
  EXPECT_TRUE(g.module.facts.empty());
  out = g.b.add(op_named("TopK"), TopKAttrs{0, true, true}, {v, g.b.integers({5})}, 2);
  EXPECT_EQ(g.text(out[0]), "f32[5, N + 3]");
  EXPECT_EQ(g.module.facts.size(), 1u);
  out = g.b.add(op_named("TopK"), {}, {v, g.input(DType::i64, {1})}, 2);
  EXPECT_EQ(g.b.shape(out[0])[1], g.b.shape(out[1])[1]);
}

TEST(Selection, Arg) {
  const Tensor x = reals({2, 3}, {1, 3, 3, 2, 0, 2});
  expect_values(evaluate("ArgMax", ArgAttrs{1, true, false}, {x})[0], {2, 1}, {1, 0});
  expect_values(evaluate("ArgMax", ArgAttrs{-1, false, true}, {x})[0], {2}, {2, 2});
  expect_values(evaluate("ArgMin", ArgAttrs{0, false, false}, {x})[0], {3}, {0, 1, 1});
  expect_values(evaluate("ArgMin", ArgAttrs{0, false, false}, {reals({3}, {1, NAN, 0})})[0], {}, {1});
  expect_values(evaluate("ArgMax", ArgAttrs{0, false, true}, {reals({3}, {NAN, NAN, 9})})[0], {}, {1});
  expect_values(evaluate("ArgMax", ArgAttrs{1, true, false}, {Tensor(DType::f32, {0, 3})})[0], {0, 1}, {});
  EXPECT_EQ(error_of("ArgMax", ArgAttrs{0, true, false}, {Tensor(DType::f32, {0, 3})}), Code::fault);
}

TEST(Selection, Unique) {
  const Tensor x = reals({6}, {2, 1, 1, 3, 4, 3});
  auto y = evaluate("Unique", {}, {x}, 4);
  expect_values(y[0], {4}, {1, 2, 3, 4});
  expect_values(y[1], {4}, {1, 0, 3, 4});
  expect_values(y[2], {6}, {1, 0, 0, 2, 3, 2});
  expect_values(y[3], {4}, {2, 1, 2, 1});
  y = evaluate("Unique", UniqueAttrs{true, 0, false}, {x}, 4);
  expect_values(y[0], {4}, {2, 1, 3, 4});
  expect_values(y[1], {4}, {0, 1, 3, 4});
  expect_values(y[2], {6}, {0, 1, 1, 2, 3, 2});
  expect_values(y[3], {4}, {1, 2, 2, 1});
  y = evaluate("Unique", UniqueAttrs{false, 0, true}, {reals({3, 2}, {1, 0, 1, 0, 0, 5})}, 4);
  expect_values(y[0], {2, 2}, {0, 5, 1, 0});
  expect_values(y[1], {2}, {2, 0});
  expect_values(y[2], {3}, {1, 1, 0});
  expect_values(y[3], {2}, {1, 2});
  y = evaluate("Unique", UniqueAttrs{false, -1, true}, {reals({2, 3}, {1, 0, 1, 2, 9, 2})}, 3);
  expect_values(y[0], {2, 2}, {0, 1, 9, 2});
  expect_values(y[2], {3}, {1, 0, 1});
  expect_values(evaluate("Unique", {}, {reals({3}, {NAN, 1, NAN})})[0], {2}, {1, NAN});
  EXPECT_EQ(evaluate("Unique", {}, {texts({3}, {"b", "a", "b"})})[0].strings()[1], "b");
  y = evaluate("Unique", {}, {Tensor(DType::f32, {0, 2})}, 4);
  expect_values(y[0], {0}, {});
  expect_values(y[2], {0}, {});
  Inference g;
  const Dim n = g.symbol("N");
  const Ids out = g.b.add(op_named("Unique"), UniqueAttrs{false, 1, true}, {g.input(DType::f32, {2, n})}, 4);
  EXPECT_EQ(g.b.shape(out[0])[1], g.b.shape(out[3])[0]);
  EXPECT_EQ(g.text(out[2]), "i64[N]");
  EXPECT_EQ(g.module.symbols.size(), 2u);
}

TEST(Selection, NonMaxSuppression) {
  const Tensor boxes = reals({1, 4, 4}, {0, 0, 1, 1, 0, 0.1, 1, 1.1, 0, 0, 1, 0.9, 0, 10, 1, 11});
  const Tensor scores = reals({1, 1, 4}, {0.9, 0.75, 0.95, 0.5});
  const auto nms = [&](int64_t most, double iou, double least) {
    return evaluate("NonMaxSuppression", {},
                    {boxes, scores, integers({1}, {most}), reals({1}, {iou}), reals({1}, {least})})[0];
  };
  expect_values(nms(3, 0.5, 0), {2, 3}, {0, 0, 2, 0, 0, 3});
  expect_values(nms(1, 0.5, 0), {1, 3}, {0, 0, 2});
  expect_values(nms(3, 0.95, 0.6), {3, 3}, {0, 0, 2, 0, 0, 0, 0, 0, 1});
  expect_values(nms(0, 0.5, 0), {0, 3}, {});
  expect_values(evaluate("NonMaxSuppression", {}, {boxes, scores})[0], {0, 3}, {});
  // Corners in any order.
  const Tensor flipped = reals({1, 2, 4}, {1, 1, 0, 0, 0, 0, 1, 1});
  expect_values(evaluate("NonMaxSuppression", {}, {flipped, reals({1, 1, 2}, {1, 2}), list({5}), reals({}, {0.5})})[0],
                {1, 3}, {0, 0, 1});
  EXPECT_EQ(error_of("NonMaxSuppression", {}, {boxes, reals({1, 1, 3}, {0, 0, 0})}), Code::model_invalid);
  expect_values(
      evaluate("NonMaxSuppression", {}, {Tensor(DType::f32, {1, 0, 4}), Tensor(DType::f32, {1, 9, 0}), list({5})})[0],
      {0, 3}, {});
}

TEST(Selection, Cumulative) {
  const Tensor x = counting({2, 3}, DType::i32), axis = integers({}, {-1});
  expect_values(evaluate("CumSum", {}, {x, axis})[0], {2, 3}, {0, 1, 3, 3, 7, 12});
  expect_values(evaluate("CumSum", {}, {x, list({0})})[0], {2, 3}, {0, 1, 2, 3, 5, 7});
  expect_values(evaluate("CumSum", CumulativeAttrs{true, false}, {x, axis})[0], {2, 3}, {0, 0, 1, 0, 3, 7});
  expect_values(evaluate("CumSum", CumulativeAttrs{true, true}, {x, axis})[0], {2, 3}, {3, 2, 0, 9, 5, 0});
  expect_values(evaluate("CumProd", CumulativeAttrs{false, true}, {reals({3}, {2, 3, 4}), axis})[0], {3}, {24, 12, 4});
  expect_values(evaluate("CumProd", CumulativeAttrs{true, false}, {reals({3}, {2, 3, 4}), axis})[0], {3}, {1, 2, 6});
  expect_values(evaluate("CumSum", {}, {integers({2}, {INT64_MAX, 1}), axis})[0], {2},
                {static_cast<double>(INT64_MAX), static_cast<double>(INT64_MIN)});
  expect_values(evaluate("CumSum", {}, {Tensor(DType::f32, {0}), axis})[0], {0}, {});
  EXPECT_EQ(error_of("CumSum", {}, {x, list({2})}), Code::model_invalid);
  EXPECT_EQ(error_of("CumSum", {}, {x, list({0, 1})}), Code::model_invalid);
}

}  // namespace
}  // namespace sinter
