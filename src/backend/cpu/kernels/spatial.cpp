// Window operators that keep channels apart, channels last: convolution, depthwise and in groups of few channels, with
// its epilogue, maximum and average pooling, and mean or maximum over all pixels. They compute in f32; images may be
// held in bf16.

#include <fmt/core.h>

#include "backend/cpu/device.h"
#include "backend/cpu/kernels/common.h"
#include "backend/cpu/kernels/contraction.h"
#include "backend/cpu/kernels/convolution.h"
#include "backend/cpu/kernels/families.h"
#include "backend/cpu/kernels/spatial.h"
#include "base/checked.h"
#include "ops/contraction.h"
#include "ops/pooling.h"
#include "ops/reduction.h"

namespace sinter::cpu {
namespace {

struct Plan {
  const SpatialTable* table;
  SpatialFunction function = nullptr;
  SpatialArgs args;
  int64_t images = 0, rows_per_image = 0;
  int64_t rows_per_chunk = 1;
  int64_t out_image = 0;  // numbers from image to image of the result
  bool by_image = false;  // the epilogue wants a call per image
  BoundEpilogue epilogue;
  const Epilogue* prepared = nullptr;  // null: no epilogue, no bias
  int x = 0, weights = -1;
  int64_t tile_offset = 0;
};

// An epilogue whose operands lie as the result or are one number: pixels that lie densely are one row to it, of about
// as many numbers as this, which costs less than many short rows.
constexpr int64_t flat_row = 2048;
bool is_flat(const BoundEpilogue& epilogue, int64_t channels) {
  const auto even = [&](const BoundEpilogue::Part& part) {
    if (!part.rows && !part.cols) return true;  // one number for all
    return part.rows && part.cols && part.row_stride == channels;
  };
  return std::all_of(epilogue.parts.begin(), epilogue.parts.end(), even);
}
void flat_block(void* user, int64_t m, int64_t rows, int64_t n, int64_t cols, float* block, int64_t stride) {
  const int64_t together = stride == cols ? flat_row / cols : 0;
  if (n != 0 || together < 2) return EpilogueRun::block(user, m, rows, n, cols, block, stride);
  for (int64_t r = 0; r < rows; r += together) {
    const int64_t here = std::min(together, rows - r) * cols;
    EpilogueRun::block(user, m + r, 1, 0, here, block + r * cols, here);
  }
}

// Rows of the output as chunks; `work` in loads of a float.
void plan_rows(Plan& plan, const BindContext& c, double work, Bound& bound) {
  const int64_t rows = checked_mul(plan.images, plan.rows_per_image, "rows");
  const bool empty = rows == 0 || plan.args.channels == 0 || plan.args.window.out[2] == 0;
  const auto by_work = static_cast<int64_t>(std::min(1e9, work / (1 << 17))) + 1;
  const int64_t wanted = c.threads <= 1 ? 1 : std::min({rows, by_work, 6 * static_cast<int64_t>(c.threads)});
  plan.rows_per_chunk = empty ? 1 : (rows + wanted - 1) / wanted;
  bound.chunks[0] = empty ? 0 : (rows + plan.rows_per_chunk - 1) / plan.rows_per_chunk;
  plan.args.epilogue = !plan.prepared || !plan.prepared->executor   ? nullptr
                       : is_flat(plan.epilogue, plan.args.channels) ? flat_block
                                                                    : EpilogueRun::block;
  bound.scratch = empty ? 0 : align_up(plan.table->scratch_size(plan.args), 64, "scratch");
  plan.tile_offset = bound.scratch;
  bound.scratch = checked_add(bound.scratch, plan.epilogue.scratch, "scratch");
}

Status rows_run(const Launch& launch) {
  const Plan& plan = launch.bound->as<Plan>();
  SpatialArgs args = plan.args;
  const auto* in = static_cast<const std::byte*>(launch.operands[plan.x]);
  auto* out = static_cast<std::byte*>(launch.operands[launch.problem->operands.size()]);
  if (plan.weights >= 0) args.weights = static_cast<const float*>(launch.operands[plan.weights]);
  if (plan.prepared && plan.prepared->bias >= 0)
    args.bias = static_cast<const float*>(launch.operands[plan.prepared->bias]);
  EpilogueRun epilogue(plan.epilogue, launch, launch.scratch + plan.tile_offset);
  args.user = &epilogue;
  const int64_t rows = plan.images * plan.rows_per_image;
  int64_t row = launch.chunk * plan.rows_per_chunk;
  const int64_t end = std::min(rows, row + plan.rows_per_chunk);
  if (!plan.by_image) {
    args.in = in;
    args.out = out;
    plan.function(args, row, end, launch.scratch);
    return {};
  }
  while (row < end) {
    const int64_t image = row / plan.rows_per_image, first = image * plan.rows_per_image;
    const int64_t stop = std::min(end, first + plan.rows_per_image);
    args.in = in + image * args.image_stride * (args.narrow_in ? 2 : 4);
    args.out = out + image * plan.out_image * (args.narrow_out ? 2 : 4);
    epilogue.at(std::span(&image, 1), 0);
    plan.function(args, row - first, stop - first, launch.scratch);
    row = stop;
  }
  return {};
}

void set_window(Plan& plan, const BindContext& c, std::span<const int64_t> kernel, const WindowRef& window) {
  const Dims& x = c.operands[static_cast<size_t>(plan.x)];
  const Dims& y = c.results[0];
  SpatialArgs& args = plan.args;
  args.window = make_window(x, y, kernel, window);
  args.channels = y[1];
  args.pixel_stride = row_pitch(c.problem.operands[static_cast<size_t>(plan.x)].layout, x[1]);
  args.out_stride = row_pitch(c.problem.results[0].layout, y[1]);
  args.image_stride = checked_mul(product(x, 2, x.size()), args.pixel_stride, "image");
  plan.out_image = checked_mul(product(y, 2, y.size()), args.out_stride, "image");
  plan.images = x[0];
  plan.rows_per_image = checked_mul(args.window.out[0], args.window.out[1], "rows");
}

double taps_of(std::span<const int64_t> kernel) {
  double n = 1;
  for (int64_t k : kernel) n *= static_cast<double>(k);
  return n;
}

double spatial_cost(const DeviceSpec& device, double loads, double bytes) {
  const double per_ns = device.level >= avx512 ? 40 : device.level == avx2 ? 20 : 4;
  return 500 + std::max(loads / per_ns, bytes / 20);
}

bool is_narrow(const Problem& problem, uint16_t value) { return problem.types[value].dtype == DType::bf16; }
double width_of(const Problem& problem, uint16_t value) { return is_narrow(problem, value) ? 2 : 4; }

// ---- convolution, depthwise and in small groups ----

constexpr bool in_groups = true;  // of Kernel::self: the row of small groups
constexpr double neighbours = 7;  // results that share what the loops load, for estimates

OutputView pixels_view(size_t rank) {
  OutputView view = image_view(rank);
  view.pitched = true;
  return view;
}

// How many vectors of the operand a vector of results reads, so that lanes are not wasted: 1 or 2, else 0. Results:
// `groups` times `out`, which are not more than an index holds.
int vectors_read(int64_t lanes, int64_t groups, int64_t in, int64_t out) {
  const int64_t channels = groups * in, results = groups * out;
  if (channels <= lanes) return 1;
  if (results < lanes) return 0;
  // Vectors begin at multiples of lanes, and the last one reaches back.
  const auto from = [&](int64_t c) { return (c % out + lanes - 1) / out + 1; };  // groups
  int64_t touched = from(results - lanes);
  for (int64_t c = 0, n = 0; c + lanes <= results && n < std::min<int64_t>(out, lanes); c += lanes, ++n)
    touched = std::max(touched, from(c));
  if (out > lanes) touched = out % lanes == 0 ? 1 : 2;
  if (touched * in <= lanes) return 1;
  return touched * in <= 2 * lanes && channels >= 2 * lanes ? 2 : 0;
}

Answer groups_fit(int64_t lanes, int64_t groups, const Shape& weights) {
  constexpr int64_t most = 1 << 16;
  const auto m = weights[0].as_constant(), in = weights[1].as_constant();
  if (!m || !in) return Answer::no("the extents of the groups are known only at run time");
  if (*m < groups || *m % groups != 0 || *in < 1 || *in > most || groups > most || *m > most * most)
    return Answer::no("the extents of the groups are out of range");
  const int64_t out = *m / groups;
  if (groups == 1 || (out == 1 && *in == 1)) return Answer::no("one group, or depthwise");
  if (vectors_read(lanes, groups, *in, out) > 0) return Answer::yes();
  return Answer::no("a vector of results reads more than two vectors of channels");
}

Answer depthwise_supports(const Kernel& kernel, const Problem& problem, const DeviceSpec& device) {
  if (problem.stages.empty() || !is_op(problem.stages[0], "Conv")) return Answer::no("not a Conv");
  if (Answer a = plain_problem(problem); !a) return a;
  const Stage& stage = problem.stages[0];
  if (Answer a = convolution_operands(problem, stage, true); !a) return a;
  const ConvAttrs& attrs = stage.attrs.as<ConvAttrs>();
  const Operand& x = problem.operands[stage.inputs[0]];
  const Operand& w = problem.operands[stage.inputs[1]];
  const size_t rank = x.type.shape->size();
  if (attrs.group < 1) return Answer::no("group out of range");
  if (kernel.self == &in_groups) {
    if (Answer a = groups_fit(spatial_table(device.level).lanes, attrs.group, *w.type.shape); !a) return a;
  } else if ((*w.type.shape)[0] != Dim(attrs.group) || (*w.type.shape)[1] != Dim(1)) {
    return Answer::no("not depthwise");
  }
  if (Answer a = window_known(rank - 2, window_ref(attrs)); !a) return a;
  if (!pixels_or_any(x.layout, rank)) return Answer::no("the operand must have its channels last");
  if (w.layout.kind != Layout::Kind::any && w.layout != taps_first(rank))
    return Answer::no("the weights must have their channels last");
  if (in_epilogue(problem, stage.inputs[1])) return Answer::no("the weights are read twice");
  return epilogue_supported(problem, pixels_view(rank));
}

Needs depthwise_needs(const Kernel&, const Problem& problem, const Config&, const DeviceSpec&) {
  const size_t rank = problem.types[problem.stages[0].inputs[0]].shape->size();
  return filtered_needs(problem, pixels_view(rank), taps_first(rank));
}

double depthwise_cost(const Kernel& kernel, const Problem& problem, std::span<const int64_t> symbols,
                      const DeviceSpec& device) {
  const Stage& stage = problem.stages[0];
  const Type& w = problem.types[stage.inputs[1]];
  const double out = elements_at(problem.types[problem.first_result[0]], symbols);
  const auto groups = static_cast<double>(std::max<int64_t>(1, stage.attrs.as<ConvAttrs>().group));
  const auto m = kernel.self == &in_groups ? static_cast<double>((*w.shape)[0].constant()) : groups;
  const double taps = elements_at(w, symbols) / m;  // of a result
  const double in = elements_at(problem.types[stage.inputs[0]], symbols);
  const double bytes = width_of(problem, stage.inputs[0]) * in + width_of(problem, problem.results[0].value) * out;
  if (kernel.self != &in_groups) return spatial_cost(device, out * taps, bytes);
  // Nanoseconds of a product, and of picking what several neighbouring results multiply.
  const double product = device.level >= avx2 ? 0.018 : 0.1;
  double pick = device.level >= avx512 ? 0.01 : device.level == avx2 ? 0.025 : 0.66;
  const Dim& row = w.shape->back();
  const double kernel_row = row.is_constant() ? static_cast<double>(std::max<int64_t>(1, row.constant())) : 1;
  const auto stride = static_cast<double>(window_step(stage.attrs.as<ConvAttrs>().strides, w.shape->size() - 3));
  // Tiles of known widths pick once for all neighbours, others for every product.
  const bool known =
      kernel_row == 3 || (kernel_row == 1 && stride == 1) || kernel_row == 5 || (kernel_row == 7 && stride == 1);
  const bool twice = vectors_read(spatial_table(device.level).lanes, static_cast<int64_t>(groups),
                                  (*w.shape)[1].constant(), static_cast<int64_t>(m / groups)) == 2;
  if (twice) pick *= 2;
  const double picks = known && stride <= 2 ? (stride * (neighbours - 1) + kernel_row) / (neighbours * kernel_row) : 1;
  return 500 + std::max(out * taps * (product + picks * pick), bytes / 20);
}

struct PreparedDepthwise {
  const SpatialTable* table;
  OutputView view;
  Epilogue epilogue;
};

std::shared_ptr<const void> depthwise_prepare(const Kernel&, const Problem& problem, const Config&,
                                              const DeviceSpec& device) {
  const Stage& stage = problem.stages[0];
  auto out = std::make_shared<PreparedDepthwise>();
  out->table = &spatial_table(device.level);
  out->view = pixels_view(problem.types[stage.inputs[0]].shape->size());
  const bool biased = stage.inputs.size() > 2 && stage.inputs[2] != absent_operand;
  out->epilogue =
      make_epilogue(problem, out->view, biased ? stage.inputs[2] : -1, device.level, {.store_narrow = true});
  return out;
}

void depthwise_bind(const Kernel& kernel, const void* prepared_pointer, const BindContext& c, Bound& bound) {
  const auto& prepared = *static_cast<const PreparedDepthwise*>(prepared_pointer);
  const Stage& stage = c.problem.stages[0];
  const ConvAttrs& attrs = stage.attrs.as<ConvAttrs>();
  const Dims& x = c.operands[stage.inputs[0]];
  const Dims& w = c.operands[stage.inputs[1]];
  const Dims& y = c.results[0];
  const bool biased = stage.inputs.size() > 2 && stage.inputs[2] != absent_operand;
  const int64_t groups = attrs.group, out = w[0] / groups;
  if (out * groups != w[0] || checked_mul(w[1], groups, "channels") != x[1] || y[0] != x[0] || y[1] != w[0] ||
      (biased && c.operands[stage.inputs[2]][0] != w[0]))
    throw Error(Code::invalid_argument, "the operands of a Conv do not fit together");
  Plan& plan = emplace<Plan>(bound);
  plan.table = prepared.table;
  const bool grouped = kernel.self == &in_groups;
  plan.function = prepared.table->depthwise;
  if (grouped) {
    plan.function = vectors_read(prepared.table->lanes, groups, w[1], out) == 2 ? prepared.table->grouped_twice
                                                                                : prepared.table->grouped;
    plan.args.group_in = w[1];
    plan.args.group_out = out;
  }
  plan.prepared = &prepared.epilogue;
  plan.x = stage.inputs[0];
  plan.weights = stage.inputs[1];
  set_window(plan, c, std::span(w).subspan(2), window_ref(attrs));
  plan.args.low = prepared.epilogue.low;
  plan.args.high = prepared.epilogue.high;
  plan.args.narrow_in = is_narrow(c.problem, stage.inputs[0]);
  plan.args.narrow_out = prepared.epilogue.narrow;
  plan.by_image = !prepared.epilogue.whole_batch;
  // Rows of a program are pixels, or several of them.
  plan.epilogue = bind_epilogue(prepared.epilogue, prepared.view, c, plan.by_image, w[0], std::max(w[0], flat_row));
  plan_rows(plan, c, static_cast<double>(product(y)) * taps_of(std::span(w).subspan(1)), bound);
}

bool depthwise_overwrites(const Kernel&, const Problem& problem, size_t operand) {
  const size_t rank = problem.types[problem.stages[0].inputs[0]].shape->size();
  return epilogue_overwrites(problem, pixels_view(rank), operand);
}

// ---- pooling ----

struct Pooling {
  const char* op;
  bool average;
};
constexpr Pooling max_pooling = {"MaxPool", false}, average_pooling = {"AveragePool", true};

struct PoolWindow {
  WindowRef ref;
  bool count_padding;
};
PoolWindow pool_window(const Pooling& family, const Stage& stage) {
  if (family.average) {
    const auto& a = stage.attrs.as<AveragePoolAttrs>();
    return {{a.auto_pad, a.kernel, a.strides, a.dilations, a.pads, a.ceil_mode}, a.count_pads};
  }
  const auto& a = stage.attrs.as<MaxPoolAttrs>();
  return {{a.auto_pad, a.kernel, a.strides, a.dilations, a.pads, a.ceil_mode}, false};
}

Answer pool_supports(const Kernel& kernel, const Problem& problem, const DeviceSpec&) {
  const Pooling& family = *static_cast<const Pooling*>(kernel.self);
  if (problem.stages.size() != 1 || !is_op(problem.stages[0], family.op))
    return Answer::no(fmt::format("not a {}", family.op));
  if (Answer a = plain_problem(problem); !a) return a;
  const Stage& stage = problem.stages[0];
  if (stage.inputs.size() != 1) return Answer::no("not one operand");
  if (Answer a = is_image(problem, stage.inputs[0]); !a) return a;
  const Operand& x = problem.operands[stage.inputs[0]];
  const size_t rank = x.type.shape->size();
  if (rank < 3) return Answer::no("no spatial axes");
  const PoolWindow window = pool_window(family, stage);
  if (window.ref.kernel.size() != rank - 2) return Answer::no("the kernel has another rank");
  if (Answer a = window_known(rank - 2, window.ref); !a) return a;
  if (!pixels_or_any(x.layout, rank)) return Answer::no("the operand must have its channels last");
  if (problem.results.size() != 1 || problem.results[0].value != problem.first_result[0])
    return Answer::no("only the first result");
  if (!pixels_or_any(problem.results[0].layout, rank)) return Answer::no("the result must have its channels last");
  return Answer::yes();
}

// Every operand of one stage that a row reads with channels last; the others (axes) are on the host.
Needs channels_last_needs(const Kernel&, const Problem& problem, const Config&, const DeviceSpec&) {
  const uint16_t x = problem.stages[0].inputs[0];
  const size_t rank = problem.types[x].shape->size();
  Needs out;
  for (size_t i = 0; i < problem.operands.size(); ++i) {
    const Layout& layout = problem.operands[i].layout;
    out.operands.push_back(layout.kind != Layout::Kind::any ? layout : i == x ? Layout::channels_last(rank) : Layout());
  }
  for (const Problem::Result& result : problem.results) {
    const size_t own = problem.types[result.value].shape->size();
    out.results.push_back(result.layout.kind != Layout::Kind::any ? result.layout
                          : own == rank                           ? Layout::channels_last(rank)
                                                                  : Layout());
  }
  return out;
}

double pool_cost(const Kernel& kernel, const Problem& problem, std::span<const int64_t> symbols,
                 const DeviceSpec& device) {
  const Pooling& family = *static_cast<const Pooling*>(kernel.self);
  const double out = elements_at(problem.types[problem.first_result[0]], symbols);
  const double in = elements_at(problem.types[problem.stages[0].inputs[0]], symbols);
  return spatial_cost(device, out * taps_of(pool_window(family, problem.stages[0]).ref.kernel),
                      width_of(problem, problem.first_result[0]) * (in + out));
}

void pool_bind(const Kernel& kernel, const void* prepared, const BindContext& c, Bound& bound) {
  const Pooling& family = *static_cast<const Pooling*>(kernel.self);
  const Stage& stage = c.problem.stages[0];
  const Dims& x = c.operands[stage.inputs[0]];
  const Dims& y = c.results[0];
  if (y.size() != x.size() || y[0] != x[0] || y[1] != x[1])
    throw Error(Code::invalid_argument, "the extents of a pooling do not fit together");
  Plan& plan = emplace<Plan>(bound);
  plan.table = *static_cast<const SpatialTable* const*>(prepared);
  plan.function = family.average ? plan.table->average_pool : plan.table->max_pool;
  plan.x = stage.inputs[0];
  const PoolWindow window = pool_window(family, stage);
  set_window(plan, c, window.ref.kernel, window.ref);
  plan.args.count_padding = window.count_padding;
  plan.args.narrow_in = plan.args.narrow_out = is_narrow(c.problem, stage.inputs[0]);
  plan_rows(plan, c, static_cast<double>(product(y)) * taps_of(window.ref.kernel), bound);
}

// ---- mean and maximum over all pixels ----

struct Global {
  const char* op;
  bool average;
};
constexpr Global global_mean = {"ReduceMean", true}, global_max = {"ReduceMax", false};

Answer global_supports(const Kernel& kernel, const Problem& problem, const DeviceSpec&) {
  const Global& family = *static_cast<const Global*>(kernel.self);
  if (problem.stages.size() != 1 || !is_op(problem.stages[0], family.op))
    return Answer::no(fmt::format("not a {}", family.op));
  if (Answer a = plain_problem(problem); !a) return a;
  const Stage& stage = problem.stages[0];
  if (stage.inputs.size() != 2 || stage.inputs[1] == absent_operand) return Answer::no("no axes");
  if (Answer a = is_image(problem, stage.inputs[0]); !a) return a;
  const Operand& x = problem.operands[stage.inputs[0]];
  if (!family.average && x.type.dtype != DType::f32) return Answer::no("operands must be f32");
  const auto rank = static_cast<int64_t>(x.type.shape->size());
  if (rank < 3 || rank > 5) return Answer::no("only one to three spatial axes");
  if (!pixels_or_any(x.layout, x.type.shape->size())) return Answer::no("the operand must have its channels last");
  if (stage.inputs[1] >= problem.operands.size()) return Answer::no("axes are computed");
  const Tensor* axes = std::get_if<Tensor>(&problem.operands[stage.inputs[1]].contents);
  if (!axes || !is_integer(axes->dtype())) return Answer::no("axes are not known");
  uint32_t seen = 0;
  for (int64_t axis : axes->to_integers()) {
    if (axis < 0) axis += rank;
    if (axis < 2 || axis >= rank) return Answer::no("other axes than the spatial ones");
    seen |= 1u << axis;
  }
  if (seen != (1u << rank) - 4) return Answer::no("not all of the spatial axes");
  if (problem.results.size() != 1) return Answer::no("not one result");
  // [N, C] and [N, C, 1, 1] in either order are the same bytes.
  const Layout& y = problem.results[0].layout;
  const size_t own = problem.types[problem.results[0].value].shape->size();
  if (!row_major_or_any(y) && y != Layout::channels_last(own)) return Answer::no("the result has another layout");
  return Answer::yes();
}

double global_cost(const Kernel&, const Problem& problem, std::span<const int64_t> symbols, const DeviceSpec& device) {
  const double in = elements_at(problem.types[problem.stages[0].inputs[0]], symbols);
  return spatial_cost(device, in, width_of(problem, problem.stages[0].inputs[0]) * in);
}

struct GlobalPlan {
  const SpatialTable* table;
  bool average;
  bool narrow;       // sums are of bf16, and go there by way of the scratch
  SpatialArgs args;  // of the maximum
  int64_t pixels, channels, pitch, images, step, parts;
  int64_t pixel_parts, pixels_per_part;  // more than one: their sums are added in the second phase
};

void global_bind(const Kernel& kernel, const void* prepared, const BindContext& c, Bound& bound) {
  const Dims& x = c.operands[c.problem.stages[0].inputs[0]];
  GlobalPlan& plan = emplace<GlobalPlan>(bound);
  plan.table = *static_cast<const SpatialTable* const*>(prepared);
  plan.average = static_cast<const Global*>(kernel.self)->average;
  plan.images = x[0];
  plan.channels = x[1];
  plan.pixels = product(x, 2, x.size());
  plan.pitch = row_pitch(c.problem.operands[c.problem.stages[0].inputs[0]].layout, plan.channels);
  if (product(c.results[0]) != checked_mul(x[0], x[1], "result"))
    throw Error(Code::invalid_argument, "the extents of a reduction do not fit together");
  const int64_t bytes = checked_mul(checked_mul(plan.pixels, plan.channels, "image"), 4, "image");
  SpatialArgs& args = plan.args;
  args.window.in[2] = args.window.kernel[2] = plan.pixels;
  args.pixel_stride = plan.pitch;
  args.out_stride = plan.channels;
  plan.narrow = is_narrow(c.problem, c.problem.stages[0].inputs[0]);
  // By pixels, as the lines of the image are divided before and after: parts of the image alone, so that sums do not
  // depend on threads. Of few pixels the sums of the parts would be a good part of the work.
  const int64_t by_pixels =
      plan.average ? std::clamp<int64_t>(std::min(bytes / (32 << 10), plan.pixels / 32), 1, 8) : 1;
  plan.pixels_per_part = std::max<int64_t>(1, ceil_div(plan.pixels, by_pixels));
  plan.pixel_parts = std::max<int64_t>(1, ceil_div(plan.pixels, plan.pixels_per_part));
  if (plan.narrow) bound.scratch = byte_size(DType::f32, plan.channels);
  // Whole cache lines of channels.
  const int64_t lines = (plan.channels + 15) / 16;
  const int64_t wanted =
      plan.images >= 4 * c.threads ? 1 : ceil_div(chunks_for(bytes, lines, c.threads), plan.pixel_parts);
  plan.step = wanted == 0 || lines == 0 ? 1 : (lines + wanted - 1) / wanted * 16;
  plan.parts = (plan.channels + plan.step - 1) / plan.step;
  bound.chunks[0] = checked_mul(checked_mul(plan.images, plan.pixel_parts, "chunks"), plan.parts, "chunks");
  if (plan.pixel_parts > 1) {
    const int64_t sums = checked_mul(checked_mul(plan.images, plan.pixel_parts, "sums"), plan.channels, "sums");
    bound.workspace = byte_size(DType::f32, sums);
    bound.phases = 2;
    bound.chunks[1] = plan.images;
  }
}

Status global_run(const Launch& launch) {
  const GlobalPlan& plan = launch.bound->as<GlobalPlan>();
  void* const result = launch.operands[launch.problem->operands.size()];
  auto* const sums = reinterpret_cast<float*>(launch.workspace);
  // Means [begin, end) of an image, of pixels or of the sums of its parts.
  const auto finish = [&](int64_t image, const void* in, bool narrow, int64_t rows, int64_t stride, int64_t begin,
                          int64_t end) {
    const int64_t at = image * plan.channels;
    float* out = plan.narrow ? reinterpret_cast<float*>(launch.scratch) : static_cast<float*>(result) + at;
    plan.table->global_average(in, narrow, rows, stride, begin, end, static_cast<float>(plan.pixels), out);
    const int64_t n = end - begin;
    if (plan.narrow) plan.table->narrow(out + begin, n, 1, n, static_cast<uint16_t*>(result) + at + begin, n);
  };
  if (launch.phase == 1) {
    const float* parts = sums + launch.chunk * plan.pixel_parts * plan.channels;
    finish(launch.chunk, parts, false, plan.pixel_parts, plan.channels, 0, plan.channels);
    return {};
  }
  const int64_t part = launch.chunk / plan.parts, image = part / plan.pixel_parts;
  const int64_t begin = launch.chunk % plan.parts * plan.step, end = std::min(plan.channels, begin + plan.step);
  const int64_t first = part % plan.pixel_parts * plan.pixels_per_part;
  const int64_t pixels = std::min(plan.pixels_per_part, plan.pixels - first);
  // No pixel is read of an empty operand.
  const auto* x = static_cast<const std::byte*>(launch.operands[launch.problem->stages[0].inputs[0]]);
  const void* in = plan.pixels == 0 ? result : x + (image * plan.pixels + first) * plan.pitch * (plan.narrow ? 2 : 4);
  if (!plan.average) {
    SpatialArgs args = plan.args;
    args.channels = end - begin;
    args.in = static_cast<const float*>(in) + begin;
    args.out = static_cast<float*>(result) + image * plan.channels + begin;
    plan.table->max_pool(args, 0, 1, nullptr);
  } else if (plan.pixel_parts > 1) {
    plan.table->global_average(in, plan.narrow, pixels, plan.pitch, begin, end, 1, sums + part * plan.channels);
  } else {
    finish(image, in, plan.narrow, pixels, plan.pitch, begin, end);
  }
  return {};
}

constexpr Kernel other_rows[] = {
    {.name = "max_pool_f32",
     .self = &max_pooling,
     .supports = pool_supports,
     .needs = channels_last_needs,
     .cost = pool_cost,
     .prepare = prepare_spatial_table,
     .bind = pool_bind,
     .run = rows_run},
    {.name = "average_pool_f32",
     .self = &average_pooling,
     .supports = pool_supports,
     .needs = channels_last_needs,
     .cost = pool_cost,
     .prepare = prepare_spatial_table,
     .bind = pool_bind,
     .run = rows_run},
    {.name = "global_mean_f32",
     .self = &global_mean,
     .supports = global_supports,
     .needs = channels_last_needs,
     .cost = global_cost,
     .prepare = prepare_spatial_table,
     .bind = global_bind,
     .run = global_run},
    {.name = "global_max_f32",
     .self = &global_max,
     .supports = global_supports,
     .needs = channels_last_needs,
     .cost = global_cost,
     .prepare = prepare_spatial_table,
     .bind = global_bind,
     .run = global_run},
};

constexpr Kernel convolution_row(const char* name, const void* groups) {
  return {.name = name,
          .self = groups,
          .supports = depthwise_supports,
          .needs = depthwise_needs,
          .cost = depthwise_cost,
          .prepare = depthwise_prepare,
          .bind = depthwise_bind,
          .run = rows_run,
          .may_overwrite = depthwise_overwrites};
}

}  // namespace

const Kernel depthwise_row = convolution_row("depthwise_f32", nullptr);

const Window& depthwise_window(const Bound& bound) { return bound.as<Plan>().args.window; }

void run_depthwise_lines(const Launch& part, const DepthwiseLines& lines) {
  const Plan& plan = part.bound->as<Plan>();
  SpatialArgs args = plan.args;
  Window& w = args.window;
  const int64_t slice = w.out[1] * w.out[2], row = lines.held_out ? 0 : lines.first * w.out[2];
  w.in[1] = lines.in_count;
  w.out[1] = lines.count;
  w.pad[1] += lines.in_first - lines.first * w.stride[1];
  args.weights = static_cast<const float*>(part.operands[plan.weights]);
  if (plan.prepared->bias >= 0) args.bias = static_cast<const float*>(part.operands[plan.prepared->bias]);
  const int64_t in = lines.image * args.image_stride + lines.in_first * w.in[2] * args.pixel_stride;
  const int64_t out = lines.image * plan.out_image + row * args.out_stride;
  args.in = static_cast<const std::byte*>(part.operands[plan.x]) + (lines.held_in ? 0 : in * (args.narrow_in ? 2 : 4));
  args.out = static_cast<std::byte*>(part.operands[part.problem->operands.size()]) +
             (lines.held_out ? 0 : out * (args.narrow_out ? 2 : 4));
  EpilogueRun epilogue(plan.epilogue, part, part.scratch);
  if (args.epilogue != nullptr) {
    const bool through = !plan.by_image && !lines.held_out;  // rows run through the images
    epilogue.at(std::span(&lines.image, plan.by_image ? 1 : 0), 0, row + (through ? lines.image * slice : 0));
  }
  args.user = &epilogue;
  plan.function(args, 0, lines.count, part.scratch + plan.epilogue.scratch);
}

int64_t depthwise_lines_scratch(const Bound& bound, int64_t least, int64_t most) {
  const Plan& plan = bound.as<Plan>();
  SpatialArgs args = plan.args;
  int64_t scratch = 0;
  for (int64_t lines = least; lines <= most; ++lines) {
    args.window.in[1] = lines;
    scratch = std::max(scratch, plan.table->scratch_size(args));
  }
  return align_up(checked_add(scratch, plan.epilogue.scratch, "scratch"), 64, "scratch");
}

std::span<const Kernel> spatial_kernels() {
  static const std::vector<Kernel> rows = [] {
    std::vector<Kernel> all = {depthwise_row, convolution_row("conv_groups_f32", &in_groups)};
    all.insert(all.end(), std::begin(other_rows), std::end(other_rows));
    return all;
  }();
  return rows;
}

}  // namespace sinter::cpu
