// Entries of pooling. Global pooling is a reduction over the spatial axes.

#include "ops/pooling.h"

#include <fmt/core.h>

#include <cmath>

#include "base/checked.h"
#include "frontends/onnx/entries.h"

namespace sinter::onnx {
namespace {

// The attributes that every pooling operator has.
template <typename A>
A window(NodeContext& c) {
  A a;
  a.auto_pad = auto_pad(c);
  a.ceil_mode = c.integer("ceil_mode", 0) != 0;
  a.dilations = c.integers("dilations");
  a.kernel = c.integers("kernel_shape");
  if (a.auto_pad == AutoPad::explicit_pads) a.pads = c.integers("pads");
  a.strides = c.integers("strides");
  if (a.kernel.empty()) c.fail("attribute 'kernel_shape' is missing");
  return a;
}

void import_max_pool(NodeContext& c) {
  MaxPoolAttrs a = window<MaxPoolAttrs>(c);
  a.column_major = c.integer("storage_order", 0) != 0;
  c.out(c.b.add(op_named("MaxPool"), std::move(a), {c.in(0)}, c.wants(1) ? 2 : 1));
}

void import_average_pool(NodeContext& c) {
  AveragePoolAttrs a = window<AveragePoolAttrs>(c);
  a.count_pads = c.integer("count_include_pad", 0) != 0;
  c.out(0, c.b.op("AveragePool", std::move(a), {c.in(0)}));
}

void import_lp_pool(NodeContext& c) {
  LpPoolAttrs a = window<LpPoolAttrs>(c);
  if (c.opset < 2) {
    const double p = c.real("p", 2);
    if (p != std::floor(p)) c.unsupported("p is no whole number");
    a.p = to_integer(p, 1, INT32_MAX, "p");
  } else {
    a.p = c.integer("p", 2);
  }
  c.out(0, c.b.op("LpPool", std::move(a), {c.in(0)}));
}

std::vector<int64_t> spatial(NodeContext& c) { return wiring::axis_range(2, rank_of(c, 0, 2)); }

void import_global_average(NodeContext& c) { c.out(0, wiring::reduce(c.b, "Mean", c.in(0), spatial(c))); }

void import_global_max(NodeContext& c) { c.out(0, wiring::reduce(c.b, "Max", c.in(0), spatial(c))); }

void import_global_lp(NodeContext& c) {
  GraphBuilder& b = c.b;
  const double p = c.opset < 2 ? c.real("p", 2) : static_cast<double>(c.integer("p", 2));
  if (!(p > 0)) c.fail(fmt::format("p is {}, it must be positive", p));
  const ValueId x = wiring::widened(b, c.in(0));
  const ValueId powers = p == 2 ? wiring::mul(b, x, x) : b.op("Pow", {b.op("Abs", {x}), wiring::like(b, x, p)});
  const ValueId sum = wiring::reduce(b, "Sum", powers, spatial(c));
  const ValueId root = p == 2 ? b.op("Sqrt", {sum}) : b.op("Pow", {sum, wiring::like(b, x, 1 / p)});
  c.out(0, wiring::cast(b, root, b.dtype(c.in(0))));
}

void import_max_unpool(NodeContext& c) {
  MaxUnpoolAttrs a;
  a.kernel = c.integers("kernel_shape");
  a.pads = c.integers("pads");
  a.strides = c.integers("strides");
  c.out(0, c.b.op("MaxUnpool", std::move(a), {c.in(0), c.in(1), c.maybe(2)}));
}

void import_roi_align(NodeContext& c) {
  RoiAlignAttrs a;
  const std::string mode = c.string("mode", "avg");
  if (mode != "avg" && mode != "max") c.fail(fmt::format("mode '{}' is neither avg nor max", mode));
  a.mode = mode == "avg" ? RoiMode::average : RoiMode::max;
  const std::string transform =
      c.string("coordinate_transformation_mode", c.opset < 16 ? "output_half_pixel" : "half_pixel");
  if (transform != "half_pixel" && transform != "output_half_pixel")
    c.fail(fmt::format("coordinate_transformation_mode '{}' is neither half_pixel nor output_half_pixel", transform));
  a.half_pixel = transform == "half_pixel";
  a.height = c.integer("output_height", 1);
  a.width = c.integer("output_width", 1);
  a.sampling_ratio = c.integer("sampling_ratio", 0);
  a.scale = c.real("spatial_scale", 1);
  c.out(0, c.b.op("RoiAlign", a, {c.in(0), c.in(1), c.in(2)}));
}

void import_max_roi_pool(NodeContext& c) {
  const auto shape = c.integers("pooled_shape");
  if (shape.size() != 2) c.fail(fmt::format("pooled_shape has {} extents, it must have 2", shape.size()));
  const MaxRoiPoolAttrs a{.height = shape[0], .width = shape[1], .scale = c.real("spatial_scale", 1)};
  c.out(0, c.b.op("MaxRoiPool", a, {c.in(0), c.in(1)}));
}

constexpr Entry table[] = {
    {"AveragePool", 1, import_average_pool}, {"GlobalAveragePool", 1, import_global_average},
    {"GlobalLpPool", 1, import_global_lp},   {"GlobalMaxPool", 1, import_global_max},
    {"LpPool", 1, import_lp_pool},           {"MaxPool", 1, import_max_pool},
    {"MaxRoiPool", 1, import_max_roi_pool},  {"MaxUnpool", 9, import_max_unpool},
    {"RoiAlign", 10, import_roi_align},
};

}  // namespace

std::span<const Entry> pooling_entries() { return table; }

}  // namespace sinter::onnx
