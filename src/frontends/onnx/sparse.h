// Sparse tensors of ONNX are expanded when they are read; nothing behind the reader knows of them.
#pragma once

#include "tensor/tensor.h"

namespace sinter::onnx {

// values [n]; indices [n] count in the dense tensor, or [n, rank] give coordinates; ascending, without duplicates.
// The bytes of the result are taken from `budget`. Throws Error.
Tensor expand_sparse(const Tensor& values, const Tensor& indices, const Dims& dims, int64_t& budget);

}  // namespace sinter::onnx
