// Entries of domain ai.onnx.ml: its table, and the operators that prepare features.

#include "frontends/onnx/ml.h"

#include <fmt/format.h>

#include <algorithm>

#include "ops/indexing.h"
#include "ops/labels.h"

namespace sinter::onnx {
namespace {

using wiring::cast;
using wiring::like;

Tensor string_tensor(const std::vector<std::string>& values) {
  Tensor t(DType::string, {static_cast<int64_t>(values.size())});
  for (size_t i = 0; i < values.size(); ++i) t.strings()[i] = values[i];
  return t;
}

Tensor string_scalar(std::string value) {
  Tensor t(DType::string, {});
  t.strings()[0] = std::move(value);
  return t;
}

Tensor counted(int64_t n) {
  std::vector<int64_t> values;
  for (int64_t i = 0; i < n; ++i) values.push_back(i);
  return Tensor::vector_i64(values);
}

ValueId look_up(NodeContext& c, ValueId x, Tensor keys, Tensor values, Tensor otherwise, bool required = false) {
  if (keys.count() != values.count()) c.fail(fmt::format("{} keys for {} values", keys.count(), values.count()));
  return c.b.op(
      "Lookup", LookupAttrs{.required = required},
      {x, c.b.constant(std::move(keys)), c.b.constant(std::move(values)), c.b.constant(std::move(otherwise))});
}

// ---- Labels ----

// Integers to strings and back by one list; what is in neither gets the default.
void map_labels(NodeContext& c, Tensor integers, Tensor strings) {
  if (c.b.dtype(c.in(0)) == DType::string)
    c.out(0, look_up(c, c.in(0), std::move(strings), std::move(integers),
                     Tensor::scalar_i64(c.integer("default_int64", -1))));
  else
    c.out(0, look_up(c, c.in(0), std::move(integers), std::move(strings),
                     string_scalar(c.string("default_string", "_Unused"))));
}

void import_label_encoder_1(NodeContext& c) {
  Tensor names = string_tensor(c.strings("classes_strings"));
  Tensor numbers = counted(names.count());
  map_labels(c, std::move(numbers), std::move(names));
}

void import_category_mapper(NodeContext& c) {
  map_labels(c, Tensor::vector_i64(c.integers("cats_int64s")), string_tensor(c.strings("cats_strings")));
}

// The list that attributes `what`_tensor, `what`_strings, `what`_int64s or `what`_floats give; exactly one must.
Tensor label_list(NodeContext& c, const std::string& what) {
  std::vector<Tensor> found;
  if (const Tensor* t = c.tensor(what + "_tensor")) found.push_back(t->reshaped({t->count()}));
  if (const std::vector<std::string> v = c.strings(what + "_strings"); !v.empty()) found.push_back(string_tensor(v));
  if (const std::vector<int64_t> v = c.integers(what + "_int64s"); !v.empty()) found.push_back(Tensor::vector_i64(v));
  if (const std::vector<double> v = c.reals(what + "_floats"); !v.empty()) {
    Tensor t(DType::f32, {static_cast<int64_t>(v.size())});
    for (size_t i = 0; i < v.size(); ++i) t.set_real(static_cast<int64_t>(i), v[i]);
    found.push_back(std::move(t));
  }
  if (found.size() != 1) c.fail(fmt::format("{} are given in {} ways, there must be one", what, found.size()));
  return std::move(found[0]);
}

void import_label_encoder(NodeContext& c) {
  Tensor keys = label_list(c, "keys"), values = label_list(c, "values"), otherwise;
  if (const Tensor* t = c.tensor("default_tensor"))
    otherwise = *t;
  else if (values.dtype() == DType::string)
    otherwise = string_scalar(c.string("default_string", "_Unused"));
  else if (is_float(values.dtype()))
    otherwise = Tensor::scalar(values.dtype(), c.real("default_float", -0.0));
  else {
    otherwise = Tensor(values.dtype(), {});
    otherwise.set_integer(0, c.integer("default_int64", -1));
  }
  c.out(0, look_up(c, c.in(0), std::move(keys), std::move(values), std::move(otherwise)));
}

void import_one_hot(NodeContext& c) {
  const std::vector<std::string> names = c.strings("cats_strings");
  const std::vector<int64_t> numbers = c.integers("cats_int64s");
  if (names.empty() == numbers.empty()) c.fail("categories must be given either as integers or as strings");
  Tensor keys = names.empty() ? Tensor::vector_i64(numbers) : string_tensor(names);
  const int64_t n = keys.count();
  ValueId x = c.in(0);
  if (names.empty() && c.b.dtype(x) != DType::string) x = cast(c.b, x, DType::i64);
  const ValueId place = look_up(c, x, std::move(keys), counted(n), Tensor::scalar_i64(-1), c.integer("zeros", 1) == 0);
  const ValueId last = wiring::unsqueeze(c.b, place, {-1});
  c.out(0, cast(c.b, c.b.op("Equal", {last, c.b.constant(counted(n))}), DType::f32));
}

// ---- Features ----

void import_extractor(NodeContext& c) {
  ValueId x = c.in(0);
  if (rank_of(c, 0, 1) == 1) x = wiring::unsqueeze(c.b, x, {0});
  const ValueId indices = wiring::reshape(c.b, cast(c.b, c.in(1), DType::i64), {-1});
  c.out(0, wiring::gather(c.b, x, indices, -1));
}

void import_binarizer(NodeContext& c) {
  const DType dtype = c.b.dtype(c.in(0));
  // Integers are compared as numbers with a fraction, not with the threshold cut to one of them.
  const ValueId x = is_integer(dtype) ? cast(c.b, c.in(0), DType::f64) : c.in(0);
  c.out(0, cast(c.b, c.b.op("Less", {like(c.b, x, c.real("threshold", 0)), x}), dtype));
}

// A constant of one number, or one per feature along x's last axis.
ValueId per_feature(NodeContext& c, ValueId x, const std::vector<double>& values) {
  if (values.size() == 1) return like(c.b, x, values[0]);
  return numbers_like(c.b, x, values, {static_cast<int64_t>(values.size())});
}

// x as floats of at least f32; ONNX gives the results as f32.
ValueId as_floats(NodeContext& c) {
  const DType dtype = c.b.dtype(c.in(0));
  return dtype == DType::f64 ? c.in(0) : cast(c.b, c.in(0), DType::f32);
}

void import_scaler(NodeContext& c) {
  ValueId x = as_floats(c);
  const std::vector<double> offset = c.reals("offset"), scale = c.reals("scale");
  if (!offset.empty()) x = wiring::sub(c.b, x, per_feature(c, x, offset));
  if (!scale.empty()) x = wiring::mul(c.b, x, per_feature(c, x, scale));
  c.out(0, cast(c.b, x, DType::f32));
}

void import_normalizer(NodeContext& c) {
  const ValueId x = as_floats(c);
  const size_t rank = rank_of(c, 0, 1);
  if (rank > 2) c.fail(fmt::format("the operand has rank {}, it must be 1 or 2", rank));
  const std::string norm = c.string("norm", "MAX");
  const std::vector<int64_t> axes = {static_cast<int64_t>(rank) - 1};
  ValueId by = no_id;
  if (norm == "MAX")
    by = wiring::reduce(c.b, "Max", x, axes);
  else if (norm == "L1")
    by = wiring::reduce(c.b, "Sum", c.b.op("Abs", {x}), axes);
  else if (norm == "L2")
    by = c.b.op("Sqrt", {wiring::reduce(c.b, "Sum", wiring::mul(c.b, x, x), axes)});
  else
    c.fail(fmt::format("norm '{}' is none of MAX, L1, L2", norm));
  // Rows that would be divided by 0 stay as they are.
  const ValueId zero = c.b.op("Equal", {by, like(c.b, x, 0)});
  c.out(0, cast(c.b, wiring::div(c.b, x, wiring::where(c.b, zero, like(c.b, x, 1), by)), DType::f32));
}

void import_imputer(NodeContext& c) {
  const ValueId x = c.in(0);
  const DType dtype = c.b.dtype(x);
  const std::vector<double> reals = c.reals("imputed_value_floats");
  const std::vector<int64_t> integers = c.integers("imputed_value_int64s");
  if (reals.empty() && integers.empty()) c.fail("there are no imputed values");
  const size_t count = reals.empty() ? integers.size() : reals.size();
  Tensor values(dtype, count == 1 ? Dims{} : Dims{static_cast<int64_t>(count)});
  for (size_t i = 0; i < count; ++i) {
    const auto at = static_cast<int64_t>(i);
    reals.empty() ? values.set_integer(at, integers[i]) : values.set_real(at, reals[i]);
  }
  if (is_float(dtype) && reals.empty())
    for (size_t i = 0; i < count; ++i) values.set_real(static_cast<int64_t>(i), static_cast<double>(integers[i]));
  ValueId missing = no_id;
  if (is_float(dtype)) {
    const double replaced =
        reals.empty() ? static_cast<double>(c.integer("replaced_value_int64", 0)) : c.real("replaced_value_float", 0);
    missing = replaced == replaced ? c.b.op("Equal", {x, like(c.b, x, replaced)}) : c.b.op("IsNaN", {x});
  } else {
    Tensor replaced(dtype, {});
    reals.empty() ? replaced.set_integer(0, c.integer("replaced_value_int64", 0))
                  : replaced.set_real(0, c.real("replaced_value_float", 0));
    missing = c.b.op("Equal", {x, c.b.constant(std::move(replaced))});
  }
  c.out(0, wiring::where(c.b, missing, c.b.constant(std::move(values)), x));
}

void import_feature_vectorizer(NodeContext& c) {
  const std::vector<int64_t> widths = c.integers("inputdimensions");
  if (c.inputs() == 0) c.fail("it needs at least one operand");
  if (!widths.empty() && widths.size() != c.inputs())
    c.fail(fmt::format("{} widths for {} operands", widths.size(), c.inputs()));
  Ids parts;
  for (size_t i = 0; i < c.inputs(); ++i) {
    ValueId x = cast(c.b, c.in(i), DType::f32);
    const size_t rank = rank_of(c, i, 1);
    if (rank > 2) c.fail(fmt::format("operand {} has rank {}, it must be 1 or 2", i, rank));
    if (rank == 1) x = wiring::unsqueeze(c.b, x, {1});
    if (!widths.empty()) {
      const int64_t wanted = widths[i];
      if (wanted < 0 || wanted > (int64_t{1} << 30)) c.fail(fmt::format("a width of {}", wanted));
      const auto has = c.b.shape(x)[1].as_constant();
      if (!has || *has > wanted) x = wiring::slice(c.b, x, 1, 0, wanted);
      if (!has || *has < wanted)
        x = c.b.op(
            "Pad",
            {x,
             c.b.op("Concat", {c.b.integers({0}), wiring::sub(c.b, c.b.integers({wanted}),
                                                              wiring::reshape(c.b, wiring::extent(c.b, x, 1), {1}))}),
             no_id, c.b.integers({1})});
    }
    parts.push_back(x);
  }
  c.out(0, wiring::concat(c.b, std::move(parts), 1));
}

constexpr std::string_view ml = "ai.onnx.ml";

constexpr Entry table[] = {
    {"ArrayFeatureExtractor", 1, import_extractor, ml},
    {"Binarizer", 1, import_binarizer, ml},
    {"CastMap", 1, import_cast_map, ml},
    {"CategoryMapper", 1, import_category_mapper, ml},
    {"DictVectorizer", 1, import_dict_vectorizer, ml},
    {"FeatureVectorizer", 1, import_feature_vectorizer, ml},
    {"Imputer", 1, import_imputer, ml},
    {"LabelEncoder", 1, import_label_encoder_1, ml},
    {"LabelEncoder", 2, import_label_encoder, ml},
    {"LinearClassifier", 1, import_linear_classifier, ml},
    {"LinearRegressor", 1, import_linear_regressor, ml},
    {"Normalizer", 1, import_normalizer, ml},
    {"OneHotEncoder", 1, import_one_hot, ml},
    {"SVMClassifier", 1, import_svm_classifier, ml},
    {"SVMRegressor", 1, import_svm_regressor, ml},
    {"Scaler", 1, import_scaler, ml},
    {"TreeEnsemble", 5, import_tree_ensemble, ml},
    {"TreeEnsembleClassifier", 1, import_tree_classifier, ml},
    {"TreeEnsembleRegressor", 1, import_tree_regressor, ml},
    {"ZipMap", 1, import_zip_map, ml},
};

}  // namespace

std::span<const Entry> ml_entries() { return table; }

}  // namespace sinter::onnx
