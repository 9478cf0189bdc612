// MatMul, Conv, ConvTranspose, Einsum, DeformConv: their rows, and MatMul itself.

#include "ops/contraction.h"

#include <fmt/core.h>

#include <algorithm>

#include "base/checked.h"
#include "ops/arrays.h"
#include "ops/convolution.h"
#include "ops/deform_conv.h"
#include "ops/einsum.h"
#include "ops/families.h"
#include "ops/integer_product.h"

namespace sinter {

std::span<const char* const> enum_names(Numerics) {
  static constexpr const char* names[] = {"strict", "tf32", "bf16", "fp16"};
  return names;
}

const Fields& fields_of(const MatMulAttrs*) {
  static const Fields f = describe<MatMulAttrs>(
      {field<&MatMulAttrs::transpose_b>("transpose_b"), field<&MatMulAttrs::numerics>("numerics")});
  return f;
}

const Fields& fields_of(const ConvAttrs*) {
  static const Fields f =
      describe<ConvAttrs>({field<&ConvAttrs::auto_pad>("auto_pad"), field<&ConvAttrs::dilations>("dilations"),
                           field<&ConvAttrs::group>("group"), field<&ConvAttrs::pads>("pads"),
                           field<&ConvAttrs::strides>("strides"), field<&ConvAttrs::numerics>("numerics")});
  return f;
}

const Fields& fields_of(const ConvTransposeAttrs*) {
  static const Fields f = describe<ConvTransposeAttrs>(
      {field<&ConvTransposeAttrs::auto_pad>("auto_pad"), field<&ConvTransposeAttrs::dilations>("dilations"),
       field<&ConvTransposeAttrs::group>("group"), field<&ConvTransposeAttrs::output_padding>("output_padding"),
       field<&ConvTransposeAttrs::output_shape>("output_shape"), field<&ConvTransposeAttrs::pads>("pads"),
       field<&ConvTransposeAttrs::strides>("strides"), field<&ConvTransposeAttrs::numerics>("numerics")});
  return f;
}

namespace {

// Calls `visit` with the struct that the attributes are, if they have numerics.
template <typename F>
bool with_struct(const Attrs& attrs, F visit) {
  if (attrs.fields() == nullptr) return false;
  if (attrs.fields() == fields<MatMulAttrs>())
    visit(attrs.as<MatMulAttrs>());
  else if (attrs.fields() == fields<ConvAttrs>())
    visit(attrs.as<ConvAttrs>());
  else if (attrs.fields() == fields<ConvTransposeAttrs>())
    visit(attrs.as<ConvTransposeAttrs>());
  else
    return false;
  return true;
}

}  // namespace

std::optional<Numerics> numerics_of(const Attrs& attrs) {
  std::optional<Numerics> out;
  with_struct(attrs, [&](const auto& s) { out = s.numerics; });
  return out;
}

Attrs with_numerics(const Attrs& attrs, Numerics numerics) {
  Attrs out = attrs;
  with_struct(attrs, [&](auto s) {
    s.numerics = numerics;
    out = s;
  });
  return out;
}

const Fields& fields_of(const EinsumAttrs*) {
  static const Fields f = describe<EinsumAttrs>({field<&EinsumAttrs::equation>("equation")});
  return f;
}

const Fields& fields_of(const DeformConvAttrs*) {
  static const Fields f = describe<DeformConvAttrs>(
      {field<&DeformConvAttrs::dilations>("dilations"), field<&DeformConvAttrs::group>("group"),
       field<&DeformConvAttrs::offset_group>("offset_group"), field<&DeformConvAttrs::pads>("pads"),
       field<&DeformConvAttrs::strides>("strides")});
  return f;
}

namespace {

void infer_matmul(InferContext& c) {
  const bool transposed = c.attrs<MatMulAttrs>().transpose_b;
  c.set(0, c.dtype(1));
  const DType dtype = check_factors(c, {});
  const Shape &a = c.shape(0), &b = c.shape(1);
  if (a.empty() || b.empty()) c.fail("an operand is a scalar, it must have an axis to sum over");
  if (transposed && b.size() < 2) c.fail("transpose_b needs an operand of rank 2 or more");
  const Dim& depth_b = b.size() == 1 ? b[0] : transposed ? b[b.size() - 1] : b[b.size() - 2];
  c.require_equal(a.back(), depth_b, "extent that MatMul sums over");
  const auto batch = [](const Shape& s) { return Shape(s.begin(), s.end() - std::min<ptrdiff_t>(2, std::ssize(s))); };
  Shape out = c.broadcast(batch(a), batch(b));
  if (a.size() > 1) out.push_back(a[a.size() - 2]);
  if (b.size() > 1) out.push_back(transposed ? b[b.size() - 2] : b[b.size() - 1]);
  c.set(0, dtype, std::move(out));
}

template <typename T>
void matmul(EvalContext& c) {
  const bool transposed = c.attrs<MatMulAttrs>().transpose_b;
  const Tensor &a = c.in(0), &b = c.in(1);
  Tensor& y = c.out(0);
  if (y.count() == 0) return;
  Dims da = a.dims(), db = b.dims();
  const bool vector_b = db.size() == 1;
  if (da.size() == 1) da.insert(da.begin(), 1);
  if (vector_b) db.push_back(1);
  const int64_t depth = da.back(), columns = transposed ? db[db.size() - 2] : db.back();
  Dims batch_a(da.begin(), da.end() - 2), batch_b(db.begin(), db.end() - 2);
  int64_t rows = da[da.size() - 2];
  if (element_count(batch_b) == 1) {
    // One right factor for all batches: they are rows.
    rows *= element_count(batch_a);
    batch_a.clear();
    batch_b.clear();
  }
  const size_t rank = std::max(batch_a.size(), batch_b.size());
  batch_a.insert(batch_a.begin(), rank - batch_a.size(), 1);
  batch_b.insert(batch_b.begin(), rank - batch_b.size(), 1);
  Dims batch(rank);
  for (size_t k = 0; k < rank; ++k) batch[k] = batch_a[k] == 1 ? batch_b[k] : batch_a[k];
  const auto strides_a = dense_strides(batch_a), strides_b = dense_strides(batch_b);
  std::vector<int64_t> at(rank, 0);
  int64_t number = 0;
  do {
    int64_t ia = 0, ib = 0;
    for (size_t k = 0; k < rank; ++k) {
      if (batch_a[k] != 1) ia += at[k] * strides_a[k];
      if (batch_b[k] != 1) ib += at[k] * strides_b[k];
    }
    const LeftFactor<T> left(rows, depth,
                             [&](int64_t m, T* to) { read_numbers(a, (ia * rows + m) * depth, depth, to); });
    std::vector<T> right;
    if (transposed) {  // columns of the product are rows of b, read once per block of columns
      right.resize(static_cast<size_t>(64 * depth));
    }
    const auto fill = [&](int64_t k, int64_t column, int64_t count, T* to) {
      if (!transposed) return read_numbers(b, (ib * depth + k) * columns + column, count, to);
      if (k == 0) read_numbers(b, (ib * columns + column) * depth, count * depth, right.data());
      for (int64_t i = 0; i < count; ++i) to[i] = right[static_cast<size_t>(i * depth + k)];
    };
    const auto store = [&](int64_t m, int64_t column, int64_t count, const T* values) {
      write_numbers(y, (number * rows + m) * columns + column, count, values);
    };
    multiply(left, columns, fill, store);
    ++number;
  } while (next_position(at, batch));
}

void eval_matmul(EvalContext& c) {
  if (is_float(c.in(0).dtype()))
    matmul<double>(c);
  else
    matmul<uint64_t>(c);
}

Cost matmul_cost(const Attrs&, std::span<const Type> inputs, std::span<const Type> outputs,
                 std::span<const int64_t> symbols) {
  Cost cost;
  const auto count = [&](const Type& t) {
    return t.has_shape() ? static_cast<double>(element_count(evaluate(*t.shape, symbols))) : 0.0;
  };
  for (const auto& types : {inputs, outputs})
    for (const Type& t : types)
      if (t.is_tensor()) cost.bytes += count(t) * bit_size(t.dtype) / 8;
  if (inputs[0].has_shape() && !inputs[0].shape->empty())
    cost.flops = 2 * count(outputs[0]) * static_cast<double>(inputs[0].shape->back().evaluate(symbols));
  return cost;
}

constexpr Op table[] = {
    {.name = "MatMul",
     .fields = fields<MatMulAttrs>,
     .inputs = {2, 2},
     .infer = infer_matmul,
     .eval = eval_matmul,
     .cost = matmul_cost},
    {.name = "Conv",
     .fields = fields<ConvAttrs>,
     .inputs = {2, 3},
     .infer = infer_conv,
     .eval = eval_conv,
     .cost = conv_cost},
    {.name = "ConvTranspose",
     .fields = fields<ConvTransposeAttrs>,
     .inputs = {2, 3},
     .infer = infer_conv_transpose,
     .eval = eval_conv_transpose,
     .cost = conv_cost},
    {.name = "Einsum",
     .fields = fields<EinsumAttrs>,
     .inputs = {1, Arity::any},
     .infer = infer_einsum,
     .eval = eval_einsum},
    {.name = "DeformConv",
     .fields = fields<DeformConvAttrs>,
     .inputs = {3, 5},
     .infer = infer_deform_conv,
     .eval = eval_deform_conv},
    {.name = "MatMulInteger", .inputs = {2, 4}, .infer = infer_matmul_integer, .eval = eval_matmul_integer},
    {.name = "ConvInteger",
     .fields = fields<ConvAttrs>,
     .inputs = {2, 4},
     .infer = infer_conv_integer,
     .eval = eval_conv_integer},
};

}  // namespace

std::span<const Op> contraction_ops() { return table; }

}  // namespace sinter
