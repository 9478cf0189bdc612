#include <fmt/core.h>

#include "frontends/onnx/ml.h"
#include "ops/selection.h"

namespace sinter::onnx {

using wiring::like;

PostTransform post_transform(NodeContext& c) {
  const std::string name = c.string("post_transform", "NONE");
  constexpr std::string_view names[] = {"NONE", "SOFTMAX", "LOGISTIC", "SOFTMAX_ZERO", "PROBIT"};
  for (size_t i = 0; i < std::size(names); ++i)
    if (name == names[i]) return static_cast<PostTransform>(i);
  c.fail(fmt::format("post_transform '{}' is none of NONE, SOFTMAX, LOGISTIC, SOFTMAX_ZERO, PROBIT", name));
}

namespace {

// Softmax in which scores of 0 stay (next to) 0; rows that sum to 0 become 0.5.
ValueId softmax_zero(GraphBuilder& b, ValueId x) {
  const ValueId highest = wiring::reduce(b, "Max", x, {1});
  const ValueId zero = b.op("LessOrEqual", {b.op("Abs", {x}), like(b, x, 1e-7)});
  const ValueId small = wiring::mul(b, x, b.op("Exp", {b.op("Neg", {highest})}));
  const ValueId powers = wiring::where(b, zero, small, b.op("Exp", {wiring::sub(b, x, highest)}));
  const ValueId sum = wiring::reduce(b, "Sum", powers, {1});
  const ValueId nothing = b.op("Equal", {sum, like(b, x, 0)});
  return wiring::where(b, nothing, like(b, x, 0.5), wiring::div(b, powers, sum));
}

// sqrt(2) times the inverse error function of 2x - 1, by the approximation that the domain's reference uses.
ValueId probit(GraphBuilder& b, ValueId x) {
  const ValueId y = wiring::sub(b, wiring::mul(b, x, like(b, x, 2)), like(b, x, 1));
  const ValueId log = b.op("Log", {wiring::mul(b, wiring::sub(b, like(b, x, 1), y), wiring::add(b, y, like(b, x, 1)))});
  const ValueId v =
      wiring::add(b, wiring::mul(b, log, like(b, x, 0.5)), like(b, x, 2 / (3.14159265358979323846 * 0.147)));
  const ValueId inner = wiring::sub(b, wiring::mul(b, v, v), wiring::mul(b, log, like(b, x, 1 / 0.147)));
  const ValueId root = b.op("Sqrt", {wiring::sub(b, b.op("Sqrt", {inner}), v)});
  const ValueId sign =
      wiring::where(b, b.op("Less", {y, like(b, x, 0)}), like(b, x, -1.41421356), like(b, x, 1.41421356));
  return wiring::mul(b, sign, root);
}

}  // namespace

ValueId transformed(GraphBuilder& b, ValueId scores, PostTransform how) {
  switch (how) {
    case PostTransform::none: return scores;
    case PostTransform::softmax: return wiring::softmax(b, scores, 1);
    case PostTransform::logistic: return b.op("Sigmoid", {scores});
    case PostTransform::softmax_zero: return softmax_zero(b, scores);
    case PostTransform::probit: return probit(b, scores);
  }
  return scores;
}

Labels labels_of(NodeContext& c, std::string_view integers, std::string_view strings) {
  const std::vector<std::string> names = c.strings(strings);
  const std::vector<int64_t> numbers = c.integers(integers);
  if (!names.empty() && !numbers.empty()) c.fail("labels are given as integers and as strings");
  if (!numbers.empty()) return {c.b.integers(numbers), static_cast<int64_t>(numbers.size())};
  if (names.empty()) return {};
  Tensor t(DType::string, {static_cast<int64_t>(names.size())});
  for (size_t i = 0; i < names.size(); ++i) t.strings()[i] = names[i];
  return {c.b.constant(std::move(t)), static_cast<int64_t>(names.size())};
}

ValueId label_at(GraphBuilder& b, const Labels& labels, ValueId highest) {
  return labels.count == 0 ? highest : wiring::gather(b, labels.values, highest, 0);
}

ValueId binary_label(GraphBuilder& b, const Labels& labels, ValueId positive) {
  const ValueId number = wiring::cast(b, positive, DType::i64);
  if (labels.count != 1) return label_at(b, labels, number);
  const Tensor& only = *b.constant_of(labels.values);
  Tensor both(only.dtype(), {2});
  if (only.dtype() == DType::string)
    both.strings()[1] = only.strings()[0];
  else
    both.set_integer(1, only.get_integer(0));
  return wiring::gather(b, b.constant(std::move(both)), number, 0);
}

ValueId highest_column(GraphBuilder& b, ValueId scores) {
  return b.op("ArgMax", ArgAttrs{.axis = 1, .keep_dims = false}, {scores});
}

ValueId float_rows(NodeContext& c) {
  const DType dtype = c.b.dtype(c.in(0));
  const size_t rank = c.b.rank(c.in(0));
  if (rank < 1 || rank > 2) c.fail(fmt::format("operand 0 has rank {}, it must be 1 or 2", rank));
  if (!is_float(dtype) && !is_integer(dtype))
    c.fail(fmt::format("operand 0 is {}, it must hold numbers", dtype_name(dtype)));
  const ValueId x = dtype == DType::f64 ? c.in(0) : wiring::cast(c.b, c.in(0), DType::f32);
  return rank == 1 ? wiring::unsqueeze(c.b, x, {0}) : x;
}

ValueId numbers_like(GraphBuilder& b, ValueId x, const std::vector<double>& values, Dims dims) {
  Tensor t(b.dtype(x), std::move(dims));
  for (int64_t i = 0; i < t.count() && i < static_cast<int64_t>(values.size()); ++i)
    t.set_real(i, values[static_cast<size_t>(i)]);
  return b.constant(std::move(t));
}

}  // namespace sinter::onnx
