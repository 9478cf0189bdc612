#include "ops/movement.h"

#include "op_testing.h"

namespace sinter {
namespace {

using namespace testing;

TEST(Movement, Transpose) {
  const Tensor x = counting({2, 3});
  expect_values(evaluate("Transpose", {}, {x})[0], {3, 2}, {0, 3, 1, 4, 2, 5});
  const Tensor y = evaluate("Transpose", TransposeAttrs{{1, 0, 2}}, {counting({2, 1, 3})})[0];
  expect_values(y, {1, 2, 3}, {0, 1, 2, 3, 4, 5});
  expect_values(evaluate("Transpose", {}, {Tensor(DType::f32, {2, 0})})[0], {0, 2}, {});
  expect_values(evaluate("Transpose", {}, {reals({}, {7})})[0], {}, {7});
  expect_values(evaluate("Transpose", {}, {integers({2, 2}, {0, 1, 2, 3}, DType::u4)})[0], {2, 2}, {0, 2, 1, 3});
  EXPECT_EQ(evaluate("Transpose", {}, {texts({1, 2}, {"a", "b"})})[0].strings()[1], "b");
  EXPECT_EQ(error_of("Transpose", TransposeAttrs{{0, 0}}, {x}), Code::model_invalid);
  EXPECT_EQ(error_of("Transpose", TransposeAttrs{{0, 2}}, {x}), Code::model_invalid);
  EXPECT_EQ(error_of("Transpose", TransposeAttrs{{0}}, {x}), Code::model_invalid);
}

TEST(Movement, Expand) {
  expect_values(evaluate("Expand", {}, {counting({3, 1}), list({2})})[0], {3, 2}, {0, 0, 1, 1, 2, 2});
  expect_values(evaluate("Expand", {}, {counting({2}), list({2, 1})})[0], {2, 2}, {0, 1, 0, 1});
  expect_values(evaluate("Expand", {}, {reals({}, {5}), list({0, 2})})[0], {0, 2}, {});
  expect_values(evaluate("Expand", {}, {reals({}, {5}), list({})})[0], {}, {5});
  EXPECT_EQ(error_of("Expand", {}, {counting({3}), list({2})}), Code::model_invalid);
  EXPECT_EQ(error_of("Expand", {}, {counting({1}), list({-1})}), Code::model_invalid);
}

TEST(Movement, Slice) {
  const Tensor x = counting({5});
  const auto slice = [&](int64_t start, int64_t end, int64_t step) {
    return evaluate("Slice", {}, {x, list({start}), list({end}), list({0}), list({step})})[0];
  };
  expect_values(slice(1, 4, 1), {3}, {1, 2, 3});
  expect_values(slice(0, INT64_MAX, 2), {3}, {0, 2, 4});
  expect_values(slice(-2, INT32_MAX, 1), {2}, {3, 4});
  expect_values(slice(-100, 2, 1), {2}, {0, 1});
  expect_values(slice(3, 1, 1), {0}, {});
  expect_values(slice(9, 20, 1), {0}, {});
  expect_values(slice(-1, INT64_MIN, -1), {5}, {4, 3, 2, 1, 0});
  expect_values(slice(INT64_MAX, -INT64_MAX, -2), {3}, {4, 2, 0});
  expect_values(slice(3, 0, -1), {3}, {3, 2, 1});
  expect_values(slice(3, -5, -2), {2}, {3, 1});
  expect_values(slice(-3, INT64_MIN, INT64_MIN), {1}, {2});
  expect_values(slice(0, INT64_MAX, INT64_MAX), {1}, {0});
  expect_values(slice(INT64_MIN, INT64_MAX, 3), {2}, {0, 3});
  expect_values(slice(0, INT64_MAX, -1), {0}, {});
  expect_values(slice(2, 10, -1), {0}, {});
  const Tensor m = counting({3, 4});
  expect_values(evaluate("Slice", {}, {m, list({1, 0}), list({3, 2})})[0], {2, 2}, {4, 5, 8, 9});
  expect_values(evaluate("Slice", {}, {m, list({-1}), list({-5}), list({-1}), list({-3})})[0], {3, 2},
                {3, 0, 7, 4, 11, 8});
  expect_values(evaluate("Slice", {}, {m, list({1}), list({2}), integers({1}, {1}, DType::i32)})[0], {3, 1}, {1, 5, 9});
  expect_values(evaluate("Slice", {}, {m, list({}), list({})})[0].reshaped({12}), {12},
                {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11});
  const Tensor none(DType::f32, {0, 3});
  expect_values(evaluate("Slice", {}, {none, list({-1}), list({INT64_MIN}), list({0}), list({-1})})[0], {0, 3}, {});
  EXPECT_EQ(error_of("Slice", {}, {x, list({0}), list({1}), list({0}), list({0})}), Code::model_invalid);
  EXPECT_EQ(error_of("Slice", {}, {x, list({0}), list({1}), list({1})}), Code::model_invalid);
  EXPECT_EQ(error_of("Slice", {}, {x, list({0, 0}), list({1, 1})}), Code::model_invalid);
  EXPECT_EQ(error_of("Slice", {}, {x, list({0}), list({1, 1})}), Code::model_invalid);
  EXPECT_EQ(error_of("Slice", {}, {m, list({0, 0}), list({1, 1}), list({0, -2})}), Code::model_invalid);
}

// Every slice of small axes, against the rule of the standard.
TEST(Movement, SliceExhaustive) {
  for (int64_t extent = 0; extent <= 4; ++extent)
    for (int64_t start = -6; start <= 6; ++start)
      for (int64_t end = -6; end <= 6; ++end)
        for (int64_t step : {-3, -2, -1, 1, 2, 3}) {
          const auto clamped = [&](int64_t v, int64_t low, int64_t high) {
            return std::max(low, std::min(v < 0 ? v + extent : v, high));
          };
          std::vector<double> expected;
          if (step > 0)
            for (int64_t i = clamped(start, 0, extent); i < clamped(end, 0, extent); i += step)
              expected.push_back(static_cast<double>(i));
          else if (extent > 0)
            for (int64_t i = clamped(start, 0, extent - 1); i > clamped(end, -1, extent - 1); i += step)
              expected.push_back(static_cast<double>(i));
          SCOPED_TRACE(::testing::Message() << extent << ": " << start << ":" << end << ":" << step);
          const Tensor y =
              evaluate("Slice", {}, {counting({extent}), list({start}), list({end}), list({0}), list({step})})[0];
          expect_values(y, {static_cast<int64_t>(expected.size())}, expected);
          // The closed extent of a symbolic axis says the same; starts and ends known as Dims too.
          for (const bool as_dims : {false, true}) {
            Inference g;
            const Dim n = g.symbol("N"), s = g.symbol("S"), e = g.symbol("E");
            const ValueId x = g.input(DType::f32, {n});
            const ValueId starts = as_dims ? g.b.dims({s - 6}) : g.b.integers({start});
            const ValueId ends = as_dims ? g.b.dims({e - 6}) : g.b.integers({end});
            const ValueId v = g.b.op("Slice", Attrs(), Ids{x, starts, ends, g.b.integers({0}), g.b.integers({step})});
            const int64_t values[] = {extent, start + 6, end + 6};
            EXPECT_EQ(g.b.shape(v)[0].evaluate(values), y.dims()[0]);
          }
        }
}

TEST(Movement, SliceExtents) {
  Inference g;
  const Dim n = g.symbol("N"), t = g.symbol("T"), p = g.symbol("P");
  const ValueId x = g.input(DType::f32, {n, 8});
  const auto slice = [&](Dim start, Dim end, int64_t step) {
    return g.text(g.b.op("Slice", {x, g.b.dims({start}), g.b.dims({end}), g.b.integers({0}), g.b.integers({step})}));
  };
  EXPECT_EQ(slice(0, INT64_MAX, 1), "f32[N, 8]");
  EXPECT_EQ(slice(0, INT32_MAX, 1), "f32[N, 8]");
  EXPECT_EQ(slice(0, n, 1), "f32[N, 8]");
  EXPECT_EQ(slice(INT64_MIN, INT64_MAX, 1), "f32[N, 8]");
  EXPECT_EQ(slice(0, INT64_MAX, 2), "f32[floordiv(N + 1, 2), 8]");
  EXPECT_EQ(slice(-1, INT64_MIN, -1), "f32[N, 8]");
  EXPECT_EQ(slice(1, INT64_MAX, 1), "f32[max(0, N - 1), 8]");
  EXPECT_EQ(slice(0, -1, 1), "f32[max(0, N - 1), 8]");
  EXPECT_EQ(slice(-1, INT64_MAX, 1), "f32[min(1, N), 8]");
  EXPECT_EQ(slice(0, 5, 1), "f32[min(5, N), 8]");
  EXPECT_EQ(slice(0, t, 1), "f32[min(N, T), 8]");
  EXPECT_EQ(slice(2, 1, 1), "f32[0, 8]");
  const ValueId wide = g.input(DType::f32, {p + t});
  EXPECT_EQ(g.text(g.b.op("Slice", {wide, g.b.dims({p}), g.b.dims({p + t})})), "f32[T]");
  EXPECT_EQ(g.text(g.b.op("Slice", {wide, g.b.dims({-t - 1}), g.b.integers({INT64_MAX})})), "f32[min(T + P, T + 1)]");
  // Contents decided elsewhere.
  const ValueId starts = g.input(DType::i64, {1});
  EXPECT_EQ(g.text(g.b.op("Slice", {x, starts, g.b.integers({4}), g.b.integers({-1})})), "f32[N, s3]");
  const ValueId axes = g.input(DType::i64, {1});
  const ValueId v = g.b.op("Slice", {x, g.b.integers({0}), g.b.integers({4}), axes});
  EXPECT_EQ(g.b.rank(v), 2u);
  EXPECT_EQ(g.module.symbols[*g.b.shape(v)[1].as_symbol()].bound, Symbol::Bound::host_element);
}

TEST(Movement, MovesKnownContents) {
  Inference g;
  const Dim n = g.symbol("N"), t = g.symbol("T");
  const ValueId shape = g.b.op("Shape", {g.input(DType::f32, {n, 3, t})});
  EXPECT_EQ(g.contents(g.b.op("Slice", {shape, g.b.integers({1}), g.b.integers({INT64_MAX})})), "3, T");
  EXPECT_EQ(g.contents(g.b.op("Gather", {shape, g.b.integers({-1, 0})})), "T, N");
  const ValueId both = g.b.op("Concat", ConcatAttrs{0}, {shape, g.b.dims({n + 1})});
  EXPECT_EQ(g.contents(both), "N, 3, T, N + 1");
  const Ids parts = g.b.add(op_named("Split"), SplitAttrs{0}, {both, g.b.integers({1, 3})}, 2);
  EXPECT_EQ(g.contents(parts[0]), "N");
  EXPECT_EQ(g.contents(parts[1]), "3, T, N + 1");
}

TEST(Movement, Pad) {
  const Tensor x = counting({4});
  const auto pad = [&](PadMode mode, int64_t before, int64_t after) {
    return evaluate("Pad", PadAttrs{mode}, {x, list({before, after}), reals({}, {9})})[0];
  };
  expect_values(pad(PadMode::constant, 1, 2), {7}, {9, 0, 1, 2, 3, 9, 9});
  expect_values(pad(PadMode::constant, -1, 2), {5}, {1, 2, 3, 9, 9});
  expect_values(pad(PadMode::constant, -5, 3), {2}, {9, 9});
  expect_values(pad(PadMode::edge, 2, 1), {7}, {0, 0, 0, 1, 2, 3, 3});
  expect_values(pad(PadMode::edge, 2, -2), {4}, {0, 0, 0, 1});
  expect_values(pad(PadMode::reflect, 2, 2), {8}, {2, 1, 0, 1, 2, 3, 2, 1});
  expect_values(pad(PadMode::reflect, 7, 0), {11}, {1, 0, 1, 2, 3, 2, 1, 0, 1, 2, 3});
  expect_values(pad(PadMode::wrap, 5, 1), {10}, {3, 0, 1, 2, 3, 0, 1, 2, 3, 0});
  expect_values(pad(PadMode::wrap, -1, 2), {5}, {1, 2, 3, 1, 2});
  EXPECT_EQ(error_of("Pad", {}, {x, list({-3, -2})}), Code::model_invalid);
  EXPECT_EQ(error_of("Pad", {}, {x, list({INT64_MAX, 0})}), Code::model_invalid);
  EXPECT_EQ(error_of("Pad", {}, {x, list({1})}), Code::model_invalid);
  EXPECT_EQ(error_of("Pad", {}, {x, list({1, 1}), integers({}, {1})}), Code::model_invalid);
  expect_values(evaluate("Pad", {}, {counting({1, 2}), list({1, 0}), std::nullopt, list({-1})})[0], {1, 3}, {0, 0, 1});
  expect_values(evaluate("Pad", {}, {reals({}, {3}), list({})})[0], {}, {3});
  const Tensor none(DType::f32, {0});
  expect_values(evaluate("Pad", {}, {none, list({1, 1})})[0], {2}, {0, 0});
  EXPECT_EQ(error_of("Pad", PadAttrs{PadMode::edge}, {none, list({1, 1})}), Code::fault);
  expect_values(evaluate("Pad", PadAttrs{PadMode::reflect}, {reals({1}, {6}), list({1, 1})})[0], {3}, {6, 6, 6});
  Inference g;
  const Dim n = g.symbol("N");
  EXPECT_EQ(g.text(g.b.op("Pad", {g.input(DType::f32, {n, 3}), g.b.dims({1, n, 2, -1})})), "f32[N + 3, N + 2]");
}

TEST(Movement, ConcatSplitTile) {
  expect_values(evaluate("Concat", ConcatAttrs{-1}, {counting({2, 1}), counting({2, 0}), counting({2, 2})})[0], {2, 3},
                {0, 0, 1, 1, 2, 3});
  EXPECT_EQ(error_of("Concat", ConcatAttrs{0}, {counting({2, 1}), counting({2, 2})}), Code::model_invalid);
  EXPECT_EQ(error_of("Concat", ConcatAttrs{0}, {reals({}, {1})}), Code::model_invalid);
  EXPECT_EQ(error_of("Concat", ConcatAttrs{0}, {counting({2}), list({1})}), Code::model_invalid);
  const auto parts = evaluate("Split", SplitAttrs{1}, {counting({2, 3}), list({1, 0, 2})}, 3);
  expect_values(parts[0], {2, 1}, {0, 3});
  expect_values(parts[1], {2, 0}, {});
  expect_values(parts[2], {2, 2}, {1, 2, 4, 5});
  EXPECT_EQ(error_of("Split", {}, {counting({3}), list({1, 1})}, 2), Code::model_invalid);
  EXPECT_EQ(error_of("Split", {}, {counting({3}), list({-1, 4})}, 2), Code::model_invalid);
  EXPECT_EQ(error_of("Split", {}, {counting({3}), list({3})}, 2), Code::model_invalid);
  expect_values(evaluate("Tile", {}, {counting({2, 2}), list({2, 2})})[0], {4, 4},
                {0, 1, 0, 1, 2, 3, 2, 3, 0, 1, 0, 1, 2, 3, 2, 3});
  expect_values(evaluate("Tile", {}, {counting({2}), list({0})})[0], {0}, {});
  EXPECT_EQ(error_of("Tile", {}, {counting({2}), list({-1})}), Code::model_invalid);
  EXPECT_EQ(error_of("Tile", {}, {counting({2}), list({1, 1})}), Code::model_invalid);
  EXPECT_EQ(error_of("Tile", {}, {counting({2}), list({INT64_MAX})}), Code::limit);
  Inference g;
  const Dim n = g.symbol("N"), t = g.symbol("T");
  const ValueId x = g.input(DType::f32, {n, 4}), y = g.input(DType::f32, {t, 4});
  EXPECT_EQ(g.text(g.b.op("Concat", {x, y, x})), "f32[2*N + T, 4]");
  EXPECT_EQ(g.text(g.b.op("Tile", {x, g.b.dims({3, t})})), "f32[3*N, 4*T]");
  EXPECT_TRUE(g.module.facts.empty());
  g.b.op("Concat", ConcatAttrs{1}, {x, y});
  EXPECT_EQ(g.module.facts.size(), 1u);
  const Ids halves = g.b.add(op_named("Split"), SplitAttrs{0}, {x, g.b.dims({t, n - t})}, 2);
  EXPECT_EQ(g.text(halves[1]), "f32[N - T, 4]");
}

TEST(Movement, TriluReverse) {
  const Tensor x = counting({3, 3});
  expect_values(evaluate("Trilu", TriluAttrs{true}, {x})[0], {3, 3}, {0, 1, 2, 0, 4, 5, 0, 0, 8});
  expect_values(evaluate("Trilu", TriluAttrs{false}, {x, integers({}, {-1})})[0], {3, 3}, {0, 0, 0, 3, 0, 0, 6, 7, 0});
  expect_values(evaluate("Trilu", TriluAttrs{false}, {x, integers({1}, {INT64_MAX})})[0], {3, 3},
                {0, 1, 2, 3, 4, 5, 6, 7, 8});
  expect_values(evaluate("Trilu", {}, {Tensor(DType::f32, {0, 2})})[0], {0, 2}, {});
  EXPECT_EQ(error_of("Trilu", {}, {counting({3})}), Code::model_invalid);
  expect_values(evaluate("ReverseSequence", ReverseSequenceAttrs{0, 1}, {counting({2, 3}), list({2, 3})})[0], {2, 3},
                {1, 0, 2, 5, 4, 3});
  expect_values(evaluate("ReverseSequence", ReverseSequenceAttrs{1, 0}, {counting({2, 2}), list({0, 2})})[0], {2, 2},
                {0, 3, 2, 1});
  EXPECT_EQ(error_of("ReverseSequence", {}, {counting({2, 2}), list({0, 3})}), Code::fault);
  EXPECT_EQ(error_of("ReverseSequence", ReverseSequenceAttrs{1, 1}, {counting({2, 2}), list({0, 2})}),
            Code::model_invalid);
}

}  // namespace
}  // namespace sinter
