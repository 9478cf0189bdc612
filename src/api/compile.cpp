#include "api/compile.h"

#include <fmt/format.h>

#include <algorithm>

#include "frontends/onnx/import.h"
#include "frontends/onnx/reader.h"

namespace sinter {
namespace {

bool fits(const Box& value, const Type& type) {
  switch (type.kind) {
    case Type::Kind::tensor: return value.kind == Box::Kind::tensor && value.tensor.dtype() == type.dtype;
    case Type::Kind::sequence:
      return value.kind == Box::Kind::sequence &&
             std::all_of(value.items.begin(), value.items.end(), [&](const Box& b) { return fits(b, *type.element); });
    case Type::Kind::optional: return value.kind == Box::Kind::none || fits(value, *type.element);
    case Type::Kind::invalid: break;
  }
  return false;
}

std::string kinds(const Box& value) {
  if (value.kind == Box::Kind::none) return "nothing";
  if (value.kind == Box::Kind::tensor) return dtype_name(value.tensor.dtype());
  std::string out = "a sequence of ";
  for (size_t i = 0; i < std::min<size_t>(value.items.size(), 4); ++i) out += (i ? ", " : "") + kinds(value.items[i]);
  return out + (value.items.empty() ? "nothing" : value.items.size() > 4 ? ", ..." : "");
}

std::string kinds(const Type& type) {
  if (type.kind == Type::Kind::sequence) return "a sequence of " + kinds(*type.element);
  if (type.kind == Type::Kind::optional) return kinds(*type.element) + " or nothing";
  return dtype_name(type.dtype);
}

}  // namespace

void require_fits(const Box& value, const Type& type, const std::string& input) {
  if (!fits(value, type))
    throw Error(Code::invalid_argument,
                fmt::format("input '{}' is {}, the engine wants {}", input, kinds(value), kinds(type)))
        .at_tensor(input);
}

Module import_model(const ModelSource& source, const BuildOptions& options) {
  for (size_t i = 0; i < options.dims.size(); ++i)
    for (size_t k = 0; k < i; ++k)
      if (options.dims[i].name == options.dims[k].name)
        throw Error(Code::invalid_argument, fmt::format("dimension '{}' is given bounds twice", options.dims[i].name));
  onnx::ReadOptions read;
  read.external_data_root = source.external_data_root;
  read.logger = options.logger;
  options.control.report("reading the model", 0.0);
  const std::shared_ptr<const onnx::Model> model =
      source.path.empty() ? onnx::read(source.bytes, source.owner, read) : onnx::read(source.path, read);
  options.control.report("importing", 0.05);
  return onnx::import(model, {.logger = options.logger, .control = options.control});
}

Built compile(const ModelSource& source, const BuildOptions& options) {
  return build(import_model(source, options), options);
}

}  // namespace sinter
