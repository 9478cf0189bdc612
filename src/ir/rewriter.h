// Rewriter: the one door through which passes change a graph.
//
// New nodes are appended through `build`; `replace` redirects every reader of a value. Each replacement belongs to a
// rule with a declared effect, is numbered, type-checked and written to the Journal with the source nodes it concerns.
// `finish` applies the replacements, removes what nobody reads, restores topological order and renumbers ids.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "ir/builder.h"

namespace sinter {

enum class Effect : uint8_t { exact, rounding, reassociates, changes_meaning };
const char* effect_name(Effect effect);

struct Rule {
  const char* name;
  Effect effect = Effect::exact;
  DType precision = DType::f64;  // what its sides round to on their way, where that is coarser than what they give
};

// What was rewritten and refused during one build; answers "what became of my node".
struct Journal {
  struct Entry {
    uint32_t number;  // 0 for a refusal
    const char* pass;
    std::string rule;
    Effect effect;
    Sources sources;
    std::string note;  // reason of a refusal, or what was made
  };
  std::vector<Entry> entries;
  uint32_t count = 0;           // replacements done
  uint32_t limit = UINT32_MAX;  // optional replacements are refused from this number on (bisect)
  const char* pass = "";        // the one that runs
  // Called before each replacement is accepted; throws to name a rewrite that changed a result (--check).
  void (*check)(void* user, Module& module, Graph& graph, ValueId old_value, ValueId new_value,
                const Rule& rule) = nullptr;
  void* check_user = nullptr;
};

class Rewriter {
 public:
  Rewriter(Module& module, Graph& graph, Journal& journal);

  GraphBuilder build;

  // Nodes built from now on descend from `node`.
  void at(const Node& node) { build.set_sources(node.sources); }
  // The value that stands for v after the replacements so far.
  ValueId resolve(ValueId v) const;
  // Readers of `old_value` read `new_value` from now on. Dtype and rank must agree (a rank that was unknown may
  // become known). Returns false when the journal's limit refuses it. `note` says what was made.
  bool replace(ValueId old_value, ValueId new_value, const Rule& rule, std::string note = {});
  void refuse(const Rule& rule, const Node& node, std::string reason);
  // Constant elements, or null; refuses values that are refittable weights.
  const Tensor* peek(ValueId v) const;
  // Readers of v before this rewriter's replacements (results of the graph count).
  uint32_t uses(ValueId v) const { return v < uses_.size() ? uses_[v] : 0; }
  // Defining node of the resolved value, or null.
  const Node* def(ValueId v) const;
  bool changed() const { return changed_; }
  void finish();

 private:
  Journal& journal_;
  std::vector<ValueId> forward_;
  std::vector<uint32_t> uses_;
  bool changed_ = false;
};

// Makes the values know the nodes that define them, after nodes moved.
void define_values(Graph& graph);

// Removes nodes and values that no result needs, restores topological order (stable) and renumbers, bodies included.
// Returns whether anything was removed or moved.
bool tidy(Graph& graph);

}  // namespace sinter
