// Company: whether work that comes again and again had better be shared, by what it takes either way.
//
// Models of costs do not know how far apart the cores are that share it: where lines of cache between them take
// hundreds of nanoseconds (two chiplets, two sockets), steps of some microseconds lose more than threads gain. So the
// same work is done alone for a few times early on, and again when sharing it takes no less than that did, or when that
// is long ago. While it is done alone, sharing is tried again after pauses that grow. Reads no clock itself; used by
// one thread at a time.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstdint>

namespace sinter {

class Company {
 public:
  using Clock = std::chrono::steady_clock;

  // What may take longer alone is not tried: it gains by sharing, or waits (base/crowd.h).
  static constexpr std::chrono::milliseconds longest_alone{20};
  static constexpr std::chrono::milliseconds least_pause{20}, longest_pause{4000}, longest_trust{16000};

  // How the work is to be done the next time.
  bool alone() const { return mode_ == Mode::alone || mode_ == Mode::trying_alone; }
  // The same but for trials.
  bool found_alone() const { return mode_ == Mode::alone || mode_ == Mode::trying_shared; }

  // It is other work from now on. Pauses last, so that work that changes all the time is not tried all the time.
  void changed() {
    change(Mode::shared);
    tried_ = false;
  }
  // So many threads will share it, the caller among them: what is known of another number does not count.
  void share_among(unsigned threads) {
    if (threads_ != threads) changed();
    threads_ = threads;
  }
  // It has been done as alone() said, or as share_among() was told, and took so long until now.
  void done(Clock::time_point now, Clock::duration took) {
    // The first time after a change finds operands, or threads, elsewhere.
    if (++times_ > 1) best_ = times_ == 2 ? took : std::min(best_, took);
    switch (mode_) {
      case Mode::shared:
        if (times_ < (tried_ ? times_watched : first_times)) return;
        shared_ = best_;
        times_ = 1;
        if (now >= until_ && shared_ * threads_ <= longest_alone &&
            (!tried_ || !clearly_less(shared_, alone_) || now >= until_ + longest_trust))
          change(Mode::trying_alone);
        return;
      case Mode::trying_alone:
        if (took <= hopeless * shared_ && times_ < times_tried) return;
        alone_ = times_ == 1 ? took : best_;
        tried_ = true;
        wait(now);
        change(clearly_less(alone_, shared_) ? Mode::alone : Mode::shared);
        return;
      case Mode::alone:
        if (times_ == times_watched) {
          alone_ = best_;
          times_ = 1;
        }
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
  static constexpr int hopeless = 3;  // times as long alone as shared: one trial is enough

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
  bool tried_ = false;  // alone_ is known
  unsigned threads_ = 1;
  int times_ = 0;
  Clock::duration best_ = {}, shared_ = {}, alone_ = {}, pause_ = least_pause;
  Clock::time_point until_ = {};
};

}  // namespace sinter
