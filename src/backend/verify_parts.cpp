// Which parts of values are written: what one step writes, no other does, and what one reads, others have written.

#include <fmt/core.h>

#include <algorithm>

#include "backend/verifying.h"
#include "tensor/layout.h"

namespace sinter::verifying {

void fail(std::string message) { throw Error(Code::engine_invalid, fmt::format("the plan is not sound: {}", message)); }

// The columns of its base's rows that a part is. That both have as many rows is tested when they are sized.
auto PartsWritten::columns_of(uint32_t s) const -> std::optional<Columns> {
  const Slot& part = plan_.slots[s];
  const Slot& base = plan_.slots[part.of];
  if (base.kind == SlotKind::view || base.layout.order != part.layout.order) return std::nullopt;
  const Shape &whole = *base.type.shape, &own = *part.type.shape;
  if (own.empty() || own.size() != whole.size()) return std::nullopt;
  const size_t inner = part.layout.innermost(own.size());
  const auto at = part.at->as_constant(), count = own[inner].as_constant(), all = whole[inner].as_constant();
  if (!at || !count || !all || part.layout.pitch != (base.layout.pitch ? base.layout.pitch : *all)) return std::nullopt;
  if (*count < 0 || *at > *all || *count > *all - *at) return std::nullopt;
  return Columns(*at, *at + *count);
}

// The elements of its base from the first to the last of a part.
auto PartsWritten::run_of(const Slot& part) -> Run {
  Dim count = element_count(*part.type.shape);
  if (part.layout.pitch != 0) {
    const Shape& shape = *part.type.shape;
    const size_t inner = part.layout.innermost(shape.size());
    count = shape[inner] - part.layout.pitch;
    Dim rows = 1;
    for (size_t k = 0; k < shape.size(); ++k)
      if (k != inner) rows = rows * shape[k];
    count = count + rows * part.layout.pitch;
  }
  return Run(*part.at, *part.at + count);
}

// For any extents.
bool PartsWritten::at_least(const Dim& a, const Dim& b) const {
  if (a == b) return true;
  return prove(extents_, {Fact::Kind::at_least, a, b, {}}) == Proof::yes;
}

bool PartsWritten::is_there(uint32_t s) const {
  while (plan_.slots[s].kind == SlotKind::view && !plan_.slots[s].is_part()) s = plan_.slots[s].of;
  if (!plan_.slots[s].is_part()) return false;
  const Written& written = written_[plan_.slots[s].of];
  if (!written.columns.empty()) {
    const auto own = columns_of(s);
    return own && std::any_of(written.columns.begin(), written.columns.end(),
                              [&](const Columns& c) { return c.first <= own->first && own->second <= c.second; });
  }
  const Run own = run_of(plan_.slots[s]);
  return std::any_of(written.runs.begin(), written.runs.end(),
                     [&](const Run& r) { return at_least(own.first, r.first) && at_least(r.second, own.second); });
}

bool PartsWritten::write(uint32_t s, uint32_t now) {
  const Slot& part = plan_.slots[s];
  Written& written = written_[part.of];
  const bool in_columns = part.layout.pitch != 0;
  if (in_columns ? !written.runs.empty() : !written.columns.empty())
    fail(fmt::format("step {} writes slot {}, whose base is written in parts of another kind", now, s));
  return in_columns ? write_columns(s, written.columns, now) : write_run(s, written, now);
}

bool PartsWritten::write_columns(uint32_t s, std::vector<Columns>& columns, uint32_t now) const {
  const auto own = columns_of(s);
  if (!own || own->first == own->second)
    fail(fmt::format("step {} writes slot {}, which is not known to be a part of its base", now, s));
  const auto after = std::lower_bound(columns.begin(), columns.end(), *own);
  if ((after != columns.end() && after->first < own->second) ||
      (after != columns.begin() && std::prev(after)->second > own->first))
    fail(fmt::format("step {} writes a part of slot {} a second time", now, plan_.slots[s].of));
  columns.insert(after, *own);
  for (size_t k = columns.size(); k-- > 1;)
    if (columns[k - 1].second == columns[k].first) {
      columns[k - 1].second = columns[k].second;
      columns.erase(columns.begin() + static_cast<ptrdiff_t>(k));
    }
  const Slot& base = plan_.slots[plan_.slots[s].of];
  const int64_t all = (*base.type.shape)[base.layout.innermost(base.type.shape->size())].constant();
  return columns.size() == 1 && columns[0] == Columns(0, all);
}

// Parts that each begin where another one ends, from the first element to the last, share none, whatever their
// extents are: none of those is negative.
bool PartsWritten::write_run(uint32_t s, Written& written, uint32_t now) const {
  const Slot& base = plan_.slots[plan_.slots[s].of];
  Run own = run_of(plan_.slots[s]);
  if (base.kind == SlotKind::view || own.first == own.second)
    fail(fmt::format("step {} writes slot {}, which is not known to be a part of its base", now, s));
  written.runs.push_back(own);
  for (size_t k = written.joined.size(); k-- > 0;) {
    const Run& other = written.joined[k];
    if (!(other.second == own.first) && !(other.first == own.second)) continue;
    own = other.second == own.first ? Run(other.first, own.second) : Run(own.first, other.second);
    written.joined.erase(written.joined.begin() + static_cast<ptrdiff_t>(k));
  }
  written.joined.push_back(own);
  return written.joined.size() == 1 && own.first == Dim(0) && own.second == element_count(*base.type.shape);
}

}  // namespace sinter::verifying
