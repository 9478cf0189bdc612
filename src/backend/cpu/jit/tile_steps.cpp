#include "backend/cpu/jit/tile_steps.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "backend/cpu/isa/tile_terms.h"
#include "backend/cpu/jit/tile_taken.h"

namespace sinter::cpu::jit {

using Kind = TileStep::Kind;

TileSteps::TileSteps(const TileExecutor& e, bool wide, bool narrows)
    : e_(e),
      s_(wide, narrows),
      cc_(s_.cc),
      memory_(s_),
      held_(e.values.size()),
      conditions_(e.values.size()),
      divisors_(e.values.size()),
      bounds_(e.values.size()),
      loads_(e.values.size(), nullptr) {}

void TileSteps::leave_vector() {
  for (uint16_t v : in_vector_) {
    held_[v] = Pack();
    conditions_[v].reset();
  }
  in_vector_.clear();
}

void TileSteps::hold(uint16_t v, const Pack& value) {
  held_[v] = value;
  const Spread spread = e_.values[v].spread;
  if (spread == Spread::full || spread == Spread::column) in_vector_.push_back(v);
}

// ---- values ----

Pack TileSteps::value(uint16_t v) {
  if (!held_[v].is_none()) return for_pack(held_[v]);
  if (conditions_[v]) return held_[v] = s_.truth(*conditions_[v]);
  const TileValue& of = e_.values[v];
  if (of.home == Home::constant) return s_.number(constant(v));
  Pack made;
  for (int u = 0; u < pack_; ++u) {
    const int r = u / columns(), column = u % columns();
    if (of.spread == Spread::column) {
      const TileStep* load = loads_[v];
      made.push(r > 0  ? made.reg(column)
                : load ? load_at(places_[load->index].at, load->dtype, of.lane, column)
                       : load_at(parts_[of.number], DType::f32, Lane::f32, column));
    } else if (of.home == Home::operand) {
      made.push(load_at(places_[of.number].of(r), DType::f32, Lane::f32, column));
      if (prefetch_ && !tails_ && (s_.wide || column % 2 == 0))
        cc_.prefetcht0(element(places_[of.number].ahead[r], DType::f32, column));
    } else {
      made.push(load_at(kept(of, r), DType::f32, Lane::f32, column));
    }
  }
  hold(v, made);
  return made;
}

// A value per row as one per vector of the pack.
Pack TileSteps::for_pack(const Pack& p) const {
  if (p.n == 1 || p.n == pack_) return p;
  Pack out;
  for (int u = 0; u < pack_; ++u) out.push(p.reg(u / columns()));
  return out;
}

Vec TileSteps::load_at(const x86::Gp& base, DType dtype, Lane lane, int column) {
  const x86::Mem at = element(base, dtype, column);
  return lane == Lane::i64 ? memory_.load_words(dtype, at, tail(column)) : memory_.load(dtype, at, tail(column));
}
void TileSteps::keep(const TileValue& v, const Pack& value) {
  const Pack p = s_.in_register(value);
  for (int u = 0; u < pack_; ++u) {
    const int r = u / columns(), column = u % columns();
    memory_.store(DType::f32, element(kept(v, r), DType::f32, column), p.reg(u), tail(column));
  }
}

const x86::Gp& TileSteps::kept(const TileValue& v, int r) const {
  return parts_[static_cast<size_t>(e_.column_count + v.number * (pairs_ ? 2 : 1) + r)];
}
float TileSteps::constant(uint16_t v) const {
  return std::bit_cast<float>(static_cast<uint32_t>(e_.constants[e_.values[v].number]));
}

// ---- divisors ----

// Those of steps at `where`; made outside of the loops that divide.
void TileSteps::prepare_divisors(const std::vector<TileStep>& steps, Where level) {
  for (const TileStep& step : steps) {
    int k = -1;
    if (step.kind == Kind::norm && step.op1) k = 2;
    if (step.kind == Kind::binary && step.op == ScalarOp::div) k = 1;
    if (k < 0) continue;
    const uint16_t v = step.read[k];
    const Spread spread = e_.values[v].spread;
    const bool ready =
        spread == Spread::scalar || (spread == Spread::row && level == Where::row && !held_[v].is_none());
    const bool row_by_row = spread == Spread::row && e_.values[step.out].spread == Spread::row;
    if (!ready || row_by_row || divisors_[v]) continue;
    divisors_[v] = divisor(v);
  }
}

TileSteps::Divisor TileSteps::divisor(uint16_t v) {
  Divisor d;
  if (is_constant(v)) {
    const float c = constant(v);
    d.inverse = s_.number(1.0f / c);
    d.always = c > divides_well_above && c < divides_well_below;
    return d;
  }
  const Pack x = value(v);
  d.inverse = s_.div(s_.number(1), x);
  for (int r = 0; r < x.n; ++r) {
    d.well[r] = cc_.newInt32();
    cc_.xor_(d.well[r], d.well[r]);
    s_.test(s_.both(s_.compare(x.reg(r), Compare::greater, s_.number(divides_well_above)),
                    s_.compare(x.reg(r), Compare::less, s_.number(divides_well_below))));
    cc_.setnz(d.well[r].r8());
  }
  d.all = cc_.newInt32();
  cc_.mov(d.all, d.well[0]);
  if (x.n == 2) cc_.and_(d.all, d.well[1]);
  return d;
}

Pack TileSteps::quick_quotient(const Pack& x, const Pack& b, const Pack& inverse) {
  const Pack out = s_.mul(x, inverse);
  const Pack better = s_.fused_from(s_.fused_minus(out, b, x), inverse, out);
  s_.overwrite(out, s_.compare(better, Compare::not_nan, better), better);
  return out;
}

Pack TileSteps::divide(const Pack& a, uint16_t by, Where where) {
  const Pack b = s_.in_register(value(by));
  const std::optional<Divisor>& d = divisors_[by];
  if (!d || !splats(e_.values[by], where) || (d->always && !*d->always)) return s_.div(a, b);
  const Pack x = s_.in_register(a), inverse = for_pack(d->inverse);
  if (d->always) return quick_quotient(x, b, inverse);
  const asmjit::Label exact = cc_.newLabel(), back = cc_.newLabel();
  cc_.test(d->all, d->all);
  cc_.jz(exact);
  const Pack out = quick_quotient(x, b, inverse);
  cc_.bind(back);
  // Each row by itself: its results do not depend on its neighbour.
  s_.later([this, exact, back, out, x, b, inverse, d = *d] {
    cc_.bind(exact);
    const int rows = d.inverse.n;
    for (int r = 0; r < rows; ++r) {
      const asmjit::Label slow = cc_.newLabel(), next = cc_.newLabel();
      cc_.test(d.well[r], d.well[r]);
      cc_.jz(slow);
      const auto each = [&](auto f) {
        for (int u = r * out.n / rows; u < (r + 1) * out.n / rows; ++u) f(u);
      };
      each([&](int u) { cc_.vmovaps(out.reg(u), quick_quotient(x.reg(u), b.reg(u), inverse.reg(u)).reg(0)); });
      cc_.jmp(next);
      cc_.bind(slow);
      each([&](int u) { cc_.vdivps(out.reg(u), x.reg(u), b.reg(u)); });
      cc_.bind(next);
    }
    cc_.jmp(back);
  });
  return out;
}

// ---- steps ----

void TileSteps::run_step(const TileStep& step, Where where) {
  if (step.is_load()) return load(step, where);
  if (step.is_store()) return store(step, where);
  const Pack made = compute(step, where);
  hold(step.out, made);
  const TileValue& v = e_.values[step.out];
  if (where == Where::full && v.home == Home::kept) keep(v, for_pack(made));
}

void TileSteps::load(const TileStep& step, Where where) {
  const Place& place = places_[step.index];
  if (where == Where::column) return;  // where it is read
  const TileValue& v = e_.values[step.out];
  Pack made;
  const int count = where == Where::scalar ? 1 : pack_;
  for (int u = 0; u < count; ++u) {
    if (where == Where::full) {
      made.push(load_at(place.of(u / columns()), step.dtype, v.lane, u % columns()));
    } else {
      const x86::Mem at = x86::ptr(place.of(u));
      made.push(v.lane == Lane::i64 ? memory_.load_one_word(step.dtype, at) : memory_.load_one(step.dtype, at));
    }
  }
  hold(step.out, made);
  if (where == Where::full && v.home == Home::kept) keep(v, made);
}

void TileSteps::store(const TileStep& step, Where where) {
  const Place& place = result(step.index);
  const Pack v = s_.in_register(value(step.read[0]));
  const bool words = e_.values[step.read[0]].lane == Lane::i64;
  const int width = width_of(step.dtype);
  for (int u = 0; u < pack_; ++u) {
    if (where == Where::full) {
      const int column = u % columns();
      const x86::Mem at = element(place.of(u / columns()), step.dtype, column);
      if (step.dtype == DType::bf16 && s_.narrows && column + 1 < columns() && !tail(column) && !tail(column + 1)) {
        memory_.store_pair(at, v.reg(u), v.reg(u + 1));
        ++u;
        continue;
      }
      words ? memory_.store_words(width, at, v.reg(u), tail(column))
            : memory_.store(step.dtype, at, v.reg(u), tail(column));
    } else {
      const x86::Mem at = x86::ptr(place.of(u));
      words ? memory_.store_one_word(width, at, v.reg(u)) : memory_.store_one(step.dtype, at, v.reg(u));
    }
  }
}

// What a step that takes the larger or smaller of a value and a constant says of its result.
void TileSteps::note_bounds(const TileStep& step) {
  ScalarOp op = step.op;
  uint16_t a = step.read[0], by = step.read[1];
  if (step.kind == Kind::pair) {
    if (step.op2 != 2 && step.op2 != 3) return;
    op = step.op2 == 2 ? ScalarOp::min : ScalarOp::max;
    by = step.read[2];
    a = step.out;  // nothing is known of what is between
  } else if (step.kind != Kind::binary || (op != ScalarOp::min && op != ScalarOp::max)) {
    return;
  }
  if (!is_constant(by)) std::swap(a, by);
  if (!is_constant(by) || e_.values[by].lane != Lane::f32) return;
  const Bounds in = bounds_[a];
  const float c = constant(by);
  bounds_[step.out] = op == ScalarOp::min ? Bounds{std::min(in.low, c), std::min(in.high, c)}
                                          : Bounds{std::max(in.low, c), std::max(in.high, c)};
}

// Whether nothing reads v but stores of no more than so many bits.
bool TileSteps::is_only_stored(uint16_t v, int bits) const {
  const auto others = [&](const std::vector<TileStep>& steps) {
    bool any = false;
    for (const TileStep& step : steps)
      step.each_read(
          [&](uint16_t read) { any = any || (read == v && !(step.is_store() && bit_size(step.dtype) <= bits)); });
    return any;
  };
  if (others(e_.scalars) || others(e_.columns)) return false;
  return std::none_of(e_.passes.begin(), e_.passes.end(),
                      [&](const TilePass& pass) { return others(pass.rows) || others(pass.tiles); });
}

bool TileSteps::is_bounded(uint16_t v) const {
  constexpr float far = 2147483520.0f;
  return bounds_[v].low >= -far && bounds_[v].high <= far;
}

Pack TileSteps::compute(const TileStep& step, Where where) {
  note_bounds(step);
  switch (step.kind) {
    case Kind::loop: {
      const Pack a = value(step.read[0]);
      if (!converts(step)) return unary(step.op, a, step.out);
      return convert(step, a);
    }
    case Kind::binary: return binary(step, where);
    case Kind::select: {
      const Cond c = truth_of(step.read[0]);
      return s_.pick(c, value(step.read[1]), value(step.read[2]));
    }
    case Kind::pair: return pair(step, where);
    case Kind::function: return function(step);
    case Kind::norm: {
      const Pack centred = s_.sub(value(step.read[0]), value(step.read[1]));
      const Pack unit = step.op1 ? divide(centred, step.read[2], where) : s_.mul(centred, value(step.read[2]));
      return s_.fused(unit, value(step.read[3]), value(step.read[4]));
    }
    default: return value(step.read[0]);  // spread
  }
}

Pack TileSteps::convert(const TileStep& step, const Pack& a) {
  const Lane from = e_.values[step.read[0]].lane, to = e_.values[step.out].lane;
  if (to == Lane::i64) {
    // Of what is bounded, NaN alone is outside of 32 bits, and its low bits are 0.
    const bool near = bit_size(step.dtype) < 32 && is_bounded(step.read[0]);
    const Pack words = from == Lane::i64 ? a : near ? s_.truncated_near(a) : s_.truncated(a);
    if (is_only_stored(step.out, bit_size(step.dtype))) return words;  // stores take the low bits
    return s_.wrapped(words, bit_size(step.dtype), is_signed(step.dtype));
  }
  if (from == Lane::i64) return s_.to_real(a);
  return step.dtype == DType::f32 ? a : rounded(step.dtype, s_.in_register(a));
}

Pack TileSteps::rounded(DType dtype, const Pack& a) {
  Pack out;
  for (int u = 0; u < a.n; ++u) out.push(memory_.rounded_to(dtype, a.reg(u)));
  return out;
}

Pack TileSteps::unary(ScalarOp op, const Pack& a, uint16_t out) {
  switch (op) {
    case ScalarOp::neg: return s_.bit_xor(a, s_.word(0x80000000u));
    case ScalarOp::abs: return s_.absolute(a);
    case ScalarOp::sign: return s_.sign(a);
    case ScalarOp::round: return s_.rounded(a, 0);
    case ScalarOp::floor: return s_.rounded(a, 1);
    case ScalarOp::ceil: return s_.rounded(a, 2);
    case ScalarOp::trunc: return s_.rounded(a, 3);
    case ScalarOp::sqrt: return s_.root(s_.in_register(a));
    case ScalarOp::reciprocal: return s_.div(s_.number(1), a);
    case ScalarOp::exp: return s_.exp(a);
    case ScalarOp::expm1: return s_.expm1(a);
    case ScalarOp::log: return s_.log(a);
    case ScalarOp::log1p: return s_.log1p(a);
    case ScalarOp::tanh: return s_.tanh(a);
    case ScalarOp::erf: return s_.erf(a);
    case ScalarOp::sigmoid: return s_.sigmoid(a);
    case ScalarOp::is_nan: return truth(out, s_.compare(a, Compare::nan, a));
    case ScalarOp::is_inf:
      return truth(out, s_.compare(s_.absolute(a), Compare::equal, s_.number(std::numeric_limits<float>::infinity())));
    default: return truth(out, s_.compare(a, Compare::equal, s_.number(0)));  // logical_not
  }
}

// The value of a condition: a number only when somebody wants one.
Pack TileSteps::truth(uint16_t out, const Cond& c) {
  const TileValue& v = e_.values[out];
  if (v.spread != Spread::full || v.home == Home::kept) return s_.truth(c);
  conditions_[out] = c;
  return {};
}
Cond TileSteps::truth_of(uint16_t v) {
  if (conditions_[v]) return *conditions_[v];
  return s_.compare(value(v), Compare::not_equal, s_.number(0));
}

Pack TileSteps::binary(const TileStep& step, Where where) {
  const uint16_t a = step.read[0], b = step.read[1];
  if (e_.values[step.out].lane == Lane::i64)
    return step.op == ScalarOp::add ? s_.add_words(value(a), value(b)) : s_.sub_words(value(a), value(b));
  switch (step.op) {
    case ScalarOp::add: return s_.add(value(a), value(b));
    case ScalarOp::sub: return s_.sub(value(a), value(b));
    case ScalarOp::mul: return s_.mul(value(a), value(b));
    case ScalarOp::div: return splats(e_.values[a], where) ? s_.div(value(a), value(b)) : divide(value(a), b, where);
    case ScalarOp::min:
    case ScalarOp::max: {
      const InstId id = step.op == ScalarOp::min ? Inst::kIdVminps : Inst::kIdVmaxps;
      if (splats(e_.values[a], where)) return extreme(id, value(b), value(a), &a);
      return extreme(id, value(a), value(b), splats(e_.values[b], where) ? &b : nullptr);
    }
    case ScalarOp::equal: return truth(step.out, s_.compare(value(a), Compare::equal, value(b)));
    case ScalarOp::less: return truth(step.out, s_.compare(value(a), Compare::less, value(b)));
    case ScalarOp::less_equal: return truth(step.out, s_.compare(value(a), Compare::less_equal, value(b)));
    case ScalarOp::logical_and: return truth(step.out, s_.both(truth_of(a), truth_of(b)));
    case ScalarOp::logical_or: return truth(step.out, s_.either(truth_of(a), truth_of(b)));
    default: return truth(step.out, s_.differ(truth_of(a), truth_of(b)));
  }
}

// The smaller or larger of a and b, NaN if one is; `one`: the value of b, if it is one number for many.
Pack TileSteps::extreme(InstId id, const Pack& a, const Pack& b, const uint16_t* one) {
  if (one) {
    // NaN in a comes through.
    const Pack out = s_.op(id, b, a);
    if (is_constant(*one) && !std::isnan(constant(*one))) return out;
    s_.overwrite(out, s_.compare(b, Compare::nan, b), b);
    return out;
  }
  const Pack x = s_.in_register(a);
  const Pack out = s_.op(id, x, b);
  s_.overwrite(out, s_.compare(x, Compare::nan, x), x);
  return out;
}

Pack TileSteps::pair(const TileStep& step, Where where) {
  const Pack a = value(step.read[0]), b = value(step.read[1]), c = value(step.read[2]);
  if (step.op1 == 2 && step.op2 == 0) return s_.fused(a, b, c);
  const Pack x = step.op1 == 0 ? s_.add(a, b) : step.op1 == 1 ? s_.sub(a, b) : s_.mul(a, b);
  if (step.op2 == 0) return s_.add(x, c);
  if (step.op2 == 1) return s_.mul(x, c);
  const bool one = splats(e_.values[step.read[2]], where);
  return extreme(step.op2 == 2 ? Inst::kIdVminps : Inst::kIdVmaxps, x, c, one ? &step.read[2] : nullptr);
}

Pack TileSteps::function(const TileStep& step) {
  Pack x = value(step.read[0]);
  if (step.before == before_mul) x = s_.mul(x, value(step.read[1]));
  if (step.before == before_sub) x = s_.sub(x, value(step.read[1]));
  Pack y;
  switch (step.op) {
    case ScalarOp::exp: y = s_.exp(x); break;
    case ScalarOp::tanh: y = s_.tanh(x); break;
    case ScalarOp::erf: y = s_.erf(x); break;
    default: y = s_.sigmoid(x); break;
  }
  if (step.adds) y = s_.add(y, value(step.read[2]));
  if (step.behind == behind_mul) y = s_.mul(y, value(step.read[3]));
  if (step.behind == behind_scaled) y = s_.mul(y, s_.mul(value(step.read[3]), value(step.read[4])));
  return y;
}

}  // namespace sinter::cpu::jit
