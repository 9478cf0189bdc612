// StringConcat, StringSplit, StringNormalizer, RegexFullMatch, TfIdfVectorizer.

#include "ops/strings.h"

#include <fmt/core.h>

#include <algorithm>
#include <map>
#include <unordered_set>

#include "base/checked.h"
#include "ops/elements.h"
#include "ops/families.h"
#include "ops/op.h"
#include "ops/regex.h"
#include "ops/utf8.h"

namespace sinter {

std::span<const char* const> enum_names(CaseChange) {
  static constexpr const char* names[] = {"none", "lower", "upper"};
  return names;
}

std::span<const char* const> enum_names(TfIdfMode) {
  static constexpr const char* names[] = {"tf", "idf", "tfidf"};
  return names;
}

const Fields& fields_of(const StringSplitAttrs*) {
  static const Fields f = describe<StringSplitAttrs>({field<&StringSplitAttrs::delimiter>("delimiter"),
                                                      field<&StringSplitAttrs::max_splits>("max_splits"),
                                                      field<&StringSplitAttrs::limited>("limited")});
  return f;
}

const Fields& fields_of(const StringNormalizerAttrs*) {
  static const Fields f = describe<StringNormalizerAttrs>(
      {field<&StringNormalizerAttrs::change>("change"), field<&StringNormalizerAttrs::case_sensitive>("case_sensitive"),
       field<&StringNormalizerAttrs::stop_words>("stop_words")});
  return f;
}

const Fields& fields_of(const RegexFullMatchAttrs*) {
  static const Fields f = describe<RegexFullMatchAttrs>({field<&RegexFullMatchAttrs::pattern>("pattern")});
  return f;
}

const Fields& fields_of(const TfIdfAttrs*) {
  static const Fields f =
      describe<TfIdfAttrs>({field<&TfIdfAttrs::mode>("mode"), field<&TfIdfAttrs::min_length>("min_length"),
                            field<&TfIdfAttrs::max_length>("max_length"), field<&TfIdfAttrs::max_skip>("max_skip"),
                            field<&TfIdfAttrs::counts>("counts"), field<&TfIdfAttrs::columns>("columns"),
                            field<&TfIdfAttrs::integers>("integers"), field<&TfIdfAttrs::strings>("strings"),
                            field<&TfIdfAttrs::weights>("weights")});
  return f;
}

namespace {

void check_strings(InferContext& c, size_t input) {
  if (c.dtype(input) != DType::string)
    c.fail(fmt::format("operand {} is {}, strings are needed", input, dtype_name(c.dtype(input))));
}

// ---- StringConcat ----

void infer_concat(InferContext& c) {
  c.set(0, DType::string);
  check_strings(c, 0);
  check_strings(c, 1);
  c.set(0, DType::string, c.broadcast(c.shape(0), c.shape(1)));
}

void eval_concat(EvalContext& c) {
  Tensor& out = c.out(0);
  const Dims& dims = out.dims();
  const auto source = [&](const Tensor& x, int64_t i) {
    int64_t at = 0, stride = 1;
    for (size_t k = 0; k < x.rank(); ++k) {
      const int64_t extent = x.dims()[x.rank() - 1 - k], whole = dims[dims.size() - 1 - k];
      if (extent != 1) at += i % whole * stride;
      stride *= extent;
      i /= whole;
    }
    return static_cast<size_t>(at);
  };
  for (int64_t i = 0; i < out.count(); ++i)
    out.strings()[static_cast<size_t>(i)] =
        c.in(0).strings()[source(c.in(0), i)] + c.in(1).strings()[source(c.in(1), i)];
}

// ---- StringSplit ----

void infer_split(InferContext& c) {
  c.set(0, DType::string);
  c.set(1, DType::i64);
  check_strings(c, 0);
  const auto& a = c.attrs<StringSplitAttrs>();
  if (a.limited && a.max_splits < 0) c.fail(fmt::format("at most {} splits", a.max_splits));
  Shape shape = c.shape(0);
  c.set(1, DType::i64, shape);
  shape.push_back(c.found_by_running(0, shape.size(), 0, std::nullopt));
  c.set(0, DType::string, std::move(shape));
}

constexpr std::string_view white_space = " \t\n\v\f\r";

std::vector<std::string_view> parts_of(std::string_view text, const StringSplitAttrs& a) {
  std::vector<std::string_view> out;
  const int64_t most = a.limited ? a.max_splits : INT64_MAX;
  if (a.delimiter.empty()) {
    while (true) {
      text.remove_prefix(std::min(text.find_first_not_of(white_space), text.size()));
      if (text.empty()) return out;
      if (static_cast<int64_t>(out.size()) == most) break;
      const size_t end = std::min(text.find_first_of(white_space), text.size());
      out.push_back(text.substr(0, end));
      text.remove_prefix(end);
    }
    text.remove_suffix(text.size() - 1 - text.find_last_not_of(white_space));
    out.push_back(text);
    return out;
  }
  if (text.empty()) return {text};
  while (static_cast<int64_t>(out.size()) < most) {
    const size_t end = text.find(a.delimiter);
    if (end == std::string_view::npos) break;
    out.push_back(text.substr(0, end));
    text.remove_prefix(end + a.delimiter.size());
  }
  out.push_back(text);
  return out;
}

void eval_split(EvalContext& c) {
  const auto& a = c.attrs<StringSplitAttrs>();
  const Tensor& x = c.in(0);
  Tensor& counts = c.out(1, DType::i64, x.dims());
  size_t width = 0;
  for (int64_t i = 0; i < x.count(); ++i) {
    const size_t n = parts_of(x.strings()[static_cast<size_t>(i)], a).size();
    counts.set_integer(i, static_cast<int64_t>(n));
    width = std::max(width, n);
  }
  Dims dims = x.dims();
  dims.push_back(static_cast<int64_t>(width));
  Tensor& out = c.out(0, DType::string, std::move(dims));
  for (size_t i = 0; i < x.strings().size(); ++i) {
    const std::vector<std::string_view> parts = parts_of(x.strings()[i], a);
    for (size_t k = 0; k < parts.size(); ++k) out.strings()[i * width + k] = parts[k];
  }
}

// ---- StringNormalizer ----

void infer_normalizer(InferContext& c) {
  c.set(0, DType::string);
  check_strings(c, 0);
  Shape shape = c.shape(0);
  if (shape.empty() || shape.size() > 2)
    c.fail(fmt::format("the operand has rank {}, it must be 1 or 2", shape.size()));
  if (shape.size() == 2) c.require_equal(shape[0], 1, "rows of a StringNormalizer's operand");
  shape.back() = c.found_by_running(0, shape.size() - 1, 1, max(shape.back(), 1));
  c.set(0, DType::string, std::move(shape));
}

void eval_normalizer(EvalContext& c) {
  const auto& a = c.attrs<StringNormalizerAttrs>();
  const Tensor& x = c.in(0);
  if (x.rank() == 2 && x.dims()[0] != 1) c.fail(fmt::format("{} rows, there must be one", x.dims()[0]));
  std::unordered_set<std::string> stop;
  for (const std::string& word : a.stop_words) stop.insert(a.case_sensitive ? word : to_lower(word));
  std::vector<std::string> kept;
  for (const std::string& word : x.strings()) {
    if (stop.count(a.case_sensitive ? word : to_lower(word))) continue;
    kept.push_back(a.change == CaseChange::lower   ? to_lower(word)
                   : a.change == CaseChange::upper ? to_upper(word)
                                                   : word);
  }
  if (kept.empty()) kept.emplace_back();
  Dims dims = x.dims();
  dims.back() = static_cast<int64_t>(kept.size());
  Tensor& out = c.out(0, DType::string, std::move(dims));
  std::move(kept.begin(), kept.end(), out.strings().begin());
}

// ---- RegexFullMatch ----

void infer_regex(InferContext& c) {
  c.set(0, DType::boolean);
  check_strings(c, 0);
  const Regex compiles(c.attrs<RegexFullMatchAttrs>().pattern);
  c.set(0, DType::boolean, c.shape(0));
}

void eval_regex(EvalContext& c) {
  const Regex regex(c.attrs<RegexFullMatchAttrs>().pattern);
  Tensor& out = c.out(0);
  for (int64_t i = 0; i < out.count(); ++i)
    out.set_integer(i, regex.matches(c.in(0).strings()[static_cast<size_t>(i)]));
}

// ---- TfIdfVectorizer ----

constexpr int64_t max_columns = int64_t{1} << 26;

void infer_tfidf(InferContext& c) {
  c.set(0, DType::f32);
  const auto& a = c.attrs<TfIdfAttrs>();
  const DType dtype = c.dtype(0);
  const bool strings = dtype == DType::string;
  if (!strings && dtype != DType::i32 && dtype != DType::i64)
    c.fail(fmt::format("the operand is {}, it must be string, i32 or i64", dtype_name(dtype)));
  if (strings ? a.strings.empty() && !a.integers.empty() : a.integers.empty() && !a.strings.empty())
    c.fail(fmt::format("the pool does not hold what the operand does ({})", dtype_name(dtype)));
  if (a.min_length < 1 || a.max_length < a.min_length || a.max_skip < 0)
    c.fail(fmt::format("n-grams of length {} to {} with up to {} left out", a.min_length, a.max_length, a.max_skip));
  const auto pool = static_cast<int64_t>(strings ? a.strings.size() : a.integers.size());
  int64_t grams = 0;
  for (size_t k = 0; k < a.counts.size(); ++k) {
    const int64_t end = k + 1 < a.counts.size() ? a.counts[k + 1] : pool, length = static_cast<int64_t>(k) + 1;
    if (a.counts[k] < 0 || a.counts[k] > end || end > pool)
      c.fail(fmt::format("n-grams of length {} from {} to {} of a pool of {}", length, a.counts[k], end, pool));
    if ((end - a.counts[k]) % length != 0)
      c.fail(fmt::format("{} elements are no whole number of n-grams of length {}", end - a.counts[k], length));
    grams += (end - a.counts[k]) / length;
  }
  if (static_cast<int64_t>(a.columns.size()) < grams || a.columns.empty())
    c.fail(fmt::format("{} columns for {} n-grams", a.columns.size(), grams));
  for (const int64_t column : a.columns)
    if (column < 0 || column >= max_columns) c.fail(fmt::format("column {}", column));
  const int64_t columns = *std::max_element(a.columns.begin(), a.columns.end()) + 1;
  if (!a.weights.empty() && static_cast<int64_t>(a.weights.size()) < grams)
    c.fail(fmt::format("{} weights for {} n-grams", a.weights.size(), grams));
  const Shape& x = c.shape(0);
  if (x.size() > 2) c.fail(fmt::format("the operand has rank {}, at most 2", x.size()));
  c.set(0, DType::f32, x.size() == 2 ? Shape{x[0], Dim(columns)} : Shape{Dim(columns)});
}

// N-grams as a tree of maps in one array; node 0 is the root.
template <typename Key>
struct Grams {
  struct Node {
    std::map<Key, size_t> next;
    int64_t id = -1;  // of the n-gram that ends here
  };
  std::vector<Node> nodes = std::vector<Node>(1);

  void add(std::span<const Key> keys, int64_t id) {
    size_t at = 0;
    for (const Key& key : keys) {
      const auto [found, fresh] = nodes[at].next.try_emplace(key, nodes.size());
      at = found->second;
      if (fresh) nodes.emplace_back();
    }
    nodes[at].id = id;
  }
};

template <typename Key, typename Get>
void count_grams(const TfIdfAttrs& a, std::span<const Key> pool, int64_t rows, int64_t length, const Get& get,
                 Tensor& out) {
  Grams<Key> grams;
  int64_t id = 0;
  for (size_t k = 0; k < a.counts.size(); ++k) {
    const auto end = k + 1 < a.counts.size() ? static_cast<size_t>(a.counts[k + 1]) : pool.size();
    const bool wanted = static_cast<int64_t>(k) + 1 >= a.min_length && static_cast<int64_t>(k) + 1 <= a.max_length;
    for (auto at = static_cast<size_t>(a.counts[k]); at < end; at += k + 1, ++id)
      if (wanted) grams.add(pool.subspan(at, k + 1), id);
  }
  const int64_t columns = out.dims().back();
  std::vector<double> weights(static_cast<size_t>(columns), 1.0);
  for (size_t i = 0; i < a.columns.size() && i < a.weights.size(); ++i)
    weights[static_cast<size_t>(a.columns[i])] = a.weights[i];
  // More left out than there are elements finds nothing longer than one.
  const int64_t most = std::min(a.max_skip, length) + 1;
  std::vector<int64_t> found(static_cast<size_t>(columns));
  for (int64_t row = 0; row < rows; ++row) {
    std::fill(found.begin(), found.end(), 0);
    for (int64_t distance = 1; distance <= most; ++distance)
      for (int64_t start = 0; start < length; ++start) {
        size_t node = 0;
        int64_t n = 1;
        for (int64_t i = start; i < length && n <= a.max_length; i += distance, ++n) {
          const auto& next = grams.nodes[node].next;
          const auto hit = next.find(get(row * length + i));
          if (hit == next.end()) break;
          node = hit->second;
          // Single elements are the same at every distance and count once.
          const int64_t gram = grams.nodes[node].id;
          if (gram >= 0 && (n > 1 || distance == 1)) ++found[static_cast<size_t>(a.columns[static_cast<size_t>(gram)])];
        }
      }
    for (int64_t k = 0; k < columns; ++k) {
      const auto count = static_cast<double>(found[static_cast<size_t>(k)]);
      const double weight = weights[static_cast<size_t>(k)];
      const double value = a.mode == TfIdfMode::tf    ? count
                           : a.mode == TfIdfMode::idf ? (count > 0 ? weight : 0)
                                                      : count * weight;
      out.set_real(row * columns + k, value);
    }
  }
}

void eval_tfidf(EvalContext& c) {
  const auto& a = c.attrs<TfIdfAttrs>();
  const Tensor& x = c.in(0);
  Tensor& out = c.out(0);
  const int64_t rows = x.rank() == 2 ? x.dims()[0] : 1, length = x.rank() == 0 ? 1 : x.dims().back();
  if (x.dtype() == DType::string)
    count_grams<std::string>(
        a, a.strings, rows, length,
        [&](int64_t i) -> const std::string& { return x.strings()[static_cast<size_t>(i)]; }, out);
  else
    count_grams<int64_t>(
        a, a.integers, rows, length, [&](int64_t i) { return x.get_integer(i); }, out);
}

constexpr Op table[] = {
    {.name = "StringConcat", .inputs = {2, 2}, .infer = infer_concat, .eval = eval_concat},
    {.name = "StringSplit",
     .fields = fields<StringSplitAttrs>,
     .outputs = {2, 2},
     .infer = infer_split,
     .eval = eval_split},
    {.name = "StringNormalizer",
     .fields = fields<StringNormalizerAttrs>,
     .infer = infer_normalizer,
     .eval = eval_normalizer},
    {.name = "RegexFullMatch", .fields = fields<RegexFullMatchAttrs>, .infer = infer_regex, .eval = eval_regex},
    {.name = "TfIdfVectorizer", .fields = fields<TfIdfAttrs>, .infer = infer_tfidf, .eval = eval_tfidf},
};

}  // namespace

std::span<const Op> string_ops() { return table; }

}  // namespace sinter
