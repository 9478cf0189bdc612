// Entries of domain com.microsoft that route tokens to experts: MoE, QMoE, and the routers before them.
//
// Experts are slices of a counted Loop; each takes the rows of the tokens that chose it, as many as running finds out,
// and adds what it makes of them times the tokens' weights.

#include <fmt/format.h>

#include "base/checked.h"
#include "frontends/onnx/contrib.h"
#include "ops/cast.h"
#include "ops/control.h"
#include "ops/indexing.h"
#include "ops/selection.h"

namespace sinter::onnx {
namespace {

using wiring::add;
using wiring::cast;
using wiring::like;
using wiring::mul;

struct Activation {
  std::string name;
  int64_t fusion = 0;  // of gate and up: 0 apart, 1 interleaved, 2 one after the other
  GatedUnit unit;
  bool gated() const { return name == "swiglu" || name == "geglu"; }
};

Activation activation_of(NodeContext& c) {
  Activation a;
  a.name = c.string("activation_type", "relu");
  a.fusion = c.integer("swiglu_fusion", 0);
  if (a.fusion < 0 || a.fusion > 2) c.fail(fmt::format("swiglu_fusion {} is none of 0, 1, 2", a.fusion));
  a.unit = {.alpha = c.real("activation_alpha", 1),
            .beta = c.real("activation_beta", 0),
            .limit = c.real("swiglu_limit", 0),
            .limit_after = c.integer("swiglu_limit_after_activation", 0) != 0};
  if (a.unit.limit == static_cast<double>(std::numeric_limits<float>::infinity())) a.unit.limit = 0;
  for (const char* name : {"relu", "gelu", "silu", "identity", "relu2", "swiglu", "geglu"})
    if (a.name == name) return a;
  c.fail(fmt::format("activation_type '{}' is none of relu, gelu, silu, identity, relu2, swiglu, geglu", a.name));
}

ValueId activated(GraphBuilder& b, const Activation& a, ValueId gate, ValueId up) {
  if (a.name == "swiglu") return gated_unit(b, gate, up, a.unit);
  if (a.name == "geglu") return mul(b, wiring::gelu(b, gate, true), up);
  if (a.name == "relu") return b.op("Relu", {gate});
  if (a.name == "gelu") return wiring::gelu(b, gate, false);
  if (a.name == "silu") return wiring::pointwise(b, "Swish", {{"alpha", 1}}, gate);
  if (a.name == "identity") return gate;
  const ValueId positive = b.op("Relu", {gate});
  return mul(b, positive, positive);
}

// Weights of one layer of all experts: [E, rows, columns] and [E, rows] or absent, in f32.
struct Layer {
  ValueId weight = no_id, bias = no_id;
};

Type without_first_axis(const Type& type) {
  return Type::tensor(type.dtype, Shape(type.shape->begin() + 1, type.shape->end()));
}

// x f32[T, H], route f32[T, E], zero where an expert was not chosen.
ValueId mixed(NodeContext& c, ValueId x, ValueId route, const Layer (&layers)[3], const Activation& a) {
  GraphBuilder& b = c.b;
  if (a.gated() && a.fusion == 0 && layers[2].weight == no_id) c.fail("fc3_experts_weights are missing");
  Ids scanned = {wiring::transpose(b, route, {1, 0})};
  for (const Layer& layer : layers)
    for (const ValueId v : {layer.weight, layer.bias})
      if (v != no_id) scanned.push_back(v);
  const ValueId zeros = wiring::fill(b, like(b, x, 0), wiring::shape_of(b, x));

  sinter::Graph body;
  GraphBuilder inner(b.module, body);
  inner.input(Type::tensor(DType::i64, Shape{}));
  const ValueId again = inner.input(Type::tensor(DType::boolean, Shape{}));
  ValueId sum = inner.input(b.type(zeros));
  Ids slices;
  for (const ValueId v : scanned) slices.push_back(inner.input(without_first_axis(b.type(v))));
  const ValueId tokens = inner.input(b.type(x));
  size_t next = 1;
  const auto linear = [&](const Layer& layer, ValueId v) {
    ValueId y = wiring::matmul(inner, v, slices[next++], true);
    return layer.bias == no_id ? y : add(inner, y, slices[next++]);
  };
  const ValueId chosen = wiring::squeeze(inner, inner.op("NonZero", {slices[0]}), {0});
  const ValueId rows = wiring::gather(inner, tokens, chosen, 0);
  const ValueId first = linear(layers[0], rows);
  ValueId gate = first, up = no_id;
  const size_t behind = next;  // the second layer's slices; the third's follow
  if (a.gated() && a.fusion != 0) {
    const Shape s = inner.shape(first);
    const Dim half = floordiv(s[1], 2);
    if (a.fusion == 1) {
      const ValueId pairs = wiring::reshape(inner, first, {s[0], half, 2});
      const auto part = [&](int64_t k) {
        return wiring::squeeze(inner, wiring::slice(inner, pairs, 2, k, k + 1), {2});
      };
      gate = part(0);
      up = part(1);
    } else {
      gate = wiring::slice(inner, first, 1, 0, half);
      up = wiring::slice(inner, first, 1, half, s[1]);
    }
  } else if (layers[2].weight != no_id) {
    next = behind + (layers[1].bias == no_id ? 1 : 2);
    up = linear(layers[2], rows);
    next = behind;
  }
  if (!a.gated() && up != no_id) {
    gate = mul(inner, activated(inner, a, gate, no_id), up);
  } else {
    gate = activated(inner, a, gate, up);
  }
  ValueId y = linear(layers[1], gate);
  y = mul(inner, y, wiring::unsqueeze(inner, wiring::gather(inner, slices[0], chosen, 0), {1}));
  sum = inner.op("ScatterND", ScatterNDAttrs{.reduction = Reduction::add},
                 {sum, wiring::unsqueeze(inner, chosen, {1}), y});
  body.outputs = {again, sum};

  const LoopAttrs attrs{
      .carried = 1, .counted = true, .scan_axes = std::vector<int64_t>(scanned.size(), 0), .stack_axes = {}};
  Ids inputs = {b.dims({b.shape(route)[1]}), no_id, zeros};
  inputs.insert(inputs.end(), scanned.begin(), scanned.end());
  inputs.push_back(x);
  std::vector<sinter::Graph> bodies;
  bodies.push_back(std::move(body));
  return b.add(op_named("Loop"), attrs, std::move(inputs), 1, std::move(bodies))[0];
}

// [T, E], zero but for the k chosen experts, from scores [T, E] and what the experts weigh.
ValueId routed(NodeContext& c, ValueId scores, ValueId weights, ValueId k) {
  GraphBuilder& b = c.b;
  const Ids top = b.add(op_named("TopK"), TopKAttrs{}, {scores, k}, 2);
  const ValueId picked = b.op("GatherElements", GatherAttrs{.axis = 1}, {weights, top[1]});
  const ValueId zeros = wiring::fill(b, like(b, weights, 0), wiring::shape_of(b, scores));
  return b.op("ScatterElements", ScatterElementsAttrs{.axis = 1}, {zeros, top[1], picked});
}

// The two best experts, each weighed by softmax over those whose score is near it.
ValueId sparsely_routed(NodeContext& c, ValueId scores) {
  GraphBuilder& b = c.b;
  const auto best = [&](ValueId from, ValueId& weight) {
    const ValueId high = wiring::reduce(b, "Max", from, {1});
    const ValueId far = wiring::div(b, wiring::sub(b, high, scores), b.op("Max", {b.op("Abs", {scores}), high}));
    const ValueId near = b.op("LessOrEqual", {far, like(b, far, 0.02)});
    const ValueId kept = wiring::where(b, near, from, like(b, from, minus_infinity));
    weight = routed(c, kept, wiring::softmax(b, kept, 1), b.integers({1}));
  };
  ValueId first = no_id, second = no_id;
  best(scores, first);
  best(wiring::where(b, b.op("Less", {like(b, first, 0), first}), like(b, scores, minus_infinity), scores), second);
  return add(b, first, second);
}

// x [T, H] or [B, S, H], scores [T, E]; `weights`: what experts weigh, else softmax of the scores.
void experts(NodeContext& c, size_t weights, const Layer (&layers)[3]) {
  GraphBuilder& b = c.b;
  const size_t rank = rank_of(c, 0);
  if (rank != 2 && rank != 3) c.fail(fmt::format("the input has rank {}, it must be 2 or 3", rank));
  if (rank_of(c, 1) != 2) c.fail("router_probs must have rank 2");
  const Shape shape = b.shape(c.in(0));
  const ValueId scores = cast(b, c.in(1), DType::f32);
  ValueId x = cast(b, c.in(0), DType::f32);
  if (rank == 3) x = wiring::reshape(b, x, {shape[0] * shape[1], shape[2]});
  const ValueId k = b.integers({positive(c, "k", 1)});
  ValueId route;
  if (c.integer("use_sparse_mixer", 0) != 0) {
    if (c.integer("k", 1) != 2) c.fail("use_sparse_mixer needs k = 2");
    route = sparsely_routed(c, scores);
  } else {
    const bool own = c.has(weights);
    route = routed(c, scores, own ? cast(b, c.in(weights), DType::f32) : wiring::softmax(b, scores, 1), k);
    if (c.integer("normalize_routing_weights", 0) != 0)
      route = wiring::div(b, route, wiring::reduce(b, "Sum", route, {1}));
  }
  ValueId y = mixed(c, x, route, layers, activation_of(c));
  if (rank == 3) y = wiring::reshape(b, y, shape);
  c.out(0, cast(b, y, b.dtype(c.in(0))));
}

ValueId in_f32(NodeContext& c, size_t i, size_t rank) {
  if (!c.has(i)) return no_id;
  if (rank_of(c, i) != rank) c.fail(fmt::format("operand {} must have rank {}", i, rank));
  return cast(c.b, c.in(i), DType::f32);
}

void import_moe(NodeContext& c) {
  const Layer layers[3] = {
      {in_f32(c, 2, 3), in_f32(c, 3, 2)}, {in_f32(c, 4, 3), in_f32(c, 5, 2)}, {in_f32(c, 6, 3), in_f32(c, 7, 2)}};
  if (layers[0].weight == no_id || layers[1].weight == no_id) c.fail("weights of experts are missing");
  experts(c, SIZE_MAX, layers);
}

// ---- QMoE ----

int64_t known_extent(NodeContext& c, ValueId v, size_t axis) {
  const Shape& s = c.b.shape(v);
  const auto n = axis < s.size() ? s[axis].as_constant() : std::nullopt;
  if (!n) c.unsupported("extents of experts' weights must be known when the model is built");
  return *n;
}

// Integers: bytes [E, N, K * bits / 8]; a scale for each row or each block of one.
ValueId integer_weight(NodeContext& c, size_t at, size_t zero_at, int64_t bits) {
  GraphBuilder& b = c.b;
  const int64_t e = known_extent(c, c.in(at), 0), n = known_extent(c, c.in(at), 1);
  const int64_t k = checked_mul(known_extent(c, c.in(at), 2), 8) / bits, block = c.integer("block_size", 0);
  if (e < 1 || n < 1 || k < 1 || block < 0 || block > INT32_MAX) c.fail("weights of experts are empty");
  const FewBits form{bits, checked_mul(e, n), k, block > 0 ? block : k};
  ValueId zero = c.maybe(zero_at);
  if (zero != no_id && block == 0) {  // packed over rows
    zero = unpacked(c, wiring::reshape(b, zero, {e, ceil_div(checked_mul(n, bits), 8)}), bits);
    zero = wiring::slice(b, zero, 1, 0, n);
  }
  return wiring::reshape(b, few_bits_weight(c, form, c.in(at), c.in(at + 1), zero), {e, n, k});
}

// Floats of 8 bits: [E, N, K], a scale for each square block or for each expert.
ValueId fp8_weight(NodeContext& c, size_t at, size_t global) {
  GraphBuilder& b = c.b;
  const ValueId w = cast(b, c.in(at), DType::f32);
  if (rank_of(c, at) != 3) c.fail("weights of experts must have rank 3");
  const int64_t block = c.integer("block_size", 0);
  if (block < 1) {
    if (!c.has(global)) c.fail("global scales are missing");
    return mul(b, w, wiring::unsqueeze(b, cast(b, c.in(global), DType::f32), {1, 2}));
  }
  const Shape s = b.shape(w);
  const ValueId scale = cast(b, c.in(at + 1), DType::f32);
  return mul(b, w, spread(c, spread(c, scale, 1, s[1], block), 2, s[2], block));
}

// Floats of 4 bits: two rows a byte [E, K, N / 2], or two columns a byte; a scale for each block of a row [E, N, K /
// block] and one for each expert.
ValueId fp4_weight(NodeContext& c, size_t at, size_t global, int64_t block, bool by_rows) {
  GraphBuilder& b = c.b;
  const int64_t e = known_extent(c, c.in(at + 1), 0), n = known_extent(c, c.in(at + 1), 1);
  const int64_t k = checked_mul(known_extent(c, c.in(at + 1), 2), block);
  const auto values = [&](int64_t rows, int64_t columns) {
    return unpacked_fp4(c, wiring::reshape(b, c.in(at), {e, rows, columns / 2}));
  };
  const ValueId w = by_rows ? values(n, k) : wiring::transpose(b, values(k, n), {0, 2, 1});
  ValueId y = mul(b, w, spread(c, cast(b, c.in(at + 1), DType::f32), 2, k, block));
  if (!c.has(global)) c.fail("global scales are missing");
  return mul(b, y, wiring::unsqueeze(b, cast(b, c.in(global), DType::f32), {1, 2}));
}

void import_quantized_moe(NodeContext& c) {
  const std::string type = c.string("quant_type", "int");
  const int64_t bits = c.integer("expert_weight_bits", 4), prepacked = c.integer("weights_prepacked", -1);
  constexpr const char* widths[] = {"fc1_expert_weight_bits", "fc2_expert_weight_bits", "fc3_expert_weight_bits"};
  if (type == "int" && prepacked == 1)
    c.unsupported("weights in the order of one device's kernels (weights_prepacked); export them unpacked");
  Layer layers[3];
  for (size_t i = 0; i < 3; ++i) {
    const size_t at = 2 + 3 * i, global = 15 + i;
    if (!c.has(at)) continue;
    if (type == "int") {
      const int64_t own = c.integer(widths[i], bits);
      if (own < 2 || own > 8) c.fail(fmt::format("{} bits, there must be 2 to 8", own));
      layers[i].weight = integer_weight(c, at, 11 + i, own);
    } else if (type == "fp8") {
      layers[i].weight = fp8_weight(c, at, i < 2 ? global : SIZE_MAX);
    } else if (type == "fp4" || type == "nvfp4" || type == "wfp4afp8") {
      const bool by_rows = type == "nvfp4" && prepacked == 1;
      layers[i].weight = fp4_weight(c, at, i < 2 ? global : SIZE_MAX, type == "nvfp4" ? 16 : 32, by_rows);
    } else {
      c.fail(fmt::format("quant_type '{}' is none of int, fp8, fp4, nvfp4, wfp4afp8", type));
    }
    layers[i].bias = in_f32(c, at + 2, 2);
  }
  if (layers[0].weight == no_id || layers[1].weight == no_id) c.fail("weights of experts are missing");
  experts(c, 14, layers);
}

// ---- routers ----

// Experts of the best groups, by the sum of a group's best scores; logarithms of the chosen ones' weights.
void import_group_router(NodeContext& c) {
  GraphBuilder& b = c.b;
  const int64_t groups = positive(c, "n_group", 1), active = positive(c, "topk_group", 1),
                summed = positive(c, "group_topk", 2), k = positive(c, "top_k");
  ValueId logits = cast(b, c.in(0), DType::f32);
  if (c.has(2)) logits = wiring::matmul(b, logits, cast(b, c.in(2), DType::f32), true);
  Shape s = b.shape(logits);
  if (s.empty()) c.fail("logits are a scalar");
  Dim rows = 1;
  for (size_t i = 0; i + 1 < s.size(); ++i) rows = rows * s[i];
  const Dim all = s.back();
  const ValueId weight = b.op("Sigmoid", {wiring::reshape(b, logits, {rows, all})});
  const ValueId score = add(b, weight, cast(b, c.in(1), DType::f32));
  if (c.wants(1)) c.out(1, score);
  if (c.wants(2)) c.out(2, weight);
  if (!c.wants(0)) return;
  if (!all.is_constant() || all.constant() % groups != 0)
    c.fail(fmt::format("the number of experts must be a known multiple of {} groups", groups));
  const int64_t size = all.constant() / groups;
  const auto marked = [&](ValueId values, int64_t count, int64_t limit) {  // 1 at the best, else 0
    const ValueId best = b.integers({std::min(count, limit)});
    const ValueId ones = wiring::fill(b, like(b, values, 1), wiring::shape_of(b, values));
    return routed(c, values, ones, best);
  };
  ValueId masked = score;
  if (groups > 1) {
    const ValueId grouped = wiring::reshape(b, score, {rows, groups, size});
    const Ids top = b.add(op_named("TopK"), TopKAttrs{}, {grouped, b.integers({std::min(summed, size)})}, 2);
    const ValueId chosen = marked(wiring::reduce(b, "Sum", top[0], {2}, false), active, groups);
    const ValueId open = b.op("Less", {like(b, chosen, 0), wiring::unsqueeze(b, chosen, {2})});
    masked = wiring::reshape(b, wiring::where(b, open, grouped, like(b, grouped, minus_infinity)), {rows, all});
  }
  const ValueId best = marked(masked, k, all.constant());
  const ValueId logarithm = b.op("Log", {b.op("Max", {weight, like(b, weight, 1e-20)})});
  const ValueId y = wiring::where(b, b.op("Less", {like(b, best, 0), best}), logarithm,
                                  like(b, weight, c.real("router_sentinel", -10000)));
  c.out(0, cast(b, y, b.dtype(c.in(0))));
}

// One product, of which some columns are a router's scores and the rest a shared expert's gate and up.
void import_router_gate_up(NodeContext& c) {
  GraphBuilder& b = c.b;
  const std::string name = c.string("activation", "swiglu");
  if (name != "swiglu") c.fail(fmt::format("activation '{}' is not swiglu", name));
  const DType dtype = b.dtype(c.in(0));
  const ValueId y = wiring::matmul(b, c.in(0), c.in(1));
  const auto axis = static_cast<int64_t>(b.rank(y)) - 1;
  const Dim first = positive(c, "router_size"), whole = b.shape(y).back(), half = floordiv(whole - first, 2);
  const auto part = [&](const Dim& from, const Dim& to) { return wiring::slice(b, y, axis, from, to); };
  c.out(0, part(0, first));
  const GatedUnit unit{
      .alpha = c.real("activation_alpha", 1), .beta = c.real("activation_beta", 0), .limit = c.real("limit", 0)};
  const ValueId gate = wiring::widened(b, part(first, first + half));
  c.out(1, cast(b, gated_unit(b, gate, wiring::widened(b, part(first + half, whole)), unit), dtype));
}

constexpr Entry table[] = {
    {"MoE", 1, import_moe, microsoft},
    {"MoEGroupRouter", 1, import_group_router, microsoft},
    {"QMoE", 1, import_quantized_moe, microsoft},
    {"RouterGateUpProj", 1, import_router_gate_up, microsoft},
};

}  // namespace

std::span<const Entry> contrib_experts_entries() { return table; }

}  // namespace sinter::onnx
