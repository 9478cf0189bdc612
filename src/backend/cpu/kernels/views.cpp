#include "backend/cpu/kernels/views.h"

#include <fmt/core.h>

#include <algorithm>

#include "backend/cpu/kernels/common.h"
#include "base/checked.h"
#include "ops/movement.h"
#include "ops/views.h"

namespace sinter::cpu {
namespace {

bool reshapes(const Stage& stage) {
  return is_op(stage, "Reshape") || is_op(stage, "Squeeze") || is_op(stage, "Unsqueeze") || is_op(stage, "Flatten");
}

Dims cut_strides(const StridedView& x, const Dims& to) {
  Dims strides(to.size(), 0);
  size_t at = 0;
  const auto fail = [] { throw Error(Code::invalid_argument, "a view does not fit the extents of its operand"); };
  for (size_t k = 0; k < x.dims.size(); ++k) {
    if (x.dims[k] == 1) continue;
    const size_t first = at;
    int64_t product = 1;
    while (at < to.size() && product < x.dims[k]) product = checked_mul(product, to[at++], "view");
    if (product != x.dims[k]) fail();
    int64_t stride = x.strides[k];
    for (size_t j = at; j-- > first;) {
      strides[j] = to[j] == 1 ? 0 : stride;
      stride *= to[j];
    }
  }
  for (; at < to.size(); ++at)
    if (to[at] != 1) fail();
  return strides;
}

void slice(const BindContext& c, const Stage& stage, const Dims& y, StridedView& x) {
  const auto numbers = [&](size_t i) {
    return has(stage, i) ? c.host[stage.inputs[i]]->to_integers() : std::vector<int64_t>();
  };
  const std::vector<int64_t> starts = numbers(1), axes = numbers(3), steps = numbers(4);
  const auto rank = static_cast<int64_t>(x.dims.size());
  for (size_t i = 0; i < starts.size(); ++i) {
    int64_t axis = axes.empty() ? static_cast<int64_t>(i) : axes[i];
    if (axis < 0) axis += rank;
    const auto a = static_cast<size_t>(axis);
    const int64_t step = steps.empty() ? 1 : steps[i];
    x.offset += slice_begin(starts[i], x.dims[a], step) * x.strides[a];
    x.strides[a] = y[a] > 1 ? x.strides[a] * step : 0;
  }
}

}  // namespace

size_t stage_of(const Problem& problem, uint16_t value) {
  const auto& first = problem.first_result;
  return static_cast<size_t>(std::upper_bound(first.begin(), first.end(), value) - first.begin()) - 1;
}

uint16_t viewed_operand(const Problem& problem, uint16_t value) {
  while (value >= problem.operands.size()) value = problem.stages[stage_of(problem, value)].inputs[0];
  return value;
}

Answer view_supported(const Problem& problem, uint16_t value) {
  while (value >= problem.operands.size()) {
    const Stage& stage = problem.stages[stage_of(problem, value)];
    if (!has(stage, 0)) return Answer::no("a view of nothing");
    std::vector<const Contents*> contents;
    const Contents computed;
    for (uint16_t v : stage.inputs)
      contents.push_back(v == absent_operand           ? nullptr
                         : v < problem.operands.size() ? &problem.operands[v].contents
                                                       : &computed);
    if (Answer a = is_strided_view(*stage.op, problem.types[stage.inputs[0]], problem.types[value], contents); !a)
      return a;
    value = stage.inputs[0];
  }
  const Operand& operand = problem.operands[value];
  if (operand.host || !std::holds_alternative<std::monostate>(operand.contents))
    return Answer::no(fmt::format("operand {} lies on the host", value));
  if (!strided_or_any(operand.layout)) return Answer::no(fmt::format("operand {} is packed", value));
  return Answer::yes();
}

StridedView strided_view(const BindContext& c, uint16_t value) {
  if (value < c.problem.operands.size()) {
    const Dims& dims = c.operands[value];
    StridedView x{value, dims, Dims(dims.size(), 0), 0};
    if (product(dims) != 0) x.strides = layout_strides(c.problem.operands[value].layout, dims);
    return x;
  }
  const size_t s = stage_of(c.problem, value);
  const Stage& stage = c.problem.stages[s];
  StridedView x = strided_view(c, stage.inputs[0]);
  const Dims y = evaluate(*c.problem.types[value].shape, c.symbols);
  if (product(y) == 0 || product(x.dims) == 0) return {x.operand, y, Dims(y.size(), 0), 0};
  if (reshapes(stage)) {
    x.strides = cut_strides(x, y);
  } else if (is_op(stage, "Transpose")) {
    const std::vector<int64_t>& perm = stage.attrs.as<TransposeAttrs>().perm;
    const Dims from = x.strides;
    for (size_t k = 0; k < y.size(); ++k) {
      const int64_t p = perm.empty() ? static_cast<int64_t>(y.size() - 1 - k) : perm[k];
      x.strides[k] = from[static_cast<size_t>(p < 0 ? p + static_cast<int64_t>(y.size()) : p)];
    }
  } else if (is_op(stage, "Expand")) {
    Dims strides(y.size(), 0);
    const size_t lead = y.size() - x.dims.size();
    for (size_t k = 0; k < x.dims.size(); ++k) strides[lead + k] = x.dims[k] == 1 ? 0 : x.strides[k];
    x.strides = std::move(strides);
  } else if (is_op(stage, "Slice")) {
    slice(c, stage, y, x);
  } else if (is_op(stage, "Split")) {
    int64_t axis = stage.attrs.as<SplitAttrs>().axis;
    if (axis < 0) axis += static_cast<int64_t>(y.size());
    const std::vector<int64_t> sizes = c.host[stage.inputs[1]]->to_integers();
    const auto before = static_cast<size_t>(value - c.problem.first_result[s]);
    for (size_t k = 0; k < before; ++k) x.offset += sizes[k] * x.strides[static_cast<size_t>(axis)];
  }
  x.dims = y;
  return x;
}

}  // namespace sinter::cpu
