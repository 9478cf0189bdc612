// Regular expressions in RE2's syntax, matched against whole strings or searched for, in linear time.
//
// The pattern becomes a program of at most 50,000 instructions that is simulated over all its states at once: time is
// at most length of the string times length of the program, memory does not depend on the string. Constructs that RE2
// refuses (back references, look-around) and those left out (\C, Unicode classes by script) throw
// Error(Code::model_invalid or unsupported). Characters are code points; bytes that are no UTF-8 are U+FFFD.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

namespace sinter {

class Regex {
 public:
  explicit Regex(std::string_view pattern);
  bool matches(std::string_view text) const;
  struct Found {
    size_t begin, end;
  };
  // The leftmost match at or behind `from`, the longest of those.
  std::optional<Found> find(std::string_view text, size_t from) const;

  struct Range {
    char32_t first, last;
  };
  enum class Kind : uint8_t {
    any_of,
    split,
    begin_text,
    end_text,
    begin_line,
    end_line,
    word_edge,
    no_word_edge,
    match
  };
  struct Instruction {
    Kind kind;
    uint32_t next = 0, other = 0;  // other: of a split; for any_of the first range
    uint32_t ranges = 0;           // of any_of
  };

 private:
  bool takes(const Instruction& instruction, char32_t c) const;
  void follow(uint32_t at, char32_t before, char32_t after, std::vector<uint32_t>& states, std::vector<uint32_t>& mark,
              std::vector<uint32_t>& stack, uint32_t stamp) const;

  std::vector<Instruction> program_;
  std::vector<Range> ranges_;
  uint32_t start_ = 0;
};

}  // namespace sinter
