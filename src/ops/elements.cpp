#include "ops/elements.h"

#include <fmt/core.h>

#include <random>

#include "base/checked.h"

namespace sinter {

void copy_block(Tensor& to, int64_t to_offset, const Dims& to_strides, const Tensor& from, int64_t from_offset,
                const Dims& from_strides, const Dims& dims) {
  for (int64_t d : dims)
    if (d == 0) return;
  if (dims.empty()) return copy_element(to, to_offset, from, from_offset);
  const size_t last = dims.size() - 1;
  Dims at(dims.size(), 0);
  while (true) {
    int64_t t = to_offset, f = from_offset;
    for (size_t k = 0; k < last; ++k) {
      t += at[k] * to_strides[k];
      f += at[k] * from_strides[k];
    }
    for (int64_t i = 0; i < dims[last]; ++i)
      copy_element(to, t + i * to_strides[last], from, f + i * from_strides[last]);
    size_t k = last;
    while (k > 0 && ++at[k - 1] == dims[k - 1]) at[--k] = 0;
    if (k == 0) return;
  }
}

bool surely_not_negative(const Dim& d) {
  using Kind = Dim::Atom::Kind;
  if (d.is_constant()) return d.constant() >= 0;
  for (const Dim::Term& term : *d.terms()) {
    if (term.coefficient < 0) return false;
    for (const auto& atom : term.atoms) {
      bool good = true;
      switch (atom->kind) {
        case Kind::symbol:
        case Kind::step: break;
        case Kind::max: good = surely_not_negative(atom->a) || surely_not_negative(atom->b); break;
        case Kind::floordiv:
        case Kind::min:
        case Kind::broadcast: good = surely_not_negative(atom->a) && surely_not_negative(atom->b); break;
      }
      if (!good) return false;
    }
  }
  return true;
}

bool surely_not_negative(const Dim& d, const Dim& extent) {
  return surely_not_negative(d) || surely_not_negative(d - extent);
}

Dim at_least_zero(const Dim& d, const Dim& extent) { return surely_not_negative(d, extent) ? d : max(d, 0); }

Tensor sample_values(const Type& type, uint64_t seed) {
  const auto dims = type.has_shape() ? constant_dims(*type.shape) : std::nullopt;
  if (!dims) throw Error(Code::unsupported, "samples are made for known extents only");
  Tensor tensor(type.dtype, *dims);
  std::mt19937_64 random(seed);
  for (int64_t i = 0; i < tensor.count(); ++i) {
    const auto r = static_cast<int64_t>(random() >> 33);
    if (type.dtype == DType::string)
      tensor.strings()[static_cast<size_t>(i)] = fmt::format("s{}", r % 8);
    else if (is_float(type.dtype) || is_complex(type.dtype))
      tensor.set_real(i, static_cast<double>(r % 4097) / 1024 - 2);
    else if (type.dtype == DType::boolean)
      tensor.set_integer(i, r % 2);
    else
      tensor.set_integer(i, bit_size(type.dtype) < 8 ? r % 2 : is_signed(type.dtype) ? r % 32 - 16 : r % 32);
  }
  return tensor;
}

namespace {

void check_integer(InferContext& c, size_t input, const char* what) {
  if (!is_integer(c.dtype(input)))
    c.fail(fmt::format("operand {} ({}) is {}, it must hold integers", input, what, dtype_name(c.dtype(input))));
}

}  // namespace

HostList host_list(InferContext& c, size_t input, const char* what) {
  check_integer(c, input, what);
  HostList out;
  const Type& type = c.type(input);
  if (!type.has_shape()) return out;
  if (type.shape->size() != 1)
    c.fail(fmt::format("operand {} ({}) has rank {}, it must be a list", input, what, type.shape->size()));
  out.values = c.integers(input);
  if (out.values)
    out.length = out.values->size();
  else if (const auto n = (*type.shape)[0].as_constant())
    out.length = narrow<size_t>(*n, what);
  return out;
}

std::optional<Dim> host_number(InferContext& c, size_t input, const char* what) {
  check_integer(c, input, what);
  const Type& type = c.type(input);
  if (!type.has_shape()) return std::nullopt;
  if (type.shape->size() > 1)
    c.fail(fmt::format("operand {} ({}) has rank {}, it must be one number", input, what, type.shape->size()));
  c.require_equal(element_count(*type.shape), 1, what);
  const auto values = c.integers(input);
  if (!values || values->size() != 1) return std::nullopt;
  return values->front();
}

}  // namespace sinter
