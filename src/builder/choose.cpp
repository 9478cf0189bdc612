#include "builder/choose.h"

#include <fmt/core.h>

#include <algorithm>
#include <map>
#include <memory>

#include "builder/problem_of.h"
#include "builder/timing.h"
#include "ir/graph.h"

namespace sinter {
namespace {

constexpr size_t max_timed = 4;         // rows that are measured
constexpr double clearly_faster = 0.9;  // of the time of the row that the model ranks first
constexpr double hopeless = 30;         // times that row's estimate: no estimate is so wrong

struct Candidate {
  const Kernel* kernel;
  std::string name;
  double nanoseconds;
  bool measured = false;
};

// Measures the rows ranked first; the winner comes to the front.
void time_candidates(std::vector<Candidate>& candidates, const Problem& problem, std::span<const int64_t> symbols,
                     const DeviceSpec& device, TimingCache& timings) {
  std::vector<TimingCache::Row> rows;
  for (const Candidate& c : candidates) {
    if (rows.size() == max_timed || c.nanoseconds > hopeless * candidates[0].nanoseconds) break;
    rows.push_back({c.kernel, c.name});
  }
  if (rows.size() < 2) return;
  timings.time(rows, problem, symbols, device);
  size_t best = 0;
  for (size_t i = 0; i < rows.size(); ++i) {
    Candidate& c = candidates[i];
    if (!rows[i].nanoseconds) return;  // estimates and times do not compare
    c.nanoseconds = *rows[i].nanoseconds;
    c.measured = true;
    if (c.nanoseconds < clearly_faster * candidates[0].nanoseconds && c.nanoseconds < candidates[best].nanoseconds)
      best = i;
  }
  std::swap(candidates[0], candidates[best]);
}

FragmentProblem in_any_layout(Module& module, const Graph& body, std::span<const Type> operand_types,
                              const std::vector<bool>& constant) {
  FragmentProblem made = problem_of(module, body, operand_types, constant);
  for (Operand& operand : made.problem.operands)
    if (!operand.host && operand.type.is_plain()) operand.layout = Layout::any();
  for (Problem::Result& result : made.problem.results) result.layout = Layout::any();
  return made;
}

// Of the best fast row.
std::optional<double> cost_of(const Module& module, const FragmentProblem& made, const DeviceSpec& device) {
  const auto chosen = choose_kernel(made.problem, likely_values(module, made), device, false);
  if (!chosen || chosen->reference) return std::nullopt;
  return chosen->decision.nanoseconds;
}

}  // namespace

std::optional<double> cost_of_fragment(Module& module, const Graph& body, std::span<const Type> operand_types,
                                       const std::vector<bool>& constant, const DeviceSpec& device) {
  return cost_of(module, in_any_layout(module, body, operand_types, constant), device);
}

FastRows fast_rows(const DeviceSpec& device) {
  // Layers are alike.
  const auto known = std::make_shared<std::map<std::string, bool>>();
  return [device, known](const Module& module, const Graph& body, const std::vector<bool>& built) {
    std::vector<Type> types;
    for (ValueId v : body.inputs) types.push_back(body[v].type);
    // A question leaves no symbols behind.
    Module asked;
    asked.symbols = module.symbols;
    try {
      const FragmentProblem made = in_any_layout(asked, body, types, built);
      const auto [at, fresh] = known->try_emplace(to_text(made.problem), false);
      if (fresh) at->second = cost_of(asked, made, device).has_value();
      return at->second;
    } catch (const Error&) {
      return false;  // the operator does not take these types
    }
  };
}

std::optional<Chosen> choose_kernel(const Problem& problem, std::span<const int64_t> symbols, const DeviceSpec& device,
                                    bool reference_only, TimingCache* timings) {
  std::vector<Candidate> candidates;
  std::vector<std::string> refusals;
  bool reference = false;
  for (const Backend* backend : backends()) {
    reference = std::string_view(backend->name) == "reference";
    if (reference_only && !reference) continue;
    if (reference && !candidates.empty()) {
      reference = false;
      break;  // the last resort
    }
    for (const Kernel* kernel : backend->kernels()) {
      std::string name = fmt::format("{}/{}", backend->name, kernel->name);
      if (const Answer answer = kernel->supports(*kernel, problem, device); !answer)
        refusals.push_back(fmt::format("{}: {}", name, answer.reason()));
      else
        candidates.push_back({kernel, std::move(name), kernel->cost(*kernel, problem, symbols, device), false});
    }
  }
  if (candidates.empty()) return std::nullopt;
  std::stable_sort(candidates.begin(), candidates.end(),
                   [](const Candidate& a, const Candidate& b) { return a.nanoseconds < b.nanoseconds; });
  if (timings && candidates.size() > 1 && !reference) time_candidates(candidates, problem, symbols, device, *timings);
  for (size_t i = 1; i < candidates.size(); ++i)
    refusals.push_back(fmt::format("{}: {} {:.0f} ns", candidates[i].name,
                                   candidates[i].measured ? "measured at" : "estimated at", candidates[i].nanoseconds));
  Chosen chosen;
  chosen.kernel = candidates[0].kernel;
  chosen.reference = reference;
  chosen.needs = chosen.kernel->needs(*chosen.kernel, problem, Config(), device);
  chosen.decision.kernel = std::move(candidates[0].name);
  chosen.decision.nanoseconds = candidates[0].nanoseconds;
  chosen.decision.measured = candidates[0].measured;
  chosen.decision.refusals = std::move(refusals);
  return chosen;
}

}  // namespace sinter
