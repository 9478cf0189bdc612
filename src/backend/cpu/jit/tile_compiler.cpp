// Emits the function of a planned tile program.
//
//   scalars; columns that are computed, into scratch
//   for each row:  for each pass:  values per row;  for each vector of the row: values per element
//
// Scalars and values per row stand in all lanes of a register, values per element live for one vector; those that a
// later pass reads lie in scratch for the row's length. Reductions take turns over four registers, as the loops of
// isa/tile_loops.inc do.
#include <bit>
#include <cmath>
#include <cstddef>
#include <limits>
#include <optional>

#include "backend/cpu/device.h"
#include "backend/cpu/isa/tile_terms.h"
#include "backend/cpu/jit/tile_code.h"
#include "backend/cpu/jit/tile_memory.h"
#include "backend/cpu/jit/tile_taken.h"
#include "backend/cpu/tile_plan.h"

namespace sinter::cpu::jit {
namespace {

using Kind = TileStep::Kind;

int width_of(DType dtype) { return bit_size(dtype) / 8; }
unsigned shift_of(DType dtype) {
  return static_cast<unsigned>(std::countr_zero(static_cast<unsigned>(width_of(dtype))));
}

// Instructions of a step, roughly.
int weight(const TileStep& step) {
  switch (step.kind) {
    case Kind::function: return 20;
    case Kind::loop: return step.op >= ScalarOp::exp && step.op <= ScalarOp::sigmoid ? 20 : 1;
    case Kind::norm: return 4;
    default: return 1;
  }
}

// ---- emitting ----

class TileCompiler {
 public:
  TileCompiler(const TileExecutor& e, bool wide)
      : e_(e),
        s_(wide),
        cc_(s_.cc),
        memory_(s_),
        held_(e.values.size()),
        conditions_(e.values.size()),
        divisors_(e.values.size()),
        loads_(e.values.size(), nullptr) {}

  std::shared_ptr<const TileCode> run() {
    emit();
    if (s_.failed() || cc_.finalize() != asmjit::kErrorOk || s_.code.flatten() != asmjit::kErrorOk ||
        s_.code.resolveUnresolvedLinks() != asmjit::kErrorOk || s_.failed())
      return nullptr;
    auto out = std::make_shared<TileCode>();
    const size_t bytes = s_.code.codeSize();
    out->memory = MachineCode::make(bytes, [&](void* to) {
      return s_.code.relocateToBase(reinterpret_cast<uint64_t>(to)) == asmjit::kErrorOk &&
             s_.code.copyFlattenedData(to, bytes) == asmjit::kErrorOk;
    });
    if (!out->memory) return nullptr;
    out->run = reinterpret_cast<void (*)(const TileCall*)>(reinterpret_cast<uintptr_t>(out->memory->entry()));
    out->parts = e_.column_count + e_.kept_count;
    return out;
  }

 private:
  // Where the values of a step are computed, as in the interpreter.
  using Where = Spread;
  static constexpr int sums = 4;  // that take turns in a reduction

  // A divisor that is one number for many: its reciprocal, and whether dividing by it may use that.
  struct Divisor {
    Pack inverse;
    x86::Gp well;                // nonzero: it may
    std::optional<bool> always;  // known now
  };

  struct Place {
    x86::Gp at, row, ahead;  // row: bytes from row to row
    bool moves = false;
  };

  // ---- the frame ----

  void emit() {
    asmjit::FuncNode* function = cc_.addFunc(asmjit::FuncSignatureT<void, const void*>());
    function->frame().setAvxEnabled();
    if (s_.wide) function->frame().setAvx512Enabled();
    function->frame().setAvxCleanup();
    const x86::Gp call = s_.gp();
    function->setArg(0, call);
    const auto field = [&](size_t offset) { return x86::ptr_64(call, static_cast<int32_t>(offset)); };
    const x86::Gp rows = s_.gp();
    all_rows_ = s_.gp();
    cols_ = s_.gp();
    i_ = s_.gp();
    cc_.mov(cols_, field(offsetof(TileCall, cols)));
    cc_.mov(rows, field(offsetof(TileCall, rows)));
    cc_.mov(all_rows_, rows);
    place_buffers(field);
    for (const TileStep& step : e_.columns)
      if (step.is_load()) loads_[step.out] = &step;
    for (const TileStep& step : e_.scalars) run_step(step, Where::scalar);
    prepare_divisors(e_.columns, Where::column);
    for (const TilePass& pass : e_.passes) {
      prepare_divisors(pass.rows, Where::row);
      prepare_divisors(pass.tiles, Where::scalar);
    }
    column_loop();
    // What is left of the registers holds numbers.
    const int taken = e_.scalar_count + e_.row_count;
    s_.hoist_here();
    s_.hoist(std::max(0, (s_.wide ? 18 : 5) - taken));
    const asmjit::Label next = cc_.newLabel();
    cc_.bind(next);
    for (const TilePass& pass : e_.passes) {
      for (const TileStep& step : pass.rows) run_step(step, Where::row);
      if (pass.tiles.empty()) continue;
      prepare_divisors(pass.tiles, Where::row);
      tile_loop(pass);
    }
    for (const Place& place : places_)
      if (place.moves) cc_.add(place.at, place.row);
    cc_.dec(rows);
    cc_.jnz(next);
    cc_.ret();
    s_.emit_later();
    cc_.endFunc();
    s_.emit_pool();
  }

  template <typename F>
  void place_buffers(F field) {
    const x86::Gp buffers = s_.gp(), row = s_.gp();
    cc_.mov(buffers, field(offsetof(TileCall, buffers)));
    cc_.mov(row, field(offsetof(TileCall, row)));
    const auto add = [&](size_t n, const TileOperand& o) {
      Place place;
      place.at = s_.gp();
      const auto at = static_cast<int32_t>(n * sizeof(TileBuffer));
      cc_.mov(place.at, x86::ptr_64(buffers, at + static_cast<int32_t>(offsetof(TileBuffer, data))));
      if (o.spread == Spread::full || o.spread == Spread::row) {
        place.moves = true;
        place.row = s_.gp();
        cc_.mov(place.row, x86::ptr_64(buffers, at + static_cast<int32_t>(offsetof(TileBuffer, row_stride))));
        if (shift_of(o.dtype) > 0) cc_.shl(place.row, shift_of(o.dtype));
        const x86::Gp offset = s_.gp();
        cc_.mov(offset, row);
        cc_.imul(offset, place.row);
        cc_.add(place.at, offset);
      }
      places_.push_back(place);
    };
    for (size_t n = 0; n < e_.operands.size(); ++n) add(n, e_.operands[n]);
    for (size_t n = 0; n < e_.results.size(); ++n) add(e_.operands.size() + n, e_.results[n]);
    const int parts = e_.column_count + e_.kept_count;
    if (parts == 0) return;
    x86::Gp at = s_.gp();
    const x86::Gp part = s_.gp();
    cc_.mov(at, field(offsetof(TileCall, scratch)));
    cc_.mov(part, field(offsetof(TileCall, part)));
    for (int n = 0; n < parts; ++n) {
      parts_.push_back(at);
      const x86::Gp next = s_.gp();
      cc_.mov(next, at);
      cc_.add(next, part);
      at = next;
    }
  }

  const Place& result(uint16_t n) const { return places_[e_.operands.size() + n]; }

  // ---- loops over a row ----

  // Of the u-th vector of the pack that is being emitted.
  x86::Mem element(const x86::Gp& base, DType dtype, int u) const {
    return x86::ptr(base, i_, shift_of(dtype), (first_ + u) * s_.lanes * width_of(dtype));
  }

  // body(first, n, tails) for every vector of the row: `count` vectors at a time in packs of n, the first of which is
  // the iteration's vector `first`; what is left in packs of `last`, with tails.
  template <typename F>
  void over_row(int count, int pack, int last, F body) {
    const int step = count * s_.lanes;
    const asmjit::Label whole = cc_.newLabel(), rest = cc_.newLabel(), part = cc_.newLabel(), done = cc_.newLabel();
    const x86::Gp limit = s_.gp();
    cc_.mov(limit, cols_);
    cc_.sub(limit, step);
    cc_.xor_(i_.r32(), i_.r32());
    cc_.cmp(i_, limit);
    cc_.jg(rest);
    cc_.bind(whole);
    pack_ = pack;
    for (first_ = 0; first_ < count; first_ += pack) {
      body(first_, pack, nullptr);
      leave_vector();
    }
    first_ = 0;
    pack_ = last;
    cc_.add(i_, step);
    cc_.cmp(i_, limit);
    cc_.jle(whole);
    cc_.bind(rest);
    cc_.cmp(i_, cols_);
    cc_.jge(done);
    cc_.bind(part);
    const x86::Gp left = s_.gp();
    cc_.mov(left, cols_);
    cc_.sub(left, i_);
    Tail tails[Pack::most];
    for (int u = 0; u < last; ++u) tails[u] = s_.tail(left, u);
    tails_ = tails;
    body(0, last, tails);
    tails_ = nullptr;
    leave_vector();
    if (count > last) {
      cc_.add(i_, last * s_.lanes);
      cc_.cmp(i_, cols_);
      cc_.jl(part);
    }
    cc_.bind(done);
  }

  void leave_vector() {
    for (uint16_t v : in_vector_) {
      held_[v] = Pack();
      conditions_[v].reset();
    }
    in_vector_.clear();
  }
  void hold(uint16_t v, const Pack& value) {
    held_[v] = value;
    const Spread spread = e_.values[v].spread;
    if (spread == Spread::full || spread == Spread::column) in_vector_.push_back(v);
  }

  void column_loop() {
    bool computes = false;
    for (const TileStep& step : e_.columns) computes = computes || !step.is_load();
    if (!computes) return;
    over_row(1, 1, 1, [&](int, int, const Tail*) {
      for (const TileStep& step : e_.columns) {
        if (step.is_load()) continue;
        run_step(step, Where::column);
        const TileValue& v = e_.values[step.out];
        store_pack(parts_[v.number], DType::f32, held_[step.out]);
      }
    });
  }

  // ---- reductions ----

  struct Fold {
    const TileStep* step;
    Pack sums;
    Cond nan;
  };

  static float neutral(TileFold kind) {
    constexpr float inf = std::numeric_limits<float>::infinity();
    return kind == TileFold::add ? 0.0f : kind == TileFold::mul ? 1.0f : kind == TileFold::min ? inf : -inf;
  }
  static InstId instruction(TileFold kind) {
    return kind == TileFold::add   ? Inst::kIdVaddps
           : kind == TileFold::mul ? Inst::kIdVmulps
           : kind == TileFold::min ? Inst::kIdVminps
                                   : Inst::kIdVmaxps;
  }
  static bool is_ordered(const TileStep& step) { return step.fold == TileFold::min || step.fold == TileFold::max; }

  Fold begin_fold(const TileStep& step) {
    Fold fold{&step, s_.copy(s_.number(neutral(step.fold)), sums), {}};
    if (is_ordered(step)) fold.nan = s_.never();
    return fold;
  }

  // n vectors into the sums from `first` on; what is left of a row, into the first.
  void take(const Fold& fold, int first, int n, const Tail* tails) {
    const TileStep& step = *fold.step;
    const Pack a = s_.in_register(value(step.read[0]));
    Pack b;
    if (step.kind == Kind::fold_product) b = s_.in_register(value(step.read[1]));
    if (step.kind == Kind::fold_centred) b = s_.sub(a, value(step.read[1]));
    for (int u = 0; u < n; ++u) {
      const Pack sum = fold.sums.reg(tails ? 0 : first + u);
      const Pack to = tails ? s_.copy(sum) : sum;
      switch (step.kind) {
        case Kind::fold_product: s_.accumulate(to, a.reg(u), b.reg(u)); break;
        case Kind::fold_centred: s_.accumulate(to, b.reg(u), b.reg(u)); break;
        default: cc_.emit(instruction(step.fold), to.reg(0), to.reg(0), a.at(u)); break;
      }
      if (tails) s_.overwrite(sum, tails[u].mask, to);
    }
    if (!is_ordered(step)) return;
    // NaN shows once in the comparison of two.
    for (int u = 0; u < a.n; u += tails ? 1 : 2)
      s_.join(fold.nan, s_.compare(a.reg(u), Compare::nan, a.reg(tails ? u : std::min(u + 1, a.n - 1)),
                                   tails ? &tails[u].mask : nullptr));
  }

  void end_fold(const Fold& fold) {
    const TileStep& step = *fold.step;
    const InstId id = instruction(step.fold);
    const auto both = [&](const Vec& a, const Vec& b) { return s_.op(id, a, b).reg(0); };
    const Pack& sum = fold.sums;
    Pack all = s_.across(id, both(both(sum.reg(0), sum.reg(1)), both(sum.reg(2), sum.reg(3))));
    if (is_ordered(step)) {
      const asmjit::Label is_nan = cc_.newLabel(), back = cc_.newLabel();
      s_.test(fold.nan);
      cc_.jnz(is_nan);
      cc_.bind(back);
      s_.later([this, all, is_nan, back] {
        cc_.bind(is_nan);
        const Pack nan = s_.in_register(s_.word(0x7fc00000u));
        cc_.vmovaps(all.reg(0), nan.reg(0));
        cc_.jmp(back);
      });
    }
    if (step.mean) {
      const x86::Xmm cols = cc_.newXmm();
      cc_.vxorps(cols, cols, cols);
      cc_.vcvtsi2ss(cols, cols, cols_);
      const Vec length = s_.vec();
      cc_.vbroadcastss(length, cols);
      all = s_.div(all, length);
    }
    held_[step.out] = all;
  }

  void tile_loop(const TilePass& pass) {
    int total = 0;
    for (const TileStep& step : pass.tiles) total += weight(step);
    const bool heavy = total > 8;
    // Elementary functions are long chains: vectors side by side, as many as registers hold.
    const int live = e_.slot_count + e_.spare_count;
    const int pack = live > (s_.wide ? 4 : 2) ? 2 : 4;
    const int count = !pass.folds.empty() ? sums : heavy ? pack : 2;
    prefetch_ = &pass == &e_.passes[0] && (heavy || !pass.folds.empty());
    if (prefetch_) place_ahead();
    std::vector<Fold> folds;
    for (uint16_t f : pass.folds) folds.push_back(begin_fold(pass.tiles[f]));
    over_row(count, heavy ? pack : count, heavy ? 2 : 1, [&](int first, int n, const Tail* tails) {
      size_t fold = 0;
      for (const TileStep& step : pass.tiles) {
        if (step.is_fold())
          take(folds[fold++], first, n, tails);
        else if (!step.is_store())
          run_step(step, Where::full);
      }
      // Results may lie on operands: everything is loaded before anything is stored.
      for (const TileStep& step : pass.tiles)
        if (step.is_store()) value(step.read[0]);
      for (const TileStep& step : pass.tiles) {
        if (step.is_store()) run_step(step, Where::full);
      }
    });
    for (const Fold& fold : folds) end_fold(fold);
    prefetch_ = false;
  }

  // Long computations fetch the next row of their operands, or what comes 2 KiB behind where there is one row.
  void place_ahead() {
    const x86::Gp near = s_.gp();
    cc_.mov(near, 2048);
    for (size_t n = 0; n < e_.operands.size(); ++n) {
      if (e_.operands[n].spread != Spread::full || e_.operands[n].dtype != DType::f32) continue;
      Place& place = places_[n];
      place.ahead = s_.gp();
      cc_.mov(place.ahead, place.row);
      cc_.cmp(all_rows_, 1);
      cc_.cmove(place.ahead, near);
      cc_.add(place.ahead, place.at);
    }
  }

  // ---- values ----

  Pack value(uint16_t v) {
    if (!held_[v].is_none()) return held_[v];
    if (conditions_[v]) return held_[v] = s_.truth(*conditions_[v]);
    const TileValue& of = e_.values[v];
    if (of.home == Home::constant) return s_.number(constant(v));
    Pack made;
    if (of.spread == Spread::column) {
      const TileStep* load = loads_[v];
      made = load ? load_pack(places_[load->index].at, load->dtype, of.lane) : load_pack(parts_[of.number], DType::f32);
    } else {
      made = load_pack(of.home == Home::operand ? places_[of.number].at : kept(of), DType::f32);
      if (of.home == Home::operand && prefetch_ && !tails_)
        for (int u = 0; u < pack_; u += s_.wide ? 1 : 2)
          cc_.prefetcht0(element(places_[of.number].ahead, DType::f32, u));
    }
    hold(v, made);
    return made;
  }

  const Tail* tail(int u) const { return tails_ ? tails_ + u : nullptr; }

  Pack load_pack(const x86::Gp& base, DType dtype, Lane lane = Lane::f32) {
    Pack out;
    for (int u = 0; u < pack_; ++u) {
      const x86::Mem at = element(base, dtype, u);
      out.push(lane == Lane::i64 ? memory_.load_words(dtype, at, tail(u)) : memory_.load(dtype, at, tail(u)));
    }
    return out;
  }
  void store_pack(const x86::Gp& base, DType dtype, const Pack& value, Lane lane = Lane::f32) {
    const Pack v = s_.in_register(value);
    for (int u = 0; u < pack_; ++u) {
      const x86::Mem at = element(base, dtype, u);
      if (lane == Lane::i64)
        memory_.store_words(width_of(dtype), at, v.reg(u), tail(u));
      else
        memory_.store(dtype, at, v.reg(u), tail(u));
    }
  }

  const x86::Gp& kept(const TileValue& v) const { return parts_[static_cast<size_t>(e_.column_count + v.number)]; }
  float constant(uint16_t v) const {
    return std::bit_cast<float>(static_cast<uint32_t>(e_.constants[e_.values[v].number]));
  }
  bool is_constant(uint16_t v) const { return e_.values[v].home == Home::constant; }

  // ---- divisors ----

  // Those of steps at `where`; made outside of the loops that divide.
  void prepare_divisors(const std::vector<TileStep>& steps, Where level) {
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

  Divisor divisor(uint16_t v) {
    Divisor d;
    if (is_constant(v)) {
      const float c = constant(v);
      d.inverse = s_.number(1.0f / c);
      d.always = c > divides_well_above && c < divides_well_below;
      return d;
    }
    const Pack x = value(v);
    d.inverse = s_.div(s_.number(1), x);
    d.well = cc_.newInt32();
    cc_.xor_(d.well, d.well);
    s_.test(s_.both(s_.compare(x, Compare::greater, s_.number(divides_well_above)),
                    s_.compare(x, Compare::less, s_.number(divides_well_below))));
    cc_.setnz(d.well.r8());
    return d;
  }

  Pack divide(const Pack& a, uint16_t by, Where where) {
    const Pack b = s_.in_register(value(by));
    const std::optional<Divisor>& d = divisors_[by];
    if (!d || !splats(e_.values[by], where) || (d->always && !*d->always)) return s_.div(a, b);
    const Pack x = s_.in_register(a);
    const asmjit::Label exact = cc_.newLabel(), back = cc_.newLabel();
    if (!d->always) {
      cc_.test(d->well, d->well);
      cc_.jz(exact);
    }
    const Pack out = s_.mul(x, d->inverse);
    const Pack better = s_.fused_from(s_.fused_minus(out, b, x), d->inverse, out);
    s_.overwrite(out, s_.compare(better, Compare::not_nan, better), better);
    if (!d->always) {
      cc_.bind(back);
      s_.later([this, exact, back, out, x, b] {
        cc_.bind(exact);
        for (int u = 0; u < out.n; ++u) cc_.vdivps(out.reg(u), x.reg(u), b.reg(u));
        cc_.jmp(back);
      });
    }
    return out;
  }

  // ---- steps ----

  void run_step(const TileStep& step, Where where) {
    if (step.is_load()) return load(step, where);
    if (step.is_store()) return store(step, where);
    const Pack made = compute(step, where);
    hold(step.out, made);
    const TileValue& v = e_.values[step.out];
    if (where == Where::full && v.home == Home::kept) store_pack(kept(v), DType::f32, made);
  }

  void load(const TileStep& step, Where where) {
    const x86::Gp& at = places_[step.index].at;
    if (where == Where::column) return;  // where it is read
    const TileValue& v = e_.values[step.out];
    if (where != Where::full)
      return hold(step.out, v.lane == Lane::i64 ? memory_.load_one_word(step.dtype, x86::ptr(at))
                                                : memory_.load_one(step.dtype, x86::ptr(at)));
    const Pack made = load_pack(at, step.dtype, v.lane);
    hold(step.out, made);
    if (v.home == Home::kept) store_pack(kept(v), DType::f32, made);
  }

  void store(const TileStep& step, Where where) {
    const x86::Gp& at = result(step.index).at;
    const Pack v = value(step.read[0]);
    const Lane lane = e_.values[step.read[0]].lane;
    if (where == Where::full)
      store_pack(at, step.dtype, v, lane);
    else if (lane == Lane::i64)
      memory_.store_one_word(width_of(step.dtype), x86::ptr(at), s_.in_register(v).reg(0));
    else
      memory_.store_one(step.dtype, x86::ptr(at), s_.in_register(v).reg(0));
  }

  Pack compute(const TileStep& step, Where where) {
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

  Pack convert(const TileStep& step, const Pack& a) {
    const Lane from = e_.values[step.read[0]].lane, to = e_.values[step.out].lane;
    if (to == Lane::i64)
      return s_.wrapped(from == Lane::i64 ? a : s_.truncated(a), bit_size(step.dtype), is_signed(step.dtype));
    if (from == Lane::i64) return s_.to_real(a);
    return step.dtype == DType::f32 ? a : rounded(step.dtype, s_.in_register(a));
  }

  Pack rounded(DType dtype, const Pack& a) {
    Pack out;
    for (int u = 0; u < a.n; ++u) out.push(memory_.rounded_to(dtype, a.reg(u)));
    return out;
  }

  Pack unary(ScalarOp op, const Pack& a, uint16_t out) {
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
        return truth(out,
                     s_.compare(s_.absolute(a), Compare::equal, s_.number(std::numeric_limits<float>::infinity())));
      default: return truth(out, s_.compare(a, Compare::equal, s_.number(0)));  // logical_not
    }
  }

  // The value of a condition: a number only when somebody wants one.
  Pack truth(uint16_t out, const Cond& c) {
    const TileValue& v = e_.values[out];
    if (v.spread != Spread::full || v.home == Home::kept) return s_.truth(c);
    conditions_[out] = c;
    return {};
  }
  Cond truth_of(uint16_t v) {
    if (conditions_[v]) return *conditions_[v];
    return s_.compare(value(v), Compare::not_equal, s_.number(0));
  }

  Pack binary(const TileStep& step, Where where) {
    const uint16_t a = step.read[0], b = step.read[1];
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
  Pack extreme(InstId id, const Pack& a, const Pack& b, const uint16_t* one) {
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

  Pack pair(const TileStep& step, Where where) {
    const Pack a = value(step.read[0]), b = value(step.read[1]), c = value(step.read[2]);
    if (step.op1 == 2 && step.op2 == 0) return s_.fused(a, b, c);
    const Pack x = step.op1 == 0 ? s_.add(a, b) : step.op1 == 1 ? s_.sub(a, b) : s_.mul(a, b);
    if (step.op2 == 0) return s_.add(x, c);
    if (step.op2 == 1) return s_.mul(x, c);
    const bool one = splats(e_.values[step.read[2]], where);
    return extreme(step.op2 == 2 ? Inst::kIdVminps : Inst::kIdVmaxps, x, c, one ? &step.read[2] : nullptr);
  }

  Pack function(const TileStep& step) {
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

  const TileExecutor& e_;
  Assembly s_;
  x86::Compiler& cc_;
  TileMemoryCode memory_;
  x86::Gp cols_, i_, all_rows_;
  // What is being emitted: vectors [first, first + pack) of an iteration.
  int first_ = 0, pack_ = 1;
  const Tail* tails_ = nullptr;
  bool prefetch_ = false;
  std::vector<Place> places_;   // operands, then results
  std::vector<x86::Gp> parts_;  // of scratch: columns, then kept values
  std::vector<Pack> held_;      // by value; none where it is not in a register
  std::vector<std::optional<Cond>> conditions_;
  std::vector<std::optional<Divisor>> divisors_;
  std::vector<const TileStep*> loads_;  // of columns
  std::vector<uint16_t> in_vector_;     // values of the vector that is being emitted
};

}  // namespace

std::shared_ptr<const TileCode> compile_tiles(const TileExecutor& executor, uint8_t level) {
  if (level < avx2 || !is_taken(executor)) return nullptr;
  return TileCompiler(executor, level >= avx512).run();
}

}  // namespace sinter::cpu::jit
