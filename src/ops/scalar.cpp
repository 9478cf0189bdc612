#include "ops/scalar.h"

#include <fmt/core.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <optional>

#include "base/checked.h"
#include "base/error.h"
#include "base/scanner.h"

namespace sinter {
namespace {

struct Info {
  ScalarOp op;
  const char* name;
  int arity;
};

constexpr Info table[] = {
    {ScalarOp::input, "input", 0},
    {ScalarOp::constant, "constant", 0},
    {ScalarOp::attribute, "attribute", 0},
    {ScalarOp::add, "add", 2},
    {ScalarOp::sub, "sub", 2},
    {ScalarOp::mul, "mul", 2},
    {ScalarOp::div, "div", 2},
    {ScalarOp::mod, "mod", 2},
    {ScalarOp::fmod, "fmod", 2},
    {ScalarOp::pow, "pow", 2},
    {ScalarOp::min, "min", 2},
    {ScalarOp::max, "max", 2},
    {ScalarOp::neg, "neg", 1},
    {ScalarOp::abs, "abs", 1},
    {ScalarOp::sign, "sign", 1},
    {ScalarOp::floor, "floor", 1},
    {ScalarOp::ceil, "ceil", 1},
    {ScalarOp::trunc, "trunc", 1},
    {ScalarOp::round, "round", 1},
    {ScalarOp::sqrt, "sqrt", 1},
    {ScalarOp::reciprocal, "reciprocal", 1},
    {ScalarOp::exp, "exp", 1},
    {ScalarOp::expm1, "expm1", 1},
    {ScalarOp::log, "log", 1},
    {ScalarOp::log1p, "log1p", 1},
    {ScalarOp::sin, "sin", 1},
    {ScalarOp::cos, "cos", 1},
    {ScalarOp::tan, "tan", 1},
    {ScalarOp::asin, "asin", 1},
    {ScalarOp::acos, "acos", 1},
    {ScalarOp::atan, "atan", 1},
    {ScalarOp::sinh, "sinh", 1},
    {ScalarOp::cosh, "cosh", 1},
    {ScalarOp::tanh, "tanh", 1},
    {ScalarOp::asinh, "asinh", 1},
    {ScalarOp::acosh, "acosh", 1},
    {ScalarOp::atanh, "atanh", 1},
    {ScalarOp::erf, "erf", 1},
    {ScalarOp::sigmoid, "sigmoid", 1},
    {ScalarOp::is_nan, "is_nan", 1},
    {ScalarOp::is_inf, "is_inf", 1},
    {ScalarOp::logical_not, "logical_not", 1},
    {ScalarOp::bit_not, "bit_not", 1},
    {ScalarOp::equal, "equal", 2},
    {ScalarOp::less, "less", 2},
    {ScalarOp::less_equal, "less_equal", 2},
    {ScalarOp::logical_and, "logical_and", 2},
    {ScalarOp::logical_or, "logical_or", 2},
    {ScalarOp::logical_xor, "logical_xor", 2},
    {ScalarOp::bit_and, "bit_and", 2},
    {ScalarOp::bit_or, "bit_or", 2},
    {ScalarOp::bit_xor, "bit_xor", 2},
    {ScalarOp::shift_left, "shift_left", 2},
    {ScalarOp::shift_right, "shift_right", 2},
    {ScalarOp::select, "select", 3},
};
constexpr size_t op_count = sizeof table / sizeof *table;

constexpr bool table_is_ordered() {
  for (size_t i = 0; i < op_count; ++i)
    if (static_cast<size_t>(table[i].op) != i) return false;
  return static_cast<size_t>(ScalarOp::select) + 1 == op_count;
}
static_assert(table_is_ordered());

// The program being built; a node that is there already is used again.
class Nodes {
 public:
  uint16_t add(const ScalarNode& node) {
    for (size_t i = 0; i < list.size(); ++i)
      if (same(list[i], node)) return static_cast<uint16_t>(i);
    list.push_back(node);
    return narrow<uint16_t>(list.size() - 1, "scalar expression length");
  }
  std::vector<ScalarNode> list;

 private:
  static bool same(const ScalarNode& a, const ScalarNode& b) {
    return a.op == b.op && a.a == b.a && a.b == b.b && a.c == b.c && a.index == b.index && a.value == b.value &&
           std::signbit(a.value) == std::signbit(b.value);
  }
};

// Moves `result` to the end and drops what it does not need.
std::vector<ScalarNode> reachable(const std::vector<ScalarNode>& nodes, uint16_t result) {
  std::vector<bool> needed(nodes.size(), false);
  needed[result] = true;
  for (size_t i = nodes.size(); i-- > 0;) {
    if (!needed[i]) continue;
    const int arity = scalar_arity(nodes[i].op);
    if (arity > 0) needed[nodes[i].a] = true;
    if (arity > 1) needed[nodes[i].b] = true;
    if (arity > 2) needed[nodes[i].c] = true;
  }
  std::vector<uint16_t> at(nodes.size(), 0);
  std::vector<ScalarNode> out;
  for (size_t i = 0; i < nodes.size(); ++i) {
    if (!needed[i]) continue;
    ScalarNode node = nodes[i];
    node.a = at[node.a], node.b = at[node.b], node.c = at[node.c];
    at[i] = static_cast<uint16_t>(out.size());
    out.push_back(node);
  }
  return out;
}

class Parser {
 public:
  Parser(std::string_view text, const Fields* fields) : scanner_(text), fields_(fields) {}

  Scalar run() {
    const uint16_t result = either();
    if (!scanner_.at_end()) scanner_.fail("expected the end");
    return {reachable(nodes_.list, result), operands_};
  }

 private:
  uint16_t node(ScalarOp op, uint16_t a, uint16_t b = 0, uint16_t c = 0) { return nodes_.add({op, a, b, c}); }
  uint16_t constant(double value) {
    ScalarNode n{ScalarOp::constant};
    n.value = value;
    return nodes_.add(n);
  }

  uint16_t either() {
    uint16_t a = both();
    while (scanner_.accept("||")) a = node(ScalarOp::logical_or, a, both());
    return a;
  }

  uint16_t both() {
    uint16_t a = comparison();
    while (scanner_.accept("&&")) a = node(ScalarOp::logical_and, a, comparison());
    return a;
  }

  uint16_t comparison() {
    const uint16_t a = sum();
    if (scanner_.accept("==")) return node(ScalarOp::equal, a, sum());
    if (scanner_.accept("!=")) return node(ScalarOp::logical_not, node(ScalarOp::equal, a, sum()));
    if (scanner_.accept("<=")) return node(ScalarOp::less_equal, a, sum());
    if (scanner_.accept(">=")) return node(ScalarOp::less_equal, sum(), a);
    if (scanner_.accept("<")) return node(ScalarOp::less, a, sum());
    if (scanner_.accept(">")) return node(ScalarOp::less, sum(), a);
    return a;
  }

  uint16_t sum() {
    uint16_t a = product();
    while (true) {
      if (scanner_.accept("+"))
        a = node(ScalarOp::add, a, product());
      else if (scanner_.accept("-"))
        a = node(ScalarOp::sub, a, product());
      else
        return a;
    }
  }

  uint16_t product() {
    uint16_t a = unary();
    while (true) {
      if (scanner_.accept("*"))
        a = node(ScalarOp::mul, a, unary());
      else if (scanner_.accept("/"))
        a = node(ScalarOp::div, a, unary());
      else if (scanner_.accept("%"))
        a = node(ScalarOp::mod, a, unary());
      else
        return a;
    }
  }

  uint16_t unary() {
    if (scanner_.accept("!")) return node(ScalarOp::logical_not, unary());
    if (!scanner_.accept("-")) return primary();
    if (const auto value = number()) return constant(-*value);
    return node(ScalarOp::neg, unary());
  }

  std::optional<double> number() {
    const char c = scanner_.peek();
    if ((c >= '0' && c <= '9') || c == '.') return scanner_.number();
    if (scanner_.accept("inf")) return std::numeric_limits<double>::infinity();
    return std::nullopt;
  }

  uint16_t primary() {
    if (scanner_.accept("(")) {
      const uint16_t a = either();
      scanner_.expect(")");
      return a;
    }
    if (const auto value = number()) return constant(*value);
    const std::string_view name = scanner_.identifier();
    if (scanner_.accept("(")) return call(name);
    if (name.size() == 1 && name[0] >= 'x' && name[0] <= 'z') return operand(static_cast<uint16_t>(name[0] - 'x'));
    return attribute(name);
  }

  uint16_t operand(uint16_t index) {
    operands_ = std::max(operands_, index + 1);
    ScalarNode n{ScalarOp::input};
    n.index = index;
    return nodes_.add(n);
  }

  uint16_t attribute(std::string_view name) {
    if (fields_)
      for (size_t i = 0; i < fields_->list.size(); ++i) {
        const Field& f = fields_->list[i];
        if (name != f.name) continue;
        if (f.kind != FieldKind::boolean && f.kind != FieldKind::i64 && f.kind != FieldKind::f64)
          scanner_.fail(fmt::format("attribute '{}' is neither a number nor a flag", name));
        ScalarNode n{ScalarOp::attribute};
        n.index = static_cast<uint16_t>(i);
        return nodes_.add(n);
      }
    scanner_.fail(fmt::format("'{}' is neither an operand nor an attribute", name));
  }

  uint16_t call(std::string_view name) {
    for (const Info& info : table) {
      if (info.arity == 0 || name != info.name) continue;
      std::array<uint16_t, 3> arguments{};
      for (int k = 0; k < info.arity; ++k) {
        if (k) scanner_.expect(",");
        arguments[static_cast<size_t>(k)] = either();
      }
      scanner_.expect(")");
      return node(info.op, arguments[0], arguments[1], arguments[2]);
    }
    scanner_.fail(fmt::format("no scalar operator is named '{}'", name));
  }

  Scanner scanner_;
  const Fields* fields_;
  Nodes nodes_;
  int operands_ = 0;
};

double value_of(const Field& f, const void* object) {
  const void* member = f.member(const_cast<void*>(object));
  if (f.kind == FieldKind::boolean) return *static_cast<const bool*>(member) ? 1 : 0;
  if (f.kind == FieldKind::i64) return static_cast<double>(*static_cast<const int64_t*>(member));
  return *static_cast<const double*>(member);
}

double minimum(double a, double b) {
  if (std::isnan(a) || std::isnan(b)) return std::numeric_limits<double>::quiet_NaN();
  if (a == b) return std::signbit(a) ? a : b;
  return a < b ? a : b;
}

double maximum(double a, double b) {
  if (std::isnan(a) || std::isnan(b)) return std::numeric_limits<double>::quiet_NaN();
  if (a == b) return std::signbit(a) ? b : a;
  return a < b ? b : a;
}

double sigmoid(double a) {
  if (a >= 0) return 1 / (1 + std::exp(-a));
  const double e = std::exp(a);
  return e / (1 + e);
}

// Half to even whatever the rounding mode of the thread.
double round_even(double a) {
  const double down = std::floor(a), fraction = a - down;
  if (!(fraction >= 0)) return a;  // NaN and infinities
  double out = down;
  if (fraction > 0.5 || (fraction == 0.5 && std::fmod(down, 2) != 0)) out = down + 1;
  return std::copysign(out, a);
}

// Sign of the divisor, as in Python.
double floor_mod(double a, double b) {
  const double r = std::fmod(a, b);
  return r != 0 && (r < 0) != (b < 0) ? r + b : r;
}

// Two's complement arithmetic by way of unsigned numbers, which wrap.
int64_t wrap(uint64_t v) { return static_cast<int64_t>(v); }
uint64_t bits_of(int64_t v) { return static_cast<uint64_t>(v); }

int64_t divide(int64_t a, int64_t b, bool is_unsigned) {
  if (b == 0) return 0;
  if (is_unsigned) return wrap(bits_of(a) / bits_of(b));
  if (b == -1) return wrap(-bits_of(a));
  return a / b;
}

int64_t remainder(int64_t a, int64_t b, bool is_unsigned, bool sign_of_divisor) {
  if (b == 0) return 0;
  if (is_unsigned) return wrap(bits_of(a) % bits_of(b));
  if (b == -1) return 0;
  const int64_t r = a % b;
  return sign_of_divisor && r != 0 && (r < 0) != (b < 0) ? r + b : r;
}

int64_t power(int64_t base, int64_t exponent, bool is_unsigned) {
  if (!is_unsigned && exponent < 0) {
    if (base == 1) return 1;
    if (base == -1) return exponent % 2 == 0 ? 1 : -1;
    return 0;
  }
  uint64_t factor = bits_of(base), out = 1;
  for (uint64_t e = bits_of(exponent); e != 0; e >>= 1) {
    if (e & 1) out *= factor;
    factor *= factor;
  }
  return wrap(out);
}

int64_t from_real(double v) {
  if (std::isnan(v)) return 0;
  if (v >= 9223372036854775808.0) return INT64_MAX;
  return v < -9223372036854775808.0 ? INT64_MIN : static_cast<int64_t>(v);
}

}  // namespace

const char* scalar_op_name(ScalarOp op) { return table[static_cast<size_t>(op)].name; }

int scalar_arity(ScalarOp op) { return table[static_cast<size_t>(op)].arity; }

Scalar parse_scalar(std::string_view text, const Fields* fields) {
  try {
    return Parser(text, fields).run();
  } catch (const Error& error) {
    throw Error(Code::internal, fmt::format("scalar expression \"{}\": {}", text, error.message()));
  }
}

Scalar with_attributes(const Scalar& scalar, const Attrs& attrs) {
  Nodes nodes;
  std::vector<uint16_t> at;
  for (ScalarNode node : scalar.nodes) {
    if (node.op == ScalarOp::attribute) {
      if (!attrs.fields() || node.index >= attrs.fields()->list.size())
        throw Error(Code::internal, "a scalar expression names an attribute that its operator lacks");
      const double value = value_of(attrs.fields()->list[node.index], attrs.object());
      node = ScalarNode{ScalarOp::constant};
      node.value = value;
    }
    const int arity = scalar_arity(node.op);
    if (arity > 0) node.a = at[node.a];
    if (arity > 1) node.b = at[node.b];
    if (arity > 2) node.c = at[node.c];
    // A flag decides which side is meant; the other one must not keep contents or kernels from following.
    if (node.op == ScalarOp::select && nodes.list[node.a].op == ScalarOp::constant)
      at.push_back(nodes.list[node.a].value != 0 ? node.b : node.c);
    else
      at.push_back(nodes.add(node));
  }
  if (at.empty()) return scalar;
  return {reachable(nodes.list, at.back()), scalar.operands};
}

double scalar_real(ScalarOp op, double a, double b, double c) {
  switch (op) {
    case ScalarOp::input:
    case ScalarOp::constant:
    case ScalarOp::attribute: return a;
    case ScalarOp::add: return a + b;
    case ScalarOp::sub: return a - b;
    case ScalarOp::mul: return a * b;
    case ScalarOp::div: return a / b;
    case ScalarOp::mod: return floor_mod(a, b);
    case ScalarOp::fmod: return std::fmod(a, b);
    case ScalarOp::pow: return std::pow(a, b);
    case ScalarOp::min: return minimum(a, b);
    case ScalarOp::max: return maximum(a, b);
    case ScalarOp::neg: return -a;
    case ScalarOp::abs: return std::abs(a);
    case ScalarOp::sign: return a > 0 ? 1 : a < 0 ? -1 : a;
    case ScalarOp::floor: return std::floor(a);
    case ScalarOp::ceil: return std::ceil(a);
    case ScalarOp::trunc: return std::trunc(a);
    case ScalarOp::round: return round_even(a);
    case ScalarOp::sqrt: return std::sqrt(a);
    case ScalarOp::reciprocal: return 1 / a;
    case ScalarOp::exp: return std::exp(a);
    case ScalarOp::expm1: return std::expm1(a);
    case ScalarOp::log: return std::log(a);
    case ScalarOp::log1p: return std::log1p(a);
    case ScalarOp::sin: return std::sin(a);
    case ScalarOp::cos: return std::cos(a);
    case ScalarOp::tan: return std::tan(a);
    case ScalarOp::asin: return std::asin(a);
    case ScalarOp::acos: return std::acos(a);
    case ScalarOp::atan: return std::atan(a);
    case ScalarOp::sinh: return std::sinh(a);
    case ScalarOp::cosh: return std::cosh(a);
    case ScalarOp::tanh: return std::tanh(a);
    case ScalarOp::asinh: return std::asinh(a);
    case ScalarOp::acosh: return std::acosh(a);
    case ScalarOp::atanh: return std::atanh(a);
    case ScalarOp::erf: return std::erf(a);
    case ScalarOp::sigmoid: return sigmoid(a);
    case ScalarOp::is_nan: return std::isnan(a);
    case ScalarOp::is_inf: return std::isinf(a);
    case ScalarOp::logical_not: return a == 0;
    case ScalarOp::equal: return a == b;
    case ScalarOp::less: return a < b;
    case ScalarOp::less_equal: return a <= b;
    case ScalarOp::logical_and: return a != 0 && b != 0;
    case ScalarOp::logical_or: return a != 0 || b != 0;
    case ScalarOp::logical_xor: return (a != 0) != (b != 0);
    case ScalarOp::select: return a != 0 ? b : c;
    // Bits of a real number mean nothing.
    case ScalarOp::bit_not:
    case ScalarOp::bit_and:
    case ScalarOp::bit_or:
    case ScalarOp::bit_xor:
    case ScalarOp::shift_left:
    case ScalarOp::shift_right: return std::numeric_limits<double>::quiet_NaN();
  }
  return a;
}

int64_t scalar_integer(ScalarOp op, int64_t a, int64_t b, int64_t c, bool is_unsigned, int bits) {
  const auto below = [is_unsigned](int64_t l, int64_t r) { return is_unsigned ? bits_of(l) < bits_of(r) : l < r; };
  const bool shift_fits = bits_of(b) < static_cast<uint64_t>(bits);  // negative ones are over-long too
  switch (op) {
    case ScalarOp::input:
    case ScalarOp::constant:
    case ScalarOp::attribute: return a;
    case ScalarOp::add: return wrap(bits_of(a) + bits_of(b));
    case ScalarOp::sub: return wrap(bits_of(a) - bits_of(b));
    case ScalarOp::mul: return wrap(bits_of(a) * bits_of(b));
    case ScalarOp::div: return divide(a, b, is_unsigned);
    case ScalarOp::mod: return remainder(a, b, is_unsigned, true);
    case ScalarOp::fmod: return remainder(a, b, is_unsigned, false);
    case ScalarOp::pow: return power(a, b, is_unsigned);
    case ScalarOp::min: return below(b, a) ? b : a;
    case ScalarOp::max: return below(a, b) ? b : a;
    case ScalarOp::neg: return wrap(-bits_of(a));
    case ScalarOp::abs: return is_unsigned || a >= 0 ? a : wrap(-bits_of(a));
    case ScalarOp::sign: return is_unsigned ? a != 0 : (a > 0) - (a < 0);
    case ScalarOp::floor:
    case ScalarOp::ceil:
    case ScalarOp::trunc:
    case ScalarOp::round: return a;
    case ScalarOp::is_nan:
    case ScalarOp::is_inf: return 0;
    case ScalarOp::logical_not: return a == 0;
    case ScalarOp::bit_not: return ~a;
    case ScalarOp::equal: return a == b;
    case ScalarOp::less: return below(a, b);
    case ScalarOp::less_equal: return !below(b, a);
    case ScalarOp::logical_and: return a != 0 && b != 0;
    case ScalarOp::logical_or: return a != 0 || b != 0;
    case ScalarOp::logical_xor: return (a != 0) != (b != 0);
    case ScalarOp::bit_and: return a & b;
    case ScalarOp::bit_or: return a | b;
    case ScalarOp::bit_xor: return a ^ b;
    case ScalarOp::shift_left: return shift_fits ? wrap(bits_of(a) << b) : 0;
    case ScalarOp::shift_right:
      if (!shift_fits) return 0;
      return is_unsigned ? wrap(bits_of(a) >> b) : a >> b;
    case ScalarOp::select: return a != 0 ? b : c;
    // Functions of real numbers: computed as such, then truncated and clamped to 64 bits.
    case ScalarOp::sqrt:
    case ScalarOp::reciprocal:
    case ScalarOp::exp:
    case ScalarOp::expm1:
    case ScalarOp::log:
    case ScalarOp::log1p:
    case ScalarOp::sin:
    case ScalarOp::cos:
    case ScalarOp::tan:
    case ScalarOp::asin:
    case ScalarOp::acos:
    case ScalarOp::atan:
    case ScalarOp::sinh:
    case ScalarOp::cosh:
    case ScalarOp::tanh:
    case ScalarOp::asinh:
    case ScalarOp::acosh:
    case ScalarOp::atanh:
    case ScalarOp::erf:
    case ScalarOp::sigmoid:
      if (op == ScalarOp::reciprocal && a == 0) return 0;
      return from_real(scalar_real(op, is_unsigned ? static_cast<double>(bits_of(a)) : static_cast<double>(a), 0, 0));
  }
  return a;
}

}  // namespace sinter
