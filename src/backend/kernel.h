// Kernel: one row of a backend's table, and what it is given.
//
// The contract that makes verified engines safe: if supports() says yes, then for all symbol values that make every
// operand's extents non-negative and representable, and for any contents of device operands, run() touches only the
// bytes of its operands' types, its workspace and its scratch. supports and needs read only DeviceSpec::level and
// features and the Config, never cache sizes or thread counts: packed weights must mean the same wherever the engine
// runs. Kernels start no threads and hold no locks; work is split into phases of independent chunks.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "backend/problem.h"

namespace sinter {

struct DeviceSpec {
  std::string name = "cpu";
  uint8_t level = 0;      // cpu::Level: instruction set that kernels may use
  uint64_t features = 0;  // CPUID features behind it
  int threads = 1;
};

using Config = Attrs;  // tuning parameters of a kernel; empty when it has none

// Layouts that a kernel wants for operands and results given as `any`; those already fixed are returned unchanged.
struct Needs {
  std::vector<Layout> operands, results;
};

struct BindContext {
  const Problem& problem;
  std::span<const int64_t> symbols;         // values of the problem's symbols
  std::span<const Dims> operands, results;  // extents now
  std::span<const Tensor* const> host;      // contents of host operands; null for others
  int threads;
};

// What bind decides for one shape.
struct Bound {
  static constexpr int max_phases = 4;
  int phases = 1;
  int64_t chunks[max_phases] = {1, 1, 1, 1};
  int64_t workspace = 0;              // bytes shared by all chunks of the step
  int64_t scratch = 0;                // bytes per thread
  std::shared_ptr<const void> state;  // the kernel's own numbers
  template <typename T>
  const T& as() const {
    return *static_cast<const T*>(state.get());
  }
};

struct Launch {
  const void* prepared;
  const Bound* bound;
  const Problem* problem;
  void* const* operands;  // operands, then results; null for absent or empty ones
  Box* const* boxes;      // same numbering; non-null where a value is boxed
  std::byte* workspace;
  std::byte* scratch;  // of this thread
  int phase;
  int64_t chunk;
  std::atomic<uint32_t>* fault;  // set to a nonzero fault number when data broke a rule
};

enum Fault : uint32_t { no_fault = 0, index_out_of_range = 1 };
const char* fault_text(uint32_t fault);

struct Kernel;
// Whether a kernel makes the only result of a problem over this operand when both have one place. They can have that
// where they have as many bytes, which their types say, but for rows with `overwrites_by_size`.
bool may_overwrite(const Kernel& kernel, const Problem& problem, size_t operand);

struct Kernel {
  const char* name;            // family_types_tile_level
  const void* self = nullptr;  // what rows of one family differ in
  Answer (*supports)(const Kernel&, const Problem&, const DeviceSpec&);
  Needs (*needs)(const Kernel&, const Problem&, const Config&, const DeviceSpec&);
  // Estimated nanoseconds at these symbol values.
  double (*cost)(const Kernel&, const Problem&, std::span<const int64_t> symbols, const DeviceSpec&);
  // Once per engine; what it returns lives as long as the engine. Null: nothing to prepare.
  std::shared_ptr<const void> (*prepare)(const Kernel&, const Problem&, const Config&, const DeviceSpec&) = nullptr;
  // Once per shape; throws Error when the shapes cannot be run.
  void (*bind)(const Kernel&, const void* prepared, const BindContext&, Bound&);
  // One chunk of one phase. noexcept in effect: a bad status ends the run.
  Status (*run)(const Launch&);
  const Fields* (*config)() = nullptr;  // its tuning parameters; null: none
  bool takes_boxes = false;             // reads and writes Box operands; may allocate
  bool cost_is_guess = false;           // a small one does not mean that there is little to do
  // Whether the result may be made over an operand of its type and layout that nothing else reads: whatever the
  // extents, each element is read before the same element is written, by the same chunk. Null: never.
  bool (*may_overwrite)(const Kernel&, const Problem&, size_t operand) = nullptr;
  bool overwrites_by_size = false;  // also where only running tells that both have as many bytes
  uint64_t features = 0;            // of DeviceSpec: without them it takes nothing, whatever the level
};

// A backend: its table and what it says of the machine.
struct Backend {
  const char* name;
  std::span<const Kernel* const> (*kernels)();
  DeviceSpec (*describe)();
};

// The backends of this build, fastest first; the reference backend is last and takes everything.
std::span<const Backend* const> backends();
const Backend& cpu_backend();
const Backend& reference_backend();

// A row by its qualified name "cpu/contract_f32_avx512"; null when there is none.
const Kernel* find_kernel(std::string_view qualified_name);
// This machine: its level and features, and the number of threads asked for (0: all usable CPUs).
DeviceSpec this_machine(int threads = 0);
// The same machine with a lower instruction set level, by name ("portable", "avx2", "avx512", "avx512_bf16", "amx").
// Throws when the machine lacks it.
DeviceSpec restrict_level(const DeviceSpec& machine, std::string_view level);  // backend/cpu/device.cpp
// The name of its level; a number where it is none that this library knows.
std::string level_text(const DeviceSpec& device);  // backend/cpu/device.cpp

}  // namespace sinter
