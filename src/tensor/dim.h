// Dim: an extent, as an integer or a polynomial over atoms with integer coefficients.
//
// Atoms are symbols, floordiv, min, max, step (1 if x >= 0, else 0) and broadcast (ONNX's rule for two extents: 1 gives
// way to the other; equal otherwise, so 0 with 1 is 0). Expressions are immutable, shared, kept in a canonical order by
// structure and never by address. Every simplification holds for all integer values of the symbols; facts about symbols
// live in the SymbolTable that `prove` takes. Coefficients are checked: overflow throws Error(Code::limit).
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

namespace sinter {

class SymbolTable;
class Scanner;

using SymbolId = uint32_t;

class Dim {
 public:
  struct Atom;
  struct Term;
  using Terms = std::vector<Term>;

  Dim(int64_t value = 0) : value_(value) {}
  static Dim symbol(SymbolId id);

  bool is_constant() const { return !terms_; }
  int64_t constant() const { return value_; }  // precondition: is_constant()
  std::optional<int64_t> as_constant() const { return terms_ ? std::nullopt : std::optional(value_); }
  std::optional<SymbolId> as_symbol() const;  // a symbol alone
  // Values by symbol; throws Error on overflow or division by zero.
  int64_t evaluate(std::span<const int64_t> symbols) const;
  bool mentions(SymbolId id) const;
  void collect_symbols(std::vector<SymbolId>& out) const;  // appended; the whole list sorted and unique afterwards
  Dim substitute(SymbolId id, const Dim& by) const;
  Dim rename(std::span<const SymbolId> map) const;  // map[old] is the new symbol
  size_t hash() const;
  static int compare(const Dim& a, const Dim& b);  // total order by structure

  const Terms* terms() const { return terms_.get(); }  // null for a constant
  static Dim from_terms(Terms terms);                  // any order, duplicates allowed

  friend bool operator==(const Dim& a, const Dim& b) { return compare(a, b) == 0; }

 private:
  int64_t value_ = 0;
  std::shared_ptr<const Terms> terms_;
};

struct Dim::Atom {
  enum class Kind : uint8_t { symbol, floordiv, min, max, step, broadcast } kind;
  SymbolId id = 0;  // of a symbol
  Dim a, b;         // of the others; step uses a
};

// coefficient * product of atoms (sorted, repeated for powers; empty for the constant term).
struct Dim::Term {
  int64_t coefficient;
  std::vector<std::shared_ptr<const Atom>> atoms;
};

Dim operator+(const Dim& a, const Dim& b);
Dim operator-(const Dim& a, const Dim& b);
Dim operator*(const Dim& a, const Dim& b);
Dim operator-(const Dim& a);
Dim floordiv(const Dim& a, const Dim& b);  // rounds towards minus infinity
Dim ceildiv(const Dim& a, const Dim& b);
Dim modulo(const Dim& a, const Dim& b);  // a - b * floordiv(a, b)
Dim min(const Dim& a, const Dim& b);
Dim max(const Dim& a, const Dim& b);
Dim step(const Dim& a);
Dim broadcast(const Dim& a, const Dim& b);

// product / factor where that is exact by structure; none otherwise. The quotient of Reshape's -1: at values where the
// factor is 0 it keeps its structural value.
std::optional<Dim> cancel(const Dim& product, const Dim& factor);

// "2*B*H + 3", "H/2" for floordiv; symbols by name.
std::string to_string(const Dim& d, const SymbolTable& symbols);

// Looks up (or makes) a symbol by name while parsing.
class SymbolResolver {
 public:
  template <typename F>
  requires(!std::is_same_v<std::remove_cvref_t<F>, SymbolResolver>) SymbolResolver(F& f)
      : object_(&f), call_([](void* o, std::string_view n) { return (*static_cast<F*>(o))(n); }) {}
  template <typename F>
  requires(!std::is_same_v<std::remove_cvref_t<F>, SymbolResolver>) SymbolResolver(F&& f) : SymbolResolver(f) {}
  SymbolId operator()(std::string_view name) const { return call_(object_, name); }

 private:
  void* object_;
  SymbolId (*call_)(void*, std::string_view);
};
Dim parse_dim(std::string_view text, size_t& position, SymbolResolver resolve);

}  // namespace sinter
