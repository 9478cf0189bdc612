// Emits the function of a planned tile program.
//
//   scalars; columns that are computed, into scratch
//   for each row, or two:  for each pass:  values per row;  for each vector of the row: values per element
//
// Scalars and values per row stand in all lanes of a register, values per element live for one vector; those that a
// later pass reads lie in scratch for the row's length. Reductions take turns over four registers, as the loops of
// isa/tile_loops.inc do. Where a row is one long chain (reductions, elementary functions on short rows), two rows are
// computed side by side: of a pack of vectors the first half is of one row, the second of the next.
#include <cstddef>
#include <limits>

#include "backend/cpu/device.h"
#include "backend/cpu/jit/tile_code.h"
#include "backend/cpu/jit/tile_steps.h"
#include "backend/cpu/jit/tile_taken.h"
#include "backend/cpu/tile_plan.h"

namespace sinter::cpu::jit {
namespace {

using Kind = TileStep::Kind;

// Instructions of a step, roughly.
int weight(const TileStep& step) {
  switch (step.kind) {
    case Kind::function: return 20;
    case Kind::loop: return step.op >= ScalarOp::exp && step.op <= ScalarOp::sigmoid ? 20 : 1;
    case Kind::norm: return 4;
    default: return 1;
  }
}

class TileCompiler : private TileSteps {
 public:
  using TileSteps::TileSteps;

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
    out->parts = static_cast<int>(parts_.size());
    return out;
  }

 private:
  static constexpr int sums = 4;  // that take turns in a reduction

  // ---- the frame ----

  void emit() {
    asmjit::FuncNode* function = cc_.addFunc(asmjit::FuncSignatureT<void, const void*>());
    function->frame().setAvxEnabled();
    if (s_.wide) function->frame().setAvx512Enabled();
    function->frame().setAvxCleanup();
    pairs_ = has_pairs();
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
    const asmjit::Label two = cc_.newLabel(), one = cc_.newLabel(), done = cc_.newLabel();
    if (pairs_) {
      // Rows stay in the first-level cache, also two by two.
      const int64_t values = std::ssize(places_) + e_.kept_count;
      cc_.cmp(cols_, static_cast<int>(24 * 1024 / (2 * 4 * values)));
      cc_.jg(one);
      cc_.bind(two);
      cc_.cmp(rows, 2);
      cc_.jl(one);
      emit_rows(2);
      cc_.sub(rows, 2);
      cc_.jmp(two);
    }
    cc_.bind(one);
    cc_.test(rows, rows);
    cc_.jz(done);
    emit_rows(1);
    cc_.dec(rows);
    cc_.jmp(one);
    cc_.bind(done);
    cc_.ret();
    s_.emit_later();
    cc_.endFunc();
    s_.emit_pool();
  }

  // Whether two rows are worth having side by side.
  bool has_pairs() const {
    if (e_.slot_count + e_.spare_count > many_live()) return false;
    bool heavy = false;
    for (const TilePass& pass : e_.passes) heavy = heavy || is_heavy(pass);
    return e_.reduces || (heavy && !e_.flattens);
  }
  int many_live() const { return s_.wide ? 4 : 2; }
  static bool is_heavy(const TilePass& pass) {
    int total = 0;
    for (const TileStep& step : pass.tiles) total += weight(step);
    return total > 8;
  }

  void emit_rows(int count) {
    rows_ = pack_ = count;
    for (size_t v = 0; v < held_.size(); ++v)
      if (e_.values[v].spread == Spread::row) {
        held_[v] = Pack();
        divisors_[v].reset();
      }
    if (rows_ == 2)
      for (Place& place : places_)
        if (place.moves) {
          place.next = s_.gp();
          cc_.lea(place.next, x86::ptr(place.at, place.row));
        }
    for (const TilePass& pass : e_.passes) {
      for (const TileStep& step : pass.rows) run_step(step, Where::row);
      if (pass.tiles.empty()) continue;
      prepare_divisors(pass.tiles, Where::row);
      tile_loop(pass);
    }
    for (const Place& place : places_)
      for (int r = 0; r < rows_ && place.moves; ++r) cc_.add(place.at, place.row);
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
    const int parts = e_.column_count + e_.kept_count * (pairs_ ? 2 : 1);
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

  // The body for every vector of the row: `count` vectors at a time in packs of `pack`; what is left in packs of
  // `last`, with tails.
  template <typename F>
  void over_row(int count, int pack, int last, F body, bool pairs_at_end = false) {
    const int step = count * s_.lanes;
    const asmjit::Label whole = cc_.newLabel(), rest = cc_.newLabel(), part = cc_.newLabel(), done = cc_.newLabel();
    const x86::Gp limit = s_.gp();
    cc_.mov(limit, cols_);
    cc_.sub(limit, step);
    cc_.xor_(i_.r32(), i_.r32());
    cc_.cmp(i_, limit);
    cc_.jg(rest);
    cc_.bind(whole);
    pack_ = pack * rows_;
    for (first_ = 0; first_ < count; first_ += pack) {
      body();
      leave_vector();
    }
    first_ = 0;
    pack_ = last * rows_;
    cc_.add(i_, step);
    cc_.cmp(i_, limit);
    cc_.jle(whole);
    cc_.bind(rest);
    if (pairs_at_end) {
      // Panels of contractions are two vectors wide: those need no masks.
      const asmjit::Label less = cc_.newLabel();
      cc_.add(limit, step - last * s_.lanes);
      cc_.cmp(i_, limit);
      cc_.jg(less);
      body();
      leave_vector();
      cc_.add(i_, last * s_.lanes);
      cc_.bind(less);
    }
    cc_.cmp(i_, cols_);
    cc_.jge(done);
    cc_.bind(part);
    const x86::Gp left = s_.gp();
    cc_.mov(left, cols_);
    cc_.sub(left, i_);
    Tail tails[Pack::most];
    for (int u = 0; u < last; ++u) tails[u] = s_.tail(left, u);
    tails_ = tails;
    body();
    tails_ = nullptr;
    leave_vector();
    pack_ = rows_;
    if (count > last) {
      cc_.add(i_, last * s_.lanes);
      cc_.cmp(i_, cols_);
      cc_.jl(part);
    }
    cc_.bind(done);
  }

  void column_loop() {
    bool computes = false;
    for (const TileStep& step : e_.columns) computes = computes || !step.is_load();
    if (!computes) return;
    over_row(1, 1, 1, [&] {
      for (const TileStep& step : e_.columns) {
        if (step.is_load()) continue;
        run_step(step, Where::column);
        const TileValue& v = e_.values[step.out];
        const Pack made = s_.in_register(held_[step.out]);
        memory_.store(DType::f32, element(parts_[v.number], DType::f32, 0), made.reg(0), tails_);
      }
    });
  }

  // ---- reductions ----

  struct Fold {
    const TileStep* step;
    Pack sums[2];  // by row
    Cond nan[2];
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
    Fold fold{&step, {}, {}};
    for (int r = 0; r < rows_; ++r) {
      fold.sums[r] = s_.copy(s_.number(neutral(step.fold)), sums);
      if (is_ordered(step)) fold.nan[r] = s_.never();
    }
    return fold;
  }

  // The pack's vectors into the sums from first_ on; what is left of a row, into the first.
  void take(const Fold& fold) {
    const TileStep& step = *fold.step;
    const Pack a = s_.in_register(value(step.read[0]));
    Pack b;
    if (step.kind == Kind::fold_product) b = s_.in_register(value(step.read[1]));
    if (step.kind == Kind::fold_centred) b = s_.sub(a, value(step.read[1]));
    for (int u = 0; u < pack_; ++u) {
      const int r = u / columns(), column = u % columns();
      const Pack sum = fold.sums[r].reg(tails_ ? 0 : first_ + column);
      const Pack to = tails_ ? s_.copy(sum) : sum;
      switch (step.kind) {
        case Kind::fold_product: s_.accumulate(to, a.reg(u), b.reg(u)); break;
        case Kind::fold_centred: s_.accumulate(to, b.reg(u), b.reg(u)); break;
        default: cc_.emit(instruction(step.fold), to.reg(0), to.reg(0), a.at(u)); break;
      }
      if (tails_) s_.overwrite(sum, tails_[column].mask, to);
    }
    if (!is_ordered(step)) return;
    // NaN shows once in the comparison of two.
    for (int u = 0; u < pack_;) {
      const int r = u / columns();
      const bool two = !tails_ && u % columns() + 1 < columns();
      s_.join(fold.nan[r], s_.compare(a.reg(u), Compare::nan, a.reg(two ? u + 1 : u),
                                      tails_ ? &tails_[u % columns()].mask : nullptr));
      u += two ? 2 : 1;
    }
  }

  void end_fold(const Fold& fold) {
    const TileStep& step = *fold.step;
    const InstId id = instruction(step.fold);
    const auto both = [&](const Vec& a, const Vec& b) { return s_.op(id, a, b).reg(0); };
    Pack all;
    for (int r = 0; r < rows_; ++r) {
      const Pack& sum = fold.sums[r];
      all.push(s_.across(id, both(both(sum.reg(0), sum.reg(1)), both(sum.reg(2), sum.reg(3)))));
    }
    for (int r = 0; r < rows_ && is_ordered(step); ++r) {
      const asmjit::Label is_nan = cc_.newLabel(), back = cc_.newLabel();
      s_.test(fold.nan[r]);
      cc_.jnz(is_nan);
      cc_.bind(back);
      s_.later([this, v = all.reg(r), is_nan, back] {
        cc_.bind(is_nan);
        cc_.vmovaps(v, s_.in_register(s_.word(0x7fc00000u)).reg(0));
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
    const bool heavy = is_heavy(pass);
    // Elementary functions are long chains: vectors side by side, as many as registers hold.
    const int pack = e_.slot_count + e_.spare_count > many_live() || rows_ == 2 ? 2 : 4;
    const int count = !pass.folds.empty() ? sums : heavy ? pack : 2;
    prefetch_ = &pass == &e_.passes[0] && (heavy || !pass.folds.empty());
    if (prefetch_) place_ahead();
    std::vector<Fold> folds;
    for (uint16_t f : pass.folds) folds.push_back(begin_fold(pass.tiles[f]));
    const int last = heavy && rows_ == 1 ? 2 : 1;
    const auto body = [&] {
      size_t fold = 0;
      for (const TileStep& step : pass.tiles) {
        if (step.is_fold())
          take(folds[fold++]);
        else if (!step.is_store())
          run_step(step, Where::full);
      }
      // Results may lie on operands: everything is loaded before anything is stored.
      for (const TileStep& step : pass.tiles)
        if (step.is_store()) value(step.read[0]);
      for (const TileStep& step : pass.tiles)
        if (step.is_store()) run_step(step, Where::full);
    };
    over_row(count, heavy || rows_ == 2 ? pack : count, last, body, count == 4 && last == 2 && pass.folds.empty());
    for (const Fold& fold : folds) end_fold(fold);
    prefetch_ = false;
  }

  // Long computations fetch the next rows of their operands, or what comes 2 KiB behind where there is one row.
  void place_ahead() {
    const x86::Gp near = s_.gp();
    cc_.mov(near, 2048);
    for (size_t n = 0; n < e_.operands.size(); ++n) {
      if (e_.operands[n].spread != Spread::full || e_.operands[n].dtype != DType::f32) continue;
      Place& place = places_[n];
      for (int r = 0; r < rows_; ++r) {
        place.ahead[r] = s_.gp();
        cc_.mov(place.ahead[r], place.row);
        if (rows_ == 2) {
          cc_.add(place.ahead[r], place.row);
        } else {
          cc_.cmp(all_rows_, 1);
          cc_.cmove(place.ahead[r], near);
        }
        cc_.add(place.ahead[r], place.of(r));
      }
    }
  }

  x86::Gp cols_, all_rows_;
};

}  // namespace

std::shared_ptr<const TileCode> compile_tiles(const TileExecutor& executor, uint8_t level) {
  if (level < avx2 || !is_taken(executor)) return nullptr;
  return TileCompiler(executor, level >= avx512, level >= avx512_bf16).run();
}

}  // namespace sinter::cpu::jit
