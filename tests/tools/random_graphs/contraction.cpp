// Contractions, pooling, resampling, signals.

#include <fmt/core.h>

#include "random_graphs/maker.h"

namespace random_graphs {
namespace {

int product_grain(const Maker& m, int x, int y) { return m.exact(x) && m.exact(y) ? m.grain(x) + m.grain(y) : -1; }

DType contracted(Maker& m) {
  static constexpr DType rare[] = {DType::f64, DType::f16, DType::bf16, DType::i32, DType::i64, DType::u32};
  return m.below(4) ? DType::f32 : m.one_of(rare);
}

bool matmul(Maker& m) {
  const DType d = contracted(m);
  int x = m.pick(d, 1, 4);
  if (x < 0) x = m.operand(d, {m.extent(), m.extent()});
  if (x < 0 || m.rank(x) < 1) return false;
  const int64_t k = m.dims(x).back(), n = m.extent();
  const bool transposed = m.once_in(3);
  Dims w = transposed ? Dims{n, k} : Dims{k, n};
  if (m.once_in(6)) w = {k};
  // Batches: none, the same, 1, of their own.
  if (m.rank(x) > 2 && w.size() == 2 && m.once_in(2))
    for (int e = m.rank(x) - 3; e >= 0; --e) w.insert(w.begin(), m.once_in(3) ? 1 : m.extent_of(x, e));
  else if (w.size() == 2 && m.once_in(6))
    w.insert(w.begin(), m.between(1, 3));
  if (!Maker::small(w)) return false;
  const int y = m.once_in(2) ? m.random_constant(d, w, -0.5, 0.5) : m.operand(d, w);
  if (y < 0) return false;
  const int p =
      m.call(transposed && w.size() > 1 ? "MatMul{transpose_b=true}" : "MatMul", {x, y}, product_grain(m, x, y));
  if (p < 0 || !is_float(d) || m.rank(p) < 1 || m.once_in(2)) return p >= 0;
  // What is fused into it.
  const int b = m.broadcastable(d, {m.dims(p).back()});
  const int sum = b < 0 ? -1 : m.call("Add", {p, b});
  static constexpr const char* after[] = {"Relu", "Gelu", "Sigmoid", "Tanh", "Swish"};
  return sum >= 0 && m.call(m.one_of(after), {sum}) >= 0;
}

// [N, C, spatial...], made if there is none.
int image(Maker& m, DType d, int low = 3, int high = 5) {
  int x = m.pick([&](int v) { return m.dtype(v) == d && m.rank(v) >= low && m.rank(v) <= high && m.size(v) > 0; });
  if (x >= 0) return x;
  Dims dims{m.between(1, 2), m.between(1, 8)};
  for (int k = m.below(5) ? 2 : m.between(1, 3); k > 0 || static_cast<int>(dims.size()) < low; --k)
    if (static_cast<int>(dims.size()) < high)
      dims.push_back(m.between(3, 9));
    else
      break;
  return m.operand(d, dims);
}

std::vector<int64_t> spatial(Maker& m, int x, int low, int high) {
  std::vector<int64_t> out;
  for (int k = 2; k < m.rank(x); ++k) out.push_back(m.between(low, high));
  return out;
}

bool conv(Maker& m) {
  const DType d = m.below(6) ? DType::f32 : contracted(m);
  const int x = image(m, d);
  if (x < 0) return false;
  const int64_t c = m.extent_of(x, 1);
  int64_t group = 1, out = m.once_in(3) ? 5 : int64_t{1} << m.below(5);
  if (m.once_in(3)) {
    group = m.once_in(2) || c % 2 ? c : 2;
    out = group * m.between(1, 3);
  }
  if (c < 1 || c > 40 || out > 60) return false;
  std::vector<int64_t> kernel = spatial(m, x, 1, 3), strides = spatial(m, x, 1, 2), dilations, pads;
  for (size_t k = 0; k < kernel.size(); ++k) dilations.push_back(m.below(4) ? 1 : 2);
  for (size_t k = 0; k < 2 * kernel.size(); ++k) pads.push_back(m.below(2) + m.below(2));
  Dims w{out, c / group};
  w.insert(w.end(), kernel.begin(), kernel.end());
  if (!Maker::small(w)) return false;
  std::vector<int> inputs{x, m.below(5) ? m.random_constant(d, w, -0.5, 0.5) : m.operand(d, w)};
  if (m.once_in(2)) inputs.push_back(m.operand(d, {out}));
  static constexpr const char* automatic[] = {"same_upper", "same_lower", "valid"};
  std::string text = m.once_in(6)
                         ? fmt::format("Conv{{auto_pad={}, strides={}, group={}}}", m.one_of(automatic),
                                       Maker::text_of(strides), group)
                         : fmt::format("Conv{{pads={}, strides={}, dilations={}, group={}}}", Maker::text_of(pads),
                                       Maker::text_of(strides), Maker::text_of(dilations), group);
  const int y = m.call(text, inputs);
  if (y < 0 || m.once_in(2) || !is_float(d)) return y >= 0;
  const int s = m.once_in(2) ? m.call("Mul", {y, m.random_constant(d, {out, 1, 1})}) : y;
  const int sum = s < 0 ? -1 : m.once_in(2) ? m.call("Add", {s, m.operand(d, m.dims(s))}) : s;
  static constexpr const char* after[] = {"Relu", "Sigmoid", "Clip{low=0, high=6}", "LeakyRelu{alpha=0.1}", "Tanh"};
  return sum >= 0 && m.call(m.one_of(after), {sum}) >= 0;
}

// A depthwise convolution between two others: kept together where it is wide.
bool conv_chain(Maker& m) {
  const bool wide = m.once_in(8);
  const int x = wide ? m.operand(DType::f32, {1, m.between(1, 4), 36, m.between(36, 40)}) : image(m, DType::f32, 4, 4);
  if (x < 0) return false;
  const int64_t c = m.extent_of(x, 1), middle = wide ? 96 : m.between(2, 20), out = m.between(1, 4);
  static constexpr const char* after[] = {"Relu", "Sigmoid", "Clip{low=0, high=6}", "Tanh", "Swish"};
  int y = x;
  if (m.below(4)) {
    const int64_t k = m.once_in(2) ? 1 : 3;
    y = m.call(fmt::format("Conv{{pads={}}}", Maker::text_of(std::vector<int64_t>(4, k / 2))),
               {y, m.random_constant(DType::f32, {middle, c, k, k}, -0.5, 0.5), m.operand(DType::f32, {middle})});
    if (y >= 0 && m.below(4)) y = m.call(m.one_of(after), {y});
  }
  if (y < 0) return false;
  const int64_t wide_channels = m.extent_of(y, 1), k = m.once_in(2) ? 3 : 5, stride = m.between(1, 2);
  y = m.call(fmt::format("Conv{{pads={}, strides={}, group={}}}", Maker::text_of(std::vector<int64_t>(4, k / 2)),
                         Maker::text_of(std::vector<int64_t>(2, stride)), wide_channels),
             {y, m.random_constant(DType::f32, {wide_channels, 1, k, k}, -0.5, 0.5)});
  if (y >= 0 && m.below(4)) y = m.call(m.one_of(after), {y});
  if (y < 0 || (!wide && m.once_in(4))) return y >= 0;
  y = m.call("Conv", {y, m.random_constant(DType::f32, {out, wide_channels, 1, 1}, -0.2, 0.2)});
  return y >= 0 && (m.once_in(2) || m.call("Add", {y, m.operand(DType::f32, m.dims(y))}) >= 0);
}

DType byte_dtype(Maker& m) { return m.once_in(2) ? DType::u8 : DType::i8; }

// A zero point, for all or by row or column; or none.
int zero_point(Maker& m, DType d, const Dims& per) {
  if (m.once_in(3)) return -1;
  return m.once_in(3) ? m.random_constant(d, per, 0, 100) : m.number(d, m.between(0, 100));
}

bool matmul_integer(Maker& m) {
  const DType a = byte_dtype(m), b = byte_dtype(m);
  int x = m.pick(a, 2, 4);
  if (x < 0) x = m.operand(a, {m.extent(), m.extent()});
  if (x < 0 || m.rank(x) < 2) return false;
  const Dims w{m.dims(x).back(), m.extent()};
  if (!Maker::small(w)) return false;
  const int y = m.once_in(2) ? m.random_constant(b, w, 0, 100) : m.operand(b, w);
  if (y < 0) return false;
  std::vector<int> inputs{x, y, zero_point(m, a, {m.extent_of(x, m.rank(x) - 2), 1}), zero_point(m, b, {w[1]})};
  while (inputs.back() < 0) inputs.pop_back();
  return m.call("MatMulInteger", inputs) >= 0;
}

bool conv_integer(Maker& m) {
  const DType a = byte_dtype(m), b = byte_dtype(m);
  const int x = image(m, a);
  if (x < 0) return false;
  const int64_t c = m.extent_of(x, 1), group = m.once_in(3) ? c : 1, out = group * m.between(1, 3);
  if (c < 1 || c > 40) return false;
  std::vector<int64_t> kernel = spatial(m, x, 1, 3), strides = spatial(m, x, 1, 2), pads;
  for (size_t k = 0; k < 2 * kernel.size(); ++k) pads.push_back(m.below(2));
  Dims w{out, c / group}, one{out};
  w.insert(w.end(), kernel.begin(), kernel.end());
  one.resize(w.size(), 1);
  if (!Maker::small(w)) return false;
  std::vector<int> inputs{x, m.random_constant(b, w, 0, 100), zero_point(m, a, {}), zero_point(m, b, one)};
  while (inputs.back() < 0) inputs.pop_back();
  return m.call(fmt::format("ConvInteger{{pads={}, strides={}, group={}}}", Maker::text_of(pads),
                            Maker::text_of(strides), group),
                inputs) >= 0;
}

bool conv_transpose(Maker& m) {
  const DType d = m.below(6) ? DType::f32 : m.float_dtype();
  const int x = image(m, d);
  if (x < 0 || m.size(x) > 600) return false;
  const int64_t c = m.extent_of(x, 1), group = m.once_in(3) ? c : 1;
  std::vector<int64_t> kernel = spatial(m, x, 1, 3), strides = spatial(m, x, 1, 3), dilations = spatial(m, x, 1, 2),
                       pads, more;
  for (size_t k = 0; k < 2 * kernel.size(); ++k) pads.push_back(m.below(2));
  for (size_t k = 0; k < kernel.size(); ++k) more.push_back(strides[k] > 1 && m.once_in(2));
  const int64_t out = m.between(1, 4);
  Dims w{c, out};
  w.insert(w.end(), kernel.begin(), kernel.end());
  if (!Maker::small(w)) return false;
  std::vector<int> inputs{x, m.random_constant(d, w, -0.5, 0.5)};
  if (m.once_in(2)) inputs.push_back(m.operand(d, {out * group}));
  return m.call(fmt::format("ConvTranspose{{pads={}, strides={}, dilations={}, output_padding={}, group={}}}",
                            Maker::text_of(pads), Maker::text_of(strides), Maker::text_of(dilations),
                            Maker::text_of(more), group),
                inputs) >= 0;
}

bool deform_conv(Maker& m) {
  const int x = image(m, DType::f32, 4, 4);
  if (x < 0 || m.extent_of(x, 2) < 3 || m.extent_of(x, 3) < 3) return false;
  const int64_t c = m.extent_of(x, 1), out = m.between(1, 3);
  const Dims y{m.extent_of(x, 0), 8, m.extent_of(x, 2) - 1, m.extent_of(x, 3) - 1};
  // Places strictly between elements: |offset| < 1, no multiple of one.
  const int some = m.operand(DType::f32, y);
  const int small = some < 0 ? -1 : m.call("Sigmoid", {some});
  const int offset = small < 0 ? -1 : m.call("Mul", {small, m.number(DType::f32, 0.75)});
  return offset >= 0 && m.call("DeformConv", {x, m.random_constant(DType::f32, {out, c, 2, 2}), offset}) >= 0;
}

bool einsum(Maker& m) {
  const DType d = m.below(4) ? DType::f32 : contracted(m);
  const int64_t i = m.between(1, 5), j = m.between(1, 6), k = m.between(1, 7), b = m.between(1, 3);
  switch (m.below(7)) {
    case 0: return m.call("Einsum{equation=\"ij,jk->ik\"}", {m.operand(d, {i, j}), m.operand(d, {j, k})}) >= 0;
    case 1: return m.call("Einsum{equation=\"bij,bkj->bik\"}", {m.operand(d, {b, i, j}), m.operand(d, {b, k, j})}) >= 0;
    case 2: return m.call("Einsum{equation=\"ij->ji\"}", {m.operand(d, {i, j})}) >= 0;
    case 3: return m.call("Einsum{equation=\"ii->i\"}", {m.operand(d, {i, i})}) >= 0;
    case 4: return m.call("Einsum{equation=\"...ij,jk\"}", {m.operand(d, {b, 2, i, j}), m.operand(d, {j, k})}) >= 0;
    case 5: return m.call("Einsum{equation=\"i,j->ij\"}", {m.operand(d, {i}), m.operand(d, {j})}) >= 0;
    default:
      return m.call("Einsum{equation=\"bij,jk,bik->b\"}",
                    {m.operand(d, {b, i, j}), m.operand(d, {j, k}), m.operand(d, {b, i, k})}) >= 0;
  }
}

bool pool(Maker& m) {
  const int kind = m.below(3);
  const int x = image(m, m.below(5) ? DType::f32 : kind == 0 && m.once_in(2) ? DType::u8 : m.float_dtype());
  if (x < 0) return false;
  const std::vector<int64_t> kernel = spatial(m, x, 1, 3), strides = spatial(m, x, 1, 2);
  std::vector<int64_t> pads(2 * kernel.size(), 0), dilations;
  for (size_t k = 0; k < kernel.size(); ++k) {
    dilations.push_back(m.once_in(5) ? 2 : 1);
    if (kernel[k] > 1)
      for (size_t e : {k, k + kernel.size()}) pads[e] = m.below(2);
  }
  const std::string rest =
      fmt::format("ceil_mode={}, dilations={}, kernel={}, pads={}, strides={}", m.once_in(3), Maker::text_of(dilations),
                  Maker::text_of(kernel), Maker::text_of(pads), Maker::text_of(strides));
  if (kind == 1) return m.call(fmt::format("AveragePool{{count_pads={}, {}}}", m.once_in(2), rest), {x}) >= 0;
  if (kind == 2) {
    const int far = m.call("Abs", {x});
    const int p = far < 0 ? -1 : m.call("Add", {far, m.number(m.dtype(x), 0.5)});
    return p >= 0 && m.call(fmt::format("LpPool{{{}, p={}}}", rest, m.between(1, 3)), {p}) >= 0;
  }
  if (!m.once_in(3) || !m.exact(x)) return m.call(fmt::format("MaxPool{{{}}}", rest), {x}, m.grain(x)) >= 0;
  const int y = m.call(fmt::format("MaxPool{{{}}}", rest), {x}, m.grain(x), 2);
  return y >= 0;
}

// Windows that do not overlap: every place is named once.
bool unpool(Maker& m) {
  const int x = image(m, DType::f32, 4, 4);
  if (x < 0 || !m.exact(x)) return false;
  const int y = m.call("MaxPool{kernel=[2, 2], strides=[2, 2]}", {x}, m.grain(x), 2);
  return y >= 0 && m.size(y) > 0 && m.call("MaxUnpool{kernel=[2, 2], strides=[2, 2]}", {y, y + 1}, m.grain(y)) >= 0;
}

// Regions inside of the image.
bool regions(Maker& m) {
  const int x = image(m, DType::f32, 4, 4);
  if (x < 0 || m.extent_of(x, 2) < 4 || m.extent_of(x, 3) < 4 || m.extent_of(x, 0) < 1) return false;
  const bool most = m.once_in(2);
  const int64_t count = m.between(1, 3);
  Tensor rois(DType::f32, {count, most ? 5 : 4}), batch(DType::i64, {count});
  for (int64_t r = 0; r < count; ++r) {
    const int64_t at = r * (most ? 5 : 4);
    if (most) rois.set_real(at, 0);
    for (int64_t k = most; k < (most ? 5 : 4); ++k)
      rois.set_real(at + k, k - most < 2 ? m.below(2) + (most ? 0 : 0.25) : 2 + m.below(2) + (most ? 0 : 0.375));
  }
  const int places = m.constant(std::move(rois));
  if (most) return m.call("MaxRoiPool{height=2, width=2}", {x, places}, m.grain(x)) >= 0;
  return m.call(
             fmt::format("RoiAlign{{height=2, width=3, sampling_ratio=2, mode={}}}", m.once_in(2) ? "average" : "max"),
             {x, places, m.constant(std::move(batch))}) >= 0;
}

bool resize(Maker& m) {
  const int x = image(m, m.below(5) ? DType::f32 : m.float_dtype(), 3, 4);
  if (x < 0) return false;
  static constexpr const char* modes[] = {"nearest", "linear", "cubic"};
  static constexpr const char* places[] = {"half_pixel", "align_corners", "asymmetric", "pytorch_half_pixel",
                                           "half_pixel_symmetric"};
  static constexpr const char* nearest[] = {"round_prefer_floor", "round_prefer_ceil", "floor", "ceil"};
  const std::string mode = m.one_of(modes);
  std::string text = fmt::format("Resize{{mode={}, coordinates={}, nearest={}{}}}", mode, m.one_of(places),
                                 m.one_of(nearest), mode != "nearest" && m.once_in(3) ? ", antialias=true" : "");
  const int grain = mode == "nearest" ? m.grain(x) : -1;
  if (m.once_in(2)) {
    std::vector<int64_t> sizes = m.dims(x);
    for (size_t k = 2; k < sizes.size(); ++k) sizes[k] = m.between(1, 12);
    return Maker::small(sizes) && m.call(text, {x, -1, -1, m.list(sizes)}, grain) >= 0;
  }
  Tensor scales(DType::f32, {m.rank(x)});
  static constexpr double some[] = {1, 2, 0.5, 1.5, 3, 0.75};
  for (int64_t k = 0; k < scales.count(); ++k) scales.set_real(k, k < 2 ? 1 : m.one_of(some));
  return m.call(text, {x, -1, m.constant(std::move(scales))}, grain) >= 0;
}

bool grid_sample(Maker& m) {
  const int x = image(m, DType::f32, 4, 4);
  if (x < 0) return false;
  const int64_t n = m.extent_of(x, 0);
  const int some = m.operand(DType::f32, {n, 3, 4, 2});
  const int grid = some < 0 ? -1 : m.call("Tanh", {some});
  static constexpr const char* padding[] = {"zeros", "border", "reflection"};
  return grid >= 0 && m.call(fmt::format("GridSample{{align_corners={}, mode={}, padding={}}}", m.once_in(2),
                                         m.once_in(3) ? "cubic" : "linear", m.one_of(padding)),
                             {x, grid}) >= 0;
}

bool signal(Maker& m) {
  switch (m.below(8)) {
    case 7: {  // one row of costs: no two ways to compare
      const int x = m.operand(DType::f32, {1, m.between(1, 6)});
      return x >= 0 && m.call("DynamicTimeWarping", {x}, 0) >= 0;
    }
    case 0: {
      const int x = m.operand(DType::f32, {m.between(1, 2), m.between(2, 9), m.between(1, 2)});
      return x >= 0 && m.call(m.dims(x)[2] == 1 && m.once_in(2) ? "DFT{one_sided=true}" : "DFT",
                              {x, -1, m.number(DType::i64, 1)}) >= 0;
    }
    case 1: {
      const int x = m.operand(DType::f32, {1, 16, 1});
      return x >= 0 && m.call("STFT", {x, m.number(DType::i64, 4), m.random_constant(DType::f32, {8}, 0.25, 1)}) >= 0;
    }
    case 2: {
      const int x = m.operand(DType::f32, {m.between(1, 2), 3, 3});
      return x >= 0 && m.call("Det", {x}) >= 0;
    }
    case 3: {  // far from singular
      const int x = m.operand(DType::f32, {2, 3, 3});
      const int t = x < 0 ? -1 : m.call("Tanh", {x});
      Tensor diagonal(DType::f32, {3, 3});
      for (int64_t k = 0; k < 3; ++k) diagonal.set_real(4 * k, 4);
      const int sum = t < 0 ? -1 : m.call("Add", {t, m.constant(std::move(diagonal))});
      return sum >= 0 && m.call("Inverse", {sum}) >= 0;
    }
    case 4: {
      const int x = image(m, DType::f32, 4, 4);
      return x >= 0 && m.call("LRN{alpha=0.1, bias=1.5, size=3}", {x}) >= 0;
    }
    case 5: {
      const int x = m.operand(DType::f32, {1, 8, 9});
      return x >= 0 && m.call("Col2Im", {x, m.fixed_list({4, 4}), m.fixed_list({2, 2})}) >= 0;
    }
    default:
      return m.call("MelWeightMatrix", {m.number(DType::i64, 4), m.number(DType::i64, 16), m.number(DType::i64, 8000),
                                        m.number(DType::f32, 0), m.number(DType::f32, 4000)}) >= 0;
  }
}

constexpr Family contractions[] = {
    {"matmul", 6, matmul},
    {"conv", 5, conv},
    {"chain of convs", 2, conv_chain},
    {"transposed conv", 2, conv_transpose},
    {"deform conv", 1, deform_conv},
    {"einsum", 2, einsum},
    {"matmul of bytes", 2, matmul_integer},
    {"conv of bytes", 2, conv_integer},
};
constexpr Family spatials[] = {
    {"pool", 3, pool},     {"unpool", 1, unpool},           {"regions", 1, regions},
    {"resize", 2, resize}, {"grid sample", 1, grid_sample}, {"signal", 2, signal},
};

}  // namespace

std::span<const Family> contraction_families() { return contractions; }
std::span<const Family> spatial_families() { return spatials; }

}  // namespace random_graphs
