// Tile programs: machine code beside the interpreter, one thread, at one instruction set.
//
//   tile_bench [avx2|avx512] [filter]
//
// Both run once per round, in turns; printed are the medians over the rounds of the times and of the ratio
// interpreter / code, then what making an executor costs.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <functional>
#include <string>
#include <vector>

#include "../../tests/unit/tile_programs.h"
#include "backend/cpu/device.h"
#include "backend/cpu/tile_executor.h"

namespace {

using namespace sinter;
using namespace sinter::cpu;

struct Case {
  const char* name;
  int64_t rows, cols;
  TileProgram program;
};

TileProgram gelu() {
  Writer w;
  const uint16_t x = w.load(Spread::full);
  const uint16_t e = w.compute(ScalarOp::erf, w.compute(ScalarOp::mul, x, w.constant(0.70710678)));
  const uint16_t half = w.compute(ScalarOp::mul, x, w.constant(0.5));
  w.store(w.compute(ScalarOp::mul, w.compute(ScalarOp::add, e, w.constant(1)), half));
  return w.program;
}

TileProgram biased_gelu() {
  Writer w;
  const uint16_t x = w.compute(ScalarOp::add, w.load(Spread::full), w.load(Spread::column));
  const uint16_t e = w.compute(ScalarOp::erf, w.compute(ScalarOp::mul, x, w.constant(0.70710678)));
  const uint16_t half = w.compute(ScalarOp::mul, x, w.constant(0.5));
  w.store(w.compute(ScalarOp::mul, w.compute(ScalarOp::add, e, w.constant(1)), half));
  return w.program;
}

TileProgram tanh_gelu() {
  Writer w;
  const uint16_t x = w.load(Spread::full);
  const uint16_t cube = w.compute(ScalarOp::mul, w.compute(ScalarOp::mul, x, x), x);
  const uint16_t inner = w.compute(ScalarOp::add, x, w.compute(ScalarOp::mul, cube, w.constant(0.044715)));
  const uint16_t t = w.compute(ScalarOp::tanh, w.compute(ScalarOp::mul, inner, w.constant(0.79788456)));
  const uint16_t half = w.compute(ScalarOp::mul, x, w.constant(0.5));
  w.store(w.compute(ScalarOp::mul, w.compute(ScalarOp::add, t, w.constant(1)), half));
  return w.program;
}

TileProgram layer_norm(bool residual) {
  Writer w;
  uint16_t x = w.load(Spread::full);
  if (residual) x = w.compute(ScalarOp::add, x, w.load(Spread::full));
  const uint16_t d = w.compute(ScalarOp::sub, x, w.reduce(ScalarOp::add, x, true));
  const uint16_t variance = w.reduce(ScalarOp::add, w.compute(ScalarOp::mul, d, d), true);
  const uint16_t root = w.compute(ScalarOp::sqrt, w.compute(ScalarOp::add, variance, w.constant(1e-5)));
  const uint16_t unit = w.compute(ScalarOp::div, d, root);
  const uint16_t scaled = w.compute(ScalarOp::mul, unit, w.load(Spread::column));
  w.store(w.compute(ScalarOp::add, scaled, w.load(Spread::column)));
  return w.program;
}

TileProgram softmax() {
  Writer w;
  const uint16_t x = w.load(Spread::full);
  const uint16_t e = w.compute(ScalarOp::exp, w.compute(ScalarOp::sub, x, w.reduce(ScalarOp::max, x)));
  w.store(w.compute(ScalarOp::div, e, w.reduce(ScalarOp::add, e)));
  return w.program;
}

TileProgram silu() {
  Writer w;
  const uint16_t x = w.load(Spread::full);
  w.store(w.compute(ScalarOp::mul, x, w.compute(ScalarOp::sigmoid, x)));
  return w.program;
}

TileProgram epilogue() {
  Writer w;
  const uint16_t x = w.compute(ScalarOp::add, w.load(Spread::full), w.load(Spread::column));
  w.store(w.compute(ScalarOp::max, w.compute(ScalarOp::add, x, w.load(Spread::full)), w.constant(0)));
  return w.program;
}

// To 8 bits, as QuantizeLinear rounds.
TileProgram quantize() {
  Writer w;
  const uint16_t scaled = w.compute(ScalarOp::round, w.compute(ScalarOp::div, w.load(Spread::full), w.constant(0.03)));
  const uint16_t low = w.compute(ScalarOp::max, scaled, w.constant(-128));
  w.store(w.convert(w.compute(ScalarOp::min, low, w.constant(127)), DType::i8), Spread::full, DType::i8);
  return w.program;
}

TileProgram exponential() {
  Writer w;
  w.store(w.compute(ScalarOp::exp, w.load(Spread::full)));
  return w.program;
}

double now() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }
double median(std::vector<double> v) {
  std::nth_element(v.begin(), v.begin() + static_cast<ptrdiff_t>(v.size() / 2), v.end());
  return v[v.size() / 2];
}

}  // namespace

int main(int argc, char** argv) {
  uint8_t level = std::min<uint8_t>(describe().level, avx512);
  const char* filter = "";
  for (int i = 1; i < argc; ++i) {
    if (std::strcmp(argv[i], "avx2") == 0)
      level = std::min<uint8_t>(level, avx2);
    else if (std::strcmp(argv[i], "avx512") != 0)
      filter = argv[i];
  }
  const Case cases[] = {
      {"gelu 128x3072", 128, 3072, gelu()},
      {"gelu 8x512", 8, 512, gelu()},
      {"bias, gelu 128x64", 128, 64, biased_gelu()},
      {"bias, gelu 128x32", 128, 32, biased_gelu()},
      {"gelu by tanh 128x3072", 128, 3072, tanh_gelu()},
      {"layer norm 128x768", 128, 768, layer_norm(false)},
      {"residual, layer norm 128x768", 128, 768, layer_norm(true)},
      {"softmax 1536x128", 1536, 128, softmax()},
      {"silu 64x6400", 64, 6400, silu()},
      {"silu 8x512", 8, 512, silu()},
      {"bias, residual, relu 128x32", 128, 32, epilogue()},
      {"bias, residual, relu 6x16", 6, 16, epilogue()},
      {"quantize 128x768", 128, 768, quantize()},
      {"exp 8x512", 8, 512, exponential()},
      {"exp 1e6", 1, 1000000, exponential()},
  };
  std::printf("%-30s %12s %12s %8s %12s\n", level_name(level), "interpreter", "code", "ratio", "making");
  for (const Case& c : cases) {
    if (!std::strstr(c.name, filter)) continue;
    // Aligned as an engine's memory is.
    std::deque<Scratch> memory;
    std::vector<TileBuffer> buffers;
    for (const auto* list : {&c.program.operands, &c.program.results})
      for (const TileOperand& o : *list) {
        const int64_t count = (o.spread == Spread::full ? c.rows : 1) * c.cols;
        auto* at = reinterpret_cast<float*>(memory.emplace_back(count * 4).data);
        uint32_t state = 1;
        for (int64_t i = 0; i < count; ++i) {
          state = state * 1664525u + 1013904223u;
          at[i] = static_cast<float>(state >> 8) / 16777216.0f * 8 - 4;
        }
        buffers.push_back({at, c.cols, 1});
      }
    const double begin = now();
    const auto code = make_executor(c.program, level);
    const double making = now() - begin;
    const auto interpreted = make_executor(c.program, level, TileMode::interpreted);
    const int64_t bytes = std::max(tile_scratch(*code, c.cols), tile_scratch(*interpreted, c.cols));
    const Scratch scratch(bytes);
    const int64_t repeat = std::max<int64_t>(1, 400000 / (c.rows * c.cols));
    const auto time = [&](const TileExecutor& e) {
      const double start = now();
      for (int64_t i = 0; i < repeat; ++i) run_tile(e, buffers, 0, c.rows, c.cols, scratch.data);
      return (now() - start) / static_cast<double>(repeat);
    };
    std::vector<double> slow, fast, ratio;
    for (int round = 0; round < 300; ++round) {
      const double a = time(*interpreted), b = time(*code);
      slow.push_back(a);
      fast.push_back(b);
      ratio.push_back(a / b);
    }
    std::printf("%-30s %9.2f us %9.2f us %8.2f %9.0f us%s\n", c.name, median(slow) * 1e6, median(fast) * 1e6,
                median(ratio), making * 1e6, is_compiled(*code) ? "" : "  not compiled");
  }
}
