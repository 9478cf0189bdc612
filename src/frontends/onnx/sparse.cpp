#include "frontends/onnx/sparse.h"

#include <fmt/core.h>

#include <cstring>

#include "base/checked.h"

namespace sinter::onnx {
namespace {

[[noreturn]] void fail(std::string message) { throw Error(Code::model_invalid, std::move(message)); }

void copy_element(Tensor& to, int64_t at, const Tensor& from, int64_t i) {
  const DType dtype = from.dtype();
  if (dtype == DType::string) {
    to.strings()[static_cast<size_t>(at)] = from.strings()[static_cast<size_t>(i)];
  } else if (is_sub_byte(dtype)) {
    if (is_float(dtype))
      to.set_real(at, from.get_real(i));
    else
      to.set_integer(at, from.get_integer(i));
  } else {
    const auto size = static_cast<size_t>(bit_size(dtype) / 8);
    std::memcpy(to.as_mutable<std::byte>() + static_cast<size_t>(at) * size,
                from.as<std::byte>() + static_cast<size_t>(i) * size, size);
  }
}

}  // namespace

Tensor expand_sparse(const Tensor& values, const Tensor& indices, const Dims& dims, int64_t& budget) {
  if (values.rank() != 1) fail(fmt::format("the values have rank {}, it must be 1", values.rank()));
  if (indices.dtype() != DType::i64) fail("the indices are not 64-bit integers");
  const int64_t n = values.count(), total = element_count(dims);
  const auto rank = static_cast<int64_t>(dims.size());
  const bool linear = indices.rank() == 1;
  if (!linear && (indices.rank() != 2 || indices.dims()[1] != rank))
    fail(fmt::format("the indices have the shape of {}, [{}] or [{}, {}] is needed", type_text(indices), n, n, rank));
  if (indices.dims()[0] != n) fail(fmt::format("{} values and {} indices", n, indices.dims()[0]));
  const int64_t size = values.dtype() == DType::string
                           ? checked_mul(total, static_cast<int64_t>(sizeof(std::string)), "sparse tensor")
                           : byte_size(values.dtype(), total);
  if (size > budget)
    throw Error(Code::limit,
                fmt::format("the sparse tensors expand to more than is allowed (this one has {} bytes)", size));
  budget -= size;
  Tensor out(values.dtype(), dims);
  int64_t last = -1;
  for (int64_t i = 0; i < n; ++i) {
    int64_t at = 0;
    if (linear) {
      at = indices.get_integer(i);
    } else {
      for (int64_t k = 0; k < rank; ++k) {
        const int64_t coordinate = indices.get_integer(i * rank + k), extent = dims[static_cast<size_t>(k)];
        if (coordinate < 0 || coordinate >= extent)
          fail(fmt::format("index {} of value {} is outside [0, {})", coordinate, i, extent));
        at = at * extent + coordinate;
      }
    }
    if (at < 0 || at >= total) fail(fmt::format("index {} of value {} is outside [0, {})", at, i, total));
    if (at <= last) fail(fmt::format("the indices do not ascend at value {}", i));
    last = at;
    copy_element(out, at, values, i);
  }
  return out;
}

}  // namespace sinter::onnx
