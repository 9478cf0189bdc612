#include "builder/timing.h"

#include <fmt/core.h>

#include <unistd.h>

#include "backend/accept.h"
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

std::optional<double> TimingCache::time(const Problem& problem, const Kernel& kernel, const std::string& name,
                                        std::span<const int64_t> symbols, const DeviceSpec& device) {
  for (const Type& type : problem.types)
    if (!type.is_plain()) return std::nullopt;
  const Problem settled = settle(problem, kernel, device);
  const std::string key = key_of(settled, name, symbols, device);
  if (const auto known = nanoseconds_.find(key); known != nanoseconds_.end()) return known->second;
  double nanoseconds = 0;
  try {
    if (operand_bytes(settled, symbols) > max_sampled_bytes) return std::nullopt;
    run_kernel(settled, kernel, device, symbols, sample_operands(settled, symbols, 1), &nanoseconds);
  } catch (const Error&) {
    return std::nullopt;  // these symbol values do not fit the problem
  }
  nanoseconds_.emplace(key, nanoseconds);
  ++measured_;
  return nanoseconds;
}

void TimingCache::save() const {
  if (measured_ == 0) return;
  std::string text(header);
  for (const auto& [key, value] : nanoseconds_) text += fmt::format("{}{}{:.0f}\n", key, separator, value);
  write_file_atomically(path_, text);
}

}  // namespace sinter
