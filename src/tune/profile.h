// profile: where the time of a run goes, step by step.
#pragma once

#include <chrono>
#include <string>
#include <unordered_map>
#include <vector>

#include "backend/execute.h"

namespace sinter {

// Adds up the wall time of every kernel step over the runs that it watches. Reading the clock costs some 30 ns a step.
// Used by one run at a time.
class StepProfiler final : public StepObserver {
 public:
  struct Entry {
    std::string nodes;    // of the model, as sources_text has them
    std::string kernel;   // as `sinter list kernels` has it
    std::string problem;  // its text
    uint64_t calls = 0;
    double nanoseconds = 0;  // of all calls
    double shortest = 0;     // of the quickest call
  };
  void before(const Frame& frame, const Step& step, uint32_t choice) override;
  void after(const Frame& frame, const Step& step, uint32_t choice) override;
  // In the order in which the steps ran first.
  const std::vector<Entry>& entries() const { return entries_; }

 private:
  struct Key {
    const Step* step;
    uint32_t choice;
    bool operator==(const Key&) const = default;
  };
  struct Hash {
    size_t operator()(const Key& k) const { return std::hash<const void*>()(k.step) * 31 + k.choice; }
  };
  std::chrono::steady_clock::time_point start_;
  std::unordered_map<Key, size_t, Hash> numbers_;
  std::vector<Entry> entries_;
};

}  // namespace sinter
