// Elements as opaque things that move: what movement, indexing and selection share.
//
// Copies keep every bit (sub-byte elements and strings included). Also the structural knowledge of signs that closed
// extents are made with: it never asks a SymbolTable, so inference gives the same expression wherever it is repeated.
#pragma once

#include <cstring>

#include "ops/op.h"
#include "tensor/convert.h"

namespace sinter {

// Element j of `from` to element i of `to`; equal dtypes.
inline void copy_element(Tensor& to, int64_t i, const Tensor& from, int64_t j) {
  const int64_t width = bit_size(to.dtype()) / 8;
  if (width > 0) {
    std::memcpy(static_cast<char*>(to.mutable_data()) + i * width, static_cast<const char*>(from.data()) + j * width,
                static_cast<size_t>(width));
  } else if (to.dtype() == DType::string) {
    to.strings()[static_cast<size_t>(i)] = from.strings()[static_cast<size_t>(j)];
  } else if (is_float(to.dtype())) {
    to.set_real(i, from.get_real(j));
  } else {
    to.set_integer(i, from.get_integer(j));
  }
}

// Copies a block of these extents between strided places, offsets in elements. Nothing when an extent is 0.
void copy_block(Tensor& to, int64_t to_offset, const Dims& to_strides, const Tensor& from, int64_t from_offset,
                const Dims& from_strides, const Dims& dims);

// d >= 0 follows from its form, when symbols (they are extents and counts) are >= 0; `extent` is one more quantity
// that is known not to be negative.
bool surely_not_negative(const Dim& d);
bool surely_not_negative(const Dim& d, const Dim& extent);
// max(d, 0), without the max where it changes nothing.
Dim at_least_zero(const Dim& d, const Dim& extent = 0);

// Numbers of any dtype for tests: small integers of both signs where the dtype has them, floats around zero.
Tensor sample_values(const Type& type, uint64_t seed);

// A host operand that must be a list of integers: its elements where known, and its length where known.
struct HostList {
  std::optional<std::vector<Dim>> values;
  std::optional<size_t> length;
};
HostList host_list(InferContext& c, size_t input, const char* what);
// An operand that must hold one integer: its value where known.
std::optional<Dim> host_number(InferContext& c, size_t input, const char* what);

}  // namespace sinter
