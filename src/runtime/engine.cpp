#include "runtime/engine.h"

#include <fmt/core.h>

#include <algorithm>

namespace sinter {
namespace {

bool fits(const Box& value, const Type& type) {
  switch (type.kind) {
    case Type::Kind::tensor: return value.kind == Box::Kind::tensor && value.tensor.dtype() == type.dtype;
    case Type::Kind::sequence:
      return value.kind == Box::Kind::sequence &&
             std::all_of(value.items.begin(), value.items.end(), [&](const Box& b) { return fits(b, *type.element); });
    case Type::Kind::optional: return value.kind == Box::Kind::none || fits(value, *type.element);
    case Type::Kind::map:
      return value.kind == Box::Kind::map && value.keys().dtype() == type.dtype &&
             value.values().dtype() == type.element->dtype;
    case Type::Kind::invalid: break;
  }
  return false;
}

std::string kinds(const Box& value) {
  if (value.kind == Box::Kind::none) return "nothing";
  if (value.kind == Box::Kind::tensor) return dtype_name(value.tensor.dtype());
  if (value.kind == Box::Kind::map)
    return fmt::format("a map from {} to {}", dtype_name(value.keys().dtype()), dtype_name(value.values().dtype()));
  std::string out = "a sequence of ";
  for (size_t i = 0; i < std::min<size_t>(value.items.size(), 4); ++i) out += (i ? ", " : "") + kinds(value.items[i]);
  return out + (value.items.empty() ? "nothing" : value.items.size() > 4 ? ", ..." : "");
}

std::string kinds(const Type& type) {
  if (type.kind == Type::Kind::sequence) return "a sequence of " + kinds(*type.element);
  if (type.kind == Type::Kind::optional) return kinds(*type.element) + " or nothing";
  if (type.kind == Type::Kind::map)
    return fmt::format("a map from {} to {}", dtype_name(type.dtype), dtype_name(type.element->dtype));
  return dtype_name(type.dtype);
}

}  // namespace

void require_fits(const Box& value, const Type& type, const std::string& input) {
  if (!fits(value, type))
    throw Error(Code::invalid_argument,
                fmt::format("input '{}' is {}, the engine wants {}", input, kinds(value), kinds(type)))
        .at_tensor(input);
}

std::optional<size_t> Engine::input_under(size_t output) const {
  const uint32_t input = executable_->over.at(output);
  return input == no_slot ? std::nullopt : std::optional<size_t>(input);
}

Engine::Engine(std::shared_ptr<const Executable> executable) : executable_(std::move(executable)) {
  for (const Binding& binding : target().bindings) inputs_ += !binding.is_output;
}

std::optional<std::vector<std::string>> Engine::extents_text(const Binding& binding) const {
  if (!binding.type.has_shape()) return std::nullopt;
  std::vector<std::string> out;
  for (const Dim& d : *binding.type.shape) out.push_back(to_string(d, target().symbols));
  return out;
}

}  // namespace sinter
