// Gather, GatherElements, GatherND, ScatterElements, ScatterND, PutRows, Compress, NonZero, OneHot.
//
// Updates of one element apply in the order in which the indices stand, so results do not depend on who runs them.

#include "ops/indexing.h"

#include <fmt/core.h>

#include <algorithm>
#include <cmath>

#include "base/checked.h"
#include "ops/arrays.h"
#include "ops/elements.h"
#include "ops/families.h"
#include "ops/op.h"

namespace sinter {

std::span<const char* const> enum_names(Reduction) {
  static constexpr const char* names[] = {"none", "add", "mul", "max", "min"};
  return names;
}

const Fields& fields_of(const GatherAttrs*) {
  static const Fields f = describe<GatherAttrs>({field<&GatherAttrs::axis>("axis")});
  return f;
}

const Fields& fields_of(const GatherNDAttrs*) {
  static const Fields f = describe<GatherNDAttrs>({field<&GatherNDAttrs::batch_dims>("batch_dims")});
  return f;
}

const Fields& fields_of(const ScatterElementsAttrs*) {
  static const Fields f = describe<ScatterElementsAttrs>(
      {field<&ScatterElementsAttrs::axis>("axis"), field<&ScatterElementsAttrs::reduction>("reduction")});
  return f;
}

const Fields& fields_of(const ScatterNDAttrs*) {
  static const Fields f = describe<ScatterNDAttrs>({field<&ScatterNDAttrs::reduction>("reduction")});
  return f;
}

const Fields& fields_of(const CompressAttrs*) {
  static const Fields f =
      describe<CompressAttrs>({field<&CompressAttrs::flat>("flat"), field<&CompressAttrs::axis>("axis")});
  return f;
}

const Fields& fields_of(const PutRowsAttrs*) {
  static const Fields f =
      describe<PutRowsAttrs>({field<&PutRowsAttrs::axis>("axis"), field<&PutRowsAttrs::circular>("circular"),
                              field<&PutRowsAttrs::cut>("cut")});
  return f;
}

const Fields& fields_of(const OneHotAttrs*) {
  static const Fields f = describe<OneHotAttrs>({field<&OneHotAttrs::axis>("axis")});
  return f;
}

namespace {

void check_indices(InferContext& c, size_t input) {
  const DType dtype = c.dtype(input);
  if (dtype != DType::i64 && dtype != DType::i32)
    c.fail(fmt::format("the indices are {}, they must be i64 or i32", dtype_name(dtype)));
}

size_t wrapped(int64_t axis, size_t rank) {
  return static_cast<size_t>(axis < 0 ? axis + static_cast<int64_t>(rank) : axis);
}

// In [0, extent), or a fault.
int64_t checked_index(const EvalContext& c, int64_t index, int64_t extent) {
  const int64_t at = index < 0 ? index + extent : index;
  if (at < 0 || at >= extent) c.fail(fmt::format("index {} is outside an axis of {} elements", index, extent));
  return at;
}

Dims part_of(const Dims& dims, size_t begin, size_t end) {
  return Dims(dims.begin() + static_cast<int64_t>(begin), dims.begin() + static_cast<int64_t>(end));
}

// ---- Gather ----

void infer_gather(InferContext& c) {
  c.set(0, c.dtype(0));
  check_indices(c, 1);
  const Shape& x = c.shape(0);
  const Shape& indices = c.shape(1);
  const auto axis = static_cast<size_t>(c.axis(c.attrs<GatherAttrs>().axis, x.size()));
  Shape out(x.begin(), x.begin() + static_cast<int64_t>(axis));
  out.insert(out.end(), indices.begin(), indices.end());
  out.insert(out.end(), x.begin() + static_cast<int64_t>(axis) + 1, x.end());
  c.set(0, c.dtype(0), std::move(out));
}

void eval_gather(EvalContext& c) {
  const Tensor& x = c.in(0);
  const Tensor& indices = c.in(1);
  Tensor& y = c.out(0);
  const size_t axis = wrapped(c.attrs<GatherAttrs>().axis, x.rank());
  const int64_t extent = x.dims()[axis];
  for (int64_t n = 0; n < indices.count(); ++n) checked_index(c, indices.get_integer(n), extent);
  if (y.count() == 0) return;
  const int64_t inner = element_count(part_of(x.dims(), axis + 1, x.rank()));
  const int64_t outer = element_count(part_of(x.dims(), 0, axis));
  for (int64_t o = 0; o < outer; ++o)
    for (int64_t n = 0; n < indices.count(); ++n) {
      const int64_t at = checked_index(c, indices.get_integer(n), extent);
      for (int64_t i = 0; i < inner; ++i)
        copy_element(y, (o * indices.count() + n) * inner + i, x, (o * extent + at) * inner + i);
    }
}

// ---- GatherElements, ScatterElements ----

// indices: as many axes as x, and on all axes but one no longer than x.
size_t infer_elements(InferContext& c, int64_t attribute) {
  const Shape& x = c.shape(0);
  const Shape& indices = c.shape(1);
  if (indices.size() != x.size())
    c.fail(fmt::format("the indices have rank {}, the operand has rank {}", indices.size(), x.size()));
  const auto axis = static_cast<size_t>(c.axis(attribute, x.size()));
  for (size_t k = 0; k < x.size(); ++k)
    if (k != axis) c.require_at_least(x[k], indices[k], "extent beside the axis of the indices");
  return axis;
}

void infer_gather_elements(InferContext& c) {
  c.set(0, c.dtype(0));
  check_indices(c, 1);
  if (c.type(1).has_shape()) c.set(0, c.dtype(0), c.shape(1));
  infer_elements(c, c.attrs<GatherAttrs>().axis);
}

// Calls visit(n, offset): element n of the indices names the element of x at this offset.
template <typename Visit>
void for_named(const EvalContext& c, const Tensor& indices, const Dims& x, size_t axis, Visit visit) {
  if (indices.count() == 0) return;
  const Dims strides = dense_strides(x);
  std::vector<int64_t> at(x.size(), 0);
  int64_t n = 0;
  do {
    int64_t offset = checked_index(c, indices.get_integer(n), x[axis]) * strides[axis];
    for (size_t k = 0; k < x.size(); ++k)
      if (k != axis) offset += at[k] * strides[k];
    visit(n++, offset);
  } while (next_position(at, indices.dims()));
}

void eval_gather_elements(EvalContext& c) {
  const Tensor& x = c.in(0);
  Tensor& y = c.out(0);
  for_named(c, c.in(1), x.dims(), wrapped(c.attrs<GatherAttrs>().axis, x.rank()),
            [&](int64_t n, int64_t offset) { copy_element(y, n, x, offset); });
}

void check_reduction(InferContext& c, Reduction reduction) {
  if (c.dtype(2) != c.dtype(0))
    c.fail(fmt::format("the updates are {}, the operand is {}", dtype_name(c.dtype(2)), dtype_name(c.dtype(0))));
  if (reduction != Reduction::none && (c.dtype(0) == DType::string || is_complex(c.dtype(0))))
    c.fail(fmt::format("{} has no reduction", dtype_name(c.dtype(0))));
}

// y[i] = y[i] combined with update[j].
void update_element(Tensor& y, int64_t i, const Tensor& updates, int64_t j, Reduction reduction) {
  if (reduction == Reduction::none) return copy_element(y, i, updates, j);
  if (is_float(y.dtype())) {
    const double a = y.get_real(i), b = updates.get_real(j);
    const bool nan = std::isnan(a) || std::isnan(b);
    switch (reduction) {
      case Reduction::add: return y.set_real(i, a + b);
      case Reduction::mul: return y.set_real(i, a * b);
      case Reduction::max: return y.set_real(i, nan ? NAN : std::max(a, b));
      default: return y.set_real(i, nan ? NAN : std::min(a, b));
    }
  }
  const int64_t a = y.get_integer(i), b = updates.get_integer(j);
  const auto u = static_cast<uint64_t>(a), v = static_cast<uint64_t>(b);
  const bool less = is_signed(y.dtype()) ? a < b : u < v;
  switch (reduction) {
    // Sums of truth values: set_integer makes anything but 0 true.
    case Reduction::add: return y.set_integer(i, static_cast<int64_t>(u + v));
    case Reduction::mul: return y.set_integer(i, static_cast<int64_t>(u * v));
    case Reduction::max: return y.set_integer(i, less ? b : a);
    default: return y.set_integer(i, less ? a : b);
  }
}

void infer_scatter_elements(InferContext& c) {
  c.set(0, c.dtype(0));
  check_indices(c, 1);
  const auto& a = c.attrs<ScatterElementsAttrs>();
  check_reduction(c, a.reduction);
  if (c.type(0).has_shape()) c.set(0, c.dtype(0), c.shape(0));
  infer_elements(c, a.axis);
  const Shape& indices = c.shape(1);
  const Shape& updates = c.shape(2);
  if (updates.size() != indices.size())
    c.fail(fmt::format("the updates have rank {}, the indices have rank {}", updates.size(), indices.size()));
  for (size_t k = 0; k < indices.size(); ++k) c.require_equal(updates[k], indices[k], "extent of the updates");
}

void eval_scatter_elements(EvalContext& c) {
  const Tensor& x = c.in(0);
  const Tensor& indices = c.in(1);
  const Tensor& updates = c.in(2);
  const auto& a = c.attrs<ScatterElementsAttrs>();
  if (updates.dims() != indices.dims()) c.fail("the updates and the indices have different extents");
  Tensor y = x.clone();
  for_named(c, indices, x.dims(), wrapped(a.axis, x.rank()),
            [&](int64_t n, int64_t offset) { update_element(y, offset, updates, n, a.reduction); });
  c.outputs[0] = Box(std::move(y));
}

// ---- GatherND, ScatterND ----

// Length of the index tuples, which decides ranks.
size_t tuple_length(InferContext& c, size_t batch) {
  const Shape& x = c.shape(0);
  const Shape& indices = c.shape(1);
  if (indices.empty() || batch >= indices.size() || batch >= x.size())
    c.fail(fmt::format("{} batch axes with indices of rank {} and an operand of rank {}", batch, indices.size(),
                       x.size()));
  const auto length = indices.back().as_constant();
  if (!length) throw RankUnknown{};
  if (*length < 0 || *length > static_cast<int64_t>(x.size() - batch))
    c.fail(fmt::format("index tuples of {} numbers for {} axes", *length, x.size() - batch));
  return static_cast<size_t>(*length);
}

void infer_gather_nd(InferContext& c) {
  c.set(0, c.dtype(0));
  check_indices(c, 1);
  const Shape& x = c.shape(0);
  const Shape& indices = c.shape(1);
  const int64_t batch_dims = c.attrs<GatherNDAttrs>().batch_dims;
  if (batch_dims < 0) c.fail(fmt::format("{} batch axes", batch_dims));
  const auto batch = static_cast<size_t>(batch_dims);
  const size_t length = tuple_length(c, batch);
  for (size_t k = 0; k < batch; ++k) c.require_equal(x[k], indices[k], "batch extent");
  Shape out(indices.begin(), indices.end() - 1);
  out.insert(out.end(), x.begin() + static_cast<int64_t>(batch + length), x.end());
  c.set(0, c.dtype(0), std::move(out));
}

// Offset of the block that a tuple of indices names; dims: the axes that the tuple indexes.
int64_t tuple_offset(const EvalContext& c, const Tensor& indices, int64_t tuple, const Dims& dims, int64_t block) {
  int64_t offset = 0;
  const auto length = static_cast<int64_t>(dims.size());
  for (int64_t k = 0; k < length; ++k) {
    const int64_t extent = dims[static_cast<size_t>(k)];
    offset = offset * extent + checked_index(c, indices.get_integer(tuple * length + k), extent);
  }
  return offset * block;
}

void eval_gather_nd(EvalContext& c) {
  const Tensor& x = c.in(0);
  const Tensor& indices = c.in(1);
  Tensor& y = c.out(0);
  if (y.count() == 0 && (indices.count() == 0 || x.count() > 0)) return;
  const auto batch = static_cast<size_t>(c.attrs<GatherNDAttrs>().batch_dims);
  const auto length = static_cast<size_t>(indices.dims().back());
  const int64_t batches = element_count(part_of(x.dims(), 0, batch));
  const Dims picked = part_of(x.dims(), batch, batch + length);
  const int64_t block = element_count(part_of(x.dims(), batch + length, x.rank()));
  const int64_t each = element_count(part_of(indices.dims(), batch, indices.rank() - 1));
  for (int64_t b = 0; b < batches; ++b)
    for (int64_t n = 0; n < each; ++n) {
      const int64_t tuple = b * each + n;
      const int64_t from = b * element_count(picked) * block + tuple_offset(c, indices, tuple, picked, block);
      for (int64_t i = 0; i < block; ++i) copy_element(y, tuple * block + i, x, from + i);
    }
}

void infer_scatter_nd(InferContext& c) {
  c.set(0, c.dtype(0));
  check_indices(c, 1);
  check_reduction(c, c.attrs<ScatterNDAttrs>().reduction);
  const Shape& x = c.shape(0);
  c.set(0, c.dtype(0), x);
  const Shape& indices = c.shape(1);
  const size_t length = tuple_length(c, 0);
  const Shape& updates = c.shape(2);
  Shape wanted(indices.begin(), indices.end() - 1);
  wanted.insert(wanted.end(), x.begin() + static_cast<int64_t>(length), x.end());
  if (updates.size() != wanted.size())
    c.fail(fmt::format("the updates have rank {}, the indices ask for {}", updates.size(), wanted.size()));
  for (size_t k = 0; k < wanted.size(); ++k) c.require_equal(updates[k], wanted[k], "extent of the updates");
}

void eval_scatter_nd(EvalContext& c) {
  const Tensor& x = c.in(0);
  const Tensor& indices = c.in(1);
  const Tensor& updates = c.in(2);
  const auto length = static_cast<size_t>(indices.dims().back());
  const Dims picked = part_of(x.dims(), 0, length);
  const int64_t block = element_count(part_of(x.dims(), length, x.rank()));
  const int64_t tuples = element_count(part_of(indices.dims(), 0, indices.rank() - 1));
  if (updates.count() != checked_mul(tuples, block)) c.fail("the updates do not fit the indices");
  Tensor y = x.clone();
  const bool any = indices.count() > 0 || updates.count() > 0;
  for (int64_t n = 0; any && n < tuples; ++n) {
    const int64_t to = tuple_offset(c, indices, n, picked, block);
    for (int64_t i = 0; i < block; ++i)
      update_element(y, to + i, updates, n * block + i, c.attrs<ScatterNDAttrs>().reduction);
  }
  c.outputs[0] = Box(std::move(y));
}

// ---- PutRows ----

void infer_put_rows(InferContext& c) {
  c.set(0, c.dtype(0));
  if (c.dtype(1) != c.dtype(0))
    c.fail(fmt::format("the rows are {}, the operand is {}", dtype_name(c.dtype(1)), dtype_name(c.dtype(0))));
  check_indices(c, 2);
  const Shape& x = c.shape(0);
  const auto axis = static_cast<size_t>(c.axis(c.attrs<PutRowsAttrs>().axis, x.size()));
  Shape made = x;
  if (c.has(3)) {
    const std::optional<Dim> extent = host_number(c, 3, "extent");
    if (extent && extent->is_constant() && (extent->constant() < 0 || extent->constant() > max_elements))
      c.fail(fmt::format("an extent of {}", extent->constant()));
    made[axis] = extent ? *extent : c.host_decided(0, axis);
  }
  c.set(0, c.dtype(0), std::move(made));
  const Shape& rows = c.shape(1);
  if (rows.size() != x.size())
    c.fail(fmt::format("the rows have rank {}, the operand has rank {}", rows.size(), x.size()));
  for (size_t k = 0; k < x.size(); ++k)
    if (k != axis) c.require_equal(rows[k], x[k], "extent of the rows");
  const Shape& start = c.shape(2);
  if (start.empty()) return;
  if (start.size() > 1 || axis == 0)
    c.fail(fmt::format("places of rank {} where rows begin along axis {}", start.size(), axis));
  c.require_equal(start[0], x[0], "number of places where rows begin");
}

void eval_put_rows(EvalContext& c) {
  const Tensor& x = c.in(0);
  const Tensor& rows = c.in(1);
  const Tensor& start = c.in(2);
  Tensor& y = c.out(0);
  const auto& a = c.attrs<PutRowsAttrs>();
  const size_t axis = wrapped(a.axis, x.rank());
  const int64_t outer = element_count(part_of(x.dims(), 0, axis));
  const int64_t inner = element_count(part_of(x.dims(), axis + 1, x.rank()));
  const int64_t old = x.dims()[axis], all = y.dims()[axis], fresh = rows.dims()[axis];
  if (outer == 0 || inner == 0) return;
  for (int64_t o = 0; o < outer; ++o) {
    for (int64_t i = 0; i < std::min(old, all) * inner; ++i)
      copy_element(y, o * all * inner + i, x, o * old * inner + i);
    int64_t first = start.get_integer(start.rank() == 0 ? 0 : o / (outer / x.dims()[0]));
    first = a.circular && all > 0 ? first % all + all : std::clamp(first, -fresh, all);
    for (int64_t s = 0; s < fresh; ++s) {
      const int64_t at = a.circular && all > 0 ? (first + s) % all : first + s;
      if (at < 0 || at >= all) {
        if (a.cut) continue;
        c.fail(fmt::format("row {} goes to index {}, which is outside an axis of {} elements", s, at, all));
      }
      for (int64_t i = 0; i < inner; ++i)
        copy_element(y, (o * all + at) * inner + i, rows, (o * fresh + s) * inner + i);
    }
  }
}

// ---- Compress, NonZero ----

void infer_compress(InferContext& c) {
  const DType dtype = c.dtype(0);
  c.set(0, dtype);
  if (c.dtype(1) != DType::boolean) c.fail(fmt::format("the condition is {}, it must be bool", dtype_name(c.dtype(1))));
  if (c.type(1).has_shape() && c.rank(1) != 1)
    c.fail(fmt::format("the condition has rank {}, it must be a list", c.rank(1)));
  const auto& a = c.attrs<CompressAttrs>();
  if (a.flat) {
    c.set(
        0, dtype,
        {c.found_by_running(0, 0, 0, c.type(0).has_shape() ? std::optional(element_count(c.shape(0))) : std::nullopt)});
    return;
  }
  Shape out = c.shape(0);
  const auto axis = static_cast<size_t>(c.axis(a.axis, out.size()));
  out[axis] = c.found_by_running(0, axis, 0, out[axis]);
  c.set(0, dtype, std::move(out));
}

void eval_compress(EvalContext& c) {
  const Tensor& x = c.in(0);
  const Tensor& condition = c.in(1);
  const auto& a = c.attrs<CompressAttrs>();
  const size_t axis = a.flat ? 0 : wrapped(a.axis, x.rank());
  const Dims dims = a.flat ? Dims{x.count()} : x.dims();
  std::vector<int64_t> chosen;
  for (int64_t i = 0; i < condition.count(); ++i) {
    if (condition.get_integer(i) == 0) continue;
    if (i >= dims[axis]) c.fail(fmt::format("element {} of {} is chosen", i, dims[axis]));
    chosen.push_back(i);
  }
  Dims out = dims;
  out[axis] = static_cast<int64_t>(chosen.size());
  Tensor& y = c.out(0, x.dtype(), out);
  if (y.count() == 0) return;
  const int64_t outer = element_count(part_of(dims, 0, axis));
  const int64_t inner = element_count(part_of(dims, axis + 1, dims.size()));
  int64_t n = 0;
  for (int64_t o = 0; o < outer; ++o)
    for (int64_t at : chosen)
      for (int64_t i = 0; i < inner; ++i) copy_element(y, n++, x, (o * dims[axis] + at) * inner + i);
}

void infer_nonzero(InferContext& c) {
  c.set(0, DType::i64);
  if (is_complex(c.dtype(0))) c.fail("the operand is complex");
  const Shape& x = c.shape(0);
  c.set(0, DType::i64, {Dim(static_cast<int64_t>(x.size())), c.found_by_running(0, 1, 0, element_count(x))});
}

void eval_nonzero(EvalContext& c) {
  const Tensor& x = c.in(0);
  std::vector<int64_t> found;
  for (int64_t i = 0; i < x.count(); ++i) {
    const bool nonzero = x.dtype() == DType::string ? !x.strings()[static_cast<size_t>(i)].empty()
                         : is_float(x.dtype())      ? x.get_real(i) != 0
                                                    : x.get_integer(i) != 0;
    if (nonzero) found.push_back(i);
  }
  const auto n = static_cast<int64_t>(found.size());
  Tensor& y = c.out(0, DType::i64, {static_cast<int64_t>(x.rank()), n});
  for (int64_t j = 0; j < n; ++j) {
    int64_t rest = found[static_cast<size_t>(j)];
    for (size_t k = x.rank(); k-- > 0;) {
      y.set_integer(static_cast<int64_t>(k) * n + j, rest % x.dims()[k]);
      rest /= x.dims()[k];
    }
  }
}

// ---- OneHot ----

void infer_one_hot(InferContext& c) {
  const DType dtype = c.dtype(2);
  c.set(0, dtype);
  for (size_t i = 0; i < 2; ++i)
    if (!is_integer(c.dtype(i)) && !is_float(c.dtype(i)))
      c.fail(fmt::format("operand {} is {}, it must be a number", i, dtype_name(c.dtype(i))));
  if (c.type(2).has_shape()) {
    if (c.rank(2) != 1) c.fail(fmt::format("the values have rank {}, they must be a list of two", c.rank(2)));
    c.require_equal(c.shape(2)[0], 2, "number of values of OneHot");
  }
  if (c.type(1).has_shape()) {
    if (c.rank(1) > 1) c.fail(fmt::format("the depth has rank {}, it must be one number", c.rank(1)));
    c.require_equal(element_count(c.shape(1)), 1, "number of depths");
  }
  const Shape& indices = c.shape(0);
  const auto axis = static_cast<size_t>(c.axis(c.attrs<OneHotAttrs>().axis, indices.size() + 1));
  std::optional<Dim> depth;
  if (const Tensor* t = c.constant(1); t && t->count() == 1)
    depth = t->get_integer(0);
  else if (const auto values = c.integers(1); values && values->size() == 1)
    depth = values->front();
  if (depth && depth->is_constant() && (depth->constant() < 0 || depth->constant() > max_elements))
    c.fail(fmt::format("a depth of {}", depth->constant()));
  Shape out = indices;
  out.insert(out.begin() + static_cast<int64_t>(axis), depth ? *depth : c.host_decided(0, axis));
  c.set(0, dtype, std::move(out));
}

void eval_one_hot(EvalContext& c) {
  const Tensor& indices = c.in(0);
  const Tensor& values = c.in(2);
  Tensor& y = c.out(0);
  if (values.count() != 2) c.fail("two values are needed");
  if (y.count() == 0) return;
  const size_t axis = wrapped(c.attrs<OneHotAttrs>().axis, y.rank());
  const int64_t depth = y.dims()[axis];
  const int64_t inner = element_count(part_of(y.dims(), axis + 1, y.rank()));
  for (int64_t i = 0; i < y.count(); ++i) copy_element(y, i, values, 0);
  for (int64_t n = 0; n < indices.count(); ++n) {
    int64_t at = indices.get_integer(n);  // floats are truncated
    if (at < 0) at += depth;
    if (at < 0 || at >= depth) continue;
    copy_element(y, (n / inner * depth + at) * inner + n % inner, values, 1);
  }
}

// ---- samples ----

// Random indices in [-extent, extent); 0 on axes without elements, where there is nothing right.
void sample_index(Tensor& tensor, int64_t i, int64_t extent) {
  // Elements are small numbers already; spread them so that neighbours differ.
  const int64_t mixed = (tensor.get_integer(i) + 16) * 37 + i * 11;
  tensor.set_integer(i, extent == 0 ? 0 : mixed % (2 * extent) - extent);
}

Tensor sample_along_axis(const Op&, int64_t axis, size_t input, std::span<const Type> types, uint64_t seed) {
  Tensor tensor = sample_values(types[input], seed);
  if (input != 1) return tensor;
  const int64_t extent = (*types[0].shape)[wrapped(axis, types[0].shape->size())].constant();
  for (int64_t i = 0; i < tensor.count(); ++i) sample_index(tensor, i, extent);
  return tensor;
}

Tensor sample_gather(const Op& op, const Attrs& attrs, size_t input, std::span<const Type> types, uint64_t seed) {
  return sample_along_axis(op, attrs.as<GatherAttrs>().axis, input, types, seed);
}

Tensor sample_scatter_elements(const Op& op, const Attrs& attrs, size_t input, std::span<const Type> types,
                               uint64_t seed) {
  return sample_along_axis(op, attrs.as<ScatterElementsAttrs>().axis, input, types, seed);
}

Tensor sample_tuples(size_t batch, size_t input, std::span<const Type> types, uint64_t seed) {
  Tensor tensor = sample_values(types[input], seed);
  if (input != 1 || tensor.count() == 0) return tensor;
  const int64_t length = tensor.dims().back();
  for (int64_t i = 0; i < tensor.count(); ++i)
    sample_index(tensor, i, (*types[0].shape)[batch + static_cast<size_t>(i % length)].constant());
  return tensor;
}

Tensor sample_gather_nd(const Op&, const Attrs& attrs, size_t input, std::span<const Type> types, uint64_t seed) {
  return sample_tuples(static_cast<size_t>(attrs.as<GatherNDAttrs>().batch_dims), input, types, seed);
}

Tensor sample_scatter_nd(const Op&, const Attrs&, size_t input, std::span<const Type> types, uint64_t seed) {
  return sample_tuples(0, input, types, seed);
}

// Places from which all rows fit, where any are.
Tensor sample_put_rows(const Op&, const Attrs& attrs, size_t input, std::span<const Type> types, uint64_t seed) {
  Tensor tensor = sample_values(types[input], seed);
  if (input != 2) return tensor;
  const Shape &x = *types[0].shape, &rows = *types[1].shape;
  const size_t axis = wrapped(attrs.as<PutRowsAttrs>().axis, x.size());
  const int64_t places = std::max<int64_t>(0, x[axis].constant() - rows[axis].constant()) + 1;
  for (int64_t i = 0; i < tensor.count(); ++i)
    tensor.set_integer(i, ((tensor.get_integer(i) + 16) * 37 + i * 11) % places);
  return tensor;
}

// As many trues as the axis may hold: a condition longer than the axis chooses nothing beyond it.
Tensor sample_compress(const Op&, const Attrs& attrs, size_t input, std::span<const Type> types, uint64_t seed) {
  Tensor tensor = sample_values(types[input], seed);
  if (input != 1) return tensor;
  const auto& a = attrs.as<CompressAttrs>();
  const Dims dims = *constant_dims(*types[0].shape);
  const int64_t extent = a.flat ? element_count(dims) : dims[wrapped(a.axis, dims.size())];
  for (int64_t i = extent; i < tensor.count(); ++i) tensor.set_integer(i, 0);
  return tensor;
}

Tensor sample_one_hot(const Op&, const Attrs&, size_t input, std::span<const Type> types, uint64_t seed) {
  Tensor tensor = sample_values(types[input], seed);
  if (input == 1)
    for (int64_t i = 0; i < tensor.count(); ++i) tensor.set_integer(i, 7);
  return tensor;
}

constexpr Op table[] = {
    {.name = "Gather",
     .fields = fields<GatherAttrs>,
     .inputs = {2, 2},
     .is = {.moves_only = true},
     .infer = infer_gather,
     .eval = eval_gather,
     .sample = sample_gather},
    {.name = "GatherElements",
     .fields = fields<GatherAttrs>,
     .inputs = {2, 2},
     .is = {.moves_only = true},
     .infer = infer_gather_elements,
     .eval = eval_gather_elements,
     .sample = sample_gather},
    {.name = "GatherND",
     .fields = fields<GatherNDAttrs>,
     .inputs = {2, 2},
     .is = {.moves_only = true},
     .infer = infer_gather_nd,
     .eval = eval_gather_nd,
     .sample = sample_gather_nd},
    {.name = "ScatterElements",
     .fields = fields<ScatterElementsAttrs>,
     .inputs = {3, 3},
     .infer = infer_scatter_elements,
     .eval = eval_scatter_elements,
     .sample = sample_scatter_elements},
    {.name = "ScatterND",
     .fields = fields<ScatterNDAttrs>,
     .inputs = {3, 3},
     .infer = infer_scatter_nd,
     .eval = eval_scatter_nd,
     .sample = sample_scatter_nd},
    {.name = "PutRows",
     .fields = fields<PutRowsAttrs>,
     .inputs = {3, 4},
     .host_inputs = 0b1000,
     .infer = infer_put_rows,
     .eval = eval_put_rows,
     .sample = sample_put_rows},
    {.name = "Compress",
     .fields = fields<CompressAttrs>,
     .inputs = {2, 2},
     .infer = infer_compress,
     .eval = eval_compress,
     .sample = sample_compress},
    {.name = "NonZero", .infer = infer_nonzero, .eval = eval_nonzero},
    {.name = "OneHot",
     .fields = fields<OneHotAttrs>,
     .inputs = {3, 3},
     .host_inputs = 0b10,
     .infer = infer_one_hot,
     .eval = eval_one_hot,
     .sample = sample_one_hot},
};

}  // namespace

std::span<const Op> indexing_ops() { return table; }

}  // namespace sinter
