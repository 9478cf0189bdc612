// Window operators that keep channels apart, channels last: depthwise convolution, convolution in small groups, maximum
// and average pooling, the average over all pixels. Computed in fp32; images may be stored as bf16.
//
// One table of functions per instruction set; channels lie in the lanes. Results do not depend on
// how rows are split into chunks. Nothing outside the operands is touched. in and out may not
// overlap. Left to the caller: extents (ceil mode is a matter of window.out), threads.
#pragma once

#include <cstdint>

#include "backend/cpu/isa/contract.h"

namespace sinter::cpu {

struct SpatialArgs {
  Window window;
  int64_t channels = 0;                                      // of the result
  int64_t group_in = 1, group_out = 1;                       // grouped: channels of a group, operand and result
  const void* in = nullptr;                                  // floats, or bf16
  bool narrow_in = false, narrow_out = false;                // bf16
  int64_t pixel_stride = 0, image_stride = 0;                // numbers
  const float* weights = nullptr;                            // [kernel taps][channels], [taps][group_in][channels]
  const float* bias = nullptr;                               // of convolutions: [channels], or null
  float low = -contract_no_bound, high = contract_no_bound;  // NaN passes
  bool count_padding = false;  // average: taps in pad and pad_end count, those beyond never
  void* out = nullptr;
  int64_t out_stride = 0;            // numbers from pixel to pixel
  BlockEpilogue epilogue = nullptr;  // null: store to out; else m counts output pixels
  void* user = nullptr;
};

// Row r of the output: image r / (out[0] * out[1]), then depth, then height.
using SpatialFunction = void (*)(const SpatialArgs&, int64_t row_begin, int64_t row_end, void* scratch);

struct SpatialTable {
  int lanes;                                    // floats of a vector
  int64_t (*scratch_size)(const SpatialArgs&);  // bytes; scratch is 64-byte aligned
  SpatialFunction depthwise;
  // What any `lanes` neighbouring results read, from a multiple of lanes on or the last ones, are at most as many
  // channels of the operand.
  SpatialFunction grouped;
  SpatialFunction grouped_twice;  // the same with twice as many channels, which the operand has
  SpatialFunction max_pool;       // NaN wins; a window without taps gives -infinity
  // Sums times one over the count, so within 1.5 units of the last place of their quotient. A window without taps gives
  // NaN.
  SpatialFunction average_pool;
  // out[c] = sum over pixels of in[pixel * pixel_stride + c], over divisor, for c in [c_begin, c_end); in: floats, or
  // bf16.
  void (*global_average)(const void* in, bool narrow, int64_t pixels, int64_t pixel_stride, int64_t c_begin,
                         int64_t c_end, float divisor, float* out);
  void (*widen)(const uint16_t* from, int64_t n, float* to);  // bf16 to floats
  // To the nearest bf16: rows of n, `stride` and `step` elements apart.
  void (*narrow)(const float* from, int64_t stride, int64_t rows, int64_t n, uint16_t* to, int64_t step);
};

extern const SpatialTable spatial_portable;
#ifdef SINTER_X86
extern const SpatialTable spatial_avx2;
extern const SpatialTable spatial_avx512;
extern const SpatialTable spatial_avx512_bf16;  // the same, with the conversions of AVX-512 BF16
#endif

}  // namespace sinter::cpu
