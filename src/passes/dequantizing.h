// Nodes that make f32 of bytes as quantized networks write it: a Cast and, behind it, Sub and Mul by known numbers.
//
// They cost less than what they save where their reader's program does them: bytes are read instead of floats, and
// nothing is stored.
#pragma once

#include <vector>

#include "ir/graph.h"

namespace sinter {

// By node.
std::vector<bool> dequantizing(const Graph& graph);

// Gives each reader whose program takes them in nodes of its own, right before it. What is known while building stays.
void divide_dequantizing(Graph& graph);

}  // namespace sinter
