#include "backend/kernel.h"

#include <fmt/core.h>

#include <algorithm>

#include "base/caller_threads.h"

namespace sinter {

const char* fault_text(uint32_t fault) {
  switch (fault) {
    case no_fault: return "no fault";
    case index_out_of_range: return "an index is out of range";
    default: return "unknown fault";
  }
}

bool may_overwrite(const Kernel& kernel, const Problem& problem, size_t operand) {
  if (!kernel.may_overwrite || problem.results.size() != 1 || operand >= problem.operands.size()) return false;
  const Operand& over = problem.operands[operand];
  const Problem::Result& result = problem.results[0];
  const Type& made = problem.types[result.value];
  const bool alike =
      over.type == made || (kernel.overwrites_by_size && made.is_plain() && over.type.dtype == made.dtype);
  return !over.host && !over.constant && std::holds_alternative<std::monostate>(over.contents) &&
         over.type.is_plain() && alike && over.layout == result.layout && over.layout.has_strides() &&
         kernel.may_overwrite(kernel, problem, operand);
}

std::span<const Backend* const> backends() {
  static const Backend* const list[] = {&cpu_backend(), &reference_backend()};
  return list;
}

const Kernel* find_kernel(std::string_view qualified_name) {
  for (const Backend* backend : backends()) {
    const std::string_view prefix = backend->name;
    if (qualified_name.substr(0, prefix.size()) != prefix || qualified_name.size() <= prefix.size() ||
        qualified_name[prefix.size()] != '/')
      continue;
    for (const Kernel* kernel : backend->kernels())
      if (qualified_name.substr(prefix.size() + 1) == kernel->name) return kernel;
  }
  return nullptr;
}

DeviceSpec this_machine(int threads) {
  DeviceSpec spec = cpu_backend().describe();
  spec.threads = threads > 0 ? threads : static_cast<int>(default_thread_count());
  return spec;
}

}  // namespace sinter
