// Entries of reductions. Axes are an attribute before opset 18 (13 for ReduceSum) and operand 1 since.

#include "ops/reduction.h"

#include "frontends/onnx/entries.h"

namespace sinter::onnx {
namespace {

using wiring::cast;

ReduceAttrs attributes(NodeContext& c) {
  return {.keep_dims = c.integer("keepdims", 1) != 0, .keep_without_axes = c.integer("noop_with_empty_axes", 0) != 0};
}

ValueId reduced(NodeContext& c, std::string_view op, ValueId x) {
  return c.b.op(op, attributes(c), {x, c.axes_operand("axes", 1)});
}

void plain(NodeContext& c, std::string_view op) { c.out(0, reduced(c, op, c.in(0))); }

// Largest and smallest of truth values are those of numbers.
void order(NodeContext& c, std::string_view op) {
  if (c.b.dtype(c.in(0)) != DType::boolean) return plain(c, op);
  c.out(0, cast(c.b, reduced(c, op, cast(c.b, c.in(0), DType::u8)), DType::boolean));
}

// Roots and logarithms of integers are taken as reals and cut.
ValueId as_real(NodeContext& c) {
  const DType dtype = c.b.dtype(c.in(0));
  return is_float(dtype) ? wiring::widened(c.b, c.in(0)) : cast(c.b, c.in(0), DType::f64);
}

void finish(NodeContext& c, ValueId y) { c.out(0, cast(c.b, y, c.b.dtype(c.in(0)))); }

void import_l1(NodeContext& c) { finish(c, reduced(c, "ReduceSum", c.b.op("Abs", {wiring::widened(c.b, c.in(0))}))); }

void import_l2(NodeContext& c) {
  const ValueId x = as_real(c);
  finish(c, c.b.op("Sqrt", {reduced(c, "ReduceSum", wiring::mul(c.b, x, x))}));
}

void import_sum_square(NodeContext& c) {
  const ValueId x = wiring::widened(c.b, c.in(0));
  finish(c, reduced(c, "ReduceSum", wiring::mul(c.b, x, x)));
}

void import_log_sum(NodeContext& c) { finish(c, c.b.op("Log", {reduced(c, "ReduceSum", as_real(c))})); }

void import_log_sum_exp(NodeContext& c) {
  const ReduceAttrs a = attributes(c);
  c.out(0, wiring::log_sum_exp(c.b, c.in(0), c.axes_operand("axes", 1), a.keep_dims, a.keep_without_axes));
}

constexpr Entry table[] = {
    {"ReduceL1", 1, import_l1},
    {"ReduceL2", 1, import_l2},
    {"ReduceLogSum", 1, import_log_sum},
    {"ReduceLogSumExp", 1, import_log_sum_exp},
    {"ReduceMax", 1, [](NodeContext& c) { order(c, "ReduceMax"); }},
    {"ReduceMean", 1, [](NodeContext& c) { plain(c, "ReduceMean"); }},
    {"ReduceMin", 1, [](NodeContext& c) { order(c, "ReduceMin"); }},
    {"ReduceProd", 1, [](NodeContext& c) { plain(c, "ReduceProd"); }},
    {"ReduceSum", 1, [](NodeContext& c) { plain(c, "ReduceSum"); }},
    {"ReduceSumSquare", 1, import_sum_square},
};

}  // namespace

std::span<const Entry> reduction_entries() { return table; }

}  // namespace sinter::onnx
