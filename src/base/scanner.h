// A scanner over text in the project's one form, and the number and string printing that it reads back.
//
// Whitespace and comments from '#' to the end of a line are skipped between tokens. Errors carry line and column.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace sinter {

class Scanner {
 public:
  explicit Scanner(std::string_view text) : text_(text) {}

  bool at_end();
  char peek();                          // next non-blank character, '\0' at the end
  bool accept(std::string_view token);  // consumes it if it comes next (identifiers: whole words only)
  void expect(std::string_view token);
  bool at_identifier();
  std::string_view identifier();  // [A-Za-z_][A-Za-z0-9_.]*
  int64_t integer();
  bool at_number();
  double number();       // also inf, -inf, nan
  std::string string();  // quoted, with escapes
  [[noreturn]] void fail(std::string_view message);

  std::string_view text() const { return text_; }
  size_t position() const { return position_; }
  void seek(size_t position) { position_ = position; }

 private:
  void skip();
  std::string_view text_;
  size_t position_ = 0;
};

// Shortest text that reads back as the same double.
std::string number_text(double value);
// Quoted and escaped.
std::string quoted(std::string_view text);
// Escaped and cut to at most `limit` bytes, for messages.
std::string printable(std::string_view text, size_t limit = 256);
// The same for names that a model gives, which messages quote as people know them: control characters alone are
// escaped, so that a name that has been through it once stays as it is.
std::string shown(std::string_view text, size_t limit = 256);

}  // namespace sinter
