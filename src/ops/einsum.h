// Einsum's inference and evaluation; its row stands with the other contractions.
#pragma once

namespace sinter {

class InferContext;
class EvalContext;

void infer_einsum(InferContext& c);
void eval_einsum(EvalContext& c);

}  // namespace sinter
