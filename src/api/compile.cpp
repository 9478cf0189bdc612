#include "api/compile.h"

#include <fmt/core.h>

#include "frontends/onnx/import.h"
#include "frontends/onnx/reader.h"

namespace sinter {

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
