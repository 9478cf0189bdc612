// Sequences and optionals. Their values are boxes, so every row runs by its reference evaluation.
//
// A sequence's type keeps the shape of its elements only where all of them are known to have the same. An element type
// of kind invalid stands for what an empty sequence or optional met while evaluating does not tell.

#include "ops/sequence.h"

#include <fmt/core.h>

#include <algorithm>
#include <cstring>

#include "base/checked.h"
#include "ops/families.h"
#include "ops/op.h"

namespace sinter {

const Fields& fields_of(const SequenceEmptyAttrs*) {
  static const Fields f = describe<SequenceEmptyAttrs>({field<&SequenceEmptyAttrs::dtype>("dtype")});
  return f;
}

const Fields& fields_of(const ConcatFromSequenceAttrs*) {
  static const Fields f = describe<ConcatFromSequenceAttrs>(
      {field<&ConcatFromSequenceAttrs::axis>("axis"), field<&ConcatFromSequenceAttrs::new_axis>("new_axis")});
  return f;
}

const Fields& fields_of(const SplitToSequenceAttrs*) {
  static const Fields f = describe<SplitToSequenceAttrs>(
      {field<&SplitToSequenceAttrs::axis>("axis"), field<&SplitToSequenceAttrs::keep_dims>("keep_dims")});
  return f;
}

const Fields& fields_of(const OptionalNoneAttrs*) {
  static const Fields f = describe<OptionalNoneAttrs>(
      {field<&OptionalNoneAttrs::dtype>("dtype"), field<&OptionalNoneAttrs::sequence>("sequence")});
  return f;
}

namespace {

constexpr int64_t max_pieces = int64_t{1} << 24;

// Elements

const Type& element_type(const InferContext& c, size_t input) {
  const Type& t = c.type(input);
  if (t.kind != Type::Kind::sequence || !t.element) c.fail(fmt::format("operand {} is no sequence", input));
  if (t.element->kind != Type::Kind::tensor && t.element->kind != Type::Kind::invalid)
    c.fail(fmt::format("operand {} is a sequence of something else than tensors", input));
  return *t.element;
}

Type join_elements(const InferContext& c, const Type& a, const Type& b) {
  if (a.kind == Type::Kind::invalid) return b;
  if (b.kind == Type::Kind::invalid) return a;
  if (a.dtype != b.dtype)
    c.fail(fmt::format("elements are {} and {}: they must be equal", dtype_name(a.dtype), dtype_name(b.dtype)));
  return Type::tensor(a.dtype, a.shape == b.shape ? a.shape : std::nullopt);
}

const std::vector<Box>& items(const EvalContext& c, size_t input) {
  const Box& b = c.box(input);
  if (b.kind != Box::Kind::sequence) c.fail(fmt::format("operand {} is no sequence", input));
  return b.items;
}

const Tensor& tensor_of(const EvalContext& c, const Box& item) {
  if (item.kind != Box::Kind::tensor) c.fail("an element of the sequence is no tensor");
  return item.tensor;
}

void check_position_type(const InferContext& c, size_t input) {
  if (!c.has(input)) return;
  const DType dtype = c.dtype(input);
  if (dtype != DType::i32 && dtype != DType::i64)
    c.fail(fmt::format("the position is {}, it must be i32 or i64", dtype_name(dtype)));
}

// In [-size, size + extra) → [0, size + extra).
size_t position(const EvalContext& c, size_t input, size_t size, int64_t extra) {
  const Tensor& p = c.in(input);
  if (p.count() != 1 || !is_integer(p.dtype())) c.fail("the position must be one integer");
  const auto n = static_cast<int64_t>(size);
  const int64_t at = p.get_integer(0);
  if (at < -n || at >= n + extra)
    c.fail(fmt::format("position {} is outside [{}, {}) of a sequence of {}", at, -n, n + extra, n));
  return static_cast<size_t>(at < 0 ? at + n : at);
}

// `count` elements of any dtype.
void copy(const Tensor& from, int64_t from_at, Tensor& to, int64_t to_at, int64_t count) {
  if (count == 0) return;
  if (from.dtype() == DType::string) {
    std::copy_n(from.strings().begin() + from_at, count, to.strings().begin() + to_at);
  } else if (is_sub_byte(from.dtype())) {
    const bool real = is_float(from.dtype());
    for (int64_t i = 0; i < count; ++i) {
      if (real)
        to.set_real(to_at + i, from.get_real(from_at + i));
      else
        to.set_integer(to_at + i, from.get_integer(from_at + i));
    }
  } else {
    const int64_t size = bit_size(from.dtype()) / 8;
    std::memcpy(to.as_mutable<std::byte>() + to_at * size, from.as<std::byte>() + from_at * size,
                static_cast<size_t>(count * size));
  }
}

// Products of the extents before and after `axis`. The tensor has elements, so neither overflows.
std::pair<int64_t, int64_t> around(const Dims& dims, size_t axis) {
  int64_t outer = 1, inner = 1;
  for (size_t k = 0; k < dims.size(); ++k)
    if (k != axis) (k < axis ? outer : inner) *= dims[k];
  return {outer, inner};
}

int64_t checked_axis(const EvalContext& c, int64_t axis, size_t rank) {
  const auto r = static_cast<int64_t>(rank);
  if (axis < -r || axis >= r) c.fail(fmt::format("axis {} is outside [{}, {})", axis, -r, r));
  return axis < 0 ? axis + r : axis;
}

// Sequences

void infer_empty(InferContext& c) {
  c.set(0, Type::sequence(Type::tensor(c.attrs<SequenceEmptyAttrs>().dtype, std::nullopt)));
}

void eval_empty(EvalContext& c) { c.outputs[0] = Box::sequence({}); }

void infer_construct(InferContext& c) {
  c.dtype(0);
  Type element = c.type(0);
  for (size_t i = 1; i < c.inputs(); ++i) {
    c.dtype(i);
    element = join_elements(c, element, c.type(i));
  }
  c.set(0, Type::sequence(std::move(element)));
}

void eval_construct(EvalContext& c) {
  std::vector<Box> list;
  for (size_t i = 0; i < c.inputs(); ++i) list.emplace_back(c.in(i));
  c.outputs[0] = Box::sequence(std::move(list));
}

void infer_insert(InferContext& c) {
  c.dtype(1);
  check_position_type(c, 2);
  c.set(0, Type::sequence(join_elements(c, element_type(c, 0), c.type(1))));
}

void eval_insert(EvalContext& c) {
  std::vector<Box> list = items(c, 0);
  const Tensor& x = c.in(1);
  if (!list.empty() && tensor_of(c, list[0]).dtype() != x.dtype())
    c.fail(fmt::format("cannot insert {} into a sequence of {}", dtype_name(x.dtype()),
                       dtype_name(list[0].tensor.dtype())));
  const size_t at = c.has(2) ? position(c, 2, list.size(), 1) : list.size();
  list.insert(list.begin() + static_cast<int64_t>(at), Box(x));
  c.outputs[0] = Box::sequence(std::move(list));
}

void infer_erase(InferContext& c) {
  element_type(c, 0);
  check_position_type(c, 1);
  c.set(0, c.type(0));
}

void eval_erase(EvalContext& c) {
  std::vector<Box> list = items(c, 0);
  if (list.empty()) c.fail("the sequence is empty");
  const size_t at = c.has(1) ? position(c, 1, list.size(), 0) : list.size() - 1;
  list.erase(list.begin() + static_cast<int64_t>(at));
  c.outputs[0] = Box::sequence(std::move(list));
}

void infer_at(InferContext& c) {
  const Type& element = element_type(c, 0);
  check_position_type(c, 1);
  // Of an unknown element type only in evaluation, which then finds the sequence empty.
  c.set(0, element.is_tensor() ? element : Type::tensor(DType::f32, std::nullopt));
}

void eval_at(EvalContext& c) {
  const std::vector<Box>& list = items(c, 0);
  c.outputs[0] = Box(tensor_of(c, list[position(c, 1, list.size(), 0)]));
}

void infer_length(InferContext& c) {
  element_type(c, 0);
  c.set(0, DType::i64, {});
}

void eval_length(EvalContext& c) { c.outputs[0] = Box(Tensor::scalar_i64(static_cast<int64_t>(items(c, 0).size()))); }

void infer_concat(InferContext& c) {
  const auto& a = c.attrs<ConcatFromSequenceAttrs>();
  const Type& element = element_type(c, 0);
  const DType dtype = element.is_tensor() ? element.dtype : DType::f32;
  c.set(0, dtype);
  if (!element.has_shape()) return;
  Shape out = *element.shape;
  const auto axis = static_cast<size_t>(c.axis(a.axis, out.size() + (a.new_axis ? 1 : 0)));
  if (a.new_axis) out.insert(out.begin() + static_cast<int64_t>(axis), Dim(1));
  out[axis] = c.found_by_running(0, axis, 0, std::nullopt);
  c.set(0, dtype, std::move(out));
}

void eval_concat(EvalContext& c) {
  const auto& a = c.attrs<ConcatFromSequenceAttrs>();
  const std::vector<Box>& list = items(c, 0);
  if (list.empty()) c.fail("the sequence is empty");
  const Tensor& first = tensor_of(c, list[0]);
  const auto axis = static_cast<size_t>(checked_axis(c, a.axis, first.rank() + (a.new_axis ? 1 : 0)));
  std::vector<Tensor> parts;
  Dims dims;
  for (const Box& item : list) {
    const Tensor& part = tensor_of(c, item);
    if (part.dtype() != first.dtype()) c.fail("elements of the sequence differ in dtype");
    Dims extents = part.dims();
    if (extents.size() != first.rank()) c.fail("elements of the sequence differ in rank");
    if (a.new_axis) extents.insert(extents.begin() + static_cast<int64_t>(axis), 1);
    parts.push_back(part.reshaped(extents));
    if (dims.empty()) {
      dims = std::move(extents);
      continue;
    }
    for (size_t k = 0; k < dims.size(); ++k)
      if (k != axis && dims[k] != extents[k])
        c.fail(
            fmt::format("elements {} and {} cannot be joined along axis {}", type_text(first), type_text(part), axis));
    dims[axis] = checked_add(dims[axis], extents[axis], "joined extent");
  }
  Tensor& out = c.out(0, first.dtype(), dims);
  if (out.count() == 0) return;
  const auto [outer, inner] = around(dims, axis);
  int64_t at = 0;
  for (const Tensor& part : parts) {
    const int64_t run = part.dims()[axis] * inner;
    for (int64_t o = 0; o < outer; ++o) copy(part, o * run, out, o * dims[axis] * inner + at, run);
    at += run;
  }
}

void infer_split(InferContext& c) {
  const auto& a = c.attrs<SplitToSequenceAttrs>();
  const DType dtype = c.dtype(0);
  if (c.has(1) && !is_integer(c.dtype(1)))
    c.fail(fmt::format("the sizes are {}, they must be integers", dtype_name(c.dtype(1))));
  c.set(0, Type::sequence(Type::tensor(dtype, std::nullopt)));
  Shape element = c.shape(0);
  const auto axis = static_cast<size_t>(c.axis(a.axis, element.size()));
  if (!c.has(1)) {
    if (a.keep_dims)
      element[axis] = 1;
    else
      element.erase(element.begin() + static_cast<int64_t>(axis));
    return c.set(0, Type::sequence(Type::tensor(dtype, std::move(element))));
  }
  const auto sizes = c.integers(1);
  if (!sizes || !c.type(1).has_shape()) return;
  const Dim extent = element[axis];
  if (c.rank(1) > 1) c.fail("the sizes must have rank 0 or 1");
  if (c.rank(1) == 0) {
    const Dim& chunk = sizes->at(0);
    if (chunk.is_constant() && chunk.constant() <= 0) c.fail(fmt::format("chunks of {}", chunk.constant()));
    if (prove(c.host.symbols(), {Fact::Kind::divides, chunk, extent, {}}) != Proof::yes) return;
    element[axis] = chunk;
  } else {
    if (sizes->empty()) return c.require_equal(extent, 0, "sum of the sizes");
    Dim sum;
    bool same = true;
    for (const Dim& d : *sizes) {
      if (d.is_constant() && d.constant() < 0) c.fail(fmt::format("a size of {}", d.constant()));
      sum = sum + d;
      same = same && d == (*sizes)[0];
    }
    c.require_equal(sum, extent, "sum of the sizes");
    if (!same) return;
    element[axis] = (*sizes)[0];
  }
  c.set(0, Type::sequence(Type::tensor(dtype, std::move(element))));
}

void eval_split(EvalContext& c) {
  const auto& a = c.attrs<SplitToSequenceAttrs>();
  const Tensor& x = c.in(0);
  const auto axis = static_cast<size_t>(checked_axis(c, a.axis, x.rank()));
  const int64_t extent = x.dims()[axis];
  std::vector<int64_t> sizes;
  if (!c.has(1) || c.in(1).rank() == 0) {
    const int64_t chunk = c.has(1) ? c.in(1).get_integer(0) : 1;
    if (chunk <= 0) c.fail(fmt::format("chunks of {}", chunk));
    // Extents cost nothing when another one is 0; pieces do.
    if (extent / chunk > max_pieces) c.fail(fmt::format("more than {} pieces", max_pieces));
    for (int64_t at = 0; at < extent; at += std::min(chunk, extent - at)) sizes.push_back(std::min(chunk, extent - at));
  } else {
    sizes = c.in(1).to_integers();
    int64_t sum = 0;
    for (int64_t s : sizes) {
      if (s < 0) c.fail(fmt::format("a size of {}", s));
      sum = checked_add(sum, s, "sum of the sizes");
    }
    if (sum != extent) c.fail(fmt::format("the sizes add up to {}, axis {} has {}", sum, axis, extent));
  }
  std::vector<Box> list;
  int64_t at = 0;
  for (int64_t size : sizes) {
    Dims dims = x.dims();
    dims[axis] = size;
    Tensor part(x.dtype(), dims);
    if (part.count() > 0) {
      const auto [outer, inner] = around(dims, axis);
      for (int64_t o = 0; o < outer; ++o) copy(x, (o * extent + at) * inner, part, o * size * inner, size * inner);
    }
    at += size;
    if (!c.has(1) && !a.keep_dims) {
      dims.erase(dims.begin() + static_cast<int64_t>(axis));
      part = part.reshaped(dims);
    }
    list.emplace_back(std::move(part));
  }
  c.outputs[0] = Box::sequence(std::move(list));
}

// Optionals

void infer_some(InferContext& c) {
  if (c.type(0).kind == Type::Kind::optional) c.fail("an optional cannot hold an optional");
  c.set(0, Type::optional(c.type(0)));
}

void eval_some(EvalContext& c) { c.outputs[0] = c.box(0); }

void infer_none(InferContext& c) {
  const auto& a = c.attrs<OptionalNoneAttrs>();
  Type element = Type::tensor(a.dtype, std::nullopt);
  c.set(0, Type::optional(a.sequence ? Type::sequence(std::move(element)) : std::move(element)));
}

void eval_none(EvalContext& c) { c.outputs[0] = Box(); }

void infer_has_element(InferContext& c) { c.set(0, DType::boolean, {}); }

void eval_has_element(EvalContext& c) {
  Tensor& out = c.out(0, DType::boolean, {});
  out.set_integer(0, c.has(0) && c.box(0).kind != Box::Kind::none);
}

void infer_get(InferContext& c) {
  const Type& t = c.type(0);
  if (t.kind != Type::Kind::optional) return c.set(0, t);  // ONNX lets values that are no optionals pass
  const bool known = t.element && t.element->kind != Type::Kind::invalid;
  c.set(0, known ? *t.element : Type::tensor(DType::f32, std::nullopt));
}

void eval_get(EvalContext& c) {
  if (c.box(0).kind == Box::Kind::none) c.fail("the optional is empty");
  c.outputs[0] = c.box(0);
}

// Constants are tensors: what gives a sequence or an optional is not folded.
constexpr Op table[] = {
    {.name = "SequenceEmpty",
     .fields = fields<SequenceEmptyAttrs>,
     .inputs = {0, 0},
     .is = {.never_fold = true},
     .infer = infer_empty,
     .eval = eval_empty},
    {.name = "SequenceConstruct",
     .inputs = {1, Arity::any},
     .is = {.never_fold = true},
     .infer = infer_construct,
     .eval = eval_construct},
    {.name = "SequenceInsert",
     .inputs = {2, 3},
     .is = {.never_fold = true},
     .infer = infer_insert,
     .eval = eval_insert},
    {.name = "SequenceErase", .inputs = {1, 2}, .is = {.never_fold = true}, .infer = infer_erase, .eval = eval_erase},
    {.name = "SequenceAt", .inputs = {2, 2}, .infer = infer_at, .eval = eval_at},
    {.name = "SequenceLength", .infer = infer_length, .eval = eval_length},
    {.name = "ConcatFromSequence",
     .fields = fields<ConcatFromSequenceAttrs>,
     .infer = infer_concat,
     .eval = eval_concat},
    {.name = "SplitToSequence",
     .fields = fields<SplitToSequenceAttrs>,
     .inputs = {1, 2},
     .host_inputs = 0b10,
     .is = {.never_fold = true},
     .infer = infer_split,
     .eval = eval_split},
    {.name = "OptionalSome", .is = {.never_fold = true}, .infer = infer_some, .eval = eval_some},
    {.name = "OptionalNone",
     .fields = fields<OptionalNoneAttrs>,
     .inputs = {0, 0},
     .is = {.never_fold = true},
     .infer = infer_none,
     .eval = eval_none},
    {.name = "OptionalHasElement", .inputs = {0, 1}, .infer = infer_has_element, .eval = eval_has_element},
    {.name = "OptionalGet", .infer = infer_get, .eval = eval_get},
};

}  // namespace

std::span<const Op> sequence_ops() { return table; }

}  // namespace sinter
