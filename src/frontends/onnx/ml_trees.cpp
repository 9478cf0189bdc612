// Tree ensembles: every form becomes the tables of the core operator.

#include <fmt/core.h>

#include <algorithm>
#include <array>
#include <map>
#include <set>

#include "base/checked.h"
#include "frontends/onnx/ml.h"
#include "ops/trees.h"

namespace sinter::onnx {
namespace {

constexpr int64_t max_targets = int64_t{1} << 24;

struct Tables {
  std::vector<std::array<int64_t, tree_node_numbers>> nodes;
  std::vector<double> splits, members;
  std::vector<int64_t> roots, leaves = {0}, targets;
  std::vector<double> weights;
};

Tensor doubles(const std::vector<double>& values) {
  return Tensor::of<double>(DType::f64, {static_cast<int64_t>(values.size())}, values);
}

ValueId ensemble(NodeContext& c, ValueId x, const Tables& t, const TreeEnsembleAttrs& a) {
  Tensor nodes(DType::i64, {static_cast<int64_t>(t.nodes.size()), tree_node_numbers});
  int64_t at = 0;
  for (const auto& node : t.nodes)
    for (const int64_t v : node) nodes.set_integer(at++, v);
  GraphBuilder& b = c.b;
  return b.op("TreeEnsemble", a,
              {x, b.constant(std::move(nodes)), b.constant(doubles(t.splits)), b.constant(doubles(t.members)),
               b.integers(t.roots), b.integers(t.leaves), b.integers(t.targets), b.constant(doubles(t.weights))});
}

void same_length(NodeContext& c, const char* name, size_t length, size_t expected) {
  if (length != expected) c.fail(fmt::format("'{}' has {} elements, {} are needed", name, length, expected));
}

TreeMode mode_of(NodeContext& c, std::string_view name) {
  constexpr std::string_view names[] = {"BRANCH_LEQ", "BRANCH_LT", "BRANCH_GTE",
                                        "BRANCH_GT",  "BRANCH_EQ", "BRANCH_NEQ"};
  for (size_t i = 0; i < std::size(names); ++i)
    if (name == names[i]) return static_cast<TreeMode>(i);
  c.fail(fmt::format("nodes_modes has '{}', which is no mode", name.substr(0, 40)));
}

std::vector<double> reals_or_tensor(NodeContext& c, const std::string& name) {
  if (const Tensor* t = c.tensor(name + "_as_tensor")) return t->to_reals();
  return c.reals(name);
}

// Opsets 1 and 3: nodes by tree and number, contributions of leaves in lists of their own that start with `prefix`.
Tables read_old(NodeContext& c, const std::string& prefix) {
  const std::vector<int64_t> trees = c.integers("nodes_treeids"), ids = c.integers("nodes_nodeids"),
                             features = c.integers("nodes_featureids"), on_true = c.integers("nodes_truenodeids"),
                             on_false = c.integers("nodes_falsenodeids"),
                             missing = c.integers("nodes_missing_value_tracks_true");
  const std::vector<std::string> modes = c.strings("nodes_modes");
  const std::vector<double> values = reals_or_tensor(c, "nodes_values");
  const size_t n = trees.size();
  same_length(c, "nodes_nodeids", ids.size(), n);
  same_length(c, "nodes_featureids", features.size(), n);
  same_length(c, "nodes_truenodeids", on_true.size(), n);
  same_length(c, "nodes_falsenodeids", on_false.size(), n);
  same_length(c, "nodes_modes", modes.size(), n);
  same_length(c, "nodes_values", values.size(), n);
  if (!missing.empty()) same_length(c, "nodes_missing_value_tracks_true", missing.size(), n);

  const std::vector<int64_t> to_tree = c.integers(prefix + "_treeids"), to_node = c.integers(prefix + "_nodeids"),
                             target = c.integers(prefix + "_ids");
  const std::vector<double> weight = reals_or_tensor(c, prefix + "_weights");
  same_length(c, "the leaves' node ids", to_node.size(), to_tree.size());
  same_length(c, "the leaves' target ids", target.size(), to_tree.size());
  same_length(c, "the leaves' weights", weight.size(), to_tree.size());
  std::map<std::pair<int64_t, int64_t>, std::vector<size_t>> given;
  for (size_t k = 0; k < to_tree.size(); ++k) given[{to_tree[k], to_node[k]}].push_back(k);

  // Where each node of the model went: a row of the table, or -1 - leaf.
  Tables t;
  std::map<std::pair<int64_t, int64_t>, int64_t> places;
  int64_t branches = 0;
  for (size_t i = 0; i < n; ++i) {
    const std::pair<int64_t, int64_t> key{trees[i], ids[i]};
    int64_t place = branches;
    if (modes[i] == "LEAF") {
      place = -static_cast<int64_t>(t.leaves.size());
      if (const auto found = given.find(key); found != given.end())
        for (const size_t k : found->second) {
          t.targets.push_back(target[k]);
          t.weights.push_back(weight[k]);
        }
      t.leaves.push_back(static_cast<int64_t>(t.targets.size()));
    } else {
      ++branches;
    }
    if (!places.emplace(key, place).second) c.fail(fmt::format("node {} of tree {} is given twice", ids[i], trees[i]));
  }
  std::set<int64_t> rooted;
  for (size_t i = 0; i < n; ++i) {
    if (rooted.insert(trees[i]).second) t.roots.push_back(places.at({trees[i], ids[i]}));
    if (modes[i] == "LEAF") continue;
    const auto child = [&](int64_t id) {
      const auto found = places.find({trees[i], id});
      if (found == places.end())
        c.fail(fmt::format("node {} of tree {} leads to {}, which is not there", ids[i], trees[i], id));
      return found->second;
    };
    const int64_t mode =
        static_cast<int64_t>(mode_of(c, modes[i])) + (!missing.empty() && missing[i] != 0 ? tree_nan_is_true : 0);
    t.nodes.push_back({features[i], mode, child(on_true[i]), child(on_false[i]), 0, 0});
    t.splits.push_back(values[i]);
  }
  return t;
}

void check_targets(NodeContext& c, const Tables& t, int64_t targets) {
  if (targets < 1 || targets > max_targets)
    c.fail(fmt::format("{} targets, 1 to {} are possible", targets, max_targets));
  for (const int64_t target : t.targets)
    if (target < 0 || target >= targets) c.fail(fmt::format("a leaf adds to target {} of {}", target, targets));
}

ValueId with_base(NodeContext& c, ValueId scores, const std::vector<double>& base, int64_t targets) {
  if (base.empty()) return scores;
  if (static_cast<int64_t>(base.size()) != targets && base.size() != 1)
    c.fail(fmt::format("{} base values for {} targets", base.size(), targets));
  return wiring::add(c.b, scores, numbers_like(c.b, scores, base, {1, static_cast<int64_t>(base.size())}));
}

DType score_dtype(NodeContext& c, ValueId x) { return c.b.dtype(x) == DType::f64 ? DType::f64 : DType::f32; }

}  // namespace

void import_tree_regressor(NodeContext& c) {
  const std::string aggregate = c.string("aggregate_function", "SUM");
  TreeEnsembleAttrs a{.aggregate = TreeAggregate::sum, .targets = c.integer("n_targets", 1)};
  if (aggregate == "AVERAGE")
    a.aggregate = TreeAggregate::average;
  else if (aggregate == "MIN")
    a.aggregate = TreeAggregate::min;
  else if (aggregate == "MAX")
    a.aggregate = TreeAggregate::max;
  else if (aggregate != "SUM")
    c.fail(fmt::format("aggregate_function '{}' is none of SUM, AVERAGE, MIN, MAX", aggregate));
  const Tables t = read_old(c, "target");
  check_targets(c, t, a.targets);
  const ValueId x = float_rows(c);
  a.dtype = score_dtype(c, x);
  const ValueId scores = with_base(c, ensemble(c, x, t, a), reals_or_tensor(c, "base_values"), a.targets);
  c.out(0, wiring::cast(c.b, transformed(c.b, scores, post_transform(c)), DType::f32));
}

void import_tree_classifier(NodeContext& c) {
  const Labels labels = labels_of(c, "classlabels_int64s", "classlabels_strings");
  if (labels.count == 0) c.fail("there are no class labels");
  Tables t = read_old(c, "class");
  check_targets(c, t, std::max<int64_t>(labels.count, 2));
  const PostTransform how = post_transform(c);
  const std::vector<double> base = reals_or_tensor(c, "base_values");
  const ValueId x = float_rows(c);
  GraphBuilder& b = c.b;
  TreeEnsembleAttrs a{.aggregate = TreeAggregate::sum, .targets = labels.count, .dtype = score_dtype(c, x)};
  const bool one_score = labels.count <= 2 &&
                         std::all_of(t.targets.begin(), t.targets.end(), [&](int64_t k) { return k == t.targets[0]; });
  if (!one_score) {
    check_targets(c, t, labels.count);
    const ValueId scores = transformed(b, with_base(c, ensemble(c, x, t, a), base, labels.count), how);
    c.out(0, label_at(b, labels, highest_column(b, scores)));
    c.out(1, wiring::cast(b, scores, DType::f32));
    return;
  }
  // Two classes told apart by one score: a probability when no weight is negative, else the distance from 0.
  const size_t of = t.targets.empty() ? 0 : static_cast<size_t>(t.targets[0]);
  std::fill(t.targets.begin(), t.targets.end(), int64_t{0});
  a.targets = 1;
  std::vector<double> own;
  if (!base.empty()) own.push_back(base[std::min(of, base.size() - 1)]);
  const ValueId p = with_base(c, ensemble(c, x, t, a), own, 1);
  const bool probability = std::all_of(t.weights.begin(), t.weights.end(), [](double w) { return w >= 0; });
  const bool from_one = (probability && how == PostTransform::none) || how == PostTransform::probit;
  const ValueId other = from_one ? wiring::sub(b, wiring::like(b, p, 1), p) : b.op("Neg", {p});
  const ValueId scores = transformed(b, wiring::concat(b, {other, p}, 1), how);
  c.out(0, binary_label(b, labels, highest_column(b, scores)));
  c.out(1, wiring::cast(b, scores, DType::f32));
}

void import_tree_ensemble(NodeContext& c) {
  for (const char* name : {"nodes_modes", "nodes_splits", "leaf_weights"})
    if (!c.tensor(name)) c.fail(fmt::format("attribute '{}' is missing", name));
  const std::vector<int64_t> modes = c.tensor("nodes_modes")->to_integers(), features = c.integers("nodes_featureids"),
                             on_true = c.integers("nodes_truenodeids"), on_false = c.integers("nodes_falsenodeids"),
                             true_leafs = c.integers("nodes_trueleafs"), false_leafs = c.integers("nodes_falseleafs"),
                             missing = c.integers("nodes_missing_value_tracks_true");
  Tables t;
  t.splits = c.tensor("nodes_splits")->to_reals();
  t.roots = c.integers("tree_roots");
  t.targets = c.integers("leaf_targetids");
  t.weights = c.tensor("leaf_weights")->to_reals();
  const size_t n = modes.size();
  same_length(c, "nodes_splits", t.splits.size(), n);
  same_length(c, "nodes_featureids", features.size(), n);
  same_length(c, "nodes_truenodeids", on_true.size(), n);
  same_length(c, "nodes_falsenodeids", on_false.size(), n);
  same_length(c, "nodes_trueleafs", true_leafs.size(), n);
  same_length(c, "nodes_falseleafs", false_leafs.size(), n);
  same_length(c, "leaf_weights", t.weights.size(), t.targets.size());
  if (!missing.empty()) same_length(c, "nodes_missing_value_tracks_true", missing.size(), n);
  for (size_t k = 1; k <= t.targets.size(); ++k) t.leaves.push_back(static_cast<int64_t>(k));
  const auto leaf_count = static_cast<int64_t>(t.targets.size()), node_count = static_cast<int64_t>(n);

  // Members of all sets in one list, each set ended by a NaN, in the order of the nodes.
  std::vector<double> sets;
  if (const Tensor* given = c.tensor("membership_values")) sets = given->to_reals();
  size_t set_at = 0;
  for (size_t i = 0; i < n; ++i) {
    if (modes[i] < 0 || modes[i] > 6) c.fail(fmt::format("nodes_modes has {}, 0 to 6 are modes", modes[i]));
    const auto first = static_cast<int64_t>(t.members.size());
    if (modes[i] == static_cast<int64_t>(TreeMode::member)) {
      if (set_at >= sets.size()) c.fail("membership_values has fewer sets than there are nodes that test one");
      for (; set_at < sets.size() && sets[set_at] == sets[set_at]; ++set_at) t.members.push_back(sets[set_at]);
      ++set_at;
    }
    const auto child = [&](int64_t id, bool leaf) {
      if (id < 0 || id >= (leaf ? leaf_count : node_count))
        c.fail(fmt::format("node {} leads to {} {}, which is not there", i, leaf ? "leaf" : "node", id));
      return leaf ? -1 - id : id;
    };
    t.nodes.push_back({features[i], modes[i] + (!missing.empty() && missing[i] != 0 ? tree_nan_is_true : 0),
                       child(on_true[i], true_leafs[i] != 0), child(on_false[i], false_leafs[i] != 0), first,
                       static_cast<int64_t>(t.members.size())});
  }
  for (const int64_t root : t.roots)
    if (root < 0 || root >= node_count) c.fail(fmt::format("tree_roots has {}, there are {} nodes", root, n));

  const int64_t aggregate = c.integer("aggregate_function", 1), how = c.integer("post_transform", 0);
  constexpr TreeAggregate aggregates[] = {TreeAggregate::average, TreeAggregate::sum, TreeAggregate::min,
                                          TreeAggregate::max};
  if (aggregate < 0 || aggregate > 3) c.fail(fmt::format("aggregate_function {}, 0 to 3 are known", aggregate));
  if (how < 0 || how > 4) c.fail(fmt::format("post_transform {}, 0 to 4 are known", how));
  int64_t most = 0;
  for (const int64_t target : t.targets) most = std::max(most, target);
  const TreeEnsembleAttrs a{.aggregate = aggregates[aggregate],
                            .targets = c.integer("n_targets", std::min(most, max_targets) + 1),
                            .dtype = c.b.dtype(c.in(0))};
  check_targets(c, t, a.targets);
  c.out(0, transformed(c.b, ensemble(c, c.in(0), t, a), static_cast<PostTransform>(how)));
}

}  // namespace sinter::onnx
