// Crowd: how many workers a lease had better use where other programs want the CPUs too.
//
// A region waits for a worker that lost its CPU in the middle of a chunk, a scheduler's slice of some milliseconds each
// time, and a caller that shares its CPU with a worker of its own gains nothing. Each such stall takes workers away for
// a while, twice as long when the last one was not long ago. On a machine with nothing else to do stalls are rare, and
// one costs two milliseconds. Reads no clock itself; used by one thread at a time.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstdint>

namespace sinter {

class Crowd {
 public:
  using Clock = std::chrono::steady_clock;
  // What a thread has used of CPUs, and how often it gave one up by itself.
  struct Usage {
    Clock::duration time = {};
    int64_t waits = 0;
  };

  static constexpr std::chrono::microseconds settled{200}, sample_time{2000};
  static constexpr std::chrono::microseconds least_pause{2000}, longest_pause{512000};

  // A lease begins; what is known of the last one counts if it was as large.
  void leased(unsigned granted) {
    if (granted != granted_) *this = Crowd();
    granted_ = granted;
    begun_ = sampled_ = false;
  }
  // At the beginning of a region: the workers to call. `usage()` is that of the calling thread, asked for rarely.
  template <typename F>
  unsigned allowed(Clock::time_point now, F usage) {
    if (!begun_) {
      begun_ = true;
      since_ = now;
    }
    if (const Clock::duration passed = now - since_; passed > (sampled_ ? sample_time : settled)) {
      // Regions do not sleep: what the caller could not use of its CPU, others have taken.
      const Usage used = usage();
      const Clock::duration lost = passed - (used.time - before_.time);
      if (sampled_ && with_workers_ && used.waits == before_.waits && 3 * lost > passed) stalled(now);
      sampled_ = true;
      with_workers_ = false;
      since_ = now;
      before_ = used;
    }
    if (now >= until_) less_ = 0;
    const unsigned workers = granted_ > less_ ? granted_ - less_ : 0;
    with_workers_ = with_workers_ || workers > 0;
    return workers;
  }
  void stalled(Clock::time_point now) {
    const bool again = now < until_ + std::max<Clock::duration>(2 * pause_, std::chrono::microseconds(10000));
    pause_ = again ? std::min<Clock::duration>(2 * pause_, longest_pause) : least_pause;
    const unsigned left = granted_ > less_ ? granted_ - less_ : 0;
    less_ = std::min(granted_, less_ + std::max(1u, left / 4));
    until_ = now + pause_;
  }

 private:
  Clock::time_point until_ = {}, since_ = {};  // since_: the lease's first region, then the last sample
  Clock::duration pause_ = least_pause;
  Usage before_;
  unsigned less_ = 0, granted_ = 0;  // less_: workers that are left out until `until_`
  bool begun_ = false, sampled_ = false, with_workers_ = false;
};

}  // namespace sinter
