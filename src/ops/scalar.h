// Scalar expressions: what a pointwise operator computes for one element.
//
// An expression is written as text in the operator's row ("max(x, 0)", "select(x < 0, alpha * x, x)") and parsed once
// into straight-line code. Operands are x, y, z in order; other names are number or flag attributes of the operator.
// The meaning is that of the reference evaluation: floats in double, rounded once to the result's dtype; integers in
// wrapping 64 bits, as unsigned where the dtype is; x/0 and x mod 0 are 0 and over-long shifts give 0. Comparisons and
// logic give 0 or 1. Kernels get the same code and may compute f32 in f32.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/fields.h"
#include "tensor/tensor.h"

namespace sinter {

enum class ScalarOp : uint8_t {
  input,      // index: operand number
  constant,   // value
  attribute,  // index: field number; replaced by a constant when attributes are known
  // arithmetic, two operands
  add,
  sub,
  mul,
  div,
  mod,
  fmod,
  pow,
  min,
  max,
  // one operand
  neg,
  abs,
  sign,
  floor,
  ceil,
  trunc,
  round,
  sqrt,
  reciprocal,
  exp,
  expm1,
  log,
  log1p,
  sin,
  cos,
  tan,
  asin,
  acos,
  atan,
  sinh,
  cosh,
  tanh,
  asinh,
  acosh,
  atanh,
  erf,
  sigmoid,
  is_nan,
  is_inf,
  logical_not,
  bit_not,
  // comparison and logic, two operands, result 0 or 1
  equal,
  less,
  less_equal,
  logical_and,
  logical_or,
  logical_xor,
  // integers
  bit_and,
  bit_or,
  bit_xor,
  shift_left,
  shift_right,
  // three operands: a != 0 ? b : c
  select,
};

const char* scalar_op_name(ScalarOp op);
int scalar_arity(ScalarOp op);

struct ScalarNode {
  ScalarOp op;
  uint16_t a = 0, b = 0, c = 0;  // earlier nodes
  uint16_t index = 0;            // of input and attribute
  double value = 0;              // of constant
};

// Nodes in order of computation; the last one is the result.
struct Scalar {
  std::vector<ScalarNode> nodes;
  int operands = 0;
};

// Grammar: + - * / % with the usual precedence, comparisons (== != < <= > >=), && || !, parentheses, numbers, names,
// and calls of the operators above by name. min and max propagate NaN. Throws Error(Code::internal) for a bad text.
Scalar parse_scalar(std::string_view text, const Fields* fields);
// Attributes replaced by their values.
Scalar with_attributes(const Scalar& scalar, const Attrs& attrs);

// Meaning of one node on numbers.
double scalar_real(ScalarOp op, double a, double b, double c);
int64_t scalar_integer(ScalarOp op, int64_t a, int64_t b, int64_t c, bool is_unsigned, int bits);

}  // namespace sinter
