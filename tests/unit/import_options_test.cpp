#include <gtest/gtest.h>

#include "frontends/onnx/import.h"
#include "frontends/onnx/reader.h"
#include "ir/verify.h"
#include "onnx_writer.h"

namespace sinter::onnx {
namespace {

using namespace sinter::test;

// Expand of a f32[N, 3] to a shape that is an input.
std::string expand_model() {
  return model(graph({{node("Expand", {"x", "to"}, {"y"})},
                      {},
                      {value_info("x", onnx_f32, {"N", 3}), value_info("to", onnx_i64, {2})},
                      {value_info("y", onnx_f32, {})}}))
      .bytes;
}

Module import_with(const std::string& bytes, const ImportOptions& options) {
  Module module = import(read(std::as_bytes(std::span(bytes)), nullptr), options);
  verify(module);
  return module;
}

std::string text_of(const Module& module, ValueId v) { return to_text((*module.main)[v].type, module.symbols); }

TEST(ImportOptions, FrozenInputsAreConstants) {
  ImportOptions options;
  options.frozen.emplace("to", Tensor::vector_i64(std::vector<int64_t>{4, 3}));
  const Module m = import_with(expand_model(), options);
  ASSERT_EQ(m.main->inputs.size(), 1u);
  EXPECT_EQ((*m.main)[m.main->inputs[0]].name, "x");
  EXPECT_EQ(text_of(m, m.main->outputs.at(0)).find("f32["), 0u);
  EXPECT_NE(text_of(m, m.main->outputs.at(0)).find(", 3]"), std::string::npos);
}

TEST(ImportOptions, OpenExtentsAreSymbolsOfTheirOwn) {
  ImportOptions options;
  options.open_extents = true;
  const Module m = import_with(expand_model(), options);
  ASSERT_EQ(m.main->inputs.size(), 2u);
  EXPECT_EQ(text_of(m, m.main->inputs[0]), "f32[x_0, x_1]");
  EXPECT_EQ(text_of(m, m.main->inputs[1]), "i64[to_0]");
}

}  // namespace
}  // namespace sinter::onnx
