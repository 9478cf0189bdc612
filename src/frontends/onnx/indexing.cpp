// Entries that read or write where an operand says.

#include "ops/indexing.h"

#include <fmt/core.h>

#include "frontends/onnx/entries.h"

namespace sinter::onnx {
namespace {

Reduction reduction(NodeContext& c) {
  const std::string name = c.string("reduction", "none");
  if (name == "none") return Reduction::none;
  if (name == "add") return Reduction::add;
  if (name == "mul") return Reduction::mul;
  if (name == "max") return Reduction::max;
  if (name == "min") return Reduction::min;
  c.fail(fmt::format("reduction '{}' is none of none, add, mul, max, min", name));
}

void import_gather(NodeContext& c) { c.out(0, wiring::gather(c.b, c.in(0), c.in(1), c.integer("axis", 0))); }

void import_gather_elements(NodeContext& c) {
  c.out(0, c.b.op("GatherElements", GatherAttrs{.axis = c.integer("axis", 0)}, {c.in(0), c.in(1)}));
}

void import_gather_nd(NodeContext& c) {
  c.out(0, c.b.op("GatherND", GatherNDAttrs{.batch_dims = c.integer("batch_dims", 0)}, {c.in(0), c.in(1)}));
}

void import_scatter_elements(NodeContext& c) {
  const ScatterElementsAttrs a{.axis = c.integer("axis", 0), .reduction = reduction(c)};
  c.out(0, c.b.op("ScatterElements", a, {c.in(0), c.in(1), c.in(2)}));
}

void import_scatter_nd(NodeContext& c) {
  c.out(0, c.b.op("ScatterND", ScatterNDAttrs{.reduction = reduction(c)}, {c.in(0), c.in(1), c.in(2)}));
}

void import_compress(NodeContext& c) {
  const CompressAttrs a{.flat = !c.has_attr("axis"), .axis = c.integer("axis", 0)};
  c.out(0, c.b.op("Compress", a, {c.in(0), c.in(1)}));
}

void import_one_hot(NodeContext& c) {
  c.out(0, c.b.op("OneHot", OneHotAttrs{.axis = c.integer("axis", -1)}, {c.in(0), as_scalar(c, c.in(1)), c.in(2)}));
}

void import_tensor_scatter(NodeContext& c) {
  GraphBuilder& b = c.b;
  const std::string mode = c.string("mode", "linear");
  if (mode != "linear" && mode != "circular") c.fail(fmt::format("mode '{}' is neither linear nor circular", mode));
  const size_t rank = rank_of(c, 0, 2);
  const int64_t axis = axis_of(c, c.integer("axis", -2), rank);
  if (axis == 0) c.fail("axis must not be the batch axis");
  const ValueId start = c.has(2) ? c.in(2) : b.scalar(DType::i64, 0);
  const PutRowsAttrs attrs{.axis = axis, .circular = mode == "circular"};
  c.out(0, b.op("PutRows", attrs, {c.in(0), c.in(1), start}));
}

constexpr Entry table[] = {
    {"Compress", 9, import_compress},
    {"Gather", 1, import_gather},
    {"GatherElements", 11, import_gather_elements},
    {"GatherND", 11, import_gather_nd},
    {"NonZero", 9, [](NodeContext& c) { unary(c, "NonZero"); }},
    {"OneHot", 9, import_one_hot},
    {"Scatter", 9, import_scatter_elements},
    {"ScatterElements", 11, import_scatter_elements},
    {"ScatterND", 11, import_scatter_nd},
    {"TensorScatter", 24, import_tensor_scatter},
};

}  // namespace

std::span<const Entry> indexing_entries() { return table; }

}  // namespace sinter::onnx
