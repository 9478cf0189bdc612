// Conv of f32 with one to three spatial axes, channels last: any groups, strides, dilations and padding. Weights are
// panels when constant and are packed in the first phase when computed. A few channels that lie first (pictures) are
// turned around in the first phase.

#include "backend/cpu/kernels/convolution.h"

#include <fmt/core.h>

#include <cmath>

#include "backend/cpu/kernels/common.h"
#include "backend/cpu/kernels/contraction.h"
#include "base/checked.h"
#include "ops/contraction.h"

namespace sinter::cpu {

std::shared_ptr<const void> prepare_spatial_table(const Kernel&, const Problem&, const Config&,
                                                  const DeviceSpec& device) {
  return std::make_shared<const SpatialTable*>(&spatial_table(device.level));
}

Needs filtered_needs(const Problem& problem, const OutputView& view, const Layout& weights) {
  const Stage& stage = problem.stages[0];
  const Layout last = Layout::channels_last(problem.types[stage.inputs[0]].shape->size());
  Needs out;
  for (size_t i = 0; i < problem.operands.size(); ++i) {
    Layout layout = problem.operands[i].layout;
    if (layout.kind == Layout::Kind::any)
      layout = i == stage.inputs[0]      ? last
               : i == stage.inputs[1]    ? weights
               : in_epilogue(problem, i) ? epilogue_layout(problem, view, i)
                                         : Layout();
    out.operands.push_back(std::move(layout));
  }
  for (const Problem::Result& result : problem.results) out.results.push_back(settled(result.layout, last));
  return out;
}

Layout taps_first(size_t rank) {
  std::vector<uint8_t> order;
  for (size_t k = 2; k < rank; ++k) order.push_back(static_cast<uint8_t>(k));
  order.push_back(1);
  order.push_back(0);
  return Layout::ordered(std::move(order));
}

Answer window_known(size_t spatial, const WindowRef& window) {
  constexpr int64_t high = int64_t{1} << 31;
  const auto in_range = [&](std::span<const int64_t> values, size_t count, int64_t low) {
    if (!values.empty() && values.size() != count) return false;
    return std::all_of(values.begin(), values.end(), [&](int64_t v) { return v >= low && v <= high; });
  };
  if (spatial < 1 || spatial > 3) return Answer::no("only one to three spatial axes");
  if (!in_range(window.strides, spatial, 1) || !in_range(window.dilations, spatial, 1) ||
      !in_range(window.pads, 2 * spatial, 0) || !in_range(window.kernel, spatial, 1))
    return Answer::no("window attributes out of range");
  return Answer::yes();
}

Window make_window(const Dims& in, const Dims& out, std::span<const int64_t> kernel, const WindowRef& ref) {
  const size_t spatial = in.size() - 2;
  WindowRef with_kernel = ref;
  with_kernel.kernel = kernel;
  const Pads pads = resolve_pads(std::span(in).subspan(2), with_kernel);
  Window w;
  for (size_t k = 0; k < spatial; ++k) {
    const size_t at = 3 - spatial + k;
    w.in[at] = in[2 + k];
    w.out[at] = out[2 + k];
    w.kernel[at] = kernel[k];
    w.stride[at] = out[2 + k] <= 1 ? 1 : window_step(ref.strides, k);
    w.dilation[at] = kernel[k] <= 1 ? 1 : window_step(ref.dilations, k);
    w.pad[at] = pads.before[k];
    w.pad_end[at] = pads.after[k];
    // The far end of the last window must be a number.
    checked_add(checked_mul(w.out[at], w.stride[at], "window"), checked_mul(w.kernel[at], w.dilation[at], "window"),
                "window");
  }
  return w;
}

namespace {

constexpr int64_t few_channels = 4;

struct View {
  uint16_t x, w;
  int bias = -1;
  size_t rank;
  int64_t groups;
  OutputView output;
};

View view_of(const Problem& problem) {
  const Stage& stage = problem.stages[0];
  View v{};
  v.x = stage.inputs[0];
  v.w = stage.inputs[1];
  v.bias = stage.inputs.size() > 2 && stage.inputs[2] != absent_operand ? stage.inputs[2] : -1;
  v.rank = problem.types[v.x].shape->size();
  v.groups = stage.attrs.as<ConvAttrs>().group;
  v.output.batch = {0};
  for (size_t k = 2; k < v.rank; ++k) v.output.rows.push_back(k);
  v.output.col = 1;
  v.output.pitched = true;
  return v;
}

bool takes_channels_first(const Problem& problem, const View& view) {
  const Dim& channels = (*problem.types[view.x].shape)[1];
  return view.groups == 1 && problem.types[view.x].dtype == DType::f32 && channels.is_constant() &&
         channels.constant() >= 1 && channels.constant() <= few_channels && !in_epilogue(problem, view.x);
}

// Extents of the weights' columns per group, where they are known.
std::optional<int64_t> columns(const Problem& problem, const View& view) {
  const Dim& m = (*problem.types[view.w].shape)[0];
  if (!m.is_constant() || m.constant() % view.groups != 0) return std::nullopt;
  return m.constant() / view.groups;
}

// Taps along a window row that planes of bf16 take as one, so that few channels do not leave steps of K empty.
int64_t taps_in_a_row(const Problem& problem, const View& view) {
  const Shape& w = *problem.types[view.w].shape;
  const ConvAttrs& attrs = problem.stages[0].attrs.as<ConvAttrs>();
  if (view.groups != 1 || !w[1].is_constant() || !w.back().is_constant()) return 1;
  if (window_step(attrs.dilations, view.rank - 3) != 1) return 1;
  const int64_t channels = w[1].constant(), row = w.back().constant();
  if (channels < 1 || channels > 64 || row < 2 || row > 4096) return 1;
  const auto steps = [](int64_t n) { return (n + 31) / 32; };
  return steps(channels * row) < steps(channels) * row ? row : 1;
}

// Images as planes are as much larger than the result as windows reach over.
Answer reach_known(const Problem& problem, const View& view) {
  constexpr int64_t most = 1 << 16;
  const Shape& w = *problem.types[view.w].shape;
  const ConvAttrs& attrs = problem.stages[0].attrs.as<ConvAttrs>();
  int64_t positions = 1;
  for (size_t k = 2; k < w.size(); ++k) {
    if (!w[k].is_constant()) return Answer::no("the extents of the window are known only at run time");
    const int64_t taps = w[k].constant(), step = window_step(attrs.dilations, k - 2);
    if (taps > most || step > most) return Answer::no("windows reach too far");
    positions *= std::max<int64_t>(0, taps - 1) * step + 1;
    if (positions > most) return Answer::no("windows reach too far");
  }
  return Answer::yes();
}

// Whether the weights are panels, or become so while building.
bool will_be_panels(const Problem& problem, const View& view) {
  const Operand& w = problem.operands[view.w];
  if (w.layout.kind != Layout::Kind::any) return w.layout.kind == Layout::Kind::conv_panels;
  return w.constant && columns(problem, view) && !in_epilogue(problem, view.w);
}

Layout weights_layout(const Problem& problem, const View& view, const ContractTable& table, int64_t columns) {
  return conv_layout(table, columns, view.groups, taps_in_a_row(problem, view));
}

Answer supports(const Kernel& kernel, const Problem& problem, const DeviceSpec& device) {
  if (problem.stages.empty() || !is_op(problem.stages[0], "Conv")) return Answer::no("not a Conv");
  if (Answer a = plain_problem(problem); !a) return a;
  const Stage& stage = problem.stages[0];
  if (Answer a = accurate_enough(kernel, device, stage.attrs.as<ConvAttrs>().numerics); !a) return a;
  if (Answer a = convolution_operands(problem, stage, takes_bf16(*table_of(kernel, device))); !a) return a;
  const View view = view_of(problem);
  if (Answer a = window_known(view.rank - 2, window_ref(stage.attrs.as<ConvAttrs>())); !a) return a;
  if (view.groups < 1 || view.groups > INT32_MAX) return Answer::no("group out of range");
  if (planes_of(*table_of(kernel, device)) > 0)
    if (Answer a = reach_known(problem, view); !a) return a;
  if (view.x == view.w || view.bias == view.w || view.bias == view.x) return Answer::no("an operand stands twice");
  const Layout& x = problem.operands[view.x].layout;
  if (!pixels_or_any(x, view.rank) && !(x.is_row_major() && takes_channels_first(problem, view)))
    return Answer::no("the operand must have its channels last");
  const Layout& w = problem.operands[view.w].layout;
  if (!row_major_or_any(w)) {
    const auto n = columns(problem, view);
    if (!n || in_epilogue(problem, view.w) || w != weights_layout(problem, view, *table_of(kernel, device), *n))
      return Answer::no("the weights have a layout of another kernel");
  }
  if (rounds_weights(*table_of(kernel, device)) && !will_be_panels(problem, view))
    return Answer::no("the weights are not known while building");
  return epilogue_supported(problem, view.output);
}

Needs needs(const Kernel& kernel, const Problem& problem, const Config&, const DeviceSpec& device) {
  const View view = view_of(problem);
  const Layout last = Layout::channels_last(view.rank);
  Needs out;
  for (size_t i = 0; i < problem.operands.size(); ++i) {
    const Operand& operand = problem.operands[i];
    Layout layout = operand.layout;
    if (layout.kind == Layout::Kind::any) {
      if (i == view.x) {
        layout = last;
      } else if (i == view.w) {
        if (will_be_panels(problem, view))
          layout = weights_layout(problem, view, *table_of(kernel, device), *columns(problem, view));
        else
          layout = Layout();
      } else {
        layout = in_epilogue(problem, i) ? epilogue_layout(problem, view.output, i) : Layout();
      }
    }
    out.operands.push_back(std::move(layout));
  }
  for (const Problem::Result& result : problem.results) out.results.push_back(settled(result.layout, last));
  return out;
}

double cost(const Kernel& kernel, const Problem& problem, std::span<const int64_t> symbols, const DeviceSpec& device) {
  const View view = view_of(problem);
  const Type& y = problem.types[problem.first_result[0]];
  const double out = elements_at(y, symbols), w = elements_at(problem.types[view.w], symbols);
  const double m = static_cast<double>(std::max<int64_t>(1, (*y.shape)[1].evaluate(symbols)));
  const double groups = static_cast<double>(view.groups), columns = std::max(1.0, m / groups);
  const auto width = [&](uint16_t v) { return bit_size(problem.types[v].dtype) / 8.0; };
  const double bytes =
      width(problem.results[0].value) * out + 4 * w + width(view.x) * elements_at(problem.types[view.x], symbols);
  const double taps = static_cast<double>(taps_in_a_row(problem, view));
  const ContractTable& table = *table_of(kernel, device);
  const double channels =
      static_cast<double>(std::max<int64_t>(1, (*problem.types[view.w].shape)[1].evaluate(symbols)));
  const double rows = view.groups > 1 ? groups * out / m : 0;  // that groups gather, each its own
  if (planes_of(table) > 0) {
    // Each tap, or row of taps, is padded by itself.
    const double row = std::ceil(channels * taps / table.pace.depth) * table.pace.depth;
    // Lines whose pixels overlap are not padded, but their channels are turned around.
    const double numbers = elements_at(problem.types[view.x], symbols) / groups * (taps > 1 ? 1.7 : row / channels);
    return groups * contraction_cost(table, out / m, columns, row * (w / m / channels / taps), bytes / groups,
                                     std::max(numbers, 1.0)) +
           5 * rows;
  }
  // Groups narrower than a vector waste the rest of it, and less than 16 columns leave loops waiting for the operand;
  // windows of groups are gathered tap by tap.
  const double waste = std::max(1.0, (view.groups > 1 ? table.lanes : 16) / columns), window = w / m / channels;
  return contraction_cost(table, out / m, m * waste, w / m, bytes + 4 * w * (waste - 1)) +
         rows * (window > 1 ? 2 + 1.5 * window : 2);
}

std::shared_ptr<const void> prepare(const Kernel& kernel, const Problem& problem, const Config&,
                                    const DeviceSpec& device) {
  const View view = view_of(problem);
  auto out = std::make_shared<PreparedContraction>();
  out->table = table_of(kernel, device);
  out->view = view.output;
  out->chain = chain_of(problem.stages[0].attrs.as<ConvAttrs>().numerics);
  out->epilogue = make_epilogue(problem, view.output, view.bias, device.level, loops_can(*out->table));
  return out;
}

void bind(const Kernel&, const void* prepared_pointer, const BindContext& c, Bound& bound) {
  const auto& prepared = *static_cast<const PreparedContraction*>(prepared_pointer);
  const View view = view_of(c.problem);
  const Dims& x = c.operands[view.x];
  const Dims& w = c.operands[view.w];
  const Dims& y = c.results[0];
  const int64_t groups = view.groups;
  if (w[0] % groups != 0 || checked_mul(w[1], groups, "channels") != x[1] || y[0] != x[0] || y[1] != w[0] ||
      (view.bias >= 0 && c.operands[view.bias][0] != w[0]))
    throw Error(Code::invalid_argument, "the operands of a Conv do not fit together");
  Product p;
  p.a_operand = view.x;
  p.b_operand = view.w;
  p.narrow_a = c.problem.types[view.x].dtype == DType::bf16;
  p.window = make_window(x, y, std::span(w).subspan(2), window_ref(c.problem.stages[0].attrs.as<ConvAttrs>()));
  const Window& window = p.window;
  ContractArgs& args = p.args;
  const int64_t pixels_in = product(x, 2, x.size()), pixels_out = product(y, 2, y.size());
  args.k = w[1];
  args.n = w[0] / groups;
  args.taps = product(w, 2, w.size());
  args.lda = row_pitch(c.problem.operands[view.x].layout, x[1]);
  args.ldc = row_pitch(c.problem.results[0].layout, w[0]);
  args.image_stride = checked_mul(pixels_in, args.lda, "image");
  p.windowed = !takes_pixels_alone(window);
  if (args.k == 0 || args.taps == 0) {
    // Nothing to add up: the loops give the bias.
    p.windowed = false;
    args.k = 0;
    args.taps = 1;
    args.lda = 0;
  }
  const int64_t images = x[0];
  const bool by_image = !prepared.epilogue.whole_batch;
  args.m = by_image ? pixels_out : checked_mul(images, pixels_out, "pixels");
  p.batch_axes = by_image ? 1 : 0;
  if (by_image) {
    p.call_dims.push_back(images);
    p.a_strides.push_back(args.image_stride);
    p.c_strides.push_back(checked_mul(pixels_out, args.ldc, "image"));
    p.b_strides.push_back(0);
    p.column_strides.push_back(0);
  }
  p.call_dims.push_back(groups);
  p.a_strides.push_back(w[1]);
  p.c_strides.push_back(0);
  p.b_strides.push_back(1);
  p.column_strides.push_back(args.n);
  const Layout& weights = c.problem.operands[view.w].layout;
  p.b_packed = weights.kind == Layout::Kind::conv_panels;
  if (p.b_packed && args.taps % weights.run == 0) args.run = weights.run;
  if (!p.b_packed) {
    p.b_matrices = groups;
    p.b_matrix_dims = {groups};
    p.pack.tap_stride = 1;
    p.pack.k_stride = args.taps;
    p.pack.n_stride = checked_mul(args.k, args.taps, "weights");
    p.b_matrix_strides = {checked_mul(args.n, p.pack.n_stride, "weights")};
    p.pack.taps = args.taps;
    p.pack.k = args.k;
    p.pack.n = args.n;
  }
  if (c.problem.operands[view.x].layout.is_row_major() && args.k > 1) {
    p.turn_a = true;
    p.turn_images = images;
    p.turn_channels = x[1];
    p.turn_pixels = pixels_in;
  }
  bind_product(prepared, c, std::move(p), bound);
}

bool overwrites(const Kernel&, const Problem& problem, size_t operand) {
  return epilogue_overwrites(problem, view_of(problem).output, operand);
}

constexpr Kernel family = {.name = "",
                           .supports = supports,
                           .needs = needs,
                           .cost = cost,
                           .prepare = prepare,
                           .bind = bind,
                           .run = run_product,
                           .may_overwrite = overwrites};

}  // namespace

const Kernel conv_rows[7] = {row_with(family, "conv_f32", &row_of<PanelNumbers::plain>),
                             row_with(family, "conv_bf16", &row_of<PanelNumbers::planes1>),
                             row_with(family, "conv_bf16x3", &row_of<PanelNumbers::planes2>),
                             row_with(family, "conv_bf16x6", &row_of<PanelNumbers::planes3>),
                             row_with(family, "conv_f16", &row_of<PanelNumbers::f16_plane>),
                             row_with(family, "conv_wbf16", &row_of<PanelNumbers::bf16>),
                             row_with(family, "conv_wf16", &row_of<PanelNumbers::f16>)};

}  // namespace sinter::cpu
