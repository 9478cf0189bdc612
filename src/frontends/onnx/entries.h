// What the families of entries share: operands in the shapes that operators want, old broadcasting, padding names.
//
// Every helper builds through the node's builder and reports what is wrong through NodeContext::fail.
#pragma once

#include "frontends/onnx/import.h"
#include "ops/window.h"
#include "wiring/wiring.h"

namespace sinter {
struct RecurrentAttrs;
}

namespace sinter::onnx {

// One core operator on operand 0.
void unary(NodeContext& c, std::string_view op);
// One core operator on operands 0 and 1, broadcast as the node's opset says (attributes broadcast and axis before 7).
void binary(NodeContext& c, std::string_view op);
// Operands 0 and 1 brought to the newest broadcasting rules.
std::pair<ValueId, ValueId> broadcast_pair(NodeContext& c);
// Operand i, checked to be a tensor of known rank at least `low`.
size_t rank_of(NodeContext& c, size_t i, size_t low = 0);
int64_t axis_of(NodeContext& c, int64_t axis, size_t rank);
// An operand of one element as i64[1] or i64[].
ValueId as_vector(NodeContext& c, ValueId v);
ValueId as_scalar(NodeContext& c, ValueId v);
// [N, spatial..., C] to [N, C, spatial...] and back; rank 2 at least.
ValueId channels_first(GraphBuilder& b, ValueId x);
ValueId channels_last(GraphBuilder& b, ValueId x);
// A constant vector of floats.
ValueId floats(NodeContext& c, const std::vector<double>& values);
// What the entry of another operator makes of this node's attributes with these operands.
Ids imported_as(NodeContext& c, std::string_view domain, std::string_view name, int64_t opset, Ids inputs);
// The same for the default domain and one result.
ValueId core_result(NodeContext& c, std::string_view name, Ids inputs, int64_t opset = 21);
// x as u8 with the scale and zero point that its range asks for (quantization.cpp).
struct DynamicallyQuantized {
  ValueId values, scale, zero;
};
DynamicallyQuantized dynamically_quantized(GraphBuilder& b, ValueId x);
AutoPad auto_pad(NodeContext& c);
RecurrentAttrs recurrent_attributes(NodeContext& c);  // of LSTM, GRU and RNN (recurrent.cpp)
// In [0, 2^32): the whole part of attribute 'seed'; negative when it is absent or no number.
int64_t seed_of(NodeContext& c);
void import_linear_attention(NodeContext& c);  // linear_attention.cpp
// Known to be all zeros (or absent).
bool is_zero(NodeContext& c, ValueId v);

}  // namespace sinter::onnx
