// Engine and Context: what a program holds.
//
// An Engine is immutable and shared between threads; a Context runs it, one thread at a time (a second caller gets
// Code::busy). Inputs are set as shape and buffer; any shape within the bounds of the engine runs without
// recompilation. Outputs whose extents are known from the inputs can be given a buffer; all outputs can be read from
// the context after a run. A repeated run with the same shapes allocates nothing and takes no lock. An output shares no
// memory with inputs and other outputs, but for the one input that it may be made over (Engine::input_under): given
// that one's buffer, a cache is written in place.
#pragma once

#include <atomic>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "backend/execute.h"
#include "base/caller_threads.h"

namespace sinter {

class Engine {
 public:
  explicit Engine(std::shared_ptr<const Executable> executable);

  const Executable& executable() const { return *executable_; }
  std::span<const Binding> inputs() const { return {target().bindings.data(), inputs_}; }
  std::span<const Binding> outputs() const { return std::span(target().bindings).subspan(inputs_); }
  // Extents as text, one string an axis ("N", "224", "H/2"); none for an unknown rank.
  std::optional<std::vector<std::string>> extents_text(const Binding& binding) const;
  const Target& target() const { return executable_->target; }
  // The input whose buffer an output may be given, where both have as many bytes.
  std::optional<size_t> input_under(size_t output) const;

 private:
  std::shared_ptr<const Executable> executable_;
  size_t inputs_ = 0;
};

// A caller's value must be what an input's type says, down to the elements of sequences and optionals: kernels trust
// dtypes. Throws Error(Code::invalid_argument). Extents are the context's to check.
void require_fits(const Box& value, const Type& type, const std::string& input);

class Context final : private OutputProvider {
 public:
  // Runs on the process's default threads, or on those set below.
  explicit Context(std::shared_ptr<const Engine> engine, int threads = 0);
  ~Context() override;
  Context(const Context&) = delete;
  Context& operator=(const Context&) = delete;

  // `bytes` is the buffer's size and must hold the extents; the buffer stays the caller's and must live until the run
  // ends. Throws Error(Code::invalid_argument) naming input and axis.
  void set_input(size_t input, std::span<const int64_t> extents, const void* data, size_t bytes);
  // Strings, sequences and optionals are passed as boxes (copied).
  void set_input(size_t input, Box box);
  // null: the allocator or the context keeps the output. A buffer too small for the extents of a run makes it fail.
  void set_output(size_t output, void* data, size_t bytes);
  // Called during a run for every output without a buffer, as soon as its extents are known (strings, sequences and
  // optionals stay with the context). A null result ends the run with Code::out_of_memory.
  struct Allocator {
    void* (*allocate)(void* user, size_t output, DType dtype, const Dims& extents, int64_t bytes) = nullptr;
    void* user = nullptr;
  };
  void set_allocator(Allocator allocator);
  // The caller's threads for the runs that follow; none: what is the process's default now.
  void set_threads(const CallerThreads& threads);
  // Extents of an output for the inputs set so far; none when only running finds them out.
  std::optional<Dims> output_extents(size_t output);
  void run(const Control* control = nullptr, StepObserver* observer = nullptr);

  // After a run.
  const Dims& extents(size_t output) const;
  const void* data(size_t output) const;
  Box output(size_t output) const;  // a copy
  int64_t memory_bytes() const;     // held by this context now
  const Engine& engine() const { return *engine_; }

 private:
  void bind_shapes();
  void* output(uint32_t binding, const Dims& extents, int64_t bytes) override;
  void* buffer_for(size_t output, const Dims& extents, int64_t bytes);
  void claim(size_t output, const void* data, int64_t bytes);
  [[noreturn]] void refuse_overlap(size_t output, size_t binding) const;
  void deliver_boxed(size_t output);
  std::shared_ptr<const Engine> engine_;
  Status run_on(const Workers& workers);
  RunState state_;
  std::unique_ptr<const Crew> crew_;  // null: the process's pool
  std::unique_ptr<Frame> frame_;
  std::vector<Dims> extents_;  // of input bindings
  std::vector<Box> boxes_;     // of boxed inputs
  std::vector<bool> set_;
  struct Range {
    uintptr_t begin = 0, end = 0;
    bool operator==(const Range&) const = default;
    bool overlaps(const Range& other) const {
      return begin < end && other.begin < other.end && begin < other.end && other.begin < end;
    }
  };
  std::vector<Range> ranges_;  // by binding: the caller's inputs, and outputs of the run so far
  std::vector<void*> user_outputs_;
  std::vector<size_t> user_bytes_;
  std::vector<Memory> own_outputs_;
  std::vector<void*> delivered_;  // where each output of the last run lies
  Allocator allocator_;
  bool shapes_changed_ = true;
  bool ran_ = false;
  std::atomic<bool> busy_{false};
};

}  // namespace sinter
