#include "ops/sequence.h"

#include <gtest/gtest.h>

#include "ops/op.h"

namespace sinter {
namespace {

Tensor numbers(Dims dims, DType dtype = DType::f32, int64_t start = 0) {
  Tensor t(dtype, std::move(dims));
  for (int64_t i = 0; i < t.count(); ++i) {
    if (dtype == DType::string)
      t.strings()[static_cast<size_t>(i)] = std::to_string(start + i);
    else
      t.set_integer(i, start + i);
  }
  return t;
}

Box run(const char* name, const Attrs& attrs, std::vector<Box> operands) {
  std::vector<const Box*> pointers;
  for (const Box& b : operands) pointers.push_back(&b);
  return evaluate_op(op_named(name), attrs, pointers, 1)[0];
}

Box at(int64_t position) { return Box(Tensor::scalar_i64(position)); }

using Integers = std::vector<int64_t>;

std::vector<Integers> values(const Box& b) {
  std::vector<Integers> out;
  for (const Box& item : b.items) out.push_back(item.tensor.to_integers());
  return out;
}

const Box three =
    Box::sequence({Box(numbers({1})), Box(numbers({2}, DType::f32, 10)), Box(numbers({1}, DType::f32, 20))});

TEST(Sequence, EmptyOnesTakeAnyElement) {
  const Box empty = run("SequenceEmpty", SequenceEmptyAttrs{.dtype = DType::i64}, {});
  EXPECT_EQ(empty.kind, Box::Kind::sequence);
  const Box one = run("SequenceInsert", {}, {empty, Box(numbers({2}, DType::i64))});
  EXPECT_EQ(values(one), (std::vector<Integers>{{0, 1}}));
  EXPECT_EQ(one.items[0].tensor.dtype(), DType::i64);
  EXPECT_EQ(run("SequenceLength", {}, {empty}).tensor.get_integer(0), 0);
  EXPECT_THROW(run("SequenceAt", {}, {empty, at(0)}), Error);
  EXPECT_THROW(run("SequenceErase", {}, {empty}), Error);
  EXPECT_THROW(run("ConcatFromSequence", ConcatFromSequenceAttrs{}, {empty}), Error);
  EXPECT_THROW(run("SequenceInsert", {}, {one, Box(numbers({2}))}), Error);
}

TEST(Sequence, PositionsCountFromBothEnds) {
  const auto inserted = [](int64_t p) {
    return values(run("SequenceInsert", {}, {three, Box(numbers({1}, DType::f32, 5)), at(p)}));
  };
  EXPECT_EQ(inserted(0)[0], (Integers{5}));
  EXPECT_EQ(inserted(3)[3], (Integers{5}));
  EXPECT_EQ(inserted(-1)[2], (Integers{5}));
  EXPECT_EQ(inserted(-3)[0], (Integers{5}));
  for (const int64_t p : {int64_t{4}, int64_t{-4}, INT64_MAX, INT64_MIN}) EXPECT_THROW(inserted(p), Error);
  const auto erased = [](int64_t p) { return values(run("SequenceErase", {}, {three, at(p)})); };
  EXPECT_EQ(erased(-3), (std::vector<Integers>{{10, 11}, {20}}));
  EXPECT_EQ(values(run("SequenceErase", {}, {three})), (std::vector<Integers>{{0}, {10, 11}}));
  for (const int64_t p : {3, -4}) EXPECT_THROW(erased(p), Error);
  EXPECT_EQ(run("SequenceAt", {}, {three, at(-2)}).tensor.to_integers(), (Integers{10, 11}));
  EXPECT_THROW(run("SequenceAt", {}, {three, at(3)}), Error);
  EXPECT_EQ(run("SequenceLength", {}, {three}).tensor.get_integer(0), 3);
}

TEST(Sequence, Construct) {
  EXPECT_EQ(values(run("SequenceConstruct", {}, three.items)), values(three));
  EXPECT_EQ(run("SequenceConstruct", {}, std::vector<Box>(300, Box(numbers({1})))).items.size(), 300u);
  EXPECT_THROW(run("SequenceConstruct", {}, {Box(numbers({1})), Box(numbers({1}, DType::i64))}), Error);
  EXPECT_THROW(run("SequenceConstruct", {}, {three}), Error);
}

TEST(Sequence, ConcatAlongOldAndNewAxes) {
  const Box parts = Box::sequence({Box(numbers({2, 1})), Box(numbers({2, 2}, DType::f32, 10))});
  const Tensor joined = run("ConcatFromSequence", ConcatFromSequenceAttrs{.axis = -1}, {parts}).tensor;
  EXPECT_EQ(joined.dims(), (Dims{2, 3}));
  EXPECT_EQ(joined.to_integers(), (Integers{0, 10, 11, 1, 12, 13}));
  EXPECT_THROW(run("ConcatFromSequence", ConcatFromSequenceAttrs{.axis = 0}, {parts}), Error);
  EXPECT_THROW(run("ConcatFromSequence", ConcatFromSequenceAttrs{.axis = 2}, {parts}), Error);
  for (const DType dtype : {DType::i4, DType::f4e2m1, DType::string, DType::f64}) {
    const Box equal = Box::sequence({Box(numbers({2}, dtype)), Box(numbers({2}, dtype, 2))});
    const Tensor stacked =
        run("ConcatFromSequence", ConcatFromSequenceAttrs{.axis = 1, .new_axis = true}, {equal}).tensor;
    EXPECT_EQ(stacked.dims(), (Dims{2, 2}));
    Tensor expected(dtype, {2, 2});
    for (int64_t i = 0; i < 4; ++i) {
      const int64_t v = i % 2 * 2 + i / 2;
      if (dtype == DType::string)
        expected.strings()[static_cast<size_t>(i)] = std::to_string(v);
      else
        expected.set_integer(i, v);
    }
    EXPECT_TRUE(stacked.identical(expected)) << dtype_name(dtype);
  }
  const Box scalars = Box::sequence({Box(numbers({}, DType::f32, 7)), Box(numbers({}, DType::f32, 8))});
  EXPECT_EQ(run("ConcatFromSequence", ConcatFromSequenceAttrs{.new_axis = true}, {scalars}).tensor.to_integers(),
            (Integers{7, 8}));
  EXPECT_THROW(run("ConcatFromSequence", ConcatFromSequenceAttrs{}, {scalars}), Error);
}

TEST(Sequence, Split) {
  const Box x = Box(numbers({5, 2}));
  const auto sizes = [](Integers v) { return Box(Tensor::vector_i64(v)); };
  const Box chunks = run("SplitToSequence", SplitToSequenceAttrs{}, {x, at(2)});
  EXPECT_EQ(values(chunks), (std::vector<Integers>{{0, 1, 2, 3}, {4, 5, 6, 7}, {8, 9}}));
  const Box parts = run("SplitToSequence", SplitToSequenceAttrs{.axis = -2}, {x, sizes({1, 0, 4})});
  EXPECT_EQ(parts.items[1].tensor.dims(), (Dims{0, 2}));
  EXPECT_EQ(parts.items[2].tensor.to_integers(), (Integers{2, 3, 4, 5, 6, 7, 8, 9}));
  const Box columns = run("SplitToSequence", SplitToSequenceAttrs{.axis = 1, .keep_dims = false}, {x});
  EXPECT_EQ(values(columns), (std::vector<Integers>{{0, 2, 4, 6, 8}, {1, 3, 5, 7, 9}}));
  EXPECT_EQ(columns.items[0].tensor.dims(), (Dims{5}));
  EXPECT_EQ(run("SplitToSequence", SplitToSequenceAttrs{.axis = 1}, {x}).items[0].tensor.dims(), (Dims{5, 1}));
  for (const Box& bad : {at(0), at(-1), sizes({2, 2}), sizes({-1, 6}), sizes({INT64_MAX, INT64_MAX}), sizes({})})
    EXPECT_THROW(run("SplitToSequence", SplitToSequenceAttrs{}, {x, bad}), Error);
  EXPECT_THROW(run("SplitToSequence", SplitToSequenceAttrs{.axis = 2}, {x}), Error);
  EXPECT_THROW(run("SplitToSequence", SplitToSequenceAttrs{}, {Box(Tensor(DType::f32, {int64_t{1} << 39, 0}))}), Error);
  EXPECT_TRUE(run("SplitToSequence", SplitToSequenceAttrs{}, {Box(Tensor(DType::f32, {0, 2}))}).items.empty());
}

TEST(Optional, SomeNoneAndGet) {
  const Box x = Box(numbers({2}));
  const auto has = [](std::vector<Box> operands) {
    return run("OptionalHasElement", {}, std::move(operands)).tensor.get_integer(0);
  };
  EXPECT_EQ(has({run("OptionalSome", {}, {x})}), 1);
  EXPECT_EQ(has({run("OptionalNone", OptionalNoneAttrs{}, {})}), 0);
  EXPECT_EQ(has({three}), 1);
  EXPECT_EQ(has({}), 0);
  EXPECT_TRUE(run("OptionalGet", {}, {x}).tensor.identical(x.tensor));
  EXPECT_EQ(values(run("OptionalGet", {}, {three})), values(three));
  EXPECT_THROW(run("OptionalGet", {}, {Box()}), Error);
}

class Host final : public InferHost {
 public:
  Dim symbol(size_t, size_t, Symbol::Bound bound, int64_t low, std::optional<Dim> high) override {
    return Dim::symbol(table.add({.name = "s", .bound = bound, .low = low, .high = std::move(high)}));
  }
  void require(Fact) override {}
  const SymbolTable& symbols() const override { return table; }
  std::vector<Type> infer_body(size_t, std::span<const Type>) override { return {}; }
  SymbolTable table;
};

TEST(Sequence, Types) {
  Host host;
  const Dim b = Dim::symbol(host.table.add({.name = "B"}));
  const auto infer = [&](const char* name, const Attrs& attrs, std::vector<Type> types, Contents last = {}) {
    std::vector<Contents> contents(types.size());
    if (!contents.empty()) contents.back() = std::move(last);
    std::vector<const Type*> t;
    std::vector<const Contents*> k;
    for (size_t i = 0; i < types.size(); ++i) t.push_back(&types[i]), k.push_back(&contents[i]);
    return infer_op(op_named(name), attrs, t, k, 1, host).types[0];
  };
  const auto tensor = [](Shape s) { return Type::tensor(DType::f32, std::move(s)); };
  const Type unknown = Type::tensor(DType::f32, std::nullopt), position = Type::tensor(DType::i64, Shape{});
  EXPECT_EQ(infer("SequenceConstruct", {}, {tensor({b, 2}), tensor({b, 2})}), Type::sequence(tensor({b, 2})));
  EXPECT_EQ(infer("SequenceConstruct", {}, {tensor({b, 2}), tensor({b, 3})}), Type::sequence(unknown));
  EXPECT_EQ(infer("SequenceInsert", {}, {Type::sequence(tensor({b})), tensor({b})}), Type::sequence(tensor({b})));
  EXPECT_EQ(infer("SequenceAt", {}, {Type::sequence(tensor({b})), position}), tensor({b}));
  const Type joined = infer("ConcatFromSequence", ConcatFromSequenceAttrs{.axis = 1}, {Type::sequence(tensor({b, 2}))});
  ASSERT_TRUE(joined.has_shape());
  EXPECT_EQ((*joined.shape)[0], b);
  EXPECT_EQ(host.table[(*joined.shape)[1].as_symbol().value()].bound, Symbol::Bound::run);
  EXPECT_EQ(infer("SplitToSequence", SplitToSequenceAttrs{}, {tensor({4, b}), position}, Tensor::scalar_i64(2)),
            Type::sequence(tensor({2, b})));
  EXPECT_EQ(infer("SplitToSequence", SplitToSequenceAttrs{}, {tensor({5, b}), position}, Tensor::scalar_i64(2)),
            Type::sequence(unknown));
  EXPECT_EQ(infer("SplitToSequence", SplitToSequenceAttrs{.axis = 1}, {tensor({5, b}), position}),
            Type::sequence(unknown));
  EXPECT_EQ(infer("SplitToSequence", SplitToSequenceAttrs{.axis = 1, .keep_dims = false}, {tensor({5, b})}),
            Type::sequence(tensor({5})));
  EXPECT_EQ(infer("OptionalNone", OptionalNoneAttrs{.sequence = true}, {}), Type::optional(Type::sequence(unknown)));
  EXPECT_EQ(infer("OptionalGet", {}, {Type::optional(tensor({b}))}), tensor({b}));
  EXPECT_THROW(infer("SequenceAt", {}, {tensor({b}), position}), Error);
  EXPECT_THROW(infer("SequenceAt", {}, {Type::sequence(unknown), unknown}), Error);
}

}  // namespace
}  // namespace sinter
