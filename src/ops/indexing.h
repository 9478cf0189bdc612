// Attributes of operators that read or write where an operand says.
//
// Gather(x, indices) · GatherElements(x, indices) · GatherND(x, indices) · ScatterElements(x, indices, updates) ·
// ScatterND(x, indices, updates) · Compress(x, condition) · NonZero(x) i64[rank, n] · OneHot(indices, depth, values)
// with host operand depth. Indices are i32 or i64 (OneHot: any number); negative ones count from the end; those out of
// range are a fault.
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

struct OneHotAttrs {
  int64_t axis = -1;  // of the result
};

const Fields& fields_of(const GatherAttrs*);
const Fields& fields_of(const GatherNDAttrs*);
const Fields& fields_of(const ScatterElementsAttrs*);
const Fields& fields_of(const ScatterNDAttrs*);
const Fields& fields_of(const CompressAttrs*);
const Fields& fields_of(const OneHotAttrs*);

}  // namespace sinter
