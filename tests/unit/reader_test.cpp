#include "frontends/onnx/reader.h"

#include <gtest/gtest.h>

#include "base/error.h"
#include "onnx_writer.h"

namespace sinter::onnx {
namespace {

using namespace sinter::test;

std::shared_ptr<const Model> read_text(const std::string& bytes, const ReadOptions& options = {}) {
  return read(as_bytes(bytes), nullptr, options);
}

std::string error_of(const std::string& bytes, Code code = Code::model_invalid, const ReadOptions& options = {}) {
  try {
    read_text(bytes, options);
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), code) << e.what();
    return e.what();
  }
  ADD_FAILURE() << "the model was accepted";
  return {};
}

#define EXPECT_HAS(text, part) EXPECT_NE((text).find(part), std::string::npos) << (text)

GraphParts small_graph() {
  return {{node("Add", {"x", "w"}, {"y"})},
          {tensor_f32("w", {2}, {1, 2})},
          {value_info("x", onnx_f32, {"N", 2})},
          {value_info("y", onnx_f32, {"N", 2})}};
}

TEST(Reader, ReadsWhatWasWritten) {
  const std::string bytes = model(graph(small_graph())).bytes;
  const auto m = read_text(bytes);
  EXPECT_EQ(m->ir_version, 9);
  ASSERT_EQ(m->opsets.size(), 1u);
  EXPECT_EQ(m->opsets[0].version, 17);
  ASSERT_EQ(m->graph.nodes.size(), 1u);
  EXPECT_EQ(m->graph.nodes[0].op_type, "Add");
  EXPECT_EQ(m->graph.nodes[0].inputs, (std::vector<std::string_view>{"x", "w"}));
  ASSERT_EQ(m->graph.initializers.size(), 1u);
  EXPECT_EQ(m->graph.initializers[0].tensor.to_reals(), (std::vector<double>{1, 2}));
  ASSERT_EQ(m->graph.inputs.size(), 1u);
  ASSERT_TRUE(m->graph.inputs[0].type.shape);
  EXPECT_EQ((*m->graph.inputs[0].type.shape)[0].param, "N");
  EXPECT_EQ((*m->graph.inputs[0].type.shape)[1].value, 2);
}

TEST(Reader, ReadsAttributesOfEveryKind) {
  const std::vector<Proto> attributes = {
      Proto().text(1, "f").real(2, 1.5f).integer(20, 1),
      attribute_i("i", -3),
      attribute_s("s", "text"),
      attribute_tensor("t", tensor_i64("", {2}, {5, 6})),
      attribute_graph("g", graph({{node("Relu", {"a"}, {"b"})}, {}, {}, {}})),
      Proto().text(1, "fs").real(7, 1).real(7, 2).integer(20, 6),
      attribute_ints("is", {1, -1, 300}),
      Proto().text(1, "is2").integer(8, 4).integer(8, 5).integer(20, 7),
      Proto().text(1, "ss").text(9, "a").text(9, "b").integer(20, 8),
      Proto().text(1, "tp").message(14, tensor_type(onnx_f32, {3})).integer(20, 13),
      Proto().text(1, "old").integer(3, 7),
  };
  const std::string bytes = model(graph({{node("X", {}, {}, attributes)}, {}, {}, {}})).bytes;
  const auto m = read_text(bytes);
  const Node& n = m->graph.nodes.at(0);
  EXPECT_EQ(n.attribute("f")->f, 1.5f);
  EXPECT_EQ(n.attribute("i")->i, -3);
  EXPECT_EQ(n.attribute("s")->s, "text");
  EXPECT_EQ(n.attribute("t")->tensors.at(0).to_integers(), (std::vector<int64_t>{5, 6}));
  EXPECT_EQ(n.attribute("g")->graphs.at(0)->nodes.at(0).op_type, "Relu");
  EXPECT_EQ(n.attribute("fs")->floats, (std::vector<float>{1, 2}));
  EXPECT_EQ(n.attribute("is")->ints, (std::vector<int64_t>{1, -1, 300}));
  EXPECT_EQ(n.attribute("is2")->ints, (std::vector<int64_t>{4, 5}));
  EXPECT_EQ(n.attribute("ss")->strings.size(), 2u);
  EXPECT_EQ(n.attribute("tp")->types.at(0).element_type, onnx_f32);
  EXPECT_EQ(n.attribute("old")->kind, Attribute::Kind::integer);
  EXPECT_EQ(n.attribute("none"), nullptr);
}

TEST(Reader, KeepsMetadataOfNodes) {
  Proto n = node("Relu", {"x"}, {"y"});
  n.message(9, Proto().text(1, "pkg.torch.onnx.name_scopes").text(2, "['', 'conv1']"));
  const std::string bytes = model(graph({{n}, {}, {}, {}})).bytes;
  EXPECT_EQ(read_text(bytes)->graph.nodes.at(0).metadata, "pkg.torch.onnx.name_scopes=['', 'conv1']\n");
}

TEST(Reader, RefusesWhatIsNoModel) {
  EXPECT_HAS(error_of(""), "empty");
  EXPECT_HAS(error_of("dummy\n"), "not an ONNX model");
  EXPECT_HAS(error_of(std::string(64, '\0')), "not an ONNX model");
  EXPECT_HAS(error_of(std::string(64, '\xff')), "not an ONNX model");
  EXPECT_HAS(error_of(Proto().message(7, graph({})).bytes), "no IR version");
  EXPECT_HAS(error_of(Proto().integer(1, 9).message(8, opset(17)).bytes), "no graph");
}

TEST(Reader, ChecksVersionsFirst) {
  // The graph is damaged too; the version is what counts.
  const Proto broken = Proto().text(1, "\xff");
  EXPECT_HAS(error_of(model(broken, 17, 99).bytes, Code::unsupported), "IR version 99");
  EXPECT_HAS(error_of(model(broken, 0).bytes), "impossible version");
  EXPECT_HAS(error_of(model(broken, -5).bytes), "impossible version");
  EXPECT_HAS(error_of(Proto().integer(1, 9).message(7, broken).bytes), "imports no operator set");
  const std::string old = Proto().integer(1, 2).message(7, graph(small_graph())).bytes;
  EXPECT_EQ(read_text(old)->opsets.at(0).version, 1);
}

TEST(Reader, ReportsAllProblemsAtOnce) {
  GraphParts parts = small_graph();
  parts.initializers.push_back(tensor_f32("short", {3}, {1}));
  parts.initializers.push_back(tensor_header("typeless", 99, {1}));
  parts.nodes.push_back(node("Bad", {}, {"z"}, {attribute_i("a", 1), attribute_i("a", 2)}));
  const std::string text = error_of(model(graph(parts)).bytes);
  EXPECT_HAS(text, "3 problems");
  EXPECT_HAS(text, "'short'");
  EXPECT_HAS(text, "'typeless'");
  EXPECT_HAS(text, "given twice");
}

TEST(Reader, RefusesDamagedWireData) {
  const Proto good = model(graph(small_graph()));
  EXPECT_HAS(error_of(good.bytes + std::string("\x0b", 1)), "wire type");           // start of a group
  EXPECT_HAS(error_of(good.bytes + std::string("\x00", 1)), "impossible number");   // field 0
  EXPECT_HAS(error_of(good.bytes + "\x12\x7f"), "too early");                       // length beyond the end
  EXPECT_HAS(error_of(good.bytes + "\x08" + std::string(11, '\x80')), "too long");  // endless number
  EXPECT_HAS(error_of(good.bytes + "\x0a\x01x"), "wrong wire type");                // ir_version as text
  Proto twice = good;
  twice.message(7, graph(small_graph()));
  EXPECT_HAS(error_of(twice.bytes), "given twice");
}

TEST(Reader, SkipsUnknownFields) {
  Proto m = model(graph(small_graph()));
  m.text(900, "future").integer(901, 5).real(902, 1);
  EXPECT_EQ(read_text(m.bytes)->graph.nodes.size(), 1u);
}

TEST(Reader, RefusesBadNames) {
  EXPECT_HAS(error_of(model(graph({{node(std::string("A\0b", 3), {}, {"y"})}, {}, {}, {}})).bytes), "zero byte");
  EXPECT_HAS(error_of(model(graph({{node(std::string(70000, 'a'), {}, {"y"})}, {}, {}, {}})).bytes), "at most");
}

TEST(Reader, EveryTruncationIsRefused) {
  const std::string whole = model(graph(small_graph())).bytes;
  int accepted = 0;
  for (size_t n = 0; n < whole.size(); ++n) {
    const std::string cut = whole.substr(0, n);
    try {
      read_text(cut);
      ++accepted;
    } catch (const Error&) {
    }
  }
  EXPECT_EQ(accepted, 0);
}

TEST(Reader, LimitsNesting) {
  Proto g = graph({});
  for (int i = 0; i < 80; ++i) g = graph({{node("If", {}, {}, {attribute_graph("b", g)})}, {}, {}, {}});
  EXPECT_HAS(error_of(model(g).bytes, Code::limit), "nest deeper");
  Proto type = tensor_type(onnx_f32, {1});
  for (int i = 0; i < 80; ++i) type = Proto().message(4, Proto().message(1, type));
  EXPECT_HAS(error_of(model(graph({{}, {}, {value_info("x", type)}, {}})).bytes, Code::limit), "nest deeper");
}

TEST(Reader, LimitsMemoryOfEmptyMessages) {
  std::string nodes;
  for (int i = 0; i < 900000; ++i) nodes += std::string("\x0a\x00", 2);
  EXPECT_HAS(error_of(model(Proto{nodes}).bytes, Code::limit), "16 times");
  ReadOptions options;
  options.max_nodes = 10;
  Proto g;
  for (int i = 0; i < 11; ++i) g.message(1, node("Relu", {"x"}, {"y"}));
  EXPECT_HAS(error_of(model(g).bytes, Code::limit, options), "more than 10 nodes");
}

TEST(Reader, ClaimedSizesAreNotAllocated) {
  GraphParts parts = small_graph();
  parts.initializers.push_back(tensor_f32("huge", {int64_t{1} << 39}, {1}));
  EXPECT_HAS(error_of(model(graph(parts)).bytes), "'huge'");
  parts.initializers.back() = tensor_f32("overflow", {int64_t{1} << 62, 4}, {1});
  error_of(model(graph(parts)).bytes, Code::limit);
  parts.initializers.back() = tensor_f32("negative", {-1}, {1});
  error_of(model(graph(parts)).bytes);
}

Proto sparse(const Proto& values, const Proto& indices, const std::vector<int64_t>& dims) {
  Proto s;
  s.message(1, values).message(2, indices);
  for (int64_t d : dims) s.integer(3, d);
  return s;
}

TEST(Reader, ExpandsSparseTensors) {
  GraphParts parts = small_graph();
  parts.sparse = {sparse(tensor_f32("a", {2}, {3, 4}), tensor_i64("", {2}, {1, 5}), {2, 3}),
                  sparse(tensor_f32("b", {2}, {3, 4}), tensor_i64("", {2, 2}, {0, 1, 1, 2}), {2, 3})};
  const auto m = read_text(model(graph(parts)).bytes);
  for (size_t i = 1; i < 3; ++i) {
    EXPECT_EQ(m->graph.initializers.at(i).tensor.dims(), (Dims{2, 3}));
    EXPECT_EQ(m->graph.initializers.at(i).tensor.to_reals(), (std::vector<double>{0, 3, 0, 0, 0, 4}));
  }
}

TEST(Reader, RefusesBadSparseTensors) {
  const auto refused = [](const Proto& s, const char* why, Code code = Code::model_invalid) {
    GraphParts parts = small_graph();
    parts.sparse = {s};
    EXPECT_HAS(error_of(model(graph(parts)).bytes, code), why);
  };
  const Proto two = tensor_f32("a", {2}, {3, 4});
  refused(sparse(two, tensor_i64("", {2}, {1, 6}), {2, 3}), "outside");
  refused(sparse(two, tensor_i64("", {2}, {-1, 5}), {2, 3}), "outside");
  refused(sparse(two, tensor_i64("", {2}, {5, 1}), {2, 3}), "ascend");
  refused(sparse(two, tensor_i64("", {3}, {0, 1, 2}), {2, 3}), "indices");
  refused(sparse(two, tensor_i64("", {2, 2}, {0, 1, 2, 0}), {2, 3}), "outside");
  refused(sparse(two, tensor_f32("", {2}, {0, 1}), {2, 3}), "integers");
  refused(sparse(two, tensor_i64("", {2}, {0, 1}), {int64_t{1} << 38}), "more than is allowed", Code::limit);
}

TEST(Reader, ReadsContainersAndFunctions) {
  const Proto sequence = Proto().message(4, Proto().message(1, tensor_type(onnx_f32, {"N"})));
  const Proto optional = Proto().message(9, Proto().message(1, sequence));
  GraphParts parts = small_graph();
  parts.inputs.push_back(value_info("s", optional));
  const std::string bytes =
      model(graph(parts), 17, 9, {function("f", {"a"}, {"b"}, {node("Relu", {"a"}, {"b"})}, {"alpha"})}).bytes;
  const auto m = read_text(bytes);
  const ValueType& t = m->graph.inputs.at(1).type;
  ASSERT_EQ(t.kind, ValueType::Kind::optional);
  ASSERT_EQ(t.element->kind, ValueType::Kind::sequence);
  EXPECT_EQ(t.element->element->element_type, onnx_f32);
  ASSERT_EQ(m->functions.size(), 1u);
  EXPECT_EQ(m->functions[0].domain, "local");
  EXPECT_EQ(m->functions[0].attributes.at(0), "alpha");
  EXPECT_EQ(m->functions[0].nodes.at(0).op_type, "Relu");
}

TEST(Reader, MissingFileIsAnError) { EXPECT_THROW(read("/nonexistent/model.onnx"), Error); }

}  // namespace
}  // namespace sinter::onnx
