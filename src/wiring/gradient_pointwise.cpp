// Gradients of pointwise operators: their expressions, differentiated node by node.

#include <array>
#include <numbers>
#include <optional>

#include "ops/pointwise.h"
#include "wiring/gradient.h"
#include "wiring/wiring.h"

namespace sinter::wiring {
namespace {

// The core operator that computes one node of an expression; null: made of several, or never needed.
const char* core_name(ScalarOp op) {
  switch (op) {
    case ScalarOp::add: return "Add";
    case ScalarOp::sub: return "Sub";
    case ScalarOp::mul: return "Mul";
    case ScalarOp::div: return "Div";
    case ScalarOp::mod: return "Mod";
    case ScalarOp::pow: return "Pow";
    case ScalarOp::min: return "Min";
    case ScalarOp::max: return "Max";
    case ScalarOp::neg: return "Neg";
    case ScalarOp::abs: return "Abs";
    case ScalarOp::sign: return "Sign";
    case ScalarOp::floor: return "Floor";
    case ScalarOp::ceil: return "Ceil";
    case ScalarOp::round: return "Round";
    case ScalarOp::sqrt: return "Sqrt";
    case ScalarOp::reciprocal: return "Reciprocal";
    case ScalarOp::exp: return "Exp";
    case ScalarOp::log: return "Log";
    case ScalarOp::sin: return "Sin";
    case ScalarOp::cos: return "Cos";
    case ScalarOp::tan: return "Tan";
    case ScalarOp::asin: return "Asin";
    case ScalarOp::acos: return "Acos";
    case ScalarOp::atan: return "Atan";
    case ScalarOp::sinh: return "Sinh";
    case ScalarOp::cosh: return "Cosh";
    case ScalarOp::tanh: return "Tanh";
    case ScalarOp::asinh: return "Asinh";
    case ScalarOp::acosh: return "Acosh";
    case ScalarOp::atanh: return "Atanh";
    case ScalarOp::erf: return "Erf";
    case ScalarOp::sigmoid: return "Sigmoid";
    case ScalarOp::equal: return "Equal";
    case ScalarOp::less: return "Less";
    case ScalarOp::less_equal: return "LessOrEqual";
    case ScalarOp::logical_not: return "Not";
    case ScalarOp::logical_and: return "And";
    case ScalarOp::logical_or: return "Or";
    case ScalarOp::logical_xor: return "Xor";
    case ScalarOp::is_nan: return "IsNaN";
    case ScalarOp::select: return "Where";
    default: return nullptr;
  }
}

class Derivation {
 public:
  explicit Derivation(Flow& f)
      : f_(f),
        b_(f.b),
        scalar_(with_attributes(scalar_of(*f.node.op), f.node.attrs)),
        dtype_(f.b.dtype(f.y())),
        values_(scalar_.nodes.size(), no_id),
        cotangents_(scalar_.nodes.size(), no_id),
        leads_(scalar_.nodes.size(), false) {
    values_.back() = f.y();
    for (size_t i = 0; i < scalar_.nodes.size(); ++i) {
      const ScalarNode& n = scalar_.nodes[i];
      leads_[i] = n.op == ScalarOp::input
                      ? f.wants(n.index)
                      : (scalar_arity(n.op) > 0 && leads_[n.a]) || (scalar_arity(n.op) > 1 && leads_[n.b]) ||
                            (scalar_arity(n.op) > 2 && leads_[n.c]);
    }
  }

  void run() {
    cotangents_.back() = f_.g();
    for (size_t i = scalar_.nodes.size(); i-- > 0;) {
      if (cotangents_[i] == no_id || !leads_[i]) continue;
      const ScalarNode& n = scalar_.nodes[i];
      if (n.op == ScalarOp::input)
        f_.give(n.index, cotangents_[i]);
      else
        spread(i, n, cotangents_[i]);
    }
  }

 private:
  ValueId number(double v) { return b_.scalar(dtype_, v); }
  ValueId op(const char* name, ValueId x) { return b_.op(name, {x}); }
  ValueId square(ValueId x) { return mul(b_, x, x); }
  ValueId less(ValueId x, ValueId y) { return b_.op("Less", {x, y}); }

  void give(uint16_t to, ValueId g) {
    if (!leads_[to]) return;
    cotangents_[to] = cotangents_[to] == no_id ? g : add(b_, cotangents_[to], g);
  }

  // A number known while building.
  std::optional<double> known(uint16_t i) {
    const ScalarNode& n = scalar_.nodes[i];
    if (n.op == ScalarOp::constant) return n.value;
    if (n.op != ScalarOp::input) return std::nullopt;
    const Tensor* t = fixed(b_, f_.x(n.index));
    if (!t || t->count() != 1) return std::nullopt;
    return t->get_real(0);
  }

  // What node i of the expression computes.
  ValueId value(uint16_t i) {
    ValueId& v = values_[i];
    if (v != no_id) return v;
    const ScalarNode& n = scalar_.nodes[i];
    switch (n.op) {
      case ScalarOp::input: return v = f_.x(n.index);
      case ScalarOp::constant: return v = number(n.value);
      case ScalarOp::expm1: return v = sub(b_, op("Exp", value(n.a)), number(1));
      case ScalarOp::log1p: return v = op("Log", add(b_, value(n.a), number(1)));
      case ScalarOp::fmod: return v = b_.op("Mod", ModAttrs{.fmod = true}, {value(n.a), value(n.b)});
      case ScalarOp::trunc: return v = mul(b_, op("Sign", value(n.a)), op("Floor", op("Abs", value(n.a))));
      default: break;
    }
    const char* name = core_name(n.op);
    if (!name) f_.refuse("has no rule for gradients", "compute this part with other operators");
    const int arity = scalar_arity(n.op);
    Ids operands = {value(n.a)};
    if (arity > 1) operands.push_back(value(n.b));
    if (arity > 2) operands.push_back(value(n.c));
    const ValueId made = b_.op(name, Attrs(), std::move(operands));
    return values_[i] = made;
  }

  // For the operand that gave the result; half for each of two equal ones.
  ValueId chosen(ValueId g, ValueId lower, ValueId higher) {
    const ValueId half = where(b_, b_.op("Equal", {lower, higher}), mul(b_, g, number(0.5)), number(0));
    return where(b_, less(lower, higher), g, half);
  }

  void power(const ScalarNode& n, ValueId y, ValueId g) {
    const auto exponent = known(n.b);
    if (leads_[n.a]) {
      const ValueId x = value(n.a);
      if (exponent && *exponent == 1) {
        give(n.a, g);
      } else if (exponent && *exponent == 2) {
        give(n.a, mul(b_, g, mul(b_, x, number(2))));
      } else if (exponent) {
        if (*exponent != 0) give(n.a, mul(b_, g, mul(b_, b_.op("Pow", {x, number(*exponent - 1)}), number(*exponent))));
      } else {
        const ValueId p = cast(b_, value(n.b), dtype_);
        const ValueId slope = mul(b_, p, b_.op("Pow", {x, sub(b_, p, number(1))}));
        give(n.a, mul(b_, g, where(b_, b_.op("Equal", {p, number(0)}), number(0), slope)));
      }
    }
    if (leads_[n.b]) {
      const ValueId x = value(n.a);
      const ValueId positive = where(b_, less(number(0), x), x, number(1));
      give(n.b, mul(b_, g, mul(b_, y, op("Log", positive))));
    }
  }

  // g * slope of a function of one operand x with value y.
  ValueId through(ScalarOp kind, ValueId g, ValueId x, size_t node) {
    const auto y = [&] { return value(static_cast<uint16_t>(node)); };
    const auto one_minus = [&](ValueId v) { return sub(b_, number(1), v); };
    switch (kind) {
      case ScalarOp::neg: return op("Neg", g);
      case ScalarOp::abs: return mul(b_, g, op("Sign", x));
      case ScalarOp::sqrt: return div(b_, g, mul(b_, y(), number(2)));
      case ScalarOp::reciprocal: return op("Neg", mul(b_, g, square(y())));
      case ScalarOp::exp: return mul(b_, g, y());
      case ScalarOp::expm1: return mul(b_, g, op("Exp", x));
      case ScalarOp::log: return div(b_, g, x);
      case ScalarOp::log1p: return div(b_, g, add(b_, x, number(1)));
      case ScalarOp::sin: return mul(b_, g, op("Cos", x));
      case ScalarOp::cos: return op("Neg", mul(b_, g, op("Sin", x)));
      case ScalarOp::tan: return mul(b_, g, add(b_, square(y()), number(1)));
      case ScalarOp::asin: return div(b_, g, op("Sqrt", one_minus(square(x))));
      case ScalarOp::acos: return op("Neg", div(b_, g, op("Sqrt", one_minus(square(x)))));
      case ScalarOp::atan: return div(b_, g, add(b_, square(x), number(1)));
      case ScalarOp::sinh: return mul(b_, g, op("Cosh", x));
      case ScalarOp::cosh: return mul(b_, g, op("Sinh", x));
      case ScalarOp::tanh: return mul(b_, g, one_minus(square(y())));
      case ScalarOp::asinh: return div(b_, g, op("Sqrt", add(b_, square(x), number(1))));
      case ScalarOp::acosh: return div(b_, g, op("Sqrt", mul(b_, sub(b_, x, number(1)), add(b_, x, number(1)))));
      case ScalarOp::atanh: return div(b_, g, one_minus(square(x)));
      case ScalarOp::erf: {
        const ValueId bell = op("Exp", op("Neg", square(x)));
        return mul(b_, g, mul(b_, bell, number(2 * std::numbers::inv_sqrtpi)));
      }
      case ScalarOp::sigmoid: return mul(b_, g, mul(b_, y(), one_minus(y())));
      // Steps: flat wherever they have a slope.
      case ScalarOp::sign:
      case ScalarOp::floor:
      case ScalarOp::ceil:
      case ScalarOp::trunc:
      case ScalarOp::round: return no_id;
      default: f_.refuse("has no rule for gradients", "compute this part with other operators");
    }
  }

  void spread(size_t i, const ScalarNode& n, ValueId g) {
    const auto y = [&] { return value(static_cast<uint16_t>(i)); };
    switch (n.op) {
      case ScalarOp::add:
        give(n.a, g);
        give(n.b, g);
        return;
      case ScalarOp::sub:
        give(n.a, g);
        if (leads_[n.b]) give(n.b, op("Neg", g));
        return;
      case ScalarOp::mul:
        if (leads_[n.a]) give(n.a, mul(b_, g, value(n.b)));
        if (leads_[n.b]) give(n.b, mul(b_, g, value(n.a)));
        return;
      case ScalarOp::div:
        if (leads_[n.a]) give(n.a, div(b_, g, value(n.b)));
        if (leads_[n.b]) give(n.b, op("Neg", div(b_, mul(b_, g, y()), value(n.b))));
        return;
      case ScalarOp::mod:
      case ScalarOp::fmod:  // x minus a whole number of y
        give(n.a, g);
        if (leads_[n.b]) give(n.b, mul(b_, g, div(b_, sub(b_, y(), value(n.a)), value(n.b))));
        return;
      case ScalarOp::pow: return power(n, leads_[n.b] ? y() : no_id, g);
      case ScalarOp::min:
      case ScalarOp::max: {
        const ValueId low = value(n.op == ScalarOp::max ? n.b : n.a), high = value(n.op == ScalarOp::max ? n.a : n.b);
        if (leads_[n.a]) give(n.a, chosen(g, low, high));
        // The other operand's order is the same comparison from its own side.
        if (leads_[n.b]) give(n.b, chosen(g, high, low));
        return;
      }
      case ScalarOp::select: {
        if (const auto condition = known(n.a)) return give(*condition != 0 ? n.b : n.c, g);
        const ValueId condition = value(n.a);
        if (leads_[n.b]) give(n.b, where(b_, condition, g, number(0)));
        if (leads_[n.c]) give(n.c, where(b_, condition, number(0), g));
        return;
      }
      default: break;
    }
    if (const ValueId through_it = through(n.op, g, value(n.a), i); through_it != no_id) give(n.a, through_it);
  }

  Flow& f_;
  GraphBuilder& b_;
  const Scalar scalar_;
  const DType dtype_;
  Ids values_, cotangents_;
  std::vector<bool> leads_;
};

// 0 at 0, as training frameworks have it.
void flow_relu(Flow& f) {
  const ValueId zero = like(f.b, f.g(), 0);
  f.give(0, where(f.b, f.b.op("Less", {zero, f.x(0)}), f.g(), zero));
}

void flow_clip(Flow& f) {
  const auto& a = f.node.attrs.as<ClipAttrs>();
  const ValueId low = f.b.op("LessOrEqual", {like(f.b, f.x(0), a.low), f.x(0)});
  const ValueId high = f.b.op("LessOrEqual", {f.x(0), like(f.b, f.x(0), a.high)});
  f.give(0, where(f.b, f.b.op("And", {low, high}), f.g(), like(f.b, f.g(), 0)));
}

// g * outer * (x below 0 ? inner * e^x : 1); e^x of positive x could be infinite, and infinity times 0 is no number.
void flow_exponential(Flow& f, double inner, double outer) {
  GraphBuilder& b = f.b;
  const ValueId x = f.x(0), zero = like(b, x, 0);
  const ValueId slope = mul(b, b.op("Exp", {b.op("Min", {x, zero})}), like(b, x, inner));
  const ValueId g = outer == 1 ? f.g() : mul(b, f.g(), like(b, x, outer));
  f.give(0, mul(b, g, where(b, b.op("Less", {x, zero}), slope, like(b, x, 1))));
}

void flow_elu(Flow& f) { flow_exponential(f, f.node.attrs.as<EluAttrs>().alpha, 1); }

void flow_selu(Flow& f) {
  const auto& a = f.node.attrs.as<SeluAttrs>();
  flow_exponential(f, a.alpha, a.gamma);
}

constexpr GradientRule table[] = {
    {"Relu", flow_relu},
    {"Clip", flow_clip},
    {"Elu", flow_elu},
    {"Selu", flow_selu},
};

}  // namespace

std::span<const GradientRule> pointwise_gradients() { return table; }

void flow_through_expression(Flow& f) { Derivation(f).run(); }

}  // namespace sinter::wiring
