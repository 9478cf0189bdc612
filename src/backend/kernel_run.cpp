#include "backend/kernel_run.h"

#include <fmt/core.h>

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <cstring>

#include "backend/accept.h"
#include "base/caller_threads.h"
#include "base/thread_pool.h"

namespace sinter {
namespace {

struct Release {
  size_t mapped = 0;  // bytes from mmap; 0: it is from malloc
  void operator()(void* memory) const { mapped > 0 ? static_cast<void>(::munmap(memory, mapped)) : std::free(memory); }
};

// Memory that is exactly as large as asked and begins `ahead` bytes behind the beginning of a line, with a pattern
// around it that is checked and the fence asked for behind it. The sanitizer watches what lies around it instead.
class Guarded {
 public:
  Guarded(int64_t bytes, KernelRun::Fence fence, int64_t ahead = 0) : bytes_(bytes) {
#ifdef SINTER_SANITIZE
    (void)fence;
    allocate(ahead + bytes);
    data_ = static_cast<std::byte*>(memory_.get()) + ahead;
#else
    const int64_t size = (ahead + bytes + line - 1) / line * line;
    before_ = line;
    after_ = size - ahead - bytes + line;
    if (fence == KernelRun::Fence::page) {
      const int64_t page = ::sysconf(_SC_PAGESIZE);
      const int64_t mapped = (line + size + page - 1) / page * page + page;
      after_ -= line;
      void* const pages =
          ::mmap(nullptr, static_cast<size_t>(mapped), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
      if (pages == MAP_FAILED) refuse(bytes);
      memory_ = {pages, Release{static_cast<size_t>(mapped)}};
      data_ = static_cast<std::byte*>(pages) + mapped - page - size + ahead;
      if (::mprotect(data_ + size - ahead, static_cast<size_t>(page), PROT_NONE) != 0) refuse(bytes);
    } else {
      allocate(size + 2 * line);
      data_ = static_cast<std::byte*>(memory_.get()) + line + ahead;
    }
    std::memset(data_ - before_, static_cast<int>(pattern), static_cast<size_t>(before_ + bytes + after_));
#endif
    std::memset(data_, static_cast<int>(untouched_memory), static_cast<size_t>(bytes));
  }
  std::byte* data() const { return data_; }
  int64_t bytes() const { return bytes_; }
  bool intact() const {
    const auto same = [](std::byte b) { return b == pattern; };
    return std::all_of(data_ - before_, data_, same) && std::all_of(data_ + bytes_, data_ + bytes_ + after_, same);
  }

 private:
  static constexpr int64_t line = 64;
  static constexpr std::byte pattern{0xa5};
  [[noreturn]] static void refuse(int64_t bytes) {
    throw Error(Code::out_of_memory, fmt::format("cannot allocate {} bytes", bytes));
  }
  void allocate(int64_t bytes) {
    void* memory = nullptr;
    if (posix_memalign(&memory, line, static_cast<size_t>(bytes)) != 0) refuse(bytes);
    memory_.reset(memory);
  }
  std::unique_ptr<void, Release> memory_;
  std::byte* data_ = nullptr;
  int64_t bytes_ = 0, before_ = 0, after_ = 0;  // of the data; of the pattern on both sides
};

// Reads a byte of each line.
void touch(const std::byte* memory, int64_t bytes) {
  unsigned sum = 0;
  for (int64_t i = 0; i < bytes; i += 64) sum += std::to_integer<unsigned>(memory[i]);
  __asm__ volatile("" : : "r"(sum));
}

// Twice the second-level cache, so that reading it leaves nothing else there.
const std::vector<std::byte>& other_memory() {
  static const std::vector<std::byte> memory = [] {
    long bytes = 0;
#ifdef _SC_LEVEL2_CACHE_SIZE
    bytes = ::sysconf(_SC_LEVEL2_CACHE_SIZE);
#endif
    return std::vector<std::byte>(2 * static_cast<size_t>(std::clamp(bytes, 1L << 20, 8L << 20)));
  }();
  return memory;
}

}  // namespace

struct KernelRun::State {
  const Problem* problem;
  const Kernel* kernel;
  Fence fence;
  Start start;
  std::shared_ptr<const void> prepared;
  Bound bound;
  std::vector<Guarded> memory, scratch;
  std::vector<size_t> operand_memory, result_memory;  // indices; SIZE_MAX: none
  std::vector<Box> values;                            // of a row that takes boxes: operands, then results
  std::vector<void*> pointers;
  std::vector<Box*> boxes;
  std::vector<Tensor> host_values;
  std::vector<const Tensor*> host;
  std::atomic<uint32_t> fault{0};
  Launch launch;
  std::unique_ptr<Crew> crew;  // where the process has a default
  std::unique_ptr<Pool> pool;  // else
  int threads = 1;

  State(const Problem& p, const Kernel& k, Fence f, Start s) : problem(&p), kernel(&k), fence(f), start(s) {}

  size_t allocate(int64_t bytes, int64_t ahead = 0) {
    memory.emplace_back(bytes, fence, ahead);
    return memory.size() - 1;
  }
  int64_t ahead_of(DType dtype, const Layout& layout) const {
    return start == Start::element && layout.has_strides() && bit_size(dtype) >= 8 ? bit_size(dtype) / 8 : 0;
  }
  size_t copy_of(const Tensor& tensor, int64_t ahead = 0) {
    const size_t at = allocate(tensor.bytes(), ahead);
    if (tensor.bytes() > 0) std::memcpy(memory[at].data(), tensor.data(), static_cast<size_t>(tensor.bytes()));
    return at;
  }
  void* pointer(size_t at) const { return memory[at].bytes() > 0 ? memory[at].data() : nullptr; }

  void bind_boxes(const DeviceSpec& device, std::span<const Tensor> operands) {
    values.resize(operands.size() + problem->results.size());
    pointers.assign(values.size(), nullptr);
    for (Box& box : values) boxes.push_back(&box);
    for (size_t i = 0; i < operands.size(); ++i) {
      if (std::holds_alternative<Tensor>(problem->operands[i].contents)) {
        boxes[i] = nullptr;
        continue;
      }
      const Tensor& x = operands[i];
      if (x.dtype() == DType::string || x.count() == 0) {
        values[i] = Box(x);
        continue;
      }
      operand_memory[i] = copy_of(x);
      pointers[i] = memory[operand_memory[i]].data();
      values[i] = Box(Tensor(x.dtype(), x.dims(), pointers[i], nullptr));
    }
    kernel->bind(*kernel, prepared.get(), {*problem, {}, {}, {}, {}, device.threads}, bound);
    launch = {prepared.get(), &bound, problem, pointers.data(), boxes.data(), nullptr, nullptr, 0, 0, &fault};
  }

  void bind_memory(const DeviceSpec& device, std::span<const int64_t> symbols, std::span<const Tensor> operands,
                   std::optional<size_t> over) {
    std::vector<Dims> operand_dims, result_dims;
    host.assign(operands.size(), nullptr);
    host_values.reserve(operands.size());
    boxes.assign(operands.size() + problem->results.size(), nullptr);
    for (size_t i = 0; i < operands.size(); ++i) {
      operand_dims.push_back(operands[i].dims());
      if (!std::holds_alternative<std::monostate>(problem->operands[i].contents)) {
        host[i] = &host_values.emplace_back(operands[i]);
        pointers.push_back(nullptr);
        continue;
      }
      const Operand& operand = problem->operands[i];
      operand_memory[i] = copy_of(in_layout(operands[i], operand.layout),
                                  operand.constant ? 0 : ahead_of(operand.type.dtype, operand.layout));
      pointers.push_back(pointer(operand_memory[i]));
    }
    for (const Problem::Result& result : problem->results) {
      const Type& type = problem->types[result.value];
      result_dims.push_back(evaluate(*type.shape, symbols));
      result_memory.push_back(over ? operand_memory[*over]
                                   : allocate(layout_bytes(result.layout, type.dtype, result_dims.back()),
                                              ahead_of(type.dtype, result.layout)));
      pointers.push_back(pointer(result_memory.back()));
    }
    kernel->bind(*kernel, prepared.get(), {*problem, symbols, operand_dims, result_dims, host, device.threads}, bound);
    const size_t workspace = allocate(bound.workspace);
    for (int t = 0; t < device.threads; ++t) scratch.emplace_back(bound.scratch, fence);
    launch = {prepared.get(), &bound, problem, pointers.data(), boxes.data(), memory[workspace].data(),
              nullptr,        0,      0,       &fault};
    threads = device.threads;
    const CallerThreads given = default_threads();
    if (given.count > 0)
      crew = std::make_unique<Crew>(given, static_cast<unsigned>(threads));
    else
      pool = std::make_unique<Pool>(static_cast<unsigned>(threads - 1));
  }

  void run_phases() {
    if (crew)
      run_phases_on(*crew);
    else
      run_phases_on(pool->lease(static_cast<unsigned>(threads)));
  }

  void run_phases_on(const Workers& workers) {
    struct Job {
      State* state;
      int phase;
      std::atomic<bool> failed{false};
      Status status;
    };
    for (int phase = 0; phase < bound.phases; ++phase) {
      Job job{this, phase, false, {}};
      workers
          .parallel(
              bound.chunks[phase],
              [](void* user, int64_t chunk, unsigned worker) {
                Job& j = *static_cast<Job*>(user);
                Launch launch = j.state->launch;
                launch.phase = j.phase;
                launch.chunk = chunk;
                launch.scratch = j.state->scratch[worker].data();
                Status status = j.state->kernel->run(launch);
                if (!status.ok() && !j.failed.exchange(true)) j.status = std::move(status);
              },
              &job)
          .check();
      job.status.check();
    }
  }
};

KernelRun::KernelRun(const Problem& problem, const Kernel& kernel, const DeviceSpec& device,
                     std::span<const int64_t> symbols, std::span<const Tensor> operands, Fence fence,
                     std::optional<size_t> over, Start start)
    : state_(std::make_unique<State>(problem, kernel, fence, start)) {
  State& s = *state_;
  s.operand_memory.assign(operands.size(), SIZE_MAX);
  s.prepared = kernel.prepare ? kernel.prepare(kernel, problem, Config(), device) : nullptr;
  if (kernel.takes_boxes)
    s.bind_boxes(device, operands);
  else
    s.bind_memory(device, symbols, operands, over);
}

KernelRun::KernelRun(KernelRun&&) noexcept = default;
KernelRun::~KernelRun() = default;

void KernelRun::run() const {
  if (state_->kernel->takes_boxes)
    state_->kernel->run(state_->launch).check();
  else
    state_->run_phases();
}

void KernelRun::cool() const {
  const std::vector<std::byte>& other = other_memory();
  touch(other.data(), static_cast<int64_t>(other.size()));
  for (size_t i = 0; i < state_->operand_memory.size(); ++i) {
    const size_t at = state_->operand_memory[i];
    if (at == SIZE_MAX || state_->problem->operands[i].constant) continue;
    touch(state_->memory[at].data(), std::min(state_->memory[at].bytes(), static_cast<int64_t>(other.size() / 4)));
  }
}

std::vector<Tensor> KernelRun::results() const {
  const State& s = *state_;
  if (s.fault != 0) throw Error(Code::fault, fault_text(s.fault));
  for (const Guarded& g : s.memory)
    if (!g.intact()) throw Error(Code::mismatch, "it writes beyond an operand, a result or its workspace");
  for (const Guarded& g : s.scratch)
    if (!g.intact()) throw Error(Code::mismatch, "it writes beyond its scratch");
  std::vector<Tensor> out;
  if (s.kernel->takes_boxes) {
    for (size_t r = 0; r < s.problem->results.size(); ++r) {
      const Box& box = s.values[s.operand_memory.size() + r];
      const Type& type = s.problem->types[s.problem->results[r].value];
      if (box.kind != Box::Kind::tensor || !type.is_tensor() || box.tensor.dtype() != type.dtype ||
          (type.has_shape() && type.shape->size() != box.tensor.rank()))
        throw Error(Code::mismatch, fmt::format("result {} is of another type than the problem says", r));
      out.push_back(box.tensor.clone());
    }
    return out;
  }
  for (const size_t at : s.result_memory) {
    Tensor bytes(DType::u8, {s.memory[at].bytes()});
    if (s.memory[at].bytes() > 0)
      std::memcpy(bytes.mutable_data(), s.memory[at].data(), static_cast<size_t>(s.memory[at].bytes()));
    out.push_back(std::move(bytes));
  }
  return out;
}

}  // namespace sinter
