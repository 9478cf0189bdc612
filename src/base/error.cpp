#include "base/error.h"

#include <fmt/core.h>

namespace sinter {

const char* code_name(Code code) {
  switch (code) {
    case Code::ok: return "ok";
    case Code::invalid_argument: return "invalid argument";
    case Code::model_invalid: return "invalid model";
    case Code::unsupported: return "unsupported";
    case Code::io: return "input/output";
    case Code::limit: return "limit exceeded";
    case Code::out_of_memory: return "out of memory";
    case Code::cancelled: return "cancelled";
    case Code::engine_invalid: return "invalid engine";
    case Code::engine_incompatible: return "incompatible engine";
    case Code::fault: return "fault at run time";
    case Code::mismatch: return "mismatch";
    case Code::busy: return "busy";
    case Code::internal: return "internal error";
  }
  return "unknown";
}

Error& Error::add_context(std::string_view context) {
  context_ = context_.empty() ? std::string(context) : fmt::format("{}: {}", context, context_);
  compose();
  return *this;
}

Error& Error::at_node(std::string node) {
  if (origin_.node.empty()) origin_.node = std::move(node);
  return *this;
}

Error& Error::at_tensor(std::string tensor) {
  if (origin_.tensor.empty()) origin_.tensor = std::move(tensor);
  return *this;
}

Error& Error::with_hint(std::string hint) {
  if (origin_.hint.empty()) origin_.hint = std::move(hint);
  compose();
  return *this;
}

void Error::compose() {
  what_ = context_.empty() ? message_ : fmt::format("{}: {}", context_, message_);
  if (!origin_.hint.empty()) what_ += fmt::format(" ({})", origin_.hint);
}

void Problems::check(std::string_view headline) const {
  if (errors_.empty()) return;
  if (errors_.size() == 1) throw errors_[0];
  std::string text = fmt::format("{}: {} problems", headline, errors_.size());
  for (const Error& error : errors_) text += fmt::format("\n  - {}", error.what());
  Error all(errors_[0].code(), std::move(text));
  all.at_node(errors_[0].origin().node).at_tensor(errors_[0].origin().tensor);
  throw all;
}

}  // namespace sinter
