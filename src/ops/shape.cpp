// Shape, Size, Identity, Reshape, Squeeze, Unsqueeze, Flatten.
//
// Reshape, Squeeze, Unsqueeze and Flatten move no data: a plan makes views of them. Axes and shapes are host operands.

#include "ops/shape.h"

#include <fmt/core.h>

#include <algorithm>

#include "base/checked.h"
#include "ops/families.h"
#include "ops/op.h"

namespace sinter {

const Fields& fields_of(const ShapeAttrs*) {
  static const Fields f = describe<ShapeAttrs>({field<&ShapeAttrs::start>("start"), field<&ShapeAttrs::end>("end")});
  return f;
}

const Fields& fields_of(const ReshapeAttrs*) {
  static const Fields f = describe<ReshapeAttrs>({field<&ReshapeAttrs::allow_zero>("allow_zero")});
  return f;
}

const Fields& fields_of(const FlattenAttrs*) {
  static const Fields f = describe<FlattenAttrs>({field<&FlattenAttrs::axis>("axis")});
  return f;
}

namespace {

void infer_identity(InferContext& c) { c.set(0, c.type(0)); }

void eval_identity(EvalContext& c) { c.outputs[0] = c.box(0); }

// Half-open range of axes that Shape's start and end select.
std::pair<size_t, size_t> shape_range(const ShapeAttrs& a, size_t rank) {
  const auto r = static_cast<int64_t>(rank);
  const auto clamp = [r](int64_t v) { return std::clamp<int64_t>(v < 0 ? (v < -r ? 0 : v + r) : v, 0, r); };
  const int64_t start = clamp(a.start), end = clamp(a.end);
  return {static_cast<size_t>(start), static_cast<size_t>(std::max(start, end))};
}

void infer_shape(InferContext& c) {
  c.set(0, DType::i64);
  const Shape& x = c.shape(0);
  const auto [start, end] = shape_range(c.attrs<ShapeAttrs>(), x.size());
  c.set(0, DType::i64, {Dim(static_cast<int64_t>(end - start))});
  c.set_contents(0, std::vector<Dim>(x.begin() + static_cast<int64_t>(start), x.begin() + static_cast<int64_t>(end)));
}

void eval_shape(EvalContext& c) {
  const Dims& x = c.in(0).dims();
  const auto [start, end] = shape_range(c.attrs<ShapeAttrs>(), x.size());
  c.outputs[0] = Box(Tensor::vector_i64(std::span(x).subspan(start, end - start)));
}

void infer_size(InferContext& c) {
  c.set(0, DType::i64, {});
  c.set_contents(0, std::vector<Dim>{element_count(c.shape(0))});
}

void eval_size(EvalContext& c) { c.outputs[0] = Box(Tensor::scalar_i64(c.in(0).count())); }

// The result is the operand's elements in order, whatever its new extents.
void eval_view(EvalContext& c) {
  const Tensor& x = c.in(0);
  // Operands that should be integers and are not leave the rank open.
  if (!c.type(0).has_shape()) c.fail("the axes or the shape are no integers");
  const auto dims = constant_dims(*c.type(0).shape);
  if (!dims || element_count(*dims) != x.count())
    c.fail(fmt::format("cannot view {} as the wanted shape of other size", type_text(x)));
  c.outputs[0] = Box(x.reshaped(*dims));
}

void infer_reshape(InferContext& c) {
  const DType dtype = c.dtype(0);
  c.set(0, dtype);
  if (c.rank(1) != 1) c.fail("the shape operand must have rank 1");
  const auto wanted = c.integers(1);
  if (!wanted) {
    const auto length = c.shape(1)[0].as_constant();
    if (!length) throw RankUnknown{};
    if (*length < 0 || *length > static_cast<int64_t>(max_rank_of_values)) c.fail("the shape operand is too long");
    Shape out;
    for (size_t k = 0; k < static_cast<size_t>(*length); ++k) out.push_back(c.host_decided(0, k));
    return c.set(0, dtype, std::move(out));
  }
  const bool allow_zero = c.attrs<ReshapeAttrs>().allow_zero;
  Shape out;
  if (!c.type(0).has_shape()) {
    // The rank is known all the same; what the operand's extents decide is not.
    for (size_t k = 0; k < wanted->size(); ++k) {
      const Dim& d = (*wanted)[k];
      const bool decided = !(d == Dim(-1) || (d == Dim(0) && !allow_zero));
      if (decided && d.is_constant() && d.constant() < 0) c.fail(fmt::format("extent {} in the shape", d.constant()));
      out.push_back(decided ? d : c.found_by_running(0, k, 0, std::nullopt));
    }
    return c.set(0, dtype, std::move(out));
  }
  const Shape& x = c.shape(0);
  std::optional<size_t> rest;
  for (size_t k = 0; k < wanted->size(); ++k) {
    const Dim& d = (*wanted)[k];
    if (d == Dim(-1)) {
      if (rest) c.fail("the shape has more than one -1");
      rest = k;
      out.emplace_back(1);
    } else if (d == Dim(0) && !allow_zero) {
      if (k >= x.size()) c.fail(fmt::format("the shape copies extent {}, the operand has rank {}", k, x.size()));
      out.push_back(x[k]);
    } else {
      if (d.is_constant() && d.constant() < 0) c.fail(fmt::format("extent {} in the shape", d.constant()));
      out.push_back(d);
    }
  }
  const Dim total = element_count(x);
  if (!rest) {
    c.require_equal(total, element_count(out), "element count of Reshape");
    return c.set(0, dtype, std::move(out));
  }
  // Extents copied by 0 cancel even when they are 0, so the rest keeps a meaning at batch 0.
  Dim numerator = 1, denominator = 1;
  std::vector<bool> copied(x.size(), false);
  for (size_t k = 0; k < wanted->size(); ++k) {
    if (k == *rest) continue;
    if (k < x.size() && out[k] == x[k])
      copied[k] = true;
    else
      denominator = denominator * out[k];
  }
  for (size_t k = 0; k < x.size(); ++k)
    if (!copied[k]) numerator = numerator * x[k];
  if (denominator.is_constant() && denominator.constant() == 0) {
    out[*rest] = 0;
  } else if (auto exact = cancel(numerator, denominator)) {
    out[*rest] = *std::move(exact);
  } else {
    if (numerator.is_constant() && denominator.is_constant())
      c.fail(fmt::format("{} elements are no multiple of {}", numerator.constant(), denominator.constant()));
    // max keeps the division defined at extents of 0.
    out[*rest] = floordiv(numerator, max(denominator, 1));
    c.require_equal(numerator, denominator * out[*rest], "element count of Reshape");
  }
  c.set(0, dtype, std::move(out));
}

void infer_squeeze(InferContext& c) {
  c.set(0, c.dtype(0));
  const Shape& x = c.shape(0);
  Shape out;
  if (!c.has(1)) {
    for (const Dim& d : x) {
      if (d == Dim(1)) continue;
      if (!d.is_constant() && prove(c.host.symbols(), {Fact::Kind::at_least, d, Dim(2), {}}) != Proof::yes)
        throw RankUnknown{};
      out.push_back(d);
    }
    return c.set(0, c.dtype(0), std::move(out));
  }
  const auto values = c.constant_integers(1);
  if (!values) throw RankUnknown{};
  const auto axes = c.axes(*values, x.size());
  for (size_t k = 0; k < x.size(); ++k) {
    if (std::find(axes.begin(), axes.end(), static_cast<int64_t>(k)) == axes.end())
      out.push_back(x[k]);
    else
      c.require_equal(x[k], 1, "squeezed extent");
  }
  c.set(0, c.dtype(0), std::move(out));
}

void infer_unsqueeze(InferContext& c) {
  c.set(0, c.dtype(0));
  const Shape& x = c.shape(0);
  const auto values = c.constant_integers(1);
  if (!values) throw RankUnknown{};
  const size_t rank = x.size() + values->size();
  const auto axes = c.axes(*values, rank);
  Shape out;
  size_t from = 0;
  for (size_t k = 0; k < rank; ++k) {
    const bool inserted = std::find(axes.begin(), axes.end(), static_cast<int64_t>(k)) != axes.end();
    out.push_back(inserted ? Dim(1) : x[from++]);
  }
  c.set(0, c.dtype(0), std::move(out));
}

void infer_flatten(InferContext& c) {
  c.set(0, c.dtype(0));
  const Shape& x = c.shape(0);
  const auto rank = static_cast<int64_t>(x.size());
  int64_t axis = c.attrs<FlattenAttrs>().axis;
  if (axis < -rank || axis > rank) c.fail(fmt::format("axis {} is outside [{}, {}]", axis, -rank, rank));
  if (axis < 0) axis += rank;
  Dim outer = 1, inner = 1;
  for (int64_t k = 0; k < rank; ++k) {
    Dim& side = k < axis ? outer : inner;
    side = side * x[static_cast<size_t>(k)];
  }
  c.set(0, c.dtype(0), {outer, inner});
}

constexpr Op table[] = {
    {.name = "Identity", .is = {.moves_only = true}, .infer = infer_identity, .eval = eval_identity},
    {.name = "Shape", .fields = fields<ShapeAttrs>, .infer = infer_shape, .eval = eval_shape},
    {.name = "Size", .infer = infer_size, .eval = eval_size},
    {.name = "Reshape",
     .fields = fields<ReshapeAttrs>,
     .inputs = {2, 2},
     .host_inputs = 0b10,
     .is = {.moves_only = true},
     .infer = infer_reshape,
     .eval = eval_view},
    {.name = "Squeeze",
     .inputs = {1, 2},
     .host_inputs = 0b10,
     .is = {.moves_only = true},
     .infer = infer_squeeze,
     .eval = eval_view},
    {.name = "Unsqueeze",
     .inputs = {2, 2},
     .host_inputs = 0b10,
     .is = {.moves_only = true},
     .infer = infer_unsqueeze,
     .eval = eval_view},
    {.name = "Flatten",
     .fields = fields<FlattenAttrs>,
     .is = {.moves_only = true},
     .infer = infer_flatten,
     .eval = eval_view},
};

}  // namespace

std::span<const Op> shape_ops() { return table; }

}  // namespace sinter
