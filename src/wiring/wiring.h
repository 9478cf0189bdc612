// Composites written in core operators: what frontends share.
//
// Every function appends to the builder's graph and gives the result. Half-precision composites compute in f32 through
// explicit casts. Axes may be negative. Errors are thrown as Error.
#pragma once

#include <optional>
#include <string_view>

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
// A value of this shape (an i64[rank] operand) filled with a scalar.
ValueId fill(GraphBuilder& b, ValueId scalar, ValueId shape);
// Reduce<kind> over axes ("Sum", "Mean", "Max", "Min", "Prod").
ValueId reduce(GraphBuilder& b, std::string_view kind, ValueId x, std::vector<int64_t> axes, bool keep_dims = true);
// x in f32 while `body` runs, then back in x's dtype when that is f16, bf16 or narrower; f32 and f64 stay as they are.
ValueId widened(GraphBuilder& b, ValueId x);
ValueId matmul(GraphBuilder& b, ValueId x, ValueId y, bool transpose_b = false);

// ---- activations and normalisations ----
ValueId gelu(GraphBuilder& b, ValueId x, bool tanh_form);
ValueId softmax(GraphBuilder& b, ValueId x, int64_t axis);
ValueId log_softmax(GraphBuilder& b, ValueId x, int64_t axis);
ValueId log_sum_exp(GraphBuilder& b, ValueId x, ValueId axes, bool keep_dims, bool keep_without_axes);
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
