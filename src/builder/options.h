// What a caller may ask of a build.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/control.h"
#include "base/log.h"
#include "passes/passes.h"

namespace sinter {

// Bounds of a named dimension: accepted from low to high, fastest at best.
struct DimRange {
  std::string name;
  int64_t low = 0, best = 1, high = INT64_MAX;
};

struct BuildOptions {
  int threads = 0;  // 0: all usable CPUs
  std::optional<std::string>
      level;  // instruction set to build for: "portable", "avx2", "avx512", "avx512_bf16", "amx"; none: this machine's
  std::vector<DimRange> dims;
  PassOptions passes;
  std::vector<std::string> disabled_passes;
  bool check = false;                   // evaluate both sides of every rewrite
  uint32_t rewrite_limit = UINT32_MAX;  // bisect
  bool reference_only = false;          // every step by reference
  std::string dump_directory;           // graph text after every pass; empty: none
  std::string timing_cache;             // file; empty: none
  Logger logger;
  Control control;
};

}  // namespace sinter
