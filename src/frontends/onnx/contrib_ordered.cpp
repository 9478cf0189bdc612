// Entries of domain com.microsoft for 8-bit matrices of accelerators: integers in the storage orders of one matrix
// library, and 8-bit floats. A matrix keeps its extents whatever its order; reals are computed between conversions.

#include <fmt/core.h>

#include "frontends/onnx/contrib.h"
#include "ops/cast.h"

namespace sinter::onnx {
namespace {

using wiring::add;
using wiring::cast;
using wiring::like;
using wiring::mul;

// ---- storage orders ----

enum class Order : int64_t { column, row, column_32, column_4_4r2_8c, column_32_2r_4r4 };

Order order_of(NodeContext& c, std::string_view name, Order otherwise) {
  const int64_t order = c.integer(name, static_cast<int64_t>(otherwise));
  if (order < 0 || order > 4) c.fail(fmt::format("{} {} is outside [0, 4]", name, order));
  return static_cast<Order>(order);
}

// How an order is a permutation of axes: rows and columns are cut into these (0: what remains), and stored by `perm`.
struct Cut {
  std::vector<int64_t> rows, columns, perm;
};

Cut cut_of(Order order) {
  switch (order) {
    case Order::column: return {{0}, {0}, {1, 0}};
    case Order::column_32: return {{0}, {0, 32}, {1, 0, 2}};
    case Order::column_4_4r2_8c:  // rows: eights, pairs, odd; columns: 32s, eights, fours, one
      return {{0, 4, 2}, {0, 4, 2, 4}, {3, 0, 2, 4, 5, 1, 6}};
    case Order::column_32_2r_4r4:  // rows: 32s, eights, pairs, odd
      return {{0, 4, 4, 2}, {0, 32}, {4, 0, 2, 1, 3, 5}};
    case Order::row: break;
  }
  return {};
}

// x [..., rows, columns] from row-major to an order, or back.
ValueId reordered(NodeContext& c, ValueId x, Order order, bool back) {
  GraphBuilder& b = c.b;
  if (order == Order::row) return x;
  const Shape shape = b.shape(x);
  if (shape.empty()) return x;
  const Cut cut = cut_of(order);
  Shape parts(shape.begin(), shape.size() > 2 ? shape.end() - 2 : shape.begin());
  const auto outer = static_cast<int64_t>(parts.size());
  const auto append = [&](const Dim& extent, const std::vector<int64_t>& by) {
    int64_t inner = 1;
    for (size_t i = 1; i < by.size(); ++i) inner *= by[i];
    if (extent.is_constant() && extent.constant() % inner != 0)
      c.fail(fmt::format("extent {} is no multiple of {}, as the storage order needs", extent.constant(), inner));
    parts.push_back(floordiv(extent, inner));
    for (size_t i = 1; i < by.size(); ++i) parts.push_back(by[i]);
  };
  append(shape.size() > 1 ? shape[shape.size() - 2] : Dim(1), cut.rows);
  append(shape.back(), cut.columns);
  std::vector<int64_t> perm = wiring::axis_range(0, parts.size());
  for (size_t i = 0; i < cut.perm.size(); ++i) perm[static_cast<size_t>(outer) + i] = outer + cut.perm[i];
  if (back) {
    Shape stored;
    std::vector<int64_t> inverse(perm.size());
    for (size_t i = 0; i < perm.size(); ++i) {
      stored.push_back(parts[static_cast<size_t>(perm[i])]);
      inverse[static_cast<size_t>(perm[i])] = static_cast<int64_t>(i);
    }
    parts = stored;
    perm = inverse;
  }
  return wiring::reshape(b, wiring::transpose(b, wiring::reshape(b, x, parts), perm), shape);
}

// ---- conversions ----

ValueId real_of(NodeContext& c, ValueId x, size_t scale, Order order) {
  return mul(c.b, cast(c.b, reordered(c, x, order, true), DType::f32), scale_of(c, scale));
}

ValueId rounded(NodeContext& c, ValueId y, size_t scale) {
  return c.b.op("QuantizeLinear", QuantizeAttrs{.to = DType::i8}, {cast(c.b, y, DType::f32), scale_of(c, scale)});
}

void put(NodeContext& c, ValueId y, size_t scale, Order order) {
  c.out(0, reordered(c, rounded(c, y, scale), order, false));
}

void import_quantize(NodeContext& c) {
  put(c, reordered(c, c.in(0), order_of(c, "order_input", Order::row), true), 1,
      order_of(c, "order_output", Order::row));
}

void import_dequantize(NodeContext& c) {
  const ValueId y = real_of(c, c.in(0), 1, order_of(c, "order_input", Order::row));
  c.out(0, cast(c.b, reordered(c, y, order_of(c, "order_output", Order::row), false), c.dtype("to", DType::f32)));
}

// ---- operators ----

void import_matmul(NodeContext& c) {
  GraphBuilder& b = c.b;
  const Order order = order_of(c, "order_A", Order::row), of_b = order_of(c, "order_B", Order::column);
  if (rank_of(c, 2) != 2) c.fail("B must have rank 2");
  ValueId w = c.in(2);
  if (of_b == Order::column_4_4r2_8c || of_b == Order::column_32_2r_4r4) {
    // What is stored is the transposed matrix.
    const Shape s = b.shape(w);
    w = wiring::transpose(b, reordered(c, wiring::reshape(b, w, {s[1], s[0]}), of_b, true), {1, 0});
  } else {
    w = reordered(c, w, of_b, true);
  }
  const ValueId x = cast(b, reordered(c, c.in(0), order, true), DType::i32);
  ValueId y = cast(b, wiring::matmul(b, x, cast(b, w, DType::i32)), DType::f32);
  y = mul(b, y, mul(b, scale_of(c, 1), scale_of(c, 3)));
  if (c.has(5)) y = add(b, y, cast(b, c.in(5), DType::f32));
  if (c.has(6)) y = add(b, y, real_of(c, c.in(6), 7, order));
  put(c, y, 4, order);
}

void import_gelu(NodeContext& c) {
  const Order order = order_of(c, "order_X", Order::row);
  put(c, wiring::gelu(c.b, real_of(c, c.in(0), 1, order), false), 2, order);
}

void import_layer_norm(NodeContext& c) {
  const Order order = order_of(c, "order_X", Order::row);
  const ValueId x = real_of(c, c.in(0), 1, order);
  const auto n = wiring::layer_norm(c.b, x, c.in(2), c.maybe(3), c.integer("axis", -1), c.real("epsilon", 1e-5));
  put(c, n.y, 4, order);
}

// Queries, keys and values are rounded to 8 bits; scores and their softmax stay reals.
void import_attention(NodeContext& c) {
  GraphBuilder& b = c.b;
  if (c.has(18)) c.unsupported("past states, which the operator does not define yet");
  const Order order = order_of(c, "order_input", Order::row), of_w = order_of(c, "order_weight", Order::column);
  const int64_t heads = heads_of(c, "num_heads");
  const ValueId x = real_of(c, c.in(0), 1, order);
  if (b.rank(x) != 3) c.fail("input must have rank 3");
  const auto projected = [&](size_t i) {
    const ValueId w = real_of(c, c.in(5 + i), 8 + i, of_w);
    const ValueId y = add(b, wiring::matmul(b, x, w), cast(b, c.in(11 + i), DType::f32));
    return split_heads(c, mul(b, cast(b, rounded(c, y, 2 + i), DType::f32), scale_of(c, 2 + i)), heads);
  };
  const ValueId q = projected(0), k = projected(1), v = projected(2);
  const Shape s = b.shape(q);
  Attend options;
  if (c.has(17)) join(b, options.bias, mask_bias(c, c.in(17), s[0], s[2], s[2], DType::f32));
  if (c.has(19)) join(b, options.bias, cast(b, c.in(19), DType::f32));
  if (c.integer("unidirectional", 0) != 0) options.last = b.scalar(DType::i64, 0);
  put(c, attend(c, q, k, v, options), 16, order_of(c, "order_output", Order::row));
}

void import_longformer(NodeContext& c) {
  const Order of_w = order_of(c, "order_weight", Order::column);
  const ValueId x = real_of(c, c.in(0), 1, order_of(c, "order_input", Order::row));
  const ValueId w = real_of(c, c.in(2), 3, of_w);
  const ValueId global = real_of(c, c.in(8), 9, order_of(c, "order_global_weight", of_w));
  const Ids y = imported_as(c, microsoft, "LongformerAttention", 1,
                            {x, w, cast(c.b, c.in(4), DType::f32), cast(c.b, c.in(7), DType::f32), global,
                             cast(c.b, c.in(10), DType::f32), c.in(12)});
  put(c, y.at(0), 13, order_of(c, "order_output", Order::row));
}

// ---- 8-bit floats ----

void import_gemm_float8(NodeContext& c) {
  GraphBuilder& b = c.b;
  if (rank_of(c, 0) != 2 || rank_of(c, 1) != 2) c.fail("A and B must have rank 2");
  const auto operand = [&](size_t i, size_t scale) {
    const ValueId v = cast(b, c.in(i), DType::f32);
    return c.has(scale) ? mul(b, v, scale_of(c, scale)) : v;
  };
  ValueId x = operand(0, 3);
  if (c.integer("transA", 0) != 0) x = wiring::transpose(b, x, {1, 0});
  ValueId y = wiring::matmul(b, x, operand(1, 4), c.integer("transB", 0) != 0);
  if (const double alpha = c.real("alpha", 1); alpha != 1) y = mul(b, y, like(b, y, alpha));
  const double beta = c.real("beta", 0);
  if (c.has(2) && beta != 0) y = add(b, y, mul(b, cast(b, c.in(2), DType::f32), like(b, y, beta)));
  const std::string name = c.string("activation", "NONE");
  if (name == "RELU")
    y = b.op("Relu", {y});
  else if (name == "GELU")
    y = wiring::gelu(b, y, true);
  else if (name != "NONE" && !name.empty())
    c.fail(fmt::format("activation '{}' is none of NONE, RELU, GELU", name));
  if (c.has(5)) y = mul(b, y, scale_of(c, 5));
  c.out(0, cast(b, y, c.dtype("dtype", DType::f32)));
}

constexpr Entry table[] = {
    {"DequantizeWithOrder", 1, import_dequantize, microsoft},
    {"GemmFloat8", 1, import_gemm_float8, microsoft},
    {"QOrderedAttention", 1, import_attention, microsoft},
    {"QOrderedGelu", 1, import_gelu, microsoft},
    {"QOrderedLayerNormalization", 1, import_layer_norm, microsoft},
    {"QOrderedLongformerAttention", 1, import_longformer, microsoft},
    {"QOrderedMatMul", 1, import_matmul, microsoft},
    {"QuantizeWithOrder", 1, import_quantize, microsoft},
};

}  // namespace

std::span<const Entry> contrib_ordered_entries() { return table; }

}  // namespace sinter::onnx
