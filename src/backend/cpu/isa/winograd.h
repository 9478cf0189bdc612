// Winograd's transforms for 3x3 convolutions of stride 1: a tile of E x E results (E = 2 or 4) is made of
// (E+2) x (E+2) products instead of 9 E x E, one for each of as many points.
//
// Images, weights and results have channels in the lanes; a transform is a few sums per lane. The products between them
// are ordinary contractions (isa/contract.h), one per point over all tiles. Each number is made by the same operations
// wherever it lies in a block. Left to the caller: tiles, borders, products, threads.
#pragma once

#include <cstdint>

#include "backend/cpu/isa/contract.h"

namespace sinter::cpu {

// Sums as they leave the transform, to be finished: bias, then what is added, then bounds.
struct WinogradFinish {
  const float* sums = nullptr;
  int64_t rows = 0, columns = 0, stride = 0;                 // stride: floats from row to row of the sums
  const float* bias = nullptr;                               // of the first column, or null
  const float* residual = nullptr;                           // as it lies in `to` and with its stride; may be it
  float low = -contract_no_bound, high = contract_no_bound;  // NaN passes
  float* to = nullptr;                                       // may be the sums themselves
  int64_t to_stride = 0;
  const uint16_t* narrow_residual = nullptr;  // bf16 instead
  uint16_t* narrow_to = nullptr;
};

struct WinogradTable {
  int lanes;
  struct Tiles {
    int edge;
    // One tile: pixels[(E+2) * row + column] points at `channels` floats each; point p of them goes to
    // points + p * point_stride, with room for whole vectors.
    void (*image)(const float* const* pixels, int64_t channels, float* points, int64_t point_stride);
    void (*narrow_image)(const uint16_t* const* pixels, int64_t channels, float* points, int64_t point_stride);  // bf16
    // `count` floats (whole vectors) of each of nine taps, row-major, to those of each point.
    void (*weights)(const float* taps, int64_t tap_stride, int64_t count, float* points, int64_t point_stride);
    // One tile: `columns` floats (whole vectors) of each point to E x E pixels of results. False where one of them is
    // infinite or NaN.
    bool (*result)(const float* points, int64_t point_stride, int64_t columns, float* to, int64_t line_stride,
                   int64_t pixel_stride);
  };
  Tiles small, large;  // of 2 x 2 and 4 x 4 results
  void (*finish)(const WinogradFinish&);
};

extern const WinogradTable winograd_portable;
#ifdef SINTER_X86
extern const WinogradTable winograd_avx2;
extern const WinogradTable winograd_avx512;
#endif

}  // namespace sinter::cpu
