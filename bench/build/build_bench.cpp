// How long building takes: reads, imports and builds every model given three times in one process, and prints the
// median and the largest of the best times, and what they were spent on.
//
//   build_bench [--threads N] MODEL.onnx...
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "builder/pipeline.h"
#include "frontends/onnx/import.h"
#include "frontends/onnx/reader.h"

namespace {

using namespace sinter;
using Clock = std::chrono::steady_clock;

double since(Clock::time_point start) {
  return std::chrono::duration<double, std::milli>(Clock::now() - start).count();
}

struct Row {
  std::string model;
  double read, import, build;
  double total() const { return read + import + build; }
};

void quiet(void*, LogLevel, std::string_view) {}

Row measure_once(const char* path, int threads) {
  Row row{path, 0, 0, 0};
  auto at = Clock::now();
  onnx::ReadOptions reading;
  reading.logger.sink = quiet;
  const auto model = onnx::read(path, reading);
  row.read = since(at);
  at = Clock::now();
  onnx::ImportOptions importing;
  importing.logger.sink = quiet;
  Module module = onnx::import(model, importing);
  row.import = since(at);
  at = Clock::now();
  BuildOptions options;
  options.threads = threads;
  options.logger.sink = quiet;
  const Built built = build(std::move(module), options);
  row.build = since(at);
  return row;
}

// The best of three.
Row measure(const char* path, int threads) {
  Row best = measure_once(path, threads);
  for (int n = 1; n < 3; ++n) {
    Row again = measure_once(path, threads);
    if (again.total() < best.total()) best = std::move(again);
  }
  return best;
}

}  // namespace

int main(int argc, char** argv) {
  int threads = 1;
  std::vector<Row> rows;
  int refused = 0;
  for (int i = 1; i < argc; ++i) {
    if (std::strcmp(argv[i], "--threads") == 0 && i + 1 < argc) {
      threads = std::atoi(argv[++i]);
      continue;
    }
    try {
      rows.push_back(measure(argv[i], threads));
    } catch (const Error&) {
      ++refused;
    }
  }
  if (rows.empty()) {
    std::fprintf(stderr, "usage: build_bench [--threads N] MODEL.onnx...\n");
    return 2;
  }
  std::sort(rows.begin(), rows.end(), [](const Row& a, const Row& b) { return a.total() > b.total(); });
  std::printf("%zu models built, %d refused; median %.2f ms, p99 %.2f ms, largest %.2f ms\n", rows.size(), refused,
              rows[rows.size() / 2].total(), rows[rows.size() / 100].total(), rows[0].total());
  std::printf("%8s %8s %8s\n", "read", "import", "build");
  for (size_t i = 0; i < std::min<size_t>(rows.size(), 25); ++i)
    std::printf("%8.2f %8.2f %8.2f  %s\n", rows[i].read, rows[i].import, rows[i].build, rows[i].model.c_str());
  return 0;
}
