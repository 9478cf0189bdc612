// Entries of domain com.microsoft whose weights are numbers of few bits in blocks that share a scale: what ONNX
// Runtime's weight-only quantizers and model builder write. Weights are numbers in f32 from the init plan on.

#include <fmt/format.h>

#include "base/checked.h"
#include "frontends/onnx/contrib.h"
#include "ops/cast.h"
#include "ops/movement.h"

namespace sinter::onnx {

using wiring::cast;
using wiring::like;
using wiring::mul;

int64_t positive(NodeContext& c, std::string_view name, int64_t otherwise) {
  const int64_t v = c.integer(name, otherwise);
  if (v < 1 || v > INT32_MAX) c.fail(fmt::format("{} is {}, it must be positive", name, v));
  return v;
}

ValueId unpacked(NodeContext& c, ValueId bytes, int64_t bits, bool low_first) {
  GraphBuilder& b = c.b;
  if (b.dtype(bytes) != DType::u8) c.fail(fmt::format("packed numbers are {}, not u8", dtype_name(b.dtype(bytes))));
  if (bits < 1 || bits > 8) c.fail(fmt::format("{} bits, there must be 1 to 8", bits));
  if (bits == 8) return cast(b, bytes, DType::f32);
  Shape shape = b.shape(bytes);
  if (shape.empty()) c.fail("packed numbers must have rank 1 at least");
  const auto last = static_cast<int64_t>(shape.size());
  // Fields of a byte: whole numbers, or single bits of a stream.
  const int64_t width = 8 % bits == 0 ? bits : 1, per_byte = 8 / width;
  Tensor shifts(DType::u8, {per_byte});
  for (int64_t k = 0; k < per_byte; ++k) shifts.set_integer(k, (low_first ? k : per_byte - 1 - k) * width);
  const ValueId shifted = b.op("ShiftRight", {wiring::unsqueeze(b, bytes, {last}), b.constant(std::move(shifts))});
  const ValueId mask = b.scalar(DType::u8, static_cast<double>((1 << width) - 1));
  const ValueId fields = cast(b, b.op("BitAnd", {shifted, mask}), DType::f32);
  const Dim all = shape.back() * Dim(per_byte);
  shape.back() = all;
  const ValueId flat = wiring::reshape(b, fields, shape);
  if (width == bits) return flat;
  const Dim count = floordiv(all, bits);
  ValueId whole = wiring::slice(b, flat, last - 1, 0, count * Dim(bits));
  shape.back() = count;
  shape.push_back(bits);
  whole = wiring::reshape(b, whole, shape);
  std::vector<double> powers;
  for (int64_t k = 0; k < bits; ++k) powers.push_back(static_cast<double>(1 << k));
  return wiring::reduce(b, "Sum", mul(b, whole, floats(c, powers)), {last}, false);
}

ValueId unpacked_fp4(NodeContext& c, ValueId bytes) {
  const std::vector<double> values = {0, 0.5, 1, 1.5, 2, 3, 4, 6, -0.0, -0.5, -1, -1.5, -2, -3, -4, -6};
  const ValueId index = cast(c.b, unpacked(c, bytes, 4), DType::i32);
  return wiring::gather(c.b, floats(c, values), index, 0);
}

ValueId spread(NodeContext& c, ValueId v, int64_t axis, const Dim& extent, int64_t block) {
  GraphBuilder& b = c.b;
  const ValueId element = wiring::iota(b, count_of(b, extent));
  return wiring::gather(b, v, wiring::div(b, element, b.constant(Tensor::scalar_i64(block))), axis);
}

ValueId few_bits_weight(NodeContext& c, const FewBits& form, ValueId bytes, ValueId scales, ValueId zero,
                        ValueId group) {
  GraphBuilder& b = c.b;
  const int64_t n = form.rows, k = form.columns, block = form.block, bits = form.bits;
  if (bits < 2 || bits > 8) c.fail(fmt::format("{} bits, there must be 2 to 8", bits));
  const int64_t blocks = ceil_div(k, block), blob = ceil_div(checked_mul(block, bits), 8);
  ValueId w = unpacked(c, wiring::reshape(b, bytes, {n, blocks, blob}), bits);  // [n, blocks, block] or a little more
  if (blob * 8 / bits != block) w = wiring::slice(b, w, 2, 0, block);
  w = wiring::reshape(b, w, {n, checked_mul(blocks, block)});
  if (checked_mul(blocks, block) != k) w = wiring::slice(b, w, 1, 0, k);
  // Which block a column belongs to: the operand's word, or its place.
  const auto of_columns = [&](ValueId v) {
    if (group != no_id) return wiring::gather(b, v, cast(b, wiring::reshape(b, group, {k}), DType::i64), 1);
    return block == 1 || blocks == 1 ? v : spread(c, v, 1, k, block);
  };
  const auto per_block = [&](ValueId v) { return wiring::reshape(b, cast(b, v, DType::f32), {n, blocks}); };
  ValueId base = b.scalar(DType::f32, static_cast<double>(int64_t{1} << (bits - 1)));
  if (zero != no_id && is_float(b.dtype(zero))) {
    base = of_columns(per_block(zero));
  } else if (zero != no_id) {
    const int64_t row = ceil_div(checked_mul(blocks, bits), 8);
    base = unpacked(c, wiring::reshape(b, zero, {n, row}), bits);
    if (row * 8 / bits != blocks) base = wiring::slice(b, base, 1, 0, blocks);
    base = of_columns(base);
  }
  return mul(b, wiring::sub(b, w, base), of_columns(per_block(scales)));
}

ValueId gated_unit(GraphBuilder& b, ValueId gate, ValueId up, const GatedUnit& unit) {
  const auto below = [&](ValueId v) { return b.op("Min", {v, like(b, v, unit.limit)}); };
  if (unit.limit > 0) {
    if (!unit.limit_after) gate = below(gate);
    up = wiring::pointwise(b, "Clip", {{"low", -unit.limit}, {"high", unit.limit}}, up);
  }
  ValueId open = wiring::pointwise(b, "Swish", {{"alpha", unit.alpha}}, gate);
  if (unit.limit > 0 && unit.limit_after) open = below(open);
  if (unit.rounded) open = cast(b, cast(b, open, *unit.rounded), b.dtype(up));
  if (unit.beta != 0) up = wiring::add(b, up, like(b, up, unit.beta));
  return mul(b, open, up);
}

namespace {

int64_t bits_of(NodeContext& c, int64_t otherwise) {
  const int64_t bits = c.integer("bits", otherwise);
  if (bits < 2 || bits > 8) c.fail(fmt::format("{} bits, there must be 2 to 8", bits));
  return bits;
}

// x times rows of a weight, plus a bias, in the dtype of x.
ValueId product(NodeContext& c, ValueId x, ValueId w, ValueId bias, DType to) {
  ValueId y = wiring::matmul(c.b, cast(c.b, x, DType::f32), w, true);
  if (bias != no_id) y = wiring::add(c.b, y, cast(c.b, bias, DType::f32));
  return cast(c.b, y, to);
}

void import_matmul_bits(NodeContext& c) {
  const FewBits form{bits_of(c, 4), positive(c, "N"), positive(c, "K"), positive(c, "block_size")};
  if (c.integer("weight_prepacked", 0) != 0)
    c.unsupported("weights in the order of one device's kernels (weight_prepacked); export them unpacked");
  const ValueId w = few_bits_weight(c, form, c.in(1), c.in(2), c.maybe(3), c.maybe(4));
  c.out(0, product(c, c.in(0), w, c.maybe(5), c.b.dtype(c.in(0))));
}

// What stands before fused products: a root-mean-square norm of operand 0, or of its sum with operand 1.
ValueId normed_input(NodeContext& c, double epsilon, size_t sum_output) {
  ValueId x = c.in(0);
  if (c.has(1)) x = wiring::add(c.b, x, c.in(1));
  if (c.wants(sum_output)) c.out(sum_output, x);
  return c.has(2) ? wiring::rms_norm(c.b, x, c.in(2), -1, epsilon) : x;
}

// Operands `first` to first + 2: weights, scales, bias.
ValueId fused_product(NodeContext& c, ValueId x, size_t first, int64_t rows) {
  const FewBits form{bits_of(c, 4), rows, positive(c, "K"), positive(c, "block_size")};
  const ValueId w = few_bits_weight(c, form, c.in(first), c.in(first + 1), no_id);
  return product(c, x, w, c.maybe(first + 2), DType::f32);
}

void import_bits_mlp(NodeContext& c) {
  GraphBuilder& b = c.b;
  const DType dtype = b.dtype(c.in(0));
  const ValueId x = normed_input(c, c.real("epsilon", 1e-5), 1);
  const int64_t n = positive(c, "N");
  const ValueId gate = fused_product(c, x, 3, n), up = fused_product(c, x, 6, n);
  const std::string name = c.string("activation", "");
  ValueId open;
  if (name == "silu" || name == "swish")
    open = wiring::pointwise(b, "Swish", {{"alpha", 1}}, gate);
  else if (name == "gelu")
    open = wiring::gelu(b, gate, false);
  else if (name == "relu")
    open = b.op("Relu", {gate});
  else
    c.fail(fmt::format("activation '{}' is none of silu, swish, gelu, relu", name));
  c.out(0, cast(b, mul(b, open, up), dtype));
}

void import_bits_qkv(NodeContext& c) {
  const DType dtype = c.b.dtype(c.in(0));
  const ValueId x = normed_input(c, c.real("epsilon", 1e-6), 3);
  const int64_t q = positive(c, "Nq"), kv = positive(c, "Nkv");
  for (size_t i = 0; i < 3; ++i) c.out(i, cast(c.b, fused_product(c, x, 3 + 3 * i, i == 0 ? q : kv), dtype));
}

// A product and one through two thin weights; an adapter without elements adds nothing.
void import_bits_lora(NodeContext& c) {
  GraphBuilder& b = c.b;
  const DType dtype = b.dtype(c.in(0));
  const int64_t n = positive(c, "N"), k = positive(c, "K"), bits = c.integer("lora_bits", 8),
                block = positive(c, "lora_block_size", 32);
  const FewBits base{bits_of(c, 4), n, k, positive(c, "block_size", 32)};
  ValueId y = product(c, c.in(0), few_bits_weight(c, base, c.in(1), c.in(2), no_id), no_id, dtype);
  const auto rank = rank_of(c, 3, 1) > 0 ? b.shape(c.in(3))[0].as_constant() : std::nullopt;
  if (!rank) c.unsupported("the rank of the adapter must be known when the model is built");
  const Shape up_shape = b.shape(c.in(5));
  if (*rank > 0 && up_shape.size() > 1 && !(up_shape[1] == Dim(0))) {
    const ValueId down = few_bits_weight(c, {bits, *rank, k, block}, c.in(3), c.in(4), no_id);
    const ValueId up = few_bits_weight(c, {bits, n, *rank, block}, c.in(5), c.in(6), no_id);
    y = wiring::add(b, y, product(c, product(c, c.in(0), down, no_id, dtype), up, no_id, dtype));
  }
  c.out(0, y);
}

// B [N, K] of 8-bit floats with a scale for every block of a row; A rounded to 8 bits too when it has a scale.
void import_matmul_fp8(NodeContext& c) {
  GraphBuilder& b = c.b;
  if (rank_of(c, 1) != 2) c.fail("B must have rank 2");
  const Dim k = b.shape(c.in(1))[1];
  const ValueId scale = spread(c, cast(b, c.in(2), DType::f32), 1, k, positive(c, "block_size", 128));
  const ValueId w = mul(b, cast(b, c.in(1), DType::f32), scale);
  ValueId x = cast(b, c.in(0), DType::f32);
  if (c.has(3)) {
    const ValueId s = wiring::scalar_of(b, cast(b, c.in(3), DType::f32));
    x = mul(b, cast(b, cast(b, wiring::div(b, x, s), DType::f8e4m3fn), DType::f32), s);
  }
  c.out(0, product(c, x, w, c.maybe(4), b.dtype(c.in(0))));
}

// The same with 4-bit floats, scales as bytes of 8-bit floats, and one scale for all.
void import_matmul_fp4(NodeContext& c) {
  GraphBuilder& b = c.b;
  if (rank_of(c, 1) != 2) c.fail("B must have rank 2");
  const ValueId values = unpacked_fp4(c, c.in(1));
  ValueId bytes = c.in(2);
  if (b.dtype(bytes) == DType::u8) bytes = b.op("BitCast", BitCastAttrs{.to = DType::f8e4m3fn}, {bytes});
  const ValueId scale = spread(c, cast(b, bytes, DType::f32), 1, b.shape(values)[1], positive(c, "block_size", 16));
  const ValueId w = mul(b, mul(b, values, scale), wiring::scalar_of(b, cast(b, c.in(3), DType::f32)));
  c.out(0, product(c, c.in(0), w, c.maybe(5), b.dtype(c.in(0))));
}

// Four bytes, the lowest first, as a float: [..., 4] to [...].
ValueId float_of_bytes(NodeContext& c, ValueId bytes) {
  GraphBuilder& b = c.b;
  const auto last = static_cast<int64_t>(b.rank(bytes)) - 1;
  Tensor shifts(DType::u32, {4});
  for (int64_t k = 0; k < 4; ++k) shifts.set_integer(k, 8 * k);
  const ValueId parts = b.op("ShiftLeft", {cast(b, bytes, DType::u32), b.constant(std::move(shifts))});
  return b.op("BitCast", BitCastAttrs{.to = DType::f32}, {wiring::reduce(b, "Sum", parts, {last}, false)});
}

// Blocks along the columns of B [K, N], each with its scale before it, a zero point perhaps, and then bytes that hold
// elements i and i + 16 of every 32.
void import_matmul_blob(NodeContext& c) {
  GraphBuilder& b = c.b;
  const int64_t type = c.integer("blk_quant_type", 1);
  if (type < 0 || type > 2) c.fail(fmt::format("blk_quant_type {} is none of 0, 1, 2", type));
  const auto shape = b.integers_of(c.in(2));
  if (!shape || shape->size() != 2 || !(*shape)[0].is_constant() || !(*shape)[1].is_constant())
    c.unsupported("B_shape must hold two extents that are known when the model is built");
  const int64_t k = (*shape)[0].constant(), n = (*shape)[1].constant();
  if (k < 1 || n < 1) c.fail(fmt::format("B has extents {} and {}", k, n));
  // Type 2 is documented as blocks of 64; ONNX Runtime reads it like type 1. The size tells which it is.
  const Dim bytes = rank_of(c, 1, 1) == 1 ? b.shape(c.in(1))[0] : Dim(0);
  const bool wide = type == 2 && bytes == Dim(checked_mul(checked_mul(n, ceil_div(k, 64)), 36));
  const bool zeros = type != 0 && !wide;
  const int64_t block = wide ? 64 : 32, blocks = ceil_div(k, block), head = zeros ? 5 : 4;
  const ValueId blob = wiring::reshape(b, c.in(1), {n, blocks, head + block / 2});
  const ValueId scale = wiring::unsqueeze(b, float_of_bytes(c, wiring::slice(b, blob, 2, 0, 4)), {2, 3, 4});
  const ValueId zero = zeros ? wiring::unsqueeze(b, cast(b, wiring::slice(b, blob, 2, 4, 5), DType::f32), {3, 4})
                             : b.scalar(DType::f32, 8);
  ValueId w = wiring::slice(b, blob, 2, head, head + block / 2);
  w = unpacked(c, wiring::reshape(b, w, {n, blocks, block / 32, 16, 1}), 4);  // low and high half of each byte
  w = mul(b, wiring::sub(b, w, zero), scale);
  w = wiring::reshape(b, wiring::transpose(b, w, {0, 1, 2, 4, 3}), {n, checked_mul(blocks, block)});
  if (checked_mul(blocks, block) != k) w = wiring::slice(b, w, 1, 0, k);
  c.out(0, product(c, c.in(0), w, no_id, b.dtype(c.in(0))));
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
  const Dim extent = b.shape(x)[static_cast<size_t>(at)];
  const auto blocks = [&](ValueId v) { return spread(c, v, at, extent, block); };
  if (c.has(3))
    x = wiring::sub(b, x, blocks(numbers(3)));
  else if (bytes)
    x = wiring::sub(b, x, wiring::like(b, x, static_cast<double>(int64_t{1} << (bits - 1))));
  c.out(0, cast(b, wiring::mul(b, x, blocks(scale)), result));
}

constexpr Entry table[] = {
    {"GatherBlockQuantized", 1, import_gather_block, microsoft},
    {"MatMulBlockQuantizedFp4Weight", 1, import_matmul_fp4, microsoft},
    {"MatMulBlockQuantizedFp8Weight", 1, import_matmul_fp8, microsoft},
    {"MatMulBnb4", 1, import_matmul_table, microsoft},
    {"MatMulFpQ4", 1, import_matmul_blob, microsoft},
    {"MatMulNBits", 1, import_matmul_bits, microsoft},
    {"MatMulNBitsMlp", 1, import_bits_mlp, microsoft},
    {"MatMulNBitsQLoRA", 1, import_bits_lora, microsoft},
    {"MatMulNBitsQkv", 1, import_bits_qkv, microsoft},
};

}  // namespace

std::span<const Entry> contrib_weights_entries() { return table; }

}  // namespace sinter::onnx
