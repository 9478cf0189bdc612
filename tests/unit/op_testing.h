// Helpers for tests of single operators: small tensors from lists, evaluation by definition, inference with symbols.
#pragma once

#include <gtest/gtest.h>

#include <cmath>
#include <initializer_list>
#include <optional>
#include <string>
#include <vector>

#include "ir/builder.h"
#include "ops/op.h"

namespace sinter::testing {

inline Tensor reals(Dims dims, std::initializer_list<double> values, DType dtype = DType::f32) {
  Tensor t(dtype, std::move(dims));
  int64_t i = 0;
  for (double v : values) t.set_real(i++, v);
  return t;
}

inline Tensor integers(Dims dims, std::initializer_list<int64_t> values, DType dtype = DType::i64) {
  Tensor t(dtype, std::move(dims));
  int64_t i = 0;
  for (int64_t v : values) t.set_integer(i++, v);
  return t;
}

inline Tensor list(std::initializer_list<int64_t> values) {
  return integers({static_cast<int64_t>(values.size())}, values);
}

inline Tensor texts(Dims dims, std::initializer_list<const char*> values) {
  Tensor t(DType::string, std::move(dims));
  size_t i = 0;
  for (const char* v : values) t.strings()[i++] = v;
  return t;
}

// 0, 1, 2, ...
inline Tensor counting(Dims dims, DType dtype = DType::f32) {
  Tensor t(dtype, std::move(dims));
  for (int64_t i = 0; i < t.count(); ++i) t.set_integer(i, i);
  return t;
}

using Operands = std::vector<std::optional<Tensor>>;

inline std::vector<Tensor> evaluate(std::string_view name, Attrs attrs, const Operands& operands, size_t outputs = 1) {
  const Op& op = op_named(name);
  if (attrs.empty() && op.fields) attrs = Attrs::defaults(op.fields());
  std::vector<Box> boxes;
  for (const auto& t : operands) boxes.push_back(t ? Box(*t) : Box());
  std::vector<const Box*> pointers;
  for (size_t i = 0; i < boxes.size(); ++i) pointers.push_back(operands[i] ? &boxes[i] : nullptr);
  std::vector<Tensor> out;
  for (Box& box : evaluate_op(op, attrs, pointers, outputs)) out.push_back(std::move(box.tensor));
  return out;
}

inline void expect_values(const Tensor& t, const Dims& dims, const std::vector<double>& values) {
  EXPECT_EQ(t.dims(), dims);
  ASSERT_EQ(static_cast<size_t>(t.count()), values.size());
  for (size_t i = 0; i < values.size(); ++i) {
    if (values[i] != values[i])
      EXPECT_NE(t.get_real(static_cast<int64_t>(i)), t.get_real(static_cast<int64_t>(i))) << "element " << i;
    else
      EXPECT_EQ(t.get_real(static_cast<int64_t>(i)), values[i]) << "element " << i;
  }
}

inline Code error_of(std::string_view name, Attrs attrs, const Operands& operands, size_t outputs = 1) {
  try {
    evaluate(name, std::move(attrs), operands, outputs);
  } catch (const Error& error) {
    return error.code();
  }
  return Code::ok;
}

// Root mean square of the error over that of what is wanted.
inline double relative_error(const std::vector<float>& got, const std::vector<double>& want) {
  double error = 0, size = 0;
  for (size_t i = 0; i < got.size(); ++i) {
    error += (got[i] - want[i]) * (got[i] - want[i]);
    size += want[i] * want[i];
  }
  return std::sqrt(error / size);
}

// A graph to infer in, with symbols by name.
class Inference {
 public:
  Inference() : b(module, *module.main) {}
  Dim symbol(std::string name) { return Dim::symbol(module.symbols.add({.name = std::move(name)})); }
  ValueId input(DType dtype, Shape shape) { return b.input(Type::tensor(dtype, std::move(shape))); }
  std::string text(ValueId v) const { return to_text(b.type(v), module.symbols); }
  // The same with Dims as known contents.
  std::string contents(ValueId v) const {
    std::string out;
    const auto dims = b.integers_of(v);
    if (!dims) return "unknown";
    for (const Dim& d : *dims) out += (out.empty() ? "" : ", ") + to_string(d, module.symbols);
    return out;
  }

  Module module;
  GraphBuilder b;
};

}  // namespace sinter::testing
