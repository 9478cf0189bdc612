#include "backend/tile/program.h"

#include <fmt/core.h>

#include <algorithm>

#include "base/scanner.h"

namespace sinter {
namespace {

const char* register_kind(const TileInstruction& i) { return i.integer ? "int" : i.wide ? "f64" : "f32"; }

const char* spread_name(Spread spread) {
  switch (spread) {
    case Spread::full: return "full";
    case Spread::column: return "column";
    case Spread::row: return "row";
    case Spread::scalar: return "scalar";
  }
  return "";
}

std::string arguments(const TileInstruction& i) {
  std::string out = fmt::format("%{}", i.a);
  if (scalar_arity(i.op) > 1) out += fmt::format(", %{}", i.b);
  if (scalar_arity(i.op) > 2) out += fmt::format(", %{}", i.c);
  return out;
}

}  // namespace

bool TileProgram::has_reductions() const {
  return std::any_of(code.begin(), code.end(),
                     [](const TileInstruction& i) { return i.kind == TileInstruction::Kind::reduce; });
}

std::string TileProgram::to_text() const {
  std::string out;
  for (size_t n = 0; n < code.size(); ++n) {
    const TileInstruction& i = code[n];
    if (i.kind != TileInstruction::Kind::store) out += fmt::format("%{} {} = ", n, register_kind(i));
    switch (i.kind) {
      case TileInstruction::Kind::load:
        out += fmt::format("load {} {} {}", i.index, dtype_name(i.dtype), spread_name(operands[i.index].spread));
        break;
      case TileInstruction::Kind::constant: out += number_text(i.value); break;
      case TileInstruction::Kind::compute: out += fmt::format("{} {}", scalar_op_name(i.op), arguments(i)); break;
      case TileInstruction::Kind::convert: out += fmt::format("convert {} %{}", dtype_name(i.dtype), i.a); break;
      case TileInstruction::Kind::reduce:
        out += fmt::format("reduce {} %{}", i.mean ? "mean" : scalar_op_name(i.op), i.a);
        break;
      case TileInstruction::Kind::store:
        out +=
            fmt::format("store {} {} {} %{}", i.index, dtype_name(i.dtype), spread_name(results[i.index].spread), i.a);
        break;
    }
    out += "\n";
  }
  return out;
}

}  // namespace sinter
