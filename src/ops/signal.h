// Attributes of signal and matrix operators.
//
// DFT(x [..., signal, 1 or 2], length?, axis?) · STFT(signal [B, T, 1 or 2], step, window?, frame_length?) ·
// MelWeightMatrix(bins, length, rate, low, high) · Col2Im(x, image_shape, block_shape) · Det(x) · Inverse(x) · LRN(x).
// Lengths, steps, axes and shapes are host operands; so are bins and length of MelWeightMatrix.
#pragma once

#include "base/fields.h"
#include "tensor/dtype.h"

namespace sinter {

struct DFTAttrs {
  bool inverse = false;
  bool one_sided = false;
};

struct STFTAttrs {
  bool one_sided = true;
};

struct MelWeightMatrixAttrs {
  DType dtype = DType::f32;
};

struct Col2ImAttrs {
  std::vector<int64_t> dilations = {}, pads = {}, strides = {};
};

struct LRNAttrs {
  double alpha = 1e-4, beta = 0.75, bias = 1;
  int64_t size = 1;
};

const Fields& fields_of(const DFTAttrs*);
const Fields& fields_of(const STFTAttrs*);
const Fields& fields_of(const MelWeightMatrixAttrs*);
const Fields& fields_of(const Col2ImAttrs*);
const Fields& fields_of(const LRNAttrs*);

}  // namespace sinter
