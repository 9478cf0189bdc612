#include "backend/storage.h"

#include <cstdlib>

#include "base/aligned.h"
#include "base/checked.h"
#include "base/error.h"

namespace sinter {

Tensor& storage_for(Box& box, DType dtype, const Dims& dims) {
  if (box.kind == Box::Kind::tensor && box.tensor.dtype() == dtype && box.tensor.dims() == dims &&
      box.tensor.owner().use_count() == 1)
    return box.tensor;
  box.kind = Box::Kind::tensor;
  box.items.clear();
  const int64_t count = element_count(dims);
  // Elements smaller than a byte are written next to others: what is in between must be defined.
  if (dtype == DType::string || bit_size(dtype) < 8 || count == 0) {
    box.tensor = Tensor(dtype, dims);
    return box.tensor;
  }
  box.tensor = Tensor();  // the old storage goes first
  const int64_t bytes = align_up(byte_size(dtype, count), 64, "tensor");
  std::shared_ptr<void> owner(allocate_aligned(static_cast<size_t>(bytes)), std::free);
  if (!owner) throw Error(Code::out_of_memory, "cannot allocate the result of a step");
  const void* data = owner.get();
  box.tensor = Tensor(dtype, dims, data, std::move(owner));
  return box.tensor;
}

}  // namespace sinter
