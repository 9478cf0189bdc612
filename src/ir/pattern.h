// Patterns: small run-time expressions over operators, for rewrite rules written in one line.
//
//   rule("x/1", Effect::exact, op("Div", {any("x"), splat(1)}), any("x"))
// any(name) matches every value; a name that occurs twice must be the same value. splat(c) is a constant whose elements
// all equal c within the precision of their dtype (exactly where c has few bits: 0, 1, 0.5). Inner values have a single
// reader unless shared() says otherwise. Operands of commutative operators match in either order. What a rule does
// beyond this (types, attributes that depend on a match) is a rule written as a function.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "ir/rewriter.h"

namespace sinter::pattern {

struct Pattern {
  enum class Kind : uint8_t { any, splat, op } kind = Kind::any;
  std::string name;             // captured under it; empty: not captured
  std::optional<double> value;  // of a splat
  const Op* op = nullptr;
  Attrs attrs;  // an operator must have exactly these when attrs_given, and is built with them
  bool attrs_given = false;
  bool shared = false;  // others may read it too
  std::vector<Pattern> inputs;
};

Pattern any(std::string name);
Pattern splat(double value);
Pattern splat(std::string name);  // any splat
Pattern op(std::string_view name, std::vector<Pattern> inputs);
Pattern op(std::string_view name, std::string_view attrs,
           std::vector<Pattern> inputs);  // attrs as in text: "{alpha=1}"
Pattern shared(Pattern pattern);

struct Match {
  std::vector<std::pair<std::string, ValueId>> values;
  ValueId operator[](std::string_view name) const;  // precondition: the pattern captures it
};

struct Refusal {
  bool only_readers = false;  // everything matched but an inner value has other readers
};

// Matches at the operator that defines `root`.
std::optional<Match> match(const Rewriter& rewriter, const Pattern& pattern, ValueId root, Refusal* refusal = nullptr);
// Appends the right side of a rule. Splats get the given dtype.
ValueId build(Rewriter& rewriter, const Pattern& pattern, const Match& match, DType dtype);

struct PatternRule {
  Rule rule;
  Pattern from, to;
  // Whether the match will do, or the one thing that is against it.
  Answer (*when)(const Rewriter&, const Match&) = nullptr;
};

inline PatternRule rule(const char* name, Effect effect, Pattern from, Pattern to,
                        Answer (*when)(const Rewriter&, const Match&) = nullptr) {
  return {{name, effect}, std::move(from), std::move(to), when};
}

// The element that all elements of a constant equal; none for other values, refittable weights and empty tensors.
std::optional<double> splat_value(const Rewriter& rewriter, ValueId v);
// Whether an element of this dtype is as near to `value` as the dtype allows.
bool equals(DType dtype, double element, double value);
// Attributes from text, "{alpha=2}".
Attrs attrs_of(const Op& op, std::string_view text);

}  // namespace sinter::pattern
