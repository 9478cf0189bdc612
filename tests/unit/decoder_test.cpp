// The attention of a decoder, as exporters write it, becomes few steps: one product of all projections, one pass for
// each rotation, one for the attention, and no copies.
#include <gtest/gtest.h>

#include <algorithm>
#include <string>

#include "engines.h"
#include "wiring/wiring.h"

namespace sinter {
namespace {

using namespace testing;

constexpr int64_t heads = 4, key_heads = 2, size = 32, width = heads * size;

// [N, heads, S, size] with its halves changed round, one of them negative, as Hugging Face's models do.
ValueId rotated(GraphBuilder& b, ValueId x, ValueId cosine, ValueId sine) {
  const ValueId first = wiring::slice(b, x, 3, 0, size / 2), second = wiring::slice(b, x, 3, size / 2, size);
  const ValueId turned = wiring::concat(b, {b.op("Neg", {second}), first}, 3);
  return wiring::add(b, wiring::mul(b, x, cosine), wiring::mul(b, turned, sine));
}

Module decoder(int64_t tokens) {
  const Type table = Type::tensor(DType::f32, Shape{tokens, size});
  return module_with(
      {Type::tensor(DType::f32, Shape{1, tokens, width}), table, table}, [&](GraphBuilder& b, const Ids& in) {
        const auto projected = [&](int64_t count, uint64_t seed) {
          const ValueId y = wiring::matmul(b, in[0], b.constant(random_tensor({width, count * size}, seed)));
          return wiring::transpose(b, wiring::reshape(b, y, {1, tokens, count, size}), {0, 2, 1, 3});
        };
        const auto repeated = [&](ValueId x) {
          const Shape wide = {1, key_heads, heads / key_heads, tokens, size};
          const ValueId each = b.op("Expand", {wiring::unsqueeze(b, x, {2}), b.dims(wide)});
          return wiring::reshape(b, each, {1, heads, tokens, size});
        };
        const ValueId q = rotated(b, projected(heads, 3), in[1], in[2]);
        const ValueId k = repeated(rotated(b, projected(key_heads, 4), in[1], in[2]));
        const ValueId v = repeated(projected(key_heads, 5));
        const ValueId y = wiring::matmul(b, wiring::softmax(b, wiring::matmul(b, q, k, true), -1), v);
        return Ids{wiring::reshape(b, wiring::transpose(b, y, {0, 2, 1, 3}), {1, tokens, width})};
      });
}

std::vector<std::string> kernels_of(const Target& target) {
  std::vector<std::string> out;
  for (const Step& step : target.main.steps)
    for (const Choice& choice : step.choices) out.push_back(target.kernels[choice.kernel]);
  return out;
}

TEST(Decoder, HasFewSteps) {
  const std::vector<std::string> kernels = kernels_of(build_target(decoder(24)));
  const auto count = [&](std::string_view name) {
    return std::count_if(kernels.begin(), kernels.end(),
                         [&](const std::string& kernel) { return kernel.find(name) != std::string::npos; });
  };
  EXPECT_EQ(count("matmul"), 1) << "queries, keys and values";
  EXPECT_EQ(count("pointwise"), 2) << "rotations";
  EXPECT_EQ(count("attention"), 1);
  EXPECT_EQ(static_cast<int64_t>(kernels.size()) - count("copy"), 4) << "but for copies";
  EXPECT_LE(count("copy"), 4) << "halves of the tables";
}

}  // namespace
}  // namespace sinter
