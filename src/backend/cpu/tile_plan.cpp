// Plans a tile program: chooses loops, joins pairs of instructions, cuts passes, assigns places.

#include "backend/cpu/tile_plan.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <limits>

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

int first_of_pair(ScalarOp op) {
  return op == ScalarOp::add ? 0 : op == ScalarOp::sub ? 1 : op == ScalarOp::mul ? 2 : -1;
}
int second_of_pair(ScalarOp op) {
  return op == ScalarOp::add ? 0 : op == ScalarOp::mul ? 1 : op == ScalarOp::min ? 2 : op == ScalarOp::max ? 3 : -1;
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

  std::shared_ptr<const TileExecutor> run() {
    translate();
    join_pairs();
    cut_passes();
    choose_homes();
    arrange();
    assign_slots();
    return out_;
  }

 private:
  struct Node {
    TileStep step;
    int arguments = 0;  // values read: a, b, c
    uint16_t pass = 0;  // in which it runs
    bool alive = true;
    bool is_load() const { return step.kind == TileStep::Kind::load || step.kind == TileStep::Kind::load_narrow; }
    bool is_store() const { return step.kind == TileStep::Kind::store || step.kind == TileStep::Kind::store_narrow; }
    bool is_fold() const { return step.kind == TileStep::Kind::fold || step.kind == TileStep::Kind::fold_product; }
  };

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
  Node& add(TileStep::Kind kind, int arguments) {
    nodes_.emplace_back();
    nodes_.back().step.kind = kind;
    nodes_.back().arguments = arguments;
    return nodes_.back();
  }

  // The value with this spread.
  uint16_t spread_to(uint16_t v, Spread spread) {
    if (value(v).spread == spread) return v;
    const uint16_t out = new_value(value(v).lane, spread);
    TileStep& step = add(TileStep::Kind::spread, 1).step;
    step.out = out;
    step.a = v;
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

  uint16_t argument(uint16_t instruction) const {
    if (instruction >= of_instruction_.size()) refuse("registers read before they are made");
    return of_instruction_[instruction];
  }

  uint16_t load(const TileInstruction& i) {
    if (i.index >= program_.operands.size()) refuse("loads of missing operands");
    const Lane lane = lane_of(i);
    const uint16_t out = new_value(lane, program_.operands[i.index].spread);
    TileStep& step = add(TileStep::Kind::load, 0).step;
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
    if (i.op == ScalarOp::select && splats(v[0], spread)) v[0] = spread_to(v[0], spread);
    const uint16_t out = new_value(lane, spread);
    TileStep& step = add(TileStep::Kind::element, arity).step;
    step.out = out;
    step.a = v[0];
    step.b = v[1];
    step.c = v[2];
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
    TileStep& step = add(TileStep::Kind::loop, 1).step;
    step.out = out;
    step.a = a;
    step.b = a;
    step.dtype = i.dtype;
    step.is_unsigned = i.is_unsigned;
    const TileTable& t = *out_->table;
    const TileMemory memory = tile_memory(i.dtype);
    if (i.dtype == DType::boolean) {
      if (from != to) refuse("bool conversions between register kinds");
      step.kind = TileStep::Kind::binary;
      step.op = ScalarOp::logical_or;
      step.forms = t.binary[static_cast<int>(to)][static_cast<int>(TileBinary::logical_or)];
      nodes_.back().arguments = 2;
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
    TileStep& step = add(TileStep::Kind::fold, 1).step;
    step.out = out;
    step.a = a;
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

  void store(const TileInstruction& i) {
    if (i.index >= program_.results.size()) refuse("stores to missing results");
    const Spread spread = program_.results[i.index].spread;
    if (spread != Spread::full && spread != Spread::row) refuse("results of one value per column");
    uint16_t a = argument(i.a);
    if (spread == Spread::row && (value(a).spread == Spread::full || value(a).spread == Spread::column))
      refuse("stores of full values to results of one value per row");
    a = spread_to(a, spread);
    const Lane lane = value(a).lane;
    TileStep& step = add(TileStep::Kind::store, 1).step;
    step.a = a;
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

  // Whether v is read as one value per row (or one at all) where values of this spread are computed.
  bool splats(uint16_t v, Spread where) {
    const Spread s = value(v).spread;
    return s != where && (s == Spread::scalar || s == Spread::row);
  }

  // ---- pairs ----

  void join_pairs() {
    std::vector<uint16_t> uses(out_->values.size(), 0);
    std::vector<int32_t> maker(out_->values.size(), -1);
    for (size_t n = 0; n < nodes_.size(); ++n) {
      const Node& node = nodes_[n];
      const uint16_t read[3] = {node.step.a, node.step.b, node.step.c};
      for (int k = 0; k < node.arguments; ++k) ++uses[read[k]];
      if (!node.is_store()) maker[node.step.out] = static_cast<int32_t>(n);
    }
    const auto inner = [&](uint16_t v) -> Node* {
      if (uses[v] != 1 || maker[v] < 0 || value(v).lane != Lane::f32) return nullptr;
      Node& node = nodes_[static_cast<size_t>(maker[v])];
      return node.step.kind == TileStep::Kind::binary ? &node : nullptr;
    };
    for (Node& node : nodes_) {
      TileStep& step = node.step;
      if (step.kind == TileStep::Kind::fold && step.fold == TileFold::add && value(step.a).lane == Lane::f32) {
        Node* product = inner(step.a);
        if (!product || product->step.op != ScalarOp::mul || splats(product->step.a, Spread::full) ||
            splats(product->step.b, Spread::full))
          continue;
        step.kind = TileStep::Kind::fold_product;
        step.loop = out_->table->fold_product;
        step.a = product->step.a;
        step.b = product->step.b;
        node.arguments = 2;
        product->alive = false;
        continue;
      }
      if (step.kind != TileStep::Kind::binary || value(step.out).lane != Lane::f32) continue;
      const int op2 = second_of_pair(step.op);
      if (op2 < 0) continue;
      for (int side = 0; side < 2; ++side) {
        const uint16_t t = side ? step.b : step.a, other = side ? step.a : step.b;
        Node* first = inner(t);
        if (!first || value(t).spread != value(step.out).spread) continue;
        const int op1 = first_of_pair(first->step.op);
        if (op1 < 0) continue;
        uint16_t a = first->step.a, b = first->step.b;
        if (splats(a, value(t).spread) && op1 != 1) std::swap(a, b);
        if (splats(a, value(t).spread)) continue;
        step.kind = TileStep::Kind::pair;
        step.op1 = static_cast<uint8_t>(op1);
        step.op2 = static_cast<uint8_t>(op2);
        step.a = a;
        step.b = b;
        step.c = other;
        node.arguments = 3;
        first->alive = false;
        break;
      }
    }
    nodes_.erase(std::remove_if(nodes_.begin(), nodes_.end(), [](const Node& n) { return !n.alive; }), nodes_.end());
  }

  // ---- passes ----

  template <typename F>
  static void each_argument(const Node& node, F f) {
    const uint16_t read[3] = {node.step.a, node.step.b, node.step.c};
    for (int k = 0; k < node.arguments; ++k) f(read[k]);
  }

  void cut_passes() {
    std::vector<uint16_t> ready(out_->values.size(), 0);  // first pass in which a value can be read
    for (Node& node : nodes_) {
      node.pass = 0;
      each_argument(node, [&](uint16_t v) { node.pass = std::max(node.pass, ready[v]); });
      if (node.is_store()) continue;
      ready[node.step.out] = node.is_fold() ? narrow<uint16_t>(node.pass + 1, "passes of a tile program") : node.pass;
    }
    // Full operands are loaded in the pass that reads them first.
    std::vector<uint16_t> first_use(out_->values.size(), std::numeric_limits<uint16_t>::max());
    for (const Node& node : nodes_)
      each_argument(node, [&](uint16_t v) { first_use[v] = std::min(first_use[v], node.pass); });
    uint16_t last = 0;
    for (Node& node : nodes_) {
      if (node.is_load() && value(node.step.out).spread == Spread::full) {
        const uint16_t use = first_use[node.step.out];
        if (use != std::numeric_limits<uint16_t>::max()) node.pass = use;
      }
      last = std::max<uint16_t>(last, static_cast<uint16_t>(node.pass + node.is_fold()));
    }
    out_->passes.resize(static_cast<size_t>(last) + 1);
    // A result may lie on an operand: stores wait until every full operand was read for the last time.
    std::vector<bool> loaded(out_->values.size(), false);
    for (const Node& node : nodes_)
      if (node.is_load()) loaded[node.step.out] = true;
    uint16_t last_read = 0;
    for (const Node& node : nodes_)
      each_argument(node, [&](uint16_t v) {
        if (loaded[v]) last_read = std::max(last_read, node.pass);
      });
    for (Node& node : nodes_)
      if (node.is_store() && value(node.step.a).spread == Spread::full) node.pass = std::max(node.pass, last_read);
  }

  // ---- homes ----

  static bool same_bits(Lane lane, DType dtype) {
    return (lane == Lane::f32 && dtype == DType::f32) || (lane == Lane::f64 && dtype == DType::f64) ||
           (lane == Lane::i64 && (dtype == DType::i64 || dtype == DType::u64));
  }

  void choose_homes() {
    std::vector<uint16_t> made_in(out_->values.size(), 0), last_use(out_->values.size(), 0);
    for (const Node& node : nodes_) {
      if (!node.is_store()) made_in[node.step.out] = node.pass;
      each_argument(node, [&](uint16_t v) { last_use[v] = std::max(last_use[v], node.pass); });
    }
    for (Node& node : nodes_) {
      if (node.is_store()) continue;
      TileValue& v = value(node.step.out);
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
          if (node.step.kind == TileStep::Kind::load && same_bits(v.lane, node.step.dtype)) {
            v.home = Home::operand;
            v.number = node.step.index;
            v.spare = out_->spare_count++;
          } else if (last_use[node.step.out] > made_in[node.step.out]) {
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
    std::vector<size_t> maker(out_->values.size(), nodes_.size());
    size_t last_read = 0;
    uint16_t last_read_pass = 0;
    for (size_t n = 0; n < nodes_.size(); ++n) {
      if (!nodes_[n].is_store()) maker[nodes_[n].step.out] = n;
      each_argument(nodes_[n], [&](uint16_t v) {
        if (value(v).home != Home::operand && value(v).home != Home::column) return;
        if (nodes_[n].pass < last_read_pass) return;
        last_read_pass = nodes_[n].pass;
        last_read = n;
      });
    }
    for (const Node& node : nodes_) {
      if (node.step.kind != TileStep::Kind::store) continue;
      TileValue& v = value(node.step.a);
      if (v.spread != Spread::full || (v.home != Home::slot && v.home != Home::kept) || v.result >= 0 ||
          !same_bits(v.lane, node.step.dtype) || program_.results[node.step.index].spread != Spread::full)
        continue;
      v.result = static_cast<int16_t>(node.step.index);
      const size_t at = maker[node.step.a];
      v.in_place = nodes_[at].pass > last_read_pass || (nodes_[at].pass == last_read_pass && at >= last_read);
    }
  }

  // ---- order ----

  void arrange() {
    std::vector<bool> in_tiles(out_->values.size(), false);
    const auto sort_in = [&](const Node& node) {
      const Spread spread = node.is_fold()    ? Spread::full
                            : node.is_store() ? value(node.step.a).spread
                                              : value(node.step.out).spread;
      TilePass& pass = out_->passes[node.pass];
      switch (spread) {
        case Spread::scalar: out_->scalars.push_back(node.step); break;
        case Spread::column: out_->columns.push_back(node.step); break;
        case Spread::row: pass.rows.push_back(node.step); break;
        case Spread::full:
          each_argument(node, [&](uint16_t v) { in_tiles[v] = true; });
          if (!node.is_store() && value(node.step.out).home == Home::operand) break;  // nothing to do
          if (node.is_fold()) pass.folds.push_back(static_cast<uint16_t>(pass.tiles.size()));
          pass.tiles.push_back(node.step);
          break;
      }
    };
    for (const Node& node : nodes_)
      if (!node.is_store()) sort_in(node);
    for (const Node& node : nodes_)
      if (node.is_store()) sort_in(node);
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
        Node node;
        node.step = step;
        node.arguments = arguments_of(step);
        each_argument(node, note);
        if (!node.is_store() && !node.is_fold()) note(step.out);
      }
    }
  }

  static int arguments_of(const TileStep& step) {
    switch (step.kind) {
      case TileStep::Kind::load:
      case TileStep::Kind::load_narrow: return 0;
      case TileStep::Kind::binary:
      case TileStep::Kind::fold_product: return 2;
      case TileStep::Kind::select:
      case TileStep::Kind::pair: return 3;
      case TileStep::Kind::element: return scalar_arity(step.op);
      default: return 1;
    }
  }

  // Tiles are given out again after the last step that reads them. The tile of an argument of the same width may take
  // the result.
  void assign_slots() {
    for (TilePass& pass : out_->passes) {
      std::vector<size_t> last(out_->values.size(), 0);
      for (size_t n = 0; n < pass.tiles.size(); ++n) {
        Node node;
        node.step = pass.tiles[n];
        node.arguments = arguments_of(pass.tiles[n]);
        each_argument(node, [&](uint16_t v) { last[v] = n; });
      }
      std::vector<uint16_t> free;
      uint16_t count = 0;
      for (size_t n = 0; n < pass.tiles.size(); ++n) {
        Node node;
        node.step = pass.tiles[n];
        node.arguments = arguments_of(pass.tiles[n]);
        const bool makes = !node.is_store() && !node.is_fold() && value(node.step.out).home == Home::slot;
        std::vector<uint16_t> freed;
        each_argument(node, [&](uint16_t v) {
          if (value(v).home != Home::slot || value(v).spread != Spread::full || last[v] != n) return;
          const uint16_t slot = value(v).number;
          if (std::find(freed.begin(), freed.end(), slot) != freed.end()) return;
          freed.push_back(slot);
          if (makes && lane_bytes(value(v).lane) == lane_bytes(value(node.step.out).lane)) {
            free.push_back(slot);
            freed.back() = std::numeric_limits<uint16_t>::max();
          }
        });
        if (makes) {
          if (free.empty()) free.push_back(count++);
          value(node.step.out).number = free.back();
          free.pop_back();
        }
        for (uint16_t slot : freed)
          if (slot != std::numeric_limits<uint16_t>::max()) free.push_back(slot);
      }
      out_->slot_count = std::max(out_->slot_count, count);
    }
    // Tiles in use take half of a small first-level cache.
    const int64_t tiles = std::max<int64_t>(1, out_->slot_count + out_->kept_count);
    out_->tile = std::clamp<int64_t>(24 * 1024 / (tiles * out_->width) / 64 * 64, 512, 4096);
  }

  const TileProgram& program_;
  std::shared_ptr<TileExecutor> out_;
  std::vector<Node> nodes_;
  std::vector<uint16_t> of_instruction_;
};

}  // namespace

std::shared_ptr<const TileExecutor> make_executor(const TileProgram& program, uint8_t level) {
  return Planner(program, level).run();
}

}  // namespace sinter::cpu
