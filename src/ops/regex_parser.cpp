#include "ops/regex_parser.h"

#include <fmt/core.h>

#include <algorithm>

#include "base/error.h"
#include "base/scanner.h"
#include "ops/utf8.h"

namespace sinter {
namespace {

constexpr int max_depth = 200;
constexpr int max_repeat = 1000;
constexpr size_t max_pattern_bytes = 64 << 10;
constexpr char32_t last_character = 0x10FFFF;

using Ranges = std::vector<Regex::Range>;
using Tree = std::unique_ptr<RegexTree>;

// Sorted, disjoint.
Ranges sorted(Ranges ranges) {
  std::sort(ranges.begin(), ranges.end(), [](const auto& a, const auto& b) { return a.first < b.first; });
  Ranges out;
  for (const auto& r : ranges) {
    if (!out.empty() && r.first <= out.back().last + 1)
      out.back().last = std::max(out.back().last, r.last);
    else
      out.push_back(r);
  }
  return out;
}

Ranges complement(const Ranges& ranges) {
  Ranges out;
  char32_t next = 0;
  for (const auto& r : sorted(ranges)) {
    if (r.first > next) out.push_back({next, r.first - 1});
    next = r.last + 1;
  }
  if (next <= last_character) out.push_back({next, last_character});
  return out;
}

void add(Ranges& to, const Ranges& from) { to.insert(to.end(), from.begin(), from.end()); }

// Both cases of what is listed. Wide ranges are closed under case but for their edges, so that only letters of
// scripts that have cases are looked at.
Ranges folded(const Ranges& ranges) {
  Ranges out = ranges;
  for (const auto& r : ranges)
    for (char32_t c = r.first; c <= std::min<char32_t>(r.last, 0x10450); ++c) {
      if (c == 0x600) c = 0x1E00;
      if (c == 0x2500) c = 0xFF21;
      if (c == 0xFF60) c = 0x10400;
      if (c > r.last) break;
      if (c < r.first || c == 0x131) continue;  // the dotless i has no other case here
      const char32_t lower = to_lower(c), upper = to_upper(c);
      if (lower != c) out.push_back({lower, lower});
      if (upper != c) out.push_back({upper, upper});
      if (c == 'k' || c == 'K') out.push_back({0x212A, 0x212A});
      if (c == 's' || c == 'S') out.push_back({0x17F, 0x17F});
    }
  return sorted(std::move(out));
}

struct NamedClass {
  std::string_view name;
  Ranges ranges;
};

const std::vector<NamedClass>& posix_classes() {
  static const std::vector<NamedClass> list = {
      {"alnum", {{'0', '9'}, {'A', 'Z'}, {'a', 'z'}}},
      {"alpha", {{'A', 'Z'}, {'a', 'z'}}},
      {"ascii", {{0, 0x7F}}},
      {"blank", {{'\t', '\t'}, {' ', ' '}}},
      {"cntrl", {{0, 0x1F}, {0x7F, 0x7F}}},
      {"digit", {{'0', '9'}}},
      {"graph", {{'!', '~'}}},
      {"lower", {{'a', 'z'}}},
      {"print", {{' ', '~'}}},
      {"punct", {{'!', '/'}, {':', '@'}, {'[', '`'}, {'{', '~'}}},
      {"space", {{'\t', '\r'}, {' ', ' '}}},
      {"upper", {{'A', 'Z'}}},
      {"word", {{'0', '9'}, {'A', 'Z'}, {'_', '_'}, {'a', 'z'}}},
      {"xdigit", {{'0', '9'}, {'A', 'F'}, {'a', 'f'}}},
  };
  return list;
}

// \d \s \w; false for other letters.
bool perl_class(char32_t letter, Ranges& out) {
  Ranges ranges;
  switch (letter) {
    case 'd':
    case 'D': ranges = {{'0', '9'}}; break;
    case 's':
    case 'S': ranges = {{'\t', '\n'}, {'\f', '\r'}, {' ', ' '}}; break;
    case 'w':
    case 'W': ranges = {{'0', '9'}, {'A', 'Z'}, {'_', '_'}, {'a', 'z'}}; break;
    default: return false;
  }
  add(out, letter < 'a' ? complement(ranges) : ranges);
  return true;
}

class Parser {
 public:
  explicit Parser(std::string_view pattern) : pattern_(pattern) {
    if (pattern.size() > max_pattern_bytes)
      throw Error(Code::limit, fmt::format("a pattern of {} bytes, at most {}", pattern.size(), max_pattern_bytes));
    for (size_t at = 0; at < pattern.size();) {
      bool valid = true;
      text_.push_back(decode_utf8(pattern, at, &valid));
      if (!valid) fail("it is no UTF-8");
    }
  }

  Tree whole() {
    Tree tree = choice();
    if (!at_end()) fail("a ) without a (");
    return tree;
  }

 private:
  struct Flags {
    bool fold = false, dot_all = false, multi_line = false;
  };

  [[noreturn]] void fail(std::string_view why) const {
    throw Error(Code::model_invalid,
                fmt::format("the pattern {} is invalid at character {}: {}", quoted(printable(pattern_)), at_, why));
  }
  bool at_end() const { return at_ >= text_.size(); }
  bool next_is(char32_t c) const { return !at_end() && text_[at_] == c; }
  bool accept(char32_t c) {
    if (!next_is(c)) return false;
    ++at_;
    return true;
  }
  bool accept(std::string_view s) {
    if (text_.size() - at_ < s.size()) return false;
    for (size_t k = 0; k < s.size(); ++k)
      if (text_[at_ + k] != static_cast<unsigned char>(s[k])) return false;
    at_ += s.size();
    return true;
  }
  char32_t take() {
    if (at_end()) fail("it ends too early");
    return text_[at_++];
  }

  static Tree exactly(Ranges ranges) {
    auto tree = std::make_unique<RegexTree>();
    tree->kind = RegexTree::Kind::any_of;
    tree->ranges = std::move(ranges);
    return tree;
  }
  Ranges cased(Ranges ranges) const { return flags_.fold ? folded(ranges) : sorted(std::move(ranges)); }
  Tree any_of(Ranges ranges) const { return exactly(cased(std::move(ranges))); }
  static Tree assertion(Regex::Kind kind) {
    auto tree = std::make_unique<RegexTree>();
    tree->kind = RegexTree::Kind::assertion;
    tree->assertion = kind;
    return tree;
  }

  Tree choice() {
    if (++depth_ > max_depth) throw Error(Code::limit, fmt::format("a pattern nested deeper than {}", max_depth));
    auto all = std::make_unique<RegexTree>();
    all->kind = RegexTree::Kind::choice;
    do all->parts.push_back(sequence());
    while (accept('|'));
    --depth_;
    return all->parts.size() == 1 ? std::move(all->parts[0]) : std::move(all);
  }

  Tree sequence() {
    auto all = std::make_unique<RegexTree>();
    all->kind = RegexTree::Kind::sequence;
    while (!at_end() && !next_is('|') && !next_is(')')) {
      if (accept(std::string_view("\\Q"))) {
        Tree last;  // the only character that a repetition behind the quotation is about
        while (!at_end() && !accept(std::string_view("\\E"))) {
          const char32_t c = take();
          if (last) all->parts.push_back(std::move(last));
          last = any_of({{c, c}});
        }
        if (last) all->parts.push_back(repeated(std::move(last)));
        continue;
      }
      Tree one = atom();
      if (one) all->parts.push_back(repeated(std::move(one)));
    }
    return all;
  }

  Tree repeated(Tree one) {
    int count = 0;
    while (true) {
      int low = 0, high = -1;
      if (accept('*')) {
      } else if (accept('+')) {
        low = 1;
      } else if (accept('?')) {
        high = 1;
      } else if (!counts(low, high)) {
        return one;
      }
      if (++count > 1) fail("one repetition directly behind another");
      accept('?');  // prefers fewer, which makes no difference to whether the whole matches
      auto tree = std::make_unique<RegexTree>();
      tree->kind = RegexTree::Kind::repeat;
      tree->low = low;
      tree->high = high;
      tree->parts.push_back(std::move(one));
      one = std::move(tree);
    }
  }

  // {n}, {n,}, {n,m}; anything else in braces stands for itself.
  bool counts(int& low, int& high) {
    const size_t start = at_;
    const auto number = [&](int& n) {
      const size_t first = at_;
      n = 0;
      while (!at_end() && text_[at_] >= '0' && text_[at_] <= '9') {
        n = std::min(n * 10 + static_cast<int>(text_[at_] - '0'), 100000);
        ++at_;
      }
      return at_ > first;
    };
    bool good = accept('{') && number(low);
    if (good) {
      high = low;
      if (accept(',') && !number(high)) high = -1;
      good = accept('}');
    }
    if (!good) {
      at_ = start;
      return false;
    }
    if (low > max_repeat || high > max_repeat || (high >= 0 && high < low))
      fail("a repetition count is above 1000 or below the one before it");
    return true;
  }

  // Null where the construct only changes flags.
  Tree atom() {
    const char32_t c = take();
    switch (c) {
      case '(': return group();
      case '[': return exactly(character_class());
      case '.':
        return flags_.dot_all ? any_of({{0, last_character}}) : any_of({{0, '\n' - 1}, {'\n' + 1, last_character}});
      case '^': return assertion(flags_.multi_line ? Regex::Kind::begin_line : Regex::Kind::begin_text);
      case '$': return assertion(flags_.multi_line ? Regex::Kind::end_line : Regex::Kind::end_text);
      case '*':
      case '+':
      case '?': fail("a repetition of nothing");
      case '\\': return escaped();
      default: return any_of({{c, c}});
    }
  }

  Tree group() {
    const Flags before = flags_;
    if (accept('?')) {
      if (accept(std::string_view("P<")) || (next_is('<') && !look_behind() && accept('<'))) {
        const size_t first = at_;
        while (!next_is('>')) {
          const char32_t c = take();
          if (!(c == '_' || (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z')))
            fail("a group's name has letters, digits and underscores");
        }
        if (at_ == first) fail("a group without a name");
        accept('>');
      } else if (set_flags()) {
        return nullptr;
      }
    }
    Tree inner = choice();
    if (!accept(')')) fail("a ( without a )");
    flags_ = before;
    return inner;
  }

  bool look_behind() const { return at_ + 1 < text_.size() && (text_[at_ + 1] == '=' || text_[at_ + 1] == '!'); }

  // Behind "(?": true when the group ends with its flags.
  bool set_flags() {
    bool on = true, any = false;
    while (true) {
      const char32_t c = take();
      switch (c) {
        case 'i': flags_.fold = on; break;
        case 's': flags_.dot_all = on; break;
        case 'm': flags_.multi_line = on; break;
        case 'U': break;
        case '-':
          if (!on) fail("a second - among flags");
          on = false;
          any = false;
          continue;
        case ':':
        case ')':
          if (!any && (!on || c == ')')) fail("flags are missing");
          return c == ')';
        default: fail("(? with something that RE2 does not know");
      }
      any = true;
    }
  }

  Tree escaped() {
    const char32_t c = take();
    Ranges ranges;
    if (perl_class(c, ranges)) return any_of(std::move(ranges));
    switch (c) {
      case 'A': return assertion(Regex::Kind::begin_text);
      case 'z': return assertion(Regex::Kind::end_text);
      case 'b': return assertion(Regex::Kind::word_edge);
      case 'B': return assertion(Regex::Kind::no_word_edge);
      default: break;
    }
    const char32_t v = escaped_character(c);
    return any_of({{v, v}});
  }

  static int hex_digit(char32_t c) {
    if (c >= '0' && c <= '9') return static_cast<int>(c - '0');
    if (c >= 'a' && c <= 'f') return static_cast<int>(c - 'a') + 10;
    if (c >= 'A' && c <= 'F') return static_cast<int>(c - 'A') + 10;
    return -1;
  }

  // The character that \c stands for.
  char32_t escaped_character(char32_t c) {
    switch (c) {
      case 'a': return '\a';
      case 'f': return '\f';
      case 't': return '\t';
      case 'n': return '\n';
      case 'r': return '\r';
      case 'v': return '\v';
      case 'x': return hexadecimal();
      case 'p':
      case 'P':
      case 'C':
        throw Error(Code::unsupported, fmt::format("the pattern {} uses \\{}, which is not supported",
                                                   quoted(printable(pattern_)), static_cast<char>(c)));
      default: break;
    }
    if (c >= '0' && c <= '7') {
      const bool octal = c == '0' || (!at_end() && text_[at_] >= '0' && text_[at_] <= '7');
      if (!octal) fail("a reference to a group");
      char32_t v = c - '0';
      for (int k = 0; k < 2 && !at_end() && text_[at_] >= '0' && text_[at_] <= '7'; ++k) v = v * 8 + (take() - '0');
      return v;
    }
    const bool word = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
    if (word || c >= 0x80) fail("an escape that RE2 does not know");
    return c;
  }

  char32_t hexadecimal() {
    const bool braces = accept('{');
    char32_t v = 0;
    int digits = 0;
    while (digits < (braces ? 8 : 2)) {
      const int d = at_end() ? -1 : hex_digit(text_[at_]);
      if (d < 0) break;
      v = v * 16 + static_cast<char32_t>(d);
      ++at_;
      ++digits;
    }
    if (digits == 0 || (!braces && digits != 2) || (braces && !accept('}')) || v > last_character)
      fail("\\x wants two digits or a code point in braces");
    return v;
  }

  Ranges character_class() {
    Ranges ranges;
    const bool negated = accept('^');
    bool first = true;
    while (first || !next_is(']')) {
      first = false;
      if (accept(std::string_view("[:"))) {
        posix_class(ranges);
        continue;
      }
      if (at_end()) fail("a [ without a ]");
      if (next_is('\\') && at_ + 1 < text_.size() && perl_class(text_[at_ + 1], ranges)) {
        at_ += 2;
        continue;
      }
      const char32_t low = class_character();
      char32_t high = low;
      if (next_is('-') && at_ + 1 < text_.size() && text_[at_ + 1] != ']') {
        ++at_;
        high = class_character();
        if (high < low) fail("a range that runs backwards");
      }
      ranges.push_back({low, high});
    }
    accept(']');
    ranges = cased(std::move(ranges));
    return negated ? complement(ranges) : ranges;
  }

  char32_t class_character() {
    const char32_t c = take();
    return c == '\\' ? escaped_character(take()) : c;
  }

  void posix_class(Ranges& ranges) {
    const bool negated = accept('^');
    for (const NamedClass& known : posix_classes())
      if (accept(std::string(known.name) + ":]")) return add(ranges, negated ? complement(known.ranges) : known.ranges);
    fail("a class of no known name");
  }

  std::string_view pattern_;
  std::u32string text_;
  size_t at_ = 0;
  int depth_ = 0;
  Flags flags_;
};

}  // namespace

std::unique_ptr<RegexTree> parse_regex(std::string_view pattern) { return Parser(pattern).whole(); }

}  // namespace sinter
