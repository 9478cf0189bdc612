// Attributes of reductions: ReduceSum, ReduceMean, ReduceMax, ReduceMin, ReduceProd (x, axes?), axes a host operand.
//
// The other ONNX reductions are wired from these. Without axes (absent or empty) all axes are reduced, unless
// keep_without_axes: then the operand is the result. Empty sets give 0, NaN, the lowest or highest value of the dtype
// (infinities for floats), 1.
#pragma once

#include "base/fields.h"

namespace sinter {

struct ReduceAttrs {
  bool keep_dims = true;
  bool keep_without_axes = false;
};

const Fields& fields_of(const ReduceAttrs*);

}  // namespace sinter
