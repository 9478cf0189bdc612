// The number of allocations by operator new in this process so far. The sanitizers bring their own operator new: there
// the number stays 0.
#pragma once

#include <cstdint>

namespace sinter::testing {

int64_t allocations();

}  // namespace sinter::testing
