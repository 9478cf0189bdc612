// A whole graph by reference: every node through its operator's definition.
//
// This is what optimized plans are compared with, what --check runs, and what the judge of taps is.
#pragma once

#include <span>
#include <vector>

#include "base/control.h"
#include "ir/graph.h"

namespace sinter {

class Evaluation {
 public:
  // Symbols of the inputs are bound from the inputs' extents; throws when an input does not fit its type.
  Evaluation(const Module& module, std::span<const Box> inputs, const Control& control = {});
  std::vector<Box> outputs() const;
  const Box& value(ValueId v) const { return values_[v]; }  // of the main graph

 private:
  const Module& module_;
  std::vector<Box> values_;
};

// Values of the symbols that input types bind, from concrete extents (unbound ones are -1). Throws
// Error(Code::invalid_argument) naming input and axis when extents contradict the types.
std::vector<int64_t> bind_symbols(const SymbolTable& symbols, std::span<const Type> types,
                                  std::span<const std::string> names, std::span<const Dims> extents);

}  // namespace sinter
