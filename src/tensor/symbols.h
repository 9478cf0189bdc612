// Symbols: the names for extents that are not known when a model is compiled, what is known of them, and proofs.
//
// A symbol is identified by where it is bound. Bounds and facts live here and not in Dim, so one expression may be
// judged under different knowledge. prove may answer "unknown"; it never answers wrongly.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "tensor/dim.h"

namespace sinter {

struct Symbol {
  enum class Bound : uint8_t {
    input,           // an extent of a graph input
    host_element,    // decided by the contents of a host operand
    run,             // found out by running an operator
    trip_count,      // iterations of a loop
    body_parameter,  // an extent of a body's parameter, bound each time the body runs
    exit,            // an extent that an If or Loop leaves open, bound when it is left
  };
  std::string name;  // unique in its table
  Bound bound = Bound::input;
  int64_t low = 0;
  std::optional<Dim> high = {};  // none: no bound
  int64_t likely = 64;           // where kernels are compared; may lie outside the bounds
};

// That value within the bounds.
int64_t likely_value(const Symbol& symbol);

class SymbolTable {
 public:
  SymbolId add(Symbol symbol);  // a name already taken gets a numbered suffix
  const Symbol& operator[](SymbolId id) const { return symbols_[id]; }
  Symbol& at(SymbolId id) { return symbols_[id]; }  // its name stays
  size_t size() const { return symbols_.size(); }
  std::optional<SymbolId> find(std::string_view name) const;

 private:
  std::vector<Symbol> symbols_;
  std::map<std::string, SymbolId, std::less<>> by_name_;
};

struct Fact {
  enum class Kind : uint8_t { equal, at_least, divides } kind;  // left = right, left >= right, left divides right
  Dim left, right;
  std::string reason;  // what needs it, for messages
};

struct Interval {
  std::optional<int64_t> low, high;  // none: unbounded
};

// Bounds of an expression from those of its symbols.
Interval bounds(const SymbolTable& symbols, const Dim& d);

enum class Proof : uint8_t { yes, no, unknown };
Proof prove(const SymbolTable& symbols, const Fact& fact);

}  // namespace sinter
