// Where rewriting ends, and that it says so where it would not.
#include "engines.h"
#include "passes/rules.h"

namespace sinter {
namespace {

using namespace testing;

constexpr Rule again = {"negate again"};

// x, negated so many times.
Module negations(int count) {
  return module_with({Type::tensor(DType::f32, Shape{4})}, [&](GraphBuilder& b, const Ids& x) {
    ValueId y = x[0];
    for (int i = 0; i < count; ++i) y = b.op("Neg", {}, {y});
    return Ids{y};
  });
}

TEST(Rewrite, RulesWithoutEndAreNamed) {
  Module module = negations(1);
  Journal journal;
  Rounds rounds(journal);
  const auto visit = [](Site& site, void*) {
    site.replace(site.out(0), site.rw.build.op("Neg", {}, {site.in(0, 0)}), again);
  };
  try {
    rewrite_to_the_end(module, rounds, visit, nullptr);
    FAIL() << "it ends";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), Code::internal);
    EXPECT_NE(std::string(error.message()).find("'negate again'"), std::string::npos) << error.message();
  }
}

// One node a round, the last one first: more rounds than any fixed number.
TEST(Rewrite, ChainsTakeARoundANode) {
  Module module = negations(300);
  Journal journal;
  Rounds rounds(journal);
  const auto visit = [](Site& site, void*) {
    if (!site.graph.nodes.empty())
      site.replace(site.graph.outputs[0], site.in(static_cast<NodeId>(site.graph.nodes.size() - 1), 0), again);
  };
  EXPECT_TRUE(rewrite_to_the_end(module, rounds, visit, nullptr));
  EXPECT_TRUE(module.main->nodes.empty());
  EXPECT_EQ(journal.count, 300u);
  EXPECT_FALSE(rewrite_to_the_end(module, rounds, visit, nullptr));
}

}  // namespace
}  // namespace sinter
