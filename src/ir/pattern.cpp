#include "ir/pattern.h"

#include <cmath>

#include "base/scanner.h"

namespace sinter::pattern {
namespace {

// Comparing all elements of a larger constant is not worth what a rule saves.
constexpr int64_t max_splat_elements = 1 << 16;

class Matcher {
 public:
  Matcher(const Rewriter& rewriter, bool any_readers) : rewriter_(rewriter), any_readers_(any_readers) {}

  bool value(const Pattern& pattern, ValueId v, bool is_root) {
    v = rewriter_.resolve(v);
    if (v == no_id) return false;
    switch (pattern.kind) {
      case Pattern::Kind::any: return capture(pattern.name, v);
      case Pattern::Kind::splat: {
        const auto element = splat_value(rewriter_, v);
        if (!element) return false;
        if (pattern.value && !equals(rewriter_.build.graph[v].type.dtype, *element, *pattern.value)) return false;
        return capture(pattern.name, v);
      }
      case Pattern::Kind::op: break;
    }
    const Node* node = rewriter_.def(v);
    if (!node || node->op != pattern.op || node->outputs.size() != 1 || node->inputs.size() != pattern.inputs.size())
      return false;
    if (pattern.attrs_given && !(node->attrs == pattern.attrs)) return false;
    if (!is_root && !pattern.shared && !any_readers_ && rewriter_.uses(v) > 1) return false;
    if (!capture(pattern.name, v)) return false;
    const Match before = match;
    if (operands(pattern, *node, false)) return true;
    if (!node->op->is.commutative || node->inputs.size() != 2) return false;
    match = before;
    return operands(pattern, *node, true);
  }

  Match match;

 private:
  bool operands(const Pattern& pattern, const Node& node, bool swapped) {
    const size_t n = node.inputs.size();
    for (size_t i = 0; i < n; ++i)
      if (!value(pattern.inputs[i], node.inputs[swapped ? n - 1 - i : i], false)) return false;
    return true;
  }

  bool capture(const std::string& name, ValueId v) {
    if (name.empty()) return true;
    for (const auto& [known, value] : match.values)
      if (known == name) return value == v;
    match.values.emplace_back(name, v);
    return true;
  }

  const Rewriter& rewriter_;
  const bool any_readers_;
};

}  // namespace

Pattern any(std::string name) {
  Pattern p;
  p.name = std::move(name);
  return p;
}

Pattern splat(double value) {
  Pattern p;
  p.kind = Pattern::Kind::splat;
  p.value = value;
  return p;
}

Pattern splat(std::string name) {
  Pattern p;
  p.kind = Pattern::Kind::splat;
  p.name = std::move(name);
  return p;
}

Pattern op(std::string_view name, std::vector<Pattern> inputs) {
  Pattern p;
  p.kind = Pattern::Kind::op;
  p.op = &op_named(name);
  p.inputs = std::move(inputs);
  return p;
}

Pattern op(std::string_view name, std::string_view attrs, std::vector<Pattern> inputs) {
  Pattern p = op(name, std::move(inputs));
  p.attrs = attrs_of(*p.op, attrs);
  p.attrs_given = true;
  return p;
}

Pattern shared(Pattern pattern) {
  pattern.shared = true;
  return pattern;
}

ValueId Match::operator[](std::string_view name) const {
  for (const auto& [known, value] : values)
    if (known == name) return value;
  throw Error(Code::internal, "a rule asks for a name that its pattern does not capture");
}

std::optional<Match> match(const Rewriter& rewriter, const Pattern& pattern, ValueId root, Refusal* refusal) {
  Matcher strict(rewriter, false);
  if (strict.value(pattern, root, true)) return std::move(strict.match);
  if (refusal) {
    Matcher lenient(rewriter, true);
    refusal->only_readers = lenient.value(pattern, root, true);
  }
  return std::nullopt;
}

ValueId build(Rewriter& rewriter, const Pattern& pattern, const Match& match, DType dtype) {
  switch (pattern.kind) {
    case Pattern::Kind::any: return match[pattern.name];
    case Pattern::Kind::splat:
      return pattern.value ? rewriter.build.scalar(dtype, *pattern.value) : match[pattern.name];
    case Pattern::Kind::op: break;
  }
  Ids inputs;
  for (const Pattern& input : pattern.inputs) inputs.push_back(build(rewriter, input, match, dtype));
  return rewriter.build.add(*pattern.op, pattern.attrs, std::move(inputs), 1)[0];
}

std::optional<double> splat_value(const Rewriter& rewriter, ValueId v) {
  const Tensor* t = rewriter.peek(v);
  if (!t || t->count() == 0 || t->count() > max_splat_elements) return std::nullopt;
  const DType dtype = t->dtype();
  if (is_complex(dtype) || dtype == DType::string) return std::nullopt;
  const double first = t->get_real(0);
  for (int64_t i = 1; i < t->count(); ++i)
    if (t->get_real(i) != first) return std::nullopt;
  // Integers beyond 53 bits have no exact double, and no rule asks for one.
  if (std::isnan(first) || (!is_float(dtype) && std::abs(first) > 0x1p52)) return std::nullopt;
  return first;
}

bool equals(DType dtype, double element, double value) {
  if (element == value) return true;
  // A constant that eight bits hold was meant exactly.
  Tensor few(DType::bf16, {});
  few.set_real(0, value);
  if (!is_float(dtype) || few.get_real(0) == value) return false;
  double relative = 0x1p-21;  // of f64 too: such constants were often f32 once
  if (dtype == DType::f16) relative = 0x1p-9;
  if (dtype == DType::bf16) relative = 0x1p-6;
  return std::abs(element - value) <= relative * std::abs(value);
}

Attrs attrs_of(const Op& op, std::string_view text) {
  Scanner scanner(text);
  return Attrs::parse(op.fields ? op.fields() : nullptr, scanner);
}

}  // namespace sinter::pattern
