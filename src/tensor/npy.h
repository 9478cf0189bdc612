// NumPy's .npy files, format versions 1 to 3, as bytes.
//
// read_npy takes either byte order and either order of axes; bytes that are no such file give Error(Code::io or
// Code::unsupported). Element types that NumPy lacks are written as raw bytes: bf16 as V2, 8-bit and 4-bit floats as V1
// (one element a byte), 4-bit and 2-bit integers as i1 or u1; V2 is read as bf16 and V1 as u8. Strings are U (or S
// where they are no UTF-8); trailing NUL characters are not kept, as in NumPy.
#pragma once

#include <cstddef>
#include <span>
#include <string>

#include "tensor/tensor.h"

namespace sinter {

Tensor read_npy(std::span<const std::byte> bytes);  // copies
std::string write_npy(const Tensor& tensor);

}  // namespace sinter
