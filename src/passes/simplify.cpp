// simplify: rules to a fixpoint over all graphs, in an order that depends on the module alone.

#include <fmt/core.h>

#include "passes/rules.h"

namespace sinter {
namespace {

bool apply_pattern(Site& site, NodeId n, const pattern::PatternRule& rule) {
  const ValueId root = site.out(n);
  pattern::Refusal refusal;
  const auto match = pattern::match(site.rw, rule.from, root, &refusal);
  if (!match) {
    if (refusal.only_readers) site.refuse(rule.rule, n, "an inner value is read elsewhere too");
    return false;
  }
  if (rule.when) {
    if (const Answer answer = rule.when(site.rw, *match); !answer) {
      site.refuse(rule.rule, n, answer.reason());
      return false;
    }
  }
  if (!site.type(root).is_tensor()) return false;
  site.at({n});
  const ValueId made = pattern::build(site.rw, rule.to, *match, site.type(root).dtype);
  if (!site.same_type(root, made)) {
    site.refuse(rule.rule, n,
                fmt::format("the result is {}, the node's is {}", to_text(site.type(made), site.module.symbols),
                            to_text(site.type(root), site.module.symbols)));
    return false;
  }
  return site.replace(root, made, rule.rule);
}

// Rules by the operator at their root, in the order in which they are tried.
struct Table {
  struct Entry {
    const NodeRule* rule = nullptr;
    const pattern::PatternRule* pattern = nullptr;
  };
  std::map<const Op*, std::vector<Entry>> of;
  std::vector<Entry> of_any;

  Table() {
    for (const auto& list : {constant_rules(), identity_rules(), shape_rules(), contraction_rules(), einsum_rules()})
      add(list);
    for (const pattern::PatternRule& rule : pattern_rules()) of[rule.from.op].push_back({nullptr, &rule});
    add(arithmetic_rules());
    add(band_rules());
    add(rotary_rules());
  }
  void add(std::span<const NodeRule> list) {
    for (const NodeRule& rule : list)
      if (rule.op)
        of[&op_named(rule.op)].push_back({&rule, nullptr});
      else
        of_any.push_back({&rule, nullptr});
  }
};

bool apply(Site& site, NodeId n, const std::vector<Table::Entry>& entries) {
  for (const Table::Entry& entry : entries) {
    try {
      if (entry.rule ? entry.rule->apply(site, n) : apply_pattern(site, n, *entry.pattern)) return true;
    } catch (const Error& error) {
      // What a rule builds may show that nodes do not fit together. Of a body that is said when it runs: it may never
      // do so.
      if (error.code() != Code::model_invalid || &site.graph == site.module.main.get()) throw;
    }
  }
  return false;
}

void visit(Site& site, void*) {
  static const Table table;
  CommonWork common;
  const auto nodes = static_cast<NodeId>(site.graph.nodes.size());
  for (NodeId n = 0; n < nodes; ++n) {
    bool wanted = false;
    for (ValueId v : site.graph.nodes[n].outputs)
      wanted = wanted || (site.rw.uses(v) > 0 && site.rw.resolve(v) == v && !site.graph[v].has_contents());
    if (!wanted || apply(site, n, table.of_any)) continue;
    if (const auto at = table.of.find(site.graph.nodes[n].op); at != table.of.end() && apply(site, n, at->second))
      continue;
    common.apply(site, n);
  }
}

}  // namespace

bool simplify(Module& module, const PassContext& context) {
  Rounds rounds(context.journal);
  return rewrite_to_the_end(module, rounds, visit, nullptr);
}

}  // namespace sinter
