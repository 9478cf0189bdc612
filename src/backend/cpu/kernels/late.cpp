// Operators whose host operands are known only when they run (Slice, Pad, Range, TopK and others with computed
// operands), and those of values whose rank is.
//
// The row makes a problem of its own when it runs, with the numbers that the host operands hold then and with
// extents as they are, and gives it to the row of this backend that takes it. What it made is kept for the next run
// with the same numbers. Where no row takes it, or there is next to nothing to do, the definition does.

#include <atomic>
#include <cmath>
#include <cstring>

#include "backend/cpu/kernels/dynamic.h"
#include "backend/cpu/kernels/families.h"
#include "backend/storage.h"
#include "base/checked.h"

namespace sinter::cpu {
namespace {

constexpr int64_t little = 128;  // elements that the definition moves as fast as a problem is made

bool is_late(const Problem& problem, size_t input) {
  const Stage& stage = problem.stages[0];
  if (input >= 64 || !(stage.op->host_inputs >> input & 1) || stage.inputs[input] == absent_operand) return false;
  return std::holds_alternative<std::monostate>(problem.operands[stage.inputs[input]].contents);
}

Answer movable(const Type& type, const Layout& layout) {
  if (!type.is_tensor()) return Answer::no("a value is no tensor");
  if (type.dtype == DType::string || bit_size(type.dtype) < 8)
    return Answer::no("elements smaller than a byte, or strings");
  return row_major_or_any(layout) ? Answer::yes() : Answer::no("values must be row-major");
}

Answer late_supports(const Kernel&, const Problem& problem, const DeviceSpec&) {
  if (problem.stages.size() != 1) return Answer::no("more than one operator");
  const Stage& stage = problem.stages[0];
  bool any = false;  // something is known only when it runs
  for (const Operand& operand : problem.operands) {
    if (Answer a = movable(operand.type, operand.layout); !a) return a;
    any = any || !operand.type.has_shape();
  }
  for (const Problem::Result& result : problem.results) {
    if (Answer a = movable(problem.types[result.value], result.layout); !a) return a;
    any = any || !problem.types[result.value].has_shape();
  }
  if ((!stage.op->eval && !stage.op->pointwise) || !stage.op->is.deterministic)
    return Answer::no("an operator without a definite result");
  for (size_t i = 0; i < stage.inputs.size(); ++i) any = any || is_late(problem, i);
  return any ? Answer::yes() : Answer::no("ranks and host operands are known");
}

// Above every row that takes the problem as it is.
double late_cost(const Kernel&, const Problem& problem, std::span<const int64_t> symbols, const DeviceSpec&) {
  double elements = 1;
  for (const Operand& operand : problem.operands)
    if (operand.type.has_shape()) elements += elements_at(operand.type, symbols);
  return 2e4 + 10 * elements;
}

// What was made of one set of extents and numbers.
struct Made {
  Problem problem;
  std::vector<Dims> operands, results;
  std::vector<Tensor> host;        // contents of host operands, empty ones for others
  const Kernel* kernel = nullptr;  // null: no row takes it
  std::shared_ptr<const void> prepared;
  Bound bound;
};

// The last one made, replaced as a whole: contexts that run at the same time may each make their own.
struct Late {
  explicit Late(const DeviceSpec& d) : device(d) { device.threads = 1; }
  DeviceSpec device;
  mutable std::atomic<std::shared_ptr<const Made>> last;
};

std::shared_ptr<const void> late_prepare(const Kernel&, const Problem&, const Config&, const DeviceSpec& device) {
  return std::make_shared<const Late>(device);
}

const Tensor& operand_of(const Launch& launch, size_t v) {
  const auto* known = std::get_if<Tensor>(&launch.problem->operands[v].contents);
  return known ? *known : launch.boxes[v]->tensor;
}

bool fits(const Made& made, const Launch& launch) {
  for (size_t v = 0; v < made.operands.size(); ++v) {
    const Tensor& x = operand_of(launch, v);
    if (x.dims() != made.operands[v]) return false;
    if (const Tensor& host = made.host[v]; host.owner() && std::memcmp(host.data(), x.data(), x.bytes()) != 0)
      return false;
  }
  return true;
}

bool row_major(const Needs& needs) {
  const auto all = [](const std::vector<Layout>& layouts) {
    return std::all_of(layouts.begin(), layouts.end(), [](const Layout& l) { return l.is_row_major(); });
  };
  return all(needs.operands) && all(needs.results);
}

std::shared_ptr<const Made> make(const Launch& launch, const DeviceSpec& device) {
  auto made = std::make_shared<Made>();
  Problem& problem = made->problem;
  const Stage& stage = launch.problem->stages[0];
  problem.stages = launch.problem->stages;
  problem.results = launch.problem->results;
  for (size_t v = 0; v < launch.problem->operands.size(); ++v) {
    const Tensor& x = operand_of(launch, v);
    Operand operand;
    operand.type = Type::of(x);
    made->operands.push_back(x.dims());
    made->host.emplace_back();
    for (size_t i = 0; i < stage.inputs.size() && i < 64; ++i)
      if (stage.inputs[i] == v && (stage.op->host_inputs >> i & 1)) operand.host = true;
    if (operand.host) {
      operand.contents = x.clone();
      if (x.count() > 0) made->host.back() = std::get<Tensor>(operand.contents);
    }
    problem.operands.push_back(std::move(operand));
  }
  complete(problem);
  // What inference leaves open or undecided is the definition's to judge.
  if (!problem.defined.empty() || !problem.facts.empty()) return made;
  for (const Problem::Result& result : problem.results) {
    const Type& type = problem.types[result.value];
    const auto dims = type.is_plain() ? constant_dims(*type.shape) : std::nullopt;
    if (!dims) return made;
    made->results.push_back(*dims);
  }
  const Kernel* best = nullptr;
  double least = INFINITY;
  for (const Kernel* kernel : cpu_backend().kernels()) {
    if (kernel->takes_boxes || !kernel->supports(*kernel, problem, device)) continue;
    const double estimate = kernel->cost(*kernel, problem, {}, device);
    if (!(estimate < least) || !row_major(kernel->needs(*kernel, problem, Config(), device))) continue;
    best = kernel;
    least = estimate;
  }
  if (!best) return made;
  if (best->prepare) made->prepared = best->prepare(*best, problem, Config(), device);
  std::vector<const Tensor*> host;
  for (size_t v = 0; v < problem.operands.size(); ++v)
    host.push_back(std::get_if<Tensor>(&problem.operands[v].contents));
  best->bind(*best, made->prepared.get(), {problem, {}, made->operands, made->results, host, 1}, made->bound);
  made->kernel = best;
  return made;
}

Status run_made(const Made& made, const Launch& launch) {
  const Problem& problem = made.problem;
  const size_t operands = problem.operands.size();
  std::vector<void*> pointers(operands + problem.results.size(), nullptr);
  for (size_t v = 0; v < operands; ++v)
    if (!problem.operands[v].host) pointers[v] = const_cast<void*>(operand_of(launch, v).data());
  for (size_t r = 0; r < problem.results.size(); ++r) {
    Box& box = *launch.boxes[operands + r];
    pointers[operands + r] =
        storage_for(box, problem.types[problem.results[r].value].dtype, made.results[r]).mutable_data();
  }
  const std::vector<Box*> boxes(pointers.size(), nullptr);
  Tensor workspace(DType::u8, {made.bound.workspace}), scratch(DType::u8, {made.bound.scratch});
  Launch inner{made.prepared.get(),
               &made.bound,
               &problem,
               pointers.data(),
               boxes.data(),
               workspace.as_mutable<std::byte>(),
               scratch.as_mutable<std::byte>(),
               0,
               0,
               launch.fault};
  for (inner.phase = 0; inner.phase < made.bound.phases; ++inner.phase)
    for (inner.chunk = 0; inner.chunk < made.bound.chunks[inner.phase]; ++inner.chunk)
      if (Status status = made.kernel->run(inner); !status.ok()) return status;
  return {};
}

// Computed operands make large results of small ones, but for some operators.
bool may_grow(const Problem& problem) {
  const Stage& stage = problem.stages[0];
  if (is_op(stage, "Slice") || is_op(stage, "Reshape") || is_op(stage, "CumSum") || is_op(stage, "TopK")) return false;
  for (size_t i = 0; i < stage.inputs.size(); ++i)
    if (is_late(problem, i)) return true;
  return false;
}

Status late_run(const Launch& launch) {
  const Late& late = *static_cast<const Late*>(launch.prepared);
  const auto by_definition = [&] { return reference_backend().kernels()[0]->run(launch); };
  std::shared_ptr<const Made> made = late.last.load(std::memory_order_acquire);
  if (!made || !fits(*made, launch)) {
    int64_t elements = 0;
    for (size_t v = 0; v < launch.problem->operands.size(); ++v) elements += operand_of(launch, v).count();
    if (elements <= little && !may_grow(*launch.problem)) return by_definition();
    try {
      made = make(launch, late.device);
    } catch (const Error&) {
      return by_definition();  // it says what is wrong
    }
    late.last.store(made, std::memory_order_release);
  }
  try {
    return made->kernel ? run_made(*made, launch) : by_definition();
  } catch (const Error& error) {
    return Status(error);
  }
}

constexpr Kernel rows[] = {{.name = "late",
                            .supports = late_supports,
                            .needs = row_major_needs,
                            .cost = late_cost,
                            .prepare = late_prepare,
                            .bind = boxed_bind,
                            .run = late_run,
                            .takes_boxes = true}};

}  // namespace

std::span<const Kernel> late_kernels() { return rows; }

}  // namespace sinter::cpu
