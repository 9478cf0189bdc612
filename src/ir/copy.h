// copy: a module of its own, whose tensors are shared with the one it was made from.
#pragma once

#include "ir/graph.h"

namespace sinter {

Module copy(const Module& module);

}  // namespace sinter
