// The inside of a tile executor: steps in the order in which they run, and where each value lives.
//
// Values of a program are of four spreads. Scalars and values per column are computed once a call; values per row once
// a block of rows; full values in tiles that fit the first-level cache. Reductions cut the steps into passes over the
// row; full values that a later pass reads are kept for the whole row. Built by tile_plan.cpp, run by
// tile_executor.cpp.
#pragma once

#include <vector>

#include "backend/cpu/isa/tile.h"
#include "backend/cpu/jit/tile_code.h"
#include "backend/cpu/tile_executor.h"

namespace sinter::cpu {

enum class Home : uint8_t {
  constant,  // TileExecutor::constants
  scalar,    // one element of scratch
  column,    // a buffer for the row's columns
  row,       // a buffer for the block's rows
  operand,   // where the operand lies: no copy
  slot,      // a tile, shared by values that do not live at the same time
  kept,      // a tile as long as the row
};

struct TileValue {
  Lane lane = Lane::f32;
  Spread spread = Spread::full;
  Home home = Home::slot;
  uint16_t number = 0;    // within its home; the operand's of operands
  int16_t result = -1;    // result that the value may be computed into
  bool in_place = false;  // ... even when that result is an operand's buffer
  uint16_t spare = 0;     // of operands: number of the tile that takes copies of columns that lie apart
};

// Arguments of a step: a to e, as far as `reads` has their bits.
struct TileStep {
  enum class Kind : uint8_t {
    loop,    // loop(out, a), then `then` on out
    binary,  // forms by which argument is one per row
    select,
    pair,      // op1, op2 of TileTable::pair
    function,  // loop of TileTable::function
    norm,      // op1 of TileTable::norm
    fold,      // out per row
    fold_product,
    fold_centred,
    load,         // from operand `index`
    store,        // a into result `index`
    spread,       // out = a, element by element
    element,      // compute by the operator's definition
    round,        // convert to dtype by its definition
    load_narrow,  // fp8
    store_narrow,
  } kind = Kind::loop;
  uint8_t reads = 0;
  uint16_t out = 0;
  uint16_t read[5] = {0, 0, 0, 0, 0};  // values a to e
  uint16_t index = 0;
  uint16_t pass = 0;  // in which it runs
  TileLoop loop = nullptr, then = nullptr;
  const TileLoop* forms = nullptr;
  uint8_t op1 = 0, op2 = 0;
  TileBefore before = before_none;  // of functions, with the next two
  TileBehind behind = behind_none;
  bool adds = false;
  ScalarOp op = ScalarOp::add;
  DType dtype = DType::f32;
  bool is_unsigned = false, mean = false;
  TileFold fold = TileFold::add;

  bool is_load() const { return kind == Kind::load || kind == Kind::load_narrow; }
  bool is_store() const { return kind == Kind::store || kind == Kind::store_narrow; }
  bool is_fold() const { return kind == Kind::fold || kind == Kind::fold_product || kind == Kind::fold_centred; }
  template <typename F>
  void each_read(F f) const {
    for (int k = 0; k < 5; ++k)
      if (reads >> k & 1) f(read[k]);
  }
};

struct TilePass {
  std::vector<TileStep> rows;   // values per row, before the tiles
  std::vector<TileStep> tiles;  // full values
  std::vector<uint16_t> moves;  // full and column values that change their place from tile to tile
  std::vector<uint16_t> folds;  // numbers of the fold steps among `tiles`
};

class TileExecutor {
 public:
  const TileTable* table = nullptr;
  std::vector<TileOperand> operands, results;
  std::vector<TileValue> values;
  std::vector<TileStep> scalars, columns;
  std::vector<TilePass> passes;
  std::vector<int64_t> constants;       // bits of a register each
  std::vector<uint16_t> column_values;  // that tiles read, wherever they live
  std::vector<uint16_t> row_values;     // that tiles read
  uint16_t scalar_count = 0, column_count = 0, row_count = 0, slot_count = 0, kept_count = 0, spare_count = 0;
  int64_t width = 4;  // bytes of the widest register
  int64_t tile = 0;   // elements of a tile
  bool reduces = false;
  std::shared_ptr<const jit::TileCode> code;  // null: not compiled
  std::vector<uint16_t> dense_columns;        // buffers that code takes with columns side by side only
  bool flattens = false;                      // nothing tells rows apart
  int32_t ahead = -1;  // full operand value that steps with time to spare fetch for the next tile
};

// Joins steps into loops that do several of them. Steps that nothing needs any more vanish.
void join_steps(const TileExecutor& executor, std::vector<TileStep>& steps);

// Whether memory holds a register's bits.
inline bool same_bits(Lane lane, DType dtype) {
  return (lane == Lane::f32 && dtype == DType::f32) || (lane == Lane::f64 && dtype == DType::f64) ||
         (lane == Lane::i64 && (dtype == DType::i64 || dtype == DType::u64));
}

// Whether a value is read as one per row (or one at all) where values of this spread are computed.
inline bool splats(const TileValue& v, Spread where) {
  return v.spread != where && (v.spread == Spread::scalar || v.spread == Spread::row);
}

inline int64_t lane_bytes(Lane lane) { return lane == Lane::f32 ? 4 : 8; }

// Memory of a dtype that loops know, else `none` (fp8).
TileMemory tile_memory(DType dtype);

}  // namespace sinter::cpu
