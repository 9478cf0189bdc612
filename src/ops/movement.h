// Attributes of data movement.
//
// Transpose(x) · Expand(x, shape) broadcasts both ways · Slice(x, starts, ends, axes?, steps?) with ONNX's clamping ·
// Pad(x, pads, value?, axes?), negative pads crop · Concat(x...) · Split(x, sizes) with one result a size ·
// Tile(x, repeats) · Trilu(x, k?) · ReverseSequence(x, lengths).
// Shapes, starts, pads, sizes, repeats, axes and k are host operands.
#pragma once

#include "base/fields.h"

namespace sinter {

// Slice's start of one axis in [0, extent), for results that are not empty.
int64_t slice_begin(int64_t start, int64_t extent, int64_t step);

struct TransposeAttrs {
  std::vector<int64_t> perm = {};  // axis k of the result is axis perm[k] of the operand; empty: reversed
};

struct ConcatAttrs {
  int64_t axis = 0;
};

struct SplitAttrs {
  int64_t axis = 0;
};

enum class PadMode : uint8_t { constant, reflect, edge, wrap };
std::span<const char* const> enum_names(PadMode);

struct PadAttrs {
  PadMode mode = PadMode::constant;
};
// Where element i of a padded axis comes from, or -1: the fill value, or no element at all in the other modes. Negative
// pads crop before the rest is repeated. before, after: within max_elements of 0.
int64_t pad_source(PadMode mode, int64_t i, int64_t before, int64_t after, int64_t extent);

struct TriluAttrs {
  bool upper = true;
};

struct ReverseSequenceAttrs {
  int64_t batch_axis = 1;
  int64_t time_axis = 0;
};

const Fields& fields_of(const TransposeAttrs*);
const Fields& fields_of(const ConcatAttrs*);
const Fields& fields_of(const SplitAttrs*);
const Fields& fields_of(const PadAttrs*);
const Fields& fields_of(const TriluAttrs*);
const Fields& fields_of(const ReverseSequenceAttrs*);

}  // namespace sinter
