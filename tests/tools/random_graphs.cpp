// Random small graphs over all operators: what the compiler makes of them against the evaluation by definition.
//
//   random_graphs [--count N (2000; 300 under sanitizers)] [--seed S (1)] [--verbose] [--no-shrink]
//   random_graphs --self-test      breaks operators on purpose: what is broken is found and shrunk to one node
//   random_graphs --break OP [--crash] ...   one such fault
//
// Graphs are checked in a process of their own, so that one that crashes or hangs is a failure like others. A failing
// graph is shrunk; what is left of it is printed with its error and the command that runs the whole one alone. Runs of
// 2000 graphs and more also count the operators: one that no graph has is a failure. The last line is
// "N passed, N failed".

#include <fmt/core.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>

#include "ir/text.h"
#include "random_graphs/check.h"
#include "random_graphs/maker.h"
#include "random_graphs/shrink.h"

using namespace random_graphs;

namespace {

#ifdef SINTER_SANITIZE
constexpr uint64_t default_count = 300, broken_count = 15;
#else
constexpr uint64_t default_count = 2000, broken_count = 40;
#endif
constexpr uint64_t counted_from = 2000;      // graphs after which an operator that none of them has is a failure
constexpr unsigned seconds_per_graph = 120;  // hanging and slow are told apart here
constexpr double seconds_to_shrink = 60;

// What graphs need not have, and why.
constexpr std::pair<const char*, const char*> not_drawn[] = {
    {"Fragment", "the compiler makes it"},
    {"Custom", "operators of plugins: tests/unit/plugin_test.cpp"},
    {"Refuse", "ends the run"},
    {"RandomUniform", "gives other numbers in each run"},
    {"RandomNormal", "gives other numbers in each run"},
    {"Multinomial", "gives other numbers in each run"},
    {"ClassProbabilities", "of ai.onnx.ml: tests/ml"},
    {"Lookup", "of ai.onnx.ml: tests/ml"},
    {"TreeEnsemble", "of ai.onnx.ml: tests/ml"},
    {"MapRows", "of ai.onnx.ml: tests/ml"},
    {"MapEntries", "of ai.onnx.ml: tests/ml"},
};

struct Options {
  uint64_t seed = 1, count = default_count;
  bool verbose = false, shrinks = true;
  Fault fault;
};

// What shrinking left of a failing graph.
struct Left {
  uint32_t nodes = 0;
  bool has_broken = false;  // the operator that is broken on purpose
};

struct Found {
  size_t passed = 0, failed = 0;
  std::vector<Left> left;
  std::map<std::string, size_t> operators;
  Others others;
};

void count_operators(const Recipe& recipe, std::map<std::string, size_t>& counts) {
  for (const Recipe::Item& item : recipe.items) {
    if (item.kind == Recipe::Item::Kind::node) ++counts[std::string(item.op())];
    for (const Recipe& body : item.bodies) count_operators(body, counts);
  }
}

std::string text_of(const Recipe& recipe, bool dynamic) {
  try {
    return to_text(module_of(recipe, dynamic));
  } catch (const std::exception& error) {
    return fmt::format("(no text: {})\n", error.what());
  }
}

bool read_all(int file, void* data, size_t size) {
  for (auto* to = static_cast<char*>(data); size > 0;) {
    const ssize_t n = read(file, to, size);
    if (n <= 0) return false;
    to += n;
    size -= static_cast<size_t>(n);
  }
  return true;
}

void write_all(int file, const void* data, size_t size) {
  for (auto* from = static_cast<const char*>(data); size > 0;) {
    const ssize_t n = write(file, from, size);
    if (n <= 0) _exit(3);
    from += n;
    size -= static_cast<size_t>(n);
  }
}

// Runs work(file) in a child; whoever reads the other end sees what it wrote before it ended.
struct Child {
  pid_t pid;
  int file;
};
template <typename Work>
Child start(Work work) {
  int ends[2];
  std::fflush(stdout);
  if (pipe(ends) != 0) throw Error(Code::io, "no pipe");
  const pid_t pid = fork();
  if (pid < 0) throw Error(Code::io, "no process");
  if (pid == 0) {
    close(ends[0]);
    work(ends[1]);
    std::fflush(stdout);
    std::exit(0);
  }
  close(ends[1]);
  return {pid, ends[0]};
}
// How a child ended: empty when it ended well.
std::string ending(const Child& child) {
  close(child.file);
  int status = 0;
  waitpid(child.pid, &status, 0);
  if (WIFSIGNALED(status) && WTERMSIG(status) == SIGALRM) return "it takes too long";
  if (WIFSIGNALED(status)) return fmt::format("the process ended with signal {}", WTERMSIG(status));
  return WEXITSTATUS(status) == 0 ? "" : fmt::format("the process ended with status {}", WEXITSTATUS(status));
}

// A check in a process of its own.
std::optional<Failure> check_apart(const Recipe& recipe, uint64_t seed, const Fault& fault) {
  const Child child = start([&](int file) {
    if (!std::freopen("/dev/null", "w", stderr)) std::exit(3);
    alarm(seconds_per_graph);
    const std::optional<Failure> failure = check(recipe, seed, fault);
    const uint8_t failed = failure.has_value();
    write_all(file, &failed, 1);
  });
  uint8_t failed = 0;
  const bool answered = read_all(child.file, &failed, 1);
  const std::string end = ending(child);
  // What fails in other ways is not what is looked for.
  if (answered && end.empty()) return failed ? std::optional(Failure{"another", "", false}) : std::nullopt;
  return Failure{"crash", end, false};
}

Left report(const Recipe& recipe, const Failure& failure, uint64_t seed, const Options& options, bool crash) {
  Shrunk shrunk{recipe, failure, 0};
  const auto test = [&](const Recipe& r) {
    return crash ? check_apart(r, seed, options.fault) : check(r, seed, options.fault);
  };
  if (options.shrinks) shrunk = shrink(recipe, failure, seed, test, seconds_to_shrink);
  std::string again = fmt::format("random_graphs --seed {} --count 1", seed);
  if (!options.fault.op.empty()) again += " --break " + options.fault.op + (options.fault.crash ? " --crash" : "");
  std::printf("graph %llu: %s\n%sshrunk from %zu nodes to %zu, %zu tries: %s\n  %s\n\n",
              static_cast<unsigned long long>(seed), failure.message.c_str(),
              text_of(shrunk.recipe, shrunk.failure.dynamic).c_str(), count_nodes(recipe), count_nodes(shrunk.recipe),
              shrunk.tries, shrunk.failure.message.c_str(), again.c_str());
  std::fflush(stdout);
  std::map<std::string, size_t> operators;
  count_operators(shrunk.recipe, operators);
  return {static_cast<uint32_t>(count_nodes(shrunk.recipe)), operators.count(options.fault.op) > 0};
}

// A graph that failed, once more and in a process of its own: the same seed gives the same.
Left report_again(uint64_t number, const Options& options) {
  const Child child = start([&](int file) {
    alarm(seconds_per_graph + static_cast<unsigned>(seconds_to_shrink));
    Left left;
    try {
      const Recipe recipe = random_recipe(number);
      if (const auto failure = check(recipe, number, options.fault))
        left = report(recipe, *failure, number, options, false);
      else
        std::printf("graph %llu fails only after others\n\n", static_cast<unsigned long long>(number));
    } catch (const std::exception& error) {
      std::printf("graph %llu cannot be drawn: %s\n  random_graphs --seed %llu --count 1\n\n",
                  static_cast<unsigned long long>(number), error.what(), static_cast<unsigned long long>(number));
    }
    write_all(file, &left, sizeof left);
  });
  Left left;
  const bool answered = read_all(child.file, &left, sizeof left);
  const std::string end = ending(child);
  if (answered && end.empty()) return left;
  return report(random_recipe(number), Failure{"crash", end, false}, number, options, true);
}

// What a child tells of one graph.
struct Told {
  uint8_t passed;
  uint32_t others, defined, refused;
};

// Graphs [first, last) in one child; the number of those it told of.
uint64_t run_some(uint64_t first, uint64_t last, const Options& options, Found& found) {
  const Child child = start([&](int file) {
    for (uint64_t number = first; number < last; ++number) {
      alarm(seconds_per_graph);
      Others others;
      std::optional<Failure> failure;
      Recipe recipe;
      try {
        recipe = random_recipe(number);
        if (options.verbose)
          std::printf("# %llu\n%s\n", static_cast<unsigned long long>(number), text_of(recipe, false).c_str());
        std::fflush(stdout);
        // What fails by itself says nothing about a fault on purpose.
        if (options.fault.op.empty() || !check(recipe, number)) failure = check(recipe, number, options.fault, &others);
      } catch (const std::exception& error) {
        failure = Failure{"definition", error.what(), false};
      }
      alarm(0);
      const Told told{!failure, static_cast<uint32_t>(others.tried), static_cast<uint32_t>(others.defined),
                      static_cast<uint32_t>(others.refused)};
      write_all(file, &told, sizeof told);
    }
  });
  uint64_t number = first;
  for (Told told; number < last && read_all(child.file, &told, sizeof told); ++number) {
    found.others.tried += told.others;
    found.others.defined += told.defined;
    found.others.refused += told.refused;
    if (told.passed) {
      ++found.passed;
      if (!options.fault.op.empty() || options.count < counted_from) continue;
      count_operators(random_recipe(number), found.operators);
      continue;
    }
    ++found.failed;
    found.left.push_back(report_again(number, options));
  }
  const std::string end = ending(child);
  if (number == last) {
    if (end.empty()) return last;
    ++found.failed;  // after the last graph: what it left behind
    std::printf("after graph %llu %s\n\n", static_cast<unsigned long long>(last - 1), end.c_str());
    return last;
  }
  ++found.failed;
  const Recipe recipe = random_recipe(number);
  found.left.push_back(report(recipe, Failure{"crash", end, false}, number, options, true));
  return number + 1;
}

Found run(const Options& options) {
  Found found;
  for (uint64_t number = options.seed; number < options.seed + options.count;)
    number = run_some(number, options.seed + options.count, options, found);
  return found;
}

// Every operator is in some graph, or there is a reason.
void judge_operators(Found& found) {
  for (const Op* op : all_ops()) {
    bool excused = false;
    for (const auto& [name, reason] : not_drawn) excused = excused || std::string_view(name) == op->name;
    const bool drawn = found.operators.count(op->name) > 0;
    if (drawn != excused) continue;
    ++found.failed;
    std::printf("%s: %s\n", op->name, drawn ? "said not to be drawn, and is" : "no graph has it");
  }
}

// What is broken on purpose is found, and what is left of most graphs is that one node. Not of all: where a node
// decides extents, or stands in a body that cannot take its loop's place, more is needed for the same failure.
bool finds(const char* op, bool crash) {
  Options options;
  options.fault = {op, crash};
  options.count = broken_count;
  const Found found = run(options);
  size_t with_it = 0, alone = 0;
  for (const Left& left : found.left) {
    with_it += left.has_broken;
    alone += left.has_broken && left.nodes == 1;
  }
  const bool good = found.failed > 0 && with_it == found.failed && 4 * alone >= 3 * found.failed;
  std::printf("%s broken%s: %zu of %llu graphs fail, %zu of them shrunk to one node: %s\n", op,
              crash ? " so that it crashes" : "", found.failed, static_cast<unsigned long long>(options.count), alone,
              good ? "found" : "NOT FOUND");
  return good;
}

}  // namespace

int main(int argc, char** argv) {
  Options options;
  bool self_test = false;
  for (int i = 1; i < argc; ++i) {
    const std::string_view word = argv[i];
    if (word == "--verbose") {
      options.verbose = true;
    } else if (word == "--no-shrink") {
      options.shrinks = false;
    } else if (word == "--self-test") {
      self_test = true;
    } else if (word == "--crash") {
      options.fault.crash = true;
    } else if (word == "--break" && i + 1 < argc) {
      options.fault.op = argv[++i];
    } else if ((word == "--count" || word == "--seed") && i + 1 < argc) {
      (word == "--count" ? options.count : options.seed) = std::strtoull(argv[++i], nullptr, 10);
    } else {
      std::fprintf(stderr,
                   "usage: random_graphs [--count N] [--seed S] [--verbose] [--no-shrink] [--break OP [--crash]]\n"
                   "       random_graphs --self-test\n");
      return 2;
    }
  }
  if (self_test) {
    size_t good = 0;
    constexpr size_t tests = 5;
    for (const char* op : {"Transpose", "Tanh", "MatMul", "Relu"}) good += finds(op, false);
    good += finds("Concat", true);
    std::printf("%zu passed, %zu failed\n", good, tests - good);
    return good == tests ? 0 : 1;
  }
  Found found = run(options);
  if (options.fault.op.empty() && options.count >= counted_from) judge_operators(found);
  std::printf("with other extents: %zu runs, %zu of them defined; %zu forms of graphs with loops not defined\n",
              found.others.tried, found.others.defined, found.others.refused);
  std::printf("%zu passed, %zu failed\n", found.passed, found.failed);
  return found.failed ? 1 : 0;
}
