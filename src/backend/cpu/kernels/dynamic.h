// What the rows share that find extents out by running: they take boxes, so the extents of operands are read when they
// run, facts were not checked when shapes were bound, and results are boxes that they size themselves.
#pragma once

#include <string_view>

#include "backend/cpu/kernels/common.h"

namespace sinter::cpu {

// One stage of this operator; every operand and result a row-major plain tensor of whole bytes.
Answer boxed_problem(const Problem& problem, std::string_view name);
void boxed_bind(const Kernel&, const void*, const BindContext&, Bound&);

// Input `i` of the stage: known contents or what the box holds; null where it is absent.
const Tensor* boxed_input(const Launch& launch, size_t i);
// The box of output `o` of the stage; null where nobody wants it.
Box* boxed_output(const Launch& launch, size_t o);

}  // namespace sinter::cpu
