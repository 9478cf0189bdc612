// What the files of domain com.microsoft share: weights of few bits, and attention as its operators define it.
//
// Like entries.h: helpers build through the node's builder and report through NodeContext::fail.
#pragma once

#include "frontends/onnx/attention.h"

namespace sinter::onnx {

inline constexpr const char* microsoft = "com.microsoft";

// ---- numbers of few bits (contrib_weights.cpp) ----

// a >= 0, b > 0
inline int64_t ceil_div(int64_t a, int64_t b) { return a / b + (a % b != 0 ? 1 : 0); }
// An attribute that must be positive.
int64_t positive(NodeContext& c, std::string_view name, int64_t otherwise = 0);
// The scale or scales in operand i as f32; [1] as a scalar.
ValueId scale_of(NodeContext& c, size_t i);
// The value where the condition, a scalar, holds; else the run ends with the message (contrib_varlen.cpp).
ValueId unless_refused(GraphBuilder& b, ValueId condition, ValueId value, std::string message);
// An i64 scalar.
ValueId whole(GraphBuilder& b, int64_t v);
// Bytes [..., n] as numbers [..., n * 8 / bits] in f32, the lowest bits first; bits that do not divide 8 form a stream.
ValueId unpacked(NodeContext& c, ValueId bytes, int64_t bits, bool low_first = true);
// Bytes [..., n] as the sixteen values of f4e2m1, [..., n * 2] in f32.
ValueId unpacked_fp4(NodeContext& c, ValueId bytes);
// Element i along `axis` of the result is element i / block of v; the result has `extent` elements there.
ValueId spread(NodeContext& c, ValueId v, int64_t axis, const Dim& extent, int64_t block);

struct FewBits {
  int64_t bits, rows, columns, block;
};
// What MatMulNBits' operands stand for: [rows, columns] in f32. zero and group may be absent.
ValueId few_bits_weight(NodeContext& c, const FewBits& form, ValueId bytes, ValueId scales, ValueId zero,
                        ValueId group = no_id);

// gate * sigmoid(alpha * gate) * (up + beta), both clamped to a limit when it is positive.
struct GatedUnit {
  double alpha = 1, beta = 0, limit = 0;
  bool limit_after = false;           // clamps what the gate gives, not the gate
  std::optional<DType> rounded = {};  // what the gate gives is rounded to this
};
ValueId gated_unit(GraphBuilder& b, ValueId gate, ValueId up, const GatedUnit& unit);

// ---- attention (contrib_attention.cpp) ----

ValueId per_batch(GraphBuilder& b, ValueId x, size_t rank);  // [B] as [B, 1, ...]
ValueId number(NodeContext& c, size_t i);                    // an operand of one element as i64 scalar
int64_t heads_of(NodeContext& c, std::string_view name);     // a positive attribute
// Adds to a bias that may be absent yet.
void join(GraphBuilder& b, ValueId& bias, ValueId more);
// Scores' bias of what hides keys: 0 where kept, else mask_filter_value.
ValueId padding_bias(NodeContext& c, ValueId kept, DType dtype);
// The bias of masks in all the forms that Attention takes.
ValueId mask_bias(NodeContext& c, ValueId mask, const Dim& batch, const Dim& queries, const Dim& keys, DType dtype);
// Rows of a table of angles [max, half] for i64[B, S], against [B, H, S, half].
ValueId angles(NodeContext& c, ValueId table, ValueId positions, DType dtype);

struct Attend {
  ValueId bias = no_id;  // broadcasts against [B, H, S, T]
  // Query i sees keys from i + first to i + last, as far as they are given; i64, [] or [B].
  ValueId first = no_id, last = no_id;
  double softcap = 0;
  ValueId sink = no_id;  // [H]: a further score of each head that has no value
};
// q, k, v of 4 axes and one dtype; gives [B, S, H * Dv] in it. `scores_out`: what softmax takes.
ValueId attend(NodeContext& c, ValueId q, ValueId k, ValueId v, const Attend& options, ValueId* scores_out = nullptr);

// A cache whose filled part differs by batch entry. The present has room for what the past has room for and for all
// tokens: where that is no more than the past's, it may lie over it.
struct Cache {
  ValueId past;  // i64[B]: tokens before the new ones
  ValueId room;  // i64 scalar: tokens that the present has room for; no_id: the new tokens are all there is
  bool padded;   // some of the new tokens may be padding, for which there need be no room
};
// lengths: i64[B], tokens of each entry with the new ones; total: i64 scalar, no less than these; past: those before,
// where `tokens` is not the number of new ones in every entry.
Cache cache_of(NodeContext& c, const Dim& tokens, ValueId lengths, ValueId total, ValueId past_key,
               ValueId past = no_id);
ValueId cached(NodeContext& c, const Cache& cache, ValueId old, ValueId fresh);

// Places i[rows, n] of which the first counts[row] count, as bool[rows, extent]; extent is an i64 scalar
// (contrib_sparse.cpp).
ValueId selected(NodeContext& c, ValueId places, ValueId counts, ValueId extent);

void import_group_query(NodeContext& c);   // contrib_group_query.cpp
void import_mamba_verify(NodeContext& c);  // contrib_mamba.cpp

// Rows of tokens that count [T, H] as [B, S, H], zero elsewhere; token_offset i[B, S] says where they go.
ValueId padded_rows(NodeContext& c, ValueId x, ValueId offsets);

// Queries, keys and values of one operand [B, S, (heads + 2 * kv) * D] or of three, as [B, H, S, D].
struct Projected {
  ValueId q, k, v;
};
Projected split_projected(NodeContext& c, ValueId q, ValueId k, ValueId v, int64_t heads, int64_t kv_heads);

// ---- hashes of n-grams (contrib_state.cpp) ----

struct NGrams {
  ValueId ids;  // [B, S]
  ValueId multipliers, sizes;
  ValueId past = no_id, offsets = no_id, eos = no_id, segments = no_id, past_segments = no_id;
};
// Token t and the n - 1 before it, each times its multiplier, joined by exclusive or, modulo the size of each table.
struct NGramHashes {
  ValueId hashes;  // [B, S, heads]
  ValueId all;     // the tokens with those before them
};
NGramHashes ngram_hashes(NodeContext& c, const NGrams& v);

}  // namespace sinter::onnx
