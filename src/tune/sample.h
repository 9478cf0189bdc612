// Inputs made up for a network: seeded random data of the types that it takes.
//
// Floats are normal, integers and bools 0 or 1 (so that indices, masks and kinds stay in range), strings short words,
// maps of three keys.
// Extents that vary come from the caller, else from the profile's best value, else from a guess by position.
#pragma once

#include <map>
#include <span>
#include <string>

#include "backend/plan.h"
#include "tensor/symbols.h"

namespace sinter {

struct SampleOptions {
  uint64_t seed = 1;
  std::map<std::string, Dims> shapes;  // by input name
};

struct SampledInput {
  std::string name;
  Type type;
};

// One value an input. `best`: values by symbol, -1 where there is none. Throws Error(Code::invalid_argument) for shapes
// that contradict the types or name no input.
std::vector<Box> sample_inputs(std::span<const SampledInput> inputs, const SymbolTable& symbols,
                               std::span<const int64_t> best, const SampleOptions& options);

}  // namespace sinter
