// Entries of domain com.microsoft for sequences of different lengths packed into one: they are laid out as a batch as
// long as the longest, the batch's operator does the work, and its results are packed again.

#include <fmt/core.h>

#include "frontends/onnx/contrib.h"

namespace sinter::onnx {
namespace {

using wiring::add;
using wiring::cast;
using wiring::like;
using wiring::mul;
using wiring::sub;

struct Packing {
  Dim batch, tokens;
  ValueId starts, lengths;  // i64[B]
  ValueId longest;          // i64 scalar
  ValueId places;           // i64[B, S]: rows of the packed operand, some row where a sequence is over
  ValueId back;             // i64[T]: rows of the batch laid flat
};

// ends i32[B + 1]: 0, then where each sequence ends.
Packing packing_of(NodeContext& c, ValueId ends, const Dim& tokens) {
  GraphBuilder& b = c.b;
  if (b.rank(ends) != 1) c.fail("cumulative_sequence_length must have rank 1");
  Packing p;
  p.batch = b.shape(ends)[0] - Dim(1);
  p.tokens = tokens;
  const ValueId all = cast(b, ends, DType::i64);
  p.starts = wiring::slice(b, all, 0, 0, p.batch);
  const ValueId behind = wiring::slice(b, all, 0, 1, p.batch + Dim(1));
  p.lengths = sub(b, behind, p.starts);
  p.longest = wiring::reduce(b, "Max", p.lengths, {0}, false);
  const ValueId token = wiring::iota(b, count_of(b, tokens));
  const ValueId last = sub(b, count_of(b, tokens), whole(b, 1));
  const ValueId at = add(b, wiring::unsqueeze(b, p.starts, {1}), wiring::iota(b, p.longest));
  p.places = b.op("Min", {at, last});
  const ValueId over = cast(b, b.op("LessOrEqual", {behind, wiring::unsqueeze(b, token, {1})}), DType::i64);
  const ValueId entry = wiring::reduce(b, "Sum", over, {1}, false);
  p.back = add(b, mul(b, entry, p.longest), sub(b, token, wiring::gather(b, p.starts, entry, 0)));
  return p;
}

ValueId laid_out(GraphBuilder& b, const Packing& p, ValueId x) { return wiring::gather(b, x, p.places, 0); }

// [B, S, ...] as [T, ...].
ValueId packed_again(GraphBuilder& b, const Packing& p, ValueId x) {
  Shape flat(b.shape(x).begin() + 1, b.shape(x).end());
  flat[0] = -1;
  return wiring::gather(b, wiring::reshape(b, x, flat), p.back, 0);
}

// Of each row of x [B, L, ...], `count` columns from `from` i64[B] on.
ValueId columns_from(GraphBuilder& b, ValueId x, ValueId from, const Dim& count) {
  const ValueId at = add(b, wiring::unsqueeze(b, from, {1}), wiring::iota(b, count_of(b, count)));  // [B, count]
  const Dim batch = b.shape(x)[0];
  const ValueId row =
      wiring::fill(b, wiring::unsqueeze(b, wiring::iota(b, count_of(b, batch)), {1}), b.dims({batch, count}));
  const ValueId both = wiring::concat(b, {wiring::unsqueeze(b, row, {2}), wiring::unsqueeze(b, at, {2})}, 2);
  return b.op("GatherND", {x, both});
}

// How many of the first tokens of each sequence are asked for, and which of them there are: bool[B, capacity].
struct Captured {
  int64_t capacity;
  ValueId there;
};

Captured captured(NodeContext& c, const Packing& p, size_t operand) {
  GraphBuilder& b = c.b;
  const int64_t capacity = c.integer("state_update_capacity", 0);
  if (capacity < 0 || capacity > 8) c.fail(fmt::format("state_update_capacity {} is outside [0, 8]", capacity));
  if ((capacity > 0) != c.has(operand)) c.fail("capture_count and state_update_capacity need each other");
  if (capacity == 0) return {0, no_id};
  const ValueId count = b.op("Min", {cast(b, c.in(operand), DType::i64), p.lengths});
  return {capacity, b.op("Less", {wiring::iota(b, whole(b, capacity)), wiring::unsqueeze(b, count, {1})})};
}

void import_conv(NodeContext& c) {
  GraphBuilder& b = c.b;
  if (c.has(6) || c.has(7)) c.unsupported("weights that change with the token (kernel_delta, previous_mask)");
  if (rank_of(c, 0) != 2 || rank_of(c, 1) != 3 || rank_of(c, 4) != 3)
    c.fail("input must have rank 2, weight and initial_state rank 3");
  const Packing p = packing_of(c, c.in(2), b.shape(c.in(0))[0]);
  const ValueId x = wiring::transpose(b, laid_out(b, p, c.in(0)), {0, 2, 1});  // [B, C, S]
  const ValueId y = core_result(c, "CausalConvWithState", {x, c.in(1), c.maybe(3), c.in(4)}, 27);
  c.out(0, packed_again(b, p, wiring::transpose(b, y, {0, 2, 1})));
  const ValueId samples = wiring::transpose(b, wiring::concat(b, {c.in(4), x}, 2), {0, 2, 1});
  if (c.wants(1)) c.out(1, wiring::transpose(b, columns_from(b, samples, p.lengths, b.shape(c.in(4))[2]), {0, 2, 1}));
  const Captured kept = captured(c, p, 5);
  if (!c.wants(2)) return;
  if (kept.capacity == 0) c.fail("state_update needs a state_update_capacity");
  const ValueId at = add(b, wiring::unsqueeze(b, p.starts, {1}), wiring::iota(b, whole(b, kept.capacity)));
  const ValueId last = sub(b, count_of(b, p.tokens), whole(b, 1));
  const ValueId fresh = wiring::gather(b, c.in(0), b.op("Min", {at, last}), 0);
  c.out(2, wiring::where(b, wiring::unsqueeze(b, kept.there, {2}), fresh, like(b, fresh, 0)));
}

void import_hashes(NodeContext& c) {
  GraphBuilder& b = c.b;
  if (rank_of(c, 0) != 1) c.fail("input_ids must have rank 1");
  const Packing p = packing_of(c, c.in(3), b.shape(c.in(0))[0]);
  const int64_t most = c.integer("max_ngram_size", 0);
  const NGramHashes made = ngram_hashes(c, {.ids = laid_out(b, p, c.in(0)),
                                            .multipliers = c.in(1),
                                            .sizes = c.in(2),
                                            .past = c.maybe(4),
                                            .offsets = c.maybe(5),
                                            .eos = c.maybe(6),
                                            .segments = c.has(7) ? laid_out(b, p, c.in(7)) : no_id,
                                            .past_segments = c.maybe(8)});
  c.out(0, packed_again(b, p, made.hashes));
  if (c.wants(1)) c.out(1, columns_from(b, made.all, p.lengths, most - 1));
  if (c.wants(2)) {
    if (!c.has(7) || !c.has(8)) c.fail("present_segment_ids needs segment_ids and past_segment_ids");
    const ValueId segments = wiring::concat(b, {c.in(8), laid_out(b, p, c.in(7))}, 1);
    c.out(2, columns_from(b, segments, p.lengths, most - 1));
  }
  const Captured kept = captured(c, p, 9);
  if (!c.wants(3)) return;
  if (kept.capacity == 0) c.fail("state_update needs a state_update_capacity");
  Ids states;
  const Dim length = b.shape(made.all)[1];
  for (int64_t k = 0; k < kept.capacity; ++k) {
    // The state behind token k: columns k + 1 to k + most - 1, as far as there are such.
    const ValueId from = b.op("Min", {whole(b, k + 1), count_of(b, length - Dim(most - 1))});
    const ValueId at = wiring::fill(b, from, b.dims({p.batch}));
    states.push_back(wiring::unsqueeze(b, columns_from(b, made.all, at, most - 1), {1}));
  }
  const ValueId all = wiring::concat(b, states, 1);
  const ValueId empty = cast(b, b.constant(Tensor::scalar_i64(c.integer("pad_id", 0))), b.dtype(all));
  c.out(3, wiring::where(b, wiring::unsqueeze(b, kept.there, {2}), all, empty));
}

constexpr Entry table[] = {
    {"VarlenCausalConvWithState", 1, import_conv, microsoft},
    {"VarlenNGramHashMapping", 1, import_hashes, microsoft},
};

}  // namespace

std::span<const Entry> contrib_varlen_entries() { return table; }

}  // namespace sinter::onnx
