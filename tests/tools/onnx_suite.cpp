// Runs cases of the ONNX backend test suite: model in, engine out, outputs compared with the stored ones.
//
//   onnx_suite DATA_FOLDER EXCLUDED_FILE [--only SUBSTRING] [--verbose] [--jobs N] [--save]
//
// EXCLUDED_FILE has lines "pattern  reason" (a * stands for any characters). Every case that it does not name must
// pass; a pattern that names no case and an excluded case that passes are failures too. --save goes through the bytes
// of an engine file between building and running. Cases run in worker processes, so that a crash is one failed case.

#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <map>
#include <sstream>

#include "api/compile.h"
#include "backend/verify.h"
#include "base/file.h"
#include "base/scanner.h"
#include "engine/file.h"
#include "runtime/engine.h"
#include "tensor/tensor_proto.h"

namespace {

using namespace sinter;

struct Case {
  std::string name, model, folder;  // folder: of test_data_set_0, or empty for the real models
  double rtol = 1e-3, atol = 1e-7;
};

std::vector<std::string> entries(const std::string& folder) {
  std::vector<std::string> names;
  DIR* dir = ::opendir(folder.c_str());
  if (!dir) return names;
  while (const dirent* entry = ::readdir(dir))
    if (entry->d_name[0] != '.') names.push_back(entry->d_name);
  ::closedir(dir);
  std::sort(names.begin(), names.end());
  return names;
}

bool exists(const std::string& path) { return ::access(path.c_str(), R_OK) == 0; }

std::vector<Case> find_cases(const std::string& data) {
  std::vector<Case> cases;
  for (const char* kind : {"node", "simple", "pytorch-operator", "pytorch-converted"})
    for (const std::string& name : entries(data + "/" + kind)) {
      const std::string folder = data + "/" + kind + "/" + name;
      if (exists(folder + "/model.onnx")) cases.push_back({name, folder + "/model.onnx", folder, 1e-3, 1e-7});
    }
  // The real ones name a model of the light folder; densenet121 alone has a tolerance of its own.
  for (const std::string& name : entries(data + "/real")) {
    const std::string model = data + "/light/light_" + name.substr(std::min<size_t>(name.size(), 5)) + ".onnx";
    if (exists(model)) cases.push_back({name, model, "", name == "test_densenet121" ? 2e-3 : 1e-3, 1e-7});
  }
  return cases;
}

std::string compare(const Box& got, const Box& wanted, const Case& c) {
  if (got.kind != wanted.kind) return "another kind of value";
  if (got.kind == Box::Kind::none) return "";
  if (got.kind == Box::Kind::sequence) {
    if (got.items.size() != wanted.items.size())
      return "a sequence of " + std::to_string(got.items.size()) + ", not " + std::to_string(wanted.items.size());
    for (size_t i = 0; i < got.items.size(); ++i)
      if (std::string why = compare(got.items[i], wanted.items[i], c); !why.empty()) return why;
    return "";
  }
  const Tensor &a = got.tensor, &b = wanted.tensor;
  if (a.dtype() != b.dtype() || a.dims() != b.dims()) return type_text(a) + ", not " + type_text(b);
  if (a.dtype() == DType::string) {
    for (size_t i = 0; i < a.strings().size(); ++i)
      if (a.strings()[i] != b.strings()[i]) return "'" + a.strings()[i] + "', not '" + b.strings()[i] + "'";
    return "";
  }
  const bool complex = is_complex(a.dtype());
  const int64_t count = a.count() * (complex ? 2 : 1);
  const auto value = [&](const Tensor& t, int64_t i) -> double {
    if (t.dtype() == DType::c64) return t.as<float>()[i];
    if (t.dtype() == DType::c128) return t.as<double>()[i];
    if (t.dtype() == DType::u64) return static_cast<double>(static_cast<uint64_t>(t.get_integer(i)));
    return is_float(t.dtype()) ? t.get_real(i) : static_cast<double>(t.get_integer(i));
  };
  for (int64_t i = 0; i < count; ++i) {
    const double x = value(a, i), y = value(b, i);
    if (x == y || (std::isnan(x) && std::isnan(y))) continue;
    if (!(std::abs(x - y) <= c.atol + c.rtol * std::abs(y))) {
      std::ostringstream out;
      out << "element " << i << " is " << x << ", not " << y;
      return out.str();
    }
  }
  return "";
}

Box read_value(const std::string& path, const Type& type) {
  const auto bytes = read_file(path, size_t{1} << 31);
  return decode_value(bytes, type);
}

// "" when the case passes, else why not.
std::string run_case(const Case& c, bool save) {
  BuildOptions options;
  options.threads = 1;
  options.logger.sink = [](void*, LogLevel, std::string_view) {};
  ModelSource source;
  source.path = c.model;
  Built built = compile(source, options);
  const DeviceSpec device = this_machine(1);
  verify_target(built.target, device);
  std::shared_ptr<const Executable> executable;
  if (save) {
    const Target* target = &built.target;
    auto bytes = std::make_shared<std::vector<std::byte>>(save_engine(std::span(&target, 1)));
    executable = load_engine(*bytes, bytes, {.threads = 1});
  } else {
    executable = make_executable(std::move(built.target), device);
  }
  const auto engine = std::make_shared<const Engine>(executable);
  for (int set = 0;; ++set) {
    const std::string folder = c.folder + "/test_data_set_" + std::to_string(set);
    if (!c.folder.empty() && !exists(folder)) {
      if (set == 0) return "it has no data";
      return "";
    }
    Context context(engine);
    for (size_t i = 0; i < engine->inputs().size(); ++i) {
      const Type& type = engine->inputs()[i].type;
      if (!c.folder.empty()) {
        const std::string path = folder + "/input_" + std::to_string(i) + ".pb";
        context.set_input(i, read_value(path, type));
        continue;
      }
      const auto dims = constant_dims(*type.shape);
      Tensor x(DType::f32, *dims);
      for (int64_t k = 0; k < x.count(); ++k)
        x.as_mutable<float>()[k] = static_cast<float>(k) / static_cast<float>(x.count());
      context.set_input(i, Box(std::move(x)));
    }
    context.run();
    for (size_t o = 0; o < engine->outputs().size(); ++o) {
      const std::string path = c.folder.empty() ? c.model.substr(0, c.model.size() - 5) + "_output_0.pb"
                                                : folder + "/output_" + std::to_string(o) + ".pb";
      if (c.folder.empty() && o > 0) break;
      if (!exists(path)) return "output " + std::to_string(o) + " is not among the data";
      const std::string why = compare(context.output(o), read_value(path, engine->outputs()[o].type), c);
      if (!why.empty()) return "output " + std::to_string(o) + ": " + why;
    }
    if (c.folder.empty()) return "";
  }
}

bool matches(std::string_view pattern, std::string_view name) {
  if (pattern.empty()) return name.empty();
  if (pattern[0] == '*') {
    for (size_t skip = 0; skip <= name.size(); ++skip)
      if (matches(pattern.substr(1), name.substr(skip))) return true;
    return false;
  }
  return !name.empty() && pattern[0] == name[0] && matches(pattern.substr(1), name.substr(1));
}

struct Worker {
  pid_t pid = 0;
  int fd = -1;
  size_t next = 0;  // case that runs or comes next
  std::string pending;
};

void start(Worker& worker, const std::vector<Case>& cases, size_t stride, bool save) {
  int ends[2];
  if (::pipe(ends) != 0) std::abort();
  std::fflush(nullptr);
  worker.pid = ::fork();
  if (worker.pid == 0) {
    ::close(ends[0]);
    for (size_t i = worker.next; i < cases.size(); i += stride) {
      std::string why;
      try {
        ::alarm(120);
        why = run_case(cases[i], save);
      } catch (const std::exception& error) {
        why = error.what();
        if (why.empty()) why = "an error without text";
      }
      std::replace(why.begin(), why.end(), '\n', ' ');
      const std::string line = std::to_string(i) + " " + why.substr(0, 900) + "\n";
      if (::write(ends[1], line.data(), line.size()) < 0) ::_exit(1);
    }
    ::_exit(0);
  }
  ::close(ends[1]);
  worker.fd = ends[0];
}

}  // namespace

int main(int argc, char** argv) {
  std::string data, excluded_file, only;
  bool verbose = false, save = false;
  size_t jobs = 2;
  for (int i = 1; i < argc; ++i) {
    const std::string a = argv[i];
    if (a == "--verbose")
      verbose = true;
    else if (a == "--save")
      save = true;
    else if (a == "--only" && i + 1 < argc)
      only = argv[++i];
    else if (a == "--jobs" && i + 1 < argc)
      jobs = static_cast<size_t>(std::max(1, std::atoi(argv[++i])));
    else if (data.empty())
      data = a;
    else
      excluded_file = a;
  }
  if (excluded_file.empty()) {
    std::fprintf(stderr,
                 "usage: onnx_suite DATA_FOLDER EXCLUDED_FILE [--only SUBSTRING] [--verbose] [--jobs N] [--save]\n");
    return 2;
  }
  std::vector<Case> cases = find_cases(data);
  if (cases.empty()) {
    std::fprintf(stderr, "no cases below %s\n", data.c_str());
    return 1;
  }
  struct Exclusion {
    std::string pattern, reason;
    size_t named = 0;
  };
  std::vector<Exclusion> exclusions;
  std::ifstream file(excluded_file);
  for (std::string line; std::getline(file, line);) {
    if (line.empty() || line[0] == '#') continue;
    const size_t space = line.find(' ');
    if (space == std::string::npos) {
      std::fprintf(stderr, "%s: '%s' has no reason\n", excluded_file.c_str(), line.c_str());
      return 1;
    }
    exclusions.push_back({line.substr(0, space), line.substr(line.find_first_not_of(' ', space)), 0});
  }
  std::vector<bool> excluded(cases.size(), false);
  for (size_t i = 0; i < cases.size(); ++i)
    for (Exclusion& e : exclusions)
      if (matches(e.pattern, cases[i].name)) {
        excluded[i] = true;
        ++e.named;
      }
  size_t failed = 0;
  if (only.empty()) {
    for (const Exclusion& e : exclusions)
      if (e.named == 0) {
        std::printf("FAILED: '%s' in the list of exclusions names no case\n", e.pattern.c_str());
        ++failed;
      }
  } else {
    std::vector<Case> kept;
    std::vector<bool> kept_excluded;
    for (size_t i = 0; i < cases.size(); ++i)
      if (cases[i].name.find(only) != std::string::npos) {
        kept.push_back(cases[i]);
        kept_excluded.push_back(excluded[i]);
      }
    cases = std::move(kept);
    excluded = std::move(kept_excluded);
  }
  ::signal(SIGPIPE, SIG_IGN);
  std::vector<std::string> results(cases.size(), "did not run");
  std::vector<Worker> workers(std::min(jobs, std::max<size_t>(cases.size(), 1)));
  for (size_t w = 0; w < workers.size(); ++w) {
    workers[w].next = w;
    start(workers[w], cases, workers.size(), save);
  }
  size_t running = workers.size();
  while (running > 0) {
    std::vector<pollfd> polls;
    std::vector<Worker*> who;
    for (Worker& worker : workers)
      if (worker.fd >= 0) {
        polls.push_back({worker.fd, POLLIN, 0});
        who.push_back(&worker);
      }
    ::poll(polls.data(), polls.size(), -1);
    for (size_t p = 0; p < polls.size(); ++p) {
      if (polls[p].revents == 0) continue;
      Worker& worker = *who[p];
      char buffer[4096];
      const ssize_t n = ::read(worker.fd, buffer, sizeof buffer);
      if (n > 0) {
        worker.pending.append(buffer, static_cast<size_t>(n));
        for (size_t end; (end = worker.pending.find('\n')) != std::string::npos; worker.pending.erase(0, end + 1)) {
          const std::string line = worker.pending.substr(0, end);
          const size_t space = line.find(' ');
          const size_t index = std::stoul(line.substr(0, space));
          results[index] = line.substr(space + 1);
          worker.next = index + workers.size();
        }
        continue;
      }
      ::close(worker.fd);
      worker.fd = -1;
      int status = 0;
      ::waitpid(worker.pid, &status, 0);
      if (WIFEXITED(status) && WEXITSTATUS(status) == 0) {
        --running;
        continue;
      }
      if (worker.next < cases.size()) {
        results[worker.next] =
            WIFSIGNALED(status) ? std::string("crashed: ") + ::strsignal(WTERMSIG(status)) : "the process ended";
        worker.next += workers.size();
      }
      worker.pending.clear();
      start(worker, cases, workers.size(), save);
    }
  }
  size_t passed = 0, left_out = 0;
  for (size_t i = 0; i < cases.size(); ++i) {
    const bool good = results[i].empty();
    if (excluded[i] && good) {
      std::printf("FAILED %s: it passes; take it from the list of exclusions\n", cases[i].name.c_str());
      ++failed;
    } else if (excluded[i]) {
      ++left_out;
      if (verbose) std::printf("excluded %s: %s\n", cases[i].name.c_str(), results[i].c_str());
    } else if (good) {
      ++passed;
      if (verbose) std::printf("passed %s\n", cases[i].name.c_str());
    } else {
      ++failed;
      std::printf("FAILED %s: %s\n    again: %s %s %s --only %s --jobs 1\n", cases[i].name.c_str(), results[i].c_str(),
                  argv[0], data.c_str(), excluded_file.c_str(), cases[i].name.c_str());
    }
  }
  std::printf("ONNX suite: %zu cases, %zu excluded\n%zu passed, %zu failed\n", cases.size(), left_out, passed, failed);
  return failed == 0 ? 0 : 1;
}
