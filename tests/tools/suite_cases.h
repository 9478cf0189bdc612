// Cases of ONNX's backend test suite, and the lists that speak of them.
//
// A case is a folder with model.onnx and test_data_set_N, or a real network of the light folder with the output for its
// ramp. Lists are files of lines "pattern[@mode] reason", where a * stands for any characters; each of their patterns
// must name something.
#pragma once

#include <dirent.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <fstream>
#include <map>
#include <sstream>
#include <string>
#include <string_view>
#include <vector>

namespace suite {

struct Case {
  std::string name, model, folder;  // folder: of test_data_set_0, or empty for the real models
  double rtol = 1e-3, atol = 1e-7;
};

inline std::vector<std::string> entries(const std::string& folder) {
  std::vector<std::string> names;
  DIR* dir = ::opendir(folder.c_str());
  if (!dir) return names;
  while (const dirent* entry = ::readdir(dir))
    if (entry->d_name[0] != '.') names.push_back(entry->d_name);
  ::closedir(dir);
  std::sort(names.begin(), names.end());
  return names;
}

inline bool exists(const std::string& path) { return ::access(path.c_str(), R_OK) == 0; }

inline std::vector<Case> find_cases(const std::string& data) {
  std::vector<Case> cases;
  for (const char* kind : {"node", "simple", "pytorch-operator", "pytorch-converted"})
    for (const std::string& name : entries(data + "/" + kind)) {
      const std::string folder = data + "/" + kind + "/" + name;
      if (exists(folder + "/model.onnx")) cases.push_back({name, folder + "/model.onnx", folder, 1e-3, 1e-7});
    }
  // The real ones name a model of the light folder; densenet121 alone has a tolerance of its own.
  for (const std::string& name : entries(data + "/real")) {
    const std::string model = data + "/light/light_" + name.substr(std::min<size_t>(name.size(), 5)) + ".onnx";
    if (exists(model)) cases.push_back({name, model, "", name == "test_densenet121" ? 2e-3 : 1e-3, 1e-7});
  }
  return cases;
}

// A case of one release, and where its content lies (tools/onnx_old_cases.py writes the list).
struct ReleaseCase {
  std::string release, name;
  size_t content;  // index of the case
};

// Each content is one case, named "release/name" after the newest release that has it.
inline std::vector<Case> read_release_cases(const std::string& file, std::vector<ReleaseCase>& releases) {
  std::vector<Case> cases;
  std::map<std::string, size_t> known;
  std::ifstream in(file);
  for (std::string release, kind, name, folder; in >> release >> kind >> name >> folder;) {
    const auto [at, fresh] = known.try_emplace(folder, cases.size());
    if (fresh) {
      // ".../1.7.0/node/test_x" or ".../onnx-1.22.0/data/node/test_x".
      std::vector<std::string> parts;
      std::istringstream path(folder);
      for (std::string part; std::getline(path, part, '/');) parts.push_back(part);
      std::string home = parts.size() >= 3 ? parts[parts.size() - 3] : "";
      if (home == "data" && parts.size() >= 4) home = parts[parts.size() - 4];
      if (home.substr(0, 5) == "onnx-") home.erase(0, 5);
      cases.push_back({home + "/" + name, folder + "/model.onnx", folder, 1e-3, 1e-7});
    }
    releases.push_back({release, name, at->second});
  }
  return cases;
}

inline bool matches(std::string_view pattern, std::string_view name) {
  if (pattern.empty()) return name.empty();
  if (pattern[0] == '*') {
    for (size_t skip = 0; skip <= name.size(); ++skip)
      if (matches(pattern.substr(1), name.substr(skip))) return true;
    return false;
  }
  return !name.empty() && pattern[0] == name[0] && matches(pattern.substr(1), name.substr(1));
}

struct Line {
  std::string pattern, mode, reason;  // mode: empty for all
  bool names(std::string_view name, std::string_view in_mode) const {
    return (mode.empty() || mode == in_mode) && matches(pattern, name);
  }
};

// false, with a message, when a line has no reason or the file cannot be read.
inline bool read_list(const std::string& path, std::vector<Line>& list) {
  std::ifstream file(path);
  if (!file) {
    std::fprintf(stderr, "%s cannot be read\n", path.c_str());
    return false;
  }
  for (std::string line; std::getline(file, line);) {
    if (line.empty() || line[0] == '#') continue;
    const size_t space = line.find(' ');
    const size_t reason = space == std::string::npos ? space : line.find_first_not_of(' ', space);
    if (reason == std::string::npos) {
      std::fprintf(stderr, "%s: '%s' has no reason\n", path.c_str(), line.c_str());
      return false;
    }
    Line entry{line.substr(0, space), "", line.substr(reason)};
    if (const size_t at = entry.pattern.find('@'); at != std::string::npos) {
      entry.mode = entry.pattern.substr(at + 1);
      entry.pattern.erase(at);
    }
    list.push_back(std::move(entry));
  }
  return true;
}

}  // namespace suite
