// Vectors of f32 in emitted code: what an instruction set's loops do with intrinsics, this does with asmjit.
//
// One spelling for AVX2 and AVX-512. Values are virtual registers that asmjit's compiler places and spills; operands
// that are numbers stand in a pool behind the code. Functions return new registers and never change their arguments.
// Private to the files of this folder that include asmjit.
#pragma once

#if defined(__clang__)
#pragma clang diagnostic push
#pragma clang diagnostic ignored "-Wconversion"
#endif
#include <asmjit/x86.h>
#if defined(__clang__)
#pragma clang diagnostic pop
#endif

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

namespace sinter::cpu::jit {

namespace x86 = asmjit::x86;
using Vec = x86::Vec;
namespace Inst = x86::Inst;
using InstId = asmjit::InstId;
using Operand = asmjit::Operand;

// The same value of one to four neighbouring vectors: instructions on packs are emitted for each in turn, so that the
// processor finds independent work within its reach. A pack of one stands for all vectors alike (numbers, values per
// row).
struct Pack {
  static constexpr int most = 4;
  Vec v[most];
  x86::Mem place;  // of a number: in the pool
  int n = 0;
  bool in_pool = false;

  Pack() = default;
  Pack(const Vec& one) : n(1) { v[0] = one; }
  Pack(const x86::Mem& number) : place(number), n(1), in_pool(true) {}
  bool is_none() const { return n == 0; }
  bool is_number() const { return in_pool; }
  const Vec& reg(int u) const { return v[n == 1 ? 0 : u]; }
  const Operand& at(int u) const { return is_number() ? static_cast<const Operand&>(place) : reg(u); }
  void push(const Vec& next) { v[n++] = next; }
};

// What comparisons give: mask registers of AVX-512, all bits of each lane of AVX2.
struct Cond {
  x86::KReg k[Pack::most];
  Vec v[Pack::most];
  int n = 0;
  int at(int u) const { return n == 1 ? 0 : u; }
};

// The part of a vector at the end of a row.
struct Tail {
  Cond mask;
  x86::Gp count;  // elements, at most as many as lanes; AVX2 only
};

enum class Compare : uint8_t {
  equal = 0,
  less = 1,
  less_equal = 2,
  nan = 3,
  not_equal = 4,
  not_nan = 7,
  not_less = 21,
  greater = 30
};

class Assembly : public asmjit::ErrorHandler {
 public:
  Assembly(bool wide, bool narrows);
  Assembly(const Assembly&) = delete;
  Assembly& operator=(const Assembly&) = delete;

  const bool wide;     // AVX-512
  const bool narrows;  // and its conversions to bf16, which take denormals for zero
  const int lanes;
  asmjit::CodeHolder code;
  x86::Compiler cc;

  // ---- registers and numbers ----
  Vec vec() { return wide ? Vec(cc.newZmm()) : Vec(cc.newYmm()); }
  x86::Gp gp() { return cc.newInt64(); }
  Pack number(float value);
  Pack word(uint32_t bits);
  Pack in_register(const Pack& a);      // loads numbers
  Pack copy(const Pack& a, int n = 1);  // registers of its own, n or more
  // From here on numbers stay in registers, as many as this, loaded where hoist_here was called.
  void hoist_here() { hoist_at_ = cc.cursor(); }
  void hoist(int most) { hoists_ = most; }

  // ---- arithmetic ----
  Pack op(InstId id, const Pack& a, const Pack& b);
  Pack add(const Pack& a, const Pack& b) { return commute(Inst::kIdVaddps, a, b); }
  Pack sub(const Pack& a, const Pack& b) { return op(Inst::kIdVsubps, a, b); }
  Pack mul(const Pack& a, const Pack& b) { return commute(Inst::kIdVmulps, a, b); }
  Pack div(const Pack& a, const Pack& b) { return op(Inst::kIdVdivps, a, b); }
  // b where either is NaN or both are zeros.
  Pack smaller(const Pack& a, const Pack& b) { return op(Inst::kIdVminps, a, b); }
  Pack larger(const Pack& a, const Pack& b) { return op(Inst::kIdVmaxps, a, b); }
  Pack bit_and(const Pack& a, const Pack& b) { return commute(Inst::kIdVandps, a, b); }
  Pack bit_or(const Pack& a, const Pack& b) { return commute(Inst::kIdVorps, a, b); }
  Pack bit_xor(const Pack& a, const Pack& b) { return commute(Inst::kIdVxorps, a, b); }
  Pack add_words(const Pack& a, const Pack& b) { return commute(Inst::kIdVpaddd, a, b); }
  Pack sub_words(const Pack& a, const Pack& b) { return op(Inst::kIdVpsubd, a, b); }
  Pack shift_left(const Pack& a, int by) { return shift(Inst::kIdVpslld, a, by); }
  Pack shift_right(const Pack& a, int by) { return shift(Inst::kIdVpsrld, a, by); }
  Pack shift_signed(const Pack& a, int by) { return shift(Inst::kIdVpsrad, a, by); }
  Pack to_real(const Pack& words) { return one(Inst::kIdVcvtdq2ps, words); }
  Pack root(const Pack& a) { return one(Inst::kIdVsqrtps, a); }
  Pack rounded(const Pack& a, int mode);  // 0 even, 1 down, 2 up, 3 towards zero
  // a * b + c, a * b - c, c - a * b in one rounding.
  Pack fused(const Pack& a, const Pack& b, const Pack& c) { return fuse(Inst::kIdVfmadd213ps, a, b, c); }
  Pack fused_minus(const Pack& a, const Pack& b, const Pack& c) { return fuse(Inst::kIdVfmsub213ps, a, b, c); }
  Pack fused_from(const Pack& a, const Pack& b, const Pack& c) { return fuse(Inst::kIdVfnmadd213ps, a, b, c); }
  void accumulate(const Pack& sum, const Pack& a, const Pack& b);     // sum += a * b, in place
  void overwrite_fused(const Pack& a, const Pack& b, const Pack& c);  // a = a * b + c, in place
  Pack polynomial(const Pack& x, std::span<const float> terms);
  Pack absolute(const Pack& a) { return bit_and(a, word(0x7fffffffu)); }
  // a / b to the last bit, for b between 1/2 and 2^20 and quotients that are normal numbers, zero or NaN.
  Pack quotient(const Pack& a, const Pack& b);
  // table[low five bits of index] with AVX-512, of the low three bits with AVX2.
  Pack from_table(const float (&table)[32], const Pack& index);
  Pack from_table(const unsigned (&table)[8], const Pack& index);

  // Towards zero, the low 32 bits of what isa/tile_memory.inc makes 64 of; NaN is 0.
  Pack truncated(const Pack& a);
  Pack truncated_near(const Pack& a) { return one(Inst::kIdVcvttps2dq, a); }  // within 32 bits; NaN is -2^31
  Pack wrapped(const Pack& words, int bits, bool is_signed);

  // ---- conditions ----
  Cond compare(const Pack& a, Compare how, const Pack& b, const Cond* within = nullptr);
  Pack pick(const Cond& c, const Pack& yes, const Pack& no);
  Pack where(const Cond& c, const Pack& a);                        // else 0; AVX2 only
  void overwrite(const Pack& to, const Cond& c, const Pack& yes);  // to = pick(c, yes, to)
  Pack truth(const Cond& c);
  Cond both(const Cond& a, const Cond& b) { return logic(Inst::kIdKandw, Inst::kIdVandps, a, b); }
  Cond either(const Cond& a, const Cond& b) { return logic(Inst::kIdKorw, Inst::kIdVorps, a, b); }
  Cond differ(const Cond& a, const Cond& b) { return logic(Inst::kIdKxorw, Inst::kIdVxorps, a, b); }
  void test(const Cond& c);  // of one vector: the zero flag says that it holds nowhere
  Cond never();
  void join(const Cond& all, const Cond& c);  // all (of one vector) = all or c, in place

  // Lanes of the u-th vector from here, of `left` elements, below 128; u of 0 or 1.
  Tail tail(const x86::Gp& left, int u);

  // ---- memory; mask: lanes that are there, or null ----
  Vec load(const x86::Mem& at, const Cond* mask);
  void store(const x86::Mem& at, const Vec& v, const Cond* mask);
  Vec splat(const x86::Mem& at);

  // ---- elementary functions, as in isa/tile_math.inc ----
  Pack exp_within(const Pack& x);  // from exp_low to exp_high
  Pack exp(const Pack& x);
  Pack expm1(const Pack& x);
  Pack log(const Pack& x);
  Pack log1p(const Pack& x);
  Pack sigmoid(const Pack& x);
  Pack tanh(const Pack& x);
  Pack erf(const Pack& x);
  Pack sign(const Pack& x);
  // The operator on all lanes of v; halves are folded onto each other. The result in every lane.
  Vec across(InstId id, const Vec& v);

  // Code that is rarely reached, emitted at the end of the function.
  void later(std::function<void()> emit) { later_.push_back(std::move(emit)); }
  void emit_later();
  // Behind the function: the numbers.
  void emit_pool();

  bool failed() const { return failed_; }
  void handleError(asmjit::Error, const char*, asmjit::BaseEmitter*) override { failed_ = true; }

 private:
  Pack one(InstId id, const Pack& a);
  Pack near_inverse(const Pack& b);
  Pack near_inverse(const Pack& b, const Cond& where);  // elsewhere 0
  Cond equal_words(const Pack& a, const Pack& b);
  Pack shift(InstId id, const Pack& a, int by);
  Pack commute(InstId id, const Pack& a, const Pack& b) { return a.is_number() ? op(id, b, a) : op(id, a, b); }
  Pack fuse(InstId id, const Pack& a, const Pack& b, const Pack& c);
  Cond logic(InstId k, InstId v, const Cond& a, const Cond& b);
  Pack clamped(const Pack& x, float bound);
  struct Reduced {
    Pack r, t, n;
  };
  Reduced reduce_ln2(const Pack& x);
  Pack scaled(const Pack& v, const Reduced& by);
  Pack scaled_where(const Cond& c, const Pack& v, const Reduced& by);  // 0 elsewhere; AVX-512
  Pack exp_fraction(const Reduced& reduced);
  x86::Mem in_pool(uint32_t bits);

  bool failed_ = false;
  asmjit::Label pool_label_, mask_label_;
  std::vector<uint32_t> pool_;
  struct Hoisted {
    uint32_t bits;
    Vec v;
  };
  std::vector<Hoisted> hoisted_;
  struct Table {
    const void* values;
    size_t bytes;
    asmjit::Label label;
  };
  std::vector<Table> tables_;
  asmjit::Label table_label(const void* values, size_t bytes);
  asmjit::BaseNode* hoist_at_ = nullptr;
  int hoists_ = 0;
  bool masks_ = false;
  std::vector<std::function<void()>> later_;
};

}  // namespace sinter::cpu::jit
