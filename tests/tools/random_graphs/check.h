// What is built of a recipe against the evaluation by definition.
//
// A recipe is evaluated by reference, built and run, saved and loaded and run (twice, on other data the second time),
// and built with extents left open, then run with other extents too.
#pragma once

#include <optional>
#include <string>

#include "random_graphs/recipe.h"

namespace random_graphs {

struct Failure {
  std::string phase;  // where it failed and with which code: what shrinking keeps
  std::string message;
  bool dynamic = false;  // the form with open extents
};

// Runs with other extents: how many there were, and how many the definition accepted. Forms of graphs with loops that
// it refuses as a whole.
struct Others {
  size_t tried = 0, defined = 0, refused = 0;
};

std::optional<Failure> check(const Recipe& recipe, uint64_t seed, const Fault& fault = {}, Others* others = nullptr);

// The definition takes it, and no number on the way is NaN, infinite or huge.
bool is_sound(const Recipe& recipe, uint64_t seed);

}  // namespace random_graphs
