// The operator Gradient of the training domain: which part of a model it differentiates, and where.

#include <gtest/gtest.h>

#include <algorithm>

#include "api/compile.h"
#include "engines.h"
#include "frontends/onnx/import.h"
#include "ir/evaluate.h"
#include "ir/verify.h"
#include "onnx_writer.h"
#include "tune/compare.h"

namespace sinter::onnx {
namespace {

using namespace sinter::test;

Proto gradient(std::initializer_list<std::string_view> xs, std::string_view y, const std::vector<std::string>& inputs,
               const std::vector<std::string>& outputs, std::initializer_list<std::string_view> zs = {}) {
  std::vector<Proto> attributes = {attribute_strings("xs", xs), attribute_s("y", y)};
  if (zs.size() > 0) attributes.push_back(attribute_strings("zs", zs));
  return node("Gradient", inputs, outputs, attributes, training_domain);
}

Proto f32(std::string_view name, const std::vector<Extent>& dims = {}) { return value_info(name, onnx_f32, dims); }

Module imported(const GraphParts& parts) {
  Proto bytes = model(graph(parts));
  bytes.message(8, opset(1, training_domain));
  ModelSource source;
  source.bytes = as_bytes(bytes.bytes);
  Module module = import_model(source, {});
  verify(module);
  return module;
}

Tensor vector(const std::vector<double>& values) {
  Tensor t(DType::f32, {static_cast<int64_t>(values.size())});
  for (size_t i = 0; i < values.size(); ++i) t.set_real(static_cast<int64_t>(i), values[i]);
  return t;
}

using Values = std::vector<std::vector<double>>;

Values run(const GraphParts& parts, const std::vector<Box>& inputs) {
  const Module module = imported(parts);
  Values out;
  for (const Box& box : Evaluation(module, inputs).outputs()) out.push_back(box.tensor.to_reals());
  return out;
}

std::vector<Box> numbers(std::initializer_list<double> values) {
  std::vector<Box> out;
  for (double v : values) out.emplace_back(Tensor::scalar(DType::f32, v));
  return out;
}

Error error_of(const GraphParts& parts, Code code) {
  try {
    imported(parts);
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), code) << e.what();
    return e;
  }
  ADD_FAILURE() << "the model was accepted";
  return Error(Code::ok, "");
}

#define EXPECT_HAS(text, part) EXPECT_NE(std::string(text).find(part), std::string::npos) << (text)

// y = (a + b) * a, with what does not change held fixed or left out.
TEST(GradientOperator, OfSeveralVariables) {
  const std::vector<Proto> inputs = {f32("a"), f32("b")}, outputs = {f32("da"), f32("db")};
  const std::vector<Proto> nodes = {node("Add", {"a", "b"}, {"c"}), node("Mul", {"c", "a"}, {"y"})};
  GraphParts parts{nodes, {}, inputs, outputs};
  parts.nodes.push_back(gradient({"a", "b"}, "y", {"a", "b"}, {"da", "db"}));
  EXPECT_EQ(run(parts, numbers({3, 5})), (Values{{11}, {3}}));
  // Files need not be sorted.
  std::reverse(parts.nodes.begin(), parts.nodes.end());
  EXPECT_EQ(run(parts, numbers({3, 5})), (Values{{11}, {3}}));
  // Only one is wanted; the other is held fixed.
  parts.nodes = nodes;
  parts.outputs = {f32("db")};
  parts.nodes.push_back(gradient({"b"}, "y", {"b", "a"}, {"db"}, {"a"}));
  EXPECT_EQ(run(parts, numbers({3, 5})), (Values{{3}}));
  parts.nodes.back() = gradient({"a", "b"}, "y", {"a", "b"}, {"", "db"});
  EXPECT_EQ(run(parts, numbers({3, 5})), (Values{{3}}));
}

// dy/dh of y = h * a with h = a * a: h stands for itself, however a enters otherwise. And at another h.
TEST(GradientOperator, AtIntermediateAndOtherValues) {
  GraphParts parts{{node("Mul", {"a", "a"}, {"h"}), node("Mul", {"h", "h"}, {"s"}), node("Mul", {"s", "a"}, {"y"}),
                    gradient({"h"}, "y", {"h", "a"}, {"dh"}, {"a"})},
                   {},
                   {f32("a"), f32("other")},
                   {f32("dh")}};
  EXPECT_EQ(run(parts, numbers({3, 10})), (Values{{2 * 9 * 3}}));
  parts.nodes.back() = gradient({"h"}, "y", {"other", "a"}, {"dh"}, {"a"});
  EXPECT_EQ(run(parts, numbers({3, 10})), (Values{{2 * 10 * 3}}));
}

// y = a^3 * b.
TEST(GradientOperator, OfGradients) {
  const GraphParts parts{
      {node("Mul", {"a", "a"}, {"s"}), node("Mul", {"s", "a"}, {"t"}), node("Mul", {"t", "b"}, {"y"}),
       gradient({"a", "b"}, "y", {"a", "b"}, {"da", "db"}), gradient({"a", "b"}, "da", {"a", "b"}, {"daa", "dab"}),
       gradient({"a"}, "daa", {"a", "b"}, {"daaa"}, {"b"})},
      {},
      {f32("a"), f32("b")},
      {f32("da"), f32("daa"), f32("dab"), f32("daaa")}};
  EXPECT_EQ(run(parts, numbers({2, 5})), (Values{{60}, {60}, {12}, {30}}));
}

// Weights are constants, and what is made of constants alone is folded: the way from weights to y is there all the
// same.
TEST(GradientOperator, OfInitializers) {
  const GraphParts parts{
      {node("Mul", {"w", "w"}, {"v"}), node("Mul", {"v", "x"}, {"y"}), gradient({"w"}, "y", {"w", "x"}, {"dw"}, {"x"})},
      {tensor_f32("w", {2}, {3, 4})},
      {f32("x", {"N"})},
      {f32("dw", {2})}};
  EXPECT_EQ(run(parts, {Box(vector({10, 20}))}), (Values{{60, 160}}));
  EXPECT_EQ(run(parts, {Box(vector({10}))}), (Values{{60, 80}}));
}

TEST(GradientOperator, WithoutDependenceIsZero) {
  const GraphParts parts{
      {node("Floor", {"b"}, {"f"}), node("Neg", {"f"}, {"y"}), gradient({"a", "b"}, "y", {"a", "b"}, {"da", "db"}),
       gradient({"a"}, "a", {"a"}, {"one"}), gradient({"a"}, "b", {"a"}, {"none"})},
      {},
      {f32("a", {2}), f32("b", {2})},
      {f32("da", {2}), f32("db", {2}), f32("one", {2}), f32("none", {2})}};
  EXPECT_EQ(run(parts, {Box(vector({1, 2})), Box(vector({3, 4}))}), (Values{{0, 0}, {0, 0}, {1, 1}, {0, 0}}));
}

// In a branch, of what the graph around it computes; and through a branch.
TEST(GradientOperator, InAndThroughBranches) {
  const Proto with = graph({{gradient({"a"}, "y", {"a"}, {"g"})}, {}, {}, {f32("g")}});
  const Proto without = graph({{node("Neg", {"a"}, {"n"})}, {}, {}, {f32("n")}});
  const Proto flag = value_info("c", onnx_bool, {});
  const auto condition = [](bool value) {
    Tensor t(DType::boolean, {});
    t.set_integer(0, value);
    return Box(t);
  };
  const GraphParts in{
      {node("Mul", {"a", "a"}, {"y"}),
       node("If", {"c"}, {"r"}, {attribute_graph("then_branch", with), attribute_graph("else_branch", without)})},
      {},
      {f32("a"), flag},
      {f32("r")}};
  EXPECT_EQ(run(in, {numbers({3})[0], condition(true)}), (Values{{6}}));
  EXPECT_EQ(run(in, {numbers({3})[0], condition(false)}), (Values{{-3}}));
  const Proto cube = graph({{node("Mul", {"a", "s"}, {"t"})}, {}, {}, {f32("t")}});
  const GraphParts through{
      {node("Mul", {"a", "a"}, {"s"}),
       node("If", {"c"}, {"y"}, {attribute_graph("then_branch", cube), attribute_graph("else_branch", without)}),
       gradient({"a"}, "y", {"a"}, {"da"})},
      {},
      {f32("a"), flag},
      {f32("da")}};
  EXPECT_EQ(run(through, {numbers({3})[0], condition(true)}), (Values{{27}}));
  EXPECT_EQ(run(through, {numbers({3})[0], condition(false)}), (Values{{-1}}));
}

// A step of training: an engine computes what the definitions say, at two batch sizes.
TEST(GradientOperator, RunsInEngines) {
  const std::vector<Proto> layers = {
      node("Conv", {"x", "w", "b"}, {"c"}, {attribute_ints("pads", {1, 1, 1, 1}), attribute_ints("strides", {2, 1})}),
      node("Relu", {"c"}, {"r"}),
      node("MaxPool", {"r"}, {"p"}, {attribute_ints("kernel_shape", {2, 2}), attribute_ints("strides", {2, 2})}),
      node("Flatten", {"p"}, {"f"}),
      node("Gemm", {"f", "v", "u"}, {"z"}, {attribute_i("transB", 1)}),
      node("SoftmaxCrossEntropyLoss", {"z", "classes"}, {"loss"}),
      gradient({"w", "b", "v", "u"}, "loss", {"w", "b", "v", "u", "x", "classes"}, {"dw", "db", "dv", "du"},
               {"x", "classes"})};
  const Module module = imported({layers,
                                  {tensor_f32("b", {3}, {0.1f, -0.2f, 0.3f})},
                                  {f32("x", {"N", 2, 8, "W"}), f32("w", {3, 2, 3, 3}), f32("v", {4, 24}), f32("u", {4}),
                                   value_info("classes", onnx_i64, {"N"})},
                                  {f32("loss"), f32("dw", {}), f32("db", {}), f32("dv", {}), f32("du", {})}});
  BuildOptions options;
  options.check = true;
  for (const int64_t batch : {1, 3}) {
    using sinter::testing::random_tensor;
    Tensor classes(DType::i64, {batch});
    for (int64_t n = 0; n < batch; ++n) classes.set_integer(n, n + 1);
    const std::vector<Box> inputs = {random_tensor({batch, 2, 8, 9}), random_tensor({3, 2, 3, 3}, 2),
                                     random_tensor({4, 24}, 3), random_tensor({4}, 4), classes};
    const Comparison comparison = compare(module, inputs, options, {});
    size_t outputs = 0;
    for (const Compared& value : comparison.values) {
      EXPECT_TRUE(value.agrees) << value.tensor << " of " << value.node << ": " << value.max_error << " " << value.note;
      outputs += value.is_output;
    }
    EXPECT_EQ(outputs, 5u);
  }
}

TEST(GradientOperator, SaysWhatIsWrong) {
  const auto with = [](const Proto& last, std::vector<Proto> nodes = {node("Neg", {"a"}, {"y"})}) {
    nodes.push_back(last);
    return GraphParts{nodes, {}, {f32("a", {1, 1, 4}), value_info("i", onnx_i64, {4})}, {f32("g", {1, 1, 4})}};
  };
  EXPECT_HAS(error_of(with(gradient({"a"}, "y", {"a", "a"}, {"g"})), Code::model_invalid).what(), "2 inputs");
  EXPECT_HAS(error_of(with(gradient({"a", "a"}, "y", {"a", "a"}, {"g"})), Code::model_invalid).what(), "twice");
  EXPECT_HAS(error_of(with(gradient({"a"}, "nothing", {"a"}, {"g"})), Code::model_invalid).what(), "nothing");
  EXPECT_HAS(error_of(with(gradient({"i"}, "y", {"i", "a"}, {"g"}, {"a"})), Code::model_invalid).what(),
             "only to floats");
  const Error rule = error_of(
      with(gradient({"a"}, "y", {"a"}, {"g"}), {node("LpPool", {"a"}, {"y"}, {attribute_ints("kernel_shape", {2})})}),
      Code::unsupported);
  EXPECT_HAS(rule.what(), "core operator LpPool of node 'n_y' (LpPool) has no rule");
  EXPECT_HAS(rule.what(), "compute this part with operators that have one");
  const std::vector<Proto> draw = {node("RandomUniformLike", {"a"}, {"u"}), node("Mul", {"u", "a"}, {"y"})};
  EXPECT_HAS(error_of(with(gradient({"a"}, "y", {"a"}, {"g"}), draw), Code::unsupported).what(), "without a seed");
}

}  // namespace
}  // namespace sinter::onnx
