// Attributes of pooling over [N, C, spatial...].
//
// MaxPool(x) → values, indices i64 (optional second result) · AveragePool(x) · LpPool(x) · MaxUnpool(x, indices,
// output_shape?) · RoiAlign(x, rois [n, 4], batch_indices [n]) · MaxRoiPool(x, rois [n, 5]). Global pooling is a
// reduction.
#pragma once

#include "base/fields.h"
#include "ops/window.h"

namespace sinter {

struct MaxPoolAttrs {
  AutoPad auto_pad = AutoPad::explicit_pads;
  bool ceil_mode = false;
  std::vector<int64_t> dilations = {};
  std::vector<int64_t> kernel = {};
  std::vector<int64_t> pads = {};
  bool column_major = false;  // of the indices
  std::vector<int64_t> strides = {};
};

struct AveragePoolAttrs {
  AutoPad auto_pad = AutoPad::explicit_pads;
  bool ceil_mode = false;
  bool count_pads = false;  // padding counts as elements
  std::vector<int64_t> dilations = {};
  std::vector<int64_t> kernel = {};
  std::vector<int64_t> pads = {};
  std::vector<int64_t> strides = {};
};

struct LpPoolAttrs {
  AutoPad auto_pad = AutoPad::explicit_pads;
  bool ceil_mode = false;
  std::vector<int64_t> dilations = {};
  std::vector<int64_t> kernel = {};
  int64_t p = 2;
  std::vector<int64_t> pads = {};
  std::vector<int64_t> strides = {};
};

struct MaxUnpoolAttrs {
  std::vector<int64_t> kernel = {};
  std::vector<int64_t> pads = {};
  std::vector<int64_t> strides = {};
};

enum class RoiMode : uint8_t { average, max };
std::span<const char* const> enum_names(RoiMode);

struct RoiAlignAttrs {
  RoiMode mode = RoiMode::average;
  bool half_pixel = true;
  int64_t height = 1, width = 1;
  int64_t sampling_ratio = 0;
  double scale = 1;
};

struct MaxRoiPoolAttrs {
  int64_t height = 1, width = 1;
  double scale = 1;
};

const Fields& fields_of(const MaxPoolAttrs*);
const Fields& fields_of(const AveragePoolAttrs*);
const Fields& fields_of(const LpPoolAttrs*);
const Fields& fields_of(const MaxUnpoolAttrs*);
const Fields& fields_of(const RoiAlignAttrs*);
const Fields& fields_of(const MaxRoiPoolAttrs*);

}  // namespace sinter
