// Which tile programs become machine code: f32, with integers on their way from and to memory and reals.
#include <vector>

#include "backend/cpu/jit/tile_memory.h"
#include "backend/cpu/jit/tile_taken.h"

namespace sinter::cpu::jit {
namespace {

using Kind = TileStep::Kind;

bool has_vectors(ScalarOp op) {
  switch (op) {
    case ScalarOp::neg:
    case ScalarOp::abs:
    case ScalarOp::sign:
    case ScalarOp::floor:
    case ScalarOp::ceil:
    case ScalarOp::trunc:
    case ScalarOp::round:
    case ScalarOp::sqrt:
    case ScalarOp::reciprocal:
    case ScalarOp::exp:
    case ScalarOp::expm1:
    case ScalarOp::log:
    case ScalarOp::log1p:
    case ScalarOp::tanh:
    case ScalarOp::erf:
    case ScalarOp::sigmoid:
    case ScalarOp::is_nan:
    case ScalarOp::is_inf:
    case ScalarOp::logical_not:
    case ScalarOp::add:
    case ScalarOp::sub:
    case ScalarOp::mul:
    case ScalarOp::div:
    case ScalarOp::min:
    case ScalarOp::max:
    case ScalarOp::equal:
    case ScalarOp::less:
    case ScalarOp::less_equal:
    case ScalarOp::logical_and:
    case ScalarOp::logical_or:
    case ScalarOp::logical_xor: return true;
    default: return false;
  }
}

// Integers of a program are taken if they come from memory or from reals and go there, with no more than sums that are
// wrapped to 32 bits at once on the way: those of quantized numbers do.
class Taken {
 public:
  explicit Taken(const TileExecutor& e) : e_(e), words_(e.values.size()), sums_(e.values.size()) {}

  bool all() {
    // Places move by the widths that operands and results say.
    for (const TileValue& v : e_.values)
      if (v.lane == Lane::f64 || (v.home == Home::operand && e_.operands[v.number].dtype != DType::f32)) return false;
    if (!all(e_.scalars) || !all(e_.columns)) return false;
    for (const TilePass& pass : e_.passes)
      if (!all(pass.rows) || !all(pass.tiles)) return false;
    return true;
  }

 private:
  bool all(const std::vector<TileStep>& steps) {
    for (const TileStep& step : steps) {
      if (!one(step)) return false;
      if (step.is_load() && step.dtype != e_.operands[step.index].dtype) return false;
      if (step.is_store() && step.dtype != e_.results[step.index].dtype) return false;
    }
    return true;
  }

  bool is_integer(uint16_t v) const { return e_.values[v].lane == Lane::i64; }

  bool one(const TileStep& step) {
    bool integers = !step.is_store() && is_integer(step.out);
    step.each_read([&](uint16_t v) { integers = integers || is_integer(v); });
    if (integers) return moves_integers(step);
    switch (step.kind) {
      case Kind::loop:
        if (step.then) return false;
        if (!converts(step)) return has_vectors(step.op);
        return step.dtype == DType::f32 || step.dtype == DType::f16 || step.dtype == DType::bf16;
      case Kind::binary: return has_vectors(step.op);
      case Kind::load: return can_load(step.dtype);
      case Kind::store: return can_store(step.dtype);
      case Kind::element:
      case Kind::round:
      case Kind::load_narrow:
      case Kind::store_narrow: return false;
      default: return true;
    }
  }

  bool moves_integers(const TileStep& step) {
    const uint16_t a = step.read[0];
    switch (step.kind) {
      case Kind::load: words_[step.out] = can_be_words(step.dtype); return words_[step.out];
      case Kind::store: return words_[a] && can_be_words(step.dtype);
      case Kind::binary:
        if (step.op != ScalarOp::add && step.op != ScalarOp::sub) return false;
        sums_[step.out] = words_[a] && words_[step.read[1]];
        return sums_[step.out];
      case Kind::spread: words_[step.out] = words_[a]; return words_[a];
      case Kind::loop:
        if (!converts(step)) return false;
        if (!is_integer(step.out)) return words_[a] && step.dtype == DType::f32 && !step.then;
        if (is_integer(a) && !words_[a] && !sums_[a]) return false;
        words_[step.out] = can_be_words(step.dtype);
        return words_[step.out];
      default: return false;
    }
  }

  const TileExecutor& e_;
  std::vector<bool> words_;  // values that 32 bits hold
  std::vector<bool> sums_;   // of two such values: their low 32 bits are right
};

}  // namespace

bool is_taken(const TileExecutor& executor) { return Taken(executor).all(); }

}  // namespace sinter::cpu::jit
