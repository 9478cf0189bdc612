// Mamba2Verify of domain com.microsoft: the mixer of a state space network over the tokens of a draft, which keeps the
// states behind each token, so that the caller can go on from the last one that is accepted.

#include <fmt/core.h>

#include <limits>

#include "frontends/onnx/contrib.h"
#include "ops/control.h"

namespace sinter::onnx {
namespace {

using wiring::add;
using wiring::cast;
using wiring::like;
using wiring::mul;

constexpr int64_t taps = 4;

struct Sizes {
  int64_t heads, groups, states, each;  // each: channels of a head
  Dim tokens, slots;
  int64_t inner() const { return heads * each; }
  int64_t channels() const { return inner() + 2 * groups * states; }
};

Sizes sizes_of(NodeContext& c) {
  constexpr int64_t most = 1 << 16;
  Sizes n{
      positive(c, "heads"), positive(c, "n_groups"), positive(c, "d_state", 128), positive(c, "head_dim", 64), 0, 0};
  if (n.heads > most || n.groups > most || n.states > most || n.each > most)
    c.fail(
        fmt::format("{} heads of {}, {} groups of {}: more than {} of one", n.heads, n.each, n.groups, n.states, most));
  if (n.heads % n.groups != 0) c.fail(fmt::format("{} groups do not divide {} heads", n.groups, n.heads));
  if (rank_of(c, 0) != 2 || rank_of(c, 1) != 3 || rank_of(c, 2) != 4)
    c.fail("projection must have rank 2, conv_state 3, ssm_state 4");
  n.tokens = c.b.shape(c.in(0))[0];
  n.slots = c.b.shape(c.in(1))[0];
  return n;
}

struct Recurrence {
  ValueId read, states;  // [R, heads, each], [R, heads, states, each]
};

// All f32: x [R, heads, each], in and out [R, heads, states], step and decay [R, heads], first [heads, states, each].
Recurrence recurrence(GraphBuilder& b, ValueId x, ValueId in, ValueId out, ValueId step, ValueId decay, ValueId first) {
  const Ids scanned = {x, in, out, step, decay};
  sinter::Graph body;
  GraphBuilder inner(b.module, body);
  inner.input(Type::tensor(DType::i64, Shape{}));
  const ValueId again = inner.input(Type::tensor(DType::boolean, Shape{}));
  ValueId state = inner.input(b.type(first));
  Ids now;
  for (const ValueId v : scanned) {
    const Shape& whole_shape = b.shape(v);
    now.push_back(inner.input(Type::tensor(b.dtype(v), Shape(whole_shape.begin() + 1, whole_shape.end()))));
  }
  const ValueId driven = mul(inner, now[0], wiring::unsqueeze(inner, now[3], {1}));  // [heads, each]
  const ValueId added = mul(inner, wiring::unsqueeze(inner, now[1], {2}), wiring::unsqueeze(inner, driven, {1}));
  state = add(inner, mul(inner, state, wiring::unsqueeze(inner, now[4], {1, 2})), added);
  const ValueId read = wiring::matmul(inner, wiring::unsqueeze(inner, now[2], {1}), state);  // [heads, 1, each]
  body.outputs = {again, state, wiring::squeeze(inner, read, {1}), state};
  const LoopAttrs attrs{
      .carried = 1, .counted = true, .scan_axes = std::vector<int64_t>(scanned.size(), 0), .stack_axes = {0, 0}};
  Ids operands = {wiring::extent(b, x, 0), no_id, first};
  operands.insert(operands.end(), scanned.begin(), scanned.end());
  std::vector<sinter::Graph> bodies;
  bodies.push_back(std::move(body));
  const Ids made = b.add(op_named("Loop"), attrs, std::move(operands), 3, std::move(bodies));
  return {made[1], made[2]};
}

}  // namespace

void import_mamba_verify(NodeContext& c) {
  GraphBuilder& b = c.b;
  const Sizes n = sizes_of(c);
  const DType dtype = b.dtype(c.in(0));
  const int64_t inner = n.inner(), channels = n.channels();
  const auto in_f32 = [&](size_t i) { return cast(b, c.in(i), DType::f32); };
  // A row that is none makes everything NaN.
  const ValueId row = number(c, 9);
  const ValueId there =
      b.op("And", {b.op("LessOrEqual", {whole(b, 0), row}), b.op("Less", {row, count_of(b, n.slots)})});
  const auto valid = [&](ValueId v) {
    return wiring::where(b, there, v, like(b, v, std::numeric_limits<double>::quiet_NaN()));
  };
  const auto first_of = [&](ValueId all) {
    return wiring::gather(b, all, wiring::where(b, there, row, whole(b, 0)), 0);
  };

  const ValueId projection = in_f32(0);
  const auto part = [&](ValueId x, int64_t from, int64_t count) { return wiring::slice(b, x, 1, from, from + count); };
  const ValueId history =
      wiring::transpose(b, wiring::reshape(b, first_of(in_f32(1)), {channels, taps - 1}), {1, 0});  // [3, channels]
  const ValueId line = wiring::concat(b, {history, part(projection, inner, channels)}, 0);          // [3 + R, channels]
  const ValueId weight = wiring::reshape(b, in_f32(3), {channels, taps});
  ValueId sum = in_f32(4);
  for (int64_t k = 0; k < taps; ++k) {
    const ValueId tap = wiring::squeeze(b, wiring::slice(b, weight, 1, k, k + 1), {1});
    sum = add(b, sum, mul(b, wiring::slice(b, line, 0, k, n.tokens + Dim(k)), tap));
  }
  const ValueId xbc = cast(b, mul(b, sum, b.op("Sigmoid", {sum})), dtype);
  if (c.wants(3)) c.out(3, valid(xbc));

  const ValueId mixed = cast(b, xbc, DType::f32);
  const ValueId x = wiring::reshape(b, part(mixed, 0, inner), {n.tokens, n.heads, n.each});
  const auto of_heads = [&](int64_t from) {  // of groups, as each of their heads has it
    const ValueId v = wiring::reshape(b, part(mixed, from, n.groups * n.states), {n.tokens, n.groups, 1, n.states});
    const ValueId all = b.op("Expand", {v, b.dims({n.tokens, n.groups, n.heads / n.groups, n.states})});
    return wiring::reshape(b, all, {n.tokens, n.heads, n.states});
  };
  const ValueId raw = add(b, part(projection, inner + channels, n.heads), in_f32(5));
  const ValueId step = b.op("Max", {b.op("Softplus", {raw}), like(b, raw, c.real("time_step_min", 1e-3))});
  const ValueId decay = b.op("Exp", {mul(b, in_f32(6), step)});
  const Recurrence made = recurrence(b, x, of_heads(inner), of_heads(inner + n.groups * n.states), step, decay,
                                     wiring::reshape(b, first_of(in_f32(2)), {n.heads, n.states, n.each}));
  const ValueId skipped = mul(b, x, wiring::unsqueeze(b, in_f32(7), {1}));
  const ValueId read = wiring::reshape(b, add(b, skipped, made.read), {n.tokens, inner});
  if (c.wants(4)) c.out(4, valid(read));
  const ValueId gate = part(projection, 0, inner);
  ValueId y = mul(b, read, mul(b, gate, b.op("Sigmoid", {gate})));
  y = wiring::reshape(b, y, {n.tokens, n.groups, inner / n.groups});
  y = wiring::rms_norm(b, y, wiring::reshape(b, in_f32(8), {n.groups, inner / n.groups}), -1, c.real("epsilon", 1e-5));
  c.out(0, valid(cast(b, wiring::reshape(b, y, {n.tokens, inner}), dtype)));

  // States behind the last tokens, as many as there are slots; other slots keep theirs.
  const Dim from = max(n.tokens - n.slots, 0), kept = n.tokens - from;
  const auto snapshots = [&](ValueId fresh, ValueId old) {
    const ValueId written = cast(b, valid(wiring::slice(b, fresh, 0, from, n.tokens)), b.dtype(old));
    return wiring::reshape(b, wiring::concat(b, {written, wiring::slice(b, old, 0, kept, n.slots)}, 0), b.shape(old));
  };
  if (c.wants(1)) {
    Ids columns;
    for (int64_t k = 1; k < taps; ++k)
      columns.push_back(wiring::unsqueeze(b, wiring::slice(b, line, 0, k, n.tokens + Dim(k)), {2}));
    c.out(1, snapshots(wiring::concat(b, columns, 2), c.in(1)));
  }
  if (c.wants(2)) c.out(2, snapshots(made.states, c.in(2)));
}

}  // namespace sinter::onnx
