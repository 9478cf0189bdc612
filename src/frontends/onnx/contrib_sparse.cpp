// Entries of domain com.microsoft for attention of which a part is left out by position: blocks, windows, selections.
// What is left out gets minus infinity; all scores are computed. Also DecoderAttention, tokens first.

#include <fmt/core.h>

#include "frontends/onnx/contrib.h"
#include "ops/indexing.h"
#include "ops/movement.h"

namespace sinter::onnx {
namespace {

using wiring::add;
using wiring::cast;
using wiring::like;
using wiring::mul;

// Rotates new queries and keys by the tables in operands `table` and `table` + 1.
void rotate(NodeContext& c, ValueId& q, ValueId& k, size_t table, ValueId positions) {
  GraphBuilder& b = c.b;
  const DType dtype = b.dtype(q), work = b.dtype(wiring::widened(b, q));
  const ValueId cosine = angles(c, c.in(table), positions, work), sine = angles(c, c.in(table + 1), positions, work);
  const Dim turned = b.shape(c.in(table)).back() * Dim(2);
  const bool interleaved = c.integer("rotary_interleaved", 0) != 0;
  for (ValueId* x : {&q, &k}) *x = cast(b, rotated(b, cast(b, *x, work), cosine, sine, turned, interleaved), dtype);
}

// Rows [L, blocks + 1] and columns [L, n] of a compressed matrix of blocks, as bool[L, blocks, blocks].
ValueId block_mask(NodeContext& c, ValueId rows, ValueId columns) {
  GraphBuilder& b = c.b;
  if (b.rank(rows) != 2 || b.rank(columns) != 2) c.fail("block indices must have rank 2");
  rows = cast(b, rows, DType::i64);
  columns = cast(b, columns, DType::i64);
  const Dim marks = b.shape(rows)[1], entries = b.shape(columns)[1];
  const ValueId block = wiring::iota(b, count_of(b, marks - Dim(1))), entry = wiring::iota(b, count_of(b, entries));
  const auto mark = [&](const Dim& from, const Dim& to) {
    return wiring::unsqueeze(b, wiring::slice(b, rows, 1, from, to), {2});  // [L, blocks, 1]
  };
  const ValueId from = b.op("LessOrEqual", {mark(0, marks - Dim(1)), entry}),
                before = b.op("Less", {entry, mark(1, marks)});
  const ValueId in_row = cast(b, b.op("And", {from, before}), DType::f32);  // [L, blocks, entries]
  const ValueId in_column =
      cast(b, b.op("Equal", {wiring::unsqueeze(b, columns, {2}), block}), DType::f32);  // [L, entries, blocks]
  const ValueId both = wiring::matmul(b, in_row, in_column);
  return b.op("Less", {like(b, both, 0), both});
}

void import_sparse_attention(NodeContext& c) {
  GraphBuilder& b = c.b;
  const int64_t heads = heads_of(c, "num_heads"), kv_heads = heads_of(c, "kv_num_heads");
  const int64_t size = positive(c, "sparse_block_size");
  Projected p = split_projected(c, c.in(0), c.maybe(1), c.maybe(2), heads, kv_heads);
  const Dim tokens = b.shape(p.q)[2];
  const DType work = b.dtype(wiring::widened(b, p.q));
  const ValueId lengths = cast(b, wiring::reshape(b, c.in(8), {-1}), DType::i64);
  const Cache cache = cache_of(c, tokens, lengths, number(c, 7), c.in(3));
  const ValueId position = add(b, wiring::iota(b, count_of(b, tokens)), per_batch(b, cache.past, 2));  // [B, S]
  if (c.integer("do_rotary", 0) != 0) rotate(c, p.q, p.k, 9, position);
  const ValueId keys = cached(c, cache, c.in(3), p.k), values = cached(c, cache, c.in(4), p.v);
  if (c.wants(1)) c.out(1, keys);
  if (c.wants(2)) c.out(2, values);
  const ValueId mask = block_mask(c, c.in(5), c.in(6));
  const ValueId last = wiring::sub(b, wiring::extent(b, mask, 1), whole(b, 1));
  const auto block_of = [&](ValueId at) { return b.op("Min", {wiring::div(b, at, whole(b, size)), last}); };
  const ValueId column = wiring::iota(b, wiring::extent(b, keys, 2));
  ValueId seen = wiring::gather(b, wiring::gather(b, mask, block_of(column), 2), block_of(position), 1);
  seen = wiring::transpose(b, seen, {1, 0, 2, 3});  // [B, layouts, S, T]
  // Layouts serve the heads in turn.
  const ValueId layout = b.op("Mod", {wiring::iota(b, whole(b, heads)), wiring::extent(b, mask, 0)});
  seen = wiring::gather(b, seen, layout, 1);
  seen = b.op("And", {seen, b.op("LessOrEqual", {column, wiring::unsqueeze(b, position, {1, 3})})});
  c.out(0, attend(c, p.q, keys, values, {.bias = as_bias(b, seen, work)}));
}

// Everybody sees a window around itself and the global tokens; global tokens see everybody, through weights of their
// own.
void import_longformer(NodeContext& c) {
  GraphBuilder& b = c.b;
  const int64_t heads = heads_of(c, "num_heads"), window = positive(c, "window");
  if (rank_of(c, 0) != 3) c.fail("input must have rank 3");
  const DType work = b.dtype(wiring::widened(b, c.in(0)));
  const ValueId padding = wiring::unsqueeze(b, cast(b, c.in(3), work), {1, 2});  // [B, 1, 1, S]
  const auto attended = [&](size_t weight, size_t bias, ValueId hidden) {
    const ValueId all = add(b, wiring::matmul(b, c.in(0), c.in(weight)), c.in(bias));
    const Dim size = floordiv(b.shape(all)[2], 3);
    const auto part = [&](int64_t k) {
      return split_heads(c, wiring::slice(b, all, 2, size * Dim(k), size * Dim(k + 1)), heads);
    };
    const ValueId q = part(0), k = part(1), v = part(2);
    return attend(c, q, k, v, {.bias = hidden});
  };
  const ValueId at = wiring::iota(b, wiring::extent(b, c.in(0), 1));
  const ValueId distance = b.op("Abs", {wiring::sub(b, wiring::unsqueeze(b, at, {1}), at)});
  const ValueId near = b.op("LessOrEqual", {distance, whole(b, window)});
  const ValueId global = b.op("Less", {like(b, c.in(6), 0), c.in(6)});  // [B, S]
  const ValueId seen = b.op("Or", {near, wiring::unsqueeze(b, global, {1, 2})});
  const ValueId local = attended(1, 2, add(b, as_bias(b, seen, work), padding));
  c.out(0, wiring::where(b, wiring::unsqueeze(b, global, {2}), attended(4, 5, padding), local));
}

// A flag that decides what is computed.
bool flag(NodeContext& c, size_t i) {
  const Tensor* t = wiring::fixed(c.b, c.in(i));
  if (!t || t->count() != 1) c.unsupported(fmt::format("flag {} must be known when the model is built", i));
  return t->get_integer(0) != 0;
}

// Tokens come first: [S, B, H]. Keys and values from the query or from another sequence, behind a cache or from it.
void import_decoder_attention(NodeContext& c) {
  GraphBuilder& b = c.b;
  const int64_t heads = heads_of(c, "num_heads");
  const bool other = flag(c, 8), cache = flag(c, 9) && flag(c, 10), masked = flag(c, 11);
  if (rank_of(c, 0) != 3 || rank_of(c, 1) != 3) c.fail("query and key must have rank 3");
  const Dim size = b.shape(c.in(0))[2];
  const auto projected = [&](ValueId x, size_t weight, const Dim& from, const Dim& to) {
    const ValueId y = wiring::matmul(b, wiring::transpose(b, x, {1, 0, 2}), c.in(weight));
    return add(b, y, wiring::slice(b, c.in(4), 0, from, to));
  };
  const ValueId q = split_heads(c, projected(c.in(0), 2, 0, size), heads);
  ValueId k = no_id, v = no_id;
  if (cache && other) {
    k = c.in(6);
    v = c.in(7);
  } else {
    const ValueId both = projected(other ? c.in(1) : c.in(0), 3, size, size * Dim(3));
    k = split_heads(c, wiring::slice(b, both, 2, 0, size), heads);
    v = split_heads(c, wiring::slice(b, both, 2, size, size * Dim(2)), heads);
    if (cache) {
      k = wiring::concat(b, {c.in(6), k}, 2);
      v = wiring::concat(b, {c.in(7), v}, 2);
    }
  }
  if (c.wants(1)) c.out(1, k);
  if (c.wants(2)) c.out(2, v);
  Attend options;
  if (masked)
    options.bias =
        wiring::unsqueeze(b, padding_bias(c, b.op("Not", {c.in(5)}), b.dtype(wiring::widened(b, q))), {1, 2});
  c.out(0, wiring::transpose(b, attend(c, q, k, v, options), {1, 0, 2}));
}

}  // namespace

// ---- selections: each query reads the places that an indexer chose ----

ValueId selected(NodeContext& c, ValueId places, ValueId counts, ValueId extent) {
  GraphBuilder& b = c.b;
  const ValueId at = cast(b, places, DType::i64);
  const ValueId rank = wiring::iota(b, wiring::extent(b, at, 1));
  const ValueId counted = b.op("Less", {rank, wiring::unsqueeze(b, cast(b, counts, DType::i64), {1})});
  const ValueId valid =
      b.op("And", {counted, b.op("And", {b.op("LessOrEqual", {whole(b, 0), at}), b.op("Less", {at, extent})})});
  const ValueId target = wiring::where(b, valid, at, extent);  // a place behind the last is cut off again
  const ValueId room = wiring::unsqueeze(b, add(b, extent, whole(b, 1)), {0});
  const ValueId shape = wiring::concat(b, {b.dims({b.shape(places)[0]}), room}, 0);
  const ValueId zeros = wiring::fill(b, b.scalar(DType::f32, 0), shape);
  const ValueId ones = wiring::fill(b, b.scalar(DType::f32, 1), wiring::shape_of(b, at));
  const ValueId marks = b.op("ScatterElements", ScatterElementsAttrs{.axis = 1}, {zeros, target, ones});
  const ValueId kept = b.op("Slice", {marks, b.integers({0}), wiring::unsqueeze(b, extent, {0}), b.integers({1})});
  return b.op("Less", {b.scalar(DType::f32, 0), kept});
}

namespace {

void import_dynamic_sparse_attention(NodeContext& c) {
  GraphBuilder& b = c.b;
  const int64_t heads = heads_of(c, "num_heads"), kv_heads = heads_of(c, "kv_num_heads");
  const std::string mode = c.string("attention_mode", "selected_only"), source = c.string("selected_kv_source", "main");
  const bool local = mode == "local_plus_selected", auxiliary = source == "auxiliary";
  if ((!local && mode != "selected_only") || (!auxiliary && source != "main") || local != auxiliary)
    c.fail(fmt::format("attention_mode '{}' with selected_kv_source '{}'", mode, source));
  if (c.has(18) || c.has(19)) c.unsupported("caches of 8-bit integers");
  if (c.integer("rotary_offset", 0) != 0) c.unsupported("rotary_offset");
  Projected p = split_projected(c, c.in(0), c.maybe(1), c.maybe(2), heads, kv_heads);
  const double epsilon = c.real("qk_norm_epsilon", 1e-6);
  if (c.has(14)) p.q = wiring::rms_norm(b, p.q, c.in(14), -1, epsilon);
  if (c.has(15)) p.k = wiring::rms_norm(b, p.k, c.in(15), -1, epsilon);
  const Shape qs = b.shape(p.q);
  const Dim batch = qs[0], tokens = qs[2];
  const DType dtype = b.dtype(p.q), work = b.dtype(wiring::widened(b, p.q));
  const ValueId lengths = add(b, cast(b, wiring::reshape(b, c.in(9), {-1}), DType::i64), whole(b, 1));
  const Cache cache = cache_of(c, tokens, lengths, number(c, 10), c.maybe(3));
  const ValueId position = add(b, wiring::iota(b, count_of(b, tokens)), per_batch(b, cache.past, 2));
  if (c.integer("do_rotary", 0) != 0) rotate(c, p.q, p.k, 11, c.has(13) ? cast(b, c.in(13), DType::i64) : position);
  ValueId keys = cached(c, cache, c.maybe(3), p.k), values = cached(c, cache, c.maybe(4), p.v);
  if (c.wants(1)) c.out(1, keys);
  if (c.wants(2)) c.out(2, values);
  const ValueId column = wiring::iota(b, wiring::extent(b, keys, 2)), row = wiring::unsqueeze(b, position, {2});
  ValueId seen = b.op("LessOrEqual", {column, row});  // [B, S, T]
  const auto chosen = [&](ValueId of) {
    const ValueId extent = wiring::extent(b, of, 2);
    const ValueId marks = selected(c, c.in(7), c.in(8), extent);
    return b.op("Reshape", {marks, wiring::concat(b, {b.dims({batch, tokens}), wiring::unsqueeze(b, extent, {0})}, 0)});
  };
  if (local) {
    const int64_t window = positive(c, "local_window_size");
    seen = b.op("And", {seen, b.op("Less", {wiring::sub(b, row, whole(b, window)), column})});
    const ValueId more_keys = c.in(5);
    const ValueId more_values = c.has(6) ? c.in(6) : more_keys;
    const ValueId more = chosen(more_keys);
    keys = wiring::concat(b, {cast(b, keys, dtype), cast(b, more_keys, dtype)}, 2);
    values = wiring::concat(b, {cast(b, values, dtype), cast(b, more_values, dtype)}, 2);
    const ValueId shape = wiring::concat(b, {b.dims({batch, tokens}), wiring::shape_of(b, column)}, 0);
    seen = wiring::concat(b, {wiring::fill(b, seen, shape), more}, 2);
  } else {
    seen = b.op("And", {seen, chosen(keys)});
  }
  Attend options;
  options.bias = wiring::unsqueeze(b, as_bias(b, seen, work), {1});
  if (c.has(16))
    options.sink = c.in(16);
  else if (c.integer("smooth_softmax", 0) != 0)
    options.sink = wiring::fill(b, b.scalar(work, 0), b.integers({heads}));
  ValueId y = attend(c, p.q, keys, values, options);
  if (options.sink == no_id) {  // a query that sees nothing gives 0
    const ValueId any = wiring::reduce(b, "Max", cast(b, seen, DType::i32), {2});
    y = wiring::where(b, b.op("Less", {like(b, any, 0), any}), y, like(b, y, 0));
  }
  c.out(0, c.integer("output_bf16", 0) != 0 ? cast(b, y, DType::bf16) : y);
}

constexpr Entry table[] = {
    {"DecoderAttention", 1, import_decoder_attention, microsoft},
    {"DynamicSparseAttention", 1, import_dynamic_sparse_attention, microsoft},
    {"LongformerAttention", 1, import_longformer, microsoft},
    {"SparseAttention", 1, import_sparse_attention, microsoft},
};

}  // namespace

std::span<const Entry> contrib_sparse_entries() { return table; }

}  // namespace sinter::onnx
