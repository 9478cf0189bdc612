// Networks of f16 and bf16: they run on the rows of their twins in f32, hold weights once, and give what the definition
// gives as near as their type tells.
#include <algorithm>
#include <cmath>
#include <set>

#include "backend/cpu/device.h"
#include "builder/problem_of.h"
#include "engines.h"
#include "ir/evaluate.h"
#include "ir/text.h"
#include "ops/contraction.h"
#include "ops/control.h"
#include "ops/movement.h"
#include "ops/pooling.h"
#include "ops/selection.h"
#include "tensor/convert.h"
#include "wiring/wiring.h"

namespace sinter {
namespace {

using namespace testing;

// Weights so small that sums keep the size of their operands.
ValueId weights(GraphBuilder& b, DType dtype, const Dims& dims, int64_t depth, uint64_t seed) {
  Tensor t = random_tensor(dims, seed);
  for (int64_t i = 0; i < t.count(); ++i)
    t.as_mutable<float>()[i] /= static_cast<float>(std::sqrt(static_cast<double>(depth)));
  return b.constant(cast(t, dtype));
}

ValueId conv(GraphBuilder& b, ValueId x, int64_t from, int64_t to, int64_t taps, uint64_t seed, int64_t group = 1) {
  const DType dtype = b.dtype(x);
  const int64_t depth = from / group * taps * taps;
  ConvAttrs attrs;
  attrs.pads.assign(4, taps / 2);
  attrs.group = group;
  return b.op(
      "Conv", attrs,
      {x, weights(b, dtype, {to, from / group, taps, taps}, depth, seed), weights(b, dtype, {to}, 1, seed + 100)});
}

// Convolutions around a residual, normalised; pooling, a classifier.
Module images(DType dtype) {
  return module_with({Type::tensor(dtype, Shape{2, 3, 24, 25})}, [&](GraphBuilder& b, const Ids& in) {
    const auto per_channel = [&](uint64_t seed) { return weights(b, dtype, {64}, 1, seed); };
    const ValueId ones = b.constant(cast(Tensor::scalar(DType::f32, 1), dtype));
    const ValueId first = b.op("Relu", {conv(b, in[0], 3, 64, 3, 2)});
    ValueId inner = conv(b, first, 64, 64, 3, 3);
    const ValueId variance = b.op("Add", {b.op("Abs", {per_channel(7)}), ones});
    inner = wiring::batch_norm(b, inner, per_channel(4), per_channel(5), per_channel(6), variance, 1e-5);
    const ValueId sum = b.op("Relu", {b.op("Add", {conv(b, b.op("Relu", {inner}), 64, 64, 1, 8), first})});
    MaxPoolAttrs pool;
    pool.kernel = pool.strides = {2, 2};
    const ValueId means = wiring::reduce(b, "Mean", b.op("MaxPool", pool, {sum}), {2, 3}, false);
    return Ids{wiring::softmax(b, wiring::matmul(b, means, weights(b, dtype, {64, 10}, 64, 9)), -1)};
  });
}

// A 1x1, a depthwise and a 1x1 convolution: one row makes all three.
Module chain(DType dtype) {
  return module_with({Type::tensor(dtype, Shape{1, 64, 28, 28})}, [&](GraphBuilder& b, const Ids& in) {
    const ValueId wide = b.op("Relu", {conv(b, in[0], 64, 384, 1, 2)});
    return Ids{conv(b, b.op("Relu", {conv(b, wide, 384, 384, 3, 3, 384)}), 384, 64, 1, 4)};
  });
}

// A layer of a transformer.
Module layer(DType dtype) {
  constexpr int64_t tokens = 40, width = 192, heads = 3;
  return module_with({Type::tensor(dtype, Shape{1, tokens, width})}, [&](GraphBuilder& b, const Ids& in) {
    uint64_t seed = 1;
    const auto linear = [&](ValueId x, int64_t from, int64_t to) {
      const ValueId product = wiring::matmul(b, x, weights(b, dtype, {from, to}, from, ++seed));
      return b.op("Add", {product, weights(b, dtype, {to}, 1, ++seed)});
    };
    const auto normal = [&](ValueId x) {
      const ValueId scale = weights(b, dtype, {width}, 1, ++seed), bias = weights(b, dtype, {width}, 1, ++seed);
      return wiring::layer_norm(b, x, scale, bias, -1, 1e-5).y;
    };
    const auto split = [&](ValueId x, std::vector<int64_t> perm) {
      return b.op("Transpose", TransposeAttrs{.perm = std::move(perm)},
                  {b.op("Reshape", {x, b.integers({1, tokens, heads, width / heads})})});
    };
    const ValueId x = normal(in[0]);
    const ValueId q = split(linear(x, width, width), {0, 2, 1, 3}), k = split(linear(x, width, width), {0, 2, 3, 1}),
                  v = split(linear(x, width, width), {0, 2, 1, 3});
    const ValueId factor = b.constant(cast(Tensor::scalar(DType::f32, 0.125), dtype));
    const ValueId scores = wiring::softmax(b, b.op("Mul", {wiring::matmul(b, q, k), factor}), -1);
    const ValueId mixed = b.op("Transpose", TransposeAttrs{.perm = {0, 2, 1, 3}}, {wiring::matmul(b, scores, v)});
    const ValueId joined = b.op("Reshape", {mixed, b.integers({1, tokens, width})});
    const ValueId sum = b.op("Add", {linear(joined, width, width), in[0]});
    const ValueId hidden = wiring::gelu(b, linear(normal(sum), width, 4 * width), false);
    return Ids{b.op("Add", {linear(hidden, 4 * width, width), sum})};
  });
}

Target built(Module module, bool bf16 = false) {
  BuildOptions options;
  options.threads = 1;
  options.passes.allow_bf16 = bf16;
  Target target = build(std::move(module), options).target;
  verify_target(target, this_machine(1));
  return target;
}

// The rows but for those that only move and convert.
std::set<std::string> rows(const Target& target) {
  std::set<std::string> out(target.kernels.begin(), target.kernels.end());
  for (const char* name : {"cpu/copy", "cpu/pointwise", "cpu/rows"}) out.erase(name);
  return out;
}

int64_t weight_bytes(const Target& target) {
  int64_t sum = 0;
  for (const Weight& w : target.weights) sum += w.bytes.bytes();
  return sum;
}

Tensor run(Target target, const Tensor& x) {
  Context context(std::make_shared<const Engine>(make_executable(std::move(target), this_machine(1))));
  context.set_input(0, x.dims(), x.data(), static_cast<size_t>(x.bytes()));
  context.run();
  const Binding binding = context.engine().target().bindings.back();
  Tensor y(binding.type.dtype, *constant_dims(*binding.type.shape));
  std::copy_n(static_cast<const std::byte*>(context.data(0)), y.bytes(), static_cast<std::byte*>(y.mutable_data()));
  return y;
}

// The largest difference as a part of the largest number.
double apart(const Tensor& a, const Tensor& b) {
  double worst = 0, largest = 0;
  for (int64_t i = 0; i < a.count(); ++i) {
    worst = std::max(worst, std::abs(a.get_real(i) - b.get_real(i)));
    largest = std::max(largest, std::abs(b.get_real(i)));
  }
  return worst / largest;
}

void expect_as_twin(Module (*network)(DType), DType dtype) {
  const Target wide = built(network(DType::f32)), made = built(network(dtype));
  EXPECT_EQ(rows(made), rows(wide));
  EXPECT_EQ(weight_bytes(made), weight_bytes(wide));
  for (const Binding& binding : made.bindings) EXPECT_EQ(binding.type.dtype, dtype);
  const Module module = network(dtype);
  const Dims dims = *constant_dims(*made.bindings[0].type.shape);
  const Tensor x = cast(random_tensor(dims, 9), dtype);
  const Tensor y = run(made, x), expected = Evaluation(module, std::vector<Box>{Box(x)}).outputs()[0].tensor;
  EXPECT_LT(apart(y, expected), dtype == DType::f16 ? 4e-3 : 3e-2);
}

TEST(Halves, ImagesRunAsInF32) {
  for (const DType dtype : {DType::f16, DType::bf16}) expect_as_twin(images, dtype);
}

TEST(Halves, ChainsRunAsInF32) {
  for (const DType dtype : {DType::f16, DType::bf16}) expect_as_twin(chain, dtype);
}

TEST(Halves, AttentionRunsAsInF32) {
  for (const DType dtype : {DType::f16, DType::bf16}) expect_as_twin(layer, dtype);
}

TEST(Halves, ValuesBetweenMayBeBf16) {
  if (this_machine(1).level < cpu::avx512_bf16) GTEST_SKIP() << "this machine multiplies f32, which stays f32";
  for (const DType dtype : {DType::f16, DType::bf16}) {
    const Target wide = built(layer(DType::f32), true), made = built(layer(dtype), true);
    EXPECT_EQ(rows(made), rows(wide));
    const auto narrow = [](const Target& target) {
      return std::count_if(target.main.slots.begin(), target.main.slots.end(), [](const Slot& slot) {
        return slot.type.dtype == DType::bf16 && slot.kind != SlotKind::binding;
      });
    };
    EXPECT_GE(narrow(made), narrow(wide));
    EXPECT_GT(narrow(wide), 0);
  }
}

// Beyond the largest f16 a value overflows where the network gives it away, and not on the way.
TEST(Halves, OverflowOnTheWay) {
  const auto network = [] {
    return module_with({Type::tensor(DType::f16, Shape{1, 2})}, [](GraphBuilder& b, const Ids& in) {
      Tensor ones(DType::f16, {2, 1});
      ones.set_real(0, 1);
      ones.set_real(1, 1);
      const ValueId sum = wiring::matmul(b, in[0], b.constant(ones));
      return Ids{sum, b.op("Mul", {sum, b.scalar(DType::f16, 0.25)})};
    });
  };
  Tensor x(DType::f16, {1, 2});
  x.set_real(0, 60000);
  x.set_real(1, 40000);
  Context context(std::make_shared<const Engine>(make_executable(built(network()), this_machine(1))));
  context.set_input(0, x.dims(), x.data(), static_cast<size_t>(x.bytes()));
  context.run();
  const auto value = [&](size_t output) {
    return decode_float(DType::f16, *static_cast<const uint16_t*>(context.data(output)));
  };
  EXPECT_EQ(value(0), INFINITY);
  EXPECT_EQ(value(1), 24992);  // the even one of the nearest to 100000 / 4
}

// Numbers that rounding makes equal: all who look for the largest one find the first.
TEST(Halves, TheLargestIsWhereRoundingLeavesIt) {
  const auto network = [] {
    return module_with({Type::tensor(DType::f16, Shape{1, 2})}, [](GraphBuilder& b, const Ids& in) {
      Tensor w(DType::f16, {2, 2});
      for (const auto& [i, value] : {std::pair(0, 2048), {1, 2048}, {2, 0}, {3, 1}}) w.set_real(i, value);
      const ValueId products = wiring::matmul(b, in[0], b.constant(w));
      const Ids top = b.add(op_named("TopK"), TopKAttrs{.axis = 1}, {products, b.integers({1})}, 2);
      return Ids{b.op("ArgMax", ArgAttrs{.axis = 1}, {products}), top[1], top[0]};
    });
  };
  Tensor x(DType::f16, {1, 2});
  x.set_real(0, 1);
  x.set_real(1, 1);
  Context context(std::make_shared<const Engine>(make_executable(built(network()), this_machine(1))));
  context.set_input(0, x.dims(), x.data(), static_cast<size_t>(x.bytes()));
  context.run();
  EXPECT_EQ(*static_cast<const int64_t*>(context.data(0)), 0);
  EXPECT_EQ(*static_cast<const int64_t*>(context.data(1)), 0);
  EXPECT_EQ(decode_float(DType::f16, *static_cast<const uint16_t*>(context.data(2))), 2048);
}

// Weights that a loop captures are widened and packed when the engine is built, not in every trip.
TEST(Halves, LoopsHoldWideWeights) {
  constexpr int64_t width = 64;
  const Type state = Type::tensor(DType::f16, Shape{3, width});
  const auto network = [&](DType dtype) {
    return module_with({Type::tensor(dtype, Shape{3, width})}, [&](GraphBuilder& b, const Ids& in) {
      const ValueId w = weights(b, dtype, {width, width}, width, 3), bias = weights(b, dtype, {width}, 1, 4);
      Graph body;
      GraphBuilder inner(b.module, body);
      inner.input(Type::tensor(DType::i64, Shape{}));
      const ValueId go = inner.input(Type::tensor(DType::boolean, Shape{}));
      const ValueId carried = inner.input(b.type(in[0]));
      const ValueId product = wiring::matmul(inner, carried, inner.input(b.type(w)));
      body.outputs = {go, inner.op("Tanh", {inner.op("Add", {product, inner.input(b.type(bias))})})};
      return b.add(op_named("Loop"), LoopAttrs{.carried = 1, .counted = true},
                   {b.constant(Tensor::scalar_i64(3)), no_id, in[0], w, bias}, 1, {std::move(body)});
    });
  };
  const Target wide = built(network(DType::f32)), made = built(network(DType::f16));
  EXPECT_EQ(rows(made), rows(wide));
  EXPECT_EQ(weight_bytes(made), weight_bytes(wide));
  ASSERT_EQ(made.main.bodies.size(), 1U);
  for (const Slot& slot : made.main.bodies[0].slots)
    if (slot.type.dtype == DType::f16) {
      EXPECT_EQ(slot.type, state) << "a weight is widened in every trip";
    }
  const Tensor x = cast(random_tensor({3, width}, 9), DType::f16);
  const Module module = network(DType::f16);
  EXPECT_LT(apart(run(made, x), Evaluation(module, std::vector<Box>{Box(x)}).outputs()[0].tensor), 4e-3);
}

// What is drawn from constants is no constant; an absent operand is known.
TEST(Halves, KnownValues) {
  Graph graph;
  const auto fragment = [&](const char* op, Ids operands) {
    Graph body;
    body.nodes.push_back({&op_named(op), {}, {}, {}, {}, {}});
    graph.values.push_back({Type::tensor(DType::f32, Shape{}), {}, static_cast<NodeId>(graph.nodes.size()), {}, {}});
    const auto made = static_cast<ValueId>(graph.values.size() - 1);
    graph.nodes.push_back({&op_named("Fragment"), {}, std::move(operands), {made}, {std::move(body)}, {}});
    return made;
  };
  graph.values.push_back({Type::tensor(DType::f32, Shape{}), Tensor::scalar(DType::f32, 1), no_id, {}, {}});
  graph.values.push_back({Type::tensor(DType::f32, Shape{}), {}, no_id, {}, {}});
  const ValueId drawn = fragment("Multinomial", {0}), from_drawn = fragment("Neg", {drawn}),
                computed = fragment("Neg", {0, no_id}), given = fragment("Add", {0, 1});
  const std::vector<bool> known = known_values(graph);
  EXPECT_FALSE(known[drawn]);
  EXPECT_FALSE(known[from_drawn]);
  EXPECT_TRUE(known[computed]);
  EXPECT_FALSE(known[given]);
}

}  // namespace
}  // namespace sinter
