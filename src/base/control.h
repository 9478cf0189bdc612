// Cancellation, deadline and progress, handed to everything that takes long.
#pragma once

#include <string_view>

#include "base/error.h"

namespace sinter {

struct Control {
  bool (*cancelled)(void* user) = nullptr;  // polled; true stops the work with Code::cancelled
  void (*progress)(void* user, std::string_view stage, double fraction) = nullptr;  // fraction in [0, 1]
  void* user = nullptr;

  void poll() const {
    if (cancelled && cancelled(user)) throw Error(Code::cancelled, "cancelled by the caller");
  }
  void report(std::string_view stage, double fraction) const {
    if (progress) progress(user, stage, fraction);
    poll();
  }
};

}  // namespace sinter
