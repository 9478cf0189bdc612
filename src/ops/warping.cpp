// DynamicTimeWarping(cost[m, n]) → i32[2, k]: the points of the cheapest path from (0, 0) to (m - 1, n - 1) that moves
// by one in either direction or both, k as found by running.

#include <fmt/core.h>

#include <algorithm>
#include <limits>

#include "base/checked.h"
#include "ops/families.h"
#include "ops/op.h"

namespace sinter {
namespace {

void infer_warping(InferContext& c) {
  c.set(0, DType::i32);
  if (!is_float(c.dtype(0))) c.fail(fmt::format("costs of {}, they must be floats", dtype_name(c.dtype(0))));
  const Shape& cost = c.shape(0);
  if (cost.size() != 2) c.fail(fmt::format("the operand has rank {}, it must be 2", cost.size()));
  c.require_at_least(cost[0], 1, "rows of costs");
  c.require_at_least(cost[1], 1, "columns of costs");
  c.set(0, DType::i32, {Dim(2), c.found_by_running(0, 1, 1, cost[0] + cost[1])});
}

enum class Move : uint8_t { both, down, right };

void eval_warping(EvalContext& c) {
  const Tensor& cost = c.in(0);
  const int64_t rows = cost.dims()[0], columns = cost.dims()[1];
  if (rows < 1 || columns < 1) c.fail("there are no costs");
  // The cheapest way to each point of a row, with a column before the first; how each point was reached.
  const double far = std::numeric_limits<double>::infinity();
  std::vector<double> above(static_cast<size_t>(columns) + 1, far), here(above.size());
  std::vector<Move> moves(static_cast<size_t>(checked_mul(rows, columns)));
  above[0] = 0;
  for (int64_t i = 0; i < rows; ++i) {
    here[0] = far;
    for (size_t j = 0; j < static_cast<size_t>(columns); ++j) {
      const double both = above[j], down = above[j + 1], right = here[j];
      // Of equal ways the one to the right is taken.
      const Move move = both < down && both < right   ? Move::both
                        : down < both && down < right ? Move::down
                                                      : Move::right;
      const double way = move == Move::both ? both : move == Move::down ? down : right;
      here[j + 1] = way + cost.get_real(i * columns + static_cast<int64_t>(j));
      moves[static_cast<size_t>(i * columns) + j] = move;
    }
    above.swap(here);
  }
  std::vector<std::pair<int64_t, int64_t>> path;
  for (int64_t i = rows - 1, j = columns - 1; i >= 0 && j >= 0;) {
    path.push_back({i, j});
    // Along the edges there is one way only.
    const Move move = i == 0 ? Move::right : j == 0 ? Move::down : moves[static_cast<size_t>(i * columns + j)];
    if (move != Move::right) --i;
    if (move != Move::down) --j;
  }
  std::reverse(path.begin(), path.end());
  const auto length = static_cast<int64_t>(path.size());
  Tensor& out = c.out(0, DType::i32, {2, length});
  for (int64_t k = 0; k < length; ++k) {
    out.set_integer(k, path[static_cast<size_t>(k)].first);
    out.set_integer(length + k, path[static_cast<size_t>(k)].second);
  }
}

constexpr Op table[] = {
    {.name = "DynamicTimeWarping", .infer = infer_warping, .eval = eval_warping},
};

}  // namespace

std::span<const Op> warping_ops() { return table; }

}  // namespace sinter
