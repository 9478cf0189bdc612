// What the commands share: exit codes and error messages, tables, the options of builds and inputs, and getting an
// engine from a model or an engine file.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "builder/pipeline.h"
#include "options.h"
#include "runtime/engine.h"
#include "tune/sample.h"

namespace sinter::cli {

enum Exit : int {
  exit_ok = 0,
  exit_failure = 1,
  exit_usage = 2,
  exit_bad_model = 3,
  exit_differs = 4,
  exit_build_failed = 5,
  exit_incompatible = 6,
};

// An error whose exit code its own code does not tell.
struct Failed {
  Exit exit;
  Error error;
};

// Runs a command; every exception becomes a message on stderr and an exit code.
int guarded(const std::function<int()>& run);
void on_interrupt(int);
// Polls for an interrupt, and draws a bar on a terminal when asked to.
Control control(bool progress = false);
void end_progress();

// ---- output ----

bool on_terminal();  // stdout
std::string bold(const std::string& text);
std::string red(const std::string& text);
std::string green(const std::string& text);
std::string bytes_text(double bytes);        // "12.3 MiB"
std::string time_text(double milliseconds);  // "1.23 ms"
std::string count_text(double count);        // "25.6 M"
std::string shortened(const std::string& text, size_t limit);

class Table {
 public:
  // A title that starts with '>' is aligned right.
  explicit Table(std::vector<std::string> titles);
  void row(std::vector<std::string> cells);
  bool empty() const { return rows_.empty(); }
  void print() const;

 private:
  std::vector<std::string> titles_;
  std::vector<bool> right_;
  std::vector<std::vector<std::string>> rows_;
};

// ---- options ----

// Plugin libraries that the command line names, which main() loads before the command runs.
std::vector<std::string>& plugin_files();
void declare_plugins(Options& options);

struct BuildFlags {
  std::string device = "cpu", level, timing_cache, verbose = "warning", external_data_root, dump;
  int threads = 0;
  std::vector<std::string> dims, disabled;
  bool strict = false, bf16 = false, fp16 = false, check = false, reference = false;

  void declare(Options& options, bool with_threads = true);
  BuildOptions options(bool progress = false) const;
  // Names of what is set that an engine, being built already, cannot follow; "" when there is none.
  std::string set_for_building() const;
};

struct InputFlags {
  std::vector<std::string> files, shapes;
  uint64_t seed = 1;

  void declare(Options& options);
};

// "x:1x3x224x224"; throws for text that is none.
std::pair<std::string, Dims> parse_shape(const std::string& text);

// Where a file will be written: links followed, so that they stay. Throws, before work is spent, where that cannot be:
// a folder that is missing or not writable, a directory, a device (renaming a file onto it would replace it).
std::string output_path(const std::string& path);
void make_directories(const std::string& path);

// ---- networks ----

Module read_model(const std::string& path, const BuildFlags& flags, const BuildOptions& options);
Built build_model(Module module, const BuildOptions& options);
bool is_engine_file(const std::string& path);

struct Loaded {
  std::shared_ptr<const Engine> engine;
  bool built = false;  // from a model
  double build_ms = 0, load_ms = 0;
  size_t file_bytes = 0;
  BuildReport report;
};
// An engine file, or a model that is built first.
Loaded load(const std::string& path, const BuildFlags& flags);

std::vector<SampledInput> inputs_of(const Engine& engine);
std::vector<SampledInput> inputs_of(const Module& module);
// Best values of the profiles by symbol, else -1.
std::vector<int64_t> best_of(const Engine& engine);
std::vector<int64_t> best_of(const Module& module, const BuildOptions& options);
// From files in the order of the inputs; missing ones are made up, and stderr says so.
std::vector<Box> read_inputs(const std::vector<SampledInput>& inputs, const SymbolTable& symbols,
                             const std::vector<int64_t>& best, const InputFlags& flags);
// Sets all inputs. in_place: outputs get the buffers of inputs that they may lie over, where they have as many bytes as
// far as is known; these, and the inputs.
std::map<size_t, size_t> set_values(Context& context, std::vector<Box>& inputs, bool in_place);
inline constexpr const char* in_place_help = "write outputs over inputs where they may lie there (docs/caches.md)";
// Operators judge the values of a run as they judge a model; here it is the values that are wrong, not the model.
void with_values(const std::function<void()>& run);
std::string type_of(const Box& box);

}  // namespace sinter::cli
