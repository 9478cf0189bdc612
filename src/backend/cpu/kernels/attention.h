// What an attention is: stages "views, MatMul(q, k), pointwise and row stages, MatMul(weights, v), views" of a
// problem, with every operand a strided view and the stages between the products a program over rows of scores.
//
// Rows of scores are computed, finished and multiplied while they are in cache and are never stored; nor are masks that
// a Band makes (ops/generation.h), and keys that one of them hides from all rows of a block are left out. Factors may
// be widened from bf16 on their way and the result may be rounded to it: rows that multiply in bf16 take both.
#pragma once

#include <optional>
#include <vector>

#include "backend/kernel.h"

namespace sinter::cpu {

struct AttentionForm {
  size_t first = 0, second = 0;             // stages: the products
  uint16_t q = 0, k = 0, v = 0;             // values
  uint16_t scores = 0, weights = 0, y = 0;  // of the first product, what the second reads, of the second
  bool transpose_k = false, transpose_v = false;
  std::vector<size_t> between;  // stages from scores to weights
  std::vector<size_t> behind;   // views of y, in order: transposes, and axes joined and cut
  bool rounds = false;          // the last stage rounds the result to bf16
  std::vector<size_t> bands;    // stages that make masks
  // A softmax of Where(band, scores, fill): keys outside of the band weigh nothing where fill is far below the largest
  // score of the row.
  struct Hidden {
    size_t band = 0;     // number in `bands`
    uint16_t fill = 0;   // value
    size_t largest = 0;  // stage that finds the largest score
  };
  std::optional<Hidden> hidden;
};

// Throws nothing; the reason says what the problem is instead.
Answer find_attention(const Problem& problem, AttentionForm& form);

// The stages between the products as a problem of their own. Its operand 0 is the scores; `sources`: values of the
// whole problem behind its operands. Rows have the extents of `weights`. Where keys may be hidden, the largest scores
// are the last result.
Problem problem_between(const Problem& problem, const AttentionForm& form, std::vector<uint16_t>& sources);

// The same for rows that are divided by their sums behind the second product: `sums` is then result 1, what is summed
// result 0. `narrow`: result 0 is rounded to bf16.
Problem problem_between(const Problem& problem, const AttentionForm& form, bool narrow, bool& sums,
                        std::vector<uint16_t>& sources);

extern const Kernel attention_rows[4];

}  // namespace sinter::cpu
