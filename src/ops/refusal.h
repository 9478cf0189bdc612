// Attributes of Refuse() → values of these types, which it never gives: a run that comes to it fails with the message.
// It stands for the body of a branch that can only be wrong.
#pragma once

#include "base/fields.h"

namespace sinter {

struct RefuseAttrs {
  std::string message;
  std::vector<std::string> types;  // as text; symbols are extents that running would find
};

const Fields& fields_of(const RefuseAttrs*);

}  // namespace sinter
