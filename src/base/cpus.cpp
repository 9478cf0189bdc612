#include "base/cpus.h"

#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstdint>
#include <cstdio>
#include <limits>
#include <memory>
#include <string_view>
#include <vector>

namespace sinter {
namespace {

// Files that the kernel makes up have no size before they are read (base/file.h wants one).
std::optional<std::string> text_of(const std::string& path) {
  constexpr size_t limit = 4 << 20;
  const std::unique_ptr<FILE, int (*)(FILE*)> file(std::fopen(path.c_str(), "re"), std::fclose);
  if (!file) return std::nullopt;
  std::string text;
  char piece[4096];
  for (size_t n = 1; n > 0 && text.size() < limit;) {
    n = std::fread(piece, 1, sizeof piece, file.get());
    text.append(piece, n);
  }
  return text;
}

// Takes what lies before the next separator off the front.
std::string_view cut(std::string_view& text, char separator) {
  const size_t at = text.find(separator);
  const std::string_view part = text.substr(0, at);
  text.remove_prefix(at == std::string_view::npos ? text.size() : at + 1);
  return part;
}

bool lists(std::string_view names, std::string_view name) {
  while (!names.empty())
    if (cut(names, ',') == name) return true;
  return false;
}

// Without a number in front: none.
std::optional<int64_t> number(std::string_view text) {
  int64_t value = 0;
  if (std::from_chars(text.data(), text.data() + text.size(), value).ec != std::errc()) return std::nullopt;
  return value;
}

// Paths in mountinfo have blanks and the like as \040.
std::string unescaped(std::string_view text) {
  std::string out;
  for (size_t i = 0; i < text.size(); ++i) {
    const auto digit = [&](size_t k) { return i + k < text.size() && text[i + k] >= '0' && text[i + k] <= '7'; };
    if (text[i] == '\\' && digit(1) && digit(2) && digit(3)) {
      out += static_cast<char>((text[i + 1] - '0') * 64 + (text[i + 2] - '0') * 8 + (text[i + 3] - '0'));
      i += 3;
    } else {
      out += text[i];
    }
  }
  return out;
}

// A hierarchy of control groups: what is mounted (`from`, a path as /proc/self/cgroup gives it) and where.
struct Hierarchy {
  bool second = false;  // version 2
  std::string from, at;
};

std::vector<Hierarchy> hierarchies(std::string_view mountinfo) {
  std::vector<Hierarchy> out;
  while (!mountinfo.empty()) {
    // id, parent, device, root, mount point, options, any number of others, "-", type, source, superblock options
    std::string_view line = cut(mountinfo, '\n');
    std::vector<std::string_view> fields;
    while (!line.empty()) fields.push_back(cut(line, ' '));
    const auto dash = std::find(fields.begin(), fields.end(), "-");
    if (dash - fields.begin() < 6 || fields.end() - dash < 4) continue;
    if (dash[1] == "cgroup2" || (dash[1] == "cgroup" && lists(dash[3], "cpu")))
      out.push_back({dash[1] == "cgroup2", unescaped(fields[3]), unescaped(fields[4])});
  }
  return out;
}

// The process's group of a hierarchy, a path that begins with '/'; none where it has none.
std::optional<std::string> group_in(std::string_view groups, bool second) {
  while (!groups.empty()) {
    // id:controllers:path
    std::string_view line = cut(groups, '\n');
    const std::string_view id = cut(line, ':'), controllers = cut(line, ':');
    if (!line.empty() && line[0] == '/' && (second ? id == "0" && controllers.empty() : lists(controllers, "cpu")))
      return std::string(line);
  }
  return std::nullopt;
}

// Whether a path leads out of what the process sees of a hierarchy (man 7 cgroup_namespaces).
bool leads_out(const std::string& path) { return (path + "/").starts_with("/../"); }

// Where the process's group is below what is mounted: "" or "/a/b"; none where that is another group's folder. What
// lies around all that the process sees has no names: then what is mounted counts itself.
std::optional<std::string> below(const std::string& group, const std::string& from) {
  if (leads_out(group)) return "";
  std::string rest = group;
  if (leads_out(from)) {
    // "/.." and "/../.." are around the process's root, "/../a" is beside it.
    if (from.find_first_not_of("/.") != std::string::npos) return std::nullopt;
    rest.clear();
  } else if (from != "/") {
    if (group.compare(0, from.size(), from) != 0 || (group.size() > from.size() && group[from.size()] != '/'))
      return std::nullopt;
    rest = group.substr(from.size());
  }
  if ((rest + "/").find("/../") != std::string::npos) return std::nullopt;
  while (!rest.empty() && rest.back() == '/') rest.pop_back();
  return rest;
}

std::optional<unsigned> quota_of(const std::string& folder, bool second) {
  std::optional<int64_t> quota, period;
  if (second) {
    // "quota period" in microseconds, or "max period"
    const auto text = text_of(folder + "/cpu.max");
    if (!text) return std::nullopt;
    std::string_view rest = *text;
    quota = number(cut(rest, ' '));
    period = number(rest);
  } else {
    const auto quota_text = text_of(folder + "/cpu.cfs_quota_us"), period_text = text_of(folder + "/cpu.cfs_period_us");
    if (!quota_text || !period_text) return std::nullopt;
    quota = number(*quota_text);  // -1: none
    period = number(*period_text);
  }
  if (!quota || !period || *quota <= 0 || *period <= 0) return std::nullopt;
  const int64_t cpus = *quota / *period + (*quota % *period != 0 ? 1 : 0);
  return static_cast<unsigned>(std::min<int64_t>(cpus, std::numeric_limits<int>::max()));
}

}  // namespace

std::optional<unsigned> quota_cpus(const std::string& root) {
  const auto groups = text_of(root + "/proc/self/cgroup"), mounts = text_of(root + "/proc/self/mountinfo");
  if (!groups || !mounts) return std::nullopt;
  std::optional<unsigned> least;
  for (const Hierarchy& hierarchy : hierarchies(*mounts)) {
    const auto group = group_in(*groups, hierarchy.second);
    if (!group) continue;
    auto rest = below(*group, hierarchy.from);
    if (!rest) continue;
    for (;; rest->resize(rest->rfind('/'))) {
      if (const auto quota = quota_of(root + hierarchy.at + *rest, hierarchy.second))
        least = std::min(least.value_or(*quota), *quota);
      if (rest->empty()) break;
    }
  }
  return least;
}

unsigned affinity_cpus() {
  // The kernel says EINVAL to a mask that is smaller than its own.
  for (int bits = 1024; bits <= 1 << 20; bits *= 2) {
    const std::unique_ptr<cpu_set_t, void (*)(cpu_set_t*)> set(CPU_ALLOC(static_cast<size_t>(bits)),
                                                               [](cpu_set_t* s) { CPU_FREE(s); });
    const size_t bytes = CPU_ALLOC_SIZE(static_cast<size_t>(bits));
    if (!set) break;
    if (sched_getaffinity(0, bytes, set.get()) == 0)
      return static_cast<unsigned>(std::max(1, CPU_COUNT_S(bytes, set.get())));
    if (errno != EINVAL) break;
  }
  return static_cast<unsigned>(std::max(1L, sysconf(_SC_NPROCESSORS_ONLN)));
}

unsigned usable_cpus() {
  const unsigned cpus = affinity_cpus();
  return std::max(1u, std::min(cpus, quota_cpus().value_or(cpus)));
}

}  // namespace sinter
