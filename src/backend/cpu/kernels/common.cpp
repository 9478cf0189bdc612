#include "backend/cpu/kernels/common.h"

#include <fmt/core.h>

namespace sinter::cpu {

Answer plain_problem(const Problem& problem) {
  for (const Operand& operand : problem.operands) {
    if (!operand.type.is_plain()) return Answer::no("an operand is no plain tensor");
    if (operand.host && std::holds_alternative<std::monostate>(operand.contents))
      return Answer::no("a host operand is known only at run time");
    if (bit_size(operand.type.dtype) < 8) return Answer::no("elements smaller than a byte");
  }
  // Contents reach kernels when shapes are bound, and only for host operands; all others are read from memory.
  for (const Stage& stage : problem.stages)
    for (size_t i = 0; i < stage.inputs.size(); ++i) {
      const uint16_t v = stage.inputs[i];
      if (v == absent_operand) continue;
      const bool host = i < 64 && (stage.op->host_inputs >> i & 1);
      const bool known =
          v < problem.operands.size() && !std::holds_alternative<std::monostate>(problem.operands[v].contents);
      if (host && !known) return Answer::no("a host operand is known only at run time");
      if (!host && known) return Answer::no("a device operand is given as known contents");
    }
  for (const Problem::Result& result : problem.results) {
    const Type& type = problem.types[result.value];
    if (!type.is_plain()) return Answer::no("a result is no plain tensor");
    if (bit_size(type.dtype) < 8) return Answer::no("elements smaller than a byte");
  }
  if (!problem.defined.empty()) return Answer::no("extents are found out by running");
  return Answer::yes();
}

Answer row_major_problem(const Problem& problem) {
  if (Answer a = plain_problem(problem); !a) return a;
  for (const Operand& operand : problem.operands)
    if (!row_major_or_any(operand.layout)) return Answer::no("operands must be row-major");
  for (const Problem::Result& result : problem.results)
    if (!row_major_or_any(result.layout)) return Answer::no("results must be row-major");
  return Answer::yes();
}

Answer row_major_problem(const Problem& problem, std::string_view name) {
  if (problem.stages.size() != 1 || !is_op(problem.stages[0], name)) return Answer::no("another operator");
  return row_major_problem(problem);
}

Answer is_image(const Problem& problem, uint16_t value) {
  if (value >= problem.operands.size()) return Answer::no("an operand is made by a stage");
  const Operand& operand = problem.operands[value];
  if (operand.type.dtype != DType::f32 && operand.type.dtype != DType::bf16)
    return Answer::no("the operand must be f32 or bf16");
  if (operand.host || !std::holds_alternative<std::monostate>(operand.contents))
    return Answer::no("an operand lies on the host");
  return Answer::yes();
}
Needs row_major_needs(const Kernel&, const Problem& problem, const Config&, const DeviceSpec&) {
  return {std::vector<Layout>(problem.operands.size()), std::vector<Layout>(problem.results.size())};
}

Needs settled_needs(const Kernel&, const Problem& problem, const Config&, const DeviceSpec&) {
  Needs out;
  for (const Operand& operand : problem.operands) out.operands.push_back(settled(operand.layout));
  for (const Problem::Result& result : problem.results) out.results.push_back(settled(result.layout));
  return out;
}

Needs image_needs(const Problem& problem, uint16_t x, const Layout& layout) {
  Needs out;
  for (size_t i = 0; i < problem.operands.size(); ++i)
    out.operands.push_back(i == x ? layout : settled(problem.operands[i].layout));
  out.results.push_back(layout);
  return out;
}

}  // namespace sinter::cpu
