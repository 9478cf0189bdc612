// multiply integers: contractions of dequantized bytes multiply the bytes as they are. Their sums are exact, and the
// scales of both operands are applied to these, so that nothing is rounded before that.

#include <cmath>

#include "ops/cast.h"
#include "ops/contraction.h"
#include "ops/movement.h"
#include "passes/rules.h"

namespace sinter {
namespace {

constexpr Rule bytes_rule = {"multiply quantized bytes", Effect::reassociates};

bool is_single(const Type& type) {
  return type.has_shape() &&
         std::all_of(type.shape->begin(), type.shape->end(), [](const Dim& d) { return d == Dim(1); });
}

// What DequantizeLinear of bytes multiplies: q - zero by scale, both of one element or one along an axis of q.
struct Quantized {
  ValueId q, scale, zero;  // zero: no_id when it is 0
  bool single;
  int64_t axis;
};

std::optional<Quantized> quantized(const Site& site, ValueId v) {
  const auto def = site.def(v, "DequantizeLinear");
  if (!def) return std::nullopt;
  const DequantizeAttrs attrs = site.graph.nodes[*def].attrs.as<DequantizeAttrs>();
  Quantized out{site.in(*def, 0), site.in(*def, 1), site.in(*def, 2), false, attrs.axis};
  const Type &q = site.type(out.q), &scale = site.type(out.scale);
  if (!is_byte(q.dtype) || !q.has_shape() || attrs.block != 0 || attrs.to != DType::f32 || scale.dtype != DType::f32)
    return std::nullopt;
  out.single = is_single(scale);
  if (!out.single && (!scale.has_shape() || scale.shape->size() != 1)) return std::nullopt;
  if (out.axis < 0) out.axis += static_cast<int64_t>(q.shape->size());
  const auto zero = out.zero == no_id ? std::optional<double>() : pattern::splat_value(site.rw, out.zero);
  if (zero && *zero == 0) out.zero = no_id;
  if (out.zero != no_id && is_single(site.type(out.zero)) != out.single) return std::nullopt;
  return out;
}

// Whether sums of so many products fit 32 bits.
bool sums_fit(const Site& site, const Quantized& w, int64_t products) {
  const int64_t largest = w.zero == no_id && site.type(w.q).dtype == DType::i8 ? 128 : 255;
  return products <= INT32_MAX / (255 * largest);
}

class Multiplier {
 public:
  Multiplier(Site& site, const FastRows& fast) : site_(site), fast_(fast) {}

  void visit(NodeId n) {
    const std::string_view name = site_.graph.nodes[n].op->name;
    if (name != "Conv" && name != "MatMul") return;
    const ValueId y = site_.out(n);
    if (site_.rw.uses(y) == 0 || site_.rw.resolve(y) != y || site_.type(y).dtype != DType::f32) return;
    const auto x = quantized(site_, site_.in(n, 0)), w = quantized(site_, site_.in(n, 1));
    if (!x || !w) return;
    if (!x->single) return site_.refuse(bytes_rule, n, "the first operand has several scales");
    if (!site_.is_built(w->q)) return site_.refuse(bytes_rule, n, "the second operand is not known while building");
    name == "Conv" ? convolution(n, *x, *w) : product(n, *x, *w);
  }

 private:
  void convolution(NodeId n, const Quantized& x, const Quantized& w) {
    const Shape shape = *site_.type(w.q).shape;
    if (shape.size() < 3) return;
    if (!w.single && w.axis != 0) return site_.refuse(bytes_rule, n, "scales lie otherwise than by filters");
    int64_t products = 1;
    for (size_t k = 1; k < shape.size(); ++k) {
      if (!shape[k].is_constant() || shape[k].constant() > INT32_MAX) return;
      products = std::min<int64_t>(INT32_MAX, products * std::max<int64_t>(1, shape[k].constant()));
    }
    if (!sums_fit(site_, w, products)) return site_.refuse(bytes_rule, n, "sums may not fit 32 bits");
    if (!scales_fit(x, w)) return site_.refuse(bytes_rule, n, "the product of the scales is no number of f32");
    // Rows of bytes fill vectors with the filters of a group.
    const int64_t group = site_.graph.nodes[n].attrs.as<ConvAttrs>().group;
    const auto filters = shape[0].as_constant();
    const bool depthwise = shape[0] == Dim(group) && shape[1] == Dim(1);
    if (group > 1 && !depthwise && (!filters || *filters < 16 * group))
      return site_.refuse(bytes_rule, n, "groups of few filters");
    const auto by_filter = [&](ValueId v, size_t behind) {
      Shape to(behind + 1, Dim(1));
      to[0] = shape[0];
      return shaped(v, w.single ? Shape() : to);
    };
    const Attrs attrs = site_.graph.nodes[n].attrs;
    const ValueId bias = site_.in(n, 2);
    site_.at({n});
    const ValueId w_zero = w.zero == no_id ? no_id : by_filter(w.zero, shape.size() - 1);
    const auto sum = product_of("ConvInteger", attrs, {x.q, w.q, x_zero(x), w_zero});
    if (!sum) return;
    ValueId y = scaled(*sum, x, by_filter(w.scale, shape.size() - 2));
    if (bias != no_id) {
      Shape to(shape.size() - 1, Dim(1));
      to[0] = shape[0];
      y = site_.rw.build.op("Add", {y, shaped(bias, to)});
    }
    finish(n, y);
  }

  void product(NodeId n, const Quantized& x, const Quantized& w) {
    const MatMulAttrs attrs = site_.graph.nodes[n].attrs.as<MatMulAttrs>();
    const Shape shape = *site_.type(w.q).shape;
    if (shape.size() != 2 || site_.type(x.q).shape->size() < 2) return;
    const int64_t columns = attrs.transpose_b ? 0 : 1;
    if (!w.single && w.axis != columns) return site_.refuse(bytes_rule, n, "scales lie otherwise than by columns");
    const Dim& depth = shape[static_cast<size_t>(1 - columns)];
    if (!depth.is_constant()) return;
    if (!sums_fit(site_, w, depth.constant())) return site_.refuse(bytes_rule, n, "sums may not fit 32 bits");
    if (!scales_fit(x, w)) return site_.refuse(bytes_rule, n, "the product of the scales is no number of f32");
    const auto by_column = [&](ValueId v) {
      return v == no_id ? v : shaped(v, w.single ? Shape() : Shape{shape[static_cast<size_t>(columns)]});
    };
    site_.at({n});
    ValueId b = w.q;
    if (attrs.transpose_b) b = site_.rw.build.op("Transpose", TransposeAttrs{.perm = {1, 0}}, {b});
    const auto sum = product_of("MatMulInteger", {}, {x.q, b, x_zero(x), by_column(w.zero)});
    if (sum) finish(n, scaled(*sum, x, by_column(w.scale)));
  }

  ValueId shaped(ValueId v, const Shape& shape) {
    const Type& type = site_.type(v);
    return type.has_shape() && *type.shape == shape ? v : site_.reshape(v, shape);
  }

  ValueId x_zero(const Quantized& x) { return x.zero == no_id ? no_id : shaped(x.zero, {}); }

  // The sums, where the device multiplies bytes faster than by the definition.
  std::optional<ValueId> product_of(const char* name, const Attrs& attrs, const Ids& inputs) {
    Module asked;
    asked.symbols = site_.module.symbols;
    Graph alone;
    GraphBuilder b(asked, alone);
    Ids parameters;
    std::vector<bool> built;
    for (ValueId v : inputs) {
      parameters.push_back(v == no_id ? no_id : b.input(site_.type(v)));
      if (v != no_id) built.push_back(site_.is_built(v));
    }
    alone.outputs = {b.op(name, attrs, std::move(parameters))};
    if (!fast_(asked, alone, built)) return std::nullopt;
    return site_.rw.build.op(name, attrs, inputs);
  }

  // Where both are known; else they are applied one after the other.
  bool scales_fit(const Quantized& x, const Quantized& w) const {
    const Tensor *a = site_.rw.peek(x.scale), *b = site_.rw.peek(w.scale);
    if (!a || !b) return true;
    for (int64_t i = 0; i < b->count(); ++i)
      if (!std::isnormal(static_cast<float>(a->get_real(0)) * static_cast<float>(b->get_real(i)))) return false;
    return true;
  }

  ValueId scaled(ValueId sum, const Quantized& x, ValueId w_scale) {
    GraphBuilder& b = site_.rw.build;
    const ValueId whole = b.op("Cast", CastAttrs{.to = DType::f32}, {sum}), x_scale = shaped(x.scale, {});
    if (site_.rw.peek(x.scale) && site_.rw.peek(w_scale)) return b.op("Mul", {whole, b.op("Mul", {x_scale, w_scale})});
    return b.op("Mul", {b.op("Mul", {whole, x_scale}), w_scale});
  }

  void finish(NodeId n, ValueId y) {
    if (site_.same_type(y, site_.out(n))) site_.replace(site_.out(n), y, bytes_rule);
  }

  Site& site_;
  const FastRows& fast_;
};

void visit(Site& site, void* user) {
  Multiplier multiplier(site, *static_cast<const FastRows*>(user));
  const auto nodes = static_cast<NodeId>(site.graph.nodes.size());
  for (NodeId n = 0; n < nodes; ++n) multiplier.visit(n);
}

}  // namespace

bool multiply_integers(Module& module, const PassContext& context) {
  if (!context.fast) return false;
  Rounds rounds(context.journal);
  FastRows fast = context.fast;
  return rewrite_graphs(module, rounds, visit, &fast);
}

}  // namespace sinter
