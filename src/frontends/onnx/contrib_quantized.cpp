// Entries of domain com.microsoft that compute on quantized values: what ONNX Runtime's quantizer writes.
//
// Operators on 8-bit values are dequantization, the operator on reals, quantization. Products of integers are exact.

#include <fmt/format.h>

#include <algorithm>

#include "frontends/onnx/contrib.h"
#include "ops/cast.h"
#include "ops/movement.h"
#include "ops/recurrent.h"
#include "ops/reduction.h"

namespace sinter::onnx {
namespace {

using wiring::cast;

// The real value of operand x; scale and zero point have one element, the zero point may be absent.
ValueId real_of(NodeContext& c, size_t x, size_t scale, size_t zero) {
  const ValueId z = c.has(zero) ? wiring::scalar_of(c.b, c.in(zero)) : no_id;
  return c.b.op("DequantizeLinear", DequantizeAttrs{.to = DType::f32},
                {c.in(x), wiring::scalar_of(c.b, cast(c.b, c.in(scale), DType::f32)), z});
}

// y in the dtype of the zero point or, without one, of operand 0.
ValueId quantized(NodeContext& c, ValueId y, size_t scale, size_t zero, DType otherwise) {
  const bool given = c.has(zero);
  const QuantizeAttrs a{.to = given ? c.b.dtype(c.in(zero)) : otherwise};
  return c.b.op("QuantizeLinear", a,
                {y, wiring::scalar_of(c.b, cast(c.b, c.in(scale), DType::f32)),
                 given ? wiring::scalar_of(c.b, c.in(zero)) : no_id});
}

// op(A, A_scale, A_zero_point, C_scale, C_zero_point)
template <typename F>
void unary_form(NodeContext& c, F&& compute) {
  c.out(0, quantized(c, compute(real_of(c, 0, 1, 2)), 3, 4, c.b.dtype(c.in(0))));
}

void binary_form(NodeContext& c, std::string_view op) {
  const ValueId y = c.b.op(op, {real_of(c, 0, 1, 2), real_of(c, 3, 4, 5)});
  c.out(0, quantized(c, y, 6, 7, c.b.dtype(c.in(0))));
}

void import_where(NodeContext& c) {
  const ValueId y = wiring::where(c.b, c.in(0), real_of(c, 1, 2, 3), real_of(c, 4, 5, 6));
  c.out(0, quantized(c, y, 7, 8, c.b.dtype(c.in(1))));
}

void import_concat(NodeContext& c) {
  if (c.inputs() < 5 || (c.inputs() - 2) % 3 != 0)
    c.fail(fmt::format("{} operands, there must be 2 and 3 for each part", c.inputs()));
  if (!c.has_attr("axis")) c.fail("attribute 'axis' is missing");
  Ids parts;
  for (size_t i = 2; i < c.inputs(); i += 3) parts.push_back(real_of(c, i, i + 1, i + 2));
  const ValueId y = c.b.op("Concat", ConcatAttrs{.axis = c.integer("axis", 0)}, std::move(parts));
  c.out(0, quantized(c, y, 0, 1, c.b.dtype(c.in(2))));
}

void import_average_pool(NodeContext& c) {
  const bool last = c.integer("channels_last", 0) != 0;
  unary_form(c, [&](ValueId x) {
    if (last) x = channels_first(c.b, x);
    const ValueId y = core_result(c, "AveragePool", {x});
    return last ? channels_last(c.b, y) : y;
  });
}

void import_global_average_pool(NodeContext& c) {
  const size_t rank = rank_of(c, 0, 2);
  const bool last = c.integer("channels_last", 0) != 0;
  const auto axes = last ? wiring::axis_range(1, rank - 1) : wiring::axis_range(2, rank);
  unary_form(c, [&](ValueId x) { return wiring::reduce(c.b, "Mean", x, axes); });
}

void import_reduce_mean(NodeContext& c) {
  const auto axes = c.integers("axes");
  const ReduceAttrs a{.keep_dims = c.integer("keepdims", 1) != 0};
  unary_form(c, [&](ValueId x) { return c.b.op("ReduceMean", a, {x, axes.empty() ? no_id : c.b.integers(axes)}); });
}

void import_softmax(NodeContext& c) {
  const int64_t opset = c.integer("opset", 13);
  unary_form(c, [&](ValueId x) { return core_result(c, "Softmax", {x}, std::max<int64_t>(opset, 1)); });
}

void import_leaky_relu(NodeContext& c) {
  unary_form(c, [&](ValueId x) { return wiring::pointwise(c.b, "LeakyRelu", {{"alpha", c.real("alpha", 0.01)}}, x); });
}

// ---- products ----

// x - zero in i32; a zero point of one element or one that broadcasts.
ValueId centered(NodeContext& c, ValueId x, ValueId zero) {
  const ValueId wide = cast(c.b, x, DType::i32);
  if (is_zero(c, zero)) return wide;
  const bool vector = c.b.rank(zero) == 1 && c.b.shape(zero)[0] == Dim(1);
  return wiring::sub(c.b, wide, cast(c.b, vector ? wiring::scalar_of(c.b, zero) : zero, DType::i32));
}

// (a * b in i32) times their scales, which have one element or one per column of b, plus the bias.
ValueId scaled(NodeContext& c, ValueId sum, ValueId a_scale, ValueId b_scale, ValueId bias, DType to) {
  GraphBuilder& b = c.b;
  const auto single = [&](ValueId s) {
    const ValueId v = cast(b, s, DType::f32);
    return b.rank(v) == 1 && b.shape(v)[0] == Dim(1) ? wiring::scalar_of(b, v) : v;
  };
  ValueId y = wiring::mul(b, cast(b, sum, DType::f32), wiring::mul(b, single(a_scale), single(b_scale)));
  if (bias != no_id) y = wiring::add(b, y, cast(b, bias, DType::f32));
  return cast(b, y, to);
}

void import_dynamic_quantize_matmul(NodeContext& c) {
  const DynamicallyQuantized a = dynamically_quantized(c.b, c.in(0));
  const ValueId sum = wiring::matmul_integer(c.b, a.values, a.zero, c.in(1), c.maybe(3));
  c.out(0, scaled(c, sum, a.scale, c.in(2), c.maybe(4), c.b.dtype(c.in(0))));
}

void import_matmul_integer_to_float(NodeContext& c) {
  const ValueId sum = wiring::matmul_integer(c.b, c.in(0), c.maybe(4), c.in(1), c.maybe(5));
  c.out(0, scaled(c, sum, c.in(2), c.in(3), c.maybe(6), c.b.dtype(c.in(2))));
}

void import_gemm(NodeContext& c) {
  GraphBuilder& b = c.b;
  if (rank_of(c, 0) != 2 || rank_of(c, 3) != 2) c.fail("both matrices must have rank 2");
  ValueId x = c.in(0), w = c.in(3);
  if (c.integer("transA", 0) != 0) x = wiring::transpose(b, x, {1, 0});
  if (c.integer("transB", 0) != 0) w = wiring::transpose(b, w, {1, 0});
  ValueId sum = wiring::matmul_integer(b, x, c.maybe(2), w, c.maybe(5));
  if (c.has(6)) sum = wiring::add(b, sum, cast(b, c.in(6), DType::i32));
  ValueId y = scaled(c, sum, c.in(1), c.in(4), no_id, DType::f32);
  if (const double alpha = c.real("alpha", 1); alpha != 1) y = wiring::mul(b, y, wiring::like(b, y, alpha));
  c.out(0, c.has(7) ? quantized(c, y, 7, 8, b.dtype(c.in(0))) : y);
}

void import_qlinear_conv(NodeContext& c) {
  Ids operands = c.all();
  const bool last = c.integer("channels_last", 0) != 0;
  if (last) operands.at(0) = channels_first(c.b, c.in(0));
  const ValueId y = core_result(c, "QLinearConv", std::move(operands));
  c.out(0, last ? channels_last(c.b, y) : y);
}

void import_matmul_integer_16(NodeContext& c) {
  c.out(0, wiring::matmul(c.b, cast(c.b, c.in(0), DType::i32), cast(c.b, c.in(1), DType::i32)));
}

void import_mul_integer(NodeContext& c) {
  c.out(0, wiring::mul(c.b, centered(c, c.in(0), c.maybe(1)), centered(c, c.in(2), c.maybe(3))));
}

void import_reduce_sum_integer(NodeContext& c) {
  const auto axes = c.integers("axes");
  const DType to = c.b.dtype(c.in(0)) == DType::u8 ? DType::u32 : DType::i32;
  const ReduceAttrs a{.keep_dims = c.integer("keepdims", 1) != 0};
  c.out(0, c.b.op("ReduceSum", a, {cast(c.b, c.in(0), to), axes.empty() ? no_id : c.b.integers(axes)}));
}

// Weights of an LSTM: [directions, rows, 4 * hidden], with scale and zero point per direction or per column of one.
ValueId recurrent_weight(NodeContext& c, size_t weight, size_t scale) {
  GraphBuilder& b = c.b;
  if (rank_of(c, weight) != 3) c.fail(fmt::format("operand {} must have rank 3", weight));
  const auto against = [&](ValueId v) {
    if (b.rank(v) == 1) return wiring::unsqueeze(b, v, {1, 2});
    if (b.rank(v) == 2) return wiring::unsqueeze(b, v, {1});
    c.fail(fmt::format("a scale or zero point of rank {}, it must be 1 or 2", b.rank(v)));
  };
  ValueId w = cast(b, c.in(weight), DType::f32);
  w = wiring::sub(b, w, against(cast(b, c.in(scale + 1), DType::f32)));
  w = wiring::mul(b, w, against(cast(b, c.in(scale), DType::f32)));
  return wiring::transpose(b, w, {0, 2, 1});
}

// The input is rounded to 8 bits as a whole, as the operator defines; states keep their precision.
void import_dynamic_quantize_lstm(NodeContext& c) {
  const DynamicallyQuantized x = dynamically_quantized(c.b, c.in(0));
  Ids operands = {c.b.op("DequantizeLinear", DequantizeAttrs{.to = DType::f32}, {x.values, x.scale, x.zero}),
                  recurrent_weight(c, 1, 8), recurrent_weight(c, 2, 10)};
  for (size_t i = 3; i < 8; ++i) operands.push_back(c.maybe(i));
  c.out(imported_as(c, "", "LSTM", 14, std::move(operands)));
}

constexpr Entry table[] = {
    {"DynamicQuantizeLSTM", 1, import_dynamic_quantize_lstm, microsoft},
    {"DynamicQuantizeMatMul", 1, import_dynamic_quantize_matmul, microsoft},
    {"MatMulInteger16", 1, import_matmul_integer_16, microsoft},
    {"MatMulIntegerToFloat", 1, import_matmul_integer_to_float, microsoft},
    {"MulInteger", 1, import_mul_integer, microsoft},
    {"QGemm", 1, import_gemm, microsoft},
    {"QLinearAdd", 1, [](NodeContext& c) { binary_form(c, "Add"); }, microsoft},
    {"QLinearAveragePool", 1, import_average_pool, microsoft},
    {"QLinearConcat", 1, import_concat, microsoft},
    {"QLinearConv", 1, import_qlinear_conv, microsoft},
    {"QLinearGlobalAveragePool", 1, import_global_average_pool, microsoft},
    {"QLinearLeakyRelu", 1, import_leaky_relu, microsoft},
    {"QLinearMul", 1, [](NodeContext& c) { binary_form(c, "Mul"); }, microsoft},
    {"QLinearReduceMean", 1, import_reduce_mean, microsoft},
    {"QLinearSigmoid", 1, [](NodeContext& c) { unary_form(c, [&](ValueId x) { return c.b.op("Sigmoid", {x}); }); },
     microsoft},
    {"QLinearSoftmax", 1, import_softmax, microsoft},
    {"QLinearWhere", 1, import_where, microsoft},
    {"ReduceSumInteger", 1, import_reduce_sum_integer, microsoft},
};

}  // namespace

std::span<const Entry> contrib_quantized_entries() { return table; }

}  // namespace sinter::onnx
