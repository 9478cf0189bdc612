// sinter doctor: does this machine and installation work.

#include <fmt/core.h>
#include <unistd.h>

#include <cstdlib>

#include "backend/cpu/device.h"
#include "base/cpus.h"
#include "base/file.h"
#include "common.h"
#include "engine/file.h"
#include "ir/text.h"
#include "tune/compare.h"

namespace sinter::cli {
namespace {

struct Check {
  std::string name, found;
  bool good = true;
};

std::string features_text(uint64_t features) {
  constexpr std::pair<uint64_t, const char*> names[] = {
      {cpu::feature_avx2, "avx2"},
      {cpu::feature_fma, "fma"},
      {cpu::feature_f16c, "f16c"},
      {cpu::feature_avx512f, "avx512f"},
      {cpu::feature_avx512bw, "avx512bw"},
      {cpu::feature_avx512dq, "avx512dq"},
      {cpu::feature_avx512vl, "avx512vl"},
      {cpu::feature_avx512_vnni, "avx512_vnni"},
      {cpu::feature_avx512_bf16, "avx512_bf16"},
      {cpu::feature_avx512_fp16, "avx512_fp16"},
      {cpu::feature_avx_vnni, "avx_vnni"},
      {cpu::feature_amx_tile, "amx_tile"},
      {cpu::feature_amx_int8, "amx_int8"},
      {cpu::feature_amx_bf16, "amx_bf16"},
      {cpu::feature_amx_fp16, "amx_fp16"},
  };
  std::string out;
  for (const auto& [bit, name] : names)
    if (features & bit) out += fmt::format("{}{}", out.empty() ? "" : " ", name);
  return out.empty() ? "none beyond the baseline" : out;
}

// A convolution, an activation, a matrix product and a row program: built, saved, loaded, run, compared.
constexpr const char* network = R"(
graph(%x : f32[N, 3, 8, 8], %w : f32[4, 3, 3, 3]) -> (%y) {
  %c = Conv{pads=[1, 1, 1, 1]}(%x, %w)
  %r = Relu(%c)
  %f = Reshape{allow_zero=true}(%r, [N, 256])
  %m = MatMul{transpose_b=true}(%f, %f)
  %h = ReduceMax(%m, [1])
  %d = Sub(%m, %h)
  %e = Exp(%d)
  %s = ReduceSum(%e, [1])
  %y = Div(%e, %s)
}
)";

Check try_level(const std::string& level) {
  Check check{fmt::format("network at level {}", level), "", true};
  try {
    Module module = parse_module(network);
    BuildOptions options;
    options.level = level;
    options.dims.push_back({"N", 1, 4, 8});
    SampleOptions sample;
    sample.shapes["x"] = {4, 3, 8, 8};
    const std::vector<Box> inputs = sample_inputs(inputs_of(module), module.symbols, {}, sample);
    const Comparison comparison = compare(module, inputs, options, {1e-3, 1e-3});
    const Compared* first = comparison.first_difference();
    check.good = !first;
    check.found = first ? fmt::format("'{}' is off by {:.3g} ({})", first->tensor, first->max_error, first->kernel)
                        : "agrees with the reference";
  } catch (const Error& error) {
    check.good = false;
    check.found = error.what();
  }
  return check;
}

Check try_file() {
  const char* directory = std::getenv("TMPDIR");
  const std::string path = fmt::format("{}/sinter-doctor-{}.engine", directory ? directory : "/tmp", getpid());
  Check check{"engine file", "", true};
  try {
    const Built built = build(parse_module("graph(%x : f32[N]) -> (%y) { %y = Exp(%x) }"), BuildOptions());
    const Target* targets[] = {&built.target};
    save_engine(targets, path);
    load_engine(path, LoadOptions());
    check.found = fmt::format("written and read in {}", directory ? directory : "/tmp");
  } catch (const Error& error) {
    check.good = false;
    check.found = error.what();
  }
  unlink(path.c_str());
  return check;
}

int run() {
  const DeviceSpec machine = this_machine();
  std::vector<Check> checks;
  checks.push_back({"version", SINTER_VERSION});
  checks.push_back({"CPU level", cpu::level_name(machine.level)});
  checks.push_back({"CPU features", features_text(machine.features)});
  checks.push_back({"usable CPUs", std::to_string(usable_cpus())});
  const long pages = sysconf(_SC_PHYS_PAGES), page = sysconf(_SC_PAGE_SIZE);
  if (pages > 0 && page > 0)
    checks.push_back({"memory", bytes_text(static_cast<double>(pages) * static_cast<double>(page))});
  size_t kernels = 0;
  for (const Backend* backend : backends()) kernels += backend->kernels().size();
  checks.push_back({"kernels", std::to_string(kernels), kernels > 1});
  for (uint8_t level = 0; level <= machine.level; ++level) checks.push_back(try_level(cpu::level_name(level)));
  checks.push_back(try_file());
  Table table({"", "check", "found"});
  bool good = true;
  for (const Check& check : checks) {
    good = good && check.good;
    table.row({check.good ? green("ok") : red("bad"), check.name, check.found});
  }
  table.print();
  fmt::print("\n{}\n", good ? "all is well" : "something is wrong, see above");
  return good ? exit_ok : exit_failure;
}

}  // namespace

std::function<int()> declare_doctor(Options& o) {
  o.examples("sinter doctor");
  return [] { return run(); };
}

}  // namespace sinter::cli
