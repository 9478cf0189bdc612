// Data movement, and operators that make or look at shapes.

#include <fmt/format.h>

#include <algorithm>

#include "random_graphs/maker.h"

namespace random_graphs {
namespace {

bool transpose(Maker& m) {
  const int x = m.pick_any(2);
  return x >= 0 &&
         m.call(fmt::format("Transpose{{perm={}}}", Maker::text_of(m.permutation(m.rank(x)))), {x}, m.grain(x)) >= 0;
}

bool reshape(Maker& m) {
  const int x = m.pick_any(0, 5);
  if (x < 0) return false;
  Dims d = m.dims(x);
  // Neighbours merge, or one becomes two.
  for (int changes = m.between(1, 2); changes > 0; --changes) {
    if (d.size() > 1 && m.once_in(2)) {
      const auto k = static_cast<size_t>(m.below(static_cast<int>(d.size()) - 1));
      d[k] *= d[k + 1];
      d.erase(d.begin() + static_cast<int64_t>(k) + 1);
    } else {
      const auto k = static_cast<size_t>(d.empty() ? 0 : m.below(static_cast<int>(d.size())));
      const int64_t n = d.empty() ? 1 : d[k], by = n % 3 == 0 && n > 0 ? 3 : n % 2 == 0 && n > 0 ? 2 : 1;
      if (!d.empty()) d[k] /= by;
      d.insert(d.begin() + static_cast<int64_t>(k), by);
    }
  }
  std::vector<int64_t> shape = d;
  const bool empty = m.size(x) == 0;
  if (!empty && m.once_in(2)) shape[static_cast<size_t>(m.below(static_cast<int>(shape.size())))] = -1;
  return m.call(empty ? "Reshape{allow_zero=true}" : "Reshape", {x, m.list(shape)}, m.grain(x)) >= 0;
}

bool flatten(Maker& m) {
  const int x = m.pick_any();
  return x >= 0 && m.call(fmt::format("Flatten{{axis={}}}", m.below(m.rank(x) + 1)), {x}, m.grain(x)) >= 0;
}

bool squeeze(Maker& m) {
  const int x = m.pick_any(0, 5);
  if (x < 0) return false;
  for (int k = 0; k < m.rank(x); ++k)
    if (m.extent_of(x, k) == 1 && m.once_in(2))
      return m.call("Squeeze", {x, m.fixed_list({m.once_in(2) ? k : k - m.rank(x)})}, m.grain(x)) >= 0;
  return m.call("Unsqueeze", {x, m.fixed_list({m.below(m.rank(x) + 1)})}, m.grain(x)) >= 0;
}

bool concat(Maker& m) {
  const int x = m.pick_any(1);
  if (x < 0) return false;
  const int axis = m.below(m.rank(x));
  std::vector<int> parts{x};
  int grain = m.grain(x);
  for (int more = m.between(0, 3); more > 0; --more) {
    Dims d = m.dims(x);
    d[static_cast<size_t>(axis)] = m.once_in(3) ? m.extent() : d[static_cast<size_t>(axis)];
    const int y = m.small(d) ? m.operand(m.dtype(x), d) : -1;
    if (y < 0) continue;
    grain = grain < 0 || !m.exact(y) ? -1 : std::max(grain, m.grain(y));
    parts.push_back(y);
  }
  if (m.once_in(3)) std::rotate(parts.begin(), parts.begin() + 1, parts.end());
  return m.call(fmt::format("Concat{{axis={}}}", m.once_in(2) ? axis : axis - m.rank(x)), parts, grain) >= 0;
}

bool split(Maker& m) {
  const int x = m.pick_any(1);
  if (x < 0) return false;
  const int axis = m.below(m.rank(x));
  int64_t rest = m.extent_of(x, axis);
  std::vector<int64_t> sizes;
  while (sizes.size() < 3 && (rest > 0 || sizes.empty())) {
    sizes.push_back(sizes.size() == 2 ? rest : m.below(static_cast<int>(rest) + 1));
    rest -= sizes.back();
  }
  if (rest > 0) sizes.back() += rest;
  return m.call(fmt::format("Split{{axis={}}}", axis), {x, m.list(sizes)}, m.grain(x), sizes.size()) >= 0;
}

bool slice(Maker& m) {
  const int x = m.pick_any(1);
  if (x < 0) return false;
  std::vector<int64_t> starts, ends, axes, steps;
  for (int k = 0; k < m.rank(x); ++k) {
    if (m.once_in(2) && k + 1 < m.rank(x)) continue;
    const auto n = static_cast<int>(m.extent_of(x, k));
    int64_t start = m.between(-n - 1, n), end = m.between(-n - 1, n + 1), step = m.between(1, 3);
    if (m.once_in(4)) step = -step;
    if (m.below(3)) start = step > 0 ? 0 : -1;
    if (m.once_in(4)) end = step > 0 ? INT64_MAX : INT64_MIN;
    starts.push_back(start);
    ends.push_back(end);
    axes.push_back(m.once_in(2) ? k : k - m.rank(x));
    steps.push_back(step);
  }
  return m.call("Slice", {x, m.list(starts), m.list(ends), m.fixed_list(axes), m.fixed_list(steps)}, m.grain(x)) >= 0;
}

// Ends that data decide.
bool slice_by_data(Maker& m) {
  const int x = m.pick_any(1);
  if (x < 0) return false;
  const int axis = m.below(m.rank(x));
  const int end = m.data_number(0, m.extent_of(x, axis));
  const int ends = end < 0 ? -1 : m.call("Reshape", {end, m.fixed_list({1})}, 0);
  return ends >= 0 && m.call("Slice", {x, m.fixed_list({0}), ends, m.fixed_list({axis})}, m.grain(x)) >= 0;
}

bool pad(Maker& m) {
  const int x = m.pick([&](int v) { return m.rank(v) > 0 && m.rank(v) < 6 && m.dtype(v) != DType::string; });
  if (x < 0) return false;
  static constexpr const char* modes[] = {"constant", "constant", "edge", "reflect", "wrap"};
  const std::string mode = m.one_of(modes);
  const auto rank = static_cast<size_t>(m.rank(x));
  std::vector<int64_t> pads(2 * rank);
  for (size_t k = 0; k < rank; ++k) {
    const int64_t n = m.dims(x)[k];
    if (m.once_in(3) || (mode != "constant" && n < 3)) continue;
    for (size_t e : {k, k + rank}) pads[e] = m.once_in(6) && n > 4 ? -m.between(1, 2) : m.between(0, 2);
  }
  std::vector<int> inputs{x, m.list(pads)};
  if (mode == "constant" && m.once_in(2))
    inputs.push_back(m.number(m.dtype(x), is_sub_byte(m.dtype(x)) ? 1 : m.between(0, 2)));
  return m.call(fmt::format("Pad{{mode={}}}", mode), inputs, m.grain(x)) >= 0;
}

bool expand(Maker& m) {
  const int x = m.pick_any(0, 4);
  if (x < 0) return false;
  Dims d = m.dims(x);
  for (int64_t& e : d)
    if (e == 1) e = m.between(1, 4);
  if (m.once_in(2)) d.insert(d.begin(), m.once_in(6) ? 0 : m.between(1, 3));
  return Maker::small(d) && m.call("Expand", {x, m.list(d)}, m.grain(x)) >= 0;
}

bool tile(Maker& m) {
  const int x = m.pick_any(1, 4);
  if (x < 0) return false;
  std::vector<int64_t> repeats;
  for (int k = 0; k < m.rank(x); ++k) repeats.push_back(m.once_in(2) ? 1 : m.once_in(8) ? 0 : m.between(1, 3));
  return m.call("Tile", {x, m.list(repeats)}, m.grain(x)) >= 0;
}

bool trilu(Maker& m) {
  const int x = m.pick([&](int v) { return m.rank(v) > 1 && m.dtype(v) != DType::string; });
  if (x < 0) return false;
  std::vector<int> inputs{x};
  if (m.once_in(2)) inputs.push_back(m.number(DType::i64, m.between(-2, 3)));
  return m.call(m.once_in(2) ? "Trilu" : "Trilu{upper=false}", inputs, m.grain(x)) >= 0;
}

bool reverse_sequence(Maker& m) {
  const int x = m.pick_any(2);
  if (x < 0) return false;
  const int batch = m.below(2), time = 1 - batch;
  if (m.extent_of(x, time) < 1) return false;
  Tensor lengths(DType::i64, {m.extent_of(x, batch)});
  for (int64_t i = 0; i < lengths.count(); ++i)
    lengths.set_integer(i, m.between(1, static_cast<int>(m.extent_of(x, time))));
  return m.call(fmt::format("ReverseSequence{{batch_axis={}, time_axis={}}}", batch, time),
                {x, m.constant(std::move(lengths))}, m.grain(x)) >= 0;
}

// Extents become numbers, numbers become extents.
bool shape_to_reshape(Maker& m) {
  const int x = m.pick([&](int v) { return m.rank(v) > 0 && m.size(v) > 0; });
  if (x < 0) return false;
  const int shape = m.call("Shape", {x}, 0);
  if (shape < 0) return false;
  switch (m.below(4)) {
    case 0: {  // [first, -1]
      const int head = m.call("Slice", {shape, m.fixed_list({0}), m.fixed_list({1})}, 0);
      const int wanted = head < 0 ? -1 : m.call("Concat", {head, m.fixed_list({-1})}, 0);
      return wanted >= 0 && m.call("Reshape", {x, wanted}, m.grain(x)) >= 0;
    }
    case 1: {  // the product of all
      const int all = m.call("ReduceProd", {shape}, 0);
      return all >= 0 && m.call("Reshape", {x, all}, m.grain(x)) >= 0;
    }
    case 2: {  // another value of this shape
      const int y = m.broadcastable(m.float_dtype(), m.dims(x));
      return y >= 0 && m.call("Expand", {y, shape}, m.grain(y)) >= 0;
    }
    default: {  // half of it
      const int k = m.below(m.rank(x));
      const int n = m.call("Gather", {shape, m.fixed_list({k})}, 0);
      const int half = n < 0 ? -1 : m.call("Div", {n, m.fixed_list({2})}, 0);
      return half >= 0 && m.call("Slice", {x, m.fixed_list({0}), half, m.fixed_list({k})}, m.grain(x)) >= 0;
    }
  }
}

bool shape_numbers(Maker& m) {
  const int x = m.pick_any();
  if (x < 0) return false;
  const int size = m.once_in(2) ? m.call("Size", {x}, 0) : m.call("Shape", {x}, 0);
  return size >= 0 && m.cast(size, m.once_in(2) ? DType::f32 : DType::i32) >= 0;
}

bool range(Maker& m) {
  static constexpr DType types[] = {DType::i64, DType::i64, DType::i32, DType::f32};
  const DType d = m.one_of(types);
  if (d == DType::i64 && m.once_in(2)) {
    const int n = m.data_number(0, 7);
    return n >= 0 && m.call("Range", {m.number(d, 0), n, m.number(d, 1)}, 0) >= 0;
  }
  const int start = m.number(d, m.between(-3, 3)), limit = m.number(d, m.between(-2, 9));
  return m.call("Range", {start, limit, m.number(d, m.once_in(3) ? -1 : m.between(1, 2))}, 0) >= 0;
}

bool fill(Maker& m) {
  const int n = m.data_number(0, 5);
  const int shape = n < 0 ? -1 : m.call("Reshape", {n, m.fixed_list({1})}, 0);
  if (shape < 0) return false;
  const DType d = m.once_in(3) ? m.integer_dtype() : m.float_dtype();
  const int x = m.operand(d, {});
  return x >= 0 && m.call("Expand", {x, shape}, m.grain(x)) >= 0;
}

bool eye(Maker& m) {
  const int x = m.pick_any(2, 2);
  return x >= 0 &&
         m.call(fmt::format("EyeLike{{dtype={}, k={}}}", dtype_name(m.float_dtype()), m.between(-2, 2)), {x}, 0) >= 0;
}

constexpr Family movement[] = {
    {"transpose", 4, transpose},
    {"reshape", 4, reshape},
    {"flatten", 1, flatten},
    {"squeeze", 2, squeeze},
    {"concat", 3, concat},
    {"split", 2, split},
    {"slice", 3, slice},
    {"slice by data", 1, slice_by_data},
    {"pad", 2, pad},
    {"expand", 2, expand},
    {"tile", 1, tile},
    {"trilu", 1, trilu},
    {"reverse", 1, reverse_sequence},
};
constexpr Family shapes[] = {
    {"reshape by shape", 3, shape_to_reshape},
    {"shape", 1, shape_numbers},
    {"range", 1, range},
    {"fill", 1, fill},
    {"eye", 1, eye},
};

}  // namespace

std::span<const Family> movement_families() { return movement; }
std::span<const Family> shape_families() { return shapes; }

}  // namespace random_graphs
