// MaxPool of bytes with channels last.

#include "backend/cpu/kernels/common.h"
#include "backend/cpu/kernels/convolution.h"
#include "backend/cpu/kernels/families.h"
#include "backend/cpu/kernels/integer.h"
#include "base/checked.h"
#include "ops/pooling.h"

namespace sinter::cpu {
namespace {

constexpr int64_t most_taps = 1024;

Answer supports(const Kernel&, const Problem& problem, const DeviceSpec&) {
  if (problem.stages.size() != 1 || !is_op(problem.stages[0], "MaxPool")) return Answer::no("not a MaxPool");
  if (Answer a = plain_problem(problem); !a) return a;
  const Stage& stage = problem.stages[0];
  if (stage.inputs.size() != 1 || stage.inputs[0] >= problem.operands.size() || problem.operands[stage.inputs[0]].host)
    return Answer::no("not one operand on the device");
  const Operand& x = problem.operands[stage.inputs[0]];
  if (x.type.dtype != DType::u8 && x.type.dtype != DType::i8) return Answer::no("elements must be bytes");
  const size_t rank = x.type.shape->size();
  const MaxPoolAttrs& attrs = stage.attrs.as<MaxPoolAttrs>();
  if (rank < 3 || attrs.kernel.size() != rank - 2) return Answer::no("the kernel has another rank");
  if (Answer a = window_known(rank - 2, window_ref(attrs)); !a) return a;
  int64_t taps = 1;
  for (int64_t k : attrs.kernel) taps = std::min(most_taps + 1, taps * std::min(most_taps + 1, k));
  if (taps > most_taps) return Answer::no("too many taps");
  if (problem.results.size() != 1 || problem.results[0].value != problem.first_result[0])
    return Answer::no("only the first result");
  if (!channels_last_or_any(x.layout, rank) || !channels_last_or_any(problem.results[0].layout, rank))
    return Answer::no("channels must be last");
  return Answer::yes();
}

Needs needs(const Kernel&, const Problem& problem, const Config&, const DeviceSpec&) {
  const uint16_t x = problem.stages[0].inputs[0];
  return image_needs(problem, x, Layout::channels_last(problem.types[x].shape->size()));
}

double cost(const Kernel&, const Problem& problem, std::span<const int64_t> symbols, const DeviceSpec&) {
  double taps = 1;
  for (int64_t k : problem.stages[0].attrs.as<MaxPoolAttrs>().kernel) taps *= static_cast<double>(k);
  return 500 + taps * elements_at(problem.types[problem.first_result[0]], symbols) / 50;
}

struct Plan {
  const IntegerTable* table = nullptr;
  Window window;
  int64_t channels = 0, lines = 0;  // lines of all results
};

void bind(const Kernel&, const void* prepared, const BindContext& c, Bound& bound) {
  const Stage& stage = c.problem.stages[0];
  const MaxPoolAttrs& attrs = stage.attrs.as<MaxPoolAttrs>();
  const Dims &x = c.operands[stage.inputs[0]], &y = c.results[0];
  Plan& p = emplace<Plan>(bound);
  bound.chunks[0] = 0;
  if (y.size() != x.size() || y[0] != x[0] || y[1] != x[1])
    throw Error(Code::invalid_argument, "the extents of a pooling do not fit together");
  if (product(y) == 0) return;
  p.table = *static_cast<const IntegerTable* const*>(prepared);
  p.window = make_window(x, y, attrs.kernel, window_ref(attrs));
  p.channels = x[1];
  p.lines = checked_mul(x[0], p.window.out[0] * p.window.out[1], "lines");
  bound.chunks[0] = chunks_for(product(y), p.lines, c.threads);
}

Status run(const Launch& launch) {
  const Plan& p = launch.bound->as<Plan>();
  const Window& w = p.window;
  const uint16_t v = launch.problem->stages[0].inputs[0];
  const uint8_t flip = launch.problem->types[v].dtype == DType::i8 ? 0x80 : 0;
  const auto* x = static_cast<const uint8_t*>(launch.operands[v]);
  auto* y = static_cast<uint8_t*>(launch.operands[launch.problem->operands.size()]);
  const Range lines = part(p.lines, launch.bound->chunks[0], launch.chunk);
  const uint8_t* taps[most_taps];
  for (int64_t line = lines.begin; line < lines.end; ++line) {
    const int64_t image = line / (w.out[0] * w.out[1]), od = line / w.out[1] % w.out[0], oh = line % w.out[1];
    const int64_t start_d = od * w.stride[0] - w.pad[0], start_h = oh * w.stride[1] - w.pad[1];
    const Range in_d = taps_inside(start_d, w.dilation[0], w.kernel[0], w.in[0]);
    const Range in_h = taps_inside(start_h, w.dilation[1], w.kernel[1], w.in[1]);
    for (int64_t ow = 0; ow < w.out[2]; ++ow) {
      const int64_t start_w = ow * w.stride[2] - w.pad[2];
      const Range in_w = taps_inside(start_w, w.dilation[2], w.kernel[2], w.in[2]);
      int64_t count = 0;
      for (int64_t d = in_d.begin; d < in_d.end; ++d)
        for (int64_t h = in_h.begin; h < in_h.end; ++h) {
          const int64_t row =
              ((image * w.in[0] + start_d + d * w.dilation[0]) * w.in[1] + start_h + h * w.dilation[1]) * w.in[2];
          for (int64_t k = in_w.begin; k < in_w.end; ++k)
            taps[count++] = x + (row + start_w + k * w.dilation[2]) * p.channels;
        }
      p.table->largest(taps, count, p.channels, flip, y + (line * w.out[2] + ow) * p.channels);
    }
  }
  return {};
}

constexpr Kernel rows[] = {
    {.name = "max_pool_bytes",
     .supports = supports,
     .needs = needs,
     .cost = cost,
     .prepare = prepare_integer,
     .bind = bind,
     .run = run},
};

}  // namespace

std::span<const Kernel> byte_pooling_kernels() { return rows; }

}  // namespace sinter::cpu
