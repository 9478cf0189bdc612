#include "ops/window.h"

#include <fmt/core.h>

#include <algorithm>

#include "base/checked.h"

namespace sinter {

std::span<const char* const> enum_names(AutoPad) {
  static constexpr const char* names[] = {"explicit", "same_upper", "same_lower", "valid"};
  return names;
}

namespace {

// Larger attribute values are refused, so that products of two of them stay far from overflow.
constexpr int64_t attribute_limit = int64_t{1} << 31;

void check_values(InferContext& c, const char* name, std::span<const int64_t> values, size_t wanted, int64_t low) {
  if (values.empty()) return;
  if (values.size() != wanted) c.fail(fmt::format("{} has {} entries, it must have {}", name, values.size(), wanted));
  for (int64_t v : values)
    if (v < low || v > attribute_limit)
      c.fail(fmt::format("{} contains {}, it must be in [{}, {}]", name, v, low, attribute_limit));
}

bool explicit_padding(const WindowRef& window) {
  return window.auto_pad == AutoPad::explicit_pads && !window.pads.empty();
}

}  // namespace

std::vector<Dim> window_extents(InferContext& c, std::span<const Dim> spatial, std::span<const Dim> kernel,
                                const WindowRef& window) {
  const size_t n = spatial.size();
  if (kernel.size() != n) c.fail(fmt::format("the kernel has {} extents for {} spatial axes", kernel.size(), n));
  check_values(c, "strides", window.strides, n, 1);
  check_values(c, "dilations", window.dilations, n, 1);
  if (explicit_padding(window)) check_values(c, "pads", window.pads, 2 * n, 0);
  std::vector<Dim> out;
  for (size_t k = 0; k < n; ++k) {
    const Dim& in = spatial[k];
    const int64_t stride = window_step(window.strides, k);
    if (kernel[k].is_constant() && (kernel[k].constant() < 1 || kernel[k].constant() > attribute_limit))
      c.fail(fmt::format("kernel extent {} on spatial axis {}", kernel[k].constant(), k));
    c.require_at_least(kernel[k], 1, "a kernel has one element or more on each spatial axis");
    if (window.auto_pad == AutoPad::same_upper || window.auto_pad == AutoPad::same_lower) {
      out.push_back(ceildiv(in, stride));
      continue;
    }
    const int64_t before = explicit_padding(window) ? window.pads[k] : 0;
    const int64_t after = explicit_padding(window) ? window.pads[n + k] : 0;
    const Dim reach = (kernel[k] - 1) * window_step(window.dilations, k) + 1;
    const Dim room = in + before + after - reach;
    // No less than an empty result.
    c.require_at_least(room + stride, 0, "padded extent must hold the window");
    if (!window.ceil_mode || stride == 1) {
      out.push_back(floordiv(room, stride) + 1);
      continue;
    }
    // The last window must start inside the operand or the padding before it.
    const Dim extent = ceildiv(room, stride) + 1;
    const bool less_than_window = reach.is_constant() && after <= reach.constant();
    out.push_back(less_than_window ? max(min(extent, ceildiv(in + before, stride)), 0)
                                   : extent - step((extent - 1) * stride - in - before));
  }
  return out;
}

std::vector<Dim> window_extents(InferContext& c, std::span<const Dim> spatial, const WindowRef& window) {
  if (window.kernel.size() != spatial.size())
    c.fail(fmt::format("the kernel has {} extents for {} spatial axes", window.kernel.size(), spatial.size()));
  return window_extents(c, spatial, std::vector<Dim>(window.kernel.begin(), window.kernel.end()), window);
}

Pads resolve_pads(std::span<const int64_t> spatial, const WindowRef& window) {
  const size_t n = spatial.size();
  Pads pads{std::vector<int64_t>(n, 0), std::vector<int64_t>(n, 0)};
  for (size_t k = 0; k < n; ++k) {
    if (explicit_padding(window)) {
      pads.before[k] = window.pads[k];
      pads.after[k] = window.pads[n + k];
    } else if (window.auto_pad == AutoPad::same_upper || window.auto_pad == AutoPad::same_lower) {
      const int64_t stride = window_step(window.strides, k);
      const int64_t reach = checked_add(checked_mul(window.kernel[k] - 1, window_step(window.dilations, k)), 1);
      const int64_t covered = spatial[k] == 0 ? 0 : checked_mul((spatial[k] - 1) / stride, stride);
      const int64_t total = std::max<int64_t>(0, checked_sub(checked_add(covered, reach), spatial[k]));
      const bool upper = window.auto_pad == AutoPad::same_upper;
      pads.before[k] = upper ? total / 2 : total - total / 2;
      pads.after[k] = total - pads.before[k];
    }
  }
  return pads;
}

}  // namespace sinter
