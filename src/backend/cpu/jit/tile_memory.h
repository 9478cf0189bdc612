// Loads and stores of memory's types as f32 in emitted code, whole vectors, parts of vectors and single elements;
// conversions as in isa/tile_memory.inc. Private to the files of this folder that include asmjit.
#pragma once

#include "backend/cpu/jit/assembly.h"
#include "tensor/dtype.h"

namespace sinter::cpu::jit {

bool can_load(DType dtype);
bool can_store(DType dtype);
// Integers that registers of 32 bits hold and that become f32 in one instruction.
bool can_be_words(DType dtype);

class TileMemoryCode {
 public:
  explicit TileMemoryCode(Assembly& s) : s_(s) {}
  Vec load(DType dtype, const x86::Mem& at, const Tail* tail);
  void store(DType dtype, x86::Mem at, const Vec& v, const Tail* tail);
  void store_pair(const x86::Mem& at, const Vec& first, const Vec& second);  // as bf16, by instructions that narrow
  Vec load_one(DType dtype, const x86::Mem& at);                             // in every lane
  void store_one(DType dtype, const x86::Mem& at, const Vec& v);
  // Integers as they are; `width` bytes of each are stored.
  Vec load_words(DType dtype, x86::Mem at, const Tail* tail);
  void store_words(int width, x86::Mem at, const Vec& words, const Tail* tail);
  Vec load_one_word(DType dtype, x86::Mem at);
  void store_one_word(int width, const x86::Mem& at, const Vec& words);
  Vec rounded_to(DType dtype, const Vec& v);  // f16, bf16

 private:
  x86::Mem stack();
  void copy_elements(const x86::Mem& to, const x86::Mem& from, int width, const x86::Gp& n);
  Vec truth_of_words(const Vec& words);
  Vec truth_words(const Vec& v);
  x86::Ymm bf16_halves(const Vec& v);  // where the instruction set narrows
  Vec bf16_words(const Vec& v);

  Assembly& s_;
  x86::Mem stack_;
  bool has_stack_ = false;
};

}  // namespace sinter::cpu::jit
