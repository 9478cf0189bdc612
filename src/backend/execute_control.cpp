// If and Loop: steps with bodies. A body is a frame of its own that shares the run's symbols and memory for workspace;
// its parameters are the step's operands, passed by pointer.

#include <fmt/format.h>

#include <cstring>

#include "backend/execute.h"
#include "ops/control.h"

namespace sinter {
namespace {

// Reuses the box's storage when it has the right form and nobody else holds it.
Tensor& storage_for(Box& box, DType dtype, const Dims& dims) {
  if (box.kind != Box::Kind::tensor || box.tensor.dtype() != dtype || box.tensor.dims() != dims ||
      box.tensor.owner().use_count() != 1)
    box = Box(Tensor(dtype, dims));
  return box.tensor;
}

}  // namespace

void Frame::pass_to(Frame& body, uint32_t parameter, uint32_t s) {
  body.pass(parameter, pointers_[s], boxes_[s], extents_[s]);
}

// A body's result becomes the value of a boxed slot (or of a loop's carried box).
void Frame::take(Box& into, const Frame& body, uint32_t from) {
  const Box* box = body.boxes_[from];
  if (box) {
    if (box->kind == Box::Kind::tensor && box->tensor.dtype() != DType::string) {
      Tensor& tensor = storage_for(into, box->tensor.dtype(), box->tensor.dims());
      if (tensor.bytes() > 0 && tensor.data() != box->tensor.data())
        std::memcpy(tensor.mutable_data(), box->tensor.data(), static_cast<size_t>(tensor.bytes()));
    } else if (&into != box) {
      into = *box;
    }
    return;
  }
  Tensor& tensor = storage_for(into, body.slot(from).type.dtype, body.extents_[from]);
  if (tensor.bytes() > 0) std::memcpy(tensor.mutable_data(), body.pointers_[from], static_cast<size_t>(tensor.bytes()));
}

Status Frame::run_branch(uint32_t i) {
  const Step& step = info_.plan->steps[i];
  const void* condition = pointers_[step.operands[0]];
  if (!condition) return Status(Code::fault, "the condition of If is empty");
  const bool taken = *static_cast<const uint8_t*>(condition) != 0;
  Frame& body = body_frame(step.bodies[taken ? 0 : 1]);
  for (size_t k = 1; k < step.operands.size(); ++k) pass_to(body, static_cast<uint32_t>(k - 1), step.operands[k]);
  Status status = body.run();
  if (!status.ok()) return status;
  for (size_t r = 0; r < step.results.size(); ++r) take(owned_[step.results[r]], body, body.info_.plan->results[r]);
  return {};
}

}  // namespace sinter
