// Inference of one operator: the row's own rules, the shared rules for pointwise operators, and known contents.

#include <fmt/core.h>

#include <algorithm>
#include <cmath>

#include "base/checked.h"
#include "ops/op.h"

namespace sinter {
namespace {

// Contents are kept for tensors of at most this many elements: enough for every shape computation.
constexpr int64_t max_known_elements = 1024;

std::optional<std::vector<Dim>> as_dims(const Contents& contents) {
  if (const auto* dims = std::get_if<std::vector<Dim>>(&contents)) return *dims;
  if (const auto* tensor = std::get_if<Tensor>(&contents)) {
    if (!is_integer(tensor->dtype()) && tensor->dtype() != DType::boolean) return std::nullopt;
    if (tensor->count() > max_known_elements) return std::nullopt;
    std::vector<Dim> out;
    for (int64_t v : tensor->to_integers()) out.emplace_back(v);
    return out;
  }
  return std::nullopt;
}

bool symbolic(const Contents& contents) { return std::holds_alternative<std::vector<Dim>>(contents); }

// Index of the operand element that stands at `index` of the broadcast result.
int64_t broadcast_index(int64_t index, const Dims& result, const Dims& operand) {
  int64_t out = 0, stride = 1;
  for (size_t k = 0; k < result.size(); ++k) {
    const size_t axis = result.size() - 1 - k;
    const int64_t at = index % result[axis];
    index /= result[axis];
    if (k >= operand.size()) continue;
    const int64_t extent = operand[operand.size() - 1 - k];
    if (extent != 1) out += at * stride;
    stride *= extent;
  }
  return out;
}

std::optional<Dim> apply_scalar(ScalarOp op, const Dim& a, const Dim& b, const Dim& c, const SymbolTable& symbols) {
  const auto non_negative = [&](const Dim& d) {
    return prove(symbols, {Fact::Kind::at_least, d, Dim(0), {}}) == Proof::yes;
  };
  const auto truth = [&](Proof p, bool negate) -> std::optional<Dim> {
    if (p == Proof::unknown) return std::nullopt;
    return Dim((p == Proof::yes) != negate ? 1 : 0);
  };
  switch (op) {
    case ScalarOp::add: return a + b;
    case ScalarOp::sub: return a - b;
    case ScalarOp::mul: return a * b;
    case ScalarOp::neg: return -a;
    case ScalarOp::min: return min(a, b);
    case ScalarOp::max: return max(a, b);
    case ScalarOp::abs:
      if (non_negative(a)) return a;
      return std::nullopt;
    case ScalarOp::div:  // truncates; equals floor for what is provably not negative
      if (prove(symbols, {Fact::Kind::at_least, b, Dim(1), {}}) == Proof::yes && non_negative(a)) return floordiv(a, b);
      return std::nullopt;
    case ScalarOp::mod:
      if (prove(symbols, {Fact::Kind::at_least, b, Dim(1), {}}) == Proof::yes) return modulo(a, b);
      return std::nullopt;
    case ScalarOp::equal: return truth(prove(symbols, {Fact::Kind::equal, a, b, {}}), false);
    case ScalarOp::less: return truth(prove(symbols, {Fact::Kind::at_least, a, b, {}}), true);
    case ScalarOp::less_equal: return truth(prove(symbols, {Fact::Kind::at_least, b, a, {}}), false);
    case ScalarOp::logical_not:
      if (a.is_constant()) return Dim(a.constant() == 0 ? 1 : 0);
      return std::nullopt;
    case ScalarOp::select:
      if (a.is_constant()) return a.constant() != 0 ? b : c;
      return std::nullopt;
    default: return std::nullopt;
  }
}

std::optional<Dim> apply(const Scalar& scalar, std::span<const Dim> operands, const SymbolTable& symbols) {
  std::vector<Dim> value;
  for (const ScalarNode& node : scalar.nodes) {
    if (node.op == ScalarOp::input) {
      value.push_back(operands[node.index]);
    } else if (node.op == ScalarOp::constant) {
      if (!(std::abs(node.value) < 9e15) || node.value != std::trunc(node.value)) return std::nullopt;
      value.emplace_back(static_cast<int64_t>(node.value));
    } else {
      const int arity = scalar_arity(node.op);
      const Dim zero;
      auto result = apply_scalar(node.op, value[node.a], arity > 1 ? value[node.b] : zero,
                                 arity > 2 ? value[node.c] : zero, symbols);
      if (!result) return std::nullopt;
      value.push_back(*std::move(result));
    }
  }
  return value.back();
}

// Contents of a pointwise result over small integers.
Contents pointwise_contents(const Op& op, const Attrs& attrs, std::span<const Type* const> types,
                            std::span<const Contents* const> contents, const Type& result, const SymbolTable& symbols) {
  const auto result_dims = constant_dims(*result.shape);
  if (!result_dims || element_count(*result_dims) > max_known_elements) return {};
  std::vector<std::vector<Dim>> operands;
  std::vector<Dims> operand_dims;
  for (size_t i = 0; i < types.size(); ++i) {
    auto dims = as_dims(*contents[i]);
    auto shape = constant_dims(*types[i]->shape);
    if (!dims || !shape) return {};
    operands.push_back(*std::move(dims));
    operand_dims.push_back(*std::move(shape));
  }
  const Scalar scalar = with_attributes(scalar_of(op), attrs);
  std::vector<Dim> out, element(operands.size());
  for (int64_t i = 0; i < element_count(*result_dims); ++i) {
    for (size_t k = 0; k < operands.size(); ++k)
      element[k] = operands[k][static_cast<size_t>(broadcast_index(i, *result_dims, operand_dims[k]))];
    auto value = apply(scalar, element, symbols);
    if (!value) return {};
    out.push_back(*std::move(value));
  }
  return out;
}

// Contents of data movement: the operator is evaluated on element numbers, which are then looked up.
std::vector<Contents> moved_contents(const Op& op, const Attrs& attrs, std::span<const Type* const> types,
                                     std::span<const Contents* const> contents, std::span<const Type> results) {
  std::vector<Contents> none(results.size());
  for (const Type& result : results) {
    if (!result.has_shape()) return none;
    const auto dims = constant_dims(*result.shape);
    if (!dims || element_count(*dims) > max_known_elements) return none;
  }
  std::vector<Dim> pool;
  std::vector<Box> boxes(types.size());
  std::vector<const Box*> inputs(types.size(), nullptr);
  for (size_t i = 0; i < types.size(); ++i) {
    if (!types[i]) continue;
    const bool host = i < 64 && (op.host_inputs >> i & 1);
    auto shape = types[i]->has_shape() ? constant_dims(*types[i]->shape) : std::nullopt;
    auto dims = as_dims(*contents[i]);
    if (!shape || !dims) return none;
    Tensor tensor(DType::i64, *std::move(shape));
    const bool is_data = !host && (i == 0 || op.inputs.high == Arity::any);
    for (int64_t k = 0; k < tensor.count(); ++k) {
      const Dim& d = (*dims)[static_cast<size_t>(k)];
      if (is_data) {
        tensor.set_integer(k, static_cast<int64_t>(pool.size()));
        pool.push_back(d);
      } else if (d.is_constant()) {
        tensor.set_integer(k, d.constant());
      } else {
        return none;
      }
    }
    boxes[i] = Box(std::move(tensor));
    inputs[i] = &boxes[i];
  }
  std::vector<Contents> out(results.size());
  const std::vector<Box> moved = evaluate_op(op, attrs, inputs, results.size());
  for (size_t o = 0; o < results.size(); ++o) {
    std::vector<Dim> dims;
    for (int64_t v : moved[o].tensor.to_integers()) {
      if (v < 0 || v >= static_cast<int64_t>(pool.size())) return none;
      dims.push_back(pool[static_cast<size_t>(v)]);
    }
    out[o] = std::move(dims);
  }
  return out;
}

void infer_pointwise(InferContext& c) {
  const size_t n = c.inputs();
  const bool mask_first = c.op.result == ResultType::like_y;
  const DType dtype = c.dtype(mask_first ? 1 : 0);
  if (mask_first && c.dtype(0) != DType::boolean)
    c.fail(fmt::format("operand 0 is {}, it must be bool", dtype_name(c.dtype(0))));
  for (size_t i = mask_first ? 1 : 0; i < n; ++i)
    if (c.dtype(i) != dtype)
      c.fail(fmt::format("operand {} is {}, operand {} is {}: they must be equal", i, dtype_name(c.dtype(i)),
                         mask_first ? 1 : 0, dtype_name(dtype)));
  // Where moves elements of any kind, Equal compares strings too.
  const bool any_kind = mask_first || (dtype == DType::string && scalar_of(c.op).nodes.back().op == ScalarOp::equal);
  if ((dtype == DType::string || is_complex(dtype)) && !any_kind)
    c.fail(fmt::format("operands are {}, they must be real numbers", dtype_name(dtype)));
  const DType result = c.op.result == ResultType::boolean ? DType::boolean : dtype;
  c.set(0, result);
  Shape shape = c.shape(0);
  for (size_t i = 1; i < n; ++i) shape = c.broadcast(shape, c.shape(i));
  c.set(0, result, std::move(shape));
}

// Turns contents whose Dims are all numbers into a Tensor of the right type.
void settle(Contents& contents, const Type& type) {
  auto* dims = std::get_if<std::vector<Dim>>(&contents);
  if (!dims || !type.has_shape()) return;
  const auto shape = constant_dims(*type.shape);
  if (!shape) {
    contents = {};
    return;
  }
  for (const Dim& d : *dims)
    if (!d.is_constant()) return;
  Tensor tensor(type.dtype, *shape);
  for (size_t i = 0; i < dims->size(); ++i) tensor.set_integer(static_cast<int64_t>(i), (*dims)[i].constant());
  contents = std::move(tensor);
}

}  // namespace

InferContext::InferContext(const Op& op_, const Attrs& attrs, std::span<const Type* const> inputs,
                           std::span<const Contents* const> contents, size_t outputs, InferHost& host_)
    : op(op_), host(host_), results(outputs), known(outputs), attrs_(attrs), inputs_(inputs), contents_(contents) {}

const Type& InferContext::type(size_t input) const {
  if (!has(input)) fail(fmt::format("operand {} is missing", input));
  return *inputs_[input];
}

DType InferContext::dtype(size_t input) const {
  const Type& t = type(input);
  if (!t.is_tensor()) fail(fmt::format("operand {} is no tensor", input));
  return t.dtype;
}

const Shape& InferContext::shape(size_t input) const {
  const Type& t = type(input);
  if (!t.is_tensor()) fail(fmt::format("operand {} is no tensor", input));
  if (!t.shape) throw RankUnknown{};
  return *t.shape;
}

std::optional<std::vector<Dim>> InferContext::integers(size_t input) const {
  if (!has(input)) return std::nullopt;
  return as_dims(*contents_[input]);
}

std::optional<std::vector<int64_t>> InferContext::constant_integers(size_t input) const {
  if (!has(input)) return std::nullopt;
  if (const Tensor* tensor = constant(input)) {
    if (!is_integer(tensor->dtype()) && tensor->dtype() != DType::boolean) return std::nullopt;
    return tensor->to_integers();
  }
  return std::nullopt;
}

const Tensor* InferContext::constant(size_t input) const {
  return has(input) ? std::get_if<Tensor>(contents_[input]) : nullptr;
}

void InferContext::set(size_t output, Type type) {
  if (type.shape && type.shape->size() > max_rank_of_values)
    fail(fmt::format("result of rank {}, more than {}", type.shape->size(), max_rank_of_values));
  if (output < results.size()) results[output] = std::move(type);
}

void InferContext::require_equal(const Dim& a, const Dim& b, const char* what) {
  if (a == b) return;
  const Fact fact{Fact::Kind::equal, a, b, what};
  const Proof proof = prove(host.symbols(), fact);
  if (proof == Proof::no)
    fail(fmt::format("{}: {} and {} differ", what, to_string(a, host.symbols()), to_string(b, host.symbols())));
  if (proof == Proof::unknown) host.require(fact);
}

void InferContext::require_at_least(const Dim& a, const Dim& b, const char* what) {
  const Fact fact{Fact::Kind::at_least, a, b, what};
  const Proof proof = prove(host.symbols(), fact);
  if (proof == Proof::no)
    fail(fmt::format("{}: {} is less than {}", what, to_string(a, host.symbols()), to_string(b, host.symbols())));
  if (proof == Proof::unknown) host.require(fact);
}

Shape InferContext::broadcast(const Shape& a, const Shape& b) {
  const Shape& longer = a.size() >= b.size() ? a : b;
  const Shape& shorter = a.size() >= b.size() ? b : a;
  Shape out = longer;
  for (size_t k = 1; k <= shorter.size(); ++k) {
    const Dim& x = longer[longer.size() - k];
    const Dim& y = shorter[shorter.size() - k];
    Dim& r = out[longer.size() - k];
    if (x == y || y == Dim(1)) continue;
    if (x == Dim(1)) {
      r = y;
      continue;
    }
    const Proof same = prove(host.symbols(), {Fact::Kind::equal, x, y, {}});
    if (x.is_constant() && y.is_constant())
      fail(fmt::format("extents {} and {} cannot be broadcast together", x.constant(), y.constant()));
    if (same == Proof::yes) continue;
    const bool x_above_one = prove(host.symbols(), {Fact::Kind::at_least, x, Dim(2), {}}) == Proof::yes;
    const bool y_above_one = prove(host.symbols(), {Fact::Kind::at_least, y, Dim(2), {}}) == Proof::yes;
    if (x_above_one && y_above_one) {
      require_equal(x, y, "broadcast");
      if (y.is_constant()) r = y;
      continue;
    }
    // One of them may be 1: the larger survives, and equality or 1 is checked when shapes are bound.
    r = x_above_one ? x : y_above_one ? y : sinter::broadcast(x, y);
    const Dim both = (x - 1) * (y - 1) * (x - y);
    host.require({Fact::Kind::equal, both, Dim(0), "broadcast"});
  }
  return out;
}

int64_t InferContext::axis(int64_t value, size_t rank) const {
  const auto r = static_cast<int64_t>(rank);
  if (value < -r || value >= r) fail(fmt::format("axis {} is outside [{}, {})", value, -r, r));
  return value < 0 ? value + r : value;
}

std::vector<int64_t> InferContext::axes(std::span<const int64_t> values, size_t rank) const {
  std::vector<int64_t> out;
  for (int64_t v : values) {
    const int64_t a = axis(v, rank);
    if (std::find(out.begin(), out.end(), a) != out.end()) fail(fmt::format("axis {} is named twice", a));
    out.push_back(a);
  }
  return out;
}

void InferContext::fail(std::string message) const {
  throw Error(Code::model_invalid, fmt::format("{}: {}", op.name, message));
}

Inferred infer_op(const Op& op, const Attrs& attrs, std::span<const Type* const> inputs,
                  std::span<const Contents* const> contents, size_t outputs, InferHost& host) {
  InferContext c(op, attrs, inputs, contents, outputs, host);
  if (inputs.size() < op.inputs.low || (op.inputs.high != Arity::any && inputs.size() > op.inputs.high))
    c.fail(fmt::format("{} operands, it takes {} to {}", inputs.size(), op.inputs.low,
                       op.inputs.high == Arity::any ? std::string("any number") : std::to_string(op.inputs.high)));
  if (outputs < op.outputs.low || (op.outputs.high != Arity::any && outputs > op.outputs.high))
    c.fail(fmt::format("{} results, it has {} to {}", outputs, op.outputs.low, op.outputs.high));
  for (const Type* t : inputs)
    if (t && t->kind == Type::Kind::invalid) return {std::move(c.results), std::move(c.known)};
  bool known_ranks = true;
  try {
    if (op.pointwise)
      infer_pointwise(c);
    else
      op.infer(c);
  } catch (const RankUnknown&) {
    known_ranks = false;
  }
  for (size_t o = 0; o < outputs; ++o)
    if (c.results[o].kind == Type::Kind::invalid) c.fail(fmt::format("result {} has no type", o));
  if (known_ranks && op.is.deterministic && !c.results.empty()) {
    bool any_symbolic = false, all_known = true;
    for (size_t i = 0; i < inputs.size(); ++i) {
      if (!inputs[i]) continue;
      any_symbolic = any_symbolic || symbolic(*contents[i]);
      all_known = all_known && !std::holds_alternative<std::monostate>(*contents[i]) && inputs[i]->has_shape();
    }
    if (any_symbolic && all_known && op.pointwise && c.results[0].has_shape())
      c.known[0] = pointwise_contents(op, attrs, inputs, contents, c.results[0], host.symbols());
    else if (any_symbolic && all_known && op.is.moves_only)
      c.known = moved_contents(op, attrs, inputs, contents, c.results);
  }
  for (size_t o = 0; o < outputs; ++o) settle(c.known[o], c.results[o]);
  return {std::move(c.results), std::move(c.known)};
}

}  // namespace sinter
