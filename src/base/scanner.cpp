#include "base/scanner.h"

#include <fmt/core.h>

#include <charconv>
#include <cmath>

#include "base/error.h"

namespace sinter {
namespace {

bool is_letter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_'; }
bool is_digit(char c) { return c >= '0' && c <= '9'; }
bool is_word(char c) { return is_letter(c) || is_digit(c) || c == '.'; }

void escape(std::string& out, char c) {
  switch (c) {
    case '"': out += "\\\""; return;
    case '\\': out += "\\\\"; return;
    case '\n': out += "\\n"; return;
    case '\t': out += "\\t"; return;
    default: break;
  }
  const auto u = static_cast<unsigned char>(c);
  if (u < 0x20 || u == 0x7f)
    out += fmt::format("\\x{:02x}", u);
  else
    out += c;
}

}  // namespace

void Scanner::skip() {
  while (position_ < text_.size()) {
    const char c = text_[position_];
    if (c == '#') {
      while (position_ < text_.size() && text_[position_] != '\n') ++position_;
    } else if (c == ' ' || c == '\n' || c == '\t' || c == '\r') {
      ++position_;
    } else {
      return;
    }
  }
}

bool Scanner::at_end() {
  skip();
  return position_ >= text_.size();
}

char Scanner::peek() {
  skip();
  return position_ < text_.size() ? text_[position_] : '\0';
}

bool Scanner::accept(std::string_view token) {
  skip();
  if (text_.substr(position_, token.size()) != token) return false;
  const size_t end = position_ + token.size();
  if (is_letter(token[0]) && end < text_.size() && is_word(text_[end])) return false;
  position_ = end;
  return true;
}

void Scanner::expect(std::string_view token) {
  if (!accept(token)) fail(fmt::format("expected '{}'", token));
}

bool Scanner::at_identifier() { return is_letter(peek()); }

std::string_view Scanner::identifier() {
  if (!at_identifier()) fail("expected a name");
  const size_t start = position_;
  while (position_ < text_.size() && is_word(text_[position_])) ++position_;
  return text_.substr(start, position_ - start);
}

int64_t Scanner::integer() {
  skip();
  int64_t value = 0;
  const char* first = text_.data() + position_;
  const auto [end, error] = std::from_chars(first, text_.data() + text_.size(), value);
  if (error != std::errc()) fail("expected an integer");
  position_ += static_cast<size_t>(end - first);
  return value;
}

bool Scanner::at_number() {
  const char c = peek();
  if (is_digit(c) || c == '-') return true;
  const std::string_view rest = text_.substr(position_);
  return rest.substr(0, 3) == "inf" || rest.substr(0, 3) == "nan";
}

double Scanner::number() {
  skip();
  double value = 0;
  const char* first = text_.data() + position_;
  const auto [end, error] = std::from_chars(first, text_.data() + text_.size(), value);
  if (error != std::errc()) fail("expected a number");
  position_ += static_cast<size_t>(end - first);
  return value;
}

std::string Scanner::string() {
  expect("\"");
  std::string out;
  while (true) {
    if (position_ >= text_.size()) fail("string without end");
    char c = text_[position_++];
    if (c == '"') return out;
    if (c != '\\') {
      out += c;
      continue;
    }
    if (position_ >= text_.size()) fail("string without end");
    c = text_[position_++];
    if (c == 'n')
      out += '\n';
    else if (c == 't')
      out += '\t';
    else if (c == 'x') {
      unsigned value = 0;
      const char* first = text_.data() + position_;
      const char* last = text_.data() + std::min(position_ + 2, text_.size());
      const auto [end, error] = std::from_chars(first, last, value, 16);
      if (error != std::errc() || end != first + 2) fail("bad \\x escape");
      position_ += 2;
      out += static_cast<char>(value);
    } else {
      out += c;
    }
  }
}

void Scanner::fail(std::string_view message) {
  size_t line = 1, column = 1;
  for (size_t i = 0; i < position_ && i < text_.size(); ++i) {
    if (text_[i] == '\n') {
      ++line;
      column = 1;
    } else {
      ++column;
    }
  }
  const std::string near = printable(text_.substr(std::min(position_, text_.size()), 40));
  throw Error(Code::invalid_argument, fmt::format("line {}, column {}: {} before \"{}\"", line, column, message, near));
}

std::string number_text(double value) {
  if (std::isnan(value)) return "nan";
  if (std::isinf(value)) return value < 0 ? "-inf" : "inf";
  char buffer[32];
  const auto [end, error] = std::to_chars(buffer, buffer + sizeof buffer, value);
  (void)error;  // 32 bytes always suffice
  return std::string(buffer, end);
}

std::string quoted(std::string_view text) {
  std::string out = "\"";
  for (char c : text) escape(out, c);
  return out + '"';
}

std::string shown(std::string_view text, size_t limit) {
  std::string out;
  for (const char c : text.substr(0, limit)) {
    const auto u = static_cast<unsigned char>(c);
    if (u < 0x20 || u == 0x7f)
      out += fmt::format("\\x{:02x}", u);
    else
      out += c;
  }
  if (text.size() > limit) out += "...";
  return out;
}

std::string printable(std::string_view text, size_t limit) {
  std::string out;
  for (char c : text.substr(0, limit)) escape(out, c);
  if (text.size() > limit) out += "...";
  return out;
}

}  // namespace sinter
