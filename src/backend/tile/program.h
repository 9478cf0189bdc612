// Tile program: straight-line scalar code over a block of a two-dimensional iteration space [rows, cols], with row
// reductions. It is what pointwise and row stages become inside a kernel.
//
// A register holds reals (f32, or f64 where its dtype says so) or integers (64 bits, wrapping). Operand k of the
// program is read by `load` instructions and results are written by `store`. Truth is 0 or 1 in registers of any kind.
// A reduction turns a register of one value per element into one of one value per row; such registers are read back as
// broadcast. The executor of the portable level is the reference of every other executor.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "ops/scalar.h"
#include "tensor/dtype.h"

namespace sinter {

// How an operand lies over [rows, cols].
enum class Spread : uint8_t { full, column, row, scalar };  // column: one value per column; row: one value per row

struct TileInstruction {
  enum class Kind : uint8_t {
    load,      // operand `index`, converted to the register's kind
    constant,  // value
    compute,   // op on a, b, c, all of this register's kind
    convert,   // register a, of any kind, rounded to dtype as Cast does, held in this register's kind
    reduce,    // op add, max, min or mul over the row of register a; with mean: divided by the row's length
    store,     // register a to result `index`
  } kind = Kind::compute;
  ScalarOp op = ScalarOp::add;
  uint16_t a = 0, b = 0, c = 0;  // registers: numbers of earlier instructions
  uint16_t index = 0;
  double value = 0;
  bool integer = false;      // the register holds integers
  bool is_unsigned = false;  // of integer computations, and of an integer register that convert reads
  bool mean = false;         // of reduce
  // load, store: what memory holds; convert: what is rounded to; integer compute: the width.
  DType dtype = DType::f32;
  bool wide = false;  // a real register of f64
};

struct TileOperand {
  DType dtype = DType::f32;
  Spread spread = Spread::full;
};

struct TileProgram {
  std::vector<TileOperand> operands;
  std::vector<TileOperand> results;  // spread full or row
  std::vector<TileInstruction> code;
  bool has_reductions() const;
  std::string to_text() const;  // one line an instruction, for reports
};

}  // namespace sinter
