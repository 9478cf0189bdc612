// Transpose, Expand, Slice, Pad, Concat, Split, Tile, Trilu, ReverseSequence: one family of the operator table in one
// file, each operator's inference beside its evaluation.
//
// Extents are closed expressions wherever the host operands' contents are known, as numbers or as Dims.

#include "ops/movement.h"

#include <fmt/core.h>

#include <algorithm>

#include "base/checked.h"
#include "ops/arrays.h"
#include "ops/elements.h"
#include "ops/families.h"
#include "ops/op.h"

namespace sinter {

std::span<const char* const> enum_names(PadMode) {
  static constexpr const char* names[] = {"constant", "reflect", "edge", "wrap"};
  return names;
}

const Fields& fields_of(const TransposeAttrs*) {
  static const Fields f = describe<TransposeAttrs>({field<&TransposeAttrs::perm>("perm")});
  return f;
}

const Fields& fields_of(const ConcatAttrs*) {
  static const Fields f = describe<ConcatAttrs>({field<&ConcatAttrs::axis>("axis")});
  return f;
}

const Fields& fields_of(const SplitAttrs*) {
  static const Fields f = describe<SplitAttrs>({field<&SplitAttrs::axis>("axis")});
  return f;
}

const Fields& fields_of(const PadAttrs*) {
  static const Fields f = describe<PadAttrs>({field<&PadAttrs::mode>("mode")});
  return f;
}

const Fields& fields_of(const TriluAttrs*) {
  static const Fields f = describe<TriluAttrs>({field<&TriluAttrs::upper>("upper")});
  return f;
}

const Fields& fields_of(const ReverseSequenceAttrs*) {
  static const Fields f = describe<ReverseSequenceAttrs>(
      {field<&ReverseSequenceAttrs::batch_axis>("batch_axis"), field<&ReverseSequenceAttrs::time_axis>("time_axis")});
  return f;
}

int64_t pad_source(PadMode mode, int64_t i, int64_t before, int64_t after, int64_t extent) {
  if (mode == PadMode::constant) {
    const int64_t s = i - before;
    return s >= 0 && s < extent ? s : -1;
  }
  const int64_t cut = std::max<int64_t>(0, -before);
  const int64_t n = extent - cut - std::max<int64_t>(0, -after);
  if (n <= 0) return -1;
  const int64_t p = i - std::max<int64_t>(0, before);
  if (p >= 0 && p < n) return cut + p;
  if (mode == PadMode::edge) return cut + (p < 0 ? 0 : n - 1);
  if (mode == PadMode::wrap) return cut + (p % n + n) % n;
  if (n == 1) return cut;
  const int64_t period = 2 * (n - 1);
  const int64_t r = (p % period + period) % period;
  return cut + (r < n ? r : period - r);
}

int64_t slice_begin(int64_t start, int64_t extent, int64_t step) {
  if (start < 0) start += extent;
  return std::max<int64_t>(0, std::min(start, step < 0 ? extent - 1 : extent));
}

namespace {

// ---- Transpose, Expand ----

void infer_transpose(InferContext& c) {
  c.set(0, c.dtype(0));
  const Shape& x = c.shape(0);
  const std::vector<int64_t>& perm = c.attrs<TransposeAttrs>().perm;
  if (perm.empty()) return c.set(0, c.dtype(0), Shape(x.rbegin(), x.rend()));
  if (perm.size() != x.size()) c.fail(fmt::format("perm has {} axes, the operand has rank {}", perm.size(), x.size()));
  std::vector<bool> seen(x.size(), false);
  Shape out;
  for (int64_t p : perm) {
    if (p < 0 || p >= static_cast<int64_t>(x.size()) || seen[static_cast<size_t>(p)])
      c.fail(fmt::format("perm is no permutation of {} axes: {} does not fit", x.size(), p));
    seen[static_cast<size_t>(p)] = true;
    out.push_back(x[static_cast<size_t>(p)]);
  }
  c.set(0, c.dtype(0), std::move(out));
}

void eval_transpose(EvalContext& c) {
  const Tensor& x = c.in(0);
  Tensor& y = c.out(0);
  const std::vector<int64_t>& perm = c.attrs<TransposeAttrs>().perm;
  const Dims from = dense_strides(x.dims());
  Dims strides;
  for (size_t k = 0; k < from.size(); ++k)
    strides.push_back(from[perm.empty() ? from.size() - 1 - k : static_cast<size_t>(perm[k])]);
  if (y.count() > 0) copy_block(y, 0, dense_strides(y.dims()), x, 0, strides, y.dims());
}

void infer_expand(InferContext& c) {
  const DType dtype = c.dtype(0);
  c.set(0, dtype);
  const HostList wanted = host_list(c, 1, "shape");
  const Shape& x = c.shape(0);
  if (wanted.values) {
    for (const Dim& d : *wanted.values)
      if (d.is_constant() && d.constant() < 0) c.fail(fmt::format("extent {} in the shape", d.constant()));
    return c.set(0, dtype, c.broadcast(x, *wanted.values));
  }
  if (!wanted.length) throw RankUnknown{};
  if (*wanted.length > max_rank_of_values) c.fail(fmt::format("a shape of {} axes", *wanted.length));
  const size_t rank = std::max(*wanted.length, x.size());
  Shape out;
  for (size_t k = 0; k < rank; ++k) {
    const size_t from_right = rank - k;
    const Dim own = from_right <= x.size() ? x[x.size() - from_right] : Dim(1);
    // Only an extent of 1 (or one that may be) is stretched.
    const bool fixed = from_right > *wanted.length || (own.is_constant() && own.constant() != 1);
    out.push_back(fixed ? own : c.host_decided(0, k));
  }
  c.set(0, dtype, std::move(out));
}

void eval_expand(EvalContext& c) {
  const Tensor& x = c.in(0);
  Tensor& y = c.out(0);
  if (y.count() == 0) return;
  const Dims from = dense_strides(x.dims());
  Dims strides(y.rank(), 0);
  const size_t lead = y.rank() - x.rank();
  for (size_t k = 0; k < x.rank(); ++k) strides[lead + k] = x.dims()[k] == 1 ? 0 : from[k];
  copy_block(y, 0, dense_strides(y.dims()), x, 0, strides, y.dims());
}

// ---- Slice ----

constexpr int64_t far = int64_t{1} << 41;  // beyond every extent

// Exporters write "to the end" as the largest 64-bit or 32-bit number; no axis of a real tensor is cut there.
bool is_end(const Dim& d) { return d.is_constant() && (d.constant() >= max_elements || d.constant() == INT32_MAX); }
bool is_before_all(const Dim& d) {
  return d.is_constant() && (d.constant() <= -max_elements || d.constant() == INT32_MIN);
}

// Negative positions count from the end.
Dim from_start(const Dim& d, const Dim& extent) {
  if (d.is_constant()) {
    const int64_t v = std::clamp(d.constant(), -far, far);
    return v < 0 ? extent + v : Dim(v);
  }
  if (surely_not_negative(d)) return d;
  if (surely_not_negative(-d - 1)) return d + extent;
  return d + extent * step(-d - 1);
}

// The smallest of some candidates, or 0 where one is never positive, without those that another one surely bounds. In
// the given order, never sorted, so that renaming symbols cannot give another expression.
Dim smallest(std::vector<Dim> candidates, const Dim& extent) {
  for (size_t i = 0; i < candidates.size(); ++i)
    for (size_t j = 0; j < candidates.size(); ++j)
      if (i != j && surely_not_negative(candidates[i] - candidates[j], extent)) {
        candidates.erase(candidates.begin() + static_cast<int64_t>(i--));
        break;
      }
  for (const Dim& d : candidates)
    if (surely_not_negative(-d)) return 0;
  Dim out = candidates[0];
  for (size_t i = 1; i < candidates.size(); ++i) out = min(out, candidates[i]);
  return out;
}

// How many elements a slice takes.
Dim slice_extent(const Dim& extent, const Dim& start, const Dim& end, int64_t by) {
  if (by > 0) {
    // min(end, extent) - max(start, 0), written as the smallest of four differences.
    if (start.is_constant() && start.constant() >= max_elements) return 0;
    if (end.is_constant() && end.constant() <= -max_elements) return 0;
    const Dim a = start.is_constant() && start.constant() <= -max_elements ? Dim(0) : from_start(start, extent);
    const Dim b = is_end(end) ? extent : from_start(end, extent);
    const Dim n = smallest({b - a, b, extent - a, extent}, extent);
    if (n == extent) return ceildiv(n, std::min(by, far));  // no extent is negative
    return at_least_zero(ceildiv(at_least_zero(n, extent), std::min(by, far)));
  }
  // min(max(start, 0), extent - 1) - max(end, -1)
  if (end.is_constant() && end.constant() >= max_elements) return 0;
  const Dim last = extent - 1;
  Dim a = last;
  if (!start.is_constant() || start.constant() < max_elements) {
    a = from_start(start, extent);
    if (!(a == last)) a = min(at_least_zero(a), last);
  }
  const Dim b = is_before_all(end) ? Dim(-1) : from_start(end, extent);
  const Dim n = a - (surely_not_negative(b + 1, extent) ? b : max(b, -1));
  return at_least_zero(ceildiv(at_least_zero(n, extent), std::min(-std::max(by, -far), far)));
}

struct SliceOperands {
  HostList starts, ends;
  std::optional<std::vector<int64_t>> axes, steps;  // none: not known
};

SliceOperands slice_operands(InferContext& c, size_t rank) {
  SliceOperands s;
  s.starts = host_list(c, 1, "starts");
  s.ends = host_list(c, 2, "ends");
  std::optional<size_t> length = s.starts.length ? s.starts.length : s.ends.length;
  const auto same_length = [&](const std::optional<size_t>& n, const char* what) {
    if (n && length && *n != *length) c.fail(fmt::format("{} {} for {} starts", *n, what, *length));
  };
  same_length(s.ends.length, "ends");
  if (c.has(3)) {
    same_length(host_list(c, 3, "axes").length, "axes");
    s.axes = c.constant_integers(3);
  } else if (length) {
    if (*length > rank) c.fail(fmt::format("{} starts for an operand of rank {}", *length, rank));
    s.axes.emplace();
    for (size_t k = 0; k < *length; ++k) s.axes->push_back(static_cast<int64_t>(k));
  }
  if (s.axes) {
    same_length(s.axes->size(), "axes");
    s.axes = c.axes(*s.axes, rank);
  }
  if (c.has(4)) {
    same_length(host_list(c, 4, "steps").length, "steps");
    s.steps = c.constant_integers(4);
    if (s.steps && std::find(s.steps->begin(), s.steps->end(), 0) != s.steps->end()) c.fail("a step is 0");
  } else if (s.axes) {
    s.steps.emplace(s.axes->size(), 1);
  }
  return s;
}

void infer_slice(InferContext& c) {
  const DType dtype = c.dtype(0);
  c.set(0, dtype);
  const Shape& x = c.shape(0);
  const SliceOperands s = slice_operands(c, x.size());
  Shape out = x;
  if (!s.axes) {
    for (size_t k = 0; k < x.size(); ++k) out[k] = c.host_decided(0, k, 0, x[k]);
    return c.set(0, dtype, std::move(out));
  }
  const bool known = s.starts.values && s.ends.values && s.steps;
  for (size_t i = 0; i < s.axes->size(); ++i) {
    const auto a = static_cast<size_t>((*s.axes)[i]);
    out[a] = known ? slice_extent(x[a], (*s.starts.values)[i], (*s.ends.values)[i], (*s.steps)[i])
                   : c.host_decided(0, a, 0, x[a]);
  }
  c.set(0, dtype, std::move(out));
}

void eval_slice(EvalContext& c) {
  const Tensor& x = c.in(0);
  Tensor& y = c.out(0);
  if (y.count() == 0) return;
  const std::vector<int64_t> starts = c.in(1).to_integers();
  std::vector<int64_t> axes, steps;
  if (c.has(3)) axes = c.in(3).to_integers();
  if (c.has(4)) steps = c.in(4).to_integers();
  Dims strides = dense_strides(x.dims());
  int64_t offset = 0;
  for (size_t i = 0; i < starts.size(); ++i) {
    const int64_t axis = c.has(3) ? axes[i] : static_cast<int64_t>(i);
    const auto a = static_cast<size_t>(axis < 0 ? axis + static_cast<int64_t>(x.rank()) : axis);
    const int64_t by = c.has(4) ? steps[i] : 1;
    offset += slice_begin(starts[i], x.dims()[a], by) * strides[a];
    strides[a] = y.dims()[a] > 1 ? strides[a] * by : 0;
  }
  copy_block(y, 0, dense_strides(y.dims()), x, offset, strides, y.dims());
}

// ---- Pad ----

void infer_pad(InferContext& c) {
  const DType dtype = c.dtype(0);
  c.set(0, dtype);
  const HostList pads = host_list(c, 1, "pads");
  if (c.has(2)) {
    if (c.dtype(2) != dtype)
      c.fail(fmt::format("the fill value is {}, the operand is {}", dtype_name(c.dtype(2)), dtype_name(dtype)));
    if (c.type(2).has_shape()) c.require_equal(element_count(*c.type(2).shape), 1, "number of fill values");
  }
  std::optional<std::vector<int64_t>> axes;
  if (c.has(3)) {
    host_list(c, 3, "axes");
    axes = c.constant_integers(3);
  }
  const Shape& x = c.shape(0);
  if (axes)
    axes = c.axes(*axes, x.size());
  else if (!c.has(3)) {
    axes.emplace();
    for (size_t k = 0; k < x.size(); ++k) axes->push_back(static_cast<int64_t>(k));
  }
  Shape out = x;
  if (!axes) {
    for (size_t k = 0; k < x.size(); ++k) out[k] = c.host_decided(0, k);
    return c.set(0, dtype, std::move(out));
  }
  const size_t count = axes->size();
  if (pads.length && *pads.length != 2 * count)
    c.fail(fmt::format("{} pads for {} axes, two for each are needed", *pads.length, count));
  for (size_t i = 0; i < count; ++i) {
    const auto a = static_cast<size_t>((*axes)[i]);
    if (!pads.values) {
      out[a] = c.host_decided(0, a);
      continue;
    }
    const Dim& before = (*pads.values)[i];
    const Dim& after = (*pads.values)[i + count];
    for (const Dim* p : {&before, &after})
      if (p->is_constant() && (p->constant() > max_elements || p->constant() < -max_elements))
        c.fail(fmt::format("a pad of {} elements", p->constant()));
    out[a] = x[a] + before + after;
    if (out[a].is_constant() && out[a].constant() < 0)
      c.fail(fmt::format("pads of {} and {} crop more than the {} elements of axis {}", before.constant(),
                         after.constant(), x[a].constant(), a));
  }
  c.set(0, dtype, std::move(out));
}

void eval_pad(EvalContext& c) {
  const Tensor& x = c.in(0);
  Tensor& y = c.out(0);
  if (y.count() == 0) return;
  const PadMode mode = c.attrs<PadAttrs>().mode;
  const size_t rank = x.rank();
  const std::vector<int64_t> pads = c.in(1).to_integers();
  std::vector<int64_t> before(rank, 0), after(rank, 0);
  const std::vector<int64_t> axes = c.has(3) ? c.in(3).to_integers() : std::vector<int64_t>();
  const size_t count = c.has(3) ? axes.size() : rank;
  for (size_t i = 0; i < count; ++i) {
    const int64_t axis = c.has(3) ? axes[i] : static_cast<int64_t>(i);
    const auto a = static_cast<size_t>(axis < 0 ? axis + static_cast<int64_t>(rank) : axis);
    before[a] = pads[i];
    after[a] = pads[i + count];
  }
  const Dims strides = dense_strides(x.dims());
  std::vector<int64_t> at(rank, 0);
  int64_t i = 0;
  do {
    int64_t offset = 0;
    bool inside = true;
    for (size_t k = 0; k < rank && inside; ++k) {
      const int64_t s = pad_source(mode, at[k], before[k], after[k], x.dims()[k]);
      inside = s >= 0;
      offset += s * strides[k];
    }
    if (inside)
      copy_element(y, i, x, offset);
    else if (mode != PadMode::constant)
      c.fail("an axis without elements has nothing to repeat");
    else if (c.has(2))
      copy_element(y, i, c.in(2), 0);
    ++i;
  } while (next_position(at, y.dims()));
}

// ---- Concat, Split, Tile ----

void infer_concat(InferContext& c) {
  const DType dtype = c.dtype(0);
  c.set(0, dtype);
  for (size_t i = 1; i < c.inputs(); ++i)
    if (c.dtype(i) != dtype)
      c.fail(fmt::format("operand {} is {}, operand 0 is {}", i, dtype_name(c.dtype(i)), dtype_name(dtype)));
  Shape out = c.shape(0);
  const auto axis = static_cast<size_t>(c.axis(c.attrs<ConcatAttrs>().axis, out.size()));
  for (size_t i = 1; i < c.inputs(); ++i) {
    const Shape& x = c.shape(i);
    if (x.size() != out.size())
      c.fail(fmt::format("operand {} has rank {}, operand 0 has rank {}", i, x.size(), out.size()));
    for (size_t k = 0; k < x.size(); ++k) {
      if (k == axis) {
        out[k] = out[k] + x[k];
        continue;
      }
      c.require_equal(out[k], x[k], "extent of Concat");
      if (x[k].is_constant()) out[k] = x[k];
    }
  }
  c.set(0, dtype, std::move(out));
}

void eval_concat(EvalContext& c) {
  Tensor& y = c.out(0);
  if (y.count() == 0) return;
  int64_t axis = c.attrs<ConcatAttrs>().axis;
  if (axis < 0) axis += static_cast<int64_t>(y.rank());
  const auto a = static_cast<size_t>(axis);
  const Dims to = dense_strides(y.dims());
  int64_t at = 0;
  for (size_t i = 0; i < c.inputs(); ++i) {
    const Tensor& x = c.in(i);
    if (x.count() > 0) copy_block(y, at * to[a], to, x, 0, dense_strides(x.dims()), x.dims());
    at += x.dims()[a];
  }
}

void infer_split(InferContext& c) {
  const DType dtype = c.dtype(0);
  for (size_t o = 0; o < c.outputs(); ++o) c.set(o, dtype);
  const HostList sizes = host_list(c, 1, "sizes");
  if (sizes.length && *sizes.length != c.outputs())
    c.fail(fmt::format("{} sizes for {} results", *sizes.length, c.outputs()));
  const Shape& x = c.shape(0);
  const auto axis = static_cast<size_t>(c.axis(c.attrs<SplitAttrs>().axis, x.size()));
  Dim sum = 0;
  for (size_t o = 0; o < c.outputs(); ++o) {
    Shape out = x;
    out[axis] = sizes.values ? (*sizes.values)[o] : c.host_decided(o, axis, 0, x[axis]);
    if (sizes.values) {
      c.require_at_least(out[axis], 0, "size of a part");
      sum = sum + out[axis];
    }
    c.set(o, dtype, std::move(out));
  }
  if (sizes.values) c.require_equal(sum, x[axis], "sum of the sizes of Split");
}

void eval_split(EvalContext& c) {
  const Tensor& x = c.in(0);
  int64_t axis = c.attrs<SplitAttrs>().axis;
  if (axis < 0) axis += static_cast<int64_t>(x.rank());
  const auto a = static_cast<size_t>(axis);
  const Dims from = dense_strides(x.dims());
  const std::vector<int64_t> sizes = c.in(1).to_integers();
  int64_t at = 0;
  for (size_t o = 0; o < c.outputs.size(); ++o) {
    Tensor& y = c.out(o);
    if (sizes[o] != y.dims()[a] || at + sizes[o] > x.dims()[a]) c.fail("the sizes do not add up to the axis");
    if (y.count() > 0) copy_block(y, 0, dense_strides(y.dims()), x, at * from[a], from, y.dims());
    at += sizes[o];
  }
}

void infer_tile(InferContext& c) {
  const DType dtype = c.dtype(0);
  c.set(0, dtype);
  const HostList repeats = host_list(c, 1, "repeats");
  Shape out = c.shape(0);
  if (repeats.length && *repeats.length != out.size())
    c.fail(fmt::format("{} repeats for an operand of rank {}", *repeats.length, out.size()));
  for (size_t k = 0; k < out.size(); ++k) {
    if (!repeats.values) {
      out[k] = c.host_decided(0, k);
      continue;
    }
    const Dim& n = (*repeats.values)[k];
    if (n.is_constant() && n.constant() < 0) c.fail(fmt::format("{} repeats of axis {}", n.constant(), k));
    out[k] = out[k] * n;
  }
  c.set(0, dtype, std::move(out));
}

void eval_tile(EvalContext& c) {
  const Tensor& x = c.in(0);
  Tensor& y = c.out(0);
  if (y.count() == 0) return;
  const Dims from = dense_strides(x.dims());
  std::vector<int64_t> at(y.rank(), 0);
  int64_t i = 0;
  do {
    int64_t offset = 0;
    for (size_t k = 0; k < from.size(); ++k) offset += at[k] % x.dims()[k] * from[k];
    copy_element(y, i++, x, offset);
  } while (next_position(at, y.dims()));
}

// ---- Trilu, ReverseSequence ----

void infer_trilu(InferContext& c) {
  c.set(0, c.dtype(0));
  if (c.has(1)) host_number(c, 1, "diagonal");
  if (c.rank(0) < 2) c.fail(fmt::format("the operand has rank {}, matrices are needed", c.rank(0)));
  c.set(0, c.dtype(0), c.shape(0));
}

void eval_trilu(EvalContext& c) {
  const Tensor& x = c.in(0);
  Tensor& y = c.out(0);
  const bool upper = c.attrs<TriluAttrs>().upper;
  const int64_t k = c.has(1) ? std::clamp(c.in(1).get_integer(0), -far, far) : 0;
  const int64_t cols = x.dims()[x.rank() - 1], rows = x.dims()[x.rank() - 2];
  for (int64_t i = 0; i < x.count(); ++i) {
    const int64_t diagonal = i % cols - i / cols % rows;
    if (upper ? diagonal >= k : diagonal <= k) copy_element(y, i, x, i);
  }
}

void infer_reverse_sequence(InferContext& c) {
  c.set(0, c.dtype(0));
  const DType lengths = c.dtype(1);
  if (lengths != DType::i64 && lengths != DType::i32)
    c.fail(fmt::format("the lengths are {}, they must be i64 or i32", dtype_name(lengths)));
  const Shape& x = c.shape(0);
  const auto& a = c.attrs<ReverseSequenceAttrs>();
  const auto batch = static_cast<size_t>(c.axis(a.batch_axis, x.size()));
  if (batch == static_cast<size_t>(c.axis(a.time_axis, x.size()))) c.fail("batch and time are the same axis");
  if (c.type(1).has_shape()) {
    if (c.rank(1) != 1) c.fail(fmt::format("the lengths have rank {}, they must be a list", c.rank(1)));
    c.require_equal(c.shape(1)[0], x[batch], "number of lengths");
  }
  c.set(0, c.dtype(0), x);
}

void eval_reverse_sequence(EvalContext& c) {
  const Tensor& x = c.in(0);
  Tensor& y = c.out(0);
  if (y.count() == 0) return;
  const auto& a = c.attrs<ReverseSequenceAttrs>();
  const auto rank = static_cast<int64_t>(x.rank());
  const auto batch = static_cast<size_t>(a.batch_axis < 0 ? a.batch_axis + rank : a.batch_axis);
  const auto time = static_cast<size_t>(a.time_axis < 0 ? a.time_axis + rank : a.time_axis);
  const std::vector<int64_t> lengths = c.in(1).to_integers();
  if (lengths.size() != static_cast<size_t>(x.dims()[batch])) c.fail("one length for each batch is needed");
  for (int64_t n : lengths)
    if (n < 0 || n > x.dims()[time]) c.fail(fmt::format("length {} of {} steps", n, x.dims()[time]));
  const Dims strides = dense_strides(x.dims());
  std::vector<int64_t> at(x.rank(), 0);
  int64_t i = 0;
  do {
    const int64_t n = lengths[static_cast<size_t>(at[batch])], t = at[time];
    const int64_t from = t < n ? n - 1 - t : t;
    copy_element(y, i, x, i + (from - t) * strides[time]);
    ++i;
  } while (next_position(at, y.dims()));
}

Tensor sample_reverse_sequence(const Op&, const Attrs& attrs, size_t input, std::span<const Type> types,
                               uint64_t seed) {
  Tensor tensor = sample_values(types[input], seed);
  if (input != 1) return tensor;
  int64_t axis = attrs.as<ReverseSequenceAttrs>().time_axis;
  if (axis < 0) axis += static_cast<int64_t>(types[0].shape->size());
  const int64_t extent = (*types[0].shape)[static_cast<size_t>(axis)].constant();
  for (int64_t i = 0; i < tensor.count(); ++i) tensor.set_integer(i, (tensor.get_integer(i) + 16) % (extent + 1));
  return tensor;
}

constexpr Op table[] = {
    {.name = "Transpose",
     .fields = fields<TransposeAttrs>,
     .is = {.moves_only = true},
     .infer = infer_transpose,
     .eval = eval_transpose},
    {.name = "Expand",
     .inputs = {2, 2},
     .host_inputs = 0b10,
     .is = {.moves_only = true},
     .infer = infer_expand,
     .eval = eval_expand},
    {.name = "Slice",
     .inputs = {3, 5},
     .host_inputs = 0b11110,
     .is = {.moves_only = true},
     .infer = infer_slice,
     .eval = eval_slice},
    {.name = "Pad",
     .fields = fields<PadAttrs>,
     .inputs = {2, 4},
     .host_inputs = 0b1010,
     .infer = infer_pad,
     .eval = eval_pad},
    {.name = "Concat",
     .fields = fields<ConcatAttrs>,
     .inputs = {1, Arity::any},
     .is = {.moves_only = true},
     .infer = infer_concat,
     .eval = eval_concat},
    {.name = "Split",
     .fields = fields<SplitAttrs>,
     .inputs = {2, 2},
     .outputs = {1, Arity::any},
     .host_inputs = 0b10,
     .is = {.moves_only = true},
     .infer = infer_split,
     .eval = eval_split},
    {.name = "Tile",
     .inputs = {2, 2},
     .host_inputs = 0b10,
     .is = {.moves_only = true},
     .infer = infer_tile,
     .eval = eval_tile},
    {.name = "Trilu",
     .fields = fields<TriluAttrs>,
     .inputs = {1, 2},
     .host_inputs = 0b10,
     .infer = infer_trilu,
     .eval = eval_trilu},
    {.name = "ReverseSequence",
     .fields = fields<ReverseSequenceAttrs>,
     .inputs = {2, 2},
     .is = {.moves_only = true},
     .infer = infer_reverse_sequence,
     .eval = eval_reverse_sequence,
     .sample = sample_reverse_sequence},
};

}  // namespace

std::span<const Op> movement_ops() { return table; }

}  // namespace sinter
