// Attentions of a graph: which nodes a fragment may take whole that never stores scores.
#pragma once

#include <vector>

#include "ir/graph.h"

namespace sinter {

// Sets of nodes in ascending order, disjoint: MatMul(q, k), pointwise nodes and reductions over the last axis behind
// it, MatMul(weights, v) that ends them, views (ops/views.h) before and behind. Only the last node's result
// is read outside of a set, and k and v are no constants.
std::vector<std::vector<NodeId>> find_attentions(const Graph& graph);

}  // namespace sinter
