// Words and tables on a terminal.

#include <fmt/core.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>

#include "common.h"

namespace sinter::cli {
namespace {

bool colours() {
  static const bool on = on_terminal() && !std::getenv("NO_COLOR");
  return on;
}

std::string coloured(const std::string& text, const char* code) {
  return colours() ? fmt::format("\033[{}m{}\033[0m", code, text) : text;
}

// Characters, not bytes (names of models are UTF-8), and no colours.
size_t width_of(std::string_view text) {
  size_t width = 0;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '\033')
      i = std::min(text.find('m', i), text.size());
    else
      width += (static_cast<unsigned char>(text[i]) & 0xc0) != 0x80;
  }
  return width;
}

std::string scaled(double value, double step, std::initializer_list<const char*> units) {
  const char* unit = *units.begin();
  for (const char* next : units) {
    unit = next;
    if (value < step || next == *(units.end() - 1)) break;
    value /= step;
  }
  const int digits = value >= 100 || value == static_cast<double>(static_cast<int64_t>(value)) ? 0 : 1;
  return fmt::format("{:.{}f} {}", value, digits, unit);
}

}  // namespace

bool on_terminal() { return isatty(STDOUT_FILENO) != 0; }
std::string bold(const std::string& text) { return coloured(text, "1"); }
std::string red(const std::string& text) { return coloured(text, "31"); }
std::string green(const std::string& text) { return coloured(text, "32"); }

std::string bytes_text(double bytes) { return scaled(bytes, 1024, {"B", "KiB", "MiB", "GiB", "TiB"}); }

std::string count_text(double count) {
  return count < 10000 ? fmt::format("{:.0f}", count) : scaled(count, 1000, {"", "k", "M", "G", "T"});
}

std::string time_text(double ms) {
  if (ms < 0.001) return fmt::format("{:.0f} ns", ms * 1e6);
  if (ms < 1) return fmt::format("{:.1f} us", ms * 1e3);
  if (ms < 1000) return fmt::format("{:.2f} ms", ms);
  return fmt::format("{:.2f} s", ms / 1e3);
}

std::string shortened(const std::string& text, size_t limit) {
  if (width_of(text) <= limit) return text;
  std::string out;
  size_t width = 0;
  for (char c : text) {
    if ((static_cast<unsigned char>(c) & 0xc0) != 0x80 && ++width + 3 > limit) break;
    out += c;
  }
  return out + "...";
}

Table::Table(std::vector<std::string> titles) {
  for (std::string& title : titles) {
    right_.push_back(!title.empty() && title[0] == '>');
    titles_.push_back(right_.back() ? title.substr(1) : std::move(title));
  }
}

void Table::row(std::vector<std::string> cells) {
  cells.resize(titles_.size());
  rows_.push_back(std::move(cells));
}

void Table::print() const {
  std::vector<size_t> widths;
  for (size_t k = 0; k < titles_.size(); ++k) {
    widths.push_back(width_of(titles_[k]));
    for (const auto& row : rows_) widths[k] = std::max(widths[k], width_of(row[k]));
  }
  const auto line = [&](const std::vector<std::string>& cells) {
    std::string out;
    for (size_t k = 0; k < cells.size(); ++k) {
      const std::string pad(widths[k] - width_of(cells[k]), ' ');
      out += k ? "  " : "";
      out += right_[k] ? pad + cells[k] : cells[k] + (k + 1 < cells.size() ? pad : "");
    }
    return out;
  };
  fmt::print("{}\n", bold(line(titles_)));
  for (const auto& row : rows_) fmt::print("{}\n", line(row));
}

}  // namespace sinter::cli
