// Attributes of recurrent networks, in ONNX's layout and gate order (LSTM iofc, GRU zrh):
//
// LSTM(x [T, B, I], w [D, 4H, I], r [D, 4H, H], bias? [D, 8H], lengths? i32[B], h0? [D, B, H], c0? [D, B, H],
// peepholes? [D, 3H]) → y [T, D, B, H], y_h [D, B, H], y_c [D, B, H]; GRU and RNN have no c0, peepholes, y_c.
// ONNX's layout=1 is wired with transposes.
#pragma once

#include <string_view>
#include <vector>

#include "base/fields.h"

namespace sinter {

enum class Direction : uint8_t { forward, reverse, bidirectional };
std::span<const char* const> enum_names(Direction);

struct RecurrentAttrs {
  std::vector<std::string> activations = {};  // lower case, per direction; empty: the operator's own
  std::vector<double> alpha = {}, beta = {};  // of the activations that take them, in order
  double clip = 0;                            // 0: none
  Direction direction = Direction::forward;
  bool input_forget = false;         // LSTM
  bool linear_before_reset = false;  // GRU
};

const Fields& fields_of(const RecurrentAttrs*);

// The activations of all directions, one direction after the other: scalar expressions (ops/scalar.h) of x, with the
// parameters alpha and beta as y and z. op: "LSTM", "GRU" or "RNN". Throws Error for names that make no sense.
struct ActivationText {
  const char* text;
  double alpha, beta;
};
std::vector<ActivationText> recurrent_activations(std::string_view op, const RecurrentAttrs& attrs);

}  // namespace sinter
