// Entries of signal and matrix operators.

#include "ops/signal.h"

#include "frontends/onnx/entries.h"

namespace sinter::onnx {
namespace {

void dft(NodeContext& c, ValueId axis) {
  const DFTAttrs a{.inverse = c.integer("inverse", 0) != 0, .one_sided = c.integer("onesided", 0) != 0};
  const ValueId length = c.has(1) ? as_scalar(c, c.in(1)) : no_id;
  c.out(0, c.b.op("DFT", a, {c.in(0), length, axis}));
}

ValueId number(NodeContext& c, int64_t v) { return c.b.constant(Tensor::scalar_i64(v)); }

void import_dft_17(NodeContext& c) { dft(c, number(c, c.integer("axis", 1))); }

void import_dft(NodeContext& c) { dft(c, c.has(2) ? as_scalar(c, c.in(2)) : number(c, -2)); }

void import_stft(NodeContext& c) {
  const STFTAttrs a{.one_sided = c.integer("onesided", 1) != 0};
  const ValueId length = c.has(3) ? as_scalar(c, c.in(3)) : no_id;
  c.out(0, c.b.op("STFT", a, {c.in(0), as_scalar(c, c.in(1)), c.maybe(2), length}));
}

void import_mel_weights(NodeContext& c) {
  const MelWeightMatrixAttrs a{.dtype = c.dtype("output_datatype", DType::f32)};
  const auto frequency = [&](size_t i) { return wiring::scalar_of(c.b, c.in(i)); };
  c.out(0, c.b.op("MelWeightMatrix", a,
                  {as_scalar(c, c.in(0)), as_scalar(c, c.in(1)), as_scalar(c, c.in(2)), frequency(3), frequency(4)}));
}

void import_col2im(NodeContext& c) {
  Col2ImAttrs a;
  a.dilations = c.integers("dilations");
  a.pads = c.integers("pads");
  a.strides = c.integers("strides");
  c.out(0, c.b.op("Col2Im", std::move(a), {c.in(0), c.in(1), c.in(2)}));
}

constexpr Entry table[] = {
    {"Col2Im", 18, import_col2im},
    {"DFT", 17, import_dft_17},
    {"DFT", 20, import_dft},
    {"Det", 11, [](NodeContext& c) { unary(c, "Det"); }},
    {"MelWeightMatrix", 17, import_mel_weights},
    {"STFT", 17, import_stft},
};

}  // namespace

std::span<const Entry> signal_entries() { return table; }

}  // namespace sinter::onnx
