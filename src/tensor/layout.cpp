#include "tensor/layout.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/checked.h"
#include "base/scanner.h"

namespace sinter {

Layout Layout::ordered(std::vector<uint8_t> order) {
  bool identity = true;
  for (size_t k = 0; k < order.size(); ++k) identity = identity && order[k] == k;
  Layout layout;
  if (!identity) layout.order = std::move(order);
  return layout;
}

Layout Layout::channels_last(size_t rank) {
  std::vector<uint8_t> order;
  for (size_t k = 0; k < rank; ++k) order.push_back(static_cast<uint8_t>(k == 0 ? 0 : k + 1 == rank ? 1 : k + 1));
  return ordered(std::move(order));
}

int64_t layout_bytes(const Layout& layout, DType dtype, const Dims& dims) {
  const int64_t count = element_count(dims);
  if (layout.pitch > 0) {
    if (dims.empty()) throw Error(Code::invalid_argument, "a scalar has no rows");
    const int64_t row = dims[layout.innermost(dims.size())];
    if (row > layout.pitch)
      throw Error(Code::invalid_argument,
                  fmt::format("rows of {} elements do not fit a pitch of {}", row, layout.pitch));
    if (count == 0) return 0;
    return byte_size(dtype, checked_add(checked_mul(count / row - 1, layout.pitch, "rows"), row, "rows"));
  }
  if (layout.kind == Layout::Kind::strided || layout.kind == Layout::Kind::any) return byte_size(dtype, count);
  const size_t rank = dims.size();
  const auto padded = [&](int64_t n) { return align_up(n, layout.lanes, "panel columns"); };
  const auto bytes = [&](int64_t columns, int64_t taps, int64_t k) -> int64_t {
    if (is_byte(dtype)) {
      if (layout.lanes % BytePanels::tile != 0)
        throw Error(Code::invalid_argument, fmt::format("panels of bytes hold multiples of {} columns, not of {}",
                                                        BytePanels::tile, layout.lanes));
      if (count == 0) return 0;
      const int64_t depth = align_up(checked_mul(taps, k, "panels"), BytePanels::depth, "panels");
      return checked_mul(columns, checked_add(depth, 4, "panels"), "panels");
    }
    const int planes = plane_count(layout.numbers);
    if (planes == 0)
      return byte_size(layout.numbers == PanelNumbers::plain ? dtype : DType::bf16,
                       checked_mul(columns, checked_mul(taps, k, "panels"), "panels"));
    const int64_t depth =
        checked_mul(taps / layout.run, align_up(checked_mul(k, layout.run, "panels"), 32, "panels"), "panels");
    return byte_size(DType::bf16, checked_mul(columns, checked_mul(depth, planes, "planes"), "planes"));
  };
  if (layout.kind == Layout::Kind::matrix_panels) {
    const int64_t n = layout.transposed ? dims[rank - 2] : dims[rank - 1];
    const int64_t k = layout.transposed ? dims[rank - 1] : dims[rank - 2];
    int64_t matrices = 1;
    for (size_t i = 0; i + 2 < rank; ++i) matrices = checked_mul(matrices, dims[i], "matrices");
    return bytes(checked_mul(matrices, padded(n), "panels"), 1, k);
  }
  int64_t taps = 1;
  for (size_t i = 2; i < rank; ++i) taps = checked_mul(taps, dims[i], "taps");
  if (!layout.phases.empty()) {
    const int64_t columns = checked_mul(padded(dims[1]), layout.groups, "panel columns");
    return bytes(columns, taps, dims[0] / layout.groups);
  }
  if (layout.transposed) {
    const int64_t n = padded(checked_mul(taps, dims[1], "panel columns"));
    return bytes(checked_mul(n, layout.groups, "panel columns"), 1, dims[0] / layout.groups);
  }
  const int64_t columns = checked_mul(padded(dims[0] / layout.groups), layout.groups, "panel columns");
  return bytes(columns, taps, dims[1]);
}

Dims layout_strides(const Layout& layout, const Dims& dims) {
  Dims strides(dims.size(), 1);
  int64_t stride = 1;
  for (size_t k = dims.size(); k-- > 0;) {
    const size_t axis = layout.order.empty() ? k : layout.order[k];
    strides[axis] = stride;
    // Empty tensors may have extents whose product does not fit.
    const bool pitched = layout.pitch > 0 && k + 1 == dims.size();
    if (__builtin_mul_overflow(stride, pitched ? layout.pitch : dims[axis], &stride)) stride = 0;
  }
  return strides;
}

std::vector<int64_t> taps_by_phase(const Layout& layout, std::span<const int64_t> window) {
  std::vector<int64_t> out;
  // Axis by axis: where each of the phases so far has its taps.
  std::vector<std::vector<int64_t>> phases{{0}};
  for (size_t axis = 0; axis < window.size(); ++axis) {
    std::vector<std::vector<int64_t>> next;
    for (const std::vector<int64_t>& taps : phases)
      for (int64_t phase = 0; phase < layout.phases[axis]; ++phase) {
        std::vector<int64_t>& of = next.emplace_back();
        const int64_t count = (window[axis] - phase + layout.phases[axis] - 1) / layout.phases[axis];
        for (const int64_t tap : taps)
          for (int64_t i = count; i-- > 0;) of.push_back(tap * window[axis] + phase + i * layout.phases[axis]);
      }
    phases = std::move(next);
  }
  for (const std::vector<int64_t>& taps : phases) out.insert(out.end(), taps.begin(), taps.end());
  return out;
}

namespace {

bool phases_fit(const Layout& layout, size_t axes) {
  if (layout.phases.empty()) return true;
  int64_t all = 1;
  for (const uint8_t n : layout.phases) all = all > Layout::most_phases ? all : all * n;
  return layout.transposed && layout.phases.size() == axes && all >= 1 && all <= Layout::most_phases;
}

}  // namespace

bool layout_fits(const Layout& layout, size_t rank) {
  const bool panels_fit = layout.lanes > 0 && layout.width > 0 && layout.width <= 1024 &&
                          layout.width % layout.lanes == 0 && layout.run >= 1;
  switch (layout.kind) {
    case Layout::Kind::any: return true;
    case Layout::Kind::matrix_panels: return rank >= 2 && panels_fit;
    case Layout::Kind::conv_panels:
      return rank >= 3 && panels_fit && layout.groups > 0 && (!layout.transposed || layout.run == 1) &&
             phases_fit(layout, rank - 2);
    case Layout::Kind::strided: break;
  }
  if (layout.pitch < 0 || (layout.pitch > 0 && rank == 0)) return false;
  if (layout.order.empty()) return true;
  if (layout.order.size() != rank) return false;
  uint64_t seen = 0;
  for (uint8_t axis : layout.order) {
    if (axis >= rank) return false;
    seen |= uint64_t{1} << axis;
  }
  return seen == (uint64_t{1} << rank) - 1;
}

namespace {

std::string numbers_text(PanelNumbers numbers) {
  switch (numbers) {
    case PanelNumbers::plain: return "";
    case PanelNumbers::bf16: return ", bf16";
    case PanelNumbers::f16: return ", f16";
    case PanelNumbers::f16_plane: return ", f16 plane";
    default: return fmt::format(", planes {}", plane_count(numbers));
  }
}

// Behind a comma.
PanelNumbers parse_numbers(Scanner& scanner) {
  if (scanner.accept("bf16")) return PanelNumbers::bf16;
  if (scanner.accept("f16")) return scanner.accept("plane") ? PanelNumbers::f16_plane : PanelNumbers::f16;
  scanner.expect("planes");
  const int64_t planes = scanner.integer();
  for (const PanelNumbers numbers : {PanelNumbers::planes1, PanelNumbers::planes2, PanelNumbers::planes3})
    if (plane_count(numbers) == planes) return numbers;
  scanner.fail("number out of range in a layout");
}

}  // namespace

std::string to_text(const Layout& layout) {
  switch (layout.kind) {
    case Layout::Kind::any: return "@any";
    case Layout::Kind::matrix_panels:
      return fmt::format("@{}({}, {}{})", layout.transposed ? "matrix_t" : "matrix", layout.width, layout.lanes,
                         numbers_text(layout.numbers));
    case Layout::Kind::conv_panels:
      return fmt::format("@{}({}, {}, {}{}{}{}{})", layout.transposed ? "conv_t" : "conv", layout.width, layout.lanes,
                         layout.groups, numbers_text(layout.numbers),
                         plane_count(layout.numbers) ? fmt::format(", run {}", layout.run) : "",
                         layout.phases.empty() ? "" : ", phases ", fmt::join(layout.phases, " "));
    case Layout::Kind::strided: break;
  }
  if (layout.is_row_major()) return "";
  std::string out = "@(";
  for (size_t i = 0; i < layout.order.size(); ++i) out += fmt::format("{}{}", i ? ", " : "", layout.order[i]);
  if (layout.pitch > 0) out += fmt::format("{}pitch {}", layout.order.empty() ? "" : ", ", layout.pitch);
  return out + ")";
}

Layout parse_layout(Scanner& scanner) {
  if (!scanner.accept("@")) return {};
  if (scanner.accept("any")) return Layout::any();
  const auto number = [&](int64_t high) {
    const int64_t v = scanner.integer();
    if (v < 0 || v > high) scanner.fail("number out of range in a layout");
    return v;
  };
  const bool plain = scanner.accept("matrix");
  if (plain || scanner.accept("matrix_t")) {
    scanner.expect("(");
    const auto width = static_cast<int32_t>(number(1024));
    scanner.expect(",");
    const auto lanes = static_cast<int32_t>(number(1024));
    const PanelNumbers numbers = scanner.accept(",") ? parse_numbers(scanner) : PanelNumbers::plain;
    scanner.expect(")");
    return Layout::matrix_panels(width, lanes, !plain, numbers);
  }
  const bool forward = scanner.accept("conv");
  if (forward || scanner.accept("conv_t")) {
    scanner.expect("(");
    const auto width = static_cast<int32_t>(number(1024));
    scanner.expect(",");
    const auto lanes = static_cast<int32_t>(number(1024));
    scanner.expect(",");
    const auto groups = static_cast<int32_t>(number(INT32_MAX));
    Layout layout = Layout::conv_panels(width, lanes, groups);
    layout.transposed = !forward;
    while (scanner.accept(",")) {
      if (layout.transposed && scanner.accept("phases")) {
        do layout.phases.push_back(static_cast<uint8_t>(number(Layout::most_phases)));
        while (scanner.at_number());
        break;
      }
      if (layout.numbers != PanelNumbers::plain) scanner.fail("a layout of two kinds of numbers");
      layout.numbers = parse_numbers(scanner);
      if (plane_count(layout.numbers) == 0) continue;
      scanner.expect(",");
      scanner.expect("run");
      layout.run = static_cast<int32_t>(number(INT32_MAX));
      if (layout.run < 1) scanner.fail("number out of range in a layout");
    }
    scanner.expect(")");
    return layout;
  }
  scanner.expect("(");
  std::vector<uint8_t> order;
  int32_t pitch = 0;
  do {
    if (scanner.accept("pitch")) {
      pitch = static_cast<int32_t>(number(INT32_MAX));
      break;
    }
    order.push_back(static_cast<uint8_t>(number(63)));
  } while (scanner.accept(","));
  scanner.expect(")");
  return Layout::ordered(std::move(order)).with_pitch(pitch);
}

}  // namespace sinter
