#include "runtime/engine.h"

namespace sinter {

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
