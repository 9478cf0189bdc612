// Attributes of operators that look at shapes or only rename axes.
#pragma once

#include "base/fields.h"

namespace sinter {

struct ShapeAttrs {  // Shape: extents [start, end) of the operand; negative counts from the rank
  int64_t start = 0;
  int64_t end = INT64_MAX;
};

struct ReshapeAttrs {  // Reshape(x, shape): -1 once for the rest; 0 copies the operand's extent unless allow_zero
  bool allow_zero = false;
};

struct FlattenAttrs {
  int64_t axis = 1;
};

const Fields& fields_of(const ShapeAttrs*);
const Fields& fields_of(const ReshapeAttrs*);
const Fields& fields_of(const FlattenAttrs*);

}  // namespace sinter
