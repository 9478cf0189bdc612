// Reading and writing where operands say, reductions, and selection; extents that only running finds out.

#include <fmt/core.h>

#include <algorithm>

#include "random_graphs/maker.h"

namespace random_graphs {
namespace {

bool gather(Maker& m) {
  const int x = m.pick_any(1, 4);
  if (x < 0) return false;
  const int axis = m.below(m.rank(x));
  Dims d;
  for (int k = m.below(3); k > 0; --k) d.push_back(m.once_in(20) ? 0 : m.between(1, 4));
  const int i = m.indices(m.extent_of(x, axis), d, true);
  return i >= 0 && m.call(fmt::format("Gather{{axis={}}}", axis), {x, i}, m.grain(x)) >= 0;
}

bool gather_elements(Maker& m) {
  const int x = m.pick_any(1, 4);
  if (x < 0) return false;
  const int axis = m.below(m.rank(x));
  Dims d = m.dims(x);
  d[static_cast<size_t>(axis)] = m.between(1, 4);
  const int i = m.indices(m.extent_of(x, axis), d, true);
  return i >= 0 && m.call(fmt::format("GatherElements{{axis={}}}", axis), {x, i}, m.grain(x)) >= 0;
}

// Tuples that lie inside of the first axes.
int tuples(Maker& m, int x, int length, Dims d) {
  int64_t least = 1000;
  for (int k = 0; k < length; ++k) least = std::min(least, m.extent_of(x, k));
  d.push_back(length);
  return m.cast(m.indices(least, d, true), DType::i64);
}

bool gather_nd(Maker& m) {
  const int x = m.pick_any(1, 4);
  if (x < 0) return false;
  const int i = tuples(m, x, m.between(1, m.rank(x)), {m.between(1, 4)});
  return i >= 0 && m.call("GatherND", {x, i}, m.grain(x)) >= 0;
}

// Without a reduction, places must differ for the result to be defined: constant ones, each once.
bool scatter_elements(Maker& m) {
  const int x = m.pick([&](int v) { return m.rank(v) > 0 && m.rank(v) < 5 && m.dtype(v) != DType::string; });
  if (x < 0 || m.size(x) == 0) return false;
  const int axis = m.below(m.rank(x));
  const auto n = static_cast<int>(m.extent_of(x, axis));
  static constexpr const char* reductions[] = {"none", "none", "add", "max", "min", "mul"};
  std::string reduction = m.one_of(reductions);
  if (m.dtype(x) == DType::boolean || bit_size(m.dtype(x)) < 8 || (is_float(m.dtype(x)) && bit_size(m.dtype(x)) == 8))
    reduction = "none";
  Dims d = m.dims(x);
  d[static_cast<size_t>(axis)] = m.between(1, n);
  const int updates = m.operand(m.dtype(x), d);
  int i;
  if (reduction == "none") {
    Tensor places(DType::i64, d);
    const std::vector<int64_t> order = m.permutation(n);
    int64_t inner = 1;
    for (int k = axis + 1; k < m.rank(x); ++k) inner *= d[static_cast<size_t>(k)];
    for (int64_t e = 0; e < places.count(); ++e)
      places.set_integer(e, order[static_cast<size_t>(e / inner % d[static_cast<size_t>(axis)])]);
    i = m.constant(std::move(places));
  } else {
    i = m.indices(n, d, true);
  }
  const bool moves = reduction == "none" || reduction == "max" || reduction == "min";
  return updates >= 0 && i >= 0 &&
         m.call(fmt::format("ScatterElements{{axis={}, reduction={}}}", axis, reduction), {x, i, updates},
                moves && m.exact(x) && m.exact(updates) ? std::max(m.grain(x), m.grain(updates)) : -1) >= 0;
}

bool scatter_nd(Maker& m) {
  const int x = m.pick([&](int v) { return m.rank(v) > 0 && m.rank(v) < 5 && m.dtype(v) != DType::string; });
  if (x < 0 || m.size(x) == 0) return false;
  const int length = m.between(1, m.rank(x));
  static constexpr const char* reductions[] = {"add", "max", "min"};
  std::string reduction = m.one_of(reductions);
  const bool narrow =
      m.dtype(x) == DType::boolean || bit_size(m.dtype(x)) < 8 || (is_float(m.dtype(x)) && bit_size(m.dtype(x)) == 8);
  const bool once = narrow || m.once_in(2);  // one place
  if (once) reduction = "none";
  const int64_t count = once ? 1 : m.between(1, 4);
  const int i = tuples(m, x, length, {count});
  Dims d{count};
  d.insert(d.end(), m.dims(x).begin() + length, m.dims(x).end());
  const int updates = m.operand(m.dtype(x), d);
  return i >= 0 && updates >= 0 &&
         m.call(fmt::format("ScatterND{{reduction={}}}", reduction), {x, i, updates},
                reduction != "add" && m.exact(x) && m.exact(updates) ? std::max(m.grain(x), m.grain(updates)) : -1) >=
             0;
}

bool put_rows(Maker& m) {
  const int x = m.pick([&](int v) { return m.rank(v) > 0 && m.rank(v) < 5 && m.dtype(v) != DType::string; });
  if (x < 0 || m.size(x) == 0) return false;
  const int axis = m.below(m.rank(x));
  const auto n = static_cast<int>(m.extent_of(x, axis));
  const bool circular = m.once_in(3);
  Dims d = m.dims(x);
  const int count = m.between(1, circular ? n + 2 : n);
  d[static_cast<size_t>(axis)] = count;
  const int rows = m.operand(m.dtype(x), d);
  const bool each = axis > 0 && m.once_in(2);
  const int start = m.indices(circular ? n : n - count + 1, each ? Dims{m.extent_of(x, 0)} : Dims{}, false);
  if (rows < 0 || start < 0) return false;
  std::vector<int> operands = {x, rows, start};
  if (!circular && m.once_in(3)) {
    const int extent = m.once_in(2) ? m.data_number(n, n + 2) : m.number(DType::i64, m.between(n, n + 2));
    if (extent < 0) return false;
    operands.push_back(extent);
  }
  return m.call(fmt::format("PutRows{{axis={}, circular={}, cut={}}}", axis, circular, m.once_in(2)), operands,
                m.exact(x) && m.exact(rows) ? std::max(m.grain(x), m.grain(rows)) : -1) >= 0;
}

bool one_hot(Maker& m) {
  const int depth = m.between(1, 5);
  Dims d;
  for (int k = m.below(3); k > 0; --k) d.push_back(m.between(1, 4));
  const int i = m.indices(depth, d, true);
  const DType dtype = m.once_in(2) ? DType::f32 : m.integer_dtype();
  const int values = m.operand(dtype, {2});
  const int axis = m.between(-1, static_cast<int>(d.size()));
  if (i < 0 || values < 0) return false;
  const int n = m.once_in(3) ? m.data_number(1, depth) : m.number(DType::i64, depth);
  return n >= 0 && m.call(fmt::format("OneHot{{axis={}}}", axis), {i, n, values}, m.grain(values)) >= 0;
}

bool compress(Maker& m) {
  const int x = m.pick_any(1, 4);
  if (x < 0) return false;
  const int axis = m.below(m.rank(x));
  const bool flat = m.once_in(3);
  const int c = m.operand(DType::boolean, {flat ? std::min<int64_t>(m.size(x), 7) : m.extent_of(x, axis)});
  return c >= 0 &&
         m.call(flat ? "Compress{flat=true}" : fmt::format("Compress{{axis={}}}", axis), {x, c}, m.grain(x)) >= 0;
}

bool non_zero(Maker& m) {
  const int x =
      m.pick([&](int v) { return m.exact(v) && m.rank(v) > 0 && m.rank(v) < 5 && m.dtype(v) != DType::string; });
  if (x < 0) return false;
  const int z = m.call("NonZero", {x}, 0);
  if (z < 0) return false;
  if (m.once_in(3)) return m.call("ReduceSum{keep_dims=false}", {z, m.fixed_list({1})}, 0) >= 0;
  const int t = m.call("Transpose{perm=[1, 0]}", {z}, 0);
  return t >= 0 && m.call("GatherND", {x, t}, m.grain(x)) >= 0;
}

bool unique(Maker& m) {
  const int x = m.pick_exact(1, 3);
  if (x < 0) return false;
  std::string text = "Unique";
  if (m.once_in(2))
    text += fmt::format("{{flat=false, axis={}}}", m.below(m.rank(x)));
  else if (m.once_in(2))
    text += "{sorted=false}";
  return m.call(text, {x}, m.grain(x), 4) >= 0;
}

bool non_max_suppression(Maker& m) {
  const int boxes = m.operand(DType::f32, {1, 6, 4}), scores = m.operand(DType::f32, {1, 2, 6});
  if (boxes < 0 || scores < 0 || !m.exact(boxes) || !m.exact(scores)) return false;
  const int most = m.once_in(3) ? m.data_number(0, 4) : m.number(DType::i64, m.between(1, 4));
  // No quotient of two small areas comes near this.
  const int overlap = m.number(DType::f32, 0.4371), least = m.number(DType::f32, -0.53);
  return most >= 0 && m.call(m.once_in(2) ? "NonMaxSuppression" : "NonMaxSuppression{center_point=true}",
                             {boxes, scores, most, overlap, least}, 0) >= 0;
}

bool top_k(Maker& m) {
  const int x = m.pick_exact(1, 4);
  if (x < 0) return false;
  const int axis = m.below(m.rank(x));
  const int64_t n = m.extent_of(x, axis);
  const int k = m.once_in(3) ? m.data_number(0, n) : m.number(DType::i64, m.below(static_cast<int>(n) + 1));
  const int list = k < 0 ? -1 : m.call("Reshape", {k, m.fixed_list({1})}, 0);
  return list >= 0 &&
         m.call(fmt::format("TopK{{axis={}, largest={}}}", axis, m.once_in(2)), {x, list}, m.grain(x), 2) >= 0;
}

bool arg(Maker& m) {
  const int x = m.pick_exact(1, 5);
  if (x < 0) return false;
  return m.call(fmt::format("{}{{axis={}, keep_dims={}, select_last={}}}", m.once_in(2) ? "ArgMax" : "ArgMin",
                            m.below(m.rank(x)), m.once_in(2), m.once_in(3)),
                {x}, 0) >= 0;
}

constexpr int64_t most_factors = 48;  // of a product: more overflow f32, in one order of them or another

bool cumulative(Maker& m) {
  static constexpr DType types[] = {DType::f32, DType::f32, DType::i64, DType::i32, DType::f64};
  const int x = m.pick(m.one_of(types), 1, 5);
  if (x < 0) return false;
  const bool product = m.once_in(4);
  if (product && m.size(x) > most_factors) return false;
  return m.call(
             fmt::format("{}{{exclusive={}, reverse={}}}", product ? "CumProd" : "CumSum", m.once_in(2), m.once_in(2)),
             {x, m.number(DType::i64, m.below(m.rank(x)))}, product ? -1 : m.grain(x)) >= 0;
}

bool reduce(Maker& m) {
  const int x = m.once_in(4) ? m.pick_exact(1) : m.pick_float(1);
  if (x < 0) return false;
  static constexpr const char* names[] = {"ReduceSum", "ReduceSum", "ReduceMean",
                                          "ReduceMax", "ReduceMin", "ReduceProd"};
  const std::string name = m.one_of(names);
  std::vector<int64_t> axes;
  const bool trailing = m.once_in(2);
  for (int k = 0; k < m.rank(x); ++k)
    if (trailing ? k == m.rank(x) - 1 : m.once_in(2)) axes.push_back(m.once_in(2) ? k : k - m.rank(x));
  // The mean of nothing is NaN; the highest of nothing depends on the dtype alone.
  if (m.size(x) == 0 && name == "ReduceMean") return false;
  if (name == "ReduceProd" && m.size(x) > most_factors) return false;
  const int grain = name == "ReduceMean" || name == "ReduceProd" ? -1 : m.grain(x);
  std::vector<int> inputs{x};
  if (!axes.empty() || m.once_in(2)) inputs.push_back(m.fixed_list(axes));
  return m.call(fmt::format("{}{{keep_dims={}{}}}", name, m.once_in(2), m.once_in(5) ? ", keep_without_axes=true" : ""),
                inputs, grain) >= 0;
}

constexpr Family indexing[] = {
    {"gather", 3, gather},         {"gather elements", 1, gather_elements},
    {"gather nd", 1, gather_nd},   {"scatter", 2, scatter_elements},
    {"scatter nd", 1, scatter_nd}, {"put rows", 1, put_rows},
    {"one hot", 1, one_hot},       {"compress", 2, compress},
    {"non zero", 2, non_zero},
};
constexpr Family selection[] = {
    {"unique", 1, unique}, {"suppression", 1, non_max_suppression}, {"top k", 2, top_k},
    {"arg", 2, arg},       {"cumulative", 2, cumulative},           {"reduce", 6, reduce},
};

}  // namespace

std::span<const Family> indexing_families() { return indexing; }
std::span<const Family> selection_families() { return selection; }

}  // namespace random_graphs
