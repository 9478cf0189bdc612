#include "base/company.h"

#include <gtest/gtest.h>

namespace sinter {
namespace {

using std::chrono::microseconds;
using std::chrono::milliseconds;
using std::chrono::seconds;

// Work that takes as long as a test says, alone and shared.
struct Work {
  Company company;
  Company::Clock::time_point now{seconds(1000)};
  Company::Clock::duration alone, shared;
  int done_alone = 0;

  Work(Company::Clock::duration a, Company::Clock::duration s) : alone(a), shared(s) {}

  void run(int times) {
    for (int i = 0; i < times; ++i) {
      const bool by_itself = company.alone();
      done_alone += by_itself;
      const auto took = by_itself ? alone : shared;
      now += took;
      company.done(now, took);
    }
  }
  int alone_of(int times) {
    const int before = done_alone;
    run(times);
    return done_alone - before;
  }
};

TEST(Company, WorkThatGainsIsTriedAloneOnce) {
  Work w(milliseconds(4), milliseconds(2));
  EXPECT_EQ(w.alone_of(1), 0);
  EXPECT_EQ(w.alone_of(10'000), 3);
}

TEST(Company, WorkThatLosesIsDoneAloneAndTriedAgainEverMoreRarely) {
  Work w(milliseconds(4), milliseconds(7));
  EXPECT_LT(w.alone_of(20), 20);
  const int first = 1000 - w.alone_of(1000);  // four seconds
  const int later = 10'000 - w.alone_of(10'000);
  EXPECT_GT(first, 9);
  EXPECT_LT(first, 40);
  EXPECT_LT(later, 2 * first);
  EXPECT_GE(later, 3);
}

TEST(Company, AGainOfNothingIsNoGain) {
  Work w(milliseconds(4), milliseconds(4));
  w.run(20);
  // Neither wins clearly: what is shared stays so, and is tried alone ever more rarely.
  EXPECT_LT(w.alone_of(10'000), 200);
}

TEST(Company, LongWorkIsAlwaysShared) {
  Work w(milliseconds(30), milliseconds(40));
  EXPECT_EQ(w.alone_of(1000), 0);
}

TEST(Company, FollowsWhatChanges) {
  Work w(milliseconds(4), milliseconds(2));
  w.run(100);
  w.shared = milliseconds(7);  // the other core is far away now
  w.run(40);
  EXPECT_TRUE(w.company.alone());
  w.shared = milliseconds(2);
  w.run(1500);
  EXPECT_FALSE(w.company.alone());
}

TEST(Company, OneSlowTimeChangesNothing) {
  Work w(milliseconds(4), milliseconds(2));
  w.run(100);
  for (int i = 0; i < 50; ++i) {
    w.shared = milliseconds(100);
    EXPECT_EQ(w.alone_of(1), 0);
    w.shared = milliseconds(2);
    EXPECT_EQ(w.alone_of(5), 0);
  }
}

TEST(Company, TheFirstTimeAfterAChangeDoesNotCount) {
  Company company;
  Company::Clock::time_point now{seconds(1)};
  const auto done = [&](Company::Clock::duration took) { company.done(now += took, took); };
  done(milliseconds(19));  // cold
  for (int i = 0; i < 4; ++i) done(microseconds(900));
  ASSERT_TRUE(company.alone());
  done(milliseconds(5));
  done(microseconds(500));
  ASSERT_TRUE(company.alone());
  done(microseconds(500));
  EXPECT_TRUE(company.alone());  // it has won
}

}  // namespace
}  // namespace sinter
