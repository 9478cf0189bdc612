// Weights into the panels that contractions read: f32, from any strided layout. Runs in the init plan for constants,
// and as an ordinary step for weights that are computed.

#include "backend/cpu/kernels/common.h"
#include "backend/cpu/kernels/families.h"

namespace sinter::cpu {
namespace {

Answer supports(const Kernel&, const Problem& problem, const DeviceSpec&) {
  if (problem.stages.size() != 1 || !is_op(problem.stages[0], "Identity")) return Answer::no("not a layout change");
  if (Answer a = plain_problem(problem); !a) return a;
  if (problem.operands.size() != 1 || problem.results.size() != 1) return Answer::no("not one operand and one result");
  const Layout::Kind kind = problem.results[0].layout.kind;
  if (kind != Layout::Kind::matrix_panels && kind != Layout::Kind::conv_panels)
    return Answer::no("the result is not packed");
  if (problem.operands[0].type.dtype != DType::f32) return Answer::no("only f32 is packed");
  if (!problem.operands[0].layout.is_strided()) return Answer::no("the operand must be strided");
  return Answer::yes();
}

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
  int64_t k_stride, n_stride;
  int64_t panels, matrix_size;
};

void bind(const Kernel&, const void*, const BindContext& c, Bound& bound) {
  Packing& p = emplace<Packing>(bound);
  const Layout& to = c.problem.results[0].layout;
  const Dims& dims = c.operands[0];
  const Dims strides = layout_strides(c.problem.operands[0].layout, dims);
  const size_t rank = dims.size();
  p.width = to.width;
  p.lanes = to.lanes;
  bound.chunks[0] = 0;
  if (product(dims) == 0) return;  // other extents may be of any size
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
  } else {
    p.n = dims[0] / to.groups;
    if (p.n == 0) return;  // more groups than columns: nothing is stored
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
  bound.chunks[0] = p.matrices * p.panels;
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
      const float* from = source + p.tap_offsets[static_cast<size_t>(t)] + k * p.k_stride + first * p.n_stride;
      for (int64_t i = 0; i < columns; ++i) to[i] = from[i * p.n_stride];
      for (int64_t i = columns; i < stored; ++i) to[i] = 0;
      to += stored;
    }
  return {};
}

constexpr Kernel rows[] = {
    {.name = "pack_f32", .supports = supports, .needs = needs, .cost = cost, .bind = bind, .run = run},
};

}  // namespace

std::span<const Kernel> packing_kernels() { return rows; }

}  // namespace sinter::cpu
