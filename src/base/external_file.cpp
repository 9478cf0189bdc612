#include "base/external_file.h"

#include <fcntl.h>
#include <fmt/core.h>
#include <linux/openat2.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "base/aligned.h"
#include "base/checked.h"
#include "base/error.h"
#include "base/scanner.h"
#include "base/sha1.h"

namespace sinter {
namespace {

constexpr int64_t max_file_bytes = int64_t{1} << 40;
constexpr size_t max_location_bytes = 4096;
constexpr const char* way_out = "if the file is trusted, name the directory that holds it with --externalDataRoot=DIR";

[[noreturn]] void invalid(std::string message) { throw Error(Code::model_invalid, std::move(message)); }

bool valid_utf8(std::string_view s) {
  for (size_t i = 0; i < s.size();) {
    const auto c = static_cast<unsigned char>(s[i]);
    const size_t more = c < 0x80 ? 0 : (c >> 5) == 6 ? 1 : (c >> 4) == 14 ? 2 : (c >> 3) == 30 ? 3 : 4;
    if (more == 4 || i + more >= s.size()) return false;
    uint32_t code = more == 0 ? c : c & (0x3fu >> more);
    for (size_t k = 1; k <= more; ++k) {
      const auto next = static_cast<unsigned char>(s[i + k]);
      if ((next >> 6) != 2) return false;
      code = code << 6 | (next & 0x3fu);
    }
    constexpr uint32_t lowest[] = {0, 0x80, 0x800, 0x10000};
    if (code < lowest[more] || code > 0x10ffff || (code >= 0xd800 && code < 0xe000)) return false;
    i += more + 1;
  }
  return true;
}

std::vector<std::string_view> components(std::string_view path) {
  std::vector<std::string_view> out;
  size_t start = 0;
  while (start <= path.size()) {
    const size_t end = std::min(path.find('/', start), path.size());
    const std::string_view part = path.substr(start, end - start);
    if (!part.empty() && part != ".") out.push_back(part);
    start = end + 1;
  }
  return out;
}

int64_t decimal(std::string_view key, std::string_view text) {
  if (text.empty() || text.size() > 19) invalid(fmt::format("external data: {} '{}' is no number", key, shown(text)));
  int64_t value = 0;
  for (const char c : text) {
    if (c < '0' || c > '9') invalid(fmt::format("external data: {} '{}' is no decimal number", key, shown(text)));
    value = checked_add(checked_mul(value, 10, "external data position"), c - '0', "external data position");
  }
  return value;
}

void check_location(const std::string& location) {
  if (location.empty()) invalid("external data: the location is empty");
  if (location.size() > max_location_bytes)
    invalid(fmt::format("external data: a location of {} bytes, at most {} are allowed", location.size(),
                        max_location_bytes));
  if (location.find('\0') != std::string::npos) invalid("external data: the location contains a zero byte");
  if (!valid_utf8(location)) invalid("external data: the location is not valid UTF-8");
  if (location[0] == '/')
    invalid(fmt::format("external data: location '{}' is absolute, it must be relative to the model's directory",
                        shown(location)));
  const auto parts = components(location);
  if (parts.empty()) invalid(fmt::format("external data: location '{}' names no file", shown(location)));
  for (std::string_view part : parts)
    if (part == "..") invalid(fmt::format("external data: location '{}' contains '..'", shown(location)));
}

std::string real_path(const std::string& path) {
  char* resolved = ::realpath(path.c_str(), nullptr);
  if (!resolved) return {};
  std::string out = resolved;
  std::free(resolved);
  return out;
}

// For kernels without openat2: no link is followed anywhere, so nothing can lead outside.
int walk(int directory, const std::string& path) {
  const auto parts = components(path);
  int at = directory;
  for (size_t i = 0; i < parts.size(); ++i) {
    const std::string name(parts[i]);
    const bool last = i + 1 == parts.size();
    const int next = last ? ::openat(at, name.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY | O_NOFOLLOW)
                          : ::openat(at, name.c_str(), O_PATH | O_NOFOLLOW | O_CLOEXEC);
    const int saved = errno;
    if (at != directory) ::close(at);
    errno = saved;
    if (next < 0) return -1;
    if (!last) {
      struct stat st = {};
      if (::fstat(next, &st) != 0 || !S_ISDIR(st.st_mode)) {
        ::close(next);
        errno = S_ISLNK(st.st_mode) ? ELOOP : ENOTDIR;
        return -1;
      }
    }
    at = next;
  }
  return at;
}

}  // namespace

ExternalRange parse_external_keys(std::span<const std::pair<std::string_view, std::string_view>> keys,
                                  std::string& ignored) {
  ExternalRange range;
  bool has_location = false, has_offset = false, has_checksum = false;
  const auto once = [](bool& seen, std::string_view key) {
    if (seen) invalid(fmt::format("external data: {} is given twice", key));
    seen = true;
  };
  for (const auto& [key, value] : keys) {
    if (key == "location") {
      once(has_location, key);
      range.location = value;
    } else if (key == "offset") {
      once(has_offset, key);
      range.offset = decimal(key, value);
    } else if (key == "length") {
      if (range.length) invalid("external data: length is given twice");
      range.length = decimal(key, value);
    } else if (key == "checksum") {
      once(has_checksum, key);
      if (value.size() != 40 || value.find_first_not_of("0123456789abcdefABCDEF") != std::string_view::npos)
        invalid(fmt::format("external data: checksum '{}' is no SHA-1, which has 40 hexadecimal digits", shown(value)));
      for (const char c : value) range.checksum += static_cast<char>(c >= 'A' && c <= 'F' ? c - 'A' + 'a' : c);
    } else if (ignored.empty()) {
      ignored = shown(key);
    }
  }
  if (!has_location) invalid("external data: the location is missing");
  check_location(range.location);
  return range;
}

ExternalFiles::ExternalFiles(std::string model_directory, std::string root, Logger logger)
    : model_directory_(std::move(model_directory)), root_(std::move(root)), logger_(logger) {
  if (root_.empty() || model_directory_.empty()) return;
  // A model inside the root names its files from its own directory.
  const std::string outer = real_path(root_), inner = real_path(model_directory_);
  if (!outer.empty() && inner.size() > outer.size() && inner.compare(0, outer.size(), outer) == 0 &&
      (outer == "/" || inner[outer.size()] == '/'))
    prefix_ = inner.substr(outer == "/" ? 1 : outer.size() + 1) + "/";
}

ExternalFiles::~ExternalFiles() {
  for (const auto& [name, file] : files_)
    if (file.fd >= 0) ::close(file.fd);
  if (directory_ >= 0) ::close(directory_);
}

int ExternalFiles::directory() {
  if (directory_ >= 0) return directory_;
  const std::string& path = root_.empty() ? model_directory_ : root_;
  if (path.empty())
    throw Error(Code::invalid_argument,
                "the model keeps tensors in other files, and a model read from memory has no directory")
        .with_hint("name the directory with --externalDataRoot=DIR");
  directory_ = ::open(path.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC);
  if (directory_ < 0)
    throw Error(Code::io, fmt::format("cannot open directory '{}': {}", shown(path), std::strerror(errno)));
  return directory_;
}

int ExternalFiles::open_beneath(int directory, const std::string& path) const {
  struct open_how how = {};
  how.flags = O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY;
  how.resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS;
  if (root_.empty()) how.resolve |= RESOLVE_NO_SYMLINKS;
  for (int attempt = 0; attempt < 16; ++attempt) {
    const long fd = ::syscall(SYS_openat2, directory, path.c_str(), &how, sizeof how);
    if (fd >= 0) return static_cast<int>(fd);
    if (errno == ENOSYS || errno == EPERM) return walk(directory, path);
    if (errno != EAGAIN && errno != EINTR) return -1;
  }
  errno = EAGAIN;
  return -1;
}

ExternalFiles::File& ExternalFiles::file(const std::string& location) {
  const auto found = files_.find(location);
  if (found != files_.end()) return found->second;
  // Descriptors are few; models with one file a tensor open them again.
  if (files_.size() >= 64) {
    for (const auto& [name, old] : files_) ::close(old.fd);
    files_.clear();
  }
  const int at = directory();
  int fd = open_beneath(at, prefix_ + location);
  if (fd < 0 && errno == ENOENT && !prefix_.empty()) fd = open_beneath(at, location);
  if (fd < 0) {
    const int code = errno;
    const std::string name = shown(location);
    if (code == EXDEV)
      throw Error(Code::model_invalid,
                  fmt::format("external data file '{}' leaves {}", name,
                              root_.empty() ? "the model's directory" : "the directory given for external data"))
          .with_hint(way_out);
    if (code == ELOOP)
      throw Error(Code::model_invalid, fmt::format("external data file '{}' is a link, or behind one", name))
          .with_hint(way_out);
    throw Error(Code::io, fmt::format("cannot open external data file '{}': {}", name, std::strerror(code)));
  }
  struct stat st = {};
  std::string problem;
  if (::fstat(fd, &st) != 0)
    problem = std::strerror(errno);
  else if (!S_ISREG(st.st_mode))
    problem = "it is not a regular file";
  else if (root_.empty() && st.st_nlink != 1)
    problem = fmt::format("it has {} names (hard links)", st.st_nlink);
  else if (st.st_size > max_file_bytes)
    problem = fmt::format("it has {} bytes, more than the limit of {}", st.st_size, max_file_bytes);
  if (!problem.empty()) {
    ::close(fd);
    Error error(Code::model_invalid, fmt::format("external data file '{}' is refused: {}", shown(location), problem));
    if (S_ISREG(st.st_mode) && root_.empty()) error.with_hint(way_out);
    throw error;
  }
  File& file = files_[location];
  file.fd = fd;
  file.size = st.st_size;
  return file;
}

namespace {

void read_exactly(int fd, int64_t offset, std::span<std::byte> out, const std::string& location) {
  size_t done = 0;
  while (done < out.size()) {
    const size_t chunk = std::min<size_t>(out.size() - done, size_t{1} << 30);
    const ssize_t n = ::pread(fd, out.data() + done, chunk, offset + static_cast<int64_t>(done));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0)
      throw Error(Code::io,
                  fmt::format("cannot read external data file '{}': {}", shown(location), std::strerror(errno)));
    if (n == 0) throw Error(Code::io, fmt::format("external data file '{}' became shorter", shown(location)));
    done += static_cast<size_t>(n);
  }
}

std::string sha1_of(int fd, int64_t size, const std::string& location) {
  Sha1 sha1;
  std::vector<std::byte> buffer(1 << 20);
  for (int64_t at = 0; at < size; at += static_cast<int64_t>(buffer.size())) {
    const auto n = static_cast<size_t>(std::min(size - at, static_cast<int64_t>(buffer.size())));
    read_exactly(fd, at, std::span(buffer).first(n), location);
    sha1.add(std::span(buffer).first(n));
  }
  return sha1.finish();
}

}  // namespace

std::shared_ptr<const void> ExternalFiles::read(std::span<const std::pair<std::string_view, std::string_view>> keys,
                                                int64_t size) {
  std::string ignored;
  const ExternalRange range = parse_external_keys(keys, ignored);
  if (!ignored.empty() && !warned_) {
    warned_ = true;
    logger_.log(LogLevel::warning, fmt::format("external data: unknown key '{}' is ignored", ignored));
  }
  const std::string name = shown(range.location);
  if (range.length && *range.length != size)
    invalid(fmt::format("external data file '{}': length is {}, the tensor has {} bytes", name, *range.length, size));
  File& opened = file(range.location);
  if (size > opened.size || range.offset > opened.size - size)
    invalid(fmt::format("external data file '{}': {} bytes at offset {} are outside the file, which has {}", name, size,
                        range.offset, opened.size));
  if (!range.checksum.empty()) {
    if (opened.sha1.empty()) opened.sha1 = sha1_of(opened.fd, opened.size, range.location);
    if (opened.sha1 != range.checksum)
      invalid(fmt::format("external data file '{}': its SHA-1 is {}, the model says {}", name, opened.sha1,
                          range.checksum));
  }
  const int64_t padded = align_up(std::max<int64_t>(size, 1), 64, "external data");
  void* data = allocate_aligned(static_cast<size_t>(padded));
  if (!data) throw Error(Code::out_of_memory, fmt::format("cannot allocate {} bytes for '{}'", padded, name));
  std::shared_ptr<const void> owner(data, [](const void* p) { std::free(const_cast<void*>(p)); });
  read_exactly(opened.fd, range.offset, {static_cast<std::byte*>(data), static_cast<size_t>(size)}, range.location);
  return owner;
}

}  // namespace sinter
