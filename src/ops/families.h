// The families of core operators; each is one file pair and gives its rows here. A new family is one line here and one
// in registry.cpp.
#pragma once

#include <span>

namespace sinter {

struct Op;

std::span<const Op> pointwise_ops();    // one expression each
std::span<const Op> cast_ops();         // Cast, BitCast, QuantizeLinear, DequantizeLinear
std::span<const Op> shape_ops();        // Shape, Size, Identity, Reshape, Squeeze, Unsqueeze, Flatten
std::span<const Op> movement_ops();     // Transpose, Expand, Slice, Pad, Concat, Split, Tile, ...
std::span<const Op> indexing_ops();     // Gather*, Scatter*, Compress, NonZero, OneHot
std::span<const Op> generation_ops();   // Range, EyeLike, random
std::span<const Op> selection_ops();    // TopK, Unique, ArgMax, ArgMin, NonMaxSuppression, CumSum
std::span<const Op> reduction_ops();    // ReduceSum, ReduceMax, ...
std::span<const Op> contraction_ops();  // MatMul, Conv, ConvTranspose, Einsum
std::span<const Op> pooling_ops();      // MaxPool, AveragePool, LpPool, MaxUnpool, RoiAlign
std::span<const Op> recurrent_ops();    // LSTM, GRU, RNN
std::span<const Op> resize_ops();       // Resize, GridSample
std::span<const Op> signal_ops();       // DFT, STFT, MelWeightMatrix, Col2Im, Det, LRN
std::span<const Op> control_ops();      // If, Loop, Fragment
std::span<const Op> string_ops();       // StringConcat, StringSplit, StringNormalizer, RegexFullMatch, TfIdfVectorizer
std::span<const Op> tokenizer_ops();    // Tokenizer
std::span<const Op> warping_ops();      // DynamicTimeWarping
std::span<const Op> refusal_ops();      // Refuse
std::span<const Op> tree_ops();         // TreeEnsemble
std::span<const Op> label_ops();        // Lookup, ClassProbabilities
std::span<const Op> sequence_ops();     // SequenceConstruct, ..., Optional*
std::span<const Op> map_ops();          // MapRows, MapEntries
std::span<const Op> custom_ops();       // Custom: the operators of plugins

}  // namespace sinter
