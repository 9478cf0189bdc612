// Feeds damaged copies of a file through everything that reads it, and counts what became of them.
//
//   mutate model FILE      copies damaged in bytes, in fields, or cut: read, import, build, run
//   mutate engine FILE     copies of an engine with bytes changed or cut: all must be refused
//   mutate plan FILE       copies of an engine with fields changed and hashes recomputed: refused, or they run
//   mutate save MODEL FILE builds an engine for the two above
//   options: --count N (200), --seed S (1), --only K (one copy in this process), --seconds T (a copy, 60), --verbose,
//   --plugins LIBRARY
//
// Copies run in child processes, a batch each: a crash, a sanitizer's report, a leak or a copy that takes too long is a
// failure that names seed and copy. Exit 1 if there was any.

#include <fmt/core.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <map>

#include "api/compile.h"
#include "api/plugins.h"
#include "backend/verify.h"
#include "base/file.h"
#include "engine/file.h"
#include "mutations.h"
#include "runtime/engine.h"

// A damaged size must not take the machine's memory: what is too large is refused as any allocation that fails.
extern "C" const char* __asan_default_options();
extern "C" const char* __asan_default_options() {
  return "allocator_may_return_null=1:max_allocation_size_mb=1024:hard_rss_limit_mb=3000";
}

namespace {

using namespace sinter;

enum Outcome { refused, built, ran, faulted, outcomes };
constexpr const char* outcome_names[outcomes] = {"refused", "accepted", "ran", "faulted"};

struct Shared {
  int current = -1;  // copy that a child works on
  int counts[outcomes] = {};
  int internal = 0;
};

struct Options {
  std::string mode, file, output;
  int count = 200, only = -1, seconds = 60;
  uint64_t seed = 1;
  bool verbose = false;
};

constexpr int64_t most_elements = 1 << 21;  // of a value, for a run
constexpr int batch = 20;

std::string damaged(const std::string& original, const Options& options, int copy) {
  mutations::Random random(options.seed * 1000003 + static_cast<uint64_t>(copy));
  std::string bytes = original;
  if (options.mode == "plan") {
    mutations::damage_engine(bytes, random);
    rehash_engine({reinterpret_cast<std::byte*>(bytes.data()), bytes.size()});
  } else if (copy % 4 == 0) {
    mutations::cut(bytes, random);
  } else if (options.mode == "engine" || copy % 4 == 1 || !mutations::damage_fields(bytes, random)) {
    mutations::damage_bytes(bytes, random);
  }
  if (bytes == original && !bytes.empty())
    bytes[mutations::below(random, bytes.size())] ^= static_cast<char>(1 << mutations::below(random, 8));
  return bytes;
}

// Deadline of a copy inside the library; the alarm is for what does not ask.
bool late(void* user) { return std::time(nullptr) > *static_cast<const std::time_t*>(user); }

std::optional<Dims> small_extents(const Shape& shape, std::span<const int64_t> symbols) {
  const Dims dims = evaluate(shape, symbols);
  int64_t count = 1;
  for (const int64_t d : dims) {
    if (d > most_elements) return std::nullopt;
    count *= d;
    if (count > most_elements) return std::nullopt;
  }
  return dims;
}

void fill(Tensor& t, uint64_t seed) {
  mutations::Random random(seed);
  for (int64_t i = 0; i < t.count(); ++i) {
    if (t.dtype() == DType::string)
      t.strings()[static_cast<size_t>(i)] = "s" + std::to_string(random() % 4);
    else if (is_float(t.dtype()) || is_complex(t.dtype()))
      t.set_real(i, static_cast<double>(random() % 200) / 100 - 1);
    else
      t.set_integer(i, static_cast<int64_t>(random() % (t.dtype() == DType::boolean ? 2 : 4)));
  }
}

bool too_large(const Plan& plan, std::span<const int64_t> symbols) {
  for (const Slot& slot : plan.slots)
    if (slot.type.has_shape()) {
      const std::optional<Dims> known = constant_dims(*slot.type.shape);
      if (known && !small_extents(*slot.type.shape, symbols)) return true;
    }
  for (const Plan& body : plan.bodies)
    if (too_large(body, symbols)) return true;
  return false;
}

// Runs with small inputs. False when something of the plan is too large to be tried.
bool run_engine(std::shared_ptr<const Executable> executable, const Control& control) {
  const auto engine = std::make_shared<const Engine>(std::move(executable));
  const Target& target = engine->target();
  std::vector<int64_t> symbols;
  for (SymbolId k = 0; k < target.symbols.size(); ++k) symbols.push_back(std::max<int64_t>(2, target.symbols[k].low));
  for (const Profile& p : target.profiles) symbols[p.symbol] = p.low;
  if (too_large(target.main, symbols)) return false;
  Context context(engine, 1);
  std::vector<Tensor> keep;
  for (size_t i = 0; i < engine->inputs().size(); ++i) {
    const Type& type = engine->inputs()[i].type;
    if (!type.is_tensor()) {
      context.set_input(i, type.kind == Type::Kind::sequence ? Box::sequence({})
                           : type.kind == Type::Kind::map
                               ? Box::map(Tensor(type.dtype, {0}), Tensor(type.element->dtype, {0}))
                               : Box());
      continue;
    }
    const auto dims = type.shape ? small_extents(*type.shape, symbols) : Dims{2, 2};
    if (!dims) return false;
    keep.emplace_back(type.dtype, *dims);
    fill(keep.back(), i);
    if (type.is_plain())
      context.set_input(i, *dims, keep.back().data(), static_cast<size_t>(keep.back().bytes()));
    else
      context.set_input(i, Box(keep.back()));
  }
  context.run(&control);
  for (size_t o = 0; o < engine->outputs().size(); ++o) (void)context.output(o);
  return true;
}

Outcome try_copy(const std::string& original, const Options& options, int copy, Shared& shared) {
  const std::string text = damaged(original, options, copy);
  const std::span<const std::byte> bytes(reinterpret_cast<const std::byte*>(text.data()), text.size());
  const std::time_t deadline = std::time(nullptr) + options.seconds / 2;
  Control control;
  control.cancelled = late;
  control.user = const_cast<std::time_t*>(&deadline);
  Outcome outcome = refused;
  std::string message;
  try {
    std::shared_ptr<const Executable> executable;
    if (options.mode == "model") {
      BuildOptions build;
      build.threads = 1;
      build.reference_only = copy % 3 == 2;
      build.control = control;
      build.logger.level = LogLevel::error;
      ModelSource source;
      source.bytes = bytes;
      Built made = compile(source, build);
      DeviceSpec device = this_machine(1);
      device.level = made.target.needs.level;
      verify_target(made.target, device);
      executable = make_executable(std::move(made.target), device);
    } else {
      LoadOptions load;
      load.threads = 1;
      executable = load_engine(bytes, nullptr, load);
    }
    outcome = built;
    if (run_engine(std::move(executable), control)) outcome = ran;
  } catch (const Error& e) {
    if (outcome == built) outcome = faulted;
    message = fmt::format("[{}] {}", code_name(e.code()), e.what());
    if (e.code() == Code::internal) {
      ++shared.internal;
      std::printf("  internal error: seed %llu copy %d: %s\n", static_cast<unsigned long long>(options.seed), copy,
                  e.what());
    }
  } catch (const std::bad_alloc&) {
    if (outcome == built) outcome = faulted;
    message = "out of memory";
  }
  if (options.verbose) std::printf("  copy %d: %s %s\n", copy, outcome_names[outcome], message.c_str());
  std::fflush(stdout);
  return outcome;
}

int run_batch(const std::string& original, const Options& options, int first, int last, Shared& shared) {
#ifndef SINTER_SANITIZE
  const rlimit limit{rlim_t{3} << 30, rlim_t{3} << 30};
  ::setrlimit(RLIMIT_AS, &limit);
#endif
  for (int copy = first; copy < last; ++copy) {
    shared.current = copy;
    ::alarm(static_cast<unsigned>(options.seconds));
    ++shared.counts[try_copy(original, options, copy, shared)];
  }
  ::alarm(0);
  shared.current = last;
  return 0;
}

int run_all(const std::string& original, const Options& options) {
  auto* shared =
      static_cast<Shared*>(::mmap(nullptr, sizeof(Shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
  if (shared == MAP_FAILED) return 2;
  *shared = Shared();
  int crashed = 0, slow = 0, leaked = 0;
  for (int first = 0; first < options.count;) {
    const int last = std::min(first + batch, options.count);
    shared->current = first;
    std::fflush(stdout);
    const pid_t child = ::fork();
    if (child < 0) return 2;
    if (child == 0) std::exit(run_batch(original, options, first, last, *shared));
    int status = 0;
    ::waitpid(child, &status, 0);
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0) {
      first = last;
    } else if (shared->current >= last) {  // all done, then something was found at exit
      std::printf("  FAILED: leak in copies %d to %d, seed %llu\n", first, last - 1,
                  static_cast<unsigned long long>(options.seed));
      ++leaked;
      first = last;
    } else {
      const bool timed_out = WIFSIGNALED(status) && WTERMSIG(status) == SIGALRM;
      std::printf("  FAILED: copy %d, seed %llu: %s\n", shared->current, static_cast<unsigned long long>(options.seed),
                  timed_out ? "takes too long" : "crashed");
      ++(timed_out ? slow : crashed);
      first = shared->current + 1;
    }
  }
  const int* counts = shared->counts;
  int wrongly = 0;
  if (options.mode == "engine") wrongly = counts[built] + counts[ran] + counts[faulted];
  std::printf(
      "%s of %s: %d copies: %d refused, %d ran, %d failed in the run, %d not run; %d internal errors; "
      "%d crashed, %d too slow, %d leaked%s\n",
      options.mode.c_str(), options.file.c_str(), options.count, counts[refused], counts[ran], counts[faulted],
      counts[built], shared->internal, crashed, slow, leaked,
      wrongly ? fmt::format(", {} wrongly accepted", wrongly).c_str() : "");
  return crashed + slow + leaked + wrongly > 0 ? 1 : 0;
}

int save(const Options& options) {
  BuildOptions build;
  build.threads = 1;
  build.level = "portable";  // an engine that every machine loads
  ModelSource source;
  source.path = options.file;
  const Built made = compile(source, build);
  const Target* const target = &made.target;
  save_engine(std::span(&target, 1), options.output);
  return 0;
}

int usage() {
  std::fprintf(stderr,
               "usage: mutate model|engine|plan FILE [--count N] [--seed S] [--only K] [--seconds T] [--verbose]\n"
               "       mutate save MODEL FILE\n"
               "       each with [--plugins LIBRARY]\n");
  return 2;
}

}  // namespace

int main(int argc, char** argv) {
  Options options;
  std::vector<std::string> names, plugins;
  for (int i = 1; i < argc; ++i) {
    const std::string argument = argv[i];
    const auto number = [&] { return ++i < argc ? std::strtoll(argv[i], nullptr, 10) : 0; };
    if (argument == "--count")
      options.count = static_cast<int>(number());
    else if (argument == "--seed")
      options.seed = static_cast<uint64_t>(number());
    else if (argument == "--only")
      options.only = static_cast<int>(number());
    else if (argument == "--seconds")
      options.seconds = static_cast<int>(number());
    else if (argument == "--plugins" && i + 1 < argc)
      plugins.emplace_back(argv[++i]);
    else if (argument == "--verbose")
      options.verbose = true;
    else
      names.push_back(argument);
  }
  if (names.size() < 2) return usage();
  options.mode = names[0];
  options.file = names[1];
  try {
    for (const std::string& library : plugins) load_plugins(library);
    if (options.mode == "save") {
      if (names.size() != 3) return usage();
      options.output = names[2];
      return save(options);
    }
    if (options.mode != "model" && options.mode != "engine" && options.mode != "plan") return usage();
    const std::string original = read_text_file(options.file, size_t{1} << 30);
    if (options.only < 0) return run_all(original, options);
    Shared shared;
    options.verbose = true;
    try_copy(original, options, options.only, shared);
    return 0;
  } catch (const Error& e) {
    std::fprintf(stderr, "mutate: %s\n", e.what());
    return 2;
  }
}
