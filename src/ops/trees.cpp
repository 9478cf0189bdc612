// TreeEnsemble.

#include "ops/trees.h"

#include <fmt/core.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "base/checked.h"
#include "ops/elements.h"
#include "ops/families.h"
#include "ops/op.h"

namespace sinter {

std::span<const char* const> enum_names(TreeAggregate) {
  static constexpr const char* names[] = {"sum", "average", "min", "max"};
  return names;
}

const Fields& fields_of(const TreeEnsembleAttrs*) {
  static const Fields f = describe<TreeEnsembleAttrs>({field<&TreeEnsembleAttrs::aggregate>("aggregate"),
                                                       field<&TreeEnsembleAttrs::targets>("targets"),
                                                       field<&TreeEnsembleAttrs::dtype>("dtype")});
  return f;
}

namespace {

enum Operand : size_t { x_, nodes_, splits_, members_, roots_, leaves_, targets_, weights_ };

void infer_trees(InferContext& c) {
  const auto& a = c.attrs<TreeEnsembleAttrs>();
  c.set(0, a.dtype);
  if (!is_float(a.dtype)) c.fail(fmt::format("results of {}", dtype_name(a.dtype)));
  if (a.targets < 1 || a.targets > max_elements) c.fail(fmt::format("{} targets", a.targets));
  if (!is_float(c.dtype(x_))) c.fail(fmt::format("operand 0 is {}, floats are needed", dtype_name(c.dtype(x_))));
  for (const size_t i : {nodes_, roots_, leaves_, targets_})
    if (c.dtype(i) != DType::i64) c.fail(fmt::format("operand {} is {}, it must be i64", i, dtype_name(c.dtype(i))));
  for (const size_t i : {splits_, members_, weights_})
    if (c.dtype(i) != DType::f64) c.fail(fmt::format("operand {} is {}, it must be f64", i, dtype_name(c.dtype(i))));
  for (size_t i = 0; i <= weights_; ++i) {
    const size_t rank = i == x_ || i == nodes_ ? 2 : 1;
    if (c.rank(i) != rank) c.fail(fmt::format("operand {} has rank {}, it must be {}", i, c.rank(i), rank));
  }
  c.require_equal(c.shape(nodes_)[1], tree_node_numbers, "numbers of a node");
  c.require_equal(c.shape(nodes_)[0], c.shape(splits_)[0], "number of nodes and splits");
  c.require_equal(c.shape(targets_)[0], c.shape(weights_)[0], "number of targets and weights");
  c.require_at_least(c.shape(leaves_)[0], 1, "ends of leaves");
  c.set(0, a.dtype, {c.shape(x_)[0], Dim(a.targets)});
}

struct Node {
  int64_t feature, mode, on_true, on_false, member, member_end;
};

// Tables, checked where a row walks: a run costs what its rows visit, however large the tables are.
class Forest {
 public:
  Forest(EvalContext& c, int64_t features, int64_t targets)
      : c_(c),
        nodes_table_(c.in(nodes_).as<int64_t>()),
        splits(c.in(splits_).as<double>()),
        members(c.in(members_).as<double>()),
        leaves(c.in(leaves_).as<int64_t>()),
        target(c.in(targets_).as<int64_t>()),
        weight(c.in(weights_).as<double>()),
        count(c.in(splits_).count()),
        features_(features),
        targets_count_(targets),
        member_count_(c.in(members_).count()),
        leaf_count_(c.in(leaves_).count() - 1),
        entries_(c.in(weights_).count()) {
    if (leaf_count_ < 0 || c.in(nodes_).count() != checked_mul(count, tree_node_numbers) ||
        c.in(targets_).count() != entries_)
      c.fail("the tables do not fit together");
  }

  void check_child(int64_t child) const {
    if (child >= count || child < -leaf_count_) c_.fail(fmt::format("a tree refers to node or leaf {}", child));
  }

  // Of a node that is there: what it refers to is there too.
  Node node(int64_t i) const {
    const int64_t* at = nodes_table_ + i * tree_node_numbers;
    const Node n{at[0], at[1], at[2], at[3], at[4], at[5]};
    if (n.feature < 0 || n.feature >= features_)
      c_.fail(fmt::format("node {} reads feature {} of {}", i, n.feature, features_));
    const int64_t mode = n.mode & ~tree_nan_is_true;
    if (mode < 0 || mode > static_cast<int64_t>(TreeMode::member))
      c_.fail(fmt::format("node {} has mode {}", i, n.mode));
    if (n.member < 0 || n.member > n.member_end || n.member_end > member_count_)
      c_.fail(fmt::format("node {} has members {} to {}", i, n.member, n.member_end));
    check_child(n.on_true);
    check_child(n.on_false);
    return n;
  }

  // Range of the entries of a leaf that is there.
  std::pair<int64_t, int64_t> leaf(int64_t i) const {
    const int64_t begin = leaves[i], end = leaves[i + 1];
    if (begin < 0 || end < begin || end > entries_) c_.fail(fmt::format("leaf {} ends at {}", i + 1, end));
    for (int64_t k = begin; k < end; ++k)
      if (target[k] < 0 || target[k] >= targets_count_)
        c_.fail(fmt::format("a leaf adds to target {} of {}", target[k], targets_count_));
    return {begin, end};
  }

  bool goes_true(const Node& n, int64_t i, double v) const {
    if ((n.mode & tree_nan_is_true) && std::isnan(v)) return true;
    switch (static_cast<TreeMode>(n.mode & ~tree_nan_is_true)) {
      case TreeMode::less_equal: return v <= splits[i];
      case TreeMode::less: return v < splits[i];
      case TreeMode::greater_equal: return v >= splits[i];
      case TreeMode::greater: return v > splits[i];
      case TreeMode::equal: return v == splits[i];
      case TreeMode::not_equal: return v != splits[i];
      case TreeMode::member: return std::find(members + n.member, members + n.member_end, v) != members + n.member_end;
    }
    return false;
  }

 private:
  EvalContext& c_;
  const int64_t* nodes_table_;

 public:
  const double *splits, *members;
  const int64_t *leaves, *target;
  const double* weight;
  const int64_t count;

 private:
  const int64_t features_, targets_count_, member_count_, leaf_count_, entries_;
};

// The highest finite value of a float type.
double highest(DType dtype) {
  switch (dtype) {
    case DType::f64: return std::numeric_limits<double>::max();
    case DType::f16: return 65504;
    case DType::bf16: return 0x1.FEp127;
    case DType::f32: return static_cast<double>(std::numeric_limits<float>::max());
    default: return std::numeric_limits<double>::infinity();
  }
}

void eval_trees(EvalContext& c) {
  const auto& a = c.attrs<TreeEnsembleAttrs>();
  const Tensor& x = c.in(x_);
  Tensor& out = c.out(0);
  const int64_t rows = x.dims()[0], features = x.dims()[1];
  const Forest forest(c, features, a.targets);
  const std::vector<int64_t> roots = c.in(roots_).to_integers();
  const double initial = a.aggregate == TreeAggregate::min   ? highest(a.dtype)
                         : a.aggregate == TreeAggregate::max ? -highest(a.dtype)
                                                             : 0;
  if (rows == 0) return;
  std::vector<double> result(static_cast<size_t>(a.targets));
  for (int64_t row = 0; row < rows; ++row) {
    std::fill(result.begin(), result.end(), initial);
    for (int64_t at : roots) {
      forest.check_child(at);
      for (int64_t steps = 0; at >= 0; ++steps) {
        if (steps > forest.count) c.fail("a tree runs in a circle");
        const Node n = forest.node(at);
        at = forest.goes_true(n, at, x.get_real(row * features + n.feature)) ? n.on_true : n.on_false;
      }
      const auto [begin, end] = forest.leaf(-1 - at);
      for (int64_t k = begin; k < end; ++k) {
        double& r = result[static_cast<size_t>(forest.target[k])];
        if (a.aggregate == TreeAggregate::min)
          r = std::min(r, forest.weight[k]);
        else if (a.aggregate == TreeAggregate::max)
          r = std::max(r, forest.weight[k]);
        else
          r += forest.weight[k];
      }
    }
    const double by = a.aggregate == TreeAggregate::average && !roots.empty() ? static_cast<double>(roots.size()) : 1;
    for (int64_t k = 0; k < a.targets; ++k) out.set_real(row * a.targets + k, result[static_cast<size_t>(k)] / by);
  }
}

// One tree of one node and two leaves, whatever the extents allow.
Tensor sample_trees(const Op&, const Attrs& attrs, size_t input, std::span<const Type> types, uint64_t seed) {
  Tensor t = sample_values(types[input], seed);
  if (input == x_ || input == splits_ || input == members_ || input == weights_) return t;
  const auto extent = [&](size_t i, size_t axis) {
    if (i >= types.size() || !types[i].has_shape() || axis >= types[i].shape->size()) return int64_t{0};
    return (*types[i].shape)[axis].as_constant().value_or(0);
  };
  const int64_t leaves = extent(leaves_, 0) - 1, features = std::max<int64_t>(extent(x_, 1), 1);
  const int64_t targets = std::max<int64_t>(attrs.as<TreeEnsembleAttrs>().targets, 1), count = t.count();
  for (int64_t i = 0; i < count; ++i) {
    const int64_t random = t.get_integer(i) & 31;
    int64_t v = 0;
    if (input == nodes_) {
      const int64_t node = i / tree_node_numbers, part = i % tree_node_numbers;
      // Children stand behind their node, so there are no circles.
      const int64_t below =
          node + 1 < extent(nodes_, 0) && random % 2 == 0 ? node + 1 : -1 - random % std::max<int64_t>(leaves, 1);
      v = part == 0   ? random % features
          : part == 1 ? random % 7
          : part < 4  ? below
          : part == 4 ? 0
                      : extent(members_, 0);
    } else if (input == roots_) {
      v = extent(nodes_, 0) > 0 ? random % extent(nodes_, 0) : -1;
    } else if (input == leaves_) {
      v = std::min(i, extent(weights_, 0));
    } else {
      v = random % targets;
    }
    t.set_integer(i, v);
  }
  return t;
}

constexpr Op table[] = {
    {.name = "TreeEnsemble",
     .fields = fields<TreeEnsembleAttrs>,
     .inputs = {8, 8},
     .infer = infer_trees,
     .eval = eval_trees,
     .sample = sample_trees},
};

}  // namespace

std::span<const Op> tree_ops() { return table; }

}  // namespace sinter
