// Frame: binds a plan's segments to shapes and runs its steps. One file, as both work on all that a Frame holds.

#include "backend/execute.h"

#include <fmt/core.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>

#include "backend/storage.h"
#include "base/aligned.h"
#include "base/checked.h"

namespace sinter {
namespace {

constexpr int64_t alignment = 64;

// What inference needed and could not prove must hold for these extents.
void check_fact(const Fact& fact, const Problem& problem, std::span<const int64_t> symbols) {
  const int64_t left = fact.left.evaluate(symbols), right = fact.right.evaluate(symbols);
  bool holds = false;
  switch (fact.kind) {
    case Fact::Kind::equal: holds = left == right; break;
    case Fact::Kind::at_least: holds = left >= right; break;
    case Fact::Kind::divides: holds = left == -1 || (left != 0 && right % left == 0); break;
  }
  if (!holds)
    throw Error(Code::invalid_argument, fmt::format("these extents do not fit together: {} ({} = {}, {} = {})",
                                                    fact.reason, to_string(fact.left, problem.symbols), left,
                                                    to_string(fact.right, problem.symbols), right));
}

// Known contents in symbols as numbers.
void set_numbers(Tensor& to, std::span<const Dim> dims, std::span<const int64_t> symbols) {
  for (size_t i = 0; i < dims.size(); ++i) to.set_integer(static_cast<int64_t>(i), dims[i].evaluate(symbols));
}

// Says which nodes of the user's model an error concerns, unless one further in has said so.
void name_nodes(Error& error, std::span<const uint32_t> sources, const Target& target) {
  if (!error.origin().node.empty() || error.code() == Code::cancelled || error.code() == Code::busy) return;
  constexpr size_t shown = 3;
  std::string list;
  size_t count = 0;
  for (const uint32_t source : sources) {
    if (source >= target.sources.size()) continue;
    if (++count > shown) continue;
    const SourceNode& node = target.sources[source];
    if (count == 1) error.at_node(node.name);
    list += fmt::format("{}'{}' ({})", count > 1 ? ", " : "", node.name, node.op_type);
  }
  if (count > 0)
    error.add_context(fmt::format("node{} {}{}", count == 1 ? "" : "s", list, count > shown ? ", ..." : ""));
}

}  // namespace

Memory::~Memory() { std::free(data_); }

std::byte* Memory::reserve(int64_t bytes) {
  if (bytes <= size_) return data_;
  const int64_t wanted = align_up(bytes, alignment, "memory of a context");
  if (kind_ == Kind::counted) {
    size_ = wanted;
    return nullptr;
  }
  void* fresh = allocate_aligned(static_cast<size_t>(wanted));
  if (!fresh) throw Error(Code::out_of_memory, fmt::format("cannot allocate {} bytes for a run", wanted));
  std::free(data_);
  data_ = static_cast<std::byte*>(fresh);
  size_ = wanted;
  return data_;
}

Frame::Frame(const Executable& executable, const PlanInfo& info, RunState& state)
    : executable_(executable), info_(info), state_(state) {
  const Plan& plan = *info.plan;
  const size_t slots = plan.slots.size(), steps = plan.steps.size();
  pointers_.resize(slots, nullptr);
  boxes_.resize(slots, nullptr);
  extents_.resize(slots);
  bytes_.resize(slots, 0);
  ends_.resize(slots, 0);
  starts_.resize(slots, 0);
  owned_.resize(slots);
  sized_.resize(slots, false);
  writes_columns_.resize(slots, false);
  segments_.reserve(info.segments.size());
  for (size_t k = 0; k < info.segments.size(); ++k)
    segments_.push_back({.company = {}, .values = {}, .memory = Memory(state.workspace.kind())});
  bound_.resize(steps);
  choice_.resize(steps, 0);
  arguments_.resize(steps);
  box_arguments_.resize(steps);
  loops_.resize(steps);
  for (uint32_t s = 0; s < slots; ++s) {
    const Slot& slot = plan.slots[s];
    if (slot.kind == SlotKind::boxed) boxes_[s] = &owned_[s];
    if (const auto* tensor = std::get_if<Tensor>(&slot.contents); tensor && slot.kind == SlotKind::boxed) {
      owned_[s] = Box(*tensor);
      extents_[s] = tensor->dims();
    }
    // Views follow their base, which may move when a segment is bound again.
    const SlotKind kind = slot.kind;
    if (kind == SlotKind::binding || kind == SlotKind::parameter || kind == SlotKind::boxed || kind == SlotKind::view)
      external_.push_back(s);
  }
  // Bases before their views.
  std::vector<uint32_t> distance(slots, 0);
  for (uint32_t s : external_)
    for (uint32_t base = s; plan.slots[base].kind == SlotKind::view; base = plan.slots[base].of) ++distance[s];
  std::stable_sort(external_.begin(), external_.end(),
                   [&](uint32_t a, uint32_t b) { return distance[a] < distance[b]; });
  for (uint32_t i = 0; i < steps; ++i) {
    const size_t values = plan.steps[i].operands.size() + plan.steps[i].results.size();
    arguments_[i].resize(values, nullptr);
    box_arguments_[i].resize(values, nullptr);
    if (plan.steps[i].defines.empty())
      for (uint32_t s : plan.steps[i].results) sized_[s] = true;
    for (uint32_t s : plan.steps[i].results)
      writes_columns_[s] = plan.slots[s].is_part() && plan.slots[s].layout.pitch != 0;
  }
  bodies_.resize(info.bodies.size());
  given_.resize(plan.results.size(), nullptr);
}

Frame::~Frame() = default;

Frame& Frame::body_frame(uint32_t body) {
  if (!bodies_[body]) bodies_[body] = std::make_unique<Frame>(executable_, info_.bodies[body], state_);
  return *bodies_[body];
}

void Frame::pass(uint32_t parameter, void* pointer, Box* box, const Dims& extents) {
  const uint32_t s = info_.plan->parameters[parameter];
  const Type& type = info_.plan->slots[s].type;
  pointers_[s] = pointer;
  boxes_[s] = box;
  extents_[s] = extents;
  if (box)
    bytes_[s] = box->kind == Box::Kind::tensor && box->tensor.dtype() != DType::string ? box->tensor.bytes() : 0;
  else
    bytes_[s] = type.is_tensor() ? byte_size(type.dtype, element_count(extents)) : 0;
  if (!type.has_shape() || type.shape->size() != extents.size()) return;
  for (size_t k = 0; k < extents.size(); ++k)
    if (const auto id = (*type.shape)[k].as_symbol();
        id && std::find(info_.binds.begin(), info_.binds.end(), *id) != info_.binds.end())
      state_.symbols[*id] = extents[k];
}

// After all parameters were passed: what they bound must hold for each of them.
void Frame::check_parameters() const {
  for (uint32_t s : info_.plan->parameters) {
    const Type& type = info_.plan->slots[s].type;
    if (!type.has_shape()) continue;
    bool fits = type.shape->size() == extents_[s].size();
    for (size_t k = 0; fits && k < extents_[s].size(); ++k)
      fits = (*type.shape)[k].evaluate(state_.symbols) == extents_[s][k];
    if (!fits) throw Error(Code::fault, "a body is given a value of other extents than the plan says");
  }
}

void Frame::set_box(uint32_t s, Box box) {
  owned_[s] = std::move(box);
  if (owned_[s].kind != Box::Kind::tensor) return;
  extents_[s] = owned_[s].tensor.dims();
  bytes_[s] = owned_[s].tensor.dtype() == DType::string ? 0 : owned_[s].tensor.bytes();
}

void Frame::refresh_pointers() {
  const Plan& plan = *info_.plan;
  for (uint32_t s : external_) {
    const Slot& slot = plan.slots[s];
    switch (slot.kind) {
      case SlotKind::binding: pointers_[s] = state_.bindings[slot.of]; break;
      case SlotKind::boxed:
        pointers_[s] = owned_[s].kind == Box::Kind::tensor ? owned_[s].tensor.mutable_data() : nullptr;
        break;
      case SlotKind::view: pointers_[s] = view_of(s); break;
      default: break;
    }
  }
}

// Empty parts have no place: their base may end before it.
void* Frame::view_of(uint32_t s) const {
  const Slot& slot = info_.plan->slots[s];
  void* base = pointers_[slot.of];
  if (!slot.is_part() || bytes_[s] == 0 || !base) return base;
  return static_cast<std::byte*>(base) + starts_[s];
}

void Frame::size_slot(uint32_t s) {
  const Slot& slot = info_.plan->slots[s];
  if (!slot.type.is_plain()) return;
  if (slot.kind == SlotKind::boxed && !sized_[s]) return;  // sized by who makes it
  extents_[s] = evaluate(*slot.type.shape, state_.symbols);
  bytes_[s] = layout_bytes(slot.layout, slot.type.dtype, extents_[s]);
  if (slot.at) starts_[s] = checked_mul(slot.at->evaluate(state_.symbols), byte_size(slot.type.dtype, 1), "part");
  if (slot.kind == SlotKind::weight) pointers_[s] = const_cast<void*>(executable_.target.weights[slot.of].bytes.data());
}

// Says which node of the user's model makes a slot, which tensor it is and what is known of its extents, of an error
// met while it was sized.
void Frame::name_slot(Error& error, uint32_t s) const {
  const Plan& plan = *info_.plan;
  const Slot& slot = plan.slots[s];
  if (slot.type.is_plain() && slot.type.has_shape()) {
    const Shape& shape = *slot.type.shape;
    const auto wrong = std::find_if(shape.begin(), shape.end(), [&](const Dim& d) {
      try {
        return d.evaluate(state_.symbols) < 0;
      } catch (const Error&) {
        return true;
      }
    });
    std::vector<SymbolId> ids;
    for (const Dim& d : shape)
      if (wrong == shape.end() || &d == &*wrong) d.collect_symbols(ids);
    std::sort(ids.begin(), ids.end());
    ids.erase(std::unique(ids.begin(), ids.end()), ids.end());
    std::string text = wrong == shape.end() ? std::string() : fmt::format("dimension {} of ", wrong - shape.begin());
    text += "tensor " + to_text(slot.type, executable_.target.symbols);
    for (size_t k = 0; k < ids.size(); ++k)
      text += fmt::format("{}{} = {}", k == 0 ? " with " : ", ",
                          to_string(Dim::symbol(ids[k]), executable_.target.symbols), state_.symbols[ids[k]]);
    error.add_context(text);
  }
  if (error.code() == Code::invalid_argument) error.with_hint("the network does not take inputs of these extents");
  uint32_t base = s;
  while (plan.slots[base].kind == SlotKind::view) base = plan.slots[base].of;
  if (plan.slots[base].kind == SlotKind::binding)
    error.at_tensor(executable_.target.bindings[plan.slots[base].of].name);
  const auto made_by = [&](const Step& step) {
    return std::find(step.results.begin(), step.results.end(), s) != step.results.end();
  };
  const auto read_by = [&](const Step& step) {
    return std::find(step.operands.begin(), step.operands.end(), s) != step.operands.end();
  };
  auto step = std::find_if(plan.steps.begin(), plan.steps.end(), made_by);
  if (step == plan.steps.end() && slot.sources.empty())
    step = std::find_if(plan.steps.begin(), plan.steps.end(), read_by);
  name_nodes(error, step == plan.steps.end() ? slot.sources : step->sources, executable_.target);
}

// Bases come before their views and parts.
void Frame::check_view(uint32_t s) const {
  const Plan& plan = *info_.plan;
  const Slot& slot = plan.slots[s];
  if (!slot.is_part()) {
    // Sizes that inference could not prove equal are checked here.
    if (bytes_[s] != bytes_[slot.of])
      throw Error(Code::invalid_argument,
                  fmt::format("these extents do not fit together: a reshaped tensor has {} bytes, its source has {}",
                              bytes_[s], bytes_[slot.of]));
    return;
  }
  const int64_t end = checked_add(starts_[s], bytes_[s], "part");
  if (bytes_[s] > 0 && (starts_[s] < 0 || end > bytes_[slot.of]))
    throw Error(Code::invalid_argument, fmt::format("these extents do not fit together: a part is bytes {} to {} of {}",
                                                    starts_[s], end, bytes_[slot.of]));
  // Columns that are written make up their base with as many rows.
  if (!writes_columns_[s]) return;
  for (size_t k = 0; k < extents_[s].size(); ++k)
    if (k != slot.layout.innermost(extents_[s].size()) && extents_[s][k] != extents_[slot.of][k])
      throw Error(
          Code::invalid_argument,
          fmt::format("these extents do not fit together: axis {} of a part has {} elements, that of the whole {}", k,
                      extents_[s][k], extents_[slot.of][k]));
}

void Frame::bind_segment(size_t index) {
  const Plan& plan = *info_.plan;
  const PlanInfo::Segment& segment = info_.segments[index];
  SegmentState& state = segments_[index];
  state.bound = false;
  int64_t end = 0;
  for (uint32_t s : segment.slots) {
    const Slot& slot = plan.slots[s];
    try {
      size_slot(s);
      if (slot.kind == SlotKind::view) check_view(s);
      if (slot.kind != SlotKind::arena) continue;
      int64_t start = 0;
      for (uint32_t below : slot.above) start = std::max(start, ends_[below]);
      ends_[s] = checked_add(start, align_up(bytes_[s], alignment, "arena"), "arena");
      end = std::max(end, ends_[s]);
    } catch (Error& error) {
      name_slot(error, s);
      throw;
    }
  }
  // Known contents lie above the arena of the segment.
  for (uint32_t s : segment.slots)
    if (plan.slots[s].kind == SlotKind::known) {
      ends_[s] = checked_add(end, align_up(bytes_[s], alignment, "arena"), "arena");
      end = ends_[s];
    }
  std::byte* const memory = state.memory.reserve(end);
  if (memory || end == 0) place_slots(segment, memory);
  const auto each_kernel = [&](auto go) {
    for (uint32_t i = segment.begin; i < segment.end; ++i) {
      if (plan.steps[i].kind != Step::Kind::kernel) continue;
      try {
        go(i);
      } catch (Error& error) {
        name_nodes(error, plan.steps[i].sources, executable_.target);
        throw;
      }
    }
  };
  each_kernel([&](uint32_t i) { choice_[i] = choice_now(plan.steps[i]); });
  judge_segment(index);
  state.company.changed();
  binding_.threads = state.alone ? 1 : state_.threads;
  each_kernel([&](uint32_t i) { bind_choice(i); });
  state.values.clear();
  for (SymbolId id : segment.depends) state.values.push_back(state_.symbols[id]);
  state.bound = true;
}

void Frame::place_slots(const PlanInfo::Segment& segment, std::byte* memory) {
  for (uint32_t s : segment.slots) {
    const Slot& slot = info_.plan->slots[s];
    if (slot.kind == SlotKind::arena || slot.kind == SlotKind::known)
      pointers_[s] = memory + ends_[s] - align_up(bytes_[s], alignment, "arena");
    if (slot.kind == SlotKind::view) pointers_[s] = view_of(s);
    if (slot.kind != SlotKind::known) continue;
    if (const auto* tensor = std::get_if<Tensor>(&slot.contents)) {
      if (bytes_[s] > 0) std::memcpy(pointers_[s], tensor->data(), static_cast<size_t>(bytes_[s]));
    } else {
      Tensor window(slot.type.dtype, extents_[s], pointers_[s], nullptr);
      set_numbers(window, std::get<std::vector<Dim>>(slot.contents), state_.symbols);
    }
  }
}

uint32_t Frame::choice_now(const Step& step) const {
  uint32_t chosen = 0;
  for (; chosen + 1 < step.choices.size(); ++chosen) {
    bool holds = true;
    for (const Guard& guard : step.choices[chosen].when) holds = holds && guard.value.evaluate(state_.symbols) >= 0;
    if (holds) break;
  }
  return chosen;
}

const std::vector<int64_t>& Frame::bind_symbols(const Choice& choice) {
  std::vector<int64_t>& symbols = binding_.symbols;
  symbols.assign(executable_.target.problems[choice.problem].symbols.size(), -1);
  for (size_t k = 0; k < choice.symbols.size(); ++k) symbols[k] = state_.symbols[choice.symbols[k]];
  return symbols;
}

void Frame::bind_choice(uint32_t i) {
  const Step& step = info_.plan->steps[i];
  const Choice& choice = step.choices[choice_[i]];
  const Problem& problem = executable_.target.problems[choice.problem];
  const Kernel& kernel = *executable_.kernels[choice.kernel];
  const void* const prepared = info_.prepared[i][choice_[i]].get();
  if (kernel.takes_boxes) {
    kernel.bind(kernel, prepared, {problem, {}, {}, {}, {}, binding_.threads}, bound_[i]);
    return;
  }
  // A loop may bind in every trip: these vectors keep their memory.
  auto& [symbols, operands, results, host, host_pointers, threads] = binding_;
  bind_symbols(choice);
  for (const Fact& fact : problem.facts) check_fact(fact, problem, symbols);
  operands.resize(step.operands.size());
  results.resize(step.results.size());
  host.clear();
  host.reserve(problem.operands.size());
  host_pointers.assign(problem.operands.size(), nullptr);
  for (size_t k = 0; k < step.operands.size(); ++k) {
    const uint32_t s = step.operands[k];
    if (s == no_slot)
      operands[k] = evaluate(*problem.operands[k].type.shape, symbols);
    else
      operands[k] = extents_[s];
    const Operand& operand = problem.operands[k];
    if (const auto* tensor = std::get_if<Tensor>(&operand.contents)) {
      host_pointers[k] = tensor;
    } else if (const auto* dims = std::get_if<std::vector<Dim>>(&operand.contents)) {
      Tensor& numbers = host.emplace_back(operand.type.dtype, evaluate(*operand.type.shape, symbols));
      set_numbers(numbers, *dims, symbols);
      host_pointers[k] = &numbers;
    }
  }
  for (size_t r = 0; r < step.results.size(); ++r) results[r] = extents_[step.results[r]];
  Bound& bound = bound_[i];
  bound = {};
  kernel.bind(kernel, prepared, {problem, symbols, operands, results, host_pointers, threads}, bound);
  state_.workspace.reserve(bound.workspace);
  if (bound.scratch > state_.scratch_bytes) {
    // Known to be there before it is said to be.
    const int64_t wanted = align_up(bound.scratch, alignment, "scratch");
    state_.scratch.reserve(checked_mul(wanted, state_.threads, "scratch"));
    state_.scratch_bytes = wanted;
  }
}

bool Frame::is_bound(size_t segment) const {
  const SegmentState& state = segments_[segment];
  const std::vector<SymbolId>& depends = info_.segments[segment].depends;
  bool fresh = state.bound;
  for (size_t n = 0; n < depends.size() && fresh; ++n) fresh = state.values[n] == state_.symbols[depends[n]];
  return fresh;
}

void Frame::bind_first() {
  if (!segments_.empty() && !is_bound(0)) bind_segment(0);
}

Status Frame::run() {
  refresh_pointers();
  for (size_t k = 0; k < info_.segments.size(); ++k) {
    const PlanInfo::Segment& segment = info_.segments[k];
    const bool stale = !is_bound(k);
    if (stale) bind_segment(k);
    if (state_.outputs && !segment.outputs.empty()) {
      const FlushDenormals::Pause pause(state_.flush);
      for (uint32_t s : segment.outputs)
        state_.bindings[slot(s).of] = state_.outputs->output(slot(s).of, extents_[s], bytes_[s]);
    }
    bool moved = stale || !segment.outputs.empty();
    for (uint32_t r : segment.results)
      if (given_[r]) {
        const uint32_t s = info_.plan->results[r];
        pointers_[s] = storage_for(*given_[r], slot(s).type.dtype, extents_[s]).mutable_data();
        moved = true;
      }
    if (moved) refresh_pointers();
    if (Status status = run_steps(k); !status.ok()) return status;
  }
  return {};
}

Status Frame::run_steps(size_t index) {
  SegmentState& state = segments_[index];
  Company& company = state.company;
  alone_ = goes_alone(state);
  const bool judged = !state.alone && !info_.segments[index].has_bodies && !state_.own_threads && !state_.observer &&
                      state_.workers && state_.threads > 1 && (alone_ || state_.workers->size() > 1);
  if (judged && !alone_) company.share_among(state_.workers->size());
  const auto begin = judged ? Company::Clock::now() : Company::Clock::time_point();
  for (uint32_t i = info_.segments[index].begin; i < info_.segments[index].end; ++i) {
    state_.poll();
    Status status = run_step(i);
    if (!status.ok()) return status;
  }
  if (judged) {
    const auto end = Company::Clock::now();
    company.done(end, end - begin);
  }
  return {};
}

Status Frame::run_step(uint32_t i) {
  const Step& step = info_.plan->steps[i];
  try {
    Status status = step.kind == Step::Kind::kernel           ? run_kernel(i)
                    : std::string_view(step.op->name) == "If" ? run_branch(i)
                                                              : run_loop(i);
    status.check();
    finish_results(step);
    return status;
  } catch (Error& error) {
    name_nodes(error, step.sources, executable_.target);
    throw;
  }
}

Status Frame::run_kernel(uint32_t i) {
  const Step& step = info_.plan->steps[i];
  const Choice& choice = step.choices[choice_[i]];
  const Kernel& kernel = *executable_.kernels[choice.kernel];
  const Bound& bound = bound_[i];
  std::vector<void*>& arguments = arguments_[i];
  std::vector<Box*>& boxes = box_arguments_[i];
  size_t n = 0;
  for (uint32_t s : step.operands) {
    arguments[n] = s == no_slot ? nullptr : pointers_[s];
    boxes[n++] = s == no_slot ? nullptr : boxes_[s];
  }
  for (uint32_t s : step.results) {
    arguments[n] = pointers_[s];
    boxes[n++] = boxes_[s];
  }
  if (state_.observer) {
    const FlushDenormals::Pause pause(state_.flush);
    state_.observer->before(*this, step, choice_[i]);
  }
  struct Job {
    Frame* frame;
    const Kernel* kernel;
    Launch launch;
    std::atomic<bool> failed{false};
    Status status;
  };
  Job job{this,
          &kernel,
          {info_.prepared[i][choice_[i]].get(), &bound, &executable_.target.problems[choice.problem], arguments.data(),
           boxes.data(), state_.workspace.data(), state_.scratch.data(), 0, 0, &state_.fault},
          false,
          {}};
  if (kernel.takes_boxes) {
    Status status = run_boxed(i, job.launch);
    if (!status.ok()) return status;
  } else {
    for (int phase = 0; phase < bound.phases; ++phase) {
      job.launch.phase = phase;
      const int64_t chunks = bound.chunks[phase];
      const auto work = [](void* user, int64_t chunk, unsigned worker) {
        Job& j = *static_cast<Job*>(user);
        if (j.failed.load(std::memory_order_relaxed)) return;
        const FlushDenormals flush(j.frame->executable_.flushes_denormals);
        Launch launch = j.launch;
        launch.chunk = chunk;
        if (launch.scratch) launch.scratch += static_cast<int64_t>(worker) * j.frame->state_.scratch_bytes;
        Status status = j.kernel->run(launch);
        if (!status.ok() && !j.failed.exchange(true)) j.status = std::move(status);
      };
      if (chunks == 1 || alone_ || !state_.workers || state_.workers->size() == 1) {
        for (int64_t chunk = 0; chunk < chunks; ++chunk) work(&job, chunk, 0);
      } else if (Status status = state_.workers->parallel(chunks, work, &job); !status.ok()) {
        return status;
      }
      if (job.failed) return std::move(job.status);
    }
  }
  if (state_.fault.load(std::memory_order_relaxed) != no_fault && state_.fault_source == no_slot &&
      !step.sources.empty())
    state_.fault_source = step.sources[0];
  if (state_.observer) {
    const FlushDenormals::Pause pause(state_.flush);
    state_.observer->after(*this, step, choice_[i]);
  }
  return {};
}

namespace {

// Definitions hand operands on without copying them. A box outlives the memory of slots that were wrapped.
void keep(Box& box) {
  if (box.kind == Box::Kind::tensor && box.tensor.data() && !box.tensor.owner()) box.tensor = box.tensor.clone();
  for (Box& item : box.items) keep(item);
}

}  // namespace

// Rows that take boxes get plain slots wrapped; what they leave in a wrapped result is copied into its slot.
Status Frame::run_boxed(uint32_t i, Launch& launch) {
  const Step& step = info_.plan->steps[i];
  const Choice& choice = step.choices[choice_[i]];
  const size_t operands = step.operands.size(), values = operands + step.results.size();
  std::vector<Box> wrapped(values);
  std::vector<Box*> boxes(launch.boxes, launch.boxes + values);
  const auto id = [&](size_t n) { return n < operands ? step.operands[n] : step.results[n - operands]; };
  for (size_t n = 0; n < values; ++n) {
    if (boxes[n]) continue;
    const uint32_t s = id(n);
    if (s != no_slot) {
      wrapped[n] = Box(Tensor(slot(s).type.dtype, extents_[s], pointers_[s], nullptr));
    } else if (const auto* dims = std::get_if<std::vector<Dim>>(&launch.problem->operands[n].contents)) {
      const Type& type = launch.problem->operands[n].type;
      const std::vector<int64_t>& symbols = bind_symbols(choice);
      Tensor tensor(type.dtype, evaluate(*type.shape, symbols));
      set_numbers(tensor, *dims, symbols);
      wrapped[n] = Box(std::move(tensor));
    } else {
      continue;
    }
    boxes[n] = &wrapped[n];
  }
  launch.boxes = boxes.data();
  Status status = executable_.kernels[choice.kernel]->run(launch);
  if (!status.ok()) return status;
  for (size_t n = operands; n < values; ++n) {
    if (boxes[n] != &wrapped[n]) {
      if (boxes[n]) keep(*boxes[n]);
      continue;
    }
    const uint32_t s = id(n);
    const Tensor& made = wrapped[n].tensor;
    if (wrapped[n].kind != Box::Kind::tensor || made.dims() != extents_[s] || made.dtype() != slot(s).type.dtype)
      return Status(Code::fault, fmt::format("a result is {}, the plan says otherwise", type_text(made)));
    if (made.bytes() > 0) std::memcpy(pointers_[s], made.data(), static_cast<size_t>(made.bytes()));
  }
  return {};
}

void Frame::finish_results(const Step& step) {
  bool any_box = false;
  for (uint32_t s : step.results) {
    if (!boxes_[s]) continue;
    const Type& type = slot(s).type;
    if (boxes_[s]->kind != Box::Kind::tensor) {
      // Whoever reads a tensor may rely on finding one.
      if (type.is_tensor()) throw Error(Code::fault, "a result is no tensor, the plan says otherwise");
      extents_[s].clear();
      bytes_[s] = 0;
      continue;
    }
    any_box = true;
    Tensor& tensor = boxes_[s]->tensor;
    extents_[s] = tensor.dims();
    bytes_[s] = tensor.dtype() == DType::string ? 0 : tensor.bytes();
    if (type.is_tensor() && type.dtype != tensor.dtype())
      throw Error(Code::fault, fmt::format("a result is {}, the plan says otherwise", type_text(tensor)));
    if (!type.has_shape()) continue;
    if (type.shape->size() != tensor.rank())
      throw Error(Code::fault, fmt::format("a result is {}, the plan says otherwise", type_text(tensor)));
    for (size_t k = 0; k < tensor.rank(); ++k)
      if (const auto id = (*type.shape)[k].as_symbol();
          id && std::find(step.defines.begin(), step.defines.end(), *id) != step.defines.end())
        state_.symbols[*id] = tensor.dims()[k];
  }
  for (SymbolId id : step.defines)
    if (state_.symbols[id] < 0) throw Error(Code::fault, "a step leaves an extent open that it should find out");
  if (!any_box) return;
  for (uint32_t s : step.results) {
    if (!boxes_[s] || boxes_[s]->kind != Box::Kind::tensor || !slot(s).type.has_shape()) continue;
    const Shape& shape = *slot(s).type.shape;
    for (size_t k = 0; k < shape.size(); ++k)
      if (shape[k].evaluate(state_.symbols) != extents_[s][k])
        throw Error(Code::fault, fmt::format("a result is {}, the plan says otherwise", type_text(boxes_[s]->tensor)));
  }
  refresh_pointers();
}

Box Frame::snapshot(uint32_t s) const {
  if (boxes_[s]) return *boxes_[s];
  const Slot& slot = this->slot(s);
  if (!slot.layout.has_strides()) throw Error(Code::unsupported, "packed weights cannot be read back");
  Tensor out(slot.type.dtype, extents_[s]);
  if (slot.layout.is_row_major()) {
    if (out.bytes() > 0) std::memcpy(out.mutable_data(), pointers_[s], static_cast<size_t>(out.bytes()));
    return Box(std::move(out));
  }
  const Dims strides = layout_strides(slot.layout, extents_[s]);
  const Tensor source(slot.type.dtype, extents_[s], pointers_[s], nullptr);
  const auto width = static_cast<size_t>(bit_size(slot.type.dtype) / 8);
  const auto* from = static_cast<const std::byte*>(pointers_[s]);
  auto* to = static_cast<std::byte*>(out.mutable_data());
  std::vector<int64_t> at(extents_[s].size(), 0);
  int64_t offset = 0;
  for (int64_t n = 0; n < out.count(); ++n) {
    std::memcpy(to + static_cast<size_t>(n) * width, from + static_cast<size_t>(offset) * width, width);
    for (size_t k = at.size(); k-- > 0;) {
      offset += strides[k];
      if (++at[k] < extents_[s][k]) break;
      offset -= strides[k] * at[k];
      at[k] = 0;
    }
  }
  return Box(std::move(out));
}

int64_t Frame::arena_bytes() const {
  int64_t total = 0;
  for (const SegmentState& segment : segments_) total += segment.memory.size();
  for (const auto& body : bodies_)
    if (body) total += body->arena_bytes();
  return total;
}

}  // namespace sinter
