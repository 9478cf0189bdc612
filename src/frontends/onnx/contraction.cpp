// Entries of contractions: matrix products, convolutions, their integer and quantized forms, Einsum.

#include "ops/contraction.h"

#include <fmt/core.h>

#include <algorithm>

#include "frontends/onnx/entries.h"
#include "ops/cast.h"

namespace sinter::onnx {
namespace {

using wiring::cast;

// Core contractions take a narrow first operand, which ONNX does not know.
void check_factors(NodeContext& c) {
  const Type &x = c.b.type(c.in(0)), &w = c.b.type(c.in(1));
  if (x.is_tensor() && w.is_tensor() && is_float(x.dtype) && is_float(w.dtype) && x.dtype != w.dtype)
    c.fail(
        fmt::format("operand 0 is {}, operand 1 is {}: they must be equal", dtype_name(x.dtype), dtype_name(w.dtype)));
}

void import_matmul(NodeContext& c) {
  check_factors(c);
  c.out(0, wiring::matmul(c.b, c.in(0), c.in(1)));
}

// factor * v; integers go through f64 so that a real factor keeps its meaning.
ValueId scaled(NodeContext& c, ValueId v, double factor) {
  if (factor == 1) return v;
  const DType dtype = c.b.dtype(v);
  const ValueId wide = is_float(dtype) ? v : cast(c.b, v, DType::f64);
  return cast(c.b, wiring::mul(c.b, wide, wiring::like(c.b, wide, factor)), dtype);
}

ValueId gemm(NodeContext& c, ValueId x, ValueId y, bool transpose_x, bool transpose_y, double alpha) {
  // An unknown rank shows when it runs.
  for (const ValueId v : {x, y})
    if (c.b.type(v).has_shape() && c.b.rank(v) != 2)
      c.fail(fmt::format("a matrix of rank {}, it must have rank 2", c.b.rank(v)));
  if (transpose_x) x = wiring::transpose(c.b, x, {1, 0});
  return scaled(c, wiring::matmul(c.b, x, y, transpose_y), alpha);
}

ValueId gemm_of(NodeContext& c) {
  check_factors(c);
  ValueId x = c.in(0);
  // Opset 1 to 6 implementations flatten trailing axes of the first matrix; exporters relied on it.
  if (c.opset < 7 && c.b.type(x).has_shape() && c.b.rank(x) > 2) x = c.b.op("Flatten", {x});
  ValueId y = gemm(c, x, c.in(1), c.integer("transA", 0) != 0, c.integer("transB", 0) != 0, c.real("alpha", 1));
  const double beta = c.real("beta", 1);
  if (c.has(2) && beta != 0) y = wiring::add(c.b, y, scaled(c, c.in(2), beta));
  return y;
}

void import_gemm(NodeContext& c) { c.out(0, gemm_of(c)); }

ValueId fused_matmul(NodeContext& c) {
  check_factors(c);
  GraphBuilder& b = c.b;
  // [M, batch..., K] to [batch..., M, K].
  const auto batches_first = [&](ValueId v, const char* attribute) {
    const size_t rank = b.rank(v);
    if (c.integer(attribute, 0) == 0 || rank < 3) return v;
    auto perm = wiring::axis_range(0, rank);
    std::rotate(perm.begin(), perm.begin() + 1, perm.end() - 1);
    return wiring::transpose(b, v, std::move(perm));
  };
  ValueId x = batches_first(c.in(0), "transBatchA"), y = batches_first(c.in(1), "transBatchB");
  if (c.integer("transA", 0) != 0 && b.rank(x) >= 2) {
    auto perm = wiring::axis_range(0, b.rank(x));
    std::swap(perm[perm.size() - 1], perm[perm.size() - 2]);
    x = wiring::transpose(b, x, perm);
  }
  const bool transpose_y = c.integer("transB", 0) != 0 && b.rank(y) >= 2;
  return scaled(c, wiring::matmul(b, x, y, transpose_y), c.real("alpha", 1));
}

void import_fused_matmul(NodeContext& c) { c.out(0, fused_matmul(c)); }

// Attributes that Conv, ConvInteger and QLinearConv share, checked against the weight.
ConvAttrs conv_attrs(NodeContext& c, size_t weight) {
  const auto kernel = c.integers("kernel_shape");
  if (!kernel.empty() && c.b.type(c.in(weight)).has_shape() && c.b.rank(c.in(weight)) >= 2) {
    const Shape& w = c.b.shape(c.in(weight));
    if (kernel.size() != w.size() - 2)
      c.fail(fmt::format("kernel_shape has {} extents, the weight has {}", kernel.size(), w.size() - 2));
    for (size_t k = 0; k < kernel.size(); ++k)
      if (w[k + 2].is_constant() && w[k + 2].constant() != kernel[k])
        c.fail(fmt::format("kernel_shape[{}] is {}, the weight has {}", k, kernel[k], w[k + 2].constant()));
  }
  ConvAttrs a;
  a.auto_pad = auto_pad(c);
  a.dilations = c.integers("dilations");
  a.group = c.integer("group", 1);
  if (a.auto_pad == AutoPad::explicit_pads) a.pads = c.integers("pads");
  a.strides = c.integers("strides");
  return a;
}

void import_conv(NodeContext& c) {
  check_factors(c);
  c.out(0, c.b.op("Conv", conv_attrs(c, 1), {c.in(0), c.in(1), c.maybe(2)}));
}

void import_conv_transpose(NodeContext& c) {
  check_factors(c);
  ConvTransposeAttrs a;
  a.auto_pad = auto_pad(c);
  a.dilations = c.integers("dilations");
  a.group = c.integer("group", 1);
  a.output_padding = c.integers("output_padding");
  a.output_shape = c.integers("output_shape");
  if (a.auto_pad == AutoPad::explicit_pads) a.pads = c.integers("pads");
  a.strides = c.integers("strides");
  // Some old files give the whole shape; only the spatial part is meant.
  if (!a.output_shape.empty() && a.output_shape.size() == rank_of(c, 0, 2))
    a.output_shape.erase(a.output_shape.begin(), a.output_shape.begin() + 2);
  c.out(0, c.b.op("ConvTranspose", std::move(a), {c.in(0), c.in(1), c.maybe(2)}));
}

void import_deform_conv(NodeContext& c) {
  DeformConvAttrs a;
  a.dilations = c.integers("dilations");
  a.group = c.integer("group", 1);
  a.offset_group = c.integer("offset_group", 1);
  a.pads = c.integers("pads");
  a.strides = c.integers("strides");
  c.out(0, c.b.op("DeformConv", std::move(a), {c.in(0), c.in(1), c.in(2), c.maybe(3), c.maybe(4)}));
}

void import_einsum(NodeContext& c) {
  Ids operands;
  for (size_t i = 0; i < c.inputs(); ++i) operands.push_back(c.in(i));
  c.out(0, c.b.op("Einsum", EinsumAttrs{.equation = c.string("equation", "")}, std::move(operands)));
}

// ---- integer forms: exact products of 8-bit operands, accumulated in i32 ----

enum class Along { rows, columns };

// A scale or zero point of a matrix: one element, one per row or column, or already broadcastable.
ValueId against_matrix(NodeContext& c, ValueId v, ValueId matrix, Along side) {
  if (c.b.rank(v) != 1) return v;
  if (c.b.shape(v)[0] == Dim(1)) return wiring::reshape(c.b, v, {});
  if (side == Along::rows && c.b.rank(matrix) >= 2) return wiring::unsqueeze(c.b, v, {1});
  return v;
}

ValueId against_filters(NodeContext& c, ValueId v, size_t rank, int64_t axis) {
  if (c.b.rank(v) == 0) return v;
  if (c.b.rank(v) != 1) c.fail(fmt::format("a scale or zero point of rank {}, it must be 0 or 1", c.b.rank(v)));
  if (c.b.shape(v)[0] == Dim(1)) return wiring::reshape(c.b, v, {});
  return wiring::along(c.b, v, axis, rank);
}

void need_bytes(NodeContext& c, ValueId v, const char* what) {
  const DType d = c.b.dtype(v);
  if (d != DType::u8 && d != DType::i8) c.fail(fmt::format("{} is {}, it must be u8 or i8", what, dtype_name(d)));
}

ValueId integer_conv(NodeContext& c, size_t x, size_t x_zero, size_t w, size_t w_zero, ValueId bias) {
  need_bytes(c, c.in(x), "x");
  need_bytes(c, c.in(w), "w");
  const size_t rank = rank_of(c, w, 2);
  const ValueId xz = c.has(x_zero) ? wiring::scalar_of(c.b, c.in(x_zero)) : no_id;
  const ValueId wz = c.has(w_zero) ? against_filters(c, c.in(w_zero), rank, 0) : no_id;
  const ValueId sum = c.b.op("ConvInteger", conv_attrs(c, w), {c.in(x), c.in(w), xz, wz});
  return bias == no_id ? sum : wiring::add(c.b, sum, against_filters(c, bias, rank, 1));
}

void import_conv_integer(NodeContext& c) { c.out(0, integer_conv(c, 0, 2, 1, 3, no_id)); }

void import_matmul_integer(NodeContext& c) {
  need_bytes(c, c.in(0), "A");
  need_bytes(c, c.in(1), "B");
  const ValueId az = c.has(2) ? against_matrix(c, c.in(2), c.in(0), Along::rows) : no_id;
  const ValueId bz = c.has(3) ? against_matrix(c, c.in(3), c.in(1), Along::columns) : no_id;
  c.out(0, wiring::matmul_integer(c.b, c.in(0), az, c.in(1), bz));
}

ValueId quantized(NodeContext& c, ValueId real, ValueId scale, ValueId zero) {
  const DType to = c.b.dtype(zero);
  const ValueId s = cast(c.b, wiring::scalar_of(c.b, scale), c.b.dtype(real));
  return c.b.op("QuantizeLinear", QuantizeAttrs{.to = to}, {real, s, wiring::scalar_of(c.b, zero)});
}

void import_qlinear_conv(NodeContext& c) {
  GraphBuilder& b = c.b;
  const ValueId sum = cast(b, integer_conv(c, 0, 2, 3, 5, c.has(8) ? cast(b, c.in(8), DType::i32) : no_id), DType::f32);
  const size_t rank = b.rank(sum);
  const ValueId w_scale = against_filters(c, cast(b, c.in(4), DType::f32), rank, 1);
  const ValueId scale = wiring::mul(b, wiring::scalar_of(b, cast(b, c.in(1), DType::f32)), w_scale);
  c.out(0, quantized(c, wiring::mul(b, sum, scale), c.in(6), c.in(7)));
}

void import_qlinear_matmul(NodeContext& c) {
  GraphBuilder& b = c.b;
  const bool floats = is_float(b.dtype(c.in(0)));
  if (!floats) {
    need_bytes(c, c.in(0), "a");
    need_bytes(c, c.in(3), "b");
  }
  const ValueId az = c.has(2) ? against_matrix(c, c.in(2), c.in(0), Along::rows) : no_id;
  const ValueId bz = c.has(5) ? against_matrix(c, c.in(5), c.in(3), Along::columns) : no_id;
  const auto centered = [&](ValueId x, ValueId zero) {
    const ValueId wide = cast(b, x, DType::f32);
    return is_zero(c, zero) ? wide : wiring::sub(b, wide, cast(b, zero, DType::f32));
  };
  const ValueId product = floats ? wiring::matmul(b, centered(c.in(0), az), centered(c.in(3), bz))
                                 : wiring::matmul_integer(b, c.in(0), az, c.in(3), bz);
  const ValueId sum = cast(b, product, DType::f32);
  const ValueId as = against_matrix(c, cast(b, c.in(1), DType::f32), c.in(0), Along::rows);
  const ValueId bs = against_matrix(c, cast(b, c.in(4), DType::f32), c.in(3), Along::columns);
  c.out(0, quantized(c, wiring::mul(b, sum, wiring::mul(b, as, bs)), c.in(6), c.in(7)));
}

// ---- com.microsoft: an activation that an optimizer merged into a contraction ----

ValueId activated(NodeContext& c, ValueId y, const std::vector<double>& numbers) {
  const std::string name = c.string("activation", "");
  const auto number = [&](size_t i, double otherwise) { return i < numbers.size() ? numbers[i] : otherwise; };
  if (name.empty()) return y;
  for (const char* plain : {"Relu", "Tanh", "Sigmoid", "Softplus", "Softsign", "Gelu", "Mish"})
    if (name == plain) return c.b.op(name, {y});
  if (name == "LeakyRelu") return wiring::pointwise(c.b, name, {{"alpha", number(0, 0.01)}}, y);
  if (name == "Elu" || name == "ThresholdedRelu") return wiring::pointwise(c.b, name, {{"alpha", number(0, 1)}}, y);
  if (name == "Softmax") return wiring::softmax(c.b, y, c.integer("activation_axis", -1));
  if (name == "Clip") return wiring::pointwise(c.b, name, {{"low", number(0, 0)}, {"high", number(1, 0)}}, y);
  if (name == "HardSigmoid")
    return wiring::pointwise(c.b, name, {{"alpha", number(0, 0.2)}, {"beta", number(1, 0.5)}}, y);
  c.unsupported(fmt::format("activation '{}'", name));
}

void import_fused_conv(NodeContext& c) {
  check_factors(c);
  ValueId y = c.b.op("Conv", conv_attrs(c, 1), {c.in(0), c.in(1), c.maybe(2)});
  if (c.has(3)) y = wiring::add(c.b, y, c.in(3));
  c.out(0, activated(c, y, c.reals("activation_params")));
}

void import_fused_gemm(NodeContext& c) {
  const std::vector<double> numbers = {c.real("activation_alpha", 0.01), c.real("activation_beta", 0.5)};
  c.out(0, activated(c, gemm_of(c), numbers));
}

void import_fused_matmul_activation(NodeContext& c) {
  std::vector<double> numbers;
  for (const char* name : {"activation_alpha", "activation_beta"})
    if (c.has_attr(name)) numbers.push_back(c.real(name, 0));
  c.out(0, activated(c, fused_matmul(c), numbers));
}

constexpr const char* microsoft = "com.microsoft";

constexpr Entry table[] = {
    {"Conv", 1, import_conv},
    {"ConvInteger", 10, import_conv_integer},
    {"ConvTranspose", 1, import_conv_transpose},
    {"DeformConv", 19, import_deform_conv},
    {"Einsum", 12, import_einsum},
    {"Gemm", 1, import_gemm},
    {"MatMul", 1, import_matmul},
    {"MatMulInteger", 10, import_matmul_integer},
    {"QLinearConv", 10, import_qlinear_conv},
    {"QLinearMatMul", 10, import_qlinear_matmul},
    {"FusedConv", 1, import_fused_conv, microsoft},
    {"FusedGemm", 1, import_fused_gemm, microsoft},
    {"FusedMatMul", 1, import_fused_matmul, microsoft},
    {"SparseToDenseMatMul", 1, import_fused_matmul, microsoft},  // sparse initializers are dense when they are read
    {"FusedMatMulActivation", 1, import_fused_matmul_activation, microsoft},
};

}  // namespace

std::span<const Entry> contraction_entries() { return table; }

}  // namespace sinter::onnx
