// A failing recipe made smaller for as long as it fails in the same phase.
//
// Results are dropped, nodes are replaced by inputs, constants or their own operands, bodies take their node's place,
// operands that bodies do not read go, attributes go, and extents get smaller, until nothing of it can be done.
#pragma once

#include <functional>
#include <optional>

#include "random_graphs/check.h"

namespace random_graphs {

using Test = std::function<std::optional<Failure>(const Recipe&)>;  // none: it does not fail

struct Shrunk {
  Recipe recipe;
  Failure failure;
  size_t tries = 0;
};
// seed: of the data that give replaced nodes their values. seconds: after which it stops where it is.
Shrunk shrink(Recipe recipe, Failure failure, uint64_t seed, const Test& test, double seconds);

}  // namespace random_graphs
