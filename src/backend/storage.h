// Storage that boxes keep from run to run: results of steps whose extents only running finds out, and what loops carry.
#pragma once

#include "tensor/tensor.h"

namespace sinter {

// A tensor of this form to be written in full: the box's own storage when it has the form and nobody else holds it,
// else fresh storage. Its contents are undefined (fresh strings are empty). Throws Error.
Tensor& storage_for(Box& box, DType dtype, const Dims& dims);

}  // namespace sinter
