// Entries that compute element by element, conversions and Dropout among them.

#include <fmt/format.h>

#include <algorithm>
#include <limits>

#include "frontends/onnx/entries.h"
#include "ops/cast.h"
#include "ops/generation.h"

namespace sinter::onnx {
namespace {

using wiring::cast;
using wiring::like;

// An operator with numbers as attributes, under the same names in ONNX and here.
template <size_t N>
void with_numbers(NodeContext& c, std::string_view op, const wiring::Setting (&defaults)[N]) {
  if constexpr (N == 1) {
    const wiring::Setting& s = defaults[0];
    c.out(0, wiring::pointwise(c.b, op, {{s.name, c.real(s.name, s.value)}}, c.in(0)));
  } else {
    const wiring::Setting &s = defaults[0], &t = defaults[1];
    c.out(0,
          wiring::pointwise(c.b, op, {{s.name, c.real(s.name, s.value)}, {t.name, c.real(t.name, t.value)}}, c.in(0)));
  }
}

void swapped(NodeContext& c, std::string_view op) {
  const auto [x, y] = broadcast_pair(c);
  c.out(0, c.b.op(op, {y, x}));
}

ValueId fold_operands(NodeContext& c, std::string_view op, bool wide) {
  if (c.inputs() == 0) c.fail("it needs at least one operand");
  const auto operand = [&](size_t i) { return wide ? wiring::widened(c.b, c.in(i)) : c.in(i); };
  ValueId out = operand(0);
  for (size_t i = 1; i < c.inputs(); ++i) out = c.b.op(op, {out, operand(i)});
  return out;
}

void import_sum(NodeContext& c) { c.out(0, cast(c.b, fold_operands(c, "Add", true), c.b.dtype(c.in(0)))); }

void import_mean(NodeContext& c) {
  const ValueId sum = fold_operands(c, "Add", true);
  const ValueId mean = wiring::div(c.b, sum, like(c.b, sum, static_cast<double>(c.inputs())));
  c.out(0, cast(c.b, mean, c.b.dtype(c.in(0))));
}

void import_pow(NodeContext& c) {
  auto [x, y] = broadcast_pair(c);
  const DType dtype = c.b.dtype(x), exponent = c.b.dtype(y);
  if (dtype == exponent || is_float(dtype)) {
    c.out(0, c.b.op("Pow", {x, cast(c.b, y, dtype)}));
  } else if (is_float(exponent)) {  // an integer to a real power, then cut to the integer below
    c.out(0, cast(c.b, c.b.op("Pow", {cast(c.b, x, DType::f64), cast(c.b, y, DType::f64)}), dtype));
  } else {
    c.out(0, cast(c.b, c.b.op("Pow", {cast(c.b, x, DType::i64), cast(c.b, y, DType::i64)}), dtype));
  }
}

void import_mod(NodeContext& c) {
  const bool fmod = c.integer("fmod", 0) != 0 || is_float(c.b.dtype(c.in(0)));
  c.out(0, wiring::pointwise(c.b, "Mod", {{"fmod", fmod ? 1.0 : 0.0}}, c.in(0), c.in(1)));
}

void import_bit_shift(NodeContext& c) {
  const std::string direction = c.string("direction", "");
  if (direction != "LEFT" && direction != "RIGHT")
    c.fail(fmt::format("direction '{}' is neither LEFT nor RIGHT", direction));
  c.out(0, c.b.op(direction == "LEFT" ? "ShiftLeft" : "ShiftRight", {c.in(0), c.in(1)}));
}

void import_is_inf(NodeContext& c) {
  c.out(0, wiring::pointwise(c.b, "IsInf",
                             {{"positive", static_cast<double>(c.integer("detect_positive", 1))},
                              {"negative", static_cast<double>(c.integer("detect_negative", 1))}},
                             c.in(0)));
}

void clip(NodeContext& c, ValueId low, ValueId high) {
  const ValueId x = c.in(0);
  const DType dtype = c.b.dtype(x);
  const auto bound = [&](ValueId v, double otherwise) -> std::optional<double> {
    if (v == no_id) return otherwise;
    const Tensor* t = wiring::fixed(c.b, v);
    if (!t || t->count() != 1 || !is_float(t->dtype())) return std::nullopt;
    return t->get_real(0);
  };
  const double infinity = std::numeric_limits<double>::infinity();
  const auto a = bound(low, -infinity), z = bound(high, infinity);
  if (is_float(dtype) && a && z && *a <= *z)
    return c.out(0, wiring::pointwise(c.b, "Clip", {{"low", *a}, {"high", *z}}, x));
  ValueId out = x;
  if (low != no_id) out = c.b.op("Max", {out, wiring::scalar_of(c.b, low)});
  if (high != no_id) out = c.b.op("Min", {out, wiring::scalar_of(c.b, high)});
  c.out(0, out);
}

void import_clip(NodeContext& c) { clip(c, c.maybe(1), c.maybe(2)); }

void import_clip_1(NodeContext& c) {
  const auto attribute = [&](const char* name) {
    return c.has_attr(name) ? like(c.b, c.in(0), c.real(name, 0)) : no_id;
  };
  clip(c, attribute("min"), attribute("max"));
}

void import_prelu(NodeContext& c) {
  ValueId slope = c.in(1);
  if (c.opset < 7 && c.b.rank(slope) == 1 && c.b.rank(c.in(0)) > 2)
    slope = wiring::unsqueeze(c.b, slope, wiring::axis_range(1, c.b.rank(c.in(0)) - 1));
  c.out(0, c.b.op("PRelu", {c.in(0), slope}));
}

void import_gelu(NodeContext& c) {
  const std::string form = c.string("approximate", "none");
  if (form != "none" && form != "tanh") c.fail(fmt::format("approximate '{}' is neither none nor tanh", form));
  c.out(0, wiring::gelu(c.b, c.in(0), form == "tanh"));
}

void import_shrink(NodeContext& c) {
  const DType dtype = c.b.dtype(c.in(0));
  const ValueId x = is_float(dtype) ? c.in(0) : cast(c.b, c.in(0), DType::f64);
  const double lambda = c.real("lambd", 0.5);
  const ValueId bias = like(c.b, x, c.real("bias", 0));
  const ValueId above = c.b.op("Less", {like(c.b, x, lambda), x}), below = c.b.op("Less", {x, like(c.b, x, -lambda)});
  const ValueId upper = wiring::where(c.b, above, wiring::sub(c.b, x, bias), like(c.b, x, 0));
  c.out(0, cast(c.b, wiring::where(c.b, below, wiring::add(c.b, x, bias), upper), dtype));
}

RoundMode round_mode(NodeContext& c) {
  const std::string name = c.string("round_mode", "up");
  if (name == "up") return RoundMode::up;
  if (name == "down") return RoundMode::down;
  if (name == "nearest") return RoundMode::nearest;
  c.fail(fmt::format("round_mode '{}' is none of up, down, nearest", name));
}

void cast_to(NodeContext& c, DType to) {
  if (c.b.dtype(c.in(0)) == to) return c.out(0, c.in(0));
  const CastAttrs attrs{.to = to, .saturate = c.integer("saturate", 1) != 0, .round = round_mode(c)};
  c.out(0, c.b.op("Cast", attrs, {c.in(0)}));
}

void import_cast(NodeContext& c) {
  if (!c.has_attr("to")) c.fail("attribute 'to' is missing");
  cast_to(c, c.dtype("to", DType::f32));
}

// Before opset 6 'to' is the name of a data type.
void import_cast_1(NodeContext& c) {
  struct Name {
    const char* text;
    DType dtype;
  };
  constexpr Name names[] = {{"FLOAT", DType::f32},   {"UINT8", DType::u8},      {"INT8", DType::i8},
                            {"UINT16", DType::u16},  {"INT16", DType::i16},     {"INT32", DType::i32},
                            {"INT64", DType::i64},   {"STRING", DType::string}, {"BOOL", DType::boolean},
                            {"FLOAT16", DType::f16}, {"DOUBLE", DType::f64},    {"UINT32", DType::u32},
                            {"UINT64", DType::u64},  {"COMPLEX64", DType::c64}, {"COMPLEX128", DType::c128}};
  const std::string to = c.string("to", "");
  for (const Name& n : names)
    if (to == n.text) return cast_to(c, n.dtype);
  c.fail(fmt::format("attribute 'to' is '{}', which names no data type", to));
}

void import_bit_cast(NodeContext& c) {
  if (!c.has_attr("to")) c.fail("attribute 'to' is missing");
  c.out(0, c.b.op("BitCast", BitCastAttrs{.to = c.dtype("to", DType::f32)}, {c.in(0)}));
}

ValueId all_true(NodeContext& c, DType dtype) {
  return wiring::fill(c.b, c.b.scalar(dtype, 1), wiring::shape_of(c.b, c.in(0)));
}

// Before opset 12 Dropout does nothing outside training, and training is not what engines are for.
void import_dropout_1(NodeContext& c) {
  c.out(0, c.in(0));
  if (c.wants(1)) c.out(1, all_true(c, c.opset < 10 ? c.b.dtype(c.in(0)) : DType::boolean));
}

void import_dropout(NodeContext& c) {
  const Tensor* training = c.has(2) ? wiring::fixed(c.b, c.in(2)) : nullptr;
  const bool off = !c.has(2) || (training && training->count() == 1 && training->get_integer(0) == 0);
  const Tensor* fixed_ratio = c.has(1) ? wiring::fixed(c.b, c.in(1)) : nullptr;
  if (off || (fixed_ratio && is_zero(c, c.in(1)))) {
    c.out(0, c.in(0));
    if (c.wants(1)) c.out(1, all_true(c, DType::boolean));
    return;
  }
  GraphBuilder& b = c.b;
  const ValueId x = wiring::widened(b, c.in(0));
  const DType dtype = b.dtype(x);
  // Drawn in double precision: narrower numbers round to other masks.
  ValueId ratio = c.has(1) ? cast(b, wiring::scalar_of(b, c.in(1)), DType::f64) : b.scalar(DType::f64, 0.5);
  ratio = wiring::where(b, wiring::scalar_of(b, c.in(2)), ratio, b.scalar(DType::f64, 0));
  const ValueId u =
      b.op("RandomUniform", RandomUniformAttrs{.dtype = DType::f64, .seed = seed_of(c)}, {wiring::shape_of(b, x)});
  const ValueId keep = b.op("LessOrEqual", {ratio, u});
  const ValueId scale = cast(b, b.op("Reciprocal", {wiring::sub(b, b.scalar(DType::f64, 1), ratio)}), dtype);
  c.out(0, cast(b, wiring::where(b, keep, wiring::mul(b, x, scale), b.scalar(dtype, 0)), b.dtype(c.in(0))));
  if (c.wants(1)) c.out(1, keep);
}

// com.microsoft: GELU of a sum with an optional bias.
void bias_gelu(NodeContext& c, bool tanh_form) {
  const ValueId x = c.has(1) ? wiring::add(c.b, c.in(0), c.in(1)) : c.in(0);
  c.out(0, wiring::gelu(c.b, x, tanh_form));
}

void import_swiglu(NodeContext& c) {
  const ValueId gate = wiring::pointwise(c.b, "Swish", {{"alpha", c.real("alpha", 1)}}, wiring::widened(c.b, c.in(0)));
  c.out(0, cast(c.b, wiring::mul(c.b, gate, wiring::widened(c.b, c.in(1))), c.b.dtype(c.in(0))));
}

constexpr const char* microsoft = "com.microsoft";

#define SINTER_BINARY(name, since, op)                 \
  Entry {                                              \
    name, since, [](NodeContext& c) { binary(c, op); } \
  }

// Same-named operators of one operand need no line: see make_entries.
constexpr Entry table[] = {
    {"BitwiseNot", 18, [](NodeContext& c) { unary(c, "BitNot"); }},
    SINTER_BINARY("Add", 1, "Add"),
    SINTER_BINARY("And", 1, "And"),
    SINTER_BINARY("BitwiseAnd", 18, "BitAnd"),
    SINTER_BINARY("BitwiseOr", 18, "BitOr"),
    SINTER_BINARY("BitwiseXor", 18, "BitXor"),
    SINTER_BINARY("Div", 1, "Div"),
    SINTER_BINARY("Equal", 1, "Equal"),
    SINTER_BINARY("Less", 1, "Less"),
    SINTER_BINARY("LessOrEqual", 12, "LessOrEqual"),
    SINTER_BINARY("Mul", 1, "Mul"),
    SINTER_BINARY("Or", 1, "Or"),
    SINTER_BINARY("Sub", 1, "Sub"),
    SINTER_BINARY("Xor", 1, "Xor"),
    {"BitCast", 26, import_bit_cast},
    {"BitShift", 11, import_bit_shift},
    {"Cast", 1, import_cast_1},
    {"Cast", 6, import_cast},
    {"CastLike", 15, [](NodeContext& c) { cast_to(c, c.b.dtype(c.in(1))); }},
    {"Celu", 12,
     [](NodeContext& c) {
       const ValueId scaled = wiring::div(c.b, c.in(0), like(c.b, c.in(0), c.real("alpha", 1)));
       c.out(0, wiring::mul(c.b, wiring::pointwise(c.b, "Elu", {{"alpha", 1}}, scaled),
                            like(c.b, c.in(0), c.real("alpha", 1))));
     }},
    {"Clip", 1, import_clip_1},
    {"Clip", 11, import_clip},
    {"Dropout", 1, import_dropout_1},
    {"Dropout", 12, import_dropout},
    {"Elu", 1,
     [](NodeContext& c) {
       with_numbers(c, "Elu", {{"alpha", 1}});
     }},
    {"Gelu", 20, import_gelu},
    {"Greater", 1, [](NodeContext& c) { swapped(c, "Less"); }},
    {"GreaterOrEqual", 12, [](NodeContext& c) { swapped(c, "LessOrEqual"); }},
    {"HardSigmoid", 1,
     [](NodeContext& c) {
       with_numbers(c, "HardSigmoid", {{"alpha", 0.2}, {"beta", 0.5}});
     }},
    {"HardSwish", 14,
     [](NodeContext& c) {
       const ValueId gate = wiring::pointwise(c.b, "HardSigmoid", {{"alpha", 1.0 / 6}, {"beta", 0.5}}, c.in(0));
       c.out(0, wiring::mul(c.b, c.in(0), gate));
     }},
    {"IsInf", 10, import_is_inf},
    {"LeakyRelu", 1,
     [](NodeContext& c) {
       with_numbers(c, "LeakyRelu", {{"alpha", 0.01}});
     }},
    {"Max", 1, [](NodeContext& c) { c.out(0, fold_operands(c, "Max", false)); }},
    {"Mean", 1, import_mean},
    {"Min", 1, [](NodeContext& c) { c.out(0, fold_operands(c, "Min", false)); }},
    {"Mod", 10, import_mod},
    {"PRelu", 1, import_prelu},
    {"Pow", 1, import_pow},
    {"Selu", 1,
     [](NodeContext& c) {
       with_numbers(c, "Selu", {{"alpha", 1.6732}, {"gamma", 1.0507}});
     }},
    {"Selu", 6,
     [](NodeContext& c) {
       with_numbers(c, "Selu", {{"alpha", 1.67326319217681884765625}, {"gamma", 1.05070102214813232421875}});
     }},
    {"Shrink", 9, import_shrink},
    {"Sum", 1, import_sum},
    {"SwiGLU", 28, import_swiglu},
    {"Swish", 24,
     [](NodeContext& c) {
       with_numbers(c, "Swish", {{"alpha", 1}});
     }},
    {"ThresholdedRelu", 1,
     [](NodeContext& c) {
       with_numbers(c, "ThresholdedRelu", {{"alpha", 1}});
     }},
    {"Where", 9, [](NodeContext& c) { c.out(0, wiring::where(c.b, c.in(0), c.in(1), c.in(2))); }},
    {"BiasGelu", 1, [](NodeContext& c) { bias_gelu(c, false); }, microsoft},
    {"FastGelu", 1, [](NodeContext& c) { bias_gelu(c, true); }, microsoft},
    {"Gelu", 1, [](NodeContext& c) { bias_gelu(c, false); }, microsoft},
    {"QuickGelu", 1,
     [](NodeContext& c) {
       with_numbers(c, "Swish", {{"alpha", 1.702}});
     },
     microsoft},
};

#undef SINTER_BINARY

// The table, and every core operator of one expression without attributes under its own name.
std::vector<Entry> make_entries() {
  std::vector<Entry> all(std::begin(table), std::end(table));
  for (const Op* op : all_ops()) {
    if (!op->pointwise || op->fields || op->inputs.high > 1) continue;
    const auto named = [&](const Entry& e) { return e.name == op->name && e.domain.empty(); };
    if (std::none_of(std::begin(table), std::end(table), named))
      all.push_back({op->name, 1, [](NodeContext& c) { unary(c, c.node.op_type); }});
  }
  return all;
}

}  // namespace

std::span<const Entry> pointwise_entries() {
  static const std::vector<Entry> all = make_entries();
  return all;
}

}  // namespace sinter::onnx
