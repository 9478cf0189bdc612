#include "backend/cpu/kernels/gather_bytes.h"

#include <algorithm>
#include <cstring>

namespace sinter::cpu {
namespace {

// Short copies without a call.
void copy_bytes(uint8_t* to, const uint8_t* from, int64_t n) {
  int64_t i = 0;
  for (; i + 16 <= n; i += 16) std::memcpy(to + i, from + i, 16);
  if (n >= 16) {
    if (i < n) std::memcpy(to + n - 16, from + n - 16, 16);
  } else if (n >= 8) {
    std::memcpy(to, from, 8);
    std::memcpy(to + n - 8, from + n - 8, 8);
  } else if (n >= 4) {
    std::memcpy(to, from, 4);
    std::memcpy(to + n - 4, from + n - 4, 4);
  } else {
    for (; i < n; ++i) to[i] = from[i];
  }
}

}  // namespace

ByteGatherer::ByteGatherer(const ByteWindows& p, const uint8_t* x, int64_t m, uint8_t zero)
    : p_(p), x_(x), zero_(zero), runs_(p.window.dilation[2] == 1 && p.channels == p.pixel_stride) {
  const Window& w = p.window;
  at_[2] = m % w.out[2];
  at_[1] = m / w.out[2] % w.out[1];
  at_[0] = m / (w.out[2] * w.out[1]) % w.out[0];
  image_ = m / (w.out[2] * w.out[1] * w.out[0]);
}

void ByteGatherer::next(uint8_t* to) {
  const Window& w = p_.window;
  const uint8_t* image = x_ + image_ * p_.image_stride;
  const int64_t line_bytes = w.kernel[2] * p_.channels;
  for (int64_t kd = 0; kd < w.kernel[0]; ++kd) {
    const int64_t d = at_[0] * w.stride[0] - w.pad[0] + kd * w.dilation[0];
    for (int64_t kh = 0; kh < w.kernel[1]; ++kh, to += line_bytes) {
      const int64_t h = at_[1] * w.stride[1] - w.pad[1] + kh * w.dilation[1];
      if (d < 0 || d >= w.in[0] || h < 0 || h >= w.in[1])
        std::memset(to, zero_, static_cast<size_t>(line_bytes));
      else
        line(image + (d * w.in[1] + h) * w.in[2] * p_.pixel_stride, to);
    }
  }
  for (int k = 2; ++at_[k] == w.out[k]; --k) {
    at_[k] = 0;
    if (k == 0) {
      ++image_;
      break;
    }
  }
}

void ByteGatherer::line(const uint8_t* from, uint8_t* to) const {
  const Window& w = p_.window;
  const int64_t channels = p_.channels, left = at_[2] * w.stride[2] - w.pad[2];
  if (runs_) {
    const int64_t first = std::clamp<int64_t>(-left, 0, w.kernel[2]);
    const int64_t last = std::clamp<int64_t>(w.in[2] - left, first, w.kernel[2]);
    if (first > 0) std::memset(to, zero_, static_cast<size_t>(first * channels));
    if (last > first) copy_bytes(to + first * channels, from + (left + first) * channels, (last - first) * channels);
    if (last < w.kernel[2])
      std::memset(to + last * channels, zero_, static_cast<size_t>((w.kernel[2] - last) * channels));
    return;
  }
  for (int64_t kw = 0; kw < w.kernel[2]; ++kw, to += channels) {
    const int64_t at = left + kw * w.dilation[2];
    if (at >= 0 && at < w.in[2])
      copy_bytes(to, from + at * p_.pixel_stride, channels);
    else
      std::memset(to, zero_, static_cast<size_t>(channels));
  }
}

}  // namespace sinter::cpu
