#include "tensor/dim.h"

#include <fmt/core.h>

#include <algorithm>

#include "base/checked.h"
#include "base/hash.h"
#include "base/scanner.h"
#include "tensor/symbols.h"

namespace sinter {
namespace {

using Atom = Dim::Atom;
using Term = Dim::Term;
using AtomRef = std::shared_ptr<const Atom>;
using Kind = Atom::Kind;

int compare(const Atom& a, const Atom& b) {
  if (&a == &b) return 0;
  if (a.kind != b.kind) return a.kind < b.kind ? -1 : 1;
  if (a.kind == Kind::symbol) return a.id == b.id ? 0 : a.id < b.id ? -1 : 1;
  if (const int c = Dim::compare(a.a, b.a)) return c;
  return Dim::compare(a.b, b.b);
}

// Orders products of atoms: longer first, so that the constant term comes last.
int compare(const std::vector<AtomRef>& a, const std::vector<AtomRef>& b) {
  if (a.size() != b.size()) return a.size() > b.size() ? -1 : 1;
  for (size_t i = 0; i < a.size(); ++i)
    if (const int c = compare(*a[i], *b[i])) return c;
  return 0;
}

// Shared parts are gone through wherever they stand, so size is time.
constexpr size_t max_atoms = 1 << 14, max_terms = 1 << 12, max_degree = 256;

// Counts down `left` by the atoms of d.
void count_atoms(const Dim& d, size_t& left) {
  if (!d.terms()) return;
  for (const Term& term : *d.terms())
    for (const AtomRef& atom : term.atoms) {
      if (left-- <= 1) throw Error(Code::limit, "an expression of extents has too many parts");
      if (atom->kind == Kind::symbol) continue;
      count_atoms(atom->a, left);
      count_atoms(atom->b, left);
    }
}

Dim of_atom(Atom atom) {
  size_t left = max_atoms;
  count_atoms(atom.a, left);
  count_atoms(atom.b, left);
  Dim::Terms terms;
  terms.push_back({1, {std::make_shared<const Atom>(std::move(atom))}});
  return Dim::from_terms(std::move(terms));
}

void for_terms(const Dim& d, auto&& f) {
  if (const auto* terms = d.terms()) {
    for (const Term& t : *terms) f(t);
  } else if (d.constant() != 0) {
    f(Term{d.constant(), {}});
  }
}

int64_t floor_divide(int64_t a, int64_t b) {
  if (b == 0) throw Error(Code::limit, "an extent is divided by zero");
  if (b == -1) return checked_sub(0, a, "extent");
  const int64_t q = a / b;
  return q - ((a % b != 0) && ((a < 0) != (b < 0)));
}

int64_t broadcast_value(int64_t a, int64_t b) { return a == 1 ? b : a; }

int64_t evaluate_atom(const Atom& atom, std::span<const int64_t> symbols) {
  switch (atom.kind) {
    case Kind::symbol:
      if (atom.id >= symbols.size()) throw Error(Code::internal, "an extent mentions a symbol without value");
      return symbols[atom.id];
    case Kind::floordiv: return floor_divide(atom.a.evaluate(symbols), atom.b.evaluate(symbols));
    case Kind::min: return std::min(atom.a.evaluate(symbols), atom.b.evaluate(symbols));
    case Kind::max: return std::max(atom.a.evaluate(symbols), atom.b.evaluate(symbols));
    case Kind::step: return atom.a.evaluate(symbols) >= 0 ? 1 : 0;
    case Kind::broadcast: return broadcast_value(atom.a.evaluate(symbols), atom.b.evaluate(symbols));
  }
  return 0;
}

Dim rebuild(const Atom& atom, const Dim& a, const Dim& b) {
  switch (atom.kind) {
    case Kind::symbol: break;
    case Kind::floordiv: return floordiv(a, b);
    case Kind::min: return min(a, b);
    case Kind::max: return max(a, b);
    case Kind::step: return step(a);
    case Kind::broadcast: return broadcast(a, b);
  }
  return of_atom(atom);
}

// Each symbol replaced by f(symbol).
Dim map_symbols(const Dim& d, auto&& f) {
  if (d.is_constant()) return d;
  Dim sum = 0;
  for (const Term& term : *d.terms()) {
    Dim product = term.coefficient;
    for (const AtomRef& atom : term.atoms)
      product =
          product *
          (atom->kind == Kind::symbol ? f(atom->id) : rebuild(*atom, map_symbols(atom->a, f), map_symbols(atom->b, f)));
    sum = sum + product;
  }
  return sum;
}

}  // namespace

Dim Dim::symbol(SymbolId id) { return of_atom({Kind::symbol, id, 0, 0}); }

Dim Dim::from_terms(Terms terms) {
  if (terms.size() > 2 * max_terms) throw Error(Code::limit, "a sum of extents has too many terms");
  std::sort(terms.begin(), terms.end(),
            [](const Term& a, const Term& b) { return sinter::compare(a.atoms, b.atoms) < 0; });
  Terms out;
  for (Term& term : terms) {
    if (!out.empty() && sinter::compare(out.back().atoms, term.atoms) == 0)
      out.back().coefficient = checked_add(out.back().coefficient, term.coefficient, "extent");
    else
      out.push_back(std::move(term));
  }
  std::erase_if(out, [](const Term& t) { return t.coefficient == 0; });
  if (out.empty()) return Dim(0);
  if (out.size() == 1 && out[0].atoms.empty()) return Dim(out[0].coefficient);
  Dim d;
  d.terms_ = std::make_shared<const Terms>(std::move(out));
  return d;
}

std::optional<SymbolId> Dim::as_symbol() const {
  if (!terms_ || terms_->size() != 1) return std::nullopt;
  const Term& term = terms_->front();
  if (term.coefficient != 1 || term.atoms.size() != 1 || term.atoms[0]->kind != Kind::symbol) return std::nullopt;
  return term.atoms[0]->id;
}

int64_t Dim::evaluate(std::span<const int64_t> symbols) const {
  if (!terms_) return value_;
  int64_t sum = 0;
  for (const Term& term : *terms_) {
    int64_t product = term.coefficient;
    for (const AtomRef& atom : term.atoms) product = checked_mul(product, evaluate_atom(*atom, symbols), "extent");
    sum = checked_add(sum, product, "extent");
  }
  return sum;
}

bool Dim::mentions(SymbolId id) const {
  std::vector<SymbolId> ids;
  collect_symbols(ids);
  return std::binary_search(ids.begin(), ids.end(), id);
}

void Dim::collect_symbols(std::vector<SymbolId>& out) const {
  if (!terms_) return;
  for (const Term& term : *terms_)
    for (const AtomRef& atom : term.atoms) {
      if (atom->kind == Kind::symbol) {
        out.push_back(atom->id);
      } else {
        atom->a.collect_symbols(out);
        atom->b.collect_symbols(out);
      }
    }
  std::sort(out.begin(), out.end());
  out.erase(std::unique(out.begin(), out.end()), out.end());
}

Dim Dim::substitute(SymbolId id, const Dim& by) const {
  return map_symbols(*this, [&](SymbolId k) { return k == id ? by : symbol(k); });
}

Dim Dim::rename(std::span<const SymbolId> map) const {
  return map_symbols(*this, [&](SymbolId k) {
    if (k >= map.size()) throw Error(Code::internal, "a symbol without a new name");
    return symbol(map[k]);
  });
}

size_t Dim::hash() const {
  if (!terms_) return hash_combine(1, static_cast<uint64_t>(value_));
  uint64_t h = 2;
  for (const Term& term : *terms_) {
    h = hash_combine(h, static_cast<uint64_t>(term.coefficient));
    for (const AtomRef& atom : term.atoms) {
      h = hash_combine(h, static_cast<uint64_t>(atom->kind));
      h = atom->kind == Kind::symbol ? hash_combine(h, atom->id)
                                     : hash_combine(hash_combine(h, atom->a.hash()), atom->b.hash());
    }
  }
  return h;
}

int Dim::compare(const Dim& a, const Dim& b) {
  if (a.is_constant() != b.is_constant()) return a.is_constant() ? -1 : 1;
  if (a.is_constant()) return a.value_ == b.value_ ? 0 : a.value_ < b.value_ ? -1 : 1;
  if (a.terms_ == b.terms_) return 0;
  if (a.terms_->size() != b.terms_->size()) return a.terms_->size() < b.terms_->size() ? -1 : 1;
  for (size_t i = 0; i < a.terms_->size(); ++i) {
    const Term& x = (*a.terms_)[i];
    const Term& y = (*b.terms_)[i];
    if (const int c = sinter::compare(x.atoms, y.atoms)) return c;
    if (x.coefficient != y.coefficient) return x.coefficient < y.coefficient ? -1 : 1;
  }
  return 0;
}

Dim operator+(const Dim& a, const Dim& b) {
  if (a.is_constant() && b.is_constant()) return checked_add(a.constant(), b.constant(), "extent");
  Dim::Terms terms;
  for_terms(a, [&](const Term& t) { terms.push_back(t); });
  for_terms(b, [&](const Term& t) { terms.push_back(t); });
  return Dim::from_terms(std::move(terms));
}

Dim operator-(const Dim& a) { return Dim(-1) * a; }
Dim operator-(const Dim& a, const Dim& b) { return a + -b; }

Dim operator*(const Dim& a, const Dim& b) {
  if (a.is_constant() && b.is_constant()) return checked_mul(a.constant(), b.constant(), "extent");
  if (a.terms() && b.terms() && a.terms()->size() * b.terms()->size() > max_terms)
    throw Error(Code::limit, "a product of extents has too many terms");
  Dim::Terms terms;
  for_terms(a, [&](const Term& x) {
    for_terms(b, [&](const Term& y) {
      Term product{checked_mul(x.coefficient, y.coefficient, "extent"), x.atoms};
      product.atoms.insert(product.atoms.end(), y.atoms.begin(), y.atoms.end());
      if (product.atoms.size() > max_degree) throw Error(Code::limit, "a product of extents has too many factors");
      std::sort(product.atoms.begin(), product.atoms.end(),
                [](const AtomRef& p, const AtomRef& q) { return compare(*p, *q) < 0; });
      terms.push_back(std::move(product));
    });
  });
  return Dim::from_terms(std::move(terms));
}

Dim floordiv(const Dim& a, const Dim& b) {
  if (b.is_constant()) {
    const int64_t k = b.constant();
    if (a.is_constant() && k != 0) return floor_divide(a.constant(), k);
    if (k == 1) return a;
    if (k == -1) return -a;
    if (k > 1 && !a.is_constant()) {
      // Terms that are multiples of k leave: floor((k*x + r)/k) = x + floor(r/k). So do multiples within coefficients
      // of the constant term, which keeps the rest canonical.
      Dim::Terms whole, rest;
      for (const Term& t : *a.terms()) {
        if (t.atoms.empty()) {
          const int64_t q = floor_divide(t.coefficient, k);
          if (q != 0) whole.push_back({q, {}});
          if (t.coefficient - q * k != 0) rest.push_back({t.coefficient - q * k, {}});
        } else if (t.coefficient % k == 0) {
          whole.push_back({t.coefficient / k, t.atoms});
        } else {
          rest.push_back(t);
        }
      }
      const Dim remainder = Dim::from_terms(std::move(rest));
      Dim inner;
      if (remainder.is_constant()) {
        inner = floor_divide(remainder.constant(), k);
      } else if (remainder.terms()->size() == 1 && remainder.terms()->front().coefficient == 1 &&
                 remainder.terms()->front().atoms.size() == 1 &&
                 remainder.terms()->front().atoms[0]->kind == Kind::floordiv &&
                 remainder.terms()->front().atoms[0]->b.is_constant() &&
                 remainder.terms()->front().atoms[0]->b.constant() > 0) {
        const Atom& nested = *remainder.terms()->front().atoms[0];
        inner = of_atom({Kind::floordiv, 0, nested.a, checked_mul(nested.b.constant(), k, "extent")});
      } else {
        inner = of_atom({Kind::floordiv, 0, remainder, b});
      }
      return Dim::from_terms(std::move(whole)) + inner;
    }
  }
  return of_atom({Kind::floordiv, 0, a, b});
}

Dim ceildiv(const Dim& a, const Dim& b) {
  if (b.is_constant() && b.constant() > 0) return floordiv(a + (b.constant() - 1), b);
  return -floordiv(-a, b);
}

Dim modulo(const Dim& a, const Dim& b) { return a - b * floordiv(a, b); }

namespace {

Dim ordered(Kind kind, const Dim& a, const Dim& b) {
  return Dim::compare(a, b) <= 0 ? of_atom({kind, 0, a, b}) : of_atom({kind, 0, b, a});
}

}  // namespace

Dim min(const Dim& a, const Dim& b) {
  const Dim difference = a - b;
  if (difference.is_constant()) return difference.constant() <= 0 ? a : b;
  return ordered(Kind::min, a, b);
}

Dim max(const Dim& a, const Dim& b) {
  const Dim difference = a - b;
  if (difference.is_constant()) return difference.constant() >= 0 ? a : b;
  return ordered(Kind::max, a, b);
}

Dim step(const Dim& a) {
  if (a.is_constant()) return a.constant() >= 0 ? 1 : 0;
  return of_atom({Kind::step, 0, a, 0});
}

Dim broadcast(const Dim& a, const Dim& b) {
  if (a == b) return a;
  if (a.is_constant() && b.is_constant()) return broadcast_value(a.constant(), b.constant());
  if (a.is_constant() && a.constant() == 1) return b;
  if (b.is_constant() && b.constant() == 1) return a;
  return of_atom({Kind::broadcast, 0, a, b});
}

std::optional<Dim> cancel(const Dim& product, const Dim& factor) {
  if (factor.is_constant()) {
    const int64_t k = factor.constant();
    if (k == 0) return std::nullopt;
    if (k == -1) return -product;  // INT64_MIN / -1 has no value
    if (product.is_constant())
      return product.constant() % k == 0 ? std::optional<Dim>(product.constant() / k) : std::nullopt;
    Dim::Terms out;
    for (const Term& t : *product.terms()) {
      if (t.coefficient % k != 0) return std::nullopt;
      out.push_back({t.coefficient / k, t.atoms});
    }
    return Dim::from_terms(std::move(out));
  }
  if (product == Dim(0)) return std::nullopt;
  // Polynomial long division by the leading term; exact or nothing.
  Dim rest = product, quotient = 0;
  const Term& lead = factor.terms()->front();
  for (int steps = 0; steps < 256; ++steps) {
    if (rest.is_constant()) return rest == Dim(0) ? std::optional(quotient) : std::nullopt;
    const Term& top = rest.terms()->front();
    if (top.coefficient == INT64_MIN || top.coefficient % lead.coefficient != 0) return std::nullopt;
    Term part{top.coefficient / lead.coefficient, top.atoms};
    for (const AtomRef& atom : lead.atoms) {
      const auto at =
          std::find_if(part.atoms.begin(), part.atoms.end(), [&](const AtomRef& x) { return compare(*x, *atom) == 0; });
      if (at == part.atoms.end()) return std::nullopt;
      part.atoms.erase(at);
    }
    const Dim piece = Dim::from_terms({part});
    quotient = quotient + piece;
    rest = rest - piece * factor;
    if (rest == Dim(0)) return quotient;
  }
  return std::nullopt;
}

namespace {

std::string atom_text(const Atom& atom, const SymbolTable& symbols) {
  const auto pair = [&](const char* name) {
    return fmt::format("{}({}, {})", name, to_string(atom.a, symbols), to_string(atom.b, symbols));
  };
  switch (atom.kind) {
    case Kind::symbol: return symbols[atom.id].name;
    case Kind::floordiv: return pair("floordiv");
    case Kind::min: return pair("min");
    case Kind::max: return pair("max");
    case Kind::step: return fmt::format("step({})", to_string(atom.a, symbols));
    case Kind::broadcast: return pair("broadcast");
  }
  return {};
}

class Parser {
 public:
  Parser(Scanner& scanner, const SymbolResolver& resolve) : s_(scanner), resolve_(resolve) {}

  Dim sum() {
    Dim d = product();
    while (true) {
      if (s_.accept("+"))
        d = d + product();
      else if (s_.peek() == '-' && !arrow()) {
        s_.expect("-");
        d = d - product();
      } else {
        return d;
      }
    }
  }

 private:
  bool arrow() {
    s_.peek();
    return s_.text().substr(s_.position(), 2) == "->";
  }

  Dim product() {
    if (++depth_ > 100) s_.fail("expression nested too deep");
    Dim d = factor();
    while (true) {
      if (s_.accept("*"))
        d = d * factor();
      else if (s_.accept("/"))
        d = floordiv(d, factor());
      else
        break;
    }
    --depth_;
    return d;
  }

  Dim factor() {
    if (++depth_ > 100) s_.fail("expression nested too deep");
    Dim d = plain_factor();
    --depth_;
    return d;
  }

  Dim plain_factor() {
    if (s_.accept("(")) {
      const Dim d = sum();
      s_.expect(")");
      return d;
    }
    const char c = s_.peek();
    if (c >= '0' && c <= '9') return s_.integer();
    if (c == '-') {
      // With its sign, so that the most negative integer reads back.
      const size_t next = s_.position() + 1;
      if (next < s_.text().size() && s_.text()[next] >= '0' && s_.text()[next] <= '9') return s_.integer();
      s_.expect("-");
      return -factor();
    }
    const std::string_view name = s_.identifier();
    if (s_.peek() == '(') {
      s_.expect("(");
      const Dim a = sum();
      Dim b;
      if (name != "step") {
        s_.expect(",");
        b = sum();
      }
      s_.expect(")");
      if (name == "floordiv") return floordiv(a, b);
      if (name == "min") return min(a, b);
      if (name == "max") return max(a, b);
      if (name == "step") return step(a);
      if (name == "broadcast") return broadcast(a, b);
      s_.fail("unknown function of extents");
    }
    return Dim::symbol(resolve_(name));
  }

  Scanner& s_;
  SymbolResolver resolve_;
  int depth_ = 0;
};

}  // namespace

std::string to_string(const Dim& d, const SymbolTable& symbols) {
  if (d.is_constant()) return std::to_string(d.constant());
  std::string out;
  for (const Term& term : *d.terms()) {
    const bool negative = term.coefficient < 0;
    if (!out.empty())
      out += negative ? " - " : " + ";
    else if (negative)
      out += "-";
    // The magnitude of the most negative integer has no positive form.
    const uint64_t magnitude =
        negative ? 0 - static_cast<uint64_t>(term.coefficient) : static_cast<uint64_t>(term.coefficient);
    std::string product;
    if (magnitude != 1 || term.atoms.empty()) product = std::to_string(magnitude);
    for (const AtomRef& atom : term.atoms) product += (product.empty() ? "" : "*") + atom_text(*atom, symbols);
    out += product;
  }
  return out;
}

Dim parse_dim(std::string_view text, size_t& position, SymbolResolver resolve) {
  Scanner scanner(text);
  scanner.seek(position);
  const Dim d = Parser(scanner, resolve).sum();
  position = scanner.position();
  return d;
}

}  // namespace sinter
