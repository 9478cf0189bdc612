// Parallel work on threads that the caller of the library gives, in the place of the pool's.
//
// The caller's function gets a task and calls it once for each worker, at once or one after the other, in any order and
// on any thread. Workers share the chunks of a region, so those that come late find less to do, or nothing, and nobody
// waits for them but the caller's function itself: no way of running them can deadlock here. What the function does
// wrong until it returns (workers left out, called twice or out of range, or still running; exceptions) ends in a bad
// status. Calls that come later run nothing, whatever region, of this crew or another, is open by then; nobody is told
// of them. Nothing makes two threads one worker, and the task touches no memory that is gone.
#pragma once

#include <memory>

#include "base/workers.h"

namespace sinter {

struct CallerThreads {
  unsigned count = 0;  // how many there are, the calling one among them; 0: none are given
  void (*run)(void* user, void (*task)(void* context, int worker), void* context, int workers) = nullptr;
  void* user = nullptr;
};

// The caller's threads as workers of one user at a time.
class Crew final : public Workers {
 public:
  // At most `wanted` of them, and of those there are; the calling thread alone beside 65535 crews.
  Crew(const CallerThreads& threads, unsigned wanted);
  ~Crew() override;
  Crew(const Crew&) = delete;
  Crew& operator=(const Crew&) = delete;
  Status parallel(int64_t chunks, Work work, void* user) const override;

 private:
  struct Region;
  struct Regions;
  static void task(void* context, int worker) noexcept;
  CallerThreads threads_;
  Region* region_;  // null: the calling thread is alone
};

// What contexts that are made from now on, builds and loads use; without `count` the process's pool.
void set_default_threads(const CallerThreads& threads);
CallerThreads default_threads();
// How many threads work is made for where nobody says: those of the default, or usable CPUs.
unsigned default_thread_count();
// Of the default, or leased of the process's pool.
std::unique_ptr<const Workers> hire(unsigned wanted);

}  // namespace sinter
