// Gradients beside differences: every rule in f64, with open extents, and once more for gradients of gradients.

#include "wiring/gradient.h"

#include <gtest/gtest.h>

#include <cmath>

#include "ir/evaluate.h"
#include "ir/text.h"
#include "op_testing.h"
#include "ops/families.h"
#include "ops/shape.h"
#include "wiring/wiring.h"

namespace sinter {
namespace {

using namespace sinter::testing;

Tensor numbers(Dims dims, double low = -1, double high = 1, uint64_t seed = 1) {
  Tensor t(DType::f64, std::move(dims));
  uint64_t state = seed * 0x9e3779b97f4a7c15u;
  for (int64_t i = 0; i < t.count(); ++i) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    t.set_real(i, low + (high - low) * static_cast<double>(state >> 11) * 0x1p-53);
  }
  return t;
}

// The sum of v's elements, each with a weight of its own.
ValueId weighed(GraphBuilder& b, ValueId v, double phase) {
  const ValueId count = b.op("Size", {v});
  const ValueId at = wiring::cast(b, wiring::iota(b, count), DType::f64);
  const ValueId weights = b.op("Cos", {wiring::add(b, at, b.scalar(DType::f64, phase))});
  const ValueId flat = b.op("Reshape", {v, b.integers({-1})});
  return wiring::reduce(b, "Sum", wiring::mul(b, flat, weights), {0}, false);
}

Ids floats_of(const Graph& graph, const Ids& values) {
  Ids out;
  for (ValueId v : values)
    if (graph[v].type.is_tensor() && graph[v].type.dtype == DType::f64) out.push_back(v);
  return out;
}

std::vector<Box> boxes_of(const std::vector<Tensor>& inputs) { return {inputs.begin(), inputs.end()}; }

// Compares the gradient of `loss` with differences of it; the module's results become the gradients.
void compare(Module& module, ValueId loss, const std::vector<Tensor>& inputs, const std::string& what) {
  Graph& graph = *module.main;
  const Ids xs = floats_of(graph, graph.inputs);
  GraphBuilder b(module, graph);
  graph.outputs = wiring::gradients(b, loss, xs);
  for (size_t k = 0; k < xs.size(); ++k)
    EXPECT_TRUE(b.type(graph.outputs[k]) == b.type(xs[k]))
        << what << ": " << to_text(b.type(graph.outputs[k]), module.symbols);
  const std::vector<Box> gradients = Evaluation(module, boxes_of(inputs)).outputs();
  constexpr double step = 1e-5;
  size_t k = 0;
  for (size_t i = 0; i < inputs.size(); ++i) {
    if (inputs[i].dtype() != DType::f64) continue;
    const Tensor& gradient = gradients[k++].tensor;
    ASSERT_EQ(gradient.dims(), inputs[i].dims()) << what;
    for (int64_t e = 0; e < inputs[i].count(); ++e) {
      double ends[2];
      for (int side = 0; side < 2; ++side) {
        std::vector<Tensor> moved = inputs;
        moved[i] = inputs[i].clone();
        moved[i].set_real(e, inputs[i].get_real(e) + (side ? step : -step));
        // A loss that is a constant by now is no node's result.
        const Tensor* known = graph.constant(loss);
        ends[side] = (known ? *known : Evaluation(module, boxes_of(moved)).value(loss).tensor).get_real(0);
      }
      const double expected = (ends[1] - ends[0]) / (2 * step), got = gradient.get_real(e);
      EXPECT_NEAR(got, expected, 1e-6 * std::fmax(1, std::fabs(expected)))
          << what << "\ninput " << i << ", element " << e;
    }
  }
}

void check_module(Module module, const std::vector<Tensor>& inputs, const std::string& what, bool twice = true) {
  Graph& graph = *module.main;
  GraphBuilder b(module, graph);
  const auto loss_of = [&](const Ids& results, double phase) {
    ValueId loss = no_id;
    for (ValueId y : results) {
      const ValueId part = weighed(b, y, phase + static_cast<double>(y % 7));
      loss = loss == no_id ? part : wiring::add(b, loss, part);
    }
    return loss;
  };
  compare(module, loss_of(floats_of(graph, graph.outputs), 0.3), inputs, what);
  if (twice) compare(module, loss_of(graph.outputs, 0.7), inputs, what + "\n(second order)");
}

void check(const std::string& text, const std::vector<Tensor>& inputs, bool twice = true) {
  check_module(parse_module(text), inputs, text, twice);
}

// One operator of an operand x[2, 3] and, for two, y[3]; extents open.
void check_row(const Op& op, double low, double high) {
  Module module;
  GraphBuilder b(module, *module.main);
  const auto symbol = [&](const char* name) { return Dim::symbol(module.symbols.add({.name = name})); };
  const Dim n = symbol("N"), m = symbol("M");
  Ids operands = {b.input(Type::tensor(DType::f64, Shape{n, m}))};
  std::vector<Tensor> inputs = {numbers({2, 3}, low, high)};
  if (op.inputs.low == 2) {
    operands.push_back(b.input(Type::tensor(DType::f64, Shape{m})));
    inputs.push_back(numbers({3}, low, high, 7));
  }
  module.main->outputs = {b.op(op.name, Attrs(), operands)};
  check_module(std::move(module), inputs, op.name);
}

TEST(Gradient, PointwiseOperatorsFromTheirExpressions) {
  int checked = 0;
  for (const Op& op : pointwise_ops()) {
    const std::string_view name = op.name;
    if (op.result != ResultType::like_x || name.starts_with("Bit") || name.starts_with("Shift")) continue;
    if (name == "Acosh") {
      check_row(op, 1.2, 3);
    } else {
      check_row(op, 0.15, 0.85);
      const bool positive = name == "Sqrt" || name == "Log" || name == "Pow";
      if (!positive) check_row(op, -0.85, -0.15);
    }
    ++checked;
  }
  EXPECT_GE(checked, 45);
}

TEST(Gradient, Pointwise) {
  check("graph(%c : bool[N, 1], %x : f64[N, 3], %y : f64[3]) -> (%z) {\n %z = Where(%c, %x, %y)\n}",
        {integers({2, 1}, {1, 0}, DType::boolean), numbers({2, 3}), numbers({3})});
  check("graph(%x : f64[N]) -> (%y) {\n %y = Clip{low=-0.5, high=0.5}(%x)\n}", {numbers({6})});
  check("graph(%x : f64[N]) -> (%y) {\n %y = Mod{fmod=true}(%x, f64[](0.4))\n}", {numbers({6})});
  for (const char* exponent : {"0", "1", "2", "3", "-1.5"})
    check(std::string("graph(%x : f64[N]) -> (%y) {\n %y = Pow(%x, f64[](") + exponent + "))\n}",
          {numbers({4}, 0.5, 2)});
  check("graph(%x : f64[N]) -> (%y) {\n %a = Mul(%x, %x)\n %b = Exp(%a)\n %c = Add(%a, %b)\n %y = Mul(%c, %x)\n}",
        {numbers({4})});
}

// Where there are corners: halves for what is equal, 0 for Relu at 0; never a number that is none.
TEST(Gradient, Corners) {
  const auto slope = [](const std::string& op, const std::vector<double>& at) {
    Module module = parse_module("graph(%x : f64[N]) -> (%y) {\n %y = " + op + "\n}");
    GraphBuilder b(module, *module.main);
    module.main->outputs = wiring::gradients(b, module.main->outputs[0], {module.main->inputs[0]});
    Tensor x(DType::f64, {static_cast<int64_t>(at.size())});
    for (size_t i = 0; i < at.size(); ++i) x.set_real(static_cast<int64_t>(i), at[i]);
    return Evaluation(module, boxes_of({x})).outputs()[0].tensor.to_reals();
  };
  using V = std::vector<double>;
  EXPECT_EQ(slope("Relu(%x)", {-1, 0, 2}), (V{0, 0, 1}));
  EXPECT_EQ(slope("Max(%x, f64[](1))", {0, 1, 2}), (V{0, 0.5, 1}));
  EXPECT_EQ(slope("Min(%x, f64[](1))", {0, 1, 2}), (V{1, 0.5, 0}));
  EXPECT_EQ(slope("Clip{low=0, high=1}(%x)", {-1, 0, 1, 2}), (V{0, 1, 1, 0}));
  EXPECT_EQ(slope("Abs(%x)", {-2, 0, 2}), (V{-1, 0, 1}));
  EXPECT_EQ(slope("Softplus(%x)", {0, 800, -800}), (V{0.5, 1, 0}));
  EXPECT_EQ(slope("Elu(%x)", {800, 0, -800}), (V{1, 1, 0}));
  EXPECT_EQ(slope("Selu{alpha=2, gamma=3}(%x)", {800, -800}), (V{3, 0}));
  EXPECT_EQ(slope("Floor(%x)", {0.5, 2}), (V{0, 0}));
  EXPECT_EQ(slope("ReduceMax{keep_dims=false}(%x)", {1, 3, 3}), (V{0, 0.5, 0.5}));
  EXPECT_EQ(slope("ReduceProd{keep_dims=false}(%x)", {2, 0, 3}), (V{0, 6, 0}));
  EXPECT_EQ(slope("ReduceProd{keep_dims=false}(%x)", {2, 0, 0}), (V{0, 0, 0}));
  EXPECT_EQ(slope("Pow(%x, f64[](0))", {0, 1}), (V{0, 0}));
}

TEST(Gradient, BroadcastingOfOpenExtents) {
  // Which operand was broadcast is known only when extents are: [A, B] with [C, D].
  const std::string text = "graph(%x : f64[A, B], %y : f64[C, D]) -> (%z) {\n %z = Mul(%x, %y)\n}";
  check(text, {numbers({2, 3}), numbers({2, 3}, -1, 1, 3)});
  check(text, {numbers({1, 3}), numbers({2, 1}, -1, 1, 3)});
  check(text, {numbers({2, 1}), numbers({2, 3}, -1, 1, 3)});
  check(text, {numbers({1, 1}), numbers({1, 3}, -1, 1, 3)}, false);
  check(text, {numbers({0, 3}), numbers({1, 3}, -1, 1, 3)}, false);
  check("graph(%x : f64[A], %y : f64[2, 1, D]) -> (%z) {\n %z = Add(%x, %y)\n}", {numbers({1}), numbers({2, 1, 3})});
  check("graph(%x : f64[], %y : f64[2, 2]) -> (%z) {\n %z = Div(%y, %x)\n}", {numbers({}, 1, 2), numbers({2, 2})});
}

TEST(Gradient, Reductions) {
  for (const char* op : {"ReduceSum", "ReduceMean", "ReduceMax", "ReduceMin", "ReduceProd"})
    for (const char* rest : {"(%x)", "(%x, [1])", "{keep_dims=false}(%x, [0, -1])", "{keep_without_axes=true}(%x)"})
      check(std::string("graph(%x : f64[N, 3, M]) -> (%y) {\n %y = ") + op + rest + "\n}", {numbers({2, 3, 2})},
            std::string_view(op) != "ReduceProd");
  check("graph(%x : f64[N, 3], %a : i64[1]) -> (%y) {\n %y = ReduceSum{keep_dims=false}(%x, %a)\n}",
        {numbers({2, 3}), list({1})});
  for (const char* attributes : {"", "{exclusive=true}", "{reverse=true}", "{exclusive=true, reverse=true}"})
    check(std::string("graph(%x : f64[N, 4]) -> (%y) {\n %y = CumSum") + attributes + "(%x, i64[](1))\n}",
          {numbers({2, 4})});
}

TEST(Gradient, Shapes) {
  check(
      "graph(%x : f64[N, 6]) -> (%y) {\n %a = Reshape(%x, [-1, 3])\n %b = Unsqueeze(%a, [1])\n"
      " %c = Squeeze(%b, [1])\n %d = Flatten{axis=0}(%c)\n %y = Identity(%d)\n}",
      {numbers({2, 6})});
  check("graph(%x : f64[N, 2, 3]) -> (%y) {\n %a = Transpose{perm=[2, 0, 1]}(%x)\n %y = Transpose(%a)\n}",
        {numbers({2, 2, 3})});
  check("graph(%x : f64[N, 1], %s : i64[3]) -> (%y) {\n %y = Expand(%x, %s)\n}", {numbers({2, 1}), list({3, 2, 2})});
  check("graph(%x : f64[N, 2], %z : f64[N, M]) -> (%y) {\n %y = Concat{axis=-1}(%x, %z, %x)\n}",
        {numbers({2, 2}), numbers({2, 3})});
  check("graph(%x : f64[N, 5]) -> (%a, %c) {\n %a, %b, %c = Split{axis=1}(%x, [1, 2, 2])\n}", {numbers({2, 5})});
  check(
      "graph(%x : f64[N, M], %e : i64[1]) -> (%y) {\n %a = Slice(%x, [-1], [-100], [1], [-2])\n"
      " %y = Slice(%a, [0], %e, [0])\n}",
      {numbers({3, 5}), list({2})});
  check("graph(%x : f64[N, 2]) -> (%y) {\n %y = Tile(%x, [2, 3])\n}", {numbers({2, 2})});
  for (const char* mode : {"constant", "reflect", "edge", "wrap"})
    check(std::string("graph(%x : f64[N, 4]) -> (%y) {\n %y = Pad{mode=") + mode + "}(%x, [1, 2, 0, -1])\n}",
          {numbers({3, 4})});
  check("graph(%x : f64[N], %v : f64[]) -> (%y) {\n %y = Pad(%x, [1, 2], %v)\n}", {numbers({3}), numbers({})});
  for (const char* upper : {"true", "false"})
    check(std::string("graph(%x : f64[N, 3]) -> (%y) {\n %y = Trilu{upper=") + upper + "}(%x, i64[](1))\n}",
          {numbers({3, 3})});
  check("graph(%x : f64[4, N]) -> (%y) {\n %y = ReverseSequence(%x, [3, 1])\n}", {numbers({4, 2})});
  check("graph(%x : f64[N]) -> (%y) {\n %a = Shape(%x)\n %b = Cast{to=f64}(%a)\n %y = Mul(%x, %b)\n}", {numbers({3})});
  check("graph(%x : f64[N, 2]) -> (%y) {\n %e = EyeLike{dtype=f64}(%x)\n %y = Mul(%x, %e)\n}", {numbers({2, 2})});
}

TEST(Gradient, Indexing) {
  const Tensor twice = integers({2, 2}, {0, -1, 0, 2});
  check("graph(%x : f64[N, 2], %i : i64[2, 2]) -> (%y) {\n %y = Gather(%x, %i)\n}", {numbers({3, 2}), twice});
  check("graph(%x : f64[2, N], %i : i64[2, 2]) -> (%y) {\n %y = GatherElements{axis=1}(%x, %i)\n}",
        {numbers({2, 3}), twice});
  check("graph(%x : f64[3, N], %i : i64[2, 2]) -> (%y) {\n %y = GatherND(%x, %i)\n}", {numbers({3, 3}), twice});
  check("graph(%x : f64[N], %c : bool[N]) -> (%y) {\n %y = Compress{axis=0}(%x, %c)\n}",
        {numbers({3}), integers({3}, {1, 0, 1}, DType::boolean)});
  const Tensor apart = integers({2, 2}, {0, 1, 2, 0});
  for (const char* reduction : {"none", "add"}) {
    const std::string attributes = std::string("{axis=1, reduction=") + reduction + "}";
    check("graph(%x : f64[2, N], %i : i64[2, 2], %u : f64[2, 2]) -> (%y) {\n %y = ScatterElements" + attributes +
              "(%x, %i, %u)\n}",
          {numbers({2, 3}), apart, numbers({2, 2}, -1, 1, 5)});
    check(std::string("graph(%x : f64[3, N], %i : i64[2, 2], %u : f64[2]) -> (%y) {\n %y = ScatterND{reduction=") +
              reduction + "}(%x, %i, %u)\n}",
          {numbers({3, 3}), apart, numbers({2}, -1, 1, 5)});
  }
  check("graph(%x : f64[2, 4, N], %u : f64[2, 2, N], %s : i64[2]) -> (%y) {\n %y = PutRows{axis=1}(%x, %u, %s)\n}",
        {numbers({2, 4, 3}), numbers({2, 2, 3}, -1, 1, 5), list({2, 0})});
  check("graph(%x : f64[3, N], %u : f64[4, N], %s : i64[]) -> (%y) {\n %y = PutRows{circular=true}(%x, %u, %s)\n}",
        {numbers({3, 2}), numbers({4, 2}, -1, 1, 5), Tensor::scalar_i64(2)});
  check("graph(%x : f64[N, 4]) -> (%v) {\n %v, %i = TopK(%x, [2])\n}", {numbers({2, 4})});
}

TEST(Gradient, Matrices) {
  const auto product = [](const char* x, const char* w, const char* attributes, Dims dx, Dims dw) {
    check(
        std::string("graph(%x : f64") + x + ", %w : f64" + w + ") -> (%y) {\n %y = MatMul" + attributes + "(%x, %w)\n}",
        {numbers(std::move(dx)), numbers(std::move(dw), -1, 1, 9)});
  };
  product("[N, K]", "[K, M]", "", {2, 3}, {3, 2});
  product("[B, N, K]", "[K, M]", "", {2, 2, 3}, {3, 2});
  product("[B, 1, N, 3]", "[C, 3, M]", "", {2, 1, 2, 3}, {2, 3, 2});
  product("[A, N, 3]", "[B, 3, 2]", "", {1, 2, 3}, {2, 3, 2});
  product("[N, K]", "[M, K]", "{transpose_b=true}", {2, 3}, {4, 3});
  product("[2, N, 3]", "[B, 2, 3]", "{transpose_b=true}", {2, 2, 3}, {1, 2, 3});
  product("[K]", "[K, M]", "", {3}, {3, 2});
  product("[B, N, K]", "[K]", "", {2, 2, 3}, {3});
  product("[K]", "[K]", "", {3}, {3});
  product("[K]", "[B, K, M]", "", {3}, {2, 3, 2});
  for (const char* equation : {"ab,bc->ac", "ij, jk", "bij,bkj->bik", "ab->b", "ab,c->a", "a,a,b->b", "ab,ab->"}) {
    const std::string text = equation;
    std::string operands, names;
    std::vector<Tensor> inputs;
    std::string term;
    for (const char c : text.substr(0, text.find("->")) + ",") {
      if (c == ' ') continue;
      if (c != ',') {
        term += c;
        continue;
      }
      Dims dims;
      std::string shape;
      for (const char letter : term) {
        dims.push_back(2 + (letter % 2));
        shape += std::string(shape.empty() ? "" : ", ") + static_cast<char>(letter - 'a' + 'A');
      }
      const std::string name = "%x" + std::to_string(inputs.size());
      operands += (inputs.empty() ? "" : ", ") + name + " : f64[" + shape + "]";
      names += (inputs.empty() ? "" : ", ") + name;
      inputs.push_back(numbers(dims, -1, 1, inputs.size() + 2));
      term.clear();
    }
    check("graph(" + operands + ") -> (%y) {\n %y = Einsum{equation=\"" + text + "\"}(" + names + ")\n}", inputs);
  }
  Tensor matrix = numbers({2, 2, 2});
  for (const int64_t i : {0, 3, 4, 7}) matrix.set_real(i, matrix.get_real(i) + 3);
  check("graph(%x : f64[N, 2, 2]) -> (%y, %d) {\n %y = Inverse(%x)\n %d = Det(%x)\n}", {matrix});
}

TEST(Gradient, Convolutions) {
  struct Form {
    const char *x, *w, *attributes;
    Dims dx, dw;
  };
  const Form forward[] = {
      {"[N, C, H, W]", "[M, C, 3, 3]", "{pads=[1, 1, 1, 1]}", {2, 2, 4, 3}, {2, 2, 3, 3}},
      {"[N, 4, H, W]", "[4, 2, 2, 2]", "{group=2, strides=[2, 1]}", {2, 4, 5, 3}, {4, 2, 2, 2}},
      {"[N, 2, L]", "[2, 1, 2]", "{group=2, strides=[3], dilations=[2], pads=[1, 2]}", {1, 2, 7}, {2, 1, 2}},
      {"[1, 1, 5, 4]", "[1, 1, 3, 2]", "{auto_pad=same_upper, strides=[2, 2]}", {1, 1, 5, 4}, {1, 1, 3, 2}},
      {"[1, 1, L]", "[1, 1, 3]", "{auto_pad=valid}", {1, 1, 5}, {1, 1, 3}},
  };
  for (const Form& f : forward)
    check(std::string("graph(%x : f64") + f.x + ", %w : f64" + f.w + ", %b : f64[M]) -> (%y) {\n %y = Conv" +
              f.attributes + "(%x, %w, %b)\n}",
          {numbers(f.dx), numbers(f.dw, -1, 1, 3), numbers({f.dw[0]}, -1, 1, 4)});
  const Form backward[] = {
      {"[N, C, H, W]", "[C, M, 3, 2]", "{pads=[1, 0, 0, 1]}", {2, 2, 3, 3}, {2, 2, 3, 2}},
      {"[N, 4, L]", "[4, 2, 3]", "{group=2, strides=[2], output_padding=[1]}", {2, 4, 3}, {4, 2, 3}},
      {"[N, 1, L]", "[1, 1, 2]", "{strides=[2], dilations=[2], pads=[1, 1]}", {1, 1, 4}, {1, 1, 2}},
  };
  for (const Form& f : backward)
    check(std::string("graph(%x : f64") + f.x + ", %w : f64" + f.w + ", %b : f64[B]) -> (%y) {\n %y = ConvTranspose" +
              f.attributes + "(%x, %w, %b)\n}",
          {numbers(f.dx), numbers(f.dw, -1, 1, 3),
           numbers({f.dw[1] * (std::string_view(f.attributes).starts_with("{group=2") ? 2 : 1)}, -1, 1, 4)});
}

TEST(Gradient, Pooling) {
  for (const char* attributes :
       {"{kernel=[2, 2]}", "{kernel=[3, 2], strides=[2, 1], pads=[1, 0, 1, 1]}", "{kernel=[2, 2], dilations=[2, 1]}"}) {
    const std::string x = "graph(%x : f64[N, 2, H, W]) -> (%y) {\n %y = ";
    check(x + "MaxPool" + attributes + "(%x)\n}", {numbers({2, 2, 4, 3})});
    check(x + "AveragePool" + attributes + "(%x)\n}", {numbers({2, 2, 4, 3})});
  }
  check("graph(%x : f64[1, 1, L]) -> (%y) {\n %y = AveragePool{kernel=[3], pads=[1, 1], count_pads=true}(%x)\n}",
        {numbers({1, 1, 4})});
  check("graph(%x : f64[1, 2, 5]) -> (%y) {\n %y = AveragePool{kernel=[3], auto_pad=same_lower, strides=[2]}(%x)\n}",
        {numbers({1, 2, 5})});
}

TEST(Gradient, Resampling) {
  for (const char* mode : {"nearest", "linear", "cubic"}) {
    const std::string x = std::string("graph(%x : f64[N, 2, H, W]) -> (%y) {\n %y = Resize{mode=") + mode;
    check(x + "}(%x, _, f32[4](1, 1, 2, 1.5))\n}", {numbers({1, 2, 2, 3})});
    check(x + ", axes=[3, 2], coordinates=align_corners}(%x, _, _, [2, 5])\n}", {numbers({1, 2, 3, 3})});
  }
  check("graph(%x : f64[N, L]) -> (%y) {\n %y = Resize{mode=linear, antialias=true, axes=[1]}(%x, _, f32[1](0.6))\n}",
        {numbers({2, 7})});
}

TEST(Gradient, Branches) {
  const std::string text =
      "graph(%c : bool[], %x : f64[N], %w : f64[]) -> (%y) {\n %y = If(%c, %x, %w)\n"
      " graph(%p : f64[N], %q : f64[]) -> (%r) {\n %s = Mul(%p, %q)\n %r = Exp(%s)\n }\n"
      " graph(%p : f64[N], %q : f64[]) -> (%r) {\n %r = Concat(%p, %p)\n }\n}";
  for (const int64_t taken : {1, 0})
    check(text, {integers({}, {taken}, DType::boolean), numbers({3}), numbers({}, 0.5, 1)});
}

TEST(Gradient, ComposedLayers) {
  for (const char* layer : {"softmax", "log_softmax", "layer_norm", "gelu"}) {
    Module module;
    GraphBuilder b(module, *module.main);
    const Dim n = Dim::symbol(module.symbols.add({.name = "N"}));
    const ValueId x = b.input(Type::tensor(DType::f64, Shape{n, Dim(4)}));
    const std::string_view name = layer;
    ValueId y = no_id;
    if (name == "softmax") y = wiring::softmax(b, x, 1);
    if (name == "log_softmax") y = wiring::log_softmax(b, x, -1);
    if (name == "gelu") y = wiring::gelu(b, x, true);
    if (name == "layer_norm")
      y = wiring::layer_norm(b, x, b.constant(numbers({4}, 1, 2)), b.constant(numbers({4})), 1, 1e-5).y;
    module.main->outputs = {y};
    check_module(std::move(module), {numbers({3, 4})}, layer);
  }
}

TEST(Gradient, WhatHasNoRuleIsNamed) {
  const auto message = [](const std::string& text) -> std::string {
    Module module = parse_module(text);
    GraphBuilder b(module, *module.main);
    try {
      wiring::gradients(b, module.main->outputs[0], {module.main->inputs[0]});
    } catch (const Error& e) {
      EXPECT_EQ(e.code(), Code::unsupported);
      EXPECT_FALSE(e.origin().hint.empty());
      return e.message();
    }
    return "no error";
  };
  const auto has = [](const std::string& text, const char* part) {
    EXPECT_NE(text.find(part), std::string::npos) << text;
  };
  has(message("graph(%x : f32[1, 1, 4]) -> (%y) {\n %y = LpPool{kernel=[2]}(%x)\n}"), "LpPool has no rule");
  has(message("graph(%x : f32[N, N]) -> (%y) {\n %y = Einsum{equation=\"ii->i\"}(%x)\n}"), "Einsum has no rule");
  has(message("graph(%x : f32[4]) -> (%y) {\n %s = SequenceConstruct(%x)\n %y = SequenceAt(%s, i64[](0))\n}"),
      "SequenceAt");
  has(message("graph(%x : f32[1, 1, L]) -> (%y) {\n %y = AveragePool{kernel=[3], auto_pad=same_upper}(%x)\n}"),
      "pads automatically");
  // Off the way, anything may stand.
  EXPECT_EQ(message("graph(%x : f32[4], %z : f32[1, 1, 4]) -> (%y) {\n %a = LpPool{kernel=[2]}(%z)\n"
                    " %b = Floor(%x)\n %c = Cast{to=i32}(%x)\n %d = Cast{to=f32}(%c)\n %e = Add(%b, %d)\n"
                    " %f = ReduceSum{keep_dims=false}(%a)\n %y = Add(%e, %f)\n}"),
            "no error");
}

}  // namespace
}  // namespace sinter
