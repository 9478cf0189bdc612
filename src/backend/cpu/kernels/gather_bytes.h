// The bytes under the windows of a convolution, one window after the other, as rows of a product.
#pragma once

#include "backend/cpu/isa/contract.h"

namespace sinter::cpu {

// An image of bytes, channels last, perhaps a group's of several.
struct ByteWindows {
  Window window;
  int64_t channels = 0;                        // that windows take of a pixel
  int64_t pixel_stride = 0, image_stride = 0;  // bytes
};

// Those of output pixels from m on, in order; `zero` outside of the image. Empty images are never read.
class ByteGatherer {
 public:
  ByteGatherer(const ByteWindows& windows, const uint8_t* image, int64_t m, uint8_t zero);
  // kernel extents * channels bytes.
  void next(uint8_t* to);

 private:
  void line(const uint8_t* from, uint8_t* to) const;

  const ByteWindows& p_;
  const uint8_t* x_;
  const uint8_t zero_;
  const bool runs_;  // the channels of neighbouring pixels follow one another
  int64_t at_[3], image_;
};

}  // namespace sinter::cpu
