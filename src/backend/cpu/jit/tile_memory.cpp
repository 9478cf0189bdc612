// Loads and stores of memory's types in emitted code. AVX2 has no masks for elements narrower than 32 bits: parts of
// vectors go by way of the stack there.
#include "backend/cpu/jit/tile_memory.h"

namespace sinter::cpu::jit {
namespace {

int bytes_of(DType dtype) { return bit_size(dtype) / 8; }

}  // namespace

bool can_load(DType dtype) {
  return dtype == DType::f32 || dtype == DType::f16 || dtype == DType::bf16 || dtype == DType::boolean ||
         can_be_words(dtype);
}

bool can_store(DType dtype) {
  return dtype == DType::f32 || dtype == DType::f16 || dtype == DType::bf16 || dtype == DType::boolean;
}

bool can_be_words(DType dtype) {
  return dtype == DType::u8 || dtype == DType::i8 || dtype == DType::u16 || dtype == DType::i16 || dtype == DType::i32;
}

// Copies n elements.
void TileMemoryCode::copy_elements(const x86::Mem& to, const x86::Mem& from, int width, const x86::Gp& n) {
  auto& cc = s_.cc;
  const x86::Gp source = s_.gp(), target = s_.gp(), left = s_.gp(), element = s_.gp();
  cc.lea(source, from);
  cc.lea(target, to);
  cc.mov(left, n);
  const asmjit::Label next = cc.newLabel(), done = cc.newLabel();
  cc.test(left, left);
  cc.jz(done);
  cc.bind(next);
  if (width == 1) {
    cc.movzx(element.r32(), x86::byte_ptr(source));
    cc.mov(x86::byte_ptr(target), element.r8());
  } else {
    cc.movzx(element.r32(), x86::word_ptr(source));
    cc.mov(x86::word_ptr(target), element.r16());
  }
  cc.add(source, width);
  cc.add(target, width);
  cc.dec(left);
  cc.jnz(next);
  cc.bind(done);
}

x86::Mem TileMemoryCode::stack() {
  if (!has_stack_) stack_ = s_.cc.newStack(32, 32);
  has_stack_ = true;
  return stack_;
}

// Words 0 and 1 where the byte is not zero.
Vec TileMemoryCode::truth_of_words(const Vec& words) {
  auto& cc = s_.cc;
  Cond c;
  if (s_.wide) {
    c.n = 1;
    c.k[0] = cc.newKw();
    cc.vptestmd(c.k[0], words, words);
    return s_.truth(c).reg(0);
  }
  const Vec zero = s_.vec();
  cc.vxorps(zero, zero, zero);
  cc.vpcmpeqd(zero, words, zero);
  const Vec out = s_.vec();
  cc.vandnps(out, zero, s_.in_register(s_.number(1)).reg(0));
  return out;
}

Vec TileMemoryCode::load_words(DType dtype, x86::Mem at, const Tail* tail) {
  auto& cc = s_.cc;
  if (bit_size(dtype) == 32) return s_.load(at, tail ? &tail->mask : nullptr);
  if (tail && !s_.wide) {
    copy_elements(stack(), at, bytes_of(dtype), tail->count);
    at = stack();
  }
  InstId id = Inst::kIdVpmovzxbd;
  switch (dtype) {
    case DType::f16: id = Inst::kIdVcvtph2ps; break;
    case DType::bf16:
    case DType::u16: id = Inst::kIdVpmovzxwd; break;
    case DType::i8: id = Inst::kIdVpmovsxbd; break;
    case DType::i16: id = Inst::kIdVpmovsxwd; break;
    default: break;
  }
  const Vec out = s_.vec();
  if (tail && s_.wide) cc.k(tail->mask.k[0]).z();
  cc.emit(id, out, at);
  return out;
}

Vec TileMemoryCode::load(DType dtype, const x86::Mem& at, const Tail* tail) {
  const Vec words = load_words(dtype, at, tail);
  switch (dtype) {
    case DType::f32:
    case DType::f16: return words;
    case DType::bf16: return s_.shift_left(words, 16).reg(0);
    case DType::boolean: return truth_of_words(words);
    default: return s_.to_real(words).reg(0);
  }
}

x86::Ymm TileMemoryCode::bf16_halves(const Vec& v) {
  const x86::Ymm out = s_.cc.newYmm();
  s_.cc.vcvtneps2bf16(out, v.zmm());
  return out;
}

Vec TileMemoryCode::bf16_words(const Vec& v) {
  const Pack high = s_.shift_right(v, 16), low = s_.bit_and(high, s_.word(1));
  const Pack rounded = s_.shift_right(s_.add_words(s_.add_words(v, s_.word(0x7fffu)), low), 16);
  return s_.pick(s_.compare(v, Compare::nan, v), s_.bit_or(high, s_.word(0x40u)), rounded).reg(0);
}

Vec TileMemoryCode::rounded_to(DType dtype, const Vec& v) {
  auto& cc = s_.cc;
  if (dtype == DType::bf16) {
    if (!s_.narrows) return s_.shift_left(bf16_words(v), 16).reg(0);
    const Vec words = s_.vec();
    cc.vpmovzxwd(words, bf16_halves(v));
    return s_.shift_left(words, 16).reg(0);
  }
  const Vec half = s_.wide ? Vec(cc.newYmm()) : Vec(cc.newXmm());
  cc.vcvtps2ph(half, v, 0);
  const Vec out = s_.vec();
  cc.vcvtph2ps(out, half);
  return out;
}

// 1 where v is not 0, as words.
Vec TileMemoryCode::truth_words(const Vec& v) {
  return s_.shift_right(s_.truth(s_.compare(v, Compare::not_equal, s_.number(0))), 29).reg(0);
}

void TileMemoryCode::store(DType dtype, x86::Mem at, const Vec& v, const Tail* tail) {
  auto& cc = s_.cc;
  if (dtype == DType::f32) return s_.store(at, v, tail ? &tail->mask : nullptr);
  if (dtype == DType::bf16 && s_.narrows) {
    const x86::Ymm half = bf16_halves(v);
    if (tail) cc.k(tail->mask.k[0]);
    cc.vmovdqu16(at, half);
    return;
  }
  if (dtype == DType::bf16) return store_words(2, at, bf16_words(v), tail);
  if (dtype == DType::boolean) return store_words(1, at, truth_words(v), tail);
  const x86::Mem place = at;
  if (tail && !s_.wide) at = stack();
  if (tail && s_.wide) cc.k(tail->mask.k[0]);
  cc.vcvtps2ph(at, v, 0);
  if (tail && !s_.wide) copy_elements(place, at, 2, tail->count);
}

void TileMemoryCode::store_pair(const x86::Mem& at, const Vec& first, const Vec& second) {
  const Vec both = s_.vec();
  s_.cc.vcvtne2ps2bf16(both, second, first);
  s_.cc.vmovups(at, both);
}

void TileMemoryCode::store_words(int width, x86::Mem at, const Vec& words, const Tail* tail) {
  auto& cc = s_.cc;
  if (width == 4) return s_.store(at, words, tail ? &tail->mask : nullptr);
  if (s_.wide) {
    if (tail) cc.k(tail->mask.k[0]);
    cc.emit(width == 2 ? Inst::kIdVpmovdw : Inst::kIdVpmovdb, at, words);
    return;
  }
  const x86::Mem place = at;
  if (tail) at = stack();
  // Packing saturates: only the low bits may be left.
  const Vec low = s_.bit_and(words, s_.word(width == 2 ? 0xffffu : 0xffu)).reg(0);
  const x86::Xmm half = cc.newXmm();
  cc.vextractf128(half, low.ymm(), 1);
  cc.vpackusdw(half, low.xmm(), half);
  if (width == 2) {
    cc.vmovups(at, half);
  } else {
    cc.vpackuswb(half, half, half);
    cc.vmovq(at, half);
  }
  if (tail) copy_elements(place, at, width, tail->count);
}

Vec TileMemoryCode::load_one_word(DType dtype, x86::Mem at) {
  auto& cc = s_.cc;
  const x86::Gp element = cc.newInt32();
  at.setSize(static_cast<uint32_t>(bytes_of(dtype)));
  switch (dtype) {
    case DType::i8:
    case DType::i16: cc.movsx(element, at); break;
    case DType::i32: cc.mov(element, at); break;
    default: cc.movzx(element, at); break;
  }
  if (dtype == DType::boolean) {
    cc.neg(element);  // carries if it is not zero
    cc.sbb(element, element);
    cc.neg(element);
  }
  if (dtype == DType::bf16) cc.shl(element, 16);
  const x86::Xmm x = cc.newXmm();
  cc.vmovd(x, element);
  if (dtype == DType::f16) cc.vcvtph2ps(x, x);
  const Vec out = s_.vec();
  cc.vbroadcastss(out, x);
  return out;
}

Vec TileMemoryCode::load_one(DType dtype, const x86::Mem& at) {
  if (dtype == DType::f32) return s_.splat(at);
  const Vec word = load_one_word(dtype, at);
  if (dtype == DType::f16 || dtype == DType::bf16) return word;
  return s_.to_real(word).reg(0);
}

void TileMemoryCode::store_one(DType dtype, const x86::Mem& at, const Vec& v) {
  auto& cc = s_.cc;
  if (dtype == DType::f32) {
    cc.vmovss(at, v.xmm());
  } else if (dtype == DType::bf16) {
    store_one_word(2, at, s_.narrows ? Vec(bf16_halves(v)) : bf16_words(v));
  } else if (dtype == DType::boolean) {
    store_one_word(1, at, truth_words(v));
  } else {
    const Vec half = s_.vec();
    cc.vcvtps2ph(half.xmm(), v.xmm(), 0);
    store_one_word(2, at, half);
  }
}

// Without a general register between: asmjit would read a spilled vector into one by an instruction that does not
// exist.
void TileMemoryCode::store_one_word(int width, const x86::Mem& at, const Vec& words) {
  auto& cc = s_.cc;
  if (width == 1)
    cc.vpextrb(at, words.xmm(), 0);
  else if (width == 2)
    cc.vpextrw(at, words.xmm(), 0);
  else
    cc.vmovd(at, words.xmm());
}

}  // namespace sinter::cpu::jit
