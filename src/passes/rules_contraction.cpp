// Scales, biases, transposes and padding around contractions go into their weights and attributes.
//
// New weights are computed from the old ones by nodes over constants, so a pass writes no tensor bytes: small ones
// fold, large ones are left to the init plan.

#include <fmt/core.h>

#include <algorithm>
#include <cmath>

#include "ops/contraction.h"
#include "ops/indexing.h"
#include "ops/movement.h"
#include "passes/rules.h"

namespace sinter {
namespace {

constexpr Rule conv_scale_rule = {"scale into convolution", Effect::reassociates};
constexpr Rule conv_bias_rule = {"addend into the bias of convolution", Effect::reassociates};
constexpr Rule matmul_scale_rule = {"column scale into MatMul", Effect::reassociates};
constexpr Rule matmul_late_scale_rule = {"scale behind MatMul", Effect::reassociates};
constexpr Rule transpose_rule = {"Transpose into MatMul"};
constexpr Rule outer_rule = {"MatMul of one term as Mul", Effect::rounding};
constexpr Rule pad_rule = {"zero padding into convolution"};
constexpr Rule one_hot_rule = {"MatMul of one-hot rows as Gather", Effect::rounding};

// A constant that has one element a channel of a value [N, C, ...] (axis 1), or a column (last axis), or only one.
struct PerChannel {
  ValueId value = no_id;
  bool one = false;
};

std::optional<PerChannel> per_axis(const Site& site, ValueId constant, ValueId of, size_t axis) {
  const Type &small = site.type(constant), &large = site.type(of);
  if (!site.is_built(constant) || !small.has_shape() || !large.has_shape()) return std::nullopt;
  const auto dims = constant_dims(*small.shape);
  const size_t rank = large.shape->size();
  if (!dims || dims->size() > rank || axis >= rank) return std::nullopt;
  int64_t extent = 1;
  for (size_t k = 0; k < dims->size(); ++k) {
    const size_t at = rank - dims->size() + k;
    if (at == axis)
      extent = (*dims)[k];
    else if ((*dims)[k] != 1)
      return std::nullopt;
  }
  if (extent == 1) return PerChannel{constant, true};
  if (!((*large.shape)[axis] == Dim(extent))) return std::nullopt;
  return PerChannel{constant, false};
}

// The constant as a value of `rank` axes with its elements along `axis`.
ValueId aligned(Site& site, const PerChannel& c, size_t rank, size_t axis, const Dim& extent) {
  Shape shape(rank, Dim(1));
  if (!c.one) shape[axis] = extent;
  return site.reshape(c.value, shape);
}

struct Convolution {
  NodeId node = 0;
  bool transposed = false;
  ValueId x = no_id, w = no_id, bias = no_id, y = no_id;
  size_t out_axis = 0;  // of w
  Dim channels;         // of the result
};

// The convolution whose only reader wants to be folded in. Says why not.
std::optional<Convolution> foldable(Site& site, NodeId n, ValueId y, const Rule& rule) {
  auto def = site.def(y, "Conv");
  Convolution c;
  c.transposed = !def.has_value();
  if (!def) def = site.def(y, "ConvTranspose");
  if (!def) return std::nullopt;
  c.node = *def;
  c.y = site.rw.resolve(y);
  c.x = site.in(c.node, 0);
  c.w = site.in(c.node, 1);
  c.bias = site.in(c.node, 2);
  c.out_axis = c.transposed ? 1 : 0;
  const auto refuse = [&](const char* reason) {
    site.refuse(rule, n, reason);
    return std::nullopt;
  };
  const Type &w = site.type(c.w), &result = site.type(c.y);
  if (!w.has_shape() || !result.has_shape() || result.shape->size() < 2 || !is_float(result.dtype)) return std::nullopt;
  if (!site.single_use(c.y)) return refuse("the convolution's result is read elsewhere too");
  if (!site.is_built(c.w)) return refuse("the convolution's weights are no constants");
  if (c.bias != no_id && !site.is_built(c.bias)) return refuse("the convolution's bias is no constant");
  if (c.transposed && site.graph.nodes[c.node].attrs.as<ConvTransposeAttrs>().group != 1)
    return refuse("channels of a grouped transposed convolution lie across its weights");
  c.channels = (*result.shape)[1];
  if (!c.channels.is_constant()) return std::nullopt;
  return c;
}

ValueId rebuilt(Site& site, const Convolution& c, ValueId w, ValueId bias) {
  const Op& op = *site.graph.nodes[c.node].op;
  const Attrs attrs = site.graph.nodes[c.node].attrs;
  return site.rw.build.add(op, attrs, {c.x, w, bias}, 1)[0];
}

// conv(x, w, b) * s and / s.
bool scale_conv(Site& site, NodeId n) {
  const bool divides = site.graph.nodes[n].op->name == std::string_view("Div");
  for (size_t side = 0; side < (divides ? 1u : 2u); ++side) {
    const auto c = foldable(site, n, site.in(n, side), conv_scale_rule);
    if (!c) continue;
    const auto s = per_axis(site, site.in(n, 1 - side), c->y, 1);
    if (!s || !site.same_type(c->y, site.out(n))) {
      if (site.is_built(site.in(n, 1 - side))) site.refuse(conv_scale_rule, n, "the factor is not one per channel");
      continue;
    }
    site.at({c->node, n});
    const size_t rank = site.type(c->w).shape->size();
    const char* op = divides ? "Div" : "Mul";
    const ValueId w = site.rw.build.op(op, {c->w, aligned(site, *s, rank, c->out_axis, c->channels)});
    const ValueId bias =
        c->bias == no_id ? no_id : site.rw.build.op(op, {c->bias, aligned(site, *s, 1, 0, c->channels)});
    return site.replace(site.out(n), rebuilt(site, *c, w, bias), conv_scale_rule);
  }
  return false;
}

// conv(x, w, b) + t and - t.
bool shift_conv(Site& site, NodeId n) {
  const bool subtracts = site.graph.nodes[n].op->name == std::string_view("Sub");
  for (size_t side = 0; side < (subtracts ? 1u : 2u); ++side) {
    const ValueId other = site.in(n, 1 - side);
    if (!site.is_built(other)) continue;
    const auto c = foldable(site, n, site.in(n, side), conv_bias_rule);
    if (!c) continue;
    const auto t = per_axis(site, other, c->y, 1);
    if (!t || !site.same_type(c->y, site.out(n))) {
      site.refuse(conv_bias_rule, n, "the addend is not one per channel");
      continue;
    }
    site.at({c->node, n});
    ValueId bias = aligned(site, *t, 1, 0, c->channels);
    if (c->bias != no_id) {
      bias = site.rw.build.op(subtracts ? "Sub" : "Add", {c->bias, bias});
    } else {
      if (subtracts) bias = site.rw.build.op("Neg", {bias});
      if (t->one) bias = site.rw.build.op("Expand", {bias, site.rw.build.dims({c->channels})});
    }
    return site.replace(site.out(n), rebuilt(site, *c, c->w, bias), conv_bias_rule);
  }
  return false;
}

// (a @ b) * s, / s, and (a @ b + t) * s with constant b, s and t, one element a column.
bool scale_matmul(Site& site, NodeId n) {
  const bool divides = site.graph.nodes[n].op->name == std::string_view("Div");
  for (size_t side = 0; side < (divides ? 1u : 2u); ++side) {
    const ValueId y = site.in(n, side), scale = site.in(n, 1 - side);
    const auto add = site.def(y, "Add");
    std::optional<NodeId> matmul = site.def(y, "MatMul");
    ValueId product = y, addend = no_id;
    for (size_t k = 0; add && !matmul && k < 2; ++k) {
      product = site.in(*add, k);
      addend = site.in(*add, 1 - k);
      matmul = site.def(product, "MatMul");
    }
    if (!matmul || !site.type(product).has_shape() || site.type(product).shape->empty()) continue;
    const size_t rank = site.type(product).shape->size();
    const auto s = per_axis(site, scale, product, rank - 1);
    if (!s || s->one || !is_float(site.type(product).dtype)) continue;
    const ValueId b = site.in(*matmul, 1);
    const Type& b_type = site.type(b);
    if (!b_type.has_shape() || b_type.shape->size() < 2 || !site.same_type(product, site.out(n))) continue;
    const auto t = addend == no_id ? std::nullopt : per_axis(site, addend, product, rank - 1);
    const char* against = !site.is_built(b)                              ? "operand b is no constant"
                          : addend != no_id && !t                        ? "the addend is not one per column"
                          : !site.single_use(y)                          ? "the result is read elsewhere too"
                          : addend != no_id && !site.single_use(product) ? "the product is read elsewhere too"
                                                                         : nullptr;
    if (against) {
      site.refuse(matmul_scale_rule, n, against);
      continue;
    }
    const Dim columns = site.type(product).shape->back();
    const Attrs attrs = site.graph.nodes[*matmul].attrs;
    const size_t b_rank = b_type.shape->size();
    const size_t b_axis = attrs.as<MatMulAttrs>().transpose_b ? b_rank - 2 : b_rank - 1;
    const char* op = divides ? "Div" : "Mul";
    site.at({*matmul, n});
    const ValueId scaled = site.rw.build.op(op, {b, aligned(site, *s, b_rank, b_axis, columns)});
    ValueId made = site.rw.build.op("MatMul", attrs, {site.in(*matmul, 0), scaled});
    if (addend != no_id) {
      const ValueId shift = site.rw.build.op(op, {addend, aligned(site, *s, 1, 0, columns)});
      made = site.rw.build.op("Add", {made, shift});
    }
    return site.replace(site.out(n), made, matmul_scale_rule);
  }
  return false;
}

bool has_one_element(const Type& type) {
  return type.has_shape() &&
         std::all_of(type.shape->begin(), type.shape->end(), [](const Dim& d) { return d == Dim(1); });
}

// (a * s) @ b and a @ (b * s), / s, with one s for all: behind the product it joins what follows, and a stays a view of
// what it was. Half types could overflow before they are scaled.
bool scale_behind_matmul(Site& site, NodeId n) {
  const DType dtype = site.type(site.out(n)).dtype;
  if (!site.type(site.out(n)).has_shape() || (dtype != DType::f32 && dtype != DType::f64)) return false;
  for (size_t side = 0; side < 2; ++side) {
    const ValueId scaled = site.in(n, side), other = site.in(n, 1 - side);
    const char* op = "Mul";
    auto scale = site.def(scaled, op);
    if (!scale) scale = site.def(scaled, op = "Div");
    if (!scale) continue;
    for (size_t k = 0; k < (op[0] == 'M' ? 2u : 1u); ++k) {
      const ValueId a = site.in(*scale, k), s = site.in(*scale, 1 - k);
      if (!has_one_element(site.type(s)) || has_one_element(site.type(a)) || !site.same_type(a, scaled)) continue;
      if (site.is_built(other) || site.is_built(a)) {
        site.refuse(matmul_late_scale_rule, n, "a factor is constant");
        continue;
      }
      if (!site.single_use(scaled)) {
        site.refuse(matmul_late_scale_rule, n, "the scaled factor is read elsewhere too");
        continue;
      }
      const Attrs attrs = site.graph.nodes[n].attrs;
      site.at({*scale, n});
      const ValueId product = site.rw.build.op("MatMul", attrs, side == 0 ? Ids{a, other} : Ids{other, a});
      const ValueId made = site.rw.build.op(op, {product, s});
      if (!site.same_type(made, site.out(n))) return false;
      return site.replace(site.out(n), made, matmul_late_scale_rule);
    }
  }
  return false;
}

// MatMul(a, Transpose(b)) where the last two axes are swapped.
bool transpose_b(Site& site, NodeId n) {
  const auto inner = site.def(site.in(n, 1), "Transpose");
  if (!inner) return false;
  const ValueId b = site.in(*inner, 0);
  if (!site.type(b).has_shape()) return false;
  const auto rank = static_cast<int64_t>(site.type(b).shape->size());
  if (rank < 2) return false;
  std::vector<int64_t> perm = site.graph.nodes[*inner].attrs.as<TransposeAttrs>().perm;
  if (perm.empty())
    for (int64_t k = rank; k-- > 0;) perm.push_back(k);
  for (int64_t k = 0; k < rank; ++k) {
    const int64_t wanted = k < rank - 2 ? k : 2 * rank - 3 - k;
    const int64_t p = perm[static_cast<size_t>(k)];
    if ((p < 0 ? p + rank : p) == wanted) continue;
    site.refuse(transpose_rule, n, "Transpose does more than swap the last two axes");
    return false;
  }
  MatMulAttrs attrs = site.graph.nodes[n].attrs.as<MatMulAttrs>();
  attrs.transpose_b = !attrs.transpose_b;
  site.at({*inner, n});
  return site.replace(site.out(n), site.rw.build.op("MatMul", attrs, {site.in(n, 0), b}), transpose_rule);
}

// Conv(Pad(x, ...)) with zeros around spatial axes.
bool absorb_pad(Site& site, NodeId n) {
  const auto pad = site.def(site.in(n, 0), "Pad");
  if (!pad) return false;
  const ValueId x = site.in(*pad, 0);
  if (!site.type(x).has_shape()) return false;
  const size_t rank = site.type(x).shape->size();
  if (rank < 3) return false;
  const auto refuse = [&](const char* reason) {
    site.refuse(pad_rule, n, reason);
    return false;
  };
  if (site.graph.nodes[*pad].attrs.as<PadAttrs>().mode != PadMode::constant) return refuse("Pad repeats elements");
  if (site.has(*pad, 2)) {
    const auto value = pattern::splat_value(site.rw, site.in(*pad, 2));
    if (!value || *value != 0) return refuse("Pad's value is not known to be 0");
  }
  const auto amounts = site.integers(site.in(*pad, 1));
  if (!amounts) return refuse("Pad's amounts are not known");
  std::vector<int64_t> axes;
  if (site.has(*pad, 3)) {
    const auto given = site.integers(site.in(*pad, 3));
    if (!given) return refuse("Pad's axes are not known");
    axes = *given;
  } else {
    for (size_t k = 0; k < rank; ++k) axes.push_back(static_cast<int64_t>(k));
  }
  if (amounts->size() != 2 * axes.size()) return false;
  ConvAttrs attrs = site.graph.nodes[n].attrs.as<ConvAttrs>();
  if (attrs.auto_pad != AutoPad::explicit_pads && attrs.auto_pad != AutoPad::valid)
    return refuse("automatic padding depends on the padded extents");
  const size_t spatial = rank - 2;
  if (attrs.auto_pad == AutoPad::valid || attrs.pads.empty()) attrs.pads.assign(2 * spatial, 0);
  attrs.auto_pad = AutoPad::explicit_pads;
  if (attrs.pads.size() != 2 * spatial) return false;
  constexpr int64_t most = int64_t{1} << 30;
  for (size_t k = 0; k < axes.size(); ++k) {
    const int64_t axis = axes[k] < 0 ? axes[k] + static_cast<int64_t>(rank) : axes[k];
    const int64_t before = (*amounts)[k], after = (*amounts)[axes.size() + k];
    if (before == 0 && after == 0) continue;
    if (axis < 2 || axis >= static_cast<int64_t>(rank)) return refuse("Pad widens batch or channels");
    if (before < 0 || after < 0) return refuse("Pad crops");
    if (before > most || after > most) return false;
    const auto s = static_cast<size_t>(axis) - 2;
    attrs.pads[s] = std::min(attrs.pads[s], most) + before;
    attrs.pads[spatial + s] = std::min(attrs.pads[spatial + s], most) + after;
  }
  site.at({*pad, n});
  const ValueId made = site.rw.build.op("Conv", attrs, Ids{x, site.in(n, 1), site.in(n, 2)});
  if (!site.same_type(made, site.out(n))) return false;
  return site.replace(site.out(n), made, pad_rule);
}

// A sum of one product, as angles of positions are; but for the sign of a zero. It is rounded once, whatever
// contractions may do.
bool outer_product(Site& site, NodeId n) {
  const ValueId a = site.in(n, 0), b = site.in(n, 1);
  const Type &x = site.type(a), &w = site.type(b);
  if (!x.is_plain() || !w.is_plain() || !is_float(x.dtype) || x.shape->size() < 2 || w.shape->size() < 2) return false;
  Shape row = *w.shape;
  if (!site.graph.nodes[n].attrs.as<MatMulAttrs>().transpose_b) std::swap(row[row.size() - 2], row.back());
  if (!(x.shape->back() == Dim(1)) || !(row.back() == Dim(1))) return false;
  std::swap(row[row.size() - 2], row.back());
  site.at({n});
  const ValueId made = site.rw.build.op("Mul", {a, row == *w.shape ? b : site.reshape(b, row)});
  return site.same_type(made, site.out(n)) && site.replace(site.out(n), made, outer_rule);
}

bool all_finite(const Tensor& tensor) {
  for (int64_t i = 0; i < tensor.count(); ++i)
    if (!std::isfinite(tensor.get_real(i))) return false;
  return true;
}

// MatMul(Cast(Equal(x, [0, 1 ... K - 1])), w): rows of the product are rows of w, or zeros where x is no such number.
// Signs of zeros may differ.
bool gather_one_hot(Site& site, NodeId n) {
  constexpr int64_t fewest = 16, most = 1 << 22;  // rows for which it pays; elements to look at
  const auto cast = site.def(site.in(n, 0), "Cast");
  const auto equal = cast ? site.def(site.in(*cast, 0), "Equal") : std::nullopt;
  if (!equal || site.graph.nodes[n].attrs.as<MatMulAttrs>().transpose_b) return false;
  const ValueId w = site.in(n, 1);
  const auto dims = site.type(w).has_shape() ? constant_dims(*site.type(w).shape) : std::nullopt;
  if (!dims || dims->size() != 2 || (*dims)[0] < fewest || !is_float(site.type(w).dtype)) return false;
  const int64_t count = (*dims)[0];
  for (size_t side = 0; side < 2; ++side) {
    const ValueId x = site.in(*equal, side), numbers = site.in(*equal, 1 - side);
    const DType dtype = site.type(x).dtype;
    if ((dtype != DType::i32 && dtype != DType::i64) || !site.type(x).has_shape() || site.type(x).shape->empty() ||
        !(site.type(x).shape->back() == Dim(1)) || !site.type(numbers).has_shape())
      continue;
    const auto row = constant_dims(*site.type(numbers).shape);
    const auto values = site.integers(numbers);
    if (!row || row->empty() || row->size() > site.type(x).shape->size() || row->back() != count || !values ||
        static_cast<int64_t>(values->size()) != count)
      continue;
    bool counts = true;
    for (int64_t k = 0; k < count && counts; ++k) counts = (*values)[static_cast<size_t>(k)] == k;
    if (!counts) continue;
    const Tensor* weights = site.rw.peek(w);
    if (weights == nullptr || weights->count() > most || !all_finite(*weights)) {
      site.refuse(one_hot_rule, n, "the matrix is not known to be finite");
      return false;
    }
    site.at({*cast, n});
    GraphBuilder& b = site.rw.build;
    Shape rows = *site.type(x).shape;
    rows.pop_back();
    const ValueId zeros = b.constant(Tensor(site.type(w).dtype, {1, (*dims)[1]}));
    const ValueId index = site.reshape(x, rows);
    const auto end = [&] { return b.scalar(dtype, static_cast<double>(count)); };
    const ValueId inside =
        b.op("And", {b.op("Not", {b.op("Less", {index, b.scalar(dtype, 0)})}), b.op("Less", {index, end()})});
    const ValueId table = b.op("Concat", ConcatAttrs{.axis = 0}, {w, zeros});
    const ValueId y = b.op("Gather", GatherAttrs{.axis = 0}, {table, b.op("Where", {inside, index, end()})});
    if (!site.same_type(y, site.out(n))) return false;
    return site.replace(site.out(n), y, one_hot_rule);
  }
  return false;
}

constexpr NodeRule rules[] = {
    {"MatMul", gather_one_hot},
    {"MatMul", outer_product},
    {"Mul", scale_conv},
    {"Div", scale_conv},
    {"Add", shift_conv},
    {"Sub", shift_conv},
    {"Mul", scale_matmul},
    {"Div", scale_matmul},
    {"MatMul", transpose_b},
    {"Conv", absorb_pad},
    {"MatMul", scale_behind_matmul},
};

}  // namespace

std::span<const NodeRule> contraction_rules() { return rules; }

}  // namespace sinter
