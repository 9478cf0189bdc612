// SparseAttentionIndexer of domain com.microsoft: which keys each query of a sparse attention may read, told from small
// queries and keys of its own. Policy "qsa" chooses blocks of tokens, "csa" entries that stand for windows of tokens.

#include <fmt/core.h>

#include "frontends/onnx/contrib.h"
#include "ops/indexing.h"
#include "ops/selection.h"

namespace sinter::onnx {
namespace {

using wiring::add;
using wiring::cast;
using wiring::div;
using wiring::like;
using wiring::mul;
using wiring::sub;

struct Indexer {
  int64_t ratio;
  double epsilon;
  Dim size;       // of a head
  ValueId q;      // f32[B, S, N, D], normed
  ValueId fresh;  // new keys [B, S, ...]
  ValueId past;   // i64 scalar: rows of past_key that count
  bool fixed;     // past_key has room for more
  ValueId norm;   // of keys
};

// Rows of a table [max, R] or [B, max, R] at positions i64[B, n], in f32 [B, n, R]; positions beyond it are its last.
ValueId rows_at(NodeContext& c, size_t operand, ValueId positions) {
  GraphBuilder& b = c.b;
  const ValueId all = cast(b, c.in(operand), DType::f32);
  const auto axis = static_cast<int64_t>(b.rank(all)) - 2;
  if (axis != 0 && axis != 1) c.fail("cos_cache and sin_cache must have rank 2 or 3");
  const ValueId last = sub(b, wiring::extent(b, all, axis), whole(b, 1));
  const ValueId at = b.op("Max", {b.op("Min", {positions, last}), whole(b, 0)});
  if (axis == 0) return wiring::gather(b, all, at, 0);
  return b.op("GatherND", GatherNDAttrs{.batch_dims = 1}, {all, wiring::unsqueeze(b, at, {2})});
}

// The leading channels of x [B, n, H, D], halves against each other; the tables are as wide as what turns.
ValueId turned_in_front(NodeContext& c, ValueId x, ValueId positions) {
  GraphBuilder& b = c.b;
  const Dim width = b.shape(c.in(4)).back(), half = floordiv(width, 2);
  const ValueId cosine = wiring::unsqueeze(b, rows_at(c, 4, positions), {2});
  const ValueId sine = wiring::unsqueeze(b, rows_at(c, 5, positions), {2});
  const auto part = [&](ValueId v, bool second) {
    return wiring::slice(b, v, 3, second ? half : Dim(0), second ? half * Dim(2) : half);
  };
  const ValueId low = part(x, false), high = part(x, true);
  const ValueId y = wiring::concat(b,
                                   {sub(b, mul(b, low, part(cosine, false)), mul(b, high, part(sine, false))),
                                    add(b, mul(b, high, part(cosine, true)), mul(b, low, part(sine, true)))},
                                   3);
  return wiring::concat(b, {y, wiring::slice(b, x, 3, half * Dim(2), b.shape(x)[3])}, 3);
}

// The trailing channels, in pairs.
ValueId turned_behind(NodeContext& c, ValueId x, ValueId positions) {
  GraphBuilder& b = c.b;
  const Dim size = b.shape(x)[3], width = b.shape(c.in(4)).back() * Dim(2);
  const ValueId cosine = wiring::unsqueeze(b, rows_at(c, 4, positions), {2});
  const ValueId sine = wiring::unsqueeze(b, rows_at(c, 5, positions), {2});
  const ValueId tail = rotated(b, wiring::slice(b, x, 3, size - width, size), cosine, sine, width, true);
  return wiring::concat(b, {wiring::slice(b, x, 3, 0, size - width), tail}, 3);
}

// i64[B, n] of i64[n]
ValueId in_each(GraphBuilder& b, ValueId x, const Dim& batch) {
  return b.op("Expand", {wiring::unsqueeze(b, x, {0}), b.dims({batch, b.shape(x)[0]})});
}

Indexer indexer_of(NodeContext& c) {
  GraphBuilder& b = c.b;
  Indexer x{};
  x.ratio = positive(c, "compress_ratio");
  if (x.ratio > 1 << 20) c.fail(fmt::format("compress_ratio is {}", x.ratio));
  x.epsilon = c.real("epsilon", 1e-6);
  if (rank_of(c, 0) != 3 || rank_of(c, 7) != 3 || rank_of(c, 3) != 1) c.fail("query and past_key must have rank 3");
  x.size = b.shape(c.in(3))[0];
  x.norm = cast(b, c.in(3), DType::f32);
  const Shape s = b.shape(c.in(0));
  ValueId q = c.in(0);
  Dim width = s[2];
  if (!c.has(1)) {
    width = width - x.size;
    x.fresh = wiring::slice(b, q, 2, width, s[2]);
    q = wiring::slice(b, q, 2, 0, width);
  } else {
    x.fresh = c.in(1);
  }
  q = wiring::reshape(b, cast(b, q, DType::f32), {s[0], s[1], floordiv(width, x.size), x.size});
  x.q = wiring::rms_norm(b, q, cast(b, c.in(2), DType::f32), -1, x.epsilon);
  x.fixed = c.has(12);
  x.past = x.fixed ? number(c, 12) : wiring::extent(b, c.in(7), 1);
  return x;
}

// past_key with rows [B, n, D] behind those that count.
ValueId present_of(NodeContext& c, Indexer& x, ValueId rows) {
  GraphBuilder& b = c.b;
  const ValueId old = c.in(7), both = wiring::concat(b, {old, cast(b, rows, b.dtype(old))}, 1);
  if (!x.fixed) return both;
  const ValueId room = wiring::extent(b, old, 1), count = wiring::extent(b, rows, 1);
  const ValueId fits =
      b.op("And", {b.op("LessOrEqual", {whole(b, 0), x.past}), b.op("LessOrEqual", {add(b, x.past, count), room})});
  x.past = unless_refused(b, fits, x.past,
                          "past_key has no room for the new entries behind past_sequence_length: give a larger cache");
  const ValueId at = wiring::iota(b, room), ahead = sub(b, at, x.past);
  const ValueId is_new = b.op("And", {b.op("LessOrEqual", {whole(b, 0), ahead}), b.op("Less", {ahead, count})});
  return wiring::reshape(b, wiring::gather(b, both, wiring::where(b, is_new, add(b, room, ahead), at), 1),
                         b.shape(old));
}

// f32[B, S, E] of keys f32[B, E, D]; weights f32[B, S, N] or none.
ValueId scores_of(NodeContext& c, const Indexer& x, ValueId q, ValueId keys, ValueId weights) {
  GraphBuilder& b = c.b;
  const ValueId each = b.op("Relu", {wiring::matmul(b, wiring::transpose(b, q, {0, 2, 1, 3}),
                                                    wiring::unsqueeze(b, keys, {1}), true)});  // [B, N, S, E]
  const ValueId scale =
      c.has_attr("scale") ? b.scalar(DType::f32, c.real("scale", 1)) : usual_scale(c, x.size, DType::f32);
  ValueId all = mul(b, each, scale);
  if (weights != no_id) all = mul(b, all, wiring::unsqueeze(b, wiring::transpose(b, weights, {0, 2, 1}), {3}));
  return wiring::reduce(b, "Sum", all, {1}, false);
}

// The places of the `count` largest scores along the last axis, the largest first, ties by place. Fewer scores are
// followed by places of none.
ValueId best_of(GraphBuilder& b, ValueId scores, int64_t count) {
  const Shape s = b.shape(scores);
  const ValueId none = wiring::fill(b, like(b, scores, minus_infinity), b.dims({s[0], s[1], count}));
  return b.add(op_named("TopK"), TopKAttrs{}, {wiring::concat(b, {scores, none}, 2), b.integers({count})}, 2)[1];
}

void import_tokens(NodeContext& c) {
  GraphBuilder& b = c.b;
  Indexer x = indexer_of(c);
  const int64_t budget = positive(c, "token_budget");
  if (budget > 1 << 24 || budget % x.ratio != 0)
    c.fail(fmt::format("token_budget {} is no multiple of compress_ratio {}", budget, x.ratio));
  const Shape s = b.shape(x.q);
  const ValueId keys = present_of(c, x, x.fresh);
  c.out(1, keys);
  const Dim length = b.shape(keys)[1];
  const ValueId token = wiring::iota(b, count_of(b, length)), ratio = whole(b, x.ratio);
  const ValueId query = add(b, x.past, wiring::iota(b, count_of(b, s[1])));  // positions of queries [S]
  // Tokens that count, in order, and how many of them each query sees.
  const ValueId causal = b.op("LessOrEqual", {token, wiring::unsqueeze(b, query, {1})});  // [S, L]
  ValueId order = in_each(b, token, s[0]), seen = wiring::unsqueeze(b, causal, {0});
  if (c.has(6)) {
    if (rank_of(c, 6) != 2) c.fail("mask must have rank 2");
    const ValueId zeros = wiring::fill(b, like(b, c.in(6), 0), b.dims({s[0], length}));
    const ValueId mask = wiring::slice(b, wiring::concat(b, {c.in(6), zeros}, 1), 1, 0, length);
    const ValueId counts = b.op("Not", {b.op("Equal", {mask, like(b, mask, 0)})});  // [B, L]
    seen = b.op("And", {seen, wiring::unsqueeze(b, counts, {1})});
    const ValueId behind = add(b, token, count_of(b, length));
    const ValueId sorted = b.add(op_named("TopK"), TopKAttrs{.largest = false},
                                 {wiring::where(b, counts, token, behind), b.dims({length})}, 2)[0];
    order = wiring::reshape(b, b.op("Mod", {sorted, count_of(b, length)}), {s[0], length});
  }
  ValueId count = wiring::reduce(b, "Sum", cast(b, seen, DType::i64), {2}, false);  // [1 or B, S]
  count = b.op("Expand", {count, b.dims({s[0], s[1]})});
  // One key a block, at the position of its first token.
  const Dim blocks = floordiv(length, x.ratio), covered = blocks * Dim(x.ratio);
  const ValueId members = wiring::slice(b, order, 1, 0, covered);
  ValueId pooled = b.op("GatherND", GatherNDAttrs{.batch_dims = 1}, {keys, wiring::unsqueeze(b, members, {2})});
  pooled = wiring::reshape(b, cast(b, pooled, DType::f32), {s[0], blocks, x.ratio, x.size});
  pooled = wiring::rms_norm(b, wiring::reduce(b, "Mean", pooled, {2}), x.norm, -1, x.epsilon);  // [B, blocks, 1, D]
  const ValueId first =
      wiring::squeeze(b, wiring::slice(b, wiring::reshape(b, members, {s[0], blocks, x.ratio}), 2, 0, 1), {2});
  pooled = wiring::squeeze(b, turned_in_front(c, pooled, first), {2});
  ValueId scores = scores_of(c, x, turned_in_front(c, x.q, in_each(b, query, s[0])), pooled, no_id);
  const ValueId whole_blocks = div(b, count, ratio);
  const ValueId block = wiring::iota(b, count_of(b, blocks));
  scores = wiring::where(b, b.op("Less", {block, wiring::unsqueeze(b, whole_blocks, {2})}), scores,
                         like(b, scores, minus_infinity));
  const ValueId best = best_of(b, scores, budget / x.ratio);
  // Tokens of the best blocks in that order, then those behind the last whole block.
  const int64_t capacity = budget + x.ratio - 1;
  const ValueId at = wiring::iota(b, whole(b, capacity));
  const ValueId chosen =
      wiring::unsqueeze(b, mul(b, b.op("Min", {whole_blocks, whole(b, budget / x.ratio)}), ratio), {2});  // [B, S, 1]
  const ValueId of_block = wiring::gather(b, best, b.op("Min", {div(b, at, ratio), whole(b, budget / x.ratio - 1)}), 2);
  const ValueId member = add(b, mul(b, of_block, ratio), b.op("Mod", {at, ratio}));
  const ValueId tail = add(b, wiring::unsqueeze(b, mul(b, whole_blocks, ratio), {2}), sub(b, at, chosen));
  const ValueId place = wiring::where(b, b.op("Less", {at, chosen}), member, tail);  // into `order`
  const ValueId used = b.op("Less", {at, add(b, chosen, wiring::unsqueeze(b, b.op("Mod", {count, ratio}), {2}))});
  const ValueId flat = wiring::reshape(b, wiring::where(b, used, place, whole(b, 0)), {s[0], s[1] * Dim(capacity)});
  const ValueId tokens =
      wiring::reshape(b, b.op("GatherElements", GatherAttrs{.axis = 1}, {order, flat}), {s[0], s[1], capacity});
  c.out(0, cast(b, wiring::where(b, used, tokens, whole(b, -1)), DType::i32));
}

void import_entries(NodeContext& c) {
  GraphBuilder& b = c.b;
  if (!c.has(1)) c.fail("policy_mode 'csa' needs a key");
  Indexer x = indexer_of(c);
  const int64_t most = positive(c, "index_topk"), r = x.ratio;
  if (most > 1 << 24) c.fail(fmt::format("index_topk is {}", most));
  if (rank_of(c, 13) != 4 || rank_of(c, 9) != 2 || rank_of(c, 10) != 3 || rank_of(c, 11) != 2)
    c.fail("past_proj_buffer must have rank 4, position_bias and position_ids 2, head_weights 3");
  const Shape s = b.shape(x.q);
  const Dim size = x.size, held = b.shape(c.in(13))[2], tokens = held + s[1];
  // Projections that no entry stands for yet: perhaps a whole window before, then an open one.
  const Dim before = step(held - Dim(r)) * Dim(r), windows = floordiv(tokens - before, r), rows = windows * Dim(r);
  const ValueId fresh = wiring::concat(b, {wiring::unsqueeze(b, c.in(1), {0}), wiring::unsqueeze(b, c.in(8), {0})}, 0);
  const ValueId all = wiring::concat(b, {c.in(13), fresh}, 2);  // [2, B, tokens, 2 D]
  if (c.wants(2)) c.out(2, wiring::slice(b, all, 2, step(windows - Dim(1)) * (before + rows - Dim(r)), tokens));
  // A window's entry is made of the first half of the channels of the window before and the second half of its own. A
  // window that is missing weighs nothing.
  const auto halves = [&](int64_t which, double missing) {
    const ValueId plane = cast(b, wiring::squeeze(b, wiring::slice(b, all, 0, which, which + 1), {0}), DType::f32);
    const ValueId none = wiring::fill(b, b.scalar(DType::f32, missing), b.dims({s[0], r, size * Dim(2)}));
    const ValueId long_plane = wiring::concat(b, {none, plane}, 1);
    const auto part = [&](const Dim& from, const Dim& channel) {
      const ValueId v =
          wiring::slice(b, wiring::slice(b, long_plane, 1, from, from + rows), 2, channel, channel + size);
      return wiring::reshape(b, v, {s[0], windows, r, size});
    };
    return Ids{part(before, 0), part(before + Dim(r), size)};
  };
  const Ids values = halves(0, 0);
  Ids gates = halves(1, minus_infinity);
  const ValueId bias = cast(b, c.in(9), DType::f32);
  gates[0] = add(b, gates[0], wiring::slice(b, bias, 1, 0, size));
  gates[1] = add(b, gates[1], wiring::slice(b, bias, 1, size, size * Dim(2)));
  const ValueId gate = wiring::concat(b, gates, 2), value = wiring::concat(b, values, 2);
  const ValueId weight = b.op("Exp", {sub(b, gate, wiring::reduce(b, "Max", gate, {2}))});
  const ValueId total = wiring::reduce(b, "Sum", weight, {2});
  const ValueId sound =
      b.op("And", {b.op("Less", {like(b, total, 0), total}), b.op("Less", {total, like(b, total, -minus_infinity)})});
  ValueId entry = div(b, wiring::reduce(b, "Sum", mul(b, weight, value), {2}), total);
  entry = wiring::rms_norm(b, wiring::where(b, sound, entry, like(b, entry, 0)), x.norm, -1, x.epsilon);
  const ValueId window = add(b, x.past, wiring::iota(b, count_of(b, windows)));
  entry = wiring::squeeze(b, turned_behind(c, entry, in_each(b, mul(b, window, whole(b, r)), s[0])), {2});
  const ValueId keys = present_of(c, x, entry);
  c.out(1, keys);

  const ValueId position = cast(b, c.in(11), DType::i64);
  const ValueId factor = c.has_attr("head_weight_scale") ? b.scalar(DType::f32, c.real("head_weight_scale", 1))
                                                         : usual_scale(c, s[2], DType::f32);
  const ValueId weights = mul(b, cast(b, c.in(10), DType::f32), factor);
  ValueId scores = scores_of(c, x, turned_behind(c, x.q, position), cast(b, keys, DType::f32), weights);
  const ValueId there = add(b, x.past, count_of(b, windows));
  const ValueId below =
      wiring::unsqueeze(b, b.op("Min", {div(b, add(b, position, whole(b, 1)), whole(b, r)), there}), {2});  // [B, S, 1]
  const ValueId place = wiring::iota(b, wiring::extent(b, keys, 1));
  scores = wiring::where(b, b.op("Less", {place, below}), scores, like(b, scores, minus_infinity));
  const ValueId best = best_of(b, scores, most);
  c.out(0, cast(b, wiring::where(b, b.op("Less", {best, below}), best, whole(b, -1)), DType::i32));
}

void import_indexer(NodeContext& c) {
  const std::string policy = c.string("policy_mode", "");
  if (policy != "qsa" && policy != "csa") c.fail(fmt::format("policy_mode '{}' is neither qsa nor csa", policy));
  policy == "qsa" ? import_tokens(c) : import_entries(c);
}

constexpr Entry table[] = {{"SparseAttentionIndexer", 1, import_indexer, microsoft}};

}  // namespace

std::span<const Entry> contrib_indexer_entries() { return table; }

}  // namespace sinter::onnx
