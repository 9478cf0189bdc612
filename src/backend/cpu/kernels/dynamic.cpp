// NonZero, Compress, Unique: rows that find the extents of their results by running, in two passes: the first counts,
// the second writes into storage of that size, which stays with the result's box from run to run.

#include "backend/cpu/kernels/dynamic.h"

#include <fmt/format.h>

#include <numeric>

#include "backend/cpu/kernels/families.h"
#include "backend/cpu/kernels/ordered.h"
#include "backend/storage.h"
#include "base/checked.h"
#include "ops/indexing.h"
#include "ops/selection.h"

namespace sinter::cpu {

Answer boxed_problem(const Problem& problem, std::string_view name) {
  if (problem.stages.size() != 1 || !is_op(problem.stages[0], name)) return Answer::no("another operator");
  for (const Operand& operand : problem.operands) {
    if (!operand.type.is_plain()) return Answer::no("an operand is no plain tensor");
    if (operand.type.dtype == DType::string || bit_size(operand.type.dtype) < 8)
      return Answer::no("elements smaller than a byte, or strings");
    if (!row_major_or_any(operand.layout)) return Answer::no("operands must be row-major");
  }
  for (const Problem::Result& result : problem.results) {
    if (!problem.types[result.value].is_plain()) return Answer::no("a result is no plain tensor");
    if (!row_major_or_any(result.layout)) return Answer::no("results must be row-major");
  }
  return Answer::yes();
}

void boxed_bind(const Kernel&, const void*, const BindContext&, Bound&) {}

const Tensor* boxed_input(const Launch& launch, size_t i) {
  const Stage& stage = launch.problem->stages[0];
  if (i >= stage.inputs.size() || stage.inputs[i] == absent_operand) return nullptr;
  const uint16_t v = stage.inputs[i];
  if (const auto* known = std::get_if<Tensor>(&launch.problem->operands[v].contents)) return known;
  return &launch.boxes[v]->tensor;
}

Box* boxed_output(const Launch& launch, size_t o) {
  const Problem& problem = *launch.problem;
  for (size_t r = 0; r < problem.results.size(); ++r)
    if (problem.results[r].value == problem.first_result[0] + o) return launch.boxes[problem.operands.size() + r];
  return nullptr;
}

namespace {

constexpr int64_t block = 512;  // elements that are looked at before anything is written

double per_element(const Problem& problem, std::span<const int64_t> symbols, double nanoseconds) {
  return 200 + nanoseconds * elements_at(problem.operands[problem.stages[0].inputs[0]].type, symbols);
}

// ---- NonZero ----

template <typename T>
inline bool nonzero(T v) {
  return v != 0;
}
inline bool nonzero(Half v) { return (v.bits & 0x7fff) != 0; }
inline bool nonzero(Brain v) { return (v.bits & 0x7fff) != 0; }

template <typename T>
int64_t count_nonzero(const T* x, int64_t count) {
  int64_t n = 0;
  for (int64_t i = 0; i < count; ++i) n += nonzero(x[i]);
  return n;
}

// Positions within a block, in order; returns how many.
template <typename T>
int64_t find_nonzero(const T* x, int64_t count, uint16_t* found) {
  int64_t n = 0;
  for (int64_t i = 0; i < count; ++i) {
    found[n] = static_cast<uint16_t>(i);
    n += nonzero(x[i]);
  }
  return n;
}

template <typename T>
void write_nonzero(const T* x, const Dims& dims, int64_t total, int64_t* y) {
  const size_t axes = dims.size() - 1;
  const int64_t inner = dims[axes];
  const int64_t outer = product(dims, 0, axes);
  std::vector<int64_t> at(axes, 0);
  uint16_t found[block];
  int64_t n = 0;
  for (int64_t o = 0; o < outer; ++o) {
    for (int64_t first = 0; first < inner; first += block) {
      const int64_t hits = find_nonzero(x + o * inner + first, std::min(block, inner - first), found);
      for (size_t k = 0; k < axes; ++k) std::fill_n(y + static_cast<int64_t>(k) * total + n, hits, at[k]);
      int64_t* last = y + static_cast<int64_t>(axes) * total + n;
      for (int64_t h = 0; h < hits; ++h) last[h] = first + found[h];
      n += hits;
    }
    for (size_t k = axes; k-- > 0;) {
      if (++at[k] < dims[k]) break;
      at[k] = 0;
    }
  }
}

Answer nonzero_supports(const Kernel&, const Problem& problem, const DeviceSpec&) {
  if (Answer a = boxed_problem(problem, "NonZero"); !a) return a;
  const DType dtype = problem.operands[problem.stages[0].inputs[0]].type.dtype;
  if (!is_number(dtype) && dtype != DType::boolean) return Answer::no("elements of a type that is not read here");
  return Answer::yes();
}

double nonzero_cost(const Kernel&, const Problem& problem, std::span<const int64_t> symbols, const DeviceSpec&) {
  return per_element(problem, symbols, 2);
}

Status nonzero_run(const Launch& launch) {
  try {
    const Tensor& x = *boxed_input(launch, 0);
    Box* out = boxed_output(launch, 0);
    by_number(x.dtype(), [&](auto zero) {
      using T = decltype(zero);
      const int64_t total = count_nonzero(x.as<T>(), x.count());
      Tensor& y = storage_for(*out, DType::i64, {static_cast<int64_t>(x.rank()), total});
      if (total > 0 && x.rank() > 0) write_nonzero(x.as<T>(), x.dims(), total, y.as_mutable<int64_t>());
    });
  } catch (const Error& error) {
    return Status(error);
  }
  return {};
}

// ---- Compress ----

Answer compress_supports(const Kernel&, const Problem& problem, const DeviceSpec&) {
  return boxed_problem(problem, "Compress");
}

double compress_cost(const Kernel&, const Problem& problem, std::span<const int64_t> symbols, const DeviceSpec&) {
  return per_element(problem, symbols, 2);
}

Status compress_run(const Launch& launch) {
  try {
    const Tensor& x = *boxed_input(launch, 0);
    const Tensor& condition = *boxed_input(launch, 1);
    const auto& attrs = launch.problem->stages[0].attrs.as<CompressAttrs>();
    const auto rank = static_cast<int64_t>(x.rank());
    const size_t axis = attrs.flat ? 0 : static_cast<size_t>(attrs.axis < 0 ? attrs.axis + rank : attrs.axis);
    Dims dims = attrs.flat ? Dims{x.count()} : x.dims();
    const int64_t outer = product(dims, 0, axis), extent = dims[axis], inner = product(dims, axis + 1, dims.size());
    const auto* flags = condition.as<uint8_t>();
    const int64_t looked = std::min(extent, condition.count());
    const int64_t total = count_nonzero(flags, looked);
    for (int64_t i = looked; i < condition.count(); ++i)
      if (flags[i] != 0) return Status(Code::fault, fmt::format("element {} of {} is chosen", i, extent));
    dims[axis] = total;
    Tensor& y = storage_for(*boxed_output(launch, 0), x.dtype(), dims);
    if (y.count() == 0) return {};
    const int64_t width = bit_size(x.dtype()) / 8;
    uint16_t found[block];
    int64_t n = 0;
    for (int64_t first = 0; first < looked; first += block) {
      const int64_t hits = find_nonzero(flags + first, std::min(block, looked - first), found);
      if (hits == 0) continue;
      if (inner == 1) {
        by_width(width, [&](auto zero) {
          using T = decltype(zero);
          for (int64_t o = 0; o < outer; ++o) {
            const T* from = x.as<T>() + o * extent + first;
            T* to = y.as_mutable<T>() + o * total + n;
            for (int64_t h = 0; h < hits; ++h) to[h] = from[found[h]];
          }
        });
      } else {
        // Neighbours that are chosen together move together.
        for (int64_t h = 0; h < hits;) {
          int64_t end = h + 1;
          while (end < hits && found[end] == found[end - 1] + 1) ++end;
          for (int64_t o = 0; o < outer; ++o)
            std::memcpy(y.as_mutable<std::byte>() + (o * total + n + h) * inner * width,
                        x.as<std::byte>() + (o * extent + first + found[h]) * inner * width,
                        static_cast<size_t>((end - h) * inner * width));
          h = end;
        }
      }
      n += hits;
    }
  } catch (const Error& error) {
    return Status(error);
  }
  return {};
}

// ---- Unique ----

struct Ranked {
  uint64_t key;
  int64_t index;
};

// Stable, by key, byte by byte; bytes that are the same everywhere cost one look.
void radix_sort(std::vector<Ranked>& all) {
  const size_t count = all.size();
  if (count < 256) {
    std::sort(all.begin(), all.end(),
              [](const Ranked& a, const Ranked& b) { return a.key != b.key ? a.key < b.key : a.index < b.index; });
    return;
  }
  std::vector<size_t> histograms(8 * 256, 0);
  for (const Ranked& r : all)
    for (size_t digit = 0; digit < 8; ++digit) ++histograms[digit * 256 + (r.key >> (8 * digit) & 255)];
  std::vector<Ranked> other(count);
  for (size_t digit = 0; digit < 8; ++digit) {
    size_t* starts = histograms.data() + digit * 256;
    if (starts[all[0].key >> (8 * digit) & 255] == count) continue;
    size_t sum = 0;
    for (size_t b = 0; b < 256; ++b) sum += std::exchange(starts[b], sum);
    for (const Ranked& r : all) other[starts[r.key >> (8 * digit) & 255]++] = r;
    all.swap(other);
  }
}

// Slices in groups of equal ones, the groups in ascending order; `order` lists the slices group by group.
struct Groups {
  std::vector<int64_t> order, starts;  // starts of the groups in `order`, and its end
  int64_t count() const { return static_cast<int64_t>(starts.size()) - 1; }
  int64_t first(int64_t group) const { return order[static_cast<size_t>(starts[static_cast<size_t>(group)])]; }
};

template <typename T>
Groups group_numbers(const T* x, int64_t count) {
  std::vector<Ranked> all(static_cast<size_t>(count));
  for (int64_t i = 0; i < count; ++i)
    all[static_cast<size_t>(i)] = {static_cast<uint64_t>(sort_key(x[i])) ^ (uint64_t{1} << 63), i};
  radix_sort(all);
  Groups groups;
  groups.order.resize(all.size());
  for (size_t n = 0; n < all.size(); ++n) {
    groups.order[n] = all[n].index;
    if (n == 0 || all[n].key != all[n - 1].key) groups.starts.push_back(static_cast<int64_t>(n));
  }
  groups.starts.push_back(count);
  return groups;
}

// Slices along an axis, element by element.
template <typename T>
Groups group_slices(const T* x, int64_t outer, int64_t extent, int64_t inner) {
  const auto compare = [&](int64_t p, int64_t q) {
    for (int64_t o = 0; o < outer; ++o) {
      const T *a = x + (o * extent + p) * inner, *b = x + (o * extent + q) * inner;
      for (int64_t i = 0; i < inner; ++i) {
        const int64_t s = sort_key(a[i]), t = sort_key(b[i]);
        if (s != t) return s < t ? -1 : 1;
      }
    }
    return 0;
  };
  Groups groups;
  groups.order.resize(static_cast<size_t>(extent));
  std::iota(groups.order.begin(), groups.order.end(), int64_t{0});
  std::stable_sort(groups.order.begin(), groups.order.end(), [&](int64_t p, int64_t q) { return compare(p, q) < 0; });
  for (size_t n = 0; n < groups.order.size(); ++n)
    if (n == 0 || compare(groups.order[n - 1], groups.order[n]) != 0) groups.starts.push_back(static_cast<int64_t>(n));
  groups.starts.push_back(extent);
  return groups;
}

Answer unique_supports(const Kernel&, const Problem& problem, const DeviceSpec&) {
  if (Answer a = boxed_problem(problem, "Unique"); !a) return a;
  const DType dtype = problem.operands[problem.stages[0].inputs[0]].type.dtype;
  if (!is_number(dtype) && dtype != DType::boolean) return Answer::no("elements of a type that is not sorted here");
  return Answer::yes();
}

double unique_cost(const Kernel&, const Problem& problem, std::span<const int64_t> symbols, const DeviceSpec&) {
  return per_element(problem, symbols, 30);
}

int64_t* indices_for(Box* box, int64_t count) {
  return box ? storage_for(*box, DType::i64, {count}).as_mutable<int64_t>() : nullptr;
}

Status unique_run(const Launch& launch) {
  try {
    const Tensor& x = *boxed_input(launch, 0);
    const auto& attrs = launch.problem->stages[0].attrs.as<UniqueAttrs>();
    Dims dims = attrs.flat ? Dims{x.count()} : x.dims();
    const auto rank = static_cast<int64_t>(dims.size());
    const auto axis = attrs.flat ? 0 : static_cast<size_t>(attrs.axis < 0 ? attrs.axis + rank : attrs.axis);
    const int64_t outer = product(dims, 0, axis), extent = dims[axis], inner = product(dims, axis + 1, dims.size());
    if (x.count() == 0 && extent > (1 << 20))
      return Status(Code::fault, fmt::format("an axis of {} empty slices", extent));
    Groups groups;
    by_number(x.dtype(), [&](auto zero) {
      using T = decltype(zero);
      groups = x.count() == extent ? group_numbers(x.as<T>(), extent)
                                   : group_slices(x.as<T>(), x.count() > 0 ? outer : 0, extent, inner);
    });
    const int64_t count = groups.count();
    // Where each group goes.
    std::vector<int64_t> place(static_cast<size_t>(count)), listed(place);
    std::iota(listed.begin(), listed.end(), int64_t{0});
    if (!attrs.sorted)
      std::sort(listed.begin(), listed.end(), [&](int64_t p, int64_t q) { return groups.first(p) < groups.first(q); });
    for (int64_t n = 0; n < count; ++n) place[static_cast<size_t>(listed[static_cast<size_t>(n)])] = n;
    if (Box* values = boxed_output(launch, 0)) {
      dims[axis] = count;
      Tensor& y = storage_for(*values, x.dtype(), dims);
      const auto bytes = static_cast<size_t>(inner * bit_size(x.dtype()) / 8);
      if (y.count() > 0)
        for (int64_t o = 0; o < outer; ++o)
          for (int64_t n = 0; n < count; ++n)
            std::memcpy(y.as_mutable<std::byte>() + static_cast<size_t>(o * count + n) * bytes,
                        x.as<std::byte>() +
                            static_cast<size_t>(o * extent + groups.first(listed[static_cast<size_t>(n)])) * bytes,
                        bytes);
    }
    int64_t* first = indices_for(boxed_output(launch, 1), count);
    int64_t* inverse = indices_for(boxed_output(launch, 2), extent);
    int64_t* counts = indices_for(boxed_output(launch, 3), count);
    for (int64_t g = 0; g < count; ++g) {
      const auto begin = static_cast<size_t>(groups.starts[static_cast<size_t>(g)]),
                 end = static_cast<size_t>(groups.starts[static_cast<size_t>(g) + 1]);
      const int64_t to = place[static_cast<size_t>(g)];
      if (first) first[to] = groups.order[begin];
      if (counts) counts[to] = static_cast<int64_t>(end - begin);
      for (size_t k = begin; inverse && k < end; ++k) inverse[groups.order[k]] = to;
    }
  } catch (const Error& error) {
    return Status(error);
  }
  return {};
}

constexpr Kernel rows[] = {
    {.name = "non_zero",
     .supports = nonzero_supports,
     .needs = row_major_needs,
     .cost = nonzero_cost,
     .bind = boxed_bind,
     .run = nonzero_run,
     .takes_boxes = true},
    {.name = "compress",
     .supports = compress_supports,
     .needs = row_major_needs,
     .cost = compress_cost,
     .bind = boxed_bind,
     .run = compress_run,
     .takes_boxes = true},
    {.name = "unique",
     .supports = unique_supports,
     .needs = row_major_needs,
     .cost = unique_cost,
     .bind = boxed_bind,
     .run = unique_run,
     .takes_boxes = true},
};

}  // namespace

std::span<const Kernel> dynamic_kernels() { return rows; }

}  // namespace sinter::cpu
