// Cheaper spellings of scalar work that depend on a constant's value.

#include <fmt/core.h>

#include <algorithm>
#include <cmath>

#include "ops/pointwise.h"
#include "ops/pooling.h"
#include "ops/reduction.h"
#include "passes/rules.h"

namespace sinter {
namespace {

constexpr Rule power_rule = {"Pow with a small exponent", Effect::rounding};
constexpr Rule divide_rule = {"Div by a power of two as Mul"};
constexpr Rule scale_rule = {"factors as one", Effect::reassociates};
constexpr Rule clip_rule = {"Min of Max as Clip"};
constexpr Rule clip_twice_rule = {"Clip once"};
constexpr Rule pool_rule = {"pooling of a whole image as a reduction", Effect::reassociates};
constexpr Rule relu_clip_rule = {"Min of Relu as Clip"};

bool is_real(const Site& site, ValueId v) { return site.type(v).is_tensor() && is_float(site.type(v).dtype); }

// The constant operand's element and which operand it is; x alone must give the result its shape.
struct WithConstant {
  ValueId x = no_id;
  double value = 0;
};

std::optional<WithConstant> with_constant(const Site& site, NodeId n, bool either_side) {
  for (size_t side : {size_t{1}, size_t{0}}) {
    if (side == 0 && !either_side) break;
    const auto value = pattern::splat_value(site.rw, site.in(n, side));
    const ValueId x = site.in(n, 1 - side);
    if (value && site.same_type(x, site.out(n))) return WithConstant{x, *value};
  }
  return std::nullopt;
}

bool simplify_power(Site& site, NodeId n) {
  const auto c = with_constant(site, n, false);
  if (!c || !is_real(site, c->x)) return false;
  ValueId made = no_id;
  site.at({n});
  if (c->value == 1)
    made = c->x;
  else if (c->value == 2)
    made = site.rw.build.op("Mul", {c->x, c->x});
  else if (c->value == 0.5)
    made = site.rw.build.op("Sqrt", {c->x});
  else if (c->value == -1)
    made = site.rw.build.op("Reciprocal", {c->x});
  else
    return false;
  return site.replace(site.out(n), made, power_rule, fmt::format("exponent {}", c->value));
}

bool divide_by_power(Site& site, NodeId n) {
  const auto c = with_constant(site, n, false);
  if (!c || !is_real(site, c->x)) return false;
  int exponent = 0;
  if (!std::isfinite(c->value) || std::abs(std::frexp(c->value, &exponent)) != 0.5) return false;
  // The reciprocal must be a normal number of the narrowest type; x/1 has a rule of its own.
  if (exponent < -13 || exponent > 14 || std::abs(c->value) == 1) return false;
  const DType dtype = site.type(c->x).dtype;
  if (bit_size(dtype) < 16) return false;
  site.at({n});
  const ValueId factor = site.rw.build.scalar(dtype, 1 / c->value);
  return site.replace(site.out(n), site.rw.build.op("Mul", {c->x, factor}), divide_rule);
}

// Mul(Div(x, a), b) and Mul(Mul(x, a), b): activations divide by a number, what is learnt of their scale follows.
bool one_factor(Site& site, NodeId n) {
  const auto outer = with_constant(site, n, true);
  if (!outer || site.type(outer->x).dtype != DType::f32) return false;
  auto inner = site.def(outer->x, "Mul");
  const bool divides = !inner;
  if (divides) inner = site.def(outer->x, "Div");
  if (!inner) return false;
  const auto first = with_constant(site, *inner, !divides);
  if (!first) return false;
  const auto moderate = [](double v) { return std::abs(v) > 0x1p-20 && std::abs(v) < 0x1p20; };
  if (!moderate(first->value) || !moderate(outer->value)) return false;
  // What overflows in the first step overflows in the one.
  const double step = divides ? 1 / first->value : first->value, factor = step * outer->value;
  if (std::abs(step) > std::max(1.0, std::abs(factor))) return false;
  if (!site.single_use(outer->x)) {
    site.refuse(scale_rule, n, "the inner value is read elsewhere too");
    return false;
  }
  site.at({*inner, n});
  const ValueId made = site.rw.build.op("Mul", {first->x, site.rw.build.scalar(DType::f32, factor)});
  return site.replace(site.out(n), made, scale_rule);
}

ValueId clip(Site& site, ValueId x, double low, double high) {
  return site.rw.build.op("Clip", ClipAttrs{low, high}, {x});
}

// Min(Max(x, low), high), Max(Min(x, high), low), and Min(Relu(x), high).
bool as_clip(Site& site, NodeId n) {
  const bool is_min = site.graph.nodes[n].op->name == std::string_view("Min");
  if (site.graph.nodes[n].inputs.size() != 2) return false;
  const auto outer = with_constant(site, n, true);
  if (!outer || !is_real(site, outer->x)) return false;
  if (is_min) {
    if (const auto relu = site.def(outer->x, "Relu"); relu && outer->value >= 0) {
      if (!site.single_use(outer->x)) {
        site.refuse(relu_clip_rule, n, "the inner value is read elsewhere too");
        return false;
      }
      site.at({*relu, n});
      return site.replace(site.out(n), clip(site, site.in(*relu, 0), 0, outer->value), relu_clip_rule);
    }
  }
  const auto def = site.def(outer->x, is_min ? "Max" : "Min");
  if (!def || site.graph.nodes[*def].inputs.size() != 2) return false;
  const auto inner = with_constant(site, *def, true);
  if (!inner) return false;
  const double low = is_min ? inner->value : outer->value, high = is_min ? outer->value : inner->value;
  if (!site.single_use(outer->x) || low > high) {
    site.refuse(clip_rule, n, low > high ? "the bounds cross" : "the inner value is read elsewhere too");
    return false;
  }
  site.at({*def, n});
  return site.replace(site.out(n), clip(site, inner->x, low, high), clip_rule);
}

bool clip_twice(Site& site, NodeId n) {
  const auto inner = site.def(site.in(n, 0), "Clip");
  if (!inner || !site.single_use(site.in(n, 0))) return false;
  const ClipAttrs a = site.graph.nodes[*inner].attrs.as<ClipAttrs>(), b = site.graph.nodes[n].attrs.as<ClipAttrs>();
  if (!(a.low <= a.high) || !(b.low <= b.high)) return false;
  const double low = std::clamp(a.low, b.low, b.high), high = std::clamp(a.high, b.low, b.high);
  site.at({*inner, n});
  return site.replace(site.out(n), clip(site, site.in(*inner, 0), low, high), clip_twice_rule);
}

// One window that is the image.
template <typename Attributes>
bool pool_whole_image(Site& site, NodeId n, const char* reduction) {
  const Node& node = site.graph.nodes[n];
  const ValueId x = site.in(n, 0);
  if (node.outputs.size() != 1 || !is_real(site, x) || !site.type(x).has_shape()) return false;
  const Attributes attrs = node.attrs.as<Attributes>();
  const Shape& shape = *site.type(x).shape;
  const auto all_are = [](const std::vector<int64_t>& of, int64_t value) {
    return std::all_of(of.begin(), of.end(), [&](int64_t v) { return v == value; });
  };
  if (shape.size() != attrs.kernel.size() + 2 || !all_are(attrs.pads, 0) || !all_are(attrs.dilations, 1)) return false;
  if (attrs.auto_pad != AutoPad::explicit_pads && attrs.auto_pad != AutoPad::valid) return false;
  std::vector<int64_t> axes;
  for (size_t i = 0; i < attrs.kernel.size(); ++i) {
    if (!(shape[i + 2] == Dim(attrs.kernel[i]))) return false;
    axes.push_back(static_cast<int64_t>(i + 2));
  }
  site.at({n});
  const ValueId made = site.rw.build.op(reduction, ReduceAttrs{}, {x, site.rw.build.integers(axes)});
  return site.replace(site.out(n), made, pool_rule);
}
bool average_whole_image(Site& site, NodeId n) { return pool_whole_image<AveragePoolAttrs>(site, n, "ReduceMean"); }
bool max_of_whole_image(Site& site, NodeId n) { return pool_whole_image<MaxPoolAttrs>(site, n, "ReduceMax"); }

constexpr NodeRule rules[] = {
    {"Pow", simplify_power},
    {"Div", divide_by_power},
    {"Mul", one_factor},
    {"Min", as_clip},
    {"Max", as_clip},
    {"Clip", clip_twice},
    {"AveragePool", average_whole_image},
    {"MaxPool", max_of_whole_image},
};

}  // namespace

std::span<const NodeRule> arithmetic_rules() { return rules; }

}  // namespace sinter
