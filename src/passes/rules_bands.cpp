// Masks of causality and windows, as exporters spell them, as Band: comparisons of positions, constants that are
// triangles, Trilu of one number; and biases of such masks as choices. What an attention reads of them it never stores.

#include <algorithm>
#include <cmath>
#include <cstring>

#include "ops/elements.h"
#include "ops/movement.h"
#include "passes/rules.h"

namespace sinter {
namespace {

constexpr Rule compare_rule = {"comparison of positions as Band"};
constexpr Rule constant_rule = {"constant triangle as Band"};
constexpr Rule slice_rule = {"Slice of Band as Band"};
constexpr Rule both_rule = {"Band and Band as one"};
constexpr Rule not_rule = {"Not of Band as Band"};
constexpr Rule turn_rule = {"number where a Band is, as where it is not"};
constexpr Rule trilu_rule = {"Trilu of one number as a choice"};
// What is added to a number so far above the lowest is lost; what is infinite or NaN and hidden stays hidden.
constexpr Rule bias_rule = {"bias that hides as a choice", Effect::rounding};

// ---- bands ----

struct Bounds {
  ValueId first = no_id, last = no_id;  // i64 scalars
};

ValueId scalar(Site& site, int64_t value) { return site.rw.build.constant(Tensor::scalar_i64(value)); }

ValueId as_scalar(Site& site, ValueId x) { return site.type(x).shape->empty() ? x : site.reshape(x, {}); }

// A bound that a number of a matrix's size is added to (or subtracted from) without wrapping: bounds beyond all
// diagonals of all matrices mean the same wherever they are. Those that are known by extents are sums of such.
ValueId held(Site& site, ValueId bound, bool adds) {
  constexpr int64_t furthest = int64_t{1} << 62;
  if (const auto known = site.rw.build.integers_of(bound)) {
    const auto number = known->size() == 1 ? (*known)[0].as_constant() : std::nullopt;
    if (!number || (adds ? *number <= furthest : *number >= -furthest)) return bound;
  }
  return site.rw.build.op(adds ? "Min" : "Max", {bound, scalar(site, adds ? furthest : -furthest)});
}

ValueId moved(Site& site, ValueId bound, bool adds, ValueId by) {
  return bound == no_id ? no_id : site.rw.build.op(adds ? "Add" : "Sub", {held(site, bound, adds), by});
}

// Matrices of these extents with axes of extent 1 in front.
ValueId make(Site& site, const Shape& shape, const Bounds& bounds) {
  const auto bound = [&](ValueId x) {
    return x == no_id || shape.size() == 2 ? x : site.reshape(x, Shape(shape.size(), 1));
  };
  const ValueId first = bound(bounds.first), last = bound(bounds.last);
  const Shape matrix(shape.end() - 2, shape.end());
  return site.rw.build.op("Band", {site.rw.build.dims(matrix), first, last});
}

// A Band of one matrix.
std::optional<Bounds> bounds_of(Site& site, ValueId v) {
  const auto n = site.def(v, "Band");
  if (!n || !site.type(v).has_shape()) return std::nullopt;
  const Shape& shape = *site.type(v).shape;
  if (!std::all_of(shape.begin(), shape.end() - 2, [](const Dim& d) { return d == Dim(1); })) return std::nullopt;
  Bounds out;
  for (size_t i : {size_t{1}, size_t{2}})
    if (site.has(*n, i)) {
      const ValueId bound = site.in(*n, i);
      if (!site.type(bound).has_shape()) return std::nullopt;
      (i == 1 ? out.first : out.last) = as_scalar(site, bound);
    }
  return out;
}

// What a Band with one bound does not hold.
std::optional<Bounds> complement(Site& site, const Bounds& b) {
  if ((b.first == no_id) == (b.last == no_id)) return std::nullopt;
  if (b.last != no_id) return Bounds{moved(site, b.last, true, scalar(site, 1)), no_id};
  return Bounds{no_id, moved(site, b.first, false, scalar(site, 1))};
}

// ---- constants ----

constexpr int64_t max_looked_at = int64_t{1} << 26;

// The diagonals that are not 0 in a matrix with axes of extent 1 in front; none where these are no band, or all.
std::optional<std::pair<int64_t, int64_t>> diagonals_of(const Tensor& t) {
  const auto& dims = t.dims();
  if (dims.size() < 2 || t.count() < 2 || t.count() > max_looked_at || is_complex(t.dtype()) ||
      t.dtype() == DType::string)
    return std::nullopt;
  // Of these a sign alone is no zero.
  if (t.dtype() == DType::f8e4m3fnuz || t.dtype() == DType::f8e5m2fnuz || t.dtype() == DType::f8e8m0)
    return std::nullopt;
  const int64_t columns = dims.back(), rows = dims[dims.size() - 2];
  if (rows < 2 || columns < 2 || rows * columns != t.count()) return std::nullopt;
  const int64_t width = bit_size(t.dtype()) / 8;
  if (width == 0) return std::nullopt;
  // By its bits, the sign of a zero apart: constants may be large.
  const auto* bytes = static_cast<const char*>(t.data());
  const bool real = is_float(t.dtype());
  const auto there = [&](int64_t i) {
    uint64_t bits = 0;
    switch (width) {
      case 1: bits = static_cast<uint8_t>(bytes[i]); break;
      case 4: std::memcpy(&bits, bytes + i * 4, 4); break;
      default: std::memcpy(&bits, bytes + i * width, static_cast<size_t>(width)); break;
    }
    return (real ? bits << (65 - 8 * width) : bits) != 0;
  };
  int64_t first = columns, last = -rows;
  for (int64_t r = 0; r < rows; ++r) {
    int64_t a = 0, b = columns - 1;
    while (a < columns && !there(r * columns + a)) ++a;
    if (a == columns) continue;
    while (!there(r * columns + b)) --b;
    first = std::min(first, a - r);
    last = std::max(last, b - r);
  }
  if (first > last || (first == 1 - rows && last == columns - 1)) return std::nullopt;
  for (int64_t i = 0; i < t.count(); ++i) {
    const int64_t diagonal = i % columns - i / columns;
    if (there(i) != (first <= diagonal && diagonal <= last)) return std::nullopt;
  }
  return std::pair{first, last};
}

// The Band that a constant's truth is; no_id for none.
ValueId band_of_constant(Site& site, ValueId v) {
  const Tensor* t = site.graph.constant(v);
  if (!t || !site.graph[v].weight.empty()) return no_id;
  const auto d = diagonals_of(*t);
  if (!d) return no_id;
  const Shape shape = *site.type(v).shape;
  const int64_t columns = t->dims().back(), rows = t->dims()[t->dims().size() - 2];
  return make(site, shape,
              {d->first == 1 - rows ? no_id : scalar(site, d->first),
               d->second == columns - 1 ? no_id : scalar(site, d->second)});
}

bool truth_of_constant(Site& site, NodeId n) {
  if (site.type(site.out(n)).dtype != DType::boolean) return false;
  site.at({n});
  const ValueId made = band_of_constant(site, site.in(n, 0));
  return made != no_id && site.same_type(made, site.out(n)) && site.replace(site.out(n), made, constant_rule);
}

// ---- positions ----

// Row or column numbers plus something; places in a sequence, which are far from where integers wrap.
struct Positions {
  size_t back = 0;  // 1: columns, 2: rows
  Dim extent;
  std::vector<std::pair<ValueId, bool>> terms;  // scalars, and whether they are subtracted
};

std::optional<size_t> varying_axis(const Shape& shape) {
  std::optional<size_t> back;
  for (size_t k = 0; k < shape.size(); ++k) {
    if (shape[k] == Dim(1)) continue;
    if (back) return std::nullopt;
    back = shape.size() - k;
  }
  return back;
}

std::optional<Positions> positions_of(Site& site, ValueId v) {
  if (!site.type(v).is_plain() || site.type(v).dtype != DType::i64) return std::nullopt;
  const auto back = varying_axis(*site.type(v).shape);
  if (!back || *back > 2) return std::nullopt;
  Positions out{*back, (*site.type(v).shape)[site.type(v).shape->size() - *back], {}};
  for (size_t steps = 0; steps < 16; ++steps) {
    v = site.rw.resolve(v);
    if (const Tensor* t = site.graph.constant(v)) {
      for (int64_t i = 1; i < t->count(); ++i)
        if (static_cast<uint64_t>(t->get_integer(i)) - static_cast<uint64_t>(i) !=
            static_cast<uint64_t>(t->get_integer(0)))
          return std::nullopt;
      if (t->count() < 2) return std::nullopt;
      out.terms.emplace_back(scalar(site, t->get_integer(0)), false);
      return out;
    }
    if (const auto n = site.def(v, "Range")) {
      const auto by = site.integers(site.in(*n, 2));
      if (!by || *by != std::vector<int64_t>{1}) return std::nullopt;
      out.terms.emplace_back(site.in(*n, 0), false);
      return out;
    }
    auto n = site.def(v, "Reshape");
    if (!n) n = site.def(v, "Unsqueeze");
    const bool adds = !n && site.def(v, "Add"), subtracts = !n && !adds && site.def(v, "Sub");
    if (adds || subtracts) n = site.def(v, adds ? "Add" : "Sub");
    if (!n) return std::nullopt;
    ValueId from = site.in(*n, 0);
    if (adds || subtracts) {
      ValueId by = site.in(*n, 1);
      const auto is_one = [&](ValueId x) {
        return site.type(x).is_plain() && std::all_of(site.type(x).shape->begin(), site.type(x).shape->end(),
                                                      [](const Dim& d) { return d == Dim(1); });
      };
      if (adds && is_one(from)) std::swap(from, by);
      if (!is_one(by)) return std::nullopt;
      out.terms.emplace_back(by, subtracts);
    }
    if (!site.type(from).is_plain()) return std::nullopt;
    const auto inner = varying_axis(*site.type(from).shape);
    if (!inner || !((*site.type(from).shape)[site.type(from).shape->size() - *inner] == out.extent))
      return std::nullopt;
    v = from;
  }
  return std::nullopt;
}

ValueId sum_of(Site& site, const Positions& p) {
  ValueId sum = scalar(site, 0);
  for (const auto& [term, subtracted] : p.terms)
    sum = site.rw.build.op(subtracted ? "Sub" : "Add", {sum, as_scalar(site, term)});
  return sum;
}

// a < b or a <= b of a row and a column of numbers.
bool compare_positions(Site& site, NodeId n) {
  const bool strict = site.graph.nodes[n].op->name == std::string_view("Less");
  const Type& type = site.type(site.out(n));
  if (!type.has_shape() || type.shape->size() < 2) return false;
  site.at({n});
  const auto a = positions_of(site, site.in(n, 0));
  if (!a) return false;
  const auto b = positions_of(site, site.in(n, 1));
  if (!b || a->back == b->back) return false;
  const Shape shape = *site.type(site.out(n)).shape;
  const bool column_first = a->back == 1;
  const Positions &column = column_first ? *a : *b, &row = column_first ? *b : *a;
  if (!(shape.back() == column.extent) || !(shape[shape.size() - 2] == row.extent)) return false;
  // c + x <= r + y: up to y - x; r + y <= c + x: from y - x.
  ValueId bound = site.rw.build.op("Sub", {sum_of(site, row), sum_of(site, column)});
  if (strict) bound = site.rw.build.op(column_first ? "Sub" : "Add", {bound, scalar(site, 1)});
  const ValueId made = make(site, shape, column_first ? Bounds{no_id, bound} : Bounds{bound, no_id});
  return site.same_type(made, site.out(n)) && site.replace(site.out(n), made, compare_rule);
}

// ---- what is done with bands ----

bool both(Site& site, NodeId n) {
  site.at({n});
  const auto a = bounds_of(site, site.in(n, 0)), b = bounds_of(site, site.in(n, 1));
  // One row or column that repeats is no band of the whole.
  const auto same_matrix = [&](ValueId x) {
    const Shape &own = *site.type(x).shape, &whole = *site.type(site.out(n)).shape;
    return whole.size() >= 2 && own.back() == whole.back() && own[own.size() - 2] == whole[whole.size() - 2];
  };
  if (!a || !b || !same_matrix(site.in(n, 0)) || !same_matrix(site.in(n, 1)) ||
      (a->first != no_id && b->first != no_id) || (a->last != no_id && b->last != no_id))
    return false;
  const ValueId made = make(site, *site.type(site.out(n)).shape,
                            {a->first == no_id ? b->first : a->first, a->last == no_id ? b->last : a->last});
  return site.same_type(made, site.out(n)) && site.replace(site.out(n), made, both_rule);
}

bool not_band(Site& site, NodeId n) {
  site.at({n});
  const auto b = bounds_of(site, site.in(n, 0));
  const auto other = b ? complement(site, *b) : std::nullopt;
  if (!other) return false;
  const ValueId made = make(site, *site.type(site.out(n)).shape, *other);
  return site.same_type(made, site.out(n)) && site.replace(site.out(n), made, not_rule);
}

// Rows and columns from some place on, of a Band or of a constant that is one.
bool slice(Site& site, NodeId n) {
  ValueId x = site.in(n, 0);
  if (site.type(site.out(n)).dtype != DType::boolean || !site.extents_known(n)) return false;
  const auto starts = site.rw.build.integers_of(site.in(n, 1));
  const auto axes = site.has(n, 3) ? site.integers(site.in(n, 3)) : std::nullopt;
  const auto steps = site.has(n, 4) ? site.integers(site.in(n, 4)) : std::nullopt;
  const Shape shape = *site.type(site.out(n)).shape;
  if (!starts || !axes || axes->size() != starts->size() || shape.size() < 2) return false;
  if (steps && !std::all_of(steps->begin(), steps->end(), [](int64_t by) { return by == 1; })) return false;
  site.at({n});
  if (const ValueId band = band_of_constant(site, x); band != no_id) x = band;
  auto bounds = bounds_of(site, x);
  if (!bounds) return false;
  for (size_t i = 0; i < axes->size(); ++i) {
    const int64_t a = (*axes)[i], back = a < 0 ? -a : static_cast<int64_t>(shape.size()) - a;
    const Dim& start = (*starts)[i];
    if (start == Dim(0)) continue;
    if (back > 2 || !surely_not_negative(start)) return false;
    const ValueId by = as_scalar(site, site.rw.build.dims({start}));
    bounds = Bounds{moved(site, bounds->first, back == 2, by), moved(site, bounds->last, back == 2, by)};
  }
  const ValueId made = make(site, shape, *bounds);
  return site.same_type(made, site.out(n)) && site.replace(site.out(n), made, slice_rule);
}

// Where(cond, ...) of a constant cond; a number on the side of the band goes to the other.
bool choice(Site& site, NodeId n) {
  site.at({n});
  ValueId condition = site.in(n, 0);
  if (const ValueId band = band_of_constant(site, condition); band != no_id) {
    const ValueId made = site.rw.build.op("Where", {band, site.in(n, 1), site.in(n, 2)});
    return site.same_type(made, site.out(n)) && site.replace(site.out(n), made, constant_rule);
  }
  if (!pattern::splat_value(site.rw, site.in(n, 1)) || pattern::splat_value(site.rw, site.in(n, 2))) return false;
  const auto b = bounds_of(site, condition);
  const auto other = b ? complement(site, *b) : std::nullopt;
  if (!other) return false;
  const ValueId band = make(site, *site.type(condition).shape, *other);
  const ValueId made = site.rw.build.op("Where", {band, site.in(n, 2), site.in(n, 1)});
  return site.same_type(made, site.out(n)) && site.replace(site.out(n), made, turn_rule);
}

bool trilu(Site& site, NodeId n) {
  ValueId x = site.in(n, 0);
  if (const auto expand = site.def(x, "Expand")) x = site.in(*expand, 0);
  const auto value = pattern::splat_value(site.rw, x);
  const Type& type = site.type(site.out(n));
  const auto k = site.has(n, 1) ? site.integers(site.in(n, 1)) : std::vector<int64_t>{0};
  if (!value || !type.is_plain() || type.shape->size() < 2 || !k || k->size() != 1) return false;
  const Shape shape = *type.shape;
  const DType dtype = type.dtype;
  if (!std::all_of(shape.begin(), shape.end() - 2, [](const Dim& d) { return d == Dim(1); })) return false;
  if (k->front() < -max_looked_at || k->front() > max_looked_at) return false;
  const bool upper = site.graph.nodes[n].attrs.as<TriluAttrs>().upper;
  site.at({n});
  const ValueId bound = scalar(site, k->front());
  const ValueId band = make(site, shape, upper ? Bounds{bound, no_id} : Bounds{no_id, bound});
  const ValueId made =
      dtype == DType::boolean && *value != 0
          ? band
          : site.rw.build.op("Where", {band, site.rw.build.scalar(dtype, *value), site.rw.build.scalar(dtype, 0)});
  return site.same_type(made, site.out(n)) && site.replace(site.out(n), made, trilu_rule);
}

// A bias that is 0 in a band and so low elsewhere that nothing remains of what it is added to.
struct Bias {
  ValueId band = no_id;
  double fill = 0;
};

bool hides(double fill) { return fill < -1e30; }

std::optional<Bias> bias_of(Site& site, ValueId v) {
  if (site.type(v).dtype != DType::f32) return std::nullopt;
  if (const auto where = site.def(v, "Where")) {
    const auto in = pattern::splat_value(site.rw, site.in(*where, 1)),
               out = pattern::splat_value(site.rw, site.in(*where, 2));
    const auto bounds = in && out ? bounds_of(site, site.in(*where, 0)) : std::nullopt;
    if (!bounds) return std::nullopt;
    if (*in == 0 && hides(*out)) return Bias{site.in(*where, 0), *out};
    const auto other = *out == 0 && hides(*in) ? complement(site, *bounds) : std::nullopt;
    if (!other) return std::nullopt;
    return Bias{make(site, *site.type(site.in(*where, 0)).shape, *other), *in};
  }
  const Tensor* t = site.graph.constant(v);
  const auto d = t && site.graph[v].weight.empty() ? diagonals_of(*t) : std::nullopt;
  if (!d) return std::nullopt;
  double fill = 0;
  for (int64_t i = 0; i < t->count(); ++i) {
    const double x = t->get_real(i);
    if (x == 0) continue;
    if (fill != 0 && x != fill) return std::nullopt;
    fill = x;
  }
  // What is not 0 is hidden.
  const int64_t columns = t->dims().back(), rows = t->dims()[t->dims().size() - 2];
  const bool from = d->second == columns - 1, to = d->first == 1 - rows;
  if (!hides(fill) || from == to) return std::nullopt;
  const Bounds seen = from ? Bounds{no_id, scalar(site, d->first - 1)} : Bounds{scalar(site, d->second + 1), no_id};
  return Bias{make(site, *site.type(v).shape, seen), fill};
}

// Whether x is products, scaled: no bias that is as low itself.
bool is_products(const Site& site, ValueId x) {
  for (int steps = 0; steps < 8; ++steps) {
    if (site.def(x, "MatMul")) return true;
    auto n = site.def(x, "Mul");
    if (!n) n = site.def(x, "Div");
    if (!n) return false;
    const bool second = pattern::splat_value(site.rw, site.in(*n, 1)).has_value();
    if (!second && !pattern::splat_value(site.rw, site.in(*n, 0))) return false;
    x = site.in(*n, second ? 0 : 1);
  }
  return false;
}

bool hidden_by_bias(Site& site, NodeId n) {
  for (size_t side : {size_t{1}, size_t{0}}) {
    const ValueId x = site.in(n, 1 - side), bias = site.in(n, side);
    if (!site.same_type(x, site.out(n)) || site.graph[x].has_contents()) continue;
    site.at({n});
    const auto b = bias_of(site, bias);
    if (!b || (std::isfinite(b->fill) && !is_products(site, x))) continue;
    const ValueId made = site.rw.build.op("Where", {b->band, x, site.rw.build.scalar(DType::f32, b->fill)});
    if (site.same_type(made, site.out(n))) return site.replace(site.out(n), made, bias_rule);
  }
  return false;
}

constexpr NodeRule rules[] = {{"Less", compare_positions}, {"LessOrEqual", compare_positions},
                              {"Cast", truth_of_constant}, {"And", both},
                              {"Not", not_band},           {"Slice", slice},
                              {"Where", choice},           {"Trilu", trilu},
                              {"Add", hidden_by_bias}};

}  // namespace

std::span<const NodeRule> band_rules() { return rules; }

}  // namespace sinter
