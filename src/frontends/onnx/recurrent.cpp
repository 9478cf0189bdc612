// Entries of LSTM, GRU and RNN.

#include "ops/recurrent.h"

#include <fmt/core.h>

#include <algorithm>

#include "frontends/onnx/entries.h"

namespace sinter::onnx {

RecurrentAttrs recurrent_attributes(NodeContext& c) {
  RecurrentAttrs a;
  for (std::string name : c.strings("activations")) {
    for (char& ch : name)
      if (ch >= 'A' && ch <= 'Z') ch = static_cast<char>(ch - 'A' + 'a');
    a.activations.push_back(std::move(name));
  }
  a.alpha = c.reals("activation_alpha");
  a.beta = c.reals("activation_beta");
  a.clip = c.real("clip", 0);
  const std::string direction = c.string("direction", "forward");
  if (direction == "forward")
    a.direction = Direction::forward;
  else if (direction == "reverse")
    a.direction = Direction::reverse;
  else if (direction == "bidirectional")
    a.direction = Direction::bidirectional;
  else
    c.fail(fmt::format("direction '{}' is none of forward, reverse, bidirectional", direction));
  a.input_forget = c.integer("input_forget", 0) != 0;
  a.linear_before_reset = c.integer("linear_before_reset", 0) != 0;
  return a;
}

namespace {

// `states`: results with a state per direction; the same number of operands starts them.
void recurrent(NodeContext& c, std::string_view op, size_t operands, size_t states) {
  GraphBuilder& b = c.b;
  if (c.has_attr("hidden_size") && b.type(c.in(2)).has_shape() && b.rank(c.in(2)) == 3) {
    const Dim& hidden = b.shape(c.in(2))[2];
    if (hidden.is_constant() && hidden.constant() != c.integer("hidden_size", 0))
      c.fail(fmt::format("hidden_size is {}, the recurrence weight has {}", c.integer("hidden_size", 0),
                         hidden.constant()));
  }
  // layout 1 has the batch first everywhere.
  const bool batch_first = c.integer("layout", 0) != 0;
  Ids inputs;
  for (size_t i = 0; i < operands; ++i) {
    ValueId v = i < 3 ? c.in(i) : c.maybe(i);
    const bool state = i >= 5 && i < 5 + states;
    if (batch_first && v != no_id && (i == 0 || state)) v = wiring::transpose(b, v, {1, 0, 2});
    inputs.push_back(v);
  }
  const size_t count = std::min(std::max<size_t>(c.outputs(), 1), states + 1);
  Ids results = b.add(op_named(op), recurrent_attributes(c), std::move(inputs), count);
  for (size_t o = 0; o < results.size(); ++o) {
    if (!c.wants(o)) continue;
    ValueId v = results[o];
    if (batch_first) v = o == 0 ? wiring::transpose(b, v, {2, 0, 1, 3}) : wiring::transpose(b, v, {1, 0, 2});
    c.out(o, v);
  }
}

constexpr Entry table[] = {
    {"GRU", 1, [](NodeContext& c) { recurrent(c, "GRU", 6, 1); }},
    {"LSTM", 1, [](NodeContext& c) { recurrent(c, "LSTM", 8, 2); }},
    {"RNN", 1, [](NodeContext& c) { recurrent(c, "RNN", 6, 1); }},
};

}  // namespace

std::span<const Entry> recurrent_entries() { return table; }

}  // namespace sinter::onnx
