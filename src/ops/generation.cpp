// Range, Band, EyeLike, RandomUniform, RandomNormal, Multinomial.

#include "ops/generation.h"

#include <fmt/core.h>

#include <algorithm>
#include <cmath>
#include <random>

#include "base/checked.h"
#include "ops/elements.h"
#include "ops/families.h"
#include "ops/op.h"

namespace sinter {

const Fields& fields_of(const EyeLikeAttrs*) {
  static const Fields f = describe<EyeLikeAttrs>({field<&EyeLikeAttrs::dtype>("dtype"), field<&EyeLikeAttrs::k>("k")});
  return f;
}

const Fields& fields_of(const RandomUniformAttrs*) {
  static const Fields f = describe<RandomUniformAttrs>(
      {field<&RandomUniformAttrs::dtype>("dtype"), field<&RandomUniformAttrs::low>("low"),
       field<&RandomUniformAttrs::high>("high"), field<&RandomUniformAttrs::seed>("seed")});
  return f;
}

const Fields& fields_of(const RandomNormalAttrs*) {
  static const Fields f =
      describe<RandomNormalAttrs>({field<&RandomNormalAttrs::dtype>("dtype"), field<&RandomNormalAttrs::mean>("mean"),
                                   field<&RandomNormalAttrs::scale>("scale"), field<&RandomNormalAttrs::seed>("seed")});
  return f;
}

const Fields& fields_of(const MultinomialAttrs*) {
  static const Fields f = describe<MultinomialAttrs>({field<&MultinomialAttrs::dtype>("dtype"),
                                                      field<&MultinomialAttrs::samples>("samples"),
                                                      field<&MultinomialAttrs::seed>("seed")});
  return f;
}

namespace {

// ---- Range ----

constexpr int64_t max_range_contents = 1024;

// Number of elements of a range of floats; throws through `fail` when there is no such number.
template <typename Fail>
int64_t real_range(double start, double limit, double delta, Fail fail) {
  if (delta == 0 || std::isnan(delta)) fail("the step is 0 or no number");
  const double n = std::ceil((limit - start) / delta);
  if (!(n <= static_cast<double>(max_elements))) fail(fmt::format("a range of {} elements", n));
  return n > 0 ? static_cast<int64_t>(n) : 0;
}

void infer_range(InferContext& c) {
  const DType dtype = c.dtype(0);
  c.set(0, dtype);
  for (size_t i = 0; i < 3; ++i) {
    if (c.dtype(i) != dtype)
      c.fail(fmt::format("operand {} is {}, operand 0 is {}", i, dtype_name(c.dtype(i)), dtype_name(dtype)));
    if (!c.type(i).has_shape()) continue;
    if (c.rank(i) > 1) c.fail(fmt::format("operand {} has rank {}, it must be one number", i, c.rank(i)));
    c.require_equal(element_count(c.shape(i)), 1, "number of elements");
  }
  if (!is_float(dtype) && !is_integer(dtype)) c.fail(fmt::format("there are no ranges of {}", dtype_name(dtype)));
  const auto unknown = [&] { c.set(0, dtype, {c.host_decided(0, 0)}); };
  if (is_float(dtype)) {
    double v[3];
    for (size_t i = 0; i < 3; ++i) {
      const Tensor* t = c.constant(i);
      if (!t || t->count() != 1) return unknown();
      v[i] = t->get_real(0);
    }
    return c.set(0, dtype, {Dim(real_range(v[0], v[1], v[2], [&](std::string s) { c.fail(std::move(s)); }))});
  }
  Dim v[3];
  for (size_t i = 0; i < 3; ++i) {
    const auto known = c.integers(i);
    if (!known || known->size() != 1) return unknown();
    v[i] = known->front();
    // Numbers beyond 63 bits are held as negative ones.
    if (dtype == DType::u64 && v[i].is_constant() && v[i].constant() < 0) c.fail("a range beyond 63 bits");
  }
  const auto by = v[2].as_constant();
  if (!by) return unknown();
  if (*by == 0) c.fail("the step is 0");
  if (*by == INT64_MIN) c.fail("a step beyond 63 bits");
  const Dim span = *by > 0 ? v[1] - v[0] : v[0] - v[1];
  const Dim n = ceildiv(at_least_zero(span), std::abs(*by));
  c.set(0, dtype, {n});
  const auto count = n.as_constant();
  if (!count || *count > max_range_contents) return;
  std::vector<Dim> elements;
  for (int64_t i = 0; i < *count; ++i) elements.push_back(v[0] + Dim(i) * Dim(*by));
  c.set_contents(0, std::move(elements));
}

void eval_range(EvalContext& c) {
  Tensor& y = c.out(0);
  const Tensor &start = c.in(0), &delta = c.in(2);
  if (is_float(y.dtype())) {
    const double a = start.get_real(0), by = delta.get_real(0);
    for (int64_t i = 0; i < y.count(); ++i) y.set_real(i, a + static_cast<double>(i) * by);
    return;
  }
  auto value = static_cast<uint64_t>(start.get_integer(0));
  const auto by = static_cast<uint64_t>(delta.get_integer(0));
  for (int64_t i = 0; i < y.count(); ++i, value += by) y.set_integer(i, static_cast<int64_t>(value));
}

// ---- EyeLike ----

void infer_eye_like(InferContext& c) {
  const DType dtype = c.attrs<EyeLikeAttrs>().dtype;
  c.set(0, dtype);
  if (!is_float(dtype) && !is_integer(dtype) && dtype != DType::boolean)
    c.fail(fmt::format("there is no unit matrix of {}", dtype_name(dtype)));
  c.type(0);
  if (c.rank(0) != 2) c.fail(fmt::format("the operand has rank {}, a matrix is needed", c.rank(0)));
  c.set(0, dtype, c.shape(0));
}

void eval_eye_like(EvalContext& c) {
  Tensor& y = c.out(0);
  const int64_t rows = y.dims()[0], cols = y.dims()[1];
  const int64_t k = c.attrs<EyeLikeAttrs>().k;
  if (k >= cols || k <= -rows) return;
  const bool real = is_float(y.dtype());
  for (int64_t r = std::max<int64_t>(0, -k); r < rows && r + k < cols; ++r)
    real ? y.set_real(r * cols + r + k, 1) : y.set_integer(r * cols + r + k, 1);
}

// ---- random numbers ----

// The numbers of NumPy's RandomState: the 32-bit Mersenne twister, doubles of 53 bits from two of its words. The
// distributions of the standard library are not the same everywhere.
class Random {
 public:
  explicit Random(int64_t seed) {
    if (seed >= 0) {
      engine_.seed(static_cast<uint32_t>(seed));
      return;
    }
    std::random_device device;
    std::seed_seq words{device(), device(), device(), device()};
    engine_.seed(words);
  }
  // In [0, 1).
  double uniform() {
    const auto high = static_cast<double>(engine_() >> 5), low = static_cast<double>(engine_() >> 6);
    return (high * 0x1p26 + low) * 0x1p-53;
  }
  // Two at a time, by Marsaglia's polar method; the second point's coordinate comes first.
  double normal() {
    if (have_) {
      have_ = false;
      return spare_;
    }
    double x, y, square;
    do {
      x = 2 * uniform() - 1;
      y = 2 * uniform() - 1;
      square = x * x + y * y;
    } while (square >= 1 || square == 0);
    const double factor = std::sqrt(-2 * std::log(square) / square);
    spare_ = factor * x;
    have_ = true;
    return factor * y;
  }

 private:
  std::mt19937 engine_;
  double spare_ = 0;
  bool have_ = false;
};

void infer_random(InferContext& c, DType dtype) {
  c.set(0, dtype);
  if (!is_float(dtype)) c.fail(fmt::format("random numbers of {}", dtype_name(dtype)));
  const HostList wanted = host_list(c, 0, "shape");
  if (!wanted.length) throw RankUnknown{};
  if (*wanted.length > max_rank_of_values) c.fail(fmt::format("a shape of {} axes", *wanted.length));
  Shape out;
  for (size_t k = 0; k < *wanted.length; ++k) {
    out.push_back(wanted.values ? (*wanted.values)[k] : c.host_decided(0, k));
    if (out[k].is_constant() && out[k].constant() < 0) c.fail(fmt::format("extent {} in the shape", out[k].constant()));
  }
  c.set(0, dtype, std::move(out));
}

void infer_uniform(InferContext& c) { infer_random(c, c.attrs<RandomUniformAttrs>().dtype); }
void infer_normal(InferContext& c) { infer_random(c, c.attrs<RandomNormalAttrs>().dtype); }

void eval_uniform(EvalContext& c) {
  const auto& a = c.attrs<RandomUniformAttrs>();
  Tensor& y = c.out(0);
  Random random(a.seed);
  for (int64_t i = 0; i < y.count(); ++i) y.set_real(i, a.low + (a.high - a.low) * random.uniform());
}

void eval_normal(EvalContext& c) {
  const auto& a = c.attrs<RandomNormalAttrs>();
  Tensor& y = c.out(0);
  Random random(a.seed);
  for (int64_t i = 0; i < y.count(); ++i) y.set_real(i, a.mean + a.scale * random.normal());
}

void infer_multinomial(InferContext& c) {
  const auto& a = c.attrs<MultinomialAttrs>();
  c.set(0, a.dtype);
  if (a.dtype != DType::i32 && a.dtype != DType::i64)
    c.fail(fmt::format("classes are numbered in i32 or i64, not in {}", dtype_name(a.dtype)));
  if (!is_float(c.dtype(0))) c.fail(fmt::format("the log probabilities are {}", dtype_name(c.dtype(0))));
  if (a.samples < 0) c.fail(fmt::format("{} samples", a.samples));
  const Shape& x = c.shape(0);
  if (x.size() != 2) c.fail(fmt::format("the operand has rank {}, [batch, classes] is needed", x.size()));
  c.set(0, a.dtype, {x[0], Dim(a.samples)});
}

void eval_multinomial(EvalContext& c) {
  const auto& a = c.attrs<MultinomialAttrs>();
  const Tensor& x = c.in(0);
  Tensor& y = c.out(0);
  if (y.count() == 0) return;
  const int64_t classes = x.dims()[1];
  Random random(a.seed);
  std::vector<double> sums(static_cast<size_t>(classes));
  for (int64_t b = 0; b < x.dims()[0]; ++b) {
    double top = -INFINITY;
    for (int64_t k = 0; k < classes; ++k) top = std::fmax(top, x.get_real(b * classes + k));
    if (!std::isfinite(top)) c.fail("no class has a probability");
    double sum = 0;
    for (int64_t k = 0; k < classes; ++k) {
      const double weight = std::exp(x.get_real(b * classes + k) - top);
      if (weight > 0) sum += weight;  // NaN has no weight
      sums[static_cast<size_t>(k)] = sum;
    }
    for (int64_t s = 0; s < a.samples; ++s) {
      // The first class whose sum lies above the draw: its weight is not 0. The draw is below the last sum.
      const auto at = std::upper_bound(sums.begin(), sums.end(), random.uniform() * sum);
      y.set_integer(b * a.samples + s, std::min<int64_t>(at - sums.begin(), classes - 1));
    }
  }
}

// ---- Band ----

void infer_band(InferContext& c) {
  c.set(0, DType::boolean);
  Shape batch;
  for (size_t i : {size_t{1}, size_t{2}}) {
    if (!c.has(i)) continue;
    if (c.dtype(i) != DType::i64) c.fail(fmt::format("bound {} is {}, it must be i64", i, dtype_name(c.dtype(i))));
    const Shape& bound = c.shape(i);
    for (size_t k = bound.size() < 2 ? 0 : bound.size() - 2; k < bound.size(); ++k)
      c.require_equal(bound[k], 1, "extent of a bound along rows and columns");
    if (bound.size() > 2) batch = c.broadcast(batch, Shape(bound.begin(), bound.end() - 2));
  }
  if (!is_integer(c.dtype(0))) c.fail(fmt::format("the shape is {}, integers are needed", dtype_name(c.dtype(0))));
  if (c.type(0).has_shape()) {
    if (c.rank(0) != 1) c.fail(fmt::format("the shape has rank {}, it must be a list", c.rank(0)));
    c.require_equal(c.shape(0)[0], 2, "number of extents");
  }
  const auto known = c.integers(0);
  for (size_t k = 0; k < 2; ++k) {
    if (known) c.require_at_least((*known)[k], 0, "extent");
    batch.push_back(known ? (*known)[k] : c.host_decided(0, batch.size()));
  }
  c.set(0, DType::boolean, std::move(batch));
}

void eval_band(EvalContext& c) {
  Tensor& y = c.out(0);
  const int64_t rows = y.dims()[y.rank() - 2], columns = y.dims()[y.rank() - 1];
  const Dims batch(y.dims().begin(), y.dims().end() - 2);
  const auto bound = [&](size_t i, int64_t matrix, int64_t otherwise) {
    if (!c.has(i)) return otherwise;
    const Tensor& t = c.in(i);
    int64_t at = 0, stride = 1;
    for (size_t k = batch.size(), own = t.rank(); k-- > 0; matrix /= batch[k]) {
      const int64_t extent = own > 2 ? t.dims()[own-- - 3] : 1;
      if (extent > 1) at += matrix % batch[k] * stride;
      stride *= extent;
    }
    return t.get_integer(at);
  };
  for (int64_t i = 0; i < y.count(); ++i) {
    const int64_t matrix = i / columns / rows, diagonal = i % columns - i / columns % rows;
    y.set_integer(i, bound(1, matrix, INT64_MIN) <= diagonal && diagonal <= bound(2, matrix, INT64_MAX));
  }
}

// Bounds around the main diagonal, such that most rows see something.
Tensor sample_band(const Op&, const Attrs&, size_t input, std::span<const Type> types, uint64_t seed) {
  Tensor tensor = sample_values(types[input], seed);
  if (input == 0) return tensor;
  std::mt19937_64 random(seed);
  for (int64_t i = 0; i < tensor.count(); ++i) {
    const auto near = static_cast<int64_t>(random() % 97);
    tensor.set_integer(i, input == 1 ? -near : near - 8);
  }
  return tensor;
}

constexpr Op table[] = {
    {.name = "Range", .inputs = {3, 3}, .host_inputs = 0b111, .infer = infer_range, .eval = eval_range},
    {.name = "Band",
     .inputs = {1, 3},
     .host_inputs = 0b1,
     .is = {.compact = true},
     .infer = infer_band,
     .eval = eval_band,
     .sample = sample_band},
    {.name = "EyeLike", .fields = fields<EyeLikeAttrs>, .infer = infer_eye_like, .eval = eval_eye_like},
    {.name = "RandomUniform",
     .fields = fields<RandomUniformAttrs>,
     .host_inputs = 0b1,
     .is = {.deterministic = false},
     .infer = infer_uniform,
     .eval = eval_uniform},
    {.name = "RandomNormal",
     .fields = fields<RandomNormalAttrs>,
     .host_inputs = 0b1,
     .is = {.deterministic = false},
     .infer = infer_normal,
     .eval = eval_normal},
    {.name = "Multinomial",
     .fields = fields<MultinomialAttrs>,
     .is = {.deterministic = false},
     .infer = infer_multinomial,
     .eval = eval_multinomial},
};

}  // namespace

bool draws_anew(const Op& op, const Attrs& attrs) {
  const std::string_view name = op.name;
  if (name == "RandomUniform") return attrs.as<RandomUniformAttrs>().seed < 0;
  if (name == "RandomNormal") return attrs.as<RandomNormalAttrs>().seed < 0;
  if (name == "Multinomial") return attrs.as<MultinomialAttrs>().seed < 0;
  return false;
}

std::span<const Op> generation_ops() { return table; }

}  // namespace sinter
