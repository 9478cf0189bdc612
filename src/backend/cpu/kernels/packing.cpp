// Weights into the panels that contractions read: f32, rounded to 16 bits, split into planes of bf16, or bytes with
// their sums. Runs in the init plan for constants, and as an ordinary step for weights that are computed.

#include <cstring>

#include "backend/cpu/device.h"
#include "backend/cpu/isa/integer.h"
#include "backend/cpu/kernels/common.h"
#include "backend/cpu/kernels/families.h"
#include "backend/cpu/kernels/integer.h"
#include "base/checked.h"

namespace sinter::cpu {
namespace {

// A strided operand that becomes panels, of whatever numbers.
Answer packs(const Problem& problem) {
  if (problem.stages.size() != 1 || !is_op(problem.stages[0], "Identity")) return Answer::no("not a layout change");
  if (Answer a = plain_problem(problem); !a) return a;
  if (problem.operands.size() != 1 || problem.results.size() != 1) return Answer::no("not one operand and one result");
  const Layout::Kind kind = problem.results[0].layout.kind;
  if (kind != Layout::Kind::matrix_panels && kind != Layout::Kind::conv_panels)
    return Answer::no("the result is not packed");
  if (!problem.operands[0].layout.is_strided()) return Answer::no("the operand must be strided");
  return Answer::yes();
}

// f32 into panels of `plain` numbers, or of others.
Answer supports_f32(const Problem& problem, bool plain) {
  if (Answer a = packs(problem); !a) return a;
  if (problem.operands[0].type.dtype != DType::f32) return Answer::no("only f32 is packed");
  if ((problem.results[0].layout.numbers == PanelNumbers::plain) != plain)
    return Answer::no("the panels hold other numbers");
  return Answer::yes();
}

Answer supports(const Kernel&, const Problem& problem, const DeviceSpec&) { return supports_f32(problem, true); }

Needs needs(const Kernel&, const Problem& problem, const Config&, const DeviceSpec&) {
  return {{problem.operands[0].layout}, {problem.results[0].layout}};
}

double cost(const Kernel&, const Problem& problem, std::span<const int64_t> symbols, const DeviceSpec&) {
  return 200 + elements_at(problem.operands[0].type, symbols);
}

// Matrices (or groups) of [taps][k][n], each with its strides; dense in the destination one after the other.
struct Packing {
  int64_t matrices, taps, k, n, width, lanes;
  std::vector<int64_t> matrix_offsets;
  std::vector<int64_t> tap_offsets;
  std::vector<int64_t> column_offsets;  // of columns that lie unevenly; n_stride is 0
  int64_t k_stride, n_stride;
  int64_t panels, matrix_size;
};

Packing packing_of(const BindContext& c) {
  Packing p{};
  const Layout& to = c.problem.results[0].layout;
  const Dims& dims = c.operands[0];
  const Dims strides = layout_strides(c.problem.operands[0].layout, dims);
  const size_t rank = dims.size();
  p.width = to.width;
  p.lanes = to.lanes;
  if (product(dims) == 0) return p;  // other extents may be of any size
  // Offsets of every position of the axes [begin, end).
  const auto offsets = [&](size_t begin, size_t end) {
    std::vector<int64_t> out{0};
    for (size_t a = begin; a < end; ++a) {
      std::vector<int64_t> next;
      for (int64_t o : out)
        for (int64_t i = 0; i < dims[a]; ++i) next.push_back(o + i * strides[a]);
      out = std::move(next);
    }
    return out;
  };
  if (to.kind == Layout::Kind::matrix_panels) {
    const size_t k_axis = to.transposed ? rank - 1 : rank - 2, n_axis = to.transposed ? rank - 2 : rank - 1;
    p.k = dims[k_axis];
    p.n = dims[n_axis];
    p.k_stride = strides[k_axis];
    p.n_stride = strides[n_axis];
    p.taps = 1;
    p.tap_offsets = {0};
    p.matrix_offsets = offsets(0, rank - 2);
  } else if (to.transposed) {
    p.k = dims[0] / to.groups;
    if (p.k == 0) return p;  // more groups than channels: nothing is stored
    p.k_stride = strides[0];
    for (int64_t g = 0; g < to.groups; ++g) p.matrix_offsets.push_back(g * p.k * strides[0]);
    if (!to.phases.empty()) {
      const std::vector<int64_t> taps = offsets(2, rank);
      for (const int64_t tap : taps_by_phase(to, std::span(dims).subspan(2)))
        p.tap_offsets.push_back(taps[static_cast<size_t>(tap)]);
      p.n = dims[1];
      p.n_stride = strides[1];
    } else {
      p.tap_offsets = {0};
      for (int64_t tap : offsets(2, rank))
        for (int64_t i = 0; i < dims[1]; ++i) p.column_offsets.push_back(tap + i * strides[1]);
      p.n = static_cast<int64_t>(p.column_offsets.size());
    }
    p.taps = static_cast<int64_t>(p.tap_offsets.size());
  } else {
    p.n = dims[0] / to.groups;
    if (p.n == 0) return p;  // more groups than columns: nothing is stored
    p.k = dims[1];
    p.n_stride = strides[0];
    p.k_stride = strides[1];
    p.tap_offsets = offsets(2, rank);
    p.taps = static_cast<int64_t>(p.tap_offsets.size());
    for (int64_t g = 0; g < to.groups; ++g) p.matrix_offsets.push_back(g * p.n * strides[0]);
  }
  p.matrices = static_cast<int64_t>(p.matrix_offsets.size());
  p.panels = (p.n + p.width - 1) / p.width;
  p.matrix_size = (p.n + p.lanes - 1) / p.lanes * p.lanes * p.k * p.taps;
  return p;
}

void bind(const Kernel&, const void*, const BindContext& c, Bound& bound) {
  const Packing& p = emplace<Packing>(bound) = packing_of(c);
  bound.chunks[0] = p.matrices * p.panels;
}

// Columns [first, first + columns) of a row.
void copy_row(const Packing& p, const float* from, int64_t first, int64_t columns, float* to) {
  if (!p.column_offsets.empty()) {
    const int64_t* at = p.column_offsets.data() + first;
    for (int64_t i = 0; i < columns; ++i) to[i] = from[at[i]];
  } else {
    from += first * p.n_stride;
    for (int64_t i = 0; i < columns; ++i) to[i] = from[i * p.n_stride];
  }
}

Status run(const Launch& launch) {
  const Packing& p = launch.bound->as<Packing>();
  const int64_t matrix = launch.chunk / p.panels, panel = launch.chunk % p.panels;
  const auto* source = static_cast<const float*>(launch.operands[0]) + p.matrix_offsets[static_cast<size_t>(matrix)];
  const int64_t first = panel * p.width;
  const int64_t columns = std::min(p.width, p.n - first);
  const int64_t stored = (columns + p.lanes - 1) / p.lanes * p.lanes;
  auto* to = static_cast<float*>(launch.operands[1]) + matrix * p.matrix_size + first * p.k * p.taps;
  for (int64_t t = 0; t < p.taps; ++t)
    for (int64_t k = 0; k < p.k; ++k) {
      copy_row(p, source + p.tap_offsets[static_cast<size_t>(t)] + k * p.k_stride, first, columns, to);
      for (int64_t i = columns; i < stored; ++i) to[i] = 0;
      to += stored;
    }
  return {};
}

// ---- by the loops that read them: 16 bits, in rows or as planes

Answer supports_narrow(const Kernel& kernel, const Problem& problem, const DeviceSpec& device) {
  if (Answer a = supports_f32(problem, false); !a) return a;
  const Layout& to = problem.results[0].layout;
  const bool planes = plane_count(to.numbers) > 0;
  if (planes != *static_cast<const bool*>(kernel.self)) return Answer::no("the panels hold other numbers");
  const ContractTable* table = contract_table(device, to.numbers);
  if (table == nullptr) return Answer::no("the instruction set level does not multiply such numbers");
  if (to.lanes != table->lanes || (planes && to.width != table->panel_width(0)))
    return Answer::no("panels of another width");
  if (!problem.operands[0].layout.is_row_major()) return Answer::no("the operand must be row-major");
  const Shape& shape = *problem.operands[0].type.shape;
  if (to.run > 1 && (!planes || shape.back() != Dim(to.run)))
    return Answer::no("taps are taken together in another way");
  return Answer::yes();
}

std::shared_ptr<const void> prepare_narrow(const Kernel&, const Problem& problem, const Config&,
                                           const DeviceSpec& device) {
  return std::make_shared<const ContractTable*>(contract_table(device, problem.results[0].layout.numbers));
}

struct NarrowPacking {
  const ContractTable* table;
  Packing from;  // of transposed convolutions, which has taps: panels are gathered in the scratch
  PackArgs args;
  int64_t panels, matrix_size, matrix_stride;
};

void bind_narrow(const Kernel&, const void* prepared, const BindContext& c, Bound& bound) {
  NarrowPacking& p = emplace<NarrowPacking>(bound);
  const Layout& to = c.problem.results[0].layout;
  const Dims& dims = c.operands[0];
  const size_t rank = dims.size();
  p.table = *static_cast<const ContractTable* const*>(prepared);
  p.args.nr = to.width;
  p.args.run = to.run;
  bound.chunks[0] = 0;
  if (product(dims) == 0) return;
  int64_t matrices = to.groups;
  if (to.kind == Layout::Kind::matrix_panels) {
    matrices = product(dims, 0, rank - 2);
    p.args.k = dims[to.transposed ? rank - 1 : rank - 2];
    p.args.n = dims[to.transposed ? rank - 2 : rank - 1];
    p.args.k_stride = to.transposed ? 1 : p.args.n;
    p.args.n_stride = to.transposed ? p.args.k : 1;
    p.matrix_stride = p.args.k * p.args.n;
  } else if (to.transposed) {
    p.from = packing_of(c);
    p.args.n = p.from.n;
    p.args.k = p.from.k;
    p.args.taps = p.from.taps;
    p.args.k_stride = p.args.nr;
    p.args.n_stride = 1;
    p.args.tap_stride = checked_mul(p.args.k, p.args.nr, "scratch");
    bound.scratch = byte_size(DType::f32, checked_mul(p.args.taps, p.args.tap_stride, "scratch"));
  } else {
    p.args.n = dims[0] / to.groups;
    p.args.k = dims[1];
    p.args.taps = product(dims, 2, rank);
    p.args.tap_stride = 1;
    p.args.k_stride = p.args.taps;
    p.args.n_stride = p.args.k * p.args.taps;
    p.matrix_stride = p.args.n * p.args.n_stride;
  }
  if (p.args.n == 0) return;
  p.panels = (p.args.n + p.args.nr - 1) / p.args.nr;
  p.matrix_size = p.table->packed_size(p.args.taps, p.args.k, p.args.n, p.args.nr, p.args.run);
  bound.chunks[0] = matrices * p.panels;
}

Status run_narrow(const Launch& launch) {
  const NarrowPacking& p = launch.bound->as<NarrowPacking>();
  const int64_t matrix = launch.chunk / p.panels, n = launch.chunk % p.panels * p.args.nr;
  PackArgs args = p.args;
  const auto* source = static_cast<const float*>(launch.operands[0]);
  if (p.from.taps > 0) {
    auto* rows = reinterpret_cast<float*>(launch.scratch);
    args.n = std::min(args.nr + int64_t{0}, args.n - n);
    source += p.from.matrix_offsets[static_cast<size_t>(matrix)];
    for (int64_t t = 0; t < args.taps; ++t)
      for (int64_t k = 0; k < args.k; ++k)
        copy_row(p.from, source + p.from.tap_offsets[static_cast<size_t>(t)] + k * p.from.k_stride, n, args.n,
                 rows + t * args.tap_stride + k * args.nr);
    args.src = rows;
    p.table->pack_b(args, 0, args.n,
                    static_cast<float*>(launch.operands[1]) + matrix * p.matrix_size +
                        p.table->packed_size(args.taps, args.k, n, args.nr, 1));
    return {};
  }
  args.src = source + matrix * p.matrix_stride;
  p.table->pack_b(args, n, std::min(args.n, n + args.nr),
                  static_cast<float*>(launch.operands[1]) + matrix * p.matrix_size);
  return {};
}

// ---- bytes

Answer supports_bytes(const Kernel&, const Problem& problem, const DeviceSpec&) {
  if (Answer a = packs(problem); !a) return a;
  if (!is_byte(problem.operands[0].type.dtype)) return Answer::no("not 8-bit integers");
  const Layout& to = problem.results[0].layout;
  if (to.kind == Layout::Kind::conv_panels && to.transposed) return Answer::no("panels of a transposed convolution");
  if (to.numbers != PanelNumbers::plain || to.width != integer_columns || to.lanes != BytePanels::tile)
    return Answer::no("panels of another width");
  return Answer::yes();
}

struct BytePacking {
  Packing from;
  BytePanels to;
  const IntegerTable* table;
  uint8_t flip;
};

void bind_bytes(const Kernel&, const void* prepared, const BindContext& c, Bound& bound) {
  BytePacking& p = emplace<BytePacking>(bound);
  p.from = packing_of(c);
  p.table = *static_cast<const IntegerTable* const*>(prepared);
  p.flip = c.problem.operands[0].type.dtype == DType::u8 ? 0x80 : 0;
  p.to = {p.from.taps * p.from.k, p.from.n, p.from.width, p.from.lanes};
  bound.chunks[0] = p.from.matrices * p.from.panels;
  bound.scratch = checked_mul(p.to.k, integer_columns, "scratch");
}

Status run_bytes(const Launch& launch) {
  const BytePacking& p = launch.bound->as<BytePacking>();
  const Packing& f = p.from;
  const int64_t matrix = launch.chunk / f.panels, first = launch.chunk % f.panels * f.width;
  const int64_t columns = std::min(f.width, f.n - first);
  const auto* source = static_cast<const uint8_t*>(launch.operands[0]) + f.matrix_offsets[static_cast<size_t>(matrix)] +
                       first * f.n_stride;
  auto* matrix_to = static_cast<std::byte*>(launch.operands[1]) + matrix * p.to.bytes();
  std::byte* to = matrix_to + p.to.panel_at(first);
  std::memset(to, 0, static_cast<size_t>(p.to.stored(columns) * (p.to.padded_k() + 4)));
  auto* rows = reinterpret_cast<uint8_t*>(launch.scratch);
  int32_t sums[integer_columns] = {};
  for (int64_t t = 0; t < f.taps; ++t)
    for (int64_t k = 0; k < f.k; ++k) {
      const uint8_t* from = source + f.tap_offsets[static_cast<size_t>(t)] + k * f.k_stride;
      uint8_t* row = rows + (t * f.k + k) * integer_columns;
      for (int64_t i = 0; i < columns; ++i) {
        row[i] = from[i * f.n_stride];
        sums[i] += static_cast<int8_t>(row[i] ^ p.flip);
      }
      std::memset(row + columns, 0, static_cast<size_t>(integer_columns - columns));
    }
  p.table->pack_panel(rows, p.to.k, integer_columns, columns, p.flip, to);
  std::memcpy(matrix_to + p.to.sum_at(first), sums, static_cast<size_t>(columns) * sizeof(int32_t));
  return {};
}

constexpr bool makes_planes = true, makes_rows = false;  // Kernel::self

constexpr Kernel narrow_row(const char* name, const bool* makes) {
  return {.name = name,
          .self = makes,
          .supports = supports_narrow,
          .needs = needs,
          .cost = cost,
          .prepare = prepare_narrow,
          .bind = bind_narrow,
          .run = run_narrow};
}

}  // namespace

std::span<const Kernel> packing_kernels() {
  static const Kernel rows[] = {
      {.name = "pack_f32", .supports = supports, .needs = needs, .cost = cost, .bind = bind, .run = run},
      narrow_row("pack_planes", &makes_planes),
      narrow_row("pack_rounded", &makes_rows),
      {.name = "pack_bytes",
       .supports = supports_bytes,
       .needs = needs,
       .cost = cost,
       .prepare = prepare_integer,
       .bind = bind_bytes,
       .run = run_bytes}};
  return rows;
}

}  // namespace sinter::cpu
