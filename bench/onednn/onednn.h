// What a problem is made of as oneDNN runs it: all of its contractions one after the other, memory in the layouts that
// it asks for, none of them counted, and no other stages, so oneDNN has less to do than Sinter where stages are fused.
// Of problems without contractions softmax and norms, chains of pointwise functions, pooling, reductions, resampling,
// LRN, LSTM, concatenation, slices and changes of layout, on memory as it lies in the plan.
//
// Part of the benchmark alone, and only where oneDNN is there (SINTER_DNNL).
#pragma once

#include <functional>
#include <optional>
#include <span>

#include "backend/problem.h"

namespace sinter::onednn {

// Runs once per call, on as many threads as OMP_NUM_THREADS says; nothing where oneDNN has no such primitive or does
// not take its extents or types. bf16: operands and results of contractions of floats are bf16.
std::optional<std::function<void()>> prepare(const Problem& problem, std::span<const int64_t> symbols, bool bf16);

}  // namespace sinter::onednn
