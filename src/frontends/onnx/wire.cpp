#include "frontends/onnx/wire.h"

#include <fmt/core.h>

#include <cstring>

#include "base/error.h"

namespace sinter::onnx {

using protozero::pbf_wire_type;

Message::Message(Bytes bytes, const char* what, const std::byte* base, int depth)
    : reader_(reinterpret_cast<const char*>(bytes.data()), bytes.size()),
      bytes_(bytes),
      what_(what),
      base_(base),
      depth_(depth) {
  if (depth > max_message_depth)
    throw Error(Code::limit,
                fmt::format("{} at byte {}: messages nest deeper than {}", what, offset(), max_message_depth));
}

void Message::fail(std::string_view why) const {
  throw Error(Code::model_invalid, fmt::format("{} at byte {}: {}", what_, offset(), why));
}

template <typename F>
auto Message::guarded(F f) const {
  try {
    return f();
  } catch (const protozero::exception& e) {
    const char* why = "it is damaged";
    if (dynamic_cast<const protozero::end_of_buffer_exception*>(&e)) why = "it ends too early";
    if (dynamic_cast<const protozero::varint_too_long_exception*>(&e)) why = "a number is too long";
    if (dynamic_cast<const protozero::unknown_pbf_wire_type_exception*>(&e)) why = "a field has an unknown wire type";
    if (dynamic_cast<const protozero::invalid_tag_exception*>(&e)) why = "a field has an impossible number";
    if (dynamic_cast<const protozero::invalid_length_exception*>(&e)) why = "a field has an impossible length";
    fail(why);
  }
}

bool Message::next() {
  return guarded([&] { return reader_.next(); });
}

void Message::need(pbf_wire_type type) const {
  if (reader_.wire_type() != type) fail(fmt::format("field {} has the wrong wire type", field()));
}

int64_t Message::integer() {
  need(pbf_wire_type::varint);
  return guarded([&] { return reader_.get_int64(); });
}

float Message::real() {
  need(pbf_wire_type::fixed32);
  return guarded([&] { return reader_.get_float(); });
}

std::string_view Message::text(size_t limit) {
  need(pbf_wire_type::length_delimited);
  const auto view = guarded([&] { return reader_.get_view(); });
  if (view.size() > limit)
    fail(fmt::format("field {} has {} bytes, at most {} are allowed", field(), view.size(), limit));
  return {view.data(), view.size()};
}

std::string_view Message::name() {
  const std::string_view text = this->text(max_name_bytes);
  if (text.find('\0') != std::string_view::npos) fail(fmt::format("field {} is a name with a zero byte", field()));
  return text;
}

Bytes Message::bytes() {
  need(pbf_wire_type::length_delimited);
  const auto view = guarded([&] { return reader_.get_view(); });
  return {reinterpret_cast<const std::byte*>(view.data()), view.size()};
}

Message Message::message(const char* what) { return Message(bytes(), what, base_, depth_ + 1); }

void Message::integers(std::vector<int64_t>& out) {
  if (reader_.wire_type() == pbf_wire_type::varint) {
    out.push_back(integer());
    return;
  }
  const Bytes packed = bytes();
  const auto* at = reinterpret_cast<const char*>(packed.data());
  const char* const end = at + packed.size();
  guarded([&] {
    while (at != end) out.push_back(static_cast<int64_t>(protozero::decode_varint(&at, end)));
    return 0;
  });
}

void Message::reals(std::vector<float>& out) {
  if (reader_.wire_type() == pbf_wire_type::fixed32) {
    out.push_back(real());
    return;
  }
  const Bytes packed = bytes();
  if (packed.size() % sizeof(float) != 0) fail(fmt::format("field {}: packed numbers of an odd size", field()));
  const size_t before = out.size(), count = packed.size() / sizeof(float);
  out.resize(before + count);
  if (count > 0) std::memcpy(out.data() + before, packed.data(), packed.size());
}

void Message::skip() {
  guarded([&] {
    reader_.skip();
    return 0;
  });
}

void Message::once() {
  const uint32_t n = field();
  const uint64_t bit = uint64_t{1} << (n & 63);
  if (n < 64 && (seen_ & bit)) fail(fmt::format("field {} is given twice", n));
  seen_ |= bit;
}

}  // namespace sinter::onnx
