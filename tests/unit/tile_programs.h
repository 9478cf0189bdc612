// Tile programs written by hand, and scratch to run them in: for the tests of tile programs and their benchmark.
//
// A register is the number of the instruction that makes it; loads and stores add operands and results in order.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdlib>

#include "backend/tile/program.h"

namespace sinter::cpu {

// Writes programs down.
class Writer {
 public:
  TileProgram program;
  uint16_t load(Spread spread, DType dtype = DType::f32, bool integer = false) {
    program.operands.push_back({dtype, spread});
    TileInstruction i{.kind = TileInstruction::Kind::load};
    i.index = static_cast<uint16_t>(program.operands.size() - 1);
    i.dtype = dtype;
    i.integer = integer;
    i.wide = dtype == DType::f64;
    return add(i);
  }
  uint16_t constant(double value) {
    TileInstruction i{.kind = TileInstruction::Kind::constant};
    i.value = value;
    return add(i);
  }
  uint16_t compute(ScalarOp op, uint16_t a, uint16_t b = 0, uint16_t c = 0) {
    TileInstruction i{.kind = TileInstruction::Kind::compute, .op = op, .a = a, .b = b, .c = c};
    i.integer = program.code[a].integer;
    i.wide = program.code[a].wide;
    return add(i);
  }
  uint16_t convert(uint16_t a, DType to) {
    TileInstruction i{.kind = TileInstruction::Kind::convert, .a = a};
    i.dtype = to;
    i.integer = is_integer(to);
    i.wide = to == DType::f64;
    return add(i);
  }
  uint16_t reduce(ScalarOp op, uint16_t a, bool mean = false) {
    TileInstruction i{.kind = TileInstruction::Kind::reduce, .op = op, .a = a};
    i.mean = mean;
    i.integer = program.code[a].integer;
    i.wide = program.code[a].wide;
    return add(i);
  }
  void store(uint16_t a, Spread spread = Spread::full, DType dtype = DType::f32) {
    program.results.push_back({dtype, spread});
    TileInstruction i{.kind = TileInstruction::Kind::store, .a = a};
    i.index = static_cast<uint16_t>(program.results.size() - 1);
    i.dtype = dtype;
    add(i);
  }

 private:
  uint16_t add(const TileInstruction& i) {
    program.code.push_back(i);
    return static_cast<uint16_t>(program.code.size() - 1);
  }
};

struct Scratch {
  explicit Scratch(int64_t bytes)
      : data(static_cast<std::byte*>(std::aligned_alloc(64, static_cast<size_t>((bytes + 127) / 64 * 64)))) {}
  ~Scratch() { std::free(data); }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;
  std::byte* data;
};

}  // namespace sinter::cpu
