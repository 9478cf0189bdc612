// Branches that can only be wrong: with the bounds that a caller gives, what a branch computes may have become
// impossible. It may never be taken, so it is an error of the run that takes it, not of the build.
#pragma once

#include <functional>
#include <string>

#include "ir/graph.h"

namespace sinter {

// Whether any graph of the module has an If.
bool has_branches(const Module& module);
// Puts a Refuse into the innermost branch that holds the node an error of the build names. Gives what the branch is
// called, for messages; "" when the node is in none. Where nodes share the name, the one is meant that `blamed` names:
// it builds a module and gives the node that the error of that build names.
std::string refuse_branch(Module& module, const Error& error, const std::function<std::string(Module)>& blamed);

}  // namespace sinter
