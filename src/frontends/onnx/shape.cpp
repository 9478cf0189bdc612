// Entries that look at shapes or move data: Shape to CenterCropPad.

#include "ops/shape.h"

#include <fmt/format.h>

#include "base/checked.h"
#include "frontends/onnx/entries.h"
#include "ops/movement.h"

namespace sinter::onnx {
namespace {

void import_shape(NodeContext& c) {
  const ShapeAttrs attrs{.start = c.integer("start", 0), .end = c.integer("end", INT64_MAX)};
  c.out(0, c.b.op("Shape", attrs, {c.in(0)}));
}

void import_reshape_1(NodeContext& c) { c.out(0, c.b.op("Reshape", {c.in(0), c.b.integers(c.integers("shape"))})); }

void import_reshape(NodeContext& c) {
  const ReshapeAttrs attrs{.allow_zero = c.integer("allowzero", 0) != 0};
  c.out(0, c.b.op("Reshape", attrs, {c.in(0), c.in(1)}));
}

void import_squeeze(NodeContext& c) { c.out(0, c.b.op("Squeeze", {c.in(0), c.axes_operand("axes", 1)})); }

void import_unsqueeze(NodeContext& c) {
  const ValueId axes = c.axes_operand("axes", 1);
  if (axes == no_id) c.fail("axes are missing");
  c.out(0, c.b.op("Unsqueeze", {c.in(0), axes}));
}

void import_flatten(NodeContext& c) {
  c.out(0, c.b.op("Flatten", FlattenAttrs{.axis = c.integer("axis", 1)}, {c.in(0)}));
}

void import_transpose(NodeContext& c) { c.out(0, wiring::transpose(c.b, c.in(0), c.integers("perm"))); }

void import_concat(NodeContext& c) {
  if (c.opset >= 4 && !c.has_attr("axis")) c.fail("attribute 'axis' is missing");
  Ids values;
  for (size_t i = 0; i < c.inputs(); ++i) values.push_back(c.in(i));
  if (values.empty()) c.fail("it needs at least one operand");
  c.out(0, c.b.op("Concat", ConcatAttrs{.axis = c.integer("axis", 1)}, std::move(values)));
}

void import_slice_1(NodeContext& c) {
  const auto starts = c.integers("starts"), ends = c.integers("ends");
  if (starts.size() != ends.size())
    c.fail(fmt::format("{} starts and {} ends, there must be as many", starts.size(), ends.size()));
  auto axes = c.integers("axes");
  if (axes.empty()) axes = wiring::axis_range(0, starts.size());
  c.out(0, c.b.op("Slice", {c.in(0), c.b.integers(starts), c.b.integers(ends), c.b.integers(axes)}));
}

void import_slice(NodeContext& c) {
  // PyTorch writes the start of a single axis as a scalar.
  const auto listed = [&](ValueId v) {
    return v != no_id && c.b.type(v).has_shape() && c.b.rank(v) == 0 ? as_vector(c, v) : v;
  };
  c.out(0, c.b.op("Slice", {c.in(0), listed(c.in(1)), listed(c.in(2)), listed(c.maybe(3)), listed(c.maybe(4))}));
}

PadAttrs pad_mode(NodeContext& c) {
  const std::string mode = c.string("mode", "constant");
  if (mode == "constant") return {PadMode::constant};
  if (mode == "reflect") return {PadMode::reflect};
  if (mode == "edge") return {PadMode::edge};
  if (mode == "wrap") return {PadMode::wrap};
  c.fail(fmt::format("mode '{}' is none of constant, reflect, edge, wrap", mode));
}

void import_pad_1(NodeContext& c) {
  const auto pads = c.integers(c.has_attr("pads") ? "pads" : "paddings");
  const ValueId value = wiring::like(c.b, c.in(0), c.real("value", 0));
  c.out(0, c.b.op("Pad", pad_mode(c), {c.in(0), c.b.integers(pads), value}));
}

void import_pad(NodeContext& c) {
  const ValueId value = c.has(2) ? wiring::scalar_of(c.b, c.in(2)) : no_id;
  c.out(0, c.b.op("Pad", pad_mode(c), {c.in(0), c.in(1), value, c.maybe(3)}));
}

void import_expand(NodeContext& c) { c.out(0, c.b.op("Expand", {c.in(0), c.in(1)})); }

void import_tile_1(NodeContext& c) {
  const auto tiles = c.b.integers_of(wiring::cast(c.b, c.in(1), DType::i64));
  const auto axis = c.b.integers_of(wiring::cast(c.b, c.in(2), DType::i64));
  if (!tiles || !axis || tiles->size() != 1 || axis->size() != 1 || !(*axis)[0].is_constant())
    c.unsupported("tiles and axis of opset 1 must be constants of one element");
  const size_t rank = rank_of(c, 0, 1);
  std::vector<Dim> repeats(rank, Dim(1));
  repeats[static_cast<size_t>(axis_of(c, (*axis)[0].constant(), rank))] = (*tiles)[0];
  c.out(0, c.b.op("Tile", {c.in(0), c.b.dims(std::move(repeats))}));
}

void import_tile(NodeContext& c) { c.out(0, c.b.op("Tile", {c.in(0), c.in(1)})); }

// Sizes of n parts: equal, or as equal as can be with what is missing taken from the last ones.
ValueId part_sizes(NodeContext& c, int64_t axis, int64_t n, bool uneven) {
  GraphBuilder& b = c.b;
  if (!b.type(c.in(0)).has_shape()) {
    const auto number = [&](int64_t v) { return b.constant(Tensor::scalar_i64(v)); };
    const ValueId extent = wiring::gather(b, wiring::shape_of(b, c.in(0)), number(axis), 0);
    const ValueId more = uneven ? wiring::add(b, extent, number(n - 1)) : extent;
    const ValueId chunk = wiring::div(b, more, number(n));
    const ValueId before = wiring::mul(b, wiring::iota(b, number(n)), chunk);
    return b.op("Min", {b.op("Max", {wiring::sub(b, extent, before), number(0)}), chunk});
  }
  const size_t rank = rank_of(c, 0, 1);
  const Dim extent = b.shape(c.in(0))[static_cast<size_t>(axis_of(c, axis, rank))];
  if (!uneven) {
    if (extent.is_constant() && extent.constant() % n != 0)
      c.fail(fmt::format("extent {} cannot be split into {} equal parts", extent.constant(), n));
    return b.dims(std::vector<Dim>(static_cast<size_t>(n), floordiv(extent, n)));
  }
  const Dim chunk = ceildiv(extent, n);
  std::vector<Dim> parts;
  for (int64_t k = 0; k < n; ++k) parts.push_back(min(max(extent - chunk * Dim(k), 0), chunk));
  return b.dims(std::move(parts));
}

void split(NodeContext& c, ValueId sizes) {
  const int64_t axis = c.integer("axis", 0);
  const size_t count = c.outputs();
  if (count == 0) c.fail("it has no results");
  const auto n = static_cast<int64_t>(count);
  const bool uneven = c.has_attr("num_outputs");
  if (uneven && c.integer("num_outputs", 0) != n)
    c.fail(fmt::format("num_outputs is {}, the node has {} results", c.integer("num_outputs", 0), n));
  if (sizes == no_id) sizes = part_sizes(c, axis, n, uneven);
  c.out(c.b.add(op_named("Split"), SplitAttrs{.axis = axis}, {c.in(0), sizes}, count));
}

void import_split_1(NodeContext& c) {
  if (c.has(1)) return split(c, wiring::cast(c.b, c.in(1), DType::i64));
  const auto sizes = c.integers("split");
  split(c, sizes.empty() ? no_id : c.b.integers(sizes));
}

void import_split(NodeContext& c) { split(c, c.maybe(1)); }

int64_t block_size(NodeContext& c) {
  const int64_t block = c.integer("blocksize", 0);
  if (block < 1 || block > (int64_t{1} << 20)) c.fail(fmt::format("blocksize {} is outside [1, 2^20]", block));
  return block;
}

const Shape& image_shape(NodeContext& c) {
  const Shape& x = c.b.shape(c.in(0));
  if (x.size() != 4) c.fail(fmt::format("the operand has rank {}, it must have rank 4", x.size()));
  return x;
}

void import_space_to_depth(NodeContext& c) {
  const int64_t n = block_size(c);
  const Shape x = image_shape(c);
  const Dim h = floordiv(x[2], n), w = floordiv(x[3], n);
  const ValueId cut = wiring::reshape(c.b, c.in(0), {x[0], x[1], h, n, w, n});
  const ValueId moved = wiring::transpose(c.b, cut, {0, 3, 5, 1, 2, 4});
  c.out(0, wiring::reshape(c.b, moved, {x[0], x[1] * Dim(checked_mul(n, n)), h, w}));
}

void import_depth_to_space(NodeContext& c) {
  const int64_t n = block_size(c);
  const Shape x = image_shape(c);
  const Dim channels = floordiv(x[1], checked_mul(n, n));
  const std::string mode = c.string("mode", "DCR");
  ValueId moved;
  if (mode == "DCR") {
    const ValueId cut = wiring::reshape(c.b, c.in(0), {x[0], n, n, channels, x[2], x[3]});
    moved = wiring::transpose(c.b, cut, {0, 3, 4, 1, 5, 2});
  } else if (mode == "CRD") {
    const ValueId cut = wiring::reshape(c.b, c.in(0), {x[0], channels, n, n, x[2], x[3]});
    moved = wiring::transpose(c.b, cut, {0, 1, 4, 2, 5, 3});
  } else {
    c.fail(fmt::format("mode '{}' is neither DCR nor CRD", mode));
  }
  c.out(0, wiring::reshape(c.b, moved, {x[0], channels, x[2] * Dim(n), x[3] * Dim(n)}));
}

void import_trilu(NodeContext& c) {
  const ValueId k = c.has(1) ? as_scalar(c, c.in(1)) : no_id;
  c.out(0, c.b.op("Trilu", TriluAttrs{.upper = c.integer("upper", 1) != 0}, {c.in(0), k}));
}

void import_reverse_sequence(NodeContext& c) {
  const ReverseSequenceAttrs attrs{.batch_axis = c.integer("batch_axis", 1), .time_axis = c.integer("time_axis", 0)};
  c.out(0, c.b.op("ReverseSequence", attrs, {c.in(0), c.in(1)}));
}

// Cropping is padding by negative amounts; the smaller half comes first in both.
void import_center_crop_pad(NodeContext& c) {
  GraphBuilder& b = c.b;
  const size_t rank = rank_of(c, 0);
  auto axes = c.integers("axes");
  if (!c.has_attr("axes")) axes = wiring::axis_range(0, rank);
  for (int64_t& a : axes) a = axis_of(c, a, rank);
  const ValueId target = wiring::cast(b, c.in(1), DType::i64);
  ValueId pads;
  if (const auto wanted = b.integers_of(target)) {
    if (wanted->size() != axes.size())
      c.fail(fmt::format("{} extents for {} axes, there must be as many", wanted->size(), axes.size()));
    std::vector<Dim> before, after;
    for (size_t k = 0; k < axes.size(); ++k) {
      const Dim grown = (*wanted)[k] - b.shape(c.in(0))[static_cast<size_t>(axes[k])];
      before.push_back(max(floordiv(grown, 2), 0) - max(floordiv(-grown, 2), 0));
      after.push_back(grown - before.back());
    }
    before.insert(before.end(), after.begin(), after.end());
    pads = b.dims(std::move(before));
  } else {
    const ValueId extents = wiring::gather(b, wiring::shape_of(b, c.in(0)), b.integers(axes), 0);
    const ValueId grown = wiring::sub(b, target, extents);
    const ValueId before = wiring::div(b, grown, b.scalar(DType::i64, 2));  // cut towards 0
    pads = wiring::concat(b, {before, wiring::sub(b, grown, before)}, 0);
  }
  c.out(0, b.op("Pad", PadAttrs{}, {c.in(0), pads, no_id, b.integers(axes)}));
}

constexpr Entry table[] = {
    {"CenterCropPad", 18, import_center_crop_pad},
    {"Concat", 1, import_concat},
    {"DepthToSpace", 1, import_depth_to_space},
    {"Expand", 8, import_expand},
    {"Flatten", 1, import_flatten},
    {"Identity", 1, [](NodeContext& c) { c.out(0, c.in(0)); }},
    {"Pad", 1, import_pad_1},
    {"Pad", 11, import_pad},
    {"Reshape", 1, import_reshape_1},
    {"Reshape", 5, import_reshape},
    {"ReverseSequence", 10, import_reverse_sequence},
    {"Shape", 1, import_shape},
    {"Size", 1, [](NodeContext& c) { unary(c, "Size"); }},
    {"Slice", 1, import_slice_1},
    {"Slice", 10, import_slice},
    {"SpaceToDepth", 1, import_space_to_depth},
    {"Split", 1, import_split_1},
    {"Split", 13, import_split},
    {"Squeeze", 1, import_squeeze},
    {"Tile", 1, import_tile_1},
    {"Tile", 6, import_tile},
    {"Transpose", 1, import_transpose},
    {"Trilu", 14, import_trilu},
    {"Unsqueeze", 1, import_unsqueeze},
};

}  // namespace

std::span<const Entry> shape_entries() { return table; }

}  // namespace sinter::onnx
