// What the entries of domain ai.onnx.ml share: labels, post transforms, score columns.
//
// Scores are computed in f32, or in f64 where the operand is f64, and handed out as f32, as the domain defines.
#pragma once

#include "frontends/onnx/entries.h"

namespace sinter::onnx {

enum class PostTransform : uint8_t { none, softmax, logistic, softmax_zero, probit };  // as TreeEnsemble numbers them
PostTransform post_transform(NodeContext& c);
ValueId transformed(GraphBuilder& b, ValueId scores, PostTransform how);  // over axis 1

// The class labels of a classifier as a constant vector; no_id when there are none.
struct Labels {
  ValueId values = no_id;
  int64_t count = 0;
};
Labels labels_of(NodeContext& c, std::string_view integers, std::string_view strings);
// The label of each row of highest[rows] (i64); the number itself where there are no labels.
ValueId label_at(GraphBuilder& b, const Labels& labels, ValueId highest);
// Labels of a single score per row: the second label, or the only one, where `positive`; else the first, 0 or "".
ValueId binary_label(GraphBuilder& b, const Labels& labels, ValueId positive);
ValueId highest_column(GraphBuilder& b, ValueId scores);

// Operand 0 as rows of floats: f64 stays, all else becomes f32, one axis becomes one row.
ValueId float_rows(NodeContext& c);
// A constant of x's dtype with these extents.
ValueId numbers_like(GraphBuilder& b, ValueId x, const std::vector<double>& values, Dims dims);

void import_tree_ensemble(NodeContext& c);
void import_tree_classifier(NodeContext& c);
void import_tree_regressor(NodeContext& c);
void import_linear_classifier(NodeContext& c);
void import_linear_regressor(NodeContext& c);
void import_svm_classifier(NodeContext& c);
void import_svm_regressor(NodeContext& c);
void import_zip_map(NodeContext& c);
void import_dict_vectorizer(NodeContext& c);
void import_cast_map(NodeContext& c);

}  // namespace sinter::onnx
