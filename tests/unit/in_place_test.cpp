// Results that are made over operands: what the builder does, and what the verifier refuses.
#include "engines.h"
#include "ops/contraction.h"
#include "wiring/wiring.h"

namespace sinter {
namespace {

using namespace testing;

ValueId times(GraphBuilder& b, ValueId x, uint64_t seed) {
  return b.op("MatMul", MatMulAttrs{}, {x, b.constant(random_tensor({16, 16}, seed))});
}

// p = x W1; q = x W2 + p; result q W3, with x[n, 16].
Module module_with_residual() {
  Module module;
  GraphBuilder b(module, *module.main);
  const ValueId x = b.input(Type::tensor(DType::f32, Shape{named(module, "n"), 16}), "x");
  const ValueId p = times(b, x, 1);
  module.main->outputs = {times(b, wiring::add(b, times(b, x, 2), p), 3)};
  return module;
}

// The slot that is made over another one, and its step.
struct Over {
  uint32_t step, slot;
};
std::optional<Over> made_over(const Target& target) {
  for (uint32_t i = 0; i < target.main.steps.size(); ++i)
    for (uint32_t s : target.main.steps[i].results)
      if (target.main.slots[s].kind == SlotKind::view && !target.main.slots[s].is_part()) return Over{i, s};
  return std::nullopt;
}

void expect_refused(const Target& target, std::string_view reason) {
  std::string message;
  try {
    verify_target(target, this_machine(1));
  } catch (const Error& e) {
    message = e.message();
  }
  EXPECT_NE(message.find(reason), std::string::npos) << "'" << message << "' for '" << reason << "'";
}

TEST(InPlace, ResidualsAreAddedWhereTheyLie) {
  const Target target = build_target(module_with_residual());
  const auto over = made_over(target);
  ASSERT_TRUE(over);
  EXPECT_EQ(target.main.slots[target.main.slots[over->slot].of].kind, SlotKind::arena);
  BuildOptions by_definition;
  by_definition.threads = 1;
  by_definition.reference_only = true;
  Context fast(engine_of(module_with_residual()), 1);
  Context slow(std::make_shared<const Engine>(
                   make_executable(build(module_with_residual(), by_definition).target, this_machine(1))),
               1);
  for (int64_t rows : {3, 40, 0, 7}) {
    const Tensor x = random_tensor({rows, 16}, 9);
    for (Context* c : {&fast, &slow}) {
      c->set_input(0, x.dims(), x.data(), static_cast<size_t>(x.bytes()));
      c->run();
    }
    const Box a = fast.output(0), b = slow.output(0);
    ASSERT_EQ(a.tensor.dims(), b.tensor.dims());
    for (int64_t i = 0; i < a.tensor.count(); ++i)
      EXPECT_NEAR(a.tensor.get_real(i), b.tensor.get_real(i), 1e-3 * std::max(1.0, std::abs(b.tensor.get_real(i))));
  }
}

TEST(InPlace, WhatWasOverwrittenIsNotReadAgain) {
  Target target = build_target(module_with_residual());
  const Over over = *made_over(target);
  for (Step& step : target.main.steps)
    if (step.operands[0] == over.slot) step.operands[0] = target.main.slots[over.slot].of;
  expect_refused(target, "after it was overwritten");
}

TEST(InPlace, OperandsOfTheProductStay) {
  Target target =
      build_target(module_with({Type::tensor(DType::f32, Shape{16, 16})}, [](GraphBuilder& b, const Ids& x) {
        const ValueId p = times(b, x[0], 1);
        return Ids{times(b, wiring::add(b, times(b, p, 2), p), 3)};
      }));
  EXPECT_FALSE(made_over(target));
  ASSERT_EQ(target.main.steps.size(), 3u);
  Slot& made = target.main.slots[target.main.steps[1].results[0]];
  ASSERT_EQ(made.kind, SlotKind::arena);
  made.kind = SlotKind::view;
  made.of = target.main.steps[0].results[0];
  made.above.clear();
  expect_refused(target, "may not make its result over");
}

TEST(InPlace, InputsStay) {
  const Type type = Type::tensor(DType::f32, Shape{16, 16});
  Target target = build_target(module_with({type, type}, [](GraphBuilder& b, const Ids& x) {
    return Ids{times(b, wiring::add(b, times(b, x[0], 1), x[1]), 2)};
  }));
  EXPECT_FALSE(made_over(target));
  Slot& made = target.main.slots[target.main.steps[0].results[0]];
  made.kind = SlotKind::view;
  made.of = target.main.parameters[1];
  made.above.clear();
  expect_refused(target, "may not make its result over");
}

TEST(InPlace, KernelsSayWhetherTheyMay) {
  Target target =
      build_target(module_with({Type::tensor(DType::f32, Shape{16, 16})}, [](GraphBuilder& b, const Ids& x) {
        const ValueId p = wiring::transpose(b, times(b, x[0], 1), {1, 0});
        return Ids{wiring::transpose(b, times(b, p, 2), {1, 0})};
      }));
  uint32_t changed = 0;
  for (const Step& step : target.main.steps) {
    Slot& made = target.main.slots[step.results[0]];
    if (target.kernels[step.choices[0].kernel] != "cpu/copy" || made.kind != SlotKind::arena) continue;
    made.kind = SlotKind::view;
    made.of = step.operands[0];
    made.above.clear();
    ++changed;
  }
  ASSERT_GT(changed, 0u);
  expect_refused(target, "may not make its result over");
}

}  // namespace
}  // namespace sinter
