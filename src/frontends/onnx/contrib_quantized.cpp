// Entries of domain com.microsoft that compute on quantized values: what ONNX Runtime's quantizer writes.
//
// Operators on 8-bit values are dequantization, the operator on reals, quantization. Products of integers are exact.

#include <fmt/format.h>

#include <algorithm>

#include "base/checked.h"
#include "frontends/onnx/entries.h"
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

// ---- weights of few bits ----

int64_t bits_of(NodeContext& c, int64_t otherwise) {
  const int64_t bits = c.integer("bits", otherwise);
  if (bits != 2 && bits != 4 && bits != 8) c.unsupported(fmt::format("{} bits, there must be 2, 4 or 8", bits));
  return bits;
}

int64_t positive(NodeContext& c, std::string_view name) {
  const int64_t v = c.integer(name, 0);
  if (v < 1 || v > INT32_MAX) c.fail(fmt::format("{} is {}, it must be positive", name, v));
  return v;
}

// Bytes [..., n] as numbers [..., n * 8 / bits], the lowest bits first, in f32.
ValueId unpacked(NodeContext& c, ValueId bytes, int64_t bits, bool low_first = true) {
  GraphBuilder& b = c.b;
  if (b.dtype(bytes) != DType::u8) c.fail(fmt::format("packed numbers are {}, not u8", dtype_name(b.dtype(bytes))));
  if (bits == 8) return cast(b, bytes, DType::f32);
  Shape shape = b.shape(bytes);
  if (shape.empty()) c.fail("packed numbers must have rank 1 at least");
  const int64_t per_byte = 8 / bits;
  Tensor shifts(DType::u8, {per_byte});
  for (int64_t k = 0; k < per_byte; ++k) shifts.set_integer(k, (low_first ? k : per_byte - 1 - k) * bits);
  const ValueId apart = wiring::unsqueeze(b, bytes, {static_cast<int64_t>(shape.size())});
  const ValueId shifted = b.op("ShiftRight", {apart, b.constant(std::move(shifts))});
  const ValueId numbers = b.op("BitAnd", {shifted, b.scalar(DType::u8, static_cast<double>((1 << bits) - 1))});
  shape.back() = shape.back() * Dim(per_byte);
  return cast(b, wiring::reshape(b, numbers, shape), DType::f32);
}

// a >= 0, b > 0
int64_t ceil_div(int64_t a, int64_t b) { return a / b + (a % b != 0 ? 1 : 0); }

// [rows, blocks] of what is stored flat or with two axes.
ValueId per_block(NodeContext& c, ValueId v, int64_t rows, int64_t blocks) {
  return wiring::reshape(c.b, v, {rows, blocks});
}

// Products of what quantized weights stand for; numbers are kept in f32 from the init plan on.
void import_matmul_bits(NodeContext& c) {
  GraphBuilder& b = c.b;
  const int64_t bits = bits_of(c, 4), k = positive(c, "K"), n = positive(c, "N"), block = positive(c, "block_size");
  if (c.integer("weight_prepacked", 0) != 0) c.unsupported("prepacked weights");
  if (c.has(4)) c.unsupported("g_idx");
  const int64_t blocks = ceil_div(k, block), blob = checked_mul(block, bits) / 8;
  if (blob < 1) c.fail(fmt::format("block_size {} is less than a byte", block));
  const ValueId bytes = wiring::reshape(b, c.in(1), {n, blocks, blob});
  ValueId w = unpacked(c, bytes, bits);  // [n, blocks, block]
  ValueId zero = b.scalar(DType::f32, static_cast<double>(int64_t{1} << (bits - 1)));
  if (c.has(3)) {
    if (is_float(b.dtype(c.in(3)))) {
      zero = per_block(c, cast(b, c.in(3), DType::f32), n, blocks);
    } else {
      const int64_t row = ceil_div(checked_mul(blocks, bits), 8);
      zero = unpacked(c, wiring::reshape(b, c.in(3), {n, row}), bits);
      if (row * 8 / bits != blocks) zero = wiring::slice(b, zero, 1, 0, blocks);
    }
    zero = wiring::unsqueeze(b, zero, {2});
  }
  const ValueId scale = wiring::unsqueeze(b, per_block(c, cast(b, c.in(2), DType::f32), n, blocks), {2});
  w = wiring::mul(b, wiring::sub(b, w, zero), scale);
  w = wiring::reshape(b, w, {n, checked_mul(blocks, block)});
  if (checked_mul(blocks, block) != k) w = wiring::slice(b, w, 1, 0, k);
  const DType dtype = b.dtype(c.in(0));
  ValueId y = wiring::matmul(b, cast(b, c.in(0), DType::f32), w, true);
  if (c.has(5)) y = wiring::add(b, y, cast(b, c.in(5), DType::f32));
  c.out(0, cast(b, y, dtype));
}

// Sixteen values of 4-bit floating point (sign in the highest bit) and of quantiles of the normal distribution.
constexpr double fp4[] = {0,    0.00520833333,  0.66666667,  1,  0.33333333,  0.5,  0.16666667,  0.25,
                          -0.0, -0.00520833333, -0.66666667, -1, -0.33333333, -0.5, -0.16666667, -0.25};
constexpr double nf4[] = {-1,
                          -0.6961928009986877,
                          -0.5250730514526367,
                          -0.39491748809814453,
                          -0.28444138169288635,
                          -0.18477343022823334,
                          -0.09105003625154495,
                          0,
                          0.07958029955625534,
                          0.16093020141124725,
                          0.24611230194568634,
                          0.33791524171829224,
                          0.44070982933044434,
                          0.5626170039176941,
                          0.7229568362236023,
                          1};

void import_matmul_table(NodeContext& c) {
  GraphBuilder& b = c.b;
  const int64_t k = positive(c, "K"), n = positive(c, "N"), block = positive(c, "block_size");
  const int64_t type = c.integer("quant_type", 0), count = checked_mul(n, k), blocks = ceil_div(count, block);
  if (type != 0 && type != 1) c.fail(fmt::format("quant_type {} is neither 0 nor 1", type));
  const std::span<const double> values = type == 0 ? std::span<const double>(fp4) : std::span<const double>(nf4);
  const ValueId bytes = wiring::reshape(b, c.in(1), {ceil_div(count, 2)});
  const ValueId index = cast(b, unpacked(c, bytes, 4, false), DType::i32);
  ValueId w = wiring::gather(b, floats(c, {values.begin(), values.end()}), index, 0);
  const int64_t whole = checked_mul(blocks, block), have = ceil_div(count, 2) * 2;
  if (whole != have)
    w = b.op("Pad", PadAttrs{}, {w, b.integers({0, whole - have}), b.scalar(DType::f32, 0), b.integers({0})});
  const ValueId scale = wiring::reshape(b, cast(b, c.in(2), DType::f32), {blocks, 1});
  w = wiring::reshape(b, wiring::mul(b, wiring::reshape(b, w, {blocks, block}), scale), {whole});
  if (whole != count) w = wiring::slice(b, w, 0, 0, count);
  const bool transposed = c.integer("transB", 1) != 0;
  w = wiring::reshape(b, w, transposed ? std::vector<Dim>{n, k} : std::vector<Dim>{k, n});
  const ValueId y = wiring::matmul(b, cast(b, c.in(0), DType::f32), w, transposed);
  c.out(0, cast(b, y, b.dtype(c.in(0))));
}

// Rows of a table of few bits. Numbers, scales and zero points are gathered before they meet.
void import_gather_block(NodeContext& c) {
  GraphBuilder& b = c.b;
  const DType stored = b.dtype(c.in(0)), result = b.dtype(c.in(2));
  const bool bytes = stored == DType::u8;
  const int64_t bits = bytes ? bits_of(c, 4) : 4, block = c.integer("block_size", 128);
  if (block < 1) c.fail(fmt::format("block_size is {}, it must be positive", block));
  const size_t rank = rank_of(c, 0, 1);
  const int64_t axis = axis_of(c, c.integer("gather_axis", 0), rank);
  const int64_t along = axis_of(c, c.integer("quantize_axis", 1), rank);
  if (axis == along) c.fail("gather_axis and quantize_axis must differ");
  if (bytes && bits < 8 && along != static_cast<int64_t>(rank) - 1)
    c.fail("quantize_axis must be the last axis of packed numbers");
  const auto numbers = [&](size_t i) {
    const ValueId v = wiring::gather(b, c.in(i), c.in(1), axis);
    return bytes ? unpacked(c, v, bits) : cast(b, v, DType::f32);
  };
  ValueId x = numbers(0);
  ValueId scale = cast(b, wiring::gather(b, c.in(2), c.in(1), axis), DType::f32);
  const auto more = static_cast<int64_t>(b.rank(c.in(1))) - 1;  // axes that the indices add
  const int64_t at = along > axis ? along + more : along;
  // Element i of the quantized axis belongs to block i / block.
  const Dim extent = b.shape(x)[static_cast<size_t>(at)];
  const ValueId element = wiring::iota(b, wiring::scalar_of(b, b.dims({extent})));
  const ValueId which = wiring::div(b, element, b.constant(Tensor::scalar_i64(block)));
  if (c.has(3))
    x = wiring::sub(b, x, wiring::gather(b, numbers(3), which, at));
  else if (bytes)
    x = wiring::sub(b, x, wiring::like(b, x, static_cast<double>(int64_t{1} << (bits - 1))));
  c.out(0, cast(b, wiring::mul(b, x, wiring::gather(b, scale, which, at)), result));
}

constexpr const char* microsoft = "com.microsoft";

constexpr Entry table[] = {
    {"DynamicQuantizeLSTM", 1, import_dynamic_quantize_lstm, microsoft},
    {"DynamicQuantizeMatMul", 1, import_dynamic_quantize_matmul, microsoft},
    {"GatherBlockQuantized", 1, import_gather_block, microsoft},
    {"MatMulBnb4", 1, import_matmul_table, microsoft},
    {"MatMulInteger16", 1, import_matmul_integer_16, microsoft},
    {"MatMulIntegerToFloat", 1, import_matmul_integer_to_float, microsoft},
    {"MatMulNBits", 1, import_matmul_bits, microsoft},
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
