#include "tensor/symbols.h"

#include <fmt/core.h>

#include <algorithm>

#include "base/checked.h"

namespace sinter {
namespace {

using Kind = Dim::Atom::Kind;
using End = std::optional<int64_t>;

// Sums and products of interval ends; none where the result is unbounded or does not fit.
End add(End a, End b) {
  int64_t r;
  if (!a || !b || __builtin_add_overflow(*a, *b, &r)) return std::nullopt;
  return r;
}

Interval add(const Interval& a, const Interval& b) { return {add(a.low, b.low), add(a.high, b.high)}; }

Interval multiply(const Interval& a, const Interval& b) {
  if (a.low && a.high && b.low && b.high) {
    int64_t low = INT64_MAX, high = INT64_MIN;
    for (int64_t x : {*a.low, *a.high})
      for (int64_t y : {*b.low, *b.high}) {
        int64_t r;
        if (__builtin_mul_overflow(x, y, &r)) return {};
        low = std::min(low, r);
        high = std::max(high, r);
      }
    return {low, high};
  }
  const auto product = [](End x, End y) -> End {
    int64_t r;
    if (!x || !y || __builtin_mul_overflow(*x, *y, &r)) return std::nullopt;
    return r;
  };
  if (a.low && b.low && *a.low >= 0 && *b.low >= 0) return {product(a.low, b.low), product(a.high, b.high)};
  // A constant times a half-open interval.
  const auto scaled = [&](int64_t k, const Interval& x) -> Interval {
    if (k == 0) return {0, 0};
    return k > 0 ? Interval{product(k, x.low), product(k, x.high)} : Interval{product(k, x.high), product(k, x.low)};
  };
  if (a.low && a.high && *a.low == *a.high) return scaled(*a.low, b);
  if (b.low && b.high && *b.low == *b.high) return scaled(*b.low, a);
  return {};
}

int64_t floor_divide(int64_t a, int64_t b) {
  const int64_t q = a / b;
  return q - ((a % b != 0) && ((a < 0) != (b < 0)));
}

Interval bounds_at(const SymbolTable& symbols, const Dim& d, int depth);

Interval atom_bounds(const SymbolTable& symbols, const Dim::Atom& atom, int depth) {
  switch (atom.kind) {
    case Kind::symbol: {
      const Symbol& symbol = symbols[atom.id];
      Interval out{symbol.low, std::nullopt};
      if (symbol.high && depth > 0) out.high = bounds_at(symbols, *symbol.high, depth - 1).high;
      return out;
    }
    case Kind::floordiv: {
      const Interval a = bounds_at(symbols, atom.a, depth), b = bounds_at(symbols, atom.b, depth);
      if (!b.low || *b.low < 1) return {};
      Interval out;
      // Dividing by more moves towards zero.
      if (a.low) {
        if (*a.low < 0)
          out.low = floor_divide(*a.low, *b.low);
        else
          out.low = b.high ? floor_divide(*a.low, *b.high) : 0;
      }
      if (a.high) {
        if (*a.high >= 0)
          out.high = floor_divide(*a.high, *b.low);
        else
          out.high = b.high ? floor_divide(*a.high, *b.high) : -1;
      }
      return out;
    }
    case Kind::min: {
      const Interval a = bounds_at(symbols, atom.a, depth), b = bounds_at(symbols, atom.b, depth);
      Interval out;
      if (a.low && b.low) out.low = std::min(*a.low, *b.low);
      if (a.high && b.high)
        out.high = std::min(*a.high, *b.high);
      else
        out.high = a.high ? a.high : b.high;
      return out;
    }
    case Kind::max: {
      const Interval a = bounds_at(symbols, atom.a, depth), b = bounds_at(symbols, atom.b, depth);
      Interval out;
      if (a.high && b.high) out.high = std::max(*a.high, *b.high);
      if (a.low && b.low)
        out.low = std::max(*a.low, *b.low);
      else
        out.low = a.low ? a.low : b.low;
      return out;
    }
    case Kind::step: {
      const Interval a = bounds_at(symbols, atom.a, depth);
      if (a.low && *a.low >= 0) return {1, 1};
      if (a.high && *a.high < 0) return {0, 0};
      return {0, 1};
    }
    case Kind::broadcast: {
      const Interval a = bounds_at(symbols, atom.a, depth), b = bounds_at(symbols, atom.b, depth);
      Interval out;  // one of the two
      if (a.low && b.low) out.low = std::min(*a.low, *b.low);
      if (a.high && b.high) out.high = std::max(*a.high, *b.high);
      return out;
    }
  }
  return {};
}

Interval bounds_at(const SymbolTable& symbols, const Dim& d, int depth) {
  if (d.is_constant()) return {d.constant(), d.constant()};
  Interval sum{0, 0};
  for (const Dim::Term& term : *d.terms()) {
    Interval product{term.coefficient, term.coefficient};
    for (const auto& atom : term.atoms) product = multiply(product, atom_bounds(symbols, *atom, depth));
    sum = add(sum, product);
  }
  return sum;
}

// Whether d >= 0 follows from bounds, or from a symbol's bound by an expression (n <= numel).
bool non_negative(const SymbolTable& symbols, const Dim& d, int depth) {
  const Interval range = bounds_at(symbols, d, 4);
  if (range.low && *range.low >= 0) return true;
  if (depth == 0 || d.is_constant()) return false;
  for (const Dim::Term& term : *d.terms()) {
    if (term.coefficient >= 0 || term.atoms.size() != 1 || term.atoms[0]->kind != Kind::symbol) continue;
    const SymbolId id = term.atoms[0]->id;
    const auto& high = symbols[id].high;
    if (!high || high->mentions(id)) continue;
    // -c*n >= -c*high
    const Dim replaced = d + (Dim::symbol(id) - *high) * Dim(-term.coefficient);
    if (non_negative(symbols, replaced, depth - 1)) return true;
  }
  return false;
}

}  // namespace

SymbolId SymbolTable::add(Symbol symbol) {
  if (find(symbol.name)) {
    const std::string base = symbol.name + "_";
    for (int n = 1; find(symbol.name); ++n) symbol.name = base + std::to_string(n);
  }
  const auto id = static_cast<SymbolId>(symbols_.size());
  by_name_.emplace(symbol.name, id);
  symbols_.push_back(std::move(symbol));
  return id;
}

std::optional<SymbolId> SymbolTable::find(std::string_view name) const {
  const auto at = by_name_.find(name);
  return at == by_name_.end() ? std::nullopt : std::optional(at->second);
}

int64_t likely_value(const Symbol& symbol) {
  int64_t value = symbol.likely;
  if (symbol.high && symbol.high->is_constant()) value = std::min(value, symbol.high->constant());
  return std::max({value, symbol.low, int64_t{1}});
}

Interval bounds(const SymbolTable& symbols, const Dim& d) { return bounds_at(symbols, d, 4); }

Proof prove(const SymbolTable& symbols, const Fact& fact) {
  try {
    switch (fact.kind) {
      case Fact::Kind::equal: {
        const Dim difference = fact.left - fact.right;
        if (difference.is_constant()) return difference.constant() == 0 ? Proof::yes : Proof::no;
        const Interval range = bounds_at(symbols, difference, 4);
        if ((range.low && *range.low > 0) || (range.high && *range.high < 0)) return Proof::no;
        if (range.low && range.high && *range.low == 0 && *range.high == 0) return Proof::yes;
        return Proof::unknown;
      }
      case Fact::Kind::at_least: {
        const Dim difference = fact.left - fact.right;
        if (non_negative(symbols, difference, 4)) return Proof::yes;
        if (non_negative(symbols, -difference - 1, 4)) return Proof::no;
        return Proof::unknown;
      }
      case Fact::Kind::divides: {
        if (fact.left.is_constant() && fact.left.constant() != 0) {
          if (cancel(fact.right, fact.left)) return Proof::yes;
          if (fact.right.is_constant()) return Proof::no;
        }
        return Proof::unknown;
      }
    }
  } catch (const Error&) {
    // Numbers beyond 64 bits on the way: nothing is proved.
  }
  return Proof::unknown;
}

}  // namespace sinter
