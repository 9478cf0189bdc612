// Values that movement stages of a problem make of one of its operands without touching an element: strides tell where
// the elements lie, so a kernel reads them in place.
// Which stages those are says ops/views.h.
#pragma once

#include "backend/kernel.h"

namespace sinter::cpu {

// Element (i, j, ...) at offset + i * strides[0] + j * strides[1] + ... of the operand, in elements. An axis of two
// strides has `inner` positions that are strides[k] apart, such runs outer[k].
struct StridedView {
  uint16_t operand = 0;
  Dims dims, strides;
  int64_t offset = 0;
  Dims inner, outer;  // inner[k] is 0 for an axis of one stride

  StridedView(uint16_t o, Dims d)
      : operand(o), dims(std::move(d)), strides(dims.size(), 0), inner(strides), outer(strides) {}
};

// The stage that makes a value. Precondition: the value is no operand.
size_t stage_of(const Problem& problem, uint16_t value);

// Contents of a stage's operands as ops/views.h takes them.
std::vector<const Contents*> contents_of(const Problem& problem, const Stage& stage);

// The operand that a value is a view of.
uint16_t viewed_operand(const Problem& problem, uint16_t value);

// Whether a value is an operand with strides (or `any` layout), or made of one by such stages, at all extents; axes
// before the last `matrix` may have two strides. A Cast on the way is the caller's: elements have the operand's dtype.
Answer view_supported(const Problem& problem, uint16_t value, size_t matrix);

// x with these axes, as a Reshape has it; throws Error where they do not fit.
StridedView regrouped(const StridedView& x, const Dims& to);

// Where the elements lie at these extents. Precondition: view_supported. Strides of empty values are 0.
StridedView strided_view(const BindContext& c, uint16_t value);

}  // namespace sinter::cpu
