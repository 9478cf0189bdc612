// Regular expressions: from the tree to a program, and its simulation.

#include "ops/regex.h"

#include <algorithm>

#include "base/error.h"
#include "ops/regex_parser.h"
#include "ops/utf8.h"

namespace sinter {
namespace {

constexpr size_t max_instructions = 50000;
constexpr char32_t outside = 0x110000;  // what stands before the first and behind the last character

using Kind = Regex::Kind;

// Compiles from behind: each part is told what follows it.
class Compiler {
 public:
  Compiler(std::vector<Regex::Instruction>& program, std::vector<Regex::Range>& ranges)
      : program_(program), ranges_(ranges) {}

  uint32_t emit(Regex::Instruction instruction) {
    if (program_.size() >= max_instructions)
      throw Error(Code::limit, "the pattern becomes too large: at most 50000 states after repetitions are written out");
    program_.push_back(instruction);
    return static_cast<uint32_t>(program_.size() - 1);
  }

  uint32_t part(const RegexTree& tree, uint32_t next) {
    // Repetitions of nothing would be written out without ever reaching the limit on instructions.
    if (++visits_ > 20 * max_instructions) throw Error(Code::limit, "the pattern repeats too much");
    switch (tree.kind) {
      case RegexTree::Kind::empty: return next;
      case RegexTree::Kind::any_of: {
        if (ranges_.size() + tree.ranges.size() > 20 * max_instructions)
          throw Error(Code::limit, "the pattern becomes too large: its character classes are repeated too often");
        const auto first = static_cast<uint32_t>(ranges_.size());
        ranges_.insert(ranges_.end(), tree.ranges.begin(), tree.ranges.end());
        return emit({Kind::any_of, next, first, static_cast<uint32_t>(tree.ranges.size())});
      }
      case RegexTree::Kind::assertion: return emit({tree.assertion, next});
      case RegexTree::Kind::sequence:
        for (size_t k = tree.parts.size(); k-- > 0;) next = part(*tree.parts[k], next);
        return next;
      case RegexTree::Kind::choice: {
        uint32_t at = part(*tree.parts.back(), next);
        for (size_t k = tree.parts.size() - 1; k-- > 0;) {
          const uint32_t one = part(*tree.parts[k], next);
          at = emit({Kind::split, one, at});
        }
        return at;
      }
      case RegexTree::Kind::repeat: {
        const RegexTree& body = *tree.parts[0];
        if (tree.high < 0) {
          const uint32_t loop = emit({Kind::split, 0, next});
          const uint32_t inside = part(body, loop);
          program_[loop].next = inside;
          next = loop;
        } else {
          const uint32_t end = next;
          for (int k = tree.low; k < tree.high; ++k) {
            const uint32_t inside = part(body, next);
            next = emit({Kind::split, inside, end});
          }
        }
        for (int k = 0; k < tree.low; ++k) next = part(body, next);
        return next;
      }
    }
    return next;
  }

 private:
  std::vector<Regex::Instruction>& program_;
  std::vector<Regex::Range>& ranges_;
  size_t visits_ = 0;
};

bool is_word(char32_t c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_';
}

bool holds(Kind kind, char32_t before, char32_t after) {
  switch (kind) {
    case Kind::begin_text: return before == outside;
    case Kind::end_text: return after == outside;
    case Kind::begin_line: return before == outside || before == '\n';
    case Kind::end_line: return after == outside || after == '\n';
    case Kind::word_edge: return is_word(before) != is_word(after);
    case Kind::no_word_edge: return is_word(before) == is_word(after);
    default: return false;
  }
}

}  // namespace

Regex::Regex(std::string_view pattern) {
  const std::unique_ptr<RegexTree> tree = parse_regex(pattern);
  Compiler compiler(program_, ranges_);
  const uint32_t end = compiler.emit({Kind::match});
  start_ = compiler.part(*tree, end);
}

// Adds every character class and match that `at` leads to without reading, between these two characters.
void Regex::follow(uint32_t at, char32_t before, char32_t after, std::vector<uint32_t>& states,
                   std::vector<uint32_t>& mark, std::vector<uint32_t>& stack, uint32_t stamp) const {
  stack.push_back(at);
  while (!stack.empty()) {
    const uint32_t i = stack.back();
    stack.pop_back();
    if (mark[i] == stamp) continue;
    mark[i] = stamp;
    const Instruction& instruction = program_[i];
    if (instruction.kind == Kind::any_of || instruction.kind == Kind::match) {
      states.push_back(i);
    } else if (instruction.kind == Kind::split) {
      stack.push_back(instruction.other);
      stack.push_back(instruction.next);
    } else if (holds(instruction.kind, before, after)) {
      stack.push_back(instruction.next);
    }
  }
}

bool Regex::takes(const Instruction& instruction, char32_t c) const {
  if (instruction.kind != Kind::any_of) return false;
  const auto first = ranges_.begin() + instruction.other, last = first + instruction.ranges;
  const auto found = std::upper_bound(first, last, c, [](char32_t v, const Range& r) { return v < r.first; });
  return found != first && c <= (found - 1)->last;
}

// Threads stand in the order of their beginnings, so that of two in one state the leftmost stays.
std::optional<Regex::Found> Regex::find(std::string_view text, size_t from) const {
  std::vector<uint32_t> now, then, stack, mark(program_.size(), 0);
  std::vector<size_t> begins, next_begins;  // of `now`, of `then`
  uint32_t stamp = 1;
  size_t at = from, here = from;
  char32_t before = outside;
  if (from > 0) {
    size_t back = from - 1;
    while (back > 0 && from - back < 4 && (static_cast<unsigned char>(text[back]) & 0xC0) == 0x80) --back;
    before = decode_utf8(text, back);
  }
  const auto next_character = [&] { return at < text.size() ? decode_utf8(text, at) : outside; };
  char32_t c = next_character();
  std::optional<Found> best;
  while (true) {
    if (!best) {
      follow(start_, before, c, now, mark, stack, stamp);
      begins.resize(now.size(), here);
    }
    for (size_t k = 0; k < now.size(); ++k)
      if (program_[now[k]].kind == Kind::match && (!best || begins[k] <= best->begin)) best = Found{begins[k], here};
    if (c == outside || (best && now.empty())) return best;
    here = at;
    const char32_t after = next_character();
    then.clear();
    next_begins.clear();
    if (++stamp == 0) {
      std::fill(mark.begin(), mark.end(), 0u);
      stamp = 1;
    }
    for (size_t k = 0; k < now.size(); ++k) {
      if ((best && begins[k] > best->begin) || !takes(program_[now[k]], c)) continue;
      follow(program_[now[k]].next, c, after, then, mark, stack, stamp);
      next_begins.resize(then.size(), begins[k]);
    }
    now.swap(then);
    begins.swap(next_begins);
    before = c;
    c = after;
  }
}

bool Regex::matches(std::string_view text) const {
  std::vector<uint32_t> now, then, stack, mark(program_.size(), 0);
  uint32_t stamp = 1;
  size_t at = 0;
  const auto next_character = [&] { return at < text.size() ? decode_utf8(text, at) : outside; };
  char32_t c = next_character();
  follow(start_, outside, c, now, mark, stack, stamp);
  while (c != outside && !now.empty()) {
    const char32_t after = next_character();
    then.clear();
    if (++stamp == 0) {
      std::fill(mark.begin(), mark.end(), 0u);
      stamp = 1;
    }
    for (const uint32_t i : now)
      if (takes(program_[i], c)) follow(program_[i].next, c, after, then, mark, stack, stamp);
    now.swap(then);
    c = after;
  }
  if (c != outside) return false;
  return std::any_of(now.begin(), now.end(), [&](uint32_t i) { return program_[i].kind == Kind::match; });
}

}  // namespace sinter
