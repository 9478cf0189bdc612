// Discrete Fourier transforms of any length in double: mixed radix for lengths of small prime factors, Bluestein's
// convolution for the rest. A plan is made once per length; running it allocates nothing.
#pragma once

#include <cstdint>
#include <vector>

namespace sinter::cpu {

class FourierPlan {
 public:
  // length in [1, max_length]; throws Error otherwise.
  FourierPlan(int64_t length, bool inverse);
  static constexpr int64_t max_length = int64_t{1} << 26;

  // Doubles of work space for run.
  int64_t work_size() const;
  // Transforms re and im, `length` numbers each, in place; not scaled.
  void run(double* re, double* im, double* work) const;

 private:
  void mixed(double* re, double* im, double* other_re, double* other_im) const;
  void pass(int64_t radix, int64_t rest, int64_t stride, const double* re, const double* im, double* to_re,
            double* to_im) const;

  int64_t length_;
  std::vector<int64_t> radices_;   // their product is size()
  std::vector<double> cos_, sin_;  // of the roots of unity of order size()
  // Bluestein: a convolution of a power of two.
  bool convolves_ = false;
  std::vector<double> chirp_re_, chirp_im_;    // length_
  std::vector<double> filter_re_, filter_im_;  // its transform, scaled
  int64_t size() const { return static_cast<int64_t>(cos_.size()); }
};

}  // namespace sinter::cpu
