// Entries of domain com.microsoft for sequences of different lengths packed into one: they are laid out as a batch as
// long as the longest, the batch's operator does the work, and its results are packed again.

#include <fmt/core.h>

#include "frontends/onnx/contrib.h"
#include "ops/indexing.h"
#include "ops/refusal.h"

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

}  // namespace

ValueId unless_refused(GraphBuilder& b, ValueId condition, ValueId value, std::string message) {
  std::vector<sinter::Graph> bodies(2);
  GraphBuilder yes(b.module, bodies[0]), no(b.module, bodies[1]);
  bodies[0].outputs = {yes.input(b.type(value))};
  no.input(b.type(value));
  const RefuseAttrs refusal{std::move(message), {to_text(b.type(value), b.module.symbols)}};
  bodies[1].outputs = no.add(op_named("Refuse"), refusal, {}, 1);
  return b.add(op_named("If"), {}, {condition, value}, 1, std::move(bodies))[0];
}

namespace {

// Keys and values live in blocks [blocks, size, heads, D]; a table names the blocks of each sequence in order.
class Blocks {
 public:
  // longest: the most tokens, past and new, of any sequence: the table must have columns for them.
  Blocks(NodeContext& c, ValueId cache, ValueId table, ValueId longest) : c_(c), shape_(c.b.shape(cache)) {
    GraphBuilder& b = c.b;
    if (shape_.size() != 4 || b.rank(table) != 2) c.fail("caches must have rank 4, block_table rank 2");
    table_ = cast(b, table, DType::i64);
    const ValueId columns = wiring::extent(b, table_, 1);
    const ValueId held = mul(b, columns, count_of(b, shape_[1]));
    columns_ = unless_refused(b, b.op("LessOrEqual", {longest, held}), columns,
                              "a sequence has more tokens, past and new, than the columns of block_table hold: give a "
                              "block_table with a column for every block of the longest sequence");
  }

  // Rows of the cache laid flat for places i64[B, n] of each sequence; -1 where no block is mapped.
  ValueId slots(ValueId places) const {
    GraphBuilder& b = c_.b;
    const ValueId size = count_of(b, shape_[1]);
    // Places behind the end of a sequence may have no column; what they give is not seen.
    const ValueId last = sub(b, columns_, whole(b, 1));
    const ValueId column = b.op("Min", {wiring::div(b, places, size), last});
    const ValueId block = b.op("GatherElements", GatherAttrs{.axis = 1}, {table_, column});
    const ValueId slot = add(b, mul(b, block, size), b.op("Mod", {places, size}));
    const ValueId mapped =
        b.op("And", {b.op("LessOrEqual", {whole(b, 0), block}), b.op("Less", {block, count_of(b, shape_[0])})});
    return wiring::where(b, mapped, slot, whole(b, -1));
  }

  // The cache with x [T, heads, D] in its slots i64[T]; those below 0 go nowhere.
  ValueId written(ValueId cache, ValueId slots, ValueId x) const {
    GraphBuilder& b = c_.b;
    const Dim rows = shape_[0] * shape_[1];
    const ValueId spare = wiring::fill(b, like(b, cache, 0), b.dims({1, shape_[2], shape_[3]}));
    const ValueId flat = wiring::concat(b, {flat_of(cache), spare}, 0);
    const ValueId skipped = b.op("Less", {slots, like(b, slots, 0)});
    const ValueId to = wiring::unsqueeze(b, wiring::where(b, skipped, count_of(b, rows), slots), {1});
    const ValueId all = b.op("ScatterND", ScatterNDAttrs{}, {flat, to, cast(b, x, b.dtype(cache))});
    return wiring::reshape(b, wiring::slice(b, all, 0, 0, rows), shape_);
  }

  // [B, heads, n, D] of slots i64[B, n].
  ValueId read(ValueId cache, ValueId slots) const {
    GraphBuilder& b = c_.b;
    const ValueId rows = wiring::gather(b, flat_of(cache), b.op("Max", {slots, whole(b, 0)}), 0);
    return wiring::transpose(b, rows, {0, 2, 1, 3});
  }

 private:
  ValueId flat_of(ValueId cache) const {
    return wiring::reshape(c_.b, cache, {shape_[0] * shape_[1], shape_[2], shape_[3]});
  }

  NodeContext& c_;
  const Shape shape_;
  ValueId table_, columns_;
};

// Where the operands lie that PagedAttention and SparsePagedAttention have in different places.
struct PagedOperands {
  size_t cosine, slots, sink, norm, scale;  // of two: the first
};
constexpr PagedOperands dense_operands{.cosine = 8, .slots = 10, .sink = 11, .norm = 12, .scale = 14};
constexpr PagedOperands sparse_operands{.cosine = 14, .slots = 8, .sink = 16, .norm = 17, .scale = 19};

// Keys and values of packed queries, in the caches and behind them.
struct Paged {
  Packing packing;
  Projected x;           // new ones, [B, heads, S, D]
  ValueId keys, values;  // of all places, [B, heads, L, D]
  ValueId position;      // i64[B, S]
  ValueId column;        // i64[L]
  ValueId seen;          // bool[B, 1, S, L]
  DType work;
};

Paged paged_of(NodeContext& c, const PagedOperands& o, bool latent) {
  GraphBuilder& b = c.b;
  const int64_t heads = heads_of(c, "num_heads"), kv_heads = heads_of(c, "kv_num_heads");
  if (c.has(o.scale) || c.has(o.scale + 1)) c.unsupported("caches of quantized numbers");
  if (c.integer("rotary_offset", 0) != 0) c.unsupported("rotary_offset");
  if (rank_of(c, 0) != 2) c.fail("query must have rank 2");
  if (latent == c.has(4) || (latent && (kv_heads != 1 || !c.has(1) || c.has(2))))
    c.fail("operands do not suit kv_cache_layout");
  Paged y;
  const Packing& p = y.packing = packing_of(c, c.in(5), b.shape(c.in(0))[0]);
  const auto laid = [&](size_t i) { return c.has(i) ? laid_out(b, p, c.in(i)) : no_id; };
  const ValueId key = laid(1);
  Projected& x = y.x = split_projected(c, laid(0), key, latent ? key : laid(2), heads, kv_heads);
  const DType dtype = b.dtype(x.q);
  y.work = b.dtype(wiring::widened(b, x.q));
  if (c.has(o.norm) != c.has(o.norm + 1)) c.fail("q_norm_weight and k_norm_weight must be given together");
  if (c.has(o.norm)) {
    const double epsilon = c.real("qk_norm_epsilon", 1e-6);
    x.q = wiring::rms_norm(b, x.q, c.in(o.norm), -1, epsilon);
    x.k = wiring::rms_norm(b, x.k, c.in(o.norm + 1), -1, epsilon);
  }
  const ValueId past = cast(b, c.in(6), DType::i64), total = add(b, past, p.lengths);
  y.position = add(b, wiring::iota(b, p.longest), per_batch(b, past, 2));
  if (c.integer("do_rotary", 0) != 0) {
    const ValueId cosine = angles(c, c.in(o.cosine), y.position, y.work),
                  sine = angles(c, c.in(o.cosine + 1), y.position, y.work);
    const Dim turned = b.shape(c.in(o.cosine)).back() * Dim(2);
    const bool interleaved = c.integer("rotary_interleaved", 0) != 0;
    for (ValueId* v : {&x.q, &x.k})
      *v = cast(b, rotated(b, cast(b, *v, y.work), cosine, sine, turned, interleaved), dtype);
  }
  const ValueId longest = wiring::reduce(b, "Max", total, {0}, false);
  const Blocks blocks(c, c.in(3), c.in(7), longest);
  const ValueId slots =
      c.has(o.slots) ? cast(b, c.in(o.slots), DType::i64) : packed_again(b, p, blocks.slots(y.position));
  const auto stored = [&](size_t cache, ValueId fresh) {
    return blocks.written(c.in(cache), slots, packed_again(b, p, wiring::transpose(b, fresh, {0, 2, 1, 3})));
  };
  const ValueId key_cache = stored(3, x.k), value_cache = latent ? no_id : stored(4, x.v);
  if (c.wants(1)) c.out(1, key_cache);
  if (c.wants(2)) c.out(2, latent ? key_cache : value_cache);
  y.column = wiring::iota(b, longest);
  const ValueId places =
      b.op("Expand", {wiring::unsqueeze(b, y.column, {0}), wiring::concat(b, {b.dims({p.batch}), b.integers({1})}, 0)});
  const ValueId from = blocks.slots(places);
  y.keys = cast(b, blocks.read(key_cache, from), dtype);
  y.values = latent ? y.keys : cast(b, blocks.read(value_cache, from), dtype);
  y.seen = b.op("And", {wiring::unsqueeze(b, b.op("LessOrEqual", {whole(b, 0), from}), {1, 2}),
                        b.op("Less", {y.column, per_batch(b, total, 4)})});
  if (c.integer("is_causal", 1) != 0)
    y.seen = b.op("And", {y.seen, b.op("LessOrEqual", {y.column, wiring::unsqueeze(b, y.position, {1, 3})})});
  return y;
}

// Narrows what is seen to the last `window` places.
void see_window(GraphBuilder& b, Paged& y, int64_t window) {
  const ValueId row = wiring::unsqueeze(b, y.position, {1, 3});  // [B, 1, S, 1]
  if (window > 0) y.seen = b.op("And", {y.seen, b.op("Less", {sub(b, row, whole(b, window)), y.column})});
}

void import_paged_attention(NodeContext& c) {
  GraphBuilder& b = c.b;
  const std::string layout = c.string("kv_cache_layout", "SEPARATE");
  const bool latent = layout == "LATENT";
  if (!latent && layout != "SEPARATE") c.fail(fmt::format("kv_cache_layout '{}'", layout));
  Paged y = paged_of(c, dense_operands, latent);
  if (const int64_t size = c.integer("v_head_size", 0); latent && size > 0)
    y.values = wiring::slice(b, y.values, 3, 0, size);
  see_window(b, y, c.integer("local_window_size", -1));
  const Attend options{
      .bias = as_bias(b, y.seen, y.work), .softcap = c.real("softcap", 0), .sink = c.maybe(dense_operands.sink)};
  c.out(0, packed_again(b, y.packing, attend(c, y.x.q, y.keys, y.values, options)));
}

// Of each query's places, those that an indexer chose: of the caches, or of keys and values that lie beside them.
void import_sparse_paged_attention(NodeContext& c) {
  GraphBuilder& b = c.b;
  const std::string mode = c.string("attention_mode", "selected_only"), source = c.string("selected_kv_source", "main");
  const bool local = mode == "local_plus_selected", beside = source == "auxiliary";
  if ((!local && mode != "selected_only") || (!beside && source != "main"))
    c.fail(fmt::format("attention_mode '{}' with selected_kv_source '{}'", mode, source));
  if (local && !beside) c.unsupported("places that are chosen beside a window of the same cache");
  if (c.string("auxiliary_cache_layout", "contiguous") != "contiguous") c.unsupported("auxiliary_cache_layout");
  if (c.string("k_quant_type", "NONE") != "NONE" || c.string("v_quant_type", "NONE") != "NONE")
    c.unsupported("caches of quantized numbers");
  if (rank_of(c, 9) != 2 || rank_of(c, 10) != 1) c.fail("selected_indices must have rank 2, selected_counts rank 1");
  Paged y = paged_of(c, sparse_operands, false);
  const DType dtype = b.dtype(y.x.q);
  const auto chosen = [&](ValueId extent) {  // [B, 1, S, extent]
    return wiring::unsqueeze(b, laid_out(b, y.packing, selected(c, c.in(9), c.in(10), extent)), {1});
  };
  if (!beside) {
    y.seen = b.op("And", {y.seen, chosen(wiring::extent(b, y.keys, 2))});
  } else {
    if (rank_of(c, 11) != 4) c.fail("auxiliary_key must have rank 4");
    const bool shared = c.integer("auxiliary_kv_shared", 0) != 0;
    if (shared == c.has(12)) c.fail("auxiliary_value must be given unless auxiliary_kv_shared is 1");
    const Shape main = b.shape(y.keys);
    const auto all_heads = [&](size_t i) {
      const Shape s = b.shape(c.in(i));
      const ValueId x = wiring::transpose(b, cast(b, c.in(i), dtype), {0, 2, 1, 3});
      return s[2] == main[1] ? x : b.op("Expand", {x, b.dims({s[0], main[1], s[1], s[3]})});
    };
    const ValueId keys = all_heads(11), values = shared ? keys : all_heads(12);
    const ValueId room = wiring::extent(b, keys, 2);
    const ValueId filled = b.op("Less", {wiring::iota(b, room), per_batch(b, cast(b, c.in(13), DType::i64), 4)});
    const ValueId more = b.op("And", {chosen(room), filled});
    if (local) {
      see_window(b, y, c.integer("local_window_size", -1));
      const ValueId shape = b.op("Max", {wiring::shape_of(b, y.seen), b.dims({1, 1, b.shape(more)[2], 1})});
      y.seen = wiring::concat(b, {wiring::fill(b, y.seen, shape), more}, 3);
      y.keys = wiring::concat(b, {y.keys, keys}, 2);
      y.values = wiring::concat(b, {y.values, values}, 2);
    } else {
      y.seen = more, y.keys = keys, y.values = values;
    }
  }
  const Attend options{
      .bias = as_bias(b, y.seen, y.work), .softcap = c.real("softcap", 0), .sink = c.maybe(sparse_operands.sink)};
  ValueId result = attend(c, y.x.q, y.keys, y.values, options);
  if (options.sink == no_id) {  // a query that sees nothing gives 0
    const ValueId any = wiring::squeeze(b, wiring::reduce(b, "Max", cast(b, y.seen, DType::i32), {3}), {1});
    result = wiring::where(b, b.op("Less", {like(b, any, 0), any}), result, like(b, result, 0));
  }
  c.out(0, packed_again(b, y.packing, result));
}

constexpr Entry table[] = {
    {"PagedAttention", 1, import_paged_attention, microsoft},
    {"SparsePagedAttention", 1, import_sparse_paged_attention, microsoft},
    {"VarlenCausalConvWithState", 1, import_conv, microsoft},
    {"VarlenNGramHashMapping", 1, import_hashes, microsoft},
};

}  // namespace

std::span<const Entry> contrib_varlen_entries() { return table; }

}  // namespace sinter::onnx
