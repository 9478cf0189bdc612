#include "ops/integer_product.h"

#include <fmt/format.h>

#include "ops/cast.h"
#include "ops/contraction.h"
#include "ops/op.h"

namespace sinter {
namespace {

// Operand `input` is of bytes and its zero point, if there is one, fits it.
void check_bytes(InferContext& c, size_t input) {
  const DType dtype = c.dtype(input);
  if (dtype != DType::u8 && dtype != DType::i8)
    c.fail(fmt::format("operand {} is {}, it must be u8 or i8", input, dtype_name(dtype)));
  const size_t zero = input + 2;
  if (!c.has(zero)) return;
  if (c.dtype(zero) != dtype)
    c.fail(fmt::format("the zero point of operand {} is {}, the operand {}: they must be equal", input,
                       dtype_name(c.dtype(zero)), dtype_name(dtype)));
  const Shape &x = c.shape(input), &z = c.shape(zero);
  if (z.size() > x.size())
    c.fail(fmt::format("the zero point of operand {} has rank {}, the operand {}", input, z.size(), x.size()));
  for (size_t k = 0; k < z.size(); ++k)
    if (!(z[k] == Dim(1))) c.require_equal(z[k], x[x.size() - z.size() + k], "zero point and operand");
}

// The result type of another operator on operands of i32.
void infer_as(InferContext& c, const char* name, const Attrs& attrs) {
  c.set(0, DType::i32);
  for (size_t i = 0; i < 2; ++i) check_bytes(c, i);
  const Type a = Type::tensor(DType::i32, c.shape(0)), b = Type::tensor(DType::i32, c.shape(1));
  const Type* const inputs[] = {&a, &b};
  const Contents* const contents[] = {nullptr, nullptr};
  const Op& op = op_named(name);
  InferContext inner(op, attrs, inputs, contents, 1, c.host);
  op.infer(inner);
  c.set(0, inner.results[0]);
}

Box centered(const EvalContext& c, size_t input) {
  const Attrs to_i32 = CastAttrs{.to = DType::i32};
  const auto wide = [&](size_t i) {
    const Box* const operand[] = {&c.box(i)};
    return std::move(evaluate_op(op_named("Cast"), to_i32, operand, 1)[0]);
  };
  Box x = wide(input);
  if (!c.has(input + 2)) return x;
  const Box zero = wide(input + 2);
  const Box* const operands[] = {&x, &zero};
  return std::move(evaluate_op(op_named("Sub"), {}, operands, 1)[0]);
}

void eval_as(EvalContext& c, const char* name, const Attrs& attrs) {
  const Box a = centered(c, 0), b = centered(c, 1);
  const Box* const operands[] = {&a, &b};
  c.outputs[0] = std::move(evaluate_op(op_named(name), attrs, operands, 1)[0]);
}

}  // namespace

void infer_matmul_integer(InferContext& c) { infer_as(c, "MatMul", MatMulAttrs{}); }
void eval_matmul_integer(EvalContext& c) { eval_as(c, "MatMul", MatMulAttrs{}); }

void infer_conv_integer(InferContext& c) { infer_as(c, "Conv", c.raw_attrs()); }
void eval_conv_integer(EvalContext& c) { eval_as(c, "Conv", c.raw_attrs()); }

}  // namespace sinter
