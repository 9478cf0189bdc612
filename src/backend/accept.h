// accept: one row of a backend against the reference evaluation, on random operands of one shape.
//
// The problem is settled (needs) and run in guarded memory (KernelRun). What differs beyond rounding is an error:
// contractions may deviate by a multiple of sum |a| |b|, everything else relatively; moved elements and integers must
// be equal. Tests, tuning and bug reports share it.
#pragma once

#include <optional>

#include "backend/kernel_run.h"

namespace sinter {

// What fills memory that no kernel has written: NaN as numbers.
inline constexpr std::byte untouched_memory{0xff};

// Values of all operands: constants and host operands as they are, the rest at random by `seed` (an operator's samples
// where it has them). Symbols that operands mention must be given.
std::vector<Tensor> sample_operands(const Problem& problem, std::span<const int64_t> symbols, uint64_t seed);

// The problem with every `any` replaced by what the kernel needs.
Problem settle(const Problem& problem, const Kernel& kernel, const DeviceSpec& device);

// What the kernel makes of row-major operands, as the bytes of its results in their layouts (u8). The problem is
// settled. Throws Error when it refuses the shapes, reports a fault, or writes where it may not. over: the operand in
// whose place the result is made (may_overwrite).
std::vector<Tensor> run_kernel(const Problem& problem, const Kernel& kernel, const DeviceSpec& device,
                               std::span<const int64_t> symbols, std::span<const Tensor> operands,
                               std::optional<size_t> over = std::nullopt,
                               KernelRun::Start start = KernelRun::Start::line);

// The same by definition: row-major tensors.
std::vector<Tensor> run_reference(const Problem& problem, std::span<const int64_t> symbols,
                                  std::span<const Tensor> operands);

// A row-major tensor of whole bytes as the bytes of a layout.
Tensor in_layout(const Tensor& tensor, const Layout& layout);

// What every row that takes a problem is held against, at one shape: operands, and what the definition makes of them.
// Layouts are nothing to it, so one serves all rows at all levels. Throws Error where the definition refuses.
class Expectation {
 public:
  Expectation(const Problem& problem, std::span<const int64_t> symbols, uint64_t seed);

  std::span<const Tensor> operands() const { return operands_; }
  // Whether the row gives what the definition gives; the reason names the worst element. made: what it gave, as
  // run_kernel has it, unless the row was refused before it ran.
  Answer accept(const Problem& problem, const Kernel& kernel, const DeviceSpec& device,
                std::span<const int64_t> symbols, std::vector<Tensor>* made = nullptr) const;

 private:
  std::vector<Tensor> operands_, results_;
  std::optional<Tensor> magnitudes_;
  double of_magnitude_ = 0, absolute_ = 0;
};

// The same in one call.
Answer accept(const Problem& problem, const Kernel& kernel, const DeviceSpec& device, std::span<const int64_t> symbols,
              uint64_t seed);

}  // namespace sinter
