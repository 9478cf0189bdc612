#include "frontends/onnx/import.h"

#include <gtest/gtest.h>

#include "api/compile.h"
#include "base/error.h"
#include "frontends/onnx/reader.h"
#include "ir/evaluate.h"
#include "ir/text.h"
#include "ir/verify.h"
#include "onnx_writer.h"

namespace sinter::onnx {
namespace {

using namespace sinter::test;

#define EXPECT_HAS(text, part) EXPECT_NE((text).find(part), std::string::npos) << (text)

Module import_text(const std::string& bytes) {
  ModelSource source;
  source.bytes = as_bytes(bytes);
  Module module = import_model(source, {});
  verify(module);
  return module;
}

std::string error_of(const std::string& bytes, Code code = Code::model_invalid) {
  try {
    import_text(bytes);
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), code) << e.what();
    return e.what();
  }
  ADD_FAILURE() << "the model was accepted";
  return {};
}

Tensor vector(const std::vector<double>& values) {
  Tensor t(DType::f32, {static_cast<int64_t>(values.size())});
  for (size_t i = 0; i < values.size(); ++i) t.set_real(static_cast<int64_t>(i), values[i]);
  return t;
}

Tensor flag(bool value) {
  Tensor t(DType::boolean, {});
  t.set_integer(0, value);
  return t;
}

std::vector<double> run(const Module& module, const std::vector<Box>& inputs, size_t output = 0) {
  return Evaluation(module, inputs).outputs().at(output).tensor.to_reals();
}

Proto f32(std::string_view name, const std::vector<Extent>& dims) { return value_info(name, onnx_f32, dims); }

std::string input_text(const Module& module, size_t i) {
  return to_text((*module.main)[module.main->inputs.at(i)].type, module.symbols);
}

TEST(Import, InputsShareNamedExtents) {
  const Module m =
      import_text(model(graph({{node("Relu", {"a"}, {"y"})},
                               {},
                               {f32("a", {"N", 3, "H"}), f32("b", {"N", "?", "H"}), f32("c", {"", "batch size"})},
                               {f32("y", {})}}))
                      .bytes);
  EXPECT_EQ(input_text(m, 0), "f32[N, 3, H]");
  EXPECT_EQ(input_text(m, 1), "f32[N, b_1, H]");
  EXPECT_EQ(input_text(m, 2), "f32[c_0, batch_size]");
  EXPECT_EQ((*m.main)[m.main->inputs[0]].name, "a");
  EXPECT_EQ(m.output_names, (std::vector<std::string>{"y"}));
}

// What an operator computes in f32 need not be rounded for readers in f32; what a Cast of the model rounds is.
TEST(Import, EndsOfCompositesAreLoose) {
  constexpr int onnx_f16 = 10;
  const Proto to = attribute_i("to", onnx_f16);
  const Module m = import_text(
      model(graph({{node("Softmax", {"x"}, {"p"}), node("Cast", {"w"}, {"h"}, {to}), node("Relu", {"p"}, {"y"})},
                   {},
                   {value_info("x", onnx_f16, {2, 3}), f32("w", {2})},
                   {value_info("y", onnx_f16, {}), value_info("h", onnx_f16, {})}}))
          .bytes);
  const std::string text = to_text(m);
  EXPECT_HAS(text, "%p = Cast{to=f16, loose=true}");
  EXPECT_HAS(text, "%h = Cast{to=f16}");
}

TEST(Import, UnknownRanksStayUnknown) {
  const Proto type = Proto().message(1, Proto().integer(1, onnx_f32));
  const Module m =
      import_text(model(graph({{node("Relu", {"x"}, {"y"})}, {}, {value_info("x", type)}, {f32("y", {})}})).bytes);
  EXPECT_EQ(input_text(m, 0), "f32[..]");
}

TEST(Import, NamesThatAreFunctionsOrNoIdentifiers) {
  const Module m = import_text(
      model(graph({{node("Relu", {"x"}, {"y"})}, {}, {f32("x", {"min", "2*N", "1"})}, {f32("y", {})}})).bytes);
  const std::string text = to_text(m);
  EXPECT_NO_THROW(parse_module(text)) << text;
}

TEST(Import, InitializersWinOverInputs) {
  const Module m = import_text(model(graph({{node("Add", {"x", "w"}, {"y"})},
                                            {tensor_f32("w", {2}, {1, 2})},
                                            {f32("x", {2}), f32("w", {2})},
                                            {f32("y", {2})}}),
                                     7, 3)
                                   .bytes);
  EXPECT_EQ(m.main->inputs.size(), 1u);
  EXPECT_EQ(run(m, {Box(vector({10, 20}))}), (std::vector<double>{11, 22}));
}

TEST(Import, ConstantsAreSharedAndUnusedOnesLeftOut) {
  const Module m = import_text(model(graph({{node("Add", {"x", "w"}, {"t"}), node("Mul", {"t", "w"}, {"y"})},
                                            {tensor_f32("w", {2}, {1, 2}), tensor_f32("unused", {2}, {1, 2})},
                                            {f32("x", {2})},
                                            {f32("y", {2})}}))
                                   .bytes);
  int constants = 0;
  for (const Value& value : m.main->values) constants += value.is_constant();
  EXPECT_EQ(constants, 1);
}

TEST(Import, SortsNodes) {
  const Module m = import_text(
      model(graph({{node("Neg", {"t"}, {"y"}), node("Relu", {"x"}, {"t"})}, {}, {f32("x", {2})}, {f32("y", {2})}}))
          .bytes);
  EXPECT_EQ(run(m, {Box(vector({1, -2}))}), (std::vector<double>{-1, 0}));
}

TEST(Import, OutputsMayBeInputsConstantsAndTwins) {
  const Module m = import_text(model(graph({{node("Relu", {"x"}, {"t"}), node("Identity", {"t"}, {"u"})},
                                            {tensor_f32("w", {2}, {1, 2})},
                                            {f32("x", {2})},
                                            {f32("x", {2}), f32("w", {2}), f32("t", {2}), f32("u", {2})}}))
                                   .bytes);
  EXPECT_EQ(m.output_names, (std::vector<std::string>{"x", "w", "t", "u"}));
  for (size_t i = 0; i < 4; ++i)
    EXPECT_EQ(run(m, {Box(vector({5, 6}))}, i), i == 1 ? (std::vector<double>{1, 2}) : (std::vector<double>{5, 6}));
}

TEST(Import, SourcesNameNodesAndMetadata) {
  Proto n = node("Relu", {"x"}, {"y"});
  n.message(9, Proto().text(1, "k").text(2, "v"));
  const Module m = import_text(model(graph({{n}, {}, {f32("x", {2})}, {f32("y", {2})}})).bytes);
  ASSERT_EQ(m.sources.size(), 1u);
  EXPECT_EQ(m.sources[0].name, "n_y");
  EXPECT_EQ(m.sources[0].op_type, "Relu");
  EXPECT_EQ(m.sources[0].metadata, "k=v\n");
  ASSERT_EQ(m.main->nodes.size(), 1u);
  EXPECT_EQ(m.main->nodes[0].sources, (Sources{0}));
  EXPECT_EQ((*m.main)[m.main->outputs[0]].name, "y");
}

TEST(Import, ReportsEveryRootCauseOnce) {
  const std::string text =
      error_of(model(graph({{node("Add", {"x", "gone"}, {"a"}), node("Relu", {"a"}, {"b"}),
                             node("Add", {"x", "z"}, {"c"}), node("Neg", {"c"}, {"d"}), node("Relu", {"b"}, {"y"})},
                            {},
                            {f32("x", {2}), f32("z", {3})},
                            {f32("y", {}), f32("d", {}), f32("never", {})}}))
                   .bytes);
  EXPECT_HAS(text, "3 problems");
  EXPECT_HAS(text, "node 'n_a' (Add) reads 'gone'");
  EXPECT_HAS(text, "node 'n_c' (Add, opset 17)");
  EXPECT_HAS(text, "output 'never'");
}

TEST(Import, ListsUnsupportedOperators) {
  const std::string text =
      error_of(model(graph({{node("Nope", {"x"}, {"a"}), node("Nope", {"a"}, {"b"}),
                             node("Other", {"x"}, {"c"}, {}, "com.example"), node("Nope", {"x"}, {"y"})},
                            {},
                            {f32("x", {2})},
                            {f32("y", {}), f32("c", {})}}))
                   .bytes,
               Code::unsupported);
  EXPECT_HAS(text, "com.example.Other (1 node: 'n_c')");
  EXPECT_HAS(text, "Nope (3 nodes: 'n_a', 'n_b', 'n_y')");  // the one that reads what another should have made, too
  EXPECT_HAS(text, "ModelProto.functions");
}

TEST(Import, RefusesCyclesAndTwins) {
  EXPECT_HAS(error_of(model(graph({{node("Add", {"x", "b"}, {"a"}), node("Relu", {"a"}, {"b"})},
                                   {},
                                   {f32("x", {2})},
                                   {f32("b", {})}}))
                          .bytes),
             "circle");
  EXPECT_HAS(
      error_of(
          model(graph({{node("Relu", {"x"}, {"y"}), node("Neg", {"x"}, {"y"})}, {}, {f32("x", {2})}, {f32("y", {})}}))
              .bytes),
      "made twice");
  EXPECT_HAS(error_of(model(graph({{node("Relu", {"x"}, {"x"})}, {}, {f32("x", {2})}, {f32("x", {})}})).bytes),
             "circle");
  EXPECT_HAS(error_of(model(graph({{}, {}, {f32("x", {2})}, {}})).bytes), "no outputs");
}

TEST(Import, ConvTransposeTakesUnknownRanks) {
  const Proto type = Proto().message(1, Proto().integer(1, onnx_f32));
  const Module m = import_text(model(graph({{node("ConvTranspose", {"x", "w"}, {"y"})},
                                            {tensor_f32("w", {1, 1, 2}, {1, 10})},
                                            {value_info("x", type)},
                                            {f32("y", {})}}))
                                   .bytes);
  Tensor x(DType::f32, {1, 1, 2});
  x.set_real(0, 1);
  x.set_real(1, 2);
  EXPECT_EQ(run(m, {Box(x)}), (std::vector<double>{1, 12, 20}));
}

TEST(Import, ScalarsMaySliceOneAxis) {
  const Module m =
      import_text(model(graph({{node("Slice", {"x", "start", "end", "axis"}, {"y"})},
                               {tensor_i64("start", {}, {1}), tensor_i64("end", {1}, {3}), tensor_i64("axis", {}, {0})},
                               {f32("x", {4})},
                               {f32("y", {})}}))
                      .bytes);
  EXPECT_EQ(run(m, {Box(vector({1, 2, 3, 4}))}), (std::vector<double>{2, 3}));
}

TEST(Import, AxesThatAreNoIntegersAreAnErrorOfTheRun) {
  const Module m = import_text(
      model(graph({{node("Unsqueeze", {"x", "axes"}, {"y"})}, {}, {f32("x", {2}), f32("axes", {1})}, {f32("y", {})}}))
          .bytes);
  EXPECT_THROW(run(m, {Box(vector({1, 2})), Box(vector({0}))}), Error);
}

// ---- bodies ----

Proto branch(const std::vector<Proto>& nodes, std::string_view output, const std::vector<Proto>& initializers = {}) {
  return graph({nodes, initializers, {}, {f32(output, {})}}, output);
}

Proto if_node(const Proto& then_branch, const Proto& else_branch, const std::string& output = "y") {
  return node("If", {"c"}, {output},
              {attribute_graph("then_branch", then_branch), attribute_graph("else_branch", else_branch)});
}

TEST(Import, BranchesShareCaptures) {
  // The branches capture different values; both must take all of them.
  const Module m = import_text(
      model(graph({{node("Neg", {"x"}, {"late"}), if_node(branch({node("Add", {"x", "w"}, {"t"})}, "t"),
                                                          branch({node("Mul", {"late", "z"}, {"e"})}, "e"))},
                   {tensor_f32("w", {2}, {1, 2})},
                   {f32("x", {2}), f32("z", {2}), value_info("c", onnx_bool, {})},
                   {f32("y", {2})}}))
          .bytes);
  const Box x(vector({1, 2})), z(vector({5, 7}));
  EXPECT_EQ(run(m, {x, z, Box(flag(true))}), (std::vector<double>{2, 4}));
  EXPECT_EQ(run(m, {x, z, Box(flag(false))}), (std::vector<double>{-5, -14}));
  const sinter::Node& n = m.main->nodes.back();
  ASSERT_EQ(n.bodies.size(), 2u);
  EXPECT_EQ(n.inputs.size(), 4u);  // the condition; x, late, z. The constant is copied in.
  EXPECT_EQ(n.bodies[0].inputs.size(), 3u);
  EXPECT_EQ(n.bodies[1].inputs.size(), 3u);
}

TEST(Import, NestedBodiesCaptureThroughLevels) {
  const Proto inner =
      if_node(branch({node("Add", {"x", "w"}, {"a"})}, "a"), branch({node("Neg", {"m"}, {"b"})}, "b"), "inner");
  const Module m = import_text(model(graph({{if_node(branch({node("Relu", {"x"}, {"m"}), inner}, "inner"),
                                                     branch({node("Abs", {"x"}, {"f"})}, "f"))},
                                            {tensor_f32("w", {2}, {1, 2})},
                                            {f32("x", {2}), value_info("c", onnx_bool, {})},
                                            {f32("y", {2})}}))
                                   .bytes);
  const Box x(vector({-1, 2}));
  EXPECT_EQ(run(m, {x, Box(flag(true))}), (std::vector<double>{0, 4}));
  EXPECT_EQ(run(m, {x, Box(flag(false))}), (std::vector<double>{1, 2}));
}

TEST(Import, BodiesMayGiveOuterValuesAndShadowNames) {
  // "x" given as it is; a name made in the body and again outside, later.
  const Module m = import_text(
      model(graph({{if_node(graph({{}, {}, {}, {f32("x", {})}}, "t"), branch({node("Neg", {"x"}, {"later"})}, "later")),
                    node("Relu", {"y"}, {"later"})},
                   {},
                   {f32("x", {2}), value_info("c", onnx_bool, {})},
                   {f32("later", {2})}}))
          .bytes);
  EXPECT_EQ(run(m, {Box(vector({-1, 2})), Box(flag(true))}), (std::vector<double>{0, 2}));
  EXPECT_EQ(run(m, {Box(vector({-1, 2})), Box(flag(false))}), (std::vector<double>{1, 0}));
}

TEST(Import, ABranchThatIsKnownToBeTakenIsWrittenInPlace) {
  // How PyTorch squeezes: the rank of what follows is known only with the branch. "later" is made again outside; what
  // the other branch would need is not asked for.
  const Module m = import_text(
      model(
          graph({{node("Shape", {"x"}, {"s"}), node("Gather", {"s", "one"}, {"n"}), node("Equal", {"n", "one"}, {"c"}),
                  if_node(branch({node("Squeeze", {"x", "axes"}, {"later"}), node("Add", {"later", "w"}, {"t"})}, "t",
                                 {tensor_i64("axes", {1}, {1}), tensor_f32("w", {}, {10})}),
                          branch({node("Concat", {"x"}, {"e"})}, "e")),
                  node("Neg", {"y"}, {"later"})},
                 {tensor_i64("one", {1}, {1})},
                 {f32("x", {"N", 1})},
                 {f32("later", {})}}))
          .bytes);
  for (const sinter::Node& n : m.main->nodes) EXPECT_TRUE(n.bodies.empty());
  EXPECT_EQ(to_text((*m.main)[m.main->outputs[0]].type, m.symbols), "f32[N]");
  Tensor x(DType::f32, {2, 1});
  x.set_real(1, 3);
  EXPECT_EQ(run(m, {Box(x)}), (std::vector<double>{-10, -13}));
}

TEST(Import, PiecesTakenOutOfASequenceKeepTheirRanks) {
  // How PyTorch splits: a Loop of one turn puts a piece into a sequence, SequenceAt takes it out again.
  const Proto body =
      graph({{node("Slice", {"x", "i1", "one"}, {"p"}), node("SequenceInsert", {"s", "p"}, {"s_out"})},
             {tensor_i64("i1", {1}, {0})},
             {value_info("i", onnx_i64, {}), value_info("keep", onnx_bool, {}), value_info("s", Proto())},
             {value_info("keep", onnx_bool, {}), value_info("s_out", Proto())}},
            "body");
  const Module m = import_text(
      model(graph({{node("SequenceEmpty", {}, {"none"}),
                    node("Loop", {"one", "", "none"}, {"first"}, {attribute_graph("body", body)}),
                    node("Neg", {"x"}, {"n"}), node("SequenceInsert", {"first", "n", "zero"}, {"both"}),
                    node("SequenceAt", {"both", "minus"}, {"y"})},
                   {tensor_i64("one", {1}, {1}), tensor_i64("zero", {}, {0}), tensor_i64("minus", {}, {-1})},
                   {f32("x", {"N", 2})},
                   {f32("y", {})}}))
          .bytes);
  EXPECT_EQ(to_text((*m.main)[m.main->outputs[0]].type, m.symbols).substr(0, 4), "f32[");
  EXPECT_EQ((*m.main)[m.main->outputs[0]].type.shape->size(), 2u);
  for (const sinter::Node& n : m.main->nodes) EXPECT_TRUE(n.bodies.empty());
  Tensor x(DType::f32, {2, 2});
  x.set_real(1, 3);
  EXPECT_EQ(run(m, {Box(x)}), (std::vector<double>{0, 3}));
}

TEST(Import, GemmTakesUnknownRanks) {
  const Proto type = Proto().message(1, Proto().integer(1, onnx_f32));
  const Module m = import_text(model(graph({{node("Gemm", {"x", "w"}, {"y"})},
                                            {tensor_f32("w", {2, 1}, {1, 10})},
                                            {value_info("x", type)},
                                            {f32("y", {})}}))
                                   .bytes);
  Tensor x(DType::f32, {1, 2});
  x.set_real(1, 3);
  EXPECT_EQ(run(m, {Box(x)}), (std::vector<double>{30}));
}

TEST(Import, LoopsCarryAndCapture) {
  const Proto body = graph({{node("Add", {"v", "x"}, {"v_out"}), node("Identity", {"keep"}, {"keep_out"})},
                            {},
                            {value_info("i", onnx_i64, {}), value_info("keep", onnx_bool, {}), f32("v", {2})},
                            {value_info("keep_out", onnx_bool, {}), f32("v_out", {2})}},
                           "body");
  const Module m = import_text(model(graph({{node("Loop", {"n", "", "x"}, {"y"}, {attribute_graph("body", body)})},
                                            {tensor_i64("n", {}, {3})},
                                            {f32("x", {2})},
                                            {f32("y", {2})}}))
                                   .bytes);
  EXPECT_EQ(run(m, {Box(vector({1, 2}))}), (std::vector<double>{4, 8}));
}

// A loop over v from x, two trips if not none; the nodes make v_out from v, i and what they capture.
Proto loop_of(const std::vector<Proto>& nodes, const std::string& start) {
  const Proto body = graph({nodes,
                            {},
                            {value_info("i", onnx_i64, {}), value_info("keep", onnx_bool, {}), f32("v", {2})},
                            {value_info("keep", onnx_bool, {}), f32("v_out", {2})}},
                           "body");
  return node("Loop", {"n", "", start}, {"r"}, {attribute_graph("body", body)});
}

// What comes in, or what the body makes, is an optional and the other is what it may hold.
TEST(Import, LoopsCarryWhatIsOptionalOnOneSide) {
  const auto loaded = [](const std::vector<Proto>& nodes) {
    return import_text(
        model(graph({nodes, {}, {f32("x", {2}), value_info("n", onnx_i64, {})}, {f32("y", {2})}})).bytes);
  };
  const std::vector<Proto> step = {node("OptionalGetElement", {"v"}, {"t"}), node("Add", {"t", "t"}, {"v_out"})};
  const Module in = loaded({node("Optional", {"x"}, {"o"}), loop_of(step, "o"), node("Neg", {"r"}, {"y"})});
  std::vector<Proto> made = step;
  made[1] = node("Add", {"t", "t"}, {"u"});
  made.push_back(node("Optional", {"u"}, {"v_out"}));
  const Module out = loaded({loop_of(made, "x"), node("OptionalGetElement", {"r"}, {"g"}), node("Neg", {"g"}, {"y"})});
  for (const Module* m : {&in, &out}) {
    EXPECT_EQ(run(*m, {Box(vector({1, 2})), Box(Tensor::scalar_i64(2))}), (std::vector<double>{-4, -8}));
    EXPECT_EQ(run(*m, {Box(vector({1, 2})), Box(Tensor::scalar_i64(0))}), (std::vector<double>{-1, -2}));
  }
}

TEST(Import, OneBranchMayGiveAnOptional) {
  const Module m = import_text(
      model(
          graph({{if_node(branch({node("Optional", {"x"}, {"o"})}, "o"), branch({node("Neg", {"x"}, {"f"})}, "f"), "r"),
                  node("OptionalHasElement", {"r"}, {"h"}), node("OptionalGetElement", {"r"}, {"y"})},
                 {},
                 {f32("x", {2}), value_info("c", onnx_bool, {})},
                 {f32("y", {2}), value_info("h", onnx_bool, {})}}))
          .bytes);
  for (const bool taken : {true, false}) {
    const std::vector<double> expected = taken ? std::vector<double>{1, 2} : std::vector<double>{-1, -2};
    EXPECT_EQ(run(m, {Box(vector({1, 2})), Box(flag(taken))}), expected);
    EXPECT_EQ(run(m, {Box(vector({1, 2})), Box(flag(taken))}, 1), (std::vector<double>{1}));
  }
}

// A rank that grows with each trip is unknown inside.
TEST(Import, LoopsCarryRanksThatChange) {
  const Module m = import_text(
      model(graph({{loop_of({node("Unsqueeze", {"v", "first"}, {"v_out"})}, "x"), node("Neg", {"r"}, {"y"})},
                   {tensor_i64("first", {1}, {0})},
                   {f32("x", {2}), value_info("n", onnx_i64, {})},
                   {f32("y", {})}}))
          .bytes);
  for (const int64_t trips : {0, 3}) {
    const std::vector<Box> inputs = {Box(vector({1, 2})), Box(Tensor::scalar_i64(trips))};
    const Box y = Evaluation(m, inputs).outputs()[0];
    EXPECT_EQ(y.tensor.rank(), static_cast<size_t>(1 + trips));
    EXPECT_EQ(y.tensor.to_reals(), (std::vector<double>{-1, -2}));
  }
}

TEST(Import, ErrorsInBodiesAreReportedOnce) {
  const Proto body = graph({{node("Nope", {"v"}, {"v_out"}), node("Add", {"v", "gone"}, {"s"})},
                            {},
                            {value_info("i", onnx_i64, {}), value_info("keep", onnx_bool, {}), f32("v", {2})},
                            {value_info("keep", onnx_bool, {}), f32("v_out", {2}), f32("s", {2})}},
                           "body");
  const std::string text =
      error_of(model(graph({{node("Loop", {"n", "", "x"}, {"y", "all"}, {attribute_graph("body", body)}),
                             node("Relu", {"y"}, {"z"})},
                            {tensor_i64("n", {}, {3})},
                            {f32("x", {2})},
                            {f32("z", {2}), f32("all", {})}}))
                   .bytes);
  EXPECT_HAS(text, "2 problems");
  EXPECT_HAS(text, "'gone'");
  EXPECT_HAS(text, "Nope");
}

// ---- functions ----

TEST(Import, InlinesFunctions) {
  const std::vector<Proto> functions = {
      function("Leaky", {"a"}, {"b"}, {node("LeakyRelu", {"a"}, {"b"}, {attribute_ref("alpha", "slope", 1)})},
               {"slope"}),
      function("Twice", {"a", "unused"}, {"c", "d"},
               {node("Leaky", {"a"}, {"b"}, {attribute_ref("slope", "slope", 1)}, "local"),
                node("Add", {"b", "b"}, {"c"}), node("Neg", {"b"}, {"d"})},
               {"slope"})};
  const Proto call = node("Twice", {"x"}, {"y", "n"}, {Proto().text(1, "slope").real(2, 0.5f).integer(20, 1)}, "local");
  const Module m =
      import_text(model(graph({{call}, {}, {f32("x", {2})}, {f32("y", {2}), f32("n", {2})}}), 17, 9, functions).bytes);
  EXPECT_EQ(run(m, {Box(vector({-4, 2}))}), (std::vector<double>{-4, 4}));
  EXPECT_EQ(run(m, {Box(vector({-4, 2}))}, 1), (std::vector<double>{2, -2}));
  bool nested = false;
  for (const Source& source : m.sources) nested = nested || source.name == "n_y/n_b/n_b";
  EXPECT_TRUE(nested);
}

TEST(Import, FunctionsDoNotSeeTheirCallersNames) {
  const std::vector<Proto> functions = {function("F", {"a"}, {"b"}, {node("Add", {"a", "x"}, {"b"})})};
  EXPECT_HAS(error_of(model(graph({{node("F", {"x"}, {"y"}, {}, "local")}, {}, {f32("x", {2})}, {f32("y", {2})}}), 17,
                            9, functions)
                          .bytes),
             "reads 'x', which nothing makes");
}

TEST(Import, LimitsRecursionAndExplosion) {
  const std::vector<Proto> itself = {function("F", {"a"}, {"b"}, {node("F", {"a"}, {"b"}, {}, "local")})};
  const Proto g = graph({{node("F", {"x"}, {"y"}, {}, "local")}, {}, {f32("x", {2})}, {f32("y", {2})}});
  EXPECT_HAS(error_of(model(g, 17, 9, itself).bytes, Code::limit), "may call itself");
  // F calls F1 twice, F1 calls F2 twice, ...: 2^25 nodes out of a small file.
  std::vector<Proto> tree;
  for (int i = 0; i < 25; ++i) {
    const std::string name = i == 0 ? "F" : "F" + std::to_string(i), next = "F" + std::to_string(i + 1);
    tree.push_back(
        function(name, {"a"}, {"c"}, {node(next, {"a"}, {"b"}, {}, "local"), node(next, {"b"}, {"c"}, {}, "local")}));
  }
  tree.push_back(function("F25", {"a"}, {"c"}, {node("Identity", {"a"}, {"c"})}));
  const std::string bytes = model(g, 17, 9, tree).bytes;
  try {
    import(read(as_bytes(bytes), nullptr), {.logger = {}, .control = {}, .max_nodes = 10000});
    ADD_FAILURE() << "the model was accepted";
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), Code::limit);
    EXPECT_HAS(std::string(e.what()), "more than 10000 nodes after functions");
  }
}

TEST(Import, WrongAttributesAreNamed) {
  EXPECT_HAS(error_of(model(graph({{node("LeakyRelu", {"x"}, {"y"}, {attribute_s("alpha", "big")})},
                                   {},
                                   {f32("x", {2})},
                                   {f32("y", {})}}))
                          .bytes),
             "attribute 'alpha' is a string, it must be a float");
}

TEST(Import, UnknownAttributesAreRefused) {
  const auto leaky = [](const char* name) {
    return model(
               graph({{node("LeakyRelu", {"x"}, {"y"}, {attribute_i(name, 1)})}, {}, {f32("x", {2})}, {f32("y", {})}}))
        .bytes;
  };
  EXPECT_HAS(error_of(leaky("alhpa")),
             "node 'n_y' (LeakyRelu, opset 17): LeakyRelu has no attribute 'alhpa'; it has alpha");
  EXPECT_NO_THROW(import_text(leaky("consumed_inputs")));  // of opset 1
  EXPECT_NO_THROW(import_text(leaky("__note")));           // tools' own
}

TEST(Import, RefusesInputsThatCannotBeComputedWith) {
  // A map to booleans: no operator takes one.
  const Proto map = Proto().message(5, Proto().integer(1, onnx_i64).message(2, tensor_type(onnx_bool, {})));
  const Proto opaque = tensor_type(99, {2});
  const std::string text = error_of(
      model(graph({{node("Relu", {"x"}, {"y"})}, {}, {value_info("x", map), value_info("z", opaque)}, {f32("y", {})}}))
          .bytes,
      Code::unsupported);
  EXPECT_HAS(text, "input 'x'");
  EXPECT_HAS(text, "input 'z'");
  EXPECT_HAS(text, "2 problems");
}

}  // namespace
}  // namespace sinter::onnx
