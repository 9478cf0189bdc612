// Tile programs as machine code: one function per planned program, a loop over the vectors of a row with every value
// in a register.
//
// What compile_tiles does not take (null: kinds of registers, dtypes, operators without vectors, machines or builds
// without executable memory) the interpreter of tile_executor.cpp runs; both give the same bits, but for rows with
// reductions that are longer than the interpreter's tile. asmjit stays behind this header.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

#include "backend/cpu/jit/machine_code.h"
#include "backend/cpu/tile_executor.h"

namespace sinter::cpu::jit {

// One call: rows [row, row + rows) of columns [0, cols), every full or column buffer dense along its columns.
struct TileCall {
  const TileBuffer* buffers;
  int64_t row, rows, cols;
  std::byte* scratch;  // code.parts times part bytes
  int64_t part;        // bytes that hold cols elements
};

struct TileCode {
  std::shared_ptr<const MachineCode> memory;
  void (*run)(const TileCall*) = nullptr;
  int parts = 0;  // rows that the function keeps in scratch
};

// level: cpu::Level. Null if the program is not taken.
std::shared_ptr<const TileCode> compile_tiles(const TileExecutor& executor, uint8_t level);

}  // namespace sinter::cpu::jit
