// DFT and STFT of f32: lines of numbers gathered into double, transformed and rounded once. Lines are independent.

#include "ops/signal.h"

#include "backend/cpu/kernels/common.h"
#include "backend/cpu/kernels/contraction.h"
#include "backend/cpu/kernels/families.h"
#include "backend/cpu/kernels/fourier.h"
#include "base/checked.h"

namespace sinter::cpu {
namespace {

Answer lines_supported(const Problem& problem, const char* name) {
  if (problem.stages.size() != 1 || !is_op(problem.stages[0], name)) return Answer::no("another operator");
  if (Answer a = plain_problem(problem); !a) return a;
  const Stage& stage = problem.stages[0];
  for (size_t i = 0; i < stage.inputs.size(); ++i) {
    if (stage.inputs[i] == absent_operand || (stage.op->host_inputs >> i & 1)) continue;
    if (Answer a = device_f32(problem, stage.inputs[i]); !a) return a;
    if (!row_major_or_any(problem.operands[stage.inputs[i]].layout)) return Answer::no("operands must be row-major");
  }
  if (problem.results.size() != 1) return Answer::no("not one result");
  if (!row_major_or_any(problem.results[0].layout)) return Answer::no("the result must be row-major");
  return Answer::yes();
}

double cost(const Kernel&, const Problem& problem, std::span<const int64_t> symbols, const DeviceSpec&) {
  return 2000 + 40 * elements_at(problem.types[problem.first_result[0]], symbols);
}

struct Plan {
  std::shared_ptr<const FourierPlan> transform;
  int64_t length = 1;
  // Line l reads `taken` numbers from (l / inner) * outer_in + l % inner * step_in on, stride_in apart, and writes
  // `bins` numbers likewise; each number has `parts` floats.
  int64_t lines = 0, inner = 1;
  int64_t outer_in = 0, step_in = 0, stride_in = 1, taken = 0, parts_in = 1;
  int64_t outer_out = 0, step_out = 0, stride_out = 1, bins = 0, parts_out = 2;
  bool mirrored = false;  // the second half follows from the first
  double scale = 1;
  int window = -1;          // operand
  int64_t window_size = 0;  // beyond it the window is 0
};

const Tensor* host_of(const BindContext& c, size_t input) {
  const Stage& stage = c.problem.stages[0];
  if (input >= stage.inputs.size() || stage.inputs[input] == absent_operand) return nullptr;
  return c.host[stage.inputs[input]];
}

int64_t number(const Tensor* t, int64_t otherwise) {
  if (!t) return otherwise;
  if (t->count() != 1) throw Error(Code::invalid_argument, "a length, step or axis must be one number");
  return t->get_integer(0);
}

[[noreturn]] void mismatch() {
  throw Error(Code::invalid_argument, "the extents of a Fourier transform do not fit together");
}

void finish(Plan& p, const BindContext& c, bool inverse, Bound& bound) {
  p.transform = std::make_shared<FourierPlan>(p.length, inverse);
  if (inverse) p.scale = 1 / static_cast<double>(p.length);
  const int64_t work = checked_mul(checked_mul(p.lines, p.length, "work"), 64, "work");
  bound.chunks[0] = chunks_for(work, p.lines, c.threads);
  bound.scratch = byte_size(DType::f64, checked_add(2 * p.length, p.transform->work_size(), "scratch"));
}

void dft_bind(const Kernel&, const void*, const BindContext& c, Bound& bound) {
  const Stage& stage = c.problem.stages[0];
  const DFTAttrs& attrs = stage.attrs.as<DFTAttrs>();
  const Dims &x = c.operands[stage.inputs[0]], &y = c.results[0];
  Plan& p = emplace<Plan>(bound);
  bound.chunks[0] = 0;
  const auto rank = static_cast<int64_t>(x.size());
  int64_t axis = number(host_of(c, 2), -2);
  if (axis < 0) axis += rank;
  if (axis < 0 || axis + 1 >= rank || y.size() != x.size()) mismatch();
  if (product(y) == 0) return;
  const auto a = static_cast<size_t>(axis);
  const int64_t in = x[a];
  p.length = number(host_of(c, 1), attrs.inverse && attrs.one_sided ? checked_mul(2, in - 1, "length") : in);
  if (p.length < 1) mismatch();
  p.mirrored = attrs.inverse && attrs.one_sided;
  p.bins = attrs.one_sided && !attrs.inverse ? p.length / 2 + 1 : p.length;
  p.parts_in = x.back();
  p.parts_out = p.mirrored ? 1 : 2;
  for (size_t k = 0; k + 1 < x.size(); ++k)
    if (k != a && x[k] != y[k]) mismatch();
  if (p.parts_in < 1 || p.parts_in > 2 || y.back() != p.parts_out || y[a] != p.bins) mismatch();
  p.inner = product(x, a + 1, x.size() - 1);
  p.taken = std::min(in, p.mirrored ? p.length / 2 + 1 : p.length);
  p.step_in = p.parts_in;
  p.step_out = p.parts_out;
  p.stride_in = p.inner * p.parts_in;
  p.stride_out = p.inner * p.parts_out;
  p.outer_in = checked_mul(in, p.stride_in, "operand");
  p.outer_out = p.bins * p.stride_out;
  p.lines = checked_mul(product(x, 0, a), p.inner, "lines");
  finish(p, c, attrs.inverse, bound);
}

void stft_bind(const Kernel&, const void*, const BindContext& c, Bound& bound) {
  const Stage& stage = c.problem.stages[0];
  const Dims &x = c.operands[stage.inputs[0]], &y = c.results[0];
  Plan& p = emplace<Plan>(bound);
  bound.chunks[0] = 0;
  if (product(y) == 0) return;
  if (stage.inputs.size() > 2 && stage.inputs[2] != absent_operand) {
    p.window = stage.inputs[2];
    p.window_size = c.operands[stage.inputs[2]][0];
  }
  const int64_t step = number(host_of(c, 1), 1);
  p.length = number(host_of(c, 3), p.window >= 0 ? p.window_size : x[1]);
  p.bins = stage.attrs.as<STFTAttrs>().one_sided ? p.length / 2 + 1 : p.length;
  p.inner = y[1];  // frames
  if (p.length < 1 || step < 1 || x[2] < 1 || x[2] > 2 || y[0] != x[0] || y[2] != p.bins || y[3] != 2 ||
      p.length > x[1] || checked_add(checked_mul(p.inner - 1, step, "frames"), p.length, "frames") > x[1])
    mismatch();
  p.parts_in = x[2];
  p.taken = p.length;
  p.stride_in = p.parts_in;
  p.step_in = p.inner > 1 ? step * p.parts_in : 0;  // a single frame may stand before a step of any size
  p.outer_in = x[1] * p.parts_in;
  p.stride_out = 2;
  p.step_out = 2 * p.bins;
  p.outer_out = p.inner * p.step_out;
  p.lines = checked_mul(x[0], p.inner, "lines");
  finish(p, c, false, bound);
}

Status run(const Launch& launch) {
  const Plan& p = launch.bound->as<Plan>();
  const auto* x = static_cast<const float*>(launch.operands[launch.problem->stages[0].inputs[0]]);
  auto* y = static_cast<float*>(launch.operands[launch.problem->operands.size()]);
  const float* window = p.window < 0 ? nullptr : static_cast<const float*>(launch.operands[p.window]);
  auto* re = reinterpret_cast<double*>(launch.scratch);
  double *im = re + p.length, *work = im + p.length;
  const Range lines = part(p.lines, launch.bound->chunks[0], launch.chunk);
  for (int64_t l = lines.begin; l < lines.end; ++l) {
    const float* from = p.taken > 0 ? x + l / p.inner * p.outer_in + l % p.inner * p.step_in : x;
    for (int64_t k = 0; k < p.length; ++k) {
      const bool inside = k < p.taken;
      re[k] = inside ? double{from[k * p.stride_in]} : 0;
      im[k] = inside && p.parts_in == 2 ? double{from[k * p.stride_in + 1]} : 0;
      if (p.window >= 0) {
        const double w = k < p.window_size ? double{window[k]} : 0;
        re[k] *= w;
        im[k] *= w;
      }
    }
    if (p.mirrored) {
      im[0] = 0;
      if (p.length % 2 == 0) im[p.length / 2] = 0;
      for (int64_t k = 1; k < p.length - k; ++k) {
        re[p.length - k] = re[k];
        im[p.length - k] = -im[k];
      }
    }
    p.transform->run(re, im, work);
    float* to = y + l / p.inner * p.outer_out + l % p.inner * p.step_out;
    for (int64_t k = 0; k < p.bins; ++k) {
      to[k * p.stride_out] = static_cast<float>(re[k] * p.scale);
      if (p.parts_out == 2) to[k * p.stride_out + 1] = static_cast<float>(im[k] * p.scale);
    }
  }
  return {};
}

constexpr Kernel rows[] = {
    {.name = "dft_f32",
     .supports = [](const Kernel&, const Problem& problem,
                    const DeviceSpec&) { return lines_supported(problem, "DFT"); },
     .needs = settled_needs,
     .cost = cost,
     .bind = dft_bind,
     .run = run},
    {.name = "stft_f32",
     .supports = [](const Kernel&, const Problem& problem,
                    const DeviceSpec&) { return lines_supported(problem, "STFT"); },
     .needs = settled_needs,
     .cost = cost,
     .bind = stft_bind,
     .run = run},
};

}  // namespace

std::span<const Kernel> signal_kernels() { return rows; }

}  // namespace sinter::cpu
