// The straight line in one call: model file or bytes in, Target out. The C interface and the command line tool share
// it.
#pragma once

#include <memory>
#include <span>
#include <string>

#include "builder/pipeline.h"
#include "ir/graph.h"

namespace sinter {

struct ModelSource {
  std::string path;                   // of a file; or empty
  std::span<const std::byte> bytes;   // of a model in memory
  std::shared_ptr<const void> owner;  // keeps the bytes alive; null: they are copied where needed
  std::string external_data_root;     // empty: the model file's directory
};

// Reads and imports.
Module import_model(const ModelSource& source, const BuildOptions& options);
Built compile(const ModelSource& source, const BuildOptions& options);

}  // namespace sinter
