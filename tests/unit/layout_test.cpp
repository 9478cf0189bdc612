// Panels of bytes: no two elements or sums share a byte, and none lies beyond the size that is reserved.

#include "tensor/layout.h"

#include <gtest/gtest.h>

#include <vector>

#include "base/error.h"

namespace sinter {
namespace {

TEST(Layout, PanelsOfBytesHoldEachElementOnce) {
  for (const int64_t k : {1, 63, 64, 65, 130})
    for (const int64_t n : {1, 15, 16, 63, 64, 65, 150}) {
      const BytePanels panels{k, n, 64, 16};
      std::vector<int> taken(static_cast<size_t>(panels.bytes()), 0);
      const auto take = [&](int64_t at, int64_t bytes) {
        for (int64_t i = at; i < at + bytes; ++i) {
          ASSERT_GE(i, 0);
          ASSERT_LT(i, panels.bytes());
          EXPECT_EQ(taken[static_cast<size_t>(i)]++, 0) << k << " x " << n;
        }
      };
      for (int64_t c = 0; c < n; ++c) {
        for (int64_t r = 0; r < k; ++r) take(panels.at(r, c), 1);
        EXPECT_EQ(panels.sum_at(c) % 4, 0);
        take(panels.sum_at(c), 4);
      }
      EXPECT_EQ(layout_bytes(Layout::matrix_panels(64, 16, false), DType::i8, {k, n}), panels.bytes());
      EXPECT_EQ(layout_bytes(Layout::matrix_panels(64, 16, false), DType::u8, {3, k, n}), 3 * panels.bytes());
    }
}

TEST(Layout, PanelsOfBytesOfConvolutionsCountTapsAsDepth) {
  const BytePanels panels{9 * 20, 24, 64, 16};
  EXPECT_EQ(layout_bytes(Layout::conv_panels(64, 16, 2), DType::i8, {48, 20, 3, 3}), 2 * panels.bytes());
}

TEST(Layout, PanelsOfBytesAreWholeTiles) {
  EXPECT_THROW(layout_bytes(Layout::matrix_panels(64, 8, false), DType::i8, {4, 4}), Error);
}

}  // namespace
}  // namespace sinter
