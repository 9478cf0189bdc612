// read: the bytes of an ONNX file become a Model, or an error that lists everything found wrong.
//
// The bytes are hostile: the rules of wire.h hold, IR version and opsets are looked at before anything else, what is
// decoded may take 16 times the size of the file and 64 MiB, and other files are opened only through
// base/external_file.h. What the graph means is left to import.h.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "base/log.h"
#include "frontends/onnx/model.h"

namespace sinter::onnx {

struct ReadOptions {
  std::string external_data_root;                 // empty: the model file's directory
  int64_t max_file_bytes = int64_t{16} << 30;     // of the model file
  int64_t max_nodes = 1000000;                    // in all graphs and functions
  int64_t max_sparse_bytes = int64_t{256} << 20;  // of all sparse tensors after expansion
  Logger logger;
};

// Maps the file. Throws Error.
std::shared_ptr<const Model> read(const std::string& path, const ReadOptions& options = {});
// `owner` keeps the bytes alive; without one the caller does while the Model lives, and tensors are copied.
std::shared_ptr<const Model> read(std::span<const std::byte> bytes, std::shared_ptr<const void> owner,
                                  const ReadOptions& options = {});

}  // namespace sinter::onnx
