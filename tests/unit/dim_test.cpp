// Extents: every simplification is compared with plain evaluation of the expression it was made from, and every proof
// with values that keep the bounds.

#include "tensor/dim.h"

#include <gtest/gtest.h>

#include <random>

#include "base/error.h"
#include "tensor/symbols.h"

namespace sinter {
namespace {

constexpr SymbolId symbol_count = 4;
using Values = std::vector<int64_t>;

int64_t floor_divide(int64_t a, int64_t b) {
  const int64_t q = a / b;
  return q * b != a && (a < 0) != (b < 0) ? q - 1 : q;
}

// An expression as it was written, and the Dim built from it.
struct Expression {
  enum Kind { constant, symbol, add, sub, mul, divide, ceil_divide, mod, minimum, maximum, step_of, broadcast_of } kind;
  int64_t value = 0;
  std::vector<Expression> parts;

  Dim build() const {
    switch (kind) {
      case constant: return value;
      case symbol: return Dim::symbol(static_cast<SymbolId>(value));
      case add: return parts[0].build() + parts[1].build();
      case sub: return parts[0].build() - parts[1].build();
      case mul: return parts[0].build() * parts[1].build();
      case divide: return floordiv(parts[0].build(), parts[1].build());
      case ceil_divide: return ceildiv(parts[0].build(), parts[1].build());
      case mod: return modulo(parts[0].build(), parts[1].build());
      case minimum: return min(parts[0].build(), parts[1].build());
      case maximum: return max(parts[0].build(), parts[1].build());
      case step_of: return step(parts[0].build());
      case broadcast_of: return broadcast(parts[0].build(), parts[1].build());
    }
    return 0;
  }

  // None: a division by zero on the way, or numbers that leave a comfortable range.
  std::optional<int64_t> evaluate(const Values& symbols) const {
    if (kind == constant) return value;
    if (kind == symbol) return symbols[static_cast<size_t>(value)];
    const auto a = parts[0].evaluate(symbols);
    const auto b = parts.size() > 1 ? parts[1].evaluate(symbols) : 0;
    constexpr int64_t limit = int64_t{1} << 30;
    if (!a || !b || *a > limit || *a < -limit || *b > limit || *b < -limit) return std::nullopt;
    switch (kind) {
      case add: return *a + *b;
      case sub: return *a - *b;
      case mul: return *a * *b;
      case minimum: return std::min(*a, *b);
      case maximum: return std::max(*a, *b);
      case step_of: return *a >= 0;
      case broadcast_of: return *a == 1 ? *b : *a;
      default: break;
    }
    if (*b == 0) return std::nullopt;
    if (kind == divide) return floor_divide(*a, *b);
    if (kind == ceil_divide) return -floor_divide(-*a, *b);
    return *a - *b * floor_divide(*a, *b);
  }
};

class Source {
 public:
  explicit Source(uint64_t seed) : random_(seed) {}
  int64_t number(int64_t low, int64_t high) { return std::uniform_int_distribution<int64_t>(low, high)(random_); }

  Expression expression(int depth) {
    if (depth == 0 || number(0, 5) == 0) {
      if (number(0, 2) == 0) return {Expression::constant, number(-4, 8), {}};
      return {Expression::symbol, number(0, symbol_count - 1), {}};
    }
    const auto kind = static_cast<Expression::Kind>(number(Expression::add, Expression::broadcast_of));
    Expression e{kind, 0, {}};
    e.parts.push_back(expression(depth - 1));
    if (kind == Expression::step_of) return e;
    // Constant divisors are what simplification is about.
    const bool divides = kind == Expression::divide || kind == Expression::ceil_divide || kind == Expression::mod;
    if (divides && number(0, 3) != 0)
      e.parts.push_back({Expression::constant, number(-3, 6), {}});
    else
      e.parts.push_back(expression(depth - 1));
    return e;
  }

  Values values(int64_t low, int64_t high) {
    Values v;
    for (SymbolId i = 0; i < symbol_count; ++i) v.push_back(number(low, high));
    return v;
  }

 private:
  std::mt19937_64 random_;
};

SymbolTable four_symbols() {
  SymbolTable table;
  for (const char* name : {"B", "H", "W", "seq.len"}) table.add({.name = name});
  return table;
}

// Broadcast means something for equal extents and 1 alone; other pairs may give either.
bool broadcasts_hold(const Expression& e, const Values& symbols) {
  for (const Expression& part : e.parts)
    if (!broadcasts_hold(part, symbols)) return false;
  if (e.kind != Expression::broadcast_of) return true;
  const auto a = e.parts[0].evaluate(symbols), b = e.parts[1].evaluate(symbols);
  return a && b && (*a == *b || *a == 1 || *b == 1);
}

TEST(Dim, SimplificationsKeepValues) {
  Source source(1);
  int compared = 0;
  for (int n = 0; n < 20000; ++n) {
    const Expression e = source.expression(4);
    Dim d;
    try {
      d = e.build();
    } catch (const Error&) {
      continue;  // a coefficient beyond 64 bits
    }
    for (int k = 0; k < 5; ++k) {
      const Values at = k == 0 ? Values(symbol_count, 0) : source.values(-6, 12);
      const auto expected = e.evaluate(at);
      if (!expected || !broadcasts_hold(e, at)) continue;
      ++compared;
      ASSERT_EQ(d.evaluate(at), *expected) << to_string(d, four_symbols());
    }
  }
  EXPECT_GT(compared, 20000);
}

TEST(Dim, TextReadsBack) {
  Source source(2);
  const SymbolTable table = four_symbols();
  int compared = 0;
  for (int n = 0; n < 5000; ++n) {
    Dim d;
    try {
      d = source.expression(4).build();
    } catch (const Error&) {
      continue;
    }
    const std::string text = to_string(d, table);
    size_t position = 0;
    Dim back;
    try {
      back = parse_dim(text, position, [&](std::string_view name) { return table.find(name).value(); });
    } catch (const Error& error) {
      FAIL() << text << ": " << error.what();
    }
    ASSERT_EQ(position, text.size()) << text;
    ASSERT_TRUE(back == d) << text << " reads back as " << to_string(back, table);
    ASSERT_EQ(back.hash(), d.hash());
    ++compared;
  }
  EXPECT_GT(compared, 4000);
}

TEST(Dim, OrderDoesNotDependOnHowItWasWritten) {
  Source source(3);
  for (int n = 0; n < 3000; ++n) {
    const Dim a = source.expression(3).build(), b = source.expression(3).build(), c = source.expression(2).build();
    EXPECT_TRUE(a + b == b + a);
    EXPECT_TRUE((a + b) + c == a + (b + c));
    EXPECT_TRUE(a * (b + c) == a * b + a * c);
    EXPECT_TRUE(a - a == Dim(0));
    EXPECT_TRUE(min(a, b) == min(b, a) || (a - b).is_constant());
    EXPECT_EQ(Dim::compare(a, b), -Dim::compare(b, a));
  }
}

TEST(Dim, CanonicalForms) {
  const Dim b = Dim::symbol(0), h = Dim::symbol(1);
  EXPECT_TRUE(floordiv(4 * b + 6, 4) == b + 1);  // 6/4 rounds down
  EXPECT_TRUE(floordiv(2 * h, 2) == h);
  EXPECT_TRUE(floordiv(floordiv(h, 2), 2) == floordiv(h, 4));
  EXPECT_TRUE(floordiv(h + 8, 4) == floordiv(h, 4) + 2);
  EXPECT_TRUE(floordiv(h, 1) == h);
  EXPECT_TRUE(ceildiv(h, 2) == floordiv(h + 1, 2));
  EXPECT_TRUE(max(h, h + 1) == h + 1);
  EXPECT_TRUE(broadcast(1, h) == h);
  EXPECT_TRUE(broadcast(h, h) == h);
  EXPECT_EQ(broadcast(0, 1).constant(), 0);
  EXPECT_EQ(broadcast(1, 0).constant(), 0);
  EXPECT_FALSE((b * h).is_constant());
  EXPECT_EQ((b * 0).constant(), 0);
  EXPECT_EQ(b.as_symbol(), 0u);
  EXPECT_FALSE((b + 1).as_symbol());
  EXPECT_FALSE((2 * b).as_symbol());
}

TEST(Dim, OverflowAndDivisionByZeroAreErrors) {
  const Dim b = Dim::symbol(0);
  EXPECT_THROW(Dim(INT64_MAX) + 1, Error);
  EXPECT_THROW(Dim(INT64_MAX) * 2, Error);
  EXPECT_THROW((b * INT64_MAX).evaluate(Values{2}), Error);
  EXPECT_THROW(floordiv(b, Dim::symbol(1)).evaluate(Values{1, 0}), Error);
  EXPECT_THROW(floordiv(b, 0).evaluate(Values{1}), Error);
  EXPECT_THROW(floordiv(Dim(INT64_MIN), -1), Error);
  EXPECT_THROW(b.evaluate(Values{}), Error);
}

TEST(Dim, SubstituteAndRename) {
  Source source(4);
  int compared = 0;
  for (int n = 0; n < 3000; ++n) {
    const Expression e = source.expression(3), by = source.expression(2);
    const Dim d = e.build().substitute(1, by.build());
    const std::vector<SymbolId> map = {3, 2, 1, 0};
    const Dim renamed = e.build().rename(map);
    Values at = source.values(1, 9);
    const auto inner = by.evaluate(at);
    Values replaced = at;
    if (inner) replaced[1] = *inner;
    const auto expected = inner ? e.evaluate(replaced) : std::nullopt;
    if (expected && broadcasts_hold(e, replaced) && broadcasts_hold(by, at)) {
      ++compared;
      ASSERT_EQ(d.evaluate(at), *expected);
    }
    const Values reversed(at.rbegin(), at.rend());
    const auto before = e.evaluate(at);
    if (before && broadcasts_hold(e, at)) {
      ASSERT_EQ(renamed.evaluate(reversed), *before);
    }
  }
  EXPECT_GT(compared, 500);
}

TEST(Dim, CollectsSymbols) {
  const Dim d = floordiv(Dim::symbol(3) + 1, max(Dim::symbol(0), 1)) * Dim::symbol(3);
  std::vector<SymbolId> ids;
  d.collect_symbols(ids);
  EXPECT_EQ(ids, (std::vector<SymbolId>{0, 3}));
  EXPECT_TRUE(d.mentions(0));
  EXPECT_FALSE(d.mentions(1));
}

TEST(Dim, CancelIsExact) {
  const Dim b = Dim::symbol(0), h = Dim::symbol(1), w = Dim::symbol(2);
  EXPECT_TRUE(cancel(12 * b * h, 4 * h) == std::optional(3 * b));
  EXPECT_TRUE(cancel(b * h + b * w, b) == std::optional(h + w));
  EXPECT_TRUE(cancel((b + 1) * (h - 2), h - 2) == std::optional(b + 1));
  EXPECT_TRUE(cancel((h + w) * (h + w), h + w) == std::optional(h + w));
  EXPECT_FALSE(cancel(b * h + 1, h));
  EXPECT_FALSE(cancel(3 * b, 2));
  EXPECT_FALSE(cancel(b, b * h));
  EXPECT_FALSE(cancel(b, 0));
  EXPECT_TRUE(cancel(b, -1) == std::optional(-b));
  EXPECT_TRUE(cancel(24, -1) == std::optional(Dim(-24)));
  Source source(5);
  int found = 0;
  for (int n = 0; n < 5000; ++n) {
    const Dim p = source.expression(3).build(), f = source.expression(2).build();
    for (const Dim& product : {p, p * f}) {
      const auto q = cancel(product, f);
      if (!q) continue;
      ++found;
      ASSERT_TRUE(*q * f == product);
    }
  }
  EXPECT_GT(found, 1000);
}

TEST(Prove, IsNeverWrong) {
  Source source(6);
  int yes = 0, no = 0;
  for (int n = 0; n < 20000; ++n) {
    SymbolTable table;
    Values low, high;
    for (SymbolId i = 0; i < symbol_count; ++i) {
      low.push_back(source.number(-2, 4));
      high.push_back(low[i] + source.number(0, 6));
      const bool bounded = source.number(0, 1) == 1;
      Symbol s{.name = std::string(1, static_cast<char>('a' + i)), .low = low[i]};
      // Bounded by a number, by an earlier symbol, or not at all.
      if (bounded && i > 0 && source.number(0, 1) == 1)
        s.high = Dim::symbol(i - 1) + source.number(0, 5);
      else if (bounded)
        s.high = high[i];
      table.add(std::move(s));
    }
    const Expression left = source.expression(3), right = source.expression(2);
    Fact fact{static_cast<Fact::Kind>(source.number(0, 2)), {}, {}, {}};
    try {
      fact.left = left.build();
      fact.right = right.build();
    } catch (const Error&) {
      continue;
    }
    const Proof proof = prove(table, fact);
    const Interval range = bounds(table, fact.left);
    if (proof == Proof::unknown && !range.low && !range.high) continue;
    for (int k = 0; k < 12; ++k) {
      Values at;
      bool possible = true;
      for (SymbolId i = 0; i < symbol_count; ++i) {
        const auto& bound = table[i].high;
        const int64_t top = bound ? bound->evaluate(at.empty() ? Values{0} : at) : low[i] + 40;
        possible = possible && top >= low[i];
        at.push_back(possible ? source.number(low[i], top) : 0);
      }
      if (!possible) continue;
      const auto l = left.evaluate(at), r = right.evaluate(at);
      if (!l || !r || !broadcasts_hold(left, at) || !broadcasts_hold(right, at)) continue;
      ASSERT_GE(*l, range.low.value_or(INT64_MIN)) << to_string(fact.left, table);
      ASSERT_LE(*l, range.high.value_or(INT64_MAX)) << to_string(fact.left, table);
      if (proof == Proof::unknown || (fact.kind == Fact::Kind::divides && *l == 0)) continue;
      const bool holds = fact.kind == Fact::Kind::equal      ? *l == *r
                         : fact.kind == Fact::Kind::at_least ? *l >= *r
                                                             : *r % *l == 0;
      ASSERT_EQ(holds, proof == Proof::yes) << to_string(fact.left, table) << " and " << to_string(fact.right, table);
      ++(proof == Proof::yes ? yes : no);
    }
  }
  EXPECT_GT(yes, 1000);
  EXPECT_GT(no, 1000);
}

TEST(Prove, FindsWhatShapesNeed) {
  SymbolTable table;
  const Dim b = Dim::symbol(table.add({.name = "B"}));
  const Dim n = Dim::symbol(table.add({.name = "n", .bound = Symbol::Bound::run, .high = 3 * b}));
  const auto at_least = [&](const Dim& l, const Dim& r) { return prove(table, {Fact::Kind::at_least, l, r, {}}); };
  EXPECT_EQ(at_least(b, 0), Proof::yes);
  EXPECT_EQ(at_least(b, 1), Proof::unknown);
  EXPECT_EQ(at_least(b + 1, 1), Proof::yes);
  EXPECT_EQ(at_least(-1, b), Proof::no);
  EXPECT_EQ(at_least(3 * b, n), Proof::yes);
  EXPECT_EQ(at_least(4 * b + 1, n), Proof::yes);
  EXPECT_EQ(at_least(b, floordiv(b, 2)), Proof::unknown);
  EXPECT_EQ(prove(table, {Fact::Kind::equal, 2 * b, b + b, {}}), Proof::yes);
  EXPECT_EQ(prove(table, {Fact::Kind::equal, b, b + 1, {}}), Proof::no);
  EXPECT_EQ(prove(table, {Fact::Kind::divides, 4, 8 * b * n, {}}), Proof::yes);
  EXPECT_EQ(prove(table, {Fact::Kind::divides, 4, b, {}}), Proof::unknown);
  EXPECT_EQ(prove(table, {Fact::Kind::divides, 4, 6, {}}), Proof::no);
  EXPECT_EQ(prove(table, {Fact::Kind::divides, 0, 6, {}}), Proof::unknown);
}

TEST(SymbolTable, NamesStayUnique) {
  SymbolTable table;
  const SymbolId first = table.add({.name = "B"}), second = table.add({.name = "B"});
  EXPECT_NE(first, second);
  EXPECT_NE(table[first].name, table[second].name);
  EXPECT_EQ(table.find("B"), first);
  EXPECT_FALSE(table.find("C"));
}

TEST(DimText, BadTextsAreErrors) {
  for (const char* text : {"", "(", "B +", "min(B)", "foo(B, 1)", "99999999999999999999"}) {
    size_t position = 0;
    EXPECT_THROW(parse_dim(text, position, [](std::string_view) -> SymbolId { return 0; }), Error) << text;
  }
  size_t position = 0;
  const std::string deep(100000, '(');
  EXPECT_THROW(parse_dim(deep, position, [](std::string_view) -> SymbolId { return 0; }), Error);
}

}  // namespace
}  // namespace sinter
