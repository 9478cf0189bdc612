// Pointwise operators: one row with one expression each. Greater and GreaterOrEqual are Less and LessOrEqual with
// swapped operands.

#include "ops/pointwise.h"

#include "ops/families.h"
#include "ops/op.h"

namespace sinter {

const Fields& fields_of(const ModAttrs*) {
  static const Fields f = describe<ModAttrs>({field<&ModAttrs::fmod>("fmod")});
  return f;
}

const Fields& fields_of(const IsInfAttrs*) {
  static const Fields f =
      describe<IsInfAttrs>({field<&IsInfAttrs::positive>("positive"), field<&IsInfAttrs::negative>("negative")});
  return f;
}

const Fields& fields_of(const LeakyReluAttrs*) {
  static const Fields f = describe<LeakyReluAttrs>({field<&LeakyReluAttrs::alpha>("alpha")});
  return f;
}

const Fields& fields_of(const EluAttrs*) {
  static const Fields f = describe<EluAttrs>({field<&EluAttrs::alpha>("alpha")});
  return f;
}

const Fields& fields_of(const SeluAttrs*) {
  static const Fields f = describe<SeluAttrs>({field<&SeluAttrs::alpha>("alpha"), field<&SeluAttrs::gamma>("gamma")});
  return f;
}

const Fields& fields_of(const ThresholdedReluAttrs*) {
  static const Fields f = describe<ThresholdedReluAttrs>({field<&ThresholdedReluAttrs::alpha>("alpha")});
  return f;
}

const Fields& fields_of(const HardSigmoidAttrs*) {
  static const Fields f =
      describe<HardSigmoidAttrs>({field<&HardSigmoidAttrs::alpha>("alpha"), field<&HardSigmoidAttrs::beta>("beta")});
  return f;
}

const Fields& fields_of(const SwishAttrs*) {
  static const Fields f = describe<SwishAttrs>({field<&SwishAttrs::alpha>("alpha")});
  return f;
}

const Fields& fields_of(const ClipAttrs*) {
  static const Fields f = describe<ClipAttrs>({field<&ClipAttrs::low>("low"), field<&ClipAttrs::high>("high")});
  return f;
}

namespace {

constexpr Op unary(const char* name, const char* expression) { return {.name = name, .pointwise = expression}; }

template <typename S>
constexpr Op unary_with(const char* name, const char* expression) {
  return {.name = name, .fields = fields<S>, .pointwise = expression};
}

constexpr Op binary(const char* name, const char* expression) {
  return {.name = name, .inputs = {2, 2}, .pointwise = expression};
}

constexpr Op commutative(Op op) {
  op.is.commutative = true;
  return op;
}

// The result is bool, whatever the operands are.
constexpr Op truth(Op op) {
  op.result = ResultType::boolean;
  return op;
}

constexpr Op table[] = {
    commutative(binary("Add", "x + y")),
    binary("Sub", "x - y"),
    commutative(binary("Mul", "x * y")),
    binary("Div", "x / y"),
    {.name = "Mod", .fields = fields<ModAttrs>, .inputs = {2, 2}, .pointwise = "select(fmod, fmod(x, y), x % y)"},
    binary("Pow", "pow(x, y)"),
    commutative(binary("Min", "min(x, y)")),
    commutative(binary("Max", "max(x, y)")),

    unary("Neg", "-x"),
    unary("Abs", "abs(x)"),
    unary("Sign", "sign(x)"),
    unary("Floor", "floor(x)"),
    unary("Ceil", "ceil(x)"),
    unary("Round", "round(x)"),
    unary("Sqrt", "sqrt(x)"),
    unary("Reciprocal", "reciprocal(x)"),
    unary("Exp", "exp(x)"),
    unary("Log", "log(x)"),
    unary("Sin", "sin(x)"),
    unary("Cos", "cos(x)"),
    unary("Tan", "tan(x)"),
    unary("Asin", "asin(x)"),
    unary("Acos", "acos(x)"),
    unary("Atan", "atan(x)"),
    unary("Sinh", "sinh(x)"),
    unary("Cosh", "cosh(x)"),
    unary("Tanh", "tanh(x)"),
    unary("Asinh", "asinh(x)"),
    unary("Acosh", "acosh(x)"),
    unary("Atanh", "atanh(x)"),
    unary("Erf", "erf(x)"),
    unary("Sigmoid", "sigmoid(x)"),

    truth(unary("IsNaN", "is_nan(x)")),
    truth(unary_with<IsInfAttrs>("IsInf", "is_inf(x) && select(x < 0, negative, positive)")),
    truth(unary("Not", "!x")),
    unary("BitNot", "bit_not(x)"),
    truth(commutative(binary("Equal", "x == y"))),
    truth(binary("Less", "x < y")),
    truth(binary("LessOrEqual", "x <= y")),
    truth(commutative(binary("And", "x && y"))),
    truth(commutative(binary("Or", "x || y"))),
    truth(commutative(binary("Xor", "logical_xor(x, y)"))),
    commutative(binary("BitAnd", "bit_and(x, y)")),
    commutative(binary("BitOr", "bit_or(x, y)")),
    commutative(binary("BitXor", "bit_xor(x, y)")),
    binary("ShiftLeft", "shift_left(x, y)"),
    binary("ShiftRight", "shift_right(x, y)"),
    {.name = "Where", .inputs = {3, 3}, .pointwise = "select(x, y, z)", .result = ResultType::like_y},

    unary("Relu", "max(x, 0)"),
    unary_with<LeakyReluAttrs>("LeakyRelu", "select(x < 0, alpha * x, x)"),
    binary("PRelu", "select(x < 0, y * x, x)"),
    unary_with<EluAttrs>("Elu", "select(x < 0, alpha * expm1(x), x)"),
    unary_with<SeluAttrs>("Selu", "gamma * select(x <= 0, alpha * expm1(x), x)"),
    unary_with<ThresholdedReluAttrs>("ThresholdedRelu", "select(x > alpha, x, 0)"),
    unary_with<HardSigmoidAttrs>("HardSigmoid", "max(0, min(1, alpha * x + beta))"),
    unary("Mish", "x * tanh(max(x, 0) + log1p(exp(-abs(x))))"),
    unary("Softsign", "x / (1 + abs(x))"),
    unary("Softplus", "max(x, 0) + log1p(exp(-abs(x)))"),
    unary("Gelu", "0.5 * x * (1 + erf(x * 0.70710678118654752440))"),
    unary("GeluTanh", "0.5 * x * (1 + tanh(0.79788456080286535588 * (x + 0.044715 * x * x * x)))"),
    unary_with<SwishAttrs>("Swish", "x * sigmoid(alpha * x)"),
    unary_with<ClipAttrs>("Clip", "min(max(x, low), high)"),
};

}  // namespace

std::span<const Op> pointwise_ops() { return table; }

}  // namespace sinter
