#include "backend/cpu/kernels/stages.h"

#include <fmt/core.h>

#include <algorithm>
#include <array>

#include "backend/cpu/kernels/common.h"
#include "base/checked.h"
#include "ops/cast.h"
#include "ops/reduction.h"

namespace sinter::cpu {
namespace {

using Kind = TileInstruction::Kind;

// Kinds of registers.
enum class Register : uint8_t { f32, f64, integer };

bool is_fp8(DType d) {
  return d == DType::f8e4m3fn || d == DType::f8e4m3fnuz || d == DType::f8e5m2 || d == DType::f8e5m2fnuz;
}
bool is_known(DType d) { return d <= DType::f64 || is_fp8(d); }

// Where a dtype's numbers are computed. Truth is 0 or 1 in any kind, and f32 is the narrowest.
Register register_of(DType d) {
  if (d == DType::f64) return Register::f64;
  return is_integer(d) ? Register::integer : Register::f32;
}

// Operators that mean the same on 0 and 1 whether they are reals or integers.
bool keeps_truth(ScalarOp op) {
  switch (op) {
    case ScalarOp::input:
    case ScalarOp::constant:
    case ScalarOp::min:
    case ScalarOp::max:
    case ScalarOp::logical_not:
    case ScalarOp::equal:
    case ScalarOp::less:
    case ScalarOp::less_equal:
    case ScalarOp::logical_and:
    case ScalarOp::logical_or:
    case ScalarOp::logical_xor:
    case ScalarOp::select: return true;
    default: return false;
  }
}

bool gives_truth(ScalarOp op) {
  switch (op) {
    case ScalarOp::is_nan:
    case ScalarOp::is_inf:
    case ScalarOp::logical_not:
    case ScalarOp::equal:
    case ScalarOp::less:
    case ScalarOp::less_equal:
    case ScalarOp::logical_and:
    case ScalarOp::logical_or:
    case ScalarOp::logical_xor: return true;
    default: return false;
  }
}

// Operators whose result a dtype holds when it holds their operands.
bool keeps_dtype(const ScalarNode& node, bool real) {
  switch (node.op) {
    case ScalarOp::input:
    case ScalarOp::min:
    case ScalarOp::max:
    case ScalarOp::select: return true;
    case ScalarOp::constant: return node.value == 0 || node.value == 1;
    case ScalarOp::neg:
    case ScalarOp::abs: return real;  // the lowest integer has no opposite
    case ScalarOp::sign:
    case ScalarOp::floor:
    case ScalarOp::ceil:
    case ScalarOp::trunc:
    case ScalarOp::round: return true;
    case ScalarOp::bit_and:
    case ScalarOp::bit_or:
    case ScalarOp::bit_xor:
    case ScalarOp::shift_right: return !real;
    default: return gives_truth(node.op);
  }
}

std::optional<ScalarOp> reduction_of(const Stage& stage) {
  if (is_op(stage, "ReduceSum") || is_op(stage, "ReduceMean")) return ScalarOp::add;
  if (is_op(stage, "ReduceMax")) return ScalarOp::max;
  if (is_op(stage, "ReduceMin")) return ScalarOp::min;
  if (is_op(stage, "ReduceProd")) return ScalarOp::mul;
  return std::nullopt;
}

const Type& result_type(const Problem& problem, size_t stage) { return problem.types[problem.first_result[stage]]; }

Answer cast_supported(const Problem& problem, const Stage& stage) {
  const auto& attrs = stage.attrs.as<CastAttrs>();
  if (!is_known(attrs.to)) return Answer::no(fmt::format("Cast to {}", dtype_name(attrs.to)));
  if (is_fp8(attrs.to) && !attrs.saturate) return Answer::no("Cast to fp8 without saturation");
  if (!is_known(problem.types[stage.inputs[0]].dtype))
    return Answer::no(fmt::format("Cast from {}", dtype_name(problem.types[stage.inputs[0]].dtype)));
  return Answer::yes();
}

class Compiler {
 public:
  Compiler(const Problem& problem, const std::vector<bool>& row_valued) : problem_(problem), row_valued_(row_valued) {
    registers_.resize(problem.types.size());
    operand_.assign(problem.types.size(), -1);
  }

  StageProgram run(size_t first, std::optional<uint16_t> block) {
    const auto add_operand = [&](uint16_t v) {
      operand_[v] = static_cast<int32_t>(out_.program.operands.size());
      out_.program.operands.push_back({problem_.types[v].dtype, Spread::full});
      out_.dtypes.push_back(problem_.types[v].dtype);
    };
    if (block) add_operand(*block);
    for (size_t s = first; s < problem_.stages.size(); ++s) {
      const Stage& stage = problem_.stages[s];
      const size_t read = reduction_of(stage) ? 1 : stage.inputs.size();  // axes are no operand of a program
      for (size_t i = 0; i < read; ++i) {
        const uint16_t v = stage.inputs[i];
        if (v == absent_operand || v >= problem_.operands.size() || operand_[v] >= 0) continue;
        add_operand(v);
        out_.operands.push_back(v);
      }
    }
    for (size_t s = first; s < problem_.stages.size(); ++s) {
      const Stage& stage = problem_.stages[s];
      if (is_op(stage, "Cast"))
        cast(stage, problem_.first_result[s]);
      else if (const auto fold = reduction_of(stage))
        reduce(stage, *fold, problem_.first_result[s]);
      else
        pointwise(stage, problem_.first_result[s]);
    }
    for (size_t r = 0; r < problem_.results.size(); ++r) {
      const uint16_t v = problem_.results[r].value;
      TileInstruction store{.kind = Kind::store};
      store.a = natural(v);
      store.index = narrow<uint16_t>(out_.program.results.size(), "results of a tile program");
      store.dtype = problem_.types[v].dtype;
      emit(store);
      out_.program.results.push_back({store.dtype, is_row(v) ? Spread::row : Spread::full});
      out_.results.push_back(static_cast<uint16_t>(r));
    }
    show_spreads(block);
    return std::move(out_);
  }

 private:
  using ByRegister = std::array<std::optional<uint16_t>, 3>;

  bool is_row(uint16_t v) const { return v < row_valued_.size() && row_valued_[v]; }

  uint16_t emit(const TileInstruction& i) {
    out_.program.code.push_back(i);
    return narrow<uint16_t>(out_.program.code.size() - 1, "instructions of a tile program");
  }
  static TileInstruction held(Kind kind, Register r) {
    TileInstruction i{.kind = kind};
    i.integer = r == Register::integer;
    i.wide = r == Register::f64;
    return i;
  }

  std::optional<uint16_t>& slot(uint16_t v, Register r) { return registers_[v][static_cast<size_t>(r)]; }

  // The value in a register of this kind.
  uint16_t get(uint16_t v, Register r) {
    if (slot(v, r)) return *slot(v, r);
    const DType dtype = problem_.types[v].dtype;
    const Register own = register_of(dtype);
    const bool real_to_integer = r == Register::integer && own != Register::integer && dtype != DType::boolean;
    const bool fp8_to_f64 = is_fp8(dtype) && r == Register::f64;
    uint16_t made;
    if (operand_[v] >= 0 && !real_to_integer && !fp8_to_f64) {
      TileInstruction load = held(Kind::load, r);
      load.index = static_cast<uint16_t>(operand_[v]);
      load.dtype = dtype;
      made = emit(load);
    } else {
      // From the kind in which it is; truth may be in any.
      Register from = own;
      for (const Register candidate : {own, Register::f32, Register::integer, Register::f64})
        if (slot(v, candidate)) {
          from = candidate;
          break;
        }
      TileInstruction convert = held(Kind::convert, r);
      convert.a = get(v, from);
      convert.dtype = r == Register::integer ? DType::i64 : r == Register::f64 ? DType::f64 : DType::f32;
      convert.is_unsigned = from == Register::integer && !is_signed(dtype);
      made = emit(convert);
    }
    slot(v, r) = made;
    return made;
  }

  uint16_t natural(uint16_t v) {
    for (const Register r : {register_of(problem_.types[v].dtype), Register::f32, Register::integer, Register::f64})
      if (slot(v, r)) return *slot(v, r);
    return get(v, register_of(problem_.types[v].dtype));
  }

  // A register rounded to the dtype of what it stands for.
  uint16_t rounded(uint16_t a, DType dtype, Register r) {
    const bool exact = r == Register::f32       ? dtype == DType::f32
                       : r == Register::integer ? bit_size(dtype) == 64
                                                : dtype == DType::f64;
    if (exact) return a;
    TileInstruction convert = held(Kind::convert, r);
    convert.a = a;
    convert.dtype = dtype;
    convert.is_unsigned = !is_signed(dtype);
    return emit(convert);
  }

  void pointwise(const Stage& stage, uint16_t result) {
    const Scalar scalar = with_attributes(scalar_of(*stage.op), stage.attrs);
    const DType dtype = problem_.types[stage.inputs[stage.op->result == ResultType::like_y ? 1 : 0]].dtype;
    Register r = register_of(dtype);
    if (dtype == DType::boolean &&
        !std::all_of(scalar.nodes.begin(), scalar.nodes.end(), [](const ScalarNode& n) { return keeps_truth(n.op); }))
      r = Register::integer;
    const bool real = is_float(dtype);
    std::vector<uint16_t> at;
    bool keeps = true;
    for (const ScalarNode& node : scalar.nodes) {
      keeps = keeps && keeps_dtype(node, real);
      if (node.op == ScalarOp::input) {
        at.push_back(get(stage.inputs[node.index], r));
        continue;
      }
      TileInstruction i = held(node.op == ScalarOp::constant ? Kind::constant : Kind::compute, r);
      i.value = node.value;
      i.op = node.op;
      if (node.op != ScalarOp::constant) {
        const int arity = scalar_arity(node.op);
        i.a = at[node.a];
        if (arity > 1) i.b = at[node.b];
        if (arity > 2) i.c = at[node.c];
        i.dtype = dtype;
        i.is_unsigned = r == Register::integer && !is_signed(dtype);
      }
      at.push_back(emit(i));
    }
    uint16_t made = at.back();
    const bool truth = problem_.types[result].dtype == DType::boolean;
    if (truth && !gives_truth(scalar.nodes.back().op) && !(dtype == DType::boolean && r == Register::f32)) {
      TileInstruction convert = held(Kind::convert, r);
      convert.a = made;
      convert.dtype = DType::boolean;
      made = emit(convert);
    } else if (!truth && !keeps) {
      made = rounded(made, dtype, r);
    }
    slot(result, r) = made;
  }

  void cast(const Stage& stage, uint16_t result) {
    const uint16_t v = stage.inputs[0];
    const DType from = problem_.types[v].dtype, to = problem_.types[result].dtype;
    Register r = register_of(to);
    if (from == to) {
      const Register own = register_of(from);
      slot(result, own) = get(v, own);
      return;
    }
    if (to == DType::boolean) {
      r = register_of(from);
      TileInstruction convert = held(Kind::convert, r);
      convert.a = get(v, r);
      convert.dtype = DType::boolean;
      slot(result, r) = emit(convert);
      return;
    }
    if (from == DType::boolean || (is_float(to) && to == (r == Register::f64 ? DType::f64 : DType::f32))) {
      slot(result, r) = get(v, r);
      return;
    }
    // Rounded once, from a kind that holds the operand exactly.
    const Register source = register_of(from);
    TileInstruction convert = held(Kind::convert, r);
    convert.a = get(v, source);
    convert.dtype = to;
    convert.is_unsigned = source == Register::integer && !is_signed(from);
    slot(result, r) = emit(convert);
  }

  void reduce(const Stage& stage, ScalarOp fold, uint16_t result) {
    const uint16_t v = stage.inputs[0];
    const DType dtype = problem_.types[v].dtype;
    const Register r = register_of(dtype);
    TileInstruction i = held(Kind::reduce, r);
    i.op = fold;
    i.a = get(v, r);
    i.mean = is_op(stage, "ReduceMean");
    i.dtype = dtype;
    i.is_unsigned = r == Register::integer && !is_signed(dtype);
    uint16_t made = emit(i);
    if (fold == ScalarOp::add || fold == ScalarOp::mul) made = rounded(made, dtype, r);
    slot(result, r) = made;
  }

  void show_spreads(std::optional<uint16_t> block) {
    // The widest shape is what rows and columns are of.
    const Shape* whole = block ? &*problem_.types[*block].shape : nullptr;
    for (const Stage& stage : problem_.stages)
      for (uint16_t v : stage.inputs)
        if (!block && v != absent_operand && (!whole || problem_.types[v].shape->size() > whole->size()))
          whole = &*problem_.types[v].shape;
    if (!whole) return;
    for (size_t i = 0; i < out_.operands.size(); ++i) {
      const uint16_t v = out_.operands[i];
      const Shape& shape = *problem_.types[v].shape;
      size_t wide = 0;
      for (const Dim& d : shape) wide += d != Dim(1);
      const bool last = !shape.empty() && shape.back() != Dim(1);
      Spread spread = Spread::full;
      if (wide == 0)
        spread = Spread::scalar;
      else if (is_row(v))
        spread = Spread::row;
      else if (wide == 1 && last && whole->size() > 1 && shape != *whole)
        spread = Spread::column;
      out_.program.operands[i + (block ? 1 : 0)].spread = spread;
    }
  }

  const Problem& problem_;
  const std::vector<bool>& row_valued_;
  StageProgram out_;
  std::vector<ByRegister> registers_;
  std::vector<int32_t> operand_;  // program operand of a value, or -1
};

}  // namespace

std::optional<std::vector<size_t>> reduced_axes(const Problem& problem, const Stage& stage) {
  const auto fold = reduction_of(stage);
  if (!fold || stage.inputs.empty() || stage.inputs[0] == absent_operand || stage.outputs != 1) return std::nullopt;
  const Type& x = problem.types[stage.inputs[0]];
  if (!x.is_plain() || !is_known(x.dtype) || x.dtype == DType::boolean) return std::nullopt;
  if (x.dtype == DType::u64 && (*fold == ScalarOp::max || *fold == ScalarOp::min)) return std::nullopt;
  if (is_op(stage, "ReduceMean") && !is_float(x.dtype)) return std::nullopt;
  const size_t rank = x.shape->size();
  std::vector<int64_t> axes;
  if (stage.inputs.size() > 1 && stage.inputs[1] != absent_operand) {
    const uint16_t v = stage.inputs[1];
    if (v >= problem.operands.size()) return std::nullopt;
    const auto* tensor = std::get_if<Tensor>(&problem.operands[v].contents);
    if (!tensor) return std::nullopt;
    axes = tensor->to_integers();
  }
  std::vector<size_t> out;
  if (axes.empty() && !stage.attrs.as<ReduceAttrs>().keep_without_axes)
    for (size_t k = 0; k < rank; ++k) out.push_back(k);
  for (int64_t a : axes) {
    if (a < 0) a += static_cast<int64_t>(rank);
    if (a < 0 || a >= static_cast<int64_t>(rank)) return std::nullopt;
    out.push_back(static_cast<size_t>(a));
  }
  std::sort(out.begin(), out.end());
  return out;
}

Answer stages_supported(const Problem& problem, size_t first, bool rows) {
  size_t instructions = 0;
  for (size_t s = first; s < problem.stages.size(); ++s) {
    const Stage& stage = problem.stages[s];
    if (stage.outputs != 1 || stage.inputs.empty()) return Answer::no("a stage of another form than x → y");
    if (!result_type(problem, s).is_plain()) return Answer::no("a stage's result is no plain tensor");
    const bool reduces = rows && reduction_of(stage).has_value();
    for (size_t i = 0; i < (reduces ? 1 : stage.inputs.size()); ++i) {
      const uint16_t v = stage.inputs[i];
      if (v == absent_operand) return Answer::no("an operand is absent");
      const Type& type = problem.types[v];
      if (!type.is_plain()) return Answer::no("an operand of a stage is no plain tensor");
      if (!is_known(type.dtype)) return Answer::no(fmt::format("{} in a program", dtype_name(type.dtype)));
      if (v < problem.operands.size() && problem.operands[v].host) return Answer::no("a host operand in a program");
    }
    instructions += stage.inputs.size() + 2;
    if (is_op(stage, "Cast")) {
      if (Answer a = cast_supported(problem, stage); !a) return a;
    } else if (reduces) {
      const auto axes = reduced_axes(problem, stage);
      if (!axes) return Answer::no(fmt::format("this {} in a program", stage.op->name));
      const size_t rank = problem.types[stage.inputs[0]].shape->size();
      if (axes->empty()) return Answer::no("a reduction over no axes");
      for (size_t k = 0; k < axes->size(); ++k)
        if ((*axes)[k] != rank - axes->size() + k) return Answer::no("a reduction over other than the last axes");
    } else if (stage.op->pointwise) {
      instructions += 3 * scalar_of(*stage.op).nodes.size();
    } else {
      return Answer::no(fmt::format("{} is not pointwise", stage.op->name));
    }
  }
  for (const Problem::Result& result : problem.results)
    if (!is_known(problem.types[result.value].dtype)) return Answer::no("a result's dtype in a program");
  if (instructions > 16384) return Answer::no("too many stages for one program");
  return Answer::yes();
}

StageProgram compile_stages(const Problem& problem, size_t first, std::optional<uint16_t> block,
                            const std::vector<bool>& row_valued) {
  return Compiler(problem, row_valued).run(first, block);
}

Problem part_of(const Problem& problem, std::span<const size_t> stages, uint16_t result,
                std::vector<uint16_t>& sources) {
  Problem out;
  out.symbols = problem.symbols;
  std::vector<uint16_t> at(problem.types.size(), absent_operand);
  std::vector<bool> made(problem.types.size(), false);
  for (size_t s : stages)
    for (uint16_t k = 0; k < problem.stages[s].outputs; ++k)
      made[static_cast<size_t>(problem.first_result[s] + k)] = true;
  for (size_t s : stages)
    for (uint16_t v : problem.stages[s].inputs)
      if (v != absent_operand && !made[v] && std::find(sources.begin(), sources.end(), v) == sources.end())
        sources.push_back(v);
  for (uint16_t v : sources) {
    at[v] = static_cast<uint16_t>(out.operands.size());
    // Host operands (axes) keep their contents.
    out.operands.push_back(v < problem.operands.size() ? problem.operands[v]
                                                       : Operand{problem.types[v], {}, false, false, {}});
  }
  auto next = static_cast<uint16_t>(out.operands.size());
  for (size_t s : stages) {
    Stage stage = problem.stages[s];
    for (uint16_t& v : stage.inputs)
      if (v != absent_operand) v = at[v];
    for (uint16_t k = 0; k < stage.outputs; ++k) at[static_cast<size_t>(problem.first_result[s] + k)] = next++;
    out.stages.push_back(std::move(stage));
  }
  out.results.push_back({at[result], {}});
  complete(out);
  return out;
}

}  // namespace sinter::cpu
