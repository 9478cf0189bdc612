#include "base/crowd.h"

#include <gtest/gtest.h>

namespace sinter {
namespace {

using std::chrono::microseconds;
using std::chrono::milliseconds;

// Clocks that a test sets: those of a caller that has had its CPU for `used` of the time.
struct Machine {
  Crowd crowd;
  Crowd::Clock::time_point now{std::chrono::seconds(1000)};
  Crowd::Usage usage;
  int looked = 0;

  explicit Machine(unsigned granted) { crowd.leased(granted); }
  void pass(Crowd::Clock::duration time, double used) {
    now += time;
    usage.time += std::chrono::duration_cast<Crowd::Clock::duration>(used * time);
  }
  unsigned allowed() {
    return crowd.allowed(now, [&] {
      ++looked;
      return usage;
    });
  }
  unsigned allowed_after(Crowd::Clock::duration time, double used = 1) {
    pass(time, used);
    return allowed();
  }
};

TEST(Crowd, AllWorkersWhereNothingStalls) {
  Machine m(3);
  for (int i = 0; i < 100; ++i) EXPECT_EQ(m.allowed_after(milliseconds(1)), 3u);
}

TEST(Crowd, AStallTakesAQuarterAndAtLeastOneForTwoMilliseconds) {
  for (const auto& [granted, left] : {std::pair{1u, 0u}, {2u, 1u}, {8u, 6u}, {31u, 24u}}) {
    Machine m(granted);
    EXPECT_EQ(m.allowed(), granted);
    m.crowd.stalled(m.now);
    EXPECT_EQ(m.allowed_after(microseconds(1999)), left);
    EXPECT_EQ(m.allowed_after(microseconds(1)), granted);
  }
}

TEST(Crowd, StallsThatFollowEachOtherTakeMoreAndForLonger) {
  Machine m(8);
  m.crowd.stalled(m.now);
  EXPECT_EQ(m.allowed(), 6u);
  m.crowd.stalled(m.now);
  EXPECT_EQ(m.allowed(), 5u);
  EXPECT_EQ(m.allowed_after(microseconds(3999)), 5u);
  EXPECT_EQ(m.allowed_after(microseconds(1)), 8u);
  // Soon after the end of the pause: twice as long, up to half a second, whatever comes.
  for (auto pause = milliseconds(8); pause < milliseconds(2000); pause *= 2) {
    m.crowd.stalled(m.now);
    const auto expected = std::min<Crowd::Clock::duration>(pause, Crowd::longest_pause);
    EXPECT_EQ(m.allowed_after(expected - microseconds(1)), 6u);
    EXPECT_EQ(m.allowed_after(microseconds(1)), 8u);
  }
  // Long after it: as if for the first time.
  EXPECT_EQ(m.allowed_after(std::chrono::seconds(2)), 8u);
  m.crowd.stalled(m.now);
  EXPECT_EQ(m.allowed_after(Crowd::least_pause), 8u);
}

TEST(Crowd, NobodyIsLeftWhereEverythingStalls) {
  Machine m(3);
  for (int i = 0; i < 10; ++i) m.crowd.stalled(m.now);
  EXPECT_EQ(m.allowed(), 0u);
}

TEST(Crowd, ACallerThatLostItsCpuHasWorkersTakenAway) {
  Machine m(2);
  EXPECT_EQ(m.allowed(), 2u);
  EXPECT_EQ(m.looked, 0);
  EXPECT_EQ(m.allowed_after(microseconds(300), 0), 2u);  // not known before the first look
  EXPECT_EQ(m.looked, 1);
  EXPECT_EQ(m.allowed_after(milliseconds(1), 0), 2u);  // not long enough
  EXPECT_EQ(m.looked, 1);
  EXPECT_EQ(m.allowed_after(microseconds(1001), 0.5), 1u);
  EXPECT_EQ(m.looked, 2);
}

TEST(Crowd, ACallerThatHasItsCpuOrWaitedByItselfLosesNothing) {
  for (const bool waits : {false, true}) {
    Machine m(2);
    EXPECT_EQ(m.allowed(), 2u);
    EXPECT_EQ(m.allowed_after(microseconds(300)), 2u);
    for (int i = 0; i < 20; ++i) {
      if (waits) ++m.usage.waits;
      EXPECT_EQ(m.allowed_after(microseconds(2500), waits ? 0.1 : 0.7), 2u);
    }
    EXPECT_EQ(m.looked, 21);
  }
}

TEST(Crowd, LeasesBeginWithoutSamplesAndKeepPausesOfTheirSize) {
  Machine m(2);
  EXPECT_EQ(m.allowed(), 2u);
  EXPECT_EQ(m.allowed_after(microseconds(300)), 2u);
  m.crowd.leased(2);
  EXPECT_EQ(m.allowed_after(milliseconds(50), 0), 2u);  // what passed between leases is not lost
  m.crowd.stalled(m.now);
  m.crowd.leased(2);
  EXPECT_EQ(m.allowed(), 1u);
  m.crowd.leased(3);
  EXPECT_EQ(m.allowed(), 3u);
}

}  // namespace
}  // namespace sinter
