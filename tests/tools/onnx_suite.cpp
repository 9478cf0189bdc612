// Runs cases of the ONNX backend test suite: model in, engine out, outputs compared with the stored ones.
//
//   onnx_suite DATA_FOLDER EXCLUDED_FILE [--mode MODE]... [--strict FILE] [--only SUBSTRING] [--verbose] [--jobs N]
//   onnx_suite --cases FILE EXCLUDED_FILE ...      cases of several releases, one line each (tools/onnx_old_cases.py)
//
// Modes are described in suite_modes.h; without --mode all of them run. Lists have lines "pattern[@mode] reason".
// Every case that EXCLUDED_FILE does not name must pass; a pattern that names no case and an excluded case that passes
// are failures too, but for reasons that start with "random". --strict counts the cases that the stricter rule of
// suite_compare.h finds outside; they are exactly those that FILE names, where a line must be outside in one of the
// modes at least.

#include <stdlib.h>

#include "suite_modes.h"
#include "suite_workers.h"

namespace {

using namespace suite;

struct Options {
  std::string data, cases, excluded, strict, only;
  std::vector<Mode> modes;
  bool verbose = false;
  size_t jobs = 2;
};

constexpr const char* usage =
    "usage: onnx_suite DATA_FOLDER|--cases FILE EXCLUDED_FILE [--mode as-is|frozen|dynamic|reloaded]... [--strict "
    "FILE]\n"
    "                  [--only SUBSTRING] [--verbose] [--jobs N]\n";

bool parse(int argc, char** argv, Options& o) {
  std::vector<std::string> positional;
  for (int i = 1; i < argc; ++i) {
    const std::string a = argv[i];
    const bool more = i + 1 < argc;
    if (a == "--verbose")
      o.verbose = true;
    else if (a == "--only" && more)
      o.only = argv[++i];
    else if (a == "--strict" && more)
      o.strict = argv[++i];
    else if (a == "--cases" && more)
      o.cases = argv[++i];
    else if (a == "--jobs" && more)
      o.jobs = static_cast<size_t>(std::max(1, std::atoi(argv[++i])));
    else if (a == "--mode" && more) {
      const auto* const at = std::find(std::begin(mode_names), std::end(mode_names), std::string_view(argv[++i]));
      if (at == std::end(mode_names)) return false;
      o.modes.push_back(static_cast<Mode>(at - std::begin(mode_names)));
    } else if (a.substr(0, 2) == "--")
      return false;
    else
      positional.push_back(a);
  }
  if (o.modes.empty()) o.modes = {Mode::as_is, Mode::frozen, Mode::dynamic, Mode::reloaded};
  if (o.cases.empty() && !positional.empty()) {
    o.data = positional.front();
    positional.erase(positional.begin());
  }
  if (positional.size() != 1) return false;
  o.excluded = positional.front();
  return true;
}

// The new process of the mode "reloaded": --engine ENGINE MODEL FOLDER RTOL.
int run_engine(char** argv) {
  Verdict verdict;
  try {
    ::alarm(120);
    verdict = run_loaded({"", argv[3], argv[4], std::strtod(argv[5], nullptr), 1e-7}, argv[2]);
  } catch (const std::exception& error) {
    verdict.why = *error.what() ? error.what() : "an error without text";
  }
  std::replace(verdict.why.begin(), verdict.why.end(), '\t', ' ');
  std::printf("%s\t%s", verdict.why.c_str(), verdict.outside.c_str());
  return 0;
}

// A line of a list, and what became of the cases that it names.
struct Marked : Line {
  size_t named = 0, held = 0;
};

bool read_marked(const std::string& path, std::vector<Marked>& list) {
  std::vector<Line> lines;
  if (!read_list(path, lines)) return false;
  for (Line& line : lines) list.push_back({std::move(line)});
  return true;
}

struct Totals {
  size_t passed = 0, excluded = 0, failed = 0, outside = 0;
  double milliseconds = 0, longest = 0;
  std::string slowest;
};

// One line a release: what its cases gave in the first mode.
void report_releases(const std::vector<ReleaseCase>& releases, const std::vector<char>& good) {
  struct Row {
    size_t cases = 0, passed = 0;
  };
  std::vector<std::pair<std::string, Row>> rows;
  for (const ReleaseCase& r : releases) {
    if (rows.empty() || rows.back().first != r.release) rows.push_back({r.release, {}});
    ++rows.back().second.cases;
    rows.back().second.passed += good[r.content] ? 1 : 0;
  }
  std::printf("\n%-10s %7s %7s %9s\n", "release", "cases", "pass", "percent");
  for (const auto& [release, row] : rows) {
    const double percent = 100.0 * static_cast<double>(row.passed) / static_cast<double>(row.cases);
    std::printf("%-10s %7zu %7zu %9.2f%s\n", release.c_str(), row.cases, row.passed, percent,
                percent < 97 ? "  less than 97" : "");
  }
}

}  // namespace

int main(int argc, char** argv) {
  if (argc == 6 && std::string_view(argv[1]) == "--engine") return run_engine(argv);
  Options options;
  if (!parse(argc, argv, options)) {
    std::fputs(usage, stderr);
    return 2;
  }
  std::vector<ReleaseCase> releases;
  std::vector<Case> cases =
      options.cases.empty() ? find_cases(options.data) : read_release_cases(options.cases, releases);
  if (cases.empty()) {
    std::fprintf(stderr, "no cases in %s\n", (options.data + options.cases).c_str());
    return 1;
  }
  std::vector<Marked> exclusions, tolerated;
  if (!read_marked(options.excluded, exclusions)) return 1;
  if (!options.strict.empty() && !read_marked(options.strict, tolerated)) return 1;
  if (!options.only.empty()) {
    cases.erase(std::remove_if(cases.begin(), cases.end(),
                               [&](const Case& c) { return c.name.find(options.only) == std::string::npos; }),
                cases.end());
  }

  char folder[] = "/tmp/onnx_suite.XXXXXX";
  if (!::mkdtemp(folder)) {
    std::fputs("no temporary folder\n", stderr);
    return 1;
  }
  const auto job = [&](size_t i) {
    return run_case(cases[i % cases.size()], options.modes[i / cases.size()],
                    std::string(folder) + "/" + std::to_string(::getpid()) + ".engine");
  };
  const std::vector<JobResult> results = Workers(cases.size() * options.modes.size(), options.jobs, job, 120).run();
  for (const std::string& left : entries(folder)) ::unlink((std::string(folder) + "/" + left).c_str());
  ::rmdir(folder);

  std::vector<Totals> totals(options.modes.size());
  std::vector<char> good(cases.size(), 0);
  size_t failed = 0;
  for (size_t i = 0; i < results.size(); ++i) {
    const Case& c = cases[i % cases.size()];
    const char* mode = name_of(options.modes[i / cases.size()]);
    Totals& t = totals[i / cases.size()];
    const JobResult& result = results[i];
    const bool passes = result.verdict.why.empty();
    bool excluded = false, chance = false;
    for (Marked& line : exclusions)
      if (line.names(c.name, mode)) {
        excluded = true;
        chance = line.reason.substr(0, 6) == "random";
        ++line.named;
      }
    t.milliseconds += result.milliseconds;
    if (result.milliseconds > t.longest) {
      t.longest = result.milliseconds;
      t.slowest = c.name;
    }
    if (i < cases.size()) good[i] = passes;
    const auto fail = [&](const std::string& why) {
      ++failed;
      ++t.failed;
      std::printf("FAILED %s (%s): %s\n    again: %s %s %s --only %s --mode %s --jobs 1\n", c.name.c_str(), mode,
                  why.c_str(), argv[0], (options.cases.empty() ? options.data : "--cases " + options.cases).c_str(),
                  options.excluded.c_str(), c.name.c_str(), mode);
    };
    if (!passes && !excluded) {
      fail(result.verdict.why);
      continue;
    }
    if (!passes) {
      ++t.excluded;
      if (options.verbose) std::printf("excluded %s (%s): %s\n", c.name.c_str(), mode, result.verdict.why.c_str());
      continue;
    }
    bool listed = false;
    if (const std::string& outside = result.verdict.outside; !options.strict.empty())
      for (Marked& line : tolerated)
        if (line.names(c.name, mode)) {
          listed = true;
          ++line.named;
          line.held += outside.empty() ? 0 : 1;
        }
    if (!result.verdict.outside.empty()) ++t.outside;
    if (excluded && !chance) {
      fail("it passes; take it from the list of exclusions");
    } else if (!options.strict.empty() && !listed && !result.verdict.outside.empty()) {
      fail("outside the strict rule: " + result.verdict.outside);
    } else {
      ++t.passed;
      if (options.verbose)
        std::printf(
            "passed %s (%s), %.1f ms%s%s\n", c.name.c_str(), mode, result.milliseconds,
            result.verdict.outside.empty() ? "" : ", outside the strict rule: ", result.verdict.outside.c_str());
    }
  }
  if (options.only.empty()) {
    const bool all_modes = options.modes.size() == std::size(mode_names);
    for (const Marked& line : exclusions)
      if (line.named == 0 && (all_modes || line.mode.empty())) {
        std::printf("FAILED: '%s' in %s names no case\n", line.pattern.c_str(), options.excluded.c_str());
        ++failed;
      }
    for (const Marked& line : tolerated)
      if (all_modes && line.held == 0) {
        std::printf("FAILED: '%s' in %s: %s\n", line.pattern.c_str(), options.strict.c_str(),
                    line.named == 0 ? "names no case that passes" : "what it names is inside the strict rule");
        ++failed;
      }
  }
  size_t passed = 0;
  std::printf("\n%-10s %7s %7s %9s %7s %8s %10s  %s\n", "mode", "cases", "passed", "excluded", "failed", "outside",
              "seconds", "slowest");
  for (size_t m = 0; m < totals.size(); ++m) {
    const Totals& t = totals[m];
    passed += t.passed;
    std::printf("%-10s %7zu %7zu %9zu %7zu %8zu %10.1f  %s, %.0f ms\n", name_of(options.modes[m]), cases.size(),
                t.passed, t.excluded, t.failed, t.outside, t.milliseconds / 1000, t.slowest.c_str(), t.longest);
  }
  if (!releases.empty() && options.only.empty()) report_releases(releases, good);
  std::printf("%zu passed, %zu failed\n", passed, failed);
  return failed == 0 ? 0 : 1;
}
