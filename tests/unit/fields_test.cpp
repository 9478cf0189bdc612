#include "base/fields.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "base/error.h"
#include "base/scanner.h"

namespace sinter {
namespace {

enum class Mode : uint8_t { slow, fast };
std::span<const char* const> enum_names(Mode) {
  static constexpr const char* names[] = {"slow", "fast"};
  return names;
}

struct Everything {
  bool flag = false;
  int64_t number = 7;
  double real = 0.5;
  std::string text = "plain";
  std::vector<int64_t> numbers = {1, 2};
  std::vector<double> reals = {};
  std::vector<std::string> texts = {};
  Mode mode = Mode::slow;
};

const Fields& fields_of(const Everything*) {
  static const Fields f = describe<Everything>(
      {field<&Everything::flag>("flag"), field<&Everything::number>("number"), field<&Everything::real>("real"),
       field<&Everything::text>("text"), field<&Everything::numbers>("numbers"), field<&Everything::reals>("reals"),
       field<&Everything::texts>("texts"), field<&Everything::mode>("mode")});
  return f;
}

struct Other {
  int64_t number = 7;
};
const Fields& fields_of(const Other*) {
  static const Fields f = describe<Other>({field<&Other::number>("number")});
  return f;
}

Attrs parse(std::string_view text) {
  Scanner scanner(text);
  Attrs a = Attrs::parse(fields<Everything>(), scanner);
  if (!scanner.at_end()) scanner.fail("expected the end");
  return a;
}

TEST(Fields, DefaultsAreOmitted) {
  EXPECT_EQ(Attrs(Everything{}).to_text(), "");
  EXPECT_EQ(Attrs(Everything{.number = 8}).to_text(), "{number=8}");
  EXPECT_EQ(Attrs(Everything{.flag = true, .mode = Mode::fast}).to_text(), "{flag=true, mode=fast}");
  EXPECT_EQ(Attrs(Everything{.numbers = {}}).to_text(), "{numbers=[]}");
  EXPECT_EQ(Attrs(Everything{}).to_text(true),
            "{flag=false, number=7, real=0.5, text=\"plain\", numbers=[1, 2], reals=[], texts=[], mode=slow}");
  EXPECT_EQ(Attrs().to_text(), "");
}

TEST(Fields, TextReadsBack) {
  const Everything cases[] = {
      {},
      {.flag = true, .number = std::numeric_limits<int64_t>::min(), .real = 0.1},
      {.number = std::numeric_limits<int64_t>::max(), .real = -std::numeric_limits<double>::infinity()},
      {.real = 5e-324, .text = "quotes \" back \\ line\n tab\t \x01 end"},
      {.text = "", .numbers = {-1}, .reals = {1e300, -0.0, 0.1}, .texts = {"", "a, b", "]}"}},
      {.reals = {std::numeric_limits<double>::infinity()}, .mode = Mode::fast},
  };
  for (const Everything& e : cases)
    for (const bool all : {false, true}) {
      const Attrs a(e);
      const Attrs back = parse(a.to_text(all));
      EXPECT_TRUE(back == a) << a.to_text(true);
      EXPECT_EQ(back.hash(), a.hash());
      EXPECT_EQ(back.as<Everything>().texts, e.texts);
    }
}

TEST(Fields, SpacesAndOrderDoNotMatter) {
  const Attrs a = parse("{ mode = fast ,\n number=3 }");
  EXPECT_EQ(a.as<Everything>().number, 3);
  EXPECT_EQ(a.as<Everything>().mode, Mode::fast);
  EXPECT_EQ(a.as<Everything>().text, "plain");
  EXPECT_TRUE(parse("{}") == Attrs(Everything{}));
  EXPECT_TRUE(parse("") == Attrs(Everything{}));
}

TEST(Fields, BadTextsAreErrors) {
  for (const char* text : {"{number}", "{number=}", "{number=x}", "{unknown=1}", "{number=1", "{number=1,}", "{flag=1}",
                           "{mode=quick}", "{text=plain}", "{text=\"open}", "{numbers=[1, ]}", "{numbers=1}",
                           "{number=99999999999999999999}", "{real=abc}"}) {
    try {
      parse(text);
      ADD_FAILURE() << text << " was taken";
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), Code::invalid_argument) << text;
      EXPECT_NE(error.message().find("line 1"), std::string::npos) << error.message();
    }
  }
  Scanner scanner("{number=1}");
  EXPECT_THROW(Attrs::parse(nullptr, scanner), Error);
}

TEST(Fields, EqualityIsOfBits) {
  const double nan_value = std::nan("");
  EXPECT_TRUE(Attrs(Everything{.real = nan_value}) == Attrs(Everything{.real = nan_value}));
  EXPECT_FALSE(Attrs(Everything{.real = 0.0}) == Attrs(Everything{.real = -0.0}));
  EXPECT_FALSE(Attrs(Everything{.reals = {0.0}}) == Attrs(Everything{.reals = {-0.0}}));
  EXPECT_FALSE(Attrs(Everything{.texts = {"a"}}) == Attrs(Everything{.texts = {"b"}}));
  EXPECT_FALSE(Attrs(Everything{}) == Attrs(Other{}));
  EXPECT_FALSE(Attrs(Everything{}) == Attrs());
  EXPECT_TRUE(Attrs() == Attrs());
}

TEST(Fields, HashesDiffer) {
  EXPECT_NE(Attrs(Everything{}).hash(), Attrs(Everything{.number = 8}).hash());
  EXPECT_NE(Attrs(Everything{.texts = {"ab"}}).hash(), Attrs(Everything{.texts = {"a", "b"}}).hash());
  EXPECT_NE(Attrs(Everything{.mode = Mode::fast}).hash(), Attrs(Everything{}).hash());
}

TEST(Fields, DefaultsAndCopies) {
  const Attrs a = Attrs::defaults(fields<Everything>());
  EXPECT_FALSE(a.empty());
  EXPECT_TRUE(a == Attrs(Everything{}));
  EXPECT_TRUE(Attrs::defaults(nullptr).empty());
  const Everything original{.texts = {"kept"}};
  const std::shared_ptr<void> copy = fields<Everything>()->copy(&original);
  EXPECT_EQ(static_cast<const Everything*>(copy.get())->texts, original.texts);
}

}  // namespace
}  // namespace sinter
