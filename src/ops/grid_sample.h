// Inference and evaluation of GridSample, whose row stands with Resize, and the taps that kernels read too.
#pragma once

#include "ops/op.h"
#include "ops/resize.h"

namespace sinter {

void infer_grid_sample(InferContext& c);
void eval_grid_sample(EvalContext& c);
Tensor sample_grid_sample(const Op& op, const Attrs& attrs, size_t input, std::span<const Type> types, uint64_t seed);

// One spatial axis: which elements a coordinate in [-1, 1] reads, and how much of each.
struct GridTap {
  int64_t index;  // -1: a zero
  double weight;
};
class GridAxis {
 public:
  GridAxis(int64_t extent, const GridSampleAttrs& attrs);
  // Writes at most four taps and gives their number. Any coordinate is safe, NaN too. The extent is at least 1.
  int taps(double normalized, GridTap* taps) const;

 private:
  int64_t element(double i) const;
  double place_of(double normalized) const;
  int64_t extent_;
  double low_, high_;  // of the area that padding leaves alone
  bool align_corners_;
  ResizeMode mode_;
  GridPadding padding_;
};

// The four weights of cubic interpolation at `ratio` between the second and the third neighbour.
void cubic_weights(double ratio, double a, double* weights);

}  // namespace sinter
