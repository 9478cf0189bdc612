// Entries of domain com.microsoft that bring the states of a recurrent network up to date, after the first tokens of a
// draft were accepted: states lie somewhere in larger tensors, where a table of numbers says.

#include "frontends/onnx/contrib.h"
#include "ops/control.h"
#include "ops/indexing.h"

namespace sinter::onnx {
namespace {

using wiring::add;
using wiring::cast;
using wiring::div;
using wiring::mul;
using wiring::sub;

// The table's numbers as i64 scalars. Sizes of a state are checked in f64, where products of three cannot wrap.
struct Table {
  Ids numbers;
  ValueId sound = no_id;  // whether all that was required holds
};

Table table_of(NodeContext& c, int64_t count) {
  GraphBuilder& b = c.b;
  for (size_t i = 0; i < 4; ++i)
    if (rank_of(c, i) != 1) c.fail("the tensors and the metadata must have rank 1");
  Table t;
  const ValueId all = wiring::reshape(b, cast(b, c.in(3), DType::i64), {count});
  for (int64_t k = 0; k < count; ++k) t.numbers.push_back(wiring::scalar_of(b, wiring::slice(b, all, 0, k, k + 1)));
  t.sound = wiring::scalar_of(b, b.op("LessOrEqual", {whole(b, 0), wiring::reduce(b, "Min", all, {0}, false)}));
  return t;
}

void require(GraphBuilder& b, Table& t, ValueId holds) { t.sound = b.op("And", {t.sound, holds}); }

// `product` elements from `offset` on lie in x.
void require_room(GraphBuilder& b, Table& t, ValueId x, ValueId offset, std::initializer_list<ValueId> product) {
  ValueId end = b.scalar(DType::f64, 1);
  for (const ValueId v : product) end = mul(b, end, cast(b, v, DType::f64));
  end = add(b, end, cast(b, offset, DType::f64));
  require(b, t, b.op("LessOrEqual", {end, cast(b, wiring::extent(b, x, 0), DType::f64)}));
}

// The numbers again, usable only where all that was required holds.
Ids checked(GraphBuilder& b, const Table& t) {
  Ids rows;
  for (const ValueId v : t.numbers) rows.push_back(wiring::unsqueeze(b, v, {0}));
  const ValueId all = unless_refused(b, t.sound, wiring::concat(b, rows, 0),
                                     "metadata speaks of elements that the tensors do not have: offsets, sizes and "
                                     "kept_count must be those of the tensors given");
  Ids out;
  for (size_t k = 0; k < rows.size(); ++k) {
    const auto at = static_cast<int64_t>(k);
    out.push_back(wiring::scalar_of(b, wiring::slice(b, all, 0, at, at + 1)));
  }
  return out;
}

// Elements written to their places from `offset` on.
ValueId put(GraphBuilder& b, ValueId into, ValueId offset, ValueId places, ValueId values) {
  return b.op("ScatterND", ScatterNDAttrs{}, {into, wiring::unsqueeze(b, add(b, places, offset), {1}), values});
}

void import_conv_replay(NodeContext& c) {
  GraphBuilder& b = c.b;
  const DType dtype = b.dtype(c.in(0));
  if (dtype != DType::f32 && dtype != DType::f16) c.fail("states must be f32 or f16");
  const ValueId size = whole(b, dtype == DType::f32 ? 4 : 2);
  Table t = table_of(c, 8);
  for (size_t k = 0; k < 3; ++k) {  // bytes to elements
    require(b, t, b.op("Equal", {b.op("Mod", {t.numbers[k], size}), whole(b, 0)}));
    t.numbers[k] = div(b, t.numbers[k], size);
  }
  require(b, t, b.op("Less", {whole(b, 0), t.numbers[4]}));
  require(b, t, b.op("LessOrEqual", {t.numbers[7], t.numbers[6]}));
  require_room(b, t, c.in(0), t.numbers[0], {t.numbers[3], t.numbers[4], t.numbers[5]});
  require_room(b, t, c.in(1), t.numbers[2], {t.numbers[3], t.numbers[6], t.numbers[4]});
  require_room(b, t, c.in(2), t.numbers[1], {t.numbers[3], t.numbers[4], t.numbers[5]});
  const Ids n = checked(b, t);
  const ValueId from = n[0], to = n[1], captured = n[2], channels = n[4], width = n[5], capacity = n[6], kept = n[7];
  const ValueId place = wiring::iota(b, mul(b, mul(b, n[3], channels), width));  // [batch, channels, width] laid flat
  const ValueId row = div(b, place, width), moved = add(b, b.op("Mod", {place, width}), kept);
  const ValueId old = add(b, from, add(b, mul(b, row, width), moved));
  const ValueId token = add(b, mul(b, div(b, row, channels), capacity), sub(b, moved, width));
  const ValueId fresh = add(b, add(b, captured, wiring::extent(b, c.in(0), 0)),
                            add(b, mul(b, token, channels), b.op("Mod", {row, channels})));
  const ValueId at = wiring::where(b, b.op("Less", {moved, width}), old, fresh);
  const ValueId values = wiring::gather(b, wiring::concat(b, {c.in(0), c.in(1)}, 0), at, 0);
  c.out(0, put(b, c.in(2), to, place, values));
}

void import_gated_delta_replay(NodeContext& c) {
  GraphBuilder& b = c.b;
  if (b.dtype(c.in(0)) != DType::f32) c.fail("states must be f32");
  Table t = table_of(c, 11);
  const auto per_element = [&](const Ids& n) {  // whether each key dimension has a decay of its own
    return b.op("Equal", {sub(b, n[3], n[2]), mul(b, mul(b, n[9], n[5]), n[7])});
  };
  for (size_t k = 5; k < 11; ++k) require(b, t, b.op("Less", {whole(b, 0), t.numbers[k]}));
  require(b, t, b.op("LessOrEqual", {t.numbers[10], t.numbers[9]}));
  for (const size_t k : {0, 1})
    require_room(b, t, c.in(k == 0 ? 0 : 2), t.numbers[k], {t.numbers[5], t.numbers[6], t.numbers[7]});
  const ValueId width = wiring::where(b, per_element(t.numbers), t.numbers[7], whole(b, 1));
  require_room(b, t, c.in(1), t.numbers[2], {t.numbers[9], t.numbers[5], width});
  require_room(b, t, c.in(1), t.numbers[3], {t.numbers[9], t.numbers[8], t.numbers[7]});
  require_room(b, t, c.in(1), t.numbers[4], {t.numbers[9], t.numbers[5], t.numbers[6]});
  const Ids n = checked(b, t);
  const ValueId heads = n[5], values = n[6], size = n[7], keys = n[8];
  const ValueId place = wiring::iota(b, mul(b, mul(b, heads, values), size));  // [heads, values, size] laid flat
  const ValueId i = b.op("Mod", {place, size}), row = div(b, place, size), h = div(b, row, values);
  // Where the first token's numbers lie, and how far it is to the next token's.
  const ValueId own = per_element(n);
  const ValueId decay_at = add(b, n[2], wiring::where(b, own, add(b, mul(b, h, size), i), h));
  const ValueId decay_step = wiring::where(b, own, mul(b, heads, size), heads);
  const ValueId key_at = add(b, n[3], add(b, mul(b, div(b, mul(b, h, keys), heads), size), i));
  const ValueId delta_at = add(b, n[4], row);
  const Ids captures = {c.in(1), decay_at, decay_step, key_at, mul(b, keys, size), delta_at, mul(b, heads, values)};

  sinter::Graph body;
  GraphBuilder inner(b.module, body);
  const ValueId token = inner.input(Type::tensor(DType::i64, Shape{}));
  const ValueId again = inner.input(Type::tensor(DType::boolean, Shape{}));
  const ValueId before = wiring::gather(b, c.in(0), add(b, n[0], place), 0);
  const ValueId state = inner.input(b.type(before));
  Ids of;
  for (const ValueId v : captures) of.push_back(inner.input(b.type(v)));
  const auto taken = [&](size_t at) {
    return wiring::gather(inner, of[0], add(inner, of[at], mul(inner, token, of[at + 1])), 0);
  };
  const ValueId next = add(inner, mul(inner, state, taken(1)), mul(inner, taken(3), taken(5)));
  body.outputs = {again, next};
  Ids operands = {n[10], no_id, before};
  operands.insert(operands.end(), captures.begin(), captures.end());
  std::vector<sinter::Graph> bodies;
  bodies.push_back(std::move(body));
  const ValueId state_after =
      b.add(op_named("Loop"), LoopAttrs{.carried = 1, .counted = true}, std::move(operands), 1, std::move(bodies))[0];
  c.out(0, put(b, c.in(2), n[1], place, state_after));
}

constexpr Entry table[] = {
    {"ConvStateReplay", 1, import_conv_replay, microsoft},
    {"GatedDeltaNetStateReplay", 1, import_gated_delta_replay, microsoft},
    {"Mamba2Verify", 1, import_mamba_verify, microsoft},
};

}  // namespace

std::span<const Entry> contrib_replay_entries() { return table; }

}  // namespace sinter::onnx
