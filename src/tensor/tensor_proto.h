// Messages of ONNX that hold values: TensorProto, SequenceProto, MapProto and OptionalProto, and ONNX's numbers for
// data types.
//
// Any bytes give a value or an Error; extents are checked against the data that is there before
// anything is allocated. parse_tensor_proto only looks (its spans point into the given bytes); materialize makes the
// Tensor. Opening files of external data is left to the model reader.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "tensor/dtype.h"
#include "tensor/tensor.h"
#include "tensor/type.h"

namespace sinter {

std::optional<DType> dtype_from_onnx(int64_t data_type);  // none: undefined or not known here
int dtype_to_onnx(DType dtype);

struct TensorProtoView {
  std::string_view name;
  std::optional<DType> dtype;      // none: data_type is 0 or unknown
  int64_t data_type = 0;           // as the message says
  Dims dims;                       // none negative; their product at most max_elements
  std::span<const std::byte> raw;  // raw_data
  bool has_raw = false;
  bool external = false;                                                     // data_location says EXTERNAL
  std::vector<std::pair<std::string_view, std::string_view>> external_data;  // key, value
  std::span<const std::byte> message;  // the whole message, where materialize finds the typed fields
};

// Throws Error (model_invalid, limit, unsupported) for bytes that are no TensorProto, and for bad extents.
TensorProtoView parse_tensor_proto(std::span<const std::byte> bytes);

// The tensor. raw_data that is aligned for its dtype is pointed into and `owner` keeps it alive; a null owner always
// copies. Throws for an unknown dtype, external data, and data that is missing, too short or too long.
Tensor materialize(const TensorProtoView& view, std::shared_ptr<const void> owner);

// The same from bytes found elsewhere (external data, already cut to offset and length): exactly the tensor's bytes in
// raw_data's form. `what` names the tensor in messages.
Tensor tensor_from_raw(DType dtype, Dims dims, std::span<const std::byte> raw, std::shared_ptr<const void> owner,
                       std::string_view what);

struct NamedTensor {
  std::string name;
  Tensor tensor;
};
NamedTensor decode_tensor_proto(std::span<const std::byte> bytes);  // copies
std::string encode_tensor_proto(const Tensor& tensor, std::string_view name = {});

// A value in the message that its type calls for: TensorProto, SequenceProto, MapProto or OptionalProto. The dtype and
// the rank that the type names are not compared with those found.
Box decode_value(std::span<const std::byte> bytes, const Type& type);
std::string encode_value(const Box& value, const Type& type, std::string_view name = {});

}  // namespace sinter
