#include "report.h"

#include <fmt/core.h>

#include <algorithm>
#include <map>

#include "common.h"

namespace sinter::cli {

std::string report_json(const BuildReport& report, const Executable& executable, const std::string& model) {
  Json out;
  out["model"] = model;
  out["sinter_version"] = SINTER_VERSION;
  out["total_ms"] = report.total_milliseconds;
  for (const BuildReport::Pass& pass : report.passes)
    out["passes"].push_back(
        {{"name", pass.name}, {"ms", pass.milliseconds}, {"changed", pass.changed}, {"nodes", pass.nodes}});
  out["rewrites"] = Json::array();
  out["refusals"] = Json::array();
  for (const Journal::Entry& entry : report.journal) {
    Json item;
    if (entry.number) item["number"] = entry.number;
    item["pass"] = entry.pass;
    item["rule"] = entry.rule;
    item["effect"] = effect_name(entry.effect);
    item["nodes"] = Json::array();
    for (uint32_t s : entry.sources)
      if (s < report.sources.size())
        item["nodes"].push_back({{"name", report.sources[s].name}, {"op_type", report.sources[s].op_type}});
    if (!entry.note.empty()) item[entry.number ? "note" : "reason"] = entry.note;
    out[entry.number ? "rewrites" : "refusals"].push_back(std::move(item));
  }
  out["kernels"] = Json::array();
  size_t by_reference = 0;
  for (const KernelDecision& decision : report.kernels) {
    out["kernels"].push_back({{"nodes", decision.sources},
                              {"kernel", decision.kernel},
                              {"estimated_ns", decision.nanoseconds},
                              {"others", decision.refusals}});
    by_reference += decision.kernel.rfind("reference/", 0) == 0;
  }
  out["steps_by_reference"] = by_reference;
  const Target& target = executable.target;
  out["engine"] = {{"steps", target.main.steps.size()},
                   {"weights", target.weights.size()},
                   {"weight_bytes", weight_bytes(target)},
                   {"threads", target.needs.threads}};
  add_memory(out, executable);
  // Names of models are bytes of strangers.
  return out.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

void add_memory(Json& json, const Executable& executable) {
  const auto add = [&](const char* name, Extents extents) {
    if (const auto use = memory_at(executable, extents))
      json[name] = {{"weights", use->weights},
                    {"values", use->values},
                    {"working", use->working},
                    {"outputs", use->outputs},
                    {"complete", use->complete}};
  };
  add("memory", Extents::best);
  add("memory_at_largest", Extents::largest);
}

std::string memory_text(const Executable& executable) {
  const auto text = [](int64_t bytes) { return bytes_text(static_cast<double>(bytes)); };
  const auto best = memory_at(executable, Extents::best), largest = memory_at(executable, Extents::largest);
  const auto at_least = [](const MemoryUse& use) { return use.complete ? "" : "at least "; };
  if (!best)
    return fmt::format("a run holds weights of {}, and what depends on extents that no --dim bounds",
                       text(weight_bytes(executable.target)));
  const bool open = has_open_extents(executable.target);
  std::string out = fmt::format("a run holds {}{}{}: weights {}, values {}, working memory {}, outputs {}",
                                at_least(*best), text(best->total()), open ? " at the best extents" : "",
                                text(best->weights), text(best->values), text(best->working), text(best->outputs));
  if (open)
    out += largest ? fmt::format("; {}{} at the largest", at_least(*largest), text(largest->total()))
                   : "; more at larger ones";
  return out;
}

void print_kernel_summary(const BuildReport& report) {
  struct Row {
    size_t steps = 0;
    double nanoseconds = 0;
    std::string first;
  };
  std::map<std::string, Row> rows;
  double total = 0;
  for (const KernelDecision& decision : report.kernels) {
    Row& row = rows[decision.kernel];
    ++row.steps;
    row.nanoseconds += decision.nanoseconds;
    total += decision.nanoseconds;
    if (row.first.empty()) row.first = decision.sources;
  }
  std::vector<std::pair<std::string, Row>> sorted(rows.begin(), rows.end());
  std::stable_sort(sorted.begin(), sorted.end(),
                   [](const auto& a, const auto& b) { return a.second.nanoseconds > b.second.nanoseconds; });
  Table table({"kernel", ">steps", ">share", "first node"});
  for (const auto& [kernel, row] : sorted)
    table.row({kernel, std::to_string(row.steps), fmt::format("{:.1f}%", total > 0 ? 100 * row.nanoseconds / total : 0),
               shortened(row.first, 48)});
  if (!table.empty()) table.print();
}

}  // namespace sinter::cli
