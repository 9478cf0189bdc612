#include "backend/cpu/kernels/viewed.h"

#include <algorithm>
#include <optional>

#include "backend/cpu/kernels/common.h"
#include "ops/views.h"

namespace sinter::cpu {
namespace {

struct Moves {
  std::vector<bool> view;                      // values that are moved operands
  std::vector<std::optional<size_t>> widened;  // by value: the stage that casts the operand it is, or is moved from
};

Moves moves_of(const Problem& whole) {
  Moves m{std::vector<bool>(whole.types.size(), false), std::vector<std::optional<size_t>>(whole.types.size())};
  for (size_t s = 0; s < whole.stages.size(); ++s) {
    const Stage& stage = whole.stages[s];
    if (!has(stage, 0)) continue;
    const uint16_t x = stage.inputs[0];
    const bool operand = x < whole.operands.size();
    if (is_op(stage, "Cast") && operand) m.widened[whole.first_result[s]] = s;
    if (!is_movement_view(*stage.op) || !(operand || m.view[x] || m.widened[x])) continue;
    for (uint16_t k = 0; k < stage.outputs; ++k) {
      const auto y = static_cast<size_t>(whole.first_result[s] + k);
      m.view[y] = true;
      m.widened[y] = m.widened[x];
    }
  }
  return m;
}

}  // namespace

bool moves_operands(const Problem& whole) {
  return std::any_of(whole.stages.begin(), whole.stages.end(),
                     [](const Stage& stage) { return is_movement_view(*stage.op); });
}

Answer without_views(const Problem& whole, Viewed& out) {
  const Moves moves = moves_of(whole);
  for (const Problem::Result& result : whole.results)
    if (moves.view[result.value]) return Answer::no("a result that is only moved");
  // Stages that compute, and what they read.
  std::vector<bool> read(whole.types.size(), false), kept(whole.stages.size(), false);
  for (const Problem::Result& result : whole.results) read[result.value] = true;
  for (size_t s = whole.stages.size(); s-- > 0;) {
    const Stage& stage = whole.stages[s];
    const uint16_t y = whole.first_result[s];
    kept[s] =
        !moves.view[y] && std::any_of(read.begin() + y, read.begin() + y + stage.outputs, [](bool r) { return r; });
    if (!kept[s]) continue;
    for (uint16_t v : stage.inputs)
      if (v != absent_operand) read[v] = true;
  }
  Problem& core = out.problem;
  core.symbols = whole.symbols;
  std::vector<uint16_t> at(whole.types.size(), absent_operand);
  for (uint16_t v = 0; v < whole.types.size(); ++v) {
    if (!read[v] || !(v < whole.operands.size() || moves.view[v])) continue;
    at[v] = static_cast<uint16_t>(core.operands.size());
    out.values.push_back(v);
    if (v < whole.operands.size()) {
      core.operands.push_back(whole.operands[v]);
      continue;
    }
    if (!whole.types[v].is_plain()) return Answer::no("a view of no plain tensor");
    if (Answer a = view_supported(whole, v, whole.types[v].shape->size()); !a) return a;
    Type type = whole.types[v];
    type.dtype = whole.types[viewed_operand(whole, v)].dtype;
    core.operands.push_back({.type = std::move(type), .layout = {}, .contents = {}});
  }
  auto next = static_cast<uint16_t>(core.operands.size());
  const auto add = [&](const Stage& stage, uint16_t first) {
    core.stages.push_back(stage);
    for (uint16_t k = 0; k < stage.outputs; ++k) at[static_cast<size_t>(first + k)] = next++;
  };
  for (uint16_t v : out.values)
    if (moves.view[v] && moves.widened[v]) {
      Stage cast = whole.stages[*moves.widened[v]];
      cast.inputs = {at[v]};
      add(cast, v);
    }
  for (size_t s = 0; s < whole.stages.size(); ++s) {
    if (!kept[s]) continue;
    Stage stage = whole.stages[s];
    for (uint16_t& v : stage.inputs)
      if (v != absent_operand) v = at[v];
    add(stage, whole.first_result[s]);
  }
  for (const Problem::Result& result : whole.results) core.results.push_back({at[result.value], result.layout});
  complete(core);
  return Answer::yes();
}

}  // namespace sinter::cpu
