// DFT and STFT. Even lengths are halved until they are odd; the rest is summed as defined.

#include "ops/dft.h"

#include <fmt/core.h>

#include <algorithm>
#include <cmath>
#include <complex>
#include <numbers>

#include "base/checked.h"
#include "ops/arrays.h"
#include "ops/signal.h"

namespace sinter {
namespace {

using Complex = std::complex<double>;

class Transform {
 public:
  Transform(int64_t length, bool inverse) : length_(length) {
    twiddles_.reserve(static_cast<size_t>(length));
    for (int64_t k = 0; k < length; ++k) {
      const double angle = 2 * std::numbers::pi * static_cast<double>(k) / static_cast<double>(length);
      twiddles_.emplace_back(std::cos(angle), inverse ? std::sin(angle) : -std::sin(angle));
    }
  }
  // Not scaled.
  std::vector<Complex> operator()(const std::vector<Complex>& in) const {
    std::vector<Complex> out(in.size());
    run(in.data(), 1, out.data(), length_);
    return out;
  }

 private:
  static Complex times(Complex a, Complex b) {  // without the checks for infinities
    return {a.real() * b.real() - a.imag() * b.imag(), a.real() * b.imag() + a.imag() * b.real()};
  }
  void run(const Complex* in, int64_t stride, Complex* out, int64_t n) const {
    const int64_t turn = length_ / n;  // twiddles_[turn] is the root of order n
    if (n % 2 == 0) {
      const int64_t half = n / 2;
      run(in, stride * 2, out, half);
      run(in + stride, stride * 2, out + half, half);
      for (int64_t k = 0; k < half; ++k) {
        const Complex a = out[k], b = times(twiddles_[static_cast<size_t>(k * turn)], out[half + k]);
        out[k] = a + b;
        out[half + k] = a - b;
      }
      return;
    }
    for (int64_t k = 0; k < n; ++k) {
      Complex sum = 0;
      for (int64_t j = 0, at = 0; j < n; ++j) {
        sum += times(twiddles_[static_cast<size_t>(at * turn)], in[j * stride]);
        at += k;
        if (at >= n) at -= n;
      }
      out[k] = sum;
    }
  }

  int64_t length_;
  std::vector<Complex> twiddles_;
};

// Axis among those before the last; throws otherwise.
size_t signal_axis(InferContext& c, int64_t value, size_t rank) {
  const int64_t axis = c.axis(value, rank);
  if (axis == static_cast<int64_t>(rank) - 1) c.fail("the last axis holds real and imaginary parts");
  return static_cast<size_t>(axis);
}

void check_parts(InferContext& c, const Dim& parts, bool only_real, bool only_complex) {
  const auto known = parts.as_constant();
  if (known && (*known < 1 || *known > 2)) c.fail(fmt::format("the last extent is {}, it must be 1 or 2", *known));
  if (only_real) c.require_equal(parts, 1, "a one-sided transform takes real numbers");
  if (only_complex) c.require_equal(parts, 2, "a one-sided inverse transform takes complex numbers");
  if (!known) c.require_at_least(2, parts, "the last extent is 1 or 2");
}

}  // namespace

std::optional<Dim> scalar_operand(InferContext& c, size_t input, const char* what) {
  if (!is_integer(c.dtype(input))) c.fail(fmt::format("{} is {}", what, dtype_name(c.dtype(input))));
  const auto values = c.integers(input);
  if (!values) return std::nullopt;
  if (values->size() != 1) c.fail(fmt::format("{} holds {} numbers, it must hold one", what, values->size()));
  return values->front();
}

void infer_dft(InferContext& c) {
  const auto& a = c.attrs<DFTAttrs>();
  const DType dtype = c.dtype(0);
  c.set(0, dtype);
  if (!is_float(dtype)) c.fail(fmt::format("the operand is {}, it must be a float", dtype_name(dtype)));
  const Shape& x = c.shape(0);
  if (x.size() < 2) c.fail(fmt::format("the operand has rank {}, it must be [..., signal, 1 or 2]", x.size()));
  check_parts(c, x.back(), a.one_sided && !a.inverse, a.one_sided && a.inverse);
  Shape out = x;
  out.back() = a.one_sided && a.inverse ? 1 : 2;
  std::optional<Dim> length, axis_value = Dim(-2);
  if (c.has(1)) length = scalar_operand(c, 1, "length");
  if (c.has(2)) axis_value = scalar_operand(c, 2, "axis");
  if (!axis_value || !axis_value->is_constant()) {
    // Whichever axis it is, its extent may change.
    if (c.has(1) || a.one_sided)
      for (size_t k = 0; k + 1 < out.size(); ++k) out[k] = c.host_decided(0, k);
    return c.set(0, dtype, std::move(out));
  }
  const size_t axis = signal_axis(c, axis_value->constant(), x.size());
  if (c.has(1) && !length) {
    out[axis] = c.host_decided(0, axis, 1);
    return c.set(0, dtype, std::move(out));
  }
  if (!length) length = a.inverse && a.one_sided ? (x[axis] - 1) * 2 : x[axis];
  c.require_at_least(*length, 1, "length of the transform");
  out[axis] = a.one_sided && !a.inverse ? floordiv(*length, 2) + 1 : *length;
  c.set(0, dtype, std::move(out));
}

void eval_dft(EvalContext& c) {
  const auto& a = c.attrs<DFTAttrs>();
  const Tensor& x = c.in(0);
  Tensor& y = c.out(0);
  const auto rank = static_cast<int64_t>(x.rank());
  int64_t axis = c.has(2) ? c.in(2).get_integer(0) : -2;
  if (axis < 0) axis += rank;
  const int64_t in = x.dims()[static_cast<size_t>(axis)], out = y.dims()[static_cast<size_t>(axis)];
  const int64_t parts = x.dims().back(), parts_out = y.dims().back();
  const int64_t length = c.has(1) ? c.in(1).get_integer(0) : a.inverse && a.one_sided ? 2 * (in - 1) : in;
  if (y.count() == 0) return;
  if (length < 1 || length > max_elements) c.fail(fmt::format("a transform of length {}", length));
  int64_t inner = 1;
  for (int64_t k = axis + 1; k + 1 < rank; ++k) inner *= x.dims()[static_cast<size_t>(k)];
  const int64_t outer = y.count() / (out * inner * parts_out);
  const std::vector<double> data = numbers_of<double>(x);
  std::vector<double> result(static_cast<size_t>(y.count()));
  const Transform transform(length, a.inverse);
  const double scale = a.inverse ? 1 / static_cast<double>(length) : 1;
  std::vector<Complex> line(static_cast<size_t>(length));
  for (int64_t o = 0; o < outer; ++o)
    for (int64_t i = 0; i < inner; ++i) {
      std::fill(line.begin(), line.end(), Complex());
      const int64_t given = a.inverse && a.one_sided ? length / 2 + 1 : length;
      for (int64_t k = 0; k < std::min(in, given); ++k) {
        const auto at = static_cast<size_t>(((o * in + k) * inner + i) * parts);
        line[static_cast<size_t>(k)] = {data[at], parts == 2 ? data[at + 1] : 0};
      }
      if (a.inverse && a.one_sided) {
        // The other half mirrors this one; what has no partner is real.
        line[0] = line[0].real();
        if (length % 2 == 0) line[static_cast<size_t>(length / 2)] = line[static_cast<size_t>(length / 2)].real();
        for (int64_t k = 1; k < length - k; ++k)
          line[static_cast<size_t>(length - k)] = std::conj(line[static_cast<size_t>(k)]);
      }
      const std::vector<Complex> spectrum = transform(line);
      for (int64_t k = 0; k < out; ++k) {
        const auto at = static_cast<size_t>(((o * out + k) * inner + i) * parts_out);
        result[at] = spectrum[static_cast<size_t>(k)].real() * scale;
        if (parts_out == 2) result[at + 1] = spectrum[static_cast<size_t>(k)].imag() * scale;
      }
    }
  write_numbers(y, 0, y.count(), result.data());
}

void infer_stft(InferContext& c) {
  const auto& a = c.attrs<STFTAttrs>();
  const DType dtype = c.dtype(0);
  c.set(0, dtype);
  if (!is_float(dtype)) c.fail(fmt::format("the signal is {}, it must be a float", dtype_name(dtype)));
  const Shape& x = c.shape(0);
  if (x.size() != 3) c.fail(fmt::format("the signal has rank {}, it must be [batch, samples, 1 or 2]", x.size()));
  check_parts(c, x[2], false, false);
  const std::optional<Dim> step = scalar_operand(c, 1, "frame step");
  std::optional<Dim> length;
  if (c.has(2)) {
    if (c.dtype(2) != dtype) c.fail("the window must have the signal's element type");
    if (c.rank(2) != 1) c.fail("the window must have rank 1");
  }
  if (c.has(3))
    length = scalar_operand(c, 3, "frame length");
  else
    length = c.has(2) ? c.shape(2)[0] : x[1];
  if (step) c.require_at_least(*step, 1, "frame step");
  if (length) {
    c.require_at_least(*length, 1, "frame length");
    c.require_at_least(x[1], *length, "the signal holds a frame");
  }
  // max keeps the division defined for steps that are refused when they are known.
  const Dim frames =
      step && length ? floordiv(x[1] - *length, max(*step, 1)) + 1 : c.host_decided(0, 1, 0, max(x[1], 0));
  const Dim bins = !length ? c.host_decided(0, 2, 0) : a.one_sided ? floordiv(*length, 2) + 1 : *length;
  c.set(0, dtype, {x[0], frames, bins, 2});
}

void eval_stft(EvalContext& c) {
  const Tensor& x = c.in(0);
  Tensor& y = c.out(0);
  if (y.count() == 0) return;
  const int64_t batch = x.dims()[0], samples = x.dims()[1], parts = x.dims()[2];
  const int64_t frames = y.dims()[1], bins = y.dims()[2], step = c.in(1).get_integer(0);
  const int64_t length = c.has(3) ? c.in(3).get_integer(0) : c.has(2) ? c.in(2).count() : samples;
  if (length < 1 || length > max_elements || step < 1) c.fail(fmt::format("frames of {} every {}", length, step));
  const std::vector<double> data = numbers_of<double>(x);
  std::vector<double> window(static_cast<size_t>(length), 1), result(static_cast<size_t>(y.count()));
  if (c.has(2)) {
    std::fill(window.begin(), window.end(), 0);
    read_numbers(c.in(2), 0, std::min(length, c.in(2).count()), window.data());
  }
  const Transform transform(length, false);
  std::vector<Complex> line(static_cast<size_t>(length));
  for (int64_t b = 0; b < batch; ++b)
    for (int64_t f = 0; f < frames; ++f) {
      for (int64_t k = 0; k < length; ++k) {
        const int64_t t = f * step + k;
        const auto at = static_cast<size_t>((b * samples + t) * parts);
        line[static_cast<size_t>(k)] =
            t < samples ? Complex(data[at], parts == 2 ? data[at + 1] : 0) * window[static_cast<size_t>(k)] : Complex();
      }
      const std::vector<Complex> spectrum = transform(line);
      for (int64_t k = 0; k < bins; ++k) {
        const auto at = static_cast<size_t>(((b * frames + f) * bins + k) * 2);
        result[at] = spectrum[static_cast<size_t>(k)].real();
        result[at + 1] = spectrum[static_cast<size_t>(k)].imag();
      }
    }
  write_numbers(y, 0, y.count(), result.data());
}

}  // namespace sinter
