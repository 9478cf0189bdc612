// Attributes of sorting and selection, and the boxes of NonMaxSuppression.
//
// TopK(x, k) → values, indices i64 (k: host operand [1]) · ArgMax(x), ArgMin(x) → i64 · Unique(x) → values, first
// indices, inverse, counts · NonMaxSuppression(boxes, scores, max_per_class?, iou_threshold?, score_threshold?) →
// i64[n, 3] · CumSum(x, axis), CumProd(x, axis) (axis: host operand, scalar).
#pragma once

#include <algorithm>

#include "base/fields.h"

namespace sinter {

struct TopKAttrs {
  int64_t axis = -1;
  bool largest = true;
  bool sorted = true;
};

struct ArgAttrs {
  int64_t axis = 0;
  bool keep_dims = true;
  bool select_last = false;
};

struct UniqueAttrs {
  bool flat = true;  // over the flattened operand; axis is then unused
  int64_t axis = 0;
  bool sorted = true;  // else in order of first occurrence
};

struct NonMaxSuppressionAttrs {
  bool center_point =
      false;  // boxes as [x_center, y_center, width, height], else two opposite corners [y1, x1, y2, x2]
};

struct Rectangle {
  double y1, x1, y2, x2, area;
};

// Made from the four numbers of a box, in their order.
inline Rectangle rectangle(double a, double b, double p, double q, bool center_point) {
  Rectangle r;
  if (center_point)
    r = {b - q / 2, a - p / 2, b + q / 2, a + p / 2, 0};
  else
    r = {std::min(a, p), std::min(b, q), std::max(a, p), std::max(b, q), 0};
  r.area = (r.y2 - r.y1) * (r.x2 - r.x1);
  return r;
}

struct CumulativeAttrs {
  bool exclusive = false;
  bool reverse = false;
};

const Fields& fields_of(const TopKAttrs*);
const Fields& fields_of(const ArgAttrs*);
const Fields& fields_of(const UniqueAttrs*);
const Fields& fields_of(const NonMaxSuppressionAttrs*);
const Fields& fields_of(const CumulativeAttrs*);

}  // namespace sinter
