// Entries of domain com.microsoft that ONNX Runtime's model builder writes for networks with several residual streams,
// hashed n-grams and gated recurrences.

#include <fmt/core.h>

#include "frontends/onnx/contrib.h"
#include "ops/movement.h"

namespace sinter::onnx {
namespace {

using wiring::add;
using wiring::cast;
using wiring::like;
using wiring::mul;
using wiring::sub;

// ---- residual streams: [..., C, H], or [..., C * H] when num_branches is given ----

struct Streams {
  ValueId x;  // f32[..., C, H]
  Shape original;
  bool flat;
};

Streams streams_of(NodeContext& c, size_t i) {
  GraphBuilder& b = c.b;
  const Shape original = b.shape(c.in(i));
  const int64_t branches = c.integer("num_branches", 0);
  if (branches < 0 || branches > INT32_MAX) c.fail(fmt::format("num_branches is {}", branches));
  if (original.size() < (branches > 0 ? 1u : 2u)) c.fail(fmt::format("operand {} has no branches", i));
  const ValueId x = wiring::widened(b, c.in(i));
  if (branches == 0) return {x, original, false};
  Shape cut = original;
  cut.back() = branches;
  cut.push_back(floordiv(original.back(), branches));
  return {wiring::reshape(b, x, cut), original, true};
}

void put_streams(NodeContext& c, size_t o, ValueId y, const Streams& s, DType dtype) {
  c.out(o, cast(c.b, s.flat ? wiring::reshape(c.b, y, s.original) : y, dtype));
}

// Rank of a grouped operand: gates of rank - 1 get an axis for H, others are grouped if they are flat.
ValueId gates_of(NodeContext& c, size_t i, const Streams& s) {
  GraphBuilder& b = c.b;
  const ValueId g = cast(b, c.in(i), b.dtype(s.x));
  const size_t rank = b.rank(s.x), own = b.rank(g);
  if (own == rank) return g;
  const Shape cut = b.shape(s.x);
  if (own + 1 != rank) c.fail(fmt::format("gates of rank {} for streams of rank {}", own, rank));
  if (s.flat && b.shape(g).back() == s.original.back() && !(s.original.back() == cut[rank - 2])) {
    Shape grouped = b.shape(g);
    grouped.back() = cut[rank - 2];
    grouped.push_back(cut[rank - 1]);
    return wiring::reshape(b, g, grouped);
  }
  return wiring::unsqueeze(b, g, {static_cast<int64_t>(own)});
}

// A norm of each branch by itself; scale [C * H], [C, H], [H] or none.
ValueId branch_norm(NodeContext& c, const Streams& s, ValueId scale, double epsilon) {
  GraphBuilder& b = c.b;
  const Shape cut = b.shape(s.x);
  if (scale != no_id && b.rank(scale) == 1 && !(b.shape(scale)[0] == cut.back()))
    scale = wiring::reshape(b, scale, {cut[cut.size() - 2], cut.back()});
  if (scale == no_id) scale = wiring::fill(b, like(b, s.x, 1), b.dims({cut.back()}));
  return wiring::rms_norm(b, s.x, scale, -1, epsilon);
}

void import_branch_norm(NodeContext& c) {
  const Streams s = streams_of(c, 0);
  put_streams(c, 0, branch_norm(c, s, c.maybe(1), c.real("epsilon", 1e-5)), s, c.b.dtype(c.in(0)));
}

void import_pre_mix(NodeContext& c) {
  GraphBuilder& b = c.b;
  const Streams s = streams_of(c, 0);
  const auto axis = static_cast<int64_t>(b.rank(s.x)) - 2;
  const ValueId y = wiring::reduce(b, "Sum", mul(b, s.x, gates_of(c, 1, s)), {axis}, false);
  c.out(0, cast(b, mul(b, y, like(b, y, c.real("reduction_scale", 1))), b.dtype(c.in(0))));
}

void import_post_mix(NodeContext& c) {
  GraphBuilder& b = c.b;
  const Streams s = streams_of(c, 0);
  const size_t rank = b.rank(s.x);
  ValueId x = s.x;
  if (c.has(3)) {  // sum over c of mix[c, k] * x[c, h]
    auto perm = wiring::axis_range(0, b.rank(c.in(3)));
    if (perm.size() < 2) c.fail("stream_mix must have rank 2 at least");
    std::swap(perm[perm.size() - 1], perm[perm.size() - 2]);
    x = wiring::matmul(b, wiring::transpose(b, cast(b, c.in(3), b.dtype(x)), perm), x);
  }
  const ValueId fresh = wiring::unsqueeze(b, cast(b, c.in(1), b.dtype(x)), {static_cast<int64_t>(rank) - 2});
  put_streams(c, 0, add(b, x, mul(b, gates_of(c, 2, s), fresh)), s, b.dtype(c.in(0)));
}

// The mix before a block, with gates that a network of low rank makes; before it perhaps the one after the last block.
void import_low_rank_mix(NodeContext& c) {
  GraphBuilder& b = c.b;
  const DType dtype = b.dtype(c.in(0));
  positive(c, "num_branches");
  Streams s = streams_of(c, 0);
  const auto rank = static_cast<int64_t>(b.rank(s.x));
  const auto in_f32 = [&](size_t i) { return wiring::widened(b, c.in(i)); };
  const auto rounded = [&](ValueId v) { return cast(b, cast(b, v, dtype), b.dtype(s.x)); };
  if (c.has(5) != c.has(6)) c.fail("prev_block_output and prev_post_gate must be given together");
  if (c.has(5))
    s.x = rounded(
        add(b, s.x, mul(b, wiring::unsqueeze(b, in_f32(6), {rank - 1}), wiring::unsqueeze(b, in_f32(5), {rank - 2}))));
  if (c.wants(2)) put_streams(c, 2, s.x, s, dtype);
  const Shape cut = b.shape(s.x);
  const ValueId hn = rounded(branch_norm(c, s, in_f32(1), c.real("epsilon", 1e-5)));
  const ValueId flat = wiring::reshape(b, hn, s.original);
  const ValueId down = rounded(wiring::matmul(b, flat, in_f32(2)));
  const ValueId z = rounded(mul(b, down, like(b, down, c.real("silu_alpha", 1))));
  const ValueId hidden = rounded(mul(b, z, rounded(b.op("Sigmoid", {z}))));
  const ValueId gate = rounded(b.op("Sigmoid", {rounded(wiring::matmul(b, hidden, in_f32(3)))}));
  const ValueId sum = wiring::reduce(b, "Sum", mul(b, hn, wiring::reshape(b, gate, cut)), {rank - 2}, false);
  c.out(0, cast(b, mul(b, sum, like(b, sum, c.real("reduction_scale", 1))), dtype));
  const double divisor = c.real("gate_div", 1);
  if (divisor == 0) c.fail("gate_div is 0");
  const ValueId inject = rounded(wiring::matmul(b, flat, in_f32(4)));
  const ValueId open = rounded(b.op("Sigmoid", {rounded(wiring::div(b, inject, like(b, inject, divisor)))}));
  c.out(1, cast(b, mul(b, open, like(b, open, c.real("gate_mul", 1))), dtype));
}

// ---- gates ----

void import_engram_gate(NodeContext& c) {
  GraphBuilder& b = c.b;
  const DType dtype = b.dtype(c.in(0));
  const double epsilon = c.real("epsilon", 1e-5);
  if (rank_of(c, 0) != 4 || rank_of(c, 1) != 4 || rank_of(c, 2) != 3)
    c.fail("key and query must have rank 4, value rank 3");
  const auto normed = [&](ValueId x, size_t scale) {
    return wiring::rms_norm(b, x, wiring::widened(b, c.in(scale)), -1, epsilon);
  };
  const ValueId k = normed(wiring::widened(b, c.in(0)), 3), q = normed(wiring::widened(b, c.in(1)), 4);
  ValueId dot = wiring::reduce(b, "Sum", mul(b, k, q), {3});
  dot = mul(b, dot, usual_scale(c, b.shape(k)[3], b.dtype(k)));
  const ValueId root = b.op("Sqrt", {b.op("Max", {b.op("Abs", {dot}), like(b, dot, 1e-6)})});
  const ValueId gate = b.op("Sigmoid", {mul(b, b.op("Sign", {dot}), root)});
  const ValueId y = mul(b, gate, wiring::unsqueeze(b, wiring::widened(b, c.in(2)), {2}));
  c.out(0, cast(b, y, dtype));
  if (c.wants(1)) c.out(1, cast(b, normed(y, 5), dtype));
}

void import_attention_gate(NodeContext& c) {
  GraphBuilder& b = c.b;
  const DType dtype = b.dtype(c.in(0));
  const ValueId a = cast(b, c.in(0), DType::f32);
  c.out(0, cast(b, mul(b, c.in(2), b.op("Softplus", {add(b, a, c.in(1))})), dtype));
  if (c.wants(1)) c.out(1, cast(b, b.op("Sigmoid", {cast(b, c.in(3), DType::f32)}), dtype));
}

// ---- a gated recurrence over tokens, heads told from the operands' extents ----

// [B, S, H, D] of operands [B, S, H, D] or [B * S, H, D].
ValueId by_batch(NodeContext& c, ValueId x, const Dim& batch, size_t rank) {
  GraphBuilder& b = c.b;
  Shape s = b.shape(x);
  if (s.size() == rank) return x;
  if (s.size() + 1 != rank)
    c.fail(fmt::format("an operand has rank {}, it must be {} or {}", s.size(), rank - 1, rank));
  s[0] = floordiv(s[0], batch);
  s.insert(s.begin(), batch);
  return wiring::reshape(b, x, s);
}

void import_gated_delta(NodeContext& c) {
  GraphBuilder& b = c.b;
  if (c.has(3)) c.unsupported("sequences of different lengths (cu_seqlens)");
  if (c.integer("state_update_capacity", 0) != 0) c.unsupported("state_update_capacity");
  const std::string rule = c.string("update_rule", "gated_delta");
  const bool gated = rule == "gated" || rule == "gated_delta", delta = rule == "delta" || rule == "gated_delta";
  if (!gated && !delta && rule != "linear")
    c.fail(fmt::format("update_rule '{}' is none of linear, gated, delta, gated_delta", rule));
  const DType dtype = b.dtype(c.in(0));
  const Shape given = b.shape(c.in(0));
  ValueId q = cast(b, c.in(0), DType::f32), k = c.has(1) ? cast(b, c.in(1), DType::f32) : no_id,
          v = c.has(2) ? cast(b, c.in(2), DType::f32) : no_id;
  if (c.has(6) && rank_of(c, 6) != 4) c.fail("initial_state must have rank 4");
  const bool batched = given.size() == (k == no_id ? 3u : 4u);
  if (!batched && !c.has(6)) c.fail("initial_state is missing");
  const Dim batch = batched ? given[0] : b.shape(c.in(6))[0];
  if (k == no_id) {  // all in one row: two parts of the queries' width, one of the values'
    if (!c.has(6)) c.fail("initial_state is missing");
    const Shape s = b.shape(c.in(6));
    const Dim size = s[3], values = s[1] * s[2];
    const ValueId all = by_batch(c, q, batch, 3);
    const Dim tokens = b.shape(all)[1], width = b.shape(all)[2], part = floordiv(width - values, 2);
    const auto cut = [&](const Dim& from, const Dim& to, const Dim& heads, const Dim& each) {
      return wiring::reshape(b, wiring::slice(b, all, 2, from, to), {batch, tokens, heads, each});
    };
    q = cut(0, part, floordiv(part, size), size);
    k = cut(part, part * Dim(2), floordiv(part, size), size);
    v = cut(part * Dim(2), width, s[1], s[2]);
  } else if (v == no_id) {
    c.fail("value is missing");
  }
  q = by_batch(c, q, batch, 4);
  k = by_batch(c, k, batch, 4);
  v = by_batch(c, v, batch, 4);
  const Shape qs = b.shape(q), vs = b.shape(v);
  const auto heads = vs[2].as_constant(), narrow = qs[2].as_constant();
  if (!heads || !narrow || *narrow < 1 || *heads > 1 << 20 || *heads % *narrow != 0)
    c.fail("the number of value heads must be a known multiple of that of query heads");
  if (c.integer("qk_l2_norm", 0) != 0) {
    const auto normed = [&](ValueId x) {
      const ValueId squares = wiring::reduce(b, "Sum", mul(b, x, x), {3});
      return wiring::div(b, x, b.op("Sqrt", {add(b, squares, like(b, x, 1e-6))}));
    };
    q = normed(q);
    k = normed(k);
  }
  if (*heads != *narrow) {  // each query head serves so many value heads
    std::vector<int64_t> from;
    for (int64_t h = 0; h < *heads; ++h) from.push_back(h / (*heads / *narrow));
    q = wiring::gather(b, q, b.integers(from), 2);
    k = wiring::gather(b, k, b.integers(from), 2);
  }
  const Dim size = qs[3];
  LinearOperands o{.q = wiring::unsqueeze(b, q, {3}), .k = k, .v = v};
  const auto per_head = [&](size_t i) {  // [H], [H, dk] or [H * dk] as [H, 1] or [H, dk]
    const ValueId x = c.in(i);
    if (b.rank(x) == 2) return x;
    if (b.shape(x)[0] == Dim(*heads)) return wiring::unsqueeze(b, x, {1});
    return wiring::reshape(b, x, {*heads, size});
  };
  if (gated) {
    ValueId decay = cast(b, c.in(4), DType::f32);
    if (b.rank(decay) == (batched ? 3u : 2u))
      decay = wiring::unsqueeze(b, decay, {static_cast<int64_t>(b.rank(decay))});
    decay = by_batch(c, decay, batch, 4);
    const std::string gate = c.string("gate_activation", "none");
    if (gate == "softplus" || gate == "qwen") {
      const ValueId raw = c.has(8) ? add(b, decay, per_head(8)) : decay;
      decay = mul(b, b.op("Neg", {b.op("Exp", {per_head(7)})}), b.op("Softplus", {raw}));
    } else if (gate == "sigmoid" || gate == "kda") {
      const ValueId raw = c.has(8) ? add(b, decay, per_head(8)) : decay;
      const ValueId open = b.op("Sigmoid", {mul(b, b.op("Exp", {per_head(7)}), raw)});
      decay = mul(b, open, like(b, open, c.real("gate_lower_bound", -5)));
    } else if (gate != "none") {
      c.fail(fmt::format("gate_activation '{}' is none of none, softplus, sigmoid", gate));
    }
    o.decay = decay;
  }
  if (delta) {
    ValueId beta = cast(b, c.in(5), DType::f32);
    const std::string open = c.string("beta_activation", "none");
    if (open == "sigmoid")
      beta = b.op("Sigmoid", {beta});
    else if (open != "none")
      c.fail(fmt::format("beta_activation '{}' is neither none nor sigmoid", open));
    o.beta = wiring::unsqueeze(b, by_batch(c, beta, batch, 3), {3});
  }
  o.state = c.has(6) ? wiring::transpose(b, c.in(6), {0, 1, 3, 2})
                     : wiring::fill(b, b.scalar(DType::f32, 0), b.dims({batch, *heads, size, vs[3]}));
  const double scale = c.real("scale", 0);
  o.scale = scale != 0 ? b.scalar(DType::f32, scale) : usual_scale(c, size, DType::f32);
  const LinearResult y = linear_attention(c, o);
  const Dim tokens = b.shape(v)[1];
  const std::vector<Dim> shape =
      batched ? std::vector<Dim>{batch, tokens, *heads, vs[3]} : std::vector<Dim>{batch * tokens, *heads, vs[3]};
  c.out(0, cast(b, wiring::reshape(b, y.y, shape), dtype));
  if (c.wants(1)) c.out(1, wiring::transpose(b, y.state, {0, 1, 3, 2}));
}

// ---- hashes of n-grams ----

}  // namespace

NGramHashes ngram_hashes(NodeContext& c, const NGrams& v) {
  GraphBuilder& b = c.b;
  const int64_t most = c.integer("max_ngram_size", 0), heads = positive(c, "n_head_per_ngram");
  if (most < 2 || most > 64) c.fail(fmt::format("max_ngram_size {} is outside [2, 64]", most));
  const Shape s = b.shape(v.ids);
  const DType dtype = b.dtype(v.ids);
  const ValueId zero = b.scalar(DType::i64, 0);
  const ValueId missing = v.eos != no_id ? wiring::scalar_of(b, v.eos)
                                         : cast(b, b.constant(Tensor::scalar_i64(c.integer("pad_id", 0))), dtype);
  const ValueId past = v.past != no_id ? v.past : wiring::fill(b, missing, b.dims({s[0], most - 1}));
  const ValueId all = wiring::concat(b, {past, v.ids}, 1);  // [B, most - 1 + S]
  const Dim length = s[1] + Dim(most - 1);
  // Where history ends before a token: places before `start` do not count.
  ValueId start = no_id;
  const auto latest = [&](ValueId at) { start = start == no_id ? at : b.op("Max", {start, at}); };
  const ValueId place = wiring::iota(b, count_of(b, length));
  const auto running_max = [&](ValueId v) {  // over axis 1: of all places up to each
    const ValueId before = b.op("LessOrEqual", {place, wiring::unsqueeze(b, place, {1})});
    const ValueId low = b.scalar(DType::i64, -1);
    return wiring::reduce(b, "Max", wiring::where(b, before, wiring::unsqueeze(b, v, {1}), low), {2}, false);
  };
  if (v.eos != no_id && c.integer("reset_on_eos", 0) != 0) {
    // The place behind the last end strictly before a token.
    const ValueId marks = wiring::where(b, b.op("Equal", {all, missing}), place, b.scalar(DType::i64, -1));
    const ValueId upto = running_max(marks);
    const ValueId strictly = wiring::slice(b, upto, 1, most - 2, length - Dim(1));
    latest(add(b, strictly, b.scalar(DType::i64, 1)));
  }
  if (v.segments != no_id) {
    // What came before is of the first token's segment unless it is said to be of others.
    const bool told = v.past_segments != no_id;
    const ValueId segments = told ? wiring::concat(b, {v.past_segments, v.segments}, 1) : v.segments;
    const Dim known = told ? length : s[1];
    const ValueId before = wiring::slice(b, segments, 1, 0, known - Dim(1));
    const ValueId changed = b.op("Not", {b.op("Equal", {wiring::slice(b, segments, 1, 1, known), before})});
    const ValueId shape = b.dims({s[0], told ? 1 : most});
    const ValueId marks = wiring::concat(b, {wiring::fill(b, b.scalar(DType::boolean, 0), shape), changed}, 1);
    const ValueId at = wiring::where(b, marks, place, zero);
    latest(wiring::slice(b, running_max(at), 1, most - 1, length));
  }
  ValueId mix = no_id;
  Ids results;
  for (int64_t k = 0; k < most; ++k) {
    ValueId shifted = wiring::slice(b, all, 1, most - 1 - k, length - Dim(k));
    if (start != no_id && k > 0) {
      const ValueId from = wiring::slice(b, place, 0, most - 1 - k, length - Dim(k));
      shifted = wiring::where(b, b.op("LessOrEqual", {start, from}), shifted, missing);
    }
    const ValueId term = mul(b, shifted, wiring::scalar_of(b, wiring::slice(b, v.multipliers, 0, k, k + 1)));
    mix = mix == no_id ? term : b.op("BitXor", {mix, term});
    if (k == 0) continue;
    const auto part = [&](ValueId of) { return wiring::slice(b, of, 0, (k - 1) * heads, k * heads); };
    ValueId id = b.op("Mod", {wiring::unsqueeze(b, mix, {2}), part(v.sizes)});
    if (v.offsets != no_id) id = add(b, id, part(v.offsets));
    results.push_back(id);
  }
  return {wiring::concat(b, results, 2), all};
}

namespace {

void import_ngram_hash(NodeContext& c) {
  if (rank_of(c, 0) != 2) c.fail("input_ids must have rank 2");
  const NGramHashes made = ngram_hashes(c, {.ids = c.in(0),
                                            .multipliers = c.in(1),
                                            .sizes = c.in(2),
                                            .past = c.maybe(3),
                                            .offsets = c.maybe(4),
                                            .eos = c.maybe(5),
                                            .segments = c.maybe(6)});
  c.out(0, made.hashes);
  const Dim tokens = c.b.shape(c.in(0))[1], length = c.b.shape(made.all)[1];
  if (c.wants(1)) c.out(1, wiring::slice(c.b, made.all, 1, tokens, length));
}

constexpr Entry table[] = {
    {"BranchwiseRMSNorm", 1, import_branch_norm, microsoft},
    {"EngramGate", 1, import_engram_gate, microsoft},
    {"GatedDeltaNet", 1, import_gated_delta, microsoft},
    {"HyperConnectionLowRankMix", 1, import_low_rank_mix, microsoft},
    {"HyperConnectionPostMix", 1, import_post_mix, microsoft},
    {"HyperConnectionPreMix", 1, import_pre_mix, microsoft},
    {"LinearAttentionGate", 1, import_attention_gate, microsoft},
    {"NGramHashMapping", 1, import_ngram_hash, microsoft},
};

}  // namespace

std::span<const Entry> contrib_state_entries() { return table; }

}  // namespace sinter::onnx
