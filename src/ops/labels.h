// Attributes of operators that classifiers need.
//
// Lookup(x, keys[n], values[n], default) → values' dtype in x's shape: the value of the first key equal to the element
// (NaN equals NaN), else `default` (one element) · ClassProbabilities(r f[rows, k(k - 1)/2]) → [rows, k]: from r, the
// probability of class i where it is i or j, pairs (0, 1), (0, 2), ..., the probabilities of all classes by Wu, Lin and
// Weng's second method, iterated as LIBSVM does.
#pragma once

#include "base/fields.h"

namespace sinter {

struct LookupAttrs {
  bool required = false;  // an element that is no key is a fault; `default` is then unused
};

struct ClassProbabilitiesAttrs {
  int64_t classes = 2;
};

const Fields& fields_of(const LookupAttrs*);
const Fields& fields_of(const ClassProbabilitiesAttrs*);

}  // namespace sinter
