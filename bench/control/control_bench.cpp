// What one iteration of a Loop costs beyond its body, on one thread: nanoseconds per iteration of loops whose bodies do
// next to nothing. The case `no steps` is the floor; the others add one small kernel, a stacked or scanned value, a
// branch.
//
//   control_bench [FILTER]
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <memory>
#include <string>
#include <vector>

#include "backend/verify.h"
#include "builder/pipeline.h"
#include "ir/text.h"
#include "runtime/engine.h"

namespace {

using namespace sinter;

constexpr int64_t trips = 1000;

struct Case {
  const char* name;
  const char* text;  // the first input is the number of trips, others f32
};

constexpr Case cases[] = {
    {"no steps", R"(graph(%n : i64[], %x : f32[]) -> (%y) {
  %y = Loop{carried=1, counted=true}(%n, _, %x)
    graph(%i : i64[], %c : bool[], %p : f32[]) -> (%c, %p) {
    }
})"},
    {"add, carried []", R"(graph(%n : i64[], %x : f32[], %w : f32[]) -> (%y) {
  %y = Loop{carried=1, counted=true}(%n, _, %x, %w)
    graph(%i : i64[], %c : bool[], %p : f32[], %k : f32[]) -> (%c, %q) {
      %q = Add(%p, %k)
    }
})"},
    {"add, carried [64]", R"(graph(%n : i64[], %x : f32[64], %w : f32[64]) -> (%y) {
  %y = Loop{carried=1, counted=true}(%n, _, %x, %w)
    graph(%i : i64[], %c : bool[], %p : f32[64], %k : f32[64]) -> (%c, %q) {
      %q = Add(%p, %k)
    }
})"},
    {"add, carried [N]", R"(graph(%n : i64[], %x : f32[N], %w : f32[N]) -> (%y) {
  %y = Loop{carried=1, counted=true}(%n, _, %x, %w)
    graph(%i : i64[], %c : bool[], %p : f32[N], %k : f32[N]) -> (%c, %q) {
      %q = Add(%p, %k)
    }
})"},
    {"add, carried [65536]", R"(graph(%n : i64[], %x : f32[65536], %w : f32[65536]) -> (%y) {
  %y = Loop{carried=1, counted=true}(%n, _, %x, %w)
    graph(%i : i64[], %c : bool[], %p : f32[65536], %k : f32[65536]) -> (%c, %q) {
      %q = Add(%p, %k)
    }
})"},
    {"add, stacked [64]", R"(graph(%n : i64[], %x : f32[64], %w : f32[64]) -> (%y, %s) {
  %y, %s = Loop{carried=1, counted=true, stack_axes=[0]}(%n, _, %x, %w)
    graph(%i : i64[], %c : bool[], %p : f32[64], %k : f32[64]) -> (%c, %q, %q) {
      %q = Add(%p, %k)
    }
})"},
    {"add, stacked last [64]", R"(graph(%n : i64[], %x : f32[64], %w : f32[64]) -> (%y, %s) {
  %y, %s = Loop{carried=1, counted=true, stack_axes=[1]}(%n, _, %x, %w)
    graph(%i : i64[], %c : bool[], %p : f32[64], %k : f32[64]) -> (%c, %q, %q) {
      %q = Add(%p, %k)
    }
})"},
    {"add, scanned [64]", R"(graph(%n : i64[], %x : f32[64], %w : f32[1000, 64]) -> (%y) {
  %y = Loop{carried=1, counted=true, scan_axes=[0]}(%n, _, %x, %w)
    graph(%i : i64[], %c : bool[], %p : f32[64], %k : f32[64]) -> (%c, %q) {
      %q = Add(%p, %k)
    }
})"},
    {"until a condition", R"(graph(%n : i64[], %x : f32[], %w : f32[]) -> (%y) {
  %y = Loop{carried=1}(%n, _, %x, %w)
    graph(%i : i64[], %c : bool[], %p : f32[], %k : f32[]) -> (%go, %q) {
      %q = Add(%p, %k)
      %go = Less(%q, f32[](1e9))
    }
})"},
    {"if in a loop", R"(graph(%n : i64[], %x : f32[64], %w : f32[64]) -> (%y) {
  %y = Loop{carried=1, counted=true}(%n, _, %x, %w)
    graph(%i : i64[], %c : bool[], %p : f32[64], %k : f32[64]) -> (%c, %q) {
      %h = Mod(%i, i64[](2))
      %b = Equal(%h, i64[](0))
      %q = If(%b, %p, %k)
        graph(%p : f32[64], %k : f32[64]) -> (%r) {
          %r = Add(%p, %k)
        }
        graph(%p : f32[64], %k : f32[64]) -> (%r) {
          %r = Sub(%p, %k)
        }
    }
})"},
};

double measure(const Case& c) {
  BuildOptions options;
  options.threads = 1;
  options.logger.sink = [](void*, LogLevel, std::string_view) {};
  Built built = build(parse_module(c.text), options);
  const DeviceSpec device = this_machine(1);
  const auto engine = std::make_shared<const Engine>(make_executable(std::move(built.target), device));
  Context context(engine, 1);
  for (size_t i = 0; i < engine->inputs().size(); ++i) {
    const Type& type = engine->inputs()[i].type;
    if (i == 0) {
      context.set_input(i, Box(Tensor::scalar_i64(trips)));
      continue;
    }
    Dims dims;
    for (const Dim& d : *type.shape) dims.push_back(d.as_constant().value_or(64));
    Tensor x(type.dtype, dims);
    for (int64_t k = 0; k < x.count(); ++k) x.set_real(k, 1e-3);
    context.set_input(i, Box(std::move(x)));
  }
  using Clock = std::chrono::steady_clock;
  double best = 1e30;
  const auto end = Clock::now() + std::chrono::milliseconds(300);
  for (int n = 0; n < 5 || Clock::now() < end; ++n) {
    const auto start = Clock::now();
    context.run();
    best = std::min(best, std::chrono::duration<double, std::nano>(Clock::now() - start).count());
  }
  return best / trips;
}

}  // namespace

int main(int argc, char** argv) {
  const std::string filter = argc > 1 ? argv[1] : "";
  std::printf("%-24s %12s\n", "body", "ns a trip");
  for (const Case& c : cases) {
    if (std::string(c.name).find(filter) == std::string::npos) continue;
    try {
      std::printf("%-24s %12.0f\n", c.name, measure(c));
    } catch (const std::exception& error) {
      std::printf("%-24s %s\n", c.name, error.what());
      return 1;
    }
  }
  return 0;
}
