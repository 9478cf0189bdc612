// Each step against the definitions of its operators, on what it really read.

#include <fmt/core.h>

#include <algorithm>
#include <cstring>

#include "backend/definition.h"
#include "base/checked.h"
#include "tensor/convert.h"
#include "tune/bisect.h"

namespace sinter {
namespace {

// Packed weights back in row-major order; see tensor/layout.h for how panels lie.
Tensor unpack(const Layout& layout, const Tensor& packed) {
  const Dims& dims = packed.dims();
  const size_t rank = dims.size();
  const bool conv = layout.kind == Layout::Kind::conv_panels && !layout.transposed;
  int64_t matrices = layout.groups, taps = 1, k, n, turned = 1;  // turned: taps of transposed convolutions
  std::vector<int64_t> by_phase;
  if (!layout.phases.empty()) {
    by_phase = taps_by_phase(layout, std::span(dims).subspan(2));
    taps = static_cast<int64_t>(by_phase.size());
    n = dims[1];
    k = dims[0] / layout.groups;
  } else if (layout.kind == Layout::Kind::conv_panels && layout.transposed) {
    for (size_t a = 2; a < rank; ++a) turned *= dims[a];
    n = turned * dims[1];
    k = dims[0] / layout.groups;
  } else if (conv) {
    n = dims[0] / layout.groups;
    k = dims[1];
    for (size_t a = 2; a < rank; ++a) taps *= dims[a];
  } else {
    matrices = 1;
    for (size_t a = 0; a + 2 < rank; ++a) matrices *= dims[a];
    n = dims[layout.transposed ? rank - 2 : rank - 1];
    k = dims[layout.transposed ? rank - 1 : rank - 2];
  }
  Tensor out(packed.dtype(), dims);
  const auto element = [&](int64_t m, int64_t t, int64_t row, int64_t column) {
    if (!by_phase.empty()) return ((m * k + row) * n + column) * taps + by_phase[static_cast<size_t>(t)];
    return conv                                       ? ((m * n + column) * k + row) * taps + t
           : layout.kind == Layout::Kind::conv_panels ? (m * k + row) * n + column % dims[1] * turned + column / dims[1]
           : layout.transposed                        ? (m * n + column) * k + row
                                                      : (m * k + row) * n + column;
  };
  const auto width = static_cast<size_t>(bit_size(packed.dtype()) / 8);
  const auto* from = packed.as<std::byte>();
  auto* to = out.as_mutable<std::byte>();
  const bool bytes = is_byte(packed.dtype()), plain = layout.numbers == PanelNumbers::plain;
  const BytePanels panels{taps * k, n, layout.width, layout.lanes};
  const bool halves = layout.numbers == PanelNumbers::f16 || layout.numbers == PanelNumbers::f16_plane;
  const auto number = [&](uint16_t bits) { return halves ? half_to_float(bits) : bfloat_to_float(bits); };
  const int planes = plane_count(layout.numbers);
  const int64_t depth = planes > 0 ? taps / layout.run * align_up(k * layout.run, 32) : taps * k;
  const int64_t matrix_size = bytes ? panels.bytes() : align_up(n, layout.lanes) * depth * std::max(planes, 1);
  for (int64_t m = 0; m < matrices; ++m)
    for (int64_t first = 0; first < n; first += layout.width) {
      const int64_t columns = std::min<int64_t>(layout.width, n - first), stored = align_up(columns, layout.lanes);
      for (int64_t t = 0; t < taps; ++t)
        for (int64_t row = 0; row < k; ++row)
          for (int64_t c = 0; c < columns; ++c) {
            const int64_t column = first + c;
            const auto target = static_cast<size_t>(element(m, t, row, column));
            if (planes > 0) {
              const int64_t at = t % layout.run * k + row;  // in its row of taps
              const int64_t step = t / layout.run * (align_up(k * layout.run, 32) / 32) + at / 32;
              const auto* tile = packed.as<uint16_t>() + m * matrix_size + first * depth * planes +
                                 (step * (stored / 16) + c / 16) * planes * 512;
              float sum = 0;
              for (int plane = 0; plane < planes; ++plane)
                sum += number(tile[plane * 512 + at % 32 / 2 * 32 + c % 16 * 2 + at % 2]);
              std::memcpy(to + target * width, &sum, width);
              continue;
            }
            const int64_t source = m * matrix_size + (bytes ? panels.at(t * k + row, column)
                                                            : first * k * taps + (t * k + row) * stored + c);
            if (plain) {
              std::memcpy(to + target * width, from + static_cast<size_t>(source) * width, width);
              continue;
            }
            const float x = number(packed.as<uint16_t>()[source]);
            std::memcpy(to + target * width, &x, width);
          }
    }
  if (packed.dtype() == DType::u8)  // they lie as signed bytes
    for (int64_t i = 0; i < out.count(); ++i) to[i] ^= std::byte{0x80};
  return out;
}

// A slot's value row-major, whatever its layout.
Box value_of(const Frame& frame, uint32_t s) {
  const Slot& slot = frame.slot(s);
  if (slot.layout.has_strides()) {
    Box box = frame.snapshot(s);
    if (box.kind == Box::Kind::tensor && box.tensor.dtype() != DType::string) box.tensor = box.tensor.clone();
    return box;
  }
  if (bit_size(slot.type.dtype) < 8) throw Error(Code::unsupported, "packed elements below a byte");
  return Box(unpack(slot.layout, Tensor(slot.type.dtype, frame.extents(s), frame.pointer(s), nullptr)));
}

class Judge final : public StepObserver {
 public:
  explicit Judge(const Tolerance& tolerance) : tolerance_(tolerance) {}

  std::optional<StepFault> fault;

  void before(const Frame& frame, const Step& step, uint32_t) override {
    operands_.clear();
    readable_ = true;
    try {
      for (uint32_t s : step.operands) operands_.push_back(s == no_slot ? Box() : value_of(frame, s));
    } catch (const Error&) {
      readable_ = false;
    }
  }

  void after(const Frame& frame, const Step& step, uint32_t choice) override {
    ++number_;
    if (!readable_ || fault) return;
    const Target& target = frame.executable().target;
    const Problem& problem = target.problems[step.choices[choice].problem];
    for (const Stage& stage : problem.stages)
      if (!stage.op->is.deterministic) return;
    std::vector<Box> expected;
    try {
      expected = evaluate(frame, step, step.choices[choice], problem);
    } catch (const Error&) {
      return;  // a fault in the data is reported by the run itself
    }
    for (size_t r = 0; r < expected.size(); ++r) {
      Compared compared;
      try {
        compared = compare_values(value_of(frame, step.results[r]), expected[r], tolerance_);
      } catch (const Error&) {
        continue;
      }
      if (compared.agrees) continue;
      compared.kernel = target.kernels[step.choices[choice].kernel];
      compared.node = sources_text(target, step.sources);
      fault = StepFault{std::move(compared), to_text(problem), sources_text(target, step.sources), number_};
      return;
    }
  }

 private:
  std::vector<Box> evaluate(const Frame& frame, const Step& step, const Choice& choice, const Problem& problem) const {
    std::vector<int64_t> symbols;
    for (SymbolId id : choice.symbols) symbols.push_back(frame.state().symbols[id]);
    symbols.resize(problem.symbols.size(), -1);
    std::vector<Box> values(problem.types.size());
    std::vector<const Box*> pointers(problem.types.size(), nullptr);
    for (size_t i = 0; i < problem.operands.size(); ++i) {
      const Operand& operand = problem.operands[i];
      if (const auto* tensor = std::get_if<Tensor>(&operand.contents)) {
        values[i] = Box(*tensor);
      } else if (const auto* dims = std::get_if<std::vector<Dim>>(&operand.contents)) {
        Tensor tensor(operand.type.dtype, sinter::evaluate(*operand.type.shape, symbols));
        for (size_t k = 0; k < dims->size(); ++k)
          tensor.set_integer(static_cast<int64_t>(k), (*dims)[k].evaluate(symbols));
        values[i] = Box(std::move(tensor));
      } else if (i < step.operands.size() && step.operands[i] != no_slot) {
        values[i] = operands_[i];
      }
      pointers[i] = &values[i];
    }
    evaluate_stages(problem, pointers, values);
    std::vector<Box> out;
    for (const Problem::Result& result : problem.results) out.push_back(values[result.value]);
    return out;
  }

  const Tolerance tolerance_;
  std::vector<Box> operands_;
  bool readable_ = false;
  size_t number_ = 0;
};

}  // namespace

std::optional<StepFault> judge_steps(std::shared_ptr<const Engine> engine, std::span<const Box> inputs, int threads,
                                     const Control* control, const Tolerance& tolerance) {
  Judge judge(tolerance);
  run_once(std::move(engine), inputs, threads, control, &judge);
  return std::move(judge.fault);
}

}  // namespace sinter
