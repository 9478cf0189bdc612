#include "tune/bisect.h"

#include <fmt/core.h>

#include <algorithm>

#include "ir/evaluate.h"

namespace sinter {
namespace {

class Search {
 public:
  Search(const Module& module, std::span<const Box> inputs, const BuildOptions& options, const Tolerance& tolerance)
      : module_(module), inputs_(inputs), options_(options), tolerance_(tolerance) {
    options.control.report("evaluating by reference", 0.0);
    expected_ = Evaluation(module, inputs, options.control).outputs();
  }

  struct Trial {
    std::shared_ptr<const Engine> engine;
    BuildReport report;
    Compared output;  // the one that is furthest off
  };

  Trial trial(uint32_t limit) {
    BuildOptions options = options_;
    options.rewrite_limit = limit;
    Built built = build(copy(module_), options);
    Trial out;
    out.report = std::move(built.report);
    out.engine = make_engine(std::move(built.target), options.threads);
    const std::vector<Box> got = run_once(out.engine, inputs_, options.threads, &options.control);
    for (size_t o = 0; o < expected_.size() && o < got.size(); ++o) {
      Compared compared = compare_values(got[o], expected_[o], tolerance_);
      compared.tensor = out.engine->outputs()[o].name;
      compared.is_output = true;
      const bool worse = o == 0 || (out.output.agrees && !compared.agrees) ||
                         (out.output.agrees == compared.agrees && compared.max_relative > out.output.max_relative);
      if (worse) out.output = std::move(compared);
    }
    return out;
  }

 private:
  const Module& module_;
  std::span<const Box> inputs_;
  const BuildOptions& options_;
  const Tolerance tolerance_;
  std::vector<Box> expected_;
};

std::string nodes_text(const std::vector<Source>& all, const Sources& sources) {
  std::string out;
  for (uint32_t s : sources)
    if (s < all.size()) out += fmt::format("{}{} ({})", out.empty() ? "" : ", ", all[s].name, all[s].op_type);
  return out;
}

}  // namespace

Bisection bisect(const Module& module, std::span<const Box> inputs, const BuildOptions& options,
                 const Tolerance& tolerance, void (*told)(void* user, uint32_t limit, bool agrees), void* user) {
  Bisection out;
  Search search(module, inputs, options, tolerance);
  const auto trial = [&](uint32_t limit) {
    Search::Trial made = search.trial(limit);
    ++out.builds;
    if (told) told(user, limit, made.output.agrees);
    return made;
  };
  Search::Trial full = trial(UINT32_MAX);
  out.output = full.output;
  if (full.output.agrees) return out;
  const auto judge = [&](const Search::Trial& made) {
    auto fault = judge_steps(made.engine, inputs, options.threads, &options.control, tolerance);
    if (!fault) return false;
    out.verdict = Bisection::Verdict::step;
    out.step = std::move(fault->compared);
    out.problem = std::move(fault->problem);
    out.nodes = std::move(fault->nodes);
    out.step_number = fault->number;
    out.steps = made.engine->target().main.steps.size();
    return true;
  };
  // A step that is wrong by itself explains everything behind it, whatever rewrites led to it.
  if (judge(full)) return out;
  uint32_t low = 0, high = 0;  // agrees with `low` rewrites, differs with `high`
  for (const Journal::Entry& entry : full.report.journal) high = std::max(high, entry.number);
  Search::Trial plain = trial(0);
  if (!plain.output.agrees) {
    out.verdict = Bisection::Verdict::unexplained;
    judge(plain);
    return out;
  }
  Search::Trial last = std::move(full);
  while (high - low > 1) {
    const uint32_t middle = low + (high - low) / 2;
    Search::Trial made = trial(middle);
    if (made.output.agrees) {
      low = middle;
    } else {
      high = middle;
      last = std::move(made);
    }
  }
  out.verdict = Bisection::Verdict::rewrite;
  out.output = last.output;
  for (const Journal::Entry& entry : last.report.journal)
    if (entry.number == high) {
      out.entry = entry;
      out.nodes = nodes_text(last.report.sources, entry.sources);
    }
  return out;
}

}  // namespace sinter
