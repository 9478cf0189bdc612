// The text of one line: literals and calls, shared by graphs, problems and plans.
//
//   Conv{pads=[1, 1, 1, 1]}(%x, %w, %b)      Slice(%x, [1], [S - 1], [0])      Resize(%x, _, f32[4](1, 1, 2, 2))
// Operands are written by the caller; an absent one is `_`; known small contents stand inline: a rank-1 i64 value as
// "[1, S - 1]", others as "f32[2](0.5, 1)". In graphs, constants of more than 64 elements print as "f32[64, 3](...)",
// which does not parse unless the caller resolves it.
#pragma once

#include <string>
#include <vector>

#include "ops/op.h"

namespace sinter {

constexpr int64_t max_printed = 64;
// With more than `limit` elements it is "f32[64, 3](...)": what must read back gives none.
std::string literal_text(const Type& type, const Contents& contents, const SymbolTable& symbols,
                         int64_t limit = max_printed);
// Whether a literal comes next (and not %name or _).
bool at_literal(Scanner& scanner);
struct Literal {
  Type type;
  Contents contents;
};
Literal parse_literal(Scanner& scanner, SymbolTable& symbols, bool add_symbols);

// "Name{attributes}" ; all: every attribute is written.
std::string call_text(const Op& op, const Attrs& attrs, bool all = false);
struct Call {
  const Op* op;
  Attrs attrs;
};
// Throws Error(Code::invalid_argument) for an unknown operator or attribute.
Call parse_call(Scanner& scanner);

}  // namespace sinter
