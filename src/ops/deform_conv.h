// Inference and evaluation of the deformable convolution; its row stands with the other contractions.
#pragma once

namespace sinter {

class InferContext;
class EvalContext;

void infer_deform_conv(InferContext& c);
void eval_deform_conv(EvalContext& c);

}  // namespace sinter
