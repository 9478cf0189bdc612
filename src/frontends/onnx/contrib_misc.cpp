// Entries of domain com.microsoft with no family of their own: activations and sums in one, group norms, transforms,
// distances, hashes, grids.

#include <fmt/format.h>

#include <algorithm>

#include "frontends/onnx/contrib.h"
#include "ops/cast.h"
#include "ops/contraction.h"
#include "ops/generation.h"
#include "ops/indexing.h"
#include "ops/movement.h"
#include "ops/reduction.h"
#include "ops/selection.h"
#include "ops/signal.h"

namespace sinter::onnx {
namespace {

using wiring::add;
using wiring::cast;
using wiring::like;
using wiring::mul;
using wiring::sub;

// ---- the default domain's operators under another name or in another layout ----

void as_core(NodeContext& c, std::string_view name, Ids inputs, int64_t opset = 21) {
  c.out(0, core_result(c, name, std::move(inputs), opset));
}

void channels_last_conv(NodeContext& c) {
  c.out(0, channels_last(c.b, core_result(c, "Conv", {channels_first(c.b, c.in(0)), c.in(1), c.maybe(2)})));
}

void channels_last_fused_conv(NodeContext& c) {
  const ValueId z = c.has(3) ? channels_first(c.b, c.in(3)) : no_id;
  const Ids y = imported_as(c, microsoft, "FusedConv", 1, {channels_first(c.b, c.in(0)), c.in(1), c.maybe(2), z});
  c.out(0, channels_last(c.b, y.at(0)));
}

void channels_last_max_pool(NodeContext& c) {
  c.out(0, channels_last(c.b, core_result(c, "MaxPool", {channels_first(c.b, c.in(0))})));
}

// Padding is known when it runs; cropping afterwards is the same.
void import_dynamic_conv_transpose(NodeContext& c) {
  GraphBuilder& b = c.b;
  ValueId y = core_result(c, "ConvTranspose", {c.in(0), c.in(1), c.maybe(3)});
  if (c.has(2)) {
    const ValueId pads = b.op("Neg", {wiring::reshape(b, cast(b, c.in(2), DType::i64), {-1})});
    y = b.op("Pad", PadAttrs{}, {y, pads, like(b, y, 0), b.integers(wiring::axis_range(2, b.rank(y)))});
  }
  c.out(0, y);
}

void import_pad(NodeContext& c) {
  as_core(c, "Pad", {c.in(0), wiring::reshape(c.b, cast(c.b, c.in(1), DType::i64), {-1}), c.maybe(2)});
}

void import_range(NodeContext& c) {
  const auto single = [&](size_t i) { return wiring::scalar_of(c.b, c.in(i)); };
  as_core(c, "Range", {single(0), single(1), c.has(2) ? single(2) : like(c.b, c.in(0), 1)});
}

void import_expand_dims(NodeContext& c) {
  const ValueId axis = wiring::reshape(c.b, cast(c.b, c.in(1), DType::i64), {1});
  c.out(0, c.b.op("Unsqueeze", {c.in(0), axis}));
}

// In order of first occurrence.
void import_unique(NodeContext& c) {
  const Ids r = c.b.add(op_named("Unique"), UniqueAttrs{.sorted = false}, {c.in(0)}, 4);
  c.out(0, r[0]);
  if (c.wants(1)) c.out(1, r[2]);
  if (c.wants(2)) c.out(2, r[3]);
}

// ---- products ----

void import_gemm_fast_gelu(NodeContext& c) {
  ValueId y = wiring::matmul(c.b, c.in(0), c.in(1));
  if (c.has(2)) y = add(c.b, y, c.in(2));
  c.out(0, wiring::gelu(c.b, y, true));
}

// Distances of the rows of two matrices, by |a - b|^2 = |a|^2 - 2ab + |b|^2.
void import_distances(NodeContext& c) {
  GraphBuilder& b = c.b;
  const std::string metric = c.string("metric", "sqeuclidean");
  if (metric != "sqeuclidean" && metric != "euclidean") c.unsupported(fmt::format("metric '{}'", metric));
  if (rank_of(c, 0) != 2 || rank_of(c, 1) != 2) c.fail("both matrices must have rank 2");
  const ValueId x = c.in(0), y = c.in(1);
  const auto squares = [&](ValueId v, bool keep) { return wiring::reduce(b, "Sum", mul(b, v, v), {1}, keep); };
  const ValueId product = wiring::matmul(b, x, y, true);
  ValueId d = add(b, sub(b, squares(x, true), mul(b, product, like(b, product, 2))), squares(y, false));
  d = b.op("Max", {d, like(b, d, 0)});
  c.out(0, metric == "euclidean" ? b.op("Sqrt", {d}) : d);
}

// [..., 2]: real and imaginary parts.
void complex_product(NodeContext& c, bool conjugate) {
  GraphBuilder& b = c.b;
  const size_t rank = rank_of(c, 0, 1);
  if (rank_of(c, 1, 1) != rank) c.fail("both operands must have one rank");
  const auto axis = static_cast<int64_t>(rank) - 1;
  const auto part = [&](size_t i, int64_t which) { return wiring::slice(b, c.in(i), axis, which, which + 1); };
  const ValueId x = part(0, 0), y = part(0, 1), u = part(1, 0), v = conjugate ? b.op("Neg", {part(1, 1)}) : part(1, 1);
  const ValueId real = sub(b, mul(b, x, u), mul(b, y, v)), imaginary = add(b, mul(b, x, v), mul(b, y, u));
  c.out(0, wiring::concat(b, {real, imaginary}, axis));
}

// ---- Fourier transforms of one axis ----

void need_plain_transform(NodeContext& c) {
  if (c.integer("signal_ndim", 1) != 1) c.unsupported("transforms of several axes");
  if (c.integer("normalized", 0) != 0) c.unsupported("normalized transforms");
  if (c.integer("onesided", 1) != 1) c.unsupported("two-sided transforms");
}

ValueId transformed(NodeContext& c, ValueId x, bool inverse, bool one_sided) {
  const auto axis = static_cast<int64_t>(c.b.rank(x)) - 2;
  return c.b.op("DFT", DFTAttrs{.inverse = inverse, .one_sided = one_sided},
                {x, no_id, c.b.constant(Tensor::scalar_i64(axis))});
}

void import_rfft(NodeContext& c) {
  need_plain_transform(c);
  const auto rank = static_cast<int64_t>(rank_of(c, 0, 1));
  c.out(0, transformed(c, wiring::unsqueeze(c.b, c.in(0), {rank}), false, true));
}

// The other half is the conjugate of this one, reversed; signals have even length.
void import_irfft(NodeContext& c) {
  need_plain_transform(c);
  GraphBuilder& b = c.b;
  const auto rank = static_cast<int64_t>(rank_of(c, 0, 2)), axis = rank - 2;
  const Dim have = b.shape(c.in(0))[static_cast<size_t>(axis)];
  const ValueId backwards =
      b.op("Slice", {c.in(0), b.dims({have - Dim(2)}), b.integers({0}), b.integers({axis}), b.integers({-1})});
  Tensor signs(b.dtype(c.in(0)), {2});
  signs.set_real(0, 1);
  signs.set_real(1, -1);
  const ValueId conjugate = mul(b, backwards, b.constant(std::move(signs)));
  const ValueId whole = wiring::concat(b, {c.in(0), conjugate}, axis);
  const ValueId y = transformed(c, whole, true, false);
  c.out(0, wiring::squeeze(b, wiring::slice(b, y, rank - 1, 0, 1), {rank - 1}));
}

// ---- sums followed by something ----

void import_bias_softmax(NodeContext& c) { as_core(c, "Softmax", {add(c.b, c.in(0), c.in(1))}, 11); }

void import_bias_split_gelu(NodeContext& c) {
  GraphBuilder& b = c.b;
  const size_t rank = rank_of(c, 0, 1);
  const auto axis = static_cast<int64_t>(rank) - 1;
  const ValueId x = add(b, c.in(0), c.in(1));
  const Dim whole = b.shape(x).back(), half = floordiv(whole, 2);
  c.out(0, mul(b, wiring::slice(b, x, axis, 0, half), wiring::gelu(b, wiring::slice(b, x, axis, half, whole), false)));
}

// Dropout(data + bias) + residual, of which inference leaves the sums.
void import_bias_dropout(NodeContext& c) {
  if (c.has(4) && !is_zero(c, c.in(4))) c.unsupported("training");
  if (c.wants(1)) c.unsupported("the mask of a dropout");
  const ValueId x = add(c.b, c.in(0), c.in(1));
  c.out(0, c.has(2) ? add(c.b, x, c.in(2)) : x);
}

void group_norm(NodeContext& c, ValueId x) {
  GraphBuilder& b = c.b;
  const int64_t activation = c.integer("activation", 0);
  if (activation != 0 && activation != 1) c.fail(fmt::format("activation {} is neither 0 nor 1", activation));
  const bool last = c.integer("channels_last", 1) != 0;
  const DType dtype = b.dtype(x);
  ValueId y = wiring::widened(b, last ? channels_first(b, x) : x);
  y = wiring::group_norm(b, y, c.in(1), c.in(2), c.integer("groups", 0), c.real("epsilon", 1e-5), false);
  if (activation == 1) y = wiring::pointwise(b, "Swish", {{"alpha", 1}}, y);
  c.out(0, cast(b, last ? channels_last(b, y) : y, dtype));
}

void import_skip_group_norm(NodeContext& c) {
  GraphBuilder& b = c.b;
  const size_t rank = rank_of(c, 0, 3);
  const bool last = c.integer("channels_last", 1) != 0;
  // A vector per channel, or per image and channel, against the layout.
  const auto against = [&](ValueId v) {
    const size_t own = b.rank(v);
    if (own == rank || (last && own == 1)) return v;
    if (own == 2) return wiring::unsqueeze(b, v, last ? wiring::axis_range(1, rank - 1) : wiring::axis_range(2, rank));
    if (own == 1) return wiring::unsqueeze(b, v, wiring::axis_range(1, rank - 1));
    c.fail(fmt::format("something to add has rank {}, it must be 1, 2 or {}", own, rank));
  };
  ValueId x = add(b, c.in(0), against(c.in(3)));
  if (c.has(4)) x = add(b, x, against(c.in(4)));
  group_norm(c, x);
  if (c.wants(1)) c.out(1, x);
}

void import_gated_rms_norm(NodeContext& c) {
  GraphBuilder& b = c.b;
  const std::string activation = c.string("activation", "silu");
  if (activation != "silu" && activation != "swish" && activation != "sigmoid")
    c.fail(fmt::format("activation '{}' is none of silu, swish, sigmoid", activation));
  if (rank_of(c, 1) != 1) c.fail("scale must have rank 1");
  const Shape shape = b.shape(c.in(0));
  if (shape.empty()) c.fail("the operand is a scalar");
  Shape cut = shape;
  cut.back() = floordiv(shape.back(), b.shape(c.in(1))[0]);
  cut.push_back(b.shape(c.in(1))[0]);
  const ValueId x = wiring::reshape(b, wiring::widened(b, c.in(0)), cut);
  const ValueId y = wiring::reshape(b, wiring::rms_norm(b, x, c.in(1), -1, c.real("epsilon", 1e-5)), shape);
  const ValueId gate = wiring::widened(b, c.in(2));
  const ValueId open =
      activation == "sigmoid" ? b.op("Sigmoid", {gate}) : wiring::pointwise(b, "Swish", {{"alpha", 1}}, gate);
  c.out(0, cast(b, mul(b, y, open), b.dtype(c.in(0))));
}

void import_swiglu(NodeContext& c) {
  GraphBuilder& b = c.b;
  ValueId gate = wiring::widened(b, c.in(0)), up;
  if (c.has(1)) {
    up = wiring::widened(b, c.in(1));
  } else {
    const auto axis = static_cast<int64_t>(rank_of(c, 0, 1)) - 1;
    const Dim whole = b.shape(gate).back(), half = floordiv(whole, 2);
    up = wiring::slice(b, gate, axis, half, whole);
    gate = wiring::slice(b, gate, axis, 0, half);
  }
  const GatedUnit unit{
      .alpha = c.real("activation_alpha", 1), .beta = c.real("activation_beta", 0), .limit = c.real("limit", 0)};
  c.out(0, cast(b, gated_unit(b, gate, up, unit), b.dtype(c.in(0))));
}

void import_scaled_silu(NodeContext& c) {
  GraphBuilder& b = c.b;
  const ValueId scale =
      c.has(1) ? cast(b, wiring::scalar_of(b, c.in(1)), b.dtype(c.in(0))) : like(b, c.in(0), c.real("alpha", 1));
  c.out(0, wiring::pointwise(b, "Swish", {{"alpha", 1}}, mul(b, c.in(0), scale)));
}

// X + Y * gate; with a weight the gate is sigmoid(gate . weight).
void import_gated_add(NodeContext& c) {
  GraphBuilder& b = c.b;
  ValueId gate = c.in(2);
  if (c.has(3)) {
    const ValueId score = wiring::matmul(b, wiring::widened(b, gate), wiring::widened(b, c.in(3)));
    gate = cast(b, b.op("Sigmoid", {score}), b.dtype(c.in(0)));
  }
  c.out(0, add(b, c.in(0), mul(b, c.in(1), gate)));
}

// ---- data movement and integers ----

// Windows of `size` at every `step` along an axis; the window becomes the last axis.
void import_unfold(NodeContext& c) {
  GraphBuilder& b = c.b;
  const size_t rank = rank_of(c, 0, 1);
  const int64_t axis = axis_of(c, c.integer("dim", -1), rank), size = c.integer("size", 0), step = c.integer("step", 1);
  if (size < 1 || step < 1 || size > INT32_MAX || step > INT32_MAX)
    c.fail(fmt::format("size {} and step {} must be positive", size, step));
  const Dim windows = floordiv(b.shape(c.in(0))[static_cast<size_t>(axis)] - Dim(size), step) + Dim(1);
  const ValueId first = wiring::iota(b, wiring::scalar_of(b, b.dims({windows})));
  const ValueId offset = wiring::iota(b, b.constant(Tensor::scalar_i64(size)));
  const ValueId from = wiring::unsqueeze(b, mul(b, first, b.constant(Tensor::scalar_i64(step))), {1});
  const ValueId y = wiring::gather(b, c.in(0), add(b, from, offset), axis);
  auto perm = wiring::axis_range(0, rank + 1);
  std::rotate(perm.begin() + axis + 1, perm.begin() + axis + 2, perm.end());
  c.out(0, wiring::transpose(b, y, perm));
}

void import_all_finite(NodeContext& c) {
  GraphBuilder& b = c.b;
  const bool only_infinite = c.integer("isinf_only", 0) != 0, only_nan = c.integer("isnan_only", 0) != 0;
  if (only_infinite && only_nan) c.fail("isinf_only and isnan_only exclude each other");
  ValueId bad = no_id;
  const auto join = [&](ValueId more) {
    const ValueId some = b.op("ReduceMax", ReduceAttrs{.keep_dims = false}, {cast(b, more, DType::i32)});
    bad = bad == no_id ? some : b.op("Max", {bad, some});
  };
  for (size_t i = 0; i < c.inputs(); ++i) {
    if (!only_infinite) join(b.op("IsNaN", {c.in(i)}));
    if (!only_nan) join(b.op("IsInf", {c.in(i)}));
  }
  if (bad == no_id) c.fail("it needs at least one operand");
  c.out(0, b.op("LessOrEqual", {bad, like(b, bad, 0)}));
}

// MurmurHash3 of each element's 4 or 8 bytes, 32 bits wide.
void import_murmur_hash(NodeContext& c) {
  GraphBuilder& b = c.b;
  const DType dtype = b.dtype(c.in(0));
  if (dtype == DType::string) c.unsupported("hashes of strings");
  const auto number = [&](uint32_t v) { return b.scalar(DType::u32, v); };
  const auto left = [&](ValueId v, uint32_t by) {
    return b.op("BitOr", {b.op("ShiftLeft", {v, number(by)}), b.op("ShiftRight", {v, number(32 - by)})});
  };
  const auto mixed = [&](ValueId v, uint32_t by) { return b.op("BitXor", {v, b.op("ShiftRight", {v, number(by)})}); };
  Ids words;
  if (bit_size(dtype) == 32) {
    words = {dtype == DType::u32 ? c.in(0) : b.op("BitCast", BitCastAttrs{.to = DType::u32}, {c.in(0)})};
  } else if (bit_size(dtype) == 64) {
    const ValueId whole = dtype == DType::u64 ? c.in(0) : b.op("BitCast", BitCastAttrs{.to = DType::u64}, {c.in(0)});
    const ValueId low = b.op("BitAnd", {whole, b.scalar(DType::u64, 4294967295.0)});
    words = {cast(b, low, DType::u32), cast(b, b.op("ShiftRight", {whole, b.scalar(DType::u64, 32)}), DType::u32)};
  } else {
    c.fail(fmt::format("elements are {}, they must have 32 or 64 bits", dtype_name(dtype)));
  }
  ValueId h = number(static_cast<uint32_t>(c.integer("seed", 0)));
  for (const ValueId word : words) {
    const ValueId k = mul(b, left(mul(b, word, number(0xcc9e2d51)), 15), number(0x1b873593));
    h = add(b, mul(b, left(b.op("BitXor", {h, k}), 13), number(5)), number(0xe6546b64));
  }
  h = b.op("BitXor", {h, number(static_cast<uint32_t>(words.size() * 4))});
  h = mul(b, mixed(h, 16), number(0x85ebca6b));
  h = mixed(mul(b, mixed(h, 13), number(0xc2b2ae35)), 16);
  c.out(0, c.integer("positive", 1) != 0 ? h : b.op("BitCast", BitCastAttrs{.to = DType::i32}, {h}));
}

constexpr Entry table[] = {
    {"BiasAdd", 1, [](NodeContext& c) { c.out(0, add(c.b, add(c.b, c.in(0), c.in(1)), c.in(2))); }, microsoft},
    {"BiasDropout", 1, import_bias_dropout, microsoft},
    {"BiasSoftmax", 1, import_bias_softmax, microsoft},
    {"BiasSplitGelu", 1, import_bias_split_gelu, microsoft},
    {"BitmaskBiasDropout", 1, import_bias_dropout, microsoft},
    {"CDist", 1, import_distances, microsoft},
    {"ComplexMul", 1, [](NodeContext& c) { complex_product(c, false); }, microsoft},
    {"ComplexMulConj", 1, [](NodeContext& c) { complex_product(c, true); }, microsoft},
    {"ConvTransposeWithDynamicPads", 1, import_dynamic_conv_transpose, microsoft},
    {"ExpandDims", 1, import_expand_dims, microsoft},
    {"GatedAdd", 1, import_gated_add, microsoft},
    {"GatedRMSNorm", 1, import_gated_rms_norm, microsoft},
    {"GatherND", 1,
     [](NodeContext& c) {
       c.out(0, c.b.op("GatherND", GatherNDAttrs{}, {c.in(0), c.in(1)}));
     },
     microsoft},
    {"GemmFastGelu", 1, import_gemm_fast_gelu, microsoft},
    {"GridSample", 1,
     [](NodeContext& c) {
       as_core(c, "GridSample", {c.in(0), c.in(1)}, 16);
     },
     microsoft},
    {"GroupNorm", 1, [](NodeContext& c) { group_norm(c, c.in(0)); }, microsoft},
    {"Inverse", 1, [](NodeContext& c) { unary(c, "Inverse"); }, microsoft},
    {"Irfft", 1, import_irfft, microsoft},
    {"IsAllFinite", 1, import_all_finite, microsoft},
    {"MurmurHash3", 1, import_murmur_hash, microsoft},
    {"NhwcConv", 1, channels_last_conv, microsoft},
    {"NhwcFusedConv", 1, channels_last_fused_conv, microsoft},
    {"NhwcMaxPool", 1, channels_last_max_pool, microsoft},
    {"Pad", 1, import_pad, microsoft},
    {"Range", 1, import_range, microsoft},
    {"Rfft", 1, import_rfft, microsoft},
    {"ScaledSiLU", 1, import_scaled_silu, microsoft},
    {"SkipGroupNorm", 1, import_skip_group_norm, microsoft},
    {"SwiGLU", 1, import_swiglu, microsoft},
    {"TorchEmbedding", 1, [](NodeContext& c) { c.out(0, wiring::gather(c.b, c.in(0), c.in(1), 0)); }, microsoft},
    {"TransposeMatMul", 1,
     [](NodeContext& c) {
       c.out(imported_as(c, microsoft, "FusedMatMul", 1, {c.in(0), c.in(1)}));
     },
     microsoft},
    {"Trilu", 1,
     [](NodeContext& c) {
       as_core(c, "Trilu", {c.in(0), c.maybe(1)});
     },
     microsoft},
    {"UnfoldTensor", 1, import_unfold, microsoft},
    {"Unique", 1, import_unique, microsoft},
};

}  // namespace

std::span<const Entry> contrib_misc_entries() { return table; }

}  // namespace sinter::onnx
