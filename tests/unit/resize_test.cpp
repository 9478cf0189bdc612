#include "ops/resize.h"

#include <cmath>

#include "op_testing.h"

namespace sinter {
namespace {

using namespace testing;

Tensor resized(const ResizeAttrs& a, const Tensor& x, std::initializer_list<double> scales) {
  return evaluate("Resize", a, {x, std::nullopt, reals({static_cast<int64_t>(scales.size())}, scales)})[0];
}

Tensor sized(const ResizeAttrs& a, const Tensor& x, std::initializer_list<int64_t> sizes) {
  return evaluate("Resize", a, {x, std::nullopt, std::nullopt, list(sizes)})[0];
}

void expect_near(const Tensor& t, const Dims& dims, const std::vector<double>& wanted, double tolerance = 1e-6) {
  ASSERT_EQ(t.dims(), dims);
  for (size_t i = 0; i < wanted.size(); ++i)
    EXPECT_NEAR(t.get_real(static_cast<int64_t>(i)), wanted[i], tolerance) << "element " << i;
}

TEST(Resize, Nearest) {
  ResizeAttrs a;
  const Tensor x = counting({4});
  expect_values(resized(a, x, {2}), {8}, {0, 0, 1, 1, 2, 2, 3, 3});
  expect_values(resized(a, x, {0.5}), {2}, {0, 2});  // places 0.5 and 2.5
  a.nearest = NearestMode::round_prefer_ceil;
  expect_values(resized(a, x, {0.5}), {2}, {1, 3});
  a.nearest = NearestMode::floor;
  a.coordinates = Coordinates::asymmetric;
  expect_values(resized(a, x, {1.5}), {6}, {0, 0, 1, 2, 2, 3});
  a.nearest = NearestMode::ceil;
  expect_values(resized(a, x, {1.5}), {6}, {0, 1, 2, 2, 3, 3});
  a.coordinates = Coordinates::tf_half_pixel;
  a.nearest = NearestMode::floor;
  expect_values(resized(a, x, {0.5}), {2}, {1, 3});
  const Tensor words = evaluate("Resize", {}, {texts({2}, {"a", "b"}), std::nullopt, reals({1}, {2})})[0];
  EXPECT_EQ(words.strings()[1], "a");
  EXPECT_EQ(words.strings()[2], "b");
}

TEST(Resize, Linear) {
  ResizeAttrs a;
  a.mode = ResizeMode::linear;
  const Tensor x = reals({2}, {0, 4});
  expect_values(resized(a, x, {2}), {4}, {0, 1, 3, 4});
  a.coordinates = Coordinates::align_corners;
  expect_values(sized(a, x, {5}), {5}, {0, 1, 2, 3, 4});
  expect_values(sized(a, x, {1}), {1}, {0});
  a.coordinates = Coordinates::asymmetric;
  expect_values(resized(a, x, {2}), {4}, {0, 2, 4, 4});
  a.coordinates = Coordinates::pytorch_half_pixel;
  expect_values(sized(a, reals({4}, {1, 2, 3, 4}), {1}), {1}, {1});
  // 3.2 wanted, 3 made: the middle stays in the middle.
  a.coordinates = Coordinates::half_pixel_symmetric;
  expect_near(resized(a, counting({4}), {0.8}), {3}, {0.25, 1.5, 2.75});
  a.coordinates = Coordinates::half_pixel;
  expect_near(resized(a, counting({4}), {0.8}), {3}, {0.125, 1.375, 2.625});
  expect_values(sized(a, integers({2}, {0, 5}, DType::u8), {4}), {4}, {0, 1, 3, 5});
  expect_near(sized(a, counting({2, 2}), {4, 2}), {4, 2}, {0, 1, 0.5, 1.5, 1.5, 2.5, 2, 3});
}

TEST(Resize, Antialias) {
  ResizeAttrs a;
  a.mode = ResizeMode::linear;
  a.antialias = true;
  // Halving: weights 1/8, 3/8, 3/8, 1/8 around each place; the edge repeats.
  expect_near(resized(a, reals({4}, {0, 8, 16, 24}), {0.5}), {2},
              {(0 + 0 * 3 + 8 * 3 + 16) / 8.0, (8 + 48 + 72 + 24) / 8.0});
  a.exclude_outside = true;
  expect_near(resized(a, reals({4}, {0, 8, 16, 24}), {0.5}), {2}, {(24 + 16) / 7.0, (8 + 48 + 72) / 7.0});
  // Enlarging changes nothing.
  expect_values(resized(a, reals({2}, {0, 4}), {2}), {4}, {0, 1, 3, 4});
  a.mode = ResizeMode::nearest;
  EXPECT_EQ(error_of("Resize", a, {counting({4}), std::nullopt, reals({1}, {0.5})}), Code::model_invalid);
}

TEST(Resize, Cubic) {
  ResizeAttrs a;
  a.mode = ResizeMode::cubic;
  // At 0.75 of the way, a = -0.75: weights by the kernel at 1.75, 0.75, 0.25, 1.25.
  const auto near = [](double t) { return (1.25 * t - 2.25) * t * t + 1; };
  const auto far = [](double t) { return ((-0.75 * t + 3.75) * t - 6) * t + 3; };
  const Tensor x = reals({4}, {1, 2, 4, 8});
  const double w[4] = {far(1.75), near(0.75), near(0.25), far(1.25)};
  EXPECT_NEAR(w[0] + w[1] + w[2] + w[3], 1, 1e-12);
  expect_near(sized(a, x, {8}).reshaped({2, 4}), {2, 4},
              {1 * w[0] + 1 * w[1] + 1 * w[2] + 2 * w[3], 1 * w[3] + 1 * w[2] + 2 * w[1] + 4 * w[0],
               1 * w[0] + 1 * w[1] + 2 * w[2] + 4 * w[3], 1 * w[3] + 2 * w[2] + 4 * w[1] + 8 * w[0]});
  a.exclude_outside = true;
  EXPECT_NEAR(sized(a, x, {8}).get_real(0), (1 * w[2] + 2 * w[3]) / (w[2] + w[3]), 1e-6);
}

TEST(Resize, CropAndResize) {
  ResizeAttrs a;
  a.mode = ResizeMode::linear;
  a.coordinates = Coordinates::tf_crop_and_resize;
  a.extrapolation = -1;
  const Tensor x = counting({5});
  const auto crop = [&](double start, double end, int64_t size) {
    return evaluate("Resize", a, {x, reals({2}, {start, end}), std::nullopt, list({size})})[0];
  };
  expect_values(crop(0.25, 0.75, 3), {3}, {1, 2, 3});
  expect_values(crop(0.5, 1.25, 4), {4}, {2, 3, 4, -1});
  expect_values(crop(0, 1, 1), {1}, {2});
  expect_values(crop(1, 0, 5), {5}, {4, 3, 2, 1, 0});
  EXPECT_EQ(error_of("Resize", a, {x, std::nullopt, std::nullopt, list({5})}), Code::model_invalid);
}

TEST(Resize, SizesAndAxes) {
  ResizeAttrs a;
  a.axes = {2, -2};
  EXPECT_EQ(sized(a, counting({2, 3, 4}), {8, 9}).dims(), (Dims{2, 9, 8}));
  a.aspect = AspectPolicy::not_larger;
  EXPECT_EQ(sized(a, counting({2, 3, 4}), {8, 9}).dims(), (Dims{2, 6, 8}));
  a.aspect = AspectPolicy::not_smaller;
  EXPECT_EQ(sized(a, counting({2, 3, 4}), {8, 9}).dims(), (Dims{2, 9, 12}));
  a.aspect = AspectPolicy::stretch;
  EXPECT_EQ(resized(a, counting({2, 3, 4}), {0.7, 1.7}).dims(), (Dims{2, 5, 2}));
  // Multiplied in float: 10 * 0.7 is 7.
  EXPECT_EQ(resized({}, counting({10}), {0.7}).dims(), (Dims{7}));
  EXPECT_EQ(sized({}, counting({0, 3}), {0, 6}).dims(), (Dims{0, 6}));
  EXPECT_EQ(error_of("Resize", {}, {counting({0}), std::nullopt, std::nullopt, list({2})}), Code::fault);
  const Tensor x = counting({4});
  EXPECT_EQ(error_of("Resize", {}, {x}), Code::model_invalid);
  EXPECT_EQ(error_of("Resize", {}, {x, std::nullopt, reals({1}, {1}), list({4})}), Code::model_invalid);
  EXPECT_EQ(error_of("Resize", {}, {x, std::nullopt, reals({2}, {1, 1})}), Code::model_invalid);
  for (const double scale : {0.0, -1.0, double(NAN), double(INFINITY)})
    EXPECT_EQ(error_of("Resize", {}, {x, std::nullopt, reals({1}, {scale})}), Code::model_invalid);
  EXPECT_EQ(error_of("Resize", {}, {x, std::nullopt, reals({1}, {1e30})}), Code::limit);
  EXPECT_EQ(error_of("Resize", {}, {x, std::nullopt, std::nullopt, list({-1})}), Code::model_invalid);
  a.axes = {0, 0};
  EXPECT_EQ(error_of("Resize", a, {x, std::nullopt, reals({2}, {1, 1})}), Code::model_invalid);
}

TEST(Resize, Inference) {
  Inference g;
  const Dim n = g.symbol("N"), h = g.symbol("H");
  const ValueId x = g.input(DType::f32, {n, 3, h, h});
  const auto with_scales = [&](std::initializer_list<double> scales) {
    const ValueId s = g.b.constant(reals({4}, scales));
    return g.text(g.b.add(op_named("Resize"), {}, {x, no_id, s}, 1)[0]);
  };
  EXPECT_EQ(with_scales({1, 1, 2, 3}), "f32[N, 3, 2*H, 3*H]");
  EXPECT_EQ(g.b.shape(g.b.add(op_named("Resize"), {}, {x, no_id, g.b.constant(reals({4}, {1, 1, 0.5, 1.5}))}, 1)[0]),
            (Shape{n, 3, floordiv(h, 2), floordiv(h * 3, 2)}));
  const Dim odd =
      g.b.shape(g.b.add(op_named("Resize"), {}, {x, no_id, g.b.constant(reals({4}, {1, 1, 1, 0.7}))}, 1)[0])[3];
  EXPECT_TRUE(odd.as_symbol().has_value());
  EXPECT_EQ(g.module.symbols[*odd.as_symbol()].bound, Symbol::Bound::host_element);
  EXPECT_EQ(g.text(g.b.add(op_named("Resize"), {}, {x, no_id, no_id, g.b.dims({n, 3, h + 1, 7})}, 1)[0]),
            "f32[N, 3, H + 1, 7]");
  ResizeAttrs a;
  a.axes = {2, 3};
  EXPECT_EQ(g.b.shape(g.b.add(op_named("Resize"), a, {x, no_id, no_id, g.input(DType::i64, {2})}, 1)[0])[0], n);
}

TEST(GridSample, Modes) {
  const Tensor x = counting({1, 1, 2, 3});
  // Coordinates are (x, y).
  const Tensor grid = reals({1, 1, 4, 2}, {-1, -1, 1, 1, 0, 0, 0.5, -1});
  GridSampleAttrs a;
  a.align_corners = true;
  expect_values(evaluate("GridSample", a, {x, grid})[0], {1, 1, 1, 4}, {0, 5, 2.5, 1.5});
  a.mode = ResizeMode::nearest;
  expect_values(evaluate("GridSample", a, {x, grid})[0], {1, 1, 1, 4}, {0, 5, 1, 2});
  a.align_corners = false;
  a.mode = ResizeMode::linear;
  expect_values(evaluate("GridSample", a, {x, grid})[0], {1, 1, 1, 4}, {0, 1.25, 2.5, 0.875});
  a.padding = GridPadding::border;
  expect_values(evaluate("GridSample", a, {x, grid})[0], {1, 1, 1, 4}, {0, 5, 2.5, 1.75});
  const Tensor volume = counting({1, 1, 2, 2, 2});
  a.align_corners = true;
  expect_values(evaluate("GridSample", a, {volume, reals({1, 1, 1, 2, 3}, {1, -1, -1, -1, 0, 1})})[0], {1, 1, 1, 1, 2},
                {1, 5});
}

TEST(GridSample, Outside) {
  const Tensor x = reals({1, 1, 1, 4}, {1, 2, 3, 4});
  const auto sample = [&](GridPadding padding, double place, ResizeMode mode = ResizeMode::nearest) {
    GridSampleAttrs a;
    a.mode = mode;
    a.padding = padding;
    const double normalized = (place * 2 + 1) / 4 - 1;
    return evaluate("GridSample", a, {x, reals({1, 1, 1, 2}, {normalized, 0}, DType::f64)})[0].get_real(0);
  };
  for (const double far : {4.0, 1e9, 1e300, double(INFINITY), double(NAN)})
    EXPECT_EQ(sample(GridPadding::zeros, far), 0) << far;
  EXPECT_EQ(sample(GridPadding::border, 9), 4);
  EXPECT_EQ(sample(GridPadding::border, -9), 1);
  const double reflected[] = {1, 2, 3, 4, 4, 3, 2, 1, 1, 2};
  for (int i = 0; i < 10; ++i) {
    EXPECT_EQ(sample(GridPadding::reflection, i), reflected[i]) << i;
    EXPECT_EQ(sample(GridPadding::reflection, -1 - i), reflected[i]) << i;
  }
  EXPECT_EQ(sample(GridPadding::reflection, 3.5, ResizeMode::linear), 4);
  EXPECT_NEAR(sample(GridPadding::border, 30, ResizeMode::cubic), 4, 1e-6);
  EXPECT_NEAR(sample(GridPadding::reflection, 1, ResizeMode::cubic), 2, 1e-6);
  for (const GridPadding p : {GridPadding::border, GridPadding::reflection})
    for (const double bad : {double(INFINITY), double(NAN), -1e300})
      for (const ResizeMode m : {ResizeMode::nearest, ResizeMode::linear, ResizeMode::cubic}) sample(p, bad, m);
  EXPECT_EQ(error_of("GridSample", {}, {x, reals({1, 1, 1, 3}, {0, 0, 0})}), Code::model_invalid);
  EXPECT_EQ(error_of("GridSample", {}, {Tensor(DType::f32, {1, 1, 0, 4}), reals({1, 1, 1, 2}, {0, 0})}), Code::fault);
  Inference g;
  const Dim n = g.symbol("N"), h = g.symbol("H");
  EXPECT_EQ(g.text(g.b.add(op_named("GridSample"), {},
                           {g.input(DType::f32, {n, 3, 8, 8}), g.input(DType::f32, {n, h, 5, 2})}, 1)[0]),
            "f32[N, 3, H, 5]");
}

}  // namespace
}  // namespace sinter
