// A dense row-major array on the host: dtype, extents, bytes, and whoever keeps the bytes alive.
//
// Copies share storage. Bytes are owned, or belong to a mapping or a caller's buffer that `owner` keeps alive; only
// freshly made tensors are written to. Strings are std::string objects. Box is what a boxed slot holds: a tensor, a
// sequence, a map (its keys and its values), an optional (none or a box).
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "tensor/dtype.h"

namespace sinter {

using Dims = std::vector<int64_t>;

class Tensor {
 public:
  Tensor() = default;              // f32, shape [0], no bytes
  Tensor(DType dtype, Dims dims);  // zero-filled, 64-byte aligned; sizes checked
  // Bytes of somebody else; `owner` keeps them alive. Never written through unless made from a mutable pointer.
  Tensor(DType dtype, Dims dims, const void* data, std::shared_ptr<const void> owner);

  template <typename T>
  static Tensor of(DType dtype, Dims dims, std::span<const T> values);  // sizeof(T) * 8 == bit_size(dtype)
  static Tensor scalar_i64(int64_t value);
  static Tensor vector_i64(std::span<const int64_t> values);
  static Tensor scalar(DType dtype, double value);  // rounded as Cast rounds

  DType dtype() const { return dtype_; }
  const Dims& dims() const { return dims_; }
  size_t rank() const { return dims_.size(); }
  int64_t count() const { return count_; }
  int64_t bytes() const { return byte_size(dtype_, count_); }
  const void* data() const { return data_; }
  void* mutable_data() { return const_cast<void*>(data_); }
  template <typename T>
  const T* as() const {
    return static_cast<const T*>(data_);
  }
  template <typename T>
  T* as_mutable() {
    return static_cast<T*>(mutable_data());
  }
  std::span<const std::string> strings() const { return {as<std::string>(), static_cast<size_t>(count_)}; }
  std::span<std::string> strings() { return {as_mutable<std::string>(), static_cast<size_t>(count_)}; }
  const std::shared_ptr<const void>& owner() const { return owner_; }

  // Element access by flat index. Floats as double; integers and bool as 64 bits, u64 reinterpreted. get_* converts
  // between the two kinds; set_real rounds to nearest even (saturating as Cast does for fp8; integers wrap).
  double get_real(int64_t i) const;
  int64_t get_integer(int64_t i) const;
  void set_real(int64_t i, double value);
  void set_integer(int64_t i, int64_t value);

  // Same bytes, other extents (same count).
  Tensor reshaped(Dims dims) const;
  Tensor clone() const;
  std::vector<int64_t> to_integers() const;
  std::vector<double> to_reals() const;
  // Bit for bit, dtype and extents included.
  bool identical(const Tensor& other) const;

 private:
  DType dtype_ = DType::f32;
  Dims dims_ = {0};
  int64_t count_ = 0;
  const void* data_ = nullptr;
  std::shared_ptr<const void> owner_;
};

constexpr bool is_map_key(DType dtype) { return dtype == DType::i64 || dtype == DType::string; }
constexpr bool is_map_value(DType dtype) {
  return dtype == DType::i64 || dtype == DType::f32 || dtype == DType::f64 || dtype == DType::string;
}

struct Box {
  enum class Kind : uint8_t { none, tensor, sequence, map } kind = Kind::none;  // none: an empty optional
  Tensor tensor;
  std::vector<Box> items;  // of a map: keys and values, tensors [n]; the keys ascend

  Box() = default;
  Box(Tensor t) : kind(Kind::tensor), tensor(std::move(t)) {}
  static Box sequence(std::vector<Box> items) {
    Box b;
    b.kind = Kind::sequence;
    b.items = std::move(items);
    return b;
  }
  // Sorts where the keys do not ascend. Throws Error(Code::invalid_argument) for element types that maps do not have,
  // for tensors of other rank or different length, and for a key that is there twice.
  static Box map(Tensor keys, Tensor values);
  const Tensor& keys() const { return items[0].tensor; }
  const Tensor& values() const { return items[1].tensor; }
};

// Places of the keys in ascending order (strings by their bytes). Throws as Box::map does.
std::vector<int64_t> key_order(const Tensor& keys);

template <typename T>
Tensor Tensor::of(DType dtype, Dims dims, std::span<const T> values) {
  Tensor t(dtype, std::move(dims));
  T* out = t.as_mutable<T>();
  for (size_t i = 0; i < values.size() && i < static_cast<size_t>(t.count()); ++i) out[i] = values[i];
  return t;
}

// Short text for messages: "f32[2, 3]".
std::string type_text(const Tensor& tensor);

}  // namespace sinter
