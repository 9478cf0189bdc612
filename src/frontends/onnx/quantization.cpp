// Entries of quantization: QuantizeLinear, DequantizeLinear, DynamicQuantizeLinear.

#include "ops/cast.h"

#include "frontends/onnx/entries.h"
#include "ops/reduction.h"

namespace sinter::onnx {
namespace {

using wiring::cast;

// An attribute that holds a data type, where 0 stands for none.
std::optional<DType> optional_dtype(NodeContext& c, std::string_view name) {
  if (c.integer(name, 0) == 0) return std::nullopt;
  return c.dtype(name, DType::f32);
}

void import_quantize(NodeContext& c) {
  QuantizeAttrs a;
  a.axis = c.integer("axis", 1);
  a.block = c.integer("block_size", 0);
  a.saturate = c.integer("saturate", 1) != 0;
  a.to = c.has(2) ? c.b.dtype(c.in(2)) : optional_dtype(c, "output_dtype").value_or(DType::u8);
  ValueId scale = c.in(1);
  // The division has the precision of the scale's dtype.
  if (const auto precision = optional_dtype(c, "precision")) scale = cast(c.b, scale, *precision);
  c.out(0, c.b.op("QuantizeLinear", a, {c.in(0), scale, c.maybe(2)}));
}

void import_dequantize(NodeContext& c) {
  DequantizeAttrs a;
  a.axis = c.integer("axis", 1);
  a.block = c.integer("block_size", 0);
  a.to = optional_dtype(c, "output_dtype").value_or(c.b.dtype(c.in(1)));
  c.out(0, c.b.op("DequantizeLinear", a, {c.in(0), c.in(1), c.maybe(2)}));
}

void import_dynamic_quantize(NodeContext& c) {
  const DynamicallyQuantized q = dynamically_quantized(c.b, c.in(0));
  c.out(0, q.values);
  if (c.wants(1)) c.out(1, q.scale);
  if (c.wants(2)) c.out(2, q.zero);
}

constexpr Entry table[] = {
    {"DequantizeLinear", 10, import_dequantize},
    {"DequantizeLinear", 1, import_dequantize, "com.microsoft"},
    {"DynamicQuantizeLinear", 11, import_dynamic_quantize},
    {"QuantizeLinear", 10, import_quantize},
    {"QuantizeLinear", 1, import_quantize, "com.microsoft"},
};

}  // namespace

DynamicallyQuantized dynamically_quantized(GraphBuilder& b, ValueId value) {
  const ValueId x = cast(b, value, DType::f32);
  const auto number = [&](double v) { return b.scalar(DType::f32, v); };
  const auto range = [&](const char* reduce, const char* with) {
    return b.op(with, {b.op(reduce, ReduceAttrs{.keep_dims = false}, {x}), number(0)});
  };
  const ValueId high = range("ReduceMax", "Max"), low = range("ReduceMin", "Min");
  const ValueId width = wiring::sub(b, high, low);
  const ValueId flat = b.op("Equal", {width, number(0)});
  const ValueId scale = wiring::div(b, wiring::where(b, flat, number(1), width), number(255));
  const ValueId offset = b.op("Neg", {wiring::div(b, low, scale)});
  const ValueId held = wiring::pointwise(b, "Clip", {{"low", 0}, {"high", 255}}, offset);
  const ValueId zero = cast(b, b.op("Round", {held}), DType::u8);
  return {b.op("QuantizeLinear", QuantizeAttrs{}, {x, scale, zero}), scale, zero};
}

std::span<const Entry> quantization_entries() { return table; }

}  // namespace sinter::onnx
