// Engine files: the same bytes from the same model, refusal of changed and foreign ones, several targets in one file.
#include <algorithm>

#include "engines.h"
#include "ops/contraction.h"
#include "wiring/wiring.h"

namespace sinter {
namespace {

using namespace testing;

Module affine(int64_t depth = 4) {
  Module module;
  GraphBuilder b(module, *module.main);
  const ValueId x = b.input(Type::tensor(DType::f32, Shape{named(module, "N"), depth}), "x");
  const ValueId y = b.op("Relu", {wiring::add(b, wiring::matmul(b, x, b.constant(random_tensor({depth, 8}, 2))),
                                              b.constant(random_tensor({8}, 3)))});
  module.main->outputs = {y};
  (*module.main)[y].name = "y";
  return module;
}

std::vector<std::byte> bytes_of(const Target& target) {
  const Target* one = &target;
  return save_engine(std::span(&one, 1));
}

std::shared_ptr<const Executable> load(const std::vector<std::byte>& bytes) {
  auto owner = std::make_shared<std::vector<std::byte>>(bytes);
  return load_engine(*owner, owner, {.threads = 1});
}

Tensor run(std::shared_ptr<const Executable> executable, const Tensor& x) {
  Context context(std::make_shared<const Engine>(std::move(executable)));
  context.set_input(0, x.dims(), x.data(), static_cast<size_t>(x.bytes()));
  context.run();
  return context.output(0).tensor;
}

TEST(EngineFile, SameModelSameBytes) {
  EXPECT_EQ(bytes_of(build_target(affine())), bytes_of(build_target(affine())));
  // What was loaded saves as the same bytes again.
  const std::vector<std::byte> bytes = bytes_of(build_target(affine()));
  EXPECT_EQ(bytes_of(load(bytes)->target), bytes);
}

TEST(EngineFile, NamesOfNodesHoldNoControlCharacters) {
  Target target = build_target(affine());
  target.sources = {{"a\n\x1b[31m", "b\x07"}, {"\xc3\xa4 \\\"", "Relu"}};
  const Target loaded = load(bytes_of(target))->target;
  EXPECT_EQ(loaded.sources[0].name, "a\\x0a\\x1b[31m");
  EXPECT_EQ(loaded.sources[0].op_type, "b\\x07");
  EXPECT_EQ(loaded.sources[1].name, "\xc3\xa4 \\\"");
}

TEST(EngineFile, LoadedEqualsBuilt) {
  const Tensor x = random_tensor({3, 4});
  Target target = build_target(affine());
  const std::vector<std::byte> bytes = bytes_of(target);
  EXPECT_TRUE(run(load(bytes), x).identical(run(make_executable(std::move(target), this_machine(1)), x)));
}

TEST(EngineFile, EveryFlippedBitAndEveryCutIsRefused) {
  const std::vector<std::byte> bytes = bytes_of(build_target(affine()));
  const auto refused = [](const std::vector<std::byte>& changed) {
    try {
      load(changed);
      return false;
    } catch (const Error&) {
      return true;
    }
  };
  size_t accepted = 0;
  for (size_t bit = 0; bit < bytes.size() * 8; ++bit) {
    std::vector<std::byte> changed = bytes;
    changed[bit / 8] ^= std::byte{1} << (bit % 8);
    accepted += !refused(changed);
  }
  for (size_t length = 0; length < bytes.size(); ++length)
    accepted += !refused({bytes.begin(), bytes.begin() + static_cast<int64_t>(length)});
  std::vector<std::byte> longer = bytes;
  longer.push_back(std::byte{0});
  accepted += !refused(longer);
  EXPECT_EQ(accepted, 0u) << "of " << bytes.size() * 9 << " changed files";
}

TEST(EngineFile, FirstTargetThatRunsHereIsTaken) {
  Target here = build_target(affine());
  Target elsewhere = build_target(affine());
  elsewhere.needs.level = 200;
  const Target* both[] = {&elsewhere, &here};
  const std::vector<std::byte> bytes = save_engine(both);
  EXPECT_EQ(load(bytes)->target.needs.level, here.needs.level);
  // Equal weights are stored once.
  EXPECT_LT(bytes.size(), bytes_of(here).size() + bytes_of(elsewhere).size());
  const std::vector<std::byte> only = bytes_of(elsewhere);
  try {
    load(only);
    FAIL() << "an engine for another machine was loaded";
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), Code::engine_incompatible) << e.what();
  }
}

TEST(EngineFile, KernelsOfInstructionsThatTheMachineLacks) {
  const Kernel* tiles = find_kernel("cpu/matmul_f16");
  ASSERT_NE(tiles, nullptr);
  if ((tiles->features & ~this_machine(1).features) == 0) GTEST_SKIP() << "this machine has AMX-FP16";
  Target here = build_target(affine());
  Target elsewhere = build_target(affine());
  ASSERT_FALSE(elsewhere.kernels.empty());
  elsewhere.kernels[0] = "cpu/matmul_f16";
  const Target* both[] = {&elsewhere, &here};
  EXPECT_EQ(load(save_engine(both))->target.kernels, here.kernels);
  try {
    load(bytes_of(elsewhere));
    FAIL() << "an engine for another machine was loaded";
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), Code::engine_incompatible) << e.what();
    EXPECT_NE(std::string(e.what()).find("cpu/matmul_f16"), std::string::npos) << e.what();
  }
}

TEST(EngineFile, NoEngineIsSaidSo) {
  for (const std::string& text : std::vector<std::string>{
           "", "dummy", "ONNX but not an engine, long enough for a header to be looked for in it"}) {
    std::vector<std::byte> bytes(text.size());
    std::copy_n(reinterpret_cast<const std::byte*>(text.data()), text.size(), bytes.begin());
    EXPECT_FALSE(is_engine(bytes));
    EXPECT_THROW(load(bytes), Error);
  }
}

}  // namespace
}  // namespace sinter
