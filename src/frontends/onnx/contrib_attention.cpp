// Entries of domain com.microsoft around attention: what ONNX Runtime's transformer optimizer and model builder write.
//
// Values are brought to [batch, heads, tokens, size]; what masks becomes a bias of the scores. Masked scores get
// mask_filter_value added, as the operators define, and minus infinity where causality hides them. One file, as the
// entries share how heads, masks, caches and rotations are brought there.

#include <fmt/core.h>

#include <cmath>

#include "frontends/onnx/contrib.h"
#include "ops/cast.h"
#include "ops/indexing.h"
#include "ops/movement.h"
#include "ops/reduction.h"
#include "ops/selection.h"

namespace sinter::onnx {

using wiring::add;
using wiring::cast;
using wiring::like;
using wiring::mul;

// [B, 1, 1, 1] or [B, 1]
ValueId per_batch(GraphBuilder& b, ValueId x, size_t rank) {
  return wiring::unsqueeze(b, x, wiring::axis_range(1, rank));
}

ValueId number(NodeContext& c, size_t i) { return as_scalar(c, c.in(i)); }

int64_t heads_of(NodeContext& c, std::string_view name) {
  const int64_t heads = c.integer(name, 0);
  if (heads < 1 || heads > INT32_MAX) c.fail(fmt::format("{} is {}, it must be positive", name, heads));
  return heads;
}

// Scores' bias of padding that hides keys: 0 where kept, else mask_filter_value.
ValueId padding_bias(NodeContext& c, ValueId kept, DType dtype) {
  const double filter = c.real("mask_filter_value", -10000);
  return wiring::where(c.b, kept, c.b.scalar(dtype, 0), c.b.scalar(dtype, filter));
}

// mask: lengths [B], ends and starts [2B], keys [B, T], [B, S, T] or [B, 1, max, max] of which the newest rows count.
ValueId mask_bias(NodeContext& c, ValueId mask, const Dim& batch, const Dim& queries, const Dim& keys, DType dtype) {
  GraphBuilder& b = c.b;
  const size_t rank = b.rank(mask);
  if (rank == 1) {
    const ValueId m = cast(b, mask, DType::i64);
    const Dim count = b.shape(m)[0];
    const ValueId column = wiring::iota(b, count_of(b, keys));
    const auto limit = [&](ValueId v) { return per_batch(b, v, 4); };
    // Lengths, and cumulated ones behind them.
    if (count == batch * Dim(3) + Dim(2))
      return padding_bias(c, b.op("Less", {column, limit(wiring::slice(b, m, 0, 0, batch))}), dtype);
    // Extents that nothing is known of are those of lengths.
    if (!(count == batch * Dim(2))) return padding_bias(c, b.op("Less", {column, limit(m)}), dtype);
    const ValueId before = b.op("Less", {column, limit(wiring::slice(b, m, 0, 0, batch))});
    const ValueId from = b.op("LessOrEqual", {limit(wiring::slice(b, m, 0, batch, count)), column});
    return padding_bias(c, b.op("And", {before, from}), dtype);
  }
  ValueId kept = b.dtype(mask) == DType::boolean ? mask : b.op("Less", {like(b, mask, 0), mask});
  if (rank == 2) {
    kept = wiring::unsqueeze(b, kept, {1, 2});
  } else if (rank == 3) {
    kept = wiring::unsqueeze(b, kept, {1});
  } else if (rank == 4) {
    kept = wiring::slice(b, wiring::slice(b, kept, 2, keys - queries, keys), 3, 0, keys);
  } else {
    c.fail(fmt::format("the mask has rank {}, it must be 1 to 4", rank));
  }
  return padding_bias(c, kept, dtype);
}

ValueId attend(NodeContext& c, ValueId q, ValueId k, ValueId v, const Attend& options, ValueId* scores_out) {
  GraphBuilder& b = c.b;
  const DType dtype = b.dtype(q);
  const ValueId wide = wiring::widened(b, q);
  const DType work = b.dtype(wide);
  const Shape qs = b.shape(q), ks = b.shape(k);
  const Heads heads = head_groups(c, qs[1], ks[1]);
  const auto shared = [&](ValueId x) {
    const ValueId y = cast(b, x, work);
    return heads.grouped ? wiring::unsqueeze(b, y, {2}) : y;
  };
  const double given = c.real("scale", 0);
  const ValueId scale = given != 0 ? b.scalar(work, given) : usual_scale(c, qs[3], work);
  const ValueId scaled = mul(b, grouped(c, wide, heads), scale);
  ValueId scores = wiring::matmul(b, scaled, shared(k), true);
  if (options.softcap > 0) {
    const ValueId cap = b.scalar(work, options.softcap);
    scores = mul(b, b.op("Tanh", {wiring::div(b, scores, cap)}), cap);
  }
  if (options.bias != no_id) {
    ValueId bias = cast(b, options.bias, work);
    // One bias for all heads or one for each: told apart where it is known, else written out.
    if (heads.grouped && b.rank(bias) == 4 && !b.shape(bias)[1].is_constant())
      bias = b.op("Expand", {bias, b.dims({1, qs[1], 1, 1})});
    scores = add(b, scores, grouped(c, bias, heads));
  }
  if (options.first != no_id || options.last != no_id) {
    const size_t rank = b.rank(scores);
    const auto bound = [&](ValueId x) { return x == no_id || b.rank(x) == 0 ? x : per_batch(b, x, rank); };
    scores = hidden_but(b, wiring::band(b, qs[2], ks[2], bound(options.first), bound(options.last)), scores);
  }
  if (scores_out) *scores_out = cast(b, ungrouped(c, scores, heads), dtype);
  if (options.sink == no_id) {
    scores = wiring::softmax(b, scores, -1);
  } else {
    // [H] stands before the keys as [B, H, S, 1].
    Shape column = b.shape(scores);
    const Dim keys = column.back();
    column.back() = 1;
    ValueId sink = wiring::unsqueeze(b, cast(b, options.sink, work), {1, 2});
    if (heads.grouped) sink = wiring::reshape(b, sink, {heads.keys, heads.shared, 1, 1});
    sink = b.op("Expand", {sink, b.dims(column)});
    const auto last = static_cast<int64_t>(column.size()) - 1;
    const ValueId weights = wiring::softmax(b, wiring::concat(b, {sink, scores}, last), -1);
    scores = wiring::slice(b, weights, last, 1, keys + Dim(1));
  }
  const ValueId y = cast(b, ungrouped(c, wiring::matmul(b, scores, shared(v)), heads), dtype);
  const Shape ys = b.shape(y);
  return wiring::reshape(b, wiring::transpose(b, y, {0, 2, 1, 3}), {ys[0], ys[2], ys[1] * ys[3]});
}

void join(GraphBuilder& b, ValueId& bias, ValueId more) { bias = bias == no_id ? more : add(b, bias, more); }

// ---- a cache whose filled part differs by batch entry ----

Cache cache_of(NodeContext& c, const Dim& tokens, ValueId lengths, ValueId total, ValueId past_key, ValueId past) {
  GraphBuilder& b = c.b;
  const bool padded = past != no_id;
  const ValueId zero = b.scalar(DType::i64, 0);
  if (!padded) {
    // All tokens new: a prompt, padded on the right where it is short.
    const ValueId fresh = count_of(b, tokens), prompt = b.op("Equal", {total, fresh});
    past = wiring::where(b, prompt, zero, wiring::sub(b, lengths, fresh));
  }
  Cache cache{b.op("Max", {past, zero}), no_id, padded};
  // As the extent of something, it is one that others can be told by.
  if (past_key != no_id)
    cache.room = wiring::extent(b, wiring::iota(b, b.op("Max", {wiring::extent(b, past_key, 2), total})), 0);
  return cache;
}

ValueId cached(NodeContext& c, const Cache& cache, ValueId old, ValueId fresh) {
  GraphBuilder& b = c.b;
  if (old == no_id || cache.room == no_id) return fresh;
  const PutRowsAttrs attrs{.axis = 2, .cut = cache.padded};
  return b.op("PutRows", attrs, {old, cast(b, fresh, b.dtype(old)), cache.past, cache.room});
}

ValueId angles(NodeContext& c, ValueId table, ValueId positions, DType dtype) {
  const ValueId rows = wiring::gather(c.b, cast(c.b, table, dtype), positions, 0);
  return wiring::unsqueeze(c.b, rows, {1});
}

Projected split_projected(NodeContext& c, ValueId q, ValueId k, ValueId v, int64_t heads, int64_t kv_heads) {
  GraphBuilder& b = c.b;
  if (heads % kv_heads != 0) c.fail(fmt::format("{} heads are no multiple of {} key heads", heads, kv_heads));
  if (b.rank(q) != 3) c.fail("query must have rank 3");
  if ((k == no_id) != (v == no_id)) c.fail("key and value must be given together");
  if (k == no_id) {
    const Dim size = floordiv(b.shape(q)[2], heads + 2 * kv_heads);
    const Dim q_size = size * Dim(heads), kv_size = size * Dim(kv_heads);
    const ValueId all = q;
    q = wiring::slice(b, all, 2, 0, q_size);
    k = wiring::slice(b, all, 2, q_size, q_size + kv_size);
    v = wiring::slice(b, all, 2, q_size + kv_size, q_size + kv_size * Dim(2));
  }
  if (b.rank(k) != 3 || b.rank(v) != 3) c.fail("key and value must have rank 3");
  return {split_heads(c, q, heads), split_heads(c, k, kv_heads), split_heads(c, v, kv_heads)};
}

namespace {

// ---- Attention: one weight for queries, keys and values ----

// [2, B, H, T, D] of k and v.
ValueId both(GraphBuilder& b, ValueId k, ValueId v) {
  return wiring::concat(b, {wiring::unsqueeze(b, k, {0}), wiring::unsqueeze(b, v, {0})}, 0);
}

// Rotary embedding with angles place / 10000^(2i / size), for operators without tables of them.
void rotate_by_place(NodeContext& c, ValueId& q, ValueId& k, ValueId start) {
  GraphBuilder& b = c.b;
  const Shape s = b.shape(q);
  const int64_t given = c.integer("rotary_embedding_dim", 0);
  if (given < 0 || given > INT32_MAX) c.fail(fmt::format("rotary_embedding_dim is {}", given));
  const auto turned = (given > 0 ? Dim(given) : s[3]).as_constant();
  if (!turned || *turned < 2 || *turned % 2 != 0 || *turned > 1 << 20)
    c.unsupported("do_rotary needs an even head size that is known when the model is built");
  std::vector<double> rates;
  for (int64_t i = 0; i < *turned; i += 2)
    rates.push_back(std::pow(10000.0, -static_cast<double>(i) / static_cast<double>(*turned)));
  const ValueId place = add(b, wiring::iota(b, count_of(b, s[2])), start);
  const ValueId angle = mul(b, wiring::unsqueeze(b, cast(b, place, DType::f32), {1}), floats(c, rates));
  for (ValueId* x : {&q, &k}) {
    const DType dtype = b.dtype(*x);
    const ValueId turned_x =
        rotated(b, cast(b, *x, DType::f32), b.op("Cos", {angle}), b.op("Sin", {angle}), *turned, false);
    *x = cast(b, turned_x, dtype);
  }
}

// A cache of fixed room with the new tokens behind `past` old ones, along `axis`. It may lie over the old one.
ValueId in_buffer(NodeContext& c, ValueId old, ValueId fresh, int64_t axis, ValueId past) {
  return c.b.op("PutRows", PutRowsAttrs{.axis = axis}, {old, cast(c.b, fresh, c.b.dtype(old)), past});
}

// Causality by the past, which buffers know when they run (past_length, else no_id), and what else hides places of
// buffers: those behind the tokens.
void hide(NodeContext& c, Attend& options, const Shape& queries, const Shape& keys, ValueId past_length,
          const Dim& past, DType work) {
  GraphBuilder& b = c.b;
  const bool shared = past_length != no_id;
  if (c.integer("unidirectional", 0) != 0) {
    options.last = shared ? past_length : count_of(b, past);
  } else if (shared) {
    const ValueId total = add(b, past_length, count_of(b, queries[2]));
    join(b, options.bias, as_bias(b, b.op("Less", {wiring::iota(b, count_of(b, keys[2])), total}), work));
  }
}

// A mask of keys or pairs, or a bias, lengthened to the room of a buffer.
ValueId lengthened(NodeContext& c, ValueId mask, const Dim& keys) {
  GraphBuilder& b = c.b;
  const size_t rank = b.rank(mask);
  if (rank < 2 || (rank == 4 && b.dtype(mask) == DType::i32)) return mask;
  const auto axis = static_cast<int64_t>(rank) - 1;
  const ValueId missing = wiring::sub(b, count_of(b, keys), wiring::extent(b, mask, axis));
  const ValueId pads = wiring::concat(b, {b.integers({0}), wiring::unsqueeze(b, missing, {0})}, 0);
  const ValueId longer = b.op("Pad", PadAttrs{}, {mask, pads, like(b, mask, 0), b.integers({axis})});
  Shape shape = b.shape(mask);
  shape.back() = keys;
  return wiring::reshape(b, longer, shape);
}

// Rows of beams continue other rows: token t of row (batch, beam) lies in row beams[batch, beam, t] of its batch.
ValueId of_beams(NodeContext& c, ValueId x, ValueId beams, ValueId past) {
  GraphBuilder& b = c.b;
  if (b.rank(beams) != 3) c.fail("cache_indirection must have rank 3");
  const Shape s = b.shape(x), n = b.shape(beams);
  const ValueId at = wiring::iota(b, wiring::extent(b, x, 2)), row = wiring::iota(b, count_of(b, s[0]));
  const ValueId width = count_of(b, n[1]);
  const ValueId base = mul(b, wiring::div(b, row, width), width);  // first row of the batch entry
  const ValueId other = wiring::reshape(b, cast(b, beams, DType::i64), {s[0], n[2]});
  const ValueId place = b.op("Min", {at, wiring::sub(b, count_of(b, n[2]), b.scalar(DType::i64, 1))});
  const ValueId chosen = add(b, wiring::unsqueeze(b, base, {1}), wiring::gather(b, other, place, 1));
  const ValueId from = wiring::where(b, b.op("Less", {at, past}), chosen, wiring::unsqueeze(b, row, {1}));
  const ValueId where = wiring::fill(b, at, wiring::shape_of(b, from));
  const ValueId index = wiring::concat(b, {wiring::unsqueeze(b, from, {2}), wiring::unsqueeze(b, where, {2})}, 2);
  const ValueId rows = wiring::transpose(b, x, {0, 2, 1, 3});
  return wiring::transpose(b, b.op("GatherND", GatherNDAttrs{}, {rows, index}), {0, 2, 1, 3});
}

void attention_of(NodeContext& c, ValueId projected, const std::vector<Dim>& sizes, size_t mask, size_t past_at,
                  size_t bias_at, size_t length_at = SIZE_MAX) {
  GraphBuilder& b = c.b;
  const int64_t heads = heads_of(c, "num_heads");
  const auto part = [&](const Dim& from, const Dim& size) {
    return split_heads(c, wiring::slice(b, projected, 2, from, from + size), heads);
  };
  ValueId q = part(0, sizes[0]);
  ValueId k = part(sizes[0], sizes[1]), v = part(sizes[0] + sizes[1], sizes[2]);
  Dim past = 0;
  const bool shared = c.integer("past_present_share_buffer", 0) != 0 && c.has(past_at);
  if (shared && !c.has(length_at)) c.fail("past_sequence_length is missing");
  if (c.has(past_at) && rank_of(c, past_at) != 5) c.fail("past must have rank 5");
  if (c.integer("do_rotary", 0) != 0) {
    // Angles of the usual base, as the operator has no tables.
    ValueId start = b.scalar(DType::i64, 0);
    if (shared)
      start = number(c, length_at);
    else if (c.has(past_at))
      start = wiring::extent(b, c.in(past_at), 3);
    rotate_by_place(c, q, k, start);
  }
  const auto half = [&](ValueId both, int64_t which) {
    return wiring::squeeze(b, wiring::slice(b, both, 0, which, which + 1), {0});
  };
  const ValueId length = shared ? number(c, length_at) : no_id;
  ValueId present = no_id;
  if (shared) {
    present = in_buffer(c, c.in(past_at), both(b, k, v), 3, length);
    k = half(present, 0);
    v = half(present, 1);
  } else {
    if (c.has(past_at)) {
      past = b.shape(c.in(past_at))[3];
      k = wiring::concat(b, {half(c.in(past_at), 0), k}, 2);
      v = wiring::concat(b, {half(c.in(past_at), 1), v}, 2);
    }
    if (c.wants(1)) present = both(b, k, v);
  }
  if (c.wants(1)) c.out(1, present);
  const Shape qs = b.shape(q), ks = b.shape(k);
  const DType work = b.dtype(wiring::widened(b, q));
  Attend options;
  const auto long_enough = [&](size_t i) { return shared ? lengthened(c, c.in(i), ks[2]) : c.in(i); };
  if (c.has(mask)) join(b, options.bias, mask_bias(c, long_enough(mask), qs[0], qs[2], ks[2], work));
  if (c.has(bias_at)) join(b, options.bias, cast(b, long_enough(bias_at), work));
  hide(c, options, qs, ks, length, past, work);
  c.out(0, attend(c, q, k, v, options));
}

std::vector<Dim> projected_sizes(NodeContext& c, const Dim& whole) {
  const auto given = c.integers("qkv_hidden_sizes");
  if (given.empty()) return {floordiv(whole, 3), floordiv(whole, 3), floordiv(whole, 3)};
  if (given.size() != 3) c.fail(fmt::format("qkv_hidden_sizes has {} extents, it must have 3", given.size()));
  for (int64_t size : given)
    if (size < 1 || size > INT32_MAX) c.fail(fmt::format("an extent of qkv_hidden_sizes is {}", size));
  return {given[0], given[1], given[2]};
}

void import_attention(NodeContext& c) {
  GraphBuilder& b = c.b;
  if (rank_of(c, 0) != 3 || rank_of(c, 1) != 2) c.fail("input must have rank 3 and weights rank 2");
  ValueId projected = wiring::matmul(b, c.in(0), c.in(1));
  if (c.has(2)) projected = add(b, projected, c.in(2));
  attention_of(c, projected, projected_sizes(c, b.shape(c.in(1))[1]), 3, 4, 5, 6);
}

// The same with 8-bit input and weights.
void import_quantized_attention(NodeContext& c) {
  GraphBuilder& b = c.b;
  if (rank_of(c, 0) != 3 || rank_of(c, 1) != 2) c.fail("input must have rank 3 and weights rank 2");
  const ValueId product = wiring::matmul_integer(b, c.in(0), c.maybe(6), c.in(1), c.maybe(7));
  const ValueId sum = cast(b, product, DType::f32);
  const ValueId scale =
      mul(b, wiring::scalar_of(b, cast(b, c.in(3), DType::f32)),
          b.rank(c.in(4)) == 1 && b.shape(c.in(4))[0] == Dim(1) ? wiring::scalar_of(b, cast(b, c.in(4), DType::f32))
                                                                : cast(b, c.in(4), DType::f32));
  const ValueId y = add(b, mul(b, sum, scale), cast(b, c.in(2), DType::f32));
  attention_of(c, cast(b, y, b.dtype(c.in(2))), projected_sizes(c, b.shape(c.in(1))[1]), 5, 8, SIZE_MAX);
}

// ---- MultiHeadAttention: queries, keys and values projected already ----

void import_multi_head(NodeContext& c) {
  GraphBuilder& b = c.b;
  const int64_t heads = heads_of(c, "num_heads");
  ValueId q = c.in(0), k = c.maybe(1), v = c.maybe(2);
  const size_t rank = rank_of(c, 0);
  // Slice `which` of axis 3 of [B, S, H, n, D] as [B, S, H * D].
  const auto packed = [&](ValueId x, int64_t which) {
    const Shape s = b.shape(x);
    return wiring::reshape(b, wiring::slice(b, x, 3, which, which + 1), {s[0], s[1], s[2] * s[4]});
  };
  if (rank == 5) {
    if (k != no_id || v != no_id) c.fail("key and value must be absent when query holds all three");
    k = packed(q, 1);
    v = packed(q, 2);
    q = packed(q, 0);
  } else if (rank != 3) {
    c.fail(fmt::format("query has rank {}, it must be 3 or 5", rank));
  } else if (k == no_id) {
    c.fail("key is missing");
  } else if (b.rank(k) == 5) {
    if (v != no_id) c.fail("value must be absent when key holds both");
    v = packed(k, 1);
    k = packed(k, 0);
  }
  if (v == no_id) c.fail("value is missing");
  const bool split = b.rank(k) == 4;  // [B, H, T, D] already, of another sequence
  if (b.rank(v) != b.rank(k) || (!split && b.rank(k) != 3)) c.fail("key and value must both have rank 3 or rank 4");
  if (c.has(3)) {
    const Dim size = b.shape(q)[2];
    q = add(b, q, wiring::slice(b, c.in(3), 0, 0, size));
    if (!split) {
      const Dim k_size = b.shape(k)[2], v_size = b.shape(v)[2];
      k = add(b, k, wiring::slice(b, c.in(3), 0, size, size + k_size));
      v = add(b, v, wiring::slice(b, c.in(3), 0, size + k_size, size + k_size + v_size));
    }
  }
  q = split_heads(c, q, heads);
  const auto of_heads = [&](ValueId x) {
    if (!split) return split_heads(c, x, heads);
    const Shape s = b.shape(x);
    return s[1].is_constant() ? x : wiring::reshape(b, x, {s[0], heads, s[2], s[3]});
  };
  k = of_heads(k);
  v = of_heads(v);
  if (c.has(6) != c.has(7)) c.fail("past_key and past_value must be given together");
  Dim past = 0;
  // With the length of the past, caches are buffers of fixed room.
  const bool shared = c.has(8) && c.has(6);
  const ValueId length = shared ? number(c, 8) : no_id;
  if (c.has(6)) {
    if (rank_of(c, 6) != 4 || rank_of(c, 7) != 4) c.fail("past_key and past_value must have rank 4");
    past = b.shape(c.in(6))[2];
    if (shared) {
      k = in_buffer(c, c.in(6), k, 2, length);
      v = in_buffer(c, c.in(7), v, 2, length);
    } else {
      k = wiring::concat(b, {c.in(6), k}, 2);
      v = wiring::concat(b, {c.in(7), v}, 2);
    }
  }
  if (c.wants(1)) c.out(1, k);
  if (c.wants(2)) c.out(2, v);
  if (c.has(9)) {
    const ValueId before = shared ? length : count_of(b, past);
    k = of_beams(c, k, c.in(9), before);
    v = of_beams(c, v, c.in(9), before);
  }
  const Shape qs = b.shape(q), ks = b.shape(k);
  const DType work = b.dtype(wiring::widened(b, q));
  Attend options;
  const auto long_enough = [&](size_t i) { return shared ? lengthened(c, c.in(i), ks[2]) : c.in(i); };
  if (c.has(4)) join(b, options.bias, mask_bias(c, long_enough(4), qs[0], qs[2], ks[2], work));
  if (c.has(5)) join(b, options.bias, cast(b, long_enough(5), work));
  hide(c, options, qs, ks, length, past, work);
  ValueId scores = no_id;
  c.out(0, attend(c, q, k, v, options, &scores));
  if (c.wants(3)) c.out(3, scores);
}

// One token at a time, with the operands in another order. The past's length says something of buffers alone.
void import_decoder_multi_head(NodeContext& c) {
  const bool shared = c.integer("past_present_share_buffer", 0) != 0;
  if (shared && !c.has(7)) c.fail("past_sequence_length is missing");
  NodeContext other = c.with({c.in(0), c.maybe(1), c.maybe(2), c.maybe(10), c.maybe(3), c.maybe(4), c.maybe(5),
                              c.maybe(6), shared ? c.in(7) : no_id, c.maybe(9)},
                             c.opset);
  import_multi_head(other);
  c.out(other.results());
}

// One token at a time through weights of its own.
void import_decoder_self(NodeContext& c) {
  if (c.has(8)) c.unsupported("cache_indirection");
  if (c.integer("past_present_share_buffer", 0) != 0)
    c.unsupported("caches in the order of one device's kernels (past_present_share_buffer); export without");
  import_attention(c);
}

// ---- tokens without padding: rows of all sequences, one after the other ----

// token_offset [B, S]: places of the tokens that count, in order, then of the others.
struct Packing {
  Dim batch, tokens;
  ValueId places;  // i64[T, 1] in [0, B * S)
};

Packing packing_of(NodeContext& c, ValueId offsets, const Dim& rows) {
  GraphBuilder& b = c.b;
  if (b.rank(offsets) != 2) c.fail("token_offset must have rank 2");
  const Shape s = b.shape(offsets);
  const ValueId flat = wiring::reshape(b, cast(b, offsets, DType::i64), {s[0] * s[1]});
  return {s[0], s[1], wiring::unsqueeze(b, wiring::slice(b, flat, 0, 0, rows), {1})};
}

// [T, ...] to [B, S, ...], zero where no token counts.
ValueId padded(NodeContext& c, ValueId x, const Packing& p) {
  GraphBuilder& b = c.b;
  Shape shape = b.shape(x);
  shape[0] = p.batch * p.tokens;
  const ValueId zeros = wiring::fill(b, like(b, x, 0), b.dims(shape));
  const ValueId all = b.op("ScatterND", ScatterNDAttrs{}, {zeros, p.places, x});
  shape[0] = p.tokens;
  shape.insert(shape.begin(), p.batch);
  return wiring::reshape(b, all, shape);
}

// [B, S, H] to [T, H]
ValueId unpadded(NodeContext& c, ValueId x, const Packing& p) {
  const Shape s = c.b.shape(x);
  return c.b.op("GatherND", GatherNDAttrs{}, {wiring::reshape(c.b, x, {s[0] * s[1], s[2]}), p.places});
}

}  // namespace

ValueId padded_rows(NodeContext& c, ValueId x, ValueId offsets) {
  return padded(c, x, packing_of(c, offsets, c.b.shape(x)[0]));
}

namespace {

void import_restore_padding(NodeContext& c) {
  const size_t rank = rank_of(c, 0, 2);
  if (rank != 2) c.fail(fmt::format("the operand has rank {}, it must be 2", rank));
  c.out(0, padded_rows(c, c.in(0), c.in(1)));
}

void import_remove_padding(NodeContext& c) {
  GraphBuilder& b = c.b;
  if (rank_of(c, 0) != 3) c.fail("input must have rank 3");
  const Shape s = b.shape(c.in(0));
  const ValueId counts = cast(b, c.in(1), DType::i64);
  const ValueId column = wiring::iota(b, count_of(b, s[1]));
  const ValueId valid = wiring::reshape(b, b.op("Less", {column, per_batch(b, counts, 2)}), {s[0] * s[1]});
  const auto places = [&](ValueId flags) { return wiring::squeeze(b, b.op("NonZero", {flags}), {0}); };
  const ValueId kept = places(valid);
  c.out(0, wiring::gather(b, wiring::reshape(b, c.in(0), {s[0] * s[1], s[2]}), kept, 0));
  if (c.wants(1)) {
    const ValueId all = wiring::concat(b, {kept, places(b.op("Not", {valid}))}, 0);
    c.out(1, cast(b, wiring::reshape(b, all, {s[0], s[1]}), DType::i32));
  }
  if (c.wants(2)) {
    const ValueId sums = b.op("CumSum", CumulativeAttrs{}, {counts, b.constant(Tensor::scalar_i64(0))});
    c.out(2, cast(b, wiring::concat(b, {b.integers({0}), sums}, 0), DType::i32));
  }
  if (c.wants(3)) c.out(3, cast(b, wiring::reduce(b, "Max", counts, {0}), DType::i32));
}

// q, k, v of [T, H * D]; sums: where sequences begin, and the end.
void packed_attention(NodeContext& c, ValueId q, ValueId k, ValueId v, size_t offsets, size_t sums, size_t bias) {
  GraphBuilder& b = c.b;
  const int64_t heads = heads_of(c, "num_heads");
  const Packing p = packing_of(c, c.in(offsets), b.shape(q)[0]);
  const auto whole = [&](ValueId x) { return split_heads(c, padded(c, x, p), heads); };
  const ValueId marks = cast(b, c.in(sums), DType::i64);
  const ValueId counts =
      wiring::sub(b, wiring::slice(b, marks, 0, 1, p.batch + Dim(1)), wiring::slice(b, marks, 0, 0, p.batch));
  const ValueId column = wiring::iota(b, count_of(b, p.tokens));
  const DType work = b.dtype(wiring::widened(b, q));
  Attend options;
  options.bias = padding_bias(c, b.op("Less", {column, per_batch(b, counts, 4)}), work);
  if (c.has(bias)) join(b, options.bias, cast(b, c.in(bias), work));
  c.out(0, unpadded(c, attend(c, whole(q), whole(k), whole(v), options), p));
}

void import_packed_attention(NodeContext& c) {
  GraphBuilder& b = c.b;
  if (rank_of(c, 0) != 2 || rank_of(c, 1) != 2) c.fail("input and weights must have rank 2");
  const ValueId all = add(b, wiring::matmul(b, c.in(0), c.in(1)), c.in(2));
  const auto sizes = projected_sizes(c, b.shape(c.in(1))[1]);
  const Dim second = sizes[0] + sizes[1];
  packed_attention(c, wiring::slice(b, all, 1, 0, sizes[0]), wiring::slice(b, all, 1, sizes[0], second),
                   wiring::slice(b, all, 1, second, second + sizes[2]), 3, 4, 5);
}

void import_packed_multi_head(NodeContext& c) {
  GraphBuilder& b = c.b;
  ValueId q = c.in(0), k = c.maybe(1), v = c.maybe(2);
  if (k == no_id && v == no_id) {
    if (b.rank(q) != 4) c.fail("query must hold all three as [T, H, 3, D] when key and value are absent");
    const Shape s = b.shape(q);
    const auto part = [&](int64_t which) {
      return wiring::reshape(b, wiring::slice(b, c.in(0), 2, which, which + 1), {s[0], s[1] * s[3]});
    };
    q = part(0);
    k = part(1);
    v = part(2);
  }
  if (k == no_id || v == no_id) c.fail("key and value must be given together");
  if (b.rank(q) != 2 || b.rank(k) != 2 || b.rank(v) != 2) c.fail("query, key and value must have rank 2");
  if (c.has(3)) {
    Dim from = 0;
    for (ValueId* x : {&q, &k, &v}) {
      const Dim size = b.shape(*x)[1];
      *x = add(b, *x, wiring::slice(b, c.in(3), 0, from, from + size));
      from = from + size;
    }
  }
  packed_attention(c, q, k, v, 4, 5, 6);
}

// ---- embedding ----

struct Tables {
  ValueId word, position, segment, gamma, beta;  // segment may be absent
};

// Operands 0, 1, 7 and 8 are tokens, segments, mask and positions of both forms.
void embed_layer_norm(NodeContext& c, const Tables& t, ValueId places) {
  GraphBuilder& b = c.b;
  if (rank_of(c, 0) != 2) c.fail("input_ids must have rank 2");
  const Dim tokens = b.shape(c.in(0))[1];
  const ValueId at =
      places != no_id ? wiring::gather(b, t.position, places, 0) : wiring::slice(b, t.position, 0, 0, tokens);
  ValueId sum = add(b, wiring::gather(b, t.word, c.in(0), 0), at);
  if (t.segment != no_id) {
    if (!c.has(1)) c.fail("segment_ids are missing");
    sum = add(b, sum, wiring::gather(b, t.segment, c.in(1), 0));
  }
  c.out(0, wiring::layer_norm(b, sum, t.gamma, t.beta, -1, c.real("epsilon", 1e-12)).y);
  if (c.wants(1)) {
    // How many tokens count, per batch entry; none without a mask.
    const ValueId mask = c.has(7) ? cast(b, c.in(7), DType::i32)
                                  : wiring::fill(b, b.scalar(DType::i32, 0), wiring::shape_of(b, c.in(0)));
    c.out(1, wiring::reduce(b, "Sum", mask, {1}, false));
  }
  if (c.wants(2)) c.out(2, sum);
}

void import_embed_layer_norm(NodeContext& c) {
  embed_layer_norm(c, {c.in(2), c.in(3), c.maybe(4), c.in(5), c.in(6)}, c.maybe(8));
}

// Tables of 8 bits: scales are operands 8 to 12, zero points 13 to 17.
void import_quantized_embed_layer_norm(NodeContext& c) {
  const auto table = [&](size_t i) {
    if (!c.has(i)) return no_id;
    return c.b.op("DequantizeLinear", DequantizeAttrs{.to = c.b.dtype(c.in(i + 6))},
                  {c.in(i), wiring::scalar_of(c.b, c.in(i + 6)), wiring::scalar_of(c.b, c.in(i + 11))});
  };
  embed_layer_norm(c, {table(2), table(3), table(4), table(5), table(6)}, no_id);
}

// The default domain's operators, without what is new here.
void import_linear_attention_here(NodeContext& c) {
  if (c.integer("state_window", 0) != 0) c.unsupported("state_window");
  import_linear_attention(c);
}

void import_causal_conv(NodeContext& c) {
  for (const char* name :
       {"input_channel_offset", "input_channels", "state_length", "state_update_capacity", "state_window"})
    if (c.integer(name, 0) != 0) c.unsupported(name);
  if (c.integer("ndim", 1) != 1) c.unsupported("ndim other than 1");
  if (c.integer("channels_last", 0) == 0) return c.out(imported_as(c, "", "CausalConvWithState", 27, c.all()));
  // [B, L, channels...], and states alike.
  GraphBuilder& b = c.b;
  const Shape given = b.shape(c.in(0));
  if (given.size() < 3) c.fail(fmt::format("input has rank {}, it must be at least 3", given.size()));
  const auto turned = [&](ValueId x) {
    const Shape s = b.shape(x);
    Dim channels = 1;
    for (size_t k = 2; k < s.size(); ++k) channels = channels * s[k];
    return wiring::transpose(b, wiring::reshape(b, x, {s[0], s[1], channels}), {0, 2, 1});
  };
  Ids operands = c.all();
  operands[0] = turned(operands[0]);
  if (c.has(3)) operands[3] = turned(operands[3]);
  const Ids results = imported_as(c, "", "CausalConvWithState", 27, std::move(operands));
  for (size_t o = 0; o < results.size(); ++o) {
    const ValueId y = wiring::transpose(b, results[o], {0, 2, 1});
    Shape s = given;
    s[1] = b.shape(y)[1];
    c.out(o, wiring::reshape(b, y, s));
  }
}

constexpr Entry table[] = {
    {"Attention", 1, import_attention, microsoft},
    {"CausalConvWithState", 1, import_causal_conv, microsoft},
    {"DecoderMaskedMultiHeadAttention", 1, import_decoder_multi_head, microsoft},
    {"DecoderMaskedSelfAttention", 1, import_decoder_self, microsoft},
    {"EmbedLayerNormalization", 1, import_embed_layer_norm, microsoft},
    {"GroupQueryAttention", 1, import_group_query, microsoft},
    {"LinearAttention", 1, import_linear_attention_here, microsoft},
    {"MultiHeadAttention", 1, import_multi_head, microsoft},
    {"PackedAttention", 1, import_packed_attention, microsoft},
    {"PackedMultiHeadAttention", 1, import_packed_multi_head, microsoft},
    {"QAttention", 1, import_quantized_attention, microsoft},
    {"QEmbedLayerNormalization", 1, import_quantized_embed_layer_norm, microsoft},
    {"RemovePadding", 1, import_remove_padding, microsoft},
    {"RestorePadding", 1, import_restore_padding, microsoft},
};

}  // namespace

std::span<const Entry> contrib_attention_entries() { return table; }

}  // namespace sinter::onnx
