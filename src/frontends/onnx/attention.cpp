// Entries of attention and what comes with it: rotary embeddings, causal convolution.

#include <fmt/core.h>

#include <cmath>

#include "frontends/onnx/attention.h"
#include "ops/contraction.h"
#include "ops/movement.h"

namespace sinter::onnx {

using wiring::add;
using wiring::cast;
using wiring::like;
using wiring::mul;

ValueId split_heads(NodeContext& c, ValueId x, int64_t heads) {
  const Shape s = c.b.shape(x);
  if (heads < 1) c.fail("q_num_heads and kv_num_heads must be given for operands of rank 3, and be positive");
  if (s[2].is_constant() && s[2].constant() % heads != 0)
    c.fail(fmt::format("extent {} is no multiple of {} heads", s[2].constant(), heads));
  const ValueId cut = wiring::reshape(c.b, x, {s[0], s[1], heads, floordiv(s[2], heads)});
  return wiring::transpose(c.b, cut, {0, 2, 1, 3});
}

Heads head_groups(NodeContext& c, const Dim& queries, const Dim& keys) {
  if (queries == keys) return {keys, 1, false, queries};
  const auto q = queries.as_constant(), k = keys.as_constant();
  if (!q || !k) return {keys, floordiv(queries, keys), true, queries};
  if (*k < 1 || *q % *k != 0) c.fail(fmt::format("{} query heads are no multiple of {} key heads", *q, *k));
  return {keys, *q / *k, true, queries};
}

ValueId usual_scale(NodeContext& c, const Dim& size, DType dtype) {
  GraphBuilder& b = c.b;
  if (const auto known = size.as_constant()) {
    if (*known < 1) c.fail("the head size must be positive when attribute 'scale' is absent");
    return b.scalar(dtype, 1 / std::sqrt(static_cast<double>(*known)));
  }
  return b.op("Reciprocal", {b.op("Sqrt", {cast(b, wiring::scalar_of(b, b.dims({size})), dtype)})});
}

ValueId grouped(NodeContext& c, ValueId x, const Heads& heads) {
  if (!heads.grouped) return x;
  Shape s = c.b.shape(x);
  if (s.size() < 3) return x;
  const size_t at = s.size() - 3;
  if (s[at] == Dim(1)) return wiring::unsqueeze(c.b, x, {static_cast<int64_t>(at)});
  // What may be 1 for all heads is written out.
  if (!s[at].is_constant() && !(s[at] == heads.queries)) {
    s[at] = heads.queries;
    x = c.b.op("Expand", {x, c.b.dims(s)});
  }
  s[at] = heads.shared;
  s.insert(s.begin() + static_cast<int64_t>(at), heads.keys);
  return wiring::reshape(c.b, x, s);
}

ValueId ungrouped(NodeContext& c, ValueId x, const Heads& heads) {
  if (!heads.grouped) return x;
  const Shape s = c.b.shape(x);
  return wiring::reshape(c.b, x, {s[0], s[1] * s[2], s[3], s[4]});
}

ValueId as_bias(GraphBuilder& b, ValueId allowed, DType dtype) {
  return wiring::where(b, allowed, b.scalar(dtype, 0), b.scalar(dtype, minus_infinity));
}

ValueId count_of(GraphBuilder& b, const Dim& d) { return wiring::scalar_of(b, b.dims({d})); }

ValueId hidden_but(GraphBuilder& b, ValueId seen, ValueId scores) {
  return wiring::where(b, seen, scores, like(b, scores, minus_infinity));
}

ValueId rotated(GraphBuilder& b, ValueId x, ValueId cosine, ValueId sine, const Dim& turned, bool interleaved) {
  const Dim size = b.shape(x)[3], half = floordiv(turned, 2);
  const auto part = [&](int64_t which) {
    if (!interleaved) return wiring::slice(b, x, 3, which == 0 ? Dim(0) : half, which == 0 ? half : half * Dim(2));
    return b.op("Slice", {x, b.integers({which}), b.dims({turned}), b.integers({3}), b.integers({2})});
  };
  const ValueId x1 = part(0), x2 = part(1);
  const ValueId real = wiring::sub(b, mul(b, cosine, x1), mul(b, sine, x2));
  const ValueId imaginary = add(b, mul(b, sine, x1), mul(b, cosine, x2));
  ValueId y;
  if (interleaved) {
    const Shape s = b.shape(real);
    y = wiring::concat(b, {wiring::unsqueeze(b, real, {4}), wiring::unsqueeze(b, imaginary, {4})}, 4);
    y = wiring::reshape(b, y, {s[0], s[1], s[2], s[3] * Dim(2)});
  } else {
    y = wiring::concat(b, {real, imaginary}, 3);
  }
  if (!(turned == size)) y = wiring::concat(b, {y, wiring::slice(b, x, 3, turned, size)}, 3);
  return y;
}

namespace {

// The mask as something to add, lengthened to `total` keys with what masks out.
ValueId mask_bias(NodeContext& c, ValueId mask, const Dim& total, DType dtype) {
  GraphBuilder& b = c.b;
  const bool boolean = b.dtype(mask) == DType::boolean;
  const Shape& shape = b.shape(mask);
  if (shape.empty()) c.fail("attn_mask is a scalar, it must have rank 2 to 4");
  const Dim missing = total - shape.back();
  if (!(missing == Dim(0))) {
    const ValueId value = boolean ? b.scalar(DType::boolean, 0) : b.scalar(b.dtype(mask), minus_infinity);
    mask = b.op("Pad", PadAttrs{}, {mask, b.dims({0, missing}), value, b.integers({-1})});
  }
  return boolean ? as_bias(b, mask, dtype) : cast(b, mask, dtype);
}

void import_attention(NodeContext& c) {
  GraphBuilder& b = c.b;
  const DType dtype = b.dtype(c.in(0));
  const size_t rank = rank_of(c, 0);
  if ((rank != 3 && rank != 4) || rank_of(c, 1) != rank || rank_of(c, 2) != rank)
    c.fail("Q, K and V must all have rank 3 or all have rank 4");
  ValueId q = c.in(0), k = c.in(1), v = c.in(2);
  if (rank == 3) {
    const int64_t heads = c.integer("q_num_heads", 0), key_heads = c.integer("kv_num_heads", 0);
    q = split_heads(c, q, heads);
    k = split_heads(c, k, key_heads);
    v = split_heads(c, v, key_heads);
  }
  if (c.has(4) != c.has(5)) c.fail("past_key and past_value must be given together");
  Dim past = 0;
  if (c.has(4)) {
    if (rank_of(c, 4) != 4 || rank_of(c, 5) != 4) c.fail("past_key and past_value must have rank 4");
    past = b.shape(c.in(4))[2];
    k = wiring::concat(b, {c.in(4), k}, 2);
    v = wiring::concat(b, {c.in(5), v}, 2);
  }
  if (c.wants(1)) c.out(1, k);
  if (c.wants(2)) c.out(2, v);

  const Shape qs = b.shape(q), ks = b.shape(k);
  const Heads heads = head_groups(c, qs[1], ks[1]);
  const ValueId wide = wiring::widened(b, q);
  const DType work = b.dtype(wide);
  const ValueId scale = c.has_attr("scale") ? b.scalar(work, c.real("scale", 0)) : usual_scale(c, qs[3], work);
  const auto shared = [&](ValueId x) {
    const ValueId y = cast(b, x, work);
    return heads.grouped ? wiring::unsqueeze(b, y, {2}) : y;
  };
  const ValueId scaled = mul(b, grouped(c, wide, heads), scale);
  ValueId scores = wiring::matmul(b, scaled, shared(k), true);
  const int64_t mode = c.integer("qk_matmul_output_mode", 0);
  if (mode < 0 || mode > 3) c.fail(fmt::format("qk_matmul_output_mode {} is outside [0, 3]", mode));
  const auto show = [&](int64_t stage) {
    if (mode == stage && c.wants(3)) c.out(3, cast(b, ungrouped(c, scores, heads), dtype));
  };
  show(0);
  if (const double cap = c.real("softcap", 0); cap > 0)
    scores = mul(b, b.op("Tanh", {wiring::div(b, scores, b.scalar(work, cap))}), b.scalar(work, cap));
  show(1);
  ValueId bias = no_id;
  const auto and_bias = [&](ValueId more) { bias = bias == no_id ? more : add(b, bias, more); };
  if (c.has(3)) and_bias(grouped(c, mask_bias(c, c.in(3), ks[2], work), heads));
  if (c.has(6)) {
    const ValueId lengths =
        wiring::unsqueeze(b, cast(b, c.in(6), DType::i64), wiring::axis_range(1, heads.grouped ? 5 : 4));
    const ValueId column = wiring::iota(b, wiring::scalar_of(b, b.dims({ks[2]})));
    and_bias(as_bias(b, b.op("Less", {column, lengths}), work));
  }
  if (bias != no_id) scores = add(b, scores, bias);
  // Query i sees keys up to i + past.
  if (c.integer("is_causal", 0) != 0)
    scores = hidden_but(b, wiring::band(b, qs[2], ks[2], no_id, count_of(b, past)), scores);
  show(2);
  // Precisions above the one we work in are honoured; below it there is nothing to gain.
  const bool precise = c.has_attr("softmax_precision") && c.dtype("softmax_precision", work) == DType::f64;
  scores = cast(b, wiring::softmax(b, precise ? cast(b, scores, DType::f64) : scores, -1), work);
  show(3);
  ValueId y = cast(b, ungrouped(c, wiring::matmul(b, scores, shared(v)), heads), dtype);
  if (rank == 3) {
    const Shape ys = b.shape(y);
    y = wiring::reshape(b, wiring::transpose(b, y, {0, 2, 1, 3}), {ys[0], ys[2], ys[1] * ys[3]});
  }
  c.out(0, y);
}

void import_rotary_embedding(NodeContext& c) {
  GraphBuilder& b = c.b;
  const size_t rank = rank_of(c, 0);
  if (rank != 3 && rank != 4) c.fail(fmt::format("the operand has rank {}, it must be 3 or 4", rank));
  const Shape original = b.shape(c.in(0));
  ValueId x = wiring::widened(b, c.in(0));
  const DType work = b.dtype(x);
  if (rank == 3) {  // [B, S, H, D]; rank 4 is [B, H, S, D]
    const int64_t heads = c.integer("num_heads", 0);
    if (heads < 1) c.fail("num_heads must be given for an operand of rank 3");
    x = wiring::reshape(b, x, {original[0], original[1], heads, floordiv(original[2], heads)});
  }
  const Dim size = b.shape(x)[3];
  const int64_t given = c.integer("rotary_embedding_dim", 0);
  if (given < 0 || given % 2 != 0) c.fail(fmt::format("rotary_embedding_dim {} must be even and positive", given));
  const auto cache = [&](size_t i) {
    ValueId v = cast(b, c.in(i), work);
    if (c.has(3)) v = wiring::gather(b, v, c.in(3), 0);
    return wiring::unsqueeze(b, v, {rank == 3 ? 2 : 1});
  };
  ValueId y = rotated(b, x, cache(1), cache(2), given == 0 ? size : Dim(given), c.integer("interleaved", 0) != 0);
  if (rank == 3) y = wiring::reshape(b, y, original);
  c.out(0, cast(b, y, b.dtype(c.in(0))));
}

// Attention with graphs of the model's own between the products.
void import_flex_attention(NodeContext& c) {
  GraphBuilder& b = c.b;
  if (rank_of(c, 0) != 4 || rank_of(c, 1) != 4 || rank_of(c, 2) != 4) c.fail("Q, K and V must have rank 4");
  const DType dtype = b.dtype(c.in(0));
  const DType work = c.dtype("softmax_precision", dtype == DType::f64 ? DType::f64 : DType::f32);
  const Shape qs = b.shape(c.in(0));
  const Heads heads = head_groups(c, qs[1], b.shape(c.in(1))[1]);
  const ValueId scale = c.has_attr("scale") ? b.scalar(work, c.real("scale", 0)) : usual_scale(c, qs[3], work);
  const auto shared = [&](ValueId x) {
    const ValueId y = cast(b, x, work);
    return heads.grouped ? wiring::unsqueeze(b, y, {2}) : y;
  };
  const auto modified = [&](ValueId x, const char* name) {
    const Graph* graph = c.graph(name);
    if (!graph) return x;
    const ValueId whole = ungrouped(c, x, heads);
    const Type parameter = b.type(whole);
    Ids arguments = {whole}, captures;
    const sinter::Graph body = c.body(*graph, std::span(&parameter, 1), captures);
    if (body.outputs.size() != 1) c.fail(fmt::format("{} has {} results, it must have 1", name, body.outputs.size()));
    arguments.insert(arguments.end(), captures.begin(), captures.end());
    return grouped(c, cast(b, wiring::inlined(b, body, arguments)[0], work), heads);
  };
  const ValueId scaled = mul(b, grouped(c, cast(b, c.in(0), work), heads), scale);
  const ValueId scores = modified(wiring::matmul(b, scaled, shared(c.in(1)), true), "score_mod");
  const ValueId weights = modified(wiring::softmax(b, scores, -1), "prob_mod");
  c.out(0, cast(b, ungrouped(c, wiring::matmul(b, weights, shared(c.in(2))), heads), dtype));
}

// Depthwise convolution that sees the present and what the state remembers.
void import_causal_conv(NodeContext& c) {
  GraphBuilder& b = c.b;
  if (rank_of(c, 0) != 3 || rank_of(c, 1) != 3) c.fail("input and weight must have rank 3");
  const std::string activation = c.string("activation", "none");
  if (activation != "none" && activation != "silu" && activation != "swish")
    c.fail(fmt::format("activation '{}' is none of none, silu, swish", activation));
  const auto channels = b.shape(c.in(0))[1].as_constant();
  // com.microsoft's form may leave places out between taps.
  const int64_t dilation = c.integer("dilation", 1);
  if (dilation < 1 || dilation > INT32_MAX) c.fail(fmt::format("dilation is {}, it must be positive", dilation));
  const Dim taps = b.shape(c.in(1))[2], kept = (taps - 1) * Dim(dilation);
  const ValueId padded = c.has(3) ? wiring::concat(b, {c.in(3), c.in(0)}, 2)
                                  : b.op("Pad", PadAttrs{}, {c.in(0), b.dims({kept, 0}), no_id, b.integers({2})});
  ValueId y;
  if (channels) {
    y = b.op("Conv", ConvAttrs{.dilations = {dilation}, .group = *channels}, {padded, c.in(1), c.maybe(2)});
  } else {  // Conv's group is a number: windows [B, C, L, K] times weights [C, K, 1]
    const auto count = [&](const Dim& d) { return wiring::iota(b, wiring::scalar_of(b, b.dims({d}))); };
    const ValueId at = add(b, wiring::unsqueeze(b, count(b.shape(c.in(0))[2]), {1}),
                           wiring::mul(b, count(taps), b.constant(Tensor::scalar_i64(dilation))));
    const ValueId weights = wiring::transpose(b, c.in(1), {0, 2, 1});
    const ValueId sums = wiring::matmul(b, wiring::gather(b, padded, at, 2), weights);
    y = wiring::reshape(b, sums, b.shape(c.in(0)));
    if (c.has(2)) y = add(b, y, wiring::unsqueeze(b, c.in(2), {1}));
  }
  if (activation != "none") y = wiring::pointwise(b, "Swish", {{"alpha", 1}}, y);
  c.out(0, y);
  if (c.wants(1)) {
    const Dim length = b.shape(padded)[2];
    c.out(1, wiring::slice(b, padded, 2, length - kept, length));
  }
}

constexpr Entry table[] = {
    {"Attention", 23, import_attention},
    {"FlexAttention", 1, import_flex_attention, "ai.onnx.preview"},
    {"CausalConvWithState", 27, import_causal_conv},
    {"LinearAttention", 27, import_linear_attention},
    {"RotaryEmbedding", 23, import_rotary_embedding},
};

}  // namespace

std::span<const Entry> attention_entries() { return table; }

}  // namespace sinter::onnx
