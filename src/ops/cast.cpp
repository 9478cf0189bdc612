// Cast, BitCast, QuantizeLinear, DequantizeLinear.
//
// Quantization divides in the precision of the scale's dtype, as ONNX says; the result of dequantization is rounded
// once. Scales and zero points are per tensor, per axis or per block, told apart by the scale's rank and `block`.

#include "ops/cast.h"

#include <fmt/core.h>

#include <cmath>
#include <cstring>

#include "base/checked.h"
#include "ops/families.h"
#include "ops/op.h"

namespace sinter {

std::span<const char* const> enum_names(RoundMode) {
  static constexpr const char* names[] = {"up", "down", "nearest"};
  return names;
}

const Fields& fields_of(const CastAttrs*) {
  static const Fields f = describe<CastAttrs>({field<&CastAttrs::to>("to"), field<&CastAttrs::saturate>("saturate"),
                                               field<&CastAttrs::round>("round"), field<&CastAttrs::loose>("loose")});
  return f;
}

const Fields& fields_of(const BitCastAttrs*) {
  static const Fields f = describe<BitCastAttrs>({field<&BitCastAttrs::to>("to")});
  return f;
}

const Fields& fields_of(const QuantizeAttrs*) {
  static const Fields f =
      describe<QuantizeAttrs>({field<&QuantizeAttrs::axis>("axis"), field<&QuantizeAttrs::block>("block"),
                               field<&QuantizeAttrs::to>("to"), field<&QuantizeAttrs::saturate>("saturate")});
  return f;
}

const Fields& fields_of(const DequantizeAttrs*) {
  static const Fields f =
      describe<DequantizeAttrs>({field<&DequantizeAttrs::axis>("axis"), field<&DequantizeAttrs::block>("block"),
                                 field<&DequantizeAttrs::to>("to")});
  return f;
}

namespace {

constexpr int64_t max_folded = 1024;

// Known integers keep their values where the target certainly holds them: constants always (they wrap), Dims where
// bounds that binding checks anyway say so.
void cast_contents(InferContext& c, DType to) {
  if (const Tensor* known = c.constant(0)) {
    if (known->count() > max_folded || known->dtype() == DType::string || !(is_integer(to) || to == DType::boolean))
      return;
    return c.set_contents(0, cast(*known, to));
  }
  const auto dims = c.integers(0);
  if (!dims) return;
  const auto proven = [&c](const Dim& left, const Dim& right) {
    return prove(c.host.symbols(), {Fact::Kind::at_least, left, right, {}}) == Proof::yes;
  };
  std::vector<Dim> out;
  for (const Dim& d : *dims) {
    if (to == DType::boolean) {
      if (d.is_constant())
        out.emplace_back(d.constant() != 0 ? 1 : 0);
      else if (proven(d, 1))
        out.emplace_back(1);
      else
        return;
    } else if (d.is_constant()) {
      Tensor one(to, {});
      one.set_integer(0, d.constant());
      out.emplace_back(one.get_integer(0));
    } else if (to == DType::i64 || (to == DType::u64 && proven(d, 0))) {
      out.push_back(d);
    } else if (to == DType::i32 || (to == DType::u32 && proven(d, 0))) {
      // An extent beyond 31 bits would wrap: such a run is refused when shapes are bound.
      c.require_at_least(INT32_MAX, d, "value of Cast to 32 bits");
      if (!proven(d, INT32_MIN)) c.require_at_least(d, INT32_MIN, "value of Cast to 32 bits");
      out.push_back(d);
    } else {
      return;
    }
  }
  c.set_contents(0, std::move(out));
}

void infer_cast(InferContext& c) {
  const DType from = c.dtype(0), to = c.attrs<CastAttrs>().to;
  if (from != to && (is_complex(from) || is_complex(to)))
    c.fail(fmt::format("{} to {}: complex numbers cannot be cast", dtype_name(from), dtype_name(to)));
  c.set(0, Type::tensor(to, c.type(0).shape));
  if (is_integer(to) || to == DType::boolean) cast_contents(c, to);
}

void eval_cast(EvalContext& c) {
  const auto& a = c.attrs<CastAttrs>();
  c.outputs[0] = Box(cast(c.in(0), a.to, a.saturate, a.round));
}

void infer_bit_cast(InferContext& c) {
  const DType from = c.dtype(0), to = c.attrs<BitCastAttrs>().to;
  if (from == DType::string || to == DType::string) c.fail("strings have no bits to look at");
  if (bit_size(from) != bit_size(to))
    c.fail(fmt::format("{} has {} bits, {} has {}: they must be equal", dtype_name(from), bit_size(from),
                       dtype_name(to), bit_size(to)));
  c.set(0, Type::tensor(to, c.type(0).shape));
}

void eval_bit_cast(EvalContext& c) {
  const Tensor& x = c.in(0);
  const DType to = c.attrs<BitCastAttrs>().to;
  if (bit_size(x.dtype()) != bit_size(to) || to == DType::string) c.fail("the sizes of the element types differ");
  Tensor out(to, x.dims());
  if (to == DType::boolean) {  // which is 0 or 1 everywhere else
    for (int64_t i = 0; i < x.count(); ++i) out.as_mutable<uint8_t>()[i] = x.as<uint8_t>()[i] != 0;
  } else if (x.count() > 0) {
    std::memcpy(out.mutable_data(), x.data(), static_cast<size_t>(x.bytes()));
  }
  c.outputs[0] = Box(std::move(out));
}

bool is_narrow(DType dtype) {  // what QuantizeLinear gives
  switch (dtype) {
    case DType::u8:
    case DType::i8:
    case DType::u16:
    case DType::i16:
    case DType::u4:
    case DType::i4:
    case DType::u2:
    case DType::i2:
    case DType::f8e4m3fn:
    case DType::f8e4m3fnuz:
    case DType::f8e5m2:
    case DType::f8e5m2fnuz:
    case DType::f4e2m1: return true;
    default: return false;
  }
}

// Checks that operand `input` (scale or zero point) has one of the three forms for x.
void check_granularity(InferContext& c, size_t input, int64_t axis_attr, int64_t block, const char* what) {
  const Shape& x = c.shape(0);
  const Shape& s = c.shape(input);
  if (block < 0) c.fail(fmt::format("block size {}", block));
  if (s.empty() || (block == 0 && s.size() == 1 && s[0] == Dim(1))) return;
  // One axis needs no naming.
  const int64_t axis = block == 0 && x.size() == 1 ? 0 : c.axis(axis_attr, x.size());
  if (block == 0) {
    if (s.size() != 1) c.fail(fmt::format("{} of rank {} without a block size: rank 0 or 1 is needed", what, s.size()));
    return c.require_equal(s[0], x[static_cast<size_t>(axis)], what);
  }
  if (s.size() != x.size())
    c.fail(
        fmt::format("{} of rank {} for blocks of an operand of rank {}: they must be equal", what, s.size(), x.size()));
  for (size_t k = 0; k < x.size(); ++k)
    c.require_equal(s[k], k == static_cast<size_t>(axis) ? ceildiv(x[k], block) : x[k], what);
}

void check_scaling(InferContext& c, int64_t axis, int64_t block) {
  check_granularity(c, 1, axis, block, "scale");
  if (c.has(2)) check_granularity(c, 2, axis, block, "zero point");
}

// Which element of a scale or zero point belongs to element i of x.
class Granularity {
 public:
  Granularity(const EvalContext& c, const Tensor& x, const Tensor& s, int64_t axis, int64_t block) : block_(block) {
    if ((block == 0 && s.count() == 1) || s.rank() == 0 || x.count() == 0) return;
    const auto rank = static_cast<int64_t>(x.rank());
    if (block == 0 && rank == 1) axis = 0;
    if (axis < 0) axis += rank;
    const bool fits = axis >= 0 && axis < rank && (block > 0 ? s.rank() == x.rank() : s.rank() == 1);
    if (!fits) c.fail("the scale does not fit the operand");
    const auto k = static_cast<size_t>(axis);
    extent_ = x.dims()[k];
    scales_ = s.dims()[block > 0 ? k : 0];
    const bool enough = block > 0 ? (extent_ == 0 ? 0 : (extent_ - 1) / block + 1) <= scales_ : scales_ == extent_;
    if (!enough) c.fail("the scale has too few elements");
    for (size_t j = k + 1; j < x.rank(); ++j) inner_ *= x.dims()[j];
    for (size_t j = 0; block > 0 && j < x.rank(); ++j)
      if (j != k && s.dims()[j] != x.dims()[j]) c.fail("the scale does not fit the operand");
  }

  int64_t operator()(int64_t i) const {
    if (extent_ < 0) return 0;
    const int64_t at = i / inner_ % extent_;
    if (block_ == 0) return at;
    return (i / (inner_ * extent_) * scales_ + at / block_) * inner_ + i % inner_;
  }

 private:
  int64_t block_;
  int64_t extent_ = -1, scales_ = 1, inner_ = 1;  // extent_ < 0: one for all
};

void infer_quantize(InferContext& c) {
  const auto& a = c.attrs<QuantizeAttrs>();
  const DType x = c.dtype(0), scale = c.dtype(1);
  if (!is_narrow(a.to)) c.fail(fmt::format("cannot quantize to {}", dtype_name(a.to)));
  if (!is_float(x) && !is_integer(x)) c.fail(fmt::format("operand 0 is {}, it must be a number", dtype_name(x)));
  if (!is_float(scale) && !is_integer(scale)) c.fail(fmt::format("scale is {}", dtype_name(scale)));
  if (c.has(2) && c.dtype(2) != a.to)
    c.fail(fmt::format("zero point is {}, the result is {}: they must be equal", dtype_name(c.dtype(2)),
                       dtype_name(a.to)));
  c.set(0, Type::tensor(a.to, c.type(0).shape));
  check_scaling(c, a.axis, a.block);
}

// The dtype in which x / scale is rounded; none for what is exact enough.
std::optional<DType> division_precision(DType x, DType scale) {
  if (scale == DType::f8e8m0) return is_float(x) ? x : DType::f32;  // powers of two have no room for a quotient
  return is_float(scale) && scale != DType::f64 ? std::optional(scale) : std::nullopt;
}

double rounded_to(std::optional<DType> dtype, double v) {
  if (!dtype || *dtype == DType::f64) return v;
  return decode_float(*dtype, encode_float(*dtype, v, false));
}

void eval_quantize(EvalContext& c) {
  const auto& a = c.attrs<QuantizeAttrs>();
  const Tensor &x = c.in(0), &scale = c.in(1);
  const Granularity scale_at(c, x, scale, a.axis, a.block);
  const Tensor* zero = c.has(2) ? &c.in(2) : nullptr;
  const Granularity zero_at(c, x, zero ? *zero : scale, a.axis, a.block);
  const auto precision = division_precision(x.dtype(), scale.dtype());
  const int bits = bit_size(a.to);
  const double low = is_signed(a.to) ? -std::ldexp(1.0, bits - 1) : 0;
  const double high = std::ldexp(1.0, is_signed(a.to) ? bits - 1 : bits) - 1;
  Tensor& out = c.out(0);
  for (int64_t i = 0; i < x.count(); ++i) {
    const double quotient = rounded_to(precision, rounded_to(precision, x.get_real(i)) / scale.get_real(scale_at(i)));
    const double offset = zero ? zero->get_real(zero_at(i)) : 0;
    if (is_integer(a.to)) {
      // NaN is quantized as 0 is.
      const double whole = std::isnan(quotient) ? offset : std::nearbyint(quotient) + offset;
      out.set_integer(i, static_cast<int64_t>(std::min(std::max(whole, low), high)));
    } else if (bits == 8) {
      out.as_mutable<uint8_t>()[i] = static_cast<uint8_t>(encode_float(a.to, quotient + offset, a.saturate));
    } else {
      out.set_real(i, quotient + offset);
    }
  }
}

void infer_dequantize(InferContext& c) {
  const auto& a = c.attrs<DequantizeAttrs>();
  const DType x = c.dtype(0), scale = c.dtype(1);
  if (!is_narrow(x) && x != DType::i32) c.fail(fmt::format("cannot dequantize {}", dtype_name(x)));
  if (!is_float(scale)) c.fail(fmt::format("scale is {}, it must be a float", dtype_name(scale)));
  if (!is_float(a.to)) c.fail(fmt::format("cannot dequantize to {}", dtype_name(a.to)));
  if (c.has(2) && c.dtype(2) != x)
    c.fail(
        fmt::format("zero point is {}, the operand is {}: they must be equal", dtype_name(c.dtype(2)), dtype_name(x)));
  c.set(0, Type::tensor(a.to, c.type(0).shape));
  check_scaling(c, a.axis, a.block);
}

void eval_dequantize(EvalContext& c) {
  const auto& a = c.attrs<DequantizeAttrs>();
  const Tensor &x = c.in(0), &scale = c.in(1);
  const Granularity scale_at(c, x, scale, a.axis, a.block);
  const Tensor* zero = c.has(2) ? &c.in(2) : nullptr;
  const Granularity zero_at(c, x, zero ? *zero : scale, a.axis, a.block);
  Tensor& out = c.out(0);
  for (int64_t i = 0; i < x.count(); ++i) {
    const double offset = zero ? zero->get_real(zero_at(i)) : 0;
    out.set_real(i, (x.get_real(i) - offset) * scale.get_real(scale_at(i)));
  }
}

constexpr Op table[] = {
    {.name = "Cast", .fields = fields<CastAttrs>, .infer = infer_cast, .eval = eval_cast},
    {.name = "BitCast", .fields = fields<BitCastAttrs>, .infer = infer_bit_cast, .eval = eval_bit_cast},
    {.name = "QuantizeLinear",
     .fields = fields<QuantizeAttrs>,
     .inputs = {2, 3},
     .infer = infer_quantize,
     .eval = eval_quantize},
    {.name = "DequantizeLinear",
     .fields = fields<DequantizeAttrs>,
     .inputs = {2, 3},
     .is = {.compact_matrices = true},
     .infer = infer_dequantize,
     .eval = eval_dequantize},
};

}  // namespace

std::span<const Op> cast_ops() { return table; }

}  // namespace sinter
