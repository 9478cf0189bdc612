#include "ops/indexing.h"

#include <cmath>

#include "op_testing.h"
#include "ops/generation.h"

namespace sinter {
namespace {

using namespace testing;

TEST(Indexing, Gather) {
  const Tensor x = counting({3, 2});
  expect_values(evaluate("Gather", {}, {x, list({2, -3})})[0], {2, 2}, {4, 5, 0, 1});
  expect_values(evaluate("Gather", GatherAttrs{-1}, {x, integers({}, {1}, DType::i32)})[0], {3}, {1, 3, 5});
  expect_values(evaluate("Gather", {}, {x, integers({0, 2}, {})})[0], {0, 2, 2}, {});
  EXPECT_EQ(evaluate("Gather", {}, {texts({2}, {"a", "b"}), list({1})})[0].strings()[0], "b");
  EXPECT_EQ(error_of("Gather", {}, {x, list({3})}), Code::fault);
  EXPECT_EQ(error_of("Gather", {}, {x, list({INT64_MIN})}), Code::fault);
  EXPECT_EQ(error_of("Gather", {}, {Tensor(DType::f32, {0}), list({0})}), Code::fault);
  EXPECT_EQ(error_of("Gather", {}, {x, reals({1}, {0})}), Code::model_invalid);
  EXPECT_EQ(error_of("Gather", {}, {reals({}, {0}), list({0})}), Code::model_invalid);
  Inference g;
  const Dim n = g.symbol("N"), t = g.symbol("T");
  EXPECT_EQ(g.text(g.b.op("Gather", GatherAttrs{1}, {g.input(DType::f16, {n, 5, 7}), g.input(DType::i64, {t, 2})})),
            "f16[N, T, 2, 7]");
}

TEST(Indexing, Elements) {
  const Tensor x = counting({2, 3});
  expect_values(evaluate("GatherElements", GatherAttrs{1}, {x, integers({2, 2}, {2, -3, 1, 1})})[0], {2, 2},
                {2, 0, 4, 4});
  expect_values(evaluate("GatherElements", GatherAttrs{0}, {x, integers({3, 1}, {1, 0, -1})})[0], {3, 1}, {3, 0, 3});
  expect_values(evaluate("GatherElements", {}, {x, integers({0, 3}, {})})[0], {0, 3}, {});
  EXPECT_EQ(error_of("GatherElements", {}, {x, integers({1, 1}, {2})}), Code::fault);
  EXPECT_EQ(error_of("GatherElements", {}, {x, integers({1, 4}, {0, 0, 0, 0})}), Code::model_invalid);
  const auto scatter = [&](Reduction r, int64_t axis) {
    return evaluate("ScatterElements", ScatterElementsAttrs{axis, r},
                    {x, integers({1, 3}, {1, -1, 1}), reals({1, 3}, {10, 20, -30})})[0];
  };
  expect_values(scatter(Reduction::none, 1), {2, 3}, {0, -30, 20, 3, 4, 5});
  expect_values(scatter(Reduction::add, 1), {2, 3}, {0, -19, 22, 3, 4, 5});
  expect_values(scatter(Reduction::mul, 0), {2, 3}, {0, 1, 2, 30, 80, -150});
  expect_values(scatter(Reduction::max, 0), {2, 3}, {0, 1, 2, 10, 20, 5});
  expect_values(scatter(Reduction::min, 0), {2, 3}, {0, 1, 2, 3, 4, -30});
  const Tensor nan = evaluate("ScatterElements", ScatterElementsAttrs{0, Reduction::max},
                              {reals({1}, {1}), list({0}), reals({1}, {NAN})})[0];
  expect_values(nan, {1}, {NAN});
  const Tensor wide = evaluate("ScatterElements", ScatterElementsAttrs{0, Reduction::max},
                               {integers({1}, {-1}, DType::u64), list({0}), integers({1}, {5}, DType::u64)})[0];
  EXPECT_EQ(wide.get_integer(0), -1);
  EXPECT_EQ(error_of("ScatterElements", {}, {x, integers({1, 1}, {2}), reals({1, 1}, {0})}), Code::fault);
  EXPECT_EQ(error_of("ScatterElements", {}, {x, integers({1, 1}, {0}), reals({1, 2}, {0, 0})}), Code::model_invalid);
}

TEST(Indexing, Tuples) {
  const Tensor x = counting({2, 2, 2});
  expect_values(evaluate("GatherND", {}, {x, integers({2, 2}, {0, 1, -1, 0})})[0], {2, 2}, {2, 3, 4, 5});
  expect_values(evaluate("GatherND", {}, {x, integers({2, 3}, {0, 1, 1, 1, 0, 0})})[0], {2}, {3, 4});
  expect_values(evaluate("GatherND", GatherNDAttrs{1}, {x, integers({2, 1}, {1, 0})})[0], {2, 2}, {2, 3, 4, 5});
  expect_values(evaluate("GatherND", {}, {x, integers({0, 1}, {})})[0], {0, 2, 2}, {});
  EXPECT_EQ(error_of("GatherND", {}, {x, integers({1, 2}, {0, 2})}), Code::fault);
  EXPECT_EQ(error_of("GatherND", {}, {x, integers({1, 4}, {0, 0, 0, 0})}), Code::model_invalid);
  EXPECT_EQ(error_of("GatherND", GatherNDAttrs{-1}, {x, integers({1, 1}, {0})}), Code::model_invalid);
  const Tensor y = counting({4});
  expect_values(evaluate("ScatterND", {}, {y, integers({2, 1}, {3, 0}), reals({2}, {7, 8})})[0], {4}, {8, 1, 2, 7});
  expect_values(evaluate("ScatterND", ScatterNDAttrs{Reduction::add},
                         {counting({2, 2}), integers({2, 1}, {-1, 1}), counting({2, 2})})[0],
                {2, 2}, {0, 1, 4, 7});
  EXPECT_EQ(error_of("ScatterND", {}, {y, integers({1, 1}, {4}), reals({1}, {0})}), Code::fault);
  EXPECT_EQ(error_of("ScatterND", {}, {y, integers({1, 1}, {0}), reals({2}, {0, 0})}), Code::model_invalid);
}

TEST(Indexing, CompressNonZero) {
  const auto mask = [](std::initializer_list<int64_t> v) {
    return integers({static_cast<int64_t>(v.size())}, v, DType::boolean);
  };
  const Tensor x = counting({3, 2});
  expect_values(evaluate("Compress", CompressAttrs{false, 0}, {x, mask({0, 1, 1})})[0], {2, 2}, {2, 3, 4, 5});
  expect_values(evaluate("Compress", CompressAttrs{false, -1}, {x, mask({0, 1})})[0], {3, 1}, {1, 3, 5});
  expect_values(evaluate("Compress", CompressAttrs{true, 0}, {x, mask({0, 1, 0, 0, 1})})[0], {2}, {1, 4});
  EXPECT_EQ(error_of("Compress", CompressAttrs{false, 1}, {x, mask({0, 0, 1})}), Code::fault);
  expect_values(evaluate("NonZero", {}, {integers({2, 2}, {1, 0, 2, 3})})[0], {2, 3}, {0, 1, 1, 0, 0, 1});
  expect_values(evaluate("NonZero", {}, {reals({3}, {NAN, 0, -0.0})})[0], {1, 1}, {0});
  expect_values(evaluate("NonZero", {}, {reals({}, {2})})[0], {0, 1}, {});
  expect_values(evaluate("NonZero", {}, {Tensor(DType::f32, {0, 2})})[0], {2, 0}, {});
  Inference g;
  const Dim n = g.symbol("N");
  const ValueId v = g.b.op("NonZero", {g.input(DType::f32, {n, 2})});
  const Symbol& found = g.module.symbols[*g.b.shape(v)[1].as_symbol()];
  EXPECT_EQ(found.bound, Symbol::Bound::run);
  EXPECT_EQ(*found.high, n * 2);
}

TEST(Indexing, OneHot) {
  const Tensor values = reals({2}, {0, 1});
  expect_values(evaluate("OneHot", {}, {list({0, -1, 3}), integers({}, {3}), values})[0], {3, 3},
                {1, 0, 0, 0, 0, 1, 0, 0, 0});
  expect_values(evaluate("OneHot", OneHotAttrs{0}, {reals({2}, {1, 0}), reals({1}, {2}), values})[0], {2, 2},
                {0, 1, 1, 0});
  EXPECT_EQ(error_of("OneHot", {}, {list({0}), integers({}, {-1}), values}), Code::model_invalid);
  EXPECT_EQ(error_of("OneHot", OneHotAttrs{2}, {list({0}), integers({}, {1}), values}), Code::model_invalid);
  Inference g;
  const Dim n = g.symbol("N");
  const ValueId indices = g.input(DType::i64, {n}), v = g.b.constant(values);
  EXPECT_EQ(g.text(g.b.op("OneHot", OneHotAttrs{0}, {indices, g.b.dims({n + 1}), v})), "f32[N + 1, N]");
}

TEST(Generation, Range) {
  const auto range = [](int64_t a, int64_t b, int64_t by) {
    return evaluate("Range", {}, {integers({}, {a}), integers({}, {b}), integers({}, {by})})[0];
  };
  expect_values(range(1, 6, 2), {3}, {1, 3, 5});
  expect_values(range(5, 0, -2), {3}, {5, 3, 1});
  expect_values(range(5, 0, 1), {0}, {});
  expect_values(evaluate("Range", {}, {reals({}, {0}), reals({}, {1}), reals({}, {0.25})})[0], {4},
                {0, 0.25, 0.5, 0.75});
  EXPECT_EQ(error_of("Range", {}, {integers({}, {0}), integers({}, {1}), integers({}, {0})}), Code::model_invalid);
  EXPECT_EQ(error_of("Range", {}, {integers({}, {INT64_MIN}), integers({}, {INT64_MAX}), integers({}, {1})}),
            Code::limit);
  EXPECT_EQ(error_of("Range", {}, {reals({}, {0}), reals({}, {INFINITY}), reals({}, {1})}), Code::model_invalid);
  Inference g;
  const Dim n = g.symbol("N"), t = g.symbol("T");
  const auto scalar = [&](Dim d) { return g.b.op("Squeeze", {g.b.dims({d})}); };
  EXPECT_EQ(g.text(g.b.op("Range", {scalar(0), scalar(n), scalar(1)})), "i64[N]");
  EXPECT_EQ(g.text(g.b.op("Range", {scalar(n), scalar(n + t), scalar(2)})), "i64[floordiv(T + 1, 2)]");
  EXPECT_EQ(g.text(g.b.op("Range", {scalar(t), scalar(n), scalar(1)})), "i64[max(0, N - T)]");
  EXPECT_EQ(g.contents(g.b.op("Range", {scalar(n), scalar(n + 3), scalar(1)})), "N, N + 1, N + 2");
}

TEST(Generation, EyeLike) {
  const Tensor x(DType::f32, {2, 3});
  expect_values(evaluate("EyeLike", EyeLikeAttrs{DType::i32, 1}, {x})[0], {2, 3}, {0, 1, 0, 0, 0, 1});
  expect_values(evaluate("EyeLike", EyeLikeAttrs{DType::f16, -1}, {x})[0], {2, 3}, {0, 0, 0, 1, 0, 0});
  expect_values(evaluate("EyeLike", EyeLikeAttrs{DType::f32, INT64_MIN}, {x})[0], {2, 3}, {0, 0, 0, 0, 0, 0});
}

TEST(Generation, Random) {
  const Tensor a = evaluate("RandomUniform", RandomUniformAttrs{DType::f32, 2, 4, 7}, {list({10000})})[0];
  const Tensor b = evaluate("RandomUniform", RandomUniformAttrs{DType::f32, 2, 4, 7}, {list({10000})})[0];
  EXPECT_TRUE(a.identical(b));
  const Tensor other = evaluate("RandomUniform", RandomUniformAttrs{DType::f32, 2, 4, -1}, {list({10000})})[0];
  EXPECT_FALSE(a.identical(other));
  double sum = 0;
  for (double v : a.to_reals()) {
    EXPECT_GE(v, 2);
    EXPECT_LE(v, 4);
    sum += v;
  }
  EXPECT_NEAR(sum / 10000, 3, 0.05);
  const Tensor n = evaluate("RandomNormal", RandomNormalAttrs{DType::f64, 1, 2, 3}, {list({100, 100})})[0];
  double mean = 0, square = 0;
  for (double v : n.to_reals()) {
    mean += v / 10000;
    square += (v - 1) * (v - 1) / 10000;
  }
  EXPECT_NEAR(mean, 1, 0.1);
  EXPECT_NEAR(square, 4, 0.3);
  const Tensor m = evaluate("Multinomial", MultinomialAttrs{DType::i64, 1000, 5},
                            {reals({1, 3}, {std::log(0.5), -INFINITY, std::log(0.5)})})[0];
  int64_t counts[3] = {};
  for (int64_t v : m.to_integers()) ++counts[v];
  EXPECT_EQ(counts[1], 0);
  EXPECT_NEAR(static_cast<double>(counts[0]), 500, 80);
  EXPECT_EQ(error_of("Multinomial", {}, {reals({1, 1}, {NAN})}), Code::fault);
}

// numpy.random.RandomState(seed).rand(n) and .randn(n)
TEST(Generation, RandomNumbersAreNumPys) {
  const auto uniform = [](int64_t seed, int64_t n) {
    return evaluate("RandomUniform", RandomUniformAttrs{DType::f64, 0, 1, seed}, {list({n})})[0].to_reals();
  };
  const auto expect_near = [](const std::vector<double>& values, const std::vector<double>& expected) {
    ASSERT_EQ(values.size(), expected.size());
    for (size_t i = 0; i < values.size(); ++i) EXPECT_NEAR(values[i], expected[i], 1e-8) << "number " << i;
  };
  expect_near(uniform(7, 4), {0.07630829, 0.77991879, 0.43840923, 0.72346518});
  expect_near(uniform(4294967295, 2), {0.09763203, 0.91238285});
  const Tensor n = evaluate("RandomNormal", RandomNormalAttrs{DType::f64, 0, 1, 3}, {list({5})})[0];
  expect_near(n.to_reals(), {1.78862847, 0.43650985, 0.09649747, -1.8634927, -0.2773882});
}

// Samples are valid operands.
TEST(Indexing, Samples) {
  const auto run = [](std::string_view name, Attrs attrs, std::vector<Type> types, size_t outputs = 1) {
    const Op& op = op_named(name);
    Operands operands;
    for (size_t i = 0; i < types.size(); ++i) operands.push_back(op.sample(op, attrs, i, types, 17 + i));
    EXPECT_NO_THROW(evaluate(name, attrs, operands, outputs)) << name;
  };
  const auto type = [](DType dtype, Shape shape) { return Type::tensor(dtype, std::move(shape)); };
  run("Gather", GatherAttrs{1}, {type(DType::f32, {3, 5}), type(DType::i64, {20})});
  run("GatherElements", GatherAttrs{-1}, {type(DType::f32, {3, 5}), type(DType::i32, {3, 9})});
  run("GatherND", GatherNDAttrs{1}, {type(DType::f16, {3, 5, 2}), type(DType::i64, {3, 4, 2})});
  run("ScatterElements", ScatterElementsAttrs{},
      {type(DType::f32, {3, 5}), type(DType::i64, {6, 5}), type(DType::f32, {6, 5})});
  run("ScatterND", ScatterNDAttrs{}, {type(DType::i8, {3, 5}), type(DType::i64, {6, 2}), type(DType::i8, {6})});
  run("Compress", CompressAttrs{false, 0}, {type(DType::f32, {3, 5}), type(DType::boolean, {5})});
  run("OneHot", OneHotAttrs{}, {type(DType::i64, {4}), type(DType::i64, {}), type(DType::f32, {2})});
}

}  // namespace
}  // namespace sinter
