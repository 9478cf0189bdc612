// KernelRun: one row bound to operands of one shape, as an executable would do it, to be run as often as wanted.
//
// Operands and results lie in memory of its own, exactly as large as the types say and guarded at its ends. Chunks of a
// phase run on device.threads threads. The problem is settled (accept.h), and it and the kernel outlive the run.
#pragma once

#include <memory>
#include <optional>

#include "backend/kernel.h"

namespace sinter {

class KernelRun {
 public:
  // What lies behind the memory that rows may touch.
  enum class Fence : uint8_t {
    pattern,  // bytes that results() checks, so only writing there is found
    page,     // from the next 64 bytes on, a page that ends the process when it is touched
  };

  // Where operands and results begin that are no weights and have strides: at a line of the cache, or, as parts of
  // other values may, one element behind its beginning.
  enum class Start : uint8_t { line, element };

  // operands: row-major. over: the operand in whose place the result is made (may_overwrite). Throws Error when the
  // kernel refuses the shapes.
  KernelRun(const Problem& problem, const Kernel& kernel, const DeviceSpec& device, std::span<const int64_t> symbols,
            std::span<const Tensor> operands, Fence fence, std::optional<size_t> over = std::nullopt,
            Start start = Start::line);
  KernelRun(KernelRun&&) noexcept;
  ~KernelRun();

  // Throws Error when the kernel fails.
  void run() const;

  // Leaves the calling core's caches as the steps of a network before this one would: weights have gone from the
  // second level since they were last read, the other operands have just been written, at least what fits of them.
  void cool() const;

  // After a run: the bytes of the results in their layouts (u8), or what a row that takes boxes made. Throws Error for
  // a fault, and when something was written where it may not be.
  std::vector<Tensor> results() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace sinter
