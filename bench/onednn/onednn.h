// A problem's contraction as oneDNN runs it: memory in the layouts that it asks for, none of them counted. Only what
// comes before a problem's first other stage is run, so oneDNN has less to do than Sinter where stages are fused.
//
// Part of the benchmark alone, and only where oneDNN is there (SINTER_DNNL).
#pragma once

#include <functional>
#include <optional>
#include <span>

#include "backend/problem.h"

namespace sinter::onednn {

// Runs once per call, on as many threads as OMP_NUM_THREADS says; nothing where oneDNN does not take it or the first
// stage is no contraction. bf16: operands and result are bf16.
std::optional<std::function<void()>> prepare(const Problem& problem, std::span<const int64_t> symbols, bool bf16);

}  // namespace sinter::onednn
