// Attributes of pointwise operators that have any. Their meaning is in the expressions of pointwise.cpp.
#pragma once

#include <limits>

#include "base/fields.h"

namespace sinter {

struct ModAttrs {  // Mod(x, y): sign of the divisor, or with fmod that of the dividend
  bool fmod = false;
};

struct IsInfAttrs {  // IsInf(x)
  bool positive = true;
  bool negative = true;
};

struct LeakyReluAttrs {
  double alpha = 0.01;
};

struct EluAttrs {
  double alpha = 1;
};

struct SeluAttrs {
  double alpha = 1.67326319217681884765625;
  double gamma = 1.05070102214813232421875;
};

struct ThresholdedReluAttrs {
  double alpha = 1;
};

struct HardSigmoidAttrs {  // clamp of alpha * x + beta to [0, 1]
  double alpha = 0.2;
  double beta = 0.5;
};

struct SwishAttrs {  // x * sigmoid(alpha * x)
  double alpha = 1;
};

struct ClipAttrs {  // Clip(x): floats; low first, so high wins where they cross; NaN passes
  double low = -std::numeric_limits<double>::infinity();
  double high = std::numeric_limits<double>::infinity();
};

const Fields& fields_of(const ModAttrs*);
const Fields& fields_of(const IsInfAttrs*);
const Fields& fields_of(const LeakyReluAttrs*);
const Fields& fields_of(const EluAttrs*);
const Fields& fields_of(const SeluAttrs*);
const Fields& fields_of(const ThresholdedReluAttrs*);
const Fields& fields_of(const HardSigmoidAttrs*);
const Fields& fields_of(const SwishAttrs*);
const Fields& fields_of(const ClipAttrs*);

}  // namespace sinter
