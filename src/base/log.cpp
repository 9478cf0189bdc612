#include "base/log.h"

#include <cstdio>

namespace sinter {

void Logger::log(LogLevel l, std::string_view message) const {
  if (!wants(l)) return;
  if (sink) {
    sink(user, l, message);
    return;
  }
  static constexpr const char* names[] = {"error", "warning", "info", "verbose", "debug"};
  std::fprintf(stderr, "sinter: %s: %.*s\n", names[static_cast<int>(l)], static_cast<int>(message.size()),
               message.data());
}

}  // namespace sinter
