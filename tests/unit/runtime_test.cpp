// Contexts: repeated runs, changing shapes, outputs whose extents depend on data, control flow, misuse.
#include <atomic>
#include <cstring>
#include <thread>

#include "counted_allocations.h"
#include "engines.h"
#include "ops/contraction.h"
#include "ops/control.h"
#include "ops/movement.h"
#include "wiring/wiring.h"

namespace sinter {
namespace {

using namespace testing;

// Convolution, activation, pooling, classifier and softmax over [N, 3, H, W].
Module small_network() {
  Module module;
  GraphBuilder b(module, *module.main);
  const Dim n = named(module, "N"), h = named(module, "H"), w = named(module, "W");
  const ValueId x = b.input(Type::tensor(DType::f32, Shape{n, 3, h, w}), "x");
  ConvAttrs attrs;
  attrs.pads = {1, 1, 1, 1};
  ValueId y = b.op("Conv", attrs, {x, b.constant(random_tensor({8, 3, 3, 3}, 2)), b.constant(random_tensor({8}, 3))});
  y = b.op("Relu", {y});
  attrs.group = 8;
  y = b.op("Conv", attrs, {y, b.constant(random_tensor({8, 1, 3, 3}, 4))});
  y = b.op("Swish", {y});
  y = wiring::reduce(b, "Mean", y, {2, 3}, false);
  y = wiring::matmul(b, y, b.constant(random_tensor({8, 10}, 5)));
  y = wiring::softmax(b, y, 1);
  module.main->outputs = {y};
  (*module.main)[y].name = "y";
  return module;
}

std::shared_ptr<const Engine> small_engine(int threads = 1) { return engine_of(small_network(), threads); }

void set(Context& context, size_t input, const Tensor& t) {
  context.set_input(input, t.dims(), t.data(), static_cast<size_t>(t.bytes()));
}

TEST(Runtime, RepeatedRunAllocatesNothing) {
#ifdef SINTER_SANITIZE
  GTEST_SKIP() << "the sanitizers bring their own operator new";
#endif
  for (const int threads : {1, 2}) {
    Context context(small_engine(threads), threads);
    const Tensor x = random_tensor({2, 3, 20, 30});
    set(context, 0, x);
    context.run();
    const int64_t memory = context.memory_bytes(), before = testing::allocations();
    for (int i = 0; i < 50; ++i) {
      set(context, 0, x);
      context.run();
    }
    EXPECT_EQ(testing::allocations(), before) << threads << " threads";
    EXPECT_EQ(context.memory_bytes(), memory);
  }
}

TEST(Runtime, TenThousandShapesLeaveMemoryFlat) {
  Context context(small_engine());
  std::mt19937_64 random(7);
  const Tensor largest = random_tensor({4, 3, 24, 24});
  set(context, 0, largest);
  context.run();
  const int64_t memory = context.memory_bytes();
  for (int i = 0; i < 10000; ++i) {
    const auto pick = [&](int64_t high) { return static_cast<int64_t>(random() % static_cast<uint64_t>(high)) + 1; };
    const Dims dims = {pick(4), 3, pick(24), pick(24)};
    context.set_input(0, dims, largest.data(), static_cast<size_t>(largest.bytes()));
    context.run();
    ASSERT_EQ(context.extents(0), (Dims{dims[0], 10}));
  }
  EXPECT_LE(context.memory_bytes(), memory);
}

TEST(Runtime, ThreadsDoNotChangeBits) {
  const auto engine = small_engine(2);
  const Tensor x = random_tensor({3, 3, 33, 29});
  Context one(engine, 1), two(engine, 2);
  set(one, 0, x);
  set(two, 0, x);
  one.run();
  two.run();
  EXPECT_TRUE(one.output(0).tensor.identical(two.output(0).tensor));
}

TEST(Runtime, EmptyBatch) {
  Context context(small_engine());
  const Tensor x(DType::f32, {0, 3, 8, 8});
  set(context, 0, x);
  context.run();
  EXPECT_EQ(context.extents(0), (Dims{0, 10}));
}

std::string message(const std::function<void()>& call) {
  try {
    call();
  } catch (const Error& e) {
    return e.what();
  }
  return "no error";
}

TEST(Runtime, MisuseIsNamed) {
  const auto engine = engine_of(small_network(), 1, {{"N", 1, 2, 4}});
  Context context(engine);
  const Tensor x = random_tensor({1, 3, 8, 8});
  const auto has = [](const std::string& text, const char* part) { return text.find(part) != std::string::npos; };
  EXPECT_PRED2(has, message([&] { context.run(); }), "'x' is not set");
  EXPECT_PRED2(has, message([&] { context.extents(0); }), "before a run");
  EXPECT_PRED2(has, message([&] { set(context, 5, x); }), "none numbered 5");
  EXPECT_PRED2(has, message([&] { set(context, 0, random_tensor({1, 4, 8, 8})); }), "axis 1: extent 4");
  EXPECT_PRED2(has, message([&] { set(context, 0, random_tensor({3, 8, 8})); }), "rank 3");
  EXPECT_PRED2(has, message([&] { context.set_input(0, x.dims(), x.data(), 10); }), "its buffer has 10");
  EXPECT_PRED2(has, message([&] { context.set_input(0, x.dims(), nullptr, 0); }), "its buffer has 0");
  EXPECT_PRED2(has, message([&] { context.set_input(0, Dims{1, 3, -8, 8}, x.data(), 9999); }), "extent");
  const Tensor many = random_tensor({5, 3, 8, 8});
  set(context, 0, many);
  EXPECT_PRED2(has, message([&] { context.run(); }), "outside the engine's bounds [1, 4]");
  set(context, 0, x);
  float small[4] = {7, 7, 7, 7};
  context.set_output(0, small, sizeof small);
  EXPECT_PRED2(has, message([&] { context.run(); }), "output 'y' needs 40 bytes, its buffer has 16");
  EXPECT_EQ(small[0], 7);
  context.set_output(0, nullptr, 0);
  context.run();  // usable again
  EXPECT_EQ(context.extents(0), (Dims{1, 10}));
}

TEST(Runtime, SecondCallerIsTurnedAway) {
  Context context(small_engine());
  const Tensor x = random_tensor({1, 3, 8, 8});
  set(context, 0, x);
  struct Probe : StepObserver {
    Context* context;
    std::string seen;
    void before(const Frame&, const Step&, uint32_t) override {
      seen = message([&] { context->run(); });
    }
  } probe;
  probe.context = &context;
  context.run(nullptr, &probe);
  EXPECT_NE(probe.seen.find("in use by another thread"), std::string::npos);
}

TEST(Runtime, ContextsShareAnEngineAndThePool) {
  const auto engine = small_engine(2);
  const Tensor x = random_tensor({2, 3, 16, 16});
  Context first(engine, 2);
  set(first, 0, x);
  first.run();
  const Tensor expected = first.output(0).tensor;
  std::atomic<int> wrong{0};
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t)
    threads.emplace_back([&] {
      Context context(engine, 2);
      for (int i = 0; i < 100; ++i) {
        set(context, 0, x);
        context.run();
        if (!context.output(0).tensor.identical(expected)) ++wrong;
      }
    });
  for (std::thread& t : threads) t.join();
  EXPECT_EQ(wrong, 0);
}

TEST(Runtime, CancelEndsARun) {
  Context context(small_engine());
  const Tensor x = random_tensor({1, 3, 8, 8});
  set(context, 0, x);
  Control control;
  control.cancelled = [](void*) { return true; };
  EXPECT_NE(message([&] { context.run(&control); }).find("cancelled"), std::string::npos);
  context.run();
}

// NonZero, the rows it names, and a product with them: extents known only by running, more than once in a plan.
Module selecting_network() {
  Module module;
  GraphBuilder b(module, *module.main);
  const Dim n = named(module, "N");
  const ValueId mask = b.input(Type::tensor(DType::f32, Shape{n}), "mask");
  const ValueId rows = b.input(Type::tensor(DType::f32, Shape{n, 6}), "rows");
  const ValueId where = wiring::reshape(b, b.op("NonZero", {mask}), {-1});
  const ValueId picked = b.op("Gather", {rows, where});
  const ValueId product = wiring::matmul(b, picked, b.constant(random_tensor({6, 5}, 9)));
  module.main->outputs = {b.op("Relu", {product}), b.op("Cast", {where})};
  for (size_t o = 0; o < 2; ++o) (*module.main)[module.main->outputs[o]].name = "y" + std::to_string(o);
  return module;
}

TEST(Runtime, ExtentsThatDependOnData) {
  Context context(engine_of(selecting_network()));
  const Tensor rows = random_tensor({40, 6}, 3);
  for (const int64_t count : {3, 0, 40, 1, 17}) {
    Tensor mask(DType::f32, {40});
    for (int64_t i = 0; i < count; ++i) mask.set_real(i * 40 / std::max<int64_t>(count, 1), 1.0);
    set(context, 0, mask);
    set(context, 1, rows);
    context.run();
    ASSERT_EQ(context.extents(0), (Dims{count, 5}));
    ASSERT_EQ(context.extents(1), (Dims{count}));
    const std::vector<Tensor> all = evaluate("MatMul", {}, {rows, random_tensor({6, 5}, 9)});
    const Tensor y = context.output(0).tensor;
    for (int64_t i = 0; i < count; ++i)
      for (int64_t j = 0; j < 5; ++j)
        ASSERT_NEAR(y.get_real(i * 5 + j), std::max(0.0, all[0].get_real(i * 40 / count * 5 + j)), 1e-4);
  }
}

TEST(Runtime, CallersBuffersAndAllocatorForSuchOutputs) {
  Context context(engine_of(selecting_network()));
  const Tensor rows = random_tensor({8, 6}, 3);
  Tensor mask(DType::f32, {8});
  for (int64_t i : {1, 4, 6}) mask.set_real(i, 2.0);
  set(context, 0, mask);
  set(context, 1, rows);
  std::vector<std::vector<std::byte>> given(2);
  struct User {
    std::vector<std::vector<std::byte>>* given;
    bool refuse = false;
  } user{&given};
  Context::Allocator allocator;
  allocator.user = &user;
  allocator.allocate = [](void* u, size_t output, DType, const Dims& extents, int64_t bytes) -> void* {
    User& self = *static_cast<User*>(u);
    if (self.refuse) return nullptr;
    EXPECT_EQ(extents[0], 3);
    (*self.given)[output].resize(static_cast<size_t>(bytes));
    return (*self.given)[output].data();
  };
  context.set_allocator(allocator);
  context.run();
  EXPECT_EQ(given[0].size(), 3u * 5 * 4);
  EXPECT_EQ(context.data(0), given[0].data());
  const Tensor y = context.output(0).tensor;
  EXPECT_EQ(0, std::memcmp(y.data(), given[0].data(), given[0].size()));
  std::vector<float> mine(15);
  context.set_output(0, mine.data(), mine.size() * sizeof(float));
  context.run();
  EXPECT_EQ(0, std::memcmp(y.data(), mine.data(), given[0].size()));
  context.set_output(0, mine.data(), 20);
  EXPECT_NE(message([&] { context.run(); }).find("needs 60 bytes"), std::string::npos);
  context.set_output(0, nullptr, 0);
  user.refuse = true;
  EXPECT_NE(message([&] { context.run(); }).find("allocator"), std::string::npos);
  user.refuse = false;
  context.run();
}

TEST(Runtime, IndicesOutOfRangeAreAFault) {
  Context context(engine_of(module_with({Type::tensor(DType::f32, Shape{5}), Type::tensor(DType::i64, Shape{2})},
                                        [](GraphBuilder& b, const Ids& in) {
                                          return Ids{b.op("Gather", {in[0], in[1]})};
                                        })));
  const Tensor x = random_tensor({5}), good = list({4, -5}), bad = list({0, 5});
  set(context, 0, x);
  set(context, 1, bad);
  EXPECT_NE(message([&] { context.run(); }).find("out of range"), std::string::npos);
  set(context, 1, good);
  context.run();
}

// Numbers below the normal ones: kept where products are strict, 0 where they may round; the caller's setting comes
// back.
TEST(Runtime, DenormalNumbers) {
  for (const Numerics numerics : {Numerics::strict, Numerics::tf32}) {
    MatMulAttrs attrs;
    attrs.numerics = numerics;
    Tensor factor(DType::f32, {});
    factor.as_mutable<float>()[0] = 0.5f;
    BuildOptions options;
    options.threads = 1;
    options.passes.allow_tf32 = numerics == Numerics::tf32;
    Module module = module_with({Type::tensor(DType::f32, Shape{2, 40})}, [&](GraphBuilder& b, const Ids& in) {
      const ValueId product = b.op("MatMul", attrs, {in[0], b.constant(random_tensor({40, 24}))});
      return Ids{product, b.op("Mul", {in[0], b.constant(factor)})};
    });
    const DeviceSpec device = this_machine(1);
    Context context(std::make_shared<const Engine>(make_executable(build(std::move(module), options).target, device)));
    Tensor x(DType::f32, {2, 40});
    x.as_mutable<float>()[0] = 1e-39f;
    set(context, 0, x);
    context.run();
    const float half = static_cast<const float*>(context.data(1))[0];
#if defined(__x86_64__)
    EXPECT_EQ(half, numerics == Numerics::strict ? 1e-39f * 0.5f : 0.0f);
#else
    EXPECT_LE(half, 1e-39f);
#endif
    volatile float tiny = 1e-39f;
    EXPECT_NE(tiny * 0.5f, 0.0f) << "the caller's arithmetic changed";
  }
}

// ---- control flow ----

// A loop that appends the iteration number to what it carries: the carried extent grows.
Module growing_loop(bool unsqueezed) {
  return module_with({Type::tensor(DType::i64, Shape{})}, [&](GraphBuilder& b, const Ids& in) {
    Graph body;
    GraphBuilder inner(b.module, body);
    const ValueId i = inner.input(Type::tensor(DType::i64, Shape{}));
    const ValueId on = inner.input(Type::tensor(DType::boolean, Shape{}));
    const Dim length = Dim::symbol(b.module.symbols.add({.name = "L", .bound = Symbol::Bound::body_parameter}));
    const ValueId list_in = inner.input(Type::tensor(DType::i64, unsqueezed ? std::optional<Shape>() : Shape{length}));
    const ValueId one = wiring::unsqueeze(inner, i, {0});
    const ValueId longer =
        unsqueezed ? inner.op("Unsqueeze", {list_in, inner.integers({0})}) : wiring::concat(inner, {list_in, one}, 0);
    body.outputs = {on, longer, one};
    LoopAttrs attrs;
    attrs.carried = 1;
    attrs.counted = true;
    attrs.stack_axes = {0};
    std::vector<Graph> bodies;
    bodies.push_back(std::move(body));
    const ValueId start = b.constant(Tensor::vector_i64(std::vector<int64_t>{-1}));
    return b.add(op_named("Loop"), attrs, {in[0], no_id, start}, 2, std::move(bodies));
  });
}

TEST(Runtime, LoopWhoseCarriedExtentGrows) {
  Context context(engine_of(growing_loop(false)));
  for (const int64_t trips : {3, 0, 1, 5, 5}) {
    const Tensor n = Tensor::scalar_i64(trips);
    set(context, 0, n);
    context.run();
    std::vector<int64_t> expected = {-1};
    for (int64_t i = 0; i < trips; ++i) expected.push_back(i);
    EXPECT_EQ(context.output(0).tensor.to_integers(), expected);
    EXPECT_EQ(context.output(1).tensor.dims(), (Dims{trips, 1}));
  }
}

TEST(Runtime, LoopWhoseCarriedRankGrows) {
  Context context(engine_of(growing_loop(true)));
  for (const int64_t trips : {0, 3}) {
    const Tensor n = Tensor::scalar_i64(trips);
    set(context, 0, n);
    context.run();
    EXPECT_EQ(context.output(0).tensor.rank(), static_cast<size_t>(1 + trips));
  }
}

// A body that doubles its value's extent around a loop over a value of that extent, which adds 1 or grows it too.
Module nested_loops(bool inner_grows) {
  return module_with({Type::tensor(DType::i64, Shape{})}, [&](GraphBuilder& b, const Ids& in) {
    const auto open = [&](const char* name) {
      return Dim::symbol(b.module.symbols.add({.name = name, .bound = Symbol::Bound::body_parameter}));
    };
    const auto body = [&](const Dim& extent, const std::function<ValueId(GraphBuilder&, ValueId)>& next) {
      std::vector<Graph> bodies(1);
      GraphBuilder inner(b.module, bodies[0]);
      inner.input(Type::tensor(DType::i64, Shape{}));
      const ValueId on = inner.input(Type::tensor(DType::boolean, Shape{}));
      const ValueId x = inner.input(Type::tensor(DType::i64, Shape{extent}));
      bodies[0].outputs = {on, next(inner, x)};
      return bodies;
    };
    LoopAttrs attrs;
    attrs.carried = 1;
    attrs.counted = true;
    const Dim outer = open("P");
    const Dim own = inner_grows ? open("Q") : outer;
    std::vector<Graph> bodies = body(outer, [&](GraphBuilder& around, ValueId x) {
      std::vector<Graph> inside = body(own, [&](GraphBuilder& g, ValueId y) {
        const ValueId more = g.op("Add", {y, g.constant(Tensor::scalar_i64(1))});
        return inner_grows ? wiring::concat(g, {more, g.integers({0})}, 0) : more;
      });
      const Ids made =
          around.add(op_named("Loop"), attrs, {around.constant(Tensor::scalar_i64(2)), no_id, x}, 1, std::move(inside));
      return wiring::concat(around, {made[0], x}, 0);
    });
    return b.add(op_named("Loop"), attrs, {in[0], no_id, b.integers({0})}, 1, std::move(bodies));
  });
}

TEST(Runtime, LoopInALoopOverAnExtentThatTheOuterOneChanges) {
  Context same(engine_of(nested_loops(false))), grows(engine_of(nested_loops(true)));
  const Tensor n = Tensor::scalar_i64(2);
  set(same, 0, n);
  same.run();
  EXPECT_EQ(same.output(0).tensor.to_integers(), (std::vector<int64_t>{4, 2, 2, 0}));
  set(grows, 0, n);
  grows.run();
  EXPECT_EQ(grows.output(0).tensor.to_integers(), (std::vector<int64_t>{4, 3, 2, 2, 1, 0, 2, 1, 0, 0}));
}

// A loop that does not run stacks slices of extent 0 where only running would tell, whatever an earlier run found.
// What a loop without turns stacks has the extents that its first turn would give, not those of an earlier run.
TEST(Runtime, LoopThatDoesNotRunForgetsExtents) {
  Context context(engine_of(module_with({Type::tensor(DType::i64, Shape{})}, [](GraphBuilder& b, const Ids& in) {
    const Dim given = Dim::symbol(b.module.symbols.add({.name = "G"}));
    const ValueId start = b.input(Type::tensor(DType::i64, Shape{given}), "start");
    std::vector<Graph> bodies(1);
    GraphBuilder inner(b.module, bodies[0]);
    inner.input(Type::tensor(DType::i64, Shape{}));
    const ValueId on = inner.input(Type::tensor(DType::boolean, Shape{}));
    const Dim length = Dim::symbol(b.module.symbols.add({.name = "L", .bound = Symbol::Bound::body_parameter}));
    const ValueId x = inner.input(Type::tensor(DType::i64, Shape{length}));
    bodies[0].outputs = {on, wiring::concat(inner, {x, x}, 0), x};
    LoopAttrs attrs;
    attrs.carried = 1;
    attrs.counted = true;
    attrs.stack_axes = {0};
    return b.add(op_named("Loop"), attrs, {in[0], no_id, start}, 2, std::move(bodies));
  })));
  for (const auto& [trips, length] : std::vector<std::pair<int64_t, int64_t>>{{0, 3}, {1, 3}, {0, 2}, {1, 1}, {0, 3}}) {
    const Tensor n = Tensor::scalar_i64(trips), start(DType::i64, {length});
    set(context, 0, n);
    set(context, 1, start);
    context.run();
    EXPECT_EQ(context.output(1).tensor.dims(), (Dims{trips, length}));
  }
}

TEST(Runtime, TenThousandIterationsOfATinyBody) {
  Context context(engine_of(module_with({Type::tensor(DType::i64, Shape{})}, [](GraphBuilder& b, const Ids& in) {
    Graph body;
    GraphBuilder inner(b.module, body);
    inner.input(Type::tensor(DType::i64, Shape{}));
    const ValueId on = inner.input(Type::tensor(DType::boolean, Shape{}));
    const ValueId x = inner.input(Type::tensor(DType::f32, Shape{4}));
    body.outputs = {on, wiring::add(inner, x, inner.scalar(DType::f32, 1))};
    LoopAttrs attrs;
    attrs.carried = 1;
    std::vector<Graph> bodies;
    bodies.push_back(std::move(body));
    return b.add(op_named("Loop"), attrs, {in[0], no_id, b.constant(random_tensor({4}))}, 1, std::move(bodies));
  })));
  const Tensor n = Tensor::scalar_i64(10000);
  set(context, 0, n);
  context.run();
  EXPECT_NEAR(context.output(0).tensor.get_real(0), 10000 + random_tensor({4}).get_real(0), 1);
}

// If whose branches give different extents, and one that only fails when it is taken.
TEST(Runtime, BranchesOfDifferentShape) {
  Context context(engine_of(module_with(
      {Type::tensor(DType::boolean, Shape{}), Type::tensor(DType::f32, Shape{6})}, [](GraphBuilder& b, const Ids& in) {
        std::vector<Graph> bodies(2);
        for (size_t k = 0; k < 2; ++k) {
          GraphBuilder inner(b.module, bodies[k]);
          const ValueId x = inner.input(Type::tensor(DType::f32, Shape{6}));
          bodies[k].outputs = {k == 0 ? wiring::slice(inner, x, 0, 0, 2) : wiring::concat(inner, {x, x}, 0)};
        }
        return b.add(op_named("If"), {}, {in[0], in[1]}, 1, std::move(bodies));
      })));
  const Tensor x = random_tensor({6});
  for (const bool taken : {true, false, true}) {
    Tensor condition(DType::boolean, {});
    condition.set_integer(0, taken);
    set(context, 0, condition);
    set(context, 1, x);
    context.run();
    EXPECT_EQ(context.extents(0), (Dims{taken ? 2 : 12}));
    EXPECT_EQ(context.output(0).tensor.get_real(1), x.get_real(1));
  }
}

// "Squeeze if the extent is one" and a convolution behind it: the continuation moves into the branches.
TEST(Runtime, ContinuationOfBranchesOfDifferentRank) {
  Module module;
  GraphBuilder b(module, *module.main);
  const Dim n = named(module, "N"), c = named(module, "C");
  const ValueId x = b.input(Type::tensor(DType::f32, Shape{n, c}), "x");
  const ValueId extent = wiring::slice(b, wiring::shape_of(b, x), 0, 1, 2);
  const ValueId is_one = b.op("Equal", {extent, b.integers({1})});
  std::vector<Graph> bodies(2);
  for (size_t k = 0; k < 2; ++k) {
    GraphBuilder inner(module, bodies[k]);
    const ValueId y = inner.input(Type::tensor(DType::f32, Shape{n, c}));
    bodies[k].outputs = {k == 0 ? inner.op("Squeeze", {y, inner.integers({1})}) : y};
  }
  const ValueId either = b.add(op_named("If"), {}, {is_one, x}, 1, std::move(bodies))[0];
  module.main->outputs = {b.op("Relu", {either})};
  Target target = build_target(std::move(module));
  // Inside the branches nothing runs by reference.
  for (const std::string& kernel : target.kernels) EXPECT_NE(kernel, "reference/any");
  const DeviceSpec device = this_machine(1);
  verify_target(target, device);
  Context context(std::make_shared<const Engine>(make_executable(std::move(target), device)));
  for (const int64_t width : {1, 3}) {
    const Tensor in = random_tensor({4, width});
    set(context, 0, in);
    context.run();
    EXPECT_EQ(context.extents(0), width == 1 ? Dims{4} : (Dims{4, 3}));
    EXPECT_EQ(context.output(0).tensor.get_real(2), std::max(0.0, in.get_real(2)));
  }
}

// What bodies make of weights that they capture is made when the engine is built, through any number of bodies.
TEST(Runtime, BodiesReadCapturedWeights) {
  constexpr int64_t size = 192;
  const Tensor low = random_tensor({size / 2, size}, 2), high = random_tensor({size / 2, size}, 3);
  const Type square = Type::tensor(DType::f32, Shape{size, size}), row = Type::tensor(DType::f32, Shape{1, size});
  Target target = build_target(module_with(
      {Type::tensor(DType::i64, Shape{}), Type::tensor(DType::boolean, Shape{}), row},
      [&](GraphBuilder& b, const Ids& in) {
        const ValueId weights = wiring::concat(b, {b.constant(low), b.constant(high)}, 0);  // too large to be folded
        Graph body;
        GraphBuilder inner(b.module, body);
        inner.input(Type::tensor(DType::i64, Shape{}));
        const ValueId on = inner.input(Type::tensor(DType::boolean, Shape{}));
        const ValueId x = inner.input(row), condition = inner.input(Type::tensor(DType::boolean, Shape{}));
        const ValueId captured = inner.input(square);
        std::vector<Graph> branches(2);
        for (size_t k = 0; k < 2; ++k) {
          GraphBuilder branch(b.module, branches[k]);
          const ValueId y = branch.input(row), w = branch.input(square);
          branches[k].outputs = {wiring::matmul(branch, y, w, k == 1)};
        }
        body.outputs = {on, inner.add(op_named("If"), {}, {condition, x, captured}, 1, std::move(branches))[0]};
        LoopAttrs attrs;
        attrs.carried = 1;
        std::vector<Graph> bodies;
        bodies.push_back(std::move(body));
        return b.add(op_named("Loop"), attrs, {in[0], no_id, in[2], in[1], weights}, 1, std::move(bodies));
      }));
  const Plan& body = target.main.bodies.at(0);
  EXPECT_EQ(body.parameters.size(), 4u);
  for (const Plan& branch : body.bodies) {
    EXPECT_EQ(branch.parameters.size(), 1u);
    EXPECT_EQ(branch.steps.size(), 1u) << "weights are packed in every run";
  }
  const DeviceSpec device = this_machine(1);
  verify_target(target, device);
  Context context(std::make_shared<const Engine>(make_executable(std::move(target), device)));
  const Tensor x = random_tensor({1, size}, 4), two = Tensor::scalar_i64(2);
  for (const bool plain : {true, false, true}) {
    Tensor condition(DType::boolean, {});
    condition.set_integer(0, plain);
    set(context, 0, two);
    set(context, 1, condition);
    set(context, 2, x);
    context.run();
    std::vector<double> now(static_cast<size_t>(size)), next(now.size());
    for (int64_t i = 0; i < size; ++i) now[static_cast<size_t>(i)] = x.get_real(i);
    for (int trip = 0; trip < 2; ++trip, now = next)
      for (int64_t n = 0; n < size; ++n) {
        double sum = 0;
        for (int64_t k = 0; k < size; ++k) {
          const int64_t at = plain ? k * size + n : n * size + k, half = low.count();
          sum += now[static_cast<size_t>(k)] * (at < half ? low.get_real(at) : high.get_real(at - half));
        }
        next[static_cast<size_t>(n)] = sum;
      }
    for (int64_t n = 0; n < size; ++n)
      EXPECT_NEAR(context.output(0).tensor.get_real(n), now[static_cast<size_t>(n)], 1e-2);
  }
}

// Pictures with their channels last in the model too: the Transposes around a convolution are views.
TEST(Runtime, TransposesBetweenLayoutsMoveNothing) {
  const Tensor weights = random_tensor({5, 4, 1, 1}, 2), x = random_tensor({2, 3, 6, 4}, 3);
  Target target = build_target(module_with({Type::tensor(DType::f32, Shape{2, 3, 6, 4})}, [&](auto& b, const Ids& in) {
    const ValueId first = wiring::transpose(b, in[0], {0, 3, 1, 2});
    const ValueId y = b.op("Conv", ConvAttrs(), {first, b.constant(weights)});
    // An extent of one may stand anywhere in between.
    const ValueId last = wiring::unsqueeze(b, wiring::transpose(b, y, {0, 2, 3, 1}), {1});
    return Ids{b.op("Relu", {wiring::transpose(b, last, {0, 2, 1, 3, 4})})};
  }));
  for (const std::string& kernel : target.kernels) EXPECT_NE(kernel, "cpu/copy");
  const DeviceSpec device = this_machine(1);
  verify_target(target, device);
  Context context(std::make_shared<const Engine>(make_executable(std::move(target), device)));
  set(context, 0, x);
  context.run();
  EXPECT_EQ(context.extents(0), (Dims{2, 3, 1, 6, 5}));
  for (int64_t pixel = 0; pixel < 2 * 3 * 6; ++pixel)
    for (int64_t m = 0; m < 5; ++m) {
      double sum = 0;
      for (int64_t k = 0; k < 4; ++k) sum += x.get_real(pixel * 4 + k) * weights.get_real(m * 4 + k);
      EXPECT_NEAR(context.output(0).tensor.get_real(pixel * 5 + m), std::max(0.0, sum), 1e-4);
    }
}

}  // namespace
}  // namespace sinter
