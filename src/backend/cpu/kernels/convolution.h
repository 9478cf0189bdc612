// What convolution, transposed convolution and pooling read out of their problems: window attributes as numbers of one
// shape, ready for the loops. supports() of a row asks window_known; bind makes the Window.
#pragma once

#include "backend/cpu/isa/contract.h"
#include "backend/cpu/kernels/common.h"
#include "backend/cpu/kernels/epilogue.h"
#include "backend/kernel.h"
#include "ops/contraction.h"
#include "ops/pooling.h"
#include "ops/window.h"

namespace sinter::cpu {

// The windows of Conv, and of what has its attributes.
inline WindowRef window_ref(const ConvAttrs& attrs) {
  return {attrs.auto_pad, {}, attrs.strides, attrs.dilations, attrs.pads, false};
}
inline WindowRef window_ref(const MaxPoolAttrs& a) {
  return {a.auto_pad, a.kernel, a.strides, a.dilations, a.pads, a.ceil_mode};
}
// The first and the end of the taps that lie inside [0, extent).
inline Range taps_inside(int64_t start, int64_t step, int64_t taps, int64_t extent) {
  const int64_t first = start < 0 ? (-start + step - 1) / step : 0;
  const int64_t end = start >= extent ? 0 : (extent - start + step - 1) / step;
  return {first, std::max(first, std::min(taps, end))};
}
// The result [N, M, spatial...] as epilogues see it: a column for every channel.
inline OutputView image_view(size_t rank) {
  OutputView view;
  view.batch = {0};
  for (size_t k = 2; k < rank; ++k) view.rows.push_back(k);
  view.col = 1;
  return view;
}
// Layouts of a row whose main stage filters operand 0, channels last, with operand 1 in `weights`; `any` is settled,
// and what the epilogue reads lies as that wants it.
Needs filtered_needs(const Problem& problem, const OutputView& view, const Layout& weights);
// Weights [M, C, taps...] stored as taps, C, M.
Layout taps_first(size_t rank);

// The level's loops over windows: a const SpatialTable*.
std::shared_ptr<const void> prepare_spatial_table(const Kernel&, const Problem&, const Config&,
                                                  const DeviceSpec& device);

// Attributes of a window as kernels take them: lists empty or one entry per spatial axis, in range.
Answer window_known(size_t spatial, const WindowRef& window);

// in, out: extents of [N, C, spatial...] values; kernel: one extent per spatial axis. Missing leading axes have extent
// 1. Steps along axes where they do not matter become 1, so that products of them and strides stay small.
Window make_window(const Dims& in, const Dims& out, std::span<const int64_t> kernel, const WindowRef& window);
// Each result is made of the one pixel in its place.
inline bool takes_pixels_alone(const Window& w) {
  for (int d = 0; d < 3; ++d)
    if (w.kernel[d] != 1 || w.stride[d] != 1 || w.pad[d] != 0 || w.in[d] != w.out[d]) return false;
  return true;
}

// The axes of [N, C, spatial...] lie as N, spatial..., C.
inline bool channels_last_or_any(const Layout& layout, size_t rank) {
  return layout.kind == Layout::Kind::any || (layout.is_strided() && layout == Layout::channels_last(rank));
}
// The same, perhaps with a pitch from pixel to pixel.
inline bool pixels_or_any(const Layout& layout, size_t rank) {
  return layout.kind == Layout::Kind::any ||
         (layout.has_strides() && layout.order == Layout::channels_last(rank).order);
}

}  // namespace sinter::cpu
