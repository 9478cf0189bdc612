#include "ops/views.h"

#include <fmt/core.h>

#include <algorithm>

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

bool cuts_axes(const Shape& from, const Shape& to) {
  try {
    size_t at = 0;
    for (const Dim& d : from) {
      if (d == Dim(1)) continue;
      Dim product(1);
      while (at < to.size() && !(product == d)) product = product * to[at++];
      if (!(product == d)) return false;
    }
    return std::all_of(to.begin() + static_cast<ptrdiff_t>(at), to.end(), [](const Dim& d) { return d == Dim(1); });
  } catch (const Error&) {
    return false;  // extents beyond what a Dim holds
  }
}

Answer is_strided_view(const Op& op, const Type& x, const Type& y, std::span<const Contents* const> contents) {
  if (!is_movement_view(op)) return Answer::no(fmt::format("{} is no view", op.name));
  if (!x.is_plain() || !y.is_plain()) return Answer::no("a view of no plain tensor");
  const auto known = [&](size_t i) { return i < contents.size() && contents[i] != nullptr; };
  for (size_t i = 0; i < contents.size() && i < 64; ++i)
    if (known(i) && (op.host_inputs >> i & 1) && std::holds_alternative<std::monostate>(*contents[i]))
      return Answer::no("a host operand is known only at run time");
  const std::string_view name = op.name;
  if (reshapes(name) && !cuts_axes(*x.shape, *y.shape)) return Answer::no(fmt::format("this {} joins axes", name));
  if (name == "Split" && !known(1)) return Answer::no("a Split without sizes");
  if (name != "Slice") return Answer::yes();
  if (known(3) && !std::holds_alternative<Tensor>(*contents[3]))
    return Answer::no("the axes of a Slice are not constant");
  if (!known(4)) return Answer::yes();
  const auto* steps = std::get_if<Tensor>(contents[4]);
  if (!steps) return Answer::no("the steps of a Slice are not constant");
  for (int64_t step : steps->to_integers())
    if (step < 1) return Answer::no("a Slice goes backwards");
  return Answer::yes();
}

}  // namespace sinter
