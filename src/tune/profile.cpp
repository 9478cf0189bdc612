#include "tune/profile.h"

#include <algorithm>

#include "tune/compare.h"

namespace sinter {

void StepProfiler::before(const Frame&, const Step&, uint32_t) { start_ = std::chrono::steady_clock::now(); }

void StepProfiler::after(const Frame& frame, const Step& step, uint32_t choice) {
  const auto end = std::chrono::steady_clock::now();
  const auto [at, fresh] = numbers_.try_emplace(Key{&step, choice}, entries_.size());
  if (fresh) {
    const Target& target = frame.executable().target;
    Entry entry;
    entry.nodes = sources_text(target, step.sources);
    entry.kernel = target.kernels[step.choices[choice].kernel];
    entry.problem = to_text(target.problems[step.choices[choice].problem]);
    entries_.push_back(std::move(entry));
  }
  Entry& entry = entries_[at->second];
  ++entry.calls;
  const double took = std::chrono::duration<double, std::nano>(end - start_).count();
  entry.nanoseconds += took;
  entry.shortest = entry.calls == 1 ? took : std::min(entry.shortest, took);
}

}  // namespace sinter
