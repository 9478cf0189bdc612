// spell quantization: QuantizeLinear and DequantizeLinear of whole bytes as pointwise operators, which join what stands
// before and behind them. Blocked scales and elements narrower than a byte or of fp8 stay as they are.

#include <cmath>

#include "ops/cast.h"
#include "ops/pointwise.h"
#include "passes/rules.h"

namespace sinter {
namespace {

constexpr Rule quantize_rule = {"write QuantizeLinear as arithmetic", Effect::rounding};
constexpr Rule folded_rule = {"divide factors by the scale of QuantizeLinear", Effect::rounding};
constexpr Rule dequantize_rule = {"write DequantizeLinear as arithmetic", Effect::rounding};

bool is_short(DType d) { return is_byte(d) || d == DType::u16 || d == DType::i16; }
bool is_real(DType d) { return d == DType::f32 || d == DType::f16 || d == DType::bf16; }

ValueId cast(GraphBuilder& b, ValueId x, DType to) {
  return b.dtype(x) == to ? x : b.op("Cast", CastAttrs{.to = to}, {x});
}

// Whether zero points are absent or known to be 0.
bool is_zero(const Site& site, ValueId v) {
  const auto value = v == no_id ? std::optional<double>(0) : pattern::splat_value(site.rw, v);
  return value && *value == 0;
}

// What no element of v exceeds in magnitude; nothing where elements may be infinite or NaN for all that is known.
std::optional<double> magnitude(const Site& site, ValueId v, int depth = 10) {
  constexpr double far = 1e37;  // rounding on the way stays below the largest f32
  const auto within = [](double m) { return m < far ? std::optional<double>(m) : std::nullopt; };
  if (depth == 0 || v == no_id) return std::nullopt;
  if (const Tensor* t = site.rw.peek(v)) {
    constexpr int64_t most = 1 << 16;
    if (t->count() > most || (!is_real(t->dtype()) && !is_short(t->dtype()))) return std::nullopt;
    double largest = 0;
    for (int64_t i = 0; i < t->count(); ++i) {
      const double x = std::abs(t->get_real(i));
      if (!(x < far)) return std::nullopt;
      largest = std::max(largest, x);
    }
    return largest;
  }
  const NodeId def = site.graph[site.rw.resolve(v)].def;
  if (def == no_id) return std::nullopt;
  const std::string_view name = site.graph.nodes[def].op->name;
  const auto of = [&](size_t i) { return magnitude(site, site.in(def, i), depth - 1); };
  if (name == "Cast") {
    const DType from = site.type(site.in(def, 0)).dtype, to = site.type(v).dtype;
    if (is_integer(from) && bit_size(from) <= 32 && to == DType::f32) return std::ldexp(1.0, bit_size(from));
    return from == DType::f32 && to == DType::f32 ? of(0) : std::nullopt;
  }
  if (name == "Relu") return of(0);
  if (name == "Round") {
    const auto a = of(0);
    return a ? within(*a + 1) : std::nullopt;
  }
  if (name == "Div") {
    const auto a = of(0), by = pattern::splat_value(site.rw, site.in(def, 1));
    return a && by && *by != 0 ? within(*a / std::abs(*by)) : std::nullopt;
  }
  if (name != "Add" && name != "Sub" && name != "Mul") return std::nullopt;
  const auto a = of(0), b = of(1);
  if (!a || !b) return std::nullopt;
  return within(name == "Mul" ? *a * *b : *a + *b);
}

// x / scale where x is an affine function of a sum of integers, perhaps its positive part: the factors are divided.
// relu: whether the caller still has to take the positive part.
std::optional<ValueId> divided(Site& site, ValueId x, ValueId scale, bool& relu) {
  const auto step = pattern::splat_value(site.rw, scale);
  if (!step || !(*step > 0) || !std::isfinite(*step)) return std::nullopt;
  const auto made_by = [&](ValueId v, const char* op) { return site.single_use(v) ? site.def(v, op) : std::nullopt; };
  const auto positive = made_by(x, "Relu");
  ValueId at = positive ? site.in(*positive, 0) : x;
  const auto constant_side = [&](NodeId n) { return site.rw.peek(site.in(n, 0)) ? size_t{0} : size_t{1}; };
  ValueId addend = no_id;
  if (const auto sum = made_by(at, "Add")) {
    const size_t side = constant_side(*sum);
    addend = site.in(*sum, side);
    at = site.in(*sum, 1 - side);
  }
  const auto product = made_by(at, "Mul");
  if (!product) return std::nullopt;
  const size_t side = constant_side(*product);
  const ValueId factor = site.in(*product, side), whole = site.in(*product, 1 - side);
  const auto widened = site.def(whole, "Cast");
  if (!widened || !is_integer(site.type(site.in(*widened, 0)).dtype) || site.type(whole).dtype != DType::f32)
    return std::nullopt;
  if (!site.rw.peek(factor) || (addend != no_id && !site.rw.peek(addend))) return std::nullopt;
  GraphBuilder& b = site.rw.build;
  ValueId y = b.op("Mul", {whole, b.op("Div", {factor, scale})});
  if (addend != no_id) y = b.op("Add", {y, b.op("Div", {addend, scale})});
  if (!magnitude(site, y)) return std::nullopt;
  relu = positive.has_value();
  return y;
}

// Operand `input` of node n as something that broadcasts against x; no_id when it has no such form.
ValueId against(Site& site, NodeId n, size_t input, const Shape& x, int64_t axis) {
  const ValueId v = site.in(n, input);
  const Type& type = site.type(v);
  if (!type.has_shape()) return no_id;
  if (type.shape->empty()) return v;
  if (type.shape->size() != 1 || x.empty()) return no_id;
  const Dim extent = (*type.shape)[0];
  Shape shape;
  if (!(extent == Dim(1))) {
    const auto rank = static_cast<int64_t>(x.size());
    if (rank == 1) axis = 0;
    if (axis < 0) axis += rank;
    if (axis < 0 || axis >= rank || !(extent == x[static_cast<size_t>(axis)])) return no_id;
    if (axis + 1 == rank) return v;
    shape.assign(static_cast<size_t>(rank - axis), Dim(1));
    shape[0] = extent;
  }
  return site.reshape(v, shape);
}

struct Steps {
  ValueId scale, zero;  // zero: no_id when zero points are absent or 0
};

// Scale and zero points of node n in forms that broadcast against x.
std::optional<Steps> steps_of(Site& site, NodeId n, const Shape& x, int64_t axis) {
  const ValueId scale = against(site, n, 1, x, axis);
  const bool offset = !is_zero(site, site.in(n, 2));
  const ValueId zero = offset ? against(site, n, 2, x, axis) : no_id;
  if (scale == no_id || (offset && zero == no_id)) return std::nullopt;
  return Steps{scale, zero};
}

bool spell_quantize(Site& site, NodeId n) {
  const QuantizeAttrs a = site.graph.nodes[n].attrs.as<QuantizeAttrs>();
  const ValueId x = site.in(n, 0);
  const Type& type = site.type(x);
  const DType scale_type = site.type(site.in(n, 1)).dtype;
  if (a.block != 0 || !is_short(a.to) || !type.has_shape() || !is_real(scale_type)) return false;
  if (!is_real(type.dtype) && type.dtype != DType::i32) return false;
  const Shape shape = *type.shape;
  const DType x_type = type.dtype;
  site.at({n});
  GraphBuilder& b = site.rw.build;
  const auto steps = steps_of(site, n, shape, a.axis);
  if (!steps) return false;
  const auto [scale, zero] = *steps;
  bool relu = false;
  const auto folded = x_type == DType::f32 && scale_type == DType::f32 ? divided(site, x, scale, relu) : std::nullopt;
  const ValueId quotient = folded ? *folded : b.op("Div", {cast(b, x, scale_type), scale});
  ValueId y = cast(b, b.op("Round", {quotient}), DType::f32);
  if (!magnitude(site, y)) {
    const ValueId nothing = b.scalar(DType::f32, 0);
    y = b.op("Where", {b.op("IsNaN", {y}), nothing, y});  // NaN is quantized as 0 is
  }
  const int bits = bit_size(a.to);
  ClipAttrs bounds;
  bounds.low = is_signed(a.to) ? -std::ldexp(1.0, bits - 1) : 0;
  bounds.high = std::ldexp(1.0, is_signed(a.to) ? bits - 1 : bits) - 1;
  const auto known_zero = zero == no_id ? std::optional<double>(0) : pattern::splat_value(site.rw, zero);
  if (relu && known_zero)
    bounds.low = std::max(bounds.low, *known_zero);
  else if (relu)
    y = b.op("Relu", {y});
  if (zero != no_id) y = b.op("Add", {y, cast(b, zero, DType::f32)});
  y = cast(b, b.op("Clip", bounds, {y}), a.to);
  return site.same_type(y, site.out(n)) && site.replace(site.out(n), y, folded ? folded_rule : quantize_rule);
}

bool spell_dequantize(Site& site, NodeId n) {
  const DequantizeAttrs a = site.graph.nodes[n].attrs.as<DequantizeAttrs>();
  const ValueId x = site.in(n, 0);
  const Type& type = site.type(x);
  if (a.block != 0 || !is_real(a.to) || !type.has_shape() || !is_real(site.type(site.in(n, 1)).dtype)) return false;
  if (!is_short(type.dtype) && type.dtype != DType::i32) return false;
  const Shape shape = *type.shape;
  const bool wide = type.dtype == DType::i32;
  site.at({n});
  GraphBuilder& b = site.rw.build;
  const auto steps = steps_of(site, n, shape, a.axis);
  if (!steps) return false;
  const auto [scale, zero] = *steps;
  // Differences of 32 bits do not fit f32; f64 holds them.
  const DType work = wide && zero != no_id ? DType::f64 : DType::f32;
  ValueId y = cast(b, x, work);
  if (zero != no_id) y = b.op("Sub", {y, cast(b, zero, work)});
  y = cast(b, b.op("Mul", {y, cast(b, scale, work)}), a.to);
  return site.same_type(y, site.out(n)) && site.replace(site.out(n), y, dequantize_rule);
}

void visit(Site& site, void*) {
  const auto nodes = static_cast<NodeId>(site.graph.nodes.size());
  for (NodeId n = 0; n < nodes; ++n) {
    const std::string_view name = site.graph.nodes[n].op->name;
    if (site.rw.uses(site.out(n)) == 0 || site.rw.resolve(site.out(n)) != site.out(n)) continue;
    if (name == "QuantizeLinear") spell_quantize(site, n);
    if (name == "DequantizeLinear") spell_dequantize(site, n);
  }
}

}  // namespace

bool spell_quantization(Module& module, const PassContext& context) {
  Rounds rounds(context.journal);
  return rewrite_graphs(module, rounds, visit, nullptr);
}

}  // namespace sinter
