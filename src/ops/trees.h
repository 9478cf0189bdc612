// Attributes of decision trees.
//
// TreeEnsemble(x f[rows, features], nodes i64[n, 6], splits f64[n], members f64[m], roots i64[t], leaves i64[l + 1],
// targets i64[w], weights f64[w]) → dtype[rows, targets]. A node is {feature, TreeMode, true child, false child, first
// member, end of members} and mode + tree_nan_is_true where NaN goes to the true side. A child or root c >= 0 is node
// c, c < 0 is leaf -1 - c. Leaf i adds weights[k] to targets[k] for k from leaves[i] to leaves[i + 1].
#pragma once

#include "base/fields.h"
#include "tensor/dtype.h"

namespace sinter {

enum class TreeMode : uint8_t { less_equal, less, greater_equal, greater, equal, not_equal, member };
constexpr int64_t tree_nan_is_true = 8;  // added to the mode
constexpr int64_t tree_node_numbers = 6;

enum class TreeAggregate : uint8_t { sum, average, min, max };
std::span<const char* const> enum_names(TreeAggregate);

struct TreeEnsembleAttrs {
  TreeAggregate aggregate = TreeAggregate::sum;  // min, max: highest and lowest finite value where no leaf contributes
  int64_t targets = 1;
  DType dtype = DType::f32;
};

const Fields& fields_of(const TreeEnsembleAttrs*);

}  // namespace sinter
