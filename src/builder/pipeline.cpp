#include "builder/pipeline.h"

#include <fmt/core.h>

#include <algorithm>
#include <chrono>

#include "base/caller_threads.h"
#include "base/checked.h"
#include "base/file.h"
#include "builder/branches.h"
#include "builder/in_place.h"
#include "builder/parts.h"
#include "builder/schedule.h"
#include "builder/timing.h"
#include "ir/check.h"
#include "ir/copy.h"
#include "ir/text.h"
#include "ir/verify.h"

namespace sinter {
namespace {

double now_ms() {
  return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

constexpr PassEntry passes[] = {
    {"simplify", simplify, true},
    {"specialize", specialize, true},
    {"widen halves", widen_halves, true},
    {"simplify again", simplify, true},
    {"quantize", quantize, true},
    {"multiply integers", multiply_integers, true},
    {"spell quantization", spell_quantization, true},
    {"assign precision", assign_precision, true},
    {"merge projections", merge_projections, true},
    {"group", group, false},
};

// Timing, dump, verification and disabling by name, so that passes are plain functions.
class PassRunner {
 public:
  PassRunner(Module& module, const BuildOptions& options, FastRows fast, BuildReport& report)
      : module_(module), options_(options), fast_(std::move(fast)), report_(report) {
    journal_.limit = options.rewrite_limit;
    if (options.check) check_rewrites(journal_);
  }

  void operator()(const PassEntry& pass) {
    if (pass.optional && std::find(options_.disabled_passes.begin(), options_.disabled_passes.end(), pass.name) !=
                             options_.disabled_passes.end())
      return;
    options_.control.report(pass.name,
                            static_cast<double>(report_.passes.size()) / static_cast<double>(std::size(passes)));
    const double start = now_ms();
    journal_.pass = pass.name;
    bool changed;
    try {
      changed = pass.run(module_, {options_.passes, journal_, fast_});
      verify(module_);
    } catch (Error& error) {
      dump(pass.name);
      const std::string& node = error.origin().node;
      error.add_context(fmt::format("in pass '{}'{}", pass.name, node.empty() ? "" : fmt::format(", node '{}'", node)));
      throw;
    }
    report_.passes.push_back({pass.name, now_ms() - start, changed, module_.main->nodes.size()});
    options_.logger.log(LogLevel::verbose,
                        fmt::format("pass '{}': {} nodes, {:.1f} ms{}", pass.name, module_.main->nodes.size(),
                                    report_.passes.back().milliseconds, changed ? "" : " (unchanged)"));
    dump(pass.name);
  }

  Journal& journal() { return journal_; }

 private:
  void dump(const char* name) const {
    if (options_.dump_directory.empty()) return;
    std::string file = fmt::format("{}/{:02}-{}.txt", options_.dump_directory, report_.passes.size(), name);
    std::replace(file.begin() + static_cast<int64_t>(options_.dump_directory.size()), file.end(), ' ', '-');
    write_file_atomically(file, to_text(module_));
  }

  Module& module_;
  const BuildOptions& options_;
  const FastRows fast_;
  BuildReport& report_;
  Journal journal_;
};

// Weights computed from constants: packed, scaled, merged. They run once, on the kernels that runs use.
// Room for what the init plan makes, in the order of use. All of it together has large pages, and pages that follow
// each other in memory as well: those of a small network then share no sets of the second-level cache.
void allocate_weights(Emitted& emitted) {
  std::vector<uint32_t> made = emitted.init_weights;
  std::sort(made.begin(), made.end());
  int64_t total = 0;
  for (uint32_t weight : made)
    total = checked_add(total, align_up(emitted.target.weights[weight].bytes.bytes(), 64, "weights"), "weights");
  const Tensor all(DType::u8, {total});
  int64_t at = 0;
  for (uint32_t weight : made) {
    Tensor& bytes = emitted.target.weights[weight].bytes;
    if (bytes.bytes() > 0)
      bytes = Tensor(DType::u8, bytes.dims(), static_cast<const std::byte*>(all.data()) + at, all.owner());
    at += align_up(bytes.bytes(), 64, "weights");
  }
}

void run_init(Emitted& emitted, const BuildOptions& options, const DeviceSpec& device) {
  if (emitted.init.bindings.empty()) return;
  allocate_weights(emitted);
  std::vector<int64_t> symbols(emitted.init.symbols.size(), 1);
  schedule(emitted.init.main, symbols);
  const auto executable = make_executable(std::move(emitted.init), device);
  RunState state;
  state.symbols = std::move(symbols);
  state.control = &options.control;
  state.threads = device.threads;
  const auto workers = hire(static_cast<unsigned>(device.threads));
  state.workers = workers.get();
  for (uint32_t weight : emitted.init_weights) {
    Tensor& bytes = emitted.target.weights[weight].bytes;
    state.bindings.push_back(bytes.mutable_data());
  }
  Frame(*executable, executable->main, state).run().check();
}

Built build_once(Module module, const BuildOptions& options) {
  Built out;
  const double start = now_ms();
  if (!options.passes.allow_tf32 && (options.passes.allow_bf16 || options.passes.allow_fp16))
    throw Error(Code::invalid_argument, "strict fp32 and a lower precision are asked for at once")
        .with_hint("bf16 and fp16 are for builds that may round to TF32 too: leave one of the two out");
  DeviceSpec device = this_machine(options.threads);
  if (options.level) device = restrict_level(device, *options.level);
  verify(module);
  bind_dims(module, options);
  {
    PassRunner run(module, options, options.reference_only ? FastRows() : fast_rows(device), out.report);
    for (const PassEntry& pass : passes) run(pass);
    if (!options.reference_only) cut_fragments(module, device);
    if (!options.reference_only && options.passes.allow_bf16) narrow_values(module, device);
    out.report.journal = run.journal().entries;
  }
  options.control.report("choosing kernels", 0.6);
  std::optional<TimingCache> timings;
  if (!options.timing_cache.empty()) timings.emplace(options.timing_cache, options.logger);
  Emitted emitted = emit(module, options, device, timings ? &*timings : nullptr);
  if (timings) {
    timings->save();
    options.logger.log(LogLevel::verbose, fmt::format("{} kernels measured", timings->measured()));
  }
  std::vector<int64_t> likely;
  for (SymbolId k = 0; k < emitted.target.symbols.size(); ++k)
    likely.push_back(likely_value(emitted.target.symbols[k]));
  place_parts(emitted.target, device, likely);
  make_in_place(emitted.target);
  schedule(emitted.target.main, likely);
  options.control.report("preparing weights", 0.8);
  run_init(emitted, options, device);
  out.report.sources = module.sources;
  out.report.kernels = std::move(emitted.decisions);
  out.report.value_names = std::move(emitted.value_names);
  out.report.total_milliseconds = now_ms() - start;
  out.target = std::move(emitted.target);
  options.control.report("done", 1.0);
  return out;
}

}  // namespace

std::span<const PassEntry> pass_list() { return passes; }

Built build(Module module, const BuildOptions& options) {
  if (!has_branches(module)) return build_once(std::move(module), options);
  const auto blamed = [&](Module apart) {
    BuildOptions quiet = options;
    quiet.logger = {};
    quiet.dump_directory.clear();
    try {
      build_once(std::move(apart), quiet);
    } catch (const Error& error) {
      if (error.code() != Code::model_invalid) throw;
      return error.origin().node;
    }
    return std::string();
  };
  while (true) {
    try {
      return build_once(copy(module), options);
    } catch (const Error& error) {
      if (error.code() != Code::model_invalid) throw;
      const std::string branch = refuse_branch(module, error, blamed);
      if (branch.empty()) throw;
      options.logger.log(LogLevel::warning, fmt::format("{} cannot be computed, taking it is an error: node '{}': {}",
                                                        branch, error.origin().node, error.message()));
    }
  }
}

}  // namespace sinter
