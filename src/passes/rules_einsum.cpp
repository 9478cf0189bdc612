// Einsum as products of matrices, reductions and transposes. Diagonals (a letter twice in one operand) and extents that
// are not provably equal under one letter keep their Einsum.

#include <algorithm>

#include "ops/contraction.h"
#include "ops/movement.h"
#include "ops/reduction.h"
#include "passes/rules.h"

namespace sinter {
namespace {

constexpr Rule einsum_rule = {"write Einsum as products", Effect::reassociates};

using Letters = std::string;

struct Equation {
  std::vector<Letters> operands;
  Letters result;
};

bool contains(const Letters& letters, char letter) { return letters.find(letter) != Letters::npos; }

Letters both(const Letters& a, const Letters& b) {
  Letters out;
  for (char letter : a)
    if (contains(b, letter)) out += letter;
  return out;
}

Letters without(const Letters& a, const Letters& b) {
  Letters out;
  for (char letter : a)
    if (!contains(b, letter)) out += letter;
  return out;
}

// The equation over operands of these ranks; axes of an ellipsis become '0', '1', ... None when it has another form.
std::optional<Equation> parse(std::string text, std::span<const size_t> ranks) {
  std::erase(text, ' ');
  const size_t arrow = text.find("->");
  std::string left = text.substr(0, arrow);
  std::vector<std::string> terms;
  for (size_t at = 0; at != std::string::npos;) {
    const size_t comma = left.find(',', at);
    terms.push_back(left.substr(at, comma == std::string::npos ? comma : comma - at));
    at = comma == std::string::npos ? comma : comma + 1;
  }
  if (terms.size() != ranks.size()) return std::nullopt;
  constexpr size_t most = 16;
  size_t widest = 0;
  const auto spread = [](const std::string& term) { return term.find("..."); };
  for (size_t i = 0; i < terms.size(); ++i)
    if (spread(terms[i]) != std::string::npos) {
      if (terms[i].size() - 3 > ranks[i]) return std::nullopt;
      widest = std::max(widest, ranks[i] - (terms[i].size() - 3));
    }
  if (widest > most) return std::nullopt;
  const auto dots = [&](size_t count) {
    Letters out;
    for (size_t k = widest - count; k < widest; ++k) out += static_cast<char>('0' + k);
    return out;
  };
  const auto is_term = [](const Letters& letters, bool expanded) {
    for (size_t k = 0; k < letters.size(); ++k) {
      const char c = letters[k];
      const bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
      if (!letter && !(expanded && c >= '0' && c < '0' + static_cast<char>(most))) return false;
      if (letters.find(c, k + 1) != Letters::npos) return false;
    }
    return true;
  };
  Equation out;
  for (size_t i = 0; i < terms.size(); ++i) {
    std::string term = terms[i];
    if (const size_t at = spread(term); at != std::string::npos) term.replace(at, 3, dots(ranks[i] + 3 - term.size()));
    if (term.size() != ranks[i] || !is_term(term, true)) return std::nullopt;
    out.operands.push_back(std::move(term));
  }
  if (arrow == std::string::npos) {
    Letters all, once;
    for (const Letters& letters : out.operands) all += letters;
    for (char c : all)
      if (std::count(all.begin(), all.end(), c) == 1 && !(c >= '0' && c < '0' + static_cast<char>(most))) once += c;
    std::sort(once.begin(), once.end());
    out.result = dots(widest) + once;
  } else {
    out.result = text.substr(arrow + 2);
    if (const size_t at = spread(out.result); at != std::string::npos) out.result.replace(at, 3, dots(widest));
  }
  return is_term(out.result, true) ? std::optional(out) : std::nullopt;
}

struct Term {
  ValueId value;
  Letters letters;
};

class Products {
 public:
  Products(Site& site, std::map<char, Dim> extents) : site_(site), extents_(std::move(extents)) {}

  // Sums over letters that are not kept.
  Term summed(const Term& t, const Letters& kept) {
    std::vector<int64_t> axes;
    for (size_t k = 0; k < t.letters.size(); ++k)
      if (!contains(kept, t.letters[k])) axes.push_back(static_cast<int64_t>(k));
    if (axes.empty()) return t;
    GraphBuilder& b = site_.rw.build;
    return {b.op("ReduceSum", ReduceAttrs{.keep_dims = false}, {t.value, b.integers(axes)}), both(t.letters, kept)};
  }

  Term ordered(const Term& t, const Letters& order) {
    if (t.letters == order) return t;
    std::vector<int64_t> perm;
    for (char letter : order) perm.push_back(static_cast<int64_t>(t.letters.find(letter)));
    return {site_.rw.build.op("Transpose", TransposeAttrs{perm}, {t.value}), order};
  }

  Term times(Term x, Term y, const Letters& kept) {
    const Letters shared = both(x.letters, y.letters);
    x = summed(x, kept + y.letters);
    y = summed(y, kept + x.letters);
    const Letters batch = both(shared, kept), depth = without(shared, kept);
    const Letters rows = without(x.letters, shared), columns = without(y.letters, shared);
    // The last axis of the right factor stays the last.
    const bool transposed = columns.empty() || (!depth.empty() && contains(depth, y.letters.back()));
    x = ordered(x, batch + rows + depth);
    y = ordered(y, transposed ? batch + columns + depth : batch + depth + columns);
    GraphBuilder& b = site_.rw.build;
    const Dim m = count(rows), n = count(columns), k = count(depth);
    const ValueId left = merged(x.value, batch, {m, k});
    const ValueId right = merged(y.value, batch, transposed ? Shape{n, k} : Shape{k, n});
    ValueId product;
    if (depth.empty())
      product = b.op("Mul", {left, transposed ? merged(y.value, batch, {k, n}) : right});
    else
      product = b.op("MatMul", MatMulAttrs{.transpose_b = transposed}, {left, right});
    const Letters made = batch + rows + columns;
    Shape shape;
    for (char letter : made) shape.push_back(extents_.at(letter));
    return {site_.reshape(product, shape), made};
  }

 private:
  Dim count(const Letters& letters) const {
    Dim n = 1;
    for (char letter : letters) n = n * extents_.at(letter);
    return n;
  }
  ValueId merged(ValueId v, const Letters& batch, Shape matrix) {
    Shape shape;
    for (char letter : batch) shape.push_back(extents_.at(letter));
    shape.insert(shape.end(), matrix.begin(), matrix.end());
    return site_.reshape(v, shape);
  }

  Site& site_;
  std::map<char, Dim> extents_;
};

bool einsum(Site& site, NodeId n) {
  const size_t operands = site.graph.nodes[n].inputs.size();
  std::vector<size_t> ranks;
  for (size_t i = 0; i < operands; ++i) {
    if (!site.type(site.in(n, i)).has_shape()) return false;
    ranks.push_back(site.type(site.in(n, i)).shape->size());
  }
  const auto equation = parse(site.graph.nodes[n].attrs.as<EinsumAttrs>().equation, ranks);
  if (!equation) {
    site.refuse(einsum_rule, n, "the equation takes diagonals");
    return false;
  }
  std::map<char, Dim> extents;
  for (size_t i = 0; i < operands; ++i)
    for (size_t k = 0; k < ranks[i]; ++k) {
      const Dim& d = (*site.type(site.in(n, i)).shape)[k];
      const auto [at, fresh] = extents.emplace(equation->operands[i][k], d);
      if (fresh || at->second == d) continue;
      site.refuse(einsum_rule, n, "extents under one letter may differ");
      return false;
    }
  for (char letter : equation->result)
    if (!extents.contains(letter)) return false;
  site.at({n});
  Products products(site, std::move(extents));
  Term all = {site.in(n, 0), equation->operands[0]};
  for (size_t i = 1; i < operands; ++i) {
    Letters kept = equation->result;
    for (size_t j = i + 1; j < operands; ++j) kept += equation->operands[j];
    all = products.times(all, {site.in(n, i), equation->operands[i]}, kept);
  }
  all = products.ordered(products.summed(all, equation->result), equation->result);
  return site.same_type(all.value, site.out(n)) && site.replace(site.out(n), all.value, einsum_rule);
}

constexpr NodeRule rules[] = {{"Einsum", einsum}};

}  // namespace

std::span<const NodeRule> einsum_rules() { return rules; }

}  // namespace sinter
