// Entries of sorting and selection.

#include "ops/selection.h"

#include "frontends/onnx/entries.h"

namespace sinter::onnx {
namespace {

void top_k(NodeContext& c, ValueId k) {
  const TopKAttrs a{
      .axis = c.integer("axis", -1), .largest = c.integer("largest", 1) != 0, .sorted = c.integer("sorted", 1) != 0};
  const Ids results = c.b.add(op_named("TopK"), a, {c.in(0), k}, 2);
  for (size_t o = 0; o < 2; ++o)
    if (c.wants(o)) c.out(o, results[o]);
}

void import_top_k_1(NodeContext& c) {
  if (!c.has_attr("k")) c.fail("attribute 'k' is missing");
  top_k(c, c.b.integers({c.integer("k", 0)}));
}

void import_top_k(NodeContext& c) { top_k(c, as_vector(c, c.in(1))); }

void arg(NodeContext& c, std::string_view op) {
  const ArgAttrs a{.axis = c.integer("axis", 0),
                   .keep_dims = c.integer("keepdims", 1) != 0,
                   .select_last = c.integer("select_last_index", 0) != 0};
  c.out(0, c.b.op(op, a, {c.in(0)}));
}

void import_unique(NodeContext& c) {
  const UniqueAttrs a{.flat = !c.has_attr("axis"), .axis = c.integer("axis", 0), .sorted = c.integer("sorted", 1) != 0};
  const Ids results = c.b.add(op_named("Unique"), a, {c.in(0)}, 4);
  for (size_t o = 0; o < 4; ++o)
    if (c.wants(o)) c.out(o, results[o]);
}

void import_nms(NodeContext& c) {
  const NonMaxSuppressionAttrs a{.center_point = c.integer("center_point_box", 0) != 0};
  c.out(0, c.b.op("NonMaxSuppression", a, {c.in(0), c.in(1), c.maybe(2), c.maybe(3), c.maybe(4)}));
}

void cumulative(NodeContext& c, std::string_view op) {
  const CumulativeAttrs a{.exclusive = c.integer("exclusive", 0) != 0, .reverse = c.integer("reverse", 0) != 0};
  c.out(0, c.b.op(op, a, {c.in(0), as_scalar(c, c.in(1))}));
}

constexpr Entry table[] = {
    {"ArgMax", 1, [](NodeContext& c) { arg(c, "ArgMax"); }},
    {"ArgMin", 1, [](NodeContext& c) { arg(c, "ArgMin"); }},
    {"CumProd", 26, [](NodeContext& c) { cumulative(c, "CumProd"); }},
    {"CumSum", 11, [](NodeContext& c) { cumulative(c, "CumSum"); }},
    {"NonMaxSuppression", 10, import_nms},
    {"TopK", 1, import_top_k_1},
    {"TopK", 10, import_top_k},
    {"Unique", 11, import_unique},
};

}  // namespace

std::span<const Entry> selection_entries() { return table; }

}  // namespace sinter::onnx
