#include "backend/accept.h"

#include <fmt/core.h>

#include <algorithm>
#include <cmath>
#include <cstring>

#include "backend/definition.h"
#include "base/checked.h"
#include "ops/arrays.h"
#include "ops/contraction.h"
#include "tensor/convert.h"

namespace sinter {
namespace {

Tensor host_contents(const Operand& operand, std::span<const int64_t> symbols) {
  if (const auto* tensor = std::get_if<Tensor>(&operand.contents)) return *tensor;
  const auto& dims = std::get<std::vector<Dim>>(operand.contents);
  Tensor out(operand.type.dtype, evaluate(*operand.type.shape, symbols));
  for (size_t i = 0; i < dims.size(); ++i) out.set_integer(static_cast<int64_t>(i), dims[i].evaluate(symbols));
  return out;
}

Type concrete(const Type& type, std::span<const int64_t> symbols) {
  Shape shape;
  for (int64_t d : evaluate(*type.shape, symbols)) shape.emplace_back(d);
  return Type::tensor(type.dtype, std::move(shape));
}

// Calls `visit(flat, offset)` for every element: row-major number and position in a strided layout.
template <typename F>
void for_layout(const Layout& layout, const Dims& dims, F visit) {
  const Dims strides = layout_strides(layout, dims);
  const int64_t count = element_count(dims);
  Dims at(dims.size(), 0);
  int64_t offset = 0;
  for (int64_t n = 0; n < count; ++n) {
    visit(n, offset);
    for (size_t k = at.size(); k-- > 0;) {
      offset += strides[k];
      if (++at[k] < dims[k]) break;
      offset -= strides[k] * at[k];
      at[k] = 0;
    }
  }
}

// Each plane the nearest bf16 of what the planes before it leave; what rounds to infinity waits for the last plane.
void split_number(float x, int planes, std::byte* to, int64_t plane_bytes) {
  for (int plane = 0; plane < planes; ++plane) {
    uint16_t bits = float_to_bfloat(x);
    if (plane + 1 < planes && (bits & 0x7fff) == 0x7f80) bits = static_cast<uint16_t>((bits & 0x8000) | 0x7f7f);
    std::memcpy(to + plane * plane_bytes, &bits, 2);
    x -= bfloat_to_float(bits);
  }
}

// number(matrix, tap, k, column) into panels of planes, as tensor/layout.h has them.
template <typename F>
void split_into_planes(const Layout& layout, int64_t matrices, int64_t taps, int64_t k, int64_t n, std::byte* to,
                       F number) {
  constexpr int64_t depth = 32, tile = 16, tile_bytes = depth * tile * 2;
  const int64_t row = k * layout.run;  // of one tap
  const int planes = plane_count(layout.numbers);
  for (int64_t m = 0; m < matrices; ++m)
    for (int64_t panel = 0; panel < n; panel += layout.width)
      for (int64_t tap = 0; tap < taps / layout.run; ++tap)
        for (int64_t step = 0; step < row; step += depth)
          for (int64_t first = panel; first < std::min(n, panel + layout.width); first += tile) {
            for (int64_t r = 0; r < depth; ++r)
              for (int64_t c = 0; c < tile; ++c) {
                const int64_t at = step + r;
                const bool inside = at < row && first + c < n;
                const float x = inside ? number(m, tap * layout.run + at / k, at % k, first + c) : 0.0f;
                auto* const place = to + r / 2 * tile * 4 + c * 4 + r % 2 * 2;
                if (layout.numbers == PanelNumbers::f16_plane) {
                  const uint16_t bits = float_to_half(x);
                  std::memcpy(place, &bits, 2);
                } else {
                  split_number(x, planes, place, tile_bytes);
                }
              }
            to += planes * tile_bytes;
          }
}

// Weights [C, N, taps...] of a transposed convolution as matrices [groups, C / groups, taps * N].
Tensor as_matrices(const Tensor& weights, int64_t groups, size_t width) {
  const Dims& dims = weights.dims();
  const int64_t n = dims[1], taps = weights.count() / std::max<int64_t>(1, dims[0] * n);
  Tensor out(weights.dtype(), {groups, dims[0] / groups, taps * n});
  const auto* from = weights.as<std::byte>();
  auto* to = out.as_mutable<std::byte>();
  for (int64_t at = 0; at < out.count(); ++at, to += width) {
    const int64_t row = at / (taps * n), tap = at / n % taps;
    std::memcpy(to, from + static_cast<size_t>((row * n + at % n) * taps + tap) * width, width);
  }
  return out;
}

// The same as weights [groups * N, C / groups, taps] of a convolution, with taps by phases.
Tensor as_phases(const Tensor& weights, const Layout& layout, size_t width) {
  const Dims& dims = weights.dims();
  const std::vector<int64_t> taps = taps_by_phase(layout, std::span(dims).subspan(2));
  const int64_t k = dims[0] / layout.groups, n = dims[1], count = static_cast<int64_t>(taps.size());
  Tensor out(weights.dtype(), {layout.groups * n, k, count});
  const auto* from = weights.as<std::byte>();
  auto* to = out.as_mutable<std::byte>();
  for (int64_t column = 0; column < layout.groups * n; ++column)
    for (int64_t row = 0; row < k; ++row)
      for (const int64_t tap : taps) {
        const int64_t at = ((column / n * k + row) * n + column % n) * count + tap;
        std::memcpy(to, from + static_cast<size_t>(at) * width, width);
        to += width;
      }
  return out;
}

Tensor in_panels(const Tensor& tensor, const Layout& layout, size_t width) {
  if (!layout.phases.empty()) {
    const Layout panels = Layout::conv_panels(layout.width, layout.lanes, layout.groups, layout.numbers);
    return in_panels(as_phases(tensor, layout, width), panels, width);
  }
  if (layout.kind == Layout::Kind::conv_panels && layout.transposed) {
    const Layout matrices = Layout::matrix_panels(layout.width, layout.lanes, false, layout.numbers);
    return in_panels(as_matrices(tensor, layout.groups, width), matrices, width);
  }
  const Dims& dims = tensor.dims();
  const size_t rank = dims.size();
  Tensor out(DType::u8, {layout_bytes(layout, tensor.dtype(), dims)});
  auto* to = out.as_mutable<std::byte>();
  const auto* from = tensor.as<std::byte>();
  const bool conv = layout.kind == Layout::Kind::conv_panels;
  const Dims strides = dense_strides(dims);
  int64_t matrices = 1, taps = 1, k = 0, n = 0, k_stride = 0, n_stride = 0, tap_stride = 1, matrix_stride = 0;
  if (conv) {
    matrices = layout.groups;
    n = dims[0] / layout.groups;
    k = dims[1];
    for (size_t a = 2; a < rank; ++a) taps *= dims[a];
    n_stride = strides[0];
    k_stride = strides[1];
    matrix_stride = n * n_stride;
  } else {
    const size_t k_axis = layout.transposed ? rank - 1 : rank - 2, n_axis = layout.transposed ? rank - 2 : rank - 1;
    for (size_t a = 0; a + 2 < rank; ++a) matrices *= dims[a];
    k = dims[k_axis];
    n = dims[n_axis];
    k_stride = strides[k_axis];
    n_stride = strides[n_axis];
    matrix_stride = k * n;
  }
  if (tensor.count() == 0) return out;
  if (is_byte(tensor.dtype())) {
    const BytePanels panels{taps * k, n, layout.width, layout.lanes};
    const uint8_t turn = tensor.dtype() == DType::u8 ? 0x80 : 0;
    for (int64_t m = 0; m < matrices; ++m, to += panels.bytes())
      for (int64_t c = 0; c < n; ++c) {
        int32_t sum = 0;
        for (int64_t t = 0; t < taps; ++t)
          for (int64_t r = 0; r < k; ++r) {
            const int64_t at = m * matrix_stride + t * tap_stride + r * k_stride + c * n_stride;
            const auto byte = static_cast<int8_t>(static_cast<uint8_t>(from[at]) ^ turn);
            std::memcpy(to + panels.at(t * k + r, c), &byte, 1);
            sum += byte;
          }
        std::memcpy(to + panels.sum_at(c), &sum, 4);
      }
    return out;
  }
  if (plane_count(layout.numbers) > 0) {
    const auto* numbers = tensor.as<float>();
    split_into_planes(layout, matrices, taps, k, n, to, [&](int64_t m, int64_t t, int64_t r, int64_t c) {
      return numbers[m * matrix_stride + t * tap_stride + r * k_stride + c * n_stride];
    });
    return out;
  }
  for (int64_t m = 0; m < matrices; ++m)
    for (int64_t first = 0; first < n; first += layout.width) {
      const int64_t columns = std::min<int64_t>(layout.width, n - first);
      const int64_t stored = (columns + layout.lanes - 1) / layout.lanes * layout.lanes;
      for (int64_t t = 0; t < taps; ++t)
        for (int64_t r = 0; r < k; ++r) {
          for (int64_t c = 0; c < columns; ++c) {
            const int64_t at = m * matrix_stride + t * tap_stride + r * k_stride + (first + c) * n_stride;
            if (layout.numbers == PanelNumbers::plain) {
              std::memcpy(to + static_cast<size_t>(c) * width, from + static_cast<size_t>(at) * width, width);
              continue;
            }
            const float x = tensor.as<float>()[at];
            const uint16_t bits = layout.numbers == PanelNumbers::f16 ? float_to_half(x) : float_to_bfloat(x);
            std::memcpy(to + c * 2, &bits, 2);
          }
          to += static_cast<size_t>(stored) * (layout.numbers == PanelNumbers::plain ? width : 2);
        }
    }
  return out;
}

Tensor from_layout(const Tensor& bytes, DType dtype, const Dims& dims, const Layout& layout) {
  Tensor out(dtype, dims);
  const auto width = static_cast<size_t>(bit_size(dtype) / 8);
  const auto* from = bytes.as<std::byte>();
  auto* to = out.as_mutable<std::byte>();
  for_layout(layout, dims, [&](int64_t n, int64_t offset) {
    std::memcpy(to + static_cast<size_t>(n) * width, from + static_cast<size_t>(offset) * width, width);
  });
  return out;
}

// Operators that sum products of their operands.
bool is_sum(const Op& op) {
  static constexpr std::string_view names[] = {"MatMul",    "Conv",       "ConvTranspose", "DeformConv", "Einsum",
                                               "ReduceSum", "ReduceMean", "CumSum",        "AveragePool"};
  return std::find(std::begin(names), std::end(names), op.name) != std::end(names);
}

// sum |a| |b| of the first stage, where it is such a sum of the problem's operands.
std::optional<Tensor> magnitudes(const Problem& problem, std::span<const Tensor> operands) {
  const Stage& stage = problem.stages[0];
  if (!is_sum(*stage.op) || !is_float(problem.types[problem.first_result[0]].dtype)) return std::nullopt;
  std::vector<Box> boxes(stage.inputs.size());
  std::vector<const Box*> inputs(stage.inputs.size(), nullptr);
  for (size_t i = 0; i < stage.inputs.size(); ++i) {
    if (stage.inputs[i] == absent_operand) continue;
    if (stage.inputs[i] >= operands.size()) return std::nullopt;
    Tensor copy = operands[stage.inputs[i]].clone();
    const bool places = i == 2 && std::string_view(stage.op->name) == "DeformConv";  // no factors
    if (is_float(copy.dtype()) && !places)
      for (int64_t n = 0; n < copy.count(); ++n) copy.set_real(n, std::abs(copy.get_real(n)));
    boxes[i] = Box(std::move(copy));
    inputs[i] = &boxes[i];
  }
  return evaluate_op(*stage.op, stage.attrs, inputs, stage.outputs)[0].tensor;
}

// How far products may be off, as a part of sum |a| |b|, by how a contraction may multiply.
double error_of(Numerics numerics) {
  switch (numerics) {
    case Numerics::strict: return 3e-6;
    case Numerics::tf32: return 3.1e-5;  // two planes: 2^-17 of each operand, and the product of the second ones
    case Numerics::fp16: return 1e-3;    // each operand is off by 2^-11 of itself at most
    case Numerics::bf16: break;
  }
  return 8e-3;  // by 2^-8
}

// The contractions of a problem, by stage.
std::vector<size_t> contractions_of(const Problem& problem) {
  std::vector<size_t> out;
  for (size_t s = 0; s < problem.stages.size(); ++s)
    if (numerics_of(problem.stages[s].attrs)) out.push_back(s);
  return out;
}

// How far a result may be off, as a part of the largest operand squared, when it is made of products of products: each
// product of a sum may be off by `error`, in any direction.
double error_through(const Problem& problem, const std::vector<size_t>& contractions, double error,
                     std::span<const int64_t> symbols) {
  if (contractions.size() < 2) return 0;
  for (size_t s : contractions) {
    const Stage& stage = problem.stages[s];
    if (std::string_view(stage.op->name) != "Conv") {
      const Shape& factor = *problem.types[problem.stages[contractions[0]].inputs[0]].shape;
      const double depth = factor.empty() ? 1 : static_cast<double>(factor.back().evaluate(symbols));
      return error * std::sqrt(std::max(1.0, depth));
    }
    // What lies between convolutions in bf16 may be rounded to the neighbour.
    if (s != contractions[0] && problem.types[stage.inputs[0]].dtype == DType::bf16) error += 0x1p-8;
    // Convolutions one after the other: each makes what it reads, and the error of it, larger. A third: the mean square
    // of the weights.
    const Shape& weights = *problem.types[stage.inputs[1]].shape;
    double depth = 1;
    for (size_t k = 1; k < weights.size(); ++k) depth *= static_cast<double>(weights[k].evaluate(symbols));
    error *= std::sqrt(std::max(1.0, depth / 3));
  }
  return error;
}

struct Bounds {
  double relative = 1e-5, absolute = 0;
  const Tensor* magnitude = nullptr;
  double of_magnitude = 0;
};

Answer compare(const Tensor& made, const Tensor& expected, const Bounds& bounds, size_t result) {
  const DType dtype = expected.dtype();
  const bool sized = bounds.magnitude && bounds.magnitude->dims() == expected.dims();
  double worst = 1;
  int64_t at = -1;
  // Narrow numbers beside a border of rounding may be rounded to the other side: one step, and few of them are.
  const double unit = dtype == DType::f16 ? 1e-3 : dtype == DType::bf16 ? 8e-3 : 0;
  int64_t other_side = 0;
  for (int64_t i = 0; i < expected.count(); ++i) {
    double excess;
    if (!is_float(dtype)) {
      const int64_t difference = made.get_integer(i) - expected.get_integer(i);
      // A value that a float stage made may round to the neighbour.
      const int64_t allowed = bounds.of_magnitude > 0 && dtype != DType::boolean ? 1 : 0;
      excess = std::abs(difference) <= allowed ? 0 : 2;
    } else {
      const double a = made.get_real(i), e = expected.get_real(i);
      if (a == e || (std::isnan(a) && std::isnan(e))) continue;
      // A mean over nothing has no magnitude.
      const double magnitude = sized ? bounds.magnitude->get_real(i) : 0;
      const double allowed = bounds.relative * std::abs(e) + bounds.absolute +
                             (std::isfinite(magnitude) ? bounds.of_magnitude * magnitude : 0);
      other_side += std::abs(a - e) > allowed;
      excess = std::abs(a - e) / std::max(allowed + unit * std::abs(e), 1e-30);
      if (std::isnan(excess)) excess = INFINITY;
    }
    if (excess <= worst) continue;
    worst = excess;
    at = i;
  }
  if (at < 0 && other_side > 4 + expected.count() / 32)
    return Answer::no(fmt::format("result {}: {} elements of {} are not the nearest {}", result, other_side,
                                  type_text(expected), dtype_name(dtype)));
  if (at < 0) return Answer::yes();
  return Answer::no(
      fmt::format("result {}, element {} of {}: {} where the definition gives {} ({:.2g} times the bound)", result, at,
                  type_text(expected), made.get_real(at), expected.get_real(at), worst));
}

std::vector<Tensor> as_bytes(std::vector<Tensor> tensors) {
  for (Tensor& t : tensors) t = Tensor(DType::u8, Dims{t.bytes()}, t.data(), t.owner());
  return tensors;
}

}  // namespace

std::vector<Tensor> sample_operands(const Problem& problem, std::span<const int64_t> symbols, uint64_t seed) {
  std::vector<Tensor> out(problem.operands.size());
  std::vector<bool> made(problem.operands.size(), false);
  for (size_t i = 0; i < out.size(); ++i)
    if (!std::holds_alternative<std::monostate>(problem.operands[i].contents)) {
      out[i] = host_contents(problem.operands[i], symbols);
      made[i] = true;
    }
  for (const Stage& stage : problem.stages) {
    if (!stage.op->sample) continue;
    std::vector<Type> types;
    for (uint16_t v : stage.inputs) types.push_back(v == absent_operand ? Type() : concrete(problem.types[v], symbols));
    for (size_t i = 0; i < stage.inputs.size(); ++i) {
      const uint16_t v = stage.inputs[i];
      if (v >= out.size() || made[v]) continue;
      out[v] = stage.op->sample(*stage.op, stage.attrs, i, types, seed * 31 + v);
      made[v] = true;
    }
  }
  for (size_t i = 0; i < out.size(); ++i)
    if (!made[i]) out[i] = sample_uniform(concrete(problem.operands[i].type, symbols), seed * 31 + i, -1, 1);
  return out;
}

Problem settle(const Problem& problem, const Kernel& kernel, const DeviceSpec& device) {
  const Needs needs = kernel.needs(kernel, problem, Config(), device);
  Problem out = problem;
  for (size_t i = 0; i < out.operands.size(); ++i) out.operands[i].layout = needs.operands[i];
  for (size_t i = 0; i < out.results.size(); ++i) out.results[i].layout = needs.results[i];
  return out;
}

Tensor in_layout(const Tensor& tensor, const Layout& layout) {
  const auto width = static_cast<size_t>(bit_size(tensor.dtype()) / 8);
  if (!layout.has_strides()) return in_panels(tensor, layout, width);
  Tensor out(DType::u8, {layout_bytes(layout, tensor.dtype(), tensor.dims())});
  auto* to = out.as_mutable<std::byte>();
  // What lies between rows is as untouched memory, and no number.
  if (layout.pitch && out.bytes() > 0)
    std::memset(to, static_cast<int>(untouched_memory), static_cast<size_t>(out.bytes()));
  const auto* from = tensor.as<std::byte>();
  for_layout(layout, tensor.dims(), [&](int64_t n, int64_t offset) {
    std::memcpy(to + static_cast<size_t>(offset) * width, from + static_cast<size_t>(n) * width, width);
  });
  return out;
}

std::vector<Tensor> run_kernel(const Problem& problem, const Kernel& kernel, const DeviceSpec& device,
                               std::span<const int64_t> symbols, std::span<const Tensor> operands,
                               std::optional<size_t> over, KernelRun::Start start) {
  const KernelRun run(problem, kernel, device, symbols, operands, KernelRun::Fence::page, over, start);
  run.run();
  return kernel.takes_boxes ? as_bytes(run.results()) : run.results();
}

std::vector<Tensor> run_reference(const Problem& problem, std::span<const int64_t> symbols,
                                  std::span<const Tensor> operands) {
  (void)symbols;
  std::vector<Box> values(problem.types.size());
  std::vector<const Box*> pointers(problem.types.size(), nullptr);
  for (size_t i = 0; i < operands.size(); ++i) {
    values[i] = Box(operands[i]);
    pointers[i] = &values[i];
  }
  evaluate_stages(problem, pointers, values);
  std::vector<Tensor> out;
  for (const Problem::Result& result : problem.results) out.push_back(values[result.value].tensor);
  return out;
}

Expectation::Expectation(const Problem& problem, std::span<const int64_t> symbols, uint64_t seed)
    : operands_(sample_operands(problem, symbols, seed)), results_(run_reference(problem, symbols, operands_)) {
  const std::vector<size_t> contractions = contractions_of(problem);
  double error = error_of(Numerics::strict);
  for (size_t s : contractions) error = std::max(error, error_of(*numerics_of(problem.stages[s].attrs)));
  if (contractions.size() < 2) magnitudes_ = magnitudes(problem, operands_);
  of_magnitude_ = error + (problem.stages.size() > 1 ? 5e-6 : 0);
  double largest = 1;
  for (const Tensor& t : operands_)
    if (is_float(t.dtype()))
      for (int64_t i = 0; i < t.count(); ++i) largest = std::max(largest, std::abs(t.get_real(i)));
  absolute_ = 1e-6 * largest + error_through(problem, contractions, error, symbols) * largest * largest;
  // Errors of the state go through every step.
  const std::string_view first = problem.stages[0].op->name;
  if (first == "LSTM" || first == "GRU" || first == "RNN") absolute_ = 3e-5;
}

Answer Expectation::accept(const Problem& problem, const Kernel& kernel, const DeviceSpec& device,
                           std::span<const int64_t> symbols, std::vector<Tensor>* made) const {
  if (&kernel == reference_backend().kernels()[0]) return Answer::yes();  // the definition itself
  try {
    const Problem settled = settle(problem, kernel, device);
    if (Answer a = kernel.supports(kernel, settled, device); !a)
      return Answer::no("it refuses the layouts that it needs: " + a.reason());
    if (to_text(settle(settled, kernel, device)) != to_text(settled))
      return Answer::no("it changes layouts that are fixed");
    const KernelRun run(settled, kernel, device, symbols, operands_, KernelRun::Fence::page);
    run.run();
    std::vector<Tensor> results = run.results();
    if (made) *made = kernel.takes_boxes ? as_bytes(results) : results;
    if (kernel.takes_boxes)
      for (size_t r = 0; r < results.size(); ++r) {
        if (results[r].dims() != results_[r].dims())
          return Answer::no(fmt::format("result {} is {} where the definition gives {}", r, type_text(results[r]),
                                        type_text(results_[r])));
        results[r] = in_layout(results[r], Layout());
      }
    const bool moves = settled.stages.size() == 1 && settled.stages[0].op->is.moves_only;
    const Bounds bounds{
        .absolute = absolute_, .magnitude = magnitudes_ ? &*magnitudes_ : nullptr, .of_magnitude = of_magnitude_};
    for (size_t r = 0; r < results.size(); ++r) {
      const Tensor& expected = results_[r];
      const Layout& layout = settled.results[r].layout;
      if (moves || !layout.has_strides()) {
        if (!results[r].identical(in_layout(expected, layout)))
          return Answer::no(fmt::format("result {} has other bytes than the definition gives", r));
        continue;
      }
      const Tensor rows = from_layout(results[r], expected.dtype(), expected.dims(), layout);
      if (layout.pitch && !in_layout(rows, layout).identical(results[r]))
        return Answer::no(fmt::format("result {} is written between its rows", r));
      if (Answer a = compare(rows, expected, bounds, r); !a) return a;
    }
    return Answer::yes();
  } catch (const Error& error) {
    return Answer::no(error.what());
  }
}

Answer accept(const Problem& problem, const Kernel& kernel, const DeviceSpec& device, std::span<const int64_t> symbols,
              uint64_t seed) {
  try {
    return Expectation(problem, symbols, seed).accept(problem, kernel, device, symbols);
  } catch (const Error& error) {
    return Answer::no(error.what());
  }
}

}  // namespace sinter
