// Entries of domain com.microsoft that search for sequences of tokens: GreedySearch, Sampling, BeamSearch.
//
// The decoder's first run takes the prompt; a Loop runs it for every further token, its states growing.

#include <fmt/core.h>

#include "frontends/onnx/search.h"
#include "ops/generation.h"
#include "ops/indexing.h"
#include "ops/selection.h"

namespace sinter::onnx {
namespace {

using wiring::add;
using wiring::cast;
using wiring::like;
using wiring::mul;
using wiring::sub;

ValueId wide(GraphBuilder& b, ValueId v) { return wiring::unsqueeze(b, v, {0}); }

// i64[rows, L]: the prompt, and padding up to `most` tokens.
ValueId roomy(GraphBuilder& b, ValueId prompt, ValueId most, int64_t pad) {
  const ValueId more = sub(b, most, wiring::extent(b, prompt, 1));
  const ValueId room = wiring::concat(b, {wide(b, wiring::extent(b, prompt, 0)), wide(b, more)}, 0);
  return wiring::concat(b, {prompt, wiring::fill(b, whole(b, pad), room)}, 1);
}

struct Decoders {
  const Graph &first, &next;
};

Decoders decoders_of(NodeContext& c) {
  const Graph& next = decoder_of(c, "decoder");
  const Graph& first = c.has_attr("init_decoder") ? decoder_of(c, "init_decoder") : next;
  if (first.inputs.size() != next.inputs.size()) c.fail("init_decoder takes other states than decoder");
  return {first, next};
}

// Logits and states of the first run.
Ids prompted(NodeContext& c, const Graph& first, ValueId tokens, const Prompt& prompt) {
  Ids arguments = {cast(c.b, tokens, DType::i32), prompt.places, prompt.mask};
  const Dim rows = c.b.shape(tokens)[0];
  for (size_t i = 3; i < first.inputs.size(); ++i) arguments.push_back(empty_state(c, first.inputs[i], rows));
  return first_run(c, first, arguments);
}

// What every search carries besides tokens: mask, next places, states.
struct Carried {
  ValueId mask, places;
  Ids states;
  Ids all() const {
    Ids v = {mask, places};
    v.insert(v.end(), states.begin(), states.end());
    return v;
  }
};

Carried carry_all(SearchLoop& loop, const Prompt& prompt, const Ids& results) {
  Carried v;
  v.mask = loop.carry(prompt.mask, 1);
  v.places = loop.carry(prompt.next);
  for (size_t i = 1; i < results.size(); ++i) v.states.push_back(loop.carry(results[i], 3));
  return v;
}

// One run of the decoder in the loop on the newest token of each row.
Ids decoded_next(SearchLoop& loop, const Graph& decoder, const SearchState& state, Carried& v) {
  GraphBuilder& b = loop.inner;
  const ValueId newest = wiring::gather(b, state.tokens, wide(b, sub(b, state.length, whole(b, 1))), 1);  // [rows, 1]
  const ValueId ones = wiring::fill(b, b.scalar(DType::i32, 1), wiring::shape_of(b, newest));
  v.mask = wiring::concat(b, {v.mask, ones}, 1);
  Ids arguments = {cast(b, newest, DType::i32), v.places, v.mask};
  arguments.insert(arguments.end(), v.states.begin(), v.states.end());
  const Ids results = loop.run_decoder(decoder, arguments);
  v.places = add(b, v.places, like(b, v.places, 1));
  v.states.assign(results.begin() + 1, results.end());
  return results;
}

SearchRules brought(SearchLoop& loop, const SearchRules& rules) {
  Ids v;
  for (const ValueId r : rules.all()) v.push_back(loop.bring(r));
  return SearchRules::from(v);
}

// ---- one row of tokens for each prompt ----

struct Chance {
  double top_p, filter;
  int64_t keep;
};

// Of the least probable tokens, those that together have no more than 1 - top_p are left out.
ValueId filtered(GraphBuilder& b, const Chance& s, ValueId scores) {
  const ValueId size = wiring::extent(b, scores, 1);
  const Ids sorted =
      b.add(op_named("TopK"), TopKAttrs{.axis = 1, .largest = false}, {scores, wiring::unsqueeze(b, size, {0})}, 2);
  const ValueId sums = b.op("CumSum", CumulativeAttrs{}, {wiring::softmax(b, sorted[0], 1), whole(b, 1)});
  const ValueId small = b.op("LessOrEqual", {sums, like(b, sums, 1 - s.top_p)});
  const ValueId rank = wiring::iota(b, size);
  const ValueId droppable = b.op("Less", {rank, sub(b, size, whole(b, std::max<int64_t>(s.keep, 1)))});
  const ValueId kept = wiring::where(b, b.op("And", {small, droppable}), like(b, scores, s.filter), sorted[0]);
  return b.op("ScatterElements", ScatterElementsAttrs{.axis = 1}, {scores, sorted[1], kept});
}

// The next token of each row: the best one, or where a random number falls among the probabilities.
ValueId next_token(GraphBuilder& b, const SearchRules& rules, const SearchState& state, ValueId scores) {
  if (rules.random == no_id) return b.op("ArgMax", ArgAttrs{.axis = 1, .keep_dims = false}, {scores});
  const ValueId sums = b.op("CumSum", CumulativeAttrs{}, {wiring::softmax(b, scores, 1), whole(b, 1)});
  const ValueId at = wiring::gather(b, rules.random, wiring::unsqueeze(b, state.length, {0}), 1);  // [B, 1]
  const ValueId below = cast(b, b.op("LessOrEqual", {sums, at}), DType::i64);
  const ValueId token = wiring::reduce(b, "Sum", below, {1}, false);
  return b.op("Min", {token, sub(b, wiring::extent(b, scores, 1), whole(b, 1))});
}

void search(NodeContext& c, bool sampling) {
  GraphBuilder& b = c.b;
  const Decoders decoders = decoders_of(c);
  if (rank_of(c, 0) != 2) c.fail("input_ids must have rank 2");
  SearchSettings s = search_settings(c, 0);
  const Chance chance{c.real("top_p", 0), c.real("filter_value", -1e20), c.integer("min_tokens_to_keep", 0)};
  const ValueId prompt = cast(b, c.in(0), DType::i64), most = number(c, 1), had = wiring::extent(b, prompt, 1);
  const ValueId batch = wiring::extent(b, prompt, 0);
  SearchRules rules{.penalty = c.has(3) ? wiring::scalar_of(b, cast(b, c.in(3), DType::f32)) : no_id,
                    .vocab_mask = c.maybe(4),
                    .prefix_mask = c.maybe(5),
                    .least_length = c.has(2) ? number(c, 2) : no_id};
  if (sampling) {
    s.temperature = c.real("temperature", 1);
    s.presence_penalty = c.real("presence_penalty", 0);
    if (!(s.temperature > 0)) c.fail(fmt::format("temperature is {}, it must be positive", s.temperature));
    if (chance.keep > INT32_MAX) c.fail("min_tokens_to_keep is too large");
    rules.presence = c.maybe(7);
    const Tensor* seed = c.has(8) ? wiring::fixed(b, c.in(8)) : nullptr;
    const int64_t given = seed && seed->count() == 1 ? seed->get_integer(0) : -1;
    const RandomUniformAttrs a{.dtype = DType::f32, .seed = given < 0 ? 0 : (given & INT32_MAX) + 1};
    rules.random = b.op("RandomUniform", a, {wiring::concat(b, {wide(b, batch), wide(b, most)}, 0)});
  }
  SearchState state{roomy(b, prompt, most, s.pad), had};
  ValueId done = wiring::fill(b, b.scalar(DType::boolean, 0), wide(b, batch));
  const Prompt start = prompt_of(b, prompt, c.maybe(6), s.pad);
  const Ids results = prompted(c, decoders.first, prompt, start);
  // Rows that met the end get padding, the end itself included.
  const auto step = [&](GraphBuilder& to, const SearchRules& given, SearchState& at, ValueId& over, ValueId logits,
                        bool first) {
    ValueId scores = ruled_scores(to, s, given, at, last_scores(to, logits), first);
    if (sampling) scores = filtered(to, chance, scores);
    const ValueId token = next_token(to, given, at, scores);
    over = to.op("Or", {over, to.op("Equal", {token, whole(to, s.eos)})});
    at = with_token(to, at, wiring::where(to, over, whole(to, s.pad), token));
    return scores;
  };
  const ValueId scores = step(b, rules, state, done, results[0], true);

  SearchLoop loop(c);
  SearchState at{loop.carry(state.tokens), loop.carry(state.length)};
  ValueId over = loop.carry(done);
  const bool shows = sampling && c.wants(1);
  if (shows) loop.carry(scores);
  Carried v = carry_all(loop, start, results);
  const SearchRules given = brought(loop, rules);
  const Ids made = decoded_next(loop, decoders.next, at, v);
  const ValueId scored = step(loop.inner, given, at, over, made[0], false);
  Ids carried = {at.tokens, at.length, over};
  if (shows) carried.push_back(scored);
  const Ids rest = v.all();
  carried.insert(carried.end(), rest.begin(), rest.end());
  const ValueId trips = sub(b, sub(b, most, had), whole(b, 1));
  const Ids found = loop.finish(trips, some_left(b, done), some_left(loop.inner, over), carried);
  c.out(0, cast(b, found[0], DType::i32));
  if (shows) c.out(1, found[3]);
}

// ---- several rows for each prompt ----

// Running rows and, for each prompt, the best finished ones with scores per length; empty places have -infinity.
struct Beams {
  SearchState state;   // tokens [B * n, L]
  ValueId scores;      // f32[B, n] of the running rows
  ValueId done;        // bool[B]
  ValueId best, kept;  // f32[B, n], i64[B, n, L]
};

struct BeamSettings {
  SearchSettings base;
  int64_t beams;
  bool early;
};

// The n best of the finished rows and more of them, the older ones first where scores are the same.
void keep_best(GraphBuilder& b, Beams& v, ValueId scores, ValueId tokens, int64_t n) {
  const Ids top = b.add(op_named("TopK"), TopKAttrs{}, {wiring::concat(b, {v.best, scores}, 1), b.integers({n})}, 2);
  v.best = top[0];
  v.kept = b.op("GatherND", GatherNDAttrs{.batch_dims = 1},
                {wiring::concat(b, {v.kept, tokens}, 1), wiring::unsqueeze(b, top[1], {2})});
}

ValueId per_length(GraphBuilder& b, ValueId scores, ValueId length, ValueId penalty) {
  return wiring::div(b, scores, b.op("Pow", {cast(b, length, DType::f32), penalty}));
}

// Chooses the next tokens; gives the row that each new row continues, i64[B * n].
ValueId beam_step(GraphBuilder& b, const BeamSettings& s, const SearchRules& rules, Beams& v, ValueId penalty,
                  ValueId logits, bool first) {
  const int64_t n = s.beams;
  const ValueId own = wiring::log_softmax(b, last_scores(b, logits), 1);
  const ValueId ruled = ruled_scores(b, s.base, rules, v.state, own, first);
  const Dim size = b.shape(ruled)[1], batch = b.shape(v.scores)[0], length = b.shape(v.state.tokens)[1];
  const ValueId sums = add(b, wiring::reshape(b, ruled, {batch, n, size}), wiring::unsqueeze(b, v.scores, {2}));
  const Ids top =
      b.add(op_named("TopK"), TopKAttrs{}, {wiring::reshape(b, sums, {batch, Dim(n) * size}), b.integers({2 * n})}, 2);
  const ValueId words = wiring::extent(b, ruled, 1);
  const ValueId token = b.op("Mod", {top[1], words});  // [B, 2n]
  const ValueId entry = wiring::unsqueeze(b, wiring::iota(b, count_of(b, batch)), {1});
  const ValueId row = add(b, wiring::div(b, top[1], words), mul(b, entry, whole(b, n)));
  const ValueId rank = wiring::iota(b, whole(b, 2 * n)), ends = b.op("Equal", {token, whole(b, s.base.eos)});
  const ValueId over = wiring::unsqueeze(b, v.done, {1});
  // What ends among the first n is finished.
  const ValueId counts = b.op("And", {ends, b.op("Not", {over})});
  const ValueId finished =
      wiring::where(b, counts, per_length(b, top[0], v.state.length, penalty), like(b, top[0], minus_infinity));
  const ValueId rows = wiring::gather(b, v.state.tokens, wiring::slice(b, row, 1, 0, n), 0);  // [B, n, L]
  keep_best(b, v, wiring::slice(b, finished, 1, 0, n), rows, n);
  // The first n that do not end go on.
  const ValueId key = add(b, rank, mul(b, cast(b, ends, DType::i64), whole(b, 2 * n)));
  const Ids chosen = b.add(op_named("TopK"), TopKAttrs{.axis = 1, .largest = false}, {key, b.integers({n})}, 2);
  const auto picked = [&](ValueId from) { return b.op("GatherElements", GatherAttrs{.axis = 1}, {from, chosen[1]}); };
  v.scores = wiring::where(b, over, like(b, top[0], 0), picked(top[0]));
  const ValueId next = wiring::where(b, over, whole(b, s.base.pad), picked(token));
  const ValueId from = wiring::reshape(b, picked(row), {batch * Dim(n)});
  // Nothing gets better than what is kept.
  const ValueId worst = wiring::slice(b, v.best, 1, n - 1, n);
  ValueId still =
      b.op("LessOrEqual", {per_length(b, wiring::slice(b, top[0], 1, 0, 1), v.state.length, penalty), worst});
  if (s.early) still = b.op("Less", {like(b, worst, minus_infinity), worst});
  still = b.op("And", {still, b.op("Less", {like(b, worst, minus_infinity), worst})});
  v.done = b.op("Or", {v.done, wiring::squeeze(b, still, {1})});
  v.state.tokens = wiring::reshape(b, wiring::gather(b, v.state.tokens, from, 0), {batch * Dim(n), length});
  v.state = with_token(b, v.state, wiring::reshape(b, next, {batch * Dim(n)}));
  return from;
}

int64_t known_count(NodeContext& c, size_t i, const char* what) {
  const Tensor* t = wiring::fixed(c.b, c.in(i));
  if (!t || t->count() != 1) c.unsupported(fmt::format("{} must be known when the model is built", what));
  const int64_t n = t->get_integer(0);
  if (n < 1 || n > 4096) c.fail(fmt::format("{} is {}, it must be from 1 to 4096", what, n));
  return n;
}

// A decoder alone, which takes what comes before as its prompt.
class DecoderModel final : public BeamModel {
 public:
  DecoderModel(NodeContext& c, int64_t beams, int64_t pad)
      : c_(c), decoders_(decoders_of(c)), beams_(beams), pad_(pad) {
    if (rank_of(c, 0) != 2) c.fail("input_ids must have rank 2");
    if (c.has(10)) c.unsupported("decoder_input_ids without an encoder");
    prompt = cast(c.b, c.in(0), DType::i64);
  }

  ValueId first() override {
    GraphBuilder& b = c_.b;
    const Dim batch = b.shape(prompt)[0];
    const ValueId mask = c_.has(9) ? for_beams(b, c_.in(9), batch, beams_) : no_id;
    const ValueId tokens = for_beams(b, prompt, batch, beams_);
    start_ = prompt_of(b, tokens, mask, pad_);
    const Ids results = prompted(c_, decoders_.first, tokens, start_);
    at_.states.assign(results.begin() + 1, results.end());
    return results[0];
  }

  void reorder(GraphBuilder& b, ValueId from) override {
    for (ValueId& state : at_.states)
      state = wiring::reshape(b, wiring::gather(b, state, from, 1), Shape(b.shape(state)));
    // Rows of one entry begin alike.
    if (!in_loop_) return;
    at_.mask = wiring::gather(b, at_.mask, from, 0);
    at_.places = wiring::gather(b, at_.places, from, 0);
  }

  void carry(SearchLoop& loop) override {
    in_loop_ = true;
    at_.mask = loop.carry(start_.mask, 1);
    at_.places = loop.carry(start_.next);
    for (ValueId& state : at_.states) state = loop.carry(state, 3);
  }

  void bring(SearchLoop&) override {}
  ValueId next(SearchLoop& loop, const SearchState& state) override {
    return decoded_next(loop, decoders_.next, state, at_)[0];
  }
  Ids carried() const override { return at_.all(); }

 private:
  NodeContext& c_;
  const Decoders decoders_;
  const int64_t beams_, pad_;
  Prompt start_{};
  Carried at_{};
  bool in_loop_ = false;
};

void import_beam_search(NodeContext& c) {
  GraphBuilder& b = c.b;
  if (c.wants(2)) c.unsupported("the scores of every step");
  const bool whisper = c.node.op_type == "WhisperBeamSearch";
  const int64_t n = known_count(c, 3, "num_beams"), wanted = known_count(c, 4, "num_return_sequences");
  if (wanted > n) c.fail(fmt::format("{} sequences of {} beams", wanted, n));
  const BeamSettings s{search_settings(c, 2), n, c.integer("early_stopping", 0) != 0};
  const int64_t type = whisper ? 2 : c.integer("model_type", 0);
  for (const size_t i : {size_t{11}, size_t{13}})
    if (c.has(i) && !is_zero(c, c.in(i))) c.unsupported(i == 11 ? "logits_processor" : "extra_decoding_ids");
  if (c.wants(3)) c.unsupported("products of queries and keys (cross_qk)");
  const std::unique_ptr<BeamModel> model =
      type == 0 ? std::make_unique<DecoderModel>(c, n, s.base.pad) : encoder_decoder(c, type, n, s.base.pad);
  const ValueId one = model->prompt, most = number(c, 1), had = wiring::extent(b, one, 1);
  const Dim batch = b.shape(one)[0];
  const ValueId prompt = for_beams(b, one, batch, n);
  const ValueId penalty = c.has(5) ? wiring::scalar_of(b, cast(b, c.in(5), DType::f32)) : b.scalar(DType::f32, 1);
  const SearchRules rules{.penalty = c.has(6) ? wiring::scalar_of(b, cast(b, c.in(6), DType::f32)) : no_id,
                          .vocab_mask = c.maybe(7),
                          .prefix_mask = c.has(8) ? for_beams(b, c.in(8), batch, n) : no_id,
                          .least_length = c.has(2) ? number(c, 2) : no_id,
                          .temperature = c.has(14) ? wiring::scalar_of(b, cast(b, c.in(14), DType::f32)) : no_id};
  Tensor first(DType::f32, {1, n});
  for (int64_t k = 1; k < n; ++k) first.set_real(k, -1e9);
  const ValueId zeros = wiring::fill(b, b.scalar(DType::f32, 0), b.dims({batch, n}));
  Beams v{.state = {roomy(b, prompt, most, s.base.pad), had},
          .scores = add(b, zeros, b.constant(std::move(first))),
          .done = wiring::fill(b, b.scalar(DType::boolean, 0), b.dims({batch})),
          .best = add(b, zeros, like(b, zeros, minus_infinity)),
          .kept = no_id};
  v.kept = wiring::reshape(b, mul(b, v.state.tokens, whole(b, 0)), {batch, n, b.shape(v.state.tokens)[1]});
  const ValueId logits = model->first();
  if (c.wants(4)) {  // how probable a token is that says that nobody speaks
    const ValueId token = whole(b, c.integer("no_speech_token_id", -1));
    const ValueId silent = wiring::gather(b, wiring::softmax(b, last_scores(b, logits), 1), token, 1);
    c.out(4, wiring::reshape(b, wiring::slice(b, wiring::reshape(b, silent, {batch, n}), 1, 0, 1), {batch}));
  }
  model->reorder(b, beam_step(b, s, rules, v, penalty, logits, true));

  SearchLoop loop(c);
  GraphBuilder& inner = loop.inner;
  Beams at{.state = {loop.carry(v.state.tokens), loop.carry(v.state.length)},
           .scores = loop.carry(v.scores),
           .done = loop.carry(v.done),
           .best = loop.carry(v.best),
           .kept = loop.carry(v.kept)};
  model->carry(loop);
  model->bring(loop);
  const SearchRules given = brought(loop, rules);
  const ValueId inner_penalty = loop.bring(penalty);
  const ValueId scored = model->next(loop, at.state);
  model->reorder(inner, beam_step(inner, s, given, at, inner_penalty, scored, false));
  Ids carried = {at.state.tokens, at.state.length, at.scores, at.done, at.best, at.kept};
  const Ids more = model->carried();
  carried.insert(carried.end(), more.begin(), more.end());
  const ValueId trips = sub(b, sub(b, most, had), whole(b, 1));
  const Ids found = loop.finish(trips, some_left(b, v.done), some_left(inner, at.done), carried);

  // Rows that still run count as finished where the search was not done.
  Beams end{.state = {found[0], found[1]}, .scores = found[2], .done = found[3], .best = found[4], .kept = found[5]};
  const ValueId left = wiring::where(b, wiring::unsqueeze(b, end.done, {1}), like(b, end.scores, minus_infinity),
                                     per_length(b, end.scores, end.state.length, penalty));
  keep_best(b, end, left, wiring::reshape(b, end.state.tokens, {batch, n, b.shape(end.state.tokens)[1]}), n);
  c.out(0, cast(b, wiring::slice(b, end.kept, 1, 0, wanted), DType::i32));
  if (c.wants(1)) c.out(1, wiring::slice(b, end.best, 1, 0, wanted));
}

constexpr Entry table[] = {
    {"BeamSearch", 1, import_beam_search, microsoft},
    {"GreedySearch", 1, [](NodeContext& c) { search(c, false); }, microsoft},
    {"WhisperBeamSearch", 1, import_beam_search, microsoft},
    {"Sampling", 1, [](NodeContext& c) { search(c, true); }, microsoft},
};

}  // namespace

std::span<const Entry> contrib_search_entries() { return table; }

}  // namespace sinter::onnx
