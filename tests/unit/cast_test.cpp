#include "ops/cast.h"

#include <gtest/gtest.h>

#include <cmath>

#include "ops/op.h"

namespace sinter {
namespace {

Tensor evaluate(const char* name, const Attrs& attrs, std::vector<Tensor> tensors) {
  std::vector<Box> boxes;
  for (Tensor& t : tensors) boxes.emplace_back(std::move(t));
  std::vector<const Box*> pointers;
  for (const Box& b : boxes) pointers.push_back(&b);
  return evaluate_op(op_named(name), attrs, pointers, 1)[0].tensor;
}

Tensor reals(DType dtype, Dims dims, std::vector<double> values) {
  Tensor t(dtype, std::move(dims));
  for (size_t i = 0; i < values.size(); ++i) t.set_real(static_cast<int64_t>(i), values[i]);
  return t;
}

using Integers = std::vector<int64_t>;

class Host final : public InferHost {
 public:
  Dim symbol(size_t, size_t, Symbol::Bound bound, int64_t low, std::optional<Dim> high) override {
    return Dim::symbol(table.add({.name = "s", .bound = bound, .low = low, .high = std::move(high)}));
  }
  void require(Fact fact) override { facts.push_back(std::move(fact)); }
  const SymbolTable& symbols() const override { return table; }
  std::vector<Type> infer_body(size_t, std::span<const Type>) override { return {}; }

  SymbolTable table;
  std::vector<Fact> facts;
};

Inferred infer(Host& host, const char* name, const Attrs& attrs, std::vector<Type> types, Contents first = {}) {
  std::vector<Contents> contents(types.size());
  contents[0] = std::move(first);
  std::vector<const Type*> t;
  std::vector<const Contents*> k;
  for (size_t i = 0; i < types.size(); ++i) t.push_back(&types[i]), k.push_back(&contents[i]);
  return infer_op(op_named(name), attrs, t, k, 1, host);
}

TEST(Cast, TruncatesWrapsAndTests) {
  const Tensor x = reals(DType::f32, {5}, {-1.9, 2.9, 0, 300, NAN});
  EXPECT_EQ(evaluate("Cast", CastAttrs{.to = DType::i32}, {x}).to_integers(), (Integers{-1, 2, 0, 300, 0}));
  EXPECT_EQ(evaluate("Cast", CastAttrs{.to = DType::u8}, {x}).to_integers(), (Integers{255, 2, 0, 44, 0}));
  EXPECT_EQ(evaluate("Cast", CastAttrs{.to = DType::boolean}, {x}).to_integers(), (Integers{1, 1, 0, 1, 1}));
  const Tensor wide = Tensor::vector_i64(Integers{200, -1});
  EXPECT_EQ(evaluate("Cast", CastAttrs{.to = DType::i8}, {wide}).to_integers(), (Integers{-56, -1}));
  EXPECT_EQ(evaluate("Cast", CastAttrs{.to = DType::u4}, {wide}).to_integers(), (Integers{8, 15}));
  EXPECT_EQ(evaluate("Cast", CastAttrs{.to = DType::i2}, {wide}).to_integers(), (Integers{0, -1}));
}

TEST(Cast, SaturatesNarrowFloats) {
  const Tensor x = reals(DType::f32, {3}, {1e6, -INFINITY, 1});
  const auto cast_to = [&](DType to, bool saturate) {
    return evaluate("Cast", CastAttrs{.to = to, .saturate = saturate}, {x}).to_reals();
  };
  EXPECT_EQ(cast_to(DType::f8e4m3fn, true), (std::vector<double>{448, -448, 1}));
  EXPECT_TRUE(std::isnan(cast_to(DType::f8e4m3fn, false)[0]));
  EXPECT_EQ(cast_to(DType::f8e5m2, true), (std::vector<double>{57344, -57344, 1}));
  EXPECT_EQ(cast_to(DType::f8e5m2, false), (std::vector<double>{INFINITY, -INFINITY, 1}));
  EXPECT_EQ(cast_to(DType::f4e2m1, true), (std::vector<double>{6, -6, 1}));
  EXPECT_EQ(cast_to(DType::f16, true), (std::vector<double>{INFINITY, -INFINITY, 1}));
}

TEST(Cast, PowersOfTwoRoundAsTold) {
  const Tensor x = reals(DType::f32, {3}, {1.25, 1.5, 0});
  const auto cast_to = [&](RoundMode mode, bool saturate) {
    return evaluate("Cast", CastAttrs{.to = DType::f8e8m0, .saturate = saturate, .round = mode}, {x}).to_reals();
  };
  EXPECT_EQ(cast_to(RoundMode::up, true)[0], 2);
  EXPECT_EQ(cast_to(RoundMode::down, true)[1], 1);
  EXPECT_EQ(cast_to(RoundMode::nearest, true)[0], 1);
  EXPECT_EQ(cast_to(RoundMode::nearest, true)[1], 2);
  EXPECT_EQ(cast_to(RoundMode::up, true)[2], std::ldexp(1.0, -127));
  EXPECT_TRUE(std::isnan(cast_to(RoundMode::nearest, false)[2]));
}

TEST(Cast, Strings) {
  Tensor text(DType::string, {3});
  text.strings()[0] = "3.5";
  text.strings()[1] = "-INF";
  text.strings()[2] = "1e3";
  EXPECT_EQ(evaluate("Cast", CastAttrs{.to = DType::f32}, {text}).to_reals(),
            (std::vector<double>{3.5, -INFINITY, 1000}));
  const Tensor printed = evaluate("Cast", CastAttrs{.to = DType::string}, {reals(DType::f32, {2}, {0.1, NAN})});
  EXPECT_EQ(printed.strings()[0], "0.1");
  EXPECT_EQ(printed.strings()[1], "NaN");
  text.strings()[0] = "Hello";
  EXPECT_THROW(evaluate("Cast", CastAttrs{.to = DType::f32}, {text}), Error);
}

TEST(Cast, KeepsShapesAsSymbols) {
  Host host;
  const Dim b = Dim::symbol(host.table.add({.name = "B"}));
  const Type vector = Type::tensor(DType::i64, Shape{2});
  const Contents shape = std::vector<Dim>{b, 4 * b};
  const Inferred narrow = infer(host, "Cast", CastAttrs{.to = DType::i32}, {vector}, shape);
  EXPECT_EQ(narrow.types[0], Type::tensor(DType::i32, Shape{2}));
  EXPECT_EQ(std::get<std::vector<Dim>>(narrow.contents[0]), (std::vector<Dim>{b, 4 * b}));
  ASSERT_EQ(host.facts.size(), 2u);  // both fit 32 bits, checked when shapes are bound
  EXPECT_EQ(host.facts[0].kind, Fact::Kind::at_least);
  const Inferred tiny = infer(host, "Cast", CastAttrs{.to = DType::u8}, {vector}, shape);
  EXPECT_TRUE(std::holds_alternative<std::monostate>(tiny.contents[0]));
  const Inferred real = infer(host, "Cast", CastAttrs{.to = DType::f32}, {vector}, shape);
  EXPECT_TRUE(std::holds_alternative<std::monostate>(real.contents[0]));
  const Inferred wrapped =
      infer(host, "Cast", CastAttrs{.to = DType::i8}, {vector}, Tensor::vector_i64(Integers{200, 1}));
  EXPECT_EQ(std::get<Tensor>(wrapped.contents[0]).to_integers(), (Integers{-56, 1}));
}

TEST(Cast, UnknownRankKeepsTheDtype) {
  Host host;
  const Inferred out = infer(host, "Cast", CastAttrs{.to = DType::f16}, {Type::tensor(DType::f32, std::nullopt)});
  EXPECT_EQ(out.types[0], Type::tensor(DType::f16, std::nullopt));
}

TEST(BitCast, KeepsBitsAndRefusesOtherSizes) {
  const Tensor x = reals(DType::f32, {2}, {1, -0.0});
  EXPECT_EQ(evaluate("BitCast", BitCastAttrs{.to = DType::i32}, {x}).to_integers(), (Integers{0x3f800000, INT32_MIN}));
  EXPECT_THROW(evaluate("BitCast", BitCastAttrs{.to = DType::f64}, {x}), Error);
  EXPECT_THROW(evaluate("BitCast", BitCastAttrs{.to = DType::string}, {x}), Error);
  const std::vector<uint8_t> bytes = {0, 1, 7};
  const Tensor flags =
      evaluate("BitCast", BitCastAttrs{.to = DType::boolean}, {Tensor::of<uint8_t>(DType::u8, {3}, bytes)});
  EXPECT_EQ(flags.as<uint8_t>()[2], 1);
}

TEST(QuantizeLinear, PerTensor) {
  const Tensor x = reals(DType::f32, {8}, {0, 2, 3, 1000, -254, -1000, 1, NAN});
  const Tensor scale = Tensor::scalar(DType::f32, 2);
  const Tensor zero = Tensor::scalar(DType::u8, 128);
  const Tensor y = evaluate("QuantizeLinear", QuantizeAttrs{.to = DType::u8}, {x, scale, zero});
  EXPECT_EQ(y.to_integers(), (Integers{128, 129, 130, 255, 1, 0, 128, 128}));  // 1.5 → 2, 0.5 → 0
  const Tensor signed_y = evaluate("QuantizeLinear", QuantizeAttrs{.to = DType::i4}, {x, scale});
  EXPECT_EQ(signed_y.to_integers(), (Integers{0, 1, 2, 7, -8, -8, 0, 0}));
  const Tensor two_bits = evaluate("QuantizeLinear", QuantizeAttrs{.to = DType::u2}, {x, scale});
  EXPECT_EQ(two_bits.to_integers(), (Integers{0, 1, 2, 3, 0, 0, 0, 0}));
}

TEST(QuantizeLinear, DividesInThePrecisionOfTheScale) {
  // 0.35f / 0.1f is 3.5 in f32 and a little less in f64.
  const Tensor x = reals(DType::f32, {1}, {0.35});
  const Tensor y = evaluate("QuantizeLinear", QuantizeAttrs{.to = DType::i8}, {x, Tensor::scalar(DType::f32, 0.1)});
  EXPECT_EQ(y.get_integer(0), static_cast<int64_t>(std::nearbyint(0.35f / 0.1f)));
  const Tensor exact = evaluate("QuantizeLinear", QuantizeAttrs{.to = DType::i8},
                                {x, Tensor::scalar(DType::f64, static_cast<double>(0.1f))});
  EXPECT_EQ(exact.get_integer(0),
            static_cast<int64_t>(std::nearbyint(static_cast<double>(0.35f) / static_cast<double>(0.1f))));
}

TEST(QuantizeLinear, PerAxisAndBlocks) {
  const Tensor x = reals(DType::f32, {2, 3}, {1, 2, 3, 4, 5, 6});
  const Tensor scale = reals(DType::f32, {3}, {1, 2, 3});
  EXPECT_EQ(evaluate("QuantizeLinear", QuantizeAttrs{.axis = -1, .to = DType::i8}, {x, scale}).to_integers(),
            (Integers{1, 1, 1, 4, 2, 2}));
  const Tensor rows = reals(DType::f32, {2}, {1, 0.5});
  EXPECT_EQ(evaluate("QuantizeLinear", QuantizeAttrs{.axis = 0, .to = DType::i8}, {x, rows}).to_integers(),
            (Integers{1, 2, 3, 8, 10, 12}));
  const Tensor blocks = reals(DType::f32, {2, 2}, {1, 0.5, 0.25, 1});
  EXPECT_EQ(
      evaluate("QuantizeLinear", QuantizeAttrs{.axis = 1, .block = 2, .to = DType::i8}, {x, blocks}).to_integers(),
      (Integers{1, 2, 6, 16, 20, 6}));
  EXPECT_THROW(evaluate("QuantizeLinear", QuantizeAttrs{.axis = 1, .block = 1, .to = DType::i8}, {x, blocks}), Error);
  EXPECT_THROW(evaluate("QuantizeLinear", QuantizeAttrs{.axis = 1, .to = DType::i8}, {x, blocks}), Error);
  EXPECT_THROW(evaluate("QuantizeLinear", QuantizeAttrs{.axis = 1, .block = -2, .to = DType::i8}, {x, blocks}), Error);
  EXPECT_THROW(evaluate("QuantizeLinear", QuantizeAttrs{.axis = 5, .to = DType::i8}, {x, scale}), Error);
  EXPECT_THROW(evaluate("QuantizeLinear", QuantizeAttrs{.axis = 0, .to = DType::i8}, {x, scale}), Error);
  EXPECT_THROW(evaluate("QuantizeLinear", QuantizeAttrs{.to = DType::i64}, {x, Tensor::scalar(DType::f32, 1)}), Error);
}

TEST(QuantizeLinear, ZeroScaleSaturatesAndEmptyIsEmpty) {
  const Tensor x = reals(DType::f32, {3}, {1, -1, 0});
  const Tensor y = evaluate("QuantizeLinear", QuantizeAttrs{.to = DType::i8}, {x, Tensor::scalar(DType::f32, 0)});
  EXPECT_EQ(y.to_integers(), (Integers{127, -128, 0}));
  const Tensor none = evaluate("QuantizeLinear", QuantizeAttrs{.axis = 0, .to = DType::i8},
                               {Tensor(DType::f32, {0, 4}), Tensor(DType::f32, {0})});
  EXPECT_EQ(none.dims(), (Dims{0, 4}));
}

TEST(QuantizeLinear, NarrowFloats) {
  const Tensor x = reals(DType::f32, {3}, {1, 1000, -3.3});
  const Tensor scale = Tensor::scalar(DType::f32, 2);
  EXPECT_EQ(evaluate("QuantizeLinear", QuantizeAttrs{.to = DType::f8e4m3fn}, {x, scale}).to_reals(),
            (std::vector<double>{0.5, 448, -1.625}));
  EXPECT_TRUE(std::isnan(
      evaluate("QuantizeLinear", QuantizeAttrs{.to = DType::f8e4m3fn, .saturate = false}, {x, scale}).get_real(1)));
  EXPECT_EQ(evaluate("QuantizeLinear", QuantizeAttrs{.to = DType::f4e2m1}, {x, scale}).to_reals(),
            (std::vector<double>{0.5, 6, -1.5}));
}

TEST(DequantizeLinear, AllGranularities) {
  Tensor x(DType::i4, {2, 2});
  for (int64_t i = 0; i < 4; ++i) x.set_integer(i, i - 3);
  const Tensor zero = reals(DType::i4, {}, {-1});
  EXPECT_EQ(evaluate("DequantizeLinear", DequantizeAttrs{}, {x, Tensor::scalar(DType::f32, 0.5), zero}).to_reals(),
            (std::vector<double>{-1, -0.5, 0, 0.5}));
  EXPECT_EQ(evaluate("DequantizeLinear", DequantizeAttrs{.axis = 0}, {x, reals(DType::f32, {2}, {1, 10})}).to_reals(),
            (std::vector<double>{-3, -2, -10, 0}));
  EXPECT_EQ(
      evaluate("DequantizeLinear", DequantizeAttrs{.axis = 0, .block = 2}, {x, reals(DType::f32, {1, 2}, {1, 10})})
          .to_reals(),
      (std::vector<double>{-3, -20, -1, 0}));
  const Tensor half =
      evaluate("DequantizeLinear", DequantizeAttrs{.to = DType::f16}, {x, Tensor::scalar(DType::f16, 2)});
  EXPECT_EQ(half.dtype(), DType::f16);
  EXPECT_THROW(
      evaluate("DequantizeLinear", DequantizeAttrs{}, {x, Tensor::scalar(DType::f32, 1), Tensor::scalar(DType::u8, 0)}),
      Error);
  EXPECT_THROW(
      evaluate("DequantizeLinear", DequantizeAttrs{}, {reals(DType::f32, {1}, {1}), Tensor::scalar(DType::f32, 1)}),
      Error);
}

TEST(Quantization, SymbolicBlocks) {
  Host host;
  const Dim n = Dim::symbol(host.table.add({.name = "N"}));
  const Inferred out =
      infer(host, "QuantizeLinear", QuantizeAttrs{.axis = 0, .block = 4},
            {Type::tensor(DType::f32, Shape{n, 3}), Type::tensor(DType::f32, Shape{ceildiv(n, 4), 3})});
  EXPECT_EQ(out.types[0], Type::tensor(DType::u8, Shape{n, 3}));
  EXPECT_TRUE(host.facts.empty());
  infer(host, "QuantizeLinear", QuantizeAttrs{.axis = 0},
        {Type::tensor(DType::f32, Shape{n, 3}), Type::tensor(DType::f32, Shape{7})});
  ASSERT_EQ(host.facts.size(), 1u);
  EXPECT_EQ(host.facts[0].kind, Fact::Kind::equal);
}

}  // namespace
}  // namespace sinter
