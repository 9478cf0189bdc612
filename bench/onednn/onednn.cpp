#include "onednn.h"

#if defined(SINTER_DNNL)

#include <algorithm>
#include <memory>
#include <oneapi/dnnl/dnnl.hpp>
#include <string_view>
#include <vector>

#include "ops/contraction.h"
#include "ops/movement.h"
#include "ops/pointwise.h"
#include "ops/pooling.h"
#include "ops/recurrent.h"
#include "ops/resize.h"
#include "ops/signal.h"

namespace sinter::onednn {
namespace {

using dnnl::memory;

// Primitives with memory of their own, run one after the other.
struct Work {
  dnnl::engine engine{dnnl::engine::kind::cpu, 0};
  dnnl::stream stream{engine};
  struct Part {
    dnnl::primitive primitive;
    std::unordered_map<int, memory> arguments;
  };
  std::vector<Part> parts;
  std::vector<memory> kept;  // what parts read through views
};

std::optional<memory::data_type> type_of(DType dtype) {
  switch (dtype) {
    case DType::f32: return memory::data_type::f32;
    case DType::bf16: return memory::data_type::bf16;
    case DType::i32: return memory::data_type::s32;
    case DType::i8: return memory::data_type::s8;
    case DType::u8: return memory::data_type::u8;
    default: return std::nullopt;
  }
}

memory::desc any(const memory::dims& dims, memory::data_type type) { return {dims, type, memory::format_tag::any}; }

// Random numbers, floats between -2 and 2 and away from 0: the time of a product may depend on what is multiplied.
void fill(const memory& m) {
  const memory::desc desc = m.get_desc();
  const size_t bytes = desc.get_size();
  uint32_t state = 1;
  const auto next = [&] { return state = state * 1664525u + 1013904223u; };
  if (desc.data_type() == memory::data_type::bf16) {
    auto* to = static_cast<uint16_t*>(m.get_data_handle());
    for (size_t i = 0; i < bytes / 2; ++i) to[i] = static_cast<uint16_t>(0x3f00 | (next() >> 16 & 0x80ff));
  } else if (desc.data_type() == memory::data_type::f32) {
    auto* to = static_cast<uint32_t*>(m.get_data_handle());
    for (size_t i = 0; i < bytes / 4; ++i) to[i] = 0x3f000000 | (next() & 0x80ffffff);
  } else {
    auto* to = static_cast<uint8_t*>(m.get_data_handle());
    for (size_t i = 0; i < bytes; ++i) to[i] = static_cast<uint8_t>(next() >> 24);
  }
}

using Arguments = std::vector<std::pair<int, memory::desc>>;

void add(Work& work, dnnl::primitive primitive, const Arguments& arguments) {
  Work::Part part{std::move(primitive), {}};
  for (const auto& [argument, desc] : arguments) {
    memory m(desc, work.engine);
    fill(m);
    part.arguments.emplace(argument, std::move(m));
  }
  work.parts.push_back(std::move(part));
}

// zeros: which operands have a zero point, as numbers that are known when it runs. Where only reference code knows
// them, they are left out.
template <typename Primitive, typename Descriptor>
void add_product(Work& work, const Descriptor& desc, bool bias, std::vector<int> zeros = {}) {
  using Made = typename Primitive::primitive_desc;
  const auto make = [&] {
    dnnl::primitive_attr attr;
    for (const int operand : zeros) attr.set_zero_points(operand, 0, {DNNL_RUNTIME_S32_VAL});
    return Made(desc, attr, work.engine, true);
  };
  Made made = make();
  if (!zeros.empty() && (!made.get(true) || std::string_view(made.impl_info_str()).starts_with("ref"))) {
    zeros.clear();
    made = make();
  }
  if (!made.get(true)) throw dnnl::error(dnnl_unimplemented, "no implementation");
  Arguments arguments = {
      {DNNL_ARG_SRC, made.src_desc()}, {DNNL_ARG_WEIGHTS, made.weights_desc()}, {DNNL_ARG_DST, made.dst_desc()}};
  if (bias) arguments.emplace_back(DNNL_ARG_BIAS, made.query_md(dnnl::query::weights_md, 1));
  for (const int operand : zeros)
    arguments.emplace_back(DNNL_ARG_ATTR_ZERO_POINTS | operand,
                           memory::desc({1}, memory::data_type::s32, memory::format_tag::x));
  add(work, Primitive(made), arguments);
}

// What a problem says of its values with numbers for its symbols.
struct Values {
  const Problem& problem;
  std::span<const int64_t> symbols;

  // Extents, none of them 0; empty where they are not known.
  memory::dims dims(uint16_t value) const {
    const Type& type = problem.types[value];
    if (!type.has_shape()) return {};
    const Dims dims = evaluate(*type.shape, symbols);
    for (const int64_t d : dims)
      if (d == 0) return {};
    return {dims.begin(), dims.end()};
  }
  DType dtype(uint16_t value) const { return problem.types[value].dtype; }
  // In the order in which the operand or result lies; nothing where it is not strided or of another type. Dense: oneDNN
  // takes rows with a pitch by reference implementations only.
  std::optional<memory::desc> lying(uint16_t value) const {
    const auto type = type_of(dtype(value));
    const memory::dims extents = dims(value);
    const Layout* layout = nullptr;
    if (value < problem.operands.size()) layout = &problem.operands[value].layout;
    for (const Problem::Result& r : problem.results)
      if (r.value == value) layout = &r.layout;
    if (!type || extents.empty() || layout == nullptr || !layout->has_strides()) return std::nullopt;
    const Dims strides = layout_strides(layout->dense(), Dims(extents.begin(), extents.end()));
    return memory::desc(extents, *type, memory::dims(strides.begin(), strides.end()));
  }
};

struct Windows {
  memory::dims strides, dilations, before, after;
};

// after: such that the result has the extents that it has, whichever way they were rounded.
Windows windows_of(const WindowRef& window, const memory::dims& x, const memory::dims& kernel, const memory::dims& y) {
  Windows w;
  const Pads pads = resolve_pads(std::span(x).subspan(2), window);
  for (size_t i = 0; i < kernel.size(); ++i) {
    w.strides.push_back(window_step(window.strides, i));
    w.dilations.push_back(window_step(window.dilations, i) - 1);
    w.before.push_back(pads.before[i]);
    const int64_t reach = (y[i + 2] - 1) * w.strides[i] + (kernel[i] - 1) * (w.dilations[i] + 1) + 1;
    w.after.push_back(reach - x[i + 2] - w.before[i]);
  }
  return w;
}

bool is(const Stage& stage, std::string_view name) { return stage.op->name == name; }

// The extents behind the first two.
memory::dims kernel_of(const memory::dims& dims) { return {dims.begin() + 2, dims.end()}; }

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

// Operands of a product of bytes that have a zero point of one number.
std::vector<int> zero_points(const Stage& stage, const Values& values) {
  std::vector<int> out;
  for (size_t i = 2; i < stage.inputs.size(); ++i) {
    if (stage.inputs[i] == absent_operand) continue;
    const memory::dims dims = values.dims(stage.inputs[i]);
    if (std::all_of(dims.begin(), dims.end(), [](int64_t d) { return d == 1; }))
      out.push_back(i == 2 ? DNNL_ARG_SRC : DNNL_ARG_WEIGHTS);
  }
  return out;
}

bool matmul(Work& work, const Stage& stage, const Values& values, uint16_t result, memory::data_type left,
            memory::data_type right, memory::data_type sums) {
  memory::dims a = values.dims(stage.inputs[0]), b = values.dims(stage.inputs[1]), to = values.dims(result);
  if (a.size() < 2 || b.size() < 2) return false;
  if (is(stage, "MatMul") && stage.attrs.as<MatMulAttrs>().transpose_b) std::swap(b[b.size() - 2], b.back());
  if (b.size() == 2 && a.size() > 2) {  // one matrix of all rows
    int64_t rows = 1;
    for (size_t i = 0; i + 1 < a.size(); ++i) rows *= a[i];
    a = {rows, a.back()};
    to = {rows, to.back()};
  }
  while (a.size() < to.size()) a.insert(a.begin(), 1);
  while (b.size() < to.size()) b.insert(b.begin(), 1);
  add_product<dnnl::matmul>(work, dnnl::matmul::desc(any(a, left), any(b, right), any(to, sums)), false,
                            is(stage, "MatMulInteger") ? zero_points(stage, values) : std::vector<int>());
  return true;
}

// What a convolution, transposed or not, multiplies and makes; the bias is empty where there is none.
struct Convolved {
  memory::dims x, weights, y, kernel;
  memory::desc bias;
};

std::optional<Convolved> convolved(const Stage& stage, const Values& values, uint16_t result, bool bias) {
  Convolved c{values.dims(stage.inputs[0]), values.dims(stage.inputs[1]), values.dims(result), {}, {}};
  if (c.x.empty() || c.weights.empty() || c.y.empty()) return std::nullopt;
  c.kernel = kernel_of(c.weights);
  if (bias) c.bias = memory::desc({c.y[1]}, memory::data_type::f32, memory::format_tag::x);
  return c;
}

bool convolution(Work& work, const Stage& stage, const Values& values, uint16_t result, memory::data_type image,
                 memory::data_type filters, memory::data_type sums, bool bias) {
  const auto c = convolved(stage, values, result, bias);
  if (!c) return false;
  const auto& attrs = stage.attrs.as<ConvAttrs>();
  const Windows w =
      windows_of({attrs.auto_pad, c->kernel, attrs.strides, attrs.dilations, attrs.pads}, c->x, c->kernel, c->y);
  add_product<dnnl::convolution_forward>(
      work,
      dnnl::convolution_forward::desc(dnnl::prop_kind::forward_inference, dnnl::algorithm::convolution_auto,
                                      any(c->x, image), any(grouped(c->weights, attrs.group, false), filters), c->bias,
                                      any(c->y, sums), w.strides, w.dilations, w.before, w.after),
      bias, is(stage, "ConvInteger") ? zero_points(stage, values) : std::vector<int>());
  return true;
}

bool transposed_convolution(Work& work, const Stage& stage, const Values& values, uint16_t result,
                            memory::data_type type, bool bias) {
  const auto c = convolved(stage, values, result, bias);
  const auto& attrs = stage.attrs.as<ConvTransposeAttrs>();
  if (!c || attrs.auto_pad != AutoPad::explicit_pads || !attrs.output_shape.empty() || !attrs.output_padding.empty())
    return false;
  // A convolution of the result gives the operand.
  const Windows w =
      windows_of({attrs.auto_pad, c->kernel, attrs.strides, attrs.dilations, attrs.pads}, c->y, c->kernel, c->x);
  add_product<dnnl::deconvolution_forward>(
      work,
      dnnl::deconvolution_forward::desc(dnnl::prop_kind::forward_inference, dnnl::algorithm::deconvolution_direct,
                                        any(c->x, type), any(grouped(c->weights, attrs.group, true), type), c->bias,
                                        any(c->y, type), w.strides, w.dilations, w.before, w.after),
      bias);
  return true;
}

// Window operators, reductions, resampling, layouts: on memory as it lies in the plan.
template <typename Attributes>
bool pooling(Work& work, const Stage& stage, const Values& values, uint16_t result, dnnl::algorithm algorithm) {
  const auto& attrs = stage.attrs.as<Attributes>();
  const auto from = values.lying(stage.inputs[0]), to = values.lying(result);
  if (!from || !to) return false;
  const memory::dims kernel(attrs.kernel.begin(), attrs.kernel.end());
  const Windows w = windows_of({attrs.auto_pad, kernel, attrs.strides, attrs.dilations, attrs.pads}, from->dims(),
                               kernel, to->dims());
  const dnnl::pooling_v2_forward::desc desc(dnnl::prop_kind::forward_inference, algorithm, *from, *to, w.strides,
                                            kernel, w.dilations, w.before, w.after);
  add(work, dnnl::pooling_v2_forward(dnnl::pooling_v2_forward::primitive_desc(desc, work.engine)),
      {{DNNL_ARG_SRC, *from}, {DNNL_ARG_DST, *to}});
  return true;
}

// With the reduced axes kept as ones; oneDNN knows no other results. Means of whole images are faster as pooling.
bool reduction(Work& work, const Stage& stage, const Values& values, uint16_t result, dnnl::algorithm algorithm) {
  const auto from = values.lying(stage.inputs[0]);
  auto to = values.lying(result);
  if (from && to && to->dims().empty())  // of all elements
    to = memory::desc(memory::dims(from->dims().size(), 1), to->data_type(), memory::dims(from->dims().size(), 1));
  if (!from || !to || from->dims().size() != to->dims().size()) return false;
  const memory::dims x = from->dims(), y = to->dims();
  if (algorithm == dnnl::algorithm::reduction_mean && x.size() > 2 && x[0] == y[0] && x[1] == y[1] &&
      std::all_of(y.begin() + 2, y.end(), [](int64_t d) { return d == 1; })) {
    const memory::dims zeros(x.size() - 2, 0), ones(x.size() - 2, 1);
    const dnnl::pooling_forward::desc desc(dnnl::prop_kind::forward_inference,
                                           dnnl::algorithm::pooling_avg_exclude_padding, *from, *to, ones, kernel_of(x),
                                           zeros, zeros);
    add(work, dnnl::pooling_forward(dnnl::pooling_forward::primitive_desc(desc, work.engine)),
        {{DNNL_ARG_SRC, *from}, {DNNL_ARG_DST, *to}});
    return true;
  }
  const dnnl::reduction::desc desc(algorithm, *from, *to, 0.0f, 0.0f);
  add(work, dnnl::reduction(dnnl::reduction::primitive_desc(desc, work.engine)),
      {{DNNL_ARG_SRC, *from}, {DNNL_ARG_DST, *to}});
  return true;
}

bool resampling(Work& work, const Stage& stage, const Values& values, uint16_t result) {
  const auto& attrs = stage.attrs.as<ResizeAttrs>();
  const auto from = values.lying(stage.inputs[0]), to = values.lying(result);
  if (!from || !to || attrs.antialias || attrs.mode == ResizeMode::cubic) return false;
  const auto algorithm =
      attrs.mode == ResizeMode::nearest ? dnnl::algorithm::resampling_nearest : dnnl::algorithm::resampling_linear;
  const dnnl::resampling_forward::desc desc(dnnl::prop_kind::forward_inference, algorithm, *from, *to);
  add(work, dnnl::resampling_forward(dnnl::resampling_forward::primitive_desc(desc, work.engine)),
      {{DNNL_ARG_SRC, *from}, {DNNL_ARG_DST, *to}});
  return true;
}

bool reorder(Work& work, const Stage& stage, const Values& values, uint16_t result) {
  const auto from = values.lying(stage.inputs[0]), to = values.lying(result);
  if (!from || !to) return false;
  add(work, dnnl::reorder(dnnl::reorder::primitive_desc(work.engine, *from, work.engine, *to)),
      {{DNNL_ARG_FROM, *from}, {DNNL_ARG_TO, *to}});
  return true;
}

// The same memory as another desc of it: what oneDNN calls a view.
bool view(Work& work, const memory::desc& from, const memory::desc& to, int64_t elements) {
  Work::Part part{dnnl::reorder(dnnl::reorder::primitive_desc(work.engine, from, work.engine, to)), {}};
  const memory::desc whole({elements}, from.data_type(), memory::format_tag::x);
  memory operand(whole, work.engine);
  fill(operand);
  part.arguments.emplace(DNNL_ARG_FROM, memory(from, work.engine, operand.get_data_handle()));
  part.arguments.emplace(DNNL_ARG_TO, memory(to, work.engine));
  work.kept.push_back(std::move(operand));
  work.parts.push_back(std::move(part));
  return true;
}

int64_t elements_of(const memory::dims& dims) {
  int64_t n = 1;
  for (const int64_t d : dims) n *= d;
  return n;
}

// Transposed: as the result with other strides. Slices of step 1, at their beginning: where they lie costs nothing.
bool moved(Work& work, const Stage& stage, const Values& values, uint16_t result) {
  const auto from = values.lying(stage.inputs[0]), to = values.lying(result);
  if (is(stage, "Slice") && stage.inputs.size() > 4) return false;  // has steps
  if (!from || !to || from->dims().size() != to->dims().size()) return false;
  const memory::dims strides(from->data.format_desc.blocking.strides,
                             from->data.format_desc.blocking.strides + from->dims().size());
  memory::dims taken = strides;
  if (is(stage, "Transpose")) {
    const auto& perm = stage.attrs.as<TransposeAttrs>().perm;
    for (size_t i = 0; i < taken.size(); ++i)
      taken[i] = strides[perm.empty() ? taken.size() - 1 - i : static_cast<size_t>(perm[i])];
  }
  return view(work, memory::desc(to->dims(), from->data_type(), taken), *to, elements_of(from->dims()));
}

bool concat(Work& work, const Stage& stage, const Values& values, uint16_t result) {
  const auto to = values.lying(result);
  std::vector<memory::desc> from;
  for (const uint16_t value : stage.inputs) {
    const auto one = values.lying(value);
    if (one) from.push_back(*one);
  }
  if (!to || from.size() != stage.inputs.size()) return false;
  const int64_t axis = stage.attrs.as<ConcatAttrs>().axis;
  const auto rank = static_cast<int64_t>(to->dims().size());
  Arguments arguments = {{DNNL_ARG_DST, *to}};
  for (size_t i = 0; i < from.size(); ++i) arguments.emplace_back(DNNL_ARG_MULTIPLE_SRC + static_cast<int>(i), from[i]);
  add(work, dnnl::concat(dnnl::concat::primitive_desc(*to, static_cast<int>((axis + rank) % rank), from, work.engine)),
      arguments);
  return true;
}

bool lrn(Work& work, const Stage& stage, const Values& values, uint16_t result) {
  const auto from = values.lying(stage.inputs[0]), to = values.lying(result);
  if (!from || !to || *from != *to) return false;
  const auto& attrs = stage.attrs.as<LRNAttrs>();
  const dnnl::lrn_forward::desc desc(dnnl::prop_kind::forward_inference, dnnl::algorithm::lrn_across_channels, *from,
                                     attrs.size, static_cast<float>(attrs.alpha), static_cast<float>(attrs.beta),
                                     static_cast<float>(attrs.bias));
  add(work, dnnl::lrn_forward(dnnl::lrn_forward::primitive_desc(desc, work.engine)),
      {{DNNL_ARG_SRC, *from}, {DNNL_ARG_DST, *to}});
  return true;
}

bool lstm(Work& work, const Stage& stage, const Values& values) {
  const auto& attrs = stage.attrs.as<RecurrentAttrs>();
  const memory::dims x = values.dims(stage.inputs[0]), w = values.dims(stage.inputs[1]);
  if (x.empty() || w.empty() || !attrs.activations.empty() || attrs.clip != 0 || attrs.input_forget) return false;
  constexpr auto type = memory::data_type::f32;
  const int64_t directions = w[0], hidden = w[1] / 4;
  const memory::dims state = {1, directions, x[1], hidden};
  const auto direction = attrs.direction == Direction::forward   ? dnnl::rnn_direction::unidirectional_left2right
                         : attrs.direction == Direction::reverse ? dnnl::rnn_direction::unidirectional_right2left
                                                                 : dnnl::rnn_direction::bidirectional_concat;
  const dnnl::lstm_forward::desc desc(dnnl::prop_kind::forward_inference, direction, any(x, type), any(state, type),
                                      any(state, type), any({1, directions, x[2], 4, hidden}, type),
                                      any({1, directions, hidden, 4, hidden}, type),
                                      any({1, directions, 4, hidden}, type),
                                      any({x[0], x[1], directions * hidden}, type), any(state, type), any(state, type));
  const dnnl::lstm_forward::primitive_desc made(desc, work.engine);
  add(work, dnnl::lstm_forward(made),
      {{DNNL_ARG_SRC_LAYER, made.src_layer_desc()},
       {DNNL_ARG_SRC_ITER, made.src_iter_desc()},
       {DNNL_ARG_SRC_ITER_C, made.src_iter_c_desc()},
       {DNNL_ARG_WEIGHTS_LAYER, made.weights_layer_desc()},
       {DNNL_ARG_WEIGHTS_ITER, made.weights_iter_desc()},
       {DNNL_ARG_BIAS, made.bias_desc()},
       {DNNL_ARG_DST_LAYER, made.dst_layer_desc()},
       {DNNL_ARG_DST_ITER, made.dst_iter_desc()},
       {DNNL_ARG_DST_ITER_C, made.dst_iter_c_desc()},
       {DNNL_ARG_WORKSPACE, made.workspace_desc()}});
  return true;
}

// A function of one number as oneDNN has it.
struct Function {
  dnnl::algorithm algorithm;
  float alpha = 0, beta = 0;
};

std::optional<Function> function_of(const Stage& stage) {
  using dnnl::algorithm;
  if (is(stage, "Relu")) return Function{algorithm::eltwise_relu};
  if (is(stage, "Sigmoid")) return Function{algorithm::eltwise_logistic};
  if (is(stage, "Tanh")) return Function{algorithm::eltwise_tanh};
  if (is(stage, "Exp")) return Function{algorithm::eltwise_exp};
  if (is(stage, "Log")) return Function{algorithm::eltwise_log};
  if (is(stage, "Sqrt")) return Function{algorithm::eltwise_sqrt};
  if (is(stage, "Abs")) return Function{algorithm::eltwise_abs};
  if (is(stage, "Round")) return Function{algorithm::eltwise_round};
  if (is(stage, "Gelu")) return Function{algorithm::eltwise_gelu_erf};
  if (is(stage, "GeluTanh")) return Function{algorithm::eltwise_gelu_tanh};
  if (is(stage, "Neg")) return Function{algorithm::eltwise_linear, -1};
  if (is(stage, "Reciprocal")) return Function{algorithm::eltwise_pow, 1, -1};
  if (is(stage, "Swish"))
    return Function{algorithm::eltwise_swish, static_cast<float>(stage.attrs.as<SwishAttrs>().alpha)};
  if (is(stage, "Clip")) {
    const auto& attrs = stage.attrs.as<ClipAttrs>();
    return Function{algorithm::eltwise_clip, static_cast<float>(attrs.low), static_cast<float>(attrs.high)};
  }
  return std::nullopt;
}

std::optional<dnnl::algorithm> of_two(const Stage& stage) {
  using dnnl::algorithm;
  if (is(stage, "Add")) return algorithm::binary_add;
  if (is(stage, "Mul")) return algorithm::binary_mul;
  if (is(stage, "Sub")) return algorithm::binary_sub;
  if (is(stage, "Div")) return algorithm::binary_div;
  if (is(stage, "Max")) return algorithm::binary_max;
  if (is(stage, "Min")) return algorithm::binary_min;
  return std::nullopt;
}

// A chain of functions of one and two numbers: one primitive, what follows the first as its post-ops. Which operand of
// a difference or quotient goes on makes no difference to the time.
bool pointwise(Work& work, const Problem& problem, const Values& values) {
  if (problem.results.size() != 1) return false;
  const auto to = values.lying(problem.results[0].value);
  if (!to || to->data_type() != memory::data_type::f32) return false;
  const size_t rank = to->dims().size();
  // An operand with axes of 1 in front.
  const auto operand = [&](uint16_t value) -> std::optional<memory::desc> {
    if (value >= problem.operands.size() || values.dtype(value) != DType::f32) return std::nullopt;
    memory::dims dims = values.dims(value);
    if (dims.size() == rank && rank > 0) return values.lying(value);
    if (dims.size() > rank) return std::nullopt;
    dims.insert(dims.begin(), rank - dims.size(), 1);
    memory::dims strides(rank, 1);
    for (size_t i = rank; i-- > 1;) strides[i - 1] = strides[i] * dims[i];
    return memory::desc(dims, memory::data_type::f32, strides);
  };
  dnnl::post_ops after;
  Arguments arguments = {{DNNL_ARG_DST, *to}};
  std::optional<memory::desc> left, right;
  for (size_t s = 0; s < problem.stages.size(); ++s) {
    const Stage& stage = problem.stages[s];
    const auto function = function_of(stage);
    const auto two = of_two(stage);
    if (!function && !two) return false;
    if (s == 0) {
      left = operand(stage.inputs[0]);
      right = two ? operand(stage.inputs[1]) : std::nullopt;
      if (right && right->dims() == to->dims()) std::swap(left, right);
      if (!left || left->dims() != to->dims() || (two && !right)) return false;
      continue;
    }
    const uint16_t before = problem.first_result[s - 1];
    const auto at = std::find(stage.inputs.begin(), stage.inputs.end(), before);
    if (at == stage.inputs.end()) return false;
    if (function) {
      after.append_eltwise(1.0f, function->algorithm, function->alpha, function->beta);
      continue;
    }
    const auto with = operand(stage.inputs[at == stage.inputs.begin() ? 1 : 0]);
    if (!with) return false;
    arguments.emplace_back(DNNL_ARG_ATTR_MULTIPLE_POST_OP(after.len()) | DNNL_ARG_SRC_1, *with);
    after.append_binary(*two, *with);
  }
  dnnl::primitive_attr attr;
  attr.set_post_ops(after);
  if (right) {
    const dnnl::binary::desc desc(*of_two(problem.stages[0]), *left, *right, *to);
    arguments.insert(arguments.end(), {{DNNL_ARG_SRC_0, *left}, {DNNL_ARG_SRC_1, *right}});
    add(work, dnnl::binary(dnnl::binary::primitive_desc(desc, attr, work.engine)), arguments);
    return true;
  }
  const Function first = *function_of(problem.stages[0]);
  if (*left != *to) return false;
  const dnnl::eltwise_forward::desc desc(dnnl::prop_kind::forward_inference, first.algorithm, *left, first.alpha,
                                         first.beta);
  arguments.emplace_back(DNNL_ARG_SRC, *left);
  add(work, dnnl::eltwise_forward(dnnl::eltwise_forward::primitive_desc(desc, attr, work.engine)), arguments);
  return true;
}

// Softmax and norms are several stages; the one over the same extents does for all of them.
bool rows(Work& work, const Problem& problem, const Values& values) {
  const auto count = [&](std::string_view name) {
    return std::count_if(problem.stages.begin(), problem.stages.end(), [&](const Stage& s) { return is(s, name); });
  };
  // Reductions along the last axis.
  const Stage* first = nullptr;
  for (const Stage& stage : problem.stages)
    if (first == nullptr && std::string_view(stage.op->name).substr(0, 6) == "Reduce") first = &stage;
  if (first == nullptr || problem.results.size() != 1) return false;
  const memory::dims dims = values.dims(first->inputs[0]);
  const auto to = values.lying(problem.results[0].value);
  if (dims.empty() || !to || to->dims() != dims || to->data_type() != memory::data_type::f32) return false;
  const memory::dims kept = values.dims(problem.first_result[static_cast<size_t>(first - problem.stages.data())]);
  memory::dims wanted = dims;
  wanted.back() = 1;
  if (kept != wanted) return false;
  if (count("Exp") == 1 && count("ReduceSum") == 1) {
    const dnnl::softmax_forward::desc desc(dnnl::prop_kind::forward_inference, *to, static_cast<int>(dims.size()) - 1);
    add(work, dnnl::softmax_forward(dnnl::softmax_forward::primitive_desc(desc, work.engine)),
        {{DNNL_ARG_SRC, *to}, {DNNL_ARG_DST, *to}});
    return true;
  }
  if (count("Sqrt") != 1 || count("ReduceMean") != 2) return false;
  const dnnl::layer_normalization_forward::desc desc(dnnl::prop_kind::forward_inference, *to, 1e-5f,
                                                     dnnl::normalization_flags::none);
  add(work, dnnl::layer_normalization_forward(dnnl::layer_normalization_forward::primitive_desc(desc, work.engine)),
      {{DNNL_ARG_SRC, *to}, {DNNL_ARG_DST, *to}});
  return true;
}

bool contraction(Work& work, const Stage& stage, const Values& values, uint16_t result, memory::data_type type) {
  if (is(stage, "MatMulInteger") || is(stage, "ConvInteger")) {
    const auto left = type_of(values.dtype(stage.inputs[0])), right = type_of(values.dtype(stage.inputs[1]));
    constexpr auto sums = memory::data_type::s32;
    return is(stage, "MatMulInteger") ? matmul(work, stage, values, result, *left, *right, sums)
                                      : convolution(work, stage, values, result, *left, *right, sums, false);
  }
  const DType of = values.dtype(result);
  if (of != DType::f32 && of != DType::bf16) return false;
  const bool bias = stage.inputs.size() > 2 && stage.inputs[2] != absent_operand;
  if (is(stage, "MatMul")) return matmul(work, stage, values, result, type, type, type);
  if (is(stage, "Conv")) return convolution(work, stage, values, result, type, type, type, bias);
  return transposed_convolution(work, stage, values, result, type, bias);
}

bool add_all(Work& work, const Problem& problem, const Values& values, bool bf16) {
  const auto type = bf16 ? memory::data_type::bf16 : memory::data_type::f32;
  bool any_contraction = false;
  for (size_t s = 0; s < problem.stages.size(); ++s) {
    const Stage& stage = problem.stages[s];
    constexpr std::string_view names[] = {"MatMul", "Conv", "ConvTranspose", "MatMulInteger", "ConvInteger"};
    if (std::none_of(std::begin(names), std::end(names), [&](std::string_view n) { return is(stage, n); })) continue;
    if (!contraction(work, stage, values, problem.first_result[s], type)) return false;
    any_contraction = true;
  }
  if (any_contraction) return true;
  const Stage& stage = problem.stages[0];
  const uint16_t result = problem.first_result[0];
  if (rows(work, problem, values)) return true;
  // Where memory takes the time, elements with others between them are no match for dense ones.
  const auto pitched = [](const auto& value) { return value.layout.pitch != 0; };
  const bool dense = std::none_of(problem.operands.begin(), problem.operands.end(), pitched) &&
                     std::none_of(problem.results.begin(), problem.results.end(), pitched);
  if (dense && pointwise(work, problem, values)) return true;
  // What follows such a stage would be missing in the peer's time, where it is more than the stage itself.
  if (problem.stages.size() != 1) return false;
  if (is(stage, "MaxPool"))
    return stage.outputs == 1 && pooling<MaxPoolAttrs>(work, stage, values, result, dnnl::algorithm::pooling_max);
  if (is(stage, "AveragePool"))
    return pooling<AveragePoolAttrs>(work, stage, values, result,
                                     stage.attrs.as<AveragePoolAttrs>().count_pads
                                         ? dnnl::algorithm::pooling_avg_include_padding
                                         : dnnl::algorithm::pooling_avg_exclude_padding);
  if (is(stage, "ReduceMean")) return reduction(work, stage, values, result, dnnl::algorithm::reduction_mean);
  if (is(stage, "ReduceSum")) return reduction(work, stage, values, result, dnnl::algorithm::reduction_sum);
  if (is(stage, "ReduceMax")) return reduction(work, stage, values, result, dnnl::algorithm::reduction_max);
  if (is(stage, "Resize")) return resampling(work, stage, values, result);
  if (is(stage, "ReduceMin")) return reduction(work, stage, values, result, dnnl::algorithm::reduction_min);
  if (!dense) return false;
  if (is(stage, "LRN")) return lrn(work, stage, values, result);
  if (is(stage, "LSTM")) return lstm(work, stage, values);
  if (is(stage, "Concat")) return concat(work, stage, values, result);
  if (is(stage, "Transpose") || is(stage, "Slice")) return moved(work, stage, values, result);
  return is(stage, "Identity") && reorder(work, stage, values, result);
}

}  // namespace

std::optional<std::function<void()>> prepare(const Problem& problem, std::span<const int64_t> symbols, bool bf16) {
  const auto work = std::make_shared<Work>();
  try {
    if (!add_all(*work, problem, Values{problem, symbols}, bf16)) return std::nullopt;
  } catch (const dnnl::error&) {
    return std::nullopt;  // shapes or types that it has no implementation for
  }
  return [work] {
    for (const Work::Part& part : work->parts) part.primitive.execute(work->stream, part.arguments);
    work->stream.wait();
  };
}

}  // namespace sinter::onednn

#else

namespace sinter::onednn {

std::optional<std::function<void()>> prepare(const Problem&, std::span<const int64_t>, bool) { return std::nullopt; }

}  // namespace sinter::onednn

#endif
