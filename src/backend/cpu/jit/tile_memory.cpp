// Loads and stores of memory's types in emitted code. AVX2 has no masks for elements narrower than 32 bits: parts of
// vectors go by way of the stack there.
#include "backend/cpu/jit/tile_memory.h"

namespace sinter::cpu::jit {
namespace {

int bytes_of(DType dtype) { return bit_size(dtype) / 8; }

}  // namespace

bool can_load(DType dtype) {
  switch (dtype) {
    case DType::f32:
    case DType::f16:
    case DType::bf16:
    case DType::boolean:
    case DType::u8:
    case DType::i8:
    case DType::u16:
    case DType::i16:
    case DType::i32: return true;
    default: return false;
  }
}

bool can_store(DType dtype) {
  return dtype == DType::f32 || dtype == DType::f16 || dtype == DType::bf16 || dtype == DType::boolean;
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

Vec TileMemoryCode::load(DType dtype, x86::Mem at, const Tail* tail) {
  auto& cc = s_.cc;
  if (dtype == DType::f32) return s_.load(at, tail ? &tail->mask : nullptr);
  if (dtype == DType::i32) return s_.to_real(s_.load(at, tail ? &tail->mask : nullptr)).reg(0);
  if (tail && !s_.wide) {
    copy_elements(stack(), at, bytes_of(dtype), tail->count);
    at = stack();
  }
  const Vec out = s_.vec();
  const auto emit = [&](InstId id) {
    if (tail && s_.wide) cc.k(tail->mask.k[0]).z();
    cc.emit(id, out, at);
  };
  switch (dtype) {
    case DType::f16: emit(Inst::kIdVcvtph2ps); return out;
    case DType::bf16: emit(Inst::kIdVpmovzxwd); return s_.shift_left(out, 16).reg(0);
    case DType::u8: emit(Inst::kIdVpmovzxbd); return s_.to_real(out).reg(0);
    case DType::i8: emit(Inst::kIdVpmovsxbd); return s_.to_real(out).reg(0);
    case DType::u16: emit(Inst::kIdVpmovzxwd); return s_.to_real(out).reg(0);
    case DType::i16: emit(Inst::kIdVpmovsxwd); return s_.to_real(out).reg(0);
    default: emit(Inst::kIdVpmovzxbd); return truth_of_words(out);
  }
}

Vec TileMemoryCode::bf16_words(const Vec& v) {
  const Pack high = s_.shift_right(v, 16), low = s_.bit_and(high, s_.word(1));
  const Pack rounded = s_.shift_right(s_.add_words(s_.add_words(v, s_.word(0x7fffu)), low), 16);
  return s_.pick(s_.compare(v, Compare::nan, v), s_.bit_or(high, s_.word(0x40u)), rounded).reg(0);
}

Vec TileMemoryCode::rounded_to(DType dtype, const Vec& v) {
  auto& cc = s_.cc;
  if (dtype == DType::bf16) return s_.shift_left(bf16_words(v), 16).reg(0);
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
  const x86::Mem place = at;
  if (tail && !s_.wide) at = stack();
  if (dtype == DType::f16) {
    if (tail && s_.wide) cc.k(tail->mask.k[0]);
    cc.vcvtps2ph(at, v, 0);
  } else {
    const Vec words = dtype == DType::bf16 ? bf16_words(v) : truth_words(v);
    if (s_.wide) {
      if (tail) cc.k(tail->mask.k[0]);
      cc.emit(dtype == DType::bf16 ? Inst::kIdVpmovdw : Inst::kIdVpmovdb, at, words);
    } else {
      const x86::Xmm high = cc.newXmm();
      cc.vextractf128(high, words.ymm(), 1);
      cc.vpackusdw(high, words.xmm(), high);
      if (dtype == DType::bf16) {
        cc.vmovups(at, high);
      } else {
        cc.vpackuswb(high, high, high);
        cc.vmovq(at, high);
      }
    }
  }
  if (tail && !s_.wide) copy_elements(place, at, bytes_of(dtype), tail->count);
}

Vec TileMemoryCode::load_one(DType dtype, x86::Mem at) {
  auto& cc = s_.cc;
  if (dtype == DType::f32) return s_.splat(at);
  const x86::Gp element = s_.gp();
  at.setSize(static_cast<uint32_t>(bytes_of(dtype)));
  switch (dtype) {
    case DType::i8: cc.movsx(element.r32(), at); break;
    case DType::i16: cc.movsx(element.r32(), at); break;
    case DType::i32: cc.mov(element.r32(), at); break;
    case DType::boolean: {
      cc.movzx(element.r32(), at);
      cc.neg(element.r32());  // carries if it is not zero
      cc.sbb(element.r32(), element.r32());
      cc.neg(element.r32());
      break;
    }
    default: cc.movzx(element.r32(), at); break;
  }
  if (dtype == DType::bf16) cc.shl(element.r32(), 16);
  const x86::Xmm x = cc.newXmm();
  cc.vmovd(x, element.r32());
  if (dtype == DType::f16) cc.vcvtph2ps(x, x);
  const Vec out = s_.vec();
  cc.vbroadcastss(out, x);
  if (dtype == DType::f16 || dtype == DType::bf16) return out;
  return s_.to_real(out).reg(0);
}

void TileMemoryCode::store_one(DType dtype, const x86::Mem& at, const Vec& v) {
  auto& cc = s_.cc;
  if (dtype == DType::f32) {
    cc.vmovss(at, v.xmm());
    return;
  }
  const x86::Gp element = cc.newInt32();
  const x86::Xmm x = cc.newXmm();
  if (dtype == DType::f16) {
    cc.vcvtps2ph(x, v.xmm(), 0);
    cc.vmovd(element, x);
  } else {
    const Vec words = dtype == DType::bf16 ? bf16_words(v) : truth_words(v);
    cc.vmovd(element, words.xmm());
  }
  if (dtype == DType::boolean)
    cc.mov(at, element.r8());
  else
    cc.mov(at, element.r16());
}

}  // namespace sinter::cpu::jit
