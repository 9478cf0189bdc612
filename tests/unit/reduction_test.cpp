#include "ops/reduction.h"

#include <cmath>

#include "op_testing.h"

namespace sinter {
namespace {

using namespace testing;

TEST(Reduction, Axes) {
  const Tensor x = counting({2, 3, 2});
  expect_values(evaluate("ReduceSum", {}, {x, list({1})})[0], {2, 1, 2}, {6, 9, 24, 27});
  expect_values(evaluate("ReduceSum", ReduceAttrs{false, false}, {x, list({-1, 0})})[0], {3}, {14, 22, 30});
  expect_values(evaluate("ReduceSum", {}, {x})[0], {1, 1, 1}, {66});
  expect_values(evaluate("ReduceSum", ReduceAttrs{false, false}, {x, list({})})[0], {}, {66});
  expect_values(evaluate("ReduceMean", ReduceAttrs{false, false}, {x, list({2})})[0], {2, 3},
                {0.5, 2.5, 4.5, 6.5, 8.5, 10.5});
  expect_values(evaluate("ReduceMax", ReduceAttrs{false, false}, {x, list({0})})[0], {3, 2}, {6, 7, 8, 9, 10, 11});
  expect_values(evaluate("ReduceMin", ReduceAttrs{false, false}, {x, list({0, 1, 2})})[0], {}, {0});
  expect_values(evaluate("ReduceProd", ReduceAttrs{false, false}, {reals({2, 2}, {2, 3, 4, 5}), list({1})})[0], {2},
                {6, 20});
  EXPECT_TRUE(evaluate("ReduceProd", ReduceAttrs{true, true}, {x})[0].identical(x));
  EXPECT_TRUE(evaluate("ReduceSum", {}, {reals({}, {3}), list({})})[0].identical(reals({}, {3})));
  EXPECT_EQ(error_of("ReduceSum", {}, {x, list({3})}), Code::model_invalid);
  EXPECT_EQ(error_of("ReduceSum", {}, {x, list({1, -2})}), Code::model_invalid);
}

TEST(Reduction, EmptySets) {
  const double inf = INFINITY;
  const Tensor x(DType::f32, {2, 0});
  const ReduceAttrs a{false, false};
  expect_values(evaluate("ReduceSum", a, {x, list({1})})[0], {2}, {0, 0});
  expect_values(evaluate("ReduceProd", a, {x, list({1})})[0], {2}, {1, 1});
  expect_values(evaluate("ReduceMean", a, {x, list({1})})[0], {2}, {NAN, NAN});
  expect_values(evaluate("ReduceMax", a, {x, list({1})})[0], {2}, {-inf, -inf});
  expect_values(evaluate("ReduceMin", a, {x, list({1})})[0], {2}, {inf, inf});
  expect_values(evaluate("ReduceMax", a, {x, list({0})})[0], {0}, {});
  expect_values(evaluate("ReduceMax", a, {Tensor(DType::i8, {0}), list({0})})[0], {}, {-128});
  expect_values(evaluate("ReduceMin", a, {Tensor(DType::i8, {0}), list({0})})[0], {}, {127});
  expect_values(evaluate("ReduceMin", a, {Tensor(DType::u16, {0}), list({0})})[0], {}, {65535});
  EXPECT_EQ(evaluate("ReduceMin", a, {Tensor(DType::i64, {0}), list({0})})[0].get_integer(0), INT64_MAX);
  EXPECT_EQ(evaluate("ReduceMax", a, {Tensor(DType::i64, {0}), list({0})})[0].get_integer(0), INT64_MIN);
  expect_values(evaluate("ReduceMean", a, {Tensor(DType::i32, {0}), list({0})})[0], {}, {0});
}

TEST(Reduction, Types) {
  const ReduceAttrs a{false, false};
  expect_values(evaluate("ReduceSum", a, {reals({3}, {2048, 1, 1}, DType::f16)})[0], {}, {2050});
  expect_values(evaluate("ReduceMean", a, {integers({2}, {-3, 0}, DType::i32)})[0], {}, {-1});
  expect_values(evaluate("ReduceMax", a, {integers({2}, {-1, 1}, DType::u64)})[0], {}, {18446744073709551615.0});
  expect_values(evaluate("ReduceMax", a, {integers({2}, {0, 1}, DType::boolean)})[0], {}, {1});
  expect_values(evaluate("ReduceMin", a, {integers({2}, {0, 1}, DType::boolean)})[0], {}, {0});
  expect_values(evaluate("ReduceMax", a, {reals({3}, {1, NAN, 2})})[0], {}, {NAN});
  expect_values(evaluate("ReduceMin", a, {reals({3}, {NAN, 1, 2})})[0], {}, {NAN});
  EXPECT_EQ(error_of("ReduceSum", a, {integers({1}, {1}, DType::boolean)}), Code::model_invalid);
}

TEST(Reduction, Inference) {
  Inference g;
  const Dim n = g.symbol("N");
  const Op& op = op_named("ReduceSum");
  const ValueId x = g.input(DType::f32, {n, 3, 4});
  EXPECT_EQ(g.text(g.b.add(op, {}, {x, g.b.integers({1})}, 1)[0]), "f32[N, 1, 4]");
  EXPECT_EQ(g.text(g.b.add(op, ReduceAttrs{false, false}, {x, g.b.integers({0, -1})}, 1)[0]), "f32[3]");
  EXPECT_EQ(g.text(g.b.add(op, ReduceAttrs{false, false}, {x, g.input(DType::i64, {0})}, 1)[0]), "f32[]");
  const ValueId open = g.input(DType::i64, {2});
  EXPECT_EQ(g.b.shape(g.b.add(op, {}, {x, open}, 1)[0]).size(), 3u);
  EXPECT_EQ(g.b.shape(g.b.add(op, ReduceAttrs{false, false}, {x, open}, 1)[0]).size(), 1u);
  const ValueId any = g.b.add(op, ReduceAttrs{false, false}, {x, g.input(DType::i64, {g.symbol("K")})}, 1)[0];
  EXPECT_EQ(g.text(any), "f32[..]");
}

}  // namespace
}  // namespace sinter
