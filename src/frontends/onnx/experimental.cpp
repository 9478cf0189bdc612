// Entries of operators that were experimental in ONNX 1.0 to 1.4 and dropped since; exporters of that time wrote them.
// Also of the copies that ONNX Runtime puts between devices.

#include <fmt/format.h>

#include "frontends/onnx/entries.h"
#include "ops/movement.h"

namespace sinter::onnx {
namespace {

using wiring::add;
using wiring::like;
using wiring::mul;

void import_affine(NodeContext& c) {
  const ValueId x = c.in(0);
  c.out(0, add(c.b, mul(c.b, x, like(c.b, x, c.real("alpha", 1))), like(c.b, x, c.real("beta", 0))));
}

void import_image_scaler(NodeContext& c) {
  GraphBuilder& b = c.b;
  const size_t rank = rank_of(c, 0, 2);
  const ValueId bias = wiring::cast(b, floats(c, c.reals("bias")), b.dtype(c.in(0)));
  const ValueId y = mul(b, c.in(0), like(b, c.in(0), c.real("scale", 1)));
  c.out(0, add(b, y, wiring::along(b, bias, 1, rank)));
}

// border: left, top, right, bottom; scale: the extents that stay.
void import_crop(NodeContext& c) {
  GraphBuilder& b = c.b;
  if (rank_of(c, 0) != 4) c.fail("the operand must have rank 4");
  const auto border = c.integers("border"), scale = c.integers("scale");
  if (border.size() != 4) c.fail(fmt::format("border has {} numbers, it must have 4", border.size()));
  for (const int64_t v : border)
    if (v < 0 || v > INT32_MAX) c.fail(fmt::format("a border of {}", v));
  const Shape& s = b.shape(c.in(0));
  Dim bottom = s[2] - Dim(border[3]), right = s[3] - Dim(border[2]);
  if (!scale.empty()) {
    if (scale.size() != 2 || scale[0] < 0 || scale[1] < 0 || scale[0] > INT32_MAX || scale[1] > INT32_MAX)
      c.fail("scale must be two extents");
    bottom = Dim(border[1] + scale[0]);
    right = Dim(border[0] + scale[1]);
  }
  c.out(0, wiring::slice(b, wiring::slice(b, c.in(0), 2, border[1], bottom), 3, border[0], right));
}

// The shape that ConstantFill and GivenTensorFill give: the attribute's, or operand 0's (its extents, or its elements),
// with more behind it.
ValueId filled_shape(NodeContext& c) {
  GraphBuilder& b = c.b;
  const auto more = c.integers("extra_shape");
  if (!c.has(0)) {
    if (!more.empty()) c.fail("extra_shape needs an operand");
    return b.integers(c.integers("shape"));
  }
  if (!c.integers("shape").empty()) c.fail("attribute 'shape' and an operand exclude each other");
  ValueId shape = c.in(0);
  if (c.integer("input_as_shape", 0) == 0)
    shape = wiring::shape_of(b, shape);
  else
    shape = wiring::reshape(b, wiring::cast(b, shape, DType::i64), {-1});
  return more.empty() ? shape : wiring::concat(b, {shape, b.integers(more)}, 0);
}

void import_constant_fill(NodeContext& c) {
  const DType dtype = c.dtype("dtype", DType::f32);
  if (dtype == DType::string || is_complex(dtype)) c.fail("dtype must be a number");
  c.out(0, wiring::fill(c.b, c.b.scalar(dtype, c.real("value", 0)), filled_shape(c)));
}

void import_given_tensor_fill(NodeContext& c) {
  c.out(0, c.b.op("Reshape", {floats(c, c.reals("values")), filled_shape(c)}));
}

void import_dynamic_slice(NodeContext& c) {
  const auto whole = [&](size_t i) { return c.has(i) ? wiring::cast(c.b, c.in(i), DType::i64) : no_id; };
  c.out(0, c.b.op("Slice", {c.in(0), whole(1), whole(2), whole(3)}));
}

// One step of a GRU whose products are made already: hidden [1, N, D], gates [1, N, 3D] (reset, update, output),
// lengths [N], step. Sequences that are over keep their state, or drop it.
void import_gru_unit(NodeContext& c) {
  GraphBuilder& b = c.b;
  const size_t rank = rank_of(c, 1, 1);
  const auto axis = static_cast<int64_t>(rank) - 1;
  const Dim size = floordiv(b.shape(c.in(1)).back(), 3);
  const auto gate = [&](int64_t k) { return wiring::slice(b, c.in(1), axis, size * Dim(k), size * Dim(k + 1)); };
  const ValueId old = c.in(0), update = b.op("Sigmoid", {gate(1)}), fresh = b.op("Tanh", {gate(2)});
  const ValueId state = add(b, mul(b, update, old), mul(b, wiring::sub(b, like(b, update, 1), update), fresh));
  const ValueId length = wiring::unsqueeze(b, wiring::cast(b, c.in(2), DType::i64), {1});
  const ValueId runs = b.op("Less", {as_scalar(c, c.in(3)), length});  // [N, 1]
  c.out(0, wiring::where(b, runs, state, c.integer("drop_states", 0) != 0 ? like(b, old, 0) : old));
}

// Before opset 9 the axes follow from a flag, and the deviation may be left alone.
void import_mean_variance_1(NodeContext& c) {
  GraphBuilder& b = c.b;
  const size_t rank = rank_of(c, 0, 2);
  std::vector<int64_t> axes = wiring::axis_range(0, rank);
  if (c.integer("across_channels", 0) == 0) axes.erase(axes.begin() + 1);
  const wiring::Moments m = wiring::moments(b, wiring::widened(b, c.in(0)), axes);
  ValueId y = m.centered;
  if (c.integer("normalize_variance", 1) != 0)
    y = wiring::div(b, y, b.op("Sqrt", {add(b, m.variance, like(b, m.variance, 1e-9))}));
  c.out(0, wiring::cast(b, y, b.dtype(c.in(0))));
}

constexpr Entry table[] = {
    {"Affine", 1, import_affine},
    {"ConstantFill", 1, import_constant_fill},
    {"Crop", 1, import_crop},
    {"DynamicSlice", 1, import_dynamic_slice},
    {"GRUUnit", 1, import_gru_unit},
    {"GivenTensorFill", 1, import_given_tensor_fill},
    {"ImageScaler", 1, import_image_scaler},
    {"MeanVarianceNormalization", 1, import_mean_variance_1},
    {"ParametricSoftplus", 1,
     [](NodeContext& c) {
       const ValueId x = mul(c.b, c.in(0), like(c.b, c.in(0), c.real("beta", 0.5)));
       c.out(0, mul(c.b, c.b.op("Softplus", {x}), like(c.b, x, c.real("alpha", 1))));
     }},
    {"Scale", 1, [](NodeContext& c) { c.out(0, mul(c.b, c.in(0), like(c.b, c.in(0), c.real("scale", 1)))); }},
    {"ScaledTanh", 1,
     [](NodeContext& c) {
       const ValueId x = mul(c.b, c.in(0), like(c.b, c.in(0), c.real("beta", 1)));
       c.out(0, mul(c.b, c.b.op("Tanh", {x}), like(c.b, x, c.real("alpha", 1))));
     }},
    // ONNX Runtime puts them between devices.
    {"MemcpyFromHost", 1, [](NodeContext& c) { c.out(0, c.in(0)); }},
    {"MemcpyToHost", 1, [](NodeContext& c) { c.out(0, c.in(0)); }},
};

}  // namespace

std::span<const Entry> experimental_entries() { return table; }

}  // namespace sinter::onnx
