#include "backend/cpu/jit/assembly.h"

#include <algorithm>
#include <bit>

namespace sinter::cpu::jit {

Assembly::Assembly(bool wide_, bool narrows_) : wide(wide_), narrows(narrows_), lanes(wide_ ? 16 : 8) {
  code.init(asmjit::Environment::host());
  code.setErrorHandler(this);
  code.attach(&cc);
  pool_label_ = cc.newLabel();
  mask_label_ = cc.newLabel();
}

// ---- registers and numbers ----

x86::Mem Assembly::in_pool(uint32_t bits) {
  size_t n = 0;
  while (n < pool_.size() && pool_[n] != bits) ++n;
  if (n == pool_.size()) pool_.push_back(bits);
  // AVX2 has no operands that are one number for all lanes.
  return x86::ptr(pool_label_, static_cast<int32_t>(n * (wide ? 4 : 32)));
}

Pack Assembly::word(uint32_t bits) {
  for (const Hoisted& h : hoisted_)
    if (h.bits == bits) return h.v;
  const x86::Mem at = in_pool(bits);
  const Pack in_place = wide ? at._1to16() : at;
  if (std::ssize(hoisted_) >= hoists_) return in_place;
  asmjit::BaseNode* here = cc.setCursor(hoist_at_);
  const bool same = here == hoist_at_;
  const Vec v = copy(in_place).reg(0);
  hoist_at_ = cc.cursor();
  if (!same) cc.setCursor(here);
  hoisted_.push_back({bits, v});
  return v;
}

Pack Assembly::number(float value) { return word(std::bit_cast<uint32_t>(value)); }

Pack Assembly::copy(const Pack& a, int n) {
  Pack out;
  for (int u = 0; u < std::max(n, a.n); ++u) {
    const Vec v = vec();
    if (a.is_number()) {
      x86::Mem at = a.place;
      at.resetBroadcast();
      if (wide)
        cc.vbroadcastss(v, at);
      else
        cc.vmovups(v, at);
    } else {
      cc.vmovaps(v, a.reg(u));
    }
    out.push(v);
  }
  return out;
}

asmjit::Label Assembly::table_label(const void* values, size_t bytes) {
  for (const Table& table : tables_)
    if (table.values == values) return table.label;
  tables_.push_back({values, bytes, cc.newLabel()});
  return tables_.back().label;
}

// Not by vpermi2ps, of which this asmjit says that it reads no index.
Pack Assembly::from_table(const float (&table)[32], const Pack& index) {
  const asmjit::Label label = table_label(table, sizeof table);
  Pack out;
  for (int u = 0; u < index.n; ++u) {
    const Vec v = vec();
    cc.vmovaps(v, x86::zmmword_ptr(label));
    cc.emit(Inst::kIdVpermt2ps, v, index.reg(u), x86::zmmword_ptr(label, 64));
    out.push(v);
  }
  return out;
}

Pack Assembly::from_table(const unsigned (&table)[8], const Pack& index) {
  const asmjit::Label label = table_label(table, sizeof table);
  Pack out;
  for (int u = 0; u < index.n; ++u) {
    const Vec v = vec();
    cc.emit(Inst::kIdVpermps, v, index.reg(u), x86::ymmword_ptr(label));
    out.push(v);
  }
  return out;
}

Pack Assembly::in_register(const Pack& a) { return a.is_number() ? copy(a) : a; }

void Assembly::emit_pool() {
  cc.align(asmjit::AlignMode::kData, 64);
  cc.bind(pool_label_);
  std::vector<uint32_t> out;
  for (uint32_t bits : pool_) out.insert(out.end(), wide ? 1 : 8, bits);
  if (!out.empty()) cc.embed(out.data(), out.size() * 4);
  for (const Table& table : tables_) {
    cc.align(asmjit::AlignMode::kData, 64);
    cc.bind(table.label);
    cc.embed(table.values, table.bytes);
  }
  if (!masks_) return;
  cc.bind(mask_label_);
  uint32_t masks[16];
  for (int i = 0; i < 16; ++i) masks[i] = i < 8 ? ~0u : 0u;
  cc.embed(masks, sizeof masks);
}

void Assembly::emit_later() {
  // Numbers from memory: not all of this is reached from where they stand in registers.
  hoisted_.clear();
  hoists_ = 0;
  for (size_t n = 0; n < later_.size(); ++n) later_[n]();
  later_.clear();
}

// ---- arithmetic ----

Pack Assembly::op(InstId id, const Pack& a, const Pack& b) {
  const Pack left = in_register(a);
  Pack out;
  for (int u = 0; u < std::max(a.n, b.n); ++u) {
    const Vec v = vec();
    cc.emit(id, v, left.reg(u), b.at(u));
    out.push(v);
  }
  return out;
}

Pack Assembly::one(InstId id, const Pack& a) {
  Pack out;
  for (int u = 0; u < a.n; ++u) {
    const Vec v = vec();
    cc.emit(id, v, a.at(u));
    out.push(v);
  }
  return out;
}

Pack Assembly::shift(InstId id, const Pack& a, int by) {
  Pack out;
  for (int u = 0; u < a.n; ++u) {
    const Vec v = vec();
    cc.emit(id, v, a.at(u), asmjit::Imm(by));
    out.push(v);
  }
  return out;
}

Pack Assembly::rounded(const Pack& a, int mode) {
  return shift(wide ? Inst::kIdVrndscaleps : Inst::kIdVroundps, a, mode | 8);
}

Pack Assembly::fuse(InstId id, const Pack& a, const Pack& b, const Pack& c) {
  const Pack out = copy(a, std::max(b.n, c.n)), middle = in_register(b);
  for (int u = 0; u < out.n; ++u) cc.emit(id, out.reg(u), middle.reg(u), c.at(u));
  return out;
}

void Assembly::accumulate(const Pack& sum, const Pack& a, const Pack& b) {
  const Pack left = in_register(a);
  for (int u = 0; u < sum.n; ++u) cc.emit(Inst::kIdVfmadd231ps, sum.reg(u), left.reg(u), b.at(u));
}

void Assembly::overwrite_fused(const Pack& a, const Pack& b, const Pack& c) {
  for (int u = 0; u < a.n; ++u) cc.emit(Inst::kIdVfmadd213ps, a.reg(u), b.reg(u), c.at(u));
}

Pack Assembly::polynomial(const Pack& x, std::span<const float> terms) {
  Pack out;
  // The first step from the two highest terms, which it does not overwrite.
  out = copy(number(terms[0]), x.n);
  for (size_t n = 1; n < terms.size(); ++n) overwrite_fused(out, x, number(terms[n]));
  return out;
}

// From 14 bits of the reciprocal to nearly all of them. The divider is slower than all the rest of a function here.
Pack Assembly::near_inverse(const Pack& b) {
  const Pack rough = one(Inst::kIdVrcp14ps, b);
  return fused(fused_from(rough, b, number(1)), rough, rough);
}

Pack Assembly::near_inverse(const Pack& b, const Cond& where) {
  const Pack rough = one(Inst::kIdVrcp14ps, b), out = fused_from(rough, b, number(1));
  for (int u = 0; u < out.n; ++u) {
    cc.k(where.k[where.at(u)]).z();
    cc.emit(Inst::kIdVfmadd213ps, out.reg(u), rough.reg(u), rough.reg(u));
  }
  return out;
}

// The last step corrects the quotient and keeps the sign of zeros.
Pack Assembly::quotient(const Pack& a, const Pack& b) {
  if (!wide) return div(a, b);
  const Pack inverse = near_inverse(b), q = mul(a, inverse);
  return fused_from(fused_minus(q, b, a), inverse, q);
}

// What does not fit 32 bits comes out as -2^31 and is seen to at the end of the function: the 24 bits of the number,
// shifted to their place; all ones from 2^64 on.
Pack Assembly::truncated(const Pack& a) {
  const Pack x = in_register(a), out = one(Inst::kIdVcvttps2dq, x);
  const Cond outside = equal_words(out, word(0x80000000u));
  const asmjit::Label far = cc.newLabel(), back = cc.newLabel();
  const Cond any = never();
  join(any, outside);
  test(any);
  cc.jnz(far);
  cc.bind(back);
  later([this, x, out, far, back] {
    cc.bind(far);
    for (int u = 0; u < out.n; ++u) {
      const Pack v = x.reg(u), to = out.reg(u);
      const Pack places = sub_words(shift_right(shift_left(v, 1), 24), word(150));
      const Pack digits = bit_or(bit_and(v, word(0x7fffffu)), word(0x800000u));
      const Pack size = op(Inst::kIdVpsllvd, digits, places);
      const Pack zero = in_register(word(0));
      Pack low = pick(compare(v, Compare::less, number(0)), sub_words(zero, size), size);
      low = pick(compare(number(18446744073709551616.0f), Compare::less_equal, v), word(~0u), low);
      low = pick(compare(v, Compare::nan, v), zero, low);
      overwrite(to, equal_words(to, word(0x80000000u)), low);
    }
    cc.jmp(back);
  });
  return out;
}

Pack Assembly::wrapped(const Pack& words, int bits, bool is_signed) {
  if (bits == 32) return words;
  const Pack high = shift_left(words, 32 - bits);
  return is_signed ? shift_signed(high, 32 - bits) : shift_right(high, 32 - bits);
}

// ---- conditions ----

Cond Assembly::equal_words(const Pack& a, const Pack& b) {
  Cond c;
  for (c.n = 0; c.n < std::max(a.n, b.n); ++c.n) {
    if (wide) {
      c.k[c.n] = cc.newKw();
      cc.emit(Inst::kIdVpcmpeqd, c.k[c.n], a.reg(c.n), b.at(c.n));
    } else {
      c.v[c.n] = vec();
      cc.emit(Inst::kIdVpcmpeqd, c.v[c.n], a.reg(c.n), b.at(c.n));
    }
  }
  return c;
}

Cond Assembly::compare(const Pack& a, Compare how, const Pack& b, const Cond* within) {
  const Pack left = in_register(a);
  const asmjit::Imm imm(static_cast<int>(how));
  Cond c;
  for (c.n = 0; c.n < std::max(a.n, b.n); ++c.n) {
    if (wide) {
      c.k[c.n] = cc.newKw();
      cc.emit(Inst::kIdVcmpps, c.k[c.n], left.reg(c.n), b.at(c.n), imm);
      if (within) cc.kandw(c.k[c.n], c.k[c.n], within->k[within->at(c.n)]);
    } else {
      c.v[c.n] = vec();
      cc.emit(Inst::kIdVcmpps, c.v[c.n], left.reg(c.n), b.at(c.n), imm);
      if (within) cc.vandps(c.v[c.n], c.v[c.n], within->v[within->at(c.n)]);
    }
  }
  return c;
}

Pack Assembly::pick(const Cond& c, const Pack& yes, const Pack& no) {
  const Pack out = copy(no, std::max(c.n, yes.n));
  overwrite(out, c, yes);
  return out;
}

Pack Assembly::where(const Cond& c, const Pack& a) {
  Pack out;
  for (int u = 0; u < std::max(c.n, a.n); ++u) {
    const Vec v = vec();
    cc.emit(Inst::kIdVandps, v, c.v[c.at(u)], a.at(u));
    out.push(v);
  }
  return out;
}

void Assembly::overwrite(const Pack& to, const Cond& c, const Pack& yes) {
  for (int u = 0; u < to.n; ++u) {
    if (wide) {
      cc.k(c.k[c.at(u)]);
      cc.emit(Inst::kIdVblendmps, to.reg(u), to.reg(u), yes.at(u));
    } else {
      cc.emit(Inst::kIdVblendvps, to.reg(u), to.reg(u), yes.at(u), c.v[c.at(u)]);
    }
  }
}

Pack Assembly::truth(const Cond& c) {
  const Pack one = number(1);
  if (!wide) return where(c, one);
  Pack out;
  for (int u = 0; u < c.n; ++u) {
    const Vec v = vec();
    if (one.is_number()) {
      x86::Mem at = one.place;
      at.resetBroadcast();
      cc.k(c.k[u]).z().vbroadcastss(v, at);
    } else {
      cc.k(c.k[u]).z().vmovaps(v, one.reg(0));
    }
    out.push(v);
  }
  return out;
}

Cond Assembly::logic(InstId k, InstId v, const Cond& a, const Cond& b) {
  Cond c;
  for (c.n = 0; c.n < std::max(a.n, b.n); ++c.n) {
    if (wide) {
      c.k[c.n] = cc.newKw();
      cc.emit(k, c.k[c.n], a.k[a.at(c.n)], b.k[b.at(c.n)]);
    } else {
      c.v[c.n] = vec();
      cc.emit(v, c.v[c.n], a.v[a.at(c.n)], b.v[b.at(c.n)]);
    }
  }
  return c;
}

// kmovw to a general register is not used: asmjit would read a spilled mask register by an instruction that does not
// exist.
void Assembly::test(const Cond& c) {
  if (wide) {
    cc.kortestw(c.k[0], c.k[0]);
    return;
  }
  const x86::Gp bits = cc.newInt32();
  cc.vmovmskps(bits, c.v[0]);
  cc.test(bits, bits);
}

Cond Assembly::never() {
  Cond c;
  c.n = 1;
  if (wide) {
    c.k[0] = cc.newKw();
    cc.kxorw(c.k[0], c.k[0], c.k[0]);
  } else {
    c.v[0] = vec();
    cc.vxorps(c.v[0], c.v[0], c.v[0]);
  }
  return c;
}

void Assembly::join(const Cond& all, const Cond& c) {
  for (int u = 0; u < c.n; ++u) {
    if (wide)
      cc.korw(all.k[0], all.k[0], c.k[u]);
    else
      cc.vorps(all.v[0], all.v[0], c.v[u]);
  }
}

Tail Assembly::tail(const x86::Gp& left, int u) {
  Tail tail;
  tail.mask.n = 1;
  if (wide) {
    // Every machine with AVX-512 has BMI2.
    const x86::Gp bits = cc.newInt32();
    cc.mov(bits, -1);
    cc.bzhi(bits, bits, left.r32());
    if (u > 0) cc.shr(bits, 16);
    tail.mask.k[0] = cc.newKw();
    cc.kmovw(tail.mask.k[0], bits);
    return tail;
  }
  masks_ = true;
  const x86::Gp bound = gp(), base = gp(), at = gp();
  tail.count = gp();
  cc.mov(tail.count, left);
  if (u > 0) {
    cc.xor_(bound.r32(), bound.r32());
    cc.sub(tail.count, u * lanes);
    cc.cmovs(tail.count, bound);
  }
  cc.mov(bound, lanes);
  cc.cmp(tail.count, bound);
  cc.cmovg(tail.count, bound);
  cc.mov(at, tail.count);
  cc.neg(at);
  cc.lea(base, x86::ptr(mask_label_));
  tail.mask.v[0] = vec();
  cc.vmovups(tail.mask.v[0], x86::ptr(base, at, 2, 32));
  return tail;
}

// ---- memory ----

Vec Assembly::load(const x86::Mem& at, const Cond* mask) {
  const Vec out = vec();
  if (!mask)
    cc.vmovups(out, at);
  else if (wide)
    cc.k(mask->k[0]).z().vmovups(out, at);
  else
    cc.vmaskmovps(out, mask->v[0], at);
  return out;
}

void Assembly::store(const x86::Mem& at, const Vec& v, const Cond* mask) {
  if (!mask)
    cc.vmovups(at, v);
  else if (wide)
    cc.k(mask->k[0]).vmovups(at, v);
  else
    cc.vmaskmovps(at, mask->v[0], v);
}

Vec Assembly::splat(const x86::Mem& at) {
  const Vec out = vec();
  cc.vbroadcastss(out, at);
  return out;
}

Vec Assembly::across(InstId id, const Vec& v) {
  x86::Ymm y = cc.newYmm();
  if (wide) {
    cc.vextractf64x4(y, v.zmm(), 1);
    cc.emit(id, y, v.ymm(), y);
  } else {
    cc.vmovaps(y, v.ymm());
  }
  const x86::Xmm x = cc.newXmm(), t = cc.newXmm();
  if (wide)
    cc.vextractf32x4(x, y, 1);
  else
    cc.vextractf128(x, y, 1);
  cc.emit(id, x, y.xmm(), x);
  cc.vpermilps(t, x, 0x4e);  // halves change places
  cc.emit(id, x, x, t);
  cc.vmovshdup(t, x);
  cc.emit(id, x, x, t);
  const Vec out = vec();
  cc.vbroadcastss(out, x);
  return out;
}

}  // namespace sinter::cpu::jit

// Debian's libasmjit.a reads `stderr` in a way that shared libraries cannot, in the one object that has these three.
// Defined here they keep it out of the link; what they would print, no user of an engine library asked for.
ASMJIT_BEGIN_NAMESPACE
namespace DebugUtils {
const char* errorAsString(Error) noexcept { return "asmjit error"; }
void debugOutput(const char*) noexcept {}
void assertionFailed(const char*, int, const char*) noexcept { __builtin_trap(); }
}  // namespace DebugUtils
ASMJIT_END_NAMESPACE
