// Inference and evaluation of DFT and STFT; their rows stand with the other signal operators.
#pragma once

#include "ops/op.h"

namespace sinter {

void infer_dft(InferContext& c);
void eval_dft(EvalContext& c);
void infer_stft(InferContext& c);
void eval_stft(EvalContext& c);

// The single number that a host operand holds: known, or none. Throws for contents of another count.
std::optional<Dim> scalar_operand(InferContext& c, size_t input, const char* what);

}  // namespace sinter
