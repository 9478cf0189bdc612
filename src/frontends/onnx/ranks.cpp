// Nodes whose entries must know ranks that are not known: one import for each rank that the entry takes.

#include <algorithm>
#include <utility>

#include "frontends/onnx/importer.h"
#include "ops/shape.h"
#include "wiring/wiring.h"

namespace sinter::onnx {
namespace {

constexpr int64_t max_rank_tried = 8;
constexpr int max_trials = 600;  // of one node: operands of unknown rank multiply

// x with the rank that it must have when it runs.
ValueId with_rank(GraphBuilder& b, ValueId x, int64_t rank) {
  const auto as_it_says = [&](ValueId v, ValueId shape) {
    return b.op("Reshape", ReshapeAttrs{.allow_zero = true}, {v, shape});
  };
  return as_it_says(x, as_it_says(wiring::shape_of(b, x), b.integers({rank})));
}

ValueId has_rank(GraphBuilder& b, ValueId x, int64_t rank) {
  const ValueId length = wiring::shape_of(b, wiring::shape_of(b, x));
  return b.op("Equal", {wiring::scalar_of(b, length), b.constant(Tensor::scalar_i64(rank))});
}

bool has_bodies(const Node& node) {
  return std::any_of(node.attributes.begin(), node.attributes.end(),
                     [](const auto& attribute) { return !attribute->graphs.empty(); });
}

struct Candidate {
  int64_t rank;
  sinter::Graph graph;
};

}  // namespace

Ids Importer::entry_results(Scope& scope, const Entry& entry, const Node& node, int64_t opset, Ids inputs) {
  GraphBuilder& b = scope.building.b;
  const size_t nodes = b.graph.nodes.size(), values = b.graph.values.size();
  try {
    NodeContext context(b, node, opset, inputs, *this);
    entry.import(context);
    return context.results();
  } catch (const RankNotKnown& missing) {
    if (has_bodies(node)) throw;
    const auto unranked = [&](ValueId v) { return v != no_id && b.type(v).is_tensor() && !b.type(v).has_shape(); };
    auto operand = std::find(inputs.begin(), inputs.end(), missing.value);
    if (operand == inputs.end()) operand = std::find_if(inputs.begin(), inputs.end(), unranked);
    if (operand == inputs.end() || !unranked(*operand)) throw;
    // What the entry made before it stopped.
    b.graph.nodes.erase(b.graph.nodes.begin() + static_cast<int64_t>(nodes), b.graph.nodes.end());
    b.graph.values.erase(b.graph.values.begin() + static_cast<int64_t>(values), b.graph.values.end());
    Ids results = results_by_rank(scope, entry, node, opset, inputs, static_cast<size_t>(operand - inputs.begin()));
    if (results.empty()) throw;
    return results;
  }
}

// Nothing when the entry takes no rank.
Ids Importer::results_by_rank(Scope& scope, const Entry& entry, const Node& node, int64_t opset, const Ids& inputs,
                              size_t operand) {
  GraphBuilder& b = scope.building.b;
  std::vector<size_t> wanted;
  for (size_t o = 0; o < node.outputs.size(); ++o)
    if (!node.outputs[o].empty()) wanted.push_back(o);
  // All bodies take the operands without known contents, in one order.
  Ids captures;
  for (const ValueId v : inputs)
    if (v != no_id && !b.graph[v].has_contents() && std::find(captures.begin(), captures.end(), v) == captures.end())
      captures.push_back(v);
  const auto opened = [&](sinter::Graph& graph, Ids& taken) {
    Building building{GraphBuilder(module_, graph), &scope.building, &taken};
    building.b.set_sources({source_of(scope, node, 0)});
    for (const ValueId v : captures) bring(building, v);
    return building;
  };

  std::vector<Candidate> candidates;
  for (int64_t rank = 0; rank <= max_rank_tried && rank_trials_ < max_trials; ++rank, ++rank_trials_) {
    options_.control.poll();
    Candidate candidate{rank, {}};
    Ids taken;
    Building building = opened(candidate.graph, taken);
    Scope inner{building, &scope, scope.opsets, scope.call, scope.prefix, scope.functions, scope.depth + 1};
    const Within<Scope*> within(scope_, &inner);
    try {
      Ids own;
      for (const ValueId v : inputs) own.push_back(v == no_id ? no_id : bring(building, v));
      own[operand] = with_rank(building.b, own[operand], rank);
      const Ids results = entry_results(inner, entry, node, opset, std::move(own));
      for (const size_t o : wanted) candidate.graph.outputs.push_back(results.at(o));
      candidates.push_back(std::move(candidate));
    } catch (const Error& error) {
      // The entry does not take this rank.
      if (giving_up_ || error.code() == Code::cancelled || error.code() == Code::out_of_memory) throw;
    }
  }
  if (candidates.empty() || rank_trials_ >= max_trials) return {};
  if (candidates.size() == 1) {
    Ids own = inputs;
    own[operand] = with_rank(b, inputs[operand], candidates[0].rank);
    const int spent = rank_trials_;
    Ids results = entry_results(scope, entry, node, opset, std::move(own));
    rank_trials_ = spent;  // what is repeated costs nothing
    return results;
  }

  // What is left for the last rank is all others too: they fail where the operand is given its rank.
  const auto chosen = [&](GraphBuilder& at, const Ids& operands, ValueId x, Candidate& yes, sinter::Graph no) {
    Ids all = {has_rank(at, x, yes.rank)};
    all.insert(all.end(), operands.begin(), operands.end());
    std::vector<sinter::Graph> bodies;
    bodies.push_back(std::move(yes.graph));
    bodies.push_back(std::move(no));
    return at.add(op_named("If"), {}, std::move(all), wanted.size(), std::move(bodies));
  };
  const auto place = std::find(captures.begin(), captures.end(), inputs[operand]) - captures.begin();
  sinter::Graph rest = std::move(candidates.back().graph);
  for (size_t k = candidates.size() - 2; k >= 1; --k) {
    sinter::Graph level;
    Ids taken;
    Building building = opened(level, taken);
    level.outputs = chosen(building.b, level.inputs, level.inputs[static_cast<size_t>(place)], candidates[k], rest);
    rest = std::move(level);
  }
  const Ids made = chosen(b, captures, inputs[operand], candidates[0], std::move(rest));
  Ids results(node.outputs.size(), no_id);
  for (size_t k = 0; k < wanted.size(); ++k) results[wanted[k]] = made[k];
  return results;
}

}  // namespace sinter::onnx
