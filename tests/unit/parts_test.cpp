// Values in parts: what the builder makes of Concat and Slice, and what the verifier and the run time refuse.
#include <cmath>

#include "base/scanner.h"
#include "engine/plan_text.h"
#include "engines.h"
#include "ops/movement.h"
#include "wiring/wiring.h"

namespace sinter {
namespace {

using namespace testing;

// c = concat(-x, |y|) of x[N, 4] and y[M, 3]; results exp(c) and -c[:, 2:6].
Module module_in_parts(bool same_rows = true) {
  Module module;
  GraphBuilder b(module, *module.main);
  const Dim n = named(module, "n"), m = same_rows ? n : named(module, "m");
  const ValueId x = b.input(Type::tensor(DType::f32, Shape{n, 4}), "x");
  const ValueId y = b.input(Type::tensor(DType::f32, Shape{m, 3}), "y");
  const ValueId c = b.op("Concat", ConcatAttrs{1}, {b.op("Neg", {x}), b.op("Abs", {y})});
  const ValueId part = b.op("Slice", {c, b.integers({2}), b.integers({6}), b.integers({1})});
  module.main->outputs = {b.op("Exp", {c}), b.op("Neg", {part})};
  return module;
}

Target target_in_parts() { return build_target(module_in_parts()); }

size_t count_parts(const Plan& plan) {
  return static_cast<size_t>(
      std::count_if(plan.slots.begin(), plan.slots.end(), [](const Slot& slot) { return slot.is_part(); }));
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

void expect_results(Context& context, int64_t rows) {
  const Tensor x = random_tensor({rows, 4}, 3), y = random_tensor({rows, 3}, 4);
  context.set_input(0, x.dims(), x.data(), static_cast<size_t>(x.bytes()));
  context.set_input(1, y.dims(), y.data(), static_cast<size_t>(y.bytes()));
  context.run();
  const Box all = context.output(0), part = context.output(1);
  ASSERT_EQ(all.tensor.dims(), (Dims{rows, 7}));
  ASSERT_EQ(part.tensor.dims(), (Dims{rows, 4}));
  for (int64_t r = 0; r < rows; ++r)
    for (int64_t k = 0; k < 7; ++k) {
      const double c = k < 4 ? -x.get_real(r * 4 + k) : std::abs(y.get_real(r * 3 + k - 4));
      EXPECT_NEAR(all.tensor.get_real(r * 7 + k), std::exp(c), 1e-5 * std::exp(c));
      if (k >= 2 && k < 6) {
        EXPECT_EQ(part.tensor.get_real(r * 4 + k - 2), -c);
      }
    }
}

TEST(Parts, ConcatAndSliceMoveNothing) {
  const Target target = target_in_parts();
  EXPECT_EQ(target.main.steps.size(), 4u);
  EXPECT_EQ(count_parts(target.main), 3u);
  Context context(engine_of(module_in_parts()), 1);
  for (int64_t rows : {5, 1, 0, 9, 5}) expect_results(context, rows);
}

TEST(Parts, PlansReadBack) {
  const Target target = target_in_parts();
  const std::string text = to_text(target, WeightOffsets(target.weights.size(), 0));
  WeightOffsets offsets;
  const Target again = parse_target(text, offsets);
  EXPECT_EQ(to_text(again, WeightOffsets(target.weights.size(), 0)), text);
  verify_target(again, this_machine(1));
}

// Rows that inference cannot prove equal are compared when shapes are bound.
TEST(Parts, RowsThatDoNotFitAreAnError) {
  const Target target = build_target(module_in_parts(false));
  EXPECT_GE(count_parts(target.main), 2u);
  Context context(engine_of(module_in_parts(false)), 1);
  expect_results(context, 5);
  const Tensor x = random_tensor({5, 4}), y = random_tensor({6, 3});
  context.set_input(0, x.dims(), x.data(), static_cast<size_t>(x.bytes()));
  context.set_input(1, y.dims(), y.data(), static_cast<size_t>(y.bytes()));
  EXPECT_THROW(context.run(), Error);
  expect_results(context, 3);
}

// An operand of a Concat that comes from outside is copied into its part; one that stands twice as well.
TEST(Parts, OthersAreCopied) {
  const Type type = Type::tensor(DType::f32, Shape{2, 3});
  const auto engine = engine_of(module_with({type}, [](GraphBuilder& b, const Ids& x) {
    const ValueId twice = b.op("Exp", {x[0]});
    return Ids{b.op("Neg", {b.op("Concat", ConcatAttrs{1}, {x[0], b.op("Neg", {x[0]}), twice, twice})})};
  }));
  Context context(engine, 1);
  const Tensor x = random_tensor({2, 3});
  context.set_input(0, x.dims(), x.data(), static_cast<size_t>(x.bytes()));
  context.run();
  const Box y = context.output(0);
  for (int64_t r = 0; r < 2; ++r)
    for (int64_t k = 0; k < 3; ++k) {
      const double v = x.get_real(r * 3 + k);
      EXPECT_EQ(y.tensor.get_real(r * 12 + k), -v);
      EXPECT_EQ(y.tensor.get_real(r * 12 + 3 + k), v);
      EXPECT_NEAR(y.tensor.get_real(r * 12 + 6 + k), -std::exp(v), 1e-5 * std::exp(v));
      EXPECT_NEAR(y.tensor.get_real(r * 12 + 9 + k), -std::exp(v), 1e-5 * std::exp(v));
    }
}

// The slots of the parts that steps write, in order of their columns.
std::vector<uint32_t> written_parts(const Target& target) {
  std::vector<uint32_t> out;
  for (const Step& step : target.main.steps)
    for (uint32_t s : step.results)
      if (target.main.slots[s].is_part()) out.push_back(s);
  std::sort(out.begin(), out.end(),
            [&](uint32_t a, uint32_t b) { return target.main.slots[a].offset < target.main.slots[b].offset; });
  return out;
}

TEST(Parts, EveryElementHasOneWriter) {
  Target overlapping = target_in_parts();
  overlapping.main.slots[written_parts(overlapping).at(1)].offset = 3;
  expect_refused(overlapping, "a second time");
  Target incomplete = target_in_parts();
  const uint32_t last = written_parts(incomplete).at(1);
  std::erase_if(incomplete.main.steps, [&](const Step& step) { return step.results[0] == last; });
  expect_refused(incomplete, "before it is written");
  Target whole = target_in_parts();
  const uint32_t base = whole.main.slots[written_parts(whole).at(0)].of;
  for (Step& step : whole.main.steps)
    if (step.operands[0] == base) step.results[0] = base;
  expect_refused(whole, "a second time");
}

TEST(Parts, WhatIsReadHasBeenWritten) {
  // The reader of columns 2 to 6 comes before the writer of columns 4 to 7.
  Target target = target_in_parts();
  std::swap(target.main.steps[1], target.main.steps[3]);
  expect_refused(target, "before it is written");
  // Columns 0 to 4 may be read as soon as they are there.
  Target sooner = target_in_parts();
  for (Slot& slot : sooner.main.slots)
    if (slot.is_part() && slot.offset == 2) slot.offset = 0;
  verify_target(sooner, this_machine(1));
  const uint32_t first = written_parts(sooner).at(0);
  std::stable_sort(sooner.main.steps.begin(), sooner.main.steps.end(), [&](const Step& a, const Step& b) {
    const auto rank = [&](const Step& step) {
      return step.results[0] == first ? 0 : sooner.main.slots[step.operands[0]].kind == SlotKind::view ? 1 : 2;
    };
    return rank(a) < rank(b);
  });
  verify_target(sooner, this_machine(1));
}

TEST(Parts, PartsLieWithinTheirBase) {
  Target beyond = target_in_parts();
  beyond.main.slots[written_parts(beyond).at(1)].offset = 5;
  expect_refused(beyond, "is not known to be a part of its base");
  Target negative = target_in_parts();
  negative.main.slots[written_parts(negative).at(1)].offset = -1;
  expect_refused(negative, "is no possible part");
  Target nested = target_in_parts();
  nested.main.slots[written_parts(nested).at(1)].of = written_parts(nested).at(0);
  expect_refused(nested, "is no possible part");
  Target elsewhere = target_in_parts();
  elsewhere.main.slots[elsewhere.main.parameters[0]].offset = 1;
  expect_refused(elsewhere, "cannot be a part");
  // A part that is only read may have any pitch: that it ends within its base is seen when shapes are bound.
  Target read = target_in_parts();
  for (Slot& slot : read.main.slots)
    if (slot.is_part() && slot.offset == 2) slot.offset = int64_t{1} << 40;
  verify_target(read, this_machine(1));
  Context context(std::make_shared<const Engine>(make_executable(std::move(read), this_machine(1))), 1);
  const Tensor x = random_tensor({2, 4}), y = random_tensor({2, 3});
  context.set_input(0, x.dims(), x.data(), static_cast<size_t>(x.bytes()));
  context.set_input(1, y.dims(), y.data(), static_cast<size_t>(y.bytes()));
  EXPECT_THROW(context.run(), Error);
}

TEST(Parts, RowsFitTheirPitch) {
  Target negative = target_in_parts();
  negative.main.slots[written_parts(negative).at(0)].layout.pitch = -1;
  expect_refused(negative, "has a layout that does not fit its type");
  Target narrow = target_in_parts();
  narrow.main.slots[written_parts(narrow).at(0)].layout.pitch = 3;
  expect_refused(narrow, "do not fit its pitch");
  EXPECT_THROW(layout_bytes(Layout().with_pitch(3), DType::f32, {2, 4}), Error);
  EXPECT_THROW(layout_bytes(Layout().with_pitch(INT32_MAX), DType::f32, {int64_t{1} << 40, 4}), Error);
  EXPECT_EQ(layout_bytes(Layout().with_pitch(9), DType::f32, {3, 4}), (2 * 9 + 4) * 4);
  EXPECT_EQ(layout_bytes(Layout().with_pitch(9), DType::f32, {0, 4}), 0);
  EXPECT_EQ(layout_strides(Layout::channels_last(3).with_pitch(9), {2, 4, 5}), (Dims{45, 1, 9}));
  Scanner scanner("@(0, 2, 1, pitch 9)");
  EXPECT_EQ(parse_layout(scanner), Layout::channels_last(3).with_pitch(9));
  EXPECT_EQ(to_text(Layout().with_pitch(9)), "@(pitch 9)");
}

}  // namespace
}  // namespace sinter
