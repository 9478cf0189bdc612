// Recipes of random small graphs over common operators, for random_graphs.cpp.
//
// Maker draws nodes whose operands exist and fit, with attributes of every kind, from a seed: the same seed gives the
// same recipe. Values are kept away from where rounding decides (ties, poles), so that results can be compared.
#pragma once

#include <fmt/format.h>

#include <cmath>
#include <random>

#include "base/checked.h"
#include "ir/builder.h"
#include "ops/op.h"

namespace {

using namespace sinter;

// A graph as it is made again for every form: the same nodes over inputs whose extents are numbers or symbols.
struct Recipe {
  struct Item {
    enum class Kind { input, constant, node } kind = Kind::input;
    Tensor tensor;               // constant
    std::string call;            // node: "Conv{pads=[1, 1, 1, 1]}"
    std::vector<int> inputs;     // numbers of values
    std::vector<Recipe> bodies;  // their items; results below
  };
  struct Value {
    DType dtype;
    Dims dims;
    bool exact;  // no rounding so far: comparisons and choices do not depend on it
  };
  std::vector<Item> items;  // each makes the values of `made`
  std::vector<int> first;   // by item: its first value
  std::vector<Value> values;
  std::vector<int> results;
  std::vector<std::vector<bool>> open;  // by input and axis: whether it may vary
};

class Maker {
 public:
  explicit Maker(uint64_t seed) : random_(seed * 0x9E3779B97F4A7C15u + 1) {}

  Recipe run() {
    const int inputs = 1 + below(3);
    for (int i = 0; i < inputs; ++i) input(below(5) ? DType::f32 : below(2) ? DType::i64 : DType::boolean);
    const int nodes = 2 + below(14);
    for (int tries = 0, made = 0; made < nodes && tries < 200; ++tries) made += node();
    const int results = 1 + below(4);
    for (int i = 0; i < results; ++i) {
      // Mostly late values; sometimes inputs, constants and the same one twice.
      const int count = static_cast<int>(r_.values.size());
      const int v = below(4) ? count - 1 - below(std::min(count, 4)) : below(count);
      r_.results.push_back(v);
    }
    return std::move(r_);
  }

 private:
  int below(int n) { return static_cast<int>(random_() % static_cast<uint64_t>(n)); }
  int64_t extent() {
    static constexpr int64_t some[] = {1, 1, 2, 3, 4, 5, 6, 8, 9, 16, 17, 33};
    return below(40) == 0 ? 0 : some[below(12)];
  }
  const Recipe::Value& value(int v) const { return r_.values[static_cast<size_t>(v)]; }
  const Dims& dims(int v) const { return value(v).dims; }
  int rank(int v) const { return static_cast<int>(dims(v).size()); }
  bool small(const Dims& d) const { return element_count(d) <= 20000; }

  int add(Recipe::Item item, std::vector<Recipe::Value> made) {
    r_.first.push_back(static_cast<int>(r_.values.size()));
    r_.items.push_back(std::move(item));
    for (Recipe::Value& v : made) r_.values.push_back(std::move(v));
    return r_.first.back();
  }

  int input(DType dtype) {
    Dims d;
    for (int k = below(6) == 0 ? below(2) : 2 + below(3); k > 0; --k) d.push_back(extent());
    if (d.size() == 4) d[1] = 1 + below(4) * below(5);
    std::vector<bool> open;
    for (size_t k = 0; k < d.size(); ++k) open.push_back(below(5) != 0);
    r_.open.push_back(std::move(open));
    return add({}, {{dtype, d, true}});
  }

  int constant(Tensor tensor) {
    Recipe::Item item;
    item.kind = Recipe::Item::Kind::constant;
    const Recipe::Value v{tensor.dtype(), tensor.dims(), true};
    item.tensor = std::move(tensor);
    return add(std::move(item), {v});
  }
  int list(const std::vector<int64_t>& numbers) { return constant(Tensor::vector_i64(numbers)); }
  int weights(Dims d) {
    Tensor t(DType::f32, std::move(d));
    for (int64_t i = 0; i < t.count(); ++i) t.as_mutable<float>()[i] = static_cast<float>(below(17) - 8) / 16.0f;
    return constant(std::move(t));
  }

  int call(std::string text, std::vector<int> inputs, std::vector<Recipe::Value> made) {
    Recipe::Item item;
    item.kind = Recipe::Item::Kind::node;
    item.call = std::move(text);
    item.inputs = std::move(inputs);
    return add(std::move(item), std::move(made));
  }

  // A value of this dtype (and at least this rank), or -1.
  int pick(DType dtype, int low_rank = 0, int high_rank = 5) {
    for (int tries = 0; tries < 12; ++tries) {
      const int count = static_cast<int>(r_.values.size());
      const int v = below(2) ? below(count) : count - 1 - below(std::min(count, 5));
      if (value(v).dtype == dtype && rank(v) >= low_rank && rank(v) <= high_rank) return v;
    }
    return -1;
  }
  static std::string text_of(const std::vector<int64_t>& list) {
    std::string out = "[";
    for (size_t i = 0; i < list.size(); ++i) out += (i ? ", " : "") + std::to_string(list[i]);
    return out + "]";
  }
  std::vector<int64_t> permutation(int n) {
    std::vector<int64_t> p;
    for (int k = 0; k < n; ++k) p.push_back(k);
    for (int k = n - 1; k > 0; --k) std::swap(p[static_cast<size_t>(k)], p[static_cast<size_t>(below(k + 1))]);
    return p;
  }
  static std::optional<Dims> broadcast(const Dims& a, const Dims& b) {
    Dims out(std::max(a.size(), b.size()));
    for (size_t k = 0; k < out.size(); ++k) {
      const int64_t x = k < out.size() - a.size() ? 1 : a[k - (out.size() - a.size())];
      const int64_t y = k < out.size() - b.size() ? 1 : b[k - (out.size() - b.size())];
      if (x != y && x != 1 && y != 1) return std::nullopt;
      out[k] = x == 1 ? y : x;
    }
    return out;
  }

  bool node() {
    switch (below(25)) {
      case 0:
      case 1: return unary();
      case 2:
      case 3:
      case 4: return binary();
      case 5: return reduce();
      case 6: return matmul();
      case 7: return conv();
      case 8: return pool();
      case 9: return transpose();
      case 10: return reshape();
      case 11: return concat();
      case 12: return split();
      case 13: return slice();
      case 14: return pad();
      case 15: return expand();
      case 16: return gather();
      case 17: return squeeze();
      case 18: return select();
      case 19: return softmax();
      case 20: return compare();
      case 21: return branch();
      case 22: return shape_arithmetic();
      case 23: return non_zero();
      default: return loop();
    }
  }

  bool unary() {
    const int x = pick(DType::f32);
    if (x < 0) return false;
    static constexpr const char* exact[] = {"Relu", "Neg", "Abs", "Identity"};
    static constexpr const char* rounds[] = {"Sigmoid",
                                             "Tanh",
                                             "Sin",
                                             "Erf",
                                             "Gelu",
                                             "Softplus",
                                             "Swish",
                                             "Cos",
                                             "HardSigmoid{alpha=0.2, beta=0.5}",
                                             "LeakyRelu{alpha=0.1}",
                                             "Clip{low=-1, high=1.5}"};
    const bool is_exact = below(2);
    call(is_exact ? exact[below(4)] : rounds[below(11)], {x}, {{DType::f32, dims(x), value(x).exact && is_exact}});
    return true;
  }

  bool binary() {
    const DType dtype = below(8) ? DType::f32 : DType::i64;
    int x = pick(dtype), y = pick(dtype);
    if (x < 0) return false;
    if (y < 0 || below(3) == 0 || !broadcast(dims(x), dims(y))) {
      // A scalar, a row, a column of the first one's shape.
      Dims d = dims(x);
      for (int64_t& e : d)
        if (below(2)) e = 1;
      if (!d.empty() && below(2)) d.erase(d.begin(), d.begin() + below(static_cast<int>(d.size()) + 1));
      Tensor t(dtype, d);
      for (int64_t i = 0; i < t.count(); ++i) t.set_integer(i, below(7) - 3);
      y = constant(std::move(t));
    }
    const auto d = broadcast(dims(x), dims(y));
    if (!d || !small(*d)) return false;
    if (below(2)) std::swap(x, y);
    static constexpr const char* names[] = {"Add", "Sub", "Max", "Min", "Mul"};
    const int which = below(5);
    if (dtype == DType::i64 && which == 4) return false;
    const bool exact = value(x).exact && value(y).exact && (which == 2 || which == 3 || dtype == DType::i64);
    call(names[which], {x, y}, {{dtype, *d, exact}});
    return true;
  }

  bool reduce() {
    const int x = pick(DType::f32, 1);
    if (x < 0) return false;
    static constexpr const char* names[] = {"ReduceSum", "ReduceMean", "ReduceMax", "ReduceMin"};
    std::vector<int64_t> axes;
    const bool keep = below(2);
    Dims d;
    const bool trailing = below(2);
    for (int k = 0; k < rank(x); ++k) {
      const bool taken = trailing ? k == rank(x) - 1 : below(2) == 0;
      if (taken) axes.push_back(below(2) ? k : k - rank(x));
      if (!taken)
        d.push_back(dims(x)[static_cast<size_t>(k)]);
      else if (keep)
        d.push_back(1);
    }
    if (axes.empty() || element_count(dims(x)) == 0) return false;
    const int which = below(4);
    call(fmt::format("{}{{keep_dims={}}}", names[which], keep), {x, list(axes)},
         {{DType::f32, d, which > 1 && value(x).exact}});
    return true;
  }

  bool matmul() {
    const int x = pick(DType::f32, 1, 4);
    if (x < 0) return false;
    const int64_t k = dims(x).back();
    int y = pick(DType::f32, 2, 4);
    const bool transposed = below(3) == 0;
    const auto fits = [&](int v) { return v >= 0 && dims(v)[dims(v).size() - (transposed ? 1 : 2)] == k; };
    if (!fits(y)) {
      const int64_t n = extent();
      y = weights(transposed ? Dims{n, k} : Dims{k, n});
    }
    const Dims& b = dims(y);
    Dims a_batch = dims(x), b_batch = b;
    a_batch.resize(a_batch.size() > 1 ? a_batch.size() - 2 : 0);
    b_batch.resize(b.size() - 2);
    auto d = broadcast(a_batch, b_batch);
    if (!d) return false;
    if (rank(x) > 1) d->push_back(dims(x)[dims(x).size() - 2]);
    d->push_back(b[b.size() - (transposed ? 2 : 1)]);
    if (!small(*d)) return false;
    call(transposed ? "MatMul{transpose_b=true}" : "MatMul", {x, y}, {{DType::f32, *d, false}});
    return true;
  }

  bool conv() {
    const int x = pick(DType::f32, 3, 4);
    if (x < 0) return false;
    const int64_t channels = dims(x)[1];
    const size_t spatial = dims(x).size() - 2;
    const bool depthwise = below(3) == 0, transposed = below(4) == 0;
    const int64_t group = depthwise ? channels : 1, columns = depthwise ? 1 + below(2) : 1 + below(9);
    if (channels < 1) return false;
    std::vector<int64_t> pads(2 * spatial), strides, dilations;
    Dims w = transposed ? Dims{channels, columns} : Dims{depthwise ? channels * columns : columns, channels / group};
    Dims y{dims(x)[0], transposed ? columns * group : w[0]};
    for (size_t k = 0; k < spatial; ++k) {
      const int64_t kernel = 1 + below(3), stride = 1 + below(2), dilation = 1 + (below(4) == 0);
      for (size_t e : {k, k + spatial}) pads[e] = below(2);
      w.push_back(kernel);
      strides.push_back(stride);
      dilations.push_back(dilation);
      const int64_t in = dims(x)[2 + k], window = (kernel - 1) * dilation + 1, pad = pads[k] + pads[k + spatial];
      if (in == 0 || (!transposed && in + pad < window)) return false;
      y.push_back(transposed ? (in - 1) * stride + window - pad : (in + pad - window) / stride + 1);
      if (y.back() < 1) return false;
    }
    if (!small(y)) return false;
    std::vector<int> inputs{x, weights(w)};
    if (below(2)) inputs.push_back(weights({y[1]}));
    call(fmt::format("{}{{pads={}, strides={}, dilations={}, group={}}}", transposed ? "ConvTranspose" : "Conv",
                     text_of(pads), text_of(strides), text_of(dilations), group),
         inputs, {{DType::f32, y, false}});
    return true;
  }

  bool pool() {
    const int x = pick(DType::f32, 3, 4);
    if (x < 0) return false;
    const size_t spatial = dims(x).size() - 2;
    const bool average = below(2);
    std::vector<int64_t> kernel, strides, pads(2 * spatial, 0);
    Dims y{dims(x)[0], dims(x)[1]};
    for (size_t k = 0; k < spatial; ++k) {
      kernel.push_back(1 + below(3));
      strides.push_back(1 + below(2));
      if (kernel[k] > 1)
        for (size_t e : {k, k + spatial}) pads[e] = below(2);
      const int64_t in = dims(x)[2 + k] + pads[k] + pads[k + spatial];
      if (dims(x)[2 + k] == 0 || in < kernel[k]) return false;
      y.push_back((in - kernel[k]) / strides[k] + 1);
    }
    call(fmt::format("{}{{kernel={}, strides={}, pads={}}}", average ? "AveragePool" : "MaxPool", text_of(kernel),
                     text_of(strides), text_of(pads)),
         {x}, {{DType::f32, y, !average && value(x).exact}});
    return true;
  }

  bool transpose() {
    const int x = pick(below(6) ? DType::f32 : DType::i64, 2);
    if (x < 0) return false;
    const std::vector<int64_t> perm = permutation(rank(x));
    Dims d;
    for (int64_t p : perm) d.push_back(dims(x)[static_cast<size_t>(p)]);
    call(fmt::format("Transpose{{perm={}}}", text_of(perm)), {x}, {{value(x).dtype, d, value(x).exact}});
    return true;
  }

  bool reshape() {
    const int x = pick(below(6) ? DType::f32 : DType::i64, 1);
    if (x < 0 || element_count(dims(x)) == 0) return false;
    // Merge neighbours, or split one into two.
    Dims d = dims(x);
    if (d.size() > 1 && below(2)) {
      const auto k = static_cast<size_t>(below(static_cast<int>(d.size()) - 1));
      d[k] *= d[k + 1];
      d.erase(d.begin() + static_cast<int64_t>(k) + 1);
    } else {
      const auto k = static_cast<size_t>(below(static_cast<int>(d.size())));
      const int64_t by = d[k] % 3 == 0 ? 3 : d[k] % 2 == 0 ? 2 : 1;
      d[k] /= by;
      d.insert(d.begin() + static_cast<int64_t>(k), by);
    }
    if (d.size() > 5) return false;
    std::vector<int64_t> shape = d;
    if (below(2)) shape[static_cast<size_t>(below(static_cast<int>(shape.size())))] = -1;
    call("Reshape", {x, list(shape)}, {{value(x).dtype, d, value(x).exact}});
    return true;
  }

  bool concat() {
    const int x = pick(DType::f32, 1);
    if (x < 0) return false;
    const auto axis = static_cast<size_t>(below(rank(x)));
    std::vector<int> parts{x};
    Dims d = dims(x);
    bool exact = value(x).exact;
    for (int tries = 0; tries < 6; ++tries) {
      const int y = below(3) ? pick(DType::f32, rank(x), rank(x)) : x;
      if (y < 0) continue;
      Dims other = dims(y);
      other[axis] = dims(x)[axis];
      if (other != dims(x)) continue;
      parts.push_back(y);
      d[axis] += dims(y)[axis];
      exact = exact && value(y).exact;
    }
    if (!small(d)) return false;
    call(fmt::format("Concat{{axis={}}}", static_cast<int>(axis) - (below(2) ? rank(x) : 0)), parts,
         {{DType::f32, d, exact}});
    return true;
  }

  bool split() {
    const int x = pick(DType::f32, 1);
    if (x < 0) return false;
    const auto axis = static_cast<size_t>(below(rank(x)));
    int64_t rest = dims(x)[axis];
    std::vector<int64_t> sizes;
    std::vector<Recipe::Value> made;
    while (rest > 0 && sizes.size() < 3) {
      sizes.push_back(sizes.size() == 2 ? rest : 1 + below(static_cast<int>(rest)));
      rest -= sizes.back();
      Dims d = dims(x);
      d[axis] = sizes.back();
      made.push_back({DType::f32, d, value(x).exact});
    }
    if (sizes.empty() || rest > 0) return false;
    call(fmt::format("Split{{axis={}}}", axis), {x, list(sizes)}, made);
    return true;
  }

  bool slice() {
    const int x = pick(below(6) ? DType::f32 : DType::i64, 1);
    if (x < 0) return false;
    const auto axis = static_cast<size_t>(below(rank(x)));
    const int64_t n = dims(x)[axis];
    if (n < 1) return false;
    const bool back = below(4) == 0;
    const int64_t step = 1 + below(3), start = below(static_cast<int>(n)),
                  end = start + below(static_cast<int>(n - start) + 1);
    // Forwards [start, end), backwards from end - 1 down to start.
    Dims d = dims(x);
    d[axis] = (end - start + step - 1) / step;
    const std::vector<int64_t> starts{back ? end - 1 : below(2) ? start : start - n};
    const std::vector<int64_t> ends{back ? start - 1 - n : end == n && below(2) ? INT64_MAX : end};
    if (back && end == start) return false;
    call("Slice", {x, list(starts), list(ends), list({static_cast<int64_t>(axis)}), list({back ? -step : step})},
         {{value(x).dtype, d, value(x).exact}});
    return true;
  }

  bool pad() {
    const int x = pick(DType::f32, 1, 4);
    if (x < 0) return false;
    std::vector<int64_t> pads(2 * dims(x).size());
    Dims d = dims(x);
    static constexpr const char* modes[] = {"constant", "edge", "reflect"};
    const int mode = below(3);
    for (size_t k = 0; k < d.size(); ++k) {
      if (mode != 0 && d[k] < 3) continue;
      for (size_t e : {k, k + d.size()}) pads[e] = below(3);
      d[k] += pads[k] + pads[k + d.size()];
    }
    if (!small(d)) return false;
    std::vector<int> inputs{x, list(pads)};
    if (mode == 0 && below(2)) inputs.push_back(constant(Tensor::scalar(DType::f32, below(5) - 2)));
    call(fmt::format("Pad{{mode={}}}", modes[mode]), inputs, {{DType::f32, d, value(x).exact}});
    return true;
  }

  bool expand() {
    const int x = pick(DType::f32, 0, 3);
    if (x < 0) return false;
    Dims d = dims(x);
    for (int64_t& e : d)
      if (e == 1) e = 1 + below(4);
    if (below(2)) d.insert(d.begin(), 1 + below(3));
    if (!small(d)) return false;
    call("Expand", {x, list(d)}, {{DType::f32, d, value(x).exact}});
    return true;
  }

  bool gather() {
    const int x = pick(DType::f32, 1, 4);
    if (x < 0) return false;
    const auto axis = static_cast<size_t>(below(rank(x)));
    if (dims(x)[axis] == 0) return false;
    Dims shape;
    for (int k = below(3); k > 0; --k) shape.push_back(1 + below(4));
    Tensor indices(DType::i64, shape);
    for (int64_t i = 0; i < indices.count(); ++i) {
      const auto n = static_cast<int>(dims(x)[axis]);
      indices.set_integer(i, below(2 * n) - n);
    }
    Dims d(dims(x).begin(), dims(x).begin() + static_cast<int64_t>(axis));
    d.insert(d.end(), shape.begin(), shape.end());
    d.insert(d.end(), dims(x).begin() + static_cast<int64_t>(axis) + 1, dims(x).end());
    if (!small(d) || d.size() > 5) return false;
    call(fmt::format("Gather{{axis={}}}", axis), {x, constant(std::move(indices))}, {{DType::f32, d, value(x).exact}});
    return true;
  }

  bool squeeze() {
    const int x = pick(DType::f32, 0, 4);
    if (x < 0) return false;
    Dims d = dims(x);
    for (size_t k = 0; k < d.size(); ++k)
      if (d[k] == 1 && below(2)) {
        d.erase(d.begin() + static_cast<int64_t>(k));
        call("Squeeze", {x, list({static_cast<int64_t>(k)})}, {{DType::f32, d, value(x).exact}});
        return true;
      }
    const int at = below(static_cast<int>(d.size()) + 1);
    d.insert(d.begin() + at, 1);
    call("Unsqueeze", {x, list({at})}, {{DType::f32, d, value(x).exact}});
    return true;
  }

  bool select() {
    const int x = pick(DType::f32, 1, 4);
    if (x < 0 || !value(x).exact) return false;
    const auto axis = static_cast<size_t>(below(rank(x)));
    const int64_t n = dims(x)[axis];
    if (n < 1) return false;
    Dims d = dims(x);
    if (below(2)) {
      d[axis] = 1 + below(static_cast<int>(n));
      call(fmt::format("TopK{{axis={}}}", axis), {x, list({d[axis]})}, {{DType::f32, d, true}, {DType::i64, d, true}});
    } else {
      d[axis] = 1;
      call(fmt::format("{}{{axis={}}}", below(2) ? "ArgMax" : "ArgMin", axis), {x}, {{DType::i64, d, true}});
    }
    return true;
  }

  bool softmax() {
    const int x = pick(DType::f32, 1);
    if (x < 0 || dims(x).back() == 0) return false;
    const std::vector<int64_t> last{-1};
    Dims rows = dims(x);
    rows.back() = 1;
    const int high = call("ReduceMax", {x, list(last)}, {{DType::f32, rows, value(x).exact}});
    const int shifted = call("Sub", {x, high}, {{DType::f32, dims(x), false}});
    const int e = call("Exp", {shifted}, {{DType::f32, dims(x), false}});
    const int sum = call("ReduceSum", {e, list(last)}, {{DType::f32, rows, false}});
    call("Div", {e, sum}, {{DType::f32, dims(x), false}});
    return true;
  }

  bool compare() {
    const int x = pick(DType::f32), y = pick(DType::f32);
    if (x < 0 || y < 0 || !value(x).exact || !value(y).exact) return false;
    const auto d = broadcast(dims(x), dims(y));
    if (!d || !small(*d)) return false;
    const int condition = call(below(2) ? "Less" : "Equal", {x, y}, {{DType::boolean, *d, true}});
    const int z = pick(DType::f32);
    if (z >= 0 && below(2)) {
      const auto both = broadcast(*d, dims(z));
      if (!both || !small(*both)) return true;
      call("Where", {condition, z, y}, {{DType::f32, *broadcast(*both, dims(y)), value(z).exact}});
    } else {
      call("Cast{to=i64}", {condition}, {{DType::i64, *d, true}});
    }
    return true;
  }

  // Extents that only running finds out; what comes of them has known ones. f64: not picked by others.
  bool non_zero() {
    const int x = pick(DType::f32, 1, 4);
    if (x < 0 || !value(x).exact) return false;
    const int z = call("NonZero", {x}, {{DType::f64, {}, true}});
    if (below(2)) {
      call("ReduceSum{keep_dims=false}", {z, list({1})}, {{DType::i64, {rank(x)}, true}});
      return true;
    }
    const int t = call("Transpose{perm=[1, 0]}", {z}, {{DType::f64, {}, true}});
    const int g = call("GatherND", {x, t}, {{DType::f64, {}, true}});
    const int n = below(2) ? call("Tanh", {g}, {{DType::f64, {}, true}}) : g;
    call("ReduceSum{keep_dims=true}", {n, list({0})}, {{DType::f32, {1}, false}});
    return true;
  }

  // Extents become numbers, numbers become extents.
  bool shape_arithmetic() {
    const int x = pick(DType::f32, 1, 4);
    if (x < 0 || element_count(dims(x)) == 0) return false;
    const int shape = call("Shape", {x}, {{DType::i64, {rank(x)}, true}});
    if (below(2)) {
      const int y = pick(DType::f32, 0, rank(x));
      const auto d = y < 0 ? std::nullopt : broadcast(dims(x), dims(y));
      if (!d || *d != dims(x)) return true;
      call("Expand", {y, shape}, {{DType::f32, dims(x), value(y).exact}});
      return true;
    }
    // [first, -1]
    const int head = call("Slice", {shape, list({0}), list({1})}, {{DType::i64, {1}, true}});
    const int wanted = call("Concat{axis=0}", {head, list({-1})}, {{DType::i64, {2}, true}});
    call("Reshape", {x, wanted}, {{DType::f32, {dims(x)[0], element_count(dims(x)) / dims(x)[0]}, value(x).exact}});
    return true;
  }

  Recipe body(const std::vector<int>& captures, std::vector<Recipe::Value> before) {
    Recipe inner;
    for (Recipe::Value& v : before) {
      inner.first.push_back(static_cast<int>(inner.values.size()));
      inner.items.push_back({});
      inner.values.push_back(std::move(v));
    }
    for (int v : captures) {
      inner.first.push_back(static_cast<int>(inner.values.size()));
      inner.items.push_back({});
      inner.values.push_back(value(v));
    }
    return inner;
  }
  static int inner_call(Recipe& inner, std::string text, std::vector<int> inputs, Recipe::Value made) {
    Recipe::Item item;
    item.kind = Recipe::Item::Kind::node;
    item.call = std::move(text);
    item.inputs = std::move(inputs);
    inner.first.push_back(static_cast<int>(inner.values.size()));
    inner.items.push_back(std::move(item));
    inner.values.push_back(std::move(made));
    return inner.first.back();
  }

  int condition() {
    const int given = pick(DType::boolean, 0, 0);
    if (given >= 0) return given;
    const int x = pick(DType::f32, 1);
    if (x < 0 || !value(x).exact || element_count(dims(x)) == 0) return -1;
    std::vector<int64_t> axes;
    for (int k = 0; k < rank(x); ++k) axes.push_back(k);
    const int high = call("ReduceMax{keep_dims=false}", {x, list(axes)}, {{DType::f32, {}, true}});
    const int limit = constant(Tensor::scalar(DType::f32, below(5) - 1));
    return call("Less", {high, limit}, {{DType::boolean, {}, true}});
  }

  bool branch() {
    const int x = pick(DType::f32, 1, 4), y = pick(DType::f32, 1, 4);
    if (x < 0 || y < 0) return false;
    const int c = condition();
    if (c < 0) return false;
    const bool same = below(2);
    const std::vector<int> captures{x, y};
    Recipe::Item item;
    item.kind = Recipe::Item::Kind::node;
    item.call = "If";
    item.inputs = {c, x, y};
    const auto d = broadcast(dims(x), dims(y));
    for (int b = 0; b < 2; ++b) {
      Recipe inner = body(captures, {});
      const Recipe::Value vx = value(x);
      int r;
      if (b == 0)
        r = inner_call(inner, "Neg", {0}, vx);
      else if (same)
        r = below(3) ? inner_call(inner, "Tanh", {0}, vx) : 0;
      else
        r = d && *d == dims(x) ? inner_call(inner, "Add", {0, 1}, vx) : inner_call(inner, "Abs", {0}, vx);
      inner.results = {r, below(2) ? 1 : inner_call(inner, "Relu", {1}, value(y))};
      item.bodies.push_back(std::move(inner));
    }
    add(std::move(item), {{DType::f32, dims(x), false}, {DType::f32, dims(y), false}});
    return true;
  }

  bool loop() {
    const int x = pick(DType::f32, 1, 3);
    const int y = below(2) ? x : constant(Tensor::scalar(DType::f32, below(5) - 2));
    if (x < 0 || y < 0) return false;
    const auto d = broadcast(dims(x), dims(y));
    if (!d || *d != dims(x)) return false;
    const int64_t trips = below(4);
    const int count = constant(Tensor::scalar(DType::i64, static_cast<double>(trips)));
    Recipe inner = body({y}, {{DType::i64, {}, true}, {DType::boolean, {}, true}, value(x)});
    const Recipe::Value vx{DType::f32, dims(x), false};
    const int sum = inner_call(inner, below(2) ? "Add" : "Min", {2, 3}, vx);
    const int bounded = inner_call(inner, "Tanh", {sum}, vx);
    inner.results = {1, bounded, below(2) ? sum : 2};
    Recipe::Item item;
    item.kind = Recipe::Item::Kind::node;
    item.call = "Loop{carried=1, stack_axes=[0]}";
    item.inputs = {count, -1, x, y};
    item.bodies.push_back(std::move(inner));
    Dims stacked = dims(x);
    stacked.insert(stacked.begin(), trips);
    add(std::move(item), {{DType::f32, dims(x), false}, {DType::f32, stacked, false}});
    return true;
  }

  std::mt19937_64 random_;
  Recipe r_;
};

}  // namespace
