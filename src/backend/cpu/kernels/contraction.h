// What the rows of f32 contractions share: a number of products C = A * B of one shape, each a call of the loops of
// isa/contract.h, cut into chunks, with B packed while building or in a first phase of the run.
//
// MatMul and Conv say what their operands are in these terms (a Product); planning, packing, splitting over threads,
// epilogues and running are here. Bits do not depend on how the work is split.
#pragma once

#include "backend/cpu/device.h"
#include "backend/cpu/kernels/epilogue.h"

namespace sinter::cpu {

// Made once per engine, by prepare.
struct PreparedContraction {
  const ContractTable* table;
  OutputView view;
  Epilogue epilogue;
};

// One shape's work. The calls run over call_dims; strides say where each call's operands start, in floats.
struct Product {
  Dims call_dims;
  size_t batch_axes = 0;  // leading call axes that are the view's batch axes
  std::vector<int64_t> a_strides, c_strides, column_strides;
  std::vector<int64_t> b_strides;  // in matrices when B is packed, else in floats
  ContractArgs args;               // extents, lda, ldc, window (set when run), image_stride
  bool windowed = false;
  Window window;

  int a_operand = 0, b_operand = 1;
  bool b_packed = false;  // the operand is panels already
  // Of a B that is not: its matrices and how an element lies, for packing or for direct use.
  int64_t b_matrices = 1;
  std::vector<int64_t> b_matrix_dims, b_matrix_strides;
  PackArgs pack;
  bool unpacked = false;  // B is used as it lies; no window

  // A that lies with channels first: [images, channels, pixels], turned around in the first phase.
  bool turn_a = false;
  int64_t turn_images = 0, turn_channels = 0, turn_pixels = 0;
};

// Whether the problem's stage operand is a device operand of f32 in a strided layout or `any`; host operands and
// operands with known contents have no bytes.
Answer device_f32(const Problem& problem, uint16_t value);
// Image, weights and perhaps a bias, each as above: what every kind of convolution takes.
Answer convolution_operands(const Problem& problem, const Stage& stage);
// The panels that this level wants for N columns.
Layout matrix_layout(const DeviceSpec& device, int64_t n, bool transposed);
Layout conv_layout(const DeviceSpec& device, int64_t n_per_group, int64_t groups);

// The level's loops, for rows that call them by themselves: a const ContractTable*.
std::shared_ptr<const void> prepare_contract_table(const Kernel&, const Problem&, const Config&,
                                                   const DeviceSpec& device);

// Plans chunks, workspace and scratch for `product` into `bound`.
void bind_product(const PreparedContraction& prepared, const BindContext& c, Product product, Bound& bound);
Status run_product(const Launch& launch);

// Estimated nanoseconds for multiply-adds and bytes at a level.
double contraction_cost(const DeviceSpec& device, double multiply_adds, double bytes);

extern const Kernel matmul_row, conv_row, conv_transpose_row;

}  // namespace sinter::cpu
