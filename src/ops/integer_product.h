// Products of 8-bit integers with zero points, exact and accumulated in i32, as ONNX has them:
//
// MatMulInteger(a, b, a_zero?, b_zero?) = MatMul(a - a_zero, b - b_zero) · ConvInteger(x, w, x_zero?, w_zero?), with
// Conv's attributes; padding is x_zero. Zero points broadcast against their operand without making it larger. Rows
// stand with the other contractions.
#pragma once

namespace sinter {

class InferContext;
class EvalContext;

void infer_matmul_integer(InferContext& c);
void eval_matmul_integer(EvalContext& c);
void infer_conv_integer(InferContext& c);
void eval_conv_integer(EvalContext& c);

}  // namespace sinter
