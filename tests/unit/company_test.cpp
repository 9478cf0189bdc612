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

  unsigned threads = 2;

  Work(Company::Clock::duration a, Company::Clock::duration s) : alone(a), shared(s) {}

  void run(int times) {
    for (int i = 0; i < times; ++i) {
      const bool by_itself = company.alone();
      if (!by_itself) company.share_among(threads);
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

TEST(Company, WorkThatGainsIsTriedAloneOnceInALongWhile) {
  Work w(milliseconds(4), milliseconds(2));
  EXPECT_EQ(w.alone_of(5), 0);
  EXPECT_EQ(w.alone_of(7000), 3);     // fourteen seconds
  EXPECT_EQ(w.alone_of(40'000), 15);  // every sixteen
}

TEST(Company, WorkThatLosesIsDoneAloneAndTriedAgainEverMoreRarely) {
  Work w(milliseconds(4), milliseconds(7));
  EXPECT_EQ(w.alone_of(20), 12);              // five shared, three of a trial, five alone, three shared, alone
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

TEST(Company, WhatMayTakeLongAloneIsAlwaysShared) {
  Work w(milliseconds(30), milliseconds(40));
  EXPECT_EQ(w.alone_of(1000), 0);
  Work many(milliseconds(1), milliseconds(2));
  many.threads = 16;
  EXPECT_EQ(many.alone_of(1000), 0);
}

TEST(Company, OneTrialIsEnoughWhereSharingGainsMuch) {
  Work w(milliseconds(10), milliseconds(1));
  w.threads = 16;
  EXPECT_EQ(w.alone_of(1000), 1);
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

TEST(Company, ATrialInABadMomentIsForgotten) {
  Work w(milliseconds(14), milliseconds(7));
  w.run(20);
  w.alone = milliseconds(4);
  w.run(5000);
  EXPECT_TRUE(w.company.alone());
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
  company.share_among(2);
  Company::Clock::time_point now{seconds(1)};
  const auto done = [&](Company::Clock::duration took) { company.done(now += took, took); };
  done(microseconds(100));  // with less to do, say
  for (int i = 0; i < 4; ++i) done(microseconds(900));
  ASSERT_TRUE(company.alone());
  for (int i = 0; i < 3; ++i) done(microseconds(500));
  EXPECT_TRUE(company.alone());  // it has won
}

TEST(Company, TrialsAreNoFindings) {
  Work w(milliseconds(4), milliseconds(7));
  w.run(5);
  EXPECT_TRUE(w.company.alone());
  EXPECT_FALSE(w.company.found_alone());
  w.run(3);
  EXPECT_TRUE(w.company.found_alone());
  while (w.company.alone()) w.run(1);
  EXPECT_TRUE(w.company.found_alone());
}

TEST(Company, OtherWorkAndOtherThreadsBeginAnewAndPausesLast) {
  Work w(milliseconds(4), milliseconds(7));
  w.run(30);
  ASSERT_TRUE(w.company.alone());
  w.company.changed();
  EXPECT_FALSE(w.company.alone());
  w.run(30);
  ASSERT_TRUE(w.company.alone());
  w.company.share_among(4);
  EXPECT_FALSE(w.company.alone());
  // Every nine times: no more trials than one in every longest pause, and those while pauses grew.
  Work changing(milliseconds(4), milliseconds(2));
  for (int i = 0; i < 2000; ++i) {
    changing.company.changed();
    changing.run(9);
  }
  EXPECT_LT(changing.done_alone, 3 * (8 + 36 / 4 + 1));
}

}  // namespace
}  // namespace sinter
