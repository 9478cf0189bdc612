// Evaluation of one operator by its definition: concrete inference, then the row's eval or its scalar expression.

#include <fmt/format.h>

#include <cstring>

#include "base/checked.h"
#include "ops/op.h"
#include "tensor/convert.h"

namespace sinter {
namespace {

// Types of concrete values have no symbols of their own; extents that only running finds out get one each.
class ConcreteHost final : public InferHost {
 public:
  Dim symbol(size_t, size_t, Symbol::Bound bound, int64_t low, std::optional<Dim>) override {
    return Dim::symbol(symbols_.add({.name = "n", .bound = bound, .low = low}));
  }
  void require(Fact) override {}  // undecided facts are about those extents; eval checks what matters
  const SymbolTable& symbols() const override { return symbols_; }
  std::vector<Type> infer_body(size_t, std::span<const Type>) override { return {}; }

 private:
  SymbolTable symbols_;
};

Type type_of(const Box& box) {
  switch (box.kind) {
    case Box::Kind::tensor: return Type::of(box.tensor);
    case Box::Kind::sequence: {
      // An empty one, like an empty optional, does not say what it would hold.
      if (box.items.empty()) return Type::sequence(Type());
      const Box& first = box.items[0];
      if (first.kind == Box::Kind::map) return Type::sequence(type_of(first));
      const bool tensors = first.kind == Box::Kind::tensor;
      return Type::sequence(tensors ? Type::tensor(first.tensor.dtype(), std::nullopt) : Type());
    }
    case Box::Kind::map: return Type::map(box.keys().dtype(), box.values().dtype());
    case Box::Kind::none: return Type::optional(Type());
  }
  return {};
}

// An attribute may hold any number, infinities included.
int64_t integer_constant(double v) {
  if (!(v >= -9223372036854775808.0)) return v < 0 ? INT64_MIN : 0;
  return v < 9223372036854775808.0 ? static_cast<int64_t>(v) : INT64_MAX;
}

// Where and Equal on elements that are no real numbers; inference lets no other operator have them.
void whole_element(const EvalContext& c, std::span<const int64_t> offset, Tensor& out, int64_t i) {
  const bool select = c.op.result == ResultType::like_y;
  const size_t from = select && c.in(0).get_integer(offset[0]) == 0 ? 2 : 1;
  const Tensor& source = c.in(from);
  const auto at = static_cast<size_t>(offset[from]), to = static_cast<size_t>(i);
  if (!select) {
    out.set_integer(i, c.in(0).strings()[static_cast<size_t>(offset[0])] == source.strings()[at]);
  } else if (source.dtype() == DType::string) {
    out.strings()[to] = source.strings()[at];
  } else {
    const auto size = static_cast<size_t>(bit_size(source.dtype())) / 8;
    std::memcpy(out.as_mutable<std::byte>() + to * size, source.as<std::byte>() + at * size, size);
  }
}

void evaluate_pointwise(EvalContext& c) {
  const Scalar scalar = with_attributes(scalar_of(c.op), c.raw_attrs());
  Tensor& out = c.out(0);
  const size_t n = c.inputs();
  const DType dtype = c.in(c.op.result == ResultType::like_y ? 1 : 0).dtype();
  const bool real = is_float(dtype);
  const bool is_unsigned = !is_signed(dtype);
  const int bits = bit_size(dtype);
  const size_t rank = out.rank();
  // Strides of the operands over the result's axes, 0 where they broadcast.
  std::vector<std::vector<int64_t>> strides(n, std::vector<int64_t>(rank, 0));
  for (size_t k = 0; k < n; ++k) {
    const Dims& dims = c.in(k).dims();
    int64_t stride = 1;
    for (size_t j = 1; j <= dims.size(); ++j) {
      const int64_t extent = dims[dims.size() - j];
      if (extent != 1) strides[k][rank - j] = stride;
      stride *= extent;
    }
  }
  std::vector<int64_t> at(rank, 0), offset(n, 0);
  std::vector<double> reals(scalar.nodes.size());
  std::vector<int64_t> integers(scalar.nodes.size());
  const bool numbers = dtype != DType::string && !is_complex(dtype);
  for (int64_t i = 0; i < out.count(); ++i) {
    if (!numbers) whole_element(c, offset, out, i);
    for (size_t v = 0; numbers && v < scalar.nodes.size(); ++v) {
      const ScalarNode& node = scalar.nodes[v];
      if (node.op == ScalarOp::input) {
        if (real)
          reals[v] = c.in(node.index).get_real(offset[node.index]);
        else
          integers[v] = c.in(node.index).get_integer(offset[node.index]);
      } else if (node.op == ScalarOp::constant) {
        reals[v] = node.value;
        if (!real) integers[v] = integer_constant(node.value);
      } else if (real) {
        reals[v] = scalar_real(node.op, reals[node.a], reals[node.b], reals[node.c]);
      } else {
        integers[v] = scalar_integer(node.op, integers[node.a], integers[node.b], integers[node.c], is_unsigned, bits);
      }
    }
    if (real && c.op.result != ResultType::boolean)
      out.set_real(i, reals.back());
    else if (numbers)
      out.set_integer(i, real ? static_cast<int64_t>(reals.back()) : integers.back());
    for (size_t j = rank; j-- > 0;) {
      for (size_t k = 0; k < n; ++k) offset[k] += strides[k][j];
      if (++at[j] < out.dims()[j]) break;
      for (size_t k = 0; k < n; ++k) offset[k] -= strides[k][j] * at[j];
      at[j] = 0;
    }
  }
}

}  // namespace

const Box& EvalContext::box(size_t i) const {
  if (!has(i)) fail(fmt::format("operand {} is missing", i));
  return *inputs_[i];
}

const Tensor& EvalContext::in(size_t i) const {
  const Box& b = box(i);
  if (b.kind != Box::Kind::tensor) fail(fmt::format("operand {} is no tensor", i));
  return b.tensor;
}

Tensor& EvalContext::out(size_t o) {
  Box& b = outputs[o];
  if (b.kind != Box::Kind::tensor) {
    const Type& t = types_[o];
    if (!t.has_shape()) fail(fmt::format("result {} has no known extents", o));
    const auto dims = constant_dims(*t.shape);
    if (!dims) fail(fmt::format("result {} has no known extents", o));
    b = Box(Tensor(t.dtype, *dims));
  }
  return b.tensor;
}

Tensor& EvalContext::out(size_t o, DType dtype, Dims dims) {
  outputs[o] = Box(Tensor(dtype, std::move(dims)));
  return outputs[o].tensor;
}

BodyRunner& EvalContext::bodies() const {
  if (!bodies_) fail("its bodies cannot be run here");
  return *bodies_;
}

void EvalContext::fail(std::string message) const { throw Error(Code::fault, fmt::format("{}: {}", op.name, message)); }

std::vector<Box> evaluate_op(const Op& op, const Attrs& attrs, std::span<const Box* const> inputs, size_t outputs,
                             BodyRunner* bodies) {
  ConcreteHost host;
  std::vector<Type> types(inputs.size());
  std::vector<const Type*> type_pointers(inputs.size(), nullptr);
  std::vector<Contents> contents(inputs.size());
  std::vector<const Contents*> content_pointers(inputs.size(), nullptr);
  for (size_t i = 0; i < inputs.size(); ++i) {
    if (!inputs[i]) continue;
    types[i] = type_of(*inputs[i]);
    type_pointers[i] = &types[i];
    if (i < 64 && (op.host_inputs >> i & 1) && inputs[i]->kind == Box::Kind::tensor) contents[i] = inputs[i]->tensor;
    content_pointers[i] = &contents[i];
  }
  std::vector<Type> result_types(outputs);
  // Operators with bodies and those over sequences find their result types by running.
  if (op.infer || op.pointwise) {
    const bool by_running = bodies != nullptr;
    if (!by_running) result_types = infer_op(op, attrs, type_pointers, content_pointers, outputs, host).types;
  }
  EvalContext c(op, attrs, inputs, std::move(result_types), bodies);
  if (op.pointwise)
    evaluate_pointwise(c);
  else if (op.eval)
    op.eval(c);
  else
    c.fail("it has no reference evaluation");
  for (size_t o = 0; o < outputs; ++o)
    if (c.outputs[o].kind == Box::Kind::none && c.type(o).is_tensor()) c.out(o);
  return std::move(c.outputs);
}

}  // namespace sinter
