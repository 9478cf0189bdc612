// Speed of the fp32 building blocks of one instruction set on one thread, beside the multiply-add
// peak of the core measured in the same rounds.
//
//   isa_bench [portable|avx2|avx512] [filter]
//
// Every case runs once per round, peak included; printed are the median over the rounds of the
// rate, and of the ratio to the peak of the same round.
#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#ifdef SINTER_X86
#include <immintrin.h>
#endif

#include "backend/cpu/isa/contract.h"
#include "backend/cpu/isa/spatial.h"

namespace {

using namespace sinter::cpu;

struct Release {
  void operator()(float* p) const { std::free(p); }
};
using Buffer = std::unique_ptr<float[], Release>;

Buffer buffer(int64_t floats, bool random = true) {
  const size_t bytes = (static_cast<size_t>(floats) * 4 + 4095) / 4096 * 4096;
  Buffer b(static_cast<float*>(std::aligned_alloc(4096, std::max<size_t>(bytes, 4096))));
  uint32_t state = 1;
  for (int64_t i = 0; i < floats; ++i) {
    state = state * 1664525u + 1013904223u;
    b[i] = random ? static_cast<float>(state >> 8) / 16777216.0f - 0.5f : 0.0f;
  }
  return b;
}

double seconds() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

// Twelve independent chains of multiply-adds.
#define PEAK_LOOP(V, STEP)                                          \
  constexpr int64_t floats = sizeof(V) / 4, steps = 1 << 16;        \
  V acc[12] = {}, x = {}, y = {};                                   \
  for (int64_t i = 0; i < floats; ++i) x[i] = 0.999f, y[i] = 1e-6f; \
  for (int64_t i = 0; i < steps; ++i) {                             \
    _Pragma("GCC unroll 12") for (int j = 0; j < 12; ++j) {         \
      acc[j] = STEP;                                                \
      asm volatile("" : "+v"(acc[j]));                              \
    }                                                               \
  }                                                                 \
  return 2.0 * 12 * static_cast<double>(steps * floats)

double peak_portable() {
  typedef float V __attribute__((vector_size(16)));
  PEAK_LOOP(V, acc[j] * x + y);
}
#ifdef SINTER_X86
__attribute__((target("avx2,fma"))) double peak_avx2() { PEAK_LOOP(__m256, _mm256_fmadd_ps(acc[j], x, y)); }
__attribute__((target("avx512f,fma"))) double peak_avx512() { PEAK_LOOP(__m512, _mm512_fmadd_ps(acc[j], x, y)); }
#endif

struct Case {
  std::string name;
  double flop, bytes;
  std::function<void()> run;
  std::vector<double> rates, ratios;
};

struct Level {
  const ContractTable* contract;
  const SpatialTable* spatial;
  double (*peak)();
};

struct Holder {
  std::vector<Buffer> buffers;
  Window window;
  ContractArgs contract;
  SpatialArgs spatial;
};

int64_t option(const char* name) {
  const char* text = std::getenv(name);
  return text == nullptr ? 0 : std::atoll(text);
}

Case contraction(const Level& level, const std::string& name, std::shared_ptr<Holder> h) {
  ContractArgs& p = h->contract;
  const int64_t images = 1;
  const Window& w = h->window;
  if (p.window != nullptr) {
    h->buffers.push_back(buffer(images * w.in[1] * w.in[2] * p.k));
  } else {
    h->buffers.push_back(buffer(p.m * p.k));
  }
  p.a = h->buffers.back().get();
  p.lda = p.k;
  p.nr = option("NR") > 0 ? static_cast<int>(option("NR")) : level.contract->panel_width(p.n);
  p.m_block = option("MB");
  p.k_block = option("KB");
  h->buffers.push_back(buffer(level.contract->packed_size(p.taps, p.k, p.n, p.nr, 1)));
  p.b = h->buffers.back().get();
  h->buffers.push_back(buffer(p.m * p.n));
  p.c = h->buffers.back().get();
  p.ldc = p.n;
  h->buffers.push_back(buffer(p.n));
  p.bias = h->buffers.back().get();
  p.low = 0;
  h->buffers.push_back(buffer(level.contract->scratch_size(p, p.m, p.n) / 4 + 16));
  void* scratch = h->buffers.back().get();
  const ContractTable* t = level.contract;
  return {name, 2.0 * static_cast<double>(p.m * p.n * p.k * p.taps),
          0,    [h, t, scratch] { t->chunk(h->contract, 0, h->contract.m, 0, h->contract.n, scratch); },
          {},   {}};
}

Case gemm(const Level& level, int64_t m, int64_t k, int64_t n) {
  auto h = std::make_shared<Holder>();
  h->contract.m = m;
  h->contract.k = k;
  h->contract.n = n;
  char name[64];
  std::snprintf(name, sizeof name, "gemm %dx%dx%d", static_cast<int>(m), static_cast<int>(k), static_cast<int>(n));
  return contraction(level, name, h);
}

void set_window(Window& w, int64_t kernel, int64_t stride, int64_t extent) {
  for (int d = 1; d < 3; ++d) {
    w.kernel[d] = kernel;
    w.stride[d] = stride;
    w.pad[d] = w.pad_end[d] = kernel / 2;
    w.in[d] = extent;
    w.out[d] = (extent + 2 * (kernel / 2) - kernel) / stride + 1;
  }
}

Case conv(const Level& level, int64_t kernel, int64_t stride, int64_t k, int64_t n, int64_t extent) {
  auto h = std::make_shared<Holder>();
  set_window(h->window, kernel, stride, extent);
  h->contract.window = &h->window;
  h->contract.taps = kernel * kernel;
  h->contract.m = h->window.out[1] * h->window.out[2];
  h->contract.k = k;
  h->contract.n = n;
  char name[64];
  std::snprintf(name, sizeof name, "conv %dx%d s%d %d-%d @%d", static_cast<int>(kernel), static_cast<int>(kernel),
                static_cast<int>(stride), static_cast<int>(k), static_cast<int>(n), static_cast<int>(extent));
  return contraction(level, name, h);
}

Case spatial(const Level& level, const char* kind, int64_t kernel, int64_t stride, int64_t channels, int64_t extent) {
  auto h = std::make_shared<Holder>();
  set_window(h->window, kernel, stride, extent);
  SpatialArgs& p = h->spatial;
  p.window = h->window;
  p.channels = p.pixel_stride = p.out_stride = channels;
  p.image_stride = extent * extent * channels;
  h->buffers.push_back(buffer(extent * extent * channels));
  p.in = h->buffers.back().get();
  h->buffers.push_back(buffer(kernel * kernel * channels));
  p.weights = h->buffers.back().get();
  h->buffers.push_back(buffer(channels));
  p.bias = h->buffers.back().get();
  p.low = 0;
  const int64_t pixels = h->window.out[1] * h->window.out[2];
  h->buffers.push_back(buffer(pixels * channels));
  p.out = h->buffers.back().get();
  h->buffers.push_back(buffer(level.spatial->scratch_size(p) / 4 + 16));
  void* scratch = h->buffers.back().get();
  auto* run = std::strcmp(kind, "depthwise") == 0  ? level.spatial->depthwise
              : std::strcmp(kind, "max pool") == 0 ? level.spatial->max_pool
                                                   : level.spatial->average_pool;
  char name[64];
  std::snprintf(name, sizeof name, "%s %dx%d s%d %d @%d", kind, static_cast<int>(kernel), static_cast<int>(kernel),
                static_cast<int>(stride), static_cast<int>(channels), static_cast<int>(extent));
  return {name,
          2.0 * static_cast<double>(pixels * channels * kernel * kernel),
          4.0 * static_cast<double>((pixels + extent * extent) * channels),
          [h, run, scratch] { run(h->spatial, 0, h->window.out[1], scratch); },
          {},
          {}};
}

Case transposition(const Level& level, int64_t rows, int64_t cols) {
  auto h = std::make_shared<Holder>();
  h->buffers.push_back(buffer(rows * cols));
  h->buffers.push_back(buffer(rows * cols));
  char name[64];
  std::snprintf(name, sizeof name, "transpose %dx%d", static_cast<int>(rows), static_cast<int>(cols));
  return {name,
          0,
          8.0 * static_cast<double>(rows * cols),
          [h, rows, cols, t = level.contract] {
            t->transpose(h->buffers[0].get(), rows, cols, cols, h->buffers[1].get(), rows);
          },
          {},
          {}};
}

double median(std::vector<double> v) {
  std::nth_element(v.begin(), v.begin() + static_cast<int64_t>(v.size() / 2), v.end());
  return v[v.size() / 2];
}

// FLOPs (or bytes) a second of repeats that fill about two milliseconds; the best of three.
double rate(const Case& c) {
  const double work = c.flop > 0 ? c.flop : c.bytes;
  double best = 0;
  for (int i = 0; i < 3; ++i) {
    const double begin = seconds();
    int64_t repeats = 0;
    double now = begin;
    while (now - begin < 0.002) {
      c.run();
      ++repeats;
      now = seconds();
    }
    best = std::max(best, work * static_cast<double>(repeats) / (now - begin));
  }
  return best;
}

}  // namespace

int main(int argc, char** argv) {
  std::string name = "portable";
  Level level = {&contract_portable, &spatial_portable, peak_portable};
#ifdef SINTER_X86
  __builtin_cpu_init();
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  const bool avx512 = avx2 && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
                      __builtin_cpu_supports("avx512vl");
  name = argc > 1 ? argv[1] : avx512 ? "avx512" : avx2 ? "avx2" : "portable";
  if (name == "avx2" && avx2) level = {&contract_avx2, &spatial_avx2, peak_avx2};
  if (name == "avx512" && avx512) level = {&contract_avx512, &spatial_avx512, peak_avx512};
#endif
  const std::string filter = argc > 2 ? argv[2] : "";
  std::vector<Case> cases;
  const auto add = [&](Case c) {
    if (c.name.find(filter) != std::string::npos) cases.push_back(std::move(c));
  };
  add(gemm(level, 128, 768, 768));
  add(gemm(level, 128, 768, 3072));
  add(gemm(level, 128, 3072, 768));
  add(gemm(level, 1, 768, 3072));
  add(gemm(level, 4, 768, 3072));
  add(conv(level, 3, 1, 64, 64, 56));
  add(conv(level, 3, 1, 128, 128, 28));
  add(conv(level, 3, 1, 256, 256, 14));
  add(conv(level, 3, 1, 512, 512, 7));
  add(conv(level, 1, 1, 64, 256, 56));
  add(conv(level, 1, 1, 256, 64, 56));
  add(conv(level, 1, 1, 1024, 256, 14));
  add(conv(level, 1, 2, 256, 512, 56));
  add(conv(level, 7, 2, 3, 64, 224));
  add(conv(level, 3, 2, 3, 32, 224));
  add(spatial(level, "depthwise", 3, 1, 144, 56));
  add(spatial(level, "depthwise", 3, 2, 144, 56));
  add(spatial(level, "depthwise", 3, 1, 576, 14));
  add(spatial(level, "depthwise", 5, 1, 240, 28));
  add(spatial(level, "max pool", 3, 2, 64, 112));
  add(spatial(level, "average pool", 3, 1, 192, 35));
  add(transposition(level, 3, 224 * 224));
  add(transposition(level, 64, 56 * 56));
  add(transposition(level, 56 * 56, 64));
  add(transposition(level, 128, 128));

  const int rounds = option("ROUNDS") > 0 ? static_cast<int>(option("ROUNDS")) : 15;
  std::vector<double> peaks;
  for (int round = 0; round < rounds; ++round) {
    double peak = 0;
    for (int i = 0; i < 3; ++i) {
      const double begin = seconds();
      const double flop = level.peak();
      peak = std::max(peak, flop / (seconds() - begin));
    }
    peaks.push_back(peak);
    for (Case& c : cases) {
      c.rates.push_back(rate(c));
      c.ratios.push_back(c.rates.back() / peak);
    }
  }
  std::printf("%s, one thread, medians of %d rounds\n", name.c_str(), rounds);
  std::printf("%-28s %9.1f GFLOP/s\n", "multiply-add peak", median(peaks) / 1e9);
  for (const Case& c : cases) {
    if (c.flop > 0) {
      std::printf("%-28s %9.1f GFLOP/s %6.1f %% of peak %10.1f us\n", c.name.c_str(), median(c.rates) / 1e9,
                  100 * median(c.ratios), c.flop / median(c.rates) * 1e6);
    } else {
      std::printf("%-28s %9.1f GB/s    %23.1f us\n", c.name.c_str(), median(c.rates) / 1e9,
                  c.bytes / median(c.rates) * 1e6);
    }
  }
  return 0;
}
