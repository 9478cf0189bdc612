// What verify_target (backend/verify.h) asks of a plan apart from its walk along the steps: which parts of values are
// written (verify_parts.cpp), and that bodies have the form of the step that runs them (verify_control.cpp). The walk
// knows what exists: slots that are named here are slots of the plan, and views end at a base.
#pragma once

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "backend/plan.h"
#include "tensor/symbols.h"

namespace sinter::verifying {

[[noreturn]] void fail(std::string message);

// What steps have written of slots that are written in parts.
class PartsWritten {
 public:
  // extents: symbols of which nothing is believed but that they are no less than 0.
  PartsWritten(const Plan& plan, const SymbolTable& extents)
      : plan_(plan), extents_(extents), written_(plan.slots.size()) {}

  bool any_of(uint32_t s) const { return !written_[s].columns.empty() || any_runs_of(s); }
  bool any_runs_of(uint32_t s) const { return !written_[s].runs.empty(); }
  // Whether steps have written all of a part of a slot that is written in parts, or of a view of such a part.
  bool is_there(uint32_t s) const;
  // Step `now` writes this part. Whether its base is complete with it.
  bool write(uint32_t s, uint32_t now);

 private:
  using Columns = std::pair<int64_t, int64_t>;  // begin and end
  using Run = std::pair<Dim, Dim>;
  // Columns of all rows, or elements one after the other.
  struct Written {
    std::vector<Columns> columns;   // in order, none touching the next
    std::vector<Run> runs, joined;  // of each part; of parts one after the other
  };
  std::optional<Columns> columns_of(uint32_t s) const;
  static Run run_of(const Slot& part);
  bool at_least(const Dim& a, const Dim& b) const;
  bool write_columns(uint32_t s, std::vector<Columns>& columns, uint32_t now) const;
  bool write_run(uint32_t s, Written& written, uint32_t now) const;

  const Plan& plan_;
  const SymbolTable& extents_;
  std::vector<Written> written_;  // by slot
};

// Numbers of operands, parameters and results of If and Loop, and their kinds, so that running them never indexes
// beyond a table.
void check_control_form(const Plan& plan, const Step& step, uint32_t now);

}  // namespace sinter::verifying
