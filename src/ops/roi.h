// Inference and evaluation of pooling over regions of interest: RoiAlign and MaxRoiPool, whose rows stand with the
// other pooling operators; and the samples of RoiAlign, which kernels read too.
#pragma once

#include "ops/op.h"
#include "ops/pooling.h"

namespace sinter {

// Where RoiAlign reads for one region: bins, and samples in each of them.
struct RoiSample {  // four places and weights; all 0 outside
  int64_t at[4] = {0, 0, 0, 0};
  double weight[4] = {0, 0, 0, 0};
};
struct RoiGrid {
  RoiGrid(const RoiAlignAttrs& attrs, const double* region);
  // Sample (iy, ix) of bin (py, px) in a plane of these extents, neither of them 0.
  RoiSample sample(int64_t py, int64_t px, int64_t iy, int64_t ix, int64_t height, int64_t width) const;

  double start_y, start_x, bin_y, bin_x;
  int64_t ny, nx;  // samples per bin
  bool sensible;   // else the region asks for too many samples
};

void infer_roi_align(InferContext& c);
void eval_roi_align(EvalContext& c);
Tensor sample_roi_align(const Op& op, const Attrs& attrs, size_t input, std::span<const Type> types, uint64_t seed);
void infer_max_roi_pool(InferContext& c);
void eval_max_roi_pool(EvalContext& c);
Tensor sample_max_roi_pool(const Op& op, const Attrs& attrs, size_t input, std::span<const Type> types, uint64_t seed);

}  // namespace sinter
