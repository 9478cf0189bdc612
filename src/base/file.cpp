#include "base/file.h"

#include <fcntl.h>
#include <fmt/core.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdlib>
#include <cstring>

#include "base/error.h"
#include "base/scanner.h"

namespace sinter {
namespace {

struct Descriptor {
  int fd = -1;
  explicit Descriptor(int fd_) : fd(fd_) {}
  ~Descriptor() {
    if (fd >= 0) ::close(fd);
  }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
};

[[noreturn]] void fail(const std::string& path, const char* action) {
  throw Error(Code::io, fmt::format("cannot {} '{}': {}", action, path, std::strerror(errno)));
}

size_t open_regular(const std::string& path, Descriptor& file) {
  file.fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (file.fd < 0) fail(path, "open");
  struct stat st;
  if (::fstat(file.fd, &st) != 0) fail(path, "examine");
  if (!S_ISREG(st.st_mode)) throw Error(Code::io, fmt::format("'{}' is not a regular file", path));
  return static_cast<size_t>(st.st_size);
}

}  // namespace

std::shared_ptr<const MappedFile> MappedFile::open(const std::string& path) {
  Descriptor file(-1);
  const size_t size = open_regular(path, file);
  std::shared_ptr<MappedFile> mapped(new MappedFile());
  if (size == 0) return mapped;
  void* data = ::mmap(nullptr, size, PROT_READ, MAP_PRIVATE, file.fd, 0);
  if (data == MAP_FAILED) fail(path, "map");
  mapped->data_ = static_cast<const std::byte*>(data);
  mapped->size_ = size;
  return mapped;
}

MappedFile::~MappedFile() {
  if (data_) ::munmap(const_cast<std::byte*>(data_), size_);
}

std::vector<std::byte> read_file(const std::string& path, size_t limit) {
  Descriptor file(-1);
  const size_t size = open_regular(path, file);
  if (size > limit)
    throw Error(Code::limit, fmt::format("'{}' has {} bytes, more than the limit of {}", path, size, limit));
  std::vector<std::byte> bytes(size);
  size_t done = 0;
  while (done < size) {
    const ssize_t n = ::read(file.fd, bytes.data() + done, size - done);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) fail(path, "read");
    if (n == 0) break;
    done += static_cast<size_t>(n);
  }
  bytes.resize(done);
  return bytes;
}

std::string read_text_file(const std::string& path, size_t limit) {
  const std::vector<std::byte> bytes = read_file(path, limit);
  return std::string(reinterpret_cast<const char*>(bytes.data()), bytes.size());
}

namespace {

// The file that is to be replaced: behind links, and nothing but a file (a rename would put a file in a device's
// place).
std::string target_of(const std::string& path) {
  struct stat info {};
  if (::stat(path.c_str(), &info) != 0) return path;
  if (!S_ISREG(info.st_mode))
    throw Error(Code::io, fmt::format("cannot write '{}': it exists and is no regular file", printable(path)));
  const std::unique_ptr<char, void (*)(void*)> resolved(::realpath(path.c_str(), nullptr), std::free);
  return resolved ? resolved.get() : path;
}

}  // namespace

void write_file_atomically(const std::string& given, std::span<const std::span<const std::byte>> pieces) {
  static std::atomic<unsigned> count{0};  // two threads may write to one path at a time
  const std::string path = target_of(given);
  const std::string temporary = fmt::format("{}.{}.{}.tmp", path, ::getpid(), ++count);
  {
    Descriptor file(::open(temporary.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644));
    if (file.fd < 0) fail(temporary, "create");
    const auto give_up = [&] {
      const int saved = errno;
      ::unlink(temporary.c_str());
      errno = saved;
      fail(path, "write");
    };
    for (std::span<const std::byte> piece : pieces) {
      size_t done = 0;
      while (done < piece.size()) {
        const ssize_t n = ::write(file.fd, piece.data() + done, piece.size() - done);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) give_up();
        done += static_cast<size_t>(n);
      }
    }
    if (::fsync(file.fd) != 0 && errno != EINVAL && errno != EROFS) give_up();
  }
  if (::rename(temporary.c_str(), path.c_str()) != 0) {
    const int saved = errno;
    ::unlink(temporary.c_str());
    errno = saved;
    fail(path, "write");
  }
}

void write_file_atomically(const std::string& path, std::string_view text) {
  const std::span<const std::byte> piece(reinterpret_cast<const std::byte*>(text.data()), text.size());
  write_file_atomically(path, std::span<const std::span<const std::byte>>(&piece, 1));
}

}  // namespace sinter
