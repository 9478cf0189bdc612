// Attentions whose masks are causal: no room for a mask, in the engine or in a run.
#include <cmath>
#include <limits>
#include <optional>

#include "engines.h"
#include "ir/evaluate.h"
#include "wiring/wiring.h"

namespace sinter {
namespace {

using namespace testing;

constexpr double minus_infinity = -std::numeric_limits<double>::infinity();

// [1, 2, queries, 16] with keys of their own and those before them.
Module causal(std::optional<int64_t> queries, std::optional<int64_t> keys, int layers = 1) {
  Module module;
  GraphBuilder b(module, *module.main);
  const Dim s = queries ? Dim(*queries) : named(module, "S"), t = keys ? Dim(*keys) : named(module, "T");
  const auto input = [&](const Dim& n, const char* name) {
    return b.input(Type::tensor(DType::f32, Shape{1, 2, n, 16}), name);
  };
  ValueId y = input(s, "q");
  const ValueId k = input(t, "k"), v = input(t, "v");
  const ValueId seen = wiring::band(b, s, t, no_id, wiring::scalar_of(b, b.dims({t - s})));
  for (int i = 0; i < layers; ++i) {
    const ValueId scores = wiring::matmul(b, y, k, true);
    const ValueId masked = wiring::where(b, seen, scores, b.scalar(DType::f32, minus_infinity));
    y = wiring::matmul(b, wiring::softmax(b, masked, -1), v);
  }
  module.main->outputs = {y};
  (*module.main)[y].name = "y";
  return module;
}

void expect_right(const std::shared_ptr<const Engine>& engine, const Module& module, int64_t queries, int64_t keys,
                  int64_t most_bytes) {
  const std::vector<Tensor> operands = {random_tensor({1, 2, queries, 16}, 1), random_tensor({1, 2, keys, 16}, 2),
                                        random_tensor({1, 2, keys, 16}, 3)};
  Context context(engine);
  std::vector<Box> boxes;
  for (size_t i = 0; i < operands.size(); ++i) {
    context.set_input(i, operands[i].dims(), operands[i].data(), static_cast<size_t>(operands[i].bytes()));
    boxes.push_back(Box(operands[i]));
  }
  context.run();
  EXPECT_LT(context.memory_bytes(), most_bytes);
  const Evaluation evaluation(module, boxes);
  const Tensor wanted = evaluation.outputs()[0].tensor;
  const auto* got = static_cast<const float*>(context.data(0));
  double worst = 0;
  for (int64_t i = 0; i < wanted.count(); ++i)
    worst = std::max(worst, std::abs(wanted.get_real(i) - static_cast<double>(got[i])));
  EXPECT_LT(worst, 1e-4);
}

TEST(Causal, NoMaskIsStored) {
  BuildOptions options;
  options.threads = 1;
  Target target = build(causal(2048, 2048), options).target;
  EXPECT_EQ(target.main.steps.size(), 1u);
  for (const Weight& weight : target.weights) EXPECT_LT(weight.bytes.bytes(), 64);
  verify_target(target, this_machine(1));
  const auto engine = std::make_shared<const Engine>(make_executable(std::move(target), this_machine(1)));
  // A mask of bytes alone were 4 MiB.
  expect_right(engine, causal(2048, 2048), 2048, 2048, 2 << 20);
}

TEST(Causal, NorWhereExtentsAreOpen) {
  const Module module = causal({}, {});
  const auto engine = engine_of(causal({}, {}), 1, {{"S", 1, 100, 4096}, {"T", 1, 100, 4096}});
  expect_right(engine, module, 2048, 2048, 2 << 20);
  expect_right(engine, module, 100, 1500, 2 << 20);
  expect_right(engine, module, 1, 77, 2 << 20);
  expect_right(engine, module, 70, 70, 2 << 20);
}

TEST(Causal, LayersShareNone) {
  EXPECT_EQ(build_target(causal(300, 300, 3)).main.steps.size(), 3u);
  expect_right(engine_of(causal(300, 300, 3)), causal(300, 300, 3), 300, 300, 1 << 20);
}

}  // namespace
}  // namespace sinter
