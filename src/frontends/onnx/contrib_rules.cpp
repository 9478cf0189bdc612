// What searches share (search.h), and NGramRepeatBlock.

#include <fmt/core.h>

#include "frontends/onnx/search.h"
#include "ops/indexing.h"
#include "ops/reduction.h"
#include "ops/selection.h"

namespace sinter::onnx {

using wiring::add;
using wiring::cast;
using wiring::like;
using wiring::mul;
using wiring::sub;

namespace {

constexpr double lowest = -3.4028234663852886e38;  // of f32

// Values of `rows` that occur, as bool[B, size]: `kept` bool[B, n] says which columns count.
ValueId occurring(GraphBuilder& b, ValueId tokens, ValueId kept, ValueId like_scores) {
  const ValueId hits = cast(b, kept, DType::f32);
  const ValueId zeros = wiring::fill(b, b.scalar(DType::f32, 0), wiring::shape_of(b, like_scores));
  const ScatterElementsAttrs a{.axis = 1, .reduction = Reduction::max};
  const ValueId safe = wiring::where(b, kept, tokens, like(b, tokens, 0));
  const ValueId marks = b.op("ScatterElements", a, {zeros, safe, hits});
  return b.op("Less", {b.scalar(DType::f32, 0), marks});
}

// Tokens that would repeat n tokens of a row, as bool[B, V]. tokens i64[B, L] of which the first `length` count.
ValueId repeating(GraphBuilder& b, ValueId tokens, ValueId length, int64_t n, ValueId scores) {
  const Dim all = b.shape(tokens)[1], windows = max(all - Dim(n - 1), 0);
  const ValueId start = wiring::iota(b, count_of(b, windows));
  ValueId match = b.op("Less", {add(b, start, whole(b, n - 1)), length});
  match = wiring::fill(b, match, b.dims({b.shape(tokens)[0], windows}));
  for (int64_t k = 0; k < n - 1; ++k) {
    const ValueId at = b.op("Max", {add(b, length, whole(b, k + 1 - n)), whole(b, 0)});
    const ValueId last = wiring::gather(b, tokens, wiring::unsqueeze(b, at, {0}), 1);  // [B, 1]
    match = b.op("And", {match, b.op("Equal", {wiring::slice(b, tokens, 1, k, windows + Dim(k)), last})});
  }
  return occurring(b, wiring::slice(b, tokens, 1, n - 1, windows + Dim(n - 1)), match, scores);
}

void import_no_repeat(NodeContext& c) {
  GraphBuilder& b = c.b;
  if (rank_of(c, 0) != 2 || rank_of(c, 1) != 2) c.fail("input_ids and scores must have rank 2");
  const int64_t n = positive(c, "ngram_size");
  if (n > 1024) c.fail(fmt::format("ngram_size {} is more than 1024", n));
  const ValueId tokens = cast(b, c.in(0), DType::i64);
  const ValueId banned = repeating(b, tokens, wiring::extent(b, tokens, 1), n, c.in(1));
  c.out(0, wiring::where(b, banned, like(b, c.in(1), minus_infinity), c.in(1)));
}

constexpr Entry table[] = {
    {"NGramRepeatBlock", 1, import_no_repeat, microsoft},
};

}  // namespace

std::span<const Entry> contrib_rules_entries() { return table; }

SearchSettings search_settings(NodeContext& c, int64_t most) {
  const SearchSettings s{.eos = c.integer("eos_token_id", -1),
                         .pad = c.integer("pad_token_id", 0),
                         .ngram = c.integer("no_repeat_ngram_size", 0)};
  if (s.ngram > 1024) c.fail(fmt::format("no_repeat_ngram_size {} is more than 1024", s.ngram));
  const int64_t type = c.integer("model_type", 0);
  if (type < 0 || type > most) c.unsupported(fmt::format("model_type {}, 0 to {} are known", type, most));
  return s;
}

ValueId ruled_scores(GraphBuilder& b, const SearchSettings& s, const SearchRules& rules, const SearchState& state,
                     ValueId scores, bool first) {
  const ValueId bad = like(b, scores, lowest);
  if (rules.penalty != no_id) {
    const ValueId column = wiring::iota(b, wiring::extent(b, state.tokens, 1));
    const ValueId written = wiring::fill(b, b.op("Less", {column, state.length}), wiring::shape_of(b, state.tokens));
    const ValueId seen = occurring(b, state.tokens, written, scores);
    const ValueId negative = b.op("Less", {scores, like(b, scores, 0)});
    const ValueId held =
        wiring::where(b, negative, mul(b, scores, rules.penalty), wiring::div(b, scores, rules.penalty));
    scores = wiring::where(b, seen, held, scores);
  }
  if (s.ngram > 0) scores = wiring::where(b, repeating(b, state.tokens, state.length, s.ngram, scores), bad, scores);
  const auto masked = [&](ValueId mask) {
    scores = wiring::where(b, b.op("Equal", {mask, like(b, mask, 0)}), bad, scores);
  };
  if (rules.vocab_mask != no_id) masked(rules.vocab_mask);
  if (rules.prefix_mask != no_id && first) masked(rules.prefix_mask);
  if (rules.least_length != no_id) {
    const ValueId token = wiring::iota(b, wiring::extent(b, scores, 1));
    const ValueId ends =
        b.op("And", {b.op("Equal", {token, whole(b, s.eos)}), b.op("Less", {state.length, rules.least_length})});
    scores = wiring::where(b, ends, bad, scores);
  }
  if (rules.temperature != no_id) scores = wiring::div(b, scores, rules.temperature);
  if (s.temperature != 1) scores = wiring::div(b, scores, like(b, scores, s.temperature));
  if (rules.presence != no_id && s.presence_penalty != 0)
    scores = sub(b, scores, mul(b, cast(b, rules.presence, DType::f32), like(b, scores, s.presence_penalty)));
  return scores;
}

ValueId last_scores(GraphBuilder& b, ValueId logits) {
  const Dim rows = b.shape(logits)[1];
  return wiring::squeeze(b, cast(b, wiring::slice(b, logits, 1, rows - Dim(1), rows), DType::f32), {1});
}

ValueId some_left(GraphBuilder& b, ValueId done) {
  const ValueId all = wiring::reduce(b, "Min", cast(b, done, DType::i32), {0}, false);
  return b.op("Equal", {all, like(b, all, 0)});
}

SearchState with_token(GraphBuilder& b, SearchState state, ValueId token) {
  const ValueId column = wiring::iota(b, wiring::extent(b, state.tokens, 1));
  const ValueId here = b.op("Equal", {column, state.length});
  return {wiring::where(b, here, wiring::unsqueeze(b, token, {1}), state.tokens), add(b, state.length, whole(b, 1))};
}

const Graph& decoder_of(NodeContext& c, const char* name) {
  const Graph* g = c.graph(name);
  if (!g) c.fail(fmt::format("attribute '{}' is missing", name));
  const size_t states = g->inputs.size() < 3 ? 0 : g->inputs.size() - 3;
  if (g->inputs.size() < 3 || g->outputs.size() != 1 + states)
    c.unsupported("a decoder must take input_ids, position_ids, attention_mask and states, and give logits and states");
  return *g;
}

ValueId empty_state(NodeContext& c, const ValueInfo& info, const Dim& rows) {
  const auto& shape = info.type.shape;
  if (!shape || shape->size() != 5 || !(*shape)[2].value || !(*shape)[4].value)
    c.unsupported("states of the decoder must be [2, batch, heads, tokens, size] with known heads and size");
  const DType dtype = info.type.element_type == 10 ? DType::f16 : DType::f32;
  return wiring::fill(c.b, c.b.scalar(dtype, 0), c.b.dims({2, rows, *(*shape)[2].value, 0, *(*shape)[4].value}));
}

Prompt prompt_of(GraphBuilder& b, ValueId tokens, ValueId mask, int64_t pad) {
  if (mask != no_id) {
    const Dim rows = b.shape(tokens)[0];
    const ValueId count = wiring::extent(b, tokens, 1);
    const ValueId places = wiring::fill(b, cast(b, wiring::iota(b, count), DType::i32), wiring::shape_of(b, tokens));
    return {cast(b, mask, DType::i32), places, wiring::fill(b, cast(b, count, DType::i32), b.dims({rows, 1}))};
  }
  mask = cast(b, b.op("Not", {b.op("Equal", {tokens, whole(b, pad)})}), DType::i32);
  const ValueId counted = b.op("CumSum", CumulativeAttrs{.exclusive = true}, {mask, whole(b, 1)});
  const ValueId hidden = b.op("Equal", {mask, like(b, mask, 0)});
  return {mask, wiring::where(b, hidden, like(b, mask, 0), counted), wiring::reduce(b, "Sum", mask, {1})};
}

Ids first_run(NodeContext& c, const Graph& decoder, Ids arguments) {
  std::vector<Type> types;
  for (const ValueId v : arguments) types.push_back(c.b.type(v));
  Ids captures;
  const sinter::Graph body = c.body(decoder, types, captures);
  arguments.insert(arguments.end(), captures.begin(), captures.end());
  return wiring::inlined(c.b, body, arguments);
}

// ---- the loop ----

ValueId SearchLoop::carry(ValueId start, int growing) {
  Type type = c_.b.type(start);
  if (growing >= 0) {
    if (!type.has_shape() || type.shape->size() <= static_cast<size_t>(growing))
      c_.unsupported("states of the decoder must have known ranks, 5 or 4");
    Module& module = c_.b.module;
    (*type.shape)[static_cast<size_t>(growing)] = Dim::symbol(module.symbols.add(
        {.name = fmt::format("s{}", module.symbols.size()), .bound = Symbol::Bound::body_parameter}));
  }
  starts_.push_back(start);
  return inner.input(std::move(type));
}

ValueId SearchLoop::bring(ValueId outer) {
  if (outer == no_id) return no_id;
  captures_.push_back(outer);
  return inner.input(c_.b.type(outer));
}

Ids SearchLoop::run_decoder(const Graph& decoder, Ids arguments) {
  std::vector<Type> types;
  for (const ValueId v : arguments) types.push_back(inner.type(v));
  Ids captures;
  const sinter::Graph made = c_.body(decoder, types, captures);
  for (const ValueId v : captures) arguments.push_back(bring(v));
  return wiring::inlined(inner, made, arguments);
}

Ids SearchLoop::finish(ValueId trips, ValueId starts, ValueId again, Ids carried) {
  if (carried.size() != starts_.size()) c_.unsupported("a decoder whose states change in number");
  body_.outputs = {again};
  body_.outputs.insert(body_.outputs.end(), carried.begin(), carried.end());
  Ids operands = {trips, starts};
  operands.insert(operands.end(), starts_.begin(), starts_.end());
  operands.insert(operands.end(), captures_.begin(), captures_.end());
  const LoopAttrs attrs{.carried = static_cast<int64_t>(starts_.size())};
  std::vector<sinter::Graph> bodies;
  bodies.push_back(std::move(body_));
  return c_.b.add(op_named("Loop"), attrs, std::move(operands), starts_.size(), std::move(bodies));
}

}  // namespace sinter::onnx
