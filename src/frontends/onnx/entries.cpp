#include "frontends/onnx/entries.h"

#include <fmt/core.h>

#include <algorithm>
#include <cmath>

#include "frontends/onnx/importer.h"

namespace sinter::onnx {

void unary(NodeContext& c, std::string_view op) { c.out(0, c.b.op(op, {c.in(0)})); }

std::pair<ValueId, ValueId> broadcast_pair(NodeContext& c) {
  const ValueId x = c.in(0);
  ValueId y = c.in(1);
  if (c.opset >= 7 || c.integer("broadcast", 0) == 0 || !c.has_attr("axis")) return {x, y};
  const size_t rank = c.b.rank(x), inner = c.b.rank(y);
  const int64_t axis = axis_of(c, c.integer("axis", 0), rank == 0 ? 1 : rank);
  if (static_cast<size_t>(axis) + inner > rank)
    c.fail(fmt::format("operand 1 of rank {} at axis {} is longer than operand 0 of rank {}", inner, axis, rank));
  return {x, wiring::unsqueeze(c.b, y, wiring::axis_range(inner, rank - static_cast<size_t>(axis)))};
}

void binary(NodeContext& c, std::string_view op) {
  const auto [x, y] = broadcast_pair(c);
  c.out(0, c.b.op(op, {x, y}));
}

size_t rank_of(NodeContext& c, size_t i, size_t low) {
  const size_t rank = c.b.rank(c.in(i));
  if (rank < low) c.fail(fmt::format("operand {} has rank {}, it must be at least {}", i, rank, low));
  return rank;
}

int64_t axis_of(NodeContext& c, int64_t axis, size_t rank) {
  const auto r = static_cast<int64_t>(rank);
  if (axis < -r || axis >= r) c.fail(fmt::format("axis {} is outside [{}, {})", axis, -r, r));
  return axis < 0 ? axis + r : axis;
}

ValueId as_scalar(NodeContext& c, ValueId v) { return wiring::scalar_of(c.b, wiring::cast(c.b, v, DType::i64)); }

ValueId as_vector(NodeContext& c, ValueId v) {
  const ValueId i = wiring::cast(c.b, v, DType::i64);
  if (c.b.type(i).has_shape() && c.b.rank(i) == 1) return i;
  return wiring::reshape(c.b, i, {-1});
}

namespace {

// Axis 1 to the end, or the last axis to 1.
ValueId moved(GraphBuilder& b, ValueId x, bool last) {
  const size_t rank = b.rank(x);
  if (rank < 2) throw Error(Code::model_invalid, fmt::format("the operand has rank {}, it must be at least 2", rank));
  auto perm = wiring::axis_range(0, rank);
  if (last)
    std::rotate(perm.begin() + 1, perm.begin() + 2, perm.end());
  else
    std::rotate(perm.begin() + 1, perm.end() - 1, perm.end());
  return wiring::transpose(b, x, std::move(perm));
}

}  // namespace

ValueId channels_first(GraphBuilder& b, ValueId x) { return moved(b, x, false); }
ValueId channels_last(GraphBuilder& b, ValueId x) { return moved(b, x, true); }

ValueId floats(NodeContext& c, const std::vector<double>& values) {
  Tensor t(DType::f32, {static_cast<int64_t>(values.size())});
  for (size_t i = 0; i < values.size(); ++i) t.set_real(static_cast<int64_t>(i), values[i]);
  return c.b.constant(std::move(t));
}

Ids imported_as(NodeContext& c, std::string_view domain, std::string_view name, int64_t opset, Ids inputs) {
  int oldest = 0;
  const Entry* entry = find_entry(domain, name, opset, oldest);
  if (!entry) throw Error(Code::internal, fmt::format("no entry for {} {}", name, opset));
  NodeContext other = c.with(std::move(inputs), opset);
  entry->import(other);
  return other.results();
}

ValueId core_result(NodeContext& c, std::string_view name, Ids inputs, int64_t opset) {
  return imported_as(c, "", name, opset, std::move(inputs)).at(0);
}

AutoPad auto_pad(NodeContext& c) {
  const std::string name = c.string("auto_pad", "NOTSET");
  if (name == "NOTSET" || name.empty()) return AutoPad::explicit_pads;
  if (name == "SAME_UPPER") return AutoPad::same_upper;
  if (name == "SAME_LOWER") return AutoPad::same_lower;
  if (name == "VALID") return AutoPad::valid;
  c.fail(fmt::format("auto_pad '{}' is none of NOTSET, SAME_UPPER, SAME_LOWER, VALID", name));
}

int64_t seed_of(NodeContext& c) {
  if (!c.has_attr("seed")) return -1;
  const double seed = std::fmod(std::trunc(c.real("seed", 0)), 0x1p32);
  if (std::isnan(seed)) return -1;
  return static_cast<int64_t>(seed < 0 ? seed + 0x1p32 : seed);
}

bool is_zero(NodeContext& c, ValueId v) {
  if (v == no_id) return true;
  const Tensor* t = wiring::fixed(c.b, v);
  if (!t || t->dtype() == DType::string || is_complex(t->dtype())) return false;
  for (int64_t i = 0; i < t->count(); ++i)
    if (t->get_real(i) != 0) return false;
  return true;
}

}  // namespace sinter::onnx
