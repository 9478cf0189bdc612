// The text form of graphs, printed and parsed by the same code.
//
//   graph(%x : f32[N, 3, H, W], %w : f32[8, 3, 3, 3]) -> (%z) {
//     %y = Conv{pads=[1, 1, 1, 1]}(%x, %w) : f32[N, 8, H, W]
//     %z = Relu(%y) : f32[N, 8, H, W]
//   }
// Values are named by the model where the name is an identifier and unique, else by number. Known small contents stand
// inline. Types after a node are printed for the reader and checked when parsed. Bodies follow their node in braces.
#pragma once

#include <string>
#include <string_view>

#include "ir/graph.h"

namespace sinter {

std::string to_text(const Module& module);
std::string to_text(const Graph& graph, const SymbolTable& symbols);
// "%y = Conv(...)" of one node, for messages.
std::string node_text(const Graph& graph, NodeId node, const SymbolTable& symbols);

Module parse_module(std::string_view text);
Module parse_module(Scanner& scanner);

}  // namespace sinter
