// AttnLSTM of domain com.microsoft: an LSTM that at every step also reads what it paid attention to in a memory.
//
// It becomes a Loop over the steps for each direction, with an LSTM of one step in its body.

#include <fmt/core.h>

#include <algorithm>

#include "frontends/onnx/contrib.h"
#include "ops/control.h"
#include "ops/recurrent.h"

namespace sinter::onnx {
namespace {

using wiring::add;
using wiring::cast;
using wiring::like;
using wiring::mul;

enum Operand : size_t { x_, w_, r_, bias_, lengths_, h0_, c0_, p_, qw_, mw_, v_, memory_, memory_lengths_, aw_ };

// The part of a list that belongs to one of two directions.
template <typename T>
std::vector<T> half(const std::vector<T>& all, int64_t direction, bool both) {
  if (!both) return all;
  const auto middle = all.begin() + static_cast<int64_t>(all.size() / 2);
  return direction == 0 ? std::vector<T>(all.begin(), middle) : std::vector<T>(middle, all.end());
}

struct Steps {
  ValueId y, h, c;  // [T, B, H], [B, H], [B, H]
};

class OneDirection {
 public:
  OneDirection(NodeContext& c, int64_t direction, RecurrentAttrs attrs)
      : c_(c), b_(c.b), direction_(direction), attrs_(std::move(attrs)) {
    attrs_.direction = Direction::forward;
  }

  // lengths i64[B]; x [T, B, I] in the order of the steps.
  Steps run(ValueId x, ValueId lengths) {
    const Dim batch = b_.shape(x)[1];
    const ValueId values = c_.in(memory_);
    const ValueId keys = wiring::matmul(b_, values, own(mw_));  // [B, M, A]
    const Dim depth = c_.has(aw_) ? b_.shape(c_.in(aw_))[2] : b_.shape(values)[2];
    const Dim hidden = b_.shape(c_.in(r_))[2];
    const auto zeros = [&](const Dim& size) { return wiring::fill(b_, like(b_, x, 0), b_.dims({batch, size})); };
    const auto start = [&](size_t i) { return c_.has(i) ? own(i) : zeros(hidden); };

    sinter::Graph body;
    GraphBuilder inner(b_.module, body);
    const ValueId step = inner.input(Type::tensor(DType::i64, Shape{}));
    const ValueId again = inner.input(Type::tensor(DType::boolean, Shape{}));
    Ids operands = {b_.dims({b_.shape(x)[0]}), no_id};
    const auto passed = [&](ValueId v) {
      operands.push_back(v);
      return inner.input(b_.type(v));
    };
    const ValueId old_h = passed(start(h0_)), old_c = passed(start(c0_)), seen = passed(zeros(depth));
    operands.push_back(x);
    const ValueId now = inner.input(Type::tensor(b_.dtype(x), Shape{batch, b_.shape(x)[2]}));
    // Weights keep an axis for the direction, as the operator wants it.
    const auto weight = [&](size_t i) { return c_.has(i) ? passed(wiring::unsqueeze(b_, own(i), {0})) : no_id; };
    const ValueId w = weight(w_), r = weight(r_), bias = weight(bias_), peepholes = weight(p_);
    const ValueId all_keys = passed(keys), all_values = passed(values), query = passed(own(qw_)),
                  towards = passed(own(v_));
    const ValueId layer = c_.has(aw_) ? passed(own(aw_)) : no_id, until = passed(lengths);
    const ValueId hides = c_.has(memory_lengths_) ? passed(memory_bias(b_.shape(values)[1], b_.dtype(x))) : no_id;

    const ValueId input = wiring::unsqueeze(inner, wiring::concat(inner, {now, seen}, 1), {0});
    const Ids made = inner.add(op_named("LSTM"), attrs_,
                               {input, w, r, bias, no_id, wiring::unsqueeze(inner, old_h, {0}),
                                wiring::unsqueeze(inner, old_c, {0}), peepholes},
                               3);
    const ValueId h = wiring::squeeze(inner, made[1], {0}), cell = wiring::squeeze(inner, made[2], {0});
    const ValueId asked = wiring::unsqueeze(inner, wiring::matmul(inner, h, query), {1});
    ValueId scores = wiring::reduce(inner, "Sum", mul(inner, inner.op("Tanh", {add(inner, all_keys, asked)}), towards),
                                    {2}, false);  // [B, M]
    if (hides != no_id) scores = add(inner, scores, hides);
    const ValueId weights = wiring::unsqueeze(inner, wiring::softmax(inner, scores, 1), {1});
    ValueId read = wiring::squeeze(inner, wiring::matmul(inner, weights, all_values), {1});
    if (layer != no_id) read = wiring::matmul(inner, wiring::concat(inner, {h, read}, 1), layer);
    const ValueId runs = wiring::unsqueeze(inner, inner.op("Less", {step, until}), {1});
    const auto kept = [&](ValueId fresh, ValueId old) {
      const ValueId v = wiring::where(inner, runs, fresh, old);
      return inner.type(v) == inner.type(old) ? v : wiring::reshape(inner, v, Shape(inner.shape(old)));
    };
    body.outputs = {again, kept(h, old_h), kept(cell, old_c), kept(read, seen),
                    wiring::where(inner, runs, h, like(inner, h, 0))};
    const LoopAttrs loop{.carried = 3, .counted = true, .scan_axes = {0}, .stack_axes = {0}};
    std::vector<sinter::Graph> bodies;
    bodies.push_back(std::move(body));
    const Ids results = b_.add(op_named("Loop"), loop, std::move(operands), 4, std::move(bodies));
    return {results[3], results[0], results[1]};
  }

 private:
  // The part of operand i for this direction.
  ValueId own(size_t i) const {
    return wiring::squeeze(b_, wiring::slice(b_, c_.in(i), 0, direction_, direction_ + 1), {0});
  }

  // [B, M]: what lies behind the end of a memory is not seen.
  ValueId memory_bias(const Dim& steps, DType dtype) const {
    const ValueId place = wiring::iota(b_, count_of(b_, steps));
    const ValueId there = b_.op("Less", {place, per_batch(b_, cast(b_, c_.in(memory_lengths_), DType::i64), 2)});
    return as_bias(b_, there, dtype);
  }

  NodeContext& c_;
  GraphBuilder& b_;
  const int64_t direction_;
  RecurrentAttrs attrs_;
};

void import_attention_lstm(NodeContext& c) {
  GraphBuilder& b = c.b;
  for (const size_t i : {qw_, mw_, v_, memory_})
    if (!c.has(i)) c.fail("the weights of the attention and its memory must be given (QW, MW, V, M)");
  if (rank_of(c, x_) != 3 || rank_of(c, memory_) != 3) c.fail("X and M must have rank 3");
  const RecurrentAttrs all = recurrent_attributes(c);
  const bool both = all.direction == Direction::bidirectional;
  const ValueId x = c.in(x_);
  const Dim batch = b.shape(x)[1];
  const ValueId lengths = c.has(lengths_) ? cast(b, c.in(lengths_), DType::i64)
                                          : wiring::fill(b, count_of(b, b.shape(x)[0]), b.dims({batch}));
  const auto turned = [&](ValueId v) { return core_result(c, "ReverseSequence", {v, lengths}, 10); };
  Ids y, h, cell;
  for (int64_t k = 0; k < (both ? 2 : 1); ++k) {
    RecurrentAttrs attrs = all;
    attrs.activations = half(all.activations, k, both);
    attrs.alpha = half(all.alpha, k, both);
    attrs.beta = half(all.beta, k, both);
    const bool backwards = both ? k == 1 : all.direction == Direction::reverse;
    const Steps made = OneDirection(c, k, std::move(attrs)).run(backwards ? turned(x) : x, lengths);
    y.push_back(wiring::unsqueeze(b, backwards ? turned(made.y) : made.y, {1}));
    h.push_back(wiring::unsqueeze(b, made.h, {0}));
    cell.push_back(wiring::unsqueeze(b, made.c, {0}));
  }
  c.out(0, both ? wiring::concat(b, y, 1) : y[0]);
  if (c.wants(1)) c.out(1, both ? wiring::concat(b, h, 0) : h[0]);
  if (c.wants(2)) c.out(2, both ? wiring::concat(b, cell, 0) : cell[0]);
}

constexpr Entry table[] = {
    {"AttnLSTM", 1, import_attention_lstm, microsoft},
};

}  // namespace

std::span<const Entry> contrib_recurrent_entries() { return table; }

}  // namespace sinter::onnx
