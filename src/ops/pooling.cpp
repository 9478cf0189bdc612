// MaxPool, AveragePool, LpPool, MaxUnpool; the rows of all pooling operators.

#include "ops/pooling.h"

#include <fmt/core.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "base/checked.h"
#include "ops/arrays.h"
#include "ops/families.h"
#include "ops/roi.h"

namespace sinter {

std::span<const char* const> enum_names(RoiMode) {
  static constexpr const char* names[] = {"average", "max"};
  return names;
}

const Fields& fields_of(const MaxPoolAttrs*) {
  static const Fields f =
      describe<MaxPoolAttrs>({field<&MaxPoolAttrs::auto_pad>("auto_pad"), field<&MaxPoolAttrs::ceil_mode>("ceil_mode"),
                              field<&MaxPoolAttrs::dilations>("dilations"), field<&MaxPoolAttrs::kernel>("kernel"),
                              field<&MaxPoolAttrs::pads>("pads"), field<&MaxPoolAttrs::column_major>("column_major"),
                              field<&MaxPoolAttrs::strides>("strides")});
  return f;
}

const Fields& fields_of(const AveragePoolAttrs*) {
  static const Fields f = describe<AveragePoolAttrs>(
      {field<&AveragePoolAttrs::auto_pad>("auto_pad"), field<&AveragePoolAttrs::ceil_mode>("ceil_mode"),
       field<&AveragePoolAttrs::count_pads>("count_pads"), field<&AveragePoolAttrs::dilations>("dilations"),
       field<&AveragePoolAttrs::kernel>("kernel"), field<&AveragePoolAttrs::pads>("pads"),
       field<&AveragePoolAttrs::strides>("strides")});
  return f;
}

const Fields& fields_of(const LpPoolAttrs*) {
  static const Fields f = describe<LpPoolAttrs>(
      {field<&LpPoolAttrs::auto_pad>("auto_pad"), field<&LpPoolAttrs::ceil_mode>("ceil_mode"),
       field<&LpPoolAttrs::dilations>("dilations"), field<&LpPoolAttrs::kernel>("kernel"), field<&LpPoolAttrs::p>("p"),
       field<&LpPoolAttrs::pads>("pads"), field<&LpPoolAttrs::strides>("strides")});
  return f;
}

const Fields& fields_of(const MaxUnpoolAttrs*) {
  static const Fields f =
      describe<MaxUnpoolAttrs>({field<&MaxUnpoolAttrs::kernel>("kernel"), field<&MaxUnpoolAttrs::pads>("pads"),
                                field<&MaxUnpoolAttrs::strides>("strides")});
  return f;
}

const Fields& fields_of(const RoiAlignAttrs*) {
  static const Fields f = describe<RoiAlignAttrs>(
      {field<&RoiAlignAttrs::mode>("mode"), field<&RoiAlignAttrs::half_pixel>("half_pixel"),
       field<&RoiAlignAttrs::height>("height"), field<&RoiAlignAttrs::width>("width"),
       field<&RoiAlignAttrs::sampling_ratio>("sampling_ratio"), field<&RoiAlignAttrs::scale>("scale")});
  return f;
}

const Fields& fields_of(const MaxRoiPoolAttrs*) {
  static const Fields f =
      describe<MaxRoiPoolAttrs>({field<&MaxRoiPoolAttrs::height>("height"), field<&MaxRoiPoolAttrs::width>("width"),
                                 field<&MaxRoiPoolAttrs::scale>("scale")});
  return f;
}

namespace {

template <typename A>
WindowRef window_of(const A& a) {
  return {a.auto_pad, a.kernel, a.strides, a.dilations, a.pads, a.ceil_mode};
}

template <typename A>
Shape pooled_shape(InferContext& c) {
  const Shape& x = c.shape(0);
  if (x.size() < 3) c.fail(fmt::format("the operand has rank {}, it must be [N, C, spatial...]", x.size()));
  Shape out{x[0], x[1]};
  const std::vector<Dim> spatial(x.begin() + 2, x.end());
  for (Dim& d : window_extents(c, spatial, window_of(c.attrs<A>()))) out.push_back(std::move(d));
  return out;
}

void infer_max_pool(InferContext& c) {
  const DType dtype = c.dtype(0);
  if (!is_float(dtype) && !is_integer(dtype))
    c.fail(fmt::format("the operand is {}, it must be a float or an integer", dtype_name(dtype)));
  c.set(0, dtype);
  c.set(1, DType::i64);
  Shape out = pooled_shape<MaxPoolAttrs>(c);
  c.set(1, DType::i64, out);
  c.set(0, dtype, std::move(out));
}

template <typename A>
void infer_real_pool(InferContext& c) {
  const DType dtype = c.dtype(0);
  if (!is_float(dtype)) c.fail(fmt::format("the operand is {}, it must be a float", dtype_name(dtype)));
  c.set(0, dtype);
  c.set(0, dtype, pooled_shape<A>(c));
}

void infer_lp_pool(InferContext& c) {
  const int64_t p = c.attrs<LpPoolAttrs>().p;
  if (p < 1) c.fail(fmt::format("p is {}, it must be at least 1", p));
  infer_real_pool<LpPoolAttrs>(c);
}

// The elements of a plane that one window covers, in order.
struct Window {
  std::vector<int64_t> offsets;
  double padded = 1;  // how many there would be if the explicit padding held elements
};

// f(position, window) for every position of the result's plane.
template <typename A, typename F>
void each_window(const A& a, const Dims& x, const Dims& y, F f) {
  const size_t n = x.size() - 2;
  const Dims in(x.begin() + 2, x.end()), out(y.begin() + 2, y.end());
  const Pads pads = resolve_pads(in, window_of(a));
  if (element_count(out) == 0) return;
  const std::vector<int64_t> strides = dense_strides(in);
  std::vector<int64_t> at(n, 0);
  std::vector<std::vector<int64_t>> taps(n);
  Window window;
  int64_t position = 0;
  do {
    window.padded = 1;
    for (size_t k = 0; k < n; ++k) {
      taps[k].clear();
      const int64_t start = at[k] * window_step(a.strides, k) - pads.before[k], step = window_step(a.dilations, k);
      // Taps below the bound: tap * step + start < bound.
      const auto below = [&](int64_t bound) {
        return bound <= start ? 0 : std::min(a.kernel[k], (bound - start - 1) / step + 1);
      };
      window.padded *= static_cast<double>(below(checked_add(in[k], pads.after[k])));
      for (int64_t t = below(0); t < below(in[k]); ++t) taps[k].push_back((start + t * step) * strides[k]);
    }
    window.offsets.assign(1, 0);
    for (size_t k = 0; k < n; ++k) {
      std::vector<int64_t> more;
      more.reserve(window.offsets.size() * taps[k].size());
      for (int64_t offset : window.offsets)
        for (int64_t t : taps[k]) more.push_back(offset + t);
      window.offsets = std::move(more);
    }
    f(position++, window);
  } while (next_position(at, out));
}

// Offset in a plane counted with the first axis running fastest.
int64_t column_major_offset(int64_t offset, const Dims& x) {
  if (offset == 0) return 0;  // also that of a plane without elements
  int64_t out = 0, scale = element_count(std::span(x).subspan(2));
  for (size_t k = x.size(); k-- > 2;) {
    scale /= x[k];
    out += offset % x[k] * scale;
    offset /= x[k];
  }
  return out;
}

template <typename T>
void max_pool(EvalContext& c, T lowest) {
  const auto& a = c.attrs<MaxPoolAttrs>();
  const Tensor& x = c.in(0);
  Tensor& y = c.out(0);
  const bool wants_indices = c.outputs.size() > 1;
  if (y.count() == 0) return;
  const int64_t planes = x.dims()[0] * x.dims()[1], in = x.count() / planes, out = y.count() / planes;
  const std::vector<T> data = numbers_of<T>(x);
  std::vector<T> best(static_cast<size_t>(y.count()));
  each_window(a, x.dims(), y.dims(), [&](int64_t position, const Window& window) {
    for (int64_t p = 0; p < planes; ++p) {
      const T* from = data.data() + p * in;
      T value = lowest;
      int64_t where = window.offsets.empty() ? 0 : window.offsets[0];
      bool first = true;
      for (int64_t offset : window.offsets) {
        const T v = from[offset];
        bool larger;
        if constexpr (std::is_same_v<T, double>)
          larger = v > value || (v != v && value == value);  // the first NaN stays
        else
          larger = is_signed(x.dtype()) ? static_cast<int64_t>(v) > static_cast<int64_t>(value) : v > value;
        if (first || larger) {
          value = v;
          where = offset;
        }
        first = false;
      }
      best[static_cast<size_t>(p * out + position)] = value;
      if (wants_indices)
        c.out(1).set_integer(p * out + position,
                             p * in + (a.column_major ? column_major_offset(where, x.dims()) : where));
    }
  });
  write_numbers(y, 0, y.count(), best.data());
}

void eval_max_pool(EvalContext& c) {
  const DType dtype = c.in(0).dtype();
  if (is_float(dtype)) return max_pool<double>(c, -std::numeric_limits<double>::infinity());
  max_pool<uint64_t>(c, is_signed(dtype) ? ~uint64_t{0} << (bit_size(dtype) - 1) : 0);
}

// Pools whose result is finish(sum of element(x), window).
template <typename A, typename Element, typename Finish>
void sum_pool(EvalContext& c, const A& a, Element element, Finish finish) {
  const Tensor& x = c.in(0);
  Tensor& y = c.out(0);
  if (y.count() == 0) return;
  const int64_t planes = x.dims()[0] * x.dims()[1], in = x.count() / planes, out = y.count() / planes;
  std::vector<double> data = numbers_of<double>(x), result(static_cast<size_t>(y.count()));
  for (double& v : data) v = element(v);
  each_window(a, x.dims(), y.dims(), [&](int64_t position, const Window& window) {
    for (int64_t p = 0; p < planes; ++p) {
      const double* from = data.data() + p * in;
      double sum = 0;
      for (int64_t offset : window.offsets) sum += from[offset];
      result[static_cast<size_t>(p * out + position)] = finish(sum, window);
    }
  });
  write_numbers(y, 0, y.count(), result.data());
}

void eval_average_pool(EvalContext& c) {
  const auto& a = c.attrs<AveragePoolAttrs>();
  sum_pool(
      c, a, [](double v) { return v; },
      [&](double sum, const Window& window) {
        const double count = a.count_pads ? window.padded : static_cast<double>(window.offsets.size());
        return count > 0 ? sum / count : 0;
      });
}

void eval_lp_pool(EvalContext& c) {
  const auto& a = c.attrs<LpPoolAttrs>();
  const auto p = static_cast<double>(a.p);
  sum_pool(
      c, a, [p](double v) { return std::pow(std::abs(v), p); },
      [p](double sum, const Window&) { return std::pow(sum, 1 / p); });
}

// Extents that the windows alone give the result of MaxUnpool.
Shape unpooled_shape(const MaxUnpoolAttrs& a, const Shape& x) {
  Shape out{x[0], x[1]};
  const size_t n = x.size() - 2;
  for (size_t k = 0; k < n; ++k) {
    const int64_t pads = a.pads.empty() ? 0 : a.pads[k] + a.pads[n + k];
    out.push_back((x[k + 2] - 1) * window_step(a.strides, k) + a.kernel[k] - pads);
  }
  return out;
}

void infer_max_unpool(InferContext& c) {
  const auto& a = c.attrs<MaxUnpoolAttrs>();
  const DType dtype = c.dtype(0);
  c.set(0, dtype);
  if (dtype == DType::string || is_complex(dtype)) c.fail(fmt::format("the operand is {}", dtype_name(dtype)));
  if (c.dtype(1) != DType::i64) c.fail("indices must be i64");
  const Shape &x = c.shape(0), &indices = c.shape(1);
  if (x.size() < 3) c.fail(fmt::format("the operand has rank {}, it must be [N, C, spatial...]", x.size()));
  if (indices.size() != x.size()) c.fail("indices must have the operand's shape");
  for (size_t k = 0; k < x.size(); ++k) c.require_equal(x[k], indices[k], "operand and indices");
  const size_t n = x.size() - 2;
  constexpr int64_t limit = int64_t{1} << 31;
  const auto check = [&](const char* name, const std::vector<int64_t>& values, size_t count, int64_t low) {
    if (values.size() != count) c.fail(fmt::format("{} has {} entries, it must have {}", name, values.size(), count));
    for (int64_t v : values)
      if (v < low || v > limit) c.fail(fmt::format("{} contains {}, it must be in [{}, {}]", name, v, low, limit));
  };
  check("kernel", a.kernel, n, 1);
  if (!a.strides.empty()) check("strides", a.strides, n, 1);
  if (!a.pads.empty()) check("pads", a.pads, 2 * n, 0);
  Shape natural = unpooled_shape(a, x);
  for (const Dim& d : natural) c.require_at_least(d, 0, "padding must not exceed the result");
  if (!c.has(2)) return c.set(0, dtype, std::move(natural));
  if (c.rank(2) != 1) c.fail("the output shape must have rank 1");
  c.require_equal(c.shape(2)[0], static_cast<int64_t>(x.size()), "length of the output shape");
  Shape out;
  if (const auto wanted = c.integers(2)) {
    for (size_t k = 0; k < wanted->size(); ++k) {
      c.require_at_least((*wanted)[k], natural[k], "the output shape must hold the unpooled elements");
      out.push_back((*wanted)[k]);
    }
  } else {
    for (size_t k = 0; k < x.size(); ++k) out.push_back(c.host_decided(0, k));
  }
  c.set(0, dtype, std::move(out));
}

// Indices count elements of the natural extents; a larger output shape only adds zeros behind them.
void eval_max_unpool(EvalContext& c) {
  const auto& a = c.attrs<MaxUnpoolAttrs>();
  const Tensor &x = c.in(0), &indices = c.in(1);
  Tensor& y = c.out(0);
  Shape shape;
  for (int64_t d : x.dims()) shape.emplace_back(d);
  const Dims natural = constant_dims(unpooled_shape(a, shape)).value();
  const int64_t total = element_count(natural);
  const std::vector<int64_t> strides = dense_strides(y.dims());
  for (int64_t i = 0; i < x.count(); ++i) {
    int64_t index = indices.get_integer(i), to = 0;
    if (index < 0 || index >= total) c.fail(fmt::format("index {} is outside [0, {})", index, total));
    for (size_t k = natural.size(); k-- > 0;) {
      to += index % natural[k] * strides[k];
      index /= natural[k];
    }
    if (is_float(y.dtype()))
      y.set_real(to, x.get_real(i));
    else
      y.set_integer(to, x.get_integer(i));
  }
}

Tensor sample_max_unpool(const Op&, const Attrs& attrs, size_t input, std::span<const Type> types, uint64_t seed) {
  if (input != 1) return sample_uniform(types[input], seed, -1, 1);
  // Different positions, so that the order of writing does not matter.
  const Dims natural = constant_dims(unpooled_shape(attrs.as<MaxUnpoolAttrs>(), *types[0].shape)).value();
  const int64_t total = std::max<int64_t>(element_count(natural), 1);
  Tensor out(types[1].dtype, constant_dims(*types[1].shape).value());
  const int64_t spread = std::max<int64_t>(total / std::max<int64_t>(out.count(), 1), 1);
  for (int64_t i = 0; i < out.count(); ++i)
    out.set_integer(i, (i * spread + static_cast<int64_t>(seed % static_cast<uint64_t>(spread))) % total);
  return out;
}

constexpr Op table[] = {
    {.name = "MaxPool",
     .fields = fields<MaxPoolAttrs>,
     .outputs = {1, 2},
     .infer = infer_max_pool,
     .eval = eval_max_pool},
    {.name = "AveragePool",
     .fields = fields<AveragePoolAttrs>,
     .infer = infer_real_pool<AveragePoolAttrs>,
     .eval = eval_average_pool},
    {.name = "LpPool", .fields = fields<LpPoolAttrs>, .infer = infer_lp_pool, .eval = eval_lp_pool},
    {.name = "MaxUnpool",
     .fields = fields<MaxUnpoolAttrs>,
     .inputs = {2, 3},
     .host_inputs = 0b100,
     .infer = infer_max_unpool,
     .eval = eval_max_unpool,
     .sample = sample_max_unpool},
    {.name = "RoiAlign",
     .fields = fields<RoiAlignAttrs>,
     .inputs = {3, 3},
     .infer = infer_roi_align,
     .eval = eval_roi_align,
     .sample = sample_roi_align},
    {.name = "MaxRoiPool",
     .fields = fields<MaxRoiPoolAttrs>,
     .inputs = {2, 2},
     .infer = infer_max_roi_pool,
     .eval = eval_max_roi_pool,
     .sample = sample_max_roi_pool},
};

}  // namespace

std::span<const Op> pooling_ops() { return table; }

}  // namespace sinter
