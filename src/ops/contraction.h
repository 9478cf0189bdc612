// Attributes of contractions.
//
// MatMul(a, b) with broadcasting batch axes, ranks as ONNX has them (vectors allowed) · Conv(x, w, bias?) over
// [N, C, spatial...] with w [M, C/group, kernel...] · ConvTranspose(x, w, bias?) with w [C, M/group, kernel...] ·
// Einsum(x...). Integers accumulate in their own dtype (callers cast first); half types accumulate wider and round
// once. DeformConv(x, w, offset, bias?, mask?).
#pragma once

#include <optional>

#include "base/fields.h"
#include "ops/window.h"

namespace sinter {

// How a contraction of f32 may multiply; set by assign precision.
enum class Numerics : uint8_t { strict, tf32, bf16, fp16 };
std::span<const char* const> enum_names(Numerics);

struct MatMulAttrs {
  bool transpose_b = false;  // b is [..., N, K]; its rank is at least 2
  Numerics numerics = Numerics::strict;
};

struct ConvAttrs {
  AutoPad auto_pad = AutoPad::explicit_pads;
  std::vector<int64_t> dilations = {};
  int64_t group = 1;
  std::vector<int64_t> pads = {};
  std::vector<int64_t> strides = {};
  Numerics numerics = Numerics::strict;
};

struct ConvTransposeAttrs {
  AutoPad auto_pad = AutoPad::explicit_pads;
  std::vector<int64_t> dilations = {};
  int64_t group = 1;
  std::vector<int64_t> output_padding = {};
  std::vector<int64_t> output_shape = {};  // spatial; empty: follows from the rest
  std::vector<int64_t> pads = {};
  std::vector<int64_t> strides = {};
  Numerics numerics = Numerics::strict;
};

// How a contraction may multiply; nothing for attributes of other operators.
std::optional<Numerics> numerics_of(const Attrs&);
// The same contraction with other numerics. Precondition: numerics_of has a value.
Attrs with_numerics(const Attrs&, Numerics);

struct EinsumAttrs {
  std::string equation = {};
};

struct DeformConvAttrs {
  std::vector<int64_t> dilations = {};
  int64_t group = 1;
  int64_t offset_group = 1;
  std::vector<int64_t> pads = {};
  std::vector<int64_t> strides = {};
};

const Fields& fields_of(const MatMulAttrs*);
const Fields& fields_of(const ConvAttrs*);
const Fields& fields_of(const ConvTransposeAttrs*);
const Fields& fields_of(const EinsumAttrs*);
const Fields& fields_of(const DeformConvAttrs*);

}  // namespace sinter
