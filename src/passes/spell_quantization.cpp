// spell quantization: QuantizeLinear and DequantizeLinear of whole bytes as pointwise operators, which join what stands
// before and behind them. Blocked scales and elements narrower than a byte or of fp8 stay as they are.

#include <cmath>

#include "ops/cast.h"
#include "passes/rules.h"

namespace sinter {
namespace {

constexpr Rule quantize_rule = {"write QuantizeLinear as arithmetic", Effect::rounding};
constexpr Rule dequantize_rule = {"write DequantizeLinear as arithmetic", Effect::rounding};

bool is_short(DType d) { return d == DType::u8 || d == DType::i8 || d == DType::u16 || d == DType::i16; }
bool is_real(DType d) { return d == DType::f32 || d == DType::f16 || d == DType::bf16; }

ValueId cast(GraphBuilder& b, ValueId x, DType to) {
  return b.dtype(x) == to ? x : b.op("Cast", CastAttrs{.to = to}, {x});
}

// Whether zero points are absent or known to be 0.
bool is_zero(const Site& site, ValueId v) {
  const auto value = v == no_id ? std::optional<double>(0) : pattern::splat_value(site.rw, v);
  return value && *value == 0;
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
  site.at({n});
  GraphBuilder& b = site.rw.build;
  const auto steps = steps_of(site, n, shape, a.axis);
  if (!steps) return false;
  const auto [scale, zero] = *steps;
  const ValueId quotient = b.op("Div", {cast(b, x, scale_type), scale});
  ValueId y = cast(b, b.op("Round", {quotient}), DType::f32);
  const ValueId nothing = b.scalar(DType::f32, 0);
  y = b.op("Where", {b.op("IsNaN", {y}), nothing, y});  // NaN is quantized as 0 is
  if (zero != no_id) y = b.op("Add", {y, cast(b, zero, DType::f32)});
  const int bits = bit_size(a.to);
  const double low = is_signed(a.to) ? -std::ldexp(1.0, bits - 1) : 0;
  const double high = std::ldexp(1.0, is_signed(a.to) ? bits - 1 : bits) - 1;
  y = b.op("Min", {b.op("Max", {y, b.scalar(DType::f32, low)}), b.scalar(DType::f32, high)});
  y = cast(b, y, a.to);
  return site.same_type(y, site.out(n)) && site.replace(site.out(n), y, quantize_rule);
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
