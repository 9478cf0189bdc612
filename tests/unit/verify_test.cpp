// What the verifier, the kernel rows and the readers refuse: plans that somebody made up.
#include "backend/cpu/device.h"
#include "base/scanner.h"
#include "engines.h"
#include "wiring/wiring.h"

namespace sinter {
namespace {

using namespace testing;

// y = -relu(x), by two steps or one, with x[N, 4].
Target two_steps() {
  return build_target(module_with({Type::tensor(DType::f32, Shape{4, 4})}, [](GraphBuilder& b, const Ids& x) {
    return Ids{wiring::reduce(b, "Sum", wiring::transpose(b, x[0], {1, 0}), {1}, false)};
  }));
}

std::string refusal(const Target& target) {
  try {
    verify_target(target, this_machine(1));
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), Code::engine_invalid) << e.what();
    return std::string(e.message());
  }
  return "";
}

void expect_refused(const Target& target, std::string_view reason) {
  EXPECT_NE(refusal(target).find(reason), std::string::npos) << "'" << refusal(target) << "' for '" << reason << "'";
}

TEST(Verify, SoundPlanIsAccepted) { EXPECT_EQ(refusal(two_steps()), ""); }

TEST(Verify, BufferOfTheCallerHasOneSlotOfItsType) {
  Target larger = two_steps();
  Slot slot = larger.main.slots[larger.main.results[0]];
  slot.type = Type::tensor(DType::f32, Shape{1 << 20});
  larger.main.slots.push_back(slot);
  expect_refused(larger, "is not the type of its binding");
  Target twice = two_steps();
  twice.main.slots.push_back(twice.main.slots[twice.main.results[0]]);
  expect_refused(twice, "two slots are binding");
}

TEST(Verify, EveryBodyBelongsToOneStep) {
  Target target = two_steps();
  Plan body;
  body.parameters = {7};
  target.main.bodies.push_back(body);
  expect_refused(target, "belongs to no step");
}

TEST(Verify, PlainContentsAreNotBoxed) {
  Target target = two_steps();
  target.main.slots.push_back({Type::tensor(DType::f32, Shape{4}), {}, SlotKind::boxed, 0, counting({4}), {}});
  expect_refused(target, "has the contents of a plain tensor");
}

// Views in an order in which none follows its base see the buffers of this run, not those of the last one.
TEST(Verify, ViewsOfViewsFollowTheirBase) {
  Target target = build_target(module_with({Type::tensor(DType::f32, Shape{4})},
                                           [](GraphBuilder& b, const Ids& x) { return Ids{b.op("Neg", {x[0]})}; }));
  const uint32_t x = target.main.parameters[0];
  const auto view = static_cast<uint32_t>(target.main.slots.size());
  const Type type = target.main.slots[x].type;
  target.main.slots.push_back({type, {}, SlotKind::view, view + 1, {}, {}});
  target.main.slots.push_back({type, {}, SlotKind::view, view + 2, {}, {}});
  target.main.slots.push_back({type, {}, SlotKind::view, x, {}, {}});
  ASSERT_EQ(target.main.steps.size(), 1u);
  target.main.steps[0].operands[0] = view;
  ASSERT_EQ(refusal(target), "");
  Context context(std::make_shared<const Engine>(make_executable(std::move(target), this_machine(1))), 1);
  for (int run = 1; run < 4; ++run) {
    const Tensor data = reals({4}, {1.0 * run, 2, 3, 4});
    context.set_input(0, data.dims(), data.data(), static_cast<size_t>(data.bytes()));
    context.run();
    EXPECT_EQ(context.output(0).tensor.get_real(0), -run);
  }
}

// An input's extent that is an expression of another's symbol is checked before anything is read.
TEST(Verify, ExtentsOfInputsThatAreExpressionsAreChecked) {
  Module module;
  GraphBuilder b(module, *module.main);
  const Dim n = named(module, "n");
  const ValueId x = b.input(Type::tensor(DType::f32, Shape{n}), "x");
  const ValueId y = b.input(Type::tensor(DType::f32, Shape{n * Dim(2)}), "y");
  module.main->outputs = {b.op("Neg", {x}), b.op("Neg", {y})};
  Context context(engine_of(std::move(module)), 1);
  const Tensor first = counting({5}), fits = counting({10}), smaller = counting({3});
  context.set_input(0, first.dims(), first.data(), 20);
  context.set_input(1, smaller.dims(), smaller.data(), 12);
  EXPECT_THROW(context.run(), Error);
  context.set_input(1, fits.dims(), fits.data(), 40);
  context.run();
}

// A view whose source has another number of elements for these extents is an error, not a part of it.
TEST(Verify, ReshapeThatDoesNotFitIsAnError) {
  Module module;
  GraphBuilder b(module, *module.main);
  const ValueId x = b.input(Type::tensor(DType::f32, Shape{named(module, "n")}), "x");
  module.main->outputs = {b.op("Neg", {b.op("Reshape", {x, b.integers({-1, 4})})})};
  Context context(engine_of(std::move(module)), 1);
  const Tensor fits = counting({8}), does_not = counting({6});
  context.set_input(0, fits.dims(), fits.data(), 32);
  context.run();
  context.set_input(0, does_not.dims(), does_not.data(), 24);
  EXPECT_THROW(context.run(), Error);
}

TEST(Verify, RowsRefuseOperandsThatTheyWouldConfuse) {
  const DeviceSpec device = this_machine(1);
  const auto taken = [&](const char* kernel, const char* problem) {
    const Kernel& row = *find_kernel(kernel);
    return bool(row.supports(row, parse_problem(problem), device));
  };
  EXPECT_TRUE(taken("cpu/copy", "(f32[1000]) { Identity(0); } -> (1)"));
  EXPECT_FALSE(taken("cpu/copy", "(f32[4], f32[1000]) { Identity(1); } -> (2)"));
  EXPECT_FALSE(taken("cpu/copy", "(i8[4], f32[4], f32[4]) { Concat(1, 2); } -> (3)"));
  EXPECT_FALSE(taken("cpu/pack_f32", "(f32[8, 8], f32[2, 2]) { Identity(0); } -> (2 @matrix(16, 16))"));
  // Axes in symbols, of which inference could not test any: a scalar has none.
  EXPECT_FALSE(taken("cpu/pad", "(f32[], i64[s0], host [1, 1], host [s0]) { Pad(0, 2, _, 3); } -> (4)"));
  EXPECT_FALSE(taken("cpu/copy", "(f32[], i64[s0], host [0], host [1], host [s0]) { Slice(0, 2, 3, 4); } -> (5)"));
  EXPECT_THROW(parse_problem("(f32[4]) { Neg(0); } -> (1, 1)"), Error);
}

TEST(Verify, LongContentsOfOperandsReadBack) {
  // More parts than texts for people show; the second problem differs from the first in one number.
  const auto parts = [](int64_t first) {
    std::vector<int64_t> sizes(70, 2);
    sizes[0] = first;
    sizes[1] = 4 - first;
    return sizes;
  };
  Target target = build_target(module_with(
      {Type::tensor(DType::f32, Shape{140}), Type::tensor(DType::f32, Shape{140})}, [&](GraphBuilder& b, const Ids& x) {
        Ids out;
        for (int64_t k = 0; k < 2; ++k) {
          const std::vector<int64_t> sizes = parts(k + 1);
          out.push_back(b.add(op_named("Split"), {}, {x[static_cast<size_t>(k)], b.integers(sizes)}, 70)[69]);
          out.back() = b.op("Neg", {out.back()});
        }
        return out;
      }));
  const Target* one = &target;
  auto bytes = std::make_shared<std::vector<std::byte>>(save_engine(std::span(&one, 1)));
  Context context(std::make_shared<const Engine>(load_engine(*bytes, bytes, {.threads = 1})), 1);
  const Tensor data = counting({140});
  for (size_t i = 0; i < 2; ++i) context.set_input(i, data.dims(), data.data(), 560);
  context.run();
  for (size_t o = 0; o < 2; ++o) EXPECT_EQ(context.output(o).tensor.get_real(0), -138);
}

TEST(Verify, TypesAndExtentsHaveLimits) {
  std::string nested;
  for (int i = 0; i < 100000; ++i) nested += "seq(";
  Scanner scanner(nested);
  SymbolTable symbols;
  EXPECT_THROW(parse_type(scanner, symbols, true), Error);
  // Shared parts: small to write down, endless to go through.
  const Dim n = Dim::symbol(symbols.add({.name = "n"}));
  Dim d = n;
  EXPECT_THROW(for (int i = 0; i < 64; ++i) d = max(d, floordiv(d, Dim(2))), Error);
  Dim product = 1;
  EXPECT_THROW(
      for (int i = 0; i < 64; ++i) {
        const Dim a = Dim::symbol(symbols.add({.name = "a" + std::to_string(i)}));
        product = product * (a + n);
      },
      Error);
}

}  // namespace
}  // namespace sinter
