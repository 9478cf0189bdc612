#include "builder/choose.h"

#include <fmt/format.h>

namespace sinter {

std::optional<Chosen> choose_kernel(const Problem& problem, std::span<const int64_t> symbols, const DeviceSpec& device,
                                    bool reference_only) {
  std::optional<Chosen> best;
  std::vector<std::string> refusals;
  for (const Backend* backend : backends()) {
    const bool reference = std::string_view(backend->name) == "reference";
    if (reference_only && !reference) continue;
    if (reference && best) break;  // the last resort
    for (const Kernel* kernel : backend->kernels()) {
      const Answer answer = kernel->supports(*kernel, problem, device);
      if (!answer) {
        refusals.push_back(fmt::format("{}/{}: {}", backend->name, kernel->name, answer.reason()));
        continue;
      }
      const double cost = kernel->cost(*kernel, problem, symbols, device);
      if (best && best->decision.nanoseconds <= cost) {
        refusals.push_back(fmt::format("{}/{}: estimated at {:.0f} ns", backend->name, kernel->name, cost));
        continue;
      }
      Chosen chosen;
      chosen.kernel = kernel;
      chosen.reference = reference;
      chosen.needs = kernel->needs(*kernel, problem, Config(), device);
      chosen.decision.kernel = fmt::format("{}/{}", backend->name, kernel->name);
      chosen.decision.nanoseconds = cost;
      best = std::move(chosen);
    }
  }
  if (best) best->decision.refusals = std::move(refusals);
  return best;
}

}  // namespace sinter
