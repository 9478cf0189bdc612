// TopK, ArgMax, ArgMin, Unique, NonMaxSuppression, CumSum, CumProd.
//
// Order is total: NaN stands above every number, all NaNs are equal, -0 equals 0; what is equal goes by position.

#include "ops/selection.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "base/checked.h"
#include "ops/elements.h"
#include "ops/families.h"
#include "ops/op.h"

namespace sinter {

const Fields& fields_of(const TopKAttrs*) {
  static const Fields f = describe<TopKAttrs>(
      {field<&TopKAttrs::axis>("axis"), field<&TopKAttrs::largest>("largest"), field<&TopKAttrs::sorted>("sorted")});
  return f;
}

const Fields& fields_of(const ArgAttrs*) {
  static const Fields f = describe<ArgAttrs>({field<&ArgAttrs::axis>("axis"), field<&ArgAttrs::keep_dims>("keep_dims"),
                                              field<&ArgAttrs::select_last>("select_last")});
  return f;
}

const Fields& fields_of(const UniqueAttrs*) {
  static const Fields f = describe<UniqueAttrs>(
      {field<&UniqueAttrs::flat>("flat"), field<&UniqueAttrs::axis>("axis"), field<&UniqueAttrs::sorted>("sorted")});
  return f;
}

const Fields& fields_of(const NonMaxSuppressionAttrs*) {
  static const Fields f =
      describe<NonMaxSuppressionAttrs>({field<&NonMaxSuppressionAttrs::center_point>("center_point")});
  return f;
}

const Fields& fields_of(const CumulativeAttrs*) {
  static const Fields f = describe<CumulativeAttrs>(
      {field<&CumulativeAttrs::exclusive>("exclusive"), field<&CumulativeAttrs::reverse>("reverse")});
  return f;
}

namespace {

// A tensor as lines along one axis: element k of line (outer o, inner i) is at (o * extent + k) * inner + i.
struct Lines {
  int64_t outer = 1, extent = 1, inner = 1;
  Lines(const Dims& dims, int64_t axis) {
    const auto a = static_cast<size_t>(axis < 0 ? axis + static_cast<int64_t>(dims.size()) : axis);
    for (size_t k = 0; k < a; ++k) outer = checked_mul(outer, dims[k]);
    extent = dims[a];
    for (size_t k = a + 1; k < dims.size(); ++k) inner = checked_mul(inner, dims[k]);
  }
};

// -1, 0, 1 as element i stands below, beside or above element j.
int compare_elements(const Tensor& x, int64_t i, const Tensor& y, int64_t j) {
  if (x.dtype() == DType::string) {
    const int c = x.strings()[static_cast<size_t>(i)].compare(y.strings()[static_cast<size_t>(j)]);
    return (c > 0) - (c < 0);
  }
  if (is_float(x.dtype())) {
    const double a = x.get_real(i), b = y.get_real(j);
    if (std::isnan(a) || std::isnan(b)) return std::isnan(a) - std::isnan(b);
    return (a > b) - (a < b);
  }
  const int64_t a = x.get_integer(i), b = y.get_integer(j);
  if (is_signed(x.dtype())) return (a > b) - (a < b);
  const auto u = static_cast<uint64_t>(a), v = static_cast<uint64_t>(b);
  return (u > v) - (u < v);
}

void check_ordered(InferContext& c, DType dtype) {
  if (is_complex(dtype)) c.fail(fmt::format("{} has no order", dtype_name(dtype)));
}

void check_number(InferContext& c, DType dtype) {
  if (!is_float(dtype) && !is_integer(dtype))
    c.fail(fmt::format("the operand is {}, numbers are needed", dtype_name(dtype)));
}

// ---- TopK ----

void infer_top_k(InferContext& c) {
  const DType dtype = c.dtype(0);
  c.set(0, dtype);
  c.set(1, DType::i64);
  check_number(c, dtype);
  const auto k = host_number(c, 1, "k");
  Shape out = c.shape(0);
  const auto axis = static_cast<size_t>(c.axis(c.attrs<TopKAttrs>().axis, out.size()));
  if (k) {
    if (k->is_constant() && k->constant() < 0) c.fail(fmt::format("k is {}", k->constant()));
    c.require_at_least(out[axis], *k, "elements that TopK chooses from");
    out[axis] = *k;
  } else {
    out[axis] = c.host_decided(0, axis, 0, out[axis]);
  }
  c.set(0, dtype, out);
  c.set(1, DType::i64, std::move(out));
}

void eval_top_k(EvalContext& c) {
  const auto& a = c.attrs<TopKAttrs>();
  const Tensor& x = c.in(0);
  Tensor& values = c.out(0);
  if (values.count() == 0) return;
  const Lines from(x.dims(), a.axis), to(values.dims(), a.axis);
  if (to.extent > from.extent) c.fail(fmt::format("k is {} for {} elements", to.extent, from.extent));
  std::vector<int64_t> order(static_cast<size_t>(from.extent));
  for (int64_t o = 0; o < from.outer; ++o)
    for (int64_t i = 0; i < from.inner; ++i) {
      const auto at = [&](int64_t k) { return (o * from.extent + k) * from.inner + i; };
      std::iota(order.begin(), order.end(), int64_t{0});
      std::partial_sort(order.begin(), order.begin() + to.extent, order.end(), [&](int64_t p, int64_t q) {
        const int by_value = compare_elements(x, at(p), x, at(q));
        return by_value != 0 ? (by_value > 0) == a.largest : p < q;
      });
      for (int64_t k = 0; k < to.extent; ++k) {
        const int64_t target = (o * to.extent + k) * to.inner + i;
        copy_element(values, target, x, at(order[static_cast<size_t>(k)]));
        if (c.outputs.size() > 1) c.out(1).set_integer(target, order[static_cast<size_t>(k)]);
      }
    }
}

// ---- ArgMax, ArgMin ----

void infer_arg(InferContext& c) {
  c.set(0, DType::i64);
  check_number(c, c.dtype(0));
  const auto& a = c.attrs<ArgAttrs>();
  Shape out = c.shape(0);
  const auto axis = static_cast<size_t>(c.axis(a.axis, out.size()));
  if (a.keep_dims)
    out[axis] = 1;
  else
    out.erase(out.begin() + static_cast<int64_t>(axis));
  c.set(0, DType::i64, std::move(out));
}

template <bool largest>
void eval_arg(EvalContext& c) {
  const auto& a = c.attrs<ArgAttrs>();
  const Tensor& x = c.in(0);
  Tensor& y = c.out(0);
  if (y.count() == 0) return;
  const Lines lines(x.dims(), a.axis);
  if (lines.extent == 0) c.fail("the axis has no elements");
  const bool real = is_float(x.dtype());
  for (int64_t o = 0; o < lines.outer; ++o)
    for (int64_t i = 0; i < lines.inner; ++i) {
      const auto at = [&](int64_t k) { return (o * lines.extent + k) * lines.inner + i; };
      int64_t best = 0;
      for (int64_t k = 1; k < lines.extent; ++k) {
        // NaN is chosen by both, as soon as there is one.
        const bool nan = real && std::isnan(x.get_real(at(k))), best_nan = real && std::isnan(x.get_real(at(best)));
        int order = nan || best_nan ? nan - best_nan : compare_elements(x, at(k), x, at(best));
        if (!largest && !nan && !best_nan) order = -order;
        if (order > 0 || (order == 0 && a.select_last)) best = k;
      }
      y.set_integer(o * lines.inner + i, best);
    }
}

// ---- Unique ----

void infer_unique(InferContext& c) {
  const DType dtype = c.dtype(0);
  c.set(0, dtype);
  for (size_t o = 1; o < c.outputs(); ++o) c.set(o, DType::i64);
  check_ordered(c, dtype);
  const auto& a = c.attrs<UniqueAttrs>();
  const Shape& x = c.shape(0);
  Shape out;
  size_t axis = 0;
  Dim total;
  if (a.flat) {
    total = element_count(x);
    out = {total};
  } else {
    axis = static_cast<size_t>(c.axis(a.axis, x.size()));
    total = x[axis];
    out = x;
  }
  const Dim n = c.found_by_running(0, axis, 0, total);
  out[axis] = n;
  c.set(0, dtype, std::move(out));
  for (size_t o = 1; o < c.outputs(); ++o) c.set(o, DType::i64, {o == 2 ? total : n});
}

void eval_unique(EvalContext& c) {
  const auto& a = c.attrs<UniqueAttrs>();
  const Tensor& x = c.in(0);
  const Dims dims = a.flat ? Dims{x.count()} : x.dims();
  const int64_t axis = a.flat ? 0 : a.axis;
  const Lines lines(dims, axis);
  const auto at = [&](int64_t k, int64_t rest) {
    return (rest / lines.inner * lines.extent + k) * lines.inner + rest % lines.inner;
  };
  const int64_t rest = checked_mul(lines.outer, lines.inner);
  if (x.count() == 0 && lines.extent > (1 << 20)) c.fail(fmt::format("an axis of {} empty slices", lines.extent));
  const auto compare = [&](int64_t p, int64_t q) {
    for (int64_t r = 0; r < rest; ++r)
      if (const int d = compare_elements(x, at(p, r), x, at(q, r))) return d;
    return 0;
  };
  std::vector<int64_t> order(static_cast<size_t>(lines.extent));
  std::iota(order.begin(), order.end(), int64_t{0});
  std::stable_sort(order.begin(), order.end(), [&](int64_t p, int64_t q) { return compare(p, q) < 0; });
  struct Group {
    int64_t first, count;
  };
  std::vector<Group> groups;
  std::vector<size_t> group_of(order.size());
  for (int64_t k : order) {
    if (groups.empty() || compare(groups.back().first, k) != 0) groups.push_back({k, 0});
    ++groups.back().count;
    group_of[static_cast<size_t>(k)] = groups.size() - 1;
  }
  // Where each group goes.
  std::vector<size_t> place(groups.size()), listed(groups.size());
  std::iota(listed.begin(), listed.end(), size_t{0});
  if (!a.sorted)
    std::sort(listed.begin(), listed.end(), [&](size_t p, size_t q) { return groups[p].first < groups[q].first; });
  for (size_t n = 0; n < listed.size(); ++n) place[listed[n]] = n;
  const auto count = static_cast<int64_t>(groups.size());
  Dims out = dims;
  out[static_cast<size_t>(axis < 0 ? axis + static_cast<int64_t>(dims.size()) : axis)] = count;
  Tensor& values = c.out(0, x.dtype(), out);
  for (int64_t n = 0; n < count; ++n)
    for (int64_t r = 0; r < rest; ++r) {
      const int64_t to = (r / lines.inner * count + n) * lines.inner + r % lines.inner;
      copy_element(values, to, x, at(groups[listed[static_cast<size_t>(n)]].first, r));
    }
  const auto wanted = [&](size_t o) { return o < c.outputs.size(); };
  if (wanted(1)) {
    Tensor& first = c.out(1, DType::i64, {count});
    for (int64_t n = 0; n < count; ++n) first.set_integer(n, groups[listed[static_cast<size_t>(n)]].first);
  }
  if (wanted(2)) {
    Tensor& inverse = c.out(2, DType::i64, {lines.extent});
    for (size_t k = 0; k < group_of.size(); ++k)
      inverse.set_integer(static_cast<int64_t>(k), static_cast<int64_t>(place[group_of[k]]));
  }
  if (wanted(3)) {
    Tensor& counts = c.out(3, DType::i64, {count});
    for (int64_t n = 0; n < count; ++n) counts.set_integer(n, groups[listed[static_cast<size_t>(n)]].count);
  }
}

// ---- NonMaxSuppression ----

void infer_nms(InferContext& c) {
  c.set(0, DType::i64);
  for (size_t i = 0; i < 5; ++i) {
    if (i >= 2 && !c.has(i)) continue;
    if (i == 2 ? !is_integer(c.dtype(i)) : !is_float(c.dtype(i)))
      c.fail(fmt::format("operand {} is {}", i, dtype_name(c.dtype(i))));
    if (!c.type(i).has_shape()) continue;
    if (i < 2 && c.rank(i) != 3) c.fail(fmt::format("operand {} has rank {}, three axes are needed", i, c.rank(i)));
    if (i >= 2) c.require_equal(element_count(c.shape(i)), 1, "number of elements");
  }
  std::optional<Dim> most;
  if (c.type(0).has_shape() && c.type(1).has_shape()) {
    const Shape &boxes = c.shape(0), &scores = c.shape(1);
    c.require_equal(boxes[0], scores[0], "batch of boxes and scores");
    c.require_equal(boxes[1], scores[2], "number of boxes and scores");
    c.require_equal(boxes[2], 4, "numbers of a box");
    Dim each = boxes[1];
    if (const Tensor* limit = c.has(2) ? c.constant(2) : nullptr; limit && limit->count() == 1)
      each = min(each, std::clamp<int64_t>(limit->get_integer(0), 0, max_elements));
    most = scores[0] * scores[1] * each;
  }
  c.set(0, DType::i64, {c.found_by_running(0, 0, 0, std::move(most)), Dim(3)});
}

Rectangle rectangle_at(const Tensor& boxes, int64_t at, bool center_point) {
  return rectangle(boxes.get_real(at), boxes.get_real(at + 1), boxes.get_real(at + 2), boxes.get_real(at + 3),
                   center_point);
}

bool overlap(const Rectangle& a, const Rectangle& b, double threshold) {
  const double height = std::min(a.y2, b.y2) - std::max(a.y1, b.y1);
  const double width = std::min(a.x2, b.x2) - std::max(a.x1, b.x1);
  if (!(height > 0 && width > 0 && a.area > 0 && b.area > 0)) return false;
  const double common = height * width;
  return common / (a.area + b.area - common) > threshold;
}

void eval_nms(EvalContext& c) {
  const Tensor &boxes = c.in(0), &scores = c.in(1);
  const bool center_point = c.attrs<NonMaxSuppressionAttrs>().center_point;
  const int64_t most = c.has(2) ? c.in(2).get_integer(0) : 0;
  const double iou = c.has(3) ? c.in(3).get_real(0) : 0;
  const bool limited = c.has(4);
  const double least = limited ? c.in(4).get_real(0) : 0;
  const int64_t batches = scores.dims()[0], classes = scores.dims()[1], count = boxes.dims()[1];
  if (boxes.dims()[0] != batches || scores.dims()[2] != count || boxes.dims()[2] != 4)
    c.fail("boxes and scores do not fit together");
  std::vector<int64_t> found;
  std::vector<Rectangle> rectangles(most > 0 ? static_cast<size_t>(count) : 0);
  std::vector<std::pair<double, int64_t>> candidates;
  std::vector<int64_t> kept;
  for (int64_t b = 0; b < batches && most > 0 && count > 0; ++b) {
    for (int64_t i = 0; i < count; ++i)
      rectangles[static_cast<size_t>(i)] = rectangle_at(boxes, (b * count + i) * 4, center_point);
    for (int64_t k = 0; k < classes; ++k) {
      candidates.clear();
      kept.clear();
      for (int64_t i = 0; i < count; ++i) {
        const double score = scores.get_real((b * classes + k) * count + i);
        if (!limited || score > least) candidates.emplace_back(std::isnan(score) ? -INFINITY : score, i);
      }
      std::sort(candidates.begin(), candidates.end(), [](const auto& p, const auto& q) {
        return p.first != q.first ? p.first > q.first : p.second < q.second;
      });
      for (const auto& [score, i] : candidates) {
        if (static_cast<int64_t>(kept.size()) >= most) break;
        const Rectangle& r = rectangles[static_cast<size_t>(i)];
        if (std::any_of(kept.begin(), kept.end(),
                        [&](int64_t j) { return overlap(r, rectangles[static_cast<size_t>(j)], iou); }))
          continue;
        kept.push_back(i);
        found.insert(found.end(), {b, k, i});
      }
    }
  }
  Tensor& y = c.out(0, DType::i64, {static_cast<int64_t>(found.size()) / 3, 3});
  for (size_t n = 0; n < found.size(); ++n) y.set_integer(static_cast<int64_t>(n), found[n]);
}

// ---- CumSum, CumProd ----

void infer_cumulative(InferContext& c) {
  const DType dtype = c.dtype(0);
  c.set(0, dtype);
  check_number(c, dtype);
  const auto axis = host_number(c, 1, "axis");
  const Shape& x = c.shape(0);
  if (axis && axis->is_constant()) c.axis(axis->constant(), x.size());
  c.set(0, dtype, x);
}

template <bool product>
void eval_cumulative(EvalContext& c) {
  const auto& a = c.attrs<CumulativeAttrs>();
  const Tensor& x = c.in(0);
  Tensor& y = c.out(0);
  if (y.count() == 0) return;
  if (c.in(1).count() != 1) c.fail("the axis must be one number");
  const int64_t axis = c.in(1).get_integer(0), rank = static_cast<int64_t>(x.rank());
  if (axis < -rank || axis >= rank) c.fail(fmt::format("axis {} of an operand of rank {}", axis, rank));
  const Lines lines(x.dims(), axis);
  const bool real = is_float(x.dtype());
  for (int64_t o = 0; o < lines.outer; ++o)
    for (int64_t i = 0; i < lines.inner; ++i) {
      double sum = product ? 1 : 0;
      uint64_t whole = product ? 1 : 0;
      for (int64_t n = 0; n < lines.extent; ++n) {
        const int64_t k = a.reverse ? lines.extent - 1 - n : n;
        const int64_t at = (o * lines.extent + k) * lines.inner + i;
        const auto store = [&] { real ? y.set_real(at, sum) : y.set_integer(at, static_cast<int64_t>(whole)); };
        if (a.exclusive) store();
        if (real) {
          const double v = x.get_real(at);
          sum = product ? sum * v : sum + v;
        } else {
          const auto v = static_cast<uint64_t>(x.get_integer(at));
          whole = product ? whole * v : whole + v;
        }
        if (!a.exclusive) store();
      }
    }
}

// ---- samples ----

Tensor sample_top_k(const Op&, const Attrs& attrs, size_t input, std::span<const Type> types, uint64_t seed) {
  Tensor tensor = sample_values(types[input], seed);
  if (input != 1) return tensor;
  int64_t axis = attrs.as<TopKAttrs>().axis;
  if (axis < 0) axis += static_cast<int64_t>(types[0].shape->size());
  const int64_t extent = (*types[0].shape)[static_cast<size_t>(axis)].constant();
  for (int64_t i = 0; i < tensor.count(); ++i) tensor.set_integer(i, (extent + 1) / 2);
  return tensor;
}

Tensor sample_cumulative(const Op&, const Attrs&, size_t input, std::span<const Type> types, uint64_t seed) {
  Tensor tensor = sample_values(types[input], seed);
  if (input == 1)
    for (int64_t i = 0; i < tensor.count(); ++i) tensor.set_integer(i, -1);
  return tensor;
}

constexpr Op table[] = {
    {.name = "TopK",
     .fields = fields<TopKAttrs>,
     .inputs = {2, 2},
     .outputs = {1, 2},
     .host_inputs = 0b10,
     .infer = infer_top_k,
     .eval = eval_top_k,
     .sample = sample_top_k},
    {.name = "ArgMax", .fields = fields<ArgAttrs>, .infer = infer_arg, .eval = eval_arg<true>},
    {.name = "ArgMin", .fields = fields<ArgAttrs>, .infer = infer_arg, .eval = eval_arg<false>},
    {.name = "Unique", .fields = fields<UniqueAttrs>, .outputs = {1, 4}, .infer = infer_unique, .eval = eval_unique},
    {.name = "NonMaxSuppression",
     .fields = fields<NonMaxSuppressionAttrs>,
     .inputs = {2, 5},
     .infer = infer_nms,
     .eval = eval_nms},
    {.name = "CumSum",
     .fields = fields<CumulativeAttrs>,
     .inputs = {2, 2},
     .host_inputs = 0b10,
     .infer = infer_cumulative,
     .eval = eval_cumulative<false>,
     .sample = sample_cumulative},
    {.name = "CumProd",
     .fields = fields<CumulativeAttrs>,
     .inputs = {2, 2},
     .host_inputs = 0b10,
     .infer = infer_cumulative,
     .eval = eval_cumulative<true>,
     .sample = sample_cumulative},
};

}  // namespace

std::span<const Op> selection_ops() { return table; }

}  // namespace sinter
