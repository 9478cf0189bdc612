// The networks with an encoder that beam searches run: ONNX Runtime's T5 (model_type 1) and Whisper (2).
//
// The encoder gives keys and values of what it read, and in the older form also what the decoder makes of the prompt.

#include <fmt/core.h>

#include <algorithm>

#include "frontends/onnx/search.h"
#include "ops/selection.h"

namespace sinter::onnx {
namespace {

using wiring::cast;

class EncoderDecoder final : public BeamModel {
 public:
  EncoderDecoder(NodeContext& c, int64_t type, int64_t beams, int64_t pad)
      : c_(c), encoder_(graph("encoder")), decoder_(graph("decoder")), whisper_(type == 2), beams_(beams) {
    GraphBuilder& b = c.b;
    const size_t rank = rank_of(c, 0);
    if (rank != (whisper_ ? 3u : 2u))
      c.fail(fmt::format("operand 0 has rank {}, it must be {}", rank, whisper_ ? 3 : 2));
    batch_ = b.shape(c.in(0))[0];
    if (whisper_ && c.has(10)) {
      if (rank_of(c, 10) != 2) c.fail("decoder_input_ids must have rank 2");
      prompt = cast(b, c.in(10), DType::i64);
    } else {
      const int64_t start = c.integer("decoder_start_token_id", -1);
      if (start < 0) c.fail("attribute 'decoder_start_token_id' is missing");
      prompt = wiring::fill(b, whole(b, start), b.dims({batch_, 1}));
    }
    if (!whisper_) mask_ = c.has(9) ? cast(b, c.in(9), DType::i32) : default_mask(pad);
    // What the decoder takes between tokens and states.
    const auto takes = [&](std::string_view name) {
      return leading_ < decoder_.inputs.size() && decoder_.inputs[leading_].name == name;
    };
    if ((takes_mask_ = takes("encoder_attention_mask"))) ++leading_;
    if ((takes_hidden_ = takes("encoder_hidden_states"))) ++leading_;
    const size_t states = decoder_.inputs.size() - std::min(decoder_.inputs.size(), leading_);
    if (states == 0 || states % 4 != 0 || decoder_.outputs.size() != 1 + states / 2)
      c.unsupported(
          "a decoder must take input_ids, what it reads of the encoder, keys and values of itself and of the encoder, "
          "and give logits and its own keys and values; states in buffers that runs share are of one device's kernels");
    own_ = states / 2;
    const auto& shape = decoder_.inputs[0].type.shape;
    whole_rows_ = !shape || shape->size() != 2 || !(*shape)[1].value || *(*shape)[1].value != 1;
  }

  ValueId first() override {
    GraphBuilder& b = c_.b;
    const ValueId tokens = cast(b, prompt, DType::i32);
    Ids arguments = {c_.in(0)};
    if (!whisper_) arguments.push_back(mask_);
    const bool decodes = encoder_.inputs.size() == arguments.size() + 1;
    if (decodes) arguments.push_back(tokens);
    if (encoder_.inputs.size() != arguments.size())
      c_.unsupported(fmt::format("an encoder of {} inputs", encoder_.inputs.size()));
    const Ids read = first_run(c_, encoder_, arguments);
    ValueId logits = no_id;
    if (decodes) {  // logits, hidden states, states of both kinds
      if (read.size() != 2 + 2 * own_)
        c_.fail(fmt::format("the encoder gives {} results, {} are needed", read.size(), 2 + 2 * own_));
      logits = read[0];
      hidden_ = read[1];
      states_.assign(read.begin() + 2, read.begin() + 2 + static_cast<int64_t>(own_));
      crossed_.assign(read.begin() + 2 + static_cast<int64_t>(own_), read.end());
    } else {
      const size_t before = read.size() - std::min(read.size(), own_);
      if (before > 1 || read.size() < own_)
        c_.fail(fmt::format("the encoder gives {} results, {} are needed", read.size(), own_));
      if (before == 1) hidden_ = read[0];
      crossed_.assign(read.begin() + static_cast<int64_t>(before), read.end());
      for (size_t i = 0; i < own_; ++i) states_.push_back(nothing_yet(decoder_.inputs[leading_ + i]));
    }
    if (takes_hidden_ && hidden_ == no_id) c_.fail("the decoder reads hidden states, which the encoder does not give");
    if (takes_mask_ && mask_ == no_id) c_.fail("the decoder reads a mask, which there is none of");
    if (!decodes) {
      const Ids results = first_run(c_, decoder_, arguments_of(tokens));
      logits = results.at(0);
      states_.assign(results.begin() + 1, results.end());
    }
    for (Ids* group : {&states_, &crossed_})
      for (ValueId& v : *group) v = for_beams(b, v, batch_, beams_);
    if (takes_hidden_) hidden_ = for_beams(b, hidden_, batch_, beams_);
    if (takes_mask_) mask_ = for_beams(b, mask_, batch_, beams_);
    return for_beams(b, logits, batch_, beams_);
  }

  // What was read of the encoder is the same for all rows of an entry.
  void reorder(GraphBuilder& b, ValueId from) override {
    for (ValueId& state : states_) state = wiring::reshape(b, wiring::gather(b, state, from, 0), Shape(b.shape(state)));
  }

  void carry(SearchLoop& loop) override {
    for (ValueId& state : states_) state = loop.carry(state, 2);
  }

  void bring(SearchLoop& loop) override {
    for (ValueId& state : crossed_) state = loop.bring(state);
    hidden_ = takes_hidden_ ? loop.bring(hidden_) : no_id;
    mask_ = takes_mask_ ? loop.bring(mask_) : no_id;
  }

  ValueId next(SearchLoop& loop, const SearchState& state) override {
    GraphBuilder& b = loop.inner;
    const ValueId last = wiring::unsqueeze(b, wiring::sub(b, state.length, whole(b, 1)), {0});
    const ValueId columns = whole_rows_ ? wiring::iota(b, state.length) : last;
    const ValueId tokens = cast(b, wiring::gather(b, state.tokens, columns, 1), DType::i32);
    const Ids results = loop.run_decoder(decoder_, arguments_of(tokens));
    states_.assign(results.begin() + 1, results.end());
    return results[0];
  }

  Ids carried() const override { return states_; }

 private:
  const Graph& graph(const char* name) const {
    const Graph* g = c_.graph(name);
    if (!g) c_.fail(fmt::format("attribute '{}' is missing", name));
    return *g;
  }

  // Padding in front does not count; the end of a text may be padding, too.
  ValueId default_mask(int64_t pad) const {
    GraphBuilder& b = c_.b;
    const ValueId ids = cast(b, c_.in(0), DType::i64);
    const ValueId text = cast(b, b.op("Not", {b.op("Equal", {ids, whole(b, pad)})}), DType::i32);
    const ValueId upto = b.op("CumSum", CumulativeAttrs{}, {text, whole(b, 1)});
    return b.op("Min", {upto, wiring::like(b, upto, 1)});
  }

  Ids arguments_of(ValueId tokens) const {
    Ids out = {tokens};
    if (takes_mask_) out.push_back(mask_);
    if (takes_hidden_) out.push_back(hidden_);
    out.insert(out.end(), states_.begin(), states_.end());
    out.insert(out.end(), crossed_.begin(), crossed_.end());
    return out;
  }

  // [batch, heads, 0, size]
  ValueId nothing_yet(const ValueInfo& info) const {
    const auto& shape = info.type.shape;
    if (!shape || shape->size() != 4 || !(*shape)[1].value || !(*shape)[3].value)
      c_.unsupported("states of the decoder must be [batch, heads, tokens, size] with known heads and size");
    const DType dtype = info.type.element_type == 10 ? DType::f16 : DType::f32;
    return wiring::fill(c_.b, c_.b.scalar(dtype, 0), c_.b.dims({batch_, *(*shape)[1].value, 0, *(*shape)[3].value}));
  }

  NodeContext& c_;
  const Graph &encoder_, &decoder_;
  const bool whisper_;
  const int64_t beams_;
  Dim batch_;
  size_t leading_ = 1, own_ = 0;  // the decoder's inputs before its states; its own states
  bool takes_mask_ = false, takes_hidden_ = false, whole_rows_ = false;
  ValueId mask_ = no_id, hidden_ = no_id;
  Ids states_, crossed_;
};

}  // namespace

ValueId for_beams(GraphBuilder& b, ValueId v, const Dim& batch, int64_t beams) {
  const ValueId entry = wiring::div(b, wiring::iota(b, count_of(b, batch * Dim(beams))), whole(b, beams));
  Shape shape = b.shape(v);
  shape[0] = batch * Dim(beams);
  return wiring::reshape(b, wiring::gather(b, v, entry, 0), shape);
}

std::unique_ptr<BeamModel> encoder_decoder(NodeContext& c, int64_t type, int64_t beams, int64_t pad) {
  return std::make_unique<EncoderDecoder>(c, type, beams, pad);
}

}  // namespace sinter::onnx
