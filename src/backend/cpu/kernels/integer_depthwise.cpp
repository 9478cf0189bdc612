// ConvInteger of one channel per group, channels last, by the loops of f32: sums of products of differences of bytes
// are exact there. Some lines at a time become floats in the scratch.

#include <cstring>

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

// Lines of the operand are floats around their zero point in the scratch, as many as this at a time.
constexpr int64_t band_bytes = 192 << 10;

struct Prepared {
  const SpatialTable* spatial;
  const IntegerTable* integer;
  OutputView view;
  Epilogue epilogue;
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
  return 1000 + products / 16;
}

std::shared_ptr<const void> prepare(const Kernel&, const Problem& problem, const Config&, const DeviceSpec& device) {
  auto out = std::make_shared<Prepared>();
  out->spatial = &spatial_table(device.level);
  out->integer = &integer_table(device);
  out->view = image_view(problem.types[problem.stages[0].inputs[in_a]].shape->size());
  out->epilogue = make_epilogue(problem, out->view, -1, device.level);
  return out;
}

struct Plan {
  const Prepared* prepared = nullptr;
  Window window;
  int64_t channels = 0, images = 0, taps = 0;
  int64_t band = 1;        // rows of the result that are made at a time
  int64_t lines = 0;       // of the operand in the scratch, of each slice
  bool col_zeros = false;  // one zero point for each filter, else one for all
  BoundEpilogue epilogue;
  // Bytes into the scratch.
  int64_t weights = 0, inner = 0, tile = 0;

  int64_t line_size() const { return window.in[2] * channels; }
  int64_t image_rows() const { return window.out[0] * window.out[1]; }
};

// The rows of a band as a window of their own: what lies outside of the image is zeros in the scratch, but at the ends
// of lines.
Window band_window(const Plan& p, int64_t count) {
  Window w = p.window;
  w.in[0] = w.kernel[0];
  w.in[1] = p.lines;
  w.out[0] = 1;
  w.out[1] = count;
  w.dilation[0] = w.dilation[1] = 1;
  w.stride[0] = 1;
  w.pad[0] = w.pad[1] = w.pad_end[0] = w.pad_end[1] = 0;
  return w;
}

SpatialArgs band_args(const Plan& p, int64_t count) {
  SpatialArgs args;
  args.window = band_window(p, count);
  args.channels = args.pixel_stride = args.out_stride = p.channels;
  args.epilogue = EpilogueRun::block;  // some
  return args;
}

void bind(const Kernel&, const void* prepared, const BindContext& c, Bound& bound) {
  const Stage& stage = c.problem.stages[0];
  const ConvAttrs& attrs = stage.attrs.as<ConvAttrs>();
  const Dims &x = c.operands[stage.inputs[in_a]], &w = c.operands[stage.inputs[in_b]], &y = c.results[0];
  Plan& p = emplace<Plan>(bound);
  p.prepared = static_cast<const Prepared*>(prepared);
  bound.chunks[0] = 0;
  if (x[1] != attrs.group || w[0] != attrs.group || w[1] != 1 || y[0] != x[0] || y[1] != w[0]) integer_mismatch();
  const int64_t zeros = has(stage, in_b_zero) ? product(c.operands[stage.inputs[in_b_zero]]) : 1;
  if (zeros != 1 && zeros != w[0]) integer_mismatch();
  if (product(y) == 0) return;
  p.window = make_window(x, y, std::span(w).subspan(2), window_ref(attrs));
  p.channels = x[1];
  p.images = x[0];
  p.taps = product(w, 2, w.size());
  p.col_zeros = zeros != 1;
  const Window& window = p.window;
  const int64_t slice = byte_size(DType::f32, checked_mul(window.kernel[0], p.line_size(), "line"));
  const int64_t fitting = band_bytes / std::max<int64_t>(1, slice) - window.kernel[1];
  if (window.dilation[1] == 1) p.band = std::clamp<int64_t>(fitting / window.stride[1] + 1, 1, window.out[1]);
  p.lines = (p.band - 1) * window.stride[1] + window.kernel[1];
  p.weights = align_up(checked_mul(slice, p.lines, "scratch"), 64, "scratch");
  p.inner =
      align_up(checked_add(p.weights, byte_size(DType::f32, checked_mul(p.taps, p.channels, "weights")), "scratch"), 64,
               "scratch");
  int64_t inner = 0;
  for (const int64_t count : {p.band, window.out[1] % p.band})
    if (count > 0) inner = std::max(inner, p.prepared->spatial->scratch_size(band_args(p, count)));
  p.tile = checked_add(p.inner, align_up(inner, 64, "scratch"), "scratch");
  p.epilogue = bind_epilogue(p.prepared->epilogue, p.prepared->view, c, !p.prepared->epilogue.whole_batch, p.channels,
                             p.channels);
  bound.scratch = checked_add(p.tile, p.epilogue.scratch, "scratch");
  const int64_t rows = checked_mul(p.images, p.image_rows(), "rows");
  bound.chunks[0] = chunks_for(checked_mul(product(y), p.taps, "work"), rows, c.threads);
}

// Where blocks of sums go.
struct Sums {
  const Plan& plan;
  EpilogueRun& stages;
  int32_t* to;  // the result at the band's first pixel, where there are no stages
};
void take_block(void* user, int64_t m, int64_t rows, int64_t n, int64_t cols, float* block, int64_t stride) {
  const auto& [plan, stages, to] = *static_cast<const Sums*>(user);
  const bool alone = plan.prepared->epilogue.executor == nullptr;
  for (int64_t r = 0; r < rows; ++r) {
    float* const from = block + r * stride;
    plan.prepared->integer->to_words(from, cols,
                                     alone ? to + (m + r) * plan.channels + n : reinterpret_cast<int32_t*>(from));
  }
  if (!alone) EpilogueRun::block(&stages, m, rows, n, cols, block, stride);
}

void center_weights(const Plan& p, const Launch& launch, float* to) {
  const uint8_t *from = bytes_of(launch, in_b), *zero = bytes_of(launch, in_b_zero),
                flip = flip_of(launch, in_b, DType::i8);
  if (!p.col_zeros) return p.prepared->integer->center(from, p.taps * p.channels, flip, zero ? *zero : 0, to);
  for (int64_t t = 0; t < p.taps; ++t)
    for (int64_t i = 0; i < p.channels; ++i)
      p.prepared->integer->center(from + t * p.channels + i, 1, flip, zero[i], to + t * p.channels + i);
}

// The lines that rows [first, first + count) of slice `depth` of an image read.
void center_lines(const Plan& p, const Launch& launch, int64_t image, int64_t depth, int64_t first, int64_t count,
                  float* to) {
  const Window& w = p.window;
  const uint8_t *x = bytes_of(launch, in_a), *zero = bytes_of(launch, in_a_zero),
                flip = flip_of(launch, in_a, DType::i8);
  const int64_t size = p.line_size(), lines = (count - 1) * w.stride[1] + w.kernel[1];
  for (int64_t kd = 0; kd < w.kernel[0]; ++kd) {
    const int64_t d = depth * w.stride[0] - w.pad[0] + kd * w.dilation[0];
    for (int64_t k = 0; k < lines; ++k) {
      // Bands of several rows have no dilation.
      const int64_t h = first * w.stride[1] - w.pad[1] + k * w.dilation[1];
      float* const line = to + (kd * p.lines + k) * size;
      if (d < 0 || d >= w.in[0] || h < 0 || h >= w.in[1])
        std::memset(line, 0, static_cast<size_t>(size) * sizeof(float));
      else
        p.prepared->integer->center(x + ((image * w.in[0] + d) * w.in[1] + h) * size, size, flip, zero ? *zero : 0,
                                    line);
    }
  }
}

Status run(const Launch& launch) {
  const Plan& p = launch.bound->as<Plan>();
  auto* const lines = reinterpret_cast<float*>(launch.scratch);
  auto* const weights = reinterpret_cast<float*>(launch.scratch + p.weights);
  center_weights(p, launch, weights);
  EpilogueRun stages(p.epilogue, launch, launch.scratch + p.tile);
  const bool by_image = !p.prepared->epilogue.whole_batch;
  const int64_t high = p.window.out[1], width = p.window.out[2];
  const Range rows = part(p.images * p.image_rows(), launch.bound->chunks[0], launch.chunk);
  for (int64_t row = rows.begin, count; row < rows.end; row += count) {
    const int64_t image = row / p.image_rows(), in_image = row % p.image_rows(), first = in_image % high;
    count = std::min({p.band, rows.end - row, high - first});
    center_lines(p, launch, image, in_image / high, first, count, lines);
    SpatialArgs args = band_args(p, count);
    args.in = lines;
    args.weights = weights;
    args.epilogue = take_block;
    Sums sums{p, stages, nullptr};
    if (p.prepared->epilogue.executor)
      stages.at(std::span(&image, by_image ? 1 : 0), 0, (by_image ? in_image : row) * width);
    else
      sums.to = static_cast<int32_t*>(launch.operands[launch.problem->operands.size()]) + row * width * p.channels;
    args.user = &sums;
    p.prepared->spatial->depthwise(args, 0, count, launch.scratch + p.inner);
  }
  return {};
}

constexpr Kernel rows[] = {
    {.name = "depthwise_integer",
     .supports = supports,
     .needs = integer_conv_needs,
     .cost = cost,
     .prepare = prepare,
     .bind = bind,
     .run = run,
     .may_overwrite = integer_conv_overwrites},
};

}  // namespace

std::span<const Kernel> integer_depthwise_kernels() { return rows; }

}  // namespace sinter::cpu
