// Composites written in core operators: what frontends share.
//
// Every function appends to the builder's graph and gives the result. Half-precision composites compute in f32 through
// explicit casts. Axes may be negative. Errors are thrown as Error.
#pragma once

#include <initializer_list>
#include <optional>
#include <string_view>
#include <vector>

#include "ir/builder.h"

namespace sinter::wiring {

// ---- small pieces ----
ValueId cast(GraphBuilder& b, ValueId x, DType to);  // x itself when it has that dtype
ValueId add(GraphBuilder& b, ValueId x, ValueId y);
ValueId sub(GraphBuilder& b, ValueId x, ValueId y);
ValueId mul(GraphBuilder& b, ValueId x, ValueId y);
ValueId div(GraphBuilder& b, ValueId x, ValueId y);
// A scalar constant of x's dtype.
ValueId like(GraphBuilder& b, ValueId x, double value);
ValueId shape_of(GraphBuilder& b, ValueId x);                         // i64[rank]
ValueId reshape(GraphBuilder& b, ValueId x, std::vector<Dim> shape);  // Dims; -1 once, 0 copies
ValueId transpose(GraphBuilder& b, ValueId x, std::vector<int64_t> perm);
ValueId unsqueeze(GraphBuilder& b, ValueId x, std::vector<int64_t> axes);
ValueId squeeze(GraphBuilder& b, ValueId x, std::vector<int64_t> axes);
ValueId concat(GraphBuilder& b, Ids values, int64_t axis);
ValueId slice(GraphBuilder& b, ValueId x, int64_t axis, const Dim& start, const Dim& end);
ValueId gather(GraphBuilder& b, ValueId x, ValueId indices, int64_t axis);
ValueId where(GraphBuilder& b, ValueId condition, ValueId x, ValueId y);
// A pointwise operator with attributes that are numbers or flags, by name.
struct Setting {
  std::string_view name;
  double value;
};
ValueId pointwise(GraphBuilder& b, std::string_view op, std::initializer_list<Setting> settings, ValueId x);
ValueId pointwise(GraphBuilder& b, std::string_view op, std::initializer_list<Setting> settings, ValueId x, ValueId y);
// Constant contents that no refit can change, or null.
const Tensor* fixed(GraphBuilder& b, ValueId v);
// In [0, rank); throws Error(Code::model_invalid) otherwise.
int64_t axis_of(int64_t axis, size_t rank);
std::vector<int64_t> axis_range(size_t first, size_t last);  // first, ..., last - 1
// i64[] holding extent `axis` of x.
ValueId extent(GraphBuilder& b, ValueId x, int64_t axis);
// x of one element as a scalar.
ValueId scalar_of(GraphBuilder& b, ValueId x);
// 0, 1, ..., count - 1 as i64; count is an i64 scalar.
ValueId iota(GraphBuilder& b, ValueId count);
// bool[..., rows, columns], true where first <= column - row <= last; bounds as ops/generation.h has them, no_id where
// there is none.
ValueId band(GraphBuilder& b, const Dim& rows, const Dim& columns, ValueId first, ValueId last);
// x viewed with its extents along `axis` of a result of rank `rank` and ones elsewhere; x has rank 1.
ValueId along(GraphBuilder& b, ValueId x, int64_t axis, size_t rank);
// The nodes of a closed graph, appended with its parameters replaced; gives its results.
Ids inlined(GraphBuilder& b, const Graph& body, const Ids& arguments);
// A value of this shape (an i64[rank] operand) filled with a scalar.
ValueId fill(GraphBuilder& b, ValueId scalar, ValueId shape);
// Reduce<kind> over axes ("Sum", "Mean", "Max", "Min", "Prod").
ValueId reduce(GraphBuilder& b, std::string_view kind, ValueId x, std::vector<int64_t> axes, bool keep_dims = true);
// x in f32 when it is f16, bf16 or narrower; everything else stays as it is. Callers cast results back.
ValueId widened(GraphBuilder& b, ValueId x);
ValueId matmul(GraphBuilder& b, ValueId x, ValueId y, bool transpose_b = false);
// (x - x_zero) * (y - y_zero) of bytes in i32, exactly; zero points may be absent, have one element or broadcast.
ValueId matmul_integer(GraphBuilder& b, ValueId x, ValueId x_zero, ValueId y, ValueId y_zero);

// ---- activations and normalisations ----
ValueId gelu(GraphBuilder& b, ValueId x, bool tanh_form);
ValueId softmax(GraphBuilder& b, ValueId x, int64_t axis);
ValueId softmax(GraphBuilder& b, ValueId x, std::vector<int64_t> axes);  // over all of them together
ValueId log_softmax(GraphBuilder& b, ValueId x, int64_t axis);
ValueId log_softmax(GraphBuilder& b, ValueId x, std::vector<int64_t> axes);
ValueId log_sum_exp(GraphBuilder& b, ValueId x, ValueId axes, bool keep_dims, bool keep_without_axes);
// Mean and variance (the biased one) over axes, kept as extents of 1.
struct Moments {
  ValueId mean, variance, centered;
};
Moments moments(GraphBuilder& b, ValueId x, std::vector<int64_t> axes);
// Statistics over axes [axis, rank); scale and bias broadcast against x. mean and inverse deviation where wanted.
struct Normalized {
  ValueId y, mean = no_id, inverse = no_id;
};
Normalized layer_norm(GraphBuilder& b, ValueId x, ValueId scale, ValueId bias, int64_t axis, double epsilon);
ValueId rms_norm(GraphBuilder& b, ValueId x, ValueId scale, int64_t axis, double epsilon);
ValueId instance_norm(GraphBuilder& b, ValueId x, ValueId scale, ValueId bias, double epsilon);
// scale and bias per channel [C] (old opsets: per group).
ValueId group_norm(GraphBuilder& b, ValueId x, ValueId scale, ValueId bias, int64_t groups, double epsilon,
                   bool per_group_scale);
ValueId batch_norm(GraphBuilder& b, ValueId x, ValueId scale, ValueId bias, ValueId mean, ValueId variance,
                   double epsilon);

}  // namespace sinter::wiring
