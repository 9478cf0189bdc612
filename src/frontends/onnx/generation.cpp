// Entries that make values: constants, ranges, random numbers, windows, grids.

#include "ops/generation.h"

#include <fmt/core.h>

#include <numbers>

#include "frontends/onnx/entries.h"

namespace sinter::onnx {
namespace {

using wiring::cast;
using wiring::like;

Tensor strings(std::vector<std::string> values, Dims dims) {
  Tensor t(DType::string, std::move(dims));
  const auto out = t.strings();
  for (size_t i = 0; i < values.size() && i < out.size(); ++i) out[i] = std::move(values[i]);
  return t;
}

void import_constant(NodeContext& c) {
  GraphBuilder& b = c.b;
  if (const Tensor* t = c.tensor("value")) return c.out(0, b.constant(*t));
  if (const Tensor* t = c.tensor("sparse_value")) return c.out(0, b.constant(*t));
  if (c.has_attr("value_float")) return c.out(0, b.scalar(DType::f32, c.real("value_float", 0)));
  if (c.has_attr("value_int")) return c.out(0, b.constant(Tensor::scalar_i64(c.integer("value_int", 0))));
  if (c.has_attr("value_floats")) return c.out(0, floats(c, c.reals("value_floats")));
  if (c.has_attr("value_ints")) return c.out(0, b.integers(c.integers("value_ints")));
  if (c.has_attr("value_string")) return c.out(0, b.constant(strings({c.string("value_string", "")}, {})));
  if (c.has_attr("value_strings")) {
    auto values = c.strings("value_strings");
    const auto n = static_cast<int64_t>(values.size());
    return c.out(0, b.constant(strings(std::move(values), {n})));
  }
  c.fail("it has none of the attributes value, value_float(s), value_int(s), value_string(s), sparse_value");
}

void import_constant_of_shape(NodeContext& c) {
  const Tensor* value = c.tensor("value");
  if (value && value->count() != 1) c.fail(fmt::format("value has {} elements, it must have 1", value->count()));
  const ValueId scalar = value ? c.b.constant(value->reshaped({})) : c.b.scalar(DType::f32, 0);
  c.out(0, wiring::fill(c.b, scalar, c.in(0)));
}

void import_range(NodeContext& c) {
  GraphBuilder& b = c.b;
  const DType dtype = b.dtype(c.in(0));
  // Half-precision ranges count in f32, as stash_type has it.
  const bool narrow = is_float(dtype) && bit_size(dtype) < 32;
  const auto operand = [&](size_t i) {
    const ValueId v = wiring::scalar_of(b, c.in(i));
    return narrow ? cast(b, v, DType::f32) : v;
  };
  c.out(0, cast(b, b.op("Range", {operand(0), operand(1), operand(2)}), dtype));
}

void import_eye_like(NodeContext& c) {
  const EyeLikeAttrs a{.dtype = c.dtype("dtype", c.b.dtype(c.in(0))), .k = c.integer("k", 0)};
  c.out(0, c.b.op("EyeLike", a, {c.in(0)}));
}

// ---- random ----

RandomNormalAttrs normal(NodeContext& c, DType otherwise) {
  return {
      .dtype = c.dtype("dtype", otherwise), .mean = c.real("mean", 0), .scale = c.real("scale", 1), .seed = seed_of(c)};
}

RandomUniformAttrs uniform(NodeContext& c, DType otherwise) {
  return {.dtype = c.dtype("dtype", otherwise), .low = c.real("low", 0), .high = c.real("high", 1), .seed = seed_of(c)};
}

ValueId shape_attribute(NodeContext& c) {
  if (!c.has_attr("shape")) c.fail("attribute 'shape' is missing");
  return c.b.integers(c.integers("shape"));
}

DType real_like(NodeContext& c) {
  const DType dtype = c.b.dtype(c.in(0));
  return is_float(dtype) ? dtype : DType::f32;
}

void import_random_normal(NodeContext& c) {
  c.out(0, c.b.op("RandomNormal", normal(c, DType::f32), {shape_attribute(c)}));
}

void import_random_normal_like(NodeContext& c) {
  c.out(0, c.b.op("RandomNormal", normal(c, real_like(c)), {wiring::shape_of(c.b, c.in(0))}));
}

void import_random_uniform(NodeContext& c) {
  c.out(0, c.b.op("RandomUniform", uniform(c, DType::f32), {shape_attribute(c)}));
}

void import_random_uniform_like(NodeContext& c) {
  c.out(0, c.b.op("RandomUniform", uniform(c, real_like(c)), {wiring::shape_of(c.b, c.in(0))}));
}

void import_bernoulli(NodeContext& c) {
  GraphBuilder& b = c.b;
  const ValueId p = wiring::widened(b, c.in(0));
  const RandomUniformAttrs a{.dtype = b.dtype(p), .seed = seed_of(c)};
  const ValueId u = b.op("RandomUniform", a, {wiring::shape_of(b, p)});
  c.out(0, cast(b, b.op("Less", {u, p}), c.dtype("dtype", b.dtype(c.in(0)))));
}

void import_multinomial(NodeContext& c) {
  const MultinomialAttrs a{
      .dtype = c.dtype("dtype", DType::i32), .samples = c.integer("sample_size", 1), .seed = seed_of(c)};
  c.out(0, c.b.op("Multinomial", a, {c.in(0)}));
}

// ---- windows: a0 - a1 cos(2 pi n / N) + a2 cos(4 pi n / N) ----

void window(NodeContext& c, double a0, double a1, double a2) {
  GraphBuilder& b = c.b;
  const DType to = c.dtype("output_datatype", DType::f32);
  const ValueId size = as_scalar(c, c.in(0));
  ValueId period = size;
  if (c.integer("periodic", 1) == 0)  // one element has no period; 1 keeps the division defined
    period = b.op("Max", {wiring::sub(b, size, b.scalar(DType::i64, 1)), b.scalar(DType::i64, 1)});
  const ValueId n = cast(b, wiring::iota(b, size), DType::f64);
  const ValueId turn = wiring::div(b, n, cast(b, period, DType::f64));
  const auto wave = [&](double turns) {
    return b.op("Cos", {wiring::mul(b, turn, b.scalar(DType::f64, 2 * std::numbers::pi * turns))});
  };
  ValueId y = wiring::sub(b, b.scalar(DType::f64, a0), wiring::mul(b, wave(1), b.scalar(DType::f64, a1)));
  if (a2 != 0) y = wiring::add(b, y, wiring::mul(b, wave(2), b.scalar(DType::f64, a2)));
  c.out(0, cast(b, y, to));
}

// ---- AffineGrid ----

// Sample positions along one axis of `count` (an i64 scalar) places, in [-1, 1].
ValueId positions(GraphBuilder& b, ValueId count, bool align_corners, DType dtype) {
  const ValueId i = cast(b, wiring::iota(b, count), dtype), n = cast(b, count, dtype);
  const auto number = [&](double v) { return b.scalar(dtype, v); };
  if (align_corners) {
    const ValueId last = b.op("Max", {wiring::sub(b, n, number(1)), number(1)});
    return wiring::sub(b, wiring::div(b, wiring::mul(b, i, number(2)), last), number(1));
  }
  const ValueId odd = wiring::add(b, wiring::mul(b, i, number(2)), number(1));
  return wiring::sub(b, wiring::div(b, odd, n), number(1));
}

// grid = theta * (x, y, z, 1) of so many spatial axes, written as a sum over theta's columns so that positions
// broadcast.
ValueId affine_grid(GraphBuilder& b, ValueId theta, ValueId size, size_t spatial, bool align) {
  ValueId grid = no_id;
  for (size_t column = 0; column <= spatial; ++column) {
    // theta[:, :, column] as [N, 1, ..., rows]
    ValueId term = wiring::gather(b, theta, b.scalar(DType::i64, static_cast<double>(column)), 2);
    term = wiring::unsqueeze(b, term, wiring::axis_range(1, spatial + 1));
    const size_t axis = spatial - 1 - column;  // x is the last spatial axis
    const ValueId count =
        wiring::gather(b, size, b.scalar(DType::i64, static_cast<double>(column < spatial ? axis + 2 : 0)), 0);
    if (column < spatial) {
      const ValueId at = positions(b, count, align, b.dtype(theta));
      term = wiring::mul(b, term, wiring::along(b, at, static_cast<int64_t>(axis + 1), spatial + 2));
    }
    grid = grid == no_id ? term : wiring::add(b, grid, term);
  }
  return grid;
}

void import_affine_grid(NodeContext& c) {
  GraphBuilder& b = c.b;
  const bool align = c.integer("align_corners", 0) != 0;
  const DType dtype = b.dtype(c.in(0));
  const ValueId theta = wiring::widened(b, c.in(0));
  if (b.rank(theta) != 3) c.fail(fmt::format("theta has rank {}, it must have rank 3", b.rank(theta)));
  const Dim rows = b.shape(theta)[1];
  if (rows.is_constant() && rows != Dim(2) && rows != Dim(3)) c.fail("theta must be [N, 2, 3] or [N, 3, 4]");
  const ValueId size = as_vector(c, c.in(1));
  if (rows.is_constant()) {
    const ValueId grid = affine_grid(b, theta, size, static_cast<size_t>(rows.constant()), align);
    return c.out(0, cast(b, grid, dtype));
  }
  // The rank of the grid is found out by running.
  std::vector<sinter::Graph> bodies;
  for (const size_t spatial : {3, 2}) {
    sinter::Graph body;
    GraphBuilder inner(b.module, body);
    const ValueId t = inner.input(b.type(theta)), s = inner.input(b.type(size));
    body.outputs = {cast(inner, affine_grid(inner, t, s, spatial, align), dtype)};
    bodies.push_back(std::move(body));
  }
  const ValueId three = b.op("Equal", {wiring::scalar_of(b, b.dims({rows})), b.scalar(DType::i64, 3)});
  c.out(b.add(op_named("If"), {}, {three, theta, size}, 1, std::move(bodies)));
}

constexpr Entry table[] = {
    {"AffineGrid", 20, import_affine_grid},
    {"Bernoulli", 15, import_bernoulli},
    {"BlackmanWindow", 17, [](NodeContext& c) { window(c, 0.42, 0.5, 0.08); }},
    {"Constant", 1, import_constant},
    {"ConstantOfShape", 9, import_constant_of_shape},
    {"EyeLike", 9, import_eye_like},
    {"HammingWindow", 17, [](NodeContext& c) { window(c, 25.0 / 46, 21.0 / 46, 0); }},
    {"HannWindow", 17, [](NodeContext& c) { window(c, 0.5, 0.5, 0); }},
    {"Multinomial", 7, import_multinomial},
    {"RandomNormal", 1, import_random_normal},
    {"RandomNormalLike", 1, import_random_normal_like},
    {"RandomUniform", 1, import_random_uniform},
    {"RandomUniformLike", 1, import_random_uniform_like},
    {"Range", 11, import_range},
};

}  // namespace

std::span<const Entry> generation_entries() { return table; }

}  // namespace sinter::onnx
