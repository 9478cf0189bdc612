// The families of CPU kernels; kernels.cpp joins them into the backend's table.
#pragma once

#include <span>

#include "backend/kernel.h"

namespace sinter::cpu {

std::span<const Kernel> contraction_kernels();
std::span<const Kernel> attention_kernels();  // two MatMuls and what is between them
std::span<const Kernel> spatial_kernels();    // depthwise convolution, pooling
std::span<const Kernel> winograd_kernels();   // Conv of 3x3 in fewer products
std::span<const Kernel> strip_kernels();      // convolutions that follow each other
std::span<const Kernel> planar_kernels();     // Conv with few results a pixel
std::span<const Kernel> program_kernels();    // pointwise and row programs
std::span<const Kernel> movement_kernels();
std::span<const Kernel> indexing_kernels();     // GatherElements, GatherND, scatters, PutRows, ReverseSequence
std::span<const Kernel> selection_kernels();    // TopK, ArgMax, ArgMin, CumSum, CumProd
std::span<const Kernel> dynamic_kernels();      // NonZero, Compress, Unique
std::span<const Kernel> suppression_kernels();  // NonMaxSuppression
std::span<const Kernel> late_kernels();         // any operator whose host operands are known when it runs
std::span<const Kernel> generation_kernels();   // Range, OneHot
std::span<const Kernel> packing_kernels();      // weights into panels
std::span<const Kernel> resize_kernels();
std::span<const Kernel> resample_kernels();      // Resize in every mode
std::span<const Kernel> sample_kernels();        // GridSample, RoiAlign, LRN
std::span<const Kernel> signal_kernels();        // DFT, STFT
std::span<const Kernel> deformable_kernels();    // DeformConv
std::span<const Kernel> plane_kernels();         // MaxPool with indices, of bytes
std::span<const Kernel> byte_pooling_kernels();  // MaxPool of bytes, channels last
std::span<const Kernel> recurrent_kernels();
std::span<const Kernel> integer_depthwise_kernels();  // ConvInteger of one channel per group
std::span<const Kernel> integer_kernels();            // MatMulInteger, ConvInteger
std::span<const Kernel> custom_kernels();             // operators of plugins

}  // namespace sinter::cpu
