// What the two ways to run ConvTranspose share: with all taps at once into columns that are then summed up
// (deconvolution.cpp), and phase by phase, each an ordinary convolution (deconvolution_phases.cpp).
#pragma once

#include <algorithm>

#include "backend/cpu/isa/spatial.h"
#include "backend/kernel.h"

namespace sinter::cpu {

// What both ask of a problem, but for the layout of the weights.
Answer transposed_supported(const Kernel& kernel, const Problem& problem, const DeviceSpec& device);

// Result o and operand position i meet in tap (o + pad - i * stride) / dilation.
struct TransposedAxis {
  int64_t in = 1, out = 1, kernel = 1, stride = 1, dilation = 1, pad = 0;
  // Operand positions [first, last) that may reach results [begin, end).
  void reach(int64_t begin, int64_t end, int64_t& first, int64_t& last) const {
    const int64_t low = begin + pad - (kernel - 1) * dilation, high = end - 1 + pad;
    first = low <= 0 ? 0 : std::min(in, (low + stride - 1) / stride);
    last = high < 0 ? first : std::max(first, std::min(in, high / stride + 1));
  }
};
// Those of the problem's first stage, from axes[0] on, and the number of taps. Throws where operands do not fit.
int64_t transposed_axes(const BindContext& c, TransposedAxis* axes);

// n floats of every pixel to places `step` apart.
void copy_runs(const float* from, int64_t stride, int64_t pixels, int64_t n, float* to, int64_t step);
// The same to bf16.
void narrow_runs(const SpatialTable& convert, const float* from, int64_t stride, int64_t pixels, int64_t n,
                 uint16_t* to, int64_t step);

}  // namespace sinter::cpu
