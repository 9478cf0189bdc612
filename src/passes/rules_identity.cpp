// Nodes that give back their operand.

#include <algorithm>

#include "ops/cast.h"
#include "ops/movement.h"
#include "ops/reduction.h"
#include "passes/rules.h"

namespace sinter {
namespace {

constexpr Rule identity_rule = {"drop Identity"};
constexpr Rule same_shape_rule = {"drop what keeps the shape"};
constexpr Rule cast_rule = {"drop Cast to the same type"};
constexpr Rule cast_back_rule = {"drop Cast there and back"};
constexpr Rule whole_slice_rule = {"drop Slice of everything"};
constexpr Rule no_pad_rule = {"drop Pad by nothing"};
constexpr Rule one_part_rule = {"drop Split into one part"};
constexpr Rule no_tile_rule = {"drop Tile once"};
constexpr Rule no_reduction_rule = {"drop reduction over nothing"};

bool drop_identity(Site& site, NodeId n) {
  if (site.type(site.in(n, 0)).is_tensor() != site.type(site.out(n)).is_tensor()) return false;
  return site.replace(site.out(n), site.in(n, 0), identity_rule);
}

// Reshape and Expand to the shape that the operand has.
bool drop_same_shape(Site& site, NodeId n) {
  const ValueId x = site.in(n, 0);
  if (!site.type(x).has_shape() || !site.same_type(x, site.out(n))) return false;
  return site.replace(site.out(n), x, same_shape_rule, site.graph.nodes[n].op->name);
}

bool drop_cast(Site& site, NodeId n) {
  const ValueId x = site.in(n, 0);
  if (!site.type(x).is_tensor() || site.type(x).dtype != site.type(site.out(n)).dtype) return false;
  return site.replace(site.out(n), x, cast_rule);
}

// Whether every value of `narrow` is one of `wide`.
bool widens(DType narrow, DType wide) {
  const auto holds = [&](std::initializer_list<DType> list) {
    return std::find(list.begin(), list.end(), wide) != list.end();
  };
  switch (narrow) {
    case DType::f16:
    case DType::bf16: return holds({DType::f32, DType::f64});
    case DType::f32: return wide == DType::f64;
    case DType::i8: return holds({DType::i16, DType::i32, DType::i64, DType::f16, DType::f32, DType::f64});
    case DType::u8:
      return holds(
          {DType::u16, DType::i16, DType::u32, DType::i32, DType::u64, DType::i64, DType::f16, DType::f32, DType::f64});
    case DType::i16: return holds({DType::i32, DType::i64, DType::f32, DType::f64});
    case DType::u16: return holds({DType::u32, DType::i32, DType::u64, DType::i64, DType::f32, DType::f64});
    case DType::i32: return holds({DType::i64, DType::f64});
    case DType::u32: return holds({DType::u64, DType::i64, DType::f64});
    case DType::boolean: return is_integer(wide) || holds({DType::f16, DType::bf16, DType::f32, DType::f64});
    default: return false;
  }
}

bool drop_cast_back(Site& site, NodeId n) {
  const auto inner = site.def(site.in(n, 0), "Cast");
  if (!inner) return false;
  const ValueId x = site.in(*inner, 0);
  const DType own = site.type(x).dtype;
  if (own != site.type(site.out(n)).dtype || !widens(own, site.type(site.in(n, 0)).dtype)) return false;
  return site.replace(site.out(n), x, cast_back_rule);
}

bool drop_whole_slice(Site& site, NodeId n) {
  const ValueId x = site.in(n, 0);
  if (!site.type(x).has_shape() || !site.same_type(x, site.out(n))) return false;
  if (site.has(n, 4)) {
    const auto steps = site.integers(site.in(n, 4));
    if (!steps || std::any_of(steps->begin(), steps->end(), [](int64_t s) { return s < 1; })) return false;
  }
  return site.replace(site.out(n), x, whole_slice_rule);
}

bool all_are(const std::optional<std::vector<int64_t>>& values, int64_t wanted) {
  return values && std::all_of(values->begin(), values->end(), [&](int64_t v) { return v == wanted; });
}

bool drop_pad(Site& site, NodeId n) {
  if (!all_are(site.integers(site.in(n, 1)), 0) || !site.same_type(site.in(n, 0), site.out(n))) return false;
  return site.replace(site.out(n), site.in(n, 0), no_pad_rule);
}

bool drop_tile(Site& site, NodeId n) {
  if (!all_are(site.integers(site.in(n, 1)), 1) || !site.same_type(site.in(n, 0), site.out(n))) return false;
  return site.replace(site.out(n), site.in(n, 0), no_tile_rule);
}

bool drop_split(Site& site, NodeId n) {
  if (site.graph.nodes[n].outputs.size() != 1 || !site.same_type(site.in(n, 0), site.out(n))) return false;
  return site.replace(site.out(n), site.in(n, 0), one_part_rule);
}

// Reductions of one element each; of an empty list of axes where that means none.
bool drop_reduction(Site& site, NodeId n) {
  const Node& node = site.graph.nodes[n];
  if (std::string_view(node.op->name).substr(0, 6) != "Reduce" || !site.has(n, 1)) return false;
  const ValueId x = site.in(n, 0);
  const auto axes = site.integers(site.in(n, 1));
  if (!axes || !site.type(x).has_shape() || !site.type(site.out(n)).has_shape()) return false;
  const Shape shape = *site.type(x).shape, result = *site.type(site.out(n)).shape;
  const auto rank = static_cast<int64_t>(shape.size());
  if (axes->empty() && !node.attrs.as<ReduceAttrs>().keep_without_axes) {
    if (rank > 0) return false;
  }
  for (int64_t a : *axes) {
    if (a < 0) a += rank;
    if (a < 0 || a >= rank || !(shape[static_cast<size_t>(a)] == Dim(1))) return false;
  }
  site.at({n});
  const ValueId made = site.same_type(x, site.out(n)) ? x : site.reshape(x, result);
  return site.replace(site.out(n), made, no_reduction_rule);
}

constexpr NodeRule rules[] = {
    {"Identity", drop_identity},
    {"Reshape", drop_same_shape},
    {"Expand", drop_same_shape},
    {"Cast", drop_cast},
    {"Cast", drop_cast_back},
    {"Slice", drop_whole_slice},
    {"Pad", drop_pad},
    {"Tile", drop_tile},
    {"Split", drop_split},
    {"ReduceSum", drop_reduction},
    {"ReduceMean", drop_reduction},
    {"ReduceMax", drop_reduction},
    {"ReduceMin", drop_reduction},
    {"ReduceProd", drop_reduction},
};

}  // namespace

std::span<const NodeRule> identity_rules() { return rules; }

}  // namespace sinter
