// Panels of bytes: no two elements or sums share a byte, and none lies beyond the size that is reserved. Panels by
// phases: each tap stands once, those of a phase together. Texts of layouts.

#include "tensor/layout.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "base/error.h"
#include "base/scanner.h"

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

TEST(Layout, NumbersOfPanelsAreSaidAndSized) {
  const auto read = [](const char* text) {
    Scanner scanner(text);
    return parse_layout(scanner);
  };
  const struct {
    const char* text;
    PanelNumbers numbers;
    int64_t bytes;  // of [20, 50], 50 columns as 64
  } matrices[] = {{"@matrix(32, 16)", PanelNumbers::plain, 20 * 64 * 4},
                  {"@matrix(32, 16, bf16)", PanelNumbers::bf16, 20 * 64 * 2},
                  {"@matrix(32, 16, f16)", PanelNumbers::f16, 20 * 64 * 2},
                  {"@matrix(32, 16, planes 1)", PanelNumbers::planes1, 32 * 64 * 2},
                  {"@matrix(32, 16, f16 plane)", PanelNumbers::f16_plane, 32 * 64 * 2},
                  {"@matrix(32, 16, planes 3)", PanelNumbers::planes3, 32 * 64 * 6}};
  for (const auto& m : matrices) {
    const Layout layout = read(m.text);
    EXPECT_EQ(layout, Layout::matrix_panels(32, 16, false, m.numbers)) << m.text;
    EXPECT_EQ(to_text(layout), m.text);
    EXPECT_EQ(layout_bytes(layout, DType::f32, {20, 50}), m.bytes) << m.text;
  }
  const Layout conv = read("@conv(32, 16, 2, f16)");
  EXPECT_EQ(conv, Layout::conv_panels(32, 16, 2, PanelNumbers::f16));
  EXPECT_EQ(to_text(conv), "@conv(32, 16, 2, f16)");
  EXPECT_EQ(layout_bytes(conv, DType::f32, {20, 3, 3, 3}), 2 * 16 * 27 * 2);
  EXPECT_EQ(to_text(read("@conv(32, 16, 1, planes 2, run 3)")), "@conv(32, 16, 1, planes 2, run 3)");
  EXPECT_EQ(to_text(read("@conv(32, 16, 1, f16 plane, run 3)")), "@conv(32, 16, 1, f16 plane, run 3)");
  for (const char* text : {"@matrix(32, 16, f32)", "@matrix(32, 16, planes 4)", "@matrix(32, 16, planes 0)",
                           "@matrix(32, 16, planes -1)", "@conv(32, 16, 1, planes 2)", "@conv(32, 16, 1, bf16, run 3)",
                           "@conv(32, 16, 1, phases 2)", "@conv_t(32, 16, 1, phases)", "@conv_t(32, 16, 1, phases 65)",
                           "@conv_t(32, 16, 1, phases 2, bf16)", "@conv(32, 16, 1, bf16, f16)"})
    EXPECT_THROW(read(text), Error) << text;
}

TEST(Layout, PanelsByPhasesHoldTapsTogether) {
  const auto by = [](std::vector<uint8_t> phases) {
    return Layout::transposed_conv_panels(32, 16, 1, PanelNumbers::planes2, std::move(phases));
  };
  const auto order = [&](std::vector<uint8_t> phases, std::vector<int64_t> window) {
    return taps_by_phase(by(std::move(phases)), window);
  };
  EXPECT_EQ(order({1}, {3}), (std::vector<int64_t>{2, 1, 0}));
  EXPECT_EQ(order({2}, {5}), (std::vector<int64_t>{4, 2, 0, 3, 1}));
  EXPECT_EQ(order({4}, {2}), (std::vector<int64_t>{0, 1}));
  EXPECT_EQ(order({2, 1}, {2, 3}), (std::vector<int64_t>{2, 1, 0, 5, 4, 3}));
  EXPECT_EQ(order({2, 2}, {3, 3}), (std::vector<int64_t>{8, 6, 2, 0, 7, 1, 5, 3, 4}));

  const Layout layout = by({2, 3});
  const std::string text = to_text(layout);
  EXPECT_EQ(text, "@conv_t(32, 16, 1, planes 2, run 1, phases 2 3)");
  Scanner scanner(text);
  EXPECT_EQ(parse_layout(scanner), layout);
  // 20 columns as 32, 40 numbers of K as 64.
  EXPECT_EQ(layout_bytes(layout, DType::f32, {40, 20, 3, 4}), int64_t{12} * 64 * 32 * 2 * 2);
  EXPECT_TRUE(layout_fits(layout, 4));
  EXPECT_FALSE(layout_fits(layout, 3));
  EXPECT_FALSE(layout_fits(by({2, 0}), 4));
  EXPECT_FALSE(layout_fits(by({8, 9}), 4));
  EXPECT_FALSE(layout_fits(by({64, 64, 64}), 5));
}

}  // namespace
}  // namespace sinter
