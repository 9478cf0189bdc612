// Runs of floats added up with weights: what rows that sample their operand at computed places share.
#pragma once

#include <cstdint>

namespace sinter::cpu {

typedef float Four __attribute__((vector_size(16), aligned(4), may_alias));

// to = a * wa, or to += a * wa
inline void scale_line(float* to, const float* a, float wa, int64_t n, bool add) {
  int64_t i = 0;
  for (; i + 4 <= n; i += 4) {
    const Four v = *reinterpret_cast<const Four*>(a + i) * wa;
    *reinterpret_cast<Four*>(to + i) = add ? *reinterpret_cast<const Four*>(to + i) + v : v;
  }
  for (; i < n; ++i) to[i] = add ? to[i] + a[i] * wa : a[i] * wa;
}

// Runs of n floats at base + at[t], weighted and added in order, to 0 or to what is there.
inline void sum_lines(float* to, const float* base, const int64_t* at, const float* weights, int taps, int64_t n,
                      bool add = false) {
  int64_t i = 0;
  for (; i + 8 <= n; i += 8) {
    Four low = {}, high = {};
    if (add) {
      low = *reinterpret_cast<const Four*>(to + i);
      high = *reinterpret_cast<const Four*>(to + i + 4);
    }
    for (int t = 0; t < taps; ++t) {
      const float* from = base + at[t] + i;
      low += *reinterpret_cast<const Four*>(from) * weights[t];
      high += *reinterpret_cast<const Four*>(from + 4) * weights[t];
    }
    *reinterpret_cast<Four*>(to + i) = low;
    *reinterpret_cast<Four*>(to + i + 4) = high;
  }
  for (; i < n; ++i) {
    float sum = add ? to[i] : 0;
    for (int t = 0; t < taps; ++t) sum += base[at[t] + i] * weights[t];
    to[i] = sum;
  }
}

}  // namespace sinter::cpu
