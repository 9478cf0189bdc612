#include "tensor/tensor.h"

#include <fmt/core.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>

#include "base/aligned.h"
#include "base/checked.h"
#include "base/scanner.h"
#include "tensor/convert.h"

namespace sinter {
namespace {

template <typename T>
T load(const void* data, int64_t i) {
  T v;
  std::memcpy(&v, static_cast<const std::byte*>(data) + i * static_cast<int64_t>(sizeof(T)), sizeof(T));
  return v;
}

template <typename T>
void store(void* data, int64_t i, T v) {
  std::memcpy(static_cast<std::byte*>(data) + i * static_cast<int64_t>(sizeof(T)), &v, sizeof(T));
}

// Bits of element i, zero-extended.
uint64_t load_bits(const void* data, int bits, int64_t i) {
  switch (bits) {
    case 64: return load<uint64_t>(data, i);
    case 32: return load<uint32_t>(data, i);
    case 16: return load<uint16_t>(data, i);
    case 8: return load<uint8_t>(data, i);
    default: break;
  }
  const int per_byte = 8 / bits;
  const auto byte = load<uint8_t>(data, i / per_byte);
  return (byte >> (i % per_byte * bits)) & ((1u << bits) - 1);
}

void store_bits(void* data, int bits, int64_t i, uint64_t v) {
  switch (bits) {
    case 64: return store(data, i, v);
    case 32: return store(data, i, static_cast<uint32_t>(v));
    case 16: return store(data, i, static_cast<uint16_t>(v));
    case 8: return store(data, i, static_cast<uint8_t>(v));
    default: break;
  }
  const int per_byte = 8 / bits;
  const int shift = static_cast<int>(i % per_byte) * bits;
  const auto mask = static_cast<uint8_t>(((1u << bits) - 1) << shift);
  const auto old = load<uint8_t>(data, i / per_byte);
  store(data, i / per_byte, static_cast<uint8_t>((old & ~mask) | ((v << shift) & mask)));
}

int64_t sign_extend(uint64_t v, int bits) {
  const int shift = 64 - bits;
  return static_cast<int64_t>(v << shift) >> shift;
}

// Truncates towards zero and wraps in 64 bits; NaN is 0.
int64_t wrap_to_integer(double v) {
  if (!(v == v)) return 0;
  if (v >= -9223372036854775808.0 && v < 9223372036854775808.0) return static_cast<int64_t>(v);
  if (v >= 9223372036854775808.0 && v < 18446744073709551616.0) return static_cast<int64_t>(static_cast<uint64_t>(v));
  return v < 0 ? INT64_MIN : INT64_MAX;
}

}  // namespace

Tensor::Tensor(DType dtype, Dims dims) : dtype_(dtype), dims_(std::move(dims)), count_(element_count(dims_)) {
  if (count_ == 0) return;
  if (dtype == DType::string) {
    auto strings = std::make_shared<std::vector<std::string>>(static_cast<size_t>(count_));
    data_ = strings->data();
    owner_ = std::move(strings);
    return;
  }
  const int64_t size = align_up(byte_size(dtype, count_), 64, "tensor");
  void* data = allocate_aligned(static_cast<size_t>(size));
  if (!data) throw Error(Code::out_of_memory, fmt::format("cannot allocate a tensor of {} bytes", size));
  std::memset(data, 0, static_cast<size_t>(size));
  owner_ = std::shared_ptr<const void>(data, [](const void* p) { std::free(const_cast<void*>(p)); });
  data_ = data;
}

Tensor::Tensor(DType dtype, Dims dims, const void* data, std::shared_ptr<const void> owner)
    : dtype_(dtype), dims_(std::move(dims)), count_(element_count(dims_)), data_(data), owner_(std::move(owner)) {}

Tensor Tensor::scalar_i64(int64_t value) {
  Tensor t(DType::i64, {});
  t.set_integer(0, value);
  return t;
}

Tensor Tensor::vector_i64(std::span<const int64_t> values) {
  return of<int64_t>(DType::i64, {static_cast<int64_t>(values.size())}, values);
}

Tensor Tensor::scalar(DType dtype, double value) {
  Tensor t(dtype, {});
  t.set_real(0, value);
  return t;
}

double Tensor::get_real(int64_t i) const {
  switch (dtype_) {
    case DType::f32: return static_cast<double>(load<float>(data_, i));
    case DType::f64: return load<double>(data_, i);
    case DType::c64: return static_cast<double>(load<float>(data_, 2 * i));
    case DType::c128: return load<double>(data_, 2 * i);
    case DType::u64: return static_cast<double>(load<uint64_t>(data_, i));
    case DType::string: return 0;
    default: break;
  }
  if (is_float(dtype_)) return decode_float(dtype_, load_bits(data_, bit_size(dtype_), i));
  return static_cast<double>(get_integer(i));
}

int64_t Tensor::get_integer(int64_t i) const {
  if (dtype_ == DType::string) return 0;
  if (is_float(dtype_) || is_complex(dtype_)) return wrap_to_integer(get_real(i));
  const int bits = bit_size(dtype_);
  const uint64_t v = load_bits(data_, bits, i);
  return is_signed(dtype_) ? sign_extend(v, bits) : static_cast<int64_t>(v);
}

void Tensor::set_real(int64_t i, double value) {
  void* data = mutable_data();
  switch (dtype_) {
    case DType::f32: return store(data, i, static_cast<float>(value));
    case DType::f64: return store(data, i, value);
    case DType::c64: store(data, 2 * i, static_cast<float>(value)); return store(data, 2 * i + 1, 0.0f);
    case DType::c128: store(data, 2 * i, value); return store(data, 2 * i + 1, 0.0);
    case DType::boolean: return store<uint8_t>(data, i, value != 0);
    case DType::string: return;
    default: break;
  }
  if (is_float(dtype_)) return store_bits(data, bit_size(dtype_), i, encode_float(dtype_, value));
  set_integer(i, wrap_to_integer(value));
}

void Tensor::set_integer(int64_t i, int64_t value) {
  if (dtype_ == DType::string) return;
  if (dtype_ == DType::boolean) return store<uint8_t>(mutable_data(), i, value != 0);
  if (is_float(dtype_) || is_complex(dtype_)) return set_real(i, static_cast<double>(value));
  store_bits(mutable_data(), bit_size(dtype_), i, static_cast<uint64_t>(value));
}

Tensor Tensor::reshaped(Dims dims) const {
  Tensor out = *this;
  if (element_count(dims) != count_)
    throw Error(Code::invalid_argument, fmt::format("{} cannot have another number of elements", type_text(*this)));
  out.dims_ = std::move(dims);
  return out;
}

Tensor Tensor::clone() const {
  Tensor out(dtype_, dims_);
  if (dtype_ == DType::string) {
    for (int64_t i = 0; i < count_; ++i) out.strings()[static_cast<size_t>(i)] = strings()[static_cast<size_t>(i)];
  } else if (count_ > 0) {
    std::memcpy(out.mutable_data(), data_, static_cast<size_t>(bytes()));
  }
  return out;
}

std::vector<int64_t> Tensor::to_integers() const {
  std::vector<int64_t> out(static_cast<size_t>(count_));
  for (int64_t i = 0; i < count_; ++i) out[static_cast<size_t>(i)] = get_integer(i);
  return out;
}

std::vector<double> Tensor::to_reals() const {
  std::vector<double> out(static_cast<size_t>(count_));
  for (int64_t i = 0; i < count_; ++i) out[static_cast<size_t>(i)] = get_real(i);
  return out;
}

bool Tensor::identical(const Tensor& other) const {
  if (dtype_ != other.dtype_ || dims_ != other.dims_) return false;
  if (dtype_ == DType::string) {
    for (size_t i = 0; i < static_cast<size_t>(count_); ++i)
      if (strings()[i] != other.strings()[i]) return false;
    return true;
  }
  return count_ == 0 || std::memcmp(data_, other.data_, static_cast<size_t>(bytes())) == 0;
}

std::string type_text(const Tensor& tensor) {
  std::string out = fmt::format("{}[", dtype_name(tensor.dtype()));
  for (size_t i = 0; i < tensor.rank(); ++i) out += fmt::format("{}{}", i ? ", " : "", tensor.dims()[i]);
  return out + "]";
}

std::vector<int64_t> key_order(const Tensor& keys) {
  if (!is_map_key(keys.dtype()) || keys.rank() != 1)
    throw Error(Code::invalid_argument,
                fmt::format("the keys of a map are {}, they must be i64 or strings along one axis", type_text(keys)));
  std::vector<int64_t> order;
  for (int64_t i = 0; i < keys.count(); ++i) order.push_back(i);
  const auto sort = [&](const auto& key, const auto& shown) {
    const auto less = [&](int64_t a, int64_t b) { return key(a) < key(b); };
    if (!std::is_sorted(order.begin(), order.end(), less)) std::sort(order.begin(), order.end(), less);
    for (size_t i = 1; i < order.size(); ++i)
      if (!less(order[i - 1], order[i]))
        throw Error(Code::invalid_argument, fmt::format("key {} of a map is there twice", shown(key(order[i]))));
  };
  if (keys.dtype() == DType::i64)
    sort([&](int64_t i) { return keys.as<int64_t>()[i]; }, [](int64_t key) { return key; });
  else
    sort([&](int64_t i) -> const std::string& { return keys.strings()[static_cast<size_t>(i)]; },
         [](const std::string& key) { return quoted(printable(key, 60)); });
  return order;
}

Box Box::map(Tensor keys, Tensor values) {
  const std::vector<int64_t> order = key_order(keys);
  if (!is_map_value(values.dtype()) || values.dims() != keys.dims())
    throw Error(Code::invalid_argument,
                fmt::format("the values of a map with {} keys are {}, they must be as many i64, f32, f64 or strings",
                            keys.count(), type_text(values)));
  const auto sorted = [&](const Tensor& from) {
    Tensor to(from.dtype(), from.dims());
    const auto size = static_cast<size_t>(bit_size(from.dtype())) / 8;
    for (size_t i = 0; i < order.size(); ++i) {
      const auto at = static_cast<size_t>(order[i]);
      if (from.dtype() == DType::string)
        to.strings()[i] = from.strings()[at];
      else
        std::memcpy(to.as_mutable<std::byte>() + i * size, from.as<std::byte>() + at * size, size);
    }
    return to;
  };
  if (!std::is_sorted(order.begin(), order.end())) {
    keys = sorted(keys);
    values = sorted(values);
  }
  Box b;
  b.kind = Kind::map;
  b.items.emplace_back(std::move(keys));
  b.items.emplace_back(std::move(values));
  return b;
}

}  // namespace sinter
