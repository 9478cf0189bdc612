// Where kernels are compared when the caller gives dimensions no bounds: batches at 1, others at 64.
#include <gtest/gtest.h>

#include "builder/emit.h"

namespace sinter {
namespace {

// A module whose inputs have these types; symbols are named.
int64_t likely(std::initializer_list<Type> inputs, SymbolId symbol, std::vector<DimRange> dims = {}) {
  Module module;
  for (const char* name : {"N", "S"}) module.symbols.add({.name = name});
  for (const Type& type : inputs) {
    module.main->inputs.push_back(static_cast<ValueId>(module.main->values.size()));
    module.main->values.push_back({type, {}, no_id, {}, {}});
  }
  BuildOptions options;
  options.dims = std::move(dims);
  bind_dims(module, options);
  return likely_value(module.symbols[symbol]);
}

const Dim n = Dim::symbol(0), s = Dim::symbol(1);

TEST(LikelyExtents, BatchesLeadImagesAndIndices) {
  EXPECT_EQ(likely({Type::tensor(DType::f32, Shape{n, 3, s, s})}, 0), 1);
  EXPECT_EQ(likely({Type::tensor(DType::f32, Shape{n, 3, s, s})}, 1), 64);
  EXPECT_EQ(likely({Type::tensor(DType::i64, Shape{n, s})}, 0), 1);
}

TEST(LikelyExtents, RowsOfNumbersAreNoBatch) {
  EXPECT_EQ(likely({Type::tensor(DType::f32, Shape{n, 256})}, 0), 64);
  EXPECT_EQ(likely({Type::tensor(DType::f32, Shape{n, 3, s}), Type::tensor(DType::f32, Shape{4, n})}, 0), 64);
}

TEST(LikelyExtents, TheCallersValueGoesFirst) {
  const Type image = Type::tensor(DType::f32, Shape{n, 3, 8, 8});
  EXPECT_EQ(likely({image}, 0, {{"N", 1, 16, 32}}), 16);
}

TEST(LikelyExtents, KeepToBounds) {
  EXPECT_EQ(likely_value({.name = "a", .low = 100}), 100);
  EXPECT_EQ(likely_value({.name = "b", .high = Dim(5)}), 5);
  EXPECT_EQ(likely_value({.name = "c", .high = Dim(0)}), 1);
}

}  // namespace
}  // namespace sinter
