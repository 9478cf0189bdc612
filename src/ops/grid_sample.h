// Inference and evaluation of GridSample; its row stands with Resize.
#pragma once

#include "ops/op.h"

namespace sinter {

void infer_grid_sample(InferContext& c);
void eval_grid_sample(EvalContext& c);
Tensor sample_grid_sample(const Op& op, const Attrs& attrs, size_t input, std::span<const Type> types, uint64_t seed);

// The four weights of cubic interpolation at `ratio` between the second and the third neighbour.
void cubic_weights(double ratio, double a, double* weights);

}  // namespace sinter
