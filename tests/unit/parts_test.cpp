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
  std::sort(out.begin(), out.end(), [&](uint32_t a, uint32_t b) {
    return Dim::compare(*target.main.slots[a].at, *target.main.slots[b].at) < 0;
  });
  return out;
}

TEST(Parts, EveryElementHasOneWriter) {
  Target overlapping = target_in_parts();
  overlapping.main.slots[written_parts(overlapping).at(1)].at = 3;
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
    if (slot.is_part() && *slot.at == Dim(2)) slot.at = 0;
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
  beyond.main.slots[written_parts(beyond).at(1)].at = 5;
  expect_refused(beyond, "is not known to be a part of its base");
  Target negative = target_in_parts();
  negative.main.slots[written_parts(negative).at(1)].at = -1;
  expect_refused(negative, "is no possible part");
  Target nested = target_in_parts();
  nested.main.slots[written_parts(nested).at(1)].of = written_parts(nested).at(0);
  expect_refused(nested, "is no possible part");
  Target elsewhere = target_in_parts();
  elsewhere.main.slots[elsewhere.main.parameters[0]].at = 1;
  expect_refused(elsewhere, "cannot be a part");
  // A part that is only read may have any pitch: that it ends within its base is seen when shapes are bound.
  Target read = target_in_parts();
  for (Slot& slot : read.main.slots)
    if (slot.is_part() && *slot.at == Dim(2)) slot.at = int64_t{1} << 40;
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

// ---- parts without gaps: along an axis that nothing is counted outside of ----

// Steps that only move elements.
size_t count_copies(const Target& target) {
  const auto moves = [&](const Step& step) {
    const Problem& problem = target.problems[step.choices[0].problem];
    const std::string_view name = problem.stages[0].op->name;
    return name == "Concat" || name == "Split" || name == "Slice" || name == "Identity";
  };
  return static_cast<size_t>(std::count_if(target.main.steps.begin(), target.main.steps.end(), moves));
}

// Results of the built engine, saved and read again, equal those of the same module by reference.
void expect_as_reference(const std::function<Module()>& make, const std::vector<Dims>& inputs) {
  BuildOptions slow;
  slow.threads = 1;
  slow.reference_only = true;
  const auto expected = std::make_shared<const Engine>(make_executable(build(make(), slow).target, this_machine(1)));
  const Target target = build_target(make());
  WeightOffsets offsets;
  Target again = parse_target(to_text(target, WeightOffsets(target.weights.size(), 0)), offsets);
  again.weights = target.weights;
  verify_target(again, this_machine(1));
  Context a(expected, 1), b(std::make_shared<const Engine>(make_executable(std::move(again), this_machine(1))), 1);
  std::vector<Tensor> values;
  for (const Dims& dims : inputs) values.push_back(random_tensor(dims, values.size() + 1));
  for (Context* context : {&a, &b}) {
    for (size_t i = 0; i < values.size(); ++i)
      context->set_input(i, values[i].dims(), values[i].data(), static_cast<size_t>(values[i].bytes()));
    context->run();
  }
  for (size_t o = 0; o < target.main.results.size(); ++o) {
    const Tensor x = a.output(o).tensor, y = b.output(o).tensor;
    ASSERT_EQ(x.dims(), y.dims());
    for (int64_t n = 0; n < x.count(); ++n)
      EXPECT_NEAR(x.get_real(n), y.get_real(n), 1e-5 * (1 + std::abs(x.get_real(n)))) << "output " << o;
  }
}

// c = concat(-x, |y|, exp(x)) of x[n, 4] and y[m, 4]; results exp(c), -c[m:] and -c[:-3].
Module module_in_rows() {
  Module module;
  GraphBuilder b(module, *module.main);
  const Dim n = named(module, "n"), m = named(module, "m");
  const ValueId x = b.input(Type::tensor(DType::f32, Shape{n, 4}), "x");
  const ValueId y = b.input(Type::tensor(DType::f32, Shape{m, 4}), "y");
  const ValueId c = b.op("Concat", ConcatAttrs{0}, {b.op("Neg", {x}), b.op("Abs", {y}), b.op("Exp", {x})});
  const ValueId tail = b.op("Slice", {c, b.dims({m}), b.integers({INT64_MAX}), b.integers({0})});
  const ValueId head = b.op("Slice", {c, b.integers({0}), b.integers({-3}), b.integers({0})});
  module.main->outputs = {b.op("Exp", {c}), b.op("Neg", {tail}), b.op("Neg", {head})};
  return module;
}

TEST(PartsInRows, OpenExtentsMoveNothing) {
  const Target target = build_target(module_in_rows());
  EXPECT_EQ(count_copies(target), 0u);
  EXPECT_EQ(count_parts(target.main), 5u);
  for (const auto& [n, m] : {std::pair<int64_t, int64_t>(5, 2), {3, 0}, {4, 7}, {3, 1}})
    expect_as_reference(module_in_rows, {{n, 4}, {m, 4}});
}

// Channels of one image, in the order of most kernels and channels last, of which lines lead.
TEST(PartsInRows, ChannelsOfOneImage) {
  const auto make = [] {
    return module_with({Type::tensor(DType::f32, Shape{1, 6, 3, 5})}, [](GraphBuilder& b, const Ids& x) {
      const ValueId sizes = b.integers({1, 3, 2});
      const Ids split = b.add(op_named("Split"), SplitAttrs{1}, {b.op("Neg", {x[0]}), sizes}, 3);
      const ValueId c =
          b.op("Concat", ConcatAttrs{1}, {b.op("Exp", {split[2]}), b.op("Abs", {split[0]}), b.op("Exp", {split[1]})});
      return Ids{b.op("Tanh", {c}), b.op("Neg", {split[1]})};
    });
  };
  const Target target = build_target(make());
  EXPECT_EQ(count_copies(target), 0u);
  EXPECT_EQ(count_parts(target.main), 6u);
  expect_as_reference(make, {{1, 6, 3, 5}});
}

// Neither does a batch of two, nor an axis that another one is counted outside of.
TEST(PartsInRows, OtherAxesAreCopied) {
  const auto make = [] {
    return module_with({Type::tensor(DType::f32, Shape{2, 3, 5})}, [](GraphBuilder& b, const Ids& x) {
      return Ids{b.op("Tanh", {b.op("Concat", ConcatAttrs{1}, {b.op("Neg", {x[0]}), b.op("Abs", {x[0]})})})};
    });
  };
  EXPECT_EQ(count_copies(build_target(make())), 1u);
  expect_as_reference(make, {{2, 3, 5}});
}

// Operands that are views, stand twice, are inputs or outputs, or have other readers; a Concat in a Concat; results
// that are outputs.
TEST(PartsInRows, OperandsOfAllKinds) {
  const auto make = [] {
    return module_with(
        {Type::tensor(DType::f32, Shape{2, 6}), Type::tensor(DType::f32, Shape{3, 4})},
        [](GraphBuilder& b, const Ids& x) {
          const ValueId seen = wiring::reshape(b, b.op("Neg", {x[1]}), Shape{2, 6});  // of twelve elements
          const ValueId twice = b.op("Exp", {x[0]});
          const ValueId output = b.op("Tanh", {x[0]});
          const ValueId inner = b.op("Concat", ConcatAttrs{0}, {b.op("Abs", {x[0]}), b.op("Sin", {x[0]})});
          const ValueId c = b.op("Concat", ConcatAttrs{0}, {seen, twice, x[0], output, twice, inner});
          const ValueId read = b.op("Mul", {b.op("Neg", {inner}), b.op("Exp", {inner})});
          const ValueId rows = b.op("Slice", {c, b.integers({3, 1}), b.integers({5, 4}), b.integers({0, 1})});
          const ValueId one = b.op("Slice", {c, b.integers({4, 2}), b.integers({5, 5}), b.integers({0, 1})});
          return Ids{c, output, read, b.op("Neg", {rows}), b.op("Neg", {one}), b.op("Neg", {seen})};
        });
  };
  const Target target = build_target(make());
  // The input, the output and the second time; columns of some rows.
  EXPECT_EQ(count_copies(target), 4u);
  expect_as_reference(make, {{2, 6}, {3, 4}});
}

// Parts of a part: what they read is there before the rest of it is.
TEST(PartsInRows, PartsOfParts) {
  const auto make = [] {
    return module_with({Type::tensor(DType::f32, Shape{4, 6})}, [](GraphBuilder& b, const Ids& x) {
      const ValueId y = b.op("Neg", {x[0]});
      const Ids split = b.add(op_named("Split"), SplitAttrs{0}, {y, b.integers({1, 3})}, 2);
      const ValueId columns = b.op("Slice", {y, b.integers({2}), b.integers({5}), b.integers({1})});
      const ValueId made = b.op("Concat", ConcatAttrs{0}, {b.op("Exp", {split[0]}), b.op("Abs", {split[1]})});
      const ValueId c = b.op("Concat", ConcatAttrs{0}, {y, made});
      return Ids{b.op("Tanh", {c}), b.op("Exp", {columns})};
    });
  };
  const Target target = build_target(make());
  EXPECT_EQ(count_copies(target), 0u);
  // Operands, operands of the operand, both of the Split, and columns.
  EXPECT_EQ(count_parts(target.main), 6u);
  expect_as_reference(make, {{4, 6}});
}

// A few rows of a large value that nothing else reads so late are copied, so that the rest of it is free.
TEST(PartsInRows, LittleOfMuchIsCopied) {
  struct Form {
    int64_t rows, taken;
    bool read_with_it;
    size_t copies;
  };
  for (const Form& form :
       {Form{4096, 4, false, 1}, Form{4096, 400, false, 0}, Form{64, 4, false, 0}, Form{4096, 1, true, 0}}) {
    const auto make = [&] {
      return module_with({Type::tensor(DType::f32, Shape{form.rows, 128})}, [&](GraphBuilder& b, const Ids& x) {
        const ValueId y = b.op("Neg", {x[0]});
        const ValueId first = b.integers({form.rows - form.taken}), end = b.integers({form.rows});
        const ValueId part = b.op("Tanh", {b.op("Slice", {y, first, end, b.integers({0})})});
        return Ids{form.read_with_it ? b.op("Mul", {y, part}) : part};
      });
    };
    const Target target = build_target(make());
    EXPECT_EQ(count_copies(target), form.copies) << form.rows << " " << form.taken << " " << form.read_with_it;
    EXPECT_EQ(count_parts(target.main), 1 - form.copies);
    expect_as_reference(make, {{form.rows, 128}});
  }
}

TEST(PartsInRows, WrittenPartsMakeUpTheirBase) {
  const auto hostile = [](auto change) {
    Target target = build_target(module_in_rows());
    change(target, written_parts(target));
    return target;
  };
  // The parts begin at 0, 4n and 4n + 4m.
  verify_target(hostile([](Target&, const auto&) {}), this_machine(1));
  const std::string_view not_whole = "before it is written";
  expect_refused(hostile([](Target& t, const auto& parts) {  // two over each other
                   t.main.slots[parts[1]].at = *t.main.slots[parts[0]].at;
                 }),
                 not_whole);
  expect_refused(hostile([](Target& t, const auto& parts) {  // the last one leaves a gap and ends beyond the base
                   Slot& last = t.main.slots[parts[2]];
                   last.at = *last.at + 4;
                 }),
                 not_whole);
  expect_refused(hostile([](Target& t, const auto& parts) {  // one that overlaps the end of another
                   Slot& last = t.main.slots[parts[2]];
                   last.at = *last.at - 4;
                 }),
                 not_whole);
  expect_refused(hostile([](Target& t, const auto& parts) {
                   std::erase_if(t.main.steps, [&](const Step& step) { return step.results[0] == parts[1]; });
                 }),
                 not_whole);
  expect_refused(hostile([](Target& t, const auto& parts) { t.main.slots[parts[0]].at = -4; }), "is no possible part");
  expect_refused(hostile([](Target& t, const auto& parts) {  // written as columns, the others as rows
                   t.main.slots[parts[1]].layout.pitch = 4;
                 }),
                 "parts of another kind");
  expect_refused(hostile([](Target& t, const auto& parts) {  // one that is no part: a view of the base
                   t.main.slots[parts[1]].at.reset();
                 }),
                 "may not make its result over");
}

// One that nobody reads as a whole must be complete all the same: readers of its parts rely on it.
TEST(PartsInRows, UnreadBasesAreComplete) {
  Target target = build_target(module_with({Type::tensor(DType::f32, Shape{2, 4})}, [](GraphBuilder& b, const Ids& x) {
    const ValueId c = b.op("Concat", ConcatAttrs{0}, {b.op("Neg", {x[0]}), b.op("Abs", {x[0]})});
    return Ids{b.op("Exp", {b.op("Slice", {c, b.integers({0}), b.integers({1}), b.integers({0})})})};
  }));
  verify_target(target, this_machine(1));
  target.main.slots[written_parts(target).at(1)].at = 4;
  expect_refused(target, "written in parts that do not make it up");
}

// Places that extents decide are looked at when shapes are bound.
TEST(PartsInRows, PartsThatAreReadLieWithinTheirBase) {
  for (const Dim& at : {Dim(int64_t{1} << 40), Dim::symbol(1) * -4}) {
    Target target = build_target(module_in_rows());
    bool changed = false;
    const std::vector<uint32_t> written = written_parts(target);
    for (uint32_t s = 0; s < target.main.slots.size(); ++s)
      if (target.main.slots[s].is_part() && std::find(written.begin(), written.end(), s) == written.end()) {
        target.main.slots[s].at = at;
        changed = true;
      }
    ASSERT_TRUE(changed);
    verify_target(target, this_machine(1));
    Context context(std::make_shared<const Engine>(make_executable(std::move(target), this_machine(1))), 1);
    const Tensor x = random_tensor({4, 4}), y = random_tensor({2, 4});
    context.set_input(0, x.dims(), x.data(), static_cast<size_t>(x.bytes()));
    context.set_input(1, y.dims(), y.data(), static_cast<size_t>(y.bytes()));
    EXPECT_THROW(context.run(), Error);
  }
}

}  // namespace
}  // namespace sinter
