// Entries of resampling: Resize, Upsample, GridSample.

#include "ops/resize.h"

#include <fmt/core.h>

#include "frontends/onnx/entries.h"

namespace sinter::onnx {
namespace {

template <typename E>
struct Named {
  const char* name;
  E value;
};

template <typename E, size_t N>
E choose(NodeContext& c, const char* attribute, const char* otherwise, const Named<E> (&names)[N]) {
  const std::string given = c.string(attribute, otherwise);
  for (const Named<E>& n : names)
    if (given == n.name) return n.value;
  c.fail(fmt::format("{} '{}' is not known", attribute, given));
}

constexpr Named<ResizeMode> modes[] = {{"nearest", ResizeMode::nearest}, {"linear", ResizeMode::linear},
                                       {"bilinear", ResizeMode::linear}, {"trilinear", ResizeMode::linear},
                                       {"cubic", ResizeMode::cubic},     {"bicubic", ResizeMode::cubic}};

// Upsample and Resize of opset 10: positions are index / scale; the suite of that time shows how nearest rounds.
ResizeAttrs old_attributes(NodeContext& c) {
  ResizeAttrs a;
  a.coordinates = Coordinates::asymmetric;
  a.mode = choose(c, "mode", "nearest", modes);
  a.nearest = NearestMode::shrink_ceil;
  return a;
}

void old_resize(NodeContext& c, ValueId scales) {
  c.out(0, c.b.op("Resize", old_attributes(c), {c.in(0), no_id, scales}));
}

void import_upsample_1(NodeContext& c) {
  if (c.has_attr("scales")) return old_resize(c, floats(c, c.reals("scales")));
  const size_t rank = rank_of(c, 0);
  if (rank != 4) c.fail(fmt::format("the operand has rank {}, it must have rank 4", rank));
  if (!c.has_attr("height_scale") || !c.has_attr("width_scale")) c.fail("height_scale or width_scale is missing");
  old_resize(c, floats(c, {1, 1, c.real("height_scale", 1), c.real("width_scale", 1)}));
}

void import_upsample_9(NodeContext& c) { old_resize(c, c.in(1)); }

// An operand that is absent or known to be empty.
ValueId given(NodeContext& c, size_t i) {
  if (!c.has(i)) return no_id;
  const Type& type = c.b.type(c.in(i));
  if (type.has_shape() && type.shape->size() == 1 && (*type.shape)[0] == Dim(0)) return no_id;
  return c.in(i);
}

void import_resize(NodeContext& c) {
  ResizeAttrs a;
  a.antialias = c.integer("antialias", 0) != 0;
  a.aspect = choose<AspectPolicy>(c, "keep_aspect_ratio_policy", "stretch",
                                  {{"stretch", AspectPolicy::stretch},
                                   {"not_larger", AspectPolicy::not_larger},
                                   {"not_smaller", AspectPolicy::not_smaller}});
  a.axes = c.integers("axes");
  a.coordinates = choose<Coordinates>(c, "coordinate_transformation_mode", "half_pixel",
                                      {{"half_pixel", Coordinates::half_pixel},
                                       {"half_pixel_symmetric", Coordinates::half_pixel_symmetric},
                                       {"pytorch_half_pixel", Coordinates::pytorch_half_pixel},
                                       {"align_corners", Coordinates::align_corners},
                                       {"asymmetric", Coordinates::asymmetric},
                                       {"tf_crop_and_resize", Coordinates::tf_crop_and_resize},
                                       {"tf_half_pixel_for_nn", Coordinates::tf_half_pixel}});
  a.cubic_a = c.real("cubic_coeff_a", -0.75);
  a.exclude_outside = c.integer("exclude_outside", 0) != 0;
  a.extrapolation = c.real("extrapolation_value", 0);
  a.mode = choose(c, "mode", "nearest", modes);
  a.nearest = choose<NearestMode>(c, "nearest_mode", "round_prefer_floor",
                                  {{"round_prefer_floor", NearestMode::round_prefer_floor},
                                   {"round_prefer_ceil", NearestMode::round_prefer_ceil},
                                   {"floor", NearestMode::floor},
                                   {"ceil", NearestMode::ceil}});
  const ValueId roi = a.coordinates == Coordinates::tf_crop_and_resize ? given(c, 1) : no_id;
  const ValueId sizes = given(c, 3);
  const ValueId scales = sizes == no_id ? given(c, 2) : no_id;
  if (sizes == no_id && scales == no_id) c.fail("one of scales and sizes must be given");
  c.out(0, c.b.op("Resize", std::move(a), {c.in(0), roi, scales, sizes}));
}

void import_grid_sample(NodeContext& c) {
  GridSampleAttrs a;
  a.align_corners = c.integer("align_corners", 0) != 0;
  a.mode = choose(c, "mode", "linear", modes);
  a.padding = choose<GridPadding>(
      c, "padding_mode", "zeros",
      {{"zeros", GridPadding::zeros}, {"border", GridPadding::border}, {"reflection", GridPadding::reflection}});
  c.out(0, c.b.op("GridSample", a, {c.in(0), c.in(1)}));
}

constexpr Entry table[] = {
    {"GridSample", 16, import_grid_sample}, {"Resize", 10, import_upsample_9},  {"Resize", 11, import_resize},
    {"Upsample", 1, import_upsample_1},     {"Upsample", 9, import_upsample_9},
};

}  // namespace

std::span<const Entry> resize_entries() { return table; }

}  // namespace sinter::onnx
