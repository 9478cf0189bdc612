// Company: whether work that comes again and again had better be shared, by what it takes either way.
//
// Models of costs do not know how far apart the cores are that share it: where lines of cache between them take
// hundreds of nanoseconds (two chiplets, two sockets), steps of some microseconds lose more than threads gain. So the
// same work is done alone for a few times early on, and then whenever sharing it takes no less than that did. While it
// is done alone, sharing is tried again after pauses that grow. Reads no clock itself; used by one thread at a time.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstdint>

namespace sinter {

class Company {
 public:
  using Clock = std::chrono::steady_clock;

  // What takes longer is not tried alone: it gains by sharing, or waits (base/crowd.h).
  static constexpr std::chrono::milliseconds longest_work{20};
  static constexpr std::chrono::milliseconds least_pause{20}, longest_pause{4000};

  // How the work is to be done the next time.
  bool alone() const { return mode_ == Mode::alone || mode_ == Mode::trying_alone; }

  // It has been done so, and took so long until now.
  void done(Clock::time_point now, Clock::duration took) {
    // The first time after a change finds operands, or threads, elsewhere.
    if (++times_ > 1) best_ = times_ == 2 ? took : std::min(best_, took);
    switch (mode_) {
      case Mode::shared:
        if (times_ < (alone_ == Clock::duration() ? first_times : times_watched)) return;
        shared_ = best_;
        if (alone_ == Clock::duration() ? shared_ <= longest_work : now >= until_ && !clearly_less(shared_, alone_))
          change(Mode::trying_alone);
        else
          times_ = 1;
        return;
      case Mode::trying_alone:
        if (times_ < times_tried) return;
        alone_ = best_;
        wait(now);
        change(clearly_less(alone_, shared_) ? Mode::alone : Mode::shared);
        return;
      case Mode::alone:
        if (times_ > 1) alone_ = best_;
        if (now >= until_) change(Mode::trying_shared);
        return;
      case Mode::trying_shared:
        if (times_ < times_tried) return;
        shared_ = best_;
        if (clearly_less(shared_, alone_)) {
          pause_ = least_pause;
          change(Mode::shared);
        } else {
          wait(now);
          change(Mode::alone);
        }
    }
  }

 private:
  enum class Mode : uint8_t { shared, trying_alone, alone, trying_shared };
  static constexpr int first_times = 5, times_watched = 9, times_tried = 3;  // the first one does not count

  static bool clearly_less(Clock::duration a, Clock::duration b) { return 100 * a < 97 * b; }
  void change(Mode mode) {
    mode_ = mode;
    times_ = 0;
  }
  void wait(Clock::time_point now) {
    until_ = now + pause_;
    pause_ = std::min<Clock::duration>(2 * pause_, longest_pause);
  }

  Mode mode_ = Mode::shared;
  int times_ = 0;
  Clock::duration best_ = {}, shared_ = {}, alone_ = {}, pause_ = least_pause;  // zero: not known
  Clock::time_point until_ = {};
};

}  // namespace sinter
