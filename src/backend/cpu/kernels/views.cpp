#include "backend/cpu/kernels/views.h"

#include <fmt/core.h>

#include <algorithm>

#include "backend/cpu/kernels/common.h"
#include "base/checked.h"
#include "ops/movement.h"
#include "ops/views.h"

namespace sinter::cpu {
namespace {

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

std::vector<const Contents*> contents_of(const Problem& problem, const Stage& stage) {
  static const Contents computed;
  std::vector<const Contents*> out;
  for (uint16_t v : stage.inputs)
    out.push_back(v == absent_operand           ? nullptr
                  : v < problem.operands.size() ? &problem.operands[v].contents
                                                : &computed);
  return out;
}

uint16_t viewed_operand(const Problem& problem, uint16_t value) {
  while (value >= problem.operands.size()) value = problem.stages[stage_of(problem, value)].inputs[0];
  return value;
}

Answer view_supported(const Problem& problem, uint16_t value, size_t matrix) {
  const size_t rank = problem.types[value].is_plain() ? problem.types[value].shape->size() : 0;
  std::vector<bool> two_strides(rank, false);
  for (size_t k = 0; k + matrix < rank; ++k) two_strides[k] = true;
  while (value >= problem.operands.size()) {
    const Stage& stage = problem.stages[stage_of(problem, value)];
    if (!has(stage, 0)) return Answer::no("a view of nothing");
    if (is_op(stage, "Cast")) {
      value = stage.inputs[0];
      continue;
    }
    const std::vector<const Contents*> contents = contents_of(problem, stage);
    if (Answer a = is_strided_view(*stage.op, stage.attrs, problem.types[stage.inputs[0]], problem.types[value],
                                   contents, two_strides);
        !a)
      return a;
    value = stage.inputs[0];
  }
  const Operand& operand = problem.operands[value];
  if (operand.host || !std::holds_alternative<std::monostate>(operand.contents))
    return Answer::no(fmt::format("operand {} lies on the host", value));
  if (!strides_or_any(operand.layout)) return Answer::no(fmt::format("operand {} is packed", value));
  return Answer::yes();
}

StridedView regrouped(const StridedView& x, const Dims& to) {
  StridedView y(x.operand, to);
  y.offset = x.offset;
  const auto fail = [] { throw Error(Code::invalid_argument, "a view does not fit the extents of its operand"); };
  if (product(to) == 0) return y;
  size_t at = 0;
  // Axes of y from `at` on for `count` positions that are `stride` apart.
  const auto cut = [&](int64_t count, int64_t stride) {
    const size_t first = at;
    int64_t product = 1;
    while (at < to.size() && product < count) product = checked_mul(product, to[at++], "view");
    if (product != count) fail();
    for (size_t j = at; j-- > first;) {
      y.strides[j] = to[j] == 1 ? 0 : stride;
      stride *= to[j];
    }
  };
  for (size_t k = 0; k < x.dims.size(); ++k) {
    if (x.dims[k] == 1) continue;
    while (at < to.size() && to[at] == 1) ++at;
    if (at == to.size()) fail();
    if (to[at] <= x.dims[k]) {
      const size_t first = at;
      cut(x.dims[k], x.strides[k]);
      if (x.inner[k] == 0) continue;
      if (to[first] != x.dims[k]) fail();
      y.inner[first] = x.inner[k];
      y.outer[first] = x.outer[k];
      continue;
    }
    const size_t joined = at++;
    const int64_t whole = x.dims[k], outer = x.strides[k], front = to[joined] / whole;
    for (++k; k < x.dims.size() && x.dims[k] == 1;) ++k;
    if (k == x.dims.size() || to[joined] % whole != 0 || x.dims[k] % front != 0) fail();
    const int64_t rest = x.dims[k] / front;
    y.strides[joined] = x.strides[k] * rest;
    y.inner[joined] = front;
    y.outer[joined] = outer;
    cut(rest, x.strides[k]);
  }
  for (; at < to.size(); ++at)
    if (to[at] != 1) fail();
  return y;
}

StridedView strided_view(const BindContext& c, uint16_t value) {
  if (value < c.problem.operands.size()) {
    StridedView x(value, c.operands[value]);
    if (product(x.dims) != 0) x.strides = layout_strides(c.problem.operands[value].layout, x.dims);
    return x;
  }
  const size_t s = stage_of(c.problem, value);
  const Stage& stage = c.problem.stages[s];
  StridedView x = strided_view(c, stage.inputs[0]);
  const Dims dims = evaluate(*c.problem.types[value].shape, c.symbols);
  StridedView y(x.operand, dims);
  if (product(dims) == 0 || product(x.dims) == 0) return y;
  if (is_op(stage, "Transpose")) {
    const std::vector<int64_t>& perm = stage.attrs.as<TransposeAttrs>().perm;
    y.offset = x.offset;
    for (size_t k = 0; k < dims.size(); ++k) {
      int64_t p = perm.empty() ? static_cast<int64_t>(dims.size() - 1 - k) : perm[k];
      if (p < 0) p += static_cast<int64_t>(dims.size());
      const auto from = static_cast<size_t>(p);
      y.strides[k] = x.strides[from];
      y.inner[k] = x.inner[from];
      y.outer[k] = x.outer[from];
    }
    return y;
  }
  if (is_op(stage, "Expand")) {
    y.offset = x.offset;
    const size_t lead = dims.size() - x.dims.size();
    for (size_t k = 0; k < x.dims.size(); ++k) y.strides[lead + k] = x.dims[k] == 1 ? 0 : x.strides[k];
    return y;
  }
  if (is_op(stage, "Slice")) {
    slice(c, stage, dims, x);
  } else if (is_op(stage, "Split")) {
    int64_t axis = stage.attrs.as<SplitAttrs>().axis;
    if (axis < 0) axis += static_cast<int64_t>(dims.size());
    const std::vector<int64_t> sizes = c.host[stage.inputs[1]]->to_integers();
    const auto before = static_cast<size_t>(value - c.problem.first_result[s]);
    for (size_t k = 0; k < before; ++k) x.offset += sizes[k] * x.strides[static_cast<size_t>(axis)];
  } else if (!is_op(stage, "Identity") && !is_op(stage, "Cast")) {
    return regrouped(x, dims);
  }
  x.dims = dims;
  return x;
}

}  // namespace sinter::cpu
