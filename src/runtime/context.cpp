#include <fmt/core.h>

#include <algorithm>
#include <cstring>

#include "base/checked.h"
#include "base/float_mode.h"
#include "base/thread_pool.h"
#include "runtime/engine.h"

namespace sinter {
namespace {

// One caller at a time; the second is told so.
class Busy {
 public:
  explicit Busy(std::atomic<bool>& flag) : flag_(flag) {
    if (flag_.exchange(true, std::memory_order_acquire))
      throw Error(Code::busy, "this context is in use by another thread; make one context per thread");
  }
  ~Busy() { flag_.store(false, std::memory_order_release); }
  Busy(const Busy&) = delete;
  Busy& operator=(const Busy&) = delete;

 private:
  std::atomic<bool>& flag_;
};

// The caller's threads: their function may do other work on the calling thread meanwhile, which gets the mode that the
// thread had before the run. Chunks flush denormals themselves.
class InOwnMode final : public Workers {
 public:
  InOwnMode(const Workers& workers, const FlushDenormals* flush) : Workers(workers), workers_(workers), flush_(flush) {}
  Status parallel(int64_t chunks, Work work, void* user) const override {
    const FlushDenormals::Pause pause(flush_);
    return workers_.parallel(chunks, work, user);
  }

 private:
  const Workers& workers_;
  const FlushDenormals* const flush_;
};

Error fault_at(uint32_t fault, uint32_t source, const Target& target) {
  if (source >= target.sources.size())
    return Error(Code::fault, fmt::format("{} in the data of this run", fault_text(fault)));
  const SourceNode& node = target.sources[source];
  Error error(Code::fault,
              fmt::format("node '{}' ({}): {} in the data of this run", node.name, node.op_type, fault_text(fault)));
  error.at_node(node.name);
  return error;
}

}  // namespace

Context::Context(std::shared_ptr<const Engine> engine, int threads) : engine_(std::move(engine)) {
  const Target& target = engine_->target();
  state_.symbols.assign(target.symbols.size(), -1);
  state_.bindings.assign(target.bindings.size(), nullptr);
  state_.threads = threads > 0 ? threads : engine_->executable().device.threads;
  const size_t inputs = engine_->inputs().size(), outputs = engine_->outputs().size();
  extents_.resize(inputs);
  boxes_.resize(inputs);
  set_.resize(inputs, false);
  ranges_.resize(inputs + outputs);
  user_outputs_.resize(outputs, nullptr);
  user_bytes_.resize(outputs, 0);
  own_outputs_.resize(outputs);
  delivered_.resize(outputs, nullptr);
  state_.outputs = this;
  frame_ = std::make_unique<Frame>(engine_->executable(), engine_->executable().main, state_);
  set_threads({});
}

Context::~Context() = default;

void Context::set_input(size_t input, std::span<const int64_t> extents, const void* data, size_t bytes) {
  const Busy guard(busy_);
  if (input >= extents_.size())
    throw Error(Code::invalid_argument,
                fmt::format("the engine has {} inputs, none numbered {}", extents_.size(), input));
  const Binding& binding = engine_->inputs()[input];
  if (!binding.type.is_plain())
    throw Error(Code::invalid_argument, fmt::format("input '{}' is no plain tensor; pass it as a box", binding.name));
  const Shape& shape = *binding.type.shape;
  if (extents.size() != shape.size())
    throw Error(Code::invalid_argument,
                fmt::format("input '{}' has rank {}, the engine wants {}", binding.name, extents.size(), shape.size()))
        .at_tensor(binding.name);
  bool same = set_[input];
  for (size_t k = 0; k < extents.size(); ++k) {
    if (shape[k].is_constant() && shape[k].constant() != extents[k])
      throw Error(Code::invalid_argument, fmt::format("input '{}', axis {}: extent {}, the engine wants {}",
                                                      binding.name, k, extents[k], shape[k].constant()))
          .at_tensor(binding.name);
    same = same && extents_[input][k] == extents[k];
  }
  const int64_t wanted = byte_size(binding.type.dtype, element_count(extents));
  if (wanted > 0 && (!data || bytes < static_cast<size_t>(wanted)))
    throw Error(Code::invalid_argument,
                fmt::format("input '{}' needs {} bytes, its buffer has {}", binding.name, wanted, data ? bytes : 0))
        .at_tensor(binding.name);
  if (!same) {
    extents_[input].assign(extents.begin(), extents.end());
    shapes_changed_ = true;
  }
  set_[input] = true;
  state_.bindings[input] = const_cast<void*>(data);
  const auto begin = reinterpret_cast<uintptr_t>(data);
  ranges_[input] = {begin, begin + static_cast<uintptr_t>(wanted)};
}

void Context::set_input(size_t input, Box box) {
  if (input >= extents_.size())
    throw Error(Code::invalid_argument,
                fmt::format("the engine has {} inputs, none numbered {}", extents_.size(), input));
  const Binding& binding = engine_->inputs()[input];
  require_fits(box, binding.type, binding.name);
  if (binding.type.is_plain()) {
    // The box keeps the tensor's bytes alive.
    const Tensor tensor = box.tensor;
    set_input(input, tensor.dims(), tensor.data(), static_cast<size_t>(tensor.bytes()));
    boxes_[input] = std::move(box);
    return;
  }
  const Busy guard(busy_);
  if (binding.type.has_shape() && binding.type.shape->size() != box.tensor.rank())
    throw Error(Code::invalid_argument, fmt::format("input '{}' has rank {}, the engine wants {}", binding.name,
                                                    box.tensor.rank(), binding.type.shape->size()))
        .at_tensor(binding.name);
  boxes_[input] = std::move(box);
  set_[input] = true;
  shapes_changed_ = true;
}

void Context::set_output(size_t output, void* data, size_t bytes) {
  const Busy guard(busy_);
  if (output >= user_outputs_.size())
    throw Error(Code::invalid_argument,
                fmt::format("the engine has {} outputs, none numbered {}", user_outputs_.size(), output));
  user_outputs_[output] = data;
  user_bytes_[output] = data ? bytes : 0;
}

// Symbols from the inputs' extents, checked against each other and the bounds; then sizes of the first segment.
void Context::bind_shapes() {
  const Target& target = engine_->target();
  const auto inputs = engine_->inputs();
  for (size_t i = 0; i < inputs.size(); ++i)
    if (!set_[i])
      throw Error(Code::invalid_argument, fmt::format("input '{}' is not set", inputs[i].name))
          .at_tensor(inputs[i].name);
  std::vector<int64_t>& symbols = state_.symbols;
  const auto extent_of = [&](size_t i, size_t k) {
    return boxes_[i].kind == Box::Kind::tensor && !inputs[i].type.is_plain() ? boxes_[i].tensor.dims()[k]
                                                                             : extents_[i][k];
  };
  std::fill(symbols.begin(), symbols.end(), -1);
  shapes_changed_ = true;
  for (size_t i = 0; i < inputs.size(); ++i) {
    if (!inputs[i].type.has_shape()) continue;
    const Shape& shape = *inputs[i].type.shape;
    for (size_t k = 0; k < shape.size(); ++k) {
      const auto id = shape[k].as_symbol();
      if (!id) continue;
      const int64_t extent = extent_of(i, k);
      if (symbols[*id] >= 0 && symbols[*id] != extent)
        throw Error(Code::invalid_argument,
                    fmt::format("input '{}', axis {}: extent {} differs from {}, which another input gives for '{}'",
                                inputs[i].name, k, extent, symbols[*id], target.symbols[*id].name))
            .at_tensor(inputs[i].name);
      symbols[*id] = extent;
      for (const Profile& profile : target.profiles)
        if (profile.symbol == *id && (extent < profile.low || extent > profile.high))
          throw Error(Code::invalid_argument,
                      fmt::format("input '{}', axis {}: extent {} of '{}' is outside the engine's bounds [{}, {}]",
                                  inputs[i].name, k, extent, target.symbols[*id].name, profile.low, profile.high))
              .at_tensor(inputs[i].name);
    }
  }
  // Extents that are no bare symbol.
  for (size_t i = 0; i < inputs.size(); ++i) {
    if (!inputs[i].type.has_shape()) continue;
    const Dims wanted = evaluate(*inputs[i].type.shape, symbols);
    for (size_t k = 0; k < wanted.size(); ++k)
      if (extent_of(i, k) != wanted[k])
        throw Error(Code::invalid_argument, fmt::format("input '{}', axis {}: extent {}, the engine wants {}",
                                                        inputs[i].name, k, extent_of(i, k), wanted[k]))
            .at_tensor(inputs[i].name);
  }
  for (size_t i = 0; i < inputs.size(); ++i)
    if (!inputs[i].type.is_plain()) frame_->set_box(target.main.parameters[i], boxes_[i]);
  frame_->bind_first();
  shapes_changed_ = false;
}

std::optional<Dims> Context::output_extents(size_t output) {
  const Busy guard(busy_);
  if (output >= user_outputs_.size())
    throw Error(Code::invalid_argument,
                fmt::format("the engine has {} outputs, none numbered {}", user_outputs_.size(), output));
  if (shapes_changed_) bind_shapes();
  const Binding& binding = engine_->outputs()[output];
  if (!binding.type.is_plain()) return std::nullopt;
  std::vector<SymbolId> ids;
  collect_symbols(binding.type, ids);
  for (SymbolId id : ids)
    if (state_.symbols[id] < 0) return std::nullopt;
  return evaluate(*binding.type.shape, state_.symbols);
}

void Context::set_allocator(Allocator allocator) {
  const Busy guard(busy_);
  allocator_ = allocator;
}

void Context::set_threads(const CallerThreads& threads) {
  const Busy guard(busy_);
  const CallerThreads used = threads.count > 0 ? threads : default_threads();
  crew_ = used.count > 0 ? std::make_unique<const Crew>(used, static_cast<unsigned>(state_.threads)) : nullptr;
}

// The caller's buffer, the allocator's or the context's own, in this order.
void* Context::buffer_for(size_t output, const Dims& extents, int64_t bytes) {
  const Binding& binding = engine_->outputs()[output];
  if (user_outputs_[output]) {
    if (user_bytes_[output] < static_cast<size_t>(bytes))
      throw Error(Code::invalid_argument, fmt::format("output '{}' needs {} bytes, its buffer has {}", binding.name,
                                                      bytes, user_bytes_[output]))
          .at_tensor(binding.name);
    return user_outputs_[output];
  }
  if (!allocator_.allocate) return nullptr;
  void* data = allocator_.allocate(allocator_.user, output, binding.type.dtype, extents, bytes);
  if (!data && bytes > 0)
    throw Error(Code::out_of_memory,
                fmt::format("the caller's allocator gave no {} bytes for output '{}'", bytes, binding.name))
        .at_tensor(binding.name);
  return data;
}

void Context::refuse_overlap(size_t output, size_t binding) const {
  const size_t inputs = engine_->inputs().size();
  const Binding& made = engine_->outputs()[output];
  const Binding& other = engine_->target().bindings[binding];
  const auto bytes = [&](size_t b) { return ranges_[b].end - ranges_[b].begin; };
  const std::optional<size_t> under = engine_->input_under(output);
  std::string message = fmt::format("output '{}' shares memory with {} '{}'", made.name,
                                    other.is_output ? "output" : "input", other.name);
  std::string hint = "give the output a buffer of its own";
  if (under == binding) {
    message += fmt::format(", and not all of it: the output has {} bytes, the input {}", bytes(inputs + output),
                           bytes(binding));
    hint += ", or the whole buffer of an input of as many bytes";
  } else if (under) {
    hint += fmt::format(", or that of input '{}'", engine_->inputs()[*under].name);
  } else if (!other.is_output) {
    message += ", which may be read after parts of the output are written";
  }
  throw Error(Code::invalid_argument, message).at_tensor(made.name).with_hint(hint);
}

// Before an output is written: its memory is that of nothing else, or that of the one input that it may lie over.
void Context::claim(size_t output, const void* data, int64_t bytes) {
  const size_t own = engine_->inputs().size() + output;
  const auto begin = reinterpret_cast<uintptr_t>(data);
  ranges_[own] = {begin, begin + static_cast<uintptr_t>(bytes)};
  if (bytes == 0) return;
  const Range range = ranges_[own];
  const uint32_t under = engine_->executable().over[output];
  for (size_t b = 0; b < ranges_.size(); ++b)
    if (b != own && ranges_[b].overlaps(range) && !(b == under && ranges_[b] == range)) refuse_overlap(output, b);
}

void* Context::output(uint32_t binding, const Dims& extents, int64_t bytes) {
  const size_t o = binding - engine_->inputs().size();
  void* data = buffer_for(o, extents, bytes);
  if (!data) {
    // Growing frees what the last run left, which may be an input of this one.
    Memory& own = own_outputs_[o];
    const auto begin = reinterpret_cast<uintptr_t>(own.data());
    const Range held{begin, begin + static_cast<uintptr_t>(own.size())};
    for (size_t b = 0; b < engine_->inputs().size() && bytes > own.size(); ++b)
      if (ranges_[b].overlaps(held)) refuse_overlap(o, b);
    data = own.reserve(std::max<int64_t>(bytes, 1));
  }
  claim(o, data, bytes);
  delivered_[o] = data;
  return data;
}

// A value that running made as a box: copied to the caller where it has bytes and the caller wants it.
void Context::deliver_boxed(size_t output) {
  const Box* box = frame_->box(engine_->target().main.results[output]);
  delivered_[output] = nullptr;
  if (!box || box->kind != Box::Kind::tensor || box->tensor.dtype() == DType::string) {
    if (!user_outputs_[output]) return;
    throw Error(Code::invalid_argument,
                fmt::format("output '{}' does not fit a buffer of bytes; read it from the context",
                            engine_->outputs()[output].name));
  }
  const Tensor& tensor = box->tensor;
  if (void* data = buffer_for(output, tensor.dims(), tensor.bytes())) {
    claim(output, data, tensor.bytes());
    if (tensor.bytes() > 0) std::memcpy(data, tensor.data(), static_cast<size_t>(tensor.bytes()));
    delivered_[output] = data;
  } else {
    delivered_[output] = const_cast<void*>(tensor.data());
  }
}

Status Context::run_on(const Workers& workers) {
  struct Use {
    RunState& state;
    ~Use() { state.workers = nullptr, state.flush = nullptr; }
  } const use{state_};
  const FlushDenormals flush(engine_->executable().flushes_denormals);
  const InOwnMode in_own_mode(workers, &flush);
  state_.workers = crew_ ? &in_own_mode : &workers;
  state_.own_threads = crew_ != nullptr;
  state_.flush = &flush;
  return frame_->run();
}

void Context::run(const Control* control, StepObserver* observer) {
  const Busy guard(busy_);
  ran_ = false;
  if (shapes_changed_) bind_shapes();
  state_.fault.store(no_fault, std::memory_order_relaxed);
  state_.fault_source = no_slot;
  state_.control = control;
  state_.observer = observer;
  std::fill(ranges_.begin() + static_cast<ptrdiff_t>(extents_.size()), ranges_.end(), Range());
  (crew_ ? run_on(*crew_) : run_on(Pool::shared().lease(static_cast<unsigned>(frame_->threads_wanted())))).check();
  if (const uint32_t fault = state_.fault.load(std::memory_order_relaxed); fault != no_fault)
    throw fault_at(fault, state_.fault_source, engine_->target());
  const Target& target = engine_->target();
  for (size_t o = 0; o < user_outputs_.size(); ++o)
    if (target.main.slots[target.main.results[o]].kind == SlotKind::boxed) deliver_boxed(o);
  ran_ = true;
}

const Dims& Context::extents(size_t output) const {
  if (!ran_) throw Error(Code::invalid_argument, "there are no outputs before a run has succeeded");
  return frame_->extents(engine_->target().main.results.at(output));
}

const void* Context::data(size_t output) const {
  if (!ran_) throw Error(Code::invalid_argument, "there are no outputs before a run has succeeded");
  return delivered_.at(output);
}

Box Context::output(size_t output) const {
  if (!ran_) throw Error(Code::invalid_argument, "there are no outputs before a run has succeeded");
  Box box = frame_->snapshot(engine_->target().main.results.at(output));
  if (box.kind == Box::Kind::tensor) box.tensor = box.tensor.clone();
  return box;
}

int64_t Context::memory_bytes() const {
  int64_t total = frame_->arena_bytes() + state_.workspace.size() + state_.scratch.size();
  for (const Memory& memory : own_outputs_) total += memory.size();
  return total;
}

}  // namespace sinter
