// One protobuf message of an untrusted file, field by field.
//
// Every length is checked against what remains, wire types against what the field calls for, packed and single forms of
// repeated numbers are both taken, groups and field number 0 are errors, and messages nest at most 100 deep. Errors
// name the message and the byte where it starts. Nothing is copied.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <protozero/pbf_reader.hpp>

namespace sinter::onnx {

constexpr int max_message_depth = 100;
constexpr size_t max_name_bytes = 64 << 10;
constexpr size_t max_text_bytes = 64 << 20;

using Bytes = std::span<const std::byte>;

class Message {
 public:
  // The outermost message; `what` is a literal that names it.
  Message(Bytes bytes, const char* what) : Message(bytes, what, bytes.data(), 0) {}

  // Moves to the next field; false at the end.
  bool next();
  uint32_t field() const { return reader_.tag(); }

  // The value of the present field; each may be asked for once.
  int64_t integer();
  float real();
  std::string_view text(size_t limit = max_text_bytes);
  std::string_view name();  // at most max_name_bytes, without zero bytes
  Bytes bytes();
  Message message(const char* what);
  // A part of this message's bytes, found by bytes() before, as a message one level below.
  Message within(Bytes part, const char* what) const { return Message(part, what, base_, depth_ + 1); }
  void integers(std::vector<int64_t>& out);
  void reals(std::vector<float>& out);
  void skip();
  // The present field is a singular message: a second copy is an error.
  void once();

  size_t offset() const { return static_cast<size_t>(bytes_.data() - base_); }  // in the outermost message
  Bytes all() const { return bytes_; }
  [[noreturn]] void fail(std::string_view why) const;

 private:
  Message(Bytes bytes, const char* what, const std::byte* base, int depth);
  void need(protozero::pbf_wire_type type) const;
  template <typename F>
  auto guarded(F f) const;

  protozero::pbf_reader reader_;
  Bytes bytes_;
  const char* what_;
  const std::byte* base_;
  int depth_;
  uint64_t seen_ = 0;
};

}  // namespace sinter::onnx
