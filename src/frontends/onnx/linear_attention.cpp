// LinearAttention: a state matrix per head that every token decays, corrects, adds to and reads. It becomes a counted
// Loop over the tokens, with query heads that share a state on an axis of their own.

#include <fmt/format.h>

#include <cmath>

#include "frontends/onnx/attention.h"
#include "ops/control.h"

namespace sinter::onnx {
namespace {

using wiring::add;
using wiring::mul;

struct Rule {
  bool gated, delta;
};

Rule update_rule(NodeContext& c) {
  const std::string name = c.string("update_rule", "gated_delta");
  if (name != "linear" && name != "gated" && name != "delta" && name != "gated_delta")
    c.fail(fmt::format("update_rule '{}' is none of linear, gated, delta, gated_delta", name));
  const Rule rule{name == "gated" || name == "gated_delta", name == "delta" || name == "gated_delta"};
  if (rule.gated != c.has(4)) c.fail(fmt::format("decay must {}be given for rule {}", rule.gated ? "" : "not ", name));
  if (rule.delta != c.has(5)) c.fail(fmt::format("beta must {}be given for rule {}", rule.delta ? "" : "not ", name));
  return rule;
}

Type without_axis_1(const Type& type) {
  Shape shape = *type.shape;
  shape.erase(shape.begin() + 1);
  return Type::tensor(type.dtype, std::move(shape));
}

}  // namespace

LinearResult linear_attention(NodeContext& c, const LinearOperands& o) {
  GraphBuilder& b = c.b;
  Ids scanned = {o.q, o.k, o.v};
  if (o.decay != no_id) scanned.push_back(o.decay);
  if (o.beta != no_id) scanned.push_back(o.beta);
  sinter::Graph body;
  GraphBuilder inner(b.module, body);
  inner.input(Type::tensor(DType::i64, Shape{}));
  const ValueId again = inner.input(Type::tensor(DType::boolean, Shape{}));
  const Type state_type = b.type(o.state);
  ValueId state = inner.input(state_type);
  Ids slice;
  for (ValueId v : scanned) slice.push_back(inner.input(without_axis_1(b.type(v))));
  const ValueId key = wiring::unsqueeze(inner, slice[1], {2});  // [B, H, 1, dk]
  ValueId value = wiring::unsqueeze(inner, slice[2], {2});      // [B, H, 1, dv]
  if (o.decay != no_id) state = mul(inner, state, wiring::unsqueeze(inner, inner.op("Exp", {slice[3]}), {3}));
  if (o.beta != no_id) {
    const ValueId beta = wiring::unsqueeze(inner, slice.back(), {3});
    value = mul(inner, beta, wiring::sub(inner, value, wiring::matmul(inner, key, state)));
  }
  state = add(inner, state, mul(inner, wiring::transpose(inner, key, {0, 1, 3, 2}), value));
  if (!(inner.type(state) == state_type)) state = wiring::reshape(inner, state, *state_type.shape);
  const ValueId read = wiring::matmul(inner, slice[0], state);
  body.outputs = {again, state, read};

  const LoopAttrs attrs{
      .carried = 1, .counted = true, .scan_axes = std::vector<int64_t>(scanned.size(), 1), .stack_axes = {1}};
  Ids inputs = {b.dims({b.shape(o.q)[1]}), no_id, o.state};
  inputs.insert(inputs.end(), scanned.begin(), scanned.end());
  std::vector<sinter::Graph> bodies;
  bodies.push_back(std::move(body));
  const Ids results = b.add(op_named("Loop"), attrs, std::move(inputs), 2, std::move(bodies));
  return {mul(b, results[1], o.scale), results[0]};
}

void import_linear_attention(NodeContext& c) {
  GraphBuilder& b = c.b;
  const Rule rule = update_rule(c);
  const int64_t heads = c.integer("kv_num_heads", 0), query_heads = c.integer("q_num_heads", 0);
  if (heads < 1 || query_heads < 1 || query_heads % heads != 0)
    c.fail(fmt::format("q_num_heads {} must be a positive multiple of kv_num_heads {}", query_heads, heads));
  for (size_t i = 0; i < 6; ++i)
    if (i != 3 && c.has(i) && rank_of(c, i) != 3) c.fail(fmt::format("operand {} must have rank 3", i));
  const DType dtype = b.dtype(c.in(0));
  const Shape qs = b.shape(c.in(0)), ks = b.shape(c.in(1)), vs = b.shape(c.in(2));
  const Dim batch = qs[0], tokens = qs[1], dk = floordiv(ks[2], heads), dv = floordiv(vs[2], heads);
  const auto operand = [&](size_t i, std::vector<Dim> tail) {
    const ValueId x = wiring::widened(b, c.in(i));
    std::vector<Dim> shape = {b.shape(x)[0], b.shape(x)[1]};
    shape.insert(shape.end(), tail.begin(), tail.end());
    return wiring::reshape(b, x, shape);
  };
  LinearOperands o{
      .q = operand(0, {heads, query_heads / heads, dk}), .k = operand(1, {heads, dk}), .v = operand(2, {heads, dv})};
  const DType work = b.dtype(o.q);
  if (rule.gated) o.decay = operand(4, {heads, floordiv(b.shape(c.in(4)).back(), heads)});
  if (rule.delta) o.beta = operand(5, {b.shape(c.in(5)).back(), 1});
  o.state =
      c.has(3) ? wiring::cast(b, c.in(3), work) : wiring::fill(b, b.scalar(work, 0), b.dims({batch, heads, dk, dv}));
  const double given = c.real("scale", 0);
  o.scale = given != 0 ? b.scalar(work, given) : usual_scale(c, dk, work);
  const LinearResult y = linear_attention(c, o);
  c.out(0, wiring::cast(b, wiring::reshape(b, y.y, {batch, tokens, Dim(query_heads) * dv}), dtype));
  if (c.wants(1)) c.out(1, wiring::cast(b, y.state, c.has(3) ? b.dtype(c.in(3)) : dtype));
}

}  // namespace sinter::onnx
