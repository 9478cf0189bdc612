#include "ops/views.h"

#include <fmt/core.h>

#include <algorithm>

#include "ops/movement.h"

namespace sinter {
namespace {

bool reshapes(std::string_view name) {
  return name == "Reshape" || name == "Squeeze" || name == "Unsqueeze" || name == "Flatten";
}

}  // namespace

bool is_movement_view(const Op& op) {
  const std::string_view name = op.name;
  return reshapes(name) || name == "Transpose" || name == "Identity" || name == "Expand" || name == "Slice" ||
         name == "Split";
}

namespace {

bool is_one(const Dim& d) { return d == Dim(1); }

// The axes of `to` from `at` on whose product is `wanted`; moves `at` behind them.
bool takes(const Shape& to, size_t& at, const Dim& wanted) {
  Dim product(1);
  while (at < to.size() && !(product == wanted)) product = product * to[at++];
  return product == wanted;
}

// Axis `at` of `to` is `whole` times all of `next`, or its front, whose rest are the axes behind it; moves `at` behind
// those.
bool joins(const Shape& to, size_t& at, const Dim& whole, const Dim& next) {
  while (at < to.size() && is_one(to[at])) ++at;
  if (at == to.size()) return false;
  if (to[at] == whole * next) {
    ++at;
    return true;
  }
  const auto count = next.as_constant();
  if (!count) return false;
  const Dim& joined = to[at];
  int64_t rest = 1;
  for (size_t end = at + 1; end < to.size(); ++end) {
    const auto extent = to[end].as_constant();
    if (!extent || *extent < 1 || *extent > *count / rest) return false;
    rest *= *extent;
    if (*count % rest != 0 || !(joined == whole * Dim(*count / rest))) continue;
    at = end + 1;
    return true;
  }
  return false;
}

// Each axis of `from` but those of 1 is one axis of `to`, cut into several, or joined with the next or its front. As
// many elements are on both sides, so one pair of axes whose extents are not known to be equal is.
bool regroups(const Shape& from, const Shape& to, std::vector<bool>& two_strides) {
  std::vector<bool> before(from.size(), false);
  size_t at = 0;
  bool paired = false;
  for (size_t k = 0; k < from.size(); ++k) {
    if (is_one(from[k])) continue;
    const size_t first = at;
    if (takes(to, at, from[k])) {
      size_t axis = to.size(), wide = 0;
      for (size_t j = first; j < at; ++j)
        if (!is_one(to[j])) axis = j, ++wide;
      before[k] = wide == 1 && two_strides[axis];
      continue;
    }
    at = first;
    while (at < to.size() && is_one(to[at])) ++at;
    const size_t joined = at;
    size_t next = k + 1;
    while (next < from.size() && is_one(from[next])) ++next;
    if (next < from.size() && joins(to, at, from[k], from[next])) {
      if (!two_strides[joined]) return false;
      k = next;
      continue;
    }
    if (paired || joined == to.size()) return false;
    if (next < from.size() && from[k].is_constant() && to[joined].is_constant()) return false;
    paired = true;
    at = next == from.size() ? to.size() : joined + 1;
    before[k] = at == joined + 1 && two_strides[joined];
  }
  two_strides = std::move(before);
  return std::all_of(to.begin() + static_cast<ptrdiff_t>(at), to.end(), is_one);
}

bool known(std::span<const Contents* const> contents, size_t i) {
  return i < contents.size() && contents[i] != nullptr;
}

Answer hosts_known(const Op& op, std::span<const Contents* const> contents) {
  for (size_t i = 0; i < contents.size() && i < 64; ++i)
    if (known(contents, i) && (op.host_inputs >> i & 1) && std::holds_alternative<std::monostate>(*contents[i]))
      return Answer::no("a host operand is known only at run time");
  return Answer::yes();
}

Answer regrouped_axes(const Op& op, const Shape& from, const Shape& to, std::vector<bool>& two_strides) {
  try {
    if (regroups(from, to, two_strides)) return Answer::yes();
  } catch (const Error&) {
    // extents beyond what a Dim holds
  }
  return Answer::no(fmt::format("this {} joins axes", op.name));
}

// Axis perm[k] of an operand is axis k of the result.
size_t source_axis(const Attrs& attrs, size_t k, size_t rank) {
  const std::vector<int64_t>& perm = attrs.as<TransposeAttrs>().perm;
  const int64_t p = perm.empty() ? static_cast<int64_t>(rank - 1 - k) : perm[k];
  return static_cast<size_t>(p < 0 ? p + static_cast<int64_t>(rank) : p);
}

}  // namespace

Answer is_strided_view(const Op& op, const Attrs& attrs, const Type& x, const Type& y,
                       std::span<const Contents* const> contents, std::vector<bool>& two_strides) {
  if (!is_movement_view(op)) return Answer::no(fmt::format("{} is no view", op.name));
  if (!x.is_plain() || !y.is_plain()) return Answer::no("a view of no plain tensor");
  if (Answer a = hosts_known(op, contents); !a) return a;
  const std::string_view name = op.name;
  const size_t rank = x.shape->size();
  if (reshapes(name)) return regrouped_axes(op, *x.shape, *y.shape, two_strides);
  if (name == "Identity") return Answer::yes();
  if (name == "Transpose") {
    std::vector<bool> before(rank, false);
    for (size_t k = 0; k < rank; ++k) before[source_axis(attrs, k, rank)] = two_strides[k];
    two_strides = std::move(before);
    return Answer::yes();
  }
  two_strides.assign(rank, false);
  if (name == "Split" && !known(contents, 1)) return Answer::no("a Split without sizes");
  if (name != "Slice") return Answer::yes();
  if (known(contents, 3) && !std::holds_alternative<Tensor>(*contents[3]))
    return Answer::no("the axes of a Slice are not constant");
  if (!known(contents, 4)) return Answer::yes();
  const auto* steps = std::get_if<Tensor>(contents[4]);
  if (!steps) return Answer::no("the steps of a Slice are not constant");
  for (int64_t step : steps->to_integers())
    if (step < 1) return Answer::no("a Slice goes backwards");
  return Answer::yes();
}

Answer is_strided_target(const Op& op, const Attrs& attrs, const Type& x, const Type& y,
                         std::span<const Contents* const> contents, std::vector<bool>& two_strides) {
  const std::string_view name = op.name;
  if (!x.is_plain() || !y.is_plain()) return Answer::no("a view of no plain tensor");
  if (Answer a = hosts_known(op, contents); !a) return a;
  if (reshapes(name)) return regrouped_axes(op, *y.shape, *x.shape, two_strides);
  if (name != "Transpose") return Answer::no(fmt::format("{} is more than another order", name));
  const size_t rank = x.shape->size();
  std::vector<bool> behind(rank, false);
  for (size_t k = 0; k < rank; ++k) behind[k] = two_strides[source_axis(attrs, k, rank)];
  two_strides = std::move(behind);
  return Answer::yes();
}

}  // namespace sinter
