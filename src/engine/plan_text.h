// The text form of a Target: what an engine file holds besides weight bytes.
//
// Printed and parsed by the same code; parsing checks form and ranges of numbers, backend/verify.h checks meaning.
#pragma once

#include <string>
#include <string_view>

#include "backend/plan.h"

namespace sinter {

// Where the bytes of each weight start in the engine's weight section, in the order of Target::weights.
using WeightOffsets = std::vector<int64_t>;

std::string to_text(const Target& target, const WeightOffsets& offsets);
// Weights have no bytes yet. Throws Error: engine_invalid, or engine_incompatible for operators of plugins that are not
// loaded.
Target parse_target(std::string_view text, WeightOffsets& offsets);

}  // namespace sinter
