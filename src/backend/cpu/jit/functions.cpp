// Elementary functions in emitted code: step by step those of isa/tile_math.inc, so that both give the same bits.
#include <limits>

#include "backend/cpu/isa/tile_terms.h"
#include "backend/cpu/jit/assembly.h"

namespace sinter::cpu::jit {

constexpr float infinity = std::numeric_limits<float>::infinity();

Assembly::Reduced Assembly::reduce_ln2(const Pack& x) {
  const Pack t = fused(x, number(log2_e), number(rounder));
  const Pack n = sub(t, number(rounder));
  const Pack r = copy(x);
  accumulate(r, n, number(-ln2_high));
  accumulate(r, n, number(-ln2_low));
  return {r, t, n};
}

Pack Assembly::scaled(const Pack& v, const Reduced& by) {
  if (wide) return op(Inst::kIdVscalefps, v, by.n);
  const Pack n = sub_words(by.t, word(rounder_bits));
  const Pack half = shift_signed(n, 1);
  const Pack first = shift_left(add_words(half, word(127)), 23);
  const Pack second = shift_left(add_words(sub_words(n, half), word(127)), 23);
  return mul(mul(v, first), second);
}

Pack Assembly::scaled_where(const Cond& c, const Pack& v, const Reduced& by) {
  Pack out;
  for (int u = 0; u < v.n; ++u) {
    const Vec y = vec();
    cc.k(c.k[c.at(u)]).z();
    cc.emit(Inst::kIdVscalefps, y, v.reg(u), by.n.reg(u));
    out.push(y);
  }
  return out;
}

Pack Assembly::exp_fraction(const Reduced& reduced) {
  const Pack p = polynomial(reduced.r, exp_terms);
  overwrite_fused(p, reduced.r, number(1));
  overwrite_fused(p, reduced.r, number(1));
  return p;
}

Pack Assembly::exp_within(const Pack& x) {
  const Reduced reduced = reduce_ln2(x);
  return scaled(exp_fraction(reduced), reduced);
}

Pack Assembly::exp(const Pack& a) {
  const Pack x = in_register(a);
  // What rounds to 0 is told apart: scaling to less than the normal numbers takes a hundred times as long.
  const Cond something = compare(x, Compare::not_less, number(exp_low));
  const Pack bounded = smaller(number(exp_high), x);
  if (!wide) return where(something, exp_within(where(something, bounded)));
  const Reduced reduced = reduce_ln2(bounded);
  return scaled_where(something, exp_fraction(reduced), reduced);
}

Pack Assembly::expm1(const Pack& x) {
  const Pack kept = in_register(x);
  const Pack bounded = larger(number(expm1_low), smaller(number(exp_high), kept));
  const Reduced reduced = reduce_ln2(bounded);
  const Pack p = polynomial(reduced.r, expm1_terms);
  overwrite_fused(p, mul(reduced.r, reduced.r), reduced.r);
  const Pack n = sub_words(reduced.t, word(rounder_bits));
  const Pack half = shift_left(add_words(n, word(126)), 23);  // 2^(n - 1)
  const Pack y = fused(half, p, sub(half, number(0.5f)));
  return pick(compare(kept, Compare::equal, number(0)), kept, add(y, y));
}

Pack Assembly::log(const Pack& a) {
  const Pack x = in_register(a);
  const Cond tiny = compare(x, Compare::less, number(smallest_normal));
  const Pack i = pick(tiny, mul(x, number(8388608.0f)), x);
  const Pack k = shift_signed(sub_words(i, word(root_half_bits)), 23);  // 1.m in [sqrt(1/2), sqrt(2))
  const Pack f = sub(sub_words(i, shift_left(k, 23)), number(1));
  const Pack e = sub(to_real(k), pick(tiny, number(23), number(0)));
  const Pack square = mul(f, f);
  const Pack p = polynomial(f, log_terms);
  Pack y = mul(mul(square, f), p);
  accumulate(y, e, number(ln2_low));
  accumulate(y, square, number(-0.5f));
  y = add(f, y);
  accumulate(y, e, number(ln2_high));
  overwrite(y, compare(x, Compare::equal, number(infinity)), x);
  overwrite(y, compare(x, Compare::equal, number(0)), number(-infinity));
  return pick(compare(number(0), Compare::less_equal, x), y, word(0x7fc00000u));
}

Pack Assembly::log1p(const Pack& a) {
  const Pack x = in_register(a);
  const Pack u = add(x, number(1));
  const Pack y = log(u);
  const Pack lost = div(sub(x, sub(u, number(1))), u);
  // u of 0 and infinity lose nothing
  const Pack whole = pick(compare(absolute(lost), Compare::less, number(1)), add(y, lost), y);
  return pick(compare(u, Compare::equal, number(1)), x, whole);
}

Pack Assembly::sigmoid(const Pack& a) {
  const Pack x = in_register(a);
  const Pack low = smaller(number(sigmoid_high), x);
  if (!wide) {
    const Pack t = fused(low, number(-log2_e), number(eighth_rounder));
    const Pack r = fuse(Inst::kIdVfnmsub213ps, sub(t, number(eighth_rounder)), number(ln2), low);
    const Pack power = add_words(from_table(eighth_powers, t), shift_left(t, 20));
    const Pack under = mul(r, power);
    overwrite_fused(under, polynomial(r, sigmoid_eighth_terms), add(power, number(1)));
    return where(compare(x, Compare::not_less, number(sigmoid_low)), div(number(1), under));
  }
  const Pack t = fused(low, number(-log2_e), number(thirty_second_rounder));
  const Pack n = sub(t, number(thirty_second_rounder));
  const Pack r = fuse(Inst::kIdVfnmsub213ps, n, number(ln2), low);
  const Pack power = op(Inst::kIdVscalefps, from_table(thirty_second_powers, t), n);
  const Pack under = mul(r, power);
  overwrite_fused(under, polynomial(r, sigmoid_terms), add(power, number(1)));
  return near_inverse(under, compare(x, Compare::not_less, number(sigmoid_low)));
}

Pack Assembly::clamped(const Pack& x, float bound) {
  return larger(number(-bound), smaller(number(bound), x));  // NaN stays
}

Pack Assembly::tanh(const Pack& x) {
  const Pack c = clamped(x, tanh_bound), v = mul(c, c);
  const Pack p = polynomial(v, tanh_over), q = polynomial(v, tanh_under);
  return clamped(quotient(mul(c, p), q), 1);
}

Pack Assembly::erf(const Pack& x) {
  const Pack c = clamped(x, erf_bound), v = mul(c, c);
  const Pack p = polynomial(v, erf_over), q = polynomial(v, erf_under);
  return clamped(quotient(mul(c, p), q), 1);
}

Pack Assembly::sign(const Pack& a) {
  const Pack x = in_register(a);
  const Pack low = pick(compare(x, Compare::less, number(0)), number(-1), x);
  return pick(compare(number(0), Compare::less, x), number(1), low);
}

}  // namespace sinter::cpu::jit
