// Execute: runs a Target's plans. Timing, saving (the init plan) and the runtime share it.
//
// An Executable is a verified Target with its kernels found and prepared; it is immutable and shared. A Frame is one
// running instance of a plan: slot table, memory, bound shapes. Binding happens per segment and only when a symbol that
// the segment depends on has changed; a repeated run with the same shapes allocates nothing and takes no lock. Memory
// grows to a high-water mark and stays. A Frame is used by one thread at a time.
#pragma once

#include <atomic>
#include <memory>
#include <span>
#include <vector>

#include "backend/plan.h"
#include "base/company.h"
#include "base/control.h"
#include "base/float_mode.h"
#include "base/workers.h"

namespace sinter {

// What is derived from a plan once.
struct PlanInfo {
  const Plan* plan = nullptr;
  struct Segment {
    uint32_t begin = 0, end = 0;    // steps
    bool has_bodies = false;        // some are If, Loop or Scan
    std::vector<uint32_t> slots;    // sized in this segment, in an order in which `above` is satisfied
    std::vector<SymbolId> depends;  // symbols that its sizes and kernels read
    std::vector<uint32_t> outputs;  // slots that are the caller's output buffers, known in size from here on
    std::vector<uint32_t> results;  // of a body: which of its results are `written` (below) in this segment
  };
  // How a result leaves a body: copied; written by its step where the caller wants it (an arena slot, the first time it
  // is a result); or moved out of its box, which a step makes anew in every run.
  enum class Exit : uint8_t { copied, written, moved };
  std::vector<Segment> segments;
  std::vector<Exit> exits;                                         // by result
  std::vector<std::vector<std::shared_ptr<const void>>> prepared;  // by step and choice
  std::vector<SymbolId> binds;  // by parameters, of a body: extents that no plan around it has bound
  std::vector<PlanInfo> bodies;
};

struct Executable {
  Target target;
  DeviceSpec device;
  std::vector<const Kernel*> kernels;  // behind target.kernels
  bool flushes_denormals = false;      // some contraction may round its operands: nobody counts on such small numbers
  PlanInfo main;
  // By output of the main plan: the number of the input over which it may be made, where both have as many bytes, or
  // no_slot. The step that makes it is the last one to read that input, and its kernels may.
  std::vector<uint32_t> over;
};

// Resolves kernels, asks `supports` again, prepares. The target must have passed verify_target (backend/verify.h).
// Throws Error(Code::engine_incompatible) when a kernel is missing or refuses this machine.
std::shared_ptr<const Executable> make_executable(Target target, const DeviceSpec& device);

class Frame;
struct LoopAttrs;

// Sees every kernel step before and after it runs (taps, profiler). Boxes and pointers are valid during the call only.
class StepObserver {
 public:
  virtual ~StepObserver() = default;
  virtual void before(const Frame&, const Step&, uint32_t /*choice*/) {}
  virtual void after(const Frame&, const Step&, uint32_t /*choice*/) {}
};

// 64-byte aligned memory that grows and never shrinks.
class Memory {
 public:
  enum class Kind : uint8_t { real, counted };  // counted: it has a size only

  explicit Memory(Kind kind = Kind::real) : kind_(kind) {}
  ~Memory();
  Memory(const Memory&) = delete;
  Memory& operator=(const Memory&) = delete;
  Memory(Memory&& other) noexcept : kind_(other.kind_), data_(other.data_), size_(other.size_) {
    other.data_ = nullptr, other.size_ = 0;
  }
  std::byte* reserve(int64_t bytes);  // contents are lost when it grows; throws Error(Code::out_of_memory)
  std::byte* data() const { return data_; }
  int64_t size() const { return size_; }
  Kind kind() const { return kind_; }

 private:
  Kind kind_;
  std::byte* data_ = nullptr;
  int64_t size_ = 0;
};

// Gives the buffer of an output binding when its extents are known: before the run, or when the step that finds them
// out has run.
class OutputProvider {
 public:
  virtual ~OutputProvider() = default;
  virtual void* output(uint32_t binding, const Dims& extents, int64_t bytes) = 0;
};

// State shared by a frame and the frames of its bodies.
struct RunState {
  explicit RunState(Memory::Kind memory = Memory::Kind::real) : workspace(memory), scratch(memory) {}

  std::vector<int64_t> symbols;  // values by plan symbol; -1: unbound
  std::vector<void*> bindings;   // buffers by Target::bindings
  Memory workspace, scratch;
  int64_t scratch_bytes = 0;  // per thread
  std::atomic<uint32_t> fault{0};
  uint32_t fault_source = no_slot;   // node of the user's model whose step set it first
  const Workers* workers = nullptr;  // null: the caller is alone
  int threads = 1;
  bool own_threads = false;  // workers are the caller's, who has decided that there are any
  // What belongs to the caller: it is asked, told and polled in the floating-point mode that the thread came with.
  StepObserver* observer = nullptr;
  OutputProvider* outputs = nullptr;  // null: bindings of outputs are set already
  const Control* control = nullptr;
  const FlushDenormals* flush = nullptr;  // that of the run, if it has one

  void poll() const {
    if (!control) return;
    const FlushDenormals::Pause pause(flush);
    control->poll();
  }
};

class Frame {
 public:
  // Where the state's memory is only counted, so is the frame's: shapes are bound and not run.
  Frame(const Executable& executable, const PlanInfo& info, RunState& state);
  ~Frame();
  Frame(const Frame&) = delete;
  Frame& operator=(const Frame&) = delete;

  // Input bindings' extents must be in `symbols` and parameters passed before. Throws Error for shapes that cannot run.
  Status run();
  // Binds the segments whose symbols are known already (sizes of outputs, memory needed) without running.
  void bind_first();
  // Threads that the next run wants, by what there is to do and what earlier runs took; all there are where parts have
  // not been bound yet.
  int threads_wanted() const;

  // A parameter of a body.
  void pass(uint32_t parameter, void* pointer, Box* box, const Dims& extents);
  // A boxed input of the main plan.
  void set_box(uint32_t slot, Box box);
  int64_t bytes(uint32_t s) const { return bytes_[s]; }
  const Slot& slot(uint32_t s) const { return info_.plan->slots[s]; }
  void* pointer(uint32_t s) const { return pointers_[s]; }
  const Dims& extents(uint32_t s) const { return extents_[s]; }
  Box* box(uint32_t s) const { return boxes_[s]; }
  // The slot's value as a tensor of its own, row-major whatever its layout (packed layouts are refused).
  Box snapshot(uint32_t s) const;
  const Executable& executable() const { return executable_; }
  const RunState& state() const { return state_; }
  int64_t arena_bytes() const;

 private:
  // Values of one loop from one iteration to the next; storage stays from run to run.
  struct LoopState {
    std::vector<Box> current, next;  // carried
    std::vector<Box> slices;         // of scanned operands
    std::vector<Box> stacked;        // slices of results along a leading axis, with room to grow
  };
  struct SegmentState {
    bool bound = false;
    bool alone = false;  // has too little to do for more threads than the caller's
    double judged = -1;  // bytes of its slots when that was found
    Company company;     // of a segment without bodies, whose own segments are judged
    std::vector<int64_t> values;
    Memory memory;
  };
  void refresh_pointers();
  Status run_steps(size_t segment);
  bool is_bound(size_t segment) const;  // for the present values of the symbols it depends on
  void bind_segment(size_t segment);
  void place_slots(const PlanInfo::Segment& segment, std::byte* memory);
  void size_slot(uint32_t s);
  void check_view(uint32_t s) const;
  void name_slot(Error& error, uint32_t s) const;
  void* view_of(uint32_t s) const;
  uint32_t choice_now(const Step& step) const;
  const std::vector<int64_t>& bind_symbols(const Choice& choice);  // of its problem, in binding_
  void bind_choice(uint32_t step);
  void judge_segment(size_t segment);  // execute_work.cpp
  bool has_little_to_do(const PlanInfo::Segment& segment);
  bool splits_work() const;  // as far as it is bound
  bool goes_alone(const SegmentState& segment) const;
  Status run_step(uint32_t step);
  Status run_kernel(uint32_t step);
  Status run_boxed(uint32_t step, Launch& launch);
  Status run_branch(uint32_t step);  // execute_control.cpp
  Status run_loop(uint32_t step);
  void finish_results(const Step& step);
  // Where result `r` of this body is wanted in the coming run; nothing happens unless it can be written there.
  void give(uint32_t r, Box& box);
  static void take_result(Box& into, Frame& body, uint32_t r);
  static void copy_slot(Box& into, const Frame& frame, uint32_t from);
  void pass_iteration(Frame& body, const LoopAttrs& attrs, const Step& step, LoopState& loop, int64_t& iteration,
                      int64_t trips);
  void stack_results(const Frame& body, const LoopAttrs& attrs, LoopState& loop, int64_t iteration, int64_t trips);
  void without_turns(Frame& body, const LoopAttrs& attrs, const Step& step);
  void finish_loop(Frame& body, const LoopAttrs& attrs, const Step& step, LoopState& loop, int64_t count);
  void check_parameters() const;
  Frame& body_frame(uint32_t body);
  void pass_to(Frame& body, uint32_t parameter, uint32_t slot);

  const Executable& executable_;
  const PlanInfo& info_;
  RunState& state_;
  std::vector<void*> pointers_;
  std::vector<Box*> boxes_;
  std::vector<Dims> extents_;
  std::vector<int64_t> bytes_;
  std::vector<int64_t> ends_;
  std::vector<int64_t> starts_;       // of parts: bytes of the base before them
  std::vector<Box> owned_;            // of boxed slots
  std::vector<bool> writes_columns_;  // parts with a pitch that steps write
  std::vector<bool> sized_;           // boxed slots whose extents are known before they are made
  std::vector<uint32_t> external_;    // slots whose pointers the caller decides, and views of them
  std::vector<SegmentState> segments_;
  bool alone_ = false;  // the segment that runs
  std::vector<Bound> bound_;
  std::vector<uint32_t> choice_;
  std::vector<std::vector<void*>> arguments_;  // pointer tables of the steps
  std::vector<std::vector<Box*>> box_arguments_;
  std::vector<LoopState> loops_;  // by step
  std::vector<Box*> given_;       // by result: where it is written in this run, or null
  struct {
    std::vector<int64_t> symbols;
    std::vector<Dims> operands, results;
    std::vector<Tensor> host;
    std::vector<const Tensor*> host_pointers;
    int threads = 1;  // for the segment
  } binding_;         // of the step that is being bound
  std::vector<std::unique_ptr<Frame>> bodies_;
};

}  // namespace sinter
