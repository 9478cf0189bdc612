// MaxPool plane by plane, row-major: of f32 with the indices of its maxima, and of bytes. Without indices, both are
// pooled with channels in the lanes as well (spatial.cpp, pooling_bytes.cpp), which is faster.

#include <limits>

#include "backend/cpu/kernels/common.h"
#include "backend/cpu/kernels/contraction.h"
#include "backend/cpu/kernels/convolution.h"
#include "backend/cpu/kernels/families.h"
#include "base/checked.h"
#include "ops/pooling.h"

namespace sinter::cpu {
namespace {

Answer supports(const Kernel&, const Problem& problem, const DeviceSpec&) {
  if (problem.stages.size() != 1 || !is_op(problem.stages[0], "MaxPool")) return Answer::no("not a MaxPool");
  if (Answer a = plain_problem(problem); !a) return a;
  const Stage& stage = problem.stages[0];
  const MaxPoolAttrs& attrs = stage.attrs.as<MaxPoolAttrs>();
  if (stage.inputs.size() != 1 || stage.inputs[0] >= problem.operands.size() || problem.operands[stage.inputs[0]].host)
    return Answer::no("not one operand on the device");
  const Operand& x = problem.operands[stage.inputs[0]];
  if (x.type.dtype != DType::f32 && x.type.dtype != DType::u8 && x.type.dtype != DType::i8)
    return Answer::no("elements must be f32 or bytes");
  const size_t rank = x.type.shape->size();
  if (rank < 3 || attrs.kernel.size() != rank - 2) return Answer::no("the kernel has another rank");
  if (Answer a = window_known(rank - 2, window_ref(attrs)); !a) return a;
  if (!row_major_or_any(x.layout)) return Answer::no("the operand must be row-major");
  if (problem.results.empty() || problem.results.size() > 2) return Answer::no("not one or two results");
  bool seen[2] = {};
  for (const Problem::Result& result : problem.results) {
    if (!row_major_or_any(result.layout)) return Answer::no("results must be row-major");
    bool& here = seen[result.value - problem.first_result[0]];
    if (here) return Answer::no("a result stands twice");
    here = true;
  }
  // This row would win where the operand lies row-major already, and lose what channels last gain.
  if (x.type.dtype == DType::f32 && !seen[1]) return Answer::no("no indices are wanted");
  return Answer::yes();
}

double cost(const Kernel&, const Problem& problem, std::span<const int64_t> symbols, const DeviceSpec&) {
  double taps = 1;
  for (int64_t k : problem.stages[0].attrs.as<MaxPoolAttrs>().kernel) taps *= static_cast<double>(k);
  return 1000 + 2 * taps * elements_at(problem.types[problem.first_result[0]], symbols);
}

struct Plan {
  Window window;
  int64_t planes = 0, in = 0, out = 0;  // elements of a plane
  int values = -1, indices = -1;        // results
  bool column_major = false;
};

void bind(const Kernel&, const void*, const BindContext& c, Bound& bound) {
  const Stage& stage = c.problem.stages[0];
  const MaxPoolAttrs& attrs = stage.attrs.as<MaxPoolAttrs>();
  const Dims &x = c.operands[stage.inputs[0]], &y = c.results[0];
  Plan& p = emplace<Plan>(bound);
  bound.chunks[0] = 0;
  for (size_t r = 0; r < c.results.size(); ++r) {
    (c.problem.results[r].value == c.problem.first_result[0] ? p.values : p.indices) = static_cast<int>(r);
    if (c.results[r] != y || y.size() != x.size() || y[0] != x[0] || y[1] != x[1])
      throw Error(Code::invalid_argument, "the extents of a pooling do not fit together");
  }
  if (product(y) == 0) return;
  p.window = make_window(x, y, attrs.kernel, window_ref(attrs));
  p.column_major = attrs.column_major;
  p.planes = checked_mul(x[0], x[1], "planes");
  p.in = p.window.in[0] * p.window.in[1] * p.window.in[2];
  p.out = p.window.out[0] * p.window.out[1] * p.window.out[2];
  int64_t taps = 1;
  for (int64_t k : attrs.kernel) taps = checked_mul(taps, k, "taps");
  bound.chunks[0] = chunks_for(checked_mul(product(y), std::min<int64_t>(taps, 1 << 16), "work"), p.planes, c.threads);
}

template <typename T>
void pool(const Plan& p, const T* x, T lowest, T* values, int64_t* indices, Range planes) {
  const Window& w = p.window;
  for (int64_t plane = planes.begin; plane < planes.end; ++plane) {
    const T* from = x + plane * p.in;
    int64_t at = plane * p.out;
    for (int64_t od = 0; od < w.out[0]; ++od)
      for (int64_t oh = 0; oh < w.out[1]; ++oh)
        for (int64_t ow = 0; ow < w.out[2]; ++ow, ++at) {
          const int64_t start[3] = {od * w.stride[0] - w.pad[0], oh * w.stride[1] - w.pad[1],
                                    ow * w.stride[2] - w.pad[2]};
          Range r[3];
          for (int k = 0; k < 3; ++k) r[k] = taps_inside(start[k], w.dilation[k], w.kernel[k], w.in[k]);
          T best = lowest;
          int64_t where = -1;
          for (int64_t d = r[0].begin; d < r[0].end; ++d)
            for (int64_t h = r[1].begin; h < r[1].end; ++h) {
              const int64_t line =
                  ((start[0] + d * w.dilation[0]) * w.in[1] + start[1] + h * w.dilation[1]) * w.in[2] + start[2];
              for (int64_t k = r[2].begin; k < r[2].end; ++k) {
                const int64_t offset = line + k * w.dilation[2];
                const T v = from[offset];
                if (where < 0 || v > best || (v != v && best == best)) {  // the first NaN stays
                  best = v;
                  where = offset;
                }
              }
            }
          if (values) values[at] = best;
          if (!indices) continue;
          int64_t index = std::max<int64_t>(where, 0);
          if (p.column_major) {
            const int64_t i[3] = {index / (w.in[1] * w.in[2]), index / w.in[2] % w.in[1], index % w.in[2]};
            index = i[0] + w.in[0] * (i[1] + w.in[1] * i[2]);
          }
          indices[at] = plane * p.in + index;
        }
  }
}

Status run(const Launch& launch) {
  const Plan& p = launch.bound->as<Plan>();
  const size_t operands = launch.problem->operands.size();
  const auto result = [&](int r) { return r < 0 ? nullptr : launch.operands[operands + static_cast<size_t>(r)]; };
  const uint16_t v = launch.problem->stages[0].inputs[0];
  const Range planes = part(p.planes, launch.bound->chunks[0], launch.chunk);
  auto* indices = static_cast<int64_t*>(result(p.indices));
  const auto go = [&]<typename T>(T lowest) {
    pool(p, static_cast<const T*>(launch.operands[v]), lowest, static_cast<T*>(result(p.values)), indices, planes);
  };
  switch (launch.problem->types[v].dtype) {
    case DType::u8: go(uint8_t{0}); break;
    case DType::i8: go(int8_t{-128}); break;
    default: go(-std::numeric_limits<float>::infinity()); break;
  }
  return {};
}

constexpr Kernel rows[] = {
    {.name = "max_pool_planes", .supports = supports, .needs = settled_needs, .cost = cost, .bind = bind, .run = run},
};

}  // namespace

std::span<const Kernel> plane_kernels() { return rows; }

}  // namespace sinter::cpu
