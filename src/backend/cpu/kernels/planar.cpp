// Conv of f32 with few results a pixel, channels first: neighbouring pixels lie in the lanes, where loops over channels
// would leave most of a vector or a tile empty. Filters of signals (one channel, one result) are the extreme. One
// group, one to three spatial axes; pointwise stages behind it run on each row.

#include <fmt/core.h>

#include "backend/cpu/device.h"
#include "backend/cpu/kernels/common.h"
#include "backend/cpu/kernels/contraction.h"
#include "backend/cpu/kernels/convolution.h"
#include "backend/cpu/kernels/families.h"
#include "base/checked.h"
#include "ops/contraction.h"

namespace sinter::cpu {
namespace {

constexpr int64_t most_results = 8, most_channels = 64;
constexpr int no_bias = 1 << 20;  // not an operand: an addition behind the convolution stays one

OutputView row_view(size_t rank) {
  OutputView view;
  view.batch = {0, 1};
  for (size_t k = 2; k + 1 < rank; ++k) view.rows.push_back(k);
  view.col = static_cast<int>(rank) - 1;
  return view;
}

Answer supports(const Kernel&, const Problem& problem, const DeviceSpec&) {
  if (problem.stages.empty() || !is_op(problem.stages[0], "Conv")) return Answer::no("not a Conv");
  if (Answer a = plain_problem(problem); !a) return a;
  const Stage& stage = problem.stages[0];
  if (Answer a = convolution_operands(problem, stage); !a) return a;
  const ConvAttrs& attrs = stage.attrs.as<ConvAttrs>();
  const Operand& x = problem.operands[stage.inputs[0]];
  const Operand& w = problem.operands[stage.inputs[1]];
  const size_t rank = x.type.shape->size();
  if (attrs.group != 1) return Answer::no("several groups");
  const auto few = [&](size_t axis, int64_t most) {
    const Dim& d = (*w.type.shape)[axis];
    return d.is_constant() && d.constant() >= 0 && d.constant() <= most;
  };
  if (!few(0, most_results)) return Answer::no(fmt::format("more than {} results a pixel", most_results));
  if (!few(1, most_channels)) return Answer::no(fmt::format("more than {} channels", most_channels));
  if (Answer a = window_known(rank - 2, window_ref(attrs)); !a) return a;
  if (!row_major_or_any(x.layout)) return Answer::no("the operand must have its channels first");
  if (!row_major_or_any(w.layout)) return Answer::no("the weights must be row-major");
  if (in_epilogue(problem, stage.inputs[1])) return Answer::no("the weights are read twice");
  if (has(stage, 2) && in_epilogue(problem, stage.inputs[2])) return Answer::no("the bias is read twice");
  return epilogue_supported(problem, row_view(rank));
}

Needs needs(const Kernel&, const Problem& problem, const Config&, const DeviceSpec&) {
  Needs out;
  for (const Operand& operand : problem.operands) out.operands.push_back(settled(operand.layout));
  for (const Problem::Result& result : problem.results) out.results.push_back(settled(result.layout));
  return out;
}

double cost(const Kernel&, const Problem& problem, std::span<const int64_t> symbols, const DeviceSpec& device) {
  const Stage& stage = problem.stages[0];
  const Shape& w = *problem.types[stage.inputs[1]].shape;
  const auto results = static_cast<double>(std::max<int64_t>(1, w[0].constant()));
  const double out = elements_at(problem.types[problem.first_result[0]], symbols);
  const double taps = elements_at(problem.types[stage.inputs[1]], symbols) / results;
  // One result loads a vector for each product; several share it.
  const double full = device.level >= avx512 ? 75 : device.level == avx2 ? 40 : 5;
  const double per_ns = full * std::min(1.0, 0.45 + 0.15 * results);
  const double copied = out / results * taps /
                        static_cast<double>(std::max<int64_t>(1, w.back().is_constant() ? w.back().constant() : 1));
  return 800 + out * taps / per_ns + copied / 20;
}

struct Prepared {
  const PlanarTable* table;
  OutputView view;
  Epilogue epilogue;
};

std::shared_ptr<const void> prepare(const Kernel&, const Problem& problem, const Config&, const DeviceSpec& device) {
  const Stage& stage = problem.stages[0];
  auto out = std::make_shared<Prepared>();
  out->table = &planar_table(device.level);
  out->view = row_view(problem.types[stage.inputs[0]].shape->size());
  out->epilogue = make_epilogue(problem, out->view, has(stage, 2) ? stage.inputs[2] : no_bias, device.level);
  return out;
}

struct Plan {
  const Prepared* prepared;
  PlanarArgs args;
  int64_t in_image = 0, out_image = 0;  // floats
  int64_t rows = 0, blocks = 1;         // of an image, of a row
  int64_t units = 0, units_per_chunk = 1;
  BoundEpilogue epilogue;
  int64_t tile_offset = 0;
};

void bind(const Kernel&, const void* prepared_pointer, const BindContext& c, Bound& bound) {
  const auto& prepared = *static_cast<const Prepared*>(prepared_pointer);
  const Stage& stage = c.problem.stages[0];
  const Dims& x = c.operands[stage.inputs[0]];
  const Dims& w = c.operands[stage.inputs[1]];
  const Dims& y = c.results[0];
  if (w[1] != x[1] || y[0] != x[0] || y[1] != w[0] || (has(stage, 2) && c.operands[stage.inputs[2]][0] != w[0]))
    throw Error(Code::invalid_argument, "the operands of a Conv do not fit together");
  Plan& plan = emplace<Plan>(bound);
  plan.prepared = &prepared;
  PlanarArgs& args = plan.args;
  args.window = make_window(x, y, std::span(w).subspan(2), window_ref(stage.attrs.as<ConvAttrs>()));
  args.channels = x[1];
  args.results = w[0];
  args.low = prepared.epilogue.low;
  args.high = prepared.epilogue.high;
  bound.chunks[0] = 0;
  if (product(y) == 0) return;
  if (product(w) == 0) {
    // Nothing to add up: the loops give the bias.
    args.channels = 0;
    for (int d = 0; d < 3; ++d) args.window.kernel[d] = args.window.dilation[d] = 1;
  }
  const Window& window = args.window;
  // What the loops multiply without looking.
  const int64_t lines = checked_mul(checked_mul(args.channels, window.kernel[0], "lines"), window.kernel[1], "lines");
  const int64_t reach = checked_mul(window.kernel[2], window.dilation[2], "window");
  checked_mul(std::max<int64_t>(1, lines),
              checked_mul(checked_add(reach, checked_mul(window.stride[2], 1 << 13, "line"), "line"), 16, "line"),
              "lines");
  plan.in_image = checked_mul(product(x, 2, x.size()), x[1], "image");
  plan.out_image = checked_mul(product(y, 2, y.size()), y[1], "image");
  plan.rows = checked_mul(window.out[0], window.out[1], "rows");
  args.block = prepared.table->block_columns(args);
  plan.blocks = (window.out[2] + args.block - 1) / args.block;
  plan.units = checked_mul(checked_mul(x[0], plan.rows, "rows"), plan.blocks, "rows");
  const double work = static_cast<double>(product(y)) * static_cast<double>(std::max<int64_t>(1, product(w))) /
                      static_cast<double>(std::max<int64_t>(1, w[0]));
  const auto wanted =
      c.threads <= 1
          ? int64_t{1}
          : std::min(plan.units,
                     static_cast<int64_t>(std::min(work / (1 << 18), 6.0 * static_cast<double>(c.threads))) + 1);
  plan.units_per_chunk = (plan.units + wanted - 1) / wanted;
  bound.chunks[0] = (plan.units + plan.units_per_chunk - 1) / plan.units_per_chunk;
  const int64_t last = window.out[2] - (plan.blocks - 1) * args.block;
  plan.epilogue = bind_epilogue(prepared.epilogue, prepared.view, c, true, args.block, last);
  plan.tile_offset = align_up(prepared.table->scratch_size(args), 64, "scratch");
  bound.scratch = checked_add(plan.tile_offset, plan.epilogue.scratch, "scratch");
}

struct Finish {
  EpilogueRun* run;
  int64_t image;
};

void finish(void* user, int64_t result, int64_t row, int64_t column, int64_t count, float* block) {
  const Finish& f = *static_cast<const Finish*>(user);
  const int64_t at[2] = {f.image, result};
  f.run->at(at, 0);
  EpilogueRun::block(f.run, row, 1, column, count, block, count);
}

Status run(const Launch& launch) {
  const Plan& plan = launch.bound->as<Plan>();
  const Stage& stage = launch.problem->stages[0];
  const Epilogue& epilogue = plan.prepared->epilogue;
  PlanarArgs args = plan.args;
  const auto* in = static_cast<const float*>(launch.operands[stage.inputs[0]]);
  auto* out = static_cast<float*>(launch.operands[launch.problem->operands.size()]);
  args.weights = static_cast<const float*>(launch.operands[stage.inputs[1]]);
  args.bias = epilogue.bias == no_bias ? nullptr : static_cast<const float*>(launch.operands[epilogue.bias]);
  EpilogueRun epilogue_run(plan.epilogue, launch, launch.scratch + plan.tile_offset);
  Finish user{&epilogue_run, 0};
  args.finish = finish;
  args.user = &user;
  const int64_t end = std::min(plan.units, (launch.chunk + 1) * plan.units_per_chunk);
  for (int64_t unit = launch.chunk * plan.units_per_chunk; unit < end; ++unit) {
    const int64_t block = unit % plan.blocks, row = unit / plan.blocks % plan.rows;
    user.image = unit / plan.blocks / plan.rows;
    args.in = in ? in + user.image * plan.in_image : nullptr;
    args.out = epilogue.executor ? nullptr : out + user.image * plan.out_image;
    plan.prepared->table->block(args, row, block * args.block, launch.scratch);
  }
  return {};
}

constexpr Kernel rows[] = {
    {.name = "conv_planar_f32",
     .supports = supports,
     .needs = needs,
     .cost = cost,
     .prepare = prepare,
     .bind = bind,
     .run = run},
};

}  // namespace

std::span<const Kernel> planar_kernels() { return rows; }

}  // namespace sinter::cpu
