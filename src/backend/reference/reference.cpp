// The reference row: takes any problem and runs its stages by their definitions. The last resort of every build, and
// the judge of every other row.

#include <fmt/core.h>

#include "backend/definition.h"
#include "backend/kernel.h"

namespace sinter {
namespace {

Answer supports(const Kernel&, const Problem& problem, const DeviceSpec&) {
  for (const Operand& operand : problem.operands)
    if (!operand.layout.is_row_major() && operand.layout.kind != Layout::Kind::any)
      return Answer::no("operands must be row-major");
  for (const Problem::Result& result : problem.results)
    if (!result.layout.is_row_major() && result.layout.kind != Layout::Kind::any)
      return Answer::no("results must be row-major");
  for (const Stage& stage : problem.stages)
    if (!stage.op->eval && !stage.op->pointwise)
      return Answer::no(fmt::format("{} has no reference evaluation", stage.op->name));
  return Answer::yes();
}

Needs needs(const Kernel&, const Problem& problem, const Config&, const DeviceSpec&) {
  return {std::vector<Layout>(problem.operands.size()), std::vector<Layout>(problem.results.size())};
}

double cost(const Kernel&, const Problem& problem, std::span<const int64_t> symbols, const DeviceSpec&) {
  double elements = 1;
  for (const Type& type : problem.types) {
    if (!type.is_plain()) continue;
    double n = 1;
    for (const Dim& d : *type.shape) n *= static_cast<double>(std::max<int64_t>(1, d.evaluate(symbols)));
    elements += n;
  }
  return 1e4 + 50 * elements;
}

void bind(const Kernel&, const void*, const BindContext&, Bound&) {}

Status run(const Launch& launch) {
  const Problem& problem = *launch.problem;
  std::vector<Box> values(problem.types.size());
  std::vector<const Box*> pointers(problem.types.size(), nullptr);
  try {
    for (size_t i = 0; i < problem.operands.size(); ++i) {
      const auto* known = std::get_if<Tensor>(&problem.operands[i].contents);
      if (known) {
        values[i] = Box(*known);
        pointers[i] = &values[i];
      } else {
        pointers[i] = launch.boxes[i];
      }
    }
    evaluate_stages(problem, pointers, values);
    for (size_t r = 0; r < problem.results.size(); ++r)
      *launch.boxes[problem.operands.size() + r] = values[problem.results[r].value];
  } catch (const Error& error) {
    return Status(error);
  }
  return {};
}

constexpr Kernel row = {
    .name = "any", .supports = supports, .needs = needs, .cost = cost, .bind = bind, .run = run, .takes_boxes = true};

std::span<const Kernel* const> kernels() {
  static constexpr const Kernel* list[] = {&row};
  return list;
}

DeviceSpec describe() { return {}; }

}  // namespace

const Backend& reference_backend() {
  static constexpr Backend backend = {"reference", kernels, describe};
  return backend;
}

}  // namespace sinter
