#include "backend/cpu/kernels/fourier.h"

#include <cmath>
#include <numbers>

#include "base/error.h"

namespace sinter::cpu {
namespace {

constexpr int64_t largest_radix = 13;

// Factors of n, 4 before 2; empty when a prime factor is too large for a pass of its own.
std::vector<int64_t> factors(int64_t n) {
  std::vector<int64_t> out;
  for (const int64_t r : {4, 2, 3, 5, 7, 11, 13})
    for (; n % r == 0; n /= r) out.push_back(r);
  if (n != 1) out.clear();
  return out;
}

}  // namespace

FourierPlan::FourierPlan(int64_t length, bool inverse) : length_(length) {
  if (length < 1 || length > max_length) throw Error(Code::limit, "a Fourier transform of too many numbers");
  int64_t size = length;
  if (length > 1) radices_ = factors(length);
  const double sign = inverse ? 1 : -1;
  if (length > 1 && radices_.empty()) {
    convolves_ = true;
    size = 1;
    while (size < 2 * length - 1) size *= 2;
    radices_ = factors(size);
  }
  cos_.resize(static_cast<size_t>(size));
  sin_.resize(static_cast<size_t>(size));
  for (int64_t k = 0; k < size; ++k) {
    const double angle = 2 * std::numbers::pi * static_cast<double>(k) / static_cast<double>(size);
    cos_[static_cast<size_t>(k)] = std::cos(angle);
    sin_[static_cast<size_t>(k)] = (convolves_ ? -1 : sign) * std::sin(angle);
  }
  if (!convolves_) return;
  const auto n = static_cast<size_t>(length), all = static_cast<size_t>(size);
  chirp_re_.resize(n);
  chirp_im_.resize(n);
  filter_re_.assign(all, 0);
  filter_im_.assign(all, 0);
  int64_t square = 0;  // k * k mod 2 * length
  for (size_t k = 0; k < n; ++k) {
    const double angle = std::numbers::pi * static_cast<double>(square) / static_cast<double>(length);
    chirp_re_[k] = std::cos(angle);
    chirp_im_[k] = sign * std::sin(angle);
    const double scale = 1 / static_cast<double>(size);
    for (const size_t at : {k, (all - k) % all}) {
      filter_re_[at] = chirp_re_[k] * scale;
      filter_im_[at] = -chirp_im_[k] * scale;
    }
    square = (square + 2 * static_cast<int64_t>(k) + 1) % (2 * length);
  }
  std::vector<double> other(2 * all);
  mixed(filter_re_.data(), filter_im_.data(), other.data(), other.data() + size);
}

int64_t FourierPlan::work_size() const { return (convolves_ ? 4 : 2) * size(); }

// One pass of Stockham's order: numbers q + stride * (p + k * m), k < radix, become q + stride * (radix * p + j).
void FourierPlan::pass(int64_t radix, int64_t rest, int64_t stride, const double* re, const double* im, double* to_re,
                       double* to_im) const {
  const int64_t m = rest / radix, turn = size() / radix;
  const auto root = [&](int64_t at) { return static_cast<size_t>(at); };
  for (int64_t p = 0; p < m; ++p) {
    const double* a_re = re + stride * p;
    const double* a_im = im + stride * p;
    double* b_re = to_re + stride * radix * p;
    double* b_im = to_im + stride * radix * p;
    const int64_t step = stride * m;
    const double c1 = cos_[root(p * stride)], s1 = sin_[root(p * stride)];
    if (radix == 2) {
      for (int64_t q = 0; q < stride; ++q) {
        const double x = a_re[q] - a_re[q + step], y = a_im[q] - a_im[q + step];
        b_re[q] = a_re[q] + a_re[q + step];
        b_im[q] = a_im[q] + a_im[q + step];
        b_re[q + stride] = x * c1 - y * s1;
        b_im[q + stride] = x * s1 + y * c1;
      }
    } else if (radix == 4) {
      const double c2 = cos_[root(2 * p * stride)], s2 = sin_[root(2 * p * stride)];
      const double c3 = cos_[root(3 * p * stride)], s3 = sin_[root(3 * p * stride)];
      // The root of order 4: -i forward, i backward.
      const double s = sin_[root(turn)];
      for (int64_t q = 0; q < stride; ++q) {
        const double r0 = a_re[q], r1 = a_re[q + step], r2 = a_re[q + 2 * step], r3 = a_re[q + 3 * step];
        const double i0 = a_im[q], i1 = a_im[q + step], i2 = a_im[q + 2 * step], i3 = a_im[q + 3 * step];
        const double sum_r = r0 + r2, sum_i = i0 + i2, dif_r = r0 - r2, dif_i = i0 - i2;
        const double odd_r = r1 + r3, odd_i = i1 + i3, turned_r = -(i1 - i3) * s, turned_i = (r1 - r3) * s;
        b_re[q] = sum_r + odd_r;
        b_im[q] = sum_i + odd_i;
        const double x1 = dif_r + turned_r, y1 = dif_i + turned_i;
        b_re[q + stride] = x1 * c1 - y1 * s1;
        b_im[q + stride] = x1 * s1 + y1 * c1;
        const double x2 = sum_r - odd_r, y2 = sum_i - odd_i;
        b_re[q + 2 * stride] = x2 * c2 - y2 * s2;
        b_im[q + 2 * stride] = x2 * s2 + y2 * c2;
        const double x3 = dif_r - turned_r, y3 = dif_i - turned_i;
        b_re[q + 3 * stride] = x3 * c3 - y3 * s3;
        b_im[q + 3 * stride] = x3 * s3 + y3 * c3;
      }
    } else {
      double c[largest_radix], s[largest_radix];
      for (int64_t k = 0; k < radix; ++k) {
        c[k] = cos_[root(k * turn)];
        s[k] = sin_[root(k * turn)];
      }
      for (int64_t j = 0; j < radix; ++j) {
        const double tc = cos_[root(j * p * stride)], ts = sin_[root(j * p * stride)];
        // Numbers k and radix - k have conjugate roots.
        for (int64_t q = 0; q < stride; ++q) {
          double x = a_re[q], y = a_im[q];
          for (int64_t k = 1, at = j; 2 * k < radix; ++k) {
            const double r = a_re[q + k * step], i = a_im[q + k * step];
            const double u = a_re[q + (radix - k) * step], v = a_im[q + (radix - k) * step];
            x += (r + u) * c[at] - (i - v) * s[at];
            y += (i + v) * c[at] + (r - u) * s[at];
            at += j;
            if (at >= radix) at -= radix;
          }
          b_re[q + j * stride] = x * tc - y * ts;
          b_im[q + j * stride] = x * ts + y * tc;
        }
      }
    }
  }
}

void FourierPlan::mixed(double* re, double* im, double* other_re, double* other_im) const {
  double *from_re = re, *from_im = im, *to_re = other_re, *to_im = other_im;
  int64_t rest = size(), stride = 1;
  for (const int64_t radix : radices_) {
    pass(radix, rest, stride, from_re, from_im, to_re, to_im);
    rest /= radix;
    stride *= radix;
    std::swap(from_re, to_re);
    std::swap(from_im, to_im);
  }
  if (from_re == re) return;
  for (int64_t k = 0; k < size(); ++k) {
    re[k] = from_re[k];
    im[k] = from_im[k];
  }
}

void FourierPlan::run(double* re, double* im, double* work) const {
  const int64_t all = size();
  if (!convolves_) return mixed(re, im, work, work + all);
  double *a_re = work, *a_im = work + all, *other_re = work + 2 * all, *other_im = work + 3 * all;
  for (int64_t k = 0; k < all; ++k) {
    const auto at = static_cast<size_t>(k);
    a_re[k] = k < length_ ? re[k] * chirp_re_[at] - im[k] * chirp_im_[at] : 0;
    a_im[k] = k < length_ ? re[k] * chirp_im_[at] + im[k] * chirp_re_[at] : 0;
  }
  mixed(a_re, a_im, other_re, other_im);
  for (int64_t k = 0; k < all; ++k) {
    const auto at = static_cast<size_t>(k);
    const double x = a_re[k] * filter_re_[at] - a_im[k] * filter_im_[at];
    a_im[k] = a_re[k] * filter_im_[at] + a_im[k] * filter_re_[at];
    a_re[k] = x;
  }
  mixed(a_im, a_re, other_im, other_re);  // parts exchanged: the inverse
  for (int64_t k = 0; k < length_; ++k) {
    const auto at = static_cast<size_t>(k);
    re[k] = a_re[k] * chirp_re_[at] - a_im[k] * chirp_im_[at];
    im[k] = a_re[k] * chirp_im_[at] + a_im[k] * chirp_re_[at];
  }
}

}  // namespace sinter::cpu
