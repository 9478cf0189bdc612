// Contractions in fp32: C[M x N] = sum over taps t of A_t[M x K] * B_t[K x N], plain or gathered
// from a channels-last image (convolution of one to three spatial dimensions).
//
// One table of functions per instruction set. Every element of C is made of chains of multiply-adds in
// the order (tap, k), each from zero on, which are added up in that order: short chains err less. Where
// they end depends on extents, the panels' width and k_block, not on the tile or the split into chunks:
// results do not depend on the number of threads. Nothing outside the operands is read or written; prefetches do
// not fault. Left to the caller: sizes that fit, groups and batches (one call each), threads.
#pragma once

#include <cstdint>

#include "tensor/panel_numbers.h"

namespace sinter::cpu {

// Positions of a window over [depth, height, width]; a missing leading dimension has extent 1.
struct Window {
  int64_t in[3] = {1, 1, 1}, out[3] = {1, 1, 1}, kernel[3] = {1, 1, 1};
  int64_t stride[3] = {1, 1, 1}, dilation[3] = {1, 1, 1};
  int64_t pad[3] = {0, 0, 0};      // before
  int64_t pad_end[3] = {0, 0, 0};  // after; read only by averages that count the padding
};

// Takes block[rows x cols], which stands for C[m.., n..], finishes it and stores it. The block
// already holds bias and bounds; it may be overwritten.
using BlockEpilogue = void (*)(void* user, int64_t m, int64_t rows, int64_t n, int64_t cols, float* block,
                               int64_t block_stride);

inline constexpr float contract_no_bound = __builtin_inff();

struct ContractArgs {
  int64_t m = 0, n = 0, k = 0, taps = 1;
  const float* a = nullptr;
  const uint16_t* narrow_a = nullptr;  // A in bf16 instead; only for loops with one plane
  int64_t lda = 0;                     // elements from row to row; with a window from pixel to pixel
  const Window* window = nullptr;      // then taps = product of kernel, m = images * product of out
  int64_t image_stride = 0;            // elements from image to image of A
  int64_t channel_stride = 1;          // floats from k to k + 1 of A; others only with a window and loops that split A
  const float* b = nullptr;            // packed by pack_b with the same nr
  int nr = 0;                          // columns of a panel, from panel_width
  int64_t b_taps = 0, b_first = 0;     // of B's panels, where these are some of more, from one on; not with `run`
  int64_t run = 1;                     // taps of one window row that B takes as one, with K times as many numbers
  float* c = nullptr;
  uint16_t* narrow_c = nullptr;  // C in bf16 instead; only for loops with one plane, without accumulation
  int64_t ldc = 0;
  // Added before bounds, as it lies in C and with its ldc; may be C itself. Without accumulation or an epilogue; at
  // most one of them, in bf16 only for loops with one plane.
  const float* residual = nullptr;
  const uint16_t* narrow_residual = nullptr;
  bool accumulate = false;                                   // C += instead of C =; not with an epilogue
  const float* bias = nullptr;                               // n floats
  float low = -contract_no_bound, high = contract_no_bound;  // NaN passes
  BlockEpilogue epilogue = nullptr;                          // null: store to c
  void* user = nullptr;
  // Rows of a block; 0 lets the level decide. Never changes a bit of the result.
  int64_t m_block = 0;
  // Terms of a chain, about; 0 lets the level decide. Only for loops that do not split A.
  int64_t k_block = 0;
};

// B for packing: element (tap, k, n) at src[tap * tap_stride + k * k_stride + n * n_stride].
struct PackArgs {
  const float* src = nullptr;
  const uint16_t* narrow_src = nullptr;  // B in bf16 instead; only for loops with one plane
  int64_t tap_stride = 0, k_stride = 0, n_stride = 0;
  int64_t taps = 1, k = 0, n = 0;
  int nr = 0;
  int64_t run = 1;
};

// What estimates go by.
struct Pace {
  double products;  // multiply-adds in a nanosecond
  double split;     // nanoseconds to read a number of A, or to make a plane of it
  double finish;    // nanoseconds to finish a sum, beyond what loops without planes take
  double stream;    // bytes of a B that comes from memory in a nanosecond
  int rows, depth;  // rows and K are padded to multiples
};

struct ContractTable {
  Pace pace;
  int lanes;             // floats of a vector
  int max_rows;          // rows of the tallest tile: a good unit for splitting M
  PanelNumbers numbers;  // of a packed B; where they are planes, A is split into as many
  // Columns of a panel for N columns: a function of the level and n alone, so that it may be
  // decided when weights are packed.
  int (*panel_width)(int64_t n);
  // Floats of packed B, or their room: [panel][tap][k][nr], zeros beyond N; the last panel is as wide as its columns
  // rounded up to lanes. Planes as tensor/layout.h says; only they depend on `run`. Numbers of 16 bits take half.
  int64_t (*packed_size)(int64_t taps, int64_t k, int64_t n, int nr, int64_t run);
  // Packs the panels that hold columns [n_begin, n_end); n_begin is a multiple of nr.
  void (*pack_b)(const PackArgs&, int64_t n_begin, int64_t n_end, float* dst);
  // Bytes of scratch of one chunk call of `rows` rows and `cols` columns.
  int64_t (*scratch_size)(const ContractArgs&, int64_t rows, int64_t cols);
  // Rows [m_begin, m_end) and columns [n_begin, n_end) of C, whole panels: n_begin is a multiple of nr, n_end too or n.
  // scratch: 64-byte aligned, private to the thread.
  void (*chunk)(const ContractArgs&, int64_t m_begin, int64_t m_end, int64_t n_begin, int64_t n_end, void* scratch);
  // C = A * B for few rows and a B used once, so not worth packing: element (k, n) of B at
  // b[k * k_stride + n * n_stride], one of the strides 1. Columns [n_begin, n_end).
  void (*unpacked)(int64_t m, int64_t k, const float* a, int64_t lda, const float* b, int64_t k_stride,
                   int64_t n_stride, int64_t n_begin, int64_t n_end, float* c, int64_t ldc);
  // dst[c * dst_stride + r] = src[r * src_stride + c], elements of four bytes.
  void (*transpose)(const void* src, int64_t rows, int64_t cols, int64_t src_stride, void* dst, int64_t dst_stride);
};

extern const ContractTable contract_portable;
#ifdef SINTER_X86
extern const ContractTable contract_avx2;
extern const ContractTable contract_avx512;
// The same with B in 16 bits, each number as wide as others once it is in a register.
extern const ContractTable contract_avx2_wbf16, contract_avx2_wf16, contract_avx512_wbf16, contract_avx512_wf16;
// Operands as one plane of bf16, with the instructions of AVX-512 BF16.
extern const ContractTable contract_avx512_bf16;
// Operands as one, two and three planes of bf16, multiplied in one, three and six terms.
extern const ContractTable contract_amx_bf16, contract_amx_bf16x3, contract_amx_bf16x6;
// Operands as one plane of f16, with AMX-FP16.
extern const ContractTable contract_amx_f16;
#endif

}  // namespace sinter::cpu
