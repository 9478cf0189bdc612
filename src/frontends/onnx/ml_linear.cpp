// Linear models and support vector machines, wired from contractions.

#include <fmt/format.h>

#include <algorithm>
#include <numeric>

#include "base/checked.h"
#include "frontends/onnx/ml.h"
#include "ops/labels.h"

namespace sinter::onnx {
namespace {

// x times the transpose of coefficients [outputs, features].
ValueId product(NodeContext& c, ValueId x, const std::vector<double>& coefficients, int64_t outputs) {
  const auto n = static_cast<int64_t>(coefficients.size());
  if (outputs < 1 || n % outputs != 0) c.fail(fmt::format("{} coefficients for {} results", n, outputs));
  return wiring::matmul(c.b, x, numbers_like(c.b, x, coefficients, {outputs, n / outputs}), true);
}

ValueId plus(GraphBuilder& b, ValueId x, const std::vector<double>& values) {
  if (values.empty()) return x;
  return wiring::add(b, x, numbers_like(b, x, values, {1, static_cast<int64_t>(values.size())}));
}

// One score as the scores of two classes.
ValueId both_sides(GraphBuilder& b, ValueId score) { return wiring::concat(b, {b.op("Neg", {score}), score}, 1); }

struct SvmKernel {
  enum class Kind : uint8_t { linear, poly, rbf, sigmoid } kind = Kind::linear;
  double gamma = 0, offset = 0, degree = 0;
};

SvmKernel kernel_of(NodeContext& c) {
  const std::string name = c.string("kernel_type", "LINEAR");
  SvmKernel k;
  if (name == "POLY")
    k.kind = SvmKernel::Kind::poly;
  else if (name == "RBF")
    k.kind = SvmKernel::Kind::rbf;
  else if (name == "SIGMOID")
    k.kind = SvmKernel::Kind::sigmoid;
  else if (name != "LINEAR")
    c.fail(fmt::format("kernel_type '{}' is none of LINEAR, POLY, RBF, SIGMOID", name));
  const std::vector<double> p = c.reals("kernel_params");
  if (p.empty()) return k;
  if (p.size() != 3) c.fail(fmt::format("kernel_params has {} numbers, three are needed", p.size()));
  k.gamma = p[0];
  k.offset = p[1];
  k.degree = p[2];
  return k;
}

// The kernel's value of each row of x with each support vector.
ValueId kernel_values(NodeContext& c, ValueId x, const SvmKernel& k, const std::vector<double>& vectors,
                      int64_t count) {
  GraphBuilder& b = c.b;
  using wiring::like;
  if (k.kind == SvmKernel::Kind::rbf) {
    const auto n = static_cast<int64_t>(vectors.size());
    if (count < 1 || n % count != 0) c.fail(fmt::format("{} numbers for {} support vectors", n, count));
    // Differences and not products: what is close together must not cancel.
    const ValueId apart =
        wiring::sub(b, wiring::unsqueeze(b, x, {1}), numbers_like(b, x, vectors, {1, count, n / count}));
    const ValueId distance = wiring::reduce(b, "Sum", wiring::mul(b, apart, apart), {2}, false);
    return b.op("Exp", {wiring::mul(b, distance, like(b, x, -k.gamma))});
  }
  const ValueId dot = product(c, x, vectors, count);
  if (k.kind == SvmKernel::Kind::linear) return dot;
  const ValueId scaled = wiring::add(b, wiring::mul(b, dot, like(b, x, k.gamma)), like(b, x, k.offset));
  if (k.kind == SvmKernel::Kind::sigmoid) return b.op("Tanh", {scaled});
  return b.op("Pow", {scaled, like(b, x, k.degree)});
}

}  // namespace

void import_linear_regressor(NodeContext& c) {
  const int64_t targets = c.integer("targets", 1);
  const ValueId x = float_rows(c);
  const std::vector<double> intercepts = c.reals("intercepts");
  if (!intercepts.empty() && static_cast<int64_t>(intercepts.size()) != targets)
    c.fail(fmt::format("{} intercepts for {} targets", intercepts.size(), targets));
  const ValueId y = plus(c.b, product(c, x, c.reals("coefficients"), targets), intercepts);
  c.out(0, wiring::cast(c.b, transformed(c.b, y, post_transform(c)), DType::f32));
}

void import_linear_classifier(NodeContext& c) {
  const Labels labels = labels_of(c, "classlabels_ints", "classlabels_strings");
  const ValueId x = float_rows(c);
  const std::vector<double> coefficients = c.reals("coefficients"), intercepts = c.reals("intercepts");
  int64_t outputs = static_cast<int64_t>(intercepts.size());
  if (outputs == 0) {
    const auto features = c.b.shape(x)[1].as_constant();
    outputs = features && *features > 0 ? static_cast<int64_t>(coefficients.size()) / *features
                                        : std::max<int64_t>(labels.count, 1);
  }
  GraphBuilder& b = c.b;
  ValueId scores = plus(b, product(c, x, coefficients, outputs), intercepts);
  const PostTransform how = post_transform(c);
  if (outputs == 1 && labels.count != 2) {
    scores = transformed(b, scores, how);
    const ValueId least = wiring::like(b, scores, how == PostTransform::none ? 0 : 0.5);
    c.out(0, binary_label(b, labels, wiring::squeeze(b, b.op("LessOrEqual", {least, scores}), {1})));
  } else {
    if (labels.count != 0 && labels.count != std::max<int64_t>(outputs, 2))
      c.fail(fmt::format("{} labels for {} scores", labels.count, outputs));
    scores = transformed(b, outputs == 1 ? both_sides(b, scores) : scores, how);
    c.out(0, label_at(b, labels, highest_column(b, scores)));
  }
  c.out(1, wiring::cast(b, scores, DType::f32));
}

void import_svm_regressor(NodeContext& c) {
  const ValueId x = float_rows(c);
  const int64_t supports = c.integer("n_supports", 0);
  const std::vector<double> coefficients = c.reals("coefficients"), rho = c.reals("rho");
  if (supports < 0) c.fail(fmt::format("n_supports is {}", supports));
  if (rho.size() > 1) c.fail(fmt::format("rho has {} numbers for one result", rho.size()));
  GraphBuilder& b = c.b;
  ValueId y = x;
  if (supports > 0) {
    if (static_cast<int64_t>(coefficients.size()) != supports)
      c.fail(fmt::format("{} coefficients for {} support vectors", coefficients.size(), supports));
    y = kernel_values(c, x, kernel_of(c), c.reals("support_vectors"), supports);
  }
  y = plus(b, product(c, y, coefficients, 1), rho);
  if (c.integer("one_class", 0) != 0)
    y = wiring::where(b, b.op("Less", {wiring::like(b, y, 0), y}), wiring::like(b, y, 1), wiring::like(b, y, -1));
  c.out(0, wiring::cast(b, transformed(b, y, post_transform(c)), DType::f32));
}

namespace {

// Every pair of classes has a weight for every vector: hundreds for one number of the file.
constexpr int64_t max_pair_weights = int64_t{1} << 26;

// Scores of every pair of classes (i, j), i < j, from the kernel values of all support vectors: vectors of class i
// count with row j - 1 of the coefficients, those of class j with row i.
std::vector<double> pair_weights(NodeContext& c, const std::vector<double>& coefficients,
                                 const std::vector<int64_t>& per_class, int64_t vectors) {
  const auto classes = static_cast<int64_t>(per_class.size()), pairs = classes * (classes - 1) / 2;
  if (static_cast<int64_t>(coefficients.size()) != checked_mul(classes - 1, vectors))
    c.fail(fmt::format("{} coefficients for {} support vectors of {} classes", coefficients.size(), vectors, classes));
  std::vector<int64_t> start(per_class.size() + 1, 0);
  std::partial_sum(per_class.begin(), per_class.end(), start.begin() + 1);
  const int64_t size = checked_mul(pairs, vectors);
  if (size > max_pair_weights)
    c.fail(
        fmt::format("{} support vectors of {} classes give more than {} weights", vectors, classes, max_pair_weights));
  std::vector<double> out(static_cast<size_t>(size), 0.0);
  size_t pair = 0;
  for (int64_t i = 0; i < classes; ++i)
    for (int64_t j = i + 1; j < classes; ++j, ++pair) {
      const auto copy = [&](int64_t of, int64_t row) {
        for (int64_t v = start[static_cast<size_t>(of)]; v < start[static_cast<size_t>(of) + 1]; ++v)
          out[pair * static_cast<size_t>(vectors) + static_cast<size_t>(v)] =
              coefficients[static_cast<size_t>(row * vectors + v)];
      };
      copy(i, j - 1);
      copy(j, i);
    }
  return out;
}

// Which class wins most pairs: a pair's score above 0 is a vote for its first class, else for its second.
ValueId most_votes(GraphBuilder& b, ValueId scores, int64_t classes) {
  const int64_t pairs = classes * (classes - 1) / 2;
  std::vector<double> difference(static_cast<size_t>(pairs * classes), 0.0), lost(static_cast<size_t>(classes), 0.0);
  int64_t pair = 0;
  for (int64_t i = 0; i < classes; ++i)
    for (int64_t j = i + 1; j < classes; ++j, ++pair) {
      difference[static_cast<size_t>(pair * classes + i)] = 1;
      difference[static_cast<size_t>(pair * classes + j)] = -1;
      lost[static_cast<size_t>(j)] += 1;
    }
  const ValueId won = wiring::cast(b, b.op("Less", {wiring::like(b, scores, 0), scores}), b.dtype(scores));
  const ValueId votes = wiring::matmul(b, won, numbers_like(b, scores, difference, {pairs, classes}));
  return highest_column(b, plus(b, votes, lost));
}

}  // namespace

void import_svm_classifier(NodeContext& c) {
  const Labels labels = labels_of(c, "classlabels_ints", "classlabels_strings");
  const ValueId x = float_rows(c);
  const std::vector<int64_t> per_class = c.integers("vectors_per_class");
  const std::vector<double> coefficients = c.reals("coefficients"), rho = c.reals("rho");
  const std::vector<double> prob_a = c.reals("prob_a"), prob_b = c.reals("prob_b");
  const PostTransform how = post_transform(c);
  constexpr int64_t most_classes = 1000;
  const int64_t classes = std::max<int64_t>(labels.count, 1);
  if (rho.empty()) c.fail("attribute 'rho' is missing");
  if (classes > most_classes) c.fail(fmt::format("{} classes, at most {}", classes, most_classes));
  GraphBuilder& b = c.b;
  int64_t vectors = 0;
  for (const int64_t n : per_class) {
    if (n < 0) c.fail(fmt::format("vectors_per_class has {}", n));
    vectors = checked_add(vectors, n, "number of support vectors");
  }
  ValueId scores = no_id, highest = no_id;
  if (vectors == 0) {
    scores = plus(b, product(c, x, coefficients, classes), {rho[0]});
    highest = classes > 1 ? highest_column(b, scores)
                          : wiring::cast(b, wiring::squeeze(b, b.op("Less", {wiring::like(b, scores, 0), scores}), {1}),
                                         DType::i64);
  } else {
    const int64_t pairs = classes * (classes - 1) / 2;
    if (classes < 2 || static_cast<int64_t>(per_class.size()) != classes)
      c.fail(fmt::format("support vectors of {} classes for {} labels", per_class.size(), labels.count));
    if (static_cast<int64_t>(rho.size()) != pairs)
      c.fail(fmt::format("rho has {} numbers, there are {} pairs of classes", rho.size(), pairs));
    const ValueId values = kernel_values(c, x, kernel_of(c), c.reals("support_vectors"), vectors);
    scores = plus(b, product(c, values, pair_weights(c, coefficients, per_class, vectors), pairs), rho);
    highest = most_votes(b, scores, classes);
    if (!prob_a.empty()) {
      if (static_cast<int64_t>(prob_a.size()) != pairs || prob_b.size() != prob_a.size())
        c.fail(fmt::format("prob_a has {}, prob_b has {} numbers for {} pairs", prob_a.size(), prob_b.size(), pairs));
      const ValueId line = plus(b, wiring::mul(b, scores, numbers_like(b, scores, prob_a, {1, pairs})), prob_b);
      const ValueId p =
          wiring::pointwise(b, "Clip", {{"low", 1e-7}, {"high", 1 - 1e-7}}, b.op("Sigmoid", {b.op("Neg", {line})}));
      scores = b.op("ClassProbabilities", ClassProbabilitiesAttrs{.classes = classes}, {p});
    } else if (classes == 2) {
      scores = both_sides(b, scores);
    }
  }
  c.out(0, classes > 1 ? label_at(b, labels, highest) : binary_label(b, labels, highest));
  c.out(1, wiring::cast(b, transformed(b, scores, how), DType::f32));
}

}  // namespace sinter::onnx
