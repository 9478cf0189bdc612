// ConvInteger of one channel per group, channels last: sums of products of differences of bytes, exact in f32.

#include <cstring>

#include "backend/cpu/isa/contract.h"
#include "backend/cpu/kernels/common.h"
#include "backend/cpu/kernels/convolution.h"
#include "backend/cpu/kernels/families.h"
#include "backend/cpu/kernels/integer.h"
#include "base/checked.h"

namespace sinter::cpu {
namespace {

// Sums of up to 256 products of differences of bytes are exact in f32.
constexpr int64_t depthwise_taps = 256;

Answer supports_depthwise(const Kernel& kernel, const Problem& problem, const DeviceSpec& device) {
  if (Answer a = integer_conv_supports(kernel, problem, device); !a) return a;
  const Stage& stage = problem.stages[0];
  const Shape& w = *problem.types[stage.inputs[in_b]].shape;
  if (!(w[0] == Dim(stage.attrs.as<ConvAttrs>().group) && w[1] == Dim(1))) return Answer::no("not depthwise");
  int64_t taps = 1;
  for (size_t k = 2; k < w.size(); ++k) {
    if (!w[k].is_constant() || w[k].constant() > depthwise_taps) return Answer::no("too many taps");
    taps *= std::max<int64_t>(1, w[k].constant());
  }
  return taps > depthwise_taps ? Answer::no("too many taps") : Answer::yes();
}

double cost_depthwise(const Kernel&, const Problem& problem, std::span<const int64_t> symbols, const DeviceSpec&) {
  const Type& w = problem.types[problem.stages[0].inputs[in_b]];
  const double filters = static_cast<double>(std::max<int64_t>(1, (*w.shape)[0].evaluate(symbols)));
  const double products =
      elements_at(problem.types[problem.first_result[0]], symbols) * elements_at(w, symbols) / filters;
  return 1000 + products / 2;
}

struct Depthwise {
  Window window;
  int64_t channels = 0, taps = 0, rows = 0, image = 0;
  bool col_zeros = false;
};

void bind_depthwise(const Kernel&, const void*, const BindContext& c, Bound& bound) {
  const Stage& stage = c.problem.stages[0];
  const ConvAttrs& attrs = stage.attrs.as<ConvAttrs>();
  const Dims &x = c.operands[stage.inputs[in_a]], &w = c.operands[stage.inputs[in_b]], &y = c.results[0];
  Depthwise& p = emplace<Depthwise>(bound);
  bound.chunks[0] = 0;
  if (x[1] != attrs.group || w[0] != attrs.group || w[1] != 1 || y[0] != x[0] || y[1] != w[0]) integer_mismatch();
  const int64_t zeros = has(stage, in_b_zero) ? product(c.operands[stage.inputs[in_b_zero]]) : 1;
  if (zeros != 1 && zeros != w[0]) integer_mismatch();
  if (product(y) == 0) return;
  p.window = make_window(x, y, std::span(w).subspan(2), integer_window(attrs));
  p.channels = x[1];
  p.taps = product(w, 2, w.size());
  p.rows = checked_mul(x[0], p.window.out[0] * p.window.out[1], "rows");
  p.image = product(x, 1, x.size());
  p.col_zeros = zeros != 1;
  bound.chunks[0] = chunks_for(checked_mul(product(y), p.taps, "work"), p.rows, c.threads);
  bound.scratch = byte_size(DType::f32, checked_mul(p.taps + 1, p.channels, "weights"));
}

typedef int32_t Int4 __attribute__((vector_size(16), aligned(4), may_alias));
typedef float Float4 __attribute__((vector_size(16), aligned(4), may_alias));
template <typename T>
struct Bytes4 {
  typedef T Vec __attribute__((vector_size(4), aligned(1), may_alias));
};

// sum += (x - zero) * w over channels
template <typename T>
void add_products(float* sum, const T* x, float zero, const float* w, int64_t channels) {
  int64_t i = 0;
  for (; i + 4 <= channels; i += 4) {
    const Float4 v = __builtin_convertvector(
        __builtin_convertvector(*reinterpret_cast<const typename Bytes4<T>::Vec*>(x + i), Int4), Float4);
    *reinterpret_cast<Float4*>(sum + i) += (v - zero) * *reinterpret_cast<const Float4*>(w + i);
  }
  for (; i < channels; ++i) sum[i] += (static_cast<float>(x[i]) - zero) * w[i];
}

template <typename T, typename W>
void depthwise_rows(const Depthwise& p, const Launch& launch, const T* x, float zero, const W* w, const W* w_zero,
                    int32_t* y) {
  const Window& window = p.window;
  auto* weights = reinterpret_cast<float*>(launch.scratch);
  float* sums = weights + p.taps * p.channels;
  for (int64_t i = 0; i < p.taps * p.channels; ++i) {
    const int32_t z = w_zero ? w_zero[p.col_zeros ? i % p.channels : 0] : 0;
    weights[i] = static_cast<float>(w[i] - z);
  }
  const Range rows = part(p.rows, launch.bound->chunks[0], launch.chunk);
  for (int64_t row = rows.begin; row < rows.end; ++row) {
    const int64_t oh = row % window.out[1], od = row / window.out[1] % window.out[0];
    const T* image = x + row / (window.out[1] * window.out[0]) * p.image;
    int32_t* to = y + row * window.out[2] * p.channels;
    for (int64_t ow = 0; ow < window.out[2]; ++ow, to += p.channels) {
      std::memset(sums, 0, static_cast<size_t>(p.channels) * 4);
      for (int64_t tap = 0; tap < p.taps; ++tap) {
        const int64_t kw = tap % window.kernel[2], kh = tap / window.kernel[2] % window.kernel[1],
                      kd = tap / (window.kernel[2] * window.kernel[1]);
        const int64_t d = od * window.stride[0] - window.pad[0] + kd * window.dilation[0];
        const int64_t h = oh * window.stride[1] - window.pad[1] + kh * window.dilation[1];
        const int64_t v = ow * window.stride[2] - window.pad[2] + kw * window.dilation[2];
        if (d < 0 || d >= window.in[0] || h < 0 || h >= window.in[1] || v < 0 || v >= window.in[2]) continue;
        add_products(sums, image + ((d * window.in[1] + h) * window.in[2] + v) * p.channels, zero,
                     weights + tap * p.channels, p.channels);
      }
      for (int64_t i = 0; i < p.channels; ++i) to[i] = static_cast<int32_t>(sums[i]);
    }
  }
}

Status run_depthwise(const Launch& launch) {
  const Depthwise& p = launch.bound->as<Depthwise>();
  const Stage& stage = launch.problem->stages[0];
  const auto at = [&](size_t input) { return has(stage, input) ? launch.operands[stage.inputs[input]] : nullptr; };
  const auto is_signed = [&](size_t input) { return launch.problem->types[stage.inputs[input]].dtype == DType::i8; };
  auto* y = static_cast<int32_t*>(launch.operands[launch.problem->operands.size()]);
  const auto go = [&]<typename T, typename W>(T, W) {
    const T* zero = static_cast<const T*>(at(in_a_zero));
    depthwise_rows(p, launch, static_cast<const T*>(at(in_a)), zero ? static_cast<float>(*zero) : 0,
                   static_cast<const W*>(at(in_b)), static_cast<const W*>(at(in_b_zero)), y);
  };
  if (is_signed(in_a))
    is_signed(in_b) ? go(int8_t{}, int8_t{}) : go(int8_t{}, uint8_t{});
  else
    is_signed(in_b) ? go(uint8_t{}, int8_t{}) : go(uint8_t{}, uint8_t{});
  return {};
}

constexpr Kernel rows[] = {
    {.name = "depthwise_integer",
     .supports = supports_depthwise,
     .needs = integer_conv_needs,
     .cost = cost_depthwise,
     .bind = bind_depthwise,
     .run = run_depthwise},
};

}  // namespace

std::span<const Kernel> integer_depthwise_kernels() { return rows; }

}  // namespace sinter::cpu
