// Bounds that the caller gives for named dimensions.

#include <fmt/core.h>

#include "base/scanner.h"
#include "builder/emit.h"

namespace sinter {

void bind_dims(Module& module, const BuildOptions& options) {
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
    if (range.high != INT64_MAX) symbol.high = Dim(range.high);
  }
}

}  // namespace sinter
