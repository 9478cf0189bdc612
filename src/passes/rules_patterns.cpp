// Rules of one line: what scalar identities and spelt-out activations stand for.

#include <cmath>

#include "passes/rules.h"

namespace sinter {
namespace {

using namespace pattern;

const Pattern x = any("x"), y = any("y");

// Erf(x / sqrt 2) + 1, in the spellings of exporters.
std::vector<Pattern> one_plus_erf() {
  std::vector<Pattern> out;
  for (const Pattern& inner : {op("Div", {x, splat(std::sqrt(2.0))}), op("Mul", {x, splat(std::sqrt(0.5))})})
    out.push_back(op("Add", {op("Erf", {inner}), splat(1)}));
  return out;
}

// Tanh(sqrt(2/pi) * (x + 0.044715 x^3)) + 1.
std::vector<Pattern> one_plus_tanh() {
  const Pattern square = op("Mul", {x, x}), c = splat(0.044715), root = splat(std::sqrt(2 / M_PI));
  std::vector<Pattern> out;
  for (const Pattern& cube : {op("Pow", {x, splat(3)}), op("Mul", {op("Mul", {x, x}), x})})
    for (const Pattern& scaled : {op("Mul", {root, op("Add", {x, op("Mul", {c, cube})})}),
                                  op("Mul", {op("Add", {x, op("Mul", {c, cube})}), root})})
      out.push_back(op("Add", {op("Tanh", {scaled}), splat(1)}));
  for (const Pattern& factor : {op("Add", {op("Mul", {c, square}), splat(1)})})
    for (const Pattern& scaled : {op("Mul", {root, op("Mul", {x, factor})}), op("Mul", {op("Mul", {root, x}), factor})})
      out.push_back(op("Add", {op("Tanh", {scaled}), splat(1)}));
  return out;
}

void add_gelu(std::vector<PatternRule>& out, const char* name, const std::vector<Pattern>& factors,
              const Pattern& result) {
  for (const Pattern& factor : factors) {
    out.push_back(rule(name, Effect::rounding, op("Mul", {op("Mul", {x, factor}), splat(0.5)}), result));
    out.push_back(rule(name, Effect::rounding, op("Mul", {op("Mul", {x, splat(0.5)}), factor}), result));
    out.push_back(rule(name, Effect::rounding, op("Mul", {x, op("Mul", {factor, splat(0.5)})}), result));
  }
}

std::vector<PatternRule> make() {
  // Sums with 0 may change the sign of a zero.
  std::vector<PatternRule> out = {
      rule("x+0", Effect::rounding, op("Add", {x, splat(0)}), x),
      rule("x-0", Effect::exact, op("Sub", {x, splat(0)}), x),
      rule("x*1", Effect::exact, op("Mul", {x, splat(1)}), x),
      rule("x/1", Effect::exact, op("Div", {x, splat(1)}), x),
      rule("0-x", Effect::rounding, op("Sub", {splat(0), x}), op("Neg", {x})),
      rule("x*-1", Effect::exact, op("Mul", {x, splat(-1)}), op("Neg", {x})),
      rule("x+(-y)", Effect::exact, op("Add", {x, op("Neg", {y})}), op("Sub", {x, y})),
      rule("x-(-y)", Effect::exact, op("Sub", {x, op("Neg", {y})}), op("Add", {x, y})),
      rule("-(-x)", Effect::exact, op("Neg", {shared(op("Neg", {x}))}), x),
      rule("not not x", Effect::exact, op("Not", {shared(op("Not", {x}))}), x),
      rule("x and true", Effect::exact, op("And", {x, splat(1)}), x),
      rule("x or false", Effect::exact, op("Or", {x, splat(0)}), x),
      rule("where true", Effect::exact, op("Where", {splat(1), x, y}), x),
      rule("where false", Effect::exact, op("Where", {splat(0), x, y}), y),
      rule("Relu of Relu", Effect::exact, op("Relu", {shared(op("Relu", {x}))}), op("Relu", {x})),
      rule("Abs of Abs", Effect::exact, op("Abs", {shared(op("Abs", {x}))}), op("Abs", {x})),
      rule("max(x, 0)", Effect::exact, op("Max", {x, splat(0)}), op("Relu", {x})),
      rule("1/x", Effect::exact, op("Div", {splat(1), x}), op("Reciprocal", {x}),
           [](const Rewriter& rw, const Match& m) {
             return is_float(rw.build.graph[m["x"]].type.dtype) ? Answer::yes() : Answer::no("integers divide");
           }),
      rule("x*Sigmoid(x)", Effect::rounding, op("Mul", {x, op("Sigmoid", {x})}), op("Swish", {x})),
  };
  add_gelu(out, "Gelu by Erf", one_plus_erf(), op("Gelu", {x}));
  add_gelu(out, "Gelu by Tanh", one_plus_tanh(), op("GeluTanh", {x}));
  return out;
}

}  // namespace

std::span<const PatternRule> pattern_rules() {
  static const std::vector<PatternRule> rules = make();
  return rules;
}

}  // namespace sinter
