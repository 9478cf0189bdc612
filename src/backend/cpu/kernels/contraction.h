// What the rows of f32 contractions share: a number of products C = A * B of one shape, each a call of the loops of
// isa/contract.h, cut into chunks, with B packed while building or in a first phase of the run.
//
// MatMul and Conv say what their operands are in these terms (a Product); planning, packing, splitting over threads,
// epilogues and running are here. Bits do not depend on how the work is split.
#pragma once

#include "backend/cpu/device.h"
#include "backend/cpu/kernels/epilogue.h"
#include "ops/contraction.h"

namespace sinter::cpu {

// Made once per engine, by prepare.
struct PreparedContraction {
  const ContractTable* table;
  OutputView view;
  Epilogue epilogue;
  int64_t chain = 0;  // ContractArgs::k_block
};
// The chains of a class of precision, for loops that take f32 as it is. Errors of a chain grow with the root of its
// length (docs/precision.md).
inline int64_t chain_of(Numerics numerics) { return numerics == Numerics::strict ? 384 : 0; }

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
  bool narrow_a = false;  // A is bf16
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
// narrow: it may be bf16 as well.
Answer device_f32(const Problem& problem, uint16_t value, bool narrow = false);
// Image, weights of the same rank and perhaps a vector of bias, each as above: what every kind of convolution takes.
// narrow: the image may be bf16. Precondition: plain_problem.
Answer convolution_operands(const Problem& problem, const Stage& stage, bool narrow = false);
// What the loops of packed products do with sums besides bias and bounds.
LoopsCan loops_can(const ContractTable& table);
// The panels that loops want for N columns.
Layout matrix_layout(const ContractTable& table, int64_t n, bool transposed);
Layout conv_layout(const ContractTable& table, int64_t n_per_group, int64_t groups, int64_t run);

// The level's loops, for rows that call them by themselves: a const ContractTable*.
std::shared_ptr<const void> prepare_contract_table(const Kernel&, const Problem&, const Config&,
                                                   const DeviceSpec& device);

// Throws where loops over planes could not count the bytes of an image of k channels. Precondition: the window reaches
// over 2^16 positions at most.
void check_planes(const Window& window, int64_t k);
// Plans chunks, workspace and scratch for `product` into `bound`.
void bind_product(const PreparedContraction& prepared, const BindContext& c, Product product, Bound& bound);
Status run_product(const Launch& launch);
// Points at C and at what is added to it, `offset` elements on.
void place_result(const Launch& launch, const Epilogue& epilogue, int64_t offset, ContractArgs& args);

// Some lines of one image of a convolution that bind_product has planned, without groups and with packed weights: for
// rows that hold operands or results of it in their scratch.
struct ProductLines {
  int64_t image = 0, first = 0, count = 0;  // lines of the result
  bool held_a = false;                      // the launch's A begins at these lines, of a convolution that is no window
  bool held_c = false;                      // the launch's result begins at these lines
};
// part: a launch of the convolution by itself, in its last phase, with scratch for as many lines.
void run_product_lines(const Launch& part, const ProductLines& lines);
// Bytes of scratch for up to `count` lines.
int64_t product_lines_scratch(const Bound& bound, int64_t count);

// Rows of a family differ in the numbers of the panels that they multiply: Kernel::self is one of these.
template <PanelNumbers numbers>
inline constexpr PanelNumbers row_of = numbers;
// The loops of a row, or null where the level has none.
const ContractTable* table_of(const Kernel& kernel, const DeviceSpec& device);
// Whether a row's loops are there and are as accurate as the contraction asks.
Answer accurate_enough(const Kernel& kernel, const DeviceSpec& device, Numerics numerics);
// What such a row needs of a machine besides its level.
constexpr uint64_t features_of(PanelNumbers numbers) {
  return numbers == PanelNumbers::f16_plane ? uint64_t{feature_amx_fp16} : 0;
}
// The family's row that multiplies these numbers.
constexpr Kernel row_with(Kernel family, const char* name, const PanelNumbers* numbers) {
  family.name = name;
  family.self = numbers;
  family.features = features_of(*numbers);
  return family;
}
// Planes that the loops split A into; 0: it stays as it is.
inline int planes_of(const ContractTable& table) { return plane_count(table.numbers); }
// Whether they take A and what is added in bf16, and make C in it.
inline bool takes_bf16(const ContractTable& table) { return table.numbers == PanelNumbers::planes1; }
// Whether they take B in panels that are made while building alone.
inline bool rounds_weights(const ContractTable& table) {
  return table.numbers == PanelNumbers::bf16 || table.numbers == PanelNumbers::f16;
}

// Estimated nanoseconds of `rows` x `columns` results of `depth` multiply-adds each, and of bytes, with these loops.
// bytes: all that is moved, with four for each of the columns * depth numbers of B, whatever takes their place.
// numbers: of A, which loops that multiply planes split; 0: rows * depth.
double contraction_cost(const ContractTable& table, double rows, double columns, double depth, double bytes,
                        double numbers = 0);

extern const Kernel matmul_rows[7], conv_rows[7], conv_transpose_rows[4], conv_phases_rows[4];

}  // namespace sinter::cpu
