// Attributes of operators that make values: Range(start, limit, delta), Band(shape, first, last), EyeLike(x),
// RandomUniform(shape), RandomNormal(shape), Multinomial(x). All operands of Range and the shapes are host operands.
//
// Band makes matrices of truth: row r and column c of [rows, columns] are true where first <= c - r <= last. Absent
// bounds bound nothing; bounds are i64, one number for each matrix: scalars, or [..., 1, 1] with axes in front that
// broadcast. It is what masks of causality and windows are, so that nobody has to store one.
//
// Random operators are not deterministic: a negative `seed` means one of the run's own, another gives the same numbers
// in every run of the node: those of ONNX's reference evaluator, which are NumPy's RandomState(seed).
#pragma once

#include "base/fields.h"
#include "tensor/dtype.h"

namespace sinter {

struct EyeLikeAttrs {
  DType dtype = DType::f32;
  int64_t k = 0;  // diagonal; positive ones lie above the main one
};

struct RandomUniformAttrs {
  DType dtype = DType::f32;
  double low = 0, high = 1;
  int64_t seed = -1;
};

struct RandomNormalAttrs {
  DType dtype = DType::f32;
  double mean = 0, scale = 1;
  int64_t seed = -1;
};

struct MultinomialAttrs {  // Multinomial(x f[batch, classes], unnormalized log probabilities) → [batch, samples]
  DType dtype = DType::i32;
  int64_t samples = 1;
  int64_t seed = -1;
};

struct Op;
// Gives other numbers each time it runs.
bool draws_anew(const Op& op, const Attrs& attrs);

const Fields& fields_of(const EyeLikeAttrs*);
const Fields& fields_of(const RandomUniformAttrs*);
const Fields& fields_of(const RandomNormalAttrs*);
const Fields& fields_of(const MultinomialAttrs*);

}  // namespace sinter
