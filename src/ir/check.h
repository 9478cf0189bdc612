// --check: both sides of every rewrite are evaluated on the same inputs, and the rewrite that changes a result is
// named.
#pragma once

#include "ir/rewriter.h"

namespace sinter {

// Sets the journal's check. Symbols are tried at a few small extents; a rewrite whose sides cannot be evaluated there
// (bodies, unknown ranks) is passed over.
void check_rewrites(Journal& journal);

}  // namespace sinter
