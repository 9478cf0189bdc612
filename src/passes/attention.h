// Attentions of a graph: which nodes a fragment may take whole that never stores scores.
#pragma once

#include <vector>

#include "ir/graph.h"

namespace sinter {

// Sets of nodes in ascending order, disjoint: MatMul(q, k), pointwise nodes and reductions over the last axis behind
// it, MatMul(weights, v) that ends them, views (ops/views.h) before and behind. Only the last node's result
// is read outside of a set, and k and v are no constants. What a Band makes belongs to the set where it alone reads it.
std::vector<std::vector<NodeId>> find_attentions(const Graph& graph);

// By value, whether it is known when the engine is built: constants and what deterministic operators make of them
// alone.
std::vector<bool> built_values(const Graph& graph);

// A Band (ops/generation.h) of its own for each attention that takes one; all other readers share one.
void divide_bands(Graph& graph);

}  // namespace sinter
