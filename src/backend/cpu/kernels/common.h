// Small helpers that the rows of the CPU backend share.
#pragma once

#include <algorithm>
#include <memory>
#include <string_view>
#include <utility>

#include "backend/kernel.h"

namespace sinter::cpu {

inline bool is_op(const Stage& stage, std::string_view name) { return stage.op->name == name; }

// Whether an operand is there.
inline bool has(const Stage& stage, size_t input) {
  return input < stage.inputs.size() && stage.inputs[input] != absent_operand;
}

// `any` becomes another; fixed layouts stay.
inline Layout settled(const Layout& layout, const Layout& otherwise = Layout()) {
  return layout.kind == Layout::Kind::any ? otherwise : layout;
}

inline bool strided_or_any(const Layout& layout) { return layout.is_strided() || layout.kind == Layout::Kind::any; }
// The same for rows that take a pitch.
inline bool strides_or_any(const Layout& layout) { return layout.has_strides() || layout.kind == Layout::Kind::any; }
inline bool row_major_or_any(const Layout& layout) { return layout.is_row_major() || layout.kind == Layout::Kind::any; }

// A layout of this order, dense or with a pitch.
inline bool lies_as(const Layout& layout, const Layout& dense) {
  return layout.has_strides() && layout.order == dense.order;
}
// Elements from row to row of the innermost axis, whose extent is given.
inline int64_t row_pitch(const Layout& layout, int64_t extent) { return layout.pitch ? layout.pitch : extent; }

// Every operand and result is a plain tensor of whole bytes, host operands known.
Answer plain_problem(const Problem& problem);
// The same, and all of them row-major.
Answer row_major_problem(const Problem& problem);
// The same for one stage of this operator.
Answer row_major_problem(const Problem& problem, std::string_view name);

// Whether a stage's operand is a device operand of f32 or bf16.
Answer is_image(const Problem& problem, uint16_t value);

// Everything row-major.
Needs row_major_needs(const Kernel&, const Problem& problem, const Config&, const DeviceSpec&);
// Every layout as it is given, settled.
Needs settled_needs(const Kernel&, const Problem& problem, const Config&, const DeviceSpec&);
// Operand `x` and the result in `layout`, the other operands settled.
Needs image_needs(const Problem& problem, uint16_t x, const Layout& layout);

// Part of the extents of an empty tensor may multiply beyond 64 bits: that wraps.
inline int64_t product(const Dims& dims, size_t begin, size_t end) {
  uint64_t n = 1;
  for (size_t k = begin; k < end; ++k) n *= static_cast<uint64_t>(dims[k]);
  return static_cast<int64_t>(n);
}
inline int64_t product(const Dims& dims) { return product(dims, 0, dims.size()); }

struct Wide {
  uint64_t a, b;
};

// Calls go(zero) with a number of as many bytes.
template <typename F>
void by_width(int64_t width, F go) {
  switch (width) {
    case 1: return go(uint8_t{});
    case 2: return go(uint16_t{});
    case 4: return go(uint32_t{});
    case 8: return go(uint64_t{});
    default: return go(Wide{});
  }
}

template <typename T, typename... A>
T& emplace(Bound& bound, A&&... arguments) {
  auto state = std::make_shared<T>(std::forward<A>(arguments)...);
  T& out = *state;
  bound.state = std::move(state);
  return out;
}

inline int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

// Rows of [0, total) that a chunk takes when they are dealt in equal parts.
struct Range {
  int64_t begin, end;
};
inline Range part(int64_t total, int64_t chunks, int64_t chunk) {
  const int64_t each = ceil_div(total, chunks);
  return {std::min(total, chunk * each), std::min(total, (chunk + 1) * each)};
}

// How many chunks pay for this much work (bytes moved or equivalent) on this many threads.
inline int64_t chunks_for(int64_t work_bytes, int64_t units, int threads) {
  if (threads <= 1) return units > 0 ? 1 : 0;
  const int64_t by_work = work_bytes / (32 << 10) + 1;
  return std::min({units, by_work, 4 * static_cast<int64_t>(threads)});
}

}  // namespace sinter::cpu
