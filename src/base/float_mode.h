// Whether a thread's arithmetic keeps numbers below the normal ones. Each such number costs some processors a hundred
// times an operation.
#pragma once

#if defined(__x86_64__)
#include <xmmintrin.h>
#endif

namespace sinter {

// For its lifetime this thread reads and makes 0 where f32 and f64 would be denormal. Nothing happens unless `on`, or
// where the processor has no such switch.
class FlushDenormals {
 public:
  explicit FlushDenormals(bool on) : on_(on) {
#if defined(__x86_64__)
    if (!on_) return;
    constexpr unsigned flush = 0x8040;  // results, operands
    before_ = _mm_getcsr();
    on_ = (before_ & flush) != flush;
    if (on_) _mm_setcsr(before_ | flush);
#endif
  }
  ~FlushDenormals() {
#if defined(__x86_64__)
    if (on_) _mm_setcsr(before_);
#endif
  }
  FlushDenormals(const FlushDenormals&) = delete;
  FlushDenormals& operator=(const FlushDenormals&) = delete;

  // In its lifetime, within that of `of`, the thread has again the mode that it had before: for functions of the
  // caller. Nothing happens without `of`.
  class Pause {
   public:
    explicit Pause(const FlushDenormals* of) : on_(of && of->on_) {
#if defined(__x86_64__)
      if (!on_) return;
      flushing_ = _mm_getcsr();
      _mm_setcsr(of->before_);
#endif
    }
    ~Pause() {
#if defined(__x86_64__)
      if (on_) _mm_setcsr(flushing_);
#endif
    }
    Pause(const Pause&) = delete;
    Pause& operator=(const Pause&) = delete;

   private:
    bool on_;
#if defined(__x86_64__)
    unsigned flushing_ = 0;
#endif
  };

 private:
  bool on_;
#if defined(__x86_64__)
  unsigned before_ = 0;
#endif
};

}  // namespace sinter
