// Attributes of operators that read or write where an operand says.
//
// Gather(x, indices) · GatherElements(x, indices) · GatherND(x, indices) · ScatterElements(x, indices, updates) ·
// ScatterND(x, indices, updates) · PutRows(x, rows, start, extent?) · Compress(x, condition) · NonZero(x) i64[rank, n]
// · OneHot(indices, depth, values) with host operand depth. Indices are i32 or i64 (OneHot: any number); negative ones
// count from the end; those out of range are a fault.
//
// PutRows makes x with `rows` over what lies along `axis` from place `start` on: one number, or one for each entry of
// axis 0. It is how caches of keys and values grow. With the host operand extent the result has as many places along
// the axis, and those that x does not have are 0. Rows before the first place or behind the last one are a fault.
#pragma once

#include "base/fields.h"

namespace sinter {

struct GatherAttrs {
  int64_t axis = 0;
};

struct GatherNDAttrs {
  int64_t batch_dims = 0;
};

enum class Reduction : uint8_t { none, add, mul, max, min };
std::span<const char* const> enum_names(Reduction);

struct ScatterElementsAttrs {
  int64_t axis = 0;
  Reduction reduction = Reduction::none;
};

struct ScatterNDAttrs {
  Reduction reduction = Reduction::none;
};

struct CompressAttrs {
  bool flat = false;  // over the flattened operand; axis is then unused
  int64_t axis = 0;
};

struct PutRowsAttrs {
  int64_t axis = 0;
  bool circular = false;  // behind the last place comes the first one
  bool cut = false;       // rows that have no place are left out and no fault
};

struct OneHotAttrs {
  int64_t axis = -1;  // of the result
};

const Fields& fields_of(const GatherAttrs*);
const Fields& fields_of(const GatherNDAttrs*);
const Fields& fields_of(const ScatterElementsAttrs*);
const Fields& fields_of(const ScatterNDAttrs*);
const Fields& fields_of(const CompressAttrs*);
const Fields& fields_of(const PutRowsAttrs*);
const Fields& fields_of(const OneHotAttrs*);

}  // namespace sinter
