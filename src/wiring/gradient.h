// Reverse-mode differentiation of a graph under construction: further nodes of core operators say how results change
// with the values they are made from.
//
// The walk (gradient.cpp) goes from results back to wanted values; at each node on the way a rule says how the
// cotangents of its results flow to its operands. Pointwise operators need no rules of their own: their expressions are
// differentiated (gradient_pointwise.cpp). What comes out is ordinary graph, so it can be differentiated again. An
// operator without a rule is Error(Code::unsupported) that names it and the user's node. Where a function has no
// derivative, a subgradient is taken: halves for the operands of Min and Max that are equal, 0 for Relu at 0.
#pragma once

#include "ir/builder.h"

namespace sinter::wiring {

// d(sum over results and elements of y * seed)/dx for every x, of x's type: zeros where nothing depends on x. A seed of
// no_id: that result counts for nothing.
Ids gradients(GraphBuilder& b, const Ids& ys, const Ids& seeds, const Ids& xs);
// The same for one result whose elements count 1 each.
Ids gradients(GraphBuilder& b, ValueId y, const Ids& xs);

// ---- for rules ----

// One node on the way back.
struct Flow {
  GraphBuilder& b;
  const Node& node;
  Ids results;               // cotangents of the node's results, no_id where nothing comes back
  std::vector<bool> wanted;  // operands that need one
  Ids operands;              // cotangents of operands, to be filled in

  ValueId x(size_t i) const { return i < node.inputs.size() ? node.inputs[i] : no_id; }
  ValueId y(size_t o = 0) const { return node.outputs[o]; }
  ValueId g(size_t o = 0) const { return results[o]; }
  bool wants(size_t i) const { return i < wanted.size() && wanted[i]; }
  // Adds to the cotangent of an operand, if it is wanted; the shape is the operand's or one that it was broadcast to.
  void give(size_t i, ValueId cotangent);
  [[noreturn]] void refuse(const std::string& what, const std::string& hint) const;
};

struct GradientRule {
  const char* op;
  void (*flow)(Flow&);
};
std::span<const GradientRule> moving_gradients();       // gradient_moves.cpp
std::span<const GradientRule> contracting_gradients();  // gradient_sums.cpp
std::span<const GradientRule> pointwise_gradients();    // where an expression's own derivative will not do
void flow_through_expression(Flow& f);

// g summed over the axes along which x was broadcast to g's shape; extents may be symbols.
ValueId summed_to(GraphBuilder& b, ValueId g, ValueId x);
// v in x's extents; as many elements.
ValueId shaped_like(GraphBuilder& b, ValueId v, ValueId x);
ValueId zeros_like(GraphBuilder& b, ValueId x);
// g's elements summed into `slots` (an i64 scalar) places [slots], each at the place that `at` says.
ValueId gathered_back(GraphBuilder& b, ValueId g, ValueId at, ValueId slots);

}  // namespace sinter::wiring
