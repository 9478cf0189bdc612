// The small pieces: one or two nodes each.

#include <fmt/core.h>

#include <map>

#include "base/scanner.h"
#include "ops/cast.h"
#include "ops/contraction.h"
#include "ops/indexing.h"
#include "ops/movement.h"
#include "ops/reduction.h"
#include "ops/shape.h"
#include "wiring/wiring.h"

namespace sinter::wiring {

namespace {

Attrs attributes(std::string_view op, std::initializer_list<Setting> settings) {
  const Op& row = op_named(op);
  const Fields* fields = row.fields ? row.fields() : nullptr;
  std::string text;
  for (const Setting& s : settings) {
    bool flag = false;
    if (fields)
      for (const Field& f : fields->list) flag = flag || (f.name == s.name && f.kind == FieldKind::boolean);
    text += fmt::format("{}{}={}", text.empty() ? "{" : ", ", s.name,
                        flag ? std::string(s.value != 0 ? "true" : "false") : number_text(s.value));
  }
  if (!text.empty()) text += "}";
  Scanner scanner(text);
  return Attrs::parse(fields, scanner);
}

}  // namespace

ValueId cast(GraphBuilder& b, ValueId x, DType to) {
  if (b.dtype(x) == to) return x;
  return b.op("Cast", CastAttrs{.to = to}, {x});
}

ValueId add(GraphBuilder& b, ValueId x, ValueId y) { return b.op("Add", {x, y}); }
ValueId sub(GraphBuilder& b, ValueId x, ValueId y) { return b.op("Sub", {x, y}); }
ValueId mul(GraphBuilder& b, ValueId x, ValueId y) { return b.op("Mul", {x, y}); }
ValueId div(GraphBuilder& b, ValueId x, ValueId y) { return b.op("Div", {x, y}); }

ValueId like(GraphBuilder& b, ValueId x, double value) { return b.scalar(b.dtype(x), value); }

ValueId shape_of(GraphBuilder& b, ValueId x) { return b.op("Shape", {x}); }

ValueId reshape(GraphBuilder& b, ValueId x, std::vector<Dim> shape) {
  // A symbol may turn out to be 0, which must not copy an extent; a literal 0 does by this function's contract.
  bool copies = false;
  for (const Dim& d : shape) copies = copies || d == Dim(0);
  return b.op("Reshape", ReshapeAttrs{.allow_zero = !copies}, {x, b.dims(std::move(shape))});
}

ValueId transpose(GraphBuilder& b, ValueId x, std::vector<int64_t> perm) {
  return b.op("Transpose", TransposeAttrs{.perm = std::move(perm)}, {x});
}

ValueId unsqueeze(GraphBuilder& b, ValueId x, std::vector<int64_t> axes) {
  if (axes.empty()) return x;
  return b.op("Unsqueeze", {x, b.integers(axes)});
}

ValueId squeeze(GraphBuilder& b, ValueId x, std::vector<int64_t> axes) {
  if (axes.empty()) return x;
  return b.op("Squeeze", {x, b.integers(axes)});
}

ValueId concat(GraphBuilder& b, Ids values, int64_t axis) {
  if (values.size() == 1) return values[0];
  return b.op("Concat", ConcatAttrs{.axis = axis}, std::move(values));
}

ValueId slice(GraphBuilder& b, ValueId x, int64_t axis, const Dim& start, const Dim& end) {
  return b.op("Slice", {x, b.dims({start}), b.dims({end}), b.integers({axis})});
}

ValueId gather(GraphBuilder& b, ValueId x, ValueId indices, int64_t axis) {
  return b.op("Gather", GatherAttrs{.axis = axis}, {x, indices});
}

ValueId where(GraphBuilder& b, ValueId condition, ValueId x, ValueId y) { return b.op("Where", {condition, x, y}); }

ValueId pointwise(GraphBuilder& b, std::string_view op, std::initializer_list<Setting> settings, ValueId x) {
  return b.op(op, attributes(op, settings), {x});
}

ValueId pointwise(GraphBuilder& b, std::string_view op, std::initializer_list<Setting> settings, ValueId x, ValueId y) {
  return b.op(op, attributes(op, settings), {x, y});
}

const Tensor* fixed(GraphBuilder& b, ValueId v) {
  if (v == no_id || !b.graph[v].weight.empty()) return nullptr;
  return b.constant_of(v);
}

int64_t axis_of(int64_t axis, size_t rank) {
  const auto r = static_cast<int64_t>(rank);
  if (axis < -r || axis >= r) throw Error(Code::model_invalid, fmt::format("axis {} is outside [{}, {})", axis, -r, r));
  return axis < 0 ? axis + r : axis;
}

std::vector<int64_t> axis_range(size_t first, size_t last) {
  std::vector<int64_t> out;
  for (size_t k = first; k < last; ++k) out.push_back(static_cast<int64_t>(k));
  return out;
}

ValueId scalar_of(GraphBuilder& b, ValueId x) {
  if (b.type(x).has_shape() && b.rank(x) == 0) return x;
  return b.op("Reshape", {x, b.integers(std::span<const int64_t>())});
}

ValueId extent(GraphBuilder& b, ValueId x, int64_t axis) {
  const int64_t at = axis_of(axis, b.rank(x));
  return scalar_of(b, b.op("Shape", ShapeAttrs{.start = at, .end = at + 1}, {x}));
}

ValueId band(GraphBuilder& b, const Dim& rows, const Dim& columns, ValueId first, ValueId last) {
  return b.op("Band", {b.dims({rows, columns}), first, last});
}

ValueId iota(GraphBuilder& b, ValueId count) {
  return b.op("Range", {b.scalar(DType::i64, 0), count, b.scalar(DType::i64, 1)});
}

ValueId along(GraphBuilder& b, ValueId x, int64_t axis, size_t rank) {
  std::vector<int64_t> ones;
  const int64_t at = axis_of(axis, rank);
  for (int64_t k = 0; k < static_cast<int64_t>(rank); ++k)
    if (k != at) ones.push_back(k);
  return unsqueeze(b, x, std::move(ones));
}

ValueId fill(GraphBuilder& b, ValueId scalar, ValueId shape) { return b.op("Expand", {scalar, shape}); }

ValueId reduce(GraphBuilder& b, std::string_view kind, ValueId x, std::vector<int64_t> axes, bool keep_dims) {
  const std::string name = fmt::format("Reduce{}", kind);
  return b.op(name, ReduceAttrs{.keep_dims = keep_dims, .keep_without_axes = true}, {x, b.integers(axes)});
}

ValueId widened(GraphBuilder& b, ValueId x) {
  const DType dtype = b.dtype(x);
  return is_float(dtype) && bit_size(dtype) < 32 ? cast(b, x, DType::f32) : x;
}

Ids inlined(GraphBuilder& b, const Graph& body, const Ids& arguments) {
  if (arguments.size() != body.inputs.size())
    throw Error(Code::internal,
                fmt::format("{} arguments for a graph that takes {}", arguments.size(), body.inputs.size()));
  Ids map(body.values.size(), no_id);
  // Extents that only the body knows get symbols of their own where its nodes stand now.
  std::map<SymbolId, Dim> renamed;
  const auto place = [&](ValueId old, ValueId now) {
    map[old] = now;
    const Type &before = body[old].type, &after = b.type(now);
    if (!before.has_shape() || !after.has_shape() || before.shape->size() != after.shape->size()) return;
    for (size_t k = 0; k < before.shape->size(); ++k) {
      const auto id = (*before.shape)[k].as_symbol();
      if (id && !((*before.shape)[k] == (*after.shape)[k])) renamed.try_emplace(*id, (*after.shape)[k]);
    }
  };
  for (size_t i = 0; i < arguments.size(); ++i) place(body.inputs[i], arguments[i]);
  const auto mapped = [&](ValueId v) {
    if (v == no_id || map[v] != no_id) return v == no_id ? no_id : map[v];
    const Value& value = body[v];
    if (const auto* known = std::get_if<std::vector<Dim>>(&value.contents)) {
      std::vector<Dim> dims = *known;
      for (Dim& d : dims) {
        std::vector<SymbolId> ids;
        d.collect_symbols(ids);
        for (SymbolId id : ids)
          if (const auto at = renamed.find(id); at != renamed.end()) d = d.substitute(id, at->second);
      }
      map[v] = b.dims(std::move(dims));
      if (b.type(map[v]) == value.type) return map[v];
      return map[v] = b.op("Cast", CastAttrs{.to = value.type.dtype}, {reshape(b, map[v], *value.type.shape)});
    }
    const Tensor* t = body.constant(v);
    if (!t) throw Error(Code::internal, "a value without definition in a body");
    map[v] = b.constant(*t, value.name);
    b.graph[map[v]].weight = value.weight;
    return map[v];
  };
  for (const Node& node : body.nodes) {
    Ids inputs;
    for (ValueId v : node.inputs) inputs.push_back(mapped(v));
    const Ids results = b.add(*node.op, node.attrs, std::move(inputs), node.outputs.size(), node.bodies);
    for (size_t o = 0; o < results.size(); ++o) place(node.outputs[o], results[o]);
  }
  Ids results;
  for (ValueId v : body.outputs) results.push_back(mapped(v));
  return results;
}

ValueId matmul(GraphBuilder& b, ValueId x, ValueId y, bool transpose_b) {
  return b.op("MatMul", MatMulAttrs{.transpose_b = transpose_b}, {x, y});
}

ValueId matmul_integer(GraphBuilder& b, ValueId x, ValueId x_zero, ValueId y, ValueId y_zero) {
  bool plain = is_byte(b.dtype(x)) && is_byte(b.dtype(y));
  const auto single = [&](ValueId v, ValueId of) {
    if (v == no_id) return v;
    plain = plain && b.dtype(v) == b.dtype(of);
    return b.rank(v) == 1 && b.shape(v)[0] == Dim(1) ? scalar_of(b, v) : v;
  };
  const ValueId xz = single(x_zero, x), yz = single(y_zero, y);
  if (plain) return b.op("MatMulInteger", {}, {x, y, xz, yz});
  const auto centered = [&](ValueId v, ValueId zero) {
    const ValueId wide = cast(b, v, DType::i32);
    return zero == no_id ? wide : sub(b, wide, cast(b, zero, DType::i32));
  };
  return matmul(b, centered(x, xz), centered(y, yz));
}

}  // namespace sinter::wiring
