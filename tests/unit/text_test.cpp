// The text of types, literals and calls reads back.

#include "ops/text.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>

#include "base/error.h"
#include "base/scanner.h"
#include "ops/pointwise.h"
#include "ops/shape.h"

namespace sinter {
namespace {

struct Table {
  SymbolTable symbols;
  Dim b = Dim::symbol(symbols.add({.name = "B"}));
  Dim h = Dim::symbol(symbols.add({.name = "H"}));
};

Type read_type(const std::string& text, SymbolTable& symbols, bool add = false) {
  Scanner scanner(text);
  Type t = parse_type(scanner, symbols, add);
  if (!scanner.at_end()) scanner.fail("expected the end");
  return t;
}

TEST(TypeText, ReadsBack) {
  Table t;
  const Type tensor = Type::tensor(DType::f32, Shape{t.b, 64, floordiv(t.h, 2), t.b * t.h + 1});
  const Type types[] = {
      tensor,
      Type::tensor(DType::i64, Shape{}),
      Type::tensor(DType::string, std::nullopt),
      Type::tensor(DType::f8e4m3fnuz, Shape{0, max(t.b, 1), broadcast(t.b, t.h), step(t.b - 3)}),
      Type::sequence(tensor),
      Type::optional(Type::sequence(Type::tensor(DType::boolean, std::nullopt))),
      Type(),
  };
  for (const Type& type : types) {
    const std::string text = to_text(type, t.symbols);
    EXPECT_TRUE(read_type(text, t.symbols) == type) << text;
  }
  for (int i = 0; i < dtype_count; ++i) {
    const Type type = Type::tensor(static_cast<DType>(i), Shape{3});
    EXPECT_TRUE(read_type(to_text(type, t.symbols), t.symbols) == type);
  }
  EXPECT_EQ(to_text(Type::tensor(DType::f32, Shape{t.b, 3}), t.symbols), "f32[B, 3]");
}

TEST(TypeText, SymbolsAreAddedWhenAllowed) {
  SymbolTable symbols;
  const Type type = read_type("f32[N, 2*N]", symbols, true);
  EXPECT_EQ(symbols.size(), 1u);
  EXPECT_TRUE((*type.shape)[1] == 2 * (*type.shape)[0]);
  EXPECT_THROW(read_type("f32[M]", symbols), Error);
}

TEST(TypeText, BadTextsAreErrors) {
  Table t;
  for (const char* text :
       {"", "f32", "f32[", "f32[B", "f32[B,]", "f33[B]", "seq(f32[..]", "seq()", "f32[B]]", "f32[..., 3]"})
    EXPECT_THROW(read_type(text, t.symbols), Error) << text;
}

TEST(LiteralText, NumbersReadBack) {
  Table t;
  const auto check = [&](const Tensor& tensor) {
    const std::string text = literal_text(Type::of(tensor), tensor, t.symbols);
    Scanner scanner(text);
    EXPECT_TRUE(at_literal(scanner)) << text;
    const Literal back = parse_literal(scanner, t.symbols, false);
    EXPECT_TRUE(scanner.at_end()) << text;
    ASSERT_TRUE(std::holds_alternative<Tensor>(back.contents)) << text;
    EXPECT_TRUE(std::get<Tensor>(back.contents).identical(tensor)) << text;
    EXPECT_TRUE(back.type == Type::of(tensor)) << text;
  };
  check(Tensor::vector_i64(std::vector<int64_t>{1, -1, INT64_MAX, INT64_MIN}));
  check(Tensor::vector_i64({}));
  check(Tensor::scalar_i64(INT64_MIN));
  Tensor reals(DType::f32, {2, 3});
  const double values[] = {0.1, -0.0, 1e-45, INFINITY, -INFINITY, 3};
  for (int64_t i = 0; i < 6; ++i) reals.set_real(i, values[i]);
  check(reals);
  for (const DType dtype : {DType::f16, DType::bf16, DType::f8e5m2, DType::f4e2m1, DType::f64}) {
    Tensor x(dtype, {3});
    for (int64_t i = 0; i < 3; ++i) x.set_real(i, 1.5 * static_cast<double>(i) - 1);
    check(x);
  }
  for (const DType dtype :
       {DType::u8, DType::i8, DType::u16, DType::i32, DType::u32, DType::u64, DType::i4, DType::u2, DType::boolean}) {
    Tensor x(dtype, {3});
    for (int64_t i = 0; i < 3; ++i) x.set_integer(i, i - 1);
    check(x);
  }
  Tensor texts(DType::string, {2});
  texts.strings()[0] = "a \"quoted\" (text), [1]";
  check(texts);
}

TEST(LiteralText, ExtentsReadBack) {
  Table t;
  const std::vector<Dim> dims = {1, t.b, floordiv(t.h, 2) - 1, -1};
  const Type vector = Type::tensor(DType::i64, Shape{4});
  EXPECT_EQ(literal_text(Type::tensor(DType::i64, Shape{2}), std::vector<Dim>{1, t.b - 1}, t.symbols), "[1, B - 1]");
  for (const Type& type : {vector, Type::tensor(DType::i32, Shape{2, 2})}) {
    const std::string text = literal_text(type, dims, t.symbols);
    Scanner scanner(text);
    const Literal back = parse_literal(scanner, t.symbols, false);
    ASSERT_TRUE(std::holds_alternative<std::vector<Dim>>(back.contents)) << text;
    EXPECT_TRUE(std::get<std::vector<Dim>>(back.contents) == dims) << text;
    EXPECT_TRUE(back.type == type) << text;
  }
}

TEST(LiteralText, LongOnesAreCut) {
  SymbolTable symbols;
  const Tensor x(DType::f32, {64, 3});
  EXPECT_EQ(literal_text(Type::of(x), x, symbols), "f32[64, 3](...)");
}

TEST(LiteralText, BadTextsAreErrors) {
  Table t;
  for (const char* text : {"[", "[1", "[1,]", "f32[2](1)", "f32[2](1, 2, 3)", "f32[..](1)", "f32[B](1)", "f32[2](a, b)",
                           "string[1](1)", "f32[1000000000000](1)", "i32[1000000000000](1)", "u8[2](", "f32[-1](1)"}) {
    Scanner scanner(text);
    EXPECT_THROW(parse_literal(scanner, t.symbols, false), Error) << text;
  }
}

TEST(CallText, ReadsBack) {
  const auto check = [](const char* name, const Attrs& attrs, const char* expected) {
    const std::string text = call_text(op_named(name), attrs);
    EXPECT_EQ(text, expected);
    Scanner scanner(text);
    const Call call = parse_call(scanner);
    EXPECT_EQ(call.op, &op_named(name));
    EXPECT_TRUE(call.attrs == attrs);
  };
  check("LeakyRelu", LeakyReluAttrs{.alpha = 0.25}, "LeakyRelu{alpha=0.25}");
  check("LeakyRelu", LeakyReluAttrs{}, "LeakyRelu");
  check("Clip", ClipAttrs{.low = 0}, "Clip{low=0}");
  check("Shape", ShapeAttrs{.start = -2}, "Shape{start=-2}");
  check("Add", Attrs(), "Add");
  Scanner unknown("Nothing(%x)");
  EXPECT_THROW(parse_call(unknown), Error);
  Scanner attribute("Add{alpha=1}");
  EXPECT_THROW(parse_call(attribute), Error);
}

}  // namespace
}  // namespace sinter
