#include "onednn.h"

#if defined(SINTER_DNNL)

#include <oneapi/dnnl/dnnl.hpp>

#include <memory>
#include <string_view>

#include "ops/contraction.h"

namespace sinter::onednn {
namespace {

using dnnl::memory;

struct Machine {
  dnnl::engine engine{dnnl::engine::kind::cpu, 0};
  dnnl::stream stream{engine};
};

struct Ready {
  std::shared_ptr<Machine> machine = std::make_shared<Machine>();
  dnnl::primitive primitive;
  std::unordered_map<int, memory> arguments;
};

// Operands of the first stage, all of them device operands of the problem, f32 or bf16 and of known rank.
bool operands_of(const Problem& problem, std::span<const int64_t> symbols, std::vector<memory::dims>& out) {
  for (const uint16_t value : problem.stages[0].inputs) {
    if (value == absent_operand) continue;
    if (value >= problem.operands.size()) return false;
    const Operand& operand = problem.operands[value];
    const bool taken = operand.type.dtype == DType::f32 || operand.type.dtype == DType::bf16;
    if (operand.host || !taken || !operand.type.has_shape()) return false;
    const Dims dims = evaluate(*operand.type.shape, symbols);
    for (const int64_t d : dims)
      if (d == 0) return false;
    out.emplace_back(dims.begin(), dims.end());
  }
  return out.size() >= 2;
}

memory::desc any(const memory::dims& dims, memory::data_type type) { return {dims, type, memory::format_tag::any}; }

// Random numbers between -2 and 2, away from 0: the time of a product may depend on what is multiplied.
void fill(const memory& m, bool bf16) {
  const size_t bytes = m.get_desc().get_size();
  uint32_t state = 1;
  const auto next = [&] { return state = state * 1664525u + 1013904223u; };
  if (bf16) {
    auto* to = static_cast<uint16_t*>(m.get_data_handle());
    for (size_t i = 0; i < bytes / 2; ++i) to[i] = static_cast<uint16_t>(0x3f00 | (next() >> 16 & 0x80ff));
  } else {
    auto* to = static_cast<uint32_t*>(m.get_data_handle());
    for (size_t i = 0; i < bytes / 4; ++i) to[i] = 0x3f000000 | (next() & 0x80ffffff);
  }
}

// A primitive with memory of its own.
template <typename Descriptor>
std::function<void()> ready(const Descriptor& made, const std::shared_ptr<Machine>& machine, bool bias) {
  auto r = std::make_shared<Ready>();
  r->machine = machine;
  const auto add = [&](int argument, const memory::desc& desc) {
    memory m(desc, machine->engine);
    fill(m, desc.data_type() == memory::data_type::bf16);
    r->arguments.emplace(argument, std::move(m));
  };
  add(DNNL_ARG_SRC, made.src_desc());
  add(DNNL_ARG_WEIGHTS, made.weights_desc());
  add(DNNL_ARG_DST, made.dst_desc());
  if (bias) add(DNNL_ARG_BIAS, made.query_md(dnnl::query::weights_md, 1));
  r->primitive = typename std::conditional_t<
      std::is_same_v<Descriptor, dnnl::matmul::primitive_desc>, std::type_identity<dnnl::matmul>,
      std::conditional_t<std::is_same_v<Descriptor, dnnl::convolution_forward::primitive_desc>,
                         std::type_identity<dnnl::convolution_forward>,
                         std::type_identity<dnnl::deconvolution_forward>>>::type(made);
  return [r] {
    r->primitive.execute(r->machine->stream, r->arguments);
    r->machine->stream.wait();
  };
}

struct Windows {
  memory::dims strides, dilations, before, after;
};

template <typename Attributes>
Windows windows_of(const Attributes& a, size_t spatial) {
  Windows w;
  for (size_t i = 0; i < spatial; ++i) {
    w.strides.push_back(a.strides.empty() ? 1 : a.strides[i]);
    w.dilations.push_back(a.dilations.empty() ? 0 : a.dilations[i] - 1);
    w.before.push_back(a.pads.empty() ? 0 : a.pads[i]);
    w.after.push_back(a.pads.empty() ? 0 : a.pads[spatial + i]);
  }
  return w;
}

// [group, outputs, inputs, kernel...]: what oneDNN wants of grouped weights.
memory::dims grouped(memory::dims weights, int64_t group, bool transposed) {
  if (transposed) {  // [inputs, outputs / group, kernel...]
    weights[0] /= group;
    std::swap(weights[0], weights[1]);
  } else {
    weights[0] /= group;
  }
  if (group > 1) weights.insert(weights.begin(), group);
  return weights;
}

}  // namespace

std::optional<std::function<void()>> prepare(const Problem& problem, std::span<const int64_t> symbols, bool bf16) {
  const Stage& stage = problem.stages[0];
  const std::string_view op = stage.op->name;
  std::vector<memory::dims> operands;
  if (op != "MatMul" && op != "Conv" && op != "ConvTranspose") return std::nullopt;
  if (!operands_of(problem, symbols, operands)) return std::nullopt;
  const Dims result = evaluate(*problem.types[problem.first_result[0]].shape, symbols);
  memory::dims to(result.begin(), result.end());
  for (const int64_t d : to)
    if (d == 0) return std::nullopt;
  const auto type = bf16 ? memory::data_type::bf16 : memory::data_type::f32;
  const auto machine = std::make_shared<Machine>();
  try {
    if (op == "MatMul") {
      memory::dims a = operands[0], b = operands[1];
      if (a.size() < 2 || b.size() < 2) return std::nullopt;
      if (stage.attrs.as<MatMulAttrs>().transpose_b) std::swap(b[b.size() - 2], b.back());
      if (b.size() == 2 && a.size() > 2) {  // one matrix of all rows
        int64_t rows = 1;
        for (size_t i = 0; i + 1 < a.size(); ++i) rows *= a[i];
        a = {rows, a.back()};
        to = {rows, to.back()};
      }
      while (a.size() < to.size()) a.insert(a.begin(), 1);
      while (b.size() < to.size()) b.insert(b.begin(), 1);
      const dnnl::matmul::desc desc(any(a, type), any(b, type), any(to, type));
      return ready(dnnl::matmul::primitive_desc(desc, machine->engine), machine, false);
    }
    const bool bias = operands.size() > 2;
    const memory::desc bias_desc(bias ? operands[2] : memory::dims{}, memory::data_type::f32,
                                 bias ? memory::format_tag::x : memory::format_tag::undef);
    const size_t spatial = to.size() - 2;
    if (op == "Conv") {
      const auto& attrs = stage.attrs.as<ConvAttrs>();
      if (attrs.auto_pad != AutoPad::explicit_pads) return std::nullopt;
      const Windows w = windows_of(attrs, spatial);
      const dnnl::convolution_forward::desc desc(
          dnnl::prop_kind::forward_inference, dnnl::algorithm::convolution_auto, any(operands[0], type),
          any(grouped(operands[1], attrs.group, false), type), bias ? bias_desc : memory::desc(), any(to, type),
          w.strides, w.dilations, w.before, w.after);
      return ready(dnnl::convolution_forward::primitive_desc(desc, machine->engine), machine, bias);
    }
    const auto& attrs = stage.attrs.as<ConvTransposeAttrs>();
    if (attrs.auto_pad != AutoPad::explicit_pads || !attrs.output_shape.empty() || !attrs.output_padding.empty())
      return std::nullopt;
    const Windows w = windows_of(attrs, spatial);
    const dnnl::deconvolution_forward::desc desc(
        dnnl::prop_kind::forward_inference, dnnl::algorithm::deconvolution_direct, any(operands[0], type),
        any(grouped(operands[1], attrs.group, true), type), bias ? bias_desc : memory::desc(), any(to, type), w.strides,
        w.dilations, w.before, w.after);
    return ready(dnnl::deconvolution_forward::primitive_desc(desc, machine->engine), machine, bias);
  } catch (const dnnl::error&) {
    return std::nullopt;  // shapes or types that it has no implementation for
  }
}

}  // namespace sinter::onednn

#else

namespace sinter::onednn {

std::optional<std::function<void()>> prepare(const Problem&, std::span<const int64_t>, bool) { return std::nullopt; }

}  // namespace sinter::onednn

#endif
