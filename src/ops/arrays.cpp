#include "ops/arrays.h"

#include <cmath>
#include <cstddef>

namespace sinter {

template <>
void read_numbers(const Tensor& tensor, int64_t start, int64_t count, double* out) {
  if (count <= 0) return;
  const auto* bytes = static_cast<const std::byte*>(tensor.data());
  switch (tensor.dtype()) {
    case DType::f32:
      for (int64_t i = 0; i < count; ++i) {
        float v;  // a caller's buffer need not be aligned
        std::memcpy(&v, bytes + (start + i) * 4, sizeof v);
        out[i] = static_cast<double>(v);
      }
      return;
    case DType::f64: std::memcpy(out, bytes + start * 8, static_cast<size_t>(count) * sizeof(double)); return;
    default:
      for (int64_t i = 0; i < count; ++i) out[i] = tensor.get_real(start + i);
  }
}

template <>
void read_numbers(const Tensor& tensor, int64_t start, int64_t count, uint64_t* out) {
  for (int64_t i = 0; i < count; ++i) out[i] = static_cast<uint64_t>(tensor.get_integer(start + i));
}

void write_numbers(Tensor& tensor, int64_t start, int64_t count, const double* values) {
  if (tensor.dtype() == DType::f32 && count > 0) {
    float* to = tensor.as_mutable<float>() + start;
    for (int64_t i = 0; i < count; ++i) to[i] = static_cast<float>(values[i]);
    return;
  }
  for (int64_t i = 0; i < count; ++i) tensor.set_real(start + i, values[i]);
}

void write_numbers(Tensor& tensor, int64_t start, int64_t count, const uint64_t* values) {
  for (int64_t i = 0; i < count; ++i) tensor.set_integer(start + i, static_cast<int64_t>(values[i]));
}

std::vector<int64_t> dense_strides(const Dims& dims) {
  std::vector<int64_t> out(dims.size(), 1);
  for (size_t k = dims.size(); k-- > 1;)
    if (dims[k] > 0 && __builtin_mul_overflow(out[k], dims[k], &out[k - 1])) out[k - 1] = 0;  // there is no element
  return out;
}

Tensor sample_uniform(const Type& type, uint64_t seed, double low, double high) {
  Tensor out(type.dtype, constant_dims(*type.shape).value());
  uint64_t state = seed * 0x9e3779b97f4a7c15u + 1;
  for (int64_t i = 0; i < out.count(); ++i) {
    state += 0x9e3779b97f4a7c15u;
    uint64_t z = state;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    z ^= z >> 31;
    const double value = low + (high - low) * (static_cast<double>(z >> 11) * 0x1p-53);
    out.set_real(i, is_float(type.dtype) ? value : std::floor(value));
  }
  return out;
}

bool next_position(std::vector<int64_t>& at, const Dims& dims) {
  for (size_t k = dims.size(); k-- > 0;) {
    if (++at[k] < dims[k]) return true;
    at[k] = 0;
  }
  return false;
}

}  // namespace sinter
