// Gradients of reductions, contractions, inverses and determinants, pooling and resampling.

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <optional>
#include <string>

#include "ops/contraction.h"
#include "ops/generation.h"
#include "ops/movement.h"
#include "ops/pooling.h"
#include "ops/reduction.h"
#include "ops/resize.h"
#include "ops/selection.h"
#include "ops/shape.h"
#include "wiring/gradient.h"
#include "wiring/wiring.h"

namespace sinter::wiring {
namespace {

// ---- reductions ----

// The reduction again with the reduced axes kept as extents of 1.
ValueId kept(Flow& f, const char* op, ValueId x) {
  ReduceAttrs a = f.node.attrs.as<ReduceAttrs>();
  a.keep_dims = true;
  return f.b.op(op, a, {x, f.x(1)});
}

// The cotangent in the extents of a kept reduction.
ValueId kept_cotangent(Flow& f, ValueId reduced) { return shaped_like(f.b, f.g(), reduced); }

ValueId expanded(Flow& f, ValueId g) { return f.b.op("Expand", {g, shape_of(f.b, f.x(0))}); }

void flow_reduce_sum(Flow& f) { f.give(0, expanded(f, kept_cotangent(f, kept(f, "ReduceSum", f.x(0))))); }

void flow_reduce_mean(Flow& f) {
  GraphBuilder& b = f.b;
  const ValueId reduced = kept(f, "ReduceMean", f.x(0));
  const auto size = [&](ValueId v) { return cast(b, b.op("Size", {v}), b.dtype(f.x(0))); };
  const ValueId share = div(b, size(reduced), size(f.x(0)));
  f.give(0, expanded(f, mul(b, kept_cotangent(f, reduced), share)));
}

// Shared out evenly among all elements that are the largest or smallest.
void flow_reduce_order(Flow& f) {
  GraphBuilder& b = f.b;
  const ValueId x = f.x(0), reduced = kept(f, f.node.op->name, x), equal = b.op("Equal", {x, reduced});
  const ValueId share = div(b, kept_cotangent(f, reduced), kept(f, "ReduceSum", cast(b, equal, b.dtype(x))));
  f.give(0, where(b, equal, share, like(b, x, 0)));
}

// The product of the other elements: of two zeros there is none, of one zero it is at the zero.
void flow_reduce_product(Flow& f) {
  GraphBuilder& b = f.b;
  const ValueId x = f.x(0), zero = like(b, x, 0), one = like(b, x, 1);
  const ValueId is_zero = b.op("Equal", {x, zero}), safe = where(b, is_zero, one, x);
  const ValueId product = kept(f, "ReduceProd", safe), zeros = kept(f, "ReduceSum", cast(b, is_zero, b.dtype(x)));
  const ValueId at_zero = where(b, b.op("Equal", {zeros, one}), product, zero);
  const ValueId elsewhere = where(b, b.op("Equal", {zeros, zero}), div(b, product, safe), zero);
  f.give(0, mul(b, kept_cotangent(f, product), where(b, is_zero, at_zero, elsewhere)));
}

void flow_cumulative_sum(Flow& f) {
  CumulativeAttrs a = f.node.attrs.as<CumulativeAttrs>();
  a.reverse = !a.reverse;
  f.give(0, f.b.op("CumSum", a, {f.g(), f.x(1)}));
}

// ---- matrices ----

ValueId swapped(GraphBuilder& b, ValueId x) {
  std::vector<int64_t> perm = axis_range(0, b.rank(x));
  std::swap(perm[perm.size() - 1], perm[perm.size() - 2]);
  return transpose(b, x, std::move(perm));
}

void flow_matmul(Flow& f) {
  GraphBuilder& b = f.b;
  const bool transposed = f.node.attrs.as<MatMulAttrs>().transpose_b;
  const size_t left = b.rank(f.x(0)), right = b.rank(f.x(1));
  // Vectors as matrices: a row on the left, a column on the right.
  const ValueId x = left == 1 ? unsqueeze(b, f.x(0), {0}) : f.x(0);
  const ValueId w = right == 1 ? unsqueeze(b, f.x(1), {1}) : f.x(1);
  ValueId g = f.g();
  if (right == 1) g = unsqueeze(b, g, {-1});
  if (left == 1) g = unsqueeze(b, g, {-2});
  if (f.wants(0)) f.give(0, shaped_like(b, summed_to(b, matmul(b, g, w, !transposed), x), f.x(0)));
  if (f.wants(1)) {
    const ValueId back = transposed ? matmul(b, swapped(b, g), x) : matmul(b, swapped(b, x), g);
    f.give(1, shaped_like(b, summed_to(b, back, w), f.x(1)));
  }
}

// y = x^-1: -y' g y'.
void flow_inverse(Flow& f) {
  GraphBuilder& b = f.b;
  const ValueId y = swapped(b, f.y());
  f.give(0, b.op("Neg", {matmul(b, matmul(b, y, f.g()), y)}));
}

// det(x) times the transposed inverse.
void flow_determinant(Flow& f) {
  GraphBuilder& b = f.b;
  const ValueId scale = unsqueeze(b, mul(b, f.g(), f.y()), {-1, -2});
  f.give(0, mul(b, swapped(b, b.op("Inverse", {f.x(0)})), scale));
}

// Letters of an equation's operands and result; throws for what has no rule.
struct Equation {
  std::vector<std::string> terms;
  std::string result;
};

Equation parsed(Flow& f) {
  const auto refuse = [&](const char* what) {
    f.refuse(fmt::format("has no rule for gradients of equations with {}", what), "write it with distinct letters");
  };
  std::string text;
  for (const char c : f.node.attrs.as<EinsumAttrs>().equation)
    if (c != ' ') text += c;
  if (text.find('.') != std::string::npos) refuse("'...'");
  Equation e;
  const size_t arrow = text.find("->");
  const std::string operands = text.substr(0, arrow);
  size_t at = 0;
  for (size_t comma = operands.find(','); comma != std::string::npos; comma = operands.find(',', at)) {
    e.terms.push_back(operands.substr(at, comma - at));
    at = comma + 1;
  }
  e.terms.push_back(operands.substr(at));
  if (arrow != std::string::npos) {
    e.result = text.substr(arrow + 2);
  } else {  // letters that occur once, in order of the alphabet
    std::string letters;
    for (const char c : operands)
      if (c != ',') letters += c;
    std::sort(letters.begin(), letters.end());
    for (const char c : letters)
      if (std::count(letters.begin(), letters.end(), c) == 1) e.result += c;
  }
  for (const std::string& term : e.terms)
    for (const char c : term)
      if (std::count(term.begin(), term.end(), c) > 1) refuse("a letter twice in one operand");
  return e;
}

void flow_einsum(Flow& f) {
  GraphBuilder& b = f.b;
  const Equation e = parsed(f);
  for (size_t i = 0; i < e.terms.size(); ++i) {
    if (!f.wants(i)) continue;
    std::string operands, known = e.result, made;
    Ids inputs;
    for (size_t j = 0; j < e.terms.size(); ++j) {
      if (j == i) continue;
      operands += e.terms[j] + ",";
      known += e.terms[j];
      inputs.push_back(f.x(j));
    }
    inputs.push_back(f.g());
    // Letters that nothing else has were summed: every place gets the same.
    std::vector<int64_t> missing;
    for (size_t k = 0; k < e.terms[i].size(); ++k) {
      if (known.find(e.terms[i][k]) == std::string::npos)
        missing.push_back(static_cast<int64_t>(k));
      else
        made += e.terms[i][k];
    }
    ValueId back =
        b.op("Einsum", EinsumAttrs{.equation = fmt::format("{}{}->{}", operands, e.result, made)}, std::move(inputs));
    if (!missing.empty()) back = b.op("Expand", {unsqueeze(b, back, missing), shape_of(b, f.x(i))});
    f.give(i, back);
  }
}

// ---- windows ----

struct Windows {
  AutoPad auto_pad;
  std::vector<int64_t> strides, dilations, pads;  // pads: resolved, begins then ends
  size_t axes;
};

// Padding in numbers. `kernel`: extents of the window.
Windows windows_of(Flow& f, AutoPad auto_pad, const std::vector<int64_t>& strides,
                   const std::vector<int64_t>& dilations, const std::vector<int64_t>& pads, const Shape& kernel) {
  const Shape& x = f.b.shape(f.x(0));
  Windows w{auto_pad, strides, dilations, pads, x.size() - 2};
  if (w.strides.empty()) w.strides.assign(w.axes, 1);
  if (w.dilations.empty()) w.dilations.assign(w.axes, 1);
  if (auto_pad == AutoPad::valid || w.pads.empty()) w.pads.assign(2 * w.axes, 0);
  if (auto_pad == AutoPad::explicit_pads || auto_pad == AutoPad::valid) return w;
  const auto spatial = constant_dims(Shape(x.begin() + 2, x.end())), extents = constant_dims(kernel);
  if (!spatial || !extents)
    f.refuse("pads automatically, which has a gradient only where extents are fixed",
             "state 'pads', or fix the extents of the input");
  const Pads resolved = resolve_pads(*spatial, {auto_pad, *extents, w.strides, w.dilations, {}});
  w.pads = resolved.before;
  w.pads.insert(w.pads.end(), resolved.after.begin(), resolved.after.end());
  return w;
}

// v cut or padded with zeros at the end of each spatial axis to x's extents.
ValueId fitted(GraphBuilder& b, ValueId v, ValueId x) {
  const Shape from = b.shape(v), to = b.shape(x);
  if (std::equal(from.begin() + 2, from.end(), to.begin() + 2, to.end())) return v;
  const ShapeAttrs spatial{.start = 2};
  const ValueId after = sub(b, b.op("Shape", spatial, {x}), b.op("Shape", spatial, {v}));
  const ValueId before = b.integers(std::vector<int64_t>(from.size() - 2, 0));
  return b.op("Pad", PadAttrs{}, {v, concat(b, {before, after}, 0), no_id, b.integers(axis_range(2, from.size()))});
}

// Every element of g times the window w, added up where the window lay in x.
ValueId spread(GraphBuilder& b, ValueId g, ValueId w, int64_t group, const Windows& windows, ValueId x) {
  ConvTransposeAttrs a{.dilations = windows.dilations, .group = group, .strides = windows.strides};
  a.pads = windows.pads;
  std::fill(a.pads.begin() + static_cast<int64_t>(windows.axes), a.pads.end(), 0);
  return fitted(b, b.op("ConvTranspose", a, {g, w}), x);
}

// The gradient of a convolution's weights w [M, C / group, kernel...]: image [N, C, ...], g [N, M, ...]. It is itself a
// convolution, where channels are the batch and strides and dilations change places.
ValueId weights_gradient(GraphBuilder& b, ValueId image, ValueId g, int64_t group, const Windows& windows, ValueId w) {
  const ReshapeAttrs exactly{.allow_zero = true};
  const auto extents = [&](ValueId v, int64_t start, int64_t end) {
    return b.op("Shape", ShapeAttrs{.start = start, .end = end}, {v});
  };
  const ValueId groups = b.integers({group}), rest = b.integers({-1}), batch = extents(image, 0, 1);
  const auto split = [&](ValueId v) {  // [N, group, channels / group, ...]
    const ValueId shape = concat(b, {batch, groups, rest, extents(v, 2, INT64_MAX)}, 0);
    return b.op("Reshape", exactly, {v, shape});
  };
  const size_t rank = b.rank(image);
  std::vector<int64_t> perm = axis_range(0, rank + 1);
  std::swap(perm[0], perm[2]);  // [C / group, group, N, ...]
  ValueId rows = transpose(b, split(image), perm);
  rows = b.op("Reshape", exactly, {rows, concat(b, {extents(rows, 0, 1), rest, extents(image, 2, INT64_MAX)}, 0)});
  perm = axis_range(0, rank + 1);
  std::rotate(perm.begin(), perm.begin() + 1, perm.begin() + 3);  // [group, M / group, N, ...]
  ValueId filters = transpose(b, split(g), perm);
  filters = b.op("Reshape", exactly, {filters, concat(b, {rest, batch, extents(g, 2, INT64_MAX)}, 0)});
  const ConvAttrs a{.dilations = windows.strides, .group = group, .pads = windows.pads, .strides = windows.dilations};
  perm = axis_range(0, rank);
  std::swap(perm[0], perm[1]);
  return fitted(b, transpose(b, b.op("Conv", a, {rows, filters}), perm), w);
}

void give_bias(Flow& f) {
  std::vector<int64_t> axes = axis_range(2, f.b.rank(f.g()));
  axes.insert(axes.begin(), 0);
  if (f.wants(2)) f.give(2, reduce(f.b, "Sum", f.g(), axes, false));
}

Shape spatial_extents(const Shape& shape) { return Shape(shape.begin() + 2, shape.end()); }

void flow_conv(Flow& f) {
  const auto& a = f.node.attrs.as<ConvAttrs>();
  const Shape kernel = spatial_extents(f.b.shape(f.x(1)));
  const Windows windows = windows_of(f, a.auto_pad, a.strides, a.dilations, a.pads, kernel);
  if (f.wants(0)) f.give(0, spread(f.b, f.g(), f.x(1), a.group, windows, f.x(0)));
  if (f.wants(1)) f.give(1, weights_gradient(f.b, f.x(0), f.g(), a.group, windows, f.x(1)));
  give_bias(f);
}

void flow_conv_transpose(Flow& f) {
  GraphBuilder& b = f.b;
  const auto& a = f.node.attrs.as<ConvTransposeAttrs>();
  const bool plain = a.auto_pad == AutoPad::explicit_pads || a.auto_pad == AutoPad::valid;
  if (!plain || !a.output_shape.empty())
    f.refuse("has a gradient only where its pads are stated", "state 'pads' instead of 'output_shape' or 'auto_pad'");
  const Windows windows = windows_of(f, a.auto_pad, a.strides, a.dilations, a.pads, {});
  const ConvAttrs back{
      .dilations = windows.dilations, .group = a.group, .pads = windows.pads, .strides = windows.strides};
  if (f.wants(0)) f.give(0, fitted(b, b.op("Conv", back, {f.g(), f.x(1)}), f.x(0)));
  if (f.wants(1)) f.give(1, weights_gradient(b, f.g(), f.x(0), a.group, windows, f.x(1)));
  give_bias(f);
}

void flow_average_pool(Flow& f) {
  GraphBuilder& b = f.b;
  const auto& a = f.node.attrs.as<AveragePoolAttrs>();
  if (a.ceil_mode)
    f.refuse("rounds its extents up, for which there is no gradient", "use ceil_mode=0 with pads at the end");
  Shape kernel;
  double taps = 1;
  for (int64_t k : a.kernel) {
    kernel.emplace_back(k);
    taps *= static_cast<double>(k);
  }
  const Windows windows = windows_of(f, a.auto_pad, a.strides, a.dilations, a.pads, kernel);
  // Each result is a sum over its window by a count: of all places, or of those inside.
  ValueId share = div(b, f.g(), like(b, f.g(), taps));
  if (!a.count_pads) {
    AveragePoolAttrs counting = a;
    counting.count_pads = true;
    const ValueId ones = fill(b, like(b, f.g(), 1), shape_of(b, f.x(0)));
    share = div(b, share, b.op("AveragePool", counting, {ones}));
  }
  // Channels become batch, so that one window serves all.
  const auto alone = [&](ValueId v) {
    const ValueId spatial = b.op("Shape", ShapeAttrs{.start = 2}, {v});
    return b.op("Reshape", {v, concat(b, {b.integers({-1, 1}), spatial}, 0)});
  };
  std::vector<int64_t> extents = {1, 1};
  extents.insert(extents.end(), a.kernel.begin(), a.kernel.end());
  const ValueId window = fill(b, like(b, f.g(), 1), b.integers(extents));
  f.give(0, shaped_like(b, spread(b, alone(share), window, 1, windows, alone(f.x(0))), f.x(0)));
}

// To where the largest element of each window lies.
void flow_max_pool(Flow& f) {
  MaxPoolAttrs a = f.node.attrs.as<MaxPoolAttrs>();
  a.column_major = false;
  const ValueId at = f.b.add(*f.node.op, a, {f.x(0)}, 2)[1];
  f.give(0, shaped_like(f.b, gathered_back(f.b, f.g(), at, f.b.op("Size", {f.x(0)})), f.x(0)));
}

// Axis by axis, resampling is a product with a matrix: the resampled unit vectors.
void flow_resize(Flow& f) {
  GraphBuilder& b = f.b;
  const auto& a = f.node.attrs.as<ResizeAttrs>();
  if (a.coordinates == Coordinates::tf_crop_and_resize || a.aspect != AspectPolicy::stretch)
    f.refuse("crops or keeps proportions, for which there is no gradient", "resize whole axes to stated sizes");
  const ValueId x = f.x(0), scales = f.x(2), sizes = f.x(3);
  const size_t rank = b.rank(x);
  const std::vector<int64_t> axes = a.axes.empty() ? axis_range(0, rank) : a.axes;
  // A copy: nodes added below move the graph's values.
  std::optional<Tensor> factors;
  if (const Tensor* known = scales == no_id ? nullptr : b.constant_of(scales)) factors = *known;
  ResizeAttrs along_one = a;
  along_one.axes = {1};
  ValueId g = f.g();
  for (size_t i = 0; i < axes.size(); ++i) {
    const int64_t axis = axis_of(axes[i], rank);
    const auto at = static_cast<size_t>(axis);
    if (factors ? factors->get_real(static_cast<int64_t>(i)) == 1
                : scales == no_id && b.shape(x)[at] == b.shape(f.y())[at])
      continue;
    const auto one_of = [&](ValueId list) {
      const auto k = static_cast<int64_t>(i);
      return list == no_id ? no_id : slice(b, list, 0, k, k + 1);
    };
    const ValueId n = b.op("Shape", ShapeAttrs{.start = axis, .end = axis + 1}, {x});
    const ValueId square = fill(b, like(b, g, 0), concat(b, {n, n}, 0));
    const ValueId units = b.op("EyeLike", EyeLikeAttrs{.dtype = b.dtype(g)}, {square});
    const ValueId weights = b.op("Resize", along_one, {units, no_id, one_of(scales), one_of(sizes)});
    std::vector<int64_t> perm = axis_range(0, rank);
    std::swap(perm[at], perm[rank - 1]);
    g = transpose(b, matmul(b, transpose(b, g, perm), weights, true), perm);
  }
  f.give(0, g);
}

constexpr GradientRule table[] = {
    {"ReduceSum", flow_reduce_sum},
    {"ReduceMean", flow_reduce_mean},
    {"ReduceMax", flow_reduce_order},
    {"ReduceMin", flow_reduce_order},
    {"ReduceProd", flow_reduce_product},
    {"CumSum", flow_cumulative_sum},
    {"MatMul", flow_matmul},
    {"Einsum", flow_einsum},
    {"Inverse", flow_inverse},
    {"Det", flow_determinant},
    {"Conv", flow_conv},
    {"ConvTranspose", flow_conv_transpose},
    {"AveragePool", flow_average_pool},
    {"MaxPool", flow_max_pool},
    {"Resize", flow_resize},
};

}  // namespace

std::span<const GradientRule> contracting_gradients() { return table; }

}  // namespace sinter::wiring
