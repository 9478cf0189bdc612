// External tensor data: the one door through which a model names files.
//
// The kernel resolves the path (openat2, beneath the model's directory, no links), the opened descriptor is examined
// and not the path: a regular file with one name. Contents are read and not mapped. Numbers are checked against the
// file before anything is allocated. With a root given by the caller, links inside the root are followed and files may
// have several names.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>

#include "base/log.h"

namespace sinter {

// What the keys of one tensor's external_data say.
struct ExternalRange {
  std::string location;
  int64_t offset = 0;
  std::optional<int64_t> length;
  std::string checksum;  // SHA-1 of the whole file in hexadecimal, or empty
};

// Throws Error(Code::model_invalid). Keys that are not known are ignored; `ignored` becomes the name of the first.
ExternalRange parse_external_keys(std::span<const std::pair<std::string_view, std::string_view>> keys,
                                  std::string& ignored);

class ExternalFiles {
 public:
  // `model_directory` empty: a model without a file. `root` empty: the model's directory.
  ExternalFiles(std::string model_directory, std::string root, Logger logger = {});
  ~ExternalFiles();
  ExternalFiles(const ExternalFiles&) = delete;
  ExternalFiles& operator=(const ExternalFiles&) = delete;

  // The bytes of a tensor that has `size` of them, aligned to 64. Throws Error.
  std::shared_ptr<const void> read(std::span<const std::pair<std::string_view, std::string_view>> keys, int64_t size);

 private:
  struct File {
    int fd = -1;
    int64_t size = 0;
    std::string sha1;  // once computed
  };
  File& file(const std::string& location);
  int open_beneath(int directory, const std::string& path) const;
  int directory();

  std::string model_directory_, root_, prefix_;  // prefix_: from root_ to the model's directory, "" or "a/b/"
  Logger logger_;
  int directory_ = -1;
  bool warned_ = false;
  std::map<std::string, File> files_;
};

}  // namespace sinter
