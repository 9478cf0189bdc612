// The values of a tile program in emitted code: where they come from, and the steps that make them of each other.
//
// A pack of vectors is emitted at a time: rows_ rows of some columns each. Values per element are held while their pack
// is emitted, those per row while the row is, scalars for the whole function. What loops over packs is left to
// tile_compiler.cpp.
#pragma once

#include <bit>
#include <limits>
#include <optional>
#include <vector>

#include "backend/cpu/jit/tile_memory.h"
#include "backend/cpu/tile_plan.h"

namespace sinter::cpu::jit {

inline int width_of(DType dtype) { return bit_size(dtype) / 8; }
inline unsigned shift_of(DType dtype) {
  return static_cast<unsigned>(std::countr_zero(static_cast<unsigned>(width_of(dtype))));
}

class TileSteps {
 public:
  TileSteps(const TileExecutor& e, bool wide, bool narrows);

 protected:
  // Where the values of a step are computed, as in the interpreter.
  using Where = Spread;

  // A divisor that is one number for many: its reciprocal, and whether dividing by it may use that.
  struct Divisor {
    Pack inverse;
    x86::Gp well[2];             // by row, nonzero: it may
    x86::Gp all;                 // ... of every row
    std::optional<bool> always;  // known now
  };

  struct Place {
    x86::Gp at, next;  // of the first row and the second
    x86::Gp row;       // bytes from row to row
    x86::Gp ahead[2];
    bool moves = false;
    const x86::Gp& of(int r) const { return r == 0 ? at : next; }
  };

  // ---- what is being emitted ----

  // The pack that is being emitted: rows_ rows of vectors [first_, first_ + columns()).
  int columns() const { return pack_ / rows_; }
  x86::Mem element(const x86::Gp& base, DType dtype, int column) const {
    return x86::ptr(base, i_, shift_of(dtype), (first_ + column) * s_.lanes * width_of(dtype));
  }
  void leave_vector();  // forgets what was held for the pack
  void hold(uint16_t v, const Pack& value);
  Pack value(uint16_t v);  // held, or loaded
  void run_step(const TileStep& step, Where where);
  // Makes divisors of steps ready that are one number for many, outside of the loops that divide: scalars, and at
  // Where::row those per row.
  void prepare_divisors(const std::vector<TileStep>& steps, Where level);

  const Place& result(uint16_t n) const { return places_[e_.operands.size() + n]; }

  const TileExecutor& e_;
  Assembly s_;
  x86::Compiler& cc_;
  TileMemoryCode memory_;
  x86::Gp i_;  // column
  // What is being emitted: vectors [first, first + pack) of an iteration.
  int first_ = 0, pack_ = 1, rows_ = 1;
  bool pairs_ = false;  // two rows at a time
  const Tail* tails_ = nullptr;
  bool prefetch_ = false;
  std::vector<Place> places_;   // operands, then results
  std::vector<x86::Gp> parts_;  // of scratch: columns, then kept values
  std::vector<Pack> held_;      // by value; none where it is not in a register
  std::vector<std::optional<Cond>> conditions_;
  std::vector<std::optional<Divisor>> divisors_;
  // Between which its numbers are, as far as it is known; NaN may be among them.
  struct Bounds {
    float low = -std::numeric_limits<float>::infinity(), high = std::numeric_limits<float>::infinity();
  };
  std::vector<Bounds> bounds_;
  std::vector<const TileStep*> loads_;  // of columns
  std::vector<uint16_t> in_vector_;     // values of the vector that is being emitted

 private:
  Pack for_pack(const Pack& p) const;
  const Tail* tail(int column) const { return tails_ ? tails_ + column : nullptr; }
  Vec load_at(const x86::Gp& base, DType dtype, Lane lane, int column);
  void keep(const TileValue& v, const Pack& value);
  const x86::Gp& kept(const TileValue& v, int r) const;
  float constant(uint16_t v) const;
  bool is_constant(uint16_t v) const { return e_.values[v].home == Home::constant; }
  Divisor divisor(uint16_t v);
  Pack quick_quotient(const Pack& x, const Pack& b, const Pack& inverse);
  Pack divide(const Pack& a, uint16_t by, Where where);
  void load(const TileStep& step, Where where);
  void store(const TileStep& step, Where where);
  void note_bounds(const TileStep& step);
  bool is_only_stored(uint16_t v, int bits) const;
  bool is_bounded(uint16_t v) const;  // by numbers of 32 bits
  Pack compute(const TileStep& step, Where where);
  Pack convert(const TileStep& step, const Pack& a);
  Pack rounded(DType dtype, const Pack& a);
  Pack unary(ScalarOp op, const Pack& a, uint16_t out);
  Pack truth(uint16_t out, const Cond& c);
  Cond truth_of(uint16_t v);
  Pack binary(const TileStep& step, Where where);
  Pack extreme(InstId id, const Pack& a, const Pack& b, const uint16_t* one);
  Pack pair(const TileStep& step, Where where);
  Pack function(const TileStep& step);
};

}  // namespace sinter::cpu::jit
