// Einsum: products of operands summed over labels that the result does not have.
//
// Operands are contracted from left to right; each pair becomes a batched matrix product over its shared labels.

#include "ops/einsum.h"

#include <fmt/core.h>

#include <algorithm>
#include <array>
#include <map>

#include "base/checked.h"
#include "ops/arrays.h"
#include "ops/contraction.h"
#include "ops/convolution.h"

namespace sinter {
namespace {

using Labels = std::vector<int>;  // letters are their characters; axes of "..." count down from -1, the last axis

struct Equation {
  std::vector<Labels> operands;
  Labels result;
};

bool contains(const Labels& labels, int label) {
  return std::find(labels.begin(), labels.end(), label) != labels.end();
}

struct Term {
  std::string before, after;
  bool ellipsis = false;
};

// fail: takes a message and throws.
template <typename Fail>
Term parse_term(std::string_view text, Fail fail) {
  Term term;
  for (size_t i = 0; i < text.size(); ++i) {
    const char ch = text[i];
    if (ch == ' ') continue;
    if (ch == '.') {
      if (term.ellipsis || text.substr(i, 3) != "...") fail(fmt::format("'{}' has a misplaced '.'", text));
      term.ellipsis = true;
      i += 2;
    } else if ((ch >= 'a' && ch <= 'z') || (ch >= 'A' && ch <= 'Z')) {
      (term.ellipsis ? term.after : term.before) += ch;
    } else {
      fail(fmt::format("'{}' contains '{}', labels are letters", text, ch));
    }
  }
  return term;
}

template <typename Fail>
Equation parse_equation(std::string_view text, std::span<const size_t> ranks, Fail fail) {
  const size_t arrow = text.find("->");
  std::string_view left = text.substr(0, arrow);
  std::vector<Term> terms;
  for (;;) {
    const size_t comma = left.find(',');
    terms.push_back(parse_term(left.substr(0, comma), fail));
    if (comma == std::string_view::npos) break;
    left.remove_prefix(comma + 1);
  }
  if (terms.size() != ranks.size())
    fail(fmt::format("the equation '{}' has {} operands, {} are given", text, terms.size(), ranks.size()));
  Equation equation;
  size_t longest = 0;
  for (size_t i = 0; i < terms.size(); ++i) {
    const size_t letters = terms[i].before.size() + terms[i].after.size();
    if (ranks[i] < letters || (!terms[i].ellipsis && ranks[i] != letters))
      fail(fmt::format("operand {} of '{}' has rank {}", i, text, ranks[i]));
    const size_t hidden = ranks[i] - letters;
    longest = std::max(longest, hidden);
    Labels labels(terms[i].before.begin(), terms[i].before.end());
    for (size_t k = 0; k < hidden; ++k) labels.push_back(-static_cast<int>(hidden - k));
    labels.insert(labels.end(), terms[i].after.begin(), terms[i].after.end());
    equation.operands.push_back(std::move(labels));
  }
  const auto append_hidden = [&] {
    for (size_t k = 0; k < longest; ++k) equation.result.push_back(-static_cast<int>(longest - k));
  };
  if (arrow != std::string_view::npos) {
    const Term term = parse_term(text.substr(arrow + 2), fail);
    equation.result.assign(term.before.begin(), term.before.end());
    if (term.ellipsis) append_hidden();
    equation.result.insert(equation.result.end(), term.after.begin(), term.after.end());
    for (size_t k = 0; k < equation.result.size(); ++k) {
      const int label = equation.result[k];
      if (std::count(equation.result.begin(), equation.result.end(), label) > 1)
        fail(fmt::format("the result of '{}' repeats a label", text));
      if (std::none_of(equation.operands.begin(), equation.operands.end(),
                       [&](const Labels& l) { return contains(l, label); }))
        fail(fmt::format("a label of the result of '{}' is in no operand", text));
    }
  } else {
    append_hidden();
    std::map<int, int> counts;
    for (const Labels& labels : equation.operands)
      for (int label : labels)
        if (label > 0) ++counts[label];
    for (const auto& [label, count] : counts)
      if (count == 1) equation.result.push_back(label);
  }
  return equation;
}

template <typename T>
struct Factor {
  Labels labels;
  Dims dims;
  std::vector<T> data;
};

// The factor with exactly these labels in this order; labels left out are summed.
template <typename T>
Factor<T> arrange(const Factor<T>& f, const Labels& order) {
  if (f.labels == order) return f;
  Factor<T> out;
  out.labels = order;
  const std::vector<int64_t> strides = dense_strides(f.dims);
  Dims all;
  std::vector<int64_t> from, to;
  for (int label : order) {
    const size_t k = static_cast<size_t>(std::find(f.labels.begin(), f.labels.end(), label) - f.labels.begin());
    out.dims.push_back(f.dims[k]);
    all.push_back(f.dims[k]);
    from.push_back(strides[k]);
  }
  to = dense_strides(out.dims);
  for (size_t k = 0; k < f.labels.size(); ++k) {
    if (contains(order, f.labels[k])) continue;
    all.push_back(f.dims[k]);
    from.push_back(strides[k]);
    to.push_back(0);
  }
  out.data.assign(static_cast<size_t>(element_count(out.dims)), T{});
  if (f.data.empty()) return out;
  std::vector<int64_t> at(all.size(), 0);
  do {
    int64_t a = 0, b = 0;
    for (size_t k = 0; k < all.size(); ++k) {
      a += at[k] * from[k];
      b += at[k] * to[k];
    }
    out.data[static_cast<size_t>(b)] += f.data[static_cast<size_t>(a)];
  } while (next_position(at, all));
  return out;
}

// The operand with repeated labels made one (its diagonal) and axes that broadcast left out.
template <typename T>
Factor<T> factor_of(const Tensor& tensor, const Labels& labels, const std::map<int, int64_t>& extents) {
  Factor<T> out;
  std::vector<int64_t> steps;
  const std::vector<int64_t> strides = dense_strides(tensor.dims());
  for (size_t k = 0; k < labels.size(); ++k) {
    const int64_t extent = extents.at(labels[k]);
    if (tensor.dims()[k] != extent) continue;  // 1: the same for all
    const size_t known =
        static_cast<size_t>(std::find(out.labels.begin(), out.labels.end(), labels[k]) - out.labels.begin());
    if (known < out.labels.size()) {
      steps[known] += strides[k];
      continue;
    }
    out.labels.push_back(labels[k]);
    out.dims.push_back(extent);
    steps.push_back(strides[k]);
  }
  const std::vector<T> all = numbers_of<T>(tensor);
  const int64_t count = element_count(out.dims);
  out.data.reserve(static_cast<size_t>(count));
  if (count == 0) return out;
  std::vector<int64_t> at(out.dims.size(), 0);
  do {
    int64_t from = 0;
    for (size_t k = 0; k < at.size(); ++k) from += at[k] * steps[k];
    out.data.push_back(all[static_cast<size_t>(from)]);
  } while (next_position(at, out.dims));
  return out;
}

template <typename T>
Factor<T> contract(const Factor<T>& x, const Factor<T>& y, const Labels& needed) {
  Labels batch, rows, sums, columns;
  for (int label : x.labels) {
    const bool shared = contains(y.labels, label), kept = contains(needed, label);
    if (shared)
      (kept ? batch : sums).push_back(label);
    else if (kept)
      rows.push_back(label);
  }
  for (int label : y.labels)
    if (!contains(x.labels, label) && contains(needed, label)) columns.push_back(label);
  const auto joined = [](std::initializer_list<const Labels*> parts) {
    Labels out;
    for (const Labels* p : parts) out.insert(out.end(), p->begin(), p->end());
    return out;
  };
  const Factor<T> a = arrange(x, joined({&batch, &rows, &sums})), b = arrange(y, joined({&batch, &sums, &columns}));
  const auto product = [](const Dims& dims, size_t from, size_t count) {
    return element_count(std::span(dims).subspan(from, count));
  };
  const int64_t batches = product(a.dims, 0, batch.size()), m = product(a.dims, batch.size(), rows.size());
  const int64_t depth = product(b.dims, batch.size(), sums.size());
  const int64_t n = product(b.dims, batch.size() + sums.size(), columns.size());
  Factor<T> out;
  out.labels = joined({&batch, &rows, &columns});
  out.dims.assign(a.dims.begin(), a.dims.begin() + std::ssize(batch) + std::ssize(rows));
  out.dims.insert(out.dims.end(), b.dims.end() - std::ssize(columns), b.dims.end());
  out.data.assign(static_cast<size_t>(element_count(out.dims)), T{});
  if (out.data.empty()) return out;
  for (int64_t i = 0; i < batches; ++i) {
    const T* left = a.data.data() + i * m * depth;
    const T* right = b.data.data() + i * depth * n;
    T* to = out.data.data() + i * m * n;
    const LeftFactor<T> packed(m, depth, [&](int64_t r, T* line) { std::copy_n(left + r * depth, depth, line); });
    multiply(
        packed, n,
        [&](int64_t k, int64_t column, int64_t count, T* line) { std::copy_n(right + k * n + column, count, line); },
        [&](int64_t r, int64_t column, int64_t count, const T* values) {
          std::copy_n(values, count, to + r * n + column);
        });
  }
  return out;
}

template <typename T>
void evaluate(EvalContext& c) {
  std::vector<size_t> ranks;
  for (size_t i = 0; i < c.inputs(); ++i) ranks.push_back(c.in(i).rank());
  const Equation equation =
      parse_equation(c.attrs<EinsumAttrs>().equation, ranks, [&](std::string message) { c.fail(std::move(message)); });
  std::map<int, int64_t> extents;
  for (size_t i = 0; i < c.inputs(); ++i)
    for (size_t k = 0; k < ranks[i]; ++k) {
      const int64_t extent = c.in(i).dims()[k];
      const auto [at, added] = extents.emplace(equation.operands[i][k], extent);
      if (!added && at->second == 1) at->second = extent;
    }
  const auto needed_after = [&](size_t i) {
    Labels needed = equation.result;
    for (size_t k = i + 1; k < c.inputs(); ++k)
      needed.insert(needed.end(), equation.operands[k].begin(), equation.operands[k].end());
    return needed;
  };
  Factor<T> product = factor_of<T>(c.in(0), equation.operands[0], extents);
  for (size_t i = 1; i < c.inputs(); ++i)
    product = contract(product, factor_of<T>(c.in(i), equation.operands[i], extents), needed_after(i));
  product = arrange(product, equation.result);
  Tensor& y = c.out(0);
  write_numbers(y, 0, y.count(), product.data.data());
}

}  // namespace

void infer_einsum(InferContext& c) {
  const DType dtype = c.dtype(0);
  c.set(0, dtype);
  for (size_t i = 0; i < c.inputs(); ++i) check_dtypes(c, {i});
  std::vector<size_t> ranks;
  for (size_t i = 0; i < c.inputs(); ++i) ranks.push_back(c.rank(i));
  const Equation equation =
      parse_equation(c.attrs<EinsumAttrs>().equation, ranks, [&](std::string message) { c.fail(std::move(message)); });
  std::map<int, Dim> extents;
  for (size_t i = 0; i < c.inputs(); ++i)
    for (size_t k = 0; k < ranks[i]; ++k) {
      const Dim& extent = c.shape(i)[k];
      const auto [at, added] = extents.emplace(equation.operands[i][k], extent);
      if (!added) at->second = c.broadcast({at->second}, {extent})[0];
    }
  Shape out;
  for (int label : equation.result) out.push_back(extents.at(label));
  c.set(0, dtype, std::move(out));
}

void eval_einsum(EvalContext& c) {
  if (is_float(c.in(0).dtype()))
    evaluate<double>(c);
  else
    evaluate<uint64_t>(c);
}

}  // namespace sinter
