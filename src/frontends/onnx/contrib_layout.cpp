// Entries of domains com.microsoft and com.ms.internal.nhwc for images and words, a dropout and a sample, and of what
// cannot be run elsewhere than where it was made: those say why.

#include <fmt/format.h>

#include "frontends/onnx/contrib.h"
#include "ops/resize.h"

namespace sinter::onnx {
namespace {

using wiring::add;
using wiring::cast;
using wiring::like;
using wiring::mul;
using wiring::sub;

// ---- images ----

// Places along one axis in [0, 1], f32[rois, count]: the corners of the crop are those of the box.
ValueId crop_places(NodeContext& c, int64_t side, ValueId count) {
  GraphBuilder& b = c.b;
  const auto edge = [&](int64_t k) { return wiring::slice(b, cast(b, c.in(1), DType::f32), 1, k, k + 1); };
  const ValueId from = edge(side), to = edge(side + 2);  // [rois, 1]
  const ValueId step = cast(b, wiring::iota(b, count), DType::f32), n = cast(b, count, DType::f32);
  const ValueId last = sub(b, n, like(b, n, 1));
  const ValueId many = wiring::div(b, step, b.op("Max", {last, like(b, last, 1)}));
  const ValueId share = wiring::where(b, b.op("Less", {like(b, last, 0), last}), many, like(b, many, 0.5));
  return add(b, from, mul(b, sub(b, to, from), share));
}

void import_crop_and_resize(NodeContext& c) {
  GraphBuilder& b = c.b;
  if (rank_of(c, 0) != 4 || rank_of(c, 1) != 2) c.fail("X must have rank 4 and rois rank 2");
  const std::string mode = c.string("mode", "bilinear");
  if (mode != "bilinear" && mode != "nearest") c.fail(fmt::format("mode '{}' is neither bilinear nor nearest", mode));
  const ValueId images = wiring::gather(b, wiring::widened(b, c.in(0)), c.in(2), 0);  // [rois, C, H, W]
  const ValueId size = cast(b, wiring::reshape(b, c.in(3), {2}), DType::i64);
  const auto axis = [&](int64_t k) {
    const ValueId count = wiring::scalar_of(b, wiring::slice(b, size, 0, k, k + 1));
    const ValueId extent = cast(b, wiring::extent(b, images, k + 2), DType::f32);
    const ValueId last = sub(b, extent, like(b, extent, 1));
    ValueId at = mul(b, crop_places(c, k, count), last);  // in pixels
    const ValueId inside = b.op("And", {b.op("LessOrEqual", {like(b, at, 0), at}), b.op("LessOrEqual", {at, last})});
    if (mode == "nearest") at = b.op("Floor", {add(b, at, like(b, at, 0.5))});
    // [-1, 1] from corner to corner; one pixel is everywhere.
    const ValueId unit = wiring::div(b, at, b.op("Max", {last, like(b, last, 1)}));
    return std::pair(sub(b, mul(b, unit, like(b, unit, 2)), like(b, unit, 1)), inside);
  };
  const auto [y, in_y] = axis(0);
  const auto [x, in_x] = axis(1);
  const ValueId rows = wiring::unsqueeze(b, y, {2}), columns = wiring::unsqueeze(b, x, {1});
  const ValueId zeros = mul(b, like(b, rows, 0), add(b, rows, columns));
  const ValueId grid = wiring::concat(
      b, {wiring::unsqueeze(b, add(b, columns, zeros), {3}), wiring::unsqueeze(b, add(b, rows, zeros), {3})}, 3);
  GridSampleAttrs a;
  a.align_corners = true;
  a.mode = mode == "nearest" ? ResizeMode::nearest : ResizeMode::linear;
  a.padding = GridPadding::border;
  const ValueId sampled = b.op("GridSample", a, {images, cast(b, grid, b.dtype(images))});
  const ValueId inside = b.op("And", {wiring::unsqueeze(b, in_y, {1, 3}), wiring::unsqueeze(b, in_x, {1, 2})});
  const ValueId value = like(b, sampled, c.real("extrapolation_value", 0));
  c.out(0, cast(b, wiring::where(b, inside, sampled, value), b.dtype(c.in(0))));
}

// Elements whose mask is 0 lose against all others. The mask repeats over planes.
void import_masked_max_pool(NodeContext& c) {
  GraphBuilder& b = c.b;
  const size_t rank = rank_of(c, 0, 3);
  const Shape s = b.shape(c.in(0));
  Dim plane = 1;
  for (size_t k = 2; k < rank; ++k) plane = plane * s[k];
  const ValueId flat = wiring::reshape(b, c.in(1), {-1});
  const ValueId count = count_of(b, s[0] * s[1] * plane);
  const ValueId at = b.op("Mod", {wiring::iota(b, count), wiring::extent(b, flat, 0)});
  ValueId kept = b.op("Not", {b.op("Equal", {wiring::gather(b, flat, at, 0), like(b, flat, 0)})});
  kept = wiring::reshape(b, kept, s);
  const ValueId x =
      wiring::where(b, kept, c.in(0), like(b, c.in(0), -static_cast<double>(std::numeric_limits<float>::max())));
  c.out(0, core_result(c, "MaxPool", {x}));
}

// ---- words: characters embedded, convolved along the word, the highest of each filter ----

void import_word_embedding(NodeContext& c) {
  GraphBuilder& b = c.b;
  if (rank_of(c, 0) != 2 || rank_of(c, 1) != 4 || rank_of(c, 3) != 2)
    c.fail("Sequence and C must have rank 2, W rank 4");
  const Shape s = b.shape(c.in(0)), w = b.shape(c.in(1));
  const ValueId letters = wiring::unsqueeze(b, wiring::gather(b, c.in(3), c.in(0), 0), {1});  // [words, 1, n, size]
  ValueId y = core_result(c, "Conv", {letters, c.in(1), c.in(2)});                            // [words, filters, m, 1]
  y = b.op("Tanh", {wiring::squeeze(b, y, {3})});
  // Windows that begin behind the word's last one do not count; a word has one window at least.
  const ValueId lengths =
      wiring::reduce(b, "Sum", cast(b, b.op("Less", {like(b, c.in(0), 0), c.in(0)}), DType::i64), {1});
  const ValueId windows = b.op("Max", {add(b, sub(b, lengths, count_of(b, w[2])), b.constant(Tensor::scalar_i64(1))),
                                       b.constant(Tensor::scalar_i64(1))});
  const ValueId at = wiring::iota(b, wiring::extent(b, y, 2));
  const ValueId valid = wiring::unsqueeze(b, b.op("Less", {at, windows}), {1});  // [words, 1, m]
  y = wiring::reduce(b, "Max", wiring::where(b, valid, y, like(b, y, minus_infinity)), {2}, false);
  c.out(0, wiring::where(b, b.op("Less", {b.constant(Tensor::scalar_i64(0)), lengths}), y, like(b, y, 0)));
}

// ---- the default domain's operators with channels last ----

void channels_last_core(NodeContext& c) {
  Ids operands = c.all();
  operands.at(0) = channels_first(c.b, c.in(0));
  c.out(0, channels_last(c.b, core_result(c, c.node.op_type, std::move(operands))));
}

void channels_last_contrib(NodeContext& c) {
  Ids operands = c.all();
  if (c.integer("channels_last", 0) != 0)
    return c.out(imported_as(c, microsoft, c.node.op_type, 1, std::move(operands)));
  operands.at(0) = channels_first(c.b, c.in(0));
  c.out(0, channels_last(c.b, imported_as(c, microsoft, c.node.op_type, 1, std::move(operands)).at(0)));
}

// ---- what is bound to one machine ----

void compiled_for_a_device(NodeContext& c) {
  c.unsupported("it holds a program for one device, not a computation; use the model it was made from");
}

void stored_for_a_machine(NodeContext& c) {
  c.unsupported(
      "ONNX Runtime rewrote the model for the machine it ran on: how weights are stored is not in the file; save the "
      "optimized model at level 'extended' or below, or use the original");
}

void published_nowhere(NodeContext& c) {
  c.unsupported("how it stores numbers is defined by one vendor's device; replace it by QuantizeLinear");
}

constexpr const char* nhwc = "com.ms.internal.nhwc";
constexpr const char* nchwc = "com.microsoft.nchwc";

constexpr Entry table[] = {
    {"BitmaskDropout", 1,
     [](NodeContext& c) {
       if (c.has(2) && !is_zero(c, c.in(2))) c.unsupported("training");
       if (c.wants(1)) c.unsupported("the mask of a dropout");
       c.out(0, c.in(0));
     },
     microsoft},
    {"CropAndResize", 1, import_crop_and_resize, microsoft},
    {"MaxpoolWithMask", 1, import_masked_max_pool, microsoft},
    {"SampleOp", 1, [](NodeContext& c) { c.out(0, c.in(0)); }, microsoft},
    {"WordConvEmbedding", 1, import_word_embedding, microsoft},
    {"DequantizeBFP", 1, published_nowhere, microsoft},
    {"EPContext", 1, compiled_for_a_device, microsoft},
    {"QuantizeBFP", 1, published_nowhere, microsoft},
    {"Snpe", 1, compiled_for_a_device, microsoft},
    {"AveragePool", 1, channels_last_core, nhwc},
    {"BatchNormalization", 1, channels_last_core, nhwc},
    {"Conv", 1, channels_last_core, nhwc},
    {"ConvTranspose", 1, channels_last_core, nhwc},
    {"DepthToSpace", 1, channels_last_core, nhwc},
    {"GlobalAveragePool", 1, channels_last_core, nhwc},
    {"GlobalLpPool", 1, channels_last_core, nhwc},
    {"GlobalMaxPool", 1, channels_last_core, nhwc},
    {"GridSample", 1, channels_last_core, nhwc},
    {"InstanceNormalization", 1, channels_last_core, nhwc},
    {"LRN", 1, channels_last_core, nhwc},
    {"LpPool", 1, channels_last_core, nhwc},
    {"MaxPool", 1, channels_last_core, nhwc},
    {"QLinearAveragePool", 1, channels_last_contrib, nhwc},
    {"QLinearConv", 1, channels_last_core, nhwc},
    {"QLinearGlobalAveragePool", 1, channels_last_contrib, nhwc},
    {"SpaceToDepth", 1, channels_last_core, nhwc},
    {"AveragePool", 1, stored_for_a_machine, nchwc},
    {"Conv", 1, stored_for_a_machine, nchwc},
    {"GlobalAveragePool", 1, stored_for_a_machine, nchwc},
    {"GlobalMaxPool", 1, stored_for_a_machine, nchwc},
    {"MaxPool", 1, stored_for_a_machine, nchwc},
    {"ReorderInput", 1, stored_for_a_machine, nchwc},
    {"ReorderOutput", 1, stored_for_a_machine, nchwc},
    {"Upsample", 1, stored_for_a_machine, nchwc},
};

}  // namespace

std::span<const Entry> contrib_layout_entries() { return table; }

}  // namespace sinter::onnx
