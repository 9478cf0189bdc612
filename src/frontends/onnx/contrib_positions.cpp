// Entries of domain com.microsoft that say where tokens stand: rotary embeddings in all their forms, biases by
// distance.

#include <fmt/format.h>

#include <cmath>

#include "base/checked.h"
#include "frontends/onnx/contrib.h"
#include "ops/movement.h"

namespace sinter::onnx {
namespace {

using wiring::add;
using wiring::cast;
using wiring::like;
using wiring::mul;

// x [B, S, H * D] or [B, H, S, D] as [B, H, S, D]. num_heads of 0: heads are as long as the angles turn.
ValueId with_heads(NodeContext& c, ValueId x, const Dim& turned) {
  GraphBuilder& b = c.b;
  const Shape s = b.shape(x);
  if (s.size() == 4) return x;
  if (s.size() != 3) c.fail(fmt::format("the operand has rank {}, it must be 3 or 4", s.size()));
  const int64_t heads = c.integer("num_heads", 0);
  if (heads < 0) c.fail(fmt::format("num_heads is {}", heads));
  const Dim count = heads > 0 ? Dim(heads) : floordiv(s[2], turned);
  if (count == Dim(0)) c.fail("the angles are longer than the operand");
  return wiring::transpose(b, wiring::reshape(b, x, {s[0], s[1], count, floordiv(s[2], count)}), {0, 2, 1, 3});
}

// Turns operand 0 by cosine and sine, which broadcast against [B, H, S, half].
void turn(NodeContext& c, ValueId x, ValueId cosine, ValueId sine, const Dim& turned) {
  GraphBuilder& b = c.b;
  const Shape original = b.shape(c.in(0));
  ValueId y = rotated(b, x, cosine, sine, turned, c.integer("interleaved", 0) != 0);
  if (original.size() == 3) y = wiring::reshape(b, wiring::transpose(b, y, {0, 2, 1, 3}), original);
  c.out(0, cast(b, y, b.dtype(c.in(0))));
}

Dim turned_of(NodeContext& c, size_t cosine) {
  if (rank_of(c, cosine) != 2 || rank_of(c, cosine + 1) != 2) c.fail("cos_cache and sin_cache must have rank 2");
  return c.b.shape(c.in(cosine))[1] * Dim(2);
}

// Positions [1], the first token's, or [B, S].
ValueId token_positions(NodeContext& c, ValueId positions, const Dim& tokens) {
  GraphBuilder& b = c.b;
  const ValueId p = cast(b, positions, DType::i64);
  if (b.rank(p) == 2) return p;
  return wiring::unsqueeze(b, add(b, wiring::iota(b, count_of(b, tokens)), wiring::scalar_of(b, p)), {0});
}

// is_packed_batching changes nothing but which extents are refused.
void import_rotary_embedding(NodeContext& c) {
  const Dim turned = turned_of(c, 2);
  const ValueId x = with_heads(c, wiring::widened(c.b, c.in(0)), turned);
  const ValueId at = token_positions(c, c.in(1), c.b.shape(x)[2]);
  const DType work = c.b.dtype(x);
  turn(c, x, angles(c, c.in(2), at, work), angles(c, c.in(3), at, work), turned);
}

// Three positions of each token, in time, height and width; every angle follows one of them.
void import_multimodal_rotary_embedding(NodeContext& c) {
  GraphBuilder& b = c.b;
  const Dim turned = turned_of(c, 2);
  const ValueId x = with_heads(c, wiring::widened(b, c.in(0)), turned);
  if (rank_of(c, 1) != 3) c.fail("position_ids must have rank 3");
  const auto sections = c.integers("mrope_section");
  if (sections.size() != 3) c.fail(fmt::format("mrope_section has {} extents, it must have 3", sections.size()));
  int64_t half = 0;
  for (const int64_t n : sections) {
    if (n < 0 || n > INT32_MAX) c.fail(fmt::format("a section of {} angles", n));
    half += n;
  }
  if (half > 1 << 20) c.fail(fmt::format("{} angles", half));
  const int64_t layout = c.integer("mrope_layout", 0);
  if (layout != 0 && layout != 1) c.fail(fmt::format("mrope_layout {} is neither 0 nor 1", layout));
  Tensor in_height(DType::boolean, {half}), in_width(DType::boolean, {half});
  for (int64_t i = 0; i < half; ++i) {
    const bool by_place = layout == 1;
    const bool high = by_place ? i % 3 == 1 && i < 3 * sections[1] : i >= sections[0] && i < sections[0] + sections[1];
    const bool wide = by_place ? i % 3 == 2 && i < 3 * sections[2] : i >= sections[0] + sections[1];
    in_height.set_integer(i, high ? 1 : 0);
    in_width.set_integer(i, wide ? 1 : 0);
  }
  const ValueId high = b.constant(std::move(in_height)), wide = b.constant(std::move(in_width));
  const DType work = b.dtype(x);
  const auto chosen = [&](size_t table) {
    const auto stream = [&](int64_t k) {
      const ValueId at = wiring::squeeze(b, wiring::slice(b, cast(b, c.in(1), DType::i64), 0, k, k + 1), {0});
      return angles(c, c.in(table), at, work);
    };
    return wiring::where(b, high, stream(1), wiring::where(b, wide, stream(2), stream(0)));
  };
  turn(c, x, chosen(2), chosen(3), turned);
}

// Two operands, each with what it becomes when its halves change places.
void import_gemma_rotary(NodeContext& c) {
  GraphBuilder& b = c.b;
  const DType dtype = b.dtype(c.in(1));
  const auto wave = [&](const char* op) { return wiring::unsqueeze(b, cast(b, b.op(op, {c.in(0)}), dtype), {1}); };
  const ValueId sine = wave("Sin"), cosine = wave("Cos");
  for (size_t i = 0; i < 2; ++i) c.out(i, add(b, mul(b, c.in(1 + 2 * i), cosine), mul(b, c.in(2 + 2 * i), sine)));
}

// A root-mean-square norm of a part of each head, then a rotation of its first elements, in f32.
void import_norm_rotary(NodeContext& c) {
  GraphBuilder& b = c.b;
  if (rank_of(c, 0) != 4) c.fail("X must have rank 4");
  const Shape s = b.shape(c.in(0));
  const int64_t start = c.integer("input_start", 0), given = c.integer("input_width", 0);
  const int64_t turned = positive(c, "rotary_embedding_dim");
  if (start < 0 || given < 0 || start > INT32_MAX || given > INT32_MAX || turned % 2 != 0)
    c.fail(fmt::format("input_start {}, input_width {}, rotary_embedding_dim {}", start, given, turned));
  const Dim width = given > 0 ? Dim(given) : s[3] - Dim(start);
  ValueId x = wiring::slice(b, cast(b, c.in(0), DType::f32), 3, start, Dim(start) + width);
  x = wiring::rms_norm(b, x, cast(b, c.in(1), DType::f32), -1, c.real("epsilon", 1e-6));
  if (c.wants(1)) c.out(1, x);
  const ValueId at = token_positions(c, c.in(2), s[1]);
  ValueId y = rotated(b, wiring::transpose(b, x, {0, 2, 1, 3}), angles(c, c.in(3), at, DType::f32),
                      angles(c, c.in(4), at, DType::f32), turned, false);
  y = wiring::transpose(b, y, {0, 2, 1, 3});
  const bool flat = c.integer("flatten_batch", 0) != 0;
  y = wiring::reshape(b, y, {flat ? Dim(1) : s[0], flat ? s[0] * s[1] : s[1], s[2] * width});
  c.out(0, cast(b, y, c.integer("output_fp16", 0) != 0 ? DType::f16 : DType::bf16));
}

// Buckets of distances, exact for near ones and logarithmic beyond: [queries, keys] of i64.
void import_relative_position_bias(NodeContext& c) {
  GraphBuilder& b = c.b;
  if (rank_of(c, 0) != 2) c.fail("bias_table must have rank 2");
  const auto known = b.shape(c.in(0))[0].as_constant();
  if (!known) c.unsupported("the number of buckets must be known when the model is built");
  const bool both = c.integer("is_bidirectional", 0) != 0;
  const int64_t furthest = c.integer("max_distance", 0), buckets = both ? *known / 2 : *known, exact = buckets / 2;
  if (exact < 1 || furthest <= exact) c.fail(fmt::format("{} buckets for distances up to {}", *known, furthest));
  const auto integer = [&](int64_t v) { return b.constant(Tensor::scalar_i64(v)); };
  const ValueId column = wiring::iota(b, number(c, 2));
  const ValueId row = wiring::unsqueeze(b, wiring::iota(b, number(c, 1)), {1});
  const ValueId ahead = wiring::sub(b, column, row);
  ValueId distance, bucket = integer(0);
  if (both) {
    distance = b.op("Abs", {ahead});
    bucket = wiring::where(b, b.op("Less", {integer(0), ahead}), integer(buckets), integer(0));
  } else {
    distance = b.op("Max", {b.op("Neg", {ahead}), integer(0)});
  }
  const ValueId real = cast(b, b.op("Max", {distance, integer(1)}), DType::f32);
  const ValueId ratio = wiring::div(b, real, like(b, real, static_cast<double>(exact)));
  const double steps =
      static_cast<double>(buckets - exact) / std::log(static_cast<double>(furthest) / static_cast<double>(exact));
  const ValueId far = add(b, cast(b, mul(b, b.op("Log", {ratio}), like(b, real, steps)), DType::i64), integer(exact));
  const ValueId held = b.op("Min", {far, integer(buckets - 1)});
  bucket = add(b, bucket, wiring::where(b, b.op("Less", {distance, integer(exact)}), distance, held));
  const ValueId rows = wiring::gather(b, c.in(0), bucket, 0);  // [queries, keys, H]
  c.out(0, wiring::unsqueeze(b, wiring::transpose(b, rows, {2, 0, 1}), {0}));
}

// Two gates of each query scale the position bias of its row.
void import_gated_relative_position_bias(NodeContext& c) {
  GraphBuilder& b = c.b;
  const int64_t heads = heads_of(c, "num_heads");
  ValueId query = add(b, c.in(0), c.in(1));
  if (c.has(6)) query = padded_rows(c, query, c.in(6));  // tokens without padding
  const ValueId q = split_heads(c, query, heads);        // [B, H, S, D]
  const ValueId gates = add(b, wiring::matmul(b, q, c.in(3)), c.in(4));
  const Shape s = b.shape(gates);
  const ValueId pairs = wiring::reshape(b, gates, {s[0], s[1], s[2], 2, floordiv(s[3], 2)});
  const ValueId open = b.op("Sigmoid", {wiring::reduce(b, "Sum", pairs, {4}, false)});
  const ValueId u = wiring::slice(b, open, 3, 0, 1), r = wiring::slice(b, open, 3, 1, 2);  // [B, H, S, 1]
  const ValueId inner = wiring::sub(b, mul(b, r, c.in(5)), like(b, r, 1));
  c.out(0, mul(b, add(b, mul(b, u, inner), like(b, u, 2)), c.in(2)));
}

constexpr Entry table[] = {
    {"GatedRelativePositionBias", 1, import_gated_relative_position_bias, microsoft},
    {"GemmaRotaryEmbedding", 1, import_gemma_rotary, microsoft},
    {"MRotaryEmbedding", 1, import_multimodal_rotary_embedding, microsoft},
    {"RMSNormRotary", 1, import_norm_rotary, microsoft},
    {"RelativePositionBias", 1, import_relative_position_bias, microsoft},
    {"RotaryEmbedding", 1, import_rotary_embedding, microsoft},
};

}  // namespace

std::span<const Entry> contrib_positions_entries() { return table; }

}  // namespace sinter::onnx
