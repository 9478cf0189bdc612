// The parser of ops/regex.h: a pattern becomes a tree. Nothing but regex.cpp reads this.
//
// Depth and size of the tree are limited while it is made; repetition counts are at most 1000, as in RE2.
#pragma once

#include <memory>
#include <string_view>
#include <vector>

#include "ops/regex.h"

namespace sinter {

struct RegexTree {
  enum class Kind : uint8_t { empty, any_of, assertion, sequence, choice, repeat } kind = Kind::empty;
  Regex::Kind assertion = Regex::Kind::match;
  std::vector<Regex::Range> ranges;               // of any_of
  std::vector<std::unique_ptr<RegexTree>> parts;  // of a sequence, a choice, a repeat (one)
  int low = 0, high = -1;                         // of a repeat; high -1: without end
};

std::unique_ptr<RegexTree> parse_regex(std::string_view pattern);

}  // namespace sinter
