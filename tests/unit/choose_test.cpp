// Which rows a build takes where layouts decide.
#include <cmath>

#include "engines.h"
#include "ops/contraction.h"

namespace sinter {
namespace {

using namespace testing;

// Many filters, then one.
Module few_filters(int64_t between) {
  return module_with({Type::tensor(DType::f32, Shape{Dim(1), Dim(8), Dim(60), Dim(97)})},
                     [&](GraphBuilder& b, const Ids& in) {
                       const auto conv = [&](ValueId x, int64_t from, int64_t to, uint64_t seed) {
                         ConvAttrs attrs;
                         attrs.pads.assign(4, 2);
                         return b.op("Conv", attrs, {x, b.constant(random_tensor({to, from, 5, 5}, seed))});
                       };
                       return Ids{conv(b.op("Relu", {conv(in[0], 8, between, 2)}), between, 1, 3)};
                     });
}

struct Made {
  std::vector<std::string> kernels;
  std::vector<float> result;
};

Made made(Module module, BuildOptions options) {
  options.threads = 1;
  const DeviceSpec device = options.level ? restrict_level(this_machine(1), *options.level) : this_machine(1);
  Built built = build(std::move(module), options);
  verify_target(built.target, device);
  Made out;
  for (const KernelDecision& decision : built.report.kernels) out.kernels.push_back(decision.kernel);
  Context context(std::make_shared<const Engine>(make_executable(std::move(built.target), device)));
  const Tensor x = random_tensor({1, 8, 60, 97}, 5);
  context.set_input(0, x.dims(), x.data(), static_cast<size_t>(x.bytes()));
  context.run();
  const auto* y = static_cast<const float*>(context.data(0));
  out.result.assign(y, y + 60 * 97);
  return out;
}

// The first convolution leaves channels last; the second is several times faster with pixels in the lanes, images
// turned around and all.
TEST(Choose, ImagesAreTurnedForFewFilters) {
  BuildOptions options, reference;
  options.level = "avx2";
  reference.reference_only = true;
  try {
    restrict_level(this_machine(1), *options.level);
  } catch (const Error&) {
    GTEST_SKIP() << "this machine lacks the level";
  }
  const Made quick = made(few_filters(32), options), defined = made(few_filters(32), reference);
  EXPECT_EQ(std::count(quick.kernels.begin(), quick.kernels.end(), "cpu/conv_planar_f32"), 1);
  EXPECT_EQ(std::count(quick.kernels.begin(), quick.kernels.end(), "cpu/conv_f32"), 1);
  double error = 0, size = 0;
  for (size_t i = 0; i < quick.result.size(); ++i) {
    error += std::pow(quick.result[i] - defined.result[i], 2);
    size += std::pow(defined.result[i], 2);
  }
  EXPECT_LT(std::sqrt(error / size), 1e-6);
}

}  // namespace
}  // namespace sinter
