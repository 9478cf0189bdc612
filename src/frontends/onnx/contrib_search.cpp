// Entries of domain com.microsoft that search for sequences of tokens.

#include "frontends/onnx/contrib.h"

namespace sinter::onnx {

std::span<const Entry> contrib_search_entries() { return {}; }

}  // namespace sinter::onnx
