// Measured times of kernels, kept in a text file from build to build.
//
// A build that is given a timing cache measures the rows that the cost model ranks first and takes the fastest; the
// first stays unless another is clearly faster. All that was measured is written back, one line a row:
//   problem | values of its symbols | device and threads | kernel | nanoseconds
// With a cache that knows every row asked for, nothing is measured and the build is a pure function of its inputs. A
// file that cannot be read as a cache is left alone until the build is done; times of another library version do not
// count.
#pragma once

#include <map>
#include <optional>
#include <string>

#include "backend/kernel.h"
#include "base/log.h"

namespace sinter {

class TimingCache {
 public:
  // A file that does not exist is an empty cache.
  TimingCache(std::string path, const Logger& logger);

  struct Row {
    const Kernel* kernel;
    std::string name;
    std::optional<double> nanoseconds = std::nullopt;  // of one execution; none: it cannot be run on sampled operands
  };

  // Gives the rows their times at these symbol values. Those that are not known are measured now: one after the other
  // in every round, so that a change of the machine's pace meets all of them, and with caches as the steps of a network
  // before this one leave them. `problem` may have open layouts: they are what each kernel wants.
  void time(std::span<Row> rows, const Problem& problem, std::span<const int64_t> symbols, const DeviceSpec& device);

  // Writes the file when something was measured (beside it, then renamed). Throws Error(Code::io).
  void save() const;
  size_t measured() const { return measured_; }

 private:
  std::string path_;
  std::map<std::string, double> nanoseconds_;  // by line without the number
  size_t measured_ = 0;
};

}  // namespace sinter
