// Tensors as plain arrays of numbers, for evaluation by definition: double for floats, wrapping 64 bits for integers.
//
// Evaluation reads operands once, computes in loops over such arrays, and writes once. Also a dense matrix product on
// them, which convolutions, recurrent networks and Einsum share.
#pragma once

#include <cstring>
#include <vector>

#include "tensor/tensor.h"
#include "tensor/type.h"

namespace sinter {

// Elements [start, start + count) of a tensor. T: double or uint64_t (signed elements sign-extended).
template <typename T>
void read_numbers(const Tensor& tensor, int64_t start, int64_t count, T* out);
template <>
void read_numbers(const Tensor& tensor, int64_t start, int64_t count, double* out);
template <>
void read_numbers(const Tensor& tensor, int64_t start, int64_t count, uint64_t* out);

// Rounds (double) or wraps (uint64_t) to the tensor's dtype.
void write_numbers(Tensor& tensor, int64_t start, int64_t count, const double* values);
void write_numbers(Tensor& tensor, int64_t start, int64_t count, const uint64_t* values);

template <typename T>
std::vector<T> numbers_of(const Tensor& tensor) {
  std::vector<T> out(static_cast<size_t>(tensor.count()));
  read_numbers(tensor, 0, tensor.count(), out.data());
  return out;
}

// Row-major strides of dense extents.
std::vector<int64_t> dense_strides(const Dims& dims);
// Steps `at` to the next position of row-major order; false after the last one.
bool next_position(std::vector<int64_t>& at, const Dims& dims);

// Numbers in [low, high) that depend on the seed alone (whole ones for integers), for sample inputs. The type has
// constant extents.
Tensor sample_uniform(const Type& type, uint64_t seed, double low, double high);

template <typename T>
struct Lanes;
template <>
struct Lanes<double> {
  typedef double Pair __attribute__((vector_size(16)));
};
template <>
struct Lanes<uint64_t> {
  typedef uint64_t Pair __attribute__((vector_size(16)));
};

// The left factor of a product, M x K, packed in pairs of rows: [M/2][K][2].
template <typename T>
class LeftFactor {
 public:
  // row(m, out): writes the K numbers of row m.
  template <typename Row>
  LeftFactor(int64_t rows, int64_t depth, Row row) : rows(rows), depth(depth) {
    if (depth == 0) return;
    data.resize(static_cast<size_t>((rows + 1) / 2 * 2 * depth));
    std::vector<T> line(static_cast<size_t>(depth));
    for (int64_t m = 0; m < rows; ++m) {
      row(m, line.data());
      T* to = data.data() + m / 2 * 2 * depth + m % 2;
      for (int64_t k = 0; k < depth; ++k) to[2 * k] = line[static_cast<size_t>(k)];
    }
  }
  int64_t rows, depth;
  std::vector<T> data;
};

// c[2][8] = sum over k of a[k][2] * b[k][8]; named accumulators, so that they stay in registers.
template <typename T>
void multiply_tile(int64_t depth, const T* a, const T* b, T* c) {
  using Pair = typename Lanes<T>::Pair;
  Pair c00{}, c01{}, c02{}, c03{}, c10{}, c11{}, c12{}, c13{};
  for (int64_t k = 0; k < depth; ++k, a += 2, b += 8) {
    Pair y[4];
    std::memcpy(y, b, sizeof y);
    const Pair x0 = {a[0], a[0]}, x1 = {a[1], a[1]};
    c00 += x0 * y[0];
    c01 += x0 * y[1];
    c02 += x0 * y[2];
    c03 += x0 * y[3];
    c10 += x1 * y[0];
    c11 += x1 * y[1];
    c12 += x1 * y[2];
    c13 += x1 * y[3];
  }
  const Pair all[8] = {c00, c01, c02, c03, c10, c11, c12, c13};
  std::memcpy(c, all, sizeof all);
}

// Product of a and a right factor K x N that is made in blocks of columns.
// fill(k, column, count, out): writes `count` numbers of row k from `column` on.
// store(m, column, count, values): takes that many results of row m.
template <typename T, typename Fill, typename Store>
void multiply(const LeftFactor<T>& a, int64_t columns, Fill fill, Store store) {
  constexpr int64_t block = 64;
  const int64_t depth = a.depth;
  std::vector<T> panel(static_cast<size_t>(depth * block)), result(static_cast<size_t>(2 * block));
  T line[block];
  for (int64_t n = 0; n < columns; n += block) {
    const int64_t width = columns - n < block ? columns - n : block;
    const int64_t tiles = (width + 7) / 8;
    for (int64_t k = 0; k < depth; ++k) {
      fill(k, n, width, line);
      for (int64_t j = width; j < tiles * 8; ++j) line[j] = 0;
      for (int64_t t = 0; t < tiles; ++t) std::memcpy(panel.data() + (t * depth + k) * 8, line + t * 8, 8 * sizeof(T));
    }
    for (int64_t m = 0; m < a.rows; m += 2) {
      for (int64_t t = 0; t < tiles; ++t) {
        T c[16];
        multiply_tile(depth, a.data.data() + m * depth, panel.data() + t * depth * 8, c);
        std::memcpy(result.data() + t * 8, c, 8 * sizeof(T));
        std::memcpy(result.data() + block + t * 8, c + 8, 8 * sizeof(T));
      }
      store(m, n, width, result.data());
      if (m + 1 < a.rows) store(m + 1, n, width, result.data() + block);
    }
  }
}

}  // namespace sinter
