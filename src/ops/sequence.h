// Operators over sequences and optionals; they run by reference, on boxes.
//
// SequenceEmpty() · SequenceConstruct(x...) · SequenceInsert(s, x, position?) · SequenceErase(s, position?) ·
// SequenceAt(s, position) · SequenceLength(s) i64[] · ConcatFromSequence(s) · SplitToSequence(x, sizes?) ·
// OptionalSome(x) · OptionalNone() · OptionalHasElement(o?) bool[] · OptionalGet(o).
#pragma once

#include "base/fields.h"
#include "tensor/dtype.h"

namespace sinter {

struct SequenceEmptyAttrs {
  DType dtype = DType::f32;
};

struct ConcatFromSequenceAttrs {
  int64_t axis = 0;
  bool new_axis = false;  // stack along a new axis
};

struct SplitToSequenceAttrs {
  int64_t axis = 0;
  bool keep_dims = true;  // without sizes: keep the split axis as extent 1
};

struct OptionalNoneAttrs {
  DType dtype = DType::f32;
  bool sequence = false;  // of a sequence of tensors
};

const Fields& fields_of(const SequenceEmptyAttrs*);
const Fields& fields_of(const ConcatFromSequenceAttrs*);
const Fields& fields_of(const SplitToSequenceAttrs*);
const Fields& fields_of(const OptionalNoneAttrs*);

}  // namespace sinter
