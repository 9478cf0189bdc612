// MelWeightMatrix, Col2Im, Det, Inverse, LRN; the rows of all signal operators.

#include "ops/signal.h"

#include <fmt/core.h>

#include <algorithm>
#include <cmath>

#include "base/checked.h"
#include "ops/arrays.h"
#include "ops/dft.h"
#include "ops/families.h"
#include "ops/op.h"
#include "ops/window_map.h"

namespace sinter {

const Fields& fields_of(const DFTAttrs*) {
  static const Fields f =
      describe<DFTAttrs>({field<&DFTAttrs::inverse>("inverse"), field<&DFTAttrs::one_sided>("one_sided")});
  return f;
}

const Fields& fields_of(const STFTAttrs*) {
  static const Fields f = describe<STFTAttrs>({field<&STFTAttrs::one_sided>("one_sided")});
  return f;
}

const Fields& fields_of(const MelWeightMatrixAttrs*) {
  static const Fields f = describe<MelWeightMatrixAttrs>({field<&MelWeightMatrixAttrs::dtype>("dtype")});
  return f;
}

const Fields& fields_of(const Col2ImAttrs*) {
  static const Fields f =
      describe<Col2ImAttrs>({field<&Col2ImAttrs::dilations>("dilations"), field<&Col2ImAttrs::pads>("pads"),
                             field<&Col2ImAttrs::strides>("strides")});
  return f;
}

const Fields& fields_of(const LRNAttrs*) {
  static const Fields f = describe<LRNAttrs>({field<&LRNAttrs::alpha>("alpha"), field<&LRNAttrs::beta>("beta"),
                                              field<&LRNAttrs::bias>("bias"), field<&LRNAttrs::size>("size")});
  return f;
}

namespace {

void infer_mel(InferContext& c) {
  const DType dtype = c.attrs<MelWeightMatrixAttrs>().dtype;
  c.set(0, dtype);
  if (!is_float(dtype) && !is_integer(dtype)) c.fail(fmt::format("the result cannot be {}", dtype_name(dtype)));
  if (!is_integer(c.dtype(2)) || !is_float(c.dtype(3)) || !is_float(c.dtype(4)))
    c.fail("the sample rate must be an integer and the edges floats");
  const auto bins = scalar_operand(c, 0, "number of bins"), length = scalar_operand(c, 1, "length");
  if (bins) c.require_at_least(*bins, 0, "number of mel bins");
  if (length) c.require_at_least(*length, 0, "length of the transform");
  c.set(0, dtype, {length ? floordiv(*length, 2) + 1 : c.host_decided(0, 0, 1), bins ? *bins : c.host_decided(0, 1)});
}

void eval_mel(EvalContext& c) {
  for (size_t i = 0; i < 5; ++i)
    if (c.in(i).count() != 1) c.fail(fmt::format("operand {} must hold one number", i));
  const int64_t bins = c.in(0).get_integer(0), length = c.in(1).get_integer(0), rate = c.in(2).get_integer(0);
  const double low_edge = c.in(3).get_real(0), high_edge = c.in(4).get_real(0);
  Tensor& y = c.out(0);
  if (y.count() == 0) return;
  if (rate < 1) c.fail(fmt::format("sample rate {}", rate));
  if (!(low_edge > -700 && high_edge > -700)) c.fail("an edge has no place on the mel scale");
  const auto mel = [](double hertz) { return 2595 * std::log10(1 + hertz / 700); };
  const double low = mel(low_edge), step = (mel(high_edge) - low) / static_cast<double>(bins + 2);
  // Numbers of the spectrum's bins at the corners of the triangles.
  std::vector<int64_t> corners;
  for (int64_t i = 0; i < bins + 2; ++i) {
    const double hertz = 700 * (std::pow(10, (static_cast<double>(i) * step + low) / 2595) - 1);
    const double bin = std::floor(static_cast<double>(length + 1) * hertz / static_cast<double>(rate));
    if (!(std::abs(bin) < 1e15)) c.fail("the edges are too far apart");
    corners.push_back(static_cast<int64_t>(bin));
  }
  const int64_t rows = y.dims()[0];
  const auto write = [&](int64_t row, int64_t column, double value) {
    if (row >= 0 && row < rows) y.set_real(row * bins + column, value);
  };
  for (int64_t i = 0; i < bins; ++i) {
    const auto u = static_cast<size_t>(i);
    const int64_t left = corners[u], center = corners[u + 1], right = corners[u + 2];
    if (left == center)
      write(center, i, 1);
    else
      for (int64_t j = std::max<int64_t>(left, 0); j <= std::min(center, rows - 1); ++j)
        write(j, i, static_cast<double>(j - left) / static_cast<double>(center - left));
    for (int64_t j = std::max<int64_t>(center, 0); j < std::min(right, rows); ++j)
      write(j, i, static_cast<double>(right - j) / static_cast<double>(right - center));
  }
}

WindowRef window_of(const Col2ImAttrs& a, std::span<const int64_t> kernel) {
  return {AutoPad::explicit_pads, kernel, a.strides, a.dilations, a.pads};
}

void infer_col2im(InferContext& c) {
  const auto& a = c.attrs<Col2ImAttrs>();
  const DType dtype = c.dtype(0);
  c.set(0, dtype);
  if (!is_float(dtype) && !is_integer(dtype)) c.fail(fmt::format("the operand is {}", dtype_name(dtype)));
  if (!is_integer(c.dtype(1)) || !is_integer(c.dtype(2))) c.fail("image and block shape must be integers");
  const Shape& x = c.shape(0);
  if (x.size() != 3) c.fail(fmt::format("the operand has rank {}, it must be [N, C * block, blocks]", x.size()));
  if (c.rank(1) != 1 || c.rank(2) != 1) c.fail("image and block shape must have rank 1");
  c.require_equal(c.shape(1)[0], c.shape(2)[0], "lengths of image and block shape");
  const auto image = c.integers(1);
  const auto block = c.constant_integers(2);
  std::optional<int64_t> n = c.shape(1)[0].as_constant();
  if (!n) n = c.shape(2)[0].as_constant();
  if (!n) throw RankUnknown{};
  if (*n < 1 || *n > static_cast<int64_t>(max_rank_of_values)) c.fail(fmt::format("{} spatial axes", *n));
  Shape out{x[0]};
  if (block) {
    Dim taps = 1;
    for (int64_t v : *block) {
      if (v < 1) c.fail(fmt::format("block extent {}", v));
      taps = taps * v;
    }
    const Dim channels = floordiv(x[1], taps);
    c.require_equal(x[1], channels * taps, "channels of whole blocks");
    out.push_back(channels);
  } else {
    out.push_back(c.host_decided(0, 1));
  }
  for (int64_t k = 0; k < *n; ++k)
    out.push_back(image ? (*image)[static_cast<size_t>(k)] : c.host_decided(0, static_cast<size_t>(k + 2)));
  if (image && block) {
    for (const Dim& d : *image) c.require_at_least(d, 0, "extent of the image");
    Dim blocks = 1;
    for (const Dim& d : window_extents(c, *image, window_of(a, *block))) blocks = blocks * d;
    c.require_equal(x[2], blocks, "number of blocks");
  }
  c.set(0, dtype, std::move(out));
}

template <typename T>
void col2im(EvalContext& c) {
  const auto& a = c.attrs<Col2ImAttrs>();
  const Tensor& x = c.in(0);
  Tensor& y = c.out(0);
  if (y.count() == 0) return;
  const Dims image = c.in(1).to_integers(), block = c.in(2).to_integers();
  const WindowRef window = window_of(a, block);
  const Pads pads = resolve_pads(image, window);
  Dims blocks;
  for (size_t k = 0; k < image.size(); ++k)
    blocks.push_back((image[k] + pads.before[k] + pads.after[k] - (block[k] - 1) * window_step(a.dilations, k) - 1) /
                         window_step(a.strides, k) +
                     1);
  const WindowMap map(blocks, image, block, window, pads.before);
  const std::vector<T> data = numbers_of<T>(x);
  std::vector<T> sums(static_cast<size_t>(y.count()), T{});
  const int64_t planes = y.count() / map.elements(), positions = map.positions();
  if (static_cast<int64_t>(data.size()) != planes * map.taps() * positions) c.fail("another number of blocks");
  for (int64_t p = 0; p < planes; ++p)
    for (int64_t t = 0; t < map.taps(); ++t) {
      const T* from = data.data() + (p * map.taps() + t) * positions;
      T* to = sums.data() + p * map.elements();
      map.visit(t, 0, positions, [&](int64_t i, int64_t at) {
        if (at >= 0) to[at] += from[i];
      });
    }
  write_numbers(y, 0, y.count(), sums.data());
}

void eval_col2im(EvalContext& c) {
  if (is_float(c.in(0).dtype()))
    col2im<double>(c);
  else
    col2im<uint64_t>(c);
}

void infer_det(InferContext& c) {
  const DType dtype = c.dtype(0);
  c.set(0, dtype);
  if (!is_float(dtype)) c.fail(fmt::format("the operand is {}, it must be a float", dtype_name(dtype)));
  const Shape& x = c.shape(0);
  if (x.size() < 2) c.fail(fmt::format("the operand has rank {}, it must be [..., M, M]", x.size()));
  c.require_equal(x[x.size() - 2], x[x.size() - 1], "extents of a square matrix");
  c.set(0, dtype, Shape(x.begin(), x.end() - 2));
}

void infer_inverse(InferContext& c) {
  const DType dtype = c.dtype(0);
  c.set(0, dtype);
  if (!is_float(dtype)) c.fail(fmt::format("the operand is {}, it must be a float", dtype_name(dtype)));
  const Shape& x = c.shape(0);
  if (x.size() < 2) c.fail(fmt::format("the operand has rank {}, it must be [..., M, M]", x.size()));
  c.require_equal(x[x.size() - 2], x[x.size() - 1], "extents of a square matrix");
  c.set(0, dtype, x);
}

// Gauss-Jordan elimination with row pivots; a singular matrix gives infinities and NaN.
void eval_inverse(EvalContext& c) {
  const Tensor& x = c.in(0);
  Tensor& y = c.out(0);
  const int64_t n = x.dims().back();
  if (x.count() == 0) return;
  std::vector<double> m(static_cast<size_t>(n * n)), inverse(m.size());
  const auto at = [&](std::vector<double>& v, int64_t r, int64_t k) -> double& {
    return v[static_cast<size_t>(r * n + k)];
  };
  for (int64_t first = 0; first < x.count(); first += n * n) {
    read_numbers(x, first, n * n, m.data());
    std::fill(inverse.begin(), inverse.end(), 0.0);
    for (int64_t k = 0; k < n; ++k) at(inverse, k, k) = 1;
    for (int64_t k = 0; k < n; ++k) {
      int64_t pivot = k;
      for (int64_t r = k + 1; r < n; ++r)
        if (std::abs(at(m, r, k)) > std::abs(at(m, pivot, k))) pivot = r;
      for (int64_t j = 0; pivot != k && j < n; ++j) {
        std::swap(at(m, k, j), at(m, pivot, j));
        std::swap(at(inverse, k, j), at(inverse, pivot, j));
      }
      const double d = at(m, k, k);
      for (int64_t j = 0; j < n; ++j) {
        at(m, k, j) /= d;
        at(inverse, k, j) /= d;
      }
      for (int64_t r = 0; r < n; ++r) {
        const double f = at(m, r, k);
        if (r == k || f == 0) continue;
        for (int64_t j = 0; j < n; ++j) {
          at(m, r, j) -= f * at(m, k, j);
          at(inverse, r, j) -= f * at(inverse, k, j);
        }
      }
    }
    for (int64_t i = 0; i < n * n; ++i) y.set_real(first + i, inverse[static_cast<size_t>(i)]);
  }
}

// Product of the pivots of Gaussian elimination.
double determinant(std::vector<double> m, int64_t n) {
  const auto at = [&](int64_t r, int64_t k) -> double& { return m[static_cast<size_t>(r * n + k)]; };
  double det = 1;
  for (int64_t k = 0; k < n; ++k) {
    int64_t pivot = k;
    for (int64_t r = k + 1; r < n; ++r)
      if (std::abs(at(r, k)) > std::abs(at(pivot, k))) pivot = r;
    if (pivot != k) {
      for (int64_t j = k; j < n; ++j) std::swap(at(k, j), at(pivot, j));
      det = -det;
    }
    det *= at(k, k);
    if (at(k, k) == 0) return 0;
    for (int64_t r = k + 1; r < n; ++r) {
      const double f = at(r, k) / at(k, k);
      for (int64_t j = k + 1; j < n; ++j) at(r, j) -= f * at(k, j);
    }
  }
  return det;
}

void eval_det(EvalContext& c) {
  const Tensor& x = c.in(0);
  Tensor& y = c.out(0);
  const int64_t n = x.dims().back();
  for (int64_t i = 0; i < y.count(); ++i) {
    std::vector<double> m(static_cast<size_t>(n * n));
    read_numbers(x, i * n * n, n * n, m.data());
    y.set_real(i, determinant(std::move(m), n));
  }
}

void infer_lrn(InferContext& c) {
  const auto& a = c.attrs<LRNAttrs>();
  const DType dtype = c.dtype(0);
  c.set(0, dtype);
  if (!is_float(dtype)) c.fail(fmt::format("the operand is {}, it must be a float", dtype_name(dtype)));
  if (a.size < 1 || a.size > (int64_t{1} << 31)) c.fail(fmt::format("size is {}, it must be at least 1", a.size));
  const Shape& x = c.shape(0);
  if (x.size() < 2) c.fail(fmt::format("the operand has rank {}, it must be [N, C, ...]", x.size()));
  c.set(0, dtype, x);
}

void eval_lrn(EvalContext& c) {
  const auto& a = c.attrs<LRNAttrs>();
  const Tensor& x = c.in(0);
  Tensor& y = c.out(0);
  if (y.count() == 0) return;
  const int64_t batch = x.dims()[0], channels = x.dims()[1], inner = x.count() / (batch * channels);
  const int64_t before = (a.size - 1) / 2, after = a.size - 1 - before;
  const std::vector<double> data = numbers_of<double>(x);
  std::vector<double> result(data.size());
  for (int64_t n = 0; n < batch; ++n)
    for (int64_t k = 0; k < channels; ++k)
      for (int64_t i = 0; i < inner; ++i) {
        double sum = 0;
        for (int64_t j = std::max<int64_t>(0, k - before); j <= std::min(channels - 1, k + after); ++j) {
          const double v = data[static_cast<size_t>((n * channels + j) * inner + i)];
          sum += v * v;
        }
        const auto at = static_cast<size_t>((n * channels + k) * inner + i);
        result[at] = data[at] / std::pow(a.bias + a.alpha / static_cast<double>(a.size) * sum, a.beta);
      }
  write_numbers(y, 0, y.count(), result.data());
}

Tensor sample_mel(const Op&, const Attrs&, size_t input, std::span<const Type> types, uint64_t seed) {
  static constexpr double values[] = {8, 64, 16000, 20, 7600};
  Tensor out = sample_uniform(types[input], seed, 0, 1);
  for (int64_t i = 0; i < out.count(); ++i) out.set_real(i, values[std::min<size_t>(input, 4)]);
  return out;
}

constexpr Op table[] = {
    {.name = "DFT",
     .fields = fields<DFTAttrs>,
     .inputs = {1, 3},
     .host_inputs = 0b110,
     .infer = infer_dft,
     .eval = eval_dft},
    {.name = "STFT",
     .fields = fields<STFTAttrs>,
     .inputs = {2, 4},
     .host_inputs = 0b1010,
     .infer = infer_stft,
     .eval = eval_stft},
    {.name = "MelWeightMatrix",
     .fields = fields<MelWeightMatrixAttrs>,
     .inputs = {5, 5},
     .host_inputs = 0b11,
     .infer = infer_mel,
     .eval = eval_mel,
     .sample = sample_mel},
    {.name = "Col2Im",
     .fields = fields<Col2ImAttrs>,
     .inputs = {3, 3},
     .host_inputs = 0b110,
     .infer = infer_col2im,
     .eval = eval_col2im},
    {.name = "Det", .infer = infer_det, .eval = eval_det},
    {.name = "Inverse", .infer = infer_inverse, .eval = eval_inverse},
    {.name = "LRN", .fields = fields<LRNAttrs>, .infer = infer_lrn, .eval = eval_lrn},
};

}  // namespace

std::span<const Op> signal_ops() { return table; }

}  // namespace sinter
