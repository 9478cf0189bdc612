#include "ir/copy.h"

namespace sinter {

Module copy(const Module& module) {
  Module out;
  *out.main = *module.main;
  out.symbols = module.symbols;
  out.facts = module.facts;
  out.sources = module.sources;
  out.output_names = module.output_names;
  return out;
}

}  // namespace sinter
