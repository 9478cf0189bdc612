// Plans a tile program: chooses loops, cuts passes, assigns places. tile_join.cpp joins steps in between.

#include "backend/cpu/tile_plan.h"

#include <fmt/core.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <mutex>
#include <string>
#include <unordered_map>

#include "backend/cpu/device.h"
#include "base/checked.h"

namespace sinter::cpu {

TileMemory tile_memory(DType dtype) {
  static_assert(static_cast<int>(TileMemory::boolean) == static_cast<int>(DType::boolean) &&
                static_cast<int>(TileMemory::i64) == static_cast<int>(DType::i64) &&
                static_cast<int>(TileMemory::f64) == static_cast<int>(DType::f64));
  return dtype <= DType::f64 ? static_cast<TileMemory>(dtype) : TileMemory::none;
}

const TileTable& tile_table(uint8_t level) {
#ifdef SINTER_X86
  if (level >= avx512_bf16) return tile_avx512_bf16;
  if (level == avx512) return tile_avx512;
  if (level == avx2) return tile_avx2;
#endif
  (void)level;
  return tile_portable;
}

namespace {

using Kind = TileInstruction::Kind;

bool is_narrow(DType dtype) {
  return dtype == DType::f8e4m3fn || dtype == DType::f8e4m3fnuz || dtype == DType::f8e5m2 || dtype == DType::f8e5m2fnuz;
}

TileUnary unary_of(ScalarOp op) {
  switch (op) {
    case ScalarOp::neg: return TileUnary::neg;
    case ScalarOp::abs: return TileUnary::abs;
    case ScalarOp::sign: return TileUnary::sign;
    case ScalarOp::floor: return TileUnary::floor;
    case ScalarOp::ceil: return TileUnary::ceil;
    case ScalarOp::trunc: return TileUnary::trunc;
    case ScalarOp::round: return TileUnary::round;
    case ScalarOp::sqrt: return TileUnary::sqrt;
    case ScalarOp::reciprocal: return TileUnary::reciprocal;
    case ScalarOp::exp: return TileUnary::exp;
    case ScalarOp::expm1: return TileUnary::expm1;
    case ScalarOp::log: return TileUnary::log;
    case ScalarOp::log1p: return TileUnary::log1p;
    case ScalarOp::sin: return TileUnary::sin;
    case ScalarOp::cos: return TileUnary::cos;
    case ScalarOp::tanh: return TileUnary::tanh;
    case ScalarOp::erf: return TileUnary::erf;
    case ScalarOp::sigmoid: return TileUnary::sigmoid;
    case ScalarOp::is_nan: return TileUnary::is_nan;
    case ScalarOp::is_inf: return TileUnary::is_inf;
    case ScalarOp::logical_not: return TileUnary::logical_not;
    case ScalarOp::bit_not: return TileUnary::bit_not;
    default: return TileUnary::none;
  }
}

TileBinary binary_of(ScalarOp op) {
  switch (op) {
    case ScalarOp::add: return TileBinary::add;
    case ScalarOp::sub: return TileBinary::sub;
    case ScalarOp::mul: return TileBinary::mul;
    case ScalarOp::div: return TileBinary::div;
    case ScalarOp::pow: return TileBinary::pow;
    case ScalarOp::min: return TileBinary::min;
    case ScalarOp::max: return TileBinary::max;
    case ScalarOp::equal: return TileBinary::equal;
    case ScalarOp::less: return TileBinary::less;
    case ScalarOp::less_equal: return TileBinary::less_equal;
    case ScalarOp::logical_and: return TileBinary::logical_and;
    case ScalarOp::logical_or: return TileBinary::logical_or;
    case ScalarOp::logical_xor: return TileBinary::logical_xor;
    case ScalarOp::bit_and: return TileBinary::bit_and;
    case ScalarOp::bit_or: return TileBinary::bit_or;
    case ScalarOp::bit_xor: return TileBinary::bit_xor;
    default: return TileBinary::none;
  }
}

// Whether an operator on unsigned numbers differs from the signed one.
bool cares_for_sign(ScalarOp op) {
  return op == ScalarOp::min || op == ScalarOp::max || op == ScalarOp::less || op == ScalarOp::less_equal ||
         op == ScalarOp::abs || op == ScalarOp::sign;
}

Spread join(Spread a, Spread b) {
  if (a == b || b == Spread::scalar) return a;
  return a == Spread::scalar ? b : Spread::full;
}

int64_t constant_bits(Lane lane, double value) {
  int64_t bits = 0;
  if (lane == Lane::f32) {
    const auto f = static_cast<float>(value);
    std::memcpy(&bits, &f, sizeof f);
  } else if (lane == Lane::f64) {
    std::memcpy(&bits, &value, sizeof value);
  } else {
    bits = !(value == value)                ? 0
           : value >= 9223372036854775808.0 ? std::numeric_limits<int64_t>::max()
           : value < -9223372036854775808.0 ? std::numeric_limits<int64_t>::min()
                                            : static_cast<int64_t>(value);
  }
  return bits;
}

class Planner {
 public:
  Planner(const TileProgram& program, uint8_t level) : program_(program), out_(std::make_shared<TileExecutor>()) {
    out_->table = &tile_table(level);
    out_->operands = program.operands;
    out_->results = program.results;
  }

  std::shared_ptr<TileExecutor> run() {
    translate();
    join_steps(*out_, steps_);
    cut_passes();
    choose_homes();
    arrange();
    assign_slots();
    note_buffers();
    return out_;
  }

 private:
  [[noreturn]] static void refuse(std::string what) {
    throw Error(Code::unsupported, fmt::format("a tile program cannot have {}", what));
  }

  TileValue& value(uint16_t v) { return out_->values[v]; }
  uint16_t new_value(Lane lane, Spread spread) {
    TileValue v;
    v.lane = lane;
    v.spread = spread;
    out_->values.push_back(v);
    return narrow<uint16_t>(out_->values.size() - 1, "values of a tile program");
  }
  TileStep& add(TileStep::Kind kind, std::initializer_list<uint16_t> reads) {
    TileStep step;
    step.kind = kind;
    int k = 0;
    for (uint16_t v : reads) step.read[k++] = v;
    step.reads = static_cast<uint8_t>((1 << k) - 1);
    steps_.push_back(step);
    return steps_.back();
  }

  // The value with this spread.
  uint16_t spread_to(uint16_t v, Spread spread) {
    if (value(v).spread == spread) return v;
    const uint16_t out = new_value(value(v).lane, spread);
    add(TileStep::Kind::spread, {v}).out = out;
    return out;
  }

  static Lane lane_of(const TileInstruction& i) { return i.integer ? Lane::i64 : i.wide ? Lane::f64 : Lane::f32; }

  // ---- instructions become steps ----

  void translate() {
    for (const TileInstruction& i : program_.code) {
      uint16_t made = 0;
      switch (i.kind) {
        case Kind::load: made = load(i); break;
        case Kind::constant:
          made = new_value(lane_of(i), Spread::scalar);
          value(made).home = Home::constant;
          value(made).number = narrow<uint16_t>(out_->constants.size(), "constants of a tile program");
          out_->constants.push_back(constant_bits(lane_of(i), i.value));
          break;
        case Kind::compute: made = compute(i); break;
        case Kind::convert: made = convert(i); break;
        case Kind::reduce: made = reduce(i); break;
        case Kind::store: store(i); break;
      }
      of_instruction_.push_back(made);
    }
  }

  const TileValue& value_of(uint16_t instruction) const { return out_->values[argument(instruction)]; }
  uint16_t argument(uint16_t instruction) const {
    if (instruction >= of_instruction_.size()) refuse("registers read before they are made");
    return of_instruction_[instruction];
  }

  uint16_t load(const TileInstruction& i) {
    if (i.index >= program_.operands.size()) refuse("loads of missing operands");
    const Lane lane = lane_of(i);
    const uint16_t out = new_value(lane, program_.operands[i.index].spread);
    TileStep& step = add(TileStep::Kind::load, {});
    step.out = out;
    step.index = i.index;
    step.dtype = i.dtype;
    if (is_narrow(i.dtype) && lane == Lane::f32) {
      step.kind = TileStep::Kind::load_narrow;
      return out;
    }
    const TileMemory memory = tile_memory(i.dtype);
    if (memory != TileMemory::none) step.loop = out_->table->load[static_cast<int>(memory)][static_cast<int>(lane)];
    if (!step.loop) refuse(fmt::format("loads of {}", dtype_name(i.dtype)));
    return out;
  }

  uint16_t compute(const TileInstruction& i) {
    const int arity = scalar_arity(i.op);
    const Lane lane = lane_of(i);
    uint16_t v[3] = {0, 0, 0};
    const uint16_t registers[3] = {i.a, i.b, i.c};
    Spread spread = Spread::scalar;
    for (int k = 0; k < arity; ++k) {
      v[k] = argument(registers[k]);
      if (value(v[k]).lane != lane) refuse("operators over registers of several kinds");
      spread = join(spread, value(v[k]).spread);
    }
    if (arity == 0) refuse("operators without operands");
    const int l = static_cast<int>(lane);
    const bool plain = lane != Lane::i64 || !i.is_unsigned || !cares_for_sign(i.op);
    if (i.op == ScalarOp::select && splats(value(v[0]), spread)) v[0] = spread_to(v[0], spread);
    const uint16_t out = new_value(lane, spread);
    TileStep& step = add(TileStep::Kind::element, {v[0], v[1], v[2]});
    step.reads = static_cast<uint8_t>((1 << arity) - 1);
    step.out = out;
    step.op = i.op;
    step.dtype = i.dtype;
    step.is_unsigned = i.is_unsigned;
    if (i.op == ScalarOp::select) {
      step.kind = TileStep::Kind::select;
      step.forms = &out_->table->select[l][0][0];
    } else if (arity == 1 && plain && unary_of(i.op) != TileUnary::none) {
      step.loop = out_->table->unary[l][static_cast<int>(unary_of(i.op))];
      if (step.loop) step.kind = TileStep::Kind::loop;
    } else if (arity == 2 && plain && binary_of(i.op) != TileBinary::none) {
      step.forms = out_->table->binary[l][static_cast<int>(binary_of(i.op))];
      if (step.forms[0]) step.kind = TileStep::Kind::binary;
    }
    return out;
  }

  uint16_t convert(const TileInstruction& i) {
    const uint16_t a = argument(i.a);
    const Lane from = value(a).lane, to = lane_of(i);
    const uint16_t out = new_value(to, value(a).spread);
    TileStep& step = add(TileStep::Kind::loop, {a});
    step.out = out;
    step.dtype = i.dtype;
    step.is_unsigned = i.is_unsigned;
    const TileTable& t = *out_->table;
    const TileMemory memory = tile_memory(i.dtype);
    if (i.dtype == DType::boolean) {
      if (from != to) refuse("bool conversions between register kinds");
      step.kind = TileStep::Kind::binary;
      step.op = ScalarOp::logical_or;
      step.forms = t.binary[static_cast<int>(to)][static_cast<int>(TileBinary::logical_or)];
      step.read[1] = a;
      step.reads = 0b11;
      return out;
    }
    const bool narrows = i.dtype == DType::f16 || i.dtype == DType::bf16 || is_narrow(i.dtype);
    if (memory == TileMemory::none && !narrows) refuse(fmt::format("conversions to {}", dtype_name(i.dtype)));
    if (narrows && (from != Lane::f32 || is_narrow(i.dtype))) {
      if (to == Lane::i64) refuse("integer registers of floats");
      step.kind = TileStep::Kind::round;
      return out;
    }
    const TileLoop wrap = t.wrap[static_cast<int>(memory)];
    if (narrows && from == to) {
      step.loop = wrap;
      return out;
    }
    if (from == Lane::i64 && to == Lane::i64 && wrap) {
      step.loop = wrap;
      return out;
    }
    step.loop = from == Lane::i64 && to != Lane::i64 && i.is_unsigned
                    ? t.unsigned_to_real[to == Lane::f64]
                    : t.convert[static_cast<int>(from)][static_cast<int>(to)];
    if (to == Lane::i64 || narrows) step.then = wrap;
    return out;
  }

  uint16_t reduce(const TileInstruction& i) {
    uint16_t a = argument(i.a);
    const Lane lane = value(a).lane;
    if (lane != lane_of(i)) refuse("reductions between register kinds");
    a = spread_to(a, Spread::full);
    const uint16_t out = new_value(lane, Spread::row);
    TileStep& step = add(TileStep::Kind::fold, {a});
    step.out = out;
    step.mean = i.mean;
    step.dtype = i.dtype;
    switch (i.op) {
      case ScalarOp::add: step.fold = TileFold::add; break;
      case ScalarOp::mul: step.fold = TileFold::mul; break;
      case ScalarOp::min: step.fold = TileFold::min; break;
      case ScalarOp::max: step.fold = TileFold::max; break;
      default: refuse(fmt::format("reductions by {}", scalar_op_name(i.op)));
    }
    // Narrower unsigned numbers are not negative in their registers.
    if (i.dtype == DType::u64 && step.fold != TileFold::add && step.fold != TileFold::mul)
      refuse("orders of u64 in reductions");
    if (lane == Lane::i64 && i.mean) refuse("means of integers");
    step.loop = out_->table->fold[static_cast<int>(lane)][static_cast<int>(step.fold)];
    out_->reduces = true;
    return out;
  }

  // What a store reads: it rounds, so that what was only just rounded to its dtype need not be.
  uint16_t unrounded(const TileInstruction& store) const {
    if (store.dtype != DType::f16 && store.dtype != DType::bf16) return store.a;
    argument(store.a);  // there is one
    const TileInstruction& made = program_.code[store.a];
    const bool rounds = made.kind == Kind::convert && made.dtype == store.dtype && lane_of(made) == Lane::f32;
    return rounds && value_of(made.a).lane == Lane::f32 ? made.a : store.a;
  }

  void store(const TileInstruction& i) {
    if (i.index >= program_.results.size()) refuse("stores to missing results");
    const Spread spread = program_.results[i.index].spread;
    if (spread != Spread::full && spread != Spread::row) refuse("results of one value per column");
    uint16_t a = argument(unrounded(i));
    if (spread == Spread::row && (value(a).spread == Spread::full || value(a).spread == Spread::column))
      refuse("stores of full values to results of one value per row");
    a = spread_to(a, spread);
    const Lane lane = value(a).lane;
    TileStep& step = add(TileStep::Kind::store, {a});
    step.index = i.index;
    step.dtype = i.dtype;
    if (is_narrow(i.dtype) && lane == Lane::f32) {
      step.kind = TileStep::Kind::store_narrow;
      return;
    }
    const TileMemory memory = tile_memory(i.dtype);
    if (memory != TileMemory::none) step.loop = out_->table->store[static_cast<int>(lane)][static_cast<int>(memory)];
    if (!step.loop) refuse(fmt::format("stores of {}", dtype_name(i.dtype)));
  }

  // ---- passes ----

  void cut_passes() {
    std::vector<uint16_t> ready(out_->values.size(), 0);  // first pass in which a value can be read
    for (TileStep& step : steps_) {
      step.each_read([&](uint16_t v) { step.pass = std::max(step.pass, ready[v]); });
      if (step.is_store()) continue;
      ready[step.out] = step.is_fold() ? narrow<uint16_t>(step.pass + 1, "passes of a tile program") : step.pass;
    }
    // Full operands are loaded in the pass that reads them first.
    constexpr uint16_t never = std::numeric_limits<uint16_t>::max();
    std::vector<uint16_t> first_use(out_->values.size(), never);
    for (const TileStep& step : steps_)
      step.each_read([&](uint16_t v) { first_use[v] = std::min(first_use[v], step.pass); });
    uint16_t last = 0, last_read = 0;
    std::vector<bool> loaded(out_->values.size(), false);
    for (TileStep& step : steps_) {
      if (step.is_load()) {
        loaded[step.out] = true;
        if (value(step.out).spread == Spread::full && first_use[step.out] != never) step.pass = first_use[step.out];
      }
      last = std::max<uint16_t>(last, static_cast<uint16_t>(step.pass + step.is_fold()));
      step.each_read([&](uint16_t v) {
        if (loaded[v]) last_read = std::max(last_read, step.pass);
      });
    }
    out_->passes.resize(static_cast<size_t>(last) + 1);
    // A result may lie on an operand: stores wait until every operand was read for the last time.
    for (TileStep& step : steps_)
      if (step.is_store() && value(step.read[0]).spread == Spread::full) step.pass = std::max(step.pass, last_read);
  }

  // ---- homes ----

  void choose_homes() {
    std::vector<uint16_t> made_in(out_->values.size(), 0), last_use(out_->values.size(), 0);
    for (const TileStep& step : steps_) {
      if (!step.is_store()) made_in[step.out] = step.pass;
      step.each_read([&](uint16_t v) { last_use[v] = std::max(last_use[v], step.pass); });
    }
    for (const TileStep& step : steps_) {
      if (step.is_store()) continue;
      TileValue& v = value(step.out);
      switch (v.spread) {
        case Spread::scalar:
          v.home = Home::scalar;
          v.number = out_->scalar_count++;
          break;
        case Spread::column:
          v.home = Home::column;
          v.number = out_->column_count++;
          break;
        case Spread::row:
          v.home = Home::row;
          v.number = out_->row_count++;
          break;
        case Spread::full:
          if (step.kind == TileStep::Kind::load && same_bits(v.lane, step.dtype)) {
            v.home = Home::operand;
            v.number = step.index;
            v.spare = out_->spare_count++;
            if (out_->ahead < 0 && v.lane == Lane::f32) out_->ahead = step.out;
          } else if (last_use[step.out] > made_in[step.out]) {
            v.home = Home::kept;
            v.number = out_->kept_count++;
          } else {
            v.home = Home::slot;
          }
          break;
      }
      if (v.lane != Lane::f32) out_->width = 8;
    }
    // Values computed straight into a result.
    std::vector<size_t> maker(out_->values.size(), steps_.size());
    size_t last_read = 0;
    uint16_t last_read_pass = 0;
    for (size_t n = 0; n < steps_.size(); ++n) {
      if (!steps_[n].is_store()) maker[steps_[n].out] = n;
      steps_[n].each_read([&](uint16_t v) {
        if (value(v).home != Home::operand && value(v).home != Home::column) return;
        if (steps_[n].pass < last_read_pass) return;
        last_read_pass = steps_[n].pass;
        last_read = n;
      });
    }
    for (const TileStep& step : steps_) {
      if (step.kind != TileStep::Kind::store) continue;
      TileValue& v = value(step.read[0]);
      if (v.spread != Spread::full || (v.home != Home::slot && v.home != Home::kept) || v.result >= 0 ||
          !same_bits(v.lane, step.dtype) || program_.results[step.index].spread != Spread::full)
        continue;
      v.result = static_cast<int16_t>(step.index);
      const size_t at = maker[step.read[0]];
      v.in_place = steps_[at].pass > last_read_pass || (steps_[at].pass == last_read_pass && at >= last_read);
    }
  }

  // ---- order ----

  void arrange() {
    std::vector<bool> in_tiles(out_->values.size(), false);
    const auto sort_in = [&](const TileStep& step) {
      const Spread spread = step.is_fold()    ? Spread::full
                            : step.is_store() ? value(step.read[0]).spread
                                              : value(step.out).spread;
      TilePass& pass = out_->passes[step.pass];
      switch (spread) {
        case Spread::scalar: out_->scalars.push_back(step); break;
        case Spread::column: out_->columns.push_back(step); break;
        case Spread::row: pass.rows.push_back(step); break;
        case Spread::full:
          step.each_read([&](uint16_t v) { in_tiles[v] = true; });
          if (!step.is_store() && value(step.out).home == Home::operand) break;  // nothing to do
          if (step.is_fold()) pass.folds.push_back(static_cast<uint16_t>(pass.tiles.size()));
          pass.tiles.push_back(step);
          break;
      }
    };
    for (const TileStep& step : steps_)
      if (!step.is_store()) sort_in(step);
    // Results may lie on operands: what is stored as it was loaded goes first.
    for (const bool loaded : {true, false})
      for (const TileStep& step : steps_)
        if (step.is_store() && (value(step.read[0]).home == Home::operand) == loaded) sort_in(step);
    for (uint16_t v = 0; v < out_->values.size(); ++v) {
      if (!in_tiles[v]) continue;
      if (value(v).spread == Spread::column) out_->column_values.push_back(v);
      if (value(v).spread == Spread::row) out_->row_values.push_back(v);
    }
    for (TilePass& pass : out_->passes) {
      const auto note = [&](uint16_t v) {
        if (value(v).home == Home::slot && value(v).result < 0) return;
        if (value(v).spread != Spread::full && value(v).spread != Spread::column) return;
        if (std::find(pass.moves.begin(), pass.moves.end(), v) == pass.moves.end()) pass.moves.push_back(v);
      };
      for (const TileStep& step : pass.tiles) {
        step.each_read(note);
        if (!step.is_store() && !step.is_fold()) note(step.out);
      }
    }
  }

  // Tiles are given out again after the last step that reads them. The tile of an argument of the same width may take
  // the result.
  void assign_slots() {
    for (TilePass& pass : out_->passes) {
      std::vector<size_t> last(out_->values.size(), 0);
      for (size_t n = 0; n < pass.tiles.size(); ++n) pass.tiles[n].each_read([&](uint16_t v) { last[v] = n; });
      std::vector<uint16_t> free;
      uint16_t count = 0;
      for (size_t n = 0; n < pass.tiles.size(); ++n) {
        const TileStep& step = pass.tiles[n];
        const bool makes = !step.is_store() && !step.is_fold() && value(step.out).home == Home::slot;
        std::vector<uint16_t> seen, later;  // later: of another width
        step.each_read([&](uint16_t v) {
          if (value(v).home != Home::slot || value(v).spread != Spread::full || last[v] != n) return;
          const uint16_t slot = value(v).number;
          if (std::find(seen.begin(), seen.end(), slot) != seen.end()) return;
          seen.push_back(slot);
          const bool fits = makes && lane_bytes(value(v).lane) == lane_bytes(value(step.out).lane);
          (fits ? free : later).push_back(slot);
        });
        if (makes) {
          if (free.empty()) free.push_back(count++);
          value(step.out).number = free.back();
          free.pop_back();
        }
        free.insert(free.end(), later.begin(), later.end());
      }
      out_->slot_count = std::max(out_->slot_count, count);
    }
    // Tiles in use take half of a small first-level cache.
    const int64_t tiles = std::max<int64_t>(1, out_->slot_count + out_->kept_count);
    out_->tile = std::clamp<int64_t>(24 * 1024 / (tiles * out_->width) / 64 * 64, 512, 4096);
  }

  void note_buffers() {
    uint16_t n = 0;
    for (const auto* list : {&out_->operands, &out_->results})
      for (const TileOperand& o : *list) {
        if (o.spread == Spread::full || o.spread == Spread::column) out_->dense_columns.push_back(n);
        ++n;
      }
    out_->flattens = !out_->reduces && out_->column_values.empty() && out_->row_values.empty() &&
                     std::none_of(out_->results.begin(), out_->results.end(),
                                  [](const TileOperand& o) { return o.spread == Spread::row; });
  }

  const TileProgram& program_;
  std::shared_ptr<TileExecutor> out_;
  std::vector<TileStep> steps_;
  std::vector<uint16_t> of_instruction_;
};

// All that an executor depends on.
std::string key_of(const TileProgram& program, uint8_t level) {
  std::string key;
  const auto put = [&key](const auto& v) { key.append(reinterpret_cast<const char*>(&v), sizeof v); };
  put(level);
  put(program.operands.size());
  put(program.results.size());
  for (const auto* list : {&program.operands, &program.results})
    for (const TileOperand& o : *list) put(o.dtype), put(o.spread);
  for (const TileInstruction& i : program.code) {
    put(i.kind), put(i.op), put(i.dtype);
    put(i.a), put(i.b), put(i.c), put(i.index);
    put(i.value);
    put(static_cast<uint8_t>(i.integer | i.is_unsigned << 1 | i.mean << 2 | i.wide << 3));
  }
  return key;
}

[[maybe_unused]] bool code_is_allowed() {
  static const bool allowed = [] {
    const char* set = std::getenv("SINTER_JIT");
    return !set || std::strcmp(set, "0") != 0;
  }();
  return allowed;
}

// Executors by program. Engines of one process repeat programs; a full table forgets those that nobody holds, and if
// that is not enough, all.
class Shared {
 public:
  std::shared_ptr<const TileExecutor> find(const std::string& key) {
    const std::lock_guard lock(mutex_);
    const auto at = table_.find(key);
    return at == table_.end() ? nullptr : at->second;
  }
  void add(const std::string& key, const std::shared_ptr<const TileExecutor>& executor) {
    constexpr size_t most = 512;
    const std::lock_guard lock(mutex_);
    if (table_.size() >= most) std::erase_if(table_, [](const auto& entry) { return entry.second.use_count() == 1; });
    if (table_.size() >= most) table_.clear();
    table_[key] = executor;
  }

 private:
  std::mutex mutex_;
  std::unordered_map<std::string, std::shared_ptr<const TileExecutor>> table_;
};

}  // namespace

std::shared_ptr<const TileExecutor> make_executor(const TileProgram& program, uint8_t level, TileMode mode) {
  if (mode == TileMode::interpreted) return Planner(program, level).run();
  static Shared shared;
  const std::string key = key_of(program, level);
  if (auto known = shared.find(key)) return known;
  const std::shared_ptr<TileExecutor> made = Planner(program, level).run();
#ifdef SINTER_ASMJIT
  if (code_is_allowed()) made->code = jit::compile_tiles(*made, level);
#endif
  shared.add(key, made);
  return made;
}

bool is_compiled(const TileExecutor& executor) { return executor.code != nullptr; }

}  // namespace sinter::cpu
