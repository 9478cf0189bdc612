// Gradients of operators that move elements, and of those that write where an operand says. Also Cast, EyeLike, If.

#include "ops/cast.h"
#include "ops/control.h"
#include "ops/indexing.h"
#include "ops/movement.h"
#include "ops/selection.h"
#include "ops/shape.h"
#include "wiring/gradient.h"
#include "wiring/wiring.h"

namespace sinter::wiring {
namespace {

// 0, 1, 2, ... in x's extents: where elements come from, once an operator has moved these instead of x.
ValueId positions(GraphBuilder& b, ValueId x) {
  return b.op("Reshape", ReshapeAttrs{.allow_zero = true}, {iota(b, b.op("Size", {x})), shape_of(b, x)});
}

// Any operator whose results are elements of operand 0.
void flow_moved(Flow& f) {
  Ids inputs = f.node.inputs;
  inputs[0] = positions(f.b, f.x(0));
  const Ids at = f.b.add(*f.node.op, f.node.attrs, std::move(inputs), f.node.outputs.size());
  for (size_t o = 0; o < f.node.outputs.size(); ++o)
    if (f.g(o) != no_id)
      f.give(0, shaped_like(f.b, gathered_back(f.b, f.g(o), at[o], f.b.op("Size", {f.x(0)})), f.x(0)));
}

// Fill elements come from one more place behind x's.
void flow_pad(Flow& f) {
  if (f.node.attrs.as<PadAttrs>().mode != PadMode::constant) return flow_moved(f);
  GraphBuilder& b = f.b;
  const ValueId count = b.op("Size", {f.x(0)}), slots = add(b, count, b.scalar(DType::i64, 1));
  Ids inputs = f.node.inputs;
  inputs.resize(std::max<size_t>(inputs.size(), 3), no_id);
  inputs[0] = positions(b, f.x(0));
  inputs[2] = count;
  const ValueId sums = gathered_back(b, f.g(), b.op("Pad", f.node.attrs, std::move(inputs)), slots);
  const ValueId end = unsqueeze(b, count, {0}), zero = b.integers({0});
  if (f.wants(0)) f.give(0, shaped_like(b, b.op("Slice", {sums, zero, end, zero}), f.x(0)));
  if (f.wants(2)) f.give(2, shaped_like(b, b.op("Slice", {sums, end, unsqueeze(b, slots, {0}), zero}), f.x(2)));
}

void flow_reshaped(Flow& f) { f.give(0, shaped_like(f.b, f.g(), f.x(0))); }

void flow_identity(Flow& f) { f.give(0, f.g()); }

void flow_transpose(Flow& f) {
  const std::vector<int64_t>& perm = f.node.attrs.as<TransposeAttrs>().perm;
  std::vector<int64_t> back(perm.size());
  for (size_t k = 0; k < perm.size(); ++k) {
    const auto n = static_cast<int64_t>(perm.size());
    back[static_cast<size_t>(perm[k] < 0 ? perm[k] + n : perm[k])] = static_cast<int64_t>(k);
  }
  f.give(0, transpose(f.b, f.g(), std::move(back)));
}

void flow_concat(Flow& f) {
  GraphBuilder& b = f.b;
  const int64_t axis = axis_of(f.node.attrs.as<ConcatAttrs>().axis, b.rank(f.y()));
  Ids sizes;
  for (ValueId x : f.node.inputs) sizes.push_back(b.op("Shape", ShapeAttrs{.start = axis, .end = axis + 1}, {x}));
  const size_t count = sizes.size();
  const ValueId all = concat(b, std::move(sizes), 0);
  const Ids parts = b.add(op_named("Split"), SplitAttrs{.axis = axis}, {f.g(), all}, count);
  for (size_t i = 0; i < count; ++i) f.give(i, parts[i]);
}

void flow_split(Flow& f) {
  Ids parts;
  for (size_t o = 0; o < f.node.outputs.size(); ++o)
    parts.push_back(f.g(o) != no_id ? f.g(o) : zeros_like(f.b, f.y(o)));
  f.give(0, concat(f.b, std::move(parts), f.node.attrs.as<SplitAttrs>().axis));
}

// Applied again, these undo themselves or leave out the same elements.
void flow_again(Flow& f) {
  Ids inputs = f.node.inputs;
  inputs[0] = f.g();
  f.give(0, f.b.op(f.node.op->name, f.node.attrs, std::move(inputs)));
}

void flow_cast(Flow& f) { f.give(0, cast(f.b, f.g(), f.b.dtype(f.x(0)))); }

// Results that are the same for every content of the operand.
void flow_nowhere(Flow&) {}

void flow_gather_elements(Flow& f) {
  const ScatterElementsAttrs a{.axis = f.node.attrs.as<GatherAttrs>().axis, .reduction = Reduction::add};
  f.give(0, f.b.op("ScatterElements", a, {zeros_like(f.b, f.x(0)), f.x(1), f.g()}));
}

[[noreturn]] void refuse_reduction(Flow& f) {
  f.refuse("combines updates by mul, max or min, for which there is no gradient", "use reduction 'none' or 'add'");
}

void flow_scatter_elements(Flow& f) {
  GraphBuilder& b = f.b;
  const auto& a = f.node.attrs.as<ScatterElementsAttrs>();
  if (a.reduction == Reduction::none) {
    if (f.wants(0)) f.give(0, b.op("ScatterElements", a, {f.g(), f.x(1), zeros_like(b, f.x(2))}));
  } else if (a.reduction == Reduction::add) {
    f.give(0, f.g());
  } else {
    refuse_reduction(f);
  }
  if (f.wants(2)) f.give(2, b.op("GatherElements", GatherAttrs{.axis = a.axis}, {f.g(), f.x(1)}));
}

void flow_scatter_nd(Flow& f) {
  GraphBuilder& b = f.b;
  const auto& a = f.node.attrs.as<ScatterNDAttrs>();
  if (a.reduction == Reduction::none) {
    if (f.wants(0)) f.give(0, b.op("ScatterND", a, {f.g(), f.x(1), zeros_like(b, f.x(2))}));
  } else if (a.reduction == Reduction::add) {
    f.give(0, f.g());
  } else {
    refuse_reduction(f);
  }
  if (f.wants(2)) f.give(2, b.op("GatherND", {f.g(), f.x(1)}));
}

// What the rows overwrite reaches no result; of rows around the end, those that later ones overwrite do neither.
void flow_put_rows(Flow& f) {
  GraphBuilder& b = f.b;
  const auto& a = f.node.attrs.as<PutRowsAttrs>();
  if (f.node.inputs.size() > 3 || a.cut)
    f.refuse("writes a cache that may grow, for which there is no gradient",
             "train on whole sequences, without a cache");
  if (f.wants(0)) f.give(0, b.op("PutRows", a, {f.g(), zeros_like(b, f.x(1)), f.x(2)}));
  if (!f.wants(1)) return;
  const size_t rank = b.rank(f.x(0));
  const int64_t axis = a.axis < 0 ? a.axis + static_cast<int64_t>(rank) : a.axis;
  const ValueId rows = extent(b, f.x(1), axis), places = extent(b, f.x(0), axis);
  ValueId at = along(b, iota(b, rows), axis, rank);
  const ValueId start = cast(b, f.x(2), DType::i64);
  at = add(b, at, b.rank(start) == 0 ? start : along(b, start, 0, rank));
  if (a.circular) at = b.op("Mod", {at, places});
  ValueId g = b.op("GatherElements", GatherAttrs{.axis = axis}, {f.g(), fill(b, at, shape_of(b, f.x(1)))});
  if (a.circular) {
    const ValueId last = b.op("LessOrEqual", {sub(b, rows, places), along(b, iota(b, rows), axis, rank)});
    g = where(b, last, g, b.scalar(b.dtype(g), 0));
  }
  f.give(1, g);
}

void flow_top_k(Flow& f) {
  const ScatterElementsAttrs a{.axis = f.node.attrs.as<TopKAttrs>().axis, .reduction = Reduction::add};
  f.give(0, f.b.op("ScatterElements", a, {zeros_like(f.b, f.x(0)), f.y(1), f.g()}));
}

// The gradients of both branches, in branches of an If on the same condition.
void flow_if(Flow& f) {
  Ids given = {f.x(0)}, came;
  given.insert(given.end(), f.node.inputs.begin() + 1, f.node.inputs.end());
  for (ValueId g : f.results)
    if (g != no_id) given.push_back(g);
  std::vector<Graph> bodies;
  std::vector<size_t> wanted;
  for (size_t i = 1; i < f.node.inputs.size(); ++i)
    if (f.wants(i)) wanted.push_back(i);
  for (const Graph& branch : f.node.bodies) {
    Graph body = branch;
    GraphBuilder inner(f.b.module, body);
    Ids ys, seeds, xs;
    for (size_t o = 0; o < f.results.size(); ++o) {
      if (f.g(o) == no_id) continue;
      ys.push_back(body.outputs[o]);
      seeds.push_back(shaped_like(inner, inner.input(f.b.type(f.g(o))), body.outputs[o]));
    }
    for (size_t i : wanted) xs.push_back(body.inputs[i - 1]);
    body.outputs = gradients(inner, ys, seeds, xs);
    bodies.push_back(std::move(body));
  }
  const Ids back = f.b.add(*f.node.op, {}, std::move(given), wanted.size(), std::move(bodies));
  for (size_t k = 0; k < wanted.size(); ++k) f.give(wanted[k], shaped_like(f.b, back[k], f.x(wanted[k])));
}

constexpr GradientRule table[] = {
    {"Identity", flow_identity},
    {"Reshape", flow_reshaped},
    {"Squeeze", flow_reshaped},
    {"Unsqueeze", flow_reshaped},
    {"Flatten", flow_reshaped},
    {"Transpose", flow_transpose},
    {"Expand", flow_identity},  // summed to the operand's extents
    {"Concat", flow_concat},
    {"Split", flow_split},
    {"Slice", flow_moved},
    {"Tile", flow_moved},
    {"Gather", flow_moved},
    {"GatherND", flow_moved},
    {"Compress", flow_moved},
    {"Pad", flow_pad},
    {"Trilu", flow_again},
    {"ReverseSequence", flow_again},
    {"GatherElements", flow_gather_elements},
    {"ScatterElements", flow_scatter_elements},
    {"ScatterND", flow_scatter_nd},
    {"PutRows", flow_put_rows},
    {"TopK", flow_top_k},
    {"Cast", flow_cast},
    {"EyeLike", flow_nowhere},
    {"If", flow_if},
};

}  // namespace

std::span<const GradientRule> moving_gradients() { return table; }

}  // namespace sinter::wiring
