#include "ops/scalar.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "base/error.h"
#include "ops/op.h"
#include "ops/pointwise.h"

namespace sinter {
namespace {

constexpr double inf = std::numeric_limits<double>::infinity();
const double nan_value = std::nan("");

double run(const Scalar& scalar, std::vector<double> operands) {
  std::vector<double> v;
  for (const ScalarNode& n : scalar.nodes) {
    if (n.op == ScalarOp::input)
      v.push_back(operands.at(n.index));
    else if (n.op == ScalarOp::constant)
      v.push_back(n.value);
    else
      v.push_back(scalar_real(n.op, v.at(n.a), v.at(n.b), v.at(n.c)));
  }
  return v.back();
}

double run(const char* text, std::vector<double> operands = {}) { return run(parse_scalar(text, nullptr), operands); }

int64_t integer(ScalarOp op, int64_t a, int64_t b = 0, bool is_unsigned = false, int bits = 64) {
  return scalar_integer(op, a, b, 0, is_unsigned, bits);
}

std::vector<Tensor> evaluate(const char* name, const Attrs& attrs, std::vector<Tensor> tensors) {
  std::vector<Box> boxes;
  for (Tensor& t : tensors) boxes.emplace_back(std::move(t));
  std::vector<const Box*> pointers;
  for (const Box& b : boxes) pointers.push_back(&b);
  std::vector<Tensor> out;
  for (Box& b : evaluate_op(op_named(name), attrs, pointers, 1)) out.push_back(std::move(b.tensor));
  return out;
}

Tensor f32(Dims dims, std::vector<float> values) { return Tensor::of<float>(DType::f32, std::move(dims), values); }

TEST(ScalarParser, PrecedenceAndAssociation) {
  EXPECT_EQ(run("1 + 2 * 3"), 7);
  EXPECT_EQ(run("(1 + 2) * 3"), 9);
  EXPECT_EQ(run("10 - 4 - 3"), 3);
  EXPECT_EQ(run("24 / 4 / 2"), 3);
  EXPECT_EQ(run("-2 * -3"), 6);
  EXPECT_EQ(run("-x * 2", {4}), -8);
  EXPECT_EQ(run("1 + 1 < 3"), 1);
  EXPECT_EQ(run("1 < 2 && 2 < 1"), 0);
  EXPECT_EQ(run("1 || 0 && 0"), 1);  // && first
  EXPECT_EQ(run("!0 + 1"), 2);
  EXPECT_EQ(run("7 % 4"), 3);
  EXPECT_EQ(run("2.5e1"), 25);
  EXPECT_EQ(run("-inf"), -inf);
}

TEST(ScalarParser, Comparisons) {
  EXPECT_EQ(run("x > y", {2, 1}), 1);
  EXPECT_EQ(run("x > y", {1, 2}), 0);
  EXPECT_EQ(run("x >= y", {2, 2}), 1);
  EXPECT_EQ(run("x <= y", {3, 2}), 0);
  EXPECT_EQ(run("x != y", {3, 2}), 1);
  EXPECT_EQ(run("x == y", {3, 3}), 1);
  for (const char* text : {"x < y", "x > y", "x <= y", "x >= y", "x == y"}) EXPECT_EQ(run(text, {nan_value, 1}), 0);
  EXPECT_EQ(run("x != y", {nan_value, nan_value}), 1);
}

TEST(ScalarParser, OperandsAndSharing) {
  const Scalar s = parse_scalar("x * x + z * z", nullptr);
  EXPECT_EQ(s.operands, 3);
  EXPECT_EQ(s.nodes.size(), 5u);  // x, x*x, z, z*z, +
  EXPECT_EQ(s.nodes.back().op, ScalarOp::add);
  EXPECT_EQ(parse_scalar("y", nullptr).nodes.size(), 1u);
}

TEST(ScalarParser, BadTextsAreInternalErrors) {
  for (const char* text :
       {"", "x +", "(x", "x)", "foo(x)", "min(x)", "min(x, y, z)", "alpha", "x y", "1 +* 2", "input(x)"}) {
    try {
      parse_scalar(text, nullptr);
      ADD_FAILURE() << text << " was taken";
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), Code::internal) << text;
    }
  }
}

TEST(ScalarParser, Attributes) {
  const Scalar s = parse_scalar("select(x < 0, alpha * x, x)", fields<LeakyReluAttrs>());
  const Scalar known = with_attributes(s, LeakyReluAttrs{.alpha = 0.5});
  EXPECT_EQ(run(known, {-4}), -2);
  EXPECT_EQ(run(known, {3}), 3);
  for (const ScalarNode& n : known.nodes) EXPECT_NE(n.op, ScalarOp::attribute);
}

TEST(ScalarParser, FlagsDecideSelect) {
  const Scalar s = parse_scalar("select(fmod, fmod(x, y), x % y)", fields<ModAttrs>());
  const Scalar c_style = with_attributes(s, ModAttrs{.fmod = true});
  const Scalar python_style = with_attributes(s, ModAttrs{.fmod = false});
  EXPECT_EQ(c_style.nodes.size(), 3u);
  EXPECT_EQ(c_style.nodes.back().op, ScalarOp::fmod);
  EXPECT_EQ(python_style.nodes.size(), 3u);
  EXPECT_EQ(python_style.nodes.back().op, ScalarOp::mod);
  EXPECT_EQ(run(c_style, {-7, 3}), -1);
  EXPECT_EQ(run(python_style, {-7, 3}), 2);
  EXPECT_EQ(run(python_style, {7, -3}), -2);
}

TEST(ScalarNames, AreUniqueAndHaveArities) {
  for (int i = 0; i <= static_cast<int>(ScalarOp::select); ++i)
    for (int j = 0; j < i; ++j)
      EXPECT_STRNE(scalar_op_name(static_cast<ScalarOp>(i)), scalar_op_name(static_cast<ScalarOp>(j)));
  EXPECT_STREQ(scalar_op_name(ScalarOp::shift_right), "shift_right");
  EXPECT_EQ(scalar_arity(ScalarOp::input), 0);
  EXPECT_EQ(scalar_arity(ScalarOp::tanh), 1);
  EXPECT_EQ(scalar_arity(ScalarOp::less_equal), 2);
  EXPECT_EQ(scalar_arity(ScalarOp::select), 3);
}

TEST(ScalarReal, MinMaxPropagateNaN) {
  for (const ScalarOp op : {ScalarOp::min, ScalarOp::max}) {
    EXPECT_TRUE(std::isnan(scalar_real(op, nan_value, 1, 0)));
    EXPECT_TRUE(std::isnan(scalar_real(op, 1, nan_value, 0)));
    EXPECT_FALSE(std::isnan(scalar_real(op, -inf, inf, 0)));
  }
  EXPECT_EQ(scalar_real(ScalarOp::min, 2, -1, 0), -1);
  EXPECT_EQ(scalar_real(ScalarOp::max, 2, -1, 0), 2);
  EXPECT_TRUE(std::signbit(scalar_real(ScalarOp::min, 0.0, -0.0, 0)));
  EXPECT_FALSE(std::signbit(scalar_real(ScalarOp::max, -0.0, 0.0, 0)));
}

TEST(ScalarReal, RoundsHalfToEven) {
  const double cases[][2] = {{0.5, 0},       {1.5, 2},   {2.5, 2},     {-0.5, -0.0},
                             {-1.5, -2},     {-2.5, -2}, {2.3, 2},     {-2.7, -3},
                             {1e300, 1e300}, {inf, inf}, {-inf, -inf}, {4503599627370497.5, 4503599627370498}};
  for (const auto& [x, y] : cases) EXPECT_EQ(scalar_real(ScalarOp::round, x, 0, 0), y) << x;
  EXPECT_TRUE(std::signbit(scalar_real(ScalarOp::round, -0.25, 0, 0)));
  EXPECT_TRUE(std::isnan(scalar_real(ScalarOp::round, nan_value, 0, 0)));
}

TEST(ScalarReal, SigmoidDoesNotOverflow) {
  EXPECT_EQ(scalar_real(ScalarOp::sigmoid, -1e4, 0, 0), 0);
  EXPECT_EQ(scalar_real(ScalarOp::sigmoid, 1e4, 0, 0), 1);
  EXPECT_EQ(scalar_real(ScalarOp::sigmoid, 0, 0, 0), 0.5);
  EXPECT_NEAR(scalar_real(ScalarOp::sigmoid, -2, 0, 0), 1 / (1 + std::exp(2.0)), 1e-16);
}

TEST(ScalarInteger, DivisionTruncatesAndNeverTraps) {
  EXPECT_EQ(integer(ScalarOp::div, 7, -2), -3);
  EXPECT_EQ(integer(ScalarOp::div, -7, 2), -3);
  EXPECT_EQ(integer(ScalarOp::div, 5, 0), 0);
  EXPECT_EQ(integer(ScalarOp::div, INT64_MIN, -1), INT64_MIN);
  EXPECT_EQ(integer(ScalarOp::div, -1, 2, true), INT64_MAX);  // 2^64 - 1 over 2
}

TEST(ScalarInteger, RemaindersFollowDivisorOrDividend) {
  EXPECT_EQ(integer(ScalarOp::mod, -7, 3), 2);
  EXPECT_EQ(integer(ScalarOp::mod, 7, -3), -2);
  EXPECT_EQ(integer(ScalarOp::mod, -6, 3), 0);
  EXPECT_EQ(integer(ScalarOp::fmod, -7, 3), -1);
  EXPECT_EQ(integer(ScalarOp::fmod, 7, -3), 1);
  for (const ScalarOp op : {ScalarOp::mod, ScalarOp::fmod}) {
    EXPECT_EQ(integer(op, 5, 0), 0);
    EXPECT_EQ(integer(op, INT64_MIN, -1), 0);
    EXPECT_EQ(integer(op, -1, 10, true), 5);  // 18446744073709551615
  }
}

TEST(ScalarInteger, PowerWraps) {
  EXPECT_EQ(integer(ScalarOp::pow, 3, 4), 81);
  EXPECT_EQ(integer(ScalarOp::pow, -2, 3), -8);
  EXPECT_EQ(integer(ScalarOp::pow, 0, 0), 1);
  EXPECT_EQ(integer(ScalarOp::pow, 2, 64), 0);
  EXPECT_EQ(integer(ScalarOp::pow, 2, 63), INT64_MIN);
  EXPECT_EQ(integer(ScalarOp::pow, 5, -1), 0);
  EXPECT_EQ(integer(ScalarOp::pow, 0, -1), 0);
  EXPECT_EQ(integer(ScalarOp::pow, 1, -5), 1);
  EXPECT_EQ(integer(ScalarOp::pow, -1, -5), -1);
  EXPECT_EQ(integer(ScalarOp::pow, -1, -4), 1);
  EXPECT_EQ(integer(ScalarOp::pow, -1, INT64_MIN), 1);
}

TEST(ScalarInteger, WrapsAndCompares) {
  EXPECT_EQ(integer(ScalarOp::add, INT64_MAX, 1), INT64_MIN);
  EXPECT_EQ(integer(ScalarOp::sub, INT64_MIN, 1), INT64_MAX);
  EXPECT_EQ(integer(ScalarOp::neg, INT64_MIN), INT64_MIN);
  EXPECT_EQ(integer(ScalarOp::abs, INT64_MIN), INT64_MIN);
  EXPECT_EQ(integer(ScalarOp::abs, -3), 3);
  EXPECT_EQ(integer(ScalarOp::less, -1, 1), 1);
  EXPECT_EQ(integer(ScalarOp::less, -1, 1, true), 0);
  EXPECT_EQ(integer(ScalarOp::max, -1, 1, true), -1);
  EXPECT_EQ(integer(ScalarOp::min, -1, 1), -1);
  EXPECT_EQ(integer(ScalarOp::sign, -9), -1);
  EXPECT_EQ(integer(ScalarOp::sign, -9, 0, true), 1);
  EXPECT_EQ(integer(ScalarOp::less_equal, 4, 4), 1);
}

TEST(ScalarInteger, OverLongShiftsAreZero) {
  EXPECT_EQ(integer(ScalarOp::shift_left, 1, 63), INT64_MIN);
  EXPECT_EQ(integer(ScalarOp::shift_left, 1, 64), 0);
  EXPECT_EQ(integer(ScalarOp::shift_left, 1, -1), 0);
  EXPECT_EQ(integer(ScalarOp::shift_right, -8, 1), -4);
  EXPECT_EQ(integer(ScalarOp::shift_right, -8, 1, true), INT64_MAX - 3);
  EXPECT_EQ(integer(ScalarOp::shift_right, 255, 8, true, 8), 0);
  EXPECT_EQ(integer(ScalarOp::shift_right, -1, 8, false, 8), 0);
  EXPECT_EQ(integer(ScalarOp::shift_right, -1, 7, false, 8), -1);
}

TEST(Pointwise, BroadcastsAndRounds) {
  const Tensor out = evaluate("Add", {}, {f32({2, 1}, {1, 10}), f32({3}, {1, 2, 3})})[0];
  EXPECT_EQ(out.dims(), (Dims{2, 3}));
  EXPECT_EQ(out.to_reals(), (std::vector<double>{2, 3, 4, 11, 12, 13}));
  EXPECT_EQ(evaluate("Add", {}, {f32({0, 2}, {}), f32({2}, {1, 2})})[0].dims(), (Dims{0, 2}));
}

TEST(Pointwise, Activations) {
  const Tensor x = f32({4}, {-2, -0.5, 0, 3});
  const auto values = [&](const char* name, const Attrs& attrs) { return evaluate(name, attrs, {x})[0].to_reals(); };
  EXPECT_EQ(values("Relu", {}), (std::vector<double>{0, 0, 0, 3}));
  EXPECT_EQ(values("LeakyRelu", LeakyReluAttrs{.alpha = 0.5}), (std::vector<double>{-1, -0.25, 0, 3}));
  EXPECT_EQ(values("ThresholdedRelu", ThresholdedReluAttrs{.alpha = 2}), (std::vector<double>{0, 0, 0, 3}));
  EXPECT_EQ(values("Clip", ClipAttrs{.low = -1, .high = 1}), (std::vector<double>{-1, -0.5, 0, 1}));
  EXPECT_EQ(values("HardSigmoid", HardSigmoidAttrs{.alpha = 0.5, .beta = 0.5}), (std::vector<double>{0, 0.25, 0.5, 1}));
  EXPECT_NEAR(values("Elu", EluAttrs{.alpha = 2})[0], 2 * (std::exp(-2.0) - 1), 1e-7);
  EXPECT_NEAR(values("Softplus", {})[3], std::log(1 + std::exp(3.0)), 1e-6);
  EXPECT_NEAR(values("Gelu", {})[3], 2.9959502, 1e-6);
  EXPECT_NEAR(values("GeluTanh", {})[3], 2.9963627, 1e-6);
  EXPECT_NEAR(values("Swish", SwishAttrs{.alpha = 1})[0], -2 / (1 + std::exp(2.0)), 1e-7);
  EXPECT_TRUE(std::isnan(evaluate("Clip", ClipAttrs{.low = 0, .high = 1}, {f32({1}, {NAN})})[0].get_real(0)));
  EXPECT_TRUE(std::isnan(evaluate("Relu", {}, {f32({1}, {NAN})})[0].get_real(0)));
}

TEST(Pointwise, TestsOfFloats) {
  const Tensor x = f32({4}, {NAN, INFINITY, -INFINITY, 1});
  EXPECT_EQ(evaluate("IsNaN", {}, {x})[0].to_integers(), (std::vector<int64_t>{1, 0, 0, 0}));
  EXPECT_EQ(evaluate("IsInf", IsInfAttrs{}, {x})[0].to_integers(), (std::vector<int64_t>{0, 1, 1, 0}));
  EXPECT_EQ(evaluate("IsInf", IsInfAttrs{.positive = false}, {x})[0].to_integers(), (std::vector<int64_t>{0, 0, 1, 0}));
  EXPECT_EQ(evaluate("IsInf", IsInfAttrs{.negative = false}, {x})[0].to_integers(), (std::vector<int64_t>{0, 1, 0, 0}));
  EXPECT_EQ(evaluate("IsNaN", {}, {x})[0].dtype(), DType::boolean);
}

TEST(Pointwise, NarrowIntegersWrap) {
  const auto u8 = [](std::vector<uint8_t> v) {
    return Tensor::of<uint8_t>(DType::u8, {static_cast<int64_t>(v.size())}, v);
  };
  EXPECT_EQ(evaluate("Add", {}, {u8({200}), u8({100})})[0].get_integer(0), 44);
  EXPECT_EQ(evaluate("Sub", {}, {u8({1}), u8({2})})[0].get_integer(0), 255);
  EXPECT_EQ(evaluate("Div", {}, {u8({200, 7}), u8({7, 0})})[0].to_integers(), (std::vector<int64_t>{28, 0}));
  EXPECT_EQ(evaluate("BitNot", {}, {u8({5})})[0].get_integer(0), 250);
  EXPECT_EQ(evaluate("ShiftLeft", {}, {u8({255, 1}), u8({4, 9})})[0].to_integers(), (std::vector<int64_t>{240, 0}));
  EXPECT_EQ(evaluate("Less", {}, {u8({200}), u8({100})})[0].get_integer(0), 0);
  const std::vector<int8_t> low = {-128}, minus_one = {-1};
  const Tensor a = Tensor::of<int8_t>(DType::i8, {1}, low), b = Tensor::of<int8_t>(DType::i8, {1}, minus_one);
  EXPECT_EQ(evaluate("Div", {}, {a, b})[0].get_integer(0), -128);
  EXPECT_EQ(evaluate("Neg", {}, {a})[0].get_integer(0), -128);
}

TEST(Pointwise, HostileAttributesOnIntegers) {
  const std::vector<int32_t> values = {-5, 5};
  const Tensor x = Tensor::of<int32_t>(DType::i32, {2}, values);
  for (const double alpha : {1e300, -1e300, inf, -inf, nan_value})
    EXPECT_EQ(evaluate("LeakyRelu", LeakyReluAttrs{.alpha = alpha}, {x})[0].get_integer(1), 5);
}

TEST(Pointwise, WhereTakesBool) {
  const std::vector<uint8_t> mask = {1, 0};
  const Tensor condition = Tensor::of<uint8_t>(DType::boolean, {2, 1}, mask);
  const Tensor out = evaluate("Where", {}, {condition, f32({2}, {1, 2}), f32({}, {9})})[0];
  EXPECT_EQ(out.dtype(), DType::f32);
  EXPECT_EQ(out.to_reals(), (std::vector<double>{1, 2, 9, 9}));
  EXPECT_THROW(evaluate("Where", {}, {f32({2}, {1, 0}), f32({2}, {1, 2}), f32({}, {9})}), Error);
  EXPECT_THROW(evaluate("Add", {}, {f32({1}, {1}), Tensor::scalar_i64(1)}), Error);
}

TEST(Pointwise, WhereMovesAndEqualComparesStrings) {
  const auto texts = [](std::vector<std::string> v) {
    Tensor t(DType::string, {static_cast<int64_t>(v.size())});
    for (size_t i = 0; i < v.size(); ++i) t.strings()[i] = v[i];
    return t;
  };
  const std::vector<uint8_t> mask = {1, 0};
  const Tensor condition = Tensor::of<uint8_t>(DType::boolean, {2}, mask);
  const Tensor out = evaluate("Where", {}, {condition, texts({"a", "b"}), texts({"else"})})[0];
  EXPECT_TRUE(out.identical(texts({"a", "else"})));
  EXPECT_EQ(evaluate("Equal", {}, {texts({"a", "b"}), texts({"b"})})[0].to_integers(), (std::vector<int64_t>{0, 1}));
  EXPECT_THROW(evaluate("Less", {}, {texts({"a"}), texts({"b"})}), Error);
  EXPECT_THROW(evaluate("Add", {}, {texts({"a"}), texts({"b"})}), Error);
  const std::vector<float> parts = {1, 2, 3, 4};
  Tensor complex(DType::c64, {2}), zero(DType::c64, {});
  std::copy(parts.begin(), parts.end(), complex.as_mutable<float>());
  const Tensor moved = evaluate("Where", {}, {condition, zero, complex})[0];
  EXPECT_EQ(std::vector<float>(moved.as<float>(), moved.as<float>() + 4), (std::vector<float>{0, 0, 3, 4}));
  EXPECT_THROW(evaluate("Add", {}, {complex, zero}), Error);
}

TEST(Pointwise, EveryRowParsesAndFitsItsArity) {
  int rows = 0;
  for (const Op* op : all_ops()) {
    if (!op->pointwise) continue;
    ++rows;
    EXPECT_EQ(scalar_of(*op).operands, op->inputs.high) << op->name;
    EXPECT_EQ(op->inputs.low, op->inputs.high) << op->name;
    EXPECT_FALSE(op->is.commutative && op->inputs.high != 2) << op->name;
  }
  EXPECT_GE(rows, 59);
}

}  // namespace
}  // namespace sinter
