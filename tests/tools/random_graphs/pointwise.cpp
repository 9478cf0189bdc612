// Pointwise operators, conversions and quantization.

#include <fmt/format.h>

#include "random_graphs/maker.h"

namespace random_graphs {
namespace {

int worst(const Maker& m, int x, int y) { return m.exact(x) && m.exact(y) ? std::max(m.grain(x), m.grain(y)) : -1; }

bool exact_unary(Maker& m) {
  const int x = m.pick_exact();
  if (x < 0) return false;
  static constexpr const char* any[] = {"Relu", "Neg", "Abs", "Identity", "Sign"};
  static constexpr const char* floats[] = {"Floor", "Ceil", "Round", "ThresholdedRelu{alpha=0.3}",
                                           "Clip{low=-1, high=1.5}"};
  return m.call(is_float(m.dtype(x)) && m.once_in(2) ? m.one_of(floats) : m.one_of(any), {x}, m.grain(x)) >= 0;
}

bool smooth_unary(Maker& m) {
  int x = m.pick_float();
  if (x < 0) return false;
  static constexpr const char* anywhere[] = {"Sigmoid",
                                             "Tanh",
                                             "Sin",
                                             "Cos",
                                             "Erf",
                                             "Gelu",
                                             "GeluTanh",
                                             "Softplus",
                                             "Swish",
                                             "Atan",
                                             "Relu",
                                             "Asinh",
                                             "Softsign",
                                             "Mish",
                                             "Abs",
                                             "HardSigmoid{alpha=0.3, beta=0.4}",
                                             "Elu",
                                             "Selu",
                                             "Neg",
                                             "Clip{low=-1, high=1.5}",
                                             "LeakyRelu{alpha=0.1}",
                                             "Swish{alpha=1.5}"};
  if (m.bounded(x, 2)) {
    static constexpr const char* slow[] = {"Exp", "Sinh", "Cosh"};
    if (m.once_in(4)) return m.call(m.one_of(slow), {x}) >= 0;
  }
  if (m.below(3)) return m.call(m.one_of(anywhere), {x}) >= 0;
  // Away from where they have no value: |x| + 1/2, or 0.9 * tanh(x).
  static constexpr const char* positive[] = {"Log", "Sqrt", "Reciprocal"};
  static constexpr const char* inside[] = {"Asin", "Acos", "Atanh", "Tan"};
  const DType d = m.dtype(x);
  if (m.once_in(2)) {
    const int a = m.call("Abs", {x});
    const int b = a < 0 ? -1 : m.call("Add", {a, m.number(d, m.once_in(4) ? 1.5 : 0.5)});
    if (b < 0) return false;
    // Acosh has no value below 1 and is steep at it.
    if (!m.once_in(6)) return m.call(m.one_of(positive), {b}) >= 0;
    const int over = m.call("Add", {b, m.number(d, 1)});
    return over >= 0 && m.call("Acosh", {over}) >= 0;
  }
  const int a = m.call("Tanh", {x});
  const int b = a < 0 ? -1 : m.call("Mul", {a, m.number(d, 0.75)});
  return b >= 0 && m.call(m.one_of(inside), {b}) >= 0;
}

bool float_binary(Maker& m) {
  const int x = m.pick_float();
  if (x < 0) return false;
  const int y = m.broadcastable(m.dtype(x), m.dims(x));
  if (y < 0) return false;
  const int g = worst(m, x, y);
  std::vector<int> both{x, y};
  if (m.once_in(2)) std::swap(both[0], both[1]);
  switch (m.below(9)) {
    case 0:
    case 1: return m.call("Add", both, g) >= 0;
    case 2: return m.call("Sub", both, g) >= 0;
    case 3: return m.call("Max", both, g) >= 0;
    case 4: return m.call("Min", both, g) >= 0;
    case 5:
    case 6: return m.call("Mul", both, g < 0 ? -1 : m.grain(x) + m.grain(y)) >= 0;
    case 7: {
      const int a = m.call("Abs", {both[1]});
      const int b = a < 0 ? -1 : m.call("Add", {a, m.number(m.dtype(x), 0.5)});
      return b >= 0 && m.call("Div", {both[0], b}) >= 0;
    }
    default: return m.call("PRelu", {x, y}) >= 0;
  }
}

bool float_rare(Maker& m) {
  const int x = m.pick_float();
  if (x < 0) return false;
  const DType d = m.dtype(x);
  if (m.once_in(2)) {
    const int a = m.call("Abs", {x});
    const int b = a < 0 ? -1 : m.call("Add", {a, m.number(d, 0.5)});
    static constexpr double powers[] = {2, 0.5, -1, 3, 1.5, 0, 1};
    return b >= 0 && m.call("Pow", {b, m.number(d, m.one_of(powers))}) >= 0;
  }
  static constexpr double divisors[] = {1, 2, 0.5, -2, 3};
  return m.exact(x) && m.call(m.once_in(2) ? "Mod{fmod=true}" : "Mod", {x, m.number(d, m.one_of(divisors))}, 3) >= 0;
}

bool integer_binary(Maker& m) {
  const int x = m.pick([&](int v) { return is_integer(m.dtype(v)) && !is_sub_byte(m.dtype(v)); });
  if (x < 0) return false;
  const int y = m.broadcastable(m.dtype(x), m.dims(x));
  if (y < 0) return false;
  static constexpr const char* names[] = {"Add", "Sub",    "Mul",   "Div",    "Mod",       "Mod{fmod=true}", "Min",
                                          "Max", "BitAnd", "BitOr", "BitXor", "ShiftLeft", "ShiftRight",     "Pow"};
  return m.call(m.one_of(names), {x, y}, 0) >= 0;
}

bool integer_unary(Maker& m) {
  const int x = m.pick([&](int v) { return is_integer(m.dtype(v)) && !is_sub_byte(m.dtype(v)); });
  static constexpr const char* names[] = {"Neg", "Abs", "Sign", "BitNot", "Relu", "Identity"};
  return x >= 0 && m.call(m.one_of(names), {x}, 0) >= 0;
}

bool compare(Maker& m) {
  const int x = m.pick_exact();
  if (x < 0) return false;
  const int y = m.broadcastable(m.dtype(x), m.dims(x));
  if (y < 0 || !m.exact(y)) return false;
  static constexpr const char* names[] = {"Less", "LessOrEqual", "Equal"};
  if (is_float(m.dtype(x)) && m.once_in(6)) {
    static constexpr const char* tests[] = {"IsNaN", "IsInf", "IsInf{negative=false}"};
    return m.call(m.one_of(tests), {x}, 0) >= 0;
  }
  return m.call(m.one_of(names), {x, y}, 0) >= 0;
}

bool logic(Maker& m) {
  const int x = m.pick(DType::boolean);
  if (x < 0) return compare(m);
  if (m.once_in(4)) return m.call("Not", {x}, 0) >= 0;
  const int y = m.broadcastable(DType::boolean, m.dims(x));
  static constexpr const char* names[] = {"And", "Or", "Xor", "Equal"};
  return y >= 0 && m.call(m.one_of(names), {x, y}, 0) >= 0;
}

bool where(Maker& m) {
  int c = m.pick(DType::boolean);
  if (c < 0) return compare(m);
  const int x = m.pick([&](int v) { return m.dtype(v) != DType::string && Maker::broadcast(m.dims(v), m.dims(c)); });
  if (x < 0) return false;
  const int y = m.broadcastable(m.dtype(x), *Maker::broadcast(m.dims(x), m.dims(c)));
  return y >= 0 && m.call("Where", {c, x, y}, worst(m, x, y)) >= 0;
}

bool cast(Maker& m) {
  const int x = m.pick_any();
  if (x < 0) return false;
  static constexpr DType narrow[] = {DType::f8e4m3fn,   DType::f8e5m2, DType::f8e4m3fnuz,
                                     DType::f8e5m2fnuz, DType::f4e2m1, DType::i4,
                                     DType::u4,         DType::i2,     DType::u2};
  const DType from = m.dtype(x);
  // Narrow ones do not stay long: few operators take them.
  const DType to = bit_size(from) <= 8 && from != DType::boolean && from != DType::i8 && from != DType::u8
                       ? (m.below(3) ? DType::f32 : DType::i32)
                   : m.once_in(6) ? m.one_of(narrow)
                   : m.once_in(8) ? DType::boolean
                   : m.once_in(2) ? m.float_dtype()
                                  : m.integer_dtype();
  return m.cast(x, to) >= 0;
}

bool bit_cast(Maker& m) {
  const int x = m.pick([&](int v) { return is_integer(m.dtype(v)) && bit_size(m.dtype(v)) >= 8; });
  if (x < 0) return false;
  const bool sign = !is_signed(m.dtype(x));
  static constexpr const char* with_sign[] = {"i8", "i16", "i32", "i64"};
  static constexpr const char* without[] = {"u8", "u16", "u32", "u64"};
  const size_t at = bit_size(m.dtype(x)) == 8 ? 0 : bit_size(m.dtype(x)) == 16 ? 1 : bit_size(m.dtype(x)) == 32 ? 2 : 3;
  return m.call(fmt::format("BitCast{{to={}}}", sign ? with_sign[at] : without[at]), {x}, 0) >= 0;
}

// Scales are powers of two: where rounding decides is then the same in f32 and in double.
bool quantize(Maker& m) {
  const int x = m.pick([&](int v) { return m.dtype(v) == DType::f32 && m.exact(v); });
  if (x < 0) return false;
  static constexpr DType types[] = {DType::u8, DType::i8, DType::u8, DType::i8, DType::i16, DType::u16, DType::i4};
  static constexpr double scales[] = {0.125, 0.25, 0.5, 0.0625};
  const DType to = m.one_of(types);
  const bool per_axis = m.rank(x) > 0 && m.once_in(2);
  const int axis = per_axis ? m.below(m.rank(x)) : 0;
  Dims d;
  if (per_axis) d.push_back(m.extent_of(x, axis));
  Tensor scale(DType::f32, d), zero(to, d);
  for (int64_t i = 0; i < scale.count(); ++i) {
    scale.set_real(i, m.one_of(scales));
    zero.set_integer(i, is_signed(to) ? m.between(-3, 3) : m.between(0, 7));
  }
  const int s = m.constant(std::move(scale)), z = m.constant(std::move(zero));
  const int q = m.call(fmt::format("QuantizeLinear{{axis={}, to={}}}", axis, dtype_name(to)), {x, s, z}, 0);
  if (q < 0) return false;
  const int moved = m.once_in(3) && !per_axis && m.rank(x) == 2 ? m.call("Transpose{perm=[1, 0]}", {q}, 0) : q;
  return m.call(fmt::format("DequantizeLinear{{axis={}}}", axis), {moved, s, z}, 4) >= 0;
}

constexpr Family table[] = {
    {"exact unary", 4, exact_unary},
    {"smooth unary", 7, smooth_unary},
    {"float binary", 9, float_binary},
    {"powers", 2, float_rare},
    {"integer binary", 5, integer_binary},
    {"integer unary", 2, integer_unary},
    {"compare", 3, compare},
    {"logic", 2, logic},
    {"where", 3, where},
    {"cast", 4, cast},
    {"bit cast", 1, bit_cast},
    {"quantize", 2, quantize},
};

}  // namespace

std::span<const Family> pointwise_families() { return table; }

}  // namespace random_graphs
