// Inference and evaluation of pooling over regions of interest: RoiAlign and MaxRoiPool; their rows stand with the
// other pooling operators.
#pragma once

#include "ops/op.h"

namespace sinter {

void infer_roi_align(InferContext& c);
void eval_roi_align(EvalContext& c);
Tensor sample_roi_align(const Op& op, const Attrs& attrs, size_t input, std::span<const Type> types, uint64_t seed);
void infer_max_roi_pool(InferContext& c);
void eval_max_roi_pool(EvalContext& c);
Tensor sample_max_roi_pool(const Op& op, const Attrs& attrs, size_t input, std::span<const Type> types, uint64_t seed);

}  // namespace sinter
