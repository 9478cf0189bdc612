// Layout: how a value's elements lie in memory. Closed data, so packing, sizing and verification share it.
//
// `strided` stores axes densely in a physical order, or with a `pitch` from row to row of its innermost axis: the
// elements between rows are somebody else's. Panels are the packed weights of contractions, `width` columns each, the
// last one as wide as its columns rounded up to `lanes`, padded with zeros: for a matrix [..., K, N] (or
// [..., N, K] when transposed) each matrix as [panel][K][columns]; for convolution weights [N, C, taps...] in `groups`
// groups as [group][panel][tap][C][columns]; for those of transposed convolutions, [C, N, taps...], each group as a
// matrix of its channels and of taps * N columns, or by `phases` as [group][panel][tap][C][columns]. Panels of f32 may
// hold the nearest bf16 or f16 instead, or be split into planes of bf16, each what the planes before it leave, or one
// of f16: [panel][tap][step of 32 of K][16 columns] [plane][pair of K][column][2], K padded to 32; `run` taps of the
// innermost axis then count as one tap of run * C. Panels of 8-bit integers are those of `BytePanels`, K of all taps in
// one: signed bytes (unsigned ones less 128) and their sums. `any` is a question to a kernel and never occurs in a
// plan.
#pragma once

#include <span>
#include <string>
#include <utility>
#include <vector>

#include "tensor/panel_numbers.h"
#include "tensor/type.h"

namespace sinter {

// Planes that numbers in tiles are split into; 0: they lie in rows.
constexpr int plane_count(PanelNumbers numbers) {
  switch (numbers) {
    case PanelNumbers::planes1:
    case PanelNumbers::f16_plane: return 1;
    case PanelNumbers::planes2: return 2;
    case PanelNumbers::planes3: return 3;
    default: return 0;
  }
}
// Bytes of an f32 number in such panels.
constexpr int panel_bytes(PanelNumbers numbers) {
  if (const int planes = plane_count(numbers)) return 2 * planes;
  return numbers == PanelNumbers::plain ? 4 : 2;
}

struct Layout {
  enum class Kind : uint8_t { strided, any, matrix_panels, conv_panels } kind = Kind::strided;
  std::vector<uint8_t> order;                  // strided: axes from outermost to innermost; empty: row-major
  int32_t width = 0;                           // of panels
  int32_t lanes = 1;                           // of panels: the last one is padded to a multiple
  int32_t groups = 1;                          // of conv_panels
  bool transposed = false;                     // of matrix_panels, and of conv_panels: of a transposed convolution
  PanelNumbers numbers = PanelNumbers::plain;  // of panels
  int32_t run = 1;                             // of conv_panels with planes
  int32_t pitch = 0;                           // strided: elements from row to row of the innermost axis; 0: dense
  std::vector<uint8_t> phases = {};            // of transposed conv_panels: see taps_by_phase; empty: one matrix

  static constexpr int64_t most_phases = 64;  // of all axes together

  static Layout any() { return {Kind::any, {}, 0, 1, 1, false, PanelNumbers::plain, 1}; }
  static Layout ordered(std::vector<uint8_t> order);  // the identity becomes row-major
  static Layout channels_last(size_t rank);           // [N, C, spatial...] stored as N, spatial..., C
  static Layout matrix_panels(int32_t width, int32_t lanes, bool transposed,
                              PanelNumbers numbers = PanelNumbers::plain) {
    return {Kind::matrix_panels, {}, width, lanes, 1, transposed, numbers, 1};
  }
  static Layout conv_panels(int32_t width, int32_t lanes, int32_t groups, PanelNumbers numbers = PanelNumbers::plain,
                            int32_t run = 1) {
    return {Kind::conv_panels, {}, width, lanes, groups, false, numbers, run};
  }

  static Layout transposed_conv_panels(int32_t width, int32_t lanes, int32_t groups,
                                       PanelNumbers numbers = PanelNumbers::plain, std::vector<uint8_t> phases = {}) {
    return {Kind::conv_panels, {}, width, lanes, groups, true, numbers, 1, 0, std::move(phases)};
  }

  bool is_row_major() const { return is_strided() && order.empty(); }
  // Dense: rows that take a pitch ask for `has_strides`.
  bool is_strided() const { return kind == Kind::strided && pitch == 0; }
  bool has_strides() const { return kind == Kind::strided; }
  // The innermost axis of a strided layout. Precondition: rank > 0.
  size_t innermost(size_t rank) const { return order.empty() ? rank - 1 : order.back(); }
  Layout with_pitch(int32_t elements) const {
    Layout layout = *this;
    layout.pitch = elements;
    return layout;
  }
  Layout dense() const { return with_pitch(0); }
  bool operator==(const Layout&) const = default;
};

// One matrix of `k` rows and `n` columns as panels of 8-bit integers: [panel][16 columns][four of K][column][4], K
// padded to 64, and behind each panel's columns their i32 sums.
struct BytePanels {
  static constexpr int64_t depth = 64, tile = 16;
  int64_t k = 0, n = 0, width = tile, lanes = tile;  // width, lanes: as of Layout, multiples of `tile`

  int64_t padded_k() const { return (k + depth - 1) / depth * depth; }
  int64_t stored(int64_t columns) const { return (columns + lanes - 1) / lanes * lanes; }
  int64_t bytes() const { return stored(n) * (padded_k() + 4); }
  int64_t panel_at(int64_t first) const { return first * (padded_k() + 4); }  // first: of its columns
  int64_t at(int64_t row, int64_t column) const {
    const int64_t first = column / width * width, c = column - first;
    return panel_at(first) + c / tile * tile * padded_k() + row / 4 * tile * 4 + c % tile * 4 + row % 4;
  }
  int64_t sum_at(int64_t column) const {
    const int64_t first = column / width * width, rest = n - first;
    return panel_at(first) + stored(rest < width ? rest : width) * padded_k() + (column - first) * 4;
  }
};

// Bytes of a value of this type at these extents, from its first to its last; checked. Throws where rows are longer
// than the pitch.
int64_t layout_bytes(const Layout& layout, DType dtype, const Dims& dims);
// Element strides by logical axis of a strided layout.
Dims layout_strides(const Layout& layout, const Dims& dims);
// The window's taps, as row-major numbers, in the order in which panels by `phases` hold them: those whose positions
// are alike modulo `phases` along every axis stand together, last ones first, which is the order of what they read.
std::vector<int64_t> taps_by_phase(const Layout& layout, std::span<const int64_t> window);
// Whether the layout fits values of this rank (a permutation of the axes, positive widths, ...).
bool layout_fits(const Layout& layout, size_t rank);

// "" for row-major, else "@any", "@(0, 2, 3, 1)", "@(0, 2, 3, 1, pitch 96)", "@(pitch 96)", "@matrix(32, 16)",
// "@matrix_t(32, 16)", "@conv(32, 16, 1)", "@conv_t(32, 16, 1)", "@conv_t(32, 16, 1, phases 2 2)"; of 16 bits
// "@matrix(32, 16, bf16)", "@conv(32, 16, 1, f16)"; with planes "@matrix(32, 16, planes 2)", "@conv(32, 16, 1, planes
// 2, run 3)", "@matrix(32, 16, f16 plane)".
std::string to_text(const Layout& layout);
Layout parse_layout(Scanner& scanner);

}  // namespace sinter
