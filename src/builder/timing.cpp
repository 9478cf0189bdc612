#include "builder/timing.h"

#include <fmt/core.h>

#include <unistd.h>

#include <chrono>
#include <cmath>

#include "backend/accept.h"
#include "backend/kernel_run.h"
#include "base/file.h"
#include "base/scanner.h"

namespace sinter {
namespace {

constexpr size_t max_bytes = 64 << 20;
constexpr size_t max_lines = 1'000'000;
constexpr std::string_view header = "# Sinter timing cache, library " SINTER_VERSION "\n";
constexpr std::string_view separator = " | ";
// Sampling operands beyond this takes longer than a wrong choice costs.
constexpr double max_sampled_bytes = double{256 << 20};
// Rounds over the rows of a problem: until each has run for so many nanoseconds, within bounds.
constexpr double measured_for = 2e6;
constexpr int least_rounds = 3, most_rounds = 1000;

double operand_bytes(const Problem& problem, std::span<const int64_t> symbols) {
  double bytes = 0;
  for (const Operand& operand : problem.operands) {
    double n = bit_size(operand.type.dtype) / 8.0;
    for (const Dim& d : *operand.type.shape) n *= static_cast<double>(d.evaluate(symbols));
    bytes += n;
  }
  return bytes;
}

std::string key_of(const Problem& problem, const std::string& kernel, std::span<const int64_t> symbols,
                   const DeviceSpec& device) {
  std::string key = to_text(problem) + std::string(separator);
  for (size_t k = 0; k < symbols.size(); ++k)
    key += fmt::format("{}{} = {}", k ? ", " : "", problem.symbols[static_cast<SymbolId>(k)].name, symbols[k]);
  return key + fmt::format("{}{} level {} features {:x}, {} threads{}{}", separator, device.name, device.level,
                           device.features, device.threads, separator, kernel);
}

}  // namespace

TimingCache::TimingCache(std::string path, const Logger& logger) : path_(std::move(path)) {
  if (::access(path_.c_str(), F_OK) != 0) return;
  const std::string text = read_text_file(path_, max_bytes);
  if (std::string_view(text).substr(0, header.size()) != header) {
    logger.log(LogLevel::warning,
               fmt::format("'{}' is no timing cache of this version of the library; times are measured again",
                           printable(path_)));
    return;
  }
  std::string_view rest = std::string_view(text).substr(header.size());
  for (size_t lines = 0; !rest.empty(); ++lines) {
    const std::string_view line = rest.substr(0, rest.find('\n'));
    rest.remove_prefix(std::min(rest.size(), line.size() + 1));
    const size_t at = line.rfind(separator);
    double value = 0;
    try {
      if (at == std::string_view::npos || lines >= max_lines) throw Error(Code::io, "not a line of it");
      Scanner scanner(line.substr(at + separator.size()));
      value = scanner.number();
      if (!(value >= 0) || !scanner.at_end()) throw Error(Code::io, "not a time");
    } catch (const Error&) {
      logger.log(LogLevel::warning, fmt::format("'{}' is damaged; times are measured again", printable(path_)));
      nanoseconds_.clear();
      return;
    }
    nanoseconds_.insert_or_assign(std::string(line.substr(0, at)), value);
  }
}

void TimingCache::time(std::span<Row> rows, const Problem& problem, std::span<const int64_t> symbols,
                       const DeviceSpec& device) {
  for (const Type& type : problem.types)
    if (!type.is_plain()) return;
  struct Measured {
    Row* row;
    std::string key;
    Problem problem;
    std::unique_ptr<KernelRun> run;
  };
  std::vector<Measured> unknown;
  unknown.reserve(rows.size());  // runs refer to their problems
  for (Row& row : rows) {
    Problem settled = settle(problem, *row.kernel, device);
    std::string key = key_of(settled, row.name, symbols, device);
    if (const auto known = nanoseconds_.find(key); known != nanoseconds_.end())
      row.nanoseconds = known->second;
    else
      unknown.push_back({&row, std::move(key), std::move(settled), nullptr});
  }
  for (Measured& m : unknown) {
    try {
      if (operand_bytes(m.problem, symbols) > max_sampled_bytes) continue;
      m.run = std::make_unique<KernelRun>(m.problem, *m.row->kernel, device, symbols,
                                          sample_operands(m.problem, symbols, 1), KernelRun::Fence::pattern);
      m.run->run();
    } catch (const Error&) {
      m.run = nullptr;  // these symbol values do not fit the problem
    }
  }
  std::erase_if(unknown, [](const Measured& m) { return m.run == nullptr; });
  using Clock = std::chrono::steady_clock;
  std::vector<double> best(unknown.size(), INFINITY);
  double spent = 0;
  const double enough = measured_for * static_cast<double>(unknown.size());
  for (int round = 0; round < least_rounds || (round < most_rounds && spent < enough); ++round)
    for (size_t i = 0; i < unknown.size(); ++i) {
      unknown[i].run->cool();
      const auto start = Clock::now();
      unknown[i].run->run();
      const double took = std::chrono::duration<double, std::nano>(Clock::now() - start).count();
      best[i] = std::min(best[i], took);
      spent += took;
    }
  for (size_t i = 0; i < unknown.size(); ++i) {
    unknown[i].row->nanoseconds = best[i];
    nanoseconds_.emplace(unknown[i].key, best[i]);
    ++measured_;
  }
}

void TimingCache::save() const {
  if (measured_ == 0) return;
  std::string text(header);
  for (const auto& [key, value] : nanoseconds_) text += fmt::format("{}{}{:.0f}\n", key, separator, value);
  write_file_atomically(path_, text);
}

}  // namespace sinter
