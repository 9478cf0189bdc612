// ConvTranspose by phases, channels last, with its epilogue. Results whose places are alike modulo the strides meet the
// same taps: each such phase is a convolution without strides, with a part of the taps, whose pixels lie `stride`
// apart. The loops of convolutions make them from the operand as it lies; nothing is stored between. Chunks are strips
// of the result's first spatial axis, so that a strip's operand is in cache for all of its phases; bits do not depend
// on them. As in a convolution, infinite weights spoil what lies at the border.

#include <cmath>
#include <numeric>

#include "backend/cpu/kernels/common.h"
#include "backend/cpu/kernels/contraction.h"
#include "backend/cpu/kernels/convolution.h"
#include "backend/cpu/kernels/deconvolution.h"
#include "base/checked.h"

namespace sinter::cpu {
namespace {

constexpr int64_t strip_bytes = 512 << 10;  // of operand and result: what stays in the second-level cache
constexpr int64_t most_reach = 1 << 16;     // positions that a window reaches over

// Of an axis: taps that are alike modulo `period` meet the same results, and read `gap` positions apart.
struct Periods {
  int64_t period, gap;
};
Periods periods_of(int64_t stride, int64_t dilation) {
  const int64_t common = std::gcd(stride, dilation);
  return {stride / common, dilation / common};
}

// The taps that results meet whose place, with the padding, is `rest` modulo the stride.
struct Taps {
  int64_t count = 0;
  int64_t before = 0;  // taps of other results that panels hold before these
  int64_t shift = 0;   // of the first tap's position against place / stride
};
Taps taps_of(int64_t kernel, int64_t stride, int64_t dilation, int64_t rest) {
  const int64_t period = periods_of(stride, dilation).period;
  Taps taps;
  for (int64_t tap = 0; tap < std::min(period, kernel); ++tap) {
    const int64_t alike = (kernel - tap + period - 1) / period;
    if (tap * dilation % stride == rest) {
      taps.count = alike;
      taps.shift = tap * dilation / stride;
      return taps;
    }
    taps.before += alike;
  }
  return taps;
}

int64_t kernel_of(const Problem& problem, size_t axis) {
  return (*problem.types[problem.stages[0].inputs[1]].shape)[2 + axis].constant();
}
int64_t dilation_of(const Problem& problem, size_t axis) {
  const auto& attrs = problem.stages[0].attrs.as<ConvTransposeAttrs>();
  return kernel_of(problem, axis) <= 1 ? 1 : window_step(attrs.dilations, axis);
}

// Precondition: extents are known as supports() asks.
Layout weights_layout(const Problem& problem, const ContractTable& table) {
  const Stage& stage = problem.stages[0];
  const auto& attrs = stage.attrs.as<ConvTransposeAttrs>();
  const Shape& w = *problem.types[stage.inputs[1]].shape;
  std::vector<uint8_t> phases;
  for (size_t k = 0; k + 2 < w.size(); ++k)
    phases.push_back(static_cast<uint8_t>(periods_of(window_step(attrs.strides, k), dilation_of(problem, k)).period));
  return Layout::transposed_conv_panels(table.panel_width(w[1].constant()), table.lanes,
                                        static_cast<int32_t>(attrs.group), table.numbers, std::move(phases));
}

Answer supports(const Kernel& kernel, const Problem& problem, const DeviceSpec& device) {
  if (Answer a = transposed_supported(kernel, problem, device); !a) return a;
  const Stage& stage = problem.stages[0];
  const auto& attrs = stage.attrs.as<ConvTransposeAttrs>();
  const Operand& operand = problem.operands[stage.inputs[1]];
  const Shape& w = *operand.type.shape;
  if (!w[1].is_constant()) return Answer::no("the channels are known only at run time");
  int64_t phases = 1, positions = 1;
  for (size_t k = 0; k + 2 < w.size(); ++k) {
    if (!w[2 + k].is_constant()) return Answer::no("the extents of the window are known only at run time");
    const int64_t taps = w[2 + k].constant(), stride = window_step(attrs.strides, k);
    if (taps < 1) return Answer::no("the window is empty");
    if (taps > most_reach || window_step(attrs.dilations, k) > most_reach) return Answer::no("windows reach too far");
    positions *= (taps - 1) * dilation_of(problem, k) + 1;
    if (positions > most_reach) return Answer::no("windows reach too far");
    if (stride > Layout::most_phases) return Answer::no("too many phases");
    phases *= stride;
    if (phases > Layout::most_phases) return Answer::no("too many phases");
  }
  if (operand.layout.kind != Layout::Kind::any && operand.layout != weights_layout(problem, *table_of(kernel, device)))
    return Answer::no("the weights have another layout");
  return Answer::yes();
}

Needs needs(const Kernel& kernel, const Problem& problem, const Config&, const DeviceSpec& device) {
  const size_t rank = problem.types[problem.stages[0].inputs[0]].shape->size();
  return filtered_needs(problem, image_view(rank), weights_layout(problem, *table_of(kernel, device)));
}

double cost(const Kernel& kernel, const Problem& problem, std::span<const int64_t> symbols, const DeviceSpec& device) {
  const Stage& stage = problem.stages[0];
  const auto& attrs = stage.attrs.as<ConvTransposeAttrs>();
  const ContractTable& table = *table_of(kernel, device);
  const Type& x = problem.types[stage.inputs[0]];
  const Type& y = problem.types[problem.first_result[0]];
  const size_t axes = x.shape->size() - 2;
  const auto groups = static_cast<double>(attrs.group);
  const double channels = static_cast<double>(std::max<int64_t>(1, (*x.shape)[1].evaluate(symbols)));
  const double columns =
      static_cast<double>(std::max<int64_t>(1, (*problem.types[stage.inputs[1]].shape)[1].evaluate(symbols)));
  const double out = elements_at(y, symbols), in = elements_at(x, symbols);
  int64_t phases = 1;
  for (size_t k = 0; k < axes; ++k) phases *= window_step(attrs.strides, k);
  const double pixels = out / (columns * groups) / static_cast<double>(phases);
  // Columns are padded to whole vectors; one vector of 16 leaves loops waiting for the operand.
  const double padded = std::ceil(columns / table.lanes) * table.lanes;
  const double waiting = padded == 16 && table.lanes == 16 ? 1.5 : 1;
  double ns = 0;
  for (int64_t phase = 0; phase < phases; ++phase) {
    int64_t rest = phase, taps = 1;
    for (size_t k = 0; k < axes; ++k) {
      const int64_t stride = window_step(attrs.strides, k);
      taps *= taps_of(kernel_of(problem, k), stride, dilation_of(problem, k), rest % stride).count;
      rest /= stride;
    }
    const auto count = static_cast<double>(taps);
    const double depth = planes_of(table) > 0
                             ? std::ceil(channels / groups / table.pace.depth) * table.pace.depth * count
                             : channels / groups * count;
    const double bytes = 4 * (in / groups + depth * columns + out / groups / static_cast<double>(phases));
    // Blocks are stored in a second step.
    ns += groups * (waiting * contraction_cost(table, pixels, padded, depth, bytes, std::max(1.0, in / groups)) +
                    pixels * (6 + 0.05 * columns));
  }
  return ns;
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

// Along one axis: every stride-th result from `first` on. Its window begins `pad` positions before the operand.
struct AxisPhase {
  int64_t first, count, taps, pad;
};
struct Phase {
  AxisPhase along[3];
  int64_t first_tap, taps;  // in the panels
};

struct Plan {
  const Prepared* prepared;
  bool narrow_in = false, widens = false;  // bf16, and not for the loops to read
  bool by_image = false;                   // the epilogue wants a call per image
  BoundEpilogue epilogue;
  TransposedAxis axes[3];  // those that there are come last; the others have extent 1
  int lead = 0;            // the first that there is: strips are cut along it
  int64_t gaps[3] = {1, 1, 1};
  std::vector<Phase> phases;
  int64_t images = 0, groups = 1, columns = 0;  // columns: of a group
  ContractArgs args;
  int64_t matrix_size = 0;                   // floats of a group's weights
  int64_t strip = 1, strips = 0;             // results along the axis `lead`
  int64_t together = 1;                      // phases that are made by one chunk
  int64_t wide_offset = 0, tile_offset = 0;  // bytes into the scratch: the operand's rows as floats, the epilogue's
};

// A phase's part of a strip, as a convolution.
struct Piece {
  Window window;
  ContractArgs args;
  int64_t places[3];  // of its first result
};

Piece piece_of(const Plan& plan, const Phase& phase, int64_t begin, int64_t end) {
  Piece piece{{}, plan.args, {}};
  Window& w = piece.window;
  for (int k = 0; k < 3; ++k) {
    const AxisPhase& along = phase.along[k];
    w.in[k] = plan.axes[k].in;
    w.out[k] = along.count;
    w.kernel[k] = along.taps;
    w.dilation[k] = along.taps > 1 ? plan.gaps[k] : 1;
    w.pad[k] = along.pad;
    piece.places[k] = along.first;
    if (k != plan.lead) continue;
    const int64_t stride = plan.axes[k].stride;
    const auto until = [&](int64_t place) {
      return place <= along.first ? 0 : std::min(along.count, ceil_div(place - along.first, stride));
    };
    const int64_t skipped = until(begin);
    w.out[k] = until(end) - skipped;
    w.pad[k] -= skipped;
    piece.places[k] += skipped * stride;
    if (!plan.widens) continue;
    // There are no other lines.
    int64_t first, last;
    plan.axes[k].reach(begin, end, first, last);
    w.in[k] = last - first;
    w.pad[k] += first;
  }
  ContractArgs& args = piece.args;
  args.m = w.out[0] * w.out[1] * w.out[2];
  args.taps = phase.taps;
  args.b_first = phase.first_tap;
  if (phase.taps == 0 || args.k == 0) {
    // Nothing to add up: the loops give the bias.
    args.k = args.lda = args.b_first = args.b_taps = 0;
    args.taps = 1;
  }
  return piece;
}

// Where blocks of a piece go.
struct Target {
  const Plan& plan;
  const Piece& piece;
  EpilogueRun& epilogue;
  int64_t image, channel;  // the group's first channel
  void* out;
};

void store(void* user, int64_t m, int64_t rows, int64_t n, int64_t cols, float* block, int64_t stride) {
  const Target& target = *static_cast<const Target*>(user);
  const Plan& plan = target.plan;
  const Epilogue& finish = plan.prepared->epilogue;
  const TransposedAxis* axes = plan.axes;
  const Window& w = target.piece.window;
  const int64_t* places = target.piece.places;
  const int64_t channels = plan.groups * plan.columns, step = axes[2].stride;
  while (rows > 0) {
    // What is left of a line of the phase.
    const int64_t along = m % w.out[2], across = m / w.out[2], pixels = std::min(rows, w.out[2] - along);
    const int64_t d = places[0] + across / w.out[1] * axes[0].stride;
    const int64_t h = places[1] + across % w.out[1] * axes[1].stride;
    int64_t pixel = (d * axes[1].out + h) * axes[2].out + places[2] + along * step;
    if (finish.executor && plan.by_image) {
      EpilogueRun::block(&target.epilogue, pixel, pixels, target.channel + n, cols, block, stride);
    } else {
      pixel += target.image * axes[0].out * axes[1].out * axes[2].out;
      const int64_t at = pixel * channels + target.channel + n;
      if (finish.executor)
        EpilogueRun::block(&target.epilogue, pixel, pixels, target.channel + n, cols, block, stride);
      else if (finish.narrow)
        narrow_runs(*plan.prepared->convert, block, stride, pixels, cols, static_cast<uint16_t*>(target.out) + at,
                    step * channels);
      else
        copy_runs(block, stride, pixels, cols, static_cast<float*>(target.out) + at, step * channels);
    }
    m += pixels;
    rows -= pixels;
    block += pixels * stride;
  }
}

void bind(const Kernel&, const void* prepared_pointer, const BindContext& c, Bound& bound) {
  const auto& prepared = *static_cast<const Prepared*>(prepared_pointer);
  const Stage& stage = c.problem.stages[0];
  const Dims& x = c.operands[stage.inputs[0]];
  const Dims& w = c.operands[stage.inputs[1]];
  const Dims& y = c.results[0];
  const ContractTable& table = *prepared.table;
  Plan& plan = emplace<Plan>(bound);
  plan.prepared = &prepared;
  plan.narrow_in = c.problem.types[stage.inputs[0]].dtype == DType::bf16;
  plan.widens = plan.narrow_in && !takes_bf16(table);
  plan.images = x[0];
  plan.groups = stage.attrs.as<ConvTransposeAttrs>().group;
  plan.columns = w[1];
  plan.lead = 3 - static_cast<int>(x.size() - 2);
  const int64_t taps = transposed_axes(c, plan.axes + plan.lead);
  bound.chunks[0] = 0;
  if (product(y) == 0) return;
  ContractArgs& args = plan.args;
  args.k = x[1] / plan.groups;
  args.n = plan.columns;
  args.lda = x[1];
  args.nr = c.problem.operands[stage.inputs[1]].layout.width;
  args.b_taps = taps;
  args.low = prepared.epilogue.low;
  args.high = prepared.epilogue.high;
  args.image_stride = product(x, 1, x.size());
  args.epilogue = store;
  plan.matrix_size = table.packed_size(taps, args.k, args.n, args.nr, 1);
  plan.by_image = !prepared.epilogue.whole_batch;
  plan.epilogue = bind_epilogue(prepared.epilogue, prepared.view, c, plan.by_image, std::min<int64_t>(args.nr, args.n),
                                args.n % args.nr == 0 ? args.nr : args.n % args.nr);

  std::vector<AxisPhase> along[3];
  std::vector<Taps> taps_along[3];
  for (int k = 0; k < 3; ++k) {
    const TransposedAxis& axis = plan.axes[k];
    plan.gaps[k] = periods_of(axis.stride, axis.dilation).gap;
    for (int64_t first = 0; first < std::min(axis.stride, axis.out); ++first) {
      const int64_t place = first + axis.pad, rest = (place % axis.stride + axis.stride) % axis.stride;
      const Taps of = taps_of(axis.kernel, axis.stride, axis.dilation, rest);
      const int64_t last = (place - rest) / axis.stride - of.shift;  // where the first tap reads
      taps_along[k].push_back(of);
      along[k].push_back({first, ceil_div(axis.out - first, axis.stride), of.count,
                          std::max<int64_t>(0, of.count - 1) * plan.gaps[k] - last});
    }
  }
  const int64_t kernel1 = plan.axes[1].kernel, kernel2 = plan.axes[2].kernel;
  for (size_t i = 0; i < along[0].size(); ++i)
    for (size_t j = 0; j < along[1].size(); ++j)
      for (size_t k = 0; k < along[2].size(); ++k) {
        const Taps &a = taps_along[0][i], &b = taps_along[1][j], &d = taps_along[2][k];
        plan.phases.push_back({{along[0][i], along[1][j], along[2][k]},
                               a.before * kernel1 * kernel2 + a.count * (b.before * kernel2 + b.count * d.before),
                               a.count * b.count * d.count});
      }
  // The longest first, as threads take them.
  std::stable_sort(plan.phases.begin(), plan.phases.end(),
                   [](const Phase& a, const Phase& b) { return a.taps > b.taps; });

  // Strips: as many lines of each phase as stay in cache with what they make, and for each thread some.
  const TransposedAxis& lead = plan.axes[plan.lead];
  const int64_t in_line = product(x) == 0 ? 0 : product(x) / (x[0] * lead.in),
                out_line = product(y) / (y[0] * lead.out);
  const int64_t numbers = checked_add(in_line, checked_mul(out_line, lead.stride, "line"), "line");
  const int64_t bytes = byte_size(DType::f32, std::max<int64_t>(1, numbers));
  const int64_t shared = (lead.kernel - 1) * lead.dilation / lead.stride;  // lines that neighbours read as well
  int64_t lines = std::max<int64_t>({1, strip_bytes / bytes, 2 * shared});
  const int64_t all = ceil_div(lead.out, lead.stride), others = checked_mul(plan.images, plan.groups, "strips");
  plan.together = static_cast<int64_t>(plan.phases.size());
  if (c.threads > 1) {
    const int64_t wanted = ceil_div(int64_t{4} * c.threads, others);
    const int64_t least = std::max<int64_t>({1, shared, 64 / std::max<int64_t>(1, out_line / plan.columns)});
    lines = std::min(lines, std::max(least, ceil_div(all, wanted)));
    if (others * ceil_div(all, lines) < 2 * c.threads) plan.together = 1;
  }
  plan.strip = std::min(lines, all) * lead.stride;
  plan.strips = ceil_div(lead.out, plan.strip);
  const int64_t parts = ceil_div(static_cast<int64_t>(plan.phases.size()), plan.together);
  bound.chunks[0] = checked_mul(checked_mul(others, plan.strips, "strips"), parts, "strips");

  int64_t wide = 0;
  for (int64_t begin = 0; begin < lead.out; begin += plan.strip) {
    const int64_t end = std::min(lead.out, begin + plan.strip);
    int64_t first, last;
    lead.reach(begin, end, first, last);
    if (plan.widens) wide = std::max(wide, last - first);
    for (const Phase& phase : plan.phases) {
      Piece piece = piece_of(plan, phase, begin, end);
      if (piece.args.m == 0) continue;
      if (planes_of(table) > 0) check_planes(piece.window, args.k);
      if (piece.args.k > 0) piece.args.window = &piece.window;
      bound.scratch = std::max(bound.scratch, table.scratch_size(piece.args, piece.args.m, args.n));
    }
  }
  plan.wide_offset = align_up(bound.scratch, 64, "scratch");
  plan.tile_offset =
      align_up(checked_add(plan.wide_offset, byte_size(DType::f32, checked_mul(wide, in_line, "scratch")), "scratch"),
               64, "scratch");
  bound.scratch = checked_add(plan.tile_offset, plan.epilogue.scratch, "scratch");
}

Status run(const Launch& launch) {
  const Plan& plan = launch.bound->as<Plan>();
  const Prepared& prepared = *plan.prepared;
  const Stage& stage = launch.problem->stages[0];
  const auto count = static_cast<int64_t>(plan.phases.size());
  const int64_t parts = ceil_div(count, plan.together), part = launch.chunk % parts;
  int64_t rest = launch.chunk / parts;
  const int64_t strip = rest % plan.strips;
  rest /= plan.strips;
  const int64_t group = rest % plan.groups, image = rest / plan.groups;
  const TransposedAxis& lead = plan.axes[plan.lead];
  const int64_t begin = strip * plan.strip, end = std::min(lead.out, begin + plan.strip);
  const void* const x = launch.operands[stage.inputs[0]];
  ContractArgs a;  // where the operand is
  if (plan.widens) {
    int64_t first, last;
    lead.reach(begin, end, first, last);
    const int64_t line = plan.args.image_stride / std::max<int64_t>(1, lead.in);
    auto* wide = reinterpret_cast<float*>(launch.scratch + plan.wide_offset);
    if (x)
      prepared.convert->widen(static_cast<const uint16_t*>(x) + image * plan.args.image_stride + first * line,
                              (last - first) * line, wide);
    a.a = wide + group * plan.args.k;
  } else if (x) {
    const int64_t at = image * plan.args.image_stride + group * plan.args.k;
    if (plan.narrow_in)
      a.narrow_a = static_cast<const uint16_t*>(x) + at;
    else
      a.a = static_cast<const float*>(x) + at;
  }
  EpilogueRun epilogue(plan.epilogue, launch, launch.scratch + plan.tile_offset);
  if (plan.by_image) epilogue.at(std::span(&image, 1), 0);
  epilogue.spread_rows(plan.axes[2].stride);
  for (int64_t p = part * plan.together; p < std::min(count, (part + 1) * plan.together); ++p) {
    Piece piece = piece_of(plan, plan.phases[static_cast<size_t>(p)], begin, end);
    ContractArgs& args = piece.args;
    if (args.m == 0) continue;
    if (args.k > 0) args.window = &piece.window;
    args.a = a.a;
    args.narrow_a = a.narrow_a;
    args.b = static_cast<const float*>(launch.operands[stage.inputs[1]]) + group * plan.matrix_size;
    if (prepared.epilogue.bias >= 0)
      args.bias = static_cast<const float*>(launch.operands[prepared.epilogue.bias]) + group * plan.columns;
    Target target{plan, piece, epilogue, image, group * plan.columns, launch.operands[launch.problem->operands.size()]};
    args.user = &target;
    prepared.table->chunk(args, 0, args.m, 0, args.n, launch.scratch);
  }
  return {};
}

constexpr Kernel family = {
    .name = "", .supports = supports, .needs = needs, .cost = cost, .prepare = prepare, .bind = bind, .run = run};

}  // namespace

const Kernel conv_phases_rows[4] = {row_with(family, "conv_phases_f32", &row_of<PanelNumbers::plain>),
                                    row_with(family, "conv_phases_bf16", &row_of<PanelNumbers::planes1>),
                                    row_with(family, "conv_phases_bf16x3", &row_of<PanelNumbers::planes2>),
                                    row_with(family, "conv_phases_bf16x6", &row_of<PanelNumbers::planes3>)};

}  // namespace sinter::cpu
