// Movement operators whose result is their first operand read with other strides: kernels may read it in place.
//
// Transpose, Slice with positive steps, Split, Expand, Identity, and Reshape and its kin where they cut axes into
// several. An axis joined of a whole axis and the next one, or its front, has two strides; a reader that takes those
// where it only counts positions (batch axes) says so.
#pragma once

#include "ops/op.h"

namespace sinter {

bool is_movement_view(const Op& op);

// Whether y, a result of this operator of x, is such a view at all extents. contents: of the operator's operands, null
// for absent ones. two_strides: by axis of y, then of x, whether it may have two strides.
Answer is_strided_view(const Op& op, const Attrs& attrs, const Type& x, const Type& y,
                       std::span<const Contents* const> contents, std::vector<bool>& two_strides);

// The other way: whether strides of the result y tell where each element of x goes, so that what makes x may write y.
// two_strides: by axis of x, then of y, whether it may have two strides.
Answer is_strided_target(const Op& op, const Attrs& attrs, const Type& x, const Type& y,
                         std::span<const Contents* const> contents, std::vector<bool>& two_strides);

}  // namespace sinter
