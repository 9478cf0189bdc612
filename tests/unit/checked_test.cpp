#include "base/checked.h"

#include <gtest/gtest.h>

#include <cmath>

namespace sinter {
namespace {

template <typename F>
void expect_limit(F f, const char* named = nullptr) {
  try {
    f();
    ADD_FAILURE() << "no error" << (named ? named : "");
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), Code::limit);
    if (named) {
      EXPECT_NE(error.message().find(named), std::string::npos) << error.message();
    }
  }
}

TEST(Checked, SumsAndProducts) {
  EXPECT_EQ(checked_add(INT64_MAX - 1, 1), INT64_MAX);
  EXPECT_EQ(checked_sub(INT64_MIN + 1, 1), INT64_MIN);
  EXPECT_EQ(checked_mul(int64_t{1} << 31, int64_t{1} << 31), int64_t{1} << 62);
  EXPECT_EQ(checked_mul(INT64_MIN, 1), INT64_MIN);
  expect_limit([] { checked_add(INT64_MAX, 1, "weights"); }, "weights");
  expect_limit([] { checked_add(INT64_MIN, -1); });
  expect_limit([] { checked_sub(INT64_MIN, 1); });
  expect_limit([] { checked_sub(0, INT64_MIN); });
  expect_limit([] { checked_mul(INT64_MIN, -1); });
  expect_limit([] { checked_mul(int64_t{1} << 32, int64_t{1} << 31, "tensor"); }, "tensor");
}

TEST(Checked, AlignUp) {
  EXPECT_EQ(align_up(0, 64), 0);
  EXPECT_EQ(align_up(1, 64), 64);
  EXPECT_EQ(align_up(64, 64), 64);
  EXPECT_EQ(align_up(65, 64), 128);
  expect_limit([] { align_up(INT64_MAX - 3, 64); });
}

TEST(Checked, Narrow) {
  EXPECT_EQ(narrow<uint8_t>(255), 255);
  EXPECT_EQ(narrow<int8_t>(int64_t{-128}), -128);
  EXPECT_EQ(narrow<int64_t>(uint64_t{5}), 5);
  expect_limit([] { narrow<uint8_t>(256, "alignment"); }, "alignment");
  expect_limit([] { narrow<uint8_t>(-1); });
  expect_limit([] { narrow<int8_t>(128); });
  expect_limit([] { narrow<int64_t>(uint64_t{1} << 63); });
  expect_limit([] { narrow<uint64_t>(int64_t{-1}); });
  expect_limit([] { narrow<uint32_t>(int64_t{1} << 32); });
}

TEST(Checked, ToInteger) {
  EXPECT_EQ(to_integer(2.9, 0, 10), 2);
  EXPECT_EQ(to_integer(-3.0, -3, 3), -3);
  expect_limit([] { to_integer(11, 0, 10, "opset"); }, "opset");
  expect_limit([] { to_integer(std::nan(""), 0, 10); });
  expect_limit([] { to_integer(INFINITY, INT64_MIN, INT64_MAX); });
  expect_limit([] { to_integer(9223372036854775808.0, INT64_MIN, INT64_MAX); });
  EXPECT_EQ(to_integer(-9223372036854775808.0, INT64_MIN, INT64_MAX), INT64_MIN);
}

TEST(Checked, ElementCount) {
  const auto count = [](std::vector<int64_t> dims) { return element_count(dims); };
  EXPECT_EQ(count({}), 1);
  EXPECT_EQ(count({2, 3, 4}), 24);
  EXPECT_EQ(count({INT64_MAX, 0, INT64_MAX}), 0);
  EXPECT_EQ(count({max_elements}), max_elements);
  EXPECT_THROW(count({-1}), Error);
  EXPECT_THROW(count({0, -1}), Error);
  expect_limit([&] { count({max_elements, 2}); });
  expect_limit([&] { count({INT64_MAX, INT64_MAX}); });
  expect_limit([&] { count(std::vector<int64_t>(max_rank + 1, 1)); });
  EXPECT_EQ(count(std::vector<int64_t>(max_rank, 1)), 1);
}

TEST(Errors, ContextReadsFromTheOutside) {
  Error error(Code::model_invalid, "pads are negative");
  error.at_node("conv1").add_context("checking Conv").add_context("importing model.onnx").with_hint("export again");
  const std::string text = error.what();
  EXPECT_LT(text.find("importing model.onnx"), text.find("checking Conv"));
  EXPECT_LT(text.find("checking Conv"), text.find("pads are negative"));
  EXPECT_NE(text.find("export again"), std::string::npos);
  EXPECT_EQ(error.origin().node, "conv1");
  EXPECT_EQ(error.message(), "pads are negative");
}

TEST(Errors, ProblemsAreReportedTogether) {
  Problems problems;
  EXPECT_NO_THROW(problems.check("nothing"));
  problems.add(Error(Code::unsupported, "first"));
  try {
    problems.check("headline");
    ADD_FAILURE();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), Code::unsupported);
    EXPECT_EQ(error.message(), "first");
  }
  problems.add(Error(Code::model_invalid, "second"));
  try {
    problems.check("headline");
    ADD_FAILURE();
  } catch (const Error& error) {
    for (const char* part : {"headline", "first", "second"})
      EXPECT_NE(std::string(error.what()).find(part), std::string::npos) << part;
  }
}

TEST(Errors, StatusAndResult) {
  EXPECT_TRUE(Status().ok());
  EXPECT_NO_THROW(Status().check());
  const Status bad(Code::busy, "in use");
  EXPECT_THROW(bad.check(), Error);
  Result<int> good(5);
  EXPECT_EQ(good.value(), 5);
  Result<int> failed(bad);
  EXPECT_FALSE(failed.ok());
  EXPECT_THROW(failed.value(), Error);
  EXPECT_TRUE(Answer::yes());
  EXPECT_EQ(Answer::no("why").reason(), "why");
}

}  // namespace
}  // namespace sinter
