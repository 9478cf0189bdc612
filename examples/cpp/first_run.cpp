// Builds an engine from a model with one float input of shape [N, 3, H, W] and prints the five largest outputs.
//
//   first_run MODEL.onnx HEIGHT WIDTH
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <numeric>
#include <sinter/sinter.hpp>

int main(int argc, char** argv) try {
  if (argc != 4) {
    std::fprintf(stderr, "usage: %s MODEL.onnx HEIGHT WIDTH\n", argv[0]);
    return 2;
  }
  const sinter::engine engine = sinter::engine::build(argv[1]);
  sinter::context context(engine);
  sinter::tensor<float> x{{1, 3, std::atoll(argv[2]), std::atoll(argv[3])}, {}};
  x.data.resize(static_cast<size_t>(3 * x.dims[2] * x.dims[3]));
  for (size_t i = 0; i < x.data.size(); ++i) x.data[i] = static_cast<float>(i) / static_cast<float>(x.data.size());
  context.set_input(0, x);
  context.run();
  const sinter::tensor<float> y = context.output<float>(0);
  std::vector<size_t> order(y.data.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::sort(order.begin(), order.end(), [&](size_t a, size_t b) { return y.data[a] > y.data[b]; });
  for (size_t k = 0; k < std::min<size_t>(5, order.size()); ++k) std::printf("%6zu  %g\n", order[k], y.data[order[k]]);
  return 0;
} catch (const sinter::error& e) {
  std::fprintf(stderr, "%s\n", e.what());
  return 1;
}
