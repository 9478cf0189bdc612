// ConvTranspose, channels last, with its epilogue: strips of the result's first spatial axis. Each strip multiplies the
// rows of the operand that reach it with all taps at once, then every pixel of the result collects its taps in order:
// no two chunks write the same pixel, and bits do not depend on the strips. Any stride, dilation, padding and group.
// Where taps do not overlap, products go from the loops' blocks straight to the result. Images are f32 or bf16, weights
// are panels.

#include <fmt/core.h>

#include <cstring>

#include "backend/cpu/kernels/common.h"
#include "backend/cpu/kernels/contraction.h"
#include "backend/cpu/kernels/convolution.h"
#include "backend/cpu/kernels/deconvolution.h"
#include "base/checked.h"
#include "ops/convolution.h"

namespace sinter::cpu {
namespace {

constexpr int64_t few_channels = 8;

// Whether stages behind the first are more than loops do themselves.
bool has_program(const Problem& problem) {
  return std::any_of(problem.stages.begin() + 1, problem.stages.end(), [](const Stage& stage) {
    return !is_op(stage, "Add") && !is_op(stage, "Relu") && !is_op(stage, "Clip") && !is_op(stage, "Cast");
  });
}

// N floats of every pixel: too few for calls.
template <int64_t N>
void copy_few(const float* from, int64_t stride, int64_t pixels, float* to, int64_t step) {
  for (int64_t i = 0; i < pixels; ++i, from += stride, to += step) std::memcpy(to, from, N * 4);
}
}  // namespace

void copy_runs(const float* from, int64_t stride, int64_t pixels, int64_t n, float* to, int64_t step) {
  switch (n) {
    case 1: return copy_few<1>(from, stride, pixels, to, step);
    case 2: return copy_few<2>(from, stride, pixels, to, step);
    case 3: return copy_few<3>(from, stride, pixels, to, step);
    case 4: return copy_few<4>(from, stride, pixels, to, step);
    case 8: return copy_few<8>(from, stride, pixels, to, step);
    case 16: return copy_few<16>(from, stride, pixels, to, step);
    case 32: return copy_few<32>(from, stride, pixels, to, step);
    case 64: return copy_few<64>(from, stride, pixels, to, step);
    default: break;
  }
  for (int64_t i = 0; i < pixels; ++i, from += stride, to += step) {
    if (n < 8) {
      for (int64_t k = 0; k < n; ++k) to[k] = from[k];
      continue;
    }
    // The last eight begin where eight are left.
    for (int64_t k = 0; k < n; k += 8) {
      const int64_t at = std::min(k, n - 8);
      std::memcpy(to + at, from + at, 32);
    }
  }
}

void narrow_runs(const SpatialTable& convert, const float* from, int64_t stride, int64_t pixels, int64_t n,
                 uint16_t* to, int64_t step) {
  constexpr int64_t room = 256;
  if (step != n || n > room / 8) return convert.narrow(from, stride, pixels, n, to, step);
  // Few that lie as one are gathered first.
  const int64_t together = room / n;
  float gathered[room];
  for (int64_t i = 0; i < pixels; i += together, from += together * stride, to += together * step) {
    const int64_t here = std::min(together, pixels - i);
    copy_runs(from, stride, here, n, gathered, n);
    convert.narrow(gathered, here * n, 1, here * n, to, here * n);
  }
}

Answer transposed_supported(const Kernel& kernel, const Problem& problem, const DeviceSpec& device) {
  if (problem.stages.empty() || !is_op(problem.stages[0], "ConvTranspose")) return Answer::no("not a ConvTranspose");
  if (Answer a = plain_problem(problem); !a) return a;
  const Stage& stage = problem.stages[0];
  if (Answer a = convolution_operands(problem, stage, true); !a) return a;
  const ConvTransposeAttrs& attrs = stage.attrs.as<ConvTransposeAttrs>();
  if (Answer a = accurate_enough(kernel, device, attrs.numerics); !a) return a;
  const Operand& x = problem.operands[stage.inputs[0]];
  const size_t rank = x.type.shape->size();
  if (Answer a = window_known(rank - 2, {attrs.auto_pad, {}, attrs.strides, attrs.dilations, {}}); !a) return a;
  constexpr int64_t high = int64_t{1} << 31;
  const auto few = [&](const std::vector<int64_t>& values, size_t count, int64_t low) {
    return (values.empty() || values.size() == count) &&
           std::all_of(values.begin(), values.end(), [&](int64_t v) { return v >= low && v <= high; });
  };
  if (!few(attrs.pads, 2 * (rank - 2), -high) || !few(attrs.output_padding, rank - 2, 0) ||
      !few(attrs.output_shape, rank - 2, 0))
    return Answer::no("window attributes out of range");
  if (attrs.group < 1 || attrs.group > INT32_MAX) return Answer::no("group out of range");
  if (!channels_last_or_any(x.layout, rank)) return Answer::no("the operand must have its channels last");
  if (stage.inputs[0] == stage.inputs[1]) return Answer::no("an operand stands twice");
  if (in_epilogue(problem, stage.inputs[1])) return Answer::no("the weights are read twice");
  // Rows of programs are pixels: apart, the work behind runs over all of the result.
  const Dim channels = (*problem.types[problem.first_result[0]].shape)[1];
  if (channels.as_constant().value_or(few_channels) < few_channels && has_program(problem))
    return Answer::no("a program over few channels");
  return epilogue_supported(problem, image_view(rank));
}

int64_t transposed_axes(const BindContext& c, TransposedAxis* axes) {
  const Stage& stage = c.problem.stages[0];
  const ConvTransposeAttrs& attrs = stage.attrs.as<ConvTransposeAttrs>();
  const Dims& x = c.operands[stage.inputs[0]];
  const Dims& w = c.operands[stage.inputs[1]];
  const Dims& y = c.results[0];
  if (w[0] != x[1] || x[1] % attrs.group != 0 || y[0] != x[0] || y[1] != checked_mul(w[1], attrs.group, "channels") ||
      (has(stage, 2) && c.operands[stage.inputs[2]][0] != y[1]))
    throw Error(Code::invalid_argument, "the operands of a ConvTranspose do not fit together");
  const std::vector<int64_t> before =
      transposed_before(attrs, Dims(x.begin() + 2, x.end()), Dims(w.begin() + 2, w.end()));
  int64_t taps = 1;
  for (size_t k = 0; k + 2 < x.size(); ++k) {
    TransposedAxis& axis = axes[k];
    axis.in = x[k + 2];
    axis.out = y[k + 2];
    axis.kernel = w[k + 2];
    axis.stride = window_step(attrs.strides, k);
    axis.dilation = axis.kernel <= 1 ? 1 : window_step(attrs.dilations, k);
    axis.pad = before[k];
    // Coordinates stay far from overflow.
    checked_add(checked_mul(axis.kernel, axis.dilation, "window"), checked_add(axis.out, axis.pad, "window"), "window");
    taps = checked_mul(taps, axis.kernel, "taps");
  }
  if (product(y) != 0 && taps == 0)
    throw Error(Code::invalid_argument, "the kernel of a ConvTranspose has an extent of 0");
  return taps;
}

namespace {

using Axis = TransposedAxis;

constexpr int64_t strip_bytes = 2 << 20;  // of products a thread holds: strips make the rows that they share anew

// A group's matrix has taps * M / group columns. Where taps lie side by side in the result and panels fit what those of
// a line make, lines are products by themselves.
Layout weights_layout(const Problem& problem, const ContractTable& table) {
  const Stage& stage = problem.stages[0];
  const auto& attrs = stage.attrs.as<ConvTransposeAttrs>();
  const Shape& w = *problem.types[stage.inputs[1]].shape;
  int64_t n = 1, line = 0;
  for (size_t k = 1; k < w.size(); ++k) {
    const int64_t extent = w[k].as_constant().value_or(0);
    if (extent <= 0 || __builtin_mul_overflow(n, extent, &n)) n = 1 << 16;  // any width will do
    if (k + 1 == w.size() && extent == window_step(attrs.strides, k - 2))
      line = extent * w[1].as_constant().value_or(0);
  }
  const bool by_line = attrs.group == 1 && line > 0 && line % table.panel_width(line) == 0;
  return Layout::transposed_conv_panels(table.panel_width(by_line ? line : n), table.lanes,
                                        static_cast<int32_t>(attrs.group), table.numbers);
}

Answer supports(const Kernel& kernel, const Problem& problem, const DeviceSpec& device) {
  if (Answer a = transposed_supported(kernel, problem, device); !a) return a;
  const Layout& w = problem.operands[problem.stages[0].inputs[1]].layout;
  if (w.kind != Layout::Kind::any && w != weights_layout(problem, *table_of(kernel, device)))
    return Answer::no("the weights have another layout");
  return Answer::yes();
}

Needs needs(const Kernel& kernel, const Problem& problem, const Config&, const DeviceSpec& device) {
  const size_t rank = problem.types[problem.stages[0].inputs[0]].shape->size();
  return filtered_needs(problem, image_view(rank), weights_layout(problem, *table_of(kernel, device)));
}

double cost(const Kernel& kernel, const Problem& problem, std::span<const int64_t> symbols, const DeviceSpec& device) {
  const Stage& stage = problem.stages[0];
  const Type& x = problem.types[stage.inputs[0]];
  const double channels = static_cast<double>(std::max<int64_t>(1, (*x.shape)[1].evaluate(symbols)));
  const double in = elements_at(x, symbols), w = elements_at(problem.types[stage.inputs[1]], symbols);
  const double out = elements_at(problem.types[problem.first_result[0]], symbols);
  const ContractTable& table = *table_of(kernel, device);
  // Where taps do not overlap, products are results; else they are stored and collected, a pixel's tap at a time.
  const auto groups = static_cast<double>(stage.attrs.as<ConvTransposeAttrs>().group);
  const double products = groups * in / channels * (w / channels), bytes = 4 * (in + w + out);
  const double columns =
      static_cast<double>(std::max<int64_t>(1, (*problem.types[stage.inputs[1]].shape)[1].evaluate(symbols)));
  const double collecting = products <= out ? 0 : products * (0.4 + 5 / columns);
  if (planes_of(table) == 0) {
    const double padded = std::max(1.0, table.lanes / (w / channels));  // columns that fill no vector
    return collecting + contraction_cost(table, in / channels, w / channels * padded, channels, bytes);
  }
  // Each group is padded by itself.
  return collecting + groups * contraction_cost(table, in / channels, w / channels, channels / groups, bytes / groups);
}

// The tap with which a position that may reach a result does; -1: none.
int64_t tap_of(const Axis& axis, int64_t o, int64_t i) {
  const int64_t r = o + axis.pad - i * axis.stride;
  if (axis.dilation == 1) return r;
  return r % axis.dilation == 0 ? r / axis.dilation : -1;
}

struct Prepared {
  const ContractTable* table;
  const SpatialTable* convert;  // to bf16 and from it
  OutputView view;
  Epilogue epilogue;
};

std::shared_ptr<const void> prepare(const Kernel& kernel, const Problem& problem, const Config&,
                                    const DeviceSpec& device) {
  const Stage& stage = problem.stages[0];
  auto out = std::make_shared<Prepared>();
  out->table = table_of(kernel, device);
  out->convert = &spatial_table(device.level);
  out->view = image_view(problem.types[stage.inputs[0]].shape->size());
  const int bias = has(stage, 2) ? stage.inputs[2] : -1;
  out->epilogue = make_epilogue(problem, out->view, bias, device.level, {.store_narrow = true});
  return out;
}

struct Plan {
  const Prepared* prepared;
  const ContractTable* table;
  bool narrow_in = false, widens = false;  // bf16, and not for the loops to read
  bool direct = false;                     // taps do not overlap, and loops finish the result
  bool by_line = false;                    // as products of lines
  bool by_image = false;                   // the epilogue wants a call per image
  BoundEpilogue epilogue;
  int64_t products = 0;         // of a pixel
  int64_t run = 0;              // direct: products that lie as one in the result
  std::vector<int64_t> run_at;  // where those of a pixel begin
  Axis axes[3];                 // those that there are come first; the others have extent 1
  int64_t images = 0, groups = 1, depth = 0, columns = 0, taps = 1;  // depth, columns: channels of a group
  ContractArgs args;
  int64_t matrix_size = 0;  // floats of a group's weights
  int64_t strip = 1, strips = 0;
  // Bytes into the scratch: products, the operand's rows as floats, a line of the result, of the epilogue.
  int64_t product_offset = 0, wide_offset = 0, line_offset = 0, tile_offset = 0;
};

// Whether every pixel of the result has one tap.
bool one_tap(const Plan& plan) {
  return std::all_of(std::begin(plan.axes), std::end(plan.axes), [](const Axis& a) {
    return a.kernel == a.stride && a.dilation == 1 && a.pad == 0 && a.out == a.in * a.stride;
  });
}

// A line of the result runs along the last axis that is one.
bool is_flat(const Plan& plan) { return plan.axes[2].out == 1 && plan.axes[2].kernel == 1; }

// Pixels of the operand along it.
int64_t line_width(const Plan& plan) { return is_flat(plan) ? plan.axes[1].in : plan.axes[2].in; }

// Taps along a line lie as one in the result when all channels do.
void plan_runs(Plan& plan) {
  const Axis &a1 = plan.axes[1], &a2 = plan.axes[2];
  const int64_t channels = plan.groups * plan.columns;
  const int64_t together = plan.groups > 1 ? 1 : is_flat(plan) ? a1.kernel : a2.kernel;
  plan.run = together * plan.columns;
  for (int64_t tap = 0; tap < plan.taps; tap += together) {
    const int64_t k2 = tap % a2.kernel, k1 = tap / a2.kernel % a1.kernel, k0 = tap / a2.kernel / a1.kernel;
    plan.run_at.push_back(((k0 * a1.out + k1) * a2.out + k2) * channels);
  }
}

struct Reach {
  int64_t first, last;
};
Reach reach_of(const Axis& axis, int64_t begin, int64_t end) {
  Reach r;
  axis.reach(begin, end, r.first, r.last);
  return r;
}

void scatter(void* user, int64_t m, int64_t rows, int64_t n, int64_t cols, float* block, int64_t stride);

void bind(const Kernel&, const void* prepared_pointer, const BindContext& c, Bound& bound) {
  const auto& prepared = *static_cast<const Prepared*>(prepared_pointer);
  const Stage& stage = c.problem.stages[0];
  const ConvTransposeAttrs& attrs = stage.attrs.as<ConvTransposeAttrs>();
  const Dims& x = c.operands[stage.inputs[0]];
  const Dims& w = c.operands[stage.inputs[1]];
  const Dims& y = c.results[0];
  Plan& plan = emplace<Plan>(bound);
  plan.prepared = &prepared;
  plan.table = prepared.table;
  plan.narrow_in = c.problem.types[stage.inputs[0]].dtype == DType::bf16;
  plan.widens = plan.narrow_in && !takes_bf16(*plan.table);
  plan.images = x[0];
  plan.groups = attrs.group;
  plan.columns = w[1];
  plan.taps = transposed_axes(c, plan.axes);
  plan.depth = x[1] / plan.groups;
  ContractArgs& args = plan.args;
  args.k = plan.depth;
  plan.products = args.n = checked_mul(plan.taps, plan.columns, "columns");
  args.lda = x[1];
  args.nr = c.problem.operands[stage.inputs[1]].layout.width;
  bound.chunks[0] = 0;
  if (product(y) == 0) return;
  plan.direct = !prepared.epilogue.executor && one_tap(plan);
  if (plan.direct) plan_runs(plan);
  plan.by_line = plan.direct && plan.groups == 1 && plan.run % args.nr == 0 && line_width(plan) >= 32 &&
                 (!prepared.epilogue.narrow || takes_bf16(*plan.table));
  args.ldc = plan.by_line ? plan.run : plan.products;
  plan.matrix_size = plan.table->packed_size(1, args.k, args.n, args.nr, 1);
  if (plan.direct) {
    args.low = prepared.epilogue.low;
    args.high = prepared.epilogue.high;
    args.epilogue = plan.by_line ? nullptr : scatter;
    if (prepared.epilogue.bias >= 0) {
      // In a phase of its own: the bias by product.
      bound.phases = 2;
      bound.chunks[0] = 1;
      bound.workspace = byte_size(DType::f32, checked_mul(plan.groups, plan.products, "bias"));
    }
  }
  plan.by_image = !prepared.epilogue.whole_batch;
  plan.epilogue = bind_epilogue(prepared.epilogue, prepared.view, c, plan.by_image, plan.columns, plan.columns);

  const Axis& first = plan.axes[0];
  const int64_t line = checked_mul(plan.axes[1].in, plan.axes[2].in, "pixels");
  const int64_t line_bytes = std::max<int64_t>(1, byte_size(DType::f32, checked_mul(line, plan.products, "products")));
  // Rows of the operand per strip: enough that those shared with the next one weigh little.
  const int64_t shared = (first.kernel - 1) * first.dilation / first.stride;
  const int64_t rows_in = std::max(std::clamp<int64_t>(strip_bytes / line_bytes, 1, 1 << 20), 2 * shared);
  plan.strip = std::min(first.out, checked_mul(rows_in, first.stride, "strip"));
  if (c.threads > 1) {
    const int64_t others = std::max<int64_t>(1, plan.images * plan.groups);
    const int64_t wanted = (4 * c.threads + others - 1) / others;
    plan.strip = std::min(
        plan.strip, std::max<int64_t>(std::max<int64_t>(first.stride, shared), (first.out + wanted - 1) / wanted));
  }
  if (plan.direct) plan.strip = (plan.strip + first.stride - 1) / first.stride * first.stride;
  plan.strips = (first.out + plan.strip - 1) / plan.strip;
  bound.chunks[bound.phases - 1] = checked_mul(checked_mul(plan.images, plan.groups, "strips"), plan.strips, "strips");
  int64_t scratch = 0, pixels = 0;
  for (int64_t s = 0; s < plan.strips; ++s) {
    const Reach reach = reach_of(first, s * plan.strip, std::min(first.out, (s + 1) * plan.strip));
    const int64_t here = checked_mul(reach.last - reach.first, line, "pixels");
    if (here <= 0) continue;
    pixels = std::max(pixels, here);
    args.m = plan.by_line ? line_width(plan) : here;
    scratch = std::max(scratch, plan.table->scratch_size(args, args.m, plan.by_line ? plan.run : args.n));
  }
  bound.scratch = scratch;
  const auto reserve = [&](int64_t count, int64_t numbers) {
    const int64_t at = align_up(bound.scratch, 64, "scratch");
    bound.scratch = checked_add(at, byte_size(DType::f32, checked_mul(count, numbers, "scratch")), "scratch");
    return at;
  };
  if (!plan.direct) plan.product_offset = reserve(pixels, args.n);
  if (plan.widens) plan.wide_offset = reserve(pixels, args.lda);
  if (!plan.direct) plan.line_offset = reserve(checked_mul(plan.axes[1].out, plan.axes[2].out, "line"), plan.columns);
  plan.tile_offset = align_up(bound.scratch, 64, "scratch");
  bound.scratch = checked_add(plan.tile_offset, plan.epilogue.scratch, "scratch");
}

typedef float Four __attribute__((vector_size(16), aligned(4), may_alias));

// to = start (null: 0) and all of `from`, in order.
void sum_up(float* to, const float* start, const float* const* from, int count, int64_t n) {
  const auto four = [](const float* p) { return *reinterpret_cast<const Four*>(p); };
  int64_t i = 0;
  for (; i + 8 <= n; i += 8) {
    Four low = start ? four(start + i) : Four{}, high = start ? four(start + i + 4) : Four{};
    for (int t = 0; t < count; ++t) {
      low += four(from[t] + i);
      high += four(from[t] + i + 4);
    }
    *reinterpret_cast<Four*>(to + i) = low;
    *reinterpret_cast<Four*>(to + i + 4) = high;
  }
  for (; i < n; ++i) {
    float sum = start ? start[i] : 0.0f;
    for (int t = 0; t < count; ++t) sum += from[t][i];
    to[i] = sum;
  }
}

void add_numbers(float* to, const float* a, const float* b, int64_t n) {
  int64_t i = 0;
  for (; i + 4 <= n; i += 4)
    *reinterpret_cast<Four*>(to + i) = *reinterpret_cast<const Four*>(a + i) + *reinterpret_cast<const Four*>(b + i);
  for (; i < n; ++i) to[i] = a[i] + b[i];
}

constexpr int64_t most_together = 256;  // numbers on the stack
constexpr int most_taps = 16;           // that are summed up in registers

// The same as collect where one_tap holds: what a pixel of the operand gives a line lies as one.
void spread(const Plan& plan, const float* products, int64_t first, int64_t o0, float* out, int64_t channels,
            const float* bias) {
  const int64_t line = plan.axes[1].in * plan.axes[2].in;
  const Axis &a0 = plan.axes[0], &a1 = plan.axes[1], &a2 = plan.axes[2];
  const bool flat = is_flat(plan);
  const int64_t lines = flat ? 1 : a1.out, in = flat ? a1.in : a2.in, kernel = flat ? a1.kernel : a2.kernel;
  const int64_t columns = plan.columns, row = plan.args.n, whole = kernel * columns;
  const bool together = channels == columns && whole <= most_together;
  float added[most_together];
  for (int64_t k = 0; together && k < whole; ++k) added[k] = bias ? bias[k % columns] : 0.0f;
  for (int64_t o1 = 0; o1 < lines; ++o1) {
    const int64_t tap = (o0 % a0.stride * a1.kernel + (flat ? 0 : o1 % a1.stride)) * a2.kernel;
    const float* from =
        products + ((o0 / a0.stride - first) * line + (flat ? 0 : o1 / a1.stride * a2.in)) * row + tap * columns;
    if (together) {
      // One group: neighbours there as well.
      for (int64_t i = 0; i < in; ++i, from += row, out += whole) add_numbers(out, from, added, whole);
      continue;
    }
    for (int64_t i = 0; i < in; ++i, from += row) {
      const float* at = from;
      for (int64_t k = 0; k < kernel; ++k, at += columns, out += channels) {
        if (bias)
          add_numbers(out, at, bias, columns);
        else
          std::memcpy(out, at, static_cast<size_t>(columns) * 4);
      }
    }
  }
}

// Pixels of the result's row o0, `channels` numbers apart; products start at the operand's row `first`.
void collect(const Plan& plan, const float* products, int64_t first, int64_t o0, float* out, int64_t channels,
             const float* bias) {
  const int64_t line = plan.axes[1].in * plan.axes[2].in;
  const Axis &a0 = plan.axes[0], &a1 = plan.axes[1], &a2 = plan.axes[2];
  int64_t first0, last0, first1, last1, first2, last2;
  a0.reach(o0, o0 + 1, first0, last0);
  for (int64_t o1 = 0; o1 < a1.out; ++o1) {
    a1.reach(o1, o1 + 1, first1, last1);
    for (int64_t o2 = 0; o2 < a2.out; ++o2, out += channels) {
      a2.reach(o2, o2 + 1, first2, last2);
      const float* from[most_taps];
      const float* start = bias;
      int count = 0;
      for (int64_t i0 = first0; i0 < last0; ++i0) {
        const int64_t k0 = tap_of(a0, o0, i0);
        for (int64_t i1 = k0 < 0 ? last1 : first1; i1 < last1; ++i1) {
          const int64_t k1 = tap_of(a1, o1, i1);
          for (int64_t i2 = k1 < 0 ? last2 : first2; i2 < last2; ++i2) {
            const int64_t k2 = tap_of(a2, o2, i2);
            if (k2 < 0) continue;
            const int64_t tap = (k0 * a1.kernel + k1) * a2.kernel + k2;
            const int64_t pixel = (i0 - first) * line + i1 * a2.in + i2;
            from[count++] = products + pixel * plan.args.n + tap * plan.columns;
            if (count < most_taps) continue;
            sum_up(out, start, from, count, plan.columns);
            start = out;
            count = 0;
          }
        }
      }
      if (count > 0 || start != out) sum_up(out, start, from, count, plan.columns);
    }
  }
}

// What a line of the operand gives a line of the result lies as a product does. out: of the image.
void multiply_lines(const Plan& plan, ContractArgs args, int64_t first, int64_t last, std::byte* out, void* scratch) {
  const Axis &a0 = plan.axes[0], &a1 = plan.axes[1], &a2 = plan.axes[2];
  const int64_t lines = is_flat(plan) ? 1 : a1.in;
  args.m = line_width(plan);
  for (int64_t i = first * lines; i < last * lines; ++i) {
    const int64_t base = (i / lines * a0.stride * a1.out + i % lines * a1.stride) * a2.out * plan.columns;
    for (int64_t n = 0; n < args.n; n += plan.run) {
      const int64_t at = base + plan.run_at[static_cast<size_t>(n / plan.run)] - n;  // of column 0
      if (plan.prepared->epilogue.narrow)
        args.narrow_c = reinterpret_cast<uint16_t*>(out) + at;
      else
        args.c = reinterpret_cast<float*>(out) + at;
      plan.table->chunk(args, 0, args.m, n, n + plan.run, scratch);
    }
    if (args.narrow_a)
      args.narrow_a += args.m * args.lda;
    else
      args.a += args.m * args.lda;
  }
}

// Where blocks of products go.
struct Target {
  const Plan& plan;
  std::byte* out;  // of the strip's group, at the result of the operand's first pixel
};

void scatter(void* user, int64_t m, int64_t rows, int64_t n, int64_t cols, float* block, int64_t stride) {
  const Target& target = *static_cast<const Target*>(user);
  const Plan& plan = target.plan;
  const Axis &a0 = plan.axes[0], &a1 = plan.axes[1], &a2 = plan.axes[2];
  const int64_t channels = plan.groups * plan.columns;
  const bool flat = is_flat(plan);
  const int64_t width = flat ? a1.in : a2.in, step = (flat ? a1.stride : a2.stride) * channels;
  while (rows > 0) {
    // What is left of a line of the operand.
    const int64_t along = m % width, across = m / width, pixels = std::min(rows, width - along);
    const int64_t i1 = flat ? 0 : across % a1.in, i0 = flat ? across : across / a1.in;
    const int64_t base = (i0 * a0.stride * a1.out + i1 * a1.stride) * a2.out * channels + along * step;
    for (int64_t at = n; at < n + cols;) {
      const int64_t r = at / plan.run, inside = at % plan.run, count = std::min(plan.run - inside, n + cols - at);
      const int64_t place = base + plan.run_at[static_cast<size_t>(r)] + inside;
      if (plan.prepared->epilogue.narrow)
        narrow_runs(*plan.prepared->convert, block + (at - n), stride, pixels, count,
                    reinterpret_cast<uint16_t*>(target.out) + place, step);
      else
        copy_runs(block + (at - n), stride, pixels, count, reinterpret_cast<float*>(target.out) + place, step);
      at += count;
    }
    m += pixels;
    rows -= pixels;
    block += pixels * stride;
  }
}

// A line of one group, bias added, as the problem's result.
void finish_line(const Plan& plan, EpilogueRun& epilogue, int64_t pixel, int64_t pixels, int64_t group, float* line,
                 int64_t stride, std::byte* out) {
  const Epilogue& finish = plan.prepared->epilogue;
  finish_block(line, pixels, plan.columns, stride, nullptr, finish.low, finish.high);
  if (finish.executor) {
    EpilogueRun::block(&epilogue, pixel, pixels, group * plan.columns, plan.columns, line, stride);
  } else if (plan.prepared->epilogue.narrow) {
    auto* to = reinterpret_cast<uint16_t*>(out);
    plan.prepared->convert->narrow(line, stride, pixels, plan.columns, to, plan.groups * plan.columns);
  }
}

// What is in the scratch: products of operand rows [first, ...), for result rows [begin, end).
void finish_strip(const Plan& plan, const Launch& launch, int64_t image, int64_t group, int64_t first, int64_t begin,
                  int64_t end, const float* bias, std::byte* out) {
  const auto* products = reinterpret_cast<const float*>(launch.scratch + plan.product_offset);
  const int64_t channels = plan.groups * plan.columns, pixels = plan.axes[1].out * plan.axes[2].out;
  const bool in_place = !plan.prepared->epilogue.executor && !plan.prepared->epilogue.narrow;
  EpilogueRun epilogue(plan.epilogue, launch, launch.scratch + plan.tile_offset);
  if (plan.by_image) epilogue.at(std::span(&image, 1), 0);
  const bool single = one_tap(plan);
  for (int64_t o = begin; o < end; ++o) {
    const int64_t pixel = ((plan.by_image ? 0 : image) * plan.axes[0].out + o) * pixels;
    std::byte* to = out + (image * plan.axes[0].out + o) * pixels * channels * (plan.prepared->epilogue.narrow ? 2 : 4);
    float* line = in_place ? reinterpret_cast<float*>(to) : reinterpret_cast<float*>(launch.scratch + plan.line_offset);
    const int64_t stride = in_place ? channels : plan.columns;
    (single ? spread : collect)(plan, products, first, o, line, stride, bias);
    finish_line(plan, epilogue, pixel, pixels, group, line, stride, to);
  }
}

Status run(const Launch& launch) {
  const Plan& plan = launch.bound->as<Plan>();
  const Stage& stage = launch.problem->stages[0];
  const int bias_operand = plan.prepared->epilogue.bias;
  const auto* bias = bias_operand >= 0 ? static_cast<const float*>(launch.operands[bias_operand]) : nullptr;
  auto* bias_by_product = reinterpret_cast<float*>(launch.workspace);
  if (launch.phase + 1 < launch.bound->phases) {
    for (int64_t group = 0; group < plan.groups; ++group)
      for (int64_t n = 0; n < plan.products; ++n) *bias_by_product++ = bias[group * plan.columns + n % plan.columns];
    return {};
  }
  const Axis* axes = plan.axes;
  const int64_t strip = launch.chunk % plan.strips, rest = launch.chunk / plan.strips;
  const int64_t group = rest % plan.groups, image = rest / plan.groups;
  const int64_t begin = strip * plan.strip, end = std::min(axes[0].out, begin + plan.strip);
  const Reach reach = reach_of(axes[0], begin, end);
  const int64_t line = axes[1].in * axes[2].in, channels = plan.groups * plan.columns;
  auto* out = static_cast<std::byte*>(launch.operands[launch.problem->operands.size()]) +
              group * plan.columns * (plan.prepared->epilogue.narrow ? 2 : 4);
  Target target{plan, nullptr};
  ContractArgs args = plan.args;
  args.m = (reach.last - reach.first) * line;
  if (args.m > 0) {
    const void* x = launch.operands[stage.inputs[0]];
    const int64_t at = (image * axes[0].in + reach.first) * line * args.lda;
    if (plan.narrow_in && !plan.widens) {
      args.narrow_a = x ? static_cast<const uint16_t*>(x) + at + group * plan.depth : nullptr;
    } else if (plan.narrow_in) {
      auto* wide = reinterpret_cast<float*>(launch.scratch + plan.wide_offset);
      plan.prepared->convert->widen(static_cast<const uint16_t*>(x) + at, args.m * args.lda, wide);
      args.a = wide + group * plan.depth;
    } else {
      args.a = x ? static_cast<const float*>(x) + at + group * plan.depth : nullptr;
    }
    args.b = static_cast<const float*>(launch.operands[stage.inputs[1]]) + group * plan.matrix_size;
    if (bias && plan.direct) args.bias = bias_by_product + group * plan.products;
    if (plan.by_line) {
      const int64_t image_numbers = axes[0].out * axes[1].out * axes[2].out * channels;
      multiply_lines(plan, args, reach.first, reach.last,
                     out + image * image_numbers * (plan.prepared->epilogue.narrow ? 2 : 4), launch.scratch);
      return {};
    }
    if (plan.direct) {
      const int64_t row = axes[1].out * axes[2].out * channels;
      target.out =
          out + (image * axes[0].out + reach.first * axes[0].stride) * row * (plan.prepared->epilogue.narrow ? 2 : 4);
      args.user = &target;
    } else {
      args.c = reinterpret_cast<float*>(launch.scratch + plan.product_offset);
    }
    plan.table->chunk(args, 0, args.m, 0, args.n, launch.scratch);
  }
  if (!plan.direct)
    finish_strip(plan, launch, image, group, reach.first, begin, end, bias ? bias + group * plan.columns : nullptr,
                 out);
  return {};
}

constexpr Kernel family = {
    .name = "", .supports = supports, .needs = needs, .cost = cost, .prepare = prepare, .bind = bind, .run = run};

}  // namespace

const Kernel conv_transpose_rows[4] = {row_with(family, "conv_transpose_f32", &row_of<PanelNumbers::plain>),
                                       row_with(family, "conv_transpose_bf16", &row_of<PanelNumbers::planes1>),
                                       row_with(family, "conv_transpose_bf16x3", &row_of<PanelNumbers::planes2>),
                                       row_with(family, "conv_transpose_bf16x6", &row_of<PanelNumbers::planes3>)};

}  // namespace sinter::cpu
