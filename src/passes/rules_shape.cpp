// Operators that only rename or reorder axes, Concat, and Gather of one index.

#include <algorithm>
#include <limits>

#include "ops/indexing.h"
#include "ops/movement.h"
#include "passes/rules.h"

namespace sinter {
namespace {

constexpr Rule as_reshape_rule = {"write as Reshape"};
constexpr Rule reshape_twice_rule = {"Reshape once"};
constexpr Rule transpose_twice_rule = {"Transpose once"};
constexpr Rule no_transpose_rule = {"drop Transpose that keeps the order"};
constexpr Rule ones_transpose_rule = {"Transpose of extents 1 as Reshape"};
constexpr Rule one_concat_rule = {"drop Concat of one"};
constexpr Rule empty_concat_rule = {"drop empty operands of Concat"};
constexpr Rule nested_concat_rule = {"Concat once"};
constexpr Rule parts_rule = {"neighbouring parts in a Concat as one"};
constexpr Rule gather_one_rule = {"Gather of one index as Slice"};

// Squeeze, Unsqueeze and Flatten of known rank.
bool as_reshape(Site& site, NodeId n) {
  const ValueId x = site.in(n, 0);
  if (!site.type(x).has_shape() || !site.extents_known(n)) return false;
  const Shape shape = *site.type(site.out(n)).shape;
  site.at({n});
  const ValueId made = site.same_type(x, site.out(n)) ? x : site.reshape(x, shape);
  return site.replace(site.out(n), made, as_reshape_rule, site.graph.nodes[n].op->name);
}

bool reshape_twice(Site& site, NodeId n) {
  const auto inner = site.def(site.in(n, 0), "Reshape");
  if (!inner || !site.extents_known(n)) return false;
  const ValueId x = site.in(*inner, 0);
  if (!site.type(x).has_shape()) return false;
  // An inner extent that only contents decide would be lost with the inner node.
  if (!site.extents_known(*inner)) return false;
  const Shape shape = *site.type(site.out(n)).shape;
  site.at({*inner, n});
  return site.replace(site.out(n), site.reshape(x, shape), reshape_twice_rule);
}

std::vector<int64_t> permutation(const Site& site, NodeId n, size_t rank) {
  std::vector<int64_t> perm = site.graph.nodes[n].attrs.as<TransposeAttrs>().perm;
  if (perm.empty())
    for (size_t k = rank; k-- > 0;) perm.push_back(static_cast<int64_t>(k));
  for (int64_t& p : perm) p = p < 0 ? p + static_cast<int64_t>(rank) : p;
  return perm;
}

bool transpose(Site& site, NodeId n) {
  const ValueId x = site.in(n, 0);
  if (!site.type(x).has_shape() || !site.type(site.out(n)).has_shape()) return false;
  const Shape shape = *site.type(x).shape;
  std::vector<int64_t> perm = permutation(site, n, shape.size());
  if (perm.size() != shape.size()) return false;
  if (std::is_sorted(perm.begin(), perm.end())) return site.replace(site.out(n), x, no_transpose_rule);
  if (const auto inner = site.def(x, "Transpose")) {
    const std::vector<int64_t> first = permutation(site, *inner, shape.size());
    if (first.size() != perm.size()) return false;
    for (int64_t& p : perm) p = first[static_cast<size_t>(p)];
    const ValueId source = site.in(*inner, 0);
    site.at({*inner, n});
    return site.replace(site.out(n), site.rw.build.op("Transpose", TransposeAttrs{perm}, {source}),
                        transpose_twice_rule);
  }
  // Axes longer than 1 that stay in order: nothing moves.
  int64_t last = -1;
  for (int64_t p : perm) {
    if (shape[static_cast<size_t>(p)] == Dim(1)) continue;
    if (p < last) return false;
    last = p;
  }
  const Shape result = *site.type(site.out(n)).shape;
  site.at({n});
  return site.replace(site.out(n), site.reshape(x, result), ones_transpose_rule);
}

std::optional<size_t> concat_axis(const Site& site, NodeId n) {
  const Type& type = site.type(site.out(n));
  if (!type.has_shape()) return std::nullopt;
  int64_t axis = site.graph.nodes[n].attrs.as<ConcatAttrs>().axis;
  if (axis < 0) axis += static_cast<int64_t>(type.shape->size());
  if (axis < 0 || axis >= static_cast<int64_t>(type.shape->size())) return std::nullopt;
  return static_cast<size_t>(axis);
}

bool concat(Site& site, NodeId n) {
  const size_t count = site.graph.nodes[n].inputs.size();
  if (count == 1)
    return site.same_type(site.in(n, 0), site.out(n)) && site.replace(site.out(n), site.in(n, 0), one_concat_rule);
  const auto axis = concat_axis(site, n);
  if (!axis) return false;
  Ids kept, flat;
  bool nested = false;
  for (size_t i = 0; i < count; ++i) {
    const ValueId v = site.in(n, i);
    const Type& type = site.type(v);
    if (type.has_shape() && type.shape->size() > *axis && (*type.shape)[*axis] == Dim(0)) continue;
    kept.push_back(v);
    const auto inner = site.def(v, "Concat");
    if (inner && concat_axis(site, *inner) == axis) {
      if (site.single_use(v)) {
        nested = true;
        for (size_t k = 0; k < site.graph.nodes[*inner].inputs.size(); ++k) flat.push_back(site.in(*inner, k));
        continue;
      }
      site.refuse(nested_concat_rule, n, "the inner Concat is read elsewhere too");
    }
    flat.push_back(v);
  }
  const bool dropped = kept.size() != count;
  if ((!dropped || kept.empty()) && !nested) return false;
  const Attrs attrs = site.graph.nodes[n].attrs;
  site.at({n});
  const Ids& operands = nested ? flat : kept;
  const ValueId made = operands.size() == 1 ? operands[0] : site.rw.build.op("Concat", attrs, operands);
  // Extents that the dropped operands proved equal may be told apart now.
  if (!site.same_type(made, site.out(n))) return false;
  return site.replace(site.out(n), made, nested ? nested_concat_rule : empty_concat_rule);
}

}  // namespace

std::optional<Stretch> stretch_of(const Site& site, ValueId v, size_t axis) {
  const auto constant_extent = [&](ValueId of) -> std::optional<int64_t> {
    const Type& type = site.type(of);
    if (!type.has_shape() || axis >= type.shape->size()) return std::nullopt;
    return (*type.shape)[axis].as_constant();
  };
  const auto is_axis = [&](int64_t a) {
    const auto rank = static_cast<int64_t>(site.type(v).shape->size());
    return (a < 0 ? a + rank : a) == static_cast<int64_t>(axis);
  };
  const auto count = constant_extent(v);
  if (!count) return std::nullopt;
  if (const auto n = site.def(v, "Slice")) {
    const ValueId x = site.in(*n, 0);
    const auto starts = site.integers(site.in(*n, 1));
    const auto axes = site.has(*n, 3) ? site.integers(site.in(*n, 3)) : std::nullopt;
    const auto steps = site.has(*n, 4) ? site.integers(site.in(*n, 4)) : std::vector<int64_t>{1};
    const auto extent = constant_extent(x);
    if (!extent || !starts || !axes || !steps || starts->size() != 1 || axes->size() != 1 || !is_axis((*axes)[0]) ||
        *steps != std::vector<int64_t>{1})
      return std::nullopt;
    const int64_t begin = slice_begin((*starts)[0], *extent, 1);
    return Stretch{x, begin, begin + *count};
  }
  if (const auto n = site.def(v, "Split")) {
    if (!is_axis(site.graph.nodes[*n].attrs.as<SplitAttrs>().axis)) return std::nullopt;
    int64_t begin = 0;
    for (size_t o = 0; site.rw.resolve(site.out(*n, o)) != site.rw.resolve(v); ++o) {
      const auto before = constant_extent(site.out(*n, o));
      if (!before) return std::nullopt;
      begin += *before;
    }
    return Stretch{site.in(*n, 0), begin, begin + *count};
  }
  return std::nullopt;
}

namespace {

// Parts of one value that stand side by side in a Concat and are all of it are that value.
bool concat_parts(Site& site, NodeId n) {
  const auto axis = concat_axis(site, n);
  const size_t count = site.graph.nodes[n].inputs.size();
  if (!axis || count < 2) return false;
  Ids operands;
  for (size_t i = 0; i < count;) {
    const auto first = stretch_of(site, site.in(n, i), *axis);
    size_t next = i + 1;
    if (first && first->begin == 0) {
      const auto extent = (*site.type(first->whole).shape)[*axis].as_constant();
      int64_t end = first->end;
      for (; next < count && end != *extent; ++next) {
        const auto more = stretch_of(site, site.in(n, next), *axis);
        if (!more || more->whole != first->whole || more->begin != end) break;
        end = more->end;
      }
      if (end == *extent && next > i + 1) {
        operands.push_back(first->whole);
        i = next;
        continue;
      }
    }
    operands.push_back(site.in(n, i++));
  }
  if (operands.size() == count) return false;
  const Attrs attrs = site.graph.nodes[n].attrs;
  site.at({n});
  const ValueId made = operands.size() == 1 ? operands[0] : site.rw.build.op("Concat", attrs, operands);
  return site.same_type(made, site.out(n)) && site.replace(site.out(n), made, parts_rule);
}

// One index that is known to be inside: a part of the operand, which kernels may read in place.
bool gather_one(Site& site, NodeId n) {
  const ValueId x = site.in(n, 0), indices = site.in(n, 1);
  const Type &type = site.type(x), &at = site.type(indices);
  if (!type.is_plain() || !at.has_shape() || !at.shape->empty() || site.is_built(x)) return false;
  const auto index = site.integers(indices);
  if (!index || index->size() != 1) return false;
  const auto rank = static_cast<int64_t>(type.shape->size());
  int64_t axis = site.graph.nodes[n].attrs.as<GatherAttrs>().axis;
  if (axis < 0) axis += rank;
  if (axis < 0 || axis >= rank) return false;
  const auto extent = (*type.shape)[static_cast<size_t>(axis)].as_constant();
  const int64_t start = (*index)[0];
  if (!extent || start < -*extent || start >= *extent) {
    site.refuse(gather_one_rule, n, "the index is not known to be inside");
    return false;
  }
  const int64_t end = start == -1 ? std::numeric_limits<int64_t>::max() : start + 1;
  if (!site.type(site.out(n)).has_shape()) return false;
  const Shape shape = *site.type(site.out(n)).shape;
  site.at({n});
  GraphBuilder& b = site.rw.build;
  const ValueId part = b.op("Slice", {x, b.integers({start}), b.integers({end}), b.integers({axis})});
  const ValueId made = site.reshape(part, shape);
  if (!site.same_type(made, site.out(n))) return false;
  return site.replace(site.out(n), made, gather_one_rule);
}

constexpr NodeRule rules[] = {
    {"Squeeze", as_reshape},  {"Unsqueeze", as_reshape}, {"Flatten", as_reshape},  {"Reshape", reshape_twice},
    {"Transpose", transpose}, {"Concat", concat},        {"Concat", concat_parts}, {"Gather", gather_one},
};

}  // namespace

std::span<const NodeRule> shape_rules() { return rules; }

}  // namespace sinter
