// Runs tile programs on the CPU: as machine code made for the program (jit/), or by an interpreter whose loops exist
// once per instruction set.
//
// An executor is a program made ready once per engine: registers allocated to cache-sized tiles, passes over rows
// planned, loops of the level chosen, code made where the program and the machine allow it. Results do not depend on
// how rows are split into calls. Polynomials for exp, log, tanh, erf and the like state their error bounds in
// isa/tile_math.inc. Reals are computed in f32 (f64 where the program says so), integers in 64 bits; operators without
// a loop of their own go element by element by their definition.
#pragma once

#include <memory>
#include <span>

#include "backend/cpu/isa/tile.h"
#include "backend/tile/program.h"

namespace sinter::cpu {

// Where one operand or result lies: element (r, c) at data + r * row_stride + c * col_stride, strides in elements;
// those that the operand's spread does not have are ignored.
struct TileBuffer {
  void* data = nullptr;
  int64_t row_stride = 0, col_stride = 1;
};

// The loops of a level; levels that this build does not have give those of the portable one.
const TileTable& tile_table(uint8_t level);

class TileExecutor;
enum class TileMode : uint8_t { automatic, interpreted };
// level: cpu::Level. Throws Error(Code::unsupported) for dtypes that programs do not take (stages.h asks first).
// Equal programs share one executor. SINTER_JIT=0 in the environment leaves out compiled code.
std::shared_ptr<const TileExecutor> make_executor(const TileProgram& program, uint8_t level,
                                                  TileMode mode = TileMode::automatic);
// Whether it runs as machine code (where buffers lie as that takes them).
bool is_compiled(const TileExecutor& executor);

// Bytes of scratch for rows of at most `cols` elements; 64-byte aligned and private to the thread.
int64_t tile_scratch(const TileExecutor& executor, int64_t cols);
// Rows may begin at multiples of `first` and end at multiples of `last` of their columns: if what is left out is
// neutral to every reduction, results have the same bits.
struct TileUnits {
  int64_t first, last;
};
TileUnits tile_units(const TileExecutor& executor, std::span<const TileBuffer> buffers);
// Runs rows [row_begin, row_end) of columns [0, cols): buffers by operand, then by result. A result may be exactly an
// operand's buffer (in place). Programs with reductions see whole rows; rows of no elements give reductions their
// neutral values.
void run_tile(const TileExecutor& executor, std::span<const TileBuffer> buffers, int64_t row_begin, int64_t row_end,
              int64_t cols, void* scratch);

}  // namespace sinter::cpu
