// Which element of a large grid belongs to (position of a small grid, tap of a window): large = small * stride + tap *
// dilation - padding, per spatial axis. Convolution gathers by it, transposed convolution and Col2Im scatter by it.
#pragma once

#include <algorithm>
#include <vector>

#include "base/checked.h"
#include "ops/window.h"

namespace sinter {

class WindowMap {
 public:
  WindowMap(Dims small, Dims large, Dims kernel, const WindowRef& window, std::vector<int64_t> before)
      : small_(std::move(small)), large_(std::move(large)), kernel_(std::move(kernel)), before_(std::move(before)) {
    for (size_t k = 0; k < small_.size(); ++k) {
      strides_.push_back(window_step(window.strides, k));
      dilations_.push_back(window_step(window.dilations, k));
    }
    taps_ = element_count(kernel_);
    positions_ = element_count(small_);
    elements_ = element_count(large_);
  }
  int64_t taps() const { return taps_; }
  int64_t positions() const { return positions_; }
  int64_t elements() const { return elements_; }

  // f(i, offset) for i in [0, count): flat offset in the large grid of small position `first + i` under tap number
  // `tap`; -1 outside.
  template <typename F>
  void visit(int64_t tap, int64_t first, int64_t count, F f) const {
    const size_t rank = small_.size();
    if (rank == 0) {
      for (int64_t i = 0; i < count; ++i) f(i, int64_t{0});
      return;
    }
    const size_t last = rank - 1;
    const int64_t width = small_[last];
    const int64_t shift = tap % kernel_[last] * dilations_[last] - before_[last];
    for (int64_t i = 0; i < count;) {
      // A run along the last axis.
      const int64_t start = (first + i) % width;
      const int64_t run = std::min(count - i, width - start);
      int64_t outer = (first + i) / width, outer_tap = tap / kernel_[last], offset = 0, scale = large_[last];
      bool inside = true;
      for (size_t k = last; k-- > 0;) {
        const int64_t at = outer % small_[k] * strides_[k] + outer_tap % kernel_[k] * dilations_[k] - before_[k];
        outer /= small_[k];
        outer_tap /= kernel_[k];
        if (at < 0 || at >= large_[k]) {
          inside = false;
          break;
        }
        offset += at * scale;
        scale *= large_[k];
      }
      for (int64_t j = 0; j < run; ++j) {
        const int64_t at = (start + j) * strides_[last] + shift;
        f(i + j, inside && at >= 0 && at < large_[last] ? offset + at : int64_t{-1});
      }
      i += run;
    }
  }

 private:
  Dims small_, large_, kernel_;
  std::vector<int64_t> before_, strides_, dilations_;
  int64_t taps_ = 0, positions_ = 0, elements_ = 0;
};

}  // namespace sinter
