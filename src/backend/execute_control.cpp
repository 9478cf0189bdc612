// If and Loop: steps with bodies. A body is a frame of its own that shares the run's symbols and memory for workspace;
// its parameters are the step's operands, passed by pointer.

#include <fmt/core.h>

#include <cstring>

#include "backend/execute.h"
#include "backend/storage.h"
#include "ops/control.h"

namespace sinter {
void Frame::pass_to(Frame& body, uint32_t parameter, uint32_t s) {
  body.pass(parameter, pointers_[s], boxes_[s], extents_[s]);
}

void Frame::give(uint32_t r, Box& box) {
  if (info_.exits[r] == PlanInfo::Exit::written) given_[r] = &box;
}

// The value of a slot, copied into a box of its own.
void Frame::copy_slot(Box& into, const Frame& frame, uint32_t from) {
  const Box* box = frame.boxes_[from];
  if (box && (box->kind != Box::Kind::tensor || box->tensor.dtype() == DType::string)) {
    if (&into != box) into = *box;
    return;
  }
  const void* data = box ? box->tensor.data() : frame.pointers_[from];
  Tensor& tensor = box ? storage_for(into, box->tensor.dtype(), box->tensor.dims())
                       : storage_for(into, frame.slot(from).type.dtype, frame.extents_[from]);
  if (tensor.bytes() > 0 && tensor.data() != data)
    std::memcpy(tensor.mutable_data(), data, static_cast<size_t>(tensor.bytes()));
}

// A body's result becomes the value of a boxed slot (or of a loop's carried box). Boxes are exchanged, so that the
// storage of one run serves the next but one.
void Frame::take_result(Box& into, Frame& body, uint32_t r) {
  const uint32_t from = body.info_.plan->results[r];
  if (body.given_[r] == &into) return;
  if (body.info_.exits[r] == PlanInfo::Exit::moved)
    std::swap(into, body.owned_[from]);
  else
    copy_slot(into, body, from);
}

Status Frame::run_branch(uint32_t i) {
  const Step& step = info_.plan->steps[i];
  const uint32_t condition = step.operands[0];
  if (bytes_[condition] < 1) return Status(Code::fault, "the condition of If is empty");
  const bool taken = *static_cast<const uint8_t*>(pointers_[condition]) != 0;
  Frame& body = body_frame(step.bodies[taken ? 0 : 1]);
  for (size_t k = 1; k < step.operands.size(); ++k) pass_to(body, static_cast<uint32_t>(k - 1), step.operands[k]);
  body.check_parameters();
  for (uint32_t r = 0; r < step.results.size(); ++r) body.give(r, owned_[step.results[r]]);
  Status status = body.run();
  if (!status.ok()) return status;
  for (uint32_t r = 0; r < step.results.size(); ++r) take_result(owned_[step.results[r]], body, r);
  return {};
}

namespace {

bool flag(const std::vector<int64_t>& flags, size_t k) { return k < flags.size() && flags[k] != 0; }

int64_t counted_axis(int64_t axis, size_t rank) {
  if (axis < 0) axis += static_cast<int64_t>(rank);
  if (axis < 0 || axis >= static_cast<int64_t>(rank))
    throw Error(Code::fault, "a loop names an axis that is not there");
  return axis;
}

void* data_of(Box& box) { return box.kind == Box::Kind::tensor ? box.tensor.mutable_data() : nullptr; }

const Dims& dims_of(const Box& box) {
  static const Dims none;
  return box.kind == Box::Kind::tensor ? box.tensor.dims() : none;
}

bool whole_bytes(DType dtype) { return dtype != DType::string && bit_size(dtype) % 8 == 0; }

// Storage of at least `count` slices along a leading axis, of more where more will come but not of more than `most`;
// slices of the first `used` stay.
void make_room(Box& box, DType dtype, const Dims& slice, int64_t used, int64_t count, int64_t most) {
  const bool same = box.kind == Box::Kind::tensor && box.tensor.dtype() == dtype &&
                    box.tensor.rank() == slice.size() + 1 && (used > 0 || box.tensor.owner().use_count() == 1) &&
                    std::equal(slice.begin(), slice.end(), box.tensor.dims().begin() + 1);
  if (same && box.tensor.dims()[0] >= count) return;
  Dims dims = slice;
  dims.insert(dims.begin(), std::max(count, std::min(2 * used, most)));
  Box grown;
  Tensor& to = storage_for(grown, dtype, dims);
  if (same && used > 0) {
    if (whole_bytes(dtype)) {
      if (to.bytes() > 0)
        std::memcpy(to.mutable_data(), box.tensor.data(), static_cast<size_t>(to.bytes() / dims[0] * used));
    } else {
      Tensor one(dtype, slice);
      for (int64_t i = 0; i < used; ++i) {
        copy_slice(box.tensor, 0, i, one);
        put_slice(one, 0, i, to);
      }
    }
  }
  box = std::move(grown);
}

}  // namespace

// A boxed value is passed as its box, a plain one by pointer.
void Frame::pass_iteration(Frame& body, const LoopAttrs& attrs, const Step& step, LoopState& loop, int64_t& iteration,
                           int64_t trips) {
  static const Dims scalar;
  static uint8_t always = 1;
  const auto carried = static_cast<uint32_t>(attrs.carried);
  body.pass(0, &iteration, nullptr, scalar);
  body.pass(1, &always, nullptr, scalar);
  for (uint32_t j = 0; j < carried; ++j) {
    if (iteration == 0)
      pass_to(body, 2 + j, step.operands[2 + j]);
    else
      body.pass(2 + j, data_of(loop.current[j]), &loop.current[j], dims_of(loop.current[j]));
  }
  for (uint32_t s = 0; s < loop.slices.size(); ++s) {
    const uint32_t from = step.operands[2 + carried + s];
    const Tensor x(slot(from).type.dtype, extents_[from], pointers_[from], nullptr);
    const int64_t axis = counted_axis(attrs.scan_axes[s], x.rank());
    if (x.dims()[static_cast<size_t>(axis)] != trips)
      throw Error(Code::fault, "a scanned operand has another extent than there are trips");
    if (iteration == 0) {
      Dims dims = x.dims();
      dims.erase(dims.begin() + axis);
      storage_for(loop.slices[s], x.dtype(), dims);
    }
    copy_slice(x, axis, flag(attrs.scan_reversed, s) ? trips - 1 - iteration : iteration, loop.slices[s].tensor);
    body.pass(2 + carried + s, data_of(loop.slices[s]), nullptr, loop.slices[s].tensor.dims());
  }
  for (auto k = static_cast<uint32_t>(2 + carried + loop.slices.size()); k < step.operands.size(); ++k)
    pass_to(body, k, step.operands[k]);
}

void Frame::stack_results(const Frame& body, const LoopAttrs& attrs, LoopState& loop, int64_t iteration,
                          int64_t trips) {
  const auto carried = static_cast<size_t>(attrs.carried);
  for (size_t k = 0; k < loop.stacked.size(); ++k) {
    const uint32_t from = body.info_.plan->results[1 + carried + k];
    Box& stack = loop.stacked[k];
    const Box* box = body.boxes_[from];
    if (box && box->kind != Box::Kind::tensor) throw Error(Code::fault, "a stacked result is no tensor");
    const Tensor slice =
        box ? box->tensor : Tensor(body.slot(from).type.dtype, body.extents_[from], body.pointers_[from], nullptr);
    if (iteration > 0 && !std::equal(slice.dims().begin(), slice.dims().end(), stack.tensor.dims().begin() + 1,
                                     stack.tensor.dims().end()))
      throw Error(Code::fault, "slices of a stacked result have different extents");
    make_room(stack, slice.dtype(), slice.dims(), iteration, iteration + 1, trips);
    put_slice(slice, 0, iteration, stack.tensor);
  }
}

// Extents of stacked results are then those that a first turn would give, as far as what it starts from says them. What
// the body would find out is not known, though an earlier run may have left it.
void Frame::without_turns(Frame& body, const LoopAttrs& attrs, const Step& step) {
  for (SymbolId id : body.info_.binds) state_.symbols[id] = -1;
  for (const Step& inner : body.info_.plan->steps)
    for (SymbolId id : inner.defines) state_.symbols[id] = -1;
  const auto scanned = static_cast<uint32_t>(2 + attrs.carried);
  for (uint32_t k = 2; k < step.operands.size(); ++k) {
    if (step.operands[k] == no_slot) continue;
    Dims dims = extents_[step.operands[k]];
    if (k >= scanned && k - scanned < attrs.scan_axes.size())
      dims.erase(dims.begin() + counted_axis(attrs.scan_axes[k - scanned], dims.size()));
    body.pass(k, nullptr, nullptr, dims);
  }
}

void Frame::finish_loop(Frame& body, const LoopAttrs& attrs, const Step& step, LoopState& loop, int64_t count) {
  const auto carried = static_cast<size_t>(attrs.carried);
  if (count == 0) without_turns(body, attrs, step);
  for (size_t j = 0; j < carried; ++j) {
    Box& out = owned_[step.results[j]];
    if (count > 0)
      std::swap(out, loop.current[j]);
    else
      copy_slot(out, *this, step.operands[2 + j]);
  }
  for (size_t k = 0; k < loop.stacked.size(); ++k) {
    const Slot& made = body.slot(body.info_.plan->results[1 + carried + k]);
    Dims dims;
    if (count > 0)
      dims.assign(loop.stacked[k].tensor.dims().begin() + 1, loop.stacked[k].tensor.dims().end());
    else if (made.type.has_shape())
      dims = evaluate_or_zero(*made.type.shape, state_.symbols);
    const int64_t axis = counted_axis(attrs.stack_axes[k], dims.size() + 1);
    const Dims one = dims;
    dims.insert(dims.begin() + axis, count);
    Box& result = owned_[step.results[carried + k]];
    const bool in_order = count > 0 && axis == 0 && !flag(attrs.stack_reversed, k);
    if (in_order && loop.stacked[k].tensor.dims()[0] == count) {
      std::swap(result, loop.stacked[k]);
      continue;
    }
    Tensor& out = storage_for(result, made.type.dtype, dims);
    if (in_order && whole_bytes(made.type.dtype)) {
      if (out.bytes() > 0)
        std::memcpy(out.mutable_data(), loop.stacked[k].tensor.data(), static_cast<size_t>(out.bytes()));
      continue;
    }
    Tensor slice(made.type.dtype, one);
    for (int64_t i = 0; i < count; ++i) {
      copy_slice(loop.stacked[k].tensor, 0, i, slice);
      put_slice(slice, axis, flag(attrs.stack_reversed, k) ? count - 1 - i : i, out);
    }
  }
}

Status Frame::run_loop(uint32_t i) {
  const Step& step = info_.plan->steps[i];
  const LoopAttrs& attrs = step.attrs.as<LoopAttrs>();
  const auto carried = static_cast<size_t>(attrs.carried);
  LoopState& loop = loops_[i];
  loop.current.resize(carried);
  loop.next.resize(carried);
  loop.slices.resize(attrs.scan_axes.size());
  loop.stacked.resize(attrs.stack_axes.size());
  int64_t trips = INT64_MAX;
  if (const uint32_t s = step.operands[0]; s != no_slot) {
    if (bytes_[s] < 8) return Status(Code::fault, "the trip count of a loop is empty");
    std::memcpy(&trips, pointers_[s], 8);
  }
  bool condition = true;
  if (const uint32_t s = step.operands[1]; s != no_slot) {
    if (bytes_[s] < 1) return Status(Code::fault, "the condition of a loop is empty");
    condition = *static_cast<const uint8_t*>(pointers_[s]) != 0;
  }
  Frame& body = body_frame(step.bodies[0]);
  int64_t iteration = 0;
  for (; iteration < trips && condition; ++iteration) {
    state_.poll();  // a body may have no steps
    int64_t number = iteration;
    pass_iteration(body, attrs, step, loop, number, trips);
    body.check_parameters();
    for (uint32_t j = 0; j < carried; ++j) body.give(1 + j, loop.next[j]);
    Status status = body.run();
    if (!status.ok()) return status;
    const uint32_t again = body.info_.plan->results[0];
    if (body.bytes_[again] < 1) return Status(Code::fault, "the body of a loop gives no condition");
    condition = *static_cast<const uint8_t*>(body.pointers_[again]) != 0;
    for (uint32_t j = 0; j < carried; ++j) take_result(loop.next[j], body, 1 + j);
    stack_results(body, attrs, loop, iteration, trips);
    std::swap(loop.current, loop.next);
  }
  finish_loop(body, attrs, step, loop, iteration);
  return {};
}

}  // namespace sinter
