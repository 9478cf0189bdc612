// GroupQueryAttention: heads that share keys, caches whose filled part differs by entry, in 8 or 4 bits perhaps.

#include <fmt/core.h>

#include "frontends/onnx/contrib.h"
#include "ops/movement.h"

namespace sinter::onnx {
namespace {

using wiring::add;
using wiring::cast;
using wiring::like;
using wiring::mul;

bool of_four_bits(NodeContext& c, ValueId cache) {
  return c.integer("kv_cache_bit_width", 8) == 4 || c.b.dtype(cache) == DType::u8;
}

// Tokens [B, H, S, D] as the cache in operand `past` stores them: 8 bits, or two numbers of 4 bits a byte, moved by 8.
ValueId rounded_for_cache(NodeContext& c, ValueId x, size_t past, size_t scale) {
  GraphBuilder& b = c.b;
  const ValueId old = c.in(past);
  const ValueId y = wiring::div(b, cast(b, x, DType::f32), scale_of(c, scale));
  if (is_float(b.dtype(old))) return cast(b, y, b.dtype(old));
  const auto held = [&](double low, double high) {
    return wiring::pointwise(b, "Clip", {{"low", low}, {"high", high}}, b.op("Round", {y}));
  };
  if (!of_four_bits(c, old)) return cast(b, held(-128, 127), b.dtype(old));
  Shape s = b.shape(x);
  const Dim size = s.back();
  s.back() = floordiv(size, 2);
  s.push_back(2);
  ValueId pairs = wiring::reshape(b, add(b, held(-8, 7), b.scalar(DType::f32, 8)), s);
  pairs = wiring::reduce(b, "Sum", mul(b, pairs, floats(c, {1, 16})), {4}, false);
  return cast(b, cast(b, pairs, DType::u8), b.dtype(old));
}

ValueId read_from_cache(NodeContext& c, ValueId x, size_t scale) {
  GraphBuilder& b = c.b;
  if (is_float(b.dtype(x)) || !of_four_bits(c, x)) return mul(b, cast(b, x, DType::f32), scale_of(c, scale));
  const ValueId numbers = unpacked(c, cast(b, x, DType::u8), 4);
  return mul(b, wiring::sub(b, numbers, b.scalar(DType::f32, 8)), scale_of(c, scale));
}

}  // namespace

void import_group_query(NodeContext& c) {
  GraphBuilder& b = c.b;
  const int64_t heads = heads_of(c, "num_heads"), kv_heads = heads_of(c, "kv_num_heads");
  if (c.integer("sliding_window_cache", 0) != 0)
    c.unsupported("caches that hold a window alone (sliding_window_cache); export with caches of the whole sequence");
  Projected p = split_projected(c, c.in(0), c.maybe(1), c.maybe(2), heads, kv_heads);
  ValueId q = p.q, k = p.k, v = p.v;
  if (c.has(14) != c.has(15)) c.fail("q_norm_weight and k_norm_weight must be given together");
  if (c.has(14)) {
    const double epsilon = c.real("qk_norm_epsilon", 1e-6);
    q = wiring::rms_norm(b, q, c.in(14), -1, c.real("q_norm_epsilon", epsilon));
    k = wiring::rms_norm(b, k, c.in(15), -1, c.real("k_norm_epsilon", epsilon));
  }
  const Dim tokens = b.shape(q)[2];
  const DType dtype = b.dtype(q), work = b.dtype(wiring::widened(b, q));
  const ValueId lengths = add(b, cast(b, wiring::reshape(b, c.in(5), {-1}), DType::i64), b.scalar(DType::i64, 1));
  // Rows behind query_seqlens are padding; without it every entry has `tokens` new ones.
  const ValueId before =
      c.has(16) ? wiring::sub(b, lengths, cast(b, wiring::reshape(b, c.in(16), {-1}), DType::i64)) : no_id;
  const Cache cache = cache_of(c, tokens, lengths, number(c, 6), c.maybe(3), before);
  // Positions of the queries: [B, S].
  const ValueId position = add(b, wiring::iota(b, count_of(b, tokens)), per_batch(b, cache.past, 2));
  if (c.integer("do_rotary", 0) != 0) {
    const ValueId at = c.has(9) ? cast(b, c.in(9), DType::i64) : position;
    const ValueId cosine = angles(c, c.in(7), at, work), sine = angles(c, c.in(8), at, work);
    const Dim turned = b.shape(c.in(7)).back() * Dim(2);
    const bool interleaved = c.integer("rotary_interleaved", 0) != 0;
    const auto turn = [&](ValueId x) {
      return cast(b, rotated(b, cast(b, x, work), cosine, sine, turned, interleaved), dtype);
    };
    q = turn(q);
    k = turn(k);
  }
  // Caches of few bits hold what is rounded; so does what is read.
  const auto through_cache = [&](size_t past_at, size_t scale, ValueId fresh, size_t present) {
    const bool rounded = c.has(scale);
    const ValueId all =
        cached(c, cache, c.maybe(past_at), rounded ? rounded_for_cache(c, fresh, past_at, scale) : fresh);
    if (c.wants(present)) c.out(present, all);
    return rounded ? cast(b, read_from_cache(c, all, scale), dtype) : all;
  };
  const ValueId keys = through_cache(3, 12, k, 1), values = through_cache(4, 13, v, 2);
  // Query i of entry b sees keys up to past[b] + i, of a window the newest ones.
  Attend options;
  options.softcap = c.real("softcap", 0);
  const bool causal = c.integer("causal", 1) != 0;
  ValueId seen = no_id;
  if (causal) {
    options.last = cache.past;
    if (const int64_t window = c.integer("local_window_size", -1); window > 0)
      options.first = wiring::sub(b, cache.past, b.constant(Tensor::scalar_i64(window - 1)));
  } else {
    const ValueId column = wiring::iota(b, wiring::extent(b, keys, 2));
    seen = b.op("Less", {column, add(b, per_batch(b, cache.past, 4), count_of(b, tokens))});
    options.bias = as_bias(b, seen, work);
  }
  if (c.has(10)) {
    ValueId more = cast(b, c.in(10), work);
    // The cache may have room for more keys than the bias speaks of; they are hidden anyway.
    const ValueId missing = wiring::sub(b, wiring::extent(b, keys, 2), wiring::extent(b, more, 3));
    const ValueId pads = wiring::concat(b, {b.integers({0}), wiring::unsqueeze(b, missing, {0})}, 0);
    more = b.op("Pad", PadAttrs{}, {more, pads, b.scalar(work, 0), b.integers({3})});
    join(b, options.bias, more);
  }
  if (c.has(11))
    options.sink = c.in(11);
  else if (c.integer("smooth_softmax", -1) == 1)
    options.sink = wiring::fill(b, b.scalar(work, 0), b.integers({heads}));
  ValueId scores = no_id;
  c.out(0, attend(c, q, keys, values, options, &scores));
  const int64_t shown = c.integer("qk_output", 0);
  if (!c.wants(3)) return;
  if (shown != 1 && shown != 2) c.fail(fmt::format("qk_output {} is neither 1 nor 2", shown));
  if (shown == 2 && options.sink != no_id) c.unsupported("weights after softmax beside a sink");
  if (causal) {
    const auto bound = [&](ValueId x) { return x == no_id ? x : per_batch(b, x, 4); };
    seen = wiring::band(b, tokens, b.shape(keys)[2], bound(options.first), bound(options.last));
  }
  // What is hidden reads as 0.
  c.out(3, shown == 1 ? wiring::where(b, seen, scores, like(b, scores, 0)) : wiring::softmax(b, scores, -1));
}

}  // namespace sinter::onnx
