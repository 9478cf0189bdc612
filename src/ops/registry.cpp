// The table of core operators: the rows of every family, sorted by name.

#include <fmt/core.h>

#include <algorithm>
#include <vector>

#include "ops/families.h"
#include "ops/op.h"

namespace sinter {
namespace {

struct Row {
  const Op* op;
  Scalar scalar;
};

const std::vector<Row>& rows() {
  static const std::vector<Row> table = [] {
    std::vector<Row> all;
    for (const std::span<const Op> family :
         {pointwise_ops(), cast_ops(),      shape_ops(),       movement_ops(), indexing_ops(),  generation_ops(),
          selection_ops(), reduction_ops(), contraction_ops(), pooling_ops(),  recurrent_ops(), resize_ops(),
          signal_ops(),    control_ops(),   sequence_ops(),    string_ops(),   tokenizer_ops(), warping_ops(),
          refusal_ops(),   tree_ops(),      label_ops(),       map_ops(),      custom_ops()})
      for (const Op& op : family) {
        Row row{&op, {}};
        if (op.pointwise) row.scalar = parse_scalar(op.pointwise, op.fields ? op.fields() : nullptr);
        all.push_back(std::move(row));
      }
    std::sort(all.begin(), all.end(),
              [](const Row& a, const Row& b) { return std::string_view(a.op->name) < b.op->name; });
    return all;
  }();
  return table;
}

const Row* find_row(std::string_view name) {
  const auto& table = rows();
  const auto at = std::lower_bound(table.begin(), table.end(), name,
                                   [](const Row& row, std::string_view n) { return row.op->name < n; });
  return at != table.end() && at->op->name == name ? &*at : nullptr;
}

}  // namespace

std::span<const Op* const> all_ops() {
  static const std::vector<const Op*> list = [] {
    std::vector<const Op*> out;
    for (const Row& row : rows()) out.push_back(row.op);
    return out;
  }();
  return list;
}

const Op* find_op(std::string_view name) {
  const Row* row = find_row(name);
  return row ? row->op : nullptr;
}

const Op& op_named(std::string_view name) {
  if (const Op* op = find_op(name)) return *op;
  throw Error(Code::internal, fmt::format("no core operator is named '{}'", name));
}

const Scalar& scalar_of(const Op& op) { return find_row(op.name)->scalar; }

}  // namespace sinter
