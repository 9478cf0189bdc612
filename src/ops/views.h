// Movement operators whose result is their first operand read with other strides: kernels may read it in place.
//
// Transpose, Slice with positive steps, Split, Expand, Identity, and Reshape and its kin where they cut axes into
// several; joining axes is no matter of strides.
#pragma once

#include "ops/op.h"

namespace sinter {

bool is_movement_view(const Op& op);

// Whether every axis of `from` but those of 1 is some neighbouring axes of `to`, at all extents.
bool cuts_axes(const Shape& from, const Shape& to);

// Whether y, a result of this operator of x, is such a view at all extents. contents: of the operator's operands, null
// for absent ones.
Answer is_strided_view(const Op& op, const Type& x, const Type& y, std::span<const Contents* const> contents);

}  // namespace sinter
