// Inference and evaluation of Conv and ConvTranspose, and what the deformable convolution shares with them; their rows
// stand with the other contractions.
#pragma once

#include "ops/contraction.h"
#include "ops/op.h"

namespace sinter {

// Checks ranks and dtypes of x, w and the optional bias, and that groups divide channels. `outputs` is the number of
// result channels; `w_inputs` the channels that w says x has.
void check_channels(InferContext& c, int64_t group, const Dim& w_inputs, const Dim& outputs, size_t bias);
// All operands in [first, inputs) that are present must have operand 0's dtype, a float or an integer.
void check_dtypes(InferContext& c, std::initializer_list<size_t> operands);
// The dtype of a contraction's result. Operands 0, 1 and `others` have one dtype, or operand 0 is held in bf16 or f16
// and all others are f32, as is the result.
DType check_factors(InferContext& c, std::initializer_list<size_t> others);

// Padding before each spatial axis of ConvTranspose for concrete extents; what the result loses at its start. May be
// negative.
std::vector<int64_t> transposed_before(const ConvTransposeAttrs& a, const Dims& in, const Dims& kernel);

void infer_conv(InferContext& c);
void eval_conv(EvalContext& c);
void infer_conv_transpose(InferContext& c);
void eval_conv_transpose(EvalContext& c);
Cost conv_cost(const Attrs& attrs, std::span<const Type> inputs, std::span<const Type> outputs,
               std::span<const int64_t> symbols);

}  // namespace sinter
