// Checks kernel rows against the reference evaluation.
//
//   kernel_check FILE.problems... [--seed N] [--only TEXT] [--every-row]
//
// A file holds one problem a line, as to_text(Problem) prints it, then values of its symbols for as many runs as there
// are bars: `(f32[s0, 4]) { Relu(0); } -> (1) | s0 = 3 | s0 = 0`. A line that starts with `reference` expects that no
// row but the reference takes the problem, one that starts with `bf16`, `tiles` or `f16` that rows do where bf16 is
// multiplied, there are tiles, or tiles multiply f16. '#' starts a comment. Every row of every backend that supports a
// problem is checked at every instruction set level of this machine, and at level amx by emulation where only tiles are
// missing, and gives the same bits with one, two and five threads, wherever values begin. Emulation is slow: there it
// is one of the two splits, and for shapes of very many tiles some of the rows. With --every-row, a row that no line
// has reached is a failure.
#include <fmt/core.h>

#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <optional>
#include <set>
#include <sstream>
#include <string>

#include "amx_emulator.h"
#include "backend/accept.h"
#include "backend/cpu/device.h"
#include "base/hash.h"
#include "base/scanner.h"
#include "ops/contraction.h"

namespace {

using namespace sinter;

int passed = 0, failed = 0;
std::set<std::string_view> reached;  // names of rows
std::set<const Kernel*> on_tiles;    // rows that emulation was entered for
uint64_t shape_began = 0;            // how often that had been when the first row of a shape ran
char running[400] = "";              // what a signal is blamed on

// Rows run in memory that ends before a page that may not be touched (KernelRun).
void crashed(int) {
  const char text[] = " it crashes, or reads where it may not\n";
  (void)!::write(STDOUT_FILENO, running, std::strlen(running));
  (void)!::write(STDOUT_FILENO, text, sizeof text - 1);
  ::_exit(1);
}

void report(bool good, const std::string& where, const std::string& text) {
  good ? ++passed : ++failed;
  if (!good) std::printf("FAIL %s: %s\n", where.c_str(), text.c_str());
}

std::vector<DeviceSpec> levels() {
  const DeviceSpec machine = testing::machine_with_tiles();
  std::vector<DeviceSpec> out;
  for (const char* name : {"portable", "avx2", "avx512", "avx512_bf16", "amx"}) {
    try {
      out.push_back(restrict_level(machine, name));
    } catch (const Error&) {
      // this machine lacks it
    }
  }
  return out;
}

// One shape of a problem, what the definition makes of it as soon as a row asks.
class Case {
 public:
  Case(const Problem& problem, std::vector<int64_t> symbols, uint64_t seed)
      : problem_(problem), symbols_(std::move(symbols)), seed_(seed), hash_(hash64(to_text(problem))) {}
  const Problem& problem() const { return problem_; }
  const std::vector<int64_t>& symbols() const { return symbols_; }
  uint64_t hash() const { return hash_; }
  const Expectation& expectation() {
    if (!expectation_) expectation_.emplace(problem_, symbols_, seed_);
    return *expectation_;
  }

 private:
  const Problem& problem_;
  std::vector<int64_t> symbols_;
  uint64_t seed_, hash_;
  std::optional<Expectation> expectation_;
};

// Several threads make what one thread has made. Rows on emulated tiles, each of whose steps is a signal, are split one
// way only, some among two threads and some among five.
void check_split(Case& c, const Problem& settled, const Kernel& kernel, DeviceSpec device,
                 const std::vector<Tensor>& one, bool emulated, const std::string& name) {
  for (const int threads : {2, 5}) {
    if (emulated && threads != (c.hash() % 2 == 0 ? 2 : 5)) continue;
    device.threads = threads;
    // Values between the lines of the cache, where it is the only or the second time.
    const KernelRun::Start start = emulated || threads == 5 ? KernelRun::Start::element : KernelRun::Start::line;
    const std::vector<Tensor> more =
        run_kernel(settled, kernel, device, c.symbols(), c.expectation().operands(), std::nullopt, start);
    bool same = true;
    for (size_t r = 0; r < one.size(); ++r) same = same && one[r].identical(more[r]);
    report(same, name, fmt::format("other bits with {} threads", threads));
  }
}

// Results made over an operand have the bits of those made elsewhere.
void check_in_place(Case& c, const Problem& settled, const Kernel& kernel, DeviceSpec device,
                    const std::vector<Tensor>& apart, bool emulated, const std::string& name) {
  for (size_t i = 0; i < settled.operands.size(); ++i) {
    if (!may_overwrite(kernel, settled, i)) continue;
    const Type& made = settled.types[settled.results[0].value];
    if (evaluate(*settled.operands[i].type.shape, c.symbols()) != evaluate(*made.shape, c.symbols())) continue;
    for (const int threads : {1, 3}) {
      if (emulated && threads == 1) continue;
      device.threads = threads;
      const bool same =
          run_kernel(settled, kernel, device, c.symbols(), c.expectation().operands(), i)[0].identical(apart[0]);
      report(same, name, fmt::format("other bits when made over operand {} by {} threads", i, threads));
    }
  }
}

void blame(const std::string& where) { std::snprintf(running, sizeof running, "FAIL %s:", where.c_str()); }

void check_row(Case& c, const Kernel& kernel, const DeviceSpec& device, const std::string& where) {
  // A few shapes with many small groups would take most of all the time that emulation takes. When one row has shown
  // that a shape is such, a third of the others on tiles follow, at each shape others.
  constexpr uint64_t many = 20'000;
  const uint64_t before = testing::tile_signals();
  if (before - shape_began > many && device.level == cpu::amx && on_tiles.count(&kernel) > 0 &&
      (c.hash() ^ hash64(kernel.name)) % 3 != 0)
    return;
  const std::string name = fmt::format("{} {} level {}", where, kernel.name, device.level);
  blame(name);
  reached.insert(kernel.name);
  try {
    std::vector<Tensor> made;
    const Answer accepted = c.expectation().accept(c.problem(), kernel, device, c.symbols(), &made);
    report(static_cast<bool>(accepted), name, accepted ? "" : accepted.reason());
    const uint64_t signals = testing::tile_signals() - before;
    if (signals > 0) on_tiles.insert(&kernel);
    if (made.empty() || signals > many) return;
    const Problem settled = settle(c.problem(), kernel, device);
    check_split(c, settled, kernel, device, made, signals > 0, name);
    check_in_place(c, settled, kernel, device, made, signals > 0, name);
  } catch (const Error& error) {
    report(false, name, error.what());
  }
}

// What a contraction that may round its operands is given to besides: rows that refuse it when it must be strict.
void check_looser(const Problem& problem, const std::vector<int64_t>& symbols, uint64_t seed,
                  const std::string& where) {
  const auto with = [&](Numerics numerics) {
    Problem looser = problem;
    for (Stage& stage : looser.stages)
      if (numerics_of(stage.attrs)) stage.attrs = with_numerics(stage.attrs, numerics);
    return looser;
  };
  const Problem tf32 = with(Numerics::tf32);
  for (const Numerics numerics : {Numerics::tf32, Numerics::bf16, Numerics::fp16}) {
    const Problem looser = with(numerics);
    Case c(looser, symbols, seed);
    // Most that may round to fp16 are those of tf32.
    const Problem& refused = numerics == Numerics::fp16 ? tf32 : problem;
    for (const DeviceSpec& device : levels())
      for (const Backend* backend : backends())
        for (const Kernel* kernel : backend->kernels())
          if (!kernel->supports(*kernel, refused, device) && kernel->supports(*kernel, looser, device))
            check_row(c, *kernel, device,
                      fmt::format("{} {}", where, enum_names(numerics)[static_cast<size_t>(numerics)]));
  }
}

enum class Expected { always, with_bf16, with_tiles, with_f16, never };  // a row that takes the problem

void check(const Problem& problem, const std::vector<int64_t>& symbols, Expected expected, uint64_t seed,
           const std::string& where) {
  shape_began = testing::tile_signals();
  if (std::any_of(problem.stages.begin(), problem.stages.end(),
                  [](const Stage& stage) { return numerics_of(stage.attrs).has_value(); }))
    check_looser(problem, symbols, seed, where);
  const uint8_t least = expected == Expected::with_tiles || expected == Expected::with_f16 ? cpu::amx
                        : expected == Expected::with_bf16                                  ? cpu::avx512_bf16
                                                                                           : cpu::portable;
  Case c(problem, symbols, seed);
  for (const DeviceSpec& device : levels()) {
    int rows = 0;
    std::string refusals;
    for (const Backend* backend : backends()) {
      if (std::strcmp(backend->name, "reference") == 0) continue;
      for (const Kernel* kernel : backend->kernels()) {
        blame(fmt::format("{} {} level {}", where, kernel->name, device.level));
        const Answer answer = kernel->supports(*kernel, problem, device);
        if (!answer) {
          refusals += fmt::format("\n    {}: {}", kernel->name, answer.reason());
          continue;
        }
        ++rows;
        check_row(c, *kernel, device, where);
      }
    }
    if (expected == Expected::never)
      report(rows == 0, where, "a row takes what only the reference should");
    else if (rows == 0 && device.level >= least &&
             (expected != Expected::with_f16 || (device.features & cpu::feature_amx_fp16) != 0))
      report(false, where, "no row takes it" + refusals);
  }
}

void check_line(const std::string& line, uint64_t seed, const std::string& where) {
  blame(where);
  Scanner scanner(line);
  if (scanner.at_end()) return;
  const Expected expected = scanner.accept("reference") ? Expected::never
                            : scanner.accept("bf16")    ? Expected::with_bf16
                            : scanner.accept("tiles")   ? Expected::with_tiles
                            : scanner.accept("f16")     ? Expected::with_f16
                                                        : Expected::always;
  Problem problem = parse_problem(scanner);
  // What is printed parses back to the same.
  const std::string text = to_text(problem);
  report(to_text(parse_problem(text)) == text, where, "the text of the problem does not parse back");
  if (scanner.at_end()) {
    check(problem, std::vector<int64_t>(problem.symbols.size(), 1), expected, seed, where);
    return;
  }
  while (!scanner.at_end()) {
    scanner.expect("|");
    std::vector<int64_t> symbols(problem.symbols.size(), 1);
    std::string values;
    while (scanner.at_identifier()) {
      const std::string name(scanner.identifier());
      scanner.expect("=");
      const auto id = problem.symbols.find(name);
      if (!id) scanner.fail("no such symbol");
      symbols[*id] = scanner.integer();
      values += fmt::format(" {}={}", name, symbols[*id]);
      if (!scanner.accept(",")) break;
    }
    check(problem, symbols, expected, seed, where + values);
  }
}

// Rows that no problem of these files can reach: they run operators of plugins, which tests/examples, tests/cli and the
// unit tests load.
constexpr std::string_view tested_elsewhere[] = {"custom", "custom_boxed"};

// Rows for an instruction set end in its name.
void check_every_row() {
  std::vector<uint8_t> here;
  for (const DeviceSpec& device : levels()) here.push_back(device.level);
  for (const Kernel* kernel : cpu_backend().kernels()) {
    const std::string_view name = kernel->name;
    const auto* end = std::end(tested_elsewhere);
    const bool elsewhere = std::find(std::begin(tested_elsewhere), end, name) != end;
    if (reached.count(name) > 0) {
      report(!elsewhere, std::string(name), "it is reached, and said to be tested elsewhere");
      continue;
    }
    if (elsewhere) continue;
    bool runs_here = true;
    for (const uint8_t level : {cpu::portable, cpu::avx2, cpu::avx512, cpu::avx512_bf16, cpu::amx})
      if (name.ends_with("_" + level_text({.level = level})))
        runs_here = std::find(here.begin(), here.end(), level) != here.end();
    if (runs_here) report(false, std::string(name), "no problem of these files reaches this row");
  }
}

}  // namespace

int main(int argc, char** argv) {
  for (const int signal : {SIGSEGV, SIGBUS, SIGILL, SIGFPE}) ::signal(signal, crashed);
  std::setvbuf(stdout, nullptr, _IOLBF, 0);
  uint64_t seed = 1;
  std::string only;
  bool every_row = false;
  std::vector<std::string> files;
  for (int i = 1; i < argc; ++i) {
    if (std::strcmp(argv[i], "--seed") == 0 && i + 1 < argc)
      seed = std::strtoull(argv[++i], nullptr, 10);
    else if (std::strcmp(argv[i], "--only") == 0 && i + 1 < argc)
      only = argv[++i];
    else if (std::strcmp(argv[i], "--every-row") == 0)
      every_row = true;
    else
      files.push_back(argv[i]);
  }
  for (const std::string& file : files) {
    std::ifstream in(file);
    if (!in) {
      report(false, file, "cannot be read");
      continue;
    }
    std::string line;
    for (int number = 1; std::getline(in, line); ++number) {
      if (!only.empty() && line.find(only) == std::string::npos) continue;
      const std::string where = fmt::format("{}:{}", file.substr(file.find_last_of('/') + 1), number);
      try {
        check_line(line, seed, where);
      } catch (const std::exception& error) {
        report(false, where, error.what());
      }
    }
  }
  if (every_row) check_every_row();
  std::printf("%d passed, %d failed\n", passed, failed);
  return failed ? 1 : 0;
}
