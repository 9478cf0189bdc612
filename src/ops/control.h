// Operators with bodies. Bodies are closed: captured values are operands after the operator's own and become the last
// parameters of every body of the node.
//
// If(condition, captures...) → results; bodies: then, else, both taking the captures.
//
// Loop(trips?, condition?, carried..., scanned..., captures...) → carried..., stacked...
//   body(iteration i64[], condition bool[], carried..., slices..., captures...) → condition, carried..., slices...
// It serves ONNX's Loop and every Scan. It ends when `trips` iterations are done or the condition is false, before the
// first iteration too. Each scanned operand gives its slice number i along scan_axes; each stacked result puts slice i
// along stack_axes (axes count in the scanned operand and in the stacked result); reversed ones run from the end.
// With scanned operands, trips must be present and equal to their extents. Types of carried values are those of the
// body's parameters: extents that change from one iteration to the next are body_parameter symbols there, and exit
// symbols in the results.
//
// Fragment(...) is made by group alone: a flat body of core operators, see passes/passes.h.
#pragma once

#include <functional>

#include "ops/op.h"

namespace sinter {

struct LoopAttrs {
  int64_t carried = 0;
  bool counted = false;  // the condition is always true: `trips` decides
  std::vector<int64_t> scan_axes = {};
  std::vector<int64_t> scan_reversed = {};  // 0 or 1, one a scanned operand; empty: none
  std::vector<int64_t> stack_axes = {};
  std::vector<int64_t> stack_reversed = {};
};

const Fields& fields_of(const LoopAttrs*);

// The least type that holds both: extents that differ come from `open(axis)`, ranks that differ become unknown. Throws
// Error(Code::model_invalid) for kinds or dtypes that differ.
Type join(const Type& a, const Type& b, const std::function<Dim(size_t axis)>& open);

// Slice `index` along `axis` of x, of any dtype: read into a tensor of the slice's type, or written from one. Extents
// must agree; nothing is allocated.
void copy_slice(const Tensor& x, int64_t axis, int64_t index, Tensor& slice);
void put_slice(const Tensor& slice, int64_t axis, int64_t index, Tensor& x);

}  // namespace sinter
