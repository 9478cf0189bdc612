// ReduceSum, ReduceMean, ReduceMax, ReduceMin, ReduceProd over a set of axes.

#include "ops/reduction.h"

#include <fmt/core.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "base/checked.h"
#include "ops/arrays.h"
#include "ops/families.h"
#include "ops/op.h"

namespace sinter {

const Fields& fields_of(const ReduceAttrs*) {
  static const Fields f = describe<ReduceAttrs>(
      {field<&ReduceAttrs::keep_dims>("keep_dims"), field<&ReduceAttrs::keep_without_axes>("keep_without_axes")});
  return f;
}

namespace {

enum class Kind { sum, mean, max, min, product };

void check_dtype(InferContext& c, bool ordered) {
  const DType d = c.dtype(0);
  if (!is_float(d) && !is_integer(d) && !(ordered && d == DType::boolean))
    c.fail(fmt::format("the operand is {}, it must be a float{} an integer", dtype_name(d),
                       ordered ? ", a bool or" : " or"));
}

// Which axes are reduced; axes in order of the mask.
std::vector<bool> mask_of(std::span<const int64_t> axes, size_t rank, bool keep_without_axes) {
  std::vector<bool> mask(rank, axes.empty() && !keep_without_axes);
  for (int64_t a : axes) mask[static_cast<size_t>(a)] = true;
  return mask;
}

void infer(InferContext& c) {
  const auto& a = c.attrs<ReduceAttrs>();
  const DType dtype = c.dtype(0);
  c.set(0, dtype);
  std::vector<int64_t> values;
  if (c.has(1)) {
    if (!is_integer(c.dtype(1))) c.fail(fmt::format("axes are {}, they must be integers", dtype_name(c.dtype(1))));
    const Shape& shape = c.shape(1);
    if (shape.size() > 1) c.fail(fmt::format("axes have rank {}, they must have 1", shape.size()));
    const bool none = shape.size() == 1 && shape[0] == Dim(0);
    const auto known = c.constant_integers(1);
    if (known) {
      values = *known;
    } else if (!none) {
      // Which axes is not known; how many decides the rank.
      const Shape& x = c.shape(0);
      size_t rank = x.size();
      if (!a.keep_dims) {
        const auto count = shape.empty() ? std::optional<int64_t>(1) : shape[0].as_constant();
        if (!count) throw RankUnknown{};
        if (*count > std::ssize(x)) c.fail(fmt::format("{} axes of an operand of rank {}", *count, x.size()));
        rank -= static_cast<size_t>(*count);
      }
      Shape out;
      for (size_t k = 0; k < rank; ++k)
        out.push_back(c.host_decided(0, k, 0, a.keep_dims ? std::optional<Dim>(max(x[k], 1)) : std::nullopt));
      return c.set(0, dtype, std::move(out));
    }
  }
  const Shape& x = c.shape(0);
  const auto mask = mask_of(c.axes(values, x.size()), x.size(), a.keep_without_axes);
  Shape out;
  for (size_t k = 0; k < x.size(); ++k) {
    if (!mask[k])
      out.push_back(x[k]);
    else if (a.keep_dims)
      out.emplace_back(1);
  }
  c.set(0, dtype, std::move(out));
}

void infer_arithmetic(InferContext& c) {
  check_dtype(c, false);
  infer(c);
}

void infer_ordered(InferContext& c) {
  check_dtype(c, true);
  infer(c);
}

// Order of u64 as of signed numbers.
constexpr uint64_t sign_bit = uint64_t{1} << 63;

template <Kind kind>
double initial_real() {
  if (kind == Kind::max) return -std::numeric_limits<double>::infinity();
  if (kind == Kind::min) return std::numeric_limits<double>::infinity();
  return kind == Kind::product ? 1 : 0;
}

template <Kind kind>
uint64_t initial_integer(DType dtype) {
  const int bits = dtype == DType::boolean ? 1 : bit_size(dtype);
  const bool is_signed_type = is_signed(dtype);
  if (kind == Kind::max) return is_signed_type ? ~uint64_t{0} << (bits - 1) : 0;
  if (kind == Kind::min) return ~uint64_t{0} >> (64 - bits + (is_signed_type ? 1 : 0));
  return kind == Kind::product ? 1 : 0;
}

template <Kind kind>
double combine(double a, double b, bool) {
  switch (kind) {
    case Kind::max: return a > b || a != a ? a : b;
    case Kind::min: return a < b || a != a ? a : b;
    case Kind::product: return a * b;
    default: return a + b;
  }
}

template <Kind kind>
uint64_t combine(uint64_t a, uint64_t b, bool is_unsigned) {
  const uint64_t flip = is_unsigned ? 0 : sign_bit;
  switch (kind) {
    case Kind::max: return (a ^ flip) > (b ^ flip) ? a : b;
    case Kind::min: return (a ^ flip) < (b ^ flip) ? a : b;
    case Kind::product: return a * b;
    default: return a + b;
  }
}

double divide(double sum, int64_t count, bool) { return sum / static_cast<double>(count); }

uint64_t divide(uint64_t sum, int64_t count, bool is_unsigned) {
  if (count == 0) return 0;
  if (is_unsigned) return sum / static_cast<uint64_t>(count);
  return static_cast<uint64_t>(static_cast<int64_t>(sum) / count);
}

template <Kind kind, typename T>
void reduce(EvalContext& c, T initial) {
  const auto& a = c.attrs<ReduceAttrs>();
  const Tensor& x = c.in(0);
  Tensor& y = c.out(0);
  const size_t rank = x.rank();
  std::vector<int64_t> axes;
  if (c.has(1))
    for (int64_t v : c.in(1).to_integers()) axes.push_back(v < 0 ? v + std::ssize(x.dims()) : v);
  const auto mask = mask_of(axes, rank, a.keep_without_axes);
  const bool is_unsigned = !is_signed(x.dtype());
  int64_t reduced = 0;  // elements per result
  std::vector<T> result(static_cast<size_t>(y.count()), initial);
  if (x.count() > 0) {
    // Steps in the result for each axis of the operand; 0 where reduced.
    std::vector<int64_t> steps(rank, 0);
    int64_t step = 1;
    reduced = 1;
    for (size_t k = rank; k-- > 0;) {
      if (mask[k]) {
        reduced *= x.dims()[k];
      } else {
        steps[k] = step;
        step *= x.dims()[k];
      }
    }
    const int64_t width = rank ? x.dims()[rank - 1] : 1;
    const Dims outer = rank ? Dims(x.dims().begin(), x.dims().end() - 1) : Dims{};
    const bool last_reduced = rank && mask[rank - 1];
    std::vector<T> row(static_cast<size_t>(width));
    std::vector<int64_t> at(outer.size(), 0);
    int64_t start = 0;
    do {
      int64_t to = 0;
      for (size_t k = 0; k < outer.size(); ++k) to += at[k] * steps[k];
      read_numbers(x, start, width, row.data());
      start += width;
      T* out = result.data() + to;
      if (last_reduced) {
        T value = *out;
        for (const T& v : row) value = combine<kind>(value, v, is_unsigned);
        *out = value;
      } else {
        for (int64_t i = 0; i < width; ++i) out[i] = combine<kind>(out[i], row[static_cast<size_t>(i)], is_unsigned);
      }
    } while (next_position(at, outer));
  }
  if (kind == Kind::mean)
    for (T& v : result) v = divide(v, reduced, is_unsigned);
  write_numbers(y, 0, y.count(), result.data());
}

template <Kind kind>
void eval(EvalContext& c) {
  const DType dtype = c.in(0).dtype();
  if (is_float(dtype))
    reduce<kind, double>(c, initial_real<kind>());
  else
    reduce<kind, uint64_t>(c, initial_integer<kind>(dtype));
}

Cost cost_of(const Attrs&, std::span<const Type> inputs, std::span<const Type> outputs,
             std::span<const int64_t> symbols) {
  Cost cost;
  for (const auto& types : {inputs, outputs})
    for (const Type& t : types)
      if (t.has_shape())
        cost.bytes += static_cast<double>(element_count(evaluate(*t.shape, symbols))) * bit_size(t.dtype) / 8;
  if (inputs[0].has_shape()) cost.flops = static_cast<double>(element_count(evaluate(*inputs[0].shape, symbols)));
  return cost;
}

constexpr Op row(const char* name, void (*infer_row)(InferContext&), void (*eval_row)(EvalContext&)) {
  return {.name = name,
          .fields = fields<ReduceAttrs>,
          .inputs = {1, 2},
          .host_inputs = 0b10,
          .infer = infer_row,
          .eval = eval_row,
          .cost = cost_of};
}

constexpr Op table[] = {
    row("ReduceSum", infer_arithmetic, eval<Kind::sum>),      row("ReduceMean", infer_arithmetic, eval<Kind::mean>),
    row("ReduceMax", infer_ordered, eval<Kind::max>),         row("ReduceMin", infer_ordered, eval<Kind::min>),
    row("ReduceProd", infer_arithmetic, eval<Kind::product>),
};

}  // namespace

std::span<const Op> reduction_ops() { return table; }

}  // namespace sinter
