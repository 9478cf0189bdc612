// Windows that slide over the spatial axes of [N, C, spatial...]: convolution and pooling share attributes' meaning,
// inference of extents, and the resolution of automatic padding for kernels.
#pragma once

#include <span>
#include <vector>

#include "ops/op.h"

namespace sinter {

enum class AutoPad : uint8_t { explicit_pads, same_upper, same_lower, valid };
std::span<const char* const> enum_names(AutoPad);

// Empty vectors stand for ones (strides, dilations) and zeros (pads: begins, then ends).
struct WindowRef {
  AutoPad auto_pad;
  std::span<const int64_t> kernel, strides, dilations, pads;
  bool ceil_mode = false;
};

// Checks counts and signs (throws through c.fail) and gives the extents of the result's spatial axes.
std::vector<Dim> window_extents(InferContext& c, std::span<const Dim> spatial, const WindowRef& window);

// The same for kernel extents that may be symbols (a convolution's, when its weights are operands); window.kernel is
// not read.
std::vector<Dim> window_extents(InferContext& c, std::span<const Dim> spatial, std::span<const Dim> kernel,
                                const WindowRef& window);

// Padding before and after each spatial axis for concrete extents; automatic padding resolved.
struct Pads {
  std::vector<int64_t> before, after;
};
Pads resolve_pads(std::span<const int64_t> spatial, const WindowRef& window);

// Entry `axis` of strides or dilations, with the default for an empty vector.
inline int64_t window_step(std::span<const int64_t> values, size_t axis) { return values.empty() ? 1 : values[axis]; }

}  // namespace sinter
