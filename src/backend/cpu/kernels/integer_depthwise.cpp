// ConvInteger of one channel per group, channels last, by the loops of f32: sums of products of differences of bytes
// are exact there.

#include "backend/cpu/device.h"
#include "backend/cpu/kernels/common.h"
#include "backend/cpu/kernels/convolution.h"
#include "backend/cpu/kernels/families.h"
#include "backend/cpu/kernels/integer.h"
#include "base/checked.h"

namespace sinter::cpu {
namespace {

// Sums of up to 256 products of differences of bytes are exact in f32.
constexpr int64_t depthwise_taps = 256;

// Where blocks of sums go, as integers.
struct Store {
  int32_t* to;
  int64_t channels;
};

Answer supports(const Kernel& kernel, const Problem& problem, const DeviceSpec& device) {
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

double cost(const Kernel&, const Problem& problem, std::span<const int64_t> symbols, const DeviceSpec&) {
  const Type& w = problem.types[problem.stages[0].inputs[in_b]];
  const double filters = static_cast<double>(std::max<int64_t>(1, (*w.shape)[0].evaluate(symbols)));
  const double products =
      elements_at(problem.types[problem.first_result[0]], symbols) * elements_at(w, symbols) / filters;
  return 2000 + products / 10;
}

std::shared_ptr<const void> prepare(const Kernel&, const Problem&, const Config&, const DeviceSpec& device) {
  return std::make_shared<const SpatialTable*>(&spatial_table(device.level));
}

struct Plan {
  const SpatialTable* table;
  SpatialArgs args;
  int64_t pixels = 0, pixel_parts = 0;  // of the operand
  int64_t taps = 0, rows = 0;
  int64_t weights = 0;  // bytes into the workspace
  bool col_zeros = false;
};

void bind(const Kernel&, const void* prepared, const BindContext& c, Bound& bound) {
  const Stage& stage = c.problem.stages[0];
  const ConvAttrs& attrs = stage.attrs.as<ConvAttrs>();
  const Dims &x = c.operands[stage.inputs[in_a]], &w = c.operands[stage.inputs[in_b]], &y = c.results[0];
  Plan& p = emplace<Plan>(bound);
  p.table = *static_cast<const SpatialTable* const*>(prepared);
  bound.chunks[0] = 0;
  if (x[1] != attrs.group || w[0] != attrs.group || w[1] != 1 || y[0] != x[0] || y[1] != w[0]) integer_mismatch();
  const int64_t zeros = has(stage, in_b_zero) ? product(c.operands[stage.inputs[in_b_zero]]) : 1;
  if (zeros != 1 && zeros != w[0]) integer_mismatch();
  if (product(y) == 0) return;
  SpatialArgs& args = p.args;
  args.window = make_window(x, y, std::span(w).subspan(2), integer_window(attrs));
  args.channels = args.pixel_stride = args.out_stride = x[1];
  args.image_stride = product(x, 1, x.size());
  args.epilogue = [](void* user, int64_t m, int64_t count, int64_t n, int64_t cols, float* block, int64_t stride) {
    const auto [to, channels] = *static_cast<const Store*>(user);
    for (int64_t r = 0; r < count; ++r)
      for (int64_t i = 0; i < cols; ++i) to[(m + r) * channels + n + i] = static_cast<int32_t>(block[r * stride + i]);
  };
  p.pixels = product(x) / x[1];
  p.taps = product(w, 2, w.size());
  p.rows = checked_mul(x[0], args.window.out[0] * args.window.out[1], "rows");
  p.col_zeros = zeros != 1;
  p.weights = align_up(byte_size(DType::f32, product(x)), 64, "workspace");
  bound.workspace = checked_add(p.weights, byte_size(DType::f32, checked_mul(p.taps, x[1], "weights")), "workspace");
  bound.scratch = p.table->scratch_size(args);
  bound.phases = 2;
  // The weights are one more chunk.
  p.pixel_parts = chunks_for(checked_mul(product(x), 5, "work"), p.pixels, c.threads);
  bound.chunks[0] = p.pixel_parts + 1;
  bound.chunks[1] = chunks_for(checked_mul(product(y), p.taps, "work"), p.rows, c.threads);
}

typedef int32_t Int4 __attribute__((vector_size(16)));
typedef float Float4 __attribute__((vector_size(16), aligned(4), may_alias));
template <typename T>
struct Bytes4 {
  typedef T Vec __attribute__((vector_size(4), aligned(1), may_alias));
};

template <typename T>
void center(const void* bytes, float zero, int64_t begin, int64_t end, float* to) {
  const T* from = static_cast<const T*>(bytes);
  int64_t i = begin;
  for (; i + 4 <= end; i += 4)
    *reinterpret_cast<Float4*>(to + i) =
        __builtin_convertvector(
            __builtin_convertvector(*reinterpret_cast<const typename Bytes4<T>::Vec*>(from + i), Int4), Float4) -
        zero;
  for (; i < end; ++i) to[i] = static_cast<float>(from[i]) - zero;
}

// The operands of one pair as floats around their zero points.
Status prepare_chunk(const Plan& p, const Launch& launch) {
  const Stage& stage = launch.problem->stages[0];
  const auto at = [&](size_t input) { return has(stage, input) ? launch.operands[stage.inputs[input]] : nullptr; };
  const auto is_signed = [&](size_t input) { return launch.problem->types[stage.inputs[input]].dtype == DType::i8; };
  const auto zero_of = [&](size_t input, int64_t i) {
    const void* zero = at(input + 2);
    if (!zero) return 0.0f;
    return is_signed(input) ? static_cast<float>(static_cast<const int8_t*>(zero)[i])
                            : static_cast<float>(static_cast<const uint8_t*>(zero)[i]);
  };
  const int64_t channels = p.args.channels;
  if (launch.chunk < p.pixel_parts) {
    const Range pixels = part(p.pixels, p.pixel_parts, launch.chunk);
    auto* to = reinterpret_cast<float*>(launch.workspace);
    (is_signed(in_a) ? center<int8_t> : center<uint8_t>)(at(in_a), zero_of(in_a, 0), pixels.begin * channels,
                                                         pixels.end * channels, to);
    return {};
  }
  auto* weights = reinterpret_cast<float*>(launch.workspace + p.weights);
  (is_signed(in_b) ? center<int8_t> : center<uint8_t>)(at(in_b), 0, 0, p.taps * channels, weights);
  for (int64_t i = 0; i < p.taps * channels; ++i) weights[i] -= zero_of(in_b, p.col_zeros ? i % channels : 0);
  return {};
}

Status run(const Launch& launch) {
  const Plan& p = launch.bound->as<Plan>();
  if (launch.phase == 0) return prepare_chunk(p, launch);
  SpatialArgs args = p.args;
  args.in = reinterpret_cast<const float*>(launch.workspace);
  args.weights = reinterpret_cast<const float*>(launch.workspace + p.weights);
  Store store{static_cast<int32_t*>(launch.operands[launch.problem->operands.size()]), args.channels};
  args.user = &store;
  const Range rows = part(p.rows, launch.bound->chunks[1], launch.chunk);
  p.table->depthwise(args, rows.begin, rows.end, launch.scratch);
  return {};
}

constexpr Kernel rows[] = {
    {.name = "depthwise_integer",
     .supports = supports,
     .needs = integer_conv_needs,
     .cost = cost,
     .prepare = prepare,
     .bind = bind,
     .run = run},
};

}  // namespace

std::span<const Kernel> integer_depthwise_kernels() { return rows; }

}  // namespace sinter::cpu
