// Bounds that the caller gives for named dimensions, and likely values of those that are left open.

#include <fmt/core.h>

#include <set>

#include "base/scanner.h"
#include "builder/emit.h"

namespace sinter {
namespace {

// What is only ever the first extent of images, sequences or lists of indices is a batch, and most are 1. A matrix of
// floats may as well have a row for each point of something.
void expect_batches(Module& module) {
  const Graph& graph = *module.main;
  std::set<SymbolId> leads, others;
  for (ValueId v : graph.inputs) {
    const Type& type = graph[v].type;
    if (!type.has_shape()) continue;
    const size_t rank = type.shape->size();
    const bool leads_batch = rank > 2 || (rank == 2 && !is_float(type.dtype));
    for (size_t i = 0; i < rank; ++i)
      if (const auto symbol = (*type.shape)[i].as_symbol()) (i == 0 && leads_batch ? leads : others).insert(*symbol);
  }
  for (SymbolId symbol : leads)
    if (others.count(symbol) == 0) module.symbols.at(symbol).likely = 1;
}

}  // namespace

void bind_dims(Module& module, const BuildOptions& options) {
  expect_batches(module);
  for (const DimRange& range : options.dims) {
    const auto id = module.symbols.find(range.name);
    if (!id) {
      std::string names;
      for (SymbolId k = 0; k < module.symbols.size(); ++k)
        if (module.symbols[k].bound == Symbol::Bound::input)
          names += fmt::format("{}{}", names.empty() ? "" : ", ", module.symbols[k].name);
      throw Error(Code::invalid_argument, fmt::format("the model has no dimension named '{}'; it has: {}",
                                                      printable(range.name), names.empty() ? "none that vary" : names));
    }
    if (range.low < 0 || range.low > range.best || range.best > range.high)
      throw Error(Code::invalid_argument, fmt::format("dimension '{}': {}:{}:{} is not min <= best <= max",
                                                      printable(range.name), range.low, range.best, range.high));
    Symbol& symbol = module.symbols.at(*id);
    symbol.low = range.low;
    symbol.likely = range.best;
    if (range.high != INT64_MAX) symbol.high = Dim(range.high);
  }
}

}  // namespace sinter
