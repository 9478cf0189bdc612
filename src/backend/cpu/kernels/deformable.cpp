// DeformConv of f32 with two spatial axes, channels last: each chunk reads the displaced taps of its pixels into rows,
// interpolated for all channels of an offset group at once, and multiplies them with the panels of weights.

#include <cmath>
#include <cstring>

#include "backend/cpu/device.h"
#include "backend/cpu/kernels/common.h"
#include "backend/cpu/kernels/contraction.h"
#include "backend/cpu/kernels/convolution.h"
#include "backend/cpu/kernels/families.h"
#include "backend/cpu/kernels/lines.h"
#include "base/checked.h"
#include "ops/contraction.h"

namespace sinter::cpu {
namespace {

enum Input : size_t { in_x, in_w, in_offset, in_bias, in_mask };

WindowRef window_ref(const DeformConvAttrs& a) { return {AutoPad::explicit_pads, {}, a.strides, a.dilations, a.pads}; }

std::optional<int64_t> columns(const Problem& problem) {
  const Stage& stage = problem.stages[0];
  const int64_t groups = stage.attrs.as<DeformConvAttrs>().group;
  const Dim& m = (*problem.types[stage.inputs[in_w]].shape)[0];
  if (!m.is_constant() || m.constant() % groups != 0) return std::nullopt;
  return m.constant() / groups;
}

Answer supports(const Kernel&, const Problem& problem, const DeviceSpec& device) {
  if (problem.stages.size() != 1 || !is_op(problem.stages[0], "DeformConv")) return Answer::no("not a DeformConv");
  if (Answer a = plain_problem(problem); !a) return a;
  const Stage& stage = problem.stages[0];
  const DeformConvAttrs& attrs = stage.attrs.as<DeformConvAttrs>();
  for (size_t i = 0; i < stage.inputs.size(); ++i) {
    if (!has(stage, i)) continue;
    if (Answer a = device_f32(problem, stage.inputs[i]); !a) return a;
    for (size_t j = 0; j < i; ++j)
      if (stage.inputs[i] == stage.inputs[j]) return Answer::no("an operand stands twice");
    if (i >= in_offset && !row_major_or_any(problem.operands[stage.inputs[i]].layout))
      return Answer::no("operands must be row-major");
  }
  if (problem.types[stage.inputs[in_x]].shape->size() != 4) return Answer::no("only two spatial axes");
  if (Answer a = window_known(2, window_ref(attrs)); !a) return a;
  if (attrs.group > INT32_MAX || attrs.offset_group > INT32_MAX) return Answer::no("groups out of range");
  const auto n = columns(problem);
  if (!n) return Answer::no("the number of filters is not constant");
  const Layout& w = problem.operands[stage.inputs[in_w]].layout;
  if (w.kind != Layout::Kind::any && w != conv_layout(contract_table(device.level), *n, attrs.group, 1))
    return Answer::no("weights have another layout");
  if (!channels_last_or_any(problem.operands[stage.inputs[in_x]].layout, 4)) return Answer::no("channels must be last");
  if (problem.results.size() != 1) return Answer::no("not one result");
  if (!channels_last_or_any(problem.results[0].layout, 4)) return Answer::no("channels must be last");
  return Answer::yes();
}

Needs needs(const Kernel&, const Problem& problem, const Config&, const DeviceSpec& device) {
  const Stage& stage = problem.stages[0];
  Needs out;
  for (size_t i = 0; i < problem.operands.size(); ++i)
    out.operands.push_back(i == stage.inputs[in_x]   ? Layout::channels_last(4)
                           : i == stage.inputs[in_w] ? conv_layout(contract_table(device.level), *columns(problem),
                                                                   stage.attrs.as<DeformConvAttrs>().group, 1)
                                                     : settled(problem.operands[i].layout));
  out.results.push_back(Layout::channels_last(4));
  return out;
}

double cost(const Kernel&, const Problem& problem, std::span<const int64_t> symbols, const DeviceSpec& device) {
  const Stage& stage = problem.stages[0];
  const double y = elements_at(problem.types[problem.first_result[0]], symbols);
  const Type& w = problem.types[stage.inputs[in_w]];
  const double filters = static_cast<double>(std::max<int64_t>(1, (*w.shape)[0].evaluate(symbols)));
  const double depth = elements_at(w, symbols) / filters;
  return contraction_cost(contract_table(device.level), y, depth, 1, 4 * (y + depth)) + y / filters * depth * 4;
}

constexpr int64_t block = 96;  // pixels of a chunk

struct Plan {
  const ContractTable* table;
  Window window;
  int64_t images = 0, channels = 0, groups = 1, offset_groups = 1, taps = 1, positions = 0, blocks = 0;
  ContractArgs args;
  int64_t contract_at = 0;  // bytes into the scratch
};

void bind(const Kernel&, const void* prepared, const BindContext& c, Bound& bound) {
  const Stage& stage = c.problem.stages[0];
  const DeformConvAttrs& attrs = stage.attrs.as<DeformConvAttrs>();
  const Dims &x = c.operands[stage.inputs[in_x]], &w = c.operands[stage.inputs[in_w]], &y = c.results[0];
  Plan& p = emplace<Plan>(bound);
  p.table = *static_cast<const ContractTable* const*>(prepared);
  bound.chunks[0] = 0;
  if (product(y) == 0) return;
  p.groups = attrs.group;
  p.offset_groups = attrs.offset_group;
  p.images = x[0];
  p.channels = x[1];
  p.taps = checked_mul(w[2], w[3], "taps");
  p.positions = checked_mul(y[2], y[3], "pixels");
  const auto fits = [&](size_t input, const Dims& dims) {
    return !has(stage, input) || c.operands[stage.inputs[input]] == dims;
  };
  const int64_t places = checked_mul(p.taps, p.offset_groups, "taps");
  if (w[0] % p.groups != 0 || checked_mul(w[1], p.groups, "channels") != x[1] || x[1] % p.offset_groups != 0 ||
      y[0] != x[0] || y[1] != w[0] || !fits(in_offset, {x[0], checked_mul(2, places, "offsets"), y[2], y[3]}) ||
      !fits(in_mask, {x[0], places, y[2], y[3]}) || !fits(in_bias, {w[0]}))
    throw Error(Code::invalid_argument, "the operands of a DeformConv do not fit together");
  p.window = make_window(x, y, std::span(w).subspan(2), window_ref(attrs));
  p.blocks = (p.positions + block - 1) / block;
  ContractArgs& args = p.args;
  args.m = block;
  args.n = w[0] / p.groups;
  args.k = args.lda = checked_mul(w[1], p.taps, "depth");
  args.ldc = w[0];
  args.nr = p.table->panel_width(args.n);
  bound.chunks[0] = checked_mul(p.images, p.blocks, "chunks");
  const int64_t row = checked_mul(p.channels, p.taps, "row");
  p.contract_at = align_up(byte_size(DType::f32, checked_mul(block, row, "rows")), 64, "scratch");
  int64_t scratch = 0;
  for (const int64_t m : {std::min(block, p.positions), p.positions - (p.blocks - 1) * block})
    scratch = std::max(scratch, p.table->scratch_size(args, m, args.n));
  bound.scratch = checked_add(p.contract_at, scratch, "scratch");
}

// One tap of one pixel for `count` channels from image on.
void read_tap(const Plan& p, const float* image, double h, double w, float scale, int64_t count, float* to) {
  const int64_t height = p.window.in[1], width = p.window.in[2];
  if (!(h > -1 && h < static_cast<double>(height) && w > -1 && w < static_cast<double>(width))) {
    std::memset(to, 0, static_cast<size_t>(count) * 4);
    return;
  }
  const double floor_h = std::floor(h), floor_w = std::floor(w);
  const auto top = static_cast<int64_t>(floor_h), left = static_cast<int64_t>(floor_w);
  const double part_h = h - floor_h, part_w = w - floor_w;
  int64_t at[4];
  float weights[4];
  int taps = 0;
  for (int corner = 0; corner < 4; ++corner) {
    const int64_t i = top + (corner >> 1), j = left + (corner & 1);
    const double weight = (corner >> 1 ? part_h : 1 - part_h) * (corner & 1 ? part_w : 1 - part_w);
    if (i < 0 || i >= height || j < 0 || j >= width || weight == 0) continue;
    at[taps] = (i * width + j) * p.channels;
    weights[taps++] = static_cast<float>(weight) * scale;
  }
  sum_lines(to, image, at, weights, taps, count);
}

Status run(const Launch& launch) {
  const Plan& p = launch.bound->as<Plan>();
  const Stage& stage = launch.problem->stages[0];
  const auto operand = [&](size_t input) {
    return has(stage, input) ? static_cast<const float*>(launch.operands[stage.inputs[input]]) : nullptr;
  };
  const int64_t n = launch.chunk / p.blocks, first = launch.chunk % p.blocks * block;
  const int64_t pixels = std::min(p.positions, first + block) - first;
  const Window& window = p.window;
  const float* image = operand(in_x) + n * window.in[1] * window.in[2] * p.channels;
  const float *offsets = operand(in_offset), *mask = operand(in_mask), *bias = operand(in_bias);
  auto* rows = reinterpret_cast<float*>(launch.scratch);
  // Rows of one group lie together: [group][pixel][tap][channel].
  const int64_t per_group = p.channels / p.groups, per_offset = p.channels / p.offset_groups;
  for (int64_t i = 0; i < pixels; ++i) {
    const int64_t position = first + i, oh = position / window.out[2], ow = position % window.out[2];
    for (int64_t tap = 0; tap < p.taps; ++tap) {
      const int64_t kh = tap / window.kernel[2], kw = tap % window.kernel[2];
      const auto base_h = static_cast<double>(oh * window.stride[1] + kh * window.dilation[1] - window.pad[1]);
      const auto base_w = static_cast<double>(ow * window.stride[2] + kw * window.dilation[2] - window.pad[2]);
      // Runs of channels of one group and one offset group.
      for (int64_t channel = 0; channel < p.channels;) {
        const int64_t g = channel / per_group, o = channel / per_offset;
        const int64_t end = std::min({p.channels, (g + 1) * per_group, (o + 1) * per_offset});
        const int64_t place = (n * p.offset_groups + o) * p.taps + tap;
        const double h = base_h + double{offsets[place * 2 * p.positions + position]};
        const double w = base_w + double{offsets[(place * 2 + 1) * p.positions + position]};
        const float scale = mask ? mask[place * p.positions + position] : 1;
        float* to = rows + ((g * block + i) * p.taps + tap) * per_group + channel - g * per_group;
        read_tap(p, image + channel, h, w, scale, end - channel, to);
        channel = end;
      }
    }
  }
  ContractArgs args = p.args;
  args.m = pixels;
  for (int64_t g = 0; g < p.groups; ++g) {
    args.a = rows + g * block * args.lda;
    args.b = operand(in_w) + g * p.table->packed_size(1, args.k, args.n, args.nr, 1);
    args.c = static_cast<float*>(launch.operands[launch.problem->operands.size()]) +
             (n * p.positions + first) * args.ldc + g * args.n;
    args.bias = bias ? bias + g * args.n : nullptr;
    p.table->chunk(args, 0, pixels, 0, args.n, launch.scratch + p.contract_at);
  }
  return {};
}

constexpr Kernel rows[] = {
    {.name = "deform_conv_f32",
     .supports = supports,
     .needs = needs,
     .cost = cost,
     .prepare = prepare_contract_table,
     .bind = bind,
     .run = run},
};

}  // namespace

std::span<const Kernel> deformable_kernels() { return rows; }

}  // namespace sinter::cpu
