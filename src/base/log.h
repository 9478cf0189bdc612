// Log lines with a level, delivered to one sink per build, load or process.
//
// A Logger is a plain pair of function and user pointer, so it crosses the C ABI unchanged. The default writes warnings
// and errors to stderr. Sinks must be thread-safe; messages never end in a newline.
#pragma once

#include <cstdint>
#include <string_view>

namespace sinter {

enum class LogLevel : uint8_t { error, warning, info, verbose, debug };

struct Logger {
  void (*sink)(void* user, LogLevel level, std::string_view message) = nullptr;
  void* user = nullptr;
  LogLevel level = LogLevel::warning;

  bool wants(LogLevel l) const { return l <= level; }
  void log(LogLevel l, std::string_view message) const;
};

}  // namespace sinter
