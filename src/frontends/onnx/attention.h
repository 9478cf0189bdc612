// What the entries of attention share: heads, biases that mask, rotary embedding.
//
// Values are [batch, heads, tokens, size]. Every helper builds through the node's builder and reports what is wrong
// through NodeContext::fail.
#pragma once

#include <limits>

#include "frontends/onnx/entries.h"

namespace sinter::onnx {

constexpr double minus_infinity = -std::numeric_limits<double>::infinity();

// [B, S, H*D] to [B, H, S, D]
ValueId split_heads(NodeContext& c, ValueId x, int64_t heads);

// Query heads that share one key head stand on an axis of their own, so that MatMul broadcasts keys over them.
struct Heads {
  Dim keys, shared;
  bool grouped = false;
  Dim queries = 0;
};
Heads head_groups(NodeContext& c, const Dim& queries, const Dim& keys);
// [B, Hq, S, D] to [B, Hk, shared, S, D]; an extent of 1 for all heads stays 1.
ValueId grouped(NodeContext& c, ValueId x, const Heads& heads);
ValueId ungrouped(NodeContext& c, ValueId x, const Heads& heads);

// 1 / sqrt(size), which may be known only when shapes are.
ValueId usual_scale(NodeContext& c, const Dim& size, DType dtype);

// 0 where allowed, minus infinity elsewhere.
ValueId as_bias(GraphBuilder& b, ValueId allowed, DType dtype);
// An extent as i64[].
ValueId count_of(GraphBuilder& b, const Dim& d);
// Scores where `seen`, elsewhere minus infinity: whatever the scores of what is hidden are.
ValueId hidden_but(GraphBuilder& b, ValueId seen, ValueId scores);

// Rotary embedding of the first `turned` elements of the last axis of x (rank 4); cosine and sine broadcast against
// half of them.
ValueId rotated(GraphBuilder& b, ValueId x, ValueId cosine, ValueId sine, const Dim& turned, bool interleaved);

// Linear attention (linear_attention.cpp): q [B, S, H, shared, dk], k [B, S, H, dk], v [B, S, H, dv], state
// [B, H, dk, dv], decay (a logarithm) [B, S, H, 1 or dk] and beta [B, S, H, 1] where the rule has them.
struct LinearOperands {
  ValueId q, k, v, state = no_id, decay = no_id, beta = no_id, scale = no_id;
};
struct LinearResult {
  ValueId y, state;  // [B, S, H, shared, dv]
};
LinearResult linear_attention(NodeContext& c, const LinearOperands& o);

}  // namespace sinter::onnx
