// What searches for sequences of tokens share: what rules do to scores, and running a decoder inside a graph.
//
// Rows of tokens have their final length from the start; `length` of their columns count. Helpers build into the given
// builder's graph, which is the node's own or a loop's body.
#pragma once

#include "frontends/onnx/contrib.h"
#include "ops/control.h"

namespace sinter::onnx {

struct SearchRules {  // operands of the node; absent ones are no_id
  ValueId penalty = no_id, vocab_mask = no_id, prefix_mask = no_id, least_length = no_id, random = no_id,
          presence = no_id, temperature = no_id;
  Ids all() const { return {penalty, vocab_mask, prefix_mask, least_length, random, presence, temperature}; }
  static SearchRules from(const Ids& v) { return {v[0], v[1], v[2], v[3], v[4], v[5], v[6]}; }
};

struct SearchSettings {
  int64_t eos, pad, ngram;
  double temperature = 1, presence_penalty = 0;
};

struct SearchState {
  ValueId tokens, length;  // i64[rows, L], i64 scalar
};

// `most`: the highest model_type that the search takes.
SearchSettings search_settings(NodeContext& c, int64_t most);
// Scores f32[rows, V] as the rules change them; `first`: of the first step.
ValueId ruled_scores(GraphBuilder& b, const SearchSettings& s, const SearchRules& rules, const SearchState& state,
                     ValueId scores, bool first);
// logits [rows, tokens, V] of the last token, in f32.
ValueId last_scores(GraphBuilder& b, ValueId logits);
ValueId some_left(GraphBuilder& b, ValueId done);  // bool scalar: not all of bool[n] are true
// Puts a token i64[rows] behind each row.
SearchState with_token(GraphBuilder& b, SearchState state, ValueId token);

// A decoder subgraph: input_ids, position_ids, attention_mask, states → logits, states.
const Graph& decoder_of(NodeContext& c, const char* name);
// A state before anything is in it: [2, rows, heads, 0, size].
ValueId empty_state(NodeContext& c, const ValueInfo& info, const Dim& rows);
// The mask of a prompt i64[rows, S], its places and the next one's [rows, 1], all i32. Without a mask all counts that
// is no padding, and padding has no place; with one, places are plain.
struct Prompt {
  ValueId mask, places, next;
};
Prompt prompt_of(GraphBuilder& b, ValueId tokens, ValueId mask, int64_t pad);

// The body of a search's Loop: carried values with states that grow, captures, and the decoder in it.
class SearchLoop {
 public:
  explicit SearchLoop(NodeContext& c) : c_(c), inner(c.b.module, body_) {
    inner.input(Type::tensor(DType::i64, Shape{}));
    inner.input(Type::tensor(DType::boolean, Shape{}));
  }
  // A carried value with what it starts from; its extent `growing` changes (-1: none).
  ValueId carry(ValueId start, int growing = -1);
  ValueId bring(ValueId outer);  // a value of the node's graph; carry everything first
  Ids run_decoder(const Graph& decoder, Ids arguments);
  // Ends the body; gives the carried values after the loop.
  Ids finish(ValueId trips, ValueId starts, ValueId again, Ids carried);

 private:
  NodeContext& c_;
  sinter::Graph body_;
  Ids starts_, captures_;

 public:
  GraphBuilder inner;
};

// Runs a decoder in the node's own graph.
Ids first_run(NodeContext& c, const Graph& decoder, Ids arguments);

// Of a tensor whose rows are `batch` entries: each row `beams` times.
ValueId for_beams(GraphBuilder& b, ValueId v, const Dim& batch, int64_t beams);

// What gives the scores of next tokens to a beam search, with the states that it keeps for each row. It begins in the
// node's graph and goes on in the loop; rows are `beams` for each entry of the batch.
class BeamModel {
 public:
  virtual ~BeamModel() = default;
  ValueId prompt = no_id;                                   // i64[batch, S]
  virtual ValueId first() = 0;                              // logits [batch * beams, tokens, V] of the prompt
  virtual void reorder(GraphBuilder& b, ValueId from) = 0;  // row i goes on from row from[i]
  virtual void carry(SearchLoop& loop) = 0;                 // before anything is brought
  virtual void bring(SearchLoop& loop) = 0;
  virtual ValueId next(SearchLoop& loop, const SearchState& state) = 0;
  virtual Ids carried() const = 0;
};

// The models of ONNX Runtime's encoders and decoders: model_type 1 (T5) and 2 (Whisper).
std::unique_ptr<BeamModel> encoder_decoder(NodeContext& c, int64_t type, int64_t beams, int64_t pad);

}  // namespace sinter::onnx
