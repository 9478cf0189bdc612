// Files: read-only mappings, bounded reads, and atomic writes.
//
// MappedFile keeps the pages alive for every Tensor that points into them. write_file_atomically writes beside the
// target and renames, so a reader never sees half a file. External tensor data has stricter rules:
// base/external_file.h.
#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <string>
#include <vector>

namespace sinter {

class MappedFile {
 public:
  // Throws Error(Code::io) naming the path. An empty file maps to no bytes.
  static std::shared_ptr<const MappedFile> open(const std::string& path);
  ~MappedFile();
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;
  std::span<const std::byte> bytes() const { return {data_, size_}; }

 private:
  MappedFile() = default;
  const std::byte* data_ = nullptr;
  size_t size_ = 0;
};

std::vector<std::byte> read_file(const std::string& path, size_t limit);
std::string read_text_file(const std::string& path, size_t limit);
void write_file_atomically(const std::string& path, std::span<const std::span<const std::byte>> pieces);
void write_file_atomically(const std::string& path, std::string_view text);

}  // namespace sinter
