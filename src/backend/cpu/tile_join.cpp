// Joining steps of a tile program: pairs of arithmetic, elementary functions with what stands around them, the ends of
// normalisations, sums of products and of squares.
//
// A value that only one step reads disappears into it. So does a cheap one that several read: the difference, sum or
// product of an operand and one number is computed again rather than kept.

#include <algorithm>
#include <optional>
#include <utility>

#include "backend/cpu/tile_plan.h"

namespace sinter::cpu {
namespace {

using Kind = TileStep::Kind;

TileFunction function_of(const TileStep& step) {
  if (step.kind != Kind::loop || step.then) return TileFunction::none;
  switch (step.op) {
    case ScalarOp::exp: return TileFunction::exp;
    case ScalarOp::tanh: return TileFunction::tanh;
    case ScalarOp::erf: return TileFunction::erf;
    case ScalarOp::sigmoid: return TileFunction::sigmoid;
    default: return TileFunction::none;
  }
}

class Joiner {
 public:
  Joiner(const TileExecutor& e, std::vector<TileStep>& steps) : e_(e), steps_(steps) {}

  void run() {
    count();
    for (size_t n = 0; n < steps_.size(); ++n)
      if (alive_[n] && join_function(n)) count();
    for (size_t n = 0; n < steps_.size(); ++n)
      if (alive_[n] && (join_norm(n) || join_fold(n))) count();
    for (size_t n = 0; n < steps_.size(); ++n)
      if (alive_[n] && join_pair(n)) count();
    size_t to = 0;
    for (size_t n = 0; n < steps_.size(); ++n)
      if (alive_[n]) steps_[to++] = steps_[n];
    steps_.resize(to);
  }

 private:
  // Who makes and reads what; what nobody reads dies.
  void count() {
    if (alive_.empty()) alive_.assign(steps_.size(), true);
    uses_.assign(e_.values.size(), 0);
    maker_.assign(e_.values.size(), -1);
    reader_.assign(e_.values.size(), -1);
    for (size_t n = steps_.size(); n-- > 0;) {
      const TileStep& step = steps_[n];
      if (!step.is_store() && uses_[step.out] == 0) alive_[n] = false;
      if (!alive_[n]) continue;
      step.each_read([&](uint16_t v) {
        ++uses_[v];
        reader_[v] = static_cast<int32_t>(n);
      });
      if (!step.is_store()) maker_[step.out] = static_cast<int32_t>(n);
    }
  }

  const TileValue& value(uint16_t v) const { return e_.values[v]; }
  // One number for a row, however rows are batched: short rows of programs without reductions are.
  bool is_one(uint16_t v, Spread where) const {
    return splats(value(v), where) && (value(v).spread == Spread::scalar || e_.reduces);
  }
  bool is_many(uint16_t v, Spread where) const { return !splats(value(v), where); }

  // The step behind a value, if it is this arithmetic in f32.
  const TileStep* made_by(uint16_t v, ScalarOp op) const {
    if (maker_[v] < 0 || value(v).lane != Lane::f32) return nullptr;
    const TileStep& step = steps_[static_cast<size_t>(maker_[v])];
    return step.kind == Kind::binary && step.op == op ? &step : nullptr;
  }

  // Whether the value may be computed where it is read.
  bool absorbable(uint16_t v, uint16_t uses = 1) const {
    if (uses_[v] == uses) return true;
    if (maker_[v] < 0) return false;
    const TileStep& step = steps_[static_cast<size_t>(maker_[v])];
    if (step.kind != Kind::binary || value(v).spread != Spread::full) return false;
    if (step.op != ScalarOp::add && step.op != ScalarOp::sub && step.op != ScalarOp::mul) return false;
    const auto [a, b] = std::pair(step.read[0], step.read[1]);
    return (is_operand(a) && splats(value(b), Spread::full)) || (is_operand(b) && splats(value(a), Spread::full));
  }
  bool is_operand(uint16_t v) const {
    if (maker_[v] < 0 || value(v).spread != Spread::full) return false;
    const TileStep& step = steps_[static_cast<size_t>(maker_[v])];
    return step.kind == Kind::load && same_bits(value(v).lane, step.dtype);
  }

  // many op one, if v is that in either order; `one` behind for a difference or quotient.
  struct Scaled {
    uint16_t many, one;
  };
  std::optional<Scaled> scaled(uint16_t v, ScalarOp op, Spread where, uint16_t uses = 1) const {
    const TileStep* step = made_by(v, op);
    if (!step || !absorbable(v, uses) || value(v).spread != where) return std::nullopt;
    const auto [a, b] = std::pair(step->read[0], step->read[1]);
    if (is_many(a, where) && is_one(b, where)) return Scaled{a, b};
    if ((op == ScalarOp::mul || op == ScalarOp::add) && is_many(b, where) && is_one(a, where)) return Scaled{b, a};
    return std::nullopt;
  }

  // The step that alone reads v, if it is this arithmetic on values of v's spread; `other` is its other operand.
  std::optional<size_t> only_reader(uint16_t v, ScalarOp op, uint16_t& other) const {
    if (uses_[v] != 1) return std::nullopt;
    const auto n = static_cast<size_t>(reader_[v]);
    const TileStep& step = steps_[n];
    if (step.kind != Kind::binary || step.op != op || value(step.out).spread != value(v).spread) return std::nullopt;
    other = step.read[0] == v ? step.read[1] : step.read[0];
    return n;
  }

  bool join_function(size_t n) {
    const TileFunction f = function_of(steps_[n]);
    const Spread where = value(steps_[n].out).spread;
    if (f == TileFunction::none || value(steps_[n].out).lane != Lane::f32 || is_per_row(where)) return false;
    const auto& loops = e_.table->function[static_cast<int>(f)];
    TileStep joined = steps_[n];
    joined.kind = Kind::function;
    size_t end = n;
    TileBefore before = before_none;
    if (const auto s = scaled(joined.read[0], ScalarOp::mul, where); s && loops[before_mul][0][behind_none]) {
      before = before_mul;
      set(joined, 0, s->many), set(joined, 1, s->one);
    } else if (const auto d = scaled(joined.read[0], ScalarOp::sub, where); d && loops[before_sub][0][behind_none]) {
      before = before_sub;
      set(joined, 0, d->many), set(joined, 1, d->one);
    }
    uint16_t other = 0;
    bool adds = false;
    if (const auto at = only_reader(joined.out, ScalarOp::add, other);
        at && is_one(other, where) && loops[before][1][behind_none]) {
      adds = true;
      set(joined, 2, other);
      end = *at;
      joined.out = steps_[end].out;
    }
    TileBehind behind = behind_none;
    if (const auto at = only_reader(joined.out, ScalarOp::mul, other);
        at && is_many(other, where) && loops[before][adds][behind_mul]) {
      behind = behind_mul;
      set(joined, 3, other);
      if (const auto s = scaled(other, ScalarOp::mul, where); s && loops[before][adds][behind_scaled]) {
        behind = behind_scaled;
        set(joined, 3, s->many), set(joined, 4, s->one);
      }
      end = *at;
      joined.out = steps_[end].out;
    }
    joined.loop = loops[before][adds][behind];
    if (!joined.loop) return false;
    joined.before = before;
    joined.adds = adds;
    joined.behind = behind;
    alive_[n] = false;
    alive_[end] = true;
    steps_[end] = joined;
    return true;
  }

  bool join_norm(size_t n) {
    TileStep& step = steps_[n];
    const Spread where = value(step.out).spread;
    if (step.kind != Kind::binary || step.op != ScalarOp::add || value(step.out).lane != Lane::f32 || is_per_row(where))
      return false;
    for (int side = 0; side < 2; ++side) {
      const uint16_t product = step.read[side], shift = step.read[1 - side];
      const TileStep* mul = made_by(product, ScalarOp::mul);
      if (!mul || uses_[product] != 1 || value(product).spread != where) continue;
      for (int k = 0; k < 2; ++k) {
        const uint16_t unit = mul->read[k], factor = mul->read[1 - k];
        auto s = scaled(unit, ScalarOp::mul, where);
        const bool divides = !s;
        if (divides) s = scaled(unit, ScalarOp::div, where);
        if (!s) continue;
        const auto difference = scaled(s->many, ScalarOp::sub, where);
        if (!difference) continue;
        TileStep joined = step;
        joined.kind = Kind::norm;
        joined.op1 = divides;
        set(joined, 0, difference->many), set(joined, 1, difference->one), set(joined, 2, s->one);
        set(joined, 3, factor), set(joined, 4, shift);
        step = joined;
        return true;
      }
    }
    return false;
  }

  bool join_fold(size_t n) {
    TileStep& step = steps_[n];
    if (step.kind != Kind::fold || step.fold != TileFold::add || value(step.out).lane != Lane::f32) return false;
    const TileStep* product = made_by(step.read[0], ScalarOp::mul);
    if (!product || !absorbable(step.read[0]) || !is_many(product->read[0], Spread::full) ||
        !is_many(product->read[1], Spread::full))
      return false;
    TileStep joined = step;
    const auto difference =
        product->read[0] == product->read[1] ? scaled(product->read[0], ScalarOp::sub, Spread::full, 2) : std::nullopt;
    if (difference) {
      joined.kind = Kind::fold_centred;
      joined.loop = e_.table->fold_centred;
      set(joined, 0, difference->many), set(joined, 1, difference->one);
    } else {
      joined.kind = Kind::fold_product;
      joined.loop = e_.table->fold_product;
      const auto [a, b] = std::pair(product->read[0], product->read[1]);
      set(joined, 0, a), set(joined, 1, b);
    }
    step = joined;
    return true;
  }

  bool join_pair(size_t n) {
    TileStep& step = steps_[n];
    if (step.kind != Kind::binary || value(step.out).lane != Lane::f32) return false;
    const int op2 = step.op == ScalarOp::add   ? 0
                    : step.op == ScalarOp::mul ? 1
                    : step.op == ScalarOp::min ? 2
                    : step.op == ScalarOp::max ? 3
                                               : -1;
    if (op2 < 0) return false;
    const Spread where = value(step.out).spread;
    for (int side = 0; side < 2; ++side) {
      const uint16_t inner = step.read[side], other = step.read[1 - side];
      if (inner == other || value(inner).spread != where || !absorbable(inner)) continue;
      for (const ScalarOp op : {ScalarOp::add, ScalarOp::sub, ScalarOp::mul}) {
        const TileStep* first = made_by(inner, op);
        if (!first) continue;
        uint16_t a = first->read[0], b = first->read[1];
        if (!is_many(a, where) && op != ScalarOp::sub) std::swap(a, b);
        if (!is_many(a, where)) continue;
        TileStep joined = step;
        joined.kind = Kind::pair;
        joined.op1 = op == ScalarOp::add ? 0 : op == ScalarOp::sub ? 1 : 2;
        joined.op2 = static_cast<uint8_t>(op2);
        set(joined, 0, a), set(joined, 1, b), set(joined, 2, other);
        step = joined;
        return true;
      }
    }
    return false;
  }

  static bool is_per_row(Spread s) { return s == Spread::row || s == Spread::scalar; }
  static void set(TileStep& step, int k, uint16_t v) {
    step.read[k] = v;
    step.reads = static_cast<uint8_t>(step.reads | 1 << k);
  }

  const TileExecutor& e_;
  std::vector<TileStep>& steps_;
  std::vector<bool> alive_;
  std::vector<uint16_t> uses_;
  std::vector<int32_t> maker_, reader_;
};

}  // namespace

void join_steps(const TileExecutor& executor, std::vector<TileStep>& steps) { Joiner(executor, steps).run(); }

}  // namespace sinter::cpu
